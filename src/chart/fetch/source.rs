//! What stands for a chart: a path, a registry, a URL, a name in a repository.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use super::FetchError;
use super::http::shown;
use crate::chart::metadata::Dependency;

/// Where a chart is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChartSource {
    /// A folder or archive on this machine.
    Path(PathBuf),
    /// In an OCI registry.
    Oci {
        /// `HOST/PATH` without version.
        repository: String,
        /// A version, a constraint, `sha256:…`, or empty for the latest.
        version: String,
    },
    /// An archive on a web server.
    Url(Url),
    /// A name in the `index.yaml` of a chart repository.
    Repo {
        /// Where `index.yaml` is.
        url: Url,
        /// The chart.
        name: String,
        /// A version or constraint, empty for the latest.
        version: String,
    },
}

impl ChartSource {
    /// Reads what a user gave: with `repo`, `given` is a name in it; else it is `oci://…[:version|@digest]`,
    /// `https://….tgz` or a path.
    ///
    /// # Errors
    /// [`FetchError::Reference`] with what to write instead.
    pub fn parse(given: &str, repo: Option<&str>, version: &str) -> Result<Self, FetchError> {
        let wrong = |reason: String| FetchError::Reference { given: given.to_owned(), reason };
        let version = version.trim();
        if let Some(repo) = repo {
            if let Some(rest) = repo.strip_prefix("oci://") {
                let reason = format!("--repo takes https:// repositories; write oci://{rest}/{given}");
                return Err(wrong(reason));
            }
            let url =
                web(repo).ok_or_else(|| wrong(format!("--repo {repo:?} is not http:// or https://")))?;
            return Ok(Self::Repo { url, name: given.to_owned(), version: version.to_owned() });
        }
        if let Some(rest) = given.strip_prefix("oci://") {
            let (path, inner) = match rest.split_once('@') {
                Some((path, digest)) => (path, Some(digest)),
                None => match rest.rsplit_once(':') {
                    Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
                    _ => (rest, None),
                },
            };
            if let Some(inner) = inner.filter(|i| !version.is_empty() && *i != version) {
                return Err(wrong(format!(
                    "it says {inner} and --version says {version}; leave one of them out"
                )));
            }
            if !path.contains('/') {
                return Err(wrong("write oci://HOST/PATH/CHART:VERSION".into()));
            }
            let version = inner.unwrap_or(version).to_owned();
            return Ok(Self::Oci { repository: path.to_owned(), version });
        }
        if given.starts_with("http://") || given.starts_with("https://") {
            return web(given).map(Self::Url).ok_or_else(|| wrong("it is no URL".into()));
        }
        Ok(Self::Path(given.into()))
    }

    /// Host of what has to be reached; empty for a path.
    pub fn host(&self) -> String {
        let of = |url: &Url| match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        match self {
            Self::Path(_) => String::new(),
            Self::Oci { repository, .. } => repository.split('/').next().unwrap_or_default().to_owned(),
            Self::Url(url) | Self::Repo { url, .. } => of(url),
        }
    }

    /// Where it has to be asked for, without a login.
    pub fn place(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Oci { repository, .. } => format!("oci://{repository}"),
            Self::Url(url) | Self::Repo { url, .. } => shown(url),
        }
    }
}

impl fmt::Display for ChartSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Oci { repository, version } if version.is_empty() => write!(f, "oci://{repository}"),
            Self::Oci { repository, version } if version.starts_with("sha256:") => {
                write!(f, "oci://{repository}@{version}")
            }
            Self::Oci { repository, version } => write!(f, "oci://{repository}:{version}"),
            Self::Url(url) => f.write_str(&shown(url)),
            Self::Repo { url, name, version } if version.is_empty() => write!(f, "{name} of {}", shown(url)),
            Self::Repo { url, name, version } => write!(f, "{name} {version} of {}", shown(url)),
        }
    }
}

fn web(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some())
}

/// `index.yaml` below a repository's address, which keeps its query.
pub(super) fn index_url(home: &Url) -> Url {
    let mut url = home.clone();
    let path = format!("{}/index.yaml", home.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// An archive's address in an index may be relative to the index.
pub(super) fn archive_url(home: &Url, given: &str) -> Result<Url, String> {
    let mut base = home.clone();
    if !base.path().ends_with('/') {
        let path = format!("{}/", base.path());
        base.set_path(&path);
    }
    let mut url = base.join(given).map_err(|_| format!("{given:?} is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{given:?} is not http:// or https://"));
    }
    // Repositories behind a token in the query want it for archives too.
    if url.query().is_none() && !given.contains("://") {
        url.set_query(home.query());
    }
    Ok(url)
}

/// Where a dependency comes from.
pub(super) fn of_dependency(dep: &Dependency, version: &str) -> Result<ChartSource, FetchError> {
    let repository = dep.repository.trim_end_matches('/');
    let wrong =
        |reason: &str| FetchError::Reference { given: dep.repository.clone(), reason: reason.to_owned() };
    if repository.is_empty() {
        return Err(wrong("it has no repository, so it has to be in charts/"));
    }
    if repository.starts_with('@') || repository.starts_with("alias:") {
        return Err(wrong(
            "names of `helm repo add` are not known to omk; write the URL, or run helm dependency build",
        ));
    }
    if let Some(rest) = repository.strip_prefix("oci://") {
        let repository = format!("{rest}/{}", dep.name);
        return Ok(ChartSource::Oci { repository, version: version.to_owned() });
    }
    let url = web(&dep.repository).ok_or_else(|| wrong("it is not http://, https://, oci:// or file://"))?;
    Ok(ChartSource::Repo { url, name: dep.name.clone(), version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_read() {
        let oci = |given: &str, version: &str| match ChartSource::parse(given, None, version).unwrap() {
            ChartSource::Oci { repository, version } => (repository, version),
            other => panic!("{other:?}"),
        };
        assert_eq!(oci("oci://r.io:5000/a/web:1.2.3", ""), ("r.io:5000/a/web".into(), "1.2.3".into()));
        assert_eq!(oci("oci://r.io:5000/a/web", "^1"), ("r.io:5000/a/web".into(), "^1".into()));
        assert_eq!(oci("oci://r.io/web@sha256:00", "").1, "sha256:00");
        assert!(ChartSource::parse("oci://r.io/web:1.0.0", None, "2.0.0").is_err());
        assert!(ChartSource::parse("oci://web", None, "").is_err());
        assert_eq!(ChartSource::parse("./web", None, "").unwrap(), ChartSource::Path("./web".into()));
        let repo = ChartSource::parse("web", Some("https://c.example.com/x"), "1.x").unwrap();
        assert_eq!(repo.to_string(), "web 1.x of https://c.example.com/x");
        assert!(ChartSource::parse("web", Some("oci://c.example.com"), "").is_err());
        assert!(ChartSource::parse("web", Some("/tmp"), "").is_err());
    }

    #[test]
    fn archives_are_beside_the_index_or_elsewhere() {
        let home = Url::parse("https://c.example.com/stable?key=1").unwrap();
        assert_eq!(index_url(&home).as_str(), "https://c.example.com/stable/index.yaml?key=1");
        let at = |given: &str| archive_url(&home, given).map(|u| u.to_string());
        assert_eq!(at("web-1.tgz").unwrap(), "https://c.example.com/stable/web-1.tgz?key=1");
        assert_eq!(at("https://o.example.com/w.tgz").unwrap(), "https://o.example.com/w.tgz");
        assert!(at("file:///etc/passwd").is_err());
    }
}

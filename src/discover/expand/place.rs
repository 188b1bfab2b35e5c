//! Where charts and repositories are on this machine: folders that were given for them, and the tree that an input
//! lies in.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::super::SourceName;
use super::Scope;
use crate::chart;
use crate::chart::fetch::ChartSource;
use crate::template::{semver_order, semver_satisfies};

/// Bytes of `.git/config` that are looked at.
const MAX_GIT_CONFIG: u64 = 1 << 20;
/// Entries of a folder of packed charts.
const MAX_ENTRIES: usize = 100_000;

/// What stands for remote places.
pub(super) struct Places {
    given: Vec<(String, PathBuf)>,
    /// Real paths of the folders that the user named.
    roots: Vec<PathBuf>,
}

/// A work tree that holds what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its top.
    pub(super) root: PathBuf,
    /// The folder or file in it.
    pub(super) path: PathBuf,
    /// Nothing proves that it is the tree that is meant, other than that it has the path.
    pub(super) assumed: bool,
}

impl Places {
    pub(super) fn new(inputs: &[PathBuf], scope: &Scope) -> Self {
        let given = scope.source_paths.iter().map(|(k, path)| (normal(k), path.clone())).collect::<Vec<_>>();
        let folders = inputs.iter().chain(given.iter().map(|(_, path)| path));
        let roots = folders.filter(|p| p.is_dir()).filter_map(|p| fs::canonicalize(p).ok()).collect();
        Self { given, roots }
    }

    /// The folder that was given for one of `keys`.
    pub(super) fn given(&self, keys: &[String]) -> Option<&Path> {
        let keys: Vec<String> = keys.iter().map(|k| normal(k)).collect();
        self.given.iter().find(|(k, _)| keys.contains(k)).map(|(_, path)| path.as_path())
    }

    /// `path` in the repository with these names and the address `url`: in the folder given for it, else in the work
    /// tree that `from` lies in.
    ///
    /// # Errors
    /// Why it is not there.
    pub(super) fn tree(
        &self,
        keys: &[String],
        url: &str,
        path: &str,
        from: &SourceName,
    ) -> Result<Found, String> {
        if let Some(root) = self.given(keys) {
            let path = below(root, path)?;
            return Ok(Found { root: root.into(), path, assumed: false });
        }
        let missing = || format!("{url} is not on this machine and is not fetched");
        let root = self.root_of(from).ok_or_else(missing)?;
        let remotes = remotes(&root);
        let same = remotes.iter().any(|r| normal(r) == normal(url));
        if !same && !remotes.is_empty() {
            return Err(missing());
        }
        let path = below(&root, path).map_err(|_| missing())?;
        Ok(Found { root, path, assumed: !same })
    }

    /// The top of the work tree that a file lies in; without one, the folder that the user named.
    fn root_of(&self, source: &SourceName) -> Option<PathBuf> {
        let (SourceName::File { path }
        | SourceName::Kustomization { path, .. }
        | SourceName::Chart { path, .. }) = source.inner()
        else {
            return None;
        };
        let real = fs::canonicalize(path).ok()?;
        let git = real.ancestors().skip(1).find(|a| a.join(".git").exists());
        // The shortest: a folder and one below it may both have been named.
        let named = || self.roots.iter().filter(|r| real.starts_with(r)).min_by_key(|r| r.as_os_str().len());
        git.map(Path::to_path_buf).or_else(|| named().cloned())
    }

    /// The folder or archive of a chart in the folder that was given for one of `keys`; none where none was given.
    ///
    /// # Errors
    /// If one was given and does not hold the chart.
    pub(super) fn chart(&self, wanted: &ChartSource, keys: &[String]) -> Result<Option<PathBuf>, String> {
        let (name, version) = match wanted {
            ChartSource::Path(_) => return Ok(None),
            ChartSource::Oci { repository, version } => (last(repository), version.as_str()),
            ChartSource::Repo { name, version, .. } => (name.as_str(), version.as_str()),
            ChartSource::Url(url) => (last(url.path()), ""),
        };
        let Some(folder) = self.given(keys) else { return Ok(None) };
        if folder.is_file() {
            return Ok(Some(folder.into()));
        }
        let Some(found) = chart_in(folder, name, version) else {
            let version = if version.is_empty() { String::new() } else { format!(" {version}") };
            return Err(format!("there is no chart {name}{version} in {}", folder.display()));
        };
        Ok(Some(found))
    }
}

/// A chart by name and version: unpacked, or packed as `helm pull` names it. Folders may bear the version too.
fn chart_in(folder: &Path, name: &str, version: &str) -> Option<PathBuf> {
    let simple =
        |n: &str| Path::new(n).components().all(|c| matches!(c, Component::Normal(_))) && !n.is_empty();
    if !simple(name) {
        return None;
    }
    let fits = |found: &str| version.is_empty() || found == version || semver_satisfies(version, found);
    let exact = folder.join(name);
    if exact.is_file() {
        return Some(exact);
    }
    for place in [exact.join(name), exact, folder.to_owned()] {
        let Ok(text) = fs::read_to_string(place.join("Chart.yaml")) else { continue };
        let node = crate::yaml::parse_one(&text, &crate::yaml::Limits::default()).ok()?;
        let get = |key| node.get(key).and_then(crate::yaml::Node::as_str).unwrap_or_default();
        if get("name") == name && fits(get("version")) {
            return Some(place);
        }
    }
    let prefix = format!("{name}-");
    let mut best: Option<(String, PathBuf)> = None;
    for entry in fs::read_dir(folder).ok()?.take(MAX_ENTRIES).flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = file.strip_prefix(&prefix) else { continue };
        let found = match rest.strip_suffix(".tgz") {
            Some(version) => version,
            None if entry.path().join("Chart.yaml").is_file() => rest,
            None => continue,
        };
        if !fits(found) || semver_order(found, found).is_none() {
            continue;
        }
        let better =
            best.as_ref().is_none_or(|(b, _)| semver_order(found, b).is_some_and(std::cmp::Ordering::is_gt));
        if better {
            best = Some((found.to_owned(), entry.path()));
        }
    }
    best.map(|(_, path)| path)
}

fn last(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// `path` below `root`, which it must not leave, not by links either.
///
/// # Errors
/// If it leaves, or is not there.
pub(super) fn below(root: &Path, path: &str) -> Result<PathBuf, String> {
    let relative = path.trim_start_matches('/');
    if Path::new(relative).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("{path:?} leaves the repository"));
    }
    let joined = root.join(relative);
    let there = |p: &Path| fs::canonicalize(p).map_err(|e| format!("{}: {e}", p.display()));
    if !there(&joined)?.starts_with(there(root)?) {
        return Err(format!("{path:?} leaves the repository by a link"));
    }
    // Without `.` parts, which people would have to read.
    Ok(joined.components().filter(|c| !matches!(c, Component::CurDir)).collect())
}

/// Whether a path is there and lies below `root`, links followed.
pub(super) fn within(root: &Path, path: &Path) -> bool {
    let real = |p: &Path| fs::canonicalize(p).ok();
    matches!((real(root), real(path)), (Some(root), Some(path)) if path.starts_with(&root))
}

/// The addresses of a work tree's remotes.
fn remotes(root: &Path) -> Vec<String> {
    let Ok(file) = fs::File::open(root.join(".git/config")) else { return Vec::new() };
    let mut text = String::new();
    if file.take(MAX_GIT_CONFIG).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    let url =
        |line: &str| Some(line.trim().strip_prefix("url")?.trim_start().strip_prefix('=')?.trim().to_owned());
    text.lines().filter_map(url).collect()
}

/// An address as all its spellings have it: `git@host:org/repo.git` and `https://host/org/repo` are one place.
pub(super) fn normal(address: &str) -> String {
    let address = address.trim();
    let (scheme, rest) = match address.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, address),
    };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let start = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    let mut text = rest[start..].to_owned();
    // `host:path` of scp, which has no scheme.
    if !scheme && start > 0 {
        text = text.replacen(':', "/", 1);
    }
    let text = text.trim_end_matches('/');
    let text = text.strip_suffix(".git").unwrap_or(text);
    match text.split_once('/') {
        Some((host, path)) if host.contains('.') => format!("{}/{path}", host.to_ascii_lowercase()),
        _ => text.to_owned(),
    }
}

/// The command that brings a chart, and how to go on with it.
pub(super) fn pull(wanted: &ChartSource, keys: &[String]) -> Option<String> {
    let version = |v: &str| if v.is_empty() { String::new() } else { format!(" --version {}", word(v)) };
    let chart = match wanted {
        ChartSource::Path(_) => return None,
        ChartSource::Oci { repository, version: v } if v.starts_with("sha256:") => {
            format!("{}@{v}", word(&format!("oci://{repository}")))
        }
        ChartSource::Oci { repository, version: v } => {
            format!("{}{}", word(&format!("oci://{repository}")), version(v))
        }
        ChartSource::Url(_) => word(&wanted.to_string()),
        ChartSource::Repo { name, version: v, .. } => {
            format!("{} --repo {}{}", word(name), word(&wanted.place()), version(v))
        }
    };
    let key = keys.first().filter(|k| !k.is_empty())?;
    Some(format!(
        "where it can be reached: helm pull {chart} -d charts; then here: --source-path {}",
        word(&format!("{key}=charts"))
    ))
}

/// A word of a command line: what a foreign document says must not do anything in a shell it is pasted into.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@=+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Whether a folder is a chart's.
pub(super) fn is_chart(path: &Path) -> bool {
    path.join("Chart.yaml").is_file()
}

/// Reads a file of values.
///
/// # Errors
/// If it cannot be read or is too large.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(chart::MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > chart::MAX_FILE_BYTES {
        return Err(format!("{} is larger than {} bytes", path.display(), chart::MAX_FILE_BYTES));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_by_what_they_mean() {
        for same in [
            "https://github.com/Org/repo",
            "https://GitHub.com/Org/repo.git/",
            "ssh://git@github.com/Org/repo.git",
            "git@github.com:Org/repo.git",
        ] {
            assert_eq!(normal(same), "github.com/Org/repo", "{same}");
        }
        assert_eq!(normal("shop/apps"), "shop/apps");
        assert_eq!(normal("oci://ghcr.io/org/app"), "ghcr.io/org/app");
        assert_eq!(normal("https://h.example:8443/x"), "h.example:8443/x");
    }

    #[test]
    fn paths_stay_below_their_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/apps")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("root/out")).unwrap();
        let root = dir.path().join("root");
        assert_eq!(below(&root, "./apps/").unwrap(), root.join("apps"));
        assert_eq!(below(&root, "/apps").unwrap(), root.join("apps"));
        for bad in ["../root/apps", "apps/../../x", "out", "none"] {
            assert!(below(&root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn charts_are_found_by_name_and_version() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["web-1.2.0.tgz", "web-1.10.0.tgz", "web-2.0.0.tgz", "web-app-9.0.0.tgz"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = |version: &str| {
            chart_in(dir.path(), "web", version)
                .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
        };
        assert_eq!(found("1.2.0").as_deref(), Some("web-1.2.0.tgz"));
        assert_eq!(found("1.x").as_deref(), Some("web-1.10.0.tgz"));
        assert_eq!(found("").as_deref(), Some("web-2.0.0.tgz"));
        fs::create_dir(dir.path().join("web-3.1.0")).unwrap();
        assert_eq!(found("3.x"), None);
        fs::write(dir.path().join("web-3.1.0/Chart.yaml"), "").unwrap();
        assert_eq!(found("3.x").as_deref(), Some("web-3.1.0"));
        assert_eq!(chart_in(dir.path(), "../web", ""), None);
    }

    #[test]
    fn what_is_pasted_into_a_shell_does_nothing_else() {
        assert_eq!(word("https://a.example/x"), "https://a.example/x");
        assert_eq!(word("a; rm -rf 'x'"), "'a; rm -rf '\\''x'\\'''");
        assert_eq!(word("^1.2"), "'^1.2'");
    }
}

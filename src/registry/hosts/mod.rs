//! Where the content of a registry is asked for: mirrors first, the registry itself last. The name of an image stays
//! that of the registry, and its digest is checked whoever serves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use super::credentials::{Secret, canonical};
use super::error::RegistryError;

mod toml;

pub use self::toml::parse_hosts_toml;

/// The largest `hosts.toml` that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// What TLS to a host needs beside what is good for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTls {
    /// PEM files with authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// PEM files with a client certificate and its key; the same file where it has both.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Takes any certificate. Digests are still checked; what a tag stands for is then anybody's word.
    pub skip_verify: bool,
}

/// A host that is asked, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `https://HOST[:PORT]/v2`, or with another path where the host has its API elsewhere. Without a slash at its end.
    pub url: Url,
    /// Whether blobs and manifests by digest are asked for there.
    pub pull: bool,
    /// Whether it is asked what a tag stands for.
    pub resolve: bool,
    /// For TLS.
    pub tls: HostTls,
    /// Headers of every request; values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// For TCP and TLS to come up, where that differs from all others.
    pub connect_timeout: Option<Duration>,
}

impl Host {
    /// A host as hosts.toml and the configuration file name it: `HOST[:PORT]` or a URL. Without `override_path`, `/v2`
    /// is put at the end of its path unless it is there (containerd's `config/hosts.go`).
    ///
    /// # Errors
    /// A text when that is no such URL.
    pub fn new(given: &str, override_path: bool) -> Result<Self, String> {
        let full = if given.contains("://") { given.to_owned() } else { format!("https://{given}") };
        let mut url = Url::parse(&full).map_err(|e| format!("{given:?} is no URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("{given:?} is no URL of http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Not repeated: there is a password in it.
            return Err("a URL with a login in it; keep the login in an auth file".to_owned());
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_owned();
        let path = if override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") };
        url.set_path(&path);
        let (tls, headers) = (HostTls::default(), Vec::new());
        Ok(Self { url, pull: true, resolve: true, tls, headers, connect_timeout: None })
    }

    /// `HOST[:PORT]`, as it stands in auth files.
    pub fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let full = self.url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        canonical(&full)
    }
}

/// Who is asked for the content of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRules {
    /// In this order.
    pub mirrors: Vec<Host>,
    /// How the registry itself is reached, where that differs from what its name says.
    pub server: Option<Host>,
    /// For TLS to the registry itself, without `server`.
    pub tls: HostTls,
    /// Whether the registry itself is never asked.
    pub mirrors_only: bool,
    /// Requests at the same time.
    pub parallel: Option<usize>,
}

/// Rules by registry.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    own: BTreeMap<String, HostRules>,
    folders: Vec<PathBuf>,
    /// Asked before `own`.
    first: Vec<PathBuf>,
}

impl Hosts {
    /// Rules for one registry (`HOST[:PORT]`, `docker.io` for Docker Hub); go before what folders say.
    #[must_use]
    pub fn with_rules(mut self, registry: &str, rules: HostRules) -> Self {
        self.own.insert(canonical(registry), rules);
        self
    }

    /// A folder as containerd's `config_path`: `HOST_PORT_/hosts.toml`, `HOST/hosts.toml`, `_default/hosts.toml`, or a
    /// folder of that name with `*.crt` of authorities and `*.cert` with `*.key` of clients.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// The same with these folders before all that it has.
    #[must_use]
    pub fn with_folders_first(mut self, folders: &[PathBuf]) -> Self {
        self.first.splice(0..0, folders.iter().cloned());
        self
    }

    /// The rules for a registry. Reads files.
    ///
    /// # Errors
    /// [`RegistryError::Hosts`] when a file that is there cannot be used.
    pub fn find(&self, registry: &str) -> Result<HostRules, RegistryError> {
        let name = canonical(registry);
        for folder in &self.first {
            if let Some(rules) = in_folder(folder, &name)? {
                return Ok(rules);
            }
        }
        if let Some(rules) = self.own.get(&name) {
            return Ok(rules.clone());
        }
        for folder in &self.folders {
            if let Some(rules) = in_folder(folder, &name)? {
                return Ok(rules);
            }
        }
        Ok(HostRules::default())
    }
}

fn failure(path: &Path) -> impl Fn(String) -> RegistryError {
    let path = path.to_owned();
    move |reason| RegistryError::Hosts { path: path.clone(), reason }
}

fn in_folder(root: &Path, registry: &str) -> Result<Option<HostRules>, RegistryError> {
    let with_port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = with_port.into_iter().chain([registry.to_owned(), "_default".to_owned()]);
    let Some(folder) = names.map(|n| root.join(n)).find(|f| f.is_dir()) else { return Ok(None) };
    let path = folder.join("hosts.toml");
    let fail = failure(&path);
    match std::fs::File::open(&path) {
        Ok(file) => {
            use std::io::Read as _;
            let mut text = String::new();
            file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| fail(e.to_string()))?;
            if text.len() as u64 > MAX_BYTES {
                return Err(fail("larger than the 1 MiB that are read".to_owned()));
            }
            parse_hosts_toml(&text, &folder).map(Some).map_err(fail)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => certificates(&folder).map(Some),
        Err(e) => Err(fail(e.to_string())),
    }
}

/// Docker's layout: the certificates alone.
fn certificates(folder: &Path) -> Result<HostRules, RegistryError> {
    let fail = failure(folder);
    let entries = std::fs::read_dir(folder).map_err(|e| fail(e.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let with = |end: &str| -> Vec<PathBuf> {
        paths.iter().filter(|p| p.extension().is_some_and(|e| e == end)).cloned().collect()
    };
    let mut tls = HostTls { ca_files: with("crt"), ..HostTls::default() };
    if let Some(cert) = with("cert").into_iter().next() {
        let key = cert.with_extension("key");
        if !key.is_file() {
            return Err(fail(format!("{} is there and its .key is not", cert.display())));
        }
        tls.client = Some((cert, key));
    }
    Ok(HostRules { tls, ..HostRules::default() })
}

#[cfg(test)]
mod tests;

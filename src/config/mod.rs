//! omk's own configuration file: how registries are reached, and who is logged in. Flags and variables of the
//! environment go before what is written here.
//!
//! ```yaml
//! registries:
//!   docker.io:
//!     mirrors: ["https://mirror.lan:5000", {url: "https://harbor.lan/v2/hub", overridePath: true, ca: [lan.pem]}]
//!   registry.lan:
//!     ca: [lan.pem]
//!     client: {certificate: me.crt, key: me.key}
//!     parallel: 4
//! hostsDir: /etc/containerd/certs.d
//! patience: 30m
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::registry::{Host, HostRules, HostTls, Hosts, Secret};
use crate::units;

const MAX_BYTES: u64 = 1024 * 1024;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("configuration {}: {reason}", path.display())]
pub struct ConfigError {
    path: PathBuf,
    reason: String,
}

/// What the file says; what it does not say is empty.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Mirrors, certificates and limits.
    pub hosts: Hosts,
    /// Registries that are spoken to by plain HTTP.
    pub plain_http: Vec<String>,
    /// PEM files with authorities to trust everywhere.
    pub ca_files: Vec<PathBuf>,
    /// Where logins are.
    pub auth_file: Option<PathBuf>,
    /// Manifests with pull secrets.
    pub pull_secrets: Vec<PathBuf>,
    /// Kubelet's CredentialProviderConfig and the folder of its programs.
    pub providers: Option<(PathBuf, PathBuf)>,
    /// How long a registry that limits the rate is waited for.
    pub patience: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    registries: BTreeMap<String, RegistryEntry>,
    hosts_dir: Option<PathBuf>,
    plain_http: Vec<String>,
    ca: Vec<PathBuf>,
    auth_file: Option<PathBuf>,
    pull_secrets: Vec<PathBuf>,
    credential_provider: Option<ProviderEntry>,
    patience: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RegistryEntry {
    mirrors: Vec<MirrorEntry>,
    mirrors_only: bool,
    plain_http: bool,
    parallel: Option<usize>,
    ca: Vec<PathBuf>,
    client: Option<ClientEntry>,
    skip_verify: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MirrorEntry {
    Url(String),
    Full(Box<Mirror>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mirror {
    url: String,
    #[serde(default)]
    capabilities: Option<Vec<Capability>>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    ca: Vec<PathBuf>,
    #[serde(default)]
    client: Option<ClientEntry>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Capability {
    Pull,
    Resolve,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientEntry {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProviderEntry {
    config: PathBuf,
    bin_dir: PathBuf,
}

impl Config {
    /// Where the file is when nobody says: `omk/config.yaml` in the user's folder of configurations. `env` gives
    /// variables that are set and not empty.
    pub fn default_path(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        let xdg = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
        let folder = xdg.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")))?;
        Some(folder.join("omk/config.yaml"))
    }

    /// Reads a file; one that is not there is an error.
    ///
    /// # Errors
    /// [`ConfigError`]; never with a header's value in it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fail = |reason: String| ConfigError { path: path.to_owned(), reason };
        let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| fail(e.to_string()))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(fail("larger than the 1 MiB that are read".to_owned()));
        }
        let folder = std::path::absolute(path).ok().and_then(|p| p.parent().map(Path::to_owned));
        Self::parse(&text, &folder.unwrap_or_default()).map_err(fail)
    }

    /// Reads text; paths in it are relative to `folder`, `~/` is the user's home.
    ///
    /// # Errors
    /// A text that says where and why.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: Option<File> = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
        let file = file.unwrap_or_default();
        let at = |path: &PathBuf| match (path.strip_prefix("~"), std::env::var_os("HOME")) {
            (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => folder.join(path),
        };
        let all = |paths: &[PathBuf]| paths.iter().map(at).collect::<Vec<_>>();
        let tls = |ca: &[PathBuf], client: &Option<ClientEntry>, skip_verify: bool| HostTls {
            ca_files: all(ca),
            client: client.as_ref().map(|c| (at(&c.certificate), at(&c.key))),
            skip_verify,
        };
        let mut config = Self {
            plain_http: file.plain_http,
            ca_files: all(&file.ca),
            auth_file: file.auth_file.as_ref().map(at),
            pull_secrets: all(&file.pull_secrets),
            providers: file.credential_provider.as_ref().map(|p| (at(&p.config), at(&p.bin_dir))),
            ..Self::default()
        };
        if let Some(text) = &file.patience {
            config.patience = Some(
                units::duration(text)
                    .ok_or_else(|| format!("patience {text:?} is no duration such as 30m"))?,
            );
        }
        for (name, entry) in &file.registries {
            let mut rules = HostRules {
                tls: tls(&entry.ca, &entry.client, entry.skip_verify),
                mirrors_only: entry.mirrors_only,
                parallel: entry.parallel,
                ..HostRules::default()
            };
            if entry.parallel == Some(0) {
                return Err(format!("registry {name}: parallel must be at least 1"));
            }
            if entry.mirrors_only && entry.mirrors.is_empty() {
                return Err(format!("registry {name}: mirrorsOnly without mirrors leaves nobody to ask"));
            }
            for mirror in &entry.mirrors {
                let host = match mirror {
                    MirrorEntry::Url(url) => Host::new(url, false),
                    MirrorEntry::Full(m) => Host::new(&m.url, m.override_path).map(|mut host| {
                        if let Some(can) = &m.capabilities {
                            host.pull = can.contains(&Capability::Pull);
                            host.resolve = can.contains(&Capability::Resolve);
                        }
                        host.tls = tls(&m.ca, &m.client, m.skip_verify);
                        host.headers = m.headers.iter().map(|(k, v)| (k.clone(), Secret::new(v))).collect();
                        host
                    }),
                };
                rules.mirrors.push(host.map_err(|reason| format!("registry {name}: {reason}"))?);
            }
            if entry.plain_http {
                config.plain_http.push(name.clone());
            }
            config.hosts = config.hosts.with_rules(name, rules);
        }
        if let Some(folder) = &file.hosts_dir {
            config.hosts = config.hosts.with_folder(at(folder));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_taken_over() {
        let config = Config::parse(
            "registries:\n  docker.io:\n    mirrors: ['m.lan:5000', {url: 'https://h.lan/v2/hub', overridePath: true, \
             capabilities: [pull], ca: [a.pem], headers: {x-key: hunter2}}]\n    mirrorsOnly: true\n  \
             r.lan: {plainHttp: true, parallel: 2, client: {certificate: c.crt, key: /k}}\n\
             hostsDir: certs.d\npatience: 30m\nauthFile: auth.json\n",
            Path::new("/c"),
        )
        .unwrap();
        let hub = config.hosts.find("index.docker.io").unwrap();
        let urls: Vec<&str> = hub.mirrors.iter().map(|m| m.url.as_str()).collect();
        assert_eq!(urls, ["https://m.lan:5000/v2", "https://h.lan/v2/hub"]);
        assert!(hub.mirrors_only && hub.mirrors[0].resolve && !hub.mirrors[1].resolve);
        assert_eq!(hub.mirrors[1].tls.ca_files, [PathBuf::from("/c/a.pem")]);
        let lan = config.hosts.find("r.lan").unwrap();
        assert_eq!(lan.tls.client, Some(("/c/c.crt".into(), "/k".into())));
        assert_eq!((lan.parallel, config.plain_http.as_slice()), (Some(2), &["r.lan".to_owned()][..]));
        assert_eq!(config.patience, Some(Duration::from_secs(1800)));
        assert_eq!(config.auth_file, Some("/c/auth.json".into()));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_misspelled_is_told() {
        for (text, word) in [
            ("registry: {}", "unknown field"),
            ("registries: {a.io: {mirrorsOnly: true}}", "nobody to ask"),
            ("registries: {a.io: {mirrors: ['ftp://x']}}", "a.io"),
            ("registries: {a.io: {parallel: 0}}", "at least 1"),
            ("patience: long", "duration"),
        ] {
            let error = Config::parse(text, Path::new("/")).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(Config::parse("# nothing\n", Path::new("/")).is_ok());
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let with = |set: &'static [(&str, &str)]| {
            Config::default_path(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.config/omk/config.yaml".into()));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), Some("/x/omk/config.yaml".into()));
    }
}

//! containerd's `hosts.toml` (`docs/hosts.md` of containerd 2).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Host, HostRules, HostTls};
use crate::registry::credentials::Secret;

/// Mirrors of one registry.
const MAX_HOSTS: usize = 64;

#[derive(Deserialize)]
struct Tree {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Rules>,
}

/// The same at the top, for the server, and below each host.
#[derive(Default, Deserialize)]
struct Rules {
    #[serde(default)]
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    ca: Option<OneOrMany>,
    #[serde(default)]
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> Vec<&str> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many.iter().map(String::as_str).collect(),
        }
    }
}

/// A file with both, files with both, or pairs of certificate and key.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

/// Reads the text of a `hosts.toml`; paths in it are relative to `folder`. What containerd does not know it leaves
/// alone, and so does this.
///
/// # Errors
/// A text that says where and why; never a header's value.
pub fn parse_hosts_toml(text: &str, folder: &Path) -> Result<HostRules, String> {
    // The parser's own text repeats the line, where a header may hold a secret.
    let wrong = |e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].lines().count().max(1));
        format!("not valid{}", line.map(|n| format!(" (line {n})")).unwrap_or_default())
    };
    let tree: Tree = toml::from_str(text).map_err(wrong)?;
    let top: Rules = toml::from_str(text).map_err(wrong)?;
    let mut hosts: Vec<(Spanned<String>, Rules)> = tree.host.into_iter().collect();
    if hosts.len() > MAX_HOSTS {
        return Err(format!("more than {MAX_HOSTS} hosts"));
    }
    // The order of the file is the order in which they are asked.
    hosts.sort_by_key(|(name, _)| name.span().start);
    let mut rules = HostRules::default();
    for (name, host) in &hosts {
        rules.mirrors.push(host.host(name.get_ref(), folder)?);
    }
    match tree.server.filter(|s| !s.is_empty()) {
        Some(server) => rules.server = Some(top.host(&server, folder)?),
        None => rules.tls = top.tls(folder)?,
    }
    Ok(rules)
}

impl Rules {
    fn host(&self, name: &str, folder: &Path) -> Result<Host, String> {
        let mut host = Host::new(name, self.override_path)?;
        if let Some(capabilities) = &self.capabilities {
            let has = |word: &str| capabilities.iter().any(|c| c.eq_ignore_ascii_case(word));
            (host.pull, host.resolve) = (has("pull"), has("resolve"));
            let known = ["pull", "resolve", "push", "referrers"];
            if let Some(other) =
                capabilities.iter().find(|c| !known.iter().any(|k| c.eq_ignore_ascii_case(k)))
            {
                return Err(format!("host {name:?}: there is no capability {other:?}"));
            }
        }
        host.tls = self.tls(folder)?;
        for (header, values) in &self.header {
            host.headers.extend(values.all().into_iter().map(|v| (header.clone(), Secret::new(v))));
        }
        if let Some(text) = &self.dial_timeout {
            let timeout = crate::units::duration(text);
            host.connect_timeout =
                Some(timeout.ok_or_else(|| format!("dial_timeout {text:?} is no duration"))?);
        }
        Ok(host)
    }

    fn tls(&self, folder: &Path) -> Result<HostTls, String> {
        let at = |path: &str| -> PathBuf { folder.join(path) };
        let ca_files = self.ca.iter().flat_map(OneOrMany::all).map(at).collect();
        let pair = match &self.client {
            None => None,
            Some(Client::One(both)) => Some((at(both), at(both))),
            Some(Client::Many(files)) => files.first().map(|both| (at(both), at(both))),
            Some(Client::Pairs(pairs)) => match pairs.first().map(Vec::as_slice) {
                None => None,
                Some([both]) => Some((at(both), at(both))),
                Some([cert, key]) if key.is_empty() => Some((at(cert), at(cert))),
                Some([cert, key]) => Some((at(cert), at(key))),
                Some(_) => return Err("client: a pair is a certificate and its key".to_owned()),
            },
        };
        Ok(HostTls { ca_files, client: pair, skip_verify: self.skip_verify })
    }
}

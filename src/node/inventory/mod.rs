//! The inventory: which nodes there are and how each is reached.
//!
//! ```yaml
//! defaults:
//!   user: root
//!   identity: ~/.ssh/id_ed25519
//! nodes:
//!   - name: worker-1
//!     host: 10.0.0.11
//!   - name: worker-2
//!     host: 10.0.0.12
//!     user: admin
//!     sudo_password: 'only where sudo asks'
//!     groups: [edge]
//! ```
//!
//! Read as well, told apart by what is in them: Ansible's inventories ([`ansible`], INI and YAML), `kubectl get nodes -o
//! json` ([`kubectl`]), the hosts of an `ssh_config`, and nodes named on the command line ([`Inventory::named`]).
//!
//! What `ssh_config` says about a host fills in what the inventory leaves open ([`Fallback::ssh_config`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::Secret;
use super::ssh::route::Route;
use super::ssh_config::{SshConfig, Who};
use crate::oci::Platform;

mod ansible;
mod convert;
mod form;
mod kubectl;
mod range;
mod select;
mod told;

use convert::{clip, convert, readable_by_others};
use form::{Form, foreign, form, inline, ssh_config_like};
use select::wanted;
pub use select::{Labelled, NoSuchNode, check};
use told::{Lines, Wrong, reword};

/// An inventory is refused when it is larger, in bytes.
const MAX_BYTES: u64 = 4 << 20;
const NO_USER: &str = "user is missing, here and in defaults; --user names one for all";
/// An inventory is refused when it names more nodes.
const MAX_NODES: usize = 10_000;

/// One machine that takes images.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique in its inventory; what reports and the journal call it. Letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// How it is reached.
    pub address: Address,
    /// The container runtime, when it is not to be detected.
    pub runtime: Option<String>,
    /// A folder that the runtime takes image archives from (k3s, RKE2), when it is not the runtime's usual one.
    pub image_folder: Option<String>,
    /// Where blobs are staged on the node, when it is not the default; absolute.
    pub staging: Option<String>,
    /// The platform it runs, when it is not to be asked.
    pub platform: Option<Platform>,
    /// How it is reached beyond its address.
    pub route: Route,
    /// For `sudo` where it asks for one. Never shown.
    pub sudo_password: Option<Secret>,
    /// Groups that it is in: what images may be meant for, and what `--limit` takes.
    pub groups: BTreeSet<String>,
    /// Labels, such as those of Kubernetes.
    pub labels: BTreeMap<String, String>,
}

/// How a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// This machine, without SSH.
    Local,
    /// Over SSH.
    Ssh {
        /// Name or IP address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// Login name.
        user: String,
        /// Private key file; `None`: the agent, then the usual files in `~/.ssh`.
        identity: Option<PathBuf>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this machine"),
            Self::Ssh { host, port, .. } => f.write_str(&super::ssh::route::address(host, *port)),
        }
    }
}

/// A checked inventory, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Names are unique; at least one, unless [`Fallback::limit`] leaves none.
    pub nodes: Vec<Node>,
    /// Nodes that [`Fallback::limit`] takes away.
    pub left_out: Vec<Labelled>,
    /// Full sentences about what the user should look at.
    pub warnings: Vec<String>,
}

/// Why an inventory was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The file cannot be read.
    #[error("cannot read the inventory {}: {source}{}", path.display(), instead(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too large or too many nodes.
    #[error("inventory {}: {what}, more than the {limit} that are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// No YAML, a field that does not exist, a value of the wrong type. The text has the field's path, what was
    /// found, what is expected, line and column.
    #[error("inventory {}: {text}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From the YAML parser.
        text: String,
    },
    /// A value that cannot be meant.
    #[error("inventory {}: nodes[{index}] ({name}){}: {text}", path.display(), told::at(*line))]
    Value {
        /// The file.
        path: PathBuf,
        /// Which node, from 0.
        index: usize,
        /// Where it stands, as far as that is known.
        line: Option<u32>,
        /// Its name as far as known.
        name: String,
        /// What is wrong and what to write instead.
        text: String,
    },
    /// Nobody says as whom to log in.
    #[error("inventory {}: nodes[{index}] ({name}){}: {NO_USER}", path.display(), told::at(*line))]
    User {
        /// The file.
        path: PathBuf,
        /// Which node, from 0.
        index: usize,
        /// Where it stands, as far as that is known.
        line: Option<u32>,
        /// Its name.
        name: String,
    },
    /// A private key that is not there.
    #[error(
        "inventory {}: the identity of {name} (its own, or from defaults): {} {why}; name the private key file, or leave \
         identity out to use the agent and the usual files in ~/.ssh",
        path.display(),
        file.display()
    )]
    Identity {
        /// The inventory.
        path: PathBuf,
        /// The node.
        name: String,
        /// The key file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The way out where there is no such file: perhaps there never was one.
fn instead(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "; name the inventory that you have, or write one, such as `nodes: [{name: worker-1, host: 10.0.0.11, user: root}]` \
             (Ansible's inventories and `kubectl get nodes -o json` do too), or name nodes without a file: --node USER@HOST"
        }
        _ => "",
    }
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "the fields of an inventory: `nodes:`, and `defaults:` where wanted"
)]
struct RawInventory {
    #[serde(default)]
    defaults: RawDefaults,
    nodes: Vec<RawNode>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "fields that all nodes share, such as `user: root`")]
struct RawDefaults {
    port: Option<Port>,
    user: Option<String>,
    identity: Option<String>,
    password: Option<Secret>,
    password_file: Option<String>,
    proxy_jump: Option<String>,
    sudo_password: Option<Secret>,
    runtime: Option<String>,
    image_folder: Option<String>,
    staging: Option<String>,
    platform: Option<String>,
    /// Where what stands.
    #[serde(skip)]
    lines: Lines,
}

/// Spelled out instead of flattening `RawDefaults` into it: serde cannot refuse unknown fields through `flatten`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a node with fields, such as `{name: worker-1, host: 10.0.0.11}`")]
struct RawNode {
    name: String,
    host: Option<String>,
    #[serde(default)]
    local: bool,
    port: Option<Port>,
    user: Option<String>,
    identity: Option<String>,
    password: Option<Secret>,
    password_file: Option<String>,
    proxy_jump: Option<String>,
    sudo_password: Option<Secret>,
    runtime: Option<String>,
    image_folder: Option<String>,
    staging: Option<String>,
    platform: Option<String>,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Options of `ssh` that the inventory names for it: keyword of `ssh_config` and value.
    #[serde(skip)]
    ssh_options: Vec<(String, String)>,
    /// Who logs in where nobody says.
    #[serde(skip)]
    login: Option<String>,
    /// Where what stands.
    #[serde(skip)]
    lines: Lines,
}

impl RawNode {
    fn named(name: String) -> Self {
        Self {
            name,
            host: None,
            local: false,
            port: None,
            user: None,
            identity: None,
            password: None,
            password_file: None,
            proxy_jump: None,
            sudo_password: None,
            runtime: None,
            image_folder: None,
            staging: None,
            platform: None,
            groups: BTreeSet::new(),
            labels: BTreeMap::new(),
            ssh_options: Vec::new(),
            login: None,
            lines: Lines::default(),
        }
    }
}

/// What is used where an inventory is silent.
#[derive(Debug, Clone, Default)]
pub struct Fallback {
    /// What `~` stands for.
    pub home: Option<PathBuf>,
    /// Login name.
    pub user: Option<String>,
    /// Login name where an inventory of another tool names none and `user` is not given: that of whoever runs omk, as with
    /// `ssh`.
    pub login: Option<String>,
    /// Whether `login` is also for inventories of omk's own.
    pub login_for_all: bool,
    /// Patterns as of `--limit`: what they take away is not looked at any further, so that a host that cannot be used does not
    /// keep others from being used. Whether they leave a node is for [`check`].
    pub limit: Vec<String>,
    /// Private key file.
    pub identity: Option<PathBuf>,
    /// What `ssh` would be told about a host.
    pub ssh_config: Option<Arc<SshConfig>>,
    /// Words that a node's runtime may be; none: it is not looked at.
    pub runtimes: &'static [&'static str],
}

impl Inventory {
    /// Reads and checks a file. `home` is what `~` stands for; a relative `identity` is relative to the file's folder.
    ///
    /// # Errors
    /// [`InventoryError`], naming the file and what in it.
    pub fn load(path: &Path, home: Option<&Path>) -> Result<Self, InventoryError> {
        Self::load_with(path, &Fallback { home: home.map(Path::to_owned), ..Fallback::default() })
    }

    /// As [`Inventory::load`], with what is used where the file is silent.
    ///
    /// # Errors
    /// As there.
    pub fn load_with(path: &Path, fallback: &Fallback) -> Result<Self, InventoryError> {
        use std::io::Read as _;

        let read = |source| InventoryError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(read)?;
        if text.len() as u64 > MAX_BYTES {
            let what = "it is too long, in bytes".to_owned();
            return Err(InventoryError::TooLarge { path: path.to_owned(), what, limit: MAX_BYTES });
        }
        let mut inventory = if ssh_config_like(&text) {
            let config = SshConfig::load(path, fallback.home.as_deref());
            let config =
                config.map_err(|e| InventoryError::Syntax { path: path.to_owned(), text: e.to_string() })?;
            Self::of_ssh_config(config, path, fallback)?
        } else {
            Self::parse_with(&text, path, fallback)?
        };
        let secret = |n: &Node| n.sudo_password.is_some() || n.route.password.is_some();
        if inventory.nodes.iter().any(secret) && readable_by_others(path) {
            let text =
                format!("{} holds a password and other users can read it: chmod 600 {0}", path.display());
            inventory.warnings.push(text);
        }
        Ok(inventory)
    }

    /// Whether every private key that the nodes name can be read. Better now than when half of the nodes are done. `path` is for
    /// messages.
    ///
    /// # Errors
    /// [`InventoryError::Value`], naming the file and the first node that wants it.
    pub fn check_identities(&self, path: &Path) -> Result<(), InventoryError> {
        let mut seen = BTreeSet::new();
        for node in &self.nodes {
            let Address::Ssh { identity: Some(file), .. } = &node.address else { continue };
            if !seen.insert(file) {
                continue;
            }
            let why = match std::fs::File::open(file).and_then(|f| f.metadata()) {
                Ok(meta) if meta.is_file() => continue,
                Ok(_) => "is no file".to_owned(),
                Err(e) => format!("cannot be read: {e}"),
            };
            let (name, file) = (node.name.clone(), file.clone());
            return Err(InventoryError::Identity { path: path.to_owned(), name, file, why });
        }
        Ok(())
    }

    /// As [`Inventory::load`], from text. `path` is for messages and for relative `identity` paths.
    ///
    /// # Errors
    /// [`InventoryError`].
    pub fn parse(text: &str, path: &Path, home: Option<&Path>) -> Result<Self, InventoryError> {
        Self::parse_with(text, path, &Fallback { home: home.map(Path::to_owned), ..Fallback::default() })
    }

    /// As [`Inventory::parse`], with what is used where the text is silent.
    ///
    /// # Errors
    /// As there.
    pub fn parse_with(text: &str, path: &Path, fallback: &Fallback) -> Result<Self, InventoryError> {
        // Editors of some systems put a byte order mark before the text.
        let text = text.trim_start_matches('\u{feff}');
        let syntax = |text: String| InventoryError::Syntax { path: path.to_owned(), text };
        let raw = match form(text) {
            Form::Own(read) => {
                let mut raw: RawInventory =
                    serde_yaml::from_str(text).map_err(|e| syntax(reword(&e.to_string())))?;
                told::place(&mut raw, read.as_ref());
                raw
            }
            Form::Kubectl(nodes) => foreign(nodes.map_err(syntax)?, fallback),
            Form::Ansible => {
                let nodes =
                    ansible::read(text).map_err(|e| syntax(format!("line {}: {}", e.line, e.text)))?;
                foreign(nodes, fallback)
            }
        };
        Self::checked(raw, path, fallback)
    }

    /// Nodes that are named one by one: `[USER@]HOST[:PORT]`, or `local` for this machine.
    ///
    /// # Errors
    /// [`InventoryError`] for what is no node.
    pub fn named(nodes: &[String], fallback: &Fallback) -> Result<Self, InventoryError> {
        let raw = nodes.iter().map(|text| inline(text)).collect();
        Self::checked(foreign(raw, fallback), Path::new("--node"), fallback)
    }

    /// The hosts that an `ssh_config` names without wildcards, reached as that file says.
    fn of_ssh_config(config: SshConfig, path: &Path, fallback: &Fallback) -> Result<Self, InventoryError> {
        let hosts = config.hosts().into_iter();
        let raw = hosts.map(|h| RawNode { host: Some(h.clone()), ..RawNode::named(h) }).collect();
        let fallback = Fallback { ssh_config: Some(Arc::new(config)), ..fallback.clone() };
        Self::checked(foreign(raw, &fallback), path, &fallback)
    }

    fn checked(raw: RawInventory, path: &Path, fallback: &Fallback) -> Result<Self, InventoryError> {
        if raw.nodes.len() > MAX_NODES {
            let what = format!("{} nodes", raw.nodes.len());
            return Err(InventoryError::TooLarge { path: path.to_owned(), what, limit: MAX_NODES as u64 });
        }
        if raw.nodes.is_empty() {
            let text = "nodes is empty: name at least one node".to_owned();
            return Err(InventoryError::Syntax { path: path.to_owned(), text });
        }
        let mut names = BTreeSet::new();
        let (mut nodes, mut left_out) = (Vec::with_capacity(raw.nodes.len()), Vec::new());
        let mut warnings = Vec::new();
        let who = Who::here(fallback.home.clone(), fallback.login.clone());
        for (index, node) in raw.nodes.into_iter().enumerate() {
            let name = clip(&node.name);
            let (own, shared) = (node.lines.clone(), &raw.defaults.lines);
            let refuse = |Wrong { field, text }: Wrong| {
                let line = own.of(field).or_else(|| shared.of(field)).or_else(|| own.of(""));
                match (path.to_owned(), text == NO_USER) {
                    (path, true) => InventoryError::User { path, index, line, name },
                    (path, false) => InventoryError::Value { path, index, line, name, text },
                }
            };
            if !names.insert(node.name.clone()) {
                let text = "this name is taken by an earlier node: each needs its own".to_owned();
                return Err(refuse(Wrong { field: "name", text }));
            }
            let (groups, labels) = (node.groups.clone(), node.labels.clone());
            let labelled = Labelled { name: node.name.clone(), groups, labels };
            if !wanted(&labelled, &fallback.limit) {
                left_out.push(labelled);
                continue;
            }
            nodes.push(convert(node, &raw.defaults, path, fallback, &who, &mut warnings).map_err(refuse)?);
        }
        Ok(Self { nodes, left_out, warnings: super::ssh_config::once(warnings) })
    }
}

/// A TCP port.
#[derive(Debug, Clone, Copy)]
struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port: a number from 1 to 65535, without quotes")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Port, E> {
                match u16::try_from(number) {
                    Ok(port @ 1..) => Ok(Port(port)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests;

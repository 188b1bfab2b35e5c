//! Options of every command that goes to nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{CliError, Context};
use crate::event::{Event, Events};
use crate::node::inventory::{Address, Fallback, select};
use crate::node::{
    Inventory, KnownHosts, LocalSession, Node, NodeError, NodeSession, SshOptions, SshSession,
};
use crate::push::{Connector, Target};
use crate::runtime::RuntimeChoice;

/// Which nodes, and how they are reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Nodes")]
pub struct NodeArgs {
    /// The inventory: omk's own, Ansible's (INI or YAML), or what `kubectl get nodes -o json` prints
    #[arg(long = "nodes", value_name = "FILE", required_unless_present = "node")]
    file: Option<PathBuf>,
    /// A node without an inventory, may be given more than once; `local` is this machine
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    node: Vec<String>,
    /// Only these nodes: names, groups, KEY=VALUE for a label; * stands for any characters, !PATTERN takes nodes away
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    limit: Vec<String>,
    /// Login name where the inventory names none
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Private key file where the inventory names none
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Trust the host keys of this file instead of those that `ssh` trusts
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s
    /// or image-folder
    #[arg(long, value_name = "RUNTIME", default_value = "auto")]
    runtime: String,
    /// containerd's namespace; kubelet looks into no other
    #[arg(long, value_name = "NAME", default_value = "k8s.io", value_parser = namespace)]
    pub(super) namespace: String,
    /// Nodes at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) parallel: u16,
}

/// containerd's own rule for identifiers.
fn namespace(word: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let good = word.len() <= 76
        && word.bytes().all(plain)
        && edge(word.bytes().next())
        && edge(word.bytes().next_back());
    if good { Ok(word.to_owned()) } else { Err("letters, digits, '.', '-' and '_', at most 76".to_owned()) }
}

/// The nodes of a command, ready to be reached.
pub struct Chosen {
    /// In the order of the inventory.
    pub nodes: Vec<Node>,
    /// What is done on each.
    pub targets: Vec<Target>,
    /// The way to them.
    pub connector: Arc<dyn Connector>,
}

impl NodeArgs {
    /// The nodes that were asked for.
    ///
    /// # Errors
    /// An inventory that cannot be used, a pattern that fits no node.
    pub fn nodes(&self, context: &Context) -> Result<Vec<Node>, CliError> {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let fallback = Fallback {
            home: std::env::home_dir(),
            user: self.user.clone(),
            login: env("USER").or_else(|| env("LOGNAME")),
            identity: self.identity.clone(),
        };
        let mut all = Inventory::named(&self.node, &fallback).or_else(|e| match self.node.is_empty() {
            true => Ok(Inventory::default()),
            false => Err(CliError::usage(e.to_string())),
        })?;
        if let Some(file) = &self.file {
            let read = Inventory::load_with(file, &fallback)?;
            read.check_identities(file, |n| self.limit.is_empty() || self.limit.contains(&n.name))?;
            if let Some(twice) = all.nodes.iter().find(|n| read.nodes.iter().any(|m| m.name == n.name)) {
                let message = format!("--node {}: the inventory has a node of this name too", twice.name);
                return Err(CliError::usage(message));
            }
            all.warnings.extend(read.warnings);
            all.nodes.extend(read.nodes);
        }
        for message in all.warnings {
            context.events.emit(Event::Warning { message });
        }
        select(all.nodes, &self.limit).map_err(|e| CliError::usage(format!("--limit {e}")))
    }

    /// The nodes with the way to them.
    ///
    /// # Errors
    /// As [`NodeArgs::nodes`]; host keys that cannot be read, a runtime that is not known.
    pub fn choose(&self, context: &Context) -> Result<Chosen, CliError> {
        let nodes = self.nodes(context)?;
        let known_hosts = match &self.known_hosts {
            Some(file) => {
                let mut known = KnownHosts::new();
                known.load(file)?;
                known
            }
            None => KnownHosts::load_default(std::env::home_dir().as_deref())?,
        };
        for message in known_hosts.warnings.iter().cloned() {
            context.events.emit(Event::Warning { message });
        }
        let usual: RuntimeChoice =
            self.runtime.parse().map_err(|e: crate::runtime::RuntimeError| CliError::usage(e.to_string()))?;
        let targets = nodes.iter().map(|n| target(n, &usual)).collect::<Result<Vec<_>, CliError>>()?;
        let connector = Nodes {
            nodes: nodes.iter().map(|n| (n.name.clone(), n.clone())).collect(),
            ssh: SshOptions::from_env(Arc::new(known_hosts)),
        };
        Ok(Chosen { nodes, targets, connector: Arc::new(connector) })
    }
}

/// What the inventory says about a node goes before what the command line says about all.
fn target(node: &Node, usual: &RuntimeChoice) -> Result<Target, CliError> {
    let said = node.runtime.as_deref().map(str::parse::<RuntimeChoice>).transpose();
    let said = said.map_err(|e| CliError::usage(format!("node {}: {e}", node.name)))?;
    let runtime = match (said, &node.image_folder) {
        (Some(RuntimeChoice::ImageFolder(_)) | None, Some(folder)) => {
            RuntimeChoice::ImageFolder(Some(folder.clone()))
        }
        (Some(choice), _) => choice,
        (None, None) => usual.clone(),
    };
    let (name, staging, platform) = (node.name.clone(), node.staging.clone(), node.platform.clone());
    Ok(Target { name, runtime, staging, platform, groups: node.groups.clone() })
}

/// The nodes of an inventory.
struct Nodes {
    nodes: BTreeMap<String, Node>,
    ssh: SshOptions,
}

#[async_trait]
impl Connector for Nodes {
    async fn connect(
        &self,
        name: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn NodeSession>, NodeError> {
        let node = self
            .nodes
            .get(name)
            .ok_or_else(|| NodeError::Other(format!("{name} is no node of the inventory")))?;
        Ok(match node.address {
            Address::Local => Box::new(local(node, cancel)?),
            Address::Ssh { .. } => Box::new(SshSession::connect(node, &self.ssh, events, cancel).await?),
        })
    }
}

fn local(node: &Node, cancel: &CancellationToken) -> Result<LocalSession, NodeError> {
    Ok(LocalSession::open(cancel)?.with_sudo_password(node.sudo_password.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::exit;
    use crate::runtime::Flavor;

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            address: Address::Local,
            runtime: None,
            image_folder: None,
            staging: None,
            platform: None,
            sudo_password: None,
            groups: BTreeSet::new(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn the_inventory_goes_before_the_command_line() {
        let usual = RuntimeChoice::Containerd(Flavor::K3s);
        let choice = |runtime: Option<&str>, folder: Option<&str>| {
            let (runtime, image_folder) = (runtime.map(str::to_owned), folder.map(str::to_owned));
            target(&Node { runtime, image_folder, ..node("n") }, &usual).map(|t| t.runtime)
        };
        let folder = |f: &str| RuntimeChoice::ImageFolder(Some(f.to_owned()));
        assert_eq!(choice(None, None).unwrap(), usual);
        assert_eq!(choice(None, Some("/srv/i")).unwrap(), folder("/srv/i"));
        assert_eq!(choice(Some("image-folder"), Some("/srv/i")).unwrap(), folder("/srv/i"));
        assert_eq!(choice(Some("rke2"), Some("/srv/i")).unwrap(), RuntimeChoice::Containerd(Flavor::Rke2));
        assert_eq!(choice(Some("runc"), None).unwrap_err().code(), exit::USAGE);
    }

    #[test]
    fn sudo_on_this_machine_gets_the_inventorys_password() {
        let password = Some(crate::node::Secret::new("hunter2"));
        let session =
            local(&Node { sudo_password: password, ..node("n") }, &CancellationToken::new()).unwrap();
        let shown = format!("{session:?}");
        assert!(shown.contains("sudo_password: Some(") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn namespaces_are_containerds_identifiers() {
        assert!(["k8s.io", "moby", "a-b_c"].into_iter().all(|n| namespace(n).is_ok()));
        assert!(["", "-a", "a b", "a/b", "a."].into_iter().all(|n| namespace(n).is_err()));
    }
}

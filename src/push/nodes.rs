//! The nodes of an inventory, reached as it says: over SSH, or this machine itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Connector, Target};
use crate::event::Events;
use crate::node::inventory::Address;
use crate::node::{LocalSession, Node, NodeError, NodeSession, SshOptions, SshSession};
use crate::runtime::{RuntimeChoice, RuntimeError};

/// How nodes were reached and logged in to, by name, in words; filled as it happens.
pub type Reached = Arc<Mutex<BTreeMap<String, String>>>;

/// Nodes of an inventory with the way to them.
#[derive(Clone)]
pub struct Nodes {
    nodes: BTreeMap<String, Node>,
    ssh: SshOptions,
    reached: Reached,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.keys()).finish()
    }
}

impl Nodes {
    /// With what all connections have in common.
    pub fn new(nodes: &[Node], ssh: SshOptions) -> Self {
        let nodes = nodes.iter().map(|n| (n.name.clone(), n.clone())).collect();
        Self { nodes, ssh, reached: Reached::default() }
    }

    /// How each was reached, filled as it happens.
    pub fn reached(&self) -> Reached {
        Arc::clone(&self.reached)
    }
}

impl Target {
    /// A node of an inventory; what that says about it goes before `usual`, the runtime of nodes of which nothing is said.
    ///
    /// # Errors
    /// A word that names no runtime.
    pub fn of(node: &Node, usual: &RuntimeChoice) -> Result<Self, RuntimeError> {
        let said = node.runtime.as_deref().map(str::parse::<RuntimeChoice>).transpose()?;
        let runtime = match (said, &node.image_folder) {
            (Some(RuntimeChoice::ImageFolder(_)) | None, Some(folder)) => {
                RuntimeChoice::ImageFolder(Some(folder.clone()))
            }
            (Some(choice), _) => choice,
            (None, None) => usual.clone(),
        };
        let (name, staging, platform) = (node.name.clone(), node.staging.clone(), node.platform.clone());
        Ok(Self { name, runtime, staging, platform, groups: node.groups.clone() })
    }
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
            Address::Ssh { .. } => {
                let session = SshSession::connect(node, &self.ssh, events, cancel).await?;
                let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
                reached.insert(name.to_owned(), session.how().to_owned());
                Box::new(session)
            }
        })
    }
}

fn local(node: &Node, cancel: &CancellationToken) -> Result<LocalSession, NodeError> {
    Ok(LocalSession::open(cancel)?.with_sudo_password(node.sudo_password.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Flavor;

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            address: Address::Local,
            runtime: None,
            image_folder: None,
            staging: None,
            platform: None,
            route: Default::default(),
            sudo_password: None,
            groups: Default::default(),
            labels: Default::default(),
        }
    }

    #[test]
    fn the_inventory_goes_before_what_is_usual() {
        let usual = RuntimeChoice::Containerd(Flavor::K3s);
        let choice = |runtime: Option<&str>, folder: Option<&str>| {
            let (runtime, image_folder) = (runtime.map(str::to_owned), folder.map(str::to_owned));
            Target::of(&Node { runtime, image_folder, ..node("n") }, &usual).map(|t| t.runtime)
        };
        let folder = |f: &str| RuntimeChoice::ImageFolder(Some(f.to_owned()));
        assert_eq!(choice(None, None).unwrap(), usual);
        assert_eq!(choice(None, Some("/srv/i")).unwrap(), folder("/srv/i"));
        assert_eq!(choice(Some("image-folder"), Some("/srv/i")).unwrap(), folder("/srv/i"));
        assert_eq!(choice(Some("rke2"), Some("/srv/i")).unwrap(), RuntimeChoice::Containerd(Flavor::Rke2));
        assert!(choice(Some("runc"), None).is_err());
    }

    #[test]
    fn sudo_on_this_machine_gets_the_inventorys_password() {
        let password = Some(crate::node::Secret::new("hunter2"));
        let session =
            local(&Node { sudo_password: password, ..node("n") }, &CancellationToken::new()).unwrap();
        let shown = format!("{session:?}");
        assert!(shown.contains("sudo_password: Some(") && !shown.contains("hunter2"), "{shown}");
    }
}

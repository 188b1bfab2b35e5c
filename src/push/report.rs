//! What a push did, for people and programs. Fields are only ever added.

use serde::Serialize;

use crate::oci::Digest;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// Names this run in logs.
    pub run_id: String,
    /// The bundle.
    pub bundle: String,
    /// Every node, in the inventory's order.
    pub nodes: Vec<NodeReport>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its name in the inventory.
    pub node: String,
    /// How it ended.
    pub state: NodeResult,
    /// What was found about each image; empty when the node could not be asked.
    pub images: Vec<ImageReport>,
    /// Bytes that crossed the wire as blobs.
    pub bytes_sent: u64,
    /// Blobs that were sent, whole or in part.
    pub blobs_sent: u64,
    /// Bytes of blobs that were not sent because the node had them for good.
    pub bytes_skipped: u64,
    /// Bytes of blobs that were not sent because the runtime took them over from another of its namespaces.
    pub bytes_adopted: u64,
    /// Bytes of blobs that were not sent because an earlier run had staged them, whole or in part.
    pub bytes_resumed: u64,
    /// From the first connection on.
    pub duration_ms: u64,
    /// Why it is not ready.
    pub error: Option<String>,
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeResult {
    /// Every image is proved ready.
    Ready,
    /// Something went wrong; running the same command again goes on from there.
    Failed,
    /// It cannot take the bundle; nothing was sent to it.
    Refused,
}

/// One image on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// Its names there.
    pub names: Vec<String>,
    /// What they should point at.
    pub digest: Digest,
    /// Proved by the node after the last import.
    pub ready: bool,
    /// Why it is not ready, or what is unusual about it though it is.
    pub reason: Option<String>,
}

impl PushReport {
    /// Whether every node is ready.
    pub fn all_ready(&self) -> bool {
        self.nodes.iter().all(NodeReport::ready)
    }

    /// Whether some nodes are ready and others are not.
    pub fn some_failed(&self) -> bool {
        !self.all_ready() && self.nodes.iter().any(NodeReport::ready)
    }
}

impl NodeReport {
    /// Whether every image is proved ready.
    pub fn ready(&self) -> bool {
        self.state == NodeResult::Ready
    }
}

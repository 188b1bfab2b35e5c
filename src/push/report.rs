//! What a push did, for people and programs. Fields are only ever added.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::journal::Kept;
use super::proof::Check;
use crate::oci::{Digest, Platform};

/// The end of a run, or of a proof that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// What was done.
    pub kind: ReportKind,
    /// The version of omk that did it.
    pub omk: String,
    /// Names this run in logs.
    pub run_id: String,
    /// The bundle.
    pub bundle: String,
    /// Of the bundle's `index.json`, which names every image by digest; filled in by who opened the bundle. A delta and the
    /// whole bundle have different ones; what stands for the images whatever file they come in is
    /// [`images_digest`](super::journal::images_digest).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_digest: Option<Digest>,
    /// When it began and ended, RFC 3339 in UTC, by the clock of the machine that omk runs on.
    pub started: String,
    /// See `started`.
    pub finished: String,
    /// Every node, in the inventory's order.
    pub nodes: Vec<NodeReport>,
    /// What was found before it was mended, of the nodes where something was to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<PushReport>>,
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportKind {
    /// Images were brought to nodes, and proved.
    Preheat,
    /// Images were proved; nothing was changed.
    Verify,
    /// Images were proved, and what was wrong was mended.
    Repair,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its name in the inventory.
    pub node: String,
    /// Address, user and how the host was recognised, in words; filled in by who knows the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// What it runs; nothing when it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Its runtime with the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// How it ended.
    pub state: NodeResult,
    /// What was found about each image; empty when the node could not be asked, or nothing was begun on it.
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
    /// Whether the node was changed, or has blobs of this run in staging, and so keeps a record of it under its id.
    pub recorded: bool,
    /// With `--atomic`, how putting a failed node back went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone: Option<UndoReport>,
    /// Names, or archives, that `--prune` removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pruned: Vec<String>,
    /// Those that it left though the bundle does not want them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<Kept>,
}

/// How undoing a run on a node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoReport {
    /// In a word.
    pub state: UndoState,
    /// Names, or archives, that have what they had before.
    pub restored: usize,
    /// Those that the run had added and that are gone.
    pub removed: usize,
    /// Which these are.
    pub names: Undone,
    /// Bytes of the run's blobs that waited in staging, whole or in part, and that are gone.
    pub staging_freed: u64,
    /// Bytes in staging that may be the run's and were left: its record is of an earlier version, which did not list blobs.
    /// `None` where it is known what is the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staging_left: Option<u64>,
    /// What the run had pruned, which is not brought back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pruned: Vec<String>,
    /// Earlier runs of the same images that did not come to their end; some of what they brought is there still.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
    /// Those that are left because somebody else set them since; staging, where the node has no locks.
    pub kept: Vec<Kept>,
    /// Those that are not as they were and should be: a container uses them, a later run counts on them.
    pub stuck: Vec<Kept>,
    /// What kept it from being done.
    pub error: Option<String>,
}

/// Names, or archives, that are as they were before a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// They have what they had.
    pub restored: Vec<String>,
    /// The run had added them, and they are gone.
    pub removed: Vec<String>,
}

/// In a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoState {
    /// All that is the run's is as it was before.
    Undone,
    /// It was undone before; nothing was done.
    Already,
    /// The run did not change this node.
    Nothing,
    /// Some names are not as they were; running it again goes on.
    Partly,
    /// It could not be done; running it again goes on.
    Failed,
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeResult {
    /// Every image is proved ready.
    Ready,
    /// Somebody stopped the run; running the same command again goes on from there.
    Stopped,
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
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// This moment, RFC 3339 in UTC to the second.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(since).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

impl PushReport {
    /// Of nothing yet; begun and ended at this moment.
    pub(super) fn new(kind: ReportKind, bundle: &str) -> Self {
        Self {
            kind,
            omk: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: super::txn::run_id(),
            bundle: bundle.to_owned(),
            bundle_digest: None,
            started: now(),
            finished: now(),
            nodes: Vec::new(),
            before: None,
        }
    }

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

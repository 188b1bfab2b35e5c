//! What happens, never how it is shown: progress bars, plain log lines and JSON lines are three sinks of the same
//! events.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::oci::Digest;

/// One thing that happened. Sizes are bytes.
///
/// Every `*Started` is followed by `*Progress` any number of times and one `*Done`, unless the step fails: then
/// nothing more comes for it and the failing call returns the error.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// A named stage of a command begins; `total` steps of the stage's own unit where they are known.
    Phase {
        /// For people and scripts: `resolve`, `pull`, `verify`, `probe`, `push`.
        name: &'static str,
        /// How many images, blobs or nodes it is about.
        total: Option<u64>,
    },
    /// An image's name was resolved to a digest.
    Resolved {
        /// As asked for.
        image: String,
        /// What the registry answered.
        digest: Digest,
    },
    /// All the bytes that a copy is about to move, so that a bar has an end.
    TransferPlanned {
        /// The node it is for; `None` when copying into a local store.
        node: Option<String>,
        /// Blobs to move.
        blobs: u64,
        /// Their sizes together, less what is already there of them.
        bytes: u64,
        /// Bytes that need not be moved because the target has them.
        skipped: u64,
    },
    /// All the bytes that a check is about to read and hash; progress and end come as for a transfer.
    CheckPlanned {
        /// Blobs to hash.
        blobs: u64,
        /// Their sizes together.
        bytes: u64,
    },
    /// Bytes of one blob arrived.
    TransferProgress {
        /// The node it is for; `None` when copying into a local store.
        node: Option<String>,
        /// The blob.
        digest: Digest,
        /// Bytes since the last event of this blob.
        bytes: u64,
    },
    /// A blob is complete and verified in the target.
    BlobDone {
        /// The node it is for; `None` when copying into a local store.
        node: Option<String>,
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// A step is tried again after a passing failure.
    Retry {
        /// What is tried again.
        what: String,
        /// Why it failed.
        reason: String,
        /// Milliseconds until then.
        delay_ms: u64,
    },
    /// A mirror serves an image in place of its registry; told once for each.
    Mirror {
        /// The repository, as the image names it.
        image: String,
        /// Host and port of the mirror.
        mirror: String,
    },
    /// A mirror was asked and could not help; the next host is asked. Told once for each image.
    MirrorFailed {
        /// The repository, as the image names it.
        image: String,
        /// Host and port of the mirror.
        mirror: String,
        /// Why.
        reason: String,
    },
    /// How many requests a registry says it still answers.
    RateLimit {
        /// Host and port.
        registry: String,
        /// Requests that are left.
        remaining: u64,
        /// Of how many.
        limit: Option<u64>,
        /// Seconds that the limit is for.
        window_s: Option<u64>,
    },
    /// A blob or chunk was already there from a run that was interrupted.
    Resumed {
        /// The node; `None` for a local store.
        node: Option<String>,
        /// The blob.
        digest: Digest,
        /// Bytes that need not be moved again.
        offset: u64,
    },
    /// A host of which no key was recorded presented one, and it was recorded; told once for each.
    HostKeyRecorded {
        /// Host and port, or the name under which its key is kept.
        host: String,
        /// Its kind and its fingerprint, as far as that is known.
        key: String,
        /// The file of known hosts that has it now.
        file: String,
    },
    /// A node entered a state.
    Node {
        /// Its name in the inventory.
        node: String,
        /// The state.
        state: NodeState,
    },
    /// An image is being imported, was imported or was proved on a node.
    NodeImage {
        /// The node.
        node: String,
        /// A name of the image.
        image: String,
        /// What was done.
        step: ImageStep,
    },
    /// Something the user should know that does not stop the work.
    Warning {
        /// A full sentence.
        message: String,
    },
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NodeState {
    /// SSH is being opened.
    Connecting,
    /// It is asked what it has.
    Probing,
    /// Blobs are sent.
    Sending,
    /// The runtime takes images in.
    Importing,
    /// It is asked to prove that each image is ready.
    Verifying,
    /// What was begun is not gone on with: it is put in order, and written down how far it came.
    Settling,
    /// Every image is proved.
    Ready,
    /// Somebody stopped the run.
    Stopped,
    /// It gave up; the reason.
    Failed(String),
}

/// What was done with an image on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageStep {
    /// The runtime begins to take it.
    Importing,
    /// The runtime took it.
    Imported,
    /// It was complete before.
    Present,
    /// It was proved complete and unpacked.
    Ready,
}

/// Takes events. Called from many tasks at once; must not block for long.
pub trait EventSink: Send + Sync {
    /// One event. Must not fail: a sink that cannot show something drops it.
    fn emit(&self, event: Event);
}

/// A sink that is shared by tasks.
pub type Events = Arc<dyn EventSink>;

/// Drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl EventSink for Silent {
    fn emit(&self, _: Event) {}
}

/// A shared sink that drops everything.
pub fn silent() -> Events {
    Arc::new(Silent)
}

/// Keeps every event, for tests and for reports.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// All events so far, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().map(|e| e.clone()).unwrap_or_default()
    }
}

impl EventSink for Recorder {
    fn emit(&self, event: Event) {
        if let Ok(mut all) = self.0.lock() {
            all.push(event);
        }
    }
}

//! What nodes keep of runs, as they are asked for it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::free::left;
use super::journal::{self, Owned, RunRecord, RunState};
use super::node::{Fault, STOPPED};
use crate::oci::Digest;
use crate::runtime::NodeFacts;

/// What a node keeps of the runs of omk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRuns {
    /// Its name in the inventory.
    pub node: String,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// Its runtime and version.
    pub runtime: Option<String>,
    /// Who is at work on it now.
    pub holder: Option<String>,
    /// Bytes of blobs, whole or in part, that wait in staging for the next run.
    pub staged: u64,
    /// Names, or archives, that keep what earlier images were, so that runs can be undone.
    pub backups: usize,
    /// Newest first.
    pub runs: Vec<RunSummary>,
}

/// A run on a node, as its record there tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// What its record says of it.
    pub state: RunState,
    /// Where it stands, in the words of `omk preheat status`.
    pub standing: &'static str,
    /// It is said to have started, and nobody is at work on the node.
    pub interrupted: bool,
    /// Everything that it was to put there is there now, whatever its record says.
    pub whole: bool,
    /// Images that it brought or found there, and that are not there as they were any more, where it was committed.
    pub missing: usize,
    /// Undoing it was tried and came to its end only in part.
    pub undone_in_part: bool,
    /// The bundle's name.
    pub bundle: String,
    /// What the bundle brings: see [`journal::images_digest`].
    pub images_digest: Option<Digest>,
    /// Who ran it.
    pub by: String,
    /// RFC 3339, UTC, by the clock of the machine that omk ran on.
    pub started: String,
    /// When its last state was written.
    pub ended: Option<String>,
    /// Bytes in staging, whole blobs or parts, of the images that it was to bring; other runs may have left them too. `None`
    /// where its record, of an earlier version, does not list its blobs.
    pub staged: Option<u64>,
    /// Images of the bundle that the node was to have.
    pub images: usize,
    /// Those that the run added or replaced.
    pub changed: usize,
    /// What it pruned.
    pub pruned: Vec<Owned>,
    /// Why it failed; `stopped` where somebody stopped it.
    pub error: Option<String>,
}

fn standing(record: &RunRecord, held: bool, whole: bool) -> &'static str {
    let stopped = || record.error.as_deref().map(Fault::cause).is_none_or(|why| why == STOPPED);
    match record.state {
        RunState::Undone => "undone",
        _ if record.undone_in_part.is_some() => "undone in part",
        RunState::Started if held => "running",
        RunState::Started if whole => "interrupted, whole",
        RunState::Started => "interrupted",
        RunState::Committed => "committed",
        RunState::Failed if stopped() => "stopped",
        RunState::Failed => "failed",
    }
}

impl RunSummary {
    /// Whether it failed because somebody stopped it.
    pub fn stopped(&self) -> bool {
        self.standing == "stopped"
    }

    pub(super) fn of(
        record: RunRecord,
        records: &[RunRecord],
        facts: &NodeFacts,
        held: bool,
        reversible: &dyn crate::runtime::Reversible,
    ) -> Self {
        let now = reversible.slots(facts);
        let has = |name: &String, digest: &Digest| {
            now.get(name).is_some_and(|d| d.as_ref() == Some(digest))
                && facts.names.get(name).is_none_or(|n| n.unpacked)
        };
        let there = |c: &journal::SlotChange| has(&c.name, &c.digest);
        let interrupted = record.state == RunState::Started && !held;
        let wanted = || record.wants.iter().flatten().all(|w| has(&w.name, &w.digest));
        let whole = record.slots.iter().all(there) && wanted();
        let missing: BTreeSet<&Digest> = match record.state {
            RunState::Committed if record.namespace.as_deref() == reversible.namespace() => {
                let wants = record.wants.iter().flatten().map(|w| (&w.name, &w.digest));
                let all = wants.chain(record.slots.iter().map(|c| (&c.name, &c.digest)));
                all.filter(|(name, digest)| !has(name, digest)).map(|(_, digest)| digest).collect()
            }
            _ => BTreeSet::new(),
        };
        Self {
            standing: standing(&record, held, whole),
            interrupted,
            whole,
            missing: missing.len(),
            undone_in_part: record.undone_in_part.is_some() && record.state != RunState::Undone,
            staged: left(&record, facts).map(|left| left.values().sum()),
            // How far an interrupted run came does not stand in its record; what a later one brought is not its own.
            changed: match record.state == RunState::Started {
                true => journal::own(&record, records).only(there).changed_images(),
                false => record.changed_images(),
            },
            run: record.run,
            state: record.state,
            bundle: record.bundle,
            images_digest: record.images_digest,
            by: record.by,
            started: record.started,
            ended: record.ended,
            images: record.images,
            pruned: record.pruned,
            error: record.error.as_deref().map(Fault::cause).map(str::to_owned),
        }
    }
}

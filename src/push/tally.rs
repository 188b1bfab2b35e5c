//! What was moved to a node, over all attempts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::journal::Kept;
use super::txn::Txn;
use super::{ImageReport, NodePlan, UndoReport};
use crate::event::{Event, EventSink, Events};
use crate::oci::{Digest, Platform};
use crate::runtime::Have;

/// What all attempts on a node moved.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) bytes_sent: u64,
    pub(super) blobs_sent: u64,
    /// Of the first plan: later ones skip what this run sent.
    pub(super) bytes_skipped: Option<u64>,
    /// Taken over from another namespace of the runtime.
    pub(super) bytes_adopted: u64,
    /// Complete blobs in staging, of the first plan: later ones find what this run sent.
    staged: Option<u64>,
    parts: Parts,
    /// Bytes to send and images to import, of the first plan.
    planned: Option<(u64, u64)>,
    pub(super) images: u64,
    /// What the node runs, and its runtime.
    pub(super) runs: Option<(Platform, String)>,
    /// What is written down on the node.
    pub(super) txn: Option<Txn>,
    /// How the images were found once the run was given up.
    pub(super) seen: Vec<ImageReport>,
    /// How putting the node back went.
    pub(super) undone: Option<UndoReport>,
    /// What `--prune` removed, and what it left.
    pub(super) pruned: Vec<String>,
    pub(super) spared: Vec<Kept>,
}

/// How many times over sending and importing what was planned counts as progress.
const WASTE: u64 = 4;
/// Bytes that count as progress however little was planned: what was thought to be there may have to be sent too.
const ALLOWANCE: u64 = 64 << 20;

/// By blob: bytes that this run sent, and bytes from which it went on that it had not sent itself.
type Parts = BTreeMap<Digest, (u64, u64)>;

impl Tally {
    /// Notes what is planned; the first plan counts.
    pub(super) fn plan(&mut self, plan: &NodePlan) {
        self.runs = Some((plan.platform.clone(), plan.runtime.clone()));
        self.bytes_skipped.get_or_insert(plan.bytes_skipped);
        let staged = plan.skipped.iter().filter(|s| s.reason == Have::Staged).map(|s| s.size);
        self.staged.get_or_insert(staged.sum());
        self.planned.get_or_insert((plan.bytes, plan.to_import().count() as u64));
    }

    /// Adds what a round did.
    pub(super) fn add(&mut self, moved: &Moved, blobs: u64, images: u64) {
        self.bytes_sent += moved.bytes.load(Ordering::Relaxed);
        self.parts = std::mem::take(&mut *moved.parts());
        self.blobs_sent += blobs;
        self.images += images;
    }

    /// Bytes that earlier runs had brought.
    pub(super) fn bytes_resumed(&self) -> u64 {
        self.staged.unwrap_or(0) + self.parts.values().map(|&(_, resumed)| resumed).sum::<u64>()
    }

    /// Grows whenever something was achieved, but not for ever: a node that loses what it was sent with every
    /// connection would be tried without end.
    pub(super) fn progress(&self) -> u64 {
        let (bytes, images) = self.planned.unwrap_or_default();
        let bytes = self.bytes_sent.min(bytes.saturating_mul(WASTE).max(ALLOWANCE));
        bytes.saturating_add(self.images.min(images.saturating_mul(WASTE)))
    }
}

/// Counts what crosses the wire, also of blobs that do not come to their end: whether an attempt brought a node
/// further decides about the next.
pub(super) struct Moved {
    events: Events,
    bytes: AtomicU64,
    parts: Mutex<Parts>,
}

impl Moved {
    /// Goes on from what earlier rounds counted.
    pub(super) fn new(events: &Events, tally: &mut Tally) -> Self {
        let parts = Mutex::new(std::mem::take(&mut tally.parts));
        Self { events: Arc::clone(events), bytes: AtomicU64::new(0), parts }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Moved {
    fn emit(&self, event: Event) {
        match &event {
            // What was resumed is reported as progress too, right after this.
            Event::Resumed { offset, digest, .. } => {
                self.bytes.fetch_sub(*offset, Ordering::Relaxed);
                let mut parts = self.parts();
                let (sent, resumed) = parts.entry(digest.clone()).or_default();
                *resumed = offset.saturating_sub(*sent).max(*resumed);
                *sent = sent.saturating_sub(*offset);
            }
            Event::TransferProgress { bytes, digest, .. } => {
                self.bytes.fetch_add(*bytes, Ordering::Relaxed);
                self.parts().entry(digest.clone()).or_default().0 += bytes;
            }
            _ => {}
        }
        self.events.emit(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_and_sent_again_and_again_is_no_progress() {
        let planned = Some((1 << 30, 3));
        let at = |bytes_sent, images| Tally { bytes_sent, images, planned, ..Tally::default() }.progress();
        assert!(at(1, 0) > at(0, 0) && at(2 << 30, 0) > at(1 << 30, 0) && at(0, 1) > at(0, 0));
        assert_eq!(at(5 << 30, 30), at(50 << 30, 300));
    }

    #[test]
    fn only_what_earlier_runs_brought_is_resumed() {
        let mut tally = Tally::default();
        let digest = Digest::sha256(b"x");
        let round = |tally: &mut Tally, offset: u64, sent: u64| {
            let moved = Moved::new(&crate::event::silent(), tally);
            if offset > 0 {
                moved.emit(Event::Resumed { node: None, digest: digest.clone(), offset });
                moved.emit(Event::TransferProgress { node: None, digest: digest.clone(), bytes: offset });
            }
            moved.emit(Event::TransferProgress { node: None, digest: digest.clone(), bytes: sent });
            tally.add(&moved, 0, 0);
        };
        // 8 were there; 7 of the 10 that were sent arrived; then the rest.
        round(&mut tally, 8, 10);
        assert_eq!((tally.bytes_sent, tally.bytes_resumed()), (10, 8));
        round(&mut tally, 15, 5);
        assert_eq!((tally.bytes_sent, tally.bytes_resumed()), (15, 8));
    }
}

//! How much is on the way to all nodes together: what a node has not acknowledged yet is held in memory, and many nodes on
//! a slow link would otherwise hold what few nodes need to be kept busy, each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SMALLEST;

/// Bytes without an answer, of all blobs together, where few are on the way. Four blobs at once, as to one node, have more than a
/// channel's window takes; so have the eight of two nodes, nearly.
const UNANSWERED: usize = 12 << 20;
/// Up to so many blobs are few.
const FEW: usize = 8;
/// The same where many are on the way. All nodes together keep a link of 1 Gbit/s with 50 ms of round trip busy with that; what is more
/// only waits, and each byte of it is held in memory about twice, as data and in the packets of SSH.
const UNANSWERED_MANY: usize = 6 << 20;

/// How many blobs are on their way to any node.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    blobs: AtomicUsize,
}

impl Flow {
    /// Counts one more until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Turn {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        Turn(Arc::clone(self))
    }
}

/// One blob's part in the [`Flow`].
pub(super) struct Turn(Arc<Flow>);

impl Turn {
    /// Bytes that this blob may have without an answer now. Nobody waits for anybody else, so that a node which hangs slows
    /// the others down by its own part only; two small writes are always allowed.
    pub(super) fn share(&self) -> usize {
        let blobs = self.0.blobs.load(Ordering::Relaxed).max(1);
        let together = (UNANSWERED * FEW / blobs).clamp(UNANSWERED_MANY, UNANSWERED);
        (together / blobs).max(2 * SMALLEST)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.blobs.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_have_much_and_many_share() {
        let flow = Arc::<Flow>::default();
        let first = flow.enter();
        assert_eq!(first.share(), UNANSWERED);
        let lanes: Vec<Turn> = (0..3).map(|_| flow.enter()).collect();
        assert_eq!(first.share(), 3 << 20, "a node alone: more than the 2 MiB of a channel's window");
        drop(lanes);
        let mut shares = Vec::new();
        let mut more = Vec::new();
        while more.len() < 61 {
            more.push(flow.enter());
            shares.push(first.share());
        }
        assert!(shares.is_sorted_by(|a, b| a >= b), "one more never gives anybody more: {shares:?}");
        assert_eq!(first.share(), UNANSWERED_MANY / 62, "50 nodes, with 12 blobs beside their first");
        let crowd: Vec<Turn> = (0..1000).map(|_| flow.enter()).collect();
        assert_eq!(first.share(), 2 * SMALLEST);
        drop((more, crowd));
        assert_eq!(first.share(), UNANSWERED);
    }
}

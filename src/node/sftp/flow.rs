//! How much is on the way to all nodes together: what a node has not acknowledged yet is held in memory, and many nodes on
//! a slow link would otherwise hold what few nodes need to be kept busy, each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SMALLEST;

/// Bytes without an answer, of all blobs together. Four blobs at once, as to one node, have more than a channel's window takes.
const UNANSWERED: usize = 12 << 20;

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
        (UNANSWERED / self.0.blobs.load(Ordering::Relaxed).max(1)).max(2 * SMALLEST)
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
        let more: Vec<Turn> = (0..63).map(|_| flow.enter()).collect();
        assert_eq!(first.share(), UNANSWERED / 64);
        let crowd: Vec<Turn> = (0..1000).map(|_| flow.enter()).collect();
        assert_eq!(first.share(), 2 * SMALLEST);
        drop((more, crowd));
        assert_eq!(first.share(), UNANSWERED);
    }
}

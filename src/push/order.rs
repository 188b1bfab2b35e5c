//! In which order images are sent, so that sending and importing overlap: two machines, the link and the node's runtime,
//! through which every image goes one after the other. Johnson's rule gives the shortest schedule: where the link is the
//! quicker one, small images first (the import has something to do soon); where it is the slower one, big ones first (little is
//! left to import when the last byte has arrived). Where several images can be imported at once, what comes first is what can
//! be imported beside those on the way, so that the runtime does not wait for one of them; of such the biggest, which would be the last to end.

use std::time::Duration;

/// Bytes a second at which a runtime imports packed layers, until it is known better.
const USUAL_IMPORT: f64 = 30e6;
/// How many seconds of measuring that guess is worth.
const TRUST: f64 = 2.0;
/// Seconds that an import takes however small the image.
const IMPORT_START: f64 = 0.2;
/// Less than this tells nothing about a link, in bytes.
const TELLING: u64 = 1 << 20;

/// What was measured so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speeds {
    sent: u64,
    sending: Duration,
    imported: u64,
    importing: Duration,
    imports: u32,
}

impl Speeds {
    /// Bytes that crossed the link in a time in which it was not idle.
    pub(super) fn sent(&mut self, bytes: u64, busy: Duration) {
        self.sent = self.sent.saturating_add(bytes);
        self.sending += busy;
    }

    /// Bytes of blobs that one import took in.
    pub(super) fn imported(&mut self, bytes: u64, took: Duration) {
        self.imported = self.imported.saturating_add(bytes);
        self.importing += took;
        self.imports += 1;
    }

    /// Whether the link is slower than the runtime; `None` while nobody can tell.
    fn slow_link(&self) -> Option<bool> {
        if self.sent < TELLING || self.sending.is_zero() {
            return None;
        }
        let link = self.sent as f64 / self.sending.as_secs_f64();
        let busy = (self.importing.as_secs_f64() - IMPORT_START * f64::from(self.imports)).max(0.0);
        let import = (USUAL_IMPORT * TRUST + self.imported as f64) / (TRUST + busy);
        Some(link < import)
    }
}

/// An image that is to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Its place in the plan.
    pub(super) at: usize,
    /// How many bytes it still needs.
    pub(super) bytes: u64,
    /// It can be imported at the same time as what is on the way, and something is.
    pub(super) beside: bool,
}

/// Which of the images is sent next. What needs no bytes comes first: it only has to be imported.
pub(super) fn next(left: impl Iterator<Item = Left>, speeds: &Speeds) -> Option<usize> {
    let big_first = speeds.slow_link().unwrap_or(false);
    // The plan's order decides between equals.
    let key = |left: &Left| match (left.bytes, big_first, left.beside) {
        (0, ..) => (0, 0, left.at),
        (n, false, true) => (1, u64::MAX - n, left.at),
        (n, false, false) => (2, n, left.at),
        (n, true, _) => (2, u64::MAX - n, left.at),
    };
    left.min_by_key(key).map(|left| left.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sizes: &[u64], speeds: &Speeds) -> Vec<usize> {
        beside(sizes, &[], speeds)
    }

    /// The same where these can be imported beside whatever is on the way.
    fn beside(sizes: &[u64], beside: &[usize], speeds: &Speeds) -> Vec<usize> {
        let of = |(at, &bytes): (usize, &u64)| Left { at, bytes, beside: beside.contains(&at) };
        let mut left: Vec<Left> = sizes.iter().enumerate().map(of).collect();
        let mut order = Vec::new();
        while let Some(at) = next(left.iter().copied(), speeds) {
            left.retain(|l| l.at != at);
            order.push(at);
        }
        order
    }

    #[test]
    fn a_runtime_that_can_import_two_is_sent_what_it_can_import() {
        let sizes = [30, 60, 0, 90, 20];
        let mut speeds = Speeds::default();
        assert_eq!(beside(&sizes, &[1, 3], &speeds), [2, 3, 1, 4, 0]);
        speeds.sent(2 << 20, Duration::from_secs(10));
        assert_eq!(beside(&sizes, &[1, 4], &speeds), [2, 3, 1, 0, 4], "the link decides when all ends");
    }

    #[test]
    fn the_slower_of_link_and_runtime_decides() {
        let sizes = [30 << 20, 0, 90 << 20, 10 << 20, 10 << 20];
        let mut speeds = Speeds::default();
        assert_eq!(order(&sizes, &speeds), [1, 3, 4, 0, 2], "nothing is known");
        speeds.sent(500 << 10, Duration::from_secs(1));
        assert_eq!(order(&sizes, &speeds), [1, 3, 4, 0, 2], "too little is known");
        speeds.sent(30 << 20, Duration::from_secs(2));
        assert_eq!(order(&sizes, &speeds), [1, 2, 0, 3, 4], "a slow link");
        let mut lan = Speeds::default();
        lan.sent(30 << 20, Duration::from_millis(100));
        assert_eq!(order(&sizes, &lan), [1, 3, 4, 0, 2]);
        // A runtime that is slower still.
        speeds.imported(20 << 20, Duration::from_secs(10));
        assert_eq!(order(&sizes, &speeds), [1, 3, 4, 0, 2]);
    }

    #[test]
    fn small_imports_say_little_about_a_runtime() {
        let mut speeds = Speeds::default();
        speeds.sent(5 << 20, Duration::from_millis(250));
        for _ in 0..5 {
            speeds.imported(10_000, Duration::from_millis(220));
        }
        assert_eq!(speeds.slow_link(), Some(true));
    }
}

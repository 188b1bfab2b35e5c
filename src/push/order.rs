//! In which order images are sent, so that sending and importing overlap: two machines, the link and the node's runtime,
//! through which every image goes one after the other. Johnson's rule gives the shortest schedule: where the link is the
//! quicker one, small images first (the import has something to do soon); where it is the slower one, big ones first (little is
//! left to import when the last byte has arrived).

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

/// Which of the images is sent next, given how many bytes each still needs. What needs none comes first: it only has to be
/// imported.
pub(super) fn next(left: impl Iterator<Item = (usize, u64)>, speeds: &Speeds) -> Option<usize> {
    let big_first = speeds.slow_link().unwrap_or(false);
    // The plan's order decides between equals.
    let key = |(at, bytes): &(usize, u64)| match (bytes, big_first) {
        (0, _) => (0, 0, *at),
        (n, false) => (1, *n, *at),
        (n, true) => (1, u64::MAX - n, *at),
    };
    left.min_by_key(key).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sizes: &[u64], speeds: &Speeds) -> Vec<usize> {
        let mut left: Vec<(usize, u64)> = sizes.iter().copied().enumerate().collect();
        let mut order = Vec::new();
        while let Some(at) = next(left.iter().copied(), speeds) {
            left.retain(|(i, _)| *i != at);
            order.push(at);
        }
        order
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

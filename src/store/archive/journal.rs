//! What a run that is writing `OUT.partial` knows, in `OUT.partial.journal`, so that the next one need not hash
//! everything again.
//!
//! ```text
//! omk-archive 1 LAYOUT BOOT
//! at DIGEST BYTES
//! done DIGEST
//! ```
//!
//! Nothing here is synced. A process that dies leaves its writes to the kernel, so the journal may be believed while
//! the same kernel runs; after a reboot (another BOOT) what it calls done is hashed before it is believed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::oci::Digest;
use crate::store::StoreError;

const MAGIC: &str = "omk-archive 1";
/// A line is under 100 bytes; a bundle of 10,000 blobs with a note every 16 MiB stays far below this.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<File>,
    known: BTreeMap<Digest, Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    At(u64),
    Done,
}

/// Whose journal was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// It tells of the layout that is to be written.
    pub(super) same: bool,
    /// The kernel that took the bytes still runs.
    pub(super) trusted: bool,
}

impl Journal {
    /// Reads what is there.
    pub(super) fn open(path: &Path, layout: &Digest) -> Result<(Self, Option<Found>), StoreError> {
        let text = match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() && meta.len() <= MAX_BYTES => {
                String::from_utf8_lossy(&std::fs::read(path).map_err(StoreError::io("read", path))?)
                    .into_owned()
            }
            _ => String::new(),
        };
        let (known, found) = match parse(&text, layout, &boot()) {
            Some((known, found)) => (known, Some(found)),
            None => (BTreeMap::new(), None),
        };
        let state = Mutex::new(State { file: None, known });
        Ok((Self { path: path.to_owned(), state }, found))
    }

    /// Begins a new one.
    pub(super) fn start(&self, layout: &Digest) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.known.clear();
        let mut file = File::create(&self.path).map_err(StoreError::io("create", &self.path))?;
        let head = format!("{MAGIC} {layout} {}\n", boot());
        file.write_all(head.as_bytes()).map_err(StoreError::io("write", &self.path))?;
        state.file = Some(file);
        Ok(())
    }

    pub(super) fn note(&self, digest: &Digest, bytes: u64) -> Result<(), StoreError> {
        self.append(digest, Progress::At(bytes), &format!("at {digest} {bytes}\n"))
    }

    pub(super) fn complete(&self, digest: &Digest) -> Result<(), StoreError> {
        self.append(digest, Progress::Done, &format!("done {digest}\n"))
    }

    pub(super) fn offset(&self, digest: &Digest) -> u64 {
        match self.lock().known.get(digest) {
            Some(Progress::At(bytes)) => *bytes,
            // Done and asked for again: it was found damaged.
            Some(Progress::Done) | None => 0,
        }
    }

    pub(super) fn done(&self) -> Vec<Digest> {
        let done = |(digest, p): (&Digest, &Progress)| (*p == Progress::Done).then(|| digest.clone());
        self.lock().known.iter().filter_map(done).collect()
    }

    /// Whether there is one on the disk.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    pub(super) fn remove(&self) -> Result<(), StoreError> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &self.path)(e))
            }
            _ => Ok(()),
        }
    }

    fn append(&self, digest: &Digest, progress: Progress, line: &str) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.file.is_none() {
            let opened = OpenOptions::new().append(true).open(&self.path);
            let mut file = opened.map_err(StoreError::io("write", &self.path))?;
            // The last line may be torn.
            file.write_all(b"\n").map_err(StoreError::io("write", &self.path))?;
            state.file = Some(file);
        }
        if let Some(file) = &mut state.file {
            file.write_all(line.as_bytes()).map_err(StoreError::io("write", &self.path))?;
        }
        state.known.insert(digest.clone(), progress);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes with every boot; empty where the kernel does not tell, and then nothing is trusted.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn parse(text: &str, layout: &Digest, boot: &str) -> Option<(BTreeMap<Digest, Progress>, Found)> {
    let mut lines = text.lines();
    let head = lines.next()?.strip_prefix(MAGIC)?;
    let mut words = head.split_whitespace();
    let same = words.next()?.parse::<Digest>().ok()? == *layout;
    let trusted = words.next().is_some_and(|w| w == boot && !boot.is_empty());
    let mut known = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let entry = match words.as_slice() {
            ["at", digest, bytes] => digest.parse().ok().zip(bytes.parse().ok().map(Progress::At)),
            ["done", digest] => digest.parse().ok().map(|d| (d, Progress::Done)),
            // A torn or foreign line says nothing.
            _ => None,
        };
        if let Some((digest, progress)) = entry {
            known.insert(digest, progress);
        }
    }
    Some((known, Found { same, trusted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_torn_lines_do_not() {
        let (layout, a, b) = (Digest::sha256(b"l"), Digest::sha256(b"a"), Digest::sha256(b"b"));
        let text = format!(
            "{MAGIC} {layout} boot\nat {a} 10\nat {a} 20\ndone {b}\n\nat {b}\nat {a} 2x\ndone sha256:12"
        );
        let (known, found) = parse(&text, &layout, "boot").unwrap();
        assert_eq!(found, Found { same: true, trusted: true });
        assert_eq!((known[&a], known[&b]), (Progress::At(20), Progress::Done));
        assert!(!parse(&text, &layout, "other boot").unwrap().1.trusted);
        assert!(!parse(&text, &layout, "").unwrap().1.trusted);
        assert!(!parse(&text, &b, "boot").unwrap().1.same);
        assert!(parse("something else", &b, "boot").is_none());
        assert!(parse("", &layout, "boot").is_none());
    }
}

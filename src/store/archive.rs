//! An OCI image layout in one uncompressed tar file, written in place and read in place.
//!
//! The sizes of all entries are known before the first byte of a blob arrives, so the whole file is laid out first
//! ([`Layout`]) and blobs are written straight to where they belong, several at once: every byte is written once,
//! and the file is the same whatever the order in which things arrived. It carries the name `OUT.partial` until all
//! of it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::file::{HashingWriter, OpenFile, parent, room, sync_folder};
use super::{BlobSource, BlobStore, ByteStream, Ingest, StoreError};
use crate::oci::{Algorithm, Descriptor, Digest, Hasher};

mod journal;
mod leftover;
mod scan;
mod stamp;

use journal::{Found, Journal};
pub use leftover::Leftover;
pub use scan::{Archive, ArchiveError, EntryProblem};
pub use stamp::Stamp;

const BLOCK: u64 = 512;
/// Between two notes in the journal about the same blob.
const NOTE_EVERY: u64 = 16 << 20;

/// Where everything stands in a tar file. Pure: the same entries give the same layout.
#[derive(Debug, Clone)]
pub struct Layout {
    entries: Vec<Placed>,
    total: u64,
}

#[derive(Debug, Clone)]
struct Placed {
    path: String,
    header: u64,
    size: u64,
}

impl Placed {
    fn data(&self) -> u64 {
        self.header.saturating_add(BLOCK)
    }
}

impl Layout {
    /// For entries (path, size in bytes) in this order. Paths are at most 100 bytes, as `blobs/sha256/HEX` is.
    pub fn new(entries: impl IntoIterator<Item = (String, u64)>) -> Self {
        let mut at = 0u64;
        let mut placed = Vec::new();
        for (path, size) in entries {
            placed.push(Placed { path, header: at, size });
            // Sizes are a registry's word: what overflows is more than any disk has, and is refused as that.
            at = at
                .saturating_add(BLOCK)
                .saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX));
        }
        // Two empty blocks end an archive (POSIX pax, "ustar Interchange Format").
        Self { entries: placed, total: at.saturating_add(2 * BLOCK) }
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.total
    }

    fn header(entry: &Placed) -> Result<tar::Header, StoreError> {
        let mut header = tar::Header::new_gnu();
        header.set_path(&entry.path).map_err(StoreError::io("name an entry", &entry.path))?;
        fill(&mut header, entry.size);
        Ok(header)
    }

    /// Two runs with the same identity write the same file, so one can go on where the other stopped.
    fn identity(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for e in &self.entries {
            hasher.update(format!("{} {}\n", e.path, e.size).as_bytes());
        }
        hasher.finish()
    }
}

/// Everything that could differ from one run to the next is nothing.
fn fill(header: &mut tar::Header, size: u64) {
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
}

/// What stands before the bytes of an entry. A path that no header holds comes before it, in GNU's way.
///
/// # Errors
/// When the path is not one, as one that leads upwards.
pub(crate) fn header(path: &str, size: u64) -> Result<Vec<u8>, StoreError> {
    let mut header = tar::Header::new_gnu();
    let mut bytes = Vec::new();
    if path.len() > 100 {
        let mut long = tar::Header::new_gnu();
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_path("././@LongLink").map_err(StoreError::io("name an entry", path))?;
        fill(&mut long, path.len() as u64 + 1);
        bytes.extend_from_slice(long.as_bytes());
        bytes.extend_from_slice(path.as_bytes());
        bytes.resize(bytes.len() + padding(path.len() as u64 + 1) + 1, 0);
        let short: String = path.chars().filter(char::is_ascii).take(100).collect();
        header.set_path(short).map_err(StoreError::io("name an entry", path))?;
    } else {
        header.set_path(path).map_err(StoreError::io("name an entry", path))?;
    }
    fill(&mut header, size);
    bytes.extend_from_slice(header.as_bytes());
    Ok(bytes)
}

/// Bytes from the end of an entry to the next header.
pub(crate) fn padding(size: u64) -> usize {
    usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0)
}

/// A tar file being written: a blob store whose blobs are entries of the layout.
pub struct ArchiveWriter {
    target: OpenFile,
    file: Arc<std::fs::File>,
    out: PathBuf,
    layout: Layout,
    places: BTreeMap<Digest, Placed>,
    journal: Arc<Journal>,
    done: Done,
    seen: Stamp,
    texts: Vec<(String, Vec<u8>)>,
    leftover: Option<Arc<Leftover>>,
}

/// The blobs that are complete in the file.
type Done = Arc<Mutex<BTreeSet<Digest>>>;

impl std::fmt::Debug for ArchiveWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWriter").field("out", &self.out).finish_non_exhaustive()
    }
}

/// What was found when a file was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing of use.
    Fresh,
    /// A file of another layout: its content was thrown away.
    Replaced,
    /// A file of another layout whose blobs can be had from [`ArchiveWriter::leftover`].
    Salvaged,
    /// The same file, in part.
    Resumed,
}

impl ArchiveWriter {
    /// Begins `out`, or goes on with what an interrupted run with the same layout left beside it. Entries that are
    /// no blobs are given with their bytes and written at once. Blocks on the file system.
    ///
    /// `seen` is what stood at `out` when the caller decided that it may be replaced: only that is.
    ///
    /// # Errors
    /// When another process writes the same file or wrote it since `seen`, the disk is too small, or the file system
    /// says no. Nothing new is left beside `out` then.
    pub fn begin(
        out: &Path,
        seen: Stamp,
        layout: Layout,
        blobs: &[Descriptor],
        texts: &[(String, Vec<u8>)],
    ) -> Result<(Self, Begun), StoreError> {
        let by_path: BTreeMap<String, Placed> =
            layout.entries.iter().map(|e| (e.path.clone(), e.clone())).collect();
        let place = |name: &str| {
            let text = format!("{name} has no place in the layout of {}", out.display());
            by_path.get(name).cloned().ok_or(StoreError::Remote(text))
        };
        let mut places = BTreeMap::new();
        for blob in blobs {
            places.insert(blob.digest().clone(), place(&blob.digest().layout_path())?);
        }
        texts.iter().try_for_each(|(name, _)| place(name).map(drop))?;
        let path = with_suffix(out, ".partial");
        let file = super::folder::open_locked(&path)?;
        let file = Arc::new(file);
        let target = OpenFile::new(Arc::clone(&file), path);
        let (journal, found) = Journal::open(&with_suffix(out, ".partial.journal"), &layout.identity())?;
        let mut writer = Self {
            target,
            file,
            out: out.to_owned(),
            layout,
            places,
            journal: Arc::new(journal),
            done: Done::default(),
            seen,
            texts: texts.to_vec(),
            leftover: None,
        };
        if found.is_none() {
            writer.refuse_foreign()?;
        }
        let begun = writer.start(found);
        if begun.is_err() && !writer.journal.is_there() {
            // Still under its lock, and of no use to any run: the error that is returned matters more.
            let _ = std::fs::remove_file(&writer.target.path);
        }
        let begun = begun?;
        Ok((writer, begun))
    }

    fn start(&mut self, found: Option<Found>) -> Result<Begun, StoreError> {
        self.unchanged()?;
        let meta = self.file.metadata().map_err(StoreError::io("read", &self.target.path))?;
        let begun = match found {
            Some(Found { same: true, trusted }) if meta.len() == self.layout.total => {
                room(&self.target.path, self.layout.total, allocated(&meta))?;
                self.recover(trusted)?;
                Begun::Resumed
            }
            _ if meta.len() == 0 => {
                self.lay_out()?;
                Begun::Fresh
            }
            Some(_) if self.set_aside()? => {
                self.lay_out()?;
                Begun::Salvaged
            }
            _ => {
                room(&self.target.path, self.layout.total, allocated(&meta))?;
                self.lay_out()?;
                Begun::Replaced
            }
        };
        for (name, bytes) in &self.texts {
            if let Some(entry) = self.layout.entries.iter().find(|e| e.path == *name) {
                self.write_at(bytes, entry.data())?;
            }
        }
        Ok(begun)
    }

    /// Without a journal only an empty file, or one that begins as this one will, can be an interrupted run's.
    fn refuse_foreign(&self) -> Result<(), StoreError> {
        use std::io::Read as _;
        let mut head = Vec::new();
        let read = (&*self.file).take(BLOCK).read_to_end(&mut head);
        read.map_err(StoreError::io("read", &self.target.path))?;
        let mine = self.layout.entries.first().map(|e| format!("{}\0", e.path)).unwrap_or_default();
        if head.iter().all(|b| *b == 0) || head.starts_with(mine.as_bytes()) {
            return Ok(());
        }
        let path = self.target.path.display();
        let text = format!("{path} is in the way and was not left by omk; move it or choose another output");
        Err(StoreError::Remote(text))
    }

    /// That nobody else finished the file since the caller looked: then one of two builds would report success for a
    /// file that holds the other's images. The same content is no harm. Holds until the lock is let go.
    fn unchanged(&self) -> Result<(), StoreError> {
        if Stamp::of(&self.out)? == self.seen {
            return Ok(());
        }
        match Archive::open(&self.out) {
            Ok(found) if found.is_as_planned(&self.layout, &self.texts) => Ok(()),
            _ => Err(StoreError::Remote(format!(
                "{} was written by somebody else while this build ran and holds something else; choose another \
                 output, or build again to replace it",
                self.out.display()
            ))),
        }
    }

    /// Puts a new file in the place of one of another layout whose blobs are of use, which stays open and goes away
    /// when this process ends. Not when the disk has no room for both.
    fn set_aside(&mut self) -> Result<bool, StoreError> {
        let wanted = self.journal.done().into_iter().filter(|d| self.places.contains_key(d)).collect();
        let Some(leftover) = Leftover::new(&self.target, wanted) else { return Ok(false) };
        if room(&self.target.path, self.layout.total, 0).is_err() {
            return Ok(false);
        }
        // Locked before it gets the name that others wait for, so there is no moment without a lock.
        let fresh = with_suffix(&self.out, ".partial.new");
        let file = super::folder::open_locked(&fresh)?;
        let renamed = file.set_len(0).and_then(|()| std::fs::rename(&fresh, &self.target.path));
        renamed.map_err(StoreError::io("rename to", &self.target.path))?;
        self.file = Arc::new(file);
        self.target = OpenFile::new(Arc::clone(&self.file), self.target.path.clone());
        self.leftover = Some(Arc::new(leftover));
        Ok(true)
    }

    /// What an interrupted run of another layout left, as long as it is open: see [`Begun::Salvaged`].
    pub fn leftover(&self) -> Option<&Arc<Leftover>> {
        self.leftover.as_ref()
    }

    /// A new file: its full length, all headers. What was in it is gone first, so that a digest can never match
    /// stale bytes; the journal of what was in it is gone before that, so that no run can believe it.
    fn lay_out(&self) -> Result<(), StoreError> {
        self.journal.remove()?;
        let sizing = |n: u64| self.file.set_len(n).map_err(StoreError::io("write", &self.target.path));
        sizing(0)?;
        room(&self.target.path, self.layout.total, 0)?;
        sizing(self.layout.total)?;
        for entry in &self.layout.entries {
            self.write_at(Layout::header(entry)?.as_bytes(), entry.header)?;
        }
        self.journal.start(&self.layout.identity())
    }

    /// Blobs that the journal calls done are, if the kernel that took their bytes still runs; else they are hashed,
    /// because they were never synced one by one.
    fn recover(&self, trusted: bool) -> Result<(), StoreError> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in self.journal.done() {
            let Some(place) = self.places.get(&digest) else { continue };
            if !trusted {
                let mut hasher = Hasher::new(digest.algorithm());
                self.target.hash(place.data(), place.size, &mut hasher)?;
                if hasher.finish() != digest {
                    self.journal.note(&digest, 0)?;
                    continue;
                }
            }
            done.insert(digest);
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        self.target.write_all_at(bytes, at)
    }

    /// Makes the file durable and gives it its name. Blocks.
    ///
    /// # Errors
    /// When a blob is not complete, or the file system's.
    pub fn finish(&self) -> Result<(), StoreError> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = self.places.keys().find(|d| !done.contains(*d)) {
            let store = self.target.path.display().to_string();
            return Err(StoreError::NotFound { digest: digest.clone(), store });
        }
        self.file.sync_all().map_err(StoreError::io("sync", &self.target.path))?;
        self.unchanged()?;
        // Before the rename: after it the next run may begin, and the journal would be that one's.
        self.journal.remove()?;
        std::fs::rename(&self.target.path, &self.out).map_err(StoreError::io("rename to", &self.out))?;
        sync_folder(parent(&self.out))
    }

    fn place(&self, digest: &Digest) -> Option<&Placed> {
        self.places.get(digest)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn allocated(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    // st_blocks counts in 512 bytes whatever the file system's blocks are (stat(2)).
    meta.blocks().saturating_mul(512)
}

#[async_trait]
impl BlobSource for ArchiveWriter {
    fn label(&self) -> String {
        self.out.display().to_string()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(done.get(digest).and_then(|d| self.place(d)).map(|p| p.size))
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let digest = blob.digest();
        let place = match self.size(digest).await? {
            Some(size) if range.end <= size => self.place(digest),
            _ => None,
        };
        let missing = || StoreError::NotFound { digest: digest.clone(), store: self.label() };
        let start = place.ok_or_else(missing)?.data() + range.start;
        Ok(self.target.stream(start, range.end.saturating_sub(range.start)))
    }
}

#[async_trait]
impl BlobStore for ArchiveWriter {
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError> {
        let missing = || StoreError::NotFound { digest: blob.digest().clone(), store: self.label() };
        let place = self.place(blob.digest()).filter(|p| p.size == blob.size()).ok_or_else(missing)?;
        let offset = self.journal.offset(blob.digest()).min(blob.size());
        let writer = HashingWriter::resume(self.target.clone(), blob, place.data(), offset).await?;
        let note = Note {
            digest: blob.digest().clone(),
            journal: Arc::clone(&self.journal),
            noted: offset,
            certain: offset,
        };
        Ok(Box::new(ArchiveIngest { note, writer, offset, done: Arc::clone(&self.done) }))
    }
}

struct ArchiveIngest {
    note: Note,
    writer: HashingWriter,
    offset: u64,
    done: Done,
}

/// How far a blob is. Dropped when a copy is cancelled, it leaves its last word in the journal.
struct Note {
    digest: Digest,
    journal: Arc<Journal>,
    noted: u64,
    certain: u64,
}

impl Note {
    fn write(&mut self) -> Result<(), StoreError> {
        self.noted = self.certain;
        self.journal.note(&self.digest, self.noted)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if self.certain > self.noted {
            // Without the note the next run fetches a little more; nothing is lost.
            let _ = self.write();
        }
    }
}

#[async_trait]
impl Ingest for ArchiveIngest {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.note.certain = self.writer.put(&bytes).await?;
        if self.note.certain - self.note.noted >= NOTE_EVERY {
            self.note.write()?;
        }
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { mut note, writer, done, .. } = *self;
        let checked = writer.finish().await;
        if let Err(StoreError::DigestMismatch { .. }) = checked {
            note.certain = 0;
            note.write()?;
        }
        checked?;
        note.noted = note.certain;
        note.journal.complete(&note.digest)?;
        done.lock().unwrap_or_else(PoisonError::into_inner).insert(note.digest.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

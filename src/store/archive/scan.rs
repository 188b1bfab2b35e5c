//! Reading a tar file in place: only the headers are read, blobs stay where they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::super::file::OpenFile;
use super::super::{BlobSource, ByteStream, StoreError};
use super::Layout;
use crate::oci::{Descriptor, Digest};

/// Entries of one archive: a hundred times the largest platform anybody ships.
const MAX_ENTRIES: usize = 1_000_000;
/// A pax header that says no more than a path and a time.
const MAX_PAX_BYTES: u64 = 64 * 1024;

/// A tar file whose entries are known.
#[derive(Debug, Clone)]
pub struct Archive {
    file: OpenFile,
    entries: BTreeMap<String, Range<u64>>,
    problems: Vec<EntryProblem>,
}

/// Why a file is no archive that can be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not a tar file.
    #[error("{} is no tar archive: {reason}", path.display())]
    NotTar {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// Compressed: nothing in it can be read in place.
    #[error("{} is {kind}-compressed; decompress it first: {tool} {}", path.display(), path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// How.
        kind: &'static str,
        /// The command that undoes it and keeps the file.
        tool: &'static str,
    },
    /// More entries than are accepted.
    #[error("{} has more than {MAX_ENTRIES} entries", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
}

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EntryProblem {
    /// As it stands in the archive, control characters replaced.
    pub entry: String,
    /// What is wrong with it.
    pub reason: String,
}

/// First bytes of what a bundle is compressed with, and what decompresses it.
const COMPRESSED: [(&[u8], &str, &str); 4] = [
    (b"\x1f\x8b", "gzip", "gzip -dk"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dk"),
    (b"\xfd7zXZ\0", "xz", "xz -dk"),
    (b"BZh", "bzip2", "bzip2 -dk"),
];

/// Says what a file is that is not a tar file: the tar library would show its bytes.
fn begins_as_tar(file: &File, path: &Path) -> Result<(), ArchiveError> {
    let mut head = Vec::new();
    let mut reader = file;
    reader.rewind().map_err(StoreError::io("read", path))?;
    reader.take(super::BLOCK).read_to_end(&mut head).map_err(StoreError::io("read", path))?;
    if let Some((_, kind, tool)) = COMPRESSED.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(ArchiveError::Compressed { path: path.to_owned(), kind, tool });
    }
    let block = head.len() as u64 == super::BLOCK;
    let reason = match head.as_slice() {
        [] => "it is empty",
        _ if !block => "it is shorter than one header",
        // An old header without the word is found out by its checksum.
        head if head[257..].starts_with(b"ustar") || head.iter().all(|b| *b == 0) => return Ok(()),
        head if tar::Header::from_byte_slice(head).cksum().is_ok_and(|sum| sum == checksum(head)) => {
            return Ok(());
        }
        _ => "it does not begin with a tar header",
    };
    Err(ArchiveError::NotTar { path: path.to_owned(), reason: reason.to_owned() })
}

/// Of a header (POSIX ustar): its own field counts as spaces.
fn checksum(head: &[u8]) -> u32 {
    let byte = |(at, b): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(*b) };
    head.iter().enumerate().map(byte).sum()
}

/// The tar library puts bytes of the file into its messages; what the system says is safe.
fn told(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.to_string(),
        None => "what stands there is no tar header".to_owned(),
    }
}

impl Archive {
    /// Reads the headers. Entries that cannot be used are collected, not skipped silently: see
    /// [`Archive::problems`]. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or is no tar file.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Self::read_headers(OpenFile::open(path)?)
    }

    /// As [`Archive::open`]; the file's own position is of no account and is moved.
    pub(super) fn read_headers(file: OpenFile) -> Result<Self, ArchiveError> {
        let (handle, path) = (Arc::clone(&file.file), file.path.clone());
        let len = handle.metadata().map_err(StoreError::io("read", &path))?.len();
        begins_as_tar(&handle, &path)?;
        let mut this = Self { file, entries: BTreeMap::new(), problems: Vec::new() };
        let mut reader = &*handle;
        reader.rewind().map_err(StoreError::io("read", &path))?;
        let mut archive = tar::Archive::new(reader);
        let not_tar = |e: std::io::Error| ArchiveError::NotTar { path: path.clone(), reason: told(&e) };
        let mut renamed = None;
        let mut seen = 0;
        let mut end = 0u64;
        // Raw: the library would read a pax header or long name of any size into memory.
        for entry in archive.entries_with_seek().map_err(not_tar)?.raw(true) {
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(ArchiveError::TooMany { path });
            }
            let mut entry = match entry {
                Ok(entry) => entry,
                // What came before can be used to name what is missing.
                Err(e) if seen > 1 => {
                    this.problem("(end of archive)", format!("unreadable: {}", told(&e)));
                    break;
                }
                Err(e) => return Err(not_tar(e)),
            };
            let start = entry.raw_file_position();
            let size = entry.header().entry_size().map_err(not_tar)?;
            let kind = entry.header().entry_type();
            end = start.saturating_add(size).div_ceil(super::BLOCK).saturating_mul(super::BLOCK);
            if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
                let mut text = Vec::new();
                entry.by_ref().take(MAX_PAX_BYTES).read_to_end(&mut text).map_err(not_tar)?;
                if size > MAX_PAX_BYTES {
                    this.problem("(pax header)", format!("{size} bytes, more than {MAX_PAX_BYTES}"));
                }
                if kind.is_pax_local_extensions() {
                    renamed = this.pax_path(&text);
                }
                continue;
            }
            let name =
                renamed.take().unwrap_or_else(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned());
            this.entry(&name, kind, start, size, len);
        }
        if this.problems.is_empty() && len < end.saturating_add(super::BLOCK) {
            this.problem("(end of archive)", "cut off: the blocks that end an archive are not there");
        }
        Ok(this)
    }

    fn pax_path(&mut self, text: &[u8]) -> Option<String> {
        let mut path = None;
        for record in tar::PaxExtensions::new(text).flatten() {
            match record.key() {
                Ok("path") => path = record.value().ok().map(str::to_owned),
                Ok("size") => self.problem("(pax header)", "a size record, which is not supported"),
                _ => {}
            }
        }
        path
    }

    fn entry(&mut self, name: &str, kind: tar::EntryType, start: u64, size: u64, len: u64) {
        let clean = name.strip_prefix("./").unwrap_or(name).trim_end_matches('/').to_owned();
        if kind.is_dir() {
            return;
        }
        if !kind.is_file() {
            return self.problem(name, "no regular file: links and devices have no place in a bundle");
        }
        if clean.starts_with('/') || clean.split('/').any(|p| matches!(p, "" | "." | "..")) {
            return self.problem(name, "its path leads out of the archive");
        }
        let end = start.saturating_add(size);
        if end > len {
            self.problem(&clean, format!("cut off: {} of {size} bytes are there", len.saturating_sub(start)));
        }
        if self.entries.insert(clean.clone(), start..end).is_some() {
            self.problem(&clean, "it is there twice, and readers would disagree which one counts");
        }
    }

    fn problem(&mut self, entry: &str, reason: impl Into<String>) {
        let entry = entry.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(200).collect();
        self.problems.push(EntryProblem { entry, reason: reason.into() });
    }

    /// Whether it is what a layout and its texts say, as far as names, sizes and texts tell. Blocks.
    pub(super) fn is_as_planned(&self, layout: &Layout, texts: &[(String, Vec<u8>)]) -> bool {
        let planned = layout.entries.iter().map(|e| (&e.path, e.data()..e.data().saturating_add(e.size)));
        let text = |(name, bytes): &(String, Vec<u8>)| matches!(self.text(name, bytes.len() as u64), Ok(Some(found)) if found == *bytes);
        self.problems.is_empty()
            && self.entries.len() == layout.entries.len()
            && planned.into_iter().all(|(path, range)| self.entries.get(path) == Some(&range))
            && texts.iter().all(text)
    }

    /// Whether there is an entry of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// What cannot be used, in the order in which it stands in the file.
    pub fn problems(&self) -> &[EntryProblem] {
        &self.problems
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Bytes of a small entry; `None` when there is none of this name.
    ///
    /// # Errors
    /// When it has more than `limit` bytes or cannot be read.
    pub fn text(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        use std::os::unix::fs::FileExt as _;
        let Some(range) = self.entries.get(name) else { return Ok(None) };
        let size = range.end - range.start;
        if size > limit {
            let path = self.path().display();
            return Err(StoreError::Remote(format!("{name} in {path} has {size} bytes, more than {limit}")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = self.file.file.read_exact_at(&mut bytes, range.start);
        read.map_err(StoreError::io("read", self.path()))?;
        Ok(Some(bytes))
    }

    /// Every blob with its size in bytes, by the name it has; whether the bytes fit the name is another matter.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let blob = |(path, range): (&String, &Range<u64>)| {
            let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
            Some((format!("{algorithm}:{hex}").parse().ok()?, range.end - range.start))
        };
        self.entries.iter().filter_map(blob).collect()
    }

    /// The size in bytes of a blob, as its header says.
    pub(super) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.entries.get(&digest.layout_path()).map(|r| r.end - r.start)
    }

    /// Hashes a blob. Blocks.
    pub(crate) fn hash(&self, digest: &Digest) -> Result<Digest, StoreError> {
        let missing = || StoreError::NotFound { digest: digest.clone(), store: self.label() };
        let range = self.entries.get(&digest.layout_path()).ok_or_else(missing)?;
        let mut hasher = crate::oci::Hasher::new(digest.algorithm());
        self.file.hash(range.start, range.end - range.start, &mut hasher)?;
        Ok(hasher.finish())
    }
}

#[async_trait]
impl BlobSource for Archive {
    fn label(&self) -> String {
        self.path().display().to_string()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.blob_size(digest))
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let digest = blob.digest();
        let missing = || StoreError::NotFound { digest: digest.clone(), store: self.label() };
        let place = self.entries.get(&digest.layout_path()).ok_or_else(missing)?;
        let size = place.end - place.start;
        if range.end > size {
            let (digest, expected, store) = (digest.clone(), blob.size(), self.label());
            return Err(StoreError::SizeMismatch { digest, expected, found: size, store });
        }
        Ok(self.file.stream(place.start + range.start, range.end.saturating_sub(range.start)))
    }
}

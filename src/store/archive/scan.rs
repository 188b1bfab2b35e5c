//! Reading a tar file in place: only the headers are read, blobs stay where they are.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

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
    links: BTreeMap<String, Link>,
    problems: Vec<EntryProblem>,
}

/// A link to another entry.
#[derive(Debug, Clone)]
struct Link {
    target: String,
    /// Relative to the archive and not to the link.
    hard: bool,
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
fn begins_as_tar(file: &OpenFile) -> Result<(), ArchiveError> {
    let path = &file.path;
    let mut head = Vec::new();
    file.cursor()?.take(super::BLOCK).read_to_end(&mut head).map_err(StoreError::io("read", path))?;
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

/// A name without the `./` that some tools write, and without the slash of a folder.
fn clean(name: &str) -> String {
    name.strip_prefix("./").unwrap_or(name).trim_end_matches('/').to_owned()
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

    /// As [`Archive::open`].
    pub(crate) fn read_headers(file: OpenFile) -> Result<Self, ArchiveError> {
        let (whole, path) = (file.clone(), file.path.clone());
        let len = whole.len()?;
        begins_as_tar(&whole)?;
        let mut this = Self { file, entries: BTreeMap::new(), links: BTreeMap::new(), problems: Vec::new() };
        let mut archive = tar::Archive::new(whole.cursor()?);
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
            if kind.is_gnu_longname() && size <= MAX_PAX_BYTES {
                let mut text = Vec::new();
                entry.by_ref().take(size).read_to_end(&mut text).map_err(not_tar)?;
                let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
                renamed = Some(String::from_utf8_lossy(&text[..end]).into_owned());
                continue;
            }
            let name =
                renamed.take().unwrap_or_else(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned());
            if kind.is_symlink() || kind.is_hard_link() {
                this.link(&name, entry.link_name_bytes().as_deref(), kind.is_hard_link());
            }
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
        let clean = clean(name);
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

    fn link(&mut self, name: &str, target: Option<&[u8]>, hard: bool) {
        if let Some(target) = target.and_then(|t| std::str::from_utf8(t).ok()) {
            self.links.insert(clean(name), Link { target: target.to_owned(), hard });
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
        let Some(range) = self.entries.get(name) else { return Ok(None) };
        let size = range.end - range.start;
        if size > limit {
            let path = self.path().display();
            return Err(StoreError::Remote(format!("{name} in {path} has {size} bytes, more than {limit}")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(Some(bytes))
    }

    /// Where a blob stands in the file.
    pub(crate) fn place(&self, digest: &Digest) -> Option<Range<u64>> {
        self.entries.get(&digest.layout_path()).cloned()
    }

    /// Every entry that is a regular file, with its bytes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, u64)> {
        self.entries.iter().map(|(name, range)| (name.as_str(), range.end - range.start))
    }

    /// Bytes of an entry.
    pub(crate) fn entry_size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|range| range.end - range.start)
    }

    /// The entry that a name stands for when links are followed: within the archive, to a regular file, four times at
    /// most.
    pub(crate) fn follow(&self, name: &str) -> Option<&str> {
        let mut name = clean(name);
        for _ in 0..4 {
            if let Some((entry, _)) = self.entries.get_key_value(&name) {
                return Some(entry);
            }
            let link = self.links.get(&name)?;
            let mut at: Vec<&str> = if link.hard { Vec::new() } else { name.split('/').collect() };
            at.pop();
            for part in link.target.split('/') {
                match part {
                    "." => {}
                    ".." => drop(at.pop()?),
                    "" => return None,
                    part => at.push(part),
                }
            }
            name = at.join("/");
        }
        None
    }

    /// The first `len` bytes of an entry, or as many as it has.
    pub(crate) fn head(&self, name: &str, len: u64) -> Result<Vec<u8>, StoreError> {
        let range = self.entries.get(name).cloned().unwrap_or_default();
        let mut bytes = vec![0; usize::try_from(len.min(range.end - range.start)).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }

    /// The bytes of a part of an entry; `None` when the entry is not there or shorter.
    pub(crate) fn stream(&self, name: &str, range: Range<u64>) -> Option<ByteStream> {
        let place = self.entries.get(name)?;
        let fits = range.start <= range.end && range.end <= place.end - place.start;
        fits.then(|| self.file.stream(place.start + range.start, range.end - range.start))
    }

    /// Hashes an entry; `None` when it is not there. Blocks.
    pub(crate) fn hash_entry(
        &self,
        name: &str,
        mut hasher: crate::oci::Hasher,
    ) -> Result<Option<Digest>, StoreError> {
        let Some(range) = self.entries.get(name) else { return Ok(None) };
        self.file.hash(range.start, range.end - range.start, &mut hasher)?;
        Ok(Some(hasher.finish()))
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
        let hasher = crate::oci::Hasher::new(digest.algorithm());
        self.hash_entry(&digest.layout_path(), hasher)?.ok_or_else(missing)
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

use std::fs::{File, OpenOptions, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::file::{HashingWriter, OpenFile, blocking, sync_folder};
use super::{BlobSource, BlobStore, ByteStream, Ingest, StoreError};
use crate::oci::{Descriptor, Digest, Hasher};

/// A folder in the form of an OCI image layout: `blobs/sha256/HEX`.
///
/// A blob being written is `partial/HEX`; its length says how far it is, because it is written front to back. What
/// a crash left there is read back into the hash when the blob is resumed, so nothing in it is believed.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: PathBuf,
}

/// Where partial blobs live below the root.
const PARTIAL: &str = "partial";

impl FolderStore {
    /// A folder that may or may not have blobs yet; nothing is created before something is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that holds `blobs/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what interrupted runs left; anything else in their folder, and then the folder, stays.
    ///
    /// # Errors
    /// The file system's.
    pub fn discard_partial(&self) -> Result<(), StoreError> {
        use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
        let folder = self.root.join(PARTIAL);
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == NotFound => return Ok(()),
            entries => entries.map_err(StoreError::io("read", &folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &folder))?;
            let hex = entry.file_name().to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_hexdigit()));
            if hex {
                std::fs::remove_file(entry.path()).map_err(StoreError::io("remove", entry.path()))?;
            }
        }
        match std::fs::remove_dir(&folder) {
            Err(e) if !matches!(e.kind(), NotFound | DirectoryNotEmpty) => {
                Err(StoreError::io("remove", folder)(e))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a blob that are there, complete or not. Blocks.
    pub(crate) fn bytes_of(&self, blob: &Descriptor) -> u64 {
        let len = |path: PathBuf| std::fs::metadata(path).map_or(0, |m| m.len());
        let partial = self.root.join(PARTIAL).join(blob.digest().hex());
        len(self.path(blob.digest())).max(len(partial)).min(blob.size())
    }

    /// Removes a blob that is there with its right size and other bytes than its name says; whether it did. Blocks.
    pub(crate) fn discard_damaged(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let path = self.path(blob.digest());
        if !std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == blob.size()) {
            return Ok(false);
        }
        let mut hasher = Hasher::new(blob.digest().algorithm());
        OpenFile::open(&path)?.hash(0, blob.size(), &mut hasher)?;
        if hasher.finish() == *blob.digest() {
            return Ok(false);
        }
        std::fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        Ok(true)
    }

    /// As [`BlobStore::ingest`]; `None` at once if another process, or another task of this one, is writing the blob.
    pub(crate) async fn try_ingest(&self, blob: &Descriptor) -> Result<Option<Box<dyn Ingest>>, StoreError> {
        self.begin(blob, 1).await
    }

    async fn begin(&self, blob: &Descriptor, patience: u32) -> Result<Option<Box<dyn Ingest>>, StoreError> {
        let (folder, done) = (self.root.join(PARTIAL), self.path(blob.digest()));
        let path = folder.join(blob.digest().hex());
        let size = blob.size();
        let opened = blocking({
            let (path, done) = (path.clone(), done.clone());
            move || {
                std::fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
                if let Some(parent) = done.parent() {
                    std::fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
                }
                let Some(file) = try_open_locked(&path, patience)? else { return Ok(None) };
                let len = file.metadata().map_err(StoreError::io("read", &path))?.len();
                // A longer one belongs to no blob with this digest.
                let offset = if len > size { 0 } else { len };
                file.set_len(offset).map_err(StoreError::io("write", &path))?;
                Ok(Some((file, offset)))
            }
        })
        .await?;
        let Some((file, offset)) = opened else { return Ok(None) };
        let file = Arc::new(file);
        let target = OpenFile::new(Arc::clone(&file), path);
        let writer = HashingWriter::resume(target.clone(), blob, 0, offset).await?;
        Ok(Some(Box::new(FolderIngest { file, target, done, offset, writer })))
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.layout_path())
    }
}

#[async_trait]
impl BlobSource for FolderStore {
    fn label(&self) -> String {
        format!("folder {}", self.root.display())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
            Ok(_) => Err(StoreError::Remote(format!("{} is no regular file", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", path)(e)),
        }
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let digest = blob.digest();
        let not_found = || StoreError::NotFound { digest: digest.clone(), store: self.label() };
        let size = self.size(digest).await?.ok_or_else(not_found)?;
        if range.end > size {
            let expected = blob.size();
            return Err(StoreError::SizeMismatch {
                digest: digest.clone(),
                expected,
                found: size,
                store: self.label(),
            });
        }
        let file = OpenFile::open(&self.path(digest))?;
        Ok(file.stream(range.start, range.end.saturating_sub(range.start)))
    }
}

#[async_trait]
impl BlobStore for FolderStore {
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError> {
        match self.begin(blob, PATIENCE).await? {
            Some(ingest) => Ok(ingest),
            None => Err(busy(&self.root.join(PARTIAL).join(blob.digest().hex()))),
        }
    }
}

/// The right to write a folder as a whole, until dropped: the folder itself is locked, so no file is left of it.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _folder: File,
    /// Set: the folder was made for the lock, and goes away with it if nothing came into it.
    made: Option<PathBuf>,
}

impl FolderLock {
    /// Makes the folder if it is not there, but not the ones above it. Blocks.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        loop {
            let made = match std::fs::create_dir(path) {
                Ok(()) => Some(path.to_owned()),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => None,
                Err(e) => return Err(StoreError::io("create", path)(e)),
            };
            let folder = match File::open(path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(StoreError::io("open", path))?,
            };
            lock(&folder, path)?;
            if still_named(&folder, path)? {
                return Ok(Self { _folder: folder, made });
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Fails when something is in it.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Whether a file that was locked still has the name by which it was opened.
fn still_named(file: &File, path: &Path) -> Result<bool, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let locked = file.metadata().map_err(StoreError::io("read", path))?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (locked.dev(), locked.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(StoreError::io("read", path)(e)),
    }
}

/// Opens or creates a file that is written in place, and locks it. Blocks.
///
/// While a lock is waited for, its holder may finish and rename the file to its final name: what is locked then is a
/// finished file, which must not be written to, so the name is opened anew.
pub(crate) fn open_locked(path: &Path) -> Result<File, StoreError> {
    try_open_locked(path, PATIENCE)?.ok_or_else(|| busy(path))
}

/// As [`open_locked`]; `None` when the lock was not to be had in so many attempts.
fn try_open_locked(path: &Path, patience: u32) -> Result<Option<File>, StoreError> {
    loop {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(StoreError::io("write", path))?;
        if !try_lock(&file, path, patience)? {
            return Ok(None);
        }
        if still_named(&file, path)? {
            return Ok(Some(file));
        }
    }
}

/// How often a lock is asked for.
const PATIENCE: u32 = 40;

/// Two processes must not write the same partial blob. The lock goes with the process, however it ends; a chunk that
/// a cancelled copy of this process is still writing holds it a moment longer, hence the short wait. Blocks.
fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    if try_lock(file, path, PATIENCE)? { Ok(()) } else { Err(busy(path)) }
}

fn try_lock(file: &File, path: &Path, patience: u32) -> Result<bool, StoreError> {
    for attempt in 1..=patience {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if attempt == patience => {}
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", path)(e)),
        }
    }
    Ok(false)
}

fn busy(path: &Path) -> StoreError {
    let text = format!("{} is being written by another omk; wait for it to end", path.display());
    StoreError::Remote(text)
}

struct FolderIngest {
    file: Arc<File>,
    target: OpenFile,
    done: PathBuf,
    offset: u64,
    writer: HashingWriter,
}

#[async_trait]
impl Ingest for FolderIngest {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.writer.put(&bytes).await.map(|_| ())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { file, target, done, writer, .. } = *self;
        let checked = writer.finish().await;
        blocking(move || {
            if let Err(error) = checked {
                if matches!(error, StoreError::DigestMismatch { .. }) {
                    let _ = std::fs::remove_file(&target.path);
                }
                return Err(error);
            }
            file.sync_all().map_err(StoreError::io("sync", &target.path))?;
            std::fs::rename(&target.path, &done).map_err(StoreError::io("rename to", &done))?;
            done.parent().map_or(Ok(()), sync_folder)
        })
        .await
    }
}

//! The cache as a store of blobs.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::{CacheError, ImageCache};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::{BlobSource, BlobStore, ByteStream, Ingest, OpenFile, StoreError, blocking};

/// A manifest has at most 4 MiB, and so has every config that was ever seen.
const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
/// Between two looks at a blob that somebody else is writing.
const PAUSE: Duration = Duration::from_millis(100);

/// Sets a file's time to now; whether it is there. A cache that can only be read is used as it is.
pub(super) fn touch(path: &Path) -> Result<bool, StoreError> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: omit, last_modification: now };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(false),
        Err(rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            Ok(path.exists())
        }
        Err(e) => Err(StoreError::io("mark", path)(e.into())),
    }
}

impl ImageCache {
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.path(digest)
    }

    /// Whether a blob is there with its right size.
    pub(super) fn has(&self, blob: &Descriptor) -> bool {
        let path = self.blob_path(blob.digest());
        std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == blob.size())
    }

    /// The first blob that is not there. All that are there are marked as being used: hold `content` shared.
    pub(super) fn first_missing<'a>(
        &self,
        blobs: &'a [Descriptor],
    ) -> Result<Option<&'a Descriptor>, StoreError> {
        let mut missing = None;
        for blob in blobs {
            let there = self.has(blob) && touch(&self.blob_path(blob.digest()))?;
            if !there {
                missing = missing.or(Some(blob));
            }
        }
        Ok(missing)
    }

    /// A manifest or config, verified; `None` when it is not there. One with wrong bytes is put away.
    pub(super) fn document(&self, blob: &Descriptor) -> Result<Option<Bytes>, CacheError> {
        use std::io::Read as _;
        if blob.size() > MAX_DOCUMENT_BYTES || !self.has(blob) {
            return Ok(None);
        }
        let path = self.blob_path(blob.digest());
        let file = match std::fs::File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(StoreError::io("read", &path))?,
        };
        let mut bytes = Vec::new();
        file.take(blob.size() + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
        let mut hasher = Hasher::new(blob.digest().algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *blob.digest() {
            self.quarantine(blob.digest())?;
            return Ok(None);
        }
        Ok(Some(bytes.into()))
    }

    /// What the bytes of a blob hash to.
    pub(super) fn hash(&self, digest: &Digest) -> Result<(Digest, u64), StoreError> {
        let path = self.blob_path(digest);
        let file = OpenFile::open(&path)?;
        let size = file.len()?;
        let mut hasher = Hasher::new(digest.algorithm());
        file.hash(0, size, &mut hasher)?;
        Ok((hasher.finish(), size))
    }

    /// Takes a blob with wrong bytes out of the way; whether there was one. It is hashed first, under a lock: somebody
    /// may have put the right one there meanwhile.
    pub(super) fn quarantine(&self, digest: &Digest) -> Result<Option<PathBuf>, CacheError> {
        let _names = self.names_alone()?;
        match self.hash(digest) {
            Ok((found, _)) if found == *digest => return Ok(None),
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            // What cannot be read is as bad as what is wrong.
            _ => {}
        }
        self.put_away(&self.blob_path(digest), &format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
            .map(Some)
    }

    /// Moves a file into quarantine.
    pub(super) fn put_away(&self, path: &Path, name: &str) -> Result<PathBuf, CacheError> {
        let folder = self.root.join("quarantine");
        std::fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        let seconds = super::seconds(std::time::SystemTime::now());
        let target = folder.join(format!("{name}.{seconds}-{:08x}", fastrand::u32(..)));
        std::fs::rename(path, &target).map_err(StoreError::io("put away", path))?;
        Ok(target)
    }
}

#[async_trait]
impl BlobSource for ImageCache {
    fn label(&self) -> String {
        format!("image cache {}", self.root.display())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.blobs.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.blobs.read(blob, range).await
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let (this, digest) = (self.clone(), blob.digest().clone());
        blocking(move || this.quarantine(&digest).map_err(stored)).await.map(|path| path.is_some())
    }
}

/// For a trait that knows no other errors.
pub(super) fn stored(error: CacheError) -> StoreError {
    match error {
        CacheError::Store(error) => error,
        other => StoreError::Remote(other.to_string()),
    }
}

#[async_trait]
impl BlobStore for ImageCache {
    /// Waits while somebody else writes the same blob, and takes what that one brought.
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError> {
        loop {
            if self.has(blob) {
                return Ok(Box::new(There { size: blob.size(), path: self.blob_path(blob.digest()) }));
            }
            if let Some(inner) = self.blobs.try_ingest(blob).await? {
                let path = self.blob_path(blob.digest());
                if self.has(blob) {
                    // It came between the two looks. The empty file of this ingest is for nobody.
                    let _ = std::fs::remove_file(self.root.join("partial").join(blob.digest().hex()));
                    return Ok(Box::new(There { size: blob.size(), path }));
                }
                return Ok(Box::new(Incoming { inner, path }));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A blob that is there already.
struct There {
    size: u64,
    path: PathBuf,
}

#[async_trait]
impl Ingest for There {
    fn offset(&self) -> u64 {
        self.size
    }

    async fn put(&mut self, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let path = self.path;
        blocking(move || touch(&path)).await.map(|_| ())
    }
}

struct Incoming {
    inner: Box<dyn Ingest>,
    path: PathBuf,
}

#[async_trait]
impl Ingest for Incoming {
    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put(bytes).await
    }

    /// A blob whose last byte an earlier run wrote has that run's time, which protects it from nobody.
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { inner, path } = *self;
        inner.commit().await?;
        blocking(move || touch(&path)).await.map(|_| ())
    }
}

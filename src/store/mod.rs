//! Blob stores: a registry, a folder, a bundle file, a node's staging folder over SFTP are all the same thing to
//! [`crate::copy`]. Whatever moves bytes goes through these traits, so that resuming and verifying exist once.
//!
//! Habits: a blob is staged, its size and digest are checked, and only [`Ingest::commit`] makes it visible; nothing
//! half-written ever has its final name (containerd's `plugins/content/local/writer.go` is the model).

use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio_util::sync::CancellationToken;

use crate::oci::{Descriptor, Digest, Hasher};

mod any;
pub mod archive;
mod file;
mod files;
mod folder;
mod memory;
mod paced;

pub use any::AnyOf;
pub(crate) use file::{OpenFile, blocking, can_write_small, parent, room, sync_folder, write_small};
pub use files::FilesSource;
pub use folder::FolderStore;
pub(crate) use folder::{FolderLock, open_locked};
pub use memory::MemoryStore;
pub use paced::{Pace, Paced};

/// Bytes of one blob, in order. Ends early or late only with an error.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is not there.
    #[error("blob {digest} is not in {store}")]
    NotFound {
        /// The blob.
        digest: Digest,
        /// Which store.
        store: String,
    },
    /// The bytes are not what the digest promises.
    #[error("blob {expected} in {store} is damaged: its bytes hash to {found}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes hash to.
        found: Digest,
        /// Where they came from.
        store: String,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("blob {digest} in {store} has {found} bytes, its descriptor says {expected}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Bytes that the descriptor says.
        expected: u64,
        /// Bytes that came, or at which reading stopped.
        found: u64,
        /// Where they came from.
        store: String,
    },
    /// The file system said no.
    #[error("cannot {action} {}: {source}{}", path.display(), way_out(source.kind()))]
    Io {
        /// A verb: `read`, `write`, `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A store behind a network: the text names the thing, the cause and the way out.
    #[error("{0}")]
    Remote(String),
    /// The way to the store broke; what is staged stays and can be resumed.
    #[error("connection to {store} lost: {reason}")]
    Lost {
        /// Which store.
        store: String,
        /// How.
        reason: String,
    },
    /// The run was cancelled; what is staged can be resumed.
    #[error("cancelled")]
    Cancelled,
}

/// What can be done about what a disk says; nothing where its words say all.
fn way_out(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match kind {
        StorageFull | QuotaExceeded => "; make room there and run the same command again",
        ReadOnlyFilesystem => "; choose a place that can be written to",
        // FAT's limit, mostly.
        FileTooLarge => "; this file system takes no file of that size, --split writes smaller ones",
        _ => "",
    }
}

impl StoreError {
    /// Whether the same call may succeed over a new connection.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// For `map_err` on file operations.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Something that blobs can be read from.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// For messages: `bundle web.tar`, `registry quay.io`.
    fn label(&self) -> String;

    /// The size in bytes of a complete blob; `None` when it is not there. Does not read the blob.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError>;

    /// The bytes of `range` (of `0..descriptor.size()` at most), in order, exactly that many or an error.
    ///
    /// The bytes are *not* verified here: a part of a blob cannot be. [`crate::copy`] and [`read_verified`] do it.
    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError>;

    /// Told when a whole blob that was read here turned out wrong. `true`: a copy that was kept, or a mirror, is to
    /// blame and is out of the way now, so that reading once more gives other bytes.
    async fn disown(&self, _blob: &Descriptor) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// Something that blobs can be written to.
#[async_trait]
pub trait BlobStore: BlobSource {
    /// Begins or resumes to write a blob. At most one ingest per blob and store at a time.
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError>;
}

/// A blob being written. Dropped without commit, what was put stays staged for the next [`BlobStore::ingest`] of
/// the same blob, never visible as the blob.
#[async_trait]
pub trait Ingest: Send {
    /// Bytes that are staged from an earlier, interrupted run, counted from the start of the blob. They were already
    /// checked as far as the store can (they are hashed into the digest, or the node hashed them). The first `put`
    /// must continue here.
    fn offset(&self) -> u64;

    /// The next bytes. May return before they are durable; a later error then stands for them too.
    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Checks size and digest, makes the blob durable and visible. An error leaves no blob; bytes that turned out to
    /// be wrong are discarded, so that the next run does not resume onto them.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// A whole small blob (a manifest, a config), checked against its descriptor.
///
/// # Errors
/// As for reading, and when size or digest are not the descriptor's. `limit` bounds what is held in memory.
pub async fn read_verified(
    source: &dyn BlobSource,
    blob: &Descriptor,
    limit: u64,
) -> Result<Bytes, StoreError> {
    use futures_util::StreamExt as _;

    if blob.size() > limit {
        let text = format!(
            "{} {} of {} has {} bytes, more than the {limit} that are accepted",
            blob.media_type(),
            blob.digest(),
            source.label(),
            blob.size()
        );
        return Err(StoreError::Remote(text));
    }
    let mut all = bytes::BytesMut::with_capacity(usize::try_from(blob.size()).unwrap_or(0));
    let mut stream = source.read(blob, 0..blob.size()).await?;
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
        if all.len() as u64 > blob.size() {
            break;
        }
    }
    let mut hasher = Hasher::new(blob.digest().algorithm());
    hasher.update(&all);
    check(blob, all.len() as u64, &hasher.finish(), &source.label())?;
    Ok(all.freeze())
}

/// A whole blob of any size, read and checked against its descriptor; its chunks go to `feed` too, as long as somebody listens.
///
/// # Errors
/// As for reading, when size or digest are not the descriptor's, and on cancellation.
pub(crate) async fn prove(
    source: &dyn BlobSource,
    blob: &Descriptor,
    feed: Option<&tokio::sync::mpsc::Sender<Bytes>>,
    cancel: &CancellationToken,
) -> Result<(), StoreError> {
    use futures_util::StreamExt as _;

    let mut hasher = Hasher::new(blob.digest().algorithm());
    let mut size = 0u64;
    let mut stream = source.read(blob, 0..blob.size()).await?;
    while let Some(chunk) = stream.next().await {
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        let chunk = chunk?;
        size += chunk.len() as u64;
        hasher.update(&chunk);
        if let Some(feed) = feed {
            let _ = feed.send(chunk).await;
        }
    }
    check(blob, size, &hasher.finish(), &source.label())
}

/// The one verification rule: exact size, exact digest.
///
/// # Errors
/// Naming the blob, what was expected and what was found.
pub fn check(blob: &Descriptor, size: u64, digest: &Digest, store: &str) -> Result<(), StoreError> {
    if size != blob.size() {
        let (digest, expected) = (blob.digest().clone(), blob.size());
        return Err(StoreError::SizeMismatch { digest, expected, found: size, store: store.to_owned() });
    }
    if digest != blob.digest() {
        let (expected, found) = (blob.digest().clone(), digest.clone());
        return Err(StoreError::DigestMismatch { expected, found, store: store.to_owned() });
    }
    Ok(())
}

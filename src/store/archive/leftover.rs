use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::super::file::OpenFile;
use super::super::{BlobSource, ByteStream, StoreError, blocking};
use super::Archive;
use crate::oci::{Descriptor, Digest};

/// The file of an interrupted run of another layout. Its complete blobs need not be fetched again; where they stand
/// is in its headers, which were all written before the first blob.
#[derive(Debug)]
pub struct Leftover {
    archive: Archive,
    complete: BTreeSet<Digest>,
    used: AtomicU64,
}

impl Leftover {
    /// `None` when there is nothing of use in it.
    pub(super) fn new(file: &OpenFile, mut complete: BTreeSet<Digest>) -> Option<Self> {
        let archive = Archive::read_headers(file.clone()).ok()?;
        complete.retain(|d| archive.has(&d.layout_path()));
        (!complete.is_empty()).then(|| Self { archive, complete, used: AtomicU64::new(0) })
    }

    /// How many blobs are complete in it.
    pub fn blobs(&self) -> usize {
        self.complete.len()
    }

    /// Bytes that were read from it instead of fetched.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// `other`, or what is complete here of it.
    pub fn before(self: &Arc<Self>, other: Arc<dyn BlobSource>) -> Arc<dyn BlobSource> {
        Arc::new(Before { leftover: Arc::clone(self), other })
    }

    /// Whether the blob is there with these bytes: the journal is a hint, not a proof.
    async fn proved(self: &Arc<Self>, blob: &Descriptor) -> bool {
        if !self.complete.contains(blob.digest()) {
            return false;
        }
        let (this, blob) = (Arc::clone(self), blob.clone());
        let found = blocking(move || {
            let size = this.archive.blob_size(blob.digest());
            Ok(size == Some(blob.size()) && this.archive.hash(blob.digest())? == *blob.digest())
        });
        found.await.unwrap_or(false)
    }
}

struct Before {
    leftover: Arc<Leftover>,
    other: Arc<dyn BlobSource>,
}

#[async_trait]
impl BlobSource for Before {
    fn label(&self) -> String {
        self.other.label()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.other.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        if self.leftover.proved(blob).await {
            self.leftover.used.fetch_add(range.end.saturating_sub(range.start), Ordering::Relaxed);
            return self.leftover.archive.read(blob, range).await;
        }
        self.other.read(blob, range).await
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        self.other.disown(blob).await
    }
}

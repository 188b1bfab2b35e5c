use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{BlobSource, BlobStore, ByteStream, Ingest, StoreError};
use crate::oci::{Descriptor, Digest, Hasher};

/// Blobs in memory: what was resolved before a bundle is written, the demonstration registry, tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: BTreeMap<Digest, Bytes>,
    staged: BTreeMap<Digest, Bytes>,
}

impl MemoryStore {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a blob; returns the pointer to it.
    pub fn insert(&self, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let blob = Descriptor::of(media_type, &bytes);
        self.lock().blobs.insert(blob.digest().clone(), bytes);
        blob
    }

    /// All complete blobs.
    pub fn digests(&self) -> Vec<Digest> {
        self.lock().blobs.keys().cloned().collect()
    }

    /// A complete blob.
    pub fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.lock().blobs.get(digest).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlobSource for MemoryStore {
    fn label(&self) -> String {
        "memory".to_owned()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.get(digest).map(|b| b.len() as u64))
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let digest = blob.digest();
        let bytes = self
            .get(digest)
            .ok_or_else(|| StoreError::NotFound { digest: digest.clone(), store: self.label() })?;
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        if range.start > range.end || at(range.end) > bytes.len() {
            let (digest, found) = (digest.clone(), bytes.len() as u64);
            return Err(StoreError::SizeMismatch { digest, expected: range.end, found, store: self.label() });
        }
        let part = bytes.slice(at(range.start)..at(range.end));
        Ok(Box::pin(futures_util::stream::iter([Ok(part)])))
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError> {
        let staged = self.lock().staged.get(blob.digest()).cloned().unwrap_or_default();
        let offset = staged.len() as u64;
        Ok(Box::new(MemoryIngest { store: self.clone(), blob: blob.clone(), bytes: staged.into(), offset }))
    }
}

struct MemoryIngest {
    store: MemoryStore,
    blob: Descriptor,
    bytes: BytesMut,
    offset: u64,
}

#[async_trait]
impl Ingest for MemoryIngest {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        self.store.lock().staged.insert(self.blob.digest().clone(), self.bytes.clone().freeze());
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let mut inner = self.store.lock();
        inner.staged.remove(self.blob.digest());
        let mut hasher = Hasher::new(self.blob.digest().algorithm());
        hasher.update(&self.bytes);
        super::check(&self.blob, self.bytes.len() as u64, &hasher.finish(), "memory")?;
        inner.blobs.insert(self.blob.digest().clone(), self.bytes.freeze());
        Ok(())
    }
}

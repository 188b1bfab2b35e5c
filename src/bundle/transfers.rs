//! Where each blob of a build is read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::artifact::{Content, PackedArtifact};
use super::{BundleImage, Upstream};
use crate::copy::Transfer;
use crate::event::Events;
use crate::oci::{Descriptor, Digest};
use crate::store::{AnyOf, BlobSource, ByteStream, FilesSource, MemoryStore, StoreError};

type Sources = Vec<Arc<dyn BlobSource>>;

/// Repositories that are asked for one blob.
const MAX_PLACES: usize = 4;

/// Documents are in memory already; every other blob is read from the repository of the first image that has it, and
/// where that repository has lost it, from that of another one.
pub(super) fn transfers(
    images: &[BundleImage],
    documents: &BTreeMap<Digest, bytes::Bytes>,
    upstream: &dyn Upstream,
    events: &Events,
) -> Vec<Transfer> {
    let memory = MemoryStore::new();
    documents.values().for_each(|b| drop(memory.insert("", b.clone())));
    let memory: Arc<dyn BlobSource> = Arc::new(memory);
    let mut all = Vec::new();
    let mut places: BTreeMap<&Digest, (&Descriptor, Sources)> = BTreeMap::new();
    for image in images {
        let remote = upstream.blobs(&image.graph.image, events);
        for blob in &image.graph.blobs {
            if documents.contains_key(blob.digest()) {
                all.push(Transfer { blob: blob.clone(), source: Arc::clone(&memory) });
                continue;
            }
            let (_, known) = places.entry(blob.digest()).or_insert_with(|| (blob, Vec::new()));
            if known.len() < MAX_PLACES {
                known.push(Arc::clone(&remote));
            }
        }
    }
    for (blob, known) in places.into_values() {
        let mut known = known.into_iter();
        let Some(first) = known.next() else { continue };
        let source: Arc<dyn BlobSource> =
            if known.len() == 0 { first } else { Arc::new(AnyOf::new(first, known)) };
        all.push(Transfer { blob: blob.clone(), source });
    }
    all
}

/// The bytes of artifacts, which are at hand; how many of them were read is counted.
pub(super) fn own_transfers(artifacts: &[PackedArtifact], counter: &Arc<AtomicU64>) -> Vec<Transfer> {
    let (memory, mut files, mut others) = (MemoryStore::new(), BTreeMap::new(), BTreeMap::new());
    for packed in artifacts {
        packed.artifact.documents.values().for_each(|b| drop(memory.insert("", b.clone())));
        for (blob, content) in &packed.contents {
            match content {
                Content::Bytes(bytes) => drop(memory.insert("", bytes.clone())),
                Content::File(path, ..) => drop(files.insert(blob.digest().clone(), path.clone())),
                Content::Source(_, source) => drop(others.insert(blob.digest().clone(), Arc::clone(source))),
            }
        }
    }
    let memory: Arc<dyn BlobSource> = Arc::new(memory);
    let on_disk: Arc<dyn BlobSource> = Arc::new(FilesSource::new(files.clone()));
    let blobs = artifacts.iter().flat_map(|a| a.artifact.blobs());
    let source = |blob: &Descriptor| match others.get(blob.digest()) {
        Some(source) => source,
        None if files.contains_key(blob.digest()) => &on_disk,
        None => &memory,
    };
    let counted = |blob: &Descriptor| Counted { inner: Arc::clone(source(blob)), bytes: Arc::clone(counter) };
    blobs.map(|blob| Transfer { blob: blob.clone(), source: Arc::new(counted(blob)) }).collect()
}

/// A source whose bytes are told apart from those of others.
struct Counted {
    inner: Arc<dyn BlobSource>,
    bytes: Arc<AtomicU64>,
}

#[async_trait]
impl BlobSource for Counted {
    fn label(&self) -> String {
        self.inner.label()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.inner.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let stream = self.inner.read(blob, range.clone()).await?;
        self.bytes.fetch_add(range.end.saturating_sub(range.start), Ordering::Relaxed);
        Ok(stream)
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        self.inner.disown(blob).await
    }
}

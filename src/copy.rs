//! The one transfer algorithm: registry → bundle, bundle → node, store → store are all this.
//!
//! What the target has is skipped; what it has in part goes on from there; leaves come before the documents that
//! point to them (oras-go's `copy.go`); each blob is moved once however many images share it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Events};
use crate::oci::Descriptor;
use crate::oci::media::Kind;
use crate::store::{BlobSource, BlobStore, StoreError};

/// A blob and where to read it.
#[derive(Clone)]
pub struct Transfer {
    /// What.
    pub blob: Descriptor,
    /// From where.
    pub source: Arc<dyn BlobSource>,
}

/// What all transfers of a run have in common.
#[derive(Clone)]
pub struct Job {
    /// Where progress goes.
    pub events: Events,
    /// Set: stop at the next chunk.
    pub cancel: CancellationToken,
    /// The node that is copied to; `None` for a local store.
    pub node: Option<String>,
    /// Blobs at once.
    pub parallel: usize,
}

/// What a copy did. Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Blobs that were moved, whole or in part.
    pub blobs: u64,
    /// Bytes that were moved in this run.
    pub moved: u64,
    /// Bytes that were staged by an earlier run.
    pub resumed: u64,
    /// Bytes of blobs that the target had.
    pub skipped: u64,
}

impl Copied {
    fn add(mut self, other: Self) -> Self {
        self.blobs += other.blobs;
        self.moved += other.moved;
        self.resumed += other.resumed;
        self.skipped += other.skipped;
        self
    }
}

/// Copies everything that the target lacks.
///
/// The biggest leaves start first, so that the last lane is not left with a big one alone. The first error stops
/// the rest; what is complete or staged by then stays for the next run.
///
/// # Errors
/// The first failed blob's.
pub async fn copy_all(
    transfers: Vec<Transfer>,
    target: &dyn BlobStore,
    job: &Job,
) -> Result<Copied, StoreError> {
    let mut seen = BTreeSet::new();
    let mut total = Copied::default();
    let (mut leaves, mut documents) = (Vec::new(), Vec::new());
    for t in transfers {
        if !seen.insert(t.blob.digest().clone()) {
            continue;
        }
        if target.size(t.blob.digest()).await? == Some(t.blob.size()) {
            total.skipped += t.blob.size();
        } else if t.blob.kind() == Kind::Blob {
            leaves.push(t);
        } else {
            documents.push(t);
        }
    }
    let bytes = leaves.iter().chain(&documents).fold(0u64, |n, t| n.saturating_add(t.blob.size()));
    let blobs = (leaves.len() + documents.len()) as u64;
    job.events.emit(Event::TransferPlanned { node: job.node.clone(), blobs, bytes, skipped: total.skipped });
    leaves.sort_by_key(|t| std::cmp::Reverse(t.blob.size()));
    let moved: Vec<Copied> = stream::iter(leaves)
        .map(|t| async move { copy_blob(t.source.as_ref(), target, &t.blob, job).await })
        .buffer_unordered(job.parallel.max(1))
        .try_collect()
        .await?;
    total = moved.into_iter().fold(total, Copied::add);
    // Children before parents is the order they were given in.
    for t in documents {
        total = total.add(copy_blob(t.source.as_ref(), target, &t.blob, job).await?);
    }
    Ok(total)
}

/// Copies one blob, resuming what the target has staged of it.
///
/// A staged part from an earlier run that turns out wrong when the whole is checked is thrown away and the blob
/// is fetched once more from its start: only fresh bytes can accuse the source. A source that keeps copies of another
/// one ([`BlobSource::disown`]) gets a second chance too.
///
/// # Errors
/// When reading, writing or the final check fails, or on cancellation.
pub async fn copy_blob(
    source: &dyn BlobSource,
    target: &dyn BlobStore,
    blob: &Descriptor,
    job: &Job,
) -> Result<Copied, StoreError> {
    let first = attempt(source, target, blob, job).await;
    let mut copied = match first {
        Err((StoreError::DigestMismatch { .. }, resumed)) if resumed > 0 => {
            let message = format!("the staged part of {} was damaged; fetching it again", blob.digest());
            job.events.emit(Event::Warning { message });
            attempt(source, target, blob, job).await
        }
        other => other,
    };
    while let Err((StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. }, _)) = &copied {
        // A registry behind several mirrors is asked again for each of them.
        if !source.disown(blob).await? {
            break;
        }
        let message =
            format!("a kept copy of {} was damaged and is out of the way; fetching it", blob.digest());
        job.events.emit(Event::Warning { message });
        copied = attempt(source, target, blob, job).await;
    }
    let copied = copied.map_err(|(error, _)| error)?;
    let (node, digest) = (job.node.clone(), blob.digest().clone());
    job.events.emit(Event::BlobDone { node, digest, size: blob.size() });
    Ok(copied)
}

/// The error comes with the offset from which this attempt resumed.
async fn attempt(
    source: &dyn BlobSource,
    target: &dyn BlobStore,
    blob: &Descriptor,
    job: &Job,
) -> Result<Copied, (StoreError, u64)> {
    // A node may hash gigabytes of what is staged before it begins.
    let begun = tokio::select! {
        begun = target.ingest(blob) => begun,
        () = job.cancel.cancelled() => Err(StoreError::Cancelled),
    };
    let mut ingest = begun.map_err(|e| (e, 0))?;
    let offset = ingest.offset().min(blob.size());
    if offset > 0 {
        let (node, digest) = (job.node.clone(), blob.digest().clone());
        job.events.emit(Event::Resumed { node: node.clone(), digest: digest.clone(), offset });
        job.events.emit(Event::TransferProgress { node, digest, bytes: offset });
    }
    let moving = async {
        if offset < blob.size() {
            let mut stream = source.read(blob, offset..blob.size()).await?;
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                let (node, digest, bytes) = (job.node.clone(), blob.digest().clone(), chunk.len() as u64);
                ingest.put(chunk).await?;
                job.events.emit(Event::TransferProgress { node, digest, bytes });
            }
        }
        ingest.commit().await
    };
    let done = tokio::select! {
        done = moving => done,
        () = job.cancel.cancelled() => Err(StoreError::Cancelled),
    };
    done.map_err(|e| (e, offset))?;
    Ok(Copied { blobs: 1, moved: blob.size() - offset, resumed: offset, skipped: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Recorder, silent};
    use crate::oci::media;
    use crate::store::MemoryStore;

    fn job(events: Events) -> Job {
        Job { events, cancel: CancellationToken::new(), node: None, parallel: 4 }
    }

    #[tokio::test]
    async fn moves_each_blob_once_and_skips_what_is_there() {
        let source = MemoryStore::new();
        let target = MemoryStore::new();
        let a = source.insert(media::OCI_LAYER, "aaaa");
        let b = source.insert(media::OCI_LAYER, "bb");
        target.insert(media::OCI_LAYER, "bb");
        let from: Arc<dyn BlobSource> = Arc::new(source);
        let all = [&a, &a, &b].map(|d| Transfer { blob: d.clone(), source: Arc::clone(&from) });
        let copied = copy_all(all.to_vec(), &target, &job(silent())).await.unwrap();
        assert_eq!(copied, Copied { blobs: 1, moved: 4, resumed: 0, skipped: 2 });
        assert_eq!(target.get(a.digest()).unwrap(), "aaaa");
    }

    #[tokio::test]
    async fn goes_on_where_an_earlier_run_stopped() {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        let blob = source.insert(media::OCI_LAYER, "0123456789");
        let mut half = target.ingest(&blob).await.unwrap();
        half.put("01234".into()).await.unwrap();
        drop(half);
        let copied = copy_blob(&source, &target, &blob, &job(silent())).await.unwrap();
        assert_eq!((copied.moved, copied.resumed), (5, 5));
    }

    #[tokio::test]
    async fn a_damaged_staged_part_is_fetched_again_once() {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        let blob = source.insert(media::OCI_LAYER, "0123456789");
        let mut half = target.ingest(&blob).await.unwrap();
        half.put("XXXXX".into()).await.unwrap();
        drop(half);
        let events = Arc::new(Recorder::default());
        let copied = copy_blob(&source, &target, &blob, &job(events.clone())).await.unwrap();
        assert_eq!((copied.moved, copied.resumed), (10, 0));
        assert!(events.events().iter().any(|e| matches!(e, Event::Warning { .. })));
        assert_eq!(target.get(blob.digest()).unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn wrong_bytes_never_become_the_blob() {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        let right = Descriptor::of(media::OCI_LAYER, b"right");
        let lying = Lying(source);
        let error = copy_blob(&lying, &target, &right, &job(silent())).await.unwrap_err();
        assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
        assert_eq!(target.get(right.digest()), None);
    }

    #[tokio::test]
    async fn cancelling_stops_and_says_so() {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        let blob = source.insert(media::OCI_LAYER, "x");
        let job = job(silent());
        job.cancel.cancel();
        // Either branch of the select may win on a blob this small; what must not happen is a half-written blob.
        match copy_blob(&source, &target, &blob, &job).await {
            Ok(_) => assert!(target.get(blob.digest()).is_some()),
            Err(error) => assert!(matches!(error, StoreError::Cancelled)),
        }
    }

    #[tokio::test]
    async fn a_target_that_never_begins_is_left_when_cancelled() {
        let source = MemoryStore::new();
        let blob = source.insert(media::OCI_LAYER, "x");
        let job = job(silent());
        let cancel = job.cancel.clone();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            cancel.cancel();
        });
        let target = Endless(MemoryStore::new());
        let copying = copy_blob(&source, &target, &blob, &job);
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), copying).await;
        assert!(matches!(done, Ok(Err(StoreError::Cancelled))), "{done:?}");
    }

    /// A node that hashes what is staged, for ever.
    struct Endless(MemoryStore);

    #[async_trait::async_trait]
    impl BlobSource for Endless {
        fn label(&self) -> String {
            "an endless one".to_owned()
        }

        async fn size(&self, digest: &crate::oci::Digest) -> Result<Option<u64>, StoreError> {
            self.0.size(digest).await
        }

        async fn read(
            &self,
            blob: &Descriptor,
            range: std::ops::Range<u64>,
        ) -> Result<crate::store::ByteStream, StoreError> {
            self.0.read(blob, range).await
        }
    }

    #[async_trait::async_trait]
    impl BlobStore for Endless {
        async fn ingest(&self, _: &Descriptor) -> Result<Box<dyn crate::store::Ingest>, StoreError> {
            std::future::pending().await
        }
    }

    /// Answers every blob with other bytes of the same length.
    struct Lying(MemoryStore);

    #[async_trait::async_trait]
    impl BlobSource for Lying {
        fn label(&self) -> String {
            "a liar".to_owned()
        }

        async fn size(&self, digest: &crate::oci::Digest) -> Result<Option<u64>, StoreError> {
            self.0.size(digest).await
        }

        async fn read(
            &self,
            blob: &Descriptor,
            _: std::ops::Range<u64>,
        ) -> Result<crate::store::ByteStream, StoreError> {
            let size = usize::try_from(blob.size()).unwrap();
            Ok(Box::pin(futures_util::stream::iter([Ok(vec![b'?'; size].into())])))
        }
    }
}

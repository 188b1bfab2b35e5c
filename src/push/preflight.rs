//! Every blob is hashed once before it is sent to any node, those of all nodes that answered in time before the first
//! node gets anything: a bundle that was tampered with, or a disk that lies, must not leave a fleet half-changed. What
//! only a late node needs is proved later; when that fails, nothing more is imported anywhere.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Events};
use crate::oci::{Descriptor, Digest};
use crate::store::{BlobSource, StoreError, prove};

/// Blobs hashed at once: one core each.
const PARALLEL: usize = 2;

/// What was proved of one source in one run.
pub(super) struct Preflight {
    source: Arc<dyn BlobSource>,
    proved: Mutex<BTreeSet<Digest>>,
    /// Cancelled when a proof fails.
    stop: CancellationToken,
    damage: std::sync::Mutex<Option<StoreError>>,
}

impl Preflight {
    pub(super) fn new(source: Arc<dyn BlobSource>, stop: CancellationToken) -> Self {
        Self { source, proved: Mutex::default(), stop, damage: std::sync::Mutex::default() }
    }

    fn damage(&self) -> std::sync::MutexGuard<'_, Option<StoreError>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the source, once a proof has failed.
    pub(super) fn damaged(&self) -> Option<String> {
        self.damage().as_ref().map(StoreError::to_string)
    }

    /// The same as an error, once.
    pub(super) fn take_damage(&self) -> Option<StoreError> {
        self.damage().take()
    }

    /// Stops the run because of the source; what is answered to whoever is stopped by it.
    pub(super) fn blame(&self, error: StoreError) -> StoreError {
        if !matches!(error, StoreError::Cancelled) {
            self.damage().get_or_insert(error);
            self.stop.cancel();
        }
        StoreError::Cancelled
    }

    /// Proves what is not proved yet. The first failure stops the run; it is kept as the [damage](Self::damaged) and the
    /// answer here, as to everybody who is stopped by it, is [`StoreError::Cancelled`].
    pub(super) async fn ensure(
        &self,
        blobs: impl Iterator<Item = &Descriptor>,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut proved = self.proved.lock().await;
        let mut seen = BTreeSet::new();
        let new: Vec<Descriptor> = blobs
            .filter(|b| !proved.contains(b.digest()) && seen.insert(b.digest().clone()))
            .cloned()
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        events.emit(Event::Phase { name: "verify", total: Some(new.len() as u64) });
        self.prove_all(&new, cancel).await.map_err(|error| self.blame(error))?;
        proved.extend(new.iter().map(|b| b.digest().clone()));
        Ok(())
    }

    /// Each in a task of its own: hashing waits for nothing, so within one task one would wait for the other.
    async fn prove_all(&self, blobs: &[Descriptor], cancel: &CancellationToken) -> Result<(), StoreError> {
        let (mut waiting, mut running) = (blobs.iter().cloned(), JoinSet::new());
        loop {
            while running.len() < PARALLEL
                && let Some(blob) = waiting.next()
            {
                let (source, cancel) = (Arc::clone(&self.source), cancel.clone());
                running.spawn(async move { prove(source.as_ref(), &blob, None, &cancel).await });
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(Ok(proof)) => proof?,
                Some(Err(ended)) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(StoreError::Cancelled),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Recorder, silent};
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_blob_is_hashed_once_and_damage_is_named() {
        let store = MemoryStore::new();
        let good = store.insert("x", "good");
        let recorder = Arc::new(Recorder::default());
        let events: Events = Arc::clone(&recorder) as Events;
        let preflight = Preflight::new(Arc::new(store.clone()), CancellationToken::new());
        let cancel = CancellationToken::new();
        for _ in 0..2 {
            preflight.ensure([&good, &good].into_iter(), &events, &cancel).await.unwrap();
        }
        assert_eq!(recorder.events(), [Event::Phase { name: "verify", total: Some(1) }]);

        let lie = Descriptor::new("x", Digest::sha256(b"expected"), 4);
        let damaged = Lying(store);
        let stop = CancellationToken::new();
        let preflight = Preflight::new(Arc::new(damaged), stop.clone());
        let answer = preflight.ensure([&lie].into_iter(), &silent(), &cancel).await;
        assert!(matches!(answer, Err(StoreError::Cancelled)) && stop.is_cancelled());
        let error = preflight.take_damage().unwrap();
        assert!(matches!(&error, StoreError::DigestMismatch { expected, .. } if expected == lie.digest()));
        cancel.cancel();
        let error = preflight.ensure([&good].into_iter(), &silent(), &cancel).await.unwrap_err();
        assert!(matches!(error, StoreError::Cancelled));
        assert_eq!(preflight.damaged(), None, "to be stopped is no damage");
    }

    /// Gives the same four bytes for everything.
    struct Lying(MemoryStore);

    #[async_trait::async_trait]
    impl BlobSource for Lying {
        fn label(&self) -> String {
            "a damaged bundle".to_owned()
        }
        async fn size(&self, _: &Digest) -> Result<Option<u64>, StoreError> {
            Ok(Some(4))
        }
        async fn read(
            &self,
            _: &Descriptor,
            range: std::ops::Range<u64>,
        ) -> Result<crate::store::ByteStream, StoreError> {
            self.0.read(&Descriptor::of("x", b"good"), range).await
        }
    }
}

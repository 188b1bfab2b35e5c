//! Whether all that the cache holds is what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::pull::offload;
use super::record::Stored;
use super::{CacheError, ImageCache};
use crate::event::{Event, Events};
use crate::oci::{Digest, ImageRef};
use crate::store::StoreError;

/// What a check found. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Images that were looked at.
    pub images: usize,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// What was damaged; it was put away, and is fetched again by the next pull.
    pub bad: Vec<BadEntry>,
    /// What images need and the cache does not have.
    pub missing: Vec<MissingBlob>,
}

/// Something damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadEntry {
    /// Its path in the cache, usually `blobs/sha256/HEX`.
    pub entry: String,
    /// What is wrong with it.
    pub reason: String,
    /// The images that need it.
    pub images: Vec<ImageRef>,
    /// Where it is now, for whoever wants to know what happened.
    pub quarantine: Option<String>,
}

/// A blob that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingBlob {
    /// Which.
    pub digest: Digest,
    /// The images that need it.
    pub images: Vec<ImageRef>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn whole(&self) -> bool {
        self.bad.is_empty() && self.missing.is_empty()
    }

    /// Every image that something is wrong with, sorted.
    pub fn damaged(&self) -> Vec<ImageRef> {
        let images =
            self.bad.iter().flat_map(|b| &b.images).chain(self.missing.iter().flat_map(|m| &m.images));
        let mut all: Vec<ImageRef> = images.cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

impl ImageCache {
    /// Hashes every blob, needed or not, on as many threads as the machine has processors, and checks that every image
    /// has all of its blobs. With `images` only what these need. Damaged blobs are put away.
    ///
    /// # Errors
    /// [`CacheError::NotCached`]; the cache cannot be read; cancellation. Damage is in the report.
    pub async fn verify(
        &self,
        images: &[ImageRef],
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<VerifyReport, CacheError> {
        let (this, wanted) = (self.clone(), images.to_vec());
        let (records, mut bad, todo) = offload(move || this.to_verify(&wanted)).await?;
        let mut users: BTreeMap<Digest, Vec<ImageRef>> = BTreeMap::new();
        for stored in &records {
            for blob in stored.blobs() {
                users.entry(blob.digest().clone()).or_default().push(stored.record.image.clone());
            }
        }
        let users = Arc::new(users);
        let bytes = todo.iter().map(|(_, size)| size).sum();
        events.emit(Event::Phase { name: "verify", total: Some(todo.len() as u64) });
        events.emit(Event::CheckPlanned { blobs: todo.len() as u64, bytes });
        let check = |(digest, size): (Digest, u64)| {
            let (this, events) = (self.clone(), Arc::clone(events));
            async move {
                if cancel.is_cancelled() {
                    return Err(StoreError::Cancelled.into());
                }
                let of = digest.clone();
                let found = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(StoreError::Cancelled.into()),
                    found = offload(move || this.check(&of)) => found?,
                };
                events.emit(Event::TransferProgress { node: None, digest: digest.clone(), bytes: size });
                Ok::<_, CacheError>((digest, found))
            }
        };
        let blobs = todo.len();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut checks = stream::iter(todo).map(check).buffer_unordered(threads);
        while let Some(done) = checks.next().await {
            let (digest, found) = done?;
            if let Some((reason, quarantine)) = found {
                let images = users.get(&digest).cloned().unwrap_or_default();
                bad.push(BadEntry { entry: digest.layout_path(), reason, images, quarantine });
            }
        }
        bad.sort_by(|a, b| a.entry.cmp(&b.entry));
        let this = self.clone();
        let images = records.len();
        let missing = offload(move || this.missing(&records)).await?;
        Ok(VerifyReport { images, blobs, bytes, bad, missing })
    }

    /// What is to be hashed. Files that are no names' are put away at once.
    #[allow(clippy::type_complexity)]
    fn to_verify(
        &self,
        wanted: &[ImageRef],
    ) -> Result<(Vec<Stored>, Vec<BadEntry>, Vec<(Digest, u64)>), CacheError> {
        self.refresh()?;
        if !wanted.is_empty() {
            let one = |i: &ImageRef| self.record(i)?.ok_or_else(|| self.not_cached(i));
            let records = wanted.iter().map(one).collect::<Result<Vec<Stored>, _>>()?;
            let mut todo = BTreeMap::new();
            for blob in records.iter().flat_map(Stored::blobs) {
                if let Ok(meta) = std::fs::symlink_metadata(self.blob_path(blob.digest())) {
                    todo.insert(blob.digest().clone(), meta.len());
                }
            }
            return Ok((records, Vec::new(), todo.into_iter().collect()));
        }
        let (records, damaged) = self.records()?;
        let mut bad = Vec::new();
        for file in damaged {
            let entry = file.path.strip_prefix(&self.root).unwrap_or(&file.path).display().to_string();
            let name = entry.replace('/', "_");
            let quarantine = Some(self.put_away(&file.path, &name)?.display().to_string());
            bad.push(BadEntry { entry, reason: file.reason, images: Vec::new(), quarantine });
        }
        Ok((records, bad, self.digests()?))
    }

    /// What is wrong with a blob, and where it is now. A blob that went meanwhile is no damage.
    fn check(&self, digest: &Digest) -> Result<Option<(String, Option<String>)>, CacheError> {
        let reason = match self.hash(digest) {
            Ok((found, _)) if found == *digest => return Ok(None),
            Ok((found, _)) => format!("its bytes hash to {found}"),
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => error.to_string(),
        };
        let put_away = match self.quarantine(digest) {
            // Mended meanwhile, or nobody may write here.
            Ok(None) => return Ok(None),
            Ok(Some(path)) => Some(path.display().to_string()),
            Err(_) => None,
        };
        Ok(Some((reason, put_away)))
    }

    fn missing(&self, records: &[Stored]) -> Result<Vec<MissingBlob>, CacheError> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        // So that nobody deletes an image while its blobs are looked for.
        let _content = self.content_shared()?;
        let mut missing: BTreeMap<Digest, Vec<ImageRef>> = BTreeMap::new();
        for stored in records {
            let lacks: Vec<_> = stored.blobs().filter(|b| !self.has(b)).collect();
            if lacks.is_empty() || self.record(&stored.record.image)?.is_none() {
                continue;
            }
            for blob in lacks {
                missing.entry(blob.digest().clone()).or_default().push(stored.record.image.clone());
            }
        }
        Ok(missing.into_iter().map(|(digest, images)| MissingBlob { digest, images }).collect())
    }
}

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::open::{Bundle, BundleError};
use super::opening::Opening;
use super::volume::{self, BadVolume};
use crate::event::{Event, Events};
use crate::oci::{Descriptor, Digest};
use crate::store::StoreError;

/// What a full check found. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Images in the bundle.
    pub images: usize,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// What it was built against, if it is a delta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_of: Option<String>,
    /// Everything that is wrong; empty: the bundle is whole.
    pub bad: Vec<BadBlob>,
    /// Volumes that are missing or damaged, of a bundle that lies on volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_volumes: Vec<BadVolume>,
}

/// Something wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadBlob {
    /// The entry, usually `blobs/sha256/HEX`.
    pub entry: String,
    /// What is wrong with it, and which images need it.
    pub reason: String,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn whole(&self) -> bool {
        self.bad.is_empty() && self.bad_volumes.is_empty()
    }
}

/// Hashes every blob, needed or not, and checks that every needed one is there, on as many threads as the machine
/// has processors.
///
/// # Errors
/// When the bundle cannot be read so far that its images are known; damaged blobs are in the report.
pub async fn verify(
    path: &Path,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<VerifyReport, BundleError> {
    verify_opened(&Opening::new([path]).told(events, cancel)).await
}

/// As [`verify`], of what is opened as is said here.
///
/// # Errors
/// As [`verify`].
pub async fn verify_opened(opening: &Opening) -> Result<VerifyReport, BundleError> {
    let Opening { events, cancel, .. } = opening;
    let Some(set) = opening.volumes().await? else {
        return Ok(blobs(&Bundle::load(opening).await?, events, cancel).await?.0);
    };
    // Every byte is read once: what the digests of blobs prove need not be held against the hashes of chunks.
    let (mut report, good) = match Bundle::load(opening).await {
        Ok(bundle) => {
            let (report, good) = blobs(&bundle, events, cancel).await?;
            let mut places: Vec<_> = good.iter().filter_map(|d| bundle.place(d)).collect();
            places.sort_by_key(|r| r.start);
            (report, places)
        }
        Err(BundleError::Store(StoreError::Cancelled)) => return Err(StoreError::Cancelled.into()),
        Err(error) => {
            let report = VerifyReport {
                images: 0,
                blobs: 0,
                bytes: 0,
                delta_of: None,
                bad: Vec::new(),
                bad_volumes: Vec::new(),
            };
            let (bad, bytes) = volume::check(&set, &[], events, cancel).await?;
            // The volumes are as they were written: what was written is at fault.
            return if bad.is_empty() {
                Err(error)
            } else {
                Ok(VerifyReport { bytes, bad_volumes: bad, ..report })
            };
        }
    };
    let (bad, bytes) = volume::check(&set, &good, events, cancel).await?;
    report.bad_volumes = bad;
    report.bytes = report.bytes.saturating_add(bytes);
    Ok(report)
}

/// Gives also the blobs that are what their digests say.
async fn blobs(
    bundle: &Bundle,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<(VerifyReport, Vec<Digest>), BundleError> {
    let mut bad: BTreeMap<String, String> =
        bundle.problems().await?.into_iter().map(|p| (p.entry, p.reason)).collect();
    let needed = bundle.needed();
    let stored: Vec<(Digest, u64)> =
        bundle.stored().into_iter().filter(|(d, _)| !bad.contains_key(&d.layout_path())).collect();
    let bytes: u64 = stored.iter().map(|(_, size)| size).sum();
    events.emit(Event::Phase { name: "verify", total: Some(stored.len() as u64) });
    events.emit(Event::CheckPlanned { blobs: stored.len() as u64, bytes });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let check = |(digest, size): (Digest, u64)| {
        async move {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let blob = Descriptor::new("", digest.clone(), size);
            // The thread that hashes ends by itself; nobody waits for it.
            let found = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(StoreError::Cancelled),
                found = bundle.hash(&blob) => match found {
                    // A sector that cannot be read damages one blob; the others are still of interest.
                    Err(StoreError::Io { source, .. }) => Err(format!("it cannot be read: {source}")),
                    found => Ok(found?),
                },
            };
            events.emit(Event::TransferProgress { node: None, digest: digest.clone(), bytes: size });
            Ok((digest, found))
        }
    };
    // The largest first, so that the last thread is not left with a large one alone.
    let mut order = stored.clone();
    order.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let mut hashes = stream::iter(order).map(check).buffer_unordered(threads);
    let mut good = Vec::new();
    while let Some(done) = hashes.next().await {
        let (digest, found) = done?;
        let reason = match found {
            Ok(found) if found == digest => {
                good.push(digest);
                continue;
            }
            Ok(found) => format!("its bytes hash to {found}"),
            Err(reason) => reason,
        };
        let users = if needed.contains_key(&digest) { bundle.users(&digest) } else { "no image".to_owned() };
        bad.insert(digest.layout_path(), format!("{reason}; needed by {users}"));
    }
    drop(hashes);
    let bad = bad.into_iter().map(|(entry, reason)| BadBlob { entry, reason }).collect();
    let report = VerifyReport {
        images: bundle.images().len(),
        blobs: stored.len(),
        bytes,
        delta_of: bundle.delta().map(|d| d.base.clone()),
        bad,
        bad_volumes: Vec::new(),
    };
    Ok((report, good))
}

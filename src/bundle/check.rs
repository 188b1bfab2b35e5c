use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use serde::{Serialize, Serializer};
use tokio_util::sync::CancellationToken;

use super::delta::Delta;
use super::error::BundleError;
use super::open::Bundle;
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
    Ok(checked(opening).await?.0)
}

/// What the check of one of several bundles found.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// As they were given: one, or those of the volumes.
    pub paths: Vec<PathBuf>,
    /// Of this bundle by itself; or why it cannot be read so far that its images are known, which is `error` in JSON.
    #[serde(flatten, serialize_with = "found")]
    pub report: Result<VerifyReport, BundleError>,
    /// Of a delta that was given together with other bundles: what it leaves out and none of these has whole. Empty: they
    /// are all that it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Vec<Digest>>,
}

fn found<S: Serializer>(
    report: &Result<VerifyReport, BundleError>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match report {
        Ok(report) => report.serialize(serializer),
        Err(error) => BTreeMap::from([("error", error.to_string())]).serialize(serializer),
    }
}

/// Verifies every bundle that the paths of an opening name (volumes belong together, any other path is a bundle of its
/// own) and holds deltas among them against the others, in the order in which they were given. One that cannot be read
/// does not hide what is found of the others.
///
/// # Errors
/// When it is cancelled, or as [`verify`] of a bundle that was given alone.
pub async fn verify_together(opening: &Opening) -> Result<Vec<Verified>, BundleError> {
    let apart = opening.apart().await?;
    let (mut all, mut held) = (Vec::new(), Vec::new());
    for one in &apart {
        let (report, bundle) = match checked(one).await {
            Ok((report, bundle)) => (Ok(report), bundle),
            Err(error) if apart.len() == 1 || error.is_cancelled() => return Err(error),
            Err(error) => (Err(error), None),
        };
        let bad: BTreeSet<&str> = report.iter().flat_map(|r| &r.bad).map(|b| b.entry.as_str()).collect();
        let stored = bundle.iter().flat_map(Bundle::stored);
        let whole: BTreeMap<Digest, u64> =
            stored.filter(|(digest, _)| !bad.contains(digest.layout_path().as_str())).collect();
        held.push((whole, bundle.as_ref().and_then(Bundle::delta).cloned()));
        all.push(Verified { paths: one.paths.clone(), report, lacks: None });
    }
    if all.len() > 1 {
        for (verified, (_, delta)) in all.iter_mut().zip(&held) {
            let has = |(digest, size): &(&Digest, &u64)| {
                held.iter().any(|(whole, _)| whole.get(*digest) == Some(*size))
            };
            let lacks = |d: &Delta| d.absent.iter().filter(|b| !has(b)).map(|(d, _)| d.clone()).collect();
            verified.lacks = delta.as_ref().map(lacks);
        }
    }
    Ok(all)
}

/// Gives also the bundle, if it could be opened.
async fn checked(opening: &Opening) -> Result<(VerifyReport, Option<Bundle>), BundleError> {
    let Opening { events, cancel, .. } = opening;
    let Some(set) = opening.volumes().await? else {
        let bundle = Bundle::load(opening).await?;
        return Ok((blobs(&bundle, events, cancel).await?.0, Some(bundle)));
    };
    // Every byte is read once: what the digests of blobs prove need not be held against the hashes of chunks.
    let (mut report, good, bundle) = match Bundle::load(opening).await {
        Ok(bundle) => {
            let (report, good) = blobs(&bundle, events, cancel).await?;
            let mut places: Vec<_> = good.iter().filter_map(|d| bundle.place(d)).collect();
            places.sort_by_key(|r| r.start);
            (report, places, bundle)
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
                Ok((VerifyReport { bytes, bad_volumes: bad, ..report }, None))
            };
        }
    };
    let (bad, bytes) = volume::check(&set, &good, events, cancel).await?;
    report.bad_volumes = bad;
    report.bytes = report.bytes.saturating_add(bytes);
    Ok((report, Some(bundle)))
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

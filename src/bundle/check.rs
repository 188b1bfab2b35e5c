use std::collections::BTreeMap;
use std::path::Path;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::open::{Bundle, BundleError};
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
        self.bad.is_empty()
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
    let bundle = Bundle::load(path).await?;
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
        let bundle = &bundle;
        async move {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let blob = Descriptor::new("", digest.clone(), size);
            // The thread that hashes ends by itself; nobody waits for it.
            let found = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(StoreError::Cancelled),
                found = bundle.hash(&blob) => found?,
            };
            events.emit(Event::TransferProgress { node: None, digest: digest.clone(), bytes: size });
            Ok((digest, found))
        }
    };
    let mut hashes = stream::iter(stored.clone()).map(check).buffer_unordered(threads);
    while let Some(done) = hashes.next().await {
        let (digest, found) = done?;
        if digest != found {
            let users =
                if needed.contains_key(&digest) { bundle.users(&digest) } else { "no image".to_owned() };
            bad.insert(digest.layout_path(), format!("its bytes hash to {found}; needed by {users}"));
        }
    }
    let bad = bad.into_iter().map(|(entry, reason)| BadBlob { entry, reason }).collect();
    Ok(VerifyReport {
        images: bundle.images().len(),
        blobs: stored.len(),
        bytes,
        delta_of: bundle.delta().map(|d| d.base.clone()),
        bad,
    })
}

//! The blobs of a push: each is asked for first, then mounted or sent once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::destination::Destination;
use super::{PushError, PushImage, PushOptions};
use crate::copy::{Job, copy_blob};
use crate::event::Event;
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest, ImageRef};
use crate::store::{BlobSource, StoreError};

/// Times that a blob is sent from its start because the registry lost what it had of it.
const ATTEMPTS: u32 = 6;

#[derive(Default)]
pub(super) struct Counts {
    pub(super) uploaded: usize,
    pub(super) uploaded_bytes: u64,
    pub(super) mounted: usize,
    pub(super) present: usize,
}

/// A blob, who has it, and the repositories that need it.
pub(super) struct Need {
    blob: Descriptor,
    source: Arc<dyn BlobSource>,
    places: Vec<Destination>,
    /// Whether the source does not have it.
    absent: bool,
}

/// That the registry has what the source does not, in a repository of this push.
pub(super) async fn at_the_registry(needs: &[Need], options: PushOptions) -> Result<(), PushError> {
    let there = |need: &Need| {
        let (places, blob) = (need.places.clone(), need.blob.clone());
        async move {
            for place in &places {
                let there = place.has("blobs", blob.digest()).await?;
                let mounts = if options.dry_run {
                    place.may_mount(&blob)
                } else {
                    !there && place.mount(&blob).await?
                };
                if there || mounts {
                    return Ok(None);
                }
            }
            let registry = places.first().map(|p| p.image.registry().to_owned());
            Ok::<_, PushError>(registry.map(|registry| (registry, blob)))
        }
    };
    let asked: Vec<_> = needs.iter().filter(|n| n.absent).map(there).collect();
    let lacking: Vec<(String, Descriptor)> = stream::iter(asked)
        .buffer_unordered(options.parallel.max(1))
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    let Some((registry, _)) = lacking.first().cloned() else { return Ok(()) };
    let bytes = lacking.iter().fold(0u64, |n, (_, b)| n.saturating_add(b.size()));
    let mut missing: Vec<Digest> = lacking.into_iter().map(|(_, b)| b.digest().clone()).collect();
    missing.sort();
    Err(PushError::Base { registry, missing, bytes })
}

/// Each blob once, the largest first, with every repository that needs it.
pub(super) fn needs(images: &[PushImage], at: impl Fn(&ImageRef) -> Option<Destination>) -> Vec<Need> {
    let mut seen = BTreeSet::new();
    let mut all: BTreeMap<(String, Digest), Need> = BTreeMap::new();
    for image in images {
        for blob in image.graph.blobs.iter().filter(|b| b.kind() == Kind::Blob) {
            if !seen.insert((image.target.name(), blob.digest().clone())) {
                continue;
            }
            let Some(place) = at(&image.target) else { continue };
            let key = (image.target.registry().to_owned(), blob.digest().clone());
            let need = all.entry(key).or_insert_with(|| Need {
                blob: blob.clone(),
                source: Arc::clone(&image.source),
                places: Vec::new(),
                absent: image.absent.contains(blob.digest()),
            });
            need.places.push(place);
        }
    }
    let mut all: Vec<Need> = all.into_values().collect();
    all.sort_by_key(|need| std::cmp::Reverse(need.blob.size()));
    all
}

/// A blob, and where it is and is not.
pub(super) struct Looked {
    need: Need,
    present: usize,
    missing: Vec<Destination>,
}

impl Looked {
    /// Bytes that have to be sent for it, as far as can be told before a registry was asked to take it over from another
    /// repository.
    pub(super) fn to_send(&self) -> Option<u64> {
        let elsewhere = || self.missing.iter().any(|place| place.may_mount(&self.need.blob));
        let send = !self.need.absent && self.present == 0 && !self.missing.is_empty() && !elsewhere();
        send.then(|| self.need.blob.size())
    }

    pub(super) fn size(&self) -> u64 {
        self.need.blob.size()
    }
}

/// Asks every repository that needs a blob for it.
pub(super) async fn look(need: Need) -> Result<Looked, PushError> {
    let mut looked = Looked { present: 0, missing: Vec::new(), need };
    for place in &looked.need.places {
        if place.has("blobs", looked.need.blob.digest()).await? {
            looked.present += 1;
        } else {
            looked.missing.push(place.clone());
        }
    }
    Ok(looked)
}

/// Brings a blob to every repository that lacks it.
pub(super) async fn settle(looked: Looked, options: PushOptions, job: &Job) -> Result<Counts, PushError> {
    let Looked { need, present, missing } = looked;
    let mut counts = Counts { present, ..Counts::default() };
    let mut there = counts.present > 0;
    for place in missing {
        if options.dry_run {
            if there || place.may_mount(&need.blob) {
                counts.mounted += 1;
            } else {
                (counts.uploaded, counts.uploaded_bytes) = (1, need.blob.size());
            }
        } else if place.mount(&need.blob).await? {
            counts.mounted += 1;
        } else if need.absent {
            // Another repository of the registry has it, and the registry does not let this one take it over.
            let registry = place.image.registry().to_owned();
            let (missing, bytes) = (vec![need.blob.digest().clone()], need.blob.size());
            return Err(PushError::Base { registry, missing, bytes });
        } else {
            send(need.source.as_ref(), &place, &need.blob, job).await?;
            counts.uploaded += 1;
            counts.uploaded_bytes += need.blob.size();
        }
        there = true;
    }
    Ok(counts)
}

/// Sends a blob, and anew from its start when the registry has lost what it had of it.
async fn send(
    source: &dyn BlobSource,
    place: &Destination,
    blob: &Descriptor,
    job: &Job,
) -> Result<(), StoreError> {
    let mut attempt = 1;
    loop {
        match copy_blob(source, place, blob, job).await {
            Ok(_) => return Ok(()),
            Err(error @ StoreError::Lost { .. }) if attempt < ATTEMPTS => {
                job.events.emit(Event::Retry {
                    what: format!("upload of {} to {}", blob.digest(), place.image.name()),
                    reason: error.to_string(),
                    delay_ms: 0,
                });
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

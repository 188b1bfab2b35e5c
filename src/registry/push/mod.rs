//! Putting images into a registry: blobs first, each sent once and mounted wherever else it is needed; then manifests,
//! children before parents; tags last. What is there is skipped, so that a push that broke off goes on when it is run
//! again. Nothing is ever deleted or changed but the tags that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Registry, RegistryError};
use crate::copy::{Job, copy_blob};
use crate::event::{Event, Events};
use crate::graph::ImageGraph;
use crate::oci::media::{self, Kind};
use crate::oci::{Descriptor, Digest, ImageRef, MAX_MANIFEST_BYTES, Manifest};
use crate::store::{BlobSource, StoreError, read_verified};

mod destination;
mod map;
mod upload;

use destination::{Destination, Writer};
pub use map::Mapping;

/// Times that a blob is sent from its start because the registry lost what it had of it.
const ATTEMPTS: u32 = 6;

/// An image and the name that it gets.
#[derive(Clone)]
pub struct PushImage {
    /// What it is called where it comes from, for the report.
    pub name: String,
    /// Where it goes; without a tag it can be had by digest only.
    pub target: ImageRef,
    /// All that belongs to it.
    pub graph: Arc<ImageGraph>,
    /// Where its blobs are read.
    pub source: Arc<dyn BlobSource>,
    /// Blobs that the source does not have, because a delta leaves them out: the registry must.
    pub absent: Arc<BTreeSet<Digest>>,
}

/// How a push goes about it.
#[derive(Debug, Clone, Copy)]
pub struct PushOptions {
    /// Blobs at the same time.
    pub parallel: usize,
    /// Bytes that are sent with one request; this much is held in memory for each of `parallel`.
    pub chunk: u64,
    /// Asks what is there, and sends nothing.
    pub dry_run: bool,
    /// Fails where a registry takes no index with platforms missing, instead of pushing an index of those that are
    /// there, which has another digest.
    pub keep_digests: bool,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { parallel: 4, chunk: 8 << 20, dry_run: false, keep_digests: false }
    }
}

/// What was done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushState {
    /// It was put there, or would be.
    Pushed,
    /// It was there under this name.
    Present,
    /// An index of the platforms that were at hand was put there: it has another digest.
    Reduced,
}

/// One image of a push.
#[derive(Debug, Clone, Serialize)]
pub struct PushedImage {
    /// What it is called where it comes from.
    pub name: String,
    /// Its name in the registry.
    pub target: ImageRef,
    /// What that name stands for now.
    pub digest: Digest,
    /// What was done.
    pub state: PushState,
}

/// What a push did. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct PushReport {
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// Sorted by target.
    pub images: Vec<PushedImage>,
    /// A text for each image that could not be pushed.
    pub failed: Vec<String>,
    /// Blobs that were sent, or would be.
    pub uploaded: usize,
    /// Their sizes together.
    pub uploaded_bytes: u64,
    /// Blobs that the registry took over from another repository.
    pub mounted: usize,
    /// Blobs that were where they belong.
    pub present: usize,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// Why nothing was pushed, or not all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Two images would get one name.
    #[error("{target} would be {first} and {second}; give one of them another name with --map")]
    Conflict {
        /// The name.
        target: ImageRef,
        /// An image.
        first: String,
        /// Another one.
        second: String,
    },
    /// A delta leaves out what the registry does not have, or has in another repository only and does not give. Nothing was sent
    /// in the first case.
    #[error(
        "{registry} lacks {} that this delta leaves out ({}): push its base first.{}",
        if missing.len() == 1 { "1 blob".to_owned() } else { format!("{} blobs", missing.len()) },
        crate::units::bytes(*bytes),
        missing.iter().take(20).map(|d| format!("\n  {d}")).collect::<String>()
    )]
    Base {
        /// The registry.
        registry: String,
        /// Which.
        missing: Vec<Digest>,
        /// Bytes of them.
        bytes: u64,
    },
    /// The registry refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A blob cannot be read or sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stopped.
    #[error("cancelled")]
    Cancelled,
}

#[derive(Default)]
struct Counts {
    uploaded: usize,
    uploaded_bytes: u64,
    mounted: usize,
    present: usize,
}

/// A blob, who has it, and the repositories that need it.
struct Need {
    blob: Descriptor,
    source: Arc<dyn BlobSource>,
    places: Vec<Destination>,
    /// Whether the source does not have it.
    absent: bool,
}

/// Pushes images to one or more registries.
///
/// # Errors
/// [`PushError`] when names are at odds (nothing was sent then) or blobs cannot be sent; an image whose manifests are
/// refused is told in the report and does not stop the others.
pub async fn push(
    images: &[PushImage],
    registry: &Registry,
    options: PushOptions,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<PushReport, PushError> {
    let started = Instant::now();
    check_names(images)?;
    let work = async {
        let mut writers: BTreeMap<&str, Writer> = BTreeMap::new();
        for image in images {
            let host = image.target.registry();
            if !writers.contains_key(host) {
                writers.insert(host, Writer::new(&registry.http, host, options.chunk, events)?);
            }
        }
        let at = |image: &ImageRef| writers.get(image.registry()).map(|w| w.at(image));
        images.iter().for_each(|i| i.hint(&writers));
        let needs = needs(images, at);
        at_the_registry(&needs, options).await?;
        events.emit(Event::Phase { name: "push", total: Some(images.len() as u64) });
        let bytes = needs.iter().fold(0u64, |n, need| n.saturating_add(need.blob.size()));
        if !options.dry_run {
            events.emit(Event::TransferPlanned { node: None, blobs: needs.len() as u64, bytes, skipped: 0 });
        }
        let job = Job {
            events: Arc::clone(events),
            cancel: cancel.clone(),
            node: None,
            parallel: options.parallel,
        };
        let counts: Vec<Counts> = stream::iter(needs)
            .map(|need| settle(need, options, &job))
            .buffer_unordered(options.parallel.max(1))
            .try_collect()
            .await?;
        // One after the other within a repository: registries check an index against manifests that another request
        // may be writing at that moment.
        let mut repositories: BTreeMap<String, Vec<&PushImage>> = BTreeMap::new();
        images.iter().for_each(|i| repositories.entry(i.target.name()).or_default().push(i));
        let done: Vec<Vec<_>> = stream::iter(repositories.into_values())
            .map(|group| async move {
                let mut done = Vec::with_capacity(group.len());
                for image in group {
                    done.push((image, finish(image, at(&image.target), options, events).await));
                }
                done
            })
            .buffer_unordered(options.parallel.max(1))
            .collect()
            .await;
        Ok::<_, PushError>((counts, done))
    };
    let (counts, done) = tokio::select! {
        done = work => done.map_err(|e| if cancel.is_cancelled() { PushError::Cancelled } else { e })?,
        () = cancel.cancelled() => return Err(PushError::Cancelled),
    };
    let (mut pushed, mut failed) = (Vec::new(), Vec::new());
    for (image, result) in done.into_iter().flatten() {
        match result {
            Ok(one) => pushed.push(one),
            Err(error) => failed.push(format!("{} as {}: {error}", image.name, image.target)),
        }
    }
    pushed.sort_by(|a, b| a.target.cmp(&b.target));
    failed.sort();
    Ok(PushReport {
        dry_run: options.dry_run,
        images: pushed,
        failed,
        uploaded: counts.iter().map(|c| c.uploaded).sum(),
        uploaded_bytes: counts.iter().map(|c| c.uploaded_bytes).sum(),
        mounted: counts.iter().map(|c| c.mounted).sum(),
        present: counts.iter().map(|c| c.present).sum(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

impl PushImage {
    /// Where an image comes from the registry that it goes to, or was built from it, its blobs may be mounted.
    fn hint(&self, writers: &BTreeMap<&str, Writer>) {
        let Ok(origin) = self.name.parse::<ImageRef>() else { return };
        let Some(writer) =
            writers.get(origin.registry()).filter(|_| origin.registry() == self.target.registry())
        else {
            return;
        };
        self.graph.blobs.iter().for_each(|b| writer.knows(b.digest(), origin.repository()));
    }
}

/// That the registry has what the source does not, in a repository of this push.
async fn at_the_registry(needs: &[Need], options: PushOptions) -> Result<(), PushError> {
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

fn check_names(images: &[PushImage]) -> Result<(), PushError> {
    let mut owners: BTreeMap<&ImageRef, &PushImage> = BTreeMap::new();
    for image in images {
        if let Some(first) = owners.insert(&image.target, image)
            && first.graph.root.digest() != image.graph.root.digest()
        {
            let (target, first, second) = (image.target.clone(), first.name.clone(), image.name.clone());
            return Err(PushError::Conflict { target, first, second });
        }
    }
    Ok(())
}

/// Each blob once, the largest first, with every repository that needs it.
fn needs(images: &[PushImage], at: impl Fn(&ImageRef) -> Option<Destination>) -> Vec<Need> {
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

/// Brings a blob to every repository that needs it.
async fn settle(need: Need, options: PushOptions, job: &Job) -> Result<Counts, PushError> {
    let mut counts = Counts::default();
    let mut missing = Vec::new();
    for place in need.places {
        if place.has("blobs", need.blob.digest()).await? {
            counts.present += 1;
        } else {
            missing.push(place);
        }
    }
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

/// Manifests, then the tag.
async fn finish(
    image: &PushImage,
    place: Option<Destination>,
    options: PushOptions,
    events: &Events,
) -> Result<PushedImage, PushError> {
    let root = &image.graph.root;
    let pushed = |digest: &Digest, state| PushedImage {
        name: image.name.clone(),
        target: image.target.clone(),
        digest: digest.clone(),
        state,
    };
    let Some(place) = place else { return Err(PushError::Cancelled) };
    let there = match image.target.tag() {
        Some(tag) => place.tagged(tag).await?.as_ref() == Some(root.digest()),
        None => place.has("manifests", root.digest()).await?,
    };
    if there {
        return Ok(pushed(root.digest(), PushState::Present));
    }
    if options.dry_run {
        return Ok(pushed(root.digest(), PushState::Pushed));
    }
    for document in image.graph.blobs.iter().filter(|b| b.kind() != Kind::Blob && b.digest() != root.digest())
    {
        if !place.has("manifests", document.digest()).await? {
            let bytes = bytes_of(image, document).await?;
            put(&place, &document.digest().to_string(), document, &bytes).await?;
        }
    }
    let bytes = bytes_of(image, root).await?;
    // By its digest first: a tag is what makes it visible.
    match put(&place, &root.digest().to_string(), root, &bytes).await {
        Ok(()) => {
            if let Some(tag) = image.target.tag() {
                place.put_manifest(tag, root.media_type(), &bytes).await?;
            }
            Ok(pushed(root.digest(), PushState::Pushed))
        }
        Err(PushError::Registry(refusal)) => {
            let Some(reduced) = reduced(image, root, &bytes, &refusal) else { return Err(refusal.into()) };
            let (Some(tag), false) = (image.target.tag(), options.keep_digests) else {
                let advice = "it takes no index whose other platforms are missing: build the bundle with --platform all";
                let (what, registry) = (image.target.to_string(), image.target.registry().to_owned());
                let reason = format!("{advice} ({refusal})");
                return Err(RegistryError::Protocol { what, registry, reason }.into());
            };
            let digest = Digest::sha256(&reduced);
            place.put_manifest(tag, root.media_type(), &reduced).await?;
            let message = format!(
                "{}: the registry takes no index with platforms missing, and was given one of those that are there: its digest is {digest}, not {}",
                image.target,
                root.digest()
            );
            events.emit(Event::Warning { message });
            Ok(pushed(&digest, PushState::Reduced))
        }
        Err(other) => Err(other),
    }
}

async fn bytes_of(image: &PushImage, document: &Descriptor) -> Result<Bytes, PushError> {
    if let Some(bytes) = image.graph.documents.get(document.digest()) {
        return Ok(bytes.clone());
    }
    Ok(read_verified(image.source.as_ref(), document, MAX_MANIFEST_BYTES).await?)
}

/// Puts a manifest, and lists it among its subject's referrers where the registry does not do so itself.
async fn put(
    place: &Destination,
    reference: &str,
    document: &Descriptor,
    bytes: &Bytes,
) -> Result<(), PushError> {
    let headers = place.put_manifest(reference, document.media_type(), bytes).await?;
    let Ok(Manifest::Image(manifest)) = Manifest::parse(document, bytes) else { return Ok(()) };
    let Some(subject) = &manifest.subject else { return Ok(()) };
    if !headers.contains_key("oci-subject") {
        place.list_referrer(subject.digest(), document, bytes).await?;
    }
    Ok(())
}

/// The same index with those entries alone that are at hand; nothing where it has all, or where something else was
/// refused.
fn reduced(image: &PushImage, root: &Descriptor, bytes: &[u8], refusal: &RegistryError) -> Option<Bytes> {
    let about_entries = match refusal {
        RegistryError::NotFound { .. } => true,
        RegistryError::Status { status, .. } => matches!(status.as_u16(), 400 | 412 | 422),
        _ => false,
    };
    if !about_entries || media::kind(root.media_type()) != Kind::Index {
        return None;
    }
    let have: BTreeSet<String> = image.graph.blobs.iter().map(|b| b.digest().to_string()).collect();
    let mut index: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let entries = index.get_mut("manifests")?.as_array_mut()?;
    let before = entries.len();
    entries.retain(|e| e.get("digest").and_then(|d| d.as_str()).is_some_and(|d| have.contains(d)));
    let shrunk = !entries.is_empty() && entries.len() < before;
    shrunk.then(|| serde_json::to_vec(&index).ok().map(Bytes::from)).flatten()
}

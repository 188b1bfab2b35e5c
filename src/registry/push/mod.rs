//! Putting images into a registry: blobs first, each sent once and mounted wherever else it is needed; then manifests,
//! children before parents; tags last. What is there is skipped, so that a push that broke off goes on when it is run
//! again. Nothing is ever deleted or changed but the tags that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Registry, RegistryError};
use crate::copy::Job;
use crate::event::{Event, Events};
use crate::graph::ImageGraph;
use crate::oci::{Digest, ImageRef};
use crate::store::{BlobSource, StoreError};

mod blobs;
mod destination;
mod finish;
mod map;
mod upload;

use blobs::{Counts, Looked, at_the_registry, look, needs, settle};
use destination::Writer;
use finish::finish;
pub use map::Mapping;

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
    /// It was there under this name; or what an earlier push had to make of it was ([`PushedImage::partial`]).
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
    /// What its name stands for where it comes from.
    pub source_digest: Digest,
    /// What was done.
    pub state: PushState,
    /// Whether it is an index of which platforms are not at hand. Some registries take none such, and are given one of the
    /// platforms that are: `digest` is another one then.
    pub partial: bool,
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
        // All are asked for before anything is said of how much is to be sent. In their order, the largest first.
        let looked: Vec<Looked> =
            stream::iter(needs).map(look).buffered(options.parallel.max(1)).try_collect().await?;
        if !options.dry_run {
            let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
            let blobs = looked.iter().filter_map(Looked::to_send).count() as u64;
            let bytes = sum(&mut looked.iter().filter_map(Looked::to_send));
            let skipped = sum(&mut looked.iter().map(Looked::size)).saturating_sub(bytes);
            events.emit(Event::TransferPlanned { node: None, blobs, bytes, skipped });
        }
        let job = Job {
            events: Arc::clone(events),
            cancel: cancel.clone(),
            node: None,
            parallel: options.parallel,
        };
        let counts: Vec<Counts> = stream::iter(looked)
            .map(|one| settle(one, options, &job))
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
    if options.dry_run {
        foretell(&pushed, options, events);
    }
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

impl PushedImage {
    /// Of a dry run: whether a registry that takes no index with platforms missing is given another one, which has another
    /// digest, or has to refuse the image; nothing where it takes the image for sure.
    pub fn unsure(&self, keep_digests: bool) -> Option<Unsure> {
        if !self.partial || self.state != PushState::Pushed {
            return None;
        }
        // What has no tag is had by its digest alone, which another index does not have.
        let fixed = keep_digests || self.target.tag().is_none();
        Some(if fixed { Unsure::Refused } else { Unsure::Replaced })
    }
}

/// What becomes of an index with platforms missing, where the registry takes none such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsure {
    /// Another one takes its place.
    Replaced,
    /// It is refused.
    Refused,
}

/// Whether a registry takes an index with platforms missing shows only when it is sent.
fn foretell(images: &[PushedImage], options: PushOptions, events: &Events) {
    for message in foretold(images, options) {
        events.emit(Event::Warning { message });
    }
}

fn foretold(images: &[PushedImage], options: PushOptions) -> Vec<String> {
    let refused = if options.keep_digests {
        "refused (--keep-digests)"
    } else {
        "refused: without a tag nothing can take the place of its digest"
    };
    let replaced = "replaced by one of the platforms that are there, with another digest";
    let mut messages = Vec::new();
    for (unsure, then) in [(Unsure::Replaced, replaced), (Unsure::Refused, refused)] {
        let mut of = images.iter().filter(|i| i.unsure(options.keep_digests) == Some(unsure));
        let Some(first) = of.next() else { continue };
        let which = match of.count() {
            0 => format!("{} is an index with platforms missing", first.target),
            n => format!("{} and {n} more are indexes with platforms missing", first.target),
        };
        messages.push(format!(
            "{which}: where the registry takes none such, as docker-registry, it is {then}; --platform all takes every platform, and the digest stays"
        ));
    }
    messages
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(target: &str, partial: bool, state: PushState) -> PushedImage {
        let digest = Digest::sha256(b"index");
        let (name, target) = (target.to_owned(), target.parse().unwrap());
        PushedImage { name, target, digest: digest.clone(), source_digest: digest, state, partial }
    }

    #[test]
    fn a_dry_run_foretells_what_a_push_would_do() {
        let by_digest = format!("h.lan/p/web@{}", Digest::sha256(b"index"));
        let images = [
            pushed("h.lan/p/all:1", false, PushState::Pushed),
            pushed("h.lan/p/there:1", true, PushState::Present),
            pushed("h.lan/p/web:1", true, PushState::Pushed),
            pushed(&by_digest, true, PushState::Pushed),
        ];
        let unsure = |keep| images.iter().map(|i| i.unsure(keep)).collect::<Vec<_>>();
        assert_eq!(unsure(false), [None, None, Some(Unsure::Replaced), Some(Unsure::Refused)]);
        assert_eq!(unsure(true), [None, None, Some(Unsure::Refused), Some(Unsure::Refused)]);
        let free = foretold(&images, PushOptions::default());
        assert!(
            free[0].starts_with("h.lan/p/web:1 is an index") && free[0].contains("it is replaced by"),
            "{free:?}"
        );
        assert!(
            free[1].starts_with(&by_digest) && free[1].contains("it is refused: without a tag"),
            "{free:?}"
        );
        let kept = foretold(&images, PushOptions { keep_digests: true, ..PushOptions::default() });
        assert!(
            kept.len() == 1
                && kept[0].contains("web:1 and 1 more are")
                && kept[0].contains("refused (--keep"),
            "{kept:?}"
        );
    }
}

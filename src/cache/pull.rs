//! Filling the cache: from registries, or from a bundle that was just built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::record::{Record, Source};
use super::statistics::Uses;
use super::{CacheError, ImageCache};
use crate::bundle::Upstream;
use crate::copy::{Job, copy_blob};
use crate::event::{Event, Events};
use crate::graph::ImageGraph;
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest, ImageRef, Platform};
use crate::registry::Referrer;
use crate::store::{BlobSource, MemoryStore, StoreError, blocking};

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The images, in any order, also twice.
    pub images: Vec<ImageRef>,
    /// Which platforms to take of each; empty: all that it has.
    pub platforms: Vec<Platform>,
    /// Blobs fetched at once.
    pub parallel: usize,
    /// Whether what refers to the images comes too: signatures, attestations, SBOMs. The upstream must be one that is
    /// told to look for them.
    pub with_referrers: bool,
}

/// What was pulled. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct PullReport {
    /// Every image that is in the cache now, sorted by name.
    pub images: Vec<PulledImage>,
    /// Every other one, sorted by name.
    pub failed: Vec<NotPulled>,
    /// Bytes that were fetched in this run.
    pub fetched: u64,
    /// Bytes that an interrupted run, or somebody else meanwhile, had fetched.
    pub resumed: u64,
    /// Bytes that were there before.
    pub cached: u64,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// One image that was asked for and is there.
#[derive(Debug, Clone, Serialize)]
pub struct PulledImage {
    /// As asked for, complete.
    pub image: ImageRef,
    /// What it stands for.
    pub digest: Digest,
    /// Bytes of its blobs, shared ones too.
    pub size: u64,
    /// Signatures, attestations and SBOMs that came with it.
    pub referrers: usize,
    /// Whether all of it was there before.
    pub cached: bool,
}

/// One image that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NotPulled {
    /// As asked for, complete.
    pub image: ImageRef,
    /// Why; names the image.
    pub reason: String,
}

type Told = Box<dyn std::error::Error + Send + Sync>;
/// What refers to an image; none: nobody was asked. The error is a text.
type Referring = Result<Option<Vec<Referrer>>, String>;

/// Images resolved at once: each is a few small requests.
const RESOLVE_PARALLEL: usize = 8;

/// An image, or something that refers to one, that is known and may lack blobs.
pub(super) struct Wanted {
    pub(super) graph: ImageGraph,
    pub(super) source: Arc<dyn BlobSource>,
    /// The image that it refers to: it gets no name of its own.
    pub(super) about: Option<ImageRef>,
}

impl Wanted {
    /// An image and what refers to it.
    pub(super) fn all<'a>(
        image: &'a ImageGraph,
        referrers: &'a [Referrer],
        source: &Arc<dyn BlobSource>,
    ) -> impl Iterator<Item = Self> + use<'a> {
        let source = Arc::clone(source);
        let one = Self { graph: image.clone(), source: Arc::clone(&source), about: None };
        std::iter::once(one).chain(referrers.iter().map(move |r| Self {
            graph: r.graph.clone(),
            source: Arc::clone(&source),
            about: Some(image.image.clone()),
        }))
    }

    /// What is named when it cannot be had.
    fn image(&self) -> &ImageRef {
        self.about.as_ref().unwrap_or(&self.graph.image)
    }
}

/// What filling did.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) failed: Vec<NotPulled>,
    pub(super) fetched: u64,
    pub(super) resumed: u64,
    /// Bytes that were there.
    pub(super) there: u64,
}

impl ImageCache {
    /// Brings images into the cache. What is there already is not fetched again, but registries are asked what each tag
    /// stands for. An image that cannot be had does not keep the others from coming. An interrupted pull goes on where it
    /// stopped when it is run again.
    ///
    /// # Errors
    /// When the cache cannot be used, or on cancellation ([`StoreError::Cancelled`]).
    pub async fn pull(
        &self,
        request: &PullRequest,
        upstream: &dyn Upstream,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<PullReport, CacheError> {
        let started = Instant::now();
        let this = self.clone();
        let lease = offload(move || {
            let lease = this.lease()?;
            this.refresh()?;
            lease.writes_names();
            Ok(lease)
        })
        .await?;
        let mut images = request.images.clone();
        images.sort();
        images.dedup();
        let (found, mut failed) = self.resolve(&images, request, upstream, events, cancel).await?;
        let (mut uses, mut wanted, mut good) = (Uses::default(), Vec::new(), Vec::new());
        let found = self.referring(found, request, upstream, events, cancel).await?;
        for (graph, there, referrers) in &found {
            let referrers = match referrers {
                Ok(referrers) => referrers.as_deref().unwrap_or_default(),
                Err(reason) => {
                    failed.push(NotPulled { image: graph.image.clone(), reason: reason.clone() });
                    continue;
                }
            };
            let (image, digest) = (graph.image.clone(), graph.root.digest().clone());
            let (size, cached, referrers_n) = (graph.size(), *there, referrers.len());
            good.push(PulledImage { image, digest, size, referrers: referrers_n, cached });
            uses.image(*there);
            wanted.extend(Wanted::all(graph, referrers, &upstream.blobs(&graph.image, events)));
        }
        let filled = self.fill(wanted, request.parallel, Source::Omk, events, cancel).await?;
        for (graph, _, referrers) in &found {
            if let Ok(Some(referrers)) = referrers
                && !filled.failed.iter().any(|f| f.image == graph.image)
            {
                self.keep_referrers(graph, referrers).await?;
            }
        }
        let cached = filled.there;
        uses.bytes(cached, filled.fetched);
        good.retain(|g| !filled.failed.iter().any(|f| f.image == g.image));
        failed.extend(filled.failed);
        good.sort_by(|a, b| a.image.cmp(&b.image));
        failed.sort();
        let this = self.clone();
        // No registry is asked about an image of a digest that is here.
        let came = good.iter().filter(|g| !g.cached || g.image.digest().is_none());
        let reached = super::reached::reached(came.map(|g| &g.image), upstream);
        offload(move || {
            this.publish()?;
            lease.published();
            this.remember_reached(&reached);
            this.count(&uses)
        })
        .await?;
        Ok(PullReport {
            images: good,
            failed,
            fetched: filled.fetched,
            resumed: filled.resumed,
            cached,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Asks what refers to each image, where that is wanted, or was before and something of it is lost.
    async fn referring(
        &self,
        images: Vec<(ImageGraph, bool)>,
        request: &PullRequest,
        upstream: &dyn Upstream,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<(ImageGraph, bool, Referring)>, CacheError> {
        let one = |(graph, there): (ImageGraph, bool)| async move {
            let (this, of) = (self.clone(), graph.clone());
            let wanted = request.with_referrers || offload(move || this.lost_referrers(&of)).await?;
            let referrers = match wanted {
                false => Ok(None),
                true => upstream.referrers(&graph, events, cancel).await.map(Some),
            };
            let told = |e: Told| format!("what refers to {}: {e}", graph.image);
            let referrers = referrers.map_err(told);
            Ok::<_, CacheError>((graph, there, referrers))
        };
        let mut all: Vec<_> =
            stream::iter(images).map(one).buffer_unordered(RESOLVE_PARALLEL).try_collect().await?;
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled.into());
        }
        all.sort_by(|a, b| a.0.image.cmp(&b.0.image));
        Ok(all)
    }

    /// What each image is, and whether all of it is there.
    async fn resolve(
        &self,
        images: &[ImageRef],
        request: &PullRequest,
        upstream: &dyn Upstream,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(Vec<(ImageGraph, bool)>, Vec<NotPulled>), CacheError> {
        events.emit(Event::Phase { name: "resolve", total: Some(images.len() as u64) });
        let one = |image: ImageRef| async move {
            let found = self.known(&image, &request.platforms, upstream, events, cancel).await;
            if let Ok((graph, _)) = &found {
                let digest = graph.root.digest().clone();
                events.emit(Event::Resolved { image: image.to_string(), digest });
            }
            (image, found)
        };
        let all =
            stream::iter(images.to_vec()).map(one).buffer_unordered(RESOLVE_PARALLEL).collect::<Vec<_>>();
        let done = tokio::select! {
            done = all => done,
            () = cancel.cancelled() => return Err(StoreError::Cancelled.into()),
        };
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled.into());
        }
        let (mut good, mut failed) = (Vec::new(), Vec::new());
        for (image, found) in done {
            match found {
                Ok(found) => good.push(found),
                Err(error) => failed.push(NotPulled { image, reason: error.to_string() }),
            }
        }
        good.sort_by(|a, b| a.0.image.cmp(&b.0.image));
        Ok((good, failed))
    }

    /// The graph of an image as its registry has it now, read from the cache where that is enough.
    pub(super) async fn known(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        upstream: &dyn Upstream,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(ImageGraph, bool), Box<dyn std::error::Error + Send + Sync>> {
        let this = self.clone();
        let (name, wanted) = (image.clone(), platforms.to_vec());
        let found = match image.digest() {
            Some(_) => offload(move || this.pinned_graph(&name, &wanted)).await?,
            None => {
                let root = upstream.resolve(image, events, cancel).await?;
                offload(move || this.whole_graph(&name, &root, &wanted)).await?
            }
        };
        match found {
            Some(graph) => Ok((graph, true)),
            None => Ok((upstream.graph(image, platforms, events, cancel).await?, false)),
        }
    }

    /// Copies what the cache lacks of these images and gives each its name as soon as all of it is there.
    ///
    /// The lanes are shared by all images, so that none waits for the last blob of another.
    pub(super) async fn fill(
        &self,
        wanted: Vec<Wanted>,
        parallel: usize,
        source: Source,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Filled, CacheError> {
        // Each blob that is missing, and the images that wait for it.
        let mut leaves: Vec<(Descriptor, Arc<dyn BlobSource>)> = Vec::new();
        let mut waiting: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        let mut open: Vec<usize> = vec![0; wanted.len()];
        let (mut seen, mut there) = (BTreeSet::new(), BTreeSet::new());
        let mut done = Filled::default();
        for (n, w) in wanted.iter().enumerate() {
            for blob in w.graph.blobs.iter().filter(|b| !w.graph.documents.contains_key(b.digest())) {
                if seen.insert(blob.digest().clone()) && self.keep(blob).await? {
                    done.there += blob.size();
                    there.insert(blob.digest().clone());
                }
                if there.contains(blob.digest()) {
                    continue;
                }
                let users = waiting.entry(blob.digest().clone()).or_default();
                if users.is_empty() {
                    leaves.push((blob.clone(), Arc::clone(&w.source)));
                }
                if users.last() != Some(&n) {
                    users.push(n);
                    open[n] += 1;
                }
            }
        }
        let bytes = leaves.iter().fold(0u64, |n, (b, _)| n.saturating_add(b.size()));
        let blobs = leaves.len() as u64;
        events.emit(Event::Phase { name: "pull", total: Some(blobs) });
        events.emit(Event::TransferPlanned { node: None, blobs, bytes, skipped: 0 });
        let this = self.clone();
        let missing: Vec<Descriptor> = leaves.iter().map(|(b, _)| b.clone()).collect();
        blocking(move || {
            let there = missing.iter().map(|b| this.blobs.bytes_of(b)).fold(0, u64::saturating_add);
            crate::store::room(&this.root.join("blobs"), bytes, there)
        })
        .await?;
        let job = Job { events: events.clone(), cancel: cancel.clone(), node: None, parallel };
        let mut broken: BTreeMap<usize, String> = BTreeMap::new();
        for n in (0..wanted.len()).filter(|n| open[*n] == 0) {
            self.finish(&wanted[n], source, &job).await.unwrap_or_else(|e| {
                broken.insert(n, e.to_string());
            });
        }
        let one = |(blob, from): (Descriptor, Arc<dyn BlobSource>)| {
            let job = &job;
            async move {
                let copied = copy_blob(from.as_ref(), self, &blob, job).await;
                (blob, copied)
            }
        };
        let mut copies = stream::iter(leaves).map(one).buffer_unordered(parallel.max(1));
        while let Some((blob, copied)) = copies.next().await {
            let error = match copied {
                Ok(copied) => {
                    done.fetched += copied.moved;
                    done.resumed += copied.resumed;
                    None
                }
                Err(StoreError::Cancelled) => return Err(StoreError::Cancelled.into()),
                Err(error) => Some(error.to_string()),
            };
            for n in waiting.remove(blob.digest()).unwrap_or_default() {
                open[n] -= 1;
                if let Some(error) = &error {
                    broken.entry(n).or_insert_with(|| error.clone());
                } else if open[n] == 0 && !broken.contains_key(&n) {
                    self.finish(&wanted[n], source, &job).await.unwrap_or_else(|e| {
                        broken.insert(n, e.to_string());
                    });
                }
            }
        }
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled.into());
        }
        let failed = broken.into_iter().map(|(n, reason)| {
            let (image, what) = (wanted[n].image().clone(), &wanted[n].graph.image);
            NotPulled { reason: format!("{what}: {reason}"), image }
        });
        done.failed = failed.collect();
        Ok(done)
    }

    /// Whether a blob is there; it stays then for as long as this process is at work.
    async fn keep(&self, blob: &Descriptor) -> Result<bool, CacheError> {
        let (this, blob) = (self.clone(), blob.clone());
        offload(move || {
            let _content = this.content_shared()?;
            Ok(this.first_missing(std::slice::from_ref(&blob))?.is_none())
        })
        .await
    }

    /// Writes the documents of an image whose other blobs are there, then its name, if it is to have one.
    async fn finish(&self, wanted: &Wanted, source: Source, job: &Job) -> Result<(), CacheError> {
        let graph = &wanted.graph;
        let memory = MemoryStore::new();
        for bytes in graph.documents.values() {
            memory.insert("", bytes.clone());
        }
        // No events: they are part of no plan.
        let quiet = Job { events: crate::event::silent(), ..job.clone() };
        let own = |b: &&Descriptor| b.kind() != Kind::Blob || graph.documents.contains_key(b.digest());
        for blob in graph.blobs.iter().filter(own) {
            if !self.keep(blob).await? {
                copy_blob(&memory, self, blob, &quiet).await?;
            }
        }
        let record = wanted.about.is_none().then(|| Record::new(&graph.image, graph, source));
        let (this, blobs) = (self.clone(), graph.blobs.clone());
        offload(move || {
            let _content = this.content_shared()?;
            if let Some(blob) = this.first_missing(&blobs)? {
                let (digest, store) = (blob.digest().clone(), this.label());
                return Err(StoreError::NotFound { digest, store }.into());
            }
            record.map_or(Ok(()), |record| this.write_record(record))
        })
        .await
    }
}

/// Runs work that blocks on a thread of its own.
pub(super) async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Cancelled)?
}

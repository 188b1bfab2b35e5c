use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::BundleImage;
use super::artifact::{Artifact, PackedArtifact};
use super::delta::{Base, DELTA_FILE, Delta};
use super::index::{self, DOCKER_FILE, INDEX_FILE, Index, LAYOUT, LAYOUT_FILE};
use super::output::check_output;
use super::referrers::{Referred, referred};
use super::transfers::{own_transfers, transfers};
use super::write::{into_folder, into_tar};
use crate::copy::Job;
use crate::event::{Event, Events};
use crate::graph::ImageGraph;
use crate::oci::{Descriptor, Digest, ImageRef, Platform};
use crate::registry::{Referrer, Registry};
use crate::store::archive::Stamp;
use crate::store::{BlobSource, StoreError};

/// Where images come from: a registry, a cache, another bundle.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// Resolves a name and reads its manifests and configs, verified.
    ///
    /// # Errors
    /// A text that names the image, the cause and the way out.
    async fn graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<ImageGraph, Box<dyn std::error::Error + Send + Sync>>;

    /// Where the blobs of an image can be read.
    fn blobs(&self, image: &ImageRef, events: &Events) -> Arc<dyn BlobSource>;

    /// What a name stands for, with as little traffic as that takes.
    ///
    /// # Errors
    /// As for [`Upstream::graph`].
    async fn resolve(
        &self,
        image: &ImageRef,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Descriptor, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.graph(image, &[], events, cancel).await?.root)
    }

    /// What refers to an image: signatures, attestations, SBOMs. Nothing unless they were asked for
    /// ([`crate::registry::RegistryOptions::with_referrers`]); who stands before another source passes this on.
    ///
    /// # Errors
    /// As for [`Upstream::graph`]; also when something is listed and is not there.
    async fn referrers(
        &self,
        _of: &ImageGraph,
        _events: &Events,
        _cancel: &CancellationToken,
    ) -> Result<Vec<Referrer>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Vec::new())
    }

    /// Whether a registry (`HOST[:PORT]`) is spoken to by plain HTTP: for messages, which name the option.
    fn is_plain(&self, _registry: &str) -> bool {
        false
    }

    /// Bytes of blobs that were given so far without fetching them.
    fn kept(&self) -> u64 {
        0
    }
}

#[async_trait]
impl Upstream for Registry {
    async fn graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<ImageGraph, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Registry::graph(self, image, platforms, events, cancel).await?)
    }

    fn blobs(&self, image: &ImageRef, events: &Events) -> Arc<dyn BlobSource> {
        Arc::new(self.repository(image, events))
    }

    fn is_plain(&self, registry: &str) -> bool {
        self.options().is_plain(registry)
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Descriptor, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Registry::resolve(self, image, events, cancel).await?)
    }

    async fn referrers(
        &self,
        of: &ImageGraph,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<Referrer>, Box<dyn std::error::Error + Send + Sync>> {
        if !self.options().with_referrers {
            return Ok(Vec::new());
        }
        Ok(Registry::referrers(self, of, events, cancel).await?)
    }
}

/// How a bundle is laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One uncompressed tar file: what `ctr images import` reads. Layers are compressed already.
    Tar,
    /// A folder with the same content.
    Folder,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The images, in any order, also twice.
    pub images: Vec<ImageRef>,
    /// Images that may be needed: one that cannot be had is left out and told, and the rest is built.
    pub optional: Vec<ImageRef>,
    /// Which platforms to take of each; empty: all that it has.
    pub platforms: Vec<Platform>,
    /// The file or folder to write.
    pub output: PathBuf,
    /// File or folder.
    pub form: Form,
    /// Blobs fetched at once.
    pub parallel: usize,
    /// Images that only some nodes need, with the groups of these; the others are for every node.
    pub groups: BTreeMap<ImageRef, BTreeSet<String>>,
    /// What rides along.
    pub artifacts: Vec<PackedArtifact>,
    /// Makes a delta: what the base has is left out.
    pub base: Option<Base>,
}

/// What was built. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct BuildReport {
    /// The file or folder.
    pub output: PathBuf,
    /// Of the file; of all blobs for a folder.
    pub size: u64,
    /// Every image with what it resolved to.
    pub images: Vec<BuiltImage>,
    /// Optional images that could not be had, sorted.
    pub left_out: Vec<LeftOut>,
    /// What rides along beside images.
    pub artifacts: usize,
    /// Signatures, attestations and SBOMs.
    pub referrers: usize,
    /// Different blobs.
    pub blobs: usize,
    /// Blobs that are left out because the base has them, and their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_base: Option<(usize, u64)>,
    /// Bytes that were fetched in this run.
    pub fetched: u64,
    /// Bytes of charts, manifests and files that were written in this run: they were at hand.
    pub own: u64,
    /// Bytes that an interrupted run had fetched.
    pub resumed: u64,
    /// Bytes that came out of the image cache.
    pub cached: u64,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// One image of a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct BuiltImage {
    /// As asked for, complete.
    pub image: ImageRef,
    /// What it resolved to.
    pub digest: Digest,
    /// The platforms that were taken.
    pub platforms: Vec<Platform>,
    /// Bytes of its blobs, shared ones too.
    pub size: u64,
}

/// An image that a bundle lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// As asked for, complete.
    pub image: ImageRef,
    /// Why; names the image.
    pub reason: String,
}

/// Why a bundle was not built. What was fetched stays beside the output and is used by the next run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nothing to put into it.
    #[error("there are no images to put into the bundle")]
    Empty,
    /// Images that cannot be had; one line each.
    #[error("{} of {asked} images cannot be had:\n  {}", failed.len(), failed.join("\n  "))]
    Images {
        /// A text for each.
        failed: Vec<String>,
        /// How many were asked for.
        asked: usize,
    },
    /// Fetching or writing failed on the way; the next run goes on from there.
    #[error("{0}")]
    Store(StoreError),
    /// Writing could not begin, so nothing was fetched.
    #[error("{0}")]
    Begin(StoreError),
    /// Nothing can be written there.
    #[error("{} cannot be written: {reason}", path.display())]
    Unwritable {
        /// The output.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The output is there and is something else.
    #[error("{} is {found}, which is never replaced; choose another output", path.display())]
    Output {
        /// The path.
        path: PathBuf,
        /// What is there, as `a folder`.
        found: String,
    },
    /// The output would be mixed with a source.
    #[error("the output {} {how} {}; write it elsewhere", path.display(), source_path.display())]
    Source {
        /// The output.
        path: PathBuf,
        /// How the two lie, as `lies in the source`.
        how: &'static str,
        /// The source.
        source_path: PathBuf,
    },
    /// One name for two images: a runtime could hold only one of them.
    #[error("{name} is asked for as {first} and as {second}; leave one out")]
    Conflict {
        /// The name.
        name: String,
        /// What one reference resolved to.
        first: Digest,
        /// What the other resolved to.
        second: Digest,
    },
    /// About volumes.
    #[error(transparent)]
    Volumes(#[from] super::VolumeError),
    /// Stopped.
    #[error("cancelled")]
    Cancelled,
}

/// Images resolved at once: each is a few small requests.
pub(super) const RESOLVE_PARALLEL: usize = 8;

/// Resolves every image, then fetches every blob once, straight into its place.
///
/// # Errors
/// When any image that is not optional cannot be had, or none at all can: nothing is fetched then. An interrupted fetch resumes when the same build is run
/// again.
pub async fn build(
    request: &BuildRequest,
    upstream: &dyn Upstream,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<BuildReport, BuildError> {
    let started = Instant::now();
    let wanted: BTreeSet<&ImageRef> = request.images.iter().chain(&request.optional).collect();
    if wanted.is_empty() && request.artifacts.is_empty() {
        return Err(BuildError::Empty);
    }
    check_output(&request.output, request.form, &[])?;
    let seen = Stamp::of(&stamped(request)).map_err(BuildError::Begin)?;
    let (graphs, left_out) = resolve(&wanted, &request.platforms, upstream, events, cancel).await?;
    let needed = |image: &ImageRef| request.images.contains(image);
    if graphs.is_empty() && !wanted.is_empty() || left_out.iter().any(|l| needed(&l.image)) {
        let mut failed: Vec<String> = left_out.into_iter().map(|l| l.reason).collect();
        failed.sort();
        return Err(BuildError::Images { failed, asked: wanted.len() });
    }
    let images = merge(graphs, &request.groups)?;
    let artifacts: Vec<Artifact> = request.artifacts.iter().map(|a| a.artifact.clone()).collect();
    let referred = referred(&images, upstream, events, cancel).await?;
    let all: Cow<'_, [BundleImage]> = if referred.is_empty() {
        Cow::Borrowed(&images)
    } else {
        images.iter().cloned().chain(referred.iter().map(Referred::image)).collect()
    };
    let documents = all.iter().map(|i| &i.graph.documents).chain(artifacts.iter().map(|a| &a.documents));
    let documents: BTreeMap<Digest, bytes::Bytes> = documents.flat_map(Clone::clone).collect();
    let mut blobs = ordered(&images, &artifacts, &referred);
    let delta = request.base.as_ref().map(|base| left_to(base, &documents, &mut blobs));
    let mut texts = texts(&images, &artifacts, &referred, &request.platforms).map_err(BuildError::Begin)?;
    if let Some(delta) = &delta {
        let text = serde_json::to_vec(delta);
        let text = text
            .map_err(|e| BuildError::Begin(StoreError::Remote(format!("cannot write {DELTA_FILE}: {e}"))))?;
        texts.retain(|(name, _)| name != DOCKER_FILE);
        texts.push((DELTA_FILE.to_owned(), text));
    }
    events.emit(Event::Phase { name: "pull", total: Some(blobs.len() as u64) });
    let mut transfers = transfers(&all, &documents, upstream, events);
    let own = Arc::new(AtomicU64::new(0));
    transfers.extend(own_transfers(&request.artifacts, &own));
    if let Some(delta) = &delta {
        transfers.retain(|t| !delta.absent.contains_key(t.blob.digest()));
    }
    let parallel = request.parallel;
    let job = Job { events: Arc::clone(events), cancel: cancel.clone(), node: None, parallel };
    let (copied, size) = match request.form {
        Form::Tar => into_tar(&request.output, seen, &blobs, texts, transfers, &job).await?,
        Form::Folder => into_folder(&request.output, seen, &blobs, texts, transfers, &job).await?,
    };
    let own = own.load(Ordering::Relaxed).min(copied.moved);
    let cached = upstream.kept().min(copied.moved - own);
    Ok(BuildReport {
        output: request.output.clone(),
        size,
        images: images.iter().flat_map(built).collect(),
        left_out,
        artifacts: artifacts.len(),
        referrers: referred.len(),
        blobs: blobs.len(),
        in_base: delta.map(|d| (d.absent.len(), d.bytes())),
        fetched: copied.moved - own - cached,
        own,
        resumed: copied.resumed,
        cached,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Takes the leaves that the base has from the blobs. Documents stay: what is in a delta can be seen without its base.
fn left_to(base: &Base, documents: &BTreeMap<Digest, bytes::Bytes>, blobs: &mut Vec<Descriptor>) -> Delta {
    let there = |b: &Descriptor| !documents.contains_key(b.digest()) && base.blobs.contains(b.digest());
    let absent = blobs.iter().filter(|b| there(b)).map(|b| (b.digest().clone(), b.size())).collect();
    blobs.retain(|b| !there(b));
    Delta { version: 1, base: base.label.clone(), absent }
}

/// What stands for the whole output: a build writes it last.
fn stamped(request: &BuildRequest) -> PathBuf {
    match request.form {
        Form::Tar => request.output.clone(),
        Form::Folder => request.output.join(INDEX_FILE),
    }
}

/// What each image is, and those that cannot be had; both sorted.
pub(super) async fn resolve(
    wanted: &BTreeSet<&ImageRef>,
    platforms: &[Platform],
    upstream: &dyn Upstream,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<(Vec<(ImageRef, ImageGraph)>, Vec<LeftOut>), BuildError> {
    events.emit(Event::Phase { name: "resolve", total: Some(wanted.len() as u64) });
    let one = |image: ImageRef| async move {
        let graph = upstream.graph(&image, platforms, events, cancel).await;
        if let Ok(graph) = &graph {
            let digest = graph.root.digest().clone();
            events.emit(Event::Resolved { image: image.to_string(), digest });
        }
        (image, graph)
    };
    let all = stream::iter(wanted.iter().map(|i| (*i).clone())).map(one).buffer_unordered(RESOLVE_PARALLEL);
    let done: Vec<_> = tokio::select! {
        done = all.collect() => done,
        () = cancel.cancelled() => return Err(BuildError::Cancelled),
    };
    let (mut good, mut failed) = (Vec::new(), Vec::new());
    for (image, graph) in done {
        match graph {
            Ok(graph) => good.push((image, graph)),
            Err(error) => failed.push(LeftOut { image, reason: error.to_string() }),
        }
    }
    if cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    failed.sort();
    good.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((good, failed))
}

/// Names that resolved to the same root are one image with several names.
fn merge(
    graphs: Vec<(ImageRef, ImageGraph)>,
    groups: &BTreeMap<ImageRef, BTreeSet<String>>,
) -> Result<Vec<BundleImage>, BuildError> {
    let mut owner: BTreeMap<String, Digest> = BTreeMap::new();
    let mut by_root: BTreeMap<Digest, BundleImage> = BTreeMap::new();
    for (image, graph) in graphs {
        let names = image.runtime_names(graph.root.digest());
        for name in &names {
            let root = graph.root.digest();
            let first = owner.entry(name.clone()).or_insert_with(|| root.clone()).clone();
            if first != *root {
                return Err(BuildError::Conflict { name: name.clone(), first, second: root.clone() });
            }
        }
        let of = groups.get(&image).cloned().unwrap_or_default();
        let mut first = false;
        let slot = by_root.entry(graph.root.digest().clone()).or_insert_with(|| {
            first = true;
            BundleImage { names: Vec::new(), groups: of.clone(), graph }
        });
        // Needed by every node under one of its names is needed by every node.
        if slot.groups.is_empty() || of.is_empty() {
            slot.groups.clear();
        } else if !first {
            slot.groups.extend(of);
        }
        slot.names.extend(names);
        slot.names.sort();
        slot.names.dedup();
    }
    Ok(by_root.into_values().collect())
}

/// Documents first, so that looking into a bundle reads one stretch; then everything else. Each sorted by digest:
/// the order must not depend on the order in which images were asked for.
pub(super) fn ordered(
    images: &[BundleImage],
    artifacts: &[Artifact],
    referred: &[Referred],
) -> Vec<Descriptor> {
    let of_images = images.iter().flat_map(|i| &i.graph.blobs);
    let of_artifacts = artifacts.iter().flat_map(Artifact::blobs);
    let of_referred = referred.iter().flat_map(|r| &r.graph.blobs);
    let blobs: BTreeMap<&Digest, &Descriptor> =
        of_images.chain(of_artifacts).chain(of_referred).map(|b| (b.digest(), b)).collect();
    let (documents, rest): (Vec<_>, Vec<_>) = blobs.into_values().partition(|b| super::open::is_document(b));
    documents.into_iter().chain(rest).cloned().collect()
}

pub(super) fn texts(
    images: &[BundleImage],
    artifacts: &[Artifact],
    referred: &[Referred],
    platforms: &[Platform],
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let json = |e: serde_json::Error| StoreError::Remote(format!("cannot write the index: {e}"));
    let index = Index::new(images, artifacts, platforms).with_referrers(referred);
    Ok(vec![
        (LAYOUT_FILE.to_owned(), LAYOUT.to_vec()),
        (INDEX_FILE.to_owned(), serde_json::to_vec(&index).map_err(json)?),
        (DOCKER_FILE.to_owned(), index::docker_manifest(images).map_err(json)?),
    ])
}

fn built(image: &BundleImage) -> Vec<BuiltImage> {
    let names = image.names.iter().filter(|n| !n.contains('@'));
    let mut parsed: Vec<ImageRef> = names.filter_map(|n| n.parse().ok()).collect();
    if parsed.is_empty() {
        parsed.push(image.graph.image.clone());
    }
    let platforms: Vec<Platform> = image.graph.images.iter().filter_map(|i| i.platform.clone()).collect();
    let entry = |name: ImageRef| BuiltImage {
        image: name,
        digest: image.graph.root.digest().clone(),
        platforms: platforms.clone(),
        size: image.graph.size(),
    };
    parsed.into_iter().map(entry).collect()
}

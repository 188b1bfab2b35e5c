//! The cache in front of registries, as a build sees it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::lock::{full, read_only};
use super::pull::{Filled, Wanted, offload};
use super::reached::reached;
use super::record::{Source, key};
use super::statistics::Uses;
use super::{CacheError, ImageCache, Lease};
use crate::bundle::Upstream;
use crate::event::Events;
use crate::graph::{ImageGraph, Walk};
use crate::oci::media::{self, Kind};
use crate::oci::{Descriptor, Digest, ImageRef, MAX_MANIFEST_BYTES, Platform};
use crate::registry::Referrer;
use crate::store::{BlobSource, ByteStream, StoreError};

type Told = Box<dyn std::error::Error + Send + Sync>;

impl ImageCache {
    /// The image that a root stands for, if all that the platforms need of it is there. Its blobs are marked as being
    /// used, and so is its name if there is one for this root.
    pub(super) fn whole_graph(
        &self,
        image: &ImageRef,
        root: &Descriptor,
        platforms: &[Platform],
    ) -> Result<Option<ImageGraph>, CacheError> {
        match self.graph_or_why(image, root, platforms)? {
            Ok(graph) => Ok(Some(graph)),
            Err(_) => Ok(None),
        }
    }

    /// As [`ImageCache::whole_graph`] for a name with a digest, which nobody need be asked about.
    pub(super) fn pinned_graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
    ) -> Result<Option<ImageGraph>, CacheError> {
        match self.local_root(image)? {
            Some(root) => self.whole_graph(image, &root, platforms),
            None => Ok(None),
        }
    }

    /// The inner error says what is missing or wrong.
    fn graph_or_why(
        &self,
        image: &ImageRef,
        root: &Descriptor,
        platforms: &[Platform],
    ) -> Result<Result<ImageGraph, String>, CacheError> {
        if !self.exists() {
            return Ok(Err("it is not there".to_owned()));
        }
        let root = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
        let _content = self.content_shared()?;
        let graph =
            match self.walk_documents(Walk::new(image.clone(), root.clone(), platforms).with_foreign())? {
                Some(Ok(graph)) => graph,
                Some(Err(error)) => return Ok(Err(error.to_string())),
                None => return Ok(Err("a manifest or config of it is missing".to_owned())),
            };
        if let Some(blob) = self.first_missing(&graph.blobs)? {
            return Ok(Err(format!("blob {} is missing", blob.digest())));
        }
        if self.record(image)?.is_some_and(|s| s.record.root.digest() == root.digest()) {
            self.used(&key(image))?;
        }
        Ok(Ok(graph))
    }

    /// What a name stands for as far as the cache knows: what its file says, or for a digest the blob itself.
    fn local_root(&self, image: &ImageRef) -> Result<Option<Descriptor>, CacheError> {
        if let Some(stored) = self.record(image)? {
            return Ok(Some(stored.record.root));
        }
        let Some(digest) = image.digest() else { return Ok(None) };
        let Ok(meta) = std::fs::symlink_metadata(self.blob_path(digest)) else { return Ok(None) };
        if !meta.is_file() || meta.len() > MAX_MANIFEST_BYTES {
            return Ok(None);
        }
        let bytes = self.document(&Descriptor::new("", digest.clone(), meta.len()))?;
        let media_type = bytes.as_deref().and_then(stated_type);
        Ok(media_type.map(|media_type| Descriptor::new(media_type, digest.clone(), meta.len())))
    }

    /// The whole image, read from the cache alone.
    ///
    /// # Errors
    /// [`CacheError::NotCached`], [`CacheError::Incomplete`]; reading failed.
    pub async fn local_graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
    ) -> Result<ImageGraph, CacheError> {
        let (this, image, platforms) = (self.clone(), image.clone(), platforms.to_vec());
        offload(move || {
            let Some(root) = this.local_root(&image)? else { return Err(this.not_cached(&image)) };
            let path = this.root.clone();
            this.graph_or_why(&image, &root, &platforms)?.map_err(|reason| CacheError::Incomplete {
                image,
                path,
                reason,
            })
        })
        .await
    }
}

/// The type that a document says it has, or that its fields tell (image-spec 1.0 leaves `mediaType` out).
fn stated_type(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(bytes).ok()?;
    match (probe.media_type.filter(|t| media::kind(t) != Kind::Blob), probe.manifests, probe.config) {
        (Some(stated), ..) => Some(stated),
        (None, Some(_), None) => Some(media::OCI_INDEX.to_owned()),
        (None, None, Some(_)) => Some(media::OCI_MANIFEST.to_owned()),
        _ => None,
    }
}

/// Counts what a build took from where.
#[derive(Debug, Default)]
struct Tally {
    image_hits: AtomicU64,
    image_misses: AtomicU64,
    bytes_hit: AtomicU64,
    bytes_missed: AtomicU64,
    /// Bytes of manifests and configs that were read from the cache; figures are about layers.
    documents: AtomicU64,
}

/// An [`Upstream`] that answers from the cache what is there and asks another one for the rest; or nobody, offline.
///
/// What a tag stands for is asked each time unless nobody can be asked; what a digest stands for never. Bytes are read
/// from the cache once, and verified by whoever writes them; a damaged blob is put away then and fetched.
pub struct CachedUpstream {
    cache: ImageCache,
    behind: Option<Arc<dyn Upstream>>,
    tally: Arc<Tally>,
    /// What was asked for, and what refers to it if that was.
    asked: Mutex<Vec<(ImageGraph, Option<Vec<Referrer>>)>>,
    /// Manifests and configs that were read from the cache, and are counted.
    read: Mutex<BTreeSet<Digest>>,
    with_referrers: bool,
    /// Registries that speak plain HTTP, for messages.
    plain: Vec<String>,
    /// So that nothing goes away while it is being built from.
    _lease: Option<Lease>,
}

impl std::fmt::Debug for CachedUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedUpstream").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl CachedUpstream {
    /// `behind` is asked for what the cache lacks; `None`: offline. A cache that is not there has nothing and is not
    /// made. Blocks.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn new(cache: &ImageCache, behind: Option<Arc<dyn Upstream>>) -> Result<Self, CacheError> {
        cache.refresh()?;
        let lease = match cache.exists().then(|| cache.lease()).transpose() {
            // On a medium that cannot be written to nobody deletes anything.
            Err(CacheError::Store(StoreError::Io { source, .. })) if read_only(&source) => None,
            lease => lease?,
        };
        Ok(Self {
            cache: cache.clone(),
            behind,
            tally: Arc::default(),
            asked: Mutex::default(),
            read: Mutex::default(),
            with_referrers: false,
            plain: Vec::new(),
            _lease: lease,
        })
    }

    /// Whether builds also take what refers to an image. Whoever is behind must have been told so too.
    #[must_use]
    pub fn with_referrers(self, with_referrers: bool) -> Self {
        Self { with_referrers, ..self }
    }

    /// Registries (`HOST[:PORT]`) that are to be spoken to by plain HTTP once they can be reached: messages that name a
    /// command say so.
    #[must_use]
    pub fn with_plain_http(self, plain: Vec<String>) -> Self {
        Self { plain, ..self }
    }

    /// The command that brings what is missing, as it is to be run elsewhere.
    fn command(&self, image: &ImageRef, platforms: &[Platform], with_referrers: bool) -> String {
        let images = std::slice::from_ref(image);
        self.cache.pull_command(images, Some(platforms), with_referrers, &self.plain)
    }

    /// Copies into the cache what was missing there, out of what was built from it: nothing is fetched twice. Gives
    /// what failed, a text for each image.
    ///
    /// # Errors
    /// When the cache cannot be written to, or on cancellation.
    pub async fn fill(
        &self,
        built: Arc<dyn BlobSource>,
        parallel: usize,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, CacheError> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let cache = self.cache.clone();
        let lease = offload(move || cache.lease()).await?;
        lease.writes_names();
        let one = |(graph, referrers): &(ImageGraph, Option<Vec<Referrer>>)| {
            Wanted::all(graph, referrers.as_deref().unwrap_or_default(), &built).collect::<Vec<_>>()
        };
        let wanted = asked.iter().flat_map(one).collect();
        let Filled { failed, .. } = self.cache.fill(wanted, parallel, Source::Omk, events, cancel).await?;
        for (graph, referrers) in &asked {
            if let Some(referrers) = referrers
                && !failed.iter().any(|f| f.image == graph.image)
            {
                self.cache.keep_referrers(graph, referrers).await?;
            }
        }
        let cache = self.cache.clone();
        let images = asked.iter().map(|(graph, _)| &graph.image);
        let reached = self.behind.as_deref().map(|behind| reached(images, behind)).unwrap_or_default();
        offload(move || {
            cache.publish()?;
            lease.published();
            cache.remember_reached(&reached);
            Ok(())
        })
        .await?;
        Ok(failed.into_iter().map(|f| f.reason).collect())
    }

    /// Adds what was taken and what was not to the cache's statistics. Blocks.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn count(&self) -> Result<(), CacheError> {
        let get = |n: &AtomicU64| n.swap(0, Ordering::Relaxed);
        let t = &self.tally;
        let run = Uses {
            image_hits: get(&t.image_hits),
            image_misses: get(&t.image_misses),
            bytes_hit: t.bytes_hit.load(Ordering::Relaxed),
            bytes_missed: get(&t.bytes_missed),
        };
        match self.cache.count(&run) {
            // They are worth no failure.
            Err(CacheError::Store(StoreError::Io { source, .. })) if read_only(&source) || full(&source) => {
                Ok(())
            }
            other => other,
        }
    }

    /// Counts an image that was looked up; its documents came along if it was there.
    fn looked(&self, found: Option<&ImageGraph>) {
        let counter = if found.is_some() { &self.tally.image_hits } else { &self.tally.image_misses };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        for (digest, bytes) in found.into_iter().flat_map(|graph| &graph.documents) {
            if read.insert(digest.clone()) {
                self.tally.documents.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

#[async_trait]
impl Upstream for CachedUpstream {
    async fn graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<ImageGraph, Told> {
        let Some(behind) = &self.behind else {
            let found = self.cache.local_graph(image, platforms).await;
            self.looked(found.as_ref().ok());
            return found.map_err(|error| {
                let command = self.command(image, platforms, self.with_referrers);
                format!("{error}; where its registry can be reached: {command}").into()
            });
        };
        let (graph, hit) = self.cache.known(image, platforms, behind.as_ref(), events, cancel).await?;
        self.looked(hit.then_some(&graph));
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((graph.clone(), None));
        Ok(graph)
    }

    fn blobs(&self, image: &ImageRef, events: &Events) -> Arc<dyn BlobSource> {
        Arc::new(CachedBlobs {
            cache: self.cache.clone(),
            behind: self.behind.as_ref().map(|b| b.blobs(image, events)),
            tally: Arc::clone(&self.tally),
        })
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Descriptor, Told> {
        match &self.behind {
            Some(behind) => behind.resolve(image, events, cancel).await,
            None => Ok(self.graph(image, &[], events, cancel).await?.root),
        }
    }

    async fn referrers(
        &self,
        of: &ImageGraph,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<Referrer>, Told> {
        if !self.with_referrers {
            return Ok(Vec::new());
        }
        let Some(behind) = &self.behind else {
            return self.cache.local_referrers(of).await.map_err(|error| {
                let platforms: Vec<Platform> = of.images.iter().filter_map(|i| i.platform.clone()).collect();
                let command = self.command(&of.image, &platforms, true);
                format!("{error}; where its registry can be reached: {command}").into()
            });
        };
        let found = behind.referrers(of, events, cancel).await?;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, known) in asked.iter_mut().filter(|(graph, _)| graph.root.digest() == of.root.digest()) {
            *known = Some(found.clone());
        }
        Ok(found)
    }

    fn is_plain(&self, registry: &str) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.is_plain(registry))
    }

    fn kept(&self) -> u64 {
        self.tally.bytes_hit.load(Ordering::Relaxed) + self.tally.documents.load(Ordering::Relaxed)
    }
}

struct CachedBlobs {
    cache: ImageCache,
    behind: Option<Arc<dyn BlobSource>>,
    tally: Arc<Tally>,
}

#[async_trait]
impl BlobSource for CachedBlobs {
    fn label(&self) -> String {
        self.behind.as_ref().map_or_else(|| self.cache.label(), |b| b.label())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        match (self.cache.size(digest).await?, &self.behind) {
            (None, Some(behind)) => behind.size(digest).await,
            (found, _) => Ok(found),
        }
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let length = range.end.saturating_sub(range.start);
        if let (false, Some(behind)) = (self.cache.has(blob), &self.behind) {
            self.tally.bytes_missed.fetch_add(length, Ordering::Relaxed);
            return behind.read(blob, range).await;
        }
        let stream = self.cache.read(blob, range).await?;
        self.tally.bytes_hit.fetch_add(length, Ordering::Relaxed);
        Ok(stream)
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let damaged = self.cache.disown(blob).await?;
        if damaged {
            // What was read of it was no use.
            let less = |hit: u64| Some(hit.saturating_sub(blob.size()));
            let _ = self.tally.bytes_hit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        // Offline there is nothing else to read it from: the error is to name the damage.
        match &self.behind {
            Some(behind) => Ok(damaged || behind.disown(blob).await?),
            None => Ok(false),
        }
    }
}

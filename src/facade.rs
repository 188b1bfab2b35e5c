//! omk for programs: its operations in one value. What is done here is what the command line does, by the same code; who
//! wants more than this takes the modules themselves.
//!
//! Nothing is printed: what happens is told to an [`EventSink`](crate::event::EventSink), and everything that lasts can be
//! [cancelled](Omk::told).
//!
//! A registry, a chart and two nodes behind SSH, all in this process; with real ones, the inventory and `known_hosts` are your own:
//!
//! ```
//! use std::sync::Arc;
//!
//! use omk::cache::{GcOptions, ImageCache};
//! use omk::discover::{Inputs, Scope};
//! use omk::event::{Event, Events, Recorder};
//! use omk::facade::{Fleet, Omk};
//! use omk::push::PushOptions;
//! use omk::registry::RegistryOptions;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().canonicalize()?;
//! let world = omk::demo::world::World::start(&folder).await?;
//! let registry = RegistryOptions { plain_http: vec![world.registry().to_string()], ..RegistryOptions::default() };
//!
//! let events = Arc::new(Recorder::default());
//! let omk = Omk::new(ImageCache::new(folder.join("cache")), registry)
//!     .platforms([world.platform().clone()])
//!     .told(Arc::clone(&events) as Events, CancellationToken::new());
//!
//! // Which images does the manifest need?
//! let inputs = Inputs { paths: vec![folder.join("backup.yaml")], ..Inputs::default() };
//! let images = omk.discover(&inputs, &Scope::default())?.images();
//! assert_eq!(images.len(), 1);
//!
//! // Into the cache on this machine, and from there to every node, each of which is sent what it lacks.
//! let pulled = omk.cache(&images).await?;
//! assert!(pulled.failed.is_empty());
//! let fleet = Fleet::load(&folder.join("nodes.yaml"), &folder.join("known_hosts"))?;
//! let report = omk.distribute(&images, &fleet, PushOptions::default()).await?;
//! assert!(report.all_ready(), "{report:#?}");
//!
//! // One node: it has everything, so nothing is sent. The proof alone changes nothing.
//! let node = omk.preheat(&images, &fleet, "node-1", PushOptions::default()).await?;
//! assert_eq!((node.ready(), node.bytes_sent), (true, 0));
//! assert!(omk.verify(&images, &fleet, PushOptions::default()).await?.all_ready());
//!
//! // What is in the cache, and what can go.
//! assert_eq!(omk.stats()?.images, 1);
//! let freed = omk.cleanup(&GcOptions { max_size: Some(0), ..GcOptions::default() })?;
//! assert_eq!(freed.images.len(), 1);
//!
//! assert!(events.events().iter().any(|e| matches!(e, Event::BlobDone { node: Some(_), .. })));
//! # world.stop().await;
//! # Ok(())
//! # }
//! ```

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::bundle::{BundleImage, Upstream as _};
use crate::cache::{
    CacheError, CachedUpstream, GcOptions, GcReport, ImageCache, PullReport, PullRequest, Statistics,
};
use crate::discover::{Cancelled, Findings, Inputs, Scope, discover};
use crate::event::{Events, silent};
use crate::node::inventory::{Fallback, InventoryError};
use crate::node::{Inventory, KnownHosts, Node, NodeError, SshOptions};
use crate::oci::{Descriptor, Digest, ImageRef, Platform};
use crate::push::{NodeReport, Nodes, Push, PushError, PushOptions, PushReport, Target};
use crate::registry::{Registry, RegistryError, RegistryOptions};
use crate::runtime::{RuntimeChoice, RuntimeError};
use crate::store::{BlobSource, ByteStream, MemoryStore, StoreError, blocking};

/// Blobs that are fetched, and that are sent to one node, at the same time.
const LANES: usize = 4;
/// Nodes at the same time.
const NODES: usize = 16;

/// Why an operation came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FacadeError {
    /// The cache cannot be used, or lacks an image.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A registry client cannot be made of the options.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The inventory names a runtime that is none.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What is in the cache is damaged, and no node was changed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A name that the inventory does not have.
    #[error("{0} is no node of the inventory")]
    NoNode(String),
}

/// Nodes with the way to them.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The nodes, with unique names.
    pub nodes: Vec<Node>,
    /// How they are reached.
    pub ssh: SshOptions,
    /// The runtime of nodes of which the inventory says nothing.
    pub runtime: RuntimeChoice,
    /// containerd's namespace, when it is not kubelet's.
    pub namespace: Option<String>,
}

/// Why there are no nodes to work on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The inventory cannot be used.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The host keys cannot be read.
    #[error(transparent)]
    KnownHosts(#[from] NodeError),
}

impl Fleet {
    /// All nodes of an inventory of any kind that `omk node list` takes, trusting the host keys of one file. Blocks.
    ///
    /// # Errors
    /// When one of the files cannot be used.
    pub fn load(inventory: &Path, known_hosts: &Path) -> Result<Self, FleetError> {
        let fallback = Fallback { runtimes: RuntimeChoice::NAMES, ..Fallback::default() };
        let inventory = Inventory::load_with(inventory, &fallback)?;
        let mut known = KnownHosts::new();
        known.load(known_hosts)?;
        let mut ssh = SshOptions::new(Arc::new(known));
        ssh.only_these_known_hosts = true;
        Ok(Self { nodes: inventory.nodes, ssh, runtime: RuntimeChoice::Auto, namespace: None })
    }

    /// One node of it.
    fn only(&self, name: &str) -> Result<Self, FacadeError> {
        let node = self.nodes.iter().find(|n| n.name == name).cloned();
        let node = node.ok_or_else(|| FacadeError::NoNode(name.to_owned()))?;
        Ok(Self { nodes: vec![node], ..self.clone() })
    }
}

/// omk's operations, over one image cache.
#[derive(Clone)]
pub struct Omk {
    cache: ImageCache,
    registry: RegistryOptions,
    platforms: Vec<Platform>,
    events: Events,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Omk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Omk").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Omk {
    /// For linux/amd64, telling nobody anything. The cache need not be there yet.
    pub fn new(cache: ImageCache, registry: RegistryOptions) -> Self {
        let (events, cancel) = (silent(), CancellationToken::new());
        Self { cache, registry, platforms: vec![Platform::linux_amd64()], events, cancel }
    }

    /// Which platforms are taken of each image; none: all that it has.
    #[must_use]
    pub fn platforms(self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        Self { platforms: platforms.into_iter().collect(), ..self }
    }

    /// Where events go, and what stops everything at a point from which the next call goes on.
    #[must_use]
    pub fn told(self, events: Events, cancel: CancellationToken) -> Self {
        Self { events, cancel, ..self }
    }

    /// Which images inputs need, each with the places that name it. What cannot be read is among the findings. Blocks.
    ///
    /// # Errors
    /// On cancellation, by the token of the scope.
    pub fn discover(&self, inputs: &Inputs, scope: &Scope) -> Result<Findings, Cancelled> {
        discover(inputs, scope)
    }

    /// Brings images into the cache: what is there is not fetched, an image that cannot be had is in the report.
    ///
    /// # Errors
    /// When the cache or the registry's options cannot be used, or on cancellation.
    pub async fn cache(&self, images: &[ImageRef]) -> Result<PullReport, FacadeError> {
        // What refers to images that are cached with it is asked for again when some of it is lost.
        let registry = Registry::new(RegistryOptions { with_referrers: true, ..self.registry.clone() })?;
        let (images, platforms) = (images.to_vec(), self.platforms.clone());
        let request = PullRequest { images, platforms, parallel: LANES, with_referrers: false };
        Ok(self.cache.pull(&request, &registry, &self.events, &self.cancel).await?)
    }

    /// Brings cached images to every node and proves them there: one bad node does not stop the others, and is in the
    /// report.
    ///
    /// # Errors
    /// When an image is not in the cache or damaged there, or the fleet is not one; nothing was changed then.
    pub async fn distribute(
        &self,
        images: &[ImageRef],
        fleet: &Fleet,
        options: PushOptions,
    ) -> Result<PushReport, FacadeError> {
        Ok(self.push(images, fleet, options).await?.run().await?)
    }

    /// Brings cached images to one node of the fleet.
    ///
    /// # Errors
    /// As [`Omk::distribute`]; also when there is no such node. That the node failed is in its report.
    pub async fn preheat(
        &self,
        images: &[ImageRef],
        fleet: &Fleet,
        node: &str,
        options: PushOptions,
    ) -> Result<NodeReport, FacadeError> {
        let report = self.distribute(images, &fleet.only(node)?, options).await?;
        report.nodes.into_iter().next().ok_or_else(|| FacadeError::NoNode(node.to_owned()))
    }

    /// Proves that every node has every image; changes nothing.
    ///
    /// # Errors
    /// As [`Omk::distribute`].
    pub async fn verify(
        &self,
        images: &[ImageRef],
        fleet: &Fleet,
        options: PushOptions,
    ) -> Result<PushReport, FacadeError> {
        Ok(self.push(images, fleet, options).await?.verify().await)
    }

    /// What is in the cache, and how it was used. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stats(&self) -> Result<Statistics, FacadeError> {
        Ok(self.cache.statistics()?)
    }

    /// Gives up what the options let go; never what is pinned or in use. Blocks.
    ///
    /// # Errors
    /// When the cache cannot be written to.
    pub fn cleanup(&self, options: &GcOptions) -> Result<GcReport, FacadeError> {
        Ok(self.cache.gc(options)?)
    }

    async fn push(
        &self,
        images: &[ImageRef],
        fleet: &Fleet,
        options: PushOptions,
    ) -> Result<Push, FacadeError> {
        let mut bundled: Vec<BundleImage> = Vec::new();
        for image in images {
            let graph = self.cache.local_graph(image, &self.platforms).await?;
            let names = graph.image.runtime_names(graph.root.digest());
            bundled.push(BundleImage { names, groups: Default::default(), graph });
        }
        let targets = fleet.nodes.iter().map(|n| Target::of(n, &fleet.runtime)).collect::<Result<_, _>>()?;
        Ok(Push {
            bundle: format!("image cache {}", self.cache.root().display()),
            images: bundled,
            source: self.source(images).await?,
            left_out: None,
            targets,
            connector: Arc::new(Nodes::new(&fleet.nodes, fleet.ssh.clone())),
            options,
            namespace: fleet.namespace.clone(),
            parallel: NODES,
            lanes: LANES,
            events: Arc::clone(&self.events),
            cancel: self.cancel.clone(),
        })
    }

    async fn source(&self, images: &[ImageRef]) -> Result<Arc<dyn BlobSource>, FacadeError> {
        let Some(first) = images.first() else { return Ok(Arc::new(MemoryStore::new())) };
        let cache = self.cache.clone();
        let upstream =
            blocking(move || Ok(CachedUpstream::new(&cache, None))).await.map_err(CacheError::from)??;
        let blobs = upstream.blobs(first, &self.events);
        Ok(Arc::new(Leased { blobs, _upstream: upstream }))
    }
}

/// What is in the cache, which nobody cleans up while this lives.
struct Leased {
    blobs: Arc<dyn BlobSource>,
    _upstream: CachedUpstream,
}

#[async_trait]
impl BlobSource for Leased {
    fn label(&self) -> String {
        self.blobs.label()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.blobs.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.blobs.read(blob, range).await
    }
}

//! The image cache: images that were pulled once, for bundles that are built later, also where no registry can be
//! reached.
//!
//! ```text
//! blobs/sha256/HEX                             content: a blob has this name only when it is whole and verified
//! manifests/REGISTRY/REPOSITORY/TAG.json       which image a name stands for, and all of its blobs
//! manifests/REGISTRY/REPOSITORY/@sha256-HEX.json   the same for an image that is held by its digest alone
//! pins                                         names and patterns that are never given up
//! metadata/{vulnerabilities,signatures}/       what was learnt about an image, by its digest
//! statistics.json                              hits and misses
//! index.json, oci-layout                       the same images for other tools: the folder is an OCI image layout
//! index.yaml                                   the same images for people
//! partial/, quarantine/, locks/                blobs on their way in, damaged ones, who is at work
//! ```
//!
//! What is authoritative: `blobs/` for content and `manifests/` for names. The last use of an image is the time of its
//! file there. `index.json` and `index.yaml` are written anew from these; what another tool has put into `index.json`
//! since is taken over first.
//!
//! # Several processes, and processes that die
//!
//! Nothing is ever visible under its final name before it is whole, verified and synced, and a name is written after
//! the blobs it needs: a process may end at any instant. Two processes that pull the same image share the work, for
//! the one that comes second to a blob waits for the first, or goes on where that one died.
//!
//! Who uses the cache holds a [`Lease`], and marks every blob that it relies on by setting its time to now. A clean-up
//! deletes nothing that is younger than the oldest living lease, nor younger than a grace period for the sake of tools
//! that know no leases. That is containerd's scheme (content store and leases) on files instead of a database.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use omk::cache::{GcOptions, ImageCache, PullRequest};
//! use omk::event::silent;
//! use omk::registry::{Registry, RegistryOptions};
//! use tokio_util::sync::CancellationToken;
//! # use omk::oci::{media, Descriptor};
//! # use omk::serve::{Catalog, ServeOptions, Server};
//! # let store = omk::store::MemoryStore::new();
//! # let config = store.insert(media::OCI_CONFIG, r#"{"architecture":"amd64","os":"linux"}"#);
//! # let layer = store.insert(media::OCI_LAYER, "layer");
//! # let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
//! # let catalog = Catalog::new();
//! # catalog.tag("shop/web", "1.0", store.insert(media::OCI_MANIFEST, manifest));
//! # let server = Server::bind("127.0.0.1:0", std::sync::Arc::new(store), catalog, ServeOptions::default()).await?;
//! # let (registry, folder) = (server.addr().to_string(), tempfile::tempdir()?);
//! # let home = folder.path();
//! let cache = ImageCache::new(home.join("cache/images"));
//! let options = RegistryOptions { plain_http: vec![registry.clone()], ..RegistryOptions::default() };
//! let upstream = Registry::new(options)?;
//! let request = PullRequest {
//!     images: vec![format!("{registry}/shop/web:1.0").parse()?],
//!     platforms: vec!["linux/amd64".parse()?],
//!     parallel: 4,
//!     with_referrers: false,
//! };
//! let pulled = cache.pull(&request, &upstream, &silent(), &CancellationToken::new()).await?;
//! assert_eq!((pulled.images.len(), pulled.failed.len()), (1, 0));
//! assert_eq!(cache.statistics()?.images, 1);
//!
//! let freed = cache.gc(&GcOptions { max_size: Some(20_000_000_000), ..GcOptions::default() })?;
//! assert_eq!(freed.images.len(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bundle::{LAYOUT, LAYOUT_FILE};
use crate::oci::ImageRef;
use crate::store::{FolderStore, StoreError, write_small};

mod gc;
mod layout;
mod lock;
mod metadata;
mod pins;
mod pull;
mod reached;
mod record;
mod referrers;
mod statistics;
mod store;
mod upstream;
mod verify;

pub use gc::{ClearReport, Evicted, GcOptions, GcReport};
pub use lock::Lease;
pub use metadata::Metadata;
pub use pull::{NotPulled, PullReport, PullRequest, PulledImage};
pub use record::{CachedImage, Source};
pub use statistics::Statistics;
pub use upstream::CachedUpstream;
pub use verify::{BadEntry, MissingBlob, VerifyReport};

/// A folder of images. Cheap to clone; nothing is made or read before a call needs it.
///
/// Calls that are not `async` block on the file system.
#[derive(Debug, Clone)]
pub struct ImageCache {
    root: PathBuf,
    blobs: FolderStore,
}

/// Why the cache could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder holds something else.
    #[error("{} is no image cache, it has other things in it; set OMK_HOME to a folder of its own", path.display())]
    NotCache {
        /// The folder.
        path: PathBuf,
    },
    /// An image that is not there.
    #[error("{image} is not in the image cache {}{}", path.display(), or(near))]
    NotCached {
        /// As asked for.
        image: ImageRef,
        /// The cache.
        path: PathBuf,
        /// Names that may have been meant.
        near: Vec<String>,
    },
    /// An image that is there in part.
    #[error("{image} is not whole in the image cache {}: {reason}", path.display())]
    Incomplete {
        /// As asked for.
        image: ImageRef,
        /// The cache.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Others are at work.
    #[error("the image cache {} is used by {others} other omk; wait for it to end", path.display())]
    InUse {
        /// The cache.
        path: PathBuf,
        /// How many.
        others: usize,
    },
    /// Not a name or pattern of images.
    #[error("{} line {line}: {reason}; mend it or remove the line", path.display())]
    Pins {
        /// The file of pins.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        reason: String,
    },
}

fn or(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; there is {}", names.join(", ")) }
}

/// Tells backup tools that this can be had again (<https://bford.info/cachedir/>).
const CACHEDIR_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n# Images that omk pulled.\n";

impl ImageCache {
    /// The cache in this folder, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { blobs: FolderStore::new(&root), root }
    }

    /// Where the cache is when nobody says otherwise: `OMYKUBE_HOME`, else `OMK_HOME`, each with `cache/images` below it,
    /// else `omk/images` in the user's cache folder. `env` gives variables that are set and not empty.
    pub fn default_root(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        for name in ["OMYKUBE_HOME", "OMK_HOME"] {
            if let Some(home) = env(name) {
                return Some(PathBuf::from(home).join("cache/images"));
            }
        }
        let cache = env("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
        let cache = cache.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
        Some(cache.join("omk/images"))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes what every cache has, and refuses a folder that is something else.
    fn prepare(&self) -> Result<(), CacheError> {
        let layout = self.root.join(LAYOUT_FILE);
        if layout.is_file() && self.locks().is_dir() {
            return Ok(());
        }
        let made = |path: &Path| std::fs::create_dir_all(path).map_err(StoreError::io("create", path));
        made(&self.root)?;
        let mut entries = std::fs::read_dir(&self.root).map_err(StoreError::io("read", &self.root))?;
        // Two that begin at once see each other's folders.
        let ours = |name: &OsString| name.to_str().is_some_and(|n| OWN.contains(&n) || n.starts_with(".tmp"));
        let foreign = entries.any(|e| e.is_ok_and(|e| !ours(&e.file_name())));
        if foreign && !layout.is_file() {
            return Err(CacheError::NotCache { path: self.root.clone() });
        }
        for folder in
            ["blobs/sha256", "manifests", "locks", "metadata/vulnerabilities", "metadata/signatures"]
        {
            made(&self.root.join(folder))?;
        }
        write_small(&self.root.join(TAG_FILE), CACHEDIR_TAG)?;
        write_small(&layout, LAYOUT)?;
        Ok(())
    }

    fn exists(&self) -> bool {
        self.root.join("manifests").is_dir() || self.root.join(LAYOUT_FILE).is_file()
    }

    fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }
}

const TAG_FILE: &str = "CACHEDIR.TAG";
/// Everything that may stand in a cache's folder.
const OWN: [&str; 14] = [
    "blobs",
    "manifests",
    "metadata",
    "locks",
    "partial",
    "quarantine",
    "pins",
    "statistics.json",
    "index.json",
    "index.yaml",
    "index.stamp",
    reached::FILE,
    LAYOUT_FILE,
    TAG_FILE,
];

/// Since 1970.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// `2026-01-31T12:00:00Z`.
fn rfc3339(time: SystemTime) -> String {
    let stamp = jiff::Timestamp::from_second(seconds(time)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;

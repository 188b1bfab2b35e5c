use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::BundleImage;
use super::artifact::{Artifact, ArtifactError, read_artifacts};
use super::delta::{DELTA_FILE, Delta, MAX_DELTA_BYTES};
use super::index::{DOCKER_FILE, INDEX_FILE, Index, LAYOUT_FILE};
use crate::graph::{GraphError, Step, Walk};
use crate::oci::{Descriptor, Digest, Hasher, ImageRef, Platform, media};
use crate::store::archive::{Archive, ArchiveError, EntryProblem};
use crate::store::{BlobSource, ByteStream, FolderStore, StoreError, read_verified};

/// `index.json` of ten thousand images has about 5 MB.
const MAX_INDEX_BYTES: u64 = 32 << 20;
/// A manifest has at most 4 MiB, and so has every config that was ever seen.
const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// A bundle that is read in place: nothing is unpacked.
///
/// Opened means: every entry can be used, every document was checked against its digest, and every blob that an
/// image needs is there with its right size. The bytes of layers are not read before they are needed.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
    store: Arc<Store>,
    images: Vec<BundleImage>,
    artifacts: Vec<Artifact>,
    delta: Option<Delta>,
    platforms: Vec<Platform>,
}

#[derive(Debug)]
enum Store {
    Tar(Archive),
    Folder(FolderStore),
}

/// Why a bundle cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file is no archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not an image layout.
    #[error("{} is no bundle: {reason}", path.display())]
    NotBundle {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// What `docker save` wrote before version 25.
    #[error(
        "{0} is a docker-archive, not an OCI image layout; turn it into one with \
         `skopeo copy docker-archive:{0} oci-archive:NEW.tar:NAME:TAG`, or build a bundle of its images",
        path.display()
    )]
    DockerArchive {
        /// The file or folder.
        path: PathBuf,
    },
    /// Parts of it are damaged or missing.
    #[error("bundle {} is damaged: {}: {}{}", path.display(), first.entry, first.reason, more(*others))]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// The first damaged entry.
        first: EntryProblem,
        /// How many more there are.
        others: usize,
    },
    /// A chart or files in it cannot be used.
    #[error("bundle {}: {source}", path.display())]
    Artifact {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: ArtifactError,
    },
    /// It is a delta, and all of it is needed.
    #[error(
        "{} is a delta: it leaves out {blobs} blobs ({}) that {base} has, the first of them {first}; \
         `omk bundle merge {base} {} -o WHOLE` makes a whole bundle of both",
        path.display(), crate::units::bytes(*bytes), path.display()
    )]
    Delta {
        /// The file or folder.
        path: PathBuf,
        /// What it was built against.
        base: String,
        /// Blobs that are left out.
        blobs: usize,
        /// Bytes of them.
        bytes: u64,
        /// One of them.
        first: String,
    },
    /// An image in it cannot be used.
    #[error("bundle {}: {source}", path.display())]
    Image {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: GraphError,
    },
}

fn more(n: usize) -> String {
    if n == 0 { String::new() } else { format!(" (and {n} more)") }
}

impl BundleError {
    /// Whether the bundle was a good one before something happened to it.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Store(
                    StoreError::DigestMismatch { .. }
                        | StoreError::SizeMismatch { .. }
                        | StoreError::NotFound { .. }
                )
        )
    }
}

impl Bundle {
    /// Opens a tar file or a folder.
    ///
    /// # Errors
    /// When it is no bundle, is damaged as far as can be seen without hashing layers, or cannot be read.
    pub async fn open(path: &Path) -> Result<Self, BundleError> {
        let mut bundle = Self::load(path).await?;
        let problems = bundle.problems().await?;
        if let Some(first) = problems.first() {
            let (path, first, others) = (path.to_owned(), first.clone(), problems.len() - 1);
            return Err(BundleError::Damaged { path, first, others });
        }
        bundle.images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(bundle)
    }

    /// As [`Bundle::open`], but with damage left for the caller to list.
    pub(super) async fn load(path: &Path) -> Result<Self, BundleError> {
        let owned = path.to_owned();
        let store = tokio::task::spawn_blocking(move || -> Result<Store, BundleError> {
            let meta = std::fs::metadata(&owned).map_err(StoreError::io("open bundle", &owned))?;
            if meta.is_dir() {
                Ok(Store::Folder(FolderStore::new(owned)))
            } else if meta.is_file() {
                Ok(Store::Tar(Archive::open(&owned)?))
            } else {
                let reason =
                    "it is neither a file nor a folder, and a bundle is not read front to back".into();
                Err(BundleError::NotBundle { path: owned, reason })
            }
        })
        .await
        .map_err(|_| StoreError::Cancelled)??;
        let mut bundle = Self {
            path: path.to_owned(),
            store: Arc::new(store),
            images: Vec::new(),
            artifacts: Vec::new(),
            delta: None,
            platforms: Vec::new(),
        };
        let read = async {
            let index = bundle.index()?;
            let delta = bundle.read_delta()?;
            let images = bundle.walk(&index).await?;
            let artifacts = read_artifacts(&bundle, &index).await.map_err(|e| match e {
                ArtifactError::Store(error) => error.into(),
                source => BundleError::Artifact { path: bundle.path.clone(), source },
            })?;
            Ok((index, images, artifacts, delta))
        };
        let (index, images, artifacts, delta) = read.await.map_err(|e| bundle.explained(e))?;
        bundle.images = images;
        bundle.artifacts = artifacts;
        bundle.delta = delta;
        bundle.platforms = index.platforms().unwrap_or_else(|| {
            let all = bundle.images.iter().flat_map(|i| &i.graph.images);
            all.filter_map(|i| i.platform.clone()).collect::<BTreeSet<_>>().into_iter().collect()
        });
        Ok(bundle)
    }

    /// What cannot be read of an archive that is cut off or otherwise damaged is the damage's fault.
    fn explained(&self, error: BundleError) -> BundleError {
        match &*self.store {
            Store::Tar(archive) if !error.is_damage() => match archive.problems() {
                [first, others @ ..] => {
                    let (path, first, others) = (self.path.clone(), first.clone(), others.len());
                    BundleError::Damaged { path, first, others }
                }
                [] => error,
            },
            _ => error,
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All images, sorted by name.
    pub fn images(&self) -> &[BundleImage] {
        &self.images
    }

    /// The platforms it was built for; for a layout of another tool, those its images have.
    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// What it leaves out to its base; `None` for a whole bundle.
    pub fn delta(&self) -> Option<&Delta> {
        self.delta.as_ref()
    }

    fn read_delta(&self) -> Result<Option<Delta>, BundleError> {
        let Some(text) = self.text(DELTA_FILE, MAX_DELTA_BYTES)? else { return Ok(None) };
        Delta::parse(&text).map(Some).map_err(|e| self.not_bundle(format!("{DELTA_FILE}: {e}")))
    }

    /// Whether a blob is left out on purpose.
    fn is_absent(&self, blob: &Descriptor) -> bool {
        self.delta.as_ref().is_some_and(|d| d.absent.get(blob.digest()) == Some(&blob.size()))
    }

    /// Refuses a delta where everything is needed.
    ///
    /// # Errors
    /// [`BundleError::Delta`] with what it was built against.
    pub fn require_whole(&self) -> Result<(), BundleError> {
        let Some(delta) = self.delta.as_ref().filter(|d| !d.absent.is_empty()) else { return Ok(()) };
        let (path, base) = (self.path.clone(), delta.base.clone());
        let first = delta.absent.keys().next().map(ToString::to_string).unwrap_or_default();
        Err(BundleError::Delta { path, base, blobs: delta.absent.len(), bytes: delta.bytes(), first })
    }

    /// What rides along: charts, manifests, files.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// Every blob that an image or artifact needs, once.
    pub fn needed(&self) -> BTreeMap<Digest, Descriptor> {
        let blobs = self.images.iter().flat_map(|i| &i.graph.blobs);
        let blobs = blobs.chain(self.artifacts.iter().flat_map(Artifact::blobs));
        blobs.map(|b| (b.digest().clone(), b.clone())).collect()
    }

    /// Hashes one blob as it is stored, without regard to its size. Blocks on another thread.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn hash(&self, blob: &Descriptor) -> Result<Digest, StoreError> {
        use futures_util::StreamExt as _;
        if let Store::Tar(_) = &*self.store {
            let (store, digest) = (Arc::clone(&self.store), blob.digest().clone());
            return crate::store::blocking(move || match &*store {
                Store::Tar(archive) => archive.hash(&digest),
                Store::Folder(folder) => Err(StoreError::NotFound { digest, store: folder.label() }),
            })
            .await;
        }
        let mut hasher = Hasher::new(blob.digest().algorithm());
        let size = self.size(blob.digest()).await?.unwrap_or(0);
        let mut stream = self.read(&Descriptor::new("", blob.digest().clone(), size), 0..size).await?;
        while let Some(chunk) = stream.next().await {
            hasher.update(&chunk?);
        }
        Ok(hasher.finish())
    }

    /// What is wrong as far as names and sizes tell.
    pub(super) async fn problems(&self) -> Result<Vec<EntryProblem>, StoreError> {
        let mut found = match &*self.store {
            Store::Tar(archive) => archive.problems().to_vec(),
            Store::Folder(_) => Vec::new(),
        };
        let named: BTreeSet<String> = found.iter().map(|p| p.entry.clone()).collect();
        for (digest, blob) in self.needed() {
            let entry = digest.layout_path();
            let reason = match self.size(&digest).await? {
                _ if named.contains(&entry) => continue,
                None if self.is_absent(&blob) => continue,
                None => format!("missing; needed by {}", self.users(&digest)),
                Some(size) if size != blob.size() => {
                    format!("{size} bytes instead of {}; needed by {}", blob.size(), self.users(&digest))
                }
                Some(_) => continue,
            };
            found.push(EntryProblem { entry, reason });
        }
        Ok(found)
    }

    /// The images that need a blob, for messages.
    pub(super) fn users(&self, digest: &Digest) -> String {
        let needs = |i: &&BundleImage| i.graph.blobs.iter().any(|b| b.digest() == digest);
        let images = self.images.iter().filter(needs).filter_map(|i| i.names.first());
        let further = self.artifacts.iter().filter(|a| a.blobs().any(|b| b.digest() == digest));
        let names: Vec<&str> = images.chain(further.map(|a| &a.name)).map(String::as_str).collect();
        match names.as_slice() {
            [] => "no image".to_owned(),
            [one] => (*one).to_owned(),
            [one, rest @ ..] => format!("{one} and {} more", rest.len()),
        }
    }

    fn not_bundle(&self, reason: impl Into<String>) -> BundleError {
        BundleError::NotBundle { path: self.path.clone(), reason: reason.into() }
    }

    fn index(&self) -> Result<Index, BundleError> {
        let layout = self.text(LAYOUT_FILE, 4096)?;
        let Some(layout) = layout else {
            return Err(match self.text(DOCKER_FILE, MAX_INDEX_BYTES)? {
                Some(_) => BundleError::DockerArchive { path: self.path.clone() },
                None => self.not_bundle(format!("it has no {LAYOUT_FILE} file")),
            });
        };
        let version = serde_json::from_slice::<serde_json::Value>(&layout).ok();
        let version = version.as_ref().and_then(|v| v.get("imageLayoutVersion")?.as_str());
        if !version.is_some_and(|v| v.starts_with("1.")) {
            return Err(self.not_bundle(format!("{LAYOUT_FILE} does not say imageLayoutVersion 1")));
        }
        let text = self.text(INDEX_FILE, MAX_INDEX_BYTES)?;
        let text = text.ok_or_else(|| self.not_bundle(format!("it has no {INDEX_FILE}")))?;
        serde_json::from_slice(&text).map_err(|e| self.not_bundle(format!("{INDEX_FILE}: {e}")))
    }

    fn text(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match &*self.store {
            Store::Tar(archive) => archive.text(name, limit),
            Store::Folder(folder) => {
                use std::io::Read as _;
                let path = folder.root().join(name);
                let file = match std::fs::File::open(&path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.map_err(StoreError::io("read", &path))?,
                };
                let mut bytes = Vec::new();
                file.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
                if bytes.len() as u64 > limit {
                    return Err(StoreError::Remote(format!(
                        "{} has more than {limit} bytes",
                        path.display()
                    )));
                }
                Ok(Some(bytes))
            }
        }
    }

    /// Entries of the index that name the same root are one image with several names.
    async fn walk(&self, index: &Index) -> Result<Vec<BundleImage>, BundleError> {
        let mut names: BTreeMap<Digest, (Descriptor, Vec<String>, BTreeSet<String>)> = BTreeMap::new();
        for entry in &index.manifests {
            if Artifact::named(entry).is_some() {
                continue;
            }
            let Some(name) = Index::name(entry) else {
                let text =
                    format!("{INDEX_FILE}: {} has no name ({})", entry.digest(), super::CONTAINERD_NAME);
                return Err(self.not_bundle(text));
            };
            self.check_name(name, entry.digest())?;
            let slot = names
                .entry(entry.digest().clone())
                .or_insert_with(|| (entry.clone(), Vec::new(), Index::groups(entry)));
            slot.1.push(name.to_owned());
        }
        let platforms = index.platforms();
        let mut images = Vec::with_capacity(names.len());
        let mut read = BTreeMap::new();
        for (_, (root, mut names, groups)) in names {
            names.sort();
            names.dedup();
            let image: ImageRef = match names.iter().find(|n| !n.contains('@')).or(names.first()) {
                Some(name) => name.parse().map_err(|e| self.not_bundle(format!("{INDEX_FILE}: {e}")))?,
                None => continue,
            };
            let root = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
            let graph = self.graph(image, root, platforms.as_deref(), &mut read).await?;
            images.push(BundleImage { names, groups, graph });
        }
        Ok(images)
    }

    /// A name goes to nodes as it is, so it must be one; and who asks for a digest must get that digest.
    fn check_name(&self, name: &str, root: &Digest) -> Result<(), BundleError> {
        let image: ImageRef = name.parse().map_err(|e| self.not_bundle(format!("{INDEX_FILE}: {e}")))?;
        match image.digest() {
            Some(promised) if promised != root => {
                Err(self.not_bundle(format!("{INDEX_FILE}: the name {name} stands for {root}")))
            }
            _ => Ok(()),
        }
    }

    /// `read`: the documents of the images before. Thousands of images may share one, which is held once.
    async fn graph(
        &self,
        image: ImageRef,
        root: Descriptor,
        platforms: Option<&[Platform]>,
        read: &mut BTreeMap<(Digest, u64), Bytes>,
    ) -> Result<crate::graph::ImageGraph, BundleError> {
        let broken = |source| BundleError::Image { path: self.path.clone(), source };
        let mut walk = Walk::new(image, root, platforms.unwrap_or_default()).with_foreign();
        if platforms.is_none() {
            // Another tool's layout does not say which platforms it took: what is not there was not taken.
            walk = walk.present(self.present());
        }
        loop {
            match walk.step().map_err(broken)? {
                Step::Done(graph) => return Ok(*graph),
                Step::Need(documents) => {
                    for d in documents {
                        let key = (d.digest().clone(), d.size());
                        let bytes = match read.get(&key) {
                            Some(bytes) => bytes.clone(),
                            None => read_verified(self, &d, MAX_DOCUMENT_BYTES).await?,
                        };
                        walk.give(d.digest(), bytes.clone());
                        read.insert(key, bytes);
                    }
                }
            }
        }
    }

    fn present(&self) -> BTreeSet<Digest> {
        match &*self.store {
            Store::Tar(archive) => archive.blobs().into_keys().collect(),
            Store::Folder(folder) => {
                let entries = std::fs::read_dir(folder.root().join("blobs/sha256"));
                let names = entries.into_iter().flatten().flatten().map(|e| e.file_name());
                names.filter_map(|n| format!("sha256:{}", n.to_str()?).parse().ok()).collect()
            }
        }
    }

    /// Blobs that are there, with their sizes in bytes, needed or not.
    pub(super) fn stored(&self) -> BTreeMap<Digest, u64> {
        match &*self.store {
            Store::Tar(archive) => archive.blobs(),
            Store::Folder(folder) => {
                let size =
                    |d: &Digest| std::fs::metadata(folder.root().join(d.layout_path())).ok().map(|m| m.len());
                self.present().into_iter().filter_map(|d| size(&d).map(|s| (d, s))).collect()
            }
        }
    }
}

#[async_trait]
impl BlobSource for Bundle {
    fn label(&self) -> String {
        format!("bundle {}", self.path.display())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        match &*self.store {
            Store::Tar(archive) => archive.size(digest).await,
            Store::Folder(folder) => folder.size(digest).await,
        }
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        match &*self.store {
            Store::Tar(archive) => archive.read(blob, range).await,
            Store::Folder(folder) => folder.read(blob, range).await,
        }
    }
}

/// Whether a descriptor of the bundle is a document that was read when it was opened.
pub(super) fn is_document(blob: &Descriptor) -> bool {
    blob.kind() != media::Kind::Blob || media::is_image_config(blob.media_type())
}

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::artifact::{Artifact, ArtifactError, read_artifacts};
use super::delta::{DELTA_FILE, Delta, MAX_DELTA_BYTES};
use super::docker::Tagged;
use super::index::{DOCKER_FILE, INDEX_FILE, Index};
use super::medium::Medium;
use super::opening::{Found, Kind, Listing, Name, Naming, Opening};
use super::referrers::{self, Referred};
use super::{BundleError, BundleImage};
use crate::graph::{Step, Walk};
use crate::oci::{Descriptor, Digest, ImageRef, Platform, media};
use crate::store::archive::EntryProblem;
use crate::store::{BlobSource, ByteStream, StoreError, read_verified};

/// `index.json` of ten thousand images has about 5 MB.
pub(super) const MAX_INDEX_BYTES: u64 = 32 << 20;
/// A manifest has at most 4 MiB, and so has every config that was ever seen.
const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// A bundle that is read in place: nothing is unpacked.
///
/// Opened means: every entry can be used, every document was checked against its digest, and every blob that an
/// image needs is there with its right size. The bytes of layers are not read before they are needed.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
    kind: Kind,
    medium: Arc<Medium>,
    images: Vec<BundleImage>,
    artifacts: Vec<Artifact>,
    referrers: Vec<Referred>,
    delta: Option<Delta>,
    platforms: Vec<Platform>,
}

impl Bundle {
    /// Opens a file or a folder of any kind: see [`Opening`] for what else can be asked for.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub async fn open(path: &Path) -> Result<Self, BundleError> {
        Opening::new([path]).open().await
    }

    pub(super) async fn checked(opening: &Opening) -> Result<Self, BundleError> {
        let mut bundle = Self::load(opening).await?;
        let problems = bundle.problems().await?;
        if let Some(first) = problems.first() {
            let (path, first, others) = (bundle.path, first.clone(), problems.len() - 1);
            return Err(BundleError::Damaged { path, first, others });
        }
        bundle.images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(bundle)
    }

    /// As [`Opening::open`], but with damage left for the caller to list.
    pub(super) async fn load(opening: &Opening) -> Result<Self, BundleError> {
        let Found { medium, kind, listing } = opening.find().await?;
        let (path, medium) = (opening.path(), Arc::new(medium));
        let mut bundle = Self {
            path,
            kind,
            medium,
            images: Vec::new(),
            artifacts: Vec::new(),
            referrers: Vec::new(),
            delta: None,
            platforms: Vec::new(),
        };
        let read = async {
            let listing = listing?;
            let delta = bundle.read_delta()?;
            let platforms = match &listing {
                Listing::Index(index) => index.platforms(),
                Listing::Docker(_) => None,
            };
            let artifacts = match &listing {
                Listing::Index(index) => read_artifacts(&bundle, index).await.map_err(|e| match e {
                    ArtifactError::Store(error) => error.into(),
                    source => BundleError::Artifact { path: bundle.path.clone(), source },
                })?,
                Listing::Docker(_) => Vec::new(),
            };
            let referrers = match &listing {
                Listing::Index(index) => referrers::read(&bundle, index).await?,
                Listing::Docker(_) => Vec::new(),
            };
            let images = bundle.walk(listing, platforms.as_deref(), opening).await?;
            Ok((platforms, images, artifacts, delta, referrers))
        };
        let (platforms, images, artifacts, delta, referrers) = read.await.map_err(|e| bundle.explained(e))?;
        bundle.images = images;
        bundle.artifacts = artifacts;
        bundle.referrers = referrers;
        bundle.delta = delta;
        bundle.platforms = platforms.unwrap_or_else(|| {
            let all = bundle.images.iter().flat_map(|i| &i.graph.images);
            all.filter_map(|i| i.platform.clone()).collect::<BTreeSet<_>>().into_iter().collect()
        });
        Ok(bundle)
    }

    /// What cannot be read of an archive that is cut off or otherwise damaged is the damage's fault.
    fn explained(&self, error: BundleError) -> BundleError {
        match self.medium.problems() {
            [first, others @ ..] if !error.is_damage() => {
                let (path, first, others) = (self.path.clone(), first.clone(), others.len());
                BundleError::Damaged { path, first, others }
            }
            _ => error,
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Images that no runtime could find, because nothing says what they are called: other tools make such archives.
    pub fn unnamed(&self) -> impl Iterator<Item = &BundleImage> {
        self.images.iter().filter(|i| i.names.is_empty())
    }

    /// What is there beside the images, charts and manifests for one: path and bytes, sorted. Blocks.
    ///
    /// # Errors
    /// When a folder cannot be read, or holds links or devices.
    pub fn files(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.medium.files()
    }

    /// The bytes of one of [`Bundle::files`].
    ///
    /// # Errors
    /// When it is not there.
    pub fn file(&self, name: &str, size: u64) -> Result<ByteStream, StoreError> {
        self.medium.file(name, size)
    }

    /// What stands for the whole bundle in reports: the digest of its `index.json`, which names every image by digest. `None`
    /// where there is none, as in what `docker save` wrote. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn index_digest(&self) -> Result<Option<Digest>, StoreError> {
        Ok(self.medium.text(INDEX_FILE, MAX_INDEX_BYTES)?.map(|text| Digest::sha256(&text)))
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
        let Some(text) = self.medium.text(DELTA_FILE, MAX_DELTA_BYTES)? else { return Ok(None) };
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
        let absent = delta.absent.keys().cloned().collect();
        Err(BundleError::Delta { path, base, absent, bytes: delta.bytes() })
    }

    /// What rides along: charts, manifests, files.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// Signatures, attestations and SBOMs of the images, which no runtime runs.
    pub fn referrers(&self) -> &[Referred] {
        &self.referrers
    }

    /// Every blob that an image or artifact needs, once.
    pub fn needed(&self) -> BTreeMap<Digest, Descriptor> {
        let blobs = self.images.iter().flat_map(|i| &i.graph.blobs);
        let blobs = blobs.chain(self.artifacts.iter().flat_map(Artifact::blobs));
        let blobs = blobs.chain(self.referrers.iter().flat_map(|r| &r.graph.blobs));
        blobs.map(|b| (b.digest().clone(), b.clone())).collect()
    }

    /// Hashes one blob as it is stored, without regard to its size. Blocks on another thread.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn hash(&self, blob: &Descriptor) -> Result<Digest, StoreError> {
        let (medium, digest) = (Arc::clone(&self.medium), blob.digest().clone());
        crate::store::blocking(move || medium.hash(&digest)).await
    }

    /// Where a blob stands in the archive.
    pub(super) fn place(&self, digest: &Digest) -> Option<Range<u64>> {
        match &*self.medium {
            Medium::Tar(archive) => archive.place(digest),
            _ => None,
        }
    }

    /// What is wrong as far as names and sizes tell.
    pub(super) async fn problems(&self) -> Result<Vec<EntryProblem>, StoreError> {
        let mut found = self.medium.problems().to_vec();
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
        let images = self.images.iter().filter(needs).map(BundleImage::label);
        let further = self.artifacts.iter().filter(|a| a.blobs().any(|b| b.digest() == digest));
        let names: Vec<String> = images.chain(further.map(|a| a.name.clone())).collect();
        match names.as_slice() {
            [] => "no image".to_owned(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} and {} more", rest.len()),
        }
    }

    pub(super) fn not_bundle(&self, reason: impl Into<String>) -> BundleError {
        BundleError::NotBundle { path: self.path.clone(), reason: reason.into() }
    }

    /// Entries that name the same root are one image with several names.
    async fn walk(
        &self,
        listing: Listing,
        platforms: Option<&[Platform]>,
        opening: &Opening,
    ) -> Result<Vec<BundleImage>, BundleError> {
        let naming = Naming { path: &self.path, base: opening.base_name.as_deref() };
        let entries: Vec<(Descriptor, Name)> = match listing {
            Listing::Index(index) => {
                let named = |e: Descriptor| naming.of(&e).map(|name| (e, name));
                let images =
                    index.manifests.into_iter().filter(|e| Artifact::named(e).is_none() && !Referred::is(e));
                images.map(named).collect::<Result<_, _>>()?
            }
            Listing::Docker(images) => self.tagged(images, &naming)?,
        };
        let mut roots: BTreeMap<Digest, Rooted> = BTreeMap::new();
        for (entry, name) in entries {
            let slot = roots.entry(entry.digest().clone()).or_insert_with(|| Rooted {
                groups: Index::groups(&entry),
                root: entry,
                names: Vec::new(),
                tag: None,
            });
            match name {
                Name::Full(name) => {
                    self.check_name(&name, slot.root.digest())?;
                    slot.names.push(name);
                }
                Name::Unknown(tag) => slot.tag = slot.tag.take().or(tag),
            }
        }
        // Another tool's layout does not say which platforms it took: what is not there was not taken.
        let present = platforms.is_none().then(|| self.medium.blobs().into_keys().collect());
        let mut images = Vec::with_capacity(roots.len());
        let mut read = BTreeMap::new();
        for Rooted { root, mut names, tag, groups } in roots.into_values() {
            names.sort();
            names.dedup();
            let image: Option<ImageRef> = match names.iter().find(|n| !n.contains('@')).or(names.first()) {
                Some(name) => Some(name.parse().map_err(|e| self.not_bundle(format!("{INDEX_FILE}: {e}")))?),
                None => naming.placeholder(tag.as_deref(), &root),
            };
            let Some(image) = image else { continue };
            let asked = |wanted: &ImageRef| is_called(wanted, &names, root.digest());
            if !opening.only.is_empty() && !opening.only.iter().any(asked) {
                continue;
            }
            let root = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
            let graph = self.graph(image, root, platforms, present.as_ref(), &mut read).await?;
            images.push(BundleImage { names, groups, graph });
        }
        Ok(images)
    }

    fn tagged(
        &self,
        images: Vec<Tagged>,
        naming: &Naming<'_>,
    ) -> Result<Vec<(Descriptor, Name)>, BundleError> {
        let mut entries = Vec::new();
        for Tagged { root, tags } in images {
            let named = tags.iter().filter(|t| !t.contains("<none>"));
            let parsed = named.map(|t| t.parse::<ImageRef>());
            let parsed: Vec<ImageRef> = parsed
                .collect::<Result<_, _>>()
                .map_err(|e| self.not_bundle(format!("{DOCKER_FILE}: {e}")))?;
            if parsed.is_empty() {
                let name = naming.of(&root)?;
                entries.push((root, name));
                continue;
            }
            entries.extend(parsed.iter().map(|n| (root.clone(), Name::Full(n.to_string()))));
        }
        Ok(entries)
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
    pub(super) async fn graph(
        &self,
        image: ImageRef,
        root: Descriptor,
        platforms: Option<&[Platform]>,
        present: Option<&BTreeSet<Digest>>,
        read: &mut BTreeMap<(Digest, u64), Bytes>,
    ) -> Result<crate::graph::ImageGraph, BundleError> {
        let broken = |source| BundleError::Image { path: self.path.clone(), source };
        let mut walk = Walk::new(image, root, platforms.unwrap_or_default()).with_foreign();
        if let Some(present) = present {
            walk = walk.present(present.clone());
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

    /// Blobs that are there, with their sizes in bytes, needed or not.
    pub(super) fn stored(&self) -> BTreeMap<Digest, u64> {
        self.medium.blobs()
    }
}

/// What the entries of one root say of it.
struct Rooted {
    root: Descriptor,
    names: Vec<String>,
    tag: Option<String>,
    groups: BTreeSet<String>,
}

impl BundleImage {
    /// Its first name, or what stands for it where it has none.
    pub fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.graph.image.to_string())
    }

    /// Whether a reference means this image: one of its names, or its repository with its digest.
    pub fn is(&self, wanted: &ImageRef) -> bool {
        is_called(wanted, &self.names, self.graph.root.digest()) || *wanted == self.graph.image
    }
}

fn is_called(wanted: &ImageRef, names: &[String], root: &Digest) -> bool {
    if wanted.digest().is_some_and(|d| d != root) {
        return false;
    }
    let asked = wanted.runtime_names(root);
    let repository = |name: &String| name.parse::<ImageRef>().is_ok_and(|n| n.name() == wanted.name());
    match wanted.tag() {
        // The name with the tag is the first.
        Some(_) => asked.first().is_some_and(|n| names.contains(n)),
        None => names.iter().any(repository),
    }
}

#[async_trait]
impl BlobSource for Bundle {
    fn label(&self) -> String {
        format!("bundle {}", self.path.display())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.medium.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.medium.read(blob, range).await
    }
}

/// Whether a descriptor of the bundle is a document that was read when it was opened.
pub(super) fn is_document(blob: &Descriptor) -> bool {
    blob.kind() != media::Kind::Blob || media::is_image_config(blob.media_type())
}

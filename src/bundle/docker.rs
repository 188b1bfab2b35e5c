//! Archives that `docker save` wrote before version 25, and that skopeo, podman, buildah, crane, kaniko and Bazel
//! write as `docker-archive`: a config and uncompressed or compressed layers, but no manifest.
//!
//! A manifest is made up here, and its digest with it: the digest that a registry had for the image is not in such a
//! file. `ctr images import` and `docker load` do the same. The manifest made here is, byte for byte, the one that
//! containerd makes (`core/images/archive/importer.go`), so a node that took the same file has the same digest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::index::{DOCKER_FILE, DockerEntry};
use super::open::MAX_INDEX_BYTES;
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, ImageConfig, media};
use crate::store::archive::{Archive, EntryProblem};
use crate::store::{BlobSource as _, ByteStream, StoreError};

const MAX_CONFIG_BYTES: u64 = 8 << 20;
const MAX_IMAGES: usize = 100_000;
const MAX_LAYERS: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Fields in the order in which containerd writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Whether an archive has a listing of images: other tars have a file of that name too, such as browsers' extensions.
/// Blocks.
pub(super) fn lists_images(archive: &Archive) -> bool {
    let text = archive.text(DOCKER_FILE, MAX_INDEX_BYTES).ok().flatten();
    let listed = text.and_then(|text| serde_json::from_slice::<Vec<Entry>>(&text).ok());
    listed.is_some_and(|entries| !entries.is_empty())
}

/// Whether an archive without a layout is as omk writes them, and may be replaced: configs and layers under their digests,
/// and nothing else. Those of `docker save` have other names for layers, links, or files of their own. Blocks.
pub(super) fn by_omk(archive: &Archive) -> bool {
    let text = archive.text(DOCKER_FILE, MAX_INDEX_BYTES).ok().flatten();
    let listed = text.and_then(|text| serde_json::from_slice::<Vec<DockerEntry>>(&text).ok());
    let Some(listed) = listed.filter(|entries| !entries.is_empty()) else { return false };
    let blobs: BTreeSet<String> = archive.blobs().keys().map(Digest::layout_path).collect();
    archive.problems().is_empty()
        && listed.iter().flat_map(DockerEntry::blobs).all(|path| blobs.contains(path))
        && archive.entries().all(|(name, _)| name == DOCKER_FILE || blobs.contains(name))
}

/// Such an archive, read as if it were a layout.
#[derive(Debug)]
pub(super) struct DockerArchive {
    archive: Archive,
    /// The entry of each blob.
    entries: BTreeMap<Digest, String>,
    /// The manifests.
    made: BTreeMap<Digest, Bytes>,
    problems: Vec<EntryProblem>,
}

/// An image: its made-up manifest and the names as they stand in the archive.
pub(super) struct Tagged {
    pub(super) root: Descriptor,
    pub(super) tags: Vec<String>,
}

impl DockerArchive {
    /// Reads the configs and looks at how each layer begins. An uncompressed layer's digest is in the config, and that
    /// of a compressed one often its name; only where neither is so it must be hashed. Blocks.
    ///
    /// # Errors
    /// A text that says what of it cannot be used.
    pub(super) fn read(archive: Archive, listing: &[u8]) -> Result<(Self, Vec<Tagged>), String> {
        let listed: Vec<Entry> =
            serde_json::from_slice(listing).map_err(|e| format!("{DOCKER_FILE}: {e}"))?;
        if listed.len() > MAX_IMAGES {
            return Err(format!("{DOCKER_FILE} lists more than {MAX_IMAGES} images"));
        }
        // Tools that write such files link to layers that images share.
        let harmless = |p: &&EntryProblem| archive.follow(&p.entry).is_none();
        let problems = archive.problems().iter().filter(harmless).cloned().collect();
        let mut this = Self { archive, entries: BTreeMap::new(), made: BTreeMap::new(), problems };
        let mut layers = BTreeMap::new();
        let mut images = Vec::with_capacity(listed.len());
        for entry in listed {
            let root = this.image(&entry, &mut layers)?;
            images.push(Tagged { root, tags: entry.repo_tags.unwrap_or_default() });
        }
        Ok((this, images))
    }

    fn image(
        &mut self,
        entry: &Entry,
        known: &mut BTreeMap<(String, Digest), Descriptor>,
    ) -> Result<Descriptor, String> {
        let missing = |name: &str| format!("{DOCKER_FILE} names {name:.200?}, which is not in the archive");
        let name = self.archive.follow(&entry.config).ok_or_else(|| missing(&entry.config))?.to_owned();
        let text = self.archive.text(&name, MAX_CONFIG_BYTES).map_err(|e| e.to_string())?;
        let text = text.ok_or_else(|| missing(&entry.config))?;
        let parsed: ImageConfig =
            serde_json::from_slice(&text).map_err(|e| format!("config {name:.200?}: {e}"))?;
        let config = Descriptor::of(media::DOCKER_CONFIG, &text);
        let names = entry.layers.as_deref().unwrap_or_default();
        let diffs = &parsed.rootfs.diff_ids;
        if names.len() != diffs.len() || names.len() > MAX_LAYERS {
            return Err(format!(
                "{DOCKER_FILE} lists {} layers, config {name:.200?} {}",
                names.len(),
                diffs.len()
            ));
        }
        self.entries.insert(config.digest().clone(), name);
        let mut layers = Vec::with_capacity(names.len());
        for (name, diff) in names.iter().zip(diffs) {
            let found = self.archive.follow(name).ok_or_else(|| missing(name))?.to_owned();
            let key = (found, diff.clone());
            let layer = match known.get(&key) {
                Some(layer) => layer.clone(),
                None => known.entry(key.clone()).or_insert(self.layer(&key.0, diff)?).clone(),
            };
            self.entries.entry(layer.digest().clone()).or_insert(key.0);
            layers.push(layer);
        }
        let manifest = Manifest { schema_version: 2, media_type: media::DOCKER_MANIFEST, config, layers };
        let bytes = serde_json::to_vec(&manifest).map_err(|e| e.to_string())?;
        let root = Descriptor::of(media::DOCKER_MANIFEST, &bytes);
        self.made.insert(root.digest().clone(), bytes.into());
        Ok(root)
    }

    fn layer(&self, name: &str, diff: &Digest) -> Result<Descriptor, String> {
        let head = self.archive.head(name, 4).map_err(|e| e.to_string())?;
        let size = self.size_of(name).unwrap_or(0);
        let media_type = match head.as_slice() {
            [0x1f, 0x8b, ..] => media::DOCKER_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => media::DOCKER_LAYER_ZSTD,
            _ => return Ok(Descriptor::new(media::DOCKER_LAYER, diff.clone(), size)),
        };
        // `HEX.tar.gz`, `blobs/sha256/HEX`: a claim, which is checked whenever the blob is read.
        let stem = name.rsplit('/').next().and_then(|n| n.split('.').next()).unwrap_or_default();
        let digest = match format!("sha256:{stem}").parse() {
            Ok(digest) => digest,
            Err(_) => {
                let hashed = self.archive.hash_entry(name, Hasher::new(Algorithm::Sha256));
                hashed.map_err(|e| e.to_string())?.unwrap_or_else(|| diff.clone())
            }
        };
        Ok(Descriptor::new(media_type, digest, size))
    }

    fn size_of(&self, name: &str) -> Option<u64> {
        self.archive.entry_size(name)
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    pub(super) fn problems(&self) -> &[EntryProblem] {
        &self.problems
    }

    /// Every blob with its size in bytes.
    pub(super) fn blobs(&self) -> BTreeMap<Digest, u64> {
        let made = self.made.iter().map(|(d, b)| (d.clone(), b.len() as u64));
        let entries = self.entries.iter().filter_map(|(d, name)| Some((d.clone(), self.size_of(name)?)));
        made.chain(entries).collect()
    }

    pub(super) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self.made.get(digest) {
            Some(bytes) => Some(bytes.len() as u64),
            None => self.size_of(self.entries.get(digest)?),
        }
    }

    /// Blocks.
    pub(super) fn hash(&self, digest: &Digest) -> Result<Digest, StoreError> {
        if let Some(bytes) = self.made.get(digest) {
            return Ok(Digest::sha256(bytes));
        }
        let missing = || StoreError::NotFound { digest: digest.clone(), store: self.archive.label() };
        let name = self.entries.get(digest).ok_or_else(missing)?;
        self.archive.hash_entry(name, Hasher::new(digest.algorithm()))?.ok_or_else(missing)
    }

    pub(super) fn read_blob(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let digest = blob.digest();
        let missing = || StoreError::NotFound { digest: digest.clone(), store: self.archive.label() };
        if let Some(bytes) = self.made.get(digest) {
            let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let part = (range.start <= range.end && range.end <= bytes.len() as u64)
                .then(|| bytes.slice(place(range.start)..place(range.end)));
            let part = part.ok_or_else(missing)?;
            return Ok(Box::pin(futures_util::stream::iter([Ok(part)])));
        }
        let name = self.entries.get(digest).ok_or_else(missing)?;
        self.archive.stream(name, range).ok_or_else(|| StoreError::SizeMismatch {
            digest: digest.clone(),
            expected: blob.size(),
            found: self.size_of(name).unwrap_or(0),
            store: self.archive.label(),
        })
    }
}

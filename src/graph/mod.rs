//! From the name of an image to everything that must be copied for it: pure, works on bytes that were already
//! verified.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::oci::{Descriptor, Digest, ImageConfig, ImageRef, Manifest, ManifestError, Platform, media};

/// One image and all that belongs to it for the chosen platforms.
///
/// Invariant: `blobs` holds every blob once, children before parents, the root last; so a target that takes them in
/// this order never holds a manifest whose layers are missing.
#[derive(Debug, Clone)]
pub struct ImageGraph {
    /// The name as it was asked for.
    pub image: ImageRef,
    /// What the name resolved to: an index or a manifest. It keeps its digest however few platforms are taken.
    pub root: Descriptor,
    /// The chosen images, one a platform.
    pub images: Vec<PlatformImage>,
    /// Everything to copy.
    pub blobs: Vec<Descriptor>,
    /// Bytes of the manifests, indexes and configs among `blobs`, which were read to learn the rest.
    pub documents: BTreeMap<Digest, Bytes>,
}

/// A single-platform image.
#[derive(Debug, Clone)]
pub struct PlatformImage {
    /// What it runs on, as its config says; `None` for an artifact that is no runnable image.
    pub platform: Option<Platform>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Chain IDs of the layers (image-spec), lowest first: the keys of the snapshots a runtime unpacks to.
    pub chain_ids: Vec<Digest>,
}

/// Why an image has no usable graph.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A document is not what it should be.
    #[error("{image}: {source}")]
    Manifest {
        /// The image.
        image: ImageRef,
        /// What is wrong.
        source: ManifestError,
    },
    /// The config is no JSON.
    #[error("{image}: config {digest} is not valid: {source}")]
    Config {
        /// The image.
        image: ImageRef,
        /// The config.
        digest: Digest,
        /// Where.
        source: serde_json::Error,
    },
    /// None of the index's entries is for the platform.
    #[error("{image} has no image for {wanted}; it has {}", if offered.is_empty() { "none that names a platform".to_owned() } else { offered.join(", ") })]
    NoPlatform {
        /// The image.
        image: ImageRef,
        /// Asked for.
        wanted: Platform,
        /// What the index offers.
        offered: Vec<String>,
    },
    /// A single image, made for something else.
    #[error(
        "{image} is for {found}, not for {wanted}; ask the publisher for a {wanted} build or pass --platform {found}"
    )]
    WrongPlatform {
        /// The image.
        image: ImageRef,
        /// Asked for.
        wanted: Platform,
        /// What its config says.
        found: Platform,
    },
    /// An index promises another platform than the image's config says.
    #[error(
        "{image}: the index lists {manifest} for {promised}, and its config says {found}: it would not run there; ask the \
         publisher for a mended image, or leave out --platform {promised}"
    )]
    Mislabelled {
        /// The image.
        image: ImageRef,
        /// The manifest.
        manifest: Digest,
        /// What the index says.
        promised: Platform,
        /// What the config says.
        found: Platform,
    },
    /// Indexes inside indexes, further down than anybody needs.
    #[error("{image}: indexes are nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// The image.
        image: ImageRef,
    },
    /// A layer that the registry need not have.
    #[error(
        "{image}: layer {digest} is a foreign layer ({media_type}), which its publisher does not want redistributed; leave this image out, or take the layer with --foreign-layers"
    )]
    Foreign {
        /// The image.
        image: ImageRef,
        /// The layer.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
}

const MAX_DEPTH: usize = 3;

/// What must be read next to know the graph.
#[derive(Debug)]
pub enum Step {
    /// Read these documents and call [`Walk::give`] with each.
    Need(Vec<Descriptor>),
    /// All is known.
    Done(Box<ImageGraph>),
}

/// Walks from a root to its leaves without doing I/O: the caller reads what [`Walk::step`] asks for.
#[derive(Debug)]
pub struct Walk {
    image: ImageRef,
    root: Descriptor,
    platforms: Vec<Platform>,
    present: Option<BTreeSet<Digest>>,
    /// Whether layers that must not be redistributed end it.
    refuse_foreign: bool,
    documents: BTreeMap<Digest, Bytes>,
}

/// What one walk from the root came upon.
#[derive(Default)]
struct Found {
    need: Vec<Descriptor>,
    images: Vec<PlatformImage>,
    /// Children before parents.
    indexes: Vec<Descriptor>,
    /// Each document is visited once: a few indexes that name each other thousands of times would never end.
    seen: BTreeSet<Digest>,
}

impl Walk {
    /// `platforms`: which to take of an index, in this order; empty: all that it has.
    pub fn new(image: ImageRef, root: Descriptor, platforms: &[Platform]) -> Self {
        Self {
            image,
            root,
            platforms: platforms.to_vec(),
            present: None,
            refuse_foreign: true,
            documents: BTreeMap::new(),
        }
    }

    /// Takes layers that must not be redistributed like any others: for what was taken before, or by explicit wish.
    #[must_use]
    pub fn with_foreign(self) -> Self {
        Self { refuse_foreign: false, ..self }
    }

    /// Takes an index's entry only if its manifest is among `present`: for a layout that does not say which
    /// platforms were taken into it.
    #[must_use]
    pub fn present(self, present: BTreeSet<Digest>) -> Self {
        Self { present: Some(present), ..self }
    }

    /// A verified document that was asked for.
    pub fn give(&mut self, digest: &Digest, bytes: Bytes) {
        self.documents.insert(digest.clone(), bytes);
    }

    /// What is missing, or the graph.
    ///
    /// # Errors
    /// When a document is not usable or the platform is not there.
    pub fn step(&self) -> Result<Step, GraphError> {
        let mut found = Found::default();
        self.visit(&self.root, 0, &mut found)?;
        let Found { need, images, indexes, .. } = found;
        if !need.is_empty() {
            return Ok(Step::Need(need));
        }
        let mut seen = BTreeSet::new();
        let mut blobs = Vec::new();
        let leaves = images.iter().flat_map(|i| i.layers.iter().chain([&i.config]));
        let manifests = images.iter().map(|i| &i.manifest);
        for blob in leaves.chain(manifests).chain(&indexes) {
            if seen.insert(blob.digest().clone()) {
                blobs.push(Descriptor::new(blob.media_type(), blob.digest().clone(), blob.size()));
            }
        }
        let documents = self.documents.clone();
        Ok(Step::Done(Box::new(ImageGraph {
            image: self.image.clone(),
            root: self.root.clone(),
            images,
            blobs,
            documents,
        })))
    }

    fn visit(&self, at: &Descriptor, depth: usize, found: &mut Found) -> Result<(), GraphError> {
        let image = || self.image.clone();
        if depth > MAX_DEPTH {
            return Err(GraphError::TooDeep { image: image() });
        }
        if !found.seen.insert(at.digest().clone()) {
            return Ok(());
        }
        let Some(bytes) = self.documents.get(at.digest()) else {
            found.need.push(at.clone());
            return Ok(());
        };
        let parsed =
            Manifest::parse(at, bytes).map_err(|source| GraphError::Manifest { image: image(), source })?;
        match parsed {
            Manifest::Index(index) => {
                for child in self.choose(&index.manifests)? {
                    self.visit(child, depth + 1, found)?;
                }
                found.indexes.push(at.clone());
            }
            Manifest::Image(manifest) => {
                let foreign = manifest.layers.iter().find(|l| media::is_foreign_layer(l.media_type()));
                if let Some(layer) = foreign.filter(|_| self.refuse_foreign) {
                    let (digest, media_type) = (layer.digest().clone(), layer.media_type().to_owned());
                    return Err(GraphError::Foreign { image: image(), digest, media_type });
                }
                let (mut platform, mut chain_ids) = (None, Vec::new());
                if manifest.is_image() {
                    let digest = manifest.config.digest();
                    let Some(config) = self.documents.get(digest) else {
                        found.need.push(manifest.config.clone());
                        return Ok(());
                    };
                    let config: ImageConfig = serde_json::from_slice(config).map_err(|source| {
                        GraphError::Config { image: image(), digest: digest.clone(), source }
                    })?;
                    platform = self.checked(at, &config)?;
                    chain_ids = config.chain_ids();
                    self.check_platform(platform.as_ref())?;
                }
                let (config, layers) = (manifest.config, manifest.layers);
                found.images.push(PlatformImage {
                    platform,
                    manifest: at.clone(),
                    config,
                    layers,
                    chain_ids,
                });
            }
        }
        Ok(())
    }

    /// The entries for the wanted platforms. An exact match is preferred to one that merely runs there.
    fn choose<'a>(&self, entries: &'a [Descriptor]) -> Result<Vec<&'a Descriptor>, GraphError> {
        let here = |e: &&Descriptor| self.present.as_ref().is_none_or(|p| p.contains(e.digest()));
        let usable = || entries.iter().filter(|e| !e.is_attestation()).filter(here);
        if self.platforms.is_empty() {
            return Ok(usable().collect());
        }
        let mut chosen: Vec<&Descriptor> = Vec::new();
        for wanted in &self.platforms {
            let exact = usable().find(|e| e.platform().as_ref() == Some(wanted));
            let runs = || {
                usable()
                    .filter(|e| e.platform().is_some_and(|p| wanted.runs(&p)))
                    .max_by_key(|e| e.platform())
            };
            // An entry that states no platform may be a nested index or an artifact: its config decides.
            let silent = || usable().find(|e| e.platform().is_none());
            let found = exact.or_else(runs).or_else(silent).ok_or_else(|| GraphError::NoPlatform {
                image: self.image.clone(),
                wanted: wanted.clone(),
                offered: usable().filter_map(|e| e.platform()).map(|p| p.to_string()).collect(),
            })?;
            if !chosen.iter().any(|c| c.digest() == found.digest()) {
                chosen.push(found);
            }
        }
        Ok(chosen)
    }

    /// What an image runs on: its config's word, which must not be another than its index entry's. A variant that the
    /// config leaves out, as many do, is the entry's.
    fn checked(&self, at: &Descriptor, config: &ImageConfig) -> Result<Option<Platform>, GraphError> {
        let (Some(found), Some(promised)) = (config.platform(), at.platform()) else {
            return Ok(config.platform());
        };
        if (found.os(), found.architecture()) != (promised.os(), promised.architecture()) {
            let (image, manifest) = (self.image.clone(), at.digest().clone());
            return Err(GraphError::Mislabelled { image, manifest, promised, found });
        }
        let stated = config.variant.as_ref().is_some_and(|v| !v.is_empty());
        Ok(Some(if stated { found } else { promised }))
    }

    /// The config decides, not the index or the tag: an image whose config names another platform is refused.
    fn check_platform(&self, found: Option<&Platform>) -> Result<(), GraphError> {
        match (self.platforms.as_slice(), found) {
            ([], _) | (_, None) => Ok(()),
            (wanted, Some(found)) if wanted.iter().any(|w| w.runs(found)) => Ok(()),
            (wanted, Some(found)) => Err(GraphError::WrongPlatform {
                image: self.image.clone(),
                wanted: wanted[0].clone(),
                found: found.clone(),
            }),
        }
    }
}

impl ImageGraph {
    /// Bytes of all blobs.
    pub fn size(&self) -> u64 {
        self.blobs.iter().fold(0, |n, b| n.saturating_add(b.size()))
    }
}

#[cfg(test)]
mod tests;

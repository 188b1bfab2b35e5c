use serde::Deserialize;

use super::media::{self, Kind};
use super::{Descriptor, Digest, Platform};

/// The largest manifest or index that is read: 4 MiB, what distribution-spec 1.1 asks of registries and what
/// containerd and docker-registry enforce.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Entries in one manifest or index. The largest real index has about 60, the deepest image 127 layers.
const MAX_ENTRIES: usize = 4096;

/// Why bytes are not a manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or fields of the wrong type.
    #[error("manifest {digest} is not valid JSON for {media_type}: {source}")]
    Json {
        /// Of the bytes.
        digest: Digest,
        /// What they were said to be.
        media_type: String,
        /// Line and column.
        source: serde_json::Error,
    },
    /// A type that cannot be copied by digest.
    #[error("media type {media_type:?} of {digest} is not supported{hint}")]
    Unsupported {
        /// Of the bytes.
        digest: Digest,
        /// What they were said to be.
        media_type: String,
        /// What to do about it, or nothing.
        hint: &'static str,
    },
    /// Fields of an index and of a manifest in one document: two readers could see two images
    /// (CVE-2021-41190).
    #[error("manifest {0} is both an index and an image manifest, which is refused as ambiguous")]
    Ambiguous(Digest),
    /// What the document says of itself is not what its descriptor said.
    #[error("manifest {digest} says it is {inside:?}, its descriptor says {outside:?}")]
    TypeMismatch {
        /// Of the bytes.
        digest: Digest,
        /// `mediaType` in the document.
        inside: String,
        /// The descriptor's.
        outside: String,
    },
    /// More bytes or entries than any honest one has.
    #[error("manifest {digest} has {found} {unit}, more than the {limit} that are accepted")]
    TooLarge {
        /// Of the bytes.
        digest: Digest,
        /// How many.
        found: u64,
        /// Of what.
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// A parsed index or image manifest.
#[derive(Debug, Clone)]
pub enum Manifest {
    /// Several platforms.
    Index(ImageIndex),
    /// One.
    Image(Box<ImageManifest>),
}

/// An image index or Docker manifest list.
#[derive(Debug, Clone, Deserialize)]
pub struct ImageIndex {
    /// One entry a platform, and attestations.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// An image manifest: also of artifacts, whose config is no image config.
#[derive(Debug, Clone, Deserialize)]
pub struct ImageManifest {
    /// The image config, or an artifact's.
    pub config: Descriptor,
    /// Lowest layer first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// What this artifact is about (referrers).
    #[serde(default)]
    pub subject: Option<Descriptor>,
}

/// The part of an image config that choosing and proving need.
#[derive(Debug, Clone, Deserialize)]
pub struct ImageConfig {
    /// Go's name of the architecture.
    #[serde(default)]
    pub architecture: String,
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// For arm.
    #[serde(default)]
    pub variant: Option<String>,
    /// The uncompressed layers.
    #[serde(default)]
    pub rootfs: RootFs,
}

/// The layers of an image as their uncompressed digests.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RootFs {
    /// Lowest first.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// What the image runs on; `None` where the config does not say.
    pub fn platform(&self) -> Option<Platform> {
        (!self.os.is_empty() && !self.architecture.is_empty())
            .then(|| Platform::new(&self.os, &self.architecture, self.variant.as_deref()))
    }

    /// [`chain_ids`] of its layers.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(&self.rootfs.diff_ids)
    }
}

/// The chain ID of each layer with all below it (image-spec, "Layer ChainID"), lowest first: the keys of the snapshots that
/// runtimes unpack the image to.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let next = match chain.last() {
            None => diff.clone(),
            Some(parent) => Digest::sha256(format!("{parent} {diff}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Parses bytes that were already checked against the descriptor's digest.
    ///
    /// # Errors
    /// Anything but one clear index or image manifest within the bounds.
    pub fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, ManifestError> {
        let digest = descriptor.digest();
        let outside = descriptor.media_type();
        let too_large =
            |found: u64, unit, limit| ManifestError::TooLarge { digest: digest.clone(), found, unit, limit };
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(too_large(bytes.len() as u64, "bytes", MAX_MANIFEST_BYTES));
        }
        let json =
            |source| ManifestError::Json { digest: digest.clone(), media_type: outside.to_owned(), source };
        let probe: Probe = serde_json::from_slice(bytes).map_err(json)?;
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some())
            || probe.fs_layers.is_some() && probe.layers.is_some()
        {
            return Err(ManifestError::Ambiguous(digest.clone()));
        }
        if let Some(inside) = probe.media_type.filter(|inside| !inside.is_empty() && inside != outside) {
            return Err(ManifestError::TypeMismatch {
                digest: digest.clone(),
                inside,
                outside: outside.to_owned(),
            });
        }
        let parsed = match descriptor.kind() {
            Kind::Index => Self::Index(serde_json::from_slice(bytes).map_err(json)?),
            Kind::Manifest => Self::Image(Box::new(serde_json::from_slice(bytes).map_err(json)?)),
            Kind::Blob => {
                let hint = if outside.starts_with("application/vnd.docker.distribution.manifest.v1") {
                    ": Docker schema 1 has no stable digest; push the image again with a current tool"
                } else {
                    ""
                };
                let media_type = outside.to_owned();
                return Err(ManifestError::Unsupported { digest: digest.clone(), media_type, hint });
            }
        };
        let entries = match &parsed {
            Self::Index(i) => i.manifests.len(),
            Self::Image(m) => m.layers.len(),
        };
        if entries > MAX_ENTRIES {
            return Err(too_large(entries as u64, "entries", MAX_ENTRIES as u64));
        }
        Ok(parsed)
    }

    /// What it points to, in the order in which it stands there.
    pub fn successors(&self) -> Vec<Descriptor> {
        match self {
            Self::Index(i) => i.manifests.clone(),
            Self::Image(m) => std::iter::once(m.config.clone()).chain(m.layers.iter().cloned()).collect(),
        }
    }
}

impl ImageManifest {
    /// Whether the config says what it runs on, and so whether a platform can be checked.
    pub fn is_image(&self) -> bool {
        media::is_image_config(self.config.media_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(media_type: &str, json: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(&Descriptor::of(media_type, json.as_bytes()), json.as_bytes())
    }

    fn pointer(media_type: &str, seed: &str) -> String {
        serde_json::to_string(&Descriptor::of(media_type, seed.as_bytes())).unwrap()
    }

    #[test]
    fn successors_are_config_then_layers() {
        let json = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{}]}}"#,
            pointer(media::OCI_CONFIG, "c"),
            pointer(media::OCI_LAYER_GZIP, "1"),
            pointer(media::OCI_LAYER_ZSTD, "2")
        );
        let m = parse(media::OCI_MANIFEST, &json).unwrap();
        let got: Vec<String> = m.successors().iter().map(|d| d.media_type().to_owned()).collect();
        assert_eq!(got, [media::OCI_CONFIG, media::OCI_LAYER_GZIP, media::OCI_LAYER_ZSTD]);
    }

    #[test]
    fn a_docker_list_is_an_index() {
        let json = format!(r#"{{"manifests":[{}]}}"#, pointer(media::DOCKER_MANIFEST, "m"));
        assert!(
            matches!(parse(media::DOCKER_LIST, &json).unwrap(), Manifest::Index(i) if i.manifests.len() == 1)
        );
    }

    #[test]
    fn ambiguous_and_mislabelled_documents_are_refused() {
        let both = format!(r#"{{"manifests":[],"config":{}}}"#, pointer(media::OCI_CONFIG, "c"));
        assert!(matches!(parse(media::OCI_INDEX, &both), Err(ManifestError::Ambiguous(_))));
        let lie = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media::OCI_MANIFEST);
        assert!(matches!(parse(media::OCI_INDEX, &lie), Err(ManifestError::TypeMismatch { .. })));
        assert!(matches!(parse(media::DOCKER_SCHEMA1, "{}"), Err(ManifestError::Unsupported { .. })));
        assert!(matches!(parse(media::OCI_MANIFEST, "{"), Err(ManifestError::Json { .. })));
    }

    #[test]
    fn chain_ids_follow_the_spec() {
        let d = |s: &str| Digest::sha256(s.as_bytes());
        let config = ImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            variant: None,
            rootfs: RootFs { diff_ids: vec![d("a"), d("b")] },
        };
        let chain = config.chain_ids();
        assert_eq!(chain[0], d("a"));
        assert_eq!(chain[1], Digest::sha256(format!("{} {}", d("a"), d("b")).as_bytes()));
    }
}

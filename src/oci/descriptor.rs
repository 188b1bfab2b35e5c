use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::media::{self, Kind};
use super::{Digest, Platform};

/// A typed, sized pointer to a blob (image-spec, "Descriptor").
///
/// Fields that this program does not know are dropped when it is read: a descriptor is only ever written into an
/// index of our own; manifests travel as the bytes they came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<RawPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// As written in an index: kept verbatim, normalised on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RawPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Descriptor {
    /// A bare pointer; `size` in bytes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        let media_type = media_type.into();
        Self { media_type, digest, size, platform: None, artifact_type: None, annotations: BTreeMap::new() }
    }

    /// Of bytes in memory.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// The type of what it points to.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The identity of what it points to.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes that the blob has, exactly.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What copying has to do with it.
    pub fn kind(&self) -> Kind {
        media::kind(&self.media_type)
    }

    /// The platform that an index states for this entry, normalised; `None` where it states none, or states
    /// `unknown/unknown` as build attestations do.
    pub fn platform(&self) -> Option<Platform> {
        let p = self.platform.as_ref()?;
        if p.os.is_empty() || p.architecture.is_empty() || p.os == "unknown" || p.architecture == "unknown" {
            return None;
        }
        Some(Platform::new(&p.os, &p.architecture, p.variant.as_deref()))
    }

    /// Whether an index marks this entry as no image at all (`unknown/unknown`, or a build attestation).
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }

    /// Key and value pairs beside the pointer.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The same pointer with these annotations and no others.
    #[must_use]
    pub fn with_annotations<K: Into<String>, V: Into<String>>(
        mut self,
        all: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.annotations = all.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        self
    }

    /// The same pointer with the platform stated.
    #[must_use]
    pub fn with_platform(mut self, p: &Platform) -> Self {
        self.platform = Some(RawPlatform {
            architecture: p.architecture().to_owned(),
            os: p.os().to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: p.variant().map(str::to_owned),
        });
        self
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::{Artifact, ArtifactKind, Bundle, Delta, Kind};
use crate::oci::{Digest, ImageRef, Platform};

/// What is in a bundle, for people and programs. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file or folder.
    pub bundle: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The platforms it was built for.
    pub platforms: Vec<Platform>,
    /// Every image, sorted by name.
    pub images: Vec<InspectedImage>,
    /// What rides along: charts, manifests, files.
    pub artifacts: Vec<InspectedArtifact>,
    /// Signatures, attestations and SBOMs of the images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<InspectedReferrer>,
    /// What it leaves out, if it is a delta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// Different blobs that all of it needs.
    pub blobs: usize,
    /// Bytes of those.
    pub size: u64,
    /// Bytes that would be there more than once if images did not share blobs.
    pub shared: u64,
}

/// Something that refers to an image.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedReferrer {
    /// The name under which its registry has it: a tag, or its digest.
    pub name: ImageRef,
    /// Of its manifest.
    pub digest: Digest,
    /// What it is about.
    pub subject: Digest,
    /// Bytes of its blobs.
    pub size: u64,
}

/// Something in a bundle that is no image.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedArtifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// What people call it.
    pub name: String,
    /// Of its manifest.
    pub digest: Digest,
    /// Bytes of its blobs.
    pub size: u64,
    /// Its files: where `omk bundle extract` puts them, and bytes.
    pub files: BTreeMap<String, u64>,
}

/// One image of a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedImage {
    /// All names that a runtime will know it by.
    pub names: Vec<String>,
    /// The first of them, or what stands for it where nothing says what the image is called.
    pub label: String,
    /// Of its index or manifest.
    pub digest: Digest,
    /// Media type of that.
    pub media_type: String,
    /// Groups of nodes that need it; empty: every node.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Bytes of its blobs, shared ones too.
    pub size: u64,
    /// One a platform.
    pub variants: Vec<Variant>,
}

/// An image for one platform.
#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    /// As its config says; none for an artifact.
    pub platform: Option<Platform>,
    /// Of its manifest.
    pub digest: Digest,
    /// Of its config.
    pub config: Digest,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

/// A layer.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// Of its stored bytes.
    pub digest: Digest,
    /// How it is compressed.
    pub media_type: String,
    /// Stored bytes.
    pub size: u64,
}

impl Bundle {
    /// Describes the bundle from the documents that were read when it was opened.
    pub fn inspect(&self) -> Inspection {
        let needed = self.needed();
        let size: u64 = needed.values().map(|b| b.size()).sum();
        let all =
            self.images().iter().map(|i| i.graph.size()).chain(self.artifacts().iter().map(Artifact::size));
        let all: u64 = all.chain(self.referrers().iter().map(|r| r.graph.size())).sum();
        let image = |i: &super::BundleImage| InspectedImage {
            names: i.names.clone(),
            label: i.label(),
            digest: i.graph.root.digest().clone(),
            media_type: i.graph.root.media_type().to_owned(),
            groups: i.groups.clone(),
            size: i.graph.size(),
            variants: i.graph.images.iter().map(variant).collect(),
        };
        let artifact = |a: &Artifact| InspectedArtifact {
            kind: a.kind,
            name: a.name.clone(),
            digest: a.root.digest().clone(),
            size: a.size(),
            files: a.files.iter().map(|f| (f.path.clone(), f.blob.size())).collect(),
        };
        let referrer = |r: &super::Referred| InspectedReferrer {
            name: r.name.clone(),
            digest: r.graph.root.digest().clone(),
            subject: r.subject.clone(),
            size: r.graph.size(),
        };
        Inspection {
            bundle: self.path().to_owned(),
            kind: self.kind(),
            platforms: self.platforms().to_vec(),
            images: self.images().iter().map(image).collect(),
            artifacts: self.artifacts().iter().map(artifact).collect(),
            referrers: self.referrers().iter().map(referrer).collect(),
            delta: self.delta().cloned(),
            blobs: needed.len(),
            size,
            shared: all.saturating_sub(size),
        }
    }
}

fn variant(image: &crate::graph::PlatformImage) -> Variant {
    let layer = |l: &crate::oci::Descriptor| Layer {
        digest: l.digest().clone(),
        media_type: l.media_type().to_owned(),
        size: l.size(),
    };
    Variant {
        platform: image.platform.clone(),
        digest: image.manifest.digest().clone(),
        config: image.config.digest().clone(),
        layers: image.layers.iter().map(layer).collect(),
    }
}

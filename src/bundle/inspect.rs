use std::path::PathBuf;

use serde::Serialize;

use super::Bundle;
use crate::oci::{Digest, Platform};

/// What is in a bundle, for people and programs. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file or folder.
    pub bundle: PathBuf,
    /// The platforms it was built for.
    pub platforms: Vec<Platform>,
    /// Every image, sorted by name.
    pub images: Vec<InspectedImage>,
    /// Different blobs that the images need.
    pub blobs: usize,
    /// Bytes of those.
    pub size: u64,
    /// Bytes that would be there more than once if images did not share blobs.
    pub shared: u64,
}

/// One image of a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedImage {
    /// All names that a runtime will know it by.
    pub names: Vec<String>,
    /// Of its index or manifest.
    pub digest: Digest,
    /// Media type of that.
    pub media_type: String,
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
        let all: u64 = self.images().iter().map(|i| i.graph.size()).sum();
        let image = |i: &super::BundleImage| InspectedImage {
            names: i.names.clone(),
            digest: i.graph.root.digest().clone(),
            media_type: i.graph.root.media_type().to_owned(),
            size: i.graph.size(),
            variants: i.graph.images.iter().map(variant).collect(),
        };
        Inspection {
            bundle: self.path().to_owned(),
            platforms: self.platforms().to_vec(),
            images: self.images().iter().map(image).collect(),
            blobs: needed.len(),
            size,
            shared: all - size,
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

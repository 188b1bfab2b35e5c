//! Carriers: images that bring the layers of another one in a form that unpacks more quickly.
//!
//! containerd keys what it unpacks by the uncompressed layers (chain IDs). A manifest with the config of an image and its
//! layers packed as zstd therefore unpacks to the very snapshots of that image. Imported first, under a name that is thrown
//! away, it leaves nothing for the image itself to bring but its own manifest and config, whose digests stay what they are.
//! What the node does not have afterwards is the layers as they were packed: see [`Containerd`](super::Containerd).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::RuntimeImage;
use crate::graph::PlatformImage;
use crate::oci::{Descriptor, Digest, media};

/// Layers packed in another way, by the digests of those whose place they take.
pub type Packed = BTreeMap<Digest, Descriptor>;

/// What travels in place of an image's own layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// Points at `document`.
    pub manifest: Descriptor,
    /// The manifest's bytes: the image's own config, and `layers`.
    pub document: Bytes,
    /// In the order of the image's; those that are packed well already are the image's own.
    pub layers: Vec<Descriptor>,
}

impl Carrier {
    /// Of what is packed so far. The same image and layers give the same bytes.
    pub fn of(image: &PlatformImage, packed: &Packed) -> Self {
        let bare = |d: &Descriptor| Descriptor::new(d.media_type(), d.digest().clone(), d.size());
        let layers: Vec<Descriptor> =
            image.layers.iter().map(|l| bare(packed.get(l.digest()).unwrap_or(l))).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": bare(&image.config),
            "layers": layers,
        });
        let document = Bytes::from(manifest.to_string());
        Self { manifest: Descriptor::of(media::OCI_MANIFEST, &document), document, layers }
    }
}

/// Whether packing this blob anew makes unpacking quicker.
pub fn packs_better(blob: &Descriptor) -> bool {
    let kinds = [media::OCI_LAYER_GZIP, media::DOCKER_LAYER_GZIP, media::OCI_LAYER, media::DOCKER_LAYER];
    kinds.contains(&blob.media_type())
}

impl RuntimeImage {
    /// The same image, whose layers come by a carrier where that is of any use.
    #[must_use]
    pub fn carried(mut self, packed: &Packed) -> Self {
        if !self.image.layers.iter().any(packs_better)
            || self.image.chain_ids.len() != self.image.layers.len()
        {
            return self;
        }
        let carrier = Carrier::of(&self.image, packed);
        let own: Vec<&Digest> = self.image.layers.iter().map(Descriptor::digest).collect();
        self.blobs.retain(|b| !own.contains(&b.digest()));
        let mut blobs: Vec<Descriptor> = Vec::new();
        let mut add = |blob: &Descriptor| {
            if !blobs.iter().any(|b| b.digest() == blob.digest()) {
                blobs.push(blob.clone());
            }
        };
        carrier.layers.iter().for_each(&mut add);
        if carrier.layers.iter().zip(&own).any(|(l, own)| l.digest() != *own) {
            add(&carrier.manifest);
        }
        self.blobs.iter().for_each(add);
        Self { blobs, carrier: Some(carrier), ..self }
    }

    /// The layers as they travel, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        self.carrier.as_ref().map_or(&self.image.layers, |c| &c.layers)
    }

    /// Blobs that travel and that the runtime keeps: all but what a carrier is made of.
    pub fn kept(&self) -> impl Iterator<Item = &Descriptor> {
        let carrier = self.carrier.as_ref();
        let brought = move |b: &&Descriptor| {
            carrier.is_some_and(|c| {
                c.manifest.digest() == b.digest() || c.layers.iter().any(|l| l.digest() == b.digest())
            })
        };
        self.blobs.iter().filter(move |b| !brought(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ImageManifest;
    use crate::runtime::fixtures::image;
    use crate::store::MemoryStore;

    fn zstd(text: &str) -> Descriptor {
        Descriptor::of(media::OCI_LAYER_ZSTD, text.as_bytes())
    }

    #[test]
    fn a_carrier_has_the_images_config_and_other_layers() {
        let store = MemoryStore::new();
        let plain = image(&store, "a", &["base", "top"]);
        let packed = Packed::from([(plain.image.layers[0].digest().clone(), zstd("packed base"))]);
        let carried = plain.clone().carried(&packed);
        let carrier = carried.carrier.clone().unwrap();
        assert_eq!(carrier.layers, [zstd("packed base"), plain.image.layers[1].clone()]);
        let manifest: ImageManifest = serde_json::from_slice(&carrier.document).unwrap();
        assert_eq!((&manifest.config, &manifest.layers), (&plain.image.config, &carrier.layers));
        assert_eq!(carrier, Carrier::of(&plain.image, &packed), "the same bytes each time");
        assert_eq!(carrier.manifest.digest(), &Digest::sha256(&carrier.document));

        let blobs: Vec<&Digest> = carried.blobs.iter().map(Descriptor::digest).collect();
        let expected =
            [&carrier.layers[0], &carrier.layers[1], &carrier.manifest, &plain.image.config, &plain.root];
        assert_eq!(blobs, expected.map(Descriptor::digest), "its own manifest is the root");
        let kept: Vec<&Digest> = carried.kept().map(Descriptor::digest).collect();
        assert_eq!(kept, [plain.image.config.digest(), plain.root.digest()]);
        assert_eq!(carried.root, plain.root, "names point at the image itself");
    }

    #[test]
    fn before_anything_is_packed_the_images_own_layers_are_asked_for() {
        let store = MemoryStore::new();
        let plain = image(&store, "a", &["base", "top"]);
        let carried = plain.clone().carried(&Packed::new());
        assert_eq!(carried.layers(), plain.image.layers);
        assert_eq!(carried.blobs, plain.blobs, "and no carrier");
    }

    #[test]
    fn what_is_packed_well_needs_no_carrier() {
        let store = MemoryStore::new();
        let mut plain = image(&store, "a", &["base"]);
        plain.image.layers[0] = zstd("base");
        assert_eq!(plain.carried(&Packed::new()).carrier, None);
    }
}

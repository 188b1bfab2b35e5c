//! Small images for tests: built in memory, written as an OCI layout where another tool must read them.

use std::path::Path;
use std::sync::Arc;

use omk::oci::{Descriptor, Digest, Platform, media};
use omk::serve::{Catalog, ServeOptions, Server};
use omk::store::MemoryStore;

/// Bytes that do not compress and differ by seed; the same for the same seed.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}

/// A single-platform image whose layers are these bytes (of no tar: nobody unpacks them).
pub(crate) fn image(store: &MemoryStore, platform: &str, layers: &[&[u8]]) -> Descriptor {
    let platform: Platform = platform.parse().unwrap();
    let diffs: Vec<Digest> = layers.iter().map(|l| Digest::sha256(l)).collect();
    let config = serde_json::json!({
        "architecture": platform.architecture(), "os": platform.os(),
        "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    let config = store.insert(media::OCI_CONFIG, config.to_string());
    let layers: Vec<Descriptor> = layers.iter().map(|l| store.insert(media::OCI_LAYER, l.to_vec())).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
    });
    store.insert(media::OCI_MANIFEST, manifest.to_string()).with_platform(&platform)
}

/// An index of such images.
pub(crate) fn index(store: &MemoryStore, images: &[Descriptor]) -> Descriptor {
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": images});
    store.insert(media::OCI_INDEX, index.to_string())
}

/// Writes an OCI image layout that holds all blobs and one image called `latest`.
pub(crate) fn write_layout(folder: &Path, store: &MemoryStore, root: &Descriptor) {
    std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    for digest in store.digests() {
        std::fs::write(folder.join(digest.layout_path()), store.get(&digest).unwrap()).unwrap();
    }
    let named = root.clone().with_annotations([("org.opencontainers.image.ref.name", "latest")]);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

/// Serves everything in `store` under `lab/web:1`, with `root` as what the tag points to.
pub(crate) async fn serve(store: &MemoryStore, root: &Descriptor, options: ServeOptions) -> Server {
    let catalog = Catalog::new();
    catalog.tag("lab/web", "1", root.clone());
    Server::bind("127.0.0.1:0", Arc::new(store.clone()), catalog, options).await.unwrap()
}

//! Small real images: gzip layers over a shared base, one image for two architectures, a patch release. Their bytes
//! are the same on every run.

use std::io::Write as _;

use serde_json::json;

use crate::oci::{Descriptor, Digest, Platform, media};
use crate::store::MemoryStore;

/// An image that was made.
#[derive(Debug, Clone)]
pub struct MadeImage {
    /// `shop/web`, without a registry.
    pub repository: &'static str,
    /// Its tag.
    pub tag: &'static str,
    /// Its manifest or index.
    pub root: Descriptor,
}

/// The base that all share: large beside the applications, as in life.
const BASE_BYTES: usize = 6_000_000;

/// Makes the first release of everything: `shop/web:1.0`, `shop/api:1.0` and `shop/tools:2`, the last for two
/// architectures.
///
/// # Errors
/// Only if compressing in memory fails.
pub fn first_release(store: &MemoryStore, platform: &Platform) -> std::io::Result<Vec<MadeImage>> {
    let base = Part::new("base", "usr/lib/base.bin", BASE_BYTES);
    let runtime = Part::new("runtime", "usr/lib/runtime.bin", 1_500_000);
    let web = Part::new("web 1.0", "srv/web.bin", 250_000);
    let api = Part::new("api 1.0", "srv/api.bin", 180_000);
    let web = image(store, platform, &[&base, &runtime, &web])?;
    let api = image(store, platform, &[&base, &api])?;
    let tools = tools(store, platform)?;
    Ok(vec![
        MadeImage { repository: "shop/web", tag: "1.0", root: web },
        MadeImage { repository: "shop/api", tag: "1.0", root: api },
        MadeImage { repository: "shop/tools", tag: "2", root: tools },
    ])
}

/// Makes `shop/web:1.1`: a new application layer over what was there.
///
/// # Errors
/// Only if compressing in memory fails.
pub fn patch_release(store: &MemoryStore, platform: &Platform) -> std::io::Result<MadeImage> {
    let base = Part::new("base", "usr/lib/base.bin", BASE_BYTES);
    let runtime = Part::new("runtime", "usr/lib/runtime.bin", 1_500_000);
    let web = Part::new("web 1.1", "srv/web.bin", 252_000);
    let root = image(store, platform, &[&base, &runtime, &web])?;
    Ok(MadeImage { repository: "shop/web", tag: "1.1", root })
}

fn tools(store: &MemoryStore, platform: &Platform) -> std::io::Result<Descriptor> {
    let base = Part::new("base", "usr/lib/base.bin", BASE_BYTES);
    let other = if platform.architecture() == "arm64" { "amd64" } else { "arm64" };
    let other = Platform::new("linux", other, None);
    let mut entries = Vec::new();
    for (platform, name) in [(platform, "tools"), (&other, "tools of the other architecture")] {
        let tools = Part::new(name, "usr/bin/tools.bin", 90_000);
        entries.push(image(store, platform, &[&base, &tools])?.with_platform(platform));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    Ok(store.insert(media::OCI_INDEX, index.to_string()))
}

/// One file of a layer.
struct Part {
    seed: &'static str,
    path: &'static str,
    bytes: usize,
}

impl Part {
    fn new(seed: &'static str, path: &'static str, bytes: usize) -> Self {
        Self { seed, path, bytes }
    }

    /// Half noise, half text: it compresses about as programs do.
    fn content(&self) -> Vec<u8> {
        let mut state =
            self.seed.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |s, b| (s ^ u64::from(b)).rotate_left(9) | 1);
        let mut out = Vec::with_capacity(self.bytes + 64);
        while out.len() < self.bytes {
            // xorshift64 (Marsaglia 2003): good enough to resist compression.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            out.extend_from_slice(&state.to_le_bytes());
            out.extend_from_slice(b"omk demo");
        }
        out.truncate(self.bytes);
        out
    }

    fn tar(&self) -> std::io::Result<Vec<u8>> {
        let content = self.content();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, self.path, content.as_slice())?;
        builder.into_inner()
    }
}

fn image(store: &MemoryStore, platform: &Platform, parts: &[&Part]) -> std::io::Result<Descriptor> {
    let (mut layers, mut diffs, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let tar = part.tar()?;
        diffs.push(Digest::sha256(&tar));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar)?;
        layers.push(store.insert(media::OCI_LAYER_GZIP, gzip.finish()?));
        history.push(json!({"created": "1970-01-01T00:00:00Z", "created_by": part.seed}));
    }
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": platform.architecture(),
        "os": platform.os(),
        "config": {"Cmd": ["/srv/run"]},
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": history,
    });
    let config = store.insert(media::OCI_CONFIG, config.to_string());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers});
    Ok(store.insert(media::OCI_MANIFEST, manifest.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_every_time_and_a_patch_changes_one_layer() {
        let platform = Platform::linux_amd64();
        let (a, b) = (MemoryStore::new(), MemoryStore::new());
        let first = first_release(&a, &platform).unwrap();
        let again = first_release(&b, &platform).unwrap();
        let roots = |made: &[MadeImage]| made.iter().map(|m| m.root.digest().clone()).collect::<Vec<_>>();
        assert_eq!(roots(&first), roots(&again));

        let patch = patch_release(&a, &platform).unwrap();
        let layers =
            |root: &Descriptor| match crate::oci::Manifest::parse(root, &a.get(root.digest()).unwrap())
                .unwrap()
            {
                crate::oci::Manifest::Image(m) => {
                    m.layers.iter().map(|l| l.digest().clone()).collect::<Vec<_>>()
                }
                crate::oci::Manifest::Index(_) => panic!("web is for one platform"),
            };
        let (old, new) = (layers(&first[0].root), layers(&patch.root));
        assert_eq!(old[..2], new[..2]);
        assert_ne!(old[2], new[2]);
    }
}

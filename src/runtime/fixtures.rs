//! Images for tests, built from small layers as real ones are.

use std::collections::BTreeSet;

use crate::graph::{ImageGraph, Step, Walk};
use crate::oci::{Descriptor, Digest, Platform, media};
use crate::store::MemoryStore;

use super::{ImportJob, NodeFacts, RuntimeImage};

/// The import of an image that is alone on its node.
pub(crate) fn job<'a>(
    image: &'a RuntimeImage,
    staged: &'a BTreeSet<Digest>,
    facts: &'a NodeFacts,
) -> ImportJob<'a> {
    ImportJob { staging: "/s/t", image, run: "r1", turn: Some("t1"), staged, facts, at_once: 1 }
}

/// A single-platform image whose layers have these texts as content; returns its manifest.
pub(crate) fn manifest(store: &MemoryStore, arch: &str, layers: &[&str]) -> Descriptor {
    let diffs: Vec<Digest> = layers.iter().map(|l| Digest::sha256(format!("raw {l}").as_bytes())).collect();
    let config = serde_json::json!({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = store.insert(media::OCI_CONFIG, config.to_string());
    let layers: Vec<Descriptor> =
        layers.iter().map(|l| store.insert(media::OCI_LAYER_GZIP, (*l).to_owned())).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    store.insert(media::OCI_MANIFEST, manifest.to_string())
}

/// An index over manifests with their platforms.
pub(crate) fn index(store: &MemoryStore, entries: &[(Descriptor, &str)]) -> Descriptor {
    let entries: Vec<Descriptor> =
        entries.iter().map(|(d, p)| d.clone().with_platform(&p.parse().unwrap())).collect();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
    store.insert(media::OCI_INDEX, index.to_string())
}

/// All that belongs to `root`.
pub(crate) fn graph(store: &MemoryStore, name: &str, root: &Descriptor) -> ImageGraph {
    let mut walk = Walk::new(name.parse().unwrap(), root.clone(), &[]);
    for _ in 0..10 {
        match walk.step().unwrap() {
            Step::Need(need) => {
                need.iter().for_each(|d| walk.give(d.digest(), store.get(d.digest()).unwrap()));
            }
            Step::Done(graph) => return *graph,
        }
    }
    panic!("the walk does not end");
}

/// `name:1` of these layers for linux/amd64.
pub(crate) fn image(store: &MemoryStore, name: &str, layers: &[&str]) -> RuntimeImage {
    let root = manifest(store, "amd64", layers);
    let graph = graph(store, name, &root);
    let names = graph.image.runtime_names(root.digest());
    let image = graph.images[0].clone();
    RuntimeImage { names, root, image, blobs: graph.blobs, carrier: None }
}

/// A node with nothing on it but space.
pub(crate) fn empty_node() -> NodeFacts {
    NodeFacts { runtime: "containerd 1.7".to_owned(), ..NodeFacts::empty(Platform::linux_amd64()) }
}

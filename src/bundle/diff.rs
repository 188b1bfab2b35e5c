//! What is different between two bundles, from their documents alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Bundle;
use crate::oci::{Descriptor, Digest};

/// The way from one bundle to another. Sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BundleDiff {
    /// Images that are not the same in both, by name.
    pub images: Vec<Change>,
    /// Charts, manifests and files that are not the same in both, by kind and name.
    pub artifacts: Vec<Change>,
    /// Images, charts and others that are the same in both.
    pub same: usize,
    /// Blobs that only the second has.
    pub added: Vec<DiffBlob>,
    /// Bytes of them: what a delta carries.
    pub added_bytes: u64,
    /// Blobs that only the first has.
    pub removed: Vec<DiffBlob>,
    /// Bytes of them.
    pub removed_bytes: u64,
    /// Bytes of what both have.
    pub shared_bytes: u64,
}

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Name of an image, or kind and name of something else.
    pub name: String,
    /// In the first bundle, if it is there.
    pub from: Option<Digest>,
    /// In the second, if it is there.
    pub to: Option<Digest>,
    /// Bytes of its blobs that the first bundle does not have at all.
    pub new_bytes: u64,
}

/// A blob that only one of them has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffBlob {
    /// Which.
    pub digest: Digest,
    /// What it is.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
}

/// The way from `from` to `to`.
pub fn diff(from: &Bundle, to: &Bundle) -> BundleDiff {
    let (before, after) = (from.needed(), to.needed());
    let only = |all: &BTreeMap<Digest, Descriptor>, other: &BTreeMap<Digest, Descriptor>| -> Vec<DiffBlob> {
        let blobs = all.values().filter(|b| !other.contains_key(b.digest()));
        let blob = |b: &Descriptor| DiffBlob {
            digest: b.digest().clone(),
            media_type: b.media_type().to_owned(),
            size: b.size(),
        };
        blobs.map(blob).collect()
    };
    let (added, removed) = (only(&after, &before), only(&before, &after));
    let bytes = |blobs: &[DiffBlob]| blobs.iter().map(|b| b.size).sum();
    let (images, same_images) = changes(&images(from), &images(to), &before);
    let (artifacts, same_artifacts) = changes(&artifacts(from), &artifacts(to), &before);
    BundleDiff {
        images,
        artifacts,
        same: same_images + same_artifacts,
        added_bytes: bytes(&added),
        removed_bytes: bytes(&removed),
        shared_bytes: after.values().filter(|b| before.contains_key(b.digest())).map(Descriptor::size).sum(),
        added,
        removed,
    }
}

/// What a name stands for, and its blobs.
type Named<'a> = BTreeMap<String, (&'a Digest, Vec<&'a Descriptor>)>;

/// Tagged names; those of an image that has no other, too.
fn images(bundle: &Bundle) -> Named<'_> {
    let mut all = BTreeMap::new();
    for image in bundle.images() {
        let tagged: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
        let names = if tagged.is_empty() { image.names.iter().collect() } else { tagged };
        for name in names {
            all.insert(name.clone(), (image.graph.root.digest(), image.graph.blobs.iter().collect()));
        }
    }
    all
}

fn artifacts(bundle: &Bundle) -> Named<'_> {
    let name = |a: &super::Artifact| format!("{} {}", a.kind.as_str(), a.name);
    bundle.artifacts().iter().map(|a| (name(a), (a.root.digest(), a.blobs().collect()))).collect()
}

fn changes(from: &Named<'_>, to: &Named<'_>, before: &BTreeMap<Digest, Descriptor>) -> (Vec<Change>, usize) {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let (mut changed, mut same) = (Vec::new(), 0);
    for name in names {
        let (old, new) = (from.get(name), to.get(name));
        if old.map(|o| o.0) == new.map(|n| n.0) {
            same += 1;
            continue;
        }
        let fresh: BTreeMap<&Digest, u64> = new
            .iter()
            .flat_map(|n| &n.1)
            .filter(|b| !before.contains_key(b.digest()))
            .map(|b| (b.digest(), b.size()))
            .collect();
        changed.push(Change {
            name: name.clone(),
            from: old.map(|o| o.0.clone()),
            to: new.map(|n| n.0.clone()),
            new_bytes: fresh.values().sum(),
        });
    }
    (changed, same)
}

//! Delta bundles: what a new release needs beyond what the other side has, whatever the names.
//!
//! A delta has the index and every document of a whole bundle, so that all of it can be looked at; of its layers and files
//! it lacks those that the base has. Which these are stands in `delta.json`, so that nobody takes the gaps for damage. It has no
//! `manifest.json`: other tools could not load it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::build::{BuildError, Upstream, resolve};
use super::error::BundleError;
use super::lock::{Lock, LockError, Pinned};
use super::open::Bundle;
use crate::event::Events;
use crate::oci::{Digest, ImageRef};

/// Its place in the bundle.
pub(super) const DELTA_FILE: &str = "delta.json";
/// Bytes of it: 100,000 blobs have some 10 MB.
pub(super) const MAX_DELTA_BYTES: u64 = 32 << 20;
/// Bytes of a list of what nodes have.
const MAX_NODES_BYTES: u64 = 256 << 20;
const NODES_KIND: &str = "NodeInventory";

/// What a delta bundle leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Of the form: 1.
    pub version: u32,
    /// What it was built against, for people.
    pub base: String,
    /// Blobs that the base has, with their bytes.
    pub absent: BTreeMap<Digest, u64>,
}

impl Delta {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let delta: Self = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if delta.version != 1 {
            return Err(format!("its version is {}, and this omk knows 1", delta.version));
        }
        Ok(delta)
    }

    /// Bytes that were left out.
    pub fn bytes(&self) -> u64 {
        self.absent.values().fold(0, |n, size| n.saturating_add(*size))
    }
}

/// What a delta was built against, as its name tells: [`Base::read`] goes by the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseKind {
    /// A bundle, which has what the delta leaves out.
    Bundle,
    /// A lock: a list of images, which brings no blob itself.
    Lock,
    /// What `omk node inventory` wrote: a list of what nodes have.
    Nodes,
}

impl BaseKind {
    pub(crate) fn of(base: &str) -> Self {
        match base {
            lock if lock.ends_with(".lock") => Self::Lock,
            nodes if nodes.ends_with(".json") => Self::Nodes,
            _ => Self::Bundle,
        }
    }

    /// What to give beside a delta, so that nothing is lacking: the end of a sentence that names the base.
    pub(crate) fn give(base: &str) -> &'static str {
        match Self::of(base) {
            Self::Bundle => "give that too",
            Self::Lock => "give the bundle that was built from it too, or build again without --since",
            Self::Nodes => {
                "give the bundles that those nodes were preheated with too, or build again without --since"
            }
        }
    }

    /// Where there is a whole bundle of what `delta` is one of, for who needs all of it: the end of a sentence.
    pub(crate) fn whole(base: &str, delta: &str) -> String {
        let rebuild = format!(
            "or build it again without --since; {base} only lists what is there, so it cannot be merged"
        );
        match Self::of(base) {
            Self::Bundle => {
                format!("`omk bundle merge {base} {delta} -o WHOLE` makes a whole bundle of both")
            }
            Self::Lock => format!("merge {delta} with the bundle that was built from {base}, {rebuild}"),
            Self::Nodes => format!(
                "merge {delta} with the bundles that those nodes were preheated with, {rebuild}. `omk preheat {delta}` brings it to those \
                 nodes as it is"
            ),
        }
    }
}

/// Digests in a message: a line each, as many as anybody reads there.
pub(super) fn listed<'a>(digests: impl ExactSizeIterator<Item = &'a Digest>) -> String {
    const SHOWN: usize = 20;
    let more = digests.len().saturating_sub(SHOWN);
    let lines: String = digests.take(SHOWN).map(|d| format!("\n  {d}")).collect();
    if more == 0 {
        lines
    } else {
        format!("{lines}\n  and {more} more: `omk bundle inspect DELTA -o json` has them all")
    }
}

/// What the other side has.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// For people: the file that says so.
    pub label: String,
    /// Blobs that are there, and perhaps others.
    pub blobs: BTreeSet<Digest>,
}

/// Why a base is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// It is a bundle that cannot be opened.
    #[error(transparent)]
    Bundle(Box<BundleError>),
    /// It is a lock that cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The images of a lock cannot be looked up.
    #[error("what {} was locked to cannot be looked up: {}", path.display(), failed.join("; "))]
    Gone {
        /// The lock.
        path: PathBuf,
        /// A text for each image.
        failed: Vec<String>,
    },
    /// It is none of the things that a base can be.
    #[error("{} is no base for a delta: {reason}. A base is a bundle, a bundle.lock, or what `omk node inventory` wrote", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Stopped.
    #[error("cancelled")]
    Cancelled,
}

#[derive(Deserialize)]
struct Nodes {
    kind: String,
    nodes: Vec<NodeBlobs>,
}

#[derive(Deserialize)]
struct NodeBlobs {
    name: String,
    blobs: BTreeSet<Digest>,
}

impl Base {
    /// Reads what the other side has: a bundle of any kind, a lock (its images are looked up in `upstream`), or the blobs of
    /// nodes, of which those count that all nodes have.
    ///
    /// # Errors
    /// [`BaseError`].
    pub async fn read(
        path: &Path,
        upstream: &dyn Upstream,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Self, BaseError> {
        match BaseKind::of(&label(path)) {
            BaseKind::Lock if path.is_file() => return Self::of_lock(path, upstream, events, cancel).await,
            BaseKind::Nodes if path.is_file() => return Self::of_nodes(path),
            _ => {}
        }
        let bundle = Bundle::open(path).await.map_err(|e| BaseError::Bundle(Box::new(e)))?;
        Ok(Self::of_bundle(&bundle))
    }

    /// What a bundle brings, and, if it is a delta, what that was built against: who could use it has both.
    pub fn of_bundle(bundle: &Bundle) -> Self {
        let label = bundle.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { label, blobs: bundle.needed().into_keys().collect() }
    }

    async fn of_lock(
        path: &Path,
        upstream: &dyn Upstream,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Self, BaseError> {
        let lock = Lock::read(path)?;
        let images: BTreeSet<&ImageRef> = lock.images.keys().collect();
        let pinned = Pinned { inner: upstream, lock: &lock };
        let (found, failed) =
            resolve(&images, &lock.platforms, &pinned, events, cancel).await.map_err(|e| match e {
                BuildError::Cancelled => BaseError::Cancelled,
                other => BaseError::Gone { path: path.into(), failed: vec![other.to_string()] },
            })?;
        if !failed.is_empty() {
            let failed = failed.into_iter().map(|f| f.reason).collect();
            return Err(BaseError::Gone { path: path.into(), failed });
        }
        let mut blobs: BTreeSet<Digest> =
            found.iter().flat_map(|(_, graph)| &graph.blobs).map(|b| b.digest().clone()).collect();
        for (image, graph) in found.iter().filter(|_| lock.referrers.is_some()) {
            let about = pinned.referrers(graph, events, cancel).await.map_err(|e| BaseError::Gone {
                path: path.into(),
                failed: vec![format!("what refers to {image}: {e}")],
            })?;
            blobs.extend(about.iter().flat_map(|r| &r.graph.blobs).map(|b| b.digest().clone()));
        }
        let files = lock.files.values().map(|f| f.digest.clone());
        let charts = lock.charts.values().map(|c| c.digest.clone());
        Ok(Self { label: label(path), blobs: blobs.into_iter().chain(files).chain(charts).collect() })
    }

    fn of_nodes(path: &Path) -> Result<Self, BaseError> {
        let unknown = |reason: String| BaseError::Unknown { path: path.into(), reason };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|e| unknown(e.to_string()))?;
        file.take(MAX_NODES_BYTES + 1).read_to_string(&mut text).map_err(|e| unknown(e.to_string()))?;
        if text.len() as u64 > MAX_NODES_BYTES {
            return Err(unknown(format!("it is larger than {MAX_NODES_BYTES} bytes")));
        }
        let nodes: Nodes = serde_json::from_str(&text).map_err(|e| unknown(e.to_string()))?;
        if nodes.kind != NODES_KIND {
            return Err(unknown(format!("its kind is {:?}, not {NODES_KIND}", nodes.kind)));
        }
        if let Some(none) = nodes.nodes.iter().find(|n| n.blobs.is_empty()) {
            return Err(unknown(format!("node {} has nothing, so a delta would save nothing", none.name)));
        }
        let all = nodes.nodes.into_iter().map(|n| n.blobs);
        let common = all.reduce(|a, b| a.intersection(&b).cloned().collect());
        let blobs = common.ok_or_else(|| unknown("it has no nodes".into()))?;
        Ok(Self { label: label(path), blobs })
    }
}

fn label(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bundle_can_be_merged_with() {
        insta::assert_snapshot!(BaseKind::whole("v1.tar", "d.tar"), @"`omk bundle merge v1.tar d.tar -o WHOLE` makes a whole bundle of both");
        insta::assert_snapshot!(BaseKind::whole("bundle.lock", "d.tar"), @"merge d.tar with the bundle that was built from bundle.lock, or build it again without --since; bundle.lock only lists what is there, so it cannot be merged");
        insta::assert_snapshot!(BaseKind::whole("nodes.json", "d.tar"), @"merge d.tar with the bundles that those nodes were preheated with, or build it again without --since; nodes.json only lists what is there, so it cannot be merged. `omk preheat d.tar` brings it to those nodes as it is");
        for (base, kind) in [
            ("v1.tar", BaseKind::Bundle),
            ("lock", BaseKind::Bundle),
            ("a.lock", BaseKind::Lock),
            ("a.json", BaseKind::Nodes),
        ] {
            assert_eq!(BaseKind::of(base), kind, "{base}");
            assert_eq!(BaseKind::give(base) == "give that too", kind == BaseKind::Bundle, "{base}");
        }
    }

    #[test]
    fn what_all_nodes_have_is_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes.json");
        let (a, b, c) = (Digest::sha256(b"a"), Digest::sha256(b"b"), Digest::sha256(b"c"));
        let write = |nodes: serde_json::Value| {
            let text = serde_json::json!({"apiVersion": "omk/v1", "kind": "NodeInventory", "nodes": nodes});
            std::fs::write(&path, text.to_string()).unwrap();
            Base::of_nodes(&path)
        };
        let base =
            write(serde_json::json!([{"name": "n1", "blobs": [a, b]}, {"name": "n2", "blobs": [b, c]}]))
                .unwrap();
        assert_eq!(base.blobs, BTreeSet::from([b]));
        assert!(write(serde_json::json!([])).unwrap_err().to_string().contains("it has no nodes"));
        let bare = write(serde_json::json!([{"name": "n1", "blobs": []}])).unwrap_err().to_string();
        assert!(bare.contains("node n1 has nothing"), "{bare}");
        std::fs::write(&path, "{}").unwrap();
        assert!(Base::of_nodes(&path).unwrap_err().to_string().contains("is no base for a delta"));
    }
}

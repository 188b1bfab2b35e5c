//! One whole bundle from several: from a delta and its base, or from bundles that are wanted as one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::artifact::{Content, PackedArtifact};
use super::build::{BuildError, BuildReport, BuildRequest, Form, Upstream, build};
use super::delta::{BaseKind, listed};
use super::referrers::{Referred, about};
use super::{Bundle, BundleImage};
use crate::event::Events;
use crate::graph::ImageGraph;
use crate::oci::{Descriptor, Digest, ImageRef, Platform};
use crate::registry::Referrer;
use crate::store::{BlobSource, ByteStream, StoreError};

/// Why bundles cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// None of them has it.
    #[error(
        "{} of {total} blobs ({}) are in none of the bundles; {} was built against {base}: {}. It lacks{}",
        missing.len(), crate::units::bytes(*bytes), delta.display(), BaseKind::give(base), listed(missing.iter())
    )]
    Missing {
        /// The delta that lacks them.
        delta: PathBuf,
        /// What it was built against.
        base: String,
        /// Which.
        missing: Vec<Digest>,
        /// Bytes of them.
        bytes: u64,
        /// Blobs that are needed in all.
        total: usize,
    },
    /// They are for different platforms.
    #[error("{} is for {first}, {} for {second}: bundles of one platform can be merged", paths.0.display(), paths.1.display())]
    Platforms {
        /// Two of them.
        paths: Box<(PathBuf, PathBuf)>,
        /// Of the first.
        first: String,
        /// Of the second.
        second: String,
    },
    /// Building failed.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// What is merged and to where.
#[derive(Debug)]
pub struct MergeRequest {
    /// The bundles. With deltas among them, the result has what the deltas have; else what any of them has.
    pub bundles: Vec<Bundle>,
    /// The file or folder to write.
    pub output: PathBuf,
    /// File or folder.
    pub form: Form,
    /// Blobs copied at once.
    pub parallel: usize,
}

/// Builds one whole bundle. From a delta and its base come the bytes that building without a base gives.
///
/// # Errors
/// When blobs are missing, before anything is written; when one name stands for two images.
pub async fn merge(
    request: MergeRequest,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<BuildReport, MergeError> {
    let MergeRequest { bundles, output, form, parallel } = request;
    let any_delta = bundles.iter().any(|b| b.delta().is_some());
    let wanted: Vec<&Bundle> = bundles.iter().filter(|b| !any_delta || b.delta().is_some()).collect();
    let platforms = platforms(&wanted)?;
    let all = Everything { bundles: Arc::new(bundles.clone()) };
    let needed: BTreeMap<Digest, Descriptor> = wanted.iter().flat_map(|b| b.needed()).collect();
    let (mut missing, mut bytes) = (Vec::new(), 0);
    for (digest, blob) in &needed {
        if all.size(digest).await.map_err(BuildError::Begin)? != Some(blob.size()) {
            missing.push(digest.clone());
            bytes += blob.size();
        }
    }
    if let Some(delta) = wanted.iter().find(|b| b.delta().is_some()).filter(|_| !missing.is_empty()) {
        let base = delta.delta().map(|d| d.base.clone()).unwrap_or_default();
        let (delta, total) = (delta.path().to_owned(), needed.len());
        return Err(MergeError::Missing { delta, base, missing, bytes, total });
    }
    let (mut images, mut groups) = (BTreeSet::new(), BTreeMap::new());
    for image in wanted.iter().flat_map(|b| b.images()) {
        for name in names(image) {
            if !image.groups.is_empty() {
                groups.insert(name.clone(), image.groups.clone());
            }
            images.insert(name);
        }
    }
    let source: Arc<dyn BlobSource> = Arc::new(all.clone());
    let packed = |artifact: &super::Artifact| PackedArtifact {
        artifact: artifact.clone(),
        contents: artifact
            .files
            .iter()
            .map(|f| (f.blob.clone(), Content::Source(f.blob.clone(), Arc::clone(&source))))
            .collect(),
    };
    let build_request = BuildRequest {
        images: images.into_iter().collect(),
        optional: Vec::new(),
        platforms,
        output,
        form,
        parallel,
        groups,
        artifacts: wanted.iter().flat_map(|b| b.artifacts()).map(packed).collect(),
        base: None,
    };
    let upstream = Images { all, wanted: wanted.into_iter().cloned().collect() };
    Ok(build(&build_request, &upstream, events, cancel).await?)
}

fn platforms(bundles: &[&Bundle]) -> Result<Vec<Platform>, MergeError> {
    let text = |b: &Bundle| b.platforms().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some((first, rest)) = bundles.split_first() else { return Ok(Vec::new()) };
    if let Some(other) = rest.iter().find(|b| b.platforms() != first.platforms()) {
        let paths = Box::new((first.path().to_owned(), other.path().to_owned()));
        return Err(MergeError::Platforms { paths, first: text(first), second: text(other) });
    }
    Ok(first.platforms().to_vec())
}

/// The names under which an image is asked for again: tagged ones, or that by digest if it has no other.
fn names(image: &BundleImage) -> Vec<ImageRef> {
    let tagged: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
    let names = if tagged.is_empty() { image.names.iter().collect() } else { tagged };
    names.into_iter().filter_map(|n| n.parse().ok()).collect()
}

/// The images of some bundles, with blobs from all of them.
struct Images {
    all: Everything,
    wanted: Vec<Bundle>,
}

#[async_trait]
impl Upstream for Images {
    async fn graph(
        &self,
        image: &ImageRef,
        _: &[Platform],
        _: &Events,
        _: &CancellationToken,
    ) -> Result<ImageGraph, Box<dyn std::error::Error + Send + Sync>> {
        let mut found: Option<&BundleImage> = None;
        for one in self.wanted.iter().flat_map(Bundle::images).filter(|i| names(i).contains(image)) {
            match found {
                Some(first) if first.graph.root.digest() != one.graph.root.digest() => {
                    return Err(Box::new(BuildError::Conflict {
                        name: image.to_string(),
                        first: first.graph.root.digest().clone(),
                        second: one.graph.root.digest().clone(),
                    }));
                }
                _ => found = Some(one),
            }
        }
        match found {
            Some(one) => Ok(ImageGraph { image: image.clone(), ..one.graph.clone() }),
            None => Err(format!("{image} is in none of the bundles").into()),
        }
    }

    fn blobs(&self, _: &ImageRef, _: &Events) -> Arc<dyn BlobSource> {
        Arc::new(self.all.clone())
    }

    /// What the bundles have: nobody is asked.
    async fn referrers(
        &self,
        of: &ImageGraph,
        _: &Events,
        _: &CancellationToken,
    ) -> Result<Vec<Referrer>, Box<dyn std::error::Error + Send + Sync>> {
        let found = about(
            of.blobs.iter().map(Descriptor::digest),
            self.wanted.iter().flat_map(Bundle::referrers),
            Referred::parts,
        );
        Ok(found
            .into_iter()
            .map(|r| Referrer { subject: r.subject.clone(), graph: r.graph.clone() })
            .collect())
    }
}

/// Every blob of every bundle.
#[derive(Clone)]
struct Everything {
    bundles: Arc<Vec<Bundle>>,
}

#[async_trait]
impl BlobSource for Everything {
    fn label(&self) -> String {
        let names: Vec<String> = self.bundles.iter().map(BlobSource::label).collect();
        names.join(", ")
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        for bundle in self.bundles.iter() {
            if let Some(size) = bundle.size(digest).await? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        for bundle in self.bundles.iter() {
            if bundle.size(blob.digest()).await? == Some(blob.size()) {
                return bundle.read(blob, range).await;
            }
        }
        Err(StoreError::NotFound { digest: blob.digest().clone(), store: self.label() })
    }
}

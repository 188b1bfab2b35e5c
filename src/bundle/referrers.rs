//! Signatures, attestations and SBOMs in a bundle: entries of the index without any of the names by which runtimes find
//! images, so that these leave them alone.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::build::{BuildError, RESOLVE_PARALLEL, Upstream};
use super::{Bundle, BundleError, BundleImage, Index};
use crate::event::Events;
use crate::graph::ImageGraph;
use crate::oci::{Descriptor, Digest, ImageRef};
use crate::registry::Referrer;

/// The name under which a registry has it: a tag, or its digest.
const NAME: &str = "omk.bundle.referrer";
/// The manifest that it is about.
const SUBJECT: &str = "omk.bundle.subject";

/// Something that refers to an image, and what it is about.
#[derive(Debug, Clone)]
pub struct Referred {
    /// The manifest or index that it is about.
    pub subject: Digest,
    /// The name under which a registry has it: a tag, or its digest.
    pub name: ImageRef,
    /// All that belongs to it.
    pub graph: ImageGraph,
}

impl Referred {
    /// What it is about, and all that belongs to it.
    pub(super) fn parts(&self) -> (&Digest, &[Descriptor]) {
        (&self.subject, &self.graph.blobs)
    }

    fn of(found: Referrer) -> Self {
        let (image, root) = (&found.graph.image, found.graph.root.digest());
        let name = if image.tag().is_some() { image.clone() } else { image.at(root.clone()) };
        Self { subject: found.subject, name, graph: found.graph }
    }

    /// Whether an entry of the index is one.
    pub(super) fn is(entry: &Descriptor) -> bool {
        entry.annotations().contains_key(NAME)
    }

    pub(super) fn entry(&self) -> Descriptor {
        let root = &self.graph.root;
        let plain = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
        plain.with_annotations([(NAME, self.name.to_string()), (SUBJECT, self.subject.to_string())])
    }

    /// For what is the same as with images: which blobs there are, and where from.
    pub(super) fn image(&self) -> BundleImage {
        let names = vec![self.name.to_string()];
        BundleImage { names, groups: Default::default(), graph: self.graph.clone() }
    }
}

/// All that refers to the images, each once and sorted by name.
pub(super) async fn referred(
    images: &[BundleImage],
    upstream: &dyn Upstream,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Vec<Referred>, BuildError> {
    let graphs: Vec<ImageGraph> = images.iter().map(|i| i.graph.clone()).collect();
    let one = |graph: ImageGraph| async move {
        let found = upstream.referrers(&graph, events, cancel).await;
        (graph.image, found)
    };
    let asked: Vec<_> = stream::iter(graphs).map(one).buffer_unordered(RESOLVE_PARALLEL).collect().await;
    if cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    let (mut all, mut failed) = (BTreeMap::new(), Vec::new());
    for (image, found) in asked {
        match found {
            Ok(found) => all.extend(found.into_iter().map(Referred::of).map(|r| (r.name.clone(), r))),
            Err(error) => failed.push(format!("what refers to {image}: {error}")),
        }
    }
    if !failed.is_empty() {
        failed.sort();
        return Err(BuildError::Images { failed, asked: images.len() });
    }
    Ok(all.into_values().collect())
}

/// Those of `all` that are about one of `subjects`, or about one of those. `of` gives what one is about, and its blobs.
pub(crate) fn about<'a, T>(
    subjects: impl IntoIterator<Item = &'a Digest>,
    all: impl IntoIterator<Item = &'a T>,
    of: impl Fn(&'a T) -> (&'a Digest, &'a [Descriptor]),
) -> Vec<&'a T> {
    let mut subjects: BTreeSet<&Digest> = subjects.into_iter().collect();
    let mut left: Vec<&T> = all.into_iter().collect();
    let mut found = Vec::new();
    loop {
        // A signature of an SBOM is found once the SBOM is.
        let (now, later): (Vec<_>, Vec<_>) = left.into_iter().partition(|r| subjects.contains(of(r).0));
        if now.is_empty() {
            return found;
        }
        subjects.extend(now.iter().flat_map(|r| of(r).1).map(Descriptor::digest));
        found.extend(now);
        left = later;
    }
}

/// Those of a bundle.
pub(super) async fn read(bundle: &Bundle, index: &Index) -> Result<Vec<Referred>, BundleError> {
    let (mut all, mut read) = (Vec::new(), BTreeMap::new());
    for entry in index.manifests.iter().filter(|e| Referred::is(e)) {
        let text = |key: &str| entry.annotations().get(key).map(String::as_str).unwrap_or_default();
        let wrong = |e: String| bundle.not_bundle(format!("index.json: {}: {e}", entry.digest()));
        let name: ImageRef = text(NAME).parse().map_err(|e| wrong(format!("{e}")))?;
        let subject: Digest = text(SUBJECT).parse().map_err(|e| wrong(format!("{e}")))?;
        if name.digest().is_some_and(|d| d != entry.digest()) {
            return Err(wrong(format!("the name {name} is of something else")));
        }
        let root = Descriptor::new(entry.media_type(), entry.digest().clone(), entry.size());
        // For no platform, and all of it there.
        let graph = bundle.graph(name.clone(), root, Some(&[]), None, &mut read).await?;
        all.push(Referred { subject, name, graph });
    }
    Ok(all)
}

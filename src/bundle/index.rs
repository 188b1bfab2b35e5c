//! `index.json` and `manifest.json` of a bundle: pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Artifact, BundleImage, Referred};
use crate::oci::{Descriptor, Platform, media};

/// The file that makes a folder an image layout, and its only content (image-spec, "oci-layout file").
pub const LAYOUT_FILE: &str = "oci-layout";
/// Its bytes.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The entry point of an image layout.
pub const INDEX_FILE: &str = "index.json";
/// The entry point of what `docker save` writes, for `docker load` and `podman load`.
pub(super) const DOCKER_FILE: &str = "manifest.json";

/// The name that `ctr images import` gives an image, verbatim.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The name by which `skopeo` finds an image in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Which version of this form the bundle has; on the index.
pub(super) const VERSION: &str = "omk.bundle.version";
/// The platforms that were taken, separated by commas, none for all that an image has; on the index.
pub(super) const PLATFORMS: &str = "omk.bundle.platforms";

/// Groups of nodes that need an image, separated by commas; on its entries.
pub(super) const GROUPS: &str = "omk.bundle.groups";
/// What an entry is that is no image; see [`super::ArtifactKind`].
pub(super) const ARTIFACT_KIND: &str = "omk.bundle.artifact";
/// What people call it.
pub(super) const ARTIFACT_NAME: &str = "omk.bundle.artifact.name";

/// `index.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// One entry a name.
    pub manifests: Vec<Descriptor>,
    /// What the bundle says of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// One entry for every name of every image, sorted by name. CRI finds `repository@digest` only if that is a
    /// name of its own, so both are listed.
    ///
    /// Artifacts come after the images. They have none of the names by which runtimes find images, so that these leave
    /// them alone.
    pub fn new(images: &[BundleImage], artifacts: &[Artifact], platforms: &[Platform]) -> Self {
        let entry = |image: &BundleImage, name: &String| {
            let groups: Vec<&str> = image.groups.iter().map(String::as_str).collect();
            let groups = groups.join(",");
            let mut annotations = vec![(CONTAINERD_NAME, name.as_str()), (REF_NAME, name.as_str())];
            if !groups.is_empty() {
                annotations.push((GROUPS, groups.as_str()));
            }
            (name.clone(), image.graph.root.clone().with_annotations(annotations))
        };
        let mut manifests: Vec<(String, Descriptor)> =
            images.iter().flat_map(|i| i.names.iter().map(move |n| entry(i, n))).collect();
        manifests.sort_by(|a, b| a.0.cmp(&b.0));
        manifests.dedup_by(|a, b| a.0 == b.0);
        let mut further: Vec<&Artifact> = artifacts.iter().collect();
        further.sort_by_key(|a| (a.kind, &a.name, a.root.digest()));
        further.dedup_by_key(|a| (a.kind, &a.name, a.root.digest()));
        let taken: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let annotations =
            BTreeMap::from([(VERSION.to_owned(), "1".to_owned()), (PLATFORMS.to_owned(), taken.join(","))]);
        Self {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.to_owned()),
            manifests: manifests
                .into_iter()
                .map(|(_, d)| d)
                .chain(further.into_iter().map(Artifact::entry))
                .collect(),
            annotations,
        }
    }

    /// Adds what refers to the images, behind all else.
    pub(super) fn with_referrers(mut self, all: &[Referred]) -> Self {
        self.manifests.extend(all.iter().map(Referred::entry));
        self
    }

    /// The name that containerd gives the image, verbatim.
    pub fn containerd_name(entry: &Descriptor) -> Option<&str> {
        entry.annotations().get(CONTAINERD_NAME).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// The name that the image specification knows: a whole reference, or a tag.
    pub fn ref_name(entry: &Descriptor) -> Option<&str> {
        entry.annotations().get(REF_NAME).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// The groups of nodes that need the image of an entry; empty: every node.
    pub fn groups(entry: &Descriptor) -> BTreeSet<String> {
        let text = entry.annotations().get(GROUPS).map(String::as_str).unwrap_or_default();
        text.split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect()
    }

    /// The platforms that the bundle was built for; `None` for a layout of another tool.
    pub fn platforms(&self) -> Option<Vec<Platform>> {
        let text = self.annotations.get(PLATFORMS)?;
        text.split(',').filter(|p| !p.is_empty()).map(|p| p.parse().ok()).collect()
    }
}

/// As omk writes it: read back, it tells omk's own archives from others, so nothing else may be in it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl DockerEntry {
    /// The entries that it names.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// `manifest.json`: what `docker load` before version 25 and `podman load` of several images read. It knows one
/// platform an image: the first that was taken.
///
/// # Errors
/// Never for valid images; the error is serde's.
pub(super) fn docker_manifest(images: &[BundleImage]) -> Result<Vec<u8>, serde_json::Error> {
    let entry = |image: &BundleImage| {
        let first = image.graph.images.iter().find(|i| i.platform.is_some())?;
        let tagged = image.names.iter().filter(|n| !n.contains('@')).cloned().collect();
        Some(DockerEntry {
            config: first.config.digest().layout_path(),
            repo_tags: tagged,
            layers: first.layers.iter().map(|l| l.digest().layout_path()).collect(),
        })
    };
    let mut all: Vec<DockerEntry> = images.iter().filter_map(entry).collect();
    all.sort_by(|a, b| (&a.repo_tags, &a.config).cmp(&(&b.repo_tags, &b.config)));
    serde_json::to_vec(&all)
}

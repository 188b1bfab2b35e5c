//! What rides in a bundle beside images: charts, manifests, files. Each is an OCI artifact like any other, so that it is
//! verified, shared, left out of a delta, and pushed to a registry by the same rules as images.
//!
//! A chart is laid down as `helm push` does; everything else as `oras push` does: a layer a file, with its path in
//! `org.opencontainers.image.title`. None has a name that a container runtime would take for an image's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::index::{ARTIFACT_KIND, ARTIFACT_NAME, Index};
use crate::oci::{Descriptor, Digest, ImageManifest, MAX_MANIFEST_BYTES, Manifest, ManifestError, media};
use crate::store::{BlobSource, StoreError, read_verified};

/// The path of a file of an artifact (image-spec, "Pre-Defined Annotation Keys").
const TITLE: &str = "org.opencontainers.image.title";
/// On a layer: the file is to be run.
const EXECUTABLE: &str = "omk.file.executable";
const CHART_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// The config of an artifact that has none (image-spec 1.1, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ArtifactKind {
    /// A Helm chart, for `helm install`.
    Chart,
    /// Manifests for `kubectl apply`, and the values of a release.
    Manifests,
    /// Other files.
    Files,
    /// The definition and the lock that the bundle was built from.
    Definition,
}

impl ArtifactKind {
    /// As in the index.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chart => "chart",
            Self::Manifests => "manifests",
            Self::Files => "files",
            Self::Definition => "definition",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Chart, Self::Manifests, Self::Files, Self::Definition].into_iter().find(|k| k.as_str() == text)
    }
}

/// Something in a bundle that is no image.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// What people call it: `web:1.2.3`, `factory-7`.
    pub name: String,
    /// Its manifest.
    pub root: Descriptor,
    /// Its config.
    pub config: Descriptor,
    /// Its files.
    pub files: Vec<ArtifactFile>,
    /// Bytes of the manifest and the config.
    pub documents: BTreeMap<Digest, Bytes>,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    /// Where it is extracted to, relative and without `..`: checked when it is read.
    pub path: String,
    /// Its bytes.
    pub blob: Descriptor,
    /// Whether it is to be run.
    pub executable: bool,
}

/// Where the bytes of a file are until the bundle has them.
#[derive(Clone)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In a file, of this digest and size when it was looked at.
    File(PathBuf, Digest, u64),
    /// A blob of another bundle.
    Source(Descriptor, Arc<dyn BlobSource>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path, ..) => path.fmt(f),
            Self::Source(blob, source) => write!(f, "{} of {}", blob.digest(), source.label()),
        }
    }
}

impl Content {
    fn descriptor(&self, media_type: &str) -> Descriptor {
        match self {
            Self::Bytes(bytes) => Descriptor::of(media_type, bytes),
            Self::File(_, digest, size) => Descriptor::new(media_type, digest.clone(), *size),
            Self::Source(blob, _) => Descriptor::new(media_type, blob.digest().clone(), blob.size()),
        }
    }
}

/// An artifact and what it is made of.
#[derive(Debug, Clone)]
pub struct PackedArtifact {
    /// It.
    pub artifact: Artifact,
    /// The bytes of its files.
    pub contents: Vec<(Descriptor, Content)>,
}

/// A file to put into an artifact: path, content, whether it is to be run.
pub(super) type NewFile = (String, Content, bool);

impl PackedArtifact {
    /// A chart as `helm push` lays it down.
    pub fn chart(name: &str, version: &str, archive: Bytes) -> Self {
        let config = serde_json::json!({"name": name, "version": version, "apiVersion": "v2"});
        let config = Bytes::from(config.to_string());
        let file = (format!("charts/{name}-{version}.tgz"), Content::Bytes(archive), false);
        Self::pack(
            ArtifactKind::Chart,
            &format!("{name}:{version}"),
            (CHART_CONFIG, config),
            CHART_LAYER,
            vec![file],
        )
    }

    /// Files (path, content, whether it is to be run) as `oras push` lays them down.
    pub fn files(kind: ArtifactKind, name: &str, files: Vec<(String, Content, bool)>) -> Self {
        let layer = if kind == ArtifactKind::Files { "application/octet-stream" } else { "application/yaml" };
        Self::pack(kind, name, (EMPTY, Bytes::from_static(b"{}")), layer, files)
    }

    fn pack(
        kind: ArtifactKind,
        name: &str,
        (config_type, config_bytes): (&str, Bytes),
        layer_type: &str,
        mut files: Vec<NewFile>,
    ) -> Self {
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let config = Descriptor::of(config_type, &config_bytes);
        let (mut entries, mut contents) = (Vec::new(), Vec::new());
        for (path, content, executable) in files {
            let blob = content.descriptor(layer_type);
            contents.push((blob.clone(), content));
            entries.push(ArtifactFile { path, blob, executable });
        }
        let layer = |file: &ArtifactFile| {
            let mut annotations = BTreeMap::from([(TITLE, file.path.as_str())]);
            if file.executable {
                annotations.insert(EXECUTABLE, "true");
            }
            serde_json::json!({
                "mediaType": layer_type, "digest": file.blob.digest().to_string(), "size": file.blob.size(),
                "annotations": annotations,
            })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "artifactType": format!("application/vnd.omk.{}.v1", kind.as_str()),
            "config": {"mediaType": config_type, "digest": config.digest().to_string(), "size": config.size()},
            "layers": entries.iter().map(layer).collect::<Vec<_>>(),
        });
        let manifest = Bytes::from(manifest.to_string());
        let root = Descriptor::of(media::OCI_MANIFEST, &manifest);
        let documents =
            BTreeMap::from([(root.digest().clone(), manifest), (config.digest().clone(), config_bytes)]);
        Self {
            artifact: Artifact { kind, name: name.to_owned(), root, config, files: entries, documents },
            contents,
        }
    }
}

/// Why an entry of an index is no artifact that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Its manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its manifest or config cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It says what omk does not do.
    #[error("artifact {digest} is {reason}")]
    Unusable {
        /// Of its manifest.
        digest: Digest,
        /// What it is.
        reason: String,
    },
}

/// Reads the artifacts that an index names. Their documents are held, their files are not.
///
/// # Errors
/// The first that cannot be used. One of a kind that is not known is left alone: a newer omk may have put it there.
pub(super) async fn read_artifacts(
    source: &dyn BlobSource,
    index: &Index,
) -> Result<Vec<Artifact>, ArtifactError> {
    let mut all = Vec::new();
    for entry in &index.manifests {
        let Some((Some(kind), name)) = Artifact::named(entry) else { continue };
        let bytes = read_verified(source, entry, MAX_MANIFEST_BYTES).await?;
        let manifest = Artifact::manifest(entry, &bytes)?;
        let config = read_verified(source, &manifest.config, MAX_MANIFEST_BYTES).await?;
        let documents =
            BTreeMap::from([(entry.digest().clone(), bytes), (manifest.config.digest().clone(), config)]);
        all.push(Artifact::read(kind, name, entry, manifest, documents)?);
    }
    Ok(all)
}

impl Artifact {
    /// The kind and name that an index entry gives; `None` for an image.
    pub(super) fn named(entry: &Descriptor) -> Option<(Option<ArtifactKind>, String)> {
        let kind = entry.annotations().get(ARTIFACT_KIND)?;
        let name = entry.annotations().get(ARTIFACT_NAME).cloned().unwrap_or_default();
        Some((ArtifactKind::parse(kind), name))
    }

    /// The manifest's config, which is to be read before [`Artifact::read`].
    fn manifest(root: &Descriptor, bytes: &[u8]) -> Result<ImageManifest, ArtifactError> {
        match Manifest::parse(root, bytes)? {
            Manifest::Image(manifest) => Ok(*manifest),
            Manifest::Index(_) => {
                Err(ArtifactError::Unusable { digest: root.digest().clone(), reason: "an index".into() })
            }
        }
    }

    /// From its verified documents.
    fn read(
        kind: ArtifactKind,
        name: String,
        root: &Descriptor,
        manifest: ImageManifest,
        documents: BTreeMap<Digest, Bytes>,
    ) -> Result<Self, ArtifactError> {
        let unusable = |reason: String| ArtifactError::Unusable { digest: root.digest().clone(), reason };
        let mut files = Vec::new();
        for layer in manifest.layers {
            let path = match layer.annotations().get(TITLE) {
                Some(path) => path.clone(),
                // What `helm push` made has one layer that counts, without a title.
                None if layer.media_type() == CHART_LAYER => {
                    format!("charts/{}.tgz", name.replace([':', '/'], "-"))
                }
                None => continue,
            };
            if !is_plain(&path) {
                return Err(unusable(format!("refused: its file {path:?} would be written elsewhere")));
            }
            let executable = layer.annotations().get(EXECUTABLE).is_some_and(|v| v == "true");
            let blob = Descriptor::new(layer.media_type(), layer.digest().clone(), layer.size());
            files.push(ArtifactFile { path, blob, executable });
        }
        let plain = |d: &Descriptor| Descriptor::new(d.media_type(), d.digest().clone(), d.size());
        Ok(Self { kind, name, root: plain(root), config: plain(&manifest.config), files, documents })
    }

    /// Every blob, the manifest last.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.files.iter().map(|f| &f.blob).chain([&self.config, &self.root])
    }

    /// Bytes of all blobs.
    pub fn size(&self) -> u64 {
        self.blobs().map(Descriptor::size).fold(0, u64::saturating_add)
    }

    /// Its entry in an index.
    pub(super) fn entry(&self) -> Descriptor {
        self.root
            .clone()
            .with_annotations([(ARTIFACT_KIND, self.kind.as_str()), (ARTIFACT_NAME, self.name.as_str())])
    }
}

/// Relative, and within the folder that it is extracted to.
fn is_plain(path: &str) -> bool {
    use std::path::{Component, Path};
    !path.is_empty()
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_read_back() {
        let content = || Content::Bytes(Bytes::from_static(b"#!/bin/sh\n"));
        let files = vec![("files/b".into(), content(), true), ("files/a".into(), content(), false)];
        let packed = PackedArtifact::files(ArtifactKind::Files, "lab", files.clone());
        assert_eq!(
            packed.artifact.root,
            PackedArtifact::files(ArtifactKind::Files, "lab", files).artifact.root
        );
        let entry = packed.artifact.entry();
        assert_eq!(Artifact::named(&entry), Some((Some(ArtifactKind::Files), "lab".to_owned())));
        let bytes = &packed.artifact.documents[entry.digest()];
        let manifest = Artifact::manifest(&entry, bytes).unwrap();
        let read =
            Artifact::read(ArtifactKind::Files, "lab".into(), &entry, manifest, BTreeMap::new()).unwrap();
        assert_eq!(read.files, packed.artifact.files);
        assert_eq!((read.files[0].path.as_str(), read.files[1].executable), ("files/a", true));
        let chart = PackedArtifact::chart("web", "1.0.0", Bytes::from_static(b"x")).artifact;
        assert_eq!(
            (chart.name.as_str(), chart.files[0].path.as_str()),
            ("web:1.0.0", "charts/web-1.0.0.tgz")
        );
    }

    #[test]
    fn files_that_lead_elsewhere_are_refused() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "a\\b", "a\nb"] {
            let file = (path.to_owned(), Content::Bytes(Bytes::new()), false);
            let packed = PackedArtifact::files(ArtifactKind::Files, "x", vec![file]).artifact;
            let manifest = Artifact::manifest(&packed.root, &packed.documents[packed.root.digest()]).unwrap();
            let read =
                Artifact::read(ArtifactKind::Files, "x".into(), &packed.root, manifest, BTreeMap::new());
            assert!(read.is_err(), "{path}");
        }
    }
}

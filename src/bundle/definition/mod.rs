//! `bundle.yaml`: what a bundle is made of, so that building it needs no more than that file.
//!
//! ```yaml
//! apiVersion: omk/v1
//! kind: Bundle
//! metadata: {name: factory-7}
//! spec:
//!   platforms: [linux/amd64]
//!   images: [nginx:1.27, {image: busybox:1.36, groups: [edge]}]
//!   charts:
//!     - {name: web, chart: ./charts/web, namespace: shop, valuesFiles: [prod.yaml], values: {replicas: 3}}
//!     - {name: db, chart: postgresql, repo: https://charts.example.com, version: ^15}
//!   manifests: [deploy/]
//!   kustomizations: [overlays/prod]
//!   components: [cilium@1.18, {component: kubeadm@1.33, groups: [control-plane]}]
//!   files:
//!     - {path: install.sh, executable: true}
//!     - {url: https://dl.example.com/k3s, sha256: 0f2c…, as: bin/k3s, executable: true}
//! ```
//!
//! Paths are relative to the folder of the definition. What has `groups` is only for the nodes of these groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use crate::chart::KubeVersion;
use crate::discover::{Confidence, Exclusion};
use crate::oci::{ImageRef, Platform};
use crate::yaml::{self, Limits, Node};

mod download;
mod gather;

pub use download::{DownloadError, download};
pub use gather::{GatherError, Gathered, gather, origin};

/// Bytes of a definition.
const MAX_BYTES: u64 = 4 << 20;
const API_VERSION: &str = "omk/v1";
const KIND: &str = "Bundle";

/// Why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The file system said no.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not say what it should.
    #[error("{}{}: {}{reason}", path.display(), line.map_or(String::new(), |l| format!(":{l}")), if field.is_empty() { String::new() } else { format!("{field}: ") })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: Option<u32>,
        /// Such as `spec.charts[0].version`; empty for the whole.
        field: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
}

/// A definition that was read and checked.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its bytes, which ride in the bundle.
    pub text: String,
    /// Name of the bundle.
    pub name: String,
    /// What it is made of.
    pub spec: Spec,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: serde::de::IgnoredAny,
    #[serde(rename = "kind")]
    _kind: serde::de::IgnoredAny,
    metadata: Metadata,
    spec: Spec,
}

#[derive(serde::Deserialize)]
struct Metadata {
    name: String,
}

/// What a bundle is made of.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Spec {
    /// Which to take of each image; empty: `linux/amd64`. `all` stands alone.
    platforms: Vec<String>,
    /// Images by name.
    pub images: Vec<Short<ImageEntry>>,
    /// Charts with their values.
    pub charts: Vec<ChartEntry>,
    /// Manifests: files and folders.
    pub manifests: Vec<Short<PathEntry>>,
    /// Kustomizations: folders.
    pub kustomizations: Vec<Short<PathEntry>>,
    /// Components of the catalogue, `cilium@1.18`.
    pub components: Vec<Short<ComponentEntry>>,
    /// Other files that ride along.
    pub files: Vec<FileEntry>,
    /// Whether what refers to the images rides along: signatures, attestations, SBOMs.
    pub referrers: bool,
    /// Images to leave out, see [`Exclusion`].
    #[serde(deserialize_with = "parsed_list")]
    pub exclude: Vec<Exclusion>,
    /// The least sure finding that counts; `None`: likely.
    #[serde(deserialize_with = "parsed")]
    pub min_confidence: Option<Confidence>,
    /// The version of Kubernetes that charts are told.
    #[serde(deserialize_with = "kube_version")]
    pub kube_version: Option<KubeVersion>,
    /// API versions that charts are told besides those of Kubernetes.
    pub api_versions: Vec<String>,
    /// Values of variables that manifests leave open.
    pub variables: BTreeMap<String, String>,
}

/// An entry that may be written as its one needed field alone.
#[derive(Debug, Clone)]
pub struct Short<T>(pub T);

/// An image.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEntry {
    /// Its name.
    #[serde(deserialize_with = "parsed_one")]
    pub image: ImageRef,
    /// Which nodes need it; empty: all.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// A file or folder.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathEntry {
    /// Relative to the definition.
    pub path: PathBuf,
    /// Which nodes need its images; empty: all.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// A component of the catalogue.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentEntry {
    /// `NAME[@VERSION]`.
    pub component: String,
    /// Which nodes need it; empty: all.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// A chart and how it is to be installed.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChartEntry {
    /// Name of the release; `None` for that of the chart.
    pub name: Option<String>,
    /// A path relative to the definition, `oci://…`, `https://….tgz`, or with `repo` a name there.
    pub chart: String,
    /// Chart repository.
    pub repo: Option<String>,
    /// Version or constraint; empty: the latest.
    #[serde(default)]
    pub version: String,
    /// Namespace of the release.
    pub namespace: Option<String>,
    /// Values files, later ones win.
    #[serde(default)]
    pub values_files: Vec<PathBuf>,
    /// Values that win over the files.
    #[serde(default)]
    pub values: serde_json::Map<String, serde_json::Value>,
    /// Which nodes need its images; empty: all.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// A file that rides along.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileEntry {
    /// Relative to the definition.
    pub path: Option<PathBuf>,
    /// Where it is fetched from.
    pub url: Option<String>,
    /// SHA-256 of its bytes; for a URL needed here or in the lock.
    pub sha256: Option<String>,
    /// Its path in the bundle; its own name when left out.
    #[serde(rename = "as")]
    pub target: Option<String>,
    /// Whether it is extracted with the right to be run.
    #[serde(default)]
    pub executable: bool,
}

impl FileEntry {
    /// What it is called in the bundle, below `files/`: relative, without `..`.
    ///
    /// # Errors
    /// A text on what is wrong.
    pub fn target(&self) -> Result<String, String> {
        let own = match (&self.path, &self.url) {
            (Some(path), None) => path.file_name().map(|n| n.to_string_lossy().into_owned()),
            (None, Some(url)) => {
                url.split(['?', '#']).next().and_then(|u| u.rsplit('/').next()).map(str::to_owned)
            }
            _ => return Err("a file has either a path or a url".into()),
        };
        let target = self.target.clone().or(own).unwrap_or_default();
        let plain = Path::new(&target).components().all(|c| matches!(c, Component::Normal(_)));
        if target.is_empty() || !plain || target.contains('\\') || target.chars().any(char::is_control) {
            return Err(format!("{target:?} is no path for a file in a bundle: write as: DIR/NAME"));
        }
        Ok(target)
    }
}

impl Spec {
    /// Which platforms to take of each image; empty: all that it has.
    pub fn platforms(&self) -> Vec<Platform> {
        if self.platforms.is_empty() {
            return "linux/amd64".parse().into_iter().collect();
        }
        // Checked when it was read; `all` is none.
        self.platforms.iter().filter_map(|p| p.parse().ok()).collect()
    }
}

impl Definition {
    /// Whether the file is one, by its `apiVersion` and `kind`. What cannot be read is none.
    pub fn is_one(path: &Path) -> bool {
        let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let Ok(text) = (if yaml && path.is_file() { read(path) } else { return false }) else { return false };
        let node = yaml::parse_one(&text, &Limits::default());
        node.is_ok_and(|n| is_definition(&n))
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`DefinitionError`] with line and field.
    pub fn read(path: &Path) -> Result<Self, DefinitionError> {
        let text = read(path).map_err(|source| DefinitionError::Io { path: path.into(), source })?;
        Self::parse(path, text)
    }

    /// Reads a text that came from `path`.
    ///
    /// # Errors
    /// As [`Definition::read`].
    pub fn parse(path: &Path, text: String) -> Result<Self, DefinitionError> {
        let wrong = |line: Option<u32>, field: String, reason: String| DefinitionError::Invalid {
            path: path.into(),
            line,
            field,
            reason,
        };
        let limits = Limits { max_nodes: 200_000, max_depth: 40, ..Limits::default() };
        let node =
            yaml::parse_one(&text, &limits).map_err(|e| wrong(Some(e.line), String::new(), e.reason))?;
        if !is_definition(&node) {
            let reason =
                format!("a bundle definition begins with apiVersion: {API_VERSION} and kind: {KIND}");
            return Err(wrong(Some(node.line), String::new(), reason));
        }
        let document: Document =
            serde_path_to_error::deserialize(crate::kustomize::tree(&node)).map_err(|e| {
                let field = e.path().to_string();
                let field = if field == "." { String::new() } else { field };
                wrong(line_of(&node, e.path()), field, e.inner().to_string())
            })?;
        let Document { metadata, spec, .. } = document;
        let at = |field: &str| node_at(&node, field).map(|n| n.line);
        let name = metadata.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let reason = format!("{name:?} is no name: use letters, digits, dots, dashes");
            return Err(wrong(at("metadata.name"), "metadata.name".into(), reason));
        }
        for (i, platform) in spec.platforms.iter().enumerate() {
            let field = format!("spec.platforms[{i}]");
            if platform == "all" && spec.platforms.len() == 1 {
                continue;
            }
            platform.parse::<Platform>().map_err(|e| wrong(at("spec.platforms"), field, e.to_string()))?;
        }
        let mut targets = BTreeSet::new();
        for (i, file) in spec.files.iter().enumerate() {
            let invalid = |reason| wrong(at(&format!("spec.files[{i}]")), format!("spec.files[{i}]"), reason);
            let target = file.target().map_err(invalid)?;
            if let Some(hex) = &file.sha256
                && format!("sha256:{hex}").parse::<crate::oci::Digest>().is_err()
            {
                return Err(invalid(format!("sha256 {hex:?} is not 64 hexadecimal digits")));
            }
            if !targets.insert(target.clone()) {
                return Err(invalid(format!("{target} is there twice; name one of them with as:")));
            }
        }
        let mut releases = BTreeSet::new();
        for (i, chart) in spec.charts.iter().enumerate() {
            if let Some(name) = &chart.name
                && !(releases.insert(name.clone()) && crate::chart::is_release_name(name))
            {
                let field = format!("spec.charts[{i}].name");
                let reason = format!("{name:?} is no name for a release or is there twice");
                return Err(wrong(at(&field), field, reason));
            }
        }
        Ok(Self { path: path.into(), text, name, spec })
    }

    /// The folder that its paths are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Where its lock is by default: `bundle.yaml` has `bundle.lock` beside it.
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }
}

fn is_definition(node: &Node) -> bool {
    let text = |key: &str| node.get(key).and_then(Node::as_str);
    text("apiVersion") == Some(API_VERSION) && text("kind") == Some(KIND)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// `spec.files[0]`.
fn node_at<'a>(node: &'a Node, field: &str) -> Option<&'a Node> {
    field.split('.').try_fold(node, |node, part| {
        let (key, indices) = part.split_once('[').unwrap_or((part, ""));
        let inner = if key.is_empty() { node } else { node.get(key)? };
        indices.split('[').filter(|i| !i.is_empty()).try_fold(inner, |node, index| {
            node.as_seq()?.get(index.trim_end_matches(']').parse::<usize>().ok()?)
        })
    })
}

/// The line of the innermost thing on the path that is there.
fn line_of(node: &Node, path: &serde_path_to_error::Path) -> Option<u32> {
    use serde_path_to_error::Segment;
    let mut at = node;
    for segment in path.iter() {
        let next = match segment {
            Segment::Seq { index } => at.as_seq().and_then(|s| s.get(*index)),
            Segment::Map { key } => at.get(key),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    Some(at.line)
}

/// What the short form of an entry stands for.
trait FromShort: Sized {
    fn from_short(text: &str) -> Result<Self, String>;
    const EXPECTED: &'static str;
}

impl FromShort for ImageEntry {
    fn from_short(text: &str) -> Result<Self, String> {
        let image = text.parse().map_err(|e: <ImageRef as FromStr>::Err| e.to_string())?;
        Ok(Self { image, groups: BTreeSet::new() })
    }
    const EXPECTED: &'static str = "an image, or a mapping with image and groups";
}

impl FromShort for PathEntry {
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self { path: text.into(), groups: BTreeSet::new() })
    }
    const EXPECTED: &'static str = "a path, or a mapping with path and groups";
}

impl FromShort for ComponentEntry {
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self { component: text.to_owned(), groups: BTreeSet::new() })
    }
    const EXPECTED: &'static str = "NAME@VERSION, or a mapping with component and groups";
}

impl<'de, T: FromShort + Deserialize<'de>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: FromShort + Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Short<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Short<T>, E> {
                T::from_short(text).map(Short).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Short)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

fn parsed_one<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(d: D) -> Result<T, D::Error> {
    let text = String::deserialize(d)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(d: D) -> Result<Option<T>, D::Error> {
    parsed_one(d).map(Some)
}

fn parsed_list<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(d: D) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(d)?;
    texts.iter().map(|t| t.parse().map_err(serde::de::Error::custom)).collect()
}

fn kube_version<'de, D: Deserializer<'de>>(d: D) -> Result<Option<KubeVersion>, D::Error> {
    let text = String::deserialize(d)?;
    let version = KubeVersion::parse(&text);
    version.map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is no version of Kubernetes; write \"1.33\", in quotes"))
    })
}

#[cfg(test)]
mod tests;

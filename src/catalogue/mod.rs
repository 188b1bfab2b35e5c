//! Components that users start from: which images a version of Cilium or of a kubeadm control plane needs.
//!
//! Definitions are data, in `bundles/` of the source tree, and compiled in; folders of users may add to them. A definition
//! is one YAML document:
//!
//! ```yaml
//! apiVersion: omk/v1
//! kind: Component
//! metadata: {name: pause}
//! spec:
//!   about: what it is, in one line
//!   source: where its images are proven
//!   images:                     # of every version; {version} and the names under `with` are filled in
//!     - registry.k8s.io/pause:{version}
//!   versions:
//!     - version: "3.10"
//!       with: {}                # optional: what the names in braces stand for
//!       images: []              # optional: images of this version only
//!       chart: {name: pause, version: 3.10.0, repository: https://charts.example.com}   # optional: renders to the same
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::oci::ImageRef;
use crate::template::semver_order;
use crate::yaml::{self, Limits};

mod builtin;

/// Bytes of a definition.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Files of a user's folder.
const MAX_FILES: usize = 1_000;
/// Names that are offered for one that is not there.
const MAX_NEAR: usize = 5;
/// Names that are this similar (Jaro-Winkler, 0 to 1) may have been meant.
const NEAR: f64 = 0.75;

/// Why a component could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// A file or folder of definitions cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// It.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A definition is none.
    #[error("{file}{}: {reason}", line.map_or(String::new(), |l| format!(":{l}")))]
    Definition {
        /// The file.
        file: String,
        /// Line in it, counted from 1, where known.
        line: Option<u32>,
        /// What is wrong.
        reason: String,
    },
    /// Nothing has this name.
    #[error("there is no component {name:?}{}", offer(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        near: Vec<String>,
    },
    /// The component has no such version.
    #[error("{name} has no version {version:?}; it has {}", .has.join(", "))]
    NoVersion {
        /// The component.
        name: String,
        /// What was asked for.
        version: String,
        /// What there is, newest first.
        has: Vec<String>,
    },
}

fn offer(names: &[String]) -> String {
    if names.is_empty() {
        return "; `omk component list` shows all".to_owned();
    }
    format!("; there is {}", names.join(", "))
}

/// All components that are known.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    components: BTreeMap<String, Component>,
}

/// A component with its versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// What it is, in one line.
    pub about: String,
    /// Where its images are proven.
    pub source: String,
    /// The newest first.
    pub versions: Vec<Version>,
}

/// A version of a component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Version {
    /// As upstream writes it, without a leading `v`.
    pub version: String,
    /// Sorted, each once.
    pub images: Vec<ImageRef>,
    /// A chart that renders to the same images with its default values.
    pub chart: Option<ChartOf>,
}

/// The chart of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChartOf {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is published.
    pub repository: String,
}

/// A version that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The component.
    pub name: String,
    /// The version that was chosen.
    pub version: String,
    /// What it needs.
    pub images: Vec<ImageRef>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    about: String,
    source: String,
    #[serde(default)]
    images: Vec<String>,
    versions: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: String,
    #[serde(default)]
    with: BTreeMap<String, String>,
    #[serde(default)]
    images: Vec<String>,
    chart: Option<ChartOf>,
}

impl Catalogue {
    /// The components that omk brings along.
    ///
    /// # Errors
    /// If one of them is malformed, which a test rules out.
    pub fn builtin() -> Result<Self, CatalogueError> {
        let mut all = Self::default();
        builtin::FILES.iter().try_for_each(|(file, text)| all.add(file, text))?;
        Ok(all)
    }

    /// With the definitions in a folder's `.yaml` and `.yml` files; they win over what has the same name.
    ///
    /// # Errors
    /// If the folder cannot be read or one of the files is no definition.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self, CatalogueError> {
        let failed = |path: &Path, source| CatalogueError::Io { path: path.into(), source };
        let entries = fs::read_dir(folder).map_err(|e| failed(folder, e))?;
        let mut files: Vec<PathBuf> = entries.take(MAX_FILES).flatten().map(|e| e.path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml") && p.is_file());
        files.sort();
        for path in files {
            let mut text = String::new();
            let read =
                fs::File::open(&path).and_then(|f| f.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
            read.map_err(|e| failed(&path, e))?;
            if text.len() as u64 > MAX_FILE_BYTES {
                let reason = format!("is larger than {MAX_FILE_BYTES} bytes");
                return Err(CatalogueError::Definition {
                    file: path.display().to_string(),
                    line: None,
                    reason,
                });
            }
            self.add(&path.display().to_string(), &text)?;
        }
        Ok(self)
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), CatalogueError> {
        let component = parse(file, text)?;
        self.components.insert(component.name.clone(), component);
        Ok(())
    }

    /// Every component, by name.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.components.values()
    }

    /// What `cilium`, `cilium@1.18` or `cilium@1.18.12` stands for: the newest version, the newest of a line, that one.
    ///
    /// # Errors
    /// If there is no such component or version; the error says what there is.
    pub fn pick(&self, wanted: &str) -> Result<Picked, CatalogueError> {
        let (name, version) = wanted.split_once('@').unwrap_or((wanted, ""));
        let Some(component) = self.components.get(name) else {
            return Err(CatalogueError::Unknown { name: name.to_owned(), near: self.near(name) });
        };
        let version = version.strip_prefix('v').unwrap_or(version);
        let fits = |v: &&Version| version.is_empty() || v.version == version || line_of(&v.version, version);
        match component.versions.iter().find(fits) {
            Some(found) => Ok(Picked {
                name: component.name.clone(),
                version: found.version.clone(),
                images: found.images.clone(),
            }),
            None => Err(CatalogueError::NoVersion {
                name: name.to_owned(),
                version: version.to_owned(),
                has: component.versions.iter().map(|v| v.version.clone()).collect(),
            }),
        }
    }

    fn near(&self, name: &str) -> Vec<String> {
        let likeness = |other: &str| {
            if other.contains(name) || name.contains(other) { 1.0 } else { strsim::jaro_winkler(other, name) }
        };
        let mut all: Vec<(f64, &String)> = self.components.keys().map(|k| (likeness(k), k)).collect();
        all.retain(|(likeness, _)| *likeness >= NEAR);
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        all.into_iter().take(MAX_NEAR).map(|(_, name)| name.clone()).collect()
    }
}

/// Whether `1.18.12` is of the line `1.18`.
fn line_of(version: &str, line: &str) -> bool {
    version.strip_prefix(line).is_some_and(|rest| rest.starts_with(['.', '-', '+']))
}

/// Reads one definition.
///
/// # Errors
/// [`CatalogueError::Definition`] with the line where that is known.
pub fn parse(file: &str, text: &str) -> Result<Component, CatalogueError> {
    let limits = Limits { max_nodes: 200_000, max_depth: 20, ..Limits::default() };
    let node = yaml::parse_one(text, &limits).map_err(|e| CatalogueError::Definition {
        file: file.to_owned(),
        line: Some(e.line),
        reason: e.reason,
    })?;
    from_tree(file, crate::kustomize::tree(&node))
}

/// [`parse`] of what is read already.
pub(crate) fn from_tree(file: &str, tree: serde_json::Value) -> Result<Component, CatalogueError> {
    let wrong = |line: Option<u32>, reason: String| CatalogueError::Definition {
        file: file.to_owned(),
        line,
        reason,
    };
    let document: Document = serde_json::from_value(tree)
        .map_err(|e| wrong(None, format!("is no definition of a component: {e}")))?;
    if document.api_version != "omk/v1" || document.kind != "Component" {
        return Err(wrong(Some(1), "a definition has apiVersion omk/v1 and kind Component".into()));
    }
    let (name, spec) = (document.metadata.name, document.spec);
    if name.is_empty() || name.contains(['@', ',', ' ']) {
        return Err(wrong(None, format!("{name:?} is no name for a component")));
    }
    let mut versions = Vec::new();
    for entry in spec.versions {
        let about = |reason: String| wrong(None, format!("version {}: {reason}", entry.version));
        let mut images = Vec::new();
        for template in spec.images.iter().chain(&entry.images) {
            let text = filled(template, &entry).map_err(about)?;
            images.push(text.parse::<ImageRef>().map_err(|e| about(e.to_string()))?);
        }
        images.sort();
        images.dedup();
        if images.is_empty() {
            return Err(about("it has no images".into()));
        }
        if versions.iter().any(|v: &Version| v.version == entry.version) {
            return Err(about("it is there twice".into()));
        }
        versions.push(Version { version: entry.version, images, chart: entry.chart });
    }
    if versions.is_empty() {
        return Err(wrong(None, "it has no versions".into()));
    }
    versions.sort_by(|a, b| {
        let order = semver_order(&b.version, &a.version);
        order.unwrap_or_else(|| b.version.cmp(&a.version))
    });
    Ok(Component { name, about: spec.about, source: spec.source, versions })
}

fn filled(template: &str, entry: &Entry) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let end =
            rest[start..].find('}').ok_or_else(|| format!("{template:?} has no closing brace"))? + start;
        let name = &rest[start + 1..end];
        out.push_str(&rest[..start]);
        match (name, entry.with.get(name)) {
            (_, Some(value)) => out.push_str(value),
            ("version", None) => out.push_str(&entry.version),
            (name, None) => return Err(format!("nothing says what {{{name}}} stands for")),
        }
        rest = &rest[end + 1..];
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
apiVersion: omk/v1
kind: Component
metadata: {name: web}
spec:
  about: a test
  source: here
  images: ['r.example/web:v{version}', 'r.example/side:{side}']
  versions:
    - {version: '1.9.0', with: {side: '1'}}
    - {version: '1.10.1', with: {side: '2'}, images: [r.example/extra:1]}
    - {version: '1.10.0', with: {side: '2'}}
";

    fn catalogue() -> Catalogue {
        let mut all = Catalogue::builtin().unwrap();
        all.add("web.yaml", TEXT).unwrap();
        all
    }

    #[test]
    fn versions_are_picked_by_line() {
        let pick = |wanted: &str| catalogue().pick(wanted).map(|p| p.version).map_err(|e| e.to_string());
        assert_eq!(pick("web").unwrap(), "1.10.1");
        assert_eq!(pick("web@1.10.0").unwrap(), "1.10.0");
        assert_eq!(pick("web@v1.9").unwrap(), "1.9.0");
        assert_eq!(pick("web@1").unwrap(), "1.10.1");
        assert_eq!(pick("web@1.1").unwrap_err(), "web has no version \"1.1\"; it has 1.10.1, 1.10.0, 1.9.0");
        let told = pick("cillium").unwrap_err();
        assert!(told.starts_with("there is no component \"cillium\"; there is cilium"), "{told}");
        assert!(pick("qqqqq").unwrap_err().contains("omk component list"));
        let images = catalogue().pick("web@1.10.1").unwrap().images;
        let names: Vec<String> = images.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["r.example/extra:1", "r.example/side:2", "r.example/web:v1.10.1"]);
    }

    #[test]
    fn what_is_wrong_with_a_definition_is_told() {
        let told = |text: &str| parse("x.yaml", text).unwrap_err().to_string();
        assert!(told("a: [").starts_with("x.yaml:"));
        assert!(told("a: 1").contains("no definition"));
        assert!(told(&TEXT.replace("omk/v1", "v1")).contains("apiVersion omk/v1"));
        assert!(told(&TEXT.replace("{side}", "{other}")).contains("nothing says what {other}"));
        assert!(told(&TEXT.replace("side:{side}", "Side:1")).contains("lower case"));
        assert!(told(&TEXT.replace("'1.10.0'", "'1.9.0'")).contains("there twice"));
        assert!(told(&TEXT.replace("about: a test", "about: a test\n  strange: 1")).contains("strange"));
    }

    #[test]
    fn folders_add_to_what_is_built_in() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("web.yaml"), TEXT).unwrap();
        fs::write(dir.path().join("README.md"), "no definition").unwrap();
        let all = Catalogue::builtin().unwrap().with_folder(dir.path()).unwrap();
        assert!(all.pick("web").is_ok() && all.pick("cilium").is_ok());
        fs::write(dir.path().join("bad.yml"), "a: [").unwrap();
        let error = Catalogue::default().with_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("bad.yml:"), "{error}");
    }

    #[test]
    fn every_definition_in_the_source_tree_is_compiled_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles");
        let mut there: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.ends_with(".yaml"))
            .collect();
        there.sort();
        let known: Vec<&str> = builtin::FILES.iter().map(|(n, _)| *n).collect();
        assert_eq!(there, known);
        for component in Catalogue::builtin().unwrap().components() {
            assert!(
                builtin::FILES.iter().any(|(n, _)| *n == format!("{}.yaml", component.name)),
                "{}",
                component.name
            );
        }
    }
}

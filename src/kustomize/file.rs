//! The kustomization file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::KustomizeError;
use super::object::tree;
use crate::chart::Tree;
use crate::yaml::{self, Limits};

/// `api/types.Kustomization`. What cannot change images is accepted as any value.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Kustomization {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    pub(super) kind: Option<String>,
    #[serde(rename = "metadata")]
    _metadata: Tree,
    #[serde(rename = "openapi")]
    _openapi: Tree,
    #[serde(rename = "sortOptions")]
    _sort_options: Tree,
    #[serde(rename = "buildMetadata")]
    _build_metadata: Tree,
    #[serde(rename = "replicas")]
    _replicas: Tree,
    #[serde(rename = "crds")]
    _crds: Tree,
    #[serde(rename = "validators")]
    _validators: Tree,
    #[serde(rename = "generatorOptions")]
    _generator_options: Tree,

    #[serde(deserialize_with = "nullable")]
    pub(super) resources: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) bases: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) components: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) name_prefix: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) name_suffix: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) namespace: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) common_labels: BTreeMap<String, Tree>,
    #[serde(deserialize_with = "nullable")]
    pub(super) common_annotations: BTreeMap<String, Tree>,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Vec<Labels>,
    #[serde(deserialize_with = "nullable")]
    pub(super) patches: Vec<PatchEntry>,
    #[serde(rename = "patchesJson6902", deserialize_with = "nullable")]
    pub(super) patches_json6902: Vec<PatchEntry>,
    #[serde(deserialize_with = "nullable")]
    pub(super) patches_strategic_merge: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) images: Vec<ImageEntry>,
    #[serde(deserialize_with = "nullable")]
    pub(super) image_tags: Vec<ImageEntry>,
    #[serde(deserialize_with = "nullable")]
    pub(super) replacements: Vec<ReplacementEntry>,
    #[serde(deserialize_with = "nullable")]
    pub(super) vars: Vec<Var>,
    #[serde(deserialize_with = "nullable")]
    pub(super) config_map_generator: Vec<DataArgs>,
    #[serde(deserialize_with = "nullable")]
    pub(super) secret_generator: Vec<DataArgs>,
    pub(super) helm_globals: Option<HelmGlobals>,
    #[serde(deserialize_with = "nullable")]
    pub(super) helm_charts: Vec<HelmChart>,
    #[serde(deserialize_with = "nullable")]
    pub(super) helm_chart_inflation_generator: Vec<HelmChart>,
    #[serde(deserialize_with = "nullable")]
    pub(super) configurations: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) generators: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) transformers: Vec<String>,
}

/// Kustomize reads a field without a value as one that is not there.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Labels {
    #[serde(default)]
    pub(super) pairs: BTreeMap<String, Tree>,
    #[serde(default)]
    pub(super) include_selectors: bool,
    #[serde(default)]
    pub(super) include_templates: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct PatchEntry {
    pub(super) path: Option<String>,
    pub(super) patch: Option<String>,
    pub(super) target: Option<Selector>,
    pub(super) options: BTreeMap<String, Tree>,
}

/// Patterns are regular expressions over whole values; an absent one fits everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Selector {
    pub(super) group: Option<String>,
    pub(super) version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) label_selector: Option<String>,
    pub(super) annotation_selector: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ImageEntry {
    pub(super) name: String,
    pub(super) new_name: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) new_tag: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) tag_suffix: Option<String>,
    pub(super) digest: Option<String>,
}

/// Tags are often written without quotes; what YAML takes for a number Kustomize refuses, and so is this.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Tree::deserialize(deserializer)? {
        Tree::Null => Ok(None),
        Tree::String(text) => Ok(Some(text)),
        other => Err(serde::de::Error::custom(format!("{other} is no text: write it in quotes"))),
    }
}

/// A replacement, or the file that holds some.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum ReplacementEntry {
    File(ReplacementFile),
    Here(Box<Replacement>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplacementFile {
    pub(super) path: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Replacement {
    pub(super) source: Option<ReplacementSource>,
    pub(super) source_value: Option<String>,
    #[serde(default)]
    pub(super) targets: Vec<ReplacementTarget>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ReplacementSource {
    pub(super) group: Option<String>,
    pub(super) version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) field_path: Option<String>,
    pub(super) options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct FieldOptions {
    pub(super) delimiter: String,
    pub(super) index: i64,
    pub(super) create: bool,
    /// Only text is ever copied as it stands.
    #[serde(rename = "encoding")]
    pub(super) _encoding: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ReplacementTarget {
    pub(super) select: Selector,
    pub(super) reject: Vec<Selector>,
    pub(super) field_paths: Vec<String>,
    pub(super) options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Var {
    pub(super) name: String,
    pub(super) objref: ObjRef,
    #[serde(default)]
    pub(super) fieldref: FieldRef,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjRef {
    pub(super) api_version: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FieldRef {
    pub(super) fieldpath: String,
    pub(super) field_path: String,
}

/// `configMapGenerator`, `secretGenerator`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DataArgs {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) behavior: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) files: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) literals: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) envs: Vec<String>,
    pub(super) env: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HelmGlobals {
    pub(super) chart_home: Option<String>,
}

/// `helmCharts`, and the older `helmChartInflationGenerator` with its other names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HelmChart {
    #[serde(alias = "chartName")]
    pub(super) name: String,
    #[serde(alias = "chartVersion")]
    pub(super) version: String,
    #[serde(alias = "chartRepoUrl")]
    pub(super) repo: String,
    pub(super) chart_home: Option<String>,
    pub(super) release_name: String,
    #[serde(alias = "releaseNamespace")]
    pub(super) namespace: String,
    #[serde(alias = "values")]
    pub(super) values_file: String,
    pub(super) additional_values_files: Vec<String>,
    pub(super) values_inline: Tree,
    pub(super) values_merge: String,
    #[serde(rename = "includeCRDs")]
    pub(super) include_crds: bool,
    pub(super) skip_hooks: bool,
    pub(super) skip_tests: bool,
    pub(super) kube_version: String,
    pub(super) api_versions: Vec<String>,
    pub(super) name_template: String,
}

/// A file of `configurations`, as far as it says where images and variables stand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Configuration {
    #[serde(deserialize_with = "nullable")]
    pub(super) images: Vec<FieldSpec>,
    #[serde(deserialize_with = "nullable")]
    pub(super) var_reference: Vec<FieldSpec>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FieldSpec {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) path: String,
}

impl Kustomization {
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, KustomizeError> {
        let mut this: Self = parse(file, text)?;
        let component = this.kind.as_deref() == Some("Component");
        let kind = this.kind.as_deref().filter(|k| !k.is_empty()).unwrap_or("Kustomization");
        if !component && kind != "Kustomization" {
            let reason = format!("kind is {kind}; it should be Kustomization or Component");
            return Err(KustomizeError::new(file, reason));
        }
        let version = if component { "v1alpha1" } else { "v1beta1" };
        let expected = format!("kustomize.config.k8s.io/{version}");
        if let Some(other) = this.api_version.as_ref().filter(|v| !v.is_empty() && **v != expected) {
            let reason = format!("apiVersion of a {kind} is {other}; it should be {expected}");
            return Err(KustomizeError::new(file, reason));
        }
        this.resources.append(&mut this.bases);
        this.images.append(&mut this.image_tags);
        this.helm_charts.append(&mut this.helm_chart_inflation_generator);
        Ok(this)
    }
}

/// Fields whose names have capitals: Kustomize is written in Go, which takes `newtag` and `nameprefix` as well.
const CAPITALS: [&str; 43] = [
    "apiVersion",
    "sortOptions",
    "buildMetadata",
    "generatorOptions",
    "namePrefix",
    "nameSuffix",
    "commonLabels",
    "commonAnnotations",
    "patchesJson6902",
    "patchesStrategicMerge",
    "imageTags",
    "configMapGenerator",
    "secretGenerator",
    "helmGlobals",
    "helmCharts",
    "helmChartInflationGenerator",
    "labelSelector",
    "annotationSelector",
    "newName",
    "newTag",
    "tagSuffix",
    "sourceValue",
    "fieldPath",
    "fieldPaths",
    "chartHome",
    "chartName",
    "chartVersion",
    "chartRepoUrl",
    "releaseName",
    "releaseNamespace",
    "valuesFile",
    "additionalValuesFiles",
    "valuesInline",
    "valuesMerge",
    "includeCRDs",
    "skipHooks",
    "skipTests",
    "kubeVersion",
    "apiVersions",
    "nameTemplate",
    "varReference",
    "includeSelectors",
    "includeTemplates",
];

/// Fields that hold what is named by others.
const FOREIGN: [&str; 7] =
    ["metadata", "commonLabels", "commonAnnotations", "pairs", "options", "valuesInline", "openapi"];

/// Writes the names of fields as the types here have them.
fn as_written_here(value: &mut Tree) {
    match value {
        Tree::Array(items) => items.iter_mut().for_each(as_written_here),
        Tree::Object(map) => {
            for (key, mut value) in std::mem::take(map) {
                let known = CAPITALS.iter().find(|c| c.eq_ignore_ascii_case(&key));
                let key = known.map_or(key, |c| (*c).to_owned());
                if !FOREIGN.contains(&key.as_str()) {
                    as_written_here(&mut value);
                }
                map.insert(key, value);
            }
        }
        _ => {}
    }
}

/// A document of one of Kustomize's own types.
pub(super) fn parse<T: serde::de::DeserializeOwned + Default>(
    file: &Path,
    text: &str,
) -> Result<T, KustomizeError> {
    // As everywhere in Kustomize, the last of two fields of one name counts.
    let limits = Limits { allow_duplicate_keys: true, ..Limits::default() };
    let node = yaml::parse_one(text, &limits)
        .map_err(|e| KustomizeError::new(file, format!("is not YAML: {}", e.reason)).at(e.line))?;
    if node.is_null() {
        return Err(KustomizeError::new(file, "is empty"));
    }
    let mut value = tree(&node);
    as_written_here(&mut value);
    serde_json::from_value(value).map_err(|e| {
        // Names the field in back quotes where it is about one.
        let reason = e.to_string();
        let field = reason.split('`').nth(1).and_then(|f| node.get(f).map(|n| n.line));
        let error = KustomizeError::new(file, reason);
        match field {
            Some(line) => error.at(line),
            None => error,
        }
    })
}

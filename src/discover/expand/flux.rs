//! Flux: `HelmRelease` (helm.toolkit.fluxcd.io) and `Kustomization` (kustomize.toolkit.fluxcd.io) with the sources that
//! they name (source.toolkit.fluxcd.io). Fields: fluxcd.io/flux/components/{helm,kustomize,source}.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;

use super::super::held::{Held, at, scalar};
use super::super::{Findings, Problem, Severity};
use super::release::{self, Release};
use super::tree::Folder;
use super::values::instead;
use super::{Halt, Here, Step, keys_of, place};
use crate::chart::fetch::ChartSource;
use crate::chart::{Chart, ChartError, RenderOptions, Setting, Tree, ValuesInput};
use crate::kustomize::{Overlay, tree};
use crate::yaml::Node;

const SOURCES: &str = "source.toolkit.fluxcd.io";

pub(super) fn release(here: &mut Here<'_>, object: &Held, last: bool) -> Step {
    let mut problems = Vec::new();
    let chart = chart_of(here, object, last);
    if matches!(chart, Err(Halt::Wait | Halt::Cancelled)) {
        return chart.map(|_| Findings::default());
    }
    let values = values(here, object, last, &mut problems)?;
    let (chart, shown) = match chart {
        Err(Halt::Problem(problem)) => {
            let mut found = instead(object, "spec.values", &values, *problem, here.scope);
            found.problems.extend(problems);
            return Ok(found);
        }
        other => other?,
    };
    let namespace = object.text("spec.targetNamespace").or(object.namespace()).unwrap_or("default");
    let name = match (object.text("spec.releaseName"), object.text("spec.targetNamespace")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(target)) => format!("{target}-{}", object.name()),
        (None, None) => object.name().to_owned(),
    };
    let release = Release {
        chart: &chart,
        place: &shown,
        options: RenderOptions {
            release_name: name,
            namespace: namespace.to_owned(),
            values,
            ..here.options.clone()
        },
        overlays: post_renderers(object, &mut problems),
    };
    let mut found = here.read(&release, object)?;
    found.problems.extend(problems);
    Ok(found)
}

/// The chart of a release, and where it came from.
fn chart_of(here: &mut Here<'_>, object: &Held, last: bool) -> Result<(Arc<Chart>, PathBuf), Halt> {
    if object.at("spec.chartRef").is_some() {
        let kind = object.text("spec.chartRef.kind").unwrap_or_default();
        let source = source(here, object, "spec.chartRef", last)?;
        return match kind {
            "OCIRepository" => artifact(here, object, "spec.chartRef", &source),
            "HelmChart" => chart_spec(here, object, "spec.chartRef", &source, "spec", last),
            other => Err(object
                .gap("spec.chartRef.kind", format!("{other:?} is no OCIRepository or HelmChart"))
                .into()),
        };
    }
    if object.at("spec.chart.spec").is_none() {
        return Err(object.gap("spec", "it has neither chart nor chartRef").into());
    }
    chart_spec(here, object, "spec.chart.spec", object, "spec.chart.spec", last)
}

/// The chart that the fields of `holder` at `spec` describe: a release, or a `HelmChart` that a release refers to.
fn chart_spec(
    here: &mut Here<'_>,
    object: &Held,
    field: &str,
    holder: &Held,
    spec: &str,
    last: bool,
) -> Result<(Arc<Chart>, PathBuf), Halt> {
    let text = |key: &str| holder.text(&format!("{spec}.{key}")).unwrap_or_default().to_owned();
    let (name, version) = (text("chart"), text("version"));
    if name.is_empty() {
        return Err(object.gap(field, "it names no chart").into());
    }
    let from = source(here, holder, &format!("{spec}.sourceRef"), last)?;
    let mut files: Vec<String> =
        holder.items(&format!("{spec}.valuesFiles")).iter().filter_map(|(n, _)| scalar(n)).collect();
    files.extend(holder.text(&format!("{spec}.valuesFile")).map(str::to_owned));
    let (chart, shown, root) = if from.is(SOURCES, "HelmRepository") {
        let url = from.text("spec.url").unwrap_or_default();
        let wanted = match url.strip_prefix("oci://") {
            Some(_) => ChartSource::parse(&format!("{}/{name}", url.trim_end_matches('/')), None, &version),
            None => ChartSource::parse(&name, Some(url), &version),
        };
        let wanted = wanted.map_err(|e| object.gap(field, e.to_string()))?;
        let (chart, shown) = here.chart(object, field, &wanted, &keys_of(&from, url))?;
        (chart, shown, None)
    } else {
        let found = work_tree(here, object, field, &from, &name)?;
        let (chart, shown) = here.chart(object, field, &ChartSource::Path(found.1), &[])?;
        here.covered.add(&shown);
        (chart, shown, Some(found.0))
    };
    if files.is_empty() {
        return Ok((chart, shown));
    }
    let ignore = holder.at(&format!("{spec}.ignoreMissingValuesFiles")).and_then(Node::as_bool) == Some(true);
    with_values(&chart, &files, root.as_deref(), ignore)
        .map(|chart| (Arc::new(chart), shown))
        .map_err(|reason| object.gap(field, reason).into())
}

/// The chart with other defaults: files of the chart, or of the repository that it lies in.
fn with_values(chart: &Chart, files: &[String], root: Option<&Path>, ignore: bool) -> Result<Chart, String> {
    let mut values = ValuesInput::default();
    for name in files {
        let text = match root {
            Some(root) => place::below(root, name).and_then(|path| place::read(&path)),
            None => {
                let wanted = name.trim_start_matches("./");
                // The defaults themselves are no other file of the chart.
                if wanted == "values.yaml" {
                    Ok(chart.values.to_string())
                } else {
                    let file = chart.files.iter().find(|f| f.name == wanted);
                    let text = file.and_then(|f| String::from_utf8(f.data.to_vec()).ok());
                    text.ok_or_else(|| format!("the chart has no file {name:?} of values"))
                }
            }
        };
        match text {
            Ok(text) => values.files.push((name.clone(), text)),
            Err(_) if ignore => {}
            Err(reason) => return Err(reason),
        }
    }
    let values = values.merge().map_err(|e| e.to_string())?;
    Ok(Chart { values, ..chart.clone() })
}

/// The source that the reference at `field` names.
fn source(here: &Here<'_>, object: &Held, field: &str, last: bool) -> Result<Held, Halt> {
    let text = |key: &str| object.text(&format!("{field}.{key}"));
    let (kind, name) = (text("kind").unwrap_or_default(), text("name").unwrap_or_default());
    let namespace = text("namespace").or(object.namespace());
    if let Some(found) = here.shelf.find(SOURCES, kind, namespace, name) {
        return Ok(found.clone());
    }
    if !last {
        return Err(Halt::Wait);
    }
    let full = namespace.map_or_else(|| name.to_owned(), |n| format!("{n}/{name}"));
    // Of a folder that was given for a source nothing else needs to be known.
    let is_tree = !matches!(kind, "HelmRepository" | "HelmChart") && !name.is_empty();
    if is_tree && here.places.given(&[full.clone(), name.to_owned()]).is_some() {
        return Ok(object.stand_in(SOURCES, kind, namespace, name));
    }
    let folder = if is_tree {
        format!("; or its folder: --source-path {}", place::word(&format!("{full}=DIR")))
    } else {
        String::new()
    };
    let (plural, flag) =
        (kind.to_lowercase(), namespace.map_or(String::new(), |n| format!(" -n {}", place::word(n))));
    let reason = format!(
        "the {kind} {full} is not in the input; give the file with it, or: kubectl get {} {}{flag} -o yaml{folder}",
        place::word(&plural),
        place::word(name)
    );
    Err(object.gap(field, reason).into())
}

/// A chart that an `OCIRepository` holds.
fn artifact(
    here: &mut Here<'_>,
    object: &Held,
    field: &str,
    source: &Held,
) -> Result<(Arc<Chart>, PathBuf), Halt> {
    let url = source.text("spec.url").unwrap_or_default();
    let reference = |key: &str| source.text(&format!("spec.ref.{key}"));
    let version = reference("digest").or(reference("semver")).or(reference("tag")).unwrap_or_default();
    let wanted = ChartSource::parse(url, None, version).map_err(|e| object.gap(field, e.to_string()))?;
    if let ChartSource::Path(_) = wanted {
        return Err(object
            .gap(field, format!("{url:?} of {} is no oci:// address", source.full_name()))
            .into());
    }
    here.chart(object, field, &wanted, &keys_of(source, url))
}

/// Top and place of `path` in the repository, bucket or artifact that a source stands for.
fn work_tree(
    here: &mut Here<'_>,
    object: &Held,
    field: &str,
    source: &Held,
    path: &str,
) -> Result<(PathBuf, PathBuf), Halt> {
    let url = source.text("spec.url").or(source.text("spec.endpoint")).unwrap_or_default();
    let keys = keys_of(source, url);
    // What else than a Git repository an input lies in cannot be the tree that is meant.
    let found = if source.is(SOURCES, "GitRepository") {
        here.places.tree(&keys, url, path, &object.source)
    } else {
        here.places
            .given(&keys)
            .ok_or_else(|| format!("{url} is not on this machine and is not fetched"))
            .and_then(|root| {
                let path = place::below(root, path)?;
                Ok(place::Found { root: root.into(), path, assumed: false })
            })
    };
    let key = source.full_name();
    match found {
        Ok(found) => {
            if found.assumed {
                here.notes.push(object.problem(
                    Severity::Warning,
                    field,
                    format!(
                        "{} is taken for {key}, since it has {path}; another folder: --source-path {}",
                        found.root.display(),
                        place::word(&format!("{key}=DIR"))
                    ),
                ));
            }
            Ok((found.root, found.path))
        }
        Err(reason) => {
            let flag = place::word(&format!("{key}=work"));
            let command = match source.kind.as_str() {
                "OCIRepository" => {
                    let tag = source.text("spec.ref.tag").map_or(String::new(), |t| format!(":{t}"));
                    format!("flux pull artifact {} --output work", place::word(&format!("{url}{tag}")))
                }
                "Bucket" => "copy the bucket into the folder work".to_owned(),
                _ => clone_command(url, source.text("spec.ref.tag").or(source.text("spec.ref.branch"))),
            };
            let reason =
                format!("{reason}; where it can be reached: {command}; then here: --source-path {flag}");
            Err(object.gap(field, reason).into())
        }
    }
}

/// The command that brings a Git repository into the folder `work`.
pub(super) fn clone_command(url: &str, revision: Option<&str>) -> String {
    let revision = revision.map_or(String::new(), |r| format!(" --branch {}", place::word(r)));
    format!("git clone{revision} {} work", place::word(url))
}

/// The values of a release: those that it refers to in their order, then its own.
fn values(
    here: &mut Here<'_>,
    object: &Held,
    last: bool,
    problems: &mut Vec<Problem>,
) -> Result<ValuesInput, Halt> {
    let mut values = ValuesInput::default();
    for (entry, path) in object.items("spec.valuesFrom") {
        let text = |key: &str| entry.get(key).and_then(Node::as_str).filter(|s| !s.is_empty());
        let (kind, name) = (text("kind").unwrap_or_default(), text("name").unwrap_or_default());
        let key = text("valuesKey").unwrap_or("values.yaml");
        let found = here.shelf.find("", kind, object.namespace(), name).cloned();
        let optional = entry.get("optional").and_then(Node::as_bool) == Some(true);
        if found.is_none() && !last {
            return Err(Halt::Wait);
        }
        if let Some(found) = &found {
            here.consume(found, Some(key));
        }
        match found.as_ref().map(|f| data(f, key)) {
            Some(Ok(content)) => {
                let label = format!("{kind} {name}");
                match text("targetPath") {
                    Some(target) => {
                        let setting = release::set(target, content.trim_end_matches('\n'), false);
                        add(&mut values, label, setting).map_err(|e| object.gap(&path, e.to_string()))?;
                    }
                    None => values.files.push((label, content)),
                }
            }
            None | Some(Err(Missing::Key)) if optional => {}
            None => problems.push(object.gap(
                &path,
                format!(
                    "the {kind} {name} is not in the input, so that its values are not known and images may be missing; \
                     give the file with it"
                ),
            )),
            Some(Err(missing)) => problems.push(object.gap(&path, missing.told(kind, name, key))),
        }
    }
    if let Some(own) = object.at("spec.values") {
        values.files.push(("spec.values".into(), tree(own).to_string()));
    }
    Ok(values)
}

/// Adds a single value in its order: later files win over it.
fn add(values: &mut ValuesInput, name: String, setting: Setting) -> Result<(), ChartError> {
    values.settings.push(setting);
    let merged = values.merge()?.to_string();
    *values = ValuesInput { files: vec![(name, merged)], ..ValuesInput::default() };
    Ok(())
}

/// Why a ConfigMap or Secret has no such text.
pub(super) enum Missing {
    Key,
    Encrypted,
    NotText,
}

impl Missing {
    pub(super) fn told(&self, kind: &str, name: &str, key: &str) -> String {
        match self {
            Self::Key => format!("the {kind} {name} has no key {key:?}"),
            Self::Encrypted => format!(
                "the {kind} {name} is encrypted, so that its values are not known and images may be missing; decrypt it \
                 first: sops --decrypt FILE"
            ),
            Self::NotText => format!("{key:?} of the {kind} {name} is no text"),
        }
    }
}

/// The text under a key of a ConfigMap or Secret. It may be a secret: it goes nowhere but into values.
pub(super) fn data(object: &Held, key: &str) -> Result<String, Missing> {
    if object.at("sops").is_some() {
        return Err(Missing::Encrypted);
    }
    let get = |map: &str| object.node.get(map).and_then(|m| m.get(key)).and_then(scalar);
    if let Some(text) = get("stringData") {
        return Ok(text);
    }
    let text = get("data").ok_or(Missing::Key)?;
    if object.kind != "Secret" {
        return Ok(text);
    }
    let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).map_err(|_| Missing::NotText)?;
    String::from_utf8(bytes).map_err(|_| Missing::NotText)
}

/// `postRenderers` as kustomizations.
fn post_renderers(object: &Held, problems: &mut Vec<Problem>) -> Vec<Tree> {
    let mut all = Vec::new();
    for (entry, path) in object.items("spec.postRenderers") {
        let Some(kustomize) = entry.get("kustomize") else {
            problems.push(object.gap(&path, "omk knows no other post-renderer than kustomize"));
            continue;
        };
        all.push(overlay(kustomize, &["images", "patches", "patchesStrategicMerge", "patchesJson6902"], &[]));
    }
    all
}

/// A kustomization of the fields of `node` that stand in `keys`, with `more`.
fn overlay(node: &Node, keys: &[&str], more: &[(&str, Tree)]) -> Tree {
    let mut map = serde_json::Map::new();
    for key in keys {
        if let Some(value) = node.get(key).filter(|n| !n.is_null()) {
            map.insert((*key).to_owned(), tree(value));
        }
    }
    // Patches may stand as objects here, and are texts in a kustomization.
    if let Some(Tree::Array(patches)) = map.get_mut("patchesStrategicMerge") {
        patches.iter_mut().filter(|p| p.is_object()).for_each(|p| *p = Tree::String(format!("\n{p}\n")));
    }
    if let Some(Tree::Array(patches)) = map.get_mut("patchesJson6902") {
        for patch in patches.iter_mut().filter_map(|p| p.get_mut("patch")).filter(|p| p.is_array()) {
            *patch = Tree::String(patch.to_string());
        }
    }
    map.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    Tree::Object(map)
}

pub(super) fn kustomization(here: &mut Here<'_>, object: &Held, last: bool) -> Step {
    let path = object.text("spec.path").unwrap_or("./");
    let from = source(here, object, "spec.sourceRef", last)?;
    let mut problems = Vec::new();
    let variables = substitutes(here, object, last, &mut problems)?;
    let (root, folder) = work_tree(here, object, "spec.path", &from, path)?;
    let keys = ["images", "patches", "patchesStrategicMerge", "patchesJson6902", "namePrefix", "nameSuffix"];
    let namespace = object.text("spec.targetNamespace").map(|n| ("namespace", Tree::from(n)));
    let spec = object.at("spec").unwrap_or(&object.node);
    let own = overlay(spec, &keys, namespace.as_slice());
    let mut components = Vec::new();
    for (node, path) in object.items("spec.components") {
        // They lie beside the folder more often than in it.
        let component = folder.join(node.as_str().unwrap_or_default());
        if place::within(&root, &component) && component.is_dir() {
            components.push(component);
        } else {
            let reason = format!("{} is no folder of the repository", component.display());
            problems.push(object.gap(&path, reason));
        }
    }
    let lookup = |name: &str| variables.as_ref().and_then(|v| v.get(name).cloned());
    let tree = Folder {
        path: &folder,
        overlay: Overlay {
            kustomization: Some(&own).filter(|o| o.as_object().is_some_and(|m| !m.is_empty())),
            components,
        },
        variables: if variables.is_some() { Some(&lookup) } else { None },
        takes: &|_| true,
    };
    let mut found: Findings = here.read(&tree, object)?;
    here.cover_folder(&folder, true);
    found.problems.extend(problems);
    Ok(found)
}

/// The variables of `postBuild`; none if nothing is substituted.
fn substitutes(
    here: &mut Here<'_>,
    object: &Held,
    last: bool,
    problems: &mut Vec<Problem>,
) -> Result<Option<BTreeMap<String, String>>, Halt> {
    let mut all = BTreeMap::new();
    if object.at("spec.postBuild").is_none() {
        return Ok(None);
    }
    for (entry, path) in object.items("spec.postBuild.substituteFrom") {
        let text = |key: &str| entry.get(key).and_then(Node::as_str).unwrap_or_default();
        let (kind, name) = (text("kind"), text("name"));
        let found = here.shelf.find("", kind, object.namespace(), name).cloned();
        if let Some(found) = &found {
            here.consume(found, None);
        }
        match &found {
            Some(found) => {
                let keys = ["data", "stringData"].iter().filter_map(|m| at(&found.node, m)?.as_map());
                for key in keys.flat_map(|m| m.keys()) {
                    match data(found, key) {
                        Ok(value) => drop(all.insert(key.clone(), value)),
                        Err(missing) => problems.push(object.gap(&path, missing.told(kind, name, key))),
                    }
                }
            }
            None if !last => return Err(Halt::Wait),
            None if entry.get("optional").and_then(Node::as_bool) == Some(true) => {}
            None => problems.push(object.gap(
                &path,
                format!(
                    "the {kind} {name} is not in the input, so that its variables are not known; give the file with it, or \
                     each: --variable NAME=VALUE"
                ),
            )),
        }
    }
    let own = object.at("spec.postBuild.substitute").and_then(Node::as_map).into_iter().flatten();
    all.extend(own.filter_map(|(k, v)| Some((k.clone(), scalar(v)?))));
    all.extend(here.scope.variables.iter().map(|(k, v)| (k.clone(), v.clone())));
    Ok(Some(all))
}

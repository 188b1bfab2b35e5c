//! Hauler's manifests: `Images`, `Charts` and `Files` (content.hauler.cattle.io) and the older `ImageTxts` and
//! `ThickCharts` (collection.hauler.cattle.io). Fields: github.com/hauler-dev/hauler, `pkg/apis/hauler.cattle.io`.

use std::path::Path;

use super::super::held::{Held, scalar};
use super::super::{Findings, Severity, SourceName, input, list, rules};
use super::release::Release;
use super::{Here, Step, lead, place};
use crate::chart::fetch::ChartSource;
use crate::chart::{RenderOptions, ValuesInput};
use crate::oci::Platform;
use crate::yaml::Node;

pub(super) fn content(here: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    match object.kind.as_str() {
        "Images" => Ok(images(object)),
        "Charts" | "ThickCharts" => charts(here, object),
        "ImageTxts" => lists(here, object),
        // Files of all sorts, none of them an image.
        "Files" => Ok(Findings::default()),
        other => Err(object
            .gap("", format!("omk does not know what hauler's {other} holds; list its images"))
            .into()),
    }
}

/// An annotation, which stands for all entries of the object.
fn annotation<'o>(object: &'o Held, name: &str) -> Option<&'o str> {
    object.node.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

fn images(object: &Held) -> Findings {
    let mut found = Findings::default();
    for (entry, path) in object.items("spec.images") {
        let field = format!("{path}.name");
        let Some(node) = entry.get("name").filter(|n| n.as_str().is_some_and(|s| !s.is_empty())) else {
            found.problems.push(object.gap(&path, "it names no image"));
            continue;
        };
        let text = node.as_str().unwrap_or_default();
        let registry = annotation(object, "hauler.dev/registry").map(|r| r.trim_end_matches('/'));
        // The registry of the annotation is for names without one of their own.
        let own =
            text.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
        let full = match registry {
            Some(registry) if !own => format!("{registry}/{text}"),
            _ => text.to_owned(),
        };
        match object.image(&full, node, &field, &rules::HAULER_IMAGE) {
            Ok(finding) => found.findings.push(finding),
            Err(problem) => found.problems.push(*problem),
        }
        if let Some(platform) = entry.get("platform").and_then(Node::as_str).filter(|p| !p.is_empty())
            && let Err(error) = platform.parse::<Platform>()
        {
            found.problems.push(object.problem(
                Severity::Warning,
                &format!("{path}.platform"),
                error.to_string(),
            ));
        }
    }
    found
}

fn charts(here: &mut Here<'_>, object: &Held) -> Step {
    let mut found = Findings::default();
    for (entry, path) in object.items("spec.charts") {
        // A thick chart has the chart's fields one level down.
        let entry = entry.get("chart").unwrap_or(entry);
        match chart(here, object, entry, &path) {
            Ok(part) => found.merge(part),
            Err(super::Halt::Problem(problem)) => found.problems.push(*problem),
            Err(other) => return Err(other),
        }
        let extra = entry.get("extraImages").and_then(Node::as_seq).unwrap_or_default();
        for (i, node) in extra.iter().enumerate() {
            let field = format!("{path}.extraImages[{i}].ref");
            let text = node.get("ref").and_then(Node::as_str).unwrap_or_default();
            match object.image(text, node, &field, &rules::HAULER_IMAGE) {
                Ok(finding) => found.findings.push(finding),
                Err(problem) => found.problems.push(*problem),
            }
        }
    }
    Ok(found)
}

fn chart(here: &mut Here<'_>, object: &Held, entry: &Node, path: &str) -> Step {
    let text = |key: &str| entry.get(key).and_then(scalar).unwrap_or_default();
    let (name, repo, version) = (text("name"), text("repoURL"), text("version"));
    let gap = |reason: String| object.gap(path, reason);
    let folder = folder_of(&object.source);
    let wanted = if repo.is_empty() || repo == "." {
        match (&folder, name.strip_prefix("oci://")) {
            (_, Some(_)) => ChartSource::parse(&name, None, &version),
            (Some(folder), None) => Ok(ChartSource::Path(folder.join(&name))),
            (None, None) => return Err(gap(format!("{name:?} has no repoURL")).into()),
        }
    } else if repo.starts_with("oci://") {
        ChartSource::parse(&format!("{}/{name}", repo.trim_end_matches('/')), None, &version)
    } else if let (Some(folder), None) = (&folder, repo.split_once("://")) {
        Ok(ChartSource::Path(folder.join(&repo).join(&name)))
    } else {
        ChartSource::parse(&name, Some(&repo), &version)
    };
    let wanted = wanted.map_err(|e| gap(e.to_string()))?;
    let (chart, shown) = here.chart(object, path, &wanted, &[repo, name.clone()])?;
    let mut values = ValuesInput::default();
    for file in entry.get("valuesFiles").and_then(Node::as_seq).into_iter().flatten().filter_map(scalar) {
        let Some(folder) = &folder else {
            return Err(gap(format!("{file} is beside a file, and this is none")).into());
        };
        values.files.push((file.clone(), place::read(&folder.join(&file)).map_err(gap)?));
    }
    let release = Release {
        chart: &chart,
        place: &shown,
        options: RenderOptions { release_name: name, values, ..here.options.clone() },
        overlays: Vec::new(),
    };
    here.read(&release, object)
}

/// Lists of images in files beside the manifest.
fn lists(here: &mut Here<'_>, object: &Held) -> Step {
    let mut found = Findings::default();
    for (entry, path) in object.items("spec.imageTxts") {
        let reference = entry.get("ref").and_then(Node::as_str).unwrap_or_default();
        let folder =
            folder_of(&object.source).filter(|_| !reference.contains("://") && !reference.is_empty());
        let Some(folder) = folder else {
            let command = format!("curl -fLO {}", place::word(reference));
            found.problems.push(object.gap(
                &path,
                format!("the list {reference} is not fetched; where it can be reached: {command}; then name it as a source"),
            ));
            continue;
        };
        let place = folder.join(reference);
        match input::read_file(&place, here.scope) {
            Ok(text) => {
                let mut part = list::read(&text, &SourceName::File { path: place });
                let texts = |key: &str| -> Vec<String> {
                    entry
                        .get("sources")
                        .and_then(|s| s.get(key))
                        .and_then(Node::as_seq)
                        .into_iter()
                        .flatten()
                        .filter_map(scalar)
                        .collect()
                };
                keep(&mut part, &texts("include"), &texts("exclude"));
                lead(&mut part, &object.chain());
                found.merge(part);
            }
            Err(error) => found.problems.push(object.gap(&path, error.to_string())),
        }
    }
    Ok(found)
}

/// Leaves what one of `include` is a part of, if there are any, and none of `exclude` is.
fn keep(found: &mut Findings, include: &[String], exclude: &[String]) {
    found.findings.retain(|f| {
        let name = f.image.to_string();
        let any = |parts: &[String]| parts.iter().any(|p| name.contains(p.as_str()));
        (include.is_empty() || any(include)) && !any(exclude)
    });
}

/// The folder that a document's file is in.
pub(super) fn folder_of(source: &SourceName) -> Option<std::path::PathBuf> {
    let SourceName::File { path } = source.inner() else { return None };
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".").to_owned() } else { parent.to_owned() })
}

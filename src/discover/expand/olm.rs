//! Operator Lifecycle Manager: `ClusterServiceVersion` and `CatalogSource` (operators.coreos.com). Fields:
//! github.com/operator-framework/api, `pkg/operators/v1alpha1`.

use serde_json::json;

use super::super::held::{Held, at};
use super::super::{Findings, Rule, rules, scan};
use super::{Here, Step};
use crate::kustomize::tree;
use crate::yaml::Node;

/// An operator's version: the images that it lists, and those of the deployments that it installs.
pub(super) fn version(_: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let mut found = Findings::default();
    for (entry, path) in object.items("spec.relatedImages") {
        one(object, entry.get("image"), &format!("{path}.image"), &rules::RELATED_IMAGE, &mut found);
    }
    let annotation = object.node.get("metadata").and_then(|m| m.get("annotations"));
    let annotation = annotation.and_then(|a| a.get("containerImage"));
    one(object, annotation, "metadata.annotations.containerImage", &rules::OPERATOR_IMAGE, &mut found);
    // Deployments and jobs of the install strategy, each as the object that it becomes.
    for (list, kind, group) in [("deployments", "Deployment", "apps/v1"), ("jobs", "Job", "batch/v1")] {
        for (entry, path) in object.items(&format!("spec.install.spec.{list}")) {
            let Some(spec) = entry.get("spec") else { continue };
            let made = json!({
                "apiVersion": group,
                "kind": kind,
                "metadata": {"name": entry.get("name").map(tree), "namespace": object.namespace()},
                "spec": tree(spec),
            });
            let mut part = scan(&made.to_string(), &object.source);
            let place = |field: &Option<String>| {
                let node = field.as_deref().and_then(|f| at(entry, f)).unwrap_or(entry);
                let path = match field {
                    Some(field) => format!("{path}.{field}"),
                    None => path.clone(),
                };
                (object.line(node), object.document, Some(object.field(&path)))
            };
            for origin in part.origins_mut() {
                (origin.line, origin.document, origin.field) = place(&origin.field);
                origin.column = None;
            }
            for problem in &mut part.problems {
                (problem.line, problem.document, problem.field) = place(&problem.field);
                problem.column = None;
            }
            part.documents = Default::default();
            found.merge(part);
        }
    }
    Ok(found)
}

/// The image that serves a catalogue.
pub(super) fn catalog(_: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let mut found = Findings::default();
    one(object, object.at("spec.image"), "spec.image", &rules::CATALOG_SOURCE, &mut found);
    Ok(found)
}

fn one(object: &Held, node: Option<&Node>, path: &str, rule: &'static Rule, found: &mut Findings) {
    let Some(node) = node.filter(|n| !n.is_null() && n.as_str() != Some("")) else { return };
    let Some(text) = node.as_str() else {
        found.problems.push(object.gap(path, "an image is a string; put it in quotes"));
        return;
    };
    match object.image(text, node, path, rule) {
        Ok(finding) => found.findings.push(finding),
        Err(problem) => found.problems.push(*problem),
    }
}

//! Operator Lifecycle Manager: `ClusterServiceVersion`, `CatalogSource` and `Subscription` (operators.coreos.com). Fields:
//! github.com/operator-framework/api, `pkg/operators/v1alpha1`.

use serde_json::json;

use super::super::held::{Held, at};
use super::super::{Findings, Rule, rules, scan};
use super::{Halt, Here, Step};
use crate::kustomize::tree;
use crate::yaml::Node;

const GROUP: &str = "operators.coreos.com";

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

/// An operator that a cluster takes from a catalogue: only its version says which images that brings.
pub(super) fn subscription(here: &mut Here<'_>, object: &Held, last: bool) -> Step {
    let package = object.text("spec.name").unwrap_or(object.name());
    let starting = object.text("spec.startingCSV");
    let installed = object.text("status.installedCSV").or(object.text("status.currentCSV"));
    let given = here.shelf.of_kind(GROUP, "ClusterServiceVersion").any(|version| {
        let name = version.name();
        match installed.or(starting) {
            Some(wanted) => name == wanted,
            // By custom `package.v1.2.3`.
            None => name.strip_prefix(package).is_some_and(|rest| rest.starts_with('.')),
        }
    });
    if given {
        return Ok(Findings::default());
    }
    if !last {
        return Err(Halt::Wait);
    }
    let catalogue = object.text("spec.source").unwrap_or("a catalogue");
    let which = installed.or(starting).map(|name| format!("{name} ")).unwrap_or_default();
    let space = object.namespace().unwrap_or("NAMESPACE");
    let reason = format!(
        "the operator {package} comes from {catalogue}, which says which images it needs: they are not known here; give its \
         ClusterServiceVersion too, from the manifests folder of its bundle or, where it is installed: kubectl get csv \
         {which}-n {space} -o yaml"
    );
    Err(object.gap("", reason).into())
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

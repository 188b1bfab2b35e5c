//! Namespaces, names, labels and annotations. Patches find objects by them, and go on where they were put.

use std::collections::BTreeMap;

use super::object::{Object, is_cluster_wide};
use crate::chart::Tree;

pub(super) fn set_namespace(objects: &mut [Object], namespace: &str) {
    if namespace.is_empty() {
        return;
    }
    for object in objects {
        let id = object.id();
        // The namespace itself is called so, too.
        if id.kind == "Namespace" && id.group.is_empty() {
            object.rename("name", namespace.to_owned());
        } else if !is_cluster_wide(&id) {
            object.rename("namespace", namespace.to_owned());
        }
    }
}

pub(super) fn set_names(objects: &mut [Object], prefix: &str, suffix: &str) {
    if prefix.is_empty() && suffix.is_empty() {
        return;
    }
    for object in objects {
        let id = object.id();
        if !matches!(id.kind.as_str(), "CustomResourceDefinition" | "APIService" | "Namespace") {
            object.rename("name", format!("{prefix}{}{suffix}", id.name));
        }
    }
}

/// Where labels and annotations go beside the metadata of the object itself, whether there is something yet or not.
const TEMPLATES: [(&str, &[&str]); 7] = [
    ("ReplicationController", &["/spec/template"]),
    ("Deployment", &["/spec/template"]),
    ("ReplicaSet", &["/spec/template"]),
    ("DaemonSet", &["/spec/template"]),
    ("StatefulSet", &["/spec/template"]),
    ("Job", &["/spec/template"]),
    ("CronJob", &["/spec/jobTemplate", "/spec/jobTemplate/spec/template"]),
];

/// Adds `pairs` to the `field` (labels, annotations) of every object and, if asked to, of the pods that it makes.
pub(super) fn add(objects: &mut [Object], field: &str, pairs: &BTreeMap<String, Tree>, within: bool) {
    if pairs.is_empty() {
        return;
    }
    for object in objects {
        let kind = object.id().kind;
        add_to(&mut object.value, field, pairs);
        let places = TEMPLATES.iter().find(|(k, _)| within && *k == kind).map_or(&[][..], |(_, p)| p);
        for place in places {
            let mut at = &mut object.value;
            for word in place.split('/').skip(1) {
                at = child(at, word);
            }
            add_to(at, field, pairs);
        }
    }
}

fn add_to(value: &mut Tree, field: &str, pairs: &BTreeMap<String, Tree>) {
    if let Tree::Object(there) = child(child(value, "metadata"), field) {
        there.extend(pairs.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

/// The mapping at `key`, made where there is none.
fn child<'a>(value: &'a mut Tree, key: &str) -> &'a mut Tree {
    if !value.is_object() {
        *value = Tree::Object(Default::default());
    }
    let child = &mut value[key];
    if child.is_null() {
        *child = Tree::Object(Default::default());
    }
    child
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_called_as_it_is_set() {
        let object = |kind: &str| Object {
            value: serde_json::json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "system"}}),
            origin: "".into(),
            before: Vec::new(),
        };
        let mut objects = [object("Namespace"), object("Service"), object("Node")];
        set_namespace(&mut objects, "shop");
        let places = objects.each_ref().map(|o| o.value["metadata"].to_string());
        let expected =
            [r#"{"name":"shop"}"#, r#"{"name":"system","namespace":"shop"}"#, r#"{"name":"system"}"#];
        assert_eq!(places, expected);
        assert!(objects[0].ids().any(|id| id.name == "system"), "patches may still say so");
    }

    #[test]
    fn what_pods_are_made_of_is_labelled_too() {
        let object = |value| Object { value, origin: "".into(), before: Vec::new() };
        let pairs = BTreeMap::from([("a".to_owned(), Tree::from("b"))]);
        let run = |value, within| {
            let mut objects = [object(value)];
            add(&mut objects, "labels", &pairs, within);
            objects[0].value.clone()
        };
        let labels = serde_json::json!({"labels": {"a": "b"}});
        let made = run(serde_json::json!({"kind": "Deployment"}), true);
        assert_eq!(made["metadata"], labels);
        assert_eq!(made["spec"]["template"]["metadata"], labels);
        assert_eq!(run(serde_json::json!({"kind": "Deployment"}), false).get("spec"), None);
        let service = run(serde_json::json!({"kind": "Service", "spec": {}}), true);
        assert_eq!(service["spec"], serde_json::json!({}));
    }
}

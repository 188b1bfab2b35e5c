//! `ValueAddTransformer`: one text put into many places, whole or as a part of a path.

use std::path::Path;

use super::file::Selector;
use super::object::Object;
use super::patch::Matcher;
use super::{metadata, replace};
use crate::chart::Tree;

/// What the transformer is told.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ValueAdd {
    value: String,
    pub(super) targets: Vec<Target>,
    /// A file with further targets.
    pub(super) target_file_path: Option<String>,
}

/// Where the value goes.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Target {
    selector: Option<Selector>,
    /// Steps are set apart by `/`.
    field_path: String,
    /// Counted from 1: where in the path that the field holds the value becomes a part; 0 replaces the field.
    file_path_position: usize,
}

/// Does it to `objects`; a value that is not given is the name of the `root` that lists the transformer.
pub(super) fn apply(objects: &mut [Object], add: &ValueAdd, root: &Path) -> Result<(), String> {
    let own = || root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let value = Some(add.value.trim()).filter(|v| !v.is_empty()).map_or_else(own, str::to_owned);
    if add.targets.is_empty() {
        return Err("a ValueAddTransformer needs a target".into());
    }
    for target in &add.targets {
        let select = target.selector.as_ref().map(Matcher::new).transpose()?;
        if target.field_path.is_empty() {
            return Err("a target of a ValueAddTransformer needs a fieldPath".into());
        }
        let path = replace::parse_slashes(&target.field_path)?;
        for object in objects.iter_mut().filter(|o| select.as_ref().is_none_or(|s| s.fits(o))) {
            if target.field_path == "metadata/namespace" {
                metadata::set_namespace(std::slice::from_mut(object), &value);
                continue;
            }
            let old = object.id();
            let mut is_text = true;
            replace::walk(&mut object.value, &path, true, &mut |place| match replace::text_of(place) {
                Some(now) => *place = Tree::String(placed(&now, &value, target.file_path_position)),
                None => is_text = false,
            });
            if !is_text {
                return Err(format!("{} of {} {} is no text", target.field_path, old.kind, old.name));
            }
            if object.id() != old {
                object.before.push(old);
            }
        }
    }
    Ok(())
}

/// `value` as part number `position` of the path `now`; beyond its end, the last one.
fn placed(now: &str, value: &str, position: usize) -> String {
    let Some(index) = position.checked_sub(1) else { return value.to_owned() };
    let (root, rest) = now.strip_prefix('/').map_or(("", now), |rest| ("/", rest));
    let mut parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    parts.insert(index.min(parts.len()), value);
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_has_its_place() {
        for (now, position, expected) in [
            ("", 3, "x"),
            ("/", 1, "/x"),
            ("a", 0, "x"),
            ("a", 1, "x/a"),
            ("/a", 1, "/x/a"),
            ("/a", 9, "/a/x"),
            ("a/b/c", 3, "a/b/x/c"),
        ] {
            assert_eq!(placed(now, "x", position), expected, "{now} {position}");
        }
    }

    #[test]
    fn the_value_goes_where_targets_say() {
        let yaml = serde_json::json!({
            "targets": [
                {"fieldPath": "metadata/namespace"},
                {"selector": {"kind": "Pod"}, "fieldPath": "spec/containers/[name=a]/image", "filePathPosition": 2},
                {"selector": {"kind": "Job"}, "fieldPath": "metadata/annotations/a.b\\/c"},
            ]
        });
        let add: ValueAdd = serde_json::from_value(yaml).unwrap();
        let object = |value| Object { value, origin: "".into(), before: Vec::new() };
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a", "image": "quay.io/web:1"}]}});
        let job = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}});
        let mut objects = [object(pod), object(job)];
        apply(&mut objects, &add, Path::new("/somewhere/dog-222")).unwrap();
        assert_eq!(objects[0].value["spec"]["containers"][0]["image"], "quay.io/dog-222/web:1");
        assert_eq!(objects[0].id().namespace, "dog-222");
        assert_eq!(objects[1].value["metadata"]["annotations"]["a.b/c"], "dog-222");
        let list = serde_json::json!({"targets": [{"fieldPath": "metadata"}]});
        let add: ValueAdd = serde_json::from_value(list).unwrap();
        assert!(apply(&mut objects, &add, Path::new("x")).is_err());
    }
}

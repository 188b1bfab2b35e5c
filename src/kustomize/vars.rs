//! `vars`: `$(NAME)` in commands, arguments and environments, and wherever a configuration says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::KustomizeError;
use super::file::{FieldSpec, Var};
use super::images::at;
use super::object::Object;
use crate::chart::Tree;

/// What one kustomization says about variables.
#[derive(Debug)]
pub(super) struct Vars {
    pub(super) file: PathBuf,
    pub(super) vars: Vec<Var>,
    pub(super) places: Vec<FieldSpec>,
}

/// Fields of a container in which Kustomize looks without being told.
const PLACES: [&str; 3] = ["args", "command", "env[]/value"];
const PODS: [&str; 3] = ["spec", "spec/template/spec", "spec/jobTemplate/spec/template/spec"];

/// Puts the values of all variables where they are used, once everything is accumulated.
pub(super) fn substitute(objects: &mut [Object], all: &[Vars]) -> Result<(), KustomizeError> {
    let mut values = BTreeMap::new();
    for level in all {
        for var in &level.vars {
            let value =
                value(objects, var).map_err(|r| KustomizeError::new(&level.file, format!("vars: {r}")))?;
            values.insert(var.name.clone(), value);
        }
    }
    if values.is_empty() {
        return Ok(());
    }
    for object in objects {
        let id = object.id();
        let mut expand = |place: &mut Tree| {
            if let Tree::String(text) = place {
                *text = expanded(text, &values);
            }
        };
        for pod in PODS {
            for list in ["containers", "initContainers"] {
                for place in PLACES {
                    at(&mut object.value, &format!("{pod}/{list}/{place}"), &mut expand);
                }
            }
        }
        for place in all.iter().flat_map(|v| &v.places).filter(|p| p.fits(&id)) {
            at(&mut object.value, &place.path, &mut expand);
        }
    }
    Ok(())
}

fn value(objects: &[Object], var: &Var) -> Result<String, String> {
    let want = &var.objref;
    let (group, version) = match want.api_version.split_once('/') {
        Some(pair) => pair,
        None if want.api_version.is_empty() => (want.group.as_str(), want.version.as_str()),
        None => ("", want.api_version.as_str()),
    };
    let fits = |want: &str, have: &str| want.is_empty() || want == have;
    let object = objects.iter().find(|o| {
        o.ids().any(|id| {
            id.kind == want.kind
                && id.name == want.name
                && fits(group, &id.group)
                && fits(version, &id.version)
                && fits(&want.namespace, &id.namespace)
        })
    });
    let object = object.ok_or_else(|| format!("{}: there is no {} {}", var.name, want.kind, want.name))?;
    let path = [&var.fieldref.fieldpath, &var.fieldref.field_path].into_iter().find(|p| !p.is_empty());
    let path = path.map_or("metadata.name", String::as_str);
    let mut at = &object.value;
    for word in path.replace('[', ".").replace(']', "").split('.').filter(|w| !w.is_empty()) {
        let next = match at {
            Tree::Array(items) => word.parse::<usize>().ok().and_then(|i| items.get(i)),
            other => other.get(word),
        };
        at = next.ok_or_else(|| format!("{}: {} {} has no field {path}", var.name, want.kind, want.name))?;
    }
    Ok(at.as_str().map_or_else(|| at.to_string(), str::to_owned))
}

/// `$(NAME)` is replaced where NAME is known; `$$(NAME)` stands for itself.
fn expanded(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, after) = rest.split_at(at);
        let Some(end) = after.find(')') else { break };
        out += before;
        match values.get(&after[2..end]) {
            Some(value) if !before.ends_with('$') => out += value,
            _ => out += &after[..=end],
        }
        rest = &after[end + 1..];
    }
    out + rest
}

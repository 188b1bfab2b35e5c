//! ConfigMaps and Secrets from literals, files and environment files.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, json};

use super::KustomizeError;
use super::file::DataArgs;
use super::load::Loader;
use super::object::Object;
use crate::chart::Tree;

/// The object that a generator makes. An error without a file is about the generator itself.
pub(super) fn data(
    loader: &mut Loader<'_>,
    folder: &Path,
    args: &DataArgs,
    kind: &str,
) -> Result<Object, KustomizeError> {
    let fail = |reason: String| KustomizeError::new("", format!("{kind} generator {}: {reason}", args.name));
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    for path in args.envs.iter().chain(&args.env) {
        let path = folder.join(path);
        let text = loader.text(folder, &path)?;
        for line in text.trim_start_matches('\u{feff}').lines().map(str::trim_start) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // A name alone stands for a variable of the environment, which a build must not depend on.
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            pairs.push((key.to_owned(), value.as_bytes().to_vec()));
        }
    }
    for entry in &args.files {
        let (key, path) = match entry.split_once('=') {
            Some((key, path)) => (key.to_owned(), path),
            None => {
                let name = Path::new(entry).file_name().map(|n| n.to_string_lossy().into_owned());
                (name.unwrap_or_default(), entry.as_str())
            }
        };
        pairs.push((key, loader.bytes(folder, &folder.join(path))?));
    }
    for literal in &args.literals {
        let (key, value) =
            literal.split_once('=').ok_or_else(|| fail(format!("literal {literal:?} has no =")))?;
        let quoted = |q: char| value.len() > 1 && value.starts_with(q) && value.ends_with(q);
        let value = if quoted('"') || quoted('\'') { &value[1..value.len() - 1] } else { value };
        pairs.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in pairs {
        match String::from_utf8(bytes) {
            Ok(text) if kind == "ConfigMap" => data.insert(key, Tree::String(text)),
            Ok(text) => data.insert(key, Tree::String(STANDARD.encode(text))),
            Err(e) if kind == "ConfigMap" => {
                binary.insert(key, Tree::String(STANDARD.encode(e.into_bytes())))
            }
            Err(e) => data.insert(key, Tree::String(STANDARD.encode(e.into_bytes()))),
        };
    }
    let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": args.name}});
    if !args.namespace.is_empty() {
        value["metadata"]["namespace"] = Tree::String(args.namespace.clone());
    }
    if !data.is_empty() {
        value["data"] = Tree::Object(data);
    }
    if !binary.is_empty() {
        value["binaryData"] = Tree::Object(binary);
    }
    Ok(Object { value, origin: "".into(), before: Vec::new() })
}

/// Adds what was made to what is there, or merges it into the object of that name.
pub(super) fn absorb(
    objects: &mut Vec<Object>,
    made: Object,
    behavior: &str,
    file: &Path,
) -> Result<(), String> {
    let made = Object { origin: file.into(), ..made };
    if !matches!(behavior, "merge" | "replace") {
        objects.push(made);
        return Ok(());
    }
    let id = made.id();
    let there = objects.iter_mut().find(|o| o.ids().any(|i| i.is(&id)));
    let there =
        there.ok_or_else(|| format!("{} {} is not there, so it cannot be {behavior}d", id.kind, id.name))?;
    for field in ["data", "binaryData"] {
        let new = made.value.get(field).cloned();
        let Tree::Object(map) = &mut there.value else { continue };
        match (map.get_mut(field), new) {
            (Some(Tree::Object(old)), Some(Tree::Object(new))) if behavior == "merge" => old.extend(new),
            (_, Some(new)) => {
                map.insert(field.into(), new);
            }
            (_, None) if behavior == "replace" => {
                map.remove(field);
            }
            _ => {}
        }
    }
    Ok(())
}

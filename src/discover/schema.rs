//! What `CustomResourceDefinition`s say about images. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::like::{self, Name, words_of};
use super::rules::words;
use super::tree::Step;
use crate::yaml::Node;

/// Levels of a schema.
const MAX_DEPTH: usize = 60;
/// Image fields of one definition.
const MAX_FIELDS: usize = 5_000;

/// A step of the way to a field in a schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Key(String),
    AnyKey,
    Item,
}

/// The fields that are images, by group and kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schemas {
    fields: BTreeMap<(String, String), BTreeSet<Vec<Part>>>,
}

/// A default image that a definition gives.
pub(super) struct DefaultImage<'a> {
    pub(super) node: &'a Node,
    pub(super) field: String,
    pub(super) key: &'a str,
}

impl Schemas {
    pub(super) fn merge(&mut self, other: Self) {
        for (kind, fields) in other.fields {
            self.fields.entry(kind).or_default().extend(fields);
        }
    }

    /// Whether some definition says that the field is an image.
    pub(super) fn has(&self, group: &str, kind: &str, field: &[Part]) -> bool {
        let same = |known: &Vec<Part>| {
            known.len() == field.len()
                && known.iter().zip(field).all(|(k, f)| match (k, f) {
                    (Part::AnyKey, Part::Key(_)) => true,
                    _ => k == f,
                })
        };
        self.fields.get(&(group.to_owned(), kind.to_owned())).is_some_and(|all| all.iter().any(same))
    }

    /// Takes in a definition of either version; gives the defaults of image fields.
    pub(super) fn read<'a>(&mut self, definition: &'a Node) -> Vec<DefaultImage<'a>> {
        let Some(spec) = definition.get("spec") else { return Vec::new() };
        let text = |node: Option<&'a Node>| node.and_then(Node::as_str).unwrap_or_default();
        let kind = text(spec.get("names").and_then(|n| n.get("kind")));
        let key = (text(spec.get("group")).to_owned(), kind.to_owned());
        let mut walk = Walk { way: Vec::new(), fields: BTreeSet::new(), defaults: Vec::new() };
        let versions = spec.get("versions").and_then(Node::as_seq).unwrap_or_default();
        let old = spec.get("validation").map(|v| (v, "spec.validation".to_owned()));
        let new = versions
            .iter()
            .enumerate()
            .filter_map(|(i, v)| Some((v.get("schema")?, format!("spec.versions[{i}].schema"))));
        for (holder, at) in new.chain(old) {
            if let Some(schema) = holder.get("openAPIV3Schema") {
                walk.schema(schema, "", &format!("{at}.openAPIV3Schema"));
            }
        }
        self.fields.entry(key).or_default().extend(walk.fields);
        walk.defaults
    }
}

struct Walk<'a> {
    way: Vec<Part>,
    fields: BTreeSet<Vec<Part>>,
    defaults: Vec<DefaultImage<'a>>,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, schema: &'a Node, key: &'a str, at: &str) {
        if self.way.len() > MAX_DEPTH || self.fields.len() >= MAX_FIELDS {
            return;
        }
        let string = schema.get("type").and_then(Node::as_str) == Some("string");
        if string && says_image(key, schema.get("description").and_then(Node::as_str).unwrap_or_default()) {
            self.fields.insert(self.way.clone());
            if let Some(node) = schema.get("default").filter(|d| d.as_str().is_some()) {
                self.defaults.push(DefaultImage { node, field: format!("{at}.default"), key });
            }
        }
        for (name, below) in schema.get("properties").and_then(Node::as_map).into_iter().flatten() {
            self.way.push(Part::Key(name.clone()));
            // The place is only told of defaults, which are few; most schemas are walked without any.
            self.schema(below, name, &format!("{at}.properties.{name}"));
            self.way.pop();
        }
        for (name, part) in [("items", Part::Item), ("additionalProperties", Part::AnyKey)] {
            if let Some(below) = schema.get(name).filter(|n| n.as_map().is_some()) {
                self.way.push(part);
                self.schema(below, key, &format!("{at}.{name}"));
                self.way.pop();
            }
        }
    }
}

/// Whether a field holds an image by its name or by its description.
fn says_image(key: &str, description: &str) -> bool {
    match like::name(key) {
        Name::Is => return true,
        Name::Mentions => return !["imageid", "imagelist"].contains(&key.to_ascii_lowercase().as_str()),
        Name::Silent => {}
    }
    let description = description.to_ascii_lowercase();
    let says = ["container image", "docker image", "oci image", "image reference"]
        .iter()
        .any(|w| description.contains(w));
    let last = words_of(key).pop().unwrap_or_default();
    says && !words::NO_IMAGE_WORDS.contains(&last.as_str()) && last != "name"
}

/// The way to a value, in the terms of schemas.
pub(super) fn way(steps: &[Step<'_>]) -> Vec<Part> {
    let part = |step: &Step<'_>| match step {
        Step::Key(key) => Part::Key((*key).to_owned()),
        Step::Index(_) | Step::Named(_) => Part::Item,
    };
    steps.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Limits, parse_one};

    #[test]
    fn names_and_descriptions_say_image() {
        assert!(says_image("image", "") && says_image("sidecarImage", "") && says_image("imageName", ""));
        assert!(says_image("runtime", "The container image to use for the runtime."));
        assert!(!says_image("imagePullPolicy", "Policy for pulling the container image"));
        assert!(!says_image("tag", "Tag of the container image") && !says_image("name", "container image"));
    }

    #[test]
    fn definitions_of_both_versions_are_read() {
        let yaml = "
spec:
  group: example.org
  names: {kind: App}
  versions:
  - schema:
      openAPIV3Schema:
        properties:
          spec:
            properties:
              runtime: {type: string, description: the container image to run, default: 'a/b:1'}
              parts: {type: array, items: {properties: {image: {type: string}}}}
              named: {additionalProperties: {properties: {image: {type: string}}}}
              size: {type: integer}
";
        let node = parse_one(yaml, &Limits::default()).unwrap();
        let mut schemas = Schemas::default();
        let defaults = schemas.read(&node);
        assert_eq!(
            defaults[0].field,
            "spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.runtime.default"
        );
        let has = |steps: &[Step<'_>]| schemas.has("example.org", "App", &way(steps));
        use Step::{Index, Key};
        assert!(has(&[Key("spec"), Key("runtime")]));
        assert!(has(&[Key("spec"), Key("parts"), Index(3), Key("image")]));
        assert!(has(&[Key("spec"), Key("named"), Key("x"), Key("image")]));
        assert!(!has(&[Key("spec"), Key("size")]) && !has(&[Key("spec"), Key("image")]));
        let old = "spec: {group: g, names: {kind: K}, validation: {openAPIV3Schema: {properties: {image: {type: string}}}}}";
        schemas.read(&parse_one(old, &Limits::default()).unwrap());
        assert!(schemas.has("g", "K", &way(&[Key("image")])));
    }
}

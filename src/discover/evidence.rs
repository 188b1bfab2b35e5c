//! Evidence beside the images of pod specs: variables, arguments, annotations, configuration, custom resources.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rules::known::{self, At};
use super::rules::{self, Rule, words};
use super::schema::Part;
use super::tree::{self, Hit, How, Kind, Step};
use super::walk::{Object, Walk, join};
use super::{Finding, Origin, like, running};
use crate::oci::ImageRef;
use crate::yaml::{Node, Value};

/// A field of a custom resource that is an image if some definition in the input says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) group: String,
    pub(super) way: Vec<Part>,
    pub(super) finding: Finding,
}

impl Walk<'_> {
    /// What a pod's spec says beside its images; `path` leads to the spec, `template` to the object around it.
    pub(super) fn pod_evidence(&mut self, spec: &Node, path: &str, object: &Object<'_>) {
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            let items = spec.get(list).and_then(Node::as_seq).unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                for key in ["env", "command", "args"] {
                    let Some(node) = item.get(key) else { continue };
                    let steps = vec![Step::Key(list), Step::Index(index), Step::Key(key)];
                    let mut walk = tree::Walk::new(Kind::Config, steps);
                    walk.value(node, key);
                    let rule = if key == "env" { &rules::ENV } else { &rules::ARG };
                    self.take(walk, path, object, |_| rule);
                }
            }
        }
    }

    /// The digests under which a node runs what a pod names by tag.
    pub(super) fn running(&mut self, root: &Node, path: &str, object: &Object<'_>) {
        for (image, field, node) in running::digests(root) {
            let hit = Hit::at(node, image, field, How::Field);
            self.add(vec![hit], path, object, |_| &rules::RUNNING_DIGEST);
        }
    }

    /// The annotations in `metadata`, to which `path` leads.
    pub(super) fn annotations(&mut self, metadata: Option<&Node>, path: &str, object: &Object<'_>) {
        let Some(all) = metadata.and_then(|m| m.get("annotations")).and_then(Node::as_map) else { return };
        for (key, node) in all {
            if words::NO_ANNOTATIONS.contains(&key.as_str()) || node.as_str().is_none() {
                continue;
            }
            let mut walk = tree::Walk::new(Kind::Config, vec![Step::Key("annotations"), Step::Key(key)]);
            walk.value(node, key);
            self.take(walk, path, object, |_| &rules::ANNOTATION);
        }
    }

    pub(super) fn config_map(&mut self, root: &Node, path: &str, object: &Object<'_>) {
        if let Some(data) = root.get("data") {
            let mut walk = tree::Walk::new(Kind::Config, vec![Step::Key("data")]);
            walk.value(data, "data");
            self.take(walk, path, object, |_| &rules::CONFIG);
        }
    }

    pub(super) fn secret(&mut self, root: &Node, path: &str, object: &Object<'_>) {
        let kind = root.get("type").and_then(Node::as_str).unwrap_or_default();
        if words::NO_SECRETS.contains(&kind) {
            return;
        }
        for (key, encoded) in [("data", true), ("stringData", false)] {
            let Some(node) = root.get(key) else { continue };
            let plain;
            let node = if encoded {
                plain = decoded(node);
                &plain
            } else {
                node
            };
            let mut walk = tree::Walk::new(Kind::Config, vec![Step::Key(key)]);
            walk.value(node, key);
            self.take(walk, path, object, |_| &rules::CONFIG);
        }
    }

    pub(super) fn definition(&mut self, root: &Node, path: &str, object: &Object<'_>) {
        let mut schemas = std::mem::take(&mut self.out.schemas);
        for default in schemas.read(root) {
            let Some(text) = default.node.as_str() else { continue };
            let Some(shape) = like::judge(text, like::name(default.key)) else { continue };
            let hit = Hit::at(default.node, shape.image, default.field, How::Field);
            self.add(vec![hit], path, object, |_| &rules::CRD_DEFAULT);
        }
        self.out.schemas = schemas;
    }

    /// A resource that Kubernetes itself does not define.
    pub(super) fn custom(&mut self, root: &Node, path: &str, group: &str, object: &Object<'_>) {
        if known::not_run(group, object.kind) {
            return;
        }
        let known: Vec<&At> = known::known(group, object.kind).collect();
        let mut found: BTreeMap<String, (Hit, &'static Rule)> = BTreeMap::new();
        for at in &known {
            for (hit, rule) in at_place(root, at) {
                found.entry(hit.field.clone()).or_insert((hit, rule));
            }
        }
        let not: Vec<&str> =
            known.iter().filter_map(|at| if let At::Not(p) = at { Some(*p) } else { None }).collect();
        let skip = |steps: &[Step<'_>]| {
            not.iter().any(|place| matches(place, steps))
                || matches!(steps, [Step::Key("status" | "metadata" | "kind" | "apiVersion")])
        };
        let mut walk = tree::Walk::new(Kind::Custom, Vec::new()).skipping(&skip);
        walk.value(root, "");
        let (hits, maybe, cut) = (walk.hits, walk.maybe, walk.cut);
        self.cut(cut, path);
        let fresh: Vec<Hit> = hits.into_iter().filter(|h| !found.contains_key(&h.field)).collect();
        for (hit, rule) in found.into_values() {
            self.add(vec![hit], path, object, |_| rule);
        }
        self.add(fresh, path, object, |how| match how {
            How::Container => &rules::CUSTOM_CONTAINER,
            How::Field => &rules::CUSTOM_FIELD,
            How::Split => &rules::CUSTOM_SPLIT,
            How::Bare => &rules::CUSTOM_BARE,
            How::Env => &rules::ENV,
            How::Arg => &rules::ARG,
            How::Value | How::Nested => &rules::CUSTOM_VALUE,
        });
        for (hit, way) in maybe {
            let finding = self.finding(hit, path, object, &rules::SCHEMA);
            self.out.pending.push(Pending { group: group.to_owned(), way, finding });
        }
    }

    fn finding(&self, hit: Hit, path: &str, object: &Object<'_>, rule: &'static Rule) -> Finding {
        let field =
            if hit.field.starts_with('[') { format!("{path}{}", hit.field) } else { join(path, &hit.field) };
        let origin =
            Origin { field: Some(field), switch: hit.switch, ..self.origin(hit.line, hit.column, object) };
        Finding::new(hit.image, rule, origin)
    }

    /// What a walk found, and where it ended too early.
    fn take(
        &mut self,
        walk: tree::Walk<'_>,
        path: &str,
        object: &Object<'_>,
        rule: impl Fn(How) -> &'static Rule,
    ) {
        self.add(walk.hits, path, object, rule);
        self.cut(walk.cut, path);
    }

    fn cut(&mut self, cut: Option<tree::Cut>, path: &str) {
        let Some(tree::Cut { field, line, column, reason }) = cut else { return };
        let at = Node { value: Value::Null, line, column };
        self.problem(&at, join(path, &field), reason);
    }

    fn add(&mut self, hits: Vec<Hit>, path: &str, object: &Object<'_>, rule: impl Fn(How) -> &'static Rule) {
        for hit in hits {
            let rule = rule(hit.how);
            let finding = self.finding(hit, path, object, rule);
            self.out.findings.push(finding);
        }
    }
}

/// The values of a Secret as text, as far as they are.
fn decoded(data: &Node) -> Node {
    let one = |node: &Node| {
        let text = node.as_str()?;
        let compact: String = text.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(compact).ok()?;
        let value = Value::Str(String::from_utf8(bytes).ok()?);
        Some(Node { value, line: node.line, column: node.column })
    };
    let entries = data.as_map().into_iter().flatten();
    let plain = entries.filter_map(|(k, v)| Some((k.clone(), one(v)?))).collect();
    Node { value: Value::Map(plain), line: data.line, column: data.column }
}

/// What stands at a known place.
fn at_place(root: &Node, at: &At) -> Vec<(Hit, &'static Rule)> {
    let mut found = Vec::new();
    match at {
        At::Image(place) => visit(root, place, &mut |node, steps| {
            found.extend(image(node, steps).map(|hit| (hit, &rules::KNOWN_FIELD)));
        }),
        At::Setting(place) => {
            let name = root.get("metadata").and_then(|m| m.get("name")).and_then(Node::as_str);
            let named = like::name(name.unwrap_or_default());
            visit(root, place, &mut |node, steps| {
                let shape = node.as_str().filter(|_| named != like::Name::Silent);
                if let Some(shape) = shape.and_then(|text| like::judge(text, named)) {
                    let hit = Hit::at(node, shape.image, tree::path(steps), How::Field);
                    found.push((hit, &rules::KNOWN_FIELD));
                }
            });
        }
        At::Container(place) => container(root, place, &["image"], &mut found),
        At::Pod(place) => {
            for field in rules::POD_FIELDS {
                let place = format!("{place}.{}[]", field.list);
                container(root, &place, field.image, &mut found);
            }
        }
        At::Not(_) => {}
        At::Default { unless, image } => {
            let mut named = false;
            for place in *unless {
                visit(root, place, &mut |node, _| named |= node.as_str().is_some_and(|s| !s.is_empty()));
            }
            if !named {
                found.extend(default(root, image).map(|hit| (hit, &rules::KNOWN_DEFAULT)));
            }
        }
    }
    found
}

fn container(root: &Node, place: &str, image_at: &[&str], found: &mut Vec<(Hit, &'static Rule)>) {
    let place = format!("{place}.{}", image_at.join("."));
    visit(root, &place, &mut |node, steps| {
        found.extend(image(node, steps).map(|hit| (hit, &rules::KNOWN_CONTAINER)));
    });
}

fn image(node: &Node, steps: &[Step<'_>]) -> Option<Hit> {
    let text = node.as_str()?;
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let image: ImageRef = text.parse().ok()?;
    let replaced =
        rules::template_leftover(text).is_some() || rules::PLACEHOLDERS.iter().any(|(p, _)| *p == text);
    (!replaced).then(|| Hit::at(node, image, tree::path(steps), How::Field))
}

/// Fills `{spec.version}` in; `None` if one of the places holds nothing.
fn default(root: &Node, image: &str) -> Option<Hit> {
    let (mut text, mut rest, mut place) = (String::new(), image, None);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        text += before;
        let mut value = None;
        visit(root, name, &mut |node, steps| {
            value = super::split::text_of(node).filter(|t| !t.is_empty());
            place = Some((node.line, node.column, tree::path(steps)));
        });
        text += &value?;
        rest = after;
    }
    text += rest;
    let (line, column, field) = place?;
    let image = like::shape(&text)?.image;
    Some(Hit { line, column, ..Hit::at(root, image, field, How::Field) })
}

/// Every value at a place such as `spec.templates[].container`.
fn visit<'a>(root: &'a Node, place: &str, found: &mut impl FnMut(&'a Node, &[Step<'a>])) {
    fn go<'a>(
        node: &'a Node,
        parts: &[&str],
        steps: &mut Vec<Step<'a>>,
        found: &mut dyn FnMut(&'a Node, &[Step<'a>]),
    ) {
        let Some((part, rest)) = parts.split_first() else { return found(node, steps) };
        let (name, items) = part.strip_suffix("[]").map_or((*part, false), |name| (name, true));
        let Some(map) = node.as_map() else { return };
        for (key, below) in map {
            if name != "*" && name != key {
                continue;
            }
            steps.push(Step::Key(key));
            if items {
                for (index, item) in below.as_seq().unwrap_or_default().iter().enumerate() {
                    steps.push(Step::Index(index));
                    go(item, rest, steps, found);
                    steps.pop();
                }
            } else {
                go(below, rest, steps, found);
            }
            steps.pop();
        }
    }
    let parts: Vec<&str> = place.split('.').collect();
    go(root, &parts, &mut Vec::new(), found);
}

/// Whether the way is the place.
fn matches(place: &str, steps: &[Step<'_>]) -> bool {
    let (mut steps, mut parts) = (steps.iter(), place.split('.'));
    let all = parts.by_ref().all(|part| {
        let (name, items) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        let key = matches!(steps.next(), Some(Step::Key(key)) if name == "*" || *key == name);
        key && (!items || matches!(steps.next(), Some(Step::Index(_))))
    });
    all && steps.next().is_none()
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;

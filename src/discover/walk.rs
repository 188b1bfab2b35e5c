//! From a document to the images it names. Pure: text in, findings out.

use crate::oci::ImageRef;
use crate::yaml::{self, Node, Value, YamlError};

use super::held::{self, Held};
use super::input::Documents;
use super::json;
use super::rules::{self, PodField, Required, Workload};
use super::{Finding, Findings, Origin, Problem, Severity, SourceName};

/// Problems that are told one by one; the rest of a file's are counted.
const MAX_PROBLEMS: usize = 1000;
/// Characters of a foreign name that an origin keeps: the longest that Kubernetes takes.
const MAX_NAME: usize = 253;

/// Every image in the documents of `text`, which came from `source`; not yet sorted.
///
/// Repeated keys are taken as `kubectl` and Helm take them: the last one wins.
pub fn scan(text: &str, source: &SourceName) -> Findings {
    scan_replaced(text, &[], source)
}

/// The same of a text in which bytes were replaced that are no UTF-8: what is left of such a document is read, and that it is
/// not all is told.
pub(super) fn scan_documents(read: &Documents, source: &SourceName) -> Findings {
    scan_replaced(&read.text, &read.replaced, source)
}

/// `replaced` are the lines and columns of what is no UTF-8.
fn scan_replaced(text: &str, replaced: &[(u32, u32)], source: &SourceName) -> Findings {
    let markers = if replaced.is_empty() { Vec::new() } else { marker_lines(text) };
    // Between which markers a line stands, which tells its document.
    let part = |line: u32| markers.partition_point(|marker| *marker <= line);
    let mut replaced = replaced.iter().copied().peekable();
    let slip = |(line, column): (u32, u32), document| Problem {
        document,
        line: Some(line),
        column: Some(column),
        ..Problem::of_source(Severity::Error, source.clone(), NOT_TEXT)
    };
    let limits = yaml::Limits { allow_duplicate_keys: true, ..yaml::Limits::default() };
    let mut out = Findings::default();
    let mut documents = 0;
    let mut dropped = false;
    for piece in json::pieces(text) {
        let mut lines = None;
        for document in yaml::documents(&piece.text, &limits) {
            documents += 1;
            let (lines_before, out_of_one) = (piece.lines_before, Findings::default());
            let mut walk =
                Walk { source, document: documents, lines_before, out: out_of_one, dropped: false };
            let own = part(walk.line(document.line));
            let mut slipped = false;
            while let Some(place) = replaced.next_if(|(line, _)| part(*line) <= own) {
                // Once for a document; comments between markers belong to none.
                if part(place.0) < own {
                    out.problems.push(slip(place, None));
                } else if !std::mem::replace(&mut slipped, true) {
                    walk.out.problems.push(slip(place, Some(documents)));
                }
            }
            match &document.result {
                Ok(root) => walk.root(root),
                Err(_) if slipped => walk.out.documents.failed = 1,
                Err(error) => {
                    let lines = lines.get_or_insert_with(|| piece.text.split('\n').collect::<Vec<_>>());
                    walk.unparsable(error, lines);
                }
            }
            let room = MAX_PROBLEMS.saturating_sub(out.problems.len());
            dropped |= walk.dropped || walk.out.problems.len() > room;
            walk.out.problems.truncate(room);
            out.merge(walk.out);
        }
    }
    // Beyond the last document.
    out.problems.extend(replaced.next().map(|place| slip(place, None)));
    if dropped {
        let reason = format!("there are more problems than the first {MAX_PROBLEMS}");
        out.problems.push(Problem::of_source(Severity::Error, source.clone(), reason));
    }
    out
}

const NOT_TEXT: &str = "this is not UTF-8 text; what is left of the document is read, and images may be missing: save it as \
                        UTF-8";

/// The lines that begin a document, counted from 1.
fn marker_lines(text: &str) -> Vec<u32> {
    let marker = |line: &str| {
        line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
    };
    (1u32..).zip(text.split('\n')).filter(|(_, line)| marker(line)).map(|(number, _)| number).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Something with a kind.
    Object,
    /// No Kubernetes object.
    Nothing,
}

/// The kind of a typed list's items, which the API server leaves out of the items themselves.
#[derive(Debug, Clone, Copy)]
struct ItemKind<'a> {
    api_version: Option<&'a str>,
    kind: &'a str,
}

pub(super) struct Object<'a> {
    pub(super) kind: &'a str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

pub(super) struct Walk<'a> {
    source: &'a SourceName,
    document: usize,
    /// Lines of the file before the text in which lines are counted.
    lines_before: u32,
    pub(super) out: Findings,
    /// There were more problems than are kept.
    dropped: bool,
}

impl Walk<'_> {
    fn root(&mut self, root: &Node) {
        let seen = self.object(root, "", None);
        let counts = &mut self.out.documents;
        if self.out.problems.iter().any(|p| p.severity == Severity::Error) {
            counts.failed = 1;
        } else if seen == Seen::Nothing {
            counts.skipped = 1;
        } else {
            counts.read = 1;
            counts.without_images = usize::from(self.out.findings.is_empty());
        }
    }

    fn object(&mut self, node: &Node, path: &str, item_of: Option<ItemKind<'_>>) -> Seen {
        let text = |key| node.get(key).and_then(Node::as_str);
        let api_version = text("apiVersion").or(item_of.and_then(|i| i.api_version));
        let Some(kind) = text("kind").or(item_of.map(|i| i.kind)) else {
            let Some(like) = held::untyped(node) else { return Seen::Nothing };
            self.hold(node, path, None, like);
            return Seen::Object;
        };
        if held::leads_on(api_version, kind) {
            self.hold(node, path, api_version, kind);
        }
        if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), node.get("items")) {
            let items_of = (!item_kind.is_empty()).then_some(ItemKind { api_version, kind: item_kind });
            self.list(items, &join(path, "items"), items_of);
            return Seen::Object;
        }
        let meta = |key| node.get("metadata")?.get(key)?.as_str().filter(|s| !s.is_empty());
        let name = meta("name").or_else(|| meta("generateName"));
        let object = Object { kind, namespace: meta("namespace"), name };
        let group = rules::group(api_version.unwrap_or_default());
        if let Some(workload) = rules::workload(api_version, kind) {
            self.workload(node, path, workload, &object);
            if kind == "Pod" {
                self.running(node, path, &object);
            }
        } else {
            match (group, kind) {
                ("", "ConfigMap") => self.config_map(node, path, &object),
                ("", "Secret") => self.secret(node, path, &object),
                ("apiextensions.k8s.io", "CustomResourceDefinition") => self.definition(node, path, &object),
                // What it says about its operator's pods stands in no other object.
                ("operators.coreos.com", "Subscription") => self.custom(node, path, group, &object),
                _ if rules::known::is_built_in(group) || held::leads_on(api_version, kind) => {}
                _ => self.custom(node, path, group, &object),
            }
        }
        self.annotations(node.get("metadata"), &join(path, "metadata"), &object);
        Seen::Object
    }

    fn hold(&mut self, node: &Node, path: &str, api_version: Option<&str>, kind: &str) {
        let place =
            held::Place { source: self.source, document: self.document, lines_before: self.lines_before };
        self.out.held.push(Held::new(&place, path, api_version, kind, node));
    }

    fn list(&mut self, items: &Node, path: &str, item_kind: Option<ItemKind<'_>>) {
        for (item, path) in self.items(items, path) {
            if !item.is_null() && self.object(item, &path, item_kind) == Seen::Nothing {
                self.problem(item, path, "the item has no kind, so nobody can tell what it is");
            }
        }
    }

    fn workload(&mut self, root: &Node, path: &str, workload: &Workload, object: &Object<'_>) {
        let mut path = path.to_owned();
        let Some(spec) = self.descend(root, &mut path, workload.pod_spec) else { return };
        if !self.is_map(spec, &path) {
            return;
        }
        self.pod_evidence(spec, &path, object);
        if let [above @ .., _] = workload.pod_spec
            && !above.is_empty()
        {
            let template = above.iter().try_fold(root, |node, key| node.get(key));
            let at = path.strip_suffix(".spec").unwrap_or_default();
            self.annotations(template.and_then(|t| t.get("metadata")), &join(at, "metadata"), object);
        }
        for field in rules::POD_FIELDS {
            let Some(list) = spec.get(field.list) else { continue };
            for (item, mut path) in self.items(list, &join(&path, field.list)) {
                if !item.is_null() {
                    self.item(item, &mut path, field, object);
                }
            }
        }
    }

    fn item(&mut self, item: &Node, path: &mut String, field: &PodField, object: &Object<'_>) {
        let (last, parents) = field.image.split_last().unwrap_or((&"", &[]));
        let Some(parent) = self.descend(item, path, parents) else { return };
        if !self.is_map(parent, path) {
            return;
        }
        let path = join(path, last);
        match parent.get(last) {
            Some(node) if !node.is_null() && node.as_str() != Some("") => {
                self.image(node, path, field, object);
            }
            missing => {
                let required = match field.required {
                    Required::Always => true,
                    Required::InPods => object.kind == "Pod",
                };
                if required {
                    let reason = "no image is named, and Kubernetes refuses the object without one";
                    self.problem(missing.unwrap_or(parent), path, reason);
                }
            }
        }
    }

    fn image(&mut self, node: &Node, path: String, field: &PodField, object: &Object<'_>) {
        let Some(text) = node.as_str() else {
            let scalar = node.as_seq().is_none() && node.as_map().is_none();
            let advice = if scalar { "; put it in quotes" } else { "" };
            let reason = format!("an image is a string, this is {}{advice}", describe(node));
            return self.problem(node, path, reason);
        };
        if let Some(expression) = rules::template_leftover(text) {
            return self.problem(node, path, unrendered(expression));
        }
        if let Some((_, advice)) = rules::PLACEHOLDERS.iter().find(|(name, _)| *name == text) {
            return self.report(Severity::Warning, node, path, *advice);
        }
        match text.parse::<ImageRef>() {
            Ok(image) => {
                let origin = Origin { field: Some(path), ..self.origin(node.line, node.column, object) };
                self.out.findings.push(Finding::new(image, field.rule, origin));
            }
            Err(error) => self.problem(node, path, error.to_string()),
        }
    }

    /// The value at the end of `keys`, with `path` made longer on the way; `None` when it is not there.
    fn descend<'n>(&mut self, root: &'n Node, path: &mut String, keys: &[&str]) -> Option<&'n Node> {
        let mut node = root;
        for key in keys {
            if !self.is_map(node, path) {
                return None;
            }
            node = node.get(key).filter(|n| !n.is_null())?;
            *path = join(path, key);
        }
        Some(node)
    }

    fn is_map(&mut self, node: &Node, path: &str) -> bool {
        let map = node.as_map().is_some();
        if !map {
            self.mistyped(node, path, "a mapping");
        }
        map
    }

    /// The items of a list with their paths; null is an empty list.
    fn items<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
    ) -> impl Iterator<Item = (&'n Node, String)> + use<'n> {
        if !node.is_null() && node.as_seq().is_none() {
            self.mistyped(node, path, "a list");
        }
        let path = path.to_owned();
        node.as_seq().unwrap_or_default().iter().enumerate().map(move |(i, n)| (n, format!("{path}[{i}]")))
    }

    fn mistyped(&mut self, node: &Node, path: &str, wanted: &str) {
        let leftover = node.as_str().and_then(rules::template_leftover).map(unrendered);
        let reason = leftover.unwrap_or_else(|| format!("{wanted} is expected, this is {}", describe(node)));
        self.problem(node, path.to_owned(), reason);
    }

    pub(super) fn problem(&mut self, at: &Node, path: String, reason: impl Into<String>) {
        self.report(Severity::Error, at, path, reason);
    }

    fn report(&mut self, severity: Severity, at: &Node, path: String, reason: impl Into<String>) {
        if self.out.problems.len() == MAX_PROBLEMS {
            self.dropped = true;
            return;
        }
        self.out.problems.push(Problem {
            severity,
            source: self.source.clone(),
            document: Some(self.document),
            line: Some(self.line(at.line)),
            column: Some(at.column),
            field: Some(path).filter(|p| !p.is_empty()),
            reason: reason.into(),
        });
    }

    /// libyaml stumbles over a template expression on its line or at the start of the next.
    fn unparsable(&mut self, error: &YamlError, lines: &[&str]) {
        let at = |back: u32| {
            let number = error.line.checked_sub(back)?;
            let line = lines.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
            rules::template_leftover(line)
        };
        let reason = match at(0).or_else(|| at(1)) {
            Some(expression) => unrendered(expression),
            None => format!("not YAML: {}", error.reason),
        };
        self.out.problems.push(Problem {
            severity: Severity::Error,
            source: self.source.clone(),
            document: Some(self.document),
            line: Some(self.line(error.line)),
            column: Some(error.column),
            field: None,
            reason,
        });
        self.out.documents.failed = 1;
    }

    /// A place in `object`.
    pub(super) fn origin(&self, line: u32, column: u32, object: &Object<'_>) -> Origin {
        Origin {
            document: Some(self.document),
            line: Some(self.line(line)),
            column: Some(column),
            kind: Some(bounded(object.kind)),
            namespace: object.namespace.map(bounded),
            name: object.name.map(bounded),
            ..Origin::of_source(self.source.clone())
        }
    }

    fn line(&self, in_piece: u32) -> u32 {
        in_piece.saturating_add(self.lines_before)
    }
}

fn unrendered(expression: &str) -> String {
    let short: String = expression.chars().take(60).collect();
    format!("{short:?} looks like an unrendered template; render it, or give the chart itself as the source")
}

fn describe(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::Str(_) => "a string",
        Value::Seq(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn bounded(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;

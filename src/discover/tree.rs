//! Images in structured values of unknown meaning: custom resources, files in a `ConfigMap`, a chart's values. Pure.
//!
//! The names of fields are the evidence. A string may hold a whole file again, which is walked in its turn.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::like::{self, Name, Shape};
use super::rules::{self, words};
use super::schema::{self, Part};
use super::split::{self, Parts};
use super::{nested, text};
use crate::oci::ImageRef;
use crate::yaml::{Node, Value};

/// Images that one document may name.
const MAX_HITS: usize = 10_000;
/// Files within files.
const MAX_NESTED: usize = 4;

/// What the values are, which decides how much evidence is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A custom resource.
    Custom,
    /// A file or setting.
    Config,
    /// A chart's values: tags may be left open.
    Values,
}

/// How an image was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `image` of an item in a list of containers.
    Container,
    /// Its field is called an image.
    Field,
    /// Its field is called an image, and it is a mere name.
    Bare,
    /// Several fields together.
    Split,
    /// Its form.
    Value,
    /// It is the value of a variable.
    Env,
    /// It stands in a command line.
    Arg,
    /// It stands in a file within the value.
    Nested,
}

/// An image in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) image: ImageRef,
    /// The way to it, from the root of the document.
    pub(super) field: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) how: How,
    /// The tag is not written but the one that is usual.
    pub(super) guessed: bool,
    /// The values that switch it on, where some above it say `false`.
    pub(super) switch: Option<String>,
}

impl Hit {
    /// An image in `node`.
    pub(super) fn at(node: &Node, image: ImageRef, field: String, how: How) -> Self {
        Self { image, field, line: node.line, column: node.column, how, guessed: false, switch: None }
    }
}

/// What a chart's values leave open.
#[derive(Debug, Clone, Default)]
pub(super) struct Usual<'a> {
    /// The registry before names without one.
    pub(super) registry: Option<&'a str>,
    /// The tag of images without one.
    pub(super) tag: Option<&'a str>,
}

/// A step of the way to a value.
#[derive(Debug, Clone)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
    /// An item by its name, which says more than its number: `env[RELATED_IMAGE_X]`.
    Named(&'a str),
}

/// `a.b[2]["c.d"]`.
pub(super) fn path(steps: &[Step<'_>]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Index(i) => out += &format!("[{i}]"),
            Step::Named(name) => out += &format!("[{}]", name.chars().take(253).collect::<String>()),
            Step::Key(key) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '$';
                if !key.is_empty() && key.chars().all(plain) {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out += key;
                } else {
                    let short: String = key.chars().take(253).collect();
                    out += &format!("[{short:?}]");
                }
            }
        }
    }
    out
}

/// A walk over one tree.
pub(super) struct Walk<'a> {
    kind: Kind,
    usual: Usual<'a>,
    steps: Vec<Step<'a>>,
    /// Istio's way: `hub` and `tag` once, and mere names of images below.
    hub: Vec<(String, String)>,
    /// Paths of the switches above that are off.
    off: Vec<String>,
    nested: usize,
    skip: &'a dyn Fn(&[Step<'_>]) -> bool,
    pub(super) hits: Vec<Hit>,
    /// What was told already, and where: a long text may name an image a million times.
    seen: BTreeSet<(ImageRef, String)>,
    /// Images that are kept.
    room: usize,
    /// Where reading ended before the end, and why.
    pub(super) cut: Option<Cut>,
    /// In custom resources: what is an image if a schema says so, with the way to it.
    pub(super) maybe: Vec<(Hit, Vec<Part>)>,
}

/// A place from which on a bound keeps images from being found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) field: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) reason: String,
}

/// Whether a key is one that switches a part of a chart on.
const SWITCHES: [&str; 5] = ["enabled", "create", "install", "enable", "deploy"];

impl<'a> Walk<'a> {
    /// A walk that begins at `steps` below the document's root.
    pub(super) fn new(kind: Kind, steps: Vec<Step<'a>>) -> Self {
        Self {
            kind,
            usual: Usual::default(),
            steps,
            hub: Vec::new(),
            off: Vec::new(),
            nested: 0,
            skip: &|_| false,
            hits: Vec::new(),
            seen: BTreeSet::new(),
            room: MAX_HITS,
            cut: None,
            maybe: Vec::new(),
        }
    }

    /// For a chart's values.
    pub(super) fn usual(mut self, usual: Usual<'a>) -> Self {
        self.usual = usual;
        self
    }

    /// Leaves out what stands below the ways that `skip` knows.
    pub(super) fn skipping(mut self, skip: &'a dyn Fn(&[Step<'_>]) -> bool) -> Self {
        self.skip = skip;
        self
    }

    /// Walks a mapping or list; `own` is its key.
    pub(super) fn value(&mut self, node: &'a Node, own: &'a str) {
        if (self.skip)(&self.steps) {
            return;
        }
        if self.hits.len() >= self.room {
            return self.full(node.line, node.column, path(&self.steps));
        }
        match &node.value {
            Value::Map(map) => self.map(node, map, own),
            Value::Seq(items) => self.list(items, own),
            Value::Str(text) => self.text(node, text, own, like::name(own)),
            _ => {}
        }
    }

    fn below(&mut self, step: Step<'a>, node: &'a Node, own: &'a str) {
        self.steps.push(step);
        self.value(node, own);
        self.steps.pop();
    }

    fn map(&mut self, node: &'a Node, map: &'a IndexMap<String, Node>, own: &'a str) {
        if let Some((name, value)) = variable(map) {
            let place = self.steps.pop();
            self.steps.push(Step::Named(name));
            self.steps.push(Step::Key("value"));
            let named = like::name(name);
            let before = self.hits.len();
            if let Some(text) = value.as_str() {
                self.text(value, text, name, named);
                let path = like::mere_path(text, named).filter(|_| self.hits.len() == before);
                if let Some(shape) = path {
                    self.hit(shape.image, value, How::Env, false);
                }
            }
            self.hits[before..].iter_mut().for_each(|h| h.how = How::Env);
            self.steps.truncate(self.steps.len() - 2);
            self.steps.extend(place);
            return;
        }
        let switch = SWITCHES.iter().find(|s| map.get(**s).and_then(Node::as_bool) == Some(false));
        if let Some(switch) = switch.filter(|_| self.kind == Kind::Values) {
            self.off.push(format!("{}=true", path(&[&self.steps[..], &[Step::Key(switch)]].concat())));
        }
        let hub = match (map.get("hub").and_then(Node::as_str), map.get("tag").and_then(split::text_of)) {
            (Some(hub), Some(tag)) if !hub.is_empty() && !tag.is_empty() => Some((hub.to_owned(), tag)),
            _ => None,
        };
        let has_hub = hub.is_some();
        self.hub.extend(hub);
        let mut taken = Vec::new();
        for parts in split::parts(map, like::name(own)) {
            if let Some((image, guessed)) = self.join(&parts) {
                let at = map.get(parts.key).unwrap_or(node);
                self.steps.push(Step::Key(parts.key));
                self.hit(image, at, How::Split, guessed);
                self.steps.pop();
                taken.extend(parts.keys);
            }
        }
        for (key, value) in map {
            if !taken.contains(&key.as_str()) {
                self.below(Step::Key(key), value, key);
            }
        }
        if has_hub {
            self.hub.pop();
        }
        if switch.is_some() && self.kind == Kind::Values {
            self.off.pop();
        }
    }

    fn join(&self, parts: &Parts<'_>) -> Option<(ImageRef, bool)> {
        if self.kind != Kind::Values {
            return parts.has_version().then(|| parts.join(None, None))?.map(|i| (i, false));
        }
        let guessed = !parts.has_version();
        parts.join(self.usual.registry, self.usual.tag).map(|i| (i, guessed))
    }

    fn list(&mut self, items: &'a [Node], own: &'a str) {
        let strings = items.iter().any(|i| i.as_str().is_some());
        let command = words::COMMAND_KEYS.contains(&own)
            || items.iter().any(|i| i.as_str().is_some_and(|s| s.starts_with("--")));
        if strings && command {
            let arguments = items.iter().map(|i| i.as_str().filter(|s| !nested::is_file(s)));
            for (index, shape) in text::arguments(arguments) {
                self.steps.push(Step::Index(index));
                self.hit(shape.image, &items[index], How::Arg, false);
                self.steps.pop();
            }
            for (index, item) in items.iter().enumerate() {
                if item.as_str().is_none_or(nested::is_file) {
                    self.below(Step::Index(index), item, "");
                }
            }
            return;
        }
        for (index, item) in items.iter().enumerate() {
            self.below(Step::Index(index), item, own);
        }
    }

    /// A string, which may be an image, hold some, or be a whole file.
    fn text(&mut self, node: &'a Node, text: &'a str, own: &str, named: Name) {
        if text.len() < 3 {
            return;
        }
        let how = if named == Name::Silent { How::Value } else { How::Field };
        if let Some(all) = text::list(text, named) {
            all.into_iter().for_each(|shape| self.hit(shape.image, node, how, false));
            return;
        }
        if nested::is_file(text) {
            self.file(node, text, own);
            return;
        }
        if !like::is_plain(text) {
            let spaced = text.contains(char::is_whitespace);
            // What is asked of a server is no setting of what asks.
            if !spaced && text.contains("://") && text.contains('?') {
                return;
            }
            let plain = if self.kind == Kind::Custom { How::Value } else { How::Nested };
            let (named, how) = match named {
                _ if spaced => (Name::Silent, plain),
                Name::Silent => (named, plain),
                _ => (named, how),
            };
            for (_, shape) in text::named_references(text, named) {
                self.hit(shape.image, node, how, false);
            }
            return;
        }
        if let Some(shape) = like::judge(text, named) {
            let how = if how == How::Field && self.in_containers(own) { How::Container } else { how };
            self.hit(shape.image, node, how, false);
        } else if let Some((image, how)) = self.bare(text, own, named) {
            self.maybe(text, node, named);
            self.hit(image, node, how, false);
        } else {
            self.maybe(text, node, named);
        }
    }

    /// Keeps what a schema may call an image.
    fn maybe(&mut self, text: &str, node: &Node, named: Name) {
        let candidate = named != Name::Silent || text.contains(['/', ':']);
        if self.kind != Kind::Custom || !candidate || self.maybe.len() >= MAX_HITS {
            return;
        }
        if let Some(shape) = like::shape(text) {
            let hit = Hit::at(node, shape.image, path(&self.steps), How::Field);
            self.maybe.push((hit, schema::way(&self.steps)));
        }
    }

    /// A mere name under `image`.
    fn bare(&self, text: &str, own: &str, named: Name) -> Option<(ImageRef, How)> {
        let Shape { image, version, path, .. } = like::shape(text)?;
        if version && !path && named == Name::Is && self.in_containers(own) {
            return Some((image, How::Container));
        }
        if rules::PLACEHOLDERS.iter().any(|(name, _)| *name == text) || version {
            return None;
        }
        if let (Some((hub, tag)), true, "image") = (self.hub.last(), !path, own) {
            return Some((format!("{hub}/{text}:{tag}").parse().ok()?, How::Split));
        }
        if self.in_containers(own) {
            return Some((image, How::Container));
        }
        let word = ["default", "none", "true", "false", "latest", "auto", "custom"].contains(&text);
        (self.kind == Kind::Custom && own == "image" && !word && (path || text.len() > 2))
            .then_some((image, How::Bare))
    }

    /// Whether the way ends as `containers[2].image`.
    fn in_containers(&self, own: &str) -> bool {
        let list = match &self.steps[..] {
            [.., Step::Key(list), Step::Index(_), Step::Key(_)] => list,
            _ => return false,
        };
        own == "image" && words::CONTAINER_LISTS.contains(list)
    }

    fn file(&mut self, node: &'a Node, text: &'a str, own: &str) {
        if self.nested >= MAX_NESTED {
            if nested::worth(text) {
                let reason = format!(
                    "a file within {MAX_NESTED} other files is not read; give it as a source of its own"
                );
                self.end(node.line, node.column, path(&self.steps), reason);
            }
            return;
        }
        self.nested += 1;
        for hit in nested::file(text, own, self.nested) {
            let prefix = path(&self.steps);
            let gap = if hit.field.is_empty() || hit.field.starts_with('[') { "" } else { "." };
            let field = format!("{prefix}{gap}{}", hit.field);
            let how = match hit.how {
                how @ (How::Env | How::Arg) => how,
                _ => How::Nested,
            };
            let (line, column) = (node.line, node.column);
            self.push(Hit { field, line, column, how, switch: self.switches(), ..hit });
        }
        self.nested -= 1;
    }

    fn hit(&mut self, image: ImageRef, at: &Node, how: How, guessed: bool) {
        let (field, switch) = (path(&self.steps), self.switches());
        self.push(Hit { image, field, line: at.line, column: at.column, how, guessed, switch });
    }

    fn switches(&self) -> Option<String> {
        (!self.off.is_empty()).then(|| self.off.join(","))
    }

    fn push(&mut self, hit: Hit) {
        if !self.seen.insert((hit.image.clone(), hit.field.clone())) {
            return;
        }
        if self.hits.len() < self.room {
            self.hits.push(hit);
        } else {
            self.full(hit.line, hit.column, hit.field);
        }
    }

    fn full(&mut self, line: u32, column: u32, field: String) {
        let reason =
            format!("{MAX_HITS} images were named before, and no more of one object are read; split it");
        self.end(line, column, field, reason);
    }

    fn end(&mut self, line: u32, column: u32, field: String, reason: String) {
        self.cut.get_or_insert(Cut { field, line, column, reason });
    }

    /// How deep in files within files this walk is.
    pub(super) fn at_depth(mut self, nested: usize) -> Self {
        self.nested = nested;
        // More than the walk around it, which then sees that there are too many.
        self.room = MAX_HITS + nested;
        self
    }
}

/// `{name: X, value: y}`.
fn variable(map: &IndexMap<String, Node>) -> Option<(&str, &Node)> {
    let name = map.get("name")?.as_str()?;
    (map.len() == 2).then(|| Some((name, map.get("value")?)))?
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;

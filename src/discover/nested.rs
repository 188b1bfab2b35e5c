//! Files within strings: YAML, JSON, TOML, and whatever else has lines. Pure.

use std::collections::BTreeSet;

use super::text;
use super::tree::{Hit, How, Kind, Walk};
use crate::yaml::{self, Limits, Node, Value};

/// Longer files are read line by line only.
const MAX_STRUCTURED: usize = 4 << 20;
/// Values of one file.
const MAX_NODES: usize = 300_000;

/// Whether a string is a file of its own: it has several lines, or is a JSON object or list.
pub(super) fn is_file(text: &str) -> bool {
    text.trim_end().contains('\n') || text.starts_with('{') && text.ends_with('}') || text.starts_with("[{")
}

/// Every image in a file, with the way to it within the file.
pub(super) fn file(text: &str, name: &str, depth: usize) -> Vec<Hit> {
    if !worth(text) {
        return Vec::new();
    }
    if text.len() <= MAX_STRUCTURED {
        if let Some(root) = json(text).or_else(|| toml(text, name)) {
            return walk(&root, depth);
        }
        if let Some(hits) = yaml(text, depth) {
            return hits;
        }
    }
    lines(text, 0)
}

/// Whether it can name an image at all, so that dashboards and certificates cost nothing.
pub(super) fn worth(text: &str) -> bool {
    let bytes = text.as_bytes();
    let says = |word: &[u8]| bytes.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    says(b"image") || says(b"repository") || bytes.split(|b| b.is_ascii_whitespace()).any(complete)
}

/// Whether a word may be a complete name.
fn complete(word: &[u8]) -> bool {
    let slash = word.iter().position(|b| *b == b'/');
    slash.is_some_and(|at| word[at..].iter().any(|b| matches!(b, b':' | b'@')) && word[..at].contains(&b'.'))
}

fn json(text: &str) -> Option<Node> {
    let trimmed = text.trim_start();
    if !trimmed.starts_with(['{', '[']) {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(trimmed).ok()?;
    let mut left = MAX_NODES;
    from_json(&value, &mut left)
}

/// A tree without places; `None` if it has more than `left` values.
pub(super) fn from_json(value: &serde_json::Value, left: &mut usize) -> Option<Node> {
    *left = left.checked_sub(1)?;
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Value::Int(i),
            (None, f) => Value::Float(f.unwrap_or_default()),
        },
        serde_json::Value::String(s) => Value::Str(s.clone()),
        serde_json::Value::Array(all) => {
            Value::Seq(all.iter().map(|v| from_json(v, left)).collect::<Option<_>>()?)
        }
        serde_json::Value::Object(all) => Value::Map(
            all.iter().map(|(k, v)| Some((k.clone(), from_json(v, left)?))).collect::<Option<_>>()?,
        ),
    };
    Some(Node { value, line: 1, column: 1 })
}

fn toml(text: &str, name: &str) -> Option<Node> {
    let section = |l: &str| l.starts_with('[') && l.trim_end().ends_with(']');
    if !name.ends_with(".toml") && !text.lines().any(section) {
        return None;
    }
    let table: toml::Table = toml::from_str(text).ok()?;
    from_json(&serde_json::to_value(table).ok()?, &mut { MAX_NODES })
}

/// `None` when it is no mapping or list: a script is a string to YAML.
fn yaml(text: &str, depth: usize) -> Option<Vec<Hit>> {
    let limits = Limits { allow_duplicate_keys: true, max_nodes: MAX_NODES, ..Limits::default() };
    let documents = yaml::parse_stream(text, &limits);
    let structured =
        |d: &yaml::Document| d.result.as_ref().is_ok_and(|n| n.as_map().is_some() || n.as_seq().is_some());
    if !documents.iter().any(structured) {
        return None;
    }
    if !documents.iter().all(structured) {
        // Template expressions in some of the documents: what stands there is found line by line.
        return Some(lines(text, 0));
    }
    Some(documents.iter().filter_map(|d| d.result.as_ref().ok()).flat_map(|n| walk(n, depth)).collect())
}

fn walk(root: &Node, depth: usize) -> Vec<Hit> {
    let mut walk = Walk::new(Kind::Config, Vec::new()).at_depth(depth);
    walk.value(root, "");
    walk.hits
}

/// Each image once: a file may name one a million times.
fn lines(text: &str, above: u32) -> Vec<Hit> {
    let mut seen = BTreeSet::new();
    let hit = |(line, shape): (u32, super::like::Shape)| Hit {
        image: shape.image,
        field: String::new(),
        line: above + line,
        column: 1,
        how: How::Nested,
        guessed: false,
        switch: None,
    };
    text::references(text).into_iter().filter(|(_, s)| seen.insert(s.image.clone())).map(hit).collect()
}

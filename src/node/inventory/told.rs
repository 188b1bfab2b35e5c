//! What is wrong with an inventory, and in which line.

use std::collections::BTreeMap;

use super::RawInventory;
use crate::near;
use crate::yaml::Node;

/// What is wrong with a node.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The field; empty where no single one is.
    pub(super) field: &'static str,
    /// What is wrong with it, and what to write instead.
    pub(super) text: String,
}

impl Wrong {
    /// For what is told in words.
    pub(super) fn of(field: &'static str) -> impl Fn(String) -> Self {
        move |text| Self { field, text }
    }
}

/// The lines of fields, counted from 1; under the empty name that of the whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(pub(super) BTreeMap<String, u32>);

impl Lines {
    pub(super) fn of(&self, field: &str) -> Option<u32> {
        self.0.get(field).copied()
    }

    fn read(node: &Node) -> Self {
        let fields = node.as_map().into_iter().flatten().map(|(name, value)| (name.clone(), value.line));
        Self(fields.chain([(String::new(), node.line)]).collect())
    }
}

/// Takes over where in the text everything stands.
pub(super) fn place(raw: &mut RawInventory, text: Option<&Node>) {
    let Some(text) = text else { return };
    if let Some(defaults) = text.get("defaults") {
        raw.defaults.lines = Lines::read(defaults);
    }
    let nodes = text.get("nodes").and_then(Node::as_seq).unwrap_or_default();
    for (node, text) in raw.nodes.iter_mut().zip(nodes) {
        node.lines = Lines::read(text);
    }
}

/// For a message.
pub(super) fn at(line: Option<u32>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// The parser's words in those of YAML's users.
pub(super) fn reword(text: &str) -> String {
    const WORDS: [(&str, &str); 11] = [
        ("invalid type: ", "found "),
        ("invalid value: ", "found "),
        ("found unit value", "found nothing"),
        ("found sequence", "found a list"),
        ("found map", "found fields"),
        ("found string ", "found the text "),
        ("found integer ", "found the number "),
        ("found floating point ", "found the number "),
        ("expected a sequence", "expected a list: every entry begins with `- `"),
        ("expected a boolean", "expected true or false, without quotes"),
        ("expected a string", "expected text: put it in quotes"),
    ];
    WORDS.iter().fold(meant(text), |text, (theirs, ours)| text.replacen(theirs, ours, 1))
}

/// Asks whether a field was meant that is like the one that is not known: the parser names all that there are.
fn meant(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let [before, field, after, fields @ ..] = &parts[..] else { return text.to_owned() };
    let known: Vec<&str> = fields.iter().copied().step_by(2).collect();
    if !before.ends_with("unknown field ") {
        return text.to_owned();
    }
    let head = format!("{before}`{field}`{}{after}", near::did_you_mean(field, &known));
    std::iter::once(head.as_str()).chain(fields.iter().copied()).collect::<Vec<_>>().join("`")
}

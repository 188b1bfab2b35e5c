//! Which nodes of an inventory are meant.

use std::collections::{BTreeMap, BTreeSet};

use super::Node;

/// What was asked for is no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSuchNode {
    /// A pattern fits none.
    #[error(
        "{pattern}: the inventory has no such node, group or label; it has {}{}",
        nodes.join(", "),
        groups.as_ref().map_or(String::new(), |g| format!("; groups {g}"))
    )]
    Unknown {
        /// As asked for.
        pattern: String,
        /// Some of the names that there are.
        nodes: Vec<String>,
        /// The groups that there are.
        groups: Option<String>,
    },
    /// Each fits some, and together they leave none.
    #[error("{patterns} leaves none of the {nodes} nodes: `omk node list` shows their names and groups")]
    NoneLeft {
        /// As asked for.
        patterns: String,
        /// How many there are.
        nodes: usize,
    },
}

/// Names to offer.
const OFFERED: usize = 20;

/// What patterns are held against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The node's name.
    pub name: String,
    /// Its groups.
    pub groups: BTreeSet<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl From<&Node> for Labelled {
    fn from(node: &Node) -> Self {
        Self { name: node.name.clone(), groups: node.groups.clone(), labels: node.labels.clone() }
    }
}

/// Whether any of the patterns fits a node, or there is none. A pattern is a name, a group, `KEY=VALUE` for a label, each with `*`
/// for any characters; with `!` before it, it takes nodes away.
pub(super) fn wanted(node: &Labelled, patterns: &[String]) -> bool {
    let (not, only): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|p| p.starts_with('!'));
    (only.is_empty() || only.iter().any(|p| fits(node, p))) && !not.iter().any(|p| fits(node, &p[1..]))
}

/// Whether every pattern fits a node, and all of them together leave one. `all` has those that are not wanted too.
///
/// # Errors
/// Otherwise: that is more likely a mistake than a wish.
pub fn check(all: &[Labelled], patterns: &[String]) -> Result<(), NoSuchNode> {
    for pattern in patterns {
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        if !all.iter().any(|n| fits(n, bare)) {
            let groups: BTreeSet<&str> = all.iter().flat_map(|n| &n.groups).map(String::as_str).collect();
            let groups = (!groups.is_empty()).then(|| groups.into_iter().collect::<Vec<_>>().join(", "));
            let nodes = all.iter().take(OFFERED).map(|n| n.name.clone()).collect();
            return Err(NoSuchNode::Unknown { pattern: pattern.clone(), nodes, groups });
        }
    }
    if all.iter().any(|n| wanted(n, patterns)) {
        return Ok(());
    }
    Err(NoSuchNode::NoneLeft { patterns: patterns.join(","), nodes: all.len() })
}

fn fits(node: &Labelled, pattern: &str) -> bool {
    let labels = node.labels.iter().map(|(key, value)| format!("{key}={value}"));
    like(pattern, &node.name)
        || node.groups.iter().any(|g| like(pattern, g))
        || labels.into_iter().any(|l| like(pattern, &l))
}

/// `*` stands for any characters.
fn like(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    (0..=text.len()).filter(|i| text.is_char_boundary(*i)).any(|i| like(rest, &text[i..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Inventory;

    #[test]
    fn names_groups_and_labels_select() {
        let text = "defaults: {user: root}\nnodes:\n- {name: w1, host: a, groups: [edge], labels: {zone: x}}\n- {name: w2, host: b, \
                    groups: [edge, gpu]}\n- {name: cp, host: c}\n";
        let all = Inventory::parse(text, std::path::Path::new("n"), None).unwrap().nodes;
        let all: Vec<Labelled> = all.iter().map(Labelled::from).collect();
        let picked = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            check(&all, &patterns).map_err(|e| e.to_string())?;
            let left = all.iter().filter(|n| wanted(n, &patterns)).map(|n| n.name.as_str());
            Ok::<_, String>(left.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(picked(&[]).unwrap(), "w1 w2 cp");
        assert_eq!(picked(&["w*"]).unwrap(), "w1 w2");
        assert_eq!(picked(&["edge", "!gpu"]).unwrap(), "w1");
        assert_eq!(picked(&["zone=x", "cp"]).unwrap(), "w1 cp");
        assert_eq!(picked(&["!edge"]).unwrap(), "cp");
        let none = picked(&["x"]).unwrap_err();
        assert!(none.contains("it has w1, w2, cp; groups edge, gpu"), "{none}");
        for patterns in [&["!*"][..], &["edge", "!w*"], &["cp", "!cp"]] {
            let none = picked(patterns).unwrap_err();
            assert!(
                none.starts_with(&format!("{} leaves none of the 3 nodes", patterns.join(","))),
                "{none}"
            );
        }
    }
}

//! Which nodes of an inventory are meant.

use super::Node;

/// Something that was asked for and fits no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern}: the inventory has no such node, group or label; it has {}{}", nodes.join(", "), groups.as_ref().map_or(String::new(), |g| format!("; groups {g}")))]
pub struct NoSuchNode {
    /// As asked for.
    pub pattern: String,
    /// Some of the names that there are.
    pub nodes: Vec<String>,
    /// The groups that there are.
    pub groups: Option<String>,
}

/// Names to offer.
const OFFERED: usize = 20;

/// The nodes that any of the patterns fits, in the order of the inventory; all without a pattern. A pattern is a name, a group,
/// `KEY=VALUE` for a label, each with `*` for any characters; with `!` before it, it takes nodes away.
///
/// # Errors
/// For a pattern that fits nothing: it is more likely a mistake than a wish.
pub fn select(nodes: Vec<Node>, patterns: &[String]) -> Result<Vec<Node>, NoSuchNode> {
    for pattern in patterns {
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        if !nodes.iter().any(|n| fits(n, bare)) {
            let groups: std::collections::BTreeSet<&str> =
                nodes.iter().flat_map(|n| &n.groups).map(String::as_str).collect();
            let groups = (!groups.is_empty()).then(|| groups.into_iter().collect::<Vec<_>>().join(", "));
            let nodes = nodes.iter().take(OFFERED).map(|n| n.name.clone()).collect();
            return Err(NoSuchNode { pattern: pattern.clone(), nodes, groups });
        }
    }
    let (not, only): (Vec<&String>, Vec<&String>) = patterns.iter().partition(|p| p.starts_with('!'));
    let wanted = |n: &Node| {
        (only.is_empty() || only.iter().any(|p| fits(n, p))) && !not.iter().any(|p| fits(n, &p[1..]))
    };
    Ok(nodes.into_iter().filter(|n| wanted(n)).collect())
}

fn fits(node: &Node, pattern: &str) -> bool {
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
        let picked = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            let names = select(all.clone(), &patterns)
                .map(|n| n.into_iter().map(|n| n.name).collect::<Vec<_>>().join(" "));
            names.map_err(|e| e.to_string())
        };
        assert_eq!(picked(&[]).unwrap(), "w1 w2 cp");
        assert_eq!(picked(&["w*"]).unwrap(), "w1 w2");
        assert_eq!(picked(&["edge", "!gpu"]).unwrap(), "w1");
        assert_eq!(picked(&["zone=x", "cp"]).unwrap(), "w1 cp");
        assert_eq!(picked(&["!edge"]).unwrap(), "cp");
        let none = picked(&["x"]).unwrap_err();
        assert!(none.contains("it has w1, w2, cp; groups edge, gpu"), "{none}");
    }
}

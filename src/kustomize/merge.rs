//! Strategic merge: maps are merged, lists of built-in kinds by their keys, everything else is replaced.

use super::object::Id;
use crate::chart::Tree;

/// Whether something is still there after a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    No,
}

/// The key by which the items of a list are the same: `x-kubernetes-patch-merge-key` of Kubernetes' own OpenAPI, as far
/// as lists with that name have one in any kind that runs pods.
const KEYS: [(&str, &[&str]); 15] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("env", &["name"]),
    ("ports", &["containerPort", "port"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("secrets", &["name"]),
    ("webhooks", &["name"]),
];

/// How lists of an object are merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists {
    by_key: bool,
}

impl Lists {
    /// Only what Kubernetes defines itself has merge keys; the lists of custom resources are replaced.
    pub(super) fn of(id: &Id) -> Self {
        let own = !id.group.contains('.') || {
            let head = id.group.strip_suffix(".k8s.io").unwrap_or_default();
            matches!(
                head,
                "networking"
                    | "storage"
                    | "rbac.authorization"
                    | "admissionregistration"
                    | "coordination"
                    | "discovery"
                    | "events"
                    | "node"
                    | "scheduling"
                    | "certificates"
                    | "flowcontrol.apiserver"
            )
        };
        Self { by_key: own }
    }

    fn key(self, field: &str, items: &[Tree]) -> Option<&'static str> {
        let (_, keys) = KEYS.iter().find(|(name, _)| self.by_key && *name == field)?;
        keys.iter().find(|key| items.iter().any(|i| i.get(**key).is_some())).copied()
    }
}

/// Merges `change` into `base`.
pub(super) fn merge(base: &mut Tree, change: Tree, lists: &Lists) -> Kept {
    let (Tree::Object(b), Tree::Object(mut c)) = (&mut *base, change) else { return Kept::Yes };
    match directive(&mut c).as_deref() {
        Some("delete") => return Kept::No,
        Some("replace") => {
            *b = c;
            return Kept::Yes;
        }
        _ => {}
    }
    for (field, value) in c {
        match value {
            Tree::Null => {
                b.remove(&field);
            }
            Tree::Object(map) => {
                let there = b.entry(field.clone()).or_insert(Tree::Null);
                if !there.is_object() {
                    *there = Tree::Object(Default::default());
                }
                if merge(there, Tree::Object(map), lists) == Kept::No {
                    b.remove(&field);
                }
            }
            Tree::Array(items) => {
                let there = b.entry(field.clone()).or_insert(Tree::Null);
                if list(there, items, &field, lists) == Kept::No {
                    b.remove(&field);
                }
            }
            // How a patch says which order a list has, or what leaves a list of texts: nothing of it names an image.
            _ if field.starts_with("$") => {}
            scalar => {
                b.insert(field, scalar);
            }
        }
    }
    Kept::Yes
}

/// Takes `$patch` out of a map.
fn directive(map: &mut serde_json::Map<String, Tree>) -> Option<String> {
    match map.remove("$patch") {
        Some(Tree::String(word)) => Some(word),
        _ => None,
    }
}

fn list(there: &mut Tree, items: Vec<Tree>, field: &str, lists: &Lists) -> Kept {
    if field.starts_with('$') {
        return Kept::No;
    }
    let replaces = |i: &Tree| i.get("$patch").and_then(Tree::as_str) == Some("replace");
    let key = lists.key(field, &items);
    let (Some(key), Tree::Array(base), false) = (key, &mut *there, items.iter().any(replaces)) else {
        *there = Tree::Array(items.into_iter().filter(|i| i.get("$patch").is_none()).map(cleaned).collect());
        return Kept::Yes;
    };
    let mut new = Vec::new();
    for item in items {
        let same = |other: &Tree| item.get(key).is_some() && other.get(key) == item.get(key);
        match base.iter().position(same) {
            Some(at) => {
                if merge(&mut base[at], item, lists) == Kept::No {
                    base.remove(at);
                }
            }
            None if item.get("$patch").is_some() => {}
            None => new.push(cleaned(item)),
        }
    }
    // What is new goes before what was there.
    base.splice(0..0, new);
    if base.is_empty() { Kept::No } else { Kept::Yes }
}

/// What is new comes without the words that are only for merging, and without what it would remove.
fn cleaned(value: Tree) -> Tree {
    match value {
        Tree::Object(map) => Tree::Object(
            map.into_iter()
                .filter(|(k, v)| !k.starts_with('$') && !v.is_null())
                .map(|(k, v)| (k, cleaned(v)))
                .collect(),
        ),
        Tree::Array(items) => Tree::Array(items.into_iter().map(cleaned).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut base: Tree, change: Tree) -> Tree {
        merge(&mut base, change, &Lists { by_key: true });
        base
    }

    #[test]
    fn containers_are_the_same_by_name_and_new_ones_come_first() {
        let base = json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]});
        let change = json!({"containers": [{"name": "b", "image": "z"}, {"name": "c", "image": "w"}]});
        let expected = json!({"containers": [
            {"name": "c", "image": "w"}, {"name": "a", "image": "x"}, {"name": "b", "image": "z"}
        ]});
        assert_eq!(merged(base, change), expected);
    }

    #[test]
    fn things_are_removed_by_null_and_by_directive() {
        let base = json!({"a": 1, "b": {"c": 2}, "containers": [{"name": "x"}, {"name": "y"}], "env": [{"name": "e"}]});
        let change = json!({
            "a": null, "b": {"$patch": "delete"}, "containers": [{"name": "x", "$patch": "delete"}],
            "env": [{"$patch": "replace"}, {"name": "f"}]
        });
        assert_eq!(merged(base, change), json!({"containers": [{"name": "y"}], "env": [{"name": "f"}]}));
    }

    #[test]
    fn other_lists_are_replaced() {
        let base = json!({"args": ["a", "b"], "tolerations": [{"key": "k"}]});
        let change = json!({"args": ["c"], "tolerations": [{"key": "l"}]});
        assert_eq!(merged(base, change.clone()), change);
        let mut custom = json!({"containers": [{"name": "a"}]});
        merge(&mut custom, json!({"containers": [{"name": "b"}]}), &Lists { by_key: false });
        assert_eq!(custom, json!({"containers": [{"name": "b"}]}));
    }
}

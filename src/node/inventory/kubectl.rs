//! `kubectl get nodes -o json`: the nodes of a cluster, by the addresses that they tell.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::RawNode;

/// Labels whose last part is a role of the node, and with that a group.
const ROLE: &str = "node-role.kubernetes.io/";

#[derive(Deserialize)]
struct List {
    kind: String,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    node_info: NodeInfo,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct NodeInfo {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    operating_system: String,
}

/// The nodes of a list; `None` if the text is something else.
pub(super) fn read(text: &str) -> Option<Result<Vec<RawNode>, String>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    if !matches!(value.get("kind")?.as_str()?, "List" | "NodeList" | "Node") {
        return None;
    }
    Some(nodes(value))
}

fn nodes(value: serde_json::Value) -> Result<Vec<RawNode>, String> {
    let told = |e: serde_json::Error| format!("is no list of nodes as kubectl prints it: {e}");
    let items = if value.get("kind").and_then(|k| k.as_str()) == Some("Node") {
        vec![serde_json::from_value::<Item>(value).map_err(told)?]
    } else {
        let list: List = serde_json::from_value(value).map_err(told)?;
        let kind = list.kind;
        if list.items.is_empty() {
            return Err(format!("the {kind} has no nodes"));
        }
        list.items
    };
    if let Some(other) = items.iter().find(|i| i.kind != "Node") {
        return Err(format!(
            "{} is a {}, not a Node: use `kubectl get nodes -o json`",
            other.metadata.name, other.kind
        ));
    }
    Ok(items.into_iter().map(node).collect())
}

fn node(item: Item) -> RawNode {
    let Item { metadata: Metadata { name, labels }, status, .. } = item;
    let address = |kind: &str| status.addresses.iter().find(|a| a.kind == kind).map(|a| a.address.clone());
    // What is reachable from outside may be either; inside a site it is the internal one.
    let host = address("InternalIP").or_else(|| address("ExternalIP")).or_else(|| address("Hostname"));
    let NodeInfo { architecture, operating_system } = status.node_info;
    let known = !architecture.is_empty() && !operating_system.is_empty();
    let groups: BTreeSet<String> = labels
        .keys()
        .filter_map(|l| l.strip_prefix(ROLE))
        .filter(|r| !r.is_empty())
        .map(str::to_owned)
        .collect();
    RawNode {
        host: Some(host.unwrap_or_else(|| name.clone())),
        platform: known.then(|| format!("{operating_system}/{architecture}")),
        // A node without a role is a worker, as kubectl's ROLES column leaves it empty.
        groups: if groups.is_empty() { BTreeSet::from(["worker".to_owned()]) } else { groups },
        labels,
        ..RawNode::named(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_reached_by_their_internal_address() {
        let text = r#"{"kind": "List", "items": [
            {"kind": "Node", "metadata": {"name": "cp-1", "labels": {"node-role.kubernetes.io/control-plane": "", "zone": "a"}},
             "status": {"addresses": [{"type": "Hostname", "address": "cp-1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                        "nodeInfo": {"architecture": "arm64", "operatingSystem": "linux"}}},
            {"kind": "Node", "metadata": {"name": "w-1"}}]}"#;
        let all = read(text).unwrap().unwrap();
        assert_eq!(all[0].host.as_deref(), Some("10.0.0.1"));
        assert_eq!(all[0].platform.as_deref(), Some("linux/arm64"));
        assert!(all[0].groups.contains("control-plane") && all[0].labels["zone"] == "a");
        assert_eq!((all[1].host.as_deref(), all[1].groups.contains("worker")), (Some("w-1"), true));
    }

    #[test]
    fn other_lists_are_refused_and_other_texts_left_alone() {
        assert!(read("nodes: []").is_none());
        assert!(read("{\"nodes\": []}").is_none());
        let pods = r#"{"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "p"}}]}"#;
        assert!(read(pods).unwrap().unwrap_err().contains("is a Pod"));
        assert!(read(r#"{"kind": "NodeList", "items": []}"#).unwrap().is_err());
    }
}

//! Which tool wrote an inventory, and nodes that come from elsewhere than omk's own files.

use super::{Fallback, Port, RawDefaults, RawInventory, RawNode, ansible, kubectl};
use crate::yaml;

/// What an inventory is written in.
pub(super) enum Form {
    /// As it was read, for the places of what is wrong.
    Own(Option<yaml::Node>),
    Ansible,
    Kubectl(Result<Vec<RawNode>, String>),
}

/// Told by what is in it. What could be anything is taken for omk's own, whose errors say what is expected.
pub(super) fn form(text: &str) -> Form {
    if let Some(nodes) = kubectl::read(text) {
        return Form::Kubectl(nodes);
    }
    let limits = yaml::Limits { max_nodes: 500_000, max_depth: 64, ..yaml::Limits::default() };
    match yaml::parse_one(text, &limits) {
        Ok(root) if root.get("nodes").is_some() || root.get("defaults").is_some() => Form::Own(Some(root)),
        Ok(root) if ansible::is_yaml(&root) => Form::Ansible,
        Ok(root) if root.as_map().is_some() || root.is_null() => Form::Own(None),
        _ if text.lines().any(ansible_line) => Form::Ansible,
        _ => Form::Own(None),
    }
}

/// A section, or a host with variables.
fn ansible_line(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    let section = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
    section.is_some_and(|name| !name.is_empty() && !name.contains([',', ' '])) || line.contains(" ansible_")
}

/// Blocks of `ssh_config`, and nothing that only Ansible writes.
pub(super) fn ssh_config_like(text: &str) -> bool {
    let block = |line: &str| {
        let line = line.trim_start();
        line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("host"))
            && line[4..].starts_with([' ', '\t', '='])
            && !line.contains("ansible_")
    };
    text.lines().any(block) && !text.lines().any(ansible_line)
}

/// Nodes of an inventory that omk's own rules for names and logins were not made for.
pub(super) fn foreign(nodes: Vec<RawNode>, fallback: &Fallback) -> RawInventory {
    let mut nodes = nodes;
    for node in &mut nodes {
        // An IPv6 address is a name for others.
        node.name = node.name.replace([':', '%'], "-");
        node.login.clone_from(&fallback.login);
    }
    RawInventory { defaults: RawDefaults::default(), nodes }
}

/// `[USER@]HOST[:PORT]`; what is wrong with it is told when it is checked.
pub(super) fn inline(text: &str) -> RawNode {
    if text == "local" {
        return RawNode { local: true, ..RawNode::named("local".into()) };
    }
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, text),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) if port > 0 => (host, Some(Port(port))),
            _ => (place, None),
        },
        _ => (place, None),
    };
    let name = host.trim_matches(['[', ']']).to_owned();
    RawNode { host: Some(host.to_owned()), port, user, ..RawNode::named(name) }
}

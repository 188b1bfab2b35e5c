//! Ansible's inventories, INI and YAML (docs.ansible.com, "How to build your inventory"): hosts, groups, children, variables,
//! ranges. Variables of a host win over those of its groups, of a child group over its parents', of the later group by name
//! over the earlier among equals.
//!
//! What an inventory can say and omk does not follow is refused where it matters: templates (`{{ }}`) and vaults in the
//! variables that say how a host is reached. Plugins and dynamic inventories are for `ansible-inventory --list --yaml`.

use std::collections::{BTreeMap, BTreeSet};

use crate::yaml::{self, Limits, Node as Yaml, Value};

use super::RawNode;
use super::range::expand;

/// Groups within groups.
const MAX_DEPTH: usize = 32;

type Vars = BTreeMap<String, Var>;

/// A variable's value, and the line that sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Var {
    text: String,
    line: u32,
    /// Why its text must not be used, if it must not.
    unusable: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    vars: Vars,
}

/// Everything that an inventory says, before it is brought together by host.
#[derive(Debug, Default)]
struct All {
    groups: BTreeMap<String, Group>,
    hosts: BTreeMap<String, Vars>,
    /// Hosts in the order in which they are first named.
    order: Vec<String>,
}

/// What is wrong, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: u32,
    pub(super) text: String,
}

fn wrong(line: u32, text: impl Into<String>) -> Wrong {
    Wrong { line, text: text.into() }
}

/// Whether a YAML document looks as one of Ansible's: groups at its top, with hosts, children or vars.
pub(super) fn is_yaml(root: &Yaml) -> bool {
    root.as_map().is_some_and(|groups| {
        !groups.is_empty()
            && groups.values().all(|g| {
                g.is_null()
                    || g.as_map().is_some_and(|m| {
                        m.keys().all(|k| ["hosts", "children", "vars"].contains(&k.as_str()))
                    })
            })
    })
}

/// Reads the INI form.
pub(super) fn ini(text: &str) -> Result<Vec<RawNode>, Wrong> {
    enum Section {
        Hosts(String),
        Vars(String),
        Children(String),
    }
    let mut all = All::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (i, line) in text.lines().enumerate() {
        let number = u32::try_from(i + 1).unwrap_or(u32::MAX);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(head) = line.strip_prefix('[').filter(|_| !is_address(line)) {
            let name = head.split_once(']').map(|(name, _)| name.trim());
            let name = name.filter(|n| !n.is_empty()).ok_or_else(|| wrong(number, "a section is [GROUP]"))?;
            section = match name.rsplit_once(':') {
                None => Section::Hosts(name.to_owned()),
                Some((group, "vars")) => Section::Vars(group.to_owned()),
                Some((group, "children")) => Section::Children(group.to_owned()),
                Some((_, other)) => {
                    return Err(wrong(
                        number,
                        format!(
                            "[…:{other}] is no section: there is [GROUP], [GROUP:vars], [GROUP:children]"
                        ),
                    ));
                }
            };
            continue;
        }
        match &section {
            Section::Hosts(group) => {
                let words = words(line).map_err(|why| wrong(number, why))?;
                let Some((pattern, rest)) = words.split_first() else { continue };
                let mut vars = Vars::new();
                for word in rest {
                    let (key, value) = word
                        .split_once('=')
                        .ok_or_else(|| wrong(number, format!("{word:?} is no NAME=VALUE after the host")))?;
                    vars.insert(key.to_owned(), var(value, number));
                }
                all.host(group, pattern, vars, number)?;
            }
            Section::Vars(group) => {
                let (key, value) =
                    line.split_once('=').ok_or_else(|| wrong(number, "a variable is NAME=VALUE"))?;
                let value = words(value.trim()).map_err(|why| wrong(number, why))?.join(" ");
                all.group(group).vars.insert(key.trim().to_owned(), var(&value, number));
            }
            Section::Children(group) => {
                let child = line.split([' ', '\t', '#']).next().unwrap_or_default().to_owned();
                all.group(&child);
                all.group(group).children.insert(child);
            }
        }
    }
    all.nodes()
}

/// Reads the YAML form.
pub(super) fn yaml(root: &Yaml) -> Result<Vec<RawNode>, Wrong> {
    let mut all = All::default();
    for (name, group) in root.as_map().into_iter().flatten() {
        all.read(name, group, 0)?;
    }
    all.nodes()
}

/// Reads either form of a text that is no inventory of omk's own.
pub(super) fn read(text: &str) -> Result<Vec<RawNode>, Wrong> {
    let limits = Limits { max_nodes: 500_000, max_depth: 64, ..Limits::default() };
    match yaml::parse_one(text, &limits) {
        Ok(root) if is_yaml(&root) => yaml(&root),
        _ => ini(text),
    }
}

/// Whether a line begins with an IPv6 address in brackets, which is a host.
fn is_address(line: &str) -> bool {
    let inner = line.strip_prefix('[').and_then(|l| l.split_once(']')).map(|(inner, _)| inner);
    inner.is_some_and(|i| i.parse::<std::net::Ipv6Addr>().is_ok())
}

fn var(text: &str, line: u32) -> Var {
    let unusable = text.contains("{{").then_some("it is a template, which only Ansible can fill in");
    Var { text: text.to_owned(), line, unusable }
}

/// Words as a shell splits them; `#` after a space begins a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut all, mut word, mut begun) = (Vec::new(), String::new(), false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                begun = true;
                loop {
                    match chars.next() {
                        None => return Err(format!("a {c} is not closed")),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(inner) => word.push(inner),
                    }
                }
            }
            '#' if !begun => break,
            c if c.is_whitespace() => {
                if begun {
                    all.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            c => {
                begun = true;
                word.push(c);
            }
        }
    }
    if begun {
        all.push(word);
    }
    Ok(all)
}

impl All {
    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// `worker[1:3]:2222` with variables.
    fn host(&mut self, group: &str, pattern: &str, vars: Vars, line: u32) -> Result<(), Wrong> {
        for name in expand(pattern).map_err(|why| wrong(line, why))? {
            let (name, port) = match name.rsplit_once(':') {
                // More colons are an IPv6 address.
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                    (host.trim_matches(['[', ']']).to_owned(), Some(port.to_owned()))
                }
                _ => (name.trim_matches(['[', ']']).to_owned(), None),
            };
            if !self.hosts.contains_key(&name) {
                self.order.push(name.clone());
            }
            let known = self.hosts.entry(name.clone()).or_default();
            known.extend(port.map(|p| ("ansible_port".to_owned(), var(&p, line))));
            known.extend(vars.clone());
            self.group(group).hosts.insert(name);
        }
        Ok(())
    }

    fn read(&mut self, name: &str, node: &Yaml, depth: usize) -> Result<(), Wrong> {
        if depth > MAX_DEPTH {
            return Err(wrong(node.line, format!("groups are nested deeper than {MAX_DEPTH} levels")));
        }
        self.group(name);
        for (key, value) in node.as_map().into_iter().flatten() {
            let entries = || value.as_map().into_iter().flatten();
            if !value.is_null() && value.as_map().is_none() {
                return Err(wrong(
                    value.line,
                    format!("{key} of {name} is a mapping: `NAME:` with fields or nothing after it"),
                ));
            }
            match key.as_str() {
                "hosts" => {
                    for (host, vars) in entries() {
                        let vars = variables(vars)?;
                        self.host(name, host, vars, value.line)?;
                    }
                }
                "children" => {
                    for (child, inner) in entries() {
                        self.group(name).children.insert(child.clone());
                        self.read(child, inner, depth + 1)?;
                    }
                }
                "vars" => {
                    let vars = variables(value)?;
                    self.group(name).vars.extend(vars);
                }
                other => {
                    let text = format!("{other:?} is no part of a group: there are hosts, children and vars");
                    return Err(wrong(value.line, text));
                }
            }
        }
        Ok(())
    }

    /// The groups of a host with how deep each is, `all` not among them.
    fn groups_of(&self, host: &str) -> BTreeMap<&str, usize> {
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let mut parents: Vec<&str> =
            self.groups.iter().filter(|(_, g)| g.hosts.contains(host)).map(|(n, _)| n.as_str()).collect();
        for depth in 0..=MAX_DEPTH {
            let mut next = Vec::new();
            for name in parents {
                if found.get(name).is_none_or(|d| *d < depth) {
                    found.insert(name, depth);
                    next.extend(
                        self.groups
                            .iter()
                            .filter(|(_, g)| g.children.contains(name))
                            .map(|(n, _)| n.as_str()),
                    );
                }
            }
            parents = next;
        }
        found
    }

    fn nodes(&self) -> Result<Vec<RawNode>, Wrong> {
        self.order.iter().map(|host| self.node(host)).collect()
    }

    fn node(&self, host: &str) -> Result<RawNode, Wrong> {
        let groups = self.groups_of(host);
        // From the farthest to the nearest; `all` is farther than any.
        let mut order: Vec<(&str, usize)> = groups.iter().map(|(n, d)| (*n, *d)).collect();
        order.sort_by(|a, b| (a.0 != "all").cmp(&(b.0 != "all")).then(b.1.cmp(&a.1)).then(a.0.cmp(b.0)));
        let mut vars = self.groups.get("all").map(|g| g.vars.clone()).unwrap_or_default();
        for (name, _) in &order {
            vars.extend(self.groups.get(*name).map(|g| g.vars.clone()).unwrap_or_default());
        }
        vars.extend(self.hosts.get(host).cloned().unwrap_or_default());
        let get = |names: &[&str]| -> Result<Option<String>, Wrong> {
            let Some((name, var)) = names.iter().find_map(|n| vars.get(*n).map(|v| (n, v))) else {
                return Ok(None);
            };
            match var.unusable {
                Some(why) => Err(wrong(var.line, format!("{name} of {host}: {why}"))),
                None => Ok(Some(var.text.clone())),
            }
        };
        let local = get(&["ansible_connection"])?.is_some_and(|c| c == "local");
        let port = get(&["ansible_port", "ansible_ssh_port"])?;
        let line = vars.get("ansible_port").map_or(0, |v| v.line);
        let port = port.map(|p| {
            p.parse().ok().filter(|p| *p > 0).ok_or_else(|| wrong(line, format!("{p:?} is no port")))
        });
        let mut ssh_options = Vec::new();
        for name in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            if let Some(args) = get(&[name])? {
                let line = vars.get(name).map_or(0, |v| v.line);
                let read = ssh_args(&args).map_err(|why| wrong(line, format!("{name} of {host}: {why}")))?;
                ssh_options.extend(read);
            }
        }
        // What omk's own checks will complain about.
        let own = ["runtime", "image_folder", "staging", "platform"];
        let line = |field: &&str| Some(((*field).to_owned(), vars.get(&format!("omk_{field}"))?.line));
        let lines = super::Lines(own.iter().filter_map(line).collect());
        let groups =
            groups.keys().filter(|g| !["all", "ungrouped"].contains(*g)).map(|g| (*g).to_owned()).collect();
        Ok(RawNode {
            host: if local {
                None
            } else {
                get(&["ansible_host", "ansible_ssh_host"])?.or(Some(host.to_owned()))
            },
            local,
            port: port.transpose()?.map(super::Port),
            user: get(&["ansible_user", "ansible_ssh_user"])?,
            identity: get(&["ansible_ssh_private_key_file", "ansible_private_key_file"])?,
            sudo_password: get(&["ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"])?
                .map(crate::node::Secret::new),
            password: get(&["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"])?
                .map(crate::node::Secret::new),
            ssh_options,
            runtime: get(&["omk_runtime"])?,
            image_folder: get(&["omk_image_folder"])?,
            staging: get(&["omk_staging"])?,
            platform: get(&["omk_platform"])?,
            groups,
            lines,
            ..RawNode::named(host.to_owned())
        })
    }
}

/// Options of the command `ssh`, as keywords of `ssh_config` and their values.
fn ssh_args(args: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = words(args)?.into_iter();
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').and_then(|w| w.chars().next()) else {
            return Err(format!("{word:?} is no option of ssh"));
        };
        // Without a value, and of no meaning for how a host is reached.
        if "aACgkKnNqtTvxXyY".contains(flag) && word.len() == 2 {
            continue;
        }
        let mut value = || {
            let joined = word[2..].trim_start().to_owned();
            let value = if joined.is_empty() { words.next() } else { Some(joined) };
            value.ok_or_else(|| format!("-{flag} lacks its value"))
        };
        let keyword = match flag {
            '4' | '6' => {
                options.push((
                    "addressfamily".to_owned(),
                    if flag == '4' { "inet" } else { "inet6" }.to_owned(),
                ));
                continue;
            }
            'i' => "identityfile",
            'J' => "proxyjump",
            'l' => "user",
            'p' => "port",
            'o' => {
                let text = value()?;
                let (key, value) =
                    text.split_once(['=', ' ']).ok_or_else(|| format!("-o {text}: write -o NAME=VALUE"))?;
                options.push((key.trim().to_owned(), value.trim_start_matches(['=', ' ']).to_owned()));
                continue;
            }
            'F' => return Err("-F is not followed: name the file with --ssh-config".to_owned()),
            _ => return Err(format!("-{flag} is not followed: there are -o, -J, -i, -l, -p, -4, -6")),
        };
        let value = value()?;
        // A file's name is one word here, whatever is in it.
        let quoted = if flag == 'i' { format!("\"{}\"", value.replace(['"', '\\'], "")) } else { value };
        options.push((keyword.to_owned(), quoted));
    }
    Ok(options)
}

fn variables(node: &Yaml) -> Result<Vars, Wrong> {
    if !node.is_null() && node.as_map().is_none() {
        return Err(wrong(node.line, "variables are NAME: VALUE"));
    }
    let entries = node.as_map().into_iter().flatten();
    Ok(entries
        .map(|(key, value)| {
            let (text, unusable) = match &value.value {
                Value::Str(s) if s.starts_with("$ANSIBLE_VAULT") => (
                    String::new(),
                    Some("it is in a vault: give omk an inventory without it, or --ask-sudo-password"),
                ),
                Value::Str(s) => (s.clone(), None),
                Value::Int(i) => (i.to_string(), None),
                Value::UInt(u) => (u.to_string(), None),
                Value::Bool(b) => (b.to_string(), None),
                _ => (String::new(), Some("it is no plain value")),
            };
            let read = var(&text, value.line);
            (key.clone(), Var { unusable: unusable.or(read.unusable), ..read })
        })
        .collect())
}

#[cfg(test)]
#[path = "ansible_tests.rs"]
mod tests;

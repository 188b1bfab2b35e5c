//! `Chart.yaml`.

use std::sync::Arc;

use minijinja::value::Value as V;

use crate::template::value::{Dict, List, Map, nil};
use crate::yaml::{Node, Value};

/// What `Chart.yaml` says.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Name; an aliased dependency has the alias here.
    pub name: String,
    /// Version of the chart.
    pub version: String,
    /// `v1` or `v2`.
    pub api_version: String,
    /// Version of what the chart installs.
    pub app_version: String,
    /// Constraint on the version of Kubernetes, empty for any.
    pub kube_version: String,
    /// `application`, `library` or empty.
    pub chart_type: String,
    /// Whether its authors ask not to use it any more.
    pub deprecated: bool,
    /// Charts that this one needs, as far as they are enabled.
    pub dependencies: Vec<Dependency>,
    /// `annotations`.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Whether one of the dependencies is null.
    pub(crate) null_dependency: bool,
    /// Whether one of the maintainers is null.
    pub(crate) null_maintainer: bool,
    /// The remaining fields, by their name in Go.
    pub(crate) other: Vec<(&'static str, V)>,
}

/// An entry of `dependencies` in `Chart.yaml`.
#[derive(Debug, Clone, Default)]
pub struct Dependency {
    /// Name of the chart; replaced by the alias once dependencies are processed.
    pub name: String,
    /// Constraint on its version.
    pub version: String,
    /// Where it comes from.
    pub repository: String,
    /// Paths of values that switch it, separated by commas.
    pub condition: String,
    /// Tags that switch it.
    pub tags: Vec<String>,
    /// Name to install it under.
    pub alias: String,
    /// Whether condition and tags let it be.
    pub enabled: bool,
    /// Values taken over from it: a name under `exports`, or a child and a parent path.
    pub import_values: Vec<(String, String)>,
}

/// A scalar as Go's JSON decoder puts it into a string field.
pub(super) fn text(node: Option<&Node>) -> String {
    match node.map(|n| &n.value) {
        Some(Value::Str(s)) => s.clone(),
        Some(Value::Int(i)) => i.to_string(),
        Some(Value::UInt(u)) => u.to_string(),
        Some(Value::Float(f)) => crate::yaml::format_float(*f),
        Some(Value::Bool(b)) => b.to_string(),
        _ => String::new(),
    }
}

fn texts(node: Option<&Node>) -> Vec<String> {
    node.and_then(Node::as_seq).unwrap_or_default().iter().map(|n| text(Some(n))).collect()
}

fn holds_null(node: &Node, key: &str) -> bool {
    node.get(key).and_then(Node::as_seq).unwrap_or_default().iter().any(Node::is_null)
}

impl Metadata {
    /// Reads `Chart.yaml`.
    pub(crate) fn read(node: &Node) -> Self {
        let list = |key: &str| List::strings(texts(node.get(key)));
        let maintainers =
            node.get("maintainers").and_then(Node::as_seq).unwrap_or_default().iter().map(|m| {
                let field = |key| V::from(text(m.get(key)));
                Dict::value(Map::from([
                    ("Name".into(), field("name")),
                    ("Email".into(), field("email")),
                    ("URL".into(), field("url")),
                ]))
            });
        let annotations = match node.get("annotations").and_then(Node::as_map) {
            Some(m) => Dict::typed(
                "map[string]string",
                m.iter().map(|(k, v)| (Arc::from(k.as_str()), V::from(text(Some(v))))).collect(),
            ),
            None => nil(),
        };
        Self {
            name: text(node.get("name")),
            version: text(node.get("version")),
            api_version: text(node.get("apiVersion")),
            app_version: text(node.get("appVersion")),
            kube_version: text(node.get("kubeVersion")),
            chart_type: text(node.get("type")),
            deprecated: node.get("deprecated").and_then(Node::as_bool).unwrap_or(false),
            dependencies: dependencies(node),
            null_dependency: holds_null(node, "dependencies"),
            null_maintainer: holds_null(node, "maintainers"),
            annotations: node
                .get("annotations")
                .and_then(Node::as_map)
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), text(Some(v))))
                .collect(),
            other: vec![
                ("Annotations", annotations),
                ("Condition", V::from(text(node.get("condition")))),
                ("Description", V::from(text(node.get("description")))),
                ("Home", V::from(text(node.get("home")))),
                ("Icon", V::from(text(node.get("icon")))),
                ("Keywords", list("keywords")),
                ("Maintainers", List::value(maintainers.collect())),
                ("Sources", list("sources")),
                ("Tags", V::from(text(node.get("tags")))),
            ],
        }
    }

    /// Takes the dependencies of a `requirements.yaml`.
    pub(crate) fn read_requirements(&mut self, node: &Node) {
        self.dependencies = dependencies(node);
        self.null_dependency = holds_null(node, "dependencies");
    }

    /// Whether the chart only holds definitions for others.
    pub fn is_library(&self) -> bool {
        self.chart_type.eq_ignore_ascii_case("library")
    }

    /// `.Chart` in templates.
    pub(crate) fn value(&self, is_root: bool) -> V {
        let dependencies = self.dependencies.iter().map(|d| {
            Dict::value(Map::from([
                ("Name".into(), V::from(d.name.as_str())),
                ("Version".into(), V::from(d.version.as_str())),
                ("Repository".into(), V::from(d.repository.as_str())),
                ("Condition".into(), V::from(d.condition.as_str())),
                ("Tags".into(), List::strings(d.tags.iter().map(String::as_str))),
                ("Enabled".into(), V::from(d.enabled)),
                ("Alias".into(), V::from(d.alias.as_str())),
            ]))
        });
        let mut map: Map = self.other.iter().map(|(k, v)| (Arc::from(*k), v.clone())).collect();
        map.extend([
            (Arc::from("Name"), V::from(self.name.as_str())),
            ("Version".into(), V::from(self.version.as_str())),
            ("APIVersion".into(), V::from(self.api_version.as_str())),
            ("AppVersion".into(), V::from(self.app_version.as_str())),
            ("KubeVersion".into(), V::from(self.kube_version.as_str())),
            ("Type".into(), V::from(self.chart_type.as_str())),
            ("Dependencies".into(), List::value(dependencies.collect())),
            ("Deprecated".into(), V::from(self.deprecated)),
            ("IsRoot".into(), V::from(is_root)),
        ]);
        Dict::value(map)
    }
}

/// The entries of `dependencies`, in `Chart.yaml` and in lock files.
pub(crate) fn dependencies(node: &Node) -> Vec<Dependency> {
    let entries = node.get("dependencies").and_then(Node::as_seq).unwrap_or_default();
    entries.iter().filter(|d| d.as_map().is_some()).map(dependency).collect()
}

fn dependency(d: &Node) -> Dependency {
    let imports = d.get("import-values").and_then(Node::as_seq).unwrap_or_default();
    Dependency {
        name: text(d.get("name")),
        version: text(d.get("version")),
        repository: text(d.get("repository")),
        condition: text(d.get("condition")),
        tags: texts(d.get("tags")),
        alias: text(d.get("alias")),
        enabled: false,
        import_values: imports
            .iter()
            .filter_map(|i| match i.as_str() {
                Some(name) => Some((format!("exports.{name}"), ".".to_owned())),
                None => i.as_map().map(|_| (text(i.get("child")), text(i.get("parent")))),
            })
            .collect(),
    }
}

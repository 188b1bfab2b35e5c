//! Documents that lead to other documents, kept until all of a run are read: a release in one file refers to a
//! repository, to values and to sources in others.

use std::sync::Arc;

use super::{Finding, Origin, Outer, Problem, Rule, Severity, SourceName};
use crate::kustomize::tree;
use crate::oci::ImageRef;
use crate::yaml::{Node, Value};

/// Characters of a foreign name that are kept: the longest that Kubernetes takes.
const MAX_NAME: usize = 253;

/// Kinds that lead to others or are looked up by them, by API group; `*` is every kind of the group. A new one is a line
/// here and one in `expand::Step::of`.
const KINDS: &[(&str, &[&str])] = &[
    ("", &["ConfigMap", "Secret"]),
    ("argoproj.io", &["Application", "ApplicationSet"]),
    ("collection.hauler.cattle.io", &["*"]),
    ("config.openshift.io", &["ImageDigestMirrorSet", "ImageTagMirrorSet"]),
    ("content.hauler.cattle.io", &["*"]),
    ("helm.cattle.io", &["HelmChart", "HelmChartConfig"]),
    ("helm.toolkit.fluxcd.io", &["HelmRelease"]),
    ("kustomize.toolkit.fluxcd.io", &["Kustomization"]),
    ("omk", &["Component"]),
    ("operator.openshift.io", &["ImageContentSourcePolicy"]),
    ("operators.coreos.com", &["CatalogSource", "ClusterServiceVersion", "Subscription"]),
    (
        "source.toolkit.fluxcd.io",
        &["Bucket", "GitRepository", "HelmChart", "HelmRepository", "OCIRepository"],
    ),
    ("zarf.dev", &["ZarfInitConfig", "ZarfPackageConfig"]),
];

/// Whether an object is kept.
pub(super) fn leads_on(api_version: Option<&str>, kind: &str) -> bool {
    let group = group(api_version);
    // A Zarf package may do without an apiVersion.
    let group = if api_version.is_none() && kind.starts_with("Zarf") { "zarf.dev" } else { group };
    let of = |(g, kinds): &&(&str, &[&str])| *g == group && (kinds.contains(&kind) || *kinds == ["*"]);
    KINDS.iter().any(|entry| of(&entry))
}

/// What a document without a kind is taken for: `compose` for a Compose file, `registries` for k3s' mirrors.
pub(super) fn untyped(root: &Node) -> Option<&'static str> {
    let map = root.as_map()?;
    let is_map = |key: &str| map.get(key).is_some_and(|n| n.as_map().is_some());
    let service = |n: &Node| {
        let one = |key| n.get(key).is_some();
        one("image") || one("build") || one("extends") || one("deploy") || one("ports") || one("environment")
    };
    if is_map("services") && root.get("services")?.as_map()?.values().any(service) {
        return Some(COMPOSE);
    }
    // A Compose file that only includes others.
    let strange =
        map.keys().any(|k| !matches!(k.as_str(), "include" | "name" | "version") && !k.starts_with("x-"));
    if map.get("include").is_some_and(|n| n.as_seq().is_some()) && !strange {
        return Some(COMPOSE);
    }
    let mirrors =
        is_map("mirrors") && !map.keys().any(|k| !matches!(k.as_str(), "mirrors" | "configs" | "auths"));
    mirrors.then_some(REGISTRIES)
}

/// The kind under which a Compose file is held.
pub(super) const COMPOSE: &str = "compose";
/// The kind under which `registries.yaml` is held.
pub(super) const REGISTRIES: &str = "registries";

fn group(api_version: Option<&str>) -> &str {
    api_version.and_then(|v| v.split_once('/')).map_or("", |(group, _)| group)
}

/// Where an object is being read.
pub(super) struct Place<'a> {
    pub(super) source: &'a SourceName,
    pub(super) document: usize,
    pub(super) lines_before: u32,
}

/// An object that leads to others, with its place. What it holds may be secret: [`std::fmt::Debug`] tells its place only.
#[derive(Clone)]
pub struct Held {
    pub(super) source: SourceName,
    pub(super) document: Option<usize>,
    /// Lines of the file before the text in which its lines are counted; none where nobody sees that text.
    lines_before: Option<u32>,
    /// Where in the document it begins.
    pub(super) path: String,
    group: String,
    pub(super) kind: String,
    pub(super) node: Arc<Node>,
    /// What switches it on, if it is off; empty where that is not known.
    pub(super) switch: Option<Arc<str>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({})", self.outer())
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, self.document, &self.path) == (&other.source, other.document, &other.path)
    }
}

impl Eq for Held {}

impl Held {
    pub(super) fn new(
        place: &Place<'_>,
        path: &str,
        api_version: Option<&str>,
        kind: &str,
        node: &Node,
    ) -> Self {
        Self {
            source: place.source.clone(),
            document: Some(place.document),
            lines_before: Some(place.lines_before),
            path: path.to_owned(),
            group: group(api_version).to_owned(),
            kind: kind.chars().take(MAX_NAME).collect(),
            node: Arc::new(node.clone()),
            switch: None,
        }
    }

    /// An object that this one refers to, where no more than that is known of it.
    pub(super) fn stand_in(&self, group: &str, kind: &str, namespace: Option<&str>, name: &str) -> Self {
        let node = |value| Node { value, line: self.node.line, column: self.node.column };
        let text = |text: &str| node(Value::Str(text.to_owned()));
        let metadata = [("name", Some(name)), ("namespace", namespace)];
        let metadata = metadata.into_iter().filter_map(|(k, v)| Some((k.to_owned(), text(v?)))).collect();
        let root = [("metadata".to_owned(), node(Value::Map(metadata)))].into_iter().collect();
        let kind = kind.chars().take(MAX_NAME).collect();
        Self { group: group.to_owned(), kind, node: Arc::new(node(Value::Map(root))), ..self.clone() }
    }

    /// Its text began so many lines further down.
    pub(super) fn shift(&mut self, lines: u32) {
        self.lines_before = self.lines_before.map(|n| n.saturating_add(lines));
    }

    /// Its text is one that nobody ever sees.
    pub(super) fn displace(&mut self) {
        (self.document, self.lines_before) = (None, None);
    }

    /// Group and kind.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    fn meta(&self, key: &str) -> Option<&str> {
        self.node.get("metadata")?.get(key)?.as_str().filter(|s| !s.is_empty())
    }

    pub(super) fn name(&self) -> &str {
        self.meta("name").unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.meta("namespace")
    }

    /// `shop/web`, or `web` where no namespace is given.
    pub(super) fn full_name(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{namespace}/{}", self.name()),
            None => self.name().to_owned(),
        }
    }

    pub(super) fn line(&self, node: &Node) -> Option<u32> {
        self.lines_before.map(|before| node.line.saturating_add(before))
    }

    /// This object as a step of the way to what it leads to.
    pub(super) fn outer(&self) -> Outer {
        let bounded = |text: &str| text.chars().take(MAX_NAME).collect::<String>();
        let untyped = [COMPOSE, REGISTRIES].contains(&self.kind.as_str());
        Outer {
            source: self.source.inner().clone(),
            document: self.document,
            line: self.line(&self.node),
            kind: if untyped { String::new() } else { self.kind.clone() },
            namespace: self.namespace().map(bounded),
            name: Some(self.name()).filter(|n| !n.is_empty()).map(bounded),
        }
    }

    /// Everything on the way to what it leads to.
    pub(super) fn chain(&self) -> Vec<Outer> {
        self.source.through().iter().cloned().chain([self.outer()]).collect()
    }

    /// The value at `path`, none where a part of the way is missing or null.
    pub(super) fn at(&self, path: &str) -> Option<&Node> {
        at(&self.node, path)
    }

    /// The text at `path`; none where there is none or it is empty.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.at(path).and_then(Node::as_str).filter(|s| !s.is_empty())
    }

    /// The items of the list at `path`, each with its own path.
    pub(super) fn items(&self, path: &str) -> Vec<(&Node, String)> {
        let items = self.at(path).and_then(Node::as_seq).unwrap_or_default();
        items.iter().enumerate().map(|(i, n)| (n, format!("{path}[{i}]"))).collect()
    }

    /// A field's path within the document.
    pub(super) fn field(&self, path: &str) -> String {
        match (self.path.as_str(), path) {
            ("", path) => path.to_owned(),
            (own, "") => own.to_owned(),
            (own, path) => format!("{own}.{path}"),
        }
    }

    /// Something that is wrong with, or missing behind, the field at `path`.
    pub(super) fn problem(&self, severity: Severity, path: &str, reason: impl Into<String>) -> Problem {
        let node = at(&self.node, path).unwrap_or(&self.node);
        let mut reason = reason.into();
        if self.lines_before.is_none() {
            // Nothing else would tell which object it is about.
            reason = format!("{} {}: {reason}", self.kind, self.full_name());
        }
        Problem {
            severity,
            source: self.source.clone(),
            document: self.document,
            line: self.line(node),
            column: self.lines_before.map(|_| node.column),
            field: Some(self.field(path)).filter(|p| !p.is_empty()),
            reason,
        }
    }

    /// What cannot be reached, so that images may be missing.
    pub(super) fn gap(&self, path: &str, reason: impl Into<String>) -> Problem {
        self.problem(Severity::Error, path, reason)
    }

    /// The image that `text` names, which stands at `node`.
    pub(super) fn image(
        &self,
        text: &str,
        node: &Node,
        path: &str,
        rule: &'static Rule,
    ) -> Result<Finding, Box<Problem>> {
        match text.parse::<ImageRef>() {
            Ok(image) => {
                let Outer { kind, namespace, name, .. } = self.outer();
                let origin = Origin {
                    document: self.document,
                    line: self.line(node),
                    column: self.lines_before.map(|_| node.column),
                    kind: Some(kind).filter(|k| !k.is_empty()),
                    namespace,
                    name,
                    field: Some(self.field(path)),
                    ..Origin::of_source(self.source.clone())
                };
                Ok(Finding::new(image, rule, origin))
            }
            Err(error) => Err(Box::new(self.problem(Severity::Error, path, error.to_string()))),
        }
    }

    /// As JSON.
    pub(super) fn tree(&self) -> serde_json::Value {
        tree(&self.node)
    }
}

/// The value at a path such as `spec.chart.spec.sourceRef` or `spec.values[2].name`.
pub(super) fn at<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    let mut node = node;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        let (key, rest) = part.find('[').map_or((part, ""), |i| part.split_at(i));
        if !key.is_empty() {
            node = node.get(key)?;
        }
        for index in rest.split(['[', ']']).filter(|i| !i.is_empty()) {
            node = node.as_seq()?.get(index.parse::<usize>().ok()?)?;
        }
    }
    Some(node).filter(|n| !n.is_null())
}

/// A scalar as text, for fields that people write without quotes.
pub(super) fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Str(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(i) => Some(i.to_string()),
        Value::UInt(u) => Some(u.to_string()),
        Value::Float(f) => Some(crate::yaml::format_float(*f)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Limits, parse_one};

    #[test]
    fn what_leads_on_is_known_by_group() {
        assert!(leads_on(Some("helm.toolkit.fluxcd.io/v2"), "HelmRelease"));
        assert!(leads_on(Some("helm.cattle.io/v1"), "HelmChart"));
        assert!(leads_on(Some("source.toolkit.fluxcd.io/v1"), "HelmChart"));
        assert!(
            leads_on(None, "ZarfPackageConfig") && leads_on(Some("zarf.dev/v1alpha1"), "ZarfPackageConfig")
        );
        assert!(leads_on(Some("content.hauler.cattle.io/v1alpha1"), "Images"));
        assert!(leads_on(Some("v1"), "Secret"));
        assert!(!leads_on(Some("kustomize.config.k8s.io/v1beta1"), "Kustomization"));
        assert!(!leads_on(Some("app.k8s.io/v1beta1"), "Application"));
    }

    #[test]
    fn documents_without_a_kind_are_told_apart() {
        let like = |text: &str| untyped(&parse_one(text, &Limits::default()).unwrap());
        assert_eq!(like("services: {web: {image: a}}"), Some(COMPOSE));
        assert_eq!(like("include: [a.yaml]\nname: x"), Some(COMPOSE));
        assert_eq!(like("mirrors: {docker.io: {endpoint: [a]}}\nconfigs: {}"), Some(REGISTRIES));
        for other in
            ["services: {web: {enabled: true}}", "services: [a]", "include: [a]\nstages: []", "a: 1", "[1]"]
        {
            assert_eq!(like(other), None, "{other}");
        }
    }

    #[test]
    fn paths_lead_to_values() {
        let node = parse_one("a: {b: [{c: x}, {c: 1.50}]}\nd: null", &Limits::default()).unwrap();
        assert_eq!(at(&node, "a.b[0].c").and_then(Node::as_str), Some("x"));
        assert_eq!(at(&node, "a.b[1].c").and_then(scalar).as_deref(), Some("1.5"));
        assert!(at(&node, "a.b[2]").is_none() && at(&node, "a.x.y").is_none() && at(&node, "d").is_none());
        assert_eq!(at(&node, ""), Some(&node));
    }
}

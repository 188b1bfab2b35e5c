//! From rendered files to documents: split, told apart from hooks, and sorted by kind.

use super::ignore::matches;
use super::{ChartError, decode, metadata};
use crate::yaml::{self, Limits};

/// The order in which Helm installs kinds; others come after them, by name.
const INSTALL_ORDER: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

const HOOKS: [&str; 10] = [
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
    "test-success",
];

/// A document of a rendered chart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RenderedDoc {
    /// The template it comes from, such as `chart/templates/x.yaml`.
    pub source: String,
    /// The text as the template printed it, without the document marker.
    pub text: String,
    /// The line of what the template printed at which `text` begins, counted from 1.
    pub line: u32,
    /// Whether it is a hook; hooks come after everything else.
    pub hook: bool,
}

/// What a chart renders to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The documents in the order of `helm template`.
    pub documents: Vec<RenderedDoc>,
    /// What the user should know, such as a chart that is deprecated.
    pub warnings: Vec<String>,
}

impl Rendered {
    /// The text that `helm template` prints.
    pub fn to_manifest(&self) -> String {
        let mut out = String::new();
        for doc in self.documents.iter().filter(|d| !d.hook) {
            out += &format!("---\n# Source: {}\n{}\n", doc.source, doc.text);
        }
        // The first line is a marker.
        out.truncate(out.trim_end().len());
        out.push('\n');
        for doc in self.documents.iter().filter(|d| d.hook) {
            out += &format!("---\n# Source: {}\n{}\n", doc.source, doc.text);
        }
        out
    }

    /// The text of `helm template --show-only`: the documents of the templates that one of the patterns matches,
    /// which are relative to the chart.
    ///
    /// # Errors
    ///
    /// [`ChartError::NoSuchTemplate`] for a pattern that matches none.
    pub fn show_only(&self, patterns: &[String]) -> Result<String, ChartError> {
        let whole = self.to_manifest();
        let docs = split(&whole);
        let mut out = String::new();
        for pattern in patterns {
            let mut missing = true;
            for doc in &docs {
                let source = doc.lines().find_map(|l| l.split_once("# Source: ")?.1.split_once('/'));
                if source.is_some_and(|(_, path)| matches(pattern, path)) {
                    out += &format!("---\n{doc}\n");
                    missing = false;
                }
            }
            if missing {
                return Err(ChartError::NoSuchTemplate(pattern.clone()));
            }
        }
        Ok(out)
    }
}

/// Helm's `SplitManifests`: cuts at `---` at the start of a line, whatever follows.
fn split(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let mut docs = Vec::new();
    let mut start = 0;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some(after) = line.strip_prefix("---") {
            docs.push(&text[start..offset]);
            start = offset + 3 + (after.len() - after.trim_start_matches([' ', '\t']).len());
        }
        offset += line.len();
    }
    docs.push(&text[start..]);
    docs.into_iter().filter(|d| !d.trim().is_empty()).map(str::trim_start).collect()
}

/// The lines at which pieces of a text begin, asked for in their order.
struct Lines<'a> {
    whole: &'a str,
    seen: usize,
    line: u32,
}

impl<'a> Lines<'a> {
    fn new(whole: &'a str) -> Self {
        Self { whole, seen: 0, line: 1 }
    }

    /// The line at which `part`, a piece of the text, begins. What was counted for the piece before is not counted again.
    fn of(&mut self, part: &str) -> u32 {
        let at = (part.as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize);
        let between = self.whole.as_bytes().get(self.seen..at).unwrap_or_default();
        let lines = between.iter().filter(|b| **b == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.seen = self.seen.max(at);
        self.line
    }
}

/// Documents that one chart may render to. The largest real ones have some hundreds.
const MAX_DOCUMENTS: usize = 100_000;
/// Values of one document; a mapping counts for four.
const MAX_NODES: usize = 400_000;

struct Head {
    kind: String,
    hooks: Option<String>,
}

fn head(source: &str, text: &str) -> Result<Head, ChartError> {
    let limits = Limits { allow_duplicate_keys: true, max_nodes: MAX_NODES, ..Limits::default() };
    let node = yaml::parse_keys(text, &limits, &["apiVersion", "kind", "metadata"])
        .and_then(|node| decode::check(&node, &decode::HEAD).map(|()| node))
        .map_err(|error| ChartError::Output { template: source.to_owned(), source: error })?;
    let annotations = node.get("metadata").and_then(|m| m.get("annotations"));
    let hooks = annotations.and_then(|a| a.get("helm.sh/hook")).map(|hook| metadata::text(Some(hook)));
    Ok(Head { kind: metadata::text(node.get("kind")), hooks })
}

/// The documents of what a template printed, each with its kind, or why one is none.
pub(crate) type Printed = Result<Vec<(String, RenderedDoc)>, ChartError>;

/// Takes what a template printed apart.
pub(crate) fn documents(source: &str, printed: &str, no_hooks: bool, skip_tests: bool) -> Printed {
    let mut docs: Vec<(String, RenderedDoc)> = Vec::new();
    if printed.trim().is_empty() {
        return Ok(docs);
    }
    let mut lines = Lines::new(printed);
    for text in split(printed) {
        within(source, docs.len())?;
        let head = head(source, text)?;
        let hook = match &head.hooks {
            None => false,
            Some(events) => {
                let mut events = events.split(',').map(|e| e.trim().to_lowercase()).collect::<Vec<_>>();
                if events.iter().any(|e| !HOOKS.contains(&e.as_str())) {
                    continue;
                }
                events.retain(|e| e.starts_with("test"));
                if no_hooks || (skip_tests && !events.is_empty()) {
                    continue;
                }
                true
            }
        };
        let doc =
            RenderedDoc { source: source.to_owned(), text: text.to_owned(), line: lines.of(text), hook };
        docs.push((head.kind, doc));
    }
    Ok(docs)
}

fn within(source: &str, documents: usize) -> Result<(), ChartError> {
    if documents < MAX_DOCUMENTS {
        return Ok(());
    }
    let reason = format!("a chart of more than {MAX_DOCUMENTS} documents is not rendered");
    Err(ChartError::TooLarge { template: source.to_owned(), reason })
}

/// Sorts the documents of all templates, which are given by their names.
///
/// # Errors
///
/// The first, in the order of the names.
pub(crate) fn sorted(mut files: Vec<(String, Printed)>) -> Result<Vec<RenderedDoc>, ChartError> {
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut docs: Vec<(String, RenderedDoc)> = Vec::new();
    for (source, printed) in files {
        docs.extend(printed?);
        within(&source, docs.len().saturating_sub(1))?;
    }
    let rank = |kind: &str| INSTALL_ORDER.iter().position(|k| *k == kind);
    docs.sort_by(|(a, x), (b, y)| {
        x.hook.cmp(&y.hook).then_with(|| match (rank(a), rank(b)) {
            (None, None) => a.cmp(b),
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(_), None) => std::cmp::Ordering::Less,
            (Some(a), Some(b)) => a.cmp(&b),
        })
    });
    Ok(docs.into_iter().map(|(_, d)| d).collect())
}

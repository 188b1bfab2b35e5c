//! Kubernetes objects and what they are found by.

use std::path::{Path, PathBuf};

use crate::chart::Tree;
use crate::yaml::{Node, Value};

/// Lists within lists.
const MAX_LIST_DEPTH: usize = 8;

/// An object of a kustomization.
#[derive(Debug, Clone)]
pub struct Object {
    /// As it stands now.
    pub value: Tree,
    /// The file it was read from; the kustomization itself for what it generated.
    pub origin: PathBuf,
    /// Every identity it had before it was renamed or moved: patches may still name those.
    pub(super) before: Vec<Id>,
}

/// What tells objects apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

impl Object {
    /// Takes the objects out of a document, items of a `List` one by one.
    pub(super) fn collect(value: Tree, origin: &Path, out: &mut Vec<Self>) -> Result<(), String> {
        Self::collect_at(value, origin, out, 0)
    }

    fn collect_at(mut value: Tree, origin: &Path, out: &mut Vec<Self>, depth: usize) -> Result<(), String> {
        let Tree::Object(map) = &mut value else { return Err("holds a document that is no object".into()) };
        let kind = map.get("kind").and_then(Tree::as_str).unwrap_or_default().to_owned();
        if kind.is_empty() {
            return Err("holds an object without a kind".into());
        }
        if kind.ends_with("List")
            && let Some(Tree::Array(items)) = map.get_mut("items")
        {
            if depth >= MAX_LIST_DEPTH {
                return Err(format!("lists are nested deeper than {MAX_LIST_DEPTH} levels"));
            }
            return std::mem::take(items)
                .into_iter()
                .try_for_each(|i| Self::collect_at(i, origin, out, depth + 1));
        }
        out.push(Self { value, origin: origin.into(), before: Vec::new() });
        Ok(())
    }

    pub(super) fn id(&self) -> Id {
        let text =
            |pointer| self.value.pointer(pointer).and_then(Tree::as_str).unwrap_or_default().to_owned();
        let api = text("/apiVersion");
        let (group, version) = api.split_once('/').unwrap_or(("", &api));
        Id {
            group: group.into(),
            version: version.into(),
            kind: text("/kind"),
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
        }
    }

    /// The present identity and all former ones.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + '_ {
        std::iter::once(self.id()).chain(self.before.iter().rev().cloned())
    }

    /// Changes something of the identity; the old one is kept.
    pub(super) fn rename(&mut self, field: &str, value: String) {
        let old = self.id();
        if let Tree::Object(map) = &mut self.value {
            let metadata = map.entry("metadata").or_insert_with(|| Tree::Object(Default::default()));
            if let Tree::Object(metadata) = metadata {
                metadata.insert(field.into(), Tree::String(value));
            }
        }
        if self.id() != old {
            self.before.push(old);
        }
    }

    /// Annotated so that Kustomize leaves it out of what it prints.
    pub(super) fn is_local_config(&self) -> bool {
        let value = self.value.pointer("/metadata/annotations/config.kubernetes.io~1local-config");
        value.is_some_and(|v| v.as_str() != Some("false"))
    }

    /// A label or annotation.
    pub(super) fn metadata(&self, map: &str, key: &str) -> Option<&str> {
        self.value.get("metadata")?.get(map)?.get(key)?.as_str()
    }
}

impl Id {
    /// The same text for ids that are the same object.
    pub(super) fn key(&self) -> String {
        let namespace = match self.namespace.as_str() {
            _ if is_cluster_wide(self) => "",
            "" => "default",
            own => own,
        };
        [&self.group, &self.version, &self.kind, namespace, &self.name].join("/")
    }

    /// Whether `other`, in which an empty namespace is the default one, is this object.
    pub(super) fn is(&self, other: &Self) -> bool {
        fn space(n: &str) -> &str {
            if n.is_empty() { "default" } else { n }
        }
        self.group == other.group
            && self.version == other.version
            && self.kind == other.kind
            && self.name == other.name
            && (is_cluster_wide(self) || space(&self.namespace) == space(&other.namespace))
    }
}

/// Kinds that no namespace is set on; of unknown kinds Kustomize assumes that they live in one.
pub(super) fn is_cluster_wide(id: &Id) -> bool {
    const KINDS: [&str; 25] = [
        "APIService",
        "CSIDriver",
        "CSINode",
        "CertificateSigningRequest",
        "ClusterRole",
        "ClusterRoleBinding",
        "ComponentStatus",
        "CustomResourceDefinition",
        "FlowSchema",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PodSecurityPolicy",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "RuntimeClass",
        "SelfSubjectAccessReview",
        "StorageClass",
        "TokenReview",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
    ];
    KINDS.contains(&id.kind.as_str())
}

/// A parsed document as JSON.
pub(crate) fn tree(node: &Node) -> Tree {
    match &node.value {
        Value::Null => Tree::Null,
        Value::Bool(b) => Tree::Bool(*b),
        Value::Int(i) => Tree::from(*i),
        Value::UInt(u) => Tree::from(*u),
        Value::Float(f) => Tree::from(*f),
        Value::Str(s) => Tree::String(s.clone()),
        Value::Seq(items) => Tree::Array(items.iter().map(tree).collect()),
        Value::Map(map) => Tree::Object(map.iter().map(|(k, v)| (k.clone(), tree(v))).collect()),
    }
}

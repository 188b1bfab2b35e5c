//! Where images stand, as data: a new kind or field is a line here, not code.

/// A built-in kind that runs pods.
pub(super) struct Workload {
    /// API groups under which the kind was ever served; the core group is empty.
    pub(super) groups: &'static [&'static str],
    /// `kind` as written.
    pub(super) kind: &'static str,
    /// The way to the pod's spec.
    pub(super) pod_spec: &'static [&'static str],
}

const TEMPLATE: &[&str] = &["spec", "template", "spec"];

/// Every built-in workload kind up to Kubernetes 1.34, with the groups of old manifests (`extensions/v1beta1` until
/// 1.16), which still stand in repositories and name images just as well.
pub(super) const WORKLOADS: &[Workload] = &[
    Workload { groups: &[""], kind: "Pod", pod_spec: &["spec"] },
    Workload { groups: &[""], kind: "PodTemplate", pod_spec: &["template", "spec"] },
    Workload { groups: &[""], kind: "ReplicationController", pod_spec: TEMPLATE },
    Workload { groups: &["apps", "extensions"], kind: "Deployment", pod_spec: TEMPLATE },
    Workload { groups: &["apps", "extensions"], kind: "ReplicaSet", pod_spec: TEMPLATE },
    Workload { groups: &["apps", "extensions"], kind: "DaemonSet", pod_spec: TEMPLATE },
    Workload { groups: &["apps"], kind: "StatefulSet", pod_spec: TEMPLATE },
    Workload { groups: &["batch", "extensions"], kind: "Job", pod_spec: TEMPLATE },
    Workload {
        groups: &["batch"],
        kind: "CronJob",
        pod_spec: &["spec", "jobTemplate", "spec", "template", "spec"],
    },
];

/// A list within a pod's spec whose items name images.
pub(super) struct PodField {
    /// The list.
    pub(super) list: &'static str,
    /// The way from an item to the image.
    pub(super) image: &'static [&'static str],
    /// Goes into [`super::Origin::rule`].
    pub(super) rule: &'static str,
    /// When the API server refuses the object without it (`pkg/apis/core/validation`).
    pub(super) required: Required,
}

/// When an image must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Required {
    /// Every item of the list needs one.
    Always,
    /// An item that has the field's parent needs one, if the object is a pod; in the template of a controller it
    /// may be left to whatever fills it in.
    InPods,
}

/// `image` of an image volume is KEP-4639 (alpha in 1.31).
pub(super) const POD_FIELDS: &[PodField] = &[
    PodField {
        list: "initContainers",
        image: &["image"],
        rule: "init-container",
        required: Required::Always,
    },
    PodField { list: "containers", image: &["image"], rule: "container", required: Required::Always },
    PodField {
        list: "ephemeralContainers",
        image: &["image"],
        rule: "ephemeral-container",
        required: Required::Always,
    },
    PodField {
        list: "volumes",
        image: &["image", "reference"],
        rule: "image-volume",
        required: Required::InPods,
    },
];

/// Image names that something in the cluster replaces, with what to do about it. They parse as names of images
/// that do not exist.
pub(super) const PLACEHOLDERS: &[(&str, &str)] = &[(
    "auto",
    "\"auto\" is filled in by Istio's injection when the pod is created; name the proxy image with --image",
)];

/// What opens and closes a place holder of a template language that nobody filled in: Go templates and Jinja,
/// shells and Flux, make and Azure pipelines, ERB.
const TEMPLATE_MARKS: &[(&str, &str)] = &[("{{", "}}"), ("${", "}"), ("$(", ")"), ("<%", "%>")];

/// The first template expression in `text`, if there is one.
pub(super) fn template_leftover(text: &str) -> Option<&str> {
    TEMPLATE_MARKS
        .iter()
        .filter_map(|(open, close)| {
            let start = text.find(open)?;
            let length = text[start..].find(close)? + close.len();
            Some((start, &text[start..start + length]))
        })
        .min_by_key(|(start, _)| *start)
        .map(|(_, expression)| expression)
}

/// The workload kind of an object; an object without `apiVersion` is taken at its kind's word.
pub(super) fn workload(api_version: Option<&str>, kind: &str) -> Option<&'static Workload> {
    let group = api_version.map(|v| v.split_once('/').map_or("", |(group, _)| group));
    WORKLOADS.iter().find(|w| w.kind == kind && group.is_none_or(|g| w.groups.contains(&g)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_belong_to_groups() {
        assert!(workload(Some("apps/v1"), "Deployment").is_some());
        assert!(workload(Some("extensions/v1beta1"), "Deployment").is_some());
        assert!(workload(Some("v1"), "Pod").is_some());
        assert!(workload(None, "Pod").is_some());
        assert!(workload(Some("batch.volcano.sh/v1alpha1"), "Job").is_none());
        assert!(workload(Some("v1"), "Service").is_none());
    }

    #[test]
    fn leftovers_are_recognised() {
        assert_eq!(template_leftover("a: {{ .Values.x }}:{{ .y }}"), Some("{{ .Values.x }}"));
        assert_eq!(template_leftover("${TAG} {{ x }}"), Some("${TAG}"));
        assert_eq!(template_leftover("nginx:$(TAG)"), Some("$(TAG)"));
        for plain in ["nginx:1.27", "a }} {{", "{ {x} }", ""] {
            assert_eq!(template_leftover(plain), None, "{plain}");
        }
    }
}

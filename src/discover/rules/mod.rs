//! Where images stand and what that is worth, as data: a new rule, kind or field is a line in a table, not code.
//! `docs/discovery.md` explains the rules to users; a test holds it to [`RULES`].

use super::Confidence;

pub(super) mod known;
pub(super) mod words;

/// A kind of evidence: what sees an image, and how sure it makes.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as in [`super::Origin::rule`] and on the command line; never changes its meaning.
    pub name: &'static str,
    /// What its findings are worth.
    pub confidence: Confidence,
    /// What it looks at, as a lowercase fragment.
    pub sees: &'static str,
}

macro_rules! rules {
    ($($id:ident $confidence:ident $name:literal $sees:literal;)*) => {
        $(pub(super) static $id: Rule =
            Rule { name: $name, confidence: Confidence::$confidence, sees: $sees };)*
        /// Every rule, the surest first.
        pub static RULES: &[&Rule] = &[$(&$id),*];
    };
}

rules! {
    ARGUMENT Certain "argument" "an image that the user named";
    CONTAINER Certain "container" "a container of a pod spec";
    INIT_CONTAINER Certain "init-container" "an init container of a pod spec";
    EPHEMERAL_CONTAINER Certain "ephemeral-container" "an ephemeral container of a pod spec";
    IMAGE_VOLUME Certain "image-volume" "an image that a pod mounts as a volume";
    KNOWN_CONTAINER Certain "known-container" "a container or pod spec at a known place of a well-known custom resource";
    IMAGE_LIST Certain "image-list" "a line of a list of images";
    COMPONENT Certain "component" "a component of the catalogue";
    COMPOSE_SERVICE Certain "compose-service" "a service of a Compose file";
    HAULER_IMAGE Certain "hauler-image" "an image of a hauler manifest";
    ZARF_IMAGE Certain "zarf-image" "an image of a Zarf package";
    RELATED_IMAGE Certain "related-image" "an image that an operator's ClusterServiceVersion lists";
    CATALOG_SOURCE Certain "catalog-source" "the image that serves a catalogue of operators";
    HELM_CHART_JOB Certain "helm-chart-job" "the image that installs a k3s HelmChart";
    OPERATOR_IMAGE Strong "operator-image" "the annotation containerImage of a ClusterServiceVersion";
    KNOWN_FIELD Strong "known-field" "an image field of a well-known custom resource";
    SCHEMA Strong "schema" "a field that a CustomResourceDefinition of the same input describes as an image";
    CUSTOM_CONTAINER Strong "custom-container" "a container list within a custom resource";
    CUSTOM_FIELD Strong "custom-field" "a field of a custom resource that is called an image and holds one with tag, digest or registry";
    CUSTOM_SPLIT Strong "custom-split" "registry, repository, tag and digest side by side in a custom resource";
    CUSTOM_BARE Likely "custom-bare" "a field of a custom resource that is called an image and holds a mere name";
    CUSTOM_VALUE Likely "custom-value" "any other text of a custom resource that has the form of a complete image name";
    KNOWN_DEFAULT Likely "known-default" "the image that a well-known operator takes when its resource names only a version";
    CRD_DEFAULT Likely "crd-default" "the default of an image field in a CustomResourceDefinition";
    ENV Likely "env" "the value of an environment variable";
    ARG Likely "arg" "a command line: a flag that says image, or a complete image name within it";
    ANNOTATION Likely "annotation" "an annotation of an object or of a pod template";
    CONFIG Likely "config" "a file or value in a ConfigMap or Secret";
    RELEASE_VALUE Likely "release-value" "the values of a release whose chart is not at hand";
    CHART_ANNOTATION Likely "chart-annotation" "an image that Chart.yaml lists";
    IMAGES_LOCK Likely "images-lock" "an Images.lock beside Chart.yaml";
    INCOMPLETE_CHART Likely "incomplete-chart" "what a chart that cannot be rendered as it is prints where it can";
    CHART_ANNOTATION_OTHER Possible "chart-annotation-other" "an image that Chart.yaml lists and that this rendering takes in another version or from elsewhere, or one that a dependency lists";
    RUNNING_DIGEST Possible "running-digest" "the digest that a node reports for an image which a pod names by tag";
    SWITCHED_ON Possible "switched-on" "what a chart renders to once values are set otherwise";
    TEMPLATE Possible "template" "an image in the text of a chart's template which this rendering does not reach";
    VALUES Possible "values" "a chart's value that holds an image which this rendering does not use";
    VALUES_SPLIT Possible "values-split" "a chart's values that name an image in parts which this rendering does not use";
}

/// A built-in kind that runs pods.
pub(super) struct Workload {
    /// API groups under which the kind was ever served; the core group is empty.
    pub(super) groups: &'static [&'static str],
    /// `kind` as written.
    pub(super) kind: &'static str,
    /// The way to the pod's spec.
    pub(super) pod_spec: &'static [&'static str],
}

const POD_TEMPLATE: &[&str] = &["spec", "template", "spec"];

/// Every built-in workload kind up to Kubernetes 1.34, with the groups of old manifests (`extensions/v1beta1` until
/// 1.16), which still stand in repositories and name images just as well.
pub(super) const WORKLOADS: &[Workload] = &[
    Workload { groups: &[""], kind: "Pod", pod_spec: &["spec"] },
    Workload { groups: &[""], kind: "PodTemplate", pod_spec: &["template", "spec"] },
    Workload { groups: &[""], kind: "ReplicationController", pod_spec: POD_TEMPLATE },
    Workload { groups: &["apps", "extensions"], kind: "Deployment", pod_spec: POD_TEMPLATE },
    Workload { groups: &["apps", "extensions"], kind: "ReplicaSet", pod_spec: POD_TEMPLATE },
    Workload { groups: &["apps", "extensions"], kind: "DaemonSet", pod_spec: POD_TEMPLATE },
    Workload { groups: &["apps"], kind: "StatefulSet", pod_spec: POD_TEMPLATE },
    Workload { groups: &["batch", "extensions"], kind: "Job", pod_spec: POD_TEMPLATE },
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
    /// What sees it.
    pub(super) rule: &'static Rule,
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
    PodField { list: "initContainers", image: &["image"], rule: &INIT_CONTAINER, required: Required::Always },
    PodField { list: "containers", image: &["image"], rule: &CONTAINER, required: Required::Always },
    PodField {
        list: "ephemeralContainers",
        image: &["image"],
        rule: &EPHEMERAL_CONTAINER,
        required: Required::Always,
    },
    PodField {
        list: "volumes",
        image: &["image", "reference"],
        rule: &IMAGE_VOLUME,
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

/// The group of an `apiVersion`; that of the core is empty.
pub(super) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The workload kind of an object. One without `apiVersion` is taken at its kind's word, as is one whose `apiVersion` is
/// merely wrong, `v1` for a `Deployment`: nothing else in the core group has that name.
pub(super) fn workload(api_version: Option<&str>, kind: &str) -> Option<&'static Workload> {
    let group = api_version.map(group).unwrap_or_default();
    WORKLOADS.iter().find(|w| w.kind == kind && (group.is_empty() || w.groups.contains(&group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_names_of_their_own_and_stand_in_order() {
        let names: std::collections::BTreeSet<_> = RULES.iter().map(|r| r.name).collect();
        assert_eq!(names.len(), RULES.len());
        assert!(RULES.is_sorted_by(|a, b| a.confidence >= b.confidence));
    }

    #[test]
    fn kinds_belong_to_groups() {
        assert!(workload(Some("apps/v1"), "Deployment").is_some());
        assert!(workload(Some("extensions/v1beta1"), "Deployment").is_some());
        assert!(workload(Some("v1"), "Pod").is_some());
        assert!(workload(None, "Pod").is_some());
        assert!(workload(Some("v1"), "Deployment").is_some());
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

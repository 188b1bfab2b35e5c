use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::discover::{Inputs, Scope, Severity, discover};

/// Keys that the kinds of this folder look at.
const KEYS: [&str; 40] = [
    "source",
    "sources",
    "chart",
    "path",
    "repoURL",
    "helm",
    "values",
    "valuesFrom",
    "valuesObject",
    "valueFiles",
    "generators",
    "list",
    "matrix",
    "merge",
    "elements",
    "template",
    "metadata",
    "name",
    "kind",
    "images",
    "image",
    "charts",
    "import",
    "extends",
    "build",
    "spec",
    "sourceRef",
    "chartRef",
    "url",
    "ref",
    "postBuild",
    "substitute",
    "components",
    "manifests",
    "files",
    "mergeKeys",
    "parameters",
    "kustomize",
    "relatedImages",
    "install",
];

fn kinds() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        Just(("argoproj.io/v1alpha1", "Application")),
        Just(("argoproj.io/v1alpha1", "ApplicationSet")),
        Just(("helm.toolkit.fluxcd.io/v2", "HelmRelease")),
        Just(("kustomize.toolkit.fluxcd.io/v1", "Kustomization")),
        Just(("source.toolkit.fluxcd.io/v1", "GitRepository")),
        Just(("source.toolkit.fluxcd.io/v1", "HelmRepository")),
        Just(("helm.cattle.io/v1", "HelmChart")),
        Just(("helm.cattle.io/v1", "HelmChartConfig")),
        Just(("operators.coreos.com/v1alpha1", "ClusterServiceVersion")),
        Just(("content.hauler.cattle.io/v1", "Images")),
        Just(("content.hauler.cattle.io/v1", "Charts")),
        Just(("zarf.dev/v1alpha1", "ZarfPackageConfig")),
        Just(("omk/v1", "Component")),
        Just(("v1", "ConfigMap")),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof![
            Just("web:1"),
            Just("../.."),
            Just("{{ .x }}"),
            Just("{{x}}"),
            Just("${X:-${Y}}"),
            Just("###ZARF_VAR_A###"),
            Just(""),
            Just("https://charts.invalid/x"),
            Just("oci://h.invalid/a/b"),
            Just("HelmRepository"),
            Just("GitRepository"),
            Just("."),
            Just("$a/b"),
            Just("a=b,c"),
            Just("a: [1"),
            Just("kind: Pod"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((proptest::sample::select(&KEYS[..]), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

fn run(documents: &[Value], folder: &Path) -> crate::discover::Findings {
    let text: String = documents.iter().map(|d| format!("---\n{d}\n")).collect();
    let file = folder.join("all.yaml");
    std::fs::write(&file, text).unwrap();
    let scope =
        Scope { max_expansions: 50, source_paths: vec![("a".into(), folder.into())], ..Scope::default() };
    discover(&Inputs { paths: vec![file], ..Inputs::default() }, &scope).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_objects_are_survived(
        given in proptest::collection::vec((kinds(), proptest::sample::select(&["a", "b"][..]), value(), value()), 1..4),
    ) {
        let documents: Vec<Value> = given
            .into_iter()
            .map(|((api, kind), name, spec, more)| {
                json!({
                    "apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec, "components": more,
                    "data": {"values.yaml": "a: 1"},
                })
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let found = run(&documents, dir.path());
        for problem in &found.problems {
            prop_assert!(!problem.reason.is_empty());
        }
    }

    #[test]
    fn any_services_are_survived(services in value()) {
        let dir = tempfile::tempdir().unwrap();
        run(&[json!({"services": {"a": services, "b": {"image": "b:1"}}})], dir.path());
    }
}

#[test]
fn a_set_that_multiplies_is_cut() {
    let elements: Vec<Value> = (0..200).map(|n| json!({"n": n.to_string()})).collect();
    let list = json!({"list": {"elements": elements}});
    let set = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "metadata": {"name": "many"},
        "spec": {
            "generators": [{"matrix": {"generators": [list.clone(), list]}}],
            "template": {"metadata": {"name": "{{n}}"}, "spec": {"source": {"repoURL": "x", "path": "y"}}},
        },
    });
    let dir = tempfile::tempdir().unwrap();
    let found = run(&[set], dir.path());
    let told: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|t| t.contains("makes more than 2000 applications")), "{told:?}");
    assert!(told.iter().any(|t| t.contains("more than 50 documents lead to others")), "{told:?}");
}

#[test]
fn a_reference_to_nothing_is_a_gap_and_the_rest_is_found() {
    let release = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": {"name": "r", "namespace": "n"},
        "spec": {"chart": {"spec": {"chart": "c", "sourceRef": {"kind": "HelmRepository", "name": "gone"}}}},
    });
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": "a:1"}]}});
    let dir = tempfile::tempdir().unwrap();
    let found = run(&[release, pod], dir.path());
    assert_eq!((found.findings.len(), found.problems.len()), (1, 1), "{:?}", found.problems);
    assert_eq!(found.problems[0].severity, Severity::Error);
    assert_eq!(found.problems[0].field.as_deref(), Some("spec.chart.spec.sourceRef"));
}

use super::*;
use crate::discover::Documents;
use proptest::prelude::*;
use std::fmt::Write as _;

fn run(text: &str) -> Findings {
    let mut found = scan(text, &SourceName::File { path: "f.yaml".into() });
    found.sort();
    found
}

/// One line a finding, one a problem, and the counts.
fn show(text: &str) -> String {
    let found = run(text);
    let mut out = String::new();
    for f in &found.findings {
        let document = f.origin.document.unwrap_or_default();
        let _ = writeln!(out, "{} <- #{document} {} [{}]", f.image, f.origin, f.origin.rule);
    }
    found.problems.iter().for_each(|p| {
        let _ = writeln!(out, "{:?} {p}", p.severity);
    });
    let Documents { read, without_images, skipped, failed } = found.documents;
    let _ = write!(out, "read {read} ({without_images} without images), skipped {skipped}, failed {failed}");
    out
}

#[test]
fn every_workload_kind_is_walked() {
    for workload in rules::WORKLOADS {
        for group in workload.groups {
            let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let mut text =
                format!("apiVersion: {api_version}\nkind: {}\nmetadata: {{name: x}}\n", workload.kind);
            for (depth, key) in workload.pod_spec.iter().enumerate() {
                let _ = writeln!(text, "{:w$}{key}:", "", w = depth * 2);
            }
            let w = workload.pod_spec.len() * 2;
            let _ = writeln!(text, "{:w$}containers: [{{name: c, image: reg.example/c:1}}]", "");
            let _ = writeln!(text, "{:w$}initContainers: [{{name: i, image: reg.example/i:1}}]", "");
            let _ = writeln!(text, "{:w$}ephemeralContainers: [{{name: e, image: reg.example/e:1}}]", "");
            let _ = writeln!(text, "{:w$}volumes:", "");
            let _ = writeln!(text, "{:w$}- {{name: v, image: {{reference: reg.example/v:1}}}}", "");
            let _ = writeln!(text, "{:w$}- {{name: plain, emptyDir: {{}}}}", "");
            let found = run(&text);
            let spec = workload.pod_spec.join(".");
            let got: Vec<_> = found
                .findings
                .iter()
                .map(|f| (f.image.repository(), f.origin.field.clone().unwrap_or_default(), &*f.origin.rule))
                .collect();
            let want = [
                ("c", format!("{spec}.containers[0].image"), "container"),
                ("e", format!("{spec}.ephemeralContainers[0].image"), "ephemeral-container"),
                ("i", format!("{spec}.initContainers[0].image"), "init-container"),
                ("v", format!("{spec}.volumes[0].image.reference"), "image-volume"),
            ];
            assert_eq!(got, want, "{text}");
            assert_eq!(found.problems, [], "{text}");
        }
    }
}

#[test]
fn origins_name_document_object_and_field() {
    let text = "\
# a comment first
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
      - name: web
        image: nginx:1.27
      - name: log
        image: quay.io/log/log@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
---
apiVersion: v1
kind: Pod
metadata: {generateName: once-}
spec: {containers: [{name: x, image: \"nginx:1.27\"}]}
---
just: values
";
    insta::assert_snapshot!(show(text), @r##"
    docker.io/library/nginx:1.27 <- #2 f.yaml:16 Deployment shop/web spec.template.spec.containers[0].image [container]
    docker.io/library/nginx:1.27 <- #3 f.yaml:23 Pod once- spec.containers[0].image [container]
    quay.io/log/log@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 <- #2 f.yaml:18 Deployment shop/web spec.template.spec.containers[1].image [container]
    read 3 (1 without images), skipped 1, failed 0
    "##);
}

#[test]
fn lists_are_walked_even_nested_and_typed() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: List
  items:
  - {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{image: a:1}]}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
- {no: kind}
---
apiVersion: apps/v1
kind: DeploymentList
items:
- metadata: {name: b}
  spec: {template: {spec: {containers: [{image: b:1}]}}}
---
{apiVersion: example.org/v1, kind: AllowList, spec: {image: c:1}}
";
    insta::assert_snapshot!(show(text), @r##"
    docker.io/library/a:1 <- #1 f.yaml:7 Pod a items[0].items[0].spec.containers[0].image [container]
    docker.io/library/b:1 <- #2 f.yaml:15 Deployment b items[0].spec.template.spec.containers[0].image [container]
    docker.io/library/c:1 <- #3 f.yaml:17 AllowList spec.image [custom-field]
    Error f.yaml:9:3: items[2]: the item has no kind, so nobody can tell what it is
    read 2 (0 without images), skipped 0, failed 1
    "##);
}

#[test]
fn bad_images_are_told_with_their_place() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec:
  initContainers:
  - {name: a, image: 'Nginx:1'}
  - {name: b, image: 'repo/app:{{ .Values.tag }}'}
  - {name: c, image: '${REGISTRY}/app:1'}
  - {name: d, image: ''}
  - {name: e}
  - {name: f, image: 1.27}
  - {name: g, image: [x]}
  - {name: h, image: 'nginx '}
  - just text
  containers: {name: x, image: lost:1}
  volumes:
  - {name: v, image: {pullPolicy: Always}}
  - {name: w, image: reg/v:1}
---
apiVersion: v1
kind: Pod
spec: '{{ toYaml . }}'
---
apiVersion: v1
kind: Pod
metadata: {name: good}
spec: {containers: [{image: good:1}]}
";
    insta::assert_snapshot!(show(text), @r##"
    docker.io/library/good:1 <- #3 f.yaml:27 Pod good spec.containers[0].image [container]
    Error f.yaml:6:22: spec.initContainers[0].image: "Nginx:1" is not an image reference: the repository name must be lower case; did you mean "nginx:1"?
    Error f.yaml:7:22: spec.initContainers[1].image: "{{ .Values.tag }}" looks like an unrendered template; render it, or give the chart itself as the source
    Error f.yaml:8:22: spec.initContainers[2].image: "${REGISTRY}" looks like an unrendered template; render it, or give the chart itself as the source
    Error f.yaml:9:22: spec.initContainers[3].image: no image is named, and Kubernetes refuses the object without one
    Error f.yaml:10:5: spec.initContainers[4].image: no image is named, and Kubernetes refuses the object without one
    Error f.yaml:11:22: spec.initContainers[5].image: an image is a string, this is a number; put it in quotes
    Error f.yaml:12:22: spec.initContainers[6].image: an image is a string, this is a list
    Error f.yaml:13:22: spec.initContainers[7].image: "nginx " is not an image reference: it has white space or control characters in it
    Error f.yaml:14:5: spec.initContainers[8]: a mapping is expected, this is a string
    Error f.yaml:15:15: spec.containers: a list is expected, this is a mapping
    Error f.yaml:17:22: spec.volumes[0].image.reference: no image is named, and Kubernetes refuses the object without one
    Error f.yaml:18:22: spec.volumes[1].image: a mapping is expected, this is a string
    Error f.yaml:22:7: spec: "{{ toYaml . }}" looks like an unrendered template; render it, or give the chart itself as the source
    read 1 (0 without images), skipped 0, failed 2
    "##);
}

#[test]
fn an_image_volume_of_a_controller_may_wait_for_its_reference() {
    let text = "\
apiVersion: apps/v1
kind: Deployment
spec: {template: {spec: {volumes: [{name: v, image: {reference: ''}}], containers: null}}}
";
    insta::assert_snapshot!(show(text), @"read 1 (1 without images), skipped 0, failed 0");
}

#[test]
fn what_is_no_yaml_costs_only_its_document() {
    let text = "\
apiVersion: v1
kind: Pod
spec:
  containers:
  - image: {{ .Values.image }}
---
{{- if .Values.job }}
apiVersion: v1
{{- end }}
---
a: [1
b: 2
---
apiVersion: v1
kind: Pod
spec: {containers: [{image: good:1}]}
";
    insta::assert_snapshot!(show(text), @r##"
    docker.io/library/good:1 <- #4 f.yaml:16 Pod spec.containers[0].image [container]
    Error f.yaml:5:13: "{{ .Values.image }}" looks like an unrendered template; render it, or give the chart itself as the source
    Error f.yaml:7:3: "{{- if .Values.job }}" looks like an unrendered template; render it, or give the chart itself as the source
    Error f.yaml:12:2: not YAML: did not find expected ',' or ']' while parsing a flow sequence
    read 1 (0 without images), skipped 0, failed 3
    "##);
}

#[test]
fn json_is_read_with_tabs_escapes_and_several_objects() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"\\ud83d\\ude00\"},\n\t\
                \"spec\": {\"containers\": [{\"image\": \"quay.io\\/a\\/b:1\"}]}\n}\n\
                {\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"c:1\"}]}}\n";
    insta::assert_snapshot!(show(text), @r##"
    docker.io/library/c:1 <- #2 f.yaml:7 Pod spec.containers[0].image [container]
    quay.io/a/b:1 <- #1 f.yaml:5 Pod 😀 spec.containers[0].image [container]
    read 2 (0 without images), skipped 0, failed 0
    "##);
}

#[test]
fn repeated_keys_are_taken_as_kubectl_takes_them() {
    let text =
        "apiVersion: v1\nkind: Pod\nmetadata: {labels: {a: x, a: y}}\nspec: {containers: [{image: a:1}]}\n";
    let found = run(text);
    assert_eq!((found.findings.len(), found.documents.read), (1, 1));
}

#[test]
fn foreign_names_cannot_write_to_the_terminal_and_are_bounded() {
    let long = "n".repeat(5000);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: \"a\\e[31m\\n{long}\"}}\nspec: {{containers: [{{image: a:1}}]}}\n"
    );
    let found = run(&text);
    let told = found.findings[0].origin.to_string();
    assert!(told.contains("a\\u{1b}[31m\\u{a}nnn"), "{told}");
    assert!(told.len() < 400 && !told.contains('\u{1b}'), "{told}");
}

#[test]
fn a_flood_of_problems_is_cut() {
    let text = "---\n[\n".repeat(3 * MAX_PROBLEMS);
    let found = run(&text);
    assert_eq!(found.documents.failed, 3 * MAX_PROBLEMS);
    assert_eq!(found.problems.len(), MAX_PROBLEMS + 1);
    let text = format!("kind: Pod\nspec:\n  containers:\n{}", "  - {}\n".repeat(2 * MAX_PROBLEMS));
    assert_eq!(run(&text).problems.len(), MAX_PROBLEMS + 1);
}

#[test]
fn istios_placeholder_is_no_image() {
    let found = run("kind: Pod\nspec: {containers: [{image: auto}]}\n");
    assert_eq!(found.findings, []);
    assert_eq!(found.problems[0].severity, Severity::Warning);
    assert!(!found.is_partial());
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".{0,200}") {
        run(&text);
    }

    #[test]
    fn any_mix_of_what_manifests_are_made_of_is_survived(
        words in proptest::collection::vec(
            prop_oneof![
                Just("kind: Pod\n"), Just("kind: List\n"), Just("kind: PodList\n"), Just("apiVersion: v1\n"),
                Just("spec:"), Just("  spec:"), Just("\n"), Just("items:\n"), Just("- "), Just("  "), Just("image: "),
                Just("containers:"), Just("volumes:"), Just("nginx:1"), Just("{{ x }}"), Just("[{"), Just("}]"),
                Just("---\n"), Just("&a "), Just("*a"), Just("<<: *a\n"), Just("\""), Just("null"), Just("|\n"),
                Just("template:"), Just("{image: {reference: x}}"), Just("metadata: {name: 7}\n"), Just("'"),
            ],
            0..40,
        ),
    ) {
        let text = words.concat();
        let found = run(&text);
        let d = found.documents;
        prop_assert_eq!(found.problems.iter().any(|p| p.severity == Severity::Error), d.failed > 0);
        prop_assert!(d.without_images <= d.read);
        for f in &found.findings {
            let line = usize::try_from(f.origin.line.unwrap_or(0)).unwrap_or(0);
            prop_assert!(line >= 1 && line <= text.split('\n').count());
        }
    }
}

use std::path::Path;

use crate::discover::{Findings, Inputs, Scope, discover};

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn found(dir: &Path, include_disabled: bool) -> Findings {
    let scope = Scope { include_disabled, ..Scope::default() };
    discover(&Inputs { paths: vec![dir.into()], ..Inputs::default() }, &scope).unwrap()
}

fn told(found: &Findings) -> Vec<String> {
    let one = |f: &crate::discover::Finding| {
        let (o, on) = (&f.origin, f.origin.switch.as_deref().unwrap_or("-"));
        format!("{} {} {on}", f.image.familiar(), o.rule)
    };
    found.findings.iter().map(one).collect()
}

const META: &str = "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: '7'\n";

#[test]
fn names_that_templates_build_are_found_with_what_switches_them_on() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("Chart.yaml", META),
            (
                "values.yaml",
                "flavor: posix\nbase: quay.io/shop\nmetrics: {enabled: false, push: {enabled: false}}\nfips: false\n\
                 host: ''\n",
            ),
            (
                "templates/_h.tpl",
                r#"{{ define "img" }}{{ .Values.base }}/{{ .name }}:{{ .Chart.AppVersion }}{{ if .Values.fips }}-fips{{ end }}{{ end }}"#,
            ),
            (
                "templates/a.yaml",
                r#"{{ if and (ne .Values.flavor "gcp") (eq .Values.flavor "posix") }}{{ end }}kind: Pod
metadata: {name: a}
spec:
  containers:
  - image: {{ include "img" (mergeOverwrite (deepCopy .) (dict "name" .Values.flavor)) }}
{{- if .Values.metrics.enabled }}
  - image: {{ include "img" (mergeOverwrite (deepCopy .) (dict "name" "metrics")) }}
{{- if .Values.metrics.push.enabled }}
  - image: {{ include "img" (mergeOverwrite (deepCopy .) (dict "name" "push")) }}
  - image: {{ required "a host, please" .Values.host }}
{{- end }}{{ end }}
"#,
            ),
        ],
    );
    assert_eq!(told(&found(dir.path(), false)), ["quay.io/shop/posix:7 container -"]);
    assert_eq!(
        told(&found(dir.path(), true)),
        [
            "quay.io/shop/gcp:7 switched-on flavor=gcp",
            "quay.io/shop/metrics:7 switched-on metrics.enabled=true",
            "quay.io/shop/metrics:7-fips switched-on fips=true,metrics.enabled=true",
            "quay.io/shop/posix:7 container -",
            "quay.io/shop/posix:7-fips switched-on fips=true",
            "quay.io/shop/push:7 switched-on metrics.enabled=true,metrics.push.enabled=true",
            "quay.io/shop/push:7-fips switched-on fips=true,metrics.enabled=true,metrics.push.enabled=true",
        ]
    );
}

#[test]
fn a_chart_that_wants_a_value_is_rendered_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("Chart.yaml", META),
            ("values.yaml", "host: ''\n"),
            ("templates/a.yaml", "kind: Pod\nspec: {containers: [{image: 'a/b:{{ .Chart.AppVersion }}'}]}\n"),
            ("templates/b.yaml", "host: {{ required \"give a host\" .Values.host }}\n"),
            ("templates/c.yaml", "image: {{ index .Values \"x\" \"y\" \"z\" }}\n"),
        ],
    );
    let found = found(dir.path(), false);
    assert_eq!(told(&found), ["a/b:7 incomplete-chart -"]);
    assert!(found.is_failure(), "what it is missing is still told: {:?}", found.problems);
}

#[test]
fn releases_that_are_off_are_followed_and_what_they_lack_is_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("Chart.yaml", META),
            ("values.yaml", "more: {enabled: false}\n"),
            (
                "templates/a.yaml",
                "{{ if .Values.more.enabled }}
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: more, namespace: x}
spec:
  chart: {spec: {chart: more, sourceRef: {kind: HelmRepository, name: charts}}}
  values: {image: {repository: quay.io/shop/more, tag: 3}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: x}
spec: {url: 'https://charts.example.com'}
{{ end }}",
            ),
        ],
    );
    assert!(told(&found(dir.path(), false)).is_empty());
    let found = found(dir.path(), true);
    assert_eq!(told(&found), ["quay.io/shop/more:3 switched-on more.enabled=true"]);
    assert!(!found.is_partial() && found.problems.len() == 1, "{:?}", found.problems);
}

#[test]
fn a_chart_without_its_library_speaks_by_templates_and_values() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            (
                "Chart.yaml",
                &format!(
                    "{META}dependencies:\n- {{name: common, version: 2.x.x, repository: 'https://a.example'}}\n"
                ),
            ),
            (
                "values.yaml",
                "image: {repository: quay.io/shop/web, tag: '1'}\n\
                 metrics: {enabled: false, image: {repository: quay.io/shop/metrics, tag: '2'}}\n",
            ),
            (
                "templates/a.yaml",
                r#"kind: Pod
metadata: {labels: {{ include "common.labels" . | default "{}" }}}
spec:
  containers:
  - image: {{ include "common.image" .Values.image | default "none" }}
  - image: quay.io/shop/side:{{ .Chart.AppVersion }}
"#,
            ),
        ],
    );
    let plain = found(dir.path(), false);
    assert!(plain.is_failure() && plain.problems[0].reason.contains("common"), "{:?}", plain.problems);
    let (side, web) = ("quay.io/shop/side:7 incomplete-chart -", "quay.io/shop/web:1 incomplete-chart -");
    let none = "none:latest incomplete-chart -";
    assert_eq!(told(&plain), [none, side, web]);
    let metrics = "quay.io/shop/metrics:2 values-split metrics.enabled=true";
    assert_eq!(told(&found(dir.path(), true)), [none, metrics, side, web]);
}

#[test]
fn files_of_values_that_a_chart_brings_are_tried() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("Chart.yaml", META),
            ("values.yaml", "stores: {}\n"),
            ("ci/s3-values.yaml", "stores: {s3: {bucket: b}}\n"),
            ("ci/notes.txt", "x"),
            (
                "templates/a.yaml",
                "{{ range $kind, $store := .Values.stores }}kind: Pod\nspec: {containers: [{image: 'quay.io/shop/plugin-{{ $kind }}:1'}]}\n{{ end }}",
            ),
        ],
    );
    assert!(told(&found(dir.path(), false)).is_empty());
    let expected = "quay.io/shop/plugin-s3:1 switched-on the values of ci/s3-values.yaml";
    assert_eq!(told(&found(dir.path(), true)), [expected]);
}

#[test]
fn many_switches_leave_renderings_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let all = 0..60;
    let values: String = all.clone().map(|i| format!("p{i}: {{enabled: false}}\n")).collect();
    let pods: String = all
        .map(|i| {
            format!(
                "{{{{ if .Values.p{i}.enabled }}}}\n---\nkind: Pod\nmetadata: {{name: p{i}}}\nspec:\n  containers:\n  \
                 - image: {{{{ printf \"shop/p%d:1\" {i} }}}}\n{{{{ end }}}}\n"
            )
        })
        .collect();
    let gcp = "{{ if eq .Values.flavor \"gcp\" }}\n---\nkind: Pod\nmetadata: {name: g}\nspec:\n  containers:\n  \
               - image: {{ printf \"shop/%s:1\" .Values.flavor }}\n{{ end }}\n";
    write(
        dir.path(),
        &[
            ("Chart.yaml", META),
            ("values.yaml", &format!("flavor: posix\n{values}")),
            ("templates/a.yaml", &format!("{pods}{gcp}")),
        ],
    );
    let told = told(&found(dir.path(), true));
    assert_eq!(told.len(), 61, "{told:?}");
    assert!(told.contains(&"shop/gcp:1 switched-on flavor=gcp".to_owned()), "{told:?}");
    assert!(told.contains(&"shop/p0:1 switched-on p0.enabled=true".to_owned()), "{told:?}");
}

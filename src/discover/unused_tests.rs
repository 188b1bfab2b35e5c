use crate::discover::{Findings, Inputs, Scope, discover};
use std::path::Path;

fn chart(dir: &Path) {
    let write = |path: &str, text: &str| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "Chart.yaml",
        "apiVersion: v2
name: shop
version: 1.0.0
appVersion: '7'
dependencies:
- {name: db, version: 1.x, condition: db.enabled}
annotations:
  artifacthub.io/images: |
    - name: web
      image: quay.io/shop/web:6
    - image: quay.io/shop/tool:1
    - name: nothing
",
    );
    write(
        "values.yaml",
        "image: {repository: quay.io/shop/web, tag: ''}
proxy: {repository: quay.io/shop/proxy, tag: ''}
metrics: {enabled: false, image: {registry: quay.io, repository: shop/metrics, tag: 2}}
global: {curl: {image: {repository: quay.io/shop/curl, tag: 8}}}
db: {enabled: false, sidecar: {enabled: false, image: 'quay.io/shop/sidecar:3'}}
",
    );
    write(
        "templates/web.yaml",
        "kind: Pod
spec:
  containers:
  - image: {{ .Values.image.repository }}:v{{ .Chart.AppVersion }}
{{- if .Values.metrics.enabled }}
  - image: {{ .Values.metrics.image.registry }}/{{ .Values.metrics.image.repository }}:{{ .Values.metrics.image.tag }}
  - image: busybox
{{- end }}
",
    );
    write(
        "charts/db/Chart.yaml",
        "apiVersion: v2
name: db
version: 1.0.0
appVersion: '8'
annotations: {images: '[{image: quay.io/shop/db-old:1}]'}
",
    );
    write("charts/db/values.yaml", "image: {repository: quay.io/shop/db}\n");
}

fn found(dir: &Path, scope: &Scope) -> Findings {
    discover(&Inputs { paths: vec![dir.into()], ..Inputs::default() }, scope).unwrap()
}

fn told(found: &Findings) -> Vec<String> {
    let one = |f: &crate::discover::Finding| {
        let (o, on) = (&f.origin, f.origin.switch.as_deref().unwrap_or("-"));
        format!("{} {} {} {on}", f.image, o.rule, o.field.as_deref().unwrap_or("-"))
    };
    found.findings.iter().map(one).collect()
}

#[test]
fn what_is_switched_off_is_told_with_its_switch_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    chart(dir.path());
    let stated = "quay.io/shop/tool:1 chart-annotation annotations[\"artifacthub.io/images\"][1] -";
    let pod = "quay.io/shop/web:v7 container spec.containers[0].image -";
    let mut usual = found(dir.path(), &Scope::default());
    usual.keep(crate::discover::Confidence::Likely);
    assert_eq!(told(&usual), [stated, pod]);
    let every = found(dir.path(), &Scope { include_disabled: true, ..Scope::default() });
    assert_eq!(
        told(&every),
        [
            "docker.io/library/busybox:latest template - -",
            "quay.io/shop/curl:8 values-split global.curl.image.repository -",
            "quay.io/shop/db:8 values-split db.image.repository db.enabled=true",
            "quay.io/shop/db-old:1 chart-annotation-other annotations.images[0] -",
            "quay.io/shop/metrics:2 values-split metrics.image.repository metrics.enabled=true",
            "quay.io/shop/proxy:v7 values-split proxy.repository -",
            "quay.io/shop/sidecar:3 values db.sidecar.image db.enabled=true,db.sidecar.enabled=true",
            stated,
            "quay.io/shop/web:6 chart-annotation-other annotations[\"artifacthub.io/images\"][0] -",
            pod,
        ]
    );
}

#[test]
fn a_chart_that_cannot_be_rendered_still_says_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    chart(dir.path());
    std::fs::write(dir.path().join("templates/no.yaml"), "{{ fail \"give a host\" }}").unwrap();
    let every = found(dir.path(), &Scope { include_disabled: true, ..Scope::default() });
    assert!(
        every.is_failure() && every.problems[0].to_string().contains("give a host"),
        "{:?}",
        every.problems
    );
    assert!(told(&every).iter().any(|l| l.starts_with("quay.io/shop/metrics:2 ")), "{:?}", told(&every));
}

#[test]
fn rules_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    chart(dir.path());
    let scope = Scope { without_rules: vec!["chart-annotation".into()], ..Scope::default() };
    assert!(told(&found(dir.path(), &scope)).iter().all(|l| !l.contains(" chart-annotation ")));
}

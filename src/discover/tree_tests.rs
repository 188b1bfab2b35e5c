use super::*;
use crate::yaml::{Limits, parse_one};

fn hits(kind: Kind, yaml: &str) -> Vec<String> {
    let node = parse_one(yaml, &Limits::default()).unwrap();
    let usual = Usual { registry: None, tag: Some("9.9") };
    let mut walk = Walk::new(kind, Vec::new()).usual(usual);
    walk.value(&node, "");
    walk.hits
        .iter()
        .map(|h| {
            let on = h.switch.as_ref().map(|s| format!(" if {s}")).unwrap_or_default();
            format!("{} {} {:?}{on}", h.image.familiar(), h.field, h.how)
        })
        .collect()
}

#[test]
fn custom_resources() {
    let yaml = "
spec:
  image: quay.io/a/op:1
  agentImage: b/c
  web: {image: nginx}
  sidecar: {image: {repository: c/d, tag: 2}}
  template: {spec: {containers: [{name: x, image: redis, env: [{name: Y_IMAGE, value: 'e/f:3'}], args: [--g-image=h/i:4]}]}}
  other: quay.io/j/k:5
  url: https://quay.io/j/k:5
  imagePullPolicy: Always
  config: |
    proxy:
      image: l/m:6
";
    assert_eq!(
        hits(Kind::Custom, yaml),
        [
            "quay.io/a/op:1 spec.image Field",
            "nginx:latest spec.web.image Bare",
            "c/d:2 spec.sidecar.image.repository Split",
            "redis:latest spec.template.spec.containers[0].image Container",
            "e/f:3 spec.template.spec.containers[0].env[Y_IMAGE].value Env",
            "h/i:4 spec.template.spec.containers[0].args[0] Arg",
            "quay.io/j/k:5 spec.other Value",
            "l/m:6 spec.config.proxy.image Nested",
        ]
    );
}

#[test]
fn files_in_config_maps() {
    let yaml = r#"
values.yaml: '{"global": {"hub": "docker.io/istio", "tag": "1.26", "proxy": {"image": "proxyv2"}}}'
template: |
  {{ if .X }}
  image: "{{ annotation .y `z` }}"
  image: a/b:1
  {{ end }}
app.toml: |
  [worker]
  helper_image = "c/d:2"
  listen = "redis:6379"
app.properties: |
  kernel.image.name=e/f:3
plain: g/h:4
"#;
    assert_eq!(
        hits(Kind::Config, yaml),
        [
            "istio/proxyv2:1.26 [\"values.yaml\"].global.proxy.image Nested",
            "a/b:1 template Nested",
            "c/d:2 [\"app.toml\"].worker.helper_image Nested",
            "e/f:3 [\"app.properties\"] Nested",
        ]
    );
}

#[test]
fn values_know_their_switch_and_the_usual_tag() {
    let yaml = "
image: {repository: a/b, tag: ''}
metrics: {enabled: false, image: {registry: quay.io, repository: c/d, tag: 1}, x: {image: e/f:2}}
extra: {enabled: true, image: {repository: g/h, tag: 3}}
";
    assert_eq!(
        hits(Kind::Values, yaml),
        [
            "a/b:9.9 image.repository Split",
            "quay.io/c/d:1 metrics.image.repository Split if metrics.enabled=true",
            "e/f:2 metrics.x.image Field if metrics.enabled=true",
            "g/h:3 extra.image.repository Split",
        ]
    );
}

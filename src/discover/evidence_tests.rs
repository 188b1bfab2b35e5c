use crate::discover::{SourceName, scan};

/// `image field rule confidence`, sorted, after definitions were taken into account.
fn run(text: &str) -> Vec<String> {
    let mut found = scan(text, &SourceName::Stdin);
    found.settle();
    found.sort();
    let one = |f: &crate::discover::Finding| {
        format!(
            "{} {} {} {}",
            f.image.familiar(),
            f.origin.field.clone().unwrap(),
            f.origin.rule,
            f.confidence
        )
    };
    let mut all: Vec<String> = found.findings.iter().map(one).collect();
    all.sort();
    all
}

#[test]
fn variables_arguments_and_annotations_of_pods() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: op, annotations: {example.net/helperImage: 'a/helper:1', kubectl.kubernetes.io/last-applied-configuration: '{\"image\": \"a/b:1\"}'}}
spec:
  template:
    metadata: {annotations: {sidecar.istio.io/proxyImage: 'istio/proxyv2:1.26', checksum/image: abc}}
    spec:
      containers:
      - name: op
        image: quay.io/a/op:1
        args: ['--sidecar-image=a/side:1', --proxy-image, 'a/proxy:1', '--listen=0.0.0.0:8080', 'role=system:node']
        command: [sh, -c, 'exec run --with registry.k8s.io/pause:3.9']
        env:
        - {name: RELATED_IMAGE_DB, value: 'a/db:1'}
        - {name: AGENT_IMAGE, value: 'quay.io/a/agent'}
        - {name: IMAGE_PULL_POLICY, value: Always}
        - {name: REDIS, value: 'redis:6379'}
        - {name: OTHER, value: 'quay.io/a/other:2'}
        - {name: TEMPLATE, value: '{\"spec\": {\"containers\": [{\"name\": \"x\", \"image\": \"a/inner:1\"}]}}'}
        - {name: FROM, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
";
    let spec = "spec.template.spec.containers[0]";
    let want = [
        "a/db:1 SPEC.env[RELATED_IMAGE_DB].value env likely",
        "a/helper:1 metadata.annotations[\"example.net/helperImage\"] annotation likely",
        "a/inner:1 SPEC.env[TEMPLATE].value.spec.containers[0].image env likely",
        "a/proxy:1 SPEC.args[2] arg likely",
        "a/side:1 SPEC.args[0] arg likely",
        "istio/proxyv2:1.26 spec.template.metadata.annotations[\"sidecar.istio.io/proxyImage\"] annotation likely",
        "quay.io/a/agent:latest SPEC.env[AGENT_IMAGE].value env likely",
        "quay.io/a/op:1 SPEC.image container certain",
        "quay.io/a/other:2 SPEC.env[OTHER].value env likely",
        "registry.k8s.io/pause:3.9 SPEC.command[2] arg likely",
    ];
    assert_eq!(run(text), want.map(|w| w.replace("SPEC", spec)));
}

#[test]
fn files_in_config_maps_and_secrets() {
    // c2lkZWNhcjoKICBpbWFnZTogYS9zZWNyZXQ6MQo= is `sidecar:\n  image: a/secret:1\n`.
    let text = "
apiVersion: v1
kind: ConfigMap
data:
  pod.yaml: |
    kind: Pod
    spec:
      containers:
      - name: x
        image: a/pod:1
  host: redis:6379
  role: system:node
---
apiVersion: v1
kind: Secret
data: {config.yaml: c2lkZWNhcjoKICBpbWFnZTogYS9zZWNyZXQ6MQo=, binary: /////w==}
stringData: {helperImage: 'a/string:1'}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
stringData: {image: 'a/never:1'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'system:node'}
rules: [{image: 'a/never:1'}]
";
    assert_eq!(
        run(text),
        [
            "a/pod:1 data[\"pod.yaml\"].spec.containers[0].image config likely",
            "a/secret:1 data[\"config.yaml\"].sidecar.image config likely",
            "a/string:1 stringData.helperImage config likely",
        ]
    );
}

#[test]
fn well_known_and_unknown_custom_resources() {
    let text = "
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec: {baseImage: quay.io/prometheus/prometheus, version: v2.55.0}
---
apiVersion: argoproj.io/v1alpha1
kind: Workflow
spec: {templates: [{name: a, container: {image: alpine}}, {name: b, script: {image: 'x:{{inputs.parameters.tag}}'}}]}
---
apiVersion: elasticsearch.k8s.elastic.co/v1
kind: Elasticsearch
spec: {version: 8.15.0}
---
apiVersion: kafka.strimzi.io/v1beta2
kind: KafkaConnect
spec: {image: 'a/connect:1', build: {output: {image: 'a/pushed:1'}}}
---
apiVersion: unheard.of/v1
kind: App
spec:
  image: a/app:1
  worker: {image: worker}
  proxy: {image: {registry: quay.io, repository: a/proxy, tag: v1}}
status: {image: 'a/never:1'}
---
apiVersion: kyverno.io/v1
kind: ClusterPolicy
spec: {image: 'a/never:1'}
";
    assert_eq!(
        run(text),
        [
            "a/app:1 spec.image custom-field strong",
            "a/connect:1 spec.image known-field strong",
            "alpine:latest spec.templates[0].container.image known-container certain",
            "docker.elastic.co/elasticsearch/elasticsearch:8.15.0 spec.version known-default likely",
            "quay.io/a/proxy:v1 spec.proxy.image.repository custom-split strong",
            "quay.io/prometheus/prometheus:v2.55.0 spec.baseImage custom-split strong",
            "worker:latest spec.worker.image custom-bare likely",
        ]
    );
}

#[test]
fn definitions_tell_which_fields_are_images_wherever_they_stand() {
    let text = "
apiVersion: example.org/v1
kind: App
spec: {runtime: web, image: plain, size: big}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: apps.example.org}
spec:
  group: example.org
  names: {kind: App}
  versions:
  - schema:
      openAPIV3Schema:
        properties:
          spec:
            properties:
              runtime: {type: string, description: The container image that runs}
              image: {type: string, default: 'quay.io/a/app:1'}
              size: {type: string}
";
    let place = "spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.image.default";
    assert_eq!(
        run(text),
        [
            "plain:latest spec.image schema strong".to_owned(),
            format!("quay.io/a/app:1 {place} crd-default likely"),
        ]
    );
}

#[test]
fn settings_of_longhorn_that_name_images() {
    let text = "
apiVersion: longhorn.io/v1beta2
kind: Setting
metadata: {name: support-bundle-manager-image}
value: longhornio/support-bundle-kit:v0.0.71
---
apiVersion: longhorn.io/v1beta2
kind: Setting
metadata: {name: default-replica-count}
value: '3'
---
apiVersion: longhorn.io/v1beta2
kind: Setting
metadata: {name: backing-image-cleanup-wait-interval}
value: '60'
";
    assert_eq!(run(text), ["longhornio/support-bundle-kit:v0.0.71 value known-field strong"]);
}

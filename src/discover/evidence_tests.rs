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

/// Every image, with the end of its field, that a pod's variables and arguments name.
fn of_pod(container: &str) -> Vec<String> {
    let text = format!("kind: Pod\nspec:\n  containers:\n  - image: a/own:1\n    {container}\n");
    let all = run(&text);
    let short = |line: &String| {
        let mut words = line.split(' ');
        let (image, field) = (words.next()?, words.next()?.strip_prefix("spec.containers[0].")?);
        (field != "image").then(|| format!("{image} {field}"))
    };
    all.iter().filter_map(short).collect()
}

#[test]
fn variables_hold_lists_flags_and_names_of_every_kind() {
    for (name, value, images) in [
        (
            "LIST",
            "quay.io/ceph/ceph:v18,quay.io/ceph/csi:v3",
            &["quay.io/ceph/ceph:v18", "quay.io/ceph/csi:v3"][..],
        ),
        ("J", r#"["quay.io/ceph/x:1","quay.io/ceph/y:2"]"#, &["quay.io/ceph/x:1", "quay.io/ceph/y:2"]),
        ("MULTI", "a=quay.io/ceph/m:1;b=quay.io/ceph/n:2", &["quay.io/ceph/m:1", "quay.io/ceph/n:2"]),
        ("CMD", "--image=quay.io/ceph/cmd:1", &["quay.io/ceph/cmd:1"]),
        ("CMD", "--image=ceph/cmd:1", &["ceph/cmd:1"]),
        ("SIDECAR_IMG", "strimzi/kafka:1", &["strimzi/kafka:1"]),
        ("imageName", "mysql:8", &["mysql:8"]),
        ("IMAGE_NAME", "mysql:8", &["mysql:8"]),
        ("IMAGES", "mysql:8,redis:7", &["mysql:8", "redis:7"]),
        ("PROXY_IMAGE", "envoyproxy/envoy", &["envoyproxy/envoy:latest"]),
        ("WEB", "registry.example.com/shop/web:1.0", &["registry.example.com/shop/web:1.0"]),
        ("PROXY_IMAGE", "alpine", &[]),
        ("PROXY_IMAGE", "image/png", &[]),
        ("URL", "https://x.example.com/a?image=foo/bar:1", &[]),
        ("HOSTS", "redis:6379,db:5432", &[]),
        ("IMAGE_FEATURES", "layering,a=b:1", &[]),
        ("OPTS", "-Dhost=redis:6379,-Drole=system:node", &[]),
        ("WEB", "example.com:5000/foo/bar:1.2", &[]),
    ] {
        let found = of_pod(&format!("env: [{{name: {name}, value: '{value}'}}]"));
        let want: Vec<_> = images.iter().map(|i| format!("{i} env[{name}].value")).collect();
        assert_eq!(found, want, "{name}={value}");
    }
    assert_eq!(of_pod("args: ['--proxy-image=envoyproxy/envoy']"), ["envoyproxy/envoy:latest args[0]"]);
    assert!(of_pod("args: ['--proxy-image=alpine', '--tls-sni=a.b.cc:443/x:1']").is_empty());
}

#[test]
fn long_lines_are_read_and_what_is_beyond_a_bound_is_told() {
    let map = |data: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: b}}\ndata:\n  a: \"{data}\"\n")
    };
    let same = map(&("quay.io/x/y:1 ".repeat(10_000) + "quay.io/x/last:2"));
    assert_eq!(run(&same), ["quay.io/x/last:2 data.a config likely", "quay.io/x/y:1 data.a config likely"]);
    let many: String = (0..10_001).map(|i| format!("quay.io/x/y:{i} ")).collect();
    let found = scan(&map(&many), &SourceName::Stdin);
    assert_eq!(found.findings.len(), 10_000);
    let told: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("data.a: 10000 images were named before"), "{told:?}");
    assert!(found.is_partial());
    // The same within a file of its own.
    let many: String = (0..10_002).map(|i| format!("quay.io/x/y:{i}\\n")).collect();
    assert!(scan(&map(&many), &SourceName::Stdin).is_partial());
}

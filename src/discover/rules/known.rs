//! Well-known custom resources: where they name images, as their definitions have it.

/// What stands at a place. Places are written as `spec.templates[].container`: `[]` is every item of a list, `*` every
/// key of a mapping.
#[derive(Debug, Clone, Copy)]
pub(in crate::discover) enum At {
    /// An image as text, tag or not.
    Image(&'static str),
    /// The same, where the name of the object says that it is about an image.
    Setting(&'static str),
    /// A container, by the type that pods use: its `image`.
    Container(&'static str),
    /// A pod's spec.
    Pod(&'static str),
    /// Names an image that is made or checked and not pulled.
    Not(&'static str),
    /// What the operator runs when the field `unless` is empty; `{place}` is replaced by the text there.
    Default {
        /// The fields that say otherwise.
        unless: &'static [&'static str],
        /// The image, with places in braces.
        image: &'static str,
    },
}

/// A custom resource.
pub(in crate::discover) struct Known {
    /// API group.
    pub(in crate::discover) group: &'static str,
    /// Kinds; empty for all of the group.
    pub(in crate::discover) kinds: &'static [&'static str],
    /// Places.
    pub(in crate::discover) at: &'static [At],
}

use At::{Container, Default, Image, Not, Pod, Setting};

const TEMPLATE: &[At] = &[Pod("spec.template.spec")];
const SPEC_IMAGE: &[At] = &[Image("spec.image")];

/// Sources: the `CustomResourceDefinition`s of each project. A kind that has nothing but fields called `image` need not be here:
/// the general rules find those; here is what they cannot know.
pub(in crate::discover) const KNOWN: &[Known] = &[
    // Prometheus operator: `spec.baseImage` with tag, version or sha is deprecated and still read.
    Known {
        group: "monitoring.coreos.com",
        kinds: &["Prometheus"],
        at: &[
            Image("spec.image"),
            Image("spec.thanos.image"),
            Default {
                unless: &["spec.image", "spec.baseImage"],
                image: "quay.io/prometheus/prometheus:{spec.version}",
            },
        ],
    },
    Known {
        group: "monitoring.coreos.com",
        kinds: &["Alertmanager"],
        at: &[
            Image("spec.image"),
            Default {
                unless: &["spec.image", "spec.baseImage"],
                image: "quay.io/prometheus/alertmanager:{spec.version}",
            },
        ],
    },
    Known { group: "monitoring.coreos.com", kinds: &["ThanosRuler", "PrometheusAgent"], at: SPEC_IMAGE },
    // Argo.
    Known {
        group: "argoproj.io",
        kinds: &["Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate"],
        at: &[
            Container("spec.templates[].container"),
            Container("spec.templates[].script"),
            Container("spec.templates[].initContainers[]"),
            Container("spec.templates[].sidecars[]"),
            Container("spec.templates[].containerSet.containers[]"),
            Container("spec.templateDefaults.container"),
        ],
    },
    Known {
        group: "argoproj.io",
        kinds: &["CronWorkflow"],
        at: &[
            Container("spec.workflowSpec.templates[].container"),
            Container("spec.workflowSpec.templates[].script"),
            Container("spec.workflowSpec.templates[].initContainers[]"),
            Container("spec.workflowSpec.templates[].sidecars[]"),
            Container("spec.workflowSpec.templates[].containerSet.containers[]"),
        ],
    },
    Known { group: "argoproj.io", kinds: &["Rollout"], at: TEMPLATE },
    Known {
        group: "argoproj.io",
        kinds: &["AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun"],
        at: &[Pod("spec.metrics[].provider.job.spec.template.spec")],
    },
    Known {
        group: "argoproj.io",
        kinds: &["Sensor", "EventSource"],
        at: &[Container("spec.template.container")],
    },
    // Tekton.
    Known {
        group: "tekton.dev",
        kinds: &["Task", "ClusterTask"],
        at: &[Container("spec.steps[]"), Container("spec.sidecars[]"), Container("spec.stepTemplate")],
    },
    Known { group: "tekton.dev", kinds: &["StepAction"], at: SPEC_IMAGE },
    Known {
        group: "tekton.dev",
        kinds: &["TaskRun"],
        at: &[Container("spec.taskSpec.steps[]"), Container("spec.taskSpec.sidecars[]")],
    },
    Known {
        group: "tekton.dev",
        kinds: &["Pipeline"],
        at: &[
            Container("spec.tasks[].taskSpec.steps[]"),
            Container("spec.tasks[].taskSpec.sidecars[]"),
            Container("spec.finally[].taskSpec.steps[]"),
        ],
    },
    Known {
        group: "tekton.dev",
        kinds: &["PipelineRun"],
        at: &[
            Container("spec.pipelineSpec.tasks[].taskSpec.steps[]"),
            Container("spec.pipelineSpec.tasks[].taskSpec.sidecars[]"),
            Container("spec.pipelineSpec.finally[].taskSpec.steps[]"),
        ],
    },
    // Serving.
    Known { group: "serving.knative.dev", kinds: &["Service", "Configuration"], at: TEMPLATE },
    Known { group: "serving.knative.dev", kinds: &["Revision"], at: &[Pod("spec")] },
    Known {
        group: "serving.kserve.io",
        kinds: &["ServingRuntime", "ClusterServingRuntime", "ClusterStorageContainer"],
        at: &[Container("spec.containers[]"), Container("spec.container")],
    },
    Known {
        group: "serving.kserve.io",
        kinds: &["InferenceService"],
        at: &[Pod("spec.predictor"), Pod("spec.transformer"), Pod("spec.explainer")],
    },
    // Other things that run pods by a template of the usual form.
    Known { group: "apps.kruise.io", kinds: &["CloneSet", "StatefulSet", "DaemonSet"], at: TEMPLATE },
    Known { group: "apps.kruise.io", kinds: &["SidecarSet"], at: &[Pod("spec")] },
    Known { group: "batch.volcano.sh", kinds: &["Job"], at: &[Pod("spec.tasks[].template.spec")] },
    Known { group: "kubeflow.org", kinds: &[], at: &[Pod("spec.*.*.template.spec")] },
    Known {
        group: "ray.io",
        kinds: &["RayCluster"],
        at: &[Pod("spec.headGroupSpec.template.spec"), Pod("spec.workerGroupSpecs[].template.spec")],
    },
    Known {
        group: "jobset.x-k8s.io",
        kinds: &["JobSet"],
        at: &[Pod("spec.replicatedJobs[].template.spec.template.spec")],
    },
    Known {
        group: "actions.github.com",
        kinds: &["AutoscalingRunnerSet", "EphemeralRunnerSet"],
        at: &[Pod("spec.template.spec"), Pod("spec.listenerTemplate.spec")],
    },
    Known {
        group: "actions.summerwind.dev",
        kinds: &["RunnerDeployment", "RunnerSet"],
        at: &[
            Pod("spec.template.spec"),
            Image("spec.template.spec.image"),
            Image("spec.template.spec.dockerImage"),
        ],
    },
    // Virtual machines: disks in images.
    Known {
        group: "kubevirt.io",
        kinds: &["VirtualMachine"],
        at: &[Image("spec.template.spec.volumes[].containerDisk.image")],
    },
    Known {
        group: "kubevirt.io",
        kinds: &["VirtualMachineInstance"],
        at: &[Image("spec.volumes[].containerDisk.image")],
    },
    Known { group: "cdi.kubevirt.io", kinds: &["DataVolume"], at: &[Image("spec.source.registry.url")] },
    // Databases and queues.
    Known {
        group: "postgresql.cnpg.io",
        kinds: &["Cluster"],
        at: &[Image("spec.imageName"), Image("spec.bootstrap.initdb.import.source.imageName")],
    },
    Known {
        group: "postgresql.cnpg.io",
        kinds: &["ImageCatalog", "ClusterImageCatalog"],
        at: &[Image("spec.images[].image")],
    },
    Known {
        group: "acid.zalan.do",
        kinds: &["postgresql"],
        at: &[
            Image("spec.dockerImage"),
            Image("spec.sidecars[].image"),
            Image("spec.connectionPooler.dockerImage"),
            Pod("spec"),
        ],
    },
    Known {
        group: "kafka.strimzi.io",
        kinds: &["Kafka"],
        at: &[
            Image("spec.kafka.image"),
            Image("spec.zookeeper.image"),
            Image("spec.cruiseControl.image"),
            Image("spec.kafkaExporter.image"),
            Image("spec.entityOperator.topicOperator.image"),
            Image("spec.entityOperator.userOperator.image"),
            Image("spec.entityOperator.tlsSidecar.image"),
        ],
    },
    Known {
        group: "kafka.strimzi.io",
        kinds: &["KafkaConnect"],
        at: &[Image("spec.image"), Not("spec.build.output.image")],
    },
    Known {
        group: "kafka.strimzi.io",
        kinds: &["KafkaBridge", "KafkaMirrorMaker", "KafkaMirrorMaker2"],
        at: SPEC_IMAGE,
    },
    Known { group: "rabbitmq.com", kinds: &["RabbitmqCluster"], at: SPEC_IMAGE },
    Known {
        group: "mongodbcommunity.mongodb.com",
        kinds: &["MongoDBCommunity"],
        at: &[Pod("spec.statefulSet.spec.template.spec")],
    },
    Known { group: "ceph.rook.io", kinds: &["CephCluster"], at: &[Image("spec.cephVersion.image")] },
    Known { group: "longhorn.io", kinds: &["EngineImage"], at: SPEC_IMAGE },
    // `default-instance-manager-image` and others: types/setting.go.
    Known { group: "longhorn.io", kinds: &["Setting"], at: &[Setting("value")] },
    // Elastic's operator takes the stack's own images by version.
    Known {
        group: "elasticsearch.k8s.elastic.co",
        kinds: &["Elasticsearch"],
        at: &[
            Image("spec.image"),
            Default {
                unless: &["spec.image"],
                image: "docker.elastic.co/elasticsearch/elasticsearch:{spec.version}",
            },
        ],
    },
    Known {
        group: "kibana.k8s.elastic.co",
        kinds: &["Kibana"],
        at: &[
            Image("spec.image"),
            Default { unless: &["spec.image"], image: "docker.elastic.co/kibana/kibana:{spec.version}" },
        ],
    },
    Known {
        group: "logstash.k8s.elastic.co",
        kinds: &["Logstash"],
        at: &[
            Image("spec.image"),
            Default { unless: &["spec.image"], image: "docker.elastic.co/logstash/logstash:{spec.version}" },
        ],
    },
    Known {
        group: "apm.k8s.elastic.co",
        kinds: &["ApmServer"],
        at: &[
            Image("spec.image"),
            Default { unless: &["spec.image"], image: "docker.elastic.co/apm/apm-server:{spec.version}" },
        ],
    },
    // Telemetry.
    Known {
        group: "opentelemetry.io",
        kinds: &["OpenTelemetryCollector", "TargetAllocator", "OpAMPBridge"],
        at: &[Image("spec.image"), Image("spec.targetAllocator.image")],
    },
    Known { group: "opentelemetry.io", kinds: &["Instrumentation"], at: &[Image("spec.*.image")] },
    Known {
        group: "jaegertracing.io",
        kinds: &["Jaeger"],
        at: &[
            Image("spec.allInOne.image"),
            Image("spec.collector.image"),
            Image("spec.query.image"),
            Image("spec.agent.image"),
            Image("spec.ingester.image"),
        ],
    },
    Known {
        group: "grafana.integreatly.org",
        kinds: &["Grafana"],
        at: &[Pod("spec.deployment.spec.template.spec")],
    },
    // Istio before its own CRDs went: one hub, one tag, fixed names.
    Known {
        group: "install.istio.io",
        kinds: &["IstioOperator"],
        at: &[
            Default { unless: &[], image: "{spec.hub}/pilot:{spec.tag}" },
            Default { unless: &[], image: "{spec.hub}/proxyv2:{spec.tag}" },
        ],
    },
    // Jobs and pipelines of data.
    Known {
        group: "sparkoperator.k8s.io",
        kinds: &["SparkApplication"],
        at: &[Image("spec.image"), Image("spec.driver.image"), Image("spec.executor.image")],
    },
    Known {
        group: "sparkoperator.k8s.io",
        kinds: &["ScheduledSparkApplication"],
        at: &[
            Image("spec.template.image"),
            Image("spec.template.driver.image"),
            Image("spec.template.executor.image"),
        ],
    },
    Known { group: "flink.apache.org", kinds: &["FlinkDeployment"], at: SPEC_IMAGE },
    // Builders push what they name.
    Known { group: "kpack.io", kinds: &["Image"], at: &[Not("spec")] },
    Known { group: "shipwright.io", kinds: &["Build", "BuildRun"], at: &[Not("spec.output")] },
    Known { group: "build.openshift.io", kinds: &["BuildConfig", "Build"], at: &[Not("spec.output")] },
];

/// Kinds that speak about images which they do not run, by group and everything below it: policies match names,
/// updaters watch repositories, clouds boot disks; and kinds whose values are those of a chart, which is rendered instead.
pub(in crate::discover) const NOT_RUN: &[(&str, &str)] = &[
    ("kyverno.io", ""),
    ("gatekeeper.sh", ""),
    ("policy.sigstore.dev", ""),
    ("policies.kubewarden.io", ""),
    ("image.toolkit.fluxcd.io", ""),
    ("source.toolkit.fluxcd.io", ""),
    ("helm.toolkit.fluxcd.io", ""),
    ("helm.cattle.io", ""),
    ("kustomize.toolkit.fluxcd.io", ""),
    ("argoproj.io", "Application"),
    ("argoproj.io", "ApplicationSet"),
    ("argoproj.io", "AppProject"),
    ("kargo.akuity.io", ""),
    ("image.openshift.io", ""),
    ("config.openshift.io", ""),
    ("operator.openshift.io", "ImageContentSourcePolicy"),
    ("infrastructure.cluster.x-k8s.io", ""),
    ("karpenter.sh", ""),
    ("karpenter.k8s.aws", ""),
    ("aquasecurity.github.io", ""),
    ("external-secrets.io", ""),
    ("apps.openshift.io", "ImageStream"),
];

/// The places of a kind.
pub(in crate::discover) fn known(group: &str, kind: &str) -> impl Iterator<Item = &'static At> {
    let here = |k: &&Known| k.group == group && (k.kinds.is_empty() || k.kinds.contains(&kind));
    let all: Vec<&'static Known> = KNOWN.iter().filter(here).collect();
    all.into_iter().flat_map(|k| k.at)
}

/// Whether a kind only speaks about images.
pub(in crate::discover) fn not_run(group: &str, kind: &str) -> bool {
    let within = |g: &str| group == g || group.strip_suffix(g).is_some_and(|rest| rest.ends_with('.'));
    NOT_RUN.iter().any(|(g, k)| within(g) && (k.is_empty() || *k == kind))
}

/// Whether a group is one that Kubernetes itself serves: its kinds are known, and those that name images have rules.
pub(in crate::discover) fn is_built_in(group: &str) -> bool {
    const GROUPS: &[&str] = &["", "apps", "batch", "extensions", "policy", "autoscaling", "componentconfig"];
    const BELOW: &[&str] = &[
        "rbac.authorization",
        "networking",
        "storage",
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "authentication",
        "authorization",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "node",
        "scheduling",
        "resource",
        "internal.apiserver",
        "storagemigration",
        "metrics",
        "gateway.networking",
        "snapshot.storage",
        "policy.networking",
    ];
    GROUPS.contains(&group) || group.strip_suffix(".k8s.io").is_some_and(|g| BELOW.contains(&g))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart() {
        assert!(is_built_in("rbac.authorization.k8s.io") && is_built_in("") && !is_built_in("acid.zalan.do"));
        assert!(
            not_run("constraints.gatekeeper.sh", "K8sAllowedRepos") && not_run("argoproj.io", "Application")
        );
        assert!(!not_run("argoproj.io", "Workflow") && !not_run("notkyverno.io", "X"));
        assert_eq!(known("kubeflow.org", "TFJob").count(), 1);
        assert_eq!(known("kafka.strimzi.io", "Other").count(), 0);
    }

    #[test]
    fn places_are_well_formed() {
        for at in KNOWN.iter().flat_map(|k| k.at) {
            let places = match at {
                Image(place) | Setting(place) | Container(place) | Pod(place) | Not(place) => &[*place][..],
                Default { unless, image } => {
                    assert!(image.contains("{spec."), "{image}");
                    unless
                }
            };
            for part in places.iter().flat_map(|p| p.split('.')) {
                let name = part.strip_suffix("[]").unwrap_or(part);
                let good = name == "*" || name.chars().all(|c| c.is_ascii_alphanumeric());
                assert!(good && !name.is_empty(), "{places:?}");
            }
        }
    }
}

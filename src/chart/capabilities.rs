//! What `.Capabilities` says of the cluster that is not there: Helm 4.3's defaults.

use crate::template::semver_satisfies;

/// Group versions that Helm 4.3.1 (client-go 1.37) knows, in its order.
pub(crate) const API_VERSIONS: &str = "v1 admissionregistration.k8s.io/v1 admissionregistration.k8s.io/v1alpha1 \
     admissionregistration.k8s.io/v1beta1 internal.apiserver.k8s.io/v1alpha1 apps/v1 apps/v1beta1 apps/v1beta2 \
     authentication.k8s.io/v1 authentication.k8s.io/v1alpha1 authentication.k8s.io/v1beta1 authorization.k8s.io/v1 \
     authorization.k8s.io/v1beta1 autoscaling/v1 autoscaling/v2 batch/v1 batch/v1beta1 certificates.k8s.io/v1 \
     certificates.k8s.io/v1beta1 certificates.k8s.io/v1alpha1 coordination.k8s.io/v1alpha2 coordination.k8s.io/v1beta1 \
     coordination.k8s.io/v1 discovery.k8s.io/v1 discovery.k8s.io/v1beta1 events.k8s.io/v1 events.k8s.io/v1beta1 \
     extensions/v1beta1 flowcontrol.apiserver.k8s.io/v1 flowcontrol.apiserver.k8s.io/v1beta1 flowcontrol.apiserver.k8s.io/v1beta2 \
     flowcontrol.apiserver.k8s.io/v1beta3 lifecycle.k8s.io/v1alpha1 networking.k8s.io/v1 networking.k8s.io/v1beta1 \
     node.k8s.io/v1 node.k8s.io/v1alpha1 node.k8s.io/v1beta1 policy/v1 policy/v1beta1 rbac.authorization.k8s.io/v1 \
     rbac.authorization.k8s.io/v1beta1 rbac.authorization.k8s.io/v1alpha1 resource.k8s.io/v1 resource.k8s.io/v1beta2 \
     resource.k8s.io/v1beta1 resource.k8s.io/v1alpha3 scheduling.k8s.io/v1alpha3 scheduling.k8s.io/v1beta1 \
     scheduling.k8s.io/v1 storage.k8s.io/v1beta1 storage.k8s.io/v1 storage.k8s.io/v1alpha1 storagemigration.k8s.io/v1 \
     storagemigration.k8s.io/v1beta1 apiextensions.k8s.io/v1beta1 apiextensions.k8s.io/v1";

/// A version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeVersion {
    /// The full version with its `v`, such as `v1.33.4-gke.1245000`.
    pub version: String,
    /// Major number.
    pub major: String,
    /// Minor number.
    pub minor: String,
    normalized: String,
}

impl Default for KubeVersion {
    /// That of the client library in Helm 4.3.1.
    fn default() -> Self {
        Self {
            version: "v1.37.0".into(),
            major: "1".into(),
            minor: "37".into(),
            normalized: "v1.37.0".into(),
        }
    }
}

impl KubeVersion {
    /// Reads `1.30`, `v1.30.2` or `v1.33.4-gke.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let core: String = bare.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let numbers: Vec<u64> = core.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        if numbers.len() < 2 {
            return None;
        }
        Some(Self {
            version: format!("v{bare}"),
            major: numbers[0].to_string(),
            minor: numbers[1].to_string(),
            normalized: format!("v{}.{}.{}", numbers[0], numbers[1], numbers.get(2).unwrap_or(&0)),
        })
    }

    /// Major, minor and patch without what a vendor adds, as constraints are checked against.
    pub fn normalized(&self) -> &str {
        &self.normalized
    }

    /// Whether this version meets a constraint such as `>=1.25.0-0`. One that cannot be read is not met.
    pub fn meets(&self, constraint: &str) -> bool {
        semver_satisfies(constraint, &self.normalized)
    }
}

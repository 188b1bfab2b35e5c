//! The definitions in `bundles/`.

/// File name and text, by name.
pub(super) const FILES: &[(&str, &str)] = &[
    ("argo-cd.yaml", include_str!("../../bundles/argo-cd.yaml")),
    ("calico.yaml", include_str!("../../bundles/calico.yaml")),
    ("cert-manager.yaml", include_str!("../../bundles/cert-manager.yaml")),
    ("cilium.yaml", include_str!("../../bundles/cilium.yaml")),
    ("flannel.yaml", include_str!("../../bundles/flannel.yaml")),
    ("flux.yaml", include_str!("../../bundles/flux.yaml")),
    ("gatekeeper.yaml", include_str!("../../bundles/gatekeeper.yaml")),
    ("ingress-nginx.yaml", include_str!("../../bundles/ingress-nginx.yaml")),
    ("k3s.yaml", include_str!("../../bundles/k3s.yaml")),
    ("kube-prometheus-stack.yaml", include_str!("../../bundles/kube-prometheus-stack.yaml")),
    ("kube-vip.yaml", include_str!("../../bundles/kube-vip.yaml")),
    ("kubeadm.yaml", include_str!("../../bundles/kubeadm.yaml")),
    ("kyverno.yaml", include_str!("../../bundles/kyverno.yaml")),
    ("local-path.yaml", include_str!("../../bundles/local-path.yaml")),
    ("longhorn.yaml", include_str!("../../bundles/longhorn.yaml")),
    ("metallb.yaml", include_str!("../../bundles/metallb.yaml")),
    ("metrics-server.yaml", include_str!("../../bundles/metrics-server.yaml")),
    ("rook.yaml", include_str!("../../bundles/rook.yaml")),
    ("traefik.yaml", include_str!("../../bundles/traefik.yaml")),
];

//! The component catalogue: what is in it, and that it says what charts say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use omk::catalogue::{Catalogue, Version};
use omk::chart::{self, RenderOptions};
use omk::discover::{Confidence, Inputs, Scope, discover};

fn omk(arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_omk")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_usual_parts_of_a_cluster_are_there() {
    let all = Catalogue::builtin().unwrap();
    for minor in 29..=35 {
        let picked = all.pick(&format!("kubeadm@1.{minor}")).unwrap();
        assert_eq!(picked.images.len(), 7, "{picked:?}");
        let server = format!("registry.k8s.io/kube-apiserver:v{}", picked.version);
        assert!(picked.images.iter().any(|i| i.to_string() == server), "{picked:?}");
    }
    for name in [
        "argo-cd",
        "calico",
        "cert-manager",
        "cilium",
        "flannel",
        "flux",
        "gatekeeper",
        "ingress-nginx",
        "k3s",
        "kube-prometheus-stack",
        "kube-vip",
        "kyverno",
        "local-path",
        "longhorn",
        "metallb",
        "metrics-server",
        "rook",
        "traefik",
    ] {
        assert!(all.pick(name).is_ok(), "{name}");
    }
    for component in all.components() {
        assert!(!component.source.is_empty() && !component.about.is_empty(), "{}", component.name);
    }
}

#[test]
fn several_components_are_listed_with_where_they_come_from() {
    let (code, out, told) = omk(&[
        "image",
        "discover",
        "--component",
        "kubeadm@1.31.4,flannel@0.28.9",
        "--component",
        "metallb@0.16",
    ]);
    assert_eq!((code, told.trim()), (0, "13 images"), "{out}");
    let line = |image: &str| out.lines().find(|l| l.starts_with(image)).unwrap_or_default().to_owned();
    assert!(line("registry.k8s.io/etcd:3.5.15-0").ends_with("component kubeadm 1.31.4"), "{out}");
    assert!(line("quay.io/metallb/speaker:v0.16.1").ends_with("component metallb 0.16.1"), "{out}");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let (code, _, told) = omk(&["image", "discover", "--component", "celium"]);
    assert_eq!(code, 2);
    assert!(told.contains("there is no component \"celium\"; there is cilium"), "{told}");
    let (code, _, told) = omk(&["image", "discover", "--component", "kubeadm@1.5"]);
    assert!(code == 2 && told.contains("kubeadm has no version \"1.5\"; it has 1.36"), "{told}");
}

#[test]
fn the_list_is_for_people_and_programs() {
    let (code, out, _) = omk(&["component", "list"]);
    assert!(code == 0 && out.contains("cilium") && out.contains("(+"), "{out}");
    let (code, out, _) = omk(&["component", "list", "cilium", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, list.as_array().unwrap().len(), &list[0]["name"]), (0, 1, &"cilium".into()));
    assert!(list[0]["versions"][0]["images"].as_array().unwrap().len() > 2);
}

#[test]
fn folders_of_users_add_components() {
    let dir = tempfile::tempdir().unwrap();
    let text = "apiVersion: omk/v1\nkind: Component\nmetadata: {name: shop}\nspec:\n  about: a shop\n  source: ours\n  images: \
                ['registry.example/shop:{version}']\n  versions: [{version: '2.0'}]\n";
    std::fs::write(dir.path().join("shop.yaml"), text).unwrap();
    let folder = dir.path().to_str().unwrap();
    let (code, out, _) = omk(&["image", "discover", "--catalogue", folder, "--component", "shop"]);
    assert!(code == 0 && out.contains("registry.example/shop:2.0"), "{out}");
    // The file is an input by itself, too.
    let (code, out, told) = omk(&["image", "discover", folder]);
    assert!(code == 0 && out.contains("registry.example/shop:2.0"), "{out}{told}");
}

/// Charts below `folder` by name and version.
fn charts(folder: &Path) -> Vec<(PathBuf, chart::Chart)> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    entries.filter_map(|path| Some((path.clone(), chart::load(&path).ok()?))).collect()
}

/// Held against charts where there are some: `OMK_CHARTS` is a folder of them.
#[test]
fn lists_are_what_charts_render_to() {
    let Some(folder) = std::env::var_os("OMK_CHARTS") else {
        eprintln!("OMK_CHARTS is not set: no charts to hold the catalogue against");
        return;
    };
    let charts = charts(Path::new(&folder));
    let all = Catalogue::builtin().unwrap();
    let mut held = 0;
    for component in all.components() {
        for version in &component.versions {
            let Some(of) = &version.chart else { continue };
            let same = |c: &chart::Chart| {
                c.metadata.name == of.name
                    && c.metadata.version.trim_start_matches('v') == of.version.trim_start_matches('v')
            };
            for (path, chart) in charts.iter().filter(|(_, c)| same(c)) {
                hold(&component.name, version, path, chart);
                held += 1;
            }
        }
    }
    eprintln!("{held} lists held against charts");
    assert!(held > 0, "none of the charts is in the catalogue");
}

/// Every image of a pod spec is in the list; whatever else is in the list is named somewhere in what the chart renders to.
fn hold(name: &str, version: &Version, path: &Path, chart: &chart::Chart) {
    let inputs = Inputs { paths: vec![path.into()], ..Inputs::default() };
    let found = discover(&inputs, &Scope::default()).unwrap();
    let certain = found.findings.iter().filter(|f| f.confidence == Confidence::Certain);
    let pods: BTreeSet<String> = certain.map(|f| f.image.to_string()).collect();
    let list: BTreeSet<String> = version.images.iter().map(ToString::to_string).collect();
    assert!(!pods.is_empty(), "{name}: nothing was found in {}: {:?}", path.display(), found.problems);
    let lacks: Vec<_> = pods.difference(&list).collect();
    assert!(lacks.is_empty(), "{name} {} lacks {lacks:?}", version.version);
    let text: String = chart::render(chart, &RenderOptions::default())
        .unwrap()
        .documents
        .iter()
        .map(|d| d.text.as_str())
        .collect();
    for extra in list.difference(&pods) {
        assert!(
            text.contains(extra.trim_start_matches("docker.io/")),
            "{name} {}: {extra} is not in the chart",
            version.version
        );
    }
}

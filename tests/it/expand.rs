//! Documents that lead to others: releases, applications, operators. Charts and repositories are folders here.

use std::path::{Path, PathBuf};

use omk::discover::{Findings, Inputs, Scope, discover};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/expand")
}

/// The sources, with folders that stand in for remote ones; `KEY=folder below the fixtures`.
fn found(sources: &[&str], stand_ins: &[&str]) -> Findings {
    let paths = sources.iter().map(|s| fixtures().join(s)).collect();
    let pair = |s: &&str| s.rsplit_once('=').map(|(k, p)| (k.to_owned(), fixtures().join(p))).unwrap();
    let scope = Scope { source_paths: stand_ins.iter().map(pair).collect(), ..Scope::default() };
    discover(&Inputs { paths, ..Inputs::default() }, &scope).unwrap()
}

/// A line an image, with where it was found, then a line a problem.
fn show(found: &Findings) -> String {
    let finding =
        |f: &omk::discover::Finding| format!("{} <- {} [{}]", f.image.familiar(), f.origin, f.origin.rule);
    let problem = |p: &omk::discover::Problem| format!("{}: {p}", p.severity);
    let lines = found.findings.iter().map(finding).chain(found.problems.iter().map(problem));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace(&format!("{}/", fixtures().display()), "")
}

const PODINFO: &str = "https://stefanprodan.github.io/podinfo=charts";

#[test]
fn a_cluster_of_flux_is_followed_to_the_charts_of_its_releases() {
    insta::assert_snapshot!(show(&found(&["flux/clusters"], &["flux-system/flux-system=flux", PODINFO])));
}

#[test]
fn what_a_kustomization_deploys_is_told_by_the_way_that_leads_there() {
    // The raw manifests have variables in them that only the Kustomization fills in.
    let all = found(&["flux/clusters", "flux/apps"], &["flux-system=flux", PODINFO]);
    let less = found(&["flux/clusters"], &["flux-system=flux", PODINFO]);
    assert_eq!(show(&all), show(&less));
    assert!(!all.is_partial());
}

#[test]
fn what_flux_needs_and_is_not_here_is_a_gap_with_the_way_out() {
    let found = found(&["flux/sources.yaml"], &[]);
    insta::assert_snapshot!(show(&found));
    assert!(found.is_partial());
}

/// `flux bootstrap` leaves its own source in a folder that people rarely name; others make artifacts of parts of it.
#[test]
fn a_folder_may_be_given_for_a_source_that_is_not_in_the_input() {
    let of = |kind: &str, name: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
             flux-system}}\nspec: {{path: ./{name}, sourceRef: {{kind: {kind}, name: shop}}}}\n---\n"
        )
    };
    let pod =
        |image| format!("kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{image: '{image}'}}]}}\n");
    let files = [
        ("clusters/all.yaml", of("GitRepository", "web") + &of("ExternalArtifact", "db")),
        ("work/web/pod.yaml", pod("web:1")),
        ("work/db/pod.yaml", pod("db:2")),
    ];
    let dir = written(&files);
    let run = |name: Option<&str>| {
        let source_paths = name.iter().map(|n| ((*n).to_owned(), dir.path().join("work"))).collect();
        let scope = Scope { source_paths, ..Scope::default() };
        let paths = vec![dir.path().join("clusters")];
        let found = discover(&Inputs { paths, ..Inputs::default() }, &scope).unwrap();
        let images: Vec<_> = found.images().iter().map(|i| i.familiar()).collect();
        (images, found.problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    for name in ["shop", "flux-system/shop"] {
        assert_eq!(run(Some(name)), (vec!["db:2".to_owned(), "web:1".to_owned()], vec![]));
    }
    let (images, problems) = run(None);
    assert!(images.is_empty() && problems.len() == 2, "{problems:?}");
    assert!(problems[0].contains("or its folder: --source-path flux-system/shop=DIR"), "{problems:?}");
}

#[test]
fn applications_of_argo_cd_are_followed() {
    let stand_ins =
        ["https://git.example.com/shop/deploy=argo", PODINFO, "registry-1.docker.io/example=charts"];
    insta::assert_snapshot!(show(&found(&["argo/applications.yaml"], &stand_ins)));
}

#[test]
fn sets_of_applications_are_written_out() {
    insta::assert_snapshot!(show(&found(&["argo/appset.yaml"], &[PODINFO])));
}

#[test]
fn charts_of_k3s_are_rendered_with_their_configuration() {
    insta::assert_snapshot!(show(&found(&["k3s"], &[PODINFO])));
}

#[test]
fn operators_name_their_images() {
    insta::assert_snapshot!(show(&found(&["olm"], &[])));
}

#[test]
fn an_operator_of_a_catalogue_is_a_gap_unless_its_version_is_there() {
    let subscription = "apiVersion: operators.coreos.com/v1alpha1\nkind: Subscription
metadata: {name: etcd, namespace: operators}
spec:
  name: etcd
  source: community-operators
  sourceNamespace: olm
  config: {env: [{name: RELATED_IMAGE_ETCD, value: 'quay.io/shop/etcd:3.5'}]}\n";
    let version = "---\napiVersion: operators.coreos.com/v1alpha1\nkind: ClusterServiceVersion
metadata: {name: etcd.v0.9.4}
spec: {relatedImages: [{name: a, image: 'quay.io/shop/operator:1'}]}\n";
    let told = |text: String| {
        let dir = written(&[("all.yaml", text)]);
        let found =
            discover(&Inputs { paths: vec![dir.path().into()], ..Inputs::default() }, &Scope::default())
                .unwrap();
        show(&found).replace(&format!("{}/", dir.path().display()), "")
    };
    insta::assert_snapshot!(told(subscription.to_owned()), @r"
    quay.io/shop/etcd:3.5 <- all.yaml:8 Subscription operators/etcd spec.config.env[RELATED_IMAGE_ETCD].value [env]
    error: all.yaml:1:1: the operator etcd comes from community-operators, which says which images it needs: they are not known here; give its ClusterServiceVersion too, from the manifests folder of its bundle or, where it is installed: kubectl get csv -n operators -o yaml
    ");
    let both = told(subscription.to_owned() + version);
    assert!(both.contains("quay.io/shop/operator:1") && !both.contains("error"), "{both}");
    let pinned = subscription.to_owned() + "  startingCSV: etcd.v0.9.9\n" + version;
    assert!(told(pinned).contains("kubectl get csv etcd.v0.9.9 -n operators -o yaml"));
}

#[test]
fn a_configuration_without_its_chart_still_names_images() {
    let config = "apiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\nmetadata: {name: traefik, namespace: kube-system}
spec: {valuesContent: 'image: quay.io/vc/b:1'}\n";
    let dir = written(&[("config.yaml", config.to_owned())]);
    let found =
        discover(&Inputs { paths: vec![dir.path().into()], ..Inputs::default() }, &Scope::default()).unwrap();
    let text = show(&found);
    assert!(text.contains("quay.io/vc/b:1 <- ") && text.contains("values: image [release-value]"), "{text}");
    assert!(
        found.is_partial() && text.contains("the HelmChart kube-system/traefik that it configures"),
        "{text}"
    );
}

#[test]
fn mirrors_are_left_out_and_it_is_said() {
    let found = found(&["mirrors"], &[]);
    insta::assert_snapshot!(show(&found));
    assert!(!found.is_partial());
}

#[test]
fn the_chain_stands_in_the_report() {
    let found = found(&["flux/clusters"], &["flux-system=flux", PODINFO]);
    let report = serde_json::to_value(found.report()).unwrap();
    let images = report["images"].as_array().unwrap();
    let image = images.iter().find(|i| i["image"] == "docker.io/bitnami/redis:7.4.1").unwrap();
    let origin = &image["origins"][0];
    assert_eq!(origin["source"], "chart");
    assert_eq!(origin["kind"], "Deployment");
    let kinds: Vec<_> =
        origin["through"].as_array().unwrap().iter().map(|o| o["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Kustomization", "HelmRelease"]);
}

fn written(files: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

/// An application that deploys `path` of the repository.
fn application(name: &str, path: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec: {{source: {{repoURL: \
         'https://git.example.com/a', path: '{path}'}}}}\n"
    )
}

#[test]
fn circles_and_endless_ways_end() {
    let pod = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: 'a:1'}]}\n".to_owned();
    let mut files = vec![("top/a.yaml", application("a", "top")), ("top/pod.yaml", pod)];
    files.push(("top/b.yaml", application("b", "deep/0")));
    let names: Vec<String> = (0..20).map(|n| format!("deep/{n}/app.yaml")).collect();
    for (n, name) in names.iter().enumerate() {
        files.push((name, application(&format!("d{n}"), &format!("deep/{}", n + 1))));
    }
    let dir = written(&files);
    let scope = |max: usize| Scope {
        source_paths: vec![("https://git.example.com/a.git".into(), dir.path().into())],
        max_expansions: max,
        ..Scope::default()
    };
    let inputs = Inputs { paths: vec![dir.path().join("top")], ..Inputs::default() };
    let found = discover(&inputs, &scope(5_000)).unwrap();
    assert_eq!(found.findings.len(), 1, "{}", show(&found));
    assert!(show(&found).contains("more than 8 documents lead to each other"), "{}", show(&found));
    let few = discover(&inputs, &scope(2)).unwrap();
    assert!(show(&few).contains("more than 2 documents lead to others"), "{}", show(&few));
}

#[test]
fn nothing_outside_of_a_repository_is_read() {
    let secret = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: 'outside:1'}]}\n".to_owned();
    let dir = written(&[
        ("repo/apps/app.yaml", application("up", "../outside")),
        ("repo/apps/link.yaml", application("link", "link")),
        ("outside/pod.yaml", secret),
    ]);
    std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("repo/link")).unwrap();
    let scope = Scope {
        source_paths: vec![("https://git.example.com/a".into(), dir.path().join("repo"))],
        ..Scope::default()
    };
    let inputs = Inputs { paths: vec![dir.path().join("repo/apps")], ..Inputs::default() };
    let found = discover(&inputs, &scope).unwrap();
    assert_eq!(found.findings, [], "{}", show(&found));
    assert!(show(&found).contains("leaves the repository"), "{}", show(&found));
}

#[test]
fn the_tree_that_an_input_lies_in_is_taken_only_for_its_own_repository() {
    let pod = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: 'a:1'}]}\n".to_owned();
    let config = |url: &str| format!("[remote \"origin\"]\n\turl = {url}\n");
    for (url, images, told) in [
        ("git@git.example.com:a.git", 1, ""),
        ("https://git.example.com/other", 0, "is not on this machine and is not fetched"),
    ] {
        let dir = written(&[
            ("apps/app.yaml", application("app", "deploy")),
            ("deploy/pod.yaml", pod.clone()),
            (".git/config", config(url)),
        ]);
        let inputs = Inputs { paths: vec![dir.path().join("apps")], ..Inputs::default() };
        let found = discover(&inputs, &Scope::default()).unwrap();
        assert_eq!(found.findings.len(), images, "{}", show(&found));
        assert!(show(&found).contains(told) && found.is_partial() == (images == 0), "{}", show(&found));
    }
}

#[test]
fn secrets_that_values_hold_are_told_nowhere() {
    let found = found(&["flux/apps/plain"], &[PODINFO]);
    assert!(show(&found).contains("bitnami/redis:7.4.1"));
    assert!(!format!("{found:?}").contains("Ny40LjE="));
}

#[test]
fn values_speak_for_charts_that_are_not_at_hand() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: shop}
spec:
  chart: {spec: {chart: web, sourceRef: {kind: HelmRepository, name: charts}}}
  valuesFrom:
  - {kind: ConfigMap, name: web-values}
  - {kind: ConfigMap, name: tag, valuesKey: tag, targetPath: proxy.image.tag}
  - {kind: ConfigMap, name: late}
  values:
    image: {repository: quay.io/shop/web, tag: '3'}
    metrics: {enabled: false, image: 'quay.io/shop/metrics:1'}
    open: {image: {repository: quay.io/shop/open}}
";
    let map = |name: &str, key: &str, text: &str| {
        let text = serde_json::json!(text);
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{{key}: {text}}}\n"
        )
    };
    let maps = [
        map("web-values", "values.yaml", "proxy: {image: {repository: quay.io/shop/proxy, tag: one}}"),
        map("tag", "tag", "two"),
        map(
            "late",
            "values.yaml",
            "late: {image: 'quay.io/shop/late:1'}\nproxy: {image: {pullPolicy: Always}}",
        ),
        map("other", "app.yaml", "image: quay.io/shop/worker:1"),
    ];
    let repository = "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository
metadata: {name: charts, namespace: shop}\nspec: {url: 'https://charts.example.com'}\n";
    let k3s = "apiVersion: helm.cattle.io/v1
kind: HelmChart
metadata: {name: dns, namespace: kube-system}
spec:
  repo: https://charts.example.com
  chart: dns
  valuesContent: |-
    image: {repository: quay.io/shop/dns, tag: v1}
  set: {sidecar.image: 'quay.io/shop/sidecar:2'}
";
    let argo = "apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: api}
spec:
  source:
    repoURL: https://charts.example.com
    chart: api
    helm:
      valuesObject: {image: {repository: quay.io/shop/api}}
      parameters: [{name: image.tag, value: v4}]
";
    let files = [
        ("flux.yaml", release.to_owned() + &maps.concat() + repository),
        ("k3s.yaml", k3s.to_owned()),
        ("argo.yaml", argo.to_owned()),
    ];
    let dir = written(&files);
    let found = discover(
        &Inputs { paths: vec![dir.path().into()], ..Inputs::default() },
        &Scope { include_disabled: true, ..Scope::default() },
    )
    .unwrap();
    let one = |f: &omk::discover::Finding| {
        let (o, text) = (&f.origin, |t: &Option<String>| t.clone().unwrap_or_default());
        format!("{} {} {} {}", f.image, o.rule, text(&o.field), text(&o.switch))
    };
    let told: Vec<String> = found.findings.iter().map(|f| one(f).trim_end().to_owned()).collect();
    assert_eq!(
        told,
        [
            "quay.io/shop/api:v4 release-value spec.source.helm.valuesObject.image.repository",
            "quay.io/shop/dns:v1 release-value values: image.repository",
            "quay.io/shop/late:1 release-value values: late.image",
            "quay.io/shop/metrics:1 values spec.values.metrics.image metrics.enabled=true",
            "quay.io/shop/proxy:two release-value values: proxy.image.repository",
            "quay.io/shop/sidecar:2 release-value values: sidecar.image",
            "quay.io/shop/web:3 release-value spec.values.image.repository",
            // Nobody takes this one for values.
            "quay.io/shop/worker:1 config data[\"app.yaml\"]",
        ]
    );
    assert_eq!(found.problems.len(), 3, "{:?}", found.problems);
    assert!(found.is_partial());
}

#[test]
fn jsonnet_of_an_application_is_a_gap() {
    let files = [
        ("app.yaml", application("a", "top")),
        ("top/pod.yaml", "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: 'a:1'}]}\n".to_owned()),
        ("top/more.jsonnet", "{}".to_owned()),
    ];
    let dir = written(&files);
    let scope = Scope {
        source_paths: vec![("https://git.example.com/a".into(), dir.path().into())],
        ..Scope::default()
    };
    let found = discover(&Inputs { paths: vec![dir.path().join("app.yaml")], ..Inputs::default() }, &scope);
    let found = found.unwrap();
    assert_eq!(found.findings.len(), 1);
    assert!(
        found.is_partial() && found.problems[0].reason.contains("more.jsonnet is Jsonnet"),
        "{:?}",
        found.problems
    );
}

#[test]
fn a_dump_tells_the_digests_that_run() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, image: 'nginx:1.27'}}]}}\n\
         status: {{containerStatuses: [{{name: c, imageID: 'docker.io/library/nginx@{digest}'}}]}}\n"
    );
    let dir = written(&[("dump.yaml", pod)]);
    let found =
        discover(&Inputs { paths: vec![dir.path().into()], ..Inputs::default() }, &Scope::default()).unwrap();
    let told: Vec<String> =
        found.findings.iter().map(|f| format!("{} {}", f.image.familiar(), f.origin.rule)).collect();
    assert_eq!(told, ["nginx:1.27 container".to_owned(), format!("nginx:1.27@{digest} running-digest")]);
    assert_eq!(found.findings[1].origin.field.as_deref(), Some("status.containerStatuses[0].imageID"));
}

#[test]
fn a_chart_at_hand_that_lacks_dependencies_tells_of_its_own_images() {
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path().join("charts/web");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    let about = "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- {name: db, version: 2.0.0, repository: 'https://db.example'}\n";
    std::fs::write(chart.join("Chart.yaml"), about).unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: quay.io/shop/web:1}]}\n";
    std::fs::write(chart.join("templates/pod.yaml"), pod).unwrap();
    let release =
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: web, namespace: shop}
spec: {chart: {spec: {chart: web, version: 1.0.0, sourceRef: {kind: HelmRepository, name: charts}}}}
---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository
metadata: {name: charts, namespace: shop}\nspec: {url: 'https://charts.example.com'}\n";
    std::fs::write(dir.path().join("release.yaml"), release).unwrap();
    let scope = Scope {
        source_paths: vec![("https://charts.example.com".into(), dir.path().join("charts"))],
        ..Scope::default()
    };
    let inputs = Inputs { paths: vec![dir.path().join("release.yaml")], ..Inputs::default() };
    let found = discover(&inputs, &scope).unwrap();
    let text = show(&found);
    assert!(text.contains("quay.io/shop/web:1") && text.contains("[incomplete-chart]"), "{text}");
    assert!(text.contains("db") && found.is_partial(), "{text}");
}

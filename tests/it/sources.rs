//! Inputs that are no Kubernetes objects: image lists, Compose files, hauler manifests and Zarf packages.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use omk::discover::{Findings, Inputs, Scope, discover};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn found(source: &str, variables: &[(&str, &str)]) -> Findings {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let charts = fixtures().join("expand/charts");
    let source_paths = vec![("https://stefanprodan.github.io/podinfo".to_owned(), charts)];
    let paths = vec![fixtures().join("sources").join(source)];
    let scope = Scope { variables, source_paths, ..Scope::default() };
    discover(&Inputs { paths, ..Inputs::default() }, &scope).unwrap()
}

fn show(found: &Findings) -> String {
    let finding =
        |f: &omk::discover::Finding| format!("{} <- {} [{}]", f.image.familiar(), f.origin, f.origin.rule);
    let problem = |p: &omk::discover::Problem| format!("{}: {p}", p.severity);
    let lines = found.findings.iter().map(finding).chain(found.problems.iter().map(problem));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace(&format!("{}/", fixtures().display()), "")
}

#[test]
fn a_list_has_an_image_a_line() {
    insta::assert_snapshot!(show(&found("lists/k3s-images.txt", &[])));
}

#[test]
fn a_list_is_known_by_its_content_on_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_omk"))
        .args(["image", "discover", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let list = "I1121 12:00:00.000000    7 version.go:256] remote version is much newer\n\
                registry.k8s.io/kube-apiserver:v1.33.4\nregistry.k8s.io/pause:3.10\n";
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    assert!(out.contains("registry.k8s.io/pause:3.10") && out.contains("standard input:3"), "{out}");
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.contains("standard input:1: \"I1121"), "{told}");
    assert_eq!(done.status.code(), Some(3));
}

#[test]
fn compose_files_are_read_with_what_they_extend_and_include() {
    insta::assert_snapshot!(show(&found("compose/compose.yaml", &[])));
}

#[test]
fn variables_may_be_given() {
    let found = found("compose/compose.yaml", &[("LOST_TAG", "9"), ("WEB_TAG", "3.0")]);
    let text = show(&found);
    assert!(
        text.contains("registry.example/shop/lost:9") && text.contains("registry.example/shop/web:3.0"),
        "{text}"
    );
}

#[test]
fn hauler_manifests_name_images_charts_and_lists() {
    insta::assert_snapshot!(show(&found("hauler", &[])));
}

#[test]
fn zarf_packages_name_images_charts_and_manifests() {
    insta::assert_snapshot!(show(&found("zarf/zarf.yaml", &[("SIDECAR", "1.9")])));
}

#[test]
fn a_zarf_template_without_a_value_is_a_gap() {
    let text = show(&found("zarf/zarf.yaml", &[]));
    assert!(text.contains("ZARF_PKG_TMPL_SIDECAR has no value; give it: --variable SIDECAR=VALUE"), "{text}");
}

#[test]
fn packages_that_import_each_other_end() {
    let dir = tempfile::tempdir().unwrap();
    let package = "kind: ZarfPackageConfig\ncomponents:\n- {name: a, import: {path: .}, images: ['a:1']}\n";
    std::fs::write(dir.path().join("zarf.yaml"), package).unwrap();
    let inputs = Inputs { paths: vec![dir.path().join("zarf.yaml")], ..Inputs::default() };
    let found = discover(&inputs, &Scope::default()).unwrap();
    assert_eq!(found.images().len(), 1);
    assert!(show(&found).contains("more than 8 packages import each other"), "{}", show(&found));
}

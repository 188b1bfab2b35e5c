//! Kustomizations: every feature that can change an image, and what is reported when something is not at hand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use omk::discover::{Inputs, Scope, discover};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kustomize")
}

/// Images and problems of the folder `name` below the fixtures.
fn found(name: &str) -> (BTreeSet<String>, Vec<String>) {
    let inputs = Inputs { paths: vec![fixtures().join(name)], ..Inputs::default() };
    let found = discover(&inputs, &Scope::default()).unwrap();
    let root = format!("{}/", fixtures().display());
    let problems = found.problems.iter().map(|p| p.to_string().replace(&root, "")).collect();
    (found.images().iter().map(ToString::to_string).collect(), problems)
}

fn set(images: &[&str]) -> BTreeSet<String> {
    images.iter().map(|i| (*i).to_owned()).collect()
}

/// What `kubectl kustomize` (kubectl 1.37.1, Kustomize 5.8.1) prints for the overlay, with the two that its custom resource
/// names.
const OVERLAY: [&str; 11] = [
    "docker.io/library/envoy:1.31",
    "docker.io/library/postgres:16",
    "docker.io/prom/exporter:2",
    "docker.io/shop/custom:1",
    "docker.io/shop/data:5",
    "docker.io/shop/red/log:4",
    "docker.io/shop/metrics:9",
    "docker.io/shop/reports:1.0",
    "docker.io/shop/runner:7",
    "docker.io/shop/web:2.0",
    "mirror.example/setup@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

#[test]
fn an_overlay_changes_the_images_of_its_base() {
    assert_eq!(found("overlay"), (set(&OVERLAY), vec![]));
}

#[test]
fn charts_of_a_kustomization_are_rendered_and_missing_ones_are_gaps() {
    let (images, problems) = found("helm");
    assert_eq!(images, set(&["docker.io/shop/from-chart:6", "docker.io/shop/other:5"]));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("helm pull absent --repo https://charts.example.com --version 1.2.3"),
        "{problems:?}"
    );
}

#[test]
fn variables_are_put_where_a_configuration_says_and_remote_bases_are_gaps() {
    let (images, problems) = found("vars");
    assert_eq!(images, set(&["docker.io/shop/app:1.2"]));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("https://github.com/example/remote//base?ref=v1 is not on this machine"),
        "{problems:?}"
    );
}

#[test]
fn a_folder_of_kustomizations_counts_what_nobody_builds_upon() {
    let (images, problems) = found("");
    let others = ["docker.io/shop/from-chart:6", "docker.io/shop/other:5", "docker.io/shop/app:1.2"];
    assert_eq!(images, set(&[&OVERLAY[..], &others[..]].concat()), "no image of an unpatched base");
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn what_kustomize_refuses_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("../outside.yaml".trim_start_matches("../"), "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n");
    write("in/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n");
    write("in/same.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n");
    for (k, expected) in [
        ("resources: [gone.yaml]", "gone.yaml: No such file"),
        ("resources: [../outside.yaml]", "lies outside of"),
        ("resources: [.]", "contains itself"),
        ("resourcez: []", "unknown field `resourcez`"),
        ("kind: Deployment", "kind is Deployment"),
        ("images: [{name: a, newTag: 1.0}]", "write it in quotes"),
        (
            "patches: [{patch: '{kind: Pod, apiVersion: v1, metadata: {name: x}}'}]",
            "the patch fits no object",
        ),
        ("patches: [{patch: '[{op: remove, path: /a}]'}]", "needs a target"),
        ("resources: [pod.yaml, pod.yaml]", "Pod p is added twice"),
        ("resources: [pod.yaml, same.yaml]", "Pod p is added twice"),
        (
            "resources: [pod.yaml]\npatches: [{patch: 'a: b', target: {kind: Pod}}]",
            "no kind or no metadata.name",
        ),
        ("resources: [pod.yaml]\npatches: [{patch: '# nothing', target: {kind: Pod}}]", "a patch is empty"),
        ("resources: [pod.yaml]\npatches: [{patch: ''}]", "a patch is empty"),
        ("replacements: [{source: {kind: Pod}, targets: []}]", "nothing is selected by the source"),
    ] {
        write("in/kustomization.yaml", k);
        let inputs = Inputs { paths: vec![folder.path().join("in")], ..Inputs::default() };
        let found = discover(&inputs, &Scope::default()).unwrap();
        assert!(found.is_failure(), "{k}");
        assert!(found.problems[0].to_string().contains(expected), "{k}: {}", found.problems[0]);
    }
}

/// Bases that name each other twice would be built two to the power of their number times.
#[test]
fn a_tower_of_bases_ends() {
    let folder = tempfile::tempdir().unwrap();
    for level in 0..40 {
        let below = folder.path().join(level.to_string());
        std::fs::create_dir(&below).unwrap();
        let base = format!("../{}", level + 1);
        std::fs::write(below.join("kustomization.yaml"), format!("resources: [{base}, {base}]")).unwrap();
    }
    std::fs::create_dir(folder.path().join("40")).unwrap();
    std::fs::write(folder.path().join("40/kustomization.yaml"), "resources: []").unwrap();
    let inputs = Inputs { paths: vec![folder.path().join("0")], ..Inputs::default() };
    let found = discover(&inputs, &Scope::default()).unwrap();
    assert!(found.problems[0].to_string().contains("or 2000 in all"), "{}", found.problems[0]);
}

#[test]
fn kubectl_says_the_same_where_it_is_installed() {
    let kubectl = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
    // An older Kustomize does not know every field of the fixture.
    let version = Command::new(&kubectl).args(["version", "--client"]).output();
    let version = version.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    let known = version.lines().find_map(|line| line.strip_prefix("Kustomize Version: v"));
    let known = known.and_then(|version| semver::Version::parse(version).ok());
    if known.is_none_or(|version| version < semver::Version::new(5, 8, 0)) {
        eprintln!("left out: no kubectl with Kustomize 5.8 or newer, only: {version}");
        return;
    }
    let done = Command::new(kubectl).arg("kustomize").arg(fixtures().join("overlay")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), done.stdout).unwrap();
    let inputs = Inputs { paths: vec![file.path().into()], ..Inputs::default() };
    let theirs = discover(&inputs, &Scope::default()).unwrap();
    let theirs: BTreeSet<String> = theirs.images().iter().map(ToString::to_string).collect();
    assert_eq!(found("overlay").0, theirs);
}

/// As `kubectl kustomize` does, with a target and without.
#[test]
fn files_of_patches_that_hold_nothing_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: 'quay.io/a/b:1'}]}\n",
    );
    write("empty.yaml", "");
    write("notes.yaml", "# nothing yet\n");
    write(
        "kustomization.yaml",
        "resources: [pod.yaml]\npatches: [{path: empty.yaml}, {path: notes.yaml, target: {kind: Pod}}]\n",
    );
    let inputs = Inputs { paths: vec![dir.path().into()], ..Inputs::default() };
    let found = discover(&inputs, &Scope::default()).unwrap();
    assert!(!found.is_partial(), "{:?}", found.problems);
    assert_eq!(found.images().len(), 1);
}

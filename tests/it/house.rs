//! The direction of the arrows, and that what is generated is fresh.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

/// Code that ships: without comments, without what only tests see.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    let lines =
        shipped.lines().enumerate().map(|(n, l)| (n + 1, l.split("//").next().unwrap_or("").to_owned()));
    lines.collect()
}

fn room(path: &Path) -> String {
    path.strip_prefix(root().join("src")).unwrap().display().to_string()
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|s| s == "tests") || path.components().any(|c| c.as_os_str() == "tests")
}

fn violations(applies: impl Fn(&str) -> bool, forbidden: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let mut found = Vec::new();
    for path in all.iter().filter(|p| !is_test_file(&root().join("src").join(room(p))) && applies(&room(p))) {
        for (line, text) in code(path) {
            for word in forbidden.iter().filter(|w| text.contains(*w)) {
                found.push(format!("src/{}:{line}: {word}", room(path)));
            }
        }
    }
    found
}

const PURE: [&str; 9] = [
    "oci/",
    "near",
    "graph/",
    "template/",
    "yaml/",
    "runtime/",
    "push/plan",
    "push/journal/",
    "bundle/index",
];

#[test]
fn pure_rooms_do_no_io() {
    let io = [
        "std::fs",
        "std::net",
        "std::process",
        "std::env::",
        "tokio",
        "SystemTime",
        "reqwest",
        "russh",
        "oci_client",
    ];
    let found = violations(|room| PURE.iter().any(|p| room.starts_with(p)), &io);
    assert!(found.is_empty(), "pure rooms reach out:\n{}", found.join("\n"));
}

#[test]
fn only_the_command_line_knows_clap_and_prints() {
    let words = ["clap::", "clap_", "println!", "print!(", "eprintln!", "stdout()", "stderr()", "indicatif"];
    let found = violations(|room| !room.starts_with("cli/") && room != "main.rs", &words);
    assert!(found.is_empty(), "the library prints or knows its command line:\n{}", found.join("\n"));
}

#[test]
fn the_checks_above_see_something() {
    assert!(!violations(|room| room.starts_with("cli/"), &["clap::"]).is_empty());
    assert!(!violations(|room| room.starts_with("store/"), &["std::fs"]).is_empty());
}

#[test]
fn files_stay_readable() {
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let long = |p: &&PathBuf| std::fs::read_to_string(p).unwrap().lines().count() > 650;
    let long: Vec<String> = all.iter().filter(long).map(|p| room(p)).collect();
    assert!(long.is_empty(), "split by what they do: {long:?}");
}

#[test]
fn completions_and_manual_are_fresh() {
    let refresh = "run `cargo run -- generate .` and commit what changed";
    let mut expected = Vec::new();
    for (path, bytes) in omk::cli::generate::files().unwrap() {
        let there = std::fs::read(root().join(&path)).unwrap_or_default();
        assert!(there == bytes, "{} is stale: {refresh}", path.display());
        expected.push(path);
    }
    for folder in ["completions", "man"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            assert!(expected.contains(&path), "{} belongs to no command: remove it", path.display());
        }
    }
}

#[test]
fn every_definition_in_bundles_is_an_input_with_pinned_versions() {
    let inputs = omk::discover::Inputs { paths: vec![root().join("bundles")], ..Default::default() };
    let found = omk::discover::discover(&inputs, &omk::discover::Scope::default()).unwrap();
    assert_eq!(found.problems, [], "{:?}", found.problems);
    assert!(found.images().len() >= 7);
    // What upstream itself leaves open: local-path's manifest, the tests in Kyverno's chart.
    let open = ["docker.io/library/busybox:latest", "ghcr.io/kyverno/readiness-checker:latest"];
    for image in found.images().iter().filter(|i| !open.contains(&i.to_string().as_str())) {
        assert!(image.tag().is_some_and(|t| t != "latest"), "{image}");
    }
}

#[test]
fn every_rule_is_explained_with_its_confidence() {
    let page = std::fs::read_to_string(root().join("docs/discovery.md")).unwrap();
    let rows: Vec<Vec<&str>> = page.lines().map(|l| l.split(" | ").collect()).collect();
    for rule in omk::discover::RULES {
        let name = format!("`{}`", rule.name);
        let row = rows.iter().find(|r| r[0].trim_start_matches("| ").split(", ").any(|n| n == name));
        let row = row.unwrap_or_else(|| panic!("docs/discovery.md lacks a row for the rule {}", rule.name));
        assert_eq!(row[1], rule.confidence.to_string(), "docs/discovery.md: {}", rule.name);
    }
}

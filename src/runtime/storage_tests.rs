use insta::assert_snapshot;

use super::super::fixtures;
use super::*;
use crate::store::MemoryStore;

fn crio() -> ContainersStorage {
    ContainersStorage::new(StorageUser::Crio)
}

fn says(stdout: &str) -> CommandOutput {
    CommandOutput { status: 0, stdout: stdout.into(), stderr: Vec::new() }
}

fn answer(images: &serde_json::Value, layers: &serde_json::Value) -> CommandOutput {
    says(&format!(
        "==omk machine\nLinux x86_64\n==rc 0\n==omk program\n/usr/bin/crio\n==rc 0\n==omk copier\n/usr/bin/skopeo\n==rc 0\n\
         ==omk version\ncrio version 1.33.1\nGo: 1.24\n==rc 0\n==omk images\n{images}\n==rc 0\n==omk layers\n{layers}\n==rc 0\n\
         ==omk kubelet\nfile /var/lib/kubelet/config.yaml\npercent 70\n==rc 0\n"
    ))
}

/// As the storage records an image; ids are made up, which is all that they are.
fn records(image: &RuntimeImage, layers: &[&str], names: &[&str]) -> (serde_json::Value, serde_json::Value) {
    let stored: Vec<serde_json::Value> = layers
        .iter()
        .enumerate()
        .map(|(i, text)| {
            serde_json::json!({
                "id": format!("id{i}"),
                "parent": if i == 0 { String::new() } else { format!("id{}", i - 1) },
                "compressed-diff-digest": image.image.layers[i].digest(),
                "diff-digest": Digest::sha256(format!("raw {text}").as_bytes()),
            })
        })
        .collect();
    let manifest = image.image.manifest.digest();
    let images = serde_json::json!([{
        "id": "x", "digest": image.root.digest(), "names": names, "layer": format!("id{}", layers.len() - 1),
        "big-data-digests": {"manifest": manifest, format!("manifest-{manifest}"): manifest, "sha256:00": "sha256:00"},
    }, {"id": "nameless", "digest": manifest, "layer": "gone"}, {"id": "odd"}]);
    (images, stored.into())
}

#[test]
fn records_say_what_is_there() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let api = fixtures::image(&store, "api:1", &["base", "api"]);
    let (images, layers) = records(&web, &["base", "web"], &[&web.names[0]]);
    let facts = crio().parse_probe(&answer(&images, &layers)).unwrap();
    assert_eq!(
        (facts.runtime.as_str(), facts.kubelet.as_ref().unwrap().image_gc_percent),
        ("CRI-O 1.33.1", 70)
    );
    assert_eq!(crio().readiness(&facts, &web), Readiness::Ready(None), "the digest is found by the tag");
    assert_eq!(crio().has(&facts, &api, &api.image.layers[0]), Some(Have::Stored));
    assert_eq!(crio().has(&facts, &api, &api.image.layers[1]), None);
    assert_eq!(crio().has(&facts, &web, &web.image.config), None, "a copy always reads it");
    assert!(matches!(crio().readiness(&facts, &api), Readiness::Missing(why) if why.contains("api:1")));
    let mut doubted = facts;
    doubted.distrust(&BTreeSet::from([api.image.layers[0].digest().clone()]));
    assert_eq!(crio().has(&doubted, &api, &api.image.layers[0]), None);

    let mut half = layers.clone();
    half[1]["flags"] = serde_json::json!({"incomplete": true});
    let facts = crio().parse_probe(&answer(&images, &half)).unwrap();
    let Readiness::Missing(why) = crio().readiness(&facts, &web) else { panic!() };
    assert!(why.contains("without its layers"), "{why}");
    let mut circle = layers;
    circle[0]["parent"] = "id1".into();
    assert!(crio().parse_probe(&answer(&images, &circle)).unwrap().snapshots.is_empty());

    let mut moved = images;
    moved[0]["digest"] = Digest::sha256(b"other").to_string().into();
    moved[0]["big-data-digests"] = serde_json::json!({});
    let facts = crio().parse_probe(&answer(&moved, &serde_json::json!([]))).unwrap();
    assert!(matches!(crio().readiness(&facts, &web), Readiness::Missing(why) if why.contains("not sha256:")));
}

#[test]
fn an_index_or_its_manifest_is_the_same_image() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base"]);
    let (mut images, layers) = records(&web, &["base"], &[&web.names[0]]);
    images[0]["digest"] = Digest::sha256(b"the index that it was pulled by").to_string().into();
    let facts = crio().parse_probe(&answer(&images, &layers)).unwrap();
    assert_eq!(crio().readiness(&facts, &web), Readiness::Ready(None));
}

#[test]
fn an_import_copies_a_layout_to_each_name() {
    let store = MemoryStore::new();
    let mut web = fixtures::image(&store, "web:1", &["base", "web"]);
    web.names.push(format!("quay.io/other@{}", web.root.digest()));
    let facts = fixtures::empty_node();
    let staged: BTreeSet<Digest> = web.blobs.iter().map(|b| b.digest().clone()).collect();
    let job = fixtures::job(&web, &staged, &facts);
    let command = crio().import(&job);
    assert!(command.root);
    assert_snapshot!("storage_import", command.script);
    let stdin = String::from_utf8(command.stdin).unwrap();
    let lines: Vec<&str> = stdin.lines().collect();
    assert!(lines[0].contains(&web.root.digest().to_string()) && lines[0].contains(r#""omk""#));
    assert_eq!(lines[1], lines[0].replace(r#""omk""#, &format!("\"{}\"", web.names[0])));
    assert_eq!(lines[2..], [&web.names[0], web.names.last().unwrap()], "the tag brings its digest along");
}

#[test]
fn answers_are_judged() {
    let out = |status, stdout: &str, stderr: &str| CommandOutput {
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    assert!(crio().parse_import(&out(0, "==imported\n", "")).is_ok());
    assert!(crio().parse_import(&out(0, "", "")).is_err());
    let d = Digest::sha256(b"x");
    // As skopeo 1.9 says it.
    let gone = format!(
        "time=\"2026-11-29T01:42:35Z\" level=fatal msg=\"reading blob {d}: open {}: no such file or directory\"",
        d.layout_path()
    );
    let bad = format!("level=fatal msg=\"writing blob: Digest did not match, expected {d}, got sha256:00\"");
    for said in [gone, bad] {
        let failure = crio().parse_import(&out(1, "", &said)).unwrap_err();
        assert!(failure.content_missing && failure.damaged == [d.clone()], "{said}");
    }
    let full = crio().parse_import(&out(1, "", "write: no space left on device")).unwrap_err();
    assert!(!full.content_missing && full.reason.contains("/var/tmp"));

    let fails = |text: &str| crio().parse_probe(&says(text)).unwrap_err().to_string();
    let machine = "==omk machine\nLinux x86_64\n==rc 0\n";
    assert_snapshot!(
        "storage_missing",
        fails(&format!("{machine}==omk program\n==rc 127\n==omk copier\n==rc 0\n"))
    );
    let program = "==omk program\n/usr/bin/crio\n==rc 0\n";
    assert_snapshot!("storage_without_copier", fails(&format!("{machine}{program}==omk copier\n==rc 127\n")));
    let junk = answer(&serde_json::json!({"no": "list"}), &serde_json::json!([]));
    assert!(crio().parse_probe(&junk).unwrap_err().to_string().contains("images.json"));
}

#[test]
fn names_have_repositories() {
    for (name, repository) in [
        ("a.io/b:1", Some("a.io/b")),
        ("a.io:5000/b", None),
        ("a.io:5000/b:1", Some("a.io:5000/b")),
        ("a.io/b@sha256:00", Some("a.io/b")),
    ] {
        assert_eq!(repository_of(name), repository, "{name}");
    }
}

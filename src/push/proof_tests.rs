use std::collections::BTreeMap;

use super::*;
use crate::push::report::{NodeReport, NodeResult, PushReport, ReportKind};
use crate::push::{ImageReport, Wanted};
use crate::runtime::fixtures::{empty_node, image};
use crate::runtime::{Containerd, CriImage, Flavor, NamedImage};
use crate::store::MemoryStore;

struct World {
    runtime: Containerd,
    facts: NodeFacts,
    image: RuntimeImage,
    evidence: Evidence,
}

/// A node on which everything is as it should be.
fn good() -> World {
    let store = MemoryStore::new();
    let image = image(&store, "registry.example/web", &["base", "top"]);
    let mut facts = empty_node();
    facts.content.extend(image.own().map(|b| b.digest().clone()));
    facts.snapshots.extend(image.image.chain_ids.iter().cloned());
    let mut evidence = Evidence::default();
    for name in &image.names {
        let named =
            NamedImage { digest: image.root.digest().clone(), complete: true, unpacked: true, archive: None };
        facts.names.insert(name.clone(), named);
        let labels = [("io.cri-containerd.image", "managed"), ("io.cri-containerd.pinned", "pinned")];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned()));
        evidence.labels.insert(name.clone(), BTreeMap::from(labels));
    }
    evidence.cri = Cri::Asked(vec![CriImage {
        id: image.image.config.digest().to_string(),
        repo_tags: vec![image.names[0].clone()],
        repo_digests: vec![image.names[1].clone()],
        pinned: Some(true),
    }]);
    World { runtime: Containerd::new(Flavor::Plain), facts, image, evidence }
}

impl World {
    fn witness<'a>(&'a self, hashes: Option<&'a Hashes>) -> Witness<'a> {
        let evidence = Some(&self.evidence);
        Witness { runtime: &self.runtime, facts: &self.facts, evidence, hashes, pinned: true }
    }

    fn told(&self, hashes: Option<&Hashes>) -> String {
        told(&self.witness(hashes).checks(&self.image))
    }
}

/// The checks that did not pass, one a line; digests are cut.
fn told(checks: &[Check]) -> String {
    let line = |c: &Check| {
        let detail = c.detail.clone().unwrap_or_default();
        let words = detail.split(' ').map(|w| match w.split_once("sha256:") {
            Some((before, hex)) => format!("{before}sha256:{}", &hex[..4.min(hex.len())]),
            None => w.to_owned(),
        });
        format!("{} {:?}: {}", c.check.word(), c.result, words.collect::<Vec<_>>().join(" "))
    };
    let odd = checks.iter().filter(|c| c.result != Verdict::Passed);
    odd.map(line).collect::<Vec<_>>().join("\n")
}

fn sound(world: &World) -> Hashes {
    world.image.own().map(|b| (b.digest().clone(), Some(b.digest().clone()))).collect()
}

#[test]
fn a_node_where_all_is_well_passes_every_check() {
    let world = good();
    let checks = world.witness(Some(&sound(&world))).checks(&world.image);
    let kinds: Vec<&str> = checks.iter().map(|c| c.check.word()).collect();
    assert_eq!(kinds, ["digest", "blobs", "unpacked", "cri", "pinned", "content"]);
    assert_eq!(told(&checks), "");
    assert_eq!(refuted(&checks), None);
}

#[test]
fn drift_is_named() {
    let mut world = good();
    let tag = world.image.names[0].clone();
    world.facts.names.remove(&tag);
    insta::assert_snapshot!(world.told(None), @"digest Failed: registry.example/web:latest is gone: removed, or garbage-collected");

    let mut world = good();
    world.facts.names.get_mut(&tag).unwrap().digest = Digest::sha256(b"other");
    insta::assert_snapshot!(world.told(None), @"digest Failed: registry.example/web:latest stands for sha256:d929 now");

    let mut world = good();
    let layer = world.image.image.layers[0].digest().clone();
    world.facts.lose(&[layer.clone()].into());
    let mut hashes = sound(&world);
    hashes.insert(layer.clone(), Some(Digest::sha256(b"rotten")));
    insta::assert_snapshot!(world.told(Some(&hashes)), @r"
    blobs Failed: 1 of 4 are missing or damaged: sha256:cae6
    content Failed: sha256:cae6 hashes to sha256:eda5
    ");
    hashes.insert(layer, None);
    assert!(world.told(Some(&hashes)).contains("cannot be read"));

    let mut world = good();
    world.evidence.labels.get_mut(&tag).unwrap().clear();
    insta::assert_snapshot!(world.told(None), @"pinned Failed: registry.example/web:latest is not pinned");

    let mut world = good();
    world.facts.snapshots.clear();
    world.facts.names.values_mut().for_each(|n| n.unpacked = false);
    insta::assert_snapshot!(world.told(None), @"unpacked Failed: not unpacked for linux/amd64");
}

#[test]
fn what_cri_says_counts_most_and_what_stands_in_for_it_is_said() {
    let mut world = good();
    if let Cri::Asked(all) = &mut world.evidence.cri {
        all[0].repo_digests.clear();
        all[0].pinned = Some(false);
    }
    let text = world.told(None);
    assert!(text.starts_with("cri Failed: CRI does not find registry.example/web@"), "{text}");
    assert!(text.contains("pinned Failed: labelled, but CRI does not tell kubelet"), "{text}");

    world.evidence.cri = Cri::Labels("the node has no crictl".into());
    insta::assert_snapshot!(world.told(None), @r"
    cri Weak: by CRI's label on its names: the node has no crictl
    pinned Weak: labelled; CRI cannot be asked whether it heeds that
    ");
    world.evidence.ignores_pins = true;
    world.evidence.labels.values_mut().for_each(|l| drop(l.remove("io.cri-containerd.image")));
    let text = world.told(None);
    assert!(text.starts_with("cri Skipped: ") && text.contains("containerd before 1.7"), "{text}");
    assert_eq!(refuted(&world.witness(None).checks(&world.image)), None, "an absent label refutes nothing");
}

#[test]
fn layers_that_were_unpacked_and_dropped_are_weaker_evidence() {
    let mut world = good();
    for layer in &world.image.image.layers {
        world.facts.content.remove(layer.digest());
    }
    world.facts.names.values_mut().for_each(|n| n.complete = false);
    let hashes: Hashes = sound(&world).into_iter().filter(|(d, _)| world.facts.content.contains(d)).collect();
    insta::assert_snapshot!(world.told(Some(&hashes)), @r"
    blobs Weak: 2 of 2 layers only as unpacked
    content Weak: 2 of 4 blobs are stored and were hashed
    ");
}

#[test]
fn a_lock_is_held_against_the_runtimes_own_word() {
    let mut world = good();
    let wanted = Wanted { names: world.image.names.clone(), digest: world.image.root.digest().clone() };
    let checks = world.witness(None).named(&wanted);
    insta::assert_snapshot!(told(&checks), @r"
    blobs Weak: the runtime says so; a lock lists no blobs
    unpacked Weak: the runtime says so; a lock lists no blobs
    ");
    world.facts.names.values_mut().for_each(|n| n.complete = false);
    let checks = world.witness(None).named(&wanted);
    assert_eq!(refuted(&checks), None, "as with the bundle: it runs");
    assert!(
        told(&checks).starts_with("blobs Weak: unpacked, without all of its layers"),
        "{}",
        told(&checks)
    );
    world.facts.names.values_mut().for_each(|n| n.unpacked = false);
    let checks = world.witness(None).named(&wanted);
    assert_eq!(refuted(&checks).unwrap(), "blobs: the runtime says that it is incomplete");
    let other = Wanted { digest: Digest::sha256(b"newer"), ..wanted };
    assert!(refuted(&world.witness(None).named(&other)).unwrap().starts_with("digest: "));
}

fn report() -> PushReport {
    let world = good();
    let hashes = sound(&world);
    let images = |world: &World| {
        let checks = world.witness(Some(&hashes)).checks(&world.image);
        let reason = refuted(&checks);
        let (names, digest) = (world.image.names.clone(), world.image.root.digest().clone());
        vec![ImageReport { names, digest, ready: reason.is_none(), reason, checks }]
    };
    let node = |name: &str, images: Vec<ImageReport>, error: Option<&str>| NodeReport {
        node: name.into(),
        login: Some("10.0.0.11: root, by the key id_ed25519, host key SHA256:abc".into()),
        platform: Some("linux/amd64".parse().unwrap()),
        runtime: Some("containerd 1.7.24".into()),
        state: if error.is_none() { NodeResult::Ready } else { NodeResult::Failed },
        images,
        bytes_sent: 1_200_000,
        blobs_sent: 3,
        bytes_skipped: 66_000_000,
        bytes_resumed: 0,
        bytes_adopted: 0,
        duration_ms: 2345,
        error: error.map(str::to_owned),
        recorded: false,
        undone: None,
        pruned: Vec::new(),
        spared: Vec::new(),
    };
    let mut drifted = good();
    drifted.facts.names.clear();
    drifted.evidence.cri = Cri::Labels("crictl failed: <script>alert(1)</script>".into());
    PushReport {
        kind: ReportKind::Preheat,
        omk: "0.1.0".into(),
        run_id: "0123456789ab".into(),
        bundle: "web\"><img onerror=x>.tar".into(),
        bundle_digest: Some(Digest::sha256(b"index")),
        started: "2026-01-02T03:04:05Z".into(),
        finished: "2026-01-02T03:04:09Z".into(),
        nodes: vec![
            node("worker-1", images(&world), None),
            node("<b>worker-2</b>", images(&drifted), Some("1 of 1 images are not ready; ' & \" <i>")),
        ],
        before: None,
    }
}

#[test]
fn the_report_as_json() {
    insta::assert_snapshot!("report", serde_json::to_string_pretty(&report()).unwrap());
}

#[test]
fn the_report_as_a_page_escapes_what_comes_from_elsewhere() {
    let page = report().html().unwrap();
    for hostile in ["<script>", "<b>worker", "<img", "<i>"] {
        assert!(!page.contains(hostile), "{hostile} is not escaped");
    }
    assert!(page.contains("&lt;b&gt;worker-2&lt;&#x2f;b&gt;"));
    for said in [
        "1 of 2 nodes",
        "1.2 MB in 3 blobs",
        "2.3 s",
        "NOT READY",
        "containerd 1.7.24",
        "weak",
        "0123456789ab",
    ] {
        assert!(page.contains(said), "{said} is missing");
    }
    for elsewhere in ["http://", "https://", "src=", "@import", "<link"] {
        assert!(!page.contains(elsewhere), "the page is not self-contained: {elsewhere}");
    }
    let mended = PushReport { before: Some(Box::new(report())), kind: ReportKind::Repair, ..report() };
    assert!(mended.html().unwrap().contains("Before it was mended"));
}

#[test]
fn hashes_that_a_node_prints_are_told_apart() {
    use crate::node::CommandOutput;
    use crate::oci::Descriptor;

    let runtime = Containerd::new(Flavor::Plain);
    let blobs: Vec<Descriptor> = ["a", "b", "c"].iter().map(|t| Descriptor::of("x", t.as_bytes())).collect();
    let blobs: Vec<&Descriptor> = blobs.iter().collect();
    let hex = |i: usize| blobs[i].digest().hex().to_owned();
    let stdout = format!(
        "==omk sha256\n{0}  sha256/{0}\n{0} *sha256/{1}\nsha256sum: sha256/{2}: No such file or directory\nnonsense\n\n==rc 123\n",
        hex(0),
        hex(1),
        hex(2)
    );
    let output = |stdout: &str| CommandOutput { status: 0, stdout: stdout.into(), stderr: Vec::new() };
    let hashes = runtime.parse_hash(&blobs, &output(&stdout)).unwrap();
    let found: Vec<Option<&Digest>> = blobs.iter().map(|b| hashes[b.digest()].as_ref()).collect();
    assert_eq!(found, [Some(blobs[0].digest()), Some(blobs[0].digest()), None]);
    let failed = "==omk sha256\nsh: xargs: not found\n\n==rc 127\n";
    let error = runtime.parse_hash(&blobs, &output(failed)).unwrap_err();
    assert!(error.to_string().contains("xargs: not found"), "{error}");
}

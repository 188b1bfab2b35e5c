//! Pushing to real containerd over OpenSSH.

use std::collections::BTreeSet;
use std::sync::Arc;

use omk::bundle::BundleImage;
use omk::event::{Events, Recorder};
use omk::node::Inventory;
use omk::oci::Digest;
use omk::push::{NodeResult, Push, PushOptions, PushReport, Target};
use omk::runtime::{Have, RuntimeChoice};
use omk::store::MemoryStore;
use tokio_util::sync::CancellationToken;

use crate::images::noise;
use crate::lab::Lab;
use crate::push::{Ssh, bundled};

mod at_once;
mod undo;

/// A layer that can be unpacked: one file.
fn layer(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, name, bytes).unwrap();
    tar.into_inner().unwrap()
}

fn push(lab: &Lab, user: &str, store: &MemoryStore, images: &[BundleImage]) -> Push {
    let inventory = Inventory::load(&lab.inventory(user), None).unwrap();
    let target = |name: &String| Target {
        name: name.clone(),
        runtime: RuntimeChoice::Auto,
        staging: None,
        platform: None,
        groups: Default::default(),
    };
    let names: Vec<String> = inventory.nodes.iter().map(|n| n.name.clone()).collect();
    Push {
        bundle: "test.tar".into(),
        images: images.to_vec(),
        source: Arc::new(store.clone()),
        left_out: None,
        targets: names.iter().map(target).collect(),
        connector: Arc::new(Ssh::new(inventory.nodes, &lab.known_hosts())),
        options: PushOptions::default(),
        namespace: None,
        parallel: 4,
        lanes: 4,
        events: Arc::new(Recorder::default()) as Events,
        cancel: CancellationToken::new(),
    }
}

async fn run(lab: &Lab, user: &str, store: &MemoryStore, images: &[BundleImage]) -> PushReport {
    push(lab, user, store, images).run().await.unwrap()
}

fn ctr(lab: &Lab, args: &[&str]) -> String {
    let output = lab.exec(1, &[&["ctr", "-n", "k8s.io"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Names with what they point at, sorted, without the `sha256:` names that CRI adds when it gets to it.
fn names(lab: &Lab) -> Vec<(String, String)> {
    let text = ctr(lab, &["images", "ls"]);
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields[0].to_owned(), fields[2].to_owned())
    };
    text.lines().skip(1).map(row).filter(|(name, _)| !name.starts_with("sha256:")).collect()
}

fn staged(lab: &Lab) -> String {
    let found = lab.exec(1, &["find", "/var/lib/omk/staging", "-type", "f", "!", "-name", ".omk-staging"]);
    String::from_utf8(found.stdout).unwrap()
}

fn runs(text: &str) -> bool {
    !text.trim().is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_containerd_gets_what_it_lacks_and_no_more() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let base = layer("base", &noise(1, 2_000_000));
    let one = layer("one", &noise(2, 100_000));
    let first = bundled(&store, "lab.example/web:1", &[&base, &one]);
    // Every way to root: asked for a password, not asked, being it.
    let report = run(&lab, "omkpw", &store, std::slice::from_ref(&first)).await;
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes[0].bytes_sent, first.graph.size());
    assert!(!runs(&staged(&lab)), "{}", staged(&lab));
    let ready = ctr(&lab, &["images", "check", "-q"]);
    for name in &first.names {
        assert!(ready.lines().any(|l| l == name), "{name} in {ready}");
    }

    let two = layer("two", &noise(3, 100_000));
    let second = bundled(&store, "lab.example/web:2", &[&base, &two]);
    let both = [first.clone(), second.clone()];
    let report = run(&lab, "omk", &store, &both).await;
    assert!(report.all_ready(), "{report:#?}");
    let small = second.graph.size() - base.len() as u64;
    assert_eq!(report.nodes[0].bytes_sent, small, "the base is in the content store");

    // A layer of two images is gone after it was unpacked; the node keeps layers otherwise.
    let forget = |digests: &[&Digest]| {
        digests.iter().for_each(|d| drop(ctr(&lab, &["content", "rm", d.to_string().as_str()])));
    };
    let base_blob = &Digest::sha256(&base);
    forget(&[base_blob]);
    let note = run(&lab, "root", &store, &both).await.nodes[0].images[0].reason.clone().unwrap();
    assert!(note.contains("though this containerd keeps layers"), "{note}");
    let third = bundled(&store, "lab.example/web:3", &[&base, &layer("three", &noise(4, 50_000))]);
    let report = run(&lab, "root", &store, std::slice::from_ref(&third)).await;
    assert!(report.all_ready() && report.nodes[0].images[0].reason.is_none(), "{report:#?}");
    assert_eq!(report.nodes[0].bytes_sent, third.graph.size(), "its base is there as a snapshot only");
    let complete = ctr(&lab, &["images", "check"]);
    assert!(!complete.contains("incomplete"), "{complete}");

    // As discard_unpacked_layers leaves a node: no image has any layer.
    let all = [first, second, third];
    let gone: BTreeSet<&Digest> =
        all.iter().flat_map(|i| &i.graph.images[0].layers).map(|l| l.digest()).collect();
    forget(&gone.into_iter().collect::<Vec<_>>());
    let fourth = bundled(&store, "lab.example/web:4", &[&base, &layer("four", &noise(5, 50_000))]);
    let plan = push(&lab, "root", &store, std::slice::from_ref(&fourth)).plan().await;
    let skipped = plan.nodes[0].skipped.iter().find(|s| s.digest == *base_blob);
    assert_eq!(skipped.map(|s| s.reason), Some(Have::Unpacked));
    let report = run(&lab, "root", &store, std::slice::from_ref(&fourth)).await;
    assert!(report.all_ready(), "{report:#?}");
    let note = report.nodes[0].images[0].reason.as_deref().unwrap();
    assert!(note.contains("containerd discards them after unpacking"), "{note}");

    let again = run(&lab, "root", &store, &[&all[..], &[fourth]].concat()).await;
    assert!(again.all_ready() && again.nodes[0].bytes_sent == 0, "{again:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_failed_import_leaves_names_as_they_were() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let good = layer("good", &noise(1, 10_000));
    let before = bundled(&store, "lab.example/app:1", &[&good]);
    assert!(run(&lab, "root", &store, std::slice::from_ref(&before)).await.all_ready());
    let names_before = names(&lab);

    // Its digest is right, so it is sent; that it is no tar shows only when it is unpacked.
    let broken = bundled(&store, "lab.example/app:1", &[&noise(2, 20_000)]);
    let other = bundled(&store, "lab.example/other:1", &[&good, &layer("other", b"other")]);
    let report = run(&lab, "root", &store, &[broken.clone(), other.clone()]).await;
    let node = &report.nodes[0];
    assert_eq!(node.state, NodeResult::Failed);
    assert_eq!(node.images.iter().map(|i| i.ready).collect::<Vec<_>>(), [false, true], "{report:#?}");
    let why = node.images[0].reason.as_deref().unwrap();
    assert!(why.starts_with("import failed: ") && why.contains("ctr"), "{why}");

    let mut expected = names_before;
    expected.extend(other.names.iter().map(|n| (n.clone(), other.graph.root.digest().to_string())));
    expected.sort();
    assert_eq!(names(&lab), expected, "the tag means what it meant, and no backup is left");
    let broken_config = broken.graph.images[0].config.digest().to_string();
    assert!(!ctr(&lab, &["images", "ls", "-q"]).contains(&broken_config));
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_disk_that_is_too_small_and_a_user_without_sudo_are_told() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up_with(1, &[("OMK_LAB_DISK", "24m")]);
    let store = MemoryStore::new();
    let image = bundled(&store, "lab.example/big:1", &[&layer("big", &noise(1, 16_000_000))]);
    let report = run(&lab, "root", &store, std::slice::from_ref(&image)).await;
    let node = &report.nodes[0];
    assert_eq!((node.state, node.bytes_sent), (NodeResult::Refused, 0));
    let why = node.error.as_deref().unwrap();
    assert!(why.starts_with("disk too small: ") && why.contains("/var/lib/containerd (images)"), "{why}");
    assert!(!runs(&staged(&lab)) && names(&lab).is_empty());

    // Told to go on anyway, containerd runs out of space: the node says so and keeps no half image.
    let mut anyway = push(&lab, "root", &store, std::slice::from_ref(&image));
    anyway.options.ignore_disk = true;
    let node = anyway.run().await.unwrap().nodes.remove(0);
    assert_eq!(node.state, NodeResult::Failed);
    assert!(node.error.as_deref().unwrap().contains("make room on the node's disk"), "{:?}", node.error);
    assert!(names(&lab).is_empty(), "{:?}", names(&lab));

    let report = run(&lab, "nosudo", &store, std::slice::from_ref(&image)).await;
    let why = report.nodes[0].error.as_deref().unwrap();
    assert!(why.contains("sudo"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_content_of_another_namespace_is_adopted_and_not_sent() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let base = layer("base", &noise(1, 2_000_000));
    let first = bundled(&store, "lab.example/web:1", &[&base, &layer("one", &noise(2, 100_000))]);
    let second = bundled(&store, "lab.example/web:2", &[&base, &layer("two", &noise(3, 200_000))]);
    let mut there = push(&lab, "root", &store, std::slice::from_ref(&first));
    there.namespace = Some("default".into());
    assert!(there.run().await.unwrap().all_ready());
    assert!(names(&lab).is_empty(), "kubelet's namespace has nothing");

    let layers = &first.graph.images[0].layers;
    let adopted: u64 = layers.iter().map(|l| l.size()).sum();
    let both = [first.clone(), second.clone()];
    let plan = push(&lab, "omk", &store, &both).plan().await;
    let small = first.graph.size() + second.graph.size() - base.len() as u64 - adopted;
    assert_eq!((plan.nodes[0].bytes, plan.nodes[0].bytes_adopted), (small, adopted), "{:?}", plan.nodes[0]);
    let report = run(&lab, "omk", &store, &both).await;
    let node = &report.nodes[0];
    assert!(report.all_ready() && node.images.iter().all(|i| i.reason.is_none()), "{report:#?}");
    assert_eq!((node.bytes_sent, node.bytes_adopted), (small, adopted));

    // Collections take nothing of it, and no label of ours keeps anything for ever.
    let held = || ctr(&lab, &["content", "ls", "-q", r#"labels."containerd.io/gc.root"==omk"#]);
    assert_eq!((held(), staged(&lab)), (String::new(), String::new()));
    lab.exec(1, &["ctr", "-n", "default", "images", "rm", "--sync", &first.names[0], &first.names[1]]);
    assert!(!ctr(&lab, &["images", "check"]).contains("incomplete"));
    assert_eq!(run(&lab, "root", &store, &both).await.nodes[0].bytes_sent, 0);

    // What was interrupted in the middle is put in order by the next run.
    let blob = layers[0].digest().to_string();
    ctr(&lab, &["content", "label", &blob, "containerd.io/gc.root=omk"]);
    lab.exec(1, &["touch", "/var/lib/omk/staging/adopting"]);
    assert!(run(&lab, "omk", &store, &both).await.all_ready());
    assert_eq!((held(), staged(&lab)), (String::new(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_staged_blob_that_went_bad_is_sent_again() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let image = bundled(&store, "lab.example/web:1", &[&layer("base", &noise(1, 100_000))]);
    let blob = &image.graph.images[0].layers[0];
    let path = format!("/var/lib/omk/staging/{}", blob.digest().layout_path());
    let script = format!(
        "mkdir -p ${{1%/*}} && : >/var/lib/omk/staging/.omk-staging && head -c {} /dev/zero >$1",
        blob.size()
    );
    assert!(lab.exec(1, &["sh", "-c", &script, "sh", &path]).status.success());
    let report = run(&lab, "root", &store, std::slice::from_ref(&image)).await;
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes[0].bytes_sent, image.graph.size());
    assert!(!runs(&staged(&lab)), "{}", staged(&lab));
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_fast_import_keeps_digests_and_leaves_no_carrier() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let packed = tempfile::tempdir().unwrap();
    let text = |word: &str| layer(word, format!("{word} ").repeat(300_000).as_bytes());
    let base = text("base");
    let first = bundled(&store, "lab.example/web:1", &[&base, &text("one")]);
    let fast = |images: &[BundleImage]| {
        let mut push = push(&lab, "omk", &store, images);
        push.options.fast_import = Some(packed.path().to_owned());
        // At the same time: what a node in use is given. Neither is in the way of the other.
        push.options.background = true;
        push.options.bandwidth = Some(1 << 30);
        push
    };
    let report = fast(std::slice::from_ref(&first)).run().await.unwrap();
    assert!(report.all_ready(), "{report:#?}");
    let node = &report.nodes[0];
    assert!(node.bytes_sent < first.graph.size() / 10, "text packs well: {}", node.bytes_sent);
    let note = node.images[0].reason.as_deref().unwrap();
    assert!(note.contains("as --fast-import leaves them"), "{note}");
    let mut own: Vec<_> =
        first.names.iter().map(|n| (n.clone(), first.graph.root.digest().to_string())).collect();
    own.sort();
    assert_eq!(names(&lab), own, "the names point at the image itself, and no carrier is left");
    let unpacked = first.graph.images[0].chain_ids.last().unwrap().to_string();
    assert!(ctr(&lab, &["snapshots", "ls"]).contains(&unpacked));
    // Its own manifest and config and nothing else: what the carrier was made of is collected.
    let content = || {
        let all = ctr(&lab, &["content", "ls", "-q"]);
        all.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let documents = [first.graph.root.digest(), first.graph.images[0].config.digest()];
    assert_eq!(content(), documents.map(ToString::to_string).into());
    assert!(!runs(&staged(&lab)), "{}", staged(&lab));

    // A delta: the base is unpacked and is not sent, nor does an interrupted run's carrier stay.
    ctr(&lab, &["images", "tag", &first.names[0], "omk.invalid/carrier/00ff:1"]);
    let second = bundled(&store, "lab.example/web:2", &[&base, &text("two")]);
    let both = [first.clone(), second.clone()];
    let plan = fast(&both).plan().await;
    assert_eq!(plan.nodes[0].images.iter().map(|i| i.ready).collect::<Vec<_>>(), [true, false]);
    assert!(plan.nodes[0].skipped.iter().any(|s| s.digest == Digest::sha256(&base)), "{plan:#?}");
    let report = fast(&both).run().await.unwrap();
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes[0].blobs_sent, 4, "a layer, its carrier, config and manifest");
    assert!(names(&lab).iter().all(|(name, _)| !name.starts_with("omk.invalid/")), "{:?}", names(&lab));

    // Another node needs nothing packed again; without the option, layers are brought that the node will keep.
    let third = bundled(&store, "lab.example/web:3", &[&base, &text("three")]);
    let report = run(&lab, "root", &store, std::slice::from_ref(&third)).await;
    assert!(report.all_ready() && report.nodes[0].images[0].reason.is_none(), "{report:#?}");
    assert_eq!(
        report.nodes[0].bytes_sent,
        third.graph.size(),
        "images without layers are omk's own doing here"
    );
}

//! Runs are undone, on real containerd.

use std::time::Duration;

use omk::push::journal::RunState;
use omk::push::{UndoState, Which};

use super::*;

/// All that a rollback has to bring back: names with labels, blobs with their sizes, snapshots.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    images: BTreeSet<String>,
    content: BTreeSet<String>,
    snapshots: BTreeSet<String>,
}

/// As soon as CRI has seen every image: it adds a name and a label to each, up to a second later.
fn contents(lab: &Lab) -> Contents {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let images = || -> BTreeSet<String> {
        let all = ctr(lab, &["images", "ls"]);
        all.lines().skip(1).map(squeeze).filter(|l| !l.starts_with("omk.invalid/bak/")).collect()
    };
    let mut last = images();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(300));
        let now = images();
        let settled = now.iter().all(|l| l.contains("io.cri-containerd.image=managed"));
        if settled && now == last {
            break;
        }
        last = now;
    }
    let blob = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let content = ctr(lab, &["content", "ls"]).lines().skip(1).map(blob).collect();
    let snapshots = ctr(lab, &["snapshots", "ls"]).lines().skip(1).map(squeeze).collect();
    Contents { images: last, content, snapshots }
}

fn points_at(lab: &Lab, name: &str) -> Option<String> {
    names(lab).into_iter().find(|(n, _)| n == name).map(|(_, digest)| digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_a_rollback_brings_back_exactly_what_was_there() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let base = layer("base", &noise(1, 400_000));
    let foreign = bundled(&store, "lab.example/app:1", &[&base, &layer("theirs", b"theirs")]);
    assert!(run(&lab, "root", &store, std::slice::from_ref(&foreign)).await.all_ready());
    // Nothing of omk knows how it came there; and it has a label of its own.
    ctr(&lab, &["images", "label", "lab.example/app:1", "example/owner=somebody"]);
    lab.exec(1, &["rm", "-rf", "/var/lib/omk"]);
    let before = contents(&lab);

    let ours = bundled(&store, "lab.example/app:1", &[&base, &layer("ours", &noise(2, 300_000))]);
    let more = bundled(&store, "lab.example/more:1", &[&layer("more", &noise(3, 200_000))]);
    let images = [ours.clone(), more.clone()];
    let report = run(&lab, "omk", &store, &images).await;
    assert!(report.all_ready() && report.nodes[0].recorded, "{report:#?}");
    assert_eq!(points_at(&lab, "lab.example/app:1"), Some(ours.graph.root.digest().to_string()));
    let asking = push(&lab, "omk", &store, &[]);
    let node = asking.history().await.remove(0);
    assert_eq!((node.runs.len(), node.backups, node.holder), (1, 1, None));
    assert_eq!((&node.runs[0].run, node.runs[0].state), (&report.run_id, RunState::Committed));
    assert!(node.runs[0].changed == 2 && node.runs[0].whole && !node.runs[0].interrupted);

    let with_ours = contents(&lab);
    let dry = asking.rollback(&Which::Last, true).await.unwrap();
    assert_eq!((dry.run.as_str(), dry.nodes[0].undo.state), (report.run_id.as_str(), UndoState::Undone));
    assert_eq!(contents(&lab), with_ours, "asking changes nothing");
    let undone = asking.rollback(&Which::Last, false).await.unwrap();
    let undo = &undone.nodes[0].undo;
    assert_eq!((undo.state, undo.restored), (UndoState::Undone, 1), "{undone:#?}");
    assert_eq!(contents(&lab), before);
    assert!(names(&lab).iter().all(|(name, _)| !name.starts_with("omk.invalid/")), "{:?}", names(&lab));
    let again = asking.rollback(&Which::Run(report.run_id.clone()), false).await.unwrap();
    assert_eq!(again.nodes[0].undo.state, UndoState::Already);
    let other = asking.rollback(&Which::Run("20000101-000000-0000".into()), false).await.unwrap();
    assert_eq!(other.nodes[0].undo.state, UndoState::Nothing);
    assert_eq!(contents(&lab), before);

    // A node that fails is put back, the image that went well too.
    let broken = bundled(&store, "lab.example/app:1", &[&noise(4, 20_000)]);
    let mut atomic = push(&lab, "root", &store, &[more.clone(), broken]);
    atomic.options.atomic = true;
    let failed = atomic.run().await.unwrap().nodes.remove(0);
    assert_eq!(failed.state, NodeResult::Failed);
    assert_eq!(failed.undone.map(|u| u.state), Some(UndoState::Undone), "{:?}", failed.error);
    assert!(failed.error.as_deref().unwrap().ends_with("the node was put back as it was (--atomic)"));
    assert_eq!(contents(&lab), before);
    assert_eq!(asking.history().await[0].runs[0].state, RunState::Undone);

    // What somebody moved since is left and named; the rest is undone.
    let report = run(&lab, "root", &store, &images).await;
    assert!(report.all_ready(), "{report:#?}");
    ctr(&lab, &["images", "tag", "--force", "lab.example/app:1", "lab.example/more:1"]);
    let undone = asking.rollback(&Which::Last, false).await.unwrap();
    let undo = &undone.nodes[0].undo;
    assert_eq!(
        (undo.state, undo.kept.len(), undo.kept[0].name.as_str()),
        (UndoState::Undone, 1, "lab.example/more:1")
    );
    assert_eq!(points_at(&lab, "lab.example/app:1"), Some(foreign.graph.root.digest().to_string()));
    assert_eq!(points_at(&lab, "lab.example/more:1"), Some(ours.graph.root.digest().to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_pruning_takes_what_omk_added_and_nothing_else() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let image = |name: &str| bundled(&store, name, &[&layer("file", name.as_bytes())]);
    let foreign = image("lab.example/foreign:1");
    assert!(run(&lab, "root", &store, std::slice::from_ref(&foreign)).await.all_ready());
    lab.exec(1, &["rm", "-rf", "/var/lib/omk"]);

    let old = [image("lab.example/old:1"), image("lab.example/used:1"), image("lab.example/kept:1")];
    assert!(run(&lab, "root", &store, &old).await.all_ready());
    ctr(&lab, &["containers", "create", "lab.example/used:1", "c1"]);
    contents(&lab);
    // All of the next bundle is there already: only pruning is left to do.
    let mut next = push(&lab, "root", &store, &old[2..]);
    next.options.prune = true;
    let plan = next.plan().await;
    let planned: BTreeSet<&str> = plan.nodes[0].prune.iter().map(|o| o.name.as_str()).collect();
    assert!(planned.contains("lab.example/old:1") && !planned.contains("lab.example/kept:1"), "{planned:?}");
    assert!(points_at(&lab, "lab.example/old:1").is_some());
    let report = next.run().await.unwrap();
    assert!(report.all_ready() && report.nodes[0].recorded, "{report:#?}");
    let spared: Vec<&str> = report.nodes[0].spared.iter().map(|k| k.name.as_str()).collect();
    assert!(spared.contains(&"lab.example/used:1"), "{report:#?}");
    let config = old[0].graph.images[0].config.digest().to_string();
    let there = ctr(&lab, &["images", "ls", "-q"]);
    assert!(!there.contains("lab.example/old") && !there.contains(&config), "{there}");
    for name in ["lab.example/foreign:1", "lab.example/used:1", "lab.example/kept:1"] {
        assert!(points_at(&lab, name).is_some(), "{name}");
    }
    let gone = old[0].graph.images[0].layers[0].digest().to_string();
    assert!(!ctr(&lab, &["content", "ls", "-q"]).contains(&gone));

    // With nothing to bring and nothing to remove, what is left is named all the same.
    let idle = next.run().await.unwrap();
    assert!(idle.all_ready() && !idle.nodes[0].recorded && idle.nodes[0].pruned.is_empty(), "{idle:#?}");
    assert_eq!(idle.nodes[0].spared, report.nodes[0].spared);
    assert_eq!(idle.nodes[0].spared, next.plan().await.nodes[0].spared);
    assert!(idle.html().unwrap().contains("<dt>not pruned</dt>"));

    ctr(&lab, &["containers", "rm", "c1"]);
    assert!(next.run().await.unwrap().all_ready());
    assert_eq!(points_at(&lab, "lab.example/used:1"), None);
    assert!(points_at(&lab, "lab.example/foreign:1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_containerd_killed_while_unpacking_leaves_no_name_on_broken_content() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let store = MemoryStore::new();
    let before = bundled(&store, "lab.example/app:1", &[&layer("old", b"old")]);
    assert!(run(&lab, "root", &store, std::slice::from_ref(&before)).await.all_ready());
    let parts: Vec<Vec<u8>> = (0..6).map(|n| layer(&format!("part{n}"), &noise(10 + n, 8_000_000))).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let images = [bundled(&store, "lab.example/app:1", &parts), bundled(&store, "lab.example/new:1", &parts)];
    // Whichever import it hits, it hits it once layers are being unpacked.
    let killer =
        "until ctr -n k8s.io snapshots ls | grep -q extract-; do :; done; kill -9 $(pidof containerd)";
    let (lab, killed) = (Arc::new(lab), std::sync::mpsc::channel());
    let node = Arc::clone(&lab);
    std::thread::spawn(move || killed.0.send(node.exec(1, &["timeout", "60", "sh", "-c", killer])));
    let report = run(&lab, "root", &store, &images).await;
    let done = killed.1.recv_timeout(Duration::from_secs(70)).unwrap();
    assert!(done.status.success(), "containerd was killed: {done:?}");
    let node = &report.nodes[0];
    for image in &node.images {
        let was = (image.names[0] == "lab.example/app:1").then(|| before.graph.root.digest().to_string());
        let now = points_at(&lab, &image.names[0]);
        let expected = if image.ready { Some(image.digest.to_string()) } else { was };
        assert_eq!(now, expected, "{report:#?}");
    }
    let checked = ctr(&lab, &["images", "check"]);
    assert!(checked.lines().skip(1).all(|l| l.trim_end().ends_with("true")), "{checked}");

    let report = run(&lab, "root", &store, &images).await;
    assert!(report.all_ready(), "{report:#?}");
    let node = push(&lab, "root", &store, &[]).history().await.remove(0);
    assert!(node.runs[0].state == RunState::Committed && node.staged == 0, "{node:#?}");
}

//! The proof on image folders; on containerd: [`crate::lab_proof`].

use omk::push::{CheckKind, Verdict};

use super::*;

fn verdicts(report: &PushReport, node: usize, kind: CheckKind) -> Vec<Verdict> {
    let checks = report.nodes[node].images.iter().flat_map(|i| &i.checks);
    checks.filter(|c| c.check == kind).map(|c| c.result).collect()
}

#[tokio::test]
async fn a_proof_names_what_drifted_changes_nothing_and_can_be_mended() {
    let world = World::new();
    let here = || Here { faults: [("n2".to_owned(), Fault::Unreachable)].into(), ..Here::default() };
    let first = world.push(&["n1"], Here::default()).run().await.unwrap();
    assert_eq!(verdicts(&first, 0, CheckKind::Digest), [Verdict::Passed; 2]);
    assert_eq!(verdicts(&first, 0, CheckKind::Unpacked), [Verdict::Skipped; 2], "that is for k3s to do");

    let good = world.push(&["n1", "n2"], here()).verify().await;
    assert!(good.nodes[0].ready() && !good.nodes[1].ready() && good.some_failed(), "{good:#?}");
    assert!(good.nodes[1].error.as_deref().unwrap().contains("no route"), "{good:#?}");
    assert!(good.nodes[1].platform.is_none() && good.nodes[0].platform.is_some());

    std::fs::remove_file(&world.archives("n1")[0]).unwrap();
    let before = world.archives("n1");
    let drifted = world.push(&["n1"], Here::default()).verify().await;
    assert_eq!(verdicts(&drifted, 0, CheckKind::Digest), [Verdict::Failed, Verdict::Passed]);
    let why = drifted.nodes[0].error.as_deref().unwrap();
    assert!(why.contains("1 of 2 images are not ready") && why.contains("lab.example/a:1"), "{why}");
    assert_eq!(world.archives("n1"), before, "a proof changes nothing");
    assert!(files(&world.staging("n1")).is_empty());

    let mended = world.push(&["n1", "n2"], here()).repair().await.unwrap();
    assert!(mended.nodes[0].ready() && !mended.nodes[1].ready(), "{mended:#?}");
    assert_eq!(mended.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
    let found = mended.before.as_deref().unwrap();
    assert_eq!(found.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["n1"]);
    assert!(mended.nodes[0].bytes_sent > 0 && mended.nodes[0].bytes_sent < size(&world.images));
    assert_eq!(world.archives("n1").len(), 2);

    let nothing = world.push(&["n1"], Here::default()).repair().await.unwrap();
    assert!(nothing.before.is_none() && nothing.all_ready(), "{nothing:#?}");
}

use super::*;

fn run(id: &str, state: RunState, interrupted: bool, whole: bool) -> RunSummary {
    RunSummary {
        run: id.into(),
        state,
        standing: if state == RunState::Failed { "stopped" } else { "" },
        interrupted,
        whole,
        missing: 0,
        undone_in_part: false,
        bundle: "web.tar".into(),
        images_digest: None,
        by: "omk".into(),
        started: "2026-11-29T01:30:00Z".into(),
        ended: None,
        staged: Some(0),
        images: 2,
        changed: 1,
        pruned: Vec::new(),
        error: None,
    }
}

fn node(runs: Vec<RunSummary>) -> NodeRuns {
    let (error, runtime, holder) = (None, None, None);
    NodeRuns { node: "n1".into(), error, runtime, holder, staged: 0, backups: 0, runs }
}

#[test]
fn what_is_half_done_tells_how_to_go_on() {
    assert!(hints(&node(vec![run("r2", RunState::Committed, false, true)])).is_empty());
    assert!(hints(&node(vec![run("r2", RunState::Started, true, true)])).is_empty(), "all is there by now");
    let told = hints(&node(vec![
        run("r2", RunState::Committed, false, true),
        run("r1", RunState::Started, true, false),
    ]));
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("run r1 was interrupted") && told[0].contains("rollback --run r1"), "{told:?}");
    let failed = |error: Option<&str>| {
        let run = run("r1", RunState::Failed, false, false);
        let standing = if error.is_some_and(|e| e != "stopped") { "failed" } else { "stopped" };
        hints(&node(vec![RunSummary { standing, error: error.map(str::to_owned), ..run }])).join("\n")
    };
    insta::assert_snapshot!(failed(Some("stopped")), @"run r1 was stopped: preheat web.tar again to go on, or put the node back with `omk preheat rollback --run r1`");
    assert_eq!(failed(None), failed(Some("stopped")));
    insta::assert_snapshot!(failed(Some("a:1: not sent: the disk is full")), @"run r1 failed: a:1: not sent: the disk is full; preheat web.tar again to go on, or put the node back with `omk preheat rollback --run r1`");
    let mut held = node(vec![run("r1", RunState::Started, false, false)]);
    held.holder = Some("omk on a".into());
    assert_eq!(hints(&held), ["omk on a"]);
}

#[test]
fn where_a_node_stands_is_what_was_not_undone() {
    use RunState::{Committed, Failed, Started, Undone};
    let digest = || Some(crate::oci::Digest::sha256(b"images"));
    let same = |run: RunSummary| RunSummary { images_digest: digest(), ..run };
    let told = |runs: Vec<RunSummary>| hints(&node(runs)).join("\n");
    let stopped = || same(run("r1", Failed, false, false));
    assert_eq!(told(vec![same(run("r2", Committed, false, true)), stopped()]), "");
    insta::assert_snapshot!(told(vec![same(run("r2", Undone, false, true)), stopped()]), @"run r1 was stopped: preheat web.tar again to go on, or put the node back with `omk preheat rollback --run r1`");
    let empty = RunSummary { changed: 0, ..stopped() };
    assert_eq!(told(vec![same(run("r2", Undone, false, true)), empty]), "", "nothing is left of it");
    // Killed, and others came to the end of the same, or it had not begun.
    let killed = || same(run("r1", Started, true, false));
    assert_eq!(told(vec![same(run("r2", Committed, false, true)), killed()]), "");
    let idle = RunSummary { changed: 0, ..run("r1", Started, true, false) };
    assert_eq!(told(vec![run("r2", Committed, false, true), idle.clone()]), "");
    assert!(told(vec![idle]).starts_with("run r1 was interrupted: preheat web.tar again"));
    let gone = RunSummary { missing: 1, ..run("r2", Committed, false, false) };
    insta::assert_snapshot!(told(vec![gone]), @"of the 2 images of run r2, 1 is not there any more (removed, moved, or garbage-collected): `omk node verify web.tar` names what, `omk preheat web.tar` again brings it back");
    let part = RunSummary { undone_in_part: true, ..run("r2", Committed, false, false) };
    insta::assert_snapshot!(told(vec![part]), @"run r2 is undone in part: `omk preheat rollback --run r2 --dry-run` says what is left and why; without --dry-run it goes on");
}

#[test]
fn what_is_so_on_many_nodes_is_told_once() {
    let line = |text: &str| vec![text.to_owned()];
    let both = [("a", line("x")), ("b", vec![]), ("c", vec!["y".to_owned(), "x".to_owned()])];
    assert_eq!(together(both.into_iter()), ["a, c: x", "c: y"]);
    let names: Vec<String> = (1..=22).map(|n| format!("n{n}")).collect();
    let many = together(names.iter().map(|n| (n.as_str(), line("x"))));
    assert!(many[0].ends_with("n19, n20 and 2 more: x"), "{many:?}");
}

#[test]
fn names_that_are_put_back_are_told_once_with_their_nodes() {
    let node = |node: &str, restored: &[&str], removed: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let names = crate::push::Undone { restored: own(restored), removed: own(removed) };
        let unfinished = vec!["r1".to_owned()];
        let undo = crate::push::UndoReport { names, unfinished, ..blank() };
        crate::push::NodeRollback { node: node.into(), undo }
    };
    let many: Vec<String> = (10..40).map(|n| format!("m:{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let nodes = vec![node("a", &["x:1"], &["y:1", "z:1"]), node("b", &[], &["y:1"]), node("c", &[], &many)];
    let mut report = RollbackReport { run: "r2".into(), dry_run: true, nodes };
    let told = names(&report);
    assert_eq!(
        told[..6],
        [
            "\nwould be put back on a:",
            "  x:1",
            "\nwould be removed on a:",
            "  z:1",
            "\nwould be removed on a, b:",
            "  y:1"
        ]
    );
    assert_eq!((told.len(), told[27].as_str()), (28, "  and 10 more, which -o json lists"));
    report.nodes[0].undo.pruned = vec!["old:1".to_owned(), "old:2".to_owned()];
    assert_eq!(pruned(&report), ["a: what the run had pruned is not brought back: old:1, old:2"]);
    report.dry_run = false;
    assert_eq!(names(&report)[2], "\nremoved on a:");
    insta::assert_snapshot!(unfinished(&report).join("\n"), @"note: run r1, which did not come to its end, had brought some of these images to a, b, c before; they stay: `omk preheat rollback --run r1` undoes that run too");
}

fn blank() -> crate::push::UndoReport {
    crate::push::UndoReport {
        state: UndoState::Undone,
        restored: 0,
        removed: 0,
        names: Default::default(),
        staging_freed: 0,
        staging_left: None,
        pruned: Vec::new(),
        unfinished: Vec::new(),
        kept: Vec::new(),
        stuck: Vec::new(),
        error: None,
    }
}

#[test]
fn what_waits_in_staging_tells_who_left_it() {
    let told = |runs: &[(RunState, Option<u64>)]| {
        let runs = runs.iter().enumerate().map(|(n, (state, staged))| {
            let newest_first = runs.len() - n;
            RunSummary { staged: *staged, ..run(&format!("r{newest_first}"), *state, false, true) }
        });
        hints(&NodeRuns { staged: 5_000_000, ..node(runs.collect()) }).join("\n")
    };
    use RunState::{Committed, Started, Undone};
    insta::assert_snapshot!(told(&[(Committed, Some(9)), (Undone, Some(9)), (Undone, Some(9))]), @"5.0 MB wait in staging for web.tar to be preheated again; `omk preheat rollback --run r2` frees it: the run is undone already, no image is touched");
    insta::assert_snapshot!(told(&[(Started, Some(9))]), @"5.0 MB wait in staging of run r1, whose images are whole: `omk preheat web.tar` again frees it");
    let brought = RunSummary { changed: 0, staged: Some(9), ..run("r1", Started, false, true) };
    insta::assert_snapshot!(hints(&NodeRuns { staged: 5_000_000, ..node(vec![brought]) }).join(""), @"5.0 MB wait in staging for web.tar to be preheated again; `omk preheat rollback --run r1` undoes the run: removes the images that it brought, and what it left in staging");
    insta::assert_snapshot!(told(&[(Committed, Some(9)), (Committed, None)]), @"5.0 MB wait in staging for the same bundle to be preheated again; which it was is not known, because an earlier version of omk recorded runs there without their blobs, and a rollback of those leaves staging as it is; to free all of it, while no run is at work there, remove the staging folder on the node (/var/lib/omk/staging, unless another is set)");
    insta::assert_snapshot!(told(&[(Committed, Some(9))]), @"5.0 MB wait in staging for the same bundle to be preheated again; no run that is on record there left it: to free all of it, while no run is at work there, remove the staging folder on the node (/var/lib/omk/staging, unless another is set)");
}

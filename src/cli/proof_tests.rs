use super::*;
use crate::oci::Digest;
use crate::push::{Check, ImageReport, NodeResult};

fn node(verdicts: &[(CheckKind, Verdict)]) -> NodeReport {
    let image = |&(check, result): &(CheckKind, Verdict)| ImageReport {
        names: vec!["a.example/web:1".into()],
        digest: Digest::sha256(b"web"),
        ready: result != Verdict::Failed,
        reason: None,
        checks: vec![Check { check, result, detail: Some("why".into()) }],
    };
    NodeReport {
        node: "n1".into(),
        login: None,
        platform: None,
        runtime: None,
        state: NodeResult::Ready,
        images: verdicts.iter().map(image).collect(),
        bytes_sent: 0,
        blobs_sent: 0,
        bytes_skipped: 0,
        bytes_resumed: 0,
        bytes_adopted: 0,
        duration_ms: 0,
        error: None,
        recorded: false,
        undone: None,
        pruned: Vec::new(),
        spared: Vec::new(),
    }
}

#[test]
fn a_cell_says_the_worst() {
    use Verdict::{Failed, Passed, Skipped, Weak};
    let told = |all: &[Verdict]| {
        let all: Vec<_> = all.iter().map(|v| (CheckKind::Cri, *v)).collect();
        cell(&node(&all), CheckKind::Cri)
    };
    assert_eq!(told(&[Passed, Passed]), "ok");
    assert_eq!(told(&[Passed, Weak, Skipped]), "weak");
    assert_eq!(told(&[Passed, Skipped]), "partly");
    assert_eq!(told(&[Skipped]), "not checked");
    assert_eq!(told(&[Weak, Failed, Failed]), "2 of 3 BAD");
    assert_eq!(told(&[]), "-");
}

fn report(kind: ReportKind, recorded: bool) -> PushReport {
    let weak = [
        (CheckKind::Cri, Verdict::Weak),
        (CheckKind::Cri, Verdict::Weak),
        (CheckKind::Digest, Verdict::Passed),
    ];
    PushReport {
        kind,
        omk: String::new(),
        run_id: "r1".into(),
        bundle: "b.tar".into(),
        bundle_digest: None,
        started: String::new(),
        finished: String::new(),
        nodes: vec![NodeReport { recorded, ..node(&weak) }],
        before: None,
    }
}

#[test]
fn what_is_weak_says_why_once() {
    assert_eq!(weak(&report(ReportKind::Verify, false)), ["note: cri is weak: why"]);
}

#[test]
fn undoing_is_offered_where_something_is_left_to_undo() {
    use crate::push::{UndoReport, UndoState};

    let mut repair = report(ReportKind::Repair, true);
    assert_eq!(undo_hint(&repair).unwrap(), "\nrun r1; `omk preheat rollback --run r1` undoes it");
    assert_eq!(undo_hint(&report(ReportKind::Preheat, false)), None, "nothing was changed");
    let (kept, stuck) = (Vec::new(), Vec::new());
    let undone = UndoReport {
        state: UndoState::Undone,
        restored: 1,
        removed: 1,
        names: Default::default(),
        pruned: Vec::new(),
        unfinished: Vec::new(),
        kept,
        stuck,
        staging_freed: 0,
        staging_left: None,
        error: None,
    };
    repair.nodes[0].undone = Some(undone.clone());
    assert_eq!(undo_hint(&repair), None, "--atomic has put it back");
    repair.nodes[0].undone = Some(UndoReport { state: UndoState::Partly, ..undone });
    assert!(undo_hint(&repair).is_some());
}

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

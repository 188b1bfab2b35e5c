use super::*;

type Asked = (String, Result<NodeRuns, Fault>);

fn records(node: &str, runs: &[&str]) -> Asked {
    let run = |run: &&str| RunSummary {
        run: (*run).to_owned(),
        state: RunState::Committed,
        standing: "committed",
        interrupted: false,
        whole: true,
        missing: 0,
        undone_in_part: false,
        bundle: String::new(),
        images_digest: None,
        by: String::new(),
        started: String::new(),
        ended: None,
        staged: Some(0),
        images: 1,
        changed: 1,
        pruned: Vec::new(),
        error: None,
    };
    let (node, runs) = (node.to_owned(), runs.iter().map(run).collect());
    let of = NodeRuns {
        node: node.clone(),
        error: None,
        runtime: None,
        holder: None,
        staged: 0,
        backups: 0,
        runs,
    };
    (node, Ok(of))
}

fn without(node: &str, runtime: &str) -> Asked {
    (node.to_owned(), Err(Fault { unrecorded: Some(runtime.to_owned()), ..Fault::lasting("no records") }))
}

#[test]
fn the_last_run_is_known_only_where_every_node_records_runs() {
    let newest = last(vec![records("a", &["20261103-1", "20261101-1"]), records("b", &["20261102-1"])]);
    assert_eq!(newest.unwrap(), "20261103-1");
    assert_eq!(last(vec![records("a", &[]), records("b", &["20261102-1"])]).unwrap(), "20261102-1");
    assert_eq!(last(vec![records("a", &[])]), Err(RollbackError::None));
    // A newer run may have been on the nodes that record none, whatever the others have.
    for known in [&["20261101-1"][..], &[]] {
        let mixed = vec![without("d1", "Docker"), records("a", known), without("p1", "Podman")];
        let text = last(mixed).unwrap_err().to_string();
        assert!(
            text.contains("runs are not recorded on d1 (Docker), p1 (Podman). Name the run with --run"),
            "{text}"
        );
        assert!(text.ends_with("leave those nodes out with --limit '!d1,!p1'"), "{text}");
    }
    let text = last(vec![without("d1", "Docker")]).unwrap_err().to_string();
    assert!(text.starts_with("nothing can be undone: runs are not recorded on d1 (Docker)"), "{text}");
    let silent = ("n".to_owned(), Err(Fault::lasting("no route")));
    let error = last(vec![without("d1", "Docker"), records("a", &["20261101-1"]), silent]).unwrap_err();
    assert!(matches!(error, RollbackError::NotAsked { node, .. } if node == "n"));
    let many: Vec<Asked> = (0..25).map(|i| without(&format!("d{i}"), "Docker")).collect();
    let text = last(many.into_iter().chain([records("a", &[])]).collect()).unwrap_err().to_string();
    assert!(text.contains("d19 (Docker) and 5 more. ") && text.ends_with("with --limit"), "{text}");
}

#[test]
fn a_part_of_an_id_is_believed_only_where_every_node_can_say() {
    let nodes =
        || vec![records("a", &["20261103-010101-aaaa", "20261101-010101-bbbb"]), without("d1", "Docker")];
    assert_eq!(called("bbbb", nodes()).unwrap(), "20261101-010101-bbbb");
    assert_eq!(called("20261103", nodes()).unwrap(), "20261103-010101-aaaa");
    assert_eq!(called("cccc", nodes()).unwrap(), "cccc", "what nodes make of it is in their reports");
    let several = called("2026", nodes()).unwrap_err().to_string();
    assert!(several.contains("20261103-010101-aaaa, 20261101-010101-bbbb; name more"), "{several}");
    let mut silent = nodes();
    silent.push(("n".to_owned(), Err(Fault::lasting("no route"))));
    let error = called("bbbb", silent).unwrap_err().to_string();
    assert!(
        error.starts_with("which run \"bbbb\" is cannot be known: n: no route. Give the whole id"),
        "{error}"
    );
}

#[test]
fn why_a_run_failed_is_told_without_what_to_do() {
    // As earlier versions wrote it down.
    assert_eq!(Fault::cause("stopped; run the same command again to go on"), "stopped");
    let lost = Fault { passing: true, ..Fault::lasting("connection lost") }.given_up(3);
    assert!(lost.reason.ends_with("run the same command again to go on"), "{}", lost.reason);
    assert_eq!(Fault::cause(&lost.reason), "connection lost; given up after 3 attempts");
    assert_eq!(Fault::cause("the disk is full;"), "the disk is full;");
}

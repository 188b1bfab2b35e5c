//! `omk preheat rollback|status|history`: what earlier runs did to nodes, and undoing it.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

use super::code;
use crate::cli::nodes::NodeArgs;
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::{CliError, Context, Outcome};
use crate::push::journal::RunState;
use crate::push::{NodeRollback, NodeRuns, RollbackError, RollbackReport, RunSummary, UndoState, Which};

/// Subcommands of `omk preheat`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Put nodes back as they were before a run: names and labels, and what was added is removed
    Rollback(RollbackArgs),
    /// Say where each node stands: its last run, what is half-done and how to go on, what waits in staging
    Status(AskArgs),
    /// List the runs that nodes have on record
    History(AskArgs),
}

/// Arguments of `omk preheat rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk preheat rollback --run 20261129-013000-ab12 --nodes nodes.yaml
  omk preheat rollback --last --nodes nodes.yaml --dry-run
  omk preheat rollback --last --nodes nodes.yaml --limit worker-2 -o json

Only what the run added or moved is touched. A name that somebody moved since is left alone and named; so is an image that a
container uses, and what a later run found there and counts on. What the run left in staging is removed. What is undone already is not done again, and an interrupted rollback goes on when it is run again. --last is the
newest run on record, undone or not; go further back with --run.

Exit codes: 0 every node is as it was before the run, 4 some are not, 5 none is.")]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    which: WhichRun,
    /// Say what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    nodes: NodeArgs,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichRun {
    /// The run, as its report and `omk preheat history` name it; the beginning or the end of the id will do where no other
    /// run has it
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The newest run that the nodes have on record; every node has to answer
    #[arg(long)]
    last: bool,
}

/// Arguments of `omk preheat status` and `omk preheat history`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk preheat status --nodes nodes.yaml
  omk preheat history --nodes nodes.yaml --limit worker-2
  omk preheat history --nodes nodes.yaml -o json

Exit codes: 0 every node answered, 4 some did not, 5 none did.")]
pub(super) struct AskArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Rollback(args) => rollback(args, &context).await,
        Command::Status(args) => {
            let told = |nodes: &[NodeRuns]| status_table(nodes, |hint| args.nodes.addressed(&hint));
            ask(&args, &context, told).await
        }
        Command::History(args) => ask(&args, &context, history_table).await,
    }
}

async fn rollback(args: RollbackArgs, context: &Context) -> Outcome {
    let which = args.which.run.map_or(Which::Last, Which::Run);
    let (push, ..) = args.nodes.push(context)?;
    let report = push.rollback(&which, args.dry_run).await.map_err(|e| match &e {
        RollbackError::NotAnId(_) | RollbackError::Several { .. } => {
            CliError::usage(args.nodes.addressed(&e.to_string()))
        }
        _ => CliError::failed(args.nodes.addressed(&e.to_string())),
    })?;
    match args.output {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => tell_rollback(&report, |note| args.nodes.addressed(note)),
    }
    let good = report.nodes.iter().filter(|n| n.good()).count();
    let all = report.nodes.len();
    if report.nodes.iter().all(|n| n.undo.state == UndoState::Nothing) {
        let text = format!("run {} is on record on none of these nodes", report.run);
        let hint = args.nodes.addressed("`omk preheat history` lists the runs of each node");
        return Err(CliError::failed(text).with_hint(hint));
    }
    Ok(code(context, good, all - good))
}

fn tell_rollback(report: &RollbackReport, addressed: impl Fn(&str) -> String) {
    let word = |state| match state {
        UndoState::Undone if report.dry_run => "would be undone",
        UndoState::Undone => "undone",
        UndoState::Already => "undone before",
        UndoState::Nothing => "not in this run",
        UndoState::Partly if report.dry_run => "would be undone in part",
        UndoState::Partly => "undone in part",
        UndoState::Failed => "failed",
    };
    let rows: Vec<Vec<String>> = report
        .nodes
        .iter()
        .map(|n| {
            let count = |n: usize| n.to_string();
            vec![
                n.node.clone(),
                word(n.undo.state).to_owned(),
                count(n.undo.restored),
                count(n.undo.removed),
                count(n.undo.kept.len() + n.undo.stuck.len()),
                output::bytes(n.undo.staging_freed),
            ]
        })
        .collect();
    say(&format!("run {}\n", report.run));
    say(&output::table(&["NODE", "STATE", "RESTORED", "REMOVED", "LEFT", "STAGING"], &rows));
    names(report).iter().for_each(|line| say(line));
    left(report).iter().for_each(|line| warn(line));
    for node in &report.nodes {
        if let Some(bytes) = node.undo.staging_left {
            warn(&format!(
                "{}: {} wait in staging and are left there: an earlier version of omk recorded the run without its blobs, so which of \
                 them are the run's is not known; {BY_HAND}",
                node.node,
                output::bytes(bytes)
            ));
        }
        if let Some(error) = &node.undo.error {
            warn(&format!("{}: {error}", node.node));
        }
    }
    pruned(report).iter().for_each(|note| warn(note));
    unfinished(report).iter().for_each(|note| warn(&addressed(note)));
}

/// Names that are told one by one.
const SHOWN: usize = 20;

/// What becomes of which names, each once with all nodes on which it is so.
fn names(report: &RollbackReport) -> Vec<String> {
    let mut nodes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let words =
        if report.dry_run { ["would be put back", "would be removed"] } else { ["put back", "removed"] };
    for node in &report.nodes {
        let names = &node.undo.names;
        for (word, names) in words.into_iter().zip([&names.restored, &names.removed]) {
            names.iter().for_each(|n| nodes.entry((word, n)).or_default().push(&node.node));
        }
    }
    let mut groups: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for ((word, name), on) in nodes {
        groups.entry((word, some(&on))).or_default().push(name);
    }
    let mut lines = Vec::new();
    for ((word, on), names) in groups {
        lines.push(format!("\n{word} on {on}:"));
        lines.extend(names.iter().take(SHOWN).map(|name| format!("  {name}")));
        if names.len() > SHOWN {
            lines.push(format!("  and {} more, which -o json lists", names.len() - SHOWN));
        }
    }
    lines
}

/// What is left as it is, each once with all nodes on which it is.
fn left(report: &RollbackReport) -> Vec<String> {
    let left = |node: &NodeRollback| -> Vec<String> {
        let all = node.undo.stuck.iter().chain(&node.undo.kept);
        all.map(|kept| format!("{} is left as it is: {}", kept.name, kept.reason)).collect()
    };
    together(report.nodes.iter().map(|n| (n.node.as_str(), left(n))))
}

/// Lines about nodes, each once after the names of all nodes that it is about.
fn together<'a>(lines: impl Iterator<Item = (&'a str, Vec<String>)>) -> Vec<String> {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (node, line) in lines.flat_map(|(node, lines)| lines.into_iter().map(move |line| (node, line))) {
        match told.iter_mut().find(|(known, _)| *known == line) {
            Some((_, on)) => on.push(node),
            None => told.push((line, vec![node])),
        }
    }
    told.into_iter().map(|(line, on)| format!("{}: {line}", some(&on))).collect()
}

fn some(nodes: &[&str]) -> String {
    let more = nodes.len().saturating_sub(SHOWN);
    let named = nodes.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// What runs removed for good.
fn pruned(report: &RollbackReport) -> Vec<String> {
    let note = |node: &NodeRollback| -> Vec<String> {
        let names: Vec<&str> = node.undo.pruned.iter().map(String::as_str).collect();
        let line = || format!("what the run had pruned is not brought back: {}", some(&names));
        (!names.is_empty()).then(line).into_iter().collect()
    };
    together(report.nodes.iter().map(|n| (n.node.as_str(), note(n))))
}

/// Earlier runs that this one went on from: what they brought is not its own, and stays.
fn unfinished(report: &RollbackReport) -> Vec<String> {
    let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &report.nodes {
        node.undo.unfinished.iter().for_each(|run| runs.entry(run).or_default().push(&node.node));
    }
    let line = |(run, on): (&str, Vec<&str>)| {
        format!(
            "note: run {run}, which did not come to its end, had brought some of these images to {} before; they stay: \
             `omk preheat rollback --run {run}` undoes that run too",
            some(&on)
        )
    };
    runs.into_iter().map(line).collect()
}

async fn ask(args: &AskArgs, context: &Context, table: impl Fn(&[NodeRuns])) -> Outcome {
    let nodes = args.nodes.push(context)?.0.history().await;
    match args.output {
        OutputFormat::Json => output::json(&nodes)?,
        OutputFormat::Table => table(&nodes),
    }
    for node in &nodes {
        if let Some(error) = &node.error
            && args.output == OutputFormat::Table
        {
            warn(&format!("{}: {error}", node.node));
        }
    }
    let bad = nodes.iter().filter(|n| n.error.is_some()).count();
    Ok(code(context, nodes.len() - bad, bad))
}

fn history_table(nodes: &[NodeRuns]) {
    let row = |node: &NodeRuns, run: &RunSummary| {
        vec![
            node.node.clone(),
            run.run.clone(),
            run.started.clone(),
            run.bundle.clone(),
            format!("{} of {}", run.changed, run.images),
            if run.pruned.is_empty() { "-".to_owned() } else { run.pruned.len().to_string() },
            run.standing.to_owned(),
        ]
    };
    let rows: Vec<_> = nodes.iter().flat_map(|n| n.runs.iter().map(move |r| row(n, r))).collect();
    say(&output::table(&["NODE", "RUN", "STARTED", "BUNDLE", "CHANGED", "PRUNED", "STATE"], &rows));
}

fn status_table(nodes: &[NodeRuns], addressed: impl Fn(String) -> String) {
    let dash = || "-".to_owned();
    let row = |node: &NodeRuns| {
        let last = node.runs.first();
        let known = |cell| if node.error.is_some() { dash() } else { cell };
        let word = match (&node.error, &node.holder, last) {
            (Some(_), ..) => "not known",
            (None, Some(_), _) => "running",
            (None, None, None) => "no run",
            (None, None, Some(run)) => run.standing,
        };
        vec![
            node.node.clone(),
            word.to_owned(),
            last.map_or_else(dash, |r| r.run.clone()),
            last.map_or_else(dash, |r| r.bundle.clone()),
            last.map_or_else(dash, |r| format!("{} of {}", r.changed, r.images)),
            known(output::bytes(node.staged)),
            known(node.backups.to_string()),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    say(&output::table(&["NODE", "STATE", "LAST RUN", "BUNDLE", "CHANGED", "STAGED", "KEPT"], &rows));
    together(nodes.iter().map(|n| (n.node.as_str(), hints(n))))
        .into_iter()
        .for_each(|hint| warn(&addressed(hint)));
}

/// How to go on where something is half-done.
fn hints(node: &NodeRuns) -> Vec<String> {
    if let Some(holder) = &node.holder {
        return vec![holder.clone()];
    }
    // Where the node stands: what was undone is as if it had not been.
    let stands = node.runs.iter().position(|r| r.state != RunState::Undone);
    let hint = |(at, r): (usize, &RunSummary)| {
        let stands = stands == Some(at);
        let (run, bundle) = (&r.run, &r.bundle);
        let on = |what: &str| {
            format!(
                "run {run} {what} preheat {bundle} again to go on, or put the node back with `omk preheat rollback --run {run}`"
            )
        };
        match r.state {
            _ if r.undone_in_part && stands => Some(format!(
                "run {run} is undone in part: `omk preheat rollback --run {run} --dry-run` says what is left and why; without \
                 --dry-run it goes on"
            )),
            RunState::Started if r.interrupted && !r.whole && (at == 0 || open(&node.runs, at)) => {
                Some(on("was interrupted:"))
            }
            // Nothing is left of it.
            RunState::Failed if at > 0 && r.changed == 0 && r.staged == Some(0) => None,
            RunState::Failed if stands && r.stopped() => Some(on("was stopped:")),
            RunState::Failed if stands => {
                let why = r.error.as_ref().map_or_else(String::new, |why| format!(": {why}"));
                Some(on(&format!("failed{why};")))
            }
            RunState::Committed if stands && r.missing > 0 => Some(format!(
                "of the {} images of run {run}, {} {} not there any more (removed, moved, or garbage-collected): `omk node verify \
                 {bundle}` names what, `omk preheat {bundle}` again brings it back",
                r.images,
                r.missing,
                if r.missing == 1 { "is" } else { "are" }
            )),
            _ => None,
        }
    };
    let told: Vec<(&RunSummary, String)> =
        node.runs.iter().enumerate().filter_map(|(at, r)| Some((r, hint((at, r))?))).collect();
    // How to go on with a run, or to undo it, is how to free staging of what it left there.
    let freed = told.iter().any(|(r, _)| r.staged != Some(0));
    let mut hints: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
    if !freed && node.staged > 0 {
        hints.push(format!("{} wait in staging {}", output::bytes(node.staged), of_whom(node)));
    }
    hints
}

/// Whether an interrupted run left something that no later run has taken to its end.
fn open(runs: &[RunSummary], at: usize) -> bool {
    let run = &runs[at];
    let ended = |r: &RunSummary| {
        r.state == RunState::Committed && r.images_digest.is_some() && r.images_digest == run.images_digest
    };
    (run.changed > 0 || run.staged != Some(0)) && !runs[..at].iter().any(ended)
}

/// Who left what waits in staging, and what can be done with it. A run that was committed emptied staging of its own, so that
/// what is there of its images is of a later one.
fn of_whom(node: &NodeRuns) -> String {
    let left = |r: &&RunSummary| r.state != RunState::Committed && r.staged.is_some_and(|bytes| bytes > 0);
    if let Some(r) = node.runs.iter().find(left) {
        let (run, bundle) = (&r.run, &r.bundle);
        return match r.state {
            RunState::Undone => format!(
                "for {bundle} to be preheated again; `omk preheat rollback --run {run}` frees it: the run is undone already, no image is \
                 touched"
            ),
            // The way out must not be one that takes good images away.
            _ if r.whole && r.changed > 0 => {
                format!("of run {run}, whose images are whole: `omk preheat {bundle}` again frees it")
            }
            _ => format!(
                "for {bundle} to be preheated again; `omk preheat rollback --run {run}` undoes the run: removes the images that it \
                 brought, and what it left in staging"
            ),
        };
    }
    if node.runs.iter().any(|r| r.staged.is_none()) {
        return format!(
            "for the same bundle to be preheated again; which it was is not known, because an earlier version of omk recorded runs \
             there without their blobs, and a rollback of those leaves staging as it is; {BY_HAND}"
        );
    }
    format!("for the same bundle to be preheated again; no run that is on record there left it: {BY_HAND}")
}

/// How staging is freed of what no record tells.
const BY_HAND: &str = "to free all of it, while no run is at work there, remove the staging folder on the node (/var/lib/omk/staging, unless \
                       another is set)";

#[cfg(test)]
mod tests {
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
        assert!(
            hints(&node(vec![run("r2", RunState::Started, true, true)])).is_empty(),
            "all is there by now"
        );
        let told = hints(&node(vec![
            run("r2", RunState::Committed, false, true),
            run("r1", RunState::Started, true, false),
        ]));
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("run r1 was interrupted") && told[0].contains("rollback --run r1"),
            "{told:?}"
        );
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
        let nodes =
            vec![node("a", &["x:1"], &["y:1", "z:1"]), node("b", &[], &["y:1"]), node("c", &[], &many)];
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
}

//! `omk preheat rollback|status|history`: what earlier runs did to nodes, and undoing it.

use clap::{Args, Subcommand};

use super::code;
use crate::cli::nodes::NodeArgs;
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::{CliError, Context, Outcome};
use crate::push::journal::RunState;
use crate::push::{NodeRuns, RollbackError, RollbackReport, RunSummary, UndoState, Which};

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
container uses. What the run left in staging is removed. What is undone already is not done again, and an interrupted rollback goes on when it is run again. --last is the
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
    /// The run, as its report and `omk preheat history` name it
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
        RollbackError::NotAnId(_) => CliError::usage(args.nodes.addressed(&e.to_string())),
        _ => CliError::failed(args.nodes.addressed(&e.to_string())),
    })?;
    match args.output {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => tell_rollback(&report),
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

fn tell_rollback(report: &RollbackReport) {
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
    for node in &report.nodes {
        for kept in node.undo.stuck.iter().chain(&node.undo.kept) {
            warn(&format!("{}: {} is left as it is: {}", node.node, kept.name, kept.reason));
        }
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

fn state(run: &RunSummary) -> &'static str {
    match run.state {
        RunState::Started if !run.interrupted => "running",
        RunState::Started if run.whole => "interrupted, whole",
        RunState::Started => "interrupted",
        RunState::Committed => "committed",
        RunState::Failed => "failed",
        RunState::Undone => "undone",
    }
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
            state(run).to_owned(),
        ]
    };
    let rows: Vec<_> = nodes.iter().flat_map(|n| n.runs.iter().map(move |r| row(n, r))).collect();
    say(&output::table(&["NODE", "RUN", "STARTED", "BUNDLE", "CHANGED", "PRUNED", "STATE"], &rows));
}

fn status_table(nodes: &[NodeRuns], addressed: impl Fn(String) -> String) {
    let dash = || "-".to_owned();
    let row = |node: &NodeRuns| {
        let last = node.runs.first();
        let word = match (&node.error, &node.holder, last) {
            (Some(_), ..) => "failed",
            (None, Some(_), _) => "running",
            (None, None, None) => "no run",
            (None, None, Some(run)) => state(run),
        };
        vec![
            node.node.clone(),
            word.to_owned(),
            last.map_or_else(dash, |r| r.run.clone()),
            last.map_or_else(dash, |r| r.bundle.clone()),
            last.map_or_else(dash, |r| format!("{} of {}", r.changed, r.images)),
            output::bytes(node.staged),
            node.backups.to_string(),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    say(&output::table(&["NODE", "STATE", "LAST RUN", "BUNDLE", "CHANGED", "STAGED", "KEPT"], &rows));
    nodes.iter().flat_map(hints).for_each(|hint| warn(&addressed(hint)));
}

/// How to go on where something is half-done.
fn hints(node: &NodeRuns) -> Vec<String> {
    let name = &node.node;
    if let Some(holder) = &node.holder {
        return vec![format!("{name}: {holder}")];
    }
    let half = node.runs.iter().filter(|r| r.interrupted && !r.whole);
    let failed = node.runs.first().filter(|r| r.state == RunState::Failed);
    let mut hints: Vec<String> = half
        .map(|r| {
            format!(
                "{name}: run {run} was interrupted: preheat {bundle} again to go on, or put the node back with `omk preheat rollback --run {run}`",
                run = r.run,
                bundle = r.bundle
            )
        })
        .collect();
    hints.extend(failed.map(|r| {
        let how = match r.error.as_deref() {
            None | Some("stopped") => "was stopped:".to_owned(),
            Some(why) => format!("failed: {why};"),
        };
        format!(
            "{name}: run {run} {how} preheat {bundle} again to go on, or put the node back with `omk preheat rollback --run {run}`",
            run = r.run,
            bundle = r.bundle
        )
    }));
    if hints.is_empty() && node.staged > 0 {
        hints.push(format!("{name}: {} wait in staging {}", output::bytes(node.staged), of_whom(node)));
    }
    hints
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
            interrupted,
            whole,
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
            hints(&node(vec![RunSummary { error: error.map(str::to_owned), ..run }])).join("\n")
        };
        insta::assert_snapshot!(failed(Some("stopped")), @"n1: run r1 was stopped: preheat web.tar again to go on, or put the node back with `omk preheat rollback --run r1`");
        assert_eq!(failed(None), failed(Some("stopped")));
        insta::assert_snapshot!(failed(Some("a:1: not sent: the disk is full")), @"n1: run r1 failed: a:1: not sent: the disk is full; preheat web.tar again to go on, or put the node back with `omk preheat rollback --run r1`");
        let mut held = node(vec![run("r1", RunState::Started, false, false)]);
        held.holder = Some("omk on a".into());
        assert_eq!(hints(&held), ["n1: omk on a"]);
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
        insta::assert_snapshot!(told(&[(Committed, Some(9)), (Undone, Some(9)), (Undone, Some(9))]), @"n1: 5.0 MB wait in staging for web.tar to be preheated again; `omk preheat rollback --run r2` frees it: the run is undone already, no image is touched");
        insta::assert_snapshot!(told(&[(Started, Some(9))]), @"n1: 5.0 MB wait in staging of run r1, whose images are whole: `omk preheat web.tar` again frees it");
        let brought = RunSummary { changed: 0, staged: Some(9), ..run("r1", Started, false, true) };
        insta::assert_snapshot!(hints(&NodeRuns { staged: 5_000_000, ..node(vec![brought]) }).join(""), @"n1: 5.0 MB wait in staging for web.tar to be preheated again; `omk preheat rollback --run r1` undoes the run: removes the images that it brought, and what it left in staging");
        insta::assert_snapshot!(told(&[(Committed, Some(9)), (Committed, None)]), @"n1: 5.0 MB wait in staging for the same bundle to be preheated again; which it was is not known, because an earlier version of omk recorded runs there without their blobs, and a rollback of those leaves staging as it is; to free all of it, while no run is at work there, remove the staging folder on the node (/var/lib/omk/staging, unless another is set)");
        insta::assert_snapshot!(told(&[(Committed, Some(9))]), @"n1: 5.0 MB wait in staging for the same bundle to be preheated again; no run that is on record there left it: to free all of it, while no run is at work there, remove the staging folder on the node (/var/lib/omk/staging, unless another is set)");
    }
}

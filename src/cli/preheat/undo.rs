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
        Command::Status(args) => ask(&args, &context, status_table).await,
        Command::History(args) => ask(&args, &context, history_table).await,
    }
}

async fn rollback(args: RollbackArgs, context: &Context) -> Outcome {
    let which = args.which.run.map_or(Which::Last, Which::Run);
    let (push, ..) = args.nodes.push(context)?;
    let report = push.rollback(&which, args.dry_run).await.map_err(|e| match &e {
        RollbackError::NotAnId(_) => CliError::usage(e.to_string()),
        _ => CliError::failed(e.to_string()),
    })?;
    match args.output {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => tell_rollback(&report),
    }
    let good = report.nodes.iter().filter(|n| n.good()).count();
    let all = report.nodes.len();
    if report.nodes.iter().all(|n| n.undo.state == UndoState::Nothing) {
        let text = format!("run {} is on record on none of these nodes", report.run);
        return Err(CliError::failed(text).with_hint("`omk preheat history` lists the runs of each node"));
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

fn status_table(nodes: &[NodeRuns]) {
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
    nodes.iter().flat_map(hints).for_each(|hint| warn(&hint));
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
        let why = r.error.as_deref().unwrap_or("it was stopped");
        format!(
            "{name}: run {run} failed: {why}; preheat {bundle} again to go on, or put the node back with `omk preheat rollback --run {run}`",
            run = r.run,
            bundle = r.bundle
        )
    }));
    if hints.is_empty() && node.staged > 0 {
        hints.push(format!(
            "{name}: {} wait in staging for the same bundle to be preheated again; `omk preheat rollback --run RUN` of the run that left \
             them there removes them",
            output::bytes(node.staged)
        ));
    }
    hints
}

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
            bundle_digest: None,
            by: "omk".into(),
            started: "2026-11-29T01:30:00Z".into(),
            ended: None,
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
        let failed = hints(&node(vec![run("r1", RunState::Failed, false, false)]));
        assert!(failed[0].contains("run r1 failed: it was stopped; preheat web.tar again"), "{failed:?}");
        let mut held = node(vec![run("r1", RunState::Started, false, false)]);
        held.holder = Some("omk on a".into());
        assert_eq!(hints(&held), ["n1: omk on a"]);
        let staged = NodeRuns { staged: 5_000_000, ..node(Vec::new()) };
        assert!(hints(&staged)[0].contains("5.0 MB wait in staging"));
    }
}

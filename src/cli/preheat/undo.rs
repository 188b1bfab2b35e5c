//! `omk preheat rollback|status|history`: what earlier runs did to nodes, and undoing it.

use std::collections::{BTreeMap, HashMap};

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
        groups.entry((word, output::some(&on, SHOWN))).or_default().push(name);
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
    let mut places: HashMap<String, usize> = HashMap::new();
    for (node, line) in lines.flat_map(|(node, lines)| lines.into_iter().map(move |line| (node, line))) {
        let at = *places.entry(line).or_insert_with_key(|line| {
            told.push((line.clone(), Vec::new()));
            told.len() - 1
        });
        told[at].1.push(node);
    }
    told.into_iter().map(|(line, on)| format!("{}: {line}", output::some(&on, SHOWN))).collect()
}

/// What runs removed for good.
fn pruned(report: &RollbackReport) -> Vec<String> {
    let note = |node: &NodeRollback| -> Vec<String> {
        let names: Vec<&str> = node.undo.pruned.iter().map(String::as_str).collect();
        let line = || format!("what the run had pruned is not brought back: {}", output::some(&names, SHOWN));
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
            output::some(&on, SHOWN)
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
#[path = "undo_tests.rs"]
mod tests;

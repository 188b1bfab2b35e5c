//! `omk preheat`: a bundle's images onto nodes.

use std::sync::Arc;

use clap::Args;

use super::bundle::BundleArgs;
use super::nodes::{Chosen, NodeArgs};
use super::output::{self, OutputFormat};
use super::proof::{ProofArgs, Way, code};
use super::{CliError, Context, Outcome, exit};
use crate::push::plan::KEEP_RUNS;
use crate::push::{Push, PushError, PushOptions};
use crate::store::BlobSource;

mod report;
mod transfer;
mod undo;

pub(super) use report::undo_hint;
use report::{tell_plan, tell_report};
use transfer::TransferArgs;

/// Arguments of `omk preheat`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  omk preheat web.bundle.tar --nodes nodes.yaml
  omk preheat web.bundle.tar --nodes nodes.yaml --dry-run
  omk preheat web.bundle.tar --nodes hosts.ini --limit workers -o json
  omk preheat web.bundle.tar --node root@10.0.0.11 --node admin@10.0.0.12:2222
  omk preheat web.bundle.tar --nodes nodes.yaml --background --bandwidth 50MB/s
  omk preheat web.bundle.tar --nodes nodes.yaml --pin --report preheat.html
  omk preheat web.bundle.tar --nodes nodes.yaml --atomic --prune
  omk preheat rollback --last --nodes nodes.yaml

An interrupted run goes on where it stopped when the same command is run again. Every run that changes a node has an id and is on
record there; `omk preheat rollback` undoes it.
Exit codes: 0 every node is ready, 4 some are not, 5 none is, 6 the bundle is damaged and no node was changed.")]
pub struct PreheatArgs {
    #[command(subcommand)]
    command: Option<undo::Command>,
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    transfer: TransferArgs,
    #[command(flatten)]
    proof: ProofArgs,
    /// Ask the nodes what they have and say what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
    /// How the plan or report is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    /// Go on although a disk seems too small, or so full that kubelet would remove images: what images unpack to is an estimate
    #[arg(long)]
    ignore_disk: bool,
    #[command(flatten)]
    reversal: ReversalArgs,
}

/// What becomes of a node when something fails, and of what earlier runs brought.
#[derive(Debug, Args)]
#[command(next_help_heading = "Undoing")]
struct ReversalArgs {
    /// Put a node that does not become ready back as it was before this run
    #[arg(long)]
    atomic: bool,
    /// When a node is ready, remove the images that earlier runs of omk added to it and that this bundle does not want; never
    /// what others put there, moved, pinned, or use in a container
    #[arg(long)]
    prune: bool,
    /// Runs that can be undone on a node, the newest ones: what names pointed at before them is kept, which takes disk
    #[arg(long, value_name = "N", default_value_t = KEEP_RUNS, value_parser = clap::value_parser!(u16).range(0..=32))]
    keep_runs: u16,
}

pub(super) async fn run(args: PreheatArgs, context: Context) -> Outcome {
    if let Some(command) = args.command {
        return undo::run(command, context).await;
    }
    args.proof.check()?;
    let asked = args.nodes.clone();
    let Chosen { nodes, targets, connector, reached } = args.nodes.choose(&context)?;
    let bundle = Arc::new(args.bundle.open_named(&context).await?);
    let (pin, deep) = (args.proof.pin, args.proof.deep);
    let push = Push {
        bundle: args.bundle.label(),
        images: bundle.images().to_vec(),
        left_out: bundle.delta().cloned().map(Arc::new),
        source: Arc::clone(&bundle) as Arc<dyn BlobSource>,
        targets,
        connector,
        options: PushOptions {
            ignore_disk: args.ignore_disk,
            pin,
            deep,
            atomic: args.reversal.atomic,
            prune: args.reversal.prune,
            keep_runs: Some(args.reversal.keep_runs),
            ..args.transfer.options()?
        },
        namespace: Some(args.nodes.namespace),
        parallel: usize::from(args.nodes.parallel),
        lanes: usize::from(args.transfer.streams),
        events: context.events.clone(),
        cancel: context.cancel.clone(),
    };
    if args.dry_run {
        let plan = push.plan().await;
        match args.output {
            OutputFormat::Json => output::json(&plan)?,
            OutputFormat::Table => {
                tell_plan(&plan, &nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>());
            }
        }
        return Ok(code(&context, plan.nodes.len(), plan.refused.len()));
    }
    let mut report = push.run().await.map_err(|e| push_error(&e))?;
    let way = Way { nodes: &nodes, reached: &reached };
    args.proof.tell(&mut report, Some(&bundle), &way, args.output, |report| {
        tell_report(report, &asked);
    })?;
    let ready = report.nodes.iter().filter(|n| n.ready()).count();
    Ok(code(&context, ready, report.nodes.len() - ready))
}

pub(super) fn push_error(error: &PushError) -> CliError {
    let PushError::Bundle(_) = error;
    CliError::failed(error.to_string())
        .with_code(exit::DAMAGED)
        .with_hint("copy the bundle again, or build it again; `omk bundle verify` names every bad blob")
}

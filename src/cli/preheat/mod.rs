//! `omk preheat`: a bundle's images onto nodes.

use std::sync::Arc;

use clap::Args;

use super::bundle::BundleArgs;
use super::nodes::{Chosen, NodeArgs};
use super::output::{self, OutputFormat};
use super::{CliError, Context, Outcome, exit};
use crate::push::{Push, PushError, PushOptions};

mod report;
mod transfer;

use report::{tell_plan, tell_report};
use transfer::TransferArgs;

/// Arguments of `omk preheat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk preheat web.bundle.tar --nodes nodes.yaml
  omk preheat web.bundle.tar --nodes nodes.yaml --dry-run
  omk preheat web.bundle.tar --nodes hosts.ini --limit workers -o json
  omk preheat web.bundle.tar --node root@10.0.0.11 --node admin@10.0.0.12:2222
  omk preheat web.bundle.tar --nodes nodes.yaml --background --bandwidth 50MB/s

An interrupted run goes on where it stopped when the same command is run again.
Exit codes: 0 every node is ready, 4 some are not, 5 none is, 6 the bundle is damaged and no node was changed.")]
pub struct PreheatArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    transfer: TransferArgs,
    /// Ask the nodes what they have and say what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
    /// How the plan or report is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    /// Go on although a disk seems too small, or so full that kubelet would remove images: what images unpack to is an estimate
    #[arg(long)]
    ignore_disk: bool,
}

pub(super) async fn run(args: PreheatArgs, context: Context) -> Outcome {
    let Chosen { nodes, targets, connector, .. } = args.nodes.choose(&context)?;
    let bundle = args.bundle.open_named(&context).await?;
    let order: Vec<String> = nodes.into_iter().map(|n| n.name).collect();
    let push = Push {
        bundle: args.bundle.label(),
        images: bundle.images().to_vec(),
        left_out: bundle.delta().cloned().map(Arc::new),
        source: Arc::new(bundle),
        targets,
        connector,
        options: PushOptions { ignore_disk: args.ignore_disk, ..args.transfer.options()? },
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
            OutputFormat::Table => tell_plan(&plan, &order),
        }
        return Ok(code(&context, plan.nodes.len(), plan.refused.len()));
    }
    let report = push.run().await.map_err(|e| push_error(&e))?;
    match args.output {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => tell_report(&report),
    }
    let ready = report.nodes.iter().filter(|n| n.ready()).count();
    Ok(code(&context, ready, report.nodes.len() - ready))
}

fn code(context: &Context, good: usize, bad: usize) -> u8 {
    match (good, bad) {
        (_, 0) => exit::OK,
        _ if context.cancel.is_cancelled() => exit::CANCELLED,
        (0, _) => exit::ALL_NODES_FAILED,
        _ => exit::SOME_NODES_FAILED,
    }
}

fn push_error(error: &PushError) -> CliError {
    let PushError::Bundle(_) = error;
    CliError::failed(error.to_string())
        .with_code(exit::DAMAGED)
        .with_hint("copy the bundle again, or build it again; `omk bundle verify` names every bad blob")
}

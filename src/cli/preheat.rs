//! `omk preheat`: a bundle's images onto nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::bundle::bundle_error;
use super::output::{self, OutputFormat, say, warn};
use super::{CliError, Context, Outcome, exit};
use crate::bundle::Bundle;
use crate::event::{Event, Events};
use crate::node::inventory::Address;
use crate::node::{
    Inventory, KnownHosts, LocalSession, Node, NodeError, NodeSession, SshOptions, SshSession,
};
use crate::push::{
    Connector, NodePlan, NodeReport, NodeResult, Push, PushError, PushOptions, PushPlan, PushReport, Target,
};
use crate::runtime::RuntimeChoice;

/// Arguments of `omk preheat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk preheat web.bundle.tar --nodes nodes.yaml
  omk preheat web.bundle.tar --nodes nodes.yaml --dry-run
  omk preheat web.bundle.tar --nodes nodes.yaml --limit worker1 --limit worker2 -o json

An interrupted run goes on where it stopped when the same command is run again.
Exit codes: 0 every node is ready, 4 some are not, 5 none is, 6 the bundle is damaged and no node was changed.")]
pub struct PreheatArgs {
    /// The bundle: a tar file or a folder
    bundle: PathBuf,
    /// The inventory: which nodes there are and how they are reached
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Trust the host keys of this file instead of those that `ssh` trusts
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// Only these nodes, by their names in the inventory
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    limit: Vec<String>,
    /// Ask the nodes what they have and say what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
    /// How the plan or report is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    /// Nodes at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    parallel: u16,
    /// Blobs at the same time to one node: more than one pays on links with latency
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    streams: u8,
    /// The runtime of nodes for which the inventory names none: auto, containerd, k3s, rke2, microk8s, canonical-k8s
    /// or image-folder
    #[arg(long, value_name = "RUNTIME", default_value = "auto")]
    runtime: String,
    /// containerd's namespace; kubelet looks into no other
    #[arg(long, value_name = "NAME", default_value = "k8s.io", value_parser = namespace)]
    namespace: String,
    /// Go on although a disk seems too small: what images unpack to is an estimate
    #[arg(long)]
    ignore_disk: bool,
}

/// containerd's own rule for identifiers.
fn namespace(word: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let good = word.len() <= 76
        && word.bytes().all(plain)
        && edge(word.bytes().next())
        && edge(word.bytes().next_back());
    if good { Ok(word.to_owned()) } else { Err("letters, digits, '.', '-' and '_', at most 76".to_owned()) }
}

pub(super) async fn run(args: PreheatArgs, context: Context) -> Outcome {
    let home = std::env::home_dir();
    let mut inventory = Inventory::load(&args.nodes, home.as_deref())?;
    let known_hosts = match &args.known_hosts {
        Some(file) => {
            let mut known = KnownHosts::new();
            known.load(file)?;
            known
        }
        None => KnownHosts::load_default(home.as_deref())?,
    };
    for message in inventory.warnings.iter().chain(&known_hosts.warnings).cloned() {
        context.events.emit(Event::Warning { message });
    }
    inventory.check_identities(&args.nodes, |n| args.limit.is_empty() || args.limit.contains(&n.name))?;
    inventory.nodes = limited(inventory.nodes, &args.limit)?;
    let usual: RuntimeChoice =
        args.runtime.parse().map_err(|e: crate::runtime::RuntimeError| CliError::usage(e.to_string()))?;
    let targets = inventory.nodes.iter().map(|n| target(n, &usual)).collect::<Result<Vec<_>, CliError>>()?;
    let bundle = Bundle::open(&args.bundle).await.map_err(|e| bundle_error(&e))?;
    let connector = Nodes {
        nodes: inventory.nodes.into_iter().map(|n| (n.name.clone(), n)).collect(),
        ssh: SshOptions::from_env(Arc::new(known_hosts)),
    };
    let push = Push {
        bundle: args.bundle.display().to_string(),
        images: bundle.images().to_vec(),
        source: Arc::new(bundle),
        targets,
        connector: Arc::new(connector),
        options: PushOptions { ignore_disk: args.ignore_disk },
        namespace: Some(args.namespace),
        parallel: usize::from(args.parallel),
        lanes: usize::from(args.streams),
        events: context.events.clone(),
        cancel: context.cancel.clone(),
    };
    if args.dry_run {
        let plan = push.plan().await;
        match args.output {
            OutputFormat::Json => output::json(&plan)?,
            OutputFormat::Table => tell_plan(&plan),
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

/// The nodes to use. A name that is not there is a mistake that must not pass unnoticed.
fn limited(nodes: Vec<Node>, limit: &[String]) -> Result<Vec<Node>, CliError> {
    let known: BTreeSet<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    if let Some(unknown) = limit.iter().find(|l| !known.contains(l.as_str())) {
        let names: Vec<&str> = known.into_iter().take(20).collect();
        let text = format!("--limit {unknown}: the inventory has no such node; it has {}", names.join(", "));
        return Err(CliError::usage(text));
    }
    Ok(nodes.into_iter().filter(|n| limit.is_empty() || limit.contains(&n.name)).collect())
}

/// What the inventory says about a node goes before what the command line says about all.
fn target(node: &Node, usual: &RuntimeChoice) -> Result<Target, CliError> {
    let said = node.runtime.as_deref().map(str::parse::<RuntimeChoice>).transpose();
    let said = said.map_err(|e| CliError::usage(format!("node {}: {e}", node.name)))?;
    let runtime = match (said, &node.image_folder) {
        (Some(RuntimeChoice::ImageFolder(_)) | None, Some(folder)) => {
            RuntimeChoice::ImageFolder(Some(folder.clone()))
        }
        (Some(choice), _) => choice,
        (None, None) => usual.clone(),
    };
    let (name, staging, platform) = (node.name.clone(), node.staging.clone(), node.platform.clone());
    Ok(Target { name, runtime, staging, platform })
}

/// The nodes of an inventory.
struct Nodes {
    nodes: BTreeMap<String, Node>,
    ssh: SshOptions,
}

#[async_trait]
impl Connector for Nodes {
    async fn connect(
        &self,
        name: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn NodeSession>, NodeError> {
        let node = self
            .nodes
            .get(name)
            .ok_or_else(|| NodeError::Other(format!("{name} is no node of the inventory")))?;
        Ok(match node.address {
            Address::Local => Box::new(local(node, cancel)?),
            Address::Ssh { .. } => Box::new(SshSession::connect(node, &self.ssh, events, cancel).await?),
        })
    }
}

fn local(node: &Node, cancel: &CancellationToken) -> Result<LocalSession, NodeError> {
    Ok(LocalSession::open(cancel)?.with_sudo_password(node.sudo_password.clone()))
}

fn tell_plan(plan: &PushPlan) {
    let row = |n: &NodePlan| {
        let ready = n.images.iter().filter(|i| i.ready).count();
        vec![
            n.node.clone(),
            n.platform.to_string(),
            n.runtime.clone(),
            format!("{ready} of {}", n.images.len()),
            format!("{} in {}", output::bytes(n.bytes), output::count(blobs(n.blobs), "blob")),
            output::bytes(n.bytes_skipped),
        ]
    };
    let rows: Vec<Vec<String>> = plan.nodes.iter().map(row).collect();
    if !rows.is_empty() {
        say(&output::table(&["NODE", "PLATFORM", "RUNTIME", "READY", "TO SEND", "THERE"], &rows));
    }
    for refused in &plan.refused {
        warn(&format!("{}: {}", refused.node, refused.reason));
    }
}

fn tell_report(report: &PushReport) {
    let row = |n: &NodeReport| {
        let state = match n.state {
            NodeResult::Ready => "ready",
            NodeResult::Failed => "failed",
            NodeResult::Refused => "refused",
        };
        let ready = n.images.iter().filter(|i| i.ready).count();
        vec![
            n.node.clone(),
            state.to_owned(),
            if n.images.is_empty() { "-".to_owned() } else { format!("{ready} of {}", n.images.len()) },
            format!("{} in {}", output::bytes(n.bytes_sent), output::count(blobs(n.blobs_sent), "blob")),
            output::bytes(n.bytes_skipped),
            format!("{}.{} s", n.duration_ms / 1000, n.duration_ms % 1000 / 100),
        ]
    };
    let rows: Vec<Vec<String>> = report.nodes.iter().map(row).collect();
    say(&output::table(&["NODE", "STATE", "IMAGES", "SENT", "THERE", "TIME"], &rows));
    for node in &report.nodes {
        if let Some(error) = &node.error {
            warn(&format!("{}: {error}", node.node));
        }
    }
}

fn blobs(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Flavor;

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            address: Address::Local,
            runtime: None,
            image_folder: None,
            staging: None,
            platform: None,
            sudo_password: None,
        }
    }

    #[test]
    fn the_inventory_goes_before_the_command_line() {
        let usual = RuntimeChoice::Containerd(Flavor::K3s);
        let choice = |runtime: Option<&str>, folder: Option<&str>| {
            let (runtime, image_folder) = (runtime.map(str::to_owned), folder.map(str::to_owned));
            target(&Node { runtime, image_folder, ..node("n") }, &usual).map(|t| t.runtime)
        };
        let folder = |f: &str| RuntimeChoice::ImageFolder(Some(f.to_owned()));
        assert_eq!(choice(None, None).unwrap(), usual);
        assert_eq!(choice(None, Some("/srv/i")).unwrap(), folder("/srv/i"));
        assert_eq!(choice(Some("image-folder"), Some("/srv/i")).unwrap(), folder("/srv/i"));
        assert_eq!(choice(Some("rke2"), Some("/srv/i")).unwrap(), RuntimeChoice::Containerd(Flavor::Rke2));
        assert_eq!(choice(Some("runc"), None).unwrap_err().code(), exit::USAGE);
    }

    #[test]
    fn sudo_on_this_machine_gets_the_inventorys_password() {
        let password = Some(crate::node::Secret::new("hunter2"));
        let session =
            local(&Node { sudo_password: password, ..node("n") }, &CancellationToken::new()).unwrap();
        let shown = format!("{session:?}");
        assert!(shown.contains("sudo_password: Some(") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_limit_that_names_nobody_is_wrong_usage() {
        let nodes = || vec![node("a"), node("b")];
        assert_eq!(limited(nodes(), &["b".into()]).unwrap().len(), 1);
        assert_eq!(limited(nodes(), &[]).unwrap().len(), 2);
        assert_eq!(limited(nodes(), &["c".into()]).unwrap_err().code(), exit::USAGE);
    }

    #[test]
    fn namespaces_are_containerds_identifiers() {
        assert!(["k8s.io", "moby", "a-b_c"].into_iter().all(|n| namespace(n).is_ok()));
        assert!(["", "-a", "a b", "a/b", "a."].into_iter().all(|n| namespace(n).is_err()));
    }
}

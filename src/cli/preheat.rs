//! `omk preheat`: a bundle's images onto nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::bundle::BundleArgs;
use super::output::{self, OutputFormat, say, warn};
use super::{CliError, Context, Outcome, exit};
use crate::event::{Event, Events};
use crate::node::inventory::Address;
use crate::node::{
    Inventory, KnownHosts, LocalSession, Node, NodeError, NodeSession, SshOptions, SshSession,
};
use crate::push::{
    Connector, NodePlan, NodeReport, NodeResult, Push, PushError, PushOptions, PushPlan, PushReport, Refused,
    Target,
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
    #[command(flatten)]
    bundle: BundleArgs,
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
    let bundle = args.bundle.open_named(&context).await?;
    let order: Vec<String> = inventory.nodes.iter().map(|n| n.name.clone()).collect();
    let connector = Nodes {
        nodes: inventory.nodes.into_iter().map(|n| (n.name.clone(), n)).collect(),
        ssh: SshOptions::from_env(Arc::new(known_hosts)),
    };
    let push = Push {
        bundle: args.bundle.label(),
        images: bundle.images().to_vec(),
        left_out: bundle.delta().cloned().map(Arc::new),
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

/// `order`: the nodes as the inventory has them; the plan keeps those that are refused apart.
fn tell_plan(plan: &PushPlan, order: &[String]) {
    say(&plan_table(plan, order));
    for refused in &plan.refused {
        warn(&format!("{}: {}", refused.node, refused.reason));
    }
    let images = plan
        .nodes
        .iter()
        .flat_map(|n| n.images.iter().filter(|i| i.ready).map(|i| (n.node.as_str(), i.note.as_deref())));
    notes(images).iter().for_each(|n| warn(n));
}

fn plan_table(plan: &PushPlan, order: &[String]) -> String {
    let dash = || "-".to_owned();
    let resumed = plan.nodes.iter().any(|n| n.bytes_resumed > 0);
    let row = |n: &NodePlan| {
        let ready = n.images.iter().filter(|i| i.ready).count();
        let state = if ready == n.images.len() { "ready" } else { "to do" };
        let mut cells = vec![
            n.node.clone(),
            state.to_owned(),
            n.platform.to_string(),
            n.runtime.clone(),
            format!("{ready} of {}", n.images.len()),
            format!("{} in {}", output::bytes(n.bytes), output::count(blobs(n.blobs), "blob")),
            output::bytes(n.bytes_skipped),
        ];
        cells.extend(resumed.then(|| output::bytes(n.bytes_resumed)));
        cells
    };
    let refusal = |r: &Refused| {
        let mut cells = vec![r.node.clone(), state(r.state).to_owned()];
        cells.extend((0..if resumed { 6 } else { 5 }).map(|_| dash()));
        cells
    };
    let place = |name: &str| order.iter().position(|n| n == name);
    let mut rows: Vec<Vec<String>> =
        plan.nodes.iter().map(row).chain(plan.refused.iter().map(refusal)).collect();
    rows.sort_by_key(|r| place(&r[0]));
    let mut head = vec!["NODE", "STATE", "PLATFORM", "RUNTIME", "READY", "TO SEND", "THERE"];
    head.extend(resumed.then_some("RESUMABLE"));
    output::table(&head, &rows)
}

fn state(result: NodeResult) -> &'static str {
    match result {
        NodeResult::Ready => "ready",
        NodeResult::Failed => "failed",
        NodeResult::Refused => "refused",
    }
}

fn tell_report(report: &PushReport) {
    say(&report_table(report));
    for node in &report.nodes {
        if let Some(error) = &node.error {
            warn(&format!("{}: {error}", node.node));
        }
    }
    let images = report
        .nodes
        .iter()
        .flat_map(|n| n.images.iter().filter(|i| i.ready).map(|i| (n.node.as_str(), i.reason.as_deref())));
    notes(images).iter().for_each(|n| warn(n));
}

fn report_table(report: &PushReport) -> String {
    let resumed = report.nodes.iter().any(|n| n.bytes_resumed > 0);
    let row = |n: &NodeReport| {
        let ready = n.images.iter().filter(|i| i.ready).count();
        let mut cells = vec![
            n.node.clone(),
            state(n.state).to_owned(),
            if n.images.is_empty() { "-".to_owned() } else { format!("{ready} of {}", n.images.len()) },
            format!("{} in {}", output::bytes(n.bytes_sent), output::count(blobs(n.blobs_sent), "blob")),
            output::bytes(n.bytes_skipped),
        ];
        cells.extend(resumed.then(|| output::bytes(n.bytes_resumed)));
        cells.push(format!("{}.{} s", n.duration_ms / 1000, n.duration_ms % 1000 / 100));
        cells
    };
    let rows: Vec<Vec<String>> = report.nodes.iter().map(row).collect();
    let mut head = vec!["NODE", "STATE", "IMAGES", "SENT", "THERE"];
    head.extend(resumed.then_some("RESUMED"));
    head.push("TIME");
    output::table(&head, &rows)
}

/// Nodes that a note names one by one.
const NAMED: usize = 8;

/// What is unusual about images that are ready, each thing once: `note: 3 images on n1, n2: …`. Takes ready images with
/// their nodes, node by node.
fn notes<'a>(ready: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<String> {
    let mut grouped: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for (node, note) in ready {
        let Some(note) = note else { continue };
        let (images, nodes) = grouped.entry(note).or_default();
        *images += 1;
        if nodes.last() != Some(&node) {
            nodes.push(node);
        }
    }
    let line = |(note, (images, nodes)): (&str, (usize, Vec<&str>))| {
        let mut on = nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if nodes.len() > NAMED {
            on += &format!(" and {} more", nodes.len() - NAMED);
        }
        format!("note: {} on {on}: {note}", output::count(images, "image"))
    };
    grouped.into_iter().map(line).collect()
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

    fn planned(node: &str, resumed: u64) -> NodePlan {
        NodePlan {
            node: node.into(),
            platform: "linux/amd64".parse().unwrap(),
            runtime: "containerd 2.1".into(),
            images: Vec::new(),
            blobs: 0,
            bytes: 0,
            bytes_skipped: 0,
            bytes_resumed: resumed,
            skipped: Vec::new(),
            disk: Vec::new(),
        }
    }

    #[test]
    fn a_refused_node_has_its_row_in_the_inventorys_order() {
        let refused = |node: &str, state| Refused { node: node.into(), state, reason: "why".into() };
        let (no, down) = (refused("a", NodeResult::Refused), refused("c", NodeResult::Failed));
        let mut plan = PushPlan { bundle: "b".into(), nodes: Vec::new(), refused: vec![no, down] };
        let order = ["a", "b", "c"].map(str::to_owned);
        let states = |plan: &PushPlan| -> Vec<String> {
            let table = plan_table(plan, &order);
            let two = |l: &str| l.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            table.lines().map(two).collect()
        };
        assert_eq!(states(&plan), ["NODE STATE", "a refused", "c failed"]);
        plan.nodes.push(planned("b", 0));
        assert_eq!(states(&plan), ["NODE STATE", "a refused", "b ready", "c failed"]);
        assert!(!plan_table(&plan, &order).contains("RESUMABLE"));
        plan.nodes[0].bytes_resumed = 4_200_000;
        let table = plan_table(&plan, &order);
        assert!(table.contains("RESUMABLE") && table.contains("4.2 MB"), "{table}");
    }

    #[test]
    fn notes_are_told_once_with_their_nodes() {
        let many: Vec<String> = (1..=10).map(|n| format!("n{n}")).collect();
        let all = many.iter().flat_map(|n| [(n.as_str(), Some("odd")), (n.as_str(), None)]);
        let some = [("n1", Some("other")), ("n1", Some("other")), ("n2", Some("other"))];
        assert_eq!(
            notes(all.chain(some)),
            [
                "note: 10 images on n1, n2, n3, n4, n5, n6, n7, n8 and 2 more: odd",
                "note: 3 images on n1, n2: other"
            ]
        );
    }

    #[test]
    fn namespaces_are_containerds_identifiers() {
        assert!(["k8s.io", "moby", "a-b_c"].into_iter().all(|n| namespace(n).is_ok()));
        assert!(["", "-a", "a b", "a/b", "a."].into_iter().all(|n| namespace(n).is_err()));
    }
}

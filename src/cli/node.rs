//! `omk node`: the nodes of an inventory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::PoisonError;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::nodes::NodeArgs;
use super::output::{self, OutputFormat, say, warn};
use super::proof::code;
use super::{CliError, Context, Outcome, exit};
use crate::node::Node;
use crate::node::inventory::Address;
use crate::node::ssh::route::Why;
use crate::oci::{Digest, Platform};
use crate::runtime::{Disk, NodeFacts};
use crate::store::write_small;

mod verify;

/// Subcommands of `omk node`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the nodes that would be used, and how they would be reached; connects to none
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Connect to every node and say what it runs: platform, runtime, images, free disk; changes nothing
    Check(CheckArgs),
    /// Write down what the nodes have, to be carried back for `omk bundle build --since`
    Inventory(InventoryArgs),
    /// Prove again that nodes have every image of a bundle or lock; changes nothing without --repair
    Verify(Box<verify::VerifyArgs>),
}

/// Arguments of `omk node list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk node list --nodes hosts.ini
  omk node list --nodes hosts.yaml --limit 'workers,!gpu'
  omk node list --nodes ~/.ssh/config --limit 'prod-*' --why
  kubectl get nodes -o json > nodes.json && omk node list --nodes nodes.json --user core")]
pub struct ListArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// Also say where each value comes from: the file and line, the option
    #[arg(long)]
    why: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk node check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk node check --nodes nodes.yaml
  omk node check --node root@10.0.0.11 -o json

Exit codes: 0 every node answered, 4 some did not, 5 none did.")]
pub struct CheckArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk node inventory`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk node inventory --nodes nodes.yaml -o nodes.json
  omk bundle build v2.yaml --since nodes.json -o delta.tar

What all nodes have is left out of the delta. A node that does not answer is an error: a delta would lack what it lacks.")]
pub struct InventoryArgs {
    #[command(flatten)]
    nodes: NodeArgs,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::List(args) => list(&args, &context),
        Command::Check(args) => check(&args, &context).await,
        Command::Inventory(args) => inventory(&args, &context).await,
        Command::Verify(args) => verify::run(*args, &context).await,
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    address: String,
    user: Option<&'a str>,
    identity: Option<&'a PathBuf>,
    /// What is between here and the node, the first host first.
    via: Vec<String>,
    runtime: Option<&'a str>,
    groups: &'a BTreeSet<String>,
    labels: &'a std::collections::BTreeMap<String, String>,
    sudo_password: bool,
    /// Where the values come from.
    why: &'a [Why],
}

impl<'a> Listed<'a> {
    fn of(node: &'a Node) -> Self {
        let (user, identity) = match &node.address {
            Address::Local => (None, None),
            Address::Ssh { user, identity, .. } => (Some(user.as_str()), identity.as_ref()),
        };
        Self {
            name: &node.name,
            address: node.address.to_string(),
            user,
            identity: identity.or(node.route.identities.first()),
            via: node.route.way(),
            runtime: node.runtime.as_deref(),
            groups: &node.groups,
            labels: &node.labels,
            sudo_password: node.sudo_password.is_some(),
            why: &node.route.why,
        }
    }
}

fn list(args: &ListArgs, context: &Context) -> Outcome {
    let nodes = args.nodes.nodes(context)?;
    let listed: Vec<Listed<'_>> = nodes.iter().map(Listed::of).collect();
    if args.output == OutputFormat::Json {
        output::json(&listed)?;
        return Ok(exit::OK);
    }
    let dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".to_owned());
    let via = listed.iter().any(|n| !n.via.is_empty());
    let row = |n: &Listed<'_>| {
        let mut row = vec![
            n.name.to_owned(),
            n.address.clone(),
            dash(n.user.map(str::to_owned)),
            dash(n.identity.map(|i| i.display().to_string())),
            dash(Some(n.groups.iter().cloned().collect::<Vec<_>>().join(","))),
            dash(n.runtime.map(str::to_owned)),
        ];
        if via {
            row.push(dash(Some(n.via.join(" → "))));
        }
        row
    };
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    let head = ["NODE", "ADDRESS", "USER", "KEY", "GROUPS", "RUNTIME", "VIA"];
    say(&output::table(&head[..if via { 7 } else { 6 }], &rows));
    if args.why {
        for node in &listed {
            say(&format!("\n{}", node.name));
            for why in node.why {
                say(&format!("  {} {}: {}", why.what, why.value, why.from));
            }
        }
    }
    Ok(exit::OK)
}

/// What a node told.
#[derive(Serialize)]
struct Checked {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    /// How it was recognised and logged in to.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    /// Names of images that it has.
    names: usize,
    /// Blobs that it has.
    blobs: usize,
    /// Bytes free where the runtime keeps images.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A node, how it was reached, what it told.
type Told = (String, Option<String>, Result<NodeFacts, String>);

async fn ask(args: &NodeArgs, context: &Context) -> Result<Vec<Told>, CliError> {
    let (push, nodes, reached) = args.push(context)?;
    let told = push.ask().await.into_iter().map(|facts| facts.map_err(|refused| refused.reason));
    let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
    let mut one = |name: String, facts| {
        let how = reached.remove(&name);
        (name, how, facts)
    };
    Ok(nodes.into_iter().zip(told).map(|(node, facts)| one(node.name, facts)).collect())
}

async fn check(args: &CheckArgs, context: &Context) -> Outcome {
    let told = ask(&args.nodes, context).await?;
    let free = |d: &Option<Disk>| d.as_ref().map(|d| d.free);
    let one = |(node, reached, facts): Told| match facts {
        Ok(facts) => Checked {
            node,
            reached,
            names: facts.names.len(),
            blobs: facts.content.len(),
            free: free(&facts.runtime_disk),
            platform: Some(facts.platform),
            runtime: Some(facts.runtime),
            error: None,
        },
        Err(error) => Checked {
            node,
            reached,
            platform: None,
            runtime: None,
            names: 0,
            blobs: 0,
            free: None,
            error: Some(error),
        },
    };
    let checked: Vec<Checked> = told.into_iter().map(one).collect();
    let bad = checked.iter().filter(|c| c.error.is_some()).count();
    match args.output {
        OutputFormat::Json => output::json(&checked)?,
        OutputFormat::Table => {
            let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let row = |c: &Checked| {
                vec![
                    c.node.clone(),
                    if c.error.is_some() { "failed".to_owned() } else { "ok".to_owned() },
                    dash(c.platform.as_ref().map(ToString::to_string)),
                    dash(c.runtime.clone()),
                    c.names.to_string(),
                    c.blobs.to_string(),
                    dash(c.free.map(output::bytes)),
                ]
            };
            let rows: Vec<Vec<String>> = checked.iter().map(row).collect();
            let head = ["NODE", "STATE", "PLATFORM", "RUNTIME", "NAMES", "BLOBS", "FREE"];
            say(&output::table(&head, &rows));
            for node in &checked {
                if let Some(how) = &node.reached {
                    say(&format!("{}: {how}", node.node));
                }
            }
            for node in &checked {
                if let Some(error) = &node.error {
                    warn(&format!("{}: {error}", node.node));
                }
            }
        }
    }
    Ok(code(context, checked.len() - bad, bad))
}

/// What `--since` reads; see [`crate::bundle::Base`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeInventory {
    api_version: &'static str,
    kind: &'static str,
    nodes: Vec<NodeBlobs>,
}

#[derive(Serialize)]
struct NodeBlobs {
    name: String,
    platform: Platform,
    blobs: BTreeSet<Digest>,
}

async fn inventory(args: &InventoryArgs, context: &Context) -> Outcome {
    output::destination("--output", &args.output)?;
    let (mut nodes, mut failed) = (Vec::new(), Vec::new());
    for (name, _, facts) in ask(&args.nodes, context).await? {
        match facts {
            Ok(facts) => nodes.push(NodeBlobs { name, platform: facts.platform, blobs: facts.content }),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    if !failed.is_empty() {
        let message =
            format!("{} did not answer:\n  {}", output::count(failed.len(), "node"), failed.join("\n  "));
        let code = if nodes.is_empty() { exit::ALL_NODES_FAILED } else { exit::SOME_NODES_FAILED };
        let hint = "nothing was written; --limit '!NODE' leaves a node out";
        return Err(CliError::failed(message).with_code(code).with_hint(hint));
    }
    let blobs: usize = nodes.iter().map(|n| n.blobs.len()).sum();
    let count = nodes.len();
    let text = serde_json::to_string(&NodeInventory { api_version: "omk/v1", kind: "NodeInventory", nodes })?;
    write_small(&args.output, text.as_bytes())?;
    let (nodes, blobs) = (output::count(count, "node"), output::count(blobs, "blob"));
    say(&format!("{}: {nodes}, {blobs}", args.output.display()));
    Ok(exit::OK)
}

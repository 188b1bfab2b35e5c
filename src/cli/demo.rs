//! `omk demo`: the whole way on this machine. It runs omk's own commands, in this process, on a small world that it
//! makes and removes.

use std::time::{Duration, Instant};

use clap::{Args, Parser as _};

use super::output::{self, say};
use super::{Cli, CliError, Context, Outcome, dispatch, exit};
use crate::demo::world::{NODES, World};

/// Arguments of `omk demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk demo
  omk demo --keep        # leaves the folder: the bundle, the chart and the nodes' image folders can be looked at

Nothing leaves this machine: a registry and two nodes listen on 127.0.0.1 while it runs.")]
pub struct DemoArgs {
    /// Leave the folder with everything in it
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(args: DemoArgs, context: Context) -> Outcome {
    let started = Instant::now();
    let mut folder = tempfile::Builder::new().prefix("omk-demo-").tempdir()?;
    let before = std::env::current_dir()?;
    // So that the commands read as a user would type them.
    std::env::set_current_dir(folder.path())?;
    let told = story(&folder, &context).await;
    std::env::set_current_dir(before)?;
    if args.keep {
        folder.disable_cleanup(true);
        say(&format!("\nThe folder stays: {}", folder.path().display()));
    } else {
        folder.close()?;
    }
    told?;
    let end = if args.keep { "" } else { " Everything it made is removed again." };
    say(&format!("\nThat took {}.{end}", seconds(started.elapsed())));
    Ok(exit::OK)
}

async fn story(folder: &tempfile::TempDir, context: &Context) -> Result<(), CliError> {
    let world = World::start(folder.path()).await?;
    let told = chapters(&world, context).await;
    world.stop().await;
    told
}

async fn chapters(world: &World, context: &Context) -> Result<(), CliError> {
    let registry = world.registry().to_string();
    let set = format!("registry={registry}");
    let platform = world.platform().to_string();
    say(&format!(
        "This is the whole way on this machine: a registry on {registry} with three small images,\n\
         and two nodes, {} and {}, behind SSH servers in this process. They keep images as k3s and\n\
         RKE2 read them: an archive for each in a folder.",
        NODES[0], NODES[1]
    ));
    let sources = ["backup.yaml", "chart", "--set", &set];
    let stage = Stage { world, context };

    stage.title("Which images does the shop need? A manifest and a Helm chart say so.");
    stage.run(&[&["image", "discover"], &sources[..]].concat()).await?;

    stage.title("Pull them into one file. Layers that images share are fetched and stored once.");
    let build = ["bundle", "build", "--plain-http", &registry, "--platform", &platform, "-o", "shop.tar"];
    stage.run(&[&build[..], &sources[..]].concat()).await?;
    stage.run(&["bundle", "verify", "shop.tar"]).await?;
    stage.run(&["bundle", "inspect", "shop.tar"]).await?;

    let nodes = ["--nodes", "nodes.yaml", "--known-hosts", "known_hosts"];
    stage.title(
        "Put it on both nodes at once. omk asks what they have, sends the rest, and lets them prove it.",
    );
    let first = stage.preheat("shop.tar", &nodes).await?;

    stage.title("Once more: everything is there, so nothing is sent.");
    let nothing = stage.preheat("shop.tar", &nodes).await?;

    stage.title("A patch release: shop/web 1.1 changes one layer.");
    world.release_patch()?;
    let build = ["bundle", "build", "--plain-http", &registry, "--platform", &platform, "-o", "shop-1.1.tar"];
    stage.run(&[&build[..], &sources[..], &["--set", "web.tag=1.1"]].concat()).await?;
    let patch = stage.preheat("shop-1.1.tar", &nodes).await?;

    say(&format!(
        "\nOn the wire, both nodes together: {} the first time, {} when nothing was new,\n{} for the patch release.",
        output::bytes(first),
        output::bytes(nothing),
        output::bytes(patch)
    ));
    Ok(())
}

struct Stage<'a> {
    world: &'a World,
    context: &'a Context,
}

impl Stage<'_> {
    fn title(&self, text: &str) {
        say(&format!("\n== {text}"));
    }

    /// Runs one of omk's own commands as if it had been typed.
    async fn run(&self, words: &[&str]) -> Result<(), CliError> {
        say(&format!("\n$ omk {}", words.join(" ")));
        let cli = Cli::try_parse_from(std::iter::once("omk").chain(words.iter().copied()))
            .map_err(|e| CliError::failed(e.to_string()))?;
        match Box::pin(dispatch(cli.command, self.context.clone())).await? {
            exit::OK => Ok(()),
            code => {
                Err(CliError::failed(format!("omk {} ended with {code}", words.join(" "))).with_code(code))
            }
        }
    }

    /// Returns the bytes that both nodes received.
    async fn preheat(&self, bundle: &str, nodes: &[&str]) -> Result<u64, CliError> {
        let before: u64 = self.world.received().iter().sum();
        self.run(&[&["preheat", bundle], nodes].concat()).await?;
        Ok(self.world.received().iter().sum::<u64>() - before)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

//! `omk image`: which images an input needs.

use clap::{Args, Subcommand};

use super::compare::{self, CompareArgs};
use super::registry::RegistryArgs;
use super::sources::{SourceArgs, code, tell};
use super::{CliError, Context, Outcome, OutputFormat, exit, output, say};
use crate::discover::{Findings, ImagePattern};

/// Subcommands of `omk image`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the images that manifests and charts need, and where they are named
    #[command(visible_alias = "ls")]
    Discover(Box<DiscoverArgs>),
    /// Compare a bundle with what a cluster runs
    Compare(CompareArgs),
}

/// Arguments of `omk image discover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image discover deploy/
  omk image discover ./web-chart -f values.prod.yaml --set web.replicas=3
  kubectl get pods -A -o yaml | omk image discover - -o json
  omk image discover deploy/ --why nginx            # any tag; nginx:1.27 for one
  omk image discover ./web-chart -n shop --release-name web --kube-version 1.31

Exit code 3 says that something could not be read and images may be missing.")]
pub struct DiscoverArgs {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Show every place that names this image, and nothing else: a name without tag stands for all its tags, the end of
    /// a name for the whole
    #[arg(long, value_name = "IMAGE")]
    why: Option<ImagePattern>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Discover(args) => run_discover(*args, context).await,
        Command::Compare(args) => compare::run(args, &context).await,
    }
}

async fn run_discover(args: DiscoverArgs, context: Context) -> Outcome {
    let mut found = args.sources.discover(&context, args.registry.options()?).await?;
    let code = code(&found);
    let mut near = Vec::new();
    if let Some(why) = &args.why {
        near = why.near(&found.images());
        why.keep_in(&mut found);
    }
    match (args.output, &args.why) {
        (OutputFormat::Json, _) => output::json(&found.report())?,
        (OutputFormat::Table, None) => say(&table(&found)),
        (OutputFormat::Table, Some(why)) => places(&found, why),
    }
    tell(&found);
    match args.why {
        Some(why) if found.findings.is_empty() => {
            let mut error = CliError::failed(format!("nothing names {why}"));
            if !near.is_empty() {
                error = error.with_hint(format!("there is {}", near.join(", ")));
            }
            Err(if code == exit::PARTIAL { error.with_code(code) } else { error })
        }
        _ => Ok(code),
    }
}

/// A line a place; with the image unless it is the one that was asked for.
fn places(found: &Findings, why: &ImagePattern) {
    let images = found.images();
    match images.as_slice() {
        [] => {}
        [one] if why.matches(one) => found.findings.iter().for_each(|f| say(&f.origin.to_string())),
        _ => {
            let row = |f: &crate::discover::Finding| vec![f.image.to_string(), f.origin.to_string()];
            let rows: Vec<_> = found.findings.iter().map(row).collect();
            say(&output::table(&["IMAGE", "WHERE"], &rows));
        }
    }
}

/// A line an image: its name, the first place that names it, and how many more there are.
fn table(found: &Findings) -> String {
    let row = |image: crate::discover::Needed<'_>| {
        let mut place = image.origins[0].origin.to_string();
        if image.origins.len() > 1 {
            place += &format!(" (+{} more)", image.origins.len() - 1);
        }
        vec![image.image.to_string(), place]
    };
    let rows: Vec<_> = found.by_image().into_iter().map(row).collect();
    output::table(&["IMAGE", "WHERE"], &rows)
}

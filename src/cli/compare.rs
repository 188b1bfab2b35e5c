//! `omk image compare`: a bundle beside what a cluster runs.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::bundle::BundleArgs;
use super::sources::{code, tell};
use super::{CliError, Context, Outcome, OutputFormat, exit, output, say, warn};
use crate::bundle::{Compared, State, compare};
use crate::discover::{Documents, Problem, Scope, read_running};

/// Arguments of `omk image compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl get pods,deploy,sts,ds,cronjobs -A -o json | omk image compare web.bundle.tar --running -
  omk image compare web.bundle.tar --running dump.json -o json

Exit code 8 says that the cluster runs an image that the bundle lacks, or another digest of one. Images that are in the
bundle only are told and change nothing.")]
pub struct CompareArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// What the cluster runs, as kubectl prints it in JSON or YAML; - is standard input
    #[arg(long, value_name = "FILE")]
    running: PathBuf,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[derive(Serialize)]
struct Report<'a> {
    images: &'a [Compared],
    problems: &'a [Problem],
    documents: Documents,
}

pub(super) async fn run(args: CompareArgs, context: &Context) -> Outcome {
    let bundle = args.bundle.open(context).await?.inspect();
    let path = args.running.clone();
    let work = tokio::task::spawn_blocking(move || read_running(&path, &Scope::default()));
    let running = tokio::select! {
        // Reading from a terminal ends with the next line only.
        () = context.cancel.cancelled() => return Err(CliError::cancelled()),
        done = work => done.map_err(|e| CliError::failed(format!("reading broke off: {e}")))??,
    };
    let images = compare(&bundle, &running);
    let found = &running.found;
    match args.output {
        OutputFormat::Json => {
            let (problems, documents) = (found.problems.as_slice(), found.documents);
            output::json(&Report { images: &images, problems, documents })?;
        }
        OutputFormat::Table => say(&table(&images)),
    }
    tell(found);
    warn(&summary(&images));
    let differs = images.iter().any(|i| matches!(i.state, State::Missing | State::OtherDigest));
    Ok(match code(found) {
        exit::OK if differs => exit::DIFFERENT,
        code => code,
    })
}

fn words(state: State) -> &'static str {
    match state {
        State::Missing => "not in bundle",
        State::OtherDigest => "other digest",
        State::Same => "same",
        State::NotRunning => "not running",
    }
}

fn table(images: &[Compared]) -> String {
    let row = |image: &Compared| {
        let running: Vec<&str> = image.running.iter().map(crate::oci::Digest::short).collect();
        let mut place = image.places.first().cloned().unwrap_or_default();
        if image.places.len() > 1 {
            place += &format!(" (+{} more)", image.places.len() - 1);
        }
        vec![
            words(image.state).to_owned(),
            image.image.clone(),
            image.bundle.as_ref().map_or("-", crate::oci::Digest::short).to_owned(),
            if running.is_empty() { "-".to_owned() } else { running.join(",") },
            place,
        ]
    };
    let rows: Vec<_> = images.iter().map(row).collect();
    output::table(&["STATE", "IMAGE", "BUNDLE", "RUNNING", "WHERE"], &rows)
}

fn summary(images: &[Compared]) -> String {
    let count = |state: State| images.iter().filter(|i| i.state == state).count();
    format!(
        "{} the same, {} not in the bundle, {} with another digest, {} not running",
        count(State::Same),
        count(State::Missing),
        count(State::OtherDigest),
        count(State::NotRunning)
    )
}

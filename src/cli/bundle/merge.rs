//! `omk bundle merge`.

use std::path::PathBuf;

use clap::Args;

use super::build::{FormArg, build_error, summary_of};
use super::bundle_error;
use crate::bundle::{self, Bundle, Form, MergeError, MergeRequest};
use crate::cli::output::{self, OutputFormat, say};
use crate::cli::{CliError, Context, Outcome, exit};

/// Arguments of `omk bundle merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle merge factory-6.bundle.tar factory-7.delta.tar -o factory-7.bundle.tar
  omk bundle merge web.bundle.tar db.bundle.tar -o all.bundle.tar

A delta and its base give the bytes that building without --since gives. Without a delta among them, the result has the
images of all.")]
pub struct MergeArgs {
    /// The bundles, in any order
    #[arg(required = true, num_args = 2..)]
    bundles: Vec<PathBuf>,
    /// The file or folder to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// One tar file, or a folder
    #[arg(long, value_enum, default_value_t = FormArg::Tar)]
    format: FormArg,
    /// How the summary is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
}

pub(super) async fn run(args: MergeArgs, context: Context) -> Outcome {
    let form = if args.format == FormArg::Tar { Form::Tar } else { Form::Folder };
    bundle::check_output(&args.output, form, &args.bundles).map_err(|e| build_error(&e))?;
    let mut bundles = Vec::new();
    for path in &args.bundles {
        bundles.push(Bundle::open(path).await.map_err(|e| bundle_error(&e))?);
    }
    let request = MergeRequest { bundles, output: args.output, form, parallel: 4 };
    let report = bundle::merge(request, &context.events, &context.cancel).await.map_err(|e| match e {
        MergeError::Build(error) => build_error(&error),
        other => CliError::failed(other.to_string()),
    })?;
    match args.summary {
        OutputFormat::Json => output::json(&report)?,
        // Nothing comes over a network.
        OutputFormat::Table => say(&summary_of(&report, "copied", report.fetched + report.own)),
    }
    Ok(exit::OK)
}

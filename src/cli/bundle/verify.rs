//! `omk bundle verify`.

use std::path::PathBuf;

use clap::Args;

use super::bundle_error;
use crate::bundle;
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::{Context, Outcome, exit};

/// Arguments of `omk bundle verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk bundle verify web.bundle.tar\n  omk bundle verify /media/usb/web.bundle.tar -o json"
)]
pub struct VerifyArgs {
    /// The bundle: a tar file or a folder
    bundle: PathBuf,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let report =
        bundle::verify(&args.bundle, &context.events, &context.cancel).await.map_err(|e| bundle_error(&e))?;
    let whole = report.whole();
    if args.output == OutputFormat::Json {
        output::json(&report)?;
        return Ok(if whole { exit::OK } else { exit::DAMAGED });
    }
    let (images, blobs) = (output::count(report.images, "image"), output::count(report.blobs, "blob"));
    let path = args.bundle.display();
    if whole {
        let whole = match &report.delta_of {
            Some(base) => format!("whole, as a delta on {base}"),
            None => "whole".to_owned(),
        };
        say(&format!("{path}: {whole}: {images}, {blobs}, {}", output::bytes(report.bytes)));
        return Ok(exit::OK);
    }
    for bad in &report.bad {
        say(&format!("bad  {}  {}", bad.entry, bad.reason));
    }
    warn(&format!(
        "error: {path} is damaged: {}",
        output::count(report.bad.len(), "bad entry").replace("entrys", "entries")
    ));
    Ok(exit::DAMAGED)
}

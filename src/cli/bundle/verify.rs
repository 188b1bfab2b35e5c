//! `omk bundle verify`.

use clap::Args;

use super::{BundleArgs, bundle_error};
use crate::bundle;
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::{Context, Outcome, exit};

/// Places of one volume that are told; all of them are in the JSON.
const RANGES: usize = 10;

/// Arguments of `omk bundle verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk bundle verify web.bundle.tar\n  omk bundle verify /media/usb/web.bundle.tar -o json"
)]
pub struct VerifyArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let report = bundle::verify_opened(&args.bundle.opening(context)).await.map_err(|e| bundle_error(&e))?;
    let whole = report.whole();
    if args.output == OutputFormat::Json {
        output::json(&report)?;
        return Ok(if whole { exit::OK } else { exit::DAMAGED });
    }
    let (images, blobs) = (output::count(report.images, "image"), output::count(report.blobs, "blob"));
    let path = args.bundle.label();
    if whole {
        let whole = match &report.delta_of {
            Some(base) => format!("whole, as a delta on {base}"),
            None => "whole".to_owned(),
        };
        say(&format!("{path}: {whole}: {images}, {blobs}, {}", output::bytes(report.bytes)));
        return Ok(exit::OK);
    }
    for bad in &report.bad_volumes {
        say(&format!("bad  {}  {}", bad.file.display(), bad.reason));
        for (start, end) in bad.ranges.iter().take(RANGES) {
            say(&format!("     bytes {start} to {}", end - 1));
        }
        if bad.ranges.len() > RANGES {
            say(&format!("     and {} more places", bad.ranges.len() - RANGES));
        }
    }
    for bad in &report.bad {
        say(&format!("bad  {}  {}", bad.entry, bad.reason));
    }
    let mut what = Vec::new();
    if !report.bad_volumes.is_empty() {
        what.push(output::count(report.bad_volumes.len(), "bad volume"));
    }
    if !report.bad.is_empty() {
        what.push(output::count(report.bad.len(), "bad entry").replace("entrys", "entries"));
    }
    warn(&format!("error: {path} is damaged: {}", what.join(", ")));
    if !report.bad_volumes.is_empty() {
        warn("hint: `omk bundle repair` computes volumes again if there is parity");
    }
    Ok(exit::DAMAGED)
}

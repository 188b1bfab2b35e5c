//! `omk bundle verify`.

use clap::Args;

use super::{BundleArgs, bundle_error};
use crate::bundle::{self, BaseKind, Verified};
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::{Context, Outcome, exit};

/// Places of one volume that are told; all of them are in the JSON.
const RANGES: usize = 10;

/// Arguments of `omk bundle verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle verify web.bundle.tar
  omk bundle verify /media/usb/web.bundle.tar -o json
  omk bundle verify delta.tar v1.tar     # each by itself, and that the delta finds in v1.tar what it leaves out

Several bundles are each verified, and what cannot be opened is told beside them; a delta among them is held against
the others.
Exit codes: 0 whole, 1 not a bundle, or not the base of the delta, 6 damaged.")]
pub struct VerifyArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: &VerifyArgs, context: &Context) -> Outcome {
    let all = bundle::verify_together(&args.bundle.opening(context)).await.map_err(|e| bundle_error(&e))?;
    let code = all.iter().map(code).max().unwrap_or(exit::OK);
    match (args.output, all.as_slice()) {
        // One bundle has been one object since there is this output.
        (OutputFormat::Json, [Verified { report: Ok(report), .. }]) => output::json(report)?,
        (OutputFormat::Json, all) => output::json(&all)?,
        (OutputFormat::Table, all) => all.iter().for_each(|one| tell(one, all)),
    }
    Ok(code)
}

/// Damage weighs more than a base that is not the right one, or what is no bundle.
fn code(verified: &Verified) -> u8 {
    match (&verified.report, &verified.lacks) {
        (Err(error), _) => bundle_error(error).code(),
        (Ok(report), _) if !report.whole() => exit::DAMAGED,
        (_, Some(lacks)) if !lacks.is_empty() => exit::FAILED,
        _ => exit::OK,
    }
}

fn named(verified: &Verified) -> String {
    verified.paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// What to do about a base that none of what is given is, as far as it can be read.
fn base(base: &str, all: &[Verified]) -> String {
    let unread: Vec<String> = all.iter().filter(|v| v.report.is_err()).map(named).collect();
    if unread.is_empty() {
        return format!("it was built against {base}: {}", BaseKind::give(base));
    }
    let unread = unread.join(", ");
    format!(
        "it was built against {base}; {unread} was given, but cannot be opened: if that is it, give a whole copy"
    )
}

fn tell(verified: &Verified, all: &[Verified]) {
    let path = named(verified);
    let report = match &verified.report {
        Ok(report) => report,
        Err(error) => return bundle_error(error).report(),
    };
    let (images, blobs) = (output::count(report.images, "image"), output::count(report.blobs, "blob"));
    if report.whole() {
        let whole = match (&report.delta_of, &verified.lacks) {
            (None, _) => "whole".to_owned(),
            (Some(on), None) => format!("whole, as a delta on {on}"),
            (Some(_), Some(lacks)) if lacks.is_empty() => {
                "whole, as a delta whose rest is in what is given with it".to_owned()
            }
            (Some(on), Some(lacks)) => {
                let (lacks, then) = (output::count(lacks.len(), "blob"), base(on, all));
                warn(&format!("error: {path} leaves out {lacks} that nothing given with it has; {then}"));
                format!("whole by itself, as a delta on {on}")
            }
        };
        return say(&format!("{path}: {whole}: {images}, {blobs}, {}", output::bytes(report.bytes)));
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
    } else {
        warn("hint: copy the bundle again from where it is whole, or build it again");
    }
}

//! `omk bundle repair`.

use std::path::PathBuf;

use clap::Args;

use super::bundle_error;
use crate::bundle::{BundleError, RepairReport, VolumeError, is_bundle, repair};
use crate::cli::{CliError, Context, Outcome, OutputFormat, exit, output, say};

/// Arguments of `omk bundle repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle repair /media/usb/web                  # writes damaged and missing volumes anew
  omk bundle repair /mnt/disc1 /mnt/disc2 -o fixed  # from media that cannot be written to

Needs volumes with parity (`omk bundle split --parity 10%`). What can be used of a damaged volume is used.
Exit codes: 0 all volumes are whole now, 1 it could not be done, 6 more is lost than parity can stand in for.")]
pub struct RepairArgs {
    /// The folder of the volumes, any one of them, or several paths
    #[arg(value_name = "VOLUMES", required = true)]
    volumes: Vec<PathBuf>,
    /// Write the volumes that are rebuilt here, and touch nothing else
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
}

pub(super) async fn run(args: &RepairArgs, context: &Context) -> Outcome {
    let report = repair(&args.volumes, args.output.clone(), &context.events, &context.cancel)
        .await
        .map_err(|e| not_repaired(e, &args.volumes))?;
    match args.summary {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => say(&summary(&report)),
    }
    Ok(exit::OK)
}

/// A bundle that lies on no volumes has no parity: it is not damaged for that, and only a copy helps if it is.
fn not_repaired(error: VolumeError, paths: &[PathBuf]) -> CliError {
    match (&error, paths) {
        (VolumeError::None { path }, [_]) if is_bundle(path) => CliError::usage(format!(
            "{} is one file or folder and no media set: only volumes (`omk bundle split --parity 10%`) can be repaired",
            path.display()
        ))
        .with_hint("`omk bundle verify` says whether it is damaged; then copy it again, or build it again"),
        _ => bundle_error(&BundleError::Volumes(error)),
    }
}

fn summary(report: &RepairReport) -> String {
    let volumes = output::count(usize::try_from(report.volumes).unwrap_or(0), "volume");
    let mut lines: Vec<String> = report
        .rebuilt
        .iter()
        .map(|r| {
            format!("rebuilt  {}  {} computed; {}", r.file.display(), output::bytes(r.computed), r.reason)
        })
        .collect();
    lines.push(match report.rebuilt.len() {
        0 => format!("all of {volumes} are whole; nothing to do"),
        n => format!("{n} of {volumes} rebuilt; all are whole now"),
    });
    lines.join("\n")
}

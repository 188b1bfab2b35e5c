//! `omk cache clear`.

use clap::Args;

use super::super::output::{self, OutputFormat, say};
use super::super::{Outcome, exit};
use super::{cache, cache_error};

/// Arguments of `omk cache clear`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk cache clear --dry-run
  omk cache clear            # all but pinned images
  omk cache clear --all      # everything, the pins too

Nothing is removed while another omk uses the cache.")]
pub struct ClearArgs {
    /// Remove pinned images, the pins and the statistics too
    #[arg(long)]
    all: bool,
    /// Say what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) fn run(args: &ClearArgs) -> Outcome {
    let report = cache()?.clear(args.all, args.dry_run).map_err(cache_error)?;
    if args.output == OutputFormat::Json {
        output::json(&report)?;
        return Ok(exit::OK);
    }
    let would = if report.dry_run { "would be " } else { "" };
    let mut text = format!(
        "{} {would}removed, {} in {} {would}freed",
        output::count(report.images, "image"),
        output::bytes(report.freed),
        output::count(report.blobs, "blob")
    );
    if report.kept > 0 {
        text += &format!("; {} pinned, kept (--all removes these too)", output::count(report.kept, "image"));
    }
    say(&text);
    Ok(exit::OK)
}

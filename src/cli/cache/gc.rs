//! `omk cache gc`.

use std::time::Duration;

use clap::Args;

use super::super::output::{self, OutputFormat, say, warn};
use super::super::{Outcome, exit};
use super::{cache, cache_error};
use crate::cache::{GcOptions, GcReport};
use crate::discover::Exclusion;
use crate::units;

/// Arguments of `omk cache gc`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk cache gc                                    # blobs that no image needs
  omk cache gc --older-than 30d --dry-run         # and images that were not used for 30 days: which?
  omk cache gc --max-size 20GB --pin 'registry.k8s.io/*'

Images go by their last use, the longest unused first; pinned ones (`omk cache pin`) never. What another omk is using stays.
Blobs that no image needs stay while they are younger than --grace, for another tool may be about to name them.")]
pub struct GcArgs {
    /// Give up images until the blobs have at most this size: 20GB, 500MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    max_size: Option<u64>,
    /// Give up images that were not used for so long: 30d, 12h, 2w
    #[arg(long, value_name = "AGE", value_parser = units::parse_duration)]
    older_than: Option<Duration>,
    /// Keep these images in this run: a name, or a pattern with * for any characters; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pin: Vec<Exclusion>,
    /// Keep blobs that no image needs while they are younger
    #[arg(long, value_name = "AGE", default_value = "1h", value_parser = units::parse_duration)]
    grace: Duration,
    /// Say what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) fn run(args: GcArgs) -> Outcome {
    let options = GcOptions {
        max_size: args.max_size,
        unused_for: args.older_than,
        pins: args.pin,
        grace: args.grace,
        dry_run: args.dry_run,
    };
    let report = cache()?.gc(&options).map_err(cache_error)?;
    match args.output {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => say(&told(&report)),
    }
    if report.over > 0 {
        let over = output::bytes(report.over);
        warn(&format!("warning: {over} over --max-size could not be freed: pinned, young, or in use"));
    }
    Ok(exit::OK)
}

fn told(report: &GcReport) -> String {
    let would = if report.dry_run { "would be " } else { "" };
    let mut lines = Vec::new();
    for image in &report.images {
        lines.push(format!("{}  {}  last used {}", image.reason, image.image, image.last_used));
    }
    let mut end = format!(
        "{} {would}given up, {} in {} {would}freed, {} left",
        output::count(report.images.len(), "image"),
        output::bytes(report.freed),
        output::count(report.blobs, "blob"),
        output::bytes(report.size)
    );
    if report.young > 0 {
        let young = output::bytes(report.young);
        end += &format!(
            "; {young} of it no image needs, but it is young or in use (--grace 0s frees the young)"
        );
    }
    lines.push(end);
    lines.join("\n")
}

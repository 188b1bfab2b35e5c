//! `omk cache stats|verify|path`.

use clap::Args;

use super::super::output::{self, OutputFormat, say};
use super::super::{Context, Outcome, exit};
use super::{cache, cache_error, verified};
use crate::cache::Statistics;

/// Arguments of `omk cache stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk cache stats
  omk cache stats -o json | jq .hit_rate

Sizes of layers that are unpacked are what they say themselves, so an estimate.")]
pub struct StatsArgs {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk cache verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk cache verify
  omk cache verify -o json | jq -r '.bad[].entry'

A damaged blob is put away into quarantine/, is never used, and is fetched again by the next pull of an image that needs it.
Exit code 6 says that something was damaged or missing.")]
pub struct VerifyArgs {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk cache path`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk cache path
  skopeo copy oci:$(omk cache path):docker.io/library/nginx:1.27 docker://registry.lan/nginx:1.27")]
pub struct PathArgs {}

pub(super) fn stats(args: &StatsArgs) -> Outcome {
    let found = cache()?.statistics().map_err(cache_error)?;
    match args.output {
        OutputFormat::Json => output::json(&found)?,
        OutputFormat::Table => say(&table(&found)),
    }
    Ok(exit::OK)
}

fn table(s: &Statistics) -> String {
    let bytes = output::bytes;
    let percent = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{:.0} %", n * 100.0));
    let mut lines = vec![
        format!("path             {}", s.path.display()),
        format!("images           {} ({} pinned)", s.images, s.pinned),
        format!("size             {} unpacked", bytes(s.size)),
        format!("compressed size  {} in {}", bytes(s.compressed_size), output::count(s.blobs, "blob")),
        format!("ratio            {}", s.ratio.map_or("-".to_owned(), |r| format!("{r:.2}"))),
        format!("shared           {} saved", bytes(s.shared)),
        format!(
            "hit rate         {} ({} of {} images)",
            percent(s.hit_rate),
            s.image_hits,
            s.image_hits + s.image_misses
        ),
        format!("bytes            {} taken from here, {} fetched", bytes(s.bytes_hit), bytes(s.bytes_missed)),
        format!("last update      {}", s.last_update.as_deref().unwrap_or("-")),
    ];
    if s.unneeded + s.partial > 0 {
        lines.push(format!(
            "to be freed      {} that no image needs, {} incomplete",
            bytes(s.unneeded),
            bytes(s.partial)
        ));
    }
    if s.quarantined > 0 {
        lines.push(format!("quarantine       {}", output::count(s.quarantined, "damaged file")));
    }
    lines.join("\n")
}

pub(super) async fn verify(args: &VerifyArgs, context: &Context) -> Outcome {
    let cache = cache()?;
    let report = cache.verify(&[], &context.events, &context.cancel).await.map_err(cache_error)?;
    verified(&cache, &report, args.output)
}

pub(super) fn path(_: &PathArgs) -> Outcome {
    say(&cache()?.root().display().to_string());
    Ok(exit::OK)
}

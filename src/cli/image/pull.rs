//! `omk image pull`.

use clap::Args;

use super::super::cache::{cache, cache_error};
use super::super::output::{self, OutputFormat, say, warn};
use super::super::registry::{RegistryArgs, platforms};
use super::super::{CliError, Context, Outcome, exit};
use crate::cache::{PullReport, PullRequest};
use crate::oci::ImageRef;
use crate::registry::{Registry, RegistryOptions};

/// Arguments of `omk image pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image pull nginx:1.27 registry.k8s.io/pause:3.10
  omk image pull --platform linux/amd64,linux/arm64 quay.io/cilium/cilium:v1.18.2
  omk image discover deploy/ -o refs | omk image pull -
  omk image pull --pin registry.k8s.io/pause:3.10
  omk image pull --with-referrers registry.lan/shop/web:1.4    # and its signatures, attestations, SBOMs

What is in the cache already is not fetched again; an interrupted pull goes on where it stopped when the same command is run
again. Exit code 3 says that some images could not be had and the others were.")]
pub struct PullArgs {
    /// Images; - reads names from standard input, one a line
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Take this platform of each image, may be given more than once; `all` takes every one that an image has
    #[arg(long, value_name = "OS/ARCH", default_value = "linux/amd64", value_delimiter = ',')]
    platform: Vec<String>,
    /// Never give these images up: see `omk cache pin`
    #[arg(long)]
    pin: bool,
    /// Also take what refers to the images: signatures, attestations, SBOMs; one that is listed and lost is an error
    #[arg(long)]
    with_referrers: bool,
    /// Blobs that are fetched at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(super) async fn run(args: PullArgs, context: &Context) -> Outcome {
    let images = images(&args.images)?;
    let platforms = platforms(&args.platform)?;
    let cache = cache()?;
    // Without --with-referrers the cache asks only to mend what it has.
    let options = RegistryOptions { with_referrers: true, ..args.registry.options()? };
    let registry = Registry::new(options)?;
    if args.pin {
        let names: Vec<String> = images.iter().map(ToString::to_string).collect();
        cache.pin(&names, &[]).map_err(cache_error)?;
    }
    let (parallel, with_referrers) = (usize::from(args.parallel), args.with_referrers);
    let request = PullRequest { images, platforms, parallel, with_referrers };
    let report =
        cache.pull(&request, &registry, &context.events, &context.cancel).await.map_err(cache_error)?;
    report.failed.iter().for_each(|f| warn(&format!("error: {}", f.reason)));
    match args.output {
        OutputFormat::Json => output::json(&report)?,
        // Nothing was pulled: the errors have said all.
        OutputFormat::Table if report.images.is_empty() => {}
        OutputFormat::Table => say(&table(&report)),
    }
    Ok(match (report.images.len(), report.failed.len()) {
        (_, 0) => exit::OK,
        (0, _) => exit::FAILED,
        _ => exit::PARTIAL,
    })
}

/// Names as given, and those of standard input where `-` stands.
pub(super) fn images(given: &[String]) -> Result<Vec<ImageRef>, CliError> {
    let mut names = Vec::new();
    for name in given {
        if name != "-" {
            names.push(name.clone());
            continue;
        }
        let lines = std::io::stdin().lines();
        for line in lines {
            let line =
                line.map_err(|e| CliError::failed(format!("cannot read names from standard input: {e}")))?;
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                names.push(line.to_owned());
            }
        }
    }
    names
        .iter()
        .map(|n| n.parse().map_err(|e: crate::oci::ReferenceError| CliError::usage(e.to_string())))
        .collect()
}

fn table(report: &PullReport) -> String {
    let row = |i: &crate::cache::PulledImage| {
        let mut how = if i.cached { "there already" } else { "pulled" }.to_owned();
        if i.referrers > 0 {
            how += &format!(", with {} about it", output::count(i.referrers, "artifact"));
        }
        vec![i.image.to_string(), i.digest.short().to_owned(), output::bytes(i.size), how]
    };
    let rows: Vec<_> = report.images.iter().map(row).collect();
    let mut text = output::table(&["IMAGE", "DIGEST", "SIZE", ""], &rows) + "\n\n";
    text +=
        &format!("{} fetched, {} there already", output::bytes(report.fetched), output::bytes(report.cached));
    if report.resumed > 0 {
        text += &format!(", {} kept from an interrupted run", output::bytes(report.resumed));
    }
    text + &format!(" in {:.1} s", report.duration_ms as f64 / 1000.0)
}

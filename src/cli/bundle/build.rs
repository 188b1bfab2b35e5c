//! `omk bundle build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::bundle::{self, BuildError, BuildReport, BuildRequest, Form};
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::registry::RegistryArgs;
use crate::cli::sources::{SourceArgs, code, tell};
use crate::cli::{CliError, Context, Outcome, exit};
use crate::discover::{Confidence, Needed};
use crate::oci::Platform;
use crate::registry::Registry;
use crate::store::StoreError;

/// Arguments of `omk bundle build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle build deploy.yaml ./charts/web -f prod.yaml -o web.bundle.tar
  omk bundle build --image registry.k8s.io/pause:3.10 --platform linux/arm64 -o pause.bundle.tar
  omk bundle build deploy/ --plain-http registry.lan:5000 --format folder -o /media/usb/web

An interrupted build goes on where it stopped when the same command is run again.")]
pub struct BuildArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Take this platform of each image, may be given more than once; `all` takes every one that an image has
    #[arg(long, value_name = "OS/ARCH", default_value = "linux/amd64", value_delimiter = ',')]
    platform: Vec<String>,
    /// The file or folder to write
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// One tar file, or a folder
    #[arg(long, value_enum, default_value_t = FormArg::Tar)]
    format: FormArg,
    /// How the summary is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
    /// Blobs that are fetched at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormArg {
    /// An uncompressed tar file, which `ctr images import` reads as it is
    Tar,
    /// An OCI image layout in a folder
    Folder,
}

/// What cannot be read among the sources does not keep the rest from being built; the exit code says so.
pub(super) async fn run(args: BuildArgs, context: Context) -> Outcome {
    let platforms = platforms(&args.platform)?;
    let form = if args.format == FormArg::Tar { Form::Tar } else { Form::Folder };
    bundle::check_output(&args.output, form, args.sources.paths()).map_err(|e| build_error(&e))?;
    let options = args.registry.options()?;
    let registry = Registry::new(options.clone())?;
    let found = args.sources.discover(&context, options).await?;
    tell(&found);
    let mut code = code(&found);
    if code == exit::FAILED {
        return Ok(code);
    }
    // Without an image that is missing a pod does not start; an image that is none must not keep the rest from coming.
    let (needed, likely): (Vec<_>, Vec<_>) =
        found.by_image().into_iter().partition(|n| n.confidence >= Confidence::Strong);
    let images = |all: &[Needed<'_>]| all.iter().map(|n| n.image.clone()).collect::<Vec<_>>();
    let request = BuildRequest {
        images: images(&needed),
        optional: images(&likely),
        platforms,
        output: args.output,
        form,
        parallel: usize::from(args.parallel),
    };
    let report = bundle::build(&request, &registry, &context.events, &context.cancel)
        .await
        .map_err(|e| build_error(&e))?;
    for left_out in &report.left_out {
        let named = likely.iter().find(|n| *n.image == left_out.image).map(|n| n.origins[0].to_string());
        warn(&format!("warning: left out: {}\n  named by {}", left_out.reason, named.unwrap_or_default()));
        code = exit::PARTIAL;
    }
    match args.summary {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => say(&build_summary(&report)),
    }
    Ok(code)
}

fn platforms(given: &[String]) -> Result<Vec<Platform>, CliError> {
    if given.iter().any(|p| p == "all") {
        return Ok(Vec::new());
    }
    given.iter().map(|p| p.parse().map_err(|e| CliError::usage(format!("--platform: {e}")))).collect()
}

fn build_error(error: &BuildError) -> CliError {
    match error {
        BuildError::Cancelled
        | BuildError::Store(StoreError::Cancelled)
        | BuildError::Begin(StoreError::Cancelled) => CliError::cancelled(),
        BuildError::Empty => CliError::failed(error.to_string()).with_hint(
            "`omk image discover` with the same sources shows what was read; --image adds an image by name",
        ),
        BuildError::Store(StoreError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            CliError::failed(error.to_string())
                .with_hint("what was fetched is kept: make room, then run the same command again to go on")
        }
        BuildError::Store(_) => CliError::failed(error.to_string())
            .with_hint("what was fetched is kept: run the same command again to go on"),
        other => CliError::failed(other.to_string()),
    }
}

fn build_summary(report: &BuildReport) -> String {
    let mut text = format!(
        "{}: {}, {}, {}; {} fetched",
        report.output.display(),
        output::count(report.images.len(), "image"),
        output::count(report.blobs, "blob"),
        output::bytes(report.size),
        output::bytes(report.fetched),
    );
    if report.resumed > 0 {
        text += &format!(", {} kept from an interrupted run", output::bytes(report.resumed));
    }
    text + &format!(" in {:.1} s", report.duration_ms as f64 / 1000.0)
}

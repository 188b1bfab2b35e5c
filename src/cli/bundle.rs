//! `omk bundle`: build, verify, inspect.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::output::{self, OutputFormat, say, warn};
use super::registry::RegistryArgs;
use super::sources::{SourceArgs, code, tell};
use super::{CliError, Context, Outcome, exit};
use crate::bundle::{self, BuildError, BuildReport, BuildRequest, Bundle, BundleError, Form, Inspection};
use crate::discover::{Confidence, Needed};
use crate::oci::Platform;
use crate::registry::Registry;
use crate::store::StoreError;

/// Subcommands of `omk bundle`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pull the images that sources need into a bundle
    Build(Box<BuildArgs>),
    /// Hash every blob of a bundle and name each bad one
    Verify(VerifyArgs),
    /// Say what is in a bundle
    Inspect(InspectArgs),
}

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

/// Arguments of `omk bundle inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk bundle inspect web.bundle.tar\n  omk bundle inspect web.bundle.tar -o json | jq -r '.images[].names[0]'"
)]
pub struct InspectArgs {
    /// The bundle: a tar file or a folder
    bundle: PathBuf,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Build(args) => build(*args, context).await,
        Command::Verify(args) => verify(&args, &context).await,
        Command::Inspect(args) => inspect(&args).await,
    }
}

/// Damage has an exit code of its own: a script must tell a bad stick from a wrong path.
pub(super) fn bundle_error(error: &BundleError) -> CliError {
    if error.is_damage() {
        let hint = "copy the bundle again, or build it again where the registry can be reached";
        return CliError::failed(error.to_string()).with_code(exit::DAMAGED).with_hint(hint);
    }
    match error {
        BundleError::Store(StoreError::Cancelled) => CliError::cancelled(),
        other => CliError::failed(other.to_string()),
    }
}

/// What cannot be read among the sources does not keep the rest from being built; the exit code says so.
async fn build(args: BuildArgs, context: Context) -> Outcome {
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

async fn verify(args: &VerifyArgs, context: &Context) -> Outcome {
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
        say(&format!("{path}: whole: {images}, {blobs}, {}", output::bytes(report.bytes)));
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

async fn inspect(args: &InspectArgs) -> Outcome {
    let bundle = Bundle::open(&args.bundle).await.map_err(|e| bundle_error(&e))?;
    let found = bundle.inspect();
    match args.output {
        OutputFormat::Json => output::json(&found)?,
        OutputFormat::Table => say(&inspection_table(&found)),
    }
    Ok(exit::OK)
}

fn inspection_table(found: &Inspection) -> String {
    let mut rows = Vec::new();
    for image in &found.images {
        let platforms: Vec<String> = image
            .variants
            .iter()
            .map(|v| v.platform.as_ref().map_or("-".to_owned(), ToString::to_string))
            .collect();
        let layers: usize = image.variants.iter().map(|v| v.layers.len()).sum();
        let tagged: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
        let shown = if tagged.is_empty() { image.names.iter().collect() } else { tagged };
        for name in shown {
            rows.push(vec![
                name.clone(),
                image.digest.short().to_owned(),
                platforms.join(","),
                layers.to_string(),
                output::bytes(image.size),
            ]);
        }
    }
    let table = output::table(&["IMAGE", "DIGEST", "PLATFORM", "LAYERS", "SIZE"], &rows);
    format!(
        "{table}\n\n{}, {}, {}; {} saved by sharing blobs",
        output::count(found.images.len(), "image"),
        output::count(found.blobs, "blob"),
        output::bytes(found.size),
        output::bytes(found.shared)
    )
}

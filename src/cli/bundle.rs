//! `omk bundle`: build, verify, inspect.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::{self, OutputFormat, say, warn};
use super::{CliError, Context, Outcome, exit};
use crate::bundle::{self, Bundle, BundleError, Inspection};

/// Subcommands of `omk bundle`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hash every blob of a bundle and name each bad one
    Verify(VerifyArgs),
    /// Say what is in a bundle
    Inspect(InspectArgs),
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
        BundleError::Store(crate::store::StoreError::Cancelled) => CliError::cancelled(),
        other => CliError::failed(other.to_string()),
    }
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

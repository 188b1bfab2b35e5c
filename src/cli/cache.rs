//! `omk cache`: the place where pulled images are kept.

use clap::Subcommand;

use super::output::{self, OutputFormat, say, warn};
use super::{CliError, Context, Outcome, exit};
use crate::cache::{CacheError, ImageCache, VerifyReport};
use crate::store::StoreError;

mod args;
mod clear;
mod gc;
mod pin;
mod show;

pub use args::CacheArgs;

/// Subcommands of `omk cache`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is in the image cache and what it was good for
    Stats(show::StatsArgs),
    /// Delete blobs that no image needs, and images by age or until a size is reached
    Gc(gc::GcArgs),
    /// Hash every blob, put damaged ones away and name each image that is not whole
    Verify(show::VerifyArgs),
    /// Remove all images but pinned ones
    Clear(clear::ClearArgs),
    /// Name images that are never given up
    Pin(pin::PinArgs),
    /// Print where the image cache is
    Path(show::PathArgs),
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Stats(args) => show::stats(&args),
        Command::Gc(args) => gc::run(args),
        Command::Verify(args) => show::verify(&args, &context).await,
        Command::Clear(args) => clear::run(&args),
        Command::Pin(args) => pin::run(&args),
        Command::Path(args) => show::path(&args),
    }
}

/// The cache of whoever runs the command.
pub(super) fn cache() -> Result<ImageCache, CliError> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let root = ImageCache::default_root(env).ok_or_else(|| {
        CliError::usage("there is nowhere to keep images: set OMK_HOME or HOME to a folder")
    })?;
    Ok(ImageCache::new(root))
}

pub(super) fn cache_error(error: CacheError) -> CliError {
    match &error {
        CacheError::Store(StoreError::Cancelled) => CliError::cancelled(),
        CacheError::Store(StoreError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            CliError::failed(error.to_string()).with_hint("what was fetched is kept")
        }
        CacheError::NotCached { image, .. } => CliError::failed(error.to_string()).with_hint(format!(
            "omk image pull {} fetches it; omk image list shows what is there",
            image.familiar()
        )),
        CacheError::Incomplete { image, .. } => CliError::failed(error.to_string())
            .with_code(exit::DAMAGED)
            .with_hint(format!("omk image pull {} fetches what is missing", image.familiar())),
        _ => CliError::failed(error.to_string()),
    }
}

/// Tells what a check found. Damage has an exit code of its own.
pub(super) fn verified(report: &VerifyReport, output: OutputFormat) -> Outcome {
    let code = if report.whole() { exit::OK } else { exit::DAMAGED };
    if output == OutputFormat::Json {
        output::json(report)?;
        return Ok(code);
    }
    let (images, blobs) = (output::count(report.images, "image"), output::count(report.blobs, "blob"));
    if report.whole() {
        say(&format!("whole: {images}, {blobs}, {}", output::bytes(report.bytes)));
        return Ok(code);
    }
    for bad in &report.bad {
        let users = users(&bad.images);
        say(&format!("bad      {}  {}; needed by {users}", bad.entry, bad.reason));
        if let Some(quarantine) = &bad.quarantine {
            say(&format!("         put away as {quarantine}"));
        }
    }
    for missing in &report.missing {
        say(&format!("missing  {}  needed by {}", missing.digest.layout_path(), users(&missing.images)));
    }
    let damaged = report.damaged();
    let (bad, missing) = (report.bad.len(), report.missing.len());
    warn(&format!(
        "error: {} damaged, {missing} missing, {} not whole",
        output::count(bad, "file"),
        output::count(damaged.len(), "image")
    ));
    if !damaged.is_empty() {
        let names: Vec<String> = damaged.iter().map(crate::oci::ImageRef::familiar).collect();
        warn(&format!("hint: omk image pull {}", names.join(" ")));
    }
    Ok(code)
}

fn users(images: &[crate::oci::ImageRef]) -> String {
    match images {
        [] => "no image".to_owned(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    }
}

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
        CacheError::Store(StoreError::Io { source, .. })
            if matches!(
                source.kind(),
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            CliError::failed(error.to_string()).with_hint(
                "set OMK_HOME to a folder that you may write to; a cache that can only be read serves `omk bundle build` as it is",
            )
        }
        CacheError::NotCached { image, path, .. } => CliError::failed(error.to_string()).with_hint(format!(
            "`{}` fetches it; `omk image list` shows what is there",
            pull(path, std::slice::from_ref(image))
        )),
        CacheError::Incomplete { image, path, .. } => CliError::failed(error.to_string())
            .with_code(exit::DAMAGED)
            .with_hint(format!("`{}` fetches what is missing", pull(path, std::slice::from_ref(image)))),
        _ => CliError::failed(error.to_string()),
    }
}

/// The command that brings images into the cache.
fn pull(path: &std::path::Path, images: &[crate::oci::ImageRef]) -> String {
    ImageCache::new(path).pull_command(images, None, false, &[])
}

/// Tells what a check found. Damage has an exit code of its own.
pub(super) fn verified(cache: &ImageCache, report: &VerifyReport, output: OutputFormat) -> Outcome {
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
        warn(&format!("hint: {}", cache.pull_command(&damaged, None, false, &[])));
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

//! `omk bundle`: one file a subcommand.

use clap::Subcommand;

use super::{CliError, Context, Outcome, exit};
use crate::bundle::{BuildError, BundleError, VolumeError};

mod args;
mod build;
mod definition;
mod diff;
mod export;
mod extract;
mod inspect;
mod list;
mod lock;
mod merge;
mod repair;
mod split;
mod verify;

pub use args::BundleArgs;

/// Subcommands of `omk bundle`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pull the images that sources need into a bundle
    Build(Box<build::BuildArgs>),
    /// Show what is different between two bundles: images, charts, layers, bytes
    Diff(diff::DiffArgs),
    /// Make one whole bundle of a delta and its base, or of several bundles
    Merge(merge::MergeArgs),
    /// Write down what a bundle definition stands for now: the digest of every image, chart and file
    Lock(Box<lock::LockCommand>),
    /// Hash every blob of a bundle and name each bad one
    Verify(verify::VerifyArgs),
    /// Put a bundle's images into a registry
    Push(Box<super::push::PushArgs>),
    /// Say what is in a bundle
    Inspect(inspect::InspectArgs),
    /// List the images of a bundle
    List(list::ListArgs),
    /// Write what is in a bundle into a folder: images as an OCI layout, charts, manifests, files
    Extract(extract::ExtractArgs),
    /// Write a bundle onto volumes: files no larger than a medium, and parity
    Split(split::SplitArgs),
    /// Compute missing and damaged volumes again from the others
    Repair(repair::RepairArgs),
    /// Write images of a bundle as a file that other tools read
    Export(export::ExportArgs),
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Build(args) => build::run(*args, context).await,
        Command::Diff(args) => diff::run(&args).await,
        Command::Merge(args) => merge::run(args, context).await,
        Command::Lock(args) => lock::run(*args, context).await,
        Command::Push(args) => super::push::bundle(*args, context).await,
        Command::Verify(args) => verify::run(&args, &context).await,
        Command::Inspect(args) => inspect::run(&args, &context).await,
        Command::List(args) => list::run(&args, &context).await,
        Command::Extract(args) => extract::run(&args, &context).await,
        Command::Split(args) => split::run(&args, &context).await,
        Command::Repair(args) => repair::run(&args, &context).await,
        Command::Export(args) => export::run(&args, &context).await,
    }
}

/// Damage has an exit code of its own: a script must tell a bad stick from a wrong path.
pub(super) fn bundle_error(error: &BundleError) -> CliError {
    if let BundleError::Volumes(volumes) = error
        && volumes.is_damage()
    {
        let text = CliError::failed(error.to_string()).with_code(exit::DAMAGED);
        return match volumes {
            VolumeError::Missing { .. } => {
                text.with_hint("`omk bundle repair` computes volumes again if there is parity")
            }
            _ => text,
        };
    }
    if error.is_damage() {
        let hint = "copy the bundle again, or build it again where the registry can be reached";
        return CliError::failed(error.to_string()).with_code(exit::DAMAGED).with_hint(hint);
    }
    if error.is_cancelled() {
        return CliError::cancelled();
    }
    CliError::failed(error.to_string())
}

/// Of what is made from a bundle: its damage is told as such, whenever it shows.
fn made_error(error: BuildError) -> CliError {
    match error {
        BuildError::Cancelled => CliError::cancelled(),
        BuildError::Volumes(error) => bundle_error(&BundleError::Volumes(error)),
        BuildError::Store(error) | BuildError::Begin(error) => bundle_error(&BundleError::Store(error)),
        other => CliError::failed(other.to_string()),
    }
}

//! `omk bundle`: one file a subcommand.

use clap::Subcommand;

use super::{CliError, Context, Outcome, exit};
use crate::bundle::BundleError;
use crate::store::StoreError;

mod build;
mod definition;
mod diff;
mod inspect;
mod lock;
mod merge;
mod verify;

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
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Build(args) => build::run(*args, context).await,
        Command::Diff(args) => diff::run(&args).await,
        Command::Merge(args) => merge::run(args, context).await,
        Command::Lock(args) => lock::run(*args, context).await,
        Command::Push(args) => super::push::bundle(*args, context).await,
        Command::Verify(args) => verify::run(&args, &context).await,
        Command::Inspect(args) => inspect::run(&args).await,
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

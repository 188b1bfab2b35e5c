//! `omk bundle`: build, verify, inspect.

use clap::Subcommand;

use super::{Context, Outcome};

/// Subcommands of `omk bundle`.
#[derive(Debug, Subcommand)]
pub enum Command {}

pub(super) async fn run(command: Command, _: Context) -> Outcome {
    match command {}
}

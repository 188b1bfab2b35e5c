//! `omk cache pin`.

use clap::Args;

use super::super::output::{self, OutputFormat, say};
use super::super::{Outcome, exit};
use super::{cache, cache_error};

/// Arguments of `omk cache pin`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk cache pin                                   # what is pinned
  omk cache pin 'registry.k8s.io/*' nginx:1.27
  omk cache pin --remove nginx:1.27

A pinned image survives `omk cache gc` and `omk cache clear`, whether it is in the cache yet or not.")]
pub struct PinArgs {
    /// Names, or patterns with * for any characters; a name without tag stands for all its tags
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Take these pins away instead, written as they were
    #[arg(long, requires = "patterns")]
    remove: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) fn run(args: &PinArgs) -> Outcome {
    let cache = cache()?;
    let pins = match (args.patterns.as_slice(), args.remove) {
        ([], _) => cache.pinned(),
        (some, false) => cache.pin(some, &[]),
        (some, true) => cache.pin(&[], some),
    };
    let pins = pins.map_err(cache_error)?;
    match args.output {
        OutputFormat::Json => output::json(&pins)?,
        OutputFormat::Table => pins.iter().for_each(|p| say(p)),
    }
    Ok(exit::OK)
}

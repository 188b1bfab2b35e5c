//! `omk bundle lock`.

use clap::Args;
use serde::Serialize;

use super::build::platforms;
use super::definition::{LockArgs, by_need, gathered};
use crate::bundle::{self, Lock};
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::registry::RegistryArgs;
use crate::cli::sources::{SourceArgs, code, tell};
use crate::cli::{CliError, Context, Outcome, exit};
use crate::oci::ImageRef;
use crate::registry::Registry;

/// Arguments of `omk bundle lock`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle lock bundle.yaml
  omk bundle lock bundle.yaml --lock-file releases/2026-11.lock
  omk bundle build bundle.yaml --locked -o factory.bundle.tar

The lock holds the digest of every image, chart and file. `omk bundle build bundle.yaml` takes what it says, so that a
rebuild gives the same bytes whatever tags stand for by then.")]
pub struct LockCommand {
    #[command(flatten)]
    sources: SourceArgs,
    /// Take this platform of each image [default: what the definition says, else linux/amd64]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Also lock what refers to the images: signatures, attestations, SBOMs; `referrers: true` in the definition says
    /// the same
    #[arg(long)]
    with_referrers: bool,
    /// The lock to write [default: bundle.lock beside bundle.yaml]
    #[arg(long, value_name = "FILE")]
    lock_file: Option<std::path::PathBuf>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    lock_file: &'a std::path::Path,
    images: usize,
    charts: usize,
    files: usize,
    changes: &'a [String],
    left_out: &'a [ImageRef],
}

pub(super) async fn run(args: LockCommand, context: Context) -> Outcome {
    let Some(definition) = args.sources.definition()? else {
        let hint = "a bundle definition begins with apiVersion: omk/v1 and kind: Bundle; for other sources there is \
                    `omk image discover --lock FILE`";
        return Err(CliError::usage("there is no bundle definition to lock").with_hint(hint));
    };
    let at = LockArgs { locked: false, lock_file: args.lock_file.clone() }.path(&definition);
    output::destination("--lock-file", &at)?;
    let platforms =
        if args.platform.is_empty() { definition.spec.platforms() } else { platforms(&args.platform)? };
    let mut options = args.registry.options()?;
    options.with_referrers = args.with_referrers || definition.spec.referrers;
    let registry = Registry::new(options.clone())?;
    let before = if at.exists() { Some(Lock::read(&at)?) } else { None };
    let gathered = gathered(&definition, before.as_ref(), true, &args.sources, options, &context).await?;
    tell(&gathered.findings);
    let mut code = code(&gathered.findings);
    if code == exit::FAILED {
        return Ok(code);
    }
    let (needed, likely) = by_need(&gathered.findings);
    let all: Vec<ImageRef> = needed.iter().chain(&likely).cloned().collect();
    let with_referrers = registry.options().with_referrers;
    let locked = bundle::lock(&all, &platforms, with_referrers, &registry, &context.events, &context.cancel)
        .await
        .map_err(|_| CliError::cancelled())?;
    let left_out: Vec<ImageRef> =
        likely.iter().filter(|i| !locked.lock.images.contains_key(*i)).cloned().collect();
    if needed.iter().any(|i| !locked.lock.images.contains_key(i)) {
        let message = format!("not every image can be had:\n  {}", locked.failed.join("\n  "));
        return Err(CliError::failed(message).with_hint(format!("{} is as it was", at.display())));
    }
    for reason in &locked.failed {
        warn(&format!("warning: left out: {reason}"));
        code = exit::PARTIAL;
    }
    let lock = Lock { left_out, charts: gathered.charts, files: gathered.files, ..locked.lock };
    let changes = before.as_ref().map(|b| b.changes(&lock)).unwrap_or_default();
    lock.write(&at)?;
    match args.output {
        OutputFormat::Json => output::json(&Report {
            lock_file: &at,
            images: lock.images.len(),
            charts: lock.charts.len(),
            files: lock.files.len(),
            changes: &changes,
            left_out: &lock.left_out,
        })?,
        OutputFormat::Table => {
            changes.iter().for_each(|change| say(change));
            let (images, charts) =
                (output::count(lock.images.len(), "image"), output::count(lock.charts.len(), "chart"));
            say(&format!(
                "{}: {images}, {charts}, {}",
                at.display(),
                output::count(lock.files.len(), "file")
            ));
        }
    }
    Ok(code)
}

//! `omk bundle build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::bundle_error;
use super::definition::{LockArgs, by_need, drift, gathered};
use super::split::{self, VolumeArgs};
use crate::bundle::definition::{GatherError, Gathered, origin};
use crate::bundle::{
    self, Base, BaseError, BuildError, BuildReport, BuildRequest, Definition, Form, Lock, Opening, Pinned,
    SplitReport, SplitRequest, VolumeSize,
};
use crate::cli::cache::CacheArgs;
use crate::cli::output::{self, OutputFormat, say, warn};
use crate::cli::registry::{self, RegistryArgs};
use crate::cli::sources::{SourceArgs, code, tell};
use crate::cli::{CliError, Context, Outcome, exit};
use crate::discover::Findings;
use crate::oci::Platform;
use crate::registry::{Registry, RegistryOptions};
use crate::store::StoreError;

/// Arguments of `omk bundle build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle build deploy.yaml ./charts/web -f prod.yaml -o web.bundle.tar
  omk bundle build --image registry.k8s.io/pause:3.10 --platform linux/arm64 -o pause.bundle.tar
  omk bundle build bundle.yaml --locked
  omk bundle build bundle.yaml --since factory-6.bundle.tar -o factory-7.delta.tar
  omk bundle build bundle.yaml --split dvd --parity 10% -o discs
  omk bundle build deploy/ --plain-http registry.lan:5000 --format folder -o /media/usb/web
  omk bundle build deploy/ --cache -o web.bundle.tar      # and keep what was fetched for later builds
  omk bundle build deploy/ --offline -o web.bundle.tar    # from the cache alone

An interrupted build goes on where it stopped when the same command is run again.")]
pub struct BuildArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Take this platform of each image, may be given more than once; `all` takes every one that an image has
    /// [default: what a bundle definition says, else linux/amd64]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// The file or folder to write [default: with a bundle definition NAME.bundle.tar]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// One tar file, or a folder
    #[arg(long, value_enum, default_value_t = FormArg::Tar)]
    format: FormArg,
    /// Make a delta: leave out the blobs that the other side has by this bundle, bundle.lock, or list of what nodes have
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// How the summary is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
    /// Blobs that are fetched at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Write volumes into the folder that --output names: files no larger than fat32 takes (less than 4 GiB), a dvd, a
    /// bd, or a size such as 700MB. The bundle is built in that folder first, so it needs room for both
    #[arg(long, value_name = "SIZE", value_parser = split::size, conflicts_with = "format")]
    split: Option<(VolumeSize, bool)>,
    #[command(flatten)]
    volumes: VolumeArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Also take what refers to the images: signatures, attestations, SBOMs; one that is listed and lost is an error
    #[arg(long)]
    with_referrers: bool,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormArg {
    /// An uncompressed tar file, which `ctr images import` reads as it is
    Tar,
    /// An OCI image layout in a folder
    Folder,
}

/// A build onto volumes.
#[derive(serde::Serialize)]
struct Split<'a> {
    #[serde(flatten)]
    bundle: &'a BuildReport,
    volumes: &'a SplitReport,
}

/// Where the bundle is built before it is split, so that an interrupted build goes on like any other.
fn staged(
    size: (VolumeSize, bool),
    folder: PathBuf,
    volumes: &VolumeArgs,
) -> Result<(PathBuf, Option<SplitRequest>), CliError> {
    match std::fs::create_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.map_err(StoreError::io("create", &folder))?,
    }
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
    let staged = folder.join(format!("{}.tar", name.unwrap_or_else(|| "bundle".to_owned())));
    let request = volumes.request(size, folder, None)?;
    Ok((staged, Some(request)))
}

/// What goes into the bundle.
struct Wanted {
    found: Findings,
    gathered: Gathered,
    /// Kept, and still all that is asked for.
    lock: Option<Lock>,
}

/// What cannot be read among the sources does not keep the rest from being built; the exit code says so.
pub(super) async fn run(args: BuildArgs, context: Context) -> Outcome {
    let definition = args.sources.definition()?;
    if let Some(path) = args.sources.paths().iter().find(|p| p.is_file() && bundle::is_bundle(p)) {
        let text =
            format!("{} is a bundle already, and a bundle is built from what names images", path.display());
        return Err(CliError::usage(text).with_hint(
            "give manifests, charts or a bundle.yaml; `--since BUNDLE` leaves out what a bundle has, `omk bundle merge` makes one \
             of several, `omk bundle split` writes one onto volumes",
        ));
    }
    let platforms = match &definition {
        Some(definition) if args.platform.is_empty() => definition.spec.platforms(),
        _ => platforms(&args.platform)?,
    };
    let form = if args.format == FormArg::Tar { Form::Tar } else { Form::Folder };
    let output = match (&args.output, &definition) {
        (Some(output), _) => output.clone(),
        (None, Some(definition)) if form == Form::Tar => format!("{}.bundle.tar", definition.name).into(),
        (None, Some(definition)) => format!("{}.bundle", definition.name).into(),
        (None, None) => return Err(CliError::usage("say where to write the bundle: -o FILE")),
    };
    let (output, volumes) = match args.split {
        None => (output, None),
        Some(size) => staged(size, output, &args.volumes)?,
    };
    bundle::check_output(&output, form, args.sources.paths()).map_err(|e| build_error(&e))?;
    let mut options = args.registry.options()?;
    options.with_referrers = referrers(&args, definition.as_ref());
    let registry = Registry::new(options.clone())?;
    let images = args.cache.images(registry, args.sources.offline()).await?;
    let wanted = match &definition {
        Some(definition) => defined(definition, &platforms, &args, options, &context).await?,
        None => Wanted {
            found: args.sources.discover(&context, options).await?,
            gathered: Gathered::default(),
            lock: None,
        },
    };
    let found = &wanted.found;
    tell(found);
    let mut code = code(found);
    if code == exit::FAILED {
        return Ok(code);
    }
    // Without an image that is missing a pod does not start; an image that is none must not keep the rest from coming.
    let (needed, mut likely) = by_need(found);
    if let Some(lock) = &wanted.lock {
        likely.retain(|image| !lock.left_out.contains(image));
    }
    let mut artifacts = wanted.gathered.artifacts;
    artifacts.extend(definition.as_ref().map(|d| origin(d, wanted.lock.as_ref())));
    let groups = wanted.gathered.groups;
    let lock = wanted.lock.unwrap_or_default();
    let upstream = Pinned { inner: images.upstream(), lock: &lock };
    let base = match &args.since {
        Some(path) => Some(
            Base::read(path, &upstream, &context.events, &context.cancel)
                .await
                .map_err(|e| base_error(path, e))?,
        ),
        None => None,
    };
    let request = BuildRequest {
        images: needed.into_iter().collect(),
        optional: likely.into_iter().collect(),
        platforms,
        output,
        form,
        parallel: usize::from(args.parallel),
        groups,
        artifacts,
        base,
    };
    let report = bundle::build(&request, &upstream, &context.events, &context.cancel)
        .await
        .map_err(|e| build_error(&e))?;
    images.built(&request.output, request.parallel, &context).await?;
    for left_out in &report.left_out {
        let all = found.by_image();
        let named = all.iter().find(|n| *n.image == left_out.image).map(|n| n.origins[0].to_string());
        warn(&format!("warning: left out: {}\n  named by {}", left_out.reason, named.unwrap_or_default()));
        code = exit::PARTIAL;
    }
    if let Some(volumes) = volumes {
        let bundle = Opening::new([&report.output]).told(&context.events, &context.cancel);
        let bundle = bundle.open().await.map_err(|e| bundle_error(&e))?;
        let written = split::write(&bundle, &volumes, &context).await?;
        drop(bundle);
        // All of it is on the volumes now.
        std::fs::remove_file(&report.output).map_err(StoreError::io("remove", &report.output))?;
        match args.summary {
            OutputFormat::Json => output::json(&Split { bundle: &report, volumes: &written })?,
            OutputFormat::Table => say(&format!("{}\n{}", build_summary(&report), split::summary(&written))),
        }
        return Ok(code);
    }
    match args.summary {
        OutputFormat::Json => output::json(&report)?,
        OutputFormat::Table => say(&build_summary(&report)),
    }
    Ok(code)
}

/// All that a definition asks for, held against its lock.
async fn defined(
    definition: &Definition,
    platforms: &[Platform],
    args: &BuildArgs,
    options: RegistryOptions,
    context: &Context,
) -> Result<Wanted, CliError> {
    let lock = args.lock.read(definition)?;
    let mut gathered = gathered(definition, lock.as_ref(), false, &args.sources, options, context).await?;
    let found = std::mem::take(&mut gathered.findings);
    let Some(lock) = lock else { return Ok(Wanted { found, gathered, lock: None }) };
    let mut drift = drift(&lock, platforms, &found, &gathered);
    let referrers = referrers(args, Some(definition));
    if referrers != lock.referrers.is_some() {
        let how =
            if referrers { "wanted, and was not locked" } else { "not wanted any more, and was locked" };
        drift.push(format!("what refers to the images (referrers) is {how}"));
    }
    if drift.is_empty() {
        return Ok(Wanted { found, gathered, lock: Some(lock) });
    }
    let at = args.lock.path(definition);
    if args.lock.locked {
        return Err(GatherError::Drift { path: definition.path.clone(), lock: at, drift }.into());
    }
    warn(&format!(
        "warning: {} is not what {} was made for; `omk bundle lock` brings it up to date:\n  {}",
        definition.path.display(),
        at.display(),
        drift.join("\n  ")
    ));
    // What it still says of images holds.
    let locked = lock.referrers.filter(|_| referrers);
    let lock = Lock { left_out: Vec::new(), referrers: locked, ..lock };
    Ok(Wanted { found, gathered, lock: Some(lock) })
}

/// Whether what refers to the images is to be taken too.
fn referrers(args: &BuildArgs, definition: Option<&Definition>) -> bool {
    args.with_referrers || definition.is_some_and(|definition| definition.spec.referrers)
}

pub(super) fn platforms(given: &[String]) -> Result<Vec<Platform>, CliError> {
    if given.is_empty() {
        return Ok(vec![Platform::linux_amd64()]);
    }
    registry::platforms(given)
}

/// A base is a bundle like any other: its damage has the exit code of damage.
fn base_error(path: &std::path::Path, error: BaseError) -> CliError {
    match error {
        BaseError::Cancelled => CliError::cancelled(),
        BaseError::Bundle(error) if error.is_damage() => bundle_error(&error).with_hint(format!(
            "the base of a delta must be whole: copy {} again, or give --since the bundle.lock that it was built from",
            path.display()
        )),
        BaseError::Bundle(error) => bundle_error(&error),
        other => CliError::failed(other.to_string()),
    }
}

pub(super) fn build_error(error: &BuildError) -> CliError {
    match error {
        BuildError::Cancelled
        | BuildError::Store(StoreError::Cancelled)
        | BuildError::Begin(StoreError::Cancelled) => CliError::cancelled(),
        BuildError::Empty => CliError::failed(error.to_string()).with_hint(
            "`omk image discover` with the same sources shows what was read; --image adds an image by name",
        ),
        BuildError::Store(_) => CliError::failed(error.to_string())
            .with_hint("what was fetched is kept: run the same command again to go on"),
        other => CliError::failed(other.to_string()),
    }
}

pub(super) fn build_summary(report: &BuildReport) -> String {
    summary_of(report, "fetched", report.fetched)
}

/// `how`: what happened to the bytes that came from elsewhere.
pub(super) fn summary_of(report: &BuildReport, how: &str, bytes: u64) -> String {
    let mut text = format!(
        "{}: {}, {}, {}; {} {how}",
        report.output.display(),
        output::count(report.images.len(), "image"),
        output::count(report.blobs, "blob"),
        output::bytes(report.size),
        output::bytes(bytes),
    );
    if let Some((blobs, bytes)) = report.in_base {
        text += &format!("; {} of {} left to the base", output::bytes(bytes), output::count(blobs, "blob"));
    }
    if report.cached > 0 {
        text += &format!(", {} from the cache", output::bytes(report.cached));
    }
    if report.referrers > 0 {
        let refer = if report.referrers == 1 { "refers" } else { "refer" };
        text += &format!(", with {} that {refer} to them", output::count(report.referrers, "artifact"));
    }
    if report.resumed > 0 {
        text += &format!(", {} kept from an interrupted run", output::bytes(report.resumed));
    }
    text + &format!(" in {:.1} s", report.duration_ms as f64 / 1000.0)
}

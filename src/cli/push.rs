//! `omk bundle push` and `omk image copy`: images into a registry.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::output::{self, OutputFormat, say, warn};
use super::registry::{RegistryArgs, platforms};
use super::{CliError, Context, Outcome, exit};
use crate::bundle::{BaseKind, Bundle};
use crate::event::Event;
use crate::oci::{Digest, ImageRef};
use crate::registry::{
    Mapping, PushError, PushImage, PushOptions, PushReport, PushState, Registry, Unsure, push,
};
use crate::store::{BlobSource, StoreError};

/// Arguments of `omk bundle push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle push web.bundle.tar oci://harbor.lan/project
  omk bundle push web.bundle.tar oci://zot.lan:5000 --plain-http zot.lan:5000 --dry-run
  omk bundle push web.bundle.tar oci://h.lan/p --map 'docker.io/library/=oci://h.lan/hub/'
  omk bundle push web.bundle.tar --map docker.io=oci://h.lan/hub --map quay.io=oci://h.lan/quay

docker.io/library/nginx:1.27 becomes harbor.lan/project/library/nginx:1.27: the registry is replaced, the rest of a name
stays. --map FROM=TO replaces the beginning of names instead; the longest FROM counts. Without a target every image needs
a rule that fits it.

What the registry has is skipped, so that a push that broke off goes on when it is run again. Exit code 3 says that some
images were refused; the others are there.")]
pub struct PushArgs {
    /// The bundle: a tar file or a folder
    bundle: PathBuf,
    /// Where its images go; not needed where --map has a name for each
    #[arg(value_name = "oci://HOST[:PORT][/PATH]", required_unless_present = "map")]
    target: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Arguments of `omk image copy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image copy docker.io/library/nginx:1.27 oci://harbor.lan/project/nginx:1.27
  omk image copy quay.io/prometheus/node-exporter:v1.9.1 oci://harbor.lan/mirror/node-exporter --platform linux/amd64

Without a tag at its end, DST gets that of SRC.")]
pub struct CopyArgs {
    /// The image
    #[arg(value_name = "SRC")]
    source: ImageRef,
    /// Its new name
    #[arg(value_name = "oci://DST")]
    target: String,
    /// Take this platform, may be given more than once; `all` takes every one that the image has
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', default_value = "all")]
    platform: Vec<String>,
    /// Also take what refers to the image: signatures, attestations, SBOMs
    #[arg(long)]
    with_referrers: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Give names that begin with FROM the beginning TO instead; may be given more than once
    #[arg(long, value_name = "FROM=TO")]
    map: Vec<String>,
    /// Ask what is there and print what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Fail where a registry takes no index with platforms missing, instead of pushing an index of those that are there,
    /// which has another digest
    #[arg(long)]
    keep_digests: bool,
    /// Blobs that are sent at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Bytes that are sent with one request, in MiB; this much memory is used for each of --parallel
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    chunk: u16,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl How {
    fn mapping(&self, target: Option<&str>) -> Result<Mapping, CliError> {
        let mapping =
            target.map_or_else(|| Ok(Mapping::by_rules()), Mapping::new).map_err(CliError::usage)?;
        self.map.iter().try_fold(mapping, |m, rule| m.with_rule(rule)).map_err(CliError::usage)
    }

    /// `base`: what the images were built against, if they are those of a delta.
    async fn push(
        &self,
        images: &[PushImage],
        base: Option<&str>,
        registry: &Registry,
        context: &Context,
    ) -> Outcome {
        let options = PushOptions {
            parallel: usize::from(self.parallel),
            chunk: u64::from(self.chunk) << 20,
            dry_run: self.dry_run,
            keep_digests: self.keep_digests,
        };
        let report = push(images, registry, options, &context.events, &context.cancel)
            .await
            .map_err(|e| failed(e, base))?;
        match self.output {
            OutputFormat::Json => output::json(&report)?,
            OutputFormat::Table => say(&table(&report, self.keep_digests)),
        }
        report.failed.iter().for_each(|text| warn(&format!("error: {text}")));
        Ok(match (report.failed.is_empty(), report.images.is_empty()) {
            (true, _) => exit::OK,
            (false, true) => exit::FAILED,
            (false, false) => exit::PARTIAL,
        })
    }
}

fn failed(error: PushError, base: Option<&str>) -> CliError {
    match error {
        PushError::Cancelled | PushError::Store(StoreError::Cancelled) => CliError::cancelled(),
        PushError::Base { .. } => {
            let base = base.unwrap_or("BASE");
            let way = match BaseKind::of(base) {
                BaseKind::Bundle => format!(
                    "`omk bundle push {base} TARGET` first, or push the whole that `omk bundle merge {base} DELTA -o WHOLE` makes"
                ),
                BaseKind::Lock => format!(
                    "push the bundle that was built from {base} first, or build this one again without --since and push that"
                ),
                BaseKind::Nodes => "a list of what nodes have, which no registry can be told by: build it again without --since and push \
                                    that, or bring it to those nodes with `omk preheat`"
                    .to_owned(),
            };
            CliError::failed(error.to_string()).with_hint(format!("it was built against {base}: {way}"))
        }
        PushError::Conflict { .. } => CliError::failed(error.to_string()),
        PushError::Store(StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. }) => {
            CliError::failed(error.to_string())
                .with_code(exit::DAMAGED)
                .with_hint("copy the bundle again, or build it again where the registry can be reached")
        }
        other => CliError::failed(other.to_string())
            .with_hint("what arrived stays there: run the same command again to go on"),
    }
}

fn table(report: &PushReport, keep_digests: bool) -> String {
    let word = |state| match state {
        PushState::Pushed if report.dry_run => "would be pushed",
        PushState::Pushed => "pushed",
        PushState::Present => "there",
        PushState::Reduced => "pushed",
    };
    let row = |i: &crate::registry::PushedImage| {
        let mut state = word(i.state).to_owned();
        state += match i.unsure(keep_digests).filter(|_| report.dry_run) {
            Some(Unsure::Replaced) => ", maybe with another digest",
            Some(Unsure::Refused) => ", or refused",
            None => "",
        };
        if i.digest != i.source_digest {
            state += ", other digest";
        }
        vec![i.target.to_string(), i.digest.short().to_owned(), state]
    };
    let rows: Vec<_> = report.images.iter().map(row).collect();
    let verb = if report.dry_run { "to send" } else { "sent" };
    // A heading without a line below it says nothing.
    let table = match rows.is_empty() {
        true => String::new(),
        false => output::table(&["IMAGE", "DIGEST", "STATE"], &rows) + "\n\n",
    };
    format!(
        "{table}{}, {} {verb} ({}), {} taken over from other repositories, {} there; {:.1} s",
        output::count(report.images.len(), "image"),
        output::count(report.uploaded, "blob"),
        output::bytes(report.uploaded_bytes),
        report.mounted,
        report.present,
        report.duration_ms as f64 / 1000.0
    )
}

pub(super) async fn bundle(args: PushArgs, context: Context) -> Outcome {
    let mapping = args.how.mapping(args.target.as_deref())?;
    let registry = Registry::new(args.how.registry.options()?)?;
    let bundle = Bundle::open(&args.bundle).await.map_err(|e| super::bundle::bundle_error(&e))?;
    let source: Arc<dyn BlobSource> = Arc::new(bundle.clone());
    let left_out = bundle.delta().map(|d| d.absent.keys().cloned().collect()).unwrap_or_default();
    let absent: Arc<BTreeSet<Digest>> = Arc::new(left_out);
    let mut images = Vec::new();
    for image in bundle.images() {
        let graph = Arc::new(image.graph.clone());
        let tagged: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
        let names = if tagged.is_empty() { image.names.iter().collect() } else { tagged };
        for name in names {
            let parsed: ImageRef = name.parse()?;
            let target = mapping.apply(&parsed, graph.root.digest()).map_err(CliError::usage)?;
            let (graph, source) = (Arc::clone(&graph), Arc::clone(&source));
            images.push(PushImage { name: name.clone(), target, graph, source, absent: Arc::clone(&absent) });
        }
    }
    for found in bundle.referrers() {
        let target = mapping.apply(&found.name, found.graph.root.digest()).map_err(CliError::usage)?;
        let (graph, source) = (Arc::new(found.graph.clone()), Arc::clone(&source));
        let (name, absent) = (found.name.to_string(), Arc::clone(&absent));
        images.push(PushImage { name, target, graph, source, absent });
    }
    let base = bundle.delta().map(|d| d.base.as_str());
    args.how.push(&images, base, &registry, &context).await
}

pub(super) async fn copy(args: CopyArgs, context: Context) -> Outcome {
    let bare = args.target.trim_start_matches("oci://");
    let mut target: ImageRef = bare.parse().map_err(|e| CliError::usage(format!("DST: {e}")))?;
    let named = bare.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if target.digest().is_some() {
        return Err(CliError::usage("DST: a digest cannot be chosen; write oci://HOST/PATH:TAG"));
    }
    if !args.how.map.is_empty() {
        return Err(CliError::usage("--map is for bundles: DST is the whole name already"));
    }
    let registry = Registry::new(args.how.registry.options()?)?;
    let (events, cancel) = (&context.events, &context.cancel);
    let platforms = platforms(&args.platform)?;
    let graph = registry.graph(&args.source, &platforms, events, cancel).await?;
    events.emit(Event::Resolved { image: args.source.to_string(), digest: graph.root.digest().clone() });
    if !named {
        target = match args.source.tag() {
            Some(tag) => format!("{}:{tag}", target.name()).parse()?,
            None => target.at(graph.root.digest().clone()),
        };
    }
    let source: Arc<dyn BlobSource> = Arc::new(registry.repository(&args.source, events));
    let mut images = Vec::new();
    if args.with_referrers {
        for found in registry.referrers(&graph, events, cancel).await? {
            let (graph, source) = (Arc::new(found.graph), Arc::clone(&source));
            let target = match graph.image.tag() {
                Some(tag) => format!("{}:{tag}", target.name()).parse()?,
                None => target.at(graph.root.digest().clone()),
            };
            let (name, absent) = (graph.image.to_string(), Arc::default());
            images.push(PushImage { name, target, graph, source, absent });
        }
    }
    let (name, graph, absent) = (args.source.to_string(), Arc::new(graph), Arc::default());
    images.push(PushImage { name, target, graph, source, absent });
    args.how.push(&images, None, &registry, &context).await
}

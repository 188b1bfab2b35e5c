//! `omk node verify`: the proof that `omk preheat` ends with, at any time.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::bundle::{Bundle, Lock};
use crate::cli::bundle::BundleArgs;
use crate::cli::nodes::NodeArgs;
use crate::cli::output::{OutputFormat, warn};
use crate::cli::preheat::push_error;
use crate::cli::proof::{ProofArgs, Way, code, tell_proof};
use crate::cli::{Context, Outcome};
use crate::push::{PushOptions, Wanted};
use crate::store::BlobSource;

/// Arguments of `omk node verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk node verify web.bundle.tar --nodes nodes.yaml
  omk node verify web.bundle.tar --nodes nodes.yaml --deep --report proof.html
  omk node verify web.bundle.tar --nodes nodes.yaml --pin --deep --repair
  omk node verify --lock web.lock.yaml --nodes nodes.yaml -o json

Changes nothing without --repair. What has drifted is named: an image that is gone, a tag that moved, a blob that is missing or
(with --deep) damaged, a pin that is lost (with --pin). --repair sends what lacks, and only that, and proves again.
Exit codes: 0 every node has every image (after --repair: again), 4 some have not, 5 none has, 6 the bundle is damaged.")]
pub struct VerifyArgs {
    /// The bundle: as `omk preheat` takes it
    #[arg(value_name = "BUNDLE", required_unless_present = "lock", conflicts_with = "lock")]
    bundle: Vec<PathBuf>,
    /// The repository of images that another tool named by a tag only, such as quay.io/acme/web
    #[arg(long, value_name = "REPOSITORY", conflicts_with = "lock")]
    base_name: Option<String>,
    /// Verify the names and digests of a lock; it lists no blobs, so whether an image is complete is the runtime's own word
    #[arg(long, value_name = "FILE", conflicts_with_all = ["deep", "repair"])]
    lock: Option<PathBuf>,
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    proof: ProofArgs,
    /// Mend what is wrong: send what lacks or is damaged, name and (with --pin) pin images again
    #[arg(long)]
    repair: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: VerifyArgs, context: &Context) -> Outcome {
    args.proof.check()?;
    let asked = args.nodes.clone();
    let (mut push, nodes, reached) = args.nodes.push(context)?;
    push.options = PushOptions { pin: args.proof.pin, deep: args.proof.deep, ..PushOptions::default() };
    let mut bundle: Option<Arc<Bundle>> = None;
    let mut report = if let Some(file) = &args.lock {
        push.bundle = file.display().to_string();
        let wanted: Vec<Wanted> = Lock::read(file)?.images.into_iter().map(Wanted::from).collect();
        push.verify_names(&wanted).await
    } else {
        let given = BundleArgs::new(args.bundle, args.base_name);
        let opened = Arc::new(given.open_named(context).await?);
        push.bundle = given.label();
        push.images = opened.images().to_vec();
        push.left_out = opened.delta().cloned().map(Arc::new);
        push.source = Arc::clone(&opened) as Arc<dyn BlobSource>;
        bundle = Some(opened);
        match args.repair {
            true => push.repair().await.map_err(|e| push_error(&e))?,
            false => push.verify().await,
        }
    };
    let way = Way { nodes: &nodes, reached: &reached };
    args.proof.tell(&mut report, bundle.as_deref(), &way, args.output, |report| {
        tell_proof(report, &asked);
    })?;
    // What was found of a node's images can be mended; a node that cannot be asked cannot.
    let drifted = report.nodes.iter().any(|n| !n.ready() && !n.images.is_empty());
    if drifted && !args.repair && args.output == OutputFormat::Table {
        warn(match &args.lock {
            None => "hint: the same command with --repair sends what lacks, and only that, and proves again",
            Some(_) => "hint: a lock has nothing to mend with: verify the bundle with --repair",
        });
    }
    let ready = report.nodes.iter().filter(|n| n.ready()).count();
    Ok(code(context, ready, report.nodes.len() - ready))
}

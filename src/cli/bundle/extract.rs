//! `omk bundle extract`.

use std::path::PathBuf;

use clap::Args;

use super::{BundleArgs, made_error};
use crate::bundle::{Extracted, What, extract};
use crate::cli::{Context, Outcome, OutputFormat, exit, output, say, warn};

/// Arguments of `omk bundle extract`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle extract web.bundle.tar -o web/            # an OCI layout, beside it charts/, manifests/, files/
  omk bundle extract web.bundle.tar --only charts -o . && helm install web ./charts/web-1.2.0.tgz
  omk bundle extract saved-by-docker.tar -o layout && skopeo list-tags oci:layout

Every byte is checked on the way. An interrupted run goes on when it is run again.
Exit codes: 0 written, 1 it could not be, 6 the bundle is damaged.")]
pub struct ExtractArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// The folder to write into
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Only these: images, charts, manifests, files, or another folder in the bundle. Of several kinds those are taken
    /// that it has
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    only: Vec<String>,
    /// How the summary is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    summary: OutputFormat,
}

pub(super) async fn run(args: &ExtractArgs, context: &Context) -> Outcome {
    let bundle = args.bundle.open_named(context).await?;
    let what = What {
        images: args.only.is_empty() || args.only.iter().any(|o| o == "images"),
        folders: args
            .only
            .iter()
            .filter(|o| *o != "images")
            .map(|o| o.trim_end_matches('/').to_owned())
            .collect(),
        every_file: args.only.is_empty(),
    };
    let done =
        extract(&bundle, &what, &args.output, &context.events, &context.cancel).await.map_err(made_error)?;
    for folder in &done.absent {
        warn(&format!("warning: {} has no {folder}", args.bundle.label()));
    }
    match args.summary {
        OutputFormat::Json => output::json(&done)?,
        OutputFormat::Table => say(&summary(&done)),
    }
    Ok(exit::OK)
}

fn summary(done: &Extracted) -> String {
    format!(
        "{}: {}, {}, {}",
        done.output.display(),
        output::count(done.images, "image"),
        output::count(done.files.len(), "file"),
        output::bytes(done.size)
    )
}

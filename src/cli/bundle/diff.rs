//! `omk bundle diff`.

use std::path::PathBuf;

use clap::Args;

use super::bundle_error;
use crate::bundle::{self, Bundle, BundleDiff, Change};
use crate::cli::output::{self, OutputFormat, say};
use crate::cli::{Outcome, exit};

/// Arguments of `omk bundle diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk bundle diff factory-6.bundle.tar factory-7.bundle.tar
  omk bundle diff old.tar new.tar -o json | jq .added_bytes")]
pub struct DiffArgs {
    /// The bundle before
    from: PathBuf,
    /// The bundle after
    to: PathBuf,
    /// Also print every layer that is added or removed
    #[arg(long)]
    blobs: bool,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: &DiffArgs) -> Outcome {
    let from = Bundle::open(&args.from).await.map_err(|e| bundle_error(&e))?;
    let to = Bundle::open(&args.to).await.map_err(|e| bundle_error(&e))?;
    let found = bundle::diff(&from, &to);
    match args.output {
        OutputFormat::Json => output::json(&found)?,
        OutputFormat::Table => say(&table(&found, args.blobs)),
    }
    Ok(exit::OK)
}

fn table(found: &BundleDiff, blobs: bool) -> String {
    let short = |d: &Option<crate::oci::Digest>| d.as_ref().map_or("-".to_owned(), |d| d.short().to_owned());
    let row = |c: &Change| {
        let what = match (&c.from, &c.to) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        vec![what.to_owned(), c.name.clone(), short(&c.from), short(&c.to), output::bytes(c.new_bytes)]
    };
    let rows: Vec<Vec<String>> = found.images.iter().chain(&found.artifacts).map(row).collect();
    let mut text = match rows.as_slice() {
        [] => "the same images, charts and files".to_owned(),
        rows => output::table(&["CHANGE", "NAME", "FROM", "TO", "NEW"], rows),
    };
    if blobs {
        for (sign, blob) in found.added.iter().map(|b| ('+', b)).chain(found.removed.iter().map(|b| ('-', b)))
        {
            text += &format!("\n{sign} {}  {}  {}", blob.digest, output::bytes(blob.size), blob.media_type);
        }
    }
    format!(
        "{text}\n\n{} the same; {} in {} added, {} in {} removed, {} shared",
        found.same,
        output::bytes(found.added_bytes),
        output::count(found.added.len(), "blob"),
        output::bytes(found.removed_bytes),
        output::count(found.removed.len(), "blob"),
        output::bytes(found.shared_bytes),
    )
}

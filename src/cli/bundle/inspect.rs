//! `omk bundle inspect`.

use std::path::PathBuf;

use clap::Args;

use super::bundle_error;
use crate::bundle::{Bundle, InspectedArtifact, Inspection};
use crate::cli::output::{self, OutputFormat, say};
use crate::cli::{Outcome, exit};

/// Arguments of `omk bundle inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk bundle inspect web.bundle.tar\n  omk bundle inspect web.bundle.tar -o json | jq -r '.images[].names[0]'"
)]
pub struct InspectArgs {
    /// The bundle: a tar file or a folder
    bundle: PathBuf,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: &InspectArgs) -> Outcome {
    let bundle = Bundle::open(&args.bundle).await.map_err(|e| bundle_error(&e))?;
    let found = bundle.inspect();
    match args.output {
        OutputFormat::Json => output::json(&found)?,
        OutputFormat::Table => say(&inspection_table(&found)),
    }
    Ok(exit::OK)
}

fn inspection_table(found: &Inspection) -> String {
    let mut rows = Vec::new();
    for image in &found.images {
        let platforms: Vec<String> = image
            .variants
            .iter()
            .map(|v| v.platform.as_ref().map_or("-".to_owned(), ToString::to_string))
            .collect();
        let layers: usize = image.variants.iter().map(|v| v.layers.len()).sum();
        let tagged: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
        let shown = if tagged.is_empty() { image.names.iter().collect() } else { tagged };
        for name in shown {
            rows.push(vec![
                name.clone(),
                image.digest.short().to_owned(),
                platforms.join(","),
                layers.to_string(),
                output::bytes(image.size),
            ]);
        }
    }
    let of = |a: &InspectedArtifact| {
        let kind = serde_json::to_value(a.kind).ok().and_then(|k| k.as_str().map(str::to_owned));
        let files = output::count(a.files.len(), "file");
        vec![
            a.name.clone(),
            a.digest.short().to_owned(),
            kind.unwrap_or_default(),
            files,
            output::bytes(a.size),
        ]
    };
    let further: Vec<Vec<String>> = found.artifacts.iter().map(of).collect();
    let further = match further.as_slice() {
        [] => String::new(),
        rows => format!("\n\n{}", output::table(&["ALSO", "DIGEST", "KIND", "FILES", "SIZE"], rows)),
    };
    let table = output::table(&["IMAGE", "DIGEST", "PLATFORM", "LAYERS", "SIZE"], &rows);
    format!(
        "{table}{further}\n\n{}, {}, {}; {} saved by sharing blobs",
        output::count(found.images.len(), "image"),
        output::count(found.blobs, "blob"),
        output::bytes(found.size),
        output::bytes(found.shared)
    )
}

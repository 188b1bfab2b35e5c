//! `omk bundle inspect`.

use clap::Args;

use super::BundleArgs;
use crate::bundle::{InspectedArtifact, InspectedImage, InspectedReferrer, Inspection, Variant};
use crate::cli::output::{self, OutputFormat, say};
use crate::cli::{Context, Outcome, exit};

/// Arguments of `omk bundle inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk bundle inspect web.bundle.tar\n  omk bundle inspect web.bundle.tar -o json | jq -r '.images[].names[0]'"
)]
pub struct InspectArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) async fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let found = args.bundle.open(context).await?.inspect();
    match args.output {
        OutputFormat::Json => output::json(&found)?,
        OutputFormat::Table => say(&inspection_table(&found)),
    }
    Ok(exit::OK)
}

/// The names that people know an image by: those with a tag, if it has one.
pub(super) fn shown(image: &InspectedImage) -> Vec<&String> {
    let tagged: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
    match (tagged.is_empty(), image.names.is_empty()) {
        (false, _) => tagged,
        (true, false) => image.names.iter().collect(),
        (true, true) => vec![&image.label],
    }
}

pub(super) fn platforms_of(image: &InspectedImage) -> String {
    let one = |v: &Variant| v.platform.as_ref().map_or("-".to_owned(), ToString::to_string);
    image.variants.iter().map(one).collect::<Vec<_>>().join(",")
}

fn inspection_table(found: &Inspection) -> String {
    let mut rows = Vec::new();
    for image in &found.images {
        let platforms = platforms_of(image);
        let layers: usize = image.variants.iter().map(|v| v.layers.len()).sum();
        for name in shown(image) {
            rows.push(vec![
                name.clone(),
                image.digest.short().to_owned(),
                platforms.clone(),
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
    let about = |r: &InspectedReferrer| {
        let name = match r.name.tag() {
            Some(tag) => format!("{}:{tag}", r.name.name()),
            None => r.name.name(),
        };
        vec![name, r.digest.short().to_owned(), r.subject.short().to_owned(), output::bytes(r.size)]
    };
    let about: Vec<Vec<String>> = found.referrers.iter().map(about).collect();
    let about = match about.as_slice() {
        [] => String::new(),
        rows => format!("\n\n{}", output::table(&["REFERS TO AN IMAGE", "DIGEST", "IMAGE", "SIZE"], rows)),
    };
    let delta = found.delta.as_ref().map_or(String::new(), |d| {
        let (blobs, bytes) = (output::count(d.absent.len(), "blob"), output::bytes(d.bytes()));
        format!("\na delta: {blobs} ({bytes}) are left to its base, {}", d.base)
    });
    let table = output::table(&["IMAGE", "DIGEST", "PLATFORM", "LAYERS", "SIZE"], &rows);
    format!(
        "{table}{further}{about}\n\n{}: {}, {}, {}; {} saved by sharing blobs{delta}",
        found.kind,
        output::count(found.images.len(), "image"),
        output::count(found.blobs, "blob"),
        output::bytes(found.size),
        output::bytes(found.shared)
    )
}

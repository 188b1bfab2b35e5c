//! `omk image list|inspect|remove|verify`: what is in the image cache.

use clap::Args;
use serde::Serialize;

use super::super::cache::{cache, cache_error, verified};
use super::super::output::{self, OutputFormat, say, warn};
use super::super::{Context, Outcome, exit};
use super::pull::images;
use crate::cache::{CachedImage, Metadata};
use crate::discover::Exclusion;
use crate::oci::{Descriptor, ImageRef};

/// Arguments of `omk image list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image list
  omk image list 'registry.k8s.io/*'
  omk image list -o json | jq -r '.[] | select(.pinned | not).image'")]
pub struct ListArgs {
    /// Only these: names, or patterns with * for any characters
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Exclusion>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk image inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image inspect nginx:1.27
  omk image inspect nginx:1.27 -o json | jq -r '.variants[].layers[].digest'")]
pub struct InspectArgs {
    /// The image
    image: ImageRef,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk image remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image remove nginx:1.27
  omk image list 'quay.io/*' -o json | jq -r '.[].image' | omk image remove - && omk cache gc

Names go at once, their blobs with the next `omk cache gc`: other images may need them.")]
pub struct RemoveArgs {
    /// Images; - reads names from standard input, one a line
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Arguments of `omk image verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image verify nginx:1.27
  omk image verify nginx:1.27 redis:8 -o json

A damaged blob is put away, and fetched again by the next pull. Exit code 6 says that something was damaged or missing.
`omk cache verify` looks at all images.")]
pub struct VerifyArgs {
    /// Images; - reads names from standard input, one a line
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

pub(super) fn list(args: &ListArgs) -> Outcome {
    let cache = cache()?;
    let mut all = cache.list().map_err(cache_error)?;
    if !args.patterns.is_empty() {
        all.retain(|i| args.patterns.iter().any(|p| p.matches(&i.image)));
    }
    if args.output == OutputFormat::Json {
        output::json(&all)?;
        return Ok(exit::OK);
    }
    let row = |i: &CachedImage| {
        vec![
            i.image.to_string(),
            i.digest.short().to_owned(),
            platforms(i),
            output::bytes(i.size),
            i.last_used.clone(),
            state(i),
        ]
    };
    if all.is_empty() {
        let which = if args.patterns.is_empty() { "" } else { " of that name" };
        warn(&format!("there is no image{which} in {}", cache.root().display()));
        return Ok(exit::OK);
    }
    let rows: Vec<_> = all.iter().map(row).collect();
    say(&output::table(&["IMAGE", "DIGEST", "PLATFORM", "SIZE", "LAST USED", ""], &rows));
    let broken: Vec<_> = all.iter().filter(|i| !i.whole).map(|i| i.image.clone()).collect();
    if !broken.is_empty() {
        let count = output::count(broken.len(), "image");
        warn(&format!("warning: {count} not whole: {}", cache.pull_command(&broken, None, false, &[])));
    }
    Ok(exit::OK)
}

fn state(image: &CachedImage) -> String {
    let words = [(image.pinned, "pinned"), (!image.whole, "not whole")];
    words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect::<Vec<_>>().join(", ")
}

fn platforms(image: &CachedImage) -> String {
    if image.platforms.is_empty() {
        return "-".to_owned();
    }
    image.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What `-o json` prints: all of [`CachedImage`], and what its documents say.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    image: CachedImage,
    variants: Vec<Variant>,
    /// Kinds of metadata that there are.
    metadata: Vec<&'static str>,
}

#[derive(Serialize)]
struct Variant {
    platform: Option<String>,
    manifest: Descriptor,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

pub(super) async fn inspect(args: &InspectArgs) -> Outcome {
    let cache = cache()?;
    let image = cache.get(&args.image).map_err(cache_error)?;
    let graph = cache.local_graph(&image.image, &image.platforms).await.map_err(cache_error)?;
    let variants = graph.images.into_iter().map(|v| Variant {
        platform: v.platform.map(|p| p.to_string()),
        manifest: v.manifest,
        config: v.config,
        layers: v.layers,
    });
    let kinds = [(Metadata::Vulnerabilities, "vulnerabilities"), (Metadata::Signatures, "signatures")];
    let there = |kind: Metadata| matches!(cache.metadata(kind, &image.digest), Ok(Some(_)));
    let metadata = kinds.into_iter().filter(|(kind, _)| there(*kind)).map(|(_, name)| name).collect();
    let found = Inspected { variants: variants.collect(), metadata, image };
    if args.output == OutputFormat::Json {
        output::json(&found)?;
        return Ok(exit::OK);
    }
    let i = &found.image;
    let mut lines = vec![
        format!("image      {}", i.image),
        format!("digest     {}", i.digest),
        format!("type       {}", i.media_type),
        format!("size       {} in {}", output::bytes(i.size), output::count(i.blobs, "blob")),
        format!("last used  {}{}", i.last_used, if i.pinned { ", pinned" } else { "" }),
        format!("updated    {}", i.updated),
    ];
    if !found.metadata.is_empty() {
        lines.push(format!("metadata   {}", found.metadata.join(", ")));
    }
    for v in &found.variants {
        lines.push(format!("\n{}  {}", v.platform.as_deref().unwrap_or("-"), v.manifest.digest()));
        let layer =
            |l: &Descriptor| vec![l.digest().to_string(), output::bytes(l.size()), l.media_type().to_owned()];
        let rows: Vec<_> = v.layers.iter().map(layer).collect();
        lines.push(output::table(&["LAYER", "SIZE", "TYPE"], &rows));
    }
    say(&lines.join("\n"));
    Ok(exit::OK)
}

pub(super) fn remove(args: &RemoveArgs) -> Outcome {
    let gone = cache()?.remove(&images(&args.images)?).map_err(cache_error)?;
    match args.output {
        OutputFormat::Json => output::json(&gone)?,
        OutputFormat::Table => gone.iter().for_each(|i| say(&format!("removed {}", i.image))),
    }
    Ok(exit::OK)
}

pub(super) async fn verify(args: &VerifyArgs, context: &Context) -> Outcome {
    let names = images(&args.images)?;
    let cache = cache()?;
    let report = cache.verify(&names, &context.events, &context.cancel).await.map_err(cache_error)?;
    verified(&cache, &report, args.output)
}

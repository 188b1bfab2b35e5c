//! `omk image`: which images an input needs, and which are in the cache.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::compare::{self, CompareArgs};
use super::registry::RegistryArgs;
use super::sources::{SourceArgs, code, tell};
use super::{CliError, Context, Outcome, exit, output, say, warn};
use crate::bundle;
use crate::discover::{ConflictKind, Finding, Findings, ImagePattern, Place};
use crate::oci::{ImageRef, Platform};
use crate::registry::Registry;

mod cached;
mod pull;

/// Subcommands of `omk image`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the images that manifests and charts need, and where they are named
    #[command(visible_alias = "ls")]
    Discover(Box<DiscoverArgs>),
    /// Copy an image from one registry to another
    Copy(Box<super::push::CopyArgs>),
    /// Compare a bundle with what a cluster runs
    Compare(CompareArgs),
    /// Fetch images into the image cache
    Pull(Box<pull::PullArgs>),
    /// List the images in the image cache
    List(cached::ListArgs),
    /// Say what the image cache knows of an image
    Inspect(cached::InspectArgs),
    /// Take images out of the image cache
    #[command(visible_alias = "rm")]
    Remove(cached::RemoveArgs),
    /// Hash all that images in the image cache are made of
    Verify(cached::VerifyArgs),
}

/// Arguments of `omk image discover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk image discover deploy/
  omk image discover ./web-chart -f values.prod.yaml --set web.replicas=3
  kubectl get pods -A -o yaml | omk image discover - -o json
  omk image discover --component kubeadm@1.33,cilium@1.18 --component metallb
  omk image discover clusters/prod --source-path flux-system=.    # a Git repository that is here
  omk image discover deploy/ --why nginx            # any tag; nginx:1.27 for one
  omk image discover ./web-chart --include-disabled # also what other values would switch on
  omk image discover deploy/ --fail-on-latest -o refs > images.txt
  omk image discover ./web-chart --lock images.lock --platform linux/amd64

Confidence: certain (a pod's image), strong (a field of a custom resource that is an image), likely (a variable, argument,
annotation or file that names one), possible (switched off).
Exit code 3 says that something could not be read and images may be missing, 7 that an image is not pinned as asked.")]
pub struct DiscoverArgs {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Show every place that names this image, and nothing else: a name without tag stands for all its tags, the end of
    /// a name for the whole
    #[arg(long, value_name = "IMAGE")]
    why: Option<ImagePattern>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// End with exit code 7 if an image has the tag latest, written or not, and no digest
    #[arg(long)]
    fail_on_latest: bool,
    /// End with exit code 7 if an image has no digest
    #[arg(long)]
    fail_on_unpinned: bool,
    /// Ask the registries what each name stands for, and write that to this file as YAML: name to digest
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// A platform that each image of --lock must have; may be given more than once
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
}

/// How images are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs; the schema only grows
    Json,
    /// The same as YAML
    Yaml,
    /// Complete names, one a line
    Refs,
    /// A line for each place
    Csv,
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Discover(args) => run_discover(*args, context).await,
        Command::Copy(args) => super::push::copy(*args, context).await,
        Command::Compare(args) => compare::run(args, &context).await,
        Command::Pull(args) => pull::run(*args, &context).await,
        Command::List(args) => cached::list(&args),
        Command::Inspect(args) => cached::inspect(&args).await,
        Command::Remove(args) => cached::remove(&args),
        Command::Verify(args) => cached::verify(&args, &context).await,
    }
}

async fn run_discover(args: DiscoverArgs, context: Context) -> Outcome {
    let platforms = args
        .platform
        .iter()
        .map(|p| p.parse().map_err(|e| CliError::usage(format!("--platform: {e}"))))
        .collect::<Result<Vec<Platform>, _>>()?;
    args.lock.as_deref().map_or(Ok(()), |file| output::destination("--lock", file))?;
    let options = args.registry.options()?;
    let mut found = args.sources.discover(&context, options.clone()).await?;
    let mut code = code(&found);
    let mut near = Vec::new();
    if let Some(why) = &args.why {
        near = why.near(&found.images());
        why.keep_in(&mut found);
    }
    match (args.output, &args.why) {
        (Format::Json, _) => output::json(&found.report())?,
        (Format::Yaml, _) => output::text(&yaml(&found)?),
        (Format::Refs, _) => found.images().iter().for_each(|image| say(&image.to_string())),
        (Format::Csv, _) => output::text(&csv(&found)),
        // A heading without a line below it says nothing.
        (Format::Table, None) if found.findings.is_empty() => {}
        (Format::Table, None) => say(&table(&found)),
        (Format::Table, Some(why)) => places(&found, why),
    }
    if args.why.is_none() {
        conflicts(&found);
    }
    tell(&found);
    if let Some(path) = &args.lock {
        let registry = Registry::new(options)?;
        let images = found.images();
        let locked = bundle::lock(&images, &platforms, false, &registry, &context.events, &context.cancel)
            .await
            .map_err(|_| CliError::cancelled())?;
        locked.lock.write(path).map_err(|e| {
            CliError::failed(format!("{} cannot be written: {e}; give another --lock FILE", path.display()))
        })?;
        locked.failed.iter().for_each(|f| warn(&format!("error: not in the lock: {f}")));
        if !locked.failed.is_empty() && code == exit::OK {
            code = exit::PARTIAL;
        }
    }
    if let Some(why) = args.why.as_ref().filter(|_| found.findings.is_empty()) {
        let mut error = CliError::failed(format!("nothing names {why}"));
        let disabled = "--include-disabled also looks for what other values switch on";
        let mut hints = Vec::new();
        hints.extend((!near.is_empty()).then(|| format!("there is {}", near.join(", "))));
        hints.extend((!args.sources.with_disabled()).then(|| disabled.to_owned()));
        if !hints.is_empty() {
            error = error.with_hint(hints.join("; "));
        }
        return Err(if code == exit::PARTIAL { error.with_code(code) } else { error });
    }
    let unpinned = unpinned(&found.images(), args.fail_on_latest, args.fail_on_unpinned);
    unpinned.iter().for_each(|text| warn(&format!("error: {text}")));
    // What could not be read weighs more: a list that may lack images says nothing about the rest.
    Ok(if unpinned.is_empty() || code != exit::OK { code } else { exit::UNPINNED })
}

/// A text for each image that is not pinned as it should be.
fn unpinned(images: &[ImageRef], latest: bool, any: bool) -> Vec<String> {
    let free = images.iter().filter(|i| i.digest().is_none());
    free.filter_map(|image| match image.tag() {
        Some("latest") if latest => Some(format!("{image} has no tag but latest")),
        _ if any => Some(format!("{image} has no digest")),
        _ => None,
    })
    .collect()
}

fn conflicts(found: &Findings) {
    for conflict in found.report().conflicts {
        let word = match conflict.kind {
            ConflictKind::Tags => "note",
            ConflictKind::Digests => "warning",
        };
        warn(&format!("{word}: {conflict}"));
    }
}

/// A line a place; with the image unless it is the one that was asked for.
fn places(found: &Findings, why: &ImagePattern) {
    let place = |f: &Finding| Place { origin: &f.origin, confidence: f.confidence }.to_string();
    let images = found.images();
    match images.as_slice() {
        [] => {}
        [one] if why.matches(one) => {
            found.by_image().iter().flat_map(|n| &n.origins).for_each(|p| say(&p.to_string()));
        }
        _ => {
            let rows: Vec<_> = found.findings.iter().map(|f| vec![f.image.to_string(), place(f)]).collect();
            say(&output::table(&["IMAGE", "WHERE"], &rows));
        }
    }
}

/// A line an image: its name, how sure it is unless all are certain, the surest place that names it, what switches it
/// on, and how many more places there are.
fn table(found: &Findings) -> String {
    let all = found.by_image();
    let graded = all.iter().any(|n| n.confidence != crate::discover::Confidence::Certain);
    let row = |image: &crate::discover::Needed<'_>| {
        let first = &image.origins[0];
        let mut place = if graded {
            format!("{} [{}]", first.origin, first.origin.rule)
        } else {
            first.origin.to_string()
        };
        if let Some(switch) = &first.origin.switch {
            place += &format!(", switched on by {switch}");
        }
        if image.origins.len() > 1 {
            place += &format!(" (+{} more)", image.origins.len() - 1);
        }
        let mut cells = vec![image.image.to_string()];
        cells.extend(graded.then(|| image.confidence.to_string()));
        cells.push(place);
        cells
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let head: &[&str] = if graded { &["IMAGE", "CONFIDENCE", "WHERE"] } else { &["IMAGE", "WHERE"] };
    output::table(head, &rows)
}

fn yaml(found: &Findings) -> Result<String, CliError> {
    serde_yaml::to_string(&found.report()).map_err(|e| CliError::failed(format!("cannot write YAML: {e}")))
}

/// RFC 4180 with line feeds: a heading, then a line for each place.
fn csv(found: &Findings) -> String {
    let mut text = "image,confidence,rule,source,document,line,kind,namespace,name,field,switch\n".to_owned();
    for f in &found.findings {
        let o = &f.origin;
        let number = |n: Option<String>| n.unwrap_or_default();
        let cells = [
            f.image.to_string(),
            f.confidence.to_string(),
            o.rule.to_string(),
            o.source.to_string(),
            number(o.document.map(|n| n.to_string())),
            number(o.line.map(|n| n.to_string())),
            o.kind.clone().unwrap_or_default(),
            o.namespace.clone().unwrap_or_default(),
            o.name.clone().unwrap_or_default(),
            o.field.clone().unwrap_or_default(),
            o.switch.clone().unwrap_or_default(),
        ];
        text += &cells.map(|c| cell(&c)).join(",");
        text.push('\n');
    }
    text
}

/// Quoted where the separators stand in it.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(cell("a.b[0]"), "a.b[0]");
        assert_eq!(cell("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
    }

    #[test]
    fn what_is_not_pinned_is_told() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        let images: Vec<ImageRef> =
            [digest.as_str(), "b", "c:1"].iter().map(|i| i.parse().unwrap()).collect();
        assert_eq!(unpinned(&images, true, false), ["docker.io/library/b:latest has no tag but latest"]);
        assert_eq!(unpinned(&images, true, true).len(), 2);
        assert!(unpinned(&images, false, false).is_empty());
    }
}

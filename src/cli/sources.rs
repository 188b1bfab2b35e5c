//! What every command that looks for images is given to look in.

use std::path::PathBuf;

use clap::Args;

use super::chart::{RenderArgs, ValueArgs};
use super::component::ComponentArgs;
use super::{CliError, Context, exit, warn};
use crate::bundle::Definition;
use crate::catalogue::Catalogue;
use crate::chart::RenderOptions;
use crate::chart::fetch::{ChartSource, Loader};
use crate::discover::{
    ChartInput, Confidence, Documents, Exclusion, Findings, Inputs, RULES, Scope, discover,
};
use crate::oci::ImageRef;
use crate::registry::RegistryOptions;

/// Where to look for images; flatten it into the arguments of a command.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Manifests, folders of manifests, patterns of them ('*.yaml'), charts (folder, .tgz, oci://HOST/PATH:VERSION, https://….tgz), image lists,
    /// Compose files, hauler manifests, Zarf packages; - is standard input
    #[arg(value_name = "SOURCES")]
    paths: Vec<PathBuf>,
    /// An image that is needed whatever the sources say
    #[arg(long = "image", value_name = "REF")]
    images: Vec<ImageRef>,
    #[command(flatten)]
    components: ComponentArgs,
    /// Leave out what is less sure than this: certain, strong, likely, possible
    #[arg(long, value_name = "LEVEL", default_value = "likely", value_parser = level, help_heading = "Which images")]
    min_confidence: Confidence,
    /// Also take the images that charts can use and, with these values, do not; the same as --min-confidence possible
    #[arg(long, help_heading = "Which images")]
    include_disabled: bool,
    /// Leave this image out, may be given more than once: a name without tag stands for all its tags, and * for any
    /// characters
    #[arg(long, value_name = "PATTERN", help_heading = "Which images")]
    exclude: Vec<Exclusion>,
    /// Switch this kind of evidence off, may be given more than once: env, arg, config, chart-annotation …
    #[arg(long, value_name = "RULE", value_parser = rule, help_heading = "Which images")]
    without_rule: Vec<String>,
    /// Name of the release that charts are rendered for [default: that of the chart]
    #[arg(long, value_name = "NAME", help_heading = "Chart options")]
    release_name: Option<String>,
    /// Chart repository (where its index.yaml is): SOURCES that are no paths here are names of charts in it
    #[arg(long, value_name = "URL", help_heading = "Chart options")]
    repo: Option<String>,
    /// Version, or a constraint such as ^1.2, of the charts of --repo and of those of oci:// that name none
    #[arg(long, value_name = "VERSION", help_heading = "Chart options")]
    chart_version: Option<String>,
    /// Fetch no charts, no dependencies of charts and, for a bundle, no images: take what was fetched before, and say
    /// what is missing
    #[arg(long, env = "OMK_OFFLINE", help_heading = "Chart options")]
    offline: bool,
    /// Folder that stands in for a Git repository, an artifact or the charts of a repository: NAME is that of the Flux
    /// object, namespace/name, or the address
    #[arg(long = "source-path", value_name = "NAME=DIR", value_parser = source_path)]
    source_paths: Vec<(String, PathBuf)>,
    /// Value of a variable that a Flux object, Compose file or Zarf package leaves open
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    #[command(flatten)]
    render: RenderArgs,
    #[command(flatten)]
    values: ValueArgs,
}

fn level(text: &str) -> Result<Confidence, String> {
    text.parse().map_err(|e: crate::discover::NoConfidence| e.to_string())
}

fn rule(name: &str) -> Result<String, String> {
    let known = RULES.iter().any(|r| r.name == name);
    let names = || RULES.iter().map(|r| r.name).collect::<Vec<_>>().join(", ");
    if known { Ok(name.to_owned()) } else { Err(format!("there is no such rule; there are {}", names())) }
}

impl SourceArgs {
    /// What is read, as it was given; `-` is standard input.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// That something was given at all.
    fn given(&self) -> Result<(), CliError> {
        if !self.paths.is_empty() || !self.images.is_empty() || !self.components.is_empty() {
            return Ok(());
        }
        let message = "there is nothing to look in: name SOURCES (files, folders, charts, image lists, - for standard input), \
                       or an image with --image REF, or a component with --component NAME";
        Err(CliError::usage(message))
    }

    /// The paths, and the charts among the sources that have a repository or a version.
    fn named(&self, options: &RenderOptions) -> Result<(Vec<PathBuf>, Vec<ChartInput>), CliError> {
        let version = self.chart_version.as_deref().unwrap_or_default();
        let (mut paths, mut releases) = (Vec::new(), Vec::new());
        for path in &self.paths {
            let given = path.to_string_lossy();
            let of_registry = given.starts_with("oci://") && !version.is_empty();
            let of_repo = self.repo.is_some() && given != "-" && !given.contains("://") && !path.exists();
            if !of_registry && !of_repo {
                paths.push(path.clone());
                continue;
            }
            let chart = ChartSource::parse(&given, self.repo.as_deref().filter(|_| of_repo), version)?;
            let release_name = self.release_name.clone();
            releases.push(ChartInput { chart, release_name, options: options.clone() });
        }
        if releases.is_empty() && (self.repo.is_some() || !version.is_empty()) {
            let option = if self.repo.is_some() { "--repo" } else { "--chart-version" };
            let message =
                format!("{option} is given, but none of the sources is a chart that has to be fetched");
            return Err(CliError::usage(message));
        }
        Ok((paths, releases))
    }

    /// The definition of a bundle, if that is what was given.
    ///
    /// # Errors
    /// When there is something beside it, or it cannot be used.
    pub fn definition(&self) -> Result<Option<Definition>, CliError> {
        self.given()?;
        let Some(path) = self.paths.iter().find(|p| Definition::is_one(p)) else { return Ok(None) };
        if self.paths.len() > 1 || !self.images.is_empty() || !self.components.is_empty() {
            let message =
                format!("{} is a bundle definition, which stands alone: add the rest to it", path.display());
            return Err(CliError::usage(message));
        }
        Ok(Some(Definition::read(path)?))
    }

    /// Whether nothing may be fetched.
    pub fn offline(&self) -> bool {
        self.offline
    }

    /// The components that are known.
    ///
    /// # Errors
    /// When a folder of definitions cannot be read.
    pub fn catalogue(&self) -> Result<Catalogue, CliError> {
        self.components.catalogue()
    }

    /// Whether images are looked for that other values would switch on.
    pub fn with_disabled(&self) -> bool {
        self.least() == Confidence::Possible
    }

    fn least(&self) -> Confidence {
        if self.include_disabled { Confidence::Possible } else { self.min_confidence }
    }

    /// Bounds and means of looking for images.
    ///
    /// # Errors
    /// When there is nowhere to keep charts.
    pub fn scope(&self, context: &Context, registry: RegistryOptions) -> Result<Scope, CliError> {
        let options = super::chart::source::fetch_options(registry, None, self.offline)?;
        let charts = Loader::new(options, context.events.clone(), context.cancel.clone());
        Ok(Scope {
            cancel: context.cancel.clone(),
            charts: Some(charts),
            source_paths: self.source_paths.clone(),
            variables: self.variables.iter().cloned().collect(),
            include_disabled: self.with_disabled(),
            without_rules: self.without_rule.clone(),
            ..Scope::default()
        })
    }

    /// Looks into all of it.
    ///
    /// # Errors
    /// When it was cancelled. What cannot be read is in [`Findings::problems`]; see [`tell`].
    pub async fn discover(&self, context: &Context, registry: RegistryOptions) -> Result<Findings, CliError> {
        self.given()?;
        let render = self.render.options(self.values.read()?)?;
        let (paths, releases) = self.named(&render)?;
        let inputs = Inputs {
            paths,
            releases,
            charts: render,
            release_name: self.release_name.clone(),
            images: self.images.clone(),
            components: self.components.picked()?,
        };
        let (least, scope) = (self.least(), self.scope(context, registry)?);
        let work = tokio::task::spawn_blocking(move || discover(&inputs, &scope));
        let mut found = tokio::select! {
            // Reading from a terminal ends with the next line only.
            () = context.cancel.cancelled() => return Err(CliError::cancelled()),
            done = work => done.map_err(|e| CliError::failed(format!("reading broke off: {e}")))?
                .map_err(|_| CliError::cancelled())?,
        };
        found.keep(least);
        self.exclude.iter().for_each(|pattern| pattern.take_from(&mut found));
        Ok(found)
    }
}

/// `NAME=DIR`; an address may have equals signs of its own.
fn source_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) =
        text.rsplit_once('=').filter(|(n, p)| !n.is_empty() && !p.is_empty()).ok_or("write NAME=DIR")?;
    let path = PathBuf::from(path);
    if !path.exists() {
        return Err(format!("{} is not there", path.display()));
    }
    Ok((name.to_owned(), path))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(n, _)| !n.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Tells the problems and the summary on standard error.
pub fn tell(found: &Findings) {
    found.problems.iter().for_each(|p| warn(&format!("{}: {p}", p.severity)));
    warn(&summary(found));
}

/// The exit code that the findings alone stand for.
pub fn code(found: &Findings) -> u8 {
    if found.is_failure() {
        exit::FAILED
    } else if found.is_partial() {
        exit::PARTIAL
    } else {
        exit::OK
    }
}

/// `3 images in 12 documents; 1 document could not be read`.
fn summary(found: &Findings) -> String {
    use super::output::count;
    let Documents { read, skipped, failed, .. } = found.documents;
    let images = count(found.by_image().len(), "image");
    let mut text = match read + failed + skipped {
        // All were named by --image or --component.
        0 => images,
        _ => format!("{images} in {}", count(read + failed, "document")),
    };
    if skipped > 0 {
        text += &format!("; {} without a kind skipped", count(skipped, "document"));
    }
    if failed > 0 {
        text += &format!("; {} could not be read in full", count(failed, "document"));
    }
    text
}

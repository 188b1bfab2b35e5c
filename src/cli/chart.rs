//! `omk chart`: Helm charts without Helm.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, Context, Outcome, OutputFormat, exit, output, say, warn};
use crate::chart::fetch::ChartSource;
use crate::chart::{self, Chart, KubeVersion, RenderOptions, ValuesInput};
use crate::template::{Function, Source, functions};

mod files;
mod refused;
pub(super) mod source;
mod values;

pub use refused::HelmArgs;
pub use source::FetchArgs;
pub use values::ValueArgs;

/// Subcommands of `omk chart`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Render a chart's manifests, as `helm template` does
    Template(Box<TemplateArgs>),
    /// List the functions that templates may call, and where each comes from
    Functions(FunctionsArgs),
}

/// What a chart is told about its release and its cluster, as Helm names it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Chart options")]
pub struct RenderArgs {
    /// Namespace of the release
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Version of Kubernetes that the chart is told
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// API versions that the chart is told besides those of Kubernetes itself
    #[arg(short, long, value_name = "VERSION", value_delimiter = ',')]
    api_versions: Vec<String>,
    /// Leave out hooks
    #[arg(long)]
    no_hooks: bool,
    /// Leave out tests
    #[arg(long)]
    skip_tests: bool,
    /// Render as for an upgrade
    #[arg(long)]
    is_upgrade: bool,
}

impl TemplateArgs {
    /// Whether all that is needed lies in a folder or an archive: [`render_local`] does.
    pub(super) fn is_local(&self) -> bool {
        !self.fetch.dependencies() && matches!(self.fetch.source(self.chart()), Ok(ChartSource::Path(_)))
    }

    /// What clap cannot check.
    fn check(&self) -> Result<(), CliError> {
        self.helm.check()?;
        if self.name().is_some() && (self.generate_name || self.name_template.is_some()) {
            let flag = if self.generate_name { "--generate-name" } else { "--name-template" };
            return Err(CliError::usage(format!("cannot set {flag} and also specify a name")));
        }
        if self.values.reads_stdin() && self.fetch.reads_stdin() {
            return Err(CliError::usage("standard input cannot be both values and a password"));
        }
        Ok(())
    }

    fn name(&self) -> Option<&str> {
        self.what.first().filter(|_| self.what.len() > 1).map(String::as_str)
    }

    fn chart(&self) -> &str {
        self.what.last().map(String::as_str).unwrap_or_default()
    }
}

impl RenderArgs {
    /// With these values; the rest is as by default.
    ///
    /// # Errors
    ///
    /// If the version of Kubernetes is none.
    pub fn options(&self, values: ValuesInput) -> Result<RenderOptions, CliError> {
        let kube_version = match self.kube_version.as_deref().filter(|text| !text.is_empty()) {
            None => KubeVersion::default(),
            Some(text) => KubeVersion::parse(text).ok_or_else(|| {
                CliError::usage(format!(
                    "invalid kube version '{text}': could not parse {text:?} as version; write 1.30 or v1.30.2"
                ))
            })?,
        };
        Ok(RenderOptions {
            // As in `-n "$NAMESPACE"` of a script.
            namespace: if self.namespace.is_empty() { "default".into() } else { self.namespace.clone() },
            kube_version,
            api_versions: self.api_versions.clone(),
            is_upgrade: self.is_upgrade,
            no_hooks: self.no_hooks,
            skip_tests: self.skip_tests,
            values,
            ..RenderOptions::default()
        })
    }
}

/// Arguments of `omk chart template`.
#[derive(Debug, Args)]
#[command(disable_version_flag = true, override_usage = "omk chart template [OPTIONS] [NAME] <CHART>")]
#[command(mut_args = values::takes_go_bool)]
#[command(after_help = "\
Examples:
  omk chart template web ./web-chart -f values.prod.yaml --set web.replicas=3
  omk chart template web web-1.2.3.tgz --include-crds --kube-version 1.30
  omk chart template web oci://registry.example.com/charts/web --version ^1.2
  omk chart template web web --repo https://charts.example.com --output-dir out")]
pub struct TemplateArgs {
    /// Name of the release, which may be left out (release-name), and the chart: a folder or .tgz, oci://HOST/PATH:VERSION,
    /// https://….tgz, or with --repo its name there
    #[arg(num_args = 1..=2, required = true, value_names = ["NAME", "CHART"])]
    what: Vec<String>,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    render: RenderArgs,
    /// Leave out NAME: the release is called release-name, as helm template does
    #[arg(short, long)]
    generate_name: bool,
    /// Go template that gives the name of the release
    #[arg(long, value_name = "TEMPLATE")]
    name_template: Option<String>,
    /// Print the custom resource definitions under crds/ too
    #[arg(long)]
    include_crds: bool,
    /// Only print what comes from this template, such as templates/deployment.yaml
    #[arg(short, long, value_name = "TEMPLATE")]
    show_only: Vec<String>,
    /// Write a file for each template into this folder instead of printing
    #[arg(long, value_name = "FOLDER", conflicts_with = "show_only")]
    output_dir: Option<PathBuf>,
    /// Put a folder with the name of the release below --output-dir
    #[arg(long)]
    release_name: bool,
    #[command(flatten)]
    fetch: FetchArgs,
    #[command(flatten)]
    helm: HelmArgs,
}

/// Arguments of `omk chart functions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk chart functions
  omk chart functions -o json | jq -r '.[] | select(.source == \"helm\").name'")]
pub struct FunctionsArgs {
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// A function as `-o json` shows it.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    source: &'static str,
    parameters: Vec<String>,
}

fn listed(f: Function) -> Listed {
    let source = match f.source {
        Source::Go => "go",
        Source::Sprig => "sprig",
        Source::Helm => "helm",
    };
    Listed { name: f.name, source, parameters: f.parameters }
}

fn list(output: OutputFormat) -> Result<(), CliError> {
    let all: Vec<Listed> = functions().into_iter().map(listed).collect();
    if output == OutputFormat::Json {
        return output::json(&all);
    }
    let row = |f: &Listed| vec![f.name.to_owned(), f.source.to_owned(), f.parameters.join(", ")];
    let rows: Vec<_> = all.iter().map(row).collect();
    say(output::table(&["FUNCTION", "SOURCE", "PARAMETERS"], &rows).trim_end());
    Ok(())
}

pub(super) async fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Functions(args) => {
            list(args.output)?;
            Ok(exit::OK)
        }
        Command::Template(args) => {
            args.check()?;
            let source = args.fetch.source(args.chart())?;
            let fetched = fetch(&args.fetch, &source, &context).await?;
            // Rendering is work for one core and may take a while.
            let text = tokio::task::spawn_blocking(move || template(&args, &fetched))
                .await
                .map_err(|e| CliError::failed(format!("rendering stopped: {e}")))??;
            output::text(&text);
            Ok(exit::OK)
        }
    }
}

/// Renders a chart without what waits for a network, which takes longer to set up than most charts to render.
pub(super) fn render_local(args: &TemplateArgs) -> Outcome {
    args.check()?;
    let ChartSource::Path(path) = args.fetch.source(args.chart())? else {
        return Err(CliError::usage("the chart is not on this machine"));
    };
    // Kept to the end of the process, which gives memory back sooner than piece by piece.
    let chart = std::mem::ManuallyDrop::new(chart::load(&path)?);
    output::text(&template(args, &chart)?);
    Ok(exit::OK)
}

async fn fetch(args: &FetchArgs, source: &ChartSource, context: &Context) -> Result<Chart, CliError> {
    let fetcher = args.fetcher(source)?;
    let chart = fetcher.load(source, args.dependencies(), &context.events, &context.cancel).await;
    chart.map_err(|e| if context.cancel.is_cancelled() { CliError::cancelled() } else { e.into() })
}

fn template(args: &TemplateArgs, chart: &Chart) -> Result<String, CliError> {
    let name = match (args.name(), &args.name_template) {
        (Some(name), _) => name.to_owned(),
        (None, Some(text)) => chart::release_name(text)?,
        (None, None) => RenderOptions::default().release_name,
    };
    let options = RenderOptions {
        release_name: name,
        include_crds: args.include_crds,
        is_last: true,
        ..args.render.options(args.values.read()?)?
    };
    let rendered = chart::render(chart, &options).map_err(|e| {
        let missing = matches!(e, chart::ChartError::MissingDependencies { .. });
        let schema = matches!(e, chart::ChartError::Schema(_));
        let error = CliError::from(e);
        match (missing, schema) {
            (true, _) => error
                .with_hint("--dependency-update fetches them, into a cache beside the chart's own folder"),
            (_, true) => error.with_hint("--skip-schema-validation renders without this check"),
            _ => error,
        }
    })?;
    rendered.warnings.iter().for_each(|w| warn(&format!("warning: {w}")));
    if let Some(dir) = &args.output_dir {
        let dir = if args.release_name { dir.join(&options.release_name) } else { dir.clone() };
        return files::write(&rendered, &dir);
    }
    if args.show_only.is_empty() {
        return Ok(rendered.to_manifest());
    }
    Ok(rendered.show_only(&args.show_only)?)
}

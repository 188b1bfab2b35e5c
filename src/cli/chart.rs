//! `omk chart`: Helm charts without Helm.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, Outcome, OutputFormat, exit, output, say};
use crate::chart::{self, KubeVersion, RenderOptions, Setting, ValuesInput};
use crate::template::{Function, Source, functions};

/// Subcommands of `omk chart`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Render a chart's manifests, as `helm template` does
    Template(Box<TemplateArgs>),
    /// List the functions that templates may call, and where each comes from
    Functions(FunctionsArgs),
}

/// Where a chart's values come from, as Helm names them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Chart options")]
pub struct ValueArgs {
    /// Values file; later ones win
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Value, such as image.tag=1.2,hosts={a,b}
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same, but always text
    #[arg(long, value_name = "KEY=VALUE")]
    set_string: Vec<String>,
    /// Value in JSON
    #[arg(long, value_name = "KEY=JSON")]
    set_json: Vec<String>,
    /// Value that is a file's content
    #[arg(long, value_name = "KEY=FILE")]
    set_file: Vec<String>,
    /// Value that is taken as it stands
    #[arg(long, value_name = "KEY=TEXT")]
    set_literal: Vec<String>,
}

impl ValueArgs {
    /// Reads the files that are named.
    ///
    /// # Errors
    ///
    /// If one of them cannot be read, or a setting has no `=`.
    pub fn read(&self) -> Result<ValuesInput, CliError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map_err(|e| CliError::failed(format!("cannot read {}: {e}", path.display())))
        };
        let pair = |text: &str| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(CliError::usage(format!("{text:?} has no value; write KEY=VALUE"))),
        };
        let mut input = ValuesInput::default();
        for path in &self.values {
            input.files.push((path.display().to_string(), read(path)?));
        }
        // Helm applies them in this order, whatever the order on the command line.
        input.settings.extend(self.set_json.iter().cloned().map(Setting::Json));
        input.settings.extend(self.set.iter().cloned().map(Setting::Set));
        input.settings.extend(self.set_string.iter().cloned().map(Setting::SetString));
        for text in &self.set_file {
            let (key, path) = pair(text)?;
            input.settings.push(Setting::File(key, read(&PathBuf::from(path))?));
        }
        for text in &self.set_literal {
            let (key, value) = pair(text)?;
            input.settings.push(Setting::Literal(key, value));
        }
        Ok(input)
    }
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

impl RenderArgs {
    /// With these values; the rest is as by default.
    ///
    /// # Errors
    ///
    /// If the version of Kubernetes is none.
    pub fn options(&self, values: ValuesInput) -> Result<RenderOptions, CliError> {
        let kube_version = match &self.kube_version {
            None => KubeVersion::default(),
            Some(text) => KubeVersion::parse(text).ok_or_else(|| {
                CliError::usage(format!("invalid kube version {text:?}; write 1.30 or v1.30.2"))
            })?,
        };
        Ok(RenderOptions {
            namespace: self.namespace.clone(),
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
#[command(after_help = "\
Examples:
  omk chart template web ./web-chart -f values.prod.yaml --set web.replicas=3
  omk chart template web web-1.2.3.tgz --include-crds --kube-version 1.30")]
pub struct TemplateArgs {
    /// Name of the release
    name: String,
    /// Folder or .tgz of the chart
    chart: PathBuf,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    render: RenderArgs,
    /// Print the custom resource definitions under crds/ too
    #[arg(long)]
    include_crds: bool,
    /// Only print what comes from this template, such as templates/deployment.yaml
    #[arg(short, long, value_name = "TEMPLATE")]
    show_only: Vec<String>,
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

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Functions(args) => {
            list(args.output)?;
            Ok(exit::OK)
        }
        Command::Template(args) => {
            // Rendering is work for one core and may take a while.
            let text = tokio::task::spawn_blocking(move || template(&args))
                .await
                .map_err(|e| CliError::failed(format!("rendering stopped: {e}")))??;
            output::text(&text);
            Ok(exit::OK)
        }
    }
}

fn template(args: &TemplateArgs) -> Result<String, CliError> {
    let options = RenderOptions {
        release_name: args.name.clone(),
        include_crds: args.include_crds,
        ..args.render.options(args.values.read()?)?
    };
    let rendered = chart::render(&chart::load(&args.chart)?, &options)?;
    if args.show_only.is_empty() {
        return Ok(rendered.to_manifest());
    }
    Ok(rendered.show_only(&args.show_only)?)
}

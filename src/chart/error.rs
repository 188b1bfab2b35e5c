//! What can go wrong with a chart.

use std::path::PathBuf;

use crate::template::TemplateError;
use crate::yaml::YamlError;

/// Why a chart could not be loaded or rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no chart at this place.
    #[error("{} is not a chart: {reason}", path.display())]
    NotAChart {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A chart that is refused for what it could do to this machine.
    #[error("chart {} is refused: {reason}", path.display())]
    Unsafe {
        /// The chart.
        path: PathBuf,
        /// What it holds.
        reason: String,
    },
    /// A file of the chart is no YAML, or not what it should be.
    #[error("{chart}: {}", cannot_load(file, source))]
    Yaml {
        /// The chart's name or place.
        chart: String,
        /// The file within it.
        file: String,
        /// Place and reason.
        source: YamlError,
    },
    /// A chart below `charts/` is not well formed.
    #[error("error unpacking subchart {name} in {parent}: {}", inner(source))]
    Subchart {
        /// Its folder or archive.
        name: String,
        /// The chart that it is in.
        parent: String,
        /// What is wrong with it.
        source: Box<ChartError>,
    },
    /// `Chart.yaml` says something that cannot be.
    #[error("{chart}: {reason}")]
    Invalid {
        /// The chart's name or place.
        chart: String,
        /// What is wrong.
        reason: String,
    },
    /// Dependencies are declared but not in `charts/`.
    #[error(
        "{chart}: an error occurred while checking for chart dependencies. You may need to run 'helm dependency \
         build' to fetch missing dependencies: found in Chart.yaml, but missing in charts/ directory: {}",
        missing.join(", ")
    )]
    MissingDependencies {
        /// The chart.
        chart: String,
        /// Names of the missing charts.
        missing: Vec<String>,
    },
    /// The chart could not be had.
    #[error(transparent)]
    Fetch(Box<super::fetch::FetchError>),
    /// The template that gives the name of the release fails.
    #[error("{0}")]
    NameTemplate(String),
    /// Helm takes no such name for a release.
    #[error(
        "release name check failed: release name {0:?}: invalid release name, must match regex \
         ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ and the length must not be longer than 53"
    )]
    ReleaseName(String),
    /// A values file that cannot be used.
    #[error("failed to parse {name}: {reason}")]
    Values {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A value given on the command line that cannot be used. Worded as Helm does.
    #[error("failed parsing {flag} data{reason}")]
    Setting {
        /// The flag, such as `--set`.
        flag: &'static str,
        /// What follows: the reason and the expression.
        reason: String,
    },
    /// Values do not meet a `values.schema.json`; what is wrong, a line each.
    #[error("values don't meet the specifications of the schema(s) in the following chart(s):\n{0}")]
    Schema(String),
    /// The chart does not run on this Kubernetes.
    #[error(
        "{chart}: chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {given}; pass another \
         with --kube-version"
    )]
    KubeVersion {
        /// The chart.
        chart: String,
        /// Its constraint.
        wanted: String,
        /// The version that was assumed.
        given: String,
    },
    /// A template failed. The message is Helm's.
    #[error("{}", helm_message(.0))]
    Template(#[from] TemplateError),
    /// What a template printed is no YAML.
    #[error("YAML parse error on {template}: {}", source.upstream())]
    Output {
        /// The template.
        template: String,
        /// Place in its output, and reason.
        source: YamlError,
    },
    /// More came of it than is read.
    #[error("{template}: {reason}")]
    TooLarge {
        /// The template at which it became too much.
        template: String,
        /// What, and the bound.
        reason: String,
    },
    /// A file named by `--show-only` is not among the templates with output.
    #[error("could not find template {0} in chart")]
    NoSuchTemplate(String),
}

impl From<super::fetch::FetchError> for ChartError {
    fn from(error: super::fetch::FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

/// Without the place, which is told before.
fn inner(error: &ChartError) -> String {
    match error {
        ChartError::Invalid { reason, .. } | ChartError::NotAChart { reason, .. } => reason.clone(),
        ChartError::Yaml { file, source, .. } => cannot_load(file, source),
        other => other.to_string(),
    }
}

/// Without the chart's place.
pub(crate) fn cannot_load(file: &str, source: &YamlError) -> String {
    let document = if file == "values.yaml" { "cannot unmarshal yaml document: " } else { "" };
    format!("cannot load {file}: {document}{}", source.upstream())
}

fn helm_message(e: &TemplateError) -> String {
    match e {
        TemplateError::Exec(e) => e.helm_message(),
        other => other.to_string(),
    }
}

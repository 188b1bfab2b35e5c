//! Which images does an input need, and why.
//!
//! A [`Source`] reads something — a folder of manifests, standard input, a chart — and yields [`Findings`]: images,
//! each with the place that names it, and problems, each with the place that could not be read. One bad document
//! costs only itself. [`discover`] runs all sources of a command and sorts what they found.
//!
//! The walk over a parsed document is pure and driven by data: which kinds run pods, which of a pod's fields name
//! images, what each kind of evidence is worth ([`RULES`]). Reading is in one file at the edge.
//!
//! # Report
//!
//! [`Findings::report`] is what `-o json` prints. Fields that are unknown are `null`; new fields may be added.
//!
//! ```json
//! {
//!   "images": [
//!     {
//!       "image": "docker.io/library/nginx:1.27",
//!       "confidence": "certain",
//!       "origins": [
//!         {
//!           "source": "file",
//!           "path": "deploy/web.yaml",
//!           "document": 1,
//!           "line": 12,
//!           "column": 18,
//!           "kind": "Deployment",
//!           "namespace": "shop",
//!           "name": "web",
//!           "field": "spec.template.spec.containers[0].image",
//!           "rule": "container",
//!           "switch": null,
//!           "confidence": "certain"
//!         }
//!       ]
//!     }
//!   ],
//!   "conflicts": [{ "name": "docker.io/library/nginx", "versions": ["1.26", "1.27"], "kind": "tags" }],
//!   "problems": [
//!     {
//!       "source": "file",
//!       "path": "deploy/bad.yaml",
//!       "document": 2,
//!       "line": 7,
//!       "column": 3,
//!       "field": null,
//!       "reason": "not YAML: ...",
//!       "severity": "error"
//!     }
//!   ],
//!   "documents": { "read": 4, "without_images": 2, "skipped": 0, "failed": 1 }
//! }
//! ```
//!
//! The origins of an image stand the surest first. `rule` is one of [`RULES`], `switch` the value that switches an image on
//! that is off (`metrics.enabled=true`). A conflict is one repository with several tags (`tags`), or one tag with
//! several digests (`digests`).
//!
//! `source` is `file` (with `path`), `chart` (with `path` and `template`), `kustomization` (with `path` and the `file` it
//! read the object from), `stdin`, `argument` or, for problems only,
//! `chart-options`. `document`, `line` and `column` count from 1; in a chart, lines are those of what the template
//! printed. `severity` is `error` when images
//! may be missing because of it, else `warning`. The four counts are explained at [`Documents`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::catalogue::Picked;
use crate::chart::fetch::{ChartSource, Loader};
use crate::chart::{ChartError, RenderOptions};
use crate::oci::ImageRef;

mod argument;
mod chart;
mod conflict;
mod evidence;
mod expand;
mod finding;
mod findings;
mod glob;
mod held;
mod input;
mod interpolate;
mod json;
mod kustomization;
mod like;
mod list;
mod manifest;
mod nested;
mod pattern;
mod rules;
mod running;
mod schema;
mod split;
mod switched;
mod text;
mod tree;
mod unused;
mod walk;

pub use argument::{ArgumentSource, ComponentSource};
pub use conflict::{Conflict, ConflictKind, conflicts};
pub use finding::{
    Confidence, Expanded, Finding, NoConfidence, Origin, Outer, Problem, Severity, SourceName,
};
pub use findings::{Documents, Findings, Needed, Place, Report};
pub use held::Held;
pub use manifest::{ManifestSource, StdinSource};
pub use pattern::{Exclusion, ImagePattern};
pub use rules::{RULES, Rule};
pub use running::{Running, RunningImage, read_running, running};
pub use walk::scan;

/// What a command was given to look for images in.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Files, folders and charts; `-` is standard input.
    pub paths: Vec<PathBuf>,
    /// How the charts among them are rendered. Its release name is of no account, and custom resource definitions are
    /// always looked into.
    pub charts: RenderOptions,
    /// The name of the release; `None` for that of each chart.
    pub release_name: Option<String>,
    /// Images that are needed whatever the rest says.
    pub images: Vec<ImageRef>,
    /// Components of the catalogue.
    pub components: Vec<Picked>,
    /// Charts with values, a name or a repository of their own.
    pub releases: Vec<ChartInput>,
}

/// A chart that is named apart from the paths, with what is its alone.
#[derive(Debug, Clone)]
pub struct ChartInput {
    /// Where it is.
    pub chart: ChartSource,
    /// Name of the release; `None` for that of the chart.
    pub release_name: Option<String>,
    /// How it is rendered. Its release name is of no account.
    pub options: RenderOptions,
}

/// Bounds on what is read, and when to stop. The defaults are far above what real inputs need.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Bytes of one file or of standard input. Default 64 MiB.
    pub max_file_bytes: u64,
    /// Entries below one folder, of any kind but hidden. Default one million.
    pub max_entries: usize,
    /// Levels of folders. Default 64.
    pub max_depth: usize,
    /// Fetches charts and dependencies of charts; without it, charts are those on this machine with what they bring
    /// along.
    pub charts: Option<Loader>,
    /// Folders that stand in for what is not fetched: the work tree of a Git repository, unpacked artifacts, packed or
    /// unpacked charts of a repository. Looked up by name, namespace/name or address; see `docs/sources.md`.
    pub source_paths: Vec<(String, PathBuf)>,
    /// Values of variables that a document leaves to its environment: Compose, Zarf, Flux.
    pub variables: BTreeMap<String, String>,
    /// Objects that are followed to what they lead to, in all. Default 5,000.
    pub max_expansions: usize,
    /// Objects that lead to each other in a row. Default 8.
    pub max_expansion_depth: usize,
    /// Whether images are told too that the input can ask for and, set up as it is, does not: values of charts which
    /// are switched off. Default no.
    pub include_disabled: bool,
    /// Names of rules that are to see nothing; see [`RULES`]. Default none.
    pub without_rules: Vec<String>,
    /// Asks to stop between two files.
    pub cancel: CancellationToken,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            max_file_bytes: 64 << 20,
            max_entries: 1_000_000,
            max_depth: 64,
            charts: None,
            source_paths: Vec::new(),
            variables: BTreeMap::new(),
            max_expansions: 5_000,
            max_expansion_depth: 8,
            include_disabled: false,
            without_rules: Vec::new(),
            cancel: CancellationToken::new(),
        }
    }
}

impl Scope {
    fn check(&self, path: &Path) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::file(path, Cause::Cancelled));
        }
        Ok(())
    }
}

/// Something that says which images are needed.
pub trait Source {
    /// Everything that is found. What is wrong with a part of the source is a [`Problem`] among the findings, and
    /// the rest is read all the same. Order does not matter.
    ///
    /// # Errors
    /// When nothing of the source can be read, or reading was cancelled.
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError>;
}

/// Why nothing of a source could be read.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {cause}")]
pub struct SourceError {
    /// Which.
    pub name: SourceName,
    /// Where in it, if that is known.
    pub line: Option<u32>,
    /// As `line`.
    pub column: Option<u32>,
    /// What happened.
    pub cause: Cause,
}

/// The kinds of [`SourceError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The file system said no.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// There is no such file, but it is written as images are.
    #[error("there is no such file or folder; for the image of that name write --image {0}")]
    Image(String),
    /// A pattern such as `*.yaml` that matches nothing.
    #[error("nothing here matches this pattern; check where you are, or name files and folders")]
    NoMatch,
    /// More bytes than [`Scope::max_file_bytes`].
    #[error("is larger than {0} bytes; split it")]
    TooLarge(u64),
    /// More entries than [`Scope::max_entries`].
    #[error("has more than {0} entries; name the folders that matter")]
    TooMany(usize),
    /// The bytes are not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// The bytes start as UTF-16 does.
    #[error("is UTF-16 text; save it as UTF-8")]
    Utf16,
    /// A chart cannot be loaded or rendered.
    #[error("{text}")]
    Chart {
        /// The error without the chart's path, which is said already.
        text: String,
        /// The error.
        source: Box<ChartError>,
    },
    /// [`Scope::cancel`] was set.
    #[error("reading was cancelled")]
    Cancelled,
}

impl SourceError {
    fn file(path: &Path, cause: Cause) -> Self {
        Self { name: SourceName::File { path: path.into() }, line: None, column: None, cause }
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        let problem = Self::of_source(Severity::Error, error.name, one_line(&error.cause.to_string()));
        Self { line: error.line, column: error.column, ..problem }
    }
}

/// Helm's errors go over several lines; a log wants one.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).fold(String::new(), |all, line| {
        let link = if all.is_empty() || all.ends_with(':') { "" } else { ":" };
        if all.is_empty() { line.to_owned() } else { format!("{all}{link} {line}") }
    })
}

/// Reading was cancelled before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("looking for images was cancelled")]
pub struct Cancelled;

/// Everything that `inputs` need, sorted. Reads files, so it blocks; a source that cannot be read is a [`Problem`]
/// among the findings.
///
/// # Errors
/// Only when `scope` was cancelled.
pub fn discover(inputs: &Inputs, scope: &Scope) -> Result<Findings, Cancelled> {
    let mut all = Findings::default();
    for source in sources(inputs) {
        match source.findings(scope) {
            Ok(found) => all.merge(found),
            Err(SourceError { cause: Cause::Cancelled, .. }) => return Err(Cancelled),
            Err(error) => all.unread(error),
        }
    }
    let Documents { read, skipped, failed, .. } = all.documents;
    if skipped > 0 && read + failed + all.charts == 0 && all.problems.is_empty() {
        // Among others such a file is usual, as values of a chart are; alone it is not what was meant.
        for path in &inputs.paths {
            let source = match path.to_str() {
                Some("-") => SourceName::Stdin,
                _ => SourceName::File { path: path.clone() },
            };
            let reason = "nothing in it is a Kubernetes object, as no document has a kind: there was nothing to look into";
            all.problems.push(Problem::of_source(Severity::Warning, source, reason));
        }
    }
    let any_chart =
        all.charts > 0 || !inputs.releases.is_empty() || all.problems.iter().any(|p| p.source.is_chart());
    if let (false, Some(given)) = (any_chart, chart_options(inputs)) {
        let reason = format!("{given} given, but none of the sources is a chart, so nothing comes of it");
        all.problems.push(Problem::of_source(Severity::Warning, SourceName::ChartOptions, reason));
    }
    let mut all = expand::follow(all, inputs, scope)?;
    all.settle();
    all.findings.retain(|f| !scope.without_rules.iter().any(|r| *r == f.origin.rule));
    all.sort();
    all.drop_needless();
    Ok(all)
}

/// The files that [`discover`] reads as manifests below a folder, sorted; the parts of charts among them are left out.
///
/// # Errors
/// As for a source that cannot be read.
pub fn manifest_files(folder: &Path, scope: &Scope) -> Result<Vec<PathBuf>, SourceError> {
    let listing = input::list(folder, scope)?;
    let manifest = |entry: input::Entry| match entry {
        input::Entry::Manifest(path) => Some(path),
        input::Entry::Chart(_) | input::Entry::Kustomization(_) => None,
    };
    Ok(listing.entries.into_iter().filter_map(manifest).collect())
}

/// What was given for charts, in words.
fn chart_options(inputs: &Inputs) -> Option<String> {
    let (given, default) = (&inputs.charts, RenderOptions::default());
    let all = [
        ("values", !(given.values.files.is_empty() && given.values.settings.is_empty())),
        ("a namespace", given.namespace != default.namespace),
        ("a release name", inputs.release_name.is_some()),
        ("a Kubernetes version", given.kube_version != default.kube_version),
        ("API versions", !given.api_versions.is_empty()),
    ];
    let named: Vec<&str> = all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    let verb = if matches!(named[..], [one] if one.starts_with("a ")) { "was" } else { "were" };
    (!named.is_empty()).then(|| format!("{} {verb}", named.join(" and ")))
}

fn sources(inputs: &Inputs) -> Vec<Box<dyn Source + '_>> {
    let mut all: Vec<Box<dyn Source + '_>> = vec![Box::new(ArgumentSource { images: &inputs.images })];
    all.push(Box::new(ComponentSource { picked: &inputs.components }));
    let mut named: Vec<&Path> = Vec::new();
    all.extend(inputs.releases.iter().map(|r| Box::new(r) as Box<dyn Source>));
    for path in &inputs.paths {
        if named.contains(&path.as_path()) {
            continue;
        }
        named.push(path);
        if path.as_os_str() == "-" {
            all.push(Box::new(StdinSource));
        } else {
            let (charts, release_name) = (&inputs.charts, inputs.release_name.as_deref());
            all.push(Box::new(ManifestSource { path, charts, release_name }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(image: &str) -> String {
        format!("kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{image: '{image}'}}]}}\n")
    }

    fn inputs(paths: &[PathBuf]) -> Inputs {
        Inputs { paths: paths.to_vec(), ..Inputs::default() }
    }

    #[test]
    fn sources_add_up_each_once_in_one_order() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a.yaml", "b.yaml"].map(|n| dir.path().join(n));
        std::fs::write(&a, pod("z:1")).unwrap();
        std::fs::write(&b, pod("a:1") + "---\n" + &pod("z:1")).unwrap();
        let given =
            Inputs { images: vec!["z:1".parse().unwrap()], ..inputs(&[b.clone(), a.clone(), b.clone()]) };
        let found = discover(&given, &Scope::default()).unwrap();
        let places: Vec<_> = found.by_image().iter().map(|n| (n.image.familiar(), n.origins.len())).collect();
        assert_eq!(places, [("a:1".to_owned(), 1), ("z:1".to_owned(), 3)]);
        assert_eq!(found.documents.read, 3);
        assert_eq!(discover(&inputs(&[a, b]), &Scope::default()).unwrap().images(), found.images());
    }

    #[test]
    fn a_source_that_is_missing_is_a_problem_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let [good, gone] = ["good.yaml", "gone.yaml"].map(|n| dir.path().join(n));
        std::fs::write(&good, pod("a:1")).unwrap();
        let found = discover(&inputs(&[gone.clone(), good]), &Scope::default()).unwrap();
        assert_eq!((found.findings.len(), found.is_partial(), found.is_failure()), (1, true, false));
        assert!(found.problems[0].to_string().contains("gone.yaml: cannot be read"), "{}", found.problems[0]);
        assert!(discover(&inputs(&[gone]), &Scope::default()).unwrap().is_failure());
    }

    #[test]
    fn it_stops_when_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), pod("a:1")).unwrap();
        let scope = Scope::default();
        scope.cancel.cancel();
        assert_eq!(discover(&inputs(&[dir.path().into()]), &scope), Err(Cancelled));
    }

    #[test]
    fn where_nothing_is_read_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let told = |path: PathBuf| {
            let found = discover(&inputs(&[path]), &Scope::default()).unwrap();
            assert!(!found.is_partial());
            found.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let top = dir.path().to_owned();
        assert!(told(top.clone()).contains("no .yaml, .yml or .json file, chart"), "{}", told(top));
        std::fs::write(dir.path().join("a.yaml"), "# nothing yet\n---\n").unwrap();
        assert!(told(dir.path().join("a.yaml")).contains("no document"), "{}", told(dir.path().into()));
        assert!(told(dir.path().into()).contains("no document"));
        std::fs::write(dir.path().join("b.yaml"), pod("a:1")).unwrap();
        assert_eq!(told(dir.path().into()), "");
    }

    #[test]
    fn what_is_given_for_charts_wants_a_chart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, pod("a:1")).unwrap();
        let mut given = Inputs { release_name: Some("web".into()), ..inputs(&[file]) };
        let told = |given: &Inputs| discover(given, &Scope::default()).unwrap().problems[0].to_string();
        let rest = "given, but none of the sources is a chart, so nothing comes of it";
        assert_eq!(told(&given), format!("chart options: a release name was {rest}"));
        given.charts.values.files.push(("v.yaml".into(), "a: 1".into()));
        assert_eq!(told(&given), format!("chart options: values and a release name were {rest}"));
    }

    #[test]
    fn charts_are_rendered_for_a_release_and_lines_are_those_of_what_a_template_printed() {
        let dir = tempfile::tempdir().unwrap();
        let chart = dir.path().join("web");
        std::fs::create_dir_all(chart.join("templates")).unwrap();
        std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n").unwrap();
        let template = "{{- /* two documents */ -}}\n---\nkind: Service\n---\nkind: Pod\nmetadata:\n  name: \
                        {{ .Release.Name }}\nspec:\n  containers:\n  - image: \
                        {{ .Release.Namespace }}/x:1\n";
        std::fs::write(chart.join("templates/a.yaml"), template).unwrap();
        let mut given = inputs(std::slice::from_ref(&chart));
        given.charts.namespace = "prod".into();
        given.release_name = Some("live".into());
        let found = discover(&given, &Scope::default()).unwrap();
        assert_eq!(found.images(), ["prod/x:1".parse().unwrap()]);
        let place = "shop/templates/a.yaml, rendered line 9: Pod live spec.containers[0].image";
        assert_eq!(found.findings[0].origin.to_string(), format!("{}: {place}", chart.display()));
        std::fs::write(chart.join("templates/b.yaml"), "{{ fail \"no\" }}").unwrap();
        let problem = discover(&given, &Scope::default()).unwrap().problems[0].to_string();
        assert!(problem.starts_with(&format!("{}: ", chart.display())), "{problem}");
        std::fs::write(chart.join("Chart.yaml"), "name: [").unwrap();
        let problem = discover(&given, &Scope::default()).unwrap().problems[0].to_string();
        assert_eq!(problem.matches(&chart.display().to_string()).count(), 1, "{problem}");
    }
}

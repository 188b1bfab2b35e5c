use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Rule;
use crate::oci::ImageRef;

/// An image that an input needs, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is needed.
    pub image: ImageRef,
    /// Where it is said.
    #[serde(flatten)]
    pub origin: Origin,
    /// How sure it is that the text names an image that will run: that of the rule which saw it.
    pub confidence: Confidence,
}

impl Finding {
    /// What `rule` saw at `origin`, which takes over the rule's name.
    pub fn new(image: ImageRef, rule: &'static Rule, origin: Origin) -> Self {
        let origin = Origin { rule: Cow::Borrowed(rule.name), ..origin };
        Self { image, origin, confidence: rule.confidence }
    }
}

/// How sure a finding is; greater is surer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Confidence {
    /// An image that the input can ask for and, set up as it is, does not: a value that is switched off. Looked for
    /// only when asked to ([`super::Inputs::include_disabled`]).
    Possible,
    /// A text that is an image by its name or its form, at a place where nothing defines what the text is: an
    /// environment variable, an argument, a file in a `ConfigMap`, what a chart says about itself.
    Likely,
    /// A field of a custom resource whose schema or name says image: its operator will run it.
    Strong,
    /// The field is defined as an image that the cluster pulls, or a user named the image.
    Certain,
}

impl Confidence {
    /// From the least sure to the surest.
    pub const ALL: [Self; 4] = [Self::Possible, Self::Likely, Self::Strong, Self::Certain];
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Strong => "strong",
            Self::Certain => "certain",
        })
    }
}

/// The text is none of the four levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not one of possible, likely, strong, certain")]
pub struct NoConfidence;

impl FromStr for Confidence {
    type Err = NoConfidence;

    fn from_str(text: &str) -> Result<Self, NoConfidence> {
        Self::ALL.into_iter().find(|c| c.to_string() == text).ok_or(NoConfidence)
    }
}

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceName {
    /// A file, by the path that the user gave or that was found below it.
    File {
        /// That path.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A rendered chart.
    Chart {
        /// Its folder or archive.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// The template within it, `web/templates/deploy.yaml`; `None` for the chart as a whole.
        template: Option<String>,
    },
    /// What a kustomization builds.
    Kustomization {
        /// Its folder.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// The file that the object was read from before patches; `None` for the kustomization as a whole.
        #[serde(serialize_with = "lossy_option")]
        file: Option<PathBuf>,
    },
    /// Standard input.
    Stdin,
    /// An image that the user named.
    Argument,
    /// A component of the catalogue that the user named.
    Component {
        /// Its name.
        component: String,
        /// Its version.
        version: String,
    },
    /// Values, a namespace and the like, which are for charts.
    ChartOptions,
    /// What other documents led to: a chart that a release names, a folder that an application deploys.
    #[serde(untagged)]
    Expanded(Box<Expanded>),
}

impl SourceName {
    /// Whether it is a rendered chart, however it was come by.
    pub fn is_chart(&self) -> bool {
        matches!(self.inner(), Self::Chart { .. })
    }

    /// What was read, without the way that led to it.
    pub fn inner(&self) -> &Self {
        match self {
            Self::Expanded(expanded) => &expanded.source,
            plain => plain,
        }
    }

    /// The documents that led to it, the outermost first.
    pub fn through(&self) -> &[Outer] {
        match self {
            Self::Expanded(expanded) => &expanded.through,
            _ => &[],
        }
    }
}

/// Something that other documents led to.
///
/// In JSON it is what was read in the end, with the documents on the way there under `through`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expanded {
    /// What was read in the end; never expanded itself.
    pub source: SourceName,
    /// The documents on the way there, the outermost first; at least one.
    pub through: Vec<Outer>,
}

impl Serialize for Expanded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // By way of a value: a derived implementation would be of a type that contains itself without end.
        let failed = serde::ser::Error::custom;
        let mut value = serde_json::to_value(&self.source).map_err(failed)?;
        if let Some(map) = value.as_object_mut() {
            map.insert("through".into(), serde_json::to_value(&self.through).map_err(failed)?);
        }
        value.serialize(serializer)
    }
}

/// A document that leads to others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Outer {
    /// Where it stands; never expanded itself.
    #[serde(flatten)]
    pub source: SourceName,
    /// As in [`Origin`].
    pub document: Option<usize>,
    /// Where the object begins; as in [`Origin`].
    pub line: Option<u32>,
    /// As in [`Origin`]; empty where a document has none.
    pub kind: String,
    /// As in [`Origin`].
    pub namespace: Option<String>,
    /// As in [`Origin`].
    pub name: Option<String>,
}

/// `web.yaml:12 HelmRelease shop/web`.
impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.source, self.line, None)?;
        if colon(&self.source) && !self.kind.is_empty() {
            f.write_str(":")?;
        }
        object(f, Some(self.kind.as_str()).filter(|k| !k.is_empty()), &self.namespace, &self.name)
    }
}

/// Why an image is needed: the place that names it.
///
/// Lines and columns count from 1. In a chart's template they are those of what it printed, which is all there is after
/// rendering; [`fmt::Display`] says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// The file, chart or stream.
    #[serde(flatten)]
    pub source: SourceName,
    /// Which document of the file, counted from 1; empty documents do not count.
    pub document: Option<usize>,
    /// Line of the image.
    pub line: Option<u32>,
    /// Column of the image, in characters.
    pub column: Option<u32>,
    /// `kind` of the object.
    pub kind: Option<String>,
    /// `metadata.namespace`, where the object has one.
    pub namespace: Option<String>,
    /// `metadata.name`, or `metadata.generateName`.
    pub name: Option<String>,
    /// The way from the root of the document: `items[1].spec.containers[0].image`.
    pub field: Option<String>,
    /// The name of the rule that saw it: one of [`super::RULES`].
    pub rule: Cow<'static, str>,
    /// The value that switches the image on, as `metrics.enabled=true`, where it is switched off and that can be told.
    pub switch: Option<String>,
}

impl Origin {
    /// A place in `source` of which nothing more is known; fill in what is.
    pub fn of_source(source: SourceName) -> Self {
        Self {
            source,
            document: None,
            line: None,
            column: None,
            kind: None,
            namespace: None,
            name: None,
            field: None,
            rule: Cow::Borrowed(""),
            switch: None,
        }
    }
}

/// Whether a problem may have cost images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something could not be read: the list of images may lack some. Makes the result partial.
    Error,
    /// Something was left out on purpose, and the user should know.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something in the input that could not be read, with its place as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, chart or stream.
    #[serde(flatten)]
    pub source: SourceName,
    /// Which document of the file, counted from 1.
    pub document: Option<usize>,
    /// Counted from 1.
    pub line: Option<u32>,
    /// Counted from 1, in characters.
    pub column: Option<u32>,
    /// The field, where the document itself could be read.
    pub field: Option<String>,
    /// What is wrong and what can be done, as a lowercase fragment.
    pub reason: String,
    /// Whether images may be missing because of it.
    pub severity: Severity,
}

impl Problem {
    /// A problem with a source as a whole.
    pub fn of_source(severity: Severity, source: SourceName, reason: impl Into<String>) -> Self {
        Self {
            severity,
            source,
            document: None,
            line: None,
            column: None,
            field: None,
            reason: reason.into(),
        }
    }
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, s: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|p| p.to_string_lossy()).serialize(s)
}

fn lossy<S: Serializer>(path: &Path, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&path.to_string_lossy())
}

/// Text of a foreign document for a terminal: control characters are spelled out, so that no name can move the
/// cursor or recolour what follows.
pub(super) struct Clean<'a>(pub(super) &'a str);

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| {
            if c.is_control() || is_bidi(c) { write!(f, "{}", c.escape_unicode()) } else { f.write_char(c) }
        })
    }
}

/// The characters that change the direction of the text around them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => Clean(&path.to_string_lossy()).fmt(f),
            Self::Chart { path, template: None } => Clean(&path.to_string_lossy()).fmt(f),
            Self::Chart { path, template: Some(template) } => {
                write!(f, "{}: {}", Clean(&path.to_string_lossy()), Clean(template))
            }
            Self::Kustomization { path, file: None } => Clean(&path.to_string_lossy()).fmt(f),
            Self::Kustomization { path, file: Some(file) } => {
                write!(f, "{}: {}", Clean(&path.to_string_lossy()), Clean(&file.to_string_lossy()))
            }
            Self::Stdin => f.write_str("standard input"),
            Self::Argument => f.write_str("--image"),
            Self::Component { component, version } => {
                write!(f, "component {} {}", Clean(component), Clean(version))
            }
            Self::ChartOptions => f.write_str("chart options"),
            Self::Expanded(expanded) => {
                expanded.through.iter().try_for_each(|outer| write!(f, "{outer} → "))?;
                expanded.source.fmt(f)
            }
        }
    }
}

fn place(
    f: &mut fmt::Formatter<'_>,
    source: &SourceName,
    line: Option<u32>,
    column: Option<u32>,
) -> fmt::Result {
    fmt::Display::fmt(source, f)?;
    if source.is_chart() {
        line.iter().try_for_each(|l| write!(f, ", rendered line {l}"))?;
        return column.iter().filter(|_| line.is_some()).try_for_each(|c| write!(f, ", column {c}"));
    }
    line.iter().try_for_each(|l| write!(f, ":{l}"))?;
    column.iter().filter(|_| line.is_some()).try_for_each(|c| write!(f, ":{c}"))
}

/// Whether what follows the place would run into it.
fn colon(source: &SourceName) -> bool {
    matches!(source.inner(), SourceName::Chart { .. } | SourceName::Kustomization { .. })
}

fn object(
    f: &mut fmt::Formatter<'_>,
    kind: Option<&str>,
    namespace: &Option<String>,
    name: &Option<String>,
) -> fmt::Result {
    kind.iter().try_for_each(|k| write!(f, " {}", Clean(k)))?;
    match (namespace, name) {
        (Some(namespace), Some(name)) => write!(f, " {}/{}", Clean(namespace), Clean(name)),
        (None, Some(name)) => write!(f, " {}", Clean(name)),
        _ => Ok(()),
    }
}

/// `web.yaml:12 Deployment shop/web spec.template.spec.containers[0].image`, in one line; for a chart
/// `./web: web/templates/deploy.yaml, rendered line 12: Deployment …`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.source, self.line, None)?;
        if colon(&self.source) {
            f.write_str(":")?;
        }
        object(f, self.kind.as_deref(), &self.namespace, &self.name)?;
        self.field.iter().try_for_each(|field| write!(f, " {}", Clean(field)))
    }
}

/// `web.yaml:12:9: spec.containers[0].image: …`, in one line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.source, self.line, self.column)?;
        self.field.iter().try_for_each(|field| write!(f, ": {}", Clean(field)))?;
        write!(f, ": {}", Clean(&self.reason))
    }
}

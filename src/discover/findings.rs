//! What was found in one source or in many, and the report of it.

use std::fmt;

use serde::Serialize;

use super::conflict::{Conflict, conflicts};
use super::evidence::Pending;
use super::finding::{Clean, Confidence, Finding, Origin, Problem, Severity};
use super::schema::Schemas;
use super::{Cause, Held, SourceError};
use crate::oci::ImageRef;

/// How many documents were seen. Their sum is all of them; empty documents do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Documents {
    /// Read in full, with images or without.
    pub read: usize,
    /// Those of `read` that need no image, such as a Service.
    pub without_images: usize,
    /// Not Kubernetes objects: there is no `kind`. A values file, for instance.
    pub skipped: usize,
    /// Could not be read, or not in full: there is a [`Problem`] for each.
    pub failed: usize,
}

/// What was found in one source, or in all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Sorted by image, then by place, once [`Findings::sort`] ran.
    pub findings: Vec<Finding>,
    /// Sorted by place.
    pub problems: Vec<Problem>,
    /// How much was read.
    pub documents: Documents,
    /// Charts that were rendered.
    pub charts: usize,
    /// Documents that lead to others, which [`super::discover`] follows.
    pub held: Vec<Held>,
    /// What definitions of custom resources say; see [`Findings::settle`].
    pub(super) schemas: Schemas,
    /// Fields that are images if some definition says so.
    pub(super) pending: Vec<Pending>,
}

/// An image and every place that needs it; see [`Findings::by_image`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Needed<'a> {
    /// The image.
    pub image: &'a ImageRef,
    /// That of its surest finding.
    pub confidence: Confidence,
    /// At least one, the surest first, then by place.
    pub origins: Vec<Place<'a>>,
}

/// A place that names an image, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place<'a> {
    /// Where.
    #[serde(flatten)]
    pub origin: &'a Origin,
    /// How sure.
    pub confidence: Confidence,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}, {}]", self.origin, self.origin.rule, self.confidence)?;
        self.origin.switch.iter().try_for_each(|s| write!(f, ", switched on by {}", Clean(s)))
    }
}

impl Findings {
    /// Whether there was nothing at all: not even a document without images, or a problem.
    pub(super) fn is_empty(&self) -> bool {
        let Documents { read, skipped, failed, .. } = self.documents;
        read + skipped + failed + self.charts == 0 && self.problems.is_empty()
    }

    /// A source of which nothing could be read. A file counts as a document, so that the counts do not hide it.
    pub(super) fn unread(&mut self, error: SourceError) {
        let file = matches!(error.cause, Cause::Read(_) | Cause::TooLarge(_) | Cause::NotText | Cause::Utf16);
        self.documents.failed += usize::from(file);
        self.problems.push(error.into());
    }

    /// Takes over what another source found. Call [`Findings::sort`] when all are in.
    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.problems.extend(other.problems);
        self.documents.read += other.documents.read;
        self.documents.without_images += other.documents.without_images;
        self.documents.skipped += other.documents.skipped;
        self.documents.failed += other.documents.failed;
        self.charts += other.charts;
        self.held.extend(other.held);
        self.schemas.merge(other.schemas);
        self.pending.extend(other.pending);
    }

    /// Takes in the fields that a definition of a custom resource in the same input calls images: it may be read after
    /// the resource, and from another source. To be called once all sources are merged.
    pub(super) fn settle(&mut self) {
        let schemas = std::mem::take(&mut self.schemas);
        let mut pending = std::mem::take(&mut self.pending);
        pending
            .retain(|p| schemas.has(&p.group, p.finding.origin.kind.as_deref().unwrap_or_default(), &p.way));
        let place = |f: &Finding| {
            let o = &f.origin;
            (f.image.clone(), o.source.clone(), o.document, o.field.clone())
        };
        let sure: std::collections::BTreeSet<_> = pending.iter().map(|p| place(&p.finding)).collect();
        let bare = super::rules::CUSTOM_BARE.name;
        self.findings.retain(|f| f.origin.rule != bare || !sure.contains(&place(f)));
        self.findings.extend(pending.into_iter().map(|p| p.finding));
    }

    /// All of it is needed only once `switch` is set.
    pub(super) fn only_possible(&mut self, switch: &str) {
        let pending = self.pending.drain(..).map(|p| p.finding);
        for finding in self.findings.drain(..).chain(pending).collect::<Vec<_>>() {
            let own = finding.origin.switch.iter().map(String::as_str);
            let all: Vec<&str> = Some(switch).filter(|s| !s.is_empty()).into_iter().chain(own).collect();
            let switch = Some(all.join(",")).filter(|s| !s.is_empty());
            let origin = Origin { switch, ..finding.origin };
            self.findings.push(Finding::new(finding.image, &super::rules::SWITCHED_ON, origin));
        }
        self.problems.iter_mut().for_each(|p| p.severity = Severity::Warning);
        self.documents = Documents::default();
        self.held.iter_mut().for_each(|h| h.switch = Some(switch.into()));
    }

    /// Every place that names an image, or may turn out to.
    pub(super) fn origins_mut(&mut self) -> impl Iterator<Item = &mut Origin> {
        let pending = self.pending.iter_mut().map(|p| &mut p.finding);
        self.findings.iter_mut().chain(pending).map(|f| &mut f.origin)
    }

    /// Counts every line from `above` lines further down: the text that was read is the end of another.
    pub(super) fn move_down(&mut self, above: u32) {
        let down = |line: &mut Option<u32>| line.iter_mut().for_each(|l| *l = l.saturating_add(above));
        self.origins_mut().for_each(|o| down(&mut o.line));
        self.problems.iter_mut().for_each(|p| down(&mut p.line));
        self.held.iter_mut().for_each(|h| h.shift(above));
    }

    /// Brings findings and problems into an order that depends on nothing but themselves, each once.
    pub fn sort(&mut self) {
        self.findings.sort_unstable();
        self.findings.dedup();
        self.problems.sort_unstable();
        self.problems.dedup();
    }

    /// Leaves out of what is merely possible the images that are needed anyway. Wants sorted findings.
    pub(super) fn drop_needless(&mut self) {
        let sure = |f: &Finding| f.confidence > Confidence::Possible;
        let needed: std::collections::BTreeSet<ImageRef> =
            self.findings.iter().filter(|f| sure(f)).map(|f| f.image.clone()).collect();
        self.findings.retain(|f| sure(f) || !needed.contains(&f.image));
    }

    /// Leaves only what is at least this sure. What was read, and what could not be, stays told.
    pub fn keep(&mut self, least: Confidence) {
        self.findings.retain(|f| f.confidence >= least);
    }

    /// Whether images may be missing because something could not be read.
    pub fn is_partial(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// Whether there was something to read and nothing of it could be read.
    pub fn is_failure(&self) -> bool {
        // What a chart says about itself is not what it installs.
        let sure = self.findings.iter().any(|f| f.confidence >= Confidence::Strong);
        self.is_partial() && !sure && self.documents.read + self.documents.skipped == 0
    }

    /// Each image once, with all its origins. Wants sorted findings.
    pub fn by_image(&self) -> Vec<Needed<'_>> {
        self.findings
            .chunk_by(|a, b| a.image == b.image)
            .map(|same| {
                let mut origins: Vec<Place<'_>> =
                    same.iter().map(|f| Place { origin: &f.origin, confidence: f.confidence }).collect();
                origins.sort_by_key(|p| std::cmp::Reverse(p.confidence));
                Needed { image: &same[0].image, confidence: origins[0].confidence, origins }
            })
            .collect()
    }

    /// Each image once, in order. Wants sorted findings.
    pub fn images(&self) -> Vec<ImageRef> {
        self.by_image().into_iter().map(|n| n.image.clone()).collect()
    }

    /// The report that scripts read: see the module's documentation for its shape.
    pub fn report(&self) -> Report<'_> {
        let images = self.by_image();
        let conflicts = conflicts(images.iter().map(|n| n.image));
        Report { images, conflicts, problems: &self.problems, documents: self.documents }
    }
}

/// [`Findings`] in the shape of the JSON output.
#[derive(Debug, Clone, Serialize)]
pub struct Report<'a> {
    /// Sorted.
    pub images: Vec<Needed<'a>>,
    /// Names that do not agree, sorted.
    pub conflicts: Vec<Conflict>,
    /// Sorted.
    pub problems: &'a [Problem],
    /// How much was read.
    pub documents: Documents,
}

//! What is asked to be proved of nodes' images, and the reports of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::PoisonError;

use clap::Args;

use super::nodes::NodeArgs;
use super::output::{self, OutputFormat, say, warn};
use super::preheat::undo_hint;
use super::{CliError, Context, exit};
use crate::bundle::Bundle;
use crate::node::Node;
use crate::node::inventory::Address;
use crate::push::{CheckKind, NodeReport, PushReport, Reached, ReportKind, Verdict};
use crate::store::write_small;

/// Options of every command that proves.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Proof")]
pub struct ProofArgs {
    /// Keep kubelet's garbage collection away from every image (label io.cri-containerd.pinned, which containerd heeds from 1.7
    /// on); a proof that changes nothing says which images are not pinned
    #[arg(long)]
    pub(super) pin: bool,
    /// Hash what the nodes store, with the least priority there: metadata alone shows no flipped bit
    #[arg(long)]
    pub(super) deep: bool,
    /// Also write the report as a page (HTML): every node, image and check, with times and versions
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl ProofArgs {
    /// Before the first node is contacted.
    ///
    /// # Errors
    /// When the page could not be written at the end.
    pub(super) fn check(&self) -> Result<(), CliError> {
        self.report.as_deref().map_or(Ok(()), |file| output::destination("--report", file))
    }

    /// Completes the report with what only the command line knows, and writes and prints it.
    ///
    /// # Errors
    /// When the page cannot be written: the report is printed all the same.
    pub(super) fn tell(
        &self,
        report: &mut PushReport,
        bundle: Option<&Bundle>,
        way: &Way<'_>,
        output: OutputFormat,
        table: impl FnOnce(&PushReport),
    ) -> Result<(), CliError> {
        let digest = bundle.and_then(|b| b.index_digest().ok().flatten());
        way.complete(&mut report.nodes);
        report.bundle_digest.clone_from(&digest);
        if let Some(before) = &mut report.before {
            way.complete(&mut before.nodes);
            before.bundle_digest = digest;
        }
        match output {
            OutputFormat::Json => output::json(report)?,
            OutputFormat::Table => table(report),
        }
        let Some(file) = &self.report else { return Ok(()) };
        let page = report.html().map_err(|e| CliError::failed(format!("cannot write the report: {e:#}")))?;
        write_small(file, page.as_bytes()).map_err(|e| {
            CliError::failed(e.to_string()).with_hint(
                "only the page is lacking, what is printed above stands; `omk node verify --report FILE` writes one of how the nodes are",
            )
        })
    }
}

/// The nodes, and how each was reached.
pub(super) struct Way<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) reached: &'a Reached,
}

impl Way<'_> {
    fn complete(&self, reports: &mut [NodeReport]) {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            let Some(node) = self.nodes.iter().find(|n| n.name == report.node) else { continue };
            let how = match (reached.get(&node.name), &node.address) {
                (Some(how), _) => format!(": {how}"),
                (None, Address::Ssh { user, .. }) => format!(": {user}"),
                (None, Address::Local) => String::new(),
            };
            report.login = Some(format!("{}{how}", node.address));
        }
    }
}

/// How a command ends that many nodes took part in.
pub(super) fn code(context: &Context, good: usize, bad: usize) -> u8 {
    match (good, bad) {
        (_, 0) => exit::OK,
        _ if context.cancel.is_cancelled() => exit::CANCELLED,
        (0, _) => exit::ALL_NODES_FAILED,
        _ => exit::SOME_NODES_FAILED,
    }
}

/// How one check ended on a node, in a word or two: `3 of 4`, `weak`, `-`.
pub(super) fn cell(node: &NodeReport, kind: CheckKind) -> String {
    let all: Vec<Verdict> =
        node.images.iter().flat_map(|i| &i.checks).filter(|c| c.check == kind).map(|c| c.result).collect();
    let count = |wanted: Verdict| all.iter().filter(|v| **v == wanted).count();
    match (all.len(), count(Verdict::Failed)) {
        (0, _) => "-".to_owned(),
        (n, 0) if count(Verdict::Passed) == n => "ok".to_owned(),
        (n, 0) if count(Verdict::Skipped) == n => "not checked".to_owned(),
        (_, 0) if count(Verdict::Weak) > 0 => "weak".to_owned(),
        (_, 0) => "partly".to_owned(),
        (n, bad) => format!("{bad} of {n} BAD"),
    }
}

/// Every image of which something is refuted: node, image, what and why.
pub(super) fn findings(report: &PushReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for node in &report.nodes {
        for image in node.images.iter().filter(|i| !i.ready) {
            let name = image.names.first().cloned().unwrap_or_else(|| image.digest.to_string());
            let failed: Vec<_> = image.checks.iter().filter(|c| c.result == Verdict::Failed).collect();
            let row = |what: &str, why: &str| {
                vec![node.node.clone(), name.clone(), what.to_owned(), why.to_owned()]
            };
            if failed.is_empty() {
                rows.push(row("ready", image.reason.as_deref().unwrap_or("not proved")));
            }
            for check in failed {
                rows.push(row(check.check.word(), check.detail.as_deref().unwrap_or("not proved")));
            }
        }
    }
    rows
}

/// What a proof found, as tables.
pub(super) fn tell_proof(report: &PushReport, nodes: &NodeArgs) {
    let kinds = [
        CheckKind::Digest,
        CheckKind::Blobs,
        CheckKind::Unpacked,
        CheckKind::Cri,
        CheckKind::Pinned,
        CheckKind::Content,
    ];
    let asked = |kind: &CheckKind| {
        report.nodes.iter().flat_map(|n| &n.images).flat_map(|i| &i.checks).any(|c| c.check == *kind)
    };
    let kinds: Vec<CheckKind> = kinds.into_iter().filter(asked).collect();
    let heads: Vec<String> = kinds.iter().map(|k| k.word().to_uppercase()).collect();
    let mut head = vec!["NODE", "STATE", "IMAGES"];
    head.extend(heads.iter().map(String::as_str));
    head.push("TIME");
    let row = |n: &NodeReport| {
        let ready = n.images.iter().filter(|i| i.ready).count();
        let images =
            if n.images.is_empty() { "-".to_owned() } else { format!("{ready} of {}", n.images.len()) };
        let mut cells = vec![n.node.clone(), if n.ready() { "ready" } else { "failed" }.to_owned(), images];
        cells.extend(kinds.iter().map(|k| cell(n, *k)));
        cells.push(format!("{}.{} s", n.duration_ms / 1000, n.duration_ms % 1000 / 100));
        cells
    };
    let rows: Vec<Vec<String>> = report.nodes.iter().map(row).collect();
    if let Some(before) = &report.before {
        say("found before it was mended:");
        say(&output::table(&["NODE", "IMAGE", "WHAT", "FOUND"], &findings(before)));
        say("");
    }
    say(&output::table(&head, &rows));
    for node in &report.nodes {
        if let Some(error) = node.error.as_ref().filter(|_| node.images.is_empty()) {
            warn(&format!("{}: {error}", node.node));
        }
    }
    weak(report).iter().for_each(|note| warn(note));
    let found = findings(report);
    if !found.is_empty() {
        say("");
        say(&output::table(&["NODE", "IMAGE", "WHAT", "FOUND"], &found));
    }
    if report.kind == ReportKind::Repair {
        undo_hint(report).iter().for_each(|hint| say(&nodes.addressed(hint)));
    }
}

/// Why the table says `weak`, each reason once.
pub(super) fn weak(report: &PushReport) -> Vec<String> {
    let checks = report.nodes.iter().flat_map(|n| &n.images).flat_map(|i| &i.checks);
    let weak = checks.filter(|c| c.result == Verdict::Weak);
    let reasons: BTreeSet<(CheckKind, &str)> =
        weak.map(|c| (c.check, c.detail.as_deref().unwrap_or("on weaker evidence"))).collect();
    let line = |(kind, why): (CheckKind, &str)| format!("note: {} is weak: {why}", kind.word());
    let more = reasons.len().saturating_sub(REASONS);
    let mut notes: Vec<String> = reasons.into_iter().take(REASONS).map(line).collect();
    notes.extend((more > 0).then(|| format!("note: and {more} more reasons; -o json has all of them")));
    notes
}

/// Of `weak`, told below a table.
const REASONS: usize = 6;

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;

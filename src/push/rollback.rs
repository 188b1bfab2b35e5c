//! Undoing a run on many nodes, and asking nodes about their runs.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::executor::{ATTEMPTS, Push, Target};
use super::journal::{self, Owned, RunRecord, RunState};
use super::node::{Fault, Prepared};
use super::txn::{now, run_id};
use super::{UndoReport, UndoState};
use crate::oci::Digest;
use crate::runtime::NodeFacts;

/// Which run is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Run(String),
    /// The newest that any of the nodes has on record, undone or not: asking for it twice never goes further back.
    Last,
}

/// Why no node was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// A word that is no id.
    #[error("{0:?} is no id of a run: `omk preheat history` lists them")]
    NotAnId(String),
    /// Which run was the last cannot be known.
    #[error(
        "which run was the last cannot be known: {node}: {reason}. Name the run with --run (`omk preheat history` \
         lists them), or leave the node out with --limit '!{node}'"
    )]
    NotAsked {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The runtimes of these nodes have none on record.
    #[error("nothing can be undone: {0}")]
    Unrecorded(String),
    /// There is none.
    #[error("no run of omk is on record on these nodes")]
    None,
}

/// How the reason begins for which a node has no runs.
const UNRECORDED: &str = "runs are not recorded on";

/// What became of undoing a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RollbackReport {
    /// The run that is undone.
    pub run: String,
    /// Whether it was only asked what would be done.
    pub dry_run: bool,
    /// Every node, in the inventory's order.
    pub nodes: Vec<NodeRollback>,
}

/// What became of it on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRollback {
    /// Its name in the inventory.
    pub node: String,
    /// How it ended.
    #[serde(flatten)]
    pub undo: UndoReport,
}

impl NodeRollback {
    /// Whether nothing of the run is left on the node.
    pub fn good(&self) -> bool {
        matches!(self.undo.state, UndoState::Undone | UndoState::Already | UndoState::Nothing)
    }
}

/// What a node keeps of the runs of omk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRuns {
    /// Its name in the inventory.
    pub node: String,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// Its runtime and version.
    pub runtime: Option<String>,
    /// Who is at work on it now.
    pub holder: Option<String>,
    /// Bytes of blobs, whole or in part, that wait in staging for the next run.
    pub staged: u64,
    /// Names, or archives, that keep what earlier images were, so that runs can be undone.
    pub backups: usize,
    /// Newest first.
    pub runs: Vec<RunSummary>,
}

/// A run on a node, as its record there tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// Where it stands.
    pub state: RunState,
    /// It is said to have started, and nobody is at work on the node.
    pub interrupted: bool,
    /// Everything that it was to put there is there now, whatever its record says.
    pub whole: bool,
    /// The bundle's name.
    pub bundle: String,
    /// What the bundle brings: see [`journal::bundle_digest`].
    pub bundle_digest: Option<Digest>,
    /// Who ran it.
    pub by: String,
    /// RFC 3339, UTC, by the clock of the machine that omk ran on.
    pub started: String,
    /// When its last state was written.
    pub ended: Option<String>,
    /// Images of the bundle that the node was to have.
    pub images: usize,
    /// Those that the run added or replaced.
    pub changed: usize,
    /// What it pruned.
    pub pruned: Vec<Owned>,
    /// Why it failed.
    pub error: Option<String>,
}

impl RunSummary {
    fn of(
        record: RunRecord,
        facts: &NodeFacts,
        held: bool,
        reversible: &dyn crate::runtime::Reversible,
    ) -> Self {
        let now = reversible.slots(facts);
        let there = |c: &journal::SlotChange| {
            now.get(&c.name).is_some_and(|d| d.as_ref() == Some(&c.digest))
                && facts.names.get(&c.name).is_none_or(|n| n.unpacked)
        };
        Self {
            interrupted: record.state == RunState::Started && !held,
            whole: record.slots.iter().all(there),
            changed: record.changed_images(),
            run: record.run,
            state: record.state,
            bundle: record.bundle,
            bundle_digest: record.bundle_digest,
            by: record.by,
            started: record.started,
            ended: record.ended,
            images: record.images,
            pruned: record.pruned,
            error: record.error,
        }
    }
}

impl Push {
    fn bare(&self) -> Self {
        let options = super::PushOptions { atomic: false, prune: false, ..self.options.clone() };
        Self { images: Vec::new(), left_out: None, options, ..self.clone() }
    }

    /// What every node keeps of the runs of omk, in the order of the targets; changes none. The images of the push are of no
    /// account.
    pub async fn history(&self) -> Vec<NodeRuns> {
        let bare = self.bare();
        let all: Vec<_> = bare
            .targets
            .iter()
            .map(|target| async {
                let error = match bare.runs_of(target).await {
                    Ok(runs) => return runs,
                    Err(fault) => Some(fault.reason),
                };
                let node = target.name.clone();
                NodeRuns { node, error, runtime: None, holder: None, staged: 0, backups: 0, runs: Vec::new() }
            })
            .collect();
        stream::iter(all).buffered(bare.parallel.max(1)).collect().await
    }

    async fn runs_of(&self, target: &Target) -> Result<NodeRuns, Fault> {
        let prepared = self.prepare(target, false).await?;
        let runs = prepared.runs(self, target).await;
        prepared.session.close().await;
        runs
    }

    /// Undoes a run on every node that it changed: what it moved is put back, what it added is removed, nothing else is
    /// touched. May be run again at any time, and goes on where it was interrupted.
    ///
    /// # Errors
    /// When it is not known which run is meant. What happens to a node is in its report.
    pub async fn rollback(&self, which: &Which, dry_run: bool) -> Result<RollbackReport, RollbackError> {
        let bare = self.bare();
        let run = match which {
            Which::Run(run) if !journal::check_run(run) => return Err(RollbackError::NotAnId(run.clone())),
            Which::Run(run) => run.clone(),
            Which::Last => bare.last().await?,
        };
        let all: Vec<_> = bare
            .targets
            .iter()
            .map(|target| async {
                let undo = bare.roll_back(target, &run, dry_run).await;
                NodeRollback { node: target.name.clone(), undo }
            })
            .collect();
        let nodes = stream::iter(all).buffered(bare.parallel.max(1)).collect().await;
        Ok(RollbackReport { run, dry_run, nodes })
    }

    async fn last(&self) -> Result<String, RollbackError> {
        let (mut newest, mut unrecorded): (Option<String>, Option<String>) = (None, None);
        for node in self.history().await {
            if let Some(reason) = node.error {
                // Such a node knows of no newer run.
                if reason.starts_with(UNRECORDED) {
                    unrecorded = Some(reason);
                    continue;
                }
                return Err(RollbackError::NotAsked { node: node.node, reason });
            }
            newest = newest.max(node.runs.into_iter().next().map(|r| r.run));
        }
        newest.ok_or(unrecorded.map_or(RollbackError::None, RollbackError::Unrecorded))
    }

    async fn roll_back(&self, target: &Target, run: &str, dry_run: bool) -> UndoReport {
        let mut tries = 0;
        loop {
            let attempt = async {
                let mut prepared = self.prepare(target, tries > 0).await?;
                let done = prepared.roll_back(self, target, run, dry_run).await;
                prepared.session.close().await;
                done
            };
            let attempt: Result<UndoReport, Fault> = attempt.await;
            let fault = match attempt {
                Ok(report) => return report,
                Err(fault) => fault,
            };
            tries += 1;
            if !fault.passing || tries >= ATTEMPTS || !self.pause(target, &fault, tries).await {
                return UndoReport::failed(fault.reason);
            }
        }
    }
}

impl Prepared {
    fn unrecorded(&self) -> Fault {
        let runtime = self.runtime.label();
        Fault::lasting(format!("{UNRECORDED} {runtime}, so none can be shown or undone"))
    }

    async fn runs(&self, push: &Push, target: &Target) -> Result<NodeRuns, Fault> {
        let Some(runtime) = self.reversible() else { return Err(self.unrecorded()) };
        let records = self.records(push).await?;
        let holder = journal::parse_holder(&self.session.run(&journal::holder(&self.staging)).await?);
        let slots = runtime.slots(&self.facts);
        let summary = |r| RunSummary::of(r, &self.facts, holder.is_some(), runtime);
        Ok(NodeRuns {
            node: target.name.clone(),
            error: None,
            runtime: Some(self.facts.runtime.clone()),
            staged: self.facts.staged.values().sum::<u64>().saturating_add(self.facts.partial),
            backups: slots.keys().filter(|s| runtime.backup_of(s).is_some()).count(),
            runs: records.into_iter().rev().map(summary).collect(),
            holder,
        })
    }

    async fn roll_back(
        &mut self,
        push: &Push,
        target: &Target,
        run: &str,
        dry_run: bool,
    ) -> Result<UndoReport, Fault> {
        if self.reversible().is_none() {
            return Err(self.unrecorded());
        }
        if !dry_run {
            // A run of its own: two that undo the same one do not take each other's lock over.
            self.hold(target, &format!("{} that undoes {run}", run_id())).await?;
            self.ask(target).await?;
        }
        let records = self.records(push).await?;
        let Some(mut record) = records.iter().find(|r| r.run == run).cloned() else {
            return Ok(UndoReport::nothing(UndoState::Nothing));
        };
        if record.state == RunState::Undone {
            return Ok(UndoReport::nothing(UndoState::Already));
        }
        let namespace = self.reversible().and_then(|r| r.namespace()).map(str::to_owned);
        if record.namespace != namespace {
            let of = |n: Option<String>| n.unwrap_or_else(|| "another runtime".to_owned());
            return Err(Fault::lasting(format!(
                "the run was made in namespace {}, not {}: give --namespace or --runtime as it was given then",
                of(record.namespace),
                of(namespace)
            )));
        }
        if let Some(later) = journal::later(&record, &records) {
            return Err(Fault::lasting(format!(
                "run {later} came later and moved the same names: what they had before both is only kept as long as {run} is not \
                 undone first. Undo {later} first, then {run}"
            )));
        }
        if dry_run {
            let marks = self.marks().await?;
            let Some(runtime) = self.reversible() else { return Err(self.unrecorded()) };
            let slots = runtime.slots(&self.facts);
            let mut left = journal::undo(
                &record,
                &slots,
                &journal::used(&marks, &slots, std::slice::from_ref(&record)),
                runtime,
            );
            left.changes = Default::default();
            return Ok(UndoReport::of(&left));
        }
        let report = UndoReport::of(&self.undo(target, &record, true).await?);
        if report.state == UndoState::Undone {
            (record.state, record.ended) = (RunState::Undone, Some(now()));
            self.write(&record, &[]).await?;
        }
        Ok(report)
    }
}

//! Undoing a run on many nodes, and asking nodes about their runs.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::executor::{ATTEMPTS, Push, Target};
use super::free::staged;
use super::journal::{self, Claims, RunRecord, RunState};
use super::node::{Fault, Prepared};
use super::txn::{now, run_id};
use super::{NodeRuns, RunSummary, UndoReport, UndoState};

/// Which run is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// This one, by its id, or by the beginning or the end of it where no other has that.
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
    /// Part of an id that several have.
    #[error("{word:?} may be any of these runs: {}; name more of the id", .runs.join(", "))]
    Several {
        /// What was asked for.
        word: String,
        /// The runs, newest first.
        runs: Vec<String>,
    },
    /// Part of an id, and a node that may know another run by it.
    #[error(
        "which run {word:?} is cannot be known: {node}: {reason}. Give the whole id (`omk preheat history` lists them)"
    )]
    PartNotAsked {
        /// What was asked for.
        word: String,
        /// The node.
        node: String,
        /// Why it could not be asked.
        reason: String,
    },
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
    /// Some nodes record no runs, so a newer one than the others know of may have been there.
    #[error(
        "which run was the last cannot be known: runs are not recorded on {}. Name the run with --run (`omk preheat history` \
         lists them), or leave {} out with --limit{}",
        Unrecorded::named(.0),
        if .0.len() == 1 { "that node" } else { "those nodes" },
        Unrecorded::limit(.0)
    )]
    Unrecorded(Vec<Unrecorded>),
    /// None of the nodes records any.
    #[error(
        "nothing can be undone: runs are not recorded on {}. Remove images there with the runtime's own commands, or choose \
         other nodes with --limit",
        Unrecorded::named(.0)
    )]
    NoneRecorded(Vec<Unrecorded>),
    /// There is none.
    #[error("no run of omk is on record on these nodes")]
    None,
}

/// A node whose runtime keeps no records of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrecorded {
    /// Its name in the inventory.
    pub node: String,
    /// The runtime.
    pub runtime: String,
}

impl Unrecorded {
    /// As many as anybody reads.
    const SHOWN: usize = 20;

    fn named(nodes: &[Self]) -> String {
        let some = nodes.iter().take(Self::SHOWN).map(|n| format!("{} ({})", n.node, n.runtime));
        let some = some.collect::<Vec<_>>().join(", ");
        match nodes.len().saturating_sub(Self::SHOWN) {
            0 => some,
            more => format!("{some} and {more} more"),
        }
    }

    /// The patterns that leave all of them out, unless they are too many for a command.
    fn limit(nodes: &[Self]) -> String {
        let patterns = nodes.iter().map(|n| format!("!{}", n.node)).collect::<Vec<_>>().join(",");
        if nodes.len() > Self::SHOWN { String::new() } else { format!(" '{patterns}'") }
    }
}

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

/// Of a part of an id, in characters: as many as its random digits.
const SHORTEST: usize = 4;

/// The one run whose id begins or ends like this. A node that cannot say may have another one.
fn called(word: &str, asked: Vec<(String, Result<NodeRuns, Fault>)>) -> Result<String, RollbackError> {
    let mut like: BTreeSet<String> = BTreeSet::new();
    for (node, runs) in asked {
        match runs {
            Ok(of) => {
                let ids = of.runs.into_iter().map(|r| r.run);
                like.extend(ids.filter(|run| run.starts_with(word) || run.ends_with(word)));
            }
            Err(Fault { unrecorded: Some(_), .. }) => {}
            Err(Fault { reason, .. }) => {
                return Err(RollbackError::PartNotAsked { word: word.to_owned(), node, reason });
            }
        }
    }
    match like.len() {
        // What any node makes of it stands in its report.
        0 => Ok(word.to_owned()),
        1 => Ok(like.into_iter().collect()),
        _ => Err(RollbackError::Several { word: word.to_owned(), runs: like.into_iter().rev().collect() }),
    }
}

/// The newest run that any node has on record. A node that cannot say, because it did not answer or records none, may have
/// had a newer one: an older one must not be undone in its stead.
fn last(asked: Vec<(String, Result<NodeRuns, Fault>)>) -> Result<String, RollbackError> {
    let (mut newest, mut unrecorded, mut recorded) = (None, Vec::new(), false);
    for (node, runs) in asked {
        match runs {
            Ok(runs) => {
                recorded = true;
                newest = newest.max(runs.runs.into_iter().next().map(|r| r.run));
            }
            Err(Fault { unrecorded: Some(runtime), .. }) => unrecorded.push(Unrecorded { node, runtime }),
            Err(fault) => return Err(RollbackError::NotAsked { node, reason: fault.reason }),
        }
    }
    match (unrecorded.is_empty(), recorded) {
        (true, _) => newest.ok_or(RollbackError::None),
        (false, true) => Err(RollbackError::Unrecorded(unrecorded)),
        (false, false) => Err(RollbackError::NoneRecorded(unrecorded)),
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
        let told = |(node, runs): (String, Result<NodeRuns, Fault>)| {
            runs.unwrap_or_else(|fault| NodeRuns {
                node,
                error: Some(fault.reason),
                runtime: None,
                holder: None,
                staged: 0,
                backups: 0,
                runs: Vec::new(),
            })
        };
        self.asked().await.into_iter().map(told).collect()
    }

    async fn asked(&self) -> Vec<(String, Result<NodeRuns, Fault>)> {
        let bare = self.bare();
        let all: Vec<_> = bare
            .targets
            .iter()
            .map(|target| async { (target.name.clone(), bare.runs_of(target).await) })
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
            Which::Run(run) if !journal::check_run(run) || run.len() < SHORTEST => {
                return Err(RollbackError::NotAnId(run.clone()));
            }
            Which::Run(run) if journal::whole_id(run) => run.clone(),
            Which::Run(word) => called(word, bare.asked().await)?,
            Which::Last => last(bare.asked().await)?,
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

    async fn roll_back(&self, target: &Target, run: &str, dry_run: bool) -> UndoReport {
        let (mut tries, mut done) = (0, Done::default());
        loop {
            let attempt = async {
                let mut prepared = self.prepare(target, tries > 0).await?;
                let report = prepared.roll_back(self, target, run, &mut done, dry_run).await;
                prepared.session.close().await;
                report
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

/// What was found to be done, over all attempts: one that is tried again after a lost connection finds only what is left of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    begun: bool,
    /// Nobody else is at work in staging, as far as the node can tell.
    pub(super) alone: bool,
    /// Restored and removed.
    names: (BTreeSet<String>, BTreeSet<String>),
    /// Bytes in staging.
    pub(super) freed: u64,
}

impl Prepared {
    fn unrecorded(&self) -> Fault {
        let runtime = self.runtime.label();
        let reason = format!(
            "runs are not recorded on {runtime}, so none can be shown or undone: remove images there with its own commands"
        );
        Fault { unrecorded: Some(runtime), ..Fault::lasting(reason) }
    }

    async fn runs(&self, push: &Push, target: &Target) -> Result<NodeRuns, Fault> {
        let Some(runtime) = self.reversible() else { return Err(self.unrecorded()) };
        let records = self.records(push).await?;
        let holder = journal::parse_holder(&self.session.run(&journal::holder(&self.staging)).await?);
        let slots = runtime.slots(&self.facts);
        let summary = |r| RunSummary::of(r, &records, &self.facts, holder.is_some(), runtime);
        Ok(NodeRuns {
            node: target.name.clone(),
            error: None,
            runtime: Some(self.facts.runtime.clone()),
            staged: staged(&self.facts),
            backups: slots.keys().filter(|s| runtime.backup_of(s).is_some()).count(),
            runs: records.iter().rev().cloned().map(summary).collect(),
            holder,
        })
    }

    async fn roll_back(
        &mut self,
        push: &Push,
        target: &Target,
        run: &str,
        done: &mut Done,
        dry_run: bool,
    ) -> Result<UndoReport, Fault> {
        if self.reversible().is_none() {
            return Err(self.unrecorded());
        }
        if !dry_run {
            // A run of its own: two that undo the same one do not take each other's lock over.
            done.alone = self.hold_alone(target, &format!("{} that undoes {run}", run_id())).await?;
        }
        let records = self.records(push).await?;
        let Some(mut record) = records.iter().find(|r| r.run == run).cloned() else {
            return Ok(UndoReport::nothing(UndoState::Nothing));
        };
        if record.state == RunState::Undone {
            // With --atomic a run is undone at once, and what is staged waits for the next one.
            let freed = self.free(&record, &records, done, dry_run).await?;
            // Or an earlier attempt did it, and the node's word of that was lost.
            let state = if done.begun { UndoState::Undone } else { UndoState::Already };
            let (restored, removed) = done.names.clone();
            let told = journal::Undo { restored, removed, ..Default::default() };
            return Ok(freed.told(UndoReport { state, ..UndoReport::of(&told) }));
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
        let own = journal::own(&record, &records);
        let whole = std::mem::replace(&mut record, own);
        // What a run that ended had moved was its own, whoever put the same there again after others.
        let moved = if whole.state == RunState::Started { &record } else { &whole };
        if let Some(later) = journal::later(moved, &records) {
            return Err(Fault::lasting(format!(
                "run {later} came later and moved the same names: what they had before both is only kept as long as {run} is not \
                 undone first. Undo {later} first, then {run}"
            )));
        }
        let claims = Claims::on(&record, &records);
        let pruned: Vec<String> = record.pruned.iter().map(|o| o.name.clone()).collect();
        let unfinished = self.reversible().map(|r| r.slots(&self.facts)).unwrap_or_default();
        let unfinished = journal::begun_before(&record, &records, &unfinished);
        let unfinished: Vec<String> = unfinished.into_iter().map(str::to_owned).collect();
        if dry_run {
            let marks = self.marks().await?;
            let Some(runtime) = self.reversible() else { return Err(self.unrecorded()) };
            let slots = runtime.slots(&self.facts);
            let used = journal::used(&marks, &slots, std::slice::from_ref(&record));
            let mut left = journal::undo(&record, &slots, &used, &claims, runtime);
            left.changes = Default::default();
            let freed = self.free(&record, &records, done, true).await?;
            return Ok(freed.told(UndoReport { unfinished, pruned, ..UndoReport::of(&left) }));
        }
        done.begun = true;
        // First of all: on a full disk nothing could be written down.
        let freed = self.free(&record, &records, done, false).await?;
        let came_to = match (record.state, self.reversible()) {
            (RunState::Started, Some(runtime)) => {
                let slots = runtime.slots(&self.facts);
                Some(record.only(|c| slots.get(&c.name).is_some_and(|d| d.as_ref() == Some(&c.digest))))
            }
            _ => None,
        };
        let left = self.undo(target, &record, &claims, true, &mut done.names).await?;
        let report = freed.told(UndoReport { unfinished, pruned, ..UndoReport::of(&left) });
        if report.state == UndoState::Undone {
            // What an interrupted run did not come to is nothing that it changed.
            record = came_to.unwrap_or(record);
            (record.state, record.ended) = (RunState::Undone, Some(now()));
            self.write(&record, &[]).await?;
        } else {
            // For whoever asks later where the node stands; what was done is told in any case.
            let _ = self.write(&RunRecord { undone_in_part: Some(now()), ..whole }, &[]).await;
        }
        Ok(report)
    }
}

#[cfg(test)]
#[path = "rollback_tests.rs"]
mod tests;

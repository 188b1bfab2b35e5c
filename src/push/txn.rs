//! A run as a transaction on one node: written down before the first change, ended with what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::executor::{Push, Run, Target};
use super::journal::{self, Claims, RunRecord, RunState};
use super::node::{Fault, Prepared};
use super::plan::KEEP_RUNS;
use super::tally::Tally;
use super::{ImageReport, NodePlan, PlanError, UndoReport, UndoState, Undone};
use crate::bundle::BundleImage;
use crate::event::{Event, EventSink, Events, NodeState};
use crate::oci::Digest;
use crate::runtime::reversible::{Changes, Marks, parse_change};
use crate::runtime::{NodeFacts, Packed, Reversible};

/// How often undoing is gone over again: what CRI adds meanwhile shows only then.
const PASSES: u32 = 4;

/// What a run has written down on a node, over all attempts.
#[derive(Debug)]
pub(super) struct Txn {
    record: RunRecord,
    /// Of other runs, oldest first.
    earlier: Vec<RunRecord>,
    written: bool,
    /// Its end is written.
    ended: bool,
}

impl Txn {
    /// Whether the node keeps the record, and was changed, or has `sent` bytes in staging: of a run that failed before its first
    /// import and left nothing, nothing is to be undone.
    pub(super) fn changed(&self, sent: u64) -> bool {
        let record = &self.record;
        let nothing = record.slots.is_empty() && record.derived.is_empty() && record.pruned.is_empty();
        let left = record.state != RunState::Committed && sent > 0;
        self.written && (!(self.ended && nothing) || left)
    }
}

/// An id that sorts by time: `YYYYMMDD-HHMMSS-XXXX`, UTC by the clock of this machine. Not a secret.
pub(super) fn run_id() -> String {
    format!("{}-{:04x}", clock().strftime("%Y%m%d-%H%M%S"), fastrand::u16(..))
}

fn clock() -> jiff::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

pub(super) fn now() -> String {
    clock().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Who runs this omk, for those who find the record.
fn by() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (user, host) = (crate::node::login_name(), host.trim());
    let user = user.as_deref().unwrap_or("unknown user");
    let text = format!("omk {}, {user} on {host}", env!("CARGO_PKG_VERSION"));
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl Prepared {
    pub(super) fn reversible(&self) -> Option<&dyn Reversible> {
        self.runtime.reversible()
    }

    /// What is recorded on the node; files that are no records are told and left.
    pub(super) async fn records(&self, push: &Push) -> Result<Vec<RunRecord>, Fault> {
        let Some(runtime) = self.reversible() else { return Ok(Vec::new()) };
        let folder = journal::folder(&self.staging);
        let answer = self.session.run(&journal::list(&folder, runtime.root())).await?;
        let (records, bad) = journal::parse_list(&answer)?;
        for file in bad {
            let message =
                format!("{}: {folder}/{file} is no record of a run; it is left alone", self.plan.node);
            push.events.emit(Event::Warning { message });
        }
        Ok(records)
    }

    pub(super) async fn marks(&self) -> Result<Marks, Fault> {
        let Some(runtime) = self.reversible() else { return Ok(Marks::default()) };
        match runtime.marks() {
            Some(command) => Ok(runtime.parse_marks(&self.session.run(&command).await?)?),
            None => Ok(Marks::default()),
        }
    }

    /// Whether what is asked for can be done with this runtime, and what would be pruned.
    pub(super) async fn plan_reversal(&mut self, push: &Push) -> Result<(), Fault> {
        let options = &push.options;
        let wanted = [(options.atomic, "--atomic"), (options.prune, "--prune")];
        if let (None, Some((_, option))) = (self.reversible(), wanted.into_iter().find(|(asked, _)| *asked)) {
            return Err(PlanError::Irreversible { option, runtime: self.runtime.label() }.into());
        }
        if options.prune {
            let records = self.here(self.records(push).await?);
            let pruned = self.prunable(push, &records).await?;
            (self.plan.prune, self.plan.spared) = (pruned.remove, pruned.kept);
        }
        Ok(())
    }

    /// Records of runs in the namespace that this one is in: names mean something else in another.
    fn here(&self, mut records: Vec<RunRecord>) -> Vec<RunRecord> {
        let namespace = self.reversible().and_then(|r| r.namespace());
        records.retain(|r| r.namespace.as_deref() == namespace);
        records
    }

    async fn prunable(&self, push: &Push, records: &[RunRecord]) -> Result<journal::Pruned, Fault> {
        let Some(runtime) = self.reversible() else { return Ok(journal::Pruned::default()) };
        let mut wanted: BTreeSet<String> = push.images.iter().flat_map(|i| i.names.clone()).collect();
        wanted.extend(self.plan.images.iter().flat_map(|i| runtime.sets(&i.image)));
        let marks = self.marks().await?;
        Ok(journal::prune(records, &wanted, &runtime.slots(&self.facts), &marks, runtime))
    }

    /// Writes down what the plan is about to do, before any of it is done. Nothing where nothing is done.
    pub(super) async fn begin(
        &mut self,
        push: &Push,
        target: &Target,
        run: &Run,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        if self.reversible().is_none() || self.plan.to_import().next().is_none() && self.plan.prune.is_empty()
        {
            return Ok(());
        }
        if tally.txn.is_none() {
            let earlier = self.records(push).await?;
            let record = self.record(push, target, run, &earlier);
            let earlier = self.here(earlier);
            self.mend(push, target, &earlier).await?;
            tally.txn = Some(Txn { record, earlier, written: false, ended: false });
        }
        let (Some(runtime), Some(txn)) = (self.reversible(), &mut tally.txn) else { return Ok(()) };
        let moves = RunRecord::moves(&self.plan, runtime, &self.facts);
        let marks = if moves { self.marks().await? } else { Marks::default() };
        let changed = txn.record.amend(&self.plan, runtime, &self.facts, &marks);
        if changed || !txn.written {
            self.write(&txn.record, &[]).await?;
            txn.written = true;
        }
        Ok(())
    }

    fn record(&self, push: &Push, target: &Target, run: &Run, earlier: &[RunRecord]) -> RunRecord {
        RunRecord {
            version: journal::VERSION,
            run: run.id.clone(),
            sequence: earlier.iter().map(|r| r.sequence).max().unwrap_or(0) + 1,
            state: RunState::Started,
            bundle: push.bundle.chars().filter(|c| !c.is_control()).take(1000).collect(),
            images_digest: Some(journal::images_digest(&push.images)),
            images: self.plan.images.len(),
            node: target.name.clone(),
            by: by(),
            started: now(),
            ended: None,
            runtime: self.facts.runtime.clone(),
            namespace: self.reversible().and_then(|r| r.namespace()).map(str::to_owned),
            slots: Vec::new(),
            wants: Some(Vec::new()),
            derived: Vec::new(),
            blobs: Some(Vec::new()),
            pruned: Vec::new(),
            earlier: Vec::new(),
            error: None,
            undone_in_part: None,
        }
    }

    pub(super) async fn write(&self, record: &RunRecord, over: &[String]) -> Result<(), Fault> {
        let root = self.reversible().is_none_or(|r| r.root());
        let folder = journal::folder(&self.staging);
        let command = journal::write(&folder, record, over, root);
        let mut answer = self.session.run(&command).await?;
        if answer.status == journal::NO_FOLDER && !root {
            self.session.run(&journal::prepare(&folder, &self.staging)).await?;
            answer = self.session.run(&command).await?;
        }
        Ok(journal::parse_write(&answer)?)
    }

    /// Interrupted runs, whose sender or node died in the middle of an import, can have left names on content that is not
    /// whole. What this run does not bring itself is put back.
    async fn mend(&mut self, push: &Push, target: &Target, earlier: &[RunRecord]) -> Result<(), Fault> {
        for record in earlier.iter().filter(|r| r.state == RunState::Started) {
            let broken = broken(&journal::own(record, earlier), &self.facts);
            let ours: BTreeSet<&String> = self.plan.to_import().flat_map(|i| &i.names).collect();
            let broken = broken.only(|c| !ours.contains(&c.name));
            if !broken.slots.is_empty() {
                let message = format!(
                    "{}: run {} was interrupted and left names on content that is not whole; they are put back",
                    target.name, record.run
                );
                push.events.emit(Event::Warning { message });
                let claims = Claims::on(&broken, earlier);
                self.undo(target, &broken, &claims, false, &mut Default::default()).await?;
            }
        }
        Ok(())
    }

    /// Puts back what the record says, as far as it is the run's own; returns what is left. `told`: what was found to be restored
    /// and removed by attempts before.
    pub(super) async fn undo(
        &mut self,
        target: &Target,
        record: &RunRecord,
        claims: &Claims<'_>,
        spare_used: bool,
        told: &mut (BTreeSet<String>, BTreeSet<String>),
    ) -> Result<journal::Undo, Fault> {
        let mut pass = 0;
        loop {
            let marks = if spare_used { self.marks().await? } else { Marks::default() };
            let Some(runtime) = self.reversible() else { return Ok(journal::Undo::default()) };
            let slots = runtime.slots(&self.facts);
            let mut undo = journal::undo(
                record,
                &slots,
                &journal::used(&marks, &slots, std::slice::from_ref(record)),
                claims,
                runtime,
            );
            // Later passes find little left to do; what the first one had to do is what was done.
            told.0.extend(undo.restored.iter().cloned());
            told.1.extend(undo.removed.iter().cloned());
            if undo.changes.is_empty() || pass == PASSES {
                return Ok(undo.given_up(told));
            }
            undo.changes.just_now = pass == 0;
            parse_change(&self.session.run(&runtime.change(&undo.changes)).await?)?;
            self.ask(target).await?;
            pass += 1;
        }
    }

    /// Ends what [`Prepared::begin`] began. `images`: what was proved, or why that was not come to. The facts are of after
    /// the last import.
    pub(super) async fn settle(
        &mut self,
        push: &Push,
        target: &Target,
        tally: &mut Tally,
        images: Result<&[ImageReport], &str>,
    ) -> Result<(), Fault> {
        let ready = images.is_ok_and(|all| all.iter().all(|i| i.ready));
        if ready && tally.txn.is_none() {
            // Nothing was done, so there is nothing to write down; what pruning leaves is as the plan has it.
            tally.spared.clone_from(&self.plan.spared);
        }
        let Some(txn) = tally.txn.as_mut().filter(|t| t.written && !t.ended) else { return Ok(()) };
        let mut record = txn.record.clone();
        if ready {
            record.state = RunState::Committed;
            if push.options.prune {
                let all: Vec<RunRecord> = txn.earlier.iter().cloned().chain([record.clone()]).collect();
                let pruned = self.prune(push, target, &all).await?;
                tally.pruned = pruned.remove.iter().map(|o| o.name.clone()).collect();
                tally.spared = pruned.kept;
                record.pruned = pruned.remove;
            }
        } else if push.options.atomic {
            // Another run may have come and gone while the connection was lost.
            let records = self.here(self.records(push).await?);
            let (claims, mut told) = (Claims::on(&record, &records), Default::default());
            let own = journal::own(&record, &records);
            let left = self.undo(target, &own, &claims, true, &mut told).await?;
            let report = UndoReport::of(&left);
            record.state =
                if report.state == UndoState::Undone { RunState::Undone } else { RunState::Failed };
            if record.state == RunState::Undone {
                // What it did not come to is nothing that it changed.
                record.retain(|c| told.0.contains(&c.name) || told.1.contains(&c.name));
            }
            tally.undone = Some(report);
        } else {
            record.state = RunState::Failed;
            // Up to 1.7 a failed import moves names before it fails. The import itself puts them back where it can; it
            // cannot when it is killed.
            // What is whole stays although a check of it failed: a pod may run from it already.
            let left = broken(&record, &self.facts);
            self.undo(target, &left, &Claims::default(), true, &mut Default::default()).await?;
            // What the run did not come to is not its own, should somebody else bring the same.
            if let Some(runtime) = self.reversible() {
                let slots = runtime.slots(&self.facts);
                record.retain(|c| match slots.get(&c.name) {
                    None => false,
                    Some(there) => there.as_ref().is_none_or(|d| *d == c.digest),
                });
            }
        }
        let first = images.into_iter().flatten().find(|i| !i.ready);
        record.error = first
            .and_then(|i| Some(format!("{}: {}", i.names.first()?, i.reason.as_ref()?)))
            .or_else(|| images.err().map(str::to_owned))
            .map(|text| text.chars().filter(|c| !c.is_control()).take(1000).collect());
        record.ended = Some(now());
        let over = self.expire(push, target, &mut record, &txn.earlier).await?;
        self.write(&record, &over).await?;
        (txn.record, txn.ended) = (record, true);
        Ok(())
    }

    async fn prune(
        &mut self,
        push: &Push,
        target: &Target,
        records: &[RunRecord],
    ) -> Result<journal::Pruned, Fault> {
        let pruned = self.prunable(push, records).await?;
        let remove: Vec<String> = pruned.remove.iter().map(|o| o.name.clone()).collect();
        self.remove(target, remove).await?;
        let there: BTreeMap<String, Option<Digest>> =
            self.reversible().map(|r| r.slots(&self.facts)).unwrap_or_default();
        Ok(pruned.done(&there))
    }

    async fn remove(&mut self, target: &Target, remove: Vec<String>) -> Result<(), Fault> {
        let Some(runtime) = self.reversible() else { return Ok(()) };
        if remove.is_empty() {
            return Ok(());
        }
        let changes = Changes { remove, ..Changes::default() };
        parse_change(&self.session.run(&runtime.change(&changes)).await?)?;
        self.ask(target).await
    }

    /// Forgets what is too old to be undone; returns the runs whose records go when this one's is written.
    async fn expire(
        &mut self,
        push: &Push,
        target: &Target,
        record: &mut RunRecord,
        earlier: &[RunRecord],
    ) -> Result<Vec<String>, Fault> {
        let Some(runtime) = self.reversible() else { return Ok(Vec::new()) };
        let all: Vec<RunRecord> = earlier.iter().cloned().chain([record.clone()]).collect();
        let keep = usize::from(push.options.keep_runs.unwrap_or(KEEP_RUNS));
        let expired = journal::expire(&all, keep, &runtime.slots(&self.facts), runtime);
        record.earlier.extend(expired.earlier);
        self.remove(target, expired.backups).await?;
        Ok(expired.records)
    }
}

/// What a run set and left not unpacked.
fn broken(record: &RunRecord, facts: &NodeFacts) -> RunRecord {
    record.only(|c| facts.names.get(&c.name).is_some_and(|n| n.digest == c.digest && !n.unpacked))
}

impl Push {
    /// After the last attempt on a node has failed: puts back what has to be, and writes down how it ended. A node that
    /// cannot be reached any more keeps the record of a run that was interrupted, which says the same.
    pub(super) async fn give_up(&self, target: &Target, run: &Run, tally: &mut Tally, fault: &Fault) {
        let open = tally.txn.as_ref().is_some_and(|t| t.written && !t.ended);
        if !open || fault.passing && !self.options.atomic {
            return;
        }
        // Whoever stops a run wants no more to be sent, not a node that is left half-done.
        let cancel = CancellationToken::new();
        let options = super::PushOptions { prune: false, deep: false, ..self.options.clone() };
        let events = Arc::new(Quiet(Arc::clone(&self.events)));
        let push = Self { images: Vec::new(), left_out: None, cancel, options, events, ..self.clone() };
        self.node_is(target, NodeState::Settling);
        let settling = async {
            let mut prepared = push.prepare(target, true).await?;
            let settled = async {
                prepared.hold_alone(target, &run.id).await?;
                prepared.settle(&push, target, tally, Err(&fault.reason)).await?;
                tally.seen = prepared.found(&push, target, &target.images(&self.images)).await;
                Ok(())
            };
            let settled = settled.await;
            prepared.session.close().await;
            settled
        };
        let settled: Result<(), Fault> = settling.await;
        if let Err(fault) = settled
            && self.options.atomic
        {
            tally.undone = Some(UndoReport::failed(fault.reason));
        }
    }
}

impl Prepared {
    /// How the images are on the node, whatever was to become of them. Nothing where that cannot be told.
    async fn found(&mut self, push: &Push, target: &Target, images: &[BundleImage]) -> Vec<ImageReport> {
        let (runtime, options) = (self.runtime.as_ref(), &push.options);
        let plan =
            NodePlan::compute_with(&target.name, images, runtime, &self.facts, options, &Packed::new());
        let Ok(plan) = plan else { return Vec::new() };
        self.plan = plan;
        // Once: what CRI has not taken notice of yet is not waited for.
        let evidence = match (self.facts.evidence.clone(), self.runtime.evidence()) {
            (None, Some(command)) => {
                let said = self.session.run(&command).await;
                said.ok().and_then(|said| self.runtime.parse_evidence(&said).ok())
            }
            (known, _) => known,
        };
        self.proved(push, target, &BTreeMap::new(), evidence.as_ref())
    }
}

/// Leaves out what a node is about: of what follows the end of a run, that is told once.
struct Quiet(Events);

impl EventSink for Quiet {
    fn emit(&self, event: Event) {
        if !matches!(event, Event::Node { .. }) {
            self.0.emit(event);
        }
    }
}

impl UndoReport {
    pub(super) fn of(left: &journal::Undo) -> Self {
        let whole = left.changes.is_empty() && left.stuck.is_empty();
        let names = |all: &BTreeSet<String>| all.iter().cloned().collect();
        Self {
            state: if whole { UndoState::Undone } else { UndoState::Partly },
            restored: left.restored.len(),
            removed: left.removed.len(),
            names: Undone { restored: names(&left.restored), removed: names(&left.removed) },
            staging_freed: 0,
            staging_left: None,
            pruned: Vec::new(),
            unfinished: Vec::new(),
            kept: left.kept.clone(),
            stuck: left.stuck.clone(),
            error: None,
        }
    }

    pub(super) fn nothing(state: UndoState) -> Self {
        Self { state, ..Self::of(&journal::Undo::default()) }
    }

    pub(super) fn failed(error: String) -> Self {
        Self { error: Some(error), ..Self::nothing(UndoState::Failed) }
    }

    /// For the end of a message.
    pub(super) fn sentence(&self) -> String {
        match (&self.state, self.stuck.first(), &self.error) {
            (UndoState::Undone, ..) => "the node was put back as it was (--atomic)".to_owned(),
            (UndoState::Partly, Some(kept), _) => {
                format!("the node was put back in part (--atomic): {}: {}", kept.name, kept.reason)
            }
            (_, _, Some(error)) => format!("the node could not be put back (--atomic): {error}"),
            _ => "the node was put back in part (--atomic)".to_owned(),
        }
    }
}

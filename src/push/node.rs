//! One attempt on one node: what is sent, imported and proved over one connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::executor::{Push, Run, Target};
use super::line::{Failed, Line};
use super::tally::{Moved, Tally};
use super::{ImagePlan, ImageReport, NodePlan, NodeResult, PlanError, Refused};
use crate::copy::Job;
use crate::event::{Event, Events, ImageStep, NodeState};
use crate::node::{Holder, NodeError, NodeSession, RemoteCommand, quote};
use crate::oci::{Descriptor, Digest};
use crate::runtime::{
    DEFAULT_STAGING, Detected, Hashes, NodeFacts, Packed, Runtime, RuntimeError, await_import, check_staging,
    detect, discard_parts, parse_await_import, parse_detect, parse_discard,
};
use crate::store::{Paced, StoreError};
use crate::units;

/// Rounds of send, import, prove over one connection, at least. Content that a node lost between probe and import (garbage
/// collection) is sent in the second. There are more as long as each brings an image: those of a fast import that share a
/// layer on different parents get it one after the other.
const ROUNDS: u32 = 2;

/// Why an attempt ended that somebody stopped.
pub(super) const STOPPED: &str = "stopped";
/// What to do about a run that did not come to its end.
const GO_ON: &str = "run the same command again to go on";
/// What is left of one that was given up.
const KEPT: &str = "what has arrived stays on the node";

/// Why an attempt ended.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: String,
    /// The node cannot take the bundle.
    pub(super) refused: bool,
    /// Connecting again can help.
    pub(super) passing: bool,
    /// Where that is because the runtime was there before: it takes a while to come back.
    pub(super) restarting: bool,
    /// The runtime that keeps no records of runs, where that is why.
    pub(super) unrecorded: Option<String>,
    /// What would have to be done, where its figures are why it is not.
    pub(super) plan: Option<Box<NodePlan>>,
}

impl Fault {
    pub(super) fn lasting(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            refused: false,
            passing: false,
            restarting: false,
            unrecorded: None,
            plan: None,
        }
    }

    /// The same without what to do: who asks later where a node stands is told that beside it, with the bundle and the run.
    pub(super) fn cause(reason: &str) -> &str {
        [GO_ON, KEPT].iter().fold(reason, |rest, advice| match rest.strip_suffix(advice) {
            Some(cause) => cause.trim_end_matches([' ', ',', ';']),
            None => rest,
        })
    }

    /// As writing to staging or to the records says it; what a runtime says of its own disk has another way out.
    fn of_a_full_disk(&self) -> bool {
        self.reason.contains("is the disk full")
    }

    /// Nothing more is tried in this run.
    pub(super) fn given_up(self, tries: u32) -> Self {
        if !self.passing {
            return self;
        }
        Self { reason: format!("{}; given up after {tries} attempts, {KEPT}, {GO_ON}", self.reason), ..self }
    }

    /// How to go on is told once, when the run is asked to stop, and not again for each node.
    pub(super) fn cancelled() -> Self {
        Self::lasting(STOPPED)
    }

    /// The same of one that was to be tried again: it is not, nor is the node reached once more to put it in order.
    pub(super) fn interrupted(self) -> Self {
        Self { passing: self.passing, ..Self::cancelled() }
    }

    /// Stopped because what was to be sent, here or to another node, is not what it should be.
    pub(super) fn damaged(damage: &str) -> Self {
        Self::lasting(format!("stopped, because the bundle is damaged: {damage}"))
    }

    /// What it makes of the node.
    pub(super) fn result(&self) -> NodeResult {
        match self.reason == STOPPED {
            true => NodeResult::Stopped,
            false if self.refused => NodeResult::Refused,
            false => NodeResult::Failed,
        }
    }

    /// As a dry run tells it.
    pub(super) fn refuse(self, node: &str) -> Refused {
        Refused { node: node.to_owned(), state: self.result(), reason: self.reason, plan: self.plan }
    }

    /// The connector tries again itself where that helps, so its word is final for a node that was never reached;
    /// one that was may be restarting.
    pub(super) fn connecting(error: NodeError, before: bool) -> Self {
        let passing = before && error.may_retry();
        Self { passing, ..Self::lasting(error) }
    }
}

impl From<NodeError> for Fault {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Cancelled | NodeError::Store(StoreError::Cancelled) => Self::cancelled(),
            error => Self { passing: error.may_retry(), ..Self::lasting(error) },
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        NodeError::Store(error).into()
    }
}

/// A runtime that does not answer may be starting again: after an update, or after it was killed.
impl From<RuntimeError> for Fault {
    fn from(error: RuntimeError) -> Self {
        let restarting = matches!(error, RuntimeError::NotRunning { .. });
        Self { passing: restarting, restarting, ..Self::lasting(error) }
    }
}

impl From<PlanError> for Fault {
    fn from(error: PlanError) -> Self {
        Self { refused: true, ..Self::lasting(error) }
    }
}

/// For the end of a message about a full disk: what staging holds there and what frees it. `said`: by `du -sk`; `None` where that
/// tells nothing.
fn hoard(staging: &str, said: &str) -> Option<String> {
    let kib = said.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    Some(format!(
        "; omk's own staging folder {staging} holds {} there: `omk preheat status` names the runs that left it. Preheating \
         such a run's bundle again frees it where the images are whole; `omk preheat rollback --run RUN` undoes the run: removes \
         the images that it brought, and what it left in staging",
        units::bytes(kib.saturating_mul(1024))
    ))
}

/// A node that was asked what it has.
pub(super) struct Prepared {
    pub(super) session: Box<dyn NodeSession>,
    pub(super) plan: NodePlan,
    pub(super) runtime: Box<dyn Runtime>,
    pub(super) staging: String,
    pub(super) facts: NodeFacts,
    /// What stored blobs hash to, as far as that was asked for.
    pub(super) hashes: Hashes,
    /// Whom the node knows as the holder of the staging folder; `None` where it is not held.
    pub(super) holder: Option<Holder>,
}

impl Prepared {
    pub(super) async fn new(
        session: Box<dyn NodeSession>,
        push: &Push,
        target: &Target,
    ) -> Result<Self, Fault> {
        let answer = match detect(&target.runtime) {
            Some(command) => Some(session.run(&command).await?),
            None => None,
        };
        let Detected { runtime, staging } =
            parse_detect(&target.runtime, push.namespace.as_deref(), answer.as_ref())?;
        let staging = target.staging.clone().or(staging).unwrap_or_else(|| DEFAULT_STAGING.to_owned());
        check_staging(&staging)?;
        let images = target.images(&push.images);
        let (options, packed) = (&push.options, Packed::new());
        let ask = async |known: &[&Digest]| -> Result<(NodeFacts, NodePlan), Fault> {
            let runtime = runtime.as_ref();
            let facts = probe(session.as_ref(), runtime, &staging, target, known).await?;
            let plan = NodePlan::compute_with(&target.name, &images, runtime, &facts, options, &packed)?;
            Ok((facts, plan))
        };
        // Most nodes that know the images have all of them. Where that is not so, content may be had from others there.
        let roots: Vec<&Digest> = images.iter().map(|i| i.graph.root.digest()).collect();
        let (mut facts, mut plan) = ask(&roots).await?;
        if facts.elsewhere_unknown && plan.to_import().next().is_some() {
            (facts, plan) = ask(&[]).await?;
        }
        let possible = plan.fits(&facts, options).and_then(|()| plan.possible_with(push.left_out.as_deref()));
        if let Err(error) = possible {
            return Err(Fault { plan: Some(Box::new(plan)), ..error.into() });
        }
        let mut prepared =
            Self { session, plan, runtime, staging, facts, hashes: Hashes::new(), holder: None };
        prepared.plan_reversal(push).await?;
        Ok(prepared)
    }

    /// What the node has; ends the session.
    pub(super) async fn into_facts(self) -> NodeFacts {
        self.session.close().await;
        self.facts
    }

    /// Sends, imports, proves; returns what is proved of every image.
    pub(super) async fn run(
        mut self,
        push: &Push,
        target: &Target,
        run: &Run,
        tally: &mut Tally,
    ) -> Result<Vec<ImageReport>, Fault> {
        let outcome = match self.rounds(push, target, run, tally).await {
            Err(fault) => Err(self.explain(fault).await),
            outcome => outcome,
        };
        self.session.close().await;
        outcome
    }

    /// A disk that is full may be full of what omk itself left in staging.
    async fn explain(&self, mut fault: Fault) -> Fault {
        if !fault.of_a_full_disk() {
            return fault;
        }
        let staging = &self.staging;
        let command = RemoteCommand::user(format!("du -sk {} 2>/dev/null", quote(staging)));
        let Ok(said) = self.session.run(&command).await else { return fault };
        fault.reason += &hoard(staging, &said.text()).unwrap_or_default();
        fault
    }

    async fn rounds(
        &mut self,
        push: &Push,
        target: &Target,
        run: &Run,
        tally: &mut Tally,
    ) -> Result<Vec<ImageReport>, Fault> {
        tally.runs = Some((self.plan.platform.clone(), self.plan.runtime.clone()));
        if push.options.deep {
            self.hash(push).await?;
            self.replan(push, target, run)?;
        }
        if self.plan.to_import().next().is_some() || !self.plan.prune.is_empty() {
            tokio::select! {
                locked = self.lock(push, target, run) => locked?,
                () = push.cancel.cancelled() => return Err(Fault::cancelled()),
            }
        }
        tally.plan(&self.plan);
        let (mut round, mut before) = (0, usize::MAX);
        loop {
            round += 1;
            if run.pack(self.plan.to_send(), push).await? {
                self.replan(push, target, run)?;
            }
            if let Some(packer) = &run.packer {
                packer.carry(&self.plan);
            }
            run.preflight.ensure(self.plan.to_send(), &push.events, &push.cancel).await?;
            self.begin(push, target, run, tally).await?;
            let failed = self.round(push, target, run, tally).await?;
            if push.cancel.is_cancelled() {
                return Err(Fault::cancelled());
            }
            // Where nothing was done, the probe that the plan was made from is the proof.
            if self.plan.to_import().next().is_some() {
                push.node_is(target, NodeState::Verifying);
                self.ask(target).await?;
            }
            if push.options.deep {
                self.hash(push).await?;
            }
            let evidence = self.evidence(push, push.options.pin).await?;
            let images = self.proved(push, target, &failed, evidence.as_ref());
            let missing = images.iter().filter(|i| !i.ready).count();
            let ready = missing == 0;
            let again = failed.values().any(|f| f.again) || !self.damaged().is_empty();
            if ready || !again || round >= ROUNDS && missing >= before {
                self.settle(push, target, tally, Ok(&images)).await?;
                self.tidy(target, run, ready).await?;
                return Ok(images);
            }
            before = missing;
            self.facts.distrust(&failed.into_values().flat_map(|f| f.damaged).collect());
            self.replan(push, target, run)?;
        }
    }

    /// From here on nobody else is at work on the node. Before, another run may have come and gone: staging that it
    /// emptied and names that it gave would be taken for what they were, so the node is asked again.
    async fn lock(&mut self, push: &Push, target: &Target, run: &Run) -> Result<(), Fault> {
        self.hold(target, &run.id).await?;
        self.ask(target).await?;
        self.replan(push, target, run)
    }

    pub(super) async fn hold(&mut self, target: &Target, run: &str) -> Result<bool, Fault> {
        // Makes the folder that is locked.
        self.session.staging(&self.staging).await?;
        let holder = self.holder.take().unwrap_or_else(|| Holder::new(run, &target.name));
        let held = self.session.hold(&self.staging, &holder).await?;
        self.holder = held.then_some(holder);
        Ok(held)
    }

    /// The lock, and nothing that an import left behind still does: neither a lost connection nor a killed sender ends one,
    /// and what it brings afterwards would not be undone. Whether the lock is held: see [`NodeSession::hold`].
    pub(super) async fn hold_alone(&mut self, target: &Target, run: &str) -> Result<bool, Fault> {
        let held = self.hold(target, run).await?;
        parse_await_import(&self.session.run(&await_import(&self.staging)).await?)?;
        self.ask(target).await?;
        Ok(held)
    }

    pub(super) async fn ask(&mut self, target: &Target) -> Result<(), Fault> {
        self.facts = probe(self.session.as_ref(), self.runtime.as_ref(), &self.staging, target, &[]).await?;
        self.facts.lose(&self.damaged());
        Ok(())
    }

    fn replan(&mut self, push: &Push, target: &Target, run: &Run) -> Result<(), Fault> {
        let (runtime, facts) = (self.runtime.as_ref(), &self.facts);
        let images = target.images(&push.images);
        let (options, packed) = (&push.options, run.packed());
        let mut plan = NodePlan::compute_with(&target.name, &images, runtime, facts, options, &packed)?;
        plan.fits(facts, options)?;
        plan.possible_with(push.left_out.as_deref())?;
        (plan.prune, plan.spared) =
            (std::mem::take(&mut self.plan.prune), std::mem::take(&mut self.plan.spared));
        self.plan = plan;
        Ok(())
    }

    /// Sends and imports what the plan says. What fails for one image does not stop the others.
    async fn round(
        &mut self,
        push: &Push,
        target: &Target,
        run: &Run,
        tally: &mut Tally,
    ) -> Result<BTreeMap<Digest, Failed>, Fault> {
        let node = || Some(target.name.clone());
        push.events.emit(Event::TransferPlanned {
            node: node(),
            blobs: self.plan.blobs,
            bytes: self.plan.bytes,
            skipped: self.plan.bytes_skipped,
        });
        for image in self.plan.images.iter().filter(|i| i.ready) {
            told(push, target, image, ImageStep::Present);
        }
        let work: Vec<&ImagePlan> = self.plan.to_import().collect();
        if work.is_empty() {
            return Ok(BTreeMap::new());
        }
        push.node_is(target, NodeState::Sending);
        let store = self.session.staging(&self.staging).await?;
        let ours = work.iter().flat_map(|i| &i.image.blobs);
        let staged = ours
            .filter(|b| self.facts.staged.get(b.digest()) == Some(&b.size()))
            .map(|b| b.digest().clone())
            .collect();
        let line = Line::new(
            push,
            target,
            self,
            Paced::source(Arc::clone(&run.source), run.pace.and(push.options.node_bandwidth)),
            staged,
        )
        .of(run);
        let (sent, arrived) = mpsc::unbounded_channel();
        let moved = Arc::new(Moved::new(&push.events, tally));
        let job = Job {
            events: Arc::clone(&moved) as Events,
            cancel: push.cancel.clone(),
            node: node(),
            parallel: if push.options.background { 1 } else { push.lanes.max(1) },
        };
        let sending = line.send(&work, store.as_ref(), &job, sent);
        let importing = line.import(&work, arrived);
        // Both to their end: when sending breaks off, the import that runs is waited for.
        let ((blobs, sending), (images, importing)) = tokio::join!(sending, importing);
        tally.add(&moved, blobs, images);
        tally.bytes_adopted += line.adopted();
        importing.and(sending)?;
        Ok(line.into_failed())
    }

    /// Empties staging of what this bundle put there, and of what interrupted runs left. After a failure it stays for
    /// the next run; and when another run is at work there, it may be that run's.
    async fn tidy(&self, target: &Target, run: &Run, ready: bool) -> Result<(), Fault> {
        if !ready {
            return Ok(());
        }
        let ours: BTreeSet<&Digest> =
            self.plan.images.iter().flat_map(|i| &i.image.blobs).map(Descriptor::digest).collect();
        // What another run of this bundle left in part is of no use either.
        let there =
            |d: &&Digest| self.facts.staged.contains_key(*d) || self.facts.partials.contains_key(d.hex());
        let left: Vec<&Digest> = ours.into_iter().filter(there).collect();
        let leftovers = self.runtime.leftovers(&self.staging, &self.facts);
        if left.is_empty() && leftovers.is_none() && self.facts.partials.is_empty() {
            return Ok(());
        }
        // Every image is proved: whether this is done now or next time changes nothing.
        if self.session.hold(&self.staging, &Holder::new(&run.id, &target.name)).await.is_err() {
            return Ok(());
        }
        if !left.is_empty() {
            parse_discard(&self.session.run(&discard_parts(&self.staging, left)).await?)?;
        }
        if let Some(command) = leftovers {
            let _ = self.session.run(&command).await?;
        }
        Ok(())
    }
}

async fn probe(
    session: &dyn NodeSession,
    runtime: &dyn Runtime,
    staging: &str,
    target: &Target,
    known: &[&Digest],
) -> Result<NodeFacts, Fault> {
    let mut facts = runtime.parse_probe(&session.run(&runtime.probe(staging, known)).await?)?;
    if let Some(platform) = &target.platform {
        facts.platform = platform.clone();
    }
    Ok(facts)
}

pub(super) fn told(push: &Push, target: &Target, image: &ImagePlan, step: ImageStep) {
    let (node, image) = (target.name.clone(), image.image.label().to_owned());
    push.events.emit(Event::NodeImage { node, image, step });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_what_staging_holds_and_what_frees_it() {
        for full in [
            "writing to /s/t failed (is the disk full, or the file system read-only?)",
            "cannot write to /s/t-runs: is the disk full?",
        ] {
            assert!(Fault::lasting(full).of_a_full_disk(), "{full}");
        }
        let runtime =
            "import failed: ctr: write /var/x: no space left on device; make room on the node's disk";
        assert!(!Fault::lasting(runtime).of_a_full_disk(), "that has its way out");
        insta::assert_snapshot!(hoard("/var/lib/omk/staging", "20480\t/var/lib/omk/staging\n").unwrap(), @"; omk's own staging folder /var/lib/omk/staging holds 21.0 MB there: `omk preheat status` names the runs that left it. Preheating such a run's bundle again frees it where the images are whole; `omk preheat rollback --run RUN` undoes the run: removes the images that it brought, and what it left in staging");
        assert_eq!(hoard("/s/t", "du: cannot read"), None);
        assert_eq!(hoard("/s/t", ""), None);
    }
}

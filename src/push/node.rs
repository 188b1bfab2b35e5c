//! One attempt on one node: what is sent, imported and proved over one connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::executor::{Push, Run, Target};
use super::tally::{Moved, Tally};
use super::{ImagePlan, ImageReport, NodePlan, NodeResult, PlanError, Refused};
use crate::copy::{Job, copy_blob};
use crate::event::{Event, Events, ImageStep, NodeState};
use crate::node::{CommandOutput, Holder, NodeError, NodeSession, RemoteCommand};
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest};
use crate::runtime::{
    DEFAULT_STAGING, Detected, ImportJob, NodeFacts, Readiness, Runtime, RuntimeError, check_staging, detect,
    discard, parse_detect, parse_discard,
};
use crate::store::{BlobStore, StoreError};

/// Rounds of send, import, prove over one connection. Content that a node lost between probe and import (garbage
/// collection) is sent in the second.
const ROUNDS: u32 = 2;

/// Why an attempt ended.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: String,
    /// The node cannot take the bundle.
    pub(super) refused: bool,
    /// Connecting again can help.
    pub(super) passing: bool,
}

impl Fault {
    fn lasting(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), refused: false, passing: false }
    }

    pub(super) fn cancelled() -> Self {
        Self::lasting("stopped; run the same command again to go on")
    }

    /// Stopped because what was to be sent, here or to another node, is not what it should be.
    pub(super) fn damaged(damage: &str) -> Self {
        Self::lasting(format!("stopped, because the bundle is damaged: {damage}"))
    }

    /// As a dry run tells it.
    pub(super) fn refuse(self, node: &str) -> Refused {
        let state = if self.refused { NodeResult::Refused } else { NodeResult::Failed };
        Refused { node: node.to_owned(), state, reason: self.reason }
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

impl From<RuntimeError> for Fault {
    fn from(error: RuntimeError) -> Self {
        Self::lasting(error)
    }
}

impl From<PlanError> for Fault {
    fn from(error: PlanError) -> Self {
        Self { refused: true, ..Self::lasting(error) }
    }
}

/// A node that was asked what it has.
pub(super) struct Prepared {
    pub(super) session: Box<dyn NodeSession>,
    pub(super) plan: NodePlan,
    runtime: Box<dyn Runtime>,
    staging: String,
    facts: NodeFacts,
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
        let facts = probe(session.as_ref(), runtime.as_ref(), &staging, target).await?;
        let images = target.images(&push.images);
        let plan = NodePlan::compute(&target.name, &images, runtime.as_ref(), &facts, &push.options)?;
        let plan = plan.possible_with(push.left_out.as_deref())?;
        Ok(Self { session, plan, runtime, staging, facts })
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
        let outcome = self.rounds(push, target, run, tally).await;
        self.session.close().await;
        outcome
    }

    async fn rounds(
        &mut self,
        push: &Push,
        target: &Target,
        run: &Run,
        tally: &mut Tally,
    ) -> Result<Vec<ImageReport>, Fault> {
        if self.plan.to_import().next().is_some() {
            tokio::select! {
                locked = self.lock(push, target, run) => locked?,
                () = push.cancel.cancelled() => return Err(Fault::cancelled()),
            }
        }
        tally.plan(&self.plan);
        let mut round = 0;
        loop {
            round += 1;
            run.preflight.ensure(self.plan.to_send(), &push.events, &push.cancel).await?;
            let failed = self.round(push, target, tally).await?;
            if push.cancel.is_cancelled() {
                return Err(Fault::cancelled());
            }
            // Where nothing was done, the probe that the plan was made from is the proof.
            if self.plan.to_import().next().is_some() {
                push.node_is(target, NodeState::Verifying);
                self.ask(target).await?;
            }
            let images = self.proved(push, target, &failed);
            let ready = images.iter().all(|i| i.ready);
            if ready || round >= ROUNDS || !failed.values().any(|f| f.again) {
                self.tidy(target, run, ready).await?;
                return Ok(images);
            }
            self.facts.distrust(&failed.into_values().flat_map(|f| f.damaged).collect());
            self.replan(push, target)?;
        }
    }

    /// From here on nobody else is at work on the node. Before, another run may have come and gone: staging that it
    /// emptied and names that it gave would be taken for what they were, so the node is asked again.
    async fn lock(&mut self, push: &Push, target: &Target, run: &Run) -> Result<(), Fault> {
        // Makes the folder that is locked.
        self.session.staging(&self.staging).await?;
        self.session.hold(&self.staging, &Holder::new(&run.id, &target.name)).await?;
        self.ask(target).await?;
        self.replan(push, target)
    }

    async fn ask(&mut self, target: &Target) -> Result<(), Fault> {
        self.facts = probe(self.session.as_ref(), self.runtime.as_ref(), &self.staging, target).await?;
        Ok(())
    }

    fn replan(&mut self, push: &Push, target: &Target) -> Result<(), Fault> {
        let (runtime, facts) = (self.runtime.as_ref(), &self.facts);
        let images = target.images(&push.images);
        let plan = NodePlan::compute(&target.name, &images, runtime, facts, &push.options)?;
        self.plan = plan.possible_with(push.left_out.as_deref())?;
        Ok(())
    }

    /// Sends and imports what the plan says. What fails for one image does not stop the others.
    async fn round(
        &mut self,
        push: &Push,
        target: &Target,
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
        let line = Line {
            push,
            target,
            session: self.session.as_ref(),
            runtime: self.runtime.as_ref(),
            staging: &self.staging,
            staged: Mutex::new(staged),
            failed: Mutex::default(),
        };
        let (sent, arrived) = mpsc::channel(1);
        let moved = Arc::new(Moved::new(&push.events, tally));
        let job = Job {
            events: Arc::clone(&moved) as Events,
            cancel: push.cancel.clone(),
            node: node(),
            parallel: push.lanes.max(1),
        };
        let sending = line.send(&work, store.as_ref(), &job, sent);
        let importing = line.import(&work, self.facts.clone(), arrived);
        // Both to their end: when sending breaks off, the import that runs is waited for.
        let ((blobs, sending), (images, importing)) = tokio::join!(sending, importing);
        tally.add(&moved, blobs, images);
        importing.and(sending)?;
        Ok(line.failed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the last probe proves, with what went wrong on the way.
    fn proved(&self, push: &Push, target: &Target, failed: &BTreeMap<Digest, Failed>) -> Vec<ImageReport> {
        let prove = |plan: &ImagePlan| {
            let (ready, reason) = match self.runtime.readiness(&self.facts, &plan.image) {
                Readiness::Ready(note) => (true, note),
                Readiness::Missing(why) => {
                    (false, Some(failed.get(&plan.digest).map_or(why, |f| f.reason.clone())))
                }
            };
            if ready {
                told(push, target, plan, ImageStep::Ready);
            }
            ImageReport { names: plan.names.clone(), digest: plan.digest.clone(), ready, reason }
        };
        self.plan.images.iter().map(prove).collect()
    }

    /// Empties staging of what this bundle put there, and of what interrupted runs left. After a failure it stays for
    /// the next run; and when another run is at work there, it may be that run's.
    async fn tidy(&self, target: &Target, run: &Run, ready: bool) -> Result<(), Fault> {
        if !ready {
            return Ok(());
        }
        let ours: BTreeSet<&Digest> =
            self.plan.images.iter().flat_map(|i| &i.image.blobs).map(Descriptor::digest).collect();
        let left: Vec<&Digest> = ours.into_iter().filter(|d| self.facts.staged.contains_key(*d)).collect();
        let leftovers = self.runtime.leftovers(&self.facts);
        if left.is_empty() && leftovers.is_none() && self.facts.partials.is_empty() {
            return Ok(());
        }
        // Every image is proved: whether this is done now or next time changes nothing.
        if self.session.hold(&self.staging, &Holder::new(&run.id, &target.name)).await.is_err() {
            return Ok(());
        }
        if !left.is_empty() {
            parse_discard(&self.session.run(&discard(&self.staging, left)).await?)?;
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
) -> Result<NodeFacts, Fault> {
    let mut facts = runtime.parse_probe(&session.run(&runtime.probe(staging)).await?)?;
    if let Some(platform) = &target.platform {
        facts.platform = platform.clone();
    }
    Ok(facts)
}

fn told(push: &Push, target: &Target, image: &ImagePlan, step: ImageStep) {
    let (node, image) = (target.name.clone(), image.image.label().to_owned());
    push.events.emit(Event::NodeImage { node, image, step });
}

/// An image that was not imported.
#[derive(Debug)]
struct Failed {
    reason: String,
    /// Another round can help.
    again: bool,
    damaged: Vec<Digest>,
}

/// The pipeline of one node: while one image is imported, the next is sent.
struct Line<'a> {
    push: &'a Push,
    target: &'a Target,
    session: &'a dyn NodeSession,
    runtime: &'a dyn Runtime,
    staging: &'a str,
    /// Complete in staging.
    staged: Mutex<BTreeSet<Digest>>,
    failed: Mutex<BTreeMap<Digest, Failed>>,
}

impl Line<'_> {
    fn staged(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, image: &ImagePlan, reason: String, again: bool, damaged: Vec<Digest>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.entry(image.digest.clone()).or_insert(Failed { reason, again, damaged });
    }

    /// Blobs sent, and whether it came to its end.
    async fn send(
        &self,
        work: &[&ImagePlan],
        store: &dyn BlobStore,
        job: &Job,
        sent: mpsc::Sender<usize>,
    ) -> (u64, Result<(), Fault>) {
        let mut blobs = 0;
        for (i, image) in work.iter().enumerate() {
            let (documents, leaves): (Vec<_>, Vec<_>) =
                image.send.iter().partition(|b| b.kind() != Kind::Blob);
            // Layers side by side; manifests and indexes after what they point to.
            for (group, lanes) in [(leaves, job.parallel), (documents, 1)] {
                let copies = group.into_iter().map(|blob| async move {
                    (blob, copy_blob(self.push.source.as_ref(), store, blob, job).await)
                });
                let mut copies = stream::iter(copies).buffer_unordered(lanes);
                while let Some((blob, copied)) = copies.next().await {
                    match copied {
                        Ok(copied) => {
                            blobs += copied.blobs;
                            self.staged().insert(blob.digest().clone());
                        }
                        Err(
                            error @ (StoreError::NotFound { .. }
                            | StoreError::DigestMismatch { .. }
                            | StoreError::SizeMismatch { .. }),
                        ) => self.fail(image, format!("not sent: {error}"), true, Vec::new()),
                        Err(error) => return (blobs, Err(error.into())),
                    }
                }
            }
            if sent.send(i).await.is_err() {
                break;
            }
        }
        (blobs, Ok(()))
    }

    /// Images imported, and whether it came to its end.
    async fn import(
        &self,
        work: &[&ImagePlan],
        mut facts: NodeFacts,
        mut arrived: mpsc::Receiver<usize>,
    ) -> (u64, Result<(), Fault>) {
        let mut done = 0;
        while let Some(i) = arrived.recv().await {
            if self.push.cancel.is_cancelled() {
                return (done, Err(Fault::cancelled()));
            }
            match self.import_one(work[i], &work[i + 1..], &mut facts).await {
                Ok(true) => done += 1,
                Ok(false) => {}
                Err(fault) => return (done, Err(fault)),
            }
        }
        (done, Ok(()))
    }

    async fn import_one(
        &self,
        plan: &ImagePlan,
        later: &[&ImagePlan],
        facts: &mut NodeFacts,
    ) -> Result<bool, Fault> {
        let image = &plan.image;
        let staged = self.staged().clone();
        // containerd up to 1.7 moves names before it knows that content is missing: so know it before.
        let at_hand =
            |b: &&Descriptor| staged.contains(b.digest()) || self.runtime.has(facts, image, b).is_some();
        if let Some(gone) = image.blobs.iter().find(|b| !at_hand(b)) {
            self.fail(plan, format!("{} is not on the node", gone.digest()), true, Vec::new());
            return Ok(false);
        }
        self.push.node_is(self.target, NodeState::Importing);
        told(self.push, self.target, plan, ImageStep::Importing);
        let command =
            self.runtime.import(&ImportJob { staging: self.staging, image, staged: &staged, facts });
        let output = self.run(&command).await?;
        if let Err(failure) = self.runtime.parse_import(&output) {
            let reason = format!("import failed: {}", failure.reason);
            self.fail(plan, reason, failure.content_missing, failure.damaged);
            return Ok(false);
        }
        told(self.push, self.target, plan, ImageStep::Imported);
        let keep: BTreeSet<&Digest> = if self.runtime.keeps_shared_blobs_staged() {
            later.iter().flat_map(|l| &l.image.blobs).map(Descriptor::digest).collect()
        } else {
            facts
                .content
                .extend(image.blobs.iter().map(|b| b.digest().clone()).filter(|d| staged.contains(d)));
            facts.snapshots.extend(image.image.chain_ids.iter().cloned());
            BTreeSet::new()
        };
        let over: Vec<&Digest> =
            image.blobs.iter().map(Descriptor::digest).filter(|d| !keep.contains(d)).collect();
        parse_discard(&self.run(&discard(self.staging, over.iter().copied())).await?)?;
        let mut staged = self.staged();
        for digest in over {
            staged.remove(digest);
        }
        Ok(true)
    }

    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, Fault> {
        Ok(self.session.run(command).await?)
    }
}

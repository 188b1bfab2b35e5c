//! Acting on plans: many nodes at once, none of which can stop the others.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::gentle::Gentle;
use super::node::{Fault, Prepared};
use super::pack::Packer;
use super::preflight::Preflight;
use super::report::{ReportKind, now};
use super::tally::Tally;
use super::{ImageReport, NodePlan, NodeReport, NodeResult, PushOptions, PushPlan, PushReport, Refused};
use crate::bundle::{BundleImage, Delta};
use crate::event::{Event, Events, NodeState};
use crate::node::{NodeError, NodeSession};
use crate::oci::{Descriptor, Platform};
use crate::runtime::{NodeFacts, Packed, RuntimeChoice};
use crate::store::{BlobSource, Pace, StoreError};

/// Attempts in a row that bring nothing further before a node is given up.
pub(super) const ATTEMPTS: u32 = 3;

/// Pause before a runtime that went away is asked again, in milliseconds: systemd waits five seconds before it starts
/// containerd again (`RestartSec` of its unit).
const RESTART_MS: u64 = 5500;

/// A node as the push sees it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name in the inventory.
    pub name: String,
    /// Its runtime.
    pub runtime: RuntimeChoice,
    /// Where to stage, when it is not where the runtime prefers it.
    pub staging: Option<String>,
    /// What it runs, when it is not to be asked.
    pub platform: Option<Platform>,
    /// The groups that it is in; with none, it takes the images of every group.
    pub groups: BTreeSet<String>,
}

impl Target {
    /// Whether an image is meant for this node.
    fn wants(&self, image: &BundleImage) -> bool {
        image.groups.is_empty() || self.groups.is_empty() || !self.groups.is_disjoint(&image.groups)
    }

    /// The images that are meant for it.
    pub(super) fn images<'a>(&self, all: &'a [BundleImage]) -> Cow<'a, [BundleImage]> {
        if all.iter().all(|i| self.wants(i)) {
            return Cow::Borrowed(all);
        }
        Cow::Owned(all.iter().filter(|i| self.wants(i)).cloned().collect())
    }
}

/// Reaches nodes.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Opens a session to the node with this name. `cancel` ends the attempt and later all that runs in the session.
    async fn connect(
        &self,
        node: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn NodeSession>, NodeError>;
}

/// How long nodes that answered wait for those that did not yet. Long enough for nodes that are merely slow, so that one
/// proof serves all; short beside the time in which a dead one is given up.
const GRACE: Duration = Duration::from_secs(3);

/// Blobs beyond the first of a node that are on the way at once, to all nodes together: what is on the way is held in
/// memory, and many nodes keep the link busy with one blob each.
const BESIDE: usize = 12;

/// What all nodes of a run share.
pub(super) struct Run {
    pub(super) id: String,
    pub(super) preflight: Preflight,
    /// How fast all nodes together are sent to.
    pub(super) pace: Pace,
    /// For a fast import.
    pub(super) packer: Option<Packer>,
    pub(super) source: Arc<dyn BlobSource>,
    /// Blobs beyond the first of each node that are on the way at once.
    pub(super) beside: Semaphore,
}

impl Run {
    /// What is packed for a fast import.
    pub(super) fn packed(&self) -> Arc<Packed> {
        self.packer.as_ref().map(Packer::packed).unwrap_or_default()
    }

    /// Packs what is to be sent, where that is asked for; true when another plan is to be made because of it.
    ///
    /// # Errors
    /// As [`Preflight::ensure`]: what is wrong with the bundle is kept there.
    pub(super) async fn pack(
        &self,
        blobs: impl Iterator<Item = &Descriptor>,
        push: &Push,
    ) -> Result<bool, StoreError> {
        let Some(packer) = &self.packer else { return Ok(false) };
        packer.ensure(blobs, &push.events, &push.cancel).await.map_err(|e| self.preflight.blame(e))
    }
}

/// A push: of which images, from where, to which nodes.
#[derive(Clone)]
pub struct Push {
    /// For reports and messages.
    pub bundle: String,
    /// What every node shall have.
    pub images: Vec<BundleImage>,
    /// Where their blobs are read.
    pub source: Arc<dyn BlobSource>,
    /// What the bundle leaves out because its base has it.
    pub left_out: Option<Arc<Delta>>,
    /// The nodes.
    pub targets: Vec<Target>,
    /// How they are reached.
    pub connector: Arc<dyn Connector>,
    /// What the user can change.
    pub options: PushOptions,
    /// containerd's namespace, when it is not kubelet's.
    pub namespace: Option<String>,
    /// Nodes at once.
    pub parallel: usize,
    /// Blobs at once to one node: more than one pays on links with latency.
    pub lanes: usize,
    /// Where progress goes.
    pub events: Events,
    /// Set: imports that run are finished, then everything stops where the next run goes on.
    pub cancel: CancellationToken,
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Push({} to {} nodes)", self.bundle, self.targets.len())
    }
}

/// Why nothing was done on any node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A blob of the bundle is not what its digest says, or cannot be read.
    #[error("nothing was imported anywhere: {0}")]
    Bundle(#[source] StoreError),
}

/// What a node has come to before anything is sent.
enum Ready {
    Prepared(Box<Prepared>),
    /// Prepared, but its connection was closed again because there are too many nodes to hold them all.
    Parked(Box<NodePlan>),
    Fault(Fault),
}

impl Ready {
    fn plan(&self) -> Option<&NodePlan> {
        match self {
            Self::Prepared(p) => Some(&p.plan),
            Self::Parked(plan) => Some(plan),
            Self::Fault(_) => None,
        }
    }
}

impl Push {
    /// What would be done: asks every node, changes none.
    pub async fn plan(&self) -> PushPlan {
        let (mut nodes, mut refused) = (Vec::new(), Vec::new());
        for (target, ready) in self.targets.iter().zip(self.prepare_all().await) {
            match ready {
                Ready::Prepared(p) => {
                    p.session.close().await;
                    nodes.push(p.plan);
                }
                Ready::Parked(plan) => nodes.push(*plan),
                Ready::Fault(fault) => {
                    refused.push(fault.refuse(&target.name));
                }
            }
        }
        PushPlan { bundle: self.bundle.clone(), nodes, refused }
    }

    /// What every node has: asks all, changes none. The images of the push are of no account.
    ///
    /// In the order of the targets; for a node that cannot be asked, why.
    pub async fn ask(&self) -> Vec<Result<NodeFacts, Refused>> {
        let bare = Self { images: Vec::new(), left_out: None, ..self.clone() };
        let all: Vec<_> = bare
            .targets
            .iter()
            .map(|target| async {
                match bare.prepare(target, false).await {
                    Ok(prepared) => Ok(prepared.into_facts().await),
                    Err(fault) => Err(fault.refuse(&target.name)),
                }
            })
            .collect();
        stream::iter(all).buffered(bare.parallel.max(1)).collect().await
    }

    /// Brings every node to having every image, and proves it.
    ///
    /// # Errors
    /// Only when the bundle is damaged and nothing was imported. Damage that shows later, in what only a late node needs,
    /// stops all nodes before their next import and is what their reports say; whatever else happens to a node is in
    /// its report.
    pub async fn run(&self) -> Result<PushReport, PushError> {
        let (stop, started) = (self.cancel.child_token(), now());
        // All that follows sees a token that damage of the bundle sets too.
        let push = Self { cancel: stop.clone(), ..self.clone() };
        let packer = self.options.fast_import.as_ref();
        let packer = packer.map(|folder| Packer::new(folder, Arc::clone(&self.source)));
        let source = packer.as_ref().map_or_else(|| Arc::clone(&self.source), Packer::source);
        let preflight = Preflight::new(Arc::clone(&source), stop);
        let pace = Pace::new(self.options.bandwidth);
        let beside = Semaphore::new(BESIDE);
        let run = Run { id: super::txn::run_id(), preflight, pace, packer, source, beside };
        push.events.emit(Event::Phase { name: "probe", total: Some(self.targets.len() as u64) });
        let slots = self.parallel.max(1);
        let (probing, pushing) = (Semaphore::new(slots), Semaphore::new(slots));
        let (arrive, arrivals) = mpsc::unbounded_channel();
        let (open, gate) = watch::channel(false);
        let one = |target| {
            let (arrive, gate, push, run) = (arrive.clone(), gate.clone(), &push, &run);
            let (probing, pushing) = (&probing, &pushing);
            async move {
                let slot = probing.acquire().await;
                let (ready, started) = push.reach(target).await;
                drop(slot);
                let Some(plan) = ready.plan() else {
                    drop(arrive);
                    return push.finish(target, ready, started, run).await;
                };
                // Nobody listens when the gate is open, and none is needed then.
                let _ = arrive.send(plan.to_send().cloned().collect());
                drop(arrive);
                let mut gate = gate;
                let _ = gate.wait_for(|open| *open).await;
                let _slot = pushing.acquire().await;
                push.finish(target, ready, started, run).await
            }
        };
        let work: Vec<_> = self.targets.iter().map(one).collect();
        drop((arrive, gate));
        let (ended, ()) = tokio::join!(join_all(work), push.gatekeeper(arrivals, open, &run));
        let imported: u64 = ended.iter().map(|(_, imported)| imported).sum();
        if imported == 0
            && let Some(damage) = run.preflight.take_damage()
        {
            return Err(PushError::Bundle(damage));
        }
        let nodes = ended.into_iter().map(|(report, _)| report).collect();
        let report = PushReport::new(ReportKind::Preheat, &self.bundle);
        Ok(PushReport { run_id: run.id, started, nodes, ..report })
    }

    /// Lets the nodes go on when all of them were asked, or those that answered within [`GRACE`] of the first, and what
    /// these will be sent is proved. One that comes later has the rest proved by itself.
    async fn gatekeeper(
        &self,
        mut arrivals: mpsc::UnboundedReceiver<Vec<Descriptor>>,
        open: watch::Sender<bool>,
        run: &Run,
    ) {
        let Some(mut blobs) = arrivals.recv().await else { return };
        let until = tokio::time::Instant::now() + GRACE;
        while let Ok(Some(more)) = tokio::time::timeout_at(until, arrivals.recv()).await {
            blobs.extend(more);
        }
        // Damage stops the run; whoever waits finds out when it goes on. What is packed is proved by it.
        let ready = async {
            run.pack(blobs.iter(), self).await?;
            let packed = run.packed();
            let rest = blobs.iter().filter(|b| !packed.contains_key(b.digest()));
            run.preflight.ensure(rest, &self.events, &self.cancel).await
        };
        if ready.await.is_ok() {
            self.events.emit(Event::Phase { name: "push", total: Some(self.targets.len() as u64) });
        }
        open.send_replace(true);
    }

    /// In the order of the targets.
    async fn prepare_all(&self) -> Vec<Ready> {
        let all: Vec<_> = self.targets.iter().map(|t| async { self.reach(t).await.0 }).collect();
        stream::iter(all).buffered(self.parallel.max(1)).collect().await
    }

    /// Asks a node what it has; with the time at which that was begun.
    async fn reach(&self, target: &Target) -> (Ready, Instant) {
        let started = Instant::now();
        let park = self.targets.len() > self.parallel;
        let mut tries = 0;
        let ready = loop {
            let fault = match self.prepare(target, false).await {
                Ok(p) if park => {
                    p.session.close().await;
                    break Ready::Parked(Box::new(p.plan));
                }
                Ok(p) => break Ready::Prepared(Box::new(p)),
                Err(fault) => fault,
            };
            tries += 1;
            // A runtime that does not run when a run begins is somebody's to start.
            let passing = fault.passing && !fault.restarting;
            if !passing || tries >= ATTEMPTS {
                break Ready::Fault(fault);
            }
            if !self.pause(target, &fault, tries).await {
                break Ready::Fault(fault.interrupted());
            }
        };
        (ready, started)
    }

    /// Connects and plans. `before`: the node was reached before in this run.
    pub(super) async fn prepare(&self, target: &Target, before: bool) -> Result<Prepared, Fault> {
        self.node_is(target, NodeState::Connecting);
        // The session gets a token of its own: a running import is waited for when the run is cancelled, because
        // an import that is killed leaves names on half of their content.
        let alive = CancellationToken::new();
        let session = tokio::select! {
            session = self.connector.connect(&target.name, &self.events, &alive) => session.map_err(|e| Fault::connecting(e, before))?,
            () = self.cancel.cancelled() => return Err(Fault::cancelled()),
        };
        let session = if self.options.background { Gentle::session(session) } else { session };
        self.node_is(target, NodeState::Probing);
        tokio::select! {
            prepared = Prepared::new(session, self, target) => prepared,
            () = self.cancel.cancelled() => Err(Fault::cancelled()),
        }
    }

    /// One node to its end, reconnecting as long as that brings it further; with how many images it took in.
    async fn finish(&self, target: &Target, ready: Ready, started: Instant, run: &Run) -> (NodeReport, u64) {
        let mut tally = Tally::default();
        let mut next = match ready {
            Ready::Fault(fault) => return (self.report(target, Err(fault), &tally, started), 0),
            Ready::Parked(_) => None,
            Ready::Prepared(p) => Some(*p),
        };
        let mut tries = 0;
        let outcome = loop {
            let before = tally.progress();
            let attempt = async {
                let prepared = match next.take() {
                    Some(p) => p,
                    None => self.prepare(target, true).await?,
                };
                prepared.run(self, target, run, &mut tally).await
            };
            let fault = match attempt.await {
                Ok(images) => break Ok(images),
                Err(fault) => fault,
            };
            tries = if tally.progress() > before { 1 } else { tries + 1 };
            if !fault.passing || tries >= ATTEMPTS {
                break Err(fault.given_up(tries));
            }
            if !self.pause(target, &fault, tries).await {
                break Err(fault.interrupted());
            }
        };
        let outcome = outcome.map_err(|fault| match run.preflight.damaged() {
            Some(damage) => Fault::damaged(&damage),
            None => fault,
        });
        if let Err(fault) = &outcome {
            self.give_up(target, run, &mut tally, fault).await;
        }
        (self.report(target, outcome, &tally, started), tally.images)
    }

    /// Waits before another attempt; false when the run was cancelled.
    pub(super) async fn pause(&self, target: &Target, fault: &Fault, tries: u32) -> bool {
        let delay_ms = if fault.restarting { RESTART_MS } else { 500u64 << tries.min(4) };
        let (what, reason) = (target.name.clone(), fault.reason.clone());
        self.events.emit(Event::Retry { what, reason, delay_ms });
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(delay_ms)) => true,
            () = self.cancel.cancelled() => false,
        }
    }

    pub(super) fn report(
        &self,
        target: &Target,
        outcome: Result<Vec<ImageReport>, Fault>,
        tally: &Tally,
        started: Instant,
    ) -> NodeReport {
        let (state, images, error) = match outcome {
            Ok(images) => match images.iter().filter(|i| !i.ready).count() {
                0 => (NodeResult::Ready, images, None),
                n => {
                    let first = images.iter().find(|i| !i.ready);
                    let name = first.and_then(|i| i.names.first()).cloned().unwrap_or_default();
                    let reason = first.and_then(|i| i.reason.clone()).unwrap_or_default();
                    let text = format!("{n} of {} images are not ready; {name}: {reason}", images.len());
                    (NodeResult::Failed, images, Some(text))
                }
            },
            Err(f) => (f.result(), tally.seen.clone(), Some(f.reason)),
        };
        let error = error.map(|error| match &tally.undone {
            Some(undone) => format!("{error}; {}", undone.sentence()),
            None => error,
        });
        self.node_is(
            target,
            match &error {
                None => NodeState::Ready,
                Some(_) if state == NodeResult::Stopped => NodeState::Stopped,
                Some(reason) => NodeState::Failed(reason.clone()),
            },
        );
        let (platform, runtime) = tally.runs.clone().unzip();
        NodeReport {
            node: target.name.clone(),
            login: None,
            platform,
            runtime,
            state,
            images,
            bytes_sent: tally.bytes_sent,
            blobs_sent: tally.blobs_sent,
            bytes_skipped: tally.bytes_skipped.unwrap_or(0),
            bytes_adopted: tally.bytes_adopted,
            bytes_resumed: tally.bytes_resumed(),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error,
            recorded: tally.txn.as_ref().is_some_and(|txn| txn.changed(tally.bytes_sent)),
            undone: tally.undone.clone(),
            pruned: tally.pruned.clone(),
            spared: tally.spared.clone(),
        }
    }

    pub(super) fn node_is(&self, target: &Target, state: NodeState) {
        self.events.emit(Event::Node { node: target.name.clone(), state });
    }
}

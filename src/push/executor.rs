//! Acting on plans: many nodes at once, none of which can stop the others.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::node::{Fault, Prepared};
use super::preflight::Preflight;
use super::tally::Tally;
use super::{ImageReport, NodePlan, NodeReport, NodeResult, PushOptions, PushPlan, PushReport};
use crate::bundle::BundleImage;
use crate::event::{Event, Events, NodeState};
use crate::node::{NodeError, NodeSession};
use crate::oci::{Digest, Platform};
use crate::runtime::RuntimeChoice;
use crate::store::{BlobSource, StoreError};

/// Attempts in a row that bring nothing further before a node is given up.
const ATTEMPTS: u32 = 3;

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

/// A push: of which images, from where, to which nodes.
pub struct Push {
    /// For reports and messages.
    pub bundle: String,
    /// What every node shall have.
    pub images: Vec<BundleImage>,
    /// Where their blobs are read.
    pub source: Arc<dyn BlobSource>,
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

impl Push {
    /// What would be done: asks every node, changes none.
    pub async fn plan(&self) -> PushPlan {
        let (mut nodes, mut refused) = (Vec::new(), Vec::new());
        for (target, (ready, _)) in self.targets.iter().zip(self.prepare_all().await) {
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

    /// Brings every node to having every image, and proves it.
    ///
    /// # Errors
    /// Only when the bundle is damaged; whatever happens to a node is in the report.
    pub async fn run(&self) -> Result<PushReport, PushError> {
        let run_id = run_id();
        self.events.emit(Event::Phase { name: "probe", total: Some(self.targets.len() as u64) });
        let prepared = self.prepare_all().await;
        let preflight = Preflight::new(Arc::clone(&self.source));
        let plans = prepared.iter().filter_map(|(ready, _)| match ready {
            Ready::Prepared(p) => Some(&p.plan),
            Ready::Parked(plan) => Some(plan.as_ref()),
            Ready::Fault(_) => None,
        });
        let blobs = plans.flat_map(NodePlan::to_send);
        match preflight.ensure(blobs, &self.events, &self.cancel).await {
            Ok(()) | Err(StoreError::Cancelled) => {}
            Err(error) => {
                for (ready, _) in prepared {
                    if let Ready::Prepared(p) = ready {
                        p.session.close().await;
                    }
                }
                return Err(PushError::Bundle(error));
            }
        }
        self.events.emit(Event::Phase { name: "push", total: Some(self.targets.len() as u64) });
        let work = self.targets.iter().zip(prepared).map(|(target, (ready, started))| {
            let preflight = &preflight;
            async move { self.finish(target, ready, started, preflight).await }
        });
        let nodes = stream::iter(work.collect::<Vec<_>>()).buffered(self.parallel.max(1)).collect().await;
        Ok(PushReport { run_id, bundle: self.bundle.clone(), nodes })
    }

    /// In the order of the targets, with the time at which each was begun.
    async fn prepare_all(&self) -> Vec<(Ready, Instant)> {
        let park = self.targets.len() > self.parallel;
        let all = self.targets.iter().map(|target| async move {
            let started = Instant::now();
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
                if !fault.passing || tries >= ATTEMPTS || !self.pause(target, &fault, tries).await {
                    break Ready::Fault(fault);
                }
            };
            (ready, started)
        });
        stream::iter(all.collect::<Vec<_>>()).buffered(self.parallel.max(1)).collect().await
    }

    /// Connects and plans. `before`: the node was reached before in this run.
    async fn prepare(&self, target: &Target, before: bool) -> Result<Prepared, Fault> {
        self.node_is(target, NodeState::Connecting);
        // The session gets a token of its own: a running import is waited for when the run is cancelled, because
        // an import that is killed leaves names on half of their content.
        let alive = CancellationToken::new();
        let session = tokio::select! {
            session = self.connector.connect(&target.name, &self.events, &alive) => session.map_err(|e| Fault::connecting(e, before))?,
            () = self.cancel.cancelled() => return Err(Fault::cancelled()),
        };
        self.node_is(target, NodeState::Probing);
        tokio::select! {
            prepared = Prepared::new(session, self, target) => prepared,
            () = self.cancel.cancelled() => Err(Fault::cancelled()),
        }
    }

    /// One node to its end, reconnecting as long as that brings it further.
    async fn finish(
        &self,
        target: &Target,
        ready: Ready,
        started: Instant,
        preflight: &Preflight,
    ) -> NodeReport {
        let mut tally = Tally::default();
        let mut next = match ready {
            Ready::Fault(fault) => return self.report(target, Err(fault), &tally, started),
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
                prepared.run(self, target, preflight, &mut tally).await
            };
            let fault = match attempt.await {
                Ok(images) => break Ok(images),
                Err(fault) => fault,
            };
            tries = if tally.progress() > before { 1 } else { tries + 1 };
            if !fault.passing || tries >= ATTEMPTS || !self.pause(target, &fault, tries).await {
                break Err(fault);
            }
        };
        self.report(target, outcome, &tally, started)
    }

    /// Waits before another attempt; false when the run was cancelled.
    async fn pause(&self, target: &Target, fault: &Fault, tries: u32) -> bool {
        let delay_ms = 500u64 << tries.min(4);
        let (what, reason) = (target.name.clone(), fault.reason.clone());
        self.events.emit(Event::Retry { what, reason, delay_ms });
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(delay_ms)) => true,
            () = self.cancel.cancelled() => false,
        }
    }

    fn report(
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
            Err(f) if f.refused => (NodeResult::Refused, Vec::new(), Some(f.reason)),
            Err(f) => (NodeResult::Failed, Vec::new(), Some(f.reason)),
        };
        self.node_is(
            target,
            match &error {
                None => NodeState::Ready,
                Some(reason) => NodeState::Failed(reason.clone()),
            },
        );
        NodeReport {
            node: target.name.clone(),
            state,
            images,
            bytes_sent: tally.bytes_sent,
            blobs_sent: tally.blobs_sent,
            bytes_skipped: tally.bytes_skipped.unwrap_or(0),
            bytes_resumed: tally.bytes_resumed(),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error,
        }
    }

    pub(super) fn node_is(&self, target: &Target, state: NodeState) {
        self.events.emit(Event::Node { node: target.name.clone(), state });
    }
}

/// Tells runs apart; not a secret.
fn run_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Digest::sha256(format!("{} {}", now.as_nanos(), std::process::id()).as_bytes()).short().to_owned()
}

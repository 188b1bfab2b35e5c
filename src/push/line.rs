//! The pipeline of one node: while images are imported one after the other, the next are sent. The link is never idle between
//! two blobs or two images: as many blobs as there are lanes are always on the way, of the next image when those of one are
//! all under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::ImagePlan;
use super::executor::{Push, Run, Target};
use super::node::{Fault, told};
use super::order::{self, Speeds};
use super::plan::PIPELINE;
use crate::copy::{Job, copy_blob};
use crate::event::{ImageStep, NodeState};
use crate::node::{CommandOutput, NodeSession, RemoteCommand};
use crate::oci::{Descriptor, Digest};
use crate::runtime::{ImportJob, NodeFacts, Runtime, discard, parse_discard};
use crate::store::{BlobSource, BlobStore, StoreError};

/// An image that was not imported.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: String,
    /// Another round can help.
    pub(super) again: bool,
    pub(super) damaged: Vec<Digest>,
}

/// An image whose blobs are all on the node, with its place in the pipeline.
pub(super) struct Arrived<'a> {
    index: usize,
    _room: SemaphorePermit<'a>,
}

/// An image of which blobs are still on the way.
struct OnTheWay<'a> {
    index: usize,
    room: SemaphorePermit<'a>,
    lacks: BTreeSet<&'a Digest>,
}

pub(super) struct Line<'a> {
    pub(super) push: &'a Push,
    pub(super) target: &'a Target,
    pub(super) session: &'a dyn NodeSession,
    pub(super) runtime: &'a dyn Runtime,
    pub(super) staging: &'a str,
    pub(super) source: Arc<dyn BlobSource>,
    /// Under its name what imports replace is kept.
    run: &'a str,
    /// Turns for blobs beside the first; `None`: as many as the job allows.
    beside: Option<&'a Semaphore>,
    /// Complete in staging.
    staged: Mutex<BTreeSet<Digest>>,
    failed: Mutex<BTreeMap<Digest, Failed>>,
    speeds: Mutex<Speeds>,
    /// Bytes that imports took over from elsewhere on the node.
    adopted: AtomicU64,
    /// Images that may be between their first byte and the end of their import: what bounds staging.
    room: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Line<'a> {
    pub(super) fn new(
        push: &'a Push,
        target: &'a Target,
        session: &'a dyn NodeSession,
        runtime: &'a dyn Runtime,
        staging: &'a str,
        source: Arc<dyn BlobSource>,
        staged: BTreeSet<Digest>,
    ) -> Self {
        Self {
            push,
            target,
            session,
            runtime,
            staging,
            source,
            run: "",
            beside: None,
            staged: Mutex::new(staged),
            failed: Mutex::default(),
            speeds: Mutex::default(),
            adopted: AtomicU64::new(0),
            room: Semaphore::new(PIPELINE),
        }
    }

    pub(super) fn of(self, run: &'a Run) -> Self {
        Self { run: &run.id, beside: Some(&run.beside), ..self }
    }

    /// Images that were not imported, by their digest, and why.
    pub(super) fn into_failed(self) -> BTreeMap<Digest, Failed> {
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were neither sent nor there for the images that were imported.
    pub(super) fn adopted(&self) -> u64 {
        self.adopted.load(Ordering::Relaxed)
    }

    fn fail(&self, image: &ImagePlan, reason: String, again: bool, damaged: Vec<Digest>) {
        lock(&self.failed).entry(image.digest.clone()).or_insert(Failed { reason, again, damaged });
    }

    /// Blobs sent, and whether it came to its end.
    pub(super) async fn send<'s>(
        &'s self,
        work: &'s [&ImagePlan],
        store: &dyn BlobStore,
        job: &Job,
        sent: mpsc::UnboundedSender<Arrived<'s>>,
    ) -> (u64, Result<(), Fault>) {
        // What is on its way with one image is not sent with another.
        let mut unsent: BTreeMap<&Digest, u64> =
            work.iter().flat_map(|i| &i.send).map(|b| (b.digest(), b.size())).collect();
        let mut lacking: BTreeSet<&Digest> = unsent.keys().copied().collect();
        let mut left: BTreeSet<usize> = (0..work.len()).collect();
        let mut queue: VecDeque<(&ImagePlan, &Descriptor)> = VecDeque::new();
        let mut on_the_way: Vec<OnTheWay<'s>> = Vec::new();
        let mut running = FuturesUnordered::new();
        let (mut blobs, mut busy_since) = (0, Instant::now());
        loop {
            while running.len() < job.parallel && !queue.is_empty() {
                let mut turn = None;
                if running.is_empty() {
                    busy_since = Instant::now();
                } else if let Some(beside) = self.beside {
                    // With the next blob of this node it is tried again.
                    let Ok(taken) = beside.try_acquire() else { break };
                    turn = Some(taken);
                }
                let Some((image, blob)) = queue.pop_front() else { break };
                running.push(async move {
                    let copied = copy_blob(self.source.as_ref(), store, blob, job).await;
                    drop(turn);
                    (image, blob, copied)
                });
            }
            let idle = queue.is_empty() && running.len() < job.parallel && !left.is_empty();
            tokio::select! {
                Some((image, blob, copied)) = running.next(), if !running.is_empty() => {
                    match copied {
                        Ok(copied) => {
                            blobs += copied.blobs;
                            lock(&self.speeds).sent(copied.moved, busy_since.elapsed());
                            busy_since = Instant::now();
                            lock(&self.staged).insert(blob.digest().clone());
                        }
                        Err(
                            error @ (StoreError::NotFound { .. }
                            | StoreError::DigestMismatch { .. }
                            | StoreError::SizeMismatch { .. }),
                        ) => self.fail(image, format!("not sent: {error}"), true, Vec::new()),
                        Err(error) => return (blobs, Err(error.into())),
                    }
                    // Nothing is to be waited for where it failed: the import of who needs it will say so.
                    lacking.remove(blob.digest());
                    for image in &mut on_the_way {
                        image.lacks.remove(blob.digest());
                    }
                }
                Ok(room) = self.room.acquire(), if idle => {
                    let bytes = |at: &usize| -> u64 {
                        work[*at].image.blobs.iter().filter_map(|b| unsent.get(b.digest())).sum()
                    };
                    let turn = order::next(left.iter().map(|at| (*at, bytes(at))), &lock(&self.speeds));
                    let Some(index) = turn else { continue };
                    left.remove(&index);
                    let image = work[index];
                    let own = |b: &&Descriptor| unsent.remove(b.digest()).is_some();
                    queue.extend(image.image.blobs.iter().filter(own).map(|b| (image, b)));
                    let lacks = image.image.blobs.iter().map(Descriptor::digest).filter(|d| lacking.contains(d));
                    on_the_way.push(OnTheWay { index, room, lacks: lacks.collect() });
                }
                else => break,
            }
            for done in on_the_way.extract_if(.., |image| image.lacks.is_empty()) {
                // Nobody imports any more: why is said there.
                if sent.send(Arrived { index: done.index, _room: done.room }).is_err() {
                    return (blobs, Ok(()));
                }
            }
        }
        (blobs, Ok(()))
    }

    /// Images imported, and whether it came to its end.
    pub(super) async fn import(
        &self,
        work: &[&ImagePlan],
        mut facts: NodeFacts,
        mut arrived: mpsc::UnboundedReceiver<Arrived<'_>>,
    ) -> (u64, Result<(), Fault>) {
        let mut done = 0;
        let mut later: BTreeSet<usize> = (0..work.len()).collect();
        while let Some(image) = arrived.recv().await {
            if self.push.cancel.is_cancelled() {
                return (done, Err(Fault::cancelled()));
            }
            later.remove(&image.index);
            let others = later.iter().map(|&i| work[i]);
            match self.import_one(work[image.index], others, &mut facts).await {
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
        later: impl Iterator<Item = &ImagePlan>,
        facts: &mut NodeFacts,
    ) -> Result<bool, Fault> {
        let image = &plan.image;
        let staged = lock(&self.staged).clone();
        // containerd up to 1.7 moves names before it knows that content is missing: so know it before.
        let at_hand =
            |b: &&Descriptor| staged.contains(b.digest()) || self.runtime.has(facts, image, b).is_some();
        if let Some(gone) = image.blobs.iter().find(|b| !at_hand(b)) {
            self.fail(plan, format!("{} is not on the node", gone.digest()), true, Vec::new());
            return Ok(false);
        }
        self.push.node_is(self.target, NodeState::Importing);
        told(self.push, self.target, plan, ImageStep::Importing);
        let begun = Instant::now();
        let command = self.runtime.import(&ImportJob {
            staging: self.staging,
            image,
            run: self.run,
            staged: &staged,
            facts,
        });
        let output = self.run(&command).await?;
        if let Err(failure) = self.runtime.parse_import(&output) {
            let reason = format!("import failed: {}", failure.reason);
            self.fail(plan, reason, failure.content_missing, failure.damaged);
            return Ok(false);
        }
        let taken = image.blobs.iter().filter(|b| staged.contains(b.digest())).map(Descriptor::size).sum();
        lock(&self.speeds).imported(taken, begun.elapsed());
        told(self.push, self.target, plan, ImageStep::Imported);
        let adopted = |b: &&Descriptor| !staged.contains(b.digest()) && self.runtime.adopts(facts, image, b);
        let adopted: Vec<&Descriptor> = image.blobs.iter().filter(adopted).collect();
        self.adopted.fetch_add(adopted.iter().map(|b| b.size()).sum(), Ordering::Relaxed);
        facts.content.extend(adopted.iter().map(|b| b.digest().clone()));
        let keep: BTreeSet<&Digest> = if self.runtime.keeps_shared_blobs_staged() {
            later.flat_map(|l| &l.image.blobs).map(Descriptor::digest).collect()
        } else {
            facts.content.extend(image.kept().map(|b| b.digest().clone()).filter(|d| staged.contains(d)));
            facts.snapshots.extend(image.image.chain_ids.iter().cloned());
            BTreeSet::new()
        };
        let over: Vec<&Digest> =
            image.blobs.iter().map(Descriptor::digest).filter(|d| !keep.contains(d)).collect();
        parse_discard(&self.run(&discard(self.staging, over.iter().copied())).await?)?;
        let mut staged = lock(&self.staged);
        for digest in over {
            staged.remove(digest);
        }
        Ok(true)
    }

    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, Fault> {
        Ok(self.session.run(command).await?)
    }
}

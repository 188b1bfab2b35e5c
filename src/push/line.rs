//! The pipeline of one node: while images are imported, the next are sent. The link is never idle between two blobs or two
//! images: as many blobs as there are lanes are always on the way, of the next image when those of one are all under way.
//! Images are imported one after the other, or as many at a time as the runtime bears, [as long as they bring nothing in
//! common](super::overlap).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;

use super::ImagePlan;
use super::executor::{Push, Run, Target};
use super::node::{Fault, Prepared, told};
use super::order::{self, Left, Speeds};
use super::overlap::{self, Brings};
use super::plan::PIPELINE;
use crate::copy::{Job, copy_blob};
use crate::event::{ImageStep, NodeState};
use crate::node::{Holder, NodeSession, RemoteCommand};
use crate::oci::{Descriptor, Digest};
use crate::runtime::{
    ImportJob, NodeFacts, Runtime, await_import, discard, parse_await_import, parse_discard,
};
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

/// An import as it begins.
struct Import<'a> {
    /// Its place in the pipeline, until it has left staging.
    place: Arrived<'a>,
    brings: Brings,
    command: RemoteCommand,
    /// What of it is complete in staging.
    staged: BTreeSet<Digest>,
    /// What of that no later import needs there.
    over: Vec<Digest>,
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
    /// Of the connection; imports of an earlier one do not begin any more.
    turn: Option<&'a str>,
    /// Turns for blobs beside the first; `None`: as many as the job allows.
    beside: Option<&'a Semaphore>,
    /// What the node has, with what imports brought since it was asked.
    facts: Mutex<NodeFacts>,
    /// What each image brings that is on its way, from its first byte to the end of its import.
    coming: Mutex<BTreeMap<usize, Brings>>,
    /// Complete in staging.
    staged: Mutex<BTreeSet<Digest>>,
    failed: Mutex<BTreeMap<Digest, Failed>>,
    speeds: Mutex<Speeds>,
    /// Bytes that imports took over from elsewhere on the node.
    adopted: AtomicU64,
    /// Images that may be between their first byte and the end of their import: what bounds staging.
    room: Semaphore,
    /// Images that may be imported at the same time.
    at_once: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Line<'a> {
    /// To a node as it was probed. `staged`: what of the images is complete in staging.
    pub(super) fn new(
        push: &'a Push,
        target: &'a Target,
        node: &'a Prepared,
        source: Arc<dyn BlobSource>,
        staged: BTreeSet<Digest>,
    ) -> Self {
        let runtime = node.runtime.as_ref();
        let at_once = node.plan.imports_at_once.max(1);
        Self {
            push,
            target,
            session: node.session.as_ref(),
            runtime,
            staging: &node.staging,
            source,
            run: "",
            turn: node.holder.as_ref().map(Holder::turn),
            beside: None,
            facts: Mutex::new(node.facts.clone()),
            coming: Mutex::default(),
            staged: Mutex::new(staged),
            failed: Mutex::default(),
            speeds: Mutex::default(),
            adopted: AtomicU64::new(0),
            room: Semaphore::new(PIPELINE + at_once - 1),
            at_once,
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
                    let choice = |at: &usize| Left { at: *at, bytes: bytes(at), beside: self.beside(work[*at]) };
                    let turn = order::next(left.iter().map(choice), &lock(&self.speeds));
                    let Some(index) = turn else { continue };
                    left.remove(&index);
                    let brings = self.brings(work[index]);
                    lock(&self.coming).insert(index, brings);
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

    fn brings(&self, plan: &ImagePlan) -> Brings {
        Brings::of(self.runtime, &lock(&self.facts), &lock(&self.staged), &plan.image)
    }

    /// Whether something is on its way that the image can be imported beside.
    fn beside(&self, plan: &ImagePlan) -> bool {
        if self.at_once < 2 || lock(&self.coming).is_empty() {
            return false;
        }
        let brings = self.brings(plan);
        lock(&self.coming).values().all(|other| brings.beside(other))
    }

    /// Images imported, and whether it came to its end: then every import that was begun has ended.
    pub(super) async fn import(
        &self,
        work: &[&ImagePlan],
        mut arrived: mpsc::UnboundedReceiver<Arrived<'_>>,
    ) -> (u64, Result<(), Fault>) {
        if let Err(fault) = self.alone().await {
            return (0, Err(fault));
        }
        let (mut done, mut open) = (0, true);
        let mut waiting: Vec<Arrived<'_>> = Vec::new();
        let mut later: BTreeSet<usize> = (0..work.len()).collect();
        let mut brought: BTreeMap<usize, Brings> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        let mut busy_since = Instant::now();
        let end = loop {
            let cancelled = self.push.cancel.is_cancelled();
            if !cancelled && let Some((at, brings)) = self.next(work, &waiting, brought.values()) {
                let place = waiting.remove(at);
                let (index, plan) = (place.index, work[place.index]);
                later.remove(&index);
                let others = later.iter().map(|&i| work[i]);
                let Some(import) = self.prepare(plan, place, brings, others) else {
                    lock(&self.coming).remove(&index);
                    continue;
                };
                if running.is_empty() {
                    busy_since = Instant::now();
                }
                brought.insert(index, import.brings.clone());
                running.push(async move {
                    let ended = self.carry_out(plan, &import).await;
                    (import, ended)
                });
                continue;
            }
            if running.is_empty() && cancelled && !waiting.is_empty() {
                break Err(Fault::cancelled());
            }
            tokio::select! {
                Some((import, ended)) = running.next(), if !running.is_empty() => match ended {
                    Ok(imported) => {
                        let index = import.place.index;
                        if imported {
                            done += 1;
                            self.note(work[index], &import, busy_since);
                        }
                        brought.remove(&index);
                        lock(&self.coming).remove(&index);
                        busy_since = Instant::now();
                    }
                    Err(fault) => break Err(fault),
                },
                image = arrived.recv(), if open => match image {
                    Some(image) => waiting.push(image),
                    None => open = false,
                },
                else => break Ok(()),
            }
        };
        // Nothing more is begun, or sent; what runs comes to its end.
        drop((arrived, waiting));
        while let Some((_, ended)) = running.next().await {
            done += u64::from(ended.is_ok_and(|imported| imported));
        }
        (done, end)
    }

    /// Where imports are to run beside each other: waits for those that an earlier connection or run left at work, as an import
    /// that is alone does by itself.
    async fn alone(&self) -> Result<(), Fault> {
        if self.at_once > 1 {
            let wait = await_import(self.staging);
            tokio::select! {
                waited = self.session.run(&wait) => parse_await_import(&waited?)?,
                () = self.push.cancel.cancelled() => return Err(Fault::cancelled()),
            }
        }
        Ok(())
    }

    /// Which of the images that wait is imported next, and what it brings.
    fn next<'b>(
        &self,
        work: &[&ImagePlan],
        waiting: &[Arrived<'_>],
        brought: impl Iterator<Item = &'b Brings>,
    ) -> Option<(usize, Brings)> {
        let of = |a: &Arrived<'_>| self.brings(work[a.index]);
        overlap::next(waiting.iter().map(of), brought, self.at_once)
    }

    /// The import of an image whose blobs are all on the node; `None` where they are not.
    fn prepare<'p, 'w>(
        &self,
        plan: &ImagePlan,
        place: Arrived<'p>,
        brings: Brings,
        later: impl Iterator<Item = &'w ImagePlan>,
    ) -> Option<Import<'p>> {
        let (image, facts) = (&plan.image, &*lock(&self.facts));
        let here = lock(&self.staged);
        let own = image.blobs.iter().map(Descriptor::digest).filter(|d| here.contains(*d));
        let staged: BTreeSet<Digest> = own.cloned().collect();
        drop(here);
        // containerd up to 1.7 moves names before it knows that content is missing: so know it before.
        let at_hand =
            |b: &&Descriptor| staged.contains(b.digest()) || self.runtime.has(facts, image, b).is_some();
        if let Some(gone) = image.blobs.iter().find(|b| !at_hand(b)) {
            self.fail(plan, format!("{} is not on the node", gone.digest()), true, Vec::new());
            return None;
        }
        let keep: BTreeSet<&Digest> = if self.runtime.keeps_shared_blobs_staged() {
            later.flat_map(|l| &l.image.blobs).map(Descriptor::digest).collect()
        } else {
            BTreeSet::new()
        };
        let command = self.runtime.import(&ImportJob {
            staging: self.staging,
            image,
            run: self.run,
            turn: self.turn,
            staged: &staged,
            facts,
            at_once: self.at_once,
        });
        let over = staged.iter().filter(|d| !keep.contains(d)).cloned().collect();
        Some(Import { place, brings, command, staged, over })
    }

    /// Whether the image was imported; then it has left staging.
    async fn carry_out(&self, plan: &ImagePlan, import: &Import<'_>) -> Result<bool, Fault> {
        self.push.node_is(self.target, NodeState::Importing);
        told(self.push, self.target, plan, ImageStep::Importing);
        let output = self.session.run(&import.command).await?;
        if let Err(failure) = self.runtime.parse_import(&output) {
            let reason = format!("import failed: {}", failure.reason);
            self.fail(plan, reason, failure.content_missing, failure.damaged);
            return Ok(false);
        }
        told(self.push, self.target, plan, ImageStep::Imported);
        if !import.over.is_empty() {
            let over = discard(self.staging, &import.over);
            parse_discard(&self.session.run(&over).await?)?;
        }
        let mut staged = lock(&self.staged);
        for digest in &import.over {
            staged.remove(digest);
        }
        Ok(true)
    }

    /// What the node has by an import. `since`: when another one ended, or this one began on an idle runtime.
    fn note(&self, plan: &ImagePlan, import: &Import<'_>, since: Instant) {
        let (image, staged) = (&plan.image, &import.staged);
        let taken = image.blobs.iter().filter(|b| staged.contains(b.digest())).map(Descriptor::size).sum();
        lock(&self.speeds).imported(taken, since.elapsed());
        let facts = &mut *lock(&self.facts);
        let adopted = |b: &&Descriptor| !staged.contains(b.digest()) && self.runtime.adopts(facts, image, b);
        let adopted: Vec<&Descriptor> = image.blobs.iter().filter(adopted).collect();
        self.adopted.fetch_add(adopted.iter().map(|b| b.size()).sum(), Ordering::Relaxed);
        facts.content.extend(adopted.iter().map(|b| b.digest().clone()));
        if !self.runtime.keeps_shared_blobs_staged() {
            facts.content.extend(image.kept().map(|b| b.digest().clone()).filter(|d| staged.contains(d)));
            facts.snapshots.extend(image.image.chain_ids.iter().cloned());
        }
    }
}

//! The proof: what a node is asked once its images should be there, after a run or at any time later. Asking changes nothing;
//! only a run that is told to pin does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};

use super::executor::{Push, Target};
use super::line::Failed;
use super::node::{Fault, Prepared, told};
use super::proof::{Witness, refuted};
use super::report::{ReportKind, now};
use super::tally::Tally;
use super::{ImagePlan, ImageReport, NodeReport, PushError, PushOptions, PushReport};
use crate::event::{Event, ImageStep, NodeState};
use crate::oci::{Descriptor, Digest, ImageRef};
use crate::runtime::{Evidence, Readiness};

/// CRI takes notice of a new image up to a second later; a busy node may take longer.
const WAITS_MS: [u64; 7] = [100, 200, 400, 800, 1600, 3200, 6400];
/// Bytes hashed with one command: between two, a run can be cancelled.
const BATCH: u64 = 1 << 30;
/// Blobs hashed with one command.
const BATCH_BLOBS: usize = 500;

impl Prepared {
    /// Stored blobs that are not what their digests say.
    pub(super) fn damaged(&self) -> BTreeSet<Digest> {
        let bad = self.hashes.iter().filter(|(digest, found)| found.as_ref() != Some(*digest));
        bad.map(|(digest, _)| digest.clone()).collect()
    }

    /// Hashes what the node stores of the images and what was not found sound before; what turns out to be damaged counts as
    /// missing from then on.
    pub(super) async fn hash(&mut self, push: &Push) -> Result<(), Fault> {
        // What was damaged may be mended by now, so it is looked at again, wherever it is.
        let again = self.damaged();
        let mut seen = BTreeSet::new();
        let blobs = self.plan.images.iter().flat_map(|i| i.image.own());
        let wanted: Vec<Descriptor> = blobs
            .filter(|b| {
                let there = self.facts.content.contains(b.digest()) || again.contains(b.digest());
                let sound = self.hashes.contains_key(b.digest()) && !again.contains(b.digest());
                there && !sound && seen.insert(b.digest().clone())
            })
            .cloned()
            .collect();
        if wanted.is_empty() || self.runtime.hash(&[]).is_none() {
            return Ok(());
        }
        let bytes = wanted.iter().map(Descriptor::size).sum();
        push.events.emit(Event::CheckPlanned { blobs: wanted.len() as u64, bytes });
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0u64;
            let fits = |b: &&Descriptor| {
                bytes = bytes.saturating_add(b.size());
                bytes <= BATCH
            };
            let count = rest.iter().take_while(fits).count().clamp(1, BATCH_BLOBS);
            let (batch, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            let batch: Vec<&Descriptor> = batch.iter().collect();
            let Some(command) = self.runtime.hash(&batch) else { return Ok(()) };
            let output = tokio::select! {
                output = self.session.run(&command) => output?,
                () = push.cancel.cancelled() => return Err(Fault::cancelled()),
            };
            self.hashes.extend(self.runtime.parse_hash(&batch, &output)?);
            for blob in batch {
                let (node, digest, size) = (Some(self.plan.node.clone()), blob.digest().clone(), blob.size());
                push.events.emit(Event::TransferProgress {
                    node: node.clone(),
                    digest: digest.clone(),
                    bytes: size,
                });
                push.events.emit(Event::BlobDone { node, digest, size });
            }
        }
        let sound = again.difference(&self.damaged()).cloned().collect::<BTreeSet<_>>();
        self.facts.distrusted.retain(|d| !sound.contains(d));
        self.facts.content.extend(sound);
        let damaged = self.damaged();
        self.facts.lose(&damaged);
        Ok(())
    }

    /// Asks what kubelet would find, and waits a little for CRI to take notice. With `pin`, labels names that are there and
    /// not pinned yet.
    pub(super) async fn evidence(&self, push: &Push, pin: bool) -> Result<Option<Evidence>, Fault> {
        let Some(command) = self.runtime.evidence() else { return Ok(None) };
        let right = |image: &&ImagePlan| {
            let names = image.image.names.iter();
            names.map(|n| self.facts.names.get(n)).all(|f| f.is_some_and(|f| f.digest == image.digest))
        };
        let images: Vec<&ImagePlan> = self.plan.images.iter().filter(right).collect();
        let mut waits = WAITS_MS.into_iter();
        let mut pinned = false;
        // What the probe has brought is asked for again only where CRI has yet to take notice.
        let mut probed = self.facts.evidence.clone();
        loop {
            let evidence = match probed.take() {
                Some(evidence) => evidence,
                None => {
                    let output = tokio::select! {
                        output = self.session.run(&command) => output?,
                        () = push.cancel.cancelled() => return Err(Fault::cancelled()),
                    };
                    self.runtime.parse_evidence(&output)?
                }
            };
            let names = images.iter().flat_map(|i| &i.image.names).map(String::as_str);
            let loose: Vec<&str> = names.filter(|n| !evidence.is_pinned(n)).collect();
            if pin && !pinned && !loose.is_empty() {
                pinned = true;
                if let Some(command) = self.runtime.pin(&loose) {
                    let output = self.session.run(&command).await?;
                    if !output.ok() {
                        return Err(Fault::lasting(format!("cannot pin images: {}", output.complaint())));
                    }
                    continue;
                }
            }
            let settled = evidence.unseen(images.iter().map(|i| &i.image)).is_empty()
                && (!pinned || !evidence.unheeded(images.iter().map(|i| &i.image)));
            let wait = waits.next().filter(|_| !settled);
            let Some(wait) = wait else { return Ok(Some(evidence)) };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = push.cancel.cancelled() => return Err(Fault::cancelled()),
            }
        }
    }

    fn witness<'a>(&'a self, push: &Push, evidence: Option<&'a Evidence>) -> Witness<'a> {
        Witness {
            runtime: self.runtime.as_ref(),
            facts: &self.facts,
            evidence,
            hashes: push.options.deep.then_some(&self.hashes),
            pinned: push.options.pin,
        }
    }

    /// What was found of images of which only names and digest are known.
    fn named(&self, push: &Push, wanted: &[Wanted], evidence: Option<&Evidence>) -> Vec<ImageReport> {
        let witness = self.witness(push, evidence);
        let prove = |wanted: &Wanted| {
            let checks = witness.named(wanted);
            let reason = refuted(&checks);
            let (names, digest) = (wanted.names.clone(), wanted.digest.clone());
            ImageReport { names, digest, ready: reason.is_none(), reason, checks }
        };
        wanted.iter().map(prove).collect()
    }

    /// What was found of every image, with what went wrong on the way.
    pub(super) fn proved(
        &self,
        push: &Push,
        target: &Target,
        failed: &BTreeMap<Digest, Failed>,
        evidence: Option<&Evidence>,
    ) -> Vec<ImageReport> {
        let witness = self.witness(push, evidence);
        let prove = |plan: &ImagePlan| {
            let checks = witness.checks(&plan.image);
            let (ready, reason) = match (self.runtime.readiness(&self.facts, &plan.image), refuted(&checks)) {
                (Readiness::Ready(note), None) => (true, note),
                (Readiness::Ready(_), Some(why)) => (false, Some(why)),
                (Readiness::Missing(why), _) => {
                    (false, Some(failed.get(&plan.digest).map_or(why, |f| f.reason.clone())))
                }
            };
            if ready {
                told(push, target, plan, ImageStep::Ready);
            }
            ImageReport { names: plan.names.clone(), digest: plan.digest.clone(), ready, reason, checks }
        };
        self.plan.images.iter().map(prove).collect()
    }
}

/// An image as a lock has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Every name under which a runtime shall know it.
    pub names: Vec<String>,
    /// What they stand for.
    pub digest: Digest,
}

impl From<(ImageRef, Digest)> for Wanted {
    fn from((image, digest): (ImageRef, Digest)) -> Self {
        Self { names: image.runtime_names(&digest), digest }
    }
}

impl Push {
    /// Proves every image on every node and changes nothing: what [`Push::run`] ends with, at any time.
    pub async fn verify(&self) -> PushReport {
        self.prove(None).await
    }

    /// As [`Push::verify`], for names and digests of which nothing more is known: whether an image is complete and unpacked is
    /// the runtime's own word then. The push has no images.
    pub async fn verify_names(&self, wanted: &[Wanted]) -> PushReport {
        self.prove(Some(wanted)).await
    }

    /// Proves every image on every node, and brings nodes where something is wrong to having all, by a [run](Push::run) that sends
    /// what lacks. The report has what was found before where there was something.
    ///
    /// # Errors
    /// As [`Push::run`].
    pub async fn repair(&self) -> Result<PushReport, PushError> {
        let mut found = PushReport { kind: ReportKind::Repair, ..self.verify().await };
        // Who cannot be reached or cannot take the bundle is as it was a moment ago.
        let wrong = |n: &NodeReport| !n.ready() && !n.images.is_empty();
        let names: BTreeSet<String> =
            found.nodes.iter().filter(|n| wrong(n)).map(|n| n.node.clone()).collect();
        if names.is_empty() || self.cancel.is_cancelled() {
            return Ok(found);
        }
        let targets = self.targets.iter().filter(|t| names.contains(&t.name)).cloned().collect();
        let mended = Self { targets, ..self.clone() }.run().await?;
        let (mut nodes, mut before) = (Vec::new(), Vec::new());
        let mut mended_nodes = mended.nodes.into_iter();
        for node in std::mem::take(&mut found.nodes) {
            if !names.contains(&node.node) {
                nodes.push(node);
                continue;
            }
            nodes.extend(mended_nodes.next());
            before.push(node);
        }
        let before = PushReport { kind: ReportKind::Verify, nodes: before, ..found.clone() };
        let (run_id, finished) = (mended.run_id, mended.finished);
        Ok(PushReport { run_id, finished, nodes, before: Some(Box::new(before)), ..found })
    }

    async fn prove(&self, wanted: Option<&[Wanted]>) -> PushReport {
        let started = now();
        self.events.emit(Event::Phase { name: "verify", total: Some(self.targets.len() as u64) });
        // Nothing is sent: neither room nor a delta's base is needed.
        let options = PushOptions { ignore_disk: true, fast_import: None, ..self.options.clone() };
        let bare = Self { left_out: None, options, ..self.clone() };
        let all: Vec<_> = bare.targets.iter().map(|target| bare.prove_one(target, wanted)).collect();
        let nodes: Vec<NodeReport> = stream::iter(all).buffered(bare.parallel.max(1)).collect().await;
        PushReport { started, nodes, ..PushReport::new(ReportKind::Verify, &self.bundle) }
    }

    async fn prove_one(&self, target: &Target, wanted: Option<&[Wanted]>) -> NodeReport {
        let (started, mut tally) = (Instant::now(), Tally::default());
        let outcome = async {
            let mut prepared = self.prepare(target, false).await?;
            tally.runs = Some((prepared.plan.platform.clone(), prepared.plan.runtime.clone()));
            self.node_is(target, NodeState::Verifying);
            let proof = async {
                if self.options.deep {
                    prepared.hash(self).await?;
                }
                let evidence = prepared.evidence(self, false).await?;
                Ok(match wanted {
                    None => prepared.proved(self, target, &BTreeMap::new(), evidence.as_ref()),
                    Some(wanted) => prepared.named(self, wanted, evidence.as_ref()),
                })
            };
            let proof = proof.await;
            prepared.session.close().await;
            proof
        };
        let outcome = outcome.await;
        self.report(target, outcome, &tally, started)
    }
}

//! The record of one run on one node. Fields are only ever added; [`VERSION`] grows when what is there changes its meaning.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bundle::BundleImage;
use crate::oci::Digest;
use crate::push::NodePlan;
use crate::runtime::reversible::{Labels, Marks, Reversible};
use crate::runtime::{NodeFacts, RuntimeImage};

/// The version of the format that this omk writes.
pub const VERSION: u32 = 1;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Written before the first change. When nobody holds the node's lock, the run was interrupted.
    Started,
    /// Every image was proved.
    Committed,
    /// Some images are not there; what was imported before stays, names of those that failed are as they were.
    Failed,
    /// Put back.
    Undone,
}

/// What a run did, or was about to do, to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`VERSION`] of whoever wrote it.
    pub version: u32,
    /// Its id: `YYYYMMDD-HHMMSS-XXXX`, in UTC by the clock of the machine that omk ran on.
    pub run: String,
    /// Its place among the runs on this node, which no clock decides.
    pub sequence: u64,
    /// Where it stands.
    pub state: RunState,
    /// The bundle's name.
    pub bundle: String,
    /// See [`images_digest`]. Records of earlier versions call it `bundle_digest`, which is something else in a report.
    #[serde(default, alias = "bundle_digest")]
    pub images_digest: Option<Digest>,
    /// How many images the node was to have.
    #[serde(default)]
    pub images: usize,
    /// The node's name in the inventory.
    pub node: String,
    /// Who ran it: version, user, machine.
    pub by: String,
    /// When, RFC 3339 in UTC by the clock of that machine.
    pub started: String,
    /// When its last state was written.
    #[serde(default)]
    pub ended: Option<String>,
    /// The runtime, with its version.
    pub runtime: String,
    /// containerd's namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Names, or archives, that the run adds or moves.
    pub slots: Vec<SlotChange>,
    /// Names, or archives, of all images of the bundle, those that were there already among them: once the run is committed,
    /// it counts on them. `None` in records of earlier versions.
    #[serde(default)]
    pub wants: Option<Vec<Owned>>,
    /// `sha256:<config>` names, which CRI adds for images: those of the run's images, with what they were before.
    #[serde(default)]
    pub derived: Vec<SlotChange>,
    /// Blobs of the images that it brings: what it left of them in staging goes when it is undone. `None` in records of earlier
    /// versions, which did not list them: what in staging is such a run's is not known.
    #[serde(default)]
    pub blobs: Option<Vec<Digest>>,
    /// What `--prune` removed.
    #[serde(default)]
    pub pruned: Vec<Owned>,
    /// What runs added whose records are gone.
    #[serde(default)]
    pub earlier: Vec<Owned>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// When undoing it was last tried and came to its end only in part.
    #[serde(default)]
    pub undone_in_part: Option<String>,
}

/// One slot that a run sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotChange {
    /// The name, or the path of the archive.
    pub name: String,
    /// What it gets.
    pub digest: Digest,
    /// What it had; nothing where the run adds it.
    #[serde(default)]
    pub before: Option<Before>,
    /// What keeps that.
    #[serde(default)]
    pub backup: Option<String>,
}

/// What a slot had before a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Nothing where it could not be read.
    pub digest: Option<Digest>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
}

/// A slot with what is there: what omk put there, or what a run counts on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owned {
    /// The name, or the path of the archive.
    pub name: String,
    /// What it has.
    pub digest: Digest,
}

/// Whether a word can be the id of a run: it names a file.
pub fn check_run(run: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !run.is_empty() && run.len() <= 64 && run.bytes().all(plain)
}

/// Whether it has the form of those that omk gives.
pub fn whole_id(run: &str) -> bool {
    let lengths: Vec<usize> = run.split('-').map(str::len).collect();
    check_run(run) && lengths == [8, 6, 4]
}

/// Stands for what a bundle brings, whatever file it comes in: the SHA-256 of its sorted lines `NAME DIGEST`.
pub fn images_digest(images: &[BundleImage]) -> Digest {
    let line = |image: &BundleImage| {
        let digest = image.graph.root.digest().clone();
        image.names.iter().map(|n| format!("{n} {digest}\n")).collect::<Vec<_>>()
    };
    let mut lines: Vec<String> = images.iter().flat_map(line).collect();
    lines.sort_unstable();
    Digest::sha256(lines.concat().as_bytes())
}

impl RunRecord {
    /// Takes up what the plan is about to do. May be called again for a later plan of the same run: what a slot had before the run
    /// stays what was seen first, unless somebody else set it since. True when something changed.
    pub fn amend(
        &mut self,
        plan: &NodePlan,
        runtime: &dyn Reversible,
        facts: &NodeFacts,
        marks: &Marks,
    ) -> bool {
        let now = runtime.slots(facts);
        let lengths = |r: &Self| (r.blobs.as_ref().map(Vec::len), r.wants.as_ref().map(Vec::len));
        let was = (self.slots.clone(), self.derived.clone(), lengths(self));
        let run = self.run.clone();
        let one = |list: &mut Vec<SlotChange>, slot: String, image: &RuntimeImage, backed_up: bool| {
            let digest = image.root.digest().clone();
            let current = now.get(&slot);
            let before = current.map(|d| Before {
                digest: d.clone(),
                labels: marks.labels.get(&slot).cloned().unwrap_or_default(),
            });
            let same = |d: &Option<Digest>| d.as_ref() == Some(&digest);
            let backup = (backed_up && before.is_some()).then(|| runtime.backup(&run, &slot));
            let place = list.iter().position(|c| c.name == slot);
            if let Some(known) = place.map(|at| &mut list[at]) {
                // Ours by now, or untouched.
                let foreign =
                    current.is_some_and(|d| !same(d) && known.before.as_ref().map(|b| &b.digest) != Some(d));
                if foreign {
                    *known = SlotChange { name: slot, digest, before, backup };
                }
            } else if !(backed_up && current.is_some_and(same)) {
                list.push(SlotChange { name: slot, digest, before, backup });
            }
        };
        for image in plan.to_import().map(|i| &i.image) {
            for slot in runtime.sets(image) {
                one(&mut self.slots, slot, image, true);
            }
            for slot in runtime.derives(image) {
                one(&mut self.derived, slot, image, false);
            }
        }
        let brought = plan.to_import().flat_map(|i| &i.image.blobs).map(|b| b.digest().clone());
        let all: BTreeSet<Digest> =
            self.blobs.take().unwrap_or_default().into_iter().chain(brought).collect();
        self.blobs = Some(all.into_iter().collect());
        let wanted = plan.images.iter().map(|i| &i.image).flat_map(|image| {
            let digest = image.root.digest();
            runtime.sets(image).into_iter().map(|name| Owned { name, digest: digest.clone() })
        });
        let all: BTreeSet<Owned> = self.wants.take().unwrap_or_default().into_iter().chain(wanted).collect();
        self.wants = Some(all.into_iter().collect());
        was.0 != self.slots || was.1 != self.derived || was.2 != lengths(self)
    }

    /// Whether the plan moves something whose labels are to be noted.
    pub fn moves(plan: &NodePlan, runtime: &dyn Reversible, facts: &NodeFacts) -> bool {
        let now = runtime.slots(facts);
        let moved = |i: &RuntimeImage| {
            runtime.sets(i).iter().any(|s| now.get(s).is_some_and(|d| d.as_ref() != Some(i.root.digest())))
        };
        plan.to_import().any(|i| moved(&i.image))
    }

    /// The same run, as if it had set only some of its slots.
    #[must_use]
    pub fn only(&self, which: impl Fn(&SlotChange) -> bool) -> Self {
        Self { slots: self.slots.iter().filter(|c| which(c)).cloned().collect(), ..self.clone() }
    }

    /// Forgets slots that the run did not set after all.
    pub fn retain(&mut self, which: impl Fn(&SlotChange) -> bool) {
        self.slots.retain(&which);
        self.derived.retain(&which);
    }

    /// Backups that the run may have made.
    pub fn backups(&self) -> impl Iterator<Item = &String> {
        self.slots.iter().filter_map(|c| c.backup.as_ref())
    }

    /// Images that it added or moved: different contents of slots.
    pub fn changed_images(&self) -> usize {
        self.slots.iter().map(|c| &c.digest).collect::<std::collections::BTreeSet<_>>().len()
    }
}

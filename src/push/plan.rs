//! What a push would do, computed from values alone: no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::journal::{Kept, Owned};
use crate::bundle::{BaseKind, BundleImage, Delta};
use crate::graph::PlatformImage;
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest, Platform};
use crate::runtime::{Have, NodeFacts, Packed, Readiness, Runtime, RuntimeImage};
use crate::units;

use super::disk;
pub use super::disk::DiskNeed;

/// Images that can be in staging at once: one being sent, one waiting, one being imported. Each that is imported beside that one adds
/// one.
pub const PIPELINE: usize = 3;

/// What a user can change about a plan.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Go on although a disk seems too small, or so full that kubelet would remove images: the estimate of what images unpack
    /// to errs upwards.
    pub ignore_disk: bool,
    /// Bytes a second that all nodes together are sent at most.
    pub bandwidth: Option<u64>,
    /// Bytes a second that one node is sent at most.
    pub node_bandwidth: Option<u64>,
    /// For nodes that are in use: commands there run with the least priority, one blob at a time is sent.
    pub background: bool,
    /// Layers travel packed as zstd, which containerd unpacks more quickly, and are kept like that in this folder for the next
    /// node and run. What it costs is told with [`Carrier`](crate::runtime::Carrier).
    pub fast_import: Option<PathBuf>,
    /// Keep kubelet's garbage collection away from every image.
    pub pin: bool,
    /// Hash what the nodes store; what is damaged there is sent again and replaced.
    pub deep: bool,
    /// A node that does not become ready is put back as it was.
    pub atomic: bool,
    /// Once all is ready, what earlier runs of omk added is removed that this bundle does not want.
    pub prune: bool,
    /// How many runs, the newest ones, can be undone on a node: what names pointed at before them is kept, which takes disk;
    /// [`KEEP_RUNS`] when not said.
    pub keep_runs: Option<u16>,
}

/// Runs that can be undone when nothing else is said.
pub const KEEP_RUNS: u16 = 3;

/// Why nothing is done on a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The bundle has the image for other machines.
    #[error(
        "{image} is in the bundle for {offered}, the node is {wanted}; build the bundle with --platform {wanted}"
    )]
    NoPlatform {
        /// The image.
        image: String,
        /// What the node runs.
        wanted: Platform,
        /// What the bundle has, in words.
        offered: String,
    },
    /// It is an artifact.
    #[error("{0} is an artifact and no image that a container runtime can run; build the bundle without it")]
    NotAnImage(String),
    /// Two images want one name.
    #[error("the bundle has two images for the name {0}; build it again with one of them")]
    NameTwice(String),
    /// The bundle is a delta, and the node does not have what it leaves out.
    #[error(
        "the node lacks {} that this bundle leaves out ({}): it was built against {base}. {}. The first of them: {first}",
        match blobs { 1 => "1 blob".to_owned(), n => format!("{n} blobs") },
        units::bytes(*bytes),
        way_out(base)
    )]
    LeftOut {
        /// What the delta was built against.
        base: String,
        /// How many.
        blobs: usize,
        /// Bytes of them.
        bytes: u64,
        /// One of them.
        first: Digest,
    },
    /// What a run is to do there cannot be done with this runtime.
    #[error("{option} is not possible with {runtime}: omk does not undo what it does there")]
    Irreversible {
        /// The option.
        option: &'static str,
        /// The runtime.
        runtime: String,
    },
    /// Not enough room.
    #[error("{}", disk::too_small(disk, *staged))]
    Disk {
        /// Where, for what, and how much.
        disk: Box<DiskNeed>,
        /// Bytes that earlier runs left in staging.
        staged: u64,
    },
    /// Enough room, but kubelet would make more.
    #[error(
        "{mount} ({what}) would be {percent} % full (it is {before} %), and kubelet removes images that no container uses from \
         {threshold} % on ({}); make room, raise imageGCHighThresholdPercent, or pass --ignore-disk",
        source_file.as_deref().unwrap_or("its default, which no file of the node changes")
    )]
    ImageGc {
        /// What it is needed for.
        what: &'static str,
        /// Where.
        mount: String,
        /// Share that would be used, by estimate.
        percent: u8,
        /// Share that is used.
        before: u8,
        /// Share from which kubelet removes images.
        threshold: u8,
        /// The file that says so.
        source_file: Option<String>,
    },
}

/// All nodes' plans: what `--dry-run -o json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct PushPlan {
    /// The bundle.
    pub bundle: String,
    /// What would be done, by node.
    pub nodes: Vec<NodePlan>,
    /// Nodes on which nothing would be done, and why.
    pub refused: Vec<Refused>,
}

/// A node on which nothing is done.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// The node.
    pub node: String,
    /// Whether it cannot take the bundle or could not be asked.
    pub state: super::NodeResult,
    /// Why.
    pub reason: String,
    /// What would have to be done there, where the figures are the reason: it does not fit, or a delta lacks something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<NodePlan>>,
}

/// What would be done on one node. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct NodePlan {
    /// The node.
    pub node: String,
    /// What it runs.
    pub platform: Platform,
    /// Its runtime and version.
    pub runtime: String,
    /// Every image of the bundle, in the bundle's order.
    pub images: Vec<ImagePlan>,
    /// How many blobs are sent.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are not sent because the node has them for good.
    pub bytes_skipped: u64,
    /// Bytes that are not sent because the runtime stores them in another namespace, from which the import takes them over.
    pub bytes_adopted: u64,
    /// Bytes of blobs and parts of blobs that an earlier run staged on the node: complete ones are not sent, parts are
    /// sent again as far as they cannot be proved.
    pub bytes_resumed: u64,
    /// What is not sent and why.
    pub skipped: Vec<SkippedBlob>,
    /// What is needed where; a file system of which nothing is needed is not among them.
    pub disk: Vec<DiskNeed>,
    /// Images that are imported at the same time at most.
    #[serde(skip)]
    pub imports_at_once: usize,
    /// What `--prune` would remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prune: Vec<Owned>,
    /// What it would leave though the bundle does not want it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<Kept>,
}

/// What would be done with one image.
#[derive(Debug, Clone, Serialize)]
pub struct ImagePlan {
    /// Its names on the node.
    pub names: Vec<String>,
    /// What they will point at.
    pub digest: Digest,
    /// Nothing is done: it is ready.
    pub ready: bool,
    /// Why it is not ready, or what is unusual about it though it is.
    pub note: Option<String>,
    /// Blobs that are sent for it, base layers first; a blob that an image before it brings is not among them.
    pub send: Vec<Descriptor>,
    /// The image itself.
    #[serde(skip)]
    pub image: RuntimeImage,
}

/// A blob that is not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedBlob {
    /// Which.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Why.
    pub reason: Have,
}

impl PushOptions {
    /// How many images a node imports at the same time at most.
    pub(super) fn imports_at_once(&self, runtime: &dyn Runtime, facts: &NodeFacts) -> usize {
        if self.background { 1 } else { runtime.imports_at_once(facts).max(1) }
    }
}

impl NodePlan {
    /// Plans one node.
    ///
    /// # Errors
    /// When the node cannot take all of the bundle's images: nothing must be sent to it then.
    pub fn compute(
        node: &str,
        images: &[BundleImage],
        runtime: &dyn Runtime,
        facts: &NodeFacts,
        options: &PushOptions,
    ) -> Result<Self, PlanError> {
        let plan = Self::compute_with(node, images, runtime, facts, options, &Packed::new())?;
        plan.fits(facts, options)?;
        Ok(plan)
    }

    /// Refuses a plan for which a disk of the node is too small, or whose kubelet would remove images then.
    ///
    /// # Errors
    /// [`PlanError::Disk`], [`PlanError::ImageGc`].
    pub(super) fn fits(&self, facts: &NodeFacts, options: &PushOptions) -> Result<(), PlanError> {
        if options.ignore_disk {
            return Ok(());
        }
        disk::check(&self.disk, facts)
    }

    /// As [`NodePlan::compute`], when these layers are packed for a fast import, and without asking whether it [fits](Self::fits):
    /// the figures of a plan that does not are the reason why it is refused.
    ///
    /// # Errors
    /// As there, but for the disks.
    pub(super) fn compute_with(
        node: &str,
        images: &[BundleImage],
        runtime: &dyn Runtime,
        facts: &NodeFacts,
        options: &PushOptions,
        packed: &Packed,
    ) -> Result<Self, PlanError> {
        let mut owners: BTreeMap<&str, &Digest> = BTreeMap::new();
        for image in images {
            for name in &image.names {
                let root = image.graph.root.digest();
                if *owners.entry(name).or_insert(root) != root {
                    return Err(PlanError::NameTwice(name.clone()));
                }
            }
        }
        let mut plan = Self {
            node: node.to_owned(),
            platform: facts.platform.clone(),
            runtime: facts.runtime.clone(),
            images: Vec::with_capacity(images.len()),
            blobs: 0,
            bytes: 0,
            bytes_skipped: 0,
            bytes_adopted: 0,
            bytes_resumed: 0,
            skipped: Vec::new(),
            disk: Vec::new(),
            imports_at_once: 1,
            prune: Vec::new(),
            spared: Vec::new(),
        };
        let mut on_the_way: BTreeSet<Digest> = BTreeSet::new();
        let mut skipped: BTreeMap<Digest, SkippedBlob> = BTreeMap::new();
        for image in images {
            let mut image = for_platform(image, &facts.platform)?;
            // What is damaged on the node is only mended by the blob itself.
            let damaged = image.blobs.iter().any(|b| facts.distrusted.contains(b.digest()));
            if options.fast_import.is_some() && runtime.takes_carriers() && !damaged {
                image = image.carried(packed);
            }
            let (ready, note) = match runtime.readiness(facts, &image) {
                Readiness::Ready(note) => (true, note),
                Readiness::Missing(why) => (false, Some(why)),
            };
            let mut send = Vec::new();
            for blob in &image.blobs {
                let have = if ready { Some(Have::ImageReady) } else { whence(runtime, facts, &image, blob) };
                let (digest, size) = (blob.digest().clone(), blob.size());
                match have {
                    Some(reason) => {
                        skipped.entry(digest.clone()).or_insert(SkippedBlob { digest, size, reason });
                    }
                    None if on_the_way.insert(digest) => send.push(blob.clone()),
                    None => {}
                }
            }
            let (names, digest) = (image.names.clone(), image.root.digest().clone());
            plan.images.push(ImagePlan { names, digest, ready, note, send, image });
        }
        // A layer can be there for one image (as its snapshot) and still be needed by another on top of something else.
        skipped.retain(|digest, _| !on_the_way.contains(digest));
        plan.blobs = on_the_way.len() as u64;
        plan.bytes = plan.to_send().map(Descriptor::size).sum();
        let of = |wanted: fn(Have) -> bool| -> u64 {
            skipped.values().filter(|s| wanted(s.reason)).map(|s| s.size).sum()
        };
        plan.bytes_skipped = of(|have| !matches!(have, Have::Staged | Have::Adopted));
        plan.bytes_adopted = of(|have| have == Have::Adopted);
        let staged = of(|have| have == Have::Staged);
        let part = |b: &Descriptor| facts.partials.get(b.digest().hex()).map_or(0, |&n| n.min(b.size()));
        plan.bytes_resumed = staged + plan.to_send().map(part).sum::<u64>();
        plan.skipped = skipped.into_values().collect();
        plan.imports_at_once = options.imports_at_once(runtime, facts);
        plan.disk = disk::needs(&plan, runtime, facts, plan.imports_at_once);
        if plan.imports_at_once > 1 && disk::check(&plan.disk, facts).is_err() {
            // One after the other they take less room.
            plan.imports_at_once = 1;
            plan.disk = disk::needs(&plan, runtime, facts, 1);
        }
        Ok(plan)
    }

    /// Refuses a plan that would send what a delta bundle does not have.
    ///
    /// # Errors
    /// [`PlanError::LeftOut`].
    pub fn possible_with(&self, delta: Option<&Delta>) -> Result<(), PlanError> {
        let Some(delta) = delta else { return Ok(()) };
        let lacking: Vec<&Descriptor> =
            self.to_send().filter(|b| delta.absent.contains_key(b.digest())).collect();
        match lacking.first() {
            None => Ok(()),
            Some(first) => Err(PlanError::LeftOut {
                base: delta.base.clone(),
                blobs: lacking.len(),
                bytes: lacking.iter().map(|b| b.size()).sum(),
                first: first.digest().clone(),
            }),
        }
    }

    /// Every blob that is sent, once, in the order in which it is sent.
    pub fn to_send(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(|i| &i.send)
    }

    /// Images that are not ready yet.
    pub fn to_import(&self) -> impl Iterator<Item = &ImagePlan> {
        self.images.iter().filter(|i| !i.ready)
    }
}

/// Where what a delta leaves out can come from. Its base is known by name only: a list of what nodes have, or a lock, brings
/// nothing itself.
fn way_out(base: &str) -> String {
    match BaseKind::of(base) {
        BaseKind::Nodes => {
            "Preheat a bundle that has them first, or build the delta again with a fresh `omk node inventory` of all these nodes, or \
             without --since"
                .to_owned()
        }
        BaseKind::Lock => format!("Preheat the bundle that {base} is of first, or build again without --since"),
        BaseKind::Bundle => format!(
            "Bring {base} to the node first, or make a whole bundle with `omk bundle merge {base} DELTA -o WHOLE`"
        ),
    }
}

/// Where a blob is already, if anywhere.
fn whence(runtime: &dyn Runtime, facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> Option<Have> {
    let staged = facts.staged.get(blob.digest()) == Some(&blob.size());
    match runtime.has(facts, image, blob) {
        None | Some(Have::Adopted) if staged => Some(Have::Staged),
        have => have,
    }
}

/// The part of a bundled image that a node of this platform runs. An image of exactly the platform is preferred to
/// one that merely runs there; the index goes along, because names point at it.
fn for_platform(image: &BundleImage, wanted: &Platform) -> Result<RuntimeImage, PlanError> {
    let graph = &image.graph;
    let label = || image.names.first().cloned().unwrap_or_else(|| graph.image.to_string());
    let is_image = |i: &PlatformImage| i.chain_ids.len() == i.layers.len();
    let runs = graph.images.iter().filter(|i| i.platform.as_ref().is_some_and(|p| wanted.runs(p)));
    let chosen = runs
        .max_by_key(|i| (i.platform.as_ref() == Some(wanted), i.platform.clone()))
        // A config that names no platform: containerd takes it for its own.
        .or_else(|| graph.images.iter().find(|i| i.platform.is_none() && is_image(i)));
    let Some(chosen) = chosen else {
        if graph.images.iter().all(|i| i.platform.is_none()) {
            return Err(PlanError::NotAnImage(label()));
        }
        let offered: Vec<String> =
            graph.images.iter().filter_map(|i| i.platform.as_ref()).map(Platform::to_string).collect();
        let (image, wanted) = (label(), wanted.clone());
        return Err(PlanError::NoPlatform { image, wanted, offered: offered.join(", ") });
    };
    let indexes = graph.blobs.iter().filter(|b| b.kind() == Kind::Index);
    let mut seen = BTreeSet::new();
    let own = chosen.layers.iter().chain([&chosen.config, &chosen.manifest]).chain(indexes);
    let blobs = own
        .filter(|b| seen.insert(b.digest().clone()))
        .map(|b| Descriptor::new(b.media_type(), b.digest().clone(), b.size()))
        .collect();
    Ok(RuntimeImage {
        names: image.names.clone(),
        root: graph.root.clone(),
        image: chosen.clone(),
        blobs,
        carrier: None,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

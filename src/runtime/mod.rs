//! Runtimes: what makes images out of staged blobs on a node. Pure: they build [`RemoteCommand`]s and parse what came
//! back; whoever holds a session runs them.
//!
//! One command asks a node for everything that planning needs ([`Runtime::probe`]), one imports an image
//! ([`Runtime::import`]). Whether an image is there is never taken from an exit status, only from another probe
//! ([`Runtime::readiness`]): `ctr images import` exits 0 on images that cannot run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::graph::PlatformImage;
use crate::node::{CommandOutput, RemoteCommand};
use crate::oci::{Descriptor, Digest, Platform};

pub mod carrier;
mod containerd;
mod detect;
mod docker;
mod evidence;
mod image_folder;
pub mod kubelet;
pub mod reversible;
mod sections;
mod shell;
mod storage;

pub use carrier::{Carrier, Packed};
pub use containerd::{Containerd, Flavor};
pub use detect::{Detected, RuntimeChoice, detect, parse_detect};
pub use docker::Docker;
pub use evidence::{Cri, CriImage, Evidence, Hashes};
pub use image_folder::ImageFolder;
pub use kubelet::Kubelet;
pub use reversible::Reversible;
pub use shell::{await_import, check_staging, discard, discard_parts, parse_await_import, parse_discard};
pub use storage::{ContainersStorage, StorageUser};

/// Where blobs wait on a node when the inventory does not say.
pub const DEFAULT_STAGING: &str = "/var/lib/omk/staging";

/// Where k3s looks for archives, started or not.
pub const K3S_IMAGES: &str = "/var/lib/rancher/k3s/agent/images";

/// Why a node's runtime cannot be used. The caller adds the node's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// Its client is not there.
    #[error("{program} is not installed or not in PATH; {hint}")]
    Missing {
        /// The program.
        program: String,
        /// What to install, or what to say instead.
        hint: String,
    },
    /// Nobody answers.
    #[error("{runtime} does not answer on the node: {complaint}; start it (systemctl status {service})")]
    NotRunning {
        /// Which.
        runtime: String,
        /// Of systemd.
        service: &'static str,
        /// What its client said.
        complaint: String,
    },
    /// The user may not.
    #[error("no permission to use {what}: {complaint}; log in as root or as a user with sudo")]
    Denied {
        /// A socket or a folder.
        what: String,
        /// What was said.
        complaint: String,
    },
    /// Nothing was found.
    #[error(
        "no container runtime was found on the node (looked for containerd, k3s, RKE2, MicroK8s, Canonical \
         Kubernetes, CRI-O, Docker, Podman, an image folder of k3s); install one, or name it in the inventory (runtime:)"
    )]
    NoRuntime,
    /// A word that names no runtime.
    #[error(
        "{:?} is no runtime{}: use auto, containerd, k3s, rke2, microk8s, canonical-k8s, cri-o, docker, podman or image-folder",
        .0,
        crate::near::did_you_mean(.0, RuntimeChoice::NAMES)
    )]
    Unknown(String),
    /// A folder that must not be used for staging.
    #[error("{0:?} cannot be used for staging: give an absolute path of at least two parts without '..'")]
    Staging(String),
    /// A folder that must not be used for images.
    #[error("{0:?} cannot be used as image folder: give an absolute path of at least two parts without '..'")]
    Folder(String),
    /// A step of a command failed.
    #[error("{what} failed on the node: {complaint}")]
    Failed {
        /// What was being done.
        what: String,
        /// What it said.
        complaint: String,
    },
    /// The answer is not what the command prints.
    #[error("the node's answer to {what} cannot be understood: {why}")]
    Garbled {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// One image as a node's runtime shall have it.
#[derive(Debug, Clone)]
pub struct RuntimeImage {
    /// Fully qualified names, all for `root`. Never empty.
    pub names: Vec<String>,
    /// What the names point at: the index or, for a single-platform image, the manifest.
    pub root: Descriptor,
    /// The image that the node runs.
    pub image: PlatformImage,
    /// All that belongs to it, each once: layers lowest first, config, manifest, then indexes, the root last.
    pub blobs: Vec<Descriptor>,
    /// What brings its layers, when it is not they themselves: then `blobs` has the carrier's in their place.
    pub carrier: Option<Carrier>,
}

impl RuntimeImage {
    /// Whether a blob is a layer that is unpacked wherever the image has it.
    pub(crate) fn unpacked(&self, facts: &NodeFacts, blob: &Descriptor) -> bool {
        let chain = &self.image.chain_ids;
        let mut places =
            self.layers().iter().enumerate().filter(|(_, l)| l.digest() == blob.digest()).peekable();
        !facts.distrusted.contains(blob.digest())
            && places.peek().is_some()
            && places.all(|(i, _)| chain.get(i).is_some_and(|c| facts.snapshots.contains(c)))
    }

    /// For messages: the first name.
    pub fn label(&self) -> &str {
        self.names.first().map_or("an image without a name", String::as_str)
    }
}

/// What a node has and can do, read from the answer to one probe.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// What it runs.
    pub platform: Platform,
    /// The runtime with its version.
    pub runtime: String,
    /// Blobs that the runtime stores.
    pub content: BTreeSet<Digest>,
    /// Blobs that it stores for others (namespaces of containerd): they need no transfer.
    pub elsewhere: BTreeSet<Digest>,
    /// Whether the probe left that out.
    pub elsewhere_unknown: bool,
    /// Chain IDs of committed snapshots: layers that are unpacked.
    pub snapshots: BTreeSet<Digest>,
    /// Every name that the runtime knows.
    pub names: BTreeMap<String, NamedImage>,
    /// Other digests of what a name points at, for runtimes that know an image by several (its index, manifest, config).
    pub aliases: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Archives in an image folder by path, with the blobs in each.
    pub archives: BTreeMap<String, BTreeMap<Digest, ArchivedBlob>>,
    /// Complete blobs in staging and their sizes in bytes.
    pub staged: BTreeMap<Digest, u64>,
    /// Bytes in staging that are no complete blob: what an interrupted transfer left.
    pub partial: u64,
    /// Blobs of which staging has a part, by the hexadecimal part of their digest; bytes of the largest part, of which
    /// all that can be proved need not be sent again.
    pub partials: BTreeMap<String, u64>,
    /// Evidently the runtime drops layers once they are unpacked: see [`Containerd`].
    pub discards_layers: bool,
    /// An adoption of content from another namespace was interrupted.
    pub adopting: bool,
    /// Layers that turned out to be needed although they seemed to be unpacked.
    pub distrusted: BTreeSet<Digest>,
    /// The node's kubelet, where there is one that removes images from this runtime.
    pub kubelet: Option<Kubelet>,
    /// Where the runtime keeps images.
    pub runtime_disk: Option<Disk>,
    /// Where staging is, or would be.
    pub staging_disk: Option<Disk>,
    /// Processors that it may use, 1 where it does not say.
    pub processors: usize,
    /// What a proof rests on beside all this, where the probe asked for that too: it saves asking again.
    pub evidence: Option<Evidence>,
}

impl NodeFacts {
    /// A node with nothing on it.
    pub fn empty(platform: Platform) -> Self {
        Self {
            platform,
            runtime: String::new(),
            content: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            elsewhere_unknown: false,
            snapshots: BTreeSet::new(),
            names: BTreeMap::new(),
            aliases: BTreeMap::new(),
            archives: BTreeMap::new(),
            staged: BTreeMap::new(),
            partial: 0,
            partials: BTreeMap::new(),
            discards_layers: false,
            adopting: false,
            distrusted: BTreeSet::new(),
            kubelet: None,
            runtime_disk: None,
            staging_disk: None,
            processors: 1,
            evidence: None,
        }
    }

    /// Whether a name points at what has this digest.
    pub(crate) fn points(&self, named: &NamedImage, digest: &Digest) -> bool {
        named.digest == *digest || self.aliases.get(&named.digest).is_some_and(|a| a.contains(digest))
    }

    /// Forgets that staging, archives and other namespaces have these blobs, and that a snapshot stands for them: what is named there can
    /// still have flipped bits. They are sent again; archives that need them are not ready any more, and are written
    /// anew.
    pub fn distrust(&mut self, damaged: &BTreeSet<Digest>) {
        self.distrusted.extend(damaged.iter().cloned());
        self.elsewhere.retain(|digest| !damaged.contains(digest));
        self.staged.retain(|digest, _| !damaged.contains(digest));
        for archive in self.archives.values_mut() {
            archive.retain(|digest, _| !damaged.contains(digest));
        }
        if !self.archives.is_empty() {
            self.content.retain(|digest| !damaged.contains(digest));
        }
    }

    /// Takes blobs that the runtime stores for lost: their bytes are not what their digests say. They are sent again, and
    /// take the place of what is there.
    pub fn lose(&mut self, damaged: &BTreeSet<Digest>) {
        self.distrusted.extend(damaged.iter().cloned());
        self.content.retain(|digest| !damaged.contains(digest));
        self.elsewhere.retain(|digest| !damaged.contains(digest));
        for archive in self.archives.values_mut() {
            archive.retain(|digest, _| !damaged.contains(digest));
        }
    }
}

/// A name that a runtime knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// What it points at.
    pub digest: Digest,
    /// Whether the runtime says that all content for its own platform is stored.
    pub complete: bool,
    /// Whether the runtime says that it is unpacked.
    pub unpacked: bool,
    /// The archive that it is in, for an image folder.
    pub archive: Option<String>,
}

/// A blob inside an archive on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedBlob {
    /// Its path in the archive, verbatim.
    pub member: String,
    /// Bytes.
    pub size: u64,
}

/// A file system as `df -P` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Device, or what stands for one.
    pub device: String,
    /// The folder on it that was asked for.
    pub path: String,
    /// Where it is mounted.
    pub mount: String,
    /// Bytes in all.
    pub size: u64,
    /// Bytes that are taken.
    pub used: u64,
    /// Bytes that can still be written; less than the rest where some are kept for root.
    pub free: u64,
}

impl Disk {
    /// Whether both paths eat from the same space. A device counts wherever it is mounted (bind mounts); a `tmpfs`
    /// or `overlay` is one only at its own mount point.
    pub fn same(&self, other: &Disk) -> bool {
        self.device == other.device && (self.device.starts_with('/') || self.mount == other.mount)
    }
}

/// Why a blob need not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Have {
    /// The runtime stores it.
    Stored,
    /// It is a layer whose content is gone but which is unpacked.
    Unpacked,
    /// The runtime stores it for somebody else and takes it over without a transfer.
    Adopted,
    /// An earlier run sent it.
    Staged,
    /// An archive on the node has it.
    Archived,
    /// All of its image is ready.
    ImageReady,
}

impl fmt::Display for Have {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "content there",
            Self::Unpacked => "snapshot there",
            Self::Adopted => "content there in another namespace",
            Self::Staged => "staged already",
            Self::Archived => "in an archive there",
            Self::ImageReady => "image ready",
        })
    }
}

/// Whether an image can be started, as the last probe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Under every name. The note says what is unusual but no fault.
    Ready(Option<String>),
    /// Not; the reason.
    Missing(String),
}

/// What importing one image is given.
#[derive(Debug, Clone, Copy)]
pub struct ImportJob<'a> {
    /// The staging folder.
    pub staging: &'a str,
    /// The image. Every blob must be staged or be something that the runtime [has](Runtime::has): containerd up to
    /// 1.7 leaves names on broken content otherwise.
    pub image: &'a RuntimeImage,
    /// The run, under whose name it is kept what the import replaces: see [`Reversible::backup`].
    pub run: &'a str,
    /// The [turn](crate::node::Holder::turn) of the connection; the import does not begin once there is a later one. `None` where the node
    /// has no locks.
    pub turn: Option<&'a str>,
    /// What is complete in staging now.
    pub staged: &'a BTreeSet<Digest>,
    /// What the node had when it was probed, and what imports brought since.
    pub facts: &'a NodeFacts,
    /// How many imports of this run there may be at the same time, this one included: at most
    /// [what the runtime bears](Runtime::imports_at_once), and 1 for one that is alone. With 1 it waits for whatever import is still
    /// at work there; with more, whoever begins them has to see to it before: see [`await_import`].
    pub at_once: usize,
}

/// Why an import failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ImportFailure {
    /// In the runtime's words.
    pub reason: String,
    /// It missed content that the node seemed to have, or the runtime went away: probing, sending and importing again can
    /// help.
    pub content_missing: bool,
    /// Blobs that turned out to be damaged on the node and are not to be taken from there again.
    pub damaged: Vec<Digest>,
}

/// Turns staged blobs into images on a node.
pub trait Runtime: fmt::Debug + Send + Sync {
    /// For messages: `containerd`, `image folder /var/…`.
    fn label(&self) -> String;

    /// One command that returns all of [`NodeFacts`]; where the runtime stores all of `known` (and there are any), without
    /// what it stores for others.
    fn probe(&self, staging: &str, known: &[&Digest]) -> RemoteCommand;

    /// Reads the answer to [`Runtime::probe`]. Lines that are not understood are ignored, missing parts are errors.
    ///
    /// # Errors
    /// With the reason and the way out: not installed, not running, not allowed, or not understood.
    fn parse_probe(&self, output: &CommandOutput) -> Result<NodeFacts, RuntimeError>;

    /// Whether the runtime itself has what this blob would bring, staging aside.
    fn has(&self, facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> Option<Have>;

    /// Whether the image can be started under all its names.
    fn readiness(&self, facts: &NodeFacts, image: &RuntimeImage) -> Readiness;

    /// Imports one image; leaves no half-imported names behind when it fails.
    fn import(&self, job: &ImportJob<'_>) -> RemoteCommand;

    /// Reads the answer to [`Runtime::import`].
    ///
    /// # Errors
    /// When the command says that it failed. That it says nothing proves nothing: probe again.
    fn parse_import(&self, output: &CommandOutput) -> Result<(), ImportFailure>;

    /// Bytes that the image will take where the runtime keeps images; an estimate that errs upwards.
    fn disk_need(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64;

    /// Whether images may come by [carriers](Carrier).
    fn takes_carriers(&self) -> bool {
        false
    }

    /// How much of [`Runtime::disk_need`] is no estimate: what stays there of the image as it was sent.
    fn disk_least(&self, _: &NodeFacts, _: &RuntimeImage) -> u64 {
        0
    }

    /// Whether kubelet looks after what this runtime stores, and removes images when their file system fills up.
    fn feeds_kubelet(&self) -> bool {
        false
    }

    /// Whether the import of this blob takes it over from another namespace.
    fn adopts(&self, facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> bool {
        self.has(facts, image, blob) == Some(Have::Adopted)
    }

    /// Whether it can only be asked about an image as a whole: it lists neither blobs nor digests of manifests, and
    /// [`Runtime::readiness`] is all the proof there is.
    fn vouches(&self) -> bool {
        false
    }

    /// How many images may be imported at the same time, as long as nothing that they bring is in two of them. More than 1 only
    /// where that is known to be right, and to be of use on this node.
    fn imports_at_once(&self, _: &NodeFacts) -> usize {
        1
    }

    /// Whether an import needs all blobs of an image at hand, also those that the import before it took.
    fn keeps_shared_blobs_staged(&self) -> bool;

    /// Removes what an interrupted run of omk left behind and nothing needs any more.
    fn leftovers(&self, staging: &str, facts: &NodeFacts) -> Option<RemoteCommand>;

    /// One command that asks for [`Evidence`]; `None` where the probe says all that can be said.
    fn evidence(&self) -> Option<RemoteCommand> {
        None
    }

    /// Reads the answer to [`Runtime::evidence`].
    ///
    /// # Errors
    /// When it cannot be understood.
    fn parse_evidence(&self, _: &CommandOutput) -> Result<Evidence, RuntimeError> {
        Ok(Evidence::default())
    }

    /// Keeps kubelet's garbage collection away from what these names stand for; `None` where that cannot be done.
    fn pin(&self, _: &[&str]) -> Option<RemoteCommand> {
        None
    }

    /// Hashes stored blobs, with the least priority; `None` where they are not files that can be read.
    fn hash(&self, _: &[&Descriptor]) -> Option<RemoteCommand> {
        None
    }

    /// Reads the answer to [`Runtime::hash`].
    ///
    /// # Errors
    /// When the command could not do its work; a blob that cannot be read is none.
    fn parse_hash(&self, _: &[&Descriptor], _: &CommandOutput) -> Result<Hashes, RuntimeError> {
        Ok(Hashes::new())
    }

    /// How its imports are undone; `None` where they cannot be, and runs are not recorded then.
    fn reversible(&self) -> Option<&dyn Reversible> {
        None
    }
}

#[cfg(test)]
pub(crate) mod fixtures;

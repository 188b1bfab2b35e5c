//! Bundles: an OCI image layout in one uncompressed tar file or in a folder, which `ctr images import`, `skopeo`,
//! `podman load` and `docker load` take without omk.
//!
//! ```text
//! oci-layout  index.json  manifest.json  blobs/sha256/…
//! ```
//!
//! Invariants of a bundle that [`build`] made: a digest never changes, however few platforms were taken; the same
//! images give the same bytes; the documents (manifests, configs) come first, so looking into it reads little.

mod artifact;
mod build;
mod check;
mod compare;
pub mod definition;
mod delta;
mod diff;
mod docker;
mod error;
mod export;
mod extract;
mod index;
mod inspect;
mod lock;
mod medium;
mod merge;
mod open;
mod opening;
mod output;
mod pour;
mod referrers;
mod spool;
mod transfers;
mod volume;
mod write;

pub use artifact::{Artifact, ArtifactError, ArtifactFile, ArtifactKind, Content, PackedArtifact};
pub use build::{BuildError, BuildReport, BuildRequest, BuiltImage, Form, LeftOut, Upstream, build};
pub use check::{BadBlob, Verified, VerifyReport, verify, verify_opened, verify_together};
pub use compare::{Compared, State, compare};
pub use definition::{Definition, DefinitionError};
pub(crate) use delta::BaseKind;
pub use delta::{Base, BaseError, Delta};
pub use diff::{BundleDiff, Change, DiffBlob, diff};
pub use error::BundleError;
pub use export::{Exported, Target, To, export};
pub use extract::{Extracted, What, extract};
pub use index::{CONTAINERD_NAME, INDEX_FILE, Index, LAYOUT, LAYOUT_FILE, REF_NAME};
pub use inspect::{InspectedArtifact, InspectedImage, InspectedReferrer, Inspection, Layer, Variant};
pub use lock::{Lock, LockError, Locked, LockedChart, LockedFile, LockedReferrer, Pinned, lock};
pub use merge::{MergeError, MergeRequest, merge};
pub use open::Bundle;
pub use opening::{Kind, Opening, is_bundle};
pub use output::check_output;
pub use referrers::Referred;
pub(crate) use referrers::about;
pub use spool::Compression;
pub use volume::{
    BadVolume, Rebuilt, RepairReport, SplitReport, SplitRequest, VolumeError, VolumeHeader, VolumeSize,
    WrittenVolume, repair, split,
};

use std::collections::BTreeSet;

use crate::graph::ImageGraph;

/// An image in a bundle.
#[derive(Debug, Clone)]
pub struct BundleImage {
    /// Every name under which a runtime shall know it, fully qualified: `repository:tag`, `repository@digest`.
    pub names: Vec<String>,
    /// Groups of nodes that need it; empty: every node.
    pub groups: BTreeSet<String>,
    /// All its blobs.
    pub graph: ImageGraph,
}

#[cfg(test)]
mod output_tests;
#[cfg(test)]
mod tests;

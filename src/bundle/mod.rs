//! Bundles: an OCI image layout in one uncompressed tar file or in a folder, which `ctr images import`, `skopeo`,
//! `podman load` and `docker load` take without omk.
//!
//! ```text
//! oci-layout  index.json  manifest.json  blobs/sha256/…
//! ```
//!
//! Invariants of a bundle that [`build`] made: a digest never changes, however few platforms were taken; the same
//! images give the same bytes; the documents (manifests, configs) come first, so looking into it reads little.

mod build;
mod check;
mod compare;
mod index;
mod inspect;
mod lock;
mod open;
mod output;
mod write;

pub use build::{BuildError, BuildReport, BuildRequest, BuiltImage, Form, LeftOut, Upstream, build};
pub use check::{BadBlob, VerifyReport, verify};
pub use compare::{Compared, State, compare};
pub use index::{CONTAINERD_NAME, INDEX_FILE, Index, LAYOUT, LAYOUT_FILE, REF_NAME};
pub use inspect::{InspectedImage, Inspection, Layer, Variant};
pub use lock::{Lock, Locked, lock};
pub use open::{Bundle, BundleError};
pub use output::check_output;

use crate::graph::ImageGraph;

/// An image in a bundle.
#[derive(Debug, Clone)]
pub struct BundleImage {
    /// Every name under which a runtime shall know it, fully qualified: `repository:tag`, `repository@digest`.
    pub names: Vec<String>,
    /// All its blobs.
    pub graph: ImageGraph,
}

#[cfg(test)]
mod output_tests;
#[cfg(test)]
mod tests;

//! Bundles: an OCI image layout in one uncompressed tar file or in a folder, which `ctr images import`, `skopeo`,
//! `podman load` and `docker load` take without omk.

use crate::graph::ImageGraph;

/// An image in a bundle.
#[derive(Debug, Clone)]
pub struct BundleImage {
    /// Every name under which a runtime shall know it, fully qualified: `repository:tag`, `repository@digest`.
    pub names: Vec<String>,
    /// All its blobs.
    pub graph: ImageGraph,
}

//! The vocabulary of OCI: references, digests, descriptors, platforms, manifests. Pure: no I/O.
//!
//! Every type here is parsed once, where foreign bytes or a user's words come in, and has private fields, so
//! that a value that exists is valid. Sources: OCI image-spec 1.1, distribution-spec 1.1, and for names the
//! behaviour of Docker and containerd (`github.com/distribution/reference`).

mod descriptor;
mod digest;
mod manifest;
pub mod media;
mod platform;
mod reference;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use manifest::{
    ImageConfig, ImageIndex, ImageManifest, MAX_MANIFEST_BYTES, Manifest, ManifestError, chain_ids,
};
pub use platform::{Platform, PlatformError};
pub use reference::{ImageRef, ReferenceError};

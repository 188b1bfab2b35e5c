//! What was learnt about an image, by the digest of its index or manifest: kept as long as some name stands for it.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::{CacheError, ImageCache};
use crate::oci::Digest;
use crate::store::{StoreError, write_small};

/// A kind of knowledge; a folder below `metadata/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// What a scanner found.
    Vulnerabilities,
    /// Which signatures, attestations and SBOMs refer to it; written by a pull that asks for them.
    Signatures,
}

const MAX_BYTES: u64 = 64 << 20;

impl Metadata {
    pub(super) const ALL: [Self; 2] = [Self::Vulnerabilities, Self::Signatures];

    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Vulnerabilities => "metadata/vulnerabilities",
            Self::Signatures => "metadata/signatures",
        }
    }
}

impl ImageCache {
    pub(super) fn metadata_path(&self, kind: Metadata, image: &Digest) -> PathBuf {
        self.root.join(kind.folder()).join(format!("{}-{}.json", image.algorithm().as_str(), image.hex()))
    }

    /// The images of which something of this kind is kept.
    pub(super) fn with_metadata(&self, kind: Metadata) -> Result<Vec<Digest>, CacheError> {
        let folder = self.root.join(kind.folder());
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io("read", &folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(StoreError::io("read", &folder))?.file_name();
            let digest =
                name.to_str().and_then(|n| n.strip_suffix(".json")?.replacen('-', ":", 1).parse().ok());
            all.extend(digest);
        }
        Ok(all)
    }

    /// Keeps a JSON document about an image, in place of an earlier one. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_metadata(&self, kind: Metadata, image: &Digest, json: &[u8]) -> Result<(), CacheError> {
        let _lease = self.lease()?;
        Ok(write_small(&self.metadata_path(kind, image), json)?)
    }

    /// What was kept about an image. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn metadata(&self, kind: Metadata, image: &Digest) -> Result<Option<Vec<u8>>, CacheError> {
        use std::io::Read as _;
        let path = self.metadata_path(kind, image);
        let file = match std::fs::File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(StoreError::io("read", &path))?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
        Ok(Some(bytes))
    }
}

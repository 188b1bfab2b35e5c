use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;

use super::file::OpenFile;
use super::{BlobSource, ByteStream, StoreError};
use crate::oci::{Descriptor, Digest};

/// Blobs that are files somewhere, each of them whole.
#[derive(Debug, Clone, Default)]
pub struct FilesSource {
    files: BTreeMap<Digest, PathBuf>,
}

impl FilesSource {
    /// The file of each blob. Whoever copies finds out whether a file is still what it was.
    pub fn new(files: BTreeMap<Digest, PathBuf>) -> Self {
        Self { files }
    }
}

#[async_trait]
impl BlobSource for FilesSource {
    fn label(&self) -> String {
        "files on this machine".into()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let Some(path) = self.files.get(digest) else { return Ok(None) };
        let meta = tokio::fs::metadata(path).await.map_err(StoreError::io("read", path))?;
        Ok(Some(meta.len()))
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let missing = || StoreError::NotFound { digest: blob.digest().clone(), store: self.label() };
        let path = self.files.get(blob.digest()).ok_or_else(missing)?;
        Ok(OpenFile::open(path)?.stream(range.start, range.end.saturating_sub(range.start)))
    }
}

//! Several sources that should have the same blob.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::{BlobSource, ByteStream, StoreError};
use crate::oci::{Descriptor, Digest};

/// Asks the first source, and where that does not have a blob or does not give it, the others in their order. A
/// stream that breaks off is the error of the source that it came from.
#[derive(Clone)]
pub struct AnyOf(Vec<Arc<dyn BlobSource>>);

impl AnyOf {
    /// At least one source.
    pub fn new(first: Arc<dyn BlobSource>, others: impl IntoIterator<Item = Arc<dyn BlobSource>>) -> Self {
        Self(std::iter::once(first).chain(others).collect())
    }
}

#[async_trait]
impl BlobSource for AnyOf {
    fn label(&self) -> String {
        self.0.first().map(|s| s.label()).unwrap_or_default()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let mut first = None;
        for source in &self.0 {
            match source.size(digest).await {
                Ok(Some(size)) => return Ok(Some(size)),
                Ok(None) => {}
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(None), Err)
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let mut first = None;
        for source in &self.0 {
            match source.read(blob, range.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(StoreError::Cancelled) => return Err(StoreError::Cancelled),
                Err(error) => first = first.or(Some(error)),
            }
        }
        let missing = || StoreError::NotFound { digest: blob.digest().clone(), store: self.label() };
        Err(first.unwrap_or_else(missing))
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        for source in &self.0 {
            if source.disown(blob).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media;
    use crate::store::{MemoryStore, read_verified};

    #[tokio::test]
    async fn who_has_it_gives_it() {
        let (empty, full) = (MemoryStore::new(), MemoryStore::new());
        let blob = full.insert(media::OCI_LAYER, "layer");
        let any = AnyOf::new(Arc::new(empty.clone()), [Arc::new(full) as Arc<dyn BlobSource>]);
        assert_eq!(any.size(blob.digest()).await.unwrap(), Some(5));
        assert_eq!(read_verified(&any, &blob, 10).await.unwrap(), "layer");
        let nobody = AnyOf::new(Arc::new(empty), []);
        assert!(matches!(nobody.read(&blob, 0..5).await, Err(StoreError::NotFound { .. })));
        assert_eq!(nobody.size(blob.digest()).await.unwrap(), None);
    }
}

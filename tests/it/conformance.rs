//! What every blob store must do, whatever it is made of.

use bytes::Bytes;
use omk::oci::media::OCI_LAYER;
use omk::oci::{Descriptor, Digest};
use omk::store::{BlobStore, StoreError, read_verified};

/// Bytes that are different in every place and for every `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into()
}

pub(crate) fn blob(bytes: &Bytes) -> Descriptor {
    Descriptor::of(OCI_LAYER, bytes)
}

/// Puts `bytes` from `from` on in pieces that fit no boundary.
pub(crate) async fn send(store: &dyn BlobStore, blob: &Descriptor, bytes: &Bytes) -> Result<u64, StoreError> {
    let mut ingest = store.ingest(blob).await?;
    let offset = ingest.offset();
    let mut rest = bytes.slice(usize::try_from(offset).unwrap()..);
    while !rest.is_empty() {
        ingest.put(rest.split_to(rest.len().min(100_003))).await?;
    }
    ingest.commit().await?;
    Ok(offset)
}

/// The whole of it. `store` must be empty of what is put here; blobs go up to 13 MB.
pub(crate) async fn conforms(store: &dyn BlobStore) {
    whole_and_parts(store).await;
    empty(store).await;
    resumed(store).await;
    truncated(store).await;
    too_long(store).await;
    wrong_digest(store).await;
    wrong_after_resuming(store).await;
    twice(store).await;
}

async fn whole_and_parts(store: &dyn BlobStore) {
    let bytes = noise(1, 1_000_003);
    let blob = blob(&bytes);
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
    assert!(matches!(store.read(&blob, 0..1).await.err(), Some(StoreError::NotFound { .. })));
    assert_eq!(send(store, &blob, &bytes).await.unwrap(), 0);
    assert_eq!(store.size(blob.digest()).await.unwrap(), Some(bytes.len() as u64));
    assert_eq!(read_verified(store, &blob, blob.size()).await.unwrap(), bytes);
    for (start, end) in [(0, 0), (0, 1), (5, 900_000), (1_000_002, 1_000_003), (1_000_003, 1_000_003)] {
        let part = read(store, &blob, start, end).await.unwrap();
        assert_eq!(part, bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]);
    }
    assert!(read(store, &blob, 0, blob.size() + 1).await.is_err(), "read past the end");
}

async fn read(store: &dyn BlobStore, blob: &Descriptor, start: u64, end: u64) -> Result<Vec<u8>, StoreError> {
    use futures_util::StreamExt as _;

    let mut stream = store.read(blob, start..end).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

async fn empty(store: &dyn BlobStore) {
    let blob = blob(&Bytes::new());
    store.ingest(&blob).await.unwrap().commit().await.unwrap();
    assert_eq!(store.size(blob.digest()).await.unwrap(), Some(0));
}

/// Dropped after some bytes: not visible, and the next ingest goes on from some good prefix.
async fn resumed(store: &dyn BlobStore) {
    let bytes = noise(2, 13_000_001);
    let blob = blob(&bytes);
    let mut ingest = store.ingest(&blob).await.unwrap();
    ingest.put(bytes.slice(..9_000_000)).await.unwrap();
    drop(ingest);
    assert_eq!(store.size(blob.digest()).await.unwrap(), None, "a partial blob is visible");
    let offset = send(store, &blob, &bytes).await.unwrap();
    assert!(offset <= 9_000_000, "{offset} bytes are said to be there");
    assert_eq!(read_verified(store, &blob, blob.size()).await.unwrap(), bytes);
}

async fn truncated(store: &dyn BlobStore) {
    let bytes = noise(3, 6_000_000);
    let blob = blob(&bytes);
    let mut ingest = store.ingest(&blob).await.unwrap();
    ingest.put(bytes.slice(..5_999_999)).await.unwrap();
    let error = ingest.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
    send(store, &blob, &bytes).await.unwrap();
    assert_eq!(read_verified(store, &blob, blob.size()).await.unwrap(), bytes);
}

async fn too_long(store: &dyn BlobStore) {
    let bytes = noise(4, 300_000);
    let blob = blob(&bytes.slice(..299_999));
    let mut ingest = store.ingest(&blob).await.unwrap();
    let error = match ingest.put(bytes).await {
        Ok(()) => ingest.commit().await.unwrap_err(),
        Err(e) => e,
    };
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
}

async fn wrong_digest(store: &dyn BlobStore) {
    let bytes = noise(5, 9_000_000);
    let blob = blob(&bytes);
    let mut wrong = bytes.to_vec();
    wrong[7_000_000] ^= 1;
    let error = send(store, &blob, &wrong.into()).await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
    // Wrong bytes must not be resumed onto.
    assert_eq!(send(store, &blob, &bytes).await.unwrap(), 0);
    assert_eq!(read_verified(store, &blob, blob.size()).await.unwrap(), bytes);
}

/// The first sender had wrong bytes and was interrupted: nobody could know yet, but the commit must.
async fn wrong_after_resuming(store: &dyn BlobStore) {
    let bytes = noise(6, 12_000_000);
    let blob = blob(&bytes);
    let mut wrong = bytes.to_vec();
    wrong[1_000_000] ^= 1;
    let mut ingest = store.ingest(&blob).await.unwrap();
    ingest.put(Bytes::from(wrong).slice(..10_000_000)).await.unwrap();
    drop(ingest);
    match send(store, &blob, &bytes).await {
        // Nothing was resumed: the right bytes replaced the wrong ones.
        Ok(offset) => assert_eq!(offset, 0),
        Err(StoreError::DigestMismatch { found, .. }) => {
            assert_ne!(&found, blob.digest());
            assert_eq!(store.size(blob.digest()).await.unwrap(), None);
            send(store, &blob, &bytes).await.unwrap();
        }
        Err(other) => panic!("{other}"),
    }
    assert_eq!(read_verified(store, &blob, blob.size()).await.unwrap(), bytes);
}

async fn twice(store: &dyn BlobStore) {
    let bytes = noise(7, 5_000_000);
    let blob = blob(&bytes);
    send(store, &blob, &bytes).await.unwrap();
    send(store, &blob, &bytes).await.unwrap();
    assert_eq!(store.size(blob.digest()).await.unwrap(), Some(blob.size()));
    assert_eq!(Digest::sha256(&read_verified(store, &blob, blob.size()).await.unwrap()), *blob.digest());
}

#[tokio::test]
async fn memory_store_conforms() {
    conforms(&omk::store::MemoryStore::new()).await;
}

#[tokio::test]
async fn folder_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&omk::store::FolderStore::new(folder.path())).await;
}

#[tokio::test]
async fn image_cache_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&omk::cache::ImageCache::new(folder.path())).await;
}

//! A tar archive from its first byte to its last, for where nothing can be written at an offset: a pipe, or volumes
//! that are filled one after the other. The bytes are those that a build of the same images writes.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::open::Bundle;
use crate::event::{Event, Events};
use crate::oci::{Descriptor, Hasher};
use crate::store::archive::{header, padding};
use crate::store::{BlobSource as _, StoreError, check};

/// What takes the bytes.
#[async_trait]
pub(super) trait Sink: Send {
    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError>;
}

/// One entry of the archive.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Text(String, Vec<u8>),
    Blob(Descriptor),
    File(String, u64),
}

impl Entry {
    pub(super) fn path(&self) -> String {
        match self {
            Self::Text(path, _) | Self::File(path, _) => path.clone(),
            Self::Blob(blob) => blob.digest().layout_path(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Text(_, bytes) => bytes.len() as u64,
            Self::Blob(blob) => blob.size(),
            Self::File(_, size) => *size,
        }
    }
}

/// Two empty blocks.
const END: usize = 1024;

/// Bytes of the archive.
pub(super) fn size(entries: &[Entry]) -> Result<u64, StoreError> {
    let mut total = END as u64;
    for entry in entries {
        let head = header(&entry.path(), entry.size())?.len() as u64;
        total = total
            .saturating_add(head)
            .saturating_add(entry.size())
            .saturating_add(padding(entry.size()) as u64);
    }
    Ok(total)
}

/// Pours all of it. A blob whose bytes are not what its digest says ends it.
pub(super) async fn pour(
    bundle: &Bundle,
    entries: &[Entry],
    sink: &mut dyn Sink,
    events: &Events,
) -> Result<(), StoreError> {
    for entry in entries {
        sink.put(header(&entry.path(), entry.size())?.into()).await?;
        match entry {
            Entry::Text(_, bytes) => sink.put(Bytes::copy_from_slice(bytes)).await?,
            Entry::File(name, size) => {
                let mut stream = bundle.file(name, *size)?;
                while let Some(chunk) = stream.next().await {
                    sink.put(chunk?).await?;
                }
            }
            Entry::Blob(blob) => {
                let mut hasher = Hasher::new(blob.digest().algorithm());
                let mut stream = bundle.read(blob, 0..blob.size()).await?;
                while let Some(chunk) = stream.next().await {
                    let chunk = chunk?;
                    let (digest, bytes) = (blob.digest().clone(), chunk.len() as u64);
                    hasher.update(&chunk);
                    sink.put(chunk).await?;
                    events.emit(Event::TransferProgress { node: None, digest, bytes });
                }
                check(blob, blob.size(), &hasher.finish(), &bundle.label())?;
                let (digest, size) = (blob.digest().clone(), blob.size());
                events.emit(Event::BlobDone { node: None, digest, size });
            }
        }
        sink.put(vec![0; padding(entry.size())].into()).await?;
    }
    sink.put(vec![0; END].into()).await
}

//! Layers packed anew for a fast import: gzip'd ones (and those that are not packed at all) as zstd, which containerd unpacks
//! in less time. Once for all nodes, several at the same time, with the same bytes each time; kept in a folder for the next run.
//!
//! ```text
//! FOLDER/blobs/sha256/HEX   a packed layer
//! FOLDER/from/HEX           "DIGEST SIZE" of what the layer HEX was packed to
//! ```

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, Bytes};
use futures_util::{TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::NodePlan;
use crate::event::{Event, Events};
use crate::oci::{Algorithm, Descriptor, Digest, Hasher, media};
use crate::runtime::Packed;
use crate::runtime::carrier::packs_better;
use crate::store::{AnyOf, BlobSource, FolderStore, MemoryStore, StoreError, blocking, prove, write_small};

/// zstd's own default: hardly larger than what higher levels give, and several times as quick to make.
const LEVEL: i32 = 3;
/// Layers packed at once, at most.
const PARALLEL: usize = 4;
/// Chunks of a layer that wait to be packed; with the store's chunks of 255 KiB this bounds memory.
const AHEAD: usize = 16;
/// Packed layers that no run used for so long are removed.
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) struct Packer {
    root: PathBuf,
    folder: FolderStore,
    /// Manifests of carriers.
    documents: MemoryStore,
    bundle: Arc<dyn BlobSource>,
    /// Held by whoever packs.
    work: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packed: Arc<Packed>,
    /// Layers that travel as they are, because they cannot be packed here.
    left: BTreeSet<Digest>,
}

impl Packer {
    /// Keeps what it packs in `root`.
    pub(super) fn new(root: &Path, bundle: Arc<dyn BlobSource>) -> Self {
        Self {
            root: root.to_owned(),
            folder: FolderStore::new(root),
            documents: MemoryStore::new(),
            bundle,
            work: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is packed so far.
    pub(super) fn packed(&self) -> Arc<Packed> {
        Arc::clone(&self.state().packed)
    }

    /// The bundle, the packed layers and the carriers.
    pub(super) fn source(&self) -> Arc<dyn BlobSource> {
        let others: [Arc<dyn BlobSource>; 2] =
            [Arc::new(self.folder.clone()), Arc::new(self.documents.clone())];
        Arc::new(AnyOf::new(Arc::clone(&self.bundle), others))
    }

    /// Makes the carriers of a plan readable.
    pub(super) fn carry(&self, plan: &NodePlan) {
        for carrier in plan.images.iter().filter_map(|i| i.image.carrier.as_ref()) {
            self.documents.insert(media::OCI_MANIFEST, carrier.document.clone());
        }
    }

    /// Packs what is not packed yet. True when there is something among `blobs` in whose place something else travels now.
    ///
    /// # Errors
    /// When the bundle cannot be read or is damaged, or on cancellation. What cannot be written here is a warning: such a layer
    /// travels as it is.
    pub(super) async fn ensure(
        &self,
        blobs: impl Iterator<Item = &Descriptor>,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let layers: Vec<Descriptor> = blobs.filter(|b| packs_better(b)).cloned().collect();
        let _work = self.work.lock().await;
        let mut seen = BTreeSet::new();
        let new: Vec<&Descriptor> = {
            let state = self.state();
            let known = |d: &Digest| state.packed.contains_key(d) || state.left.contains(d);
            layers.iter().filter(|b| !known(b.digest()) && seen.insert(b.digest().clone())).collect()
        };
        if !new.is_empty() {
            events.emit(Event::Phase { name: "pack", total: Some(new.len() as u64) });
            self.sweep();
            let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(PARALLEL);
            stream::iter(new.into_iter().map(Ok))
                .try_for_each_concurrent(lanes, |blob| self.pack(blob, events, cancel))
                .await?;
        }
        let packed = self.packed();
        Ok(layers.iter().any(|l| packed.contains_key(l.digest())))
    }

    async fn pack(
        &self,
        blob: &Descriptor,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let packed = match self.kept(blob).await {
            Some(packed) => packed,
            None => match self.make(blob, cancel).await? {
                Ok(packed) => packed,
                Err(reason) => {
                    let message = format!("{} is sent as it is, not packed anew: {reason}", blob.digest());
                    events.emit(Event::Warning { message });
                    self.state().left.insert(blob.digest().clone());
                    return Ok(());
                }
            },
        };
        let mut state = self.state();
        Arc::make_mut(&mut state.packed).insert(blob.digest().clone(), packed);
        Ok(())
    }

    fn note(&self, blob: &Descriptor) -> PathBuf {
        self.root.join("from").join(blob.digest().hex())
    }

    /// What an earlier run made of it.
    async fn kept(&self, blob: &Descriptor) -> Option<Descriptor> {
        let text = std::fs::read_to_string(self.note(blob)).ok()?;
        let (digest, size) = text.trim().split_once(' ')?;
        let packed = Descriptor::new(media::OCI_LAYER_ZSTD, digest.parse().ok()?, size.parse().ok()?);
        let found = self.folder.size(packed.digest()).await.ok().flatten();
        if found != Some(packed.size()) {
            return None;
        }
        if prove(&self.folder, &packed, None, &CancellationToken::new()).await.is_err() {
            // Made again: the layer itself is at hand.
            let _ = std::fs::remove_file(self.folder.path(packed.digest()));
            return None;
        }
        for used in [self.note(blob), self.folder.path(packed.digest())] {
            let _ = std::fs::File::open(used).and_then(|f| f.set_modified(SystemTime::now()));
        }
        Some(packed)
    }

    /// Packs a layer. The outer error is the source's, the inner one says why it cannot be packed.
    async fn make(
        &self,
        blob: &Descriptor,
        cancel: &CancellationToken,
    ) -> Result<Result<Descriptor, String>, StoreError> {
        let (feed, chunks) = mpsc::channel(AHEAD);
        let gzip = blob.media_type().ends_with("gzip");
        let root = self.root.clone();
        let packing = tokio::task::spawn_blocking(move || squeeze(Chunks::new(chunks), gzip, &root));
        // Whoever packs may have given up; the rest is still checked.
        prove(self.bundle.as_ref(), blob, Some(&feed), cancel).await?;
        drop(feed);
        let (file, digest, size) = match packing.await.map_err(|_| StoreError::Cancelled)? {
            Ok(made) => made,
            Err(e) => return Ok(Err(e.to_string())),
        };
        let packed = Descriptor::new(media::OCI_LAYER_ZSTD, digest, size);
        let (path, note) = (self.folder.path(packed.digest()), self.note(blob));
        let text = format!("{} {}\n", packed.digest(), packed.size());
        let keep = move || {
            for folder in [&path, &note].into_iter().filter_map(|p| p.parent()) {
                std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
            }
            file.persist(&path).map_err(|e| StoreError::io("rename to", &path)(e.error))?;
            write_small(&note, text.as_bytes())
        };
        Ok(blocking(keep).await.map(|()| packed).map_err(|e| e.to_string()))
    }

    /// Removes what was not used for long, and what was never finished. Best effort.
    fn sweep(&self) {
        for folder in ["", "from", "blobs/sha256"] {
            for entry in std::fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten() {
                let old = entry.metadata().ok().filter(|m| m.is_file()).and_then(|m| m.modified().ok());
                if old.and_then(|t| t.elapsed().ok()).is_some_and(|age| age > KEEP) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// Unpacks and packs. Blocks; memory does not depend on the size. The file is synced.
fn squeeze(input: Chunks, gzip: bool, root: &Path) -> io::Result<(tempfile::NamedTempFile, Digest, u64)> {
    std::fs::create_dir_all(root)?;
    let file = tempfile::Builder::new().prefix(".pack-").tempfile_in(root)?;
    let out = Counted { file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    match gzip {
        true => io::copy(&mut flate2::read::MultiGzDecoder::new(input), &mut encoder)?,
        false => io::copy(&mut { input }, &mut encoder)?,
    };
    let out = encoder.finish()?;
    out.file.as_file().sync_all()?;
    Ok((out.file, out.hasher.finish(), out.size))
}

struct Counted {
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    size: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What an asynchronous reader hands over.
struct Chunks {
    from: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Chunks {
    fn new(from: mpsc::Receiver<Bytes>) -> Self {
        Self { from, chunk: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let len = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Recorder, silent};
    use crate::store::read_verified;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn layers_are_packed_once_with_the_same_bytes_each_time() {
        let store = MemoryStore::new();
        let text = "a layer ".repeat(300_000).into_bytes();
        let layer = store.insert(media::OCI_LAYER_GZIP, gzip(&text));
        let plain = store.insert(media::OCI_LAYER, text.clone());
        let config = store.insert(media::OCI_CONFIG, "{}");
        let (dir, cancel) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let packer = Packer::new(&dir.path().join("a"), Arc::new(store.clone()));
        let all = [&config, &layer, &plain, &layer];
        assert!(packer.ensure(all.into_iter(), &silent(), &cancel).await.unwrap());
        let packed = packer.packed();
        assert_eq!(packed.len(), 2);
        assert_eq!(packed[layer.digest()], packed[plain.digest()], "what is in them is the same");
        let zstd = read_verified(packer.source().as_ref(), &packed[layer.digest()], 1 << 20).await.unwrap();
        assert_eq!(zstd::decode_all(&zstd[..]).unwrap(), text);
        assert!(!packer.ensure([&config].into_iter(), &silent(), &cancel).await.unwrap());

        // Another run takes it from the folder, another machine makes the same.
        let again = Packer::new(&dir.path().join("a"), Arc::new(MemoryStore::new()));
        assert!(again.ensure([&layer].into_iter(), &silent(), &cancel).await.unwrap());
        assert_eq!(again.packed()[layer.digest()], packed[layer.digest()]);
        let other = Packer::new(&dir.path().join("b"), Arc::new(store));
        other.ensure([&layer].into_iter(), &silent(), &cancel).await.unwrap();
        assert_eq!(other.packed()[layer.digest()], packed[layer.digest()]);
    }

    #[tokio::test]
    async fn what_is_no_gzip_travels_as_it_is_and_damage_is_an_error() {
        let store = MemoryStore::new();
        let odd = store.insert(media::OCI_LAYER_GZIP, "no gzip at all");
        let dir = tempfile::tempdir().unwrap();
        let recorder = Arc::new(Recorder::default());
        let events: Events = Arc::clone(&recorder) as Events;
        let (packer, cancel) = (Packer::new(dir.path(), Arc::new(store)), CancellationToken::new());
        assert!(!packer.ensure([&odd].into_iter(), &events, &cancel).await.unwrap());
        let warned =
            |e: &Event| matches!(e, Event::Warning { message } if message.contains("is sent as it is"));
        assert!(recorder.events().iter().any(warned));

        let gone = Descriptor::of(media::OCI_LAYER_GZIP, b"gone");
        let error = packer.ensure([&gone].into_iter(), &events, &cancel).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }
}

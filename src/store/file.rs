//! Blobs inside files: reading a range in place, writing one at an offset while it is hashed. Both the folder and
//! the archive are made of this.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::{ByteStream, StoreError};
use crate::oci::{Descriptor, Hasher};

/// Bytes that are read or written at a time: large enough that a hop to another thread costs nothing beside it.
pub(crate) const CHUNK: usize = 1 << 20;

/// A file that is open, with the name it has in messages.
#[derive(Debug, Clone)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
}

impl OpenFile {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        Ok(Self { file: Arc::new(file), path: path.to_owned() })
    }

    /// Exactly `len` bytes from `start`, in chunks; the next chunk is read while the last is being used.
    pub(crate) fn stream(&self, start: u64, len: u64) -> ByteStream {
        let this = self.clone();
        let read = move |at: u64, left: u64| {
            let this = this.clone();
            tokio::task::spawn_blocking(move || this.chunk(at, left))
        };
        let ahead = (len > 0).then(|| read(start, len));
        let state = (start, len, ahead, read);
        Box::pin(futures_util::stream::unfold(state, |(at, left, ahead, read)| async move {
            let chunk = match ahead?.await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => return Some((Err(error), (at, 0, None, read))),
                Err(_) => return Some((Err(StoreError::Cancelled), (at, 0, None, read))),
            };
            let (at, left) = (at + chunk.len() as u64, left - chunk.len() as u64);
            let ahead = (left > 0).then(|| read(at, left));
            Some((Ok(chunk), (at, left, ahead, read)))
        }))
    }

    fn chunk(&self, at: u64, left: u64) -> Result<Bytes, StoreError> {
        let mut buffer = BytesMut::zeroed(CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)));
        self.file.read_exact_at(&mut buffer, at).map_err(StoreError::io("read", &self.path))?;
        Ok(buffer.freeze())
    }

    /// Hashes `len` bytes from `start` into `hasher`. Blocks.
    pub(crate) fn hash(&self, start: u64, len: u64, hasher: &mut Hasher) -> Result<(), StoreError> {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
        let (mut at, mut left) = (start, len);
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.read_exact_at(&mut buffer[..part], at).map_err(StoreError::io("read", &self.path))?;
            hasher.update(&buffer[..part]);
            at += part as u64;
            left -= part as u64;
        }
        Ok(())
    }
}

/// Writes one blob at an offset of a file and hashes it on the way, on another thread than the one that receives.
pub(crate) struct HashingWriter {
    target: OpenFile,
    blob: Descriptor,
    /// Where the blob starts in the file.
    base: u64,
    /// Bytes of the blob that were handed to the file.
    written: u64,
    /// Bytes of it that the file has taken.
    certain: u64,
    buffer: BytesMut,
    state: State,
}

enum State {
    Idle(Box<Hasher>),
    Busy(JoinHandle<Result<Hasher, StoreError>>),
    Failed,
}

impl HashingWriter {
    /// Goes on after `offset` bytes of the blob that are in the file already: they are read back into the hash.
    pub(crate) async fn resume(
        target: OpenFile,
        blob: &Descriptor,
        base: u64,
        offset: u64,
    ) -> Result<Self, StoreError> {
        let mut hasher = Hasher::new(blob.digest().algorithm());
        if offset > 0 {
            let from = target.clone();
            hasher = blocking(move || {
                from.hash(base, offset, &mut hasher)?;
                Ok(hasher)
            })
            .await?;
        }
        let (blob, buffer, state) = (blob.clone(), BytesMut::new(), State::Idle(Box::new(hasher)));
        Ok(Self { target, blob, base, written: offset, certain: offset, buffer, state })
    }

    /// Takes the next bytes; returns how many of the blob are in the file for certain.
    ///
    /// # Errors
    /// More bytes than the blob has, or the file system's.
    pub(crate) async fn put(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        let found = self.written + (self.buffer.len() + bytes.len()) as u64;
        if found > self.blob.size() {
            let (digest, expected) = (self.blob.digest().clone(), self.blob.size());
            return Err(StoreError::SizeMismatch { digest, expected, found, store: self.label() });
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush().await?;
        }
        Ok(self.certain)
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let mut hasher = self.settle().await?;
        let (target, at, bytes) =
            (self.target.clone(), self.base + self.written, self.buffer.split().freeze());
        self.written += bytes.len() as u64;
        self.state = State::Busy(tokio::task::spawn_blocking(move || {
            target.file.write_all_at(&bytes, at).map_err(StoreError::io("write", &target.path))?;
            hasher.update(&bytes);
            Ok(hasher)
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<Hasher, StoreError> {
        let hasher = match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(hasher) => *hasher,
            State::Busy(task) => task.await.map_err(|_| StoreError::Cancelled)??,
            State::Failed => return Err(StoreError::Cancelled),
        };
        self.certain = self.written;
        Ok(hasher)
    }

    /// Writes the rest and checks size and digest. The caller makes the blob visible, or discards it on an error.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        let hasher = self.settle().await?;
        super::check(&self.blob, self.written, &hasher.finish(), &self.label())
    }

    fn label(&self) -> String {
        self.target.path.display().to_string()
    }
}

/// Runs file work on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Cancelled)?
}

/// Makes a rename in `folder` durable. Blocks.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let opened = File::open(folder).map_err(StoreError::io("open", folder))?;
    opened.sync_all().map_err(StoreError::io("sync", folder))
}

/// The folder that a path stands in; the working folder for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses early what would not fit: `need` bytes, of which `there` have their place on the disk already. Blocks.
pub(crate) fn room(path: &Path, need: u64, there: u64) -> Result<(), StoreError> {
    let folder = parent(path);
    let fs = rustix::fs::statvfs(folder).map_err(|e| StoreError::io("measure", folder)(e.into()))?;
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let more = need.saturating_sub(there);
    if free < more {
        return Err(StoreError::Remote(format!(
            "{} needs {}, its disk has {} free: make room for {} or write it elsewhere",
            path.display(),
            crate::units::bytes(more),
            crate::units::bytes(free),
            crate::units::bytes(more - free)
        )));
    }
    Ok(())
}

/// Writes a small file whole: staged beside it, synced, renamed. Blocks.
pub(crate) fn write_small(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    use std::io::Write as _;
    let folder = parent(path);
    let mut staged = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(StoreError::io("write a file in", folder))?;
    staged.write_all(bytes).map_err(StoreError::io("write", path))?;
    staged.as_file().sync_all().map_err(StoreError::io("sync", path))?;
    staged.persist(path).map_err(|e| StoreError::io("rename to", path)(e.error))?;
    sync_folder(folder)
}

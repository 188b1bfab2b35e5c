//! Blobs inside files: reading a range in place, writing one at an offset while it is hashed. Both the folder and
//! the archive are made of this.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use tokio::task::JoinHandle;

use super::{ByteStream, StoreError};
use crate::oci::{Descriptor, Hasher};

/// Bytes that are read or written at a time: large enough that a hop to another thread costs nothing beside it.
pub(crate) const CHUNK: usize = 1 << 20;

/// Bytes of a blob that are handed on at a time, at most: what OpenSSH takes in one write over SFTP.
const READ: usize = 255 << 10;
/// The same when many are read at once, as for many nodes: two chunks are held for each.
const READ_MANY: usize = 64 << 10;
/// Bytes of the chunks of all streams together, up to which they are as long as can be.
const READ_TOGETHER: usize = 4 << 20;

/// Streams that are open in this process.
static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// Counts a stream for as long as it is open.
struct Open;

impl Open {
    fn new() -> Self {
        STREAMS.fetch_add(1, Ordering::Relaxed);
        Self
    }

    /// How long the next chunk may be.
    fn chunk() -> usize {
        (READ_TOGETHER / STREAMS.load(Ordering::Relaxed).max(1)).clamp(READ_MANY, READ)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A file that is open, with the name it has in messages; or several whose parts are read as one.
#[derive(Debug, Clone)]
pub(crate) struct OpenFile {
    parts: Arc<[Part]>,
    pub(crate) path: PathBuf,
}

/// A stretch of a file that stands for a stretch of the whole.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) file: Arc<File>,
    /// For messages.
    pub(crate) path: PathBuf,
    /// Where the stretch begins in the file.
    pub(crate) base: u64,
    /// Its bytes; more than any file has for a file as a whole.
    pub(crate) len: u64,
    /// Where it begins in the whole.
    start: u64,
}

impl OpenFile {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        Ok(Self::new(Arc::new(file), path.to_owned()))
    }

    pub(crate) fn new(file: Arc<File>, path: PathBuf) -> Self {
        let part = Part { file, path: path.clone(), base: 0, len: u64::MAX, start: 0 };
        Self { parts: Arc::new([part]), path }
    }

    /// Stretches (file, its name, where it begins there, bytes) one after the other, read as one file called `path`.
    pub(crate) fn joined(
        stretches: impl IntoIterator<Item = (Arc<File>, PathBuf, u64, u64)>,
        path: PathBuf,
    ) -> Self {
        let mut start = 0u64;
        let mut parts = Vec::new();
        for (file, path, base, len) in stretches.into_iter().filter(|s| s.3 > 0) {
            parts.push(Part { file, path, base, len, start });
            start = start.saturating_add(len);
        }
        Self { parts: parts.into(), path }
    }

    /// Bytes of the whole. Blocks.
    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        match &*self.parts {
            [part] if part.len == u64::MAX => {
                Ok(part.file.metadata().map_err(StoreError::io("read", &part.path))?.len())
            }
            parts => Ok(parts.last().map_or(0, |p| p.start.saturating_add(p.len))),
        }
    }

    /// Fills `buffer` with what stands at `at`. Blocks.
    pub(crate) fn read_exact_at(&self, mut buffer: &mut [u8], mut at: u64) -> Result<(), StoreError> {
        while !buffer.is_empty() {
            let (part, within) = self.part(at)?;
            let len = buffer.len().min(usize::try_from(part.len - within).unwrap_or(usize::MAX));
            let (now, rest) = buffer.split_at_mut(len);
            let read = part.file.read_exact_at(now, part.base.saturating_add(within));
            read.map_err(StoreError::io("read", &part.path))?;
            buffer = rest;
            at = at.saturating_add(len as u64);
        }
        Ok(())
    }

    /// Writes all of `bytes` at `at`. Blocks.
    pub(crate) fn write_all_at(&self, mut bytes: &[u8], mut at: u64) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (part, within) = self.part(at)?;
            let len = bytes.len().min(usize::try_from(part.len - within).unwrap_or(usize::MAX));
            let (now, rest) = bytes.split_at(len);
            let written = part.file.write_all_at(now, part.base.saturating_add(within));
            written.map_err(StoreError::io("write", &part.path))?;
            bytes = rest;
            at = at.saturating_add(len as u64);
        }
        Ok(())
    }

    /// The part in which a byte stands, and where in it.
    fn part(&self, at: u64) -> Result<(&Part, u64), StoreError> {
        let i = self.parts.partition_point(|p| p.start <= at).checked_sub(1);
        let part = i.and_then(|i| self.parts.get(i)).filter(|p| at - p.start < p.len);
        let end = || StoreError::io("read", &self.path)(std::io::ErrorKind::UnexpectedEof.into());
        part.map(|p| (p, at - p.start)).ok_or_else(end)
    }

    /// For libraries that read front to back.
    pub(crate) fn cursor(&self) -> Result<Cursor<'_>, StoreError> {
        Ok(Cursor { file: self, at: 0, len: self.len()? })
    }

    /// Exactly `len` bytes from `start`, in chunks; the next chunk is read while the last is being used.
    pub(crate) fn stream(&self, start: u64, len: u64) -> ByteStream {
        let (this, open) = (self.clone(), Open::new());
        let read = move |at: u64, left: u64| {
            let _ = &open;
            let (this, most) = (this.clone(), Open::chunk());
            // Made here, not there: each thread that allocates keeps memory for itself, and many streams are read by many.
            let mut buffer = BytesMut::zeroed(most.min(usize::try_from(left).unwrap_or(most)));
            tokio::task::spawn_blocking(move || {
                this.read_exact_at(&mut buffer, at)?;
                Ok(buffer.freeze())
            })
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

    /// Hashes `len` bytes from `start` into `hasher`. Blocks.
    pub(crate) fn hash(&self, start: u64, len: u64, hasher: &mut Hasher) -> Result<(), StoreError> {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
        let (mut at, mut left) = (start, len);
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read_exact_at(&mut buffer[..part], at)?;
            hasher.update(&buffer[..part]);
            at += part as u64;
            left -= part as u64;
        }
        Ok(())
    }
}

/// A position in an [`OpenFile`].
pub(crate) struct Cursor<'a> {
    file: &'a OpenFile,
    at: u64,
    len: u64,
}

impl std::io::Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        self.file.read_exact_at(&mut buffer[..len], self.at).map_err(|e| match e {
            StoreError::Io { source, .. } => source,
            other => std::io::Error::other(other),
        })?;
        self.at += len as u64;
        Ok(len)
    }
}

impl std::io::Seek for Cursor<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        use std::io::SeekFrom::{Current, End, Start};
        let at = match to {
            Start(at) => Some(at),
            End(by) => self.len.checked_add_signed(by),
            Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
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
            target.write_all_at(&bytes, at)?;
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

fn stage_small(path: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    let permissions = std::fs::Permissions::from_mode(0o644);
    let staged = tempfile::Builder::new().permissions(permissions).tempfile_in(parent(path));
    staged.map_err(|error| {
        // What tempfile says names a file of its own, which nobody knows.
        let inner = error.get_ref().and_then(|e| e.source()).and_then(|e| e.downcast_ref::<std::io::Error>());
        let plain = inner.and_then(std::io::Error::raw_os_error).map(std::io::Error::from_raw_os_error);
        StoreError::io("write", path)(plain.unwrap_or(error))
    })
}

/// Whether [`write_small`] can write there, for whoever writes at the end of something long. Leaves nothing behind. Blocks.
pub(crate) fn can_write_small(path: &Path) -> Result<(), StoreError> {
    let refuse = |kind: std::io::ErrorKind| StoreError::io("write", path)(kind.into());
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(refuse(std::io::ErrorKind::IsADirectory)),
        // The file would take the place of a device, or of the link that stands for one. What a link in /dev leads to may be a
        // file, as `/dev/stdout` does where output goes to one.
        Ok(there) if !there.is_file() || path.starts_with("/dev") && path.is_symlink() => {
            return Err(refuse(std::io::ErrorKind::AlreadyExists));
        }
        _ => {}
    }
    stage_small(path).map(drop)
}

/// Writes a small file whole: staged beside it, synced, renamed. Blocks.
pub(crate) fn write_small(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    use std::io::Write as _;
    let folder = parent(path);
    let mut staged = stage_small(path)?;
    staged.write_all(bytes).map_err(StoreError::io("write", path))?;
    staged.as_file().sync_all().map_err(StoreError::io("sync", path))?;
    staged.persist(path).map_err(|e| StoreError::io("rename to", path)(e.error))?;
    sync_folder(folder)
}

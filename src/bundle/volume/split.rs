//! Writing a set: the bundle's bytes from front to back onto one volume after the other, then parity over them, then
//! the hashes of all onto each, and only then their names.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::header::{HASH, HEADER, Header, Table, sha256};
use super::medium::{self, Beside};
use super::parity::{Encoder, piece};
use super::{VolumeError, VolumeSize};
use crate::bundle::export::content as whole_content;
use crate::bundle::pour::{self, Entry, Sink, pour};
use crate::bundle::{BuildError, Bundle};
use crate::event::{Event, Events};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::store::{FolderLock, StoreError, blocking, parent, room, sync_folder};

/// What to write where.
#[derive(Debug, Clone)]
pub struct SplitRequest {
    /// The folder that the volumes are written to; it is made if its parent is there.
    pub output: PathBuf,
    /// What their names begin with; not given: the name of the bundle.
    pub name: Option<String>,
    /// The largest file that may come about.
    pub size: VolumeSize,
    /// Volumes with parity for each hundred with data, rounded up.
    pub parity: u8,
    /// A program that is put beside them, so that whoever has the medium has the tool.
    pub program: Option<PathBuf>,
}

/// What was written. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct SplitReport {
    /// The folder.
    pub output: PathBuf,
    /// Identity of the set.
    pub set: Digest,
    /// Of the bundle that is on it.
    pub size: u64,
    /// Of a chunk, the least that is repaired.
    pub chunk: u64,
    /// Those with data first.
    pub volumes: Vec<WrittenVolume>,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// One volume.
#[derive(Debug, Clone, Serialize)]
pub struct WrittenVolume {
    /// Name of its file.
    pub file: String,
    /// Whether it holds parity.
    pub parity: bool,
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file, as in `SHA256SUMS`.
    pub sha256: String,
}

/// Writes an open bundle onto volumes.
///
/// # Errors
/// When the volumes are too small or the folder cannot take them, both before anything is written; or when the bundle
/// turns out to be damaged. Nothing that is not whole has its name then.
pub async fn split(
    bundle: &Bundle,
    request: &SplitRequest,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<SplitReport, BuildError> {
    let started = Instant::now();
    let (texts, blobs) = whole_content(bundle).map_err(BuildError::Begin)?;
    let texts = texts.into_iter().map(|(name, bytes)| Entry::Text(name, bytes));
    let blobs = blobs.into_iter().map(Entry::Blob);
    let files = bundle.files().map_err(BuildError::Begin)?;
    let files = files.into_iter().map(|(name, size)| Entry::File(name, size));
    let entries: Vec<Entry> = texts.chain(blobs).chain(files).collect();
    let size = pour::size(&entries).map_err(BuildError::Begin)?;
    let name = request.name.clone().unwrap_or_else(|| usual_name(bundle.path()));
    let header = Header::plan(&name, size, request.size.bytes(), u64::from(request.parity))?;
    // Before anything is hashed: a folder may hold more than any disk.
    let (output, volumes) = (request.output.clone(), all_bytes(&header));
    blocking(move || room(&output, volumes, 0)).await.map_err(BuildError::Begin)?;
    let header =
        header.identified(content(bundle, &entries).await.map_err(BuildError::Begin)?.to_string().as_bytes());
    let beside = Beside::new(&header, bundle, request.program.as_deref()).map_err(BuildError::Begin)?;
    let (folder, plan) = (request.output.clone(), header.clone());
    let more = beside.size();
    let lock = tokio::task::spawn_blocking(move || prepare(&folder, &plan, more)).await;
    let _lock = lock.map_err(|_| BuildError::Cancelled)??;

    events.emit(Event::Phase { name: "split", total: Some(header.data) });
    let blobs = entries.iter().filter(|e| matches!(e, Entry::Blob(_))).count() as u64;
    events.emit(Event::TransferPlanned { node: None, blobs, bytes: size, skipped: 0 });
    let mut writer = Splitter::new(&header, &request.output);
    tokio::select! {
        done = pour(bundle, &entries, &mut writer, events) => done.map_err(BuildError::Store)?,
        () = cancel.cancelled() => return Err(BuildError::Cancelled),
    }
    let mut written = writer.finish().await.map_err(BuildError::Store)?;
    if header.parity > 0 {
        events.emit(Event::Phase { name: "parity", total: Some(header.parity) });
    }
    let (stop, output) = (cancel.clone(), request.output.clone());
    let sealed = tokio::task::spawn_blocking(move || {
        written.add_parity(&stop)?;
        let volumes = written.seal()?;
        medium::write(&output, &volumes, beside)?;
        Ok::<_, VolumeError>(volumes)
    });
    let volumes = sealed.await.map_err(|_| BuildError::Cancelled)??;
    Ok(SplitReport {
        output: request.output.clone(),
        set: header.set.clone(),
        size,
        chunk: header.chunk,
        volumes,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Without what says how the file is packed, and with nothing in it that a file name cannot have everywhere.
fn usual_name(path: &Path) -> String {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let mut name = name;
    for ending in [".zst", ".gz", ".tgz", ".tar", ".omkv"] {
        name = name.strip_suffix(ending).unwrap_or(name);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).take(100).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "bundle".to_owned() } else { name.to_owned() }
}

/// What decides every byte: paths are the digests of what they stand for, so only the rest is hashed.
async fn content(bundle: &Bundle, entries: &[Entry]) -> Result<Digest, StoreError> {
    use futures_util::StreamExt as _;
    let mut all = Hasher::new(Algorithm::Sha256);
    for entry in entries {
        all.update(format!("{} {}\n", entry.path(), entry.size()).as_bytes());
        match entry {
            Entry::Text(_, bytes) => all.update(bytes),
            Entry::Blob(_) => {}
            Entry::File(name, size) => {
                let mut stream = bundle.file(name, *size)?;
                while let Some(chunk) = stream.next().await {
                    all.update(&chunk?);
                }
            }
        }
    }
    Ok(all.finish())
}

/// Takes the folder, and refuses what would be mixed with something else, or has no room. Blocks.
fn prepare(folder: &Path, header: &Header, more: u64) -> Result<FolderLock, VolumeError> {
    let lock = FolderLock::take(folder)?;
    medium::refuse_foreign(folder, header)?;
    room(&folder.join("x"), all_bytes(header).saturating_add(more), 0)?;
    Ok(lock)
}

fn all_bytes(header: &Header) -> u64 {
    (1..=header.count()).map(|n| header.file_len(n)).fold(0, u64::saturating_add)
}

pub(super) fn partial(folder: &Path, header: &Header) -> PathBuf {
    folder.join(format!("{}.partial", header.file_name()))
}

/// A volume that has not its name yet.
pub(super) struct Begun {
    pub(super) header: Header,
    pub(super) path: PathBuf,
    file: Arc<File>,
    /// Over all that was written.
    hasher: Sha256,
    at: u64,
}

impl Begun {
    /// Blocks.
    pub(super) fn new(folder: &Path, header: Header) -> Result<Self, StoreError> {
        let path = partial(folder, &header);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = Arc::new(opened.map_err(StoreError::io("write", &path))?);
        let mut this = Self { header, path, file, hasher: Sha256::new(), at: 0 };
        let bytes = this.header.encode();
        this.put(&bytes)?;
        Ok(this)
    }

    /// Blocks.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, self.at).map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes what comes after the payload and syncs it; gives the hash of the file. Blocks.
    pub(super) fn end(&mut self, table: &[u8]) -> Result<String, StoreError> {
        self.put(table)?;
        let header = self.header.encode();
        self.put(&header)?;
        self.file.sync_all().map_err(StoreError::io("sync", &self.path))?;
        let hash: [u8; HASH] = self.hasher.clone().finalize().into();
        Ok(hash.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Gives it its name. Blocks.
    pub(super) fn name(&self) -> Result<PathBuf, StoreError> {
        let path = parent(&self.path).join(self.header.file_name());
        std::fs::rename(&self.path, &path).map_err(StoreError::io("rename to", &path))?;
        Ok(path)
    }
}

/// Takes the bundle's bytes in order.
struct Splitter {
    folder: PathBuf,
    header: Header,
    table: Table,
    buffer: BytesMut,
    begun: Vec<Begun>,
    /// Bytes of the bundle that were handed on.
    taken: u64,
    busy: Option<Busy>,
}

/// A chunk being written and hashed, on two threads.
struct Busy {
    written: JoinHandle<Result<Begun, StoreError>>,
    hashed: JoinHandle<[u8; HASH]>,
    index: usize,
}

impl Splitter {
    fn new(header: &Header, folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            header: header.clone(),
            table: Table::new(header),
            buffer: BytesMut::new(),
            begun: Vec::new(),
            taken: 0,
            busy: None,
        }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        let bytes = self.buffer.split().freeze();
        let (before, within) = (self.taken / self.header.volume, self.taken % self.header.volume);
        let header = self.header.numbered(before + 1);
        let index = header.index(header.number, within / header.chunk);
        self.taken += bytes.len() as u64;
        let (folder, chunk) = (self.folder.clone(), bytes.clone());
        let last = if within > 0 { self.begun.pop() } else { None };
        let written = tokio::task::spawn_blocking(move || {
            let mut volume = match last {
                Some(volume) => volume,
                None => Begun::new(&folder, header)?,
            };
            volume.put(&bytes)?;
            Ok(volume)
        });
        let hashed = tokio::task::spawn_blocking(move || sha256(&chunk));
        self.busy = Some(Busy { written, hashed, index });
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(Busy { written, hashed, index }) = self.busy.take() else { return Ok(()) };
        self.begun.push(written.await.map_err(|_| StoreError::Cancelled)??);
        let hash = hashed.await.map_err(|_| StoreError::Cancelled)?;
        if let Some(slot) = self.table.0.get_mut(index) {
            *slot = hash;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Written, StoreError> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        self.settle().await?;
        let Self { folder, header, table, begun, taken, .. } = self;
        if taken != header.size {
            let text = format!("{taken} bytes were written instead of {}", header.size);
            return Err(StoreError::Remote(text));
        }
        Ok(Written { folder, header, table, begun })
    }
}

#[async_trait]
impl Sink for Splitter {
    async fn put(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        let chunk = usize::try_from(self.header.chunk).unwrap_or(usize::MAX);
        while !bytes.is_empty() {
            let len = bytes.len().min(chunk - self.buffer.len());
            self.buffer.extend_from_slice(&bytes.split_to(len));
            if self.buffer.len() == chunk {
                self.flush().await?;
            }
        }
        Ok(())
    }
}

/// All data is there; parity and tables are not.
struct Written {
    folder: PathBuf,
    header: Header,
    table: Table,
    begun: Vec<Begun>,
}

impl Written {
    /// Blocks.
    fn add_parity(&mut self, cancel: &CancellationToken) -> Result<(), VolumeError> {
        let Self { folder, header, table, begun } = self;
        if header.parity == 0 {
            return Ok(());
        }
        let mut encoder = Encoder::new(header)?;
        let mut parity = Vec::new();
        for number in header.data + 1..=header.count() {
            parity.push(Begun::new(folder, header.numbered(number))?);
        }
        let piece = piece(header);
        let pieces = header.chunk / piece as u64;
        for stripe in 0..header.stripes() {
            let mut hashers = vec![Sha256::new(); parity.len()];
            for part in 0..pieces {
                if cancel.is_cancelled() {
                    return Err(StoreError::Cancelled.into());
                }
                let at = stripe * header.chunk + part * piece as u64;
                let data: Vec<Vec<u8>> = begun
                    .iter()
                    .map(|v| read_piece(&v.file, &v.path, header, v.header.number, at, piece))
                    .collect::<Result<_, _>>()?;
                let computed = encoder.encode(&data)?;
                for ((volume, hasher), bytes) in parity.iter_mut().zip(&mut hashers).zip(&computed) {
                    volume.put(bytes)?;
                    hasher.update(bytes);
                }
            }
            for (volume, hasher) in parity.iter().zip(hashers) {
                if let Some(slot) = table.0.get_mut(header.index(volume.header.number, stripe)) {
                    *slot = hasher.finalize().into();
                }
            }
        }
        begun.extend(parity);
        Ok(())
    }

    /// Blocks.
    fn seal(mut self) -> Result<Vec<WrittenVolume>, VolumeError> {
        let table = self.table.encode(&self.header);
        let mut volumes = Vec::new();
        for volume in &mut self.begun {
            let sha256 = volume.end(&table)?;
            let Header { number, .. } = volume.header;
            let size = self.header.file_len(number);
            let file = volume.header.file_name();
            volumes.push(WrittenVolume { file, parity: volume.header.is_parity(), size, sha256 });
        }
        for volume in &self.begun {
            volume.name()?;
        }
        sync_folder(&self.folder)?;
        Ok(volumes)
    }
}

/// A piece of a volume at a place of its payload; behind its end there are zeros. Blocks.
pub(super) fn read_piece(
    file: &File,
    path: &Path,
    header: &Header,
    number: u64,
    at: u64,
    len: usize,
) -> Result<Vec<u8>, StoreError> {
    let there = header.payload(number).saturating_sub(at).min(len as u64);
    let mut bytes = vec![0; len];
    let part = &mut bytes[..usize::try_from(there).unwrap_or(0)];
    file.read_exact_at(part, HEADER + at).map_err(StoreError::io("read", path))?;
    Ok(bytes)
}

/// Writes a file beside the volumes, whole or not at all. Blocks.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<String, StoreError> {
    let folder = parent(to);
    let mut source = File::open(from).map_err(StoreError::io("read", from))?;
    let mut staged =
        tempfile::NamedTempFile::new_in(folder).map_err(StoreError::io("write a file in", folder))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        use std::io::Read as _;
        let len = source.read(&mut buffer).map_err(StoreError::io("read", from))?;
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
        staged.write_all(&buffer[..len]).map_err(StoreError::io("write", to))?;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    staged.as_file().set_permissions(mode).map_err(StoreError::io("write", to))?;
    staged.as_file().sync_all().map_err(StoreError::io("sync", to))?;
    staged.persist(to).map_err(|e| StoreError::io("rename to", to)(e.error))?;
    let hash: [u8; HASH] = hasher.finalize().into();
    Ok(hash.iter().map(|b| format!("{b:02x}")).collect())
}

/// The images of a bundle, for what is written about it.
pub(super) fn images(bundle: &Bundle) -> Vec<String> {
    let tagged = |names: &[String]| names.iter().filter(|n| !n.contains('@')).cloned().collect::<Vec<_>>();
    let mut all: Vec<String> = bundle
        .images()
        .iter()
        .flat_map(|i| {
            let names = tagged(&i.names);
            if names.is_empty() { vec![i.label()] } else { names }
        })
        .collect();
    all.sort();
    all
}

//! A node's staging folder over SFTP, as a blob store.
//!
//! ```text
//! STAGING/.omk-staging            so that no other folder is ever taken for one
//! STAGING/blobs/sha256/HEX        complete, verified, synced; renamed to here
//! STAGING/partial/HEX.RUN         being written
//! STAGING/partial/HEX.RUN.journal how far, with digests that the node can check
//! ```
//!
//! Two runs that stage the same blob at once never write to the same file: RUN differs. A run that finds only
//! another's partial blob takes it over: by renaming when this session holds the folder or nobody wrote to it for a
//! minute, else by copying it on the node, because whoever writes to it may be alive. Either way only what the node can
//! prove counts, see [`resume`].

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ssh::{Connection, Refusal, SftpChannel, pause};
use super::{NodeError, RemoteCommand, SshSession, check_remote_path, quote};
use crate::oci::{Descriptor, Digest};
use crate::store::{BlobSource, BlobStore, ByteStream, Ingest, StoreError};

mod flow;
mod folder;
mod ingest;
mod resume;

pub(super) use flow::Flow;
pub(crate) use folder::prepare_folder;

/// SFTP channels of one connection: sshd's window is per channel, so a long link needs several.
const CHANNELS: usize = 4;
/// OpenSSH's largest read and write, in bytes.
const LARGEST: usize = 255 << 10;
/// What every SFTP server must take, in bytes.
const SMALLEST: usize = 32 << 10;
/// Reads of one blob that are on the way at once.
const READS: usize = 16;
/// How often a channel is asked for that the server refuses because there are too many.
const BUSY_TRIES: u32 = 20;

/// The SFTP channels of a connection that wait for work.
pub(crate) struct Pool {
    idle: Mutex<Vec<Arc<Sftp>>>,
    slots: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { idle: Mutex::default(), slots: Arc::new(Semaphore::new(CHANNELS)) }
    }
}

struct Sftp {
    raw: RawSftpSession,
    fsync: bool,
    posix_rename: bool,
    /// Bytes of one write.
    piece: usize,
    _channel: OwnedSemaphorePermit,
}

/// An SFTP channel in use by one task. Given back when that task is done with it and nothing went wrong.
struct Lease {
    connection: Arc<Connection>,
    sftp: Arc<Sftp>,
    healthy: bool,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.healthy {
            let mut idle = self.connection.sftp.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(Arc::clone(&self.sftp));
        }
    }
}

impl Lease {
    async fn take(connection: &Arc<Connection>) -> Result<Self, NodeError> {
        let lost = || NodeError::Lost(format!("opening SFTP on {}", connection.address));
        let slot = Arc::clone(&connection.sftp.slots).acquire_owned().await.map_err(|_| lost())?;
        let idle = connection.sftp.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let sftp = match idle {
            Some(sftp) => sftp,
            None => Arc::new(Sftp::open(connection).await?),
        };
        Ok(Self { connection: Arc::clone(connection), sftp, healthy: false, _slot: slot })
    }

    /// One request. Bounds the wait for the answer; `what` fits into "cannot {what}".
    async fn ask<T>(
        &self,
        what: impl FnOnce() -> String,
        request: impl Future<Output = Result<T, SftpError>>,
    ) -> Result<T, StoreError> {
        let connection = &self.connection;
        tokio::select! {
            answer = tokio::time::timeout(connection.options.patience, request) => match answer {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(e)) => Err(connection.store_error(&what(), e)),
                Err(_) => Err(connection.silent()),
            },
            () = connection.cancel.cancelled() => Err(StoreError::Cancelled),
        }
    }

    async fn create(&self, path: &str, truncate: bool) -> Result<String, StoreError> {
        let mut flags = OpenFlags::WRITE | OpenFlags::CREATE;
        if truncate {
            flags |= OpenFlags::TRUNCATE;
        }
        let attributes = FileAttributes { permissions: Some(0o600), ..FileAttributes::empty() };
        let opened = self.sftp.raw.open(path, flags, attributes);
        Ok(self.ask(|| format!("create {path}"), opened).await?.handle)
    }

    async fn stat(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let found = self.sftp.raw.stat(path).map_ok(Some).or_else(|e| async {
            match e {
                SftpError::Status(status) if status.status_code == StatusCode::NoSuchFile => Ok(None),
                other => Err(other),
            }
        });
        let found = self.ask(|| format!("look at {path}"), found).await?;
        Ok(found.and_then(|f| f.attrs.size))
    }

    /// Makes what was written durable.
    async fn sync(&self, handle: &str, path: &str) -> Result<(), StoreError> {
        if self.sftp.fsync {
            return self.ask(|| format!("sync {path}"), self.sftp.raw.fsync(handle)).await.map(drop);
        }
        let path = quote(path);
        let script = format!("sync -d {path} 2>/dev/null || sync");
        self.connection.run(&RemoteCommand::user(script)).await.map(drop).map_err(into_store)
    }

    /// Renames, replacing what is there.
    async fn rename(&self, from: &str, to: &str) -> Result<(), SftpError> {
        if !self.sftp.posix_rename {
            // Plain SFTP does not replace. A gap without the file is the best it can do.
            if let Err(SftpError::Status(status)) = self.sftp.raw.remove(to).await
                && status.status_code != StatusCode::NoSuchFile
            {
                return Err(SftpError::Status(status));
            }
            return self.sftp.raw.rename(from, to).await.map(drop);
        }
        let mut data = Vec::with_capacity(8 + from.len() + to.len());
        for text in [from, to] {
            let length = u32::try_from(text.len()).map_err(|_| SftpError::Limited("path".to_owned()))?;
            data.extend_from_slice(&length.to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        match self.sftp.raw.extended("posix-rename@openssh.com", data).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(SftpError::Status(status)),
            _ => Err(SftpError::UnexpectedPacket),
        }
    }

    /// Closes a file without waiting: the request is sent, its answer is of no interest.
    fn forget(&self, handle: &str) {
        let _ = self.sftp.raw.close(handle).now_or_never();
    }
}

impl Sftp {
    async fn open(connection: &Arc<Connection>) -> Result<Self, NodeError> {
        let (mut tries, mut asked) = (0, 0);
        loop {
            let channel = connection.sftp_stream().await?;
            let said = channel.said.clone();
            if let Some(sftp) = Self::greet(connection, channel).await {
                return Ok(sftp);
            }
            match connection.sftp_refusal(said).await {
                Refusal::Busy if tries < BUSY_TRIES => {
                    (tries, asked) = (tries + connection.in_vain(), asked + 1);
                    tokio::time::sleep(pause(asked)).await;
                }
                Refusal::Busy => {
                    let text = format!("{} refuses another channel: raise MaxSessions", connection.address);
                    return Err(NodeError::Other(text));
                }
                Refusal::Never(error) => return Err(error),
            }
        }
    }

    /// `None`: the server does not speak.
    async fn greet(connection: &Arc<Connection>, channel: SftpChannel) -> Option<Self> {
        let SftpChannel { stream, permit, .. } = channel;
        // Every wait is bounded where it is awaited; this one would count from queueing, which on a slow link is
        // long before a write's turn comes.
        let config = Config { request_timeout_secs: 24 * 60 * 60, ..Config::default() };
        let raw = RawSftpSession::new_with_config(stream, config);
        let greeting = tokio::time::timeout(connection.options.connect_timeout, async {
            let version = raw.init().await?;
            let limits = match version.extensions.contains_key("limits@openssh.com") {
                true => Some(raw.limits().await?),
                false => None,
            };
            Ok::<_, SftpError>((version, limits))
        });
        let (version, limits) = greeting.await.ok()?.ok()?;
        // OpenSSH before 8.5 does not tell its limits; they were the same.
        let openssh = version.extensions.keys().any(|k| k.ends_with("@openssh.com"));
        let told = limits.and_then(|l| usize::try_from(l.max_write_len).ok()).filter(|&l| l > 0);
        let piece = told.unwrap_or(if openssh { LARGEST } else { SMALLEST }).min(LARGEST);
        Some(Self {
            fsync: version.extensions.contains_key("fsync@openssh.com"),
            posix_rename: version.extensions.contains_key("posix-rename@openssh.com"),
            raw,
            piece,
            _channel: permit,
        })
    }
}

impl Connection {
    fn store_label(&self) -> String {
        format!("staging of {}", self.address)
    }

    fn silent(&self) -> StoreError {
        let reason = format!("no answer for {} s", self.options.patience.as_secs());
        StoreError::Lost { store: self.store_label(), reason }
    }

    fn store_error(&self, what: &str, error: SftpError) -> StoreError {
        match error {
            SftpError::Status(status) => {
                // The only thing that OpenSSH says about a full disk, a quota or an I/O error.
                let hint = match status.status_code {
                    StatusCode::Failure => " (is the disk full, or the file system read-only?)",
                    _ => "",
                };
                let said: String =
                    status.error_message.chars().filter(|c| !c.is_control()).take(200).collect();
                StoreError::Remote(format!("cannot {what} on {}: {said}{hint}", self.address))
            }
            SftpError::Limited(text) => {
                StoreError::Remote(format!("cannot {what} on {}: {text}", self.address))
            }
            other => {
                // russh-sftp says no more about the end of a channel than which of its own parts ended.
                let reason = match other {
                    SftpError::Timeout => format!("no answer to: {what}"),
                    _ => format!("it ended before the answer to: {what}"),
                };
                StoreError::Lost { store: self.store_label(), reason }
            }
        }
    }
}

/// A command's failure inside of a store's method.
fn into_store(error: NodeError) -> StoreError {
    match error {
        NodeError::Store(e) => e,
        NodeError::Cancelled => StoreError::Cancelled,
        e if e.may_retry() => StoreError::Lost { store: "staging".to_owned(), reason: e.to_string() },
        e => StoreError::Remote(e.to_string()),
    }
}

/// See the module's documentation.
pub(crate) struct SftpStore(Arc<Staging>);

struct Staging {
    connection: Arc<Connection>,
    root: String,
    /// Hashes of blobs of which a partial copy may lie on the node.
    partials: Mutex<HashSet<String>>,
    /// Layout paths of blobs that are complete on the node: those that were there when the store was opened, and those
    /// committed since. A new node has none, and then nothing needs to be asked about each of hundreds of blobs.
    present: Mutex<HashSet<String>>,
}

impl Staging {
    fn partial(&self, digest: &Digest) -> String {
        format!("{}/partial/{}.{}", self.root, digest.hex(), self.connection.lineage)
    }

    fn blob(&self, digest: &Digest) -> String {
        format!("{}/{}", self.root, digest.layout_path())
    }

    fn present(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partials(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SftpStore {
    pub(crate) async fn open(connection: Arc<Connection>, root: &str) -> Result<Self, NodeError> {
        check_remote_path(root).map_err(|e| NodeError::Other(format!("staging folder: {e}")))?;
        let (uid, gid) = connection.ids().await?;
        let session = SshSession(Arc::clone(&connection));
        let listed = prepare_folder(&session, root, uid, gid, &connection.address).await?;
        let partials = listed.lines().filter_map(|l| hex(l.strip_prefix("partial/")?)).collect();
        let present = listed.lines().filter(|l| l.starts_with("blobs/")).map(str::to_owned).collect();
        let (partials, present) = (Mutex::new(partials), Mutex::new(present));
        Ok(Self(Arc::new(Staging { connection, root: root.to_owned(), partials, present })))
    }
}

/// The blob's hash in the name of a partial blob.
fn hex(name: &str) -> Option<String> {
    let (hex, _) = name.strip_suffix(".journal")?.split_once('.')?;
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (matches!(hex.len(), 64 | 128) && hex.bytes().all(digit)).then(|| hex.to_owned())
}

/// A file that is read; closed when the last reader is gone.
struct Reading {
    lease: Lease,
    handle: String,
    path: String,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.lease.forget(&self.handle);
    }
}

impl Reading {
    async fn piece(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut all = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let length = u32::try_from(range.end - at).unwrap_or(u32::MAX);
            let reading = self.lease.sftp.raw.read(self.handle.as_str(), at, length);
            let data = self.lease.ask(|| format!("read {}", self.path), reading).await?.data;
            if data.is_empty() || data.len() as u64 > range.end - at {
                let text = format!("{} answers a read wrongly", self.lease.connection.address);
                return Err(StoreError::Remote(text));
            }
            at += data.len() as u64;
            all.extend_from_slice(&data);
        }
        Ok(all.into())
    }
}

#[async_trait]
impl BlobSource for SftpStore {
    fn label(&self) -> String {
        self.0.connection.store_label()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        if !self.0.present().contains(&digest.layout_path()) {
            return Ok(None);
        }
        let mut lease = Lease::take(&self.0.connection).await.map_err(into_store)?;
        let size = lease.stat(&self.0.blob(digest)).await?;
        lease.healthy = true;
        Ok(size)
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let lease = Lease::take(&self.0.connection).await.map_err(into_store)?;
        let path = self.0.blob(blob.digest());
        let (digest, store) = (blob.digest().clone(), self.label());
        let Some(found) = lease.stat(&path).await? else {
            return Err(StoreError::NotFound { digest, store });
        };
        if range.start > range.end || range.end > found {
            return Err(StoreError::SizeMismatch { digest, expected: range.end, found, store });
        }
        let opening = lease.sftp.raw.open(path.as_str(), OpenFlags::READ, FileAttributes::empty());
        let handle = lease.ask(|| format!("open {path}"), opening).await?.handle;
        let file = Arc::new(Reading { lease, handle, path });
        let piece = LARGEST as u64;
        let count = (range.end - range.start).div_ceil(piece);
        let pieces = (0..count).map(move |n| {
            let start = range.start + n * piece;
            let (file, range) = (Arc::clone(&file), start..range.end.min(start + piece));
            async move { file.piece(range).await }
        });
        Ok(futures_util::stream::iter(pieces).buffered(READS).boxed())
    }
}

#[async_trait]
impl BlobStore for SftpStore {
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError> {
        Ok(Box::new(ingest::SftpIngest::begin(Arc::clone(&self.0), blob).await?))
    }
}

/// See [`super::NodeSession::write_file`].
pub(crate) async fn write_file(
    connection: &Arc<Connection>,
    path: &str,
    bytes: &[u8],
) -> Result<(), NodeError> {
    check_remote_path(path).map_err(NodeError::Other)?;
    let mut lease = Lease::take(connection).await?;
    let staged = format!("{path}.{}.tmp", connection.lineage);
    let handle = lease.create(&staged, true).await?;
    let piece = lease.sftp.piece;
    for (index, chunk) in bytes.chunks(piece).enumerate() {
        let writing = lease.sftp.raw.write(handle.as_str(), (index * piece) as u64, chunk.to_vec());
        lease.ask(|| format!("write {staged}"), writing).await?;
    }
    lease.sync(&handle, &staged).await?;
    lease.ask(|| format!("close {staged}"), lease.sftp.raw.close(handle.as_str())).await?;
    lease.ask(|| format!("rename {staged}"), lease.rename(&staged, path)).await?;
    lease.healthy = true;
    Ok(())
}

/// How long the node may take to hash `bytes` of its disk without a word: 10 MB/s at worst.
fn hash_patience(bytes: u64, usual: Duration) -> Duration {
    usual.max(Duration::from_secs(bytes / 10_000_000))
}

//! One blob on its way into staging.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{FileAttributes, StatusCode};

use super::flow::Turn;
use super::resume::{self, CHUNK, Segment};
use super::{Lease, SMALLEST, Staging, into_store};
use crate::oci::{Descriptor, Hasher};
use crate::store::{Ingest, StoreError, check};

/// A write that is on the way; gives its length.
type Write = BoxFuture<'static, Result<u64, SftpError>>;

pub(super) struct SftpIngest {
    staging: Arc<Staging>,
    lease: Lease,
    blob: Descriptor,
    path: String,
    handle: Option<String>,
    /// `None` for a blob that is too small to be worth resuming.
    journal: Option<Journal>,
    /// Nobody else left a part of it when this began.
    alone: bool,
    /// What was proved of an earlier transfer; here the session's own bytes begin.
    offset: u64,
    /// Bytes taken by `put`, from the blob's start.
    taken: u64,
    /// Bytes handed to the connection, from the blob's start.
    sent: u64,
    /// Bytes that the node acknowledged without a gap, from the blob's start.
    acknowledged: u64,
    /// Over the session's own bytes.
    hasher: Hasher,
    /// Ends of journal lines that wait for their acknowledgement.
    marks: VecDeque<Segment>,
    buffer: BytesMut,
    writes: FuturesOrdered<Write>,
    turn: Turn,
    /// After any error of a write nothing later can be believed (russh-sftp may still say Ok).
    failed: bool,
}

struct Journal {
    handle: String,
    length: u64,
}

impl SftpIngest {
    pub(super) async fn begin(staging: Arc<Staging>, blob: &Descriptor) -> Result<Self, StoreError> {
        let path = staging.partial(blob.digest());
        let resumable = blob.size() > CHUNK;
        let mut proved = Vec::new();
        let alone = !staging.partials().contains(blob.digest().hex());
        if resumable && !alone {
            proved = resume::resume(&staging, blob).await?;
        }
        let offset = proved.last().map_or(0, |s| s.end);
        let lease = Lease::take(&staging.connection).await.map_err(into_store)?;
        let handle = lease.create(&path, offset == 0).await?;
        let mut ingest = Self {
            lease,
            path,
            handle: Some(handle),
            journal: None,
            alone,
            offset,
            taken: offset,
            sent: offset,
            acknowledged: offset,
            hasher: Hasher::new(blob.digest().algorithm()),
            marks: VecDeque::new(),
            buffer: BytesMut::new(),
            writes: FuturesOrdered::new(),
            turn: staging.connection.options.flow().enter(),
            failed: false,
            blob: blob.clone(),
            staging,
        };
        if offset > 0 {
            // What is behind the proved part is of no use; longer than the blob it would be in the way.
            let attributes = FileAttributes { size: Some(offset), ..FileAttributes::empty() };
            let cut = ingest.lease.sftp.raw.fsetstat(ingest.handle()?, attributes);
            ingest.lease.ask(|| format!("cut {}", ingest.path), cut).await?;
        }
        if resumable {
            ingest.begin_journal(&proved).await?;
        }
        Ok(ingest)
    }

    async fn begin_journal(&mut self, proved: &[Segment]) -> Result<(), StoreError> {
        let path = format!("{}.journal", self.path);
        let handle = self.lease.create(&path, true).await?;
        let mut journal = Journal { handle, length: 0 };
        let lines: String = proved.iter().map(Segment::line).collect();
        if !lines.is_empty() {
            journal.length = lines.len() as u64;
            let writing = self.lease.sftp.raw.write(journal.handle.as_str(), 0, lines.into_bytes());
            self.lease.ask(|| format!("write {path}"), writing).await?;
        }
        self.journal = Some(journal);
        self.staging.partials().insert(self.blob.digest().hex().to_owned());
        Ok(())
    }

    fn handle(&self) -> Result<&str, StoreError> {
        self.handle.as_deref().ok_or_else(|| StoreError::Remote(format!("{} is closed", self.path)))
    }

    /// Hashes, and notes the digest at every journal mark on the way.
    fn hash(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let to_mark = CHUNK - self.taken % CHUNK;
            let now = usize::try_from(to_mark).unwrap_or(usize::MAX).min(bytes.len());
            self.hasher.update(&bytes[..now]);
            self.taken += now as u64;
            bytes = &bytes[now..];
            if self.journal.is_some() && self.taken.is_multiple_of(CHUNK) {
                let hex = self.hasher.clone().finish().hex().to_owned();
                self.marks.push_back(Segment { start: self.offset, end: self.taken, hex });
            }
        }
    }

    /// Bytes of one write: with a small share two smaller ones, so that the node need not wait between them.
    fn piece(&self) -> usize {
        self.lease.sftp.piece.min((self.turn.share() / 2).max(SMALLEST))
    }

    /// Queues a write of the blob and starts it.
    async fn send(&mut self, data: Vec<u8>) -> Result<(), StoreError> {
        let (offset, length) = (self.sent, data.len() as u64);
        let many = self.staging.connection.options.writes_in_flight.max(1);
        let full = |this: &Self| {
            let unanswered = this.sent + length - this.acknowledged;
            this.writes.len() >= many || unanswered > this.turn.share() as u64
        };
        while !self.writes.is_empty() && full(self) {
            self.acknowledge().await?;
        }
        self.sent += length;
        let (sftp, handle) = (Arc::clone(&self.lease.sftp), self.handle()?.to_owned());
        let write = async move { sftp.raw.write(handle, offset, data).await.map(|_| length) };
        self.writes.push_back(write.boxed());
        self.take_answers()
    }

    /// Takes the answers that are there, without waiting. Also what makes a write go out: that happens when it is
    /// first polled, not before.
    fn take_answers(&mut self) -> Result<(), StoreError> {
        while let Some(Some(answer)) = self.writes.next().now_or_never() {
            self.acknowledged(answer)?;
        }
        Ok(())
    }

    /// Waits for the oldest write.
    async fn acknowledge(&mut self) -> Result<(), StoreError> {
        let connection = Arc::clone(&self.staging.connection);
        let answer = tokio::select! {
            answer = tokio::time::timeout(connection.options.patience, self.writes.next()) => answer,
            () = connection.cancel.cancelled() => return Err(StoreError::Cancelled),
        };
        match answer {
            Ok(Some(answer)) => self.acknowledged(answer),
            Ok(None) => Ok(()),
            Err(_) => {
                self.failed = true;
                Err(connection.silent())
            }
        }
    }

    fn acknowledged(&mut self, answer: Result<u64, SftpError>) -> Result<(), StoreError> {
        let length = match answer {
            Ok(length) => length,
            Err(e) => {
                self.failed = true;
                return Err(self.staging.connection.store_error(&format!("write {}", self.path), e));
            }
        };
        self.acknowledged += length;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut lines = String::new();
        while self.marks.front().is_some_and(|m| m.end <= self.acknowledged) {
            lines.extend(self.marks.pop_front().map(|m| m.line()));
        }
        if lines.is_empty() {
            return Ok(());
        }
        let offset = journal.length;
        journal.length += lines.len() as u64;
        let (sftp, handle) = (Arc::clone(&self.lease.sftp), journal.handle.clone());
        // Counts no bytes of the blob; an error is as fatal as one of the blob's own writes.
        let write = async move { sftp.raw.write(handle, offset, lines.into_bytes()).await.map(|_| 0) };
        self.writes.push_back(write.boxed());
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            let rest = self.buffer.split().to_vec();
            self.send(rest).await?;
        }
        while !self.writes.is_empty() {
            self.acknowledge().await?;
        }
        Ok(())
    }

    /// Size, digest, durability; then the name.
    async fn complete(&mut self) -> Result<(), StoreError> {
        let store = self.staging.connection.store_label();
        let (digest, size) = (self.blob.digest().clone(), self.blob.size());
        if self.taken != size {
            return Err(StoreError::SizeMismatch { digest, expected: size, found: self.taken, store });
        }
        let handle = self.handle()?;
        // The server answers in the order in which it is asked: what does not depend on an answer does not wait for one.
        let stat = self.lease.sftp.raw.fstat(handle);
        let stat = self.lease.ask(|| format!("look at {}", self.path), stat);
        let (synced, stat) = tokio::join!(self.lease.sync(handle, &self.path), stat);
        synced?;
        let found = stat?.attrs.size.unwrap_or(0);
        // What came from an earlier session may have changed since, so the node hashes it all; what this session sent
        // was hashed on the way and cannot change on it.
        let hashed = match self.offset {
            0 => self.hasher.clone().finish(),
            _ => resume::hash_all(&self.staging, &self.blob).await?,
        };
        if let Err(wrong) = check(&self.blob, found, &hashed, &store) {
            self.discard().await;
            return Err(wrong);
        }
        self.publish().await
    }

    async fn publish(&mut self) -> Result<(), StoreError> {
        let target = self.staging.blob(self.blob.digest());
        let handle = self.handle.take().unwrap_or_default();
        let closing = self.lease.sftp.raw.close(handle);
        let closing = self.lease.ask(|| format!("close {}", self.path), closing);
        let renaming = tokio::time::timeout(
            self.staging.connection.options.patience,
            self.lease.rename(&self.path, &target),
        );
        // What is renamed was synced: whatever closing says comes too late to matter for the bytes.
        let (closed, renamed) = tokio::join!(closing, renaming);
        closed?;
        match renamed.map_err(|_| self.staging.connection.silent())? {
            Ok(()) => {}
            // Another run completed the blob and cleaned up behind itself.
            Err(SftpError::Status(s))
                if s.status_code == StatusCode::NoSuchFile
                    && self.lease.stat(&target).await? == Some(self.blob.size()) => {}
            Err(e) => {
                return Err(self
                    .staging
                    .connection
                    .store_error(&format!("rename {} to {target}", self.path), e));
            }
        }
        self.staging.present().insert(self.blob.digest().layout_path());
        if let Some(journal) = self.journal.take() {
            self.lease.forget(&journal.handle);
            self.staging.partials().remove(self.blob.digest().hex());
            if self.alone {
                let path = format!("{}.journal", self.path);
                let removing = self.lease.sftp.raw.remove(path.as_str());
                self.lease.ask(|| format!("remove {path}"), removing).await?;
            } else {
                resume::clean(&self.staging, self.blob.digest()).await?;
            }
        }
        self.lease.healthy = true;
        Ok(())
    }

    /// Removes what turned out to be wrong. Best effort: what stays is never proved.
    async fn discard(&mut self) {
        let _ = self.lease.ask(String::new, self.lease.sftp.raw.remove(self.path.as_str())).await;
        if self.journal.is_some() {
            let journal = format!("{}.journal", self.path);
            let _ = self.lease.ask(String::new, self.lease.sftp.raw.remove(journal)).await;
        }
    }
}

impl Drop for SftpIngest {
    fn drop(&mut self) {
        for handle in self.handle.iter().chain(self.journal.iter().map(|j| &j.handle)) {
            self.lease.forget(handle);
        }
    }
}

#[async_trait]
impl Ingest for SftpIngest {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn put(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        let store = self.staging.connection.store_label();
        if self.failed {
            return Err(StoreError::Lost {
                store,
                reason: format!("an earlier write to {} failed", self.path),
            });
        }
        let found = self.taken + bytes.len() as u64;
        if found > self.blob.size() {
            self.failed = true;
            let (digest, expected) = (self.blob.digest().clone(), self.blob.size());
            return Err(StoreError::SizeMismatch { digest, expected, found, store });
        }
        self.hash(&bytes);
        while !bytes.is_empty() {
            let piece = self.piece();
            if self.buffer.is_empty() && bytes.len() >= piece.min(SMALLEST) {
                // In equal parts rather than with a small rest.
                let now = bytes.len().div_ceil(bytes.len().div_ceil(piece));
                self.send(bytes[..now].to_vec()).await?;
                bytes.advance(now);
                continue;
            }
            let now = piece.saturating_sub(self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..now]);
            bytes.advance(now);
            if self.buffer.len() >= piece {
                let full = self.buffer.split().to_vec();
                self.send(full).await?;
            }
        }
        self.take_answers()
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        if self.failed {
            let (store, reason) =
                (self.staging.connection.store_label(), format!("an earlier write to {} failed", self.path));
            return Err(StoreError::Lost { store, reason });
        }
        self.drain().await?;
        self.complete().await
    }
}

//! Sending a blob in chunks: after a cut the registry is asked how much it has, and the upload goes on there.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::destination::Destination;
use crate::oci::{Descriptor, Hasher};
use crate::registry::RegistryError;
use crate::registry::http::Target;
use crate::registry::retry::{Failure, Retries};
use crate::registry::write::Raw;
use crate::store::{BlobSource as _, BlobStore, Ingest, StoreError, check};

/// For the answer to the end of an upload: a registry that keeps its blobs in object storage copies them then.
const FINISH: Duration = Duration::from_secs(600);

#[async_trait]
impl BlobStore for Destination {
    async fn ingest(&self, blob: &Descriptor) -> Result<Box<dyn Ingest>, StoreError> {
        let what = format!("upload of {} to {}", blob.digest(), self.image.name());
        let retries = Retries::new(&self.writer.http.options.retries, &what, &self.writer.events);
        Ok(Box::new(Upload {
            to: self.clone(),
            blob: blob.clone(),
            what,
            retries,
            hasher: Hasher::new(blob.digest().algorithm()),
            taken: 0,
            buffer: BytesMut::new(),
            sent: 0,
            least: self.writer.chunk,
            state: State::New,
        }))
    }
}

enum State {
    /// Nothing was asked for yet: a blob that fits into one chunk needs no more than one.
    New,
    /// Chunks go here.
    Chunks(Url),
    /// All goes into one request, whose body is fed here.
    Whole { body: mpsc::Sender<Bytes>, answer: JoinHandle<Result<Response, Failure>> },
}

struct Upload {
    to: Destination,
    blob: Descriptor,
    what: String,
    retries: Retries,
    hasher: Hasher,
    /// Bytes that were put.
    taken: u64,
    /// Bytes that the registry does not have yet.
    buffer: BytesMut,
    /// Bytes that it has.
    sent: u64,
    /// Bytes of a chunk.
    least: u64,
    state: State,
}

#[async_trait]
impl Ingest for Upload {
    fn offset(&self) -> u64 {
        0
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&bytes);
        self.taken += bytes.len() as u64;
        if self.taken > self.blob.size() {
            let (digest, store) = (self.blob.digest().clone(), self.to.label());
            let (expected, found) = (self.blob.size(), self.taken);
            return Err(StoreError::SizeMismatch { digest, expected, found, store });
        }
        if let State::Whole { .. } = self.state {
            return self.feed(bytes).await;
        }
        self.buffer.extend_from_slice(&bytes);
        // The last chunk may be of any size; what fits into one is sent with the end of the upload.
        while self.buffer.len() as u64 > self.least {
            if let State::Whole { .. } = self.state {
                let rest = self.buffer.split().freeze();
                return self.feed(rest).await;
            }
            self.flush().await?;
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let found = std::mem::replace(&mut self.hasher, Hasher::new(self.blob.digest().algorithm())).finish();
        check(&self.blob, self.taken, &found, "the source")?;
        let good = [StatusCode::CREATED, StatusCode::NO_CONTENT, StatusCode::ACCEPTED];
        if let State::Chunks(_) = self.state {
            while !self.buffer.is_empty() {
                self.flush().await?;
            }
        }
        match std::mem::replace(&mut self.state, State::New) {
            State::Whole { body, answer } => {
                drop(body);
                let answer =
                    tokio::time::timeout(FINISH, answer).await.map_err(|_| self.lost("no answer came"))?;
                let answer = answer.map_err(|_| StoreError::Cancelled)?;
                let response = answer.map_err(|failure| self.lost(&failure.error.to_string()))?;
                if !good.contains(&response.status()) {
                    let what = self.what.clone();
                    let target = self.to.target(&what);
                    return Err(self.to.writer.http.status_failure(&target, response).await.error.into());
                }
            }
            State::Chunks(location) => self.close(location, Bytes::new()).await?,
            State::New => {
                let what = self.what.clone();
                let (location, _) = self.to.begin(&self.to.target(&what), &self.blob).await?;
                let body = self.buffer.split().freeze();
                self.close(location, body).await?;
            }
        }
        self.to.writer.knows(self.blob.digest(), self.to.image.repository());
        Ok(())
    }
}

impl Upload {
    fn lost(&self, reason: &str) -> StoreError {
        StoreError::Lost { store: self.to.label(), reason: format!("{}: {reason}", self.what) }
    }

    /// Sends one chunk, and again what did not arrive of it.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let what = self.what.clone();
        let to = self.to.clone();
        let target = to.target(&what);
        let location = match &self.state {
            State::Chunks(location) => location.clone(),
            _ => {
                let (location, least) = to.begin(&target, &self.blob).await?;
                self.least = self.least.max(least.min(64 << 20));
                self.state = State::Chunks(location.clone());
                location
            }
        };
        let length = self.buffer.len().min(usize::try_from(self.least).unwrap_or(usize::MAX));
        let chunk = Bytes::copy_from_slice(&self.buffer[..length]);
        let mut raw = Raw::new(Method::PATCH, location.clone());
        raw.header(CONTENT_TYPE, "application/octet-stream");
        raw.header(CONTENT_RANGE, &format!("{}-{}", self.sent, self.sent + length as u64 - 1));
        raw.body = chunk;
        match to.once(&target, &raw, &[StatusCode::ACCEPTED, StatusCode::CREATED], to.patience(length)).await
        {
            Ok(response) => {
                self.state = State::Chunks(to.location(&target, &location, &response)?);
                // What it says it has counts; one that says nothing has it all.
                let end = self.sent + length as u64;
                let has = stated(response.headers()).filter(|n| *n < end && *n > self.sent).unwrap_or(end);
                self.arrived(has)?;
                self.retries.progressed();
                Ok(())
            }
            Err(failure) if self.sent == 0 && refuses_chunks(&failure.error) => self.whole(&target).await,
            Err(failure) => {
                let ask_now = matches!(
                    failure.error,
                    RegistryError::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }
                );
                if ask_now {
                    self.retries.wait(Failure::passing(failure.error)).await?;
                } else {
                    self.retries.wait(failure).await?;
                }
                self.catch_up(&target, &location).await
            }
        }
    }

    /// Asks how much of an upload is there, and goes on from that byte.
    async fn catch_up(&mut self, target: &Target<'_>, location: &Url) -> Result<(), StoreError> {
        let raw = Raw::new(Method::GET, location.clone());
        let good = [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
        let response = match self.to.ask(target, &raw, &good, self.to.patience(0)).await {
            Ok(response) => response,
            // A registry that was started anew may not know of uploads from before.
            Err(
                RegistryError::NotFound { .. } | RegistryError::Status { .. } | RegistryError::Denied { .. },
            ) => {
                return Err(self.lost("the registry has forgotten it"));
            }
            Err(other) => return Err(other.into()),
        };
        if let Ok(next) = self.to.location(target, location, &response) {
            self.state = State::Chunks(next);
        }
        let has = stated(response.headers()).unwrap_or(0);
        self.arrived(has)
    }

    /// The registry has this many bytes.
    fn arrived(&mut self, has: u64) -> Result<(), StoreError> {
        // `0-0` stands for one byte and for none (distribution): no registry keeps one byte of a chunk.
        let has = if has == 1 { 0 } else { has };
        let Some(more) = has.checked_sub(self.sent).filter(|n| *n <= self.buffer.len() as u64) else {
            return Err(self.lost(&format!("the registry has {has} bytes, and {} were sent", self.sent)));
        };
        let _ = self.buffer.split_to(usize::try_from(more).unwrap_or(0));
        self.sent = has;
        Ok(())
    }

    /// Begins anew with one request for all of it.
    async fn whole(&mut self, target: &Target<'_>) -> Result<(), StoreError> {
        let (mut location, _) = self.to.begin(target, &self.blob).await?;
        location.query_pairs_mut().append_pair("digest", &self.blob.digest().to_string());
        let (sender, receiver) = mpsc::channel::<Bytes>(4);
        let bytes = stream::unfold(receiver, |mut receiver| async move {
            Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
        });
        let mut raw = Raw::new(Method::PUT, location);
        raw.header(CONTENT_TYPE, "application/octet-stream");
        raw.header(CONTENT_LENGTH, &self.blob.size().to_string());
        let (writer, image, what) = (self.to.writer.clone(), self.to.image.clone(), self.what.clone());
        let body = Body::wrap_stream(bytes);
        let answer = tokio::spawn(async move {
            let to = writer.at(&image);
            writer.http.send_stream(&to.target(&what), &writer.client, &raw, body).await
        });
        self.state = State::Whole { body: sender, answer };
        Ok(())
    }

    async fn feed(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let State::Whole { body, .. } = &self.state else { return Ok(()) };
        let patience = self.to.patience(bytes.len());
        match tokio::time::timeout(patience, body.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.lost("the registry ended the upload or takes no more bytes")),
        }
    }

    /// The end of an upload, with what is left of its bytes.
    async fn close(&mut self, mut location: Url, body: Bytes) -> Result<(), StoreError> {
        location.query_pairs_mut().append_pair("digest", &self.blob.digest().to_string());
        let mut raw = Raw::new(Method::PUT, location);
        raw.header(CONTENT_TYPE, "application/octet-stream");
        raw.header(CONTENT_LENGTH, &body.len().to_string());
        let length = body.len();
        raw.body = body;
        let what = self.what.clone();
        let target = self.to.target(&what);
        let good = [StatusCode::CREATED, StatusCode::NO_CONTENT, StatusCode::ACCEPTED];
        match self.to.once(&target, &raw, &good, FINISH.max(self.to.patience(length))).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                self.retries.wait(failure).await?;
                // The answer may have been lost, and not the upload.
                if self.to.has("blobs", self.blob.digest()).await? {
                    return Ok(());
                }
                Err(self.lost("its end was not taken"))
            }
        }
    }
}

/// Whether a registry takes no chunks at all.
fn refuses_chunks(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Status { status, .. } | RegistryError::Server { status, .. }
        if matches!(status.as_u16(), 400 | 405 | 411 | 415 | 501))
}

/// How many bytes a registry has of an upload: `Range: 0-LAST`.
fn stated(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE).map(HeaderValue::to_str)?.ok()?;
    let text = text.trim().trim_start_matches("bytes=").trim_start_matches("bytes ");
    let last = text.strip_prefix("0-")?.split('/').next()?;
    last.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_is_read() {
        let has = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_str(text).unwrap());
            stated(&headers)
        };
        assert_eq!((has("0-99"), has("bytes=0-99"), has("0-0")), (Some(100), Some(100), Some(1)));
        assert_eq!(has("0-18446744073709551615"), None);
        for bad in ["", "5-9", "0-", "0-x"] {
            assert_eq!(has(bad), None, "{bad}");
        }
    }
}

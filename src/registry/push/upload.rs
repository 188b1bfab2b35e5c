//! One repository as something to write blobs to: what is elsewhere on the registry is mounted, what is not there is
//! sent in chunks, and after a cut the registry is asked how much it has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::event::Events;
use crate::oci::{Descriptor, Digest, Hasher, ImageRef};
use crate::registry::RegistryError;
use crate::registry::blob::Repository;
use crate::registry::http::{Http, Raw, Target};
use crate::registry::places::{self, Place};
use crate::registry::retry::{Failure, Retries};
use crate::store::{BlobSource, BlobStore, ByteStream, Ingest, StoreError, check};

/// A chunk must arrive at this many bytes a second at least, beside the time that a stall is given.
const SLOWEST: u64 = 10 * 1024;
/// For the answer to the end of an upload: a registry that keeps its blobs in object storage copies them then.
const FINISH: Duration = Duration::from_secs(600);

/// Which repositories of a registry have which blobs, as far as this run knows.
pub(super) type Homes = Arc<Mutex<BTreeMap<Digest, BTreeSet<String>>>>;

/// Write access to the repositories of one registry. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) http: Arc<Http>,
    place: Arc<Place>,
    client: reqwest::Client,
    events: Events,
    homes: Homes,
    /// One at a time: an index of referrers is read, added to and written.
    listing: Arc<tokio::sync::Mutex<()>>,
    /// Bytes.
    chunk: u64,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) writer: Writer,
    pub(super) image: ImageRef,
    /// Uploads that the registry began where it was to mount.
    opened: Arc<Mutex<BTreeMap<Digest, Url>>>,
}

impl Writer {
    pub(super) fn new(
        http: &Arc<Http>,
        registry: &str,
        chunk: u64,
        events: &Events,
    ) -> Result<Self, RegistryError> {
        let place = http.home(registry)?;
        // Bytes that are sent are no bytes that are read: a client that waits for those only would give up on them.
        let client = places::client(&http.options, &place.tls, None, None)?;
        let (http, events, homes) = (Arc::clone(http), Arc::clone(events), Homes::default());
        let listing = Arc::default();
        Ok(Self { http, place, client, events, homes, listing, chunk: chunk.max(1) })
    }

    pub(super) fn at(&self, image: &ImageRef) -> Destination {
        Destination { writer: self.clone(), image: image.clone(), opened: Arc::default() }
    }

    fn knows(&self, digest: &Digest, repository: &str) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.entry(digest.clone()).or_default().insert(repository.to_owned());
    }

    fn elsewhere(&self, digest: &Digest, repository: &str) -> Option<String> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.get(digest)?.iter().find(|r| *r != repository).cloned()
    }
}

impl Destination {
    fn target<'a>(&'a self, what: &'a str) -> Target<'a> {
        Target { push: Some(""), ..Target::new(&self.writer.place, self.image.repository(), what) }
    }

    /// Sends a request below `/v2/REPOSITORY/` until it is answered with one of `good` or is not worth another try.
    pub(super) async fn ask(
        &self,
        target: &Target<'_>,
        raw: &Raw,
        good: &[StatusCode],
        patience: Duration,
    ) -> Result<Response, RegistryError> {
        let mut retries = Retries::new(&self.writer.http.options.retries, target.what, &self.writer.events);
        loop {
            match self.once(target, raw, good, patience).await {
                Ok(response) => return Ok(response),
                Err(failure) => retries.wait(failure).await?,
            }
        }
    }

    async fn once(
        &self,
        target: &Target<'_>,
        raw: &Raw,
        good: &[StatusCode],
        patience: Duration,
    ) -> Result<Response, Failure> {
        let http = &self.writer.http;
        let asking = http.send(target, &self.writer.client, raw);
        let response = tokio::time::timeout(patience, asking).await.unwrap_or_else(|_| {
            let (what, registry) = (target.what.to_owned(), target.registry.to_owned());
            Err(Failure::passing(RegistryError::Timeout { what, registry, seconds: patience.as_secs() }))
        })?;
        if good.contains(&response.status()) {
            return Ok(response);
        }
        Err(http.status_failure(target, response).await)
    }

    fn patience(&self, bytes: usize) -> Duration {
        self.writer.http.options.stall_timeout + Duration::from_secs(bytes as u64 / SLOWEST)
    }

    /// Whether a blob is there; `kind` is `blobs` or `manifests`.
    pub(super) async fn has(&self, kind: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let what = format!("{digest} of {}", self.image.name());
        let target = self.target(&what);
        let raw = Raw::new(Method::HEAD, self.url(&target, &format!("{kind}/{digest}"))?);
        match self.ask(&target, &raw, &[StatusCode::OK], self.patience(0)).await {
            Ok(_) => {
                self.writer.knows(digest, self.image.repository());
                Ok(true)
            }
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Lets the registry take a blob over from another repository that has it; false where it does not.
    pub(super) async fn mount(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        let Some(from) = self.writer.elsewhere(blob.digest(), self.image.repository()) else {
            return Ok(false);
        };
        let what = format!("{} of {}", blob.digest(), self.image.name());
        let target = Target { push: Some(&from), ..self.target(&what) };
        let mut url = self.url(&target, "blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &blob.digest().to_string()).append_pair("from", &from);
        let raw = Raw::new(Method::POST, url.clone());
        // Whoever may not read there cannot mount from there, and can still push.
        let Ok(response) =
            self.once(&target, &raw, &[StatusCode::CREATED, StatusCode::ACCEPTED], self.patience(0)).await
        else {
            return Ok(false);
        };
        if response.status() == StatusCode::CREATED {
            self.writer.knows(blob.digest(), self.image.repository());
            return Ok(true);
        }
        if let Ok(location) = self.location(&target, &url, &response) {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.insert(blob.digest().clone(), location);
        }
        Ok(false)
    }

    /// Puts a manifest under a digest or a tag.
    pub(super) async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<HeaderMap, RegistryError> {
        let what = format!("{}: manifest {reference}", self.image.name());
        let target = self.target(&what);
        let mut raw = Raw::new(Method::PUT, self.url(&target, &format!("manifests/{reference}"))?);
        raw.header(CONTENT_TYPE, media_type);
        raw.body = bytes.clone();
        let good = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED];
        let response = self.ask(&target, &raw, &good, self.patience(bytes.len())).await?;
        Ok(response.headers().clone())
    }

    /// Adds a manifest to the index under the tag that stands in for the referrers API (distribution-spec 1.1,
    /// "Referrers Tag Schema").
    pub(super) async fn list_referrer(
        &self,
        subject: &Digest,
        document: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let tag = subject.to_string().replace(':', "-");
        let image: Result<ImageRef, _> = format!("{}:{tag}", self.image.name()).parse();
        let Ok(image) = image else { return Ok(()) };
        let _alone = self.writer.listing.lock().await;
        let mut index = self.index_at(&tag).await?;
        let said: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mut entry = serde_json::json!({
            "mediaType": document.media_type(), "digest": document.digest(), "size": document.size(),
        });
        let kind = said.get("artifactType").or_else(|| said.get("config").and_then(|c| c.get("mediaType")));
        for (key, value) in [("artifactType", kind), ("annotations", said.get("annotations"))] {
            if let Some(value) = value {
                entry[key] = value.clone();
            }
        }
        let what = format!("{image}: referrers");
        let wrong = || self.target(&what).protocol("an index of referrers that is none".to_owned());
        let entries = index.get_mut("manifests").and_then(|m| m.as_array_mut()).ok_or_else(wrong)?;
        if entries.iter().any(|e| e.get("digest") == entry.get("digest")) {
            return Ok(());
        }
        entries.push(entry);
        let text = serde_json::to_vec(&index).map_err(|e| self.target(&what).protocol(e.to_string()))?;
        self.put_manifest(&tag, crate::oci::media::OCI_INDEX, &text.into()).await.map(drop)
    }

    async fn index_at(&self, tag: &str) -> Result<serde_json::Value, RegistryError> {
        let what = format!("{}:{tag}", self.image.name());
        let target = self.target(&what);
        let mut raw = Raw::new(Method::GET, self.url(&target, &format!("manifests/{tag}"))?);
        raw.header(reqwest::header::ACCEPT, crate::oci::media::OCI_INDEX);
        let mut response = match self.ask(&target, &raw, &[StatusCode::OK], self.patience(0)).await {
            Err(RegistryError::NotFound { .. }) => {
                let media_type = crate::oci::media::OCI_INDEX;
                return Ok(serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []}));
            }
            other => other?,
        };
        let limit = usize::try_from(crate::oci::MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
        let body = crate::registry::http::read_bounded(&mut response, limit).await;
        let body = body.map_err(|e| self.writer.http.failure(&target, &e).error)?.unwrap_or_default();
        serde_json::from_slice(&body).map_err(|e| target.protocol(format!("an index that is not JSON: {e}")))
    }

    /// The digest that a tag stands for, if it is there.
    pub(super) async fn tagged(&self, tag: &str) -> Result<Option<Digest>, RegistryError> {
        let what = format!("{}:{tag}", self.image.name());
        let target = self.target(&what);
        let mut raw = Raw::new(Method::HEAD, self.url(&target, &format!("manifests/{tag}"))?);
        raw.header(reqwest::header::ACCEPT, &crate::oci::media::ACCEPT.join(", "));
        match self.ask(&target, &raw, &[StatusCode::OK], self.patience(0)).await {
            Ok(response) => {
                let value = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
                Ok(value.and_then(|v| v.parse().ok()))
            }
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn url(&self, target: &Target<'_>, path: &str) -> Result<Url, RegistryError> {
        Url::parse(&target.url(path)).map_err(|e| target.protocol(format!("a path that is no URL: {e}")))
    }

    /// Where an upload goes on. Relative ones are allowed, other places only for who keeps the login to itself.
    fn location(&self, target: &Target<'_>, asked: &Url, response: &Response) -> Result<Url, RegistryError> {
        let text = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let text = text.ok_or_else(|| target.protocol("an upload without a Location".to_owned()))?;
        let url = asked.join(text).map_err(|e| target.protocol(format!("a Location that is no URL: {e}")))?;
        match (asked.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => Ok(url),
            ("https", "http") => Err(target.protocol(
                "it is reached by HTTPS and wants uploads by plain HTTP: its own idea of its address (externalURL, http.host) is wrong"
                    .to_owned(),
            )),
            _ => Err(target.protocol("a Location that is neither http nor https".to_owned())),
        }
    }

    async fn begin(&self, target: &Target<'_>, blob: &Descriptor) -> Result<(Url, u64), RegistryError> {
        let open = self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(blob.digest());
        if let Some(open) = open {
            return Ok((open, 0));
        }
        let url = self.url(target, "blobs/uploads/")?;
        let mut raw = Raw::new(Method::POST, url.clone());
        raw.header(CONTENT_LENGTH, "0");
        let response = self.ask(target, &raw, &[StatusCode::ACCEPTED], self.patience(0)).await?;
        let least =
            response.headers().get("oci-chunk-min-length").and_then(|v| v.to_str().ok()?.parse().ok());
        Ok((self.location(target, &url, &response)?, least.unwrap_or(0)))
    }
}

#[async_trait]
impl BlobSource for Destination {
    fn label(&self) -> String {
        format!("registry {}", self.image.registry())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Repository::new(Arc::clone(&self.writer.http), &self.image, &self.writer.events).size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let all = Repository::new(Arc::clone(&self.writer.http), &self.image, &self.writer.events);
        all.read(blob, range).await
    }
}

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

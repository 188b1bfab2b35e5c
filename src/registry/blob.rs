//! Blobs of one repository as a [`BlobSource`]: streams that go on where a connection broke off.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use oci_client::client::BlobResponse;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::bodies::Unopened;
use super::http::{Call, Http, Target};
use super::places::{Place, Use};
use super::retry::{Failure, Retries};
use super::{RegistryError, error};
use crate::event::{Event, Events};
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest, ImageRef};
use crate::store::{BlobSource, ByteStream, StoreError};

/// Progress of less than this does not start the count of failures anew: a registry that gives a byte a connection
/// is given up too.
const PROGRESS: u64 = 64 * 1024;

/// The blobs and manifests of one repository. Bytes are not verified here.
#[derive(Clone)]
pub struct Repository {
    http: Arc<Http>,
    image: ImageRef,
    events: Events,
    documents: Arc<BTreeMap<Digest, Bytes>>,
}

impl Repository {
    pub(super) fn new(http: Arc<Http>, image: &ImageRef, events: &Events) -> Self {
        Self { http, image: image.clone(), events: events.clone(), documents: Arc::default() }
    }

    /// Answers these from memory: what [`crate::graph::ImageGraph::documents`] holds was read before, and some
    /// registries count every manifest that is fetched.
    #[must_use]
    pub fn with_documents(mut self, documents: BTreeMap<Digest, Bytes>) -> Self {
        self.documents = Arc::new(documents);
        self
    }

    fn what(&self, digest: &Digest) -> String {
        format!("blob {digest} of {}", self.image.name())
    }

    /// Who may have a blob, the likeliest first; none that gave wrong bytes for it before, unless it is the last.
    fn who(&self, digest: &Digest) -> Result<Vec<Arc<Place>>, RegistryError> {
        let mut who = self.http.places(self.image.registry())?.who(Use::Pull);
        let last = self.http.home(self.image.registry())?;
        who.retain(|place| !Arc::ptr_eq(place, &last) && !self.http.is_blamed(digest, place));
        who.push(last);
        Ok(who)
    }

    async fn head(&self, kind: &str, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let what = self.what(digest);
        let call = Call { method: Method::HEAD, path: format!("{kind}/{digest}"), range: None };
        let who = self.who(digest)?;
        let last = who.len().saturating_sub(1);
        for (n, place) in who.iter().enumerate() {
            let target = Target::new(place, self.image.repository(), &what);
            let _slot = place.slot().await;
            let asked = if n < last {
                self.http.once(&target, &call).await.map_err(|failure| failure.error)
            } else {
                self.http.retrying(&what, &self.events, || self.http.once(&target, &call)).await
            };
            match asked {
                Ok(response) => {
                    let missing = || target.protocol("a HEAD answer without Content-Length".to_owned());
                    return content_length(response.headers()).map(Some).ok_or_else(missing);
                }
                Err(error) if n < last => self.http.passed_over(&target, &self.image, &error, &self.events),
                Err(RegistryError::NotFound { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Repository").field(&self.image.name()).finish()
    }
}

#[async_trait]
impl BlobSource for Repository {
    fn label(&self) -> String {
        format!("registry {}", self.image.registry())
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        if let Some(document) = self.documents.get(digest) {
            return Ok(Some(document.len() as u64));
        }
        // A digest does not tell whether it is a manifest, and registries keep these apart.
        match self.head("blobs", digest).await? {
            Some(size) => Ok(Some(size)),
            None => Ok(self.head("manifests", digest).await?),
        }
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let size_error = |found: u64| StoreError::SizeMismatch {
            digest: blob.digest().clone(),
            expected: range.end,
            found,
            store: self.label(),
        };
        if range.start > range.end || range.end > blob.size() {
            return Err(size_error(blob.size()));
        }
        if range.is_empty() {
            return Ok(Box::pin(stream::empty()));
        }
        if let Some(document) = self.documents.get(blob.digest()) {
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            if at(range.end) > document.len() {
                return Err(size_error(document.len() as u64));
            }
            let part = document.slice(at(range.start)..at(range.end));
            return Ok(Box::pin(stream::iter([Ok(part)])));
        }
        let kind = if blob.kind() == Kind::Blob { "blobs" } else { "manifests" };
        let what = self.what(blob.digest());
        let who = self.who(blob.digest())?;
        let mut reader = Reader {
            retries: Retries::new(&self.http.options.retries, &what, &self.events),
            repository: self.clone(),
            path: format!("{kind}/{}", blob.digest()),
            blob: blob.clone(),
            what,
            at: range.start,
            end: range.end,
            body: None,
            who,
            place: 0,
            // `oci-client` reads manifests whole, into memory and without a limit.
            own: blob.kind() != Kind::Blob,
            refused: None,
            fresh: 0,
        };
        // Opened here, so that a blob that is not there is told before the first byte is asked for.
        reader.connect().await?;
        Ok(Box::pin(stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        })))
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let Some(mirror) = self.http.blame(blob.digest()) else { return Ok(false) };
        let reason = format!("it gave wrong bytes for {}; they were thrown away", blob.digest());
        self.events.emit(Event::MirrorFailed { image: self.image.name(), mirror, reason });
        Ok(true)
    }
}

/// A body being read, and how many of its bytes come before the first one that is wanted.
struct Body {
    bytes: BoxStream<'static, io::Result<Bytes>>,
    skip: u64,
    /// Whether it goes on behind the end of the range, as the whole blob does where `Range` is ignored.
    longer: bool,
    /// Counts as a request under way until the body is dropped.
    slot: Option<OwnedSemaphorePermit>,
}

struct Reader {
    repository: Repository,
    retries: Retries,
    blob: Descriptor,
    path: String,
    what: String,
    at: u64,
    end: u64,
    body: Option<Body>,
    /// Who is asked, in this order, and who is asked now.
    who: Vec<Arc<Place>>,
    place: usize,
    /// Whether the next request is our own instead of one by `oci-client`.
    own: bool,
    /// The login that `oci-client` was refused with, until our own request shows whether the login is bad.
    refused: Option<u64>,
    /// Bytes since the last failure.
    fresh: u64,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.at == self.end {
            return self.finish().await;
        }
        loop {
            self.connect().await?;
            let place = self.asked()?;
            let Some(body) = self.body.as_mut() else { continue };
            let target = Target::new(&place, self.repository.image.repository(), &self.what);
            let failure = match body.bytes.next().await {
                Some(Ok(mut chunk)) => {
                    let skip = body.skip.min(chunk.len() as u64);
                    body.skip -= skip;
                    let chunk = chunk.split_off(usize::try_from(skip).unwrap_or(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    return self.take(chunk).map(Some);
                }
                // What is no failure of the connection is the digest that `oci-client` computes of whole blobs, told
                // when a body ends: whoever takes the bytes verifies them, here it has ended too early.
                ended => match ended.as_ref().and_then(|e| connection_error(e.as_ref().err()?)) {
                    Some(error) => self.repository.http.failure(&target, error),
                    None => {
                        let (what, registry) = (self.what.clone(), target.registry.to_owned());
                        let reason = format!("the body ended at byte {} of {}", self.at, self.end);
                        Failure::passing(RegistryError::Network { what, registry, reason })
                    }
                },
            };
            self.body = None;
            self.pause(failure).await?;
        }
    }

    fn take(&mut self, mut chunk: Bytes) -> Result<Bytes, StoreError> {
        let wanted = self.end - self.at;
        if chunk.len() as u64 > wanted {
            if !self.body.as_ref().is_some_and(|b| b.longer) {
                return Err(self.size_mismatch(self.at + chunk.len() as u64));
            }
            chunk.truncate(usize::try_from(wanted).unwrap_or(chunk.len()));
        }
        self.at += chunk.len() as u64;
        self.fresh += chunk.len() as u64;
        if self.fresh >= PROGRESS {
            self.retries.progressed();
        }
        Ok(chunk)
    }

    /// All that was asked for is there: nothing may follow.
    async fn finish(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(mut body) = self.body.take().filter(|b| !b.longer) else { return Ok(None) };
        match body.bytes.next().await {
            Some(Ok(more)) if !more.is_empty() => Err(self.size_mismatch(self.end + more.len() as u64)),
            // The bytes are complete and will be verified: how the connection ends does not matter.
            _ => Ok(None),
        }
    }

    async fn pause(&mut self, failure: Failure) -> Result<(), StoreError> {
        self.fresh = 0;
        if self.step_aside(&failure.error) {
            return Ok(());
        }
        Ok(self.retries.wait(failure).await?)
    }

    fn asked(&self) -> Result<Arc<Place>, StoreError> {
        let nobody = || StoreError::Remote(format!("{}: there is nobody to ask", self.what));
        self.who.get(self.place).cloned().ok_or_else(nobody)
    }

    /// Goes on with the next host, from the byte where this one left off; false where there is none.
    fn step_aside(&mut self, why: &RegistryError) -> bool {
        let (Ok(place), true) = (self.asked(), self.place + 1 < self.who.len()) else { return false };
        let target = Target::new(&place, self.repository.image.repository(), &self.what);
        let Repository { http, image, events, .. } = &self.repository;
        http.passed_over(&target, image, why, events);
        (self.place, self.body, self.refused) = (self.place + 1, None, None);
        self.own = self.blob.kind() != Kind::Blob;
        true
    }

    /// Asks for the bytes from where we are, until there is a body.
    async fn connect(&mut self) -> Result<(), StoreError> {
        while self.body.is_none() {
            if let Err(error) = self.ask().await {
                // What one host does not have or has wrong another may have right.
                let why = RegistryError::Protocol {
                    what: self.what.clone(),
                    registry: self.asked()?.name.clone(),
                    reason: error.to_string(),
                };
                if !self.step_aside(&why) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// One request.
    async fn ask(&mut self) -> Result<(), StoreError> {
        let http = Arc::clone(&self.repository.http);
        let (image, what, place) = (self.repository.image.clone(), self.what.clone(), self.asked()?);
        let target = Target::new(&place, image.repository(), &what);
        let slot = place.slot().await;
        if !self.own {
            // To the end of the blob without saying where that is: then the length of the answer tells which
            // part it is, and how large the registry's blob.
            let length = (self.end < self.blob.size()).then_some(self.end - self.at);
            match http.open(&target, self.blob.digest(), self.at, length).await {
                Ok(response) => {
                    self.body = self.accept_streamed(response)?;
                    self.own = self.body.is_none();
                }
                Err(Unopened::Failed(failure)) => {
                    drop(slot);
                    return self.pause(failure).await;
                }
                Err(Unopened::Ask { refused }) => (self.own, self.refused) = (true, refused),
            }
        } else {
            let range = (!self.is_whole()).then_some(self.at..self.end);
            let call = Call { method: Method::GET, path: self.path.clone(), range };
            match http.once(&target, &call).await {
                Ok(response) => {
                    self.body = Some(self.accept(&target, response)?);
                    self.own = self.blob.kind() != Kind::Blob;
                    if let Some(refused) = self.refused.take() {
                        http.unfit(&target, refused).await;
                    }
                }
                Err(Failure { error: RegistryError::NotFound { .. }, .. }) => {
                    let (digest, store) = (self.blob.digest().clone(), format!("registry {}", place.name));
                    return Err(StoreError::NotFound { digest, store });
                }
                Err(Failure { error: RegistryError::Status { status, .. }, .. })
                    if status == StatusCode::RANGE_NOT_SATISFIABLE =>
                {
                    return Err(self.size_mismatch(self.at));
                }
                Err(failure) => {
                    drop(slot);
                    return self.pause(failure).await;
                }
            }
        }
        if let Some(body) = &mut self.body {
            body.slot = slot;
            http.served(&target, &image, &self.repository.events);
            http.serves(self.blob.digest(), &place);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.at == 0 && self.end == self.blob.size()
    }

    /// Checks what `oci-client` tells of an answer. `Content-Range` is not among it: a part whose length does not show
    /// which one it is (`None`) is left to our own request, which sees that header.
    fn accept_streamed(&self, response: BlobResponse) -> Result<Option<Body>, StoreError> {
        match response {
            BlobResponse::Full(all) => {
                if let Some(length) = all.content_length.filter(|l| *l != self.blob.size()) {
                    return Err(self.size_mismatch(length));
                }
                let longer = self.end < self.blob.size();
                Ok(Some(Body { bytes: all.stream, skip: self.at, longer, slot: None }))
            }
            BlobResponse::Partial(part) => {
                let fits = part.content_length.map_or(self.is_whole(), |l| l == self.end - self.at);
                Ok(fits.then_some(Body { bytes: part.stream, skip: 0, longer: false, slot: None }))
            }
        }
    }

    /// Checks what the head of an answer to our own request says about its body.
    fn accept(&self, target: &Target<'_>, response: Response) -> Result<Body, StoreError> {
        let length = content_length(response.headers());
        let body = |response: Response, skip, longer| Body {
            bytes: response.bytes_stream().map_err(io::Error::other).boxed(),
            skip,
            longer,
            slot: None,
        };
        if response.status() == StatusCode::OK {
            // The whole blob, whatever part of it was asked for.
            if let Some(length) = length.filter(|l| *l != self.blob.size()) {
                return Err(self.size_mismatch(length));
            }
            return Ok(body(response, self.at, self.end < self.blob.size()));
        }
        let given = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
        let wrong = |given: &str| {
            let said = error::said(given);
            let wanted = format!("bytes {}-{}", self.at, self.end - 1);
            StoreError::from(target.protocol(format!("asked for {wanted}, it gives another range{said}")))
        };
        let given = given.ok_or_else(|| wrong(""))?;
        let (part, total) = content_range(given).ok_or_else(|| wrong(given))?;
        if let Some(total) = total.filter(|t| *t != self.blob.size()) {
            return Err(self.size_mismatch(total));
        }
        // Less than asked for is allowed: the rest is asked for when it ends.
        if part.start != self.at || part.end > self.end {
            return Err(wrong(given));
        }
        Ok(body(response, 0, false))
    }

    fn size_mismatch(&self, found: u64) -> StoreError {
        StoreError::SizeMismatch {
            digest: self.blob.digest().clone(),
            expected: self.blob.size(),
            found,
            store: self.repository.label(),
        }
    }
}

/// What `reqwest` said, in `oci-client`'s streams as in ours.
fn connection_error(error: &io::Error) -> Option<&reqwest::Error> {
    error.get_ref()?.downcast_ref()
}

/// From the header itself: a client's own idea of the length is 0 for an answer to HEAD.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `bytes FIRST-LAST/TOTAL` (RFC 9110, 14.4) as a half-open range; the total may be `*`.
fn content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u64>().ok()).flatten();
    let (unit, rest) = value.trim().split_once(' ')?;
    let (part, total) = rest.trim().split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    let good = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|t| last < t);
    good.then_some((first..last.checked_add(1)?, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/20"), Some((5..10, Some(20))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0..1, None)));
        for bad in ["", "bytes", "bytes */20", "bytes 9-5/20", "bytes 5-20/20", "lines 1-2/3", "bytes +1-2/3"]
        {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        assert_eq!(content_range(&format!("bytes 0-{}/*", u64::MAX)), None);
    }

    proptest! {
        #[test]
        fn well_formed_ranges_are_read(first in 0..u64::MAX / 4, more in 0..1000u64, rest in 1..1000u64) {
            let (last, total) = (first + more, first + more + rest);
            let text = format!("bytes {first}-{last}/{total}");
            prop_assert_eq!(content_range(&text), Some((first..last + 1, Some(total))));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,60}") {
            let _ = content_range(&text);
        }
    }
}

//! One repository to be written to: what is there, what is mounted, manifests and tags.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use crate::event::Events;
use crate::oci::{Descriptor, Digest, ImageRef};
use crate::registry::RegistryError;
use crate::registry::blob::Repository;
use crate::registry::http::{Http, Target};
use crate::registry::places::{self, Place};
use crate::registry::retry::{Failure, Retries};
use crate::registry::write::Raw;
use crate::store::{BlobSource, ByteStream, StoreError};

/// A chunk must arrive at this many bytes a second at least, beside the time that a stall is given.
const SLOWEST: u64 = 10 * 1024;

/// Which repositories of a registry have which blobs, as far as this run knows.
pub(super) type Homes = Arc<Mutex<BTreeMap<Digest, BTreeSet<String>>>>;

/// Write access to the repositories of one registry. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) http: Arc<Http>,
    place: Arc<Place>,
    pub(super) client: reqwest::Client,
    pub(super) events: Events,
    homes: Homes,
    /// One at a time: an index of referrers is read, added to and written.
    listing: Arc<tokio::sync::Mutex<()>>,
    /// Bytes.
    pub(super) chunk: u64,
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

    pub(super) fn knows(&self, digest: &Digest, repository: &str) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.entry(digest.clone()).or_default().insert(repository.to_owned());
    }

    /// It was only thought to be there.
    fn lacks(&self, digest: &Digest, repository: &str) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.entry(digest.clone()).or_default().remove(repository);
    }

    fn elsewhere(&self, digest: &Digest, repository: &str) -> Option<String> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.get(digest)?.iter().find(|r| *r != repository).cloned()
    }
}

impl Destination {
    pub(super) fn target<'a>(&'a self, what: &'a str) -> Target<'a> {
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

    pub(super) async fn once(
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

    pub(super) fn patience(&self, bytes: usize) -> Duration {
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

    /// Whether another repository is thought to have a blob.
    pub(super) fn may_mount(&self, blob: &Descriptor) -> bool {
        self.writer.elsewhere(blob.digest(), self.image.repository()).is_some()
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
            self.writer.lacks(blob.digest(), &from);
            return Ok(false);
        };
        if response.status() == StatusCode::CREATED {
            self.writer.knows(blob.digest(), self.image.repository());
            return Ok(true);
        }
        self.writer.lacks(blob.digest(), &from);
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
    pub(super) fn location(
        &self,
        target: &Target<'_>,
        asked: &Url,
        response: &Response,
    ) -> Result<Url, RegistryError> {
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

    pub(super) async fn begin(
        &self,
        target: &Target<'_>,
        blob: &Descriptor,
    ) -> Result<(Url, u64), RegistryError> {
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

//! Registries (OCI distribution-spec 1.1) as something to read from: names become digests, digests become graphs
//! and streams of bytes.
//!
//! A registry is hostile until its bytes are verified. What is held in memory is bounded before it is read
//! (manifests, configs, tokens, error texts); what is large is streamed and verified by whoever writes it; a login
//! is only sent to the registry that it is for, and to the token service that this registry names.
//!
//! # Who makes which request
//!
//! Blobs are streamed by `oci-client`: four at once by default, each from the byte on where it broke off, verified
//! by whoever writes them. One client of it serves all repositories; it is given the login that is good for each and
//! makes no request but the one for the blob.
//!
//! All else is asked for by requests of our own, on the same `reqwest`, for `oci-client` 0.18
//!
//! - reads manifests, configs, tokens and the bodies of errors whole, however long a registry makes them; here all of
//!   them have a limit. Of a blob's error it is only time that limits how much is read (five seconds, then it is
//!   dropped), and the first request to every repository is our own;
//! - shows neither status nor headers of a failure, so that `Retry-After` could not be obeyed nor a new token be asked
//!   for: after a refusal the same request is made once more by our own code, which says what is wrong, or, when
//!   nothing is, streams this one answer itself;
//! - does not show `Content-Range`: which part of a blob an answer holds is told by its length, and where that fits
//!   nothing our own code asks again;
//! - reads one challenge of one form, and goes on without a login when a login fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LINK};
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Events};
use crate::graph::{ImageGraph, Step, Walk};
use crate::oci::media::{self, Kind};
use crate::oci::{Descriptor, Digest, Hasher, ImageRef, MAX_MANIFEST_BYTES, Platform};

mod auth;
mod blob;
mod bodies;
mod credentials;
mod error;
mod hosts;
mod http;
mod options;
mod places;
mod push;
mod referrers;
mod retry;
mod told;
mod write;

#[doc(hidden)]
pub use auth::parse_challenge;
pub use blob::Repository;
pub use credentials::{Credentials, Kept, Login, Providers, Secret, forget, keep};
pub use error::RegistryError;
pub use hosts::{Host, HostRules, HostTls, Hosts, parse_hosts_toml};
pub use options::RegistryOptions;
pub use push::{
    Mapping, PushError, PushImage, PushOptions, PushReport, PushState, PushedImage, Unsure, push,
};
pub use referrers::Referrer;
pub use retry::RetryOptions;

use http::{Call, Http, Target};
use places::Use;
use retry::Failure;

/// The largest image config that is read. Real ones have some kilobytes.
pub const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// Tags of one repository.
pub const MAX_TAGS: usize = 20_000;

/// Documents of one image. The largest real index has about 60 entries, so 2 documents each and itself.
const MAX_DOCUMENTS: usize = 1024;
/// Bytes of all documents of one image.
const MAX_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// A client of any number of registries. Cheap to clone; connections and tokens are shared by the clones.
///
/// Proxies are taken from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and their lower-case forms).
#[derive(Clone)]
pub struct Registry {
    http: Arc<Http>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.http.options).finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads the CA files; no request is made. Installs the process's TLS provider if there is none yet.
    ///
    /// # Errors
    /// [`RegistryError::CaFile`], [`RegistryError::Client`].
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        Ok(Self { http: Arc::new(Http::new(options)?) })
    }

    /// As given to [`Registry::new`].
    pub fn options(&self) -> &RegistryOptions {
        &self.http.options
    }

    /// What a name stands for: type, digest and size of its index or manifest. A digest in the name wins over a tag
    /// beside it, as with Docker, and is then verified against the bytes; of a tag only the head is asked for, which
    /// registries with rate limits do not count, so that its answer is as good as the registry's word.
    ///
    /// # Errors
    /// Any [`RegistryError`]; passing failures were tried again before.
    pub async fn resolve(
        &self,
        image: &ImageRef,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Descriptor, RegistryError> {
        until_cancelled(cancel, async {
            if image.digest().is_none()
                && let Some(root) = self.head(image, events).await
            {
                return Ok(root);
            }
            self.root(image, events).await.map(|(root, _)| root)
        })
        .await
    }

    /// All that belongs to an image for the given platforms (empty: all that it has). Every document in it is
    /// verified. `events` hears of retries.
    ///
    /// # Errors
    /// Any [`RegistryError`]; passing failures were tried again before.
    pub async fn graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<ImageGraph, RegistryError> {
        until_cancelled(cancel, self.walk(image, platforms, events)).await
    }

    /// The tags of the image's repository, at most [`MAX_TAGS`], in the registry's order.
    ///
    /// # Errors
    /// Any [`RegistryError`]; passing failures were tried again before.
    pub async fn tags(
        &self,
        image: &ImageRef,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        until_cancelled(cancel, async {
            let what = format!("tags of {}", image.name());
            let mut all: Vec<String> = Vec::new();
            loop {
                let query = all.last().map(|last| format!("&last={last}")).unwrap_or_default();
                let path = format!("tags/list?n=1000{query}");
                let ask = Ask { image, what: &what, path, limit: MAX_MANIFEST_BYTES, purpose: Use::Resolve };
                let read = |target: &Target<'_>, headers: &HeaderMap, bytes: Bytes| {
                    let page: Page = serde_json::from_slice(&bytes)
                        .map_err(|e| target.protocol(format!("a list of tags that is not JSON: {e}")))?;
                    Ok((page.tags.unwrap_or_default(), headers.contains_key(LINK)))
                };
                let (page, more) = self.fetch(ask, events, read).await?;
                // A tag is part of the next request: what is none could be anything.
                let fresh = page.into_iter().filter(|t| is_tag(t) && all.last() != Some(t));
                let before = all.len();
                all.extend(fresh.collect::<Vec<_>>());
                if all.len() == before || all.len() >= MAX_TAGS || !more {
                    all.truncate(MAX_TAGS);
                    return Ok(all);
                }
            }
        })
        .await
    }

    /// Whether a registry (`HOST[:PORT]`) can be used with the login that is known for it; false when it lets
    /// everybody in and asked for none.
    ///
    /// # Errors
    /// Any [`RegistryError`]; [`RegistryError::Unauthorized`] when the login is not taken.
    pub async fn check_login(
        &self,
        registry: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<bool, RegistryError> {
        until_cancelled(cancel, async {
            let home = self.http.home(registry)?;
            let target = Target::new(&home, "", "login");
            let call = Call { method: Method::GET, path: String::new(), range: None };
            self.http.retrying("login", events, || self.http.once(&target, &call)).await?;
            Ok(self.http.session(&target).lock().await.login.is_some())
        })
        .await
    }

    /// The image's repository as a source of blobs. `events` hears of retries.
    pub fn repository(&self, image: &ImageRef, events: &Events) -> Repository {
        Repository::new(Arc::clone(&self.http), image, events)
    }

    async fn walk(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        events: &Events,
    ) -> Result<ImageGraph, RegistryError> {
        let root = self.root(image, events).await?;
        self.walk_from(image, root, platforms, events).await
    }

    /// As [`Registry::walk`], from a root that is known.
    async fn walk_from(
        &self,
        image: &ImageRef,
        (root, bytes): (Descriptor, Bytes),
        platforms: &[Platform],
        events: &Events,
    ) -> Result<ImageGraph, RegistryError> {
        let (mut documents, mut budget) = (1usize, MAX_DOCUMENT_BYTES);
        let mut walk = Walk::new(image.clone(), root.clone(), platforms);
        if self.http.options.foreign_layers {
            walk = walk.with_foreign();
        }
        walk.give(root.digest(), bytes);
        loop {
            let mut need = match walk.step()? {
                Step::Done(graph) => {
                    if let Some(layer) = graph.blobs.iter().find(|b| media::is_foreign_layer(b.media_type()))
                    {
                        let digest = layer.digest();
                        let message = format!(
                            "{image}: layer {digest} is a foreign layer, which its publisher does not want redistributed; it is taken, as --foreign-layers says"
                        );
                        events.emit(Event::Warning { message });
                    }
                    return Ok(*graph);
                }
                Step::Need(need) => need,
            };
            need.sort_by(|a, b| a.digest().cmp(b.digest()));
            need.dedup_by(|a, b| a.digest() == b.digest());
            documents += need.len();
            let size = need.iter().fold(0u64, |sum, d| sum.saturating_add(d.size()));
            if documents > MAX_DOCUMENTS || size > budget {
                let limit = format!("{MAX_DOCUMENTS} documents or {MAX_DOCUMENT_BYTES} bytes of one image");
                let (what, registry) = (image.to_string(), image.registry().to_owned());
                return Err(RegistryError::TooLarge { what, registry, limit });
            }
            budget -= size;
            let reads = need
                .into_iter()
                .map(|d| async move { self.document(image, &d, events).await.map(|bytes| (d, bytes)) });
            let mut reads = stream::iter(reads).buffer_unordered(self.http.options.concurrency.max(1));
            while let Some(read) = reads.next().await {
                let (descriptor, bytes) = read?;
                walk.give(descriptor.digest(), bytes);
            }
        }
    }

    /// The answer to HEAD, if it says all that is needed. Whatever is wrong is tried again and told by the GET that
    /// follows.
    async fn head(&self, image: &ImageRef, events: &Events) -> Option<Descriptor> {
        let what = image.to_string();
        for place in self.http.places(image.registry()).ok()?.who(Use::Resolve) {
            let target = Target::new(&place, image.repository(), &what);
            let call = Call { method: Method::HEAD, path: manifest_path(image), range: None };
            let _slot = place.slot().await;
            match self.http.once(&target, &call).await {
                Ok(response) => {
                    let headers = response.headers();
                    let size = blob::content_length(headers).filter(|size| *size <= MAX_MANIFEST_BYTES);
                    let media_type = content_type(headers).filter(|t| media::kind(t) != Kind::Blob);
                    if let (Some(size), Some(media_type), Some(digest)) =
                        (size, media_type, stated_digest(headers))
                    {
                        self.http.served(&target, image, events);
                        return Some(Descriptor::new(media_type, digest, size));
                    }
                }
                Err(failure) if !place.upstream => {
                    self.http.passed_over(&target, image, &failure.error, events);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// The index or manifest that a name stands for, verified against the digest of the name, or the one that the
    /// registry states.
    async fn root(&self, image: &ImageRef, events: &Events) -> Result<(Descriptor, Bytes), RegistryError> {
        let what = image.to_string();
        let purpose = if image.digest().is_some() { Use::Pull } else { Use::Resolve };
        let ask = Ask { image, what: &what, path: manifest_path(image), limit: MAX_MANIFEST_BYTES, purpose };
        let read = |target: &Target<'_>, headers: &HeaderMap, bytes: Bytes| {
            let expected = image.digest().cloned().or_else(|| stated_digest(headers));
            let digest = match expected {
                Some(expected) => verified(target, &expected, &bytes)?,
                None => Digest::sha256(&bytes),
            };
            let media_type = match content_type(headers).filter(|t| media::kind(t) != Kind::Blob) {
                Some(known) => known,
                // Files behind a web server: the document says itself what it is.
                None => stated_type(&bytes).or_else(|| content_type(headers)).unwrap_or_default(),
            };
            Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes))
        };
        self.fetch(ask, events, read).await
    }

    /// A manifest, index or config by its descriptor, verified.
    async fn document(
        &self,
        image: &ImageRef,
        descriptor: &Descriptor,
        events: &Events,
    ) -> Result<Bytes, RegistryError> {
        let (kind, limit, word) = match descriptor.kind() {
            Kind::Blob => ("blobs", MAX_CONFIG_BYTES, "config"),
            _ => ("manifests", MAX_MANIFEST_BYTES, "manifest"),
        };
        let what = format!("{image}: {word} {}", descriptor.digest());
        if descriptor.size() > limit {
            let (registry, limit) = (image.registry().to_owned(), format!("{limit} bytes of a {word}"));
            return Err(RegistryError::TooLarge { what, registry, limit });
        }
        let path = format!("{kind}/{}", descriptor.digest());
        let ask = Ask { image, what: &what, path, limit: descriptor.size(), purpose: Use::Pull };
        let read = |target: &Target<'_>, _: &HeaderMap, bytes: Bytes| {
            if bytes.len() as u64 != descriptor.size() {
                let reason = format!("{} bytes where its descriptor says {}", bytes.len(), descriptor.size());
                return Err(target.protocol(reason));
            }
            verified(target, descriptor.digest(), &bytes)?;
            Ok(bytes)
        };
        self.fetch(ask, events, read).await
    }

    /// A whole body from the first host that gives one that can be used: mirrors are asked once, the last one until
    /// it is not worth another try.
    async fn fetch<T>(
        &self,
        ask: Ask<'_>,
        events: &Events,
        read: impl Fn(&Target<'_>, &HeaderMap, Bytes) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut who = self.http.places(ask.image.registry())?.who(ask.purpose);
        let last = self.http.home(ask.image.registry())?;
        who.retain(|place| !Arc::ptr_eq(place, &last));
        for place in who {
            let target = Target::new(&place, ask.image.repository(), ask.what);
            let done = self.body(&target, &ask, events).await.map_err(|failure| failure.error);
            match done.and_then(|(headers, bytes)| read(&target, &headers, bytes)) {
                Ok(done) => {
                    self.http.served(&target, ask.image, events);
                    return Ok(done);
                }
                Err(error) => self.http.passed_over(&target, ask.image, &error, events),
            }
        }
        let target = Target::new(&last, ask.image.repository(), ask.what);
        let attempt = || self.body(&target, &ask, events);
        let (headers, bytes) = self.http.retrying(ask.what, events, attempt).await?;
        let done = read(&target, &headers, bytes)?;
        self.http.served(&target, ask.image, events);
        Ok(done)
    }

    async fn body(
        &self,
        target: &Target<'_>,
        ask: &Ask<'_>,
        events: &Events,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        let call = Call { method: Method::GET, path: ask.path.clone(), range: None };
        let limit_bytes = usize::try_from(ask.limit).unwrap_or(usize::MAX);
        let patience = self.http.options.document_timeout;
        let _slot = target.place.slot().await;
        let read = async {
            let mut response = self.http.once(target, &call).await?;
            let headers = response.headers().clone();
            self.http.rate(target, &headers, events);
            let body = http::read_bounded(&mut response, limit_bytes).await;
            let body = body.map_err(|e| self.http.failure(target, &e))?;
            let too_large = || Failure::last(too_large(target, format!("{} bytes of a document", ask.limit)));
            Ok((headers, body.ok_or_else(too_large)?))
        };
        tokio::time::timeout(patience, read).await.unwrap_or_else(|_| {
            let (what, registry) = (target.what.to_owned(), target.registry.to_owned());
            let reason = format!("a document took longer than {} s", patience.as_secs());
            Err(Failure::last(RegistryError::Network { what, registry, reason }))
        })
    }
}

/// What is asked for, of whichever host has it.
struct Ask<'a> {
    image: &'a ImageRef,
    what: &'a str,
    path: String,
    /// Bytes that are accepted.
    limit: u64,
    purpose: Use,
}

fn is_tag(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.len() <= 128 && !text.is_empty() && text.chars().all(known)
}

async fn until_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    tokio::select! {
        () = cancel.cancelled() => Err(RegistryError::Cancelled),
        done = work => done,
    }
}

fn manifest_path(image: &ImageRef) -> String {
    match (image.digest(), image.tag()) {
        (Some(digest), _) => format!("manifests/{digest}"),
        (None, tag) => format!("manifests/{}", tag.unwrap_or("latest")),
    }
}

fn too_large(target: &Target<'_>, limit: String) -> RegistryError {
    RegistryError::TooLarge { what: target.what.to_owned(), registry: target.registry.to_owned(), limit }
}

fn verified(target: &Target<'_>, expected: &Digest, bytes: &[u8]) -> Result<Digest, RegistryError> {
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    if found == *expected {
        return Ok(found);
    }
    let (what, registry) = (target.what.to_owned(), target.registry.to_owned());
    Err(RegistryError::Digest { what, registry, expected: expected.clone(), found })
}

/// Without parameters such as `; charset=utf-8`.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let bare = value.split(';').next().unwrap_or(value).trim();
    (!bare.is_empty()).then(|| bare.chars().take(200).collect())
}

fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}

/// `mediaType` of a document.
fn stated_type(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: String,
    }
    let typed: Typed = serde_json::from_slice(bytes).ok()?;
    Some(typed.media_type).filter(|t| media::kind(t) != Kind::Blob)
}

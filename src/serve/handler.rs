use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::access::Tokens;
use super::body::{Body, empty, endless, full, spoiled, streamed};
use super::faults::{Fault, Scope};
use super::{Catalog, ServeOptions};
use crate::oci::media::{self, Kind};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES};
use crate::store::{BlobSource, StoreError, read_verified};

type Answer = Response<Body>;

/// What a client asked for and got: never holds what it logged in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// Whether there was an `Authorization` header.
    pub authorized: bool,
    /// The answer.
    pub status: u16,
}

pub(super) struct Service {
    address: SocketAddr,
    store: Arc<dyn BlobSource>,
    catalog: Catalog,
    options: ServeOptions,
    tokens: Tokens,
}

/// What a path below `/v2/` means.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    Base,
    Catalog,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Referrers(&'a str, &'a str),
    Unknown,
}

fn route(path: &str) -> Route<'_> {
    let Some(rest) = path.strip_prefix("/v2/") else {
        return if path == "/v2" { Route::Base } else { Route::Unknown };
    };
    match rest {
        "" => return Route::Base,
        "_catalog" => return Route::Catalog,
        _ => {}
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Route::Tags(name);
    }
    // From the right: a repository may itself be called `x/blobs/y`.
    let split = |word: &str| rest.rfind(word).map(|at| (&rest[..at], &rest[at + word.len()..]));
    let all = [split("/manifests/"), split("/blobs/"), split("/referrers/")];
    match all {
        [Some((name, last)), ..] if !last.contains('/') => Route::Manifest(name, last),
        [_, Some((name, last)), _] if !last.contains('/') => Route::Blob(name, last),
        [.., Some((name, last))] if !last.contains('/') => Route::Referrers(name, last),
        _ => Route::Unknown,
    }
}

impl Service {
    pub(super) fn new(
        address: SocketAddr,
        store: Arc<dyn BlobSource>,
        catalog: Catalog,
        options: ServeOptions,
    ) -> Self {
        Self { address, store, catalog, options, tokens: Tokens::default() }
    }

    pub(super) async fn answer(&self, request: hyper::Request<Incoming>) -> Result<Answer, Infallible> {
        let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (range, authorization) = (text(header::RANGE), text(header::AUTHORIZATION));
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let answer = self.dispatch(request.method(), path, query, range.as_deref(), authorization.as_deref());
        let answer = answer.await.unwrap_or_else(|refusal| refusal);
        if let Some(observer) = &self.options.observer {
            observer(&Request {
                method: request.method().to_string(),
                path: path.to_owned(),
                range,
                authorized: authorization.is_some(),
                status: answer.status().as_u16(),
            });
        }
        Ok(answer)
    }

    async fn dispatch(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        range: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Answer, Answer> {
        if method != Method::GET && method != Method::HEAD {
            let message = "this registry can only be read";
            return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message));
        }
        if path == "/token" {
            let fault = self.options.faults.take(Scope::Token);
            if let Some(answer) = fault.as_ref().and_then(|f| self.instead(f, path)) {
                return Err(answer);
            }
            let token = self.options.access.token(&self.tokens, query, authorization);
            let denied = || refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong user or password");
            return token.map(|t| json(StatusCode::OK, t)).ok_or_else(denied);
        }
        let route = route(path);
        let repository = match route {
            Route::Tags(name)
            | Route::Manifest(name, _)
            | Route::Blob(name, _)
            | Route::Referrers(name, _) => Some(name),
            _ => None,
        };
        self.options
            .access
            .check(&self.tokens, self.address, repository, authorization)
            .map_err(|challenge| unauthorized(&challenge))?;
        let fault = match (&route, method) {
            (Route::Manifest(..) | Route::Blob(..), &Method::HEAD) => self.options.faults.take(Scope::Head),
            (Route::Manifest(..), _) => self.options.faults.take(Scope::Manifest),
            (Route::Blob(..), _) => self.options.faults.take(Scope::Blob),
            _ => None,
        };
        if let Some(answer) = fault.as_ref().and_then(|f| self.instead(f, path)) {
            return Err(answer);
        }
        let head = method == Method::HEAD;
        match route {
            Route::Base => Ok(json(StatusCode::OK, "{}".to_owned())),
            Route::Catalog => {
                let repositories = self.catalog.repositories();
                Ok(json(StatusCode::OK, serde_json::json!({"repositories": repositories}).to_string()))
            }
            Route::Tags(name) => {
                let tags = self.tags(name)?;
                Ok(json(StatusCode::OK, serde_json::json!({"name": name, "tags": tags}).to_string()))
            }
            Route::Manifest(name, reference) => self.manifest(name, reference, head, fault.as_ref()).await,
            Route::Blob(name, digest) => self.blob(name, digest, head, range, fault.as_ref()).await,
            Route::Referrers(name, digest) => {
                let digest: Result<Digest, _> = digest.parse();
                let found = digest.ok().and_then(|d| self.catalog.referrers(name, &d));
                let unknown = || refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "no such path");
                let manifests = found.ok_or_else(unknown)?;
                let index = serde_json::json!({
                    "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests,
                });
                Ok(json(StatusCode::OK, index.to_string()))
            }
            Route::Unknown => Err(refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "no such path")),
        }
    }

    fn tags(&self, name: &str) -> Result<Vec<String>, Answer> {
        let unknown = || refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository");
        self.catalog.tags(name).ok_or_else(unknown)
    }

    async fn manifest(
        &self,
        name: &str,
        reference: &str,
        head: bool,
        fault: Option<&Fault>,
    ) -> Result<Answer, Answer> {
        self.tags(name)?;
        let unknown = || refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "no such manifest");
        let wanted = match reference.parse::<Digest>() {
            Ok(digest) => {
                let size = self.store.size(&digest).await.map_err(broken)?.ok_or_else(unknown)?;
                Descriptor::new("", digest, size)
            }
            Err(_) => self.catalog.find(name, reference).ok_or_else(unknown)?,
        };
        let bytes = read_verified(self.store.as_ref(), &wanted, MAX_MANIFEST_BYTES).await.map_err(broken)?;
        let media_type = match wanted.media_type() {
            "" => sniff(&bytes).ok_or_else(unknown)?,
            known => known.to_owned(),
        };
        let length = bytes.len() as u64;
        let body: Body = match (head, fault) {
            (true, _) => empty(),
            (false, None) => full(bytes),
            (false, Some(fault)) => spoiled(stream::iter([Ok(bytes)]).boxed(), fault),
        };
        Ok(content(StatusCode::OK, &media_type, &wanted, length, body, fault))
    }

    async fn blob(
        &self,
        name: &str,
        digest: &str,
        head: bool,
        range: Option<&str>,
        fault: Option<&Fault>,
    ) -> Result<Answer, Answer> {
        self.tags(name)?;
        let invalid = |_| refusal(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest");
        let unknown = || refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob");
        let digest = digest.parse::<Digest>().map_err(invalid)?;
        let size = self.store.size(&digest).await.map_err(broken)?.ok_or_else(unknown)?;
        let blob = Descriptor::new("application/octet-stream", digest, size);
        let range = if fault == Some(&Fault::IgnoreRange) { None } else { range };
        let part = match range.map(|r| parse_range(r, size)) {
            None | Some(Asked::Ignore) => None,
            Some(Asked::Part(part)) => Some(part),
            Some(Asked::Outside) => {
                let mut answer = refusal(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", "no such range");
                insert(&mut answer, header::CONTENT_RANGE, &format!("bytes */{size}"));
                return Err(answer);
            }
        };
        let mut wanted = part.clone().unwrap_or(0..size);
        if fault == Some(&Fault::WrongRange) && wanted.start + 1 < wanted.end {
            wanted.start += 1;
        }
        let length = wanted.end - wanted.start;
        let body = if head {
            empty()
        } else {
            let bytes = self.store.read(&blob, wanted.clone()).await.map_err(broken)?;
            let bytes = bytes.map_err(|e| io::Error::other(e.to_string())).boxed();
            match fault {
                Some(fault) => spoiled(bytes, fault),
                None => streamed(bytes),
            }
        };
        let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut answer = content(status, "application/octet-stream", &blob, length, body, fault);
        insert(&mut answer, header::ACCEPT_RANGES, "bytes");
        if part.is_some() {
            let last = wanted.end.saturating_sub(1);
            insert(&mut answer, header::CONTENT_RANGE, &format!("bytes {}-{last}/{size}", wanted.start));
        }
        Ok(answer)
    }

    /// A fault that stands instead of the whole answer.
    fn instead(&self, fault: &Fault, path: &str) -> Option<Answer> {
        match fault {
            Fault::Status { code, retry_after } => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let code =
                    if status == StatusCode::TOO_MANY_REQUESTS { "TOOMANYREQUESTS" } else { "UNKNOWN" };
                let mut answer = refusal(status, code, "made to fail");
                if let Some(wait) = retry_after {
                    insert(&mut answer, header::RETRY_AFTER, wait);
                }
                Some(answer)
            }
            Fault::EndlessError => {
                let mut answer = Response::new(streamed(endless()));
                *answer.status_mut() = StatusCode::IM_A_TEAPOT;
                Some(answer)
            }
            Fault::Redirect { to } => {
                let to = if to.ends_with('/') { format!("{to}{}", &path[1..]) } else { to.clone() };
                let mut answer = Response::new(empty());
                *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                insert(&mut answer, header::LOCATION, &to);
                Some(answer)
            }
            Fault::Refuse => {
                let challenge = self.options.access.check(&Tokens::default(), self.address, None, None);
                Some(unauthorized(&challenge.err().unwrap_or_else(|| "Basic realm=\"omk\"".to_owned())))
            }
            _ => None,
        }
    }
}

/// The media type of a manifest that is asked for by digest: what it says itself, else what its fields tell
/// (image-spec allows to leave `mediaType` out).
fn sniff(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(bytes).ok()?;
    match (probe.media_type.filter(|t| media::kind(t) != Kind::Blob), probe.manifests, probe.config) {
        (Some(stated), _, _) => Some(stated),
        (None, Some(_), _) => Some(media::OCI_INDEX.to_owned()),
        (None, None, Some(_)) => Some(media::OCI_MANIFEST.to_owned()),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Of a form that a server may ignore (RFC 9110, 14.2): another unit, several parts.
    Ignore,
    Part(Range<u64>),
    Outside,
}

/// `Range` for a body of `size` bytes.
fn parse_range(value: &str, size: u64) -> Asked {
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u64>().ok()).flatten();
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|v| v.trim().split_once('-')) else {
        return Asked::Ignore;
    };
    match (number(first), number(last), first.is_empty(), last.is_empty()) {
        (Some(first), _, false, true) if first < size => Asked::Part(first..size),
        (Some(first), Some(last), false, false) if first <= last && first < size => {
            Asked::Part(first..last.saturating_add(1).min(size))
        }
        (_, Some(tail), true, false) if tail > 0 && size > 0 => Asked::Part(size.saturating_sub(tail)..size),
        (Some(_), _, false, true) | (_, Some(_), true, false) => Asked::Outside,
        (Some(first), Some(last), false, false) if first <= last => Asked::Outside,
        _ => Asked::Ignore,
    }
}

fn content(
    status: StatusCode,
    media_type: &str,
    blob: &Descriptor,
    length: u64,
    body: Body,
    fault: Option<&Fault>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    insert(&mut answer, header::CONTENT_TYPE, media_type);
    if !matches!(fault, Some(Fault::Extra { .. } | Fault::Endless)) {
        insert(&mut answer, header::CONTENT_LENGTH, &length.to_string());
    }
    let digest = match fault {
        Some(Fault::NoDigestHeader) => return answer,
        Some(Fault::WrongDigestHeader) => Digest::sha256(b"something else"),
        _ => blob.digest().clone(),
    };
    let name = header::HeaderName::from_static("docker-content-digest");
    insert(&mut answer, name, &digest.to_string());
    answer
}

fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(full(text));
    *answer.status_mut() = status;
    insert(&mut answer, header::CONTENT_TYPE, "application/json");
    insert(&mut answer, header::HeaderName::from_static("docker-distribution-api-version"), "registry/2.0");
    answer
}

/// distribution-spec 1.1, "Error Codes".
fn refusal(status: StatusCode, code: &str, message: &str) -> Answer {
    json(status, serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string())
}

fn unauthorized(challenge: &str) -> Answer {
    let mut answer = refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
    insert(&mut answer, header::WWW_AUTHENTICATE, challenge);
    answer
}

/// The store's own text stays here: it may name files of this machine.
fn broken(error: StoreError) -> Answer {
    match error {
        StoreError::NotFound { .. } => refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob"),
        _ => refusal(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the store cannot be read"),
    }
}

fn insert(answer: &mut Answer, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_split_from_the_right() {
        assert_eq!(route("/v2/"), Route::Base);
        assert_eq!(route("/v2/a/b/manifests/1.0"), Route::Manifest("a/b", "1.0"));
        assert_eq!(route("/v2/a/blobs/b/blobs/sha256:x"), Route::Blob("a/blobs/b", "sha256:x"));
        assert_eq!(route("/v2/a/manifests/b/blobs/sha256:x"), Route::Blob("a/manifests/b", "sha256:x"));
        assert_eq!(route("/v2/a/tags/list"), Route::Tags("a"));
        assert_eq!(route("/etc/passwd"), Route::Unknown);
    }

    #[test]
    fn ranges_are_those_of_the_rfc() {
        assert_eq!(parse_range("bytes=0-4", 10), Asked::Part(0..5));
        assert_eq!(parse_range("bytes=5-", 10), Asked::Part(5..10));
        assert_eq!(parse_range("bytes=5-99", 10), Asked::Part(5..10));
        assert_eq!(parse_range("bytes=-3", 10), Asked::Part(7..10));
        assert_eq!(parse_range("bytes=-30", 10), Asked::Part(0..10));
        assert_eq!(parse_range("bytes=10-", 10), Asked::Outside);
        assert_eq!(parse_range("bytes=-0", 10), Asked::Outside);
        for ignored in ["", "lines=1-2", "bytes=0-1,3-4", "bytes=4-1", "bytes=-", "bytes=a-b"] {
            assert_eq!(parse_range(ignored, 10), Asked::Ignore, "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0u64..100) {
            if let Asked::Part(part) = parse_range(&value, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }

        #[test]
        fn any_path_is_survived(path in "\\PC{0,80}") {
            let _ = route(&path);
        }
    }
}

//! One request: URL, login, status, and the words for what went wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};

use super::auth::{self, Session};
use super::credentials::canonical;
use super::hosts::HostTls;
use super::places::{self, Downgrade, Place, Places, TooMany};
use super::retry::{Again, Failure, Retries, retry_after};
use super::{RegistryError, RegistryOptions, bodies, error};
use crate::event::Events;
use crate::oci::{Digest, media};

/// As many as `oci-client` follows, which cannot be told another number.
pub(super) const MAX_REDIRECTS: usize = 10;
const MAX_ERROR_BYTES: usize = 16 * 1024;

pub(super) const USER_AGENT: &str = concat!("omk/", env!("CARGO_PKG_VERSION"));

/// By host, repository and scope.
type Sessions = BTreeMap<(String, String, String), Arc<tokio::sync::Mutex<Session>>>;

pub(super) struct Http {
    pub(super) client: Client,
    /// Reads the bodies of blobs.
    pub(super) bodies: Option<oci_client::Client>,
    pub(super) options: RegistryOptions,
    sessions: Mutex<Sessions>,
    /// Registries that answered once: when one of them cannot be reached it will be back, one that never answered
    /// is probably misspelled.
    pub(super) reached: Mutex<BTreeSet<String>>,
    /// By registry.
    places: Mutex<BTreeMap<String, Arc<Places>>>,
    /// What was told once and need not be told again.
    pub(super) told: Mutex<BTreeSet<String>>,
    /// Mirrors that serve or served a blob, and whether its bytes were wrong.
    pub(super) mirrored: Mutex<BTreeMap<(Digest, String), bool>>,
    /// Requests that a registry says are left, as they were last told.
    pub(super) left: Mutex<BTreeMap<String, u64>>,
}

/// What a request is about, for URLs and messages.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) what: &'a str,
    pub(super) place: &'a Place,
    /// Name of the host that is asked.
    pub(super) registry: &'a str,
    pub(super) repository: &'a str,
    /// Of this host.
    pub(super) plain: bool,
    /// `Some`: to push, and to mount blobs of that other repository if one is named.
    pub(super) push: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(super) fn new(place: &'a Place, repository: &'a str, what: &'a str) -> Self {
        Self { what, place, registry: &place.name, repository, plain: place.plain, push: None }
    }

    pub(super) fn protocol(&self, reason: String) -> RegistryError {
        RegistryError::Protocol { what: self.what.to_owned(), registry: self.registry.to_owned(), reason }
    }

    /// What a token is asked for; nothing for the registry itself.
    pub(super) fn scopes(&self) -> Vec<String> {
        match (self.repository, self.push) {
            ("", _) => Vec::new(),
            (own, None) => vec![format!("repository:{own}:pull")],
            (own, Some("")) => vec![format!("repository:{own}:pull,push")],
            (own, Some(other)) => {
                vec![format!("repository:{own}:pull,push"), format!("repository:{other}:pull")]
            }
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        let base = &self.place.base;
        if self.repository.is_empty() {
            return format!("{base}/");
        }
        let full = format!("{base}/{}/{path}", self.repository);
        match &self.place.namespace {
            Some(namespace) => {
                let join = if full.contains('?') { '&' } else { '?' };
                format!("{full}{join}ns={namespace}")
            }
            None => full,
        }
    }
}

/// Where a registry is spoken to: Docker Hub's API does not live at its name.
pub(super) fn api_host(registry: &str) -> String {
    match canonical(registry).as_str() {
        "docker.io" => "registry-1.docker.io".to_owned(),
        name => name.to_owned(),
    }
}

/// A request below `/v2/REPOSITORY/`.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) range: Option<Range<u64>>,
}

impl Http {
    pub(super) fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Whoever embeds the library may have chosen another one before: that is fine too.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let mut authorities = Vec::new();
        for path in &options.ca_files {
            authorities.push(places::read_ca(path)?.0);
        }
        let bodies = bodies::client(&options, &authorities);
        let client = places::client(&options, &HostTls::default(), None, Some(options.stall_timeout))?;
        let (sessions, reached, places) = Default::default();
        let (told, mirrored, left) = Default::default();
        Ok(Self { client, bodies, options, sessions, reached, places, told, mirrored, left })
    }

    /// Who has the content of a registry. Reads `hosts.toml` when a registry is asked for the first time.
    pub(super) fn places(&self, registry: &str) -> Result<Arc<Places>, RegistryError> {
        let name = canonical(registry);
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&name) {
            return Ok(Arc::clone(known));
        }
        let rules = self.options.hosts.find(&name)?;
        let plain = self.options.is_plain(&name);
        let places = Arc::new(Places::new(&name, plain, &rules, &self.options, &self.client)?);
        all.insert(name, Arc::clone(&places));
        Ok(places)
    }

    /// The registry itself, as something to send requests to.
    pub(super) fn home(&self, registry: &str) -> Result<Arc<Place>, RegistryError> {
        let nobody = || RegistryError::Client(format!("{registry}: there is nobody to ask"));
        self.places(registry)?.home().ok_or_else(nobody)
    }

    /// Does something until it works or is not worth another try.
    pub(super) async fn retrying<T, F>(
        &self,
        what: &str,
        events: &Events,
        mut f: impl FnMut() -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut retries = Retries::new(&self.options.retries, what, events);
        loop {
            match f().await {
                Ok(done) => return Ok(done),
                Err(failure) => retries.wait(failure).await?,
            }
        }
    }

    /// Sends one request, logging in when the registry asks for it. Success is 200 or 206, nothing else.
    pub(super) async fn once(&self, target: &Target<'_>, call: &Call) -> Result<Response, Failure> {
        let session = self.session(target);
        let (header, seen) = {
            let mut session = session.lock().await;
            session.refresh(self, target).await?;
            session.current()
        };
        let mut response = self.fire(target, call, header.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let header = {
                let mut session = session.lock().await;
                session.answer(self, target, response.headers(), seen).await?;
                session.current().0
            };
            response = self.fire(target, call, header.as_ref()).await?;
        }
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                session.lock().await.answered = true;
                Ok(response)
            }
            _ => Err(self.status_failure(target, response).await),
        }
    }

    async fn fire(
        &self,
        target: &Target<'_>,
        call: &Call,
        authorization: Option<&reqwest::header::HeaderValue>,
    ) -> Result<Response, Failure> {
        let place = target.place;
        let mut request = place.client.request(call.method.clone(), target.url(&call.path));
        request = request.headers(place.headers.clone());
        if call.path.starts_with("manifests/") {
            request = request.header(ACCEPT, media::ACCEPT.join(", "));
        }
        if let Some(range) = &call.range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let response = request.send().await.map_err(|e| self.failure(target, &e))?;
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).insert(target.registry.to_owned());
        Ok(response)
    }

    pub(super) fn session(&self, target: &Target<'_>) -> Arc<tokio::sync::Mutex<Session>> {
        // A host may be a mirror of one registry and itself another: the same login, and not the same way to it.
        let (host, name) = (target.place.base.clone(), target.repository.to_owned());
        let key = (host, name, target.push.map_or(String::new(), |other| format!("push {other}")));
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
    }

    /// What a status that is no success means.
    pub(super) async fn status_failure(&self, target: &Target<'_>, mut response: Response) -> Failure {
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let asked = asked.and_then(|v| retry_after(v, SystemTime::now()));
        let body = read_bounded(&mut response, MAX_ERROR_BYTES).await.ok().flatten().unwrap_or_default();
        let detail = error::detail(&body);
        let (what, registry) = (target.what.to_owned(), target.registry.to_owned());
        let later = asked.map_or(Again::Later, Again::After);
        match status {
            StatusCode::UNAUTHORIZED => auth::refusal(self, target, &body).await,
            StatusCode::FORBIDDEN => Failure::last(RegistryError::Denied { what, registry, detail }),
            StatusCode::NOT_FOUND => Failure::last(RegistryError::NotFound { what, registry, detail }),
            StatusCode::TOO_MANY_REQUESTS => {
                let advice = match asked {
                    Some(wait) => format!(
                        "it asks to wait {} s; run again then, log in, or wait for longer with --patience",
                        wait.as_secs()
                    ),
                    None => "run again later, log in, which often raises the limit, or wait for longer with --patience"
                        .to_owned(),
                };
                let error = RegistryError::RateLimited { what, registry, detail, advice };
                Failure { error, again: Again::Limited(asked) }
            }
            StatusCode::REQUEST_TIMEOUT => {
                Failure::passing(RegistryError::Server { what, registry, status, detail })
            }
            s if s.is_server_error() => {
                Failure { error: RegistryError::Server { what, registry, status, detail }, again: later }
            }
            StatusCode::BAD_REQUEST if target.plain && find(&body, b"HTTPS server") => Failure::last(
                target.protocol("it speaks HTTPS; leave out --plain-http for this registry".to_owned()),
            ),
            _ => Failure::last(RegistryError::Status { what, registry, status, detail }),
        }
    }

    /// What a request that got no answer, or a body that broke off, means.
    pub(super) fn failure(&self, target: &Target<'_>, error: &reqwest::Error) -> Failure {
        let (what, registry) = (target.what.to_owned(), target.registry.to_owned());
        let known = self.reached.lock().unwrap_or_else(PoisonError::into_inner).contains(target.registry);
        let again = if known { Again::Later } else { Again::Never };
        if error.is_timeout() {
            let limit =
                if error.is_connect() { self.options.connect_timeout } else { self.options.stall_timeout };
            let again = if error.is_connect() { again } else { Again::Later };
            return Failure {
                error: RegistryError::Timeout { what, registry, seconds: limit.as_secs() },
                again,
            };
        }
        match cause(error) {
            Cause::Dns => {
                let reason = reason(error);
                Failure { error: RegistryError::Dns { what, registry, reason }, again }
            }
            Cause::Refused => Failure { error: RegistryError::Refused { what, registry }, again },
            Cause::NoTls => {
                let host = registry.clone();
                Failure::last(RegistryError::PlainHttp { what, registry, host })
            }
            Cause::Tls(tls) => {
                let (reason, hint) = self.explain_tls(&tls);
                Failure::last(RegistryError::Tls { what, registry, reason, hint })
            }
            Cause::Redirect(reason) => Failure::last(target.protocol(reason)),
            // What `oci-client` says.
            Cause::Other if error.is_redirect() => {
                Failure::last(target.protocol(format!("more than {MAX_REDIRECTS} redirects")))
            }
            Cause::Other => {
                Failure::passing(RegistryError::Network { what, registry, reason: reason(error) })
            }
        }
    }

    fn explain_tls(&self, error: &rustls::Error) -> (String, String) {
        use rustls::{CertificateError as C, Error as E};
        let files = self.options.ca_files.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        let trusted = match files.as_slice() {
            [] => "the system's authorities".to_owned(),
            files => format!("the system's authorities and {}", files.join(", ")),
        };
        match error {
            // A bad signature is what an authority of the same name and another key leads to.
            E::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => (
                format!("its certificate is signed by none of {trusted}"),
                "pass --registry-ca FILE with the certificate of the authority that signed it".to_owned(),
            ),
            E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => (
                error.to_string(),
                "use a name of the registry that its certificate is made for".to_owned(),
            ),
            E::InvalidCertificate(
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
            ) => {
                let now = httpdate::fmt_http_date(SystemTime::now());
                let hint = format!("this machine's clock says {now}: set it if that is wrong, else have the certificate renewed");
                (error.to_string(), hint)
            }
            E::AlertReceived(
                rustls::AlertDescription::CertificateRequired
                | rustls::AlertDescription::BadCertificate
                | rustls::AlertDescription::AccessDenied,
            ) => (
                format!("it wants a client certificate that it knows ({error})"),
                "name one in the configuration (registries: HOST: client:) or in hosts.toml (client)".to_owned(),
            ),
            E::InvalidCertificate(C::Other(_)) => (
                error.to_string(),
                "have the registry's certificate made anew as a server certificate with a subjectAltName, signed by an authority"
                    .to_owned(),
            ),
            _ => (error.to_string(), "check what listens there, and any proxy between".to_owned()),
        }
    }
}

/// The rest of a body; `None` when it has more than `limit` bytes, of which no more are then read.
pub(super) async fn read_bounded(
    response: &mut Response,
    limit: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    let mut all = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if all.len() + chunk.len() > limit {
            return Ok(None);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(Some(all.freeze()))
}

fn find(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}

enum Cause {
    Dns,
    Refused,
    NoTls,
    Tls(rustls::Error),
    Redirect(String),
    Other,
}

/// Looks through the layers of HTTP clients for what the operating system or TLS said.
fn cause(error: &reqwest::Error) -> Cause {
    error.source().and_then(|layer| look(layer, 16)).unwrap_or(Cause::Other)
}

fn look(layer: &(dyn std::error::Error + 'static), depth: u32) -> Option<Cause> {
    if depth == 0 {
        return None;
    }
    if layer.to_string() == "dns error" {
        return Some(Cause::Dns);
    }
    if layer.is::<Downgrade>() || layer.is::<TooMany>() {
        return Some(Cause::Redirect(layer.to_string()));
    }
    if let Some(found) = layer.downcast_ref::<rustls::Error>() {
        return Some(tls(found));
    }
    if let Some(io) = layer.downcast_ref::<io::Error>() {
        if io.kind() == io::ErrorKind::ConnectionRefused {
            return Some(Cause::Refused);
        }
        // What an io::Error wraps is not among its sources.
        if let Some(found) = io.get_ref().and_then(|inner| look(inner, depth - 1)) {
            return Some(found);
        }
    }
    layer.source().and_then(|source| look(source, depth - 1))
}

fn tls(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Cause::NoTls,
        other => Cause::Tls(other.clone()),
    }
}

/// The innermost layer's words: the outer ones hold the URL, which may carry a signature.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if error.source().is_none() {
        return "the request could not be sent".to_owned();
    }
    let text = innermost.to_string();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ImageRef;

    fn url(options: RegistryOptions, image: &str) -> String {
        let http = Http::new(options).unwrap();
        let image: ImageRef = image.parse().unwrap();
        let home = http.home(image.registry()).unwrap();
        Target::new(&home, image.repository(), "x").url("manifests/1")
    }

    #[test]
    fn docker_hub_lives_elsewhere_and_plain_http_goes_by_name() {
        let plain = |host: &str| RegistryOptions { plain_http: vec![host.to_owned()], ..Default::default() };
        assert_eq!(url(plain("a"), "nginx"), "https://registry-1.docker.io/v2/library/nginx/manifests/1");
        assert_eq!(url(plain("R.io:5000"), "r.io:5000/a/b"), "http://r.io:5000/v2/a/b/manifests/1");
        assert_eq!(url(plain("r.io"), "r.io:5000/a"), "https://r.io:5000/v2/a/manifests/1");
        assert_eq!(url(plain("[::1]:80"), "[::1]:80/a"), "http://[::1]:80/v2/a/manifests/1");
    }
}

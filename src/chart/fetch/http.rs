//! Chart repositories: plain web servers.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Certificate, Client, StatusCode, Url};
use tokio_util::sync::CancellationToken;

use super::FetchError;
use crate::event::{Event, Events};
use crate::registry::Login;

const MAX_REDIRECTS: usize = 10;
const ATTEMPTS: u32 = 3;
/// For the whole of an index or chart.
const PATIENCE: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(15);
const STALL: Duration = Duration::from_secs(60);

pub(super) struct Web {
    client: Client,
    login: Option<Login>,
}

/// What all requests to web servers have in common: bounded waits, and no way from TLS to plain HTTP.
pub(crate) fn client() -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("omk/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(STALL)
        .redirect(reqwest::redirect::Policy::custom(|attempt| {
            let from_tls = attempt.previous().iter().any(|u| u.scheme() == "https");
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("too many redirects")
            } else if from_tls && attempt.url().scheme() != "https" {
                attempt.error("it leads from https to plain http")
            } else {
                attempt.follow()
            }
        }))
}

/// Scheme, host and port: a login is good for these only.
fn origin(url: &Url) -> (String, Option<String>, Option<u16>) {
    (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
}

impl Web {
    pub(super) fn new(ca_files: &[PathBuf], login: Option<Login>) -> Result<Self, FetchError> {
        let failed = |url: String, reason: String| FetchError::Http { url, reason };
        let mut roots = Vec::new();
        for path in ca_files {
            let shown = path.display().to_string();
            let pem = std::fs::read(path).map_err(|e| failed(shown.clone(), e.to_string()))?;
            let found = Certificate::from_pem_bundle(&pem).map_err(|e| failed(shown, e.to_string()))?;
            roots.extend(found);
        }
        let builder = || client().timeout(PATIENCE);
        // A machine without system roots still reaches plain HTTP and servers whose authority is given.
        let client = builder()
            .tls_certs_merge(roots.clone())
            .build()
            .or_else(|_| builder().tls_certs_only(roots).build())
            .map_err(|e| failed("anything".into(), reason(&e)))?;
        Ok(Self { client, login })
    }

    /// A whole body. The login goes along only if `url` is at the origin of `home`.
    pub(super) async fn get(
        &self,
        url: &Url,
        home: &Url,
        limit: u64,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Bytes, FetchError> {
        let work = async {
            let mut pause = Duration::from_millis(500);
            for attempt in 1.. {
                match self.once(url, home, limit).await {
                    Ok(bytes) => return Ok(bytes),
                    Err((FetchError::Http { url, reason }, true)) if attempt < ATTEMPTS => {
                        let delay_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                        events.emit(Event::Retry { what: url, reason, delay_ms });
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    Err((error, _)) => return Err(error),
                }
            }
            Err(FetchError::Cancelled)
        };
        tokio::select! {
            () = cancel.cancelled() => Err(FetchError::Cancelled),
            done = work => done,
        }
    }

    /// As [`Web::get`] for what need not be there: whatever the server answers but the file itself is `None`.
    ///
    /// # Errors
    /// Only when it is there and too large, or on cancellation.
    pub(super) async fn get_if_there(
        &self,
        url: &Url,
        home: &Url,
        limit: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<Bytes>, FetchError> {
        tokio::select! {
            () = cancel.cancelled() => Err(FetchError::Cancelled),
            done = self.once(url, home, limit) => match done {
                Ok(bytes) => Ok(Some(bytes)),
                Err((error @ FetchError::TooLarge { .. }, _)) => Err(error),
                Err(_) => Ok(None),
            },
        }
    }

    /// With whether trying again makes sense.
    async fn once(&self, url: &Url, home: &Url, limit: u64) -> Result<Bytes, (FetchError, bool)> {
        let failed = |reason: String, again: bool| (FetchError::Http { url: shown(url), reason }, again);
        let mut request = self.client.get(url.clone());
        if let Some(login) = self.login.as_ref().filter(|_| origin(url) == origin(home)) {
            request = request.basic_auth(&login.user, Some(login.password.expose()));
        }
        let mut response = request.send().await.map_err(|e| failed(reason(&e), !e.is_redirect()))?;
        let status = response.status();
        if status != StatusCode::OK {
            let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            let hint = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; log in with --username",
                _ => "",
            };
            return Err(failed(format!("the server answers {status}{hint}"), again));
        }
        let too_large = || (FetchError::TooLarge { what: shown(url), limit }, false);
        let mut all = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(reason(&e), true))? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

/// Without a login or a token in the query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for URLs that cannot have a login.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

//! The hosts of one registry as things to send requests to: mirrors in their order, the registry itself last.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::credentials::canonical;
use super::hosts::{Host, HostRules, HostTls};
use super::http::{MAX_REDIRECTS, USER_AGENT, api_host, reason};
use super::{RegistryError, RegistryOptions};

/// How long a mirror that could not be reached is left alone.
const DOWN: Duration = Duration::from_secs(60);

/// One host.
pub(super) struct Place {
    /// As it stands in image names and auth files.
    pub(super) name: String,
    /// URL of its API without a slash at the end: `https://HOST/v2`.
    pub(super) base: String,
    pub(super) plain: bool,
    /// Whether it is the registry itself.
    pub(super) upstream: bool,
    /// Whether `oci-client` would reach it as we do.
    pub(super) usual: bool,
    pub(super) headers: HeaderMap,
    pub(super) client: Client,
    pub(super) skip_verify: bool,
    pub(super) tls: HostTls,
    /// What a mirror is told it is asked on behalf of (containerd's `ns`).
    pub(super) namespace: Option<String>,
    pull: bool,
    resolve: bool,
    slots: Arc<Semaphore>,
    down: Mutex<Option<Instant>>,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Content by its digest.
    Pull,
    /// What a tag stands for.
    Resolve,
}

impl Place {
    pub(super) fn can(&self, what: Use) -> bool {
        let able = match what {
            Use::Pull => self.pull,
            Use::Resolve => self.resolve,
        };
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        able && down.is_none_or(|since| since.elapsed() > DOWN)
    }

    /// Nobody was there: other requests need not find that out again.
    pub(super) fn is_down(&self) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Waits for one of the requests that may be under way at the same time. Held until the body is read.
    pub(super) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }
}

/// All of them.
pub(super) struct Places {
    all: Vec<Arc<Place>>,
}

impl Places {
    pub(super) fn new(
        registry: &str,
        plain: bool,
        rules: &HostRules,
        options: &RegistryOptions,
        common: &Client,
    ) -> Result<Self, RegistryError> {
        let name = canonical(registry);
        let slots = || Arc::new(Semaphore::new(rules.parallel.unwrap_or(options.per_registry).max(1)));
        let mut all = Vec::new();
        for host in &rules.mirrors {
            all.push(Arc::new(Place {
                upstream: false,
                usual: false,
                namespace: Some(name.clone()),
                ..of(host, options, slots())?
            }));
        }
        let upstream = match &rules.server {
            Some(server) => Place { upstream: true, usual: false, name, ..of(server, options, slots())? },
            None => {
                let scheme = if plain { "http" } else { "https" };
                let special = rules.tls != HostTls::default();
                Place {
                    name: name.clone(),
                    base: format!("{scheme}://{}/v2", api_host(&name)),
                    plain,
                    upstream: true,
                    usual: !special,
                    headers: HeaderMap::new(),
                    client: if special {
                        client(options, &rules.tls, None, Some(options.stall_timeout))?
                    } else {
                        common.clone()
                    },
                    skip_verify: rules.tls.skip_verify,
                    tls: rules.tls.clone(),
                    namespace: None,
                    pull: true,
                    resolve: true,
                    slots: slots(),
                    down: Mutex::default(),
                }
            }
        };
        if !rules.mirrors_only {
            all.push(Arc::new(upstream));
        }
        Ok(Self { all })
    }

    /// Who to ask, in this order; never nobody, for where all is down the last one says how.
    pub(super) fn who(&self, what: Use) -> Vec<Arc<Place>> {
        let mut who: Vec<_> = self.all.iter().filter(|p| p.upstream || p.can(what)).cloned().collect();
        if who.is_empty() {
            who.extend(self.all.last().cloned());
        }
        who
    }

    /// The registry itself; the last mirror where it must not be asked.
    pub(super) fn home(&self) -> Option<Arc<Place>> {
        self.all.last().cloned()
    }
}

fn of(host: &Host, options: &RegistryOptions, slots: Arc<Semaphore>) -> Result<Place, RegistryError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &host.headers {
        let wrong =
            || RegistryError::Client(format!("{}: {name:?} is no header that can be sent", host.name()));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(Place {
        name: host.name(),
        base: host.url.as_str().trim_end_matches('/').to_owned(),
        plain: host.url.scheme() == "http",
        upstream: false,
        usual: false,
        headers,
        client: client(options, &host.tls, host.connect_timeout, Some(options.stall_timeout))?,
        skip_verify: host.tls.skip_verify,
        tls: host.tls.clone(),
        namespace: None,
        pull: host.pull,
        resolve: host.resolve,
        slots,
        down: Mutex::default(),
    })
}

/// Refused by [`client`]: what comes over HTTPS must not be continued in the open, where anybody could change it.
#[derive(Debug, thiserror::Error)]
#[error("it redirects from https to http, where what it sends could be changed on the way")]
pub(super) struct Downgrade;

/// An HTTP client with the authorities of all and those of one host.
pub(super) fn client(
    options: &RegistryOptions,
    tls: &HostTls,
    connect_timeout: Option<Duration>,
    stall: Option<Duration>,
) -> Result<Client, RegistryError> {
    let mut roots = Vec::new();
    for path in options.ca_files.iter().chain(&tls.ca_files) {
        roots.extend(read_ca(path)?.1);
    }
    let identity = match &tls.client {
        Some((certificate, key)) => Some(read_identity(certificate, key)?),
        None => None,
    };
    let follow = |attempt: redirect::Attempt<'_>| {
        let before = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if before && attempt.url().scheme() == "http" {
            return attempt.error(Downgrade);
        }
        // Counts as reqwest's own rule does, which says so by its own error.
        if attempt.previous().len() > MAX_REDIRECTS { attempt.error(TooMany) } else { attempt.follow() }
    };
    let builder = || {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(connect_timeout.unwrap_or(options.connect_timeout))
            .redirect(redirect::Policy::custom(follow))
            .tls_danger_accept_invalid_certs(tls.skip_verify)
            .pool_max_idle_per_host(options.concurrency.max(1) * 2);
        if let Some(stall) = stall {
            builder = builder.read_timeout(stall);
        }
        if let Some(identity) = &identity {
            builder = builder.identity(identity.clone());
        }
        builder
    };
    // A machine without any system roots still reaches plain HTTP and registries whose CA is given.
    builder()
        .tls_certs_merge(roots.clone())
        .build()
        .or_else(|_| builder().tls_certs_only(roots).build())
        .map_err(|e| RegistryError::Client(reason(&e)))
}

/// More redirects than any registry needs.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_REDIRECTS} redirects")]
pub(super) struct TooMany;

/// A CA file as it is, and what is in it.
pub(super) fn read_ca(path: &PathBuf) -> Result<(Vec<u8>, Vec<Certificate>), RegistryError> {
    let fail = |reason: String| RegistryError::CaFile { path: path.clone(), reason };
    let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let found = Certificate::from_pem_bundle(&bytes).map_err(|_| fail("not readable as PEM".to_owned()))?;
    if found.is_empty() {
        return Err(fail("there is no certificate in it".to_owned()));
    }
    Ok((bytes, found))
}

fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, RegistryError> {
    let fail = |path: &Path, reason: String| RegistryError::ClientCert { path: path.to_owned(), reason };
    let mut pem = std::fs::read(certificate).map_err(|e| fail(certificate, e.to_string()))?;
    if certificate != key {
        pem.push(b'\n');
        pem.extend(std::fs::read(key).map_err(|e| fail(key, e.to_string()))?);
    }
    // The reason is not shown: it may repeat a part of the key.
    Identity::from_pem(&pem).map_err(|_| fail(certificate, "no certificate with a key that fits".to_owned()))
}

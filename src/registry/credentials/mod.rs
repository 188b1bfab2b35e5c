//! Where a login comes from: given by the user, read from the files and helpers that Docker and Podman keep, from
//! Kubernetes' pull secrets, or asked of kubelet's credential providers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;

use super::RegistryError;

mod file;
mod helper;
mod keep;
mod provider;
mod secret;

use file::Found;
pub use keep::{Kept, forget, keep};
pub use provider::Providers;

/// The largest auth file or helper answer that is read.
const MAX_BYTES: u64 = 1024 * 1024;
/// How long what a helper said is good: it is asked once for many repositories, and most tokens live longer.
const HELPER_LIFETIME: Duration = Duration::from_secs(300);
/// What Docker writes in place of a user name where the password is an identity token.
const IDENTITY: &str = "<token>";

/// Text that is never shown: `Debug` prints a placeholder and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A user of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name; `<token>`, as with Docker, for an identity token.
    pub user: String,
    /// The password, access token or identity token.
    pub password: Secret,
}

impl Login {
    /// An OAuth2 refresh token: only good to fetch tokens with (distribution's token authentication, "oauth").
    pub fn identity(token: Secret) -> Self {
        Self { user: IDENTITY.to_owned(), password: token }
    }

    /// Whether this is no user and password but an identity token.
    pub fn is_identity(&self) -> bool {
        self.user == IDENTITY
    }

    /// The value of an `Authorization` header.
    pub(super) fn basic(&self) -> Secret {
        Secret(format!("Basic {}", self.pair()))
    }

    /// As it stands in auth files.
    fn pair(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password.expose());
        base64::engine::general_purpose::STANDARD.encode(pair)
    }
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Text { name: String, text: Secret },
    PullSecrets(PathBuf),
    Providers(Providers),
}

/// Answers of helpers and when they were given, by helper and registry.
type Asked = Arc<Mutex<BTreeMap<(String, String), (Instant, Option<Login>)>>>;

/// Logins by registry. A login is only ever used for the registry that it was given or stored for: there is none
/// that goes to whoever asks.
///
/// Sources are asked in the order in which they were added; the first that has a login for the image counts.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
    sources: Vec<Source>,
    asked: Asked,
}

impl Credentials {
    /// Nobody is logged in anywhere.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A login for one registry (`HOST[:PORT]`, `docker.io` for Docker Hub); goes before what files say.
    #[must_use]
    pub fn with_login(mut self, registry: &str, login: Login) -> Self {
        self.logins.insert(canonical(registry), login);
        self
    }

    /// A file in the format of Docker's `config.json` or Podman's `auth.json`. Read when a registry asks for a
    /// login; a file that is not there is no error.
    #[must_use]
    pub fn with_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(Source::File(path.into()))
    }

    /// The content of such a file from elsewhere; `name` says from where, for messages.
    #[must_use]
    pub fn with_text(self, name: &str, text: Secret) -> Self {
        self.with(Source::Text { name: name.to_owned(), text })
    }

    /// Manifests of Kubernetes with Secrets of the types `kubernetes.io/dockerconfigjson` and
    /// `kubernetes.io/dockercfg`. Names of registries in them match as kubelet matches them.
    #[must_use]
    pub fn with_pull_secrets(self, path: impl Into<PathBuf>) -> Self {
        self.with(Source::PullSecrets(path.into()))
    }

    /// Kubelet's credential providers.
    #[must_use]
    pub fn with_providers(self, providers: Providers) -> Self {
        self.with(Source::Providers(providers))
    }

    fn with(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// The login for an image, if there is one.
    ///
    /// # Errors
    /// When a file or helper that is responsible for the registry cannot be used; never contains the secret.
    pub async fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>, RegistryError> {
        let registry = canonical(registry);
        if let Some(login) = self.logins.get(&registry) {
            return Ok(Some(login.clone()));
        }
        let fail = |reason: String| RegistryError::Credentials { registry: registry.clone(), reason };
        for source in &self.sources {
            let login = match source {
                Source::File(path) => match read(path).await {
                    Err(e) => return Err(fail(format!("{}: {e}", path.display()))),
                    Ok(None) => None,
                    Ok(Some(bytes)) => {
                        let found = file::look_up(&bytes, &registry, repository)
                            .map_err(|reason| fail(format!("{}: {reason}", path.display())))?;
                        self.settle(found, &registry).await.map_err(fail)?
                    }
                },
                Source::Text { name, text } => {
                    let found = file::look_up(text.expose().as_bytes(), &registry, repository)
                        .map_err(|reason| fail(format!("{name}: {reason}")))?;
                    self.settle(found, &registry).await.map_err(fail)?
                }
                Source::PullSecrets(path) => {
                    let bytes = read(path).await.map_err(|e| fail(format!("{}: {e}", path.display())))?;
                    let bytes = bytes.ok_or_else(|| fail(format!("{} is not there", path.display())))?;
                    secret::look_up(&bytes, &registry, repository)
                        .map_err(|reason| fail(format!("{}: {reason}", path.display())))?
                }
                Source::Providers(providers) => providers.find(&registry, repository).await.map_err(fail)?,
            };
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }

    async fn settle(&self, found: Found, registry: &str) -> Result<Option<Login>, String> {
        let name = match found {
            Found::Nothing => return Ok(None),
            Found::Login(login) => return Ok(Some(login)),
            Found::Helper(name) => name,
        };
        // Held while the helper runs: of many repositories that need it at once, one asks.
        let mut asked = self.asked.lock().await;
        let key = (name.clone(), registry.to_owned());
        if let Some((at, login)) = asked.get(&key)
            && at.elapsed() < HELPER_LIFETIME
        {
            return Ok(login.clone());
        }
        let login = helper::get(&name, registry).await?;
        asked.insert(key, (Instant::now(), login.clone()));
        Ok(login)
    }
}

/// One name for a registry, however it is spelled: Docker Hub alone has four.
pub(super) fn canonical(registry: &str) -> String {
    let bare =
        registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let lower = bare.to_ascii_lowercase();
    match lower.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        _ => lower,
    }
}

/// Whether a name in a pull secret or of a provider is for an image, and how closely it fits: as kubelet does it
/// (`pkg/credentialprovider/keyring.go`), `*` stands for any part of one label of the host, ports must be the same,
/// a path is one of whole parts.
fn covers(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let key = canonical(key);
    let (host, path) = key.split_once('/').map_or((key.as_str(), ""), |(h, p)| (h, p.trim_end_matches('/')));
    let rest = repository.strip_prefix(path)?;
    if !path.is_empty() && !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let split = |s: &str| match s.rsplit_once(':') {
        Some((h, p)) if !p.contains(']') => (h.to_owned(), Some(p.to_owned())),
        _ => (s.to_owned(), None),
    };
    let ((host, port), (own, own_port)) = (split(&canonical(host)), split(registry));
    if port != own_port || host.split('.').count() != own.split('.').count() {
        return None;
    }
    let fits = host.split('.').zip(own.split('.')).all(|(pattern, label)| glob(pattern, label));
    fits.then_some(key.len())
}

/// `*` and nothing else; for labels, which are short.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// At most [`MAX_BYTES`]; nothing where there is no such file.
async fn read(path: &Path) -> Result<Option<Vec<u8>>, std::io::Error> {
    let file = match tokio::fs::File::open(path).await {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("larger than the 1 MiB that are read"));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;

//! Logging in: the identity that the inventory names, then the agent, then the usual key files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::MethodKind;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use super::{Client, SshOptions};
use crate::node::NodeError;

/// Marks what was looked at and not offered to the server.
const NOT_USED: &str = "not used";
/// A private key file is not read beyond this, in bytes.
const MAX_KEY_FILE: u64 = 1 << 20;
/// Keys of the agent that are offered; OpenSSH's `MaxAuthTries` is 6.
const AGENT_KEYS: usize = 5;
/// A person may have to touch a token or confirm the use of a key.
const AGENT_PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Login<'a> {
    pub(super) address: &'a str,
    pub(super) user: &'a str,
    pub(super) identity: Option<&'a Path>,
    pub(super) options: &'a SshOptions,
}

/// What came of one attempt.
enum Step {
    In,
    Refused,
    /// No attempt with a key can succeed any more; why.
    Pointless(String),
}

enum KeyFile {
    Usable(Box<PrivateKey>),
    Encrypted,
    Unusable(String),
}

impl Login<'_> {
    pub(super) async fn run(&self, mut handle: Handle<Client>) -> Result<Handle<Client>, NodeError> {
        let mut tried = Vec::new();
        let mut hint = None;
        let rsa = self.bounded(self.options.connect_timeout, handle.best_supported_rsa_hash()).await?;
        // A server that does not say takes SHA-2; plain ssh-rsa (SHA-1) only where it says that it has nothing else.
        let rsa = rsa.ok().flatten().unwrap_or(Some(HashAlg::Sha512));

        let mut encrypted = Vec::new();
        if let Some(path) = self.identity
            && self.key_file(&mut handle, path, rsa, &mut tried, &mut hint, &mut encrypted).await?
        {
            return Ok(handle);
        }
        if hint.is_none() && self.agent(&mut handle, rsa, &mut tried, &mut hint).await? {
            return Ok(handle);
        }
        if self.identity.is_none()
            && let Some(home) = &self.options.home
        {
            for name in ["id_ed25519", "id_ecdsa", "id_rsa"] {
                let path = home.join(".ssh").join(name);
                let usable = hint.is_none() && path.exists();
                if usable
                    && self.key_file(&mut handle, &path, rsa, &mut tried, &mut hint, &mut encrypted).await?
                {
                    return Ok(handle);
                }
            }
        }
        let offered = tried.iter().any(|t| !t.contains(NOT_USED));
        if tried.is_empty() {
            tried.push("nothing, there is no key and no agent".to_owned());
        }
        let hint = hint.unwrap_or_else(|| match encrypted.first() {
            Some(key) => format!("{} has a passphrase: ssh-add it to an agent first", key.display()),
            None if !offered => {
                "no key could be offered: name a private key file as identity in the inventory, or \
                                 ssh-add one to an agent"
                    .to_owned()
            }
            None => format!("put the public key into ~{}/.ssh/authorized_keys on the node", self.user),
        });
        Err(NodeError::Auth {
            address: self.address.to_owned(),
            user: self.user.to_owned(),
            tried: tried.join(", "),
            hint,
        })
    }

    async fn key_file(
        &self,
        handle: &mut Handle<Client>,
        path: &Path,
        rsa: Option<HashAlg>,
        tried: &mut Vec<String>,
        hint: &mut Option<String>,
        encrypted: &mut Vec<PathBuf>,
    ) -> Result<bool, NodeError> {
        let key = match read_key(path) {
            KeyFile::Usable(key) => key,
            KeyFile::Encrypted => {
                tried.push(format!("{} ({NOT_USED}: it has a passphrase)", path.display()));
                encrypted.push(path.to_owned());
                return Ok(false);
            }
            KeyFile::Unusable(why) => {
                tried.push(format!("{} ({NOT_USED}: {why})", path.display()));
                return Ok(false);
            }
        };
        tried.push(format!("{} ({})", path.display(), describe(key.public_key())));
        let key = PrivateKeyWithHashAlg::new(Arc::new(*key), rsa);
        let attempt = handle.authenticate_publickey(self.user, key);
        let result = self.bounded(self.options.connect_timeout, attempt).await?;
        self.judge(handle, result, hint)
    }

    async fn agent(
        &self,
        handle: &mut Handle<Client>,
        rsa: Option<HashAlg>,
        tried: &mut Vec<String>,
        hint: &mut Option<String>,
    ) -> Result<bool, NodeError> {
        let Some(socket) = &self.options.agent else { return Ok(false) };
        let opening = async {
            let mut agent = AgentClient::connect_uds(socket).await?;
            if let Some(binding) = handle.agent_session_binding() {
                // Agents that do not know the extension answer with a failure and go on.
                let _ = agent.bind_session(binding, false).await;
            }
            let keys = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, keys))
        };
        let (mut agent, keys) = match tokio::time::timeout(self.options.connect_timeout, opening).await {
            Ok(Ok(both)) => both,
            Ok(Err(e)) => {
                tried.push(format!("the agent ({NOT_USED}, not reached: {e})"));
                return Ok(false);
            }
            Err(_) => {
                tried.push(format!("the agent ({NOT_USED}, no answer)"));
                return Ok(false);
            }
        };
        if keys.is_empty() {
            tried.push(format!("the agent ({NOT_USED}, it holds no key)"));
        }
        // The key that the inventory names comes first, should the agent hold it: its file has a passphrase.
        let wanted = self.identity.and_then(public_half);
        let mut keys = keys;
        keys.sort_by_key(|k| wanted.as_ref().is_none_or(|w| k.public_key().key_data() != w.key_data()));
        for key in keys.into_iter().take(AGENT_KEYS) {
            tried.push(format!("the agent's {}", describe(&key.public_key())));
            let result = match key {
                AgentIdentity::PublicKey { key, .. } => {
                    let attempt = handle.authenticate_publickey_with(self.user, key, rsa, &mut agent);
                    self.bounded(AGENT_PATIENCE, attempt).await?.map_err(|e| e.to_string())
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    let attempt =
                        handle.authenticate_certificate_with(self.user, certificate, rsa, &mut agent);
                    self.bounded(AGENT_PATIENCE, attempt).await?.map_err(|e| e.to_string())
                }
            };
            match result {
                Err(why) if !handle.is_closed() => {
                    // The agent would not sign; the next key may do.
                    if let Some(last) = tried.last_mut() {
                        last.push_str(&format!(" ({why})"));
                    }
                }
                Err(_) => return Err(self.lost()),
                Ok(result) => {
                    if self.judge(handle, Ok(result), hint)? {
                        return Ok(true);
                    }
                    if hint.is_some() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(false)
    }

    fn judge(
        &self,
        handle: &Handle<Client>,
        result: Result<AuthResult, russh::Error>,
        hint: &mut Option<String>,
    ) -> Result<bool, NodeError> {
        match step(handle.is_closed(), result) {
            Some(Step::In) => Ok(true),
            Some(Step::Refused) => Ok(false),
            Some(Step::Pointless(why)) => {
                *hint = Some(why);
                Ok(false)
            }
            None => Err(self.lost()),
        }
    }

    fn lost(&self) -> NodeError {
        NodeError::Lost(format!("logging in to {} as {}", self.address, self.user))
    }

    async fn bounded<T>(&self, limit: Duration, attempt: impl Future<Output = T>) -> Result<T, NodeError> {
        tokio::time::timeout(limit, attempt).await.map_err(|_| NodeError::Stalled {
            what: format!("logging in to {}", self.address),
            seconds: limit.as_secs(),
        })
    }
}

/// `None`: the connection is gone.
fn step(closed: bool, result: Result<AuthResult, russh::Error>) -> Option<Step> {
    match result {
        Ok(AuthResult::Success) => Some(Step::In),
        Ok(AuthResult::Failure { remaining_methods, .. }) if closed && remaining_methods.is_empty() => None,
        Ok(AuthResult::Failure { partial_success: true, remaining_methods }) => {
            let rest = names(&remaining_methods);
            Some(Step::Pointless(format!(
                "the key was accepted, but the server wants {rest} too: allow a key alone for this user"
            )))
        }
        Ok(AuthResult::Failure { remaining_methods, .. })
            if !remaining_methods.contains(&MethodKind::PublicKey) =>
        {
            let rest = names(&remaining_methods);
            Some(Step::Pointless(format!(
                "the server takes no further key, only {rest}: check its sshd_config"
            )))
        }
        Ok(AuthResult::Failure { .. }) => Some(Step::Refused),
        Err(_) => None,
    }
}

fn names(methods: &[MethodKind]) -> String {
    let names: Vec<String> = methods.iter().map(|m| <&str>::from(m).to_owned()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}

fn read_key(path: &Path) -> KeyFile {
    use std::io::Read as _;

    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(MAX_KEY_FILE).read_to_string(&mut text));
    if let Err(e) = read {
        return KeyFile::Unusable(e.to_string());
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => KeyFile::Encrypted,
        Ok(key) => KeyFile::Usable(Box::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => KeyFile::Encrypted,
        Err(_) if text.contains("ENCRYPTED") => KeyFile::Encrypted,
        Err(e) => KeyFile::Unusable(format!("no private key that can be read: {e}")),
    }
}

/// The public key that belongs to a private key file, without its passphrase.
fn public_half(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    if let Ok(key) = russh::keys::load_public_key(Path::new(&beside)) {
        return Some(key);
    }
    let text = std::fs::read_to_string(path).ok()?;
    PrivateKey::from_openssh(text).ok().map(|k| k.public_key().clone())
}

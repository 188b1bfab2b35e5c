//! Private keys in files, the certificates beside them, and signing with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey};

/// A private key file is not read beyond this, in bytes.
const MAX_KEY_FILE: u64 = 1 << 20;

pub(super) enum KeyFile {
    Usable(Arc<PrivateKey>),
    /// With its text.
    Encrypted(String),
    Unusable(String),
}

pub(super) fn read_key(path: &Path) -> KeyFile {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(e) => return KeyFile::Unusable(e.to_string()),
    };
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => KeyFile::Encrypted(text),
        Ok(key) => KeyFile::Usable(Arc::new(key)),
        Err(russh::keys::Error::KeyIsEncrypted) => KeyFile::Encrypted(text),
        Err(_) if text.contains("ENCRYPTED") => KeyFile::Encrypted(text),
        Err(e) => KeyFile::Unusable(format!("no private key that can be read: {e}")),
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_KEY_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The public key that belongs to a private key file, without its passphrase. The file may be a public key itself, as
/// OpenSSH allows where an agent holds the other half.
pub(super) fn public_half(path: &Path) -> Option<PublicKey> {
    let public = |path: &Path| {
        let text = read_text(path).ok()?;
        let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'))?;
        PublicKey::from_openssh(line).ok()
    };
    public(&beside(path, ".pub"))
        .or_else(|| public(path))
        .or_else(|| PrivateKey::from_openssh(read_text(path).ok()?).ok().map(|k| k.public_key().clone()))
}

/// Certificates of a key: beside its file, and of those that are named.
pub(super) fn certificates(key: &PublicKey, file: Option<&Path>, named: &[PathBuf]) -> Vec<Certificate> {
    let own = file.map(|f| beside(f, "-cert.pub"));
    let read = |path: &PathBuf| Certificate::from_openssh(read_text(path).ok()?.trim()).ok();
    let all = named.iter().chain(own.as_ref()).filter_map(read);
    all.filter(|c| c.public_key() == key.key_data()).collect()
}

/// Signs with a key that is here, as an agent would.
pub(super) struct Local(pub(super) Arc<PrivateKey>);

#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("the connection is gone")]
    Send(#[from] russh::SendError),
    #[error("cannot sign: {0}")]
    Sign(String),
}

impl russh::Signer for Local {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let fail = |e: &dyn std::fmt::Display| SignError::Sign(e.to_string());
        let signature: Signature = match self.0.key_data() {
            KeypairData::Rsa(pair) => (pair, hash).try_sign(&to_sign).map_err(|e| fail(&e))?,
            pair => pair.try_sign(&to_sign).map_err(|e| fail(&e))?,
        };
        let mut bytes = Vec::new();
        signature.encode(&mut bytes).map_err(|e| fail(&e))?;
        bytes.as_slice().encode(&mut to_sign).map_err(|e| fail(&e))?;
        Ok(to_sign)
    }
}

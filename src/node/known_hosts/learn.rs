//! Recording the key of a new host.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::PublicKey;
use sha1::Sha1;

use super::{KnownHosts, Peer};

impl KnownHosts {
    /// Appends a line to the first file; returns that file's path, and whether this was the first to do so. Of several connections to
    /// the same new host at once only the first one's key is learned.
    pub(super) fn learn(
        &self,
        peer: &Peer<'_>,
        key: &PublicKey,
        hashed: bool,
    ) -> Result<(PathBuf, bool), String> {
        let file = self.files.first().ok_or("there is no known hosts file")?;
        let name = peer.names().swap_remove(0);
        let mut learned = self.learned();
        if let Some((_, other)) = learned.iter().find(|(n, _)| *n == name) {
            return match other.key_data() == key.key_data() {
                true => Ok((file.clone(), false)),
                false => Err("it presented another key a moment ago".to_owned()),
            };
        }
        let text = key.to_openssh().map_err(|e| e.to_string())?;
        let text: Vec<&str> = text.split(' ').take(2).collect();
        let shown = if hashed { hash(&name)? } else { name.clone() };
        append(file, &format!("{shown} {}\n", text.join(" ")))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        learned.push((name, key.clone()));
        Ok((file.clone(), true))
    }

    /// Keys that must not be trusted for any host: `RevokedHostKeys`, one public key a line.
    ///
    /// # Errors
    /// In words, when it cannot be read, or is a key revocation list in OpenSSH's binary form.
    pub fn load_revoked(&mut self, path: &Path) -> Result<(), String> {
        let fail = |e: &dyn std::fmt::Display| format!("RevokedHostKeys {}: {e}", path.display());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|e| fail(&e))?;
        file.take(super::MAX_BYTES).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
        if bytes.starts_with(b"SSHKRL\n\0") {
            return Err(fail(&"a binary revocation list is not read: write one public key a line"));
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let marked: Vec<String> = lines.map(|l| format!("@revoked * {l}")).collect();
        // The first file is the one that new keys are learned into.
        if self.files.is_empty() {
            self.files.push(super::NOWHERE.into());
        }
        let before = self.entries.len();
        self.parse(path, marked.join("\n").as_bytes());
        // A line that is skipped would be a key that is trusted.
        if self.entries.len() - before != marked.len() {
            return Err(fail(&"it has lines that are no public key"));
        }
        Ok(())
    }
}

/// OpenSSH's `HashKnownHosts`.
fn hash(name: &str) -> Result<String, String> {
    let mut salt = [0; 20];
    getrandom::fill(&mut salt).map_err(|e| e.to_string())?;
    let mac = Hmac::<Sha1>::new_from_slice(&salt).map_err(|e| e.to_string())?;
    let hash = mac.chain_update(name.as_bytes()).finalize().into_bytes();
    Ok(format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(hash)))
}

/// One write at the end of the file: `ssh` appends to the same file at any time, and a copy that is renamed over it would
/// lose what came in between. A line that a crash cut short is skipped by every reader.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty() && !f.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let text = if last == [b'\n'] { line.to_owned() } else { format!("\n{line}") };
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

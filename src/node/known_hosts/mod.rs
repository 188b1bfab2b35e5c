//! Which host keys are trusted: OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), parsed and matched
//! here because russh's own look-up takes an `@revoked` key for a good one, knows neither wildcards nor negation, and
//! gives up on the first malformed line.
//!
//! A key that is not recorded is learned only on request ([`Trust::AcceptNew`]): nobody is there to compare fingerprints
//! when forty nodes are reached at once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::NodeError;
use crate::event::Event;

mod certificate;
mod learn;
mod line;
mod mend;

pub(super) use line::glob;
use line::{Entry, Marker, parse_line};

/// A file is not read beyond this, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// A longer line is no host key, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Warnings that are kept; the rest is one more line.
const MAX_WARNINGS: usize = 20;
/// A known hosts file in which nothing is ever found and into which nothing is learned.
pub(super) const NOWHERE: &str = "/dev/null";

/// The host keys of one or more files.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
    /// Full sentences about lines that were skipped.
    pub warnings: Vec<String>,
    /// Keys of hosts that were new in this run.
    learned: Arc<Mutex<Vec<(String, PublicKey)>>>,
}

/// A host that presents a key.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Name or address.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// `HostKeyAlias`: the name under which the key is recorded, in place of both.
    pub alias: Option<&'a str>,
}

impl Peer<'_> {
    /// Names under which its key may be recorded. With a second one, only a good word counts there.
    fn names(&self) -> Vec<String> {
        match self.alias {
            Some(alias) => vec![alias.to_ascii_lowercase()],
            None if self.port == 22 => vec![entry_name(self.host, 22)],
            None => vec![entry_name(self.host, self.port), entry_name(self.host, 22)],
        }
    }

    fn shown(&self) -> String {
        let place = super::ssh::route::address(self.host, self.port);
        self.alias.map_or(place.clone(), |alias| format!("{alias} ({place})"))
    }
}

/// What happens with the key of a host of which none is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is refused.
    Recorded,
    /// It is recorded in the first of the files.
    AcceptNew {
        /// So that the host's name cannot be read in the file.
        hashed: bool,
    },
}

/// A key that a file holds for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// `ssh-ed25519`, `ssh-rsa`…
    pub algorithm: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// Where it stands.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

/// A host whose key is trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct Trusted {
    /// The key, and what speaks for it, in words.
    pub by: String,
    /// That it is recorded from now on, where it was not before.
    pub recorded: Option<Event>,
}

/// What the files say about a key that a host presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Recorded for this host.
    Known,
    /// No key is recorded for this host.
    Unknown {
        /// A `@cert-authority` line matches the host: a certificate is expected of it.
        authority: bool,
    },
    /// Others are recorded for this host, but not this one.
    Changed {
        /// The recorded ones; never empty.
        recorded: Vec<Recorded>,
    },
    /// Marked as one that must not be trusted any more. Wins over everything.
    Revoked {
        /// The `@revoked` line.
        by: Recorded,
    },
}

impl KnownHosts {
    /// Without any key: refuses every host.
    pub fn new() -> Self {
        Self::default()
    }

    /// The files that `ssh` reads by default: `~/.ssh/known_hosts`, `~/.ssh/known_hosts2` and the system's; those that
    /// do not exist are left out.
    ///
    /// # Errors
    /// When one exists but cannot be read.
    pub fn load_default(home: Option<&Path>) -> Result<Self, NodeError> {
        let own = home.map(|h| h.join(".ssh"));
        let own = own.iter().flat_map(|d| [d.join("known_hosts"), d.join("known_hosts2")]);
        let system = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from);
        Self::load_all(own.chain(system))
    }

    /// These files; those that do not exist are left out.
    ///
    /// # Errors
    /// When one exists but cannot be read.
    pub fn load_all(files: impl IntoIterator<Item = PathBuf>) -> Result<Self, NodeError> {
        let mut known = Self::default();
        for file in files {
            if file.exists() {
                known.load(&file)?;
            } else {
                known.files.push(file);
            }
        }
        Ok(known)
    }

    /// Adds the keys of one file.
    ///
    /// # Errors
    /// When it cannot be read or is too large; a malformed line is only a warning.
    pub fn load(&mut self, path: &Path) -> Result<(), NodeError> {
        use std::io::Read as _;

        let fail = |e: std::io::Error| {
            NodeError::HostKey(format!("cannot read the known hosts file {}: {e}", path.display()))
        };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(fail)?;
        if bytes.len() as u64 > MAX_BYTES {
            let text = format!("the known hosts file {} has more than {MAX_BYTES} bytes", path.display());
            return Err(NodeError::HostKey(text));
        }
        self.parse(path, &bytes);
        Ok(())
    }

    /// Adds the keys of a file's content; `path` is for messages.
    pub fn parse(&mut self, path: &Path, bytes: &[u8]) {
        let file = self.files.len();
        self.files.push(path.to_owned());
        for (index, line) in bytes.split(|&b| b == b'\n').enumerate() {
            match parse_line(line, file, index + 1) {
                Ok(None) => {}
                Ok(Some(entry)) => self.entries.push(entry),
                Err(why) if self.warnings.len() < MAX_WARNINGS => {
                    let text = format!("{}:{}: skipped: {why}", path.display(), index + 1);
                    self.warnings.push(text);
                }
                Err(_) if self.warnings.len() == MAX_WARNINGS => {
                    self.warnings.push(format!("{}: more lines were skipped", path.display()));
                }
                Err(_) => {}
            }
        }
    }

    /// Judges a key that `host` presents on `port`.
    ///
    /// As in OpenSSH, a host on another port than 22 is recorded as `[host]:port`; when nothing is recorded under that
    /// name, a key that is recorded for the plain name is good too.
    pub fn check(&self, host: &str, port: u16, key: &PublicKey) -> Verdict {
        self.check_peer(&Peer { host, port, alias: None }, key)
    }

    fn check_peer(&self, peer: &Peer<'_>, key: &PublicKey) -> Verdict {
        let names = peer.names();
        let verdict = self.check_name(&names[0], key);
        let Some(plain) = names.get(1).filter(|_| matches!(verdict, Verdict::Unknown { .. })) else {
            return verdict;
        };
        match self.check_name(plain, key) {
            plain @ (Verdict::Known | Verdict::Revoked { .. }) => plain,
            Verdict::Changed { .. } | Verdict::Unknown { .. } => verdict,
        }
    }

    fn check_name(&self, name: &str, key: &PublicKey) -> Verdict {
        let (mut known, mut authority, mut recorded) = (false, false, Vec::new());
        for entry in self.entries.iter().filter(|e| e.hosts.matches(name)) {
            let same = entry.key.key_data() == key.key_data();
            match entry.marker {
                Marker::Revoked if same => return Verdict::Revoked { by: self.recorded(entry) },
                Marker::Revoked => {}
                Marker::Authority => authority = true,
                Marker::None if same => known = true,
                Marker::None => recorded.push(self.recorded(entry)),
            }
        }
        for (_, learned) in self.learned().iter().filter(|(n, _)| n == name) {
            if learned.key_data() == key.key_data() {
                known = true;
            } else {
                let file = self.files.first().cloned().unwrap_or_default();
                recorded.push(Recorded { file, line: 0, ..Recorded::of(learned) });
            }
        }
        match (known, recorded.is_empty()) {
            (true, _) => Verdict::Known,
            (false, false) => Verdict::Changed { recorded },
            (false, true) => Verdict::Unknown { authority },
        }
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, Vec<(String, PublicKey)>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `@revoked` line about a key, whatever kind of key it is of this host.
    fn revoked(&self, names: &[String], key: &KeyData) -> Option<Recorded> {
        let about = |e: &&Entry| e.marker == Marker::Revoked && e.key.key_data() == key;
        let entry = self.entries.iter().filter(about).find(|e| names.iter().any(|n| e.hosts.matches(n)))?;
        Some(self.recorded(entry))
    }

    fn recorded(&self, entry: &Entry) -> Recorded {
        Recorded { file: self.files[entry.file].clone(), line: entry.line, ..Recorded::of(&entry.key) }
    }

    /// Host key algorithms in the order to ask for: those of the recorded keys first, so that a host with several keys
    /// presents the one that can be checked. SHA-1 signatures (`ssh-rsa`) are not among them.
    pub fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        self.algorithms_of(&Peer { host, port, alias: None })
    }

    pub(super) fn algorithms_of(&self, peer: &Peer<'_>) -> Vec<Algorithm> {
        let names = peer.names();
        let has = |algorithm: &Algorithm| {
            self.entries.iter().any(|e| {
                let rsa = |a: &Algorithm| matches!(a, Algorithm::Rsa { .. });
                let recorded = e.key.algorithm();
                let same = recorded == *algorithm || (rsa(&recorded) && rsa(algorithm));
                same && e.marker == Marker::None && names.iter().any(|n| e.hosts.matches(n))
            })
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = all_algorithms().into_iter().partition(has);
        first.extend(rest);
        first
    }

    /// As [`KnownHosts::judge`] without learning.
    ///
    /// # Errors
    /// [`NodeError::HostKey`] unless the key is known.
    pub fn accept(&self, host: &str, port: u16, presented: &PublicKeyOrCertificate) -> Result<(), NodeError> {
        self.judge(&Peer { host, port, alias: None }, presented, Trust::Recorded).map(drop)
    }

    /// Judges what a host presents: that it is known, and by what, in words; or a refusal that says what was presented,
    /// what is recorded and what to do.
    ///
    /// # Errors
    /// [`NodeError::HostKey`] unless the key is known, was learned, or a certificate of an authority speaks for it.
    pub fn judge(
        &self,
        peer: &Peer<'_>,
        presented: &PublicKeyOrCertificate,
        trust: Trust,
    ) -> Result<Trusted, NodeError> {
        let mut refused = String::new();
        if let PublicKeyOrCertificate::Certificate(certificate) = presented {
            match self.check_certificate(peer, certificate) {
                Ok(by) => return Ok(Trusted { by, recorded: None }),
                // The key inside of it may still be one that is recorded.
                Err(why) => refused = format!("; its certificate does not count: {why}"),
            }
        }
        let key = presented.public_key();
        let shown = format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256));
        let at = |r: &Recorded| {
            let shared = if self.shared(r) { ", a line that is for other hosts too" } else { "" };
            format!("{} {} ({}:{}{shared})", r.algorithm, r.fingerprint, r.file.display(), r.line)
        };
        let (name, scan) = (peer.shown(), self.scan(peer));
        let own = mend::own_file(&key);
        let text = match self.check_peer(peer, &key) {
            Verdict::Known => {
                let names = peer.names();
                let knows = |e: &&Entry| {
                    let same = e.marker == Marker::None && e.key.key_data() == key.key_data();
                    same && names.iter().any(|n| e.hosts.matches(n))
                };
                let line = self.entries.iter().find(knows).map(|e| self.recorded(e));
                let line = line.map_or(String::new(), |r| format!(" ({}:{})", r.file.display(), r.line));
                return Ok(Trusted { by: format!("{shown}{line}"), recorded: None });
            }
            Verdict::Unknown { .. } if trust != Trust::Recorded => {
                let hashed = trust == Trust::AcceptNew { hashed: true };
                return match self.learn(peer, &key, hashed) {
                    Ok((file, first)) => {
                        let by = format!("{shown}, new, recorded in {}", file.display());
                        let event = Event::HostKeyRecorded {
                            host: name,
                            key: shown,
                            file: file.display().to_string(),
                        };
                        Ok(Trusted { by, recorded: first.then_some(event) })
                    }
                    Err(why) => Err(NodeError::HostKey(format!(
                        "the host key of {name} is new ({shown}) and cannot be recorded: {why}"
                    ))),
                };
            }
            Verdict::Unknown { authority } => {
                let files: Vec<_> = self.files.iter().map(|f| f.display().to_string()).collect();
                let files = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
                let note = match authority {
                    true if refused.is_empty() => {
                        "; a @cert-authority line matches, but it presents no certificate"
                    }
                    _ => refused.as_str(),
                };
                format!(
                    "the host key of {name} is unknown: it presents {shown}, nothing is recorded in {files}{note}; \
                     compare this fingerprint first with the one that the node itself shows \
                     (ssh-keygen -lf {own}); if it is the same, record the key: {scan} \
                     (`--host-keys accept-new` records what hosts present that are not known, without comparing)"
                )
            }
            Verdict::Changed { recorded } => {
                let forget = self.forget(peer, &recorded);
                let recorded: Vec<_> = recorded.iter().map(at).collect();
                format!(
                    "the host key of {name} has changed: it presents {shown}, recorded is {}{refused}; either the node was \
                     reinstalled or somebody is in between: read the fingerprint on the node itself \
                     (ssh-keygen -lf {own}); only if it is the presented one, remove what is \
                     recorded and record the new key: {forget} && {scan}",
                    recorded.join(", "),
                )
            }
            Verdict::Revoked { by } => format!(
                "the host key of {name} is revoked: it presents {shown}, which {}:{} marks @revoked; give the \
                 node a new host key",
                by.file.display(),
                by.line
            ),
        };
        Err(NodeError::HostKey(text))
    }
}

impl Recorded {
    /// Without a place.
    fn of(key: &PublicKey) -> Self {
        Self {
            algorithm: key.algorithm().as_str().to_owned(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            file: PathBuf::new(),
            line: 0,
        }
    }
}

/// Of host keys; SHA-1 signatures (`ssh-rsa`) are not among them.
fn all_algorithms() -> [Algorithm; 6] {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    [
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(HashAlg::Sha512),
        rsa(HashAlg::Sha256),
    ]
}

/// A peer wrote it.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The name under which a host and port are recorded.
fn entry_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

#[cfg(test)]
mod tests;

//! Nodes: the inventory that names them and the session that reaches them. A session runs commands and takes blobs
//! into a staging folder, nothing else, so that an in-process node, a node over SSH and this machine are the same
//! to the push.

use std::time::Duration;

use async_trait::async_trait;

use crate::store::BlobStore;

mod command;
mod hold;
pub mod inventory;
pub mod known_hosts;
mod local;
mod process;
mod secret;
mod sftp;
pub mod ssh;
pub mod ssh_config;
mod whoami;

pub use hold::Holder;
pub use inventory::{Inventory, Node};
pub use known_hosts::KnownHosts;
pub use local::LocalSession;
pub use secret::Secret;
pub use ssh::{SshOptions, SshSession};
pub use ssh_config::SshConfig;
pub use whoami::login_name;

/// A command for a node: a POSIX `sh` script, so that every part of it can be read in a log.
///
/// Secrets never go into `script`: it is visible in the node's process list. Build scripts with [`quote`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCommand {
    /// Given to `sh -c`.
    pub script: String,
    /// Whether it needs root: run through `sudo` when the session's user is not root.
    pub root: bool,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// How long without any output before it is given up; `None`: the session's default.
    pub patience: Option<Duration>,
}

impl RemoteCommand {
    /// As the session's own user.
    pub fn user(script: impl Into<String>) -> Self {
        Self { script: script.into(), root: false, stdin: Vec::new(), patience: None }
    }

    /// As root.
    pub fn root(script: impl Into<String>) -> Self {
        Self { root: true, ..Self::user(script) }
    }
}

/// A word for `sh`, in single quotes where it needs them: whatever is in it stays data.
pub fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether `path` may be used as a folder or file on a node: absolute, not the root, no `.`, `..` or empty part, no
/// control characters, at most 1024 bytes.
///
/// # Errors
/// In words.
pub fn check_remote_path(path: &str) -> Result<(), String> {
    let shown: String = path.chars().take(80).collect();
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("{shown:?} is not absolute: begin it with /"));
    };
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.len() > 1024 || path.chars().any(char::is_control) || rest.split('/').any(bad) {
        return Err(format!("{shown:?} is no plain absolute path: without . or .. or // and not / itself"));
    }
    Ok(())
}

/// What a command left behind. Bounded: more than the session's limit is an error, not a bigger buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandOutput {
    /// The exit status; 128 + signal when it was killed.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl CommandOutput {
    /// Exit status 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// Standard output as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last non-empty line of standard error, for messages; at most 400 characters.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let line = text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no message");
        line.chars().filter(|c| !c.is_control()).take(400).collect()
    }
}

/// Why a node cannot be used. Each text names the cause and the way out; the caller adds the node's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No TCP connection, or it broke.
    #[error("cannot reach {address}: {reason}{}", way_out(reason))]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        reason: String,
    },
    /// The host key is not the recorded one, or none is recorded.
    #[error("{0}")]
    HostKey(String),
    /// Nobody let us in.
    #[error("{address} refused the user {user}: tried {tried}; {hint}")]
    Auth {
        /// Host and port.
        address: String,
        /// Login name.
        user: String,
        /// What was offered.
        tried: String,
        /// What to do.
        hint: String,
    },
    /// `sudo` wants what we do not have.
    #[error("sudo refused: {0}")]
    Sudo(String),
    /// A command failed.
    #[error("{what} failed with status {status}: {complaint}")]
    Command {
        /// What was being done, in words.
        what: String,
        /// Exit status.
        status: i32,
        /// What it said.
        complaint: String,
    },
    /// Another run is at work in the staging folder.
    #[error(
        "another run is at work on this node: {holder}; wait until it has ended, then run the same command again (the node \
         forgets a run that was killed within two minutes)"
    )]
    Busy {
        /// Host, process, run and since when, in its own words.
        holder: String,
    },
    /// Nothing moved for too long.
    #[error("{what}: no progress for {seconds} s")]
    Stalled {
        /// What was being done.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection is gone.
    #[error("connection lost while {0}")]
    Lost(String),
    /// Staging failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// What to look at, by what the system said; what comes from a proxy or jump host speaks for itself.
fn way_out(reason: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|w| reason.contains(w));
    match () {
        () if has(&["no answer within", "timed out"]) => {
            " (is it switched on, the address right, port and network open to here?)"
        }
        () if has(&["No route to host", "unreachable"]) => {
            " (is it switched on, and in a network that this machine reaches?)"
        }
        () if has(&["Connection refused"]) => " (does sshd run there, on this port?)",
        () if has(&["failed to lookup", "not known", "Temporary failure in name", "not resolve"]) => {
            " (correct the host, or write its IP address)"
        }
        () => "",
    }
}

impl NodeError {
    /// Whether the same step may succeed over a new connection.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Stalled { .. } | Self::Lost(_) => true,
            Self::Store(e) => e.may_retry(),
            _ => false,
        }
    }
}

/// An open way to one node.
#[async_trait]
pub trait NodeSession: Send + Sync {
    /// Runs a command to its end. A status other than 0 is no error here.
    ///
    /// # Errors
    /// When it could not be run or did not end: lost connection, no progress, too much output, sudo refused.
    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError>;

    /// Makes the folder `path` ready as staging (created, owned by the session's user, mode 0700) and opens it as a
    /// blob store with the layout `blobs/sha256/HEX`, beside which partial blobs and their journal live.
    async fn staging(&self, path: &str) -> Result<Box<dyn BlobStore>, NodeError>;

    /// Makes the staging folder, which [`NodeSession::staging`] has prepared, this run's own until the session is closed
    /// or lost, and sweeps what interrupted runs left there that nobody can use. Does nothing when the session holds it
    /// already, or when the node has no `flock`. Whether it is held: without `flock` nobody knows who else is at work there.
    ///
    /// # Errors
    /// [`NodeError::Busy`] when another run holds it; whatever keeps the command from running.
    async fn hold(&self, staging: &str, holder: &Holder) -> Result<bool, NodeError>;

    /// Writes a small file into staging: staged, synced, renamed. `path` is absolute.
    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), NodeError>;

    /// Closes the connection; errors are of no interest any more.
    async fn close(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_reached_is_told_with_what_to_look_at() {
        for (reason, way) in [
            ("no answer within 20 s", "switched on, the address right"),
            ("No route to host (os error 113)", "in a network that this machine reaches"),
            ("Connection refused (os error 111)", "does sshd run there"),
            ("failed to lookup address information: Name or service not known", "or write its IP address"),
            ("ssh: Could not resolve hostname x: Name or service not known", "or write its IP address"),
        ] {
            let error = NodeError::Connect { address: "h:22".into(), reason: reason.into() }.to_string();
            assert!(error.contains(reason) && error.contains(way), "{error}");
        }
        let error = NodeError::Connect { address: "h:22".into(), reason: "odd".into() };
        assert_eq!(error.to_string(), "cannot reach h:22: odd");
    }

    #[test]
    fn quoting_keeps_data_data() {
        assert_eq!(quote("plain/path-1.0:x@y"), "plain/path-1.0:x@y");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b; rm -rf $HOME"), "'a b; rm -rf $HOME'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("~root"), "'~root'");
    }
}

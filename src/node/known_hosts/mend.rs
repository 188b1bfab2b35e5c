//! Commands that put a file of known hosts right, to be pasted.

use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, PublicKey};

use super::line::{Entry, Hosts};
use super::{KnownHosts, NOWHERE, Peer, Recorded};
use crate::node::quote;
use crate::node::ssh::route::distinct;

/// Where a host of OpenSSH keeps the key, for people.
pub(super) fn own_file(key: &PublicKey) -> String {
    let kind = match key.algorithm() {
        Algorithm::Rsa { .. } => "rsa",
        Algorithm::Ecdsa { .. } => "ecdsa",
        _ => "ed25519",
    };
    format!("/etc/ssh/ssh_host_{kind}_key.pub")
}

impl KnownHosts {
    /// Records a host's keys. Into the first file: with `--known-hosts` it is the one that was named, else the user's own. Its folder
    /// need not be there yet.
    pub(super) fn scan(&self, peer: &Peer<'_>) -> String {
        let file = self.files.iter().find(|f| *f != Path::new(NOWHERE));
        let into = file.map_or_else(|| "~/.ssh/known_hosts".to_owned(), |f| quote(&f.display().to_string()));
        let folder = file.and_then(|f| f.parent()).filter(|f| !f.as_os_str().is_empty() && !f.exists());
        let make = folder.map(|f| format!("mkdir -p -m 700 {} && ", quote(&f.display().to_string())));
        // `ssh-keyscan` knows a host by its address only.
        let alias = peer.alias.filter(|a| quote(a) == *a);
        let rename = alias.map(|a| format!(" | sed 's|^[^ ]*|{a}|'")).unwrap_or_default();
        format!(
            "{}ssh-keyscan -p {} {}{rename} >> {into}",
            make.unwrap_or_default(),
            peer.port,
            quote(peer.host)
        )
    }

    /// Removes what is recorded for a host. `ssh-keygen -R` takes whole lines away, those with the host's name as a hash too.
    pub(super) fn forget(&self, peer: &Peer<'_>, recorded: &[Recorded]) -> String {
        let name = peer.names().swap_remove(0);
        let files = distinct(recorded.iter().map(|r| r.file.clone()));
        let one = |file: &PathBuf| {
            // The system's own file is root's.
            let sudo = if file.starts_with("/etc") { "sudo " } else { "" };
            format!("{sudo}ssh-keygen -R {} -f {}", quote(&name), quote(&file.display().to_string()))
        };
        files.iter().map(one).collect::<Vec<_>>().join(" && ")
    }

    /// Whether the line is for other hosts too: it goes with all of them.
    pub(super) fn shared(&self, recorded: &Recorded) -> bool {
        let at = |e: &&Entry| e.line == recorded.line && self.files[e.file] == recorded.file;
        self.entries.iter().find(at).is_some_and(|e| match &e.hosts {
            Hosts::Patterns(all) => all.len() > 1 || all.iter().any(|(_, p)| p.contains(['*', '?'])),
            Hosts::Hashed { .. } => false,
        })
    }
}

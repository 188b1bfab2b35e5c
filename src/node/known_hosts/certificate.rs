//! Host certificates: keys that an authority speaks for (`@cert-authority`).

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg};

use super::{KnownHosts, Marker, Peer, all_algorithms, glob};

impl KnownHosts {
    /// Algorithms of certificates to ask a host for: none unless an authority is recorded for it, since a host that has both
    /// would then present a certificate that nobody here can judge.
    pub(crate) fn certificate_algorithms(&self, peer: &Peer<'_>) -> Vec<Algorithm> {
        let names = peer.names();
        let authority = self
            .entries
            .iter()
            .any(|e| e.marker == Marker::Authority && names.iter().any(|n| e.hosts.matches(n)));
        if authority { all_algorithms().into() } else { Vec::new() }
    }

    /// Which line speaks for a certificate; why none does otherwise. That the host has the key in it was proved by the key
    /// exchange; that an authority signed it, for this host and this time, is judged here.
    pub(super) fn check_certificate(
        &self,
        peer: &Peer<'_>,
        certificate: &Certificate,
    ) -> Result<String, String> {
        let names = peer.names();
        for (key, what) in
            [(certificate.public_key(), "its key"), (certificate.signature_key(), "its authority")]
        {
            if let Some(by) = self.revoked(&names, key) {
                return Err(format!("{what} is revoked by {}:{}", by.file.display(), by.line));
            }
        }
        let signer = certificate.signature_key();
        let authority = self.entries.iter().find(|e| {
            e.marker == Marker::Authority
                && e.key.key_data() == signer
                && names.iter().any(|n| e.hosts.matches(n))
        });
        let fingerprint = signer.fingerprint(HashAlg::Sha256);
        let Some(authority) = authority else {
            return Err(format!("no @cert-authority line for this host has {fingerprint}, which signed it"));
        };
        if certificate.cert_type() != CertType::Host {
            return Err("it is a user's, not a host's".to_owned());
        }
        if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
            return Err("it is signed with SHA-1".to_owned());
        }
        if certificate.critical_options().iter().next().is_some() {
            return Err("it has critical options, of which none is known for hosts".to_owned());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if now < certificate.valid_after() || now >= certificate.valid_before() {
            return Err(
                "it is not valid at this time: look at its dates and at the clock of this machine".to_owned()
            );
        }
        certificate.validate_at(now, [&fingerprint]).map_err(|_| "its signature is wrong".to_owned())?;
        let name = peer.alias.unwrap_or(peer.host).to_ascii_lowercase();
        let principals = certificate.valid_principals();
        let meant = |p: &String| glob(p.to_ascii_lowercase().as_bytes(), name.as_bytes());
        if !principals.is_empty() && !principals.iter().any(meant) {
            let all: Vec<String> = principals.iter().take(5).map(|p| super::shown(p)).collect();
            return Err(format!("it is for {}, not for {name}", all.join(", ")));
        }
        let by = self.recorded(authority);
        Ok(format!(
            "certificate {} of {} {} ({}:{})",
            super::shown(certificate.key_id()),
            by.algorithm,
            by.fingerprint,
            by.file.display(),
            by.line
        ))
    }
}

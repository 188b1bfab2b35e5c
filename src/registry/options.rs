use std::path::PathBuf;
use std::time::Duration;

use super::credentials::canonical;
use super::{Credentials, Hosts, RetryOptions};

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Registries (`HOST[:PORT]`) that are spoken to by plain HTTP. All others by HTTPS, `localhost` too.
    pub plain_http: Vec<String>,
    /// PEM files with authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Who is logged in where.
    pub credentials: Credentials,
    /// Mirrors, certificates and limits of single registries.
    pub hosts: Hosts,
    /// Takes layers that their publisher does not want redistributed (Windows' base layers), instead of refusing the
    /// image.
    pub foreign_layers: bool,
    /// Whether builds also take what refers to an image: signatures, attestations, SBOMs.
    pub with_referrers: bool,
    /// Requests to one host at the same time, where its rules say nothing else.
    pub per_registry: usize,
    /// Requests at the same time while a graph is read; how many blobs a copy should read at once.
    pub concurrency: usize,
    /// For TCP and TLS to come up.
    pub connect_timeout: Duration,
    /// Without a single byte, be it of the answer's head or of a body. A registry that drips, a byte before each such
    /// time is over, is not given up: that is slow, and no less sure than a slow line. Only documents have a limit for
    /// all of it ([`RegistryOptions::document_timeout`]).
    pub stall_timeout: Duration,
    /// For a whole manifest, config or token.
    pub document_timeout: Duration,
    /// What is done about passing failures.
    pub retries: RetryOptions,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            ca_files: Vec::new(),
            credentials: Credentials::anonymous(),
            hosts: Hosts::default(),
            foreign_layers: false,
            with_referrers: false,
            per_registry: 16,
            concurrency: 4,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            document_timeout: Duration::from_secs(180),
            retries: RetryOptions::default(),
        }
    }
}

impl RegistryOptions {
    /// Whether a registry (`HOST[:PORT]`) is spoken to by plain HTTP.
    pub fn is_plain(&self, registry: &str) -> bool {
        let name = canonical(registry);
        self.plain_http.iter().any(|host| canonical(host) == name)
    }
}

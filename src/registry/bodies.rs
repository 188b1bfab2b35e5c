//! Bodies of blobs, streamed by `oci-client`.
//!
//! `oci-client` says of an answer that is no success what its body says, and of one that is a success how long it is
//! and whether it is a part; the rest of its head stays inside. So whatever it cannot tell apart ends as
//! [`Unopened::Ask`]: the same request is then made by [`Http::once`], which sees all of it.

use std::time::Duration;

use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::Method;

use super::http::{Call, Http, Target, USER_AGENT, api_host};
use super::retry::Failure;
use super::{RegistryError, RegistryOptions};
use crate::oci::Digest;

/// For the head of an answer, where `stall_timeout` is not shorter. `oci-client` reads the whole body of an error
/// before it returns, however long a registry makes it: only time bounds that, so it is short. A registry that
/// honestly takes longer (a cache that has to fetch the blob first) is asked again by our own request, which has the
/// whole `stall_timeout`.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// `oci-client` drops tokens by its own idea of how long they last; here [`super::auth::Session`] knows better.
const TOKEN_LIFETIME: usize = 24 * 60 * 60;

/// Why there is no body.
pub(super) enum Unopened {
    /// What is wrong is known.
    Failed(Failure),
    /// Our own request is to find out, or to do better.
    Ask {
        /// The login that was refused, if that is what happened.
        refused: Option<u64>,
    },
}

const ASK: Unopened = Unopened::Ask { refused: None };

/// `None` on a machine without any authorities where no CA file is given either: `oci-client` cannot be told to do
/// without, and our own client still reads plain HTTP there.
pub(super) fn client(options: &RegistryOptions, authorities: &[Vec<u8>]) -> Option<Client> {
    let certificates = || {
        let pem = |data: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() };
        authorities.iter().map(pem).collect()
    };
    let config = || ClientConfig {
        protocol: ClientProtocol::HttpsExcept(options.plain_http.iter().map(|h| api_host(h)).collect()),
        user_agent: USER_AGENT,
        connect_timeout: Some(options.connect_timeout),
        read_timeout: Some(options.stall_timeout),
        default_token_expiration_secs: TOKEN_LIFETIME,
        ..ClientConfig::default()
    };
    let merged = ClientConfig { extra_root_certificates: certificates(), ..config() };
    // Never `Client::new`: where it fails it goes on with a client that has none of this configuration.
    Client::try_from(merged).ok().or_else(|| {
        let only = ClientConfig { tls_certs_only: certificates(), ..config() };
        Client::try_from(only).ok()
    })
}

impl Http {
    /// Asks for a blob from a byte on: `length` bytes, or all that follow.
    pub(super) async fn open(
        &self,
        target: &Target<'_>,
        digest: &Digest,
        from: u64,
        length: Option<u64>,
    ) -> Result<BlobResponse, Unopened> {
        let Some(client) = self.bodies.as_ref().filter(|_| target.place.usual) else { return Err(ASK) };
        self.introduce(target, digest).await?;
        let host = api_host(target.registry);
        let reference = Reference::with_digest(host, target.repository.to_owned(), digest.to_string());
        let seen = self.hand_over(client, target, &reference).await?;
        let name = digest.to_string();
        let asking = client.pull_blob_stream_partial(&reference, name.as_str(), from, length);
        match tokio::time::timeout(self.options.stall_timeout.min(HEAD_PATIENCE), asking).await {
            Ok(Ok(response)) => Ok(response),
            // The connection failed: `reqwest` says how, as it does to us.
            Ok(Err(OciDistributionError::RequestError(error))) => {
                Err(Unopened::Failed(self.failure(target, &error)))
            }
            Ok(Err(OciDistributionError::UnauthorizedError { .. })) => {
                Err(Unopened::Ask { refused: Some(seen) })
            }
            Ok(Err(_)) | Err(_) => Err(ASK),
        }
    }

    /// The first request to a repository is our own, so that its challenge is answered and its errors are read
    /// within bounds before `oci-client` meets it.
    async fn introduce(&self, target: &Target<'_>, digest: &Digest) -> Result<(), Unopened> {
        if self.session(target).lock().await.answered {
            return Ok(());
        }
        let call = Call { method: Method::HEAD, path: format!("blobs/{digest}"), range: None };
        match self.once(target, &call).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(match failure.error {
                // GET may be answered where HEAD is not, and if it fails as well it says why.
                RegistryError::NotFound { .. }
                | RegistryError::Denied { .. }
                | RegistryError::Server { .. }
                | RegistryError::Status { .. } => ASK,
                _ => Unopened::Failed(failure),
            }),
        }
    }

    /// Gives `oci-client` the login that is good now, and says which one that is.
    async fn hand_over(
        &self,
        client: &Client,
        target: &Target<'_>,
        reference: &Reference,
    ) -> Result<u64, Unopened> {
        let session = self.session(target);
        // Held until the login is in its cache, so that no older one follows it there.
        let mut session = session.lock().await;
        session.refresh(self, target).await.map_err(Unopened::Failed)?;
        let (_, generation) = session.current();
        if session.unfit == Some(generation) {
            return Err(ASK);
        }
        if let Some(login) = session.login.clone().filter(|_| session.handed != generation) {
            // Without an entry here its cache is not looked at. It logs in by itself when the cache has nothing for a
            // repository, except with this kind of entry, which it then sends as it is: an empty one is no secret, and
            // is refused like none.
            let nobody = RegistryAuth::Bearer(String::new());
            client.store_auth_if_needed(reference.resolve_registry(), &nobody).await;
            client.tokens.insert(reference, RegistryOperation::Pull, login).await;
            session.handed = generation;
        }
        Ok(generation)
    }

    /// A login that `oci-client` was refused with and we were not: it does not keep tokens that look like a JWT and
    /// cannot be read as one, or that ran out by this machine's clock.
    pub(super) async fn unfit(&self, target: &Target<'_>, generation: u64) {
        let session = self.session(target);
        let mut session = session.lock().await;
        if session.current().1 == generation {
            session.unfit = Some(generation);
        }
    }
}

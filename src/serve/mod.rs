//! A registry in this process: the reading half of OCI distribution-spec 1.1 over any [`BlobSource`] and a list of
//! tags. For the demonstration, for tests, and for handing a bundle's images to whoever can pull.
//!
//! Content is what the [`BlobSource`] has: a blob is there in every repository that has a tag. What is served is
//! not verified here; clients do, and the store did when it took the blob.
//!
//! [`Faults`] makes it misbehave on purpose, so that clients can be tried against registries that do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::oci::{Descriptor, Digest, ImageRef};
use crate::store::BlobSource;

mod access;
mod body;
mod faults;
mod handler;

pub use access::Access;
pub use faults::{Fault, Faults, Scope};
pub use handler::Request;

/// Connections at the same time; more wait.
const MAX_CONNECTIONS: usize = 256;
/// For the head of a request: a client that sends none does not keep its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What is served under which name: repositories (`lab/web`, without a host) and their tags. Shared: a change is
/// seen by a running server.
#[derive(Debug, Clone, Default)]
pub struct Catalog(Arc<RwLock<BTreeMap<String, BTreeMap<String, Descriptor>>>>, Arc<RwLock<Referrers>>);

/// By repository and subject.
type Referrers = BTreeMap<(String, Digest), Vec<Descriptor>>;

impl Catalog {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a tag point to an index or manifest.
    pub fn tag(&self, repository: &str, tag: &str, root: Descriptor) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(repository.to_owned()).or_default().insert(tag.to_owned(), root);
    }

    /// Serves an image under its own repository path and tag; without a tag it can be had by digest only.
    pub fn add(&self, image: &ImageRef, root: Descriptor) {
        match image.tag() {
            Some(tag) => self.tag(image.repository(), tag, root),
            None => {
                let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
                all.entry(image.repository().to_owned()).or_default();
            }
        }
    }

    /// Lists a manifest among the referrers of another. A catalog without any is that of a registry that does not
    /// know the referrers API.
    pub fn refer(&self, repository: &str, subject: &Digest, referrer: Descriptor) {
        let mut all = self.1.write().unwrap_or_else(PoisonError::into_inner);
        all.entry((repository.to_owned(), subject.clone())).or_default().push(referrer);
    }

    fn referrers(&self, repository: &str, subject: &Digest) -> Option<Vec<Descriptor>> {
        let all = self.1.read().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.to_owned(), subject.clone());
        (!all.is_empty()).then(|| all.get(&key).cloned().unwrap_or_default())
    }

    fn find(&self, repository: &str, tag: &str) -> Option<Descriptor> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(repository)?.get(tag).cloned()
    }

    fn tags(&self, repository: &str) -> Option<Vec<String>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(repository).map(|tags| tags.keys().cloned().collect())
    }

    fn repositories(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Is told of every request after it was answered.
pub type Observer = Arc<dyn Fn(&Request) + Send + Sync>;

/// How a server behaves.
#[derive(Clone, Default)]
pub struct ServeOptions {
    /// Who may read.
    pub access: Access,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// Who is told of requests.
    pub observer: Option<Observer>,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions").field("access", &self.access).finish_non_exhaustive()
    }
}

/// A running registry. Dropped, it stops like after [`Server::shutdown`], but nobody waits for it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Listens on `address` (`HOST:PORT`; port 0 takes a free one) and serves in the background, by plain HTTP.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub async fn bind(
        address: &str,
        store: Arc<dyn BlobSource>,
        catalog: Catalog,
        options: ServeOptions,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let service = Arc::new(handler::Service::new(address, store, catalog, options));
        tasks.spawn(accept(listener, service, stop.clone(), tasks.clone()));
        tasks.close();
        Ok(Self { address, stop, tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: no new connections, those that are idle are closed, and answers under way are cut off.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    service: Arc<handler::Service>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = stop.cancelled() => return,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, as a rule: give the others time to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (service, stop) = (Arc::clone(&service), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(stream, service) => {}
            }
            drop(slot);
        });
    }
}

async fn serve(stream: TcpStream, service: Arc<handler::Service>) {
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { service.answer(request).await }
    });
    // A client that goes away in the middle is its own business.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

//! The registry client against the registry of this process, which misbehaves in every way that was asked for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use omk::copy::{Job, Transfer, copy_all};
use omk::event::{Event, Events, Recorder, silent};
use omk::graph::ImageGraph;
use omk::oci::{Descriptor, Digest, ImageRef, media};
use omk::registry::{Credentials, Login, Registry, RegistryError, RegistryOptions, RetryOptions, Secret};
use omk::serve::{Access, Fault, Faults, Request, Scope, ServeOptions, Server};
use omk::store::{BlobSource as _, MemoryStore, StoreError, read_verified};
use tokio_util::sync::CancellationToken;

use crate::images::{image, index, noise, serve};

const BIG: usize = 3_000_000;

/// A server with an index of two platforms, and a client that knows it.
struct World {
    store: MemoryStore,
    root: Descriptor,
    big: Descriptor,
    server: Server,
    faults: Faults,
    seen: Arc<Mutex<Vec<Request>>>,
    events: Arc<Recorder>,
    name: ImageRef,
}

impl World {
    async fn new(access: Access) -> Self {
        let store = MemoryStore::new();
        let layer = noise(1, BIG);
        let amd = image(&store, "linux/amd64", &[&noise(2, 1000), &layer]);
        let arm = image(&store, "linux/arm64", &[&noise(3, 1000)]);
        let root = index(&store, &[amd, arm]);
        let big = Descriptor::of(media::OCI_LAYER, &layer);
        let (faults, seen) = (Faults::none(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        let observer: omk::serve::Observer = Arc::new(move |r: &Request| log.lock().unwrap().push(r.clone()));
        let options = ServeOptions { access, faults: faults.clone(), observer: Some(observer) };
        let server = serve(&store, &root, options).await;
        let name = format!("{}/lab/web:1", server.addr()).parse().unwrap();
        Self { store, root, big, server, faults, seen, events: Arc::default(), name }
    }

    async fn open() -> Self {
        Self::new(Access::Open).await
    }

    fn options(&self) -> RegistryOptions {
        let retries = RetryOptions {
            attempts: 4,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(20),
            patience: Duration::from_secs(2),
        };
        let stall_timeout = Duration::from_millis(400);
        let plain_http = vec![self.server.addr().to_string()];
        RegistryOptions { plain_http, stall_timeout, retries, ..RegistryOptions::default() }
    }

    fn client(&self) -> Registry {
        Registry::new(self.options()).unwrap()
    }

    fn logged_in(&self, user: &str, password: &str) -> Registry {
        let login = Login { user: user.to_owned(), password: Secret::new(password) };
        let credentials = Credentials::anonymous().with_login(self.name.registry(), login);
        Registry::new(RegistryOptions { credentials, ..self.options() }).unwrap()
    }

    fn events(&self) -> Events {
        self.events.clone()
    }

    fn retries(&self) -> usize {
        self.events.events().iter().filter(|e| matches!(e, Event::Retry { .. })).count()
    }

    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    async fn graph(&self, client: &Registry) -> Result<ImageGraph, RegistryError> {
        let amd = ["linux/amd64".parse().unwrap()];
        client.graph(&self.name, &amd, &self.events(), &CancellationToken::new()).await
    }

    async fn resolve(&self, client: &Registry) -> Result<Descriptor, RegistryError> {
        client.resolve(&self.name, &self.events(), &CancellationToken::new()).await
    }

    /// Reads a part of the big layer.
    async fn part(&self, client: &Registry, from: u64, to: u64) -> Result<Vec<u8>, StoreError> {
        let mut stream = client.repository(&self.name, &self.events()).read(&self.big, from..to).await?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    async fn whole(&self, client: &Registry) -> Result<Vec<u8>, StoreError> {
        self.part(client, 0, BIG as u64).await
    }
}

#[tokio::test]
async fn an_image_is_resolved_walked_and_copied() {
    let world = World::open().await;
    let client = world.client();
    let resolved = world.resolve(&client).await.unwrap();
    assert_eq!((resolved.digest(), resolved.size()), (world.root.digest(), world.root.size()));
    assert_eq!(resolved.media_type(), media::OCI_INDEX);
    assert_eq!(world.requests().len(), 1, "a tag is resolved by one HEAD");
    assert_eq!(world.requests()[0].method, "HEAD");

    let graph = world.graph(&client).await.unwrap();
    assert_eq!(graph.root.digest(), world.root.digest());
    assert_eq!((graph.images.len(), graph.blobs.len()), (1, 5));
    let target = MemoryStore::new();
    let source = client.repository(&world.name, &silent()).with_documents(graph.documents.clone());
    let source: Arc<dyn omk::store::BlobSource> = Arc::new(source);
    let transfers =
        graph.blobs.iter().map(|b| Transfer { blob: b.clone(), source: Arc::clone(&source) }).collect();
    let job = Job { events: silent(), cancel: CancellationToken::new(), node: None, parallel: 4 };
    copy_all(transfers, &target, &job).await.unwrap();
    for blob in &graph.blobs {
        assert_eq!(target.get(blob.digest()), world.store.get(blob.digest()), "{}", blob.media_type());
    }
    let manifests = world.requests().iter().filter(|r| r.path.contains("/manifests/")).count();
    assert_eq!(manifests, 1 + 2, "HEAD of the tag, index, manifest: what was read is not fetched again");
    world.server.shutdown().await;
}

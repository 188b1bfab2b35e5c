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

mod logins;

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
        let plain_http = vec![self.server.addr().to_string()];
        RegistryOptions { plain_http, retries, ..RegistryOptions::default() }
    }

    /// A client that takes little time for a stall: on a busy machine also what is none.
    fn impatient(&self) -> Registry {
        let stall_timeout = Duration::from_millis(400);
        Registry::new(RegistryOptions { stall_timeout, ..self.options() }).unwrap()
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

    fn gets(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.method == "GET").collect()
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

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke() {
    let world = World::open().await;
    let client = world.client();
    world.faults.add(Scope::Blob, 3, Fault::Cut { after: 700_000 });
    assert_eq!(world.whole(&client).await.unwrap(), noise(1, BIG));
    let ranges: Vec<Option<String>> = world.gets().into_iter().map(|r| r.range).collect();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0].as_deref(), Some("bytes=0-"), "the first request is for the whole blob");
    let from: Vec<u64> = ranges[1..]
        .iter()
        .map(|r| r.as_deref().unwrap()["bytes=".len()..].split('-').next().unwrap().parse().unwrap())
        .collect();
    // What the kernel had not yet delivered when the connection was reset is asked for again.
    assert!(from.windows(2).all(|w| w[0] <= w[1]) && from.iter().all(|f| *f <= 2_100_000), "{from:?}");
    assert!(from[2] > 0, "{from:?}");
    assert_eq!(world.retries(), 3);
}

#[tokio::test]
async fn a_stall_is_a_broken_stream() {
    let world = World::open().await;
    world.faults.add(Scope::Blob, 1, Fault::Stall { after: 100_000 });
    assert_eq!(world.whole(&world.impatient()).await.unwrap(), noise(1, BIG));
    assert!(world.retries() >= 1);
}

#[tokio::test]
async fn what_never_gets_better_ends_with_its_cause() {
    let world = World::open().await;
    world.faults.add(Scope::Blob, 100, Fault::Stall { after: 0 });
    let error = world.whole(&world.impatient()).await.unwrap_err().to_string();
    assert!(error.contains("sent nothing for") && error.contains(world.big.digest().short()), "{error}");
    assert_eq!(world.retries(), 4);

    world.faults.clear();
    world.faults.add(Scope::Blob, 100, Fault::Cut { after: 10 });
    let error = world.whole(&world.client()).await.unwrap_err().to_string();
    assert!(error.contains("connection to 127.0.0.1"), "{error}");
    assert!(world.faults.waiting() >= 90, "a few bytes a connection are no progress");
}

#[tokio::test]
async fn a_range_that_is_ignored_or_wrong_never_shifts_bytes() {
    let world = World::open().await;
    let client = world.client();
    let all = noise(1, BIG);
    world.faults.add(Scope::Blob, 1, Fault::IgnoreRange);
    assert_eq!(world.part(&client, 1_000_001, 2_000_000).await.unwrap(), all[1_000_001..2_000_000]);
    world.faults.add(Scope::Blob, 1, Fault::Cut { after: 500_000 });
    world.faults.add(Scope::Blob, 1, Fault::IgnoreRange);
    assert_eq!(world.whole(&client).await.unwrap(), all);
    // Once it is asked again, for the answer's length gives it away; what it gives then is looked at and told.
    world.faults.add(Scope::Blob, 1, Fault::WrongRange);
    assert_eq!(world.part(&client, 10, 20).await.unwrap(), all[10..20]);
    world.faults.add(Scope::Blob, 1, Fault::WrongRange);
    assert_eq!(world.part(&client, 10, BIG as u64).await.unwrap(), all[10..]);
    world.faults.add(Scope::Blob, 2, Fault::WrongRange);
    let error = world.part(&client, 10, 20).await.unwrap_err().to_string();
    assert!(error.contains("asked for bytes 10-19, it gives another range (bytes 11-19/"), "{error}");
    assert_eq!(world.part(&client, 10, 20).await.unwrap(), all[10..20]);
    assert_eq!(world.faults.waiting(), 0);
    assert_eq!(world.part(&client, 5, 5).await.unwrap(), b"");
}

#[tokio::test]
async fn more_bytes_than_asked_for_are_an_error() {
    let world = World::open().await;
    let client = world.client();
    for (fault, from) in [
        (Fault::Extra { bytes: 1 }, 0),
        (Fault::Extra { bytes: 1 }, 1_000),
        (Fault::Endless, 0),
        (Fault::Endless, 1_000),
    ] {
        // A part without a length is asked for a second time.
        world.faults.add(Scope::Blob, if from == 0 { 1 } else { 2 }, fault.clone());
        let error = world.part(&client, from, BIG as u64).await.unwrap_err();
        assert_eq!(world.faults.waiting(), 0);
        assert!(matches!(error, StoreError::SizeMismatch { .. }), "{fault:?} {from}: {error}");
    }
    let repository = client.repository(&world.name, &silent());
    let short = Descriptor::new(media::OCI_LAYER, world.big.digest().clone(), BIG as u64 - 1);
    let error = read_verified(&repository, &short, 10_000_000).await.unwrap_err();
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
    let long = Descriptor::new(media::OCI_LAYER, world.big.digest().clone(), BIG as u64 + 1);
    let error = read_verified(&repository, &long, 10_000_000).await.unwrap_err();
    assert!(matches!(error, StoreError::SizeMismatch { .. }), "{error}");
}

#[tokio::test]
async fn wrong_bytes_are_found() {
    let world = World::open().await;
    let client = world.client();
    world.faults.add(Scope::Blob, 1, Fault::WrongBytes);
    let repository = client.repository(&world.name, &silent());
    let error = read_verified(&repository, &world.big, 10_000_000).await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");

    world.faults.add(Scope::Manifest, 1, Fault::WrongBytes);
    let error = world.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    world.faults.add(Scope::Blob, 1, Fault::WrongBytes);
    let error = world.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "a config: {error}");
    world.faults.add(Scope::Manifest, 1, Fault::WrongDigestHeader);
    let error = world.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "the registry's own word: {error}");
    assert_eq!(world.faults.waiting(), 0);
}

#[tokio::test]
async fn a_pinned_digest_is_verified_and_wins_over_the_tag() {
    let mut world = World::open().await;
    let client = world.client();
    world.name =
        format!("{}/lab/web:no-such-tag@{}", world.server.addr(), world.root.digest()).parse().unwrap();
    assert_eq!(world.resolve(&client).await.unwrap().digest(), world.root.digest());
    world.faults.add(Scope::Manifest, 1, Fault::WrongBytes);
    assert!(matches!(world.resolve(&client).await, Err(RegistryError::Digest { .. })));
}

#[tokio::test]
async fn a_registry_without_digest_headers_will_do() {
    let world = World::open().await;
    let client = world.client();
    world.faults.add(Scope::Head, 1, Fault::NoDigestHeader);
    world.faults.add(Scope::Manifest, 2, Fault::NoDigestHeader);
    assert_eq!(world.resolve(&client).await.unwrap().digest(), world.root.digest());
    assert_eq!(world.graph(&client).await.unwrap().root.digest(), world.root.digest());
    assert_eq!(world.faults.waiting(), 0);
}

#[tokio::test]
async fn documents_without_end_are_cut_off() {
    let world = World::open().await;
    let client = world.client();
    world.faults.add(Scope::Manifest, 1, Fault::Endless);
    let error = world.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    world.faults.add(Scope::Blob, 1, Fault::Endless);
    let error = world.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "a config: {error}");
    world.faults.add(Scope::Manifest, 1, Fault::EndlessError);
    let error = world.graph(&client).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { .. }), "{error}");
    let huge = Descriptor::new(media::OCI_CONFIG, Digest::sha256(b"x"), 1 << 40);
    let manifest = serde_json::json!({"schemaVersion": 2, "config": huge, "layers": []});
    let root = world.store.insert(media::OCI_MANIFEST, manifest.to_string());
    let name: ImageRef = format!("{}/lab/web@{}", world.server.addr(), root.digest()).parse().unwrap();
    let error = client.graph(&name, &[], &silent(), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn passing_failures_pass_and_a_long_wait_is_told() {
    let world = World::open().await;
    let client = world.client();
    let busy =
        |retry_after: Option<&str>, code| Fault::Status { code, retry_after: retry_after.map(str::to_owned) };
    world.faults.add(Scope::Manifest, 1, busy(Some("0"), 429));
    world.faults.add(Scope::Manifest, 1, busy(None, 503));
    world.faults.add(Scope::Manifest, 1, Fault::Cut { after: 5 });
    world.faults.add(Scope::Blob, 1, busy(None, 500));
    world.graph(&client).await.unwrap();
    assert_eq!(world.retries(), 4);

    world.faults.add(Scope::Manifest, 1, busy(Some("1"), 429));
    world.graph(&client).await.unwrap();
    let last = world.events.events().into_iter().rev().find_map(|e| match e {
        Event::Retry { delay_ms, .. } => Some(delay_ms),
        _ => None,
    });
    assert!(last.unwrap() >= 1000, "a wait that is asked for is kept");

    world.faults.add(Scope::Manifest, 1, busy(Some("3600"), 429));
    let error = world.graph(&client).await.unwrap_err().to_string();
    assert!(error.contains("limits how much") && error.contains("wait 3600 s"), "{error}");
    world.faults.add(Scope::Blob, 100, busy(None, 502));
    let error = world.whole(&client).await.unwrap_err().to_string();
    assert!(error.contains("answers 502"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let mut world = World::open().await;
    let client = world.client();
    let repository = client.repository(&world.name, &silent());
    let missing = Descriptor::of(media::OCI_LAYER, b"nobody has this");
    assert_eq!(repository.size(missing.digest()).await.unwrap(), None);
    assert_eq!(repository.size(world.big.digest()).await.unwrap(), Some(BIG as u64));
    assert_eq!(repository.size(world.root.digest()).await.unwrap(), Some(world.root.size()));
    assert!(matches!(repository.read(&missing, 0..5).await, Err(StoreError::NotFound { .. })));
    world.name = format!("{}/lab/web:9", world.server.addr()).parse().unwrap();
    let error = world.graph(&client).await.unwrap_err().to_string();
    let start = format!("{} is not in {} (MANIFEST_UNKNOWN", world.name, world.server.addr());
    assert!(error.starts_with(&start), "{error}");
    assert_eq!(world.retries(), 0);
}

/// Runs one of the tests below in a process of its own, with another environment.
pub(crate) fn run_alone(test: &str, env: &[(&str, &str)]) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).envs(env.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_come_from_the_environment() {
    let world = World::open().await;
    let proxy = format!("http://{}", world.server.addr());
    // No such host exists: only the proxy can answer for it.
    run_alone("registry::behind_a_proxy", &[("http_proxy", &proxy), ("no_proxy", "")]);
    let methods: Vec<String> = world.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["HEAD", "GET"], "the tag by our own client, the blob by oci-client");
    assert_eq!(world.gets()[0].range.as_deref(), Some("bytes=0-"));
}

#[tokio::test]
#[ignore = "run by proxies_come_from_the_environment"]
async fn behind_a_proxy() {
    let plain_http = vec!["registry.invalid".to_owned()];
    let client = Registry::new(RegistryOptions { plain_http, ..RegistryOptions::default() }).unwrap();
    let name: ImageRef = "registry.invalid/lab/web:1".parse().unwrap();
    client.resolve(&name, &silent(), &CancellationToken::new()).await.unwrap();
    let big = Descriptor::of(media::OCI_LAYER, &noise(1, BIG));
    read_verified(&client.repository(&name, &silent()), &big, BIG as u64).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_authorities_still_reads_plain_http() {
    let world = World::open().await;
    let address = world.server.addr().to_string();
    let nowhere =
        [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent"), ("OMK_TEST_ADDRESS", &address)];
    run_alone("registry::without_authorities", &nowhere);
}

#[tokio::test]
#[ignore = "run by a_machine_without_authorities_still_reads_plain_http"]
async fn without_authorities() {
    let address = std::env::var("OMK_TEST_ADDRESS").unwrap();
    let options = RegistryOptions { plain_http: vec![address.clone()], ..RegistryOptions::default() };
    let name: ImageRef = format!("{address}/lab/web:1").parse().unwrap();
    let client = Registry::new(options).unwrap();
    client.resolve(&name, &silent(), &CancellationToken::new()).await.unwrap();
    let big = Descriptor::of(media::OCI_LAYER, &noise(1, BIG));
    read_verified(&client.repository(&name, &silent()), &big, BIG as u64).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_and_unknown_hosts_are_told_at_once() {
    let world = World::open().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = RegistryOptions { plain_http: vec![free.to_string()], ..world.options() };
    let client = Registry::new(options).unwrap();
    let name: ImageRef = format!("{free}/lab/web:1").parse().unwrap();
    let never = CancellationToken::new();
    let error = client.resolve(&name, &world.events(), &never).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert_eq!(world.retries(), 0);

    // HTTPS where plain HTTP is spoken.
    let client = Registry::new(RegistryOptions { plain_http: Vec::new(), ..world.options() }).unwrap();
    let error = world.resolve(&client).await.unwrap_err().to_string();
    assert!(error.contains(&format!("pass --plain-http {}", world.server.addr())), "{error}");

    let missing = vec!["/no/such/ca.pem".into()];
    let error = Registry::new(RegistryOptions { ca_files: missing, ..world.options() }).unwrap_err();
    assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
}

#[tokio::test]
async fn cancelling_ends_a_wait() {
    let world = World::open().await;
    world.faults.add(Scope::Manifest, 100, Fault::Status { code: 503, retry_after: Some("2".to_owned()) });
    let (cancel, client) = (CancellationToken::new(), world.client());
    let (events, name) = (world.events(), world.name.clone());
    let running = client.graph(&name, &[], &events, &cancel);
    let stop = async {
        while world.retries() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(running, stop);
    assert!(matches!(result, Err(RegistryError::Cancelled)));
}

/// All of `oci-client`, its own logins and manifests too, reads what this registry serves.
#[tokio::test]
async fn oci_client_reads_from_our_registry() {
    use oci_client::client::{ClientConfig, ClientProtocol};
    use oci_client::secrets::RegistryAuth;

    let login = Some(("lab".to_owned(), "pw".to_owned()));
    let world = World::new(Access::Bearer { login, lifetime: Duration::from_secs(60) }).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        oci_client::Client::try_from(ClientConfig { protocol: ClientProtocol::Http, ..Default::default() });
    let client = client.unwrap();
    let name: oci_client::Reference = world.name.to_string().parse().unwrap();
    let auth = RegistryAuth::Basic("lab".to_owned(), "pw".to_owned());
    let (_, digest) = client.pull_manifest(&name, &auth).await.unwrap();
    assert_eq!(digest, world.root.digest().to_string());
    let tags = client.list_tags(&name, &auth, None, None).await.unwrap();
    assert_eq!(tags.tags, ["1"]);
    let mut blob = Vec::new();
    client.pull_blob(&name, world.big.digest().to_string().as_str(), &mut blob).await.unwrap();
    assert_eq!(blob, noise(1, BIG));
}

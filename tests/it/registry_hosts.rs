//! Mirrors, limits and certificates of single hosts, against registries of this process and Debian's docker-registry.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use omk::copy::{Job, Transfer, copy_all};
use omk::event::{Event, Recorder, silent};
use omk::graph::ImageGraph;
use omk::oci::{Descriptor, ImageRef};
use omk::registry::{Host, HostRules, Hosts, Registry, RegistryError, RegistryOptions, RetryOptions};
use omk::serve::{Access, Fault, Faults, Observer, Request, Scope, ServeOptions, Server};
use omk::store::{BlobSource, MemoryStore};
use tokio_util::sync::CancellationToken;

use crate::images::{image, noise, serve};

struct Side {
    server: Server,
    faults: Faults,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Side {
    async fn new(store: &MemoryStore, root: &Descriptor, access: Access) -> Self {
        let (faults, seen) = (Faults::none(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        let observer: Observer = Arc::new(move |r: &Request| log.lock().unwrap().push(r.clone()));
        let options = ServeOptions { access, faults: faults.clone(), observer: Some(observer) };
        Self { server: serve(store, root, options).await, faults, seen }
    }

    fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn blobs(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|r| r.method == "GET" && r.path.contains("/blobs/")).count()
    }
}

/// A registry and its mirror, which have the same image.
struct World {
    store: MemoryStore,
    origin: Side,
    mirror: Side,
    name: ImageRef,
    events: Arc<Recorder>,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let root = image(&store, "linux/amd64", &[&noise(1, 2_000_000), &noise(2, 5_000)]);
        let origin = Side::new(&store, &root, Access::Open).await;
        let mirror = Side::new(&store, &root, Access::Open).await;
        let name = format!("{}/lab/web:1", origin.server.addr()).parse().unwrap();
        Self { store, origin, mirror, name, events: Arc::default() }
    }

    fn client(&self, change: impl FnOnce(&mut HostRules)) -> Registry {
        let host = Host::new(&format!("http://{}", self.mirror.server.addr()), false).unwrap();
        let mut rules = HostRules { mirrors: vec![host], ..HostRules::default() };
        change(&mut rules);
        let hosts = Hosts::default().with_rules(self.name.registry(), rules);
        Registry::new(RegistryOptions { hosts, ..self.options() }).unwrap()
    }

    fn options(&self) -> RegistryOptions {
        let plain_http = vec![self.origin.server.addr().to_string()];
        let retries = RetryOptions {
            attempts: 3,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(20),
            patience: Duration::from_secs(5),
        };
        RegistryOptions { plain_http, retries, ..RegistryOptions::default() }
    }

    async fn pull(&self, client: &Registry) -> Result<ImageGraph, String> {
        let (events, cancel) = (self.events.clone(), CancellationToken::new());
        let graph = client.graph(&self.name, &[], &(events.clone() as _), &cancel).await;
        let graph = graph.map_err(|e| e.to_string())?;
        let target = MemoryStore::new();
        let source: Arc<dyn BlobSource> = Arc::new(client.repository(&self.name, &(events as _)));
        let transfers =
            graph.blobs.iter().map(|b| Transfer { blob: b.clone(), source: Arc::clone(&source) }).collect();
        let job = Job { events: silent(), cancel, node: None, parallel: 4 };
        copy_all(transfers, &target, &job).await.map_err(|e| e.to_string())?;
        for blob in &graph.blobs {
            assert_eq!(target.get(blob.digest()), self.store.get(blob.digest()));
        }
        Ok(graph)
    }

    fn told(&self) -> Vec<Event> {
        let wanted = |e: &Event| matches!(e, Event::Mirror { .. } | Event::MirrorFailed { .. });
        self.events.events().into_iter().filter(wanted).collect()
    }
}

#[tokio::test]
async fn a_mirror_serves_and_the_name_stays() {
    let world = World::new().await;
    let graph = world.pull(&world.client(|_| {})).await.unwrap();
    assert_eq!(graph.image, world.name);
    assert_eq!(world.origin.asked(), 0, "the mirror has it all");
    let mirror = world.mirror.server.addr().to_string();
    assert_eq!(world.told(), [Event::Mirror { image: world.name.name(), mirror }]);
}

#[tokio::test]
async fn a_mirror_that_resolves_nothing_is_asked_for_content_only() {
    let world = World::new().await;
    world.pull(&world.client(|rules| rules.mirrors[0].resolve = false)).await.unwrap();
    let origin: Vec<String> = world.origin.seen.lock().unwrap().iter().map(|r| r.path.clone()).collect();
    assert_eq!(origin, ["/v2/lab/web/manifests/1"]);
    assert!(world.mirror.blobs() >= 2);
}

#[tokio::test]
async fn what_a_mirror_lacks_or_breaks_comes_from_the_registry() {
    for fault in [
        Fault::Status { code: 404, retry_after: None },
        Fault::Status { code: 500, retry_after: None },
        Fault::Status { code: 429, retry_after: Some("3600".to_owned()) },
        Fault::Cut { after: 1000 },
        Fault::WrongBytes,
        Fault::Extra { bytes: 10 },
    ] {
        let world = World::new().await;
        world.mirror.faults.add(Scope::Blob, 1000, fault.clone());
        world.mirror.faults.add(Scope::Manifest, 1000, fault.clone());
        world.pull(&world.client(|_| {})).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        let failed = world.told().into_iter().filter(|e| matches!(e, Event::MirrorFailed { .. })).count();
        assert!(failed >= 1, "{fault:?} is told");
    }
}

#[tokio::test]
async fn a_mirror_that_breaks_off_is_followed_from_that_byte() {
    let world = World::new().await;
    let big = Descriptor::of(omk::oci::media::OCI_LAYER, &noise(1, 2_000_000));
    world.mirror.faults.add(Scope::Blob, 1, Fault::Cut { after: 1_000_000 });
    let client = world.client(|_| {});
    let repository = client.repository(&world.name, &silent());
    let bytes = omk::store::read_verified(&repository, &big, 1 << 22).await.unwrap();
    assert_eq!(bytes, noise(1, 2_000_000));
    let ranges: Vec<_> = world.origin.seen.lock().unwrap().iter().filter_map(|r| r.range.clone()).collect();
    assert!(ranges.iter().any(|r| r.starts_with("bytes=") && !r.starts_with("bytes=0-")), "{ranges:?}");
}

#[tokio::test]
async fn a_mirror_that_is_not_there_is_told_and_left_alone() {
    let world = World::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Host::new(&format!("http://{free}"), false).unwrap();
    let client = world.client(|rules| rules.mirrors[0] = gone.clone());
    world.pull(&client).await.unwrap();
    let told = world.told();
    assert!(
        matches!(told.as_slice(), [Event::MirrorFailed { mirror, reason, .. }]
        if *mirror == free.to_string() && reason.contains("refuses connections")),
        "{told:?}"
    );
    let only = world.client(|rules| (rules.mirrors[0], rules.mirrors_only) = (gone, true));
    let error = world.pull(&only).await.unwrap_err();
    assert!(error.contains(&free.to_string()), "{error}");
}

#[tokio::test]
async fn hosts_toml_leads_to_the_mirror_with_its_path_and_headers() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(world.name.registry().replace(':', "_") + "_");
    std::fs::create_dir(&own).unwrap();
    let text = format!(
        "[host.\"http://{0}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  [host.\"http://{0}\".header]\n    x-lab = \"1\"\n",
        world.mirror.server.addr()
    );
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    let hosts = Hosts::default().with_folder(folder.path());
    world.pull(&Registry::new(RegistryOptions { hosts, ..world.options() }).unwrap()).await.unwrap();
    assert_eq!(world.origin.asked(), 0);
}

#[tokio::test]
async fn a_login_goes_to_the_mirror_it_is_for() {
    use omk::registry::{Credentials, Login, Secret};
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[&noise(1, 5_000)]);
    let origin = Side::new(&store, &root, Access::Open).await;
    let login = Some(("m".to_owned(), "secret".to_owned()));
    let access = Access::Bearer { login, lifetime: Duration::from_secs(60) };
    let mirror = Side::new(&store, &root, access).await;
    let name: ImageRef = format!("{}/lab/web:1", origin.server.addr()).parse().unwrap();
    let host = Host::new(&format!("http://{}", mirror.server.addr()), false).unwrap();
    let rules = HostRules { mirrors: vec![host], mirrors_only: true, ..HostRules::default() };
    let hosts = Hosts::default().with_rules(name.registry(), rules);
    let ask = |registry: &str| {
        let login = Login { user: "m".to_owned(), password: Secret::new("secret") };
        let credentials = Credentials::anonymous().with_login(registry, login);
        Registry::new(RegistryOptions { hosts: hosts.clone(), credentials, ..RegistryOptions::default() })
            .unwrap()
    };
    let cancel = CancellationToken::new();
    let good = ask(&mirror.server.addr().to_string());
    good.graph(&name, &[], &silent(), &cancel).await.unwrap();
    let error = ask(name.registry()).graph(&name, &[], &silent(), &cancel).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "the registry's login stays there: {error}");
    assert_eq!(origin.asked(), 0);
}

#[tokio::test]
async fn limits_are_waited_for_by_seconds_and_by_date() {
    let world = World::new().await;
    let client = Registry::new(world.options()).unwrap();
    let soon = httpdate(SystemTime::now() + Duration::from_secs(2));
    for retry_after in ["1", soon.as_str()] {
        // More often than failures are sat out.
        let fault = Fault::Status { code: 429, retry_after: Some("0".to_owned()) };
        world.origin.faults.add(Scope::Manifest, 5, fault);
        let fault = Fault::Status { code: 429, retry_after: Some(retry_after.to_owned()) };
        world.origin.faults.add(Scope::Manifest, 1, fault);
        world.pull(&client).await.unwrap();
        assert_eq!(world.origin.faults.waiting(), 0);
    }
    let fault = Fault::Status { code: 429, retry_after: Some("3600".to_owned()) };
    world.origin.faults.add(Scope::Manifest, 1, fault);
    let error = world.pull(&client).await.unwrap_err();
    assert!(error.contains("3600 s") && error.contains("--patience"), "{error}");
}

fn httpdate(at: SystemTime) -> String {
    let text = std::process::Command::new("date")
        .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT", "-d"])
        .arg(format!("@{}", at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()))
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    String::from_utf8(text.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_broken_hosts_toml_is_no_silent_detour() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a.io")).unwrap();
    std::fs::write(folder.path().join("a.io/hosts.toml"), "[[").unwrap();
    let find = |path: &Path| Hosts::default().with_folder(path).find("a.io");
    assert!(matches!(find(folder.path()), Err(RegistryError::Hosts { .. })));
}

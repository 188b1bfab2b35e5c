//! Pushing to Debian's docker-registry: plain, with a login, with TLS, and over lines that break.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omk::event::{Event, Recorder, silent};
use omk::oci::{Descriptor, Digest, ImageRef};
use omk::registry::{
    Credentials, Login, PushImage, PushOptions, PushReport, PushState, Registry, RegistryOptions,
    RetryOptions, Secret, push,
};
use omk::serve::ServeOptions;
use omk::store::MemoryStore;
use tokio_util::sync::CancellationToken;

use crate::images::{image, index, noise, serve};
use crate::registry_real::{Kind, Real, omk, required, run, said};

/// A line to a registry that breaks, or that has a registry behind it which knows no chunks.
struct Line {
    address: SocketAddr,
    /// Bytes that were sent to the registry.
    sent: Arc<AtomicU64>,
}

impl Line {
    /// The first `cuts` connections that carry more than `after` bytes are cut there.
    fn new(to: SocketAddr, cuts: u64, after: u64, patch: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let (count, left) = (Arc::clone(&sent), Arc::new(AtomicU64::new(cuts)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (count, left) = (Arc::clone(&count), Arc::clone(&left));
                std::thread::spawn(move || carry(client, to, &count, &left, after, patch));
            }
        });
        Self { address, sent }
    }
}

fn carry(client: TcpStream, to: SocketAddr, count: &AtomicU64, left: &AtomicU64, after: u64, patch: bool) {
    let Ok(server) = TcpStream::connect(to) else { return };
    let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(std::net::Shutdown::Both);
    });
    let (mut client, mut server) = (client, server);
    let (mut buffer, mut here) = (vec![0; 16 * 1024], 0u64);
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        if !patch && buffer.starts_with(b"PATCH ") {
            let _ = client.write_all(
                b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
            while let Ok(1..) = client.read(&mut buffer) {}
            return;
        }
        here += n as u64;
        count.fetch_add(n as u64, Ordering::SeqCst);
        let cut = here > after
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if server.write_all(&buffer[..n]).is_err() || cut {
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = server.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Write);
}

/// An image in a registry of this process, to be pushed.
struct Origin {
    store: MemoryStore,
    root: Descriptor,
    server: omk::serve::Server,
}

impl Origin {
    async fn new(store: MemoryStore, root: Descriptor) -> Self {
        let server = serve(&store, &root, ServeOptions::default()).await;
        Self { store, root, server }
    }

    async fn image(&self, client: &Registry, target: &str, platforms: &[&str]) -> PushImage {
        let name: ImageRef = format!("{}/lab/web:1", self.server.addr()).parse().unwrap();
        let platforms: Vec<_> = platforms.iter().map(|p| p.parse().unwrap()).collect();
        let graph = client.graph(&name, &platforms, &silent(), &CancellationToken::new()).await.unwrap();
        let source = Arc::new(self.store.clone());
        PushImage {
            name: name.to_string(),
            target: target.parse().unwrap(),
            graph: Arc::new(graph),
            source,
            absent: Arc::default(),
        }
    }

    fn client(&self, others: &[SocketAddr], credentials: Credentials) -> Registry {
        let plain_http = others.iter().chain([&self.server.addr()]).map(ToString::to_string).collect();
        let retries = RetryOptions { first: Duration::from_millis(20), ..RetryOptions::default() };
        Registry::new(RegistryOptions { plain_http, credentials, retries, ..RegistryOptions::default() })
            .unwrap()
    }
}

async fn sent(images: &[PushImage], client: &Registry, options: PushOptions) -> PushReport {
    push(images, client, options, &silent(), &CancellationToken::new()).await.unwrap()
}

fn raw(name: &str, args: &[&str]) -> Vec<u8> {
    run("skopeo", &[&["inspect", "--raw"], args, &[&format!("docker://{name}")]].concat())
}

const SMALL: PushOptions = PushOptions { parallel: 2, chunk: 1 << 20, dry_run: false, keep_digests: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_there_and_shared_and_not_sent_again() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Plain);
    let store = MemoryStore::new();
    let amd = image(&store, "linux/amd64", &[&noise(11, 5_000_000), &noise(12, 3_000)]);
    let arm = image(&store, "linux/arm64", &[&noise(13, 3_000)]);
    let root = index(&store, &[amd, arm]);
    let origin = Origin::new(store, root).await;
    let client = origin.client(&[real.address], Credentials::anonymous());
    let at = |repository: &str| format!("{}/{repository}", real.address);
    let mut images = Vec::new();
    for name in ["p/a:1", "p/a:2", "q/b:1"] {
        images.push(origin.image(&client, &at(name), &[]).await);
    }
    let dry = sent(&images, &client, PushOptions { dry_run: true, ..SMALL }).await;
    assert_eq!((dry.uploaded, dry.mounted), (5, 5), "{dry:?}");
    let first = sent(&images, &client, SMALL).await;
    assert_eq!((first.uploaded, first.mounted, first.failed.len()), (5, 5, 0), "{first:?}");
    assert!(first.images.iter().all(|i| i.state == PushState::Pushed && i.digest == *origin.root.digest()));
    for name in ["p/a:1", "p/a:2", "q/b:1"] {
        let bytes = raw(&at(name), &["--tls-verify=false"]);
        assert_eq!(bytes, origin.store.get(origin.root.digest()).unwrap(), "the bytes of the index");
    }
    let folder = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", folder.path().display());
    run("skopeo", &["copy", "--all", "--src-tls-verify=false", &format!("docker://{}", at("q/b:1")), &to]);

    let again = sent(&images, &client, SMALL).await;
    assert_eq!((again.uploaded, again.mounted, again.present), (0, 0, 10), "{again:?}");
    assert!(again.images.iter().all(|i| i.state == PushState::Present));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_over_a_line_that_breaks_arrives() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Plain);
    let store = MemoryStore::new();
    let size = 12_000_000;
    let root = image(&store, "linux/amd64", &[&noise(21, size)]);
    let origin = Origin::new(store, root).await;
    let line = Line::new(real.address, 3, 2_500_000, true);
    let client = origin.client(&[line.address], Credentials::anonymous());
    let image = origin.image(&client, &format!("{}/p/cut:1", line.address), &[]).await;
    let events = Arc::new(Recorder::default());
    let report =
        push(&[image], &client, SMALL, &(events.clone() as _), &CancellationToken::new()).await.unwrap();
    assert_eq!((report.failed.len(), report.uploaded), (0, 2), "{report:?}");
    let retries = events.events().iter().filter(|e| matches!(e, Event::Retry { .. })).count();
    assert!(retries >= 3, "three cuts are three retries: {retries}");
    // This registry throws an upload away that was cut in the middle of a chunk (distribution's `blobupload.go`, "upload
    // resumed at wrong offset"): such a blob is sent anew, and nothing else is.
    assert!(line.sent.load(Ordering::SeqCst) > size as u64);
    let name = format!("{}/p/cut:1", real.address);
    assert_eq!(raw(&name, &["--tls-verify=false"]), origin.store.get(origin.root.digest()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", folder.path().display());
    run("skopeo", &["copy", "--src-tls-verify=false", &format!("docker://{name}"), &to]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_without_chunks_gets_it_in_one() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Plain);
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[&noise(31, 4_000_000), &noise(32, 10)]);
    let origin = Origin::new(store, root).await;
    let line = Line::new(real.address, 0, 0, false);
    let client = origin.client(&[line.address], Credentials::anonymous());
    let image = origin.image(&client, &format!("{}/p/whole:1", line.address), &[]).await;
    let report = sent(&[image], &client, SMALL).await;
    assert_eq!((report.failed.len(), report.uploaded), (0, 3), "{report:?}");
    let folder = tempfile::tempdir().unwrap();
    let (from, to) =
        (format!("docker://{}/p/whole:1", real.address), format!("dir:{}", folder.path().display()));
    run("skopeo", &["copy", "--src-tls-verify=false", &from, &to]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_platform_of_an_index_is_told_when_it_changes_the_digest() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Plain);
    let store = MemoryStore::new();
    let amd = image(&store, "linux/amd64", &[&noise(41, 3_000)]);
    let arm = image(&store, "linux/arm64", &[&noise(42, 3_000)]);
    let root = index(&store, &[amd, arm]);
    let origin = Origin::new(store, root).await;
    let client = origin.client(&[real.address], Credentials::anonymous());
    let image = origin.image(&client, &format!("{}/p/part:1", real.address), &["linux/amd64"]).await;
    let strict =
        sent(std::slice::from_ref(&image), &client, PushOptions { keep_digests: true, ..SMALL }).await;
    assert!(strict.images.is_empty() && strict.failed[0].contains("--platform all"), "{strict:?}");
    let events = Arc::new(Recorder::default());
    let dry = PushOptions { dry_run: true, ..SMALL };
    let one = std::slice::from_ref(&image);
    let foretold = push(one, &client, dry, &(events.clone() as _), &CancellationToken::new()).await.unwrap();
    assert!(foretold.images[0].partial && foretold.images[0].state == PushState::Pushed, "{foretold:?}");
    let warned = |events: &Recorder| {
        let warns = |e: &Event| matches!(e, Event::Warning { message } if message.contains("--platform all"));
        events.events().iter().filter(|e| warns(e)).count()
    };
    assert_eq!(warned(&events), 1, "a dry run says what may happen");
    let events = Arc::new(Recorder::default());
    let report = push(one, &client, SMALL, &(events.clone() as _), &CancellationToken::new()).await.unwrap();
    assert_eq!(report.images[0].state, PushState::Reduced, "{report:?}");
    assert_ne!(report.images[0].digest, *origin.root.digest());
    assert_eq!(warned(&events), 1, "the warning names the way out");
    // All is there then, whoever asks; and nothing is announced that is not sent.
    let events = Arc::new(Recorder::default());
    let again = push(one, &client, SMALL, &(events.clone() as _), &CancellationToken::new()).await.unwrap();
    assert_eq!((again.images[0].state, again.uploaded), (PushState::Present, 0), "{again:?}");
    assert_eq!(again.images[0].digest, report.images[0].digest);
    let planned = |e: &Event| matches!(e, Event::TransferPlanned { bytes: 0, blobs: 0, skipped: 1.., .. });
    assert!(events.events().iter().any(planned), "{:?}", events.events());
    assert_eq!(warned(&events), 0);
    let dry = sent(one, &client, dry).await;
    assert_eq!((dry.images[0].state, dry.uploaded), (PushState::Present, 0), "{dry:?}");
    let name = format!("docker://{}/p/part:1", real.address);
    let folder = tempfile::tempdir().unwrap();
    run(
        "skopeo",
        &["copy", "--all", "--src-tls-verify=false", &name, &format!("dir:{}", folder.path().display())],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_needs_the_right_login() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Login);
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[&noise(51, 3_000_000)]);
    let origin = Origin::new(store, root).await;
    let login = |password: &str| {
        let login = Login { user: "lab".to_owned(), password: Secret::new(password) };
        Credentials::anonymous().with_login(&real.address.to_string(), login)
    };
    let target = format!("{}/p/x:1", real.address);
    let client = origin.client(&[real.address], login("lab-secret"));
    let image = origin.image(&client, &target, &[]).await;
    let report = sent(std::slice::from_ref(&image), &client, SMALL).await;
    assert_eq!((report.failed.len(), report.uploaded), (0, 2), "{report:?}");
    let client = origin.client(&[real.address], login("wrong-secret"));
    let error =
        push(&[image], &client, SMALL, &silent(), &CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("was refused") && !error.contains("wrong-secret"), "{error}");
}

/// The commands, over TLS of an own authority.
#[test]
fn a_bundle_is_pushed_and_an_image_copied_by_command() {
    if !required() {
        return;
    }
    let (real, tls) = (Real::start(&Kind::Plain), Real::start(&Kind::Tls));
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    let (plain, secure) = (real.address.to_string(), tls.address.to_string());
    let ca = tls.folder.path().join("ca.crt").display().to_string();
    let (name, bundle) = (format!("{plain}/lab/web:1"), at("web.tar"));
    let build =
        ["bundle", "build", "--image", &name, "--platform", "all", "-o", &bundle, "--plain-http", &plain];
    let built = omk(home.path(), &build, "");
    assert_eq!(built.status.code(), Some(0), "{}", said(&built));

    let target = format!("oci://{secure}/mirror");
    let push = ["bundle", "push", &bundle, &target, "--registry-ca", &ca, "-o", "json"];
    let pushed = omk(home.path(), &[&push[..], &["--dry-run"]].concat(), "");
    assert!(said(&pushed).contains(r#""dry_run": true"#), "{}", said(&pushed));
    let pushed = omk(home.path(), &push, "");
    assert_eq!(pushed.status.code(), Some(0), "{}", said(&pushed));
    let report: serde_json::Value = serde_json::from_slice(&pushed.stdout).unwrap();
    assert_eq!(report["images"][0]["target"], format!("{secure}/mirror/lab/web:1"), "{report}");
    assert_eq!(report["images"][0]["digest"], real.root.digest().to_string(), "{report}");

    let (map, mapped) = (format!("{plain}/lab/={secure}/other/"), format!("{secure}/other/web:1"));
    let pushed = omk(home.path(), &[&push[..], &["--map", &map]].concat(), "");
    assert!(said(&pushed).contains(&mapped), "{}", said(&pushed));
    let alone = ["bundle", "push", &bundle, "--registry-ca", &ca, "-o", "json", "--map"];
    let pushed = omk(home.path(), &[&alone[..], &[&map]].concat(), "");
    assert!(pushed.status.success() && said(&pushed).contains(&mapped), "{}", said(&pushed));
    let pushed = omk(home.path(), &[&alone[..], &["quay.io=h.lan"]].concat(), "");
    assert_eq!(pushed.status.code(), Some(2), "{}", said(&pushed));
    assert!(said(&pushed).contains("no --map says where"), "{}", said(&pushed));
    let target = format!("oci://{secure}/copied/web");
    let copy = ["image", "copy", &name, &target, "--plain-http", &plain, "--registry-ca", &ca];
    let copied = omk(home.path(), &copy, "");
    assert_eq!(copied.status.code(), Some(0), "{}", said(&copied));
    assert!(said(&copied).contains(&format!("{secure}/copied/web:1")), "{}", said(&copied));

    // A delta goes where its base is, and nowhere else. What is in the same registry is taken over from there.
    let delta = at("delta.tar");
    let since = [
        "bundle",
        "build",
        "--image",
        &name,
        "--platform",
        "all",
        "--since",
        &bundle,
        "-o",
        &delta,
        "--plain-http",
        &plain,
    ];
    let built = omk(home.path(), &since, "");
    assert_eq!(built.status.code(), Some(0), "{}", said(&built));
    let push =
        |to: &str, more: &[&str]| omk(home.path(), &[&["bundle", "push", &delta, to], more].concat(), "");
    let refused = push(&format!("oci://{secure}/fresh"), &["--registry-ca", &ca]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let text = said(&refused);
    assert!(text.contains("push its base first") && text.contains("\n  sha256:"), "{text}");
    assert!(text.contains("built against web.tar: `omk bundle push web.tar"), "{text}");
    let there = push(&format!("oci://{secure}/mirror"), &["--registry-ca", &ca]);
    assert_eq!(there.status.code(), Some(0), "{}", said(&there));
    let mounted = push(&format!("oci://{plain}/elsewhere"), &["--plain-http", &plain]);
    assert_eq!(mounted.status.code(), Some(0), "{}", said(&mounted));
    assert!(said(&mounted).contains("0 blobs sent"), "{}", said(&mounted));

    let unknown = omk(home.path(), &["bundle", "push", &bundle, "harbor"], "");
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
}

/// A registry that does with uploads what distribution-spec 1.1 says, and breaks lines in the middle of chunks.
struct Depot {
    address: SocketAddr,
    state: Arc<Mutex<Stored>>,
}

#[derive(Default)]
struct Stored {
    upload: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    cuts: u32,
    /// Bytes of chunks that arrived, with those that were not kept.
    received: usize,
    asked: usize,
}

impl Depot {
    fn new(cuts: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(Stored { cuts, ..Stored::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || while serve_one(&client, &shared).is_some() {});
            }
        });
        Self { address, state }
    }
}

/// One request; nothing when the connection is to end.
fn serve_one(mut client: &TcpStream, state: &Mutex<Stored>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?.to_owned());
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    let (mut body, mut left, patch) = (Vec::new(), length.unwrap_or(0), method == "PATCH");
    while left > 0 {
        let mut part = vec![0; left.min(64 * 1024)];
        let n = client.read(&mut part).ok().filter(|n| *n > 0)?;
        left -= n;
        body.extend_from_slice(&part[..n]);
        let mut state = state.lock().unwrap();
        if patch {
            state.received += n;
            if state.cuts > 0 && body.len() > 300_000 {
                // What arrived is kept, the rest is lost.
                state.cuts -= 1;
                state.upload.extend_from_slice(&body);
                let _ = client.shutdown(std::net::Shutdown::Both);
                return None;
            }
        }
    }
    let mut state = state.lock().unwrap();
    let digest = path.rsplit(['/', '=']).next()?.replace("%3A", ":");
    let location = "Location: /v2/p/spec/blobs/uploads/1?state=x\r\n".to_owned();
    let range = |n: usize| format!("Range: 0-{}\r\n", n.saturating_sub(1));
    let (status, headers) = match (method, path.contains("/uploads/")) {
        ("POST", true) => {
            state.upload.clear();
            (202, location)
        }
        ("PATCH", true) => {
            let from = lower
                .lines()
                .find_map(|l| l.strip_prefix("content-range: ")?.split('-').next()?.parse().ok());
            if from == Some(state.upload.len()) {
                state.upload.extend_from_slice(&body);
                (202, location + &range(state.upload.len()))
            } else {
                (416, location + &range(state.upload.len()))
            }
        }
        ("GET", true) => {
            state.asked += 1;
            (204, location + &range(state.upload.len()))
        }
        ("PUT", true) => {
            let mut all = std::mem::take(&mut state.upload);
            all.extend_from_slice(&body);
            if Digest::sha256(&all).to_string() == digest {
                state.blobs.insert(digest, all);
                (201, String::new())
            } else {
                (400, String::new())
            }
        }
        ("PUT", false) => {
            state.manifests.insert(digest, body);
            (201, String::new())
        }
        _ if state.blobs.contains_key(&digest) || state.manifests.contains_key(&digest) => {
            (200, String::new())
        }
        _ => (404, String::new()),
    };
    drop(state);
    let end = if status == 204 { "\r\n" } else { "Content-Length: 0\r\n\r\n" };
    client.write_all(format!("HTTP/1.1 {status} X\r\n{headers}{end}").as_bytes()).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_at_the_byte_where_the_line_broke() {
    let (store, size) = (MemoryStore::new(), 6_000_000);
    let root = image(&store, "linux/amd64", &[&noise(61, size)]);
    let origin = Origin::new(store, root).await;
    let depot = Depot::new(3);
    let client = origin.client(&[depot.address], Credentials::anonymous());
    let one = origin.image(&client, &format!("{}/p/spec:1", depot.address), &[]).await;
    let layer = one.graph.images[0].layers[0].digest().to_string();
    let options = PushOptions { parallel: 1, ..SMALL };
    let report = push(&[one], &client, options, &silent(), &CancellationToken::new()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let state = depot.state.lock().unwrap();
    assert_eq!(state.blobs[&layer], noise(61, size));
    assert_eq!((state.cuts, state.asked), (0, 3), "it is asked after each cut");
    assert_eq!(state.received, size, "no byte that was kept is sent twice");
    assert!(state.manifests.contains_key("1"), "the tag is there: {:?}", state.manifests.keys());
}

//! Faults of docs/faults.md that no other test has: real processes that die, lines that lie, certificates of another
//! time.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use omk::copy::{Job, Transfer, copy_all};
use omk::event::silent;
use omk::graph::ImageGraph;
use omk::oci::{Descriptor, Digest, Hasher, ImageRef, media};
use omk::registry::{
    HostRules, HostTls, Hosts, PushImage, PushOptions, Registry, RegistryError, RegistryOptions,
    RetryOptions, push,
};
use omk::serve::{Catalog, Fault, Faults, Scope, ServeOptions, Server};
use omk::store::{AnyOf, BlobSource as _, MemoryStore};
use tokio_util::sync::CancellationToken;

use crate::images::{image, index, noise, serve};
use crate::registry_real::{Kind, Real, certificates, required, run};

fn options(plain: &[SocketAddr]) -> RegistryOptions {
    let retries = RetryOptions {
        attempts: 3,
        first: Duration::from_millis(5),
        longest: Duration::from_millis(50),
        patience: Duration::from_millis(300),
    };
    let plain_http = plain.iter().map(ToString::to_string).collect();
    RegistryOptions { plain_http, retries, ..RegistryOptions::default() }
}

async fn graph(client: &Registry, name: &str) -> Result<ImageGraph, RegistryError> {
    client.graph(&name.parse().unwrap(), &[], &silent(), &CancellationToken::new()).await
}

async fn world() -> (MemoryStore, Server, Faults, String) {
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[&noise(1, 300_000)]);
    let faults = Faults::none();
    let options = ServeOptions { faults: faults.clone(), ..ServeOptions::default() };
    let server = serve(&store, &root, options).await;
    let name = format!("{}/lab/web:1", server.addr());
    (store, server, faults, name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_killed_in_the_middle_of_a_blob_is_gone_on_with() {
    if !required() {
        return;
    }
    let mut real = Real::start(&Kind::Plain);
    let (store, size) = (MemoryStore::new(), 48_000_000);
    let root = image(&store, "linux/amd64", &[&noise(7, size)]);
    let server = serve(&store, &root, ServeOptions::default()).await;
    let retries = RetryOptions { longest: Duration::from_secs(2), ..RetryOptions::default() };
    let plain = options(&[server.addr(), real.address]);
    let client = Registry::new(RegistryOptions { retries, ..plain }).unwrap();
    let all = Arc::new(graph(&client, &format!("{}/lab/web:1", server.addr())).await.unwrap());
    let target: ImageRef = format!("{}/p/big:1", real.address).parse().unwrap();
    let source = Arc::new(store.clone());
    let one = PushImage {
        name: "big".to_owned(),
        target: target.clone(),
        graph: Arc::clone(&all),
        source,
        absent: Arc::default(),
    };
    let pushed =
        push(&[one], &client, PushOptions::default(), &silent(), &CancellationToken::new()).await.unwrap();
    assert!(pushed.failed.is_empty(), "{pushed:?}");

    let layer = all.images[0].layers[0].clone();
    let repository = client.repository(&target, &silent());
    let mut stream = repository.read(&layer, 0..layer.size()).await.unwrap();
    let (mut hasher, mut got, mut killed) = (Hasher::new(layer.digest().algorithm()), 0, None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        hasher.update(&chunk);
        got += chunk.len();
        if killed.is_none() && got > 1_000_000 {
            real.kill();
            killed = Some(real.restart_after(Duration::from_millis(500)));
        }
    }
    real.process = killed.unwrap().join().unwrap();
    assert_eq!((got, hasher.finish()), (size, layer.digest().clone()));
}

#[tokio::test]
async fn storms_end_with_their_cause_and_leave_nothing_behind() {
    let (store, _server, faults, name) = world().await;
    let client = Registry::new(options(&[name.split('/').next().unwrap().parse().unwrap()])).unwrap();
    for (code, word) in [
        (401, "wants a login"),
        (403, "denies access"),
        (404, "is not in"),
        (429, "limits how much"),
        (500, "answers 500"),
        (503, "answers 503"),
    ] {
        faults.add(Scope::Manifest, 10_000, Fault::Status { code, retry_after: None });
        let error = graph(&client, &name).await.unwrap_err().to_string();
        // A 401 without a challenge is no registry's.
        assert!(
            error.contains(word) || code == 401 && error.contains("without a Basic or Bearer"),
            "{error}"
        );
        assert!(error.contains("lab/web"), "it names the image: {error}");
        faults.clear();
        let all = graph(&client, &name).await.unwrap();
        faults.add(Scope::Blob, 10_000, Fault::Status { code, retry_after: None });
        let layer = all.images[0].layers[0].clone();
        let source: Arc<dyn omk::store::BlobSource> =
            Arc::new(client.repository(&name.parse().unwrap(), &silent()));
        let target = MemoryStore::new();
        let job = Job { events: silent(), cancel: CancellationToken::new(), node: None, parallel: 1 };
        let transfer = Transfer { blob: layer.clone(), source: Arc::clone(&source) };
        copy_all(vec![transfer.clone()], &target, &job).await.unwrap_err();
        assert!(target.get(layer.digest()).is_none());
        faults.clear();
        copy_all(vec![transfer], &target, &job).await.unwrap();
        assert_eq!(target.get(layer.digest()), store.get(layer.digest()));
    }
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let (_store, server, faults, name) = world().await;
    let client = Registry::new(options(&[server.addr()])).unwrap();
    let all = graph(&client, &name).await.unwrap();
    let here = Fault::Redirect { to: format!("http://{}/", server.addr()) };
    faults.add(Scope::Manifest, 10_000, here.clone());
    faults.add(Scope::Blob, 10_000, here);
    let error = graph(&client, &name).await.unwrap_err().to_string();
    assert!(error.contains("more than 10 redirects"), "{error}");
    let layer = &all.images[0].layers[0];
    let repository = client.repository(&name.parse().unwrap(), &silent());
    let error = omk::store::read_verified(&repository, layer, 1 << 20).await.unwrap_err().to_string();
    assert!(error.contains("more than 10 redirects"), "{error}");
}

#[tokio::test]
async fn documents_that_two_readers_would_read_differently_are_refused() {
    let store = MemoryStore::new();
    let config = store.insert(media::OCI_CONFIG, "{}");
    let pointer = |d: &Descriptor| serde_json::to_string(d).unwrap();
    let (a, b) = (pointer(&config), pointer(&store.insert(media::OCI_LAYER, "x")));
    let huge = Descriptor::new(media::OCI_MANIFEST, Digest::sha256(b"huge"), 1 << 30);
    let md5 = a.replace("sha256:", "md5:");
    for (kind, text, word) in [
        (media::OCI_MANIFEST, format!(r#"{{"config":{a},"config":{b},"layers":[]}}"#), "duplicate field"),
        (media::OCI_MANIFEST, format!(r#"{{"config":{a},"layers":[{b}],"layers":[]}}"#), "duplicate field"),
        (media::OCI_INDEX, format!(r#"{{"manifests":[],"config":{a}}}"#), "ambiguous"),
        (media::OCI_MANIFEST, format!(r#"{{"config":{md5},"layers":[]}}"#), "md5"),
        (media::OCI_INDEX, format!(r#"{{"manifests":[{}]}}"#, pointer(&huge)), "67108864 bytes of one image"),
    ] {
        let root = store.insert(kind, text.clone());
        let server = serve(&store, &root, ServeOptions::default()).await;
        let client = Registry::new(options(&[server.addr()])).unwrap();
        let error = graph(&client, &format!("{}/lab/web:1", server.addr())).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("lab/web"), "{text}: {error}");
    }
}

#[tokio::test]
async fn an_image_of_another_platform_than_its_index_says_fails() {
    let store = MemoryStore::new();
    let wrong = image(&store, "linux/amd64", &[b"x"]).with_platform(&"linux/arm64".parse().unwrap());
    let root = index(&store, &[wrong]);
    let server = serve(&store, &root, ServeOptions::default()).await;
    let client = Registry::new(options(&[server.addr()])).unwrap();
    let error = graph(&client, &format!("{}/lab/web:1", server.addr())).await.unwrap_err().to_string();
    assert!(error.contains("for linux/arm64, and its config says linux/amd64"), "{error}");
}

#[tokio::test]
async fn a_blob_that_one_repository_lost_comes_from_another() {
    let (store, server, _faults, name) = world().await;
    let client = Registry::new(options(&[server.addr()])).unwrap();
    let all = graph(&client, &name).await.unwrap();
    let gone: ImageRef = format!("{}/lab/gone:1", server.addr()).parse().unwrap();
    let first = Arc::new(client.repository(&gone, &silent()));
    let second = Arc::new(client.repository(&name.parse().unwrap(), &silent()));
    let layer = &all.images[0].layers[0];
    assert!(first.read(layer, 0..layer.size()).await.is_err());
    let any = AnyOf::new(first, [second as Arc<dyn omk::store::BlobSource>]);
    let bytes = omk::store::read_verified(&any, layer, 1 << 20).await.unwrap();
    assert_eq!(Some(bytes), store.get(layer.digest()));
}

#[tokio::test]
async fn addresses_of_ipv6_are_names_too() {
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[&noise(1, 300_000)]);
    let catalog = Catalog::new();
    catalog.tag("lab/web", "1", root);
    let bound = Server::bind("[::1]:0", Arc::new(store.clone()), catalog, ServeOptions::default()).await;
    // A machine without IPv6 has no such addresses.
    let Ok(server) = bound else { return };
    let client = Registry::new(options(&[server.addr()])).unwrap();
    let name = format!("[::1]:{}/lab/web:1", server.addr().port());
    let all = graph(&client, &name).await.unwrap();
    let repository = client.repository(&name.parse().unwrap(), &silent());
    let layer = &all.images[0].layers[0];
    let bytes = omk::store::read_verified(&repository, layer, 1 << 20).await.unwrap();
    assert_eq!(Some(bytes), store.get(layer.digest()));
}

/// `openssl s_server` that answers with the files of a folder, heads and all.
struct Files(Child);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn files(folder: &Path) -> (Files, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = address.to_string();
    let args = ["s_server", "-accept", &at, "-cert", "server.crt", "-key", "server.key", "-HTTP", "-quiet"];
    let mut command = Command::new("openssl");
    command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Files(command.spawn().unwrap());
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return (child, address);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("openssl s_server does not start");
}

#[tokio::test]
async fn what_comes_by_https_is_not_continued_by_http() {
    if !required() {
        return;
    }
    let (_store, server, _faults, _name) = world().await;
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = folder.path().join("v2/lab/web/manifests");
    std::fs::create_dir_all(&at).unwrap();
    let to = format!("http://{}/v2/lab/web/manifests/1", server.addr());
    let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    std::fs::write(at.join("1"), answer).unwrap();
    let (_files, address) = files(folder.path());
    let ca_files = vec![folder.path().join("ca.crt")];
    let client = Registry::new(RegistryOptions { ca_files, ..options(&[]) }).unwrap();
    let error = graph(&client, &format!("{address}/lab/web:1")).await.unwrap_err().to_string();
    assert!(error.contains("redirects from https to http"), "{error}");
}

#[tokio::test]
async fn a_wrong_clock_is_told_as_such() {
    if !required() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir={0}\ndatabase={0}/index.txt\nserial={0}/serial\ndefault_md=sha256\n\
         policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
        folder.path().display()
    );
    for (name, text) in [("ca.cnf", config.as_str()), ("index.txt", ""), ("serial", "01\n")] {
        std::fs::write(at(name), text).unwrap();
    }
    let days = ["-startdate", "20970101000000Z", "-enddate", "20980101000000Z"];
    let (cnf, csr, crt, ca, key) =
        (at("ca.cnf"), at("server.csr"), at("server.crt"), at("ca.crt"), at("ca.key"));
    let ask = ["ca", "-batch", "-config", &cnf, "-in", &csr, "-out", &crt, "-cert", &ca, "-keyfile", &key];
    run("openssl", &[&ask[..], &days].concat());
    let (_files, address) = files(folder.path());
    let client = Registry::new(RegistryOptions { ca_files: vec![ca.into()], ..options(&[]) }).unwrap();
    let error = graph(&client, &format!("{address}/lab/web:1")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("this machine's clock says"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_of_one_host() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Mutual);
    let at = |name: &str| real.folder.path().join(name);
    let name = format!("{}/p/x:1", real.address);
    let rules = |client| {
        let tls = HostTls { ca_files: vec![at("ca.crt")], client, skip_verify: false };
        Hosts::default().with_rules(&real.address.to_string(), HostRules { tls, ..HostRules::default() })
    };
    let (store, server, _faults, origin) = world().await;
    let hosts = rules(Some((at("client.crt"), at("client.key"))));
    let client = Registry::new(RegistryOptions { hosts, ..options(&[server.addr()]) }).unwrap();
    let all = Arc::new(graph(&client, &origin).await.unwrap());
    let (source, target) = (Arc::new(store.clone()), name.parse().unwrap());
    let one = PushImage { name: origin, target, graph: Arc::clone(&all), source, absent: Arc::default() };
    let pushed =
        push(&[one], &client, PushOptions::default(), &silent(), &CancellationToken::new()).await.unwrap();
    assert!(pushed.failed.is_empty(), "{pushed:?}");
    let found = graph(&client, &name).await.unwrap();
    let layer = &found.images[0].layers[0];
    let repository = client.repository(&name.parse().unwrap(), &silent());
    let bytes = omk::store::read_verified(&repository, layer, 1 << 20).await.unwrap();
    assert_eq!(Some(bytes), store.get(layer.digest()));

    let client = Registry::new(RegistryOptions { hosts: rules(None), ..options(&[]) }).unwrap();
    let error = graph(&client, &name).await.unwrap_err().to_string();
    assert!(error.contains("wants a client certificate"), "{error}");
    let hosts = rules(Some((at("client.crt"), at("ca.crt"))));
    let client = Registry::new(RegistryOptions { hosts, ..options(&[]) }).unwrap();
    let error = graph(&client, &name).await.unwrap_err();
    assert!(matches!(error, RegistryError::ClientCert { .. }), "{error}");
}

/// Carries tunnels and counts them.
fn tunnels() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || tunnel(client, &counter));
        }
    });
    (address, count)
}

fn tunnel(client: TcpStream, count: &AtomicUsize) -> Option<()> {
    let mut head = std::io::BufReader::new(client.try_clone().ok()?);
    let mut line = String::new();
    head.read_line(&mut line).ok()?;
    let to = line.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    while line.trim() != "" {
        line.clear();
        head.read_line(&mut line).ok()?;
    }
    count.fetch_add(1, Ordering::SeqCst);
    let server = TcpStream::connect(to).ok()?;
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut from, mut back) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut server = server;
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = head.read(&mut buffer) {
        server.write_all(&buffer[..n]).ok()?;
    }
    server.shutdown(std::net::Shutdown::Both).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_tunnels_https_unless_the_host_is_left_out() {
    if !required() {
        return;
    }
    let real = Real::start(&Kind::Tls);
    let (proxy, count) = tunnels();
    let (proxy, name) = (format!("http://{proxy}"), format!("{}/lab/web:1", real.address));
    let ca = real.folder.path().join("ca.crt").display().to_string();
    let alone = |no_proxy: &str| {
        let env = [
            ("https_proxy", proxy.as_str()),
            ("no_proxy", no_proxy),
            ("OMK_T_NAME", &name),
            ("OMK_T_CA", &ca),
        ];
        crate::registry::run_alone("registry_faults::through_a_tunnel", &env);
    };
    alone("127.0.0.1");
    assert_eq!(count.load(Ordering::SeqCst), 0);
    alone("");
    assert!(count.load(Ordering::SeqCst) >= 1);
}

#[tokio::test]
#[ignore = "run by a_proxy_tunnels_https_unless_the_host_is_left_out"]
async fn through_a_tunnel() {
    let (name, ca) = (std::env::var("OMK_T_NAME").unwrap(), std::env::var("OMK_T_CA").unwrap());
    let client = Registry::new(RegistryOptions { ca_files: vec![ca.into()], ..options(&[]) }).unwrap();
    let all = graph(&client, &name).await.unwrap();
    let repository = client.repository(&name.parse().unwrap(), &silent());
    omk::store::read_verified(&repository, &all.images[0].layers[0], 1 << 22).await.unwrap();
}

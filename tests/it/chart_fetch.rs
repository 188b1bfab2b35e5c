//! Charts from registries and repositories, both in this process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use omk::chart::fetch::{ChartSource, FetchError, FetchOptions, Fetcher, Loader};
use omk::chart::{Chart, ChartError};
use omk::discover::{Inputs, Scope, discover};
use omk::event::silent;
use omk::oci::{Descriptor, Digest, media};
use omk::registry::{Login, RegistryOptions, RetryOptions, Secret};
use omk::serve::{Catalog, ServeOptions, Server};
use omk::store::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// A packed chart with one pod.
fn pack(name: &str, version: &str, more: &str) -> Vec<u8> {
    let packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packer);
    let chart = format!("apiVersion: v2\nname: {name}\nversion: {version}\n{more}");
    let pod = format!("kind: Pod\nspec: {{containers: [{{image: '{name}:{version}'}}]}}\n");
    for (file, text) in [("Chart.yaml", chart), ("templates/pod.yaml", pod)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{name}/{file}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// As `helm push` lays a chart down.
fn artifact(store: &MemoryStore, archive: &[u8], provenance: Option<&str>) -> Descriptor {
    let config = store.insert("application/vnd.cncf.helm.config.v1+json", &b"{}"[..]);
    let chart = store.insert("application/vnd.cncf.helm.chart.content.v1.tar+gzip", archive.to_vec());
    let mut layers = vec![chart];
    if let Some(text) = provenance {
        let media_type = "application/vnd.cncf.helm.chart.provenance.v1.prov";
        layers.push(store.insert(media_type, text.as_bytes().to_vec()));
    }
    let describe = |d: &Descriptor| serde_json::json!({"mediaType": d.media_type(), "digest": d.digest().to_string(), "size": d.size()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": describe(&config),
        "layers": layers.iter().map(describe).collect::<Vec<_>>(),
    });
    store.insert(media::OCI_MANIFEST, serde_json::to_vec(&manifest).unwrap())
}

/// A web server of fixed files, which keeps what it was asked and with which login.
struct Web {
    address: String,
    asked: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Web {
    async fn new(files: HashMap<String, Vec<u8>>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                log.lock().unwrap().push((path.clone(), head.contains("\r\nauthorization:")));
                let (status, body) = match files.get(&path) {
                    Some(body) => ("200 OK", body.clone()),
                    None => ("404 Not Found", Vec::new()),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.write_all(&body).await;
            }
        });
        Self { address, asked }
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(p, _)| p.clone()).collect()
    }
}

struct World {
    dir: tempfile::TempDir,
    registry: Server,
    host: String,
}

impl World {
    /// A registry with web 1.2.0, 1.10.0, 2.0.0-rc.1, a forged one, and an image that is no chart.
    async fn new() -> Self {
        let store = MemoryStore::new();
        let catalog = Catalog::new();
        for version in ["1.2.0", "1.10.0", "2.0.0-rc.1"] {
            let archive = pack("web", version, "");
            let file = format!("files:\n  web-{version}.tgz: {}\n", Digest::sha256(&archive));
            catalog.tag("charts/web", version, artifact(&store, &archive, Some(&file)));
        }
        let lie = format!("files:\n  forged-1.0.0.tgz: {}\n", Digest::sha256(b"other"));
        catalog.tag("charts/forged", "1.0.0", artifact(&store, &pack("forged", "1.0.0", ""), Some(&lie)));
        catalog.tag("charts/image", "1.0.0", crate::images::image(&store, "linux/amd64", &[&b"x"[..]]));
        let registry =
            Server::bind("127.0.0.1:0", Arc::new(store), catalog, ServeOptions::default()).await.unwrap();
        let host = registry.addr().to_string();
        Self { dir: tempfile::tempdir().unwrap(), registry, host }
    }

    fn options(&self, offline: bool, login: Option<Login>) -> FetchOptions {
        let retries = RetryOptions { attempts: 1, ..RetryOptions::default() };
        let registry =
            RegistryOptions { plain_http: vec![self.host.clone()], retries, ..RegistryOptions::default() };
        let cache = self.dir.path().join("cache");
        FetchOptions { registry, login, cache, offline }
    }

    fn fetcher(&self, offline: bool, login: Option<Login>) -> Fetcher {
        Fetcher::new(self.options(offline, login)).unwrap()
    }

    fn oci(&self, name: &str, version: &str) -> ChartSource {
        ChartSource::parse(&format!("oci://{}/charts/{name}", self.host), None, version).unwrap()
    }

    fn folder(&self, name: &str, chart: &str, lock: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.join("templates")).unwrap();
        let text = format!("apiVersion: v2\nname: {name}\nversion: 0.1.0\n{chart}");
        std::fs::write(path.join("Chart.yaml"), text).unwrap();
        if !lock.is_empty() {
            std::fs::write(path.join("Chart.lock"), lock).unwrap();
        }
        path
    }
}

async fn load(fetcher: &Fetcher, source: &ChartSource) -> Result<Chart, ChartError> {
    fetcher.load(source, true, &silent(), &CancellationToken::new()).await
}

fn names(chart: &Chart) -> Vec<String> {
    let mut all: Vec<String> =
        chart.dependencies.iter().map(|c| format!("{} {}", c.metadata.name, c.metadata.version)).collect();
    all.sort();
    all
}

/// What went wrong with fetching.
fn told(result: Result<Chart, ChartError>) -> FetchError {
    match result {
        Err(ChartError::Fetch(error)) => *error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_give_versions_and_constraints_and_the_cache_answers_afterwards() {
    let world = World::new().await;
    let fetcher = world.fetcher(false, None);
    for (asked, want) in [
        ("1.2.0", "1.2.0"),
        ("^1.0", "1.10.0"),
        ("", "1.10.0"),
        (">0.0.0-0", "2.0.0-rc.1"),
        ("~1.2", "1.2.0"),
    ] {
        let chart = load(&fetcher, &world.oci("web", asked)).await.unwrap();
        assert_eq!(chart.metadata.version, want, "{asked}");
    }
    assert!(matches!(told(load(&fetcher, &world.oci("web", "^3")).await), FetchError::NoVersion { .. }));
    assert!(matches!(told(load(&fetcher, &world.oci("none", "1.0.0")).await), FetchError::Registry(_)));
    let error = told(load(&fetcher, &world.oci("image", "1.0.0")).await);
    assert!(matches!(error, FetchError::NotAChart { .. }), "{error}");
    let error = told(load(&fetcher, &world.oci("forged", "1.0.0")).await);
    assert!(matches!(error, FetchError::Digest { .. }), "{error}");
    let asked = world.oci("web", "^1.0");
    let unknown = world.oci("web", "1.3.0");
    let offline = world.fetcher(true, None);
    world.registry.shutdown().await;
    assert_eq!(load(&offline, &asked).await.unwrap().metadata.version, "1.10.0");
    let error = told(load(&offline, &unknown).await).to_string();
    assert!(error.contains(&unknown.to_string()) && error.contains("--offline"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_give_charts_whose_digest_is_checked_and_logins_stay_at_home() {
    let world = World::new().await;
    let (good, bad) = (pack("web", "1.0.0", ""), pack("bad", "1.0.0", ""));
    let forged = pack("forged", "1.0.0", "");
    let elsewhere = Web::new(HashMap::from([("/far-1.0.0.tgz".into(), pack("far", "1.0.0", ""))])).await;
    let index = format!(
        "apiVersion: v1\nentries:\n  bad:\n  - version: 1.0.0\n    digest: {}\n    urls: [bad-1.0.0.tgz]\n  forged:\n  - \
         version: 1.0.0\n    urls: [forged-1.0.0.tgz]\n  far:\n  - \
         version: 1.0.0\n    urls: ['{}/far-1.0.0.tgz']\n  web:\n  - version: 1.0.0\n    digest: {}\n    urls: \
         [web-1.0.0.tgz]\n  - version: 0.9.0\n    urls: [gone.tgz]\n",
        Digest::sha256(b"other").hex(),
        elsewhere.address,
        Digest::sha256(&good).hex(),
    );
    let web = Web::new(HashMap::from([
        ("/stable/index.yaml".into(), index.into_bytes()),
        (
            "/stable/web-1.0.0.tgz.prov".into(),
            format!("files:\n  web-1.0.0.tgz: {}\n", Digest::sha256(&good)).into(),
        ),
        ("/stable/web-1.0.0.tgz".into(), good),
        (
            "/stable/forged-1.0.0.tgz.prov".into(),
            format!("files:\n  forged-1.0.0.tgz: {}\n", Digest::sha256(b"x")).into(),
        ),
        ("/stable/forged-1.0.0.tgz".into(), forged),
        ("/stable/bad-1.0.0.tgz".into(), bad),
    ]))
    .await;
    let home = format!("{}/stable", web.address);
    let from = |name: &str, version: &str| ChartSource::parse(name, Some(&home), version).unwrap();
    let login = Login { user: "me".into(), password: Secret::new("secret") };
    let fetcher = world.fetcher(false, Some(login));
    assert_eq!(load(&fetcher, &from("web", "")).await.unwrap().metadata.name, "web");
    load(&fetcher, &from("far", "")).await.unwrap();
    assert!(web.asked.lock().unwrap().iter().all(|(_, login)| *login));
    assert!(elsewhere.asked.lock().unwrap().iter().all(|(_, login)| !login));
    assert!(matches!(told(load(&fetcher, &from("bad", "")).await), FetchError::Digest { .. }));
    for chart in
        [from("forged", ""), ChartSource::parse(&format!("{home}/forged-1.0.0.tgz"), None, "").unwrap()]
    {
        let error = told(load(&fetcher, &chart).await).to_string();
        assert!(error.contains("its provenance file promises"), "{error}");
    }
    // A chart of a repository is a source of images as any other.
    let (inputs, loader) = {
        let options = omk::chart::RenderOptions::default();
        let release = omk::discover::ChartInput { chart: from("web", "1.x"), release_name: None, options };
        let login = Login { user: "me".into(), password: Secret::new("secret") };
        let loader = Loader::new(world.options(false, Some(login)), silent(), CancellationToken::new());
        (Inputs { releases: vec![release], ..Inputs::default() }, loader)
    };
    let scope = Scope { charts: Some(loader), ..Scope::default() };
    let found = tokio::task::spawn_blocking(move || discover(&inputs, &scope)).await.unwrap().unwrap();
    assert_eq!(found.images()[0].to_string(), "docker.io/library/web:1.0.0", "{:?}", found.problems);
    let gone = told(load(&fetcher, &from("web", "0.9.0")).await).to_string();
    assert!(gone.contains("404") && !gone.contains("secret"), "{gone}");
    assert!(matches!(told(load(&fetcher, &from("web", "7")).await), FetchError::NoVersion { .. }));
    assert!(matches!(told(load(&fetcher, &from("none", "")).await), FetchError::NoVersion { .. }));
    // Known by its digest: only the index is asked for again.
    let before = web.paths().len();
    load(&fetcher, &from("web", "")).await.unwrap();
    assert_eq!(web.paths()[before..], ["/stable/index.yaml"]);
    let page = ChartSource::parse("web", Some(&elsewhere.address), "").unwrap();
    assert!(told(load(&fetcher, &page).await).to_string().contains("404"));
    let offline = world.fetcher(true, None);
    assert_eq!(load(&offline, &from("web", "")).await.unwrap().metadata.version, "1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_come_from_everywhere_and_the_lock_chooses() {
    let world = World::new().await;
    let index = "apiVersion: v1\nentries:\n  db:\n  - version: 1.1.0\n    urls: [db-1.1.0.tgz]\n  - version: 1.0.0\n    \
                 urls: [db-1.0.0.tgz]\n";
    let web = Web::new(HashMap::from([
        ("/index.yaml".into(), index.as_bytes().to_vec()),
        ("/db-1.0.0.tgz".into(), pack("db", "1.0.0", "")),
        ("/db-1.1.0.tgz".into(), pack("db", "1.1.0", "")),
    ]))
    .await;
    world.folder("common", "type: library\n", "");
    let chart = format!(
        "dependencies:\n- {{name: web, version: ^1, repository: 'oci://{}/charts'}}\n- {{name: db, version: 1.x, \
         repository: '{}'}}\n- {{name: common, version: '>=0.1', repository: 'file://../common'}}\n",
        world.host, web.address
    );
    let top = world.folder("top", &chart, "");
    let fetcher = world.fetcher(false, None);
    let source = ChartSource::Path(top.clone());
    assert_eq!(names(&load(&fetcher, &source).await.unwrap()), ["common 0.1.0", "db 1.1.0", "web 1.10.0"]);
    assert!(!top.join("charts").exists());
    let lock = format!("dependencies:\n- {{name: db, version: 1.0.0, repository: '{}'}}\n", web.address);
    world.folder("top", &chart, &lock);
    assert_eq!(names(&load(&fetcher, &source).await.unwrap()), ["common 0.1.0", "db 1.0.0", "web 1.10.0"]);
    // A lock that no longer fits what is asked for does not count.
    world.folder("top", &chart, &lock.replace("1.0.0", "0.9.0"));
    assert_eq!(names(&load(&fetcher, &source).await.unwrap())[1], "db 1.1.0");
    let bare = fetcher.load(&source, false, &silent(), &CancellationToken::new()).await.unwrap();
    assert!(bare.dependencies.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_with_its_reason() {
    let world = World::new().await;
    let dep = |repository: &str| {
        format!("dependencies:\n- {{name: x, version: 1.0.0, repository: '{repository}'}}\n")
    };
    for (repository, reason) in [
        ("", "has to be in charts/"),
        ("@stable", "helm repo add"),
        ("file://../none", "cannot read"),
        ("file://.", "it has version"),
        ("ftp://x", "is not http://"),
    ] {
        let path = world.folder("lacking", &dep(repository), "");
        let error =
            load(&world.fetcher(false, None), &ChartSource::Path(path)).await.unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("missing in charts/ directory: x"), "{error}");
    }
    let path = world.folder("lacking", &dep("https://charts.example.com"), "");
    let error = load(&world.fetcher(true, None), &ChartSource::Path(path)).await.unwrap_err().to_string();
    assert!(error.contains("x 1.0.0 of https://charts.example.com/ is not in the cache"), "{error}");
    // Charts that refer to each other.
    world.folder("ring", "dependencies:\n- {name: ring, version: '*', repository: 'file://../ring'}\n", "");
    let ring = ChartSource::Path(world.dir.path().join("ring"));
    let error = load(&world.fetcher(false, None), &ring).await.unwrap_err().to_string();
    assert!(error.contains("without an end"), "{error}");
    // A packed chart has no folder beside it.
    let packed = world.dir.path().join("p.tgz");
    let more = "dependencies:\n- {name: common, version: '*', repository: 'file:///etc'}\n";
    std::fs::write(&packed, pack("p", "1.0.0", more)).unwrap();
    let error = load(&world.fetcher(false, None), &ChartSource::Path(packed)).await.unwrap_err().to_string();
    assert!(error.contains("a packed chart cannot"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_in_charts_that_are_fetched() {
    let world = World::new().await;
    let chart = format!(
        "dependencies:\n- {{name: web, version: 1.2.0, repository: 'oci://{}/charts'}}\n",
        world.host
    );
    let top = world.folder("top", &chart, "");
    let paths = vec![PathBuf::from(format!("oci://{}/charts/web:1.10.0", world.host)), top];
    let loader = Loader::new(world.options(false, None), silent(), CancellationToken::new());
    let found = tokio::task::spawn_blocking(move || {
        let scope = Scope { charts: Some(loader), ..Scope::default() };
        discover(&Inputs { paths, ..Inputs::default() }, &scope).unwrap()
    })
    .await
    .unwrap();
    let images: Vec<String> = found.images().iter().map(|i| i.familiar()).collect();
    assert_eq!(images, ["web:1.10.0", "web:1.2.0"], "{:?}", found.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_are_kept_are_those_that_were_served() {
    let world = World::new().await;
    load(&world.fetcher(false, None), &world.oci("web", "1.2.0")).await.unwrap();
    let digest = Digest::sha256(&pack("web", "1.2.0", ""));
    let kept = world.dir.path().join(format!("cache/sha256/{}.tgz", digest.hex()));
    assert!(Path::new(&kept).is_file());
    // What somebody changed in the cache is fetched again.
    std::fs::write(&kept, b"changed").unwrap();
    assert_eq!(
        load(&world.fetcher(false, None), &world.oci("web", "1.2.0")).await.unwrap().metadata.name,
        "web"
    );
    assert_eq!(std::fs::read(&kept).unwrap(), pack("web", "1.2.0", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_lead_to_charts_that_are_fetched() {
    let world = World::new().await;
    let archive = pack("shop", "3.1.0", "");
    let index = format!(
        "apiVersion: v1\nentries:\n  shop:\n  - {{name: shop, version: 3.1.0, urls: [shop-3.1.0.tgz], digest: {}}}\n",
        Digest::sha256(&archive).hex()
    );
    let web = Web::new(HashMap::from([
        ("/index.yaml".to_owned(), index.into_bytes()),
        ("/shop-3.1.0.tgz".to_owned(), archive),
    ]))
    .await;
    let flux = |kind: &str, name: &str, spec: &str| {
        let group =
            if kind == "HelmRelease" { "helm.toolkit.fluxcd.io/v2" } else { "source.toolkit.fluxcd.io/v1" };
        format!(
            "---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: apps}}\nspec: {spec}\n"
        )
    };
    let text = [
        flux("HelmRepository", "registry", &format!("{{type: oci, url: 'oci://{}/charts'}}", world.host)),
        flux("HelmRepository", "site", &format!("{{url: '{}'}}", web.address)),
        flux(
            "OCIRepository",
            "old",
            &format!("{{url: 'oci://{}/charts/web', ref: {{tag: 1.2.0}}}}", world.host),
        ),
        flux(
            "HelmRelease",
            "a",
            "{chart: {spec: {chart: web, version: ^1.0, sourceRef: {kind: HelmRepository, name: registry}}}}",
        ),
        flux(
            "HelmRelease",
            "b",
            "{chart: {spec: {chart: shop, sourceRef: {kind: HelmRepository, name: site}}}}",
        ),
        flux("HelmRelease", "c", "{chartRef: {kind: OCIRepository, name: old}}"),
        flux(
            "HelmRelease",
            "d",
            "{chart: {spec: {chart: none, sourceRef: {kind: HelmRepository, name: site}}}}",
        ),
    ];
    let file = world.dir.path().join("releases.yaml");
    std::fs::write(&file, text.concat()).unwrap();
    let look = |options: FetchOptions| {
        let loader = Loader::new(options, silent(), CancellationToken::new());
        let paths = vec![file.clone()];
        tokio::task::spawn_blocking(move || {
            let scope = Scope { charts: Some(loader), ..Scope::default() };
            discover(&Inputs { paths, ..Inputs::default() }, &scope).unwrap()
        })
    };
    let found = look(world.options(false, None)).await.unwrap();
    let images: Vec<String> = found.images().iter().map(|i| i.familiar()).collect();
    assert_eq!(images, ["shop:3.1.0", "web:1.10.0", "web:1.2.0"], "{:?}", found.problems);
    assert_eq!(found.problems.len(), 1);
    let told = found.problems[0].to_string();
    assert!(
        told.contains("no chart version found for none") && told.contains("helm pull none --repo http"),
        "{told}"
    );
    // Without a network, what was fetched before answers.
    let offline = look(world.options(true, None)).await.unwrap();
    assert_eq!(offline.images(), found.images(), "{:?}", offline.problems);
    let nowhere = FetchOptions { cache: world.dir.path().join("empty"), ..world.options(true, None) };
    let none = look(nowhere).await.unwrap();
    assert!(none.images().is_empty() && none.problems.len() == 4 && none.is_partial(), "{:?}", none.problems);
}

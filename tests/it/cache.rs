//! The image cache as users run it, against a registry in this process, with other tools and with kill -9.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use omk::cache::{CacheError, GcOptions, ImageCache};
use omk::event::silent;
use omk::oci::{Descriptor, Digest};
use omk::serve::{Catalog, Request, ServeOptions, Server};
use omk::store::MemoryStore;
use tokio_util::sync::CancellationToken;

use crate::images::{image, index, noise};

struct World {
    folder: tempfile::TempDir,
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// `lab/web:1` and `lab/web:2` share a base, `lab/multi:1` is for two platforms.
    async fn new(base: usize) -> Self {
        let store = MemoryStore::new();
        let base = noise(1, base);
        let catalog = Catalog::new();
        let web =
            |n: u64| image(&store, "linux/amd64", &[&base, &noise(10 + n, 900_000), &noise(20 + n, 40_000)]);
        catalog.tag("lab/web", "1", web(1));
        catalog.tag("lab/web", "2", web(2));
        let multi = ["linux/amd64", "linux/arm64"].map(|p| image(&store, p, &[&base, p.as_bytes()]));
        catalog.tag("lab/multi", "1", index(&store, &multi));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let observer: omk::serve::Observer =
            Arc::new(move |r: &Request| seen.lock().unwrap().push(format!("{} {}", r.method, r.path)));
        let options = ServeOptions { observer: Some(observer), ..ServeOptions::default() };
        let server = Server::bind("127.0.0.1:0", Arc::new(store), catalog, options).await.unwrap();
        Self { folder: tempfile::tempdir().unwrap(), server, asked }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("OMK_PLAIN_HTTP", self.server.addr().to_string()).env("OMK_PROGRESS", "plain");
        command.env("OMK_HOME", self.folder.path()).env_remove("OMYKUBE_HOME").env_remove("OMK_CACHE");
        command
    }

    async fn omk(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs what must end with this code; gives standard output and error.
    async fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.omk(arguments).await;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}\n{err}");
        (out, err)
    }

    fn name(&self, reference: &str) -> String {
        format!("{}/lab/{reference}", self.server.addr())
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("cache/images")
    }

    fn cache(&self) -> ImageCache {
        ImageCache::new(self.root())
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn digest(&self, reference: &str) -> String {
        let (out, _) = self.ends(0, &["image", "inspect", &self.name(reference), "-o", "json"]).await;
        let found: serde_json::Value = serde_json::from_str(&out).unwrap();
        found["digest"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_cache_leaves_tag_checks_and_a_digest_leaves_nothing() {
    let w = World::new(300_000).await;
    let (web, multi) = (w.name("web:1"), w.name("multi:1"));
    w.ends(0, &["bundle", "build", "--image", &web, "--image", &multi, "--cache", "-o", "a.tar"]).await;
    w.requests();
    let (out, _) = w.ends(0, &["bundle", "build", "--image", &web, "--image", &multi, "-o", "b.tar"]).await;
    assert!(out.contains(" from the cache"), "{out}");
    let mut asked = w.requests();
    asked.sort();
    assert_eq!(asked, ["HEAD /v2/lab/multi/manifests/1", "HEAD /v2/lab/web/manifests/1"]);
    let same = |n: &str| std::fs::read(w.folder.path().join(n)).unwrap();
    assert!(same("a.tar") == same("b.tar"));
    let pinned = format!("{web}@{}", w.digest("web:1").await);
    w.ends(0, &["bundle", "build", "--image", &pinned, "-o", "c.tar"]).await;
    w.ends(0, &["bundle", "build", "--offline", "--image", &web, "--image", &multi, "-o", "d.tar"]).await;
    assert_eq!(w.requests(), Vec::<String>::new());
    assert!(same("a.tar") == same("d.tar"));
    let other = w.name("web:2");
    let (_, err) =
        w.ends(1, &["bundle", "build", "--offline", "--image", &web, "--image", &other, "-o", "e.tar"]).await;
    assert!(
        err.contains(&format!(
            "omk image pull --platform linux/amd64 --plain-http {} {other}",
            w.server.addr()
        )),
        "{err}"
    );
    assert_eq!(w.requests(), Vec::<String>::new());
    w.ends(2, &["bundle", "build", "--offline", "--cache=off", "--image", &web, "-o", "f.tar"]).await;
    let (out, _) = w.ends(0, &["cache", "stats", "-o", "json"]).await;
    let stats: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&stats["images"], &stats["image_hits"]), (&2.into(), &5.into()), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_do_with_images() {
    let w = World::new(300_000).await;
    let (web1, web2) = (w.name("web:1"), w.name("web:2"));
    let (_, err) = w.ends(3, &["image", "pull", &web1, &web2, &w.name("gone:1")]).await;
    assert!(err.contains("lab/gone:1 is not in"), "{err}");
    let (out, _) = w.ends(0, &["image", "list"]).await;
    assert!(out.contains(&web1) && out.contains("linux/amd64"), "{out}");
    let (out, _) = w.ends(0, &["image", "list", "*/web:2", "-o", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let layer = w.root().join(Digest::sha256(&noise(11, 900_000)).layout_path());
    std::fs::write(&layer, "other").unwrap();
    let (out, err) = w.ends(6, &["image", "verify", &web1]).await;
    let again = format!("omk image pull --plain-http {} {web1}", w.server.addr());
    assert!(out.contains("put away as") && err.contains(&again), "{out}{err}");
    w.ends(0, &["image", "verify", &web2]).await;
    let (out, _) = w.ends(6, &["cache", "verify"]).await;
    assert!(out.contains("missing"), "{out}");
    w.ends(0, &["image", "pull", &web1]).await;
    w.ends(0, &["cache", "verify"]).await;
    w.ends(0, &["cache", "pin", "*/web:1"]).await;
    w.ends(0, &["cache", "gc", "--max-size", "1", "--grace", "0s"]).await;
    let (out, err) = w.ends(1, &["image", "inspect", &web2]).await;
    assert!(out.is_empty() && err.contains("omk image pull"), "{out}{err}");
    w.ends(0, &["image", "remove", &web1]).await;
    let (out, _) = w.ends(0, &["image", "list", "-o", "json"]).await;
    assert_eq!(out.trim(), "[]");
    w.ends(0, &["cache", "clear", "--all"]).await;
    let (out, _) = w.ends(0, &["cache", "path"]).await;
    assert_eq!(Path::new(out.trim()), w.root());
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_and_writes_the_cache() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        assert!(std::env::var_os("OMK_REQUIRE_LAB").is_none_or(|v| v != "1"), "skopeo is required");
        eprintln!("SKIPPED: skopeo is not installed");
        return;
    }
    let w = World::new(100_000).await;
    let web1 = w.name("web:1");
    w.ends(0, &["image", "pull", &web1]).await;
    let skopeo = |arguments: Vec<String>| async {
        let run = move || Command::new("skopeo").args(&arguments).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let root = w.root().display().to_string();
    let copy = |from: String, to: String| {
        skopeo(vec!["copy".into(), "-q".into(), "--src-tls-verify=false".into(), from, to])
    };
    copy(format!("oci:{root}:{web1}"), format!("oci:{}:x", w.folder.path().join("out").display())).await;
    copy(format!("docker://{}", w.name("web:2")), format!("oci:{root}:{}", w.name("web:2"))).await;
    copy(format!("docker://{}", w.name("web:2")), format!("oci:{root}:own:7")).await;
    let (out, _) = w.ends(0, &["image", "list"]).await;
    for name in [&web1, &w.name("web:2"), "docker.io/library/own:7"] {
        assert!(out.contains(name), "{name}: {out}");
    }
    w.requests();
    w.ends(0, &["bundle", "build", "--offline", "--image", &w.name("web:2"), "-o", "x.tar"]).await;
    assert_eq!(w.requests(), Vec::<String>::new());
    copy(format!("oci:{root}:own:7"), format!("oci:{}:y", w.folder.path().join("out").display())).await;
    w.ends(0, &["cache", "verify"]).await;
    w.ends(0, &["bundle", "verify", "cache/images"]).await;
}

/// Kills it at some instant, or sees it end before.
fn kill_after(child: &mut Child, wait: Duration) {
    let end = Instant::now() + wait;
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Every file below `blobs/` is what its name says, whatever else there is.
fn blobs_are_whole(root: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(root.join("blobs/sha256")) else { return 0 };
    let mut n = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let digest = Digest::sha256(&std::fs::read(&path).unwrap());
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            digest.hex(),
            "a partial file has a final name"
        );
        n += 1;
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_leave_a_clean_cache() {
    let w = World::new(3_000_000).await;
    let names = [w.name("web:1"), w.name("web:2"), w.name("multi:1")];
    let pull: Vec<&str> =
        ["image", "pull", "--platform", "all"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let quiet = |arguments: &[&str]| {
        let mut command = w.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let begun = Instant::now();
    w.ends(0, &pull).await;
    let whole = begun.elapsed();
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let (mut partial, mut complete) = (0, 0);
    for round in 0..100 {
        if random.u8(..) < 100 {
            w.cache().clear(true, false).unwrap();
        } else if random.bool() {
            // Something to do for a clean-up.
            match w.cache().remove(&[names[random.usize(..3)].parse().unwrap()]) {
                Ok(_) | Err(CacheError::NotCached { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let mut pulls = vec![quiet(&pull).spawn().unwrap()];
        if round % 4 == 1 {
            pulls.push(quiet(&pull).spawn().unwrap());
        }
        if round % 3 == 1 {
            pulls.push(quiet(&["cache", "gc", "--grace", "0s", "--max-size", "1MB"]).spawn().unwrap());
        }
        let waits: Vec<Duration> = pulls.iter().map(|_| whole.mul_f64(random.f64() * 1.1)).collect();
        let killed = move || pulls.iter_mut().zip(waits).for_each(|(child, wait)| kill_after(child, wait));
        tokio::task::spawn_blocking(killed).await.unwrap();
        blobs_are_whole(&w.root());
        let found = w.cache().verify(&[], &silent(), &CancellationToken::new()).await.unwrap();
        assert!(found.whole(), "round {round}: {found:?}");
        match found.images {
            3 => complete += 1,
            _ => partial += 1,
        }
    }
    assert!(partial > 10, "hardly a pull was killed on its way: {partial} of 100");
    eprintln!("{partial} of 100 were killed before they had all images, {complete} after");
    w.ends(0, &pull).await;
    assert_eq!(w.cache().list().unwrap().len(), 3);
    w.cache().gc(&GcOptions { grace: Duration::ZERO, ..GcOptions::default() }).unwrap();
    let left = |folder: &str| std::fs::read_dir(w.root().join(folder)).map_or(0, Iterator::count);
    assert_eq!((left("partial"), left("quarantine")), (0, 0));
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(w.root().join("index.json")).unwrap()).unwrap();
    let roots: Vec<Descriptor> = serde_json::from_value(index["manifests"].clone()).unwrap();
    assert_eq!(roots.len(), 3);
}

/// The cache, and everything that writes bundles: `bench/kills.py` at two instants of each.
#[tokio::test(flavor = "multi_thread")]
async fn kills_of_whatever_writes_leave_nothing_half_done() {
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("OMK_REQUIRE_LAB").is_none_or(|v| v != "1"), "python3 is required");
        eprintln!("SKIPPED: python3 is not installed");
        return;
    }
    let w = World::new(20_000_000).await;
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/kills.py")).arg(env!("CARGO_BIN_EXE_omk"));
    command
        .args([w.name("web:1"), w.name("web:2")])
        .args(["--rounds", "16", "--folder"])
        .arg(w.folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("16 of 16 clean"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_pull_the_same_fetch_it_once() {
    let w = World::new(8_000_000).await;
    let names = [w.name("web:1"), w.name("web:2")];
    let pull = ["image", "pull", &names[0], &names[1]];
    let (a, b) = tokio::join!(w.omk(&pull), w.omk(&pull));
    assert!(a.status.success() && b.status.success(), "{a:?} {b:?}");
    let layers: Vec<String> =
        w.requests().into_iter().filter(|r| r.starts_with("GET") && r.contains("/blobs/")).collect();
    for layer in [noise(1, 8_000_000), noise(11, 900_000), noise(12, 900_000)] {
        let hex = Digest::sha256(&layer).hex().to_owned();
        assert_eq!(layers.iter().filter(|l| l.contains(&hex)).count(), 1, "{layers:?}");
    }
    w.ends(0, &["cache", "verify"]).await;
}

//! Disks that are full, fill up, or cannot be written to: what is told, what is left, and that the same command then works.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use omk::oci::Digest;
use omk::serve::{Catalog, Observer, ServeOptions, Server};
use omk::store::MemoryStore;

use crate::images::{image, noise};

/// A small disk in memory that only this test sees. It lives in the mount namespace of a process that does nothing, and goes
/// with it, however the test ends.
struct Disk {
    keeper: Child,
    path: PathBuf,
}

impl Disk {
    /// `None` without root: the test is to return.
    fn new(size: &str) -> Option<Self> {
        let script = format!("mount -t tmpfs -o size={size} disk /mnt || exit 77; echo up; exec sleep 300");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut keeper = command.stderr(Stdio::null()).spawn().unwrap();
        let mut up = [0; 3];
        if keeper.stdout.as_mut().unwrap().read_exact(&mut up).is_err() {
            let ended = keeper.wait().unwrap();
            assert!(std::env::var_os("OMK_REQUIRE_LAB").is_none_or(|v| v != "1"), "no mount: {ended}");
            eprintln!("SKIPPED: a mount needs root");
            return None;
        }
        let path = PathBuf::from(format!("/proc/{}/root/mnt", keeper.id()));
        Some(Self { keeper, path })
    }

    fn remount(&self, option: &str) {
        let id = self.keeper.id().to_string();
        let remount = format!("remount,{option}");
        let done = Command::new("nsenter").args(["-m", "-t", &id, "mount", "-o", &remount, "/mnt"]).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Takes all that is left.
fn fill(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("filler")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

const LAYERS: [(u64, usize); 3] = [(1, 3_000_000), (2, 2_000_000), (3, 1_000_000)];

struct World {
    folder: tempfile::TempDir,
    server: Server,
    /// The disk that fills up as soon as a blob is asked for.
    fills: Arc<Mutex<Option<PathBuf>>>,
    filled: Arc<AtomicBool>,
}

impl World {
    async fn new() -> Self {
        let (store, catalog) = (MemoryStore::new(), Catalog::new());
        let layers = LAYERS.map(|(seed, size)| noise(seed, size));
        catalog.tag("lab/web", "1", image(&store, "linux/amd64", &layers.each_ref().map(Vec::as_slice)));
        let fills: Arc<Mutex<Option<PathBuf>>> = Arc::default();
        let filled = Arc::new(AtomicBool::new(false));
        let (disk, done) = (Arc::clone(&fills), Arc::clone(&filled));
        let largest = Digest::sha256(&layers[0]).to_string();
        let observer: Observer = Arc::new(move |request| {
            if request.path.ends_with(&largest)
                && let Some(disk) = disk.lock().unwrap().take()
            {
                fill(&disk);
                done.store(true, Ordering::SeqCst);
            }
        });
        let options = ServeOptions { observer: Some(observer), ..ServeOptions::default() };
        let server = Server::bind("127.0.0.1:0", Arc::new(store), catalog, options).await.unwrap();
        Self { folder: tempfile::tempdir().unwrap(), server, fills, filled }
    }

    fn name(&self) -> String {
        format!("{}/lab/web:1", self.server.addr())
    }

    async fn omk(&self, home: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("OMK_PLAIN_HTTP", self.server.addr().to_string()).env("OMK_PROGRESS", "plain");
        command.env("OMK_HOME", home).env_remove("OMYKUBE_HOME").env_remove("OMK_CACHE");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs what must end with this code; gives standard output and error together.
    async fn ends(&self, code: i32, home: &Path, arguments: &[&str]) -> String {
        let output = self.omk(home, arguments).await;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }
}

/// Names and content of every file of a layout's blobs.
fn blobs_are_whole(root: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(root.join("blobs/sha256")) else { return 0 };
    let whole = |path: PathBuf| {
        let hex = Digest::sha256(&std::fs::read(&path).unwrap()).hex().to_owned();
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), hex, "a partial file has a final name");
    };
    entries.map(|e| whole(e.unwrap().path())).count()
}

fn names_cause_and_way_out(told: &str) {
    let parts =
        ["cannot write", "No space left on device", "; make room there and run the same command again"];
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_leaves_a_clean_cache() {
    let Some(disk) = Disk::new("16m") else { return };
    let w = World::new().await;
    let (name, root) = (w.name(), disk.path.join("cache/images"));
    *w.fills.lock().unwrap() = Some(disk.path.clone());
    let told = w.ends(1, &disk.path, &["image", "pull", &name]).await;
    assert!(w.filled.load(Ordering::SeqCst));
    names_cause_and_way_out(&told);
    blobs_are_whole(&root);
    // As full as it is, and with room again.
    w.ends(0, &disk.path, &["cache", "verify"]).await;
    let told = w.ends(0, &disk.path, &["image", "list", "-o", "json"]).await;
    assert_eq!(told.trim(), "[]");
    let told = w.ends(0, &disk.path, &["cache", "gc", "--grace", "0s"]).await;
    assert!(!told.contains(" 0 B freed"), "{told}");
    std::fs::remove_file(disk.path.join("filler")).unwrap();
    w.ends(0, &disk.path, &["image", "pull", &name]).await;
    w.ends(0, &disk.path, &["cache", "verify"]).await;
    assert_eq!(blobs_are_whole(&root), LAYERS.len() + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_too_small_is_told_before_anything_is_fetched() {
    let Some(disk) = Disk::new("4m") else { return };
    let w = World::new().await;
    let (name, home) = (w.name(), w.folder.path().join("home"));
    let at = |name: &str| disk.path.join(name).display().to_string();
    let told = w.ends(1, &disk.path, &["image", "pull", &name]).await;
    assert!(told.contains("its disk has") && told.contains("make room for"), "{told}");
    assert_eq!(blobs_are_whole(&disk.path.join("cache/images")), 0);
    w.ends(0, &disk.path, &["cache", "verify"]).await;
    w.ends(0, &home, &["bundle", "build", "--image", &name, "-o", "x.tar"]).await;
    for command in [
        &["build", "--image", &name, "-o", &at("b.tar")][..],
        &["build", "--image", &name, "--format", "folder", "-o", &at("b")],
        &["export", "x.tar", "-o", &format!("docker-archive:{}", at("d.tar"))],
        &["extract", "x.tar", "-o", &at("e")],
        &["split", "x.tar", "--split", "1MB", "-o", &at("v")],
        &["merge", "x.tar", "x.tar", "-o", &at("m.tar")],
    ] {
        let told = w.ends(1, &home, &[&["bundle"], command].concat()).await;
        assert!(told.contains("its disk has") && told.contains("make room for"), "{command:?}: {told}");
    }
    for name in
        ["b.tar", "b.tar.partial", "d.tar", "d.tar.partial", "m.tar", "v", "b/oci-layout", "e/oci-layout"]
    {
        assert!(!disk.path.join(name).exists(), "{name} was left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_leaves_no_bundle_and_the_build_goes_on() {
    let w = World::new().await;
    let (name, home) = (w.name(), w.folder.path().join("home"));
    for (form, out) in [("tar", "x.tar"), ("folder", "x")] {
        let Some(disk) = Disk::new("16m") else { return };
        let path = disk.path.join(out).display().to_string();
        let build = ["bundle", "build", "--image", &name, "--format", form, "--cache=off", "-o", &path];
        *w.fills.lock().unwrap() = Some(disk.path.clone());
        let told = w.ends(1, &home, &build).await;
        assert!(w.filled.swap(false, Ordering::SeqCst));
        names_cause_and_way_out(&told);
        assert!(!disk.path.join("x.tar").exists() && !disk.path.join("x/oci-layout").exists());
        blobs_are_whole(&disk.path.join("x"));
        std::fs::remove_file(disk.path.join("filler")).unwrap();
        w.ends(0, &home, &build).await;
        w.ends(0, &home, &["bundle", "verify", &path]).await;
        let left: Vec<_> = std::fs::read_dir(&disk.path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [out], "something is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_read_in_place_and_never_written_to() {
    let Some(disk) = Disk::new("64m") else { return };
    let w = World::new().await;
    let (name, home) = (w.name(), w.folder.path().join("home"));
    let at = |name: &str| disk.path.join(name).display().to_string();
    let (tar, folder, packed) = (at("x.tar"), at("x"), at("x.tar.gz"));
    w.ends(0, &disk.path, &["image", "pull", &name]).await;
    w.ends(0, &home, &["bundle", "build", "--image", &name, "-o", &tar]).await;
    w.ends(0, &home, &["bundle", "build", "--image", &name, "--format", "folder", "-o", &folder]).await;
    assert!(Command::new("gzip").args(["-k1", &tar]).status().unwrap().success());
    disk.remount("ro");
    for bundle in [&tar, &folder, &packed] {
        w.ends(0, &home, &["bundle", "verify", bundle]).await;
        w.ends(0, &home, &["bundle", "inspect", bundle]).await;
    }
    w.ends(0, &home, &["bundle", "merge", &tar, &tar, "-o", "merged.tar"]).await;
    w.ends(0, &home, &["bundle", "extract", &tar, "-o", "out"]).await;
    // A cache on it serves.
    w.ends(0, &disk.path, &["cache", "verify"]).await;
    let told =
        w.ends(0, &disk.path, &["bundle", "build", "--offline", "--image", &name, "-o", "off.tar"]).await;
    assert!(told.contains("; 0 B fetched, 6.0 MB from the cache"), "{told}");
    let same = |a: &str| std::fs::read(w.folder.path().join(a)).unwrap() == std::fs::read(&tar).unwrap();
    assert!(same("off.tar") && same("merged.tar"));

    let onto = format!("docker-archive:{}", at("d.tar"));
    for (home, command) in [
        (&home, &["bundle", "build", "--image", &name, "-o", &at("y.tar")][..]),
        (&home, &["bundle", "build", "--image", &name, "-o", &tar]),
        (&home, &["bundle", "build", "--image", &name, "--format", "folder", "-o", &at("y")]),
        (&home, &["bundle", "export", &tar, "-o", &onto]),
        (&home, &["bundle", "extract", &tar, "-o", &at("z")]),
        (&home, &["bundle", "split", &tar, "--split", "1MB", "-o", &at("v")]),
        (&home, &["bundle", "merge", &tar, &tar, "-o", &at("m.tar")]),
        (&disk.path, &["image", "pull", &name]),
        (&disk.path, &["image", "remove", &name]),
        (&disk.path, &["cache", "gc"]),
    ] {
        let told = w.ends(1, home, command).await;
        assert!(told.contains("Read-only file system") && told.contains("; choose "), "{command:?}: {told}");
    }
}

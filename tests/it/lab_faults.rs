//! What goes wrong on the way to nodes and on them, on real ones, with the program as a user runs it.
//! `docs/preheat-faults.md` is the table of these. What is done to a node happens when something is seen to have come
//! so far, never after some time.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use omk::serve::ServeOptions;
use omk::store::MemoryStore;
use serde_json::Value;
use tempfile::TempDir;

use crate::images;
use crate::lab::{Lab, succeed};

mod at_once;
mod many;
mod on_node;
mod on_the_way;

const STAGING: &str = "/var/lib/omk/staging";

/// A machine that sends: a home folder of its own, with the bundle `a.tar` of one image in it.
pub(crate) struct Sender {
    folder: TempDir,
    pub(crate) image: String,
}

/// Layers that can be unpacked, each with one file `big` of so many MB.
fn layers(megabytes: &[usize]) -> Vec<Vec<u8>> {
    let layer = |(seed, mb): (usize, &usize)| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let bytes = images::noise(seed as u64 + 1, mb * 1_000_000);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, format!("big{seed}"), &bytes[..]).unwrap();
        tar.into_inner().unwrap()
    };
    megabytes.iter().enumerate().map(layer).collect()
}

impl Sender {
    pub(crate) async fn new(platform: &str, layers: &[Vec<u8>]) -> Self {
        Self::of(platform, std::slice::from_ref(&layers)).await
    }

    /// With an image of each of these layers; `image` is the first.
    async fn of(platform: &str, images: &[&[Vec<u8>]]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut build = Command::new(env!("CARGO_BIN_EXE_omk"));
        build.args(["bundle", "build", "-o", "a.tar", "--platform", platform]);
        build.current_dir(folder.path()).env("HOME", folder.path());
        let (mut servers, mut names) = (Vec::new(), Vec::new());
        for layers in images {
            let store = MemoryStore::new();
            let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
            let root = images::image(&store, platform, &layers);
            let server = images::serve(&store, &root, ServeOptions::default()).await;
            let registry = server.addr().to_string();
            names.push(format!("{registry}/lab/web:1"));
            build.args(["--image", names.last().unwrap(), "--plain-http", &registry]);
            servers.push(server);
        }
        tokio::task::spawn_blocking(move || succeed(&mut build)).await.unwrap();
        Self::prepared(folder, names.swap_remove(0))
    }

    fn prepared(folder: TempDir, image: String) -> Self {
        let config = "Host *\n  ServerAliveInterval 1\n  ServerAliveCountMax 3\n  ConnectTimeout 3\n";
        std::fs::write(folder.path().join("impatient"), config).unwrap();
        Self { folder, image }
    }

    /// Another machine, which was brought a copy of the bundle.
    fn elsewhere(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(self.bundle(), folder.path().join("a.tar")).unwrap();
        Self::prepared(folder, self.image.clone())
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("a.tar")
    }

    fn size(&self) -> u64 {
        std::fs::metadata(self.bundle()).unwrap().len()
    }

    /// Bytes of all blobs.
    fn blobs(&self) -> u64 {
        let mut archive = tar::Archive::new(File::open(self.bundle()).unwrap());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let blobs = entries.filter(|e| e.path().unwrap().starts_with("blobs"));
        // Folders have no size.
        blobs.map(|e| e.size()).sum()
    }

    /// `omk preheat` to node 1 of the lab as root, unless more arguments say otherwise.
    fn preheat(&self, lab: &Lab, more: &[&str]) -> Command {
        let mut omk = Command::new(env!("CARGO_BIN_EXE_omk"));
        omk.args(["preheat", "a.tar", "-o", "json"]).args(more);
        if !more.contains(&"--ssh-config") {
            omk.args(["--ssh-config", "none"]);
        }
        if !more.contains(&"--limit") {
            omk.args(["--limit", "node1"]);
        }
        if !more.contains(&"--nodes") {
            omk.arg("--nodes").arg(lab.inventory("root"));
        }
        if !more.contains(&"--known-hosts") {
            omk.arg("--known-hosts").arg(lab.known_hosts());
        }
        self.at_home(&mut omk);
        omk
    }

    pub(crate) fn at_home(&self, command: &mut Command) {
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.env("OMK_PROGRESS", "plain").env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    }
}

/// A run of omk that is not over.
struct Running {
    child: Child,
    files: [tempfile::NamedTempFile; 2],
}

/// How it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    /// What it told people.
    pub(crate) told: String,
}

fn start(command: &mut Command) -> Running {
    let files = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap());
    let handle = |at: usize| -> File { files[at].reopen().unwrap() };
    let child = command.stdout(handle(0)).stderr(handle(1)).spawn().unwrap();
    Running { child, files }
}

pub(crate) fn run(command: &mut Command) -> Ran {
    start(command).end()
}

impl Running {
    fn read(&self, at: usize) -> String {
        std::fs::read_to_string(self.files[at].path()).unwrap()
    }

    /// Waits for something that has to come while it runs.
    fn until(&mut self, what: &str, mut seen: impl FnMut() -> bool) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !seen() {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before {what}: {}", self.read(1));
            assert!(Instant::now() < limit, "it never came to {what}: {}", self.read(1));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) -> Ran {
        let code = self.child.wait().unwrap().code();
        Ran { code, out: self.read(0), told: self.read(1) }
    }
}

impl Ran {
    fn node(&self, name: &str) -> Value {
        let report: Value =
            serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.told));
        let nodes = report["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["node"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}")).clone()
    }

    fn number(&self, field: &str) -> u64 {
        self.node("node1")[field].as_u64().unwrap()
    }

    /// Every image is proved on node 1.
    fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.told);
        assert_eq!(self.node("node1")["state"], "ready");
        self
    }

    /// Node 1 is not ready; its error has these words. Prints it, for the table.
    fn bad(self, row: &str, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(5), "{}{}", self.out, self.told);
        let why = self.node("node1")["error"].as_str().unwrap().to_owned();
        println!("{row}: {why}");
        for word in words {
            assert!(why.contains(word), "{word:?} is not in: {why}\n{}", self.told);
        }
        self
    }
}

/// What a shell in the node prints.
pub(crate) fn sh(lab: &Lab, node: usize, script: &str) -> String {
    let out = lab.exec(node, &["sh", "-c", script]);
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Pieces of 4 MiB that the node has acknowledged.
fn journaled(lab: &Lab, node: usize) -> usize {
    sh(lab, node, &format!("cat {STAGING}/partial/*.journal 2>/dev/null | wc -l")).trim().parse().unwrap()
}

/// Files in staging, and names of images, of which a failed run must leave none.
fn staged(lab: &Lab, node: usize) -> Vec<String> {
    let list =
        format!("cd {STAGING} 2>/dev/null || exit 0; find . -type f ! -name .omk-staging -printf '%P\\n'");
    sh(lab, node, &list).lines().map(str::to_owned).collect()
}

/// Nothing is left but what the next run can use.
fn only_resumable(lab: &Lab, node: usize) {
    let names = sh(lab, node, "ctr -n k8s.io images ls -q");
    assert_eq!(names, "", "nothing half-done has a name");
    let files = staged(lab, node);
    let usable = |f: &String| f.starts_with("partial/") || f.starts_with("blobs/sha256/");
    assert!(files.iter().all(usable), "{files:?}");
}

/// The image is there under its name, whole and unpacked, and staging is empty.
fn proved(lab: &Lab, node: usize, sender: &Sender) {
    let check = sh(lab, node, "ctr -n k8s.io images check");
    let line = check.lines().find(|l| l.split_whitespace().next() == Some(&sender.image));
    let line = line.unwrap_or_else(|| panic!("node{node} does not know {}:\n{check}", sender.image));
    assert!(line.contains(" complete ") && line.trim_end().ends_with("true"), "{line}");
    assert_eq!(staged(lab, node), [""; 0]);
}

/// The node as it was before any run.
fn forget(lab: &Lab, node: usize) {
    let script = format!(
        "ctr -n k8s.io leases ls -q | xargs -r -n 1 ctr -n k8s.io leases rm --sync >/dev/null\n\
         ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm --sync >/dev/null; rm -rf {STAGING}"
    );
    sh(lab, node, &script);
}

//! The main job on real parts: docker-registry, sshd, containerd; the program itself, as a user runs it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::Lab;

fn omk(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.current_dir(folder).env_remove("OMK_PLAIN_HTTP").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Runs to success and gives standard output.
fn good(command: &mut Command) -> String {
    let out = run(command);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(out.status.success(), "{command:?}: {}\n{}{}", out.status, text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

fn manifest(folder: &Path, registry: &str, web: &str) {
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  template:\n    spec:\n      \
         initContainers:\n      - {{name: t, image: {registry}/lab/tool:2}}\n      containers:\n      \
         - {{name: w, image: {registry}/lab/web:{web}}}\n      - {{name: z, image: {registry}/lab/zstd:1}}\n      \
         - {{name: d, image: {registry}/lab/docker2:1}}\n"
    );
    std::fs::write(folder.join("deploy.yaml"), text).unwrap();
}

fn build(folder: &Path, registry: &str, out: &str) {
    let mut command = omk(folder);
    command.args(["bundle", "build", "deploy.yaml", "--plain-http", registry, "-o", out]);
    good(&mut command);
    good(omk(folder).args(["bundle", "verify", out]));
}

fn preheat(lab: &Lab, folder: &Path, user: &str, bundle: &str) -> Command {
    let mut command = omk(folder);
    command.args(["preheat", bundle, "-o", "json", "--nodes"]).arg(lab.inventory(user));
    command.arg("--known-hosts").arg(lab.known_hosts());
    command
}

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    })
}

fn sent(report: &Value) -> Vec<u64> {
    report["nodes"].as_array().unwrap().iter().map(|n| n["bytes_sent"].as_u64().unwrap()).collect()
}

/// Every name of every image in the bundle, as the node's containerd lists it: complete and unpacked.
fn all_ready(lab: &Lab, node: usize, folder: &Path, bundle: &str) {
    let inspected: Value =
        serde_json::from_str(&good(omk(folder).args(["bundle", "inspect", bundle, "-o", "json"]))).unwrap();
    let check = lab.exec(node, &["ctr", "-n", "k8s.io", "images", "check"]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    for image in inspected["images"].as_array().unwrap() {
        for name in image["names"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            let line = check.lines().find(|l| l.split_whitespace().next() == Some(name));
            let line = line.unwrap_or_else(|| panic!("node{node} does not know {name}:\n{check}"));
            assert!(line.contains(image["digest"].as_str().unwrap()), "{line}");
            assert!(line.contains("complete") && line.trim_end().ends_with("true"), "{line}");
        }
    }
}

#[test]
fn lab_discover_build_preheat_prove_and_patch() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(3);
    let registry = lab.registry_up().plain;
    lab.push_images(&[]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    manifest(folder, &registry, "1.0");
    let found = good(omk(folder).args(["image", "discover", "deploy.yaml"]));
    assert!(found.contains("spec.template.spec.initContainers[0].image"), "{found}");

    build(folder, &registry, "a.tar");
    let dry = run(preheat(&lab, folder, "root", "a.tar").arg("--dry-run"));
    assert!(dry.status.success());
    let first = run(&mut preheat(&lab, folder, "root", "a.tar"));
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stderr));
    let size = std::fs::metadata(folder.join("a.tar")).unwrap().len();
    for (node, bytes) in sent(&report(&first)).into_iter().enumerate() {
        assert!(bytes > 0 && bytes <= size, "node{}: {bytes} of {size}", node + 1);
    }
    for node in 1..=3 {
        all_ready(&lab, node, folder, "a.tar");
        let image = format!("{registry}/lab/web:1.0");
        let ran = lab.exec(node, &["ctr", "-n", "k8s.io", "run", "--rm", &image, "try", "echo", "it runs"]);
        assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "it runs");
    }

    let again = run(&mut preheat(&lab, folder, "root", "a.tar"));
    assert_eq!((again.status.code(), sent(&report(&again))), (Some(0), vec![0, 0, 0]));

    manifest(folder, &registry, "1.1");
    build(folder, &registry, "b.tar");
    let patch = run(&mut preheat(&lab, folder, "root", "b.tar"));
    assert_eq!(patch.status.code(), Some(0), "{}", String::from_utf8_lossy(&patch.stderr));
    let new = new_bytes(folder, "a.tar", "b.tar");
    assert_eq!(sent(&report(&patch)), vec![new; 3], "only what is new travels");
    (1..=3).for_each(|node| all_ready(&lab, node, folder, "b.tar"));

    // What it is all for: with the registry switched off, each image runs, by tag and by digest.
    lab.registry_down();
    for (n, name) in names(folder, "b.tar").iter().enumerate() {
        let container = format!("c{n}");
        // What a container prints can be lost when it ends at once; its status cannot.
        let command = ["ctr", "-n", "k8s.io", "run", "--rm", name, &container, "sh", "-c", "exit 42"];
        let ran = lab.exec(1 + n % 3, &command);
        let complaint = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(42), "{name}: {complaint}");
    }
}

/// Every name of every image in a bundle: tags and digests.
fn names(folder: &Path, bundle: &str) -> Vec<String> {
    let inspected = good(omk(folder).args(["bundle", "inspect", bundle, "-o", "json"]));
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let images = inspected["images"].as_array().unwrap();
    let names = images.iter().flat_map(|i| i["names"].as_array().unwrap());
    let names: Vec<String> = names.map(|n| n.as_str().unwrap().to_owned()).collect();
    assert!(names.len() == 2 * images.len() && images.len() >= 4, "{names:?}");
    names
}

/// Bytes of the blobs of `b` that `a` does not have.
fn new_bytes(folder: &Path, a: &str, b: &str) -> u64 {
    let blobs = |bundle: &str| -> std::collections::BTreeMap<String, u64> {
        let file = std::fs::File::open(folder.join(bundle)).unwrap();
        let mut archive = tar::Archive::new(file);
        let entries = archive.entries().unwrap().map(|e| e.unwrap());
        let sized = entries.map(|e| (e.path().unwrap().display().to_string(), e.size()));
        sized.filter(|(path, _)| path.starts_with("blobs/")).collect()
    };
    let old = blobs(a);
    blobs(b).into_iter().filter(|(path, _)| !old.contains_key(path)).map(|(_, size)| size).sum()
}

#[test]
fn lab_one_node_down_does_not_stop_the_others() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(3);
    let registry = lab.registry_up().plain;
    lab.push_images(&[]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    manifest(folder, &registry, "1.0");
    build(folder, &registry, "a.tar");
    lab.stop_node(2);
    let out = run(&mut preheat(&lab, folder, "omk", "a.tar"));
    assert_eq!(out.status.code(), Some(4), "{}", String::from_utf8_lossy(&out.stderr));
    let states: Vec<String> = report(&out)["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["ready", "failed", "ready"]);
    [1, 3].into_iter().for_each(|node| all_ready(&lab, node, folder, "a.tar"));
    lab.start_node(2);
    let out = run(&mut preheat(&lab, folder, "omk", "a.tar"));
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    all_ready(&lab, 2, folder, "a.tar");
}

#[test]
fn lab_a_killed_sender_is_resumed() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(1);
    let registry = lab.registry_up().plain;
    lab.push_images(&["lab/big:1"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let image = format!("{registry}/lab/big:1");
    good(omk(folder).args(["bundle", "build", "--image", &image, "--plain-http", &registry, "-o", "a.tar"]));
    let size = std::fs::metadata(folder.join("a.tar")).unwrap().len();
    lab.add_latency(1, 200);
    let mut sender =
        preheat(&lab, folder, "root", "a.tar").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let staged = || -> u64 {
        let out = lab.exec(1, &["sh", "-c", "find /var/lib/omk -type f -printf '%s\\n' 2>/dev/null"]);
        String::from_utf8_lossy(&out.stdout).lines().filter_map(|l| l.parse::<u64>().ok()).sum()
    };
    let limit = Instant::now() + Duration::from_secs(60);
    while staged() < size / 2 {
        assert!(sender.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(Instant::now() < limit, "nothing is staged");
        std::thread::sleep(Duration::from_millis(50));
    }
    sender.kill().unwrap();
    sender.wait().unwrap();
    let images = lab.exec(1, &["ctr", "-n", "k8s.io", "images", "ls", "-q"]);
    assert_eq!(String::from_utf8_lossy(&images.stdout), "", "nothing half-done has a name");
    lab.add_latency(0, 0);
    let out = run(&mut preheat(&lab, folder, "root", "a.tar"));
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let rest = sent(&report(&out))[0];
    assert!(rest < size * 2 / 3, "{rest} of {size} bytes were sent again");
    all_ready(&lab, 1, folder, "a.tar");
}

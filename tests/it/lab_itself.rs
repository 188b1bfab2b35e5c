//! The lab itself: the other lab tests rest on what is asserted here.

use crate::lab::{Lab, succeed};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn skopeo(args: &[&str]) -> Command {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(args);
    skopeo
}

/// Every process in the namespace of kind `ns` with this inode number.
fn processes_in(ns: &str, inode: u64) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|p| fs::metadata(p.path().join("ns").join(ns)).is_ok_and(|m| m.ino() == inode))
        .map(|p| p.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Directories whose names start with `prefix`, anywhere below `dir` down to `depth`.
fn named(dir: &Path, prefix: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            found.push(entry.path().display().to_string());
        }
        if depth > 0 && entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(named(&entry.path(), prefix, depth - 1));
        }
    }
    found
}

#[test]
fn lab_node_runs_an_imported_image_and_down_leaves_nothing() {
    if !Lab::required() {
        return;
    }
    let mut lab = Lab::up(1);
    let registries = lab.registry_up();
    lab.push_images(&["lab/base:1", "lab/web:1.0"]);

    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("web.tar");
    let source = format!("docker://{}/lab/web:1.0", registries.plain);
    let target = format!("docker-archive:{}:lab.example/lab/web:1.0", archive.display());
    succeed(&mut skopeo(&["copy", "--quiet", "--src-tls-verify=false", &source, &target]));
    succeed(lab.ssh("root", 1).arg("ctr -n k8s.io images import -").stdin(File::open(&archive).unwrap()));
    let run = "ctr -n k8s.io run --rm lab.example/lab/web:1.0 once sh /app/start";
    assert_eq!(succeed(lab.ssh("root", 1).arg(run)), "web 1.0\n");
    succeed(lab.ssh("root", 1).arg("ctr -n k8s.io run -d lab.example/lab/web:1.0 stays sleep 1000"));

    let pid1: u32 = fs::read_to_string(lab.dir().join("node1/pid")).unwrap().trim().parse().unwrap();
    let inode = |ns: &str| fs::metadata(format!("/proc/{pid1}/ns/{ns}")).unwrap().ino();
    let (mnt, net) = (inode("mnt"), inode("net"));
    let groups = Path::new("/sys/fs/cgroup");
    let tag = lab.tag().to_owned();
    // The container has namespaces of its own, and its shim does not: pid 1, sshd, containerd and a shim at least.
    assert!(processes_in("mnt", mnt).len() >= 4, "{:?}", processes_in("mnt", mnt));
    assert!(!named(groups, &tag, 1).is_empty());
    assert!(!named(Path::new("/sys/class/net"), &tag, 0).is_empty());
    let sleeper = succeed(Command::new("ps").args(["-eo", "pid,args"]));
    let sleeper: Vec<&str> = sleeper.lines().filter(|l| l.ends_with(" sleep 1000")).collect();
    assert!(!sleeper.is_empty());
    let sleeper = Path::new("/proc").join(sleeper[0].split_whitespace().next().unwrap());

    lab.take_down();
    assert_eq!(processes_in("mnt", mnt), [""; 0]);
    assert_eq!(processes_in("net", net), [""; 0]);
    assert!(!sleeper.exists(), "the container outlived its node");
    assert_eq!(named(groups, &tag, 1), [""; 0]);
    assert_eq!(named(Path::new("/sys/class/net"), &tag, 0), [""; 0]);
    assert!(!lab.dir().exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&lab.dir().display().to_string()), "{mounts}");
    let routes = succeed(Command::new("ip").args(["route", "show", "root", &net_of(&lab)]));
    assert_eq!(routes, "", "a route is left");
}

/// The network of the lab, from its tag: `omktN` has 10.99.N.0/24.
fn net_of(lab: &Lab) -> String {
    format!("10.99.{}.0/24", lab.tag().trim_start_matches("omkt"))
}

#[test]
fn lab_registries_ask_for_what_they_should() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(0);
    let registries = lab.registry_up();
    lab.push_images(&["lab/base:1", "lab/tool:2", "lab/zstd:1", "lab/docker2:1"]);
    let raw = |address: &str, image: &str, more: &[&str]| {
        let image = format!("docker://{address}/{image}");
        let args: Vec<&str> =
            ["inspect", "--raw"].iter().chain(more).copied().chain([image.as_str()]).collect();
        skopeo(&args).output().unwrap()
    };
    let plain = raw(&registries.plain, "lab/tool:2", &["--tls-verify=false"]);
    assert!(plain.status.success());
    let index = String::from_utf8(plain.stdout).unwrap();
    assert!(index.contains("\"arm64\"") && index.contains("\"amd64\""), "{index}");
    let says = |image: &str, what: &str| {
        let manifest = raw(&registries.plain, image, &["--tls-verify=false"]).stdout;
        assert!(String::from_utf8(manifest).unwrap().contains(what), "{image}: {what}");
    };
    says("lab/zstd:1", "vnd.oci.image.layer.v1.tar+zstd");
    says("lab/docker2:1", "vnd.docker.distribution.manifest.v2+json");

    let auth = |more: &[&str]| raw(&registries.auth, "lab/tool:2", more).status.success();
    assert!(auth(&["--tls-verify=false", "--creds", "lab:lab-secret"]));
    assert!(!auth(&["--tls-verify=false", "--creds", "lab:wrong"]));
    assert!(!auth(&["--tls-verify=false", "--no-creds"]));

    let trusted = tempfile::tempdir().unwrap();
    fs::copy(&registries.ca, trusted.path().join("ca.crt")).unwrap();
    let trusted = trusted.path().display().to_string();
    assert!(raw(&registries.tls, "lab/tool:2", &["--cert-dir", &trusted]).status.success());
    assert!(!raw(&registries.tls, "lab/tool:2", &[]).status.success());
}

#[test]
fn lab_users_power_and_latency_are_as_told() {
    if !Lab::required() {
        return;
    }
    let lab = Lab::up(2);

    // Who may become root, and how.
    assert_eq!(succeed(lab.ssh("omk", 1).arg("sudo -n id -un")), "root\n");
    for (user, password, may) in
        [("omkpw", "lab-sudo-pw", true), ("omkpw", "wrong", false), ("nosudo", "lab-sudo-pw", false)]
    {
        assert!(
            !lab.ssh(user, 1).arg("sudo -n true").status().unwrap().success(),
            "{user} without a password"
        );
        let typed = format!("echo {password} | sudo -k -S -p '' true");
        assert_eq!(lab.ssh(user, 1).arg(typed).output().unwrap().status.success(), may, "{user} {password}");
    }
    let inventory = fs::read_to_string(lab.inventory("omkpw")).unwrap();
    assert_eq!(inventory.matches("sudo_password: lab-sudo-pw").count(), 2, "{inventory}");
    assert!(!fs::read_to_string(lab.inventory("nosudo")).unwrap().contains("sudo_password"));
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap().lines().count(), 2);

    // Nothing leaves the machine: there is no route out of a node.
    let out = lab.exec(1, &["ip", "route", "get", "192.0.2.1"]);
    assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));

    // containerd comes back when it is killed.
    let pid_of = || String::from_utf8(lab.exec(1, &["pgrep", "-x", "containerd"]).stdout).unwrap();
    let before = pid_of();
    assert!(lab.exec(1, &["pkill", "-KILL", "-x", "containerd"]).status.success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while pid_of().trim().is_empty()
        || pid_of() == before
        || !lab.exec(1, &["ctr", "version"]).status.success()
    {
        assert!(Instant::now() < deadline, "containerd did not come back");
    }

    // A node that is off does not answer, its neighbour does, and its disk is there when it is on again.
    assert!(lab.exec(2, &["touch", "/var/lib/omk/kept"]).status.success());
    lab.stop_node(2);
    assert!(!lab.ssh("root", 2).arg("true").output().unwrap().status.success());
    assert_eq!(succeed(lab.ssh("root", 1).arg("hostname")), "node1\n");
    lab.start_node(2);
    assert_eq!(succeed(lab.ssh("root", 2).arg("ls /var/lib/omk")), "kept\n");

    // A round trip takes twice the delay, and an SSH session several; the bytes arrive all the same.
    lab.add_latency(40, 100);
    let start = Instant::now();
    let sum =
        succeed(lab.ssh("root", 2).arg("head -c 1000000 /dev/zero | tee /tmp/z | wc -c; wc -c </tmp/z"));
    assert_eq!(sum, "1000000\n1000000\n");
    assert!(start.elapsed() > Duration::from_millis(320), "{:?}", start.elapsed());
    lab.add_latency(0, 0);
    assert_eq!(succeed(lab.ssh("root", 2).arg("hostname")), "node2\n");
}

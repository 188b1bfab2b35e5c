//! Runtimes beside containerd, real ones on a node of the lab, with the program as a user runs it.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::Lab;
use crate::lab_faults::{Sender, run, sh};

/// Layers of an image that can be run: a shell, and something beside it.
fn runnable() -> Vec<Vec<u8>> {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find_map(|p| std::fs::read(p).ok()).unwrap();
    let layer = |path: &str, bytes: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, path, bytes).unwrap();
        tar.into_inner().unwrap()
    };
    vec![layer("bin/busybox", &busybox), layer("data", &crate::images::noise(5, 300_000))]
}

/// What omk says and how it ended.
fn omk(sender: &Sender, lab: &Lab, runtime: &str, words: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.args(words).args([
        "-o",
        "json",
        "--ssh-config",
        "none",
        "--limit",
        "node1",
        "--runtime",
        runtime,
    ]);
    command.arg("--nodes").arg(lab.inventory("omk")).arg("--known-hosts").arg(lab.known_hosts());
    sender.at_home(&mut command);
    let ran = run(command.stdin(Stdio::null()));
    (ran.code, serde_json::from_str(&ran.out).unwrap_or(Value::Null), format!("{}{}", ran.out, ran.told))
}

/// Fresh, again, verified, drifted and mended, and what is said of undoing. `tool` is the runtime's client.
fn from_nothing_to_mended(sender: &Sender, lab: &Lab, runtime: &str, tool: &str) {
    let omk = |words: &[&str]| omk(sender, lab, runtime, words);
    let node = |report: &Value| report["nodes"][0].clone();
    // Refused before anything is sent.
    for flag in ["--atomic", "--prune"] {
        let (code, _, told) = omk(&["preheat", "a.tar", flag]);
        println!("{runtime} {flag}: {told}");
        assert!(code == Some(5) && told.contains(flag), "{told}");
    }
    assert!(!sh(lab, 1, &format!("{tool} images")).contains("lab/web"));

    let (code, first, told) = omk(&["preheat", "a.tar"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(node(&first)["bytes_sent"].as_u64() > Some(1_000_000), "{told}");
    println!("{runtime}: {}", node(&first)["images"][0]);
    let container = format!("{tool} run --rm --network none {} /bin/busybox echo it runs", sender.image);
    assert_eq!(sh(lab, 1, &container).trim(), "it runs");
    let (code, again, told) = omk(&["preheat", "a.tar"]);
    assert_eq!((code, node(&again)["bytes_sent"].as_u64()), (Some(0), Some(0)), "{told}");
    let (code, _, told) = omk(&["node", "verify", "a.tar"]);
    assert_eq!(code, Some(0), "{told}");

    sh(lab, 1, &format!("{tool} rmi {} >/dev/null", sender.image));
    let (code, _, told) = omk(&["node", "verify", "a.tar"]);
    assert!(code == Some(5) && told.contains(&sender.image), "{told}");
    let (code, _, told) = omk(&["node", "verify", "a.tar", "--repair"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(sh(lab, 1, &container).trim(), "it runs");

    for (words, ends) in [(&["preheat", "rollback", "--last"][..], 1), (&["preheat", "history"], 5)] {
        let (code, _, told) = omk(words);
        println!("{runtime} {words:?}: {told}");
        assert!(code == Some(ends) && told.contains("node1"), "{code:?} {told}");
        assert!(told.contains("runs are not recorded on"), "{told}");
    }
    let left = "find /var/lib/omk -type f ! -name .omk-staging";
    assert_eq!(sh(lab, 1, left), "", "nothing is left in staging");
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_podman_gets_images_and_keeps_them_proved() {
    if !Lab::required() {
        return;
    }
    let sender = Sender::new("linux/amd64", &runnable()).await;
    let lab = Lab::up(1);
    tokio::task::block_in_place(|| {
        // The node's root is an overlay, on which there can be no other.
        sh(&lab, 1, "mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers");
        from_nothing_to_mended(&sender, &lab, "podman", "podman --cgroup-manager cgroupfs");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn lab_docker_gets_images_and_keeps_them_proved() {
    if !Lab::required() {
        return;
    }
    let sender = Sender::new("linux/amd64", &runnable()).await;
    let lab = Lab::up(1);
    tokio::task::block_in_place(|| {
        if !lab.exec(1, &["sh", "-c", "command -v dockerd && command -v docker"]).status.success() {
            eprintln!("SKIPPED: no dockerd (the package docker.io; it need not run here)");
            return;
        }
        let start = "mkdir -p /var/lib/docker && mount -t tmpfs tmpfs /var/lib/docker\n\
            setsid dockerd --iptables=false --ip6tables=false --bridge=none --containerd /run/containerd/containerd.sock \
              >/var/log/lab/dockerd.log 2>&1 </dev/null &\n\
            i=0; until docker version >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 150 ] || { cat /var/log/lab/dockerd.log >&2; exit 1; }; sleep 0.2; done";
        sh(&lab, 1, start);
        from_nothing_to_mended(&sender, &lab, "docker", "docker");
    });
}

//! The node's disk, its containerd, its doors.

use super::*;

const STORE: &str = "/var/lib/containerd/io.containerd.content.v1.content";
const SNAPSHOTS: &str = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";

#[tokio::test(flavor = "multi_thread")]
async fn lab_what_breaks_on_a_node_is_told_and_mended_by_the_next_run() {
    if !Lab::required() {
        return;
    }
    let sender = Sender::new("linux/amd64", &layers(&[40, 2])).await;
    let foreign = Sender::new("linux/s390x", &layers(&[1])).await;
    let lab = Lab::up_with(1, &[("OMK_LAB_DISK", "200m")]);
    tokio::task::block_in_place(|| {
        doors(&lab, &sender);
        wrong_bundles(&lab, &sender, &foreign);
        staging_is_full(&lab, &sender);
        store_is_full(&lab, &sender);
        let ingests = format!("find {STORE}/ingest -name data -size +1M");
        containerd_dies(&lab, &sender, "copying", &ingests);
        let unpacked = format!("find {SNAPSHOTS} -name big0 -size +1M");
        containerd_dies(&lab, &sender, "unpacking", &unpacked);
    });
}

/// Nothing of these gets as far as sending.
fn doors(lab: &Lab, sender: &Sender) {
    let home = sender.folder.path();
    let inventory = |user: &str| lab.inventory(user).display().to_string();
    let nodes = inventory("nosudo");
    let words = ["sudo refused", "allow this user NOPASSWD"];
    run(&mut sender.preheat(lab, &["--nodes", &nodes])).bad("sudo refused", &words);

    sh(lab, 1, "mv /usr/bin/sudo /usr/bin/sudo.away");
    run(&mut sender.preheat(lab, &["--nodes", &nodes]))
        .bad("no sudo", &["sudo is not installed on the node"]);
    sh(lab, 1, "mv /usr/bin/sudo.away /usr/bin/sudo && echo nosudo:known | chpasswd");
    let password = home.join("password");
    std::fs::write(&password, "known\n").unwrap();
    let password = ["--nodes", &nodes, "--sudo-password-file", password.to_str().unwrap()];
    let words = ["nosudo is not in the sudoers file", "add this user to sudoers"];
    run(&mut sender.preheat(lab, &password)).bad("not in sudoers", &words);

    let text = std::fs::read_to_string(lab.inventory("omkpw")).unwrap();
    let wrong = home.join("wrong.yaml");
    std::fs::write(&wrong, text.replace("sudo_password: ", "sudo_password: not-")).unwrap();
    let told = run(&mut sender.preheat(lab, &["--nodes", wrong.to_str().unwrap()]));
    let told = told.bad("wrong sudo password", &["the password is wrong", "sudo_password"]);
    assert!(!format!("{}{}", told.out, told.told).contains("not-lab"), "the password is in a message");

    let known = std::fs::read_to_string(lab.known_hosts()).unwrap();
    let (host, _) = known.split_once(' ').unwrap();
    let key = std::fs::read_to_string(lab.dir().join("id_ed25519.pub")).unwrap();
    let changed = home.join("changed");
    std::fs::write(&changed, format!("{host} {key}")).unwrap();
    let told = run(&mut sender.preheat(lab, &["--known-hosts", changed.to_str().unwrap()]));
    let told = told.bad("host key changed", &["changed:1"]);
    assert_eq!(told.node("node1")["error"].as_str().unwrap().matches("SHA256:").count(), 2);

    sh(lab, 1, "mv /usr/bin/ctr /usr/bin/ctr.away");
    run(&mut sender.preheat(lab, &["--runtime", "containerd"])).bad("ctr missing", &["ctr"]);
    sh(lab, 1, "mv /usr/bin/ctr.away /usr/bin/ctr");
    assert_eq!(staged(lab, 1), [""; 0]);
    run(&mut sender.preheat(lab, &[])).good();
    proved(lab, 1, sender);
}

fn wrong_bundles(lab: &Lab, sender: &Sender, foreign: &Sender) {
    forget(lab, 1);
    run(&mut foreign.preheat(lab, &[])).bad("wrong architecture", &["linux/amd64", "linux/s390x"]);

    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    let damaged = sender.elsewhere();
    let mut file = File::options().read(true).write(true).open(damaged.bundle()).unwrap();
    let (at, mut byte) = (SeekFrom::Start(damaged.size() / 2), [0]);
    file.seek(at).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(at).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    let ran = run(&mut damaged.preheat(lab, &[]));
    println!("corrupt blob: {}", ran.told);
    assert_eq!(ran.code, Some(6), "{}", ran.told);
    for words in ["nothing was imported anywhere", "omk bundle verify"] {
        assert!(ran.told.contains(words), "{}", ran.told);
    }
    only_resumable(lab, 1);
    assert!(staged(lab, 1).is_empty(), "nothing was sent either");
}

fn staging_is_full(lab: &Lab, sender: &Sender) {
    forget(lab, 1);
    sh(lab, 1, &format!("mkdir -p {STAGING} && mount -t tmpfs -o size=20m tmpfs {STAGING}"));
    run(&mut sender.preheat(lab, &[]))
        .bad("staging too small", &["disk too small: ", "(staging)", "are needed whatever they unpack to"]);
    let ran = run(&mut sender.preheat(lab, &["--ignore-disk"]));
    ran.bad("staging full", &["is the disk full", "omk's own staging folder"]);
    only_resumable(lab, 1);
    // Room is made without losing what came.
    sh(lab, 1, &format!("mount -o remount,size=100m {STAGING}"));
    let ran = run(&mut sender.preheat(lab, &[])).good();
    assert!(ran.number("bytes_resumed") >= 8 << 20, "{}", ran.out);
    proved(lab, 1, sender);
    sh(lab, 1, &format!("umount {STAGING}"));
}

fn store_is_full(lab: &Lab, sender: &Sender) {
    forget(lab, 1);
    let filler = "/var/lib/containerd/filler";
    let fill = format!(
        "free=$(df -B1 --output=avail /var/lib/containerd | tail -n 1); fallocate -l $((free - 60000000)) {filler}"
    );
    sh(lab, 1, &fill);
    run(&mut sender.preheat(lab, &[])).bad(
        "store too small",
        &[
            "disk too small: ",
            "(images)",
            "nothing more is sent; make room, or preheat a bundle of fewer images",
        ],
    );
    only_resumable(lab, 1);
    let ran = run(&mut sender.preheat(lab, &["--ignore-disk"]));
    ran.bad("store full", &["no space left on device", "make room on the node's disk"]);
    only_resumable(lab, 1);
    sh(lab, 1, &format!("rm {filler}"));
    let ran = run(&mut sender.preheat(lab, &[])).good();
    assert_eq!(ran.number("bytes_sent"), 0, "all of it is staged");
    proved(lab, 1, sender);
}

/// Killed as soon as `sign` prints anything. It comes back by itself, as under systemd, and the run goes on.
fn containerd_dies(lab: &Lab, sender: &Sender, doing: &str, sign: &str) {
    forget(lab, 1);
    // What the row before left is collected in the background.
    let seen = format!("seen() {{ [ -n \"$({sign} 2>/dev/null)\" ]; }}\n");
    sh(lab, 1, &format!("{seen}n=0; while seen && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done; ! seen"));
    // Waits in the node: what it waits for is over in a fraction of a second.
    let script = format!(
        "{seen}until seen; do [ -e /tmp/give-up ] && exit; done; pkill -KILL -x containerd; echo killed"
    );
    let ran = std::thread::scope(|scope| {
        let killer = scope.spawn(|| sh(lab, 1, &script));
        let ran = run(&mut sender.preheat(lab, &[]));
        if !killer.is_finished() {
            sh(lab, 1, "touch /tmp/give-up; sleep 1; rm /tmp/give-up");
        }
        assert_eq!(killer.join().unwrap().trim(), "killed", "{}", ran.told);
        ran
    });
    println!("containerd killed while {doing}: {}", ran.told);
    let ran = ran.good();
    assert_eq!(ran.told.matches("node1: importing ").count(), 2, "{}", ran.told);
    assert_eq!(ran.number("bytes_sent"), sender.blobs(), "nothing is sent twice");
    proved(lab, 1, sender);
}

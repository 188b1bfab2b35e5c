//! Nodes over SSH, against two servers: the one in this process and, where it is installed, OpenSSH.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use omk::demo::sshd;
use omk::event::{Event, Recorder, silent};
use omk::node::inventory::Address;
use omk::node::{
    KnownHosts, Node, NodeError, NodeSession as _, RemoteCommand, Secret, SshOptions, SshSession,
};
use omk::store::{BlobStore, StoreError};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::conformance::{blob, conforms, noise, send};

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
}

/// A server, and what a client needs for it.
struct Bed {
    folder: TempDir,
    addr: SocketAddr,
    known_hosts: String,
    user: &'static str,
    demo: Option<sshd::Server>,
    openssh: Option<Child>,
}

impl Bed {
    async fn demo() -> Self {
        Self::demo_with(Vec::new()).await
    }

    async fn demo_with(env: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = write_key(folder.path(), "id");
        let options =
            sshd::Options { authorized_key: key, folder: folder.path().canonicalize().unwrap(), env };
        let server = sshd::Server::start(options).await.unwrap();
        let known_hosts = server.known_hosts_line();
        Self { addr: server.addr(), folder, known_hosts, user: "root", demo: Some(server), openssh: None }
    }

    /// `None` where there is no sshd or this is not root: the test is to return.
    fn openssh() -> Option<Self> {
        let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
        if !root || !Path::new("/usr/sbin/sshd").exists() {
            assert!(
                std::env::var_os("OMK_REQUIRE_LAB").is_none_or(|v| v != "1"),
                "sshd and root are required"
            );
            eprintln!("SKIPPED: no /usr/sbin/sshd, or not root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_key(folder.path(), "id");
        let host_key = write_key(folder.path(), "host");
        // Free now; taken by somebody else in between is as good as never.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "ListenAddress {addr}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             UseDNS no\nSubsystem sftp internal-sftp\n",
            at("host").display(),
            at("id.pub").display()
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let log = std::fs::File::create(at("sshd.log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let known_hosts = format!("[127.0.0.1]:{} {}\n", addr.port(), host_key.to_openssh().unwrap());
        let bed = Self { folder, addr, known_hosts, user: "root", demo: None, openssh: Some(child) };
        let up = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            std::net::TcpStream::connect(addr).is_ok()
        });
        assert!(up, "{}", std::fs::read_to_string(bed.folder.path().join("sshd.log")).unwrap());
        Some(bed)
    }

    fn server(&self) -> &sshd::Server {
        self.demo.as_ref().unwrap()
    }

    fn identity(&self) -> PathBuf {
        self.folder.path().join("id")
    }

    fn node(&self) -> Node {
        Node {
            name: "n1".into(),
            address: Address::Ssh {
                host: self.addr.ip().to_string(),
                port: self.addr.port(),
                user: self.user.into(),
                identity: Some(self.identity()),
            },
            runtime: None,
            image_folder: None,
            staging: None,
            platform: None,
            sudo_password: None,
        }
    }

    fn options(&self) -> SshOptions {
        options(&self.known_hosts)
    }

    async fn connect(&self) -> SshSession {
        connect(&self.node(), &self.options()).await.unwrap()
    }

    fn staging(&self) -> String {
        self.folder.path().canonicalize().unwrap().join("staging").display().to_string()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.openssh {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Returns the public half.
fn write_key(folder: &Path, name: &str) -> russh::keys::PublicKey {
    use std::os::unix::fs::PermissionsExt as _;

    let key = new_key();
    let path = folder.join(name);
    std::fs::write(&path, key.to_openssh(LineEnding::LF).unwrap()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let public = key.public_key().clone();
    std::fs::write(folder.join(format!("{name}.pub")), public.to_openssh().unwrap() + "\n").unwrap();
    public
}

fn options(known_hosts: &str) -> SshOptions {
    let mut known = KnownHosts::new();
    known.parse(Path::new("known_hosts"), known_hosts.as_bytes());
    SshOptions::new(Arc::new(known))
}

async fn connect(node: &Node, options: &SshOptions) -> Result<SshSession, NodeError> {
    SshSession::connect(node, options, &silent(), &CancellationToken::new()).await
}

async fn commands(bed: &Bed) {
    let session = bed.connect().await;
    let out = session.run(&RemoteCommand::root("echo out; echo err >&2; exit 7")).await.unwrap();
    assert_eq!((out.status, out.text().as_str(), out.complaint().as_str()), (7, "out\n", "err"));

    let mut command = RemoteCommand::user("sha256sum");
    command.stdin = noise(1, 5_000_000).to_vec();
    let out = session.run(&command).await.unwrap();
    assert!(out.text().starts_with(omk::oci::Digest::sha256(&command.stdin).hex()), "{}", out.text());

    // A command that does not read its input must not be waited for.
    command.script = "exec <&-; echo done".into();
    assert_eq!(session.run(&command).await.unwrap().text(), "done\n");

    let out =
        session.run(&RemoteCommand::user("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2")).await;
    let out = out.unwrap();
    assert_eq!((out.stdout.len(), out.stderr.len()), (3_000_000, 2_000_000));

    let out = session.run(&RemoteCommand::user("kill -9 $$")).await.unwrap();
    assert_eq!(out.status, 137);

    // More at once than a connection may have channels.
    let command = RemoteCommand::user("sleep 0.2; echo x");
    let many = futures_util::future::join_all((0..20).map(|_| session.run(&command))).await;
    assert!(many.into_iter().all(|o| o.unwrap().text() == "x\n"));
    session.close().await;
    assert!(matches!(session.run(&command).await, Err(NodeError::Lost(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_the_demo_server() {
    commands(&Bed::demo().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_openssh() {
    if let Some(bed) = Bed::openssh() {
        commands(&bed).await;
    }
}

async fn bounds(bed: &Bed) {
    let mut options = bed.options();
    options.output_limit = 100_000;
    options.patience = Duration::from_secs(3);
    let cancel = CancellationToken::new();
    let session = SshSession::connect(&bed.node(), &options, &silent(), &cancel).await.unwrap();
    let error = session.run(&RemoteCommand::user("yes")).await.unwrap_err();
    assert!(error.to_string().contains("more than 100000 bytes"), "{error}");
    let error = session.run(&RemoteCommand::user("sleep 100")).await.unwrap_err();
    assert!(matches!(error, NodeError::Stalled { .. }), "{error}");
    // Something left behind holds the output open; the command itself has ended.
    let out = session.run(&RemoteCommand::user("sleep 8 & echo started")).await.unwrap();
    assert_eq!(out.text(), "started\n");
    let command = RemoteCommand::user("while :; do echo; sleep 0.1; done");
    let (result, ()) = tokio::join!(session.run(&command), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(NodeError::Cancelled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_on_the_demo_server() {
    bounds(&Bed::demo().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_on_openssh() {
    if let Some(bed) = Bed::openssh() {
        bounds(&bed).await;
    }
}

async fn doors(bed: &Bed) {
    let host = "[127.0.0.1]";
    let fingerprint = |k: &PrivateKey| k.fingerprint(russh::keys::HashAlg::Sha256).to_string();
    let error = connect(&bed.node(), &options("")).await.unwrap_err();
    assert!(
        matches!(&error, NodeError::HostKey(t) if t.contains("unknown") && t.contains("SHA256:")),
        "{error}"
    );

    let other = new_key();
    let changed = format!("{host}:{} {}\n", bed.addr.port(), other.public_key().to_openssh().unwrap());
    let error = connect(&bed.node(), &options(&changed)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, NodeError::HostKey(_)) && text.contains(&fingerprint(&other)), "{text}");
    assert!(text.matches("SHA256:").count() == 2 && text.contains("known_hosts:1"), "{text}");

    let revoked = format!("{}@revoked * {}", bed.known_hosts, bed.known_hosts.split_once(' ').unwrap().1);
    let error = connect(&bed.node(), &options(&revoked)).await.unwrap_err();
    assert!(matches!(&error, NodeError::HostKey(t) if t.contains("revoked")), "{error}");

    let mut node = bed.node();
    let folder = tempfile::tempdir().unwrap();
    write_key(folder.path(), "stranger");
    let Address::Ssh { identity, .. } = &mut node.address else { panic!() };
    *identity = Some(folder.path().join("stranger"));
    let error = connect(&node, &bed.options()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, NodeError::Auth { .. }) && text.contains("stranger (ssh-ed25519 SHA256:"),
        "{text}"
    );

    let Address::Ssh { port, .. } = &mut node.address else { panic!() };
    *port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = connect(&node, &bed.options()).await.unwrap_err();
    assert!(matches!(&error, NodeError::Connect { .. }) && error.may_retry(), "{error}");
}

#[tokio::test]
async fn doors_of_the_demo_server() {
    doors(&Bed::demo().await).await;
}

#[tokio::test]
async fn doors_of_openssh() {
    if let Some(bed) = Bed::openssh() {
        doors(&bed).await;
    }
}

#[tokio::test]
async fn every_kind_of_key_gets_in_and_a_passphrase_is_named() {
    let Some(bed) = Bed::openssh() else { return };
    for (kind, bits) in [("rsa", "3072"), ("ecdsa", "256"), ("ed25519", "256")] {
        std::fs::remove_file(bed.identity()).unwrap();
        keygen(&bed, kind, bits, "");
        connect(&bed.node(), &bed.options()).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    std::fs::remove_file(bed.identity()).unwrap();
    keygen(&bed, "ed25519", "256", "secret words");
    let error = connect(&bed.node(), &bed.options()).await.unwrap_err().to_string();
    assert!(error.contains("passphrase") && error.contains("ssh-add"), "{error}");

    // The agent holds that key.
    let socket = bed.folder.path().join("agent");
    let mut agent =
        Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let ask = bed.folder.path().join("ask");
    std::fs::write(&ask, "#!/bin/sh\necho secret words\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(&ask).status().unwrap().success());
    let added = Command::new("ssh-add")
        .arg(bed.identity())
        .env("SSH_AUTH_SOCK", &socket)
        .env("SSH_ASKPASS", &ask)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .output()
        .unwrap();
    let mut options = bed.options();
    options.agent = Some(socket);
    let result = connect(&bed.node(), &options).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added.status.success(), "{added:?}");
    result.unwrap();
}

fn keygen(bed: &Bed, kind: &str, bits: &str, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-b", bits, "-N", passphrase, "-f"])
        .arg(bed.identity())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[tokio::test]
async fn dropped_connects_are_tried_again_and_refusals_are_not() {
    let bed = Bed::demo().await;
    let events = Arc::new(Recorder::default());
    let cancel = CancellationToken::new();
    bed.server().drop_connects(2);
    let sink: omk::event::Events = events.clone();
    SshSession::connect(&bed.node(), &bed.options(), &sink, &cancel).await.unwrap();
    let retries = events.events().iter().filter(|e| matches!(e, Event::Retry { .. })).count();
    assert_eq!(retries, 2);

    let mut options = bed.options();
    options.attempts = 2;
    bed.server().drop_connects(2);
    let error = connect(&bed.node(), &options).await.unwrap_err();
    assert!(matches!(&error, NodeError::Connect { reason, .. } if reason.contains("dropped 2")), "{error}");

    bed.server().refuse_auth(true);
    let error = connect(&bed.node(), &bed.options()).await.unwrap_err();
    assert!(matches!(error, NodeError::Auth { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_of_the_demo_server_conforms() {
    let bed = Bed::demo().await;
    let session = bed.connect().await;
    conforms(session.staging(&bed.staging()).await.unwrap().as_ref()).await;
    assert_eq!(leftovers(&bed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_of_openssh_conforms() {
    let Some(bed) = Bed::openssh() else { return };
    let session = bed.connect().await;
    conforms(session.staging(&bed.staging()).await.unwrap().as_ref()).await;
    assert_eq!(leftovers(&bed), Vec::<String>::new());
}

/// Partial files of blobs that are worth resuming.
fn leftovers(bed: &Bed) -> Vec<String> {
    let names = std::fs::read_dir(Path::new(&bed.staging()).join("partial")).unwrap();
    names.map(|n| n.unwrap().file_name().into_string().unwrap()).filter(|n| n.ends_with(".journal")).collect()
}

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_costs_few_bytes() {
    let bed = Bed::demo().await;
    let bytes = noise(11, 48 * MIB);
    let blob = blob(&bytes);
    let options = bed.options();
    let session = connect(&bed.node(), &options).await.unwrap();
    let store = session.staging(&bed.staging()).await.unwrap();
    bed.server().drop_after(30 << 20);
    let error = send(store.as_ref(), &blob, &bytes).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }) && error.may_retry(), "{error}");

    // The same run, a new connection.
    let before = bed.server().received();
    let session = connect(&bed.node(), &options).await.unwrap();
    let store = session.staging(&bed.staging()).await.unwrap();
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
    let offset = send(store.as_ref(), &blob, &bytes).await.unwrap();
    // 30 MiB arrived, of which the last 16 MiB may have been without an answer.
    assert!(offset >= 12 * MIB as u64, "only {offset} bytes were resumed");
    let again = bed.server().received() - before;
    let rest = bytes.len() as u64 - offset;
    assert!(again < rest + rest / 50 + 200_000, "{again} bytes were sent for the remaining {rest}");
    assert_eq!(omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap(), bytes);
    assert_eq!(leftovers(&bed), Vec::<String>::new());
}

/// Stages a part and leaves it, as a run that was killed; returns the partial file.
async fn interrupted(bed: &Bed, blob: &omk::oci::Descriptor, part: bytes::Bytes) -> PathBuf {
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let before = std::collections::BTreeSet::from_iter(leftovers(bed));
    let mut ingest = store.ingest(blob).await.unwrap();
    ingest.put(part.clone()).await.unwrap();
    // What is under way still arrives; wait until the journal stands still at what was put.
    let whole = part.len() / (4 * MIB);
    let journal = loop {
        let journal = leftovers(bed).into_iter().find(|j| !before.contains(j));
        let path = journal.map(|j| Path::new(&bed.staging()).join("partial").join(j));
        if let Some(path) = path
            && std::fs::read_to_string(&path).unwrap().lines().count() >= whole - 1
        {
            break path;
        }
        ingest.put(bytes::Bytes::new()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(ingest);
    session.close().await;
    journal.with_extension("")
}

async fn another_run_goes_on(bed: &Bed, age: bool) {
    let bytes = noise(12, 30 * MIB);
    let blob = blob(&bytes);
    let partial = interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    if age {
        let aged = Command::new("touch").arg("-d").arg("10 minutes ago").arg(&partial).status().unwrap();
        assert!(aged.success());
    }
    // Other options: another run, for instance from another machine.
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let ingest = store.ingest(&blob).await.unwrap();
    assert!(ingest.offset() >= 16 * MIB as u64, "only {} bytes were resumed", ingest.offset());
    // A fresh file may belong to a living run and stays; a stale one is taken.
    assert_eq!(partial.exists(), !age);
    drop(ingest);
    assert!(send(store.as_ref(), &blob, &bytes).await.unwrap() >= 16 * MIB as u64);
    assert_eq!(omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap(), bytes);
    assert!(!partial.exists() && leftovers(bed).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_goes_on_from_a_fresh_part() {
    another_run_goes_on(&Bed::demo().await, false).await;
    if let Some(bed) = Bed::openssh() {
        another_run_goes_on(&bed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_goes_on_from_a_stale_part() {
    another_run_goes_on(&Bed::demo().await, true).await;
    if let Some(bed) = Bed::openssh() {
        another_run_goes_on(&bed, true).await;
    }
}

/// As after a power loss: the journal is there, the data is not what it says.
async fn damage_is_found(bed: &Bed, damage: impl Fn(&Path), resumed: std::ops::RangeInclusive<u64>) {
    use std::os::unix::fs::FileExt as _;

    let bytes = noise(13, 30 * MIB);
    let blob = blob(&bytes);
    let partial = interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    damage(&partial);
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let offset = send(store.as_ref(), &blob, &bytes).await.unwrap();
    assert!(resumed.contains(&offset), "resumed at {offset}");
    assert_eq!(omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap(), bytes);

    // Damaged after it was proved, before the commit.
    let bytes = noise(14, 30 * MIB);
    let blob = crate::conformance::blob(&bytes);
    interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let mut ingest = store.ingest(&blob).await.unwrap();
    let offset = usize::try_from(ingest.offset()).unwrap();
    assert!(offset > 0);
    for entry in std::fs::read_dir(Path::new(&bed.staging()).join("partial")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e != "journal") {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"damage", 1_000_000).unwrap();
        }
    }
    ingest.put(bytes.slice(offset..)).await.unwrap();
    let error = ingest.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_is_not_resumed_onto() {
    use std::os::unix::fs::FileExt as _;

    let flip = |partial: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(partial).unwrap();
        file.write_all_at(b"damage", 9 * MIB as u64).unwrap();
    };
    damage_is_found(&Bed::demo().await, flip, 8 * MIB as u64..=8 * MIB as u64).await;
    if let Some(bed) = Bed::openssh() {
        damage_is_found(&bed, flip, 8 * MIB as u64..=8 * MIB as u64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_lost_its_end_is_resumed_from_what_is_left() {
    let cut = |partial: &Path| {
        std::fs::OpenOptions::new().write(true).open(partial).unwrap().set_len(13 * MIB as u64).unwrap();
    };
    damage_is_found(&Bed::demo().await, cut, 12 * MIB as u64..=12 * MIB as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_do_not_disturb_each_other() {
    let bed = Bed::demo().await;
    let bytes = noise(15, 20 * MIB);
    let blob = blob(&bytes);
    let mut wrong = bytes.to_vec();
    wrong[19 * MIB] ^= 1;
    let wrong = bytes::Bytes::from(wrong);
    let (one, two, three) = (bed.connect().await, bed.connect().await, bed.connect().await);
    let staging = bed.staging();
    let (one, two, three) =
        tokio::join!(one.staging(&staging), two.staging(&staging), three.staging(&staging));
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    let results = tokio::join!(
        send(one.as_ref(), &blob, &bytes),
        send(two.as_ref(), &blob, &bytes),
        // A run with a damaged bundle.
        send(three.as_ref(), &blob, &wrong),
    );
    results.0.unwrap();
    results.1.unwrap();
    assert!(results.2.is_err());
    assert_eq!(omk::store::read_verified(one.as_ref(), &blob, blob.size()).await.unwrap(), bytes);
}

#[tokio::test]
async fn only_a_staging_folder_is_taken_for_one() {
    let bed = Bed::demo().await;
    let session = bed.connect().await;
    let root = bed.folder.path().canonicalize().unwrap();
    let home = root.join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("thesis"), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
    for bad in
        [home.as_path(), &root.join("link"), Path::new("/"), Path::new("relative"), &root.join("a/../b")]
    {
        assert!(session.staging(&bad.display().to_string()).await.is_err(), "{} was taken", bad.display());
    }
    let good = root.join("new/deep/staging").display().to_string();
    session.staging(&good).await.unwrap();
    session.staging(&good).await.unwrap();
    session.write_file(&format!("{good}/index.json"), &noise(1, 700_000)).await.unwrap();
    session.write_file(&format!("{good}/index.json"), b"{}").await.unwrap();
    assert_eq!(std::fs::read_to_string(format!("{good}/index.json")).unwrap(), "{}");
    assert_eq!(std::fs::read_dir(&good).unwrap().count(), 4, "index.json, blobs, partial, .omk-staging");
}

/// A sudo that asks as the real one does. The lab has the real one.
const SUDO: &str = r#"#!/bin/sh
mode=$(cat "$SUDO_MODE"); ask= prompt=
while [ $# -gt 0 ]; do case $1 in
  -n) ;; -k) ;; -S) ask=1 ;; -p) prompt=$2; shift ;; --) shift; break ;; *) break ;; esac; shift; done
[ "$mode" = nopasswd ] && exec "$@"
[ "$mode" = denied ] && { echo "sudo: root is not in the sudoers file." >&2; exit 1; }
[ -n "$ask" ] || { echo "sudo: a password is required" >&2; exit 1; }
for try in 1 2 3; do
  printf %s "$prompt" >&2
  read -r given || { echo "sudo: no password was provided" >&2; exit 1; }
  [ "$given" = "right one" ] && exec "$@"
  echo "Sorry, try again." >&2
done
exit 1
"#;

#[tokio::test]
async fn sudo_is_asked_in_every_way() {
    let tools = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = tools.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert!(Command::new("chmod").arg("755").arg(&path).status().unwrap().success());
    };
    write("sudo", SUDO);
    // The session's user is somebody else than root.
    write("id", "#!/bin/sh\necho 4711\n");
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let mode = tools.path().join("mode").display().to_string();
    let env = vec![("PATH".to_owned(), path), ("SUDO_MODE".to_owned(), mode)];
    let mut bed = Bed::demo_with(env).await;
    bed.user = "admin";
    let mut command = RemoteCommand::root("cat; echo e >&2; exit 3");
    command.stdin = b"right one\nthe input".to_vec();
    for (mode, password, complaint) in [
        ("nopasswd", None, ""),
        ("nopasswd", Some("right one"), ""),
        ("password", Some("right one"), ""),
        ("password", None, "sudo_password"),
        ("password", Some("wrong"), "the password is wrong"),
        ("denied", Some("right one"), "not in the sudoers file"),
    ] {
        write("mode", mode);
        let mut node = bed.node();
        node.sudo_password = password.map(Secret::new);
        let session = connect(&node, &bed.options()).await.unwrap();
        match session.run(&command).await {
            Ok(out) if complaint.is_empty() => {
                assert_eq!(out.text(), "right one\nthe input", "{mode} {password:?}");
                assert_eq!((out.status, out.stderr.as_slice()), (3, &b"e\n"[..]), "{mode} {password:?}");
            }
            Err(NodeError::Sudo(text)) if !complaint.is_empty() => {
                assert!(text.contains(complaint), "{text}");
            }
            other => panic!("{mode} {password:?}: {other:?}"),
        }
    }
}

/// Every login of the lab, with real sudo and a user that is not root.
#[tokio::test(flavor = "multi_thread")]
async fn lab_nodes_are_reached_as_every_user() {
    if !crate::lab::Lab::required() {
        return;
    }
    let lab = crate::lab::Lab::up(1);
    let mut known = KnownHosts::new();
    known.load(&lab.known_hosts()).unwrap();
    let known = Arc::new(known);
    for user in ["root", "omk", "omkpw"] {
        let inventory = omk::node::Inventory::load(&lab.inventory(user), None).unwrap();
        let mut node = inventory.nodes[0].clone();
        let options = SshOptions::new(Arc::clone(&known));
        let session = connect(&node, &options).await.unwrap();
        let mut command = RemoteCommand::root("id -u; cat; ctr version >/dev/null");
        command.stdin = b"input".to_vec();
        let out = session.run(&command).await.unwrap();
        assert_eq!((out.status, out.text().as_str()), (0, "0\ninput"), "{user}: {}", out.complaint());
        let bytes = noise(21, 9 * MIB);
        let store = session.staging("/var/lib/omk/staging").await.unwrap();
        send(store.as_ref(), &blob(&bytes), &bytes).await.unwrap();
        if user == "omkpw" {
            node.sudo_password = None;
            let error = connect(&node, &options).await.unwrap().run(&command).await.unwrap_err();
            assert!(matches!(&error, NodeError::Sudo(t) if t.contains("sudo_password")), "{error}");
            node.sudo_password = Some(Secret::new("wrong"));
            let error = connect(&node, &options).await.unwrap().run(&command).await.unwrap_err();
            assert!(matches!(&error, NodeError::Sudo(t) if t.contains("wrong")), "{error}");
        }
    }
}

/// For a compiler's eye: a session can be shared by tasks.
#[allow(dead_code)]
fn a_session_can_be_shared(session: SshSession) -> Arc<dyn omk::node::NodeSession> {
    Arc::new(session)
}

#[allow(dead_code)]
fn a_store_can_be_shared(store: Box<dyn BlobStore>) -> Arc<dyn BlobStore> {
    Arc::from(store)
}

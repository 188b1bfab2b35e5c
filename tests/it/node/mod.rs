//! Nodes over SSH, against two servers: the one in this process and, where it is installed, OpenSSH.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use omk::demo::sshd;
use omk::event::{Event, Events, Recorder, silent};
use omk::node::inventory::Address;
use omk::node::ssh::{Route, SystemSsh};
use omk::node::{
    KnownHosts, Node, NodeError, NodeSession as _, RemoteCommand, Secret, SshOptions, SshSession,
};
use omk::store::BlobStore;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::conformance::noise;

mod lab_nodes;
mod local;
mod staging;
mod system;
mod ways;

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
    /// Reached by the program `ssh`, with these options.
    system: bool,
    given: Vec<(String, String)>,
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
        let addr = server.addr();
        let (user, demo, openssh) = ("root", Some(server), None);
        Self { addr, folder, known_hosts, user, demo, openssh, system: false, given: Vec::new() }
    }

    /// `None` where there is no sshd or this is not root: the test is to return.
    fn openssh() -> Option<Self> {
        Self::openssh_with("")
    }

    /// With lines that go before the others in its `sshd_config`, in which `{dir}` is the bed's folder.
    fn openssh_with(extra: &str) -> Option<Self> {
        Self::openssh_prepared(extra, |_| ())
    }

    /// With what has to be done once its keys are there.
    fn openssh_prepared(extra: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
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
            "{}ListenAddress {addr}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             UseDNS no\nSubsystem sftp internal-sftp\n",
            extra.replace("{dir}", &folder.path().display().to_string()),
            at("host").display(),
            at("id.pub").display(),
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        prepare(folder.path());
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
        let (user, demo, openssh) = ("root", None, Some(child));
        let bed = Self { folder, addr, known_hosts, user, demo, openssh, system: false, given: Vec::new() };
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
            route: self.route(),
            sudo_password: None,
            groups: Default::default(),
            labels: Default::default(),
        }
    }

    fn route(&self) -> Route {
        let mut given = vec![("port".to_owned(), self.addr.port().to_string())];
        given.extend([("user".to_owned(), self.user.to_owned())]);
        given.extend(self.given.iter().cloned());
        Route { given, ..Route::default() }
    }

    fn options(&self) -> SshOptions {
        let mut options = options(&self.known_hosts);
        if self.system {
            let (config, known_hosts) = (Some("none".into()), Some(self.folder.path().join("known")));
            options.system = Some(SystemSsh { config, known_hosts, ..SystemSsh::default() });
        }
        options
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
        matches!(error, NodeError::Auth { .. })
            && text.contains("stranger (ssh-ed25519 SHA256:")
            && text.contains("or correct user or identity"),
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

/// For a compiler's eye: a session can be shared by tasks.
#[allow(dead_code)]
fn a_session_can_be_shared(session: SshSession) -> Arc<dyn omk::node::NodeSession> {
    Arc::new(session)
}

#[allow(dead_code)]
fn a_store_can_be_shared(store: Box<dyn BlobStore>) -> Arc<dyn BlobStore> {
    Arc::from(store)
}

//! Ways to a node that are not direct, and logins that are more than a key; real sshds.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use omk::node::ssh::route::{Hop, Via};
use omk::node::ssh::{Ask, Secrets};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Answers in the order of the questions, which it keeps.
struct Script {
    answers: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn new(answers: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.iter().rev().copied().collect()),
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Ask for Script {
    fn ask(&self, question: &str, _: bool) -> Option<Secret> {
        self.asked.lock().unwrap().push(question.to_owned());
        self.answers.lock().unwrap().pop().map(Secret::new)
    }
}

fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// The node of one bed, reached through the others, the first one first.
fn through(node: &Bed, jumps: &[&Bed]) -> Node {
    let mut via = Via::Direct;
    for jump in jumps {
        let route = Route { identities: vec![jump.identity()], via, ..Route::default() };
        let (host, port) = (jump.addr.ip().to_string(), jump.addr.port());
        via = Via::Jump(Box::new(Hop { host, port, user: "root".into(), route }));
    }
    Node { route: Route { via, ..Route::default() }, ..node.node() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_behind_other_hosts_are_reached_and_each_host_is_checked() {
    let (Some(node), Some(one)) = (Bed::openssh(), Bed::openssh_with("MaxStartups 3\n")) else { return };
    let Some(two) = Bed::openssh() else { return };
    let all = format!("{}{}{}", node.known_hosts, one.known_hosts, two.known_hosts);
    let session = connect(&through(&node, &[&one, &two]), &options(&all)).await.unwrap();
    let out = session.run(&RemoteCommand::user("echo $SSH_CONNECTION")).await.unwrap();
    assert!(out.text().contains("127.0.0.1"), "{}", out.text());
    assert_eq!(session.how().matches("through").count(), 2, "{}", session.how());
    let store = session.staging(&node.staging()).await.unwrap();
    let bytes = noise(31, 3_000_000);
    crate::conformance::send(store.as_ref(), &crate::conformance::blob(&bytes), &bytes).await.unwrap();

    // A host on the way that nobody knows is as bad as a node.
    let error = connect(&through(&node, &[&one]), &options(&node.known_hosts)).await.unwrap_err();
    let port = one.addr.port().to_string();
    assert!(matches!(&error, NodeError::HostKey(t) if t.contains(&port)), "{error}");

    // Twenty at once through a host that lets three at a time log in.
    let target = through(&node, &[&one]);
    let shared = options(&all);
    let sessions = (0..20).map(|_| connect(&target, &shared));
    for session in futures_util::future::join_all(sessions).await {
        session.unwrap().close().await;
    }

    // Nothing listens behind it.
    let mut gone = through(&node, &[&one]);
    let Address::Ssh { port, .. } = &mut gone.address else { panic!() };
    *port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = connect(&gone, &shared).await.unwrap_err();
    assert!(error.to_string().contains("jump host before it does not reach it"), "{error}");

    // A host on the way that lets nobody in says which one it is, and what counts there.
    let mut target = through(&node, &[&one]);
    let Via::Jump(hop) = &mut target.route.via else { panic!() };
    write_key(node.folder.path(), "stranger");
    hop.route.identities = vec![node.folder.path().join("stranger")];
    let error = connect(&target, &shared).await.unwrap_err().to_string();
    let (jump, place) = (one.addr, target.address.to_string());
    assert!(
        error.contains(&format!("the jump host {jump} (before {place}) refused the user root")),
        "{error}"
    );
    assert!(error.contains("IdentityFile") && error.contains("nor --identity"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_a_way_too() {
    let Some(bed) = Bed::openssh() else { return };
    let known = bed.folder.path().join("kh");
    std::fs::write(&known, &bed.known_hosts).unwrap();
    let proxied = |command: String| Node {
        route: Route { via: Via::Command(command), ..Route::default() },
        ..bed.node()
    };
    // ssh itself carries the bytes, as with a bastion.
    let command = format!(
        "ssh -F none -i {} -o UserKnownHostsFile={} -p {} -W {} root@127.0.0.1",
        bed.identity().display(),
        known.display(),
        bed.addr.port(),
        bed.addr
    );
    let session = connect(&proxied(command), &bed.options()).await.unwrap();
    let out = session.run(&RemoteCommand::user("echo here")).await.unwrap();
    assert_eq!(out.text(), "here\n");
    session.close().await;
    let mut options = bed.options();
    options.attempts = 1;
    let error = connect(&proxied("sh -c 'echo no way >&2; exit 1'".into()), &options).await.unwrap_err();
    assert!(error.to_string().contains("ProxyCommand: no way"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passphrases_are_asked_once_or_read_from_a_file() {
    let Some(bed) = Bed::openssh() else { return };
    std::fs::remove_file(bed.identity()).unwrap();
    keygen(&bed, "ed25519", "256", "secret words");
    let script = Script::new(&["wrong", "secret words"]);
    let mut options = bed.options();
    options.secrets = Arc::new(Secrets::new(Some(script.clone()), None, None));
    let node = bed.node();
    for session in futures_util::future::join_all((0..5).map(|_| connect(&node, &options))).await {
        session.unwrap();
    }
    assert_eq!(script.asked().len(), 2, "{:?}", script.asked());
    options.secrets = Arc::new(Secrets::new(None, Some(Secret::new("secret words")), None));
    connect(&node, &options).await.unwrap();
    options.secrets = Arc::new(Secrets::new(None, Some(Secret::new("other words")), None));
    let error = connect(&node, &options).await.unwrap_err().to_string();
    assert!(error.contains("--passphrase-file") && !error.contains("other words"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_users_and_hosts_are_followed() {
    let extra =
        "AuthorizedKeysFile none\nTrustedUserCAKeys {dir}/ca.pub\nHostCertificate {dir}/host-cert.pub\n";
    // sshd wants its certificate when it starts: made before, from the same files.
    let Some(bed) = Bed::openssh_prepared(extra, |folder| {
        let at = |name: &str| folder.join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("ca")));
        let sign = |args: &[&str], key: PathBuf| {
            run(Command::new("ssh-keygen").arg("-s").arg(at("ca")).args(args).arg(key));
        };
        sign(&["-q", "-h", "-I", "the-host", "-n", "127.0.0.1"], at("host.pub"));
        sign(&["-q", "-I", "the-user", "-n", "root"], at("id.pub"));
    }) else {
        return;
    };
    let authority = std::fs::read_to_string(bed.folder.path().join("ca.pub")).unwrap();
    let trusted = format!("@cert-authority [127.0.0.1]:* {authority}");
    let session = connect(&bed.node(), &options(&trusted)).await.unwrap();
    assert!(session.how().contains("the-host") && session.how().contains("the-user"), "{}", session.how());
    // An RSA key signs with SHA-2 for its certificate too.
    for name in ["id", "id.pub", "id-cert.pub"] {
        std::fs::remove_file(bed.folder.path().join(name)).unwrap();
    }
    keygen(&bed, "rsa", "3072", "");
    let error = connect(&bed.node(), &options(&trusted)).await.unwrap_err();
    assert!(matches!(error, NodeError::Auth { .. }), "{error}");
    let ca = bed.folder.path().join("ca");
    let id = bed.folder.path().join("id.pub");
    run(Command::new("ssh-keygen").arg("-s").arg(ca).args(["-q", "-I", "rsa-user", "-n", "root"]).arg(id));
    let session = connect(&bed.node(), &options(&trusted)).await.unwrap();
    assert!(session.how().contains("rsa-user"), "{}", session.how());
    // The certificate is for another name: only its key could be trusted, and that is not recorded.
    let elsewhere = format!("@cert-authority other {authority}");
    let error = connect(&bed.node(), &options(&elsewhere)).await.unwrap_err();
    assert!(matches!(error, NodeError::HostKey(_)), "{error}");
}

/// What a refusal says to run is run, in the shell of whoever reads it.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_a_refusal_names_record_the_key() {
    let Some(bed) = Bed::openssh() else { return };
    let file = bed.folder.path().join("new folder/known_hosts");
    let options = || SshOptions::new(Arc::new(KnownHosts::load_all([file.clone()]).unwrap()));
    let refused = async || connect(&bed.node(), &options()).await.unwrap_err().to_string();
    let pasted = |text: &str| {
        let commands =
            text.rsplit_once("record the key: ").or_else(|| text.rsplit_once("record the new key: "));
        let commands = commands.unwrap().1.split(" (`--host-keys").next().unwrap();
        assert!(Command::new("sh").args(["-c", commands]).status().unwrap().success(), "{commands}");
    };
    let unknown = refused().await;
    pasted(&unknown);
    connect(&bed.node(), &options()).await.unwrap();
    let other = new_key().public_key().to_openssh().unwrap();
    std::fs::write(&file, format!("[127.0.0.1]:{} {other}\n", bed.addr.port())).unwrap();
    let changed = refused().await;
    assert!(changed.contains("has changed"), "{changed}");
    pasted(&changed);
    connect(&bed.node(), &options()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_is_recorded_on_request_and_a_server_that_hangs_is_noticed() {
    let Some(bed) = Bed::openssh() else { return };
    let file = bed.folder.path().join("learned");
    let mut options = SshOptions::new(Arc::new(KnownHosts::load_all([file.clone()]).unwrap()));
    assert!(matches!(connect(&bed.node(), &options).await, Err(NodeError::HostKey(_))));
    options.accept_new = true;
    let recorder = Arc::new(Recorder::default());
    let (events, cancel) = (Arc::clone(&recorder) as Events, CancellationToken::new());
    let session = SshSession::connect(&bed.node(), &options, &events, &cancel).await.unwrap();
    assert!(session.how().contains("new, recorded in"), "{}", session.how());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), bed.known_hosts);
    SshSession::connect(&bed.node(), &options, &events, &cancel).await.unwrap();
    let told = recorder.events();
    let [Event::HostKeyRecorded { host, key, file: into }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((host, into), (&bed.addr.to_string(), &file.display().to_string()));
    assert!(key.starts_with("ssh-ed25519 SHA256:"), "{key}");

    // The server stops for good: a new connection and one that is open both end by themselves.
    options.connect_timeout = Duration::from_secs(2);
    options.keepalive = Duration::from_secs(1);
    let session = connect(&bed.node(), &options).await.unwrap();
    let own = session.run(&RemoteCommand::user("ps -o ppid= -p $PPID; echo $PPID")).await.unwrap().text();
    let sshd = bed.openssh.as_ref().unwrap().id().to_string();
    let pids: Vec<&str> = own.split_whitespace().chain([sshd.as_str()]).collect();
    let signal = |name: &str| {
        Command::new("kill").arg(name).args(pids.iter().filter(|p| **p != "1")).status().unwrap()
    };
    assert!(signal("-STOP").success());
    let error = session.run(&RemoteCommand::user("true")).await.unwrap_err();
    let again = connect(&bed.node(), &options).await.unwrap_err();
    signal("-CONT");
    assert!(error.may_retry(), "{error}");
    assert!(again.to_string().contains("no answer within 2 s"), "{again}");
}

/// A way to a server that takes nothing any more from some moment on, and says nothing: its connections stay open.
async fn stopping_way(to: std::net::SocketAddr) -> (std::net::SocketAddr, Arc<AtomicBool>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // So that what is sent into it soon has no place.
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let (addr, stopped) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&stopped);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(to).await.unwrap();
            let ((from, into), (back, out)) = (client.into_split(), server.into_split());
            for (mut from, mut into) in [(from, out), (back, into)] {
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 16 << 10];
                    loop {
                        while stop.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        let count = from.read(&mut buffer).await.unwrap_or(0);
                        if count == 0 || into.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (addr, stopped)
}

/// What is not taken any more is noticed as soon as what is not answered: a full connection takes no sign of life either.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_nothing_any_more_is_noticed_while_much_is_sent() {
    let Some(bed) = Bed::openssh() else { return };
    let (way, stopped) = stopping_way(bed.addr).await;
    let mut options =
        SshOptions::new(Arc::new(KnownHosts::load_all([bed.folder.path().join("learned")]).unwrap()));
    (options.accept_new, options.keepalive) = (true, Duration::from_millis(500));
    let mut node = bed.node();
    let Address::Ssh { port, .. } = &mut node.address else { panic!() };
    *port = way.port();
    let session = connect(&node, &options).await.unwrap();
    let store = session.staging(&bed.staging()).await.unwrap();
    let blobs: Vec<_> = (0..4).map(|n| noise(70 + n, 24 << 20)).collect();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stopped.store(true, Ordering::SeqCst);
    };
    let sending =
        futures_util::future::join_all(blobs.iter().map(|b| async {
            crate::conformance::send(store.as_ref(), &crate::conformance::blob(b), b).await
        }));
    let both = async { tokio::join!(sending, stop).0 };
    let sent = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it is noticed");
    for error in sent.into_iter().map(Result::unwrap_err) {
        assert!(error.may_retry(), "{error}");
    }
}

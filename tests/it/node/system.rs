//! Nodes through the system's own `ssh`; real sshds.

use omk::node::Holder;

use super::*;
use crate::conformance::{blob, conforms, send};

/// A server that is reached with the program `ssh`, which reads no configuration of this machine.
fn system(extra: &str) -> Option<Bed> {
    let mut bed = Bed::openssh_with(extra)?;
    bed.system = true;
    std::fs::write(bed.folder.path().join("known"), &bed.known_hosts).unwrap();
    Some(bed)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_through_the_systems_ssh() {
    // One channel is the login's own.
    let Some(bed) = system("MaxSessions 4\n") else { return };
    commands(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_through_the_systems_ssh() {
    let Some(bed) = system("") else { return };
    bounds(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_through_the_systems_ssh_conforms_and_has_one_holder() {
    let Some(bed) = system("") else { return };
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    session.hold(&bed.staging(), &Holder::new("run", "n1")).await.unwrap();
    conforms(store.as_ref()).await;
    let file = format!("{}/file", bed.staging());
    session.write_file(&file, b"text").await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"text");
    let other = bed.connect().await;
    let busy = other.hold(&bed.staging(), &Holder::new("other", "n1")).await.unwrap_err();
    assert!(matches!(&busy, NodeError::Busy { holder } if holder.contains("run run, node n1")), "{busy}");
    let run = Holder::new("run", "n1");
    super::staging::loses_the_lock_and_takes_it_again(&session, &bed.staging(), &run).await;
    session.close().await;
    // The node hears of the end in its own time.
    let mut tries = 0;
    while let Err(error) = other.hold(&bed.staging(), &Holder::new("other", "n1")).await {
        tries += 1;
        assert!(matches!(error, NodeError::Busy { .. }) && tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_systems_ssh_says_is_told_with_a_way_out() {
    let Some(bed) = system("") else { return };
    let known = &bed.folder.path().join("known");
    let mut options = bed.options();
    let usual = &options.clone();
    let error = |node: Node| async move { connect(&node, usual).await.unwrap_err() };
    let mut stranger = bed.node();
    let folder = tempfile::tempdir().unwrap();
    write_key(folder.path(), "stranger");
    let Address::Ssh { identity, .. } = &mut stranger.address else { panic!() };
    *identity = Some(folder.path().join("stranger"));
    let denied = error(stranger).await;
    assert!(matches!(&denied, NodeError::Auth { .. }), "{denied}");
    assert!(denied.to_string().contains("Permission denied (publickey"), "{denied}");

    let mut gone = bed.node();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    gone.route.given = vec![("port".into(), free.to_string())];
    let refused = error(gone).await;
    assert!(matches!(&refused, NodeError::Connect { .. }) && refused.may_retry(), "{refused}");
    assert!(refused.to_string().contains("Connection refused"), "{refused}");

    let mut proxied = bed.node();
    // A shell of its own: ssh ends what has closed its standard output, said or not.
    let proxy = "sh -c 'echo no ticket >&2; exit 1'";
    proxied.route.given.push(("proxycommand".into(), proxy.into()));
    let proxied = error(proxied).await;
    assert!(proxied.to_string().contains("no ticket"), "{proxied}");

    std::fs::write(known, "").unwrap();
    let unknown = error(bed.node()).await;
    assert!(matches!(&unknown, NodeError::HostKey(t) if t.contains("accept-new")), "{unknown}");
    let key = new_key().public_key().to_openssh().unwrap();
    std::fs::write(known, format!("[127.0.0.1]:{} {key}\n", bed.addr.port())).unwrap();
    let changed = error(bed.node()).await;
    assert!(
        matches!(&changed, NodeError::HostKey(t) if t.contains("SHA256:") && t.contains("known:1")),
        "{changed}"
    );
    std::fs::write(known, "").unwrap();
    options.accept_new = true;
    let recorder = Arc::new(Recorder::default());
    let (events, cancel) = (Arc::clone(&recorder) as Events, CancellationToken::new());
    SshSession::connect(&bed.node(), &options, &events, &cancel).await.unwrap();
    assert!(std::fs::read_to_string(known).unwrap().contains("ssh-ed25519"));
    let told = recorder.events();
    let [Event::HostKeyRecorded { host, key, file }] = &told[..] else { panic!("{told:?}") };
    let place = format!("[127.0.0.1]:{}", bed.addr.port());
    assert_eq!((host, key.as_str(), file), (&place, "ED25519", &known.display().to_string()));

    options.system = Some(SystemSsh { program: "no-such-ssh".into(), ..SystemSsh::default() });
    let absent = connect(&bed.node(), &options).await.unwrap_err();
    assert!(absent.to_string().contains("install OpenSSH's client"), "{absent}");
}

/// The connection's own process is gone, or its server does not answer: noticed, and over a new connection the blob
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_of_the_systems_ssh_is_noticed_and_resumed() {
    let Some(mut bed) = system("") else { return };
    bed.given = vec![("serveraliveinterval".into(), "1".into()), ("serveralivecountmax".into(), "3".into())];
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let (bytes, own) = (noise(41, 24 << 20), "ps -o ppid= -p $PPID");
    let blob = blob(&bytes);
    let mut ingest = store.ingest(&blob).await.unwrap();
    ingest.put(bytes.slice(..16 << 20)).await.unwrap();
    let sshd = session.run(&RemoteCommand::user(own)).await.unwrap().text();
    assert!(Command::new("kill").args(["-STOP", sshd.trim()]).status().unwrap().success());
    let error = session.run(&RemoteCommand::user("echo never")).await.unwrap_err();
    Command::new("kill").args(["-CONT", sshd.trim()]).status().unwrap();
    assert!(error.may_retry(), "{error}");
    let broken = match ingest.put(bytes.slice(16 << 20..)).await {
        Ok(()) => ingest.commit().await.unwrap_err(),
        Err(e) => e,
    };
    assert!(broken.may_retry(), "{broken}");
    drop((session, store));

    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let offset = send(store.as_ref(), &blob, &bytes).await.unwrap();
    assert!(offset >= 4 << 20, "{offset}");
    session.close().await;
}

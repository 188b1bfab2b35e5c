//! This machine as a node.

use std::time::Duration;

use omk::node::{LocalSession, NodeError, NodeSession, RemoteCommand};
use tokio_util::sync::CancellationToken;

use crate::conformance::{conforms, noise};

fn session(cancel: &CancellationToken) -> LocalSession {
    LocalSession::open(cancel).unwrap()
}

#[tokio::test]
async fn commands_and_files_of_this_machine() {
    let cancel = CancellationToken::new();
    let session = session(&cancel);
    let mut command = RemoteCommand::user("sha256sum; echo e >&2; exit 4");
    command.stdin = noise(1, 3_000_000).to_vec();
    let out = session.run(&command).await.unwrap();
    assert!(out.text().starts_with(omk::oci::Digest::sha256(&command.stdin).hex()));
    assert_eq!((out.status, out.complaint().as_str()), (4, "e"));
    command.script = "exec <&-; kill -9 $$".into();
    assert_eq!(session.run(&command).await.unwrap().status, 137);

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap().join("new/staging");
    conforms(session.staging(&root.display().to_string()).await.unwrap().as_ref()).await;
    let file = root.join("a file").display().to_string();
    session.write_file(&file, b"one").await.unwrap();
    session.write_file(&file, b"two").await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    assert!(session.write_file("/proc/none/file", b"x").await.is_err());
    assert!(session.staging("/etc").await.is_err());
}

#[tokio::test]
async fn what_is_cancelled_is_ended_with_all_it_started() {
    // The inner shell is not the one that omk started; the second does not listen.
    for deaf in ["", "trap '' TERM; "] {
        let cancel = CancellationToken::new();
        let session = session(&cancel);
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let inner = format!("{deaf}echo $$ >{}; while :; do sleep 1000; done", pid.display());
        let command = RemoteCommand::user(format!("sh -c {}; :", omk::node::quote(&inner)));
        let (result, ()) = tokio::join!(session.run(&command), async {
            while !std::fs::read_to_string(&pid).is_ok_and(|p| p.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        });
        assert!(matches!(result, Err(NodeError::Cancelled)));
        let pid = std::fs::read_to_string(&pid).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "still there: {state}");
    }
}

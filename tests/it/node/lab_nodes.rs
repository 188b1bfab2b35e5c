//! The lab's nodes: real sudo, users that are not root.

use std::sync::Arc;

use omk::node::{KnownHosts, NodeError, NodeSession as _, RemoteCommand, Secret, SshOptions};

use super::connect;
use crate::conformance::{blob, noise, send};

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
        let bytes = noise(21, 9_000_000);
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

/// Switched off in the middle of a blob: noticed without an answer from anybody, and resumed when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn lab_a_node_that_goes_silent_is_noticed_and_resumed() {
    if !crate::lab::Lab::required() {
        return;
    }
    let lab = crate::lab::Lab::up(1);
    lab.add_latency(5, 100);
    let mut known = KnownHosts::new();
    known.load(&lab.known_hosts()).unwrap();
    let mut options = SshOptions::new(Arc::new(known));
    options.keepalive = std::time::Duration::from_secs(1);
    let node = omk::node::Inventory::load(&lab.inventory("omk"), None).unwrap().nodes[0].clone();
    let session = connect(&node, &options).await.unwrap();
    let store = session.staging("/var/lib/omk/staging").await.unwrap();
    let bytes = noise(22, 64_000_000);
    let blob = blob(&bytes);
    // At 100 Mbit/s the whole takes five seconds.
    let (result, ()) = tokio::join!(send(store.as_ref(), &blob, &bytes), async {
        tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
        tokio::task::block_in_place(|| lab.stop_node(1));
    });
    let error = result.unwrap_err();
    assert!(error.may_retry(), "{error}");
    let error = session.run(&RemoteCommand::user("true")).await.unwrap_err();
    assert!(error.may_retry(), "{error}");

    lab.start_node(1);
    let session = connect(&node, &options).await.unwrap();
    let store = session.staging("/var/lib/omk/staging").await.unwrap();
    let offset = send(store.as_ref(), &blob, &bytes).await.unwrap();
    assert!(offset > 0, "nothing was resumed");
    assert_eq!(store.size(blob.digest()).await.unwrap(), Some(blob.size()));
    let all = omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap();
    assert_eq!(all, bytes);
}

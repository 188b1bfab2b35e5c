//! Over SSH, to a server in this process.

use super::*;

/// Nodes of an inventory over SSH, as the command line reaches them.
pub(crate) struct Ssh {
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) options: SshOptions,
}

impl Ssh {
    pub(crate) fn new(nodes: Vec<Node>, known_hosts: &Path) -> Self {
        let mut known = KnownHosts::new();
        known.load(known_hosts).unwrap();
        let nodes = nodes.into_iter().map(|n| (n.name.clone(), n)).collect();
        Self { nodes, options: SshOptions::new(Arc::new(known)) }
    }
}

#[async_trait]
impl Connector for Ssh {
    async fn connect(
        &self,
        node: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn NodeSession>, NodeError> {
        Ok(Box::new(SshSession::connect(&self.nodes[node], &self.options, events, cancel).await?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ssh_a_connection_that_drops_mid_blob_resumes() {
    let mut world = World::new();
    let big = images::noise(7, 40 << 20);
    world.images = vec![bundled(&world.store, "lab.example/big:1", &[&big])];
    let home = world.dir.path().canonicalize().unwrap();
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let identity = home.join("id");
    key.write_openssh_file(&identity, LineEnding::LF).unwrap();
    let authorized_key = key.public_key().clone();
    let options = sshd::Options { authorized_key, folder: home.clone(), env: Vec::new() };
    let server = sshd::Server::start(options).await.unwrap();
    std::fs::write(home.join("known_hosts"), server.known_hosts_line()).unwrap();
    let node = Node {
        name: "n1".into(),
        address: Address::Ssh {
            host: server.addr().ip().to_string(),
            port: server.addr().port(),
            user: "root".into(),
            identity: Some(identity),
        },
        runtime: None,
        image_folder: None,
        staging: None,
        platform: None,
        route: Default::default(),
        sudo_password: None,
        groups: Default::default(),
        labels: Default::default(),
    };
    let mut push = world.push(&["n1"], Here::default());
    push.connector = Arc::new(Ssh::new(vec![node], &home.join("known_hosts")));
    server.drop_after(30 << 20);
    let report = push.run().await.unwrap();
    assert!(report.all_ready(), "{report:#?}");
    let events = world.recorder.events();
    assert!(events.iter().any(|e| matches!(e, Event::Retry { what, .. } if what == "n1")), "it was dropped");
    let resumed: Vec<u64> = events
        .iter()
        .filter_map(|e| if let Event::Resumed { offset, .. } = e { Some(*offset) } else { None })
        .collect();
    // 30 MiB arrived, of which the last 16 MiB may have been without an answer.
    assert!(resumed.len() == 1 && resumed[0] >= 12 << 20, "{resumed:?}");
    let expected = (30 << 20) + (40 << 20) - resumed[0];
    assert!(server.received() < expected + expected / 50, "{} bytes arrived", server.received());
    assert!(blobs_in(&world.archives("n1")[0]).contains_key(&Digest::sha256(&big).layout_path()));
    assert_eq!(files(&world.staging("n1")), [""; 0]);
}

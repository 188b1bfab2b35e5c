//! Many nodes at once.

use super::*;

/// Twenty addresses of one sshd that lets three at a time log in: omk cannot know that they are one host.
#[tokio::test(flavor = "multi_thread")]
async fn lab_twenty_nodes_behind_an_sshd_that_drops_what_is_too_much() {
    if !Lab::required() {
        return;
    }
    let sender = Sender::new("linux/amd64", &layers(&[1])).await;
    let lab = Lab::up_with(1, &[("OMK_LAB_MAXSTARTUPS", "3:100:3")]);
    tokio::task::block_in_place(|| {
        let known = std::fs::read_to_string(lab.known_hosts()).unwrap();
        let (first, key) = known.trim().split_once(' ').unwrap();
        let (net, _) = first.rsplit_once('.').unwrap();
        let hosts: Vec<String> = (101..=120).map(|i| format!("{net}.{i}")).collect();
        let add: String = hosts.iter().map(|h| format!("ip addr add {h}/24 dev eth0\n")).collect();
        sh(&lab, 1, &add);
        let node = |(i, host): (usize, &String)| {
            format!(
                "  - {{name: n{i}, host: {host}, runtime: image-folder, image_folder: /var/lib/omk/images{i}, \
                 staging: /var/lib/omk/staging{i}}}\n"
            )
        };
        let nodes: String = hosts.iter().enumerate().map(node).collect();
        let identity = lab.dir().join("id_ed25519");
        let text = format!("defaults: {{user: root, identity: {}}}\nnodes:\n{nodes}", identity.display());
        let home = sender.folder.path();
        std::fs::write(home.join("twenty.yaml"), text).unwrap();
        let all: String = hosts.iter().map(|h| format!("{h} {key}\n")).collect();
        std::fs::write(home.join("all_known"), all).unwrap();
        let more =
            ["--nodes", "twenty.yaml", "--known-hosts", "all_known", "--limit", "n*", "--parallel", "20"];
        let ran = run(&mut sender.preheat(&lab, &more));
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.told);
        let dropped = ran.told.lines().filter(|l| l.starts_with("connect to ")).collect::<Vec<_>>();
        println!("MaxStartups: {} dropped, such as {:?}", dropped.len(), dropped.first());
        assert!(!dropped.is_empty(), "sshd dropped nobody: {}", ran.told);
        let archives = sh(&lab, 1, "find /var/lib/omk/images* -type f | wc -l");
        assert_eq!(archives.trim(), "20");
    });
}

/// Fifty nodes, each with its own sshd and containerd: memory and time for fifty daemons.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: cargo nextest run --run-ignored only lab_faults"]
async fn lab_fifty_nodes_at_once() {
    if !Lab::required() {
        return;
    }
    let sender = Sender::new("linux/amd64", &layers(&[3, 1])).await;
    let lab = Lab::up(50);
    tokio::task::block_in_place(|| {
        let ran = run(&mut sender.preheat(&lab, &["--limit", "node*", "--parallel", "50"])).good();
        for node in 1..=50 {
            assert_eq!(ran.node(&format!("node{node}"))["state"], "ready");
            proved(&lab, node, &sender);
        }
    });
}

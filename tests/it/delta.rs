//! Delta bundles, from a registry in this process, as users make and use them.

use std::process::{Command, Output};
use std::sync::Arc;

use omk::serve::{Catalog, ServeOptions, Server};
use omk::store::MemoryStore;

use crate::images::{image, noise};

struct World {
    folder: tempfile::TempDir,
    server: Server,
}

impl World {
    /// Two releases of an image, which share two of three layers, and one that stays.
    async fn new() -> Self {
        let (store, catalog) = (MemoryStore::new(), Catalog::new());
        let (base, python) = (noise(1, 400_000), noise(2, 300_000));
        for (version, seed) in [("1.0", 3), ("1.1", 4)] {
            let root = image(&store, "linux/amd64", &[&base, &python, &noise(seed, 20_000)]);
            catalog.tag("lab/web", version, root);
        }
        catalog.tag("lab/tool", "1", image(&store, "linux/amd64", &[&base, &noise(5, 100_000)]));
        let server =
            Server::bind("127.0.0.1:0", Arc::new(store), catalog, ServeOptions::default()).await.unwrap();
        let world = Self { folder: tempfile::tempdir().unwrap(), server };
        for version in ["1.0", "1.1"] {
            let host = world.server.addr();
            let text = format!(
                "apiVersion: omk/v1\nkind: Bundle\nmetadata: {{name: web}}\nspec:\n  images: ['{host}/lab/web:{version}', \
                 '{host}/lab/tool:1']\n  files: [{{path: notes, as: notes-{version}}}]\n"
            );
            std::fs::write(world.folder.path().join(format!("{version}.yaml")), text).unwrap();
        }
        std::fs::write(world.folder.path().join("notes"), noise(7, 50_000)).unwrap();
        world.good(&["build", "1.0.yaml", "-o", "1.0.tar"]).await;
        world
    }

    async fn omk(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
        command.arg("bundle").args(arguments).current_dir(self.folder.path());
        command.env("OMK_PLAIN_HTTP", self.server.addr().to_string()).env("OMK_PROGRESS", "plain");
        command.env("OMK_HOME", self.folder.path().join("home"));
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn good(&self, arguments: &[&str]) -> String {
        let output = self.omk(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_has_what_is_new_and_with_its_base_gives_the_whole() {
    let world = World::new().await;
    let built = world.good(&["build", "1.1.yaml", "--since", "1.0.tar", "-o", "delta.tar"]).await;
    assert!(built.contains("left to the base"), "{built}");
    let size = world.bytes("delta.tar").len();
    assert!(size < 60_000, "{size} bytes for a layer of 20 kB");
    world.good(&["verify", "delta.tar"]).await;
    let seen = world.good(&["inspect", "delta.tar"]).await;
    assert!(seen.contains("lab/web:1.1") && seen.contains("lab/tool:1"), "{seen}");

    world.good(&["build", "1.1.yaml", "-o", "1.1.tar"]).await;
    world.good(&["merge", "1.0.tar", "delta.tar", "-o", "merged.tar"]).await;
    assert!(world.bytes("merged.tar") == world.bytes("1.1.tar"), "merging gives other bytes");

    let found: serde_json::Value =
        serde_json::from_str(&world.good(&["diff", "1.0.tar", "delta.tar", "-o", "json"]).await).unwrap();
    let names: Vec<&str> =
        found["images"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names[0].ends_with("web:1.0") && names[1].ends_with("web:1.1"), "{names:?}");
    // The layer, a config, a manifest; the manifest of the files under their new name; the definition.
    assert_eq!(found["added"].as_array().unwrap().len(), 6, "{found:#}");
    let table = world.good(&["diff", "1.0.tar", "1.0.tar"]).await;
    assert!(table.starts_with("the same images"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_and_what_nodes_have_are_bases_too() {
    let world = World::new().await;
    world.good(&["lock", "1.0.yaml"]).await;
    world.good(&["build", "1.1.yaml", "--since", "1.0.lock", "-o", "by-lock.tar"]).await;
    assert!(world.bytes("by-lock.tar").len() < 60_000);
    let whole: serde_json::Value =
        serde_json::from_str(&world.good(&["inspect", "1.0.tar", "-o", "json"]).await).unwrap();
    let layers = whole["images"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|i| i["variants"][0]["layers"].as_array().unwrap());
    let blobs: Vec<&serde_json::Value> = layers.map(|l| &l["digest"]).collect();
    let nodes = serde_json::json!({"apiVersion": "omk/v1", "kind": "NodeInventory", "nodes": [{"name": "n1", "blobs": blobs}]});
    std::fs::write(world.folder.path().join("nodes.json"), nodes.to_string()).unwrap();
    world.good(&["build", "1.1.yaml", "--since", "nodes.json", "-o", "by-nodes.tar"]).await;
    let size = world.bytes("by-nodes.tar").len();
    assert!((70_000..120_000).contains(&size), "{size}: nodes have layers, no files");
    let wrong = world.omk(&["build", "1.1.yaml", "--since", "1.0.yaml", "-o", "x.tar"]).await;
    assert_eq!(wrong.status.code(), Some(1), "{}", told(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_base_a_delta_is_refused_before_anything_is_written() {
    let world = World::new().await;
    world.good(&["build", "1.1.yaml", "--since", "1.0.tar", "-o", "delta.tar"]).await;
    let host = world.server.addr();
    world.good(&["build", "--image", &format!("{host}/lab/tool:1"), "-o", "other.tar"]).await;
    let wrong = world.omk(&["merge", "other.tar", "delta.tar", "-o", "merged.tar"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    let text = told(&wrong);
    assert!(text.contains("was built against 1.0.tar: give that too") && text.contains("sha256:"), "{text}");
    assert!(!world.folder.path().join("merged.tar").exists());
    let inventory = world.folder.path().join("nodes.yaml");
    let folder = world.folder.path().join("images");
    std::fs::create_dir(&folder).unwrap();
    let text = format!(
        "nodes: [{{name: here, local: true, runtime: image-folder, image_folder: '{}', staging: '{}', platform: \
         linux/amd64}}]\n",
        folder.display(),
        world.folder.path().join("staging").display()
    );
    std::fs::write(&inventory, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.args(["preheat", "delta.tar", "--nodes", "nodes.yaml"]).current_dir(world.folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), told(&output));
    assert!(text.contains("that this bundle leaves out") && text.contains("1.0.tar"), "{text}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// Deltas and bases where they do not belong, and damaged ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_delta_is_verified_with_its_base_and_a_damaged_base_is_told_as_such() {
    let world = World::new().await;
    world.good(&["build", "1.1.yaml", "--since", "1.0.tar", "-o", "delta.tar"]).await;
    let both = world.good(&["verify", "delta.tar", "1.0.tar"]).await;
    assert!(both.contains("delta.tar: whole, as a delta whose rest is in what is given with it"), "{both}");
    assert!(both.contains("1.0.tar: whole: "), "{both}");
    let host = world.server.addr();
    world.good(&["build", "--image", &format!("{host}/lab/tool:1"), "-o", "other.tar"]).await;
    let wrong = world.omk(&["verify", "other.tar", "delta.tar"]).await;
    assert_eq!(wrong.status.code(), Some(1), "{}", told(&wrong));
    assert!(told(&wrong).contains("it was built against 1.0.tar: give that"), "{}", told(&wrong));
    let json = world.omk(&["verify", "delta.tar", "other.tar", "-o", "json"]).await;
    let all: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(!all[0]["lacks"].as_array().unwrap().is_empty() && all[1].get("lacks").is_none(), "{all}");

    let two = world.omk(&["inspect", "delta.tar", "1.0.tar"]).await;
    assert_eq!(two.status.code(), Some(1), "{}", told(&two));
    assert!(
        told(&two).contains("this command takes one") && told(&two).contains("bundle verify"),
        "{}",
        told(&two)
    );
    let again = world.omk(&["build", "1.0.tar", "-o", "x.tar"]).await;
    assert_eq!(again.status.code(), Some(2), "{}", told(&again));
    assert!(told(&again).contains("1.0.tar is a bundle already"), "{}", told(&again));
    let repair = world.omk(&["repair", "1.0.tar"]).await;
    assert_eq!(repair.status.code(), Some(2), "{}", told(&repair));
    assert!(told(&repair).contains("is one file or folder and no media set"), "{}", told(&repair));

    let whole = world.bytes("1.0.tar");
    std::fs::write(world.folder.path().join("1.0.tar"), &whole[..whole.len() - 60_000]).unwrap();
    let damaged = world.omk(&["build", "1.1.yaml", "--since", "1.0.tar", "-o", "y.tar"]).await;
    assert_eq!(damaged.status.code(), Some(6), "{}", told(&damaged));
    assert!(told(&damaged).contains("hint: the base of a delta must be whole"), "{}", told(&damaged));
    let both = world.omk(&["verify", "delta.tar", "1.0.tar"]).await;
    assert_eq!(both.status.code(), Some(6), "{}", told(&both));
    assert!(told(&both).contains("hint: copy the bundle again"), "{}", told(&both));

    // What cannot be opened hides nothing of what is given with it.
    let with_typo = world.omk(&["verify", "1.0.tar", "typo.tar"]).await;
    assert_eq!(with_typo.status.code(), Some(6), "{}", told(&with_typo));
    assert!(told(&with_typo).contains("1.0.tar is damaged"), "{}", told(&with_typo));
    assert!(told(&with_typo).contains("typo.tar"), "{}", told(&with_typo));
    let json = world.omk(&["verify", "other.tar", "typo.tar", "-o", "json"]).await;
    assert_eq!(json.status.code(), Some(1), "{}", told(&json));
    let all: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(all[0]["bad"] == serde_json::json!([]) && all[0].get("error").is_none(), "{all}");
    assert!(all[1]["error"].as_str().unwrap().contains("typo.tar") && all[1].get("bad").is_none(), "{all}");
    std::fs::write(world.folder.path().join("1.0.tar"), &whole[..300]).unwrap();
    let both = world.omk(&["verify", "delta.tar", "1.0.tar"]).await;
    assert!(both.status.code() != Some(0), "{}", told(&both));
    assert!(told(&both).contains("1.0.tar was given, but cannot be opened"), "{}", told(&both));
    assert!(!told(&both).contains("give that"), "{}", told(&both));
}

//! `omk image compare`: a real bundle beside a dump of a cluster.

use std::process::Command;

use omk::serve::ServeOptions;
use omk::store::MemoryStore;

use crate::images::{image, serve};

/// A pod with one container, as kubectl prints it.
fn pod(name: &str, image: &str, image_id: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "main", "image": image}]},
        "status": {"containerStatuses": [{"name": "main", "image": image, "imageID": image_id}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_held_against_a_bundle() {
    let store = MemoryStore::new();
    let root = image(&store, "linux/amd64", &[b"layer"]);
    let server = serve(&store, &root, ServeOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let web = format!("{}/lab/web:1", server.addr());
    let omk = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
        command.args(arguments).current_dir(folder.path()).env("OMK_PLAIN_HTTP", server.addr().to_string());
        command.env("OMK_PROGRESS", "plain");
        tokio::task::spawn_blocking(move || {
            let done = command.output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
        })
    };
    let built = omk(&["bundle", "build", "--image", &web, "-o", "web.tar"]).await.unwrap();
    assert_eq!(built.0, 0, "{}", built.2);

    let dump = |pods: &[serde_json::Value]| {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": pods});
        std::fs::write(folder.path().join("dump.json"), list.to_string()).unwrap();
    };
    let id = |digest: &str| format!("{}/lab/web@{digest}", server.addr());
    dump(&[pod("web-1", &web, &id(&root.digest().to_string()))]);
    let (code, out, told) = omk(&["image", "compare", "web.tar", "--running", "dump.json"]).await.unwrap();
    assert_eq!(code, 0, "{out}{told}");
    assert!(out.lines().nth(1).is_some_and(|l| l.starts_with("same")), "{out}");

    let other = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    dump(&[pod("web-1", &web, &id(other)), pod("db", "postgres:16", "")]);
    let (code, out, told) =
        omk(&["image", "compare", "web.tar", "--running", "dump.json", "-o", "json"]).await.unwrap();
    assert_eq!(code, 8, "{out}{told}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let states: Vec<_> =
        report["images"].as_array().unwrap().iter().map(|i| i["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["missing", "other-digest"]);
    assert_eq!(report["images"][1]["running"][0], other);
    assert!(told.contains("0 the same, 1 not in the bundle, 1 with another digest, 0 not running"), "{told}");

    dump(&[]);
    let (code, out, _) = omk(&["image", "compare", "web.tar", "--running", "dump.json"]).await.unwrap();
    assert!(code == 0 && out.contains("not running"), "{out}");

    std::fs::write(folder.path().join("dump.json"), "kind: Pod\nspec: [").unwrap();
    let (code, _, told) = omk(&["image", "compare", "web.tar", "--running", "dump.json"]).await.unwrap();
    assert!(matches!(code, 1 | 3) && told.contains("not YAML"), "{code} {told}");
}

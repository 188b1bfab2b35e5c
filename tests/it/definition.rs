//! Bundles from a definition, as users build them, against a registry in this process.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use omk::serve::{Catalog, ServeOptions, Server};
use omk::store::MemoryStore;

use crate::images::{image, noise};

struct World {
    folder: tempfile::TempDir,
    server: Server,
    store: MemoryStore,
    catalog: Catalog,
}

impl World {
    async fn new() -> Self {
        let (store, catalog) = (MemoryStore::new(), Catalog::new());
        for (name, seed) in [("web", 1), ("tool", 2), ("edge", 3)] {
            let root = image(&store, "linux/amd64", &[&noise(seed, 20_000), b"base"]);
            catalog.tag(&format!("lab/{name}"), "1", root);
        }
        let source = Arc::new(store.clone());
        let server =
            Server::bind("127.0.0.1:0", source, catalog.clone(), ServeOptions::default()).await.unwrap();
        let world = Self { folder: tempfile::tempdir().unwrap(), server, store, catalog };
        world.write("deploy/tool.yaml", &world.pod("tool"));
        world.write("base/pod.yaml", &world.pod("edge"));
        world.write("base/kustomization.yaml", "resources: [pod.yaml]\n");
        world.write("overlay/kustomization.yaml", "resources: [../base]\n");
        world.write("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.0\n");
        let pod = world.pod("web").replace("name: p", "name: 'p{{ .Values.n }}'");
        world.write("chart/templates/pod.yaml", &pod);
        world.write("chart/values.yaml", "n: 1\nrandom: false\n");
        world.write(
            "chart/templates/secret.yaml",
            "{{ if .Values.random }}\nkind: Secret\nstringData: {a: {{ randAlphaNum 8 }}}\n{{ end }}\n",
        );
        world.write("install.sh", "#!/bin/sh\n");
        world.define("images: []", "{name: shop, chart: ./chart, values: {n: 7}}");
        world
    }

    fn pod(&self, image: &str) -> String {
        let host = self.server.addr();
        format!(
            "kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{image: '{host}/lab/{image}:1'}}]}}\n"
        )
    }

    fn define(&self, images: &str, chart: &str) {
        let text = format!(
            "apiVersion: omk/v1\nkind: Bundle\nmetadata: {{name: lab}}\nspec:\n  {images}\n  charts: [{chart}]\n  \
             manifests: [deploy]\n  kustomizations: [{{path: overlay, groups: [edge]}}]\n  files: [{{path: install.sh, \
             as: bin/install, executable: true}}]\n"
        );
        self.write("bundle.yaml", &text);
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    async fn omk(&self, arguments: &[&str]) -> Output {
        run(self.folder.path(), &self.server.addr().to_string(), arguments).await
    }

    async fn good(&self, arguments: &[&str]) -> Output {
        let output = self.omk(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
        output
    }

    async fn inspected(&self, bundle: &str) -> serde_json::Value {
        let output = self.good(&["inspect", bundle, "-o", "json"]).await;
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn run(folder: &Path, host: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.arg("bundle").args(arguments).current_dir(folder);
    command.env("OMK_PLAIN_HTTP", host).env("OMK_PROGRESS", "plain").env("OMK_HOME", folder.join("home"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_bundle_is_the_same_bytes_whatever_tags_stand_for_by_then() {
    let world = World::new().await;
    world.good(&["lock", "bundle.yaml"]).await;
    world.good(&["build", "bundle.yaml", "--locked"]).await;
    let first = world.bytes("lab.bundle.tar");
    let moved = image(&world.store, "linux/amd64", &[&noise(9, 20_000), b"base"]);
    world.catalog.tag("lab/web", "1", moved);
    world.good(&["build", "bundle.yaml", "--locked", "-o", "again.tar"]).await;
    assert!(world.bytes("again.tar") == first, "a rebuild differs");
    world.good(&["verify", "again.tar"]).await;

    let found = world.inspected("again.tar").await;
    let images = found["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    let groups = |name: &str| {
        let image = images.iter().find(|i| i["names"][0].as_str().unwrap().contains(name)).unwrap();
        image["groups"].clone()
    };
    assert_eq!(groups("lab/edge"), serde_json::json!(["edge"]));
    assert!(groups("lab/web").is_null());
    let files: Vec<String> = found["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|a| a["files"].as_object().unwrap().keys().cloned())
        .collect();
    let expected = [
        "charts/shop-1.2.0.tgz",
        "manifests/deploy/tool.yaml",
        "manifests/overlay/base/kustomization.yaml",
        "manifests/overlay/base/pod.yaml",
        "manifests/overlay/overlay/kustomization.yaml",
        "charts/shop.values.yaml",
        "manifests/shop.yaml",
        "files/bin/install",
        "bundle.lock",
        "bundle.yaml",
    ];
    assert_eq!(files, expected);

    // Locking again takes what the tag stands for now, and says what changed.
    let output = world.good(&["lock", "bundle.yaml"]).await;
    let changed = String::from_utf8(output.stdout).unwrap();
    assert!(changed.contains("/lab/web:1 is ") && changed.contains("locked was"), "{changed}");
    world.good(&["build", "bundle.yaml", "--locked", "-o", "new.tar"]).await;
    assert!(world.bytes("new.tar") != first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_locked_is_named_and_nothing_is_built() {
    let world = World::new().await;
    let host = world.server.addr();
    let missing = world.omk(&["build", "bundle.yaml", "--locked"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(told(&missing).contains("omk bundle lock bundle.yaml"), "{}", told(&missing));
    world.good(&["lock", "bundle.yaml"]).await;
    world.write("chart/values.yaml", "n: 2\n");
    world.write("install.sh", "#!/bin/bash\n");
    world.define(&format!("images: ['{host}/lab/new:1']"), "{name: shop, chart: ./chart}");
    let drifted = world.omk(&["build", "bundle.yaml", "--locked"]).await;
    assert_eq!(drifted.status.code(), Some(1));
    let text = told(&drifted);
    for part in ["image ", "/lab/new:1 is new", "chart ./chart is 1.2.0 ", "file bin/install is "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!world.folder.path().join("lab.bundle.tar").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_definition_names_wrongly_is_told_with_its_place() {
    let world = World::new().await;
    world.define("image: []", "");
    let output = world.omk(&["build", "bundle.yaml"]).await;
    assert!(told(&output).contains("bundle.yaml:5: spec.image: unknown field"), "{}", told(&output));
    world.define("components: [none@1]", "");
    let output = world.omk(&["build", "bundle.yaml"]).await;
    assert!(
        told(&output).contains("bundle.yaml: spec.components[0]: there is no component"),
        "{}",
        told(&output)
    );
    world.define("images: []", "{chart: ./nowhere}");
    let output = world.omk(&["build", "bundle.yaml"]).await;
    assert!(told(&output).contains("spec.charts[0]: "), "{}", told(&output));
    let output = world.omk(&["build", "bundle.yaml", "deploy", "-o", "x"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("stands alone"), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_that_is_never_the_same_rides_along_without_its_manifests() {
    let world = World::new().await;
    world.define("images: []", "{name: shop, chart: ./chart, values: {random: true}}");
    let output = world.good(&["build", "bundle.yaml"]).await;
    assert!(told(&output).contains("uses random values or the time"), "{}", told(&output));
    let found = world.inspected("lab.bundle.tar").await;
    let text = found["artifacts"].to_string();
    assert!(text.contains("charts/shop-1.2.0.tgz") && !text.contains("manifests/shop.yaml"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_web_servers_are_resumed_and_held_against_their_digest() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let body = noise(5, 200_000);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (served, asked) = (body.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let from: usize = head
                .split("range: bytes=")
                .nth(1)
                .and_then(|r| r.split('-').next()?.parse().ok())
                .unwrap_or_default();
            log.lock().unwrap().push(from);
            let (status, length) =
                (if from > 0 { "206 Partial Content" } else { "200 OK" }, served.len() - from);
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", served.len() - 1, served.len());
            let answer =
                format!("HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            // The first answer breaks off in its middle.
            let end = if from == 0 { 100_000 } else { served.len() };
            let _ = stream.write_all(&served[from..end]).await;
        }
    });
    let world = World::new().await;
    let digest = omk::oci::Digest::sha256(&body);
    let define = |sha: &str| {
        let text = format!(
            "apiVersion: omk/v1\nkind: Bundle\nmetadata: {{name: lab}}\nspec:\n  files: [{{url: 'http://{address}/k3s', \
             as: bin/k3s{sha}}}]\n"
        );
        world.write("bundle.yaml", &text);
    };
    define("");
    let output = world.omk(&["build", "bundle.yaml"]).await;
    assert!(told(&output).contains("has no sha256"), "{}", told(&output));
    define(&format!(", sha256: '{}'", digest.hex()));
    world.good(&["build", "bundle.yaml"]).await;
    assert_eq!(*asked.lock().unwrap(), [0, 100_000]);
    // It is kept: nothing is asked for again.
    world.good(&["build", "bundle.yaml", "--offline", "-o", "b.tar"]).await;
    assert_eq!(world.bytes("b.tar"), world.bytes("lab.bundle.tar"));
    assert_eq!(asked.lock().unwrap().len(), 2);
    let other = omk::oci::Digest::sha256(b"other");
    define(&format!(", sha256: '{}'", other.hex()));
    let output = world.omk(&["build", "bundle.yaml", "-o", "c.tar"]).await;
    assert!(told(&output).contains("is promised"), "{}", told(&output));
    assert!(!world.folder.path().join("c.tar").exists());
}

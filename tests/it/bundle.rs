//! `omk bundle` as users run it, against a registry in this process.

use std::path::Path;
use std::process::{Command, Output};

use omk::serve::{ServeOptions, Server};
use omk::store::MemoryStore;

use crate::images::{image, noise, serve};

struct World {
    folder: tempfile::TempDir,
    server: Server,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let root = image(&store, "linux/amd64", &[&noise(1, 300_000), b"small"]);
        let server = serve(&store, &root, ServeOptions::default()).await;
        Self { folder: tempfile::tempdir().unwrap(), server }
    }

    /// Runs `omk bundle` in the world's folder, away from the threads that serve.
    async fn omk(&self, arguments: &[&str]) -> Output {
        self.run("bundle", arguments).await
    }

    async fn run(&self, group: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
        command.arg(group).args(arguments).current_dir(self.folder.path());
        command.env("OMK_PLAIN_HTTP", self.server.addr().to_string()).env("OMK_PROGRESS", "plain");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    fn name(&self, reference: &str) -> String {
        format!("{}/{reference}", self.server.addr())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_is_whole_and_built_again() {
    let world = World::new().await;
    let image = world.name("lab/web:1");
    for form in ["tar", "folder"] {
        let out = format!("x.{form}");
        for _ in 0..2 {
            let built = world.omk(&["build", "--image", &image, "-o", &out, "--format", form]).await;
            assert_eq!(built.status.code(), Some(0), "{}", told(&built));
        }
        let verified = world.omk(&["verify", &out]).await;
        assert_eq!(verified.status.code(), Some(0), "{}", told(&verified));
    }
    assert_eq!(world.names(), ["x.folder", "x.tar"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_be_is_told_once_before_anything_is_read() {
    let world = World::new().await;
    let image = world.name("lab/web:1");
    world.write("values.yaml", "replicas: 3\n");
    for (out, expected) in [
        ("values.yaml", "values.yaml is no bundle, which is never replaced; choose another output"),
        ("no/such/x.tar", "the folder no/such does not exist; create it first"),
        (".", ". is a folder, which is never replaced"),
    ] {
        // The source that is not there would be told of if it were looked for.
        let refused = world.omk(&["build", "nowhere.yaml", "--image", &image, "-o", out]).await;
        let text = told(&refused);
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(text.starts_with("error: ") && text.contains(expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_eq!(world.names(), ["values.yaml"]);
    assert_eq!(std::fs::read_to_string(world.folder.path().join("values.yaml")).unwrap(), "replicas: 3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_told_once() {
    let world = World::new().await;
    let (good, gone) = (world.name("lab/web:1"), world.name("lab/gone:1"));
    world.write("bad.yaml", "kind: Pod\nspec: [\n");
    let arguments = ["build", "bad.yaml", "nowhere.yaml", "--image", &good, "--image", &gone, "-o", "x.tar"];
    let failed = world.omk(&arguments).await;
    let text = told(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    for once in ["bad.yaml:", "nowhere.yaml:", "1 of 2 images cannot be had", "lab/gone:1"] {
        assert_eq!(text.matches(once).count(), 1, "{once}: {text}");
    }
    assert_eq!(world.names(), ["bad.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bundle_is_named_and_its_bytes_are_not_shown() {
    let world = World::new().await;
    std::fs::write(world.folder.path().join("x.tar.gz"), b"\x1f\x8b\x08\0\x1b[2Jrest").unwrap();
    for command in ["verify", "inspect"] {
        let refused = world.omk(&[command, "x.tar.gz"]).await;
        let text = told(&refused);
        assert_eq!(refused.status.code(), Some(6), "{text}");
        assert!(text.starts_with("error: x.tar.gz is gzip-compressed and cannot be unpacked: "), "{text}");
        assert!(!text.contains('\u{1b}') && text.lines().count() == 2, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_likely_image_that_cannot_be_had_is_left_out_with_its_evidence() {
    let world = World::new().await;
    let (good, gone) = (world.name("lab/web:1"), world.name("lab/gone:1"));
    let pod = format!(
        "kind: Pod\nmetadata: {{name: op}}\nspec:\n  containers:\n  - image: {good}\n    env: [{{name: AGENT_IMAGE, value: '{gone}'}}]\n"
    );
    world.write("op.yaml", &pod);
    let built = world.omk(&["build", "op.yaml", "-o", "x.tar", "--summary", "json"]).await;
    assert_eq!(built.status.code(), Some(3), "{}", told(&built));
    assert!(
        told(&built).contains("spec.containers[0].env[AGENT_IMAGE].value [env, likely]"),
        "{}",
        told(&built)
    );
    let report: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!(report["left_out"][0]["image"], gone.as_str());
    assert_eq!(report["images"][0]["image"], good.as_str());
    assert_eq!(world.omk(&["verify", "x.tar"]).await.status.code(), Some(0));
    let strong = world.omk(&["build", "op.yaml", "-o", "y.tar", "--min-confidence", "strong"]).await;
    assert_eq!(strong.status.code(), Some(0), "{}", told(&strong));
    world.write("bad.yaml", &pod.replace(&good, &gone));
    let needed = world.omk(&["build", "bad.yaml", "-o", "z.tar"]).await;
    assert_eq!(needed.status.code(), Some(1), "{}", told(&needed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_says_what_each_name_stood_for() {
    let world = World::new().await;
    let (good, gone) = (world.name("lab/web:1"), world.name("lab/gone:1"));
    let arguments =
        ["discover", "--image", &good, "--lock", "images.lock", "--platform", "linux/amd64", "-o", "refs"];
    let done = world.run("image", &arguments).await;
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    let read = || {
        let text = std::fs::read_to_string(world.folder.path().join("images.lock")).unwrap();
        serde_yaml::from_str::<omk::bundle::Lock>(&text).unwrap()
    };
    let lock = read();
    let digest = lock.images[&good.parse::<omk::oci::ImageRef>().unwrap()].to_string();
    assert!(digest.starts_with("sha256:") && lock.platforms.len() == 1, "{lock:?}");
    let lacks = [&arguments[..], &["--image", &gone]].concat();
    let partial = world.run("image", &lacks).await;
    assert_eq!(partial.status.code(), Some(3));
    assert!(
        told(&partial).contains("not in the lock") && told(&partial).contains("lab/gone:1"),
        "{}",
        told(&partial)
    );
    assert_eq!(read(), lock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_onto_volumes() {
    let world = World::new().await;
    let image = world.name("lab/web:1");
    let arguments = [
        "build",
        "--image",
        &image,
        "--split",
        "100kb",
        "--parity",
        "20%",
        "-o",
        "discs",
        "--summary",
        "json",
    ];
    let mut before = None;
    for _ in 0..2 {
        let built = world.omk(&arguments).await;
        assert_eq!(built.status.code(), Some(0), "{}", told(&built));
        let report: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
        assert_eq!(report["images"][0]["image"], image.as_str());
        assert_eq!(report["volumes"]["volumes"].as_array().unwrap().len(), 5);
        let files = names(&world.folder.path().join("discs"));
        assert_eq!(files.len(), 7, "{files:?}");
        let read = |n: &String| std::fs::read(world.folder.path().join("discs").join(n)).unwrap();
        let bytes: Vec<Vec<u8>> = files.iter().map(read).collect();
        assert!(before.as_ref().is_none_or(|b| *b == bytes), "the same volumes each time");
        before = Some(bytes);
    }
    let verified = world.omk(&["verify", "discs"]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", told(&verified));
}

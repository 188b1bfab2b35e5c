//! `omk preheat` and its kin as commands, on this machine as the one node.

use std::process::{Child, Command, Output, Stdio};

use omk::serve::ServeOptions;

use super::*;

/// A bundle with one image, and an inventory that names this machine.
pub(super) struct Cli {
    pub(super) folder: tempfile::TempDir,
}

impl Cli {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, home) = (MemoryStore::new(), folder.path().canonicalize().unwrap());
        let layers = [1, 2, 3].map(|n| images::noise(n, 4 << 20));
        let root = images::image(&store, PLATFORM, &layers.each_ref().map(|l| &l[..]));
        let server = images::serve(&store, &root, ServeOptions::default()).await;
        let image = format!("{}/lab/web:1", server.addr());
        let mut build = Command::new(env!("CARGO_BIN_EXE_omk"));
        build.args(["bundle", "build", "-o", "b.tar", "--image", &image, "--plain-http"]);
        build.arg(server.addr().to_string()).current_dir(&home);
        let built = tokio::task::spawn_blocking(move || build.output().unwrap()).await.unwrap();
        assert!(built.status.success(), "{built:?}");
        std::fs::create_dir(home.join("images")).unwrap();
        let node = serde_json::json!({
            "name": "n1", "local": true, "runtime": "image-folder", "platform": PLATFORM,
            "image_folder": home.join("images"), "staging": home.join("staging"),
        });
        std::fs::write(home.join("nodes.yaml"), serde_json::json!({"nodes": [node]}).to_string()).unwrap();
        Self { folder }
    }

    pub(super) fn spawn(&self, args: &[&str]) -> Child {
        let mut omk = Command::new(env!("CARGO_BIN_EXE_omk"));
        omk.args(args).args(["--nodes", "nodes.yaml"]).env("OMK_PROGRESS", "plain");
        omk.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(super) fn start(&self) -> Child {
        self.spawn(&["preheat", "b.tar", "-o", "json"])
    }

    pub(super) fn run(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }

    fn omk(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.spawn(args).wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

/// Where nothing can be written is found out before a node is asked, and nothing is left there.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_written_stops_the_command_before_it_begins() {
    let world = Cli::new().await;
    let home = world.folder.path();
    std::fs::create_dir(home.join("folder")).unwrap();
    std::fs::write(home.join("file"), "").unwrap();
    let before = files(home);
    for (file, why) in [
        (
            "none/page.html",
            "there is no folder none; nothing was done\nhint: make the folder, or name another file",
        ),
        ("folder", "it is a folder; nothing was done\nhint: name a file in it"),
        ("file/page.html", "file is no folder; nothing was done\nhint: name another file"),
        ("/dev/null", "it is a device or a pipe, and no file; nothing was done\nhint: name another file"),
    ] {
        for (command, option) in [
            (&["preheat", "b.tar", "--report", file][..], "--report"),
            (&["node", "verify", "b.tar", "--report", file], "--report"),
            (&["node", "inventory", "--output", file], "--output"),
        ] {
            let (code, out, told) = world.omk(command);
            assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}: {told}");
            assert_eq!(told, format!("error: cannot write {file} ({option}): {why}\n"), "{command:?}");
            assert_eq!(files(home), before, "{command:?}: no node was touched, and nothing is left");
        }
    }
    // Links are followed to what they lead to; a regular file in /dev is one.
    std::os::unix::fs::symlink("/dev/null", home.join("link")).unwrap();
    let (code, _, told) = world.omk(&["preheat", "b.tar", "--report", "link"]);
    assert!(code == Some(1) && told.contains("it is a device or a pipe"), "{told}");
    std::fs::remove_file(home.join("link")).unwrap();
    // Asked of a bundle that is none: where the page may be written, that is what is told.
    if let Ok(page) = tempfile::NamedTempFile::new_in("/dev/shm") {
        let (_, _, told) = world.omk(&["preheat", "file", "--report", page.path().to_str().unwrap()]);
        assert!(told.starts_with("error: ") && !told.contains("cannot write"), "{told}");
    }
    // A run that fails leaves none either, not even an empty one.
    std::fs::write(home.join("broken.tar"), "no bundle").unwrap();
    let (code, ..) = world.omk(&["preheat", "broken.tar", "--report", "page.html"]);
    assert_eq!(code, Some(1));
    std::fs::remove_file(home.join("broken.tar")).unwrap();
    assert_eq!(files(home), before);
    let (code, _, told) = world.omk(&["preheat", "b.tar", "--report", "page.html"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(std::fs::read_to_string(home.join("page.html")).unwrap().starts_with("<!doctype html>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_tells_how_it_is_mended_and_mending_how_it_is_undone() {
    const HINT: &str =
        "hint: the same command with --repair sends what lacks, and only that, and proves again";
    let world = Cli::new().await;
    let verify = ["node", "verify", "b.tar"];
    assert!(world.run().status.success());
    let (code, _, told) = world.omk(&verify);
    assert!(code == Some(0) && !told.contains("--repair"), "{told}");
    for archive in std::fs::read_dir(world.folder.path().join("images")).unwrap() {
        std::fs::remove_file(archive.unwrap().path()).unwrap();
    }
    let (code, out, told) = world.omk(&verify);
    assert!(code == Some(5) && told.lines().any(|l| l == HINT), "{out}{told}");
    let (code, out, told) = world.omk(&["node", "verify", "b.tar", "-o", "json"]);
    assert!(code == Some(5) && !told.contains("hint:"), "for programs: {told}");
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
    let (code, out, told) = world.omk(&["node", "verify", "b.tar", "--repair"]);
    assert!(code == Some(0) && out.contains("found before it was mended:"), "{out}{told}");
    let undo = out.lines().last().unwrap();
    assert!(undo.starts_with("run 2") && undo.ends_with(" undoes it"), "{out}");
    assert!(!told.contains("--repair"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_everything_there_says_so() {
    const IDLE: &str = "nothing to do: every image was there already";
    let world = Cli::new().await;
    let preheat = ["preheat", "b.tar"];
    let (code, out, told) = world.omk(&preheat);
    assert!(
        code == Some(0) && !out.contains("nothing to do") && !told.contains("nothing to do"),
        "{out}{told}"
    );
    let (code, out, told) = world.omk(&preheat);
    assert!(code == Some(0) && out.lines().last() == Some(IDLE), "{out}{told}");
    let (_, out, told) = world.omk(&["preheat", "b.tar", "-o", "json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok() && !told.contains(IDLE), "{out}{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_stopped_tells_once_how_to_go_on() {
    use std::io::{BufRead as _, BufReader, Read as _};

    let world = Cli::new().await;
    let mut first = world.spawn(&["preheat", "b.tar", "--node-bandwidth", "1MB/s"]);
    let mut told = BufReader::new(first.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("n1: sending") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it ended before it sent anything");
    }
    let stop = Command::new("kill").args(["-INT", &first.id().to_string()]).status().unwrap();
    assert!(stop.success());
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(130), "{rest}");
    assert_eq!(rest.matches("to go on").count(), 1, "{rest}");

    let (code, out, told) = world.omk(&["preheat", "status"]);
    assert_eq!(code, Some(0), "{out}{told}");
    assert!(
        told.contains("n1: run 2") && told.contains(" was stopped: preheat b.tar again to go on, or "),
        "{told}"
    );
    assert_eq!(told.matches("to go on").count() + told.matches("stopped").count(), 2, "{told}");
    let (_, history, _) = world.omk(&["preheat", "history", "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history[0]["runs"][0]["error"], "stopped", "{history}");
    assert!(history[0]["runs"][0]["images_digest"].is_string(), "{history}");
}

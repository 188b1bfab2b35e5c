use insta::assert_snapshot;

use super::super::fixtures;
use super::*;
use crate::store::MemoryStore;

// As Docker 28.5 says it with either store, shortened to what is read.
const HEAD: &str = "==omk machine\nLinux x86_64\n==rc 0\n==omk tar\n/usr/bin/tar\n==rc 0\n==omk program\n/usr/bin/docker\n==rc 0\n\
     ==omk version\n28.5.2+dfsg4\n==rc 0\n";
const CLASSIC: &str = r#"[["Backing Filesystem","tmpfs"],["Supports d_type","true"]]"#;
const CONTAINERD: &str = r#"[["driver-type","io.containerd.snapshotter.v1"]]"#;

fn says(stdout: &str) -> CommandOutput {
    CommandOutput { status: 0, stdout: stdout.into(), stderr: Vec::new() }
}

fn facts(store: &str, images: &str) -> NodeFacts {
    let disk = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 100 50 50 50% /";
    let text = format!(
        "{HEAD}==omk store\n{store}\n==rc 0\n==omk images\n{images}\nError: No such image: x\n==rc 123\n\
         ==omk runtime-space\n{disk}\n==rc 0\n"
    );
    Docker.parse_probe(&says(&text)).unwrap()
}

fn diffs(layers: &[&str]) -> Vec<Digest> {
    layers.iter().map(|l| Digest::sha256(format!("raw {l}").as_bytes())).collect()
}

fn line(id: &Digest, tags: &[&str], digests: &[String], layers: &[&str]) -> String {
    serde_json::json!({"id": id, "tags": tags, "digests": digests, "layers": diffs(layers)}).to_string()
}

#[test]
fn the_classic_store_knows_images_by_config_and_layers_by_chain() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let api = fixtures::image(&store, "api:1", &["base", "api"]);
    let there = line(web.image.config.digest(), &["web:1", "<none>:<none>"], &[], &["base", "web"]);
    let facts = facts(CLASSIC, &there);
    assert_eq!(
        (facts.runtime.as_str(), facts.runtime_disk.as_ref().unwrap().free),
        ("Docker 28.5.2+dfsg4", 51_200)
    );
    assert_eq!(Docker.readiness(&facts, &web), Readiness::Ready(Some(BY_TAG.to_owned())));
    assert_eq!(Docker.has(&facts, &api, &api.image.layers[0]), Some(Have::Unpacked));
    assert_eq!(Docker.has(&facts, &api, &api.image.layers[1]), None);
    assert_eq!(Docker.has(&facts, &web, &web.image.config), None, "an archive always needs it");
    assert!(matches!(Docker.readiness(&facts, &api), Readiness::Missing(why) if why.contains("api:1")));

    let other = line(&Digest::sha256(b"other"), &["web:1"], &[], &["base"]);
    let moved = self::facts(CLASSIC, &other);
    assert!(matches!(Docker.readiness(&moved, &web), Readiness::Missing(why) if why.contains("not sha256:")));
    let mut by_digest = web;
    by_digest.names.remove(0);
    let Readiness::Missing(why) = Docker.readiness(&facts, &by_digest) else { panic!() };
    assert!(why.contains("bundle the image with a tag"), "{why}");
}

#[test]
fn containerds_store_knows_digests_and_is_sent_everything() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let root = web.root.digest();
    let digests = [format!("web@{root}")];
    let facts = facts(CONTAINERD, &line(root, &["web:1"], &digests, &["base", "web"]));
    assert_eq!(Docker.readiness(&facts, &web), Readiness::Ready(None));
    let api = fixtures::image(&store, "api:1", &["base", "api"]);
    assert_eq!(Docker.has(&facts, &api, &api.image.layers[0]), None);
}

#[test]
fn an_import_is_an_archive_without_the_layers_that_are_there() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let facts = facts(CLASSIC, &line(&Digest::sha256(b"x"), &["old:1"], &[], &["base"]));
    let staged: BTreeSet<Digest> = web.blobs.iter().map(|b| b.digest().clone()).collect();
    let job = fixtures::job(&web, &staged, &facts);
    let command = Docker.import(&job);
    assert!(command.root);
    assert_snapshot!("docker_import", command.script);
    let stdin = String::from_utf8(command.stdin).unwrap();
    let lines: Vec<&str> = stdin.lines().collect();
    assert_snapshot!("docker_manifest", lines[1]);
    let path = |b: &Descriptor| b.digest().layout_path();
    let members = [path(&web.image.layers[1]), path(&web.image.config), path(&web.root)];
    assert_eq!(lines[2..5], ["oci-layout", "index.json", "manifest.json"]);
    assert_eq!(lines[5..], members);
}

#[test]
fn answers_are_judged() {
    let out = |status, stdout: &str, stderr: &str| CommandOutput {
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    assert!(Docker.parse_import(&out(0, "==imported\n", "Loaded image: web:1\n")).is_ok());
    assert!(Docker.parse_import(&out(0, "", "")).is_err());
    let d = Digest::sha256(b"x");
    let gone =
        format!("open /var/lib/docker/tmp/docker-import-1/{}: no such file or directory", d.layout_path());
    let failure = Docker.parse_import(&out(1, "", &gone)).unwrap_err();
    assert!(failure.content_missing && failure.damaged == [d]);
    let old = "Error processing tar file(exit status 1): archive/tar: invalid tar header";
    assert!(Docker.parse_import(&out(1, "", old)).unwrap_err().reason.ends_with("does not read zstd layers"));

    let fails = |text: &str| Docker.parse_probe(&says(text)).unwrap_err().to_string();
    let machine = "==omk machine\nLinux x86_64\n==rc 0\n==omk tar\n/bin/tar\n==rc 0\n";
    assert_snapshot!("docker_missing", fails(&format!("{machine}==omk program\n==rc 127\n")));
    let program = "==omk program\n/usr/bin/docker\n==rc 0\n";
    let down =
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
    assert_snapshot!("docker_down", fails(&format!("{machine}{program}==omk version\n{down}\n==rc 1\n")));
    let denied = "permission denied while trying to connect to the Docker daemon socket";
    assert!(
        fails(&format!("{machine}{program}==omk version\n{denied}\n==rc 1\n")).contains("log in as root")
    );
}

//! Every kind of bundle that `Bundle` opens, and what it refuses.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use omk::bundle::{
    Bundle, BundleError, Kind, Opening, Target, To, What, export, extract, verify, verify_opened,
};
use omk::event::silent;
use omk::oci::{Descriptor, Digest, media};
use omk::store::MemoryStore;
use tokio_util::sync::CancellationToken;

use crate::images::{image, index, noise, write_layout};

/// A tar archive of (name, bytes); a name `A -> B` is a symbolic link.
pub(crate) fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in entries {
        let (name, link) = name.split_once(" -> ").map_or((*name, None), |(n, l)| (n, Some(l)));
        let mut header = tar::Header::new_ustar();
        // Past the library's own checks: what it would not write is what is tried.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A layer that a runtime can unpack.
fn layer(seed: u64) -> Vec<u8> {
    tar_of(&[("hello", &noise(seed, 5000))])
}

struct Case {
    folder: tempfile::TempDir,
    root: Descriptor,
}

impl Case {
    /// A layout in `layout`, whose one image is called by the tag `latest` only.
    fn new() -> Self {
        let (store, folder) = (MemoryStore::new(), tempfile::tempdir().unwrap());
        let root = image(&store, "linux/amd64", &[&layer(1), &layer(2)]);
        write_layout(&folder.path().join("layout"), &store, &root);
        Self { folder, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self, name: &str) -> Result<Bundle, BundleError> {
        Opening::new([self.path(name)]).base_name("quay.io/acme/web").open().await
    }

    async fn export(&self, from: &str, target: Target) {
        let bundle = self.open(from).await.unwrap();
        let cancel = CancellationToken::new();
        export(&bundle, bundle.images(), None, target, &silent(), &cancel).await.unwrap();
    }

    /// The layout as `x.tar`, an omk bundle.
    async fn tar(&self) -> Vec<u8> {
        self.export("layout", Target::OciArchive(To::File(self.path("x.tar")))).await;
        std::fs::read(self.path("x.tar")).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn an_image_with_a_tag_only_gets_its_name_from_the_user() {
    let case = Case::new();
    let bundle = Bundle::open(&case.path("layout")).await.unwrap();
    assert_eq!(bundle.unnamed().count(), 1);
    assert_eq!(bundle.images()[0].label(), "unnamed.invalid/layout:latest");
    let named = case.open("layout").await.unwrap();
    assert_eq!(named.images()[0].names, ["quay.io/acme/web:latest"]);
    for (asked, is) in [
        ("quay.io/acme/web", true),
        ("quay.io/acme/web:1", false),
        (format!("quay.io/acme/web@{}", case.root.digest()).as_str(), true),
        (format!("quay.io/acme/web:latest@{}", Digest::sha256(b"other")).as_str(), false),
    ] {
        assert_eq!(named.images()[0].is(&asked.parse().unwrap()), is, "{asked}");
    }
}

#[tokio::test]
async fn a_bundle_is_read_however_it_is_packed() {
    let case = Case::new();
    let tar = case.tar().await;
    case.write("x.tar.gz", &gzip(&tar));
    case.write("x.tar.zst", &zstd::encode_all(&tar[..], 3).unwrap());
    // Two members or frames one after the other, as parallel compressors write.
    let half = tar.len() / 2;
    case.write("two.gz", &[gzip(&tar[..half]), gzip(&tar[half..])].concat());
    let frames = [&tar[..half], &tar[half..]].map(|t| zstd::encode_all(t, 1).unwrap());
    case.write("two.zst", &frames.concat());
    case.export("x.tar", Target::Folder(case.path("folder"))).await;
    for name in ["x.tar", "x.tar.gz", "x.tar.zst", "two.gz", "two.zst", "folder"] {
        let bundle = Bundle::open(&case.path(name)).await.unwrap();
        assert_eq!(bundle.images()[0].graph.root.digest(), case.root.digest(), "{name}");
        assert_eq!(bundle.unnamed().count(), 0, "{name}");
        let report = verify(&case.path(name), &silent(), &CancellationToken::new()).await.unwrap();
        assert!(report.whole() && report.blobs == 4, "{name}: {report:?}");
    }
}

#[tokio::test]
async fn what_goes_into_a_pipe_is_what_goes_into_a_file() {
    let case = Case::new();
    let tar = case.tar().await;
    let out = case.path("piped");
    let file = std::fs::File::create(&out).unwrap();
    case.export("layout", Target::OciArchive(To::Stream(Box::new(file)))).await;
    assert_eq!(std::fs::read(out).unwrap(), tar);
}

/// As docker 24 and skopeo write it: layers by their own names, and links to those that are there already.
fn docker_archive(case: &Case, tag: &str, pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let layers = [layer(1), layer(2)];
    let diffs = layers.iter().map(|l| Digest::sha256(l)).collect::<Vec<_>>();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs},
    })
    .to_string();
    let names = ["aa/layer.tar", "bb/layer.tar"];
    let listing = serde_json::json!([
        {"Config": "config.json", "RepoTags": [tag], "Layers": names},
        {"Config": "config.json", "RepoTags": null, "Layers": ["cc/layer.tar", "bb/layer.tar"]},
    ])
    .to_string();
    let _ = case;
    tar_of(&[
        ("aa/layer.tar", &pack(&layers[0])),
        ("bb/layer.tar", &pack(&layers[1])),
        ("cc/layer.tar -> ../aa/layer.tar", b""),
        ("config.json", config.as_bytes()),
        ("manifest.json", listing.as_bytes()),
        ("repositories", b"{}"),
    ])
}

#[tokio::test]
async fn a_docker_archive_gets_the_manifest_that_containerd_makes() {
    let case = Case::new();
    case.write("plain.tar", &docker_archive(&case, "web:1", <[u8]>::to_vec));
    case.write("packed.tar", &docker_archive(&case, "web:1", gzip));
    case.write("plain.tar.gz", &gzip(&std::fs::read(case.path("plain.tar")).unwrap()));
    for (name, layers) in [
        ("plain.tar", media::DOCKER_LAYER),
        ("packed.tar", media::DOCKER_LAYER_GZIP),
        ("plain.tar.gz", media::DOCKER_LAYER),
    ] {
        let bundle = Bundle::open(&case.path(name)).await.unwrap();
        assert_eq!((bundle.kind(), bundle.images().len()), (Kind::DockerArchive, 1), "{name}");
        let image = &bundle.images()[0];
        assert_eq!(image.names, ["docker.io/library/web:1"]);
        assert_eq!(image.graph.root.media_type(), media::DOCKER_MANIFEST);
        assert!(image.graph.images[0].layers.iter().all(|l| l.media_type() == layers), "{name}");
        let manifest = &image.graph.documents[image.graph.root.digest()];
        let config = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:"#;
        assert!(manifest.starts_with(config.as_bytes()), "{}", String::from_utf8_lossy(manifest));
        let report = verify(&case.path(name), &silent(), &CancellationToken::new()).await.unwrap();
        assert!(report.whole() && report.blobs == 4, "{name}: {report:?}");
    }
    // It becomes a bundle, with the same digest.
    case.export("plain.tar", Target::OciArchive(To::File(case.path("x.tar")))).await;
    let (a, b) = (case.open("plain.tar").await.unwrap(), Bundle::open(&case.path("x.tar")).await.unwrap());
    assert_eq!(a.images()[0].graph.root.digest(), b.images()[0].graph.root.digest());
    // And a docker-archive again.
    case.export("x.tar", Target::DockerArchive(To::File(case.path("d.tar")))).await;
    let again = case.open("d.tar").await.unwrap();
    assert_eq!(again.kind(), Kind::DockerArchive);
    assert_eq!(again.images()[0].graph.root.digest(), a.images()[0].graph.root.digest());
}

#[tokio::test]
async fn a_damaged_layer_of_a_docker_archive_is_named() {
    let case = Case::new();
    let mut tar = docker_archive(&case, "web:1", <[u8]>::to_vec);
    tar[512 + 600] ^= 1;
    case.write("x.tar", &tar);
    let report = verify_opened(&Opening::new([case.path("x.tar")])).await.unwrap();
    let expected = Digest::sha256(&layer(1)).layout_path();
    assert_eq!(report.bad.iter().map(|b| b.entry.as_str()).collect::<Vec<_>>(), [expected]);
}

/// Each is refused, says why, and is told from damage.
#[tokio::test]
async fn hostile_archives_are_refused() {
    let case = Case::new();
    let good = case.tar().await;
    let head = &good[..good.len() - 1024];
    let with = |extra: &[(&str, &[u8])]| [head, &tar_of(extra)].concat();
    let bomb = {
        // 200 MiB of zeros in an entry that the header announces.
        let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_path("blobs/zeros").unwrap();
        header.set_size(200 << 20);
        header.set_cksum();
        packed.write_all(header.as_bytes()).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut packed).unwrap();
        packed.finish().unwrap()
    };
    let config = |layers: &str| {
        let listing = format!(r#"[{{"Config":"config.json","RepoTags":["web:1"],"Layers":{layers}}}]"#);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"diff_ids":["{}"]}}}}"#,
            Digest::sha256(b"x")
        );
        (listing, config)
    };
    let (listing, text) = config(r#"["out/layer.tar"]"#);
    let outside = tar_of(&[
        ("out/layer.tar -> ../../../etc/passwd", b""),
        ("config.json", text.as_bytes()),
        ("manifest.json", listing.as_bytes()),
    ]);
    let round = tar_of(&[
        ("out/layer.tar -> layer.tar", b""),
        ("config.json", text.as_bytes()),
        ("manifest.json", listing.as_bytes()),
    ]);
    let (listing, text) = config("[]");
    let uneven = tar_of(&[("config.json", text.as_bytes()), ("manifest.json", listing.as_bytes())]);
    let mut oversized = tar_of(&[("charts/big", b"x")]);
    oversized[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 = (0..512).map(|i| if (148..156).contains(&i) { 32 } else { u32::from(oversized[i]) }).sum();
    oversized[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let cases: [(&str, Vec<u8>, &str, bool); 13] = [
        ("up.tar", with(&[("charts/../../x", b"x")]), "its path leads out of the archive", true),
        ("link.tar", with(&[("charts/x -> /etc/passwd", b"")]), "no regular file", true),
        ("twice.tar", with(&[("index.json", b"{}")]), "it is there twice", true),
        ("big.tar", [head, &oversized].concat(), "cut off: ", true),
        ("text.tar.gz", gzip(b"#!/bin/sh\n"), "what is in it is no tar archive", false),
        (
            "zeros.tar.zst",
            zstd::encode_all(&[0; 10_000][..], 1).unwrap(),
            "what is in it is no tar archive",
            false,
        ),
        ("cut.tar.gz", gzip(&good)[..2000].to_vec(), "it is cut off", true),
        ("cut.tar.zst", zstd::encode_all(&good[..], 1).unwrap()[..2000].to_vec(), "it is cut off", true),
        ("bomb.tar.zst", bomb, "which no bundle does", false),
        ("outside.tar", outside, "which is not in the archive", false),
        ("round.tar", round, "which is not in the archive", false),
        ("uneven.tar", uneven, "lists 0 layers, config \"config.json\" 1", false),
        ("old.tar", tar_of(&[("repositories", b"{}")]), "a docker older than 1.10", false),
    ];
    for (name, bytes, expected, damage) in cases {
        case.write(name, &bytes);
        let error = Opening::new([case.path(name)]).open().await.expect_err(name);
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(name), "{name}: {text}");
        // A link that leads nowhere is told before anything is looked for.
        assert_eq!(error.is_damage(), damage, "{name}: {text}");
    }
}

#[tokio::test]
async fn a_compressed_bundle_needs_room_and_says_where() {
    let case = Case::new();
    let tar = case.tar().await;
    case.write("x.tar.gz", &gzip(&tar));
    let error = Opening::new([case.path("x.tar.gz")]).spool_folder("/proc/nowhere").open().await.unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    let stopped = CancellationToken::new();
    stopped.cancel();
    let error = Opening::new([case.path("x.tar.gz")]).told(&silent(), &stopped).open().await.unwrap_err();
    assert_eq!(error.to_string(), "cancelled");
}

#[tokio::test]
async fn extracting_writes_images_and_what_is_beside_them() {
    let case = Case::new();
    let good = case.tar().await;
    let chart = noise(9, 3_000_000);
    let long = format!("files/{}/x", "d".repeat(60));
    let extra =
        tar_of(&[("charts/web-1.0.tgz", &chart), (&long, b"long"), ("manifests/a/b.yaml", b"kind: Pod\n")]);
    case.write("full.tar", &[&good[..good.len() - 1024], &extra].concat());
    let bundle = Bundle::open(&case.path("full.tar")).await.unwrap();
    let cancel = CancellationToken::new();
    let all = What { images: true, every_file: true, folders: Vec::new() };
    let done = extract(&bundle, &all, &case.path("out"), &silent(), &cancel).await.unwrap();
    assert_eq!(done.files, ["charts/web-1.0.tgz", &long, "manifests/a/b.yaml"]);
    assert_eq!(std::fs::read(case.path("out/charts/web-1.0.tgz")).unwrap(), chart);
    // It is a bundle again, and has the same files.
    let again = Bundle::open(&case.path("out")).await.unwrap();
    assert_eq!(again.files().unwrap(), bundle.files().unwrap());
    let only = What { folders: vec!["manifests".into()], ..What::default() };
    let done = extract(&again, &only, &case.path("m"), &silent(), &cancel).await.unwrap();
    assert_eq!((done.images, done.files.len()), (0, 1));
    assert!(!case.path("m/oci-layout").exists() && case.path("m/manifests/a/b.yaml").exists());
    let none = What { folders: vec!["nothing".into()], ..What::default() };
    let error = extract(&again, &none, &case.path("n"), &silent(), &cancel).await.unwrap_err();
    assert!(
        error.to_string().contains("has nothing below nothing/; it has charts, files, images"),
        "{error}"
    );
    // What bundles can have and this one has not is told, and the rest is taken.
    let some = What { folders: vec!["manifests".into(), "charts".into()], ..What::default() };
    let some_of = case.path("part");
    let done = extract(&again, &some, &some_of, &silent(), &cancel).await.unwrap();
    assert!(done.absent.is_empty() && done.files.len() == 2, "{done:?}");
    std::fs::remove_dir_all(case.path("out/charts")).unwrap();
    let done = extract(&again, &some, &some_of, &silent(), &cancel).await.unwrap();
    assert_eq!((done.absent, done.files), (vec!["charts".to_owned()], vec!["manifests/a/b.yaml".to_owned()]));
    // A link must not lead the bytes elsewhere.
    std::fs::create_dir(case.path("trap")).unwrap();
    std::os::unix::fs::symlink(case.path("layout"), case.path("trap/manifests")).unwrap();
    let error = extract(&again, &only, &case.path("trap"), &silent(), &cancel).await.unwrap_err();
    assert!(error.to_string().contains("is no folder"), "{error}");
    // Nor is a link in a folder a part of the bundle.
    std::os::unix::fs::symlink("/etc/passwd", case.path("out/files/link")).unwrap();
    assert!(again.files().unwrap_err().to_string().contains("is no regular file"));
}

#[tokio::test]
async fn a_docker_archive_holds_one_platform() {
    let (store, folder) = (MemoryStore::new(), tempfile::tempdir().unwrap());
    let root = index(&store, &["linux/amd64", "linux/arm64"].map(|p| image(&store, p, &[p.as_bytes()])));
    write_layout(&folder.path().join("layout"), &store, &root);
    let bundle = Opening::new([folder.path().join("layout")]).base_name("web").open().await.unwrap();
    let to = |name: &str| Target::DockerArchive(To::File(folder.path().join(name)));
    let cancel = CancellationToken::new();
    let run = async |target, platform: Option<&str>| {
        let platform = platform.map(|p| p.parse().unwrap());
        export(&bundle, bundle.images(), platform.as_ref(), target, &silent(), &cancel).await
    };
    let error = run(to("a.tar"), None).await.unwrap_err();
    assert!(error.to_string().contains("choose it with --platform"), "{error}");
    let error = run(to("a.tar"), Some("linux/s390x")).await.unwrap_err();
    assert!(error.to_string().contains("it has linux/amd64, linux/arm64"), "{error}");
    // The second time it replaces the first, and nothing that is a bundle's place.
    for _ in 0..2 {
        assert_eq!(run(to("a.tar"), Some("linux/arm64")).await.unwrap().blobs, 2);
    }
    let oci = Target::OciArchive(To::File(folder.path().join("a.tar")));
    let error = run(oci, None).await.unwrap_err();
    assert!(error.to_string().contains("is a docker-archive and no bundle"), "{error}");
    std::fs::write(folder.path().join("other.tar"), tar_of(&[("diary", b"mine")])).unwrap();
    let error = run(to("other.tar"), Some("linux/arm64")).await.unwrap_err();
    assert!(error.to_string().contains("is a tar archive of something else"), "{error}");
    // Whatever else is called manifest.json is somebody's: what `docker save` writes, what a browser loads.
    let (config, layer) = (format!("blobs/sha256/{:064x}", 1), format!("blobs/sha256/{:064x}", 2));
    let listing = |config: &str, layer: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["web:1"],"Layers":["{layer}"]}}]"#).into_bytes()
    };
    let (ours, old) = (listing(&config, &layer), listing("1.json", "2/layer.tar"));
    let more = String::from_utf8(ours.clone()).unwrap().replace("}]", r#","LayerSources":{}}]"#).into_bytes();
    let (config, layer) = (config.as_str(), layer.as_str());
    let saved = "is a docker-archive that omk did not write";
    for (entries, is) in [
        (
            vec![("manifest.json", b"{\"manifest_version\":3}".as_slice())],
            "is a tar archive of something else",
        ),
        (vec![("manifest.json", b"[]")], "is a tar archive of something else"),
        (vec![("manifest.json", &old), ("1.json", b"{}"), ("2/layer.tar", b"")], saved),
        (vec![("manifest.json", &more), (config, b"{}"), (layer, b"")], saved),
        (vec![("manifest.json", &ours), (config, b"{}")], saved),
        (vec![("manifest.json", &ours), (config, b"{}"), (layer, b""), ("repositories", b"{}")], saved),
        (
            vec![("manifest.json", &ours), ("oci-layout", b"{}"), ("repositories", b"{}")],
            "is a file of `docker save`",
        ),
    ] {
        let bytes = tar_of(&entries);
        std::fs::write(folder.path().join("other.tar"), &bytes).unwrap();
        let error = run(to("other.tar"), Some("linux/arm64")).await.unwrap_err().to_string();
        assert!(error.contains(is) && error.contains("other.tar"), "{error}");
        assert_eq!(std::fs::read(folder.path().join("other.tar")).unwrap(), bytes);
        let images = !is.contains("something else");
        assert_eq!(omk::bundle::is_bundle(&folder.path().join("other.tar")), images, "{is}");
    }
    let oci = Target::OciArchive(To::File(folder.path().join("o.tar")));
    assert_eq!(run(oci, Some("linux/arm64")).await.unwrap().blobs, 4, "the index keeps its digest");
    let read = Bundle::open(&folder.path().join("o.tar")).await.unwrap();
    assert_eq!(read.images()[0].graph.root.digest(), root.digest());
    assert_eq!(read.images()[0].graph.images.len(), 1);
}

fn have(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &&&str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing: Vec<&&str> = tools.iter().filter(|t| !there(t)).collect();
    let must = std::env::var_os("OMK_REQUIRE_LAB").is_some_and(|v| v == "1");
    assert!(missing.is_empty() || !must, "these are required: {missing:?}");
    if !missing.is_empty() {
        eprintln!("SKIPPED: not installed: {missing:?}");
    }
    missing.is_empty()
}

fn run(program: &str, args: &[&str], folder: &Path) -> String {
    let mut command = Command::new(program);
    let output = command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Back and forth with the tools that people have.
#[tokio::test(flavor = "multi_thread")]
async fn skopeo_and_podman_read_what_is_exported_and_are_read() {
    if !have(&["skopeo", "podman"]) {
        return;
    }
    let case = Case::new();
    let folder = case.folder.path();
    let digest = case.root.digest().to_string();
    case.tar().await;
    case.export("x.tar", Target::Folder(case.path("f"))).await;
    case.export("x.tar", Target::DockerArchive(To::File(case.path("d.tar")))).await;
    let name = "quay.io/acme/web:latest";
    for from in [format!("oci-archive:x.tar:{name}"), format!("oci:f:{name}")] {
        let inspected = run("skopeo", &["inspect", "--format", "{{.Digest}}", &from], folder);
        assert_eq!(inspected.trim(), digest, "{from}");
    }
    let config = |from: &str| run("skopeo", &["inspect", "--config", "--raw", from], folder);
    assert_eq!(config(&format!("docker-archive:d.tar:{name}")), config(&format!("oci:f:{name}")));
    for (target, kind) in [
        ("oci-archive:s1.tar:quay.io/acme/web:2", Kind::Tar),
        ("docker-archive:s2.tar:quay.io/acme/web:2", Kind::DockerArchive),
        ("oci:s3:quay.io/acme/web:2", Kind::Folder),
    ] {
        run("skopeo", &["copy", "-q", &format!("oci:f:{name}"), target], folder);
        let path = case.path(target.split(':').nth(1).unwrap());
        let bundle = Bundle::open(&path).await.unwrap();
        assert_eq!((bundle.kind(), bundle.images()[0].names[0].as_str()), (kind, "quay.io/acme/web:2"));
        assert!(verify(&path, &silent(), &CancellationToken::new()).await.unwrap().whole(), "{target}");
    }
    let podman = |args: &[&str]| {
        let stores = ["--root", "p/root", "--runroot", "p/run", "--storage-driver", "vfs"];
        run("podman", &[&stores[..], args].concat(), folder)
    };
    for archive in ["x.tar", "d.tar"] {
        let loaded = podman(&["load", "-q", "-i", archive]);
        assert!(loaded.contains(name), "{archive}: {loaded}");
        podman(&["save", "-q", "--format", "oci-archive", "-o", "back.tar", name]);
        podman(&["save", "-q", "--format", "docker-archive", "-o", "back-d.tar", name]);
        podman(&["rmi", "-f", name]);
        for saved in ["back.tar", "back-d.tar"] {
            let bundle = Bundle::open(&case.path(saved)).await.unwrap();
            assert_eq!(bundle.images()[0].names, [name], "{archive} {saved}");
            std::fs::remove_file(case.path(saved)).unwrap();
        }
    }
}

//! Signatures, attestations and SBOMs travel with the images that they are about.

use std::path::Path;
use std::sync::Arc;

use omk::bundle::{BuildReport, BuildRequest, Bundle, Form, MergeRequest, build, merge};
use omk::event::silent;
use omk::oci::{Descriptor, Digest, ImageRef, media};
use omk::registry::{PushImage, PushOptions, Registry, RegistryOptions, push};
use omk::serve::{Catalog, ServeOptions, Server};
use omk::store::{BlobSource, MemoryStore};
use tokio_util::sync::CancellationToken;

use crate::images::{image, noise};
use crate::registry_real::{Kind, Real, omk, required, run, said};

/// An artifact about something.
fn artifact(store: &MemoryStore, subject: Option<&Descriptor>, content: &str) -> Descriptor {
    let config = store.insert("application/vnd.oci.empty.v1+json", "{}");
    let layer = store.insert("application/vnd.dev.cosign.simplesigning.v1+json", content.to_owned());
    let mut manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "application/x-signature",
        "config": config, "layers": [layer],
    });
    if let Some(subject) = subject {
        manifest["subject"] = serde_json::to_value(subject).unwrap();
    }
    store.insert(media::OCI_MANIFEST, manifest.to_string())
}

struct World {
    store: MemoryStore,
    root: Descriptor,
    catalog: Catalog,
    server: Server,
}

impl World {
    async fn new() -> Self {
        let (store, catalog) = (MemoryStore::new(), Catalog::new());
        let root = image(&store, "linux/amd64", &[&noise(1, 5_000)]);
        let root = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
        catalog.tag("lab/web", "1", root.clone());
        let server =
            Server::bind("127.0.0.1:0", Arc::new(store.clone()), catalog.clone(), ServeOptions::default());
        let server = server.await.unwrap();
        Self { store, root, catalog, server }
    }

    fn name(&self) -> ImageRef {
        format!("{}/lab/web:1", self.server.addr()).parse().unwrap()
    }
}

fn client(plain: &[String]) -> Registry {
    let options =
        RegistryOptions { plain_http: plain.to_vec(), with_referrers: true, ..RegistryOptions::default() };
    Registry::new(options).unwrap()
}

async fn built(name: &ImageRef, output: &Path) -> Result<BuildReport, String> {
    let request = BuildRequest {
        images: vec![name.clone()],
        optional: Vec::new(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        output: output.to_owned(),
        form: Form::Tar,
        parallel: 2,
        groups: std::collections::BTreeMap::new(),
        artifacts: Vec::new(),
        base: None,
    };
    let registry = client(&[name.registry().to_owned()]);
    build(&request, &registry, &silent(), &CancellationToken::new()).await.map_err(|e| e.to_string())
}

fn tag(of: &Descriptor, end: &str) -> String {
    format!("{}{end}", of.digest().to_string().replace(':', "-"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_lists_is_carried_pushed_and_found_again() {
    if !required() {
        return;
    }
    let world = World::new().await;
    let sbom = artifact(&world.store, Some(&world.root), "sbom");
    let signed = artifact(&world.store, Some(&sbom), "signature of the sbom");
    world.catalog.refer("lab/web", world.root.digest(), sbom.clone());
    world.catalog.refer("lab/web", sbom.digest(), signed.clone());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.tar");
    assert_eq!(built(&world.name(), &path).await.unwrap().referrers, 2);
    let bundle = Bundle::open(&path).await.unwrap();
    assert_eq!((bundle.images().len(), bundle.referrers().len()), (1, 2), "what is no image is kept apart");
    assert!(bundle.needed().contains_key(signed.digest()));

    // A merged bundle has them too.
    let merged = folder.path().join("merged.tar");
    let request =
        MergeRequest { bundles: vec![bundle.clone()], output: merged.clone(), form: Form::Tar, parallel: 2 };
    merge(request, &silent(), &CancellationToken::new()).await.unwrap();
    assert_eq!(std::fs::read(&merged).unwrap(), std::fs::read(&path).unwrap(), "the same bytes");

    // A registry without the API: the tag that stands in for it is written, and read again.
    let real = Real::start(&Kind::Plain);
    let source: Arc<dyn BlobSource> = Arc::new(bundle.clone());
    let names = bundle.images().iter().map(|i| (i.names[0].parse().unwrap(), &i.graph));
    let names: Vec<(ImageRef, _)> =
        names.chain(bundle.referrers().iter().map(|r| (r.name.clone(), &r.graph))).collect();
    let image = |(image, graph): &(ImageRef, &omk::graph::ImageGraph)| {
        let end = image.tag().map_or(format!("@{}", graph.root.digest()), |t| format!(":{t}"));
        PushImage {
            name: image.to_string(),
            target: format!("{}/p/web{end}", real.address).parse().unwrap(),
            graph: Arc::new((*graph).clone()),
            source: Arc::clone(&source),
            absent: Arc::default(),
        }
    };
    let images: Vec<PushImage> = names.iter().map(image).collect();
    let registry = client(&[real.address.to_string()]);
    for _ in 0..2 {
        let cancel = CancellationToken::new();
        let report = push(&images, &registry, PushOptions::default(), &silent(), &cancel).await.unwrap();
        assert!(report.failed.is_empty(), "{report:?}");
    }
    let listed = format!("docker://{}/p/web:{}", real.address, tag(&world.root, ""));
    let index = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &listed]);
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
    assert_eq!(index["manifests"][0]["digest"], sbom.digest().to_string());
    let again = folder.path().join("again.tar");
    let name: ImageRef = format!("{}/p/web:1", real.address).parse().unwrap();
    assert!(built(&name, &again).await.unwrap().referrers >= 2);
    let again = Bundle::open(&again).await.unwrap().needed();
    assert!(again.contains_key(sbom.digest()) && again.contains_key(signed.digest()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cosigns_tags_and_buildkits_entries_are_found() {
    let world = World::new().await;
    let signature = artifact(&world.store, None, "signature");
    world.catalog.tag("lab/web", &tag(&world.root, ".sig"), signature.clone());
    let attestation = artifact(&world.store, None, "attestation");
    let about = world.root.digest().to_string();
    let kind =
        [("vnd.docker.reference.type", "attestation-manifest"), ("vnd.docker.reference.digest", &about)];
    let child = world.root.clone().with_platform(&"linux/amd64".parse().unwrap());
    let entries = [child, attestation.clone().with_annotations(kind)];
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    let index = world.store.insert(media::OCI_INDEX, index.to_string());
    world.catalog.tag("lab/web", "1", index);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.tar");
    assert_eq!(built(&world.name(), &path).await.unwrap().referrers, 2);
    let needed = Bundle::open(&path).await.unwrap().needed();
    let by_command = folder.path().join("command.tar");
    let (name, host) = (world.name().to_string(), world.name().registry().to_owned());
    let at = by_command.display().to_string();
    let build = ["bundle", "build", "--image", &name, "-o", &at, "--plain-http", &host, "--with-referrers"];
    let done = omk(folder.path(), &build, "");
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(std::fs::read(&by_command).unwrap(), std::fs::read(&path).unwrap(), "the same bytes");
    assert!(needed.contains_key(signature.digest()) && needed.contains_key(attestation.digest()));
}

/// The cache has them too, and a lock pins them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_kept_in_the_cache_and_locked() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (name, host) = (world.name().to_string(), world.name().registry().to_owned());
    let omk = |args: &[&str], code: i32| {
        let done = omk(folder.path(), &[args, &["--plain-http", &host]].concat(), "");
        assert_eq!(done.status.code(), Some(code), "{args:?}: {}", said(&done));
        said(&done)
    };
    let path = |name: &str| folder.path().join(name).display().to_string();
    let same = |a: &str, b: &str| std::fs::read(path(a)).unwrap() == std::fs::read(path(b)).unwrap();
    let build = ["bundle", "build", "--image", &name, "--with-referrers"];
    let sbom = artifact(&world.store, Some(&world.root), "sbom");
    world.catalog.refer("lab/web", world.root.digest(), sbom.clone());
    world.catalog.tag("lab/web", &tag(&sbom, ".sig"), artifact(&world.store, None, "signature of the sbom"));
    omk(&["image", "pull", &name], 0);
    let text = omk(&[&build[..], &["--offline", "-o", &path("x.tar")]].concat(), 1);
    assert!(text.contains("omk image pull --with-referrers --platform linux/amd64"), "{text}");
    let text = omk(&["image", "pull", "--with-referrers", &name], 0);
    assert!(text.contains("with 2 artifacts about it"), "{text}");
    omk(&[&build[..], &["--cache=off", "-o", &path("online.tar")]].concat(), 0);

    let definition = path("bundle.yaml");
    let spec = format!("spec: {{images: ['{name}'], referrers: true}}");
    std::fs::write(
        &definition,
        format!("apiVersion: omk/v1\nkind: Bundle\nmetadata: {{name: web}}\n{spec}\n"),
    )
    .unwrap();
    omk(&["bundle", "lock", &definition], 0);
    let locked = ["bundle", "build", &definition, "--locked"];
    omk(&[&locked[..], &["--cache=off", "-o", &path("locked.tar")]].concat(), 0);
    world.catalog.refer(
        "lab/web",
        world.root.digest(),
        artifact(&world.store, Some(&world.root), "a later one"),
    );
    omk(&[&locked[..], &["--cache=off", "-o", &path("again.tar")]].concat(), 0);
    assert!(same("locked.tar", "again.tar"), "what came later is not taken");

    // A clean-up keeps them, a check sees them, and a pull mends them.
    omk_plain(folder.path(), &["cache", "gc", "--grace", "0s"], 0);
    let layer = folder.path().join(".cache/omk/images").join(Digest::sha256(b"sbom").layout_path());
    std::fs::write(&layer, "SBOM").unwrap();
    let text = omk_plain(folder.path(), &["cache", "verify"], 6);
    assert!(text.contains(&name), "{text}");
    omk(&["image", "pull", &name], 0);
    omk_plain(folder.path(), &["cache", "verify"], 0);

    // Without a registry; the later one came with the mending.
    world.server.shutdown().await;
    omk(&[&locked[..], &["--offline", "-o", &path("offline.tar")]].concat(), 0);
    assert!(same("locked.tar", "offline.tar"));
    omk(&[&build[..], &["--offline", "-o", &path("x.tar")]].concat(), 0);
    let bundle = Bundle::open(path("x.tar").as_ref()).await.unwrap();
    assert_eq!(bundle.referrers().len(), 3);
    omk_plain(folder.path(), &["image", "remove", &name], 0);
    omk_plain(folder.path(), &["cache", "gc", "--grace", "0s"], 0);
    assert!(!layer.exists());
}

fn omk_plain(home: &Path, args: &[&str], code: i32) -> String {
    let done = omk(home, args, "");
    assert_eq!(done.status.code(), Some(code), "{args:?}: {}", said(&done));
    said(&done)
}

#[tokio::test]
async fn one_that_is_listed_and_lost_is_an_error() {
    let world = World::new().await;
    let lost = Descriptor::new(media::OCI_MANIFEST, Digest::sha256(b"lost"), 4);
    world.catalog.refer("lab/web", world.root.digest(), lost.clone());
    let folder = tempfile::tempdir().unwrap();
    let error = built(&world.name(), &folder.path().join("web.tar")).await.unwrap_err();
    assert!(error.contains("what refers to") && error.contains(&lost.digest().to_string()), "{error}");

    // The same behind a tag that need not be there.
    let world = World::new().await;
    let listed = crate::images::index(&world.store, std::slice::from_ref(&lost));
    world.catalog.tag("lab/web", &tag(&world.root, ".att"), listed);
    let error = built(&world.name(), &folder.path().join("web.tar")).await.unwrap_err();
    assert!(error.contains(&lost.digest().to_string()), "{error}");
}

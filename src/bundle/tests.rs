use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::event::{Events, silent};
use crate::graph::{Step, Walk};
use crate::oci::{Descriptor, Digest, ImageRef, Platform, media};
use crate::store::{BlobSource, MemoryStore};

/// Images in memory by name.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) store: MemoryStore,
    pub(super) roots: std::collections::BTreeMap<String, Descriptor>,
    /// The registry has lost this one.
    pub(super) gone: Option<Digest>,
    /// Resolving waits until every build that takes part is at it.
    pub(super) together: Option<Arc<tokio::sync::Barrier>>,
}

#[async_trait]
impl Upstream for Fake {
    async fn graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        _: &Events,
        _: &CancellationToken,
    ) -> Result<ImageGraph, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(barrier) = &self.together {
            barrier.wait().await;
        }
        let name = image.familiar();
        let root = self.roots.get(&name).ok_or_else(|| format!("{name} is nowhere"))?;
        let mut walk = Walk::new(image.clone(), root.clone(), platforms);
        loop {
            match walk.step()? {
                Step::Done(graph) => return Ok(*graph),
                Step::Need(need) => {
                    need.iter().for_each(|d| walk.give(d.digest(), self.store.get(d.digest()).unwrap()));
                }
            }
        }
    }

    fn blobs(&self, _: &ImageRef, _: &Events) -> Arc<dyn BlobSource> {
        let left = MemoryStore::new();
        for digest in self.store.digests().into_iter().filter(|d| Some(d) != self.gone.as_ref()) {
            left.insert("", self.store.get(&digest).unwrap());
        }
        Arc::new(left)
    }
}

impl Fake {
    pub(super) fn manifest(&self, arch: &str, layers: &[&str]) -> Descriptor {
        let diffs: Vec<Digest> = layers.iter().map(|l| Digest::sha256(l.as_bytes())).collect();
        let config = serde_json::json!({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = self.store.insert(media::OCI_CONFIG, config.to_string());
        let layers: Vec<Descriptor> =
            layers.iter().map(|l| self.store.insert(media::OCI_LAYER, (*l).to_owned())).collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.store.insert(media::OCI_MANIFEST, manifest.to_string())
    }

    pub(super) fn standard() -> Self {
        let mut fake = Self::default();
        let web = fake.manifest("amd64", &["base", "web"]);
        let amd = fake.manifest("amd64", &["base", "tool"]).with_platform(&"linux/amd64".parse().unwrap());
        let arm = fake.manifest("arm64", &["arm"]).with_platform(&"linux/arm64".parse().unwrap());
        let tool = serde_json::json!({"schemaVersion": 2, "manifests": [amd, arm]});
        let tool = fake.store.insert(media::OCI_INDEX, tool.to_string());
        fake.roots =
            [("web:1".to_owned(), web.clone()), ("web:stable".to_owned(), web), ("tool:2".to_owned(), tool)]
                .into();
        fake
    }

    pub(super) async fn build(
        &self,
        images: &[&str],
        output: &Path,
        form: Form,
    ) -> Result<BuildReport, BuildError> {
        self.run(images, output, form, 4).await
    }

    /// A file whose blobs come one after the other, the largest first.
    pub(super) async fn build_one_by_one(
        &self,
        images: &[&str],
        output: &Path,
    ) -> Result<BuildReport, BuildError> {
        self.run(images, output, Form::Tar, 1).await
    }

    async fn run(
        &self,
        images: &[&str],
        output: &Path,
        form: Form,
        parallel: usize,
    ) -> Result<BuildReport, BuildError> {
        let request = BuildRequest {
            optional: Vec::new(),
            images: images.iter().map(|i| i.parse().unwrap()).collect(),
            platforms: vec![Platform::linux_amd64()],
            output: output.to_owned(),
            form,
            parallel,
            groups: std::collections::BTreeMap::new(),
            artifacts: Vec::new(),
            base: None,
        };
        build(&request, self, &silent(), &CancellationToken::new()).await
    }
}

pub(super) async fn check(path: &Path) -> Result<VerifyReport, BundleError> {
    verify(path, &silent(), &CancellationToken::new()).await
}

#[tokio::test]
async fn same_input_same_bytes_whatever_the_order() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
    fake.build(&["web:1", "tool:2"], &a, Form::Tar).await.unwrap();
    fake.build(&["tool:2", "web:1", "web:1"], &b, Form::Tar).await.unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
}

#[tokio::test]
async fn names_are_those_that_cri_looks_for_and_the_index_digest_stays() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let root = fake.roots["tool:2"].digest().clone();
    for (form, name) in [(Form::Tar, "x.tar"), (Form::Folder, "x")] {
        let out = dir.path().join(name);
        let report = fake.build(&["tool:2", "web:1", "web:stable"], &out, form).await.unwrap();
        assert_eq!(report.images.len(), 3);
        let bundle = Bundle::open(&out).await.unwrap();
        let tool = bundle.images().iter().find(|i| i.graph.root.digest() == &root).unwrap();
        assert_eq!(
            tool.names,
            ["docker.io/library/tool:2".to_owned(), format!("docker.io/library/tool@{root}")]
        );
        assert_eq!(tool.graph.images.len(), 1, "one platform was taken");
        let web = bundle.images().iter().find(|i| i.graph.root.digest() != &root).unwrap();
        assert_eq!(web.names.len(), 3, "{:?}", web.names);
        assert_eq!(bundle.platforms(), [Platform::linux_amd64()]);
        assert!(check(&out).await.unwrap().whole());
    }
}

#[tokio::test]
async fn each_bad_blob_is_named_with_the_image_that_needs_it() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x.tar");
    fake.build(&["web:1", "tool:2"], &out, Form::Tar).await.unwrap();
    let mut bytes = std::fs::read(&out).unwrap();
    for layer in ["web", "tool"] {
        let path = Digest::sha256(layer.as_bytes()).layout_path();
        let at = bytes.windows(path.len()).rposition(|w| w == path.as_bytes()).unwrap();
        bytes[at + 512] ^= 1;
    }
    std::fs::write(&out, &bytes).unwrap();
    let report = check(&out).await.unwrap();
    let named: Vec<&str> = report.bad.iter().map(|b| b.entry.as_str()).collect();
    let mut expected = ["web", "tool"].map(|l| Digest::sha256(l.as_bytes()).layout_path());
    expected.sort();
    assert_eq!(named, expected);
    assert!(report.bad.iter().any(|b| b.reason.contains("needed by docker.io/library/web:1")), "{report:?}");
}

#[tokio::test]
async fn what_images_share_is_held_once() {
    let (mut fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let web = fake.store.get(fake.roots["web:1"].digest()).unwrap();
    let mut twin: serde_json::Value = serde_json::from_slice(&web).unwrap();
    twin["annotations"] = serde_json::json!({"is": "another manifest of the same config"});
    fake.roots.insert("twin:1".into(), fake.store.insert(media::OCI_MANIFEST, twin.to_string()));
    let out = dir.path().join("b.tar");
    fake.build(&["web:1", "twin:1"], &out, Form::Tar).await.unwrap();
    let bundle = Bundle::open(&out).await.unwrap();
    let held = |i: usize| {
        let graph = &bundle.images()[i].graph;
        (graph.root.digest().clone(), graph.documents[graph.images[0].config.digest()].as_ptr())
    };
    assert!(held(0).0 != held(1).0 && held(0).1 == held(1).1);
}

#[tokio::test]
async fn a_folder_that_was_damaged_is_whole_when_it_is_built_again() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("bundle");
    fake.build(&["web:1"], &out, Form::Folder).await.unwrap();
    let layer = Bundle::open(&out).await.unwrap().images()[0].graph.images[0].layers[0].clone();
    let path = out.join(layer.digest().layout_path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(!check(&out).await.unwrap().whole());
    let again = fake.build(&["web:1"], &out, Form::Folder).await.unwrap();
    assert_eq!(again.fetched, layer.size());
    assert!(check(&out).await.unwrap().whole());
}

#[tokio::test]
async fn a_cut_bundle_is_refused_and_a_damaged_document_too() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x.tar");
    fake.build(&["web:1"], &out, Form::Tar).await.unwrap();
    let whole = std::fs::read(&out).unwrap();
    std::fs::write(&out, &whole[..whole.len() - 1536]).unwrap();
    let error = Bundle::open(&out).await.unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("blobs/sha256/"), "{error}");
    assert!(!check(&out).await.unwrap().whole());

    let manifest = fake.roots["web:1"].digest().layout_path();
    let at = whole.windows(manifest.len()).rposition(|w| w == manifest.as_bytes()).unwrap();
    let mut broken = whole.clone();
    broken[at + 512 + 5] ^= 1;
    std::fs::write(&out, &broken).unwrap();
    let error = Bundle::open(&out).await.unwrap_err();
    assert!(error.is_damage() && error.to_string().contains(fake.roots["web:1"].digest().hex()), "{error}");
}

#[tokio::test]
async fn images_that_cannot_be_had_are_all_named_and_nothing_is_written() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let error =
        fake.build(&["web:1", "gone:1", "lost:2"], &dir.path().join("x.tar"), Form::Tar).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("2 of 3 images") && text.contains("gone:1") && text.contains("lost:2"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn one_name_for_two_images_is_refused() {
    let (mut fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let pinned = format!("web:1@{}", fake.roots["tool:2"].digest());
    fake.roots.insert(pinned.clone(), fake.roots["tool:2"].clone());
    let error = fake.build(&["web:1", &pinned], &dir.path().join("x.tar"), Form::Tar).await.unwrap_err();
    assert!(matches!(error, BuildError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_is_something_else_is_left_alone() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    let error = fake.build(&["web:1"], dir.path(), Form::Folder).await.unwrap_err();
    assert!(matches!(error, BuildError::Output { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_bundle_cut_anywhere_is_damaged() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x.tar");
    fake.build(&["web:1", "tool:2"], &out, Form::Tar).await.unwrap();
    let whole = std::fs::read(&out).unwrap();
    let entries = whole.len() - 1024;
    for cut in (512..entries).step_by(256) {
        std::fs::write(&out, &whole[..cut]).unwrap();
        let error = Bundle::open(&out).await.expect_err(&format!("cut at {cut}"));
        assert!(error.is_damage(), "cut at {cut}: {error}");
        match check(&out).await {
            Ok(report) => assert!(!report.whole(), "cut at {cut}"),
            Err(error) => assert!(error.is_damage(), "cut at {cut}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_name_that_promises_another_digest_is_refused() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x");
    fake.build(&["web:1"], &out, Form::Folder).await.unwrap();
    let index = std::fs::read_to_string(out.join("index.json")).unwrap();
    let (own, other) = (fake.roots["web:1"].digest().to_string(), fake.roots["tool:2"].digest().to_string());
    for bad in [format!("web@{other}"), "web:1\\u001b[2J".to_owned(), "--all".to_owned()] {
        std::fs::write(out.join("index.json"), index.replace(&format!("docker.io/library/web@{own}"), &bad))
            .unwrap();
        let error = Bundle::open(&out).await.expect_err(&bad);
        assert!(matches!(error, BundleError::NotBundle { .. }), "{error}");
    }
}

#[tokio::test]
async fn optional_images_that_cannot_be_had_are_left_out_and_needed_ones_are_not() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let request = |images: &[&str], optional: &[&str]| BuildRequest {
        images: images.iter().map(|i| i.parse().unwrap()).collect(),
        optional: optional.iter().map(|i| i.parse().unwrap()).collect(),
        platforms: vec![Platform::linux_amd64()],
        output: dir.path().join("x.tar"),
        form: Form::Tar,
        parallel: 1,
        groups: std::collections::BTreeMap::new(),
        artifacts: Vec::new(),
        base: None,
    };
    let run = async |request| build(&request, &fake, &silent(), &CancellationToken::new()).await;
    let report = run(request(&["web:1"], &["tool:2", "gone:1"])).await.unwrap();
    assert_eq!(report.images.len(), 2);
    assert_eq!(report.left_out.iter().map(|l| l.image.familiar()).collect::<Vec<_>>(), ["gone:1"]);
    for (images, optional) in [(&["web:1", "gone:1"][..], &["gone:1"][..]), (&[], &["gone:1"])] {
        let error = run(request(images, optional)).await.unwrap_err();
        assert!(matches!(error, BuildError::Images { .. }), "{error}");
    }
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::bundle::{BuildRequest, Bundle, Form, INDEX_FILE, Upstream, build};
use crate::event::{Events, silent};
use crate::graph::{ImageGraph, Step, Walk};
use crate::oci::{Descriptor, Digest, Platform, media};
use crate::store::{BlobSource, ByteStream, MemoryStore, read_verified};

/// A registry in memory that counts what it is asked for.
#[derive(Clone, Default)]
struct Fake {
    store: MemoryStore,
    tags: BTreeMap<String, Descriptor>,
    plain: bool,
    heads: Arc<AtomicUsize>,
    graphs: Arc<AtomicUsize>,
    blobs: Arc<AtomicUsize>,
}

impl Fake {
    fn image(&self, platform: &str, layers: &[&str]) -> Descriptor {
        let platform: Platform = platform.parse().unwrap();
        let layers: Vec<Descriptor> =
            layers.iter().map(|l| self.store.insert(media::OCI_LAYER, (*l).to_owned())).collect();
        let diffs: Vec<&Digest> = layers.iter().map(Descriptor::digest).collect();
        let config = serde_json::json!({"os": platform.os(), "architecture": platform.architecture(), "rootfs": {"diff_ids": diffs}});
        let config = self.store.insert(media::OCI_CONFIG, config.to_string());
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.store.insert(media::OCI_MANIFEST, manifest.to_string()).with_platform(&platform)
    }

    fn index(&self, images: &[Descriptor]) -> Descriptor {
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": images});
        self.store.insert(media::OCI_INDEX, index.to_string())
    }

    /// `web:1` and `web:2` share a base; `multi:1` is for two platforms.
    fn standard() -> Self {
        let mut fake = Self::default();
        let web1 = fake.image("linux/amd64", &["base", "web one"]);
        let web2 = fake.image("linux/amd64", &["base", "web two, longer"]);
        let multi = [fake.image("linux/amd64", &["amd"]), fake.image("linux/arm64", &["arm"])];
        let multi = fake.index(&multi);
        for (name, root) in [("web:1", web1), ("web:2", web2), ("multi:1", multi)] {
            fake.tags.insert(format!("reg.io/{name}"), root);
        }
        fake
    }

    fn asked(&self) -> (usize, usize, usize) {
        let get = |n: &AtomicUsize| n.swap(0, Ordering::Relaxed);
        (get(&self.heads), get(&self.graphs), get(&self.blobs))
    }

    fn root(&self, image: &ImageRef) -> Result<Descriptor, Box<dyn std::error::Error + Send + Sync>> {
        let root = match image.digest() {
            Some(digest) => self.tags.values().find(|r| r.digest() == digest),
            None => self.tags.get(&image.to_string()),
        };
        root.cloned().ok_or_else(|| format!("{image} is not in the registry").into())
    }
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
        self.graphs.fetch_add(1, Ordering::Relaxed);
        let root = self.root(image)?;
        let root = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
        let mut walk = Walk::new(image.clone(), root, platforms);
        loop {
            match walk.step()? {
                Step::Done(graph) => return Ok(*graph),
                Step::Need(all) => {
                    all.iter().for_each(|d| walk.give(d.digest(), self.store.get(d.digest()).unwrap()));
                }
            }
        }
    }

    fn blobs(&self, _: &ImageRef, _: &Events) -> Arc<dyn BlobSource> {
        Arc::new(self.clone())
    }

    fn is_plain(&self, _: &str) -> bool {
        self.plain
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        _: &Events,
        _: &CancellationToken,
    ) -> Result<Descriptor, Box<dyn std::error::Error + Send + Sync>> {
        self.heads.fetch_add(1, Ordering::Relaxed);
        self.root(image)
    }
}

#[async_trait]
impl BlobSource for Fake {
    fn label(&self) -> String {
        "the fake".to_owned()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.store.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: std::ops::Range<u64>) -> Result<ByteStream, StoreError> {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.store.read(blob, range).await
    }
}

struct World {
    folder: tempfile::TempDir,
    cache: ImageCache,
    fake: Fake,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            cache: ImageCache::new(folder.path().join("home/cache/images")),
            folder,
            fake: Fake::standard(),
        }
    }

    async fn pull_for(&self, names: &[&str], platforms: &[&str]) -> PullReport {
        let request = PullRequest {
            images: names.iter().map(|n| name(n)).collect(),
            platforms: platforms.iter().map(|p| p.parse().unwrap()).collect(),
            parallel: 3,
            with_referrers: false,
        };
        self.cache.pull(&request, &self.fake, &silent(), &CancellationToken::new()).await.unwrap()
    }

    async fn pull(&self, names: &[&str]) -> PullReport {
        self.pull_for(names, &["linux/amd64"]).await
    }

    async fn verify(&self) -> VerifyReport {
        self.cache.verify(&[], &silent(), &CancellationToken::new()).await.unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.cache.list().unwrap().iter().map(|i| i.image.to_string()).collect()
    }

    fn blob(&self, content: &str) -> PathBuf {
        self.cache.blob_path(&Digest::sha256(content.as_bytes()))
    }

    /// As if everything had been done so long ago.
    fn age(&self, by: Duration) {
        fn walk(folder: &Path, then: SystemTime) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, then);
                } else {
                    std::fs::File::open(&path).unwrap().set_modified(then).unwrap();
                }
            }
        }
        let then = SystemTime::now() - by;
        ["blobs", "manifests", "partial", "metadata"]
            .iter()
            .map(|f| self.cache.root.join(f))
            .filter(|f| f.is_dir())
            .for_each(|f| walk(&f, then));
    }

    async fn build(&self, names: &[&str], upstream: &dyn Upstream, out: &str) -> Result<u64, String> {
        let request = BuildRequest {
            images: names.iter().map(|n| name(n)).collect(),
            optional: Vec::new(),
            platforms: vec!["linux/amd64".parse().unwrap()],
            output: self.folder.path().join(out),
            form: Form::Tar,
            parallel: 2,
            groups: std::collections::BTreeMap::new(),
            artifacts: Vec::new(),
            base: None,
        };
        let report = build(&request, upstream, &silent(), &CancellationToken::new()).await;
        report.map(|r| r.fetched).map_err(|e| e.to_string())
    }

    fn upstream(&self, offline: bool) -> CachedUpstream {
        let behind = (!offline).then(|| Arc::new(self.fake.clone()) as Arc<dyn Upstream>);
        CachedUpstream::new(&self.cache, behind).unwrap()
    }
}

fn name(text: &str) -> ImageRef {
    format!("reg.io/{text}").parse().unwrap()
}

fn references(w: &World) -> Vec<String> {
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(w.cache.root.join(INDEX_FILE)).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    entries
        .iter()
        .map(|e| e["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or("-").to_owned())
        .collect()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_was_pulled_is_there_and_is_not_fetched_again() {
    let w = World::new();
    let first = w.pull(&["web:1", "web:2", "gone:1"]).await;
    assert_eq!(first.images.len(), 2);
    assert_eq!(first.failed[0].reason, "reg.io/gone:1 is not in the registry");
    // Three layers: the base once.
    assert_eq!(w.fake.asked(), (3, 2, 3));
    let again = w.pull(&["web:1", "web:2"]).await;
    assert!(again.images.iter().all(|i| i.cached), "{again:?}");
    assert_eq!((again.fetched, again.cached), (0, 4 + 7 + 15));
    assert_eq!(w.fake.asked(), (2, 0, 0), "tags are asked for and nothing else");
    assert_eq!(w.names(), ["reg.io/web:1", "reg.io/web:2"]);
    assert!(w.verify().await.whole());
    let s = w.cache.statistics().unwrap();
    assert_eq!((s.images, s.shared, s.image_hits, s.image_misses, s.hit_rate), (2, 4, 2, 2, Some(0.5)));
    assert_eq!((s.bytes_missed, s.bytes_hit, s.unneeded), (26, 26, 0));
    let yaml = std::fs::read_to_string(w.cache.root.join("index.yaml")).unwrap();
    assert!(yaml.contains("image: reg.io/web:2"), "{yaml}");
}

#[tokio::test]
async fn a_pull_for_another_platform_adds_to_what_is_there() {
    let w = World::new();
    w.pull(&["multi:1"]).await;
    let missing = w.cache.local_graph(&name("multi:1"), &["linux/arm64".parse().unwrap()]).await.unwrap_err();
    assert!(matches!(missing, CacheError::Incomplete { .. }), "{missing}");
    w.pull_for(&["multi:1"], &["linux/arm64"]).await;
    let image = w.cache.get(&name("multi:1")).unwrap();
    assert_eq!(
        image.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm64"]
    );
    w.age(DAY);
    assert_eq!(w.cache.gc(&GcOptions::default()).unwrap().blobs, 0);
    assert_eq!(w.cache.local_graph(&name("multi:1"), &[]).await.unwrap().images.len(), 2);
}

#[tokio::test]
async fn a_name_by_digest_needs_nobody() {
    let w = World::new();
    w.pull(&["web:1"]).await;
    w.fake.asked();
    let digest = w.cache.get(&name("web:1")).unwrap().digest;
    let pinned = format!("web:1@{digest}");
    let other = format!("other/place@{digest}");
    let again = w.pull(&[&pinned, &other]).await;
    assert!(again.images.iter().all(|i| i.cached), "{again:?}");
    assert_eq!(w.fake.asked(), (0, 0, 0));
    // Nobody asked what the tag stands for, so that is not said.
    let by_digest = |repository: &str| format!("reg.io/{repository}@{digest}");
    assert_eq!(w.names(), [by_digest("other/place"), by_digest("web"), "reg.io/web:1".to_owned()]);
}

#[tokio::test]
async fn a_tag_that_moved_is_followed_and_what_it_was_goes() {
    let mut w = World::new();
    w.pull(&["web:1"]).await;
    let moved = w.fake.tags["reg.io/web:2"].clone();
    w.fake.tags.insert("reg.io/web:1".into(), moved.clone());
    w.pull(&["web:1"]).await;
    assert_eq!(w.cache.get(&name("web:1")).unwrap().digest, *moved.digest());
    assert!(w.blob("web one").exists());
    w.age(DAY);
    w.cache.gc(&GcOptions::default()).unwrap();
    assert!(!w.blob("web one").exists() && w.blob("base").exists());
    assert!(w.verify().await.whole());
}

#[tokio::test]
async fn a_removed_name_leaves_its_blobs_to_the_clean_up() {
    let w = World::new();
    w.pull(&["web:1", "web:2"]).await;
    w.cache.remove(&[name("web:1")]).unwrap();
    assert_eq!(w.names(), ["reg.io/web:2"]);
    let young = w.cache.gc(&GcOptions::default()).unwrap();
    assert_eq!((young.blobs, young.freed), (0, 0));
    assert!(young.young > 0);
    let dry = GcOptions { grace: Duration::ZERO, dry_run: true, ..GcOptions::default() };
    let told = w.cache.gc(&dry).unwrap();
    assert!(w.blob("web one").exists());
    let done = w.cache.gc(&GcOptions { dry_run: false, ..dry }).unwrap();
    // A layer, a config, a manifest.
    assert_eq!((done.blobs, done.freed, done.size), (3, told.freed, told.size));
    assert!(!w.blob("web one").exists() && w.blob("base").exists());
    assert!(w.verify().await.whole());
    let error = w.cache.remove(&[name("web:1")]).unwrap_err().to_string();
    assert!(
        error.contains("reg.io/web:1 is not in the image cache") && error.contains("there is reg.io/web:2"),
        "{error}"
    );
}

#[tokio::test]
async fn the_longest_unused_go_first_and_pinned_ones_never() {
    let w = World::new();
    w.pull(&["web:1", "web:2", "multi:1"]).await;
    w.age(40 * DAY);
    w.cache.used(&name("web:1")).unwrap();
    w.cache.pin(&["reg.io/mul*".into()], &[]).unwrap();
    let old = GcOptions { unused_for: Some(30 * DAY), ..GcOptions::default() };
    let report = w.cache.gc(&old).unwrap();
    assert_eq!(
        report.images.iter().map(|i| (i.image.to_string(), i.reason)).collect::<Vec<_>>(),
        [("reg.io/web:2".to_owned(), "unused")]
    );
    assert_eq!(w.names(), ["reg.io/multi:1", "reg.io/web:1"]);
    w.age(DAY);
    let report = w
        .cache
        .gc(&GcOptions {
            max_size: Some(0),
            pins: vec!["reg.io/web".parse().unwrap()],
            ..GcOptions::default()
        })
        .unwrap();
    assert!(report.images.is_empty() && report.over == report.size, "{report:?}");
    let report = w.cache.gc(&GcOptions { max_size: Some(0), ..GcOptions::default() }).unwrap();
    assert_eq!(report.images.iter().map(|i| i.reason).collect::<Vec<_>>(), ["size"]);
    assert_eq!(w.names(), ["reg.io/multi:1"]);
    assert!(w.verify().await.whole());
    let error = w.cache.pin(&[], &["nginx".into()]).unwrap_err().to_string();
    assert!(error.contains("nginx is not pinned; the pins are reg.io/mul*"), "{error}");
}

#[tokio::test]
async fn only_as_many_go_as_the_size_asks_for() {
    let w = World::new();
    w.pull(&["web:1", "web:2"]).await;
    w.age(DAY);
    w.cache.used(&name("web:2")).unwrap();
    let all = w.cache.statistics().unwrap().compressed_size;
    let report = w.cache.gc(&GcOptions { max_size: Some(all - 1), ..GcOptions::default() }).unwrap();
    assert_eq!(report.images.iter().map(|i| i.image.to_string()).collect::<Vec<_>>(), ["reg.io/web:1"]);
    assert_eq!((report.over, report.size), (0, w.cache.statistics().unwrap().compressed_size));
}

#[tokio::test]
async fn what_somebody_is_using_stays() {
    let w = World::new();
    w.pull(&["web:1", "web:2"]).await;
    w.age(40 * DAY);
    let building = w.upstream(false);
    let (none, never) = (silent(), CancellationToken::new());
    building.graph(&name("web:1"), &["linux/amd64".parse().unwrap()], &none, &never).await.unwrap();
    let everything = GcOptions { max_size: Some(0), grace: Duration::ZERO, ..GcOptions::default() };
    let report = w.cache.gc(&everything).unwrap();
    assert_eq!(report.images.iter().map(|i| i.image.to_string()).collect::<Vec<_>>(), ["reg.io/web:2"]);
    assert!(w.blob("web one").exists() && !w.blob("web two, longer").exists());
    // Not even without its name: it is being read.
    w.cache.remove(&[name("web:1")]).unwrap();
    w.cache.gc(&everything).unwrap();
    assert!(w.blob("web one").exists());
    assert!(matches!(w.cache.clear(true, false), Err(CacheError::InUse { others: 1, .. })));
    drop(building);
    w.cache.gc(&everything).unwrap();
    assert!(!w.blob("web one").exists());
}

#[tokio::test]
async fn damage_is_named_put_away_and_mended() {
    let w = World::new();
    w.pull(&["web:1", "web:2"]).await;
    std::fs::write(w.blob("web one"), "WEB ONE").unwrap();
    std::fs::remove_file(w.blob("web two, longer")).unwrap();
    std::fs::write(w.cache.root.join("manifests/reg.io/web/3.json"), "{").unwrap();
    let found = w.verify().await;
    assert_eq!(found.bad.len(), 2, "{found:?}");
    let bad = &found.bad[0];
    assert_eq!(bad.entry, Digest::sha256(b"web one").layout_path());
    assert!(bad.reason.contains(&Digest::sha256(b"WEB ONE").to_string()), "{}", bad.reason);
    assert_eq!(bad.images, [name("web:1")]);
    assert_eq!(std::fs::read_to_string(bad.quarantine.as_ref().unwrap()).unwrap(), "WEB ONE");
    assert_eq!(found.bad[1].entry, "manifests/reg.io/web/3.json");
    assert_eq!(found.missing.len(), 2, "the one that was put away is missing now: {:?}", found.missing);
    assert_eq!(found.damaged(), [name("web:1"), name("web:2")]);
    let mended = w.pull(&["web:1", "web:2"]).await;
    assert_eq!(mended.fetched, 7 + 15);
    assert!(w.verify().await.whole());
}

#[tokio::test]
async fn damaged_documents_are_no_documents() {
    let w = World::new();
    w.pull(&["web:1"]).await;
    let manifest = w.cache.get(&name("web:1")).unwrap().digest;
    let path = w.cache.blob_path(&manifest);
    let text = std::fs::read_to_string(&path).unwrap().replace("schemaVersion", "SchemaVersion");
    std::fs::write(&path, text).unwrap();
    w.fake.asked();
    let again = w.pull(&["web:1"]).await;
    assert!(!again.images[0].cached);
    assert_eq!(w.fake.asked(), (1, 1, 0));
    assert!(w.verify().await.whole());
    assert_eq!(w.cache.statistics().unwrap().quarantined, 1);
}

#[tokio::test]
async fn what_a_killed_pull_left_is_found() {
    let w = World::new();
    w.pull(&["web:1", "web:2"]).await;
    // Killed after the names and before the index: its lease stays, and nobody holds it.
    std::fs::write(w.cache.root.join(INDEX_FILE), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    std::fs::write(w.cache.root.join("index.stamp"), w.cache.stamp_for_tests()).unwrap();
    assert_eq!(references(&w), Vec::<String>::new());
    std::fs::write(w.cache.root.join("locks/lease-1-dead"), "").unwrap();
    w.cache.list().unwrap();
    assert_eq!(references(&w), ["reg.io/web:1", "reg.io/web:2"]);
    assert!(!w.cache.root.join("locks/lease-1-dead").exists());
    // Partial blobs and staged files go when they are old.
    std::fs::create_dir_all(w.cache.root.join("partial")).unwrap();
    let partial = w.cache.root.join("partial").join("a".repeat(64));
    std::fs::write(&partial, "half").unwrap();
    let staged = w.cache.root.join("manifests/reg.io/web/.tmpAbCdEf");
    std::fs::write(&staged, "{").unwrap();
    assert_eq!(w.cache.gc(&GcOptions::default()).unwrap().freed, 0);
    w.age(DAY);
    assert_eq!(w.cache.gc(&GcOptions::default()).unwrap().freed, 4 + 1);
    assert!(!partial.exists() && !staged.exists());
}

#[tokio::test]
async fn two_at_once_share_the_work() {
    let w = World::new();
    let (a, b) = tokio::join!(w.pull(&["web:1", "web:2"]), w.pull(&["web:2", "web:1", "multi:1"]));
    assert_eq!((a.failed.len(), b.failed.len()), (0, 0), "{a:?} {b:?}");
    assert_eq!(w.fake.blobs.load(Ordering::Relaxed), 4, "each layer is fetched once");
    assert!(w.verify().await.whole());
    assert_eq!(references(&w), ["reg.io/multi:1", "reg.io/web:1", "reg.io/web:2"]);
}

mod builds;
mod housekeeping;
mod others;

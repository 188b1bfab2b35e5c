//! Pushing into image folders: real commands, real files. The nodes are folders of this machine, reached without
//! SSH; what SSH adds is tested with the SSH node and in the lab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use omk::bundle::BundleImage;
use omk::demo::sshd;
use omk::event::{Event, Events, ImageStep, NodeState, Recorder};
use omk::graph::{ImageGraph, Step, Walk};
use omk::node::inventory::Address;
use omk::node::{
    CommandOutput, Holder, KnownHosts, LocalSession, Node, NodeError, NodeSession, RemoteCommand, SshOptions,
    SshSession,
};
use omk::oci::{Descriptor, Digest};
use omk::push::{Connector, NodeResult, Push, PushError, PushOptions, PushReport, Target};
use omk::runtime::{Have, RuntimeChoice};
use omk::store::{BlobSource, BlobStore, MemoryStore};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tokio_util::sync::CancellationToken;

use crate::images;

mod cli;
mod over_ssh;
mod proof;
mod stopped;
mod two_runs;
mod undo;

pub(crate) use over_ssh::Ssh;

const PLATFORM: &str = "linux/amd64";

fn graph(store: &MemoryStore, name: &str, root: &Descriptor) -> ImageGraph {
    let mut walk = Walk::new(name.parse().unwrap(), root.clone(), &[]);
    loop {
        match walk.step().unwrap() {
            Step::Need(need) => {
                need.iter().for_each(|d| walk.give(d.digest(), store.get(d.digest()).unwrap()));
            }
            Step::Done(graph) => return *graph,
        }
    }
}

pub(crate) fn bundled(store: &MemoryStore, name: &str, layers: &[&[u8]]) -> BundleImage {
    let root = images::image(store, PLATFORM, layers);
    let graph = graph(store, name, &root);
    BundleImage { names: graph.image.runtime_names(root.digest()), groups: Default::default(), graph }
}

/// Sessions on this machine. Faults are by node.
#[derive(Default)]
struct Here {
    connects: AtomicU32,
    faults: BTreeMap<String, Fault>,
}

#[derive(Clone)]
enum Fault {
    Unreachable,
    /// The connection is lost when the import of the n-th image begins, once.
    LostAtImport(Arc<AtomicU32>),
    /// The connection is lost once a command has said this, as often as this says.
    LostAfter(&'static str, Arc<AtomicU32>),
    /// Set when an import begins.
    CancelAtImport(CancellationToken),
    /// Gives no answer before another node is ready. Whether it can be reached then.
    Late {
        recorder: Arc<Recorder>,
        after: &'static str,
        reachable: bool,
    },
    /// The node has no `flock`.
    NoLocks,
    /// Another run comes and goes before this one has the node for itself.
    Overtaken(Box<Push>),
    /// The connection is lost while the first import runs, which goes on: see [`two_runs::Orphan`].
    Orphan(Arc<two_runs::Orphan>),
    /// The connection is lost before the node begins the first import, which it does later: see [`two_runs::Late`].
    BegunLate(Arc<two_runs::Late>),
}

#[async_trait]
impl Connector for Here {
    async fn connect(
        &self,
        node: &str,
        _: &Events,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn NodeSession>, NodeError> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        let fault = self.faults.get(node).cloned();
        if let Some(Fault::Unreachable) = fault {
            return Err(NodeError::Connect { address: "192.0.2.1:22".into(), reason: "no route".into() });
        }
        if let Some(Fault::Late { recorder, after, reachable }) = &fault {
            while !ready(recorder, after) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if !reachable {
                let reason = "no answer within 20 s".to_owned();
                return Err(NodeError::Connect { address: "192.0.2.1:22".into(), reason });
            }
        }
        Ok(Box::new(Faulty { session: LocalSession::open(cancel)?, fault }))
    }
}

fn ready(recorder: &Recorder, node: &str) -> bool {
    let wanted = Event::Node { node: node.to_owned(), state: NodeState::Ready };
    recorder.events().contains(&wanted)
}

struct Faulty {
    session: LocalSession,
    fault: Option<Fault>,
}

#[async_trait]
impl NodeSession for Faulty {
    async fn run(&self, command: &RemoteCommand) -> Result<CommandOutput, NodeError> {
        let importing = command.script.contains("==imported");
        match &self.fault {
            Some(Fault::LostAtImport(n)) if importing && n.fetch_sub(1, Ordering::Relaxed) == 1 => {
                return Err(NodeError::Lost("importing".into()));
            }
            Some(Fault::CancelAtImport(token)) if importing => token.cancel(),
            Some(Fault::Orphan(orphan)) if importing => orphan.import(command).await?,
            Some(Fault::BegunLate(late)) if importing => late.import(command)?,
            _ => {}
        }
        let output = self.session.run(command).await?;
        match &self.fault {
            Some(Fault::LostAfter(word, n)) if output.text().contains(*word) => {
                match n.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
                    Ok(_) => Err(NodeError::Lost("undoing".into())),
                    Err(_) => Ok(output),
                }
            }
            _ => Ok(output),
        }
    }

    async fn staging(&self, path: &str) -> Result<Box<dyn BlobStore>, NodeError> {
        self.session.staging(path).await
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), NodeError> {
        self.session.write_file(path, bytes).await
    }

    async fn hold(&self, staging: &str, holder: &Holder) -> Result<bool, NodeError> {
        if let Some(Fault::Overtaken(other)) = &self.fault {
            let (other, here) = (other.clone(), tokio::runtime::Handle::current());
            let report = tokio::task::spawn_blocking(move || here.block_on(other.run()));
            assert!(report.await.unwrap().unwrap().all_ready());
        }
        match &self.fault {
            Some(Fault::NoLocks) => Ok(false),
            _ => self.session.hold(staging, holder).await,
        }
    }

    async fn close(&self) {
        self.session.close().await;
    }
}

struct World {
    dir: tempfile::TempDir,
    store: MemoryStore,
    images: Vec<BundleImage>,
    recorder: Arc<Recorder>,
    cancel: CancellationToken,
}

impl World {
    /// Two images on one base.
    fn new() -> Self {
        let store = MemoryStore::new();
        let base = images::noise(1, 300_000);
        let images = vec![
            bundled(&store, "lab.example/a:1", &[&base, &images::noise(2, 40_000)]),
            bundled(&store, "lab.example/b:1", &[&base, &images::noise(3, 50_000)]),
        ];
        let dir = tempfile::tempdir().unwrap();
        Self { dir, store, images, recorder: Arc::default(), cancel: CancellationToken::new() }
    }

    fn folder(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("images")
    }

    fn staging(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("staging")
    }

    fn push(&self, nodes: &[&str], here: Here) -> Push {
        let target = |name: &&str| {
            std::fs::create_dir_all(self.folder(name)).unwrap();
            Target {
                name: (*name).to_owned(),
                runtime: RuntimeChoice::ImageFolder(Some(self.folder(name).display().to_string())),
                staging: Some(self.staging(name).display().to_string()),
                platform: Some(PLATFORM.parse().unwrap()),
                groups: Default::default(),
            }
        };
        Push {
            bundle: "test.tar".into(),
            images: self.images.clone(),
            source: Arc::new(self.store.clone()),
            left_out: None,
            targets: nodes.iter().map(target).collect(),
            connector: Arc::new(here),
            options: PushOptions::default(),
            namespace: None,
            parallel: 2,
            lanes: 2,
            events: Arc::clone(&self.recorder) as Events,
            cancel: self.cancel.clone(),
        }
    }

    async fn run(&self, nodes: &[&str]) -> PushReport {
        self.push(nodes, Here::default()).run().await.unwrap()
    }

    fn archives(&self, node: &str) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            std::fs::read_dir(self.folder(node)).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    }
}

/// Every file below a folder, but for the staging's own marks.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else if entry.file_name() != ".omk-staging" {
            all.push(entry.path().display().to_string());
        }
    }
    all
}

/// Reads an archive as a loader would: every entry, hashed.
fn blobs_in(archive: &Path) -> BTreeMap<String, Digest> {
    use std::io::Read as _;

    let mut tar = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), Digest::sha256(&bytes))
    });
    entries.collect()
}

fn size(images: &[BundleImage]) -> u64 {
    let blobs: BTreeMap<_, _> =
        images.iter().flat_map(|i| &i.graph.blobs).map(|b| (b.digest(), b.size())).collect();
    blobs.values().sum()
}

#[tokio::test]
async fn every_node_gets_complete_archives_and_a_second_run_sends_nothing() {
    let world = World::new();
    let report = world.run(&["n1", "n2", "n3"]).await;
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    for node in &report.nodes {
        assert_eq!(node.bytes_sent, size(&world.images), "each blob once, the shared base too");
        let archives = world.archives(&node.node);
        assert_eq!(archives.len(), 2, "{archives:?}");
        for (archive, image) in archives.iter().zip(&world.images) {
            let blobs = blobs_in(archive);
            assert_eq!(blobs.len(), image.graph.blobs.len() + 2, "with oci-layout and index.json");
            for blob in &image.graph.blobs {
                assert_eq!(&blobs[&blob.digest().layout_path()], blob.digest());
            }
        }
        assert_eq!(files(&world.staging(&node.node)), [""; 0], "staging is left empty");
    }
    let again = world.run(&["n1", "n2", "n3"]).await;
    assert!(again.all_ready());
    for node in &again.nodes {
        assert_eq!((node.bytes_sent, node.blobs_sent, node.bytes_skipped), (0, 0, size(&world.images)));
    }
    let present = |e: &Event| matches!(e, Event::NodeImage { step: ImageStep::Present, .. });
    assert_eq!(world.recorder.events().iter().filter(|e| present(e)).count(), 6);
}

#[tokio::test]
async fn a_patch_release_sends_its_own_layer_and_takes_the_base_from_the_node() {
    let mut world = World::new();
    assert!(world.run(&["n1"]).await.all_ready());
    let base = images::noise(1, 300_000);
    world.images.push(bundled(&world.store, "lab.example/a:2", &[&base, &images::noise(9, 10_000)]));

    let plan = world.push(&["n1"], Here::default()).plan().await;
    let planned = &plan.nodes[0];
    assert_eq!(planned.images.iter().map(|i| i.ready).collect::<Vec<_>>(), [true, true, false]);
    assert!(planned.skipped.iter().any(|s| s.reason == Have::ImageReady && s.size == 300_000));
    assert!(planned.bytes < 12_000, "{}", planned.bytes);
    assert_eq!(world.archives("n1").len(), 2, "a plan changes nothing");

    let report = world.run(&["n1"]).await;
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes[0].bytes_sent, planned.bytes);
    let new = world
        .archives("n1")
        .into_iter()
        .map(|a| blobs_in(&a))
        .find(|b| b.contains_key(&world.images[2].graph.root.digest().layout_path()));
    assert!(new.unwrap().contains_key(&Digest::sha256(&base).layout_path()), "complete by itself");
    assert_eq!(files(&world.staging("n1")), [""; 0]);
}

#[tokio::test]
async fn a_damaged_archive_is_replaced_and_a_stolen_name_is_put_right() {
    let world = World::new();
    assert!(world.run(&["n1"]).await.all_ready());
    let [a, b] = &world.archives("n1")[..] else { panic!() };
    let bytes = std::fs::read(a).unwrap();
    std::fs::write(a, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::copy(b, world.folder("n1").join("zz.tar")).unwrap();
    let report = world.run(&["n1"]).await;
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(std::fs::read(a).unwrap().len(), bytes.len());
    assert!(report.nodes[0].bytes_sent < 100_000, "the base came from the other archive");
}

#[tokio::test]
async fn an_archived_blob_with_flipped_bits_is_not_reused_but_healed() {
    let mut world = World::new();
    assert!(world.run(&["n1"]).await.all_ready());
    // Bits flip in the base in both archives: tar cannot see it, and so the plan does not.
    let base = images::noise(1, 300_000);
    for archive in world.archives("n1") {
        let mut bytes = std::fs::read(&archive).unwrap();
        let at = bytes.windows(64).position(|w| w == &base[..64]).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&archive, bytes).unwrap();
    }
    world.images.push(bundled(&world.store, "lab.example/c:1", &[&base, &images::noise(8, 5_000)]));
    let plan = world.push(&["n1"], Here::default()).plan().await;
    assert!(plan.nodes[0].bytes < 10_000);
    let report = world.run(&["n1"]).await;
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes[0].bytes_sent, plan.nodes[0].bytes + 300_000, "the base is sent after all");
    let archives = world.archives("n1");
    assert_eq!(archives.len(), 3);
    for archive in archives {
        let found = &blobs_in(&archive)[&Digest::sha256(&base).layout_path()];
        assert_eq!(*found, Digest::sha256(&base), "{} is still damaged", archive.display());
    }
    assert_eq!(files(&world.staging("n1")), [""; 0]);
}

#[tokio::test]
async fn one_bad_node_stops_nobody() {
    let world = World::new();
    let here = Here { faults: [("down".to_owned(), Fault::Unreachable)].into(), ..Here::default() };
    let mut push = world.push(&["n1", "down", "n2", "arm"], here);
    push.targets[3].platform = Some("linux/arm64".parse().unwrap());
    let report = push.run().await.unwrap();
    let states: Vec<NodeResult> = report.nodes.iter().map(|n| n.state).collect();
    assert_eq!(states, [NodeResult::Ready, NodeResult::Failed, NodeResult::Ready, NodeResult::Refused]);
    assert!(report.some_failed() && !report.all_ready());
    assert_eq!(report.nodes[1].error.as_deref(), Some("cannot reach 192.0.2.1:22: no route"));
    let refusal = report.nodes[3].error.as_deref().unwrap();
    assert!(refusal.contains("lab.example/a:1") && refusal.contains("linux/arm64"), "{refusal}");
    assert_eq!(files(&world.staging("arm")), [""; 0], "nothing was sent to it");
}

#[tokio::test]
async fn a_lost_connection_goes_on_where_it_was() {
    let world = World::new();
    let lost = Fault::LostAtImport(Arc::new(AtomicU32::new(2)));
    let here = Here { faults: [("n1".to_owned(), lost)].into(), ..Here::default() };
    let push = world.push(&["n1"], here);
    let report = push.run().await.unwrap();
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(report.nodes[0].bytes_sent, size(&world.images), "nothing was sent twice");
    assert!(world.recorder.events().iter().any(|e| matches!(e, Event::Retry { .. })));
}

#[tokio::test]
async fn a_damaged_bundle_changes_no_node() {
    let world = World::new();
    let victim = world.images[1].graph.images[0].layers[1].clone();
    let mut push = world.push(&["n1", "n2"], Here::default());
    push.source = Arc::new(Flipped { store: world.store.clone(), victim: victim.digest().clone() });
    let error = push.run().await.unwrap_err();
    let PushError::Bundle(inner) = &error else { panic!("{error}") };
    assert!(inner.to_string().contains(&victim.digest().to_string()), "{inner}");
    for node in ["n1", "n2"] {
        assert!(world.archives(node).is_empty() && files(&world.staging(node)).is_empty());
    }
}

/// Ends even when a node is waited for that is never going to come.
async fn finishes(push: &Push) -> Result<PushReport, PushError> {
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, push.run()).await.expect("nobody waits for the late node")
}

#[tokio::test]
async fn a_dead_node_holds_nobody_back_and_a_late_one_catches_up() {
    for reachable in [false, true] {
        let world = World::new();
        let recorder = Arc::clone(&world.recorder);
        let late = Fault::Late { recorder, after: "n1", reachable };
        let here = Here { faults: [("n2".to_owned(), late)].into(), ..Here::default() };
        let report = finishes(&world.push(&["n2", "n1"], here)).await.unwrap();
        let states: Vec<_> = report.nodes.iter().map(|n| (n.node.as_str(), n.ready())).collect();
        assert_eq!(states, [("n2", reachable), ("n1", true)]);
    }
}

#[tokio::test]
async fn damage_that_only_a_late_node_meets_stops_it() {
    let mut world = World::new();
    assert!(world.run(&["n1"]).await.all_ready());
    world.recorder = Arc::default();
    let victim = world.images[1].graph.images[0].layers[1].clone();
    world.images.push(bundled(&world.store, "lab.example/c:1", &[&images::noise(8, 5_000)]));
    let recorder = Arc::clone(&world.recorder);
    let late = Fault::Late { recorder, after: "n1", reachable: true };
    let here = Here { faults: [("n2".to_owned(), late)].into(), ..Here::default() };
    let mut push = world.push(&["n1", "n2"], here);
    push.source = Arc::new(Flipped { store: world.store.clone(), victim: victim.digest().clone() });
    let report = finishes(&push).await.unwrap();
    assert!(report.nodes[0].ready(), "it needs nothing that is damaged");
    let why = report.nodes[1].error.as_deref().unwrap();
    assert!(why.contains("the bundle is damaged") && why.contains(&victim.digest().to_string()), "{why}");
    assert!(world.archives("n2").is_empty() && files(&world.staging("n2")).is_empty());
}

/// One byte of one blob is another.
struct Flipped {
    store: MemoryStore,
    victim: Digest,
}

#[async_trait]
impl BlobSource for Flipped {
    fn label(&self) -> String {
        "bundle test.tar".to_owned()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, omk::store::StoreError> {
        self.store.size(digest).await
    }

    async fn read(
        &self,
        blob: &Descriptor,
        range: std::ops::Range<u64>,
    ) -> Result<omk::store::ByteStream, omk::store::StoreError> {
        if *blob.digest() != self.victim {
            return self.store.read(blob, range).await;
        }
        let mut bytes = self.store.get(blob.digest()).unwrap().to_vec();
        bytes[0] ^= 1;
        let part = bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec();
        Ok(Box::pin(futures_util::stream::iter([Ok(part.into())])))
    }
}

use super::*;
use crate::runtime::fixtures::{empty_node, graph, index, manifest};
use crate::runtime::{Containerd, Flavor, ImageFolder, NamedImage};
use crate::runtime::{Disk, Kubelet};
use crate::store::MemoryStore;

fn containerd() -> Containerd {
    Containerd::new(Flavor::Plain)
}

fn bundled(store: &MemoryStore, name: &str, root: &Descriptor) -> BundleImage {
    let graph = graph(store, name, root);
    BundleImage { names: graph.image.runtime_names(root.digest()), groups: BTreeSet::default(), graph }
}

fn single(store: &MemoryStore, name: &str, layers: &[&str]) -> BundleImage {
    let root = manifest(store, "amd64", layers);
    bundled(store, name, &root)
}

fn plan(images: &[BundleImage], facts: &NodeFacts) -> Result<NodePlan, PlanError> {
    NodePlan::compute("n1", images, &containerd(), facts, &PushOptions::default())
}

fn layer(image: &BundleImage, i: usize) -> &Descriptor {
    &image.graph.images[0].layers[i]
}

fn sent(plan: &NodePlan) -> Vec<Digest> {
    plan.to_send().map(|b| b.digest().clone()).collect()
}

fn reason(plan: &NodePlan, blob: &Descriptor) -> Option<Have> {
    plan.skipped.iter().find(|s| s.digest == *blob.digest()).map(|s| s.reason)
}

#[test]
fn an_empty_node_gets_every_blob_once_base_first() {
    let store = MemoryStore::new();
    let images = [single(&store, "a:1", &["base", "a"]), single(&store, "b:1", &["base", "b"])];
    let plan = plan(&images, &empty_node()).unwrap();
    let sent = sent(&plan);
    assert_eq!(sent.len(), 7, "base, a, b, two configs, two manifests");
    assert_eq!(sent[0], *layer(&images[0], 0).digest());
    assert_eq!(sent[4], *layer(&images[1], 1).digest(), "the shared base is not sent again");
    assert_eq!(plan.bytes, plan.to_send().map(Descriptor::size).sum::<u64>());
    assert_eq!((plan.blobs, plan.bytes_skipped), (7, 0));
}

#[test]
fn what_a_node_has_is_not_sent_and_the_reason_is_told() {
    let store = MemoryStore::new();
    let image = single(&store, "a:1", &["base", "mid", "top"]);
    let mut facts = empty_node();
    facts.content.insert(layer(&image, 0).digest().clone());
    facts.snapshots.insert(image.graph.images[0].chain_ids[1].clone());
    facts.staged.insert(layer(&image, 2).digest().clone(), layer(&image, 2).size());
    facts.staged.insert(image.graph.root.digest().clone(), 1);
    facts.discards_layers = true;
    let config = &image.graph.images[0].config;
    facts.partials.insert(config.digest().hex().to_owned(), 5);
    let plan = plan(std::slice::from_ref(&image), &facts).unwrap();
    assert_eq!(reason(&plan, layer(&image, 0)), Some(Have::Stored));
    assert_eq!(reason(&plan, layer(&image, 1)), Some(Have::Unpacked));
    assert_eq!(reason(&plan, layer(&image, 2)), Some(Have::Staged));
    let rest = [image.graph.images[0].config.digest().clone(), image.graph.root.digest().clone()];
    assert_eq!(sent(&plan), rest, "a staged file of the wrong size does not count");
    assert_eq!(plan.bytes_skipped, layer(&image, 0).size() + layer(&image, 1).size());
    assert_eq!(plan.bytes_resumed, layer(&image, 2).size() + 5);

    facts.discards_layers = false;
    let plan = self::plan(std::slice::from_ref(&image), &facts).unwrap();
    assert!(sent(&plan).contains(layer(&image, 1).digest()), "a node that keeps layers gets them all");
}

#[test]
fn a_ready_image_needs_nothing_and_one_with_a_moved_tag_does() {
    let store = MemoryStore::new();
    let image = single(&store, "a:1", &["base"]);
    let mut facts = empty_node();
    for name in &image.names {
        let digest = image.graph.root.digest().clone();
        facts
            .names
            .insert(name.clone(), NamedImage { digest, complete: true, unpacked: true, archive: None });
    }
    facts.content.extend(image.graph.blobs.iter().map(|b| b.digest().clone()));
    let done = plan(std::slice::from_ref(&image), &facts).unwrap();
    assert!(done.images[0].ready && done.to_import().next().is_none());
    assert_eq!((done.bytes, done.bytes_skipped), (0, image.graph.size()));
    assert_eq!(reason(&done, &image.graph.root), Some(Have::ImageReady));
    assert!(done.disk.is_empty());

    facts.names.get_mut(&image.names[0]).unwrap().digest = Digest::sha256(b"other");
    let moved = plan(std::slice::from_ref(&image), &facts).unwrap();
    assert!(!moved.images[0].ready, "the name must be put right");
    assert_eq!(moved.bytes, 0, "for that, an index alone is enough");
    assert_eq!(reason(&moved, &image.graph.root), Some(Have::Stored));
}

#[test]
fn of_several_platforms_the_nodes_own_is_taken_and_the_index_goes_along() {
    let store = MemoryStore::new();
    let amd = manifest(&store, "amd64", &["amd"]);
    let arm = manifest(&store, "arm64", &["arm"]);
    let root = index(&store, &[(amd, "linux/amd64"), (arm.clone(), "linux/arm64")]);
    let image = bundled(&store, "m:1", &root);
    let mut facts = empty_node();
    facts.platform = "linux/arm64".parse().unwrap();
    let plan = plan(std::slice::from_ref(&image), &facts).unwrap();
    let sent = sent(&plan);
    assert_eq!(sent.len(), 4, "layer, config, manifest, index");
    assert!(sent.contains(arm.digest()) && sent.last() == Some(root.digest()));
    assert_eq!(plan.images[0].digest, *root.digest());
}

#[test]
fn a_node_that_cannot_run_the_bundle_is_refused() {
    let store = MemoryStore::new();
    let amd = manifest(&store, "amd64", &["amd"]);
    let arm = manifest(&store, "arm64", &["arm"]);
    let root = index(&store, &[(amd, "linux/amd64"), (arm, "linux/arm64")]);
    let images = [bundled(&store, "m:1", &root)];
    let mut facts = empty_node();
    facts.platform = "linux/s390x".parse().unwrap();
    assert_eq!(
        plan(&images, &facts).unwrap_err().to_string(),
        "docker.io/library/m:1 is in the bundle for linux/amd64, linux/arm64, the node is linux/s390x; \
         build the bundle with --platform linux/s390x"
    );

    let mut artifact = single(&store, "chart:1", &["tgz"]);
    artifact.graph.images[0].platform = None;
    artifact.graph.images[0].chain_ids.clear();
    assert_eq!(
        plan(&[artifact], &empty_node()).unwrap_err(),
        PlanError::NotAnImage("docker.io/library/chart:1".into())
    );

    let mut twice = [single(&store, "a:1", &["x"]), single(&store, "a:1", &["y"])];
    assert_eq!(
        plan(&twice, &empty_node()).unwrap_err(),
        PlanError::NameTwice("docker.io/library/a:1".into())
    );
    twice[1] = twice[0].clone();
    assert!(plan(&twice, &empty_node()).is_ok(), "the same image twice is no conflict");
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_sent() {
    let store = MemoryStore::new();
    let images: Vec<BundleImage> =
        ["a", "b", "c", "d"].iter().map(|n| single(&store, &format!("{n}:1"), &["base", n])).collect();
    let size = 1 << 40;
    let disk = |device: &str, free| {
        Some(Disk {
            device: device.into(),
            path: "/x".into(),
            mount: format!("/mnt{device}"),
            size,
            used: size - free,
            free,
        })
    };
    let mut facts = empty_node();
    (facts.staging_disk, facts.runtime_disk) = (disk("/dev/a", 1 << 30), disk("/dev/b", 1 << 30));
    let roomy = plan(&images, &facts).unwrap();
    let [staging, stored] = roomy.disk.as_slice() else { panic!("two disks, {:?}", roomy.disk) };
    assert!(staging.need < roomy.bytes, "what is imported leaves staging");
    // Layers of 4 + 4 × 1 bytes are stored as they are and unpack to three times that.
    assert_eq!(stored.need, roomy.bytes + 3 * (4 + 4));
    let free = 1 << 30;
    assert_eq!((staging.used, staging.used_after, staging.free_after), (size - free, size - free, free));
    assert_eq!((stored.used_after, stored.free_after), (size - free + stored.need, free - stored.need));
    assert_eq!((staging.image_gc_percent, stored.image_gc_percent), (None, Some(85)));

    for (staging_free, runtime_free, what) in
        [(staging.need - 1, 1 << 30, "staging"), (1 << 30, stored.need - 1, "images")]
    {
        (facts.staging_disk, facts.runtime_disk) =
            (disk("/dev/a", staging_free), disk("/dev/b", runtime_free));
        assert!(
            matches!(plan(&images, &facts), Err(PlanError::Disk { disk, .. }) if disk.what == what),
            "{what}"
        );
    }
    (facts.staging_disk, facts.runtime_disk) = (disk("/dev/a", staging.need), disk("/dev/a", staging.need));
    let error = plan(&images, &facts).unwrap_err();
    assert!(matches!(&error, PlanError::Disk { disk, .. } if disk.what == "staging and images"), "{error}");
    let anyway = PushOptions { ignore_disk: true, ..PushOptions::default() };
    assert!(NodePlan::compute("n1", &images, &containerd(), &facts, &anyway).is_ok());
    facts.partial = staging.need;
    let need = |facts: &NodeFacts| {
        NodePlan::compute("n1", &images, &containerd(), facts, &anyway).unwrap().disk[0].need
    };
    assert_eq!(need(&facts), staging.need + stored.need, "parts of other blobs are of no help");
    let all = images.iter().flat_map(|i| &i.graph.blobs);
    facts.partials = all.map(|b| (b.digest().hex().to_owned(), b.size() + 1)).collect();
    assert_eq!(need(&facts), stored.need, "what is half there needs no second place");
}

#[test]
fn to_go_on_nevertheless_is_offered_where_only_the_estimate_is_in_the_way() {
    let store = MemoryStore::new();
    let (one, other) = (single(&store, "a:1", &["base", "a"]), single(&store, "b:1", &["base", "b"]));
    let mut facts = empty_node();
    let mut offered = |staging: &str, free: u64, images: &[BundleImage], runtime: &dyn Runtime| {
        let disk = |device: &str, free: u64| {
            let (device, path) = (device.to_owned(), format!("/srv{device}"));
            Some(Disk { device, path, mount: "/srv".into(), size: 1 << 40, used: 0, free })
        };
        (facts.staging_disk, facts.runtime_disk) = (disk(staging, free), disk("/dev/r", free));
        let plan = NodePlan::compute("n1", images, runtime, &facts, &PushOptions::default());
        plan.unwrap_err().to_string().contains("--ignore-disk")
    };
    let packed = |images: &[BundleImage]| plan(images, &empty_node()).unwrap().bytes;
    let (single, both) = (packed(std::slice::from_ref(&one)), packed(&[one.clone(), other.clone()]));
    let alone = std::slice::from_ref(&one);
    // In staging and in containerd at the same time, and unpacked.
    assert!(offered("/dev/r", 2 * single, alone, &containerd()));
    assert!(!offered("/dev/r", 2 * single - 1, alone, &containerd()));
    // On its own disk, what is stored is sure and what it unpacks to is not.
    assert!(offered("/dev/s", single, alone, &containerd()));
    assert!(!offered("/dev/s", single - 1, alone, &containerd()));
    assert!(!offered("/dev/r", both - 1, &[one.clone(), other], &containerd()));
    let folder = ImageFolder::new("/srv/images", false);
    assert!(!offered("/dev/r", 2 * single - 1, alone, &folder), "archives are as large as what they are of");
}

#[test]
fn a_plan_that_would_make_kubelet_remove_images_is_refused() {
    let store = MemoryStore::new();
    let images = [single(&store, "a:1", &["base"])];
    let mut facts = empty_node();
    let disk = Disk {
        device: "/dev/a".into(),
        path: "/".into(),
        mount: "/".into(),
        size: 1 << 30,
        used: 1 << 29,
        free: 1 << 29,
    };
    facts.runtime_disk = Some(disk);
    let kubelet = |image_gc_percent| Some(Kubelet { image_gc_percent, source: None });
    facts.kubelet = kubelet(52);
    let planned = plan(&images, &facts).unwrap();
    assert_eq!(planned.disk[0].image_gc_percent, Some(52));
    facts.kubelet = kubelet(51);
    let error = plan(&images, &facts).unwrap_err();
    assert!(matches!(error, PlanError::ImageGc { threshold: 51, .. }), "{error}");
    let elsewhere = Containerd::new(Flavor::Plain).in_namespace("default");
    let plan = NodePlan::compute("n1", &images, &elsewhere, &facts, &PushOptions::default()).unwrap();
    assert_eq!(plan.disk[0].image_gc_percent, None, "kubelet has no eye on other namespaces");
    let anyway = PushOptions { ignore_disk: true, ..PushOptions::default() };
    let plan = NodePlan::compute("n1", &images, &containerd(), &facts, &anyway).unwrap();
    assert!(plan.disk[0].collects(), "and the plan says so");
}

#[test]
fn what_another_namespace_stores_is_adopted_and_not_sent() {
    let store = MemoryStore::new();
    let big = "b".repeat(100_000);
    let image = single(&store, "a:1", &[&big, "small"]);
    let mut facts = empty_node();
    facts.elsewhere.extend(image.graph.blobs.iter().map(|b| b.digest().clone()));
    let adopting = plan(std::slice::from_ref(&image), &facts).unwrap();
    assert_eq!(reason(&adopting, layer(&image, 0)), Some(Have::Adopted));
    assert_eq!(sent(&adopting)[0], *layer(&image, 1).digest(), "what is small is quicker sent");
    assert_eq!((adopting.bytes_adopted, adopting.bytes_skipped, adopting.blobs), (100_000, 0, 3));

    facts.staged.insert(layer(&image, 0).digest().clone(), 100_000);
    let staged = plan(std::slice::from_ref(&image), &facts).unwrap();
    assert_eq!((staged.bytes_adopted, staged.bytes_resumed), (0, 100_000));
    facts.distrust(&[layer(&image, 0).digest().clone()].into());
    assert_eq!(plan(&[image], &facts).unwrap().blobs, 4, "it could not be taken over");
}

#[test]
fn an_image_folder_keeps_shared_blobs_until_the_last_archive() {
    let store = MemoryStore::new();
    let images: Vec<BundleImage> =
        ["a", "b", "c", "d"].iter().map(|n| single(&store, &format!("{n}:1"), &["base", n])).collect();
    let mut facts = empty_node();
    let disk = Disk {
        device: "/dev/a".into(),
        path: "/".into(),
        mount: "/".into(),
        size: 1 << 31,
        used: 1 << 30,
        free: 1 << 30,
    };
    facts.staging_disk = Some(disk);
    let folder = ImageFolder::new("/srv/images", false);
    let plan = NodePlan::compute("n1", &images, &folder, &facts, &PushOptions::default()).unwrap();
    assert_eq!(plan.disk[0].need, plan.bytes);
}

#[test]
fn a_plan_is_json() {
    let store = MemoryStore::new();
    let plan = plan(&[single(&store, "a:1", &["base"])], &empty_node()).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["node"], "n1");
    assert_eq!(json["platform"], "linux/amd64");
    assert_eq!(json["images"][0]["names"][0], "docker.io/library/a:1");
    assert_eq!(json["images"][0]["ready"], false);
    assert_eq!(json["images"][0]["send"].as_array().unwrap().len(), 3);
    assert!(json["images"][0].get("image").is_none());
}

#[test]
fn the_way_out_of_a_delta_fits_its_base() {
    let said = |base: &str| {
        let first = Digest::sha256(b"x");
        PlanError::LeftOut { base: base.into(), blobs: 1, bytes: 1000, first }.to_string()
    };
    assert!(said("v1.tar").contains("`omk bundle merge v1.tar DELTA -o WHOLE`"));
    for (base, way) in
        [("nodes.json", "a fresh `omk node inventory`"), ("bundle.lock", "the bundle that bundle.lock is of")]
    {
        let said = said(base);
        assert!(said.contains(way) && said.contains("without --since") && !said.contains("merge"), "{said}");
    }
}

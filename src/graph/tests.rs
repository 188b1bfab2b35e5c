use super::*;
use crate::store::MemoryStore;

fn image(store: &MemoryStore, arch: &str, layers: &[&str]) -> Descriptor {
    let diffs: Vec<Digest> = layers.iter().map(|l| Digest::sha256(l.as_bytes())).collect();
    let config = serde_json::json!({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = store.insert(media::OCI_CONFIG, config.to_string());
    let layers: Vec<Descriptor> =
        layers.iter().map(|l| store.insert(media::OCI_LAYER, (*l).to_owned())).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    store.insert(media::OCI_MANIFEST, manifest.to_string())
}

fn index(store: &MemoryStore, entries: &[Descriptor]) -> Descriptor {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
    store.insert(media::OCI_INDEX, index.to_string())
}

fn walk(store: &MemoryStore, root: &Descriptor, platforms: &[&str]) -> Result<ImageGraph, GraphError> {
    let platforms: Vec<Platform> = platforms.iter().map(|p| p.parse().unwrap()).collect();
    let mut walk = Walk::new("app:1".parse().unwrap(), root.clone(), &platforms);
    for _ in 0..10 {
        match walk.step()? {
            Step::Need(need) => {
                assert!(!need.is_empty());
                need.iter().for_each(|d| walk.give(d.digest(), store.get(d.digest()).unwrap()));
            }
            Step::Done(graph) => return Ok(*graph),
        }
    }
    panic!("the walk does not end");
}

fn p(s: &str) -> Platform {
    s.parse().unwrap()
}

#[test]
fn children_come_before_parents_and_each_blob_once() {
    let store = MemoryStore::new();
    let amd = image(&store, "amd64", &["base", "app"]).with_platform(&p("linux/amd64"));
    let arm = image(&store, "arm64", &["base", "app-arm"]).with_platform(&p("linux/arm64"));
    let root = index(&store, &[amd, arm]);
    let graph = walk(&store, &root, &[]).unwrap();
    let at = |d: &Descriptor| graph.blobs.iter().position(|b| b.digest() == d.digest()).unwrap();
    assert_eq!(graph.blobs.len(), 3 + 2 + 2 + 1, "three layers, two configs, two manifests, one index");
    for image in &graph.images {
        assert!(image.layers.iter().chain([&image.config]).all(|d| at(d) < at(&image.manifest)));
        assert!(at(&image.manifest) < at(&root));
    }
}

#[test]
fn one_platform_is_taken_and_the_index_stays() {
    let store = MemoryStore::new();
    let amd = image(&store, "amd64", &["base"]).with_platform(&p("linux/amd64"));
    let arm = image(&store, "arm64", &["arm"]).with_platform(&p("linux/arm64"));
    let root = index(&store, &[amd.clone(), arm]);
    let graph = walk(&store, &root, &["linux/amd64"]).unwrap();
    assert_eq!(graph.root.digest(), root.digest());
    assert_eq!(graph.images.len(), 1);
    assert_eq!(graph.images[0].manifest.digest(), amd.digest());
    assert_eq!(graph.images[0].chain_ids, [Digest::sha256(b"base")]);
}

#[test]
fn a_platform_that_is_not_there_is_named_with_what_is() {
    let store = MemoryStore::new();
    let amd = image(&store, "amd64", &["base"]).with_platform(&p("linux/amd64"));
    let root = index(&store, &[amd]);
    let error = walk(&store, &root, &["linux/s390x"]).unwrap_err().to_string();
    assert_eq!(error, "docker.io/library/app:1 has no image for linux/s390x; it has linux/amd64");
}

#[test]
fn the_config_decides_not_the_index() {
    let store = MemoryStore::new();
    let lie = image(&store, "arm64", &["base"]).with_platform(&p("linux/amd64"));
    let root = index(&store, &[lie]);
    assert!(matches!(walk(&store, &root, &["linux/amd64"]), Err(GraphError::Mislabelled { .. })));
    let plain = image(&store, "arm64", &["base"]);
    assert!(matches!(walk(&store, &plain, &["linux/amd64"]), Err(GraphError::WrongPlatform { .. })));
}

#[test]
fn foreign_layers_and_endless_nesting_are_refused() {
    let store = MemoryStore::new();
    let config = store.insert(media::OCI_CONFIG, "{}");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let layer = store.insert(foreign, "x");
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let root = store.insert(media::OCI_MANIFEST, manifest.to_string());
    assert!(matches!(walk(&store, &root, &[]), Err(GraphError::Foreign { .. })));

    let mut root = index(&store, &[image(&store, "amd64", &["a"])]);
    for _ in 0..5 {
        root = index(&store, &[root]);
    }
    assert!(matches!(walk(&store, &root, &[]), Err(GraphError::TooDeep { .. })));
}

#[test]
fn a_foreign_layer_is_taken_by_explicit_wish() {
    let store = MemoryStore::new();
    let config = store.insert(media::OCI_CONFIG, "{}");
    let layer = store.insert("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "x");
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let root = store.insert(media::OCI_MANIFEST, manifest.to_string());
    let mut walk = Walk::new("app:1".parse().unwrap(), root.clone(), &[]).with_foreign();
    walk.give(root.digest(), store.get(root.digest()).unwrap());
    walk.give(config.digest(), store.get(config.digest()).unwrap());
    assert!(matches!(walk.step(), Ok(Step::Done(graph)) if graph.blobs.len() == 3));
}

#[test]
fn an_entry_whose_config_says_something_else_is_refused() {
    let store = MemoryStore::new();
    let wrong = image(&store, "amd64", &["base"]).with_platform(&p("linux/arm64"));
    let good = image(&store, "amd64", &["other"]).with_platform(&p("linux/amd64"));
    let root = index(&store, &[wrong, good]);
    for platforms in [&["linux/arm64"][..], &[]] {
        let error = walk(&store, &root, platforms).unwrap_err();
        assert!(matches!(error, GraphError::Mislabelled { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("for linux/arm64") && error.contains("says linux/amd64"), "{error}");
    }
    assert!(walk(&store, &root, &["linux/amd64"]).is_ok(), "what is not taken does not matter");
}

#[test]
fn variants_are_the_entrys_where_the_config_says_none() {
    let store = MemoryStore::new();
    let entry = |layer: &str, variant: &str| {
        image(&store, "arm", &[layer]).with_platform(&p(&format!("linux/arm/{variant}")))
    };
    let (v5, v6, v7) = (entry("5", "v5"), entry("6", "v6"), entry("7", "v7"));
    let root = index(&store, &[v7.clone(), v5.clone(), v6.clone()]);
    for (wanted, manifest) in
        [("linux/arm/v6", &v6), ("linux/arm/v7", &v7), ("linux/arm", &v7), ("linux/arm/v5", &v5)]
    {
        let graph = walk(&store, &root, &[wanted]).unwrap();
        assert_eq!(graph.images[0].manifest.digest(), manifest.digest(), "{wanted}");
        assert_eq!(graph.images[0].platform, Some(p(wanted)));
    }
    let root = index(&store, &[v7, v5.clone()]);
    assert_eq!(walk(&store, &root, &["linux/arm/v6"]).unwrap().images[0].manifest.digest(), v5.digest());
}

#[test]
fn what_an_index_names_many_times_is_visited_once() {
    let store = MemoryStore::new();
    let mut root = image(&store, "amd64", &["base"]);
    for _ in 0..MAX_DEPTH {
        root = index(&store, &[root.clone(), root.clone(), root]);
    }
    let graph = walk(&store, &root, &[]).unwrap();
    assert_eq!((graph.images.len(), graph.blobs.len()), (1, 3 + MAX_DEPTH));
}

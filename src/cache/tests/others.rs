//! The cache as a layout that other tools write into.

use super::*;

/// Writes an entry as `skopeo copy` does: blobs, then the index in place.
fn foreign(w: &World, reference: Option<&str>, root: &Descriptor) {
    for digest in w.fake.store.digests() {
        let path = w.cache.blob_path(&digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, w.fake.store.get(&digest).unwrap()).unwrap();
    }
    let path = w.cache.root.join(INDEX_FILE);
    let mut index: serde_json::Value = std::fs::read(&path)
        .map_or(serde_json::json!({"schemaVersion": 2, "manifests": []}), |b| {
            serde_json::from_slice(&b).unwrap()
        });
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.retain(|e| e["digest"] != root.digest().to_string());
    let root = match reference {
        Some(reference) => root.clone().with_annotations([("org.opencontainers.image.ref.name", reference)]),
        None => root.clone(),
    };
    entries.push(serde_json::to_value(root).unwrap());
    std::fs::write(path, index.to_string()).unwrap();
    std::fs::write(w.cache.root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[tokio::test]
async fn what_another_tool_writes_is_taken_over() {
    let w = World::new();
    w.pull(&["web:1"]).await;
    let (web1, web2, multi) = (
        w.fake.tags["reg.io/web:1"].clone(),
        w.fake.tags["reg.io/web:2"].clone(),
        w.fake.tags["reg.io/multi:1"].clone(),
    );
    // It gives a root that has a name another one: the old one comes back.
    foreign(&w, Some("mine:7"), &web1);
    foreign(&w, Some("quay.io/x/multi:1"), &multi);
    foreign(&w, None, &web2);
    assert_eq!(w.names(), ["docker.io/library/mine:7", "quay.io/x/multi:1", "reg.io/web:1"]);
    // By the name that it was given its tool must find it again.
    assert_eq!(
        references(&w),
        ["docker.io/library/mine:7", "mine:7", "quay.io/x/multi:1", "reg.io/web:1", "-"]
    );
    assert_eq!(w.cache.get(&"mine:7".parse().unwrap()).unwrap().source, Source::Layout);
    // What it did not name stays too.
    w.age(DAY);
    assert_eq!(w.cache.gc(&GcOptions::default()).unwrap().blobs, 0);
    assert!(w.blob("web two, longer").exists());
    // It deletes: the entry goes and the manifest with it.
    let path = w.cache.root.join(INDEX_FILE);
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["manifests"]
        .as_array_mut()
        .unwrap()
        .retain(|e| e["annotations"]["org.opencontainers.image.ref.name"] != "quay.io/x/multi:1");
    std::fs::remove_file(w.cache.blob_path(multi.digest())).unwrap();
    std::fs::write(&path, index.to_string()).unwrap();
    assert_eq!(w.names(), ["docker.io/library/mine:7", "reg.io/web:1"]);
    // It dies while it writes: nothing is lost but what it was about to add.
    std::fs::write(&path, "{\"schemaVer").unwrap();
    assert_eq!(w.names(), ["docker.io/library/mine:7", "reg.io/web:1"]);
    assert!(w.verify().await.whole());
}

#[tokio::test]
async fn a_layout_of_another_tool_becomes_a_cache() {
    let w = World::new();
    let web1 = w.fake.tags["reg.io/web:1"].clone();
    std::fs::create_dir_all(&w.cache.root).unwrap();
    foreign(&w, Some("reg.io/web:1"), &web1);
    assert_eq!(w.names(), ["reg.io/web:1"]);
    let bundle = Bundle::open(w.cache.root()).await.unwrap();
    assert_eq!(bundle.images()[0].names, ["reg.io/web:1"]);
}

#[tokio::test]
async fn an_entry_that_lies_is_not_taken_over() {
    let w = World::new();
    w.pull(&["web:1"]).await;
    let web2 = w.fake.tags["reg.io/web:2"].clone();
    let other = Digest::sha256(b"other");
    foreign(&w, Some(&format!("reg.io/web@{other}")), &web2);
    assert_eq!(w.names(), ["reg.io/web:1"]);
    foreign(&w, Some("../../../etc/passwd"), &web2);
    assert_eq!(w.names(), ["reg.io/web:1"]);
    // Not whole.
    foreign(&w, Some("reg.io/web:2"), &web2);
    std::fs::remove_file(w.blob("web two, longer")).unwrap();
    assert_eq!(w.names(), ["reg.io/web:1"]);
}

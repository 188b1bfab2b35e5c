use super::*;

#[tokio::test]
async fn clearing_keeps_pinned_images_and_foreign_files() {
    let w = World::new();
    w.pull(&["web:1", "web:2"]).await;
    w.cache.pin(&["reg.io/web:2".into()], &[]).unwrap();
    std::fs::write(w.cache.root.join("blobs/sha256/notes.txt"), "mine").unwrap();
    let would = w.cache.clear(false, true).unwrap();
    assert_eq!((would.images, would.kept, w.names().len()), (1, 1, 2));
    w.cache.clear(false, false).unwrap();
    assert_eq!(w.names(), ["reg.io/web:2"]);
    assert!(w.verify().await.whole());
    w.cache.clear(true, false).unwrap();
    assert!(w.names().is_empty() && w.cache.pinned().unwrap().is_empty());
    assert_eq!(w.cache.statistics().unwrap().compressed_size, 0);
    assert!(w.cache.root.join("blobs/sha256/notes.txt").exists());
}

#[tokio::test]
async fn a_folder_with_other_things_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.odt"), "").unwrap();
    let cache = ImageCache::new(folder.path());
    assert!(matches!(cache.lease(), Err(CacheError::NotCache { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(cache.list().unwrap().is_empty());
}

#[tokio::test]
async fn metadata_stays_as_long_as_its_image() {
    let w = World::new();
    w.pull(&["web:1"]).await;
    let digest = w.cache.get(&name("web:1")).unwrap().digest;
    w.cache.put_metadata(Metadata::Signatures, &digest, b"{}").unwrap();
    w.cache.gc(&GcOptions::default()).unwrap();
    assert_eq!(w.cache.metadata(Metadata::Signatures, &digest).unwrap().as_deref(), Some(&b"{}"[..]));
    w.cache.remove(&[name("web:1")]).unwrap();
    w.cache.gc(&GcOptions::default()).unwrap();
    assert_eq!(w.cache.metadata(Metadata::Signatures, &digest).unwrap(), None);
}

#[tokio::test]
async fn a_blob_can_be_read_through_the_cache() {
    let w = World::new();
    w.pull(&["web:1"]).await;
    let base = Descriptor::of(media::OCI_LAYER, b"base");
    assert_eq!(read_verified(&w.cache, &base, 10).await.unwrap(), "base");
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let with = |set: &'static [(&str, &str)]| {
        ImageCache::default_root(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    };
    assert_eq!(with(&[("OMK_HOME", "/b"), ("OMYKUBE_HOME", "/a")]).unwrap(), Path::new("/a/cache/images"));
    assert_eq!(with(&[("OMK_HOME", "/b"), ("HOME", "/h")]).unwrap(), Path::new("/b/cache/images"));
    assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x/omk/images"));
    assert_eq!(with(&[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/omk/images"));
    assert_eq!(with(&[]), None);
}

//! Builds in front of which the cache stands.

use super::*;

#[tokio::test]
async fn builds_take_what_is_there_and_verify_it() {
    let w = World::new();
    let first = w.upstream(false);
    assert_eq!(w.build(&["web:1"], &first, "a.tar").await.unwrap(), 11 + documents(&w, "web:1").await);
    assert!(!w.cache.root().exists(), "a build that only reads makes no cache");
    w.pull(&["web:1"]).await;
    w.fake.asked();
    let warm = w.upstream(false);
    w.build(&["web:1"], &warm, "b.tar").await.unwrap();
    assert_eq!(w.fake.asked(), (1, 0, 0), "one look at the tag");
    warm.count().unwrap();
    let s = w.cache.statistics().unwrap();
    assert_eq!((s.image_hits, s.image_misses, s.bytes_hit), (1, 1, 11));
    let same = |n: &str| std::fs::read(w.folder.path().join(n)).unwrap();
    assert!(same("a.tar") == same("b.tar"));
    // Damaged since: found while it is copied, and fetched.
    std::fs::write(w.blob("web one"), "WEB ONE").unwrap();
    let fetched = w.build(&["web:1"], &w.upstream(false), "c.tar").await.unwrap();
    assert_eq!(fetched, 7);
    assert!(same("a.tar") == same("c.tar"));
    assert!(!w.blob("web one").exists());
}

async fn documents(w: &World, image: &str) -> u64 {
    let graph = w.fake.graph(&name(image), &[], &silent(), &CancellationToken::new()).await.unwrap();
    w.fake.asked();
    graph.documents.values().map(|b| b.len() as u64).sum()
}

#[tokio::test]
async fn offline_every_missing_image_is_named_with_what_fetches_it() {
    let w = World::new();
    w.pull(&["web:1", "multi:1"]).await;
    w.fake.asked();
    w.build(&["web:1", "multi:1"], &w.upstream(true), "a.tar").await.unwrap();
    std::fs::remove_file(w.blob("amd")).unwrap();
    let upstream = w.upstream(true).with_plain_http(vec!["reg.io".to_owned()]);
    let error = w.build(&["web:1", "web:2", "multi:1"], &upstream, "b.tar").await.unwrap_err();
    assert!(error.contains("2 of 3 images cannot be had"), "{error}");
    for command in ["web:2", "multi:1"] {
        assert!(
            error.contains(&format!(
                "omk image pull --platform linux/amd64 --plain-http reg.io reg.io/{command}"
            )),
            "{error}"
        );
    }
    assert!(error.contains(&format!("blob {} is missing", Digest::sha256(b"amd"))), "{error}");
    // A blob that is damaged is told by its name; there is nobody to fetch it from.
    std::fs::write(w.blob("web one"), "WEB ONE").unwrap();
    let error = w.build(&["web:1"], &w.upstream(true), "c.tar").await.unwrap_err();
    assert!(error.contains("is damaged"), "{error}");
    assert_eq!(w.fake.asked(), (0, 0, 0));
}

#[tokio::test]
async fn the_command_that_fetches_again_says_how_the_registry_is_reached() {
    let mut w = World::new();
    let command = |w: &World| w.cache.pull_command(&[name("web:1")], None, false, &[]);
    w.pull(&["web:1"]).await;
    assert_eq!(command(&w), "omk image pull reg.io/web:1");
    w.fake.plain = true;
    w.pull(&["web:1"]).await;
    assert_eq!(command(&w), "omk image pull --plain-http reg.io reg.io/web:1");
    // It speaks HTTPS by now.
    w.fake.plain = false;
    w.pull(&["web:2"]).await;
    assert_eq!(command(&w), "omk image pull reg.io/web:1");
    // A file of hints that cannot be written costs no pull.
    let hints = w.cache.root.join(reached::FILE);
    std::fs::remove_file(&hints).unwrap();
    std::fs::create_dir(&hints).unwrap();
    std::fs::write(hints.join("x"), "").unwrap();
    w.fake.plain = true;
    w.pull(&["multi:1"]).await;
    assert_eq!(command(&w), "omk image pull reg.io/web:1");
    // What a build fills in is remembered too.
    let mut other = World::new();
    other.fake.plain = true;
    let upstream = other.upstream(false);
    other.build(&["web:1"], &upstream, "a.tar").await.unwrap();
    let bundle = Bundle::open(&other.folder.path().join("a.tar")).await.unwrap();
    upstream.fill(Arc::new(bundle), 2, &silent(), &CancellationToken::new()).await.unwrap();
    assert_eq!(command(&other), "omk image pull --plain-http reg.io reg.io/web:1");
}

#[tokio::test]
async fn a_build_fills_the_cache_from_its_bundle() {
    let w = World::new();
    let upstream = w.upstream(false);
    w.build(&["web:1", "multi:1"], &upstream, "a.tar").await.unwrap();
    w.fake.asked();
    let bundle = Bundle::open(&w.folder.path().join("a.tar")).await.unwrap();
    let failed = upstream.fill(Arc::new(bundle), 2, &silent(), &CancellationToken::new()).await.unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(w.fake.asked(), (0, 0, 0));
    assert_eq!(w.names(), ["reg.io/multi:1", "reg.io/web:1"]);
    assert!(w.verify().await.whole());
    w.build(&["web:1", "multi:1"], &w.upstream(true), "b.tar").await.unwrap();
}

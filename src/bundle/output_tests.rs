use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{Fake, check};
use super::*;
use crate::oci::media;
use crate::store::BlobStore as _;

fn names(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn only_a_bundle_is_replaced() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x.tar");
    let mut other = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    other.append_data(&mut header, "diary.txt", &b"hi"[..]).unwrap();
    let other = other.into_inner().unwrap();
    let cases: [(&[u8], &str); 3] = [
        (b"kind: Pod\n", "is no bundle, which is never replaced"),
        (b"\x1f\x8b\x08\0", "is a gzip-compressed file"),
        (&other, "is a tar archive of something else"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&out, bytes).unwrap();
        let text = fake.build(&["web:1"], &out, Form::Tar).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        assert_eq!(std::fs::read(&out).unwrap(), bytes);
        assert_eq!(names(dir.path()), ["x.tar"]);
    }
    // An empty file holds nothing that could be lost, and a bundle can be fetched again, damaged or not.
    std::fs::write(&out, "").unwrap();
    fake.build(&["web:1"], &out, Form::Tar).await.unwrap();
    fake.build(&["tool:2"], &out, Form::Tar).await.unwrap();
    let whole = std::fs::read(&out).unwrap();
    std::fs::write(&out, &whole[..whole.len() - 1100]).unwrap();
    fake.build(&["tool:2"], &out, Form::Tar).await.unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), whole);
    let error = fake.build(&["web:1"], &out, Form::Folder).await.unwrap_err();
    assert!(matches!(error, BuildError::Output { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_of_something_else_is_not_written_to() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    for file in ["precious", "manifest.json", "partial/half-a-novel", "blobs/sha256/not-a-digest"] {
        let out = dir.path().join("x");
        std::fs::create_dir_all(out.join(file).parent().unwrap()).unwrap();
        std::fs::write(out.join(file), "x").unwrap();
        let error = fake.build(&["web:1"], &out, Form::Folder).await.unwrap_err();
        assert!(matches!(error, BuildError::Output { .. }), "{file}: {error}");
        assert!(out.join(file).exists() && !out.join("oci-layout").exists());
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[tokio::test]
async fn a_folder_build_that_was_interrupted_goes_on_and_another_content_replaces_it() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x");
    let store = crate::store::FolderStore::new(&out);
    let blob = crate::oci::Descriptor::of(media::OCI_LAYER, b"base");
    let mut half = store.ingest(&blob).await.unwrap();
    half.put("ba".into()).await.unwrap();
    drop(half);
    fake.build(&["web:1"], &out, Form::Folder).await.unwrap();
    std::fs::write(out.join("README"), "kept").unwrap();
    fake.build(&["tool:2"], &out, Form::Folder).await.unwrap();
    assert!(check(&out).await.unwrap().whole());
    assert_eq!(names(&out), ["README", "blobs", "index.json", "manifest.json", "oci-layout"]);
    let web = crate::oci::Digest::sha256(b"web");
    assert!(!out.join(web.layout_path()).exists(), "what the new index does not need is gone");
}

#[test]
fn outputs_and_sources_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let deploy = dir.path().join("deploy");
    std::fs::create_dir(&deploy).unwrap();
    std::fs::write(deploy.join("a.yaml"), "").unwrap();
    std::os::unix::fs::symlink(&deploy, dir.path().join("link")).unwrap();
    let (file, top) = (deploy.join("a.yaml"), dir.path().to_owned());
    let told = |out: PathBuf, form, source: &Path| match check_output(&out, form, &[source.to_owned()]) {
        Err(BuildError::Source { how, .. }) => how,
        other => panic!("{}: {other:?}", out.display()),
    };
    assert_eq!(told(file.clone(), Form::Tar, &file), "is the source");
    assert_eq!(told(deploy.join("x.tar"), Form::Tar, &deploy), "lies in the source");
    assert_eq!(told(dir.path().join("link/x"), Form::Folder, &deploy), "lies in the source");
    assert_eq!(told(top.clone(), Form::Folder, &deploy), "contains the source");
    for source in [&file, &deploy, &PathBuf::from("-"), &top.join("gone")] {
        check_output(&top.join("x.tar"), Form::Tar, std::slice::from_ref(source)).unwrap();
    }
}

#[tokio::test]
async fn where_nothing_can_be_written_is_told_before_anything_is_asked_for() {
    let (mut fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    // Would wait for ever: nobody may get as far as resolving.
    fake.together = Some(Arc::new(tokio::sync::Barrier::new(2)));
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for (parent, expected) in [
        (dir.path().join("no/such"), "no/such does not exist; create it first"),
        (file, "file is no folder"),
        (PathBuf::from("/proc/self"), "/proc/self cannot be written to"),
    ] {
        for form in [Form::Tar, Form::Folder] {
            let error = fake.build(&["web:1"], &parent.join("x"), form).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, BuildError::Unwritable { .. }), "{text}");
            assert!(text.contains("x cannot be written: ") && text.contains(expected), "{text}");
        }
    }
    assert_eq!(names(dir.path()), ["file"]);
}

/// Two builds of different images that began together: at most one may say that the output is its own.
async fn race(form: Form) {
    for _ in 0..10 {
        let (mut fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
        fake.together = Some(Arc::new(tokio::sync::Barrier::new(2)));
        let out = dir.path().join("x");
        let (web, tool) =
            tokio::join!(fake.build(&["web:1"], &out, form), fake.build(&["tool:2"], &out, form));
        let (winner, loser) = match (web, tool) {
            (Ok(_), Err(error)) => ("web:1", error),
            (Err(error), Ok(_)) => ("tool:2", error),
            (web, tool) => panic!("{web:?} and {tool:?}"),
        };
        let text = loser.to_string();
        assert!(matches!(loser, BuildError::Begin(_)), "{text}");
        assert!(text.contains("holds something else") || text.contains("another omk"), "{text}");
        let bundle = Bundle::open(&out).await.unwrap();
        let root = fake.roots[winner].digest();
        assert_eq!(bundle.images()[0].graph.root.digest(), root);
        assert!(check(&out).await.unwrap().whole());
        assert_eq!(names(dir.path()), ["x"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_builds_at_a_time_do_not_both_succeed_as_a_file() {
    race(Form::Tar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_builds_at_a_time_do_not_both_succeed_as_a_folder() {
    race(Form::Folder).await;
}

#[tokio::test]
async fn another_set_of_images_keeps_the_blobs_that_are_complete() {
    let (fake, dir) = (Fake::standard(), tempfile::tempdir().unwrap());
    let out = dir.path().join("x.tar");
    let mut fake = fake;
    let big = "a layer that is longer than the others, so it is fetched first";
    let image = fake.manifest("amd64", &[big]);
    fake.roots.insert("big:1".to_owned(), image);
    fake.gone = Some(crate::oci::Digest::sha256(b"web"));
    let error = fake.build_one_by_one(&["big:1", "web:1"], &out).await.unwrap_err();
    assert!(matches!(error, BuildError::Store(_)), "{error}");
    assert_eq!(names(dir.path()), ["x.tar.partial", "x.tar.partial.journal"]);
    fake.gone = Some(crate::oci::Digest::sha256(big.as_bytes()));
    let report = fake.build(&["big:1", "tool:2"], &out, Form::Tar).await.unwrap();
    assert!(report.resumed >= big.len() as u64, "{report:?}");
    assert!(check(&out).await.unwrap().whole());
    assert_eq!(names(dir.path()), ["x.tar"]);
}

#[tokio::test]
async fn what_docker_save_wrote_is_opened_and_a_device_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    archive.append_data(&mut header, "manifest.json", &b"[]"[..]).unwrap();
    archive.finish().unwrap();
    assert!(Bundle::open(&path).await.unwrap().images().is_empty());
    let text = Bundle::open(Path::new("/dev/null")).await.unwrap_err().to_string();
    assert!(text.contains("neither a file nor a folder"), "{text}");
}

use super::*;
use crate::copy::{Job, copy_blob};
use crate::event::silent;
use crate::oci::media;
use crate::store::MemoryStore;
use tokio_util::sync::CancellationToken;

fn job() -> Job {
    Job { events: silent(), cancel: CancellationToken::new(), node: None, parallel: 2 }
}

fn layout(blobs: &[Descriptor], texts: &[(String, Vec<u8>)]) -> Layout {
    let texts = texts.iter().map(|(n, b)| (n.clone(), b.len() as u64));
    Layout::new(texts.chain(blobs.iter().map(|b| (b.digest().layout_path(), b.size()))))
}

struct Case {
    _dir: tempfile::TempDir,
    out: PathBuf,
    source: MemoryStore,
    blobs: Vec<Descriptor>,
    texts: Vec<(String, Vec<u8>)>,
}

fn case() -> Case {
    let dir = tempfile::tempdir().unwrap();
    let source = MemoryStore::new();
    let blobs = vec![
        source.insert(media::OCI_LAYER, vec![7_u8; 3 * super::super::file::CHUNK + 17]),
        source.insert(media::OCI_LAYER, "small"),
        source.insert(media::OCI_LAYER, ""),
    ];
    let texts = vec![("index.json".to_owned(), b"{}".to_vec())];
    Case { out: dir.path().join("x.tar"), _dir: dir, source, blobs, texts }
}

impl Case {
    fn seen(&self) -> Stamp {
        Stamp::of(&self.out).unwrap()
    }

    fn beside(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.out.parent().unwrap()).unwrap();
        let mut names: Vec<String> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn begin(&self) -> (ArchiveWriter, Begun) {
        ArchiveWriter::begin(
            &self.out,
            self.seen(),
            layout(&self.blobs, &self.texts),
            &self.blobs,
            &self.texts,
        )
        .unwrap()
    }

    async fn whole(&self) {
        let (writer, _) = self.begin();
        for blob in self.blobs.iter().rev() {
            copy_blob(&self.source, &writer, blob, &job()).await.unwrap();
        }
        writer.finish().unwrap();
    }
}

#[tokio::test]
async fn what_was_written_is_a_tar_that_the_tar_library_reads() {
    let case = case();
    case.whole().await;
    let mut archive = tar::Archive::new(std::fs::File::open(&case.out).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    let expected: Vec<String> = ["index.json".to_owned()]
        .into_iter()
        .chain(case.blobs.iter().map(|b| b.digest().layout_path()))
        .collect();
    assert_eq!(names, expected);
    let read = Archive::open(&case.out).unwrap();
    assert_eq!(read.problems(), []);
    assert_eq!(read.text("index.json", 10).unwrap().unwrap(), b"{}");
    for blob in &case.blobs {
        assert_eq!(read.hash(blob.digest()).unwrap(), *blob.digest());
    }
    assert_eq!(case.beside(), ["x.tar"]);
}

#[tokio::test]
async fn nothing_has_the_final_name_before_all_is_there_and_the_next_run_resumes() {
    let case = case();
    let (writer, begun) = case.begin();
    assert_eq!(begun, Begun::Fresh);
    copy_blob(&case.source, &writer, &case.blobs[1], &job()).await.unwrap();
    let mut half = writer.ingest(&case.blobs[0]).await.unwrap();
    half.put(vec![7_u8; 2 * super::super::file::CHUNK].into()).await.unwrap();
    half.put(vec![7_u8; super::super::file::CHUNK].into()).await.unwrap();
    drop(half);
    assert!(writer.finish().is_err());
    assert!(!case.out.exists());
    drop(writer);

    let (writer, begun) = case.begin();
    assert_eq!(begun, Begun::Resumed);
    assert_eq!(writer.size(case.blobs[1].digest()).await.unwrap(), Some(5));
    let copied = copy_blob(&case.source, &writer, &case.blobs[0], &job()).await.unwrap();
    assert_eq!(copied.resumed, 2 * super::super::file::CHUNK as u64);
    copy_blob(&case.source, &writer, &case.blobs[2], &job()).await.unwrap();
    writer.finish().unwrap();
    let resumed = std::fs::read(&case.out).unwrap();
    case.whole().await;
    assert_eq!(resumed, std::fs::read(&case.out).unwrap(), "same input, same bytes");
}

#[tokio::test]
async fn another_layout_starts_anew_and_two_writers_exclude_each_other() {
    let mut case = case();
    let (writer, _) = case.begin();
    let again = ArchiveWriter::begin(
        &case.out,
        case.seen(),
        layout(&case.blobs, &case.texts),
        &case.blobs,
        &case.texts,
    );
    assert!(again.unwrap_err().to_string().contains("another omk"));
    drop(writer);
    case.texts[0].1 = b"{\"changed\": true}".to_vec();
    assert_eq!(case.begin().1, Begun::Replaced);
}

#[test]
fn hostile_archives_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evil.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut add = |name: &str, kind: tar::EntryType, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(data.len() as u64);
        header.set_entry_type(kind);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    };
    add("../up", tar::EntryType::Regular, b"x");
    add("/abs", tar::EntryType::Regular, b"x");
    add("index.json", tar::EntryType::Symlink, b"");
    add("a", tar::EntryType::Regular, b"1");
    add("./a", tar::EntryType::Regular, b"2");
    builder.finish().unwrap();
    drop(builder);
    let archive = Archive::open(&path).unwrap();
    let named: Vec<&str> = archive.problems().iter().map(|p| p.entry.as_str()).collect();
    assert_eq!(named, ["../up", "/abs", "index.json", "a"]);
}

#[tokio::test]
async fn a_cut_archive_names_the_blob() {
    let case = case();
    case.whole().await;
    let file = std::fs::OpenOptions::new().write(true).open(&case.out).unwrap();
    file.set_len(3000).unwrap();
    let archive = Archive::open(&case.out).unwrap();
    assert_eq!(archive.problems().len(), 1);
    assert_eq!(archive.problems()[0].entry, case.blobs[0].digest().layout_path());
    assert!(archive.problems()[0].reason.starts_with("cut off"), "{:?}", archive.problems());
}

#[tokio::test]
async fn a_file_that_got_its_name_while_its_lock_was_waited_for_is_left_alone() {
    let case = case();
    let (writer, _) = case.begin();
    for blob in &case.blobs {
        copy_blob(&case.source, &writer, blob, &job()).await.unwrap();
    }
    let (out, layout) = (case.out.clone(), layout(&case.blobs, &case.texts));
    let (blobs, texts, seen) = (case.blobs.clone(), case.texts.clone(), case.seen());
    let second =
        std::thread::spawn(move || ArchiveWriter::begin(&out, seen, layout, &blobs, &texts).map(|(_, b)| b));
    // Long enough for the second to open the file and to find it locked.
    std::thread::sleep(std::time::Duration::from_millis(300));
    writer.finish().unwrap();
    let whole = std::fs::read(&case.out).unwrap();
    drop(writer);
    assert_eq!(second.join().unwrap().unwrap(), Begun::Fresh);
    assert!(std::fs::read(&case.out).unwrap() == whole, "the finished file was written to");
}

#[tokio::test]
async fn a_journal_never_outlives_the_content_that_it_tells_of() {
    let case = case();
    let (writer, _) = case.begin();
    for blob in &case.blobs[..2] {
        copy_blob(&case.source, &writer, blob, &job()).await.unwrap();
    }
    drop(writer);
    // Another content of the same length that is given up after the old one was thrown away.
    let name = "x".repeat(200);
    let sizes = case.blobs.iter().map(|b| (b.digest().layout_path(), b.size()));
    let other = Layout::new(std::iter::once((name.clone(), 2)).chain(sizes));
    assert_eq!(other.size(), layout(&case.blobs, &case.texts).size());
    ArchiveWriter::begin(&case.out, case.seen(), other, &case.blobs, &[(name, b"{}".to_vec())]).unwrap_err();
    let (writer, begun) = case.begin();
    assert_ne!(begun, Begun::Resumed);
    assert_eq!(writer.size(case.blobs[0].digest()).await.unwrap(), None);
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let huge = [
        Descriptor::new("x", Digest::sha256(b"a"), u64::MAX),
        Descriptor::new("x", Digest::sha256(b"b"), 1 << 63),
    ];
    let layout = layout(&huge, &[]);
    assert_eq!(layout.size(), u64::MAX);
    let out = dir.path().join("x.tar");
    let error = ArchiveWriter::begin(&out, Stamp::of(&out).unwrap(), layout, &huge, &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("needs 18446.7 PB") && text.contains("free"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of a file without room");
}

#[tokio::test]
async fn what_another_layout_left_is_read_from_it() {
    let mut case = case();
    let (writer, _) = case.begin();
    copy_blob(&case.source, &writer, &case.blobs[0], &job()).await.unwrap();
    drop(writer);
    let more = case.source.insert(media::OCI_LAYER, "one more");
    case.blobs.push(more);
    let (writer, begun) = case.begin();
    assert_eq!(begun, Begun::Salvaged);
    assert_eq!(case.beside(), ["x.tar.partial", "x.tar.partial.journal"]);
    let leftover = Arc::clone(writer.leftover().unwrap());
    let source = leftover.before(Arc::new(case.source.clone()));
    for blob in &case.blobs {
        copy_blob(source.as_ref(), &writer, blob, &job()).await.unwrap();
    }
    assert_eq!((leftover.blobs(), leftover.used()), (1, case.blobs[0].size()));
    writer.finish().unwrap();
    let archive = Archive::open(&case.out).unwrap();
    for blob in &case.blobs {
        assert_eq!(archive.hash(blob.digest()).unwrap(), *blob.digest());
    }
    assert_eq!(case.beside(), ["x.tar"]);
}

#[tokio::test]
async fn a_leftover_with_other_bytes_than_its_journal_says_is_not_used() {
    use std::os::unix::fs::FileExt as _;
    let mut case = case();
    let (writer, _) = case.begin();
    copy_blob(&case.source, &writer, &case.blobs[0], &job()).await.unwrap();
    let at = writer.place(case.blobs[0].digest()).unwrap().data();
    writer.file.write_all_at(b"?", at).unwrap();
    drop(writer);
    case.texts[0].1 = b"{\"changed\": true}".to_vec();
    let (writer, begun) = case.begin();
    assert_eq!(begun, Begun::Salvaged);
    let leftover = Arc::clone(writer.leftover().unwrap());
    let source = leftover.before(Arc::new(case.source.clone()));
    copy_blob(source.as_ref(), &writer, &case.blobs[0], &job()).await.unwrap();
    assert_eq!(leftover.used(), 0);
}

#[tokio::test]
async fn of_two_builds_at_a_time_one_with_other_content_is_told() {
    let case = case();
    let seen = case.seen();
    case.whole().await;
    let whole = std::fs::read(&case.out).unwrap();
    let other = vec![("index.json".to_owned(), b"{\"other\": 1}".to_vec())];
    let begin = |texts: &[(String, Vec<u8>)]| {
        ArchiveWriter::begin(&case.out, seen, layout(&case.blobs, texts), &case.blobs, texts)
    };
    let error = begin(&other).unwrap_err().to_string();
    assert!(error.contains("holds something else"), "{error}");
    assert_eq!(case.beside(), ["x.tar"]);
    // The same content may be written once more.
    assert_eq!(begin(&case.texts).unwrap().1, Begun::Fresh);
    assert_eq!(std::fs::read(&case.out).unwrap(), whole);
}

#[test]
fn what_somebody_else_keeps_under_the_partial_name_stays() {
    let case = case();
    let partial = case.out.with_extension("tar.partial");
    std::fs::write(&partial, "half a download").unwrap();
    let error = ArchiveWriter::begin(
        &case.out,
        case.seen(),
        layout(&case.blobs, &case.texts),
        &case.blobs,
        &case.texts,
    );
    assert!(error.unwrap_err().to_string().contains("was not left by omk"));
    assert_eq!(std::fs::read(&partial).unwrap(), b"half a download");
}

#[test]
fn what_is_no_tar_file_is_named_without_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let garbage: Vec<u8> = (0..=255u8).cycle().skip(7).take(4096).collect();
    let cases: [(&[u8], &str); 6] = [
        (b"\x1f\x8b\x08\0\0\0", "is gzip-compressed; decompress it first: gzip -dk "),
        (b"\x28\xb5\x2f\xfd\0", "is zstd-compressed"),
        (b"\xfd7zXZ\0\0", "is xz-compressed"),
        (b"", "is no tar archive: it is empty"),
        (b"kind: Pod\n", "is no tar archive: it is shorter than one header"),
        (&garbage, "is no tar archive: it does not begin with a tar header"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let text = Archive::open(&path).unwrap_err().to_string();
        assert!(text.contains(expected) && !text.contains(char::is_control), "{text:?}");
    }
    // The magic word alone makes no header.
    let mut almost = garbage;
    almost[257..262].copy_from_slice(b"ustar");
    std::fs::write(&path, &almost).unwrap();
    let text = Archive::open(&path).unwrap_err().to_string();
    assert!(text.ends_with("what stands there is no tar header"), "{text:?}");
}

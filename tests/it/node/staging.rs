//! Staging: what arrives, what is resumed, what is never believed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use omk::node::{Holder, NodeError, NodeSession as _, SshSession};
use omk::store::StoreError;

use super::{Bed, connect};
use crate::conformance::{blob, conforms, noise, send};

#[tokio::test(flavor = "multi_thread")]
async fn staging_of_the_demo_server_conforms() {
    let bed = Bed::demo().await;
    let session = bed.connect().await;
    conforms(session.staging(&bed.staging()).await.unwrap().as_ref()).await;
    assert_eq!(leftovers(&bed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_of_openssh_conforms() {
    let Some(bed) = Bed::openssh() else { return };
    let session = bed.connect().await;
    conforms(session.staging(&bed.staging()).await.unwrap().as_ref()).await;
    assert_eq!(leftovers(&bed), Vec::<String>::new());
}

/// Partial files of blobs that are worth resuming.
fn leftovers(bed: &Bed) -> Vec<String> {
    let names = std::fs::read_dir(Path::new(&bed.staging()).join("partial")).unwrap();
    names.map(|n| n.unwrap().file_name().into_string().unwrap()).filter(|n| n.ends_with(".journal")).collect()
}

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_costs_few_bytes() {
    let bed = Bed::demo().await;
    let bytes = noise(11, 48 * MIB);
    let blob = blob(&bytes);
    let options = bed.options();
    let session = connect(&bed.node(), &options).await.unwrap();
    let store = session.staging(&bed.staging()).await.unwrap();
    bed.server().drop_after(30 << 20);
    let error = send(store.as_ref(), &blob, &bytes).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }) && error.may_retry(), "{error}");

    // The same run, a new connection.
    let before = bed.server().received();
    let session = connect(&bed.node(), &options).await.unwrap();
    let store = session.staging(&bed.staging()).await.unwrap();
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
    let offset = send(store.as_ref(), &blob, &bytes).await.unwrap();
    // 30 MiB arrived, of which the last 16 MiB may have been without an answer.
    assert!(offset >= 12 * MIB as u64, "only {offset} bytes were resumed");
    let again = bed.server().received() - before;
    let rest = bytes.len() as u64 - offset;
    assert!(again < rest + rest / 50 + 200_000, "{again} bytes were sent for the remaining {rest}");
    assert_eq!(omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap(), bytes);
    assert_eq!(leftovers(&bed), Vec::<String>::new());
}

/// Stages a part and leaves it, as a run that was killed; returns the partial file.
async fn interrupted(bed: &Bed, blob: &omk::oci::Descriptor, part: bytes::Bytes) -> PathBuf {
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let before = std::collections::BTreeSet::from_iter(leftovers(bed));
    let mut ingest = store.ingest(blob).await.unwrap();
    ingest.put(part.clone()).await.unwrap();
    // What is under way still arrives; wait until the journal stands still at what was put.
    let whole = part.len() / (4 * MIB);
    let journal = loop {
        let journal = leftovers(bed).into_iter().find(|j| !before.contains(j));
        let path = journal.map(|j| Path::new(&bed.staging()).join("partial").join(j));
        if let Some(path) = path
            && std::fs::read_to_string(&path).unwrap().lines().count() >= whole - 1
        {
            break path;
        }
        ingest.put(bytes::Bytes::new()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(ingest);
    session.close().await;
    journal.with_extension("")
}

/// Dates the file back. The server may still be writing what was under way when the connection ended, which would make it
/// fresh again: it is old when it stayed old for a while.
async fn grow_old(path: &Path) {
    let mut quiet = 0;
    while quiet < 10 {
        let modified = path.metadata().unwrap().modified().unwrap();
        if modified.elapsed().is_ok_and(|age| age > Duration::from_secs(300)) {
            quiet += 1;
        } else {
            quiet = 0;
            let aged = Command::new("touch").arg("-d").arg("10 minutes ago").arg(path).status().unwrap();
            assert!(aged.success());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn another_run_goes_on(bed: &Bed, age: bool) {
    let bytes = noise(12, 30 * MIB);
    let blob = blob(&bytes);
    let partial = interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    if age {
        grow_old(&partial).await;
    }
    // Other options: another run, for instance from another machine.
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let ingest = store.ingest(&blob).await.unwrap();
    assert!(ingest.offset() >= 16 * MIB as u64, "only {} bytes were resumed", ingest.offset());
    // A fresh file may belong to a living run and stays; a stale one is taken.
    assert_eq!(partial.exists(), !age);
    drop(ingest);
    assert!(send(store.as_ref(), &blob, &bytes).await.unwrap() >= 16 * MIB as u64);
    assert_eq!(omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap(), bytes);
    assert!(!partial.exists() && leftovers(bed).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_goes_on_from_a_fresh_part() {
    another_run_goes_on(&Bed::demo().await, false).await;
    if let Some(bed) = Bed::openssh() {
        another_run_goes_on(&bed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_goes_on_from_a_stale_part() {
    another_run_goes_on(&Bed::demo().await, true).await;
    if let Some(bed) = Bed::openssh() {
        another_run_goes_on(&bed, true).await;
    }
}

/// The lock of a session that has just ended may still be held.
async fn hold(session: &SshSession, staging: &str, run: &str) {
    let mut tries = 0;
    while let Err(error) = session.hold(staging, &Holder::new(run, "n1")).await {
        assert!(matches!(error, NodeError::Busy { .. }) && tries < 200, "{error}");
        tries += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// However often a run is interrupted, one part of a blob is on the node.
async fn interruptions_do_not_add_up(bed: &Bed) {
    let bytes = noise(16, 30 * MIB);
    let blob = blob(&bytes);
    let staging = bed.staging();
    interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    for run in ["r1", "r2", "r3"] {
        let session = bed.connect().await;
        let store = session.staging(&staging).await.unwrap();
        hold(&session, &staging, run).await;
        let ingest = store.ingest(&blob).await.unwrap();
        assert!(ingest.offset() >= 16 * MIB as u64, "only {} bytes were resumed", ingest.offset());
        assert_eq!(leftovers(bed).len(), 1, "{run}");
        drop(ingest);
    }
    // As older versions left it: the next run begins with one part of each blob.
    let partial = Path::new(&staging).join("partial");
    let old = leftovers(bed).remove(0);
    for copy in ["one", "two"] {
        let copy = partial.join(format!("{}.{copy}", blob.digest().hex()));
        std::fs::write(&copy, &bytes[..MIB]).unwrap();
        std::fs::write(
            copy.with_extension(format!("{}.journal", copy.extension().unwrap().display())),
            "0 4194304 x\n",
        )
        .unwrap();
    }
    assert_eq!(leftovers(bed).len(), 3);
    let session = bed.connect().await;
    let store = session.staging(&staging).await.unwrap();
    hold(&session, &staging, "r4").await;
    assert_eq!(leftovers(bed), [old], "the largest");
    assert!(send(store.as_ref(), &blob, &bytes).await.unwrap() >= 16 * MIB as u64);
    assert_eq!(std::fs::read_dir(partial).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn interruptions_leave_one_part_of_a_blob() {
    interruptions_do_not_add_up(&Bed::demo().await).await;
    if let Some(bed) = Bed::openssh() {
        interruptions_do_not_add_up(&bed).await;
    }
}

/// As after a power loss: the journal is there, the data is not what it says.
async fn damage_is_found(bed: &Bed, damage: impl Fn(&Path), resumed: std::ops::RangeInclusive<u64>) {
    use std::os::unix::fs::FileExt as _;

    let bytes = noise(13, 30 * MIB);
    let blob = blob(&bytes);
    let partial = interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    damage(&partial);
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let offset = send(store.as_ref(), &blob, &bytes).await.unwrap();
    assert!(resumed.contains(&offset), "resumed at {offset}");
    assert_eq!(omk::store::read_verified(store.as_ref(), &blob, blob.size()).await.unwrap(), bytes);

    // Damaged after it was proved, before the commit.
    let bytes = noise(14, 30 * MIB);
    let blob = crate::conformance::blob(&bytes);
    interrupted(bed, &blob, bytes.slice(..25 * MIB)).await;
    let session = bed.connect().await;
    let store = session.staging(&bed.staging()).await.unwrap();
    let mut ingest = store.ingest(&blob).await.unwrap();
    let offset = usize::try_from(ingest.offset()).unwrap();
    assert!(offset > 0);
    for entry in std::fs::read_dir(Path::new(&bed.staging()).join("partial")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e != "journal") {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"damage", 1_000_000).unwrap();
        }
    }
    ingest.put(bytes.slice(offset..)).await.unwrap();
    let error = ingest.commit().await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert_eq!(store.size(blob.digest()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_is_not_resumed_onto() {
    use std::os::unix::fs::FileExt as _;

    let flip = |partial: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(partial).unwrap();
        file.write_all_at(b"damage", 9 * MIB as u64).unwrap();
    };
    damage_is_found(&Bed::demo().await, flip, 8 * MIB as u64..=8 * MIB as u64).await;
    if let Some(bed) = Bed::openssh() {
        damage_is_found(&bed, flip, 8 * MIB as u64..=8 * MIB as u64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_lost_its_end_is_resumed_from_what_is_left() {
    let cut = |partial: &Path| {
        std::fs::OpenOptions::new().write(true).open(partial).unwrap().set_len(13 * MIB as u64).unwrap();
    };
    damage_is_found(&Bed::demo().await, cut, 12 * MIB as u64..=12 * MIB as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_do_not_disturb_each_other() {
    let bed = Bed::demo().await;
    let bytes = noise(15, 20 * MIB);
    let blob = blob(&bytes);
    let mut wrong = bytes.to_vec();
    wrong[19 * MIB] ^= 1;
    let wrong = bytes::Bytes::from(wrong);
    let (one, two, three) = (bed.connect().await, bed.connect().await, bed.connect().await);
    let staging = bed.staging();
    let (one, two, three) =
        tokio::join!(one.staging(&staging), two.staging(&staging), three.staging(&staging));
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    let results = tokio::join!(
        send(one.as_ref(), &blob, &bytes),
        send(two.as_ref(), &blob, &bytes),
        // A run with a damaged bundle.
        send(three.as_ref(), &blob, &wrong),
    );
    results.0.unwrap();
    results.1.unwrap();
    assert!(results.2.is_err());
    assert_eq!(omk::store::read_verified(one.as_ref(), &blob, blob.size()).await.unwrap(), bytes);
}

#[tokio::test]
async fn only_a_staging_folder_is_taken_for_one() {
    let bed = Bed::demo().await;
    let session = bed.connect().await;
    let root = bed.folder.path().canonicalize().unwrap();
    let home = root.join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("thesis"), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
    for bad in
        [home.as_path(), &root.join("link"), Path::new("/"), Path::new("relative"), &root.join("a/../b")]
    {
        assert!(session.staging(&bad.display().to_string()).await.is_err(), "{} was taken", bad.display());
    }
    let good = root.join("new/deep/staging").display().to_string();
    session.staging(&good).await.unwrap();
    session.staging(&good).await.unwrap();
    session.write_file(&format!("{good}/index.json"), &noise(1, 700_000)).await.unwrap();
    session.write_file(&format!("{good}/index.json"), b"{}").await.unwrap();
    assert_eq!(std::fs::read_to_string(format!("{good}/index.json")).unwrap(), "{}");
    assert_eq!(std::fs::read_dir(&good).unwrap().count(), 4, "index.json, blobs, partial, .omk-staging");
}

/// The command that holds the lock is killed and the connection is not: the lock is taken again, not believed in.
pub(super) async fn loses_the_lock_and_takes_it_again(session: &SshSession, staging: &str, holder: &Holder) {
    let mark = || std::fs::read_to_string(Path::new(staging).join(".omk-staging")).unwrap();
    let before = mark();
    let pid = before.split_ascii_whitespace().nth(1).unwrap();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    let mut tries = 0;
    while mark() == before {
        assert!(session.hold(staging, holder).await.unwrap());
        tries += 1;
        assert!(tries < 200, "it says that it holds what it has lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_folder_has_one_holder(bed: &Bed) {
    let staging = bed.staging();
    let (one, two) = (bed.connect().await, bed.connect().await);
    one.staging(&staging).await.unwrap();
    let partial = Path::new(&staging).join("partial");
    let part = |name: String, bytes: &str| std::fs::write(partial.join(name), bytes).unwrap();
    let (empty, small, good) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
    part(format!("{empty}.run"), "");
    part(format!("{empty}.run.journal"), "");
    part(format!("{small}.run"), "a blob too small for a journal");
    part(format!("{good}.run"), "x");
    part(format!("{good}.run.journal"), "0 4194304 x");
    let holder = |run: &str| Holder::new(run, "n1");
    one.hold(&staging, &holder("r1")).await.unwrap();
    one.hold(&staging, &holder("r1")).await.unwrap();
    let mut left: Vec<String> =
        std::fs::read_dir(&partial).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [format!("{good}.run"), format!("{good}.run.journal")], "what can be resumed stays");

    two.staging(&staging).await.unwrap();
    let error = two.hold(&staging, &holder("r2")).await.unwrap_err();
    let NodeError::Busy { holder: who } = &error else { panic!("{error}") };
    assert!(who.contains("run r1, node n1") && !error.may_retry(), "{error}");
    loses_the_lock_and_takes_it_again(&one, &staging, &holder("r1")).await;
    assert!(matches!(two.hold(&staging, &holder("r2")).await, Err(NodeError::Busy { .. })));
    // A connection of the same run that was lost without the node knowing: its lock is taken over.
    two.hold(&staging, &holder("r1")).await.unwrap();
    // Dropping is what happens to a session whose process is killed.
    drop(two);
    drop(one);
    let three = bed.connect().await;
    let mut tries = 0;
    while let Err(error) = three.hold(&staging, &holder("r3")).await {
        assert!(matches!(error, NodeError::Busy { .. }) && tries < 200, "{error}");
        tries += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_holder_on_the_demo_server() {
    a_folder_has_one_holder(&Bed::demo().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_holder_on_openssh() {
    if let Some(bed) = Bed::openssh() {
        a_folder_has_one_holder(&bed).await;
    }
}

//! Media sets: written, read, damaged in every way, and repaired.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use omk::bundle::{
    Bundle, BundleError, Kind, Opening, SplitReport, SplitRequest, Target, To, VerifyReport, VolumeError,
    export, repair, split, verify_opened,
};
use omk::event::silent;
use omk::oci::Digest;
use omk::store::MemoryStore;
use tokio_util::sync::CancellationToken;

use crate::images::{image, noise, write_layout};

struct Case {
    folder: tempfile::TempDir,
    root: Digest,
}

/// Bytes of the image in [`Case`], about.
const SIZE: usize = 1_300_000;

impl Case {
    /// A bundle `x.tar`.
    async fn new(seed: u64) -> Self {
        let (store, folder) = (MemoryStore::new(), tempfile::tempdir().unwrap());
        let root = image(&store, "linux/amd64", &[&noise(seed, SIZE), &noise(seed + 1, 300)]);
        write_layout(&folder.path().join("layout"), &store, &root);
        let case = Self { folder, root: root.digest().clone() };
        let bundle = Opening::new([case.path("layout")]).base_name("quay.io/acme/web").open().await.unwrap();
        let target = Target::OciArchive(To::File(case.path("x.tar")));
        export(&bundle, bundle.images(), None, target, &silent(), &CancellationToken::new()).await.unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn split(&self, to: &str, size: &str, parity: u8) -> SplitReport {
        let bundle = Bundle::open(&self.path("x.tar")).await.unwrap();
        let (output, size) = (self.path(to), size.parse().unwrap());
        let request = SplitRequest { output, name: None, size, parity, program: None };
        split(&bundle, &request, &silent(), &CancellationToken::new()).await.unwrap()
    }

    /// Twenty volumes with data and two with parity.
    async fn twenty(&self, to: &str) -> SplitReport {
        for size in (80..140).rev() {
            let report = self.split(to, &format!("{size}kb"), 10).await;
            if report.volumes.iter().filter(|v| !v.parity).count() == 20 {
                assert_eq!(report.volumes.len(), 22);
                return report;
            }
            std::fs::remove_dir_all(self.path(to)).unwrap();
        }
        panic!("no size gives twenty volumes");
    }

    /// The files of a folder by name.
    fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let all = std::fs::read_dir(self.path(folder)).unwrap();
        let read =
            |e: std::fs::DirEntry| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap());
        let mut files: Vec<_> = all.map(|e| read(e.unwrap())).collect();
        files.sort();
        files
    }

    async fn verify(&self, name: &str) -> VerifyReport {
        verify_opened(&Opening::new([self.path(name)])).await.unwrap()
    }

    async fn repair(&self, name: &str) -> Result<usize, VolumeError> {
        let done = repair(&[self.path(name)], None, &silent(), &CancellationToken::new()).await?;
        Ok(done.rebuilt.len())
    }

    async fn refused(&self, paths: &[&str]) -> BundleError {
        Opening::new(paths.iter().map(|p| self.path(p))).open().await.unwrap_err()
    }
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}

fn cut(path: &Path, len: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_read_where_they_lie_from_any_of_them() {
    let case = Case::new(1).await;
    let report = case.split("v", "400kb", 25).await;
    let names: Vec<&str> = report.volumes.iter().map(|v| v.file.as_str()).collect();
    assert_eq!(
        names,
        ["x.001of004.omkv", "x.002of004.omkv", "x.003of004.omkv", "x.004of004.omkv", "x.parity01of01.omkv"]
    );
    assert!(report.volumes.iter().all(|v| v.size <= 400_000), "{report:?}");
    // What is on them is the bundle, byte for byte.
    let tar = std::fs::read(case.path("x.tar")).unwrap();
    let bundle = Bundle::open(&case.path("v")).await.unwrap();
    assert_eq!(bundle.kind(), Kind::Volumes { data: 4, parity: 1 });
    let out = std::fs::File::create(case.path("joined.tar")).unwrap();
    let target = Target::OciArchive(To::Stream(Box::new(out)));
    export(&bundle, bundle.images(), None, target, &silent(), &CancellationToken::new()).await.unwrap();
    assert_eq!(std::fs::read(case.path("joined.tar")).unwrap(), tar);
    // Any of them will do, also where they lie apart, and without parity.
    std::fs::create_dir(case.path("w")).unwrap();
    for name in ["x.002of004.omkv", "x.003of004.omkv"] {
        std::fs::rename(case.path("v").join(name), case.path("w").join(name)).unwrap();
    }
    std::fs::remove_file(case.path("v/x.parity01of01.omkv")).unwrap();
    for paths in [
        &["v", "w"][..],
        &["w", "v"],
        &["v/x.001of004.omkv", "w/x.003of004.omkv"],
        &["w/x.002of004.omkv", "v"],
    ] {
        let bundle = Opening::new(paths.iter().map(|p| case.path(p))).open().await.unwrap();
        assert_eq!(bundle.images()[0].graph.root.digest(), &case.root, "{paths:?}");
    }
    let error = case.refused(&["v"]).await;
    let text = error.to_string();
    assert!(error.is_damage() && text.contains("volume 2 of 4 is missing (x.002of004.omkv)"), "{text}");
    assert!(text.contains("volume 3 of 4 is missing"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bundle_gives_the_same_volumes() {
    let case = Case::new(1).await;
    case.split("a", "400kb", 50).await;
    case.split("b", "400kb", 50).await;
    assert_eq!(case.files("a"), case.files("b"));
    // Written over what is there, one of them lost and another interrupted: the same again.
    std::fs::remove_file(case.path("a/x.002of004.omkv")).unwrap();
    std::fs::write(case.path("a/x.003of004.omkv.partial"), noise(3, 700_000)).unwrap();
    case.split("a", "400kb", 50).await;
    assert_eq!(case.files("a"), case.files("b"));
    let sums =
        Command::new("sha256sum").args(["-c", "--quiet", "SHA256SUMS"]).current_dir(case.path("a")).output();
    let sums = sums.unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    let readme = String::from_utf8(std::fs::read(case.path("a/README.txt")).unwrap()).unwrap();
    assert!(readme.contains("quay.io/acme/web:latest") && readme.contains("x.parity02of02.omkv"), "{readme}");
    insta::assert_snapshot!(readme);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_damaged_volumes_of_twenty_are_repaired_with_ten_percent_of_parity() {
    let case = Case::new(1).await;
    case.twenty("v").await;
    let before = case.files("v");
    assert!(case.verify("v").await.whole());
    assert_eq!(case.repair("v").await.unwrap(), 0);
    let (one, two) = (case.path("v/x.007of020.omkv"), case.path("v/x.015of020.omkv"));
    for at in [4096 + 100, 4096 + 4095, 4096 + 4096 * 3 + 1] {
        flip(&one, at);
    }
    std::fs::remove_file(&two).unwrap();
    let report = case.verify("v").await;
    let bad: Vec<_> =
        report.bad_volumes.iter().map(|b| (b.file.clone(), b.missing, b.ranges.clone())).collect();
    let ranges = vec![(4096, 8192), (16384, 20480)];
    assert_eq!(bad, [(one, false, ranges), (two, true, Vec::new())], "{report:?}");
    // Elsewhere, into a folder that is not there yet, and in place.
    let elsewhere = case.path("fixed/here");
    let done = repair(&[case.path("v")], Some(elsewhere.clone()), &silent(), &CancellationToken::new()).await;
    assert_eq!(done.unwrap().rebuilt.len(), 2);
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 2);
    assert_eq!(case.repair("v").await.unwrap(), 2);
    assert_eq!(case.files("v"), before);
    assert!(case.verify("v").await.whole());

    // Both with parity lost, and one with each.
    for lost in [["x.parity01of02.omkv", "x.parity02of02.omkv"], ["x.parity01of02.omkv", "x.020of020.omkv"]] {
        lost.iter().for_each(|n| std::fs::remove_file(case.path("v").join(n)).unwrap());
        assert_eq!(case.repair("v").await.unwrap(), 2);
        assert_eq!(case.files("v"), before);
    }
    // A little of many, never more than two at the same place.
    for number in 1..=20 {
        flip(&case.path(&format!("v/x.{number:03}of020.omkv")), 4096 + (number - 1) / 2 * 4096 + 77);
    }
    assert_eq!(case.verify("v").await.bad_volumes.len(), 20);
    assert_eq!(case.repair("v").await.unwrap(), 20);
    assert_eq!(case.files("v"), before);

    // Three at the same place are one too many, and nothing is touched.
    for number in [3, 9, 12] {
        flip(&case.path(&format!("v/x.{number:03}of020.omkv")), 5000);
    }
    let damaged = case.files("v");
    let error = case.repair("v").await.unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("x.009of020.omkv"), "{error}");
    assert_eq!(case.files("v"), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_a_volume_may_be_damaged() {
    let case = Case::new(1).await;
    case.split("v", "400kb", 25).await;
    let before = case.files("v");
    let (one, other) = (case.path("v/x.002of004.omkv"), case.path("v/x.003of004.omkv"));
    let len = std::fs::metadata(&one).unwrap().len();
    type Harm<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str);
    let harms: [Harm<'_>; 8] = [
        ("front", Box::new(|| flip(&one, 20)), "what it says of itself"),
        ("end", Box::new(|| flip(&one, len - 5000 + 4000)), "what it says of itself"),
        ("table", Box::new(|| flip(&one, len - 4096 - 40)), "what it says of itself"),
        ("payload", Box::new(|| flip(&one, 9000)), "1 of 80 chunks"),
        ("cut", Box::new(|| cut(&one, 200_000)), "is cut off: 200000 of"),
        ("cut to nothing", Box::new(|| cut(&one, 0)), "damaged so that it cannot be recognised"),
        ("longer", Box::new(|| cut(&one, len + 5)), "is too long"),
        ("no volume", Box::new(|| std::fs::write(&one, noise(5, 9000)).unwrap()), "cannot be recognised"),
    ];
    for (name, harm, expected) in &harms {
        harm();
        // Whatever of it is asked for by name.
        for path in ["v", "v/x.001of004.omkv", "v/x.002of004.omkv"] {
            let report = case.verify(path).await;
            assert_eq!(report.bad_volumes.len(), 1, "{name} {path}: {report:?}");
            assert!(report.bad_volumes[0].reason.contains(expected), "{name} {path}: {report:?}");
        }
        assert_eq!(case.repair("v").await.unwrap(), 1, "{name}");
        assert!(case.files("v") == before, "{name}");
    }
    // Both headers of one and the payload of another: one volume of parity cannot stand in for both.
    flip(&one, 20);
    flip(&one, len - 96);
    flip(&other, 9000);
    let error = case.repair("v").await.unwrap_err();
    assert!(matches!(error, VolumeError::Beyond { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_do_not_belong_together_are_told() {
    let (case, other) = (Case::new(1).await, Case::new(7).await);
    case.split("v", "400kb", 25).await;
    other.split("w", "400kb", 25).await;
    let foreign = case.path("v/y.002of004.omkv");
    std::fs::copy(other.path("w/x.002of004.omkv"), &foreign).unwrap();
    let error = case.refused(&["v"]).await;
    assert!(error.to_string().contains("belong to different sets"), "{error}");
    assert!(error.to_string().contains("y.002of004.omkv"), "{error}");
    // A volume that is named says which set is meant.
    let named = Opening::new([case.path("v/x.001of004.omkv")]).open().await.unwrap();
    assert_eq!(named.images()[0].graph.root.digest(), &case.root);
    // In the place of the right one.
    std::fs::rename(&foreign, case.path("v/x.002of004.omkv")).unwrap();
    let error = case.refused(&["v/x.001of004.omkv"]).await;
    assert!(error.to_string().contains("volume 2 of 4 belongs to another set (x.002of004.omkv)"), "{error}");
    let error = case.repair("v/x.001of004.omkv").await.unwrap_err();
    assert!(error.to_string().contains("it belongs to another set; move it away"), "{error}");
    std::fs::remove_file(case.path("v/x.002of004.omkv")).unwrap();
    assert_eq!(case.repair("v").await.unwrap(), 1);
    // The same twice in one folder; in two folders the one given later counts.
    std::fs::copy(case.path("v/x.003of004.omkv"), case.path("v/copy.omkv")).unwrap();
    let error = case.refused(&["v"]).await;
    assert!(error.to_string().contains("are the same volume; take one of them away"), "{error}");
    std::fs::create_dir(case.path("good")).unwrap();
    std::fs::rename(case.path("v/copy.omkv"), case.path("good/x.003of004.omkv")).unwrap();
    flip(&case.path("v/x.003of004.omkv"), 10_000);
    let verified = async |paths: [&str; 2]| {
        verify_opened(&Opening::new(paths.map(|p| case.path(p)))).await.unwrap().whole()
    };
    assert!(verified(["v", "good"]).await);
    assert!(!verified(["good", "v"]).await);
    // Nothing that is a volume.
    std::fs::create_dir(case.path("empty")).unwrap();
    std::fs::write(case.path("empty/x.omkv"), "no").unwrap();
    assert!(matches!(case.refused(&["empty"]).await, BundleError::Volumes(VolumeError::None { .. })));
    let paths = ["x.tar", "layout"].map(|p| case.path(p));
    let error = Opening::new(paths.clone()).open().await.unwrap_err();
    assert!(error.to_string().contains("volumes of a set count as one"), "{error}");
    let error =
        omk::bundle::repair(&paths[..1], None, &silent(), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, VolumeError::None { .. }) && omk::bundle::is_bundle(&paths[0]), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_never_replaced() {
    let (case, other) = (Case::new(1).await, Case::new(7).await);
    case.split("v", "400kb", 0).await;
    let run = async |to: PathBuf, size: &str| {
        let bundle = Bundle::open(&other.path("x.tar")).await.unwrap();
        let request =
            SplitRequest { output: to, name: None, size: size.parse().unwrap(), parity: 0, program: None };
        split(&bundle, &request, &silent(), &CancellationToken::new()).await.map(drop)
    };
    let before = case.files("v");
    let error = run(case.path("v"), "400kb").await.unwrap_err();
    assert!(error.to_string().contains("it is of another set"), "{error}");
    assert_eq!(case.files("v"), before);
    std::fs::create_dir(case.path("mine")).unwrap();
    std::fs::write(case.path("mine/README.txt"), "precious").unwrap();
    let error = run(case.path("mine"), "400kb").await.unwrap_err();
    assert!(error.to_string().contains("README.txt is in the way"), "{error}");
    assert_eq!(case.files("mine").len(), 1);
    let error = run(case.path("no/such"), "400kb").await.unwrap_err();
    assert!(error.to_string().contains("/no: No such file"), "{error}");
    assert!(!case.path("no").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_no_disk_has_room_for_is_refused_before_anything_is_written() {
    let (store, folder) = (MemoryStore::new(), tempfile::tempdir().unwrap());
    let layout = folder.path().join("layout");
    let root = image(&store, "linux/amd64", &[b"layer"]);
    write_layout(&layout, &store, &root);
    // A file of which hardly a byte is on the disk.
    std::fs::create_dir(layout.join("files")).unwrap();
    let free = rustix::fs::statvfs(&layout).unwrap();
    let more = (free.f_bavail * free.f_frsize).min(1 << 41);
    let bundle = Opening::new([&layout]).base_name("web").open().await.unwrap();
    // Its bytes would be hashed for the identity of the set, so it must not come to that.
    let size = "64kib".parse().unwrap();
    let request =
        SplitRequest { output: folder.path().join("v"), name: None, size, parity: 100, program: None };
    cut_new(&layout.join("files/big"), more);
    let error = split(&bundle, &request, &silent(), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("are too small for a bundle of"), "{error}");
    let size = "bd".parse().unwrap();
    let request = SplitRequest { size, ..request };
    let error = split(&bundle, &request, &silent(), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("make room for"), "{error}");
    assert!(!folder.path().join("v").exists());
}

fn cut_new(path: &Path, len: u64) {
    std::fs::File::create(path).unwrap().set_len(len).unwrap();
}

fn omk(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.arg("bundle").args(arguments).current_dir(folder).env("OMK_PROGRESS", "plain").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_what_is_bad_and_make_it_good() {
    let case = Case::new(1).await;
    let folder = case.folder.path().to_owned();
    let run = move |arguments: &[&str]| omk(&folder, arguments);
    tokio::task::block_in_place(|| {
        let done = run(&[
            "split",
            "x.tar",
            "--split",
            "400kb",
            "--parity",
            "25%",
            "--volume-name",
            "web",
            "-o",
            "v",
        ]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains("on 5 volumes, any one may be lost"), "{}", text(&done.stdout));
        let listed = run(&["list", "v"]);
        assert!(text(&listed.stdout).contains("quay.io/acme/web:latest"), "{}", text(&listed.stdout));
        let inspected = run(&["inspect", "v/web.003of004.omkv"]);
        assert!(text(&inspected.stdout).contains("4 volumes and 1 with parity: 1 image"), "{inspected:?}");
        flip(&case.path("v/web.003of004.omkv"), 10_000);
        let bad = run(&["verify", "v"]);
        assert_eq!(bad.status.code(), Some(6));
        let told = text(&bad.stdout);
        assert!(
            told.contains("web.003of004.omkv  volume 3 of 4: 1 of") && told.contains("bytes 8192 to 12287"),
            "{told}"
        );
        std::fs::create_dir(case.path("fixed")).unwrap();
        let done = run(&["repair", "v", "-o", "fixed", "--summary", "json"]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["rebuilt"][0]["file"], "fixed/web.003of004.omkv");
        assert_eq!(report["rebuilt"][0]["computed"], 4096);
        assert_eq!(run(&["verify", "v", "fixed"]).status.code(), Some(0));
        assert_eq!(run(&["verify", "v"]).status.code(), Some(6));
        std::fs::remove_file(case.path("v/web.001of004.omkv")).unwrap();
        for command in [&["list", "v"][..], &["verify", "v"], &["repair", "v"]] {
            let output = run(command);
            assert_eq!(output.status.code(), Some(6), "{command:?} {output:?}");
        }
        // With the volume that was rebuilt it is only one.
        assert_eq!(run(&["repair", "v", "fixed"]).status.code(), Some(0));
        assert_eq!(run(&["verify", "v", "fixed"]).status.code(), Some(0));
        for usage in [
            &["--split", "cd"][..],
            &["--split", "dvd", "--parity", "200%"],
            &["--split", "dvd", "--volume-name", "a/b"],
        ] {
            let output = run(&[&["split", "x.tar", "-o", "u"], usage].concat());
            assert_eq!(output.status.code(), Some(2), "{usage:?}");
        }
    });
}

/// As a disc is: nothing can be written to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_medium_is_read_and_repaired_elsewhere() {
    let case = Case::new(1).await;
    case.split("v", "400kb", 25).await;
    flip(&case.path("v/x.002of004.omkv"), 10_000);
    std::fs::create_dir(case.path("fixed")).unwrap();
    let script = format!(
        "mount --bind v v && mount -o remount,bind,ro v || exit 77\n\
         {0} bundle list v && {0} bundle repair v; [ $? = 1 ] && {0} bundle repair v -o fixed && {0} bundle verify v fixed",
        env!("CARGO_BIN_EXE_omk")
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(case.folder.path()).env("OMK_PROGRESS", "plain");
    let output = tokio::task::block_in_place(|| command.output());
    let must = std::env::var_os("OMK_REQUIRE_LAB").is_some_and(|v| v == "1");
    match output {
        Ok(output) if output.status.success() => {
            assert!(text(&output.stderr).contains("Read-only file system"), "{output:?}");
        }
        Ok(output) if must || !matches!(output.status.code(), Some(77 | 1)) => panic!("{output:?}"),
        Err(error) if must => panic!("{error}"),
        _ => eprintln!("SKIPPED: a mount needs root"),
    }
}

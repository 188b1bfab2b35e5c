use insta::assert_snapshot;

use super::super::fixtures;
use super::*;
use crate::store::MemoryStore;

fn folder() -> ImageFolder {
    ImageFolder::new("/srv/node 1/images/", false)
}

fn listing(image: &RuntimeImage) -> String {
    let row = |b: &Descriptor| {
        format!("-rw-r--r-- root/root {:>9} 2026-11-21 11:14 ./{}\n", b.size(), b.digest().layout_path())
    };
    image.blobs.iter().map(row).collect()
}

fn answer(archives: &[(&str, String, String)]) -> CommandOutput {
    let mut text = "==omk machine\nLinux x86_64\n==rc 0\n==omk tar\n/bin/tar\n==rc 0\n==omk sum\n/bin/sha256sum\n==rc 0\n".to_owned();
    for (path, listing, index) in archives {
        text += &format!(
            "==omk archive {path}\n-rw-r--r-- 0/0 30 2026-11-21 11:14 oci-layout\n{listing}\n==rc 0\n==omk index {path}\n{index}\n==rc 0\n"
        );
    }
    CommandOutput { status: 0, stdout: text.into_bytes(), stderr: Vec::new() }
}

#[test]
fn archives_say_what_is_in_them() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let api = fixtures::image(&store, "api:1", &["base", "api"]);
    let output = answer(&[("/srv/a.tar", listing(&web), index_json(&web))]);
    let facts = folder().parse_probe(&output).unwrap();
    assert_eq!(folder().readiness(&facts, &web), Readiness::Ready(None));
    assert!(
        matches!(folder().readiness(&facts, &api), Readiness::Missing(why) if why.contains("no archive"))
    );
    assert_eq!(folder().has(&facts, &api, &api.image.layers[0]), Some(Have::Archived));
    assert_eq!(folder().has(&facts, &api, &api.image.layers[1]), None);
}

#[test]
fn cut_and_damaged_archives_do_not_count() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let full = answer(&[("/srv/a.tar", listing(&web), index_json(&web))]).text();
    let damaged = full.replace("==rc 0\n==omk index", "==rc 2\n==omk index");
    assert_ne!(damaged, full);
    let parse = |text: String| {
        folder().parse_probe(&CommandOutput { status: 0, stdout: text.into(), stderr: Vec::new() }).unwrap()
    };
    assert!(parse(damaged).archives.is_empty());
    let short = full.replacen(&format!("{:>9} ", web.root.size()), "        1 ", 1);
    let Readiness::Missing(why) = folder().readiness(&parse(short), &web) else {
        panic!("wrong size accepted")
    };
    assert!(why.starts_with("/srv/a.tar lacks sha256:"), "{why}");
}

#[test]
fn an_import_reuses_what_archives_have_and_checks_what_it_writes() {
    let store = MemoryStore::new();
    let web = fixtures::image(&store, "web:1", &["base", "web"]);
    let api = fixtures::image(&store, "api:1", &["base", "api"]);
    let facts = folder().parse_probe(&answer(&[("/srv/it's.tar", listing(&web), index_json(&web))])).unwrap();
    let staged: BTreeSet<Digest> = api.blobs[1..].iter().map(|b| b.digest().clone()).collect();
    let job = ImportJob {
        staging: "/srv/staging/1",
        image: &api,
        run: "r1",
        turn: Some("t1"),
        staged: &staged,
        facts: &facts,
        at_once: 1,
    };
    let command = folder().import(&job);
    assert!(!command.root);
    assert_snapshot!(command.script, @r#"
    set -u
    PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL
    umask 022
    part='/srv/node 1/images/.docker.io_library_api_1-14f0fba4.tar.partial'
    cd /srv/staging/1 || exit 98
    fail() { echo "$1" >&2; rm -rf import index.json oci-layout; rm -f "$part"; exit "${2:-1}"; }
    damaged() {
      sed -n 's/^\(blobs\/[^:]*\): FAILED.*/\1/p' import/check >import/bad
      while IFS= read -r f; do rm -f -- "$f"; echo "==damaged $f"; done <import/bad
      fail "missing or damaged in the staging folder: $(head -n 1 import/bad)" 93
    }
    late() { echo "another connection took over on the node; run the same command again" >&2; exit 92; }
    if command -v flock >/dev/null 2>&1 && [ -d blobs ]; then
    exec 8<blobs
    n=0
    while flock -n 8 2>/dev/null; [ $? = 1 ]; do
    [ $n -lt 240 ] || { echo "an earlier import is still at work on the node; run the same command again later" >&2; exit 92; }
    n=$((n+1)); sleep 1
    done
    fi
    turn=
    { read -r turn; read -r turn; read -r turn; } <.omk-staging
    [ -z "$turn" ] || [ "$turn" = t1 ] || late
    rm -rf import index.json oci-layout
    mkdir import || exit 98
    set -C
    IFS= read -r index || exit 97
    printf '%s\n' "$index" >index.json || fail "cannot write to the staging folder"
    printf '%s\n' '{"imageLayoutVersion":"1.0.0"}' >oci-layout || fail "cannot write to the staging folder"
    cat >import/list || fail "cannot write to the staging folder"
    { printf 'oci-layout\nindex.json\n'; cat import/list; } >import/all || fail "cannot write to the staging folder"
    set +C
    tar -xf '/srv/it'\''s.tar' -C import ./blobs/sha256/cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2 || fail 'cannot read /srv/it'\''s.tar'
    for k in sha256 sha512; do
      [ -d "import/blobs/$k" ] || continue
      mkdir -p "blobs/$k"
      for f in import/blobs/"$k"/*; do mv -f "$f" "blobs/$k/" || fail "cannot move $f"; done
    done
    sed -n 's|^blobs/sha256/\([0-9a-f]*\)$|\1  &|p' import/list >import/sums
    sha256sum -c import/sums >import/check 2>/dev/null || damaged
    mkdir -p '/srv/node 1/images' || fail "cannot make the image folder"
    rm -f "$part"
    tar -cf "$part" -T import/all || fail "cannot write $part"
    tar -cf - -T import/all | cmp -s - "$part" || fail "$part differs from what was staged; is the disk full or failing?"
    sync "$part" 2>/dev/null || sync
    mv -f "$part" '/srv/node 1/images/docker.io_library_api_1-14f0fba4.tar' || fail "cannot put the archive in place"
    sync '/srv/node 1/images' 2>/dev/null || sync
    rm -rf import index.json oci-layout
    echo ==imported
    "#);
    let stdin = String::from_utf8(command.stdin).unwrap();
    assert_eq!(stdin.lines().count(), 1 + api.blobs.len(), "the index and every blob");
}

#[test]
fn a_damaged_blob_is_worth_another_try_a_full_disk_is_not() {
    let out = |status, stdout: &str, stderr: &str| CommandOutput {
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    assert!(folder().parse_import(&out(0, "==imported\n", "")).is_ok());
    assert!(folder().parse_import(&out(0, "", "")).is_err());
    let d = Digest::sha256(b"x");
    let said = format!("==damaged {}\n==damaged ../etc/passwd\n", d.layout_path());
    let failure = folder().parse_import(&out(DAMAGED, &said, "missing or damaged: x")).unwrap_err();
    assert!(failure.content_missing && failure.damaged == [d]);
    assert!(!folder().parse_import(&out(1, "", "cannot write /srv/x")).unwrap_err().content_missing);
}

#[test]
fn archive_names_are_readable_and_never_shared() {
    let store = MemoryStore::new();
    let names = ["reg.example:5000/a/b_c:1", "reg.example:5000/a_b/c:1"];
    let [x, y] = names.map(|n| folder().archive(&fixtures::image(&store, n, &["base"])));
    assert_ne!(x, y);
    assert_snapshot!(x, @r#"reg.example_5000_a_b_c_1-a9fb4813.tar"#);
}

use insta::assert_snapshot;
use proptest::prelude::*;

use super::super::fixtures;
use super::*;
use crate::oci::Platform;
use crate::runtime::{Cri, NamedImage};
use crate::store::MemoryStore;

// Recorded on Debian's 1.6.20, 1.7.24 and 2.1.9. lab/a has lost a layer after it was unpacked, lab/b (1.6 and 1.7)
// is what a failed import leaves behind.
const PROBES: [&str; 3] = [
    include_str!("testdata/probe-1.6.txt"),
    include_str!("testdata/probe-1.7.txt"),
    include_str!("testdata/probe-2.1.txt"),
];
const DENIED: &str = include_str!("testdata/probe-denied.txt");

const A: &str = "sha256:d37ec6ae5f4b149260d2a26080f06d3d5caadbfc69a2496401cd06df6a2719b7";
const A_CONFIG: &str = "sha256:9333945e6c48d3fafbdbd2719fa1744a4f11a00b1122a50bb7136f8d57d1bfcf";
const BASE: &str = "sha256:6800204a861bf7027fc99a53a3533016b00616ed68f78e9477ec65e877b49eea";
const A_LAYER: &str = "sha256:4c7b50cfb00fc5b6941724cefaee4bd8488d9ef251a55250cd5d9b4a156951e8";
const BASE_CHAIN: &str = "sha256:26cd7da9b4707f0ddc869edcadc6e653f23ec4d317d4627301d1626a3b0ebba0";
const A_CHAIN: &str = "sha256:4824d4cf2c7a2b5f0acde58bddee10c6014c308461a29b54a4b5985484a4aacc";
const B: &str = "sha256:0d78ff9d1b5a2f3aae40501966f8f1437bbd8d3666649a738697676a080c6e29";

fn d(s: &str) -> Digest {
    s.parse().unwrap()
}

fn plain() -> Containerd {
    Containerd::new(Flavor::Plain)
}

fn says(stdout: &str) -> CommandOutput {
    CommandOutput { status: 0, stdout: stdout.into(), stderr: Vec::new() }
}

fn recorded(i: usize) -> NodeFacts {
    plain().parse_probe(&says(PROBES[i])).unwrap()
}

/// lab/a as the recorded nodes have it.
fn lab_a() -> RuntimeImage {
    use crate::oci::media;
    let root = Descriptor::new(media::OCI_MANIFEST, d(A), 581);
    let config = Descriptor::new(media::OCI_CONFIG, d(A_CONFIG), 248);
    let layers = vec![
        Descriptor::new(media::OCI_LAYER_GZIP, d(BASE), 20213),
        Descriptor::new(media::OCI_LAYER_GZIP, d(A_LAYER), 3167),
    ];
    let blobs = layers.iter().chain([&config, &root]).cloned().collect();
    let image = crate::graph::PlatformImage {
        platform: Some(Platform::linux_amd64()),
        manifest: root.clone(),
        config,
        layers,
        chain_ids: vec![d(BASE_CHAIN), d(A_CHAIN)],
    };
    let names = vec!["docker.io/lab/a:1".to_owned(), format!("docker.io/lab/a@{A}")];
    RuntimeImage { names, root, image, blobs, carrier: None }
}

#[test]
fn the_probe_is_one_readable_script() {
    let command = plain().probe("/var/lib/omk/staging", &[]);
    assert!(command.root && command.stdin.is_empty());
    assert_snapshot!(command.script.strip_prefix(PRELUDE).unwrap().strip_prefix(KUBELET).unwrap(), @r#"
    others() { ctr -n k8s.io namespaces ls -q | grep -vxF k8s.io | head -n 16 | while IFS= read -r n; do
      ctr -n "$n" content ls -q </dev/null | head -n 100000
    done; }
    s machine uname -sm
    s processors processors
    s tar command -v tar
    s program command -v ctr
    [ "$r" = 0 ] || exit 0
    s version ctr -n k8s.io version
    [ "$r" = 0 ] || exit 0
    s content ctr -n k8s.io content ls -q
    s others others
    s snapshots ctr -n k8s.io snapshots ls
    s images ctr -n k8s.io images ls
    s check ctr -n k8s.io images check
    s staged staged /var/lib/omk/staging
    s staging-space space /var/lib/omk/staging
    plugins=$(ctr -n k8s.io plugins ls -d 2>/dev/null)
    root=$(printf '%s\n' "$plugins" | sed -n 's|^ *root  *\(/.*\)/io.containerd.content.v1.content *$|\1|p' | head -n 1)
    s runtime-space space "${root:-/var/lib/containerd}"
    s kubelet kubelet
    cri() { printf '%s\n' "$plugins" | awk '/^ID:/ { id = $2 } id == "cri" && /^(ID|Error):/'; }
    s cri cri
    s crictl-program command -v crictl
    [ "$r" = 0 ] || exit 0
    s crictl crictl -t 3s -r unix:///run/containerd/containerd.sock -i unix:///run/containerd/containerd.sock images -o json
    "#);
}

#[test]
fn a_probe_to_its_end_is_evidence_too() {
    let evidence = |tail: &str| {
        let probe = format!("{}\n{tail}", PROBES[0]);
        let answer = CommandOutput { status: 0, stdout: probe.into_bytes(), stderr: Vec::new() };
        plain().parse_probe(&answer).unwrap().evidence
    };
    assert_eq!(evidence(""), None);
    assert_eq!(evidence("==omk cri\nID:            cri\n==rc 0\n"), None, "cut off");
    let cri = "==omk cri\nID:            cri\n==rc 0\n==omk crictl-program\n";
    let asked = |tail: &str| evidence(&format!("{cri}{tail}")).map(|e| e.cri);
    assert_eq!(asked("==rc 127\n"), Some(Cri::Labels("the node has no crictl".into())));
    assert_eq!(asked("/usr/bin/crictl\n==rc 0\n"), None, "crictl did not come to its end");
    let none = asked("/usr/bin/crictl\n==rc 0\n==omk crictl\n{\"images\":[]}\n==rc 0\n");
    assert_eq!(none, Some(Cri::Asked(Vec::new())));
    let off = "==omk cri\nID:            cri\nError:        \n==rc 0\n==omk crictl-program\n==rc 127\n";
    assert!(matches!(evidence(off).map(|e| e.cri), Some(Cri::Unknown(_))));
    assert!(evidence(off).unwrap().ignores_pins, "1.6");
    // What is no answer proves nothing either way, and is asked for once more.
    let slow = asked("/usr/bin/crictl\n==rc 0\n==omk crictl\nDeadlineExceeded\n==rc 1\n");
    assert_eq!(slow, None, "CRI hangs");
    let cri =
        |lines: &str| evidence(&format!("==omk cri\n{lines}==omk crictl-program\n==rc 127\n")).map(|e| e.cri);
    assert_eq!(cri("sh: 1: awk: not found\n==rc 127\n"), None, "no awk");
    for odd in ["==rc 0\n", "something else\n==rc 0\n"] {
        assert!(matches!(cri(odd), Some(Cri::Unknown(_))), "{odd}");
    }
}

#[test]
fn flavours_differ_in_program_and_socket_only() {
    let ctr = |f| Containerd::new(f).ctr();
    assert_eq!(ctr(Flavor::K3s), "k3s ctr -n k8s.io");
    assert_eq!(ctr(Flavor::MicroK8s), "microk8s ctr -n k8s.io");
    assert_eq!(
        ctr(Flavor::Rke2),
        "/var/lib/rancher/rke2/bin/ctr -a /run/k3s/containerd/containerd.sock -n k8s.io"
    );
    assert_eq!(
        ctr(Flavor::CanonicalK8s { socket: "/run/containerd/containerd.sock".into() }),
        "/snap/k8s/current/bin/ctr -a /run/containerd/containerd.sock -n k8s.io"
    );
    assert_eq!(plain().in_namespace("a b").ctr(), "ctr -n 'a b'");
}

#[test]
fn recorded_probes_of_three_versions_are_read() {
    for (i, version) in ["1.6.20~ds1", "1.7.24~ds1", "2.1.9+unknown"].into_iter().enumerate() {
        let facts = recorded(i);
        assert_eq!(facts.runtime, format!("containerd {version}"));
        assert_eq!(facts.platform, Platform::linux_amd64());
        assert!(facts.content.contains(&d(A)) && !facts.content.contains(&d(A_LAYER)), "{version}");
        assert_eq!(facts.snapshots, BTreeSet::from([d(BASE_CHAIN), d(A_CHAIN)]), "{version}");
        let a = &facts.names["docker.io/lab/a:1"];
        assert_eq!((a.digest.clone(), a.complete, a.unpacked), (d(A), false, true), "{version}");
        assert!(!facts.names.contains_key("REF"));
        assert_eq!((facts.staged.len(), facts.partial), (1, 5));
        assert_eq!(facts.staged.values().sum::<u64>(), 4);
        let (runtime, staging) = (facts.runtime_disk.unwrap(), facts.staging_disk.unwrap());
        assert_eq!(runtime.mount, "/var/lib/containerd");
        assert!(runtime.same(&staging) && runtime.free > 1 << 30);
    }
    let broken = &recorded(0).names["docker.io/lab/b:1"];
    assert_eq!((broken.digest.clone(), broken.complete, broken.unpacked), (d(B), false, false));
}

#[test]
fn an_unpacked_image_without_all_layers_is_ready_and_says_so() {
    let (containerd, mut facts, mut image) = (plain(), recorded(0), lab_a());
    let Readiness::Ready(Some(note)) = containerd.readiness(&facts, &image) else { panic!("not ready") };
    assert_eq!(note, INCOMPLETE);
    assert_eq!(containerd.has(&facts, &image, &image.blobs[0]), Some(Have::Stored));
    assert_eq!(containerd.has(&facts, &image, &image.blobs[1]), None, "this node keeps layers");
    facts.discards_layers = true;
    assert_eq!(containerd.readiness(&facts, &image), Readiness::Ready(Some(DISCARDED.to_owned())));
    assert_eq!(containerd.has(&facts, &image, &image.blobs[1]), Some(Have::Unpacked));
    let mut doubted = facts.clone();
    doubted.distrust(&BTreeSet::from([image.blobs[1].digest().clone()]));
    assert_eq!(containerd.has(&doubted, &image, &image.blobs[1]), None, "an import wanted it all the same");

    facts.snapshots.remove(&d(A_CHAIN));
    assert_eq!(containerd.has(&facts, &image, &image.blobs[1]), None);
    let Readiness::Missing(why) = containerd.readiness(&facts, &image) else {
        panic!("ready without snapshot")
    };
    assert!(why.contains("missing"), "{why}");

    let mut facts = recorded(0);
    facts.content.remove(&d(A_CONFIG));
    assert!(matches!(containerd.readiness(&facts, &image), Readiness::Missing(_)), "no config, no container");

    image.names.push("docker.io/lab/a:2".into());
    let Readiness::Missing(why) = containerd.readiness(&recorded(0), &image) else { panic!() };
    assert_eq!(why, "containerd does not know the name docker.io/lab/a:2");
}

#[test]
fn a_node_discards_layers_when_most_of_its_images_have_none() {
    let line = |name: &str, what: &str, unpacked: bool| {
        let digest = Digest::sha256(name.as_bytes());
        format!(
            "{name} application/vnd.oci.image.manifest.v1+json {digest} {what} 1.0 KiB/23.1 KiB {unpacked}"
        )
    };
    let discards = |check: &[String]| {
        let lines: Vec<&str> = check.iter().map(String::as_str).collect();
        discards_layers(&parse_images(&lines, &lines), &lines, &lines)
    };
    let (pause, dns) = (line("pause", "incomplete (1/2)", true), line("dns", "incomplete (1/5)", true));
    let kept = line("kept", "complete (3/3)", true);
    assert!(!discards(&[]) && !discards(std::slice::from_ref(&kept)));
    assert!(discards(&[pause.clone(), kept.clone(), dns]));
    assert!(!discards(&[pause, kept]), "one image without layers may be an accident");
    assert!(!discards(&[line("half", "incomplete (2/3)", true)]), "a layer is there");
    assert!(!discards(&[line("new", "incomplete (1/3)", false)]), "not unpacked: nothing was discarded");
    assert!(!discards(&[line("empty", "incomplete (1/1)", true)]));
    assert!((0..3).all(|i| !recorded(i).discards_layers));
}

#[test]
fn a_name_on_other_content_or_not_unpacked_is_not_ready() {
    let containerd = plain();
    let mut image = lab_a();
    image.names = vec!["docker.io/lab/b:1".into()];
    let Readiness::Missing(why) = containerd.readiness(&recorded(0), &image) else { panic!() };
    assert_eq!(why, format!("docker.io/lab/b:1 is {B} on the node, not {A}"));
    image.root = Descriptor::new(crate::oci::media::OCI_MANIFEST, d(B), 581);
    image.image.chain_ids = vec![d(BASE_CHAIN), Digest::sha256(b"not there")];
    let Readiness::Missing(why) = containerd.readiness(&recorded(0), &image) else { panic!() };
    assert_eq!(why, "docker.io/lab/b:1 is stored but not unpacked");
}

#[test]
fn a_layer_that_stands_twice_must_be_unpacked_twice() {
    let store = MemoryStore::new();
    let image = fixtures::image(&store, "twice", &["x", "x"]);
    let mut facts = fixtures::empty_node();
    facts.discards_layers = true;
    facts.snapshots.insert(image.image.chain_ids[0].clone());
    assert_eq!(plain().has(&facts, &image, &image.image.layers[0]), None);
    facts.snapshots.insert(image.image.chain_ids[1].clone());
    assert_eq!(plain().has(&facts, &image, &image.image.layers[0]), Some(Have::Unpacked));
    assert_eq!(plain().has(&facts, &image, &image.root), None, "documents have no snapshot");
}

#[test]
fn every_failure_names_its_way_out() {
    let fails = |text: &str| plain().parse_probe(&says(text)).unwrap_err().to_string();
    assert_snapshot!(fails(DENIED), @r#"no permission to use containerd's socket: ctr: failed to dial "/run/containerd/containerd.sock": connection error: desc = "transport: error while dialing: dial unix /run/containerd/containerd.sock: connect: permission denied"; log in as root or as a user with sudo"#);
    let head = "==omk machine\nLinux x86_64\n==rc 0\n==omk tar\n/bin/tar\n==rc 0\n";
    assert_snapshot!(fails(&format!("{head}==omk program\n==rc 127\n")), @"ctr is not installed or not in PATH; install the containerd package (containerd or containerd.io) or name the node's runtime in the inventory (runtime:)");
    let down = "ctr: cannot access socket /run/containerd/containerd.sock: stat /run/containerd/containerd.sock: no such file or directory";
    assert_snapshot!(fails(&format!("{head}==omk program\n/usr/bin/ctr\n==rc 0\n==omk version\nClient:\n  Version:  2.1.9\n{down}\n==rc 1\n")), @"containerd does not answer on the node: ctr: cannot access socket /run/containerd/containerd.sock: stat /run/containerd/containerd.sock: no such file or directory; start it (systemctl status containerd)");
    assert_snapshot!(fails("==omk machine\nLinux x86_64\n==rc 0\n==omk tar\n==rc 127\n"), @"tar is not installed or not in PATH; install tar on the node");
    assert!(fails(&PROBES[0][..PROBES[0].len() / 2]).contains("missing"), "a cut answer is no answer");
    assert!(fails("").contains("the probe failed"));
    assert!(fails("==omk machine\nSunOS sparc\n==rc 0\n").contains("SunOS"));
}

/// The index in the beginning of an archive that standard input has after its length, and what comes after it.
fn opened(stdin: &[u8]) -> (String, String) {
    let at = stdin.iter().position(|b| *b == b'\n').unwrap();
    let size: usize = std::str::from_utf8(&stdin[..at]).unwrap().parse().unwrap();
    let (archive, rest) = stdin[at + 1..].split_at(size);
    let mut archive = tar::Archive::new(archive);
    let mut index = archive.entries().unwrap().nth(1).unwrap().unwrap();
    assert_eq!(index.path().unwrap().to_str(), Some("index.json"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut index, &mut text).unwrap();
    (text, String::from_utf8(rest.to_vec()).unwrap())
}

#[test]
fn an_import_sends_what_is_staged_and_keeps_what_names_meant() {
    let store = MemoryStore::new();
    let image = fixtures::image(&store, "web:1", &["base", "web"]);
    let mut facts = fixtures::empty_node();
    let old = NamedImage { digest: Digest::sha256(b"old"), complete: true, unpacked: true, archive: None };
    facts.names.insert(image.names[0].clone(), old);
    let staged: BTreeSet<Digest> = image.blobs[1..].iter().map(|b| b.digest().clone()).collect();
    let job = fixtures::job(&image, &staged, &facts);
    let command = plain().import(&job);
    assert!(command.root);
    assert_snapshot!(command.script, @r#"
    set -u
    PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL
    umask 077
    cd /s/t || exit 98
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
    set -C
    opening() { dd bs=1 count="$size" 2>/dev/null || { echo "dd $?" >&3; exit 1; }; }
    IFS= read -r size || exit 97
    now=$(ctr -n k8s.io images ls name==docker.io/library/web:1 name==docker.io/library/web@sha256:48225e173f3bdf3e7930d59f3ef3de09552806870d6081e4f748107320a939f8 </dev/null | awk 'NR > 1 { print $1, $3 }' | sort)
    [ "$now" = 'docker.io/library/web:1 sha256:cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4' ] || { echo 'somebody else gave one of its names to another image meanwhile; nothing was imported' >&2; exit 91; }
    ctr -n k8s.io images tag --force docker.io/library/web:1 omk.invalid/bak/r1:86604095f9fd5036261163224a33130e </dev/null >/dev/null || exit 95
    t=$( { { opening; tar -cf - -T -; echo "$?" >&3; } | ctr -n k8s.io images import - >&2; } 3>&1 ) && c=0 || c=$?
    if [ "$c" = 0 ] && [ "$t" = 0 ]; then
    echo ==imported
    exit 0
    fi
    await() { n=0; while [ $n -lt 60 ] && ! "$@" version >/dev/null 2>&1 </dev/null; do n=$((n+1)); sleep 1; done; }
    await ctr -n k8s.io
    {
      ctr -n k8s.io images tag --force omk.invalid/bak/r1:86604095f9fd5036261163224a33130e docker.io/library/web:1 || keep=1
      sleep 1
      ctr -n k8s.io images rm --sync docker.io/library/web@sha256:48225e173f3bdf3e7930d59f3ef3de09552806870d6081e4f748107320a939f8 sha256:17ed35ce3c9edc5b90e2791b0ddc7f15e98ee29b3d96475cdb3137f3f56d6f46
      [ -n "${keep-}" ] || ctr -n k8s.io images rm --sync omk.invalid/bak/r1:86604095f9fd5036261163224a33130e
    } >/dev/null 2>&1
    case $t in 0|141|'dd 141') ;;
    dd*) echo "the beginning of the archive could not be passed on ($t)" >&2 ;;
    *) echo "tar could not read the staging folder (status $t)" >&2 ;; esac
    [ "$c" = 0 ] && exit 94
    exit "$c"
    "#);
    let (archive, list) = opened(&command.stdin);
    assert_snapshot!(archive, @r#"{"manifests":[{"annotations":{"io.containerd.image.name":"docker.io/library/web:1"},"digest":"sha256:48225e173f3bdf3e7930d59f3ef3de09552806870d6081e4f748107320a939f8","mediaType":"application/vnd.oci.image.manifest.v1+json","size":494},{"annotations":{"io.containerd.image.name":"docker.io/library/web@sha256:48225e173f3bdf3e7930d59f3ef3de09552806870d6081e4f748107320a939f8"},"digest":"sha256:48225e173f3bdf3e7930d59f3ef3de09552806870d6081e4f748107320a939f8","mediaType":"application/vnd.oci.image.manifest.v1+json","size":494}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#);
    assert_snapshot!(list, @r"
    blobs/sha256/4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2
    blobs/sha256/17ed35ce3c9edc5b90e2791b0ddc7f15e98ee29b3d96475cdb3137f3f56d6f46
    blobs/sha256/48225e173f3bdf3e7930d59f3ef3de09552806870d6081e4f748107320a939f8
    ");
}

#[test]
fn where_all_is_stored_the_archive_ends_with_its_beginning() {
    let store = MemoryStore::new();
    let image = fixtures::image(&store, "busybox", &["one"]);
    let facts = fixtures::empty_node();
    let staged = BTreeSet::new();
    let job = fixtures::job(&image, &staged, &facts);
    let command = plain().import(&job);
    assert!(!command.script.contains("tar -cf"), "busybox's tar refuses to pack nothing: {}", command.script);
    assert!(command.stdin.ends_with(&[0; 1024]));
    let (index, list) = opened(&command.stdin);
    assert!(index.contains(&image.names[0]) && list.is_empty());
}

#[test]
fn a_carrier_is_imported_before_the_image_and_removed_after_it() {
    let store = crate::store::MemoryStore::new();
    let plain_image = fixtures::image(&store, "a", &["base", "top"]);
    let zstd = |text: &str| Descriptor::of(crate::oci::media::OCI_LAYER_ZSTD, text.as_bytes());
    let layers = &plain_image.image.layers;
    let packed = [(layers[0].digest().clone(), zstd("b")), (layers[1].digest().clone(), zstd("t"))].into();
    let image = plain_image.carried(&packed);
    let mut facts = fixtures::empty_node();
    let carrier = image.carrier.clone().unwrap();
    assert_eq!(plain().has(&facts, &image, &carrier.layers[0]), None);
    facts.snapshots.insert(image.image.chain_ids[0].clone());
    assert_eq!(plain().has(&facts, &image, &carrier.layers[0]), Some(Have::Unpacked), "the delta works too");

    let staged: BTreeSet<Digest> = image.blobs.iter().skip(1).map(|b| b.digest().clone()).collect();
    let job = fixtures::job(&image, &staged, &facts);
    let command = plain().import(&job);
    let name = format!("omk.invalid/carrier/{}:1", &image.image.config.digest().hex()[..32]);
    let script = &command.script;
    let at = |part: &str| script.find(part).unwrap_or_else(|| panic!("{part} in {script}"));
    assert!(at("$members") < at("now=$("), "the image's names are not touched before");
    assert!(at("-T -") < at("images label") && script.trim_end().ends_with(FAILED.trim_end()));
    assert_eq!(script.matches(&format!("images rm --sync {name}")).count(), 2, "{script}");
    let path = |b: &Descriptor| b.digest().layout_path();
    let members = [&carrier.manifest, &carrier.layers[1], &image.image.config].map(path).join(" ");
    let rest = command.stdin.strip_prefix(format!("{members}\n").as_bytes()).unwrap();
    let (index, rest) = opened(rest);
    assert!(index.contains(&name) && index.contains(&carrier.manifest.digest().to_string()));
    let (index, list) = opened(rest.as_bytes());
    assert!(index.contains(&image.names[0]));
    assert_eq!(list.lines().collect::<Vec<_>>(), [path(&image.image.config), path(&image.root)]);

    // Every layer is unpacked: there is nothing to carry.
    facts.snapshots.extend(image.image.chain_ids.iter().cloned());
    let staged = image.kept().map(|b| b.digest().clone()).collect();
    let job = fixtures::job(&image, &staged, &facts);
    assert!(!plain().import(&job).script.contains("carrier"));
    facts.names.insert(name, NamedImage { digest: d(A), complete: true, unpacked: true, archive: None });
    assert!(plain().leftovers("/s/t", &facts).unwrap().script.contains("images rm omk.invalid/carrier/"));
}

#[test]
fn an_adoption_comes_before_the_import_and_ends_with_it() {
    let store = MemoryStore::new();
    let big = "b".repeat(70_000);
    let image = fixtures::image(&store, "a", &[&big, "top"]);
    let mut facts = fixtures::empty_node();
    let layer = &image.image.layers[0];
    facts.elsewhere.extend([layer.digest().clone(), image.root.digest().clone()]);
    assert_eq!(plain().has(&facts, &image, layer), Some(Have::Adopted));
    assert_eq!(plain().has(&facts, &image, &image.root), None, "too small to be worth it");
    let staged: BTreeSet<Digest> = image.blobs[1..].iter().map(|b| b.digest().clone()).collect();
    let job = fixtures::job(&image, &staged, &facts);
    let command = plain().import(&job);
    let (from, to) =
        (command.script.find("IFS=").unwrap(), command.script.find("IFS= read -r size").unwrap());
    assert_snapshot!(command.script[from..to], @r#"
    IFS= read -r wanted || exit 97
    rm -f ./adopting
    : >./adopting || exit 96
    release() {
      ctr -n k8s.io content ls -q 'labels."containerd.io/gc.root"==omk' | while IFS= read -r d; do
        ctr -n k8s.io content label "$d" containerd.io/gc.root= </dev/null
      done >/dev/null 2>&1
      rm -f ./adopting
    }
    trap release EXIT
    trap 'exit 129' HUP
    trap 'exit 143' TERM
    for b in $wanted; do
      d=${b#*=}
      ctr -n k8s.io content ingest --expected-digest "$d" --expected-size "${b%%=*}" "omk-adopt-$d" <./adopting >&2 &&
        ctr -n k8s.io content label "$d" containerd.io/gc.root=omk >/dev/null || {
        for b in $wanted; do echo "==lost ${b#*=}"; done
        echo "$d is stored for another namespace but cannot be taken over" >&2
        exit 91
      }
    done
    "#);
    let stdin = String::from_utf8(command.stdin).unwrap();
    assert_eq!(stdin.lines().next().unwrap(), format!("70000={}", layer.digest()));
    assert!(!stdin.contains(&layer.digest().layout_path()), "it is not in the archive");

    let all: BTreeSet<Digest> = image.blobs.iter().map(|b| b.digest().clone()).collect();
    let job = ImportJob { staged: &all, ..job };
    assert!(!plain().import(&job).script.contains("ingest"), "what is staged need not be adopted");
    let said = format!("==lost {}\n==lost nothing\n", layer.digest());
    let output = CommandOutput { status: 91, stdout: said.into(), stderr: "it is gone".into() };
    let failure = plain().parse_import(&output).unwrap_err();
    assert!(failure.content_missing && failure.damaged == [layer.digest().clone()]);
    facts.adopting = true;
    assert!(plain().leftovers("/s/t", &facts).unwrap().script.contains("cd /s/t && {"));
}

#[test]
fn other_namespaces_and_kubelets_are_read_from_the_probe() {
    let (there, gone) = (Digest::sha256(b"x"), Digest::sha256(b"y"));
    let more = format!(
        "\n==omk others\n{there}\nctr: no\n{gone}\n==rc 0\n==omk kubelet\nfile /etc/default/kubelet\npercent 70\n==rc 0\n"
    );
    let facts = plain().parse_probe(&says(&format!("{}{more}", PROBES[0]))).unwrap();
    assert_eq!(facts.elsewhere, BTreeSet::from([there, gone]));
    assert_eq!(facts.kubelet.unwrap().image_gc_percent, 70);
    let facts = recorded(0);
    assert!(facts.elsewhere.is_empty() && facts.kubelet.is_none() && !facts.adopting);
}

#[test]
fn import_answers_are_judged() {
    let out = |status, stdout: &str, stderr: &str| CommandOutput {
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    assert!(
        plain()
            .parse_import(&out(0, "==imported\n", "unpacking docker.io/lab/a:1 (sha256:d3)...done\n"))
            .is_ok()
    );
    assert!(plain().parse_import(&out(0, "", "")).is_err(), "silence is no success");
    // As 1.6, 1.7 and 2.1 say it.
    for missing in [
        "ctr: failed to extract layer sha256:e6ed: failed to get reader from content store: content digest sha256:8872: not found",
        "ctr: content digest sha256:8872: not found",
        "ctr: failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip sha256:8872) to overlayfs as \"extract-1 sha256:879f\": failed to get reader from content store: content digest sha256:8872: not found",
    ] {
        assert!(plain().parse_import(&out(1, "", missing)).unwrap_err().content_missing, "{missing}");
    }
    let lost = format!("ctr: failed to get reader from content store: content digest {A}: not found\n");
    assert_eq!(plain().parse_import(&out(1, "", &lost)).unwrap_err().damaged, [d(A)]);
    let mut facts = fixtures::empty_node();
    facts.staged.insert(d(A), 7);
    facts.distrust(&BTreeSet::from([d(A)]));
    assert!(facts.staged.is_empty(), "what is staged under this name is not it: it is sent again");
    let full = "ctr: failed to write: write /var/lib/containerd/x: no space left on device";
    let failure = plain().parse_import(&out(1, "", full)).unwrap_err();
    assert!(!failure.content_missing && failure.reason.ends_with("make room on the node's disk"));
}

#[test]
fn backups_of_an_interrupted_run_are_removed() {
    let mut facts = fixtures::empty_node();
    assert!(plain().leftovers("/s/t", &facts).is_none());
    let image = NamedImage { digest: d(A), complete: true, unpacked: true, archive: None };
    facts.names.insert("omk.invalid/backup/00ff:1".into(), image.clone());
    facts.names.insert("docker.io/omk.invalid/backup/x:1".into(), image);
    let command = plain().leftovers("/s/t", &facts).unwrap();
    assert!(command.script.ends_with("ctr -n k8s.io images rm omk.invalid/backup/00ff:1"));
}

proptest! {
    #[test]
    fn hostile_answers_never_panic(cut in 0usize..9000, junk in "\\PC{0,40}", at in 0usize..9000) {
        let mut text = PROBES[0].to_owned();
        let at = text.floor_char_boundary(at.min(text.len()));
        text.insert_str(at, &junk);
        text.truncate(text.floor_char_boundary(cut.min(text.len())));
        let _ = plain().parse_probe(&says(&text));
    }
}

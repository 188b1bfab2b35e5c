//! Probe scripts in a real shell.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use omk::node::CommandOutput;
use omk::node::RemoteCommand;
use omk::oci::Digest;
use omk::push::{NodePlan, PushOptions};
use omk::runtime::reversible::{Changes, Restore, Reversible as _, parse_change};
use omk::runtime::{Containerd, Flavor, ImportJob, NodeFacts, Runtime as _};
use omk::store::MemoryStore;

#[test]
fn other_namespaces_are_not_asked_where_all_is_stored() {
    let (here, gone) = (Digest::sha256(b"x"), Digest::sha256(b"y"));
    let others = |known: &[&Digest]| {
        let command = Containerd::new(Flavor::Plain).probe("/none", known);
        // As it would be sent, but for a ctr that knows one blob here and one in another namespace.
        let script = format!(
            "ctr() {{ case \"$*\" in *version) printf 'Server:\\n  Version:  1.7.0\\n' ;; *'namespaces ls'*) echo k8s.io; echo moby ;;\n\
             *'k8s.io content ls'*) echo {here} ;; *'moby content ls'*) echo {gone} ;; esac; }}\n{}",
            command.script
        );
        let mut shell = Command::new("sh");
        let piped = Stdio::piped;
        let mut shell = shell.args(["-c", &script]).stdin(piped()).stdout(piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(&command.stdin).unwrap();
        let output = shell.wait_with_output().unwrap();
        let facts = Containerd::new(Flavor::Plain)
            .parse_probe(&CommandOutput { status: 0, stdout: output.stdout, stderr: Vec::new() })
            .unwrap();
        assert_eq!(facts.content, BTreeSet::from([here.clone()]));
        (facts.elsewhere_unknown, facts.elsewhere)
    };
    let found = BTreeSet::from([gone.clone()]);
    assert_eq!(others(&[&here]), (true, BTreeSet::new()));
    assert_eq!(others(&[&here, &gone]), (false, found.clone()));
    assert_eq!(others(&[]), (false, found));
}

/// What a node's shell answers whose `ctr` is this function.
fn with_ctr(ctr: &str, command: &RemoteCommand) -> CommandOutput {
    let script = format!("ctr() {{ {ctr}; }}\n{}", command.script);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    // A script that ends before it has read its input is none the worse for it.
    let _ = shell.stdin.take().unwrap().write_all(&command.stdin);
    let done = shell.wait_with_output().unwrap();
    CommandOutput { status: done.status.code().unwrap(), stdout: done.stdout, stderr: done.stderr }
}

#[test]
fn a_ctr_that_refuses_at_a_rollback_is_told_or_found_out() {
    let runtime = Containerd::new(Flavor::Plain);
    let remove = vec!["a:1".to_owned(), "b:1".to_owned()];
    let changes = Changes { remove, ..Changes::default() };
    // It fails on one name of several and has removed the others: what is left shows when the node is asked again, so that
    // this is no reason to break off.
    let refuses = "case \"$*\" in *' images rm '*) echo \"ctr: $*\" >&2; return 1 ;; esac";
    let said = with_ctr(refuses, &runtime.change(&changes));
    assert!(String::from_utf8_lossy(&said.stderr).contains("images rm --sync a:1 b:1"), "{said:?}");
    parse_change(&said).unwrap();

    // A name that cannot be put back: nothing is removed then, least of all what it was to be put back from.
    let restore =
        Restore { slot: "a:1".into(), backup: "omk.invalid/bak/r:1".into(), labels: Default::default() };
    let changes =
        Changes { restore: vec![restore], remove: vec!["omk.invalid/bak/r:1".into()], just_now: false };
    let refuses = "case \"$*\" in *' images tag '*) echo 'ctr: read-only file system' >&2; return 1 ;;\n\
                   *' images rm '*) echo removed >&2 ;; esac";
    let said = with_ctr(refuses, &runtime.change(&changes));
    assert!(!String::from_utf8_lossy(&said.stderr).contains("removed"), "{said:?}");
    let why = parse_change(&said).unwrap_err().to_string();
    assert_eq!(why, "putting images back failed on the node: ctr: read-only file system");
}

/// The import of an image whose blobs are all staged, and of one whose blobs are all stored.
fn imports(staging: &Path, turn: Option<&str>, at_once: usize) -> [RemoteCommand; 2] {
    let store = MemoryStore::new();
    let image = crate::push::bundled(&store, "lab.example/a:1", &[b"layer"]);
    let (runtime, facts) = (Containerd::new(Flavor::Plain), NodeFacts::empty("linux/amd64".parse().unwrap()));
    let plan = NodePlan::compute("n1", &[image], &runtime, &facts, &PushOptions::default()).unwrap();
    let image = &plan.images[0].image;
    std::fs::create_dir_all(staging.join("blobs/sha256")).unwrap();
    for blob in &image.blobs {
        std::fs::write(staging.join(blob.digest().layout_path()), store.get(blob.digest()).unwrap()).unwrap();
    }
    let all: BTreeSet<Digest> = image.blobs.iter().map(|b| b.digest().clone()).collect();
    [&all, &BTreeSet::new()].map(|staged| {
        let staging = staging.to_str().unwrap();
        runtime.import(&ImportJob { staging, image, run: "r1", turn, staged, facts: &facts, at_once })
    })
}

/// A `ctr` that takes what it is given, and complains of nothing at all as the real one does.
const TAKES: &str = r#"case "$*" in
*' images import '*) [ "$(wc -c)" -gt 0 ] || { echo 'ctr: unrecognized image format' >&2; return 1; }; echo began >&2 ;; esac"#;

#[test]
fn an_import_whose_turn_is_over_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    let mark =
        |turn: &str| std::fs::write(dir.path().join(".omk-staging"), format!("key 1\nwho\n{turn}")).unwrap();
    for at_once in [1, 2] {
        let [import, _] = imports(dir.path(), Some("t1"), at_once);
        mark("t1\n");
        let said = with_ctr(TAKES, &import);
        assert!(said.ok() && said.complaint() == "began", "{said:?}");
        // As a full disk leaves the mark. Who is about to write a turn there waits for imports afterwards.
        mark("");
        assert!(with_ctr(TAKES, &import).ok());
        for other in ["t2\n", "t"] {
            mark(other);
            let said = with_ctr(TAKES, &import);
            let why = "another connection took over on the node; run the same command again";
            assert_eq!((said.status, said.complaint().as_str()), (92, why), "{at_once}: {said:?}");
        }
        let [unlocked, _] = imports(dir.path(), None, at_once);
        assert!(with_ctr(TAKES, &unlocked).ok(), "where there are no locks there is nothing to go by");
    }
}

#[test]
fn an_archive_whose_beginning_is_not_passed_on_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for import in imports(dir.path(), None, 1) {
        let fails = format!("dd() {{ return 5; }}\n{}", import.script);
        let said = with_ctr(TAKES, &RemoteCommand { script: fails, ..import.clone() });
        assert!(!said.ok() && !said.text().contains("==imported"), "{said:?}");
        assert_eq!(said.complaint(), "the beginning of the archive could not be passed on (dd 5)");
        // What reads it ended before: that has the reason.
        let ended = format!("dd() {{ return 141; }}\n{}", import.script);
        let full =
            "case \"$*\" in *' images import '*) echo 'ctr: no space left on device' >&2; return 1 ;; esac";
        let said = with_ctr(full, &RemoteCommand { script: ended, ..import.clone() });
        assert_eq!((said.status, said.complaint().as_str()), (1, "ctr: no space left on device"));
        assert!(with_ctr(TAKES, &import).ok());
    }
}

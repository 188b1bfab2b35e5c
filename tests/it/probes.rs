//! Probe scripts in a real shell.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use omk::node::CommandOutput;
use omk::node::RemoteCommand;
use omk::oci::Digest;
use omk::runtime::reversible::{Changes, Restore, Reversible as _, parse_change};
use omk::runtime::{Containerd, Flavor, Runtime as _};

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
    shell.stdin.take().unwrap().write_all(&command.stdin).unwrap();
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

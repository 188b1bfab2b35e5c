//! Probe scripts in a real shell.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use omk::node::CommandOutput;
use omk::oci::Digest;
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

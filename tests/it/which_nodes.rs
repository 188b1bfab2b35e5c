//! Which nodes a command is for, as the command line says it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs omk in `home`, without the variables that name a user: exit code, standard output, standard error.
fn omk(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_omk"))
        .args(arguments)
        .current_dir(home)
        .env("HOME", home)
        .env_remove("USER")
        .env_remove("LOGNAME")
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_limit_that_leaves_no_node_is_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("n"),
        "nodes:\n- {name: w-1, host: a, user: u}\n- {name: w-2, host: b, user: u}\n",
    )
    .unwrap();
    for command in [
        &["preheat", "gone.tar"][..],
        &["preheat", "rollback", "--last"],
        &["preheat", "status"],
        &["node", "verify", "gone.tar", "-o", "json"],
        &["node", "check"],
        &["node", "list"],
    ] {
        let (code, out, told) = omk(home.path(), &[command, &["--nodes", "n", "--limit", "!w-*"]].concat());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command:?}: {told}");
        assert!(told.contains("--limit !w-* leaves none of the 2 nodes"), "{command:?}: {told}");
    }
    let (code, _, told) = omk(home.path(), &["node", "list", "--nodes", "n", "--limit", "nope"]);
    assert!(code == Some(2) && told.contains("no such node"), "{told}");
}

#[test]
fn an_inventory_that_is_not_there_is_told_with_how_to_make_one() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, told) = omk(home.path(), &["preheat", "a.tar", "--nodes", "missing.yaml"]);
    assert_eq!(code, Some(1), "{told}");
    let words = "cannot read the inventory missing.yaml: No such file or directory (os error 2); name the inventory that you have, \
                 or write one, such as `nodes: [{name: worker-1, host: 10.0.0.11, user: root}]`";
    assert!(told.contains(words) && told.contains("--node USER@HOST"), "{told}");
    // What it says to write is an inventory.
    std::fs::write(home.path().join("new"), "nodes: [{name: worker-1, host: 10.0.0.11, user: root}]")
        .unwrap();
    let (code, out, told) = omk(home.path(), &["node", "list", "--nodes", "new"]);
    assert!(code == Some(0) && out.contains("10.0.0.11"), "{out}{told}");
    let (_, _, told) = omk(home.path(), &["node", "list", "--nodes", "."]);
    assert!(told.contains("cannot read the inventory .: ") && !told.contains("--node USER"), "{told}");
}

#[test]
fn hosts_of_ssh_config_are_logged_in_to_as_ssh_does_and_the_limit_goes_first() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config"), "Host prod-1\n HostName 10.0.0.1\nHost w2\n Port none\n")
        .unwrap();
    let list = ["node", "list", "--nodes", "config", "-o", "json", "--limit"];
    let (code, out, told) = omk(home.path(), &[&list[..], &["prod-*"]].concat());
    assert_eq!(code, Some(0), "{told}");
    let nodes: serde_json::Value = serde_json::from_str(&out).unwrap();
    let me = Command::new("id").arg("-un").output().unwrap();
    assert_eq!(nodes[0]["user"], String::from_utf8(me.stdout).unwrap().trim());
    let (code, _, told) = omk(home.path(), &[&list[..], &["w2"]].concat());
    assert!(code == Some(1) && told.contains("nodes[1] (w2)"), "{told}");
}

#[test]
fn what_lacks_is_named_with_its_alternative() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, told) = omk(home.path(), &["preheat", "gone.tar"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("<--nodes <FILE>|--node <[USER@]HOST[:PORT]>>"), "{told}");
    let (code, _, told) = omk(home.path(), &["preheat", "rollback", "--node", "u@h"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("<--run <ID>|--last>"), "{told}");
    let (code, _, told) = omk(home.path(), &["preheat", "rollback", "--node", "u@h", "--last", "--run", "x"]);
    assert_eq!(code, Some(2), "{told}");
    std::fs::write(home.path().join("n"), "nodes: [{name: a, host: h}]").unwrap();
    let (code, _, told) = omk(home.path(), &["node", "list", "--nodes", "n"]);
    assert!(code == Some(1) && told.contains("(a), line 1: user is missing"), "{told}");
}

/// What is wrong in a file is no mistake on the command line.
#[test]
fn mistakes_in_files_and_on_the_command_line_have_their_own_exit_codes() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    write("good", "nodes: [{name: a, host: h, user: u}]");
    write("platform", "nodes:\n- {name: a, host: h, user: u, platform: linux/amd46}\n");
    write("runtime", "nodes:\n- {name: a, host: h, user: u, runtime: containrd}\n");
    write("field", "nodes:\n- {name: a, host: h, usr: u}\n");
    write("syntax", "nodes: [");
    write("config", "Host *\n  Port none\n");
    write("empty", "");
    let list = |more: &[&str]| omk(home.path(), &[&["node", "list", "--nodes"], more].concat());
    let check = |more: &[&str]| omk(home.path(), &[&["node", "check", "--nodes", "good"], more].concat());
    for ((code, _, told), expected) in [
        (
            list(&["platform"]),
            "platform: \"linux/amd46\" has no architecture that images are made for (did you mean amd64?)",
        ),
        (list(&["runtime"]), "line 2: runtime: \"containrd\" is no runtime (did you mean containerd?)"),
        (list(&["field"]), "unknown field `usr` (did you mean user?)"),
        (list(&["syntax"]), "inventory syntax: "),
        (list(&["gone"]), "cannot read the inventory gone"),
        (list(&["good", "--ssh-config", "config"]), "config:2"),
        (check(&["--known-hosts", "gone"]), "cannot read the known hosts file gone"),
        (check(&["--password-file", "gone"]), "gone"),
        (check(&["--sudo-password-file", "empty"]), "empty"),
    ] {
        assert!(code == Some(1) && told.contains(expected), "{expected}: {code:?} {told}");
    }
    for ((code, _, told), expected) in [
        (list(&["good", "--limit", "b"]), "--limit"),
        (list(&["good", "--node", "a"]), "--node a: the inventory has a node of this name too"),
        (list(&["good", "--node", "u@"]), "a name has 1 to 253"),
        (check(&["--runtime", "containrd"]), "(did you mean containerd?)"),
        (check(&["--ssh", "none"]), "--ssh"),
    ] {
        assert!(code == Some(2) && told.contains(expected), "{expected}: {code:?} {told}");
    }
}

#[test]
fn a_bundle_that_is_not_there_is_told_with_one_that_is() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("out")).unwrap();
    std::fs::write(home.path().join("out/web.bundle.tar"), "").unwrap();
    for (path, asked) in
        [("out/web.tar", " (did you mean out/web.bundle.tar?)"), ("out/other", ""), ("none/web.tar", "")]
    {
        for command in [&["bundle", "inspect", path][..], &["preheat", path, "--node", "local"]] {
            let (code, _, told) = omk(home.path(), command);
            assert_eq!(code, Some(1), "{told}");
            assert_eq!(
                told,
                format!(
                    "error: cannot open bundle {path}: No such file or directory{asked}; name the file or folder that `omk bundle build -o` wrote\n"
                )
            );
        }
    }
}

#[test]
fn a_known_hosts_file_for_new_keys_need_not_be_there() {
    let home = tempfile::tempdir().unwrap();
    let check = ["node", "check", "--node", "u@127.0.0.1:1", "--known-hosts", "new/known"];
    let (code, _, told) = omk(home.path(), &[&check[..], &["--host-keys", "accept-new"]].concat());
    assert!(code == Some(5) && told.contains("cannot reach 127.0.0.1:1"), "{told}");
    let (code, _, told) = omk(home.path(), &check);
    assert!(code == Some(1) && told.contains("cannot read the known hosts file new/known"), "{told}");
    assert!(told.contains("\nhint: name the file") && told.contains("--host-keys accept-new"), "{told}");
    std::fs::create_dir(home.path().join("new")).unwrap();
    std::fs::create_dir(home.path().join("new/known")).unwrap();
    let (code, _, told) = omk(home.path(), &check);
    assert!(code == Some(1) && !told.contains("hint:"), "it is there, and something else: {told}");
}

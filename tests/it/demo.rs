//! `omk demo` from start to end, as any user.

use std::process::{Command, Stdio};

fn demo(temp: &std::path::Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    let out = command.arg("demo").args(args).env("TMPDIR", temp).stdin(Stdio::null()).output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// `150.5 kB` as a number of bytes.
fn bytes(text: &str) -> f64 {
    let (number, unit) = text.trim().split_once(' ').unwrap();
    let factor = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => panic!("{other}"),
    };
    number.parse::<f64>().unwrap() * factor
}

#[test]
fn the_demonstration_does_the_whole_job_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (code, out, err) = demo(temp.path(), &[]);
    assert_eq!(code, 0, "{out}\n{err}");
    for node in ["node-1", "node-2"] {
        let rows = out.lines().filter(|l| l.starts_with(node) && l.contains("ready")).count();
        assert_eq!(rows, 3, "{out}");
    }
    let (_, measured) = out.split_once("On the wire, both nodes together: ").unwrap();
    let measured = measured.replace('\n', " ");
    let mut parts = measured.split(',');
    let first = bytes(parts.next().unwrap().split(" the first").next().unwrap());
    let nothing = bytes(parts.next().unwrap().split(" when").next().unwrap());
    let patch = bytes(parts.next().unwrap().split(" for the").next().unwrap());
    assert!(nothing < patch && patch * 10.0 < first, "{first} {nothing} {patch}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "it cleans up");
}

#[test]
fn the_demonstration_can_be_kept_and_looked_at() {
    let temp = tempfile::tempdir().unwrap();
    let (code, out, err) = demo(temp.path(), &["--keep"]);
    assert_eq!(code, 0, "{out}\n{err}");
    let kept = std::fs::read_dir(temp.path()).unwrap().next().unwrap().unwrap().path();
    assert!(out.contains(kept.to_str().unwrap()), "{out}");
    let archives = std::fs::read_dir(kept.join("node-1/images")).unwrap().count();
    assert_eq!(archives, 4, "three images and the patch release of one");
    let verify = Command::new(env!("CARGO_BIN_EXE_omk"))
        .args(["bundle", "verify"])
        .arg(kept.join("shop.tar"))
        .output();
    assert!(verify.unwrap().status.success());
}

//! What every command does with standard output and standard error.

use std::fs::File;
use std::process::{Command, Stdio};

fn discover() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omk"));
    command.args(["image", "discover", "--image", "nginx:1.27"]).stdin(Stdio::null());
    command
}

#[test]
fn data_that_did_not_reach_standard_output_is_no_success() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = discover().stdout(full).output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("error: standard output could not be written: No space left"), "{told}");
}

#[test]
fn a_reader_that_went_away_has_what_it_wanted() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = discover().stdout(writer).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn json_progress_is_json_on_every_line() {
    for (command, code) in [
        (vec!["image", "discover", "--image", "nginx:1.27"], 0),
        (vec!["bundle", "verify", "/nonexistent/bundle.tar"], 1),
    ] {
        let mut omk = Command::new(env!("CARGO_BIN_EXE_omk"));
        let done = omk.args(command).args(["--progress", "json"]).stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(code), "{told}");
        let events: Vec<serde_json::Value> =
            told.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
        assert!(events.iter().any(|e| e["event"] == "message"), "{told}");
    }
}

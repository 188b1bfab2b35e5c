//! Runs that meet on one node.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use omk::push::UndoState;

use super::cli::Cli;
use super::*;

#[tokio::test]
async fn two_runs_on_one_node_are_told_apart() {
    let world = World::new();
    let staging = world.staging("n1").display().to_string();
    let other = LocalSession::open(&CancellationToken::new()).unwrap();
    other.staging(&staging).await.unwrap();
    other.hold(&staging, &Holder::new("the-other-run", "n1")).await.unwrap();
    let report = world.run(&["n1"]).await;
    let why = report.nodes[0].error.as_deref().unwrap();
    assert!(why.contains("another run") && why.contains("run the-other-run, node n1), since 20"), "{why}");
    assert!(world.archives("n1").is_empty() && files(&world.staging("n1")).is_empty());
    other.close().await;
    assert!(world.run(&["n1"]).await.all_ready());
}

/// What holds the lock of a staging folder for a moment, and then does this.
async fn held(staging: &Path, then: &str) -> Child {
    use std::io::{BufRead as _, BufReader};

    LocalSession::open(&CancellationToken::new()).unwrap().staging(staging.to_str().unwrap()).await.unwrap();
    std::fs::write(staging.join(".omk-staging"), "0123 999999999\nomk of a run that is over\n").unwrap();
    let script = format!("exec 9<>.omk-staging; flock -n 9; echo got; sleep 1; {then}");
    let mut sh = Command::new("sh");
    let mut child = sh
        .arg("-c")
        .arg(script)
        .current_dir(staging)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut got = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut got).unwrap();
    assert_eq!(got, "got\n");
    child
}

/// A run has the lock a moment before its name stands there.
#[tokio::test]
async fn who_is_refused_hears_the_name_of_the_run_that_is_at_work() {
    let world = World::new();
    let named = "printf 'abcd %s\\nomk of the run abcd\\n' $$ >.omk-staging; cat >/dev/null 9>&-";
    let mut other = held(&world.staging("n1"), named).await;
    let report = world.run(&["n1"]).await;
    drop(other.stdin.take());
    other.wait().unwrap();
    let why = report.nodes[0].error.as_deref().unwrap();
    assert!(why.starts_with("another run is at work on this node: omk of the run abcd; "), "{why}");
}

#[tokio::test]
async fn who_only_looks_whether_the_lock_is_held_keeps_nobody_from_it() {
    let world = World::new();
    let mut other = held(&world.staging("n1"), "exit").await;
    let report = world.run(&["n1"]).await;
    other.wait().unwrap();
    assert!(report.all_ready(), "{report:#?}");
}

/// What another run did between the question what the node has and the lock is seen.
#[tokio::test]
async fn what_another_run_did_meanwhile_is_not_done_again() {
    let world = World::new();
    let other = Fault::Overtaken(Box::new(world.push(&["n1"], Here::default())));
    let here = Here { faults: [("n1".to_owned(), other)].into(), ..Here::default() };
    let report = world.push(&["n1"], here).run().await.unwrap();
    assert!(report.all_ready() && report.nodes[0].bytes_sent == 0, "{report:#?}");
}

/// An import that its sender has lost. It stands still where it reads its input until another one has begun.
#[derive(Default)]
pub(super) struct Orphan {
    staging: PathBuf,
    /// The other import does not come to it.
    refused: bool,
    running: Mutex<Option<Child>>,
    ended: Mutex<Option<std::thread::JoinHandle<Output>>>,
}

impl Orphan {
    pub(super) async fn import(&self, command: &RemoteCommand) -> Result<(), NodeError> {
        let running = self.running.lock().unwrap().take();
        if let Some(mut child) = running {
            let stdin = command.stdin.clone();
            let feed = move || {
                // Time in which the other import, if it did not wait, would take the files of this one away.
                std::thread::sleep(Duration::from_millis(1500));
                child.stdin.take().unwrap().write_all(&stdin).unwrap();
                child.wait_with_output().unwrap()
            };
            *self.ended.lock().unwrap() = Some(std::thread::spawn(feed));
            if self.refused {
                return Err(NodeError::Sudo("not any more".into()));
            }
            return Ok(());
        }
        if self.ended.lock().unwrap().is_some() {
            return Ok(());
        }
        let mut sh = Command::new("sh");
        sh.arg("-c").arg(&command.script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        *self.running.lock().unwrap() = Some(sh.spawn().unwrap());
        while !self.staging.join("import").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(NodeError::Lost("importing".into()))
    }
}

#[tokio::test]
async fn an_import_waits_for_the_one_whose_connection_was_lost() {
    let world = World::new();
    let orphan = Arc::new(Orphan { staging: world.staging("n1"), ..Orphan::default() });
    let fault = Fault::Orphan(Arc::clone(&orphan));
    let here = Here { faults: [("n1".to_owned(), fault)].into(), ..Here::default() };
    let report = world.push(&["n1"], here).run().await.unwrap();
    let lost = orphan.ended.lock().unwrap().take().unwrap().join().unwrap();
    assert!(String::from_utf8_lossy(&lost.stdout).contains("==imported"), "{lost:?}");
    assert!(report.all_ready(), "{report:#?}");
    assert_eq!(files(&world.staging("n1")), [""; 0]);
}

/// An import that its sender has lost before the node began it: it begins once another connection is about to import.
#[derive(Default)]
pub(super) struct Late {
    script: Mutex<Option<RemoteCommand>>,
    said: Mutex<Option<Output>>,
}

impl Late {
    pub(super) fn import(&self, command: &RemoteCommand) -> Result<(), NodeError> {
        let Some(late) = self.script.lock().unwrap().replace(command.clone()) else {
            return Err(NodeError::Lost("importing".into()));
        };
        self.said.lock().unwrap().get_or_insert_with(|| {
            let mut sh = Command::new("sh");
            sh.arg("-c")
                .arg(&late.script)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = sh.spawn().unwrap();
            // It may have ended already.
            let _ = child.stdin.take().unwrap().write_all(&late.stdin);
            child.wait_with_output().unwrap()
        });
        Ok(())
    }
}

#[tokio::test]
async fn an_import_that_begins_after_its_connection_was_replaced_does_nothing() {
    let world = World::new();
    let late = Arc::new(Late::default());
    let here =
        Here { faults: [("n1".to_owned(), Fault::BegunLate(Arc::clone(&late)))].into(), ..Here::default() };
    let report = world.push(&["n1"], here).run().await.unwrap();
    let said = late.said.lock().unwrap().take().unwrap();
    assert_eq!(said.status.code(), Some(92), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("another connection took over"), "{said:?}");
    assert!(report.all_ready(), "the run itself goes on: {report:#?}");
}

#[tokio::test]
async fn a_node_is_put_back_once_the_import_whose_connection_was_lost_is_through() {
    let world = World::new();
    let orphan = Arc::new(Orphan { staging: world.staging("n1"), refused: true, ..Orphan::default() });
    let fault = Fault::Orphan(Arc::clone(&orphan));
    let here = Here { faults: [("n1".to_owned(), fault)].into(), ..Here::default() };
    let mut push = world.push(&["n1"], here);
    push.options.atomic = true;
    let node = push.run().await.unwrap().nodes.remove(0);
    let lost = orphan.ended.lock().unwrap().take().unwrap().join().unwrap();
    assert!(String::from_utf8_lossy(&lost.stdout).contains("==imported"), "{lost:?}");
    assert_eq!(node.undone.as_ref().map(|u| u.state), Some(UndoState::Undone), "{node:#?}");
    assert!(world.archives("n1").is_empty(), "what it brought late is undone too");
}

#[tokio::test]
async fn a_run_that_is_ready_leaves_nothing_of_its_bundle_in_staging() {
    let world = World::new();
    assert!(world.run(&["n1"]).await.all_ready());
    // As a run leaves it that was interrupted while it sent what the node has by now.
    let part = |hex: &str, word: &str| {
        let part = world.staging("n1").join(format!("partial/{hex}.aaaa"));
        std::fs::write(&part, vec![7; 1000]).unwrap();
        std::fs::write(part.with_extension("aaaa.journal"), word).unwrap();
        part.display().to_string()
    };
    part(world.images[0].graph.images[0].layers[1].digest().hex(), "0 1000 x");
    let foreign = part(&"c".repeat(64), "0 1000 x");
    let again = world.run(&["n1"]).await;
    assert!(again.all_ready() && !again.nodes[0].recorded, "{again:#?}");
    let mut left = files(&world.staging("n1"));
    left.sort();
    assert_eq!(left, [foreign.clone(), format!("{foreign}.journal")]);
}

fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_not_spoil_each_others_work() {
    let world = Cli::new().await;
    let both = [world.start(), world.start()].map(|child| child.wait_with_output().unwrap());
    let ready = both.iter().filter(|o| o.status.code() == Some(0)).count();
    assert!(ready > 0, "{both:?}");
    for failed in both.iter().filter(|o| o.status.code() != Some(0)) {
        assert_eq!(failed.status.code(), Some(5), "{failed:?}");
        let why = report(failed)["nodes"][0]["error"].as_str().unwrap().to_owned();
        assert!(why.starts_with("another run is at work on this node: omk on "), "{why}");
    }
    let again = world.run();
    assert!(again.status.success() && report(&again)["nodes"][0]["bytes_sent"] == 0, "{again:?}");
    assert_eq!(files(&world.folder.path().join("staging")), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_killed_process_the_next_goes_on_at_once() {
    use std::io::{BufRead as _, BufReader};

    for word in ["n1: sending", "n1: importing"] {
        let world = Cli::new().await;
        let mut first = world.start();
        let told = BufReader::new(first.stderr.take().unwrap());
        assert!(told.lines().any(|l| l.unwrap().contains(word)), "it said {word}");
        first.kill().unwrap();
        first.wait().unwrap();
        let next = world.run();
        assert!(next.status.success(), "killed when it said {word}: {next:?}");
        assert_eq!(files(&world.folder.path().join("staging")), [""; 0], "{word}");
        let archives = std::fs::read_dir(world.folder.path().join("images")).unwrap();
        let [archive] = &archives.map(|e| e.unwrap().path()).collect::<Vec<_>>()[..] else {
            panic!("one archive and nothing half-done");
        };
        assert_eq!(blobs_in(archive).keys().filter(|k| k.starts_with("blobs/")).count(), 5);
    }
}

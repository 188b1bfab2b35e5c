//! Runs into image folders are undone: real commands, real files.

use omk::push::journal::RunState;
use omk::push::{UndoState, Which};

use super::*;

/// Every file of a node's image folder, hidden ones too, by what is in it.
fn contents(world: &World) -> BTreeMap<PathBuf, Digest> {
    world
        .archives("n1")
        .into_iter()
        .map(|p| (p.clone(), Digest::sha256(&std::fs::read(p).unwrap())))
        .collect()
}

fn records(world: &World) -> PathBuf {
    world.staging("n1").with_file_name("runs")
}

/// Leaves the run on record as one that its sender did not end; gives the record's path.
fn interrupted(world: &World, run: &str) -> PathBuf {
    let record = records(world).join(format!("{run}.json"));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace(r#""state":"committed""#, r#""state":"started""#)).unwrap();
    record
}

#[tokio::test]
async fn archives_come_back_as_they_were() {
    let mut world = World::new();
    assert!(world.run(&["n1"]).await.all_ready());
    // Somebody else's, as far as omk knows.
    std::fs::remove_dir_all(records(&world)).unwrap();
    let before = contents(&world);
    world.images = vec![
        bundled(&world.store, "lab.example/a:1", &[&images::noise(7, 30_000)]),
        bundled(&world.store, "lab.example/c:1", &[&images::noise(8, 30_000)]),
    ];

    // Stopped while the first import runs: what it did is undone before the command ends.
    let stopped = CancellationToken::new();
    let here = Here {
        faults: [("n1".to_owned(), Fault::CancelAtImport(stopped.clone()))].into(),
        ..Here::default()
    };
    let mut atomic = world.push(&["n1"], here);
    (atomic.cancel, atomic.options.atomic) = (stopped, true);
    let node = atomic.run().await.unwrap().nodes.remove(0);
    assert_eq!((node.state, node.undone.map(|u| u.state)), (NodeResult::Stopped, Some(UndoState::Undone)));
    assert_eq!(contents(&world), before);

    let report = world.run(&["n1"]).await;
    assert!(report.all_ready() && report.nodes[0].recorded, "{report:#?}");
    let again = world.run(&["n1"]).await;
    assert!(!again.nodes[0].recorded, "nothing was done");
    let asking = world.push(&["n1"], Here::default());
    let node = asking.history().await.remove(0);
    let states: Vec<RunState> = node.runs.iter().map(|r| r.state).collect();
    assert_eq!((states, node.backups), (vec![RunState::Committed, RunState::Undone], 1), "{node:#?}");

    let undone = asking.rollback(&Which::Last, false).await.unwrap();
    assert_eq!((&undone.run, undone.nodes[0].undo.state), (&report.run_id, UndoState::Undone));
    assert_eq!((undone.nodes[0].undo.restored, undone.nodes[0].undo.removed), (1, 1));
    assert_eq!(contents(&world), before);
    assert!(files(&records(&world)).iter().all(|f| f.ends_with(".json")), "nothing half-written is left");
}

#[tokio::test]
async fn an_interrupted_run_is_told_and_can_be_undone() {
    let world = World::new();
    // As a sender leaves a node that is killed once its first import is through.
    let report = world.run(&["n1"]).await;
    let record = records(&world).join(format!("{}.json", report.run_id));
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains(r#""version":1"#), "{text}");
    std::fs::write(&record, text.replace(r#""state":"committed""#, r#""state":"started""#)).unwrap();
    let asking = world.push(&["n1"], Here::default());
    let run = asking.history().await.remove(0).runs.remove(0);
    assert!(run.interrupted && run.whole, "{run:#?}");
    std::fs::remove_file(&world.archives("n1")[0]).unwrap();
    assert!(!asking.history().await[0].runs[0].whole);
    let undone = asking.rollback(&Which::Run(report.run_id), false).await.unwrap();
    assert_eq!(undone.nodes[0].undo.state, UndoState::Undone);
    assert!(world.archives("n1").is_empty());
    assert_eq!(asking.history().await[0].runs[0].state, RunState::Undone);
}

/// A run that was killed while it sent lists all that it was to bring; the same command then brought it.
#[tokio::test]
async fn undoing_an_interrupted_run_leaves_what_a_later_one_brought() {
    let world = World::new();
    let report = world.run(&["n1"]).await;
    let second = std::fs::read_to_string(records(&world).join(format!("{}.json", report.run_id))).unwrap();
    let mut first: serde_json::Value = serde_json::from_str(&second).unwrap();
    first["run"] = "20260101-000000-0000".into();
    first["sequence"] = 0.into();
    first["state"] = "started".into();
    std::fs::write(records(&world).join("20260101-000000-0000.json"), first.to_string()).unwrap();
    let before = contents(&world);
    let asking = world.push(&["n1"], Here::default());
    let which = Which::Run("20260101-000000-0000".into());
    for dry_run in [true, false] {
        let undo = asking.rollback(&which, dry_run).await.unwrap().nodes.remove(0).undo;
        assert_eq!((undo.state, undo.removed, undo.restored), (UndoState::Undone, 0, 0), "{undo:?}");
        assert_eq!(contents(&world), before, "they are the second run's");
    }
    let undo = asking.rollback(&Which::Run(report.run_id), false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((undo.state, undo.removed), (UndoState::Undone, 2));
}

/// An image that a later run found there and proved is that run's too.
#[tokio::test]
async fn undoing_a_run_leaves_what_a_later_one_counts_on() {
    let mut world = World::new();
    let first = world.run(&["n1"]).await;
    let all = contents(&world);
    let other = bundled(&world.store, "lab.example/c:1", &[&images::noise(8, 30_000)]);
    let shared = world.images[0].clone();
    world.images = vec![shared.clone(), other];
    let second = world.run(&["n1"]).await;
    assert!(second.all_ready());
    let asking = world.push(&["n1"], Here::default());
    let which = Which::Run(first.run_id.clone());
    for dry_run in [true, false] {
        let undo = asking.rollback(&which, dry_run).await.unwrap().nodes.remove(0).undo;
        assert_eq!((undo.state, undo.removed, undo.stuck.len()), (UndoState::Partly, 1, 1), "{undo:?}");
        assert_eq!(undo.names.removed.len(), 1, "{undo:?}");
        let reason = &undo.stuck[0].reason;
        assert!(
            reason.starts_with(&format!("run {}, which came later, found it", second.run_id)),
            "{reason}"
        );
        let node = asking.history().await.remove(0);
        assert_eq!(node.runs[1].undone_in_part, !dry_run);
        assert_eq!((node.runs[0].missing, node.runs[0].undone_in_part), (0, false));
    }
    assert!(world.push(&["n1"], Here::default()).run().await.unwrap().nodes[0].bytes_sent == 0);

    // By a part of its id, as long as that is one run's.
    let part = |run: &str| Which::Run(run.rsplit_once('-').unwrap().1.to_owned());
    let undo = asking.rollback(&part(&second.run_id), false).await.unwrap();
    assert_eq!((&undo.run, undo.nodes[0].undo.state), (&second.run_id, UndoState::Undone));
    let short = asking.rollback(&Which::Run("202".into()), true).await.unwrap_err().to_string();
    assert!(short.starts_with("\"202\" is no id of a run"), "{short}");
    let both = asking.rollback(&Which::Run("2026".into()), true).await.unwrap_err().to_string();
    assert!(
        both.starts_with("\"2026\" may be any of these runs: ") && both.contains(&first.run_id),
        "{both}"
    );
    let undo = asking.rollback(&which, false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((undo.state, undo.removed), (UndoState::Undone, 1));
    assert!(world.archives("n1").is_empty() && all.len() == 2);
}

/// A name that went from one image to another and back is undone in the order of the runs, or not at all.
#[tokio::test]
async fn a_name_that_came_back_is_not_undone_out_of_turn() {
    let mut world = World::new();
    let image = |n| vec![bundled(&world.store, "lab.example/a:1", &[&images::noise(n, 30_000)])];
    let (x, y) = (image(7), image(8));
    let mut runs = Vec::new();
    for images in [&x, &y, &x] {
        world.images.clone_from(images);
        let report = world.run(&["n1"]).await;
        assert!(report.all_ready(), "{report:#?}");
        runs.push(report.run_id);
    }
    let asking = world.push(&["n1"], Here::default());
    let undo = async |run: &String| {
        asking.rollback(&Which::Run(run.clone()), false).await.unwrap().nodes.remove(0).undo
    };
    for (early, late) in [(0, 1), (1, 2)] {
        let refused = undo(&runs[early]).await;
        let why = refused.error.unwrap();
        assert!(why.contains(&format!("Undo {} first, then {}", runs[late], runs[early])), "{why}");
    }
    for run in runs.iter().rev() {
        assert_eq!(undo(run).await.state, UndoState::Undone);
    }
    assert!(world.archives("n1").is_empty());
}

/// Who undoes the run that went on from a stopped one is told that the stopped one brought something too.
#[tokio::test]
async fn undoing_a_run_names_those_that_it_went_on_from() {
    let world = World::new();
    let fault = Fault::CancelAtImport(world.cancel.clone());
    let here = Here { faults: [("n1".to_owned(), fault)].into(), ..Here::default() };
    let stopped = world.push(&["n1"], here).run().await.unwrap();
    let mut push = world.push(&["n1"], Here::default());
    push.cancel = CancellationToken::new();
    let rest = push.run().await.unwrap();
    assert!(rest.all_ready(), "{rest:#?}");
    let told = |undo: &omk::push::RollbackReport| undo.nodes[0].undo.unfinished.clone();
    let undo = push.rollback(&Which::Last, false).await.unwrap();
    assert_eq!((&undo.run, told(&undo)), (&rest.run_id, vec![stopped.run_id.clone()]));
    assert_eq!(world.archives("n1").len(), 1);
    let runs = push.history().await.remove(0).runs;
    assert!(runs[1].stopped() && runs[1].changed == 1, "{runs:#?}");
    let undo = push.rollback(&Which::Run(stopped.run_id), false).await.unwrap();
    assert!(told(&undo).is_empty() && undo.nodes[0].undo.state == UndoState::Undone);
    assert!(world.archives("n1").is_empty());
}

/// What was there when a run ended well, and is not any more, is noticed when the node is asked.
#[tokio::test]
async fn what_is_gone_since_a_run_is_counted() {
    let world = World::new();
    world.run(&["n1"]).await;
    std::fs::remove_file(&world.archives("n1")[0]).unwrap();
    let node = world.push(&["n1"], Here::default()).history().await.remove(0);
    assert_eq!((node.runs[0].state, node.runs[0].missing), (RunState::Committed, 1));
}

/// An import goes on when its connection is lost, and holds the lock of its own until it is through.
#[tokio::test]
async fn a_rollback_waits_for_an_import_whose_connection_was_lost() {
    use std::io::{BufRead as _, BufReader};

    let world = World::new();
    let report = world.run(&["n1"]).await;
    let late = world.dir.path().join("late");
    std::fs::create_dir(&late).unwrap();
    for archive in world.archives("n1") {
        std::fs::rename(&archive, late.join(archive.file_name().unwrap())).unwrap();
    }
    let script = r#"cd "$1" && exec 8<blobs && flock 8 && echo locked && sleep 1.5 && mv "$2"/* "$3""#;
    let mut import = std::process::Command::new("sh");
    import.args(["-c", script, "sh"]).args([&world.staging("n1"), &late, &world.folder("n1")]);
    let mut import = import.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(import.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "locked\n");
    let asking = world.push(&["n1"], Here::default());
    let undo = asking.rollback(&Which::Run(report.run_id), false).await.unwrap().nodes.remove(0).undo;
    assert!(import.wait().unwrap().success());
    assert_eq!((undo.state, undo.removed), (UndoState::Undone, 2), "{undo:?}");
    assert!(world.archives("n1").is_empty(), "what the import brought late is undone too");
}

#[tokio::test]
async fn without_a_record_nothing_is_changed() {
    let world = World::new();
    std::fs::create_dir_all(records(&world).parent().unwrap()).unwrap();
    std::fs::write(records(&world), "in the way").unwrap();
    let report = world.run(&["n1"]).await;
    let why = report.nodes[0].error.as_deref().unwrap();
    assert!(why.starts_with("writing the record of this run failed"), "{why}");
    assert!(world.archives("n1").is_empty());
}

/// Rolling back an interrupted run leaves nothing of it in staging, and counts what it did and no more.
#[tokio::test]
async fn a_rollback_frees_staging() {
    let world = World::new();
    let report = world.run(&["n1"]).await;
    // As a sender leaves a node that is killed while it sends: nothing imported, one blob whole and one in part.
    interrupted(&world, &report.run_id);
    for archive in world.archives("n1") {
        std::fs::remove_file(archive).unwrap();
    }
    let layers: Vec<&Descriptor> = world.images.iter().map(|i| &i.graph.images[0].layers[1]).collect();
    let staging = world.staging("n1");
    std::fs::create_dir_all(staging.join("partial")).unwrap();
    let part = format!("partial/{}.aaaa", layers[1].digest().hex());
    let foreign = format!("partial/{}.aaaa", "c".repeat(64));
    let write = |name: &str, length: u64| {
        std::fs::write(staging.join(name), vec![7; usize::try_from(length).unwrap()]).unwrap();
    };
    write(&layers[0].digest().layout_path(), layers[0].size());
    for part in [&part, &foreign] {
        write(part, 1000);
        write(&format!("{part}.journal"), 10);
    }
    let asking = world.push(&["n1"], Here::default());
    let node = asking.history().await.remove(0);
    assert_eq!((node.runs[0].changed, node.runs[0].interrupted), (0, true), "nothing was imported");
    let all = layers[0].size() + 1000;
    assert_eq!(node.staged, all + 1000);

    let which = Which::Run(report.run_id);
    let would = asking.rollback(&which, true).await.unwrap().nodes.remove(0).undo;
    assert_eq!((would.staging_freed, files(&staging).len()), (all, 5), "a dry run removes nothing");
    let undo = asking.rollback(&which, false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((undo.state, undo.removed, undo.staging_freed), (UndoState::Undone, 0, all));
    let left = [&foreign, &format!("{foreign}.journal")].map(|f| staging.join(f).display().to_string());
    let mut found = files(&staging);
    found.sort();
    assert_eq!(found, left, "what is of another bundle stays");
    assert_eq!(asking.history().await[0].runs[0].changed, 0);
    let again = asking.rollback(&which, false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((again.state, again.staging_freed), (UndoState::Already, 0));
}

/// Without locks on the node a run may be at work there: what it has in staging is not taken from it.
#[tokio::test]
async fn without_locks_a_rollback_leaves_staging_and_says_so() {
    let world = World::new();
    let report = world.run(&["n1"]).await;
    interrupted(&world, &report.run_id);
    let layer = &world.images[0].graph.images[0].layers[1];
    let staged = world.staging("n1").join(layer.digest().layout_path());
    std::fs::write(&staged, vec![7; usize::try_from(layer.size()).unwrap()]).unwrap();
    let here = Here { faults: [("n1".to_owned(), Fault::NoLocks)].into(), ..Here::default() };
    let which = Which::Run(report.run_id);
    let undo = world.push(&["n1"], here).rollback(&which, false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((undo.state, undo.removed, undo.staging_freed), (UndoState::Undone, 2, 0));
    assert_eq!(undo.kept.len(), 1, "{undo:?}");
    let kept = &undo.kept[0];
    assert!(kept.name.ends_with("n1/staging") && kept.reason.contains("no locks (flock)"), "{kept:?}");
    assert!(staged.exists());
}

/// The first attempt did it all and did not hear of it.
#[tokio::test]
async fn a_rollback_that_is_tried_again_tells_all_that_it_did() {
    for word in ["==changed", "==written"] {
        let world = World::new();
        let report = world.run(&["n1"]).await;
        interrupted(&world, &report.run_id);
        let layer = &world.images[0].graph.images[0].layers[1];
        let staged = world.staging("n1").join(layer.digest().layout_path());
        std::fs::write(&staged, vec![7; usize::try_from(layer.size()).unwrap()]).unwrap();
        let lost = Fault::LostAfter(word, Arc::new(AtomicU32::new(1)));
        let here = Here { faults: [("n1".to_owned(), lost)].into(), ..Here::default() };
        let which = Which::Run(report.run_id);
        let undo = world.push(&["n1"], here).rollback(&which, false).await.unwrap().nodes.remove(0).undo;
        assert!(world.recorder.events().iter().any(|e| matches!(e, Event::Retry { .. })), "{word}");
        let told = (undo.state, undo.removed, undo.staging_freed);
        assert_eq!(told, (UndoState::Undone, 2, layer.size()), "{word}");
    }
}

/// What a later run needs to go on stays in staging, and what is there is not of a run that was committed.
#[tokio::test]
async fn a_rollback_leaves_in_staging_what_a_later_run_goes_on_with() {
    let world = World::new();
    let report = world.run(&["n1"]).await;
    let path = |run: &str| records(&world).join(format!("{run}.json"));
    let mut first: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path(&report.run_id)).unwrap()).unwrap();
    let layers: Vec<&Descriptor> = world.images.iter().map(|i| &i.graph.images[0].layers[1]).collect();
    let staging = world.staging("n1");
    for layer in &layers {
        let file = staging.join(layer.digest().layout_path());
        std::fs::write(file, vec![7; usize::try_from(layer.size()).unwrap()]).unwrap();
    }
    let asking = world.push(&["n1"], Here::default());
    let which = Which::Run(report.run_id.clone());
    let would = asking.rollback(&which, true).await.unwrap().nodes.remove(0).undo;
    assert_eq!((would.staging_freed, would.staging_left), (0, None), "it emptied staging of its own");

    first["state"] = "started".into();
    std::fs::write(path(&report.run_id), first.to_string()).unwrap();
    let mut second = first;
    second["run"] = "20991231-000000-0000".into();
    second["sequence"] = 2.into();
    second["slots"] = serde_json::json!([]);
    second["blobs"] = serde_json::json!([layers[0].digest()]);
    std::fs::write(path("20991231-000000-0000"), second.to_string()).unwrap();
    let undo = asking.rollback(&which, false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((undo.state, undo.staging_freed), (UndoState::Undone, layers[1].size()));
    let left = staging.join(layers[0].digest().layout_path()).display().to_string();
    assert_eq!(files(&staging), [left]);
    let both = asking.rollback(&Which::Last, false).await.unwrap().nodes.remove(0).undo;
    assert_eq!((both.state, both.staging_freed), (UndoState::Undone, layers[0].size()));
}

/// A record of an earlier version lists no blobs: what is in staging may be anybody's, and is left and told.
#[tokio::test]
async fn a_rollback_of_a_run_that_listed_no_blobs_leaves_staging_and_says_so() {
    let world = World::new();
    let report = world.run(&["n1"]).await;
    let path = records(&world).join(format!("{}.json", report.run_id));
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(record.as_object_mut().unwrap().remove("blobs").is_some());
    record["state"] = "started".into();
    std::fs::write(&path, record.to_string()).unwrap();
    let asking = world.push(&["n1"], Here::default());
    let which = Which::Run(report.run_id);
    let empty = asking.rollback(&which, true).await.unwrap().nodes.remove(0).undo;
    assert_eq!((empty.staging_freed, empty.staging_left), (0, None), "nothing is there");

    let layer = &world.images[0].graph.images[0].layers[1];
    let staged = world.staging("n1").join(layer.digest().layout_path());
    std::fs::write(&staged, vec![7; usize::try_from(layer.size()).unwrap()]).unwrap();
    let node = asking.history().await.remove(0);
    assert_eq!((node.staged, node.runs[0].staged), (layer.size(), None));
    for dry_run in [true, false] {
        let undo = asking.rollback(&which, dry_run).await.unwrap().nodes.remove(0).undo;
        assert_eq!((undo.state, undo.removed), (UndoState::Undone, 2), "names are undone all the same");
        assert_eq!((undo.staging_freed, undo.staging_left), (0, Some(layer.size())));
        assert!(staged.exists());
    }
    assert!(world.archives("n1").is_empty());
}

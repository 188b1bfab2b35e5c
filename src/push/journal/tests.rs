use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::node::CommandOutput;
use crate::oci::Digest;
use crate::runtime::reversible::{Marks, Reversible};
use crate::runtime::{Containerd, Flavor};

fn ctr() -> Containerd {
    Containerd::new(Flavor::Plain)
}

fn none() -> Claims<'static> {
    Claims::default()
}

fn d(word: &str) -> Digest {
    Digest::sha256(word.as_bytes())
}

fn record(run: &str, sequence: u64) -> RunRecord {
    RunRecord {
        version: VERSION,
        run: run.into(),
        sequence,
        state: RunState::Committed,
        bundle: "web.bundle.tar".into(),
        images_digest: None,
        images: 1,
        node: "n1".into(),
        by: "omk 0.1.0, root on laptop".into(),
        started: "2026-11-29T01:30:00Z".into(),
        ended: None,
        runtime: "containerd 1.7".into(),
        namespace: Some("k8s.io".into()),
        slots: Vec::new(),
        wants: None,
        derived: Vec::new(),
        blobs: Some(Vec::new()),
        pruned: Vec::new(),
        earlier: Vec::new(),
        error: None,
        undone_in_part: None,
    }
}

fn added(name: &str, digest: &str) -> SlotChange {
    SlotChange { name: name.into(), digest: d(digest), before: None, backup: None }
}

fn moved(run: &str, name: &str, from: &str, to: &str) -> SlotChange {
    let before = Some(Before { digest: Some(d(from)), labels: [("k".to_owned(), "v".to_owned())].into() });
    SlotChange { name: name.into(), digest: d(to), before, backup: Some(ctr().backup(run, name)) }
}

fn slots(all: &[(&str, &str)]) -> BTreeMap<String, Option<Digest>> {
    all.iter().map(|(name, digest)| ((*name).to_owned(), Some(d(digest)))).collect()
}

fn names(kept: &[Kept]) -> Vec<&str> {
    kept.iter().map(|k| k.name.as_str()).collect()
}

#[test]
fn undoing_puts_back_what_was_moved_and_removes_what_was_added() {
    let mut run = record("r1", 1);
    run.slots = vec![added("a:1", "new"), moved("r1", "b:1", "old", "new")];
    let config = d("config").to_string();
    run.derived = vec![added(&config, "new")];
    let backup = ctr().backup("r1", "b:1");
    let now = slots(&[("a:1", "new"), ("b:1", "new"), (&backup, "old"), (&config, "new"), ("other:1", "x")]);
    let plan = undo(&run, &now, &BTreeSet::new(), &none(), &ctr());
    assert_eq!(plan.changes.restore.len(), 1);
    assert_eq!(plan.changes.restore[0].labels["k"], "v");
    assert_eq!(plan.changes.remove, ["a:1".to_owned(), config, backup.clone()]);
    assert!(plan.kept.is_empty() && plan.stuck.is_empty());
    assert_eq!((plan.restored.len(), plan.removed.len()), (1, 1));

    let told = (plan.restored, plan.removed);

    // Told over and over, and the runtime still has what it was to remove.
    let now = slots(&[("a:1", "new"), ("b:1", "old"), (&backup, "old")]);
    let left = undo(&run, &now, &BTreeSet::new(), &none(), &ctr()).given_up(&told);
    assert_eq!(
        (left.restored.len(), left.removed.len(), names(&left.stuck)),
        (1, 0, vec!["a:1", backup.as_str()])
    );
    assert!(left.stuck[0].reason.starts_with("the runtime did not remove it"), "{left:?}");

    // Done, or stopped after the name was restored.
    let done = undo(&run, &slots(&[("b:1", "old"), ("other:1", "x")]), &BTreeSet::new(), &none(), &ctr());
    assert!(
        done.changes.is_empty() && done.restored.is_empty() && done.removed.is_empty(),
        "only what is done counts"
    );
    let half = undo(&run, &slots(&[("b:1", "old"), (&backup, "old")]), &BTreeSet::new(), &none(), &ctr());
    assert_eq!(half.changes.remove, std::slice::from_ref(&backup));
    // `ctr images tag --force` removes the name before it makes it anew.
    let between = undo(&run, &slots(&[(&backup, "old")]), &BTreeSet::new(), &none(), &ctr());
    assert_eq!(between.changes.restore.len(), 1);
}

#[test]
fn what_somebody_moved_since_is_left_and_named() {
    let mut run = record("r1", 1);
    run.slots = vec![added("a:1", "new"), moved("r1", "b:1", "old", "new")];
    let backup = ctr().backup("r1", "b:1");
    let now = slots(&[("a:1", "theirs"), ("b:1", "theirs"), (&backup, "old")]);
    let plan = undo(&run, &now, &BTreeSet::new(), &none(), &ctr());
    assert_eq!(names(&plan.kept), ["a:1", "b:1"]);
    assert!(plan.kept[0].reason.starts_with("somebody moved it since, to sha256:"));
    assert_eq!(plan.changes.remove, [backup], "nobody needs it any more");
    assert!(plan.changes.restore.is_empty() && plan.stuck.is_empty());
}

#[test]
fn what_cannot_be_put_back_is_stuck() {
    let mut run = record("r1", 1);
    run.slots = vec![added("a:1", "new"), moved("r1", "b:1", "old", "newer")];
    // Its backup is gone; and the other image runs.
    let now = slots(&[("a:1", "new"), ("b:1", "newer")]);
    let plan = undo(&run, &now, &[d("new")].into(), &none(), &ctr());
    assert_eq!(names(&plan.stuck), ["a:1", "b:1"]);
    assert!(plan.changes.is_empty());
    // A backup that the record claims but that is another run's is not believed.
    run.slots[1].backup = Some(ctr().backup("r2", "b:1"));
    let now = slots(&[("b:1", "newer"), (&ctr().backup("r2", "b:1"), "evil")]);
    assert_eq!(names(&undo(&run, &now, &BTreeSet::new(), &none(), &ctr()).stuck), ["b:1"]);
}

#[test]
fn what_a_later_run_brought_is_not_an_earlier_ones() {
    let mut first = record("r1", 1);
    first.state = RunState::Started;
    first.slots = vec![added("a:1", "a"), added("b:1", "b"), moved("r1", "c:1", "old", "new")];
    let mut second = record("r2", 2);
    second.slots =
        vec![added("a:1", "a"), moved("r2", "b:1", "x", "other"), moved("r2", "c:1", "old", "new")];
    let left = |first: &RunRecord, second: &RunRecord| {
        let own = own(first, &[first.clone(), second.clone()]);
        own.slots.into_iter().map(|c| c.name).collect::<Vec<_>>()
    };
    assert_eq!(left(&first, &second), ["b:1"], "the second would not have listed what was there");
    assert_eq!(left(&second, &first).len(), 3, "an earlier run takes nothing from a later one");
    for change in [
        |second: &mut RunRecord| second.state = RunState::Undone,
        |second: &mut RunRecord| second.namespace = Some("default".into()),
    ] {
        let mut second = second.clone();
        change(&mut second);
        assert_eq!(left(&first, &second).len(), 3);
    }
    // What a run brought that ended well may have been collected before the later one came.
    first.state = RunState::Committed;
    assert_eq!(left(&first, &second), ["b:1"]);
}

fn wants(all: &[(&str, &str)]) -> Option<Vec<Owned>> {
    Some(all.iter().map(|(name, digest)| Owned { name: (*name).into(), digest: d(digest) }).collect())
}

#[test]
fn what_a_later_run_counts_on_is_left_until_that_is_undone() {
    let mut first = record("r1", 1);
    first.slots = vec![added("a:1", "a"), added("b:1", "b"), moved("r1", "c:1", "old", "new")];
    first.derived = vec![added(&d("config").to_string(), "a")];
    let mut second = record("r2", 2);
    second.wants = wants(&[("a:1", "a"), ("b:1", "another"), ("c:1", "new"), ("d:1", "d")]);
    second.slots = vec![added("d:1", "d")];
    let (config, backup) = (d("config").to_string(), ctr().backup("r1", "c:1"));
    let now = slots(&[("a:1", "a"), ("b:1", "b"), ("c:1", "new"), (&backup, "old"), (&config, "a")]);
    let plan = |second: &RunRecord| {
        let records = [first.clone(), second.clone()];
        undo(&first, &now, &BTreeSet::new(), &Claims::on(&first, &records), &ctr())
    };
    let left = plan(&second);
    assert_eq!(names(&left.stuck), ["a:1", "c:1"]);
    assert!(left.stuck[0].reason.starts_with("run r2, which came later, found it there"), "{left:?}");
    assert_eq!(left.changes.remove, ["b:1"], "neither the config's name nor the backup, which is needed yet");
    assert!(left.changes.restore.is_empty());
    for change in [
        |second: &mut RunRecord| second.state = RunState::Undone,
        |second: &mut RunRecord| second.state = RunState::Failed,
        |second: &mut RunRecord| second.sequence = 0,
        |second: &mut RunRecord| second.namespace = Some("default".into()),
        |second: &mut RunRecord| second.wants = None,
        |second: &mut RunRecord| second.undone_in_part = Some("2026-11-29T01:30:00Z".into()),
    ] {
        let mut second = second.clone();
        change(&mut second);
        let all = plan(&second);
        assert!(all.stuck.is_empty() && all.removed.len() == 2 && all.restored.len() == 1, "{all:?}");
    }
}

#[test]
fn runs_that_another_one_went_on_from_are_known() {
    let mut first = record("r1", 1);
    (first.state, first.images_digest) = (RunState::Failed, Some(d("images")));
    first.slots = vec![added("a:1", "a")];
    let mut second = record("r2", 2);
    second.images_digest = first.images_digest.clone();
    second.slots = vec![added("b:1", "b")];
    let now = slots(&[("a:1", "a"), ("b:1", "b")]);
    let found = |first: &RunRecord, now: &BTreeMap<String, Option<Digest>>| {
        begun_before(&second, &[first.clone(), second.clone()], now).len()
    };
    assert_eq!(found(&first, &now), 1);
    assert_eq!(found(&first, &slots(&[("a:1", "other")])), 0, "nothing is left of it");
    let mut between = record("r1b", 1);
    between.images_digest = first.images_digest.clone();
    let all = [first.clone(), between, second.clone()]
        .map(|r| RunRecord { sequence: r.sequence * 2 + u64::from(r.run == "r1b"), ..r });
    assert!(begun_before(&all[2], &all, &now).is_empty(), "that one counts on it");
    for change in [
        |first: &mut RunRecord| first.state = RunState::Committed,
        |first: &mut RunRecord| first.state = RunState::Undone,
        |first: &mut RunRecord| first.sequence = 3,
        |first: &mut RunRecord| first.images_digest = None,
        |first: &mut RunRecord| first.slots = vec![added("b:1", "b")],
    ] {
        let mut first = first.clone();
        change(&mut first);
        assert_eq!(found(&first, &now), 0, "{first:?}");
    }
}

#[test]
fn the_form_of_an_id_is_known() {
    assert!(whole_id("20261129-045235-a7d5"));
    for part in ["20261129-045235", "a7d5", "20261129-045235-a7d", "2026112-9045235-a7d5", "r1"] {
        assert!(!whole_id(part), "{part}");
    }
}

#[test]
fn a_derived_name_stays_while_somebody_has_its_image() {
    let mut run = record("r1", 1);
    let config = d("config").to_string();
    run.slots = vec![added("a:1", "new")];
    run.derived = vec![added(&config, "new")];
    let now = slots(&[("a:1", "new"), ("mine:1", "new"), (&config, "new")]);
    assert_eq!(undo(&run, &now, &BTreeSet::new(), &none(), &ctr()).changes.remove, ["a:1"]);
    let before = Before { digest: Some(d("new")), labels: BTreeMap::new() };
    run.derived[0].before = Some(before);
    let now = slots(&[("a:1", "new"), (&config, "new")]);
    assert_eq!(
        undo(&run, &now, &BTreeSet::new(), &none(), &ctr()).changes.remove,
        ["a:1"],
        "it was there before"
    );
}

#[test]
fn only_what_omk_added_is_its_own() {
    let mut first = record("r1", 1);
    first.slots = vec![added("a:1", "one"), moved("r1", "theirs:1", "foreign", "one"), added("b:1", "b")];
    let mut second = record("r2", 2);
    second.slots =
        vec![moved("r2", "a:1", "one", "two"), moved("r2", "theirs:1", "one", "two"), added("c:1", "c")];
    let mut undone = record("r3", 3);
    undone.state = RunState::Undone;
    undone.slots = vec![added("d:1", "d")];
    let owned = owned(&[second, undone, first]);
    let names: Vec<&str> = owned.keys().map(String::as_str).collect();
    assert_eq!(names, ["a:1", "b:1", "c:1"]);
    assert_eq!(owned["a:1"], d("two"));
}

#[test]
fn pruning_spares_what_is_wanted_used_pinned_or_moved() {
    let config = |word: &str| d(&format!("config of {word}")).to_string();
    let mut run = record("r1", 1);
    let all = ["old:1", "wanted:1", "used:1", "pinned:1", "moved:1"];
    run.slots = all.iter().map(|n| added(n, n)).collect();
    run.derived = all.iter().map(|n| added(&config(n), n)).collect();
    let mut now = slots(&all.map(|n| (n, n)));
    now.insert("moved:1".into(), Some(d("theirs")));
    now.insert("foreign:1".into(), Some(d("foreign")));
    now.extend(all.iter().map(|n| (config(n), Some(d(n)))));
    let mut marks = Marks::default();
    marks.used.insert("used:1".into());
    let pin = [("io.cri-containerd.pinned".to_owned(), "pinned".to_owned())];
    // The pin is on another name of the image.
    marks.labels.insert(config("pinned:1"), pin.into());
    let wanted = BTreeSet::from(["wanted:1".to_owned()]);
    let pruned = prune(std::slice::from_ref(&run), &wanted, &now, &marks, &ctr());
    let removed: Vec<&str> = pruned.remove.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(removed, ["old:1", config("old:1").as_str()]);
    assert_eq!(names(&pruned.kept), ["pinned:1", "used:1"]);
    let done = pruned.clone().done(&slots(&[("old:1", "old:1")]));
    assert_eq!((done.remove.len(), names(&done.kept)), (1, vec!["pinned:1", "used:1", "old:1"]));
    run.pruned = pruned.remove;
    assert!(!owned(&[run]).contains_key("old:1"), "removed once: not omk's any more");
}

#[test]
fn old_backups_and_records_go_and_what_was_added_stays_known() {
    let mut all: Vec<RunRecord> = (1..=40).map(|n| record(&format!("r{n:02}"), n)).collect();
    for record in &mut all {
        let run = record.run.clone();
        record.slots = vec![added(&format!("{run}:1"), "x"), moved(&run, "m:1", "a", "b")];
    }
    all[39].state = RunState::Undone;
    let backups: Vec<String> = all.iter().map(|r| ctr().backup(&r.run, "m:1")).collect();
    let stray = ctr().backup("gone", "m:1");
    let mut now: BTreeMap<String, Option<Digest>> =
        backups.iter().map(|b| (b.clone(), Some(d("a")))).collect();
    now.insert(stray.clone(), None);
    now.insert("m:1".into(), None);
    let expired = expire(&all, 2, &now, &ctr());
    assert!(!expired.backups.contains(&stray), "perhaps of a run that another staging folder has on record");
    assert!(expired.backups.contains(&backups[39]));
    assert!(!expired.backups.contains(&backups[38]) && !expired.backups.contains(&backups[37]));
    assert_eq!(expired.backups.len(), 38);
    assert_eq!(expired.records.len(), 8);
    assert!(expired.records.contains(&"r08".to_owned()) && !expired.records.contains(&"r09".to_owned()));
    let mut newest = record("r41", 41);
    newest.earlier = expired.earlier;
    assert!(owned(&[newest]).contains_key("r01:1"));
    assert!(expire(&all[..3], 0, &now, &ctr()).backups.contains(&backups[2]), "none are to be undone");
}

#[test]
fn what_ran_under_a_name_before_it_was_moved_counts_as_used() {
    let mut first = record("r1", 1);
    first.slots = vec![added("web:1", "a"), added("web@a", "a")];
    let mut second = record("r2", 2);
    second.slots = vec![moved("r2", "web:1", "a", "b"), added("web@b", "b")];
    let now = slots(&[("web:1", "b"), ("web@a", "a"), ("web@b", "b")]);
    let marks = Marks { used: ["web:1".to_owned()].into(), ..Marks::default() };
    let wanted = ["web:1".to_owned(), "web@b".to_owned()].into();
    let pruned = prune(&[first.clone(), second.clone()], &wanted, &now, &marks, &ctr());
    assert_eq!(names(&pruned.kept), ["web@a"]);
    // The same, had nobody noted how far the first run came.
    first.state = RunState::Started;
    let pruned = prune(&[first.clone(), second.clone()], &wanted, &now, &Marks::default(), &ctr());
    assert!(pruned.remove.is_empty(), "{pruned:?}");

    assert_eq!(later(&first, &[first.clone(), second.clone()]), Some("r2"));
    assert_eq!(later(&second, &[first.clone(), second.clone()]), None);
    second.state = RunState::Undone;
    assert_eq!(later(&first, &[first.clone(), second]), None);
}

fn says(text: &str) -> CommandOutput {
    CommandOutput { status: 0, stdout: text.as_bytes().to_vec(), stderr: Vec::new() }
}

#[test]
fn records_are_read_as_they_were_written() {
    let mut run = record("20261129-013000-ab12", 7);
    run.slots = vec![moved("20261129-013000-ab12", "b:1", "old", "new"), added("a:1", "new")];
    let command = write("/var/lib/omk/runs", &run, &["r1".into(), "../x".into()], true);
    assert!(
        command.root && command.script.contains("rm -f -- r1.json\n") && !command.script.contains("../x")
    );
    let body = String::from_utf8(command.stdin).unwrap();
    assert_eq!(body.lines().count(), 1);
    let listed = format!("motd\n\n==run {}.json\n{body}\n==run junk.json\n{{\n\n==end\n", run.run);
    let (records, bad) = parse_list(&says(&listed)).unwrap();
    assert_eq!((records, bad), (vec![run.clone()], vec!["junk.json".to_owned()]));

    // Of a later omk that only added something; of one whose meaning is not known; a file with another's name.
    let more = body.replacen('{', "{\"new_field\":[1],", 1);
    assert_eq!(parse_list(&says(&format!("\n==run {}.json\n{more}\n==end\n", run.run))).unwrap().0, [run]);
    let newer = body.replacen("\"version\":1", "\"version\":2", 1);
    let why = parse_list(&says(&format!("\n==run x.json\n{newer}\n==end\n"))).unwrap_err().to_string();
    assert!(why.contains("a newer omk wrote it"), "{why}");
    let (none, bad) = parse_list(&says(&format!("\n==run other.json\n{body}\n==end\n"))).unwrap();
    assert!(none.is_empty() && bad == ["other.json"]);
    assert!(parse_list(&says("==none\n")).unwrap().0.is_empty());
    assert!(parse_list(&says("\n==run a.json\n{")).is_err(), "cut off");
}

#[test]
fn a_record_cannot_speak_to_the_terminal() {
    let plain = record("r1", 1);
    let evil = || Some("\u{1b}]0;x\u{7}".to_owned());
    for evil in [
        RunRecord { bundle: evil().unwrap(), ..plain.clone() },
        RunRecord { error: evil(), ..plain.clone() },
        RunRecord { namespace: evil(), ..plain.clone() },
        RunRecord { ended: evil(), ..plain },
    ] {
        let body = serde_json::to_string(&evil).unwrap();
        let (records, bad) = parse_list(&says(&format!("\n==run r1.json\n{body}\n==end\n"))).unwrap();
        assert_eq!((records, bad), (vec![], vec!["r1.json".to_owned()]), "{evil:?}");
    }
}

#[test]
fn records_are_beside_staging() {
    assert_eq!(folder("/var/lib/omk/staging"), "/var/lib/omk/runs");
    assert_eq!(folder("/tmp/x/"), "/tmp/x-runs");
}

#[test]
fn run_ids_are_file_names() {
    assert!(check_run("20261129-013000-ab12"));
    assert!(["", "../x", "A", "a b", "a/b", &"a".repeat(65)].iter().all(|r| !check_run(r)));
}

proptest! {
    #[test]
    fn any_answer_is_survived(text in "(\n==run [a-z./]{0,9}\n|==end\n|[{}\":,a-z0-9]{0,30}|\\PC{0,9}|\n){0,12}") {
        let _ = parse_list(&says(&text));
        let _ = parse_holder(&says(&text));
    }
}

/// As versions wrote it that listed no blobs and called the digest of the images that of the bundle.
#[test]
fn a_record_of_an_earlier_version_is_read_and_claims_no_blobs() {
    let old =
        RunRecord { slots: vec![added("a:1", "a")], images_digest: Some(d("images")), ..record("r1", 1) };
    let mut json = serde_json::to_value(&old).unwrap();
    let fields = json.as_object_mut().unwrap();
    assert!(fields.remove("blobs").is_some());
    let digest = fields.remove("images_digest").unwrap();
    fields.insert("bundle_digest".to_owned(), digest);
    let read: RunRecord = serde_json::from_value(json).unwrap();
    assert_eq!(read, RunRecord { blobs: None, ..old.clone() }, "no list is not an empty list");
    // Names are what undoing and pruning go by: nothing of that depends on blobs.
    let (now, unused) = (slots(&[("a:1", "a")]), BTreeSet::new());
    assert_eq!(undo(&read, &now, &unused, &none(), &ctr()), undo(&old, &now, &unused, &none(), &ctr()));
    assert_eq!(undo(&read, &now, &unused, &none(), &ctr()).removed.len(), 1);
    let pruned = prune(&[read], &BTreeSet::new(), &now, &Marks::default(), &ctr());
    assert_eq!(pruned.remove.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a:1"]);
}

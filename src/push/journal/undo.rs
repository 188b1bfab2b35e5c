//! What undoing a run takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{RunRecord, RunState, SlotChange};
use crate::oci::Digest;
use crate::runtime::reversible::{Changes, Restore, Reversible};

/// A slot that is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The name, or the path of the archive.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What is left to be done for a run to be undone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    /// To be done. Empty when it was done.
    pub changes: Changes,
    /// Slots that are not the run's any more: somebody else set them. Undone nevertheless.
    pub kept: Vec<Kept>,
    /// Slots that would have to be put back and cannot be, now or ever.
    pub stuck: Vec<Kept>,
    /// Slots that get what they had.
    pub restored: BTreeSet<String>,
    /// Slots that are removed.
    pub removed: BTreeSet<String>,
}

impl Undo {
    /// When nothing more is tried: what is still to be done was not done, whatever was `told` to be, restored and removed.
    #[must_use]
    pub fn given_up(mut self, told: &(BTreeSet<String>, BTreeSet<String>)) -> Self {
        self.restored = told.0.difference(&self.restored).cloned().collect();
        self.removed = told.1.difference(&self.removed).cloned().collect();
        let not = |name: &String, what: &str| Kept {
            name: name.clone(),
            reason: format!("the runtime did not {what}; run the same command again"),
        };
        self.stuck.extend(self.changes.restore.iter().map(|r| not(&r.slot, "put it back")));
        self.stuck.extend(self.changes.remove.iter().map(|name| not(name, "remove it")));
        self
    }
}

/// The newest run after this one that moved what this one had put somewhere: undone out of turn, the earlier run would lose
/// what its names had before, and the later one would bring back what was undone.
pub fn later<'a>(record: &RunRecord, records: &'a [RunRecord]) -> Option<&'a str> {
    let moved = |c: &SlotChange| {
        let before = c.before.as_ref().and_then(|b| b.digest.as_ref());
        let from =
            |own: &SlotChange| own.name == c.name && before == Some(&own.digest) && c.digest != own.digest;
        record.slots.iter().any(from)
    };
    records
        .iter()
        .filter(|r| {
            r.sequence > record.sequence && r.namespace == record.namespace && r.state != RunState::Undone
        })
        .filter(|r| r.slots.iter().any(moved))
        .max_by_key(|r| r.sequence)
        .map(|r| r.run.as_str())
}

/// The record without what a later run set too: a run lists no slot that has its content already, so what a later one lists was
/// not there any more, or, where the first was interrupted, not yet.
pub fn own(record: &RunRecord, records: &[RunRecord]) -> RunRecord {
    let after = |r: &&RunRecord| {
        r.sequence > record.sequence && r.namespace == record.namespace && r.state != RunState::Undone
    };
    let theirs: BTreeSet<(&String, &Digest)> =
        records.iter().filter(after).flat_map(|r| &r.slots).map(|c| (&c.name, &c.digest)).collect();
    record.only(|c| !theirs.contains(&(&c.name, &c.digest)))
}

/// What later runs that were committed found as they want it: it is theirs too, though they did not bring it.
#[derive(Debug, Clone, Default)]
pub struct Claims<'a>(BTreeMap<(&'a str, &'a Digest), &'a str>);

impl<'a> Claims<'a> {
    /// On what `record` set.
    pub fn on(record: &RunRecord, records: &'a [RunRecord]) -> Self {
        // Of one that was undone in part the node is not what it proved any more, and it may never come to its end.
        let after = |r: &&RunRecord| {
            r.sequence > record.sequence
                && r.namespace == record.namespace
                && r.state == RunState::Committed
                && r.undone_in_part.is_none()
        };
        let mut after: Vec<&RunRecord> = records.iter().filter(after).collect();
        after.sort_by_key(|r| r.sequence);
        let of = |r: &'a RunRecord| {
            r.wants.iter().flatten().map(|w| ((w.name.as_str(), &w.digest), r.run.as_str()))
        };
        Self(after.into_iter().flat_map(of).collect())
    }

    /// The newest run that counts on what the slot got.
    fn of(&self, change: &SlotChange) -> Option<&str> {
        self.0.get(&(change.name.as_str(), &change.digest)).copied()
    }
}

/// Earlier runs of the same images that did not come to their end and that brought some of them, which are there still: who undoes
/// the run that went on from there may mean these too. Oldest first.
pub fn begun_before<'a>(
    record: &RunRecord,
    records: &'a [RunRecord],
    now: &BTreeMap<String, Option<Digest>>,
) -> Vec<&'a str> {
    let there = |c: &SlotChange| now.get(&c.name).is_some_and(|d| d.as_ref() == Some(&c.digest));
    // Another one that has all of it may be there between them: then that one counts on it.
    let ended = |r: &RunRecord| {
        let after = |o: &&RunRecord| o.run != record.run && o.sequence > r.sequence;
        let same = |o: &RunRecord| o.namespace == r.namespace && o.images_digest == r.images_digest;
        records.iter().filter(after).any(|o| same(o) && o.state == RunState::Committed)
    };
    let unfinished = |r: &&RunRecord| {
        r.sequence < record.sequence
            && r.namespace == record.namespace
            && r.images_digest.is_some()
            && r.images_digest == record.images_digest
            && matches!(r.state, RunState::Started | RunState::Failed)
            && !ended(r)
            && own(r, records).slots.iter().any(there)
    };
    records.iter().filter(unfinished).map(|r| r.run.as_str()).collect()
}

/// What has to be done so that the slots of the record are as they were before the run, given what they have now, which
/// contents containers use and what later runs count on. Doing it and asking again finds nothing left to do.
pub fn undo(
    record: &RunRecord,
    now: &BTreeMap<String, Option<Digest>>,
    used: &BTreeSet<Digest>,
    claims: &Claims<'_>,
    runtime: &dyn Reversible,
) -> Undo {
    let mut undo = Undo::default();
    let mut over: Vec<String> = Vec::new();
    let keep = |name: &String, reason: &str| Kept { name: name.clone(), reason: reason.to_owned() };
    for change in &record.slots {
        let current = now.get(&change.name);
        let ours = current.is_some_and(|d| d.as_ref() == Some(&change.digest));
        let own = |b: &&String| runtime.backup_of(b) == Some(&record.run);
        let backup = change.backup.as_ref().filter(own).filter(|b| now.contains_key(*b));
        if ours && let Some(run) = claims.of(change) {
            let reason = format!(
                "run {run}, which came later, found it there and counts on it; undo that first, then run the same command again"
            );
            undo.stuck.push(keep(&change.name, &reason));
            continue;
        }
        match (&change.before, current) {
            // The run never came to it, or it is gone already.
            (None, None) => {}
            (None, Some(_)) if ours && used.contains(&change.digest) => {
                undo.stuck.push(keep(
                    &change.name,
                    "a container uses it; stop that, then run the same command again",
                ));
                continue;
            }
            (None, Some(_)) if ours => {
                undo.removed.insert(change.name.clone());
                undo.changes.remove.push(change.name.clone());
            }
            (Some(before), Some(d)) if *d == before.digest => {}
            // Gone: either the runtime removed it, or undoing stopped between two steps.
            (Some(before), current) if ours || current.is_none() => match backup {
                Some(backup) => {
                    undo.restored.insert(change.name.clone());
                    undo.changes.restore.push(Restore {
                        slot: change.name.clone(),
                        backup: backup.clone(),
                        labels: before.labels.clone(),
                    });
                }
                None => {
                    undo.stuck
                        .push(keep(&change.name, "what it had before is not kept any more on the node"));
                    continue;
                }
            },
            (_, Some(Some(other))) => {
                undo.kept.push(keep(&change.name, &format!("somebody moved it since, to {other}")));
            }
            (_, _) => undo.kept.push(keep(&change.name, "somebody replaced it since")),
        }
        over.extend(backup.cloned());
    }
    let going: BTreeSet<&String> =
        undo.changes.remove.iter().chain(undo.changes.restore.iter().map(|r| &r.slot)).collect();
    // A derived name stays as long as anything else has its image.
    let lonely = |digest: &Digest| {
        !now.iter().any(|(slot, d)| {
            d.as_ref() == Some(digest)
                && !going.contains(slot)
                && !runtime.derived(slot)
                && runtime.backup_of(slot) != Some(&record.run)
        })
    };
    let touched: BTreeSet<&Digest> = record.slots.iter().map(|c| &c.digest).collect();
    let derived = record.derived.iter().filter(|c| c.before.is_none() && touched.contains(&c.digest));
    let gone: Vec<String> = derived
        .filter(|c| now.get(&c.name).is_some_and(|d| d.as_ref() == Some(&c.digest)))
        .filter(|c| lonely(&c.digest) && !used.contains(&c.digest))
        .map(|c| c.name.clone())
        .collect();
    undo.changes.remove.extend(gone);
    undo.changes.remove.extend(over);
    undo
}

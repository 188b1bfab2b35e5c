//! How long what runs leave is kept, and what is omk's own to remove.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kept, Owned, RunRecord, RunState};
use crate::oci::Digest;
use crate::runtime::reversible::{Marks, Reversible};

/// Records that a node keeps.
pub const KEEP_RECORDS: usize = 32;

/// What nothing needs any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Backups to remove.
    pub backups: Vec<String>,
    /// Runs whose records are to be removed.
    pub records: Vec<String>,
    /// What these had added, to be noted by the newest record.
    pub earlier: Vec<Owned>,
}

/// What is over when only the newest `keep` runs are to be undone any more. `records` are all of the node.
pub fn expire(
    records: &[RunRecord],
    keep: usize,
    now: &BTreeMap<String, Option<Digest>>,
    runtime: &dyn Reversible,
) -> Expired {
    let mut all: Vec<&RunRecord> = records.iter().collect();
    all.sort_by_key(|r| std::cmp::Reverse(r.sequence));
    let undoable = all.iter().filter(|r| r.state != RunState::Undone && !r.slots.is_empty());
    let kept: BTreeSet<&str> = undoable.take(keep).map(|r| r.run.as_str()).collect();
    let recorded: BTreeSet<&str> = all.iter().map(|r| r.run.as_str()).collect();
    // Backups of a run that is not on record here may be those of another one with another staging folder.
    let over = |run: &str| recorded.contains(run) && !kept.contains(run);
    let old = |slot: &&String| runtime.backup_of(slot).is_some_and(over);
    let backups = now.keys().filter(old).cloned().collect();
    let (_, over) = all.split_at(all.len().min(KEEP_RECORDS.max(keep)));
    let over: Vec<RunRecord> = over.iter().map(|r| (*r).clone()).collect();
    let earlier = if over.is_empty() {
        Vec::new()
    } else {
        owned(&over).into_iter().map(|(name, digest)| Owned { name, digest }).collect()
    };
    Expired { backups, records: over.into_iter().map(|r| r.run).collect(), earlier }
}

/// What runs added and nobody else had before: a slot that a run moved is omk's own only when omk had put there what it
/// moved.
pub fn owned(records: &[RunRecord]) -> BTreeMap<String, Digest> {
    let mut all: Vec<&RunRecord> = records.iter().collect();
    all.sort_by_key(|r| r.sequence);
    let mut owned: BTreeMap<String, Digest> = BTreeMap::new();
    for Owned { name, digest } in all.iter().flat_map(|r| &r.earlier) {
        owned.insert(name.clone(), digest.clone());
    }
    // How far a run came that was interrupted is not known: what is there may be somebody else's.
    let done = |r: &&RunRecord| matches!(r.state, RunState::Committed | RunState::Failed);
    for record in all.into_iter().filter(done) {
        for change in record.slots.iter().chain(&record.derived) {
            let own = match &change.before {
                None => true,
                Some(before) => before.digest.is_some() && owned.get(&change.name) == before.digest.as_ref(),
            };
            if own {
                owned.insert(change.name.clone(), change.digest.clone());
            } else if change.before.as_ref().and_then(|b| b.digest.as_ref()) != Some(&change.digest) {
                owned.remove(&change.name);
            }
        }
        for gone in &record.pruned {
            owned.remove(&gone.name);
        }
    }
    owned
}

/// What `--prune` does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// To be removed.
    pub remove: Vec<Owned>,
    /// Added by omk and not wanted, but not to be removed.
    pub kept: Vec<Kept>,
}

impl Pruned {
    /// After it was done: what is there nevertheless was kept, by the runtime.
    #[must_use]
    pub fn done(mut self, now: &BTreeMap<String, Option<Digest>>) -> Self {
        let (there, gone): (Vec<Owned>, Vec<Owned>) =
            self.remove.into_iter().partition(|o| now.contains_key(&o.name));
        let reason = "the runtime did not remove it";
        self.kept.extend(there.into_iter().map(|o| Kept { name: o.name, reason: reason.to_owned() }));
        Self { remove: gone, kept: self.kept }
    }
}

/// What earlier runs added that is not `wanted`, still is what omk put there, and that nobody pinned or uses.
pub fn prune(
    records: &[RunRecord],
    wanted: &BTreeSet<String>,
    now: &BTreeMap<String, Option<Digest>>,
    marks: &Marks,
    runtime: &dyn Reversible,
) -> Pruned {
    let owned = owned(records);
    let used = used(marks, now, records);
    let pinned: BTreeSet<&Digest> = marks
        .labels
        .iter()
        .filter(|(_, labels)| labels.get(PINNED).is_some_and(|v| v == "pinned"))
        .filter_map(|(slot, _)| now.get(slot)?.as_ref())
        .collect();
    let there = |slot: &String, digest: &Digest| now.get(slot).is_some_and(|d| d.as_ref() == Some(digest));
    let mut pruned = Pruned::default();
    for (name, digest) in
        owned.iter().filter(|(n, d)| there(n, d) && !wanted.contains(*n) && !runtime.derived(n))
    {
        let keep = |reason: &str| Kept { name: name.clone(), reason: reason.to_owned() };
        if used.contains(digest) {
            pruned.kept.push(keep("a container uses it"));
        } else if pinned.contains(digest) {
            pruned.kept.push(keep("it is pinned"));
        } else {
            pruned.remove.push(Owned { name: name.clone(), digest: digest.clone() });
        }
    }
    let going: BTreeSet<&String> = pruned.remove.iter().map(|o| &o.name).collect();
    let gone: BTreeSet<&Digest> = pruned.remove.iter().map(|o| &o.digest).collect();
    let lonely = |digest: &Digest| {
        !now.iter().any(|(slot, d)| {
            d.as_ref() == Some(digest)
                && !going.contains(slot)
                && !runtime.derived(slot)
                && runtime.backup_of(slot).is_none()
        })
    };
    let derived: Vec<Owned> = owned
        .iter()
        .filter(|(name, digest)| {
            runtime.derived(name) && gone.contains(digest) && there(name, digest) && lonely(digest)
        })
        .map(|(name, digest)| Owned { name: name.clone(), digest: digest.clone() })
        .collect();
    pruned.remove.extend(derived);
    pruned
}

/// containerd's label for what kubelet's garbage collection leaves alone.
const PINNED: &str = "io.cri-containerd.pinned";

/// Contents that containers use: a container knows its image by a name, which a run may have moved since the container was
/// made, so everything counts that the name is known to have meant.
pub(in crate::push) fn used(
    marks: &Marks,
    now: &BTreeMap<String, Option<Digest>>,
    records: &[RunRecord],
) -> BTreeSet<Digest> {
    let mut used: BTreeSet<Digest> = marks.used.iter().filter_map(|slot| now.get(slot)?.clone()).collect();
    for change in records.iter().flat_map(|r| &r.slots).filter(|c| marks.used.contains(&c.name)) {
        used.insert(change.digest.clone());
        used.extend(change.before.as_ref().and_then(|b| b.digest.clone()));
    }
    used
}

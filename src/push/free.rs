//! What runs leave in staging, and taking it out again.

use std::collections::BTreeMap;

use super::UndoReport;
use super::journal::{Kept, RunRecord, RunState};
use super::node::{Fault, Prepared};
use super::rollback::Done;
use crate::oci::Digest;
use crate::runtime::{NodeFacts, discard_parts, parse_discard};

/// What became of what waits in staging.
#[derive(Debug, Default)]
pub(super) struct Freed {
    bytes: u64,
    /// Bytes that stay because the record does not say whose they are.
    left: Option<u64>,
    kept: Option<Kept>,
}

impl Freed {
    pub(super) fn told(self, mut report: UndoReport) -> UndoReport {
        (report.staging_freed, report.staging_left) = (self.bytes, self.left);
        report.kept.extend(self.kept);
        report
    }
}

impl Prepared {
    /// Takes out of staging what the run left there of its blobs and no later run needs. The lock of the folder is held, so no
    /// run that is at work uses them; where there is none to be had, they stay.
    pub(super) async fn free(
        &self,
        record: &RunRecord,
        records: &[RunRecord],
        done: &mut Done,
        dry_run: bool,
    ) -> Result<Freed, Fault> {
        if record.state == RunState::Committed {
            // It emptied staging of its own: what is there is of a later one.
            return Ok(Freed::default());
        }
        let Some(mut left) = left(record, &self.facts) else {
            let left = Some(staged(&self.facts)).filter(|&bytes| bytes > 0);
            return Ok(Freed { left, ..Freed::default() });
        };
        for needed in needed(record, records) {
            left.remove(needed);
        }
        if !left.is_empty() && !dry_run && !done.alone {
            let reason = "the node has no locks (flock), so a run may be at work in it; once none is, remove it there by hand";
            let kept = Kept { name: self.staging.clone(), reason: reason.to_owned() };
            return Ok(Freed { kept: Some(kept), ..Freed::default() });
        }
        // Of what an earlier attempt took out the rest is there at most.
        done.freed = done.freed.max(left.values().sum());
        if !left.is_empty() && !dry_run {
            parse_discard(&self.session.run(&discard_parts(&self.staging, left.keys().copied())).await?)?;
        }
        Ok(Freed { bytes: done.freed, ..Freed::default() })
    }
}

/// Bytes of all blobs and parts in staging, whosever they are.
pub(super) fn staged(facts: &NodeFacts) -> u64 {
    facts.staged.values().sum::<u64>().saturating_add(facts.partial)
}

/// What is in staging of the blobs of a run, with its bytes; `None` where the record does not list them.
pub(super) fn left<'a>(record: &'a RunRecord, facts: &NodeFacts) -> Option<BTreeMap<&'a Digest, u64>> {
    let one = |digest: &'a Digest| {
        let (whole, part) = (facts.staged.get(digest), facts.partials.get(digest.hex()));
        let there = whole.is_some() || part.is_some();
        there.then(|| (digest, whole.copied().unwrap_or(0) + part.copied().unwrap_or(0)))
    };
    Some(record.blobs.as_ref()?.iter().filter_map(one).collect())
}

/// What later runs need that did not come to their end: they go on with what is in staging.
fn needed<'a>(record: &RunRecord, records: &'a [RunRecord]) -> impl Iterator<Item = &'a Digest> {
    let sequence = record.sequence;
    let open = |r: &RunRecord| matches!(r.state, RunState::Started | RunState::Failed);
    records.iter().filter(move |r| r.sequence > sequence && open(r)).flat_map(|r| &r.blobs).flatten()
}

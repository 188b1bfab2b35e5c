//! What runs write down on a node before they change it, and what follows from that: how to undo a run, what may be
//! forgotten, what is omk's own to remove. Pure: commands are built and answers are read here, run elsewhere.
//!
//! A node has one record a run, `RUN.json` in a folder beside staging (see [`folder`]), written before the first change and
//! again when the run has ended, staged, synced and renamed each time. All of it happens under the lock of the staging folder, so
//! that a record that says [`RunState::Started`] while the lock can be had is of a run that was interrupted.

mod keep;
mod record;
mod shell;
mod undo;

pub(super) use keep::used;
pub use keep::{Expired, KEEP_RECORDS, Pruned, expire, owned, prune};
pub use record::{
    Before, Owned, RunRecord, RunState, SlotChange, VERSION, check_run, images_digest, whole_id,
};
pub use shell::{NO_FOLDER, folder, holder, list, parse_holder, parse_list, parse_write, prepare, write};
pub use undo::{Claims, Kept, Undo, begun_before, later, own, undo};

#[cfg(test)]
mod tests;

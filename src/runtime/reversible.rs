//! What it takes to put a runtime's images back as they were.
//!
//! A *slot* is what a runtime finds an image by and what an import sets: a name in containerd, an archive in an image
//! folder. A run of omk notes what was in the slots that it is about to set, keeps what it replaces under a *backup* of its
//! own, and can so be undone slot by slot.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeFacts, RuntimeError, RuntimeImage};
use crate::node::{CommandOutput, RemoteCommand};
use crate::oci::Digest;

/// Labels of a slot.
pub type Labels = BTreeMap<String, String>;

/// What is to be done to slots, all in one command. Doing it twice does no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Slots that get back what a backup has. A backup stays until it is removed.
    pub restore: Vec<Restore>,
    /// Slots that are removed, backups among them; only when everything was restored.
    pub remove: Vec<String>,
    /// The import was just now: the runtime may be about to add slots of its own accord, so that those in `remove` are
    /// waited for.
    pub just_now: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.restore.is_empty() && self.remove.is_empty()
    }
}

/// A slot that gets back what it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// Which.
    pub slot: String,
    /// What has it.
    pub backup: String,
    /// The labels that it had.
    pub labels: Labels,
}

/// What is noted about images beside what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// By slot; slots without labels are left out.
    pub labels: BTreeMap<String, Labels>,
    /// Slots that containers name as theirs.
    pub used: BTreeSet<String>,
}

/// A runtime whose imports can be undone.
pub trait Reversible: Send + Sync {
    /// Whether its commands need root, and so the journal too.
    fn root(&self) -> bool;

    /// containerd's namespace.
    fn namespace(&self) -> Option<&str> {
        None
    }

    /// All slots and what they have; `None`: something that cannot be read.
    fn slots(&self, facts: &NodeFacts) -> BTreeMap<String, Option<Digest>>;

    /// The slots that importing this image sets.
    fn sets(&self, image: &RuntimeImage) -> Vec<String>;

    /// The slots that the runtime adds of its own accord for an image that is imported.
    fn derives(&self, image: &RuntimeImage) -> Vec<String>;

    /// Whether a slot is one that the runtime derives.
    fn derived(&self, slot: &str) -> bool;

    /// Where a run keeps what the slot had.
    fn backup(&self, run: &str, slot: &str) -> String;

    /// The run whose backup a slot is.
    fn backup_of<'a>(&self, slot: &'a str) -> Option<&'a str>;

    /// Does it. Standard output ends with the line `==changed` when all was done; probe again to be sure.
    fn change(&self, changes: &Changes) -> RemoteCommand;

    /// Asks for [`Marks`]; `None` where there are none to be had.
    fn marks(&self) -> Option<RemoteCommand> {
        None
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When a part is missing.
    fn parse_marks(&self, _: &CommandOutput) -> Result<Marks, RuntimeError> {
        Ok(Marks::default())
    }
}

/// Reads the answer to [`Reversible::change`].
///
/// # Errors
/// When it did not come to its end.
pub fn parse_change(output: &CommandOutput) -> Result<(), RuntimeError> {
    if output.ok() && output.text().lines().any(|l| l == "==changed") {
        return Ok(());
    }
    Err(RuntimeError::Failed { what: "putting images back".to_owned(), complaint: output.complaint() })
}

/// What [`Reversible::change`] reads: a verb and its words a line, with tabs between them. Words with control characters are
/// no slots of any runtime and left out.
pub(super) fn orders(changes: &Changes, allowed: impl Fn(&str) -> bool) -> Vec<u8> {
    let good = |word: &&str| !word.is_empty() && !word.chars().any(char::is_control);
    let mut text = String::new();
    let mut add = |words: &[&str]| {
        if words.iter().all(good) {
            text += &words.join("\t");
            text.push('\n');
        }
    };
    for Restore { slot, backup, labels } in &changes.restore {
        if !allowed(slot) || !allowed(backup) {
            continue;
        }
        add(&["restore", slot, backup]);
        for (key, value) in labels {
            add(&["label", slot, &format!("{key}={value}")]);
        }
    }
    for slot in changes.remove.iter().filter(|s| allowed(s)) {
        add(&["remove", slot]);
    }
    text.into_bytes()
}

//! Around an import: what its names point at is kept, and put back when it fails.

use std::collections::BTreeSet;

use super::Containerd;
use super::undo::backup;
use crate::node::quote;
use crate::runtime::ImportJob;

impl Containerd {
    /// What the script keeps and restores around the import of `image`.
    pub(super) fn journal(&self, job: &ImportJob<'_>) -> Journal {
        let ctr = self.ctr();
        let (mut tag, mut after_failure, mut backups) = (String::new(), String::new(), Vec::new());
        let (mut added, mut meant) = (Vec::new(), BTreeSet::new());
        for name in &job.image.names {
            let Some(old) = job.facts.names.get(name) else {
                added.push(quote(name));
                continue;
            };
            meant.insert(format!("{name} {}\n", old.digest));
            if old.digest != *job.image.root.digest() {
                let backup = quote(&backup(job.run, name));
                let name = quote(name);
                tag +=
                    &format!("{ctr} images tag --force {name} {backup} </dev/null >/dev/null || exit 95\n");
                after_failure += &format!("  {ctr} images tag --force {backup} {name} || keep=1\n");
                backups.push(backup);
            }
        }
        let config = job.image.image.config.digest().to_string();
        if !added.is_empty() || !backups.is_empty() {
            if !job.facts.names.contains_key(&config) {
                // CRI gives the image this name up to a second later.
                after_failure += "  sleep 1\n";
                added.push(quote(&config));
            }
            if !added.is_empty() {
                after_failure += &format!("  {ctr} images rm --sync {}\n", added.join(" "));
            }
            if !backups.is_empty() {
                let backups = backups.join(" ");
                after_failure += &format!("  [ -n \"${{keep-}}\" ] || {ctr} images rm --sync {backups}\n");
            }
        }
        // What somebody else gave one of the names since the node was asked would be overwritten and could not be put back.
        let names: Vec<String> = job.image.names.iter().map(|n| quote(&format!("name=={n}"))).collect();
        let meant: String = meant.into_iter().collect();
        let before = format!(
            "now=$({ctr} images ls {} </dev/null | awk 'NR > 1 {{ print $1, $3 }}' | sort)\n\
             [ \"$now\" = {} ] || {{ echo {} >&2; exit {MOVED}; }}\n{tag}",
            names.join(" "),
            quote(meant.trim_end()),
            quote(MEANWHILE),
        );
        Journal { before, after_failure }
    }
}

pub(super) struct Journal {
    /// What is done before the import.
    pub(super) before: String,
    /// What is done when it fails.
    pub(super) after_failure: String,
}

/// Exit status of an import that was not begun because a name got another meaning.
pub(super) const MOVED: i32 = 91;
const MEANWHILE: &str =
    "somebody else gave one of its names to another image meanwhile; nothing was imported";

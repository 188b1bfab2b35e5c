//! What is found because an object deploys it, and so is not to be found by itself.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::discover::{Findings, Severity, SourceName};

/// Folders and files that some object deploys: what was found there before it was known how is of no account.
#[derive(Default)]
pub(super) struct Covered {
    trees: HashSet<PathBuf>,
    exact: HashSet<PathBuf>,
}

impl Covered {
    pub(super) fn add_tree(&mut self, path: &Path) {
        self.trees.extend(std::fs::canonicalize(path));
    }

    pub(super) fn add(&mut self, path: &Path) {
        self.exact.extend(std::fs::canonicalize(path));
    }

    pub(super) fn has(&self, source: &SourceName) -> bool {
        let (SourceName::File { path }
        | SourceName::Chart { path, .. }
        | SourceName::Kustomization { path, .. }) = source
        else {
            return false;
        };
        if self.exact.is_empty() && self.trees.is_empty() {
            return false;
        }
        let Ok(real) = std::fs::canonicalize(path) else { return false };
        self.exact.contains(&real) || real.ancestors().any(|a| self.trees.contains(a))
    }

    pub(super) fn remove_from(&self, found: &mut Findings) {
        if self.exact.is_empty() && self.trees.is_empty() {
            return;
        }
        let mut known: HashMap<SourceName, bool> = HashMap::new();
        let mut covered = |source: &SourceName| {
            // Templates of a chart are asked about one by one: their chart's path decides.
            let key = match source {
                SourceName::Chart { path, .. } => SourceName::Chart { path: path.clone(), template: None },
                SourceName::Kustomization { path, .. } => {
                    SourceName::Kustomization { path: path.clone(), file: None }
                }
                other => other.clone(),
            };
            *known.entry(key).or_insert_with_key(|source| self.has(source))
        };
        found.findings.retain(|f| !covered(&f.origin.source));
        found.pending.retain(|p| !covered(&p.finding.origin.source));
        let mut failed = HashSet::new();
        found.problems.retain(|p| {
            let gone = covered(&p.source);
            if gone && p.severity == Severity::Error {
                failed.insert((p.source.clone(), p.document));
            }
            !gone
        });
        // They were counted as failed, and are read another way now. Objects of kustomizations are told apart by their
        // files only.
        let mended = failed.len().min(found.documents.failed);
        found.documents.failed -= mended;
        found.documents.read += mended;
    }
}

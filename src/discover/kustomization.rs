use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Cause, Findings, Held, Problem, Scope, Severity, SourceError, SourceName, scan};
use crate::kustomize::{self, Built};

/// What kustomizations are made of, by real paths: no inputs of their own.
#[derive(Debug, Default)]
pub(super) struct Parts {
    used: BTreeSet<PathBuf>,
    /// Their folders: what stands in one and is not named by it is not deployed.
    folders: BTreeSet<PathBuf>,
}

impl Parts {
    /// Whether a path is a part of some kustomization, or lies beside one without being named.
    pub(super) fn cover(&self, path: &Path) -> bool {
        let Ok(real) = fs::canonicalize(path) else { return false };
        self.used.contains(&real) || real.parent().is_some_and(|p| self.folders.contains(p))
    }
}

/// What the kustomizations in `folders` need that are not the bases of others, with what all of them are made of.
///
/// # Errors
/// Only when it was cancelled.
pub(super) fn all(folders: Vec<PathBuf>, scope: &Scope) -> Result<(Findings, Parts), SourceError> {
    let mut parts = Parts::default();
    let mut results = Vec::new();
    for folder in folders {
        scope.check(&folder)?;
        parts.folders.extend(fs::canonicalize(&folder));
        let built = kustomize::build(&folder, &scope.cancel);
        match &built {
            Ok(built) => parts.used.extend(built.used.iter().cloned()),
            Err(error) if error.cancelled => return Err(SourceError::file(&folder, Cause::Cancelled)),
            Err(_) => {}
        }
        results.push((folder, built));
    }
    let mut all = Findings::default();
    for (folder, built) in results {
        if fs::canonicalize(&folder).is_ok_and(|real| parts.used.contains(&real)) {
            continue;
        }
        match built {
            Ok(built) => {
                let name =
                    |file: &Path| SourceName::Kustomization { path: folder.clone(), file: Some(file.into()) };
                all.merge(needed(built, &name));
            }
            Err(error) => {
                let name = SourceName::Kustomization { path: folder, file: Some(short(&error.file)) };
                let problem = Problem::of_source(Severity::Error, name, error.reason);
                all.problems.push(Problem { line: error.line, ..problem });
            }
        }
    }
    Ok((all, parts))
}

/// `overlay/../base/web.yaml` as `base/web.yaml`: for people, who read it, not for opening it.
fn short(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// What the objects of a build need; `name` says where a file's are from.
pub(super) fn needed(built: Built, name: &dyn Fn(&Path) -> SourceName) -> Findings {
    let mut all = Findings::default();
    for object in built.objects {
        let mut found = scan(&object.value.to_string(), &name(&short(&object.origin)));
        // Places in a text that nobody ever sees.
        for origin in found.origins_mut() {
            (origin.document, origin.line, origin.column) = (None, None, None);
        }
        for problem in &mut found.problems {
            (problem.document, problem.line, problem.column) = (None, None, None);
        }
        found.held.iter_mut().for_each(Held::displace);
        all.merge(found);
    }
    let gaps =
        built.gaps.into_iter().map(|g| Problem::of_source(Severity::Error, name(&short(&g.file)), g.reason));
    all.problems.extend(gaps);
    all
}

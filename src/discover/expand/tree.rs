//! A folder that an object deploys: a kustomization, or whatever manifests there are.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::input::{self, Entry};
use super::super::interpolate::{self, Lookup, Style};
use super::super::kustomization::needed;
use super::super::{Cause, Findings, Problem, Scope, Severity, Source, SourceError, SourceName, walk};
use crate::chart::Tree;
use crate::kustomize::{self, Built, Object, Overlay};

/// Levels of a manifest; deeper ones were refused when it was read.
const MAX_DEPTH: usize = 300;

/// A folder with what is done to its objects.
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    pub(super) overlay: Overlay<'a>,
    /// Variables of Flux' `postBuild`; none if there is no substitution.
    pub(super) variables: Option<Lookup<'a>>,
    /// Which manifests are taken when there is no kustomization file: all below, or those that this says.
    pub(super) takes: &'a dyn Fn(&Path) -> bool,
}

impl Source for Folder<'_> {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        scope.check(self.path)?;
        let name =
            |file: &Path| SourceName::Kustomization { path: self.path.into(), file: Some(file.into()) };
        let mut all = Findings::default();
        let plain = self.overlay.kustomization.is_none() && self.overlay.components.is_empty();
        let built = if kustomize::kustomization_file(self.path).is_some() {
            kustomize::build_with(Ok(self.path), &self.overlay, &scope.cancel)
        } else if plain && self.variables.is_none() {
            let (files, nested) = self.files(scope, &mut all)?;
            for file in files {
                scope.check(self.path)?;
                match input::documents_of_file(&file, scope) {
                    Ok(read) => all.merge(walk::scan_documents(&read, &SourceName::File { path: file })),
                    Err(error) => all.unread(error),
                }
            }
            all.merge(needed(nested, &name));
            return Ok(all);
        } else {
            let own = self.objects(scope, &mut all)?;
            kustomize::build_with(Err(own), &self.overlay, &scope.cancel)
        };
        match built {
            Ok(mut built) => {
                self.substitute(&mut built, &mut all);
                all.merge(needed(built, &name));
            }
            Err(error) if error.cancelled => return Err(SourceError::file(self.path, Cause::Cancelled)),
            Err(error) => {
                let problem = Problem::of_source(Severity::Error, name(&error.file), error.reason);
                all.problems.push(Problem { line: error.line, ..problem });
            }
        }
        Ok(all)
    }
}

impl Folder<'_> {
    /// The manifests, and what the kustomizations among them build.
    fn files(&self, scope: &Scope, all: &mut Findings) -> Result<(Vec<PathBuf>, Built), SourceError> {
        let listing = input::list(self.path, scope)?;
        all.problems.extend(listing.problems);
        let (mut files, mut nested, mut folders) = (Vec::new(), Built::default(), Vec::new());
        for entry in listing.entries {
            match entry {
                Entry::Manifest(path) if (self.takes)(&path) => files.push(path),
                Entry::Manifest(_) => {}
                Entry::Kustomization(path) => match kustomize::build(&path, &scope.cancel) {
                    Ok(built) => {
                        nested.objects.extend(built.objects);
                        nested.gaps.extend(built.gaps);
                        nested.used.extend(built.used);
                        folders.extend(fs::canonicalize(&path));
                    }
                    Err(error) if error.cancelled => {
                        return Err(SourceError::file(self.path, Cause::Cancelled));
                    }
                    Err(error) => {
                        let name = SourceName::Kustomization { path, file: Some(error.file) };
                        let problem = Problem::of_source(Severity::Error, name, error.reason);
                        all.problems.push(Problem { line: error.line, ..problem });
                    }
                },
                Entry::Chart(path) => {
                    let reason = "is a chart, and whoever deploys the folder above takes manifests only";
                    let name = SourceName::File { path };
                    all.problems.push(Problem::of_source(Severity::Warning, name, reason));
                }
            }
        }
        files.retain(|f| {
            let Ok(real) = fs::canonicalize(f) else { return true };
            !nested.used.contains(&real) && !folders.iter().any(|k| real.parent() == Some(k))
        });
        Ok((files, nested))
    }

    fn objects(&self, scope: &Scope, all: &mut Findings) -> Result<Vec<Object>, SourceError> {
        let (files, nested) = self.files(scope, all)?;
        let mut objects = nested.objects;
        let name =
            |file: &Path| SourceName::Kustomization { path: self.path.into(), file: Some(file.into()) };
        all.merge(needed(Built { gaps: nested.gaps, ..Built::default() }, &name));
        for file in files {
            scope.check(self.path)?;
            match input::read_file(&file, scope) {
                Err(error) => all.unread(error),
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => match kustomize::objects(&text, &file) {
                    Ok(found) => objects.extend(found),
                    Err(error) => {
                        let problem = Problem::of_source(
                            Severity::Error,
                            SourceName::File { path: file },
                            error.reason,
                        );
                        all.problems.push(Problem { line: error.line, ..problem });
                    }
                },
            }
        }
        Ok(objects)
    }

    fn substitute(&self, built: &mut Built, all: &mut Findings) {
        let Some(lookup) = self.variables else { return };
        for object in &mut built.objects {
            // What Flux leaves alone.
            let marks = ["labels", "annotations"];
            let pointer = |map: &str| format!("/metadata/{map}/kustomize.toolkit.fluxcd.io~1substitute");
            let off =
                |map: &&str| object.value.pointer(&pointer(map)).and_then(Tree::as_str) == Some("disabled");
            if marks.iter().any(off) {
                continue;
            }
            let mut wrong = Vec::new();
            fill(&mut object.value, lookup, &mut wrong, 0);
            for reason in wrong {
                let file = Some(object.origin.clone());
                let name = SourceName::Kustomization { path: self.path.into(), file };
                all.problems.push(Problem::of_source(Severity::Error, name, reason));
            }
        }
    }
}

/// Fills the variables of every text in.
fn fill(value: &mut Tree, lookup: Lookup<'_>, wrong: &mut Vec<String>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Tree::String(text) if text.contains("${") => {
            match interpolate::fill(text, Style::Flux, lookup) {
                Ok(filled) => *text = filled.text,
                // Scripts in ConfigMaps have expressions of their own: only an object with images is worth a word.
                Err(reason) if !text.contains('\n') => wrong.push(reason),
                Err(_) => {}
            }
        }
        Tree::Array(items) => items.iter_mut().for_each(|i| fill(i, lookup, wrong, depth + 1)),
        Tree::Object(map) => map.values_mut().for_each(|v| fill(v, lookup, wrong, depth + 1)),
        _ => {}
    }
}

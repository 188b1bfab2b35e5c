use std::path::Path;

use super::input::{self, Entry};
use super::{
    Cause, Findings, Problem, Scope, Severity, Source, SourceError, SourceName, chart, kustomization, list,
    walk,
};
use crate::chart::RenderOptions;

/// A file of YAML or JSON documents, a chart, a kustomization, or a folder of them.
#[derive(Debug, Clone, Copy)]
pub struct ManifestSource<'a> {
    /// The file, chart or folder.
    pub path: &'a Path,
    /// How charts are rendered.
    pub charts: &'a RenderOptions,
    /// The name of the release, unless that of each chart.
    pub release_name: Option<&'a str>,
}

impl Source for ManifestSource<'_> {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        let listing = input::list(self.path, scope)?;
        let mut all = Findings { problems: listing.problems, ..Findings::default() };
        let none = if listing.entries.is_empty() {
            "there is no .yaml, .yml or .json file, chart or kustomization in it, so nothing was read"
        } else {
            NO_DOCUMENT
        };
        let (kustomizations, mut entries): (Vec<_>, Vec<_>) =
            listing.entries.into_iter().partition(|e| matches!(e, Entry::Kustomization(_)));
        if !kustomizations.is_empty() {
            let folders = kustomizations.into_iter().map(|e| e.path().to_owned()).collect();
            let (found, parts) = kustomization::all(folders, scope)?;
            all.merge(found);
            entries.retain(|e| !parts.cover(e.path()));
        }
        for entry in entries {
            scope.check(self.path)?;
            let found = match &entry {
                Entry::Kustomization(_) => continue,
                Entry::Manifest(path) => file(path, scope),
                Entry::Chart(path) => chart::chart(path, self.charts, self.release_name, scope),
            };
            match found {
                Ok(found) => all.merge(found),
                Err(error) if matches!(error.cause, Cause::Cancelled) => return Err(error),
                Err(error) => all.unread(error),
            }
        }
        Ok(told_if_empty(all, SourceName::File { path: self.path.into() }, none))
    }
}

const NO_DOCUMENT: &str = "there is no document in it, so nothing was read";

/// Nothing at all is rarely what somebody meant to give.
fn told_if_empty(mut found: Findings, source: SourceName, reason: &str) -> Findings {
    if found.is_empty() {
        found.problems.push(Problem::of_source(Severity::Warning, source, reason));
    }
    found
}

fn file(path: &Path, scope: &Scope) -> Result<Findings, SourceError> {
    let read = input::documents_of_file(path, scope)?;
    let text = &read.text;
    let name = SourceName::File { path: path.into() };
    let suffix = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let list = match suffix.as_str() {
        "yaml" | "yml" | "json" => false,
        "txt" => list::is_list_file(text),
        _ => list::is_list(text),
    };
    Ok(if list { list::read(text, &name) } else { walk::scan_documents(&read, &name) })
}

/// Standard input, read to its end.
#[derive(Debug, Clone, Copy)]
pub struct StdinSource;

impl Source for StdinSource {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        let (read, name) = (input::documents_of_stdin(scope)?, SourceName::Stdin);
        let list = list::is_list(&read.text);
        let found = if list { list::read(&read.text, &name) } else { walk::scan_documents(&read, &name) };
        Ok(told_if_empty(found, name, NO_DOCUMENT))
    }
}

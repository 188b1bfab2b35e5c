use std::path::Path;

use super::input::{self, Entry};
use super::{Cause, Findings, Scope, Source, SourceError, SourceName, chart, scan};
use crate::chart::ValuesInput;

/// A file of YAML or JSON documents, a chart, or a folder of both.
#[derive(Debug, Clone, Copy)]
pub struct ManifestSource<'a> {
    /// The file, chart or folder.
    pub path: &'a Path,
    /// What charts are rendered with.
    pub values: &'a ValuesInput,
}

impl Source for ManifestSource<'_> {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        let listing = input::list(self.path, scope)?;
        let mut all = Findings { problems: listing.problems, ..Findings::default() };
        for entry in listing.entries {
            scope.check(self.path)?;
            let found = match &entry {
                Entry::Manifest(path) => file(path, scope),
                Entry::Chart(path) => chart::chart(path, self.values, scope),
            };
            match found {
                Ok(found) => all.merge(found),
                Err(error) if matches!(error.cause, Cause::Cancelled) => return Err(error),
                Err(error) => all.problems.push(error.into()),
            }
        }
        Ok(all)
    }
}

fn file(path: &Path, scope: &Scope) -> Result<Findings, SourceError> {
    let text = input::read_file(path, scope)?;
    Ok(scan(&text, &SourceName::File { path: path.into() }))
}

/// Standard input, read to its end.
#[derive(Debug, Clone, Copy)]
pub struct StdinSource;

impl Source for StdinSource {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        Ok(scan(&input::read_stdin(scope)?, &SourceName::Stdin))
    }
}

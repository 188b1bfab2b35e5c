//! A definition of the catalogue that is given as a file: its newest version.

use super::super::held::Held;
use super::super::{Findings, SourceName, rules};
use super::{Here, Step};
use crate::catalogue;

pub(super) fn newest(_: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let file = match object.source.inner() {
        SourceName::File { path } => path.display().to_string(),
        _ => object.full_name(),
    };
    let component = catalogue::from_tree(&file, object.tree()).map_err(|e| object.gap("", reason(&e)))?;
    let mut found = Findings::default();
    for version in component.versions.iter().take(1) {
        for image in &version.images {
            match object.image(&image.to_string(), &object.node, "spec", &rules::COMPONENT) {
                Ok(finding) => found.findings.push(finding),
                Err(problem) => found.problems.push(*problem),
            }
        }
    }
    Ok(found)
}

/// Without the file, which is said already.
fn reason(error: &catalogue::CatalogueError) -> String {
    match error {
        catalogue::CatalogueError::Definition { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

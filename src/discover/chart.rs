use std::path::Path;

use super::{Cause, Findings, Scope, SourceError, SourceName, scan};
use crate::chart::{self, RenderOptions, ValuesInput};

/// What a chart (folder or archive) renders to, its custom resource definitions included: whatever
/// `helm install --include-crds` with the chart's own name as release would send to a cluster.
///
/// # Errors
/// When the chart cannot be loaded or rendered: then nothing is known about its images.
pub(super) fn chart(path: &Path, values: &ValuesInput, scope: &Scope) -> Result<Findings, SourceError> {
    let failed = |error: chart::ChartError| SourceError {
        name: SourceName::Chart { path: path.into(), template: None },
        line: None,
        column: None,
        cause: Cause::Chart(Box::new(error)),
    };
    let loaded = chart::load(path).map_err(failed)?;
    let options = RenderOptions {
        release_name: loaded.metadata.name.clone(),
        include_crds: true,
        values: values.clone(),
        ..RenderOptions::default()
    };
    let rendered = chart::render(&loaded, &options).map_err(failed)?;
    let mut all = Findings { charts: 1, ..Findings::default() };
    for document in rendered.documents {
        scope.check(path)?;
        let template = Some(document.source.as_str().into());
        all.merge(scan(&document.text, &SourceName::Chart { path: path.into(), template }));
    }
    Ok(all)
}

use std::path::Path;

use super::{Cause, Findings, Problem, Scope, Severity, SourceError, SourceName, scan};
use crate::chart::{self, Chart, ChartError, RenderOptions};

/// What a chart (folder or archive) renders to, its custom resource definitions included: whatever
/// `helm install --include-crds` would send to a cluster; the release has the chart's name unless another is given.
///
/// # Errors
/// When the chart cannot be loaded or rendered: then nothing is known about its images.
pub(super) fn chart(
    path: &Path,
    options: &RenderOptions,
    release_name: Option<&str>,
    scope: &Scope,
) -> Result<Findings, SourceError> {
    let failed = |error: ChartError| failed(path, error);
    let loaded = match &scope.charts {
        Some(loader) => loader.load(path),
        None => chart::load(path),
    };
    let loaded = loaded.map_err(failed)?;
    rendered(&loaded, path, options, release_name, scope)
}

/// [`chart()`] of a chart that is loaded already, from `path` or what stands for it.
///
/// # Errors
/// As there.
pub(super) fn rendered(
    loaded: &Chart,
    path: &Path,
    options: &RenderOptions,
    release_name: Option<&str>,
    scope: &Scope,
) -> Result<Findings, SourceError> {
    let failed = |error: ChartError| failed(path, error);
    // A chart may be called what a release may not.
    let own = Some(loaded.metadata.name.as_str()).filter(|name| chart::is_release_name(name));
    let options = RenderOptions {
        release_name: release_name.or(own).unwrap_or(&options.release_name).to_owned(),
        include_crds: true,
        ..options.clone()
    };
    let rendered = chart::render(loaded, &options).map_err(failed)?;
    let mut all = Findings { charts: 1, ..Findings::default() };
    let warning = |w: &String| {
        let name = SourceName::Chart { path: path.into(), template: None };
        Problem::of_source(Severity::Warning, name, w.clone())
    };
    all.problems.extend(rendered.warnings.iter().map(warning));
    for document in rendered.documents {
        scope.check(path)?;
        let template = Some(document.source.as_str().into());
        let mut found = scan(&document.text, &SourceName::Chart { path: path.into(), template });
        let above = document.line.saturating_sub(1);
        let lines = found.findings.iter_mut().map(|f| &mut f.origin.line);
        found.held.iter_mut().for_each(|h| h.shift(above));
        for line in lines.chain(found.problems.iter_mut().map(|p| &mut p.line)).flatten() {
            *line = line.saturating_add(above);
        }
        all.merge(found);
    }
    Ok(all)
}

/// Nothing is known of the chart at `path`.
pub(super) fn failed(path: &Path, error: ChartError) -> SourceError {
    SourceError {
        name: SourceName::Chart { path: path.into(), template: None },
        line: None,
        column: None,
        cause: Cause::Chart { text: told(&error, path), source: Box::new(error) },
    }
}

/// The error without the chart's path where that stands before it anyway.
fn told(error: &ChartError, path: &Path) -> String {
    let place = path.display().to_string();
    match error {
        ChartError::Unsafe { path: at, reason } if at == path => format!("is refused: {reason}"),
        ChartError::NotAChart { path: at, reason } if at == path => format!("is not a chart: {reason}"),
        ChartError::Io { path: at, source } if at == path => format!("cannot be read: {source}"),
        ChartError::Yaml { chart, file, source } if *chart == place => {
            format!("cannot load {file}: {source}")
        }
        ChartError::Invalid { chart, reason } if *chart == place => reason.clone(),
        other => other.to_string(),
    }
}

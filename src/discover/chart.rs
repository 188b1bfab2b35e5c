use std::path::Path;

use super::switched::Asked;
use super::{
    Cause, ChartInput, Confidence, Findings, Problem, Scope, Severity, Source, SourceError, SourceName,
    one_line, scan, switched, unused,
};
use crate::chart::fetch::ChartSource;
use crate::chart::{self, Chart, ChartError, RenderOptions};

/// What a chart (folder or archive) renders to, its custom resource definitions included: whatever
/// `helm install --include-crds` would send to a cluster; the release has the chart's name unless another is given.
///
/// # Errors
/// When the chart cannot be loaded: then nothing is known about its images. One that cannot be rendered is a problem
/// among the findings.
pub(super) fn chart(
    path: &Path,
    options: &RenderOptions,
    release_name: Option<&str>,
    scope: &Scope,
) -> Result<Findings, SourceError> {
    let loaded = match &scope.charts {
        Some(loader) => loader.load(path),
        None => chart::load(path),
    };
    whole_or_not(loaded, path, options, release_name, scope)
}

/// What is found of a chart whose dependencies could not be had, too.
fn whole_or_not(
    loaded: Result<Chart, ChartError>,
    path: &Path,
    options: &RenderOptions,
    release_name: Option<&str>,
    scope: &Scope,
) -> Result<Findings, SourceError> {
    let error = match loaded {
        Ok(loaded) => return rendered(&loaded, path, options, release_name, scope),
        Err(error) => error,
    };
    scope.check(path)?;
    match chart::load(path) {
        Ok(loaded) => found(&loaded, Err(error), path, options, release_name, scope),
        Err(_) => Err(failed(path, error)),
    }
}

impl Source for &ChartInput {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        let place = self.chart.to_string();
        let path = Path::new(&place);
        let loaded = match (&scope.charts, &self.chart) {
            (Some(loader), source) => loader.load_from(source),
            (None, ChartSource::Path(path)) => chart::load(path),
            (None, _) => Err(ChartError::NotAChart {
                path: path.into(),
                reason: "it would have to be fetched, and nothing is given that fetches charts".into(),
            }),
        };
        whole_or_not(loaded, path, &self.options, self.release_name.as_deref(), scope)
    }
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
    found(loaded, Ok(()), path, options, release_name, scope)
}

/// [`rendered`], unless something is known to be wrong with the chart: then as far as that goes.
fn found(
    loaded: &Chart,
    is_whole: Result<(), ChartError>,
    path: &Path,
    options: &RenderOptions,
    release_name: Option<&str>,
    scope: &Scope,
) -> Result<Findings, SourceError> {
    // A chart may be called what a release may not.
    let own = Some(loaded.metadata.name.as_str()).filter(|name| chart::is_release_name(name));
    let options = RenderOptions {
        release_name: release_name.or(own).unwrap_or(&options.release_name).to_owned(),
        include_crds: true,
        ..options.clone()
    };
    let name = |file: &str| SourceName::Chart { path: path.into(), template: Some(file.into()) };
    let mut all = Findings { charts: 1, ..Findings::default() };
    let lacks_charts = is_whole.is_err();
    let rendering = is_whole.and_then(|()| chart::render(loaded, &options));
    let lacks_charts = lacks_charts || matches!(rendering, Err(ChartError::MissingDependencies { .. }));
    let is_whole = rendering.is_ok();
    match rendering {
        Ok(rendered) => documents(rendered, path, scope, &mut all)?,
        // What the chart says about itself is known all the same.
        Err(error) => all.problems.push(failed(path, error).into()),
    }
    let rendered = all.findings.iter().map(|f| f.image.clone()).collect();
    if scope.include_disabled || lacks_charts {
        match chart::every_values(loaded, &options.values) {
            Ok(values) => {
                let chart = &loaded.metadata.name;
                let mut found = unused::in_values(chart, &values, &rendered, &name);
                if lacks_charts {
                    // The names of images are often put together by a library chart that is not there.
                    found.iter_mut().for_each(unused::as_incomplete);
                }
                found.retain(|f| scope.include_disabled || f.confidence > Confidence::Possible);
                all.findings.extend(found);
            }
            Err(error) => {
                let reason = format!("what is switched off cannot be told: {}", one_line(&error.to_string()));
                all.problems.push(Problem::of_source(Severity::Warning, name("values"), reason));
            }
        }
    }
    scope.check(path)?;
    if scope.include_disabled || !is_whole {
        let known = all.findings.iter().map(|f| f.image.clone()).collect();
        let asked = Asked { as_it_is: !is_whole, otherwise: scope.include_disabled };
        all.merge(switched::switched_on(loaded, &options, asked, &known, &name));
    }
    all.findings.extend(unused::stated(loaded, &rendered, &name));
    Ok(all)
}

fn documents(
    rendered: chart::Rendered,
    path: &Path,
    scope: &Scope,
    all: &mut Findings,
) -> Result<(), SourceError> {
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
        found.move_down(above);
        all.merge(found);
    }
    Ok(())
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

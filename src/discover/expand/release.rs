//! A release of a chart, however it is written down.

use std::path::Path;

use super::super::chart as rendering;
use super::super::kustomization::needed;
use super::super::{Findings, Problem, Scope, Severity, Source, SourceError, SourceName};
use crate::chart::{self, Chart, ChartError, RenderOptions, Setting, Tree, is_release_name};
use crate::kustomize::{self, Built, Overlay};

/// A chart with all that a release says about it.
pub(super) struct Release<'a> {
    pub(super) chart: &'a Chart,
    /// Where the chart came from.
    pub(super) place: &'a Path,
    pub(super) options: RenderOptions,
    /// Kustomizations that change what the chart renders to, in this order.
    pub(super) overlays: Vec<Tree>,
}

impl Source for Release<'_> {
    fn findings(&self, scope: &Scope) -> Result<Findings, SourceError> {
        scope.check(self.place)?;
        let name = self.options.release_name.as_str();
        // What is too long is cut by every controller in its own way, and no image depends on it.
        let name = if is_release_name(name) { Some(name) } else { None };
        if self.overlays.is_empty() {
            return rendering::rendered(self.chart, self.place, &self.options, name, scope);
        }
        self.changed(name).map_err(|error| rendering::failed(self.place, error))
    }
}

impl Release<'_> {
    /// With the overlays: the documents are read as objects, so that their lines are lost.
    fn changed(&self, name: Option<&str>) -> Result<Findings, ChartError> {
        let options = RenderOptions {
            release_name: name.unwrap_or("release-name").to_owned(),
            include_crds: true,
            ..self.options.clone()
        };
        let rendered = chart::render(self.chart, &options)?;
        let mut all = Findings { charts: 1, ..Findings::default() };
        let mut objects = Vec::new();
        for document in rendered.documents {
            let name = || SourceName::Chart {
                path: self.place.into(),
                template: Some(document.source.as_str().into()),
            };
            if document.text.trim().is_empty() {
                continue;
            }
            match kustomize::objects(&document.text, Path::new(&document.source)) {
                Ok(found) => objects.extend(found),
                Err(error) => all.problems.push(Problem::of_source(Severity::Error, name(), error.reason)),
            }
        }
        for overlay in &self.overlays {
            let overlay = Overlay { kustomization: Some(overlay), ..Overlay::default() };
            // Nothing is read here, so that there is nothing to cancel.
            let never = tokio_util::sync::CancellationToken::new();
            let built = kustomize::build_with(Err(std::mem::take(&mut objects)), &overlay, &never);
            match built {
                Ok(built) => objects = built.objects,
                Err(error) => {
                    let name = SourceName::Chart { path: self.place.into(), template: None };
                    let reason =
                        format!("what changes the rendered chart cannot be applied: {}", error.reason);
                    all.problems.push(Problem::of_source(Severity::Error, name, reason));
                    return Ok(all);
                }
            }
        }
        let built = Built { objects, ..Built::default() };
        let template = |file: &Path| SourceName::Chart {
            path: self.place.into(),
            template: Some(file.to_string_lossy().into_owned()),
        };
        all.merge(needed(built, &template));
        Ok(all)
    }
}

/// A setting of `--set` that gives a key exactly this text.
pub(super) fn set(key: &str, value: &str, as_text: bool) -> Setting {
    let value = match value {
        list if list.starts_with('{') && list.ends_with('}') => list.to_owned(),
        text => {
            let mut out = String::new();
            let mut before = ' ';
            for c in text.chars() {
                if c == ',' && before != '\\' {
                    out.push('\\');
                }
                out.push(c);
                before = c;
            }
            out
        }
    };
    let text = format!("{key}={value}");
    if as_text { Setting::SetString(text) } else { Setting::Set(text) }
}

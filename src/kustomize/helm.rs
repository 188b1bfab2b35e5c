//! `helmCharts`: rendered by omk itself, from charts that are on this machine.

use std::path::Path;

use super::KustomizeError;
use super::file::HelmChart;
use super::load::{self, Loader};
use super::object::Object;
use crate::chart::{self, KubeVersion, RenderOptions, Tree, ValuesInput};
use crate::yaml;

/// What a chart renders to. A chart that is not below `chartHome` is a gap.
pub(super) fn inflate(
    loader: &mut Loader<'_>,
    folder: &Path,
    file: &Path,
    args: &HelmChart,
    home: Option<&str>,
    namespace: &str,
) -> Result<Vec<Object>, KustomizeError> {
    let fail = |reason: String| KustomizeError::new(file, format!("chart {}: {reason}", args.name));
    let home = args.chart_home.as_deref().or(home).filter(|h| !h.is_empty()).unwrap_or("charts");
    let home = folder.join(home);
    // `helm pull --untar` into a folder for each version, or by hand.
    let places =
        [home.join(format!("{}-{}", args.name, args.version)).join(&args.name), home.join(&args.name)];
    let Some(path) = places.iter().find(|p| p.join("Chart.yaml").is_file()) else {
        let version =
            if args.version.is_empty() { String::new() } else { format!(" --version {}", args.version) };
        let chart = match args.repo.strip_prefix("oci://") {
            Some(repo) => format!("oci://{}/{}", repo.trim_end_matches('/'), args.name),
            None if args.repo.is_empty() => args.name.clone(),
            None => format!("{} --repo {}", args.name, args.repo),
        };
        let command = format!("helm pull {chart}{version} --untar --untardir {}", home.display());
        loader.gap(
            file,
            format!("the chart {} is not in {}; get it with: {command}", args.name, home.display()),
        );
        return Ok(Vec::new());
    };
    // The chart is a part of this, and no input of its own.
    loader.used.extend(std::fs::canonicalize(path));
    let loaded = chart::load(path).map_err(|e| fail(e.to_string()))?;
    let mut values = ValuesInput::default();
    let mut read = |name: &str| -> Result<(), KustomizeError> {
        let path = folder.join(name);
        // The chart's own defaults are named often, and add nothing.
        let text = loader.text(folder, &path)?;
        values.files.push((path.display().to_string(), text));
        Ok(())
    };
    if !args.values_file.is_empty() {
        read(&args.values_file)?;
    }
    args.additional_values_files.iter().try_for_each(|f| read(f))?;
    if let Tree::Object(inline) = &args.values_inline {
        let inline = ("valuesInline".to_owned(), serde_json::to_string(inline).unwrap_or_default());
        // `override` is what happens without a word: the inline values win.
        match args.values_merge.as_str() {
            "merge" => values.files.insert(0, inline),
            "replace" => values.files = vec![inline],
            _ => values.files.push(inline),
        }
    }
    let either = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
    let kube_version = match args.kube_version.as_str() {
        "" => KubeVersion::default(),
        text => {
            KubeVersion::parse(text).ok_or_else(|| fail(format!("kubeVersion {text:?} is no version")))?
        }
    };
    let options = RenderOptions {
        release_name: either(&args.release_name, "release-name"),
        namespace: either(&either(&args.namespace, namespace), "default"),
        kube_version,
        api_versions: args.api_versions.clone(),
        include_crds: args.include_crds,
        no_hooks: args.skip_hooks,
        skip_tests: args.skip_tests,
        values,
        ..RenderOptions::default()
    };
    let rendered = chart::render(&loaded, &options).map_err(|e| fail(e.to_string()))?;
    let mut objects = Vec::new();
    for document in rendered.documents {
        let origin = path.join(document.source.split_once('/').map_or("", |(_, rest)| rest));
        if yaml::documents(&document.text, &yaml::Limits::default()).next().is_some() {
            objects.extend(load::objects(&document.text, &origin)?);
        }
    }
    Ok(objects)
}

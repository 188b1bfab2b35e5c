//! k3s' and RKE2's `HelmChart` and `HelmChartConfig` (helm.cattle.io). Fields: docs.k3s.io/add-ons/helm; what is done with
//! them: github.com/k3s-io/helm-controller, `pkg/controllers/chart`.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;

use super::super::held::{Held, scalar};
use super::super::{Finding, Findings, Problem, rules};
use super::release::{self, Release};
use super::values::instead;
use super::{Halt, Here, Step, flux};
use crate::chart::fetch::ChartSource;
use crate::chart::{Chart, RenderOptions, ValuesInput, load_archive};
use crate::yaml::{Node, Value};

const GROUP: &str = "helm.cattle.io";

pub(super) fn chart(here: &mut Here<'_>, object: &Held, last: bool) -> Step {
    let mut problems = Vec::new();
    let chart = chart_of(here, object);
    let mut values = ValuesInput::default();
    let config = here.shelf.find(GROUP, "HelmChartConfig", object.namespace(), object.name()).cloned();
    for holder in [Some(object), config.as_ref()].into_iter().flatten() {
        secrets(here, holder, last, &mut values, &mut problems)?;
        if let Some(content) = holder.text("spec.valuesContent") {
            values.files.push((format!("{} {}", holder.kind, holder.full_name()), content.to_owned()));
        }
    }
    // Only what is plainly no text is given as such.
    for (key, value) in object.at("spec.set").and_then(Node::as_map).into_iter().flatten() {
        let text = scalar(value).unwrap_or_default();
        let typed =
            matches!(value.value, Value::Int(_)) || matches!(text.as_str(), "true" | "false" | "null");
        values.settings.push(release::set(key, &text, !typed));
    }
    let job = job_image(object, &mut problems);
    let (chart, shown) = match chart {
        Err(Halt::Problem(problem)) => {
            let mut found = instead(object, "spec.valuesContent", &values, *problem, here.scope);
            found.findings.extend(job);
            found.problems.extend(problems);
            return Ok(found);
        }
        other => other?,
    };
    let namespace = object.text("spec.targetNamespace").or(object.namespace()).unwrap_or("default");
    let release = Release {
        chart: &chart,
        place: &shown,
        options: RenderOptions {
            release_name: object.name().to_owned(),
            namespace: namespace.to_owned(),
            values,
            ..here.options.clone()
        },
        overlays: Vec::new(),
    };
    let mut found = here.read(&release, object)?;
    found.findings.extend(job);
    found.problems.extend(problems);
    Ok(found)
}

/// The image that runs Helm in the cluster.
fn job_image(object: &Held, problems: &mut Vec<Problem>) -> Option<Finding> {
    let (text, node) = (object.text("spec.jobImage")?, object.at("spec.jobImage")?);
    match object.image(text, node, "spec.jobImage", &rules::HELM_CHART_JOB) {
        Ok(finding) => Some(finding),
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

fn chart_of(here: &mut Here<'_>, object: &Held) -> Result<(Arc<Chart>, PathBuf), Halt> {
    if let Some(content) = object.text("spec.chartContent") {
        let gap = |reason: String| Halt::from(object.gap("spec.chartContent", reason));
        let packed: String = content.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed);
        let bytes = bytes.map_err(|_| gap("it is no base64 of a packed chart".to_owned()))?;
        let shown = format!("chartContent of {}", object.full_name());
        let chart = load_archive(&shown, &bytes).map_err(|e| gap(super::super::one_line(&e.to_string())))?;
        return Ok((Arc::new(chart), shown.into()));
    }
    let text = |key: &str| object.text(&format!("spec.{key}")).unwrap_or_default();
    let (name, repo, version) = (text("chart"), text("repo"), text("version"));
    if name.is_empty() {
        return Err(object.gap("spec", "it has neither chart nor chartContent").into());
    }
    if name.contains("%{KUBERNETES_API}%") {
        let file = name.rsplit('/').next().unwrap_or(name);
        let reason = format!(
            "the chart {file} is one that k3s or RKE2 brings along; get it on a server from \
             /var/lib/rancher/k3s/server/static/charts and name it as a source"
        );
        return Err(object.gap("spec.chart", reason).into());
    }
    let repo = Some(repo).filter(|r| !r.is_empty());
    let wanted = match repo.and_then(|r| r.strip_prefix("oci://")) {
        Some(host) => {
            ChartSource::parse(&format!("oci://{}/{name}", host.trim_end_matches('/')), None, version)
        }
        None => ChartSource::parse(name, repo, version),
    };
    let wanted = wanted.map_err(|e| object.gap("spec.chart", e.to_string()))?;
    if let ChartSource::Path(_) = wanted {
        let reason =
            format!("{name:?} has no repo and is no address, so that nobody can tell where it comes from");
        return Err(object.gap("spec.chart", reason).into());
    }
    let keys = [repo.unwrap_or(name).to_owned(), object.full_name(), object.name().to_owned()];
    here.chart(object, "spec.chart", &wanted, &keys)
}

/// `valuesSecrets`: the keys of Secrets that hold values.
fn secrets(
    here: &mut Here<'_>,
    holder: &Held,
    last: bool,
    values: &mut ValuesInput,
    problems: &mut Vec<Problem>,
) -> Result<(), Halt> {
    for (entry, path) in holder.items("spec.valuesSecrets") {
        let name = entry.get("name").and_then(Node::as_str).unwrap_or_default();
        let Some(secret) = here.shelf.find("", "Secret", holder.namespace(), name).cloned() else {
            if !last {
                return Err(Halt::Wait);
            }
            let reason = format!(
                "the Secret {name} is not in the input, so that its values are not known and images may be missing; give \
                 the file with it"
            );
            problems.push(holder.gap(&path, reason));
            continue;
        };
        for key in entry.get("keys").and_then(Node::as_seq).into_iter().flatten().filter_map(Node::as_str) {
            here.consume(&secret, Some(key));
            match flux::data(&secret, key) {
                Ok(text) => values.files.push((format!("Secret {name}"), text)),
                Err(missing) => problems.push(holder.gap(&path, missing.told("Secret", name, key))),
            }
        }
    }
    Ok(())
}

/// A configuration changes a chart; alone it says only what its values name in full.
pub(super) fn config(here: &mut Here<'_>, object: &Held, last: bool) -> Step {
    if here.shelf.find(GROUP, "HelmChart", object.namespace(), object.name()).is_some() {
        return Ok(Findings::default());
    }
    if !last {
        return Err(Halt::Wait);
    }
    let reason = format!(
        "the HelmChart {} that it configures is not in the input, so that its images are not known; give its file too: \
         those that k3s brings along are on a server in /var/lib/rancher/k3s/server/manifests",
        object.full_name()
    );
    let mut values = ValuesInput::default();
    let mut problems = Vec::new();
    secrets(here, object, last, &mut values, &mut problems)?;
    if let Some(content) = object.text("spec.valuesContent") {
        values.files.push((format!("{} {}", object.kind, object.full_name()), content.to_owned()));
    }
    let mut found = instead(object, "spec.valuesContent", &values, object.gap("", reason), here.scope);
    found.problems.extend(problems);
    Ok(found)
}

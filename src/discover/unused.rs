//! What a chart says about its images beside what it renders to: annotations, `Images.lock`, and values that this
//! rendering leaves unused.

use std::collections::BTreeSet;

use super::like;
use super::nested::from_json;
use super::rules::{self, Rule};
use super::tree::{self, Kind, Step, Usual};
use super::{Finding, Origin, SourceName};
use crate::chart::{Chart, ChartValues};
use crate::oci::ImageRef;
use crate::yaml::{self, Limits, Node};

/// Values of one chart that are looked at.
const MAX_VALUES: usize = 500_000;
/// Images that one chart may say it has.
const MAX_STATED: usize = 2_000;

/// What a chart and those below it state: `artifacthub.io/images` and `images` in Chart.yaml, `Images.lock`.
///
/// A statement that the rendering contradicts, by another version or registry of the same repository, is old or was
/// set otherwise by the user; that of a dependency may have been set otherwise by the chart.
pub(super) fn stated(
    chart: &Chart,
    rendered: &BTreeSet<ImageRef>,
    name: &dyn Fn(&str) -> SourceName,
) -> Vec<Finding> {
    let taken: BTreeSet<&str> = rendered.iter().map(ImageRef::repository).collect();
    let mut found = Vec::new();
    of_chart(chart, &chart.metadata.name, name, &mut |top, rule, image: ImageRef, origin| {
        let other = !top || (taken.contains(image.repository()) && !rendered.contains(&image));
        let rule = if other { &rules::CHART_ANNOTATION_OTHER } else { rule };
        found.push(Finding::new(image, rule, origin));
    });
    found
}

fn of_chart(
    chart: &Chart,
    path: &str,
    name: &dyn Fn(&str) -> SourceName,
    found: &mut dyn FnMut(bool, &'static Rule, ImageRef, Origin),
) {
    let top = !path.contains('/');
    let mut all = |text: &str, file: &str, steps: &[Step<'_>], rule| {
        let source = name(&format!("{path}/{file}"));
        for (index, image) in listed(text).into_iter().take(MAX_STATED) {
            let field = tree::path(&[steps, &[Step::Index(index)]].concat());
            found(top, rule, image, Origin { field: Some(field), ..Origin::of_source(source.clone()) });
        }
    };
    for key in ["artifacthub.io/images", "images"] {
        if let Some(text) = chart.metadata.annotations.get(key) {
            let steps = [Step::Key("annotations"), Step::Key(key)];
            all(text, "Chart.yaml", &steps, &rules::CHART_ANNOTATION);
        }
    }
    for file in chart.files.iter().filter(|f| f.name == "Images.lock") {
        let text = String::from_utf8_lossy(&file.data);
        all(&text, "Images.lock", &[Step::Key("images")], &rules::IMAGES_LOCK);
    }
    for sub in &chart.dependencies {
        of_chart(sub, &format!("{path}/charts/{}", sub.metadata.name), name, found);
    }
}

/// The images of a YAML list of mappings, or of `images` in a mapping.
fn listed(text: &str) -> Vec<(usize, ImageRef)> {
    let limits = Limits { allow_duplicate_keys: true, max_nodes: MAX_VALUES, ..Limits::default() };
    let Ok(root) = yaml::parse_one(text, &limits) else {
        // Some are written with template expressions or tabs: then each line for itself.
        let lines = super::text::references(text);
        return lines.into_iter().enumerate().map(|(i, (_, shape))| (i, shape.image)).collect();
    };
    let items = root.as_seq().or_else(|| root.get("images").and_then(Node::as_seq)).unwrap_or_default();
    let image = |node: &Node| {
        let text = node.as_str().or_else(|| node.get("image").and_then(Node::as_str))?;
        // The author says that it is one; only what cannot be pulled is refused.
        let shape = like::shape(text)?;
        (shape.version || shape.registry || shape.path).then_some(shape.image)
    };
    items.iter().enumerate().filter_map(|(i, node)| Some((i, image(node)?))).collect()
}

/// Images in values and in the text of templates that are not among those which the chart renders to.
pub(super) fn in_values(
    chart: &str,
    all: &[ChartValues],
    rendered: &BTreeSet<ImageRef>,
    name: &dyn Fn(&str) -> SourceName,
) -> Vec<Finding> {
    let repositories: BTreeSet<String> = rendered.iter().map(ImageRef::name).collect();
    let source = name("values");
    let mut found = Vec::new();
    for part in all {
        in_templates(chart, part, rendered, name, &mut found);
        let tag = usual_tag(part);
        let usual = Usual { registry: usual_registry(part), tag: tag.as_deref() };
        let mut left = MAX_VALUES;
        let Some(own) = from_json(&part.values, &mut left) else { continue };
        // Every chart below is given what stands under `global`: once is enough.
        let global = Some(&part.global).filter(|_| part.path.is_empty());
        let global = global.and_then(|g| from_json(g, &mut left));
        let steps: Vec<Step<'_>> = part.path.iter().map(|p| Step::Key(p)).collect();
        let mut hits = Vec::new();
        for (root, steps) in
            [(Some(&own), steps.clone()), (global.as_ref(), [&steps[..], &[Step::Key("global")]].concat())]
        {
            let Some(root) = root else { continue };
            let mut walk = tree::Walk::new(Kind::Values, steps).usual(usual.clone());
            walk.value(root, "");
            hits.extend(walk.hits);
        }
        for hit in hits {
            if rendered.contains(&hit.image) || (hit.guessed && repositories.contains(&hit.image.name())) {
                continue;
            }
            let rule = if hit.how == tree::How::Split { &rules::VALUES_SPLIT } else { &rules::VALUES };
            let mut switches = part.switches.clone();
            for switch in hit.switch.iter().flat_map(|all| all.split(',')) {
                if !switches.iter().any(|s| s == switch) {
                    switches.push(switch.to_owned());
                }
            }
            let switch = (!switches.is_empty()).then(|| switches.join(","));
            let origin = Origin { field: Some(hit.field), switch, ..Origin::of_source(source.clone()) };
            found.push(Finding::new(hit.image, rule, origin));
        }
    }
    found
}

/// A value of a chart that cannot be rendered: nobody knows whether it is used, unless something says that it is off.
pub(super) fn as_incomplete(finding: &mut Finding) {
    let is_value = [rules::VALUES.name, rules::VALUES_SPLIT.name].contains(&finding.origin.rule.as_ref());
    if is_value && finding.origin.switch.is_none() {
        *finding = Finding::new(finding.image.clone(), &rules::INCOMPLETE_CHART, finding.origin.clone());
    }
}

/// What templates name as it stands, such as the image of a test that is switched off.
fn in_templates(
    chart: &str,
    part: &ChartValues,
    rendered: &BTreeSet<ImageRef>,
    name: &dyn Fn(&str) -> SourceName,
    found: &mut Vec<Finding>,
) {
    let folder: String = part.path.iter().map(|p| format!("/charts/{p}")).collect();
    for file in &part.templates {
        let text = String::from_utf8_lossy(&file.data);
        let mut images: Vec<(u32, ImageRef)> =
            super::text::references(&text).into_iter().map(|(line, shape)| (line, shape.image)).collect();
        images.extend((0..).zip(text.lines()).filter_map(|(line, text)| Some((line, bare(text)?))));
        for (line, image) in images {
            if rendered.contains(&image) {
                continue;
            }
            let switch = (!part.switches.is_empty()).then(|| part.switches.join(","));
            let source = name(&format!("{chart}{folder}/{}", file.name));
            let origin = Origin { line: Some(line + 1), switch, ..Origin::of_source(source) };
            found.push(Finding::new(image, &rules::TEMPLATE, origin));
        }
    }
}

/// `- image: "busybox"`, which needs no tag where a pod's container names it.
fn bare(line: &str) -> Option<ImageRef> {
    let value = line.trim().trim_start_matches("- ").strip_prefix("image:")?.trim();
    let value = value.trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./-_".contains(c);
    let shape = like::shape(value).filter(|_| value.chars().all(plain))?;
    (value.len() > 2).then_some(shape.image)
}

fn usual_registry(part: &ChartValues) -> Option<&str> {
    part.global.get("imageRegistry")?.as_str().filter(|r| !r.is_empty())
}

/// What templates put where a tag is left open: the version of the application, with a `v` before it where they say so.
fn usual_tag(part: &ChartValues) -> Option<String> {
    let version = Some(part.app_version.as_str()).filter(|v| !v.is_empty())?;
    let marks = [
        "\"v%s\" .Chart.AppVersion",
        "\"v%s\" $.Chart.AppVersion",
        "v{{ .Chart.AppVersion",
        "v{{ $.Chart.AppVersion",
        "v{{.Chart.AppVersion",
        "\"v\" .Chart.AppVersion",
    ];
    let with_v = part.templates.iter().any(|t| {
        let text = String::from_utf8_lossy(&t.data);
        marks.iter().any(|m| text.contains(m))
    });
    let prefix = if with_v && !version.starts_with('v') { "v" } else { "" };
    Some(format!("{prefix}{version}"))
}

#[cfg(test)]
#[path = "unused_tests.rs"]
mod tests;

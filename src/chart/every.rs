//! The values of a chart and of everything it can bring along, whether this rendering takes it or not.

use serde_json::Map;

use super::metadata::Dependency;
use super::values::{Tree, at, coalesce};
use super::{Chart, ChartError, ValuesInput, dependencies};

/// The values that one chart of a tree of charts is given.
#[derive(Debug, Clone)]
pub struct ChartValues {
    /// The way from the values of the whole to these: the names of dependencies, or their aliases.
    pub path: Vec<String>,
    /// `appVersion` of the chart.
    pub app_version: String,
    /// Its templates, for what they make of an open tag.
    pub templates: Vec<super::ChartFile>,
    /// What switches the chart on, as `metrics.enabled=true`, for each dependency on the way that is off.
    pub switches: Vec<String>,
    /// The values, without those of its own dependencies.
    pub values: Tree,
    /// `global`.
    pub global: Tree,
}

/// The values of `chart` and of all charts below it, as they were if every dependency was switched on.
///
/// # Errors
///
/// As [`super::render()`], as far as values go.
pub fn every_values(chart: &Chart, input: &ValuesInput) -> Result<Vec<ChartValues>, ChartError> {
    let Tree::Object(user) = input.merge()? else {
        return Err(ChartError::Values { name: "values".into(), reason: "they are not a mapping".into() });
    };
    let (all_on, values, switches) = all_on(chart, user)?;
    let off: Vec<(Vec<String>, String)> =
        switches.into_iter().filter_map(|(path, dep)| Some((path, off_by(&dep, &values)?))).collect();
    let mut found = Vec::new();
    gather(&all_on, &values, &mut Vec::new(), &off, &mut found);
    Ok(found)
}

/// The chart with every dependency, the values of the whole, and by what each dependency is switched.
#[allow(clippy::type_complexity)]
pub(super) fn all_on(
    chart: &Chart,
    user: Map<String, Tree>,
) -> Result<(Chart, Map<String, Tree>, Vec<(Vec<String>, Switch)>), ChartError> {
    let mut switches = Vec::new();
    let mut all_on = chart.clone();
    take_switches(&mut all_on, &mut Vec::new(), &mut switches);
    dependencies::process(&mut all_on, &user)?;
    let name = chart.metadata.name.clone();
    let values =
        coalesce(&all_on, user, false).map_err(|reason| ChartError::Invalid { chart: name, reason })?;
    Ok((all_on, values, switches))
}

/// What a dependency is switched by, with paths from the top.
pub(super) struct Switch {
    conditions: Vec<String>,
    tags: Vec<String>,
}

/// Takes conditions and tags off, and notes them by the way to the dependency.
fn take_switches(chart: &mut Chart, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, Switch)>) {
    let mut declared = std::mem::take(&mut chart.metadata.dependencies);
    for dep in &mut declared {
        let above: String = path.iter().map(|p| format!("{p}.")).collect();
        let conditions = dep.condition.split(',').map(str::trim).filter(|c| !c.is_empty());
        let switch = Switch {
            conditions: conditions.map(|c| format!("{above}{c}")).collect(),
            tags: std::mem::take(&mut dep.tags),
        };
        dep.condition.clear();
        path.push(name_of(dep).to_owned());
        out.push((path.clone(), switch));
        if let Some(below) = chart.dependencies.iter_mut().find(|c| c.metadata.name == dep.name) {
            take_switches(below, path, out);
        }
        path.pop();
    }
    chart.metadata.dependencies = declared;
}

fn name_of(dep: &Dependency) -> &str {
    if dep.alias.is_empty() { &dep.name } else { &dep.alias }
}

/// The value that switches a dependency on, if it is off.
fn off_by(switch: &Switch, values: &Map<String, Tree>) -> Option<String> {
    let set = switch.conditions.iter().find_map(|c| Some((c, at(values, c)?.as_bool()?)));
    if let Some((condition, on)) = set {
        return (!on).then(|| format!("{condition}=true"));
    }
    let tags = values.get("tags").and_then(Tree::as_object)?;
    let set: Vec<(&String, bool)> =
        switch.tags.iter().filter_map(|t| Some((t, tags.get(t)?.as_bool()?))).collect();
    let (tag, _) = set.first()?;
    (!set.iter().any(|(_, on)| *on)).then(|| format!("tags.{tag}=true"))
}

fn gather(
    chart: &Chart,
    values: &Map<String, Tree>,
    path: &mut Vec<String>,
    off: &[(Vec<String>, String)],
    out: &mut Vec<ChartValues>,
) {
    let mut own = values.clone();
    let global = own.remove("global").unwrap_or(Tree::Null);
    let below: Vec<(&Chart, Option<Tree>)> =
        chart.dependencies.iter().map(|sub| (sub, own.remove(&sub.metadata.name))).collect();
    let on_the_way = off.iter().filter(|(at, _)| path.starts_with(at));
    out.push(ChartValues {
        path: path.clone(),
        app_version: chart.metadata.app_version.clone(),
        templates: chart.templates.clone(),
        switches: on_the_way.map(|(_, switch)| switch.clone()).collect(),
        values: Tree::Object(own),
        global,
    });
    for (sub, values) in below {
        let Some(Tree::Object(values)) = values else { continue };
        path.push(sub.metadata.name.clone());
        gather(sub, &values, path, off, out);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_there_with_what_switches_it_on() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "Chart.yaml",
            "apiVersion: v2\nname: top\nversion: 1.0.0\nappVersion: '7'\ndependencies:\n\
             - {name: db, alias: store, version: 1.x, condition: store.enabled}\n\
             - {name: web, version: 1.x, tags: [extra]}\n",
        );
        write(
            "values.yaml",
            "store: {enabled: false, size: 2}\nown: 1\ntags: {extra: false}\nglobal: {x: 1}\n",
        );
        write("charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 1.0.0\nappVersion: '8'\n");
        write("charts/db/values.yaml", "size: 1\nimage: a/b:1\n");
        write("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n");
        let chart = super::super::load(dir.path()).unwrap();
        let all = every_values(&chart, &ValuesInput::default()).unwrap();
        let told: Vec<_> =
            all.iter().map(|v| (v.path.join("."), v.app_version.as_str(), v.switches.join(" "))).collect();
        assert_eq!(
            told,
            [
                (String::new(), "7", String::new()),
                ("store".into(), "8", "store.enabled=true".into()),
                ("web".into(), "", "tags.extra=true".into()),
            ]
        );
        assert_eq!(all[1].values["size"], 2.0);
        assert_eq!(all[1].global["x"], 1.0);
        assert!(all[0].values.get("store").is_none());
    }
}

//! Which dependencies take part, and what they export to their parent; after Helm's `dependencies.go`.

use serde_json::Map;

use super::metadata::Dependency;
use super::values::{MAX_WEIGHT, Tree, at, coalesce, coalesce_tables, spend, weight};
use super::{Chart, ChartError};
use crate::template::semver_satisfies;

type Table = Map<String, Tree>;

/// Charts below one chart. An alias doubles all that is below it, so that a few of them make millions.
const MAX_CHARTS: usize = 1_000;
/// Parts of a path of `import-values`.
const MAX_PATH: usize = 100;

/// Fails if a dependency of `Chart.yaml` is not there.
pub(crate) fn check(chart: &Chart) -> Result<(), ChartError> {
    let missing: Vec<String> = chart
        .metadata
        .dependencies
        .iter()
        .filter(|d| !chart.dependencies.iter().any(|c| c.metadata.name == d.name))
        .map(|d| d.name.clone())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ChartError::MissingDependencies { chart: chart.metadata.name.clone(), missing })
}

/// Applies aliases, conditions, tags and `import-values`, given the user's values.
pub(crate) fn process(chart: &mut Chart, user: &Table) -> Result<(), ChartError> {
    enable(chart, user, "", &mut 0)?;
    import(chart)
}

fn fits(dep: &Dependency, chart: &Chart) -> bool {
    dep.name == chart.metadata.name
        && (dep.version.is_empty() || semver_satisfies(&dep.version, &chart.metadata.version))
}

fn mismatch(chart: &Chart) -> impl FnOnce(String) -> ChartError + use<> {
    let chart = chart.metadata.name.clone();
    move |reason| ChartError::Invalid { chart, reason }
}

/// The same, for what Helm finds out while it processes dependencies; without any it finds it out when it renders.
fn unprocessed(chart: &Chart) -> impl FnOnce(String) -> ChartError + use<> {
    let mismatch = mismatch(chart);
    move |reason| mismatch(format!("chart dependencies processing failed: {reason}"))
}

fn enable(chart: &mut Chart, values: &Table, path: &str, charts: &mut usize) -> Result<(), ChartError> {
    *charts += chart.dependencies.len().max(chart.metadata.dependencies.len());
    if *charts > MAX_CHARTS {
        return Err(mismatch(chart)(format!("more than {MAX_CHARTS} charts once every alias is followed")));
    }
    if chart.metadata.dependencies.is_empty() {
        return Ok(());
    }
    let loaded = std::mem::take(&mut chart.dependencies);
    let mut declared = std::mem::take(&mut chart.metadata.dependencies);
    // Charts that are in the folder but not declared take part as they are.
    let mut used: Vec<Chart> =
        loaded.iter().filter(|c| !declared.iter().any(|d| fits(d, c))).cloned().collect();
    for dep in &mut declared {
        if let Some(found) = loaded.iter().find(|c| fits(dep, c)) {
            let mut copy = found.clone();
            if !dep.alias.is_empty() {
                copy.metadata.name.clone_from(&dep.alias);
            }
            used.push(copy);
        }
        if !dep.alias.is_empty() {
            dep.name.clone_from(&dep.alias);
        }
        dep.enabled = true;
    }
    chart.dependencies = used;
    let all = coalesce(chart, values.clone(), false).map_err(unprocessed(chart))?;
    for dep in &mut declared {
        by_tags(dep, &all);
        by_condition(dep, &all, path);
    }
    let off: Vec<String> = declared.iter().filter(|d| !d.enabled).map(|d| d.name.clone()).collect();
    chart.dependencies.retain(|c| !off.contains(&c.metadata.name));
    declared.retain(|d| !off.contains(&d.name));
    chart.metadata.dependencies = declared;
    for sub in &mut chart.dependencies {
        let below = format!("{path}{}.", sub.metadata.name);
        enable(sub, &all, &below, charts)?;
    }
    Ok(())
}

fn by_tags(dep: &mut Dependency, values: &Table) {
    let Some(tags) = values.get("tags").and_then(Tree::as_object) else { return };
    let set: Vec<bool> = dep.tags.iter().filter_map(|t| tags.get(t)?.as_bool()).collect();
    dep.enabled = set.is_empty() || set.contains(&true);
}

/// The first path that leads to a boolean decides.
fn by_condition(dep: &mut Dependency, values: &Table, path: &str) {
    let found = dep.condition.trim().split(',').filter(|c| !c.is_empty());
    if let Some(on) = found.filter_map(|c| at(values, &format!("{path}{c}"))?.as_bool()).next() {
        dep.enabled = on;
    }
}

fn import(chart: &mut Chart) -> Result<(), ChartError> {
    for sub in &mut chart.dependencies {
        import(sub)?;
    }
    if chart.metadata.dependencies.is_empty() {
        return Ok(());
    }
    let all = coalesce(chart, Map::new(), true).map_err(unprocessed(chart))?;
    let mut taken = Map::new();
    let mut left = MAX_WEIGHT;
    for dep in &chart.metadata.dependencies {
        for (child, parent) in &dep.import_values {
            let Some(Tree::Object(table)) = at(&all, &format!("{}.{child}", dep.name)) else { continue };
            spend(&mut left, table).map_err(mismatch(chart))?;
            let mut tree = table.clone();
            if parent != "." {
                if parent.matches('.').count() > MAX_PATH {
                    return Err(mismatch(chart)(format!(
                        "import-values: a path has more than {MAX_PATH} parts"
                    )));
                }
                for key in parent.split('.').rev() {
                    tree = Map::from_iter([(key.to_owned(), Tree::Object(tree))]);
                }
            }
            coalesce_tables(&mut taken, tree, true);
        }
    }
    let mut values = all;
    coalesce_tables(&mut values, taken, true);
    if weight(&values) > MAX_WEIGHT {
        return Err(mismatch(chart)(format!(
            "more than {MAX_WEIGHT} values once import-values are taken over"
        )));
    }
    chart.values = Tree::Object(values);
    Ok(())
}

//! Values: reading, merging and coalescing from the parent chart down, after Helm's `coalesce.go`.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::value::Value as V;
use serde_json::Map;

use super::{Chart, ChartError, decode, strvals};
use crate::template::sprintf;
use crate::template::value::{Dict, List, nil};
use crate::yaml::{self, Limits, YamlError};

/// A tree of values. Numbers are floats when they come from YAML and integers when they come from `--set`, as in Helm.
pub type Tree = serde_json::Value;

type Table = Map<String, Tree>;

/// Values of a chart with all that is copied into its dependencies; mappings and long texts count more than once.
pub(crate) const MAX_WEIGHT: usize = 400_000;

/// How much a table holds, in nodes.
pub(crate) fn weight(table: &Table) -> usize {
    fn of(tree: &Tree) -> usize {
        1 + match tree {
            Tree::String(s) => s.len() / 64,
            Tree::Array(items) => items.iter().map(of).sum(),
            Tree::Object(m) => 3 + weight(m),
            _ => 0,
        }
    }
    table.iter().map(|(k, v)| k.len() / 64 + of(v)).sum()
}

/// Takes from what may still be copied: a chart can ask for more than any machine has.
pub(crate) fn spend(left: &mut usize, table: &Table) -> Result<(), String> {
    *left = left
        .checked_sub(weight(table))
        .ok_or_else(|| format!("more than {MAX_WEIGHT} values once they are copied into all dependencies"))?;
    Ok(())
}

/// Where the user's values come from.
#[derive(Debug, Clone, Default)]
pub struct ValuesInput {
    /// Values files, name and text, later ones win.
    pub files: Vec<(String, String)>,
    /// Settings, applied after the files in this order.
    pub settings: Vec<Setting>,
    /// Takes values that do not meet a chart's `values.schema.json`.
    pub skip_schema: bool,
}

/// A value given on the command line.
#[derive(Debug, Clone)]
pub enum Setting {
    /// `--set-json`: `a.b=[1,2]`, or a whole object.
    Json(String),
    /// `--set`: `a.b=c,d[0]=e`.
    Set(String),
    /// `--set-string`: as `--set`, but every value is a string.
    SetString(String),
    /// `--set-file`: the key and what the file holds.
    File(String, String),
    /// `--set-literal`: the key and a value that is taken as it stands.
    Literal(String, String),
}

impl ValuesInput {
    /// The user's values as one tree.
    ///
    /// # Errors
    ///
    /// [`ChartError::Values`] with the file or setting that cannot be used.
    pub fn merge(&self) -> Result<Tree, ChartError> {
        let mut base = Tree::Object(Map::new());
        for (name, text) in &self.files {
            let tree = read_file(text).map_err(|e| {
                let reason = format!("cannot unmarshal yaml document: {}", e.upstream());
                ChartError::Values { name: name.clone(), reason }
            })?;
            overlay(&mut base, tree);
        }
        for setting in &self.settings {
            let (flag, expression, result) = match setting {
                Setting::Json(s) => ("--set-json", s, strvals::parse_json(s, &mut base)),
                Setting::Set(s) => ("--set", s, strvals::parse(s, &mut base, false)),
                Setting::SetString(s) => ("--set-string", s, strvals::parse(s, &mut base, true)),
                Setting::File(k, v) => ("--set-file", k, strvals::assign(k, v, &mut base)),
                Setting::Literal(k, v) => ("--set-literal", k, strvals::assign_literal(k, v, &mut base)),
            };
            result.map_err(|reason| {
                // Of JSON Helm shows only the expression.
                let whole = if expression.trim_start().starts_with('{') { " JSON:" } else { "" };
                let reason = match setting {
                    Setting::Json(_) => format!("{whole} {expression}: {reason}"),
                    _ => format!(": {reason}, in {expression:?}"),
                };
                ChartError::Setting { flag, reason }
            })?;
        }
        Ok(base)
    }
}

/// Reads a values file: the mappings of all of its documents, merged.
pub(crate) fn read_file(text: &str) -> Result<Tree, YamlError> {
    let limits = Limits { allow_duplicate_keys: true, max_nodes: MAX_WEIGHT / 4, ..Limits::default() };
    let mut out = Tree::Object(Map::new());
    // Helm's reader of several documents ends each with a line end, which a block scalar at the end of the file keeps.
    let text = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
    for doc in yaml::parse_stream(&text, &limits) {
        let node = doc.result?;
        decode::check(&node, &decode::VALUES)?;
        overlay(&mut out, from_node(&node)?);
    }
    Ok(out)
}

#[allow(clippy::cast_precision_loss)]
fn from_node(node: &yaml::Node) -> Result<Tree, YamlError> {
    Ok(match &node.value {
        yaml::Value::Null => Tree::Null,
        yaml::Value::Bool(b) => Tree::Bool(*b),
        yaml::Value::Int(i) => Tree::from(*i as f64),
        yaml::Value::UInt(u) => Tree::from(*u as f64),
        yaml::Value::Float(f) if f.is_finite() => Tree::from(*f),
        yaml::Value::Float(f) => {
            let reason = format!("json: unsupported value: {f}");
            return Err(YamlError { line: node.line, column: node.column, reason });
        }
        yaml::Value::Str(s) => Tree::String(s.clone()),
        yaml::Value::Seq(items) => Tree::Array(items.iter().map(from_node).collect::<Result<_, _>>()?),
        yaml::Value::Map(m) => Tree::Object(
            m.iter().map(|(k, v)| Ok((k.clone(), from_node(v)?))).collect::<Result<_, YamlError>>()?,
        ),
    })
}

/// Puts `over` onto `base`; mappings merge, anything else replaces (`MergeMaps`).
pub(crate) fn overlay(base: &mut Tree, over: Tree) {
    match (base, over) {
        (Tree::Object(b), Tree::Object(o)) => {
            for (k, v) in o {
                match b.get_mut(&k) {
                    Some(slot) if slot.is_object() && v.is_object() => overlay(slot, v),
                    _ => {
                        b.insert(k, v);
                    }
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// The values of a chart and of its dependencies: what `dest` says wins over what the charts say. With `merge`, nulls
/// are kept; without, a null removes a chart's default.
///
/// # Errors
///
/// If a dependency's values are not a mapping.
pub(crate) fn coalesce(chart: &Chart, dest: Table, merge: bool) -> Result<Table, String> {
    coalesce_within(chart, dest, merge, &mut { MAX_WEIGHT })
}

fn coalesce_within(chart: &Chart, dest: Table, merge: bool, left: &mut usize) -> Result<Table, String> {
    let mut dest = dest;
    if let Tree::Object(defaults) = &chart.values {
        spend(left, defaults)?;
    }
    coalesce_own(chart, &mut dest, merge);
    for sub in &chart.dependencies {
        let name = &sub.metadata.name;
        let mut below = match dest.remove(name) {
            None => Map::new(),
            Some(Tree::Object(m)) => m,
            Some(other) => {
                // Helm's own words, with its slip: the verb for booleans.
                let shown = sprintf("%t", &[to_value(&other)]);
                return Err(format!("type mismatch on {name}: {shown}"));
            }
        };
        if let Some(Tree::Object(global)) = dest.get("global") {
            spend(left, global)?;
        }
        coalesce_globals(&mut below, &dest);
        dest.insert(name.clone(), Tree::Object(coalesce_within(sub, below, merge, left)?));
    }
    Ok(dest)
}

fn coalesce_own(chart: &Chart, dest: &mut Table, merge: bool) {
    let Tree::Object(defaults) = &chart.values else { return };
    for (key, default) in defaults {
        match dest.get_mut(key) {
            Some(Tree::Null) if !merge => {
                dest.remove(key);
            }
            Some(Tree::Object(d)) => {
                if let Tree::Object(src) = default {
                    let mut src = src.clone();
                    let merge = merge || chart.dependencies.iter().any(|s| s.metadata.name == *key);
                    if !merge {
                        clean_nulls(&mut src);
                    }
                    coalesce_tables(d, src, merge);
                }
            }
            Some(_) => {}
            None => {
                let mut value = default.clone();
                if !merge {
                    if value.is_null() {
                        continue;
                    }
                    if let Tree::Object(m) = &mut value {
                        clean_nulls(m);
                    }
                }
                dest.insert(key.clone(), value);
            }
        }
    }
}

fn clean_nulls(m: &mut Table) {
    m.retain(|_, v| !v.is_null());
    for v in m.values_mut() {
        if let Tree::Object(m) = v {
            clean_nulls(m);
        }
    }
}

/// Fills `dst` from `src`; what `dst` has wins (`coalesceTablesFullKey`).
pub(crate) fn coalesce_tables(dst: &mut Table, src: Table, merge: bool) {
    for (key, value) in src {
        match dst.get_mut(&key) {
            Some(Tree::Null) if !merge && !value.is_null() => {
                dst.remove(&key);
            }
            None => {
                dst.insert(key, value);
            }
            Some(Tree::Object(d)) => {
                if let Tree::Object(s) = value {
                    coalesce_tables(d, s, merge);
                }
            }
            Some(_) => {}
        }
    }
}

fn coalesce_globals(dest: &mut Table, src: &Table) {
    let mut below = match dest.get("global") {
        None => Map::new(),
        Some(Tree::Object(m)) => m.clone(),
        Some(_) => return,
    };
    let above = match src.get("global") {
        None => Map::new(),
        Some(Tree::Object(m)) => m.clone(),
        Some(_) => return,
    };
    for (key, value) in above {
        match (value, below.get(&key)) {
            (Tree::Object(mut v), Some(Tree::Object(d))) => {
                // Here the parent's values win.
                coalesce_tables(&mut v, d.clone(), true);
                below.insert(key, Tree::Object(v));
            }
            (Tree::Object(_), Some(_)) => {}
            (value @ Tree::Object(_), None) => {
                below.insert(key, value);
            }
            (_, Some(Tree::Object(_))) => {}
            (value, _) => {
                below.insert(key, value);
            }
        }
    }
    dest.insert("global".into(), Tree::Object(below));
}

/// The value at a dotted path.
pub(crate) fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Tree> {
    let mut parts = path.split('.');
    let mut v = table.get(parts.next()?)?;
    for part in parts {
        v = v.as_object()?.get(part)?;
    }
    Some(v)
}

/// A tree as templates see it.
pub(crate) fn to_value(tree: &Tree) -> V {
    match tree {
        Tree::Null => nil(),
        Tree::Bool(b) => V::from(*b),
        Tree::Number(n) => match n.as_i64() {
            Some(i) if !n.is_f64() => V::from(i),
            _ => V::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Tree::String(s) => V::from(s.as_str()),
        Tree::Array(a) => List::value(a.iter().map(to_value).collect()),
        Tree::Object(m) => Dict::value(m.iter().map(|(k, v)| (Arc::from(k.as_str()), to_value(v))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_values_ends_whether_the_file_says_so_or_not() {
        for text in ["a: |\n  x", "a: |\n  x\n", "b: 1\n---\na: |\n  x"] {
            assert_eq!(read_file(text).unwrap()["a"], "x\n", "{text}");
        }
        assert_eq!(read_file("a: \"b").unwrap_err().line, 2);
    }
}

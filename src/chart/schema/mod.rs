//! `values.schema.json`: the values of a chart and of its dependencies are checked against their schemas, as Helm
//! does after values are merged.
//!
//! The checking is done by the `jsonschema` crate, with the linear-time `regex` engine, whose grammar is that of Go.
//! Differences to Helm, all on purpose:
//!
//! - what a schema refers to elsewhere (`$ref` to `https:`) is never fetched: that part lets everything pass, and a
//!   warning says so. Helm fetches it, and fails without a network;
//! - a schema whose evaluation would take more than [`cost::MAX_STEPS`] steps for these values is refused before it
//!   is evaluated (see [`cost`]).
//!
//! The order in which Helm tells several violations is random; here it is by keyword and place.

mod broken;
mod contains;
mod cost;
mod patterns;
mod refs;
mod words;

use std::fmt::Write as _;

use jsonschema::PatternOptions;
use serde_json::Map;

pub(super) use words::go_type;

use super::values::Tree;
use super::{Chart, ChartError};

/// Violations that are told of one chart.
const MAX_ERRORS: usize = 200;
/// Values of a schema; the largest real ones have some ten thousand.
const MAX_NODES: usize = 200_000;
/// Bytes of one compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;

/// Checks the coalesced values of a chart and of those below it. Gives warnings.
///
/// # Errors
///
/// [`ChartError::Schema`] with every violation, in Helm's words.
pub(super) fn check(chart: &Chart, values: &Map<String, Tree>) -> Result<Vec<String>, ChartError> {
    let mut report = String::new();
    let mut warnings = Vec::new();
    walk(chart, values, &mut report, &mut warnings);
    if report.is_empty() { Ok(warnings) } else { Err(ChartError::Schema(report.trim_end().to_owned())) }
}

fn walk(chart: &Chart, values: &Map<String, Tree>, report: &mut String, warnings: &mut Vec<String>) {
    let name = &chart.metadata.name;
    if let Some(schema) = &chart.schema {
        let found =
            check_one(schema, values).unwrap_or_else(|reason| Found { wrong: reason, remote: Vec::new() });
        if !found.wrong.is_empty() {
            let _ = writeln!(report, "{name}:\n{}", found.wrong.trim_end());
        }
        warnings.extend(found.remote.iter().map(|url| {
            format!(
                "{name}: values.schema.json refers to {url}, which is not fetched; that part is not checked"
            )
        }));
    }
    for sub in &chart.dependencies {
        let name = &sub.metadata.name;
        match values.get(name) {
            None | Some(Tree::Null) => {}
            Some(Tree::Object(below)) => walk(sub, below, report, warnings),
            Some(other) => {
                let kind = words::go_type(other);
                let _ =
                    writeln!(report, "{name}:\ninvalid type for values: expected object (map), got {kind}");
            }
        }
    }
}

struct Found {
    /// Violations, a line each; empty if there are none.
    wrong: String,
    /// What the schema refers to elsewhere.
    remote: Vec<String>,
}

fn check_one(schema: &[u8], values: &Map<String, Tree>) -> Result<Found, String> {
    // Every value but the first comes after one of these.
    if schema.iter().filter(|b| matches!(b, b',' | b':' | b'[')).take(MAX_NODES).count() == MAX_NODES {
        return Err(format!("schema has more than {MAX_NODES} values"));
    }
    // serde_json stops at 128 levels.
    let mut schema: Tree = serde_json::from_slice(schema).map_err(|e| broken::not_json(schema, &e))?;
    let remote = refs::cut_remote(&mut schema)?;
    let instance = Tree::Object(values.iter().map(|(k, v)| (k.clone(), whole(v))).collect());
    cost::bound(&schema, &instance)?;
    let validator = jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES))
        .build(&schema)
        .map_err(|e| broken::unusable(&schema, &e))?;
    if validator.is_valid(&instance) {
        return Ok(Found { wrong: String::new(), remote });
    }
    let errors: Vec<_> = validator.iter_errors(&instance).take(MAX_ERRORS).collect();
    Ok(Found { wrong: words::tell(&errors, &schema), remote })
}

/// Numbers without a fraction as integers: that is what they are in every draft for Helm, but not for the crate.
fn whole(tree: &Tree) -> Tree {
    match tree {
        Tree::Number(n) => match n.as_f64() {
            #[allow(clippy::cast_possible_truncation)]
            Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15 => Tree::from(f as i64),
            _ => Tree::Number(n.clone()),
        },
        Tree::Array(items) => Tree::Array(items.iter().map(whole).collect()),
        Tree::Object(m) => Tree::Object(m.iter().map(|(k, v)| (k.clone(), whole(v))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(schema: &Tree, values: Tree) -> Result<Found, String> {
        let Tree::Object(values) = values else { panic!("values are a mapping") };
        check_one(schema.to_string().as_bytes(), &values)
    }

    fn wrong(schema: Tree, values: Tree) -> String {
        run(&schema, values).map_or_else(|e| e, |f| f.wrong)
    }

    #[test]
    fn remote_references_are_left_out_with_a_warning() {
        let schema = json!({"properties": {
            "a": {"$ref": "https://example.com/x.json#/definitions/y"},
            "b": {"$ref": "#/definitions/z"}},
            "definitions": {"z": {"type": "string"}}});
        let found = run(&schema, json!({"a": 1, "b": "x"})).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((found.wrong.as_str(), found.remote.len()), ("", 1));
        assert!(wrong(schema, json!({"b": 1})).contains("at '/b': got number, want string"));
        let relative =
            json!({"$id": "https://example.com/a/b.json", "properties": {"a": {"$ref": "c.json"}}});
        assert_eq!(
            run(&relative, json!({"a": 1})).map(|f| f.remote).unwrap(),
            ["https://example.com/a/c.json"]
        );
        let known = json!({"$id": "https://example.com/s", "$defs": {"z": {"type": "string"}},
            "properties": {"a": {"$ref": "https://example.com/s#/$defs/z"}}});
        assert!(wrong(known, json!({"a": 1})).contains("got number, want string"));
        assert!(run(&json!({"$ref": "file:///etc/hostname"}), json!({})).is_err());
    }

    #[test]
    fn numbers_without_fraction_are_integers_in_every_draft() {
        for draft in
            ["http://json-schema.org/draft-04/schema#", "https://json-schema.org/draft/2020-12/schema"]
        {
            let schema = json!({"$schema": draft, "properties": {"n": {"type": "integer"}}});
            assert_eq!(wrong(schema.clone(), json!({"n": 3.0})), "");
            assert!(wrong(schema, json!({"n": 3.5})).contains("want integer"));
        }
    }

    #[test]
    fn hostile_schemas_are_refused_before_they_are_evaluated() {
        // Every level asks the one below twice: 2^60 steps.
        let mut defs = Map::new();
        for i in 0..60 {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            defs.insert(format!("d{i}"), json!({"allOf": [next, next], "anyOf": [next]}));
        }
        defs.insert("d60".into(), json!({"type": "array"}));
        let wide = json!({"$ref": "#/$defs/d0", "$defs": defs});
        assert!(wrong(wide, json!({})).contains("steps"));
        // The same through the values.
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({"a": deep});
        }
        let twice = json!({"properties": {"a": {"$ref": "#"}}, "patternProperties": {"a": {"$ref": "#"}}});
        assert!(wrong(twice, json!({"a": deep})).contains("steps"));
        assert!(wrong(json!({"pattern": "((a{1000}){1000}){1000}"}), json!({})).contains("schema"));
        let mut nested = "true".to_owned();
        for _ in 0..5000 {
            nested = format!("{{\"not\":{nested}}}");
        }
        assert!(check_one(nested.as_bytes(), &Map::new()).is_err());
    }

    #[test]
    fn recursion_that_goes_down_into_the_values_is_fine_and_that_which_does_not_ends() {
        let tree = json!({"$ref": "#/$defs/t", "$defs": {"t": {"additionalProperties":
            {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/t", "type": "object"}]}}}});
        assert_eq!(wrong(tree.clone(), json!({"a": {"b": {"c": 1}}})), "");
        assert!(wrong(tree, json!({"a": {"b": "x"}})).contains("at '/a/b'"));
        assert!(run(&json!({"$ref": "#"}), json!({})).is_err());
        assert!(
            run(
                &json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"},
            "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}),
                json!({})
            )
            .is_err()
        );
        let mut chain = Map::new();
        for i in 0..20_000 {
            chain.insert(format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}));
        }
        chain.insert("d20000".into(), json!(true));
        assert!(run(&json!({"$ref": "#/$defs/d0", "$defs": chain}), json!({})).is_err());
    }
}

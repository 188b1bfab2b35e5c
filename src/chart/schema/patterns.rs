//! What the regular expressions of a schema cost.

use std::collections::HashMap;

use super::PATTERN_BYTES;
use crate::chart::values::Tree;

/// A compiled expression that is not larger than this counts as one unit.
const UNIT: usize = 16 << 10;
/// Units of all expressions.
const MAX_UNITS: usize = 2_000;

/// The size of every expression of a schema, in units.
///
/// # Errors
///
/// If they are too large together. One that cannot be read counts as nothing: it is told of elsewhere.
pub(super) fn sizes(schema: &Tree) -> Result<HashMap<&str, u64>, String> {
    let mut found = HashMap::new();
    let mut left = MAX_UNITS;
    gather(schema, &mut found, &mut left)?;
    Ok(found)
}

fn gather<'a>(schema: &'a Tree, found: &mut HashMap<&'a str, u64>, left: &mut usize) -> Result<(), String> {
    match schema {
        Tree::Object(m) => {
            if let Some(Tree::String(text)) = m.get("pattern") {
                add(text, found, left)?;
            }
            if let Some(Tree::Object(named)) = m.get("patternProperties") {
                named.keys().try_for_each(|text| add(text, found, left))?;
            }
            m.values().try_for_each(|below| gather(below, found, left))
        }
        Tree::Array(items) => items.iter().try_for_each(|below| gather(below, found, left)),
        _ => Ok(()),
    }
}

fn add<'a>(text: &'a str, found: &mut HashMap<&'a str, u64>, left: &mut usize) -> Result<(), String> {
    let units = match found.get(text) {
        // Compiled for every place at which it stands.
        Some(units) => usize::try_from(*units).unwrap_or(usize::MAX),
        None => {
            let fits = |bytes: usize| regex::RegexBuilder::new(text).size_limit(bytes).build().is_ok();
            let units = if fits(UNIT) { 1 } else { PATTERN_BYTES / UNIT };
            found.insert(text, units as u64);
            units
        }
    };
    *left = left.checked_sub(units).ok_or("schema has more or larger patterns than is allowed")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_have_a_size_and_are_too_many_at_some_number() {
        let schema = json!({"pattern": "a", "items": [{"patternProperties": {"(b{100}){100}": {}}}]});
        let found = sizes(&schema).unwrap();
        assert_eq!((found["a"], found["(b{100}){100}"] > 10), (1, true));
        let many: Vec<Tree> = (0..100).map(|i| json!({"pattern": format!("(b{{100}}){{1{i}}}")})).collect();
        assert!(sizes(&json!({ "allOf": many })).unwrap_err().contains("patterns"));
    }
}

//! How many items match a `contains`, which the crate does not tell.

use jsonschema::{PatternOptions, ValidationError};

use super::words::{Line, tree};
use super::{PATTERN_BYTES, Tree};

/// Items that are told one by one.
const MAX_TOLD: usize = 50;

/// The words, and what is wrong with the items that do not match.
pub(super) fn describe(error: &ValidationError<'_>, schema: &Tree) -> (String, Vec<Line>) {
    let none = || "no items match contains schema".to_owned();
    let path = error.schema_path().as_str();
    let Some((rules, keyword)) = path.rsplit_once('/') else { return (none(), Vec::new()) };
    let Some(rules) = schema.pointer(rules) else { return (none(), Vec::new()) };
    let (least, most) = (count(rules, "minContains"), count(rules, "maxContains"));
    let Some(items) = error.instance().as_array().cloned() else { return (none(), Vec::new()) };
    let Some((matched, mut causes)) = rules.get("contains").and_then(|one| each(one, &items, error)) else {
        return match (keyword, least, most) {
            ("minContains", Some(n), _) => {
                (format!("min {n} items required to match contains schema"), Vec::new())
            }
            ("maxContains", _, Some(n)) => {
                (format!("max {n} items required to match contains schema"), Vec::new())
            }
            _ => (none(), Vec::new()),
        };
    };
    let places = matched.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let got = match matched.len() {
        0 => "none matched".to_owned(),
        n => format!("matched {n} items at {places}"),
    };
    let words = match (least, most) {
        (_, Some(n)) if matched.len() as u64 > n => {
            causes.clear();
            format!("max {n} items required to match contains schema, but {got}")
        }
        (Some(n), _) if (matched.len() as u64) < n => {
            format!("min {n} items required to match contains schema, but {got}")
        }
        _ => none(),
    };
    (words, causes)
}

fn count(rules: &Tree, keyword: &str) -> Option<u64> {
    rules.get(keyword).and_then(Tree::as_u64)
}

/// The items that match, and a line for each that does not; none if the schema of the items refers elsewhere.
fn each(one: &Tree, items: &[Tree], error: &ValidationError<'_>) -> Option<(Vec<usize>, Vec<Line>)> {
    if one.to_string().contains("\"$") {
        return None;
    }
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    let validator = jsonschema::options().offline().with_pattern_options(patterns).build(one).ok()?;
    let (mut matched, mut lines) = (Vec::new(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        let errors: Vec<_> = validator.iter_errors(item).take(MAX_TOLD).collect();
        if errors.is_empty() {
            matched.push(i);
        } else if lines.len() < MAX_TOLD {
            let mut told = tree(&errors, "", one);
            told.iter_mut().for_each(|line| below(line, &format!("{}/{i}", error.instance_path().as_str())));
            lines.extend(told);
        }
    }
    Some((matched, lines))
}

/// Puts the places of a line below another place.
fn below(line: &mut Line, at: &str) {
    line.at.insert_str(0, at);
    line.causes.iter_mut().for_each(|cause| below(cause, at));
}

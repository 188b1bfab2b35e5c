//! Violations in Helm's words.
//!
//! The crate gives a flat list; Helm shows a tree, in which what one value violates hangs together and `allOf`, `anyOf`
//! and references have lines of their own. The tree is made again from the path that the evaluation took.

use std::fmt::Write as _;

use indexmap::IndexMap;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};

use super::contains;
use super::refs::NAMED;
use crate::chart::values::Tree;

/// Bytes of a report of one chart; values can be long.
const MAX_REPORT: usize = 64 << 10;

/// The report of one chart, a line for each violation.
pub(super) fn tell(errors: &[ValidationError<'_>], schema: &Tree) -> String {
    let mut out = String::new();
    let mut lines = tree(errors, "", schema);
    // What a single value violates is not put together once more.
    if let [only] = lines.as_mut_slice()
        && only.group
    {
        lines = std::mem::take(&mut only.causes);
    }
    for line in lines {
        line.write(&mut out, 0);
    }
    out
}

/// What Go calls the type of a value.
pub(in crate::chart) fn go_type(value: &Tree) -> &'static str {
    match value {
        Tree::Null => "<nil>",
        Tree::Bool(_) => "bool",
        Tree::Number(n) if n.is_f64() => "float64",
        Tree::Number(_) => "int64",
        Tree::String(_) => "string",
        Tree::Array(_) => "[]interface {}",
        Tree::Object(_) => "map[string]interface {}",
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) rank: u8,
    pub(super) at: String,
    pub(super) words: String,
    pub(super) causes: Vec<Line>,
    /// Only holds several lines together.
    pub(super) group: bool,
}

impl Line {
    fn write(&self, out: &mut String, depth: usize) {
        if out.len() > MAX_REPORT || depth > 60 {
            return;
        }
        let _ = writeln!(out, "{:indent$}- at {}: {}", "", quote(&self.at), self.words, indent = depth * 2);
        for cause in &self.causes {
            cause.write(out, depth + 1);
        }
    }
}

/// One step of an evaluation: a keyword, which of its schemas, and where in the value that leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Step {
    keyword: String,
    which: String,
    into: Option<String>,
}

/// What one schema found in one value.
#[derive(Debug, Default)]
struct Node {
    at: String,
    lines: Vec<Line>,
    /// What is missing, always or if a member is there.
    missing: Vec<(Option<String>, Vec<String>)>,
    below: IndexMap<Step, Node>,
}

/// `base` is the path to the schema that the errors are below.
pub(super) fn tree(errors: &[ValidationError<'_>], base: &str, schema: &Tree) -> Vec<Line> {
    let depth = base.matches('/').count();
    let mut root = Node::default();
    for error in errors {
        let path = error.evaluation_path().as_str();
        let relative: Vec<&str> = path.split('/').skip(1 + depth).collect();
        let mut steps = steps(&relative);
        if !matches!(error.kind(), Kind::FalseSchema) {
            // The last one is the keyword that is violated.
            steps.pop();
        }
        let dependency = trigger(error, schema);
        let place: Vec<&str> = error.instance_path().as_str().split('/').skip(1).collect();
        let down = steps.iter().filter(|s| s.into.is_some()).count();
        let start = place.len().saturating_sub(down);
        let pointer = |n: usize| place[..n].iter().map(|p| format!("/{p}")).collect::<String>();
        let mut at = start;
        let mut node = &mut root;
        node.at = pointer(at);
        for mut step in steps {
            if step.into.is_some() {
                step.into = place.get(at).map(|p| (*p).to_owned());
                at = (at + 1).min(place.len());
            }
            node = node.below.entry(step).or_default();
            node.at = pointer(at);
        }
        node.add(error, schema, dependency);
    }
    root.told()
}

/// The member whose presence makes another one necessary.
fn trigger(error: &ValidationError<'_>, schema: &Tree) -> Option<String> {
    let Kind::Required { property } = error.kind() else { return None };
    let path = error.schema_path().as_str();
    if !path.ends_with("/dependencies") && !path.ends_with("/dependentRequired") {
        return None;
    }
    let (rules, members) = (schema.pointer(path)?.as_object()?, error.instance().as_object()?);
    let asks = |rule: &Tree| rule.as_array().is_some_and(|names| names.contains(property));
    rules.iter().find(|(name, rule)| members.contains_key(*name) && asks(rule)).map(|(name, _)| name.clone())
}

fn steps(path: &[&str]) -> Vec<Step> {
    let mut out = Vec::new();
    let mut parts = path.iter().peekable();
    while let Some(keyword) = parts.next() {
        let keyword = (*keyword).to_owned();
        let many = matches!(keyword.as_str(), "allOf" | "anyOf" | "oneOf" | "prefixItems")
            || (keyword == "items" && parts.peek().is_some_and(|p| p.parse::<usize>().is_ok()));
        let which = if many || keyword == "dependentRequired" || NAMED.contains(&keyword.as_str()) {
            parts.next().map(|p| (*p).to_owned()).unwrap_or_default()
        } else {
            String::new()
        };
        let down = matches!(
            keyword.as_str(),
            "properties"
                | "patternProperties"
                | "additionalProperties"
                | "unevaluatedProperties"
                | "items"
                | "prefixItems"
                | "additionalItems"
                | "unevaluatedItems"
                | "contains"
        );
        out.push(Step { keyword, which, into: down.then(String::new) });
    }
    out
}

impl Node {
    fn add(&mut self, error: &ValidationError<'_>, schema: &Tree, trigger: Option<String>) {
        if let Kind::UnevaluatedProperties { unexpected } = error.kind() {
            let false_schema = |name: &String| {
                let at = format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1"));
                Line { rank: 70, at, words: "false schema".into(), causes: Vec::new(), group: false }
            };
            self.lines.extend(unexpected.iter().map(false_schema));
            return;
        }
        let (rank, words, causes) = describe(error, schema);
        if let Kind::Required { property } = error.kind() {
            // Helm names all that is missing in one line.
            let name = property.as_str().unwrap_or_default().to_owned();
            match self.missing.iter_mut().find(|(t, _)| *t == trigger) {
                Some((_, names)) => names.push(name),
                None => self.missing.push((trigger, vec![name])),
            }
            return;
        }
        self.lines.push(Line { rank, at: self.at.clone(), words, causes, group: false });
    }

    /// The lines of this schema.
    fn told(self) -> Vec<Line> {
        // Of a value of the wrong type nothing else is told.
        if let Some(first) = (0..=RANK_ENUM).find_map(|rank| self.lines.iter().position(|l| l.rank == rank)) {
            return self.lines.into_iter().nth(first).into_iter().collect();
        }
        let mut lines = self.lines;
        for (trigger, names) in self.missing {
            let names: Vec<String> = names.iter().map(|n| quote(n)).collect();
            let (rank, words) = match (trigger, names.as_slice()) {
                (None, [one]) => (22, format!("missing property {one}")),
                (None, all) => (22, format!("missing properties {}", all.join(", "))),
                (Some(t), all) => {
                    (23, format!("properties {} required, if {} exists", all.join(", "), quote(&t)))
                }
            };
            lines.push(Line { rank, at: self.at.clone(), words, causes: Vec::new(), group: false });
        }
        let mut all = Vec::new();
        for (step, node) in self.below {
            let at = node.at.clone();
            let mut told = node.told();
            let rank = match step.keyword.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => RANK_REF,
                "allOf" => RANK_ALL_OF,
                "if" | "then" | "else" => RANK_IF,
                _ => RANK_BELOW,
            };
            let line = match (told.pop(), told.is_empty()) {
                (None, _) => continue,
                (Some(one), true) => one,
                (Some(last), false) => {
                    told.push(last);
                    Line {
                        rank,
                        at,
                        words: "validation failed".into(),
                        causes: told,
                        group: rank != RANK_REF,
                    }
                }
            };
            let line = Line { rank, ..line };
            if rank == RANK_ALL_OF { all.push(line) } else { lines.push(line) }
        }
        if !all.is_empty() {
            lines.push(Line {
                rank: RANK_ALL_OF,
                at: self.at,
                words: "'allOf' failed".into(),
                causes: all,
                group: false,
            });
        }
        lines.sort_by_cached_key(|l| (l.rank, place(&l.at)));
        lines
    }
}

/// Items in the order of their numbers.
fn place(at: &str) -> (usize, String) {
    let last = at.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    (last, at.to_owned())
}

const RANK_ENUM: u8 = 2;
const RANK_REF: u8 = 10;
const RANK_BELOW: u8 = 50;
const RANK_NOT: u8 = 60;
const RANK_ALL_OF: u8 = 61;
const RANK_IF: u8 = 64;

fn describe(error: &ValidationError<'_>, schema: &Tree) -> (u8, String, Vec<Line>) {
    let value = error.instance().as_ref();
    let limit = |rank: u8, keyword: &str, got: usize, want: u64| {
        #[allow(clippy::cast_precision_loss)]
        let text =
            format!("{keyword}: got {}, want {}", grouped(&got.to_string()), grouped(&want.to_string()));
        (rank, text)
    };
    let number = |keyword: &str, want: f64| {
        (
            40,
            format!(
                "{keyword}: got {}, want {}",
                go_number(value.as_f64().unwrap_or(f64::NAN)),
                go_number(want)
            ),
        )
    };
    let size = match value {
        Tree::String(s) => s.chars().count(),
        Tree::Array(a) => a.len(),
        Tree::Object(m) => m.len(),
        _ => 0,
    };
    let float = |v: &Tree| v.as_f64().unwrap_or(f64::NAN);
    let branches = |context: &[Vec<ValidationError<'static>>]| {
        let base = error.evaluation_path().as_str();
        let mut lines = Vec::new();
        for (i, errors) in context.iter().enumerate() {
            let mut told = tree(errors, &format!("{base}/{i}"), schema);
            if told.len() > 1 {
                let at = error.instance_path().as_str().to_owned();
                told =
                    vec![Line { rank: 0, at, words: "validation failed".into(), causes: told, group: true }];
            }
            lines.append(&mut told);
        }
        lines
    };
    let mut causes = Vec::new();
    let (rank, words) = match error.kind() {
        Kind::Type { kind } => (0, format!("got {}, want {}", type_name(value), wanted(kind))),
        Kind::Constant { expected_value } => (
            1,
            match &**expected_value {
                Tree::Array(_) | Tree::Object(_) => "'const' failed".to_owned(),
                v => format!("value must be {}", display(v)),
            },
        ),
        Kind::Enum { options } => (RANK_ENUM, enumerated(options)),
        Kind::Format { format } => (3, format!("{} is not valid {format}", display(value))),
        Kind::MinProperties { limit: n } => limit(20, "minProperties", size, *n),
        Kind::MaxProperties { limit: n } => limit(21, "maxProperties", size, *n),
        Kind::MinItems { limit: n } => limit(20, "minItems", size, *n),
        Kind::MaxItems { limit: n } => limit(21, "maxItems", size, *n),
        Kind::UniqueItems => (22, duplicates(value)),
        Kind::MinLength { limit: n } => limit(20, "minLength", size, *n),
        Kind::MaxLength { limit: n } => limit(21, "maxLength", size, *n),
        Kind::Pattern { pattern } => {
            (23, format!("{} does not match pattern {}", display(value), quote(pattern)))
        }
        Kind::Minimum { limit } => number("minimum", float(limit)),
        Kind::Maximum { limit } => number("maximum", float(limit)),
        Kind::ExclusiveMinimum { limit } => number("exclusiveMinimum", float(limit)),
        Kind::ExclusiveMaximum { limit } => number("exclusiveMaximum", float(limit)),
        Kind::MultipleOf { multiple_of } => number("multipleOf", *multiple_of),
        Kind::AdditionalProperties { unexpected } => (51, additional(unexpected)),
        Kind::AdditionalItems { limit } => {
            (51, format!("last {} additionalItem(s) not allowed", size.saturating_sub(*limit)))
        }
        Kind::UnevaluatedItems { unexpected } => {
            (70, format!("last {} additionalItem(s) not allowed", unexpected.len()))
        }
        Kind::PropertyNames { error } => {
            let (rank, words, inner) = describe(error, schema);
            causes = vec![Line { rank, at: String::new(), words, causes: inner, group: false }];
            (52, format!("invalid propertyName {}", display(error.instance())))
        }
        Kind::Contains => {
            let words;
            (words, causes) = contains::describe(error, schema);
            (53, words)
        }
        Kind::Not { .. } => (RANK_NOT, "'not' failed".to_owned()),
        Kind::AnyOf { context } => {
            causes = branches(context);
            (62, "'anyOf' failed".to_owned())
        }
        Kind::OneOfNotValid { context } => {
            causes = branches(context);
            (63, "'oneOf' failed, none matched".to_owned())
        }
        Kind::OneOfMultipleValid { context } => {
            let matched: Vec<String> = context
                .iter()
                .enumerate()
                .filter(|(_, e)| e.is_empty())
                .take(2)
                .map(|(i, _)| i.to_string())
                .collect();
            (63, format!("'oneOf' failed, subschemas {} matched", matched.join(", ")))
        }
        Kind::FalseSchema => (0, "false schema".to_owned()),
        Kind::ContentEncoding { content_encoding } => {
            (24, format!("value is not {} encoded", quote(content_encoding)))
        }
        Kind::ContentMediaType { content_media_type } => {
            (25, format!("value if not of mediatype {}", quote(content_media_type)))
        }
        _ => (80, error.to_string().chars().take(500).collect()),
    };
    (rank, words, causes)
}

fn additional(names: &[String]) -> String {
    let mut names: Vec<String> = names.iter().map(|n| quote(n)).collect();
    names.sort();
    format!("additional properties {} not allowed", names.join(", "))
}

fn enumerated(options: &Tree) -> String {
    let Tree::Array(all) = options else { return "enum failed".into() };
    if all.iter().any(|v| v.is_array() || v.is_object()) {
        return "'enum' failed".into();
    }
    let shown: Vec<String> = all.iter().map(display).collect();
    let one = if all.len() == 1 { "" } else { "one of " };
    format!("value must be {one}{}", shown.join(", "))
}

/// The first two items that are equal, as Helm looks for them.
fn duplicates(value: &Tree) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    // Comparing stops where it would take long: the report is only words.
    for (j, item) in items.iter().enumerate().take(2_000) {
        if let Some(i) = items[..j].iter().position(|other| other == item) {
            return format!("items at {i} and {j} are equal");
        }
    }
    "items are equal".into()
}

fn type_name(value: &Tree) -> &'static str {
    match value {
        Tree::Null => "null",
        Tree::Bool(_) => "boolean",
        Tree::Number(_) => "number",
        Tree::String(_) => "string",
        Tree::Array(_) => "array",
        Tree::Object(_) => "object",
    }
}

fn wanted(kind: &TypeKind) -> String {
    const ORDER: [JsonType; 7] = [
        JsonType::Null,
        JsonType::Boolean,
        JsonType::Number,
        JsonType::Integer,
        JsonType::String,
        JsonType::Array,
        JsonType::Object,
    ];
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(set) => {
            let all: Vec<String> =
                ORDER.iter().filter(|t| set.into_iter().any(|s| s == **t)).map(ToString::to_string).collect();
            all.join(" or ")
        }
    }
}

/// Go's `%v` of a value that is no list and no mapping.
fn display(value: &Tree) -> String {
    match value {
        Tree::Null => "<nil>".into(),
        Tree::String(s) => quote(s),
        Tree::Array(_) | Tree::Object(_) => "value".into(),
        other => other.to_string(),
    }
}

fn quote(text: &str) -> String {
    let cut: String = text.chars().take(1_000).collect();
    let quoted = crate::template::go_quote(&cut);
    let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap_or(&quoted);
    format!("'{}'", inner.replace("\\\"", "\"").replace('\'', "\\'"))
}

/// A number as Go's English printer shows it: digits in groups of three, and from a million on with an exponent.
fn go_number(n: f64) -> String {
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if n == 0.0 || (-4..6).contains(&exponent) {
        let plain = n.to_string();
        let (whole, fraction) = plain.split_once('.').map_or((plain.as_str(), ""), |(w, f)| (w, f));
        let point = if fraction.is_empty() { "" } else { "." };
        return format!("{}{point}{fraction}", grouped(whole));
    }
    let raised: String = format!("{:02}", exponent.abs())
        .chars()
        .map(|c| ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][c.to_digit(10).unwrap_or(0) as usize])
        .collect();
    format!("{digits}×10{}{raised}", if exponent < 0 { "⁻" } else { "" })
}

fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |d| ("-", d));
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    format!("{sign}{out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_english_printer() {
        for (n, text) in [
            (12345.5, "12,345.5"),
            (999_999.0, "999,999"),
            (1e6, "1×10⁰⁶"),
            (2_000_000.5, "2.0000005×10⁰⁶"),
            (0.0001, "0.0001"),
            (0.00001, "1×10⁻⁰⁵"),
            (1e21, "1×10²¹"),
            (-5.0, "-5"),
            (-1234.0, "-1,234"),
            (0.0, "0"),
        ] {
            assert_eq!(go_number(n), text);
        }
    }
}

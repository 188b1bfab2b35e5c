//! `semver` and `semverCompare`, after Masterminds' semver 3, whose constraints differ from Cargo's: parts may be
//! missing or wild, `||` separates alternatives, and a version with a pre-release only meets a constraint that names
//! one too.

use std::cmp::Ordering;
use std::sync::Arc;

use minijinja::value::Value;
use semver::Prerelease;

use super::super::error::FnError;
use super::super::value::{Record, nil};
use super::{Builtin, func, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("semver", "s", |_, a| Ok(Value::from_object(record(&Version::parse(str_arg(a, 0)?)?)))),
    func("semverCompare", "ss", |_, a| {
        let v = Version::parse(str_arg(a, 1)?)?;
        Ok(Value::from(satisfies(str_arg(a, 0)?, &v)?))
    }),
];

/// A version, with the text that it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) original: String,
    pub(crate) numbers: [u64; 3],
    pub(crate) pre: Prerelease,
    build: String,
    /// How many numbers were given and not wild.
    given: usize,
}

impl Version {
    /// Reads `v1.2.3-pre+build`; the `v` and the last numbers may be missing.
    pub(crate) fn parse(text: &str) -> Result<Self, FnError> {
        Self::read(text, false).ok_or_else(|| FnError::text("invalid semantic version"))
    }

    fn read(text: &str, wild: bool) -> Option<Self> {
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, build) = rest.split_once('+').unwrap_or((rest, ""));
        let (core, pre) = rest.split_once('-').unwrap_or((rest, ""));
        let mut numbers = [0; 3];
        let mut given = 0;
        let mut wildcard = false;
        for (i, part) in core.split('.').enumerate() {
            if i > 2 {
                return None;
            }
            if wild && matches!(part, "x" | "X" | "*") {
                wildcard = true;
                continue;
            }
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            if !wildcard {
                numbers[i] = part.parse().ok()?;
                given = i + 1;
            }
        }
        if build.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')) {
            return None;
        }
        Some(Self {
            original: text.to_owned(),
            numbers,
            pre: Prerelease::new(pre).ok()?,
            build: build.to_owned(),
            given,
        })
    }
}

fn compare(a: &Version, b: &Version) -> Ordering {
    a.numbers.cmp(&b.numbers).then_with(|| a.pre.cmp(&b.pre))
}

/// How two versions stand to each other.
pub(super) fn order(a: &str, b: &str) -> Option<Ordering> {
    Some(compare(&Version::parse(a).ok()?, &Version::parse(b).ok()?))
}

fn canonical(v: &Version) -> String {
    let [major, minor, patch] = v.numbers;
    let pre = if v.pre.is_empty() { String::new() } else { format!("-{}", v.pre) };
    let build = if v.build.is_empty() { String::new() } else { format!("+{}", v.build) };
    format!("{major}.{minor}.{patch}{pre}{build}")
}

fn record(v: &Version) -> Record {
    let n = |i: usize| Value::from(i64::try_from(v.numbers[i]).unwrap_or(i64::MAX));
    let fields = [
        ("Major", n(0)),
        ("Minor", n(1)),
        ("Patch", n(2)),
        ("Prerelease", Value::from(v.pre.as_str())),
        ("Metadata", Value::from(v.build.as_str())),
        ("Original", Value::from(v.original.as_str())),
        ("String", Value::from(canonical(v))),
    ];
    Record {
        type_name: "*semver.Version",
        fields: fields.into_iter().map(|(k, v)| (Arc::from(k), v)).collect(),
        text: Some(canonical(v)),
        methods: |me, name, args| {
            let original = |r: &Record| r.fields.get("Original").and_then(Value::as_str).map(str::to_owned);
            let (mine, other) = (original(me)?, args.first().and_then(|o| o.downcast_object_ref::<Record>()));
            let other = original(other?)?;
            let (a, b) = (Version::parse(&mine).ok()?, Version::parse(&other).ok()?);
            let order = compare(&a, &b);
            Some(Ok(match name {
                "Compare" => Value::from(order as i64),
                "Equal" => Value::from(order == Ordering::Equal),
                "LessThan" => Value::from(order == Ordering::Less),
                "GreaterThan" => Value::from(order == Ordering::Greater),
                _ => return Some(Err(FnError::text(format!("semver.Version has no method {name}")))),
            }))
            .filter(|r| !r.as_ref().is_ok_and(|v| *v == nil()))
        },
    }
}

/// Whether `v` meets the constraint.
///
/// # Errors
///
/// If the constraint cannot be read.
pub(crate) fn satisfies(constraint: &str, v: &Version) -> Result<bool, FnError> {
    let bad = || FnError::text(format!("improper constraint: {constraint}"));
    let mut any = false;
    for alternative in constraint.split("||") {
        let mut all = true;
        let mut count = 0;
        for (op, bound) in terms(alternative).ok_or_else(bad)? {
            count += 1;
            all &= holds(op, &Version::read(bound, true).ok_or_else(bad)?, v);
        }
        if count == 0 {
            return Err(bad());
        }
        any |= all;
    }
    Ok(any)
}

/// The comparisons of one alternative: `>= 1.2, < 3`, `1.2 - 1.4` and so on.
fn terms(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut out = Vec::new();
    let mut rest = text.trim_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let op_len = rest.find(|c: char| !"=!<>~^".contains(c)).unwrap_or(rest.len());
        let op = &rest[..op_len];
        if !matches!(op, "" | "=" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^") {
            return None;
        }
        rest = rest[op_len..].trim_start();
        let len = rest.find([' ', ',', '\t']).unwrap_or(rest.len());
        let version = &rest[..len];
        if version.is_empty() {
            return None;
        }
        rest = &rest[len..];
        if let Some(upper) = rest.strip_prefix(" - ") {
            let upper = upper.trim_start();
            let len = upper.find([' ', ',']).unwrap_or(upper.len());
            out.push((">=", version));
            out.push(("<=", &upper[..len]));
            rest = &upper[len..];
        } else {
            out.push((op, version));
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    Some(out)
}

fn holds(op: &str, bound: &Version, v: &Version) -> bool {
    if !v.pre.is_empty() && bound.pre.is_empty() && op != "!=" {
        return false;
    }
    let order = compare(v, bound);
    let [major, minor, _] = v.numbers;
    let dirty = bound.given < 3;
    match op {
        "!=" if dirty => v.numbers[..bound.given] != bound.numbers[..bound.given] || bound.given == 0,
        "!=" => order != Ordering::Equal,
        ">" if dirty => {
            order == Ordering::Greater
                && bound.given > 0
                && v.numbers[..bound.given] > bound.numbers[..bound.given]
        }
        ">" => order == Ordering::Greater,
        "<" => order == Ordering::Less,
        ">=" | "=>" => order != Ordering::Less,
        "<=" | "=<" if dirty => v.numbers[..bound.given] <= bound.numbers[..bound.given],
        "<=" | "=<" => order != Ordering::Greater,
        "" | "=" if !dirty => order == Ordering::Equal,
        "" | "=" | "~" | "~>" => {
            if bound.given == 0 {
                return true;
            }
            order != Ordering::Less
                && major == bound.numbers[0]
                && (bound.given < 2 || minor == bound.numbers[1])
        }
        "^" => {
            if order == Ordering::Less {
                return false;
            }
            match bound.given {
                0 => true,
                1 => major == bound.numbers[0],
                _ if bound.numbers[0] > 0 => major == bound.numbers[0],
                2 => v.numbers[..2] == bound.numbers[..2],
                _ if bound.numbers[1] > 0 => v.numbers[..2] == bound.numbers[..2],
                _ => v.numbers == bound.numbers,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_as_in_masterminds_semver() {
        let cases = [
            (">=1.21-0", "v1.33.0", true),
            (">=1.21-0", "1.20.9", false),
            (">= 1.19.0", "1.19.0-rc1", false),
            (">=1.19-0", "1.19.0-gke.1", true),
            ("^1.2", "1.9.3", true),
            ("^0.2.3", "0.3.0", false),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("1.2.x", "1.2.7", true),
            ("*", "3.4.5", true),
            ("<1.14-0 || >=1.16", "1.13.2", true),
            (">1.2, <2", "1.5.0", true),
            ("1.2 - 1.4", "1.4.5", true),
            ("<= 1.4", "1.4.5", true),
            (">1.4", "1.4.5", false),
            ("1.2.3", "1.2.3", true),
        ];
        for (constraint, version, want) in cases {
            let v = Version::parse(version).unwrap();
            assert_eq!(satisfies(constraint, &v).unwrap(), want, "{constraint} {version}");
        }
        assert!(satisfies("foo", &Version::parse("1").unwrap()).is_err());
    }
}

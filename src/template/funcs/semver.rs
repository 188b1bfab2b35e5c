//! `semver` and `semverCompare`, after Masterminds' semver 3.5.

use std::cmp::Ordering;
use std::sync::Arc;

use minijinja::value::Value;
use semver::Prerelease;

use super::super::error::FnError;
use super::super::fmt::quote;
use super::super::value::Record;
use super::constraint::Constraint;
use super::{Builtin, func, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("semver", "s", |_, a| {
        Ok(Value::from_object(record(&Version::parse(str_arg(a, 0)?)?, "*semver.Version")))
    }),
    func("semverCompare", "ss", |_, a| {
        let constraint = Constraint::parse(str_arg(a, 0)?)?;
        Ok(Value::from(constraint.holds(&Version::parse(str_arg(a, 1)?)?)))
    }),
];

/// A version, with the text that it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) original: String,
    pub(crate) numbers: [u64; 3],
    pub(crate) pre: Prerelease,
    build: String,
}

impl Version {
    /// Reads `v1.2.3-pre+build`; the `v` and the last numbers may be missing.
    pub(crate) fn parse(text: &str) -> Result<Self, FnError> {
        let invalid = || FnError::text("invalid semantic version");
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(rest, pre)| (rest, Some(pre)));
        let parts: Vec<&str> = core.split('.').collect();
        let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let words = |text: &Option<&str>| {
            let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            text.is_none_or(|text| text.split('.').all(word))
        };
        if parts.len() > 3 || !parts.iter().all(number) || !words(&pre) || !words(&build) {
            return Err(invalid());
        }
        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(&parts) {
            let reason = "error parsing version segment: strconv.ParseUint: parsing";
            let range = |_| FnError::text(format!("{reason} {}: value out of range", quote(part)));
            *number = part.parse().map_err(range)?;
        }
        let pre = Prerelease::new(pre.unwrap_or_default())
            .map_err(|_| FnError::text("version segment starts with 0"))?;
        Ok(Self { original: text.to_owned(), numbers, pre, build: build.unwrap_or_default().to_owned() })
    }

    /// With other numbers and neither pre-release nor build.
    fn with(&self, numbers: [u64; 3]) -> Self {
        let v = if self.original.starts_with('v') { "v" } else { "" };
        let [major, minor, patch] = numbers;
        let original = format!("{v}{major}.{minor}.{patch}");
        Self { original, numbers, pre: Prerelease::EMPTY, build: String::new() }
    }
}

pub(super) fn compare(a: &Version, b: &Version) -> Ordering {
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

fn record(v: &Version, type_name: &'static str) -> Record {
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
        type_name,
        fields: fields.into_iter().map(|(k, v)| (Arc::from(k), v)).collect(),
        text: Some(canonical(v)),
        methods: |me, name, args| {
            let original = |r: &Record| r.fields.get("Original").and_then(Value::as_str).map(str::to_owned);
            let mine = Version::parse(&original(me)?).ok()?;
            let [major, minor, patch] = mine.numbers;
            let next = match name {
                // `MarshalJSON`, for the encoders.
                " json" => return Some(Ok(Value::from(canonical(&mine)))),
                "IncMajor" => [major.saturating_add(1), 0, 0],
                "IncMinor" => [major, minor.saturating_add(1), 0],
                "IncPatch" if !mine.pre.is_empty() => mine.numbers,
                "IncPatch" => [major, minor, patch.saturating_add(1)],
                "SetPrerelease" | "SetMetadata" => return Some(altered(mine, name, args)),
                _ => return method(&mine, name, args).map(Ok),
            };
            Some(Ok(Value::from_object(record(&mine.with(next), "semver.Version"))))
        },
    }
}

/// With another pre-release or build.
fn altered(v: Version, name: &str, args: &[Value]) -> Result<Value, FnError> {
    let word = args.first().and_then(Value::as_str);
    let word =
        word.ok_or_else(|| FnError::Argument(format!("wrong number of args for {name}: want 1 got 0")))?;
    let is_build = name == "SetMetadata";
    let plain = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !word.is_empty() && !word.split('.').all(plain) {
        let reason = if is_build { "invalid metadata string" } else { "invalid prerelease string" };
        return Err(FnError::text(reason));
    }
    let (mut pre, mut build) = (v.pre.as_str(), v.build.as_str());
    *if is_build { &mut build } else { &mut pre } = word;
    let sign = |sign: &str, word: &str| if word.is_empty() { String::new() } else { format!("{sign}{word}") };
    let next = format!("{}{}{}", v.with(v.numbers).original, sign("-", pre), sign("+", build));
    Ok(Value::from_object(record(&Version::parse(&next)?, "semver.Version")))
}

/// The methods that compare with another version.
fn method(mine: &Version, name: &str, args: &[Value]) -> Option<Value> {
    let other =
        args.first()?.downcast_object_ref::<Record>()?.fields.get("Original").and_then(Value::as_str)?;
    let order = compare(mine, &Version::parse(other).ok()?);
    Some(match name {
        "Compare" => Value::from(order as i64),
        "Equal" => Value::from(order == Ordering::Equal),
        "LessThan" => Value::from(order == Ordering::Less),
        "LessThanEqual" => Value::from(order != Ordering::Greater),
        "GreaterThan" => Value::from(order == Ordering::Greater),
        "GreaterThanEqual" => Value::from(order != Ordering::Less),
        _ => return None,
    })
}

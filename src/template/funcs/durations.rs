//! `time.Duration`, and the functions around it that Helm 4 adds to Sprig's.

use minijinja::value::Value;

use super::super::error::FnError;
use super::super::fmt::{float, quote};
use super::super::span::{parse_duration, show_duration};
use super::super::value::{DURATION, Map, Record, as_float, as_int, int64, is_nil, type_name};
use super::{Builtin, Outcome, func};

const SECOND: i64 = 1_000_000_000;

#[allow(clippy::cast_precision_loss)]
fn per(v: &Value, unit: i64) -> Outcome {
    // Go divides whole units and the rest apart, which keeps small parts exact.
    let ns = read(v).unwrap_or(0);
    Ok(Value::from((ns / unit) as f64 + (ns % unit) as f64 / unit as f64))
}

pub(super) const TABLE: &[Builtin] = &[
    func("mustToDuration", "v", |_, a| Ok(span(read(&a[0])?))),
    func("durationNanoseconds", "v", |_, a| Ok(int64(read(&a[0]).unwrap_or(0)))),
    func("durationMicroseconds", "v", |_, a| Ok(int64(read(&a[0]).unwrap_or(0) / 1000))),
    func("durationMilliseconds", "v", |_, a| Ok(int64(read(&a[0]).unwrap_or(0) / 1_000_000))),
    func("durationSeconds", "v", |_, a| per(&a[0], SECOND)),
    func("durationMinutes", "v", |_, a| per(&a[0], 60 * SECOND)),
    func("durationHours", "v", |_, a| per(&a[0], 3600 * SECOND)),
    func("durationDays", "v", |_, a| hours(&a[0], &[24.0])),
    func("durationWeeks", "v", |_, a| hours(&a[0], &[24.0, 7.0])),
    func("durationRoundTo", "vv", |_, a| to_multiple(a, round)),
    func("durationTruncateTo", "vv", |_, a| to_multiple(a, truncate)),
];

fn hours(v: &Value, by: &[f64]) -> Outcome {
    let hours = as_float(&per(v, 3600 * SECOND)?).unwrap_or(0.0);
    Ok(Value::from(by.iter().fold(hours, |n, by| n / by)))
}

fn to_multiple(a: &[Value], op: fn(i64, i64) -> i64) -> Outcome {
    let Ok(ns) = read(&a[0]) else { return Ok(span(0)) };
    Ok(span(read(&a[1]).map_or(ns, |to| op(ns, to))))
}

fn truncate(ns: i64, to: i64) -> i64 {
    if to <= 0 { ns } else { ns - ns % to }
}

/// Half a unit rounds away from zero.
fn round(ns: i64, to: i64) -> i64 {
    if to <= 0 {
        return ns;
    }
    let rest = (ns % to).abs();
    let down = ns - ns % to;
    if rest < to - rest {
        return down;
    }
    let limit = if ns < 0 { i64::MIN } else { i64::MAX };
    down.checked_add(if ns < 0 { -to } else { to }).unwrap_or(limit)
}

/// A `time.Duration`.
pub(super) fn span(ns: i64) -> Value {
    Value::from_object(Record {
        type_name: DURATION,
        fields: Map::from([(" n".into(), int64(ns))]),
        text: Some(show_duration(ns)),
        methods: |me, name, args| {
            let ns = me.fields.get(" n").and_then(as_int)?;
            let v = int64(ns);
            // A count of nanoseconds is read as such, not as seconds.
            let by = || args.first().map(|v| as_span(v).or_else(|| as_int(v)).unwrap_or(0)).unwrap_or(0);
            let whole = |unit: i64| Some(Ok(int64(ns / unit)));
            match name {
                "String" => Some(Ok(Value::from(show_duration(ns)))),
                "Nanoseconds" | " json" => Some(Ok(v)),
                "Microseconds" => whole(1000),
                "Milliseconds" => whole(1_000_000),
                "Seconds" => Some(per(&span(ns), SECOND)),
                "Minutes" => Some(per(&span(ns), 60 * SECOND)),
                "Hours" => Some(per(&span(ns), 3600 * SECOND)),
                "Abs" => Some(Ok(span(ns.checked_abs().unwrap_or(i64::MAX)))),
                "Round" => Some(Ok(span(round(ns, by())))),
                "Truncate" => Some(Ok(span(truncate(ns, by())))),
                _ => None,
            }
        },
    })
}

/// The nanoseconds of a `time.Duration`.
pub(super) fn as_span(v: &Value) -> Option<i64> {
    let r = v.downcast_object_ref::<Record>().filter(|r| r.type_name == DURATION)?;
    r.fields.get(" n").and_then(as_int)
}

/// What Helm takes for a duration: one, its text, or a number of seconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn read(v: &Value) -> Result<i64, FnError> {
    let seconds = |f: f64| {
        if !f.is_finite() {
            return Err(FnError::text(format!("invalid duration seconds: {}", float(f))));
        }
        let ns = f * 1e9;
        if ns.abs() > i64::MAX as f64 {
            return Err(FnError::text(format!("duration seconds overflow: {}", float(f))));
        }
        Ok(ns as i64)
    };
    if let Some(ns) = as_span(v) {
        return Ok(ns);
    }
    if is_nil(v) {
        return Err(FnError::text("invalid duration"));
    }
    if let Some(text) = v.as_str() {
        let s = text.trim();
        if s.is_empty() {
            return Err(FnError::text("empty duration"));
        }
        if let Ok(ns) = parse_duration(s) {
            return Ok(ns);
        }
        return match s.parse::<f64>() {
            Ok(f) => seconds(f),
            Err(_) => Err(FnError::text(format!("could not parse duration {}", quote(text)))),
        };
    }
    if let Some(i) = as_int(v) {
        let ns = i.checked_mul(1_000_000_000);
        return ns.ok_or_else(|| FnError::text(format!("duration seconds overflow: {i}")));
    }
    match as_float(v) {
        Some(f) => seconds(f),
        None => Err(FnError::text(format!("unsupported duration type {}", type_name(v)))),
    }
}

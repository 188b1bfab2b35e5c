//! Sprig's arithmetic: whatever is given is cast, what cannot be cast counts as 0.

use std::borrow::Cow;

use minijinja::value::Value;

use super::super::error::FnError;
use super::super::fmt::to_string;
use super::super::runtime::Cx;
use super::super::value::int_list;
use super::super::value::{as_bool, as_float, as_int, int};
use super::{Builtin, Outcome, float_arg, func, int_arg, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("int", "v", |_, a| Ok(int(to_int(&a[0])))),
    func("int64", "v", |_, a| Ok(Value::from(to_int(&a[0])))),
    func("float64", "v", |_, a| Ok(Value::from(to_float(&a[0])))),
    func("atoi", "s", |_, a| Ok(int(str_arg(a, 0)?.parse().unwrap_or(0)))),
    func("toDecimal", "v", |_, a| Ok(Value::from(i64::from_str_radix(&to_string(&a[0]), 8).unwrap_or(0)))),
    func("add", "v*", |_, a| Ok(Value::from(a.iter().fold(0i64, |n, v| n.wrapping_add(to_int(v)))))),
    func("add1", "v", |_, a| Ok(Value::from(to_int(&a[0]).wrapping_add(1)))),
    func("sub", "vv", |_, a| Ok(Value::from(to_int(&a[0]).wrapping_sub(to_int(&a[1]))))),
    func("mul", "vv*", |_, a| Ok(Value::from(a.iter().fold(1i64, |n, v| n.wrapping_mul(to_int(v)))))),
    func("div", "vv", |_, a| divide(a, i64::wrapping_div)),
    func("mod", "vv", |_, a| divide(a, i64::wrapping_rem)),
    func("max", "vv*", |_, a| Ok(Value::from(a.iter().map(to_int).max().unwrap_or(0)))),
    func("biggest", "vv*", |_, a| Ok(Value::from(a.iter().map(to_int).max().unwrap_or(0)))),
    func("min", "vv*", |_, a| Ok(Value::from(a.iter().map(to_int).min().unwrap_or(0)))),
    func("maxf", "vv*", |_, a| Ok(Value::from(a.iter().map(to_float).fold(f64::NEG_INFINITY, f64::max)))),
    func("minf", "vv*", |_, a| Ok(Value::from(a.iter().map(to_float).fold(f64::INFINITY, f64::min)))),
    func("addf", "v*", |_, a| Ok(Value::from(decimal(a.iter().map(to_float).sum())))),
    func("add1f", "v", |_, a| Ok(Value::from(decimal(to_float(&a[0]) + 1.0)))),
    func("subf", "vv*", |_, a| fold(a, |x, y| x - y)),
    func("mulf", "vv*", |_, a| fold(a, |x, y| x * y)),
    func("divf", "vv*", |_, a| {
        if a[1..].iter().any(|v| to_float(v) == 0.0) {
            return Err(FnError::text("decimal division by 0"));
        }
        fold(a, |x, y| x / y)
    }),
    func("ceil", "v", |_, a| Ok(Value::from(to_float(&a[0]).ceil()))),
    func("floor", "v", |_, a| Ok(Value::from(to_float(&a[0]).floor()))),
    func("round", "vif*", |_, a| {
        let on = if a.len() > 2 { float_arg(a, 2)? } else { 0.5 };
        let places = i32::try_from(int_arg(a, 1)?).unwrap_or(0);
        let pow = 10f64.powi(places);
        let digit = pow * to_float(&a[0]);
        let rounded = if digit.fract() >= on { digit.ceil() } else { digit.floor() };
        Ok(Value::from(rounded / pow))
    }),
    func("until", "i", |cx, a| {
        let n = int_arg(a, 0)?;
        Ok(int_list(steps(cx, 0, n, if n < 0 { -1 } else { 1 })?))
    }),
    func("untilStep", "iii", |cx, a| {
        Ok(int_list(steps(cx, int_arg(a, 0)?, int_arg(a, 1)?, int_arg(a, 2)?)?))
    }),
    func("seq", "i*", seq),
    func("randInt", "ii", |cx, a| {
        let (low, high) = (int_arg(a, 0)?, int_arg(a, 1)?);
        let span = high.checked_sub(low).filter(|n| *n > 0);
        let span = span.ok_or_else(|| FnError::text("invalid argument to Intn"))?;
        let mut bytes = [0; 8];
        cx.random(&mut bytes)?;
        Ok(int(low + i64::from_le_bytes(bytes).rem_euclid(span)))
    }),
];

/// `cast.ToInt64`.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn to_int(v: &Value) -> i64 {
    if let Some(i) = as_int(v) {
        return i;
    }
    if let Some(f) = as_float(v) {
        // What a processor of the amd64 kind makes of numbers that do not fit, as Go leaves it to that.
        return if f < 9_223_372_036_854_775_808.0 { f as i64 } else { i64::MIN };
    }
    if let Some(b) = as_bool(v) {
        return i64::from(b);
    }
    let Some(s) = v.as_str() else { return 0 };
    // "1.0" counts as 1, but "1.5" as 0.
    let s = match s.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => s,
    };
    // An underscore may stand between two digits.
    let plain =
        |s: &str| s.split('_').all(|part| part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty());
    let without = if s.contains('_') && plain(s) { Cow::Owned(s.replace('_', "")) } else { Cow::Borrowed(s) };
    match crate::yaml::parse_go_int(&without) {
        Some(crate::yaml::Value::Int(i)) => i,
        _ => 0,
    }
}

/// `cast.ToFloat64`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_float(v: &Value) -> f64 {
    if let Some(f) = as_float(v) {
        return f;
    }
    if let Some(i) = as_int(v) {
        return i as f64;
    }
    if let Some(b) = as_bool(v) {
        return f64::from(u8::from(b));
    }
    v.as_str().and_then(|s| s.parse().ok()).unwrap_or(0.0)
}

/// Sprig computes with decimals: 0.1 + 0.2 is 0.3 there.
fn decimal(f: f64) -> f64 {
    format!("{f:.15e}").parse().unwrap_or(f)
}

fn fold(a: &[Value], op: fn(f64, f64) -> f64) -> Outcome {
    let first = to_float(&a[0]);
    Ok(Value::from(decimal(a[1..].iter().map(to_float).fold(first, op))))
}

fn divide(a: &[Value], op: fn(i64, i64) -> i64) -> Outcome {
    let by = to_int(&a[1]);
    if by == 0 {
        return Err(FnError::text("runtime error: integer divide by zero"));
    }
    Ok(Value::from(op(to_int(&a[0]), by)))
}

fn steps(cx: &Cx<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, FnError> {
    let (from, to, by) = (i128::from(start), i128::from(stop), i128::from(step));
    let (span, by) = if to < from { (from - to, -by) } else { (to - from, by) };
    if by <= 0 || span == 0 {
        return Ok(Vec::new());
    }
    let count = match i64::try_from((span - 1) / by + 1) {
        Ok(count) if count <= cx.rt.limits.max_items => count,
        _ => {
            let reason = format!("a list of more than the {} allowed numbers", cx.rt.limits.max_items);
            return Err(FnError::text(reason));
        }
    };
    cx.expect_parts(usize::try_from(count).unwrap_or(0))?;
    Ok((0..count).map(|i| start + i * step).collect())
}

fn seq(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let n = |i| int_arg(a, i);
    let (start, step, stop) = match a.len() {
        1 => {
            let end = n(0)?;
            let by = if end < 1 { -1 } else { 1 };
            (1, by, end.saturating_add(by))
        }
        2 => {
            let by = if n(1)? < n(0)? { -1 } else { 1 };
            (n(0)?, by, n(1)?.saturating_add(by))
        }
        3 => {
            let down = n(2)? < n(0)?;
            if down && n(1)? > 0 {
                return Ok(Value::from(""));
            }
            (n(0)?, n(1)?, n(2)?.saturating_add(if down { -1 } else { 1 }))
        }
        _ => return Ok(Value::from("")),
    };
    let parts: Vec<String> = steps(cx, start, stop, step)?.iter().map(ToString::to_string).collect();
    Ok(Value::from(parts.join(" ")))
}

//! Sprig's list functions. None of them changes its argument.

use minijinja::value::Value;

use super::super::account::ITEM_BYTES;
use super::super::error::FnError;
use super::super::runtime::Cx;
use super::super::value::{List, as_list, deep_equal, is_nil, kind_name};
use super::{Builtin, Outcome, func, int_arg, items, nil, str_arg, strval};

pub(super) const TABLE: &[Builtin] = &[
    func("list", "v*", |_, a| Ok(List::value(a.to_vec()))),
    func("tuple", "v*", |_, a| Ok(List::value(a.to_vec()))),
    func("append", "vv", push),
    func("push", "vv", push),
    func("mustAppend", "vv", push),
    func("mustPush", "vv", push),
    func("prepend", "vv", prepend),
    func("mustPrepend", "vv", prepend),
    func("first", "v", |_, a| edge(&a[0], true)),
    func("mustFirst", "v", |_, a| edge(&a[0], true)),
    func("last", "v", |_, a| edge(&a[0], false)),
    func("mustLast", "v", |_, a| edge(&a[0], false)),
    func("rest", "v", |_, a| {
        Ok(List::value(items(&a[0], "find rest on")?.iter().skip(1).cloned().collect()))
    }),
    func("mustRest", "v", |_, a| {
        Ok(List::value(items(&a[0], "find rest on")?.iter().skip(1).cloned().collect()))
    }),
    func("initial", "v", initial),
    func("mustInitial", "v", initial),
    func("reverse", "v", reverse),
    func("mustReverse", "v", reverse),
    func("compact", "v", compact),
    func("mustCompact", "v", compact),
    func("uniq", "v", uniq),
    func("mustUniq", "v", uniq),
    func("without", "vv*", without),
    func("mustWithout", "vv*", without),
    func("has", "vv", has),
    func("mustHas", "vv", has),
    func("slice", "vv*", slice),
    func("mustSlice", "vv*", slice),
    func("concat", "v*", |cx, a| {
        cx.expect_values(a.iter().filter_map(as_list).map(|l| l.items.len() * ITEM_BYTES).sum())?;
        let mut out = Vec::new();
        for l in a {
            out.extend_from_slice(
                items(l, "concat")
                    .map_err(|e| FnError::Text(format!("{e}{}", if is_nil(l) { "" } else { " as list" })))?,
            );
        }
        Ok(List::value(out))
    }),
    func("chunk", "iv", chunk),
    func("mustChunk", "iv", chunk),
    func("join", "sv", |cx, a| {
        let (between, parts) = (str_arg(a, 0)?, strings(&a[1]));
        let bytes: usize = parts.iter().map(String::len).sum();
        cx.expect(between.len().saturating_mul(parts.len()).saturating_add(bytes))?;
        Ok(Value::from(parts.join(between)))
    }),
    func("toStrings", "v", |_, a| Ok(List::strings(strings(&a[0])))),
    func("sortAlpha", "v", |_, a| {
        let mut out = if as_list(&a[0]).is_some() { strings(&a[0]) } else { vec![strval(&a[0])] };
        out.sort();
        Ok(List::strings(out))
    }),
];

/// Sprig's `strslice`: the non-nil elements as strings; anything but a slice is taken for one element.
pub(super) fn strings(v: &Value) -> Vec<String> {
    match as_list(v) {
        Some(l) => l.items.iter().filter(|v| !is_nil(v)).map(strval).collect(),
        None if is_nil(v) => Vec::new(),
        None => vec![strval(v)],
    }
}

fn push(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let mut out = items(&a[0], "push on")?.to_vec();
    out.push(a[1].clone());
    Ok(List::value(out))
}

fn prepend(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let mut out = vec![a[1].clone()];
    out.extend_from_slice(items(&a[0], "prepend on")?);
    Ok(List::value(out))
}

fn edge(v: &Value, first: bool) -> Outcome {
    let items = items(v, if first { "find first on" } else { "find last on" })?;
    Ok(if first { items.first() } else { items.last() }.cloned().unwrap_or_else(nil))
}

fn initial(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let items = items(&a[0], "find initial on")?;
    Ok(List::value(items[..items.len().saturating_sub(1)].to_vec()))
}

fn reverse(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    Ok(List::value(items(&a[0], "find reverse on")?.iter().rev().cloned().collect()))
}

fn compact(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    Ok(List::value(items(&a[0], "compact on")?.iter().filter(|v| v.is_true()).cloned().collect()))
}

fn uniq(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let mut out: Vec<Value> = Vec::new();
    for v in items(&a[0], "find uniq on")? {
        cx.steps(out.len() / 16)?;
        if !out.iter().any(|o| deep_equal(o, v, 0)) {
            out.push(v.clone());
        }
    }
    Ok(List::value(out))
}

fn without(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let keep =
        items(&a[0], "find without on")?.iter().filter(|v| !a[1..].iter().any(|o| deep_equal(o, v, 0)));
    Ok(List::value(keep.cloned().collect()))
}

fn has(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    if is_nil(&a[1]) {
        return Ok(Value::from(false));
    }
    Ok(Value::from(items(&a[1], "find has on")?.iter().any(|v| deep_equal(v, &a[0], 0))))
}

fn slice(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let Some(list) = as_list(&a[0]) else {
        let reason = format!("list should be type of slice or array but {}", kind_name(&a[0]));
        return Err(FnError::text(reason));
    };
    if list.items.is_empty() {
        return Ok(nil());
    }
    let bound = |i: usize, default: usize| match a.get(i) {
        None => Ok(default),
        Some(v) => usize::try_from(super::math::to_int(v))
            .ok()
            .filter(|n| *n <= list.items.len())
            .ok_or_else(|| FnError::text("reflect.Value.Slice: slice index out of bounds")),
    };
    let (start, end) = (bound(1, 0)?, bound(2, list.items.len())?);
    match list.items.get(start..end) {
        Some(items) => Ok(Value::from_object(List { type_name: list.type_name, items: items.to_vec() })),
        None => Err(FnError::text("reflect.Value.Slice: slice index out of bounds")),
    }
}

fn chunk(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let size = int_arg(a, 0)?;
    let items = items(&a[1], "chunk")?;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else {
        // Sprig computes the number of pieces in floats; Go then fails to make a slice, unless that number is zero.
        #[allow(clippy::cast_precision_loss)]
        let pieces = ((items.len() as f64 - 1.0) / size as f64).floor() + 1.0;
        if pieces == 0.0 {
            return Ok(Value::from_object(List { type_name: "[][]interface {}", items: Vec::new() }));
        }
        return Err(FnError::text("runtime error: makeslice: len out of range"));
    };
    cx.expect_values((items.len() / size).saturating_mul(200))?;
    let chunks = items.chunks(size).map(|c| List::value(c.to_vec())).collect();
    Ok(Value::from_object(List { type_name: "[][]interface {}", items: chunks }))
}

//! `text/template`'s own functions, defaults, reflection and what Helm adds around templates.

use std::cmp::Ordering;

use minijinja::value::{Value, ValueKind};

use super::super::engine::{Cx, empty_dict};
use super::super::error::FnError;
use super::super::fmt::{sprintf, to_string};
use super::super::value::{
    as_bool, as_dict, as_float, as_int, as_list, deep_copy, deep_equal, is_nil, kind_name, type_name,
};
use super::{ANY, Builtin, Outcome, func, nil, str_arg, strval};

pub(super) const TABLE: &[Builtin] = &[
    func("and", 1, ANY, |_, a| Ok(a.iter().find(|v| !v.is_true()).unwrap_or(&a[a.len() - 1]).clone())),
    func("or", 1, ANY, |_, a| Ok(a.iter().find(|v| v.is_true()).unwrap_or(&a[a.len() - 1]).clone())),
    func("not", 1, 1, |_, a| Ok(Value::from(!a[0].is_true()))),
    func("eq", 1, ANY, eq),
    func("ne", 2, 2, |cx, a| Ok(Value::from(!eq(cx, a)?.is_true()))),
    func("lt", 2, 2, |_, a| Ok(Value::from(order(a)? == Ordering::Less))),
    func("le", 2, 2, |_, a| Ok(Value::from(order(a)? != Ordering::Greater))),
    func("gt", 2, 2, |_, a| Ok(Value::from(order(a)? == Ordering::Greater))),
    func("ge", 2, 2, |_, a| Ok(Value::from(order(a)? != Ordering::Less))),
    func("index", 1, ANY, index),
    func("len", 1, 1, len),
    func("print", 0, ANY, |_, a| Ok(Value::from(sprint(a)))),
    func("println", 0, ANY, |_, a| {
        Ok(Value::from(a.iter().map(to_string).collect::<Vec<_>>().join(" ") + "\n"))
    }),
    func("printf", 1, ANY, |_, a| Ok(Value::from(sprintf(str_arg(a, 0)?, &a[1..])))),
    func("html", 0, ANY, |_, a| Ok(Value::from(escape_html(&sprint(a))))),
    func("urlquery", 0, ANY, |_, a| Ok(Value::from(super::urls::query_escape(&sprint(a))))),
    func("js", 0, ANY, |_, _| super::not_implemented("js")),
    func("call", 1, ANY, |_, _| super::not_implemented("call")),
    func("include", 2, 2, |cx, a| cx.include(str_arg(a, 0)?, &a[1]).map(Value::from)),
    func("tpl", 2, 2, |cx, a| cx.tpl(str_arg(a, 0)?, &a[1]).map(Value::from)),
    func("required", 2, 2, |_, a| {
        let unset = is_nil(&a[1]) || a[1].as_str() == Some("");
        if unset { Err(FnError::Fail(str_arg(a, 0)?.to_owned())) } else { Ok(a[1].clone()) }
    }),
    func("fail", 1, 1, |_, a| Err(FnError::Fail(str_arg(a, 0)?.to_owned()))),
    func("lookup", 4, 4, |_, _| Ok(empty_dict())),
    func("getHostByName", 1, 1, |_, _| Ok(Value::from(""))),
    func("hello", 0, 0, |_, _| Ok(Value::from("Hello!"))),
    func("default", 1, ANY, |_, a| {
        Ok(match a.get(1) {
            Some(v) if v.is_true() => v.clone(),
            _ => a[0].clone(),
        })
    }),
    func("empty", 1, 1, |_, a| Ok(Value::from(!a[0].is_true()))),
    func("coalesce", 0, ANY, |_, a| Ok(a.iter().find(|v| v.is_true()).cloned().unwrap_or_else(nil))),
    func("all", 0, ANY, |_, a| Ok(Value::from(a.iter().all(Value::is_true)))),
    func("any", 0, ANY, |_, a| Ok(Value::from(a.iter().any(Value::is_true)))),
    func("ternary", 3, 3, |_, a| {
        let v = as_bool(&a[2]).ok_or_else(|| super::wrong(&a[2], "bool"))?;
        Ok(a[usize::from(!v)].clone())
    }),
    func("typeOf", 1, 1, |_, a| Ok(Value::from(type_name(&a[0])))),
    func("typeIs", 2, 2, |_, a| Ok(Value::from(str_arg(a, 0)? == type_name(&a[1])))),
    func("typeIsLike", 2, 2, |_, a| {
        let (want, is) = (str_arg(a, 0)?, type_name(&a[1]));
        Ok(Value::from(want == is || is.strip_prefix('*') == Some(want)))
    }),
    func("kindOf", 1, 1, |_, a| Ok(Value::from(kind_name(&a[0])))),
    func("kindIs", 2, 2, |_, a| Ok(Value::from(str_arg(a, 0)? == kind_name(&a[1])))),
    func("deepEqual", 2, 2, |_, a| Ok(Value::from(deep_equal(&a[0], &a[1], 0)))),
    func("deepCopy", 1, 1, |_, a| deep_copy(&a[0], 0)),
    func("mustDeepCopy", 1, 1, |_, a| deep_copy(&a[0], 0)),
    func("toString", 1, 1, |_, a| Ok(Value::from(strval(&a[0])))),
];

/// `Sprint`: a space between two operands of which neither is a string.
fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, v) in args.iter().enumerate() {
        if i > 0 && v.as_str().is_none() && args[i - 1].as_str().is_none() {
            out.push(' ');
        }
        out.push_str(&to_string(v));
    }
    out
}

fn escape_html(s: &str) -> String {
    s.replace('&', "&amp;")
        .replace('\'', "&#39;")
        .replace('"', "&#34;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\0', "\u{fffd}")
}

#[derive(PartialEq, Clone, Copy)]
enum Basic {
    Bool,
    Int,
    Float,
    Str,
    Other,
}

fn basic(v: &Value) -> Basic {
    match v.kind() {
        ValueKind::Bool => Basic::Bool,
        ValueKind::String => Basic::Str,
        ValueKind::Number if v.is_integer() => Basic::Int,
        ValueKind::Number => Basic::Float,
        _ => Basic::Other,
    }
}

fn eq(_: &mut Cx<'_, '_, '_>, a: &[Value]) -> Outcome {
    if a.len() < 2 {
        return Err(FnError::text("missing argument for comparison"));
    }
    let kind = basic(&a[0]);
    for other in &a[1..] {
        let equal = if kind != basic(other) {
            if !is_nil(&a[0]) && !is_nil(other) {
                return Err(incompatible(&a[0], other));
            }
            false
        } else if kind == Basic::Other {
            if is_nil(&a[0]) || is_nil(other) {
                is_nil(&a[0]) && is_nil(other)
            } else {
                let reason = format!(
                    "non-comparable types {}: {}, {}: {}",
                    to_string(&a[0]),
                    type_name(&a[0]),
                    type_name(other),
                    to_string(other)
                );
                return Err(FnError::text(reason));
            }
        } else if kind == Basic::Float {
            as_float(&a[0]) == as_float(other)
        } else {
            a[0] == *other
        };
        if equal {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

fn incompatible(a: &Value, b: &Value) -> FnError {
    FnError::text(format!("incompatible types for comparison: {} and {}", type_name(a), type_name(b)))
}

fn order(a: &[Value]) -> Result<Ordering, FnError> {
    let (x, y) = (basic(&a[0]), basic(&a[1]));
    if x == Basic::Other || y == Basic::Other {
        return Err(FnError::text("invalid type for comparison"));
    }
    if x != y {
        return Err(incompatible(&a[0], &a[1]));
    }
    Ok(match x {
        Basic::Int => as_int(&a[0]).cmp(&as_int(&a[1])),
        Basic::Float => as_float(&a[0]).partial_cmp(&as_float(&a[1])).unwrap_or(Ordering::Greater),
        Basic::Str => a[0].as_str().cmp(&a[1].as_str()),
        Basic::Bool | Basic::Other => return Err(FnError::text("invalid type for comparison")),
    })
}

fn index(_: &mut Cx<'_, '_, '_>, a: &[Value]) -> Outcome {
    let mut v = a[0].clone();
    if is_nil(&v) {
        return Err(FnError::text("index of untyped nil"));
    }
    for key in &a[1..] {
        if is_nil(&v) {
            return Err(FnError::text("index of nil pointer"));
        }
        v = if let Some(d) = as_dict(&v) {
            match key.as_str() {
                Some(k) => d.get(k).unwrap_or_else(nil),
                None if is_nil(key) => return Err(FnError::text("value is nil; should be of type string")),
                None => {
                    return Err(FnError::text(format!(
                        "value has type {}; should be string",
                        type_name(key)
                    )));
                }
            }
        } else if let Some(l) = as_list(&v) {
            l.items.get(position(key, l.items.len())?).cloned().unwrap_or_else(nil)
        } else if let Some(s) = v.as_str() {
            Value::from(i64::from(s.as_bytes()[position(key, s.len())?]))
        } else {
            return Err(FnError::text(format!("can't index item of type {}", type_name(&v))));
        };
    }
    Ok(v)
}

fn position(key: &Value, len: usize) -> Result<usize, FnError> {
    let Some(i) = as_int(key) else {
        return Err(FnError::text(if is_nil(key) {
            "cannot index slice/array with nil".to_owned()
        } else {
            format!("cannot index slice/array with type {}", type_name(key))
        }));
    };
    match usize::try_from(i) {
        Ok(i) if i < len => Ok(i),
        _ => Err(FnError::text("reflect: slice index out of range")),
    }
}

fn len(_: &mut Cx<'_, '_, '_>, a: &[Value]) -> Outcome {
    let n = if let Some(d) = as_dict(&a[0]) {
        d.len()
    } else if let Some(l) = as_list(&a[0]) {
        l.items.len()
    } else if let Some(s) = a[0].as_str() {
        s.len()
    } else if let Some(b) = a[0].as_bytes() {
        b.len()
    } else if is_nil(&a[0]) {
        return Err(FnError::text("len of nil pointer"));
    } else {
        return Err(FnError::text(format!("len of type {}", type_name(&a[0]))));
    };
    Ok(Value::from(n as u64))
}

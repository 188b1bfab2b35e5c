//! `text/template`'s own functions, defaults, reflection and what Helm adds around templates.

use std::cmp::Ordering;

use minijinja::value::{Value, ValueKind};

use super::super::bytes::to_bytes;
use super::super::error::FnError;
use super::super::fmt::{printable, sprintf, to_string};
use super::super::runtime::Cx;
use super::super::value::empty_dict;
use super::super::value::{
    as_bool, as_dict, as_files, as_float, as_int, as_list, deep_copy, deep_equal, is_nil, kind_name,
    type_name,
};
use super::{Builtin, Outcome, func, nil, str_arg, strval};

pub(super) const TABLE: &[Builtin] = &[
    func("and", "rr*", |_, a| Ok(a.iter().find(|v| !v.is_true()).unwrap_or(&a[a.len() - 1]).clone())),
    func("or", "rr*", |_, a| Ok(a.iter().find(|v| v.is_true()).unwrap_or(&a[a.len() - 1]).clone())),
    func("not", "r", |_, a| Ok(Value::from(!a[0].is_true()))),
    func("eq", "rr*", eq),
    func("ne", "rr", |cx, a| Ok(Value::from(!eq(cx, a)?.is_true()))),
    func("lt", "rr", |_, a| Ok(Value::from(order(a)? == Ordering::Less))),
    func("le", "rr", |_, a| Ok(Value::from(order(a)? != Ordering::Greater))),
    func("gt", "rr", |_, a| Ok(Value::from(order(a)? == Ordering::Greater))),
    func("ge", "rr", |_, a| Ok(Value::from(order(a)? != Ordering::Less))),
    func("index", "rr*", index),
    func("len", "r", len),
    func("print", "v*", |_, a| Ok(Value::from(sprint(a)))),
    func("println", "v*", |_, a| {
        Ok(Value::from(a.iter().map(to_string).collect::<Vec<_>>().join(" ") + "\n"))
    }),
    func("printf", "sv*", |_, a| Ok(Value::from(sprintf(str_arg(a, 0)?, &a[1..])))),
    func("html", "v*", |_, a| Ok(Value::from(escape_html(&sprint_all(a))))),
    func("urlquery", "v*", |_, a| Ok(Value::from(super::urls::query_escape(&sprint_all(a))))),
    func("js", "v*", |_, a| Ok(Value::from(escape_js(&sprint_all(a))))),
    func("call", "rr*", |cx, a| {
        // No value that a chart can reach is a function.
        Err(FnError::text(if is_nil(&a[0]) {
            "call of nil".to_owned()
        } else {
            let shown = cx.command();
            let name = shown.split_whitespace().nth(1).unwrap_or(&shown);
            format!("non-function {name} of type {}", type_name(&a[0]))
        }))
    }),
    func("include", "sv", |cx, a| {
        let name = str_arg(a, 0)?;
        // It may be that of a library chart that is not there.
        if cx.rt.env.is_lenient() && !cx.rt.has(name) {
            return Ok(Value::from(""));
        }
        cx.include(name, &a[1]).map(Value::from)
    }),
    func("tpl", "sv", |cx, a| cx.tpl(str_arg(a, 0)?, &a[1]).map(Value::from)),
    func("required", "sv", |cx, a| {
        let unset = is_nil(&a[1]) || a[1].as_str() == Some("");
        if unset && cx.rt.env.is_lenient() {
            return Ok(Value::from(""));
        }
        if unset { Err(FnError::Fail(str_arg(a, 0)?.to_owned())) } else { Ok(a[1].clone()) }
    }),
    func("fail", "s", |cx, a| {
        if cx.rt.env.is_lenient() {
            return Ok(Value::from(""));
        }
        Err(FnError::Fail(str_arg(a, 0)?.to_owned()))
    }),
    func("lookup", "ssss", |_, _| Ok(empty_dict())),
    func("getHostByName", "s", |_, _| Ok(Value::from(""))),
    func("hello", "", |_, _| Ok(Value::from("Hello!"))),
    func("default", "vv*", |_, a| {
        Ok(match a.get(1) {
            Some(v) if v.is_true() => v.clone(),
            _ => a[0].clone(),
        })
    }),
    func("empty", "v", |_, a| Ok(Value::from(!a[0].is_true()))),
    func("coalesce", "v*", |_, a| Ok(a.iter().find(|v| v.is_true()).cloned().unwrap_or_else(nil))),
    func("all", "v*", |_, a| Ok(Value::from(a.iter().all(Value::is_true)))),
    func("any", "v*", |_, a| Ok(Value::from(a.iter().any(Value::is_true)))),
    func("ternary", "vvb", |_, a| {
        let v = as_bool(&a[2]).ok_or_else(|| super::wrong(&a[2], "bool"))?;
        Ok(a[usize::from(!v)].clone())
    }),
    func("typeOf", "v", |_, a| Ok(Value::from(type_name(&a[0])))),
    func("typeIs", "sv", |_, a| Ok(Value::from(str_arg(a, 0)? == type_name(&a[1])))),
    func("typeIsLike", "sv", |_, a| {
        let (want, is) = (str_arg(a, 0)?, type_name(&a[1]));
        Ok(Value::from(want == is || is.strip_prefix('*') == Some(want)))
    }),
    func("kindOf", "v", |_, a| Ok(Value::from(kind_name(&a[0])))),
    func("kindIs", "sv", |_, a| Ok(Value::from(str_arg(a, 0)? == kind_name(&a[1])))),
    func("deepEqual", "vv", |_, a| Ok(Value::from(deep_equal(&a[0], &a[1], 0)))),
    func("deepCopy", "v", |_, a| copied(&a[0])),
    func("mustDeepCopy", "v", |_, a| copied(&a[0])),
    func("toString", "v", |_, a| Ok(Value::from(strval(&a[0])))),
];

fn copied(v: &Value) -> Outcome {
    if is_nil(v) { Err(no_type()) } else { deep_copy(v, 0) }
}

/// What Go says of a nil where it asks for the type.
pub(super) fn no_type() -> FnError {
    FnError::text("reflect: call of reflect.Value.Type on zero Value")
}

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

/// What the escapers print: as an action would print each operand.
fn sprint_all(args: &[Value]) -> String {
    let shown: Vec<Value> =
        args.iter().map(|v| if is_nil(v) { Value::from("<no value>") } else { v.clone() }).collect();
    sprint(&shown)
}

fn escape_js(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c < ' ' || (!c.is_ascii() && !printable(c)) => {
                out.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => out.push(c),
        }
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

fn eq(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
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
            } else if let Some(same) = super::dates::same_time(&a[0], other) {
                same
            } else {
                let reason = format!(
                    "non-comparable type {}: {}",
                    sprintf("%s", &a[..1]),
                    type_name(if is_container(&a[0]) { &a[0] } else { other })
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

fn is_container(v: &Value) -> bool {
    as_dict(v).is_some() || as_list(v).is_some()
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

fn index(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
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
        } else if let Some(files) = as_files(&v) {
            let empty = || Value::from_bytes(Vec::new());
            key.as_str().and_then(|k| files.get(k).cloned()).unwrap_or_else(empty)
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
        _ => Err(FnError::Text(format!("index out of range: {i}"))),
    }
}

fn len(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let n = if let Some(d) = as_dict(&a[0]) {
        d.len()
    } else if let Some(l) = as_list(&a[0]) {
        l.items.len()
    } else if let Some(files) = as_files(&a[0]) {
        files.len()
    } else if let Some(s) = a[0].as_str() {
        to_bytes(s).len()
    } else if let Some(b) = a[0].as_bytes() {
        b.len()
    } else if is_nil(&a[0]) {
        return Err(FnError::text(if cx.is_interface(0) {
            "len of nil pointer"
        } else {
            "reflect: call of reflect.Value.Type on zero Value"
        }));
    } else {
        return Err(FnError::text(format!("len of type {}", type_name(&a[0]))));
    };
    Ok(Value::from(n as u64))
}

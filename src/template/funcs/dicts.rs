//! Sprig's dict functions. `set`, `unset` and the merges change the map that they are given.

use std::sync::Arc;

use minijinja::value::Value;

use super::super::error::FnError;
use super::super::runtime::Cx;
use super::super::value::{Dict, List, MAX_VALUE_DEPTH, Map, VALUES_TYPE, as_dict, is_nil, type_name};
use super::{Builtin, Outcome, dict_arg, dict_to_change, func, nil, str_arg, strval};

pub(super) const TABLE: &[Builtin] = &[
    func("dict", "v*", |_, a| {
        let pairs = a
            .chunks(2)
            .map(|p| (Arc::from(strval(&p[0])), p.get(1).cloned().unwrap_or_else(|| Value::from(""))));
        Ok(Dict::value(pairs.collect()))
    }),
    func("get", "ds", |_, a| Ok(dict_arg(a, 0)?.get(str_arg(a, 1)?).unwrap_or_else(|| Value::from("")))),
    func("set", "dsv", |cx, a| {
        let key = str_arg(a, 1)?;
        cx.put(dict_to_change(a, 0)?, key, a[2].clone())?;
        Ok(a[0].clone())
    }),
    func("unset", "ds", |_, a| {
        dict_to_change(a, 0)?.unset(str_arg(a, 1)?);
        Ok(a[0].clone())
    }),
    func("hasKey", "ds", |_, a| Ok(Value::from(dict_arg(a, 0)?.has(str_arg(a, 1)?)))),
    func("keys", "d*", |_, a| {
        let mut out = Vec::new();
        for i in 0..a.len() {
            out.extend(dict_arg(a, i)?.entries().into_keys());
        }
        Ok(List::strings(out))
    }),
    func("values", "d", |_, a| Ok(List::value(dict_arg(a, 0)?.entries().into_values().collect()))),
    func("pluck", "sd*", |_, a| {
        let key = str_arg(a, 0)?;
        let mut out = Vec::new();
        for i in 1..a.len() {
            out.extend(dict_arg(a, i)?.get(key));
        }
        Ok(List::value(out))
    }),
    func("pick", "ds*", |_, a| {
        let d = dict_arg(a, 0)?;
        let mut out = Map::new();
        for i in 1..a.len() {
            let key = str_arg(a, i)?;
            if let Some(v) = d.get(key) {
                out.insert(key.into(), v);
            }
        }
        Ok(Dict::value(out))
    }),
    func("omit", "ds*", |_, a| {
        let mut out = dict_arg(a, 0)?.entries();
        for i in 1..a.len() {
            out.remove(str_arg(a, i)?);
        }
        Ok(Dict::value(out))
    }),
    func("merge", "dd*", |cx, a| merge_all(cx, a, false)),
    func("mustMerge", "dd*", |cx, a| merge_all(cx, a, false)),
    func("mergeOverwrite", "dd*", |cx, a| merge_all(cx, a, true)),
    func("mustMergeOverwrite", "dd*", |cx, a| merge_all(cx, a, true)),
    func("dig", "v*", |_, a| dig(a)),
];

fn merge_all(cx: &Cx<'_>, a: &[Value], overwrite: bool) -> Outcome {
    for i in 1..a.len() {
        merge(cx, dict_to_change(a, 0)?, dict_arg(a, i)?, overwrite, 0)?;
    }
    Ok(a[0].clone())
}

/// `mergo.Merge`: what is unset or empty in `dst` is taken from `src`; with `overwrite`, what `src` has wins, and
/// only then a null counts. Maps merge deeply, in place.
fn merge(cx: &Cx<'_>, dst: &Dict, src: &Dict, overwrite: bool, depth: usize) -> Result<(), FnError> {
    if depth > MAX_VALUE_DEPTH {
        return Err(FnError::text(format!("value is nested deeper than {MAX_VALUE_DEPTH} levels")));
    }
    for (key, from) in src.entries() {
        let old = dst.get(&key);
        if is_nil(&from) {
            if overwrite {
                cx.put(dst, &key, from)?;
            }
            continue;
        }
        if let Some(old) = &old {
            if let (Some(d), Some(s)) = (as_dict(old), as_dict(&from))
                && !d.is_empty()
            {
                merge(cx, d, s, overwrite, depth + 1)?;
                continue;
            }
            if old.is_true() && !overwrite {
                continue;
            }
        }
        cx.put(dst, &key, from)?;
    }
    Ok(())
}

fn dig(a: &[Value]) -> Outcome {
    if a.len() < 3 {
        return Err(FnError::text("dig needs at least three arguments"));
    }
    let (path, tail) = a.split_at(a.len() - 2);
    let mut v = tail[1].clone();
    for (i, _) in path.iter().enumerate() {
        let Some(d) = as_dict(&v).filter(|d| d.type_name() != VALUES_TYPE) else {
            let reason = format!(
                "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                if is_nil(&v) { "nil" } else { type_name(&v) }
            );
            return Err(FnError::text(reason));
        };
        match d.get(str_arg(path, i)?) {
            Some(next) => v = next,
            None => return Ok(tail[0].clone()),
        }
    }
    Ok(if v.is_undefined() { nil() } else { v })
}

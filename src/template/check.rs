//! Whether arguments fit parameters, and what Go says when they do not: a constant is read as the type that is wanted, a
//! nil fits what can be nil unless Go knows it as `interface {}`, and everything else must be the very type.

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use super::ast::{Cmd, Kind};
use super::funcs::Builtin;
use super::runtime::Runtime;
use super::site::Site;
use super::value::{Record, as_bool, as_dict, as_list, int, is_nil, type_name};

/// Go's name of a parameter's type.
pub(crate) fn name(letter: u8) -> &'static str {
    match letter {
        b's' => "string",
        b'i' => "int",
        b'u' => "uint32",
        b'f' => "float64",
        b'b' => "bool",
        b'd' => "map[string]interface {}",
        b'l' => "[]interface {}",
        b't' => "time.Time",
        b'c' => "sprig.certificate",
        _ => "interface {}",
    }
}

/// Whether a value is of the type; a nil is of none but `interface {}`.
fn fits(letter: u8, v: &Value) -> bool {
    match letter {
        b'v' | b'r' => true,
        b's' => v.kind() == ValueKind::String,
        b'b' => v.kind() == ValueKind::Bool,
        b'i' => type_name(v) == "int",
        b'f' => type_name(v) == "float64",
        b'd' => as_dict(v).is_some() && type_name(v) != "map[string]string",
        b'l' => as_list(v).is_some_and(|l| l.type_name == name(b'l')),
        b't' | b'c' => v.downcast_object_ref::<Record>().is_some_and(|r| r.type_name == name(letter)),
        _ => false,
    }
}

/// Checks the arguments of a call. Where a constant is to be read as another type, gives the arguments anew.
pub(crate) fn arguments(
    rt: &Runtime,
    site: &Site,
    builtin: &Builtin,
    cmd: Option<&Cmd>,
    interfaces: u64,
    args: &[Value],
) -> Result<Option<Vec<Value>>, Error> {
    let (types, variadic) = builtin.types();
    let fixed = types.len() - usize::from(variadic);
    if if variadic { args.len() < fixed } else { args.len() != fixed } {
        let want = if variadic { format!("at least {fixed}") } else { fixed.to_string() };
        let reason = format!("wrong number of args for {}: want {want} got {}", builtin.name, args.len());
        return Err(rt.fail_at(site, site.pos, builtin.name.into(), reason));
    }
    let mut changed: Option<Vec<Value>> = None;
    for (i, v) in args.iter().enumerate() {
        let letter = types[i.min(types.len() - 1)];
        if fits(letter, v) {
            continue;
        }
        let interface = i < 64 && interfaces >> i & 1 == 1;
        match misfit(letter, v, cmd.and_then(|c| c.args.get(i + 1)).map(|e| &e.kind), interface) {
            Ok(None) => {}
            Ok(Some(v)) => changed.get_or_insert_with(|| args.to_vec())[i] = v,
            Err(reason) => {
                // What comes through a pipe has no node here: the last one visited is to blame.
                let blamed = cmd.and_then(|c| c.args.get(i + 1).or_else(|| c.args[1..].last()));
                let (pos, node) = blamed.map_or_else(|| (site.pos, builtin.name.to_owned()), |e| e.last());
                return Err(rt.fail_at(site, pos, node, reason));
            }
        }
    }
    Ok(changed)
}

/// What becomes of an argument of another type: nothing, another value, or an error.
fn misfit(letter: u8, v: &Value, given: Option<&Kind>, interface: bool) -> Result<Option<Value>, String> {
    let want = name(letter);
    let can_be_nil = matches!(letter, b'd' | b'l');
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    match given {
        Some(Kind::Nil) if can_be_nil => return Ok(None),
        Some(Kind::Nil) => return Err(format!("cannot assign nil to {want}")),
        Some(kind @ (Kind::Bool(_) | Kind::Int(..) | Kind::Float(..) | Kind::Str { .. })) => {
            match (letter, kind) {
                (b'i', Kind::Float(f, _)) if f.fract() == 0.0 => return Ok(Some(int(*f as i64))),
                (b'u', Kind::Int(i, _)) if *i >= 0 => return Ok(None),
                (b'f', Kind::Int(i, _)) => return Ok(Some(Value::from(*i as f64))),
                _ => {}
            }
            let shown = match kind {
                Kind::Int(_, t) | Kind::Float(_, t) | Kind::Str { text: t, .. } => t.clone(),
                _ => as_bool(v).unwrap_or_default().to_string(),
            };
            return Err(match letter {
                b's' => format!("expected string; found {shown}"),
                b'i' => format!("expected integer; found {shown}"),
                b'u' => format!("expected unsigned integer; found {shown}"),
                b'f' => format!("expected float; found {shown}"),
                b'b' => format!("expected bool; found {shown}"),
                _ => format!("can't handle {shown} for arg of type {want}"),
            });
        }
        _ => {}
    }
    if !is_nil(v) {
        return Err(format!("wrong type for value; expected {want}; got {}", type_name(v)));
    }
    if interface {
        return Err(format!("wrong type for value; expected {want}; got interface {{}}"));
    }
    if can_be_nil { Ok(None) } else { Err(format!("invalid value; expected {want}")) }
}

/// The same for a method whose parameters are all strings.
pub(crate) fn strings(
    rt: &Runtime,
    site: &Site,
    method: &str,
    want: usize,
    args: &[Value],
) -> Result<(), Error> {
    if args.len() != want {
        return Err(
            rt.text(site, format!("wrong number of args for {method}: want {want} got {}", args.len()))
        );
    }
    match args.iter().find(|v| v.as_str().is_none()) {
        None => Ok(()),
        Some(v) if is_nil(v) => Err(rt.text(site, "invalid value; expected string")),
        Some(v) => Err(rt.text(site, format!("wrong type for value; expected string; got {}", type_name(v)))),
    }
}

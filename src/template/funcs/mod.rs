//! The functions that templates may call, as tables of name, number of arguments and implementation.
//!
//! Sources: `text/template` for the core, Sprig 3.3 for most, Helm's `engine/funcs.go` for the rest.

mod certs;
mod core;
mod crypto;
mod dates;
mod dicts;
mod durations;
mod encoding;
mod lists;
mod math;
mod regex;
mod semver;
mod strings;
mod toml;
mod urls;

use std::collections::HashMap;
use std::sync::OnceLock;

use minijinja::value::Value;

use super::engine::Cx;
use super::error::FnError;
use super::value::{Dict, as_dict, as_float, as_int, as_list, is_nil, type_name};

pub(super) use super::value::nil;
pub(crate) use encoding::to_yaml;

/// Whether `version` meets `constraint`.
pub(super) fn satisfies(constraint: &str, version: &str) -> bool {
    semver::Version::parse(version).is_ok_and(|v| semver::satisfies(constraint, &v).unwrap_or(false))
}

type Outcome = Result<Value, FnError>;
type Run = fn(&mut Cx<'_, '_, '_>, &[Value]) -> Outcome;

/// A function of the table.
///
/// The parameters are a letter each: `s` string, `i` int, `u` uint32, `f` float64, `b` bool, `d` map, `l` slice of
/// anything, `t` time, `c` certificate, `v` anything, `r` anything as `reflect.Value`; a `*` says that the last one
/// takes any number of arguments.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    pub(crate) params: &'static str,
    pub(crate) run: Run,
}

impl Builtin {
    /// The letters of the parameters, and whether the last one repeats.
    pub(crate) fn types(&self) -> (&'static [u8], bool) {
        match self.params.strip_suffix('*') {
            Some(letters) => (letters.as_bytes(), true),
            None => (self.params.as_bytes(), false),
        }
    }
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn func(name: &'static str, params: &'static str, run: Run) -> Builtin {
    Builtin { name, params, run }
}

/// The function of this name.
pub(crate) fn lookup(name: &str) -> Option<&'static Builtin> {
    static TABLE: OnceLock<HashMap<&'static str, &'static Builtin>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let tables: [&'static [Builtin]; 14] = [
            core::TABLE,
            certs::TABLE,
            crypto::TABLE,
            dates::TABLE,
            dicts::TABLE,
            durations::TABLE,
            encoding::TABLE,
            lists::TABLE,
            math::TABLE,
            regex::TABLE,
            semver::TABLE,
            strings::TABLE,
            toml::TABLE,
            urls::TABLE,
        ];
        tables.into_iter().flatten().map(|b| (b.name, b)).collect()
    });
    table.get(name).copied()
}

fn wrong(v: &Value, want: &str) -> FnError {
    FnError::Argument(if is_nil(v) {
        format!("invalid value; expected {want}")
    } else {
        format!("wrong type for value; expected {want}; got {}", type_name(v))
    })
}

fn str_arg(args: &[Value], i: usize) -> Result<&str, FnError> {
    args[i].as_str().ok_or_else(|| wrong(&args[i], "string"))
}

fn int_arg(args: &[Value], i: usize) -> Result<i64, FnError> {
    as_int(&args[i]).ok_or_else(|| wrong(&args[i], "int"))
}

fn float_arg(args: &[Value], i: usize) -> Result<f64, FnError> {
    #[allow(clippy::cast_precision_loss)]
    as_float(&args[i])
        .or_else(|| as_int(&args[i]).map(|n| n as f64))
        .ok_or_else(|| wrong(&args[i], "float64"))
}

/// A map to read from. Go takes an untyped nil for a nil map, which is empty.
fn dict_arg(args: &[Value], i: usize) -> Result<&Dict, FnError> {
    static EMPTY: OnceLock<Value> = OnceLock::new();
    if is_nil(&args[i]) {
        let empty = EMPTY.get_or_init(|| Dict::value(super::value::Map::new()));
        return as_dict(empty).ok_or_else(|| wrong(&args[i], "map[string]interface {}"));
    }
    dict_to_change(args, i)
}

/// A map to write to.
fn dict_to_change(args: &[Value], i: usize) -> Result<&Dict, FnError> {
    if is_nil(&args[i]) {
        return Err(FnError::text("assignment to entry in nil map"));
    }
    as_dict(&args[i]).ok_or_else(|| wrong(&args[i], "map[string]interface {}"))
}

/// The elements of a slice; `verb` is what Sprig says it cannot do with anything else.
fn items<'a>(v: &'a Value, verb: &str) -> Result<&'a [Value], FnError> {
    match as_list(v) {
        Some(l) => Ok(&l.items),
        None => Err(FnError::text(format!("Cannot {verb} type {}", super::value::kind_name(v)))),
    }
}

/// Sprig's `strval`.
fn strval(v: &Value) -> String {
    match v.as_bytes() {
        Some(b) if v.as_str().is_none() => String::from_utf8_lossy(b).into_owned(),
        _ => super::fmt::to_string(v),
    }
}

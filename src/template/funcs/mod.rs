//! The functions that templates may call, as tables of name, number of arguments and implementation.
//!
//! Sources: `text/template` for the core, Sprig 3.3 for most, Helm's `engine/funcs.go` for the rest.

mod certs;
mod constraint;
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

use std::borrow::Cow;

use std::collections::HashMap;
use std::sync::OnceLock;

use minijinja::value::Value;

use super::bounds::Effort;
use super::error::FnError;
use super::runtime::Cx;
use super::value::{Dict, as_dict, as_float, as_int, as_list, is_nil, type_name};

pub(super) use super::value::nil;
pub(crate) use encoding::to_yaml;

pub(super) fn semver_order(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    semver::order(a, b)
}

/// Whether `version` meets `constraint`.
pub(super) fn satisfies(constraint: &str, version: &str) -> bool {
    let (Ok(c), Ok(v)) = (constraint::Constraint::parse(constraint), semver::Version::parse(version)) else {
        return false;
    };
    c.holds(&v)
}

type Outcome = Result<Value, FnError>;
type Run = fn(&mut Cx<'_>, &[Value]) -> Outcome;

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

/// Where a function comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `text/template` itself.
    Go,
    /// The Sprig library.
    Sprig,
    /// Helm, which also replaces some of Sprig's.
    Helm,
}

/// What Helm binds over Go's and Sprig's functions, or adds to them.
const HELM: &str = "include tpl required fail lookup getHostByName toYaml mustToYaml toYamlPretty fromYaml \
    fromYamlArray toJson mustToJson fromJson fromJsonArray toToml mustToToml fromToml mustToDuration durationSeconds \
    durationMilliseconds durationMicroseconds durationNanoseconds durationMinutes durationHours durationDays \
    durationWeeks durationRoundTo durationTruncateTo";

/// Go's own functions, but `slice`, which Sprig replaces.
const GO: &str = "and or not eq ne lt le gt ge index len print println printf html js urlquery call";

/// A function that templates may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The name.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// The Go types of its parameters; `...` before the last says that it may be given any number of times.
    pub parameters: Vec<String>,
}

/// Every function, by name.
pub fn functions() -> Vec<Function> {
    let within = |list: &str, name: &str| list.split_whitespace().any(|n| n == name);
    let about = |b: &'static Builtin| {
        let (types, variadic) = b.types();
        let mut parameters: Vec<String> = types.iter().map(|t| super::check::name(*t).to_owned()).collect();
        if let Some(last) = parameters.last_mut().filter(|_| variadic) {
            last.insert_str(0, "...");
        }
        let source = if within(HELM, b.name) {
            Source::Helm
        } else if within(GO, b.name) {
            Source::Go
        } else {
            Source::Sprig
        };
        Function { name: b.name, source, parameters }
    };
    let mut out: Vec<_> = TABLES.into_iter().flatten().map(about).collect();
    out.sort_by_key(|f| f.name);
    out
}

const TABLES: [&[Builtin]; 14] = [
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

/// A function with what it costs.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) builtin: &'static Builtin,
    pub(crate) effort: Effort,
}

/// The function of this name.
pub(crate) fn lookup(name: &str) -> Option<&'static Known> {
    static TABLE: OnceLock<HashMap<&'static str, Known>> = OnceLock::new();
    let known = |builtin: &'static Builtin| Known { builtin, effort: Effort::of(builtin.name) };
    TABLE.get_or_init(|| TABLES.into_iter().flatten().map(|b| (b.name, known(b))).collect()).get(name)
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

/// A string as the bytes that Go would see.
fn bytes_arg(args: &[Value], i: usize) -> Result<Cow<'_, [u8]>, FnError> {
    str_arg(args, i).map(super::bytes::to_bytes)
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
        None if is_nil(v) => {
            Err(FnError::text("runtime error: invalid memory address or nil pointer dereference"))
        }
        None => Err(FnError::text(format!("Cannot {verb} type {}", super::value::kind_name(v)))),
    }
}

/// Sprig's `strval`.
fn strval(v: &Value) -> String {
    match v.as_bytes() {
        Some(b) if super::fmt::as_text(v).is_none() => super::bytes::from_bytes(b),
        _ => super::fmt::to_string(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What helm 4.3.1 has: Go's own functions, Sprig 3.3.0's without `env` and `expandenv`, and what Helm adds.
    const NAMES: &str = include_str!("names.txt");

    #[test]
    fn there_is_every_function_that_helm_has_and_no_other() {
        let mut want: Vec<&str> = NAMES.split_whitespace().collect();
        want.sort_unstable();
        let got: Vec<&str> = functions().iter().map(|f| f.name).collect();
        assert_eq!(got, want);
        for list in [HELM, GO] {
            assert!(list.split_whitespace().all(|n| lookup(n).is_some()), "{list}");
        }
    }
}

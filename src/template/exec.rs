//! The helper functions that lowered templates call: calls, fields, methods, loops, output.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::bounds::Effort;
use super::error::{Cause, FnError, TemplateError};
use super::funcs::Known;
use super::runtime::{Cx, Runtime, carry};
use super::site::{Site, What};
use super::value::{
    Cell, Dict, FILES_TYPE, List, MAP_TYPE, Record, VALUES_TYPE, VERSION_SET, as_dict, as_int, as_list, int,
    is_nil, nil, type_name,
};
use super::{check, fmt};

type Run = fn(&Runtime, &mut State<'_, '_>, &[Value]) -> Result<Value, Error>;

/// The helper functions that lowered templates call.
struct Helper {
    rt: Arc<Runtime>,
    run: Run,
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Helper")
    }
}

impl Object for Helper {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        (self.run)(&self.rt, state, args)
    }
}

fn call(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Call { func, cmd, interfaces } = &site.what else {
        return Err(rt.text(&site, "not a call"));
    };
    let args = &args[1..];
    let builtin = func.builtin;
    rt.work(&site, 1)?;
    let changed = check::arguments(rt, &site, builtin, cmd.as_deref(), *interfaces, args)?;
    let args = changed.as_deref().unwrap_or(args);
    let mut cx = Cx { rt, site: &site };
    bounded(&mut cx, func, args).map_err(|error| match error {
        FnError::Argument(reason) => rt.text(&site, reason),
        error => rt.fail(&site, Cause::Calling { func: builtin.name.to_owned(), error }),
    })
}

/// Runs a function; what it is given and gives is counted against the limits.
fn bounded(cx: &mut Cx<'_>, func: &Known, args: &[Value]) -> Result<Value, FnError> {
    let (builtin, effort) = (func.builtin, func.effort);
    let bytes = if effort.walks {
        cx.rt.walkable(builtin.name, args)?
    } else {
        args.iter().filter_map(|v| v.as_str().map(str::len)).sum()
    };
    cx.effort(effort, bytes)?;
    cx.expect_values(bytes)?;
    let value = (builtin.run)(cx, args)?;
    if !cx.rt.account.keep(&value) {
        return Err(cx.rt.full());
    }
    if let Some(s) = value.as_str() {
        cx.spend(s.len())?;
    } else if let Some(l) = as_list(&value) {
        cx.steps(l.items.len() / 4)?;
    }
    Ok(value)
}

/// One step of a field chain: a map entry, a struct's field or a method without arguments.
///
/// `dynamic` says that Go knows the receiver as `interface {}` only.
fn step(rt: &Runtime, site: &Site, receiver: &Value, name: &Arc<str>, dynamic: bool) -> Result<Value, Error> {
    if let Some(d) = as_dict(receiver) {
        if d.type_name() == VALUES_TYPE {
            match &**name {
                "AsMap" => return Ok(d.typed_as(MAP_TYPE)),
                "YAML" => {
                    let text = || {
                        let bytes = rt.walkable("toYaml", std::slice::from_ref(receiver))?;
                        Cx { rt, site }.effort(Effort::of("toYaml"), bytes)?;
                        let text = super::to_yaml(receiver).map_err(|e| FnError::text(e.to_string()))?;
                        Cx { rt, site }.spend(text.len())?;
                        let value = Value::from(text + "\n");
                        if rt.account.keep(&value) { Ok(value) } else { Err(rt.full()) }
                    };
                    return text().map_err(|error| method_failed(rt, site, name, error));
                }
                "Table" | "PathValue" => {
                    return Err(rt.text(site, format!("wrong number of args for {name}: want 1 got 0")));
                }
                _ => {}
            }
        }
        return Ok(d.get(name).unwrap_or_else(nil));
    }
    if let Some(r) = receiver.downcast_object_ref::<Record>() {
        if let Some(v) = r.fields.get(name) {
            return Ok(v.clone());
        }
        if let Some(n) = string_method(r, name) {
            check::strings(rt, site, name, n, &[])?;
        }
        if let Some(result) = (r.methods)(r, name, &[]) {
            return made(rt, site, r, name, result).map_err(|error| method_failed(rt, site, name, error));
        }
        if r.type_name == FILES_TYPE {
            // A map of byte slices in Go: what it lacks is an empty one.
            return Ok(Value::from_bytes(Vec::new()));
        }
    }
    if as_list(receiver).is_some_and(|l| l.type_name == VERSION_SET) && &**name == "Has" {
        check::strings(rt, site, name, 1, &[])?;
    }
    let reason = if is_nil(receiver) {
        format!("nil pointer evaluating interface {{}}.{name}")
    } else {
        let known = if dynamic { "interface {}" } else { type_name(receiver) };
        format!("can't evaluate field {name} in type {known}")
    };
    Err(rt.text(site, reason))
}

/// Counts what a method made, as [`bounded`] does for functions.
fn made(
    rt: &Runtime,
    site: &Site,
    of: &Record,
    name: &str,
    result: Result<Value, FnError>,
) -> Result<Value, FnError> {
    let value = result?;
    let cx = Cx { rt, site };
    let bytes = value.as_str().map_or(0, str::len) + as_list(&value).map_or(0, |l| l.items.len());
    cx.steps(match name {
        "Glob" => 1 + of.fields.len() / 2,
        "AsConfig" | "AsSecrets" => 1 + of.fields.len() + bytes / 8,
        _ => 1 + bytes / 64,
    })?;
    cx.spend(bytes)?;
    if rt.account.keep(&value) { Ok(value) } else { Err(rt.full()) }
}

fn method_failed(rt: &Runtime, site: &Site, name: &str, error: FnError) -> Error {
    match error {
        FnError::Argument(reason) => rt.text(site, reason),
        error => rt.fail(site, Cause::Calling { func: name.to_owned(), error }),
    }
}

/// How many strings a method of `.Files` wants.
fn string_method(r: &Record, name: &str) -> Option<usize> {
    match name {
        _ if r.type_name != FILES_TYPE => None,
        "Get" | "GetBytes" | "Glob" | "Lines" => Some(1),
        "AsConfig" | "AsSecrets" => Some(0),
        _ => None,
    }
}

fn field(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Fields { names, element } = &site.what else { return Err(rt.text(&site, "not a field")) };
    let mut value = args[1].clone();
    if is_nil(&value) && !element {
        // Go: a chain that starts from an untyped nil is nil all the way.
        return Ok(nil());
    }
    let mut within_struct = false;
    for (i, name) in names.iter().enumerate() {
        // Go knows the types of a struct's fields, but not those of a map's values.
        let next = step(rt, &site, &value, name, (*element || i > 0) && !within_struct)?;
        within_struct = value.downcast_object_ref::<Record>().is_some();
        value = next;
    }
    Ok(value)
}

/// Whether a value has a method of that name, which can be called with arguments.
fn has_method(value: &Value, name: &str) -> bool {
    if let Some(r) = value.downcast_object_ref::<Record>() {
        return match r.type_name {
            FILES_TYPE => string_method(r, name).is_some(),
            // Times, durations and versions.
            _ => {
                r.text.is_some()
                    && name.starts_with(|c: char| c.is_ascii_uppercase())
                    && !r.fields.contains_key(name)
            }
        };
    }
    match as_dict(value) {
        Some(d) => d.type_name() == VALUES_TYPE && matches!(name, "Table" | "PathValue" | "YAML" | "AsMap"),
        None => as_list(value).is_some_and(|l| l.type_name == VERSION_SET) && name == "Has",
    }
}

/// The base of a method call, if what the names before the last lead to has such a method.
fn base_of_method(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Fields { names, element } = &site.what else { return Err(rt.text(&site, "not a field")) };
    let Some((last, path)) = names.split_last() else { return Err(rt.text(&site, "not a method")) };
    let mut value = args[1].clone();
    for (i, name) in path.iter().enumerate() {
        value = step(rt, &site, &value, name, *element || i > 0)?;
    }
    // What such a version has as fields are methods in Go.
    let version = value
        .downcast_object_ref::<Record>()
        .is_some_and(|r| r.type_name.contains("semver.") && r.fields.contains_key(last));
    if version || as_dict(&value).is_some() && matches!(&**last, "YAML" | "AsMap") && has_method(&value, last)
    {
        let got = &args[2];
        return Err(rt.text(&site, format!("wrong number of args for {last}: want 0 got {got}")));
    }
    if !has_method(&value, last) {
        step(rt, &site, &value, last, *element || !path.is_empty())?;
        return Err(rt.text(&site, format!("{last} is not a method but has arguments")));
    }
    Ok(value)
}

/// A method with what was given to it last in front.
fn method_last(rt: &Runtime, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let mut args = args.to_vec();
    args[1..].rotate_left(1);
    method(rt, state, &args)
}

/// A method of a value that [`base_of_method`] gave.
fn method(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Fields { names, .. } = &site.what else { return Err(rt.text(&site, "not a field")) };
    let Some(last) = names.last() else { return Err(rt.text(&site, "not a method")) };
    let (value, args) = (&args[1], &args[2..]);
    if let Some(r) = value.downcast_object_ref::<Record>() {
        if let Some(n) = string_method(r, last) {
            check::strings(rt, &site, last, n, args)?;
        }
        // A pattern is compiled each time.
        let bytes: usize = args.iter().filter_map(|v| v.as_str().map(str::len)).sum();
        rt.work(&site, 1 + bytes as u64 / 2)?;
        if let Some(result) = (r.methods)(r, last, args) {
            return made(rt, &site, r, last, result).map_err(|error| method_failed(rt, &site, last, error));
        }
        step(rt, &site, value, last, false)?;
    }
    if let Some(d) = as_dict(value) {
        check::strings(rt, &site, last, 1, args)?;
        let path = args[0].as_str().unwrap_or_default();
        let found = if &**last == "Table" { table(d, path) } else { path_value(d, path) };
        return found.map_err(|reason| method_failed(rt, &site, last, FnError::Text(reason)));
    }
    if let Some(l) = as_list(value) {
        check::strings(rt, &site, last, 1, args)?;
        return Ok(Value::from(l.items.iter().any(|v| v == &args[0])));
    }
    Err(rt.text(&site, format!("{last} is not a method but has arguments")))
}

/// `Values.PathValue`: the value at a path with dots, which is no map.
fn path_value(values: &Dict, path: &str) -> Result<Value, String> {
    if path.is_empty() {
        return Err("YAML path cannot be empty".into());
    }
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    let missing = || format!("{} is not a value", super::go_quote(key));
    let above = if above.is_empty() {
        values.typed_as(VALUES_TYPE)
    } else {
        table(values, above).map_err(|_| missing())?
    };
    as_dict(&above).and_then(|d| d.get(key)).filter(|v| as_dict(v).is_none()).ok_or_else(missing)
}

/// `Values.Table`: the map at a path with dots.
fn table(values: &Dict, path: &str) -> Result<Value, String> {
    let mut at = values.typed_as(MAP_TYPE);
    for name in path.split('.') {
        let next = as_dict(&at).and_then(|d| d.get(name));
        at = next.filter(|v| as_dict(v).is_some()).ok_or_else(|| format!("{name:?} is not a table"))?;
    }
    Ok(as_dict(&at).map_or_else(nil, |d| d.typed_as(VALUES_TYPE)))
}

/// What a `for` loop goes over; an element is made when it is wanted.
#[derive(Debug)]
enum Over {
    /// Up to this number.
    Count(usize),
    List(Arc<List>),
    /// A map's, since the body may change the map.
    Entries(Vec<(Arc<str>, Value)>),
}

impl Over {
    fn of(rt: &Runtime, site: &Site, over: &Value) -> Result<Self, Error> {
        if is_nil(over) {
            return Ok(Self::Count(0));
        }
        if let Some(list) = over.downcast_object::<List>() {
            return Ok(Self::List(list));
        }
        if let Some(d) = as_dict(over) {
            return Ok(Self::Entries(d.entries().into_iter().collect()));
        }
        if let Some(r) = over.downcast_object_ref::<Record>() {
            // Types such as Files are maps in Go and give their entries here.
            if let Some(Ok(entries)) = (r.methods)(r, " range", &[]) {
                return Self::of(rt, site, &entries);
            }
        }
        let Some(n) = as_int(over) else {
            return Err(rt.text(site, format!("range can't iterate over {}", fmt::to_string(over))));
        };
        if n > rt.limits.max_items {
            let reason = format!("range over {n}, more than the {} allowed", rt.limits.max_items);
            return Err(rt.text(site, reason));
        }
        Ok(Self::Count(usize::try_from(n).unwrap_or(0)))
    }

    fn len(&self) -> usize {
        match self {
            Self::Count(n) => *n,
            Self::List(l) => l.items.len(),
            Self::Entries(all) => all.len(),
        }
    }

    fn key(&self, i: usize) -> Value {
        match self {
            Self::Entries(all) => all.get(i).map_or_else(nil, |(k, _)| Value::from(k.clone())),
            Self::Count(_) | Self::List(_) => Value::from(i as u64),
        }
    }

    fn value(&self, i: usize) -> Option<Value> {
        match self {
            Self::Count(n) => (i < *n).then(|| Value::from(i as u64)),
            Self::List(l) => l.items.get(i).cloned(),
            Self::Entries(all) => all.get(i).map(|(_, v)| v.clone()),
        }
    }
}

/// The elements, for minijinja.
#[derive(Debug)]
struct Elements(Over);

impl Object for Elements {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.value(key.as_usize()?)
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

/// The keys and elements.
#[derive(Debug)]
struct Pairs(Over);

impl Object for Pairs {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let i = key.as_usize()?;
        Some(Value::from_object(Pair([self.0.key(i), self.0.value(i)?])))
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

#[derive(Debug)]
struct Pair([Value; 2]);

impl Object for Pair {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// What a loop goes over, once what that takes at least is counted.
fn over(rt: &Runtime, args: &[Value]) -> Result<Over, Error> {
    let site = rt.site(args)?;
    let over = Over::of(rt, &site, &args[1])?;
    if let What::Range(weight) = site.what {
        rt.work(&site, (over.len() as u64).saturating_mul(weight))?;
    }
    Ok(over)
}

fn range(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from_object(Elements(over(rt, args)?)))
}

fn range_pairs(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let over = over(rt, args)?;
    if let Over::Count(_) = over
        && !is_nil(&args[1])
    {
        let number = fmt::to_string(&args[1]);
        let reason = format!("can't use {number} to iterate over more than one variable");
        return Err(rt.text(rt.site(args)?.as_ref(), reason));
    }
    Ok(Value::from_object(Pairs(over)))
}

fn template(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let name = args[1].as_str().unwrap_or_default();
    rt.work(&site, 1)?;
    match rt.execute(name, &args[2]) {
        Ok(text) => Ok(Value::from(text)),
        Err(TemplateError::Exec(e)) => Err(carry(*e)),
        Err(TemplateError::Missing(name)) => Err(rt.text(&site, format!("template {name:?} not defined"))),
        Err(other) => Err(rt.text(&site, other.to_string())),
    }
}

fn print(rt: &Runtime, out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    if let Some(s) = fmt::as_text(value) {
        return out.write_str(s).map_err(Error::from);
    }
    if value.as_object().is_some() {
        rt.walkable("print", std::slice::from_ref(value))
            .map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
    }
    let text = if is_nil(value) { "<no value>".to_owned() } else { fmt::to_string(value) };
    out.write_str(&text).map_err(Error::from)
}

/// What a template is called in its environment; its branches have numbers.
pub(crate) const MAIN: &str = "main";

/// An environment with the helpers and nothing of minijinja's own.
pub(crate) fn environment(rt: &Arc<Runtime>) -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    let of = rt.clone();
    env.set_formatter(move |out, _, value| print(&of, out, value));
    env.set_fuel(Some(rt.limits.fuel));
    let of = rt.clone();
    env.set_loader(move |name| of.load(name));
    let helpers: [(&'static str, Run); 13] = [
        ("_c", call),
        ("_f", field),
        ("_m", method),
        ("_ml", method_last),
        ("_bm", base_of_method),
        ("_r", range),
        ("_p", range_pairs),
        ("_t", template),
        ("_e", |rt, _, args| Err(rt.text(&*rt.site(args)?, args[1].as_str().unwrap_or_default()))),
        ("_n", |_, _, args| Ok(int(as_int(&args[0]).map_or(i64::MIN, i64::wrapping_neg)))),
        ("_cell", |_, _, args| Ok(Cell::value(args[0].clone()))),
        ("_get", |_, _, args| Ok(args[0].downcast_object_ref::<Cell>().map_or_else(nil, Cell::get))),
        ("_set", |_, _, args| {
            if let Some(cell) = args[0].downcast_object_ref::<Cell>() {
                cell.set(args[1].clone());
            }
            Ok(args[1].clone())
        }),
    ];
    for (name, run) in helpers {
        env.add_global(name, Value::from_object(Helper { rt: rt.clone(), run }));
    }
    env
}

/// Adds a lowered template as [`MAIN`].
pub(crate) fn compile(
    env: &mut Environment<'static>,
    name: &str,
    source: String,
) -> Result<(), TemplateError> {
    env.add_template_owned(MAIN, source).map_err(|e| TemplateError::Limit {
        template: name.to_owned(),
        reason: format!("cannot be compiled: {e:#}"),
    })
}

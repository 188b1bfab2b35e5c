//! The helper functions that lowered templates call: calls, fields, methods, loops, output.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::error::{Cause, FnError, TemplateError};
use super::funcs::Builtin;
use super::runtime::{Cx, Runtime, carry};
use super::site::{Site, What};
use super::value::{
    Cell, Dict, FILES_TYPE, MAP_TYPE, Record, VALUES_TYPE, VERSION_SET, as_dict, as_int, as_list, int,
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
    let What::Call { builtin, cmd, interfaces } = &site.what else {
        return Err(rt.text(&site, "not a call"));
    };
    let args = &args[1..];
    rt.work(&site, 1)?;
    let changed = check::arguments(rt, &site, builtin, cmd.as_deref(), *interfaces, args)?;
    let args = changed.as_deref().unwrap_or(args);
    let mut cx = Cx { rt, site: &site };
    bounded(&mut cx, builtin, args).map_err(|error| match error {
        FnError::Argument(reason) => rt.text(&site, reason),
        error => rt.fail(&site, Cause::Calling { func: builtin.name.to_owned(), error }),
    })
}

/// Functions that go through all of a value.
fn walks(name: &str) -> bool {
    name.contains("Yaml")
        || name.contains("Json")
        || name.contains("Toml")
        || name.contains("eepCopy")
        || name.contains("erge")
        || matches!(
            name,
            "print"
                | "printf"
                | "println"
                | "html"
                | "js"
                | "urlquery"
                | "quote"
                | "squote"
                | "cat"
                | "toString"
                | "toStrings"
                | "join"
                | "sortAlpha"
                | "deepEqual"
                | "has"
                | "mustHas"
                | "uniq"
                | "mustUniq"
                | "without"
                | "mustWithout"
                | "eq"
                | "ne"
        )
}

/// Runs a function; what it is given and gives is counted against the limits.
fn bounded(cx: &mut Cx<'_>, builtin: &Builtin, args: &[Value]) -> Result<Value, FnError> {
    let containers = args.iter().filter(|v| v.kind() != ValueKind::String && v.as_object().is_some());
    if walks(builtin.name) {
        containers.into_iter().try_for_each(|v| cx.rt.walkable(v))?;
    }
    let strings: usize = args.iter().filter_map(|v| v.as_str().map(str::len)).sum();
    if strings > 1 << 20 {
        // Long texts pass through calls again and again; a few thousand times must do.
        cx.spend(strings / 16)?;
    }
    let value = (builtin.run)(cx, args)?;
    if let Some(s) = value.as_str() {
        cx.spend(s.len())?;
    } else if let Some(l) = as_list(&value) {
        let items = l.items.len() as u64;
        cx.rt.work(cx.site, items * 4).map_err(|_| FnError::text("templates make too many list elements"))?;
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
                    let text = super::to_yaml(receiver);
                    let failed = |e: crate::yaml::YamlError| {
                        method_failed(rt, site, name, FnError::text(e.to_string()))
                    };
                    return text.map(|text| Value::from(text + "\n")).map_err(failed);
                }
                "Table" => return Err(rt.text(site, "wrong number of args for Table: want 1 got 0")),
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
            return result.map_err(|error| method_failed(rt, site, name, error));
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

fn method(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Fields { names, element } = &site.what else { return Err(rt.text(&site, "not a field")) };
    let Some((last, path)) = names.split_last() else { return Err(rt.text(&site, "not a method")) };
    let mut value = args[1].clone();
    for (i, name) in path.iter().enumerate() {
        value = step(rt, &site, &value, name, *element || i > 0)?;
    }
    if let Some(r) = value.downcast_object_ref::<Record>() {
        if let Some(n) = string_method(r, last) {
            check::strings(rt, &site, last, n, &args[2..])?;
        }
        if let Some(result) = (r.methods)(r, last, &args[2..]) {
            return result.map_err(|error| method_failed(rt, &site, last, error));
        }
    }
    if let Some(d) = as_dict(&value).filter(|d| d.type_name() == VALUES_TYPE && &**last == "Table") {
        check::strings(rt, &site, last, 1, &args[2..])?;
        let path = args[2].as_str().unwrap_or_default();
        return table(d, path).map_err(|reason| method_failed(rt, &site, last, FnError::Text(reason)));
    }
    if let Some(l) = as_list(&value)
        && l.type_name == VERSION_SET
        && &**last == "Has"
    {
        check::strings(rt, &site, last, 1, &args[2..])?;
        return Ok(Value::from(l.items.iter().any(|v| v == &args[2])));
    }
    step(rt, &site, &value, last, *element || !path.is_empty())?;
    Err(rt.text(&site, format!("{last} is not a method but has arguments")))
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

/// What a `for` loop goes over.
#[derive(Debug)]
struct Items(Vec<Value>);

impl Object for Items {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> minijinja::value::Enumerator {
        minijinja::value::Enumerator::Seq(self.0.len())
    }
}

fn pairs(rt: &Runtime, site: &Site, over: &Value) -> Result<Vec<(Value, Value)>, Error> {
    if is_nil(over) {
        return Ok(Vec::new());
    }
    let index = |i: usize| Value::from(i as u64);
    if let Some(l) = as_list(over) {
        return Ok(l.items.iter().enumerate().map(|(i, v)| (index(i), v.clone())).collect());
    }
    if let Some(d) = as_dict(over) {
        return Ok(d.entries().into_iter().map(|(k, v)| (Value::from(k), v)).collect());
    }
    if let Some(r) = over.downcast_object_ref::<Record>() {
        // Types such as Files are maps in Go and give their entries here.
        if let Some(Ok(entries)) = (r.methods)(r, " range", &[]) {
            return pairs(rt, site, &entries);
        }
    }
    if let Some(n) = as_int(over) {
        if n > rt.limits.max_items {
            return Err(
                rt.text(site, format!("range over {n}, more than the {} allowed", rt.limits.max_items))
            );
        }
        return Ok((0..n).map(|i| (int(i), int(i))).collect());
    }
    Err(rt.text(site, format!("range can't iterate over {}", fmt::to_string(over))))
}

/// Counts what a loop over so many elements takes at least.
fn loop_work(rt: &Runtime, site: &Site, items: usize) -> Result<(), Error> {
    let What::Range(weight) = site.what else { return Ok(()) };
    rt.work(site, (items as u64).saturating_mul(weight))
}

fn range(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    if let Some(l) = as_list(&args[1]) {
        loop_work(rt, &site, l.items.len())?;
        return Ok(args[1].clone());
    }
    let items = pairs(rt, &site, &args[1])?;
    loop_work(rt, &site, items.len())?;
    Ok(Value::from_object(Items(items.into_iter().map(|(_, v)| v).collect())))
}

fn range_pairs(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let items = pairs(rt, &site, &args[1])?;
    loop_work(rt, &site, items.len())?;
    Ok(Value::from_object(Items(
        items.into_iter().map(|(k, v)| Value::from_object(Items(vec![k, v]))).collect(),
    )))
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
    if let Some(s) = value.as_str() {
        return out.write_str(s).map_err(Error::from);
    }
    if value.as_object().is_some() {
        rt.walkable(value).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
    }
    let text = if is_nil(value) { "<no value>".to_owned() } else { fmt::to_string(value) };
    out.write_str(&text).map_err(Error::from)
}

/// An environment with the helpers and nothing of minijinja's own.
pub(crate) fn environment(rt: &Arc<Runtime>) -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    let of = rt.clone();
    env.set_formatter(move |out, _, value| print(&of, out, value));
    env.set_fuel(Some(rt.limits.fuel));
    let helpers: [(&'static str, Run); 11] = [
        ("_c", call),
        ("_f", field),
        ("_m", method),
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

/// Adds a lowered template.
pub(crate) fn compile(
    env: &mut Environment<'static>,
    name: &str,
    source: String,
) -> Result<(), TemplateError> {
    env.add_template_owned(name.to_owned(), source).map_err(|e| TemplateError::Limit {
        template: name.to_owned(),
        reason: format!("cannot be compiled: {e:#}"),
    })
}

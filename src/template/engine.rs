//! A set of templates that know each other, and their execution by minijinja.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::ast::Tree;
use super::error::{Cause, ExecError, FnError, SyntaxError, TemplateError};
use super::lower::{Site, SourceFile, What, lower};
use super::value::{
    Cell, Dict, List, Record, VERSION_SET, as_dict, as_int, as_list, int, is_nil, nil, type_name,
};
use super::{Env, Limits, fmt, funcs, parse};

/// What is shared by everything that runs in one engine.
pub(crate) struct Runtime {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) limits: Limits,
    sites: RwLock<Vec<Arc<Site>>>,
    /// Templates that the texts given to `tpl` define, innermost last; Helm gives each `tpl` a clone of the set.
    overlays: Mutex<Vec<HashMap<String, Arc<str>>>>,
    /// Lowered `tpl` texts, by template name and text.
    tpl_cache: Mutex<HashMap<(String, String), Arc<Lowered>>>,
    regexes: Mutex<HashMap<String, regex::Regex>>,
    names: RwLock<HashMap<String, ()>>,
    depth: AtomicU64,
    calls: AtomicU64,
    output: AtomicU64,
    costly: AtomicU64,
}

struct Lowered {
    main: Arc<str>,
    defines: Vec<(String, Arc<str>)>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// What a template function sees besides its arguments.
pub(crate) struct Cx<'a, 't, 'e> {
    pub(crate) rt: &'a Runtime,
    state: &'a mut State<'t, 'e>,
    site: &'a Site,
}

impl Cx<'_, '_, '_> {
    /// Executes the template `name` and gives its output (`include`).
    pub(crate) fn include(&mut self, name: &str, data: &Value) -> Result<String, FnError> {
        self.rt.execute(self.state, name, data).map_err(|e| match e {
            TemplateError::Exec(e) => FnError::Exec(e),
            other => FnError::Text(other.to_string()),
        })
    }

    /// Executes `text` as a template that sees all templates of the engine (`tpl`).
    pub(crate) fn tpl(&mut self, text: &str, data: &Value) -> Result<String, FnError> {
        let rt = self.rt;
        let name = self.site.file.name.to_string();
        let key = (name.clone(), text.to_owned());
        let cached = rt.tpl_cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let lowered = match cached {
            Some(l) => l,
            None => {
                let l = Arc::new(
                    rt.lower_tpl(&name, text)
                        .map_err(|e| FnError::Text(format!("cannot parse template {text:?}: {e}")))?,
                );
                rt.tpl_cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key, l.clone());
                l
            }
        };
        let defines = !lowered.defines.is_empty();
        if defines {
            let overlay = lowered.defines.iter().cloned().collect();
            rt.overlays.lock().unwrap_or_else(PoisonError::into_inner).push(overlay);
        }
        let result = rt.enter(&name, || {
            let template = self.state.env().template_from_named_str(&name, &lowered.main)?;
            template.render(Value::from_object(Root(data.clone())))
        });
        if defines {
            rt.overlays.lock().unwrap_or_else(PoisonError::into_inner).pop();
        }
        result
            .map(|s| if s.contains("<no value>") { s.replace("<no value>", "") } else { s })
            .map_err(|error| FnError::Tpl { text: text.into(), error: Box::new(error) })
    }

    /// The command as written.
    pub(crate) fn command(&self) -> &str {
        &self.site.node
    }

    /// Counts work that is slow on purpose, such as making keys.
    pub(crate) fn costly(&self, units: u64) -> Result<(), FnError> {
        let limit = self.rt.limits.max_costly;
        if self.rt.costly.fetch_add(units, Ordering::Relaxed) + units > limit {
            let reason = "templates ask for more keys, certificates and password hashes than is allowed";
            return Err(FnError::text(format!("{reason} ({limit} units)")));
        }
        Ok(())
    }

    /// Counts `bytes` that a function is about to make, so that a small template cannot ask for huge strings.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), FnError> {
        let total = self.rt.output.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if total > self.rt.limits.max_bytes {
            return Err(FnError::text(format!(
                "templates made more than {} bytes",
                self.rt.limits.max_bytes
            )));
        }
        Ok(())
    }
}

/// The variables that a template starts with: its data as `d0`.
#[derive(Debug)]
struct Root(Value);

impl Object for Root {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("d0")).then(|| self.0.clone())
    }
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        (key == "d0").then(|| self.0.clone())
    }
}

/// Carries an [`ExecError`] through minijinja.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Carried(Box<ExecError>);

fn carry(e: ExecError) -> Error {
    Error::new(ErrorKind::InvalidOperation, "template failed").with_source(Carried(Box::new(e)))
}

impl Runtime {
    /// A compiled regular expression; charts use the same few again and again.
    pub(crate) fn regex(&self, pattern: &str) -> Result<regex::Regex, regex::Error> {
        let mut cache = self.regexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(re) = cache.get(pattern) {
            return Ok(re.clone());
        }
        let re = regex::RegexBuilder::new(pattern).size_limit(4 << 20).build()?;
        if cache.len() < 1000 {
            cache.insert(pattern.to_owned(), re.clone());
        }
        Ok(re)
    }

    fn site(&self, args: &[Value]) -> Result<Arc<Site>, Error> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        args.first()
            .and_then(Value::as_usize)
            .and_then(|i| sites.get(i).cloned())
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "call without a site"))
    }

    fn add_site(&self, site: Site) -> usize {
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        sites.push(Arc::new(site));
        sites.len() - 1
    }

    fn fail(&self, site: &Site, cause: Cause) -> Error {
        let (line, column) = site.file.location(site.pos);
        carry(ExecError {
            location: format!("{}:{line}:{column}", site.file.name),
            template: site.template.to_string(),
            node: site.node.clone(),
            cause,
        })
    }

    fn text(&self, site: &Site, reason: impl Into<String>) -> Error {
        self.fail(site, Cause::Text(reason.into()))
    }

    /// Runs `f` one level deeper and turns what minijinja says into our errors.
    fn enter(&self, name: &str, f: impl FnOnce() -> Result<String, Error>) -> Result<String, TemplateError> {
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let result = if depth >= self.limits.max_depth {
            Err(TemplateError::Limit {
                template: name.to_owned(),
                reason: format!(
                    "rendering template has a nested reference name: {name}: more than {} templates within each \
                     other",
                    self.limits.max_depth
                ),
            })
        } else {
            f().map_err(|e| uncarry(&e, name))
        };
        self.depth.fetch_sub(1, Ordering::Relaxed);
        let text = result?;
        let total = self.output.fetch_add(text.len() as u64, Ordering::Relaxed) + text.len() as u64;
        if total > self.limits.max_bytes {
            let reason = format!("templates made more than {} bytes", self.limits.max_bytes);
            return Err(TemplateError::Limit { template: name.to_owned(), reason });
        }
        Ok(text)
    }

    fn execute(&self, state: &State<'_, '_>, name: &str, data: &Value) -> Result<String, TemplateError> {
        let root = Value::from_object(Root(data.clone()));
        let overlay = {
            let overlays = self.overlays.lock().unwrap_or_else(PoisonError::into_inner);
            overlays.iter().rev().find_map(|o| o.get(name).cloned())
        };
        if let Some(source) = overlay {
            return self.enter(name, || state.env().template_from_named_str(name, &source)?.render(root));
        }
        let Ok(template) = state.env().get_template(name) else {
            return Err(TemplateError::Missing(name.to_owned()));
        };
        self.enter(name, || template.render(root))
    }

    fn lower_tpl(&self, name: &str, text: &str) -> Result<Lowered, TemplateError> {
        let (file, trees) = parse_file(name, text)?;
        let mut lowered = Lowered { main: "".into(), defines: Vec::new() };
        for (i, tree) in trees.iter().enumerate() {
            let source: Arc<str> = self.lower(tree, &file)?.into();
            if i == 0 {
                lowered.main = source;
            } else if !tree.is_empty() || !self.has(&tree.name) {
                lowered.defines.push((tree.name.clone(), source));
            }
        }
        Ok(lowered)
    }

    fn has(&self, name: &str) -> bool {
        self.names.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    fn lower(&self, tree: &Tree, file: &Arc<SourceFile>) -> Result<String, TemplateError> {
        lower(tree, file, &mut |site| self.add_site(site)).map_err(|e| syntax(file, &e))
    }
}

fn syntax(file: &SourceFile, e: &SyntaxError) -> TemplateError {
    let (line, _) = file.location(e.pos);
    TemplateError::Parse { template: file.name.to_string(), line, reason: e.reason.clone() }
}

fn parse_file(name: &str, text: &str) -> Result<(Arc<SourceFile>, Vec<Tree>), TemplateError> {
    let file = Arc::new(SourceFile { name: name.into(), text: text.into() });
    let trees = parse::parse(name, text, &|f| funcs::lookup(f).is_some()).map_err(|e| syntax(&file, &e))?;
    Ok((file, trees))
}

fn uncarry(e: &Error, name: &str) -> TemplateError {
    let mut source = std::error::Error::source(e);
    while let Some(s) = source {
        if let Some(c) = s.downcast_ref::<Carried>() {
            return TemplateError::Exec(c.0.clone());
        }
        source = s.source();
    }
    TemplateError::Limit { template: name.to_owned(), reason: e.to_string() }
}

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

fn call(rt: &Runtime, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Call(builtin) = site.what else { return Err(rt.text(&site, "not a call")) };
    let args = &args[1..];
    if rt.calls.fetch_add(1, Ordering::Relaxed) > rt.limits.max_calls {
        return Err(rt.text(&site, format!("templates made more than {} calls", rt.limits.max_calls)));
    }
    let (types, variadic) = builtin.types();
    let fixed = types.len() - usize::from(variadic);
    if if variadic { args.len() < fixed } else { args.len() != fixed } {
        let want = if variadic { format!("at least {fixed}") } else { fixed.to_string() };
        let reason = format!("wrong number of args for {}: want {want} got {}", builtin.name, args.len());
        return Err(rt.text(&site, reason));
    }
    let mut cx = Cx { rt, state, site: &site };
    (builtin.run)(&mut cx, args).map_err(|error| match error {
        FnError::Argument(reason) => rt.text(&site, reason),
        error => rt.fail(&site, Cause::Calling { func: builtin.name.to_owned(), error }),
    })
}

/// One step of a field chain: a map entry, a struct's field or a method without arguments.
///
/// `dynamic` says that Go knows the receiver as `interface {}` only.
fn step(rt: &Runtime, site: &Site, receiver: &Value, name: &Arc<str>, dynamic: bool) -> Result<Value, Error> {
    if let Some(d) = as_dict(receiver) {
        return Ok(d.get(name).unwrap_or_else(nil));
    }
    if let Some(r) = receiver.downcast_object_ref::<Record>() {
        if let Some(v) = r.fields.get(name) {
            return Ok(v.clone());
        }
        if let Some(result) = (r.methods)(r, name, &[]) {
            return result.map_err(|error| rt.fail(site, Cause::Calling { func: name.to_string(), error }));
        }
    }
    let reason = if is_nil(receiver) {
        format!("nil pointer evaluating interface {{}}.{name}")
    } else {
        let known = if dynamic { "interface {}" } else { type_name(receiver) };
        format!("can't evaluate field {name} in type {known}")
    };
    Err(rt.text(site, reason))
}

fn field(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let What::Fields { names, element } = &site.what else { return Err(rt.text(&site, "not a field")) };
    let mut value = args[1].clone();
    if is_nil(&value) && !element {
        // Go: a chain that starts from an untyped nil is nil all the way.
        return Ok(nil());
    }
    for (i, name) in names.iter().enumerate() {
        value = step(rt, &site, &value, name, *element || i > 0)?;
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
    if let Some(r) = value.downcast_object_ref::<Record>()
        && let Some(result) = (r.methods)(r, last, &args[2..])
    {
        return result.map_err(|error| match error {
            FnError::Argument(reason) => rt.text(&site, reason),
            error => rt.fail(&site, Cause::Calling { func: last.to_string(), error }),
        });
    }
    if let Some(l) = as_list(&value)
        && l.type_name == VERSION_SET
        && &**last == "Has"
    {
        return Ok(Value::from(l.items.iter().any(|v| v == &args[2])));
    }
    step(rt, &site, &value, last, *element || !path.is_empty())?;
    Err(rt.text(&site, format!("{last} is not a method but has arguments")))
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

fn range(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    if as_list(&args[1]).is_some() {
        return Ok(args[1].clone());
    }
    let site = rt.site(args)?;
    Ok(Value::from_object(Items(pairs(rt, &site, &args[1])?.into_iter().map(|(_, v)| v).collect())))
}

fn range_pairs(rt: &Runtime, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let items = pairs(rt, &site, &args[1])?;
    Ok(Value::from_object(Items(
        items.into_iter().map(|(k, v)| Value::from_object(Items(vec![k, v]))).collect(),
    )))
}

fn template(rt: &Runtime, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    let site = rt.site(args)?;
    let name = args[1].as_str().unwrap_or_default();
    if rt.calls.fetch_add(1, Ordering::Relaxed) > rt.limits.max_calls {
        return Err(rt.text(&site, format!("templates made more than {} calls", rt.limits.max_calls)));
    }
    match rt.execute(state, name, &args[2]) {
        Ok(text) => Ok(Value::from(text)),
        Err(TemplateError::Exec(e)) => Err(carry(*e)),
        Err(TemplateError::Missing(name)) => Err(rt.text(&site, format!("template {name:?} not defined"))),
        Err(other) => Err(rt.text(&site, other.to_string())),
    }
}

fn print(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(s) = value.as_str() {
        return out.write_str(s).map_err(Error::from);
    }
    let text = if is_nil(value) { "<no value>".to_owned() } else { fmt::to_string(value) };
    out.write_str(&text).map_err(Error::from)
}

/// A set of templates: the files of a chart and of its dependencies, with all that they define.
#[derive(Debug)]
pub struct Engine {
    env: Environment<'static>,
    rt: Arc<Runtime>,
}

impl Engine {
    /// An empty set.
    pub fn new(env: Arc<dyn Env>, limits: Limits) -> Self {
        let rt = Arc::new(Runtime {
            env,
            sites: RwLock::default(),
            overlays: Mutex::default(),
            tpl_cache: Mutex::default(),
            regexes: Mutex::default(),
            names: RwLock::default(),
            depth: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            output: AtomicU64::new(0),
            costly: AtomicU64::new(0),
            limits,
        });
        let mut env = Environment::empty();
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
        env.set_formatter(print);
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
        Self { env, rt }
    }

    /// Adds a template file and what it defines. A later definition of a name replaces an earlier one unless it is
    /// empty, as in `text/template`; Helm adds the deepest files first.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Parse`] with file and line.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let (file, trees) = parse_file(name, text)?;
        for tree in &trees {
            if tree.is_empty() && self.rt.has(&tree.name) {
                continue;
            }
            let source = self.rt.lower(tree, &file)?;
            self.env.add_template_owned(tree.name.clone(), source).map_err(|e| TemplateError::Limit {
                template: tree.name.clone(),
                reason: format!("cannot be compiled: {e:#}"),
            })?;
            self.rt.names.write().unwrap_or_else(PoisonError::into_inner).insert(tree.name.clone(), ());
        }
        Ok(())
    }

    /// Executes a template on `data`. What Go prints as `<no value>` is left out, as Helm does.
    ///
    /// Run it on a thread with a large stack ([`STACK_BYTES`](super::STACK_BYTES)): templates may include each other
    /// as deep as [`Limits::max_depth`].
    ///
    /// # Errors
    ///
    /// [`TemplateError::Exec`] with the place of the failure, [`TemplateError::Limit`] if the template is too costly.
    pub fn render(&self, name: &str, data: &Value) -> Result<String, TemplateError> {
        let state = self.env.empty_state();
        let text = self.rt.execute(&state, name, data)?;
        Ok(if text.contains("<no value>") { text.replace("<no value>", "") } else { text })
    }
}

/// A slice of ints as Go's `until` and `untilStep` make.
pub(crate) fn int_list(items: impl IntoIterator<Item = i64>) -> Value {
    Value::from_object(List { type_name: "[]int", items: items.into_iter().map(int).collect() })
}

/// An empty map, shared with nobody.
pub(crate) fn empty_dict() -> Value {
    Dict::value(super::value::Map::new())
}

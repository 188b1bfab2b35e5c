//! What the templates of one engine share while they run: limits and what has been spent of them, sites, caches, and the
//! ways from one template into another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Environment, Error, ErrorKind};

use super::account::Account;
use super::ast::{Node, Pos, Tree};
use super::bounds::{Patterns, Printed};
use super::error::{Cause, ExecError, FnError, SyntaxError, TemplateError};
use super::exec::MAIN;
use super::fmt::quote;
use super::lower::{Keep, Part, lower};
use super::parse::Parsed;
use super::site::{Site, SourceFile, What};
use super::{Env, Limits, exec, funcs, parse};

/// What is shared by everything that runs in one engine.
pub(crate) struct Runtime {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) limits: Limits,
    sites: RwLock<Vec<Arc<Site>>>,
    /// What templates are compiled in. Helpers hold this runtime, so [`Runtime::close`] must empty it again.
    base: RwLock<Option<Compiled>>,
    /// The templates of the engine. Charts bring far more than they use: what is used is lowered and compiled when it
    /// is.
    templates: Mutex<HashMap<String, Slot>>,
    /// Branches of templates, which are lowered and compiled when they are executed.
    parts: Mutex<Vec<Arc<Part>>>,
    /// Templates that the texts given to `tpl` define, innermost last; Helm gives each `tpl` a clone of the set.
    overlays: Mutex<Vec<HashMap<String, Compiled>>>,
    /// Compiled `tpl` texts.
    tpl_cache: Mutex<HashMap<String, Arc<Tpl>>>,
    pub(crate) regexes: Mutex<Patterns>,
    /// The templates there are, and how many steps each has at least.
    names: RwLock<HashMap<String, u64>>,
    depth: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) output: AtomicU64,
    pub(crate) costly: AtomicU64,
    pub(crate) account: Account,
}

/// One template with an environment of its own, so that it can be kept.
type Compiled = Arc<Environment<'static>>;

/// A template of the engine.
enum Slot {
    Parsed(Tree, Arc<SourceFile>),
    Ready(Compiled),
    Refused(TemplateError),
}

/// A text given to `tpl`, with what it defines.
struct Tpl {
    main: Compiled,
    defines: Vec<(String, Compiled)>,
}

/// The name that Helm gives to the set of all templates and to what `tpl` is given.
const ROOT: &str = "gotpl";

/// Bytes of a template that an error shows: there may be a thousand of them within each other.
const MAX_SHOWN: usize = 4_000;

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}

/// Texts given to `tpl` that are kept compiled.
const MAX_KEPT: usize = 2_000;

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// What a template function sees besides its arguments.
pub(crate) struct Cx<'a> {
    pub(crate) rt: &'a Runtime,
    pub(crate) site: &'a Site,
}

impl Cx<'_> {
    /// Executes the template `name` and gives its output (`include`).
    pub(crate) fn include(&mut self, name: &str, data: &Value) -> Result<String, FnError> {
        self.rt.execute(name, data).map_err(|e| match e {
            TemplateError::Exec(e) => FnError::Exec(e),
            other => FnError::Template(other.to_string()),
        })
    }

    /// Executes `text` as a template that sees all templates of the engine (`tpl`).
    pub(crate) fn tpl(&mut self, text: &str, data: &Value) -> Result<String, FnError> {
        let rt = self.rt;
        let cached = rt.tpl_cache.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        let tpl = match cached {
            Some(tpl) => tpl,
            None => {
                let tpl = rt.compile_tpl(text).map_err(|e| {
                    FnError::Text(format!("cannot parse template {}: {}", quote(cut(text)), e.in_go()))
                })?;
                let tpl = Arc::new(tpl);
                let mut cache = rt.tpl_cache.lock().unwrap_or_else(PoisonError::into_inner);
                if cache.len() < MAX_KEPT {
                    cache.insert(text.to_owned(), tpl.clone());
                }
                tpl
            }
        };
        let defines = !tpl.defines.is_empty();
        if defines {
            self.steps(tpl.defines.len())?;
            let overlay = tpl.defines.iter().cloned().collect();
            rt.overlays.lock().unwrap_or_else(PoisonError::into_inner).push(overlay);
        }
        let result = rt.enter(ROOT, &tpl.main, data);
        if defines {
            rt.overlays.lock().unwrap_or_else(PoisonError::into_inner).pop();
        }
        result
            .map(|s| if s.contains("<no value>") { s.replace("<no value>", "") } else { s })
            .map_err(|error| FnError::Tpl { text: cut(text).into(), error: Box::new(error) })
    }

    /// The command as written.
    pub(crate) fn command(&self) -> String {
        self.site.shown()
    }

    /// Whether Go knows an argument as `interface {}`, so that a nil in it has a type.
    pub(crate) fn is_interface(&self, i: usize) -> bool {
        matches!(self.site.what, What::Call { interfaces, .. } if i < 64 && interfaces >> i & 1 == 1)
    }
}

impl Runtime {
    pub(crate) fn new(env: Arc<dyn Env>, limits: Limits) -> Self {
        Self {
            env,
            account: Account::new(limits.max_held),
            limits,
            base: RwLock::default(),
            templates: Mutex::default(),
            parts: Mutex::default(),
            sites: RwLock::default(),
            overlays: Mutex::default(),
            tpl_cache: Mutex::default(),
            regexes: Mutex::default(),
            names: RwLock::default(),
            depth: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            output: AtomicU64::new(0),
            costly: AtomicU64::new(0),
        }
    }

    /// Lets go of all templates, which hold this runtime.
    pub(crate) fn close(&self) {
        *self.base.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tpl_cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.overlays.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Adds to the templates there are.
    pub(crate) fn know(&self, tree: &Tree) {
        let weight = tree.body.iter().map(Node::weight).sum();
        self.names.write().unwrap_or_else(PoisonError::into_inner).insert(tree.name.clone(), weight);
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

/// Carries any other error through minijinja.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(Box<TemplateError>);

pub(crate) fn carry(e: ExecError) -> Error {
    Error::new(ErrorKind::InvalidOperation, "template failed").with_source(Carried(Box::new(e)))
}

impl Runtime {
    pub(crate) fn site(&self, args: &[Value]) -> Result<Arc<Site>, Error> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        args.first()
            .and_then(Value::as_usize)
            .and_then(|i| sites.get(i).cloned())
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "call without a site"))
    }

    pub(crate) fn add_site(&self, site: Site) -> usize {
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        sites.push(Arc::new(site));
        sites.len() - 1
    }

    pub(crate) fn fail(&self, site: &Site, cause: Cause) -> Error {
        self.fail_with(site, site.pos, site.shown(), cause)
    }

    /// A failure at another node than the site's own.
    pub(crate) fn fail_at(&self, site: &Site, pos: Pos, node: String, reason: String) -> Error {
        self.fail_with(site, pos, node, Cause::Text(reason))
    }

    fn fail_with(&self, site: &Site, pos: Pos, node: String, cause: Cause) -> Error {
        let (line, column) = site.file.location(pos);
        let node = if node.len() > MAX_SHOWN { cut(&node).to_owned() } else { node };
        carry(ExecError {
            location: format!("{}:{line}:{column}", site.file.name),
            template: site.template.to_string(),
            node,
            cause,
        })
    }

    pub(crate) fn text(&self, site: &Site, reason: impl Into<String>) -> Error {
        self.fail(site, Cause::Text(reason.into()))
    }

    /// Executes a template of `env` one level deeper, and turns what minijinja says into our errors.
    fn enter(&self, name: &str, env: &Environment<'static>, data: &Value) -> Result<String, TemplateError> {
        let limit = |reason: String| TemplateError::Limit { template: name.to_owned(), reason };
        let Ok(template) = env.get_template(MAIN) else {
            return Err(TemplateError::Missing(name.to_owned()));
        };
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let result = if depth >= self.limits.max_depth {
            Err(limit(format!(
                "rendering template has a nested reference name: {name}: unable to execute template: more than {} are within each other",
                self.limits.max_depth
            )))
        } else {
            let mut printed = Printed::new(self);
            match template.render_captured_to(Value::from_object(Root(data.clone())), &mut printed) {
                Ok(_) => printed.finish().map_err(limit),
                Err(e) => Err(printed.refused().map_or_else(|| uncarry(&e, name), limit)),
            }
        };
        self.depth.fetch_sub(1, Ordering::Relaxed);
        result
    }

    pub(crate) fn execute(&self, name: &str, data: &Value) -> Result<String, TemplateError> {
        let overlay = {
            let overlays = self.overlays.lock().unwrap_or_else(PoisonError::into_inner);
            overlays.iter().rev().find_map(|o| o.get(name).cloned())
        };
        let env = match overlay {
            Some(env) => env,
            None => self.compiled(name)?,
        };
        let weight =
            self.names.read().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(1);
        self.calls.fetch_add(weight, Ordering::Relaxed);
        self.enter(name, &env, data)
    }

    /// Makes `env` what templates are compiled in.
    pub(crate) fn start(&self, env: Environment<'static>) {
        *self.base.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(env));
    }

    /// Adds a template, or puts it in the place of another.
    pub(crate) fn add(&self, tree: Tree, file: &Arc<SourceFile>) {
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        templates.insert(tree.name.clone(), Slot::Parsed(tree, file.clone()));
    }

    fn compiled(&self, name: &str) -> Result<Compiled, TemplateError> {
        let missing = || TemplateError::Missing(name.to_owned());
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = templates.get_mut(name).ok_or_else(missing)?;
        let compiled = match slot {
            Slot::Ready(env) => return Ok(env.clone()),
            Slot::Refused(error) => return Err(error.clone()),
            Slot::Parsed(tree, file) => self.compile(tree, file),
        };
        *slot = match &compiled {
            Ok(env) => Slot::Ready(env.clone()),
            Err(error) => Slot::Refused(error.clone()),
        };
        compiled
    }

    fn compile(&self, tree: &Tree, file: &Arc<SourceFile>) -> Result<Compiled, TemplateError> {
        let name = &tree.name;
        let mut keeper = Keeper::new(self);
        let source = lower(tree, file, &mut keeper).map_err(|e| syntax(file, &e));
        // What was kept stays, also of a template that cannot be lowered.
        keeper.count(name)?;
        let source = source?;
        let base = self.base.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut env = (*base.ok_or_else(|| TemplateError::Missing(name.to_owned()))?).clone();
        exec::compile(&mut env, name, source)?;
        Ok(Arc::new(env))
    }

    /// A branch as minijinja asks for it.
    pub(crate) fn load(&self, number: &str) -> Result<Option<String>, Error> {
        let part = |n: usize| self.parts.lock().unwrap_or_else(PoisonError::into_inner).get(n).cloned();
        let Some(part) = number.parse().ok().and_then(part) else { return Ok(None) };
        let mut keeper = Keeper::new(self);
        let source = part.lower(&mut keeper).map_err(|e| syntax(part.file(), &e));
        let source = keeper.count(&part.file().name).and(source);
        source.map(Some).map_err(|e| {
            Error::new(ErrorKind::InvalidOperation, "template refused").with_source(Refused(Box::new(e)))
        })
    }

    fn compile_tpl(&self, text: &str) -> Result<Tpl, TemplateError> {
        self.calls.fetch_add(300 + text.len() as u64 / 16, Ordering::Relaxed);
        let Prepared { file, parsed } = self.prepare(ROOT, text)?;
        self.count_parsed(&file, &parsed)?;
        let mut all = parsed.trees.iter();
        let main = all.next().ok_or_else(|| TemplateError::Missing(ROOT.to_owned()))?;
        let mut out = Tpl { main: self.compile(main, &file)?, defines: Vec::new() };
        for tree in all {
            if !tree.is_empty() || !self.has(&tree.name) {
                out.defines.push((tree.name.clone(), self.compile(tree, &file)?));
            }
        }
        Ok(out)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Parses a file.
    pub(crate) fn prepare(&self, name: &str, text: &str) -> Result<Prepared, TemplateError> {
        let file = Arc::new(SourceFile { name: name.into(), text: text.into() });
        let parsed =
            parse::parse(name, text, &|f| funcs::lookup(f).is_some()).map_err(|e| syntax(&file, &e))?;
        Ok(Prepared { file, parsed })
    }
}

fn syntax(file: &SourceFile, e: &SyntaxError) -> TemplateError {
    let (line, _) = file.location(e.pos);
    TemplateError::Parse { template: file.name.to_string(), line, reason: e.reason.clone() }
}

/// A branch that is still to be lowered, with what it knows of variables.
const PART_BYTES: usize = 4 << 10;

/// Keeps what a template is lowered to beside its text.
struct Keeper<'a> {
    rt: &'a Runtime,
    places: usize,
}

impl<'a> Keeper<'a> {
    fn new(rt: &'a Runtime) -> Self {
        Self { rt, places: 0 }
    }

    fn count(&self, name: &str) -> Result<(), TemplateError> {
        self.rt.count_places(name, self.places)
    }
}

impl Keep for Keeper<'_> {
    fn site(&mut self, site: Site) -> usize {
        self.places += 1;
        self.rt.add_site(site)
    }

    fn part(&mut self, part: Part) -> Option<String> {
        if !self.rt.account.take(PART_BYTES) {
            return None;
        }
        let mut parts = self.rt.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(Arc::new(part));
        Some((parts.len() - 1).to_string())
    }
}

/// A file that is ready to be added.
pub(crate) struct Prepared {
    pub(crate) file: Arc<SourceFile>,
    pub(crate) parsed: Parsed,
}

fn uncarry(e: &Error, name: &str) -> TemplateError {
    let mut source = std::error::Error::source(e);
    // A branch that fails is wrapped in an error of the include.
    let mut innermost = e;
    while let Some(s) = source {
        if let Some(c) = s.downcast_ref::<Carried>() {
            return TemplateError::Exec(c.0.clone());
        }
        if let Some(Refused(e)) = s.downcast_ref() {
            return (**e).clone();
        }
        innermost = s.downcast_ref().unwrap_or(innermost);
        source = s.source();
    }
    let reason = match innermost.kind() {
        ErrorKind::OutOfFuel => "one template takes more instructions than is allowed".to_owned(),
        // Without its place, which is one in the lowered text.
        kind => innermost.detail().map_or_else(|| kind.to_string(), str::to_owned),
    };
    TemplateError::Limit { template: name.to_owned(), reason }
}

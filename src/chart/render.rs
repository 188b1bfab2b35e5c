//! Executing a chart's templates.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use minijinja::value::Value;
use serde_json::Map as Table;

use super::manifests::Printed;
use super::values::{Tree, coalesce, to_value};
use super::{
    Chart, ChartError, KubeVersion, Rendered, RenderedDoc, ValuesInput, dependencies, manifests, objects,
    schema,
};
use crate::template::bytes::{from_bytes, printable};
use crate::template::value::{Dict, Map, VALUES_TYPE, as_dict};
use crate::template::{Engine, Env, Limits, STACK_BYTES, TemplateError};

/// How a chart is rendered.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// `.Release.Name`.
    pub release_name: String,
    /// `.Release.Namespace`.
    pub namespace: String,
    /// `.Capabilities.KubeVersion`.
    pub kube_version: KubeVersion,
    /// Added to `.Capabilities.APIVersions`.
    pub api_versions: Vec<String>,
    /// Whether the files under `crds/` are given out too.
    pub include_crds: bool,
    /// Renders as for an upgrade rather than an installation.
    pub is_upgrade: bool,
    /// Leaves out hooks.
    pub no_hooks: bool,
    /// Leaves out hooks that are tests.
    pub skip_tests: bool,
    /// The user's values.
    pub values: ValuesInput,
    /// Bounds on the templates.
    pub limits: Limits,
    /// Whether the process ends after this: what the chart was compiled to is left to its end then, which gives memory
    /// back sooner than piece by piece.
    pub is_last: bool,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            release_name: "release-name".into(),
            namespace: "default".into(),
            kube_version: KubeVersion::default(),
            api_versions: Vec::new(),
            include_crds: false,
            is_upgrade: false,
            no_hooks: false,
            skip_tests: false,
            values: ValuesInput::default(),
            limits: Limits::default(),
            is_last: false,
        }
    }
}

/// The clock and randomness of this machine.
pub(super) struct System;

impl Env for System {
    fn now_nanos(&self) -> i128 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i128::try_from(now.as_nanos()).unwrap_or(0)
    }

    fn random(&self, buffer: &mut [u8]) {
        // What is rendered may be installed, keys and passwords with it: nothing less than the system's randomness.
        // Weak bytes would look like any others, so the render thread ends here, and with it the rendering.
        assert!(getrandom::fill(buffer).is_ok(), "the system gives no random bytes");
    }
}

/// Gives the name of a release by a Go template, as `--name-template` does.
///
/// # Errors
///
/// [`ChartError::NameTemplate`] for a template that fails.
pub fn release_name(template: &str) -> Result<String, ChartError> {
    let name = "name-template";
    on_large_stack(name, || {
        let mut engine = Engine::new(Arc::new(System), Limits::default());
        // A template on its own: Helm does not put the message of Go into words of its own here.
        let plain = |e: TemplateError| ChartError::NameTemplate(e.in_go());
        engine.add(name, template).map_err(plain)?;
        engine.render(name, &crate::template::value::nil()).map_err(plain)
    })
}

/// Whether Helm takes this for the name of a release: at most 53 characters, lower-case DNS labels.
pub fn is_release_name(name: &str) -> bool {
    let label = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || c == '-')
    };
    name.len() <= 53 && name.split('.').all(label)
}

/// Renders a chart as `helm template` does.
///
/// # Errors
///
/// [`ChartError`], worded as Helm where Helm has words: missing dependencies, an unfit Kubernetes, values that do not
/// fit, a template that fails with its place, output that is no YAML.
pub fn render(chart: &Chart, options: &RenderOptions) -> Result<Rendered, ChartError> {
    render_with(chart, options, Arc::new(System))
}

/// [`render`] with a clock and randomness of one's own.
///
/// # Errors
///
/// As [`render`].
pub fn render_with(
    chart: &Chart,
    options: &RenderOptions,
    env: Arc<dyn Env>,
) -> Result<Rendered, ChartError> {
    on_large_stack(&chart.metadata.name, || render_here(chart, options, env))
}

/// Templates may include each other a thousand deep, which is more than a thread's usual stack holds.
pub(super) fn on_large_stack<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, ChartError> + Send,
) -> Result<T, ChartError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("render".into()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(handle) => handle.join().unwrap_or_else(|_| {
                let reason = "rendering stopped unexpectedly; please report this chart".to_owned();
                Err(TemplateError::Limit { template: name.to_owned(), reason }.into())
            }),
            Err(source) => Err(ChartError::Io { path: "render thread".into(), source }),
        }
    })
}

fn render_here(chart: &Chart, options: &RenderOptions, env: Arc<dyn Env>) -> Result<Rendered, ChartError> {
    let name = &chart.metadata.name;
    if chart.metadata.is_library() {
        let reason = format!("{} charts are not installable", chart.metadata.chart_type);
        return Err(ChartError::Invalid { chart: name.clone(), reason });
    }
    dependencies::check(chart)?;
    if !is_release_name(&options.release_name) {
        return Err(ChartError::ReleaseName(options.release_name.clone()));
    }
    let Tree::Object(user) = options.values.merge()? else {
        return Err(ChartError::Values {
            name: "the values".into(),
            reason: "they are not a mapping".into(),
        });
    };
    let mut chart = chart.clone();
    dependencies::process(&mut chart, &user)?;
    let wanted = &chart.metadata.kube_version;
    if !wanted.is_empty() && !options.kube_version.meets(wanted) {
        return Err(ChartError::KubeVersion {
            chart: name.clone(),
            wanted: wanted.clone(),
            given: options.kube_version.version.clone(),
        });
    }
    let mut warnings = Vec::new();
    if chart.metadata.deprecated {
        warnings.push(format!("{name}: this chart is deprecated"));
    }
    let values = coalesce(&chart, user, false)
        .map_err(|reason| ChartError::Invalid { chart: name.clone(), reason })?;
    let shared = Shared::new(options);
    let mut templates = Vec::new();
    gather(&chart, &chart.metadata.name, true, &as_value(&values), &shared, &mut templates);
    let check = || match options.values.skip_schema {
        true => Ok(Vec::new()),
        false => schema::check(&chart, &values),
    };
    let compile = || compile(&mut templates, env, options.limits.clone());
    let (checked, engine) = if has_schema(&chart) { both(check, compile) } else { (check(), compile()) };
    // Helm compiles nothing of a chart whose values do not fit.
    warnings.extend(checked?);
    let engine = engine?;
    let files = execute(&engine, &templates, options)?;
    let mut documents = Vec::new();
    if options.include_crds {
        crds(&chart, &chart.metadata.name, &mut documents);
        let bytes = documents.iter().map(|d| d.text.len()).sum();
        within(name, bytes)?;
    }
    documents.extend(manifests::sorted(files)?);
    if options.is_last {
        std::mem::forget((engine, templates, values));
        std::mem::forget(chart);
    }
    Ok(Rendered { documents, warnings })
}

fn has_schema(chart: &Chart) -> bool {
    chart.schema.is_some() || chart.dependencies.iter().any(has_schema)
}

/// Does `compile` on a thread of its own meanwhile: compiling schemas takes as long as compiling templates.
fn both<A>(
    check: impl FnOnce() -> A,
    compile: impl FnOnce() -> Result<Engine, ChartError> + Send,
) -> (A, Result<Engine, ChartError>) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("compile".into()).stack_size(STACK_BYTES);
        let compiling = thread.spawn_scoped(scope, compile);
        let checked = check();
        let engine = match compiling {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(source) => Err(ChartError::Io { path: "compile thread".into(), source }),
        };
        (checked, engine)
    })
}

pub(super) fn as_value(values: &Table<String, Tree>) -> Value {
    let map: Map = values.iter().map(|(k, v)| (Arc::from(k.as_str()), to_value(v))).collect();
    Dict::typed(VALUES_TYPE, map)
}

/// What all templates see alike.
pub(super) struct Shared {
    release: Value,
    capabilities: Value,
}

impl Shared {
    pub(super) fn new(options: &RenderOptions) -> Self {
        let release = Dict::value(Map::from([
            ("Name".into(), Value::from(options.release_name.as_str())),
            ("Namespace".into(), Value::from(options.namespace.as_str())),
            ("IsUpgrade".into(), Value::from(options.is_upgrade)),
            ("IsInstall".into(), Value::from(!options.is_upgrade)),
            ("Revision".into(), Value::from(1u64)),
            ("Service".into(), Value::from("Helm")),
        ]));
        Self { release, capabilities: objects::capabilities(&options.kube_version, &options.api_versions) }
    }
}

/// A template with what it is executed on.
pub(super) struct Ready<'a> {
    pub(super) name: String,
    text: &'a [u8],
    /// The chart's top-level object, shared by its templates.
    data: Value,
    base_path: String,
}

/// Lists the templates of a chart and of those below it; gives the chart's top-level object.
pub(super) fn gather<'a>(
    chart: &'a Chart,
    path: &str,
    is_root: bool,
    values: &Value,
    shared: &Shared,
    out: &mut Vec<Ready<'a>>,
) -> Value {
    let mut subcharts = Map::new();
    for sub in &chart.dependencies {
        let name = &sub.metadata.name;
        let below = as_dict(values).and_then(|d| d.get(name)).filter(|v| as_dict(v).is_some());
        let below = below.unwrap_or_else(|| Dict::typed(VALUES_TYPE, Map::new()));
        let top = gather(sub, &format!("{path}/charts/{name}"), false, &below, shared, out);
        subcharts.insert(name.as_str().into(), top);
    }
    let data = Dict::typed(
        VALUES_TYPE,
        Map::from([
            ("Chart".into(), chart.metadata.value(is_root)),
            ("Files".into(), objects::files(&chart.files)),
            ("Release".into(), shared.release.clone()),
            ("Capabilities".into(), shared.capabilities.clone()),
            ("Values".into(), values.clone()),
            ("Subcharts".into(), Dict::value(subcharts)),
        ]),
    );
    for file in &chart.templates {
        let base = file.name.rsplit('/').next().unwrap_or_default();
        if chart.metadata.is_library() && !base.starts_with('_') {
            continue;
        }
        out.push(Ready {
            name: format!("{path}/{}", file.name),
            text: &file.data,
            data: data.clone(),
            base_path: format!("{path}/templates"),
        });
    }
    data
}

/// Sorts the templates as Helm does, and gives them to an engine.
pub(super) fn compile(
    templates: &mut [Ready<'_>],
    env: Arc<dyn Env>,
    limits: Limits,
) -> Result<Engine, ChartError> {
    // The deepest first, so that the definitions of a parent win over those of its dependencies.
    templates.sort_by_cached_key(|t| std::cmp::Reverse((t.name.matches('/').count(), t.name.clone())));
    let mut engine = Engine::new(env, limits);
    let mut rest = &*templates;
    while !rest.is_empty() {
        let mut bytes = 0;
        let part = rest.iter().take_while(|t| {
            bytes += t.text.len();
            bytes <= PARSED_TOGETHER
        });
        let (part, later) = rest.split_at(part.count().max(1));
        let texts: Vec<String> = part.iter().map(|t| from_bytes(t.text)).collect();
        let files: Vec<(&str, &str)> = part.iter().zip(&texts).map(|(t, s)| (&*t.name, s.as_str())).collect();
        engine.add_all(&files)?;
        rest = later;
    }
    Ok(engine)
}

/// What was printed and is not taken apart yet.
#[derive(Default)]
struct Waiting {
    files: Vec<(String, String)>,
    over: bool,
}

/// Executes every template. What they print is read by a second thread meanwhile, if it is worth one.
fn execute(
    engine: &Engine,
    templates: &[Ready<'_>],
    options: &RenderOptions,
) -> Result<Vec<(String, Printed)>, ChartError> {
    let waiting = (Mutex::new(Waiting::default()), Condvar::new());
    let lock = || waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
    let read = |name: String, text: String| {
        let printed = manifests::documents(&name, &text, options.no_hooks, options.skip_tests);
        (name, printed)
    };
    let reader = || {
        let mut done = Vec::new();
        let mut held = lock();
        loop {
            if let Some((name, text)) = held.files.pop() {
                drop(held);
                done.push(read(name, text));
                held = lock();
            } else if held.over {
                return done;
            } else {
                held = waiting.1.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
        }
    };
    std::thread::scope(|scope| {
        let mut helper = None;
        let mut bytes = 0;
        let result = templates.iter().try_for_each(|t| {
            let Some(text) = t.print(engine)? else { return Ok(()) };
            if t.name.ends_with("NOTES.txt") {
                return Ok(());
            }
            bytes += text.len();
            within(&t.name, bytes)?;
            lock().files.push((t.name.clone(), text));
            if helper.is_none() && bytes > READ_ALONE {
                let builder = std::thread::Builder::new().name("read".into()).stack_size(READER_STACK);
                helper = builder.spawn_scoped(scope, reader).ok();
            } else if helper.is_some() {
                waiting.1.notify_one();
            }
            Ok(())
        });
        let mut held = lock();
        held.over = true;
        if result.is_err() {
            held.files.clear();
        }
        drop(held);
        waiting.1.notify_one();
        let mut done = reader();
        if let Some(helper) = helper {
            done.extend(helper.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        }
        result.map(|()| done)
    })
}

/// Bytes of documents that are not worth a second thread.
const READ_ALONE: usize = 16 << 10;
/// Values nest 200 deep at most.
const READER_STACK: usize = 64 << 20;

impl Ready<'_> {
    /// What the template prints; none for files that only define.
    pub(super) fn print(&self, engine: &Engine) -> Result<Option<String>, TemplateError> {
        let base = self.name.rsplit('/').next().unwrap_or_default();
        if base.starts_with('_') {
            return Ok(None);
        }
        if let Some(d) = as_dict(&self.data) {
            let about = Map::from([
                ("Name".into(), Value::from(self.name.as_str())),
                ("BasePath".into(), Value::from(self.base_path.as_str())),
            ]);
            d.set("Template", Dict::typed(VALUES_TYPE, about));
        }
        Ok(Some(printable(engine.render(&self.name, &self.data)?)))
    }
}

/// Bytes of templates that are parsed at once: until then their texts are held twice.
const PARSED_TOGETHER: usize = 1 << 20;

/// Bytes of all documents of a chart.
const MAX_RENDERED: usize = 48 << 20;

pub(super) fn within(name: &str, bytes: usize) -> Result<(), ChartError> {
    if bytes <= MAX_RENDERED {
        return Ok(());
    }
    let reason = format!("with this, the documents of the chart have more than {MAX_RENDERED} bytes");
    Err(TemplateError::Limit { template: name.to_owned(), reason }.into())
}

fn crds(chart: &Chart, path: &str, out: &mut Vec<RenderedDoc>) {
    for file in &chart.files {
        let ext = file.name.rsplit('.').next().unwrap_or_default().to_lowercase();
        if file.name.starts_with("crds/") && matches!(ext.as_str(), "yaml" | "yml" | "json") {
            out.push(RenderedDoc {
                source: format!("{path}/{}", file.name),
                text: String::from_utf8_lossy(&file.data).into_owned(),
                line: 1,
                hook: false,
            });
        }
    }
    for sub in &chart.dependencies {
        crds(sub, &format!("{path}/charts/{}", sub.metadata.name), out);
    }
}

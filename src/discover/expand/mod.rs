//! Documents that contain or name other documents: releases of charts, applications, packages. Each kind is a file of
//! this folder; here is what they share: looking objects up, loading charts, finding folders, and the loop that
//! follows objects until no new ones turn up.
//!
//! What cannot be reached is a gap: a [`Problem`] that says which command would fill it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::held::{self, Held};
use super::rules;
use super::{
    Cancelled, Cause, Expanded, Finding, Findings, Inputs, Outer, Problem, Scope, Severity, Source,
    SourceName,
};
use crate::chart::fetch::{ChartSource, FetchError};
use crate::chart::{self, Chart, ChartError, RenderOptions, ValuesInput};

mod appset;
mod argo;
mod component;
mod compose;
mod covered;
mod flux;
mod hauler;
mod k3s;
mod mirrors;
mod olm;
mod place;
mod release;
mod tree;
mod values;
mod zarf;

use covered::Covered;
use place::Places;

/// Follows the objects that `found` holds, and those that they lead to.
///
/// # Errors
/// Only when `scope` was cancelled.
pub(super) fn follow(mut found: Findings, inputs: &Inputs, scope: &Scope) -> Result<Findings, Cancelled> {
    let held = std::mem::take(&mut found.held);
    if held.is_empty() {
        return Ok(found);
    }
    let mut all = Expander {
        here: Here {
            scope,
            options: RenderOptions { values: ValuesInput::default(), ..inputs.charts.clone() },
            shelf: Shelf::default(),
            places: Places::new(&inputs.paths, scope),
            charts: HashMap::new(),
            covered: Covered::default(),
            consumed: Vec::new(),
            notes: Vec::new(),
        },
        out: found,
        trees: VecDeque::new(),
        rest: VecDeque::new(),
        waiting: Vec::new(),
        done: HashSet::new(),
        count: 0,
        cut: 0,
    };
    all.take_in(held);
    all.run()?;
    let Expander { here, mut out, .. } = all;
    here.covered.remove_from(&mut out);
    // What went into a rendering is no file that stands for itself.
    out.findings.retain(|f| f.origin.rule != rules::CONFIG.name || !here.consumed.iter().any(|c| c.is(f)));
    Ok(out)
}

/// What an object leads to, or why not.
type Step = Result<Findings, Halt>;

/// Why an object was not followed.
#[derive(Debug)]
enum Halt {
    /// It refers to something that was not seen, and may yet turn up.
    Wait,
    /// It cannot be.
    Problem(Box<Problem>),
    /// The work was cancelled.
    Cancelled,
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// Objects beyond a bound that are told one by one.
const MAX_CUT: usize = 20;

/// Kinds that lead to files and folders.
const TREES: [&str; 6] =
    ["Kustomization", "Application", "ApplicationSet", "ZarfInitConfig", "ZarfPackageConfig", held::COMPOSE];

struct Expander<'a> {
    here: Here<'a>,
    out: Findings,
    /// Objects that lead to folders, which go first: what such a folder holds is then known by the way that leads there.
    trees: VecDeque<Held>,
    rest: VecDeque<Held>,
    waiting: Vec<Held>,
    /// What was followed already, however often it is met.
    done: HashSet<(String, String, u64)>,
    count: usize,
    /// Objects that were not followed because of a bound.
    cut: usize,
}

impl Expander<'_> {
    fn take_in(&mut self, held: Vec<Held>) {
        for object in held {
            if TREES.contains(&object.kind.as_str()) {
                self.trees.push_back(object.clone());
            } else {
                self.rest.push_back(object.clone());
            }
            self.here.shelf.add(object);
        }
    }

    fn run(&mut self) -> Result<(), Cancelled> {
        loop {
            while let Some(object) = self.trees.pop_front().or_else(|| self.rest.pop_front()) {
                self.follow(object, false)?;
            }
            // Objects that wait are tried again as long as something new turned up, then for the last time.
            let waiting = std::mem::take(&mut self.waiting);
            if waiting.is_empty() {
                return Ok(());
            }
            let seen = self.here.shelf.all.len();
            for (i, object) in waiting.iter().enumerate() {
                self.follow(object.clone(), false)?;
                if self.here.shelf.all.len() > seen {
                    self.waiting.extend(waiting[i + 1..].iter().cloned());
                    break;
                }
            }
            if self.here.shelf.all.len() == seen {
                for object in std::mem::take(&mut self.waiting) {
                    self.follow(object, true)?;
                }
            }
        }
    }

    fn follow(&mut self, object: Held, last: bool) -> Result<(), Cancelled> {
        if self.here.scope.cancel.is_cancelled() {
            return Err(Cancelled);
        }
        let Some(step) = step_of(&object) else { return Ok(()) };
        if object.source.through().is_empty() && self.here.covered.has(&object.source) {
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        object.tree().to_string().hash(&mut hasher);
        // A Compose file or package has no name; where it stands decides what it means.
        let place = if object.name().is_empty() { object.source.to_string() } else { object.full_name() };
        let key = (object.kind.clone(), place, hasher.finish());
        if self.done.contains(&key) {
            return Ok(());
        }
        if let Some(reason) = self.beyond(&object) {
            self.done.insert(key);
            // Once is enough: what was left out may be a million.
            if self.cut < MAX_CUT {
                self.cut += 1;
                self.out.problems.push(object.gap("", reason));
            }
            return Ok(());
        }
        let step = step(&mut self.here, &object, last);
        let mut notes = std::mem::take(&mut self.here.notes);
        if !matches!(step, Err(Halt::Wait)) {
            self.out.problems.append(&mut notes);
        }
        let step = match (&object.switch, step) {
            (Some(switch), Ok(mut found)) => {
                found.only_possible(switch);
                Ok(found)
            }
            // Nothing is missing of what is needed.
            (Some(_), Err(Halt::Problem(problem))) => {
                Err(Halt::Problem(Box::new(Problem { severity: Severity::Warning, ..*problem })))
            }
            (_, step) => step,
        };
        match step {
            Ok(mut found) => {
                self.count += 1;
                self.done.insert(key);
                let held = std::mem::take(&mut found.held);
                self.out.merge(found);
                self.take_in(held);
            }
            Err(Halt::Wait) if !last => self.waiting.push(object),
            Err(Halt::Wait) => {
                self.out.problems.push(object.gap("", "refers to something that is not there"));
            }
            Err(Halt::Cancelled) => return Err(Cancelled),
            Err(Halt::Problem(problem)) => {
                self.done.insert(key);
                self.out.problems.push(*problem);
            }
        }
        Ok(())
    }

    /// Why it is not followed any further.
    fn beyond(&self, object: &Held) -> Option<String> {
        let Scope { max_expansions, max_expansion_depth, .. } = self.here.scope;
        if object.source.through().len() >= *max_expansion_depth {
            let reason = format!(
                "is not followed: more than {max_expansion_depth} documents lead to each other; name it as a source of \
                 its own"
            );
            return Some(reason);
        }
        (self.count >= *max_expansions).then(|| {
            format!("is not followed: more than {max_expansions} documents lead to others; split the sources")
        })
    }
}

type Follow = fn(&mut Here<'_>, &Held, bool) -> Step;

/// How an object is followed; none for those that are only looked up.
fn step_of(object: &Held) -> Option<Follow> {
    Some(match (object.group(), object.kind.as_str()) {
        ("helm.toolkit.fluxcd.io", _) => flux::release,
        ("kustomize.toolkit.fluxcd.io", _) => flux::kustomization,
        ("argoproj.io", "Application") => argo::application,
        ("argoproj.io", "ApplicationSet") => appset::set,
        ("content.hauler.cattle.io" | "collection.hauler.cattle.io", _) => hauler::content,
        ("omk", _) => component::newest,
        (_, "ZarfInitConfig" | "ZarfPackageConfig") => zarf::package,
        (_, held::COMPOSE) => compose::file,
        ("helm.cattle.io", "HelmChart") => k3s::chart,
        ("helm.cattle.io", "HelmChartConfig") => k3s::config,
        ("operators.coreos.com", "ClusterServiceVersion") => olm::version,
        ("operators.coreos.com", "CatalogSource") => olm::catalog,
        ("operators.coreos.com", "Subscription") => olm::subscription,
        ("config.openshift.io" | "operator.openshift.io", _) | (_, held::REGISTRIES) => mirrors::ignored,
        _ => return None,
    })
}

/// What the kinds share.
struct Here<'a> {
    scope: &'a Scope,
    /// How charts are rendered, without anybody's values.
    options: RenderOptions,
    shelf: Shelf,
    places: Places,
    /// Charts by where they come from; the reason for those that could not be had.
    charts: HashMap<String, Result<Arc<Chart>, String>>,
    covered: Covered,
    /// Values and variables that went into what was followed.
    consumed: Vec<Consumed>,
    /// What is to be told of the object that is being followed, whatever comes of it.
    notes: Vec<Problem>,
}

impl Here<'_> {
    /// `holder` gives values or variables to what is followed.
    fn consume(&mut self, holder: &Held, key: Option<&str>) {
        let one = Consumed { holder: holder.clone(), key: key.map(str::to_owned) };
        if !self.consumed.contains(&one) {
            self.consumed.push(one);
        }
    }

    /// What stands in a folder is deployed by the object that was just followed.
    fn cover_folder(&mut self, path: &Path, recurse: bool) {
        if crate::kustomize::kustomization_file(path).is_some() {
            self.covered.add(path);
        } else if recurse {
            self.covered.add_tree(path);
        } else {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten().take(self.scope.max_entries)
            {
                if entry.file_type().is_ok_and(|t| t.is_file()) {
                    self.covered.add(&entry.path());
                }
            }
        }
    }

    /// What `source` needs, which `object` led to.
    fn read(&self, source: &dyn Source, object: &Held) -> Step {
        match source.findings(self.scope) {
            Ok(mut found) => {
                lead(&mut found, &object.chain());
                Ok(found)
            }
            Err(error) if matches!(error.cause, Cause::Cancelled) => Err(Halt::Cancelled),
            Err(error) => {
                let mut found = Findings { problems: vec![error.into()], ..Findings::default() };
                lead(&mut found, &object.chain());
                Ok(found)
            }
        }
    }

    /// The chart at `wanted`, which the field at `field` names: from a folder that was given for one of `keys`, else as
    /// charts are fetched. With it, where it came from.
    fn chart(
        &mut self,
        object: &Held,
        field: &str,
        wanted: &ChartSource,
        keys: &[String],
    ) -> Result<(Arc<Chart>, PathBuf), Halt> {
        let (source, shown) = match self.places.chart(wanted, keys) {
            Ok(Some(path)) => (ChartSource::Path(path.clone()), path),
            Ok(None) => (wanted.clone(), PathBuf::from(wanted.to_string())),
            Err(reason) => return Err(object.gap(field, reason).into()),
        };
        if self.scope.cancel.is_cancelled() {
            return Err(Halt::Cancelled);
        }
        let key = source.to_string();
        if !self.charts.contains_key(&key) {
            let loaded = match (&self.scope.charts, &source) {
                (Some(loader), source) => loader.load_from(source),
                (None, ChartSource::Path(path)) => chart::load(path),
                (None, _) => {
                    let reason = "is not on this machine, and nothing fetches it".to_owned();
                    Err(ChartError::Invalid { chart: wanted.to_string(), reason })
                }
            };
            let loaded = match loaded {
                Ok(chart) => Ok(Arc::new(chart)),
                Err(ChartError::Fetch(error)) if matches!(*error, FetchError::Cancelled) => {
                    return Err(Halt::Cancelled);
                }
                // Without its dependencies the chart still tells of its own images, and which charts it lacks.
                Err(error) => match &source {
                    ChartSource::Path(path) => chart::load(path).ok(),
                    _ => None,
                }
                .map(Arc::new)
                .ok_or_else(|| super::one_line(&error.to_string())),
            };
            self.charts.insert(key.clone(), loaded);
        }
        match self.charts.get(&key) {
            Some(Ok(chart)) => Ok((Arc::clone(chart), shown)),
            Some(Err(reason)) => {
                let advice = match place::pull(wanted, keys) {
                    Some(command) if !matches!(source, ChartSource::Path(_)) => format!("; {command}"),
                    _ => String::new(),
                };
                Err(object.gap(field, format!("{reason}{advice}")).into())
            }
            None => Err(Halt::Wait),
        }
    }
}

/// Puts the way that led there before every place in `found`.
fn lead(found: &mut Findings, through: &[Outer]) {
    let led = |source: &mut SourceName| {
        let inner = std::mem::replace(source, SourceName::Stdin);
        let (own, inner) = match inner {
            SourceName::Expanded(expanded) => (expanded.through, expanded.source),
            plain => (Vec::new(), plain),
        };
        let through = through.iter().cloned().chain(own).collect();
        *source = SourceName::Expanded(Box::new(Expanded { source: inner, through }));
    };
    found.origins_mut().for_each(|o| led(&mut o.source));
    found.problems.iter_mut().for_each(|p| led(&mut p.source));
    found.held.iter_mut().for_each(|h| led(&mut h.source));
}

/// A ConfigMap or Secret that another object takes values from.
#[derive(PartialEq)]
struct Consumed {
    holder: Held,
    /// The only key that is taken; none for all.
    key: Option<String>,
}

impl Consumed {
    fn is(&self, finding: &Finding) -> bool {
        let (holder, origin) = (&self.holder, &finding.origin);
        if (&origin.source, origin.document) != (&holder.source, holder.document)
            || origin.kind.as_deref() != Some(&holder.kind)
            || origin.name.as_deref() != Some(holder.name())
        {
            return false;
        }
        let Some(key) = &self.key else { return true };
        let field = origin.field.as_deref().unwrap_or_default();
        ["data", "stringData"].iter().any(|map| {
            use super::tree::Step::Key;
            let own = super::tree::path(&[Key(map), Key(key)]);
            let rest = field.strip_prefix(&holder.field(&own));
            rest.is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
        })
    }
}

/// Every object that was kept, by kind and name.
#[derive(Default)]
struct Shelf {
    all: Vec<Held>,
    by_name: HashMap<(String, String), Vec<usize>>,
}

impl Shelf {
    fn add(&mut self, object: Held) {
        let key = (object.kind.clone(), object.name().to_owned());
        self.by_name.entry(key).or_default().push(self.all.len());
        self.all.push(object);
    }

    fn named(&self, group: &str, kind: &str, name: &str) -> impl Iterator<Item = &Held> {
        let found = self.by_name.get(&(kind.to_owned(), name.to_owned()));
        let all = found.into_iter().flatten().filter_map(|i| self.all.get(*i));
        all.filter(move |o| o.group() == group)
    }

    fn of_kind(&self, group: &str, kind: &str) -> impl Iterator<Item = &Held> {
        self.all.iter().filter(move |o| o.is(group, kind))
    }

    /// The object of that name; files may leave a namespace to whoever applies them, so that an object without one may be
    /// the one that is meant.
    fn find(&self, group: &str, kind: &str, namespace: Option<&str>, name: &str) -> Option<&Held> {
        let exact = self.named(group, kind, name).find(|o| o.namespace() == namespace);
        exact.or_else(|| {
            let open = |o: &&Held| o.namespace().is_none() || namespace.is_none();
            self.named(group, kind, name).find(open)
        })
    }
}

/// The address `key` stands for: a name, `namespace/name`, an URL.
fn keys_of(object: &Held, url: &str) -> Vec<String> {
    let mut keys = vec![object.full_name(), object.name().to_owned(), url.to_owned()];
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests;

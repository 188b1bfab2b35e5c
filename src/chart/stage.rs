//! A chart rendered again and again with other values, to see what it can be made to bring along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Map as Table;

use super::render::{Ready, Shared, System, as_value, compile, gather, on_large_stack, within};
use super::values::{Tree, coalesce, overlay, read_file};
use super::{Chart, ChartError, RenderOptions, RenderedDoc, dependencies, every};
use crate::template::bytes::from_bytes;
use crate::template::{Choice, Engine, Env, Speech, TemplateError, speakers, survey};

/// Files of values that are offered.
const MAX_FILES: usize = 24;
/// Values that are offered in all.
const MAX_OFFERS: usize = 4_000;
/// Other texts that one value may take.
const MAX_CHOICES: usize = 8;

/// A value that may be set otherwise, or many of them by a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The way to it from the top of the chart's values; empty for the values of a file.
    pub path: Vec<String>,
    /// The file of the chart that the values stand in, such as `ci/minimal-values.yaml`.
    pub file: Option<String>,
    /// What it may be set to: `true` where it is `false`, or a text that a template or the schema knows.
    pub value: Tree,
}

impl Offer {
    /// Whether it switches something on.
    pub fn is_switch(&self) -> bool {
        self.value.is_boolean()
    }
}

/// A chart that can be rendered with other values: `fail`, `required` and `include` of what is missing let it go on, a
/// template that fails is left out, dependencies may be missing, the schema is not asked.
///
/// All renderings together keep to the limits of one.
#[derive(Debug)]
pub struct Stage {
    chart: Chart,
    user: Table<String, Tree>,
    options: RenderOptions,
    engine: Engine,
    /// Files that can print what is looked for.
    files: BTreeSet<String>,
    offers: Vec<Offer>,
    spent: AtomicBool,
}

/// The world of a rendering that nobody installs.
struct Lenient;

impl Env for Lenient {
    fn now_nanos(&self) -> i128 {
        System.now_nanos()
    }

    fn random(&self, buffer: &mut [u8]) {
        System.random(buffer);
    }

    fn is_lenient(&self) -> bool {
        true
    }
}

impl Stage {
    /// A stage for `chart` with the values that `options` has. Files that have none of `words` (in lowercase) in them,
    /// nor in what they include, are not rendered: what values alone put into them is not seen.
    ///
    /// # Errors
    ///
    /// As [`super::render()`], as far as values and the syntax of templates go.
    pub fn new(chart: &Chart, options: &RenderOptions, words: &[&str]) -> Result<Self, ChartError> {
        on_large_stack(&chart.metadata.name, || Self::build(chart, options, words))
    }

    fn build(chart: &Chart, options: &RenderOptions, words: &[&str]) -> Result<Self, ChartError> {
        let Tree::Object(user) = options.values.merge()? else {
            return Err(ChartError::Values {
                name: "values".into(),
                reason: "they are not a mapping".into(),
            });
        };
        let (all_on, values, _) = every::all_on(chart, user.clone())?;
        let mut templates = Vec::new();
        let name = &all_on.metadata.name;
        gather(&all_on, name, true, &as_value(&values), &Shared::new(options), &mut templates);
        let engine = compile(&mut templates, Arc::new(Lenient), options.limits.clone())?;
        drop(templates);
        let mut known = Known { words, trees: BTreeMap::new(), texts: BTreeMap::new() };
        known.chart(&all_on, name, &values, &mut Vec::new());
        let offers = offers(&all_on, &values, known.texts);
        let (files, spent) = (speakers(&known.trees), AtomicBool::new(false));
        Ok(Self { chart: chart.clone(), user, options: options.clone(), engine, files, offers, spent })
    }

    /// What may be set otherwise; files come first, then switches, each after those above it.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// Whether the limits are reached, so that nothing is rendered any more.
    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// What the chart prints with these values, file by file; nothing where it cannot be rendered at all.
    pub fn render(&self, changes: &[&Offer]) -> Vec<RenderedDoc> {
        if self.is_spent() {
            return Vec::new();
        }
        let name = self.chart.metadata.name.as_str();
        on_large_stack(name, || self.render_here(changes)).unwrap_or_default()
    }

    fn render_here(&self, changes: &[&Offer]) -> Result<Vec<RenderedDoc>, ChartError> {
        let mut user = self.user.clone();
        for change in changes {
            match (&change.file, &change.value) {
                (Some(_), values) => {
                    // What the user says wins over what a file of the chart says.
                    let mut all = values.clone();
                    overlay(&mut all, Tree::Object(std::mem::take(&mut user)));
                    if let Tree::Object(all) = all {
                        user = all;
                    }
                }
                (None, value) => set(&mut user, &change.path, value),
            }
        }
        let mut chart = self.chart.clone();
        dependencies::process(&mut chart, &user)?;
        let name = chart.metadata.name.clone();
        let values = coalesce(&chart, user, false)
            .map_err(|reason| ChartError::Invalid { chart: name.clone(), reason })?;
        let mut templates: Vec<Ready<'_>> = Vec::new();
        gather(&chart, &name, true, &as_value(&values), &Shared::new(&self.options), &mut templates);
        let mut documents = Vec::new();
        let mut bytes = 0;
        let wanted = |t: &&Ready<'_>| self.files.contains(&t.name) && !t.name.ends_with("NOTES.txt");
        for template in templates.iter().filter(wanted) {
            match template.print(&self.engine) {
                Ok(Some(text)) if !text.trim().is_empty() => {
                    bytes += text.len();
                    within(&name, bytes)?;
                    documents.push(RenderedDoc { source: template.name.clone(), text, line: 1, hook: false });
                }
                Ok(_) => {}
                Err(TemplateError::Limit { .. }) => self.spent.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
        }
        Ok(documents)
    }
}

/// Sets a value; what stands in the way and is no mapping stays.
fn set(table: &mut Table<String, Tree>, path: &[String], value: &Tree) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value.clone());
        return;
    }
    let below = table.entry(first.clone()).or_insert_with(|| Tree::Object(Table::new()));
    if let Tree::Object(below) = below {
        set(below, rest, value);
    }
}

fn offers(chart: &Chart, values: &Table<String, Tree>, texts: Texts) -> Vec<Offer> {
    let mut switches = Vec::new();
    off(chart, values, &mut Vec::new(), &mut switches);
    let switches = switches.into_iter().map(|path| Offer { path, file: None, value: Tree::Bool(true) });
    let one = |(path, texts): (Vec<String>, BTreeSet<String>)| {
        let offer = move |text| Offer { path: path.clone(), file: None, value: Tree::String(text) };
        texts.into_iter().take(MAX_CHOICES).map(offer)
    };
    let texts = texts.into_iter().flat_map(one);
    files(chart).chain(switches).chain(texts).take(MAX_OFFERS).collect()
}

/// Files of values that a chart's author keeps to try the chart with, or for users to choose from.
fn files(chart: &Chart) -> impl Iterator<Item = Offer> {
    let is_values = |name: &str| {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let yaml = file.ends_with(".yaml") || file.ends_with(".yml");
        let named = file.starts_with("values-") || file.starts_with("values_") || file.starts_with("values.");
        yaml && (folder == "ci" || (folder.is_empty() && named && file != "values.yaml"))
    };
    let read = |file: &super::ChartFile| {
        let values = read_file(std::str::from_utf8(&file.data).ok()?).ok()?;
        let some = values.as_object().is_some_and(|m| !m.is_empty());
        some.then(|| Offer { path: Vec::new(), file: Some(file.name.clone()), value: values })
    };
    let mut all: Vec<Offer> = chart.files.iter().filter(|f| is_values(&f.name)).filter_map(read).collect();
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all.into_iter().take(MAX_FILES)
}

/// The ways to whatever is `false`.
fn off(chart: &Chart, values: &Table<String, Tree>, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let mut below = Vec::new();
    for (key, value) in values {
        // What stands under `global` is handed down to every dependency.
        if key == "global" && !path.is_empty() && is_chart(chart, path) {
            continue;
        }
        path.push(key.clone());
        match value {
            Tree::Bool(false) => out.push(path.clone()),
            Tree::Object(map) if path.len() < 64 => below.push((path.clone(), map)),
            _ => {}
        }
        path.pop();
    }
    for (mut path, map) in below {
        off(chart, map, &mut path, out);
    }
}

/// Whether the way leads to the values of a dependency.
fn is_chart(chart: &Chart, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    chart.dependencies.iter().any(|c| c.metadata.name == *first && is_chart(c, rest))
}

/// Other texts for values, by the way to the value.
type Texts = BTreeMap<Vec<String>, BTreeSet<String>>;

/// What is known of the templates of a chart and of those below it.
struct Known<'a> {
    words: &'a [&'a str],
    trees: BTreeMap<String, Speech>,
    texts: Texts,
}

impl Known<'_> {
    fn chart(&mut self, chart: &Chart, name: &str, values: &Table<String, Tree>, path: &mut Vec<String>) {
        let mut choices: BTreeSet<Choice> = BTreeSet::new();
        for file in &chart.templates {
            let seen = survey(&format!("{name}/{}", file.name), &from_bytes(&file.data), self.words);
            if !file.name.ends_with("NOTES.txt") {
                choices.extend(seen.choices);
            }
            for (name, speech) in seen.trees {
                // Of several definitions of a name, only one is used: any may be.
                let all = self.trees.entry(name).or_default();
                all.says |= speech.says;
                all.includes_any |= speech.includes_any;
                all.includes.extend(speech.includes);
            }
        }
        known_texts(chart, &choices, values, path, &mut self.texts);
        for sub in &chart.dependencies {
            let below = values.get(&sub.metadata.name).and_then(Tree::as_object);
            path.push(sub.metadata.name.clone());
            let name = format!("{name}/charts/{}", sub.metadata.name);
            self.chart(sub, &name, below.unwrap_or(&Table::new()), path);
            path.pop();
        }
    }
}

/// Texts that the templates and the schema of a chart know for its values.
fn known_texts(
    chart: &Chart,
    known: &BTreeSet<Choice>,
    values: &Table<String, Tree>,
    path: &[String],
    out: &mut Texts,
) {
    let mut add = |below: &[String], now: Option<&Tree>, text: &str| {
        let other = match now {
            None | Some(Tree::Null) => !text.is_empty(),
            Some(Tree::String(now)) => now != text && !text.is_empty(),
            Some(_) => false,
        };
        if other {
            out.entry([path, below].concat()).or_default().insert(text.to_owned());
        }
    };
    let mut ends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for choice in known {
        match (choice.is_whole, choice.path.last()) {
            (true, _) => add(&choice.path, at(values, &choice.path), &choice.text),
            (false, Some(last)) => ends.entry(last).or_default().push(&choice.text),
            (false, None) => {}
        }
    }
    let names: BTreeSet<&str> = chart.dependencies.iter().map(|c| c.metadata.name.as_str()).collect();
    if !ends.is_empty() {
        let mut way = Vec::new();
        strings(values, &names, &mut way, &mut |way, now| {
            for text in way.last().and_then(|l| ends.get(l.as_str())).into_iter().flatten() {
                add(way, Some(now), text);
            }
        });
    }
    if let Some(schema) = chart.schema.as_ref().and_then(|s| serde_json::from_slice::<Tree>(s).ok()) {
        enums(&schema, &mut Vec::new(), &mut |way, text| add(way, at(values, way), text));
    }
}

fn at<'t>(values: &'t Table<String, Tree>, path: &[String]) -> Option<&'t Tree> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(values.get(first)?, |tree, key| tree.get(key))
}

/// Every text below, except in what belongs to dependencies.
fn strings(
    values: &Table<String, Tree>,
    not: &BTreeSet<&str>,
    way: &mut Vec<String>,
    found: &mut dyn FnMut(&[String], &Tree),
) {
    for (key, value) in values {
        if way.is_empty() && (not.contains(key.as_str()) || key == "global") {
            continue;
        }
        way.push(key.clone());
        match value {
            Tree::String(_) => found(way, value),
            Tree::Object(map) if way.len() < 64 => strings(map, &BTreeSet::new(), way, found),
            _ => {}
        }
        way.pop();
    }
}

/// What a schema lists for texts.
fn enums(schema: &Tree, way: &mut Vec<String>, found: &mut dyn FnMut(&[String], &str)) {
    if way.len() > 32 {
        return;
    }
    for text in schema.get("enum").and_then(Tree::as_array).into_iter().flatten().filter_map(Tree::as_str) {
        found(way, text);
    }
    for (key, below) in schema.get("properties").and_then(Tree::as_object).into_iter().flatten() {
        way.push(key.clone());
        enums(below, way, found);
        way.pop();
    }
}

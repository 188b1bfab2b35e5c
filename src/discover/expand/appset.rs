//! Argo CD's `ApplicationSet` with generators that need nothing but the set itself: `list`, and `matrix` and `merge` of
//! lists. Fields: argo-cd.readthedocs.io/en/stable/operator-manual/applicationset.

use std::sync::Arc;

use serde_json::Map;

use super::super::held::Held;
use super::super::{Findings, Problem, scan};
use super::{Here, Step, lead};
use crate::chart::Tree;
use crate::template::value::from_json;
use crate::template::{Engine, Env, Limits};
use crate::yaml;

/// Parameters are multiplied by `matrix`.
const MAX_APPLICATIONS: usize = 2_000;
/// Generators within each other; upstream allows two.
const MAX_DEPTH: usize = 4;

type Params = Map<String, Tree>;

/// No clock and no randomness: the same set gives the same images.
struct Still;

impl Env for Still {
    fn now_nanos(&self) -> i128 {
        0
    }

    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

pub(super) fn set(here: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let mut found = Findings::default();
    let Tree::Object(spec) = object.tree().get("spec").cloned().unwrap_or_default() else {
        return Err(object.gap("spec", "it has no spec").into());
    };
    let mut work =
        Set { object, go: spec.get("goTemplate") == Some(&Tree::Bool(true)), problems: Vec::new() };
    let template = spec.get("template").cloned().unwrap_or_default();
    let patch = spec.get("templatePatch").and_then(Tree::as_str);
    let generators = spec.get("generators").and_then(Tree::as_array).cloned().unwrap_or_default();
    let mut count = 0;
    for (i, generator) in generators.iter().enumerate() {
        let path = format!("spec.generators[{i}]");
        for (params, own) in work.generate(generator, &path, 0) {
            count += 1;
            if count > MAX_APPLICATIONS {
                let reason =
                    format!("it makes more than {MAX_APPLICATIONS} applications; the rest is left out");
                work.problems.push(object.gap("spec.generators", reason));
                break;
            }
            if here.scope.cancel.is_cancelled() {
                return Err(super::Halt::Cancelled);
            }
            let mut template = template.clone();
            own.into_iter().for_each(|own| overlay(&mut template, own));
            match work.application(template, patch, &params) {
                Ok(application) => {
                    let mut made = scan(&application.to_string(), object.source.inner());
                    made.held.iter_mut().for_each(Held::displace);
                    for problem in &mut made.problems {
                        (problem.document, problem.line, problem.column) = (None, None, None);
                    }
                    // It stands in no file and is no document that was read.
                    made.documents = Default::default();
                    lead(&mut made, &object.chain());
                    found.merge(made);
                }
                Err(reason) => work.problems.push(object.gap("spec.template", reason)),
            }
        }
    }
    found.problems.append(&mut work.problems);
    Ok(found)
}

struct Set<'a> {
    object: &'a Held,
    /// Go templates, else only `{{name}}`.
    go: bool,
    problems: Vec<Problem>,
}

impl Set<'_> {
    /// What a generator gives, each with the generator's own template.
    fn generate(&mut self, generator: &Tree, path: &str, depth: usize) -> Vec<(Params, Option<Tree>)> {
        let Some(map) = generator.as_object() else { return Vec::new() };
        let named = map.iter().find(|(k, _)| k.as_str() != "selector");
        let Some((kind, body)) = named else { return Vec::new() };
        let here = format!("{path}.{kind}");
        if depth > MAX_DEPTH {
            self.problems
                .push(self.object.gap(&here, format!("generators are nested deeper than {MAX_DEPTH}")));
            return Vec::new();
        }
        let own = body.get("template").filter(|t| t.is_object()).cloned();
        let params = match kind.as_str() {
            "list" => self.list(body, &here),
            "matrix" => self.matrix(body, &here, depth),
            "merge" => self.merge(body, &here, depth),
            other => {
                let reason = format!(
                    "the generator {other} asks what is not on this machine; where it can be reached: argocd appset \
                     generate FILE -o yaml | omk image discover -"
                );
                self.problems.push(self.object.gap(&here, reason));
                Vec::new()
            }
        };
        let wanted = map.get("selector").and_then(|s| s.get("matchLabels")).and_then(Tree::as_object);
        let fits = |p: &Params| {
            wanted.is_none_or(|w| {
                w.iter()
                    .all(|(k, v)| flat(p).iter().any(|(fk, fv)| fk == k && Some(fv.as_str()) == v.as_str()))
            })
        };
        params.into_iter().filter(fits).map(|p| (p, own.clone())).collect()
    }

    fn list(&mut self, body: &Tree, path: &str) -> Vec<Params> {
        let mut all = body.get("elements").and_then(Tree::as_array).cloned().unwrap_or_default();
        if let Some(text) = body.get("elementsYaml").and_then(Tree::as_str) {
            match yaml::parse_one(text, &yaml::Limits::default()) {
                Ok(node) => all.extend(crate::kustomize::tree(&node).as_array().cloned().unwrap_or_default()),
                Err(e) => {
                    self.problems
                        .push(self.object.gap(&format!("{path}.elementsYaml"), format!("not YAML: {e}")));
                }
            }
        }
        all.into_iter().filter_map(|e| if let Tree::Object(map) = e { Some(map) } else { None }).collect()
    }

    fn below(body: &Tree) -> &[Tree] {
        body.get("generators").and_then(Tree::as_array).map_or(&[], Vec::as_slice)
    }

    fn matrix(&mut self, body: &Tree, path: &str, depth: usize) -> Vec<Params> {
        let mut all = vec![Params::new()];
        for (i, generator) in Self::below(body).iter().enumerate() {
            let mut next = Vec::new();
            for params in &all {
                // A later generator may use what an earlier one gives.
                let mut generator = generator.clone();
                if let Err(reason) = self.fill(&mut generator, params, 0) {
                    self.problems.push(self.object.gap(path, reason));
                }
                for (more, _) in self.generate(&generator, &format!("{path}.generators[{i}]"), depth + 1) {
                    let mut joined = params.clone();
                    joined.extend(more);
                    next.push(joined);
                    if next.len() > MAX_APPLICATIONS {
                        return next;
                    }
                }
            }
            all = next;
        }
        all
    }

    fn merge(&mut self, body: &Tree, path: &str, depth: usize) -> Vec<Params> {
        let keys: Vec<&str> = body
            .get("mergeKeys")
            .and_then(Tree::as_array)
            .into_iter()
            .flatten()
            .filter_map(Tree::as_str)
            .collect();
        let mut all: Vec<Params> = Vec::new();
        for (i, generator) in Self::below(body).iter().enumerate() {
            let given = self.generate(generator, &format!("{path}.generators[{i}]"), depth + 1);
            if i == 0 {
                all = given.into_iter().map(|(p, _)| p).collect();
                continue;
            }
            for (more, _) in given {
                let same = |p: &Params| keys.iter().all(|k| value(p, k) == value(&more, k));
                for params in all.iter_mut().filter(|p| same(p)) {
                    let mut base = Tree::Object(std::mem::take(params));
                    overlay(&mut base, Tree::Object(more.clone()));
                    if let Tree::Object(map) = base {
                        *params = map;
                    }
                }
            }
        }
        all
    }

    fn application(&self, mut template: Tree, patch: Option<&str>, params: &Params) -> Result<Tree, String> {
        self.fill(&mut template, params, 0)?;
        if let Some(patch) = patch {
            let text = self.render(patch, params)?;
            let node = yaml::parse_one(&text, &yaml::Limits::default())
                .map_err(|e| format!("templatePatch: {e}"))?;
            overlay(&mut template, crate::kustomize::tree(&node));
        }
        let Tree::Object(mut map) = template else { return Err("it is no mapping".to_owned()) };
        map.insert("apiVersion".into(), Tree::from("argoproj.io/v1alpha1"));
        map.insert("kind".into(), Tree::from("Application"));
        Ok(Tree::Object(map))
    }

    /// Fills the parameters into every text.
    fn fill(&self, value: &mut Tree, params: &Params, depth: usize) -> Result<(), String> {
        if depth > 200 {
            return Ok(());
        }
        match value {
            Tree::String(text) if text.contains("{{") => {
                *text = self.render(text, params)?;
                Ok(())
            }
            Tree::Array(items) => items.iter_mut().try_for_each(|i| self.fill(i, params, depth + 1)),
            Tree::Object(map) => map.values_mut().try_for_each(|v| self.fill(v, params, depth + 1)),
            _ => Ok(()),
        }
    }

    fn render(&self, text: &str, params: &Params) -> Result<String, String> {
        if !self.go {
            return Ok(plain(text, &flat(params)));
        }
        let limits = Limits {
            max_depth: 20,
            max_calls: 100_000,
            max_bytes: 4 << 20,
            fuel: 1_000_000,
            ..Limits::default()
        };
        let mut engine = Engine::new(Arc::new(Still), limits);
        engine.add("template", text).map_err(|e| e.to_string())?;
        engine.render("template", &from_json(&Tree::Object(params.clone()))).map_err(|e| e.to_string())
    }
}

/// `{{ name }}` as fasttemplate has it; what no parameter stands for stays.
fn plain(text: &str, params: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else { break };
        let name = rest[start + 2..start + length].trim();
        out.push_str(&rest[..start]);
        match params.iter().find(|(k, _)| k == name) {
            Some((_, value)) => out.push_str(value),
            None => out.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out + rest
}

/// Parameters by their dotted names.
fn flat(params: &Params) -> Vec<(String, String)> {
    fn add(prefix: &str, value: &Tree, out: &mut Vec<(String, String)>, depth: usize) {
        match value {
            Tree::Object(map) if depth < 20 => {
                for (key, value) in map {
                    let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    add(&key, value, out, depth + 1);
                }
            }
            Tree::String(text) => out.push((prefix.to_owned(), text.clone())),
            Tree::Null | Tree::Array(_) | Tree::Object(_) => {}
            scalar => out.push((prefix.to_owned(), scalar.to_string())),
        }
    }
    let mut out = Vec::new();
    params.iter().for_each(|(k, v)| add(k, v, &mut out, 0));
    out
}

fn value<'p>(params: &'p Params, dotted: &str) -> Option<&'p Tree> {
    params.get(dotted).or_else(|| {
        let mut parts = dotted.split('.');
        let first = params.get(parts.next()?)?;
        parts.try_fold(first, |v, part| v.get(part))
    })
}

/// Mappings merge, everything else replaces.
fn overlay(base: &mut Tree, over: Tree) {
    match (base, over) {
        (Tree::Object(base), Tree::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(Tree::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_parameters_are_filled_in() {
        let params = serde_json::json!({"cluster": "one", "values": {"tag": "1.2"}, "n": 3});
        let Tree::Object(params) = params else { panic!() };
        let filled = plain("{{cluster}}-{{ values.tag }}-{{n}}-{{other}}-{{", &flat(&params));
        assert_eq!(filled, "one-1.2-3-{{other}}-{{");
    }
}

//! How much work a schema would be for an instance, before that work is done.
//!
//! Schemas are foreign code: with references, a kilobyte of them can ask for more steps than there are atoms. What
//! the validator will do is followed here once for each pair of schema and value, however often it would come by
//! there, and added up; what is too much, or goes round in a circle without going down in the values, is refused.

use std::collections::HashMap;

use super::patterns;
use super::refs::{HERE, NAMED, base_of, is_standard, resolve};
use crate::chart::values::Tree;

/// Steps of a validation. Real charts need some thousands.
pub(super) const MAX_STEPS: u64 = 5_000_000;
/// Pairs of schema and value.
const MAX_PAIRS: usize = 500_000;
/// References and keywords within each other.
const MAX_DEPTH: usize = 2_000;

/// # Errors
///
/// If validation would take more than the bounds, or a reference leads nowhere.
pub(super) fn bound(schema: &Tree, instance: &Tree) -> Result<(), String> {
    let patterns = patterns::sizes(schema)?;
    let mut walk = Walk { patterns, places: HashMap::new(), anchors: HashMap::new(), seen: HashMap::new() };
    walk.gather(schema, HERE);
    walk.depth_of_references(schema)?;
    let steps = walk.visit(schema, instance, HERE, 0)?;
    if steps > MAX_STEPS { Err(too_many()) } else { Ok(()) }
}

fn too_many() -> String {
    format!("schema would take more than {MAX_STEPS} steps to check these values")
}

struct Walk<'a> {
    /// Sizes of regular expressions.
    patterns: HashMap<&'a str, u64>,
    /// Schemas with an address of their own, and their base.
    places: HashMap<String, &'a Tree>,
    /// By name; several may have the same one below different bases.
    anchors: HashMap<&'a str, Vec<(&'a Tree, String)>>,
    /// Steps by addresses of schema and value; none while it is being found out.
    seen: HashMap<(usize, usize), Option<u64>>,
}

fn address(tree: &Tree) -> usize {
    std::ptr::from_ref(tree) as usize
}

impl<'a> Walk<'a> {
    fn gather(&mut self, schema: &'a Tree, base: &str) {
        let inner = base_of(schema, base);
        if inner != base || base == HERE {
            self.places.entry(inner.clone()).or_insert(schema);
        }
        match schema {
            Tree::Object(m) => {
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = m.get(key).and_then(Tree::as_str) {
                        self.anchors.entry(name).or_default().push((schema, inner.clone()));
                    }
                }
                for key in ["$id", "id"] {
                    if let Some(name) = m.get(key).and_then(Tree::as_str).and_then(|id| id.strip_prefix('#'))
                    {
                        self.anchors.entry(name).or_default().push((schema, inner.clone()));
                    }
                }
                m.values().for_each(|below| self.gather(below, &inner));
            }
            Tree::Array(items) => items.iter().for_each(|below| self.gather(below, &inner)),
            _ => {}
        }
    }

    fn target(&self, base: &str, reference: &str) -> Result<Vec<(&'a Tree, String)>, String> {
        let lost = || match reference.split_once('#') {
            Some(("", pointer)) if pointer.starts_with('/') => {
                format!("json-pointer in \"file:///values.schema.json#{pointer}\" not found")
            }
            _ => format!("schema refers to {reference:?}, which is not in it"),
        };
        let (url, fragment) = resolve(base, reference).ok_or_else(lost)?;
        if is_standard(&url) && !self.places.contains_key(&url) {
            return Ok(Vec::new());
        }
        let place = *self.places.get(&url).ok_or_else(lost)?;
        if fragment.is_empty() {
            return Ok(vec![(place, url)]);
        }
        if !fragment.starts_with('/') {
            return self.anchors.get(fragment.as_str()).cloned().ok_or_else(lost);
        }
        let (mut at, mut base) = (place, url);
        for part in unescape(&fragment).split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match at {
                Tree::Array(items) => part.parse::<usize>().ok().and_then(|i| items.get(i)),
                other => other.get(&part),
            };
            at = next.ok_or_else(lost)?;
            base = base_of(at, &base);
        }
        Ok(vec![(at, base)])
    }

    /// Chains of references are followed by recursion when a schema is compiled, whatever the values are.
    fn depth_of_references(&self, root: &'a Tree) -> Result<(), String> {
        let mut depth: HashMap<usize, usize> = HashMap::new();
        let mut todo = vec![(root, HERE.to_owned(), 0)];
        while let Some((schema, base, deep)) = todo.pop() {
            if deep > MAX_DEPTH {
                return Err(format!("schema has references nested deeper than {MAX_DEPTH} levels"));
            }
            if depth.insert(address(schema), deep).is_some() {
                continue;
            }
            let base = base_of(schema, &base);
            match schema {
                Tree::Object(m) => {
                    for (key, below) in m {
                        match below {
                            Tree::String(text) if key == "$ref" => {
                                for (target, base) in self.target(&base, text)? {
                                    todo.push((target, base, deep + 1));
                                }
                            }
                            Tree::Object(_) | Tree::Array(_)
                                if !matches!(key.as_str(), "enum" | "const" | "default" | "examples") =>
                            {
                                todo.push((
                                    below,
                                    base.clone(),
                                    deep + usize::from(!NAMED.contains(&key.as_str())),
                                ));
                            }
                            _ => {}
                        }
                    }
                }
                Tree::Array(items) => todo.extend(items.iter().map(|s| (s, base.clone(), deep))),
                _ => {}
            }
        }
        Ok(())
    }

    fn visit(&mut self, schema: &'a Tree, value: &Tree, base: &str, depth: usize) -> Result<u64, String> {
        let Tree::Object(m) = schema else { return Ok(1) };
        let key = (address(schema), address(value));
        match self.seen.get(&key) {
            Some(Some(steps)) => return Ok(*steps),
            Some(None) => return Err("schema refers to itself without an end: reference cycle".into()),
            None => {}
        }
        if depth > MAX_DEPTH || self.seen.len() > MAX_PAIRS {
            return Err(too_many());
        }
        self.seen.insert(key, None);
        let base = base_of(schema, base);
        let mut here = 0u64;
        let mut below = 0u64;
        for (keyword, arg) in m {
            here = here.saturating_add(self.in_place(keyword, arg, value, &base, depth + 1)?);
            below = below.saturating_add(self.beneath(m, keyword, arg, value, &base, depth + 1)?);
        }
        // To know what is unevaluated, all that stands beside it is evaluated once more.
        if m.contains_key("unevaluatedProperties") || m.contains_key("unevaluatedItems") {
            here = here.saturating_mul(2);
        }
        let steps = here.saturating_add(below).saturating_add(1 + m.len() as u64);
        if steps > MAX_STEPS {
            return Err(too_many());
        }
        self.seen.insert(key, Some(steps));
        Ok(steps)
    }

    /// Steps to look for a pattern in so many bytes: at worst, each of them meets every state.
    fn matching(&self, pattern: &str, bytes: usize) -> u64 {
        let units = self.patterns.get(pattern).copied().unwrap_or(1);
        units.saturating_mul(bytes as u64) / 64
    }

    /// Keywords that look at the same value again.
    fn in_place(
        &mut self,
        keyword: &str,
        arg: &'a Tree,
        value: &Tree,
        base: &str,
        depth: usize,
    ) -> Result<u64, String> {
        let mut sum = 0u64;
        match (keyword, arg) {
            ("allOf" | "anyOf" | "oneOf", Tree::Array(all)) => {
                for schema in all {
                    sum = sum.saturating_add(self.visit(schema, value, base, depth)?);
                }
            }
            ("not" | "if" | "then" | "else", schema) => sum = self.visit(schema, value, base, depth)?,
            ("dependentSchemas" | "dependencies", Tree::Object(all)) => {
                for (_, schema) in all.iter().filter(|(name, _)| value.get(name.as_str()).is_some()) {
                    sum = sum.saturating_add(self.visit(schema, value, base, depth)?);
                }
            }
            ("$ref" | "$dynamicRef" | "$recursiveRef", Tree::String(text)) => {
                for (schema, base) in self.target(base, text)? {
                    sum = sum.saturating_add(self.visit(schema, value, &base, depth)?);
                }
            }
            ("pattern", Tree::String(pattern)) => {
                sum = self.matching(pattern, value.as_str().map_or(0, str::len));
            }
            // Every enumerated value may be compared in full.
            ("enum", Tree::Array(all)) => sum = all.len() as u64,
            _ => {}
        }
        Ok(sum)
    }

    /// Keywords that go down in the value.
    fn beneath(
        &mut self,
        schema: &'a serde_json::Map<String, Tree>,
        keyword: &str,
        arg: &'a Tree,
        value: &Tree,
        base: &str,
        depth: usize,
    ) -> Result<u64, String> {
        let mut sum = 0u64;
        let mut add = |walk: &mut Self, schema: &'a Tree, value: &Tree| -> Result<(), String> {
            sum = sum.saturating_add(walk.visit(schema, value, base, depth)?);
            Ok(())
        };
        match (keyword, arg, value) {
            ("properties", Tree::Object(all), Tree::Object(members)) => {
                for (name, schema) in all {
                    if let Some(member) = members.get(name) {
                        add(self, schema, member)?;
                    }
                }
            }
            ("patternProperties", Tree::Object(all), Tree::Object(members)) => {
                let names = members.keys().map(String::len).sum();
                let matching = all.keys().map(|pattern| self.matching(pattern, names)).sum::<u64>();
                for schema in all.values() {
                    for member in members.values() {
                        add(self, schema, member)?;
                    }
                }
                sum = sum.saturating_add(matching);
            }
            ("additionalProperties", below, Tree::Object(members)) => {
                let named = schema.get("properties").and_then(Tree::as_object);
                for (name, member) in members {
                    if named.is_none_or(|n| !n.contains_key(name)) {
                        add(self, below, member)?;
                    }
                }
            }
            ("unevaluatedProperties", below, Tree::Object(members)) => {
                for member in members.values() {
                    add(self, below, member)?;
                }
            }
            ("propertyNames", below, Tree::Object(members)) => {
                let one = self.visit(below, &Tree::Null, base, depth)?;
                sum = one.saturating_mul(members.len() as u64);
            }
            ("items" | "prefixItems", Tree::Array(all), Tree::Array(members)) => {
                for (below, member) in all.iter().zip(members) {
                    add(self, below, member)?;
                }
            }
            ("items" | "additionalItems" | "unevaluatedItems" | "contains", below, Tree::Array(members)) => {
                for member in members {
                    add(self, below, member)?;
                }
            }
            ("uniqueItems", Tree::Bool(true), Tree::Array(members)) => {
                // Pairs that are compared: numbers and objects are not hashed.
                sum = (members.len() as u64).saturating_mul(members.len() as u64) / 64;
            }
            _ => {}
        }
        Ok(sum)
    }
}

/// Percent-encoding undone; what is no UTF-8 then stays as it is.
fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('%') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let hex = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(b'%'));
        rest = &rest[at + if hex.is_some() { 3 } else { 1 }..];
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

//! Patches: what they are, and which objects they fit.

use std::path::{Path, PathBuf};

use super::KustomizeError;
use super::file::{PatchEntry, Selector};
use super::load;
use super::merge;
use super::object::{Id, Object, tree};
use crate::chart::Tree;
use crate::yaml::{self, Limits};

/// Longest pattern of a selector.
const MAX_PATTERN: usize = 4096;

/// Patches of one entry.
pub(super) struct Patch {
    pub(super) origin: PathBuf,
    work: Work,
    target: Option<Selector>,
    rename: bool,
    retype: bool,
}

enum Work {
    /// Strategic-merge patches, an object each.
    Merge(Vec<Object>),
    /// RFC 6902.
    Operations(Vec<json_patch::PatchOperation>),
}

impl Patch {
    /// Strategic-merge patches, each of which names the object it is for.
    pub(super) fn merges(text: &str, origin: &Path) -> Result<Self, KustomizeError> {
        let work = Work::Merge(load::objects(text, origin)?);
        Ok(Self { origin: origin.into(), work, target: None, rename: false, retype: false })
    }

    /// An entry of `patches`: operations if it reads as a list of them, else strategic-merge patches.
    pub(super) fn parse(text: &str, origin: &Path, entry: &PatchEntry) -> Result<Self, KustomizeError> {
        let fail = |reason: String| KustomizeError::new(origin, reason);
        let allowed = |option: &str| match entry.options.get(option) {
            Some(Tree::Bool(b)) => *b,
            Some(Tree::String(s)) => s == "true",
            _ => false,
        };
        let mut patch = Self {
            origin: origin.into(),
            work: Work::Merge(Vec::new()),
            target: entry.target.clone(),
            rename: allowed("allowNameChange"),
            retype: allowed("allowKindChange"),
        };
        let first = yaml::documents(text, &Limits::default()).next();
        if let Some(Ok(node)) = first.map(|d| d.result)
            && node.as_seq().is_some()
        {
            if patch.target.is_none() {
                return Err(fail("a patch of operations needs a target".into()));
            }
            let operations = serde_json::from_value(tree(&node))
                .map_err(|e| fail(format!("is no list of JSON 6902 operations: {e}")))?;
            return Ok(Self { work: Work::Operations(operations), ..patch });
        }
        if let Some(operations) = json_operations(text) {
            patch.work = Work::Operations(operations);
            return Ok(patch);
        }
        patch.work = Work::Merge(if patch.target.is_some() {
            fragments(text, origin)?
        } else {
            load::objects(text, origin)?
        });
        // kustomize passes over files that hold nothing.
        if entry.path.is_none() && matches!(&patch.work, Work::Merge(all) if all.is_empty()) {
            return Err(fail("a patch is empty: it is neither an object nor a list of operations".into()));
        }
        Ok(patch)
    }
}

fn json_operations(text: &str) -> Option<Vec<json_patch::PatchOperation>> {
    text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// With a target a patch is for whatever that selects; it needs a kind and a name all the same, or Kustomize does not take it for
/// an object.
fn fragments(text: &str, origin: &Path) -> Result<Vec<Object>, KustomizeError> {
    let mut out = Vec::new();
    for document in yaml::documents(text, &Limits::default()) {
        let node = document
            .result
            .map_err(|e| KustomizeError::new(origin, format!("is not YAML: {}", e.reason)).at(e.line))?;
        if node.as_map().is_none() {
            return Err(
                KustomizeError::new(origin, "is neither an object nor a list of operations").at(node.line)
            );
        }
        let object = Object { value: tree(&node), origin: origin.into(), before: Vec::new() };
        let id = object.id();
        if id.kind.is_empty() || id.name.is_empty() {
            let reason = "a patch has no kind or no metadata.name, which Kustomize wants even beside a target: any will do";
            return Err(KustomizeError::new(origin, reason).at(node.line));
        }
        out.push(object);
    }
    Ok(out)
}

/// Applies a patch to every object that it fits.
pub(super) fn apply(objects: &mut Vec<Object>, patch: &Patch) -> Result<(), String> {
    match (&patch.work, &patch.target) {
        (Work::Merge(patches), None) => {
            for one in patches {
                let id = one.id();
                // Of several objects that fit by a former identity, the one that has it now is meant.
                let at = |i: &Object| i.id().is(&id);
                let found = objects
                    .iter()
                    .position(at)
                    .or_else(|| objects.iter().position(|o| o.ids().any(|i| i.is(&id))));
                let Some(index) = found else {
                    let Id { kind, name, .. } = id;
                    return Err(format!("the patch fits no object: there is no {kind} {name}"));
                };
                merge_one(objects, index, one, patch);
            }
        }
        (Work::Merge(patches), Some(target)) => {
            for one in patches {
                for index in selected(objects, target)?.into_iter().rev() {
                    merge_one(objects, index, one, patch);
                }
            }
        }
        (Work::Operations(operations), Some(target)) => {
            for index in selected(objects, target)? {
                let object = &mut objects[index];
                let old = object.id();
                operations
                    .iter()
                    .try_for_each(|o| operate(&mut object.value, o))
                    .map_err(|e| format!("does not fit {} {}: {e}", old.kind, old.name))?;
                if object.id() != old {
                    object.before.push(old);
                }
            }
        }
        (Work::Operations(_), None) => {}
    }
    Ok(())
}

/// What RFC 6902 leaves out and Kustomize's library takes: `replace` sets a field that is not there, and items may be
/// counted from the end of their list.
fn operate(value: &mut Tree, operation: &json_patch::PatchOperation) -> Result<(), String> {
    let adds = matches!(operation, json_patch::PatchOperation::Add(_));
    let mut plain = serde_json::to_value(operation).map_err(|e| e.to_string())?;
    for field in ["path", "from"] {
        let Some(Tree::String(path)) = plain.get_mut(field) else { continue };
        let (counted, sets) = counted(value, path, adds);
        *path = counted;
        if field == "path" && sets && matches!(operation, json_patch::PatchOperation::Replace(_)) {
            plain["op"] = "add".into();
        }
    }
    let operation = serde_json::from_value(plain).map_err(|e| e.to_string())?;
    json_patch::patch(value, &[operation]).map_err(|e| e.to_string())
}

/// A path with the numbers of items counted from the beginning, and whether it ends at a field that is not there yet.
fn counted(value: &Tree, path: &str, adds: bool) -> (String, bool) {
    let (mut out, mut at, mut sets) = (String::new(), Some(value), false);
    let mut words = path.split('/').skip(1).peekable();
    while let Some(word) = words.next() {
        let mut word = word.to_owned();
        if let Some(Tree::Array(items)) = at
            && let Some(back) = word.strip_prefix('-').and_then(|n| n.parse::<usize>().ok())
        {
            let all = items.len() + usize::from(adds && words.peek().is_none());
            // One that goes beyond the beginning stays as it is, and is refused.
            word = all.checked_sub(back).map_or(word, |i| i.to_string());
        }
        let field = word.replace("~1", "/").replace("~0", "~");
        sets = words.peek().is_none()
            && at.is_some_and(|a| a.as_object().is_some_and(|m| !m.contains_key(&field)));
        at = at.and_then(|a| match a {
            Tree::Array(items) => word.parse::<usize>().ok().and_then(|i| items.get(i)),
            other => other.get(&field),
        });
        out.push('/');
        out += &word;
    }
    (out, sets)
}

fn merge_one(objects: &mut Vec<Object>, index: usize, one: &Object, patch: &Patch) {
    let object = &mut objects[index];
    let id = object.id();
    let before = object.value.get("metadata").cloned();
    let mut change = one.value.clone();
    if let Tree::Object(map) = &mut change {
        if !patch.retype {
            map.remove("apiVersion");
            map.remove("kind");
        }
        if let Some(Tree::Object(metadata)) = map.get_mut("metadata")
            && !patch.rename
        {
            metadata.remove("name");
            metadata.remove("namespace");
        }
    }
    if merge::merge(&mut object.value, change, &merge::Lists::of(&id)) == merge::Kept::No {
        objects.remove(index);
        return;
    }
    if let (Tree::Object(map), Some(metadata)) = (&mut object.value, before)
        && !map.contains_key("metadata")
    {
        map.insert("metadata".into(), metadata);
    }
    if object.id() != id {
        object.before.push(id);
    }
}

fn selected(objects: &[Object], selector: &Selector) -> Result<Vec<usize>, String> {
    let matcher = Matcher::new(selector)?;
    Ok((0..objects.len()).filter(|i| matcher.fits(&objects[*i])).collect())
}

/// A selector with its patterns compiled.
pub(super) struct Matcher {
    patterns: [Option<regex::Regex>; 5],
    labels: Vec<Requirement>,
    annotations: Vec<Requirement>,
}

impl Matcher {
    pub(super) fn new(selector: &Selector) -> Result<Self, String> {
        let pattern = |text: &Option<String>| match text.as_deref().filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some(text) if text.len() > MAX_PATTERN => {
                Err(format!("a pattern is longer than {MAX_PATTERN} bytes"))
            }
            Some(text) => regex::RegexBuilder::new(&format!("^(?:{text})$"))
                .size_limit(1 << 20)
                .build()
                .map(Some)
                .map_err(|e| format!("{text:?} is no regular expression: {e}")),
        };
        let Selector { group, version, kind, name, namespace, label_selector, annotation_selector } =
            selector;
        Ok(Self {
            patterns: [
                pattern(group)?,
                pattern(version)?,
                pattern(kind)?,
                pattern(name)?,
                pattern(namespace)?,
            ],
            labels: requirements(label_selector.as_deref().unwrap_or_default())?,
            annotations: requirements(annotation_selector.as_deref().unwrap_or_default())?,
        })
    }

    pub(super) fn fits(&self, object: &Object) -> bool {
        let [group, version, kind, name, namespace] = &self.patterns;
        let fits =
            |pattern: &Option<regex::Regex>, text: &str| pattern.as_ref().is_none_or(|p| p.is_match(text));
        let space = |id: &Id| {
            // An object without a namespace is in the default one.
            fits(namespace, &id.namespace) || (id.namespace.is_empty() && fits(namespace, "default"))
        };
        let id = object.id();
        fits(group, &id.group)
            && fits(version, &id.version)
            && fits(kind, &id.kind)
            && object.ids().any(|i| fits(name, &i.name) && space(&i))
            && self.labels.iter().all(|r| r.holds(object, "labels"))
            && self.annotations.iter().all(|r| r.holds(object, "annotations"))
    }
}

/// One part of a label selector.
#[derive(Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Requirement {
    fn holds(&self, object: &Object, field: &str) -> bool {
        let value = |key: &str| object.metadata(field, key).map(str::to_owned);
        match self {
            Self::In(key, values) => value(key).is_some_and(|v| values.contains(&v)),
            Self::NotIn(key, values) => value(key).is_none_or(|v| !values.contains(&v)),
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
        }
    }
}

/// `a=b,c!=d,e,!f,g in (h,i),j notin (k)` (`k8s.io/apimachinery/pkg/labels`).
fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|p| !p.is_empty());
    parts.map(|p| requirement(p).ok_or_else(|| format!("{text:?} is no label selector"))).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let word = |w: &str| {
        let w = w.trim();
        (!w.is_empty() && !w.contains(char::is_whitespace)).then(|| w.to_owned())
    };
    if let Some((head, values)) = part.split_once('(') {
        let values = values.strip_suffix(')')?.split(',').map(|v| v.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            "in" => Some(Requirement::In(word(key)?, values)),
            "notin" => Some(Requirement::NotIn(word(key)?, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(word(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(word(key)?, vec![value.trim().to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(key) => Some(Requirement::Absent(word(key)?)),
        None => Some(Requirement::Exists(word(part)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_as_kubectl_takes_them() {
        let run = |operation: Tree| {
            let mut value = serde_json::json!({"a": {"l": [1, 2]}});
            operate(&mut value, &serde_json::from_value(operation).unwrap()).map(|()| value["a"].to_string())
        };
        let op = |op: &str, path: &str| serde_json::json!({"op": op, "path": path, "value": 7});
        for (operation, expected) in [
            (op("replace", "/a/new"), r#"{"l":[1,2],"new":7}"#),
            (op("add", "/a/l/-"), r#"{"l":[1,2,7]}"#),
            (op("add", "/a/l/-1"), r#"{"l":[1,2,7]}"#),
            (op("replace", "/a/l/-1"), r#"{"l":[1,7]}"#),
            (op("remove", "/a/l/-2"), r#"{"l":[2]}"#),
        ] {
            assert_eq!(run(operation.clone()).as_deref(), Ok(expected), "{operation}");
        }
        for refused in
            [op("replace", "/x/y"), op("add", "/x/y"), op("remove", "/a/x"), op("replace", "/a/l/5")]
        {
            assert!(run(refused.clone()).is_err(), "{refused}");
        }
    }

    #[test]
    fn label_selectors() {
        use Requirement::{Absent, Exists, In, NotIn};
        let text = "a=b, c==d,e!=f,g,!h,i in (j, k),l notin (m)";
        let s = |t: &str| t.to_owned();
        let expected = [
            In(s("a"), vec![s("b")]),
            In(s("c"), vec![s("d")]),
            NotIn(s("e"), vec![s("f")]),
            Exists(s("g")),
            Absent(s("h")),
            In(s("i"), vec![s("j"), s("k")]),
            NotIn(s("l"), vec![s("m")]),
        ];
        assert_eq!(requirements(text).unwrap(), expected);
        assert!(requirements("a of (b)").is_err() && requirements("a b").is_err());
    }
}

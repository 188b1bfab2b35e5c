//! `replacements`: a value of one object copied into others.

use super::file::{FieldOptions, Replacement, ReplacementSource, ReplacementTarget, Selector};
use super::object::Object;
use super::patch::Matcher;
use crate::chart::Tree;

pub(super) fn apply(objects: &mut [Object], replacement: &Replacement) -> Result<(), String> {
    let value = match (&replacement.source, &replacement.source_value) {
        (Some(source), None) => source_value(objects, source)?,
        (None, Some(text)) => Tree::String(text.clone()),
        _ => return Err("one has either source or sourceValue".into()),
    };
    for target in &replacement.targets {
        put(objects, target, &value)?;
    }
    Ok(())
}

fn source_value(objects: &[Object], source: &ReplacementSource) -> Result<Tree, String> {
    let exact = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(regex::escape);
    let ReplacementSource { group, version, kind, name, namespace, .. } = source;
    let selector = Selector {
        group: exact(group),
        version: exact(version),
        kind: exact(kind),
        name: exact(name),
        namespace: exact(namespace),
        ..Selector::default()
    };
    let matcher = Matcher::new(&selector)?;
    let mut found = objects.iter().filter(|o| matcher.fits(o));
    let words = || {
        let parts = [kind, name, namespace].into_iter().flatten();
        parts.cloned().collect::<Vec<_>>().join(" ")
    };
    let object = found.next().ok_or_else(|| format!("nothing is selected by the source {}", words()))?;
    if found.next().is_some() {
        return Err(format!("more than one object is selected by the source {}", words()));
    }
    let path = source.field_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("metadata.name");
    let mut value = object.value.clone();
    let mut taken = None;
    walk(&mut value, &parse(path)?, false, &mut |v| {
        taken.get_or_insert_with(|| v.clone());
    });
    let value = taken.ok_or_else(|| format!("{} has no field {path}", words()))?;
    let Some(options) = source.options.as_ref().filter(|o| !o.delimiter.is_empty()) else { return Ok(value) };
    let text = text_of(&value).ok_or_else(|| format!("{path} is no text that could be split"))?;
    let parts: Vec<&str> = text.split(&options.delimiter).collect();
    let part = usize::try_from(options.index).ok().and_then(|i| parts.get(i));
    let part = part.ok_or_else(|| format!("{path} has no part {}: {text:?}", options.index))?;
    Ok(Tree::String((*part).to_owned()))
}

fn put(objects: &mut [Object], target: &ReplacementTarget, value: &Tree) -> Result<(), String> {
    let select = Matcher::new(&target.select)?;
    let empty =
        |s: &Selector| s.kind.is_none() && s.name.is_none() && s.namespace.is_none() && s.group.is_none();
    let reject =
        target.reject.iter().filter(|s| !empty(s)).map(Matcher::new).collect::<Result<Vec<_>, _>>()?;
    let options = target.options.clone().unwrap_or_default();
    for object in objects.iter_mut().filter(|o| select.fits(o) && !reject.iter().any(|r| r.fits(o))) {
        let old = object.id();
        let usual = ["metadata.name".to_owned()];
        let paths = if target.field_paths.is_empty() { &usual[..] } else { &target.field_paths };
        for path in paths {
            let (mut count, mut failed) = (0, None);
            walk(&mut object.value, &parse(path)?, options.create, &mut |v| {
                count += 1;
                if let Err(reason) = set(v, value, &options) {
                    failed = Some(reason);
                }
            });
            if let Some(reason) = failed {
                return Err(format!("{path} of {} {}: {reason}", old.kind, old.name));
            }
            if count == 0 {
                return Err(format!("{} {} has no field {path}", old.kind, old.name));
            }
        }
        if object.id() != old {
            object.before.push(old);
        }
    }
    Ok(())
}

fn set(place: &mut Tree, value: &Tree, options: &FieldOptions) -> Result<(), String> {
    if options.delimiter.is_empty() {
        *place = value.clone();
        return Ok(());
    }
    let old = text_of(place).ok_or("is no text that could be split")?;
    let new = text_of(value).ok_or("the source is no text")?;
    let mut parts: Vec<&str> = old.split(&options.delimiter).collect();
    match usize::try_from(options.index) {
        Err(_) => parts.insert(0, &new),
        Ok(i) if i >= parts.len() => parts.push(&new),
        Ok(i) => parts[i] = &new,
    }
    *place = Tree::String(parts.join(&options.delimiter));
    Ok(())
}

pub(super) fn text_of(value: &Tree) -> Option<String> {
    match value {
        Tree::String(s) => Some(s.clone()),
        Tree::Number(n) => Some(n.to_string()),
        Tree::Bool(b) => Some(b.to_string()),
        Tree::Null => Some(String::new()),
        _ => None,
    }
}

/// A step of a field path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    /// `[key=value]`
    Item(String, String),
    /// `*`
    All,
    /// `-`
    Append,
}

/// `spec.containers.[name=a].image`, `metadata.annotations.a\.b/c`, `data.*`.
fn parse(path: &str) -> Result<Vec<Step>, String> {
    let mut words = vec![String::new()];
    let (mut brackets, mut chars) = (0usize, path.chars());
    while let Some(c) = chars.next() {
        let last = words.len() - 1;
        match c {
            '\\' => words[last].extend(chars.next()),
            '.' if brackets == 0 => words.push(String::new()),
            _ => {
                brackets = match c {
                    '[' => brackets + 1,
                    ']' => brackets.saturating_sub(1),
                    _ => brackets,
                };
                words[last].push(c);
            }
        }
    }
    steps(path, words)
}

/// `spec/containers/[name=a]/image`, `metadata/annotations/a.b\/c`.
pub(super) fn parse_slashes(path: &str) -> Result<Vec<Step>, String> {
    let marked = path.replace("\\/", "\0");
    steps(path, marked.split('/').map(|w| w.replace('\0', "/")).collect())
}

fn steps(path: &str, mut words: Vec<String>) -> Result<Vec<Step>, String> {
    // `.metadata.name` is `metadata.name`.
    words.retain(|w| !w.is_empty());
    if words.is_empty() || words.len() > 200 {
        return Err(format!("{path:?} is no field path"));
    }
    let step = |word: String| match word.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
        Some(inner) => match inner.split_once('=') {
            Some((key, value)) => Step::Item(key.to_owned(), value.trim_matches(['"', '\'']).to_owned()),
            // `annotations.[a.b/c]`
            None => Step::Field(inner.to_owned()),
        },
        None if word == "*" => Step::All,
        None if word == "-" => Step::Append,
        None => Step::Field(word),
    };
    Ok(words.into_iter().map(step).collect())
}

/// Visits every place that `path` leads to, making fields on the way if asked to.
pub(super) fn walk(value: &mut Tree, path: &[Step], create: bool, found: &mut impl FnMut(&mut Tree)) {
    let Some((step, rest)) = path.split_first() else { return found(value) };
    if create && value.is_null() {
        *value = match step {
            Step::Field(_) => Tree::Object(Default::default()),
            _ => Tree::Array(Vec::new()),
        };
    }
    match (step, value) {
        (Step::Field(name), Tree::Object(map)) => {
            if create {
                walk(map.entry(name.clone()).or_insert(Tree::Null), rest, create, found);
            } else if let Some(next) = map.get_mut(name) {
                walk(next, rest, create, found);
            }
        }
        (Step::Field(index), Tree::Array(items)) => {
            if let Some(next) = index.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                walk(next, rest, create, found);
            }
        }
        (Step::Item(key, wanted), Tree::Array(items)) => {
            let is = |item: &Tree| item.get(key).and_then(text_of).as_ref() == Some(wanted);
            if create && !items.iter().any(is) {
                items.push(serde_json::json!({ key: wanted }));
            }
            items.iter_mut().filter(|i| is(i)).for_each(|i| walk(i, rest, create, found));
        }
        (Step::All, Tree::Array(items)) => items.iter_mut().for_each(|i| walk(i, rest, create, found)),
        (Step::All, Tree::Object(map)) => map.values_mut().for_each(|v| walk(v, rest, create, found)),
        (Step::Append, Tree::Array(items)) => {
            items.push(Tree::Null);
            if let Some(last) = items.last_mut() {
                walk(last, rest, create, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_paths() {
        let field = |f: &str| Step::Field(f.into());
        let expected = [field("a"), Step::Item("name".into(), "x.y".into()), field("b.c/d"), Step::All];
        assert_eq!(parse(r"a.[name=x.y].b\.c/d.*").unwrap(), expected);
        assert_eq!(parse(".a..b"), Ok(vec![field("a"), field("b")]));
        assert!(parse("").is_err() && parse(".").is_err());
        assert_eq!(parse_slashes(r"a/[name=x.y]/b.c\/d/*").unwrap(), expected);
    }

    #[test]
    fn parts_are_put_before_between_and_after() {
        let place = |index| {
            let mut place = Tree::from("a:b");
            let options = FieldOptions { delimiter: ":".into(), index, ..FieldOptions::default() };
            set(&mut place, &Tree::from("z"), &options).unwrap();
            place
        };
        assert_eq!(
            [place(-1), place(0), place(1), place(5)],
            ["z:a:b", "z:b", "a:z", "a:b:z"].map(Tree::from)
        );
    }
}

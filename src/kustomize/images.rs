//! The `images` transformer.

use super::file::{FieldSpec, ImageEntry};
use super::object::{Id, Object};
use crate::chart::Tree;

/// Sets a new name, tag or digest wherever an image with the entry's name stands: in every list called `containers` or
/// `initContainers` whatever the object is, in image volumes of what runs pods, and in `places`.
pub(super) fn apply(objects: &mut [Object], entry: &ImageEntry, places: &[FieldSpec]) -> Result<(), String> {
    if entry.name.len() > 4096 {
        return Err("images: a name is longer than 4096 bytes".into());
    }
    let pattern = format!(
        "^{}(:[a-zA-Z0-9_.{{}}-]*)?(@[a-zA-Z0-9]+([.+_-][a-zA-Z0-9]+)*:[a-zA-Z0-9_.{{}}-]*)?$",
        entry.name
    );
    // Kustomize reads the name as a regular expression too, and one that is none fits nothing.
    let Ok(pattern) = regex::RegexBuilder::new(&pattern).size_limit(1 << 20).build() else { return Ok(()) };
    let set = |value: &mut Tree| {
        if let Tree::String(image) = value
            && pattern.is_match(image)
        {
            *image = replaced(image, entry);
        }
    };
    for object in objects {
        let id = object.id();
        if id.kind != "CustomResourceDefinition" {
            lists(&mut object.value, &set);
        }
        for path in ["spec/volumes[]/image/reference", "spec/template/spec/volumes[]/image/reference"] {
            at(&mut object.value, path, &mut |v| set(v));
        }
        for place in places.iter().filter(|p| p.fits(&id)) {
            at(&mut object.value, &place.path, &mut |v| set(v));
        }
    }
    Ok(())
}

impl FieldSpec {
    pub(super) fn fits(&self, id: &Id) -> bool {
        let fits = |want: &str, have: &str| want.is_empty() || want == have;
        fits(&self.group, &id.group) && fits(&self.version, &id.version) && fits(&self.kind, &id.kind)
    }
}

fn lists(value: &mut Tree, set: &impl Fn(&mut Tree)) {
    match value {
        Tree::Object(map) => {
            for (key, value) in map {
                lists(value, set);
                if matches!(key.as_str(), "containers" | "initContainers")
                    && let Tree::Array(items) = value
                {
                    items.iter_mut().filter_map(|i| i.get_mut("image")).for_each(set);
                }
            }
        }
        Tree::Array(items) => items.iter_mut().for_each(|i| lists(i, set)),
        _ => {}
    }
}

/// Every value at `a/b[]/c`, a field spec's path; lists are entered with or without the brackets.
pub(super) fn at(value: &mut Tree, path: &str, found: &mut impl FnMut(&mut Tree)) {
    if let Tree::Array(items) = value {
        items.iter_mut().for_each(|i| at(i, path, found));
        return;
    }
    if path.is_empty() {
        found(value);
        return;
    }
    // A slash within a field's name is written `\/`.
    let end = path
        .char_indices()
        .find(|(i, c)| *c == '/' && !path[..*i].ends_with('\\'))
        .map_or(path.len(), |(i, _)| i);
    let field = path[..end].trim_end_matches("[]").replace("\\/", "/");
    let rest = path[end..].trim_start_matches('/');
    if let Some(next) = value.get_mut(&field) {
        at(next, rest, found);
    }
}

fn replaced(image: &str, entry: &ImageEntry) -> String {
    let (name, tag, digest) = split(image);
    let (mut tag, mut digest) = (tag.to_owned(), digest.to_owned());
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let name = given(&entry.new_name).unwrap_or_else(|| name.to_owned());
    match (given(&entry.new_tag), given(&entry.digest), given(&entry.tag_suffix)) {
        (Some(t), Some(d), _) => (tag, digest) = (t, d),
        (Some(t), None, _) => (tag, digest) = (t, String::new()),
        (None, Some(d), _) => (tag, digest) = (String::new(), d),
        (None, None, Some(suffix)) => {
            tag += &suffix;
            digest.clear();
        }
        (None, None, None) => {}
    }
    let mut out = name;
    if !tag.is_empty() {
        out += &format!(":{tag}");
    }
    if !digest.is_empty() {
        out += &format!("@{digest}");
    }
    out
}

/// Name, tag and digest; the colon of a registry's port is none of a tag.
fn split(image: &str) -> (&str, &str, &str) {
    let (rest, digest) = image.split_once('@').unwrap_or((image, ""));
    let path = rest.find('/').unwrap_or(0);
    match rest[path..].find(':') {
        Some(colon) => (&rest[..path + colon], &rest[path + colon + 1..], digest),
        None => (rest, "", digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tags_and_digests_are_replaced() {
        let entry = |new_name: &str, new_tag: &str, digest: &str| ImageEntry {
            new_name: Some(new_name.into()),
            new_tag: Some(new_tag.into()),
            digest: Some(digest.into()),
            ..ImageEntry::default()
        };
        let cases = [
            ("nginx:1.0", entry("", "2.0", ""), "nginx:2.0"),
            ("nginx:1.0@sha256:aa", entry("", "2.0", ""), "nginx:2.0"),
            ("nginx:1.0", entry("", "", "sha256:bb"), "nginx@sha256:bb"),
            ("r.io:5000/a/b:1", entry("q.io:6000/c", "", ""), "q.io:6000/c:1"),
            ("r.io:5000/a/b", entry("", "3", "sha256:cc"), "r.io:5000/a/b:3@sha256:cc"),
        ];
        for (image, entry, expected) in cases {
            assert_eq!(replaced(image, &entry), expected);
        }
        let suffix = ImageEntry { tag_suffix: Some("-x".into()), ..ImageEntry::default() };
        assert_eq!(replaced("a:1@sha256:aa", &suffix), "a:1-x");
    }
}

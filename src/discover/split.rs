//! Images that are named in parts: registry, repository, tag and digest in fields of their own. Pure.

use indexmap::IndexMap;

use super::like::{self, Name, words_of};
use super::rules;
use crate::oci::ImageRef;
use crate::yaml::{Node, Value, format_float};

/// Mappings with more scalars than this are tables of something else.
const MAX_SCALARS: usize = 400;
/// The last words of keys that hold a version of an image.
const VERSIONS: [&str; 5] = ["tag", "version", "digest", "sha", "sha256"];

/// One image in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The key of the part that names the repository.
    pub(super) key: &'a str,
    /// Every key that is a part.
    pub(super) keys: Vec<&'a str>,
    pub(super) registry: Option<String>,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
}

struct Entry<'a> {
    key: &'a str,
    words: Vec<String>,
    text: String,
}

/// A scalar as a template prints it; `None` for anything else and for null.
pub(super) fn text_of(node: &Node) -> Option<String> {
    match &node.value {
        Value::Str(s) => Some(s.clone()),
        Value::Int(i) => Some(i.to_string()),
        Value::UInt(u) => Some(u.to_string()),
        Value::Float(f) => Some(format_float(*f)),
        Value::Null => Some(String::new()),
        Value::Bool(_) | Value::Seq(_) | Value::Map(_) => None,
    }
}

/// The images that `map` names in parts; `own` is what the name of the mapping itself says.
pub(super) fn parts<'a>(map: &'a IndexMap<String, Node>, own: Name) -> Vec<Parts<'a>> {
    let ends = |key: &str, ends: &[&str]| {
        let key = key.as_bytes();
        ends.iter()
            .any(|e| key.len() >= e.len() && key[key.len() - e.len()..].eq_ignore_ascii_case(e.as_bytes()))
    };
    let base = |k: &str| ends(k, &["repository", "repo", "image", "name"]);
    let versioned = map.keys().any(|k| ends(k, &VERSIONS));
    if !(versioned || own != Name::Silent) || !map.keys().any(|k| base(k)) {
        return Vec::new();
    }
    let entries: Vec<Entry<'a>> = map
        .iter()
        .filter_map(|(key, node)| {
            let text = text_of(node).filter(|t| t.len() < 300)?;
            Some(Entry { key, words: words_of(key), text: text.trim().to_owned() })
        })
        .take(MAX_SCALARS)
        .collect();
    let all = Entries(&entries);
    let mut found: Vec<Parts<'a>> = Vec::new();
    for entry in &entries {
        if found.iter().any(|p| p.keys.contains(&entry.key)) {
            continue;
        }
        found.extend(all.with_base(entry, own));
    }
    found
}

struct Entries<'e, 'a>(&'e [Entry<'a>]);

impl<'e, 'a> Entries<'e, 'a> {
    fn find(&self, prefix: &[String], rest: &[&str]) -> Option<&'e Entry<'a>> {
        let same = |e: &&Entry<'a>| {
            e.words.len() == prefix.len() + rest.len()
                && e.words[..prefix.len()] == *prefix
                && e.words[prefix.len()..].iter().zip(rest).all(|(a, b)| a == b)
        };
        self.0.iter().find(same)
    }

    fn first(&self, prefix: &[String], all: &[&[&str]]) -> Option<&'e Entry<'a>> {
        all.iter().find_map(|rest| self.find(prefix, rest))
    }

    /// The image whose repository stands in `base`, if that is what it is.
    fn with_base(&self, base: &'e Entry<'a>, own: Name) -> Option<Parts<'a>> {
        let (last, prefix) = base.words.split_last()?;
        let says_image = own != Name::Silent || prefix.iter().any(|w| w == "image");
        let (prefix, of_image) = match prefix.split_last() {
            Some((word, shorter)) if word == "image" => (shorter, true),
            _ => (prefix, false),
        };
        let is_base = match last.as_str() {
            "repository" | "repo" => true,
            // `baseImage`, `image` and the like are bases only with a version beside them.
            "image" => true,
            "name" => (of_image || own == Name::Is) && self.find(prefix, &["repository"]).is_none(),
            _ => false,
        };
        if !is_base || base.text.is_empty() {
            return None;
        }
        let mut keys = vec![base.key];
        let mut take = |entry: Option<&Entry<'a>>| {
            entry.map(|e| {
                keys.push(e.key);
                e.text.clone()
            })
        };
        let mut repository = base.text.clone();
        let mut registry =
            take(self.first(prefix, &[&["registry"], &["image", "registry"], &["docker", "registry"]]));
        if registry.is_none() && prefix.is_empty() {
            registry = take(self.first(&[], &[&["hub"]]));
        }
        let mut pair = false;
        if last == "repository" {
            // `{repository: nvcr.io/nvidia, image: driver, version: 1}`
            let image = self.first(prefix, &[&["image"], &["image", "name"]]);
            let image =
                image.filter(|i| !i.text.is_empty() && !i.text.contains([':', '@']) && i.key != base.key);
            if let Some(image) = image.filter(|i| !repository.ends_with(&format!("/{}", i.text))) {
                repository = format!("{repository}/{}", image.text);
                take(Some(image));
                pair = true;
            }
        }
        let base_prefix = prefix.last().is_some_and(|w| w == "base");
        let short: &[String] = if base_prefix { &[] } else { prefix };
        let mut tag = take(self.first(short, &[&["tag"], &["image", "tag"]]));
        let three = registry.as_ref().is_some_and(|r| !r.is_empty()) && last == "repository";
        if tag.is_none() && (pair || three || base_prefix || own == Name::Is) {
            tag = take(self.first(short, &[&["version"], &["image", "version"]]));
        }
        let digest = take(self.first(
            short,
            &[
                &["digest"],
                &["image", "digest"],
                &["sha"],
                &["sha256"],
                &["image", "sha"],
                &["image", "sha256"],
            ],
        ));
        let versioned = tag.is_some() || digest.is_some();
        if !versioned && !(says_image && (last == "repository" || last == "repo" || registry.is_some())) {
            return None;
        }
        let filled = |text: Option<String>| text.filter(|t| !t.is_empty());
        Some(Parts {
            key: base.key,
            keys,
            registry: filled(registry),
            repository,
            tag: filled(tag),
            digest: filled(digest),
        })
    }
}

impl Parts<'_> {
    /// Whether a tag or digest is given.
    pub(super) fn has_version(&self) -> bool {
        self.tag.is_some() || self.digest.is_some()
    }

    /// The whole name, with `registry` and `tag` where the parts leave them open. `None` if it is no image.
    pub(super) fn join(&self, registry: Option<&str>, tag: Option<&str>) -> Option<ImageRef> {
        let repository = self.repository.trim_matches('/');
        let last = repository.rsplit('/').next().unwrap_or(repository);
        let complete = last.contains([':', '@']);
        let (mut tag, mut digest) =
            (self.tag.as_deref().or(tag.filter(|_| self.digest.is_none())), self.digest.as_deref());
        if let Some(both) = tag.and_then(|t| t.split_once('@')) {
            (tag, digest) = (Some(both.0).filter(|t| !t.is_empty()), Some(both.1));
        } else if tag.is_some_and(|t| t.starts_with("sha256:")) {
            (digest, tag) = (tag, None);
        }
        let digest = digest.map(|d| {
            let d = d.trim_start_matches('@');
            if d.len() == 64 && !d.contains(':') { format!("sha256:{d}") } else { d.to_owned() }
        });
        let mut text = String::new();
        let registry = self.registry.as_deref().or(registry).map(|r| r.trim_end_matches('/'));
        if let Some(registry) = registry.filter(|r| !repository.starts_with(&format!("{r}/")))
            && !(self.registry.is_none() && has_host(repository))
        {
            text += registry;
            text.push('/');
        }
        text += repository;
        if !complete {
            if tag.is_none() && digest.is_none() {
                return None;
            }
            tag.iter().for_each(|t| text += &format!(":{}", t.trim_start_matches(':')));
        }
        if !last.contains('@') {
            digest.iter().for_each(|d| text += &format!("@{d}"));
        }
        if rules::template_leftover(&text).is_some() {
            return None;
        }
        like::shape(&text).map(|s| s.image)
    }
}

/// Whether a repository begins with a registry.
fn has_host(repository: &str) -> bool {
    repository.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Limits, parse_one};

    fn joined(yaml: &str, own: &str) -> Vec<String> {
        let node = parse_one(yaml, &Limits::default()).unwrap();
        let all = parts(node.as_map().unwrap(), like::name(own));
        all.iter().filter_map(|p| p.join(None, None)).map(|i| i.familiar()).collect()
    }

    #[test]
    fn parts_are_joined_as_templates_join_them() {
        let d = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (yaml, own, expected) in [
            ("{registry: quay.io, repository: a/b, tag: v1}", "image", "quay.io/a/b:v1"),
            ("{repository: quay.io/a/b, tag: 1.20}", "x", "quay.io/a/b:1.2"),
            ("{repository: a/b, tag: '', digest: 'sha256:D'}", "image", "a/b@sha256:D"),
            ("{repository: a/b, tag: v1, sha: D}", "image", "a/b:v1@sha256:D"),
            ("{name: a/b, tag: v1}", "image", "a/b:v1"),
            ("{registry: r.io, name: b, version: v1}", "image", "r.io/b:v1"),
            ("{imageRepository: a/b, imageTag: v1}", "x", "a/b:v1"),
            ("{image: a/b, imageTag: v1}", "x", "a/b:v1"),
            ("{image: a/b, tag: v1}", "x", "a/b:v1"),
            ("{image: web, hub: gcr.io/x, tag: v1}", "x", "gcr.io/x/web:v1"),
            ("{repository: nvcr.io/nvidia, image: driver, version: '550'}", "x", "nvcr.io/nvidia/driver:550"),
            ("{baseImage: quay.io/p/p, version: v2}", "x", "quay.io/p/p:v2"),
            ("{proxyImageRepository: a/b, proxyImageTag: v1}", "x", "a/b:v1"),
            ("{sidecarRepository: a/b, sidecarTag: v1, tag: v9}", "x", "a/b:v1"),
            ("{repository: a/b:v3, tag: v1}", "x", "a/b:v3"),
            ("{registry: r.io, repository: 'a/b:v1', version: 'sha256:D'}", "x", "r.io/a/b:v1@sha256:D"),
            ("{registry: r.io, repository: a/b, version: v1}", "x", "r.io/a/b:v1"),
            ("{repository: r.io/a/b, registry: r.io, tag: v1}", "x", "r.io/a/b:v1"),
            ("{repository: a/b, tag: 'v1@sha256:D'}", "x", "a/b:v1@sha256:D"),
        ] {
            assert_eq!(joined(&yaml.replace('D', d), own), [expected.replace('D', d)], "{yaml}");
        }
    }

    #[test]
    fn what_is_no_image_in_parts_stays_apart() {
        for (yaml, own) in [
            ("{repository: 'https://github.com/a/b', tag: v1}", "x"),
            ("{repository: a/b}", "x"),
            ("{name: web, version: v1}", "chart"),
            ("{name: web, tag: v1}", "x"),
            ("{image: a/b, version: v1}", "x"),
            ("{repository: a/b, tag: '{{ .x }}'}", "image"),
            ("{repository: a/b, tag: ''}", "image"),
            ("{repository: github.com/a/b, tag: v1}", "x"),
            ("{repository: '', tag: v1}", "image"),
            ("{repository: [a], tag: v1}", "image"),
        ] {
            assert!(joined(yaml, own).is_empty(), "{yaml}: {:?}", joined(yaml, own));
        }
    }

    #[test]
    fn what_is_left_open_is_filled_in() {
        let node = parse_one("{repository: a/b, tag: ''}", &Limits::default()).unwrap();
        let all = parts(node.as_map().unwrap(), Name::Is);
        assert!(!all[0].has_version());
        let join = |registry, tag| all[0].join(registry, tag).map(|i| i.familiar());
        assert_eq!(join(None, Some("7")), Some("a/b:7".into()));
        assert_eq!(join(Some("r.io"), Some("7")), Some("r.io/a/b:7".into()));
    }
}

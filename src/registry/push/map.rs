//! Which name an image gets in the registry that it is pushed to.

use crate::oci::{Digest, ImageRef};

/// Rules for new names.
///
/// By default the registry of a name is replaced: with the target `harbor.lan/mirror`, `docker.io/library/nginx:1.27`
/// becomes `harbor.lan/mirror/library/nginx:1.27`. A rule `FROM=TO` replaces the beginning of a name instead; the
/// longest FROM that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// None: the rules give every name.
    target: Option<String>,
    rules: Vec<(String, String)>,
}

impl Mapping {
    /// `target` is `HOST[:PORT]` or `HOST[:PORT]/PATH`, with or without `oci://` before it.
    ///
    /// # Errors
    /// A text when no image could be called so.
    pub fn new(target: &str) -> Result<Self, String> {
        let bare = bare(target);
        let probe = format!("{bare}/x");
        match probe.parse::<ImageRef>() {
            Ok(image) if image.name() == probe => {
                Ok(Self { target: Some(bare.to_owned()), rules: Vec::new() })
            }
            _ => Err(format!("{target:?} is no registry; write oci://HOST[:PORT]/PATH")),
        }
    }

    /// Rules alone, which must have a name for every image.
    pub fn by_rules() -> Self {
        Self { target: None, rules: Vec::new() }
    }

    /// Adds `FROM=TO`. FROM is the beginning of a complete name up to a whole part, such as `docker.io/library/`; TO
    /// takes its place.
    ///
    /// # Errors
    /// A text when that is no rule.
    pub fn with_rule(mut self, rule: &str) -> Result<Self, String> {
        let (from, to) = rule.split_once('=').ok_or_else(|| format!("{rule:?} is no rule; write FROM=TO"))?;
        let (from, to) = (bare(from), bare(to));
        if from.is_empty() || to.is_empty() {
            return Err(format!("{rule:?} is no rule; write FROM=TO"));
        }
        let probe = format!("{to}/x");
        if probe.parse::<ImageRef>().map_or(true, |image| image.name() != probe) {
            return Err(format!("in the rule {rule:?}, {to:?} is no registry with a path"));
        }
        self.rules.push((from.to_owned(), to.to_owned()));
        Ok(self)
    }

    /// The new name, with the same tag; without a tag with the digest.
    ///
    /// # Errors
    /// A text when the new name is none.
    pub fn apply(&self, image: &ImageRef, digest: &Digest) -> Result<ImageRef, String> {
        let name = image.name();
        let rest = |from: &str| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let rules = self.rules.iter().filter_map(|(from, to)| Some((from.len(), to, rest(from)?)));
        let new = match (rules.max_by_key(|(length, ..)| *length), &self.target) {
            (Some((_, to, rest)), _) => format!("{to}{rest}"),
            (None, Some(target)) => format!("{target}/{}", image.repository()),
            (None, None) => {
                return Err(format!(
                    "no --map says where {image} goes; add one whose FROM its name begins with, or a target oci://HOST/PATH for \
                     all that have none"
                ));
            }
        };
        let full = match image.tag() {
            Some(tag) => format!("{new}:{tag}"),
            None => format!("{new}@{digest}"),
        };
        full.parse().map_err(|e| format!("{image} cannot be called {full}: {e}"))
    }

    /// `HOST[:PORT]/PATH`, where there is one for every image.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

fn bare(text: &str) -> &str {
    text.trim().trim_start_matches("oci://").trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(mapping: &Mapping, name: &str) -> String {
        mapping.apply(&name.parse().unwrap(), &Digest::sha256(b"x")).unwrap().to_string()
    }

    #[test]
    fn the_registry_is_replaced_unless_a_rule_says_more() {
        let plain = Mapping::new("oci://h.lan:5000/p/").unwrap();
        assert_eq!(map(&plain, "nginx:1"), "h.lan:5000/p/library/nginx:1");
        assert_eq!(map(&plain, "quay.io/a/b:2"), "h.lan:5000/p/a/b:2");
        let alone = Mapping::by_rules().with_rule("docker.io=h.lan").unwrap();
        assert_eq!(map(&alone, "nginx:1"), "h.lan/library/nginx:1");
        let none = alone.apply(&"quay.io/a/b:2".parse().unwrap(), &Digest::sha256(b"x")).unwrap_err();
        assert!(none.contains("no --map says where quay.io/a/b:2 goes"), "{none}");
        let ruled = plain.with_rule("docker.io/library/=oci://h.lan:5000/hub/").unwrap();
        let ruled = ruled.with_rule("docker.io=h.lan:5000/docker").unwrap();
        assert_eq!(map(&ruled, "nginx:1"), "h.lan:5000/hub/nginx:1", "the longest counts");
        assert_eq!(map(&ruled, "bitnami/redis:7"), "h.lan:5000/docker/bitnami/redis:7");
        assert_eq!(map(&ruled, "docker.io/librarything/x:1"), "h.lan:5000/docker/librarything/x:1");
        let digest = Digest::sha256(b"x");
        assert_eq!(map(&ruled, &format!("quay.io/a@{digest}")), format!("h.lan:5000/p/a@{digest}"));
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for bad in ["", "oci://", "harbor", "h.lan/UPPER", "https://h.lan/p"] {
            assert!(Mapping::new(bad).is_err(), "{bad}");
        }
        for bad in ["x", "=y.io/a", "docker.io=", "docker.io=plain"] {
            assert!(Mapping::new("h.lan").unwrap().with_rule(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_a_name(rule in "[a-z./=:]{0,30}", name in "[a-z]{1,8}(/[a-z]{1,8}){0,3}") {
            if let Ok(mapping) = Mapping::new("h.lan/p").unwrap().with_rule(&rule) {
                let _ = mapping.apply(&name.parse().unwrap(), &Digest::sha256(b"x"));
            }
        }
    }
}

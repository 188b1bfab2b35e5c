use std::fmt;
use std::str::FromStr;

use super::Findings;
use crate::oci::{Digest, ImageRef, ReferenceError};

/// An image as somebody asks for it: `nginx` is every tag of `docker.io/library/nginx`, `nginx:1.27` that tag with or
/// without a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    given: String,
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Names that are this similar (Jaro-Winkler, 0 to 1) may have been meant.
const NEAR: f64 = 0.8;
/// Names that are offered.
const MAX_NEAR: usize = 5;

impl FromStr for ImagePattern {
    type Err = ReferenceError;

    fn from_str(given: &str) -> Result<Self, ReferenceError> {
        let image: ImageRef = given.parse()?;
        // Whoever writes neither tag nor digest means all of them here, and not `latest`.
        let last = given.rsplit('/').next().unwrap_or(given);
        let tag = image.tag().filter(|_| last.contains(':') || last.contains('@')).map(str::to_owned);
        Ok(Self { given: given.to_owned(), name: image.name(), tag, digest: image.digest().cloned() })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl ImagePattern {
    /// Whether it is this image by its full name.
    pub fn matches(&self, image: &ImageRef) -> bool {
        image.name() == self.name && self.version_matches(image)
    }

    fn version_matches(&self, image: &ImageRef) -> bool {
        (self.tag.is_none() || self.tag.as_deref() == image.tag())
            && (self.digest.is_none() || self.digest.as_ref() == image.digest())
    }

    /// Whether the image's name ends with the path that was given, whatever registry and path come before.
    fn matches_end(&self, image: &ImageRef) -> bool {
        let end = format!("/{}", self.path());
        image.name().ends_with(&end) && self.version_matches(image)
    }

    /// As given, without tag and digest.
    fn path(&self) -> &str {
        let whole = self.given.split('@').next().unwrap_or(&self.given);
        match whole.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => path,
            _ => whole,
        }
    }

    /// Leaves only what matches; when no full name does, what ends with the path that was given.
    pub fn keep_in(&self, found: &mut Findings) {
        let by_name = found.findings.iter().any(|f| self.matches(&f.image));
        found.findings.retain(|f| if by_name { self.matches(&f.image) } else { self.matches_end(&f.image) });
    }

    /// Up to five of `images` that may have been meant, the likeliest first.
    pub fn near<'a>(&self, images: impl IntoIterator<Item = &'a ImageRef>) -> Vec<String> {
        let wanted = self.path();
        let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let likeness = |image: &ImageRef| {
            let repository = image.repository();
            if image.name() == self.name || repository.contains(wanted) {
                return 1.0;
            }
            let whole = strsim::jaro_winkler(&image.name(), &self.name);
            let ends = strsim::jaro_winkler(&last(repository), &last(wanted));
            // The registry and the path that many images share say little.
            if ends >= NEAR { ends.max(whole) } else { ends }
        };
        let mut near: Vec<(f64, String)> = images.into_iter().map(|i| (likeness(i), i.familiar())).collect();
        near.retain(|(likeness, _)| *likeness >= NEAR);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.dedup();
        near.into_iter().take(MAX_NEAR).map(|(_, name)| name).collect()
    }
}

/// Images that are not wanted: an [`ImagePattern`], or a full name with `*` for any characters, `quay.io/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    exact: Option<ImagePattern>,
    parts: Vec<String>,
}

impl FromStr for Exclusion {
    type Err = ReferenceError;

    fn from_str(given: &str) -> Result<Self, ReferenceError> {
        if given.contains('*') {
            return Ok(Self { exact: None, parts: given.split('*').map(str::to_owned).collect() });
        }
        Ok(Self { exact: Some(given.parse()?), parts: Vec::new() })
    }
}

impl Exclusion {
    /// Whether it is this image. A pattern is held against the full name and the name as people write it.
    pub fn matches(&self, image: &ImageRef) -> bool {
        match &self.exact {
            Some(pattern) => pattern.matches(image),
            None => wild(&self.parts, &image.to_string()) || wild(&self.parts, &image.familiar()),
        }
    }

    /// Leaves out every image that matches.
    pub fn take_from(&self, found: &mut Findings) {
        found.findings.retain(|f| !self.matches(&f.image));
    }
}

/// Whether `text` is made of `parts` with anything between them.
fn wild(parts: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = parts else { return false };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        match rest.split_once(part.as_str()) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::{Finding, Origin, SourceName, rules};

    const HAVE: [&str; 6] = [
        "nginx:1.27",
        "nginx:1.28",
        "registry.k8s.io/ingress-nginx/controller:v1.12",
        "quay.io/metallb/controller:v0.14",
        "registry.lan:5000/shop/web:2",
        "postgres:16@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ];

    fn kept(pattern: &str) -> Vec<String> {
        let mut found = Findings::default();
        for image in HAVE {
            let origin = Origin::of_source(SourceName::Argument);
            found.findings.push(Finding::new(image.parse().unwrap(), &rules::ARGUMENT, origin));
        }
        pattern.parse::<ImagePattern>().unwrap().keep_in(&mut found);
        found.images().iter().map(|i| i.familiar().split('@').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn names_are_matched_as_people_write_them() {
        for (pattern, expected) in [
            ("nginx", &["nginx:1.27", "nginx:1.28"][..]),
            ("docker.io/library/nginx", &["nginx:1.27", "nginx:1.28"]),
            ("docker.io/nginx:1.28", &["nginx:1.28"]),
            ("nginx:latest", &[]),
            (
                "controller",
                &["registry.k8s.io/ingress-nginx/controller:v1.12", "quay.io/metallb/controller:v0.14"],
            ),
            ("metallb/controller", &["quay.io/metallb/controller:v0.14"]),
            ("controller:v1.12", &["registry.k8s.io/ingress-nginx/controller:v1.12"]),
            ("web", &["registry.lan:5000/shop/web:2"]),
            ("registry.lan:5000/shop/web", &["registry.lan:5000/shop/web:2"]),
            ("eb", &[]),
            ("postgres", &["postgres:16"]),
            ("postgres:16", &["postgres:16"]),
            (
                "postgres@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                &["postgres:16"],
            ),
            ("postgres@sha256:0000000000000000000000000000000000000000000000000000000000000000", &[]),
        ] {
            assert_eq!(kept(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn images_are_left_out_by_name_or_pattern() {
        let left = |pattern: &str| {
            let exclusion: Exclusion = pattern.parse().unwrap();
            HAVE.iter().filter(|i| !exclusion.matches(&i.parse().unwrap())).count()
        };
        for (pattern, kept) in [
            ("nginx", 4),
            ("nginx:1.27", 5),
            ("nginx:*", 4),
            ("*/controller:*", 4),
            ("registry.*", 4),
            ("docker.io/*", 3),
            ("*", 0),
            ("x*", 6),
            ("quay.io/*:v0.15", 6),
            ("controller", 6),
        ] {
            assert_eq!(left(pattern), kept, "{pattern}");
        }
        assert!("Not An Image".parse::<Exclusion>().is_err());
    }

    #[test]
    fn what_may_have_been_meant_is_offered() {
        let images: Vec<ImageRef> = HAVE.iter().map(|i| i.parse().unwrap()).collect();
        let near = |pattern: &str| pattern.parse::<ImagePattern>().unwrap().near(&images);
        assert_eq!(near("ngnix")[..2], ["nginx:1.27", "nginx:1.28"]);
        assert_eq!(near("nginx:9")[..2], ["nginx:1.27", "nginx:1.28"]);
        assert_eq!(near("quay.io/shop/web"), ["registry.lan:5000/shop/web:2"]);
        assert!(near("redis").is_empty(), "{:?}", near("redis"));
        let many: Vec<ImageRef> = (0..9).map(|n| format!("app:{n}").parse().unwrap()).collect();
        assert_eq!("app:x".parse::<ImagePattern>().unwrap().near(&many).len(), 5);
    }
}

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, DigestError};

const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image, always complete: `nginx` is read as `docker.io/library/nginx:latest`, as Docker and
/// containerd read it (`github.com/distribution/reference`, `ParseDockerRef` aside).
///
/// Invariant: there is a tag, a digest, or both.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    given: String,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("it has white space or control characters in it")]
    Space,
    #[error("it starts with a URL scheme; write HOST/REPOSITORY:TAG without {0:?}")]
    Scheme(String),
    #[error("it is 64 hex digits, which is an image ID and no name")]
    BareId,
    #[error("the repository name must be lower case; did you mean {0:?}?")]
    Upper(String),
    #[error(
        "the repository {0:?} has an empty part or a character other than a-z, 0-9, '.', '_', '-' and '/'"
    )]
    Repository(String),
    #[error("the registry {0:?} is not HOST or HOST:PORT")]
    Registry(String),
    #[error("registry and repository together are longer than {MAX_NAME} characters")]
    Long,
    #[error(
        "the tag {0:?} must start with a letter, digit or '_' and have at most {MAX_TAG} of a-z, A-Z, 0-9, '_', '.', '-'"
    )]
    Tag(String),
    #[error(transparent)]
    Digest(DigestError),
}

impl ImageRef {
    /// Host and port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path on the registry, `library/nginx` for `nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given or none but `latest` could be meant.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at a digest only.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The names under which a runtime must know the image with this digest, so that kubelet finds it however a
    /// pod spells it: `repository:tag` and `repository@digest`. CRI looks `repository:tag@digest` up as the latter.
    pub fn runtime_names(&self, digest: &Digest) -> Vec<String> {
        let tagged = self.tag.as_ref().map(|t| format!("{}:{t}", self.name()));
        tagged.into_iter().chain([format!("{}@{digest}", self.name())]).collect()
    }

    /// As people write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(given: &str) -> Result<Self, ReferenceError> {
        parse(given).map_err(|reason| ReferenceError { given: given.chars().take(300).collect(), reason })
    }
}

fn parse(given: &str) -> Result<ImageRef, Reason> {
    if given.is_empty() {
        return Err(Reason::Empty);
    }
    if given.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Reason::Space);
    }
    if let Some((scheme, _)) = given.split_once("://") {
        return Err(Reason::Scheme(format!("{scheme}://")));
    }
    if given.len() == 64 && given.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Reason::BareId);
    }
    let (rest, digest) = match given.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(Reason::Digest)?)),
        None => (given, None),
    };
    // A colon after the last slash starts a tag; one before it belongs to a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag.filter(|t| !is_tag(t)) {
        return Err(Reason::Tag(tag.to_owned()));
    }
    let (registry, repository) = split_registry(name)?;
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(Reason::Upper(given.to_ascii_lowercase()));
    }
    if !repository.split('/').all(is_component) {
        return Err(Reason::Repository(repository));
    }
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(Reason::Long);
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(ImageRef { registry, repository, tag, digest })
}

/// The first part is a registry when it can be no repository: it has a dot, a colon or a capital, or is `localhost`.
fn split_registry(name: &str) -> Result<(String, String), Reason> {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    if !is_registry(registry) {
        return Err(Reason::Registry(registry.to_owned()));
    }
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let repository = match repository {
        bare if registry == DEFAULT_REGISTRY && !bare.contains('/') => format!("library/{bare}"),
        path => path.to_owned(),
    };
    Ok((registry.to_owned(), repository))
}

fn is_registry(s: &str) -> bool {
    let (host, port) = match s.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, port)) => {
            let good = !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return good && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => s.split_once(':').map_or((s, None), |(h, p)| (h, Some(p))),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(s: &str) -> bool {
    s.parse::<u16>().is_ok_and(|p| p > 0) && s.bytes().all(|b| b.is_ascii_digit())
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(s: &str) -> bool {
    let b = s.as_bytes();
    let alnum = |i: usize| b.get(i).is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if b.is_empty() || !alnum(0) || !alnum(b.len() - 1) {
        return false;
    }
    let mut i = 0;
    while i < b.len() {
        if alnum(i) {
            i += 1;
            continue;
        }
        let run = b[i..].iter().take_while(|c| **c == b[i]).count();
        let good = match b[i] {
            b'.' => run == 1,
            b'_' => run <= 2,
            b'-' => true,
            _ => false,
        };
        if !good || !alnum(i + run) {
            return false;
        }
        i += run;
    }
    true
}

fn is_tag(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    s.len() <= MAX_TAG
        && s.bytes().next().is_some_and(word)
        && s.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|t| write!(f, ":{t}"))?;
        self.digest.iter().try_for_each(|d| write!(f, "@{d}"))
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn r(s: &str) -> String {
        s.parse::<ImageRef>().unwrap().to_string()
    }

    #[test]
    fn normalises_as_docker_and_containerd_do() {
        for (given, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("127.0.0.1:5000/lab/web:1.0", "127.0.0.1:5000/lab/web:1.0"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("EXAMPLE/app", "EXAMPLE/app:latest"),
            ("a/b__c---d.e", "docker.io/a/b__c---d.e:latest"),
        ] {
            assert_eq!(r(given), full, "{given}");
        }
    }

    #[test]
    fn a_digest_pins_and_a_tag_beside_it_stays() {
        let pinned: ImageRef = format!("nginx@{D}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx@{D}"));
        assert_eq!(pinned.tag(), None);
        let both: ImageRef = format!("quay.io/a/b:v1@{D}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().map(ToString::to_string)), (Some("v1"), Some(D.to_owned())));
        assert_eq!(
            both.runtime_names(both.digest().unwrap()),
            ["quay.io/a/b:v1".to_owned(), format!("quay.io/a/b@{D}")]
        );
    }

    #[test]
    fn familiar_form_is_what_people_type() {
        assert_eq!("nginx:1".parse::<ImageRef>().unwrap().familiar(), "nginx:1");
        assert_eq!("docker.io/a/b:1".parse::<ImageRef>().unwrap().familiar(), "a/b:1");
        assert_eq!("quay.io/a/b:1".parse::<ImageRef>().unwrap().familiar(), "quay.io/a/b:1");
    }

    #[test]
    fn refuses_with_the_reason() {
        for (bad, why) in [
            ("", "empty"),
            ("ngi nx", "white space"),
            ("https://nginx", "scheme"),
            ("Nginx", "lower case"),
            ("nginx:", "tag"),
            ("nginx:-a", "tag"),
            ("a//b", "repository"),
            ("a/-b", "repository"),
            ("a/b..c", "repository"),
            ("reg.io:0/a", "registry"),
            ("reg.io:port/a", "registry"),
            ("nginx@sha256:abc", "digest"),
            ("../etc/passwd", "registry"),
            ("reg.io/../etc", "repository"),
            ("{{ .Values.image }}", "white space"),
            (&D[7..], "image ID"),
        ] {
            let error = bad.parse::<ImageRef>().expect_err(bad).to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_is_stable(s in "\\PC{0,80}") {
            if let Ok(parsed) = s.parse::<ImageRef>() {
                let again: ImageRef = parsed.to_string().parse().unwrap();
                prop_assert_eq!(again, parsed);
            }
        }

        #[test]
        fn well_formed_names_are_taken(
            name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}",
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        ) {
            let full = format!("reg.example:5000/{name}:{tag}");
            prop_assert_eq!(full.parse::<ImageRef>().unwrap().to_string(), full);
        }
    }
}

//! Whether a text is an image, judged by its form and by what it is called. Pure.
//!
//! A text alone is an image only when nothing else has its form: a registry that looks like one, a path, and a tag or
//! digest. What is called an image needs less. Everything that is known to have the form of an image and to be
//! something else (roles, hosts with ports, API groups, source code, times, files) is refused in one place, here.

use super::rules::words;
use crate::oci::ImageRef;

/// Longer texts name no image.
const MAX_TEXT: usize = 512;

/// What a name (key, flag, variable) says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// Nothing.
    Silent,
    /// That it has to do with an image: `imageName`, `RELATED_IMAGE_X`, `images`.
    Mentions,
    /// That it is one: `image`, `sidecarImage`, `PROXY_IMAGE`.
    Is,
}

/// What `key` says; words in it are set apart by case or by `_`, `-`, `.`, `/`.
pub(super) fn name(key: &str) -> Name {
    let has =
        |part: &str| key.as_bytes().windows(part.len()).any(|w| w.eq_ignore_ascii_case(part.as_bytes()));
    if key.len() > 200 || !(has("image") || has("img")) {
        return Name::Silent;
    }
    let mut words = words_of(key);
    for word in &mut words {
        match word.as_str() {
            "img" => *word = "image".to_owned(),
            "imgs" => *word = "images".to_owned(),
            _ => {}
        }
    }
    let last = words.last().map(String::as_str).unwrap_or_default();
    if last == "image" {
        return Name::Is;
    }
    if words.iter().any(|w| w == "image" || w == "images") {
        let other = |w: &String| words::NO_IMAGE_WORDS.contains(&w.as_str());
        // RELATED_IMAGE_KUBE_RBAC_PROXY is an image, whatever it is an image of.
        let related = words.first().is_some_and(|w| w == "related");
        let described = words::IMAGE_WORDS.contains(&last) || last == "images";
        let after = words.iter().rev().take_while(|w| *w != "image" && *w != "images");
        let other = if related {
            false
        } else if described {
            after.clone().any(other)
        } else {
            after.clone().any(other) || words.iter().any(|w| w == "pull")
        };
        return if other { Name::Silent } else { Name::Mentions };
    }
    if last.ends_with("image") && !last.starts_with("no") { Name::Is } else { Name::Silent }
}

/// `kubeRBACProxyImage_v2` as `kube`, `rbac`, `proxy`, `image`, `v2`.
pub(super) fn words_of(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let chars: Vec<char> = key.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            words.push(String::new());
            continue;
        }
        let before = i.checked_sub(1).map(|p| chars[p]);
        let after = chars.get(i + 1);
        let starts = c.is_ascii_uppercase()
            && before.is_some_and(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || (b.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase))
            });
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// A text that parses as an image and is none of the things that only look like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) image: ImageRef,
    /// A registry is written out.
    pub(super) registry: bool,
    /// There is a slash.
    pub(super) path: bool,
    /// A tag or digest is written out.
    pub(super) version: bool,
    /// The tag is a number and nothing before it has a slash, as in `redis:6379`.
    pub(super) like_port: bool,
    /// The text says `docker://` before the name.
    scheme: bool,
}

/// Whether a text has only characters that a name of an image may have.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:/@[]".contains(&b))
}

/// The shape of a text, if it can be an image at all.
pub(super) fn shape(text: &str) -> Option<Shape> {
    let text = text.trim();
    let (text, scheme) = match text.strip_prefix("docker://").or(text.strip_prefix("docker-pullable://")) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if text.len() < 2 || text.len() > MAX_TEXT || !is_plain(text) {
        return None;
    }
    let image: ImageRef = text.parse().ok()?;
    let name = text.split('@').next().unwrap_or(text);
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let path = name.contains('/');
    let first = name.split('/').next().unwrap_or(name);
    let registry = path && (first.contains(['.', ':']) || first == "localhost");
    if !image.repository().chars().any(|c| c.is_ascii_lowercase()) {
        return None;
    }
    if registry && !is_host(first) {
        return None;
    }
    let version = tag.is_some() || image.digest().is_some();
    if !version && (is_version(last) || has_end(last, words::FILE_ENDS)) {
        return None;
    }
    // A folder with an archive in it, `dist/app.tar:1`, is more often a path than a repository.
    if tag.is_some() && !registry && has_end(last.split(':').next().unwrap_or(last), words::FILE_ENDS) {
        return None;
    }
    let like_port = !path && tag.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    Some(Shape { image, registry, path, version, like_port, scheme })
}

/// Whether a host is one of `all` or below one.
fn is_below(host: &str, all: &[&str]) -> bool {
    all.iter().any(|d| host == *d || host.strip_suffix(d).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether the first part of a name can be a registry.
fn is_host(first: &str) -> bool {
    let (host, port) = first.split_once(':').map_or((first, None), |(h, p)| (h, Some(p)));
    let below = |all: &[&str]| is_below(host, all);
    let exactly = |all: &[&str]| all.contains(&host);
    // registry.k8s.io is a registry, storage.k8s.io an API group.
    if below(words::REGISTRIES) && !exactly(&["amazonaws.com", "rancher.com", "aliyuncs.com", "newrelic.com"])
    {
        return true;
    }
    if below(words::NO_REGISTRIES) {
        return false;
    }
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        // 10.0.0.0/8 is no image.
        return port.is_some() && host.split('.').count() == 4;
    }
    port.is_some() || host == "localhost" || host.contains('.')
}

/// Whether a host is one for sure, without being called so.
fn is_plain_host(image: &ImageRef) -> bool {
    let (host, port) = match image.registry().split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (image.registry(), None),
    };
    let says_registry = host.contains("registry") || host.contains("harbor");
    if is_below(host, words::DOUBTFUL_REGISTRIES) && !(says_registry && is_below(host, words::EXAMPLE_HOSTS))
    {
        return false;
    }
    // What serves web pages is rarely written with its port as a registry: `--tls-sni=a.b.c:443/x:1`.
    if port.is_some_and(|p| p == "80" || p == "443") && !says_registry && !is_below(host, words::REGISTRIES) {
        return false;
    }
    let end = host.rsplit('.').next().unwrap_or(host);
    let country = end.len() == 2 && end.bytes().all(|b| b.is_ascii_lowercase());
    if !host.contains('.') || host.bytes().any(|b| b.is_ascii_uppercase()) {
        // `redis:6379/x:y` has the form, `registry:5000/x:y` too.
        return port.is_some() && (says_registry || host.contains('.'));
    }
    if words::FILE_ENDS.contains(&end) && port.is_none() {
        return false;
    }
    country || words::HOST_ENDS.contains(&end) || port.is_some()
}

fn has_end(part: &str, ends: &[&str]) -> bool {
    part.rsplit_once('.').is_some_and(|(_, end)| ends.contains(&end))
}

/// `1.2.3`, `v1beta1`, `2024-01-01`, `1h30m`.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// The image that `text` is, given what its name says about it.
pub(super) fn judge(text: &str, name: Name) -> Option<Shape> {
    let shape = shape(text)?;
    let alone = shape.registry && shape.path && shape.version && is_plain_host(&shape.image);
    let good = match name {
        _ if alone || (shape.scheme && shape.path) => true,
        Name::Silent => false,
        Name::Mentions => {
            (shape.version || shape.registry)
                && (!shape.like_port || (likely_tag(&shape) && shape.image.tag() != Some("80")))
                && is_likely_path(&shape)
        }
        Name::Is => shape.registry || (shape.version && (!shape.like_port || likely_tag(&shape))),
    };
    good.then_some(shape)
}

/// A text that is written as an image with a registry or version, given where a file was expected.
pub(super) fn written_image(text: &str) -> Option<String> {
    shape(text).filter(|s| s.version || s.registry).map(|_| text.to_owned())
}

/// `org/name` without a tag, the value of a variable or flag that is called an image. A mere word is too little there: it may
/// be a mode, a format or a switch.
pub(super) fn mere_path(text: &str, name: Name) -> Option<Shape> {
    let (first, _) = text.split_once('/').filter(|(_, last)| !last.contains('/'))?;
    if name != Name::Is || first.len() < 2 || words::MEDIA_TYPES.contains(&first) {
        return None;
    }
    shape(text).filter(|s| s.path && !s.registry && !s.version)
}

/// A path has a slash, or a tag with a digit in it: `busybox:1.36`, not `kind:pod`.
fn is_likely_path(shape: &Shape) -> bool {
    shape.path
        || shape.image.digest().is_some()
        || shape.image.tag().is_some_and(|t| t == "latest" || t.bytes().any(|b| b.is_ascii_digit()))
}

/// `redis:7` is an image, `redis:6379` a port.
fn likely_tag(shape: &Shape) -> bool {
    shape.image.tag().is_some_and(|t| t.len() <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_say_what_they_are() {
        use Name::{Is, Mentions, Silent};
        for (key, expected) in [
            ("image", Is),
            ("sidecarImage", Is),
            ("PROXY_IMAGE", Is),
            ("proxy-image", Is),
            ("kubeRBACProxyImage", Is),
            ("baseimage", Is),
            ("sidecar.istio.io/proxyImage", Is),
            ("imageName", Mentions),
            ("images", Mentions),
            ("IMAGE_URL", Mentions),
            ("RELATED_IMAGE_KUBE_RBAC_PROXY", Mentions),
            ("RELATED_IMAGE_registry_server", Mentions),
            ("AGENT_IMAGE_V2", Mentions),
            ("SIDECAR_IMG", Is),
            ("proxyImg", Is),
            ("IMG_NAME", Mentions),
            ("IMG_PULL_POLICY", Silent),
            ("imgproxy", Silent),
            ("imagePullPolicy", Silent),
            ("image-pull-secrets", Silent),
            ("IMAGE_TAG", Silent),
            ("imageRegistry", Silent),
            ("image_repository", Silent),
            ("image-gc-high-threshold", Silent),
            ("imagine", Silent),
            ("tag", Silent),
            ("", Silent),
        ] {
            assert_eq!(name(key), expected, "{key}");
        }
    }

    #[test]
    fn what_stands_alone_must_be_complete() {
        for good in [
            "quay.io/a/b:v1",
            "registry.k8s.io/pause:3.9",
            "docker.io/library/nginx:1",
            "registry.lan:5000/shop/web:2",
            "10.0.0.1:5000/shop/web:2",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1",
            "europe-docker.pkg.dev/p/r/i:1",
            "docker://kubevirt/fedora:latest",
            "ghcr.io/a/b.c:1",
            "registry.example.com/shop/web:1.0",
            "harbor.example.org:5000/shop/web:1.0",
            "registry.lan:443/shop/web:2",
            "quay.io:443/a/b:1",
        ] {
            assert!(judge(good, Name::Silent).is_some(), "{good}");
        }
        let pinned = format!("quay.io/a/b@{D}");
        assert!(judge(&pinned, Name::Silent).is_some());
        for bad in [
            "nginx:1.27",
            "system:node",
            "system:serviceaccount:ns:name",
            "redis:6379",
            "redis.svc:6379",
            "redis:6379/a:b",
            "foo.svc.cluster.local:8080/metrics",
            "foo.svc.cluster.local:8080/a:b",
            "https://quay.io/a/b:v1",
            "oci://quay.io/a/b:v1",
            "apps/v1",
            "rbac.authorization.k8s.io/v1",
            "storage.k8s.io/a:b",
            "k8s.io/client-go:v0.29",
            "github.com/a/b:v1",
            "git@github.com:a/b",
            "golang.org/x/net:v1",
            "*/5 * * * *",
            "12:30:00",
            "1-10",
            "/etc/app/x.yaml:1",
            "etc/app/x.yaml:1",
            "main.py/x:1",
            "application/json",
            "application/vnd.oci.image.layer.v1.tar",
            "10.0.0.0/8",
            "fe80::/10",
            "arn:aws:iam::123456789012:role/x",
            "{{ .Values.image }}:1",
            "quay.io/a/b",
            "quay.io/a/b:$(TAG)",
            "app.kubernetes.io/name:web",
            "app=web",
            "v1.2.3",
            "localhost:8080/a:b",
            "org.apache.kafka/clients:3.1",
            "a:b",
            "a.b.cc:443/x:1",
            "web.shop.com:80/x:1",
            "example.com:5000/foo/bar:1.2",
            "gateway.example.com/team/x:1",
            "",
        ] {
            assert_eq!(judge(bad, Name::Silent), None, "{bad}");
        }
    }

    #[test]
    fn what_is_called_an_image_needs_less() {
        for good in ["nginx:1.27", "istio/proxyv2:1.2", "redis:7", "quay.io/a/b", "acme.custom/a/b"] {
            assert!(judge(good, Name::Is).is_some(), "{good}");
        }
        for bad in [
            "nginx",
            "true",
            "redis:6379",
            "v1.2.3",
            "1.2.3",
            "latest",
            "IfNotPresent",
            "https://x/y.png",
            "logo.png",
            "img/logo.png",
            "/img/logo.png",
            "github.com/a/b:v1",
            "Always",
            "a b",
            "${X}",
            "oci://ghcr.io/a/b:1",
        ] {
            assert_eq!(judge(bad, Name::Is), None, "{bad}");
        }
        assert!(judge("busybox:1.36", Name::Mentions).is_some());
        assert!(judge("mysql:8", Name::Mentions).is_some());
        for bad in ["kind:pod", "redis:80", "nginx", "a/b"] {
            assert_eq!(judge(bad, Name::Mentions), None, "{bad}");
        }
    }

    #[test]
    fn a_path_without_a_tag_is_one_where_nothing_else_is_meant() {
        assert!(mere_path("envoyproxy/envoy", Name::Is).is_some());
        for bad in
            ["alpine", "image/png", "img/logo.png", "a/b/c", "org/name:1", "Org/Name", "/bin", "quay.io/a"]
        {
            assert_eq!(mere_path(bad, Name::Is), None, "{bad}");
        }
        assert_eq!(mere_path("envoyproxy/envoy", Name::Mentions), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,60}", key in "\\PC{0,30}") {
            let named = name(&key);
            if let Some(shape) = judge(&text, named) {
                prop_assert!(text.contains(shape.image.repository().rsplit('/').next().unwrap_or("")));
            }
        }

        #[test]
        fn what_is_taken_alone_is_taken_under_any_name(text in "[a-z.:/@0-9-]{0,40}") {
            if judge(&text, Name::Silent).is_some() {
                prop_assert!(judge(&text, Name::Mentions).is_some() && judge(&text, Name::Is).is_some());
            }
        }
    }
}

//! Images in texts without structure: command lines, scripts, files that no parser takes. Pure.

use super::like::{self, Name, Shape};

/// Every image that a text names, with its line counted from 0: complete names anywhere, and whatever follows something
/// that says image: `image: x`, `x_image=x`, `--x-image x`. Lines that are comments are skipped.
///
/// Each text is gone through once, whatever the length of its lines.
pub(super) fn references(text: &str) -> Vec<(u32, Shape)> {
    named_references(text, Name::Silent)
}

/// The same; `named` is what is said about the first name of each line.
pub(super) fn named_references(text: &str, named: Name) -> Vec<(u32, Shape)> {
    let mut found = Vec::new();
    for (number, line) in (0u32..).zip(text.lines()) {
        let trimmed = line.trim_start();
        let comment = (trimmed.starts_with('#') && !trimmed.starts_with("#!"))
            || trimmed.starts_with("//")
            || trimmed.starts_with("{{/*");
        if comment || !line.contains([':', '@', '/']) {
            continue;
        }
        in_line(line.split(" #").next().unwrap_or(line), named, &mut |shape| found.push((number, shape)));
    }
    found
}

/// The images of a text that is nothing but a list of them, under a name that says so: `a:1,b:2`, `["a:1", "b:2"]`, one a line.
pub(super) fn list(text: &str, named: Name) -> Option<Vec<Shape>> {
    if named == Name::Silent {
        return None;
    }
    let parts = text.split(|c: char| c.is_whitespace() || is_separator(c));
    let parts = parts.map(|p| p.trim_matches(['[', ']', '"', '\''])).filter(|p| !p.is_empty());
    let all: Vec<Shape> = parts.map(|part| like::judge(part, named)).collect::<Option<_>>()?;
    (all.len() > 1).then_some(all)
}

fn is_separator(c: char) -> bool {
    matches!(c, ',' | ';' | '|')
}

/// A run of characters that can be a name of something.
struct Token<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

fn tokens(line: &str) -> impl Iterator<Item = Token<'_>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@$%*+~".contains(c);
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + line[at..].find(plain)?;
        let end = line[start..].find(|c| !plain(c)).map_or(line.len(), |n| start + n);
        at = end;
        Some(Token { text: &line[start..end], start, end })
    })
}

fn in_line(line: &str, first: Name, found: &mut impl FnMut(Shape)) {
    let mut before: Option<Token<'_>> = None;
    // A list goes on under the name that it began with: `--images=a,b`.
    let mut list = first;
    for token in tokens(line).filter(|t| t.text.contains(|c: char| c.is_ascii_alphanumeric())) {
        let mut named = before.as_ref().map_or(first, |b| {
            let between = &line[b.end..token.start];
            if list != Name::Silent && goes_on(between) {
                return list;
            }
            said_by(b.text, between)
        });
        list = named;
        // A key of something, whatever the key of the whole says.
        if line[token.end..].starts_with('=') {
            named = Name::Silent;
        }
        // Part of something that is put together elsewhere: `{{ .Values.hub }}/x:1`, `x:${TAG}`.
        let glued = line[..token.start].ends_with(['}', ')', '>'])
            || line[token.end..].starts_with(['{', '(', '<', '\\']);
        if !glued && let Some(shape) = like::judge(token.text.trim_end_matches(['.', ':']), named) {
            found(shape);
        }
        before = Some(token);
    }
}

/// Whether a list goes on after this.
fn goes_on(between: &str) -> bool {
    let list = |c: char| is_separator(c) || matches!(c, ' ' | '"' | '\'');
    between.len() <= 4 && between.contains(is_separator) && between.chars().all(list)
}

/// What a token says about the next, given what stands between them.
fn said_by(token: &str, between: &str) -> Name {
    let flag = token.starts_with("--");
    let assigned = token.ends_with(':') || between.contains(['=', ':']);
    let only = between.chars().all(|c| c.is_whitespace() || "=:\"'>\\`[".contains(c));
    if only && (assigned || flag) && between.len() <= 8 {
        like::name(token.trim_end_matches(':').trim_start_matches('-'))
    } else {
        Name::Silent
    }
}

/// Every image that the arguments of a command name, with the index of the argument.
pub(super) fn arguments<'a>(arguments: impl IntoIterator<Item = Option<&'a str>>) -> Vec<(usize, Shape)> {
    let mut found = Vec::new();
    let mut flag: Option<&str> = None;
    for (index, argument) in arguments.into_iter().enumerate() {
        let Some(argument) = argument else {
            flag = None;
            continue;
        };
        if let Some(name) = flag.take().map(|f| like::name(f.trim_start_matches('-')))
            && !argument.starts_with('-')
            && name != Name::Silent
        {
            let parts = argument
                .split(is_separator)
                .filter_map(|part| like::judge(part.trim(), name).or_else(|| like::mere_path(part, name)));
            let before = found.len();
            found.extend(parts.map(|shape| (index, shape)));
            if found.len() > before {
                continue;
            }
        }
        let before = found.len();
        found.extend(references(argument).into_iter().map(|(_, shape)| (index, shape)));
        if let Some((name, value)) = argument.split_once('=').filter(|_| found.len() == before) {
            let name = like::name(name.trim_start_matches('-'));
            found.extend(like::mere_path(value, name).map(|shape| (index, shape)));
        }
        let bare = argument.starts_with('-') && !argument.contains(['=', ' ', '\n']);
        flag = bare.then_some(argument);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> Vec<String> {
        references(text).iter().map(|(line, s)| format!("{line} {}", s.image.familiar())).collect()
    }

    fn args(all: &[&str]) -> Vec<String> {
        arguments(all.iter().copied().map(Some))
            .iter()
            .map(|(i, s)| format!("{i} {}", s.image.familiar()))
            .collect()
    }

    #[test]
    fn lines_of_files_name_images() {
        let text = "\
# image: comment/x:1
containers:
- image: \"istio/proxyv2:1.2\" # the proxy
  image: {{ .Values.hub }}/app:1
  image: ${HUB}/app:1
  image: $HUB/app:1
{\"image\":\"a/b:1\",\"x\":\"quay.io/c/d:2\"}
  sidecar_image = 'e/f:3'
  curl https://quay.io/c/d:2 oci://quay.io/c/d:2
  docker run --rm quay.io/g/h:4 sh -c true
  kubectl run x --image i/j:5 --image-pull-policy=Always/x:1
  server: redis.example.lan:6379
  images=k/l:6,m/n:7,o
  listen quay.io/p/q:8.
  the image is nginx:1 (or so)
  foo:{{ .Values.tag }}
  image: repo/foo:{{ .Values.tag }}
  - $(REGISTRY)/x/y:1
  quay.io/a/b:1-$(ARCH) quay.io/a/b:%s quay.io/a/*:1
  \"images\": [\"q/r:1\", \"s:2\"], \"host\": \"redis:22\"
";
        assert_eq!(
            names(text),
            [
                "2 istio/proxyv2:1.2",
                "6 a/b:1",
                "6 quay.io/c/d:2",
                "7 e/f:3",
                "9 quay.io/g/h:4",
                "10 i/j:5",
                "12 k/l:6",
                "12 m/n:7",
                "13 quay.io/p/q:8",
                "19 q/r:1",
                "19 s:2",
            ]
        );
    }

    #[test]
    fn long_lines_are_read_to_their_end() {
        let line = "quay.io/x/y:1 ".repeat(10_000) + "quay.io/x/last:1";
        let found = references(&line);
        assert_eq!(found.len(), 10_001);
        assert_eq!(found[10_000].1.image.familiar(), "quay.io/x/last:1");
    }

    #[test]
    fn lists_stand_under_a_name() {
        let all = |text: &str, name: &str| -> Option<Vec<String>> {
            Some(list(text, like::name(name))?.iter().map(|s| s.image.familiar()).collect())
        };
        let two = Some(vec!["mysql:8".to_owned(), "redis:7".to_owned()]);
        for text in [
            "mysql:8,redis:7",
            "mysql:8, redis:7",
            "mysql:8 redis:7\n",
            "mysql:8;redis:7",
            "[\"mysql:8\",\"redis:7\"]",
        ] {
            assert_eq!(all(text, "IMAGES"), two, "{text}");
        }
        assert_eq!(all("mysql:8,redis:7", "DATABASES"), None);
        assert_eq!(all("run mysql:8 on redis:7", "IMAGES"), None);
        assert_eq!(all("mysql:8", "IMAGES"), None);
    }

    #[test]
    fn flags_name_images() {
        assert_eq!(args(&["--config-reloader-image=a/b:1", "--x"]), ["0 a/b:1"]);
        assert_eq!(args(&["--image", "a/b:1", "c/d:2"]), ["1 a/b:1"]);
        assert_eq!(args(&["-proxy-image", "registry.k8s.io/a"]), ["1 registry.k8s.io/a:latest"]);
        assert_eq!(args(&["--images=a/b:1,c:2.1"]), ["0 a/b:1", "0 c:2.1"]);
        assert_eq!(args(&["--reloader=quay.io/a/b:1"]), ["0 quay.io/a/b:1"]);
        assert_eq!(args(&["sh", "-c", "set -e\nctr run quay.io/a/b:1\n"]), ["2 quay.io/a/b:1"]);
        assert_eq!(args(&["--set", "foo.image=quay.io/a/b:1"]), ["1 quay.io/a/b:1"]);
        assert_eq!(args(&["--proxy-image=envoyproxy/envoy"]), ["0 envoyproxy/envoy:latest"]);
        assert_eq!(args(&["--proxy-image", "envoyproxy/envoy"]), ["1 envoyproxy/envoy:latest"]);
        for none in [
            &["--addr=redis:6379"][..],
            &["--image-pull-policy", "a/b:1"],
            &["--listen=:8080", "--metrics", "0.0.0.0:8080"],
            &["--image", "--other"],
            &["--image=$(IMAGE)"],
            &["--role", "system:node"],
            &["--helper-image=alpine"],
            &["--image-type=image/png"],
            &["--tls-sni=a.b.cc:443/x:1"],
        ] {
            assert!(args(none).is_empty(), "{none:?}: {:?}", args(none));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\PC|\n|image: ?|[{}$:=,]){0,80}") {
            references(&text);
            arguments([Some(text.as_str()), None, Some(&text)]);
        }
    }
}

//! Kubernetes' pull secrets.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;
use serde_yaml::Value;

use super::file::{self, Entry};
use super::{Login, covers};

const NEW: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
const OLD: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");
/// Documents of one file, lists counted by what is in them.
const MAX_OBJECTS: usize = 10_000;

struct PullSecret {
    entries: BTreeMap<String, Entry>,
    /// `namespace/name`.
    name: String,
}

/// The login whose name fits an image most closely; of those that fit equally well the first.
pub(super) fn look_up(bytes: &[u8], registry: &str, repository: &str) -> Result<Option<Login>, String> {
    let secrets = parse(bytes)?;
    let mut best: Option<(usize, &Entry, &str)> = None;
    for secret in &secrets {
        for (key, entry) in &secret.entries {
            let fit = covers(key, registry, repository);
            if let Some(fit) = fit.filter(|fit| best.is_none_or(|(least, ..)| *fit > least)) {
                best = Some((fit, entry, &secret.name));
            }
        }
    }
    match best {
        Some((_, entry, name)) => entry.login().map_err(|reason| format!("Secret {name}: {reason}")),
        None => Ok(None),
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<PullSecret>, String> {
    let mut found = Vec::new();
    let mut left = MAX_OBJECTS;
    for document in serde_yaml::Deserializer::from_slice(bytes) {
        // The parser's own words may quote a value.
        let value = Value::deserialize(document).map_err(|e| {
            let at = e.location().map(|l| format!(" (line {}, column {})", l.line(), l.column()));
            format!("not valid YAML{}", at.unwrap_or_default())
        })?;
        collect(&value, &mut found, &mut left)?;
    }
    if found.is_empty() {
        return Err(format!("there is no Secret of type {} or {} in it", NEW.0, OLD.0));
    }
    Ok(found)
}

fn collect(value: &Value, found: &mut Vec<PullSecret>, left: &mut usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or_else(|| format!("there are more than {MAX_OBJECTS} objects in it"))?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(items) = value.get("items").and_then(Value::as_sequence) {
        return items.iter().try_for_each(|item| collect(item, found, left));
    }
    if text(value, "kind").as_deref() != Some("Secret") {
        return Ok(());
    }
    let (kind, key) = match text(value, "type").as_deref() {
        Some(t) if t == NEW.0 => NEW,
        Some(t) if t == OLD.0 => OLD,
        _ => return Ok(()),
    };
    let meta = value.get("metadata").cloned().unwrap_or_default();
    let namespace = text(&meta, "namespace").unwrap_or_else(|| "default".to_owned());
    let name = format!("{namespace}/{}", text(&meta, "name").unwrap_or_default());
    let fail = |reason: String| format!("Secret {name}: {reason}");
    let plain = value.get("stringData").and_then(|d| text(d, key)).map(String::into_bytes);
    let coded = value.get("data").and_then(|d| text(d, key));
    let content = match (plain, coded) {
        (Some(plain), _) => plain,
        (None, Some(coded)) => {
            let bare: String = coded.split_whitespace().collect();
            let decoded = base64::engine::general_purpose::STANDARD.decode(bare);
            decoded.map_err(|_| fail(format!("{key} is not base64")))?
        }
        (None, None) => return Err(fail(format!("it is of type {kind} and has no {key}"))),
    };
    let entries = file::entries(&content, kind == OLD.0).map_err(fail)?;
    found.push(PullSecret { entries, name });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"
apiVersion: v1
kind: ConfigMap
data: {a: [1]}
---
apiVersion: v1
kind: List
items:
- kind: Secret
  metadata: {name: new, namespace: web}
  type: kubernetes.io/dockerconfigjson
  data:
    .dockerconfigjson: eyJhdXRocyI6eyIqLmxhbjo1MDAwIjp7ImF1dGgiOiJkVHB3In19fQ==
- kind: Secret
  metadata: {name: old}
  type: kubernetes.io/dockercfg
  stringData:
    .dockercfg: '{"https://index.docker.io/v1/": {"username": "hub", "password": "pw"}, "a.io/team": {"auth": "dDpw"}}'
"#;

    #[test]
    fn both_types_are_read_and_names_match_as_kubelet_does() {
        let at = |registry: &str, repository: &str| {
            look_up(FILE.as_bytes(), registry, repository).unwrap().map(|l| l.user)
        };
        assert_eq!(at("r.lan:5000", "x").as_deref(), Some("u"));
        assert_eq!(at("r.lan", "x"), None, "another port");
        assert_eq!(at("a.r.lan:5000", "x"), None, "* is one label");
        assert_eq!(at("docker.io", "library/nginx").as_deref(), Some("hub"));
        assert_eq!(at("a.io", "team/x").as_deref(), Some("t"));
        assert_eq!(at("a.io", "teamwork"), None);
    }

    #[test]
    fn what_is_wrong_is_said_by_name_and_without_secrets() {
        let secret = |body: &str| {
            format!(
                "kind: Secret\nmetadata: {{name: s, namespace: n}}\ntype: kubernetes.io/dockerconfigjson\n{body}"
            )
        };
        for (body, word) in [
            ("data: {.dockerconfigjson: hunter2!}", "not base64"),
            ("stringData: {.dockerconfigjson: '{\"auths\": \"hunter2\"}'}", "not a valid auth file"),
            (
                "stringData: {.dockerconfigjson: '{\"auths\": {\"a.io\": {\"auth\": \"hunter2!\"}}}'}",
                "base64",
            ),
            ("data: {x: hunter2}", "has no .dockerconfigjson"),
        ] {
            let error = look_up(secret(body).as_bytes(), "a.io", "x").unwrap_err();
            assert!(error.contains(word) && error.contains("n/s") && !error.contains("hunter2"), "{error}");
        }
        assert!(look_up(b"kind: Pod", "a.io", "x").unwrap_err().contains("no Secret of type"));
        let error = look_up(b"kind: [hunter2", "a.io", "x").unwrap_err();
        assert!(error.contains("not valid YAML") && !error.contains("hunter2"), "{error}");
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(text in "(?s).{0,300}") {
            let _ = look_up(text.as_bytes(), "a.io", "b");
        }
    }
}

//! The objects that templates see besides values: `.Files`, `.Capabilities`, `.Release`.

use std::sync::Arc;

use minijinja::value::Value;
use regex::{Regex, RegexBuilder};

use super::ChartFile;
use super::capabilities::{API_VERSIONS, KubeVersion};
use crate::template::bytes::from_bytes;
use crate::template::value::{Dict, FILES_TYPE, List, Map, Record, VERSION_SET};
use crate::template::{FnError, MAX_TEXT, to_yaml};

/// Lines of a file that `.Files.Lines` gives.
const MAX_LINES: usize = 500_000;

fn arg<'a>(args: &'a [Value], name: &str) -> Result<&'a str, FnError> {
    match args.first() {
        Some(v) => {
            v.as_str().ok_or_else(|| FnError::Argument("wrong type for value; expected string".into()))
        }
        None => Err(FnError::Argument(format!("wrong number of args for {name}: want 1 got 0"))),
    }
}

/// `.Files`: the chart's files outside `templates/`.
pub(crate) fn files(files: &[ChartFile]) -> Value {
    from_map(files.iter().map(|f| (Arc::from(f.name.as_str()), Value::from(f.data.clone()))).collect())
}

fn from_map(fields: Map) -> Value {
    Value::from_object(Record { type_name: FILES_TYPE, fields, text: None, methods: files_method })
}

fn text(v: &Value) -> String {
    from_bytes(v.as_bytes().unwrap_or_default())
}

fn files_method(me: &Record, name: &str, args: &[Value]) -> Option<Result<Value, FnError>> {
    let by_base = |text: fn(&Value) -> String| {
        let bytes: usize = me.fields.values().map(|v| v.as_bytes().map_or(0, <[u8]>::len)).sum();
        if bytes > MAX_TEXT / 2 {
            let reason = format!("files of {bytes} bytes are more than {} in one object", MAX_TEXT / 2);
            return Err(FnError::text(reason));
        }
        let map: Map = me
            .fields
            .iter()
            .map(|(k, v)| (Arc::from(k.rsplit('/').next().unwrap_or(k)), Value::from(text(v))))
            .collect();
        Ok(Value::from(to_yaml(&Dict::value(map)).unwrap_or_default()))
    };
    Some(match name {
        "Get" => arg(args, name).map(|n| Value::from(me.fields.get(n).map(text).unwrap_or_default())),
        "GetBytes" => arg(args, name)
            .map(|n| me.fields.get(n).cloned().unwrap_or_else(|| Value::from_bytes(Vec::new()))),
        "Glob" => arg(args, name).map(|pattern| {
            // Helm takes a pattern that it cannot read for one that matches everything.
            let re = glob(pattern);
            let hit = |k: &Arc<str>| re.as_ref().is_none_or(|re| re.is_match(k));
            from_map(me.fields.iter().filter(|(k, _)| hit(k)).map(|(k, v)| (k.clone(), v.clone())).collect())
        }),
        "Lines" => arg(args, name).and_then(|n| {
            let text = me.fields.get(n).map(text).unwrap_or_default();
            if text.is_empty() {
                return Ok(List::strings(Vec::<String>::new()));
            }
            if text.bytes().filter(|b| *b == b'\n').count() > MAX_LINES {
                return Err(FnError::text(format!("a file of more than {MAX_LINES} lines")));
            }
            Ok(List::strings(text.strip_suffix('\n').unwrap_or(&text).split('\n')))
        }),
        "AsConfig" => by_base(text),
        "AsSecrets" => by_base(|v| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(v.as_bytes().unwrap_or_default())
        }),
        " range" => Ok(Dict::value(me.fields.clone())),
        _ => return None,
    })
}

/// A pattern of `gobwas/glob` with `/` as separator: `*` and `?` stop at it, `**` does not; `[a-z]`, `{a,b}`.
fn glob(pattern: &str) -> Option<Regex> {
    let mut re = String::from("(?s)^");
    let mut chars = pattern.chars().peekable();
    let mut depth = 0;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                while chars.peek() == Some(&'*') {
                    chars.next();
                }
                re.push_str(".*");
            }
            '*' => re.push_str("[^/]*"),
            '?' => re.push_str("[^/]"),
            '{' => {
                depth += 1;
                re.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                re.push(')');
            }
            ',' if depth > 0 => re.push('|'),
            '[' => {
                re.push('[');
                if chars.peek() == Some(&'!') {
                    chars.next();
                    re.push('^');
                }
                for c in chars.by_ref() {
                    re.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '\\' => re.push_str(&regex::escape(&chars.next()?.to_string())),
            c => re.push_str(&regex::escape(&c.to_string())),
        }
    }
    re.push('$');
    RegexBuilder::new(&re).size_limit(1 << 18).build().ok()
}

/// `.Capabilities`.
pub(crate) fn capabilities(kube: &KubeVersion, extra: &[String]) -> Value {
    let versions = Map::from([
        ("Version".into(), Value::from(kube.version.as_str())),
        ("Major".into(), Value::from(kube.major.as_str())),
        ("Minor".into(), Value::from(kube.minor.as_str())),
    ]);
    let kube = Record {
        type_name: "common.KubeVersion",
        text: Some(kube.normalized().to_owned()),
        fields: versions,
        methods: |me, name, _| match name {
            "String" => Some(Ok(Value::from(me.text.clone().unwrap_or_default()))),
            "GitVersion" => me.fields.get("Version").cloned().map(Ok),
            _ => None,
        },
    };
    let known = API_VERSIONS.split_whitespace().chain(extra.iter().map(String::as_str));
    let apis = Value::from_object(List { type_name: VERSION_SET, items: known.map(Value::from).collect() });
    let helm = Record::plain(
        "version.BuildInfo",
        Map::from([
            ("Version".into(), Value::from("v4.3.1")),
            ("GitCommit".into(), Value::from("c0d08d0d6d9424d4a14febb5e8a3e51b0dd00dff")),
            ("GitTreeState".into(), Value::from("clean")),
            ("GoVersion".into(), Value::from("go1.27.2")),
            ("KubeClientVersion".into(), Value::from("v1.37")),
        ]),
    );
    Value::from_object(Record::plain(
        "*common.Capabilities",
        Map::from([
            ("KubeVersion".into(), Value::from_object(kube)),
            ("APIVersions".into(), apis),
            ("HelmVersion".into(), Value::from_object(helm)),
        ]),
    ))
}

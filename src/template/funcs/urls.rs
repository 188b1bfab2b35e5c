//! URLs and slash-separated paths.

use std::sync::Arc;

use minijinja::value::Value;

use super::super::error::FnError;
use super::super::value::{Dict, Map, kind_name};
use super::{Builtin, Outcome, dict_arg, func, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("base", "s", |_, a| Ok(Value::from(base(str_arg(a, 0)?)))),
    func("dir", "s", |_, a| Ok(Value::from(dir(str_arg(a, 0)?)))),
    func("clean", "s", |_, a| Ok(Value::from(clean(str_arg(a, 0)?)))),
    func("ext", "s", |_, a| Ok(Value::from(ext(str_arg(a, 0)?)))),
    func("isAbs", "s", |_, a| Ok(Value::from(str_arg(a, 0)?.starts_with('/')))),
    func("osBase", "s", |_, a| Ok(Value::from(base(str_arg(a, 0)?)))),
    func("osDir", "s", |_, a| Ok(Value::from(dir(str_arg(a, 0)?)))),
    func("osClean", "s", |_, a| Ok(Value::from(clean(str_arg(a, 0)?)))),
    func("osExt", "s", |_, a| Ok(Value::from(ext(str_arg(a, 0)?)))),
    func("osIsAbs", "s", |_, a| Ok(Value::from(str_arg(a, 0)?.starts_with('/')))),
    func("urlParse", "s", |_, a| url_parse(str_arg(a, 0)?)),
    func("urlJoin", "d", |_, a| url_join(dict_arg(a, 0)?)),
];

/// Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let rooted = path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if out.last().is_some_and(|p| *p != "..") => {
                out.pop();
            }
            ".." if rooted => {}
            _ => out.push(part),
        }
    }
    match (rooted, out.is_empty()) {
        (true, _) => format!("/{}", out.join("/")),
        (false, true) => ".".into(),
        (false, false) => out.join("/"),
    }
}

fn base(path: &str) -> String {
    if path.is_empty() {
        return ".".into();
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/".into() } else { trimmed.rsplit('/').next().unwrap_or_default().into() }
}

fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |i| &path[..=i]))
}

fn ext(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rfind('.').map_or_else(String::new, |i| name[i..].to_owned())
}

/// Go's `url.QueryEscape`.
pub(super) fn query_escape(s: &str) -> String {
    let mut out = String::new();
    for b in s.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Go's `url.URL.EscapedPath` of a path that was not parsed.
fn path_escape(s: &str) -> String {
    let mut out = String::new();
    for b in s.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn unescape(s: &str) -> Option<String> {
    let mut out = Vec::new();
    let b = s.as_bytes();
    let mut i = 0;
    while i < b.len() {
        if b[i] == b'%' {
            out.push(u8::from_str_radix(s.get(i + 1..i + 3)?, 16).ok()?);
            i += 3;
        } else {
            out.push(b[i]);
            i += 1;
        }
    }
    Some(crate::template::bytes::from_bytes(&out))
}

fn url_parse(text: &str) -> Outcome {
    let bad = || FnError::text(format!("unable to parse url: parse {text:?}: invalid URL"));
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let scheme_end = rest.find(':').filter(|i| {
        rest.starts_with(|c: char| c.is_ascii_alphabetic())
            && rest[..*i].bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let (scheme, rest) = scheme_end.map_or(("", rest), |i| (&rest[..i], &rest[i + 1..]));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut userinfo, mut host, mut path, mut opaque) = ("", "", rest, "");
    if !scheme.is_empty() && !rest.starts_with('/') && !rest.is_empty() {
        (path, opaque) = ("", rest);
    } else if let Some(authority) = rest.strip_prefix("//") {
        let end = authority.find('/').unwrap_or(authority.len());
        (host, path) = authority.split_at(end);
        if let Some((user, rest)) = host.rsplit_once('@') {
            (userinfo, host) = (user, rest);
        }
    }
    let hostname = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    };
    let fields = [
        ("scheme", scheme.to_lowercase()),
        ("host", host.to_owned()),
        ("hostname", hostname.to_owned()),
        ("path", unescape(path).ok_or_else(bad)?),
        ("query", query.to_owned()),
        ("opaque", opaque.to_owned()),
        ("fragment", unescape(fragment).ok_or_else(bad)?),
        ("userinfo", userinfo.to_owned()),
    ];
    let map: Map = fields.into_iter().map(|(k, v)| (Arc::from(k), Value::from(v))).collect();
    Ok(Dict::value(map))
}

fn url_join(d: &Dict) -> Outcome {
    let part = |key: &str| match d.get(key) {
        None => Ok(String::new()),
        Some(v) => v.as_str().map(str::to_owned).ok_or_else(|| {
            FnError::text(format!(
                "unable to parse {key} key, must be of type string, but {} found",
                kind_name(&v)
            ))
        }),
    };
    let (scheme, host, user) = (part("scheme")?, part("host")?, part("userinfo")?);
    let (path, opaque) = (part("path")?, part("opaque")?);
    let mut out = String::new();
    if !scheme.is_empty() {
        out += &format!("{scheme}:");
    }
    if opaque.is_empty() {
        if !scheme.is_empty() || !host.is_empty() || !user.is_empty() {
            if !host.is_empty() || !path.is_empty() || !user.is_empty() {
                out += "//";
            }
            if !user.is_empty() {
                out += &format!("{user}@");
            }
            out += &host;
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        out += &path_escape(&path);
    } else {
        out += &opaque;
    }
    let (query, fragment) = (part("query")?, part("fragment")?);
    if !query.is_empty() {
        out += &format!("?{query}");
    }
    if !fragment.is_empty() {
        out += &format!("#{fragment}");
    }
    Ok(Value::from(out))
}

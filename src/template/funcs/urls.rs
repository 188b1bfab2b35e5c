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

/// Fails with the escape that is none.
fn unescape(s: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let b = s.as_bytes();
    let mut i = 0;
    while i < b.len() {
        if b[i] == b'%' {
            let digits = b.get(i + 1..i + 3).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
            let byte =
                digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
            let end = (i + 3).min(b.len());
            out.push(byte.ok_or_else(|| crate::template::bytes::from_bytes(&b[i..end]))?);
            i += 3;
        } else {
            out.push(b[i]);
            i += 1;
        }
    }
    Ok(crate::template::bytes::from_bytes(&out))
}

/// What Go's `net/url` refuses of a host.
fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(rest) => rest.rsplit_once(']').ok_or("missing ']' in host")?.1,
        None => host.find(':').map_or("", |i| &host[i..]),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if !port.is_empty() && (digits.len() == port.len() || !digits.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {port:?} after host"));
    }
    // Only bytes beyond ASCII may be escaped there.
    let escape =
        host.find('%').filter(|_| !host.starts_with('[')).map(|i| host.get(i..i + 3).unwrap_or(&host[i..]));
    if let Some(escape) = escape
        && escape != "%25"
        && !escape[1..].starts_with(|c: char| c.to_digit(16).is_some_and(|d| d >= 8))
    {
        return Err(format!("invalid URL escape {escape:?}"));
    }
    let fits = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    match host.chars().find(|c| !fits(*c)) {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => Ok(()),
    }
}

fn url_parse(text: &str) -> Outcome {
    let failed = |why: &str| FnError::text(format!("unable to parse url: parse {text:?}: {why}"));
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(failed("net/url: invalid control character in URL"));
    }
    let unescape = |s: &str| unescape(s).map_err(|escape| failed(&format!("invalid URL escape {escape:?}")));
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let scheme_end = rest.find(':').filter(|i| {
        rest.starts_with(|c: char| c.is_ascii_alphabetic())
            && rest[..*i].bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    if rest.starts_with(':') {
        return Err(failed("missing protocol scheme"));
    }
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
    if scheme.is_empty() && !rest.starts_with('/') && path.split('/').next().is_some_and(|s| s.contains(':'))
    {
        return Err(failed("first path segment in URL cannot contain colon"));
    }
    check_host(host).map_err(|why| failed(&why))?;
    // The zone of an address is the one thing that is escaped there.
    let host = &if host.starts_with('[') { host.replace("%25", "%") } else { host.to_owned() };
    let hostname = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    };
    let fields = [
        ("scheme", scheme.to_lowercase()),
        ("host", host.to_owned()),
        ("hostname", hostname.to_owned()),
        ("path", unescape(path)?),
        ("query", query.to_owned()),
        ("opaque", opaque.to_owned()),
        ("fragment", unescape(fragment)?),
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

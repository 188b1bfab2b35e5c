//! YAML, JSON and the base encodings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Value;

use super::super::bounds::MAX_PARSED;
use super::super::error::FnError;
use super::super::fmt::quote;
use super::super::runtime::Cx;
use super::super::value::empty_dict;
use super::super::value::{
    Dict, List, MAX_VALUE_DEPTH, Map, Record, as_bool, as_dict, as_float, as_int, as_list, from_json,
    from_yaml, is_nil, nil, type_name,
};
use super::{Builtin, bytes_arg, func, str_arg};
use crate::template::bytes::{from_bytes, shown, shown_text};
use crate::yaml::{self, Sink, YamlError};

pub(super) const TABLE: &[Builtin] = &[
    func("toYaml", "v", |_, a| Ok(Value::from(to_yaml(&a[0]).unwrap_or_default()))),
    func("mustToYaml", "v", |_, a| Ok(Value::from(to_yaml(&a[0]).map_err(|e| FnError::text(e.reason))?))),
    func("toYamlPretty", "v", |_, a| Ok(Value::from(to_yaml_pretty(&a[0]).unwrap_or_default()))),
    func("fromYaml", "s", |cx, a| Ok(parsed(read_yaml(cx, str_arg(a, 0)?)?, true))),
    func("fromYamlArray", "s", |cx, a| Ok(parsed(read_yaml(cx, str_arg(a, 0)?)?, false))),
    func("toJson", "v", |_, a| Ok(Value::from(json(&a[0], None, true).unwrap_or_default()))),
    func("mustToJson", "v", |_, a| Ok(Value::from(json(&a[0], None, true)?))),
    func("toRawJson", "v", |_, a| Ok(Value::from(json(&a[0], None, false)?))),
    func("mustToRawJson", "v", |_, a| Ok(Value::from(json(&a[0], None, false)?))),
    func("toPrettyJson", "v", |_, a| Ok(Value::from(json(&a[0], Some(0), true).unwrap_or_default()))),
    func("mustToPrettyJson", "v", |_, a| Ok(Value::from(json(&a[0], Some(0), true)?))),
    func("fromJson", "s", |_, a| Ok(parsed(read_json(str_arg(a, 0)?), true))),
    func("fromJsonArray", "s", |_, a| Ok(parsed(read_json(str_arg(a, 0)?), false))),
    func("mustFromJson", "s", |_, a| read_json(str_arg(a, 0)?).map_err(FnError::Text)),
    func("b64enc", "s", |_, a| Ok(Value::from(STANDARD.encode(bytes_arg(a, 0)?)))),
    func("b64dec", "s", |_, a| {
        let packed: String = str_arg(a, 0)?.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        Ok(Value::from(match STANDARD.decode(&packed) {
            Ok(bytes) => from_bytes(&bytes),
            Err(e) => super::crypto::illegal_base64(&packed, &e),
        }))
    }),
    func("b32enc", "s", |_, a| Ok(Value::from(base32(&bytes_arg(a, 0)?)))),
    func("b32dec", "s", |_, a| {
        Ok(Value::from(match unbase32(str_arg(a, 0)?) {
            Some(bytes) => from_bytes(&bytes),
            None => "illegal base32 data at input byte 0".to_owned(),
        }))
    }),
];

/// `toYaml`: the value as `sigs.k8s.io/yaml` writes it, without the last newline.
pub(crate) fn to_yaml(v: &Value) -> Result<String, YamlError> {
    let mut text = yaml::emit_with(|sink| write_yaml(sink, v, 0))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn write_yaml(sink: &mut Sink<'_, '_>, v: &Value, depth: usize) -> Result<(), YamlError> {
    if depth > MAX_VALUE_DEPTH {
        let reason = format!("value is nested deeper than {MAX_VALUE_DEPTH} levels");
        return Err(YamlError { line: 0, column: 0, reason });
    }
    if let Some(s) = v.as_str() {
        sink.str(&shown_text(s))
    } else if is_nil(v) {
        sink.null()
    } else if let Some(i) = as_int(v) {
        sink.int(i)
    } else if let Some(f) = as_float(v) {
        sink.float(f)
    } else if let Some(b) = as_bool(v) {
        sink.bool(b)
    } else if let Some(l) = as_list(v) {
        sink.seq(|s| l.items.iter().try_for_each(|v| write_yaml(s, v, depth + 1)))
    } else if let Some(v) = marshalled(v) {
        write_yaml(sink, &v, depth + 1)
    } else if let Some(map) = fields(v) {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by(|a, b| yaml::compare_keys(a.0, b.0));
        sink.map(|s| {
            entries.into_iter().try_for_each(|(k, v)| {
                s.str(&shown_text(k))?;
                write_yaml(s, v, depth + 1)
            })
        })
    } else if let Some(b) = v.as_bytes() {
        sink.str(&STANDARD.encode(b))
    } else {
        sink.str(&super::strval(v))
    }
}

/// What stands for a value of a Go type that says itself how it is written, such as a time.
pub(super) fn marshalled(v: &Value) -> Option<Value> {
    let r = v.downcast_object_ref::<Record>()?;
    (r.methods)(r, " json", &[])?.ok()
}

/// The entries of what is an object in JSON; none for a type that writes itself as a string.
fn fields(v: &Value) -> Option<Map> {
    if let Some(d) = as_dict(v) {
        return Some(d.entries());
    }
    let r = v.downcast_object_ref::<Record>()?;
    if let Some(Ok(range)) = (r.methods)(r, " range", &[]) {
        return as_dict(&range).map(Dict::entries);
    }
    (r.text.is_none() || !r.type_name.starts_with('*')).then(|| r.fields.clone())
}

/// A scalar for go-yaml 3, which knows times: they are no texts to it.
fn write_pretty(sink: &mut Sink<'_, '_>, v: &Value, depth: usize) -> Result<(), YamlError> {
    let time = || marshalled(v).filter(|_| type_name(v) == super::dates::TIME);
    match time() {
        Some(time) => sink.plain(time.as_str().unwrap_or_default()),
        None => write_yaml(sink, v, depth),
    }
}

/// `toYamlPretty`: as go-yaml 3 writes it with two blanks, which indents lists below their keys.
fn to_yaml_pretty(v: &Value) -> Result<String, YamlError> {
    let mut out = String::new();
    pretty(&mut out, v, 0)?;
    if out.ends_with('\n') {
        out.pop();
    }
    Ok(out)
}

/// Writes a node in block style; what stands below a key or dash is written first and then indented.
fn pretty(out: &mut String, v: &Value, depth: usize) -> Result<(), YamlError> {
    if depth > MAX_VALUE_DEPTH {
        let reason = format!("value is nested deeper than {MAX_VALUE_DEPTH} levels");
        return Err(YamlError { line: 0, column: 0, reason });
    }
    let is_block = |v: &Value| {
        as_list(v).is_some_and(|l| !l.items.is_empty())
            || marshalled(v).is_none() && fields(v).is_some_and(|m| !m.is_empty())
    };
    let indented = |out: &mut String, text: &str| {
        for line in text.split_inclusive('\n') {
            out.push_str(if line == "\n" { "" } else { "  " });
            out.push_str(line);
        }
    };
    if let Some(l) = as_list(v).filter(|l| !l.items.is_empty()) {
        for item in &l.items {
            let mut text = String::new();
            if is_block(item) {
                pretty(&mut text, item, depth + 1)?;
            } else {
                // Within a list of one, so that a block scalar is indented as it must be.
                let one = yaml::emit_with(|sink| sink.seq(|s| write_pretty(s, item, depth + 1)))?;
                out.push_str(&one);
                continue;
            }
            let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
            out.push_str("- ");
            out.push_str(first);
            out.push('\n');
            indented(out, rest);
        }
        return Ok(());
    }
    let Some(map) = fields(v).filter(|m| !m.is_empty() && marshalled(v).is_none()) else {
        out.push_str(&yaml::emit_with(|sink| write_pretty(sink, v, depth))?);
        return Ok(());
    };
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by(|a, b| yaml::compare_keys(a.0, b.0));
    for (k, v) in entries {
        let scalar = |v: &Value| {
            yaml::emit_with(|sink| {
                sink.map(|s| {
                    s.str(&shown_text(k))?;
                    write_pretty(s, v, depth + 1)
                })
            })
        };
        if !is_block(v) {
            out.push_str(&scalar(v)?);
            continue;
        }
        // The key as it stands before a value on the same line.
        let key = scalar(&nil())?;
        out.push_str(key.trim_end().strip_suffix("null").unwrap_or(&key).trim_end());
        out.push('\n');
        let mut text = String::new();
        pretty(&mut text, v, depth + 1)?;
        indented(out, &text);
    }
    Ok(())
}

/// The outer error ends the rendering: a short text can stand for many values, each of which is made.
fn read_yaml(cx: &Cx<'_>, text: &str) -> Result<Result<Value, String>, FnError> {
    let limits =
        yaml::Limits { allow_duplicate_keys: true, max_nodes: MAX_PARSED, ..yaml::Limits::default() };
    match yaml::parse_one(text, &limits) {
        Ok(node) => {
            cx.steps(values(&node))?;
            Ok(Ok(from_yaml(&node)))
        }
        Err(e) => Ok(Err(format!("error converting YAML to JSON: yaml: line {}: {}", e.line, e.reason))),
    }
}

/// How many values a node is made of, itself among them. Its depth is bounded by the parser.
fn values(node: &yaml::Node) -> usize {
    let within = match &node.value {
        yaml::Value::Seq(all) => all.iter().map(values).sum(),
        yaml::Value::Map(all) => all.values().map(values).sum(),
        _ => 0,
    };
    1 + within
}

fn read_json(text: &str) -> Result<Value, String> {
    // Every value but the first comes after one of these.
    if text.bytes().filter(|b| matches!(b, b',' | b'[' | b':')).take(MAX_PARSED).count() == MAX_PARSED {
        return Err(format!("more than {MAX_PARSED} values"));
    }
    serde_json::from_str(text)
        .map(|v| from_json(&v))
        .map_err(|e| if e.is_eof() { "unexpected end of JSON input".to_owned() } else { e.to_string() })
}

/// Helm's `from…` functions never fail: the message stands in the value.
fn parsed(result: Result<Value, String>, map: bool) -> Value {
    let error = match result {
        Ok(v) if is_nil(&v) => return if map { empty_dict() } else { List::value(Vec::new()) },
        Ok(v) if (map && as_dict(&v).is_some()) || (!map && as_list(&v).is_some()) => return v,
        Ok(v) => {
            let is = if as_dict(&v).is_some() {
                "object"
            } else if as_list(&v).is_some() {
                "array"
            } else if as_float(&v).is_some() {
                "number"
            } else {
                type_name(&v)
            };
            let want = if map { "map[string]interface {}" } else { "[]interface {}" };
            format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {is} into Go value of type {want}"
            )
        }
        Err(e) => e,
    };
    if map {
        let value = empty_dict();
        if let Some(d) = as_dict(&value) {
            d.set("Error", Value::from(error));
        }
        value
    } else {
        List::value(vec![Value::from(error)])
    }
}

/// `encoding/json`: sorted keys, and by default `<`, `>` and `&` escaped.
pub(crate) fn json(v: &Value, indent: Option<usize>, escape: bool) -> Result<String, FnError> {
    let mut out = String::new();
    write_json(&mut out, v, indent, escape, 0)?;
    Ok(out)
}

fn write_json(
    out: &mut String,
    v: &Value,
    indent: Option<usize>,
    escape: bool,
    depth: usize,
) -> Result<(), FnError> {
    if depth > MAX_VALUE_DEPTH {
        return Err(FnError::text(format!("value is nested deeper than {MAX_VALUE_DEPTH} levels")));
    }
    let newline = |out: &mut String, level: usize| {
        if indent.is_some() {
            out.push('\n');
            out.push_str(&"  ".repeat(level));
        }
    };
    if let Some(s) = v.as_str() {
        json_string(out, s, escape);
    } else if is_nil(v) {
        out.push_str("null");
    } else if let Some(i) = as_int(v) {
        out.push_str(&i.to_string());
    } else if let Some(f) = as_float(v) {
        if !f.is_finite() {
            return Err(FnError::text(format!("json: unsupported value: {f}")));
        }
        let text = yaml::shortest_between(f, -6, 21);
        // encoding/json writes e-9 where strconv writes e-09.
        out.push_str(&match text.split_once("e-0") {
            Some((m, e)) => format!("{m}e-{e}"),
            None => text,
        });
    } else if let Some(b) = as_bool(v) {
        out.push_str(if b { "true" } else { "false" });
    } else if let Some(l) = as_list(v) {
        out.push('[');
        for (i, v) in l.items.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            newline(out, depth + 1);
            write_json(out, v, indent, escape, depth + 1)?;
        }
        if !l.items.is_empty() {
            newline(out, depth);
        }
        out.push(']');
    } else if let Some(v) = marshalled(v) {
        write_json(out, &v, indent, escape, depth + 1)?;
    } else if let Some(map) = fields(v) {
        out.push('{');
        for (i, (k, v)) in map.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            newline(out, depth + 1);
            json_string(out, k, escape);
            out.push_str(if indent.is_some() { ": " } else { ":" });
            write_json(out, v, indent, escape, depth + 1)?;
        }
        if !map.is_empty() {
            newline(out, depth);
        }
        out.push('}');
    } else if let Some(b) = v.as_bytes() {
        out.push_str(&quote(&STANDARD.encode(b)));
    } else {
        json_string(out, &super::strval(v), escape);
    }
    Ok(())
}

fn json_string(out: &mut String, s: &str, escape: bool) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if escape => out.push_str(&format!("\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(shown(c)),
        }
    }
    out.push('"');
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut buffer = [0u8; 8];
        buffer[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(buffer);
        let used = (chunk.len() * 8).div_ceil(5);
        for i in 0..8 {
            let index = usize::try_from(bits >> (35 - 5 * i) & 31).unwrap_or(0);
            out.push(if i < used { char::from(BASE32[index]) } else { '=' });
        }
    }
    out
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u64, 0);
    for b in text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')) {
        if b == b'=' {
            break;
        }
        bits = (bits << 5 | BASE32.iter().position(|c| *c == b)? as u64) & 0xffff;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_goes_both_ways() {
        for s in ["", "a", "ab", "abc", "abcd", "abcde", "abcdef"] {
            assert_eq!(unbase32(&base32(s.as_bytes())).unwrap(), s.as_bytes());
        }
        assert_eq!(base32(b"foob"), "MZXW6YQ=");
    }
}

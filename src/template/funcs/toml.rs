//! TOML as BurntSushi's encoder for Go lays it out: plain keys before tables, each sorted, nested tables indented.

use minijinja::value::Value;
use toml::Value as Toml;

use super::super::bounds::MAX_PARSED;
use super::super::error::FnError;
use super::super::value::{
    Dict, List, MAX_VALUE_DEPTH, Map, as_bool, as_dict, as_float, as_int, as_list, int64, is_nil,
};
use super::{Builtin, func, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("toToml", "v", |_, a| {
        // Helm gives the message in place of the text.
        if is_nil(&a[0]) {
            return Err(super::core::no_type());
        }
        Ok(Value::from(encode(&a[0]).unwrap_or_else(|e| e.to_string())))
    }),
    func("mustToToml", "v", |_, a| Ok(Value::from(encode(&a[0])?))),
    func("fromToml", "s", |_, a| {
        let text = str_arg(a, 0)?;
        // Every value and table comes after one of these.
        let values = text.bytes().filter(|b| matches!(b, b',' | b'[' | b'=' | b'.' | b'{')).take(MAX_PARSED);
        if values.count() == MAX_PARSED {
            return Err(FnError::text(format!("toml: more than {MAX_PARSED} values")));
        }
        Ok(match text.parse::<toml::Table>() {
            Ok(table) => from_toml(&Toml::Table(table)),
            Err(e) => {
                Dict::value(Map::from([("Error".into(), Value::from(format!("toml: {}", e.message())))]))
            }
        })
    }),
];

fn from_toml(v: &Toml) -> Value {
    match v {
        Toml::String(s) => Value::from(s.as_str()),
        Toml::Integer(i) => int64(*i),
        Toml::Float(f) => Value::from(*f),
        Toml::Boolean(b) => Value::from(*b),
        Toml::Datetime(d) => super::dates::of_toml(*d),
        Toml::Array(items) => {
            let tables = !items.is_empty() && items.iter().all(Toml::is_table);
            let type_name = if tables { "[]map[string]interface {}" } else { "[]interface {}" };
            Value::from_object(List { type_name, items: items.iter().map(from_toml).collect() })
        }
        Toml::Table(t) => Dict::value(t.iter().map(|(k, v)| (k.as_str().into(), from_toml(v))).collect()),
    }
}

fn encode(v: &Value) -> Result<String, FnError> {
    let mut e = Encoder { out: String::new() };
    if is_nil(v) {
        return Err(FnError::text("toml: top-level value is nil"));
    }
    e.value(&mut Vec::new(), v)?;
    Ok(e.out)
}

struct Encoder {
    out: String,
}

/// A list that is written as `[[key]]` tables: not empty, and of maps only.
fn is_table_array(v: &Value) -> Result<bool, FnError> {
    let Some(l) = as_list(v).filter(|l| !l.items.is_empty()) else { return Ok(false) };
    if l.items.iter().any(is_nil) {
        return Err(FnError::text("toml: cannot encode array with nil element"));
    }
    Ok(l.items.iter().all(|v| as_dict(v).is_some()))
}

impl Encoder {
    /// A line break, except at the very start.
    fn newline(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn indent(&mut self, key: &[String]) {
        self.out.push_str(&"  ".repeat(key.len().saturating_sub(1)));
    }

    fn deep(key: &[String]) -> Result<(), FnError> {
        if key.len() > MAX_VALUE_DEPTH {
            return Err(FnError::text(format!("value is nested deeper than {MAX_VALUE_DEPTH} levels")));
        }
        Ok(())
    }

    fn value(&mut self, key: &mut Vec<String>, v: &Value) -> Result<(), FnError> {
        Self::deep(key)?;
        if let Some(d) = as_dict(v) {
            if key.len() == 1 {
                self.newline();
            }
            if !key.is_empty() {
                self.indent(key);
                self.out.push_str(&format!("[{}]", key.join(".")));
                self.newline();
            }
            return self.table(key, d);
        }
        if is_table_array(v)? {
            if key.is_empty() {
                return Err(FnError::text("toml: top-level values must be Go maps or structs"));
            }
            for item in as_list(v).map(|l| l.items.as_slice()).unwrap_or_default() {
                self.newline();
                self.indent(key);
                self.out.push_str(&format!("[[{}]]", key.join(".")));
                self.newline();
                if let Some(d) = as_dict(item) {
                    self.table(key, d)?;
                }
            }
            return Ok(());
        }
        let Some(name) = key.last() else { return self.element(v, 0) };
        let name = name.clone();
        self.indent(key);
        self.out.push_str(&name);
        self.out.push_str(" = ");
        self.element(v, 0)?;
        self.newline();
        Ok(())
    }

    /// The keys of a map, values first, then tables.
    fn sorted(d: &Dict) -> Result<Vec<(String, Value)>, FnError> {
        let (mut plain, mut tables) = (Vec::new(), Vec::new());
        for (k, v) in d.entries() {
            if is_nil(&v) {
                continue;
            }
            let table = as_dict(&v).is_some() || is_table_array(&v)?;
            if table { &mut tables } else { &mut plain }.push((bare(&k), v));
        }
        plain.append(&mut tables);
        Ok(plain)
    }

    fn table(&mut self, key: &mut Vec<String>, d: &Dict) -> Result<(), FnError> {
        for (k, v) in Self::sorted(d)? {
            key.push(k);
            self.value(key, &v)?;
            key.pop();
        }
        Ok(())
    }

    /// A value on one line.
    fn element(&mut self, v: &Value, depth: usize) -> Result<(), FnError> {
        if depth > MAX_VALUE_DEPTH {
            return Err(FnError::text(format!("value is nested deeper than {MAX_VALUE_DEPTH} levels")));
        }
        if let Some(s) = v.as_str() {
            self.out.push_str(&quoted(s));
        } else if let Some(b) = as_bool(v) {
            self.out.push_str(if b { "true" } else { "false" });
        } else if super::durations::as_span(v).is_some() {
            self.out.push_str(&quoted(&super::strval(v)));
        } else if let Some(i) = as_int(v) {
            self.out.push_str(&i.to_string());
        } else if let Some(f) = as_float(v) {
            self.out.push_str(&float(f));
        } else if let Some(l) = as_list(v) {
            is_table_array(v)?;
            self.out.push('[');
            for (i, item) in l.items.iter().enumerate() {
                self.out.push_str(if i > 0 { ", " } else { "" });
                self.element(item, depth + 1)?;
            }
            self.out.push(']');
        } else if let Some(d) = as_dict(v) {
            self.out.push('{');
            for (i, (k, item)) in Self::sorted(d)?.into_iter().enumerate() {
                self.out.push_str(if i > 0 { ", " } else { "" });
                self.out.push_str(&k);
                self.out.push_str(" = ");
                self.element(&item, depth + 1)?;
            }
            self.out.push('}');
        } else if let Some(time) = super::dates::to_toml(v) {
            self.out.push_str(&time);
        } else {
            self.out.push_str(&quoted(&super::strval(v)));
        }
        Ok(())
    }
}

fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf" } else { "-inf" }.into();
    }
    let text = crate::yaml::shortest_between(f, -4, 21);
    if text.contains(['.', 'e']) { text } else { text + ".0" }
}

fn bare(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(plain) { key.to_owned() } else { quoted(key) }
}

fn quoted(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

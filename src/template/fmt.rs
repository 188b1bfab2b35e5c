//! Go's `fmt`: how values print, and `printf`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use minijinja::value::{Value, ValueKind};
use regex::Regex;

use super::bounds::MAX_TEXT;
use super::bytes::{stray, to_bytes};
use super::value::{
    MAX_VALUE_DEPTH, Map, Record, as_bool, as_dict, as_files, as_float, as_int, as_list, is_nil, type_name,
};
use crate::yaml::shortest_float;

/// `%v` of a float: shortest form, exponent from 1e21 on when printed as part of a value, from 1e6 on for `%g`.
pub(crate) fn float(f: f64) -> String {
    if f.is_nan() {
        "NaN".into()
    } else if f.is_infinite() {
        if f > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        shortest_float(f)
    }
}

/// Appends `v` as Go's `%v` prints it; nil prints as `<nil>`.
pub(crate) fn print(out: &mut String, v: &Value) {
    print_at(out, v, 0);
}

/// A string; minijinja takes bytes for one too.
pub(crate) fn as_text(v: &Value) -> Option<&str> {
    v.as_str().filter(|_| v.kind() != ValueKind::Bytes)
}

fn print_map(out: &mut String, entries: &Map, depth: usize) {
    out.push_str("map[");
    for (i, (k, v)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(k);
        out.push(':');
        print_at(out, v, depth + 1);
    }
    out.push(']');
}

fn print_at(out: &mut String, v: &Value, depth: usize) {
    if depth > MAX_VALUE_DEPTH {
        out.push_str("...");
    } else if let Some(s) = as_text(v) {
        out.push_str(s);
    } else if is_nil(v) {
        out.push_str("<nil>");
    } else if let Some(i) = as_int(v) {
        match v.downcast_object_ref::<Record>().and_then(|r| r.text.as_deref()) {
            Some(name) => out.push_str(name),
            None => out.push_str(&i.to_string()),
        }
    } else if let Some(f) = as_float(v) {
        out.push_str(&float(f));
    } else if let Some(b) = as_bool(v) {
        out.push_str(if b { "true" } else { "false" });
    } else if let Some(d) = as_dict(v) {
        d.read(|entries| print_map(out, entries, depth));
    } else if let Some(files) = as_files(v) {
        print_map(out, files, depth);
    } else if let Some(l) = as_list(v) {
        out.push('[');
        for (i, v) in l.items.iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            print_at(out, v, depth + 1);
        }
        out.push(']');
    } else if let Some(r) = v.downcast_object_ref::<Record>() {
        match &r.text {
            Some(t) => out.push_str(t),
            None => {
                out.push('{');
                for (i, v) in r.fields.values().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    print_at(out, v, depth + 1);
                }
                out.push('}');
            }
        }
    } else if let Some(b) = v.as_bytes() {
        // A chart that prints its files prints megabytes of them so.
        out.push('[');
        for (i, byte) in b.iter().enumerate() {
            let _ = write!(out, "{}{byte}", if i > 0 { " " } else { "" });
        }
        out.push(']');
    } else {
        out.push_str(&v.to_string());
    }
}

/// `%v` as a string.
pub(crate) fn to_string(v: &Value) -> String {
    let mut out = String::new();
    print(&mut out, v);
    out
}

/// `strconv.Quote`.
pub(crate) fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if stray(c).is_some() => out.push_str(&format!("\\x{:02x}", c as u32 & 0xff)),
            c if printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the space.
pub(super) fn printable(c: char) -> bool {
    static PRINTABLE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").ok());
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    PRINTABLE.as_ref().is_some_and(|p| p.is_match(c.encode_utf8(&mut [0; 4])))
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `Sprintf`.
pub(crate) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars().peekable();
    let mut next = 0;
    let mut reordered = false;
    while let Some(c) = chars.next() {
        // The same argument can be printed again and again; who asked for this refuses it.
        if out.len() > MAX_TEXT {
            break;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(&c) = chars.peek() {
            match c {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if chars.peek() == Some(&'*') {
                chars.next();
                let n = args.get(next).and_then(as_int).and_then(|n| usize::try_from(n).ok());
                next += 1;
                return n.map(|n| n.min(1000));
            }
            let mut n = None;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = Some((n.unwrap_or(0usize) * 10 + d as usize).min(1000));
                chars.next();
            }
            n
        };
        if chars.peek() == Some(&'[') {
            chars.next();
            let text: String = chars.by_ref().take_while(|c| *c != ']').collect();
            next = text.parse::<usize>().map_or(usize::MAX, |n| n.wrapping_sub(1));
            reordered = true;
        } else {
            spec.width = digits(&mut chars);
            if chars.peek() == Some(&'.') {
                chars.next();
                spec.precision = Some(digits(&mut chars).unwrap_or(0));
            }
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.get(next) {
            None if next == usize::MAX => out.push_str(&format!("%!{verb}(BADINDEX)")),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
            Some(v) => {
                next += 1;
                one(&mut out, &spec, verb, v, 0);
            }
        }
    }
    if !reordered && next < args.len() {
        out.push_str("%!(EXTRA ");
        for (i, v) in args[next..].iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            out.push_str(type_name(v));
            if !is_nil(v) {
                out.push('=');
                print(&mut out, v);
            }
        }
        out.push(')');
    }
    out
}

fn one(out: &mut String, spec: &Spec, verb: char, v: &Value, depth: usize) {
    match verb {
        'T' => return pad(out, spec, type_name(v)),
        // Within a map or a list, Go prints a nil interface the same whatever the verb.
        _ if is_nil(v) && (verb == 'v' || depth > 0) => return pad(out, spec, "<nil>"),
        'v' if spec.sharp => return pad(out, spec, &go_syntax(v, depth)),
        'p' => return pad(out, spec, "%!p(unsupported)"),
        _ => {}
    }
    if is_nil(v) {
        return out.push_str(&format!("%!{verb}(<nil>)"));
    }
    if let Some(b) = as_bool(v) {
        return match verb {
            't' | 'v' => pad(out, spec, if b { "true" } else { "false" }),
            _ => bad(out, verb, v),
        };
    }
    let named = v.downcast_object_ref::<Record>().is_some_and(|r| r.text.is_some());
    if let Some(i) = as_int(v).filter(|_| !named || !matches!(verb, 's' | 'v' | 'q')) {
        return integer(out, spec, verb, i, v);
    }
    if let Some(f) = as_float(v) {
        return floating(out, spec, verb, f, v);
    }
    let text = as_text(v).map(str::to_owned).or_else(|| {
        let r = v.downcast_object_ref::<Record>()?;
        r.text.clone()
    });
    let text = text.or_else(|| {
        let b = v.as_bytes().filter(|_| verb != 'v' && verb != 'd')?;
        Some(super::bytes::from_bytes(b))
    });
    if let Some(s) = text {
        let cut: String = match spec.precision {
            Some(n) if matches!(verb, 's' | 'v' | 'q') => s.chars().take(n).collect(),
            _ => s,
        };
        return match verb {
            's' | 'v' => pad(out, spec, &cut),
            'q' if spec.sharp && !cut.contains('`') && !cut.chars().any(char::is_control) => {
                pad(out, spec, &format!("`{cut}`"));
            }
            'q' => pad(out, spec, &quote(&cut)),
            'x' => pad(out, spec, &to_bytes(&cut).iter().map(|b| format!("{b:02x}")).collect::<String>()),
            'X' => pad(out, spec, &to_bytes(&cut).iter().map(|b| format!("{b:02X}")).collect::<String>()),
            _ => bad(out, verb, v),
        };
    }
    if depth > MAX_VALUE_DEPTH {
        return out.push_str("...");
    }
    if let Some(l) = as_list(v) {
        out.push('[');
        for (i, v) in l.items.iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            one(out, spec, verb, v, depth + 1);
        }
        return out.push(']');
    }
    if let Some(d) = as_dict(v) {
        out.push_str("map[");
        for (i, (k, v)) in d.entries().iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            one(out, spec, verb, &Value::from(k.clone()), depth + 1);
            out.push(':');
            one(out, spec, verb, v, depth + 1);
        }
        return out.push(']');
    }
    pad(out, spec, &to_string(v));
}

fn bad(out: &mut String, verb: char, v: &Value) {
    out.push_str(&format!("%!{verb}({}={})", type_name(v), to_string(v)));
}

fn pad(out: &mut String, spec: &Spec, s: &str) {
    let fill = spec.width.unwrap_or(0).saturating_sub(s.chars().count());
    if spec.minus {
        out.push_str(s);
        out.extend(std::iter::repeat_n(' ', fill));
    } else {
        out.extend(std::iter::repeat_n(if spec.zero { '0' } else { ' ' }, fill));
        out.push_str(s);
    }
}

/// Pads a number: zeroes go between the sign and the digits.
fn pad_number(out: &mut String, spec: &Spec, negative: bool, digits: &str) {
    let sign = if negative {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    let fill = spec.width.unwrap_or(0).saturating_sub(digits.len() + sign.len());
    if spec.zero && !spec.minus {
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', fill));
        out.push_str(digits);
    } else {
        let plain = Spec { minus: spec.minus, width: spec.width, ..Spec::default() };
        pad(out, &plain, &format!("{sign}{digits}"));
    }
}

fn integer(out: &mut String, spec: &Spec, verb: char, i: i64, v: &Value) {
    let n = i.unsigned_abs();
    let mut digits = match verb {
        'd' | 'v' => n.to_string(),
        'b' => format!("{n:b}"),
        'o' => format!("{n:o}"),
        'O' => format!("0o{n:o}"),
        'x' => format!("{}{n:x}", if spec.sharp { "0x" } else { "" }),
        'X' => format!("{}{n:X}", if spec.sharp { "0X" } else { "" }),
        'c' => u32::try_from(i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        'q' => {
            let c = u32::try_from(i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            return pad(out, spec, &format!("'{}'", quote(&c.to_string()).trim_matches('"')));
        }
        'U' => format!("U+{n:04X}"),
        _ => return bad(out, verb, v),
    };
    if let Some(p) = spec.precision {
        digits = format!("{}{digits}", "0".repeat(p.saturating_sub(digits.len())));
    }
    pad_number(out, spec, i < 0, &digits);
}

fn floating(out: &mut String, spec: &Spec, verb: char, f: f64, v: &Value) {
    if !f.is_finite() {
        return pad(
            out,
            &Spec { zero: false, ..Spec { minus: spec.minus, width: spec.width, ..Spec::default() } },
            &float(f),
        );
    }
    let a = f.abs();
    let digits = match verb {
        'f' | 'F' => format!("{a:.*}", spec.precision.unwrap_or(6)),
        'e' | 'E' => exponent(&format!("{a:.*e}", spec.precision.unwrap_or(6))),
        'v' | 'g' | 'G' => match spec.precision {
            None => float(a),
            Some(p) => general(a, p.max(1)),
        },
        _ => return bad(out, verb, v),
    };
    let digits = if verb.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
    pad_number(out, spec, f.is_sign_negative(), &digits);
}

/// Rust's `1e-5` as Go's `1e-05`.
fn exponent(s: &str) -> String {
    let Some((m, e)) = s.split_once('e') else { return s.to_owned() };
    let (sign, e) = e.strip_prefix('-').map_or(('+', e), |e| ('-', e));
    format!("{m}e{sign}{e:0>2}")
}

fn general(a: f64, p: usize) -> String {
    let sci = format!("{a:.*e}", p - 1);
    let exp: i64 = sci.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trim = |s: &str| {
        if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.').to_owned() } else { s.to_owned() }
    };
    if exp < -4 || exp >= i64::try_from(p).unwrap_or(i64::MAX) {
        let (m, e) = sci.split_once('e').unwrap_or((&sci, "0"));
        return exponent(&format!("{}e{e}", trim(m)));
    }
    let decimals = usize::try_from(i64::try_from(p).unwrap_or(0) - 1 - exp).unwrap_or(0);
    trim(&format!("{a:.decimals$}"))
}

/// `%#v`.
fn go_syntax(v: &Value, depth: usize) -> String {
    if depth > MAX_VALUE_DEPTH {
        return "...".into();
    }
    if let Some(l) = as_list(v) {
        let items: Vec<String> = l.items.iter().map(|v| go_syntax(v, depth + 1)).collect();
        return format!("{}{{{}}}", l.type_name, items.join(", "));
    }
    if let Some(d) = as_dict(v) {
        let items: Vec<String> =
            d.entries().iter().map(|(k, v)| format!("{}:{}", quote(k), go_syntax(v, depth + 1))).collect();
        return format!("{}{{{}}}", type_name(v), items.join(", "));
    }
    match v.kind() {
        ValueKind::String => quote(v.as_str().unwrap_or_default()),
        ValueKind::None | ValueKind::Undefined => "interface {}(nil)".into(),
        _ => to_string(v),
    }
}

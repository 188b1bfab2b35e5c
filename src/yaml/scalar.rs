//! What a scalar means, after go-yaml v2's `resolve.go`, the resolver behind `sigs.k8s.io/yaml`.

use super::Value;

/// The value of an untagged plain scalar.
///
/// Differs from YAML 1.2 where go-yaml v2 does: `yes`/`on`/`y` are true, `0777` is octal, underscores are allowed in
/// integers, and a sexagesimal number (`12:30:45`) is a string.
pub fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' if is_float(text) => text.parse().ok().filter(|f: &f64| f.is_finite()).map(Value::Float),
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => None,
    }
    .unwrap_or_else(|| Value::Str(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    let plain = if text.contains('_') { text.replace('_', "") } else { text.to_owned() };
    integer(&plain).or_else(|| {
        is_float(&plain)
            .then(|| plain.parse().ok().filter(|f: &f64| f.is_finite()).map(Value::Float))
            .flatten()
    })
}

/// An integer as Go's `strconv.ParseInt(s, 0, 64)` reads it once underscores are gone.
pub(crate) fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1i128, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = sign * i128::from(u64::from_str_radix(digits, radix).ok()?);
    match i64::try_from(value) {
        Ok(v) => Some(Value::Int(v)),
        // ParseUint takes no sign, not even a plus.
        Err(_) if !text.starts_with(['-', '+']) => u64::try_from(value).ok().map(Value::UInt),
        Err(_) => None,
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
pub(crate) fn is_float(text: &str) -> bool {
    let digits = |b: &[u8], mut i: usize| {
        let start = i;
        while i < b.len() && b[i].is_ascii_digit() {
            i += 1;
        }
        (i, i > start)
    };
    let b = text.as_bytes();
    let start = usize::from(matches!(b.first(), Some(b'+' | b'-')));
    let (mut i, whole) = digits(b, start);
    if b.get(i) == Some(&b'.') {
        let (end, fraction) = digits(b, i + 1);
        if !whole && !fraction {
            return false;
        }
        i = end;
    } else if !whole {
        return false;
    }
    if matches!(b.get(i), Some(b'e' | b'E')) {
        i += 1 + usize::from(matches!(b.get(i + 1), Some(b'+' | b'-')));
        let (end, exponent) = digits(b, i);
        if !exponent {
            return false;
        }
        i = end;
    }
    i == b.len()
}

/// A float as Go's `strconv.FormatFloat(f, 'g', -1, 64)` writes it, with YAML's names for what is not finite.
///
/// The exponent form starts below 1e-4 and from 1e6 on, so that a million is `1e+06`.
pub fn format_float(f: f64) -> String {
    if f.is_nan() {
        return ".nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { ".inf".into() } else { "-.inf".into() };
    }
    shortest_float(f)
}

/// Go's `%g` without a precision: a million is `1e+06`. For finite numbers.
pub(crate) fn shortest_float(f: f64) -> String {
    shortest(f, -4, 6)
}

/// The shortest decimal that reads back as `f`; the exponent form is used below `10^low` and from `10^high` on.
pub(crate) fn shortest(f: f64, low: i32, high: i32) -> String {
    let sci = format!("{f:e}");
    let (mantissa, exponent) = sci.split_once('e').unwrap_or((&sci, "0"));
    let exp: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && (exp < low || exp >= high) {
        let sign = if exp < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exp.abs());
    }
    format!("{f}")
}

/// The value of a scalar with an explicit tag, or why the two do not fit.
pub(crate) fn resolve_tagged(tag: &str, text: &str) -> Result<Value, String> {
    let short = tag.strip_prefix("tag:yaml.org,2002:");
    let fit = match (short, resolve_plain(text)) {
        (Some("str"), _) => Some(Value::Str(text.to_owned())),
        (Some("null"), Value::Null) => Some(Value::Null),
        (Some("bool"), v @ Value::Bool(_)) => Some(v),
        (Some("int"), v @ (Value::Int(_) | Value::UInt(_))) => Some(v),
        (Some("float"), v @ Value::Float(_)) => Some(v),
        #[allow(clippy::cast_precision_loss)]
        (Some("float"), Value::Int(i)) => Some(Value::Float(i as f64)),
        (Some("null" | "bool" | "int" | "float"), _) => None,
        (Some("binary"), _) => decode_base64(text).map(Value::Str),
        // Timestamps and tags of one's own are kept as text, as go-yaml does for an untyped target.
        _ => Some(Value::Str(text.to_owned())),
    };
    fit.ok_or_else(|| {
        // go-yaml's words.
        format!("cannot decode !!str `{text}` as a {}", short.map_or(tag.to_owned(), |s| format!("!!{s}")))
    })
}

fn decode_base64(text: &str) -> Option<String> {
    use base64::Engine;
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether YAML 1.1 would read `s` as a number in base 60: `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`.
pub(crate) fn is_base60(s: &str) -> bool {
    let s = s.strip_prefix(['+', '-']).unwrap_or(s);
    let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && !rest.is_empty()
        && rest.iter().all(|p| match p.as_bytes() {
            [d] => d.is_ascii_digit(),
            [b'0'..=b'5', d] => d.is_ascii_digit(),
            _ => false,
        })
        && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

/// Whether go-yaml would read `s` as a time: a date, or a date and a time of day with or without a zone.
pub(crate) fn is_timestamp(s: &str) -> bool {
    let b = s.as_bytes();
    if b.len() < 8 || !b[..4].iter().all(u8::is_ascii_digit) || b[4] != b'-' {
        return false;
    }
    // One or two digits within bounds; what follows them.
    fn two(s: &str, low: u32, high: u32) -> Option<&str> {
        let n = s.bytes().take(2).take_while(u8::is_ascii_digit).count();
        let v: u32 = s.get(..n)?.parse().ok()?;
        (low..=high).contains(&v).then(|| &s[n..])
    }
    fn date(s: &str) -> Option<(&str, u32, u32)> {
        let rest = two(s, 1, 12)?;
        let month = s[..s.len() - rest.len()].parse().ok()?;
        let day_text = rest.strip_prefix('-')?;
        let rest = two(day_text, 1, 31)?;
        Some((rest, month, day_text[..day_text.len() - rest.len()].parse().ok()?))
    }
    fn clock(s: &str) -> Option<&str> {
        let rest = two(s, 0, 23)?.strip_prefix(':')?;
        let rest = two(rest, 0, 59)?.strip_prefix(':')?;
        let rest = two(rest, 0, 59)?;
        Some(match rest.strip_prefix('.') {
            Some(f) if f.starts_with(|c: char| c.is_ascii_digit()) => {
                f.trim_start_matches(|c: char| c.is_ascii_digit())
            }
            _ => rest,
        })
    }
    fn zone(s: &str) -> bool {
        let b = s.as_bytes();
        s == "Z"
            || (b.len() == 6
                && matches!(b[0], b'+' | b'-')
                && b[3] == b':'
                && [1, 2, 4, 5].iter().all(|i| b[*i].is_ascii_digit()))
    }
    let Some((rest, month, day)) = date(&s[5..]) else { return false };
    let year: u32 = s[..4].parse().unwrap_or(0);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 31,
    };
    if day > days {
        return false;
    }
    match rest.chars().next() {
        None => true,
        Some('T' | 't') => clock(&rest[1..]).is_some_and(zone),
        Some(' ') => clock(&rest[1..]) == Some(""),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_resolve_as_go_yaml_v2_does() {
        let cases = [
            ("yes", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("~", Value::Null),
            ("0777", Value::Int(511)),
            ("0o17", Value::Int(15)),
            ("0x1F", Value::Int(31)),
            ("1_000", Value::Int(1000)),
            ("08", Value::Float(8.0)),
            ("-12", Value::Int(-12)),
            ("+5", Value::Int(5)),
            ("18446744073709551615", Value::UInt(u64::MAX)),
            ("1e3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("1.", Value::Float(1.0)),
            ("12:30", Value::Str("12:30".into())),
            ("2001-01-02", Value::Str("2001-01-02".into())),
            ("1.2.3", Value::Str("1.2.3".into())),
            ("0x", Value::Str("0x".into())),
            ("-", Value::Str("-".into())),
            ("infinity", Value::Str("infinity".into())),
            ("1e400", Value::Str("1e400".into())),
        ];
        for (text, want) in cases {
            assert_eq!(resolve_plain(text), want, "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (f, want) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (123456.5, "123456.5"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (1e-5, "1e-05"),
        ] {
            assert_eq!(format_float(f), want);
        }
    }

    #[test]
    fn tags_are_honoured_or_refused() {
        assert_eq!(resolve_tagged("tag:yaml.org,2002:str", "1"), Ok(Value::Str("1".into())));
        assert_eq!(resolve_tagged("tag:yaml.org,2002:binary", "aGk="), Ok(Value::Str("hi".into())));
        assert!(resolve_tagged("tag:yaml.org,2002:int", "x").is_err());
    }
}

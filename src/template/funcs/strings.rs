//! Sprig's string functions.

use std::sync::Arc;

use minijinja::value::Value;

use super::super::error::FnError;
use super::super::fmt::{quote, to_string};
use super::super::runtime::Cx;
use super::super::value::{Dict, List, is_nil};
use super::{Builtin, Outcome, func, int_arg, str_arg, strval};

fn text(s: impl Into<String>) -> Outcome {
    Ok(Value::from(s.into()))
}

pub(super) const TABLE: &[Builtin] = &[
    func("quote", "v*", |_, a| text(join(a.iter().filter(|v| !is_nil(v)).map(|v| quote(&strval(v)))))),
    func("squote", "v*", |_, a| {
        text(join(a.iter().filter(|v| !is_nil(v)).map(|v| format!("'{}'", to_string(v)))))
    }),
    func("cat", "v*", |_, a| text(join(a.iter().filter(|v| !is_nil(v)).map(to_string)))),
    func("trim", "s", |_, a| text(str_arg(a, 0)?.trim())),
    func("trimAll", "ss", trim_all),
    func("trimall", "ss", trim_all),
    func("trimSuffix", "ss", |_, a| {
        let (cut, s) = (str_arg(a, 0)?, str_arg(a, 1)?);
        text(s.strip_suffix(cut).unwrap_or(s))
    }),
    func("trimPrefix", "ss", |_, a| {
        let (cut, s) = (str_arg(a, 0)?, str_arg(a, 1)?);
        text(s.strip_prefix(cut).unwrap_or(s))
    }),
    func("upper", "s", |_, a| text(str_arg(a, 0)?.to_uppercase())),
    func("lower", "s", |_, a| text(str_arg(a, 0)?.to_lowercase())),
    func("title", "s", |_, a| text(words(str_arg(a, 0)?, |c| c.to_uppercase().to_string()))),
    func("untitle", "s", |_, a| text(words(str_arg(a, 0)?, |c| c.to_lowercase().to_string()))),
    func("swapcase", "s", |_, a| {
        let given = str_arg(a, 0)?;
        let mut out = String::with_capacity(given.len());
        for c in given.chars() {
            if c.is_uppercase() { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
        }
        text(out)
    }),
    func("nospace", "s", |_, a| {
        text(str_arg(a, 0)?.chars().filter(|c| !c.is_whitespace()).collect::<String>())
    }),
    func("initials", "s", |_, a| {
        text(str_arg(a, 0)?.split_whitespace().filter_map(|w| w.chars().next()).collect::<String>())
    }),
    func("trunc", "is", trunc),
    func("substr", "iis", substr),
    func("repeat", "is", |cx, a| {
        let s = str_arg(a, 1)?;
        let n =
            usize::try_from(int_arg(a, 0)?).map_err(|_| FnError::text("strings: negative Repeat count"))?;
        cx.expect(s.len().saturating_mul(n))?;
        text(s.repeat(n))
    }),
    func("replace", "sss", |cx, a| {
        let (from, to, s) = (str_arg(a, 0)?, str_arg(a, 1)?, str_arg(a, 2)?);
        if to.len() > from.len() {
            cx.expect(s.matches(from).count().saturating_mul(to.len() - from.len()).saturating_add(s.len()))?;
        }
        text(s.replace(from, to))
    }),
    func("contains", "ss", |_, a| Ok(Value::from(str_arg(a, 1)?.contains(str_arg(a, 0)?)))),
    func("hasPrefix", "ss", |_, a| Ok(Value::from(str_arg(a, 1)?.starts_with(str_arg(a, 0)?)))),
    func("hasSuffix", "ss", |_, a| Ok(Value::from(str_arg(a, 1)?.ends_with(str_arg(a, 0)?)))),
    func("indent", "is", |cx, a| text(indent(cx, a, "")?)),
    func("nindent", "is", |cx, a| text(indent(cx, a, "\n")?)),
    func("plural", "ssi", |_, a| Ok(a[usize::from(int_arg(a, 2)? != 1)].clone())),
    func("split", "ss", |cx, a| Ok(numbered(go_split(cx, str_arg(a, 1)?, str_arg(a, 0)?, usize::MAX)?))),
    func("splitn", "sis", |cx, a| {
        let n = usize::try_from(int_arg(a, 1)?).unwrap_or(usize::MAX);
        Ok(numbered(go_split(cx, str_arg(a, 2)?, str_arg(a, 0)?, n)?))
    }),
    func("splitList", "ss", |cx, a| {
        Ok(List::strings(go_split(cx, str_arg(a, 1)?, str_arg(a, 0)?, usize::MAX)?))
    }),
    func("snakecase", "s", |cx, a| text(parts(cx, str_arg(a, 0)?)?.join("_").to_lowercase())),
    func("kebabcase", "s", |cx, a| text(parts(cx, str_arg(a, 0)?)?.join("-").to_lowercase())),
    func("camelcase", "s", |_, a| text(pascal(str_arg(a, 0)?))),
    func("abbrev", "is", |_, a| text(abbreviate(0, int_arg(a, 0)?, str_arg(a, 1)?))),
    func("abbrevboth", "iis", |_, a| {
        let (left, right, s) = (int_arg(a, 0)?, int_arg(a, 1)?, str_arg(a, 2)?);
        text(if left > 0 && right < 7 { s.to_owned() } else { abbreviate(left, right, s) })
    }),
    func("wrap", "is", |cx, a| text(wrap(cx, str_arg(a, 1)?, int_arg(a, 0)?, "\n", false)?)),
    func("wrapWith", "iss", |cx, a| text(wrap(cx, str_arg(a, 2)?, int_arg(a, 0)?, str_arg(a, 1)?, true)?)),
    func("shuffle", "s", |cx, a| {
        cx.expect_values(str_arg(a, 0)?.len() * 4)?;
        let mut chars: Vec<char> = str_arg(a, 0)?.chars().collect();
        // The system is asked for many numbers at once, not for each.
        let mut bytes = vec![0; chars.len().min(1024) * 8];
        for (n, i) in (1..chars.len()).rev().enumerate() {
            let at = n % (bytes.len() / 8);
            if at == 0 {
                cx.random(&mut bytes)?;
            }
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            let j = usize::try_from(u64::from_le_bytes(number) % (i as u64 + 1)).unwrap_or(0);
            chars.swap(i, j);
        }
        text(chars.into_iter().collect::<String>())
    }),
];

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

fn trim_all(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let (set, s) = (str_arg(a, 0)?, str_arg(a, 1)?);
    cx.steps(set.len().saturating_mul(s.len()) / 64)?;
    let set: Vec<char> = set.chars().collect();
    text(s.trim_matches(set.as_slice()))
}

/// `strings.Title` with another case for the first letters.
fn words(s: &str, first: fn(char) -> String) -> String {
    let mut out = String::with_capacity(s.len());
    let mut before = ' ';
    for c in s.chars() {
        let starts =
            !(before.is_alphanumeric() || before == '_') && (before.is_whitespace() || before.is_ascii());
        if starts {
            out.push_str(&first(c));
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

/// The largest cut at or below `i` that does not split a character, which Go would do and we cannot.
fn floor(s: &str, mut i: usize) -> usize {
    while !s.is_char_boundary(i) {
        i -= 1;
    }
    i
}

fn trunc(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let (n, s) = (int_arg(a, 0)?, str_arg(a, 1)?);
    let size = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    if size >= s.len() && !(n >= 0 && size == s.len()) {
        return text(s);
    }
    text(if n < 0 { &s[floor(s, s.len() - size)..] } else { &s[..floor(s, size)] })
}

/// Goutils' `AbbreviateFull`: at most `width` bytes of `s`, with dots for what is left out on the right, and on the left
/// too if what is wanted starts well within.
fn abbreviate(offset: i64, width: i64, s: &str) -> String {
    let Ok(width) = usize::try_from(width) else { return s.to_owned() };
    if width < 4 || s.len() <= width {
        return s.to_owned();
    }
    let room = width - 3;
    let offset = usize::try_from(offset).unwrap_or(0).min(s.len()).min(s.len() - room);
    if offset <= 4 {
        return format!("{}...", &s[..floor(s, room)]);
    }
    if width < 7 {
        return String::new();
    }
    let tail = &s[floor(s, offset)..];
    if offset + room < s.len() {
        return format!("...{}", abbreviate(0, i64::try_from(room).unwrap_or(0), tail));
    }
    format!("...{}", &s[floor(s, s.len() - room)..])
}

fn substr(_: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let (start, end, s) = (int_arg(a, 0)?, int_arg(a, 1)?, str_arg(a, 2)?);
    let start_at = usize::try_from(start).unwrap_or(0);
    let end_at = match usize::try_from(end) {
        Ok(e) if e <= s.len() => e,
        _ if start < 0 => {
            let reason = format!("runtime error: slice bounds out of range [:{end}] with length {}", s.len());
            return Err(FnError::Text(reason));
        }
        _ => s.len(),
    };
    match s.get(floor(s, start_at.min(s.len()))..floor(s, end_at)) {
        Some(part) if start_at <= s.len() => text(part),
        _ => Err(FnError::Text(format!("runtime error: slice bounds out of range [{start_at}:{end_at}]"))),
    }
}

fn indent(cx: &Cx<'_>, a: &[Value], lead: &str) -> Result<String, FnError> {
    let s = str_arg(a, 1)?;
    let n = usize::try_from(int_arg(a, 0)?).map_err(|_| FnError::text("strings: negative Repeat count"))?;
    let lines = s.bytes().filter(|b| *b == b'\n').count() + 1;
    cx.expect(n.saturating_mul(lines).saturating_add(s.len()))?;
    let pad = " ".repeat(n);
    let mut out = String::with_capacity(s.len() + lines * n + 1);
    out.push_str(lead);
    for (i, line) in s.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(&pad);
        out.push_str(line);
    }
    Ok(out)
}

/// `strings.SplitN`: an empty separator splits into characters, as many parts as `n` at most.
fn go_split(cx: &Cx<'_>, s: &str, sep: &str, n: usize) -> Result<Vec<String>, FnError> {
    if n == 0 {
        return Ok(Vec::new());
    }
    cx.expect_parts(s.matches(sep).count().min(n))?;
    if sep.is_empty() {
        let mut out: Vec<String> = s.chars().map(String::from).collect();
        if out.len() > n {
            let tail = out.split_off(n - 1).concat();
            out.push(tail);
        }
        return Ok(out);
    }
    Ok(s.splitn(n, sep).map(str::to_owned).collect())
}

fn numbered(parts: Vec<String>) -> Value {
    let entries = parts.into_iter().enumerate().map(|(i, p)| (Arc::from(format!("_{i}")), Value::from(p)));
    Dict::typed("map[string]string", entries.collect())
}

/// The words of an identifier, after `xstrings.ToSnakeCase`: cut at separators, before a capital that starts a word,
/// and before digits that lead into small letters.
fn parts(cx: &Cx<'_>, s: &str) -> Result<Vec<String>, FnError> {
    cx.expect_values(s.len() * 48)?;
    let mut out: Vec<String> = Vec::new();
    for run in s.split(|c: char| c.is_whitespace() || c == '_' || c == '-') {
        let c: Vec<char> = run.chars().collect();
        let mut word = String::new();
        let mut digits = false;
        for i in 0..c.len() {
            let next = c.get(i + 1).copied().unwrap_or(' ');
            let cut = i > 0
                && if c[i].is_uppercase() {
                    !c[i - 1].is_uppercase() || next.is_lowercase()
                } else if c[i].is_ascii_digit() && !c[i - 1].is_ascii_digit() {
                    let after = c[i..].iter().find(|c| !c.is_ascii_digit());
                    after.is_some_and(|c| c.is_lowercase()) && !digits
                } else {
                    false
                };
            if cut && !word.is_empty() {
                out.push(std::mem::take(&mut word));
                digits = false;
            }
            digits |= c[i].is_ascii_digit();
            word.push(c[i]);
        }
        out.push(word);
    }
    Ok(out)
}

/// `xstrings.ToPascalCase`: words at separators, each starting with a capital; the capitals that follow the first
/// letter of a word are made small up to its first other letter. Of several separators one falls away.
fn pascal(s: &str) -> String {
    let connects = |c: char| c.is_whitespace() || c == '_' || c == '-';
    let word = s.trim_start_matches(connects);
    let mut out = s[..s.len() - word.len()].to_owned();
    let (mut start, mut shouting) = (true, false);
    let mut before: Option<char> = None;
    for c in word.chars() {
        if connects(c) {
            out.extend(before.replace(c));
            start = true;
            continue;
        }
        before = None;
        if start {
            out.extend(c.to_uppercase());
            (start, shouting) = (false, c.is_uppercase());
        } else if shouting && c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            shouting = false;
            out.push(c);
        }
    }
    out.extend(before);
    out
}

/// Goutils' `WrapCustom`: lines of at most `width` characters, cut at spaces.
fn wrap(cx: &Cx<'_>, s: &str, width: i64, newline: &str, cut_long: bool) -> Result<String, FnError> {
    let width = usize::try_from(width).unwrap_or(1).max(1);
    let newline = if newline.is_empty() { "\n" } else { newline };
    // Words that are longer than a line are looked at from their ends.
    cx.expect((s.len() / width).saturating_mul(newline.len()).saturating_add(s.len()))?;
    cx.expect_values(s.len() * 4)?;
    let chars: Vec<char> = s.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while chars.len() - at > width {
        if chars[at] == ' ' {
            at += 1;
            continue;
        }
        let last = (at..=at + width).rev().find(|i| chars[*i] == ' ');
        match last {
            Some(space) if space >= at => {
                out.extend(&chars[at..space]);
                at = space + 1;
            }
            _ if cut_long => {
                out.extend(&chars[at..at + width]);
                at += width;
            }
            _ => match (at + width..chars.len()).find(|i| chars[*i] == ' ') {
                Some(space) => {
                    out.extend(&chars[at..space]);
                    at = space + 1;
                }
                None => break,
            },
        }
        out.push_str(newline);
    }
    out.extend(&chars[at..]);
    Ok(out)
}

//! Sprig's regular expressions.

use minijinja::value::Value;

use super::super::bounds::Pattern;
use super::super::error::FnError;
use super::super::fmt::quote;
use super::super::runtime::Cx;
use super::super::value::List;
use super::{Builtin, Outcome, func, int_arg, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("regexMatch", "ss", matches),
    func("mustRegexMatch", "ss", must_match),
    func("regexFind", "ss", find),
    func("mustRegexFind", "ss", find),
    func("regexFindAll", "ssi", find_all),
    func("mustRegexFindAll", "ssi", find_all),
    func("regexReplaceAll", "sss", replace_all),
    func("mustRegexReplaceAll", "sss", replace_all),
    func("regexReplaceAllLiteral", "sss", replace_literal),
    func("mustRegexReplaceAllLiteral", "sss", replace_literal),
    func("regexSplit", "ssi", split),
    func("mustRegexSplit", "ssi", split),
    func("regexQuoteMeta", "s", |_, a| {
        let mut out = String::new();
        for c in str_arg(a, 0)?.chars() {
            if "\\.+*?()|[]{}^$".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
        Ok(Value::from(out))
    }),
];

fn compile(cx: &Cx<'_>, pattern: &str, text: &str) -> Result<Pattern, FnError> {
    let found = cx.regex(pattern)?.map_err(|e| {
        let text = format!("error parsing regexp: {e}");
        if cx.command().starts_with("must") || cx.site.node.starts_with("must") {
            return FnError::Text(text);
        }
        let shown = if pattern.contains('`') { quote(pattern) } else { format!("`{pattern}`") };
        FnError::Text(format!("regexp: Compile({shown}): {text}"))
    })?;
    cx.search(&found, text)?;
    Ok(found)
}

fn matches(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    // Sprig drops the error and takes the pattern for one that matches nothing.
    let (pattern, text) = (cx.regex(str_arg(a, 0)?)?.ok(), str_arg(a, 1)?);
    let Some(pattern) = pattern else { return Ok(Value::from(false)) };
    cx.search(&pattern, text)?;
    Ok(Value::from(pattern.regex.is_match(text)))
}

fn must_match(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let text = str_arg(a, 1)?;
    Ok(Value::from(compile(cx, str_arg(a, 0)?, text)?.regex.is_match(text)))
}

fn find(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let text = str_arg(a, 1)?;
    let found = compile(cx, str_arg(a, 0)?, text)?.regex.find(text).map_or("", |m| m.as_str());
    Ok(Value::from(found))
}

fn limit(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn find_all(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let text = str_arg(a, 1)?;
    let pattern = compile(cx, str_arg(a, 0)?, text)?;
    let mut found = Vec::new();
    for m in pattern.regex.find_iter(text).take(limit(int_arg(a, 2)?)) {
        cx.matched(&pattern, text.len() - m.start())?;
        found.push(Value::from(m.as_str()));
    }
    Ok(List::strings(found))
}

fn replace_all(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let (text, by) = (str_arg(a, 1)?, str_arg(a, 2)?);
    let groups = by.matches('$').count();
    if groups == 0 {
        return replace_literal(cx, a);
    }
    let pattern = compile(cx, str_arg(a, 0)?, text)?;
    let (mut out, mut at) = (String::new(), 0);
    for found in pattern.regex.captures_iter(text) {
        let Some(m) = found.get(0) else { continue };
        cx.matched(&pattern, text.len() - m.start())?;
        out.push_str(&text[at..m.start()]);
        at = m.end();
        may_grow(cx, out.len(), groups.saturating_mul(m.len()).saturating_add(by.len()))?;
        found.expand(by, &mut out);
    }
    out.push_str(&text[at..]);
    Ok(Value::from(out))
}

fn replace_literal(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let (text, by) = (str_arg(a, 1)?, str_arg(a, 2)?);
    let pattern = compile(cx, str_arg(a, 0)?, text)?;
    let (mut out, mut at) = (String::new(), 0);
    for m in pattern.regex.find_iter(text) {
        cx.matched(&pattern, text.len() - m.start())?;
        out.push_str(&text[at..m.start()]);
        at = m.end();
        may_grow(cx, out.len(), by.len())?;
        out.push_str(by);
    }
    out.push_str(&text[at..]);
    Ok(Value::from(out))
}

/// Refuses what becomes too long by a replacement; short texts are looked at once they are whole.
fn may_grow(cx: &Cx<'_>, len: usize, more: usize) -> Result<(), FnError> {
    if len.saturating_add(more) < 1 << 16 { Ok(()) } else { cx.expect(len.saturating_add(more)) }
}

fn split(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let (s, n) = (str_arg(a, 1)?, int_arg(a, 2)?);
    let pattern = compile(cx, str_arg(a, 0)?, s)?;
    if n == 0 {
        return Ok(List::strings(Vec::<String>::new()));
    }
    // Go's Split leaves out an empty match at the start and stops when it reaches the limit.
    let mut out = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for m in pattern.regex.find_iter(s) {
        cx.matched(&pattern, s.len() - m.start())?;
        if out.len() + 1 >= limit(n) {
            break;
        }
        end = m.start();
        if m.end() != 0 {
            out.push(&s[begin..end]);
        }
        begin = m.end();
    }
    if end != s.len() {
        out.push(&s[begin..]);
    }
    Ok(List::strings(out))
}

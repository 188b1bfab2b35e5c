//! Sprig's regular expressions.

use minijinja::value::Value;
use regex::Regex;

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

fn compile(cx: &Cx<'_>, pattern: &str) -> Result<Regex, FnError> {
    cx.rt.regex(pattern).map_err(|e| {
        let text = format!("error parsing regexp: {e}");
        if cx.command().starts_with("must") || cx.site.node.starts_with("must") {
            return FnError::Text(text);
        }
        let shown = if pattern.contains('`') { quote(pattern) } else { format!("`{pattern}`") };
        FnError::Text(format!("regexp: Compile({shown}): {text}"))
    })
}

fn matches(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    // Sprig drops the error and takes the pattern for one that matches nothing.
    let re = cx.rt.regex(str_arg(a, 0)?).ok();
    Ok(Value::from(re.is_some_and(|re| str_arg(a, 1).is_ok_and(|s| re.is_match(s)))))
}

fn must_match(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    Ok(Value::from(compile(cx, str_arg(a, 0)?)?.is_match(str_arg(a, 1)?)))
}

fn find(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let re = compile(cx, str_arg(a, 0)?)?;
    Ok(Value::from(re.find(str_arg(a, 1)?).map_or("", |m| m.as_str())))
}

fn limit(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn find_all(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let re = compile(cx, str_arg(a, 0)?)?;
    let found = re.find_iter(str_arg(a, 1)?).take(limit(int_arg(a, 2)?)).map(|m| m.as_str());
    Ok(List::strings(found))
}

fn replace_all(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let re = compile(cx, str_arg(a, 0)?)?;
    let out = re.replace_all(str_arg(a, 1)?, str_arg(a, 2)?);
    cx.spend(out.len())?;
    Ok(Value::from(out.into_owned()))
}

fn replace_literal(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let re = compile(cx, str_arg(a, 0)?)?;
    let out = re.replace_all(str_arg(a, 1)?, regex::NoExpand(str_arg(a, 2)?));
    cx.spend(out.len())?;
    Ok(Value::from(out.into_owned()))
}

fn split(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let re = compile(cx, str_arg(a, 0)?)?;
    let (s, n) = (str_arg(a, 1)?, int_arg(a, 2)?);
    if n == 0 {
        return Ok(List::strings(Vec::<String>::new()));
    }
    // Go's Split leaves out an empty match at the start and stops when it reaches the limit.
    let mut out = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for m in re.find_iter(s) {
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

//! Variables in texts: `${NAME}` of Compose files and of Flux' substitutions, `###NAME###` of Zarf packages.

/// Expressions within expressions.
const MAX_DEPTH: usize = 8;
/// Bytes of a result: a variable may hold many times what names it.
const MAX_BYTES: usize = 4 << 20;

/// The value of a variable, if it has one.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whose variables they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Also `$NAME`; `$$` is a dollar sign (Compose specification, "Interpolation").
    Compose,
    /// Only in braces (`envsubst` as Flux' `postBuild` has it).
    Flux,
}

/// A text with its variables filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// Variables without a value and without a default, for which nothing stands in the text.
    pub(super) unset: Vec<String>,
}

/// Fills in the variables of `text`.
///
/// # Errors
/// What is wrong with an expression.
pub(super) fn fill(text: &str, style: Style, lookup: Lookup<'_>) -> Result<Filled, String> {
    let mut out = Filled::default();
    expand(text, style, lookup, 0, &mut out)?;
    Ok(out)
}

fn expand(
    text: &str,
    style: Style,
    lookup: Lookup<'_>,
    depth: usize,
    out: &mut Filled,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("variables stand within each other more than {MAX_DEPTH} deep"));
    }
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        push(out, &rest[..dollar])?;
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            push(out, "$")?;
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| format!("${{{} has no closing brace", short(inner)))?;
            braced(&inner[..end], style, lookup, depth, out)?;
            rest = &inner[end + 1..];
        } else {
            let end = name_end(rest);
            if end == 0 || style == Style::Flux {
                push(out, "$")?;
                continue;
            }
            value(&rest[..end], lookup, out)?;
            rest = &rest[end..];
        }
    }
    push(out, rest)
}

fn value(name: &str, lookup: Lookup<'_>, out: &mut Filled) -> Result<(), String> {
    match lookup(name) {
        Some(value) => push(out, &value),
        None => {
            out.unset.push(name.to_owned());
            Ok(())
        }
    }
}

/// What stands between the braces: a name, and maybe what to do when it has no value.
fn braced(
    inner: &str,
    style: Style,
    lookup: Lookup<'_>,
    depth: usize,
    out: &mut Filled,
) -> Result<(), String> {
    let (name, rest) = inner.split_at(name_end(inner));
    if name.is_empty() {
        return Err(format!("${{{}}} names no variable", short(inner)));
    }
    let found = lookup(name);
    let operator = [":-", ":=", ":?", ":+", "-", "=", "?", "+"].into_iter().find(|o| rest.starts_with(o));
    let Some(operator) = operator else {
        if rest.is_empty() {
            return value(name, lookup, out);
        }
        return Err(format!(
            "${{{}}}: omk does not know {:?}; give the variable its final value",
            short(inner),
            short(rest)
        ));
    };
    let word = &rest[operator.len()..];
    // With a colon an empty value is none.
    let there = found.filter(|v| !operator.starts_with(':') || !v.is_empty());
    match (operator.trim_start_matches(':'), there) {
        ("-" | "=", None) => expand(word, style, lookup, depth + 1, out),
        ("?", None) => Err(format!("the variable {name} is needed: {}", short(word))),
        ("+", None) => Ok(()),
        ("+", Some(_)) => expand(word, style, lookup, depth + 1, out),
        (_, Some(value)) => push(out, &value),
        _ => Ok(()),
    }
}

fn push(out: &mut Filled, text: &str) -> Result<(), String> {
    if out.text.len() + text.len() > MAX_BYTES {
        return Err(format!("with its variables filled in it is larger than {MAX_BYTES} bytes"));
    }
    out.text.push_str(text);
    Ok(())
}

fn name_end(text: &str) -> usize {
    let part =
        |(i, c): &(usize, char)| *c == '_' || c.is_ascii_alphabetic() || (*i > 0 && c.is_ascii_digit());
    text.char_indices().find(|at| !part(at)).map_or(text.len(), |(i, _)| i)
}

/// The brace that belongs to one that was just opened.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0usize;
    let bytes = text.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if i > 0 && bytes[i - 1] == b'$' => open += 1,
            b'}' if open == 0 => return Some(i),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Fills in `###NAME###`; names without a value stay, and are told.
pub(super) fn fill_marks(text: &str, lookup: Lookup<'_>) -> Filled {
    let mut out = Filled::default();
    let mut rest = text;
    while let Some(start) = rest.find("###") {
        let inner = &rest[start + 3..];
        let end = inner
            .find(|c: char| !(c == '_' || c.is_ascii_uppercase() || c.is_ascii_digit()))
            .unwrap_or(inner.len());
        let (name, after) = inner.split_at(end);
        let Some(after) = after.strip_prefix("###").filter(|_| name.starts_with("ZARF_")) else {
            out.text.push_str(&rest[..start + 3]);
            rest = inner;
            continue;
        };
        out.text.push_str(&rest[..start]);
        match lookup(name) {
            Some(value) if out.text.len() + value.len() <= MAX_BYTES => out.text.push_str(&value),
            _ => {
                out.text.push_str(&rest[start..start + 6 + name.len()]);
                out.unset.push(name.to_owned());
            }
        }
        rest = after;
    }
    out.text.push_str(rest);
    out.unset.sort();
    out.unset.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "TAG" => Some("1.2".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn compose(text: &str) -> Result<String, String> {
        fill(text, Style::Compose, &lookup).map(|f| f.text)
    }

    #[test]
    fn variables_are_filled_in_as_compose_does() {
        for (text, filled) in [
            ("web:$TAG", "web:1.2"),
            ("web:${TAG}-x", "web:1.2-x"),
            ("web:${NONE:-9}", "web:9"),
            ("web:${EMPTY:-9}", "web:9"),
            ("web:${EMPTY-9}", "web:"),
            ("web:${NONE-${OTHER:-${TAG}}}", "web:1.2"),
            ("${TAG:+with}${NONE:+never}", "with"),
            ("$$TAG ${TAG:?needed} $ 5", "$TAG 1.2 $ 5"),
            ("${NONE}", ""),
        ] {
            assert_eq!(compose(text).unwrap(), filled, "{text}");
        }
        assert!(compose("${NONE:?tell me}").unwrap_err().contains("tell me"));
        assert!(compose("${TAG").unwrap_err().contains("closing brace"));
        assert!(compose("${TAG/1/2}").unwrap_err().contains("/1/2"));
        assert_eq!(fill("$NONE", Style::Compose, &lookup).unwrap().unset, ["NONE"]);
    }

    #[test]
    fn flux_wants_braces() {
        assert_eq!(fill("$TAG ${TAG} ${X:=y}", Style::Flux, &lookup).unwrap().text, "$TAG 1.2 y");
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        let deep = "${A:-".repeat(20) + &"}".repeat(20);
        assert!(compose(&deep).unwrap_err().contains("deep"));
        let long = |_: &str| Some("x".repeat(1 << 20));
        assert!(fill(&"$A".repeat(9), Style::Compose, &long).unwrap_err().contains("larger"));
    }

    #[test]
    fn marks_are_filled_in_and_the_rest_stays() {
        let filled = fill_marks("a:###ZARF_VAR_TAG### ### b ###ZARF_X### ###no###", &|n| {
            (n == "ZARF_VAR_TAG").then(|| "1".into())
        });
        assert_eq!(filled.text, "a:1 ### b ###ZARF_X### ###no###");
        assert_eq!(filled.unset, ["ZARF_X"]);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([${}:A-Z?+=#-]|é){0,40}") {
            let _ = compose(&text);
            fill_marks(&text, &lookup);
        }
    }
}

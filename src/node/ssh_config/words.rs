//! A line of `ssh_config`: its keyword, its words, and the patterns in them.

use crate::node::known_hosts::glob;

/// The keyword in lower case and what follows; `None` for an empty line or a comment. Between them is space, or one `=`.
pub(super) fn split_line(line: &str) -> Result<Option<(String, &str)>, &'static str> {
    const SPACE: [char; 4] = [' ', '\t', '\r', '\u{c}'];
    let line = line.trim_matches(SPACE);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (keyword, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => {
            let end = line.find(|c| SPACE.contains(&c) || c == '=').unwrap_or(line.len());
            line.split_at(end)
        }
    };
    let rest = rest.trim_start_matches(SPACE);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(SPACE);
    Ok(Some((keyword.to_ascii_lowercase(), rest)))
}

/// Words with quotes of both kinds; a `\` keeps a quote, a `\` and outside of quotes a space; a word that begins with `#`
/// ends the line.
pub(super) fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(all),
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(&c) = chars.peek() {
            if quote.is_none() && matches!(c, ' ' | '\t') {
                break;
            }
            chars.next();
            match c {
                '\\' => {
                    let kept =
                        chars.next_if(|n| matches!(n, '\'' | '"' | '\\') || (quote.is_none() && *n == ' '));
                    word.push(kept.unwrap_or('\\'));
                }
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                c => word.push(c),
            }
        }
        if quote.is_some() {
            return Err("a quote is not closed");
        }
        all.push(word);
    }
}

/// A list of patterns between commas: one that is negated and fits rules the name out.
pub(super) fn fits_list(list: &str, name: &str, ignore_case: bool) -> bool {
    let name = if ignore_case { name.to_ascii_lowercase() } else { name.to_owned() };
    let mut found = false;
    for pattern in list.split(',') {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |p| (true, p));
        let pattern = if ignore_case { pattern.to_ascii_lowercase() } else { pattern.to_owned() };
        if glob(pattern.as_bytes(), name.as_bytes()) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

/// The patterns of a `Host` line.
pub(super) fn fits_host(patterns: &[String], name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern.as_str()), |p| (true, p));
        if glob(pattern.as_bytes(), name.as_bytes()) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

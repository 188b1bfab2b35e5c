//! Go's regular expressions in the syntax of the `regex` crate.
//!
//! Both are of RE2's family, match the leftmost-first way and know no backreferences, but they read a pattern
//! differently: in Go `\w`, `\d`, `\s` and `\b` are ASCII, `[` and `&&` within brackets stand for themselves, `{` that
//! counts nothing does too, there are octal escapes and `\Q…\E`, and what is an error is not the same. The grammar here is
//! that of Go's `regexp/syntax` with its Perl flags, and so are the words of the errors.

/// `pattern` for `regex::Regex`, or what Go says is wrong with it.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { all: pattern, rest: pattern, out: String::with_capacity(pattern.len() * 2) };
    reader.run()?;
    Ok(reader.out)
}

/// Go refuses to count further.
const MAX_REPEAT: i64 = 1000;

struct Reader<'a> {
    all: &'a str,
    rest: &'a str,
    out: String,
}

fn wrong(what: &str, part: &str) -> String {
    format!("{what}: `{part}`")
}

/// The part of `from` that was read when `rest` is left.
fn consumed<'a>(from: &'a str, rest: &str) -> &'a str {
    &from[..from.len() - rest.len()]
}

impl<'a> Reader<'a> {
    fn run(&mut self) -> Result<(), String> {
        let mut open = 0_usize;
        // Whether there is something that a repetition could repeat, and the repetition just read.
        let mut operand = false;
        let mut repeated: Option<&'a str> = None;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let mut repetition = None;
            match c {
                '(' => {
                    let pushes = self.group()?;
                    open += usize::from(pushes);
                    operand = !pushes && operand;
                }
                ')' => {
                    open = open.checked_sub(1).ok_or_else(|| wrong("unexpected )", self.all))?;
                    self.copy(1);
                    operand = true;
                }
                '|' => {
                    self.copy(1);
                    operand = false;
                }
                '*' | '+' | '?' => {
                    self.copy(1);
                    repetition = Some(before);
                }
                '{' => match counts(before) {
                    None => {
                        self.literal('{');
                        self.rest = &before[1..];
                        operand = true;
                    }
                    Some((low, high, rest)) => {
                        if low > MAX_REPEAT || high > MAX_REPEAT || (high >= 0 && low > high) {
                            return Err(wrong("invalid repeat count", consumed(before, rest)));
                        }
                        self.out.push_str(consumed(before, rest));
                        self.rest = rest;
                        repetition = Some(before);
                    }
                },
                '[' => {
                    self.class()?;
                    operand = true;
                }
                '\\' => {
                    self.escape()?;
                    operand = true;
                }
                '^' | '$' | '.' => {
                    self.copy(1);
                    operand = true;
                }
                _ => {
                    self.literal(c);
                    self.rest = &before[c.len_utf8()..];
                    operand = true;
                }
            }
            if let Some(before) = repetition {
                if self.rest.starts_with('?') {
                    self.copy(1);
                }
                if let Some(first) = repeated {
                    return Err(wrong("invalid nested repetition operator", consumed(first, self.rest)));
                }
                if !operand {
                    return Err(wrong(
                        "missing argument to repetition operator",
                        consumed(before, self.rest),
                    ));
                }
            }
            repeated = repetition;
        }
        if open > 0 { Err(wrong("missing closing )", self.all)) } else { Ok(()) }
    }

    fn copy(&mut self, bytes: usize) {
        let (part, rest) = self.rest.split_at(bytes);
        self.out.push_str(part);
        self.rest = rest;
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }

    /// The opening of a group, or flags for what follows; whether it was a group.
    fn group(&mut self) -> Result<bool, String> {
        let start = self.rest;
        let Some(inner) = start.strip_prefix("(?") else {
            self.copy(1);
            return Ok(true);
        };
        if let Some(named) = inner.strip_prefix("P<").or_else(|| inner.strip_prefix('<')) {
            let end = named.find('>').ok_or_else(|| wrong("invalid named capture", start))?;
            let name = &named[..end];
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(wrong("invalid named capture", consumed(start, &named[end + 1..])));
            }
            // In Go alone a name may start with a digit.
            let extra = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
            self.out.push_str(&format!("(?P<{extra}{name}>"));
            self.rest = &named[end + 1..];
            return Ok(true);
        }
        let (mut negative, mut flagged) = (false, false);
        for (i, c) in inner.char_indices() {
            let rest = &inner[i + c.len_utf8()..];
            match c {
                'i' | 'm' | 's' | 'U' => flagged = true,
                '-' if !negative => (negative, flagged) = (true, false),
                ':' | ')' if !negative || flagged => {
                    let text = consumed(start, rest);
                    // `(?)` and `(?-)` are one for Go alone.
                    self.out.push_str(if text == "(?)" { "(?:)" } else { text });
                    self.rest = rest;
                    return Ok(c == ':');
                }
                _ => return Err(wrong("invalid or unsupported Perl syntax", consumed(start, rest))),
            }
        }
        Err(wrong("missing closing )", self.all))
    }

    /// A backslash outside of brackets.
    fn escape(&mut self) -> Result<(), String> {
        let start = self.rest;
        match start[1..].chars().next() {
            Some('A' | 'z') => self.copy(2),
            Some('b') => self.put("(?-u:\\b)", 2),
            Some('B') => self.put("(?-u:\\B)", 2),
            Some('Q') => {
                let text = &start[2..];
                let end = text.find("\\E").unwrap_or(text.len());
                text[..end].chars().for_each(|c| self.literal(c));
                self.rest = text[end..].strip_prefix("\\E").unwrap_or_default();
            }
            Some(c @ ('d' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                let set = perl(c);
                self.put(&if c.is_ascii_uppercase() { format!("[^{set}]") } else { format!("[{set}]") }, 2);
            }
            Some('p' | 'P') => self.unicode()?,
            _ => {
                let c = self.character()?;
                self.literal(c);
            }
        }
        Ok(())
    }

    fn put(&mut self, text: &str, read: usize) {
        self.out.push_str(text);
        self.rest = &self.rest[read..];
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`.
    fn unicode(&mut self) -> Result<(), String> {
        let start = self.rest;
        let mut negative = start.as_bytes()[1] == b'P';
        let body = &start[2..];
        let (mut name, rest) = match body.strip_prefix('{') {
            Some(braced) => {
                let end = braced.find('}').ok_or_else(|| wrong("invalid character class range", start))?;
                (&braced[..end], &braced[end + 1..])
            }
            None => {
                let n = body.chars().next().map_or(0, char::len_utf8);
                body.split_at(n)
            }
        };
        if let Some(inner) = name.strip_prefix('^') {
            (name, negative) = (inner, !negative);
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(wrong("invalid character class range", consumed(start, rest)));
        }
        self.out.push_str(&format!("\\{}{{{name}}}", if negative { 'P' } else { 'p' }));
        self.rest = rest;
        Ok(())
    }

    /// A backslash that stands for one character.
    fn character(&mut self) -> Result<char, String> {
        let start = self.rest;
        let mut chars = start[1..].chars();
        let Some(c) = chars.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let mut rest = chars.as_str();
        let invalid = |rest: &str| wrong("invalid escape sequence", consumed(start, rest));
        let found = match c {
            '0'..='7' => {
                if c != '0' && !rest.starts_with(|c: char| matches!(c, '0'..='7')) {
                    return Err(invalid(rest));
                }
                let more = rest.bytes().take(2).take_while(|b| matches!(b, b'0'..=b'7')).count();
                let digits = &start[1..2 + more];
                rest = &rest[more..];
                u32::from_str_radix(digits, 8).ok().and_then(char::from_u32)
            }
            'x' => {
                let (digits, after) = match rest.strip_prefix('{') {
                    Some(braced) => match braced.find('}') {
                        Some(end) => (&braced[..end], &braced[end + 1..]),
                        None => return Err(invalid("")),
                    },
                    None => match rest.get(..2) {
                        Some(two) => (two, &rest[2..]),
                        None => return Err(invalid("")),
                    },
                };
                rest = after;
                let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
                hex.then(|| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)).flatten()
            }
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        self.rest = rest;
        found.ok_or_else(|| invalid(rest))
    }

    /// What stands in brackets.
    fn class(&mut self) -> Result<(), String> {
        let start = self.rest;
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        let mut first = true;
        loop {
            if self.rest.starts_with(']') && !first {
                self.copy(1);
                return Ok(());
            }
            first = false;
            let before = self.rest;
            if let Some(named) = before.strip_prefix("[:")
                && let Some(end) = named.find(":]")
            {
                let name = named[..end].strip_prefix('^').unwrap_or(&named[..end]);
                if !POSIX.contains(&name) {
                    let part = consumed(before, &named[end + 2..]);
                    return Err(wrong("invalid character class range", part));
                }
                self.copy(end + 4);
                continue;
            }
            match before.strip_prefix('\\').and_then(|rest| rest.chars().next()) {
                Some(c @ ('d' | 's' | 'w')) => {
                    self.put(perl(c), 2);
                    continue;
                }
                Some(c @ ('D' | 'S' | 'W')) => {
                    self.put(&format!("[^{}]", perl(c)), 2);
                    continue;
                }
                Some('p' | 'P') => {
                    self.unicode()?;
                    continue;
                }
                _ => {}
            }
            let low = self.class_character(start)?;
            let mut high = low;
            if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest[1..].starts_with(']') {
                self.rest = &self.rest[1..];
                high = self.class_character(start)?;
                if high < low {
                    return Err(wrong("invalid character class range", consumed(before, self.rest)));
                }
            }
            self.literal(low);
            if high > low {
                self.out.push('-');
                self.literal(high);
            }
        }
    }

    fn class_character(&mut self, class: &str) -> Result<char, String> {
        match self.rest.chars().next() {
            None => Err(wrong("missing closing ]", class)),
            Some('\\') => self.character(),
            Some(c) => {
                self.rest = &self.rest[c.len_utf8()..];
                Ok(c)
            }
        }
    }
}

const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

fn perl(letter: char) -> &'static str {
    match letter {
        'd' | 'D' => "0-9",
        's' | 'S' => "\\t\\n\\x0c\\r\\x20",
        _ => "0-9A-Za-z_",
    }
}

/// `{2}`, `{2,}` or `{2,5}` at the start, with -1 for no bound, and what comes after it. A number that is far too
/// large is one that is too large.
fn counts(text: &str) -> Option<(i64, i64, &str)> {
    let (low, rest) = number(text.strip_prefix('{')?)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((low, low, rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((low, -1, rest));
    }
    let (high, rest) = number(rest)?;
    Some((low, high, rest.strip_prefix('}')?))
}

fn number(text: &str) -> Option<(i64, &str)> {
    let n = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(n);
    if n == 0 || (n > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(i64::MAX), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        regex::Regex::new(&translate(pattern).unwrap()).unwrap().is_match(text)
    }

    #[test]
    fn go_reads_it_its_own_way() {
        for (pattern, text, want) in [
            (r"^[\w-\.]+$", "a-b.c", true),
            (r"^[\w-\.]+$", "a b", false),
            (r"^\w+$", "grün", false),
            (r"^\d$", "٣", false),
            (r"^[[a]$", "[", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[a~~b]$", "~", true),
            (r"a{,2}", "a{,2}", true),
            (r"^{$", "{", true),
            (r"^\Qa.b*\E$", "a.b*", true),
            (r"^\101\x41\x{41}\<$", "AAA<", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]$", "b", true),
            (r"^[a-]$", "-", true),
            (r"^[[:alpha:]\W]+$", "a-", true),
            (r"^\P{^Greek}$", "α", true),
            (r"^(?P<1a>x)$", "x", true),
            (r"(?i)^a(?-i)b$", "Ab", true),
            (r"\bfoo\b", "a foo b", true),
            (r"o\Bo", "foo", true),
            (r"^ $", " ", true),
            (r"^#$", "#", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn errors_are_those_of_go() {
        for (pattern, want) in [
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(|*)", "missing argument to repetition operator: `*`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("x[a", "missing closing ]: `[a`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"[a-\w]", r"invalid escape sequence: `\w`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<a-b>x)", "invalid named capture: `(?P<a-b>`"),
        ] {
            assert_eq!(translate(pattern).unwrap_err(), want, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_is_translated_can_be_compiled(pattern in r"[a-c\[\]()|*+?{}0-9,\\^$.\-:wdsWbBQEpPLxi<>&~#]{0,12}") {
            if let Ok(translated) = translate(&pattern) {
                let made = regex::RegexBuilder::new(&translated).size_limit(4 << 20).build();
                let refused = made.err().map(|e| e.to_string()).unwrap_or_default();
                // Names of Unicode classes are looked up by the crate.
                let known = refused.contains("Unicode property not found") || refused.contains("exceeds size limit")
                    || refused.contains("duplicate capture group name");
                prop_assert!(refused.is_empty() || known, "{} -> {}: {}", pattern, translated, refused);
            }
        }
    }
}

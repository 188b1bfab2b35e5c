//! Go template text to tokens, after the rules of `text/template/parse/lex.go`: actions between `{{` and `}}`,
//! `{{-` and `-}}` trim the text beside them, blanks between operands count.

use super::ast::Pos;
use super::error::SyntaxError;

/// A token; what it holds is cut from the template's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tok<'a> {
    Text(&'a str),
    Open,
    Close,
    Space,
    Ident(&'a str),
    /// `.name`, without the dot.
    Field(&'a str),
    Dot,
    /// `$name`, with the dollar; the root is `$`.
    Var(&'a str),
    /// A number or character constant as written.
    Number(&'a str),
    Char(&'a str),
    Str(&'a str),
    RawStr(&'a str),
    Declare,
    Assign,
    Pipe,
    Comma,
    LeftParen,
    RightParen,
    Eof,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) pos: Pos,
    pub(crate) tok: Tok<'a>,
}

/// What a file's actions consist of, blanks and braces included. The largest real files have some thousands.
const MAX_TOKENS: usize = 300_000;

const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// Cuts `text` into tokens.
///
/// # Errors
///
/// With the position and Go's wording, if an action, string or comment does not end or holds a strange character.
pub(crate) fn lex(text: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    let mut out = Vec::new();
    let mut pos = 0;
    // Set when the action before ended in `-}}`.
    let mut trim_left = false;
    loop {
        let open = text[pos..].find("{{").map(|i| pos + i);
        let mut end = open.unwrap_or(text.len());
        let start = pos;
        let trim_right = open.is_some_and(|o| trims_right(&text[o + 2..]));
        let mut piece = &text[start..end];
        if trim_left {
            piece = piece.trim_start_matches(BLANK);
        }
        if trim_right {
            piece = piece.trim_end_matches(BLANK);
        }
        if !piece.is_empty() {
            out.push(Token { pos: start, tok: Tok::Text(piece) });
        }
        let Some(open) = open else {
            out.push(Token { pos: text.len(), tok: Tok::Eof });
            return Ok(out);
        };
        end = open + 2 + if trim_right { 2 } else { 0 };
        if text[end..].starts_with("/*") {
            let Some(close) = text[end..].find("*/").map(|i| end + i + 2) else {
                return Err(SyntaxError::new(end, "unclosed comment"));
            };
            let rest = &text[close..];
            if rest.starts_with("}}") {
                trim_left = false;
                pos = close + 2;
            } else if rest.starts_with(BLANK) && rest[1..].starts_with("-}}") {
                trim_left = true;
                pos = close + 4;
            } else {
                return Err(SyntaxError::new(close, "comment ends before closing delimiter"));
            }
            continue;
        }
        out.push(Token { pos: open, tok: Tok::Open });
        (pos, trim_left) = inside(text, end, &mut out)?;
    }
}

/// Whether what follows `{{` starts with `-` and a blank.
fn trims_right(rest: &str) -> bool {
    rest.starts_with('-') && rest[1..].starts_with(BLANK)
}

fn is_alnum(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Reads one action from `pos` to its end; returns where the text goes on and whether it is trimmed.
fn inside<'a>(text: &'a str, mut pos: Pos, out: &mut Vec<Token<'a>>) -> Result<(Pos, bool), SyntaxError> {
    let mut depth = 0usize;
    loop {
        if out.len() > MAX_TOKENS {
            return Err(SyntaxError::new(
                pos,
                format!("more than {MAX_TOKENS} words in actions; split the file"),
            ));
        }
        let rest = &text[pos..];
        if rest.starts_with(BLANK) && rest[1..].starts_with("-}}") {
            close(pos, depth)?;
            out.push(Token { pos, tok: Tok::Close });
            return Ok((pos + 4, true));
        }
        if rest.starts_with("}}") {
            close(pos, depth)?;
            out.push(Token { pos, tok: Tok::Close });
            return Ok((pos + 2, false));
        }
        let Some(c) = rest.chars().next() else { return Err(SyntaxError::new(pos, "unclosed action")) };
        let word = |from: usize| rest[from..].find(|c| !is_alnum(c)).map_or(rest.len(), |i| i + from);
        let (tok, len) = match c {
            ' ' | '\t' | '\r' | '\n' => {
                // The blank before a trimming close belongs to the close.
                let mut len = rest.len() - rest.trim_start_matches(BLANK).len();
                if rest[len..].starts_with("-}}") {
                    len -= 1;
                }
                (Tok::Space, len)
            }
            ':' if rest.starts_with(":=") => (Tok::Declare, 2),
            ':' => return Err(SyntaxError::new(pos, "expected :=")),
            '=' => (Tok::Assign, 1),
            '|' => (Tok::Pipe, 1),
            ',' => (Tok::Comma, 1),
            '(' => {
                depth += 1;
                (Tok::LeftParen, 1)
            }
            ')' => {
                if depth == 0 {
                    return Err(SyntaxError::new(pos, "unexpected right paren"));
                }
                depth -= 1;
                (Tok::RightParen, 1)
            }
            '"' => quoted(rest, '"')
                .map(|n| (Tok::Str(&rest[..n]), n))
                .ok_or_else(|| SyntaxError::new(pos, "unterminated quoted string"))?,
            '\'' => quoted(rest, '\'')
                .map(|n| (Tok::Char(&rest[..n]), n))
                .ok_or_else(|| SyntaxError::new(pos, "unterminated character constant"))?,
            '`' => match rest[1..].find('`') {
                Some(i) => (Tok::RawStr(&rest[..i + 2]), i + 2),
                None => return Err(SyntaxError::new(pos, "unterminated raw quoted string")),
            },
            '$' => {
                let n = word(1);
                (Tok::Var(&rest[..n]), n)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let n = word(1);
                if n == 1 { (Tok::Dot, 1) } else { (Tok::Field(&rest[1..n]), n) }
            }
            '.' | '+' | '-' | '0'..='9' => {
                let n = number(rest);
                let next = rest[n..].chars().next();
                if n == 0 || next.is_some_and(is_alnum) {
                    let n = rest.find(|c: char| !(is_alnum(c) || "+-.".contains(c))).unwrap_or(rest.len());
                    return Err(SyntaxError::new(pos, format!("bad number syntax: {:?}", &rest[..n])));
                }
                (Tok::Number(&rest[..n]), n)
            }
            c if is_alnum(c) => {
                let n = word(0);
                let next = rest[n..].chars().next();
                if next.is_some_and(|c| !BLANK.contains(&c) && !".,|:)(=".contains(c))
                    && !rest[n..].starts_with("}}")
                {
                    let c = next.unwrap_or_default();
                    return Err(SyntaxError::new(pos + n, format!("bad character U+{:04X} '{c}'", c as u32)));
                }
                (Tok::Ident(&rest[..n]), n)
            }
            c if c.is_ascii_graphic() => {
                return Err(SyntaxError::new(pos, format!("unexpected \"{c}\" in command")));
            }
            c => {
                let msg = format!("unexpected bad character U+{:04X} '{c}' in command", c as u32);
                return Err(SyntaxError::new(pos, msg));
            }
        };
        out.push(Token { pos, tok });
        pos += len;
    }
}

fn close(pos: Pos, depth: usize) -> Result<(), SyntaxError> {
    if depth > 0 { Err(SyntaxError::new(pos, "unclosed left paren")) } else { Ok(()) }
}

/// Length of the quoted constant at the start of `rest`, quotes included; none if the line ends first.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// Length of the number at the start of `rest`, 0 if there is none.
fn number(rest: &str) -> usize {
    let b = rest.as_bytes();
    let mut i = usize::from(matches!(b.first(), Some(b'+' | b'-')));
    let mut digits = "0123456789_";
    let mut exponent = "eE";
    if b.get(i) == Some(&b'0') {
        match b.get(i + 1) {
            Some(b'x' | b'X') => (digits, exponent, i) = ("0123456789abcdefABCDEF_", "pP", i + 2),
            Some(b'o' | b'O') => (digits, exponent, i) = ("01234567_", "", i + 2),
            Some(b'b' | b'B') => (digits, exponent, i) = ("01_", "", i + 2),
            _ => {}
        }
    }
    let run = |mut i: usize, set: &str| {
        while b.get(i).is_some_and(|c| set.as_bytes().contains(c)) {
            i += 1;
        }
        i
    };
    let start = i;
    i = run(i, digits);
    let mut seen = i > start;
    if b.get(i) == Some(&b'.') {
        let end = run(i + 1, digits);
        seen |= end > i + 1;
        i = end;
    }
    if !seen {
        return 0;
    }
    if b.get(i).is_some_and(|c| exponent.as_bytes().contains(c)) {
        let sign = usize::from(matches!(b.get(i + 1), Some(b'+' | b'-')));
        i = run(i + 1 + sign, "0123456789_");
    }
    i
}

/// The text that a quoted Go constant stands for; none if an escape is not valid.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(i) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..i]);
        let b = rest.as_bytes();
        let simple = match b.get(i + 1)? {
            b'a' => Some(7),
            b'b' => Some(8),
            b'f' => Some(12),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(11),
            b'\\' => Some(b'\\'),
            b'\'' => Some(b'\''),
            b'"' => Some(b'"'),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            rest = &rest[i + 2..];
            continue;
        }
        let (skip, len, radix, is_byte) = match b[i + 1] {
            b'x' => (2, 2, 16, true),
            b'u' => (2, 4, 16, false),
            b'U' => (2, 8, 16, false),
            b'0'..=b'7' => (1, 3, 8, true),
            _ => return None,
        };
        let n = u32::from_str_radix(rest.get(i + skip..i + skip + len)?, radix).ok()?;
        if is_byte {
            out.push(u8::try_from(n).ok()?);
        } else {
            out.extend_from_slice(char::from_u32(n)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = &rest[i + skip + len..];
    }
    out.extend_from_slice(rest.as_bytes());
    Some(super::bytes::from_bytes(&out))
}

//! Go template text to tokens, after the rules of `text/template/parse/lex.go`: actions between `{{` and `}}`,
//! `{{-` and `-}}` trim the text beside them, blanks between operands count. Go lexes while it parses: what is wrong with
//! the text is a token too, the last one, and counts only if the parser gets there.

use std::sync::LazyLock;

use regex::Regex;

use super::ast::Pos;
use super::fmt::{printable, quote};

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
    /// A printable character without a meaning of its own but that of the comma.
    Other(&'a str),
    LeftParen,
    RightParen,
    Eof,
    /// Here the text is no template any more; [`Lexed::bad`] says why.
    Bad,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) pos: Pos,
    pub(crate) tok: Tok<'a>,
}

/// What a file's actions consist of, blanks and braces included. The largest real files have some thousands.
const MAX_TOKENS: usize = 300_000;

const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// A text in tokens.
pub(crate) struct Lexed<'a> {
    /// The last one is [`Tok::Eof`] or [`Tok::Bad`].
    pub(crate) toks: Vec<Token<'a>>,
    /// What is wrong at [`Tok::Bad`], in Go's words.
    pub(crate) bad: String,
}

/// What is wrong with a token, which begins there.
struct Bad(Pos, String);

impl Bad {
    fn new(pos: Pos, reason: &str) -> Self {
        Self(pos, reason.to_owned())
    }
}

/// Cuts `text` into tokens, up to its end or to where an action, string or comment does not end or has a strange character.
pub(crate) fn lex(text: &str) -> Lexed<'_> {
    let mut toks = Vec::new();
    let mut bad = String::new();
    if let Err(Bad(pos, reason)) = lex_into(text, &mut toks) {
        toks.push(Token { pos, tok: Tok::Bad });
        bad = reason;
    }
    Lexed { toks, bad }
}

fn lex_into<'a>(text: &'a str, out: &mut Vec<Token<'a>>) -> Result<(), Bad> {
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
            return Ok(());
        };
        end = open + 2 + if trim_right { 2 } else { 0 };
        if text[end..].starts_with("/*") {
            let Some(close) = text[end + 2..].find("*/").map(|i| end + 2 + i + 2) else {
                return Err(Bad::new(end, "unclosed comment"));
            };
            let rest = &text[close..];
            if rest.starts_with("}}") {
                trim_left = false;
                pos = close + 2;
            } else if rest.starts_with(BLANK) && rest[1..].starts_with("-}}") {
                trim_left = true;
                pos = close + 4;
            } else {
                return Err(Bad::new(end, "comment ends before closing delimiter"));
            }
            continue;
        }
        out.push(Token { pos: open, tok: Tok::Open });
        (pos, trim_left) = inside(text, end, out)?;
    }
}

/// Whether what follows `{{` starts with `-` and a blank.
fn trims_right(rest: &str) -> bool {
    rest.starts_with('-') && rest[1..].starts_with(BLANK)
}

/// Go's letters and digits: neither numbers of other kinds (`²`) nor marks.
fn is_alnum(c: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}]$").ok());
    match c {
        '_' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric(),
        c => LETTER.as_ref().is_some_and(|letter| letter.is_match(c.encode_utf8(&mut [0; 4]))),
    }
}

/// Reads one action from `pos` to its end; returns where the text goes on and whether it is trimmed.
fn inside<'a>(text: &'a str, mut pos: Pos, out: &mut Vec<Token<'a>>) -> Result<(Pos, bool), Bad> {
    let mut depth = 0usize;
    loop {
        if out.len() > MAX_TOKENS {
            return Err(Bad(pos, format!("more than {MAX_TOKENS} words in actions; split the file")));
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
        let Some(c) = rest.chars().next() else { return Err(Bad::new(pos, "unclosed action")) };
        // The length of a word, whose letters begin at `from`.
        let word = |from: usize| {
            let n = rest[from..].find(|c| !is_alnum(c)).map_or(rest.len(), |i| i + from);
            match rest[n..].chars().next() {
                Some(c) if !ends_word(c) && !rest[n..].starts_with("}}") => {
                    Err(Bad(pos, format!("bad character {}", character(c))))
                }
                _ => Ok(n),
            }
        };
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
            ':' => return Err(Bad::new(pos, "expected :=")),
            '=' => (Tok::Assign, 1),
            '|' => (Tok::Pipe, 1),
            '(' => {
                depth += 1;
                (Tok::LeftParen, 1)
            }
            ')' => {
                if depth == 0 {
                    return Err(Bad::new(pos, "unexpected right paren"));
                }
                depth -= 1;
                (Tok::RightParen, 1)
            }
            '"' => quoted(rest, '"')
                .map(|n| (Tok::Str(&rest[..n]), n))
                .ok_or_else(|| Bad::new(pos, "unterminated quoted string"))?,
            '\'' => quoted(rest, '\'')
                .map(|n| (Tok::Char(&rest[..n]), n))
                .ok_or_else(|| Bad::new(pos, "unterminated character constant"))?,
            '`' => match rest[1..].find('`') {
                Some(i) => (Tok::RawStr(&rest[..i + 2]), i + 2),
                None => return Err(Bad::new(pos, "unterminated raw quoted string")),
            },
            '$' => {
                let n = word(1)?;
                (Tok::Var(&rest[..n]), n)
            }
            '.' if rest[1..].starts_with(|c: char| !c.is_ascii_digit()) => {
                let n = word(1)?;
                if n == 1 { (Tok::Dot, 1) } else { (Tok::Field(&rest[1..n]), n) }
            }
            '.' | '+' | '-' | '0'..='9' => {
                let n = number(rest)
                    .map_err(|n| Bad(pos, format!("bad number syntax: {}", quote(&rest[..n]))))?;
                (Tok::Number(&rest[..n]), n)
            }
            c if is_alnum(c) => {
                let n = word(0)?;
                (Tok::Ident(&rest[..n]), n)
            }
            c if c.is_ascii_graphic() => (Tok::Other(&rest[..1]), 1),
            c => {
                return Err(Bad(pos, format!("unrecognized character in action: {}", character(c))));
            }
        };
        out.push(Token { pos, tok });
        pos += len;
    }
}

/// Whether a word, field or variable may end before it (`atTerminator`).
fn ends_word(c: char) -> bool {
    BLANK.contains(&c) || ".,|:)(".contains(c)
}

/// `U+0022 '"'`, as Go's `%#U`.
fn character(c: char) -> String {
    let code = format!("U+{:04X}", c as u32);
    if printable(c) { format!("{code} '{c}'") } else { code }
}

fn close(pos: Pos, depth: usize) -> Result<(), Bad> {
    if depth > 0 { Err(Bad::new(pos, "unclosed left paren")) } else { Ok(()) }
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

/// Length of the number at the start of `rest`; an error with the length of what Go quotes if a letter follows it or it is
/// neither real nor complex. What it is worth is seen later.
fn number(rest: &str) -> Result<usize, usize> {
    let end = scan_number(rest, 0)?;
    if rest[end..].starts_with(['+', '-']) {
        // The imaginary part of a complex number.
        let end = scan_number(rest, end)?;
        return if rest[..end].ends_with('i') { Ok(end) } else { Err(end) };
    }
    Ok(end)
}

/// Go's `scanNumber` from `at`.
fn scan_number(rest: &str, at: usize) -> Result<usize, usize> {
    let b = rest.as_bytes();
    let one_of = |i: usize, set: &str| b.get(i).is_some_and(|c| set.as_bytes().contains(c));
    let run = |mut i: usize, set: &str| {
        while one_of(i, set) {
            i += 1;
        }
        i
    };
    let mut i = at + usize::from(one_of(at, "+-"));
    let (mut digits, mut exponent) = ("0123456789_", "eE");
    if one_of(i, "0") {
        i += 1;
        let special = match b.get(i) {
            Some(b'x' | b'X') => Some(("0123456789abcdefABCDEF_", "pP")),
            Some(b'o' | b'O') => Some(("01234567_", "")),
            Some(b'b' | b'B') => Some(("01_", "")),
            _ => None,
        };
        if let Some(special) = special {
            (digits, exponent) = special;
            i += 1;
        }
    }
    i = run(i, digits);
    if one_of(i, ".") {
        i = run(i + 1, digits);
    }
    if one_of(i, exponent) {
        i += 1;
        i = run(i + usize::from(one_of(i, "+-")), "0123456789_");
    }
    i += usize::from(one_of(i, "i"));
    match rest[i..].chars().next() {
        Some(c) if is_alnum(c) => Err(i + c.len_utf8()),
        _ => Ok(i),
    }
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
            // Each only within its own kind of quotes.
            c @ (b'\'' | b'"') if text.as_bytes().first() == Some(c) => Some(*c),
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

//! Single tokens: what they stand for, and what Go calls them in errors.

use super::super::ast::Kind;
use super::super::fmt::quote;
use super::super::lex::Tok;

pub(super) fn raw(text: &str) -> String {
    // Go drops carriage returns from raw strings.
    text[1..text.len() - 1].replace('\r', "")
}

pub(super) fn starts_operand(t: Tok<'_>) -> bool {
    match t {
        Tok::Ident(w) => w == "nil" || !is_keyword(w),
        _ => matches!(
            t,
            Tok::Field(_)
                | Tok::Dot
                | Tok::Var(_)
                | Tok::Number(_)
                | Tok::Char(_)
                | Tok::Str(_)
                | Tok::RawStr(_)
                | Tok::LeftParen
        ),
    }
}

/// A numeric constant: an integer if it is written as one, else a float (`newNumber`, and `idealConstant` in Go's executor).
///
/// # Errors
/// In Go's words, but for what Go takes and this does not: complex numbers, and integers of 64 bits without a sign.
pub(super) fn number(text: &str) -> Result<Kind, String> {
    if text.ends_with('i') {
        return Err(format!("complex constants are not supported: {}", quote(text)));
    }
    let illegal = || format!("illegal number syntax: {}", quote(text));
    if text.contains('_') && !underscores_separate(text) {
        return Err(illegal());
    }
    let plain = text.replace('_', "");
    match crate::yaml::parse_go_int(&plain) {
        Some(crate::yaml::Value::Int(i)) => return Ok(Kind::Int(i, text.to_owned())),
        Some(_) => return Err(format!("{text} overflows int")),
        None => {}
    }
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let hex = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let f: f64 = match hex {
        Some(hex) => hex_float(hex).map(|f| if plain.starts_with('-') { -f } else { f }),
        None => plain.parse().ok(),
    }
    .filter(|f: &f64| f.is_finite())
    .ok_or_else(illegal)?;
    if !text.contains(['.', 'e', 'E', 'p', 'P']) {
        return Err(format!("integer overflow: {}", quote(text)));
    }
    Ok(Kind::Float(f, text.to_owned()))
}

/// Whether each underscore stands between digits, or between the mark of a base and a digit (`underscoreOK`).
fn underscores_separate(text: &str) -> bool {
    let number = text.strip_prefix(['+', '-']).unwrap_or(text);
    let base = ["0x", "0X", "0o", "0O", "0b", "0B"].iter().find_map(|b| number.strip_prefix(*b));
    let hex = number.starts_with("0x") || number.starts_with("0X");
    // What a base is marked with counts as a digit.
    let mut before = if base.is_some() { '0' } else { '.' };
    for c in base.unwrap_or(number).chars().chain(['.']) {
        let is_digit = |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        if c == '_' && !is_digit(before) || before == '_' && !is_digit(c) {
            return false;
        }
        before = c;
    }
    true
}

/// `1.8p3`: hexadecimal digits, and a power of two.
fn hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let value = |s: &str| s.chars().try_fold(0f64, |n, c| Some(n * 16.0 + f64::from(c.to_digit(16)?)));
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let (negative, power) = match exponent.strip_prefix('-') {
        Some(power) => (true, power),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    if power.is_empty() || !power.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let power = power.parse().unwrap_or(i32::MAX).min(100_000);
    let mantissa = value(whole)? + value(fraction)? * 16f64.powi(-fraction_digits);
    let power = if negative { -power } else { power };
    // In two steps: what is very small has no power of two of its own.
    Some(if mantissa == 0.0 { 0.0 } else { mantissa * 2f64.powi(power / 2) * 2f64.powi(power - power / 2) })
}

const KEYWORDS: [&str; 11] =
    ["block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"];

pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// A token in an error; of a long one its beginning.
pub(super) fn describe(t: Tok<'_>) -> String {
    let field;
    let text = match t {
        Tok::Eof | Tok::Bad => return "EOF".into(),
        Tok::Dot => return "<.>".into(),
        Tok::Ident(s) if is_keyword(s) => return format!("<{s}>"),
        Tok::Open => "{{",
        Tok::Close => "}}",
        Tok::Space => " ",
        Tok::Field(s) => {
            field = format!(".{s}");
            &field
        }
        Tok::Text(s)
        | Tok::Ident(s)
        | Tok::Var(s)
        | Tok::Number(s)
        | Tok::Char(s)
        | Tok::Str(s)
        | Tok::RawStr(s)
        | Tok::Other(s) => s,
        Tok::Declare => ":=",
        Tok::Assign => "=",
        Tok::Pipe => "|",
        Tok::LeftParen => "(",
        Tok::RightParen => ")",
    };
    if text.len() <= 10 {
        return quote(text);
    }
    let short: String = text.chars().take(10).collect();
    format!("{}...", quote(&short))
}

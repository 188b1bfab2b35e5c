//! Single tokens: what they stand for, and what Go calls them in errors.

use super::super::ast::Kind;
use super::super::lex::Tok;

pub(super) fn raw(text: &str) -> String {
    // Go drops carriage returns from raw strings.
    text[1..text.len() - 1].replace('\r', "")
}

pub(super) fn starts_operand(t: Tok<'_>) -> bool {
    matches!(
        t,
        Tok::Ident(_)
            | Tok::Field(_)
            | Tok::Dot
            | Tok::Var(_)
            | Tok::Number(_)
            | Tok::Char(_)
            | Tok::Str(_)
            | Tok::RawStr(_)
            | Tok::LeftParen
    )
}

/// A numeric constant: an integer if it is written as one, else a float (`idealConstant` in Go's executor).
pub(super) fn number(text: &str) -> Option<Kind> {
    let plain = text.replace('_', "");
    if let Some(crate::yaml::Value::Int(i)) = crate::yaml::parse_go_int(&plain) {
        return Some(Kind::Int(i, text.to_owned()));
    }
    let f: f64 = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        Some(hex) => hex_float(hex)?,
        None => plain.parse().ok()?,
    };
    f.is_finite().then(|| Kind::Float(f, text.to_owned()))
}

/// `1.8p3`: hexadecimal digits, and a power of two.
fn hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let value = |s: &str| s.chars().try_fold(0f64, |n, c| Some(n * 16.0 + f64::from(c.to_digit(16)?)));
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    Some((value(whole)? + value(fraction)? * 16f64.powi(-fraction_digits)) * 2f64.powi(exponent))
}

const KEYWORDS: [&str; 11] =
    ["block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"];

pub(super) fn describe(t: Tok<'_>) -> String {
    match t {
        Tok::Eof => "EOF".into(),
        Tok::Open => "\"{{\"".into(),
        Tok::Close => "\"}}\"".into(),
        Tok::Space => "\" \"".into(),
        Tok::Text(s) => format!("{s:?}"),
        Tok::Ident(s) if KEYWORDS.contains(&s) => format!("<{s}>"),
        Tok::Ident(s) => format!("{s:?}"),
        Tok::Field(s) => format!("{:?}", format!(".{s}")),
        Tok::Dot => "<.>".into(),
        Tok::Var(s) | Tok::Number(s) | Tok::Char(s) | Tok::Str(s) | Tok::RawStr(s) => format!("{s:?}"),
        Tok::Declare => "\":=\"".into(),
        Tok::Assign => "\"=\"".into(),
        Tok::Pipe => "\"|\"".into(),
        Tok::Comma => "\",\"".into(),
        Tok::LeftParen => "\"(\"".into(),
        Tok::RightParen => "\")\"".into(),
    }
}

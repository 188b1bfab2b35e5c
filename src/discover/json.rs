//! JSON is nearly YAML. This mends the two differences that real files have, before the YAML parser reads them:
//! several objects after one another (`kubectl get -o json` in a loop, log lines) are cut apart, and a character
//! beyond the basic plane, which JSON writes as two escapes, becomes the one escape that YAML wants.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// A part of a file that is parsed for itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) text: Cow<'a, str>,
    /// Line ends of the file before it.
    pub(super) lines_before: u32,
}

/// Cuts `text` after each JSON object as long as there is one; what follows, or all of a file that does not begin
/// with an object, is one piece.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut ends = Vec::new();
    if text.trim_start().starts_with('{') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        while let Some(Ok(_)) = stream.next() {
            ends.push(stream.byte_offset());
        }
    }
    let mut all = Vec::new();
    let (mut start, mut lines_before) = (0, 0u32);
    for end in ends {
        let part = &text[start..end];
        all.push(Piece { text: join_surrogates(part), lines_before });
        let lines = part.bytes().filter(|b| *b == b'\n').count();
        lines_before = lines_before.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        start = end;
    }
    if !text[start..].trim().is_empty() {
        all.push(Piece { text: Cow::Borrowed(&text[start..]), lines_before });
    }
    all
}

/// `\ud83d\ude00` becomes `\U0001F600`; a half without its partner becomes the replacement character, as Go has it.
fn join_surrogates(json: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = json[at..].find('\\') {
        let escape = at + found;
        let Some(high) = escaped_unit(&json[escape..]) else {
            // Past the backslash and what it escapes, which is one ASCII character in valid JSON.
            at = escape + 1 + json[escape + 1..].chars().next().map_or(0, char::len_utf8);
            continue;
        };
        at = escape + 6;
        if !(0xd800..0xe000).contains(&high) {
            continue;
        }
        let pair = [high, escaped_unit(&json[at..]).unwrap_or(0)];
        let (character, length) = match char::decode_utf16(pair).next() {
            Some(Ok(c)) => (c, 12),
            _ => (char::REPLACEMENT_CHARACTER, 6),
        };
        out.push_str(&json[copied..escape]);
        out.push_str(&format!("\\U{:08X}", u32::from(character)));
        at = escape + length;
        copied = at;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// The UTF-16 unit of a `\uXXXX` at the start of `text`.
fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_are_cut_apart_with_their_lines() {
        let all = pieces("{\n}\n{}{}\n\nkind: Pod\n");
        let got: Vec<_> = all.iter().map(|p| (p.text.as_ref(), p.lines_before)).collect();
        assert_eq!(got, [("{\n}", 0), ("\n{}", 1), ("{}", 2), ("\n\nkind: Pod\n", 2)]);
        assert_eq!(pieces("a: {}\n---\n{}").len(), 1);
        assert_eq!(pieces("{a: 1}\n").len(), 1);
        assert_eq!(pieces(" \n"), []);
    }

    #[test]
    fn halves_are_joined() {
        for (json, yaml) in [
            (r#""\ud83d\ude00 \u00e9""#, r#""\U0001F600 \u00e9""#),
            (r#""\\ud83d\ude00""#, r#""\\ud83d\U0000FFFD""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\U0000FFFD\U0001F600""#),
            (r#""\ud83dx""#, r#""\U0000FFFDx""#),
            (r#""plain \n \" ""#, r#""plain \n \" ""#),
        ] {
            assert_eq!(join_surrogates(json), yaml);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "(\\{\\}|\\{\"a\":\"\\PC{0,3}\"\\}|\n| |[a-z:]{1,3}){0,12}") {
            let all = pieces(&text);
            let whole: String = all.iter().map(|p| p.text.as_ref()).collect();
            prop_assume!(!text.contains('\\'));
            prop_assert!(text.starts_with(&whole) && text[whole.len()..].trim().is_empty());
        }

        #[test]
        fn any_escapes_are_survived(text in "[\\\\u0d8eé\"{}]{0,40}") {
            join_surrogates(&text);
        }
    }
}

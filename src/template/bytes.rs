//! Bytes that are no text, in strings.
//!
//! A string of Go is any sequence of bytes: `.Files.Get` of a keystore is one, and `b64enc` of it gives the keystore
//! back. Rust's strings are UTF-8, so a byte that is not part of any character is kept as one of the last 128 code points of
//! Unicode's last private plane (byte 0x80 as U+10FF80 … byte 0xFF as U+10FFFF), which no text uses, and becomes a
//! byte again where a function asks for bytes. Python's `surrogateescape` is the same idea. What is printed shows U+FFFD, as
//! Go's encoders do.

use std::borrow::Cow;

const BASE: u32 = 0x0010_FF00;
/// How all those code points, and few others, start in UTF-8.
const LEAD: u8 = 0xf4;

/// Text of bytes, whatever they are.
pub(crate) fn from_bytes(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|b| char::from_u32(BASE + u32::from(*b))));
    }
    out
}

/// The bytes that [`from_bytes`] was given.
pub(crate) fn to_bytes(text: &str) -> Cow<'_, [u8]> {
    if !has_stray(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match stray(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// As the bytes are shown: each that is no text as U+FFFD.
pub(crate) fn printable(text: String) -> String {
    if has_stray(&text) { text.chars().map(shown).collect() } else { text }
}

/// As [`printable`], of borrowed text.
pub(crate) fn shown_text(text: &str) -> Cow<'_, str> {
    if has_stray(text) { Cow::Owned(text.chars().map(shown).collect()) } else { Cow::Borrowed(text) }
}

/// As [`printable`], of one character.
pub(crate) fn shown(c: char) -> char {
    if stray(c).is_some() { char::REPLACEMENT_CHARACTER } else { c }
}

/// The byte that a character stands for.
pub(crate) fn stray(c: char) -> Option<u8> {
    u8::try_from(u32::from(c).checked_sub(BASE)?).ok().filter(|b| *b >= 0x80)
}

fn has_stray(text: &str) -> bool {
    text.as_bytes().contains(&LEAD) && text.chars().any(|c| stray(c).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(to_bytes(&from_bytes(&all)), all);
        assert_eq!(printable(from_bytes(b"a\xffb\xc3(")), "a\u{fffd}b\u{fffd}(");
        assert_eq!(from_bytes("grün".as_bytes()), "grün");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(to_bytes(&from_bytes(&bytes)).into_owned(), bytes);
        }
    }
}

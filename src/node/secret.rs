use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A password. Neither `Debug` nor `Display` nor serialising shows it; [`Secret::expose`] is the one way to the value,
/// so that every use of it can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The first line of a file. Errors are in words, without what is in it.
    pub(crate) fn from_file(path: &std::path::Path) -> Result<Self, String> {
        use std::io::Read as _;

        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(64 << 10).read_to_string(&mut text))
            .map_err(|e| format!("cannot read the password in {}: {e}", path.display()))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() && !line.contains('\0') => Ok(Self::new(line)),
            _ => Err(format!("{} has no password in its first line", path.display())),
        }
    }

    /// The value itself. Must go nowhere but into the peer's standard input.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Not derived: serde's own message for a wrong type quotes the value (`invalid type: integer 1234`), and a password of
/// digits without quotes is just that.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                if text.is_empty() || text.contains(['\n', '\r', '\0']) {
                    return Err(E::custom("a password must be one line of text and not empty"));
                }
                Ok(Secret::new(text))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom("a password must be a string: put it in quotes"))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                self.visit_bool(true)
            }

            fn visit_i128<E: Error>(self, _: i128) -> Result<Secret, E> {
                self.visit_bool(true)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                self.visit_bool(true)
            }

            fn visit_u128<E: Error>(self, _: u128) -> Result<Secret, E> {
                self.visit_bool(true)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                self.visit_bool(true)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_never_shows() {
        let secret: Secret = serde_yaml::from_str("'hunter2'").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn a_password_without_quotes_is_not_quoted_in_the_error() {
        for yaml in ["48151623", "-48151623", "4815.1623", "481516234815162348151623", "true"] {
            let text = serde_yaml::from_str::<Secret>(yaml).unwrap_err().to_string();
            assert!(!text.contains("4815"), "{text}");
            assert!(text.contains("quotes") || text.contains("string"), "{text}");
        }
        // More digits than any number has: YAML says string.
        let long = serde_yaml::from_str::<Secret>(&"4".repeat(80));
        assert!(long.is_ok() || !long.unwrap_err().to_string().contains("4444"));
    }
}

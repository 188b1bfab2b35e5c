//! One place that says how an error of the library is told: exit code, message, way out.

use super::{exit, warn};

/// An error at the end of a command.
#[derive(Debug)]
pub struct CliError {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl CliError {
    /// With [`exit::FAILED`].
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: exit::FAILED, message: message.into(), hint: None }
    }

    /// With [`exit::USAGE`]: what was asked for makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, ..Self::failed(message) }
    }

    /// With [`exit::CANCELLED`].
    pub fn cancelled() -> Self {
        Self { code: exit::CANCELLED, ..Self::failed("stopped") }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The same with what the user can do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// One of [`exit`].
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Tells it on standard error.
    pub fn report(&self) {
        warn(&format!("error: {}", self.message));
        if let Some(hint) = &self.hint {
            warn(&format!("hint: {hint}"));
        }
    }
}

/// A library error whose text already says all: the message is its `Display`.
impl<E: std::error::Error> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::failed(error.to_string())
    }
}

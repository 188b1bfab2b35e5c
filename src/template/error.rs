//! What can go wrong in a template, worded as Go's `text/template` words it.

use std::sync::Arc;

use super::ast::Pos;

/// A template that is not well formed, before it is known in which file.
#[derive(Debug, Clone)]
pub(crate) struct SyntaxError {
    pub(crate) pos: Pos,
    pub(crate) reason: String,
}

impl SyntaxError {
    pub(crate) fn new(pos: Pos, reason: impl Into<String>) -> Self {
        Self { pos, reason: reason.into() }
    }
}

/// Why a template could not be parsed or executed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TemplateError {
    /// The text is not a template. Worded as Helm does.
    #[error("parse error at ({template}:{line}): {}", last_part(.reason))]
    Parse {
        /// Name of the template, for a chart its path.
        template: String,
        /// Line in that template, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The template was executed and failed.
    #[error("{0}")]
    Exec(Box<ExecError>),
    /// No template of this name exists.
    #[error("template: no template {0:?} associated with template \"gotpl\"")]
    Missing(String),
    /// The template asks for more than the bounds on foreign code allow.
    #[error("{template}: {reason}")]
    Limit {
        /// The template that was executed.
        template: String,
        /// Which bound was met, and at what.
        reason: String,
    },
}

/// A failure at one place of one template; the cause may be a failure in a template that was included there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("template: {location}: executing {template:?} at <{node}>: {cause}")]
pub struct ExecError {
    /// `file:line:column`, line counted from 1 and column from 0 as in Go.
    pub location: String,
    /// The template (file or define) that was being executed.
    pub template: String,
    /// The failing command as Go prints it.
    pub node: String,
    /// What happened there.
    pub cause: Cause,
}

/// The cause of an [`ExecError`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// A failure in this very place.
    #[error("{0}")]
    Text(String),
    /// A called function gave an error.
    #[error("error calling {func}: {error}")]
    Calling {
        /// Name of the function.
        func: String,
        /// Its error.
        error: FnError,
    },
}

/// What a template function fails with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FnError {
    /// The function refuses its arguments before it runs: reported without "error calling".
    #[error("{0}")]
    Argument(String),
    /// An ordinary failure.
    #[error("{0}")]
    Text(String),
    /// The chart itself asked to stop: `fail` and `required`.
    #[error("{0}")]
    Fail(String),
    /// A template that cannot be executed at all.
    #[error("{0}")]
    Template(String),
    /// Failure inside a template that the function executed, such as `include`.
    #[error("{0}")]
    Exec(Box<ExecError>),
    /// The same, within text given to `tpl`.
    #[error("error during tpl function execution for {text:?}: {error}")]
    Tpl {
        /// The text given to `tpl`.
        text: Arc<str>,
        /// What failed in it.
        error: Box<TemplateError>,
    },
}

/// What stands behind the last colon: Helm keeps no more of a parse error.
fn last_part(reason: &str) -> &str {
    reason.rsplit(": ").next().unwrap_or(reason)
}

impl TemplateError {
    /// As Go words it, without Helm's own introduction.
    pub(crate) fn in_go(&self) -> String {
        match self {
            Self::Parse { template, line, reason } => format!("template: {template}:{line}: {reason}"),
            other => other.to_string(),
        }
    }
}

impl FnError {
    pub(crate) fn text(s: impl Into<String>) -> Self {
        Self::Text(s.into())
    }
}

impl ExecError {
    /// The message of `fail` or `required`, if one of them is what stopped the template.
    pub fn fail_message(&self) -> Option<&str> {
        match &self.cause {
            Cause::Text(_) => None,
            Cause::Calling { error, .. } => match error {
                FnError::Fail(m) => Some(m),
                FnError::Exec(e) => e.fail_message(),
                FnError::Tpl { error, .. } => match &**error {
                    TemplateError::Exec(e) => e.fail_message(),
                    _ => None,
                },
                FnError::Argument(_) | FnError::Text(_) | FnError::Template(_) => None,
            },
        }
    }

    /// The message as `helm template` shows it: the place and text of a `fail`; the trace from the file down to the
    /// innermost failure, one place a line, if that is a failure of the template itself; else all on one line, as
    /// Helm leaves it when a function failed.
    pub fn helm_message(&self) -> String {
        if let Some(message) = self.fail_message() {
            return format!("execution error at ({}): {message}", self.location);
        }
        let mut places = Vec::new();
        if self.trace(&mut places) { places.concat().trim().to_owned() } else { self.to_string() }
    }

    /// Adds the places of the trace, each once where it repeats itself; false if Helm would not take the message apart.
    fn trace(&self, out: &mut Vec<String>) -> bool {
        let (message, inner) = match &self.cause {
            Cause::Text(t) => (t.clone(), None),
            Cause::Calling { func, error: FnError::Exec(e) } => (format!("error calling {func}:"), Some(e)),
            Cause::Calling { func, error: FnError::Template(e) } => {
                (format!("error calling {func}:\n{e}"), None)
            }
            Cause::Calling { .. } => return false,
        };
        let Self { location, template, node, .. } = self;
        let place = format!("{location}\n  executing {template:?} at <{node}>:\n    {message}\n");
        if out.last() != Some(&place) {
            out.push(place);
        }
        inner.is_none_or(|e| e.trace(out))
    }
}

//! Go's `text/template` with the functions of Sprig and Helm, executed by minijinja.
//!
//! A template is lexed and parsed as Go does, lowered to minijinja template source (`lower.rs` says how each construct
//! maps), compiled once, and executed on values that behave like Go's ([`value`]). The functions are tables of names
//! and implementations (`funcs/`).
//!
//! The module is pure: the clock and randomness come from an [`Env`], and there are no files and no network. Charts
//! are foreign code, so everything is bounded by [`Limits`].

mod account;
mod ast;
mod bounds;
pub(crate) mod bytes;
mod check;
mod choices;
mod clock;
mod engine;
mod error;
mod exec;
mod fmt;
mod funcs;
mod goregex;
mod lex;
mod lower;
mod parse;
mod runtime;
mod site;
mod span;
pub mod value;

pub(crate) use bounds::MAX_TEXT;
pub(crate) use choices::{Choice, Speech, speakers, survey};
pub use engine::Engine;
pub use error::{Cause, ExecError, FnError, TemplateError};
pub(crate) use fmt::{quote as go_quote, sprintf};
pub(crate) use funcs::to_yaml;
pub use funcs::{Function, Source, functions};

/// Whether `version` meets a constraint of Masterminds' semver; one that cannot be read is not met.
pub(crate) fn semver_satisfies(constraint: &str, version: &str) -> bool {
    funcs::satisfies(constraint, version)
}

/// What Go says is wrong with a regular expression; nothing if it is one.
pub(crate) fn wrong_pattern(pattern: &str) -> Option<String> {
    goregex::translate(pattern).err()
}

/// How two versions stand to each other; none if one of them is no version.
pub(crate) fn semver_order(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    funcs::semver_order(a, b)
}

/// Stack that a thread needs for templates that include each other as deep as [`Limits`] allows by default.
pub const STACK_BYTES: usize = 1 << 30;

/// What templates may ask of the world outside.
pub trait Env: Send + Sync {
    /// The time for `now`, in nanoseconds since 1970-01-01 UTC.
    fn now_nanos(&self) -> i128;

    /// Fills `buffer` with random bytes, for `randAlphaNum`, `uuidv4`, `genCA` and the like.
    fn random(&self, buffer: &mut [u8]);

    /// Whether `fail` and `required` let the template go on, as they do in `helm lint`, and `include` of a template that
    /// is not there.
    fn is_lenient(&self) -> bool {
        false
    }
}

/// Bounds on what the templates of one [`Engine`] may cost together.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Templates within each other by `include`, `template` and `tpl`. Default 1000, Helm's own bound.
    pub max_depth: u64,
    /// Steps: function calls, executed nodes of loops and included templates, elements of lists, bytes of arguments
    /// by how slow the function is. Default 10 million.
    pub max_calls: u64,
    /// Bytes of text that functions make and templates print, included ones too, one after the other. Default 512 MiB.
    pub max_bytes: u64,
    /// Bytes that all values and texts may take in memory at one time, by estimate. Default 96 MiB.
    pub max_held: u64,
    /// Elements that `until`, `seq`, `repeat` or a range over an integer may make. Default one million.
    pub max_items: i64,
    /// Units of deliberately slow work, each some 25 ms of a processor: bcrypt and an RSA key of 2048 bits 2,
    /// `derivePassword` 4, an RSA key of 4096 bits 16, a DSA key 80. Default 120: one real chart makes more than 50
    /// keys.
    pub max_costly: u64,
    /// Instructions of minijinja in one execution of one template. Default 20 million.
    pub fuel: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 1000,
            max_calls: 10_000_000,
            max_bytes: 512 << 20,
            max_held: 96 << 20,
            max_items: 1_000_000,
            max_costly: 120,
            fuel: 20_000_000,
        }
    }
}

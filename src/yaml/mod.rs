//! One YAML front for the whole project: parsing with positions, and emitting as Helm's `toYaml` does.
//!
//! Everything that Kubernetes tools read goes through `sigs.k8s.io/yaml`, which is go-yaml v2 (YAML 1.1 scalars on
//! libyaml's scanner) followed by a conversion to JSON. This module does the same on `libyaml-safer`, libyaml's port
//! to safe Rust, so that a document means here what it means to `helm` and `kubectl`: `yes` and `on` are booleans,
//! `0777` is octal, mapping keys are strings.
//!
//! Two things go beyond upstream: every [`Node`] knows its place in the file, and [`parse_stream`] keeps the good
//! documents of a stream in which one is bad.
//!
//! The module is pure: it sees text and returns values.

mod emit;
mod node;
mod parse;
mod scalar;

pub use emit::{Sink, compare_keys, emit, emit_with};
pub use node::{Document, Limits, Node, Value, YamlError};
pub(crate) use parse::parse_keys;
pub use parse::{documents, parse_one, parse_stream};
pub use scalar::{format_float, resolve_plain};
pub(crate) use scalar::{integer as parse_go_int, shortest as shortest_between, shortest_float};

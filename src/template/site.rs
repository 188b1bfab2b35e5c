//! Places in templates: what an error names, and what a helper is to call there.

use std::sync::Arc;

use super::ast::{Cmd, Pos};
use super::funcs::Known;

/// A place in a template at which something can fail.
#[derive(Debug)]
pub(crate) struct Site {
    /// The file or define that is executed.
    pub(crate) template: Arc<str>,
    /// The file, and the offset into it.
    pub(crate) file: Arc<SourceFile>,
    pub(crate) pos: Pos,
    /// The node as Go prints it; empty where a command is kept instead.
    pub(crate) node: String,
    pub(crate) what: What,
}

impl Site {
    /// The node as Go prints it.
    pub(crate) fn shown(&self) -> String {
        match &self.what {
            What::Call { cmd: Some(cmd), .. } => cmd.to_string(),
            _ => self.node.clone(),
        }
    }
}

/// What a site calls.
#[derive(Debug)]
pub(crate) enum What {
    Call {
        func: &'static Known,
        /// The command, unless it is a function's bare name.
        cmd: Option<Arc<Cmd>>,
        /// The arguments, a bit each, that Go has as `interface {}` when they are nil: such a nil fits no other type.
        interfaces: u64,
    },
    /// Steps of the body of a range.
    Range(u64),
    Fields {
        names: Vec<Arc<str>>,
        /// The base is an element that a range gives: its Go type is `interface {}` whatever it holds, and nil is an
        /// error rather than nil.
        element: bool,
    },
    Other,
}

/// A template file's text, for the line and column of a site.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
}

impl SourceFile {
    /// Line from 1 and column in bytes from 0, as Go's `ErrorContext` counts.
    pub(crate) fn location(&self, pos: Pos) -> (usize, usize) {
        let before = &self.text.as_bytes()[..pos.min(self.text.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = before.iter().rev().take_while(|b| **b != b'\n').count();
        (line, column)
    }
}

//! What a parsed document is made of.

use indexmap::IndexMap;

/// A value with the place where it was written.
///
/// For an aliased value (`*name`) and for what a merge key (`<<`) brings in, the place is that of the anchored
/// original, which is where the text to be mended is.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The resolved value.
    pub value: Value,
    /// Line in the file, counted from 1.
    pub line: u32,
    /// Column in the line, counted from 1 in characters.
    pub column: u32,
}

/// A YAML value as JSON would know it: mapping keys are strings.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~`, or nothing at all.
    Null,
    /// A boolean of YAML 1.1, thus also `yes`, `no`, `on`, `off`, `y` and `n`.
    Bool(bool),
    /// An integer that fits into 64 bits with a sign.
    Int(i64),
    /// An integer beyond `i64::MAX`; never holds a smaller one.
    UInt(u64),
    /// A float; may be infinite or not a number, which JSON cannot say.
    Float(f64),
    /// Everything else, timestamps included.
    Str(String),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping in the order of the file; a key that is a number or a boolean is spelled as JSON would.
    Map(IndexMap<String, Node>),
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map().and_then(|m| m.get(key))
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The items, if this is a sequence.
    pub fn as_seq(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Seq(s) => Some(s),
            _ => None,
        }
    }

    /// The entries, if this is a mapping.
    pub fn as_map(&self) -> Option<&IndexMap<String, Node>> {
        match &self.value {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// What Go's JSON decoder calls the kind of value.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::UInt(_) | Value::Float(_) => "number",
            Value::Str(_) => "string",
            Value::Seq(_) => "array",
            Value::Map(_) => "object",
        }
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

/// One document of a stream, good or bad.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Position among the documents of the stream, counted from 0; empty documents do not count.
    pub index: usize,
    /// Line of the file at which the document starts, counted from 1: that of its first value, or for a bad
    /// document that of its first line with text.
    pub line: u32,
    /// The root value, or why there is none.
    pub result: Result<Node, YamlError>,
}

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct YamlError {
    /// Line in the file, counted from 1.
    pub line: u32,
    /// Column in the line, counted from 1.
    pub column: u32,
    /// What is wrong, as a lowercase fragment.
    pub reason: String,
}

impl YamlError {
    /// As `sigs.k8s.io/yaml` words it, with the exact place in parentheses: go-yaml v2 tells no column, of what the
    /// scanner meets the line, of what the parser meets the line before, and on the first line none at all.
    pub fn upstream(&self) -> String {
        let Self { line, column, reason } = self;
        if reason.starts_with("error ") {
            return format!("{reason} (line {line}, column {column})");
        }
        let (problem, context) = match reason.find(" while ") {
            Some(at) => reason.split_at(at),
            None => (reason.as_str(), ""),
        };
        let of_scanner = context.contains("scanning") || context.is_empty();
        let told = match line.saturating_sub(1) {
            0 => String::new(),
            _ if reason.starts_with("unknown anchor") || reason.starts_with("cannot decode") => String::new(),
            before => format!("line {}: ", if of_scanner { *line } else { before }),
        };
        let yaml = if reason.starts_with("json: ") { "" } else { "yaml: " };
        format!(
            "error converting YAML to JSON: {yaml}{told}{problem} (line {line}, column {column}{context})"
        )
    }
}

/// Bounds on what one stream may cost. The defaults are far above what real manifests need.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Levels of nesting in one document. Default 200.
    pub max_depth: usize,
    /// Values in one document after aliases are expanded; stops "billion laughs". A mapping counts for four, and what
    /// has an anchor twice. Default 2 million.
    pub max_nodes: usize,
    /// Bytes of one document. Default 64 MiB.
    pub max_document_bytes: usize,
    /// Whether a repeated key is accepted and the last one wins, as in `sigs.k8s.io/yaml`'s lenient mode, which is
    /// how Helm reads values and `fromYaml`. The default is to refuse it, as `kubectl` does.
    pub allow_duplicate_keys: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 200,
            max_nodes: 2_000_000,
            max_document_bytes: 64 << 20,
            allow_duplicate_keys: false,
        }
    }
}

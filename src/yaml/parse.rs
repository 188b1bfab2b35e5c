//! Text to documents.

use std::collections::HashMap;
use std::io::{BufReader, Chain, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use indexmap::IndexMap;
use libyaml_safer::{Event, EventData, Mark, Parser, ScalarStyle};

use super::scalar::{resolve_plain, resolve_tagged};
use super::{Document, Limits, Node, Value, YamlError};

/// Reads every document of `text`.
///
/// The text is first cut at its document markers (`---` at the start of a line, which YAML takes for a marker even
/// within a block scalar), and each piece is parsed for itself: a bad document costs only itself. Documents without
/// any value are left out. JSON is read too, being YAML.
///
/// ```
/// use omk::yaml::{parse_stream, Limits};
/// let docs = parse_stream("a: 1\n---\nb: [\n---\nc: yes\n", &Limits::default());
/// assert_eq!(docs.len(), 3);
/// assert!(docs[1].result.is_err());
/// let c = docs[2].result.as_ref().unwrap();
/// assert_eq!(c.get("c").unwrap().as_bool(), Some(true));
/// assert_eq!(c.get("c").unwrap().line, 5);
/// ```
pub fn parse_stream(text: &str, limits: &Limits) -> Vec<Document> {
    documents(text, limits).collect()
}

/// [`parse_stream`] one document at a time, for streams of many: what the caller dropped takes no memory any more.
pub fn documents<'a>(text: &'a str, limits: &'a Limits) -> impl Iterator<Item = Document> + use<'a> {
    documents_of(text, limits, None)
}

/// Names of keys at the top of a document; all, if none are named.
type Only = Option<&'static [&'static str]>;

fn documents_of<'a>(
    text: &'a str,
    limits: &'a Limits,
    only: Only,
) -> impl Iterator<Item = Document> + use<'a> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut before = 0;
    split(text).into_iter().flat_map(move |chunk| {
        let mut found = Vec::new();
        parse_chunk(&chunk, limits, only, &mut found);
        found.iter_mut().for_each(|d| d.index += before);
        before += found.len();
        found
    })
}

/// Reads the first document of `text`, or null if there is none.
///
/// # Errors
///
/// If that document is not YAML or goes beyond `limits`.
pub fn parse_one(text: &str, limits: &Limits) -> Result<Node, YamlError> {
    first(documents(text, limits))
}

/// [`parse_one`], but of a mapping only these keys are kept. The rest is read and checked like them, in half of the time.
pub(crate) fn parse_keys(
    text: &str,
    limits: &Limits,
    only: &'static [&'static str],
) -> Result<Node, YamlError> {
    first(documents_of(text, limits, Some(only)))
}

fn first(mut documents: impl Iterator<Item = Document>) -> Result<Node, YamlError> {
    match documents.next() {
        Some(doc) => doc.result,
        None => Ok(Node { value: Value::Null, line: 1, column: 1 }),
    }
}

struct Chunk<'a> {
    text: &'a str,
    /// Lines of the file before the chunk.
    lines_before: u32,
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Cuts `text` before each document marker. Directives (`%YAML 1.1`) stay with the document they precede.
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let (mut offset, mut line_no) = (0, 0u32);
    let mut only_prologue = true;
    for line in text.split_inclusive('\n') {
        if is_marker(line) {
            if !only_prologue {
                chunks.push(Chunk { text: &text[start..offset], lines_before: start_line });
                (start, start_line) = (offset, line_no);
            }
            only_prologue = false;
        } else if only_prologue {
            let t = line.trim();
            only_prologue = t.is_empty() || t.starts_with(['#', '%']);
        }
        offset += line.len();
        line_no = line_no.saturating_add(1);
    }
    if start < text.len() {
        chunks.push(Chunk { text: &text[start..], lines_before: start_line });
    }
    chunks
}

fn parse_chunk(chunk: &Chunk<'_>, limits: &Limits, only: Only, out: &mut Vec<Document>) {
    let first_text = || {
        let lead = chunk.text.lines().take_while(|l| {
            let l = l.trim();
            l.is_empty() || l.starts_with('#') || l == "---"
        });
        chunk.lines_before.saturating_add(u32::try_from(lead.count()).unwrap_or(u32::MAX)).saturating_add(1)
    };
    if chunk.text.len() > limits.max_document_bytes {
        let reason = format!(
            "document has {} bytes, more than the {} that are allowed; split it",
            chunk.text.len(),
            limits.max_document_bytes
        );
        let line = first_text();
        out.push(Document { index: out.len(), line, result: Err(YamlError { line, column: 1, reason }) });
        return;
    }
    let mut parser = Parser::new();
    // The scanner panics on a block scalar whose last line does not end, where libyaml in C finds its closing zero.
    let text = without_blank_end(chunk.text);
    let unended = !text.ends_with('\n');
    // A character that begins with the first byte of a byte order mark (U+F000 to U+FFFF) is taken for a broken one.
    let mark = if text.as_bytes().first() == Some(&0xef) { &b"\xef\xbb\xbf"[..] } else { b"" };
    let end = if unended { &b"\n"[..] } else { b"" };
    // In pieces: of what it is given at once the scanner makes four bytes for each.
    let text_in_pieces = BufReader::with_capacity(PIECE, text.as_bytes());
    parser.set_input(mark.chain(text_in_pieces).chain(end));
    let mut composer = Composer {
        parser,
        limits,
        only,
        lines_before: chunk.lines_before,
        added_at: unended.then_some(text.len() as u64),
        last_column: text.rsplit('\n').next().unwrap_or("").chars().count() as u64,
        at: Mark::default(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    loop {
        match composer.document() {
            Ok(None) => return,
            Ok(Some(node)) if node.is_null() => {}
            Ok(Some(node)) => {
                out.push(Document { index: out.len(), line: node.line, result: Ok(node) });
            }
            Err(e) => {
                out.push(Document { index: out.len(), line: first_text(), result: Err(e) });
                return;
            }
        }
    }
}

/// Spaces alone in a last line that does not end are left out: they end what is before them, but with a line end
/// added they would be a line of their own in a block scalar, or not, depending on how far that is indented.
fn without_blank_end(text: &str) -> &str {
    let trimmed = text.trim_end_matches(' ');
    if trimmed.ends_with('\n') { trimmed } else { text }
}

/// Bytes that the scanner is given at once.
const PIECE: usize = 4 << 10;

/// A byte order mark or nothing, the text, a line end or nothing.
type Input<'a> = Chain<Chain<&'a [u8], BufReader<&'a [u8]>>, &'a [u8]>;

struct Composer<'a> {
    parser: Parser<Input<'a>>,
    /// Offset of a line end that is not in the file.
    added_at: Option<u64>,
    /// How many characters the last line has.
    last_column: u64,
    /// The end of the last event.
    at: Mark,
    limits: &'a Limits,
    only: Only,
    lines_before: u32,
    /// Value and size in nodes, or none while the anchored value is still open.
    anchors: HashMap<String, Option<(Node, usize)>>,
    nodes: usize,
}

impl Composer<'_> {
    /// libyaml-safer 0.3 panics on some input that is no YAML (`[!,`): then this document is bad, and no other. The
    /// parser is not used again after that.
    fn next(&mut self) -> Result<Event, YamlError> {
        let Ok(parsed) = catch_unwind(AssertUnwindSafe(|| self.parser.parse())) else {
            return Err(self.error(self.at, "the parser cannot make sense of what follows"));
        };
        let event = parsed.map_err(|e| {
            let mut mark = e.problem_mark().or_else(|| e.context_mark()).unwrap_or_default();
            let scanning = e.context().is_some_and(|c| c.contains("scanning"));
            // The scanner in C sees no line after the last one, unless a key there lacks its colon.
            let key_there = e.context_mark().is_some_and(|key| key.line + 1 == mark.line)
                && e.problem().starts_with("could not find expected ':'");
            if scanning && !key_there && self.added_at.is_some_and(|at| mark.index > at) {
                (mark.line, mark.column) = (mark.line.saturating_sub(1), self.last_column);
            }
            let reason = match e.context() {
                Some(context) => format!("{} {context}", e.problem()),
                None => e.problem().to_owned(),
            };
            self.error(mark, reason)
        })?;
        self.at = event.end_mark;
        Ok(event)
    }

    fn place(&self, mark: Mark) -> (u32, u32) {
        let one_based = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
        (one_based(mark.line).saturating_add(self.lines_before), one_based(mark.column))
    }

    fn error(&self, mark: Mark, reason: impl Into<String>) -> YamlError {
        let (line, column) = self.place(mark);
        YamlError { line, column, reason: reason.into() }
    }

    /// The next document, or none at the end of the stream.
    fn document(&mut self) -> Result<Option<Node>, YamlError> {
        loop {
            let event = self.next()?;
            match event.data {
                EventData::StreamEnd => return Ok(None),
                EventData::DocumentStart { .. } => break,
                _ => {}
            }
        }
        self.anchors.clear();
        self.nodes = 0;
        let first = self.next()?;
        let root = self.node(first, 0)?;
        self.next()?;
        Ok(Some(root))
    }

    fn count(&mut self, mark: Mark, n: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(n);
        if self.nodes > self.limits.max_nodes {
            let reason = format!(
                "document has more than {} values once its aliases are expanded",
                self.limits.max_nodes
            );
            return Err(self.error(mark, reason));
        }
        Ok(())
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, YamlError> {
        let mark = event.start_mark;
        let (line, column) = self.place(mark);
        if depth > self.limits.max_depth {
            let reason = format!("nested deeper than {} levels", self.limits.max_depth);
            return Err(self.error(mark, reason));
        }
        self.count(mark, 1)?;
        let before = self.nodes;
        let (anchor, value) = match event.data {
            EventData::Alias { anchor } => {
                return match self.anchors.get(&anchor) {
                    Some(Some((node, size))) => {
                        let (node, size) = (node.clone(), *size);
                        self.count(mark, size)?;
                        Ok(node)
                    }
                    Some(None) => Err(self.error(mark, format!("anchor '{anchor}' value contains itself"))),
                    None => Err(self.error(mark, format!("unknown anchor '{anchor}' referenced"))),
                };
            }
            EventData::Scalar { anchor, tag, mut value, plain_implicit, style, .. } => {
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if block && self.added_at.is_some_and(|at| event.end_mark.index > at) && value.ends_with('\n')
                {
                    value.pop();
                }
                let value = match tag.as_deref() {
                    Some(tag) if tag != "!" => {
                        resolve_tagged(tag, &value).map_err(|reason| self.error(mark, reason))?
                    }
                    _ if plain_implicit => resolve_plain(&value),
                    _ => Value::Str(value),
                };
                (anchor, value)
            }
            EventData::SequenceStart { anchor, .. } => {
                self.open(anchor.as_deref());
                let mut items = Vec::new();
                loop {
                    let event = self.next()?;
                    if matches!(event.data, EventData::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, depth + 1)?);
                }
                (anchor, Value::Seq(items))
            }
            EventData::MappingStart { anchor, .. } => {
                // It takes several times the memory of other values.
                self.count(mark, 3)?;
                self.open(anchor.as_deref());
                (anchor, Value::Map(self.mapping(depth)?))
            }
            other => return Err(self.error(mark, format!("unexpected event {other:?}"))),
        };
        let node = Node { value, line, column };
        if let Some(anchor) = anchor {
            let size = self.nodes - before;
            // Kept for aliases: within each other, anchors keep the same values again and again.
            self.count(mark, size)?;
            self.anchors.insert(anchor, Some((node.clone(), size)));
        }
        Ok(node)
    }

    /// Reads a value that nobody asks for; fails where [`Self::node`] does. What an alias may bring back is kept.
    fn skim(&mut self, event: Event, depth: usize) -> Result<(), YamlError> {
        let kept = match &event.data {
            EventData::Scalar { anchor, tag, .. } => anchor.is_some() || tag.is_some(),
            EventData::SequenceStart { anchor, .. } | EventData::MappingStart { anchor, .. } => {
                anchor.is_some()
            }
            _ => true,
        };
        if kept || depth > self.limits.max_depth {
            return self.node(event, depth).map(drop);
        }
        self.count(event.start_mark, 1)?;
        match event.data {
            EventData::SequenceStart { .. } => loop {
                let event = self.next()?;
                if matches!(event.data, EventData::SequenceEnd) {
                    return Ok(());
                }
                self.skim(event, depth + 1)?;
            },
            EventData::MappingStart { .. } => {
                self.count(event.start_mark, 3)?;
                loop {
                    let event = self.next()?;
                    let mark = event.start_mark;
                    if matches!(event.data, EventData::MappingEnd) {
                        return Ok(());
                    }
                    if is_merge(&event.data) {
                        let event = self.next()?;
                        let mark = event.start_mark;
                        let node = self.node(event, depth + 1)?;
                        self.merge(mark, node, &mut IndexMap::new())?;
                        continue;
                    }
                    let key = self.node(event, depth + 1)?;
                    self.key(mark, key)?;
                    let event = self.next()?;
                    self.skim(event, depth + 1)?;
                }
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, anchor: Option<&str>) {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.to_owned(), None);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<IndexMap<String, Node>, YamlError> {
        let mut map: IndexMap<String, Node> = IndexMap::new();
        // Keys written in this mapping itself; one that a merge brought in may be written again.
        let mut own: HashMap<String, u32> = HashMap::new();
        loop {
            let event = self.next()?;
            let mark = event.start_mark;
            if matches!(event.data, EventData::MappingEnd) {
                return Ok(map);
            }
            if is_merge(&event.data) {
                let event = self.next()?;
                let mark = event.start_mark;
                let node = self.node(event, depth + 1)?;
                self.merge(mark, node, &mut map)?;
                continue;
            }
            let key_node = self.node(event, depth + 1)?;
            let key = self.key(mark, key_node)?;
            let event = self.next()?;
            if depth == 0 && self.only.is_some_and(|only| !only.contains(&key.as_str())) {
                self.skim(event, 1)?;
                continue;
            }
            let value = self.node(event, depth + 1)?;
            if !self.limits.allow_duplicate_keys {
                let (line, _) = self.place(mark);
                if let Some(first) = own.insert(key.clone(), line) {
                    return Err(self.error(mark, format!("key {key:?} is already set on line {first}")));
                }
            }
            map.insert(key, value);
        }
    }

    /// Later keys win, and of several merged mappings the first wins: go-yaml v2's order, in which a merge also
    /// overrides what was written before it.
    fn merge(&self, mark: Mark, node: Node, into: &mut IndexMap<String, Node>) -> Result<(), YamlError> {
        let wrong = || self.error(mark, "a merge key (<<) needs a mapping or a sequence of mappings");
        match node.value {
            Value::Map(m) => into.extend(m),
            Value::Seq(items) => {
                for item in items.into_iter().rev() {
                    match item.value {
                        Value::Map(m) => into.extend(m),
                        _ => return Err(wrong()),
                    }
                }
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn key(&self, mark: Mark, node: Node) -> Result<String, YamlError> {
        Ok(match node.value {
            Value::Str(s) => s,
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::UInt(u) => u.to_string(),
            Value::Float(f) => float_key(f),
            Value::Null => return Err(self.error(mark, "null cannot be a mapping key")),
            Value::Seq(_) | Value::Map(_) => {
                return Err(self.error(
                    mark,
                    "a mapping key must be a scalar; is a template left unrendered or unquoted?",
                ));
            }
        })
    }
}

/// Whether it is the key that merges.
fn is_merge(data: &EventData) -> bool {
    let EventData::Scalar { tag, value, plain_implicit, .. } = data else { return false };
    value == "<<" && (*plain_implicit || tag.as_deref() == Some("tag:yaml.org,2002:merge"))
}

/// sigs.k8s.io/yaml formats a float key with the precision of 32 bits.
fn float_key(f: f64) -> String {
    #[allow(clippy::cast_possible_truncation)]
    let narrow = f as f32;
    if !narrow.is_finite() {
        return super::format_float(f);
    }
    narrow.to_string().parse().map_or_else(|_| narrow.to_string(), super::format_float)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

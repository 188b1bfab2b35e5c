//! Values to text, byte for byte as `sigs.k8s.io/yaml` (go-yaml v2 on libyaml) writes them.

use std::cmp::Ordering;

use libyaml_safer::{Emitter, Encoding, Event, MappingStyle, ScalarStyle, SequenceStyle};

use super::scalar::{is_base60, is_timestamp, resolve_plain};
use super::{Node, Value, YamlError};

/// Takes the parts of a document in their order; see [`emit_with`].
pub struct Sink<'a, 'w> {
    emitter: &'a mut Emitter<'w>,
}

impl Sink<'_, '_> {
    fn event(&mut self, event: Event) -> Result<(), YamlError> {
        self.emitter.emit(event).map_err(|e| failed(&e))
    }

    /// A text as it stands: the caller knows that it is read back as what it should be.
    pub fn plain(&mut self, text: &str) -> Result<(), YamlError> {
        self.event(Event::scalar(None, None, text, true, true, ScalarStyle::Plain))
    }

    /// `null`.
    pub fn null(&mut self) -> Result<(), YamlError> {
        self.plain("null")
    }

    /// `true` or `false`.
    pub fn bool(&mut self, b: bool) -> Result<(), YamlError> {
        self.plain(if b { "true" } else { "false" })
    }

    /// An integer.
    pub fn int(&mut self, i: i64) -> Result<(), YamlError> {
        self.plain(&i.to_string())
    }

    /// A float; one without a fraction that fits into 64 bits is written as an integer, because upstream passes
    /// through JSON.
    ///
    /// # Errors
    ///
    /// If it is not finite, which JSON cannot say.
    pub fn float(&mut self, f: f64) -> Result<(), YamlError> {
        if !f.is_finite() {
            return Err(YamlError { line: 0, column: 0, reason: format!("json: unsupported value: {f}") });
        }
        // As JSON writes it, with the shortest digits and zeros after them, an integer is read back as one.
        if f == f.trunc() && f.abs() < 18_446_744_073_709_551_616.0 {
            let text = f.to_string();
            if text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
                return self.plain(if text == "-0" { "0" } else { &text });
            }
        }
        self.plain(&super::format_float(f))
    }

    /// A string, quoted if it would be read as something else.
    pub fn str(&mut self, s: &str) -> Result<(), YamlError> {
        let style = if s.chars().any(is_astral) {
            ScalarStyle::DoubleQuoted
        } else if s.contains('\n') {
            ScalarStyle::Literal
        } else if matches!(resolve_plain(s), Value::Str(_)) && !is_base60(s) && !is_timestamp(s) {
            ScalarStyle::Plain
        } else {
            ScalarStyle::DoubleQuoted
        };
        self.event(Event::scalar(None, None, s, true, true, style))
    }

    /// A sequence whose items `items` gives.
    pub fn seq(&mut self, items: impl FnOnce(&mut Self) -> Result<(), YamlError>) -> Result<(), YamlError> {
        self.event(Event::sequence_start(None, None, true, SequenceStyle::Block))?;
        items(self)?;
        self.event(Event::sequence_end())
    }

    /// A mapping whose keys and values `entries` gives in turn, sorted by [`compare_keys`].
    pub fn map(&mut self, entries: impl FnOnce(&mut Self) -> Result<(), YamlError>) -> Result<(), YamlError> {
        self.event(Event::mapping_start(None, None, true, MappingStyle::Block))?;
        entries(self)?;
        self.event(Event::mapping_end())
    }

    fn node(&mut self, node: &Node) -> Result<(), YamlError> {
        match &node.value {
            Value::Null => self.null(),
            Value::Bool(b) => self.bool(*b),
            Value::Int(i) => self.int(*i),
            Value::UInt(u) => self.plain(&u.to_string()),
            Value::Float(f) => self.float(*f),
            Value::Str(s) => self.str(s),
            Value::Seq(items) => self.seq(|s| items.iter().try_for_each(|i| s.node(i))),
            Value::Map(m) => {
                let mut keys: Vec<&String> = m.keys().collect();
                keys.sort_by(|a, b| compare_keys(a, b));
                self.map(|s| {
                    keys.into_iter().try_for_each(|k| {
                        s.str(k)?;
                        m.get(k).map_or(Ok(()), |v| s.node(v))
                    })
                })
            }
        }
    }
}

fn failed(e: &libyaml_safer::Error) -> YamlError {
    YamlError { line: 0, column: 0, reason: format!("cannot write yaml: {}", e.problem()) }
}

/// One document, made of what `document` tells the [`Sink`]; ends in a newline.
///
/// # Errors
///
/// What `document` fails with.
pub fn emit_with(
    document: impl FnOnce(&mut Sink<'_, '_>) -> Result<(), YamlError>,
) -> Result<String, YamlError> {
    let mut out = Vec::new();
    let mut emitter = Emitter::new();
    emitter.set_output_string(&mut out);
    emitter.set_unicode(true);
    let mut sink = Sink { emitter: &mut emitter };
    sink.event(Event::stream_start(Encoding::Utf8))?;
    sink.event(Event::document_start(None, &[], true))?;
    document(&mut sink)?;
    sink.event(Event::document_end(true))?;
    // The stream is not ended: go-yaml writes no "..." after an open-ended scalar.
    emitter.flush().map_err(|e| failed(&e))?;
    drop(emitter);
    let text = String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    if !text.chars().any(is_astral) {
        return Ok(text);
    }
    // All of them stand in double quotes, where go-yaml escapes them and this emitter does not.
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_astral(c) {
            escaped.push_str(&format!("\\U{:08X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Ok(escaped)
}

/// Beyond the 16 bits that libyaml in C and Go takes for printable.
fn is_astral(c: char) -> bool {
    u32::from(c) > 0xffff
}

/// A parsed value as YAML text that ends in a newline.
///
/// # Errors
///
/// If it holds a number that is not finite.
pub fn emit(node: &Node) -> Result<String, YamlError> {
    emit_with(|s| s.node(node))
}

/// The order of mapping keys: go-yaml's, in which letters come after all else and numbers compare by value.
pub fn compare_keys(a: &str, b: &str) -> Ordering {
    let (ar, br): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = ar.iter().zip(&br).position(|(x, y)| x != y) else { return ar.len().cmp(&br.len()) };
    let (al, bl) = (ar[i].is_alphabetic(), br[i].is_alphabetic());
    if al && bl {
        return ar[i].cmp(&br[i]);
    }
    if al || bl {
        return if bl { Ordering::Less } else { Ordering::Greater };
    }
    let seed = (ar[i] == '0' || br[i] == '0')
        && ar[..i].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |r: &[char]| {
        let digits: Vec<u64> = r[i..].iter().map_while(|c| c.to_digit(10)).map(u64::from).collect();
        (digits.iter().fold(u64::from(seed), |n, d| n.wrapping_mul(10).wrapping_add(*d)), digits.len())
    };
    number(&ar).cmp(&number(&br)).then(ar[i].cmp(&br[i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Limits, parse_one};

    #[test]
    fn values_are_written_as_go_yaml_writes_them() {
        let cases = [
            ("b: [1, {x: y1}]\na: 'yes'", "a: \"yes\"\nb:\n- 1\n- x: y1\n"),
            ("a: \"l1\\nl2\"\nb: \"x\\n\\n\"\nc: \"t\\n\"", "a: |-\n  l1\n  l2\nb: |+\n  x\n\nc: |\n  t\n"),
            ("a: {}\nb: []\nc: null\nd: ''", "a: {}\nb: []\nc: null\nd: \"\"\n"),
            ("a10: 1\na9: 2\na: 3", "a: 3\na9: 2\na10: 1\n"),
            (
                "a: '012'\nb: '1e3'\nc: '12:30:45'\nd: '2001-01-01'",
                "a: \"012\"\nb: \"1e3\"\nc: \"12:30:45\"\nd: \"2001-01-01\"\n",
            ),
            ("a: 1.5\nb: 1000000.5\nc: 1e30", "a: 1.5\nb: 1.0000005e+06\nc: 1e+30\n"),
            (
                "a: '- x'\nb: 'a: b'\nc: ' x'\nd: '#x'\ne: '@x'",
                "a: '- x'\nb: 'a: b'\nc: ' x'\nd: '#x'\ne: '@x'\n",
            ),
            (
                "a: \"tab\\there\"\nb: \"\\u0001\"\nc: \"\u{1f600}\"",
                "a: \"tab\\there\"\nb: \"\\x01\"\nc: \"\\U0001F600\"\n",
            ),
        ];
        for (text, want) in cases {
            let node = parse_one(text, &Limits::default()).unwrap();
            assert_eq!(emit(&node).unwrap(), want, "{text}");
        }
    }
}

//! What templates have spent of their [`Limits`](super::Limits), and the refusals when that is too much.

use std::io::{self, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use minijinja::Error;
use minijinja::value::Value;

use super::account::{self, ITEM_BYTES, MAP_BYTES, SLOT_BYTES};
use super::ast::Node;
use super::error::{FnError, TemplateError};
use super::parse::Parsed;
use super::runtime::{Cx, Runtime};
use super::site::{Site, SourceFile};
use super::value::{Dict, MAX_VALUE_DEPTH, as_dict, as_list};

/// A longer text is refused, since most functions need a multiple of what they make.
pub(crate) const MAX_TEXT: usize = 8 << 20;
/// A template that prints more is refused.
const MAX_PRINTED: usize = 32 << 20;
/// Values that `fromYaml` and the like may make of one text.
pub(crate) const MAX_PARSED: usize = 200_000;
/// What the smallest of files takes once it is compiled, with its names.
pub(crate) const TEMPLATE_BYTES: usize = 4 << 10;
/// Compiled regular expressions that are kept, and bytes of them.
const MAX_REGEXES: usize = 64;
const MAX_REGEX_BYTES: usize = 8 << 20;

/// A compiled regular expression with an upper bound of its size.
#[derive(Clone)]
pub(crate) struct Pattern {
    pub(crate) regex: regex::Regex,
    bytes: usize,
}

#[derive(Default)]
pub(crate) struct Patterns {
    known: std::collections::HashMap<String, Pattern>,
    bytes: usize,
}

fn too_long() -> FnError {
    FnError::text(format!("a text of more than {MAX_TEXT} bytes is not allowed"))
}

impl Cx<'_> {
    /// Counts work that is slow on purpose, such as making keys.
    pub(crate) fn costly(&self, units: u64) -> Result<(), FnError> {
        let limit = self.rt.limits.max_costly;
        if self.rt.costly.fetch_add(units, Ordering::Relaxed) + units > limit {
            let reason = "templates ask for more keys, certificates and password hashes than is allowed";
            return Err(FnError::text(format!("{reason} ({limit} units)")));
        }
        Ok(())
    }

    /// Refuses a text of so many bytes, before it is made, if it is too long or there is no room for it.
    pub(crate) fn expect(&self, bytes: usize) -> Result<(), FnError> {
        if bytes > MAX_TEXT {
            return Err(too_long());
        }
        // With a copy, which is made when it becomes a value.
        self.expect_values(bytes * 2)
    }

    /// Refuses values of so many bytes if there is no room for them.
    pub(crate) fn expect_values(&self, bytes: usize) -> Result<(), FnError> {
        if bytes < 1 << 16 || self.rt.account.has_room(bytes) { Ok(()) } else { Err(self.rt.full()) }
    }

    /// Refuses that many parts of a text, as a list.
    pub(crate) fn expect_parts(&self, parts: usize) -> Result<(), FnError> {
        self.expect_values(parts.saturating_mul(2 * ITEM_BYTES + 40))
    }

    /// Counts `bytes` of text that was made.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), FnError> {
        if bytes > MAX_TEXT {
            return Err(too_long());
        }
        let total = self.rt.output.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if total > self.rt.limits.max_bytes {
            return Err(FnError::text(self.rt.too_much_text()));
        }
        Ok(())
    }

    /// Counts steps of a function's work.
    pub(crate) fn steps(&self, steps: usize) -> Result<(), FnError> {
        let steps = steps as u64;
        if self.rt.calls.fetch_add(steps, Ordering::Relaxed).saturating_add(steps) > self.rt.limits.max_calls
        {
            return Err(FnError::text(self.rt.too_many_steps()));
        }
        Ok(())
    }

    /// Random bytes, which the system is asked for: that takes as long as several other calls.
    pub(crate) fn random(&self, buffer: &mut [u8]) -> Result<(), FnError> {
        self.steps(8)?;
        self.rt.env.random(buffer);
        Ok(())
    }

    /// Counts the steps of a function for so many bytes of arguments.
    pub(crate) fn effort(&self, effort: Effort, bytes: usize) -> Result<(), FnError> {
        match bytes / effort.bytes_a_step {
            0 => Ok(()),
            steps => self.steps(steps),
        }
    }

    /// Sets an entry of a map. A new one counts, whatever map it is in, and is never given back.
    pub(crate) fn put(&self, map: &Dict, key: &str, value: Value) -> Result<(), FnError> {
        let bytes = SLOT_BYTES + 16 + key.len() + account::short(&value);
        let fits = match map.set(key, value) {
            false => true,
            true if map.len() == 1 => self.rt.account.take(bytes + MAP_BYTES),
            true => self.rt.account.take(bytes),
        };
        if fits { Ok(()) } else { Err(self.rt.full()) }
    }

    /// A compiled regular expression; charts use the same few again and again.
    ///
    /// Gives what is wrong with it in Go's words.
    pub(crate) fn regex(&self, pattern: &str) -> Result<Result<Pattern, String>, FnError> {
        let mut kept = self.rt.regexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.known.get(pattern) {
            return Ok(Ok(found.clone()));
        }
        self.steps(200 + pattern.len())?;
        let translated = match super::goregex::translate(pattern) {
            Ok(translated) => translated,
            Err(why) => return Ok(Err(why)),
        };
        let build = |bytes: usize| {
            regex::RegexBuilder::new(&translated).size_limit(bytes).dfa_size_limit(1 << 20).build()
        };
        let mut bytes = 1 << 14;
        let regex = loop {
            match build(bytes) {
                Err(regex::Error::CompiledTooBig(_)) if bytes < 1 << 20 => {
                    bytes <<= 3;
                    // What it takes to find out.
                    self.steps(bytes / 16)?;
                }
                other => break other,
            }
        };
        let regex = match regex {
            Ok(regex) => regex,
            Err(e) => {
                let text = e.to_string();
                let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                return Ok(Err(match why {
                    "Unicode property not found" => format!("invalid character class range: `{pattern}`"),
                    _ => format!("{why}: `{pattern}`"),
                }));
            }
        };
        let found = Pattern { regex, bytes };
        if kept.known.len() >= MAX_REGEXES || kept.bytes + bytes > MAX_REGEX_BYTES {
            *kept = Patterns::default();
        }
        kept.bytes += bytes;
        kept.known.insert(pattern.to_owned(), found.clone());
        Ok(Ok(found))
    }

    /// Counts a search in `text`: at worst, every byte of it meets every state of the expression.
    pub(crate) fn search(&self, pattern: &Pattern, text: &str) -> Result<(), FnError> {
        self.steps((text.len() / 2).saturating_mul(pattern.bytes >> 14))
    }

    /// Counts one of many matches in a text of which `left` bytes are left: to find where a match ends, all of them may
    /// have to be looked at.
    pub(crate) fn matched(&self, pattern: &Pattern, left: usize) -> Result<(), FnError> {
        self.steps((left / 128).saturating_mul(pattern.bytes >> 14) + 1)
    }
}

/// What a function does with its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// It goes through all of them, into lists and maps.
    pub(crate) walks: bool,
    bytes_a_step: usize,
}

impl Effort {
    pub(crate) fn of(name: &str) -> Self {
        let walks = walks(name);
        Self { walks, bytes_a_step: bytes_a_step(name, walks) }
    }
}

/// Functions that go through all of a value.
fn walks(name: &str) -> bool {
    name.contains("Yaml")
        || name.contains("Json")
        || name.contains("Toml")
        || name.contains("eepCopy")
        || name.contains("erge")
        || matches!(
            name,
            "print"
                | "printf"
                | "println"
                | "html"
                | "js"
                | "urlquery"
                | "quote"
                | "squote"
                | "cat"
                | "toString"
                | "toStrings"
                | "join"
                | "sortAlpha"
                | "deepEqual"
                | "has"
                | "mustHas"
                | "uniq"
                | "mustUniq"
                | "without"
                | "mustWithout"
                | "eq"
                | "ne"
        )
}

/// Bytes of arguments for each step that a function takes, beside those of the call; `walks` through all of them.
fn bytes_a_step(name: &str, walks: bool) -> usize {
    if name.starts_with("fromYaml") {
        // Far more than text for each of its bytes, whether the text turns out to be YAML or not.
        4
    } else if ["Yaml", "Toml", "AES", "sortAlpha"].iter().any(|part| name.contains(part)) {
        16
    } else if ["title", "swapcase", "wrap", "shuffle", "initials"].iter().any(|part| name.contains(part)) {
        // Character by character.
        16
    } else if walks || name.ends_with("case") || name.ends_with("sum") {
        64
    } else {
        256
    }
}

/// How a value is gone through.
#[derive(Clone, Copy, PartialEq)]
enum Walk {
    /// As text; deeper levels are indented.
    Text,
    /// To be copied.
    Copy,
}

impl Walk {
    fn cost(self, v: &Value, depth: usize) -> usize {
        match self {
            Self::Text => {
                let lines = |s: &str| if depth == 0 { 0 } else { s.bytes().filter(|b| *b == b'\n').count() };
                16 + 2 * depth + v.as_str().map_or(0, |s| s.len() + lines(s) * 2 * depth)
            }
            Self::Copy if as_dict(v).is_some() => MAP_BYTES,
            Self::Copy => ITEM_BYTES + SLOT_BYTES,
        }
    }

    /// Takes the cost of a value from what is left.
    fn go(self, v: &Value, left: &mut usize, depth: usize) -> bool {
        let Some(rest) = left.checked_sub(self.cost(v, depth)) else { return false };
        *left = rest;
        if depth > MAX_VALUE_DEPTH {
            return true;
        }
        if let Some(l) = as_list(v) {
            return l.items.iter().all(|v| self.go(v, left, depth + 1));
        }
        as_dict(v).is_none_or(|d| {
            d.read(|entries| {
                entries.iter().all(|(k, v)| {
                    *left = left.saturating_sub(k.len());
                    self.go(v, left, depth + 1)
                })
            })
        })
    }
}

impl Runtime {
    pub(crate) fn full(&self) -> FnError {
        FnError::text(self.too_full())
    }

    fn too_full(&self) -> String {
        format!("templates hold more than {} bytes at once", self.limits.max_held)
    }

    fn too_much_text(&self) -> String {
        format!("templates made more than {} bytes", self.limits.max_bytes)
    }

    fn too_many_steps(&self) -> String {
        format!("templates take more than {} steps", self.limits.max_calls)
    }

    /// Refuses arguments that would be too long as text. A map may contain itself more than once: without this, walking
    /// it could take longer than the universe lasts.
    /// Gives the bytes.
    pub(crate) fn walkable(&self, name: &str, args: &[Value]) -> Result<usize, FnError> {
        let walk = if name.contains("eepCopy") { Walk::Copy } else { Walk::Text };
        let mut left = MAX_TEXT;
        if !args.iter().all(|v| walk.go(v, &mut left, 0)) {
            let reason = format!("a value of more than {MAX_TEXT} bytes, or one that contains itself");
            return Err(FnError::text(reason));
        }
        Ok(MAX_TEXT - left)
    }

    /// Counts steps.
    pub(crate) fn work(&self, site: &Site, steps: u64) -> Result<(), Error> {
        if self.calls.fetch_add(steps, Ordering::Relaxed).saturating_add(steps) > self.limits.max_calls {
            return Err(self.text(site, self.too_many_steps()));
        }
        Ok(())
    }

    /// Counts a parsed file: its text, also as what it is lowered to and compiled to, and its trees.
    pub(crate) fn count_parsed(&self, file: &SourceFile, parsed: &Parsed) -> Result<(), TemplateError> {
        let nodes = parsed.trees.iter().flat_map(|t| &t.body).map(Node::weight).sum::<u64>();
        self.calls.fetch_add(nodes.saturating_mul(4), Ordering::Relaxed);
        let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
        let trees = nodes.saturating_mul(192).saturating_add(parsed.tokens.saturating_mul(128));
        self.count_fixed(&file.name, file.text.len().saturating_mul(4).saturating_add(trees))
    }

    /// Counts the places that errors may name in a template.
    pub(crate) fn count_places(&self, name: &str, places: usize) -> Result<(), TemplateError> {
        self.calls.fetch_add(places.saturating_mul(4) as u64, Ordering::Relaxed);
        self.count_fixed(name, places.saturating_mul(512))
    }

    /// Counts what stays until the end.
    pub(crate) fn count_fixed(&self, name: &str, bytes: usize) -> Result<(), TemplateError> {
        if self.account.take(bytes) {
            return Ok(());
        }
        Err(TemplateError::Limit { template: name.to_owned(), reason: self.too_full() })
    }
}

/// Where a template is printed to.
pub(crate) struct Printed<'a> {
    rt: &'a Runtime,
    text: Vec<u8>,
    /// Bytes that the account knows of.
    counted: usize,
    refused: Option<String>,
}

/// So many bytes at least are counted at once.
const CHUNK: usize = 1 << 14;

impl<'a> Printed<'a> {
    pub(crate) fn new(rt: &'a Runtime) -> Self {
        Self { rt, text: Vec::new(), counted: 0, refused: None }
    }

    /// Why nothing more could be printed, if so it was.
    pub(crate) fn refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// What was printed.
    ///
    /// # Errors
    ///
    /// If that is too much together with what was printed before.
    pub(crate) fn finish(mut self) -> Result<String, String> {
        let bytes = self.text.len() as u64;
        if self.rt.output.fetch_add(bytes, Ordering::Relaxed) + bytes > self.rt.limits.max_bytes {
            return Err(self.rt.too_much_text());
        }
        let text = std::mem::take(&mut self.text);
        Ok(String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn refuse(&mut self, reason: String) -> io::Error {
        self.refused = Some(reason);
        io::Error::other("too much text")
    }
}

impl Write for Printed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.text.len() + bytes.len();
        if len > MAX_PRINTED {
            let reason = format!("a template that prints more than {MAX_PRINTED} bytes is not allowed");
            return Err(self.refuse(reason));
        }
        if len > self.counted + CHUNK {
            let more = (len - self.counted).max(self.counted);
            self.counted += more;
            if !self.rt.account.take(more) {
                let reason = self.rt.too_full();
                return Err(self.refuse(reason));
            }
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Printed<'_> {
    fn drop(&mut self) {
        self.rt.account.give_back(self.counted);
    }
}

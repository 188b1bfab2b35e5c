//! What the templates of one rendering hold in memory at once, and how much of it they may.
//!
//! Values are counted references, and minijinja drops them as it likes. So the account keeps a reference of its own to
//! every larger value that a function made. Whenever the sum has doubled, those that nobody else refers to any more are
//! let go, and also when it goes beyond the limit; if what is left is still too much, the template is refused.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::Value;

use super::value::{Dict, List, Record};

/// Shorter texts are counted with the list or map that they are in.
const LONG: usize = 256;
/// What an entry of the ledger costs beside the value.
const ENTRY: usize = 96;
/// So much is not worth a look at what is still used.
const DUE: u64 = 1 << 20;
/// A map that is not empty; a map's entry; an element of a list.
pub(crate) const MAP_BYTES: usize = 560;
pub(crate) const SLOT_BYTES: usize = 64;
pub(crate) const ITEM_BYTES: usize = mem::size_of::<Value>();

pub(crate) struct Account {
    limit: u64,
    /// For what stays until the end, and for texts that are being written.
    fixed: AtomicU64,
    ledger: Mutex<Ledger>,
}

struct Ledger {
    /// In the order in which they were made.
    held: Vec<(Kept, usize)>,
    bytes: u64,
    /// When there are more bytes than that, it is time to let go of what is unused.
    due: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { held: Vec::new(), bytes: 0, due: DUE }
    }
}

enum Kept {
    Text(Arc<str>),
    List(Arc<List>),
    Dict(Arc<Dict>),
    Record(Arc<Record>),
}

impl Kept {
    fn is_unused(&self) -> bool {
        let references = match self {
            Self::Text(a) => Arc::strong_count(a),
            Self::List(a) => Arc::strong_count(a),
            Self::Dict(a) => Arc::strong_count(a) + usize::from(a.is_shared()),
            Self::Record(a) => Arc::strong_count(a),
        };
        references == 1
    }
}

impl Account {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, fixed: AtomicU64::new(0), ledger: Mutex::default() }
    }

    /// Whether `bytes` more would fit.
    #[must_use]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let fixed = self.fixed.load(Ordering::Relaxed).saturating_add(bytes as u64);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.fits(fixed, self.limit)
    }

    /// Takes `bytes` until the end, or until they are given back; whether they fit.
    #[must_use]
    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.fixed.fetch_add(bytes as u64, Ordering::Relaxed);
        self.has_room(0)
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.fixed.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what a function gave, unless it is a value that was there before; whether it fits.
    #[must_use]
    pub(crate) fn keep(&self, v: &Value) -> bool {
        if v.as_object().is_none() && v.as_str().is_none_or(|s| s.len() < LONG) {
            return true;
        }
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.add(v);
        if ledger.bytes > ledger.due {
            ledger.sweep();
            ledger.due = DUE.max(ledger.bytes.saturating_mul(2));
        }
        ledger.fits(self.fixed.load(Ordering::Relaxed), self.limit)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let ledger = self.ledger.get_mut().unwrap_or_else(PoisonError::into_inner);
        while ledger.held.pop().is_some() {}
    }
}

/// Bytes of a text that is not in the ledger by itself; the shortest ones stand in the value.
pub(crate) fn short(v: &Value) -> usize {
    v.as_str().map_or(0, |s| if (23..LONG).contains(&s.len()) { 16 + s.len() } else { 0 })
}

/// Bytes of a map with such entries, without larger values.
fn map_bytes<'a>(entries: impl Iterator<Item = (&'a Arc<str>, &'a Value)>) -> usize {
    entries.fold(0, |sum, (k, v)| sum.max(MAP_BYTES) + SLOT_BYTES + 16 + k.len() + short(v))
}

impl Ledger {
    /// A value that is referred to by its holder and by us alone is new.
    fn add(&mut self, v: &Value) {
        if let Some(text) = v.as_str() {
            if text.len() >= LONG
                && let Ok(text) = Arc::<str>::try_from(v.clone())
                && Arc::strong_count(&text) == 2
            {
                let bytes = text.len();
                self.push(Kept::Text(text), bytes);
            }
        } else if let Some(list) = v.downcast_object::<List>() {
            if Arc::strong_count(&list) == 2 {
                list.items.iter().for_each(|v| self.add(v));
                let bytes = list.items.iter().map(|v| ITEM_BYTES + short(v)).sum();
                self.push(Kept::List(list), bytes);
            }
        } else if let Some(dict) = v.downcast_object::<Dict>() {
            if Arc::strong_count(&dict) == 2 {
                let bytes = dict.read(|entries| {
                    entries.values().for_each(|v| self.add(v));
                    map_bytes(entries.iter())
                });
                self.push(Kept::Dict(dict), bytes);
            }
        } else if let Some(record) = v.downcast_object::<Record>()
            && Arc::strong_count(&record) == 2
        {
            let text = record.text.as_ref().map_or(0, String::len);
            let bytes = text + map_bytes(record.fields.iter());
            self.push(Kept::Record(record), bytes);
        }
    }

    fn push(&mut self, kept: Kept, bytes: usize) {
        let bytes = bytes + ENTRY;
        self.bytes += bytes as u64;
        self.held.push((kept, bytes));
    }

    /// Whether there is room beside `fixed`. What nobody uses is let go first; that must make some room, or it would
    /// be done again and again.
    fn fits(&mut self, fixed: u64, limit: u64) -> bool {
        if fixed.saturating_add(self.bytes) <= limit {
            return true;
        }
        // What something unused held is unused then too: it is mostly the older one, but not always.
        for _ in 0..4 {
            let before = self.held.len();
            self.sweep();
            if self.held.len() == before {
                break;
            }
        }
        fixed.saturating_add(self.bytes) <= limit - limit / 8
    }

    fn sweep(&mut self) {
        let mut kept = Vec::with_capacity(self.held.len());
        for entry in mem::take(&mut self.held).into_iter().rev() {
            if entry.0.is_unused() {
                self.bytes -= entry.1 as u64;
            } else {
                kept.push(entry);
            }
        }
        kept.reverse();
        self.held = kept;
    }
}

/// Drops values without recursion: a chain of lists within each other can be longer than any stack.
pub(crate) fn let_go(mut todo: Vec<Value>) {
    while let Some(v) = todo.pop() {
        if let Some(list) = v.downcast_object::<List>() {
            drop(v);
            if let Some(mut list) = Arc::into_inner(list) {
                todo.append(&mut list.items);
            }
        } else if let Some(dict) = v.downcast_object::<Dict>() {
            drop(v);
            if let Some(mut dict) = Arc::into_inner(dict) {
                todo.extend(dict.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::value::Map;

    fn long() -> Value {
        Value::from("x".repeat(1000))
    }

    #[test]
    fn what_is_dropped_makes_room_and_what_is_held_does_not() {
        let account = Account::new(10_000);
        for _ in 0..1000 {
            assert!(account.keep(&List::value(vec![long()])));
        }
        let held: Vec<Value> = (0..100).map(|_| long()).take_while(|v| account.keep(v)).collect();
        assert!((5..10).contains(&held.len()), "{}", held.len());
        assert!(!account.has_room(0));
        drop(held);
        assert!(account.has_room(8000) && !account.has_room(10_001));
    }

    #[test]
    fn what_is_dropped_is_let_go_long_before_the_limit() {
        let account = Account::new(1 << 30);
        let kept: Vec<Value> = (0..100_000)
            .map(|_| long())
            .filter(|v| account.keep(v))
            .enumerate()
            .filter_map(|(i, v)| (i % 100 == 0).then_some(v))
            .collect();
        let bytes = account.ledger.lock().unwrap().bytes;
        assert!(kept.len() == 1000 && bytes < 4 << 20, "{bytes}");
    }

    #[test]
    fn a_value_counts_once() {
        let account = Account::new(10_000);
        let text = long();
        for _ in 0..100 {
            assert!(account.keep(&text));
        }
        let both = List::value(vec![text.clone(), text]);
        assert!(account.keep(&both) && account.has_room(8000));
    }

    #[test]
    fn what_is_taken_can_be_given_back() {
        let account = Account::new(1000);
        assert!(account.take(800) && !account.take(800));
        account.give_back(800);
        assert!(account.has_room(50));
    }

    #[test]
    fn chains_are_dropped_without_recursion() {
        let mut lists = Value::from(1);
        let mut dicts = Value::from(1);
        for _ in 0..500_000 {
            lists = List::value(vec![lists]);
            dicts = Dict::value(Map::from([("a".into(), dicts)]));
        }
        drop((lists, dicts));
    }
}

//! Standard output is for data, standard error for everything else.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use serde::Serialize;

use super::{CliError, progress};
use crate::store::{StoreError, can_write_small, parent};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Table,
    /// For programs; the schema only grows
    Json,
}

/// Why standard output could not be written, kept for the end of the command: what a script did not get must not look
/// like success.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line of data on standard output.
pub fn say(line: &str) {
    text(&format!("{line}\n"));
}

/// Text on standard output as it stands.
pub fn text(text: &str) {
    bytes_out(text.as_bytes());
}

/// Bytes on standard output.
pub(super) fn bytes_out(bytes: &[u8]) {
    progress::settle();
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Whether everything reached standard output.
///
/// # Errors
/// The first failed write. A reader that went away (`| head`) is none: it has what it wanted.
pub(super) fn written() -> io::Result<()> {
    match LOST.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Whether a file that a command writes at its end can be written, asked before the command does anything: a run of an hour
/// must not end with a report that is lost. `option` is what named the file.
///
/// # Errors
/// What is in the way.
pub(super) fn destination(option: &str, path: &Path) -> Result<(), CliError> {
    use io::ErrorKind;
    let Err(error) = can_write_small(path) else { return Ok(()) };
    let (folder, other) = (parent(path).display(), "name another file");
    let StoreError::Io { source, .. } = &error else { return Err(error.into()) };
    let (why, hint) = match source.kind() {
        ErrorKind::NotFound => {
            (format!("there is no folder {folder}"), format!("make the folder, or {other}"))
        }
        ErrorKind::IsADirectory => ("it is a folder".to_owned(), "name a file in it".to_owned()),
        ErrorKind::NotADirectory => (format!("{folder} is no folder"), other.to_owned()),
        ErrorKind::AlreadyExists => ("it is a device or a pipe, and no file".to_owned(), other.to_owned()),
        ErrorKind::PermissionDenied => {
            (format!("you may not write in the folder {folder}"), format!("{other}, in a folder of your own"))
        }
        ErrorKind::ReadOnlyFilesystem => {
            (format!("the file system of {folder} is read-only"), other.to_owned())
        }
        _ => (source.to_string(), other.to_owned()),
    };
    let message = format!("cannot write {} ({option}): {why}; nothing was done", path.display());
    Err(CliError::failed(message).with_hint(hint))
}

/// A line for people on standard error.
pub fn warn(line: &str) {
    progress::tell(line);
}

/// A line on standard error as it stands.
pub(super) fn error_line(line: &str) {
    let mut err = io::stderr().lock();
    // Nobody is left who could be told.
    let _ = err.write_all(line.as_bytes()).and_then(|()| err.write_all(b"\n"));
}

/// A value as indented JSON on standard output.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| CliError::failed(format!("cannot write JSON: {e}")))?;
    say(&text);
    Ok(())
}

/// Rows under a heading, columns as wide as their widest cell, two spaces between them, no spaces at line ends.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut width: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (w, cell) in width.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&width).map(|(c, w)| format!("{c:<w$}", w = *w)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|r| line(&mut r.iter().map(String::as_str))));
    lines.join("\n")
}

pub use crate::units::bytes;

/// `1 image`, `2 images`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The first `most` of some names, and how many more there are: `n1, n2 and 5 more`.
pub fn some(names: &[&str], most: usize) -> String {
    let named = names.iter().take(most).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["longer".into(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlonger");
    }
}

//! OpenSSH's `ssh_config` (ssh_config(5)), as far as it says how a host is reached.
//!
//! Read and matched here: of the crates that parse it none knows `Match` and the tokens (`%h`), and a part of them is worse
//! than nothing, because a node would be reached in another way than `ssh` reaches it. What `ssh -G` says about the same
//! files is what [`SshConfig::resolve`] has to say; a test compares both.
//!
//! Reading ([`SshConfig::load_default`]) does the I/O, `Include` too; resolving is pure.

use std::path::{Path, PathBuf};

mod keywords;
mod resolve;
mod tokens;
mod words;

pub(crate) use resolve::once;
pub use resolve::{From, Jump, Proxy, Query, Resolved, Setting, Who};
pub(crate) use tokens::Tokens;
use words::split_line;

/// A file is not read beyond this, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// A longer line is refused, in bytes.
const MAX_LINE: usize = 16 << 10;
/// Lines of all files together.
const MAX_LINES: usize = 100_000;
/// As OpenSSH: files that include files.
const MAX_DEPTH: usize = 16;
/// Files that are read in all.
const MAX_FILES: usize = 1000;

/// The configuration of `ssh`, read and not yet asked about a host.
#[derive(Debug, Clone, Default)]
pub struct SshConfig {
    /// The user's own, then the system's; each is matched from its own beginning.
    parts: Vec<Vec<Item>>,
    files: Vec<PathBuf>,
    lines: usize,
    /// Set where one file was named: what `ssh -F` wants.
    named: Option<PathBuf>,
}

#[derive(Debug, Clone)]
enum Item {
    Line(Line),
    /// The files that an `Include` found: they begin with the conditions of the line, and end with them.
    Include(Vec<Vec<Item>>),
}

#[derive(Debug, Clone)]
struct Line {
    /// In lower case.
    keyword: String,
    /// What follows, as it stands.
    rest: String,
    words: Vec<String>,
    file: usize,
    number: usize,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ssh_config {}{}: {text}", file.display(), line.map_or_else(String::new, |l| format!(":{l}")))]
pub struct SshConfigError {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub text: String,
}

struct Reading<'a> {
    home: Option<&'a Path>,
    /// Where relative names of `Include` begin.
    folder: PathBuf,
    /// Refuse files that others can write to.
    strict: bool,
}

impl SshConfig {
    /// Without any line.
    pub fn none() -> Self {
        Self::default()
    }

    /// `~/.ssh/config` and `/etc/ssh/ssh_config`, those that exist.
    ///
    /// # Errors
    /// When one cannot be read or understood, or others than its owner can write to the user's.
    pub fn load_default(home: Option<&Path>) -> Result<Self, SshConfigError> {
        let mut config = Self::default();
        if let Some(home) = home {
            let folder = home.join(".ssh");
            let reading = Reading { home: Some(home), folder: folder.clone(), strict: true };
            config.part(&folder.join("config"), &reading)?;
        }
        let reading = Reading { home, folder: "/etc/ssh".into(), strict: false };
        config.part(Path::new("/etc/ssh/ssh_config"), &reading)?;
        Ok(config)
    }

    /// One file in place of those, as `ssh -F`.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn load(path: &Path, home: Option<&Path>) -> Result<Self, SshConfigError> {
        if !path.exists() {
            return Err(SshConfigError {
                file: path.to_owned(),
                line: None,
                text: "there is no such file".to_owned(),
            });
        }
        let folder = home.map_or_else(PathBuf::new, |h| h.join(".ssh"));
        let mut config = Self { named: Some(path.to_owned()), ..Self::default() };
        config.part(path, &Reading { home, folder, strict: false })?;
        Ok(config)
    }

    /// As [`SshConfig::load`], from text.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn parse(text: &str, path: &Path, home: Option<&Path>) -> Result<Self, SshConfigError> {
        let folder = home.map_or_else(PathBuf::new, |h| h.join(".ssh"));
        let mut config = Self { named: Some(path.to_owned()), ..Self::default() };
        let items = config.lines(path, text, &Reading { home, folder, strict: false }, 0)?;
        config.parts.push(items);
        Ok(config)
    }

    /// The file that was named in place of the usual ones.
    pub fn named(&self) -> Option<&Path> {
        self.named.as_deref()
    }

    /// Hosts that are named without wildcards, each once, in the order of the files.
    pub fn hosts(&self) -> Vec<String> {
        fn collect(items: &[Item], all: &mut Vec<String>) {
            for item in items {
                match item {
                    Item::Line(line) if line.keyword == "host" => {
                        for word in &line.words {
                            if !word.contains(['*', '?', '!']) && !all.contains(word) {
                                all.push(word.clone());
                            }
                        }
                    }
                    Item::Line(_) => {}
                    Item::Include(files) => files.iter().for_each(|f| collect(f, all)),
                }
            }
        }
        let mut all = Vec::new();
        self.parts.iter().for_each(|part| collect(part, &mut all));
        all
    }

    fn part(&mut self, path: &Path, reading: &Reading<'_>) -> Result<(), SshConfigError> {
        if let Some(items) = self.file(path, reading, 0)? {
            self.parts.push(items);
        }
        Ok(())
    }

    /// `None`: there is no such file.
    fn file(
        &mut self,
        path: &Path,
        reading: &Reading<'_>,
        depth: usize,
    ) -> Result<Option<Vec<Item>>, SshConfigError> {
        use std::io::Read as _;

        let fail = |text: String| SshConfigError { file: path.to_owned(), line: None, text };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(format!("cannot be read: {e}"))),
        };
        let meta = file.metadata().map_err(|e| fail(format!("cannot be read: {e}")))?;
        // A pipe or device may never end.
        if !meta.is_file() {
            return Err(fail("is no file".to_owned()));
        }
        if reading.strict && others_write(&meta) {
            return Err(fail("others can write to it, and it may name commands: chmod go-w".to_owned()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fail(format!("cannot be read: {e}")))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(fail(format!("has more than {MAX_BYTES} bytes")));
        }
        self.lines(path, &String::from_utf8_lossy(&bytes), reading, depth).map(Some)
    }

    fn lines(
        &mut self,
        path: &Path,
        text: &str,
        reading: &Reading<'_>,
        depth: usize,
    ) -> Result<Vec<Item>, SshConfigError> {
        let file = self.files.len();
        if file >= MAX_FILES {
            let text = format!("more than {MAX_FILES} files are included");
            return Err(SshConfigError { file: path.to_owned(), line: None, text });
        }
        self.files.push(path.to_owned());
        let mut items = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let number = index + 1;
            let fail = |text: &str| SshConfigError {
                file: path.to_owned(),
                line: Some(number),
                text: text.to_owned(),
            };
            if text.len() > MAX_LINE {
                return Err(fail("the line is too long"));
            }
            let Some((keyword, rest)) = split_line(text).map_err(fail)? else { continue };
            self.lines += 1;
            if self.lines > MAX_LINES {
                return Err(fail("there are too many lines in all"));
            }
            // What a shell will read is taken as it is.
            let raw = keywords::raw(&keyword);
            let words = if raw { Vec::new() } else { words::words(rest).map_err(fail)? };
            if rest.is_empty() || (!raw && words.is_empty()) {
                return Err(fail("a value is missing after the keyword"));
            }
            if keyword == "include" {
                if depth + 1 > MAX_DEPTH {
                    return Err(fail("files include each other too deep"));
                }
                let mut included = Vec::new();
                for word in &words {
                    for path in paths(word, reading) {
                        included.extend(self.file(&path, reading, depth + 1)?);
                    }
                }
                items.push(Item::Include(included));
                continue;
            }
            items.push(Item::Line(Line { keyword, rest: rest.to_owned(), words, file, number }));
        }
        Ok(items)
    }
}

#[cfg(unix)]
fn others_write(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o022 != 0
}

#[cfg(not(unix))]
fn others_write(_: &std::fs::Metadata) -> bool {
    false
}

/// The files that an `Include` means, sorted within each folder as `glob(3)` does.
fn paths(word: &str, reading: &Reading<'_>) -> Vec<PathBuf> {
    let path = match (word.strip_prefix("~/"), reading.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => reading.folder.join(word),
    };
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let text = part.as_os_str().to_string_lossy().into_owned();
        if !text.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|f| f.push(part));
            continue;
        }
        let mut next = Vec::new();
        for folder in &found {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let names = entries.flatten().take(MAX_FILES).map(|e| e.file_name());
            let mut names: Vec<_> = names.filter(|n| shell_like(&text, &n.to_string_lossy())).collect();
            names.sort();
            next.extend(names.into_iter().map(|n| folder.join(n)));
        }
        next.truncate(MAX_FILES);
        found = next;
    }
    found
}

/// A name of a file against a pattern with `*`, `?` and `[…]`; what begins with a dot has to be named so.
fn shell_like(pattern: &str, name: &str) -> bool {
    fn like(pattern: &[char], name: &[char], budget: &mut usize) -> bool {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|i| like(rest, &name[i..], budget)),
            Some(('?', rest)) => !name.is_empty() && like(rest, &name[1..], budget),
            Some(('[', rest)) => {
                let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|e| e + 1) else {
                    return name.first() == Some(&'[') && like(rest, &name[1..], budget);
                };
                let Some(c) = name.first() else { return false };
                let (negated, set) = match rest[0] {
                    '!' | '^' => (true, &rest[1..end]),
                    _ => (false, &rest[..end]),
                };
                let mut inside = false;
                let mut i = 0;
                while i < set.len() {
                    if i + 2 < set.len() && set[i + 1] == '-' {
                        inside |= (set[i]..=set[i + 2]).contains(c);
                        i += 3;
                    } else {
                        inside |= set[i] == *c;
                        i += 1;
                    }
                }
                inside != negated && like(&rest[end + 1..], &name[1..], budget)
            }
            Some((c, rest)) => name.first() == Some(c) && like(rest, &name[1..], budget),
        }
    }
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    like(&pattern, &name, &mut 100_000)
}

#[cfg(test)]
mod tests;

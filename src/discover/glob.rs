//! Patterns in the place of paths: `deploy/*.yaml`, `**/prod-[ab].yaml`. For shells that do not write them out, and for what
//! is quoted.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Cause, Scope, SourceError};

const MARKS: [char; 3] = ['*', '?', '['];

/// Whether a path that is not there can be a pattern.
pub(super) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(MARKS)
}

/// What is there and matches, sorted. `*` and `?` stand for characters of one name, `[ab]`, `[a-z]` and `[!a]` for one of it, `**`
/// for folders, none or many; as in a shell, none of them for the point that hides a name.
///
/// # Errors
/// If nothing matches, or more has to be looked at than `scope` allows.
pub(super) fn paths(pattern: &Path, scope: &Scope) -> Result<Vec<PathBuf>, SourceError> {
    let parts: Vec<Component<'_>> = pattern.components().collect();
    let mut walk = Walk { pattern, scope, seen: 0, found: Vec::new() };
    walk.below(PathBuf::new(), &parts, 0)?;
    walk.found.sort();
    walk.found.dedup();
    if walk.found.is_empty() {
        return Err(SourceError::file(pattern, Cause::NoMatch));
    }
    Ok(walk.found)
}

struct Walk<'a> {
    pattern: &'a Path,
    scope: &'a Scope,
    seen: usize,
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    fn below(&mut self, at: PathBuf, parts: &[Component<'_>], depth: usize) -> Result<(), SourceError> {
        let Some((part, rest)) = parts.split_first() else {
            if fs::metadata(&at).is_ok() {
                self.found.push(at);
            }
            return Ok(());
        };
        let text = part.as_os_str().to_string_lossy();
        if !text.contains(MARKS) {
            return self.below(at.join(part), rest, depth);
        }
        if text == "**" {
            self.below(at.clone(), rest, depth)?;
            if depth < self.scope.max_depth {
                for name in self.names(&at)? {
                    let path = at.join(&name);
                    // A link may lead back.
                    if !hidden(&name) && fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
                        self.below(path, parts, depth + 1)?;
                    }
                }
            }
            return Ok(());
        }
        let Some(fits) = name_pattern(&text) else { return Ok(()) };
        for name in self.names(&at)? {
            if (!hidden(&name) || text.starts_with('.')) && fits.is_match(&name.to_string_lossy()) {
                self.below(at.join(&name), rest, depth)?;
            }
        }
        Ok(())
    }

    /// What cannot be looked into matches nothing, as in a shell.
    fn names(&mut self, folder: &Path) -> Result<Vec<std::ffi::OsString>, SourceError> {
        self.scope.check(self.pattern)?;
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            self.seen += 1;
            if self.seen > self.scope.max_entries {
                return Err(SourceError::file(self.pattern, Cause::TooMany(self.scope.max_entries)));
            }
            names.push(entry.file_name());
        }
        Ok(names)
    }
}

fn hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn name_pattern(text: &str) -> Option<regex::Regex> {
    let mut out = String::from("(?s)^");
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, rest.find(']')) {
            ('*', _) => out.push_str(".*"),
            ('?', _) => out.push('.'),
            ('[', Some(end)) if end > 0 => {
                let (set, not) = match rest[..end].strip_prefix(['!', '^']) {
                    Some(set) => (set, "^"),
                    None => (&rest[..end], ""),
                };
                let plain: String = set
                    .chars()
                    .map(|c| if c == '-' { "-".into() } else { regex::escape(&c.to_string()) })
                    .collect();
                out.push_str(&format!("[{not}{plain}]"));
                rest = &rest[end + 1..];
            }
            (c, _) => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex::RegexBuilder::new(&format!("{out}$")).size_limit(1 << 20).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_out_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        for file in ["b.yaml", "a.yaml", "a.txt", ".h.yaml", "x/c.yaml", "x/y/d.yaml", ".g/e.yaml"] {
            let path = top.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "a: 1\n").unwrap();
        }
        std::os::unix::fs::symlink(top, top.join("x/back")).unwrap();
        let all = |pattern: &str| {
            let found = paths(&top.join(pattern), &Scope::default())?;
            let own = |p: &PathBuf| p.strip_prefix(top).unwrap().display().to_string();
            Ok::<_, SourceError>(found.iter().map(own).collect::<Vec<_>>())
        };
        assert_eq!(all("*.yaml").unwrap(), ["a.yaml", "b.yaml"]);
        assert_eq!(all("**/*.yaml").unwrap(), ["a.yaml", "b.yaml", "x/c.yaml", "x/y/d.yaml"]);
        assert_eq!(all("[!b]*.y?ml").unwrap(), ["a.yaml"]);
        assert_eq!(all("[a-b].yaml").unwrap(), ["a.yaml", "b.yaml"]);
        assert_eq!(all("?/*.yaml").unwrap(), ["x/c.yaml"]);
        assert_eq!(all(".*.yaml").unwrap(), [".h.yaml"]);
        assert_eq!(all("*/y").unwrap(), ["x/y"]);
        let none = all("*.json").unwrap_err().to_string();
        assert!(
            none.ends_with(
                "*.json: nothing here matches this pattern; check where you are, or name files and folders"
            ),
            "{none}"
        );
        assert!(name_pattern("a[").unwrap().is_match("a["));
        assert!(name_pattern("[\\^]").is_some_and(|p| p.is_match("^")));
    }

    #[test]
    fn bounds_hold() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..5 {
            fs::write(dir.path().join(format!("{i}.yaml")), "").unwrap();
        }
        let few = Scope { max_entries: 3, ..Scope::default() };
        assert!(paths(&dir.path().join("*"), &few).unwrap_err().to_string().contains("more than 3"));
    }
}

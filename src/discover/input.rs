//! Reading: the only file of this room that touches the file system, apart from charts.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Cause, Problem, Scope, Severity, SourceError, SourceName, glob, like};

/// What to read, as a path told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file of documents.
    Manifest(PathBuf),
    /// A chart's folder or archive, or where it is fetched from.
    Chart(PathBuf),
    /// A kustomization's folder. What it reads is listed too.
    Kustomization(PathBuf),
}

impl Entry {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Manifest(path) | Self::Chart(path) | Self::Kustomization(path) => path,
        }
    }
}

/// What a path stands for.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In a stable order.
    pub(super) entries: Vec<Entry>,
    /// What could not be looked into, or is left out.
    pub(super) problems: Vec<Problem>,
}

const SUFFIXES: [&str; 3] = [".yaml", ".yml", ".json"];
const ARCHIVES: [&str; 2] = [".tgz", ".tar.gz"];

/// What `path` stands for: a file itself, whatever its name; of a folder the manifests and charts below it.
///
/// Hidden entries are skipped, as are files with other suffixes than `.yaml`, `.yml` and `.json`, and everything
/// that is no regular file. A link is followed if it stays within the folder.
///
/// # Errors
/// If `path` is not there or cannot be read, or there is more below it than `scope` allows.
pub(super) fn list(path: &Path, scope: &Scope) -> Result<Listing, SourceError> {
    if ["oci://", "http://", "https://"].iter().any(|scheme| path.to_string_lossy().starts_with(scheme)) {
        let entries = vec![Entry::Chart(path.into())];
        return Ok(Listing { entries, problems: Vec::new() });
    }
    let mut listing = Listing::default();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if glob::is_pattern(path) {
                return matching(path, scope);
            }
            let image = path.to_str().and_then(like::written_image);
            return Err(SourceError::file(path, image.map_or(Cause::Read(e), Cause::Image)));
        }
        Err(e) => return Err(SourceError::file(path, Cause::Read(e))),
    };
    if !meta.is_dir() {
        let named = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if crate::kustomize::FILES.contains(&named) {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            listing.entries.push(Entry::Kustomization(folder.into()));
            return Ok(listing);
        }
        let archive = has_suffix(path, &ARCHIVES);
        let entry = if archive { Entry::Chart(path.into()) } else { Entry::Manifest(path.into()) };
        listing.entries.push(entry);
        return Ok(listing);
    }
    if crate::kustomize::kustomization_file(path).is_some() {
        listing.entries.push(Entry::Kustomization(path.into()));
        return Ok(listing);
    }
    let root = fs::canonicalize(path).map_err(|e| SourceError::file(path, Cause::Read(e)))?;
    let mut walk = Folder { top: path, root, scope, seen: 0, linked: HashSet::new(), listing };
    walk.folder(path, 0)?;
    Ok(walk.listing)
}

/// What a pattern stands for: all that it matches, each once.
fn matching(pattern: &Path, scope: &Scope) -> Result<Listing, SourceError> {
    let mut all = Listing::default();
    for path in glob::paths(pattern, scope)? {
        match list(&path, scope) {
            Ok(mut one) => {
                one.entries.retain(|entry| !all.entries.contains(entry));
                all.entries.append(&mut one.entries);
                all.problems.append(&mut one.problems);
            }
            Err(error) if matches!(error.cause, Cause::Read(_)) => all.problems.push(error.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

struct Folder<'a> {
    top: &'a Path,
    root: PathBuf,
    scope: &'a Scope,
    seen: usize,
    /// Folders that links led to, so that no circle is walked twice.
    linked: HashSet<PathBuf>,
    listing: Listing,
}

impl Folder<'_> {
    fn folder(&mut self, path: &Path, depth: usize) -> Result<(), SourceError> {
        if path.join("Chart.yaml").is_file() {
            self.listing.entries.push(Entry::Chart(path.into()));
            return Ok(());
        }
        if let Some(file) = crate::kustomize::kustomization_file(path)
            && !crate::kustomize::is_component(&file)
        {
            self.listing.entries.push(Entry::Kustomization(path.into()));
        }
        if depth > self.scope.max_depth {
            let reason = format!("folders are nested deeper than {} levels", self.scope.max_depth);
            self.problem(Severity::Error, path, reason);
            return Ok(());
        }
        let mut names = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(),
            Err(e) => {
                self.problem(Severity::Error, path, Cause::Read(e).to_string());
                return Ok(());
            }
        };
        names.retain(|n| !n.as_encoded_bytes().starts_with(b"."));
        names.sort();
        for name in names {
            self.scope.check(path)?;
            self.seen += 1;
            if self.seen > self.scope.max_entries {
                return Err(SourceError::file(self.top, Cause::TooMany(self.scope.max_entries)));
            }
            self.entry(&path.join(name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, depth: usize) -> Result<(), SourceError> {
        // What is no manifest by name and no folder is not even looked at: a link of that kind is of no concern.
        let named = has_suffix(path, &SUFFIXES);
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) => {
                self.problem(Severity::Error, path, Cause::Read(e).to_string());
                return Ok(());
            }
        };
        if !meta.is_symlink() {
            if meta.is_dir() {
                self.folder(path, depth + 1)?;
            } else if meta.is_file() && named {
                self.listing.entries.push(Entry::Manifest(path.into()));
            }
            return Ok(());
        }
        match fs::canonicalize(path) {
            Ok(target) if !target.starts_with(&self.root) => {
                if named || target.is_dir() {
                    let reason = "is a link that leads out of the folder and is not followed; name it as a \
                                  source of its own";
                    self.problem(Severity::Warning, path, reason);
                }
            }
            Ok(target) if target.is_dir() => {
                // A link to a folder above it is a circle.
                let above = fs::canonicalize(path.parent().unwrap_or(path)).unwrap_or_default();
                if !above.starts_with(&target) && self.linked.insert(target) {
                    self.folder(path, depth + 1)?;
                }
            }
            Ok(target) => {
                if named && target.is_file() {
                    self.listing.entries.push(Entry::Manifest(path.into()));
                }
            }
            Err(e) if named => self.problem(Severity::Error, path, Cause::Read(e).to_string()),
            Err(_) => {}
        }
        Ok(())
    }

    fn problem(&mut self, severity: Severity, path: &Path, reason: impl Into<String>) {
        let source = SourceName::File { path: path.into() };
        self.listing.problems.push(Problem::of_source(severity, source, reason));
    }
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    suffixes.iter().any(|s| name.len() > s.len() && name.ends_with(s))
}

/// The text of a file.
///
/// # Errors
/// If it cannot be read, is larger than allowed, or is not UTF-8.
pub(super) fn read_file(path: &Path, scope: &Scope) -> Result<String, SourceError> {
    let name = || SourceName::File { path: path.into() };
    let file = File::open(path).map_err(|e| SourceError::file(path, Cause::Read(e)))?;
    read(file, name, scope)
}

/// The text of standard input, to its end.
///
/// # Errors
/// As for a file.
pub(super) fn read_stdin(scope: &Scope) -> Result<String, SourceError> {
    read(io::stdin().lock(), || SourceName::Stdin, scope)
}

/// The text of a file of documents, one of which may hold bytes that are no UTF-8 without costing the others.
///
/// # Errors
/// If it cannot be read, is larger than allowed, or is no text at all.
pub(super) fn documents_of_file(path: &Path, scope: &Scope) -> Result<Documents, SourceError> {
    let name = || SourceName::File { path: path.into() };
    let file = File::open(path).map_err(|e| SourceError::file(path, Cause::Read(e)))?;
    documents(bytes(file, name, scope)?, name)
}

/// The same of standard input.
///
/// # Errors
/// As for a file.
pub(super) fn documents_of_stdin(scope: &Scope) -> Result<Documents, SourceError> {
    let name = || SourceName::Stdin;
    documents(bytes(io::stdin().lock(), name, scope)?, name)
}

/// A text of documents.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// What is no UTF-8 is replaced.
    pub(super) text: String,
    /// Where that was needed: the first place of each line, as line and column.
    pub(super) replaced: Vec<(u32, u32)>,
}

fn documents(bytes: Vec<u8>, name: impl Fn() -> SourceName) -> Result<Documents, SourceError> {
    // What has zeros in it is no text with a slip, but an archive or a picture.
    let binary = bytes.contains(&0);
    let bytes = match text(bytes, name) {
        Ok(text) => return Ok(Documents { text, replaced: Vec::new() }),
        Err((error, _)) if binary || matches!(error.cause, Cause::Utf16) => return Err(error),
        Err((_, bytes)) => bytes,
    };
    let mut replaced = Vec::new();
    for (number, line) in (1u32..).zip(bytes.split(|b| *b == b'\n')) {
        if let Err(error) = std::str::from_utf8(line) {
            let before = String::from_utf8_lossy(&line[..error.valid_up_to()]).chars().count();
            replaced.push((number, u32::try_from(before + 1).unwrap_or(u32::MAX)));
        }
    }
    Ok(Documents { text: String::from_utf8_lossy(&bytes).into_owned(), replaced })
}

fn read(from: impl Read, name: impl Fn() -> SourceName, scope: &Scope) -> Result<String, SourceError> {
    text(bytes(from, &name, scope)?, name).map_err(|(error, _)| error)
}

fn bytes(from: impl Read, name: impl Fn() -> SourceName, scope: &Scope) -> Result<Vec<u8>, SourceError> {
    let fail = |cause| SourceError { name: name(), line: None, column: None, cause };
    let mut bytes = Vec::new();
    from.take(scope.max_file_bytes + 1).read_to_end(&mut bytes).map_err(|e| fail(Cause::Read(e)))?;
    if bytes.len() as u64 > scope.max_file_bytes {
        return Err(fail(Cause::TooLarge(scope.max_file_bytes)));
    }
    Ok(bytes)
}

/// The text that `bytes` are; with an error come the bytes again.
fn text(bytes: Vec<u8>, name: impl Fn() -> SourceName) -> Result<String, (SourceError, Vec<u8>)> {
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.split(|b| *b == b'\n').count();
        let start = good.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
        let utf16 = matches!(e.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        let error = SourceError {
            name: name(),
            line: u32::try_from(line).ok(),
            column: u32::try_from(column).ok(),
            cause: if utf16 { Cause::Utf16 } else { Cause::NotText },
        };
        (error, e.into_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(listing: &Listing, top: &Path) -> Vec<String> {
        let path = |e: &Entry| match e {
            Entry::Manifest(p) => p.strip_prefix(top).unwrap().display().to_string(),
            Entry::Chart(p) => format!("chart {}", p.strip_prefix(top).unwrap().display()),
            Entry::Kustomization(p) => format!("kustomization {}", p.strip_prefix(top).unwrap().display()),
        };
        listing.entries.iter().map(path).collect()
    }

    fn touch(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "a: 1\n").unwrap();
    }

    #[test]
    fn folders_are_walked_in_order_and_stay_within_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let (top, other) = (dir.path().join("top"), dir.path().join("other"));
        for file in ["b.yaml", "a/z.yml", "a/c.json", "a/README.md", ".git/x.yaml", ".h.yaml", "UP.YAML"] {
            touch(top.join(file));
        }
        touch(top.join("web/Chart.yaml"));
        touch(top.join("web/templates/d.yaml"));
        touch(other.join("secret.yaml"));
        symlink(other.join("secret.yaml"), top.join("out.yaml")).unwrap();
        symlink(&other, top.join("outside")).unwrap();
        symlink("../b.yaml", top.join("a/in.yaml")).unwrap();
        symlink("..", top.join("a/loop")).unwrap();
        symlink("nowhere", top.join("gone.yaml")).unwrap();
        let listing = list(&top, &Scope::default()).unwrap();
        assert_eq!(
            names(&listing, &top),
            ["UP.YAML", "a/c.json", "a/in.yaml", "a/z.yml", "b.yaml", "chart web"]
        );
        let mut problems: Vec<_> = listing.problems.iter().map(|p| (p.severity, p.to_string())).collect();
        problems.sort();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].1.contains("gone.yaml"));
        assert!(problems[1..].iter().all(|(s, t)| *s == Severity::Warning && t.contains("leads out")));
    }

    #[test]
    fn bounds_hold() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..5 {
            touch(dir.path().join(format!("{i}.yaml")));
        }
        let few = Scope { max_entries: 3, ..Scope::default() };
        assert!(list(dir.path(), &few).unwrap_err().to_string().contains("more than 3"));
        touch(dir.path().join("x/y/z/deep.yaml"));
        let shallow = Scope { max_depth: 1, ..Scope::default() };
        assert!(list(dir.path(), &shallow).unwrap().problems[0].reason.contains("deeper than 1"));
        let small = Scope { max_file_bytes: 4, ..Scope::default() };
        let error = read_file(&dir.path().join("0.yaml"), &small).unwrap_err();
        assert!(error.to_string().contains("larger than 4 bytes"), "{error}");
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        fs::write(&path, b"a: 1\nb: \xc3\xa9\xff").unwrap();
        let error = read_file(&path, &Scope::default()).unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(5)));
        fs::write(&path, b"\xff\xfea\0").unwrap();
        assert!(read_file(&path, &Scope::default()).unwrap_err().to_string().contains("UTF-16"));
        assert!(documents_of_file(&path, &Scope::default()).unwrap_err().to_string().contains("UTF-16"));
        fs::write(&path, b"\x1f\x8b\0\0").unwrap();
        assert!(documents_of_file(&path, &Scope::default()).is_err());
        fs::write(&path, b"a: 1\nb: \xe9\xe9\n---\nc: \xc3\xa9\xff").unwrap();
        let found = documents_of_file(&path, &Scope::default()).unwrap();
        assert_eq!(found.replaced, [(2, 4), (4, 5)]);
        assert!(found.text.ends_with("---\nc: \u{e9}\u{fffd}"), "{:?}", found.text);
    }

    #[test]
    fn archives_are_charts_and_named_files_are_read_whatever_their_name() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path().join("web-1.0.tgz"));
        touch(dir.path().join("manifest.txt"));
        let one = |n: &str| list(&dir.path().join(n), &Scope::default()).unwrap().entries;
        assert!(matches!(one("web-1.0.tgz")[..], [Entry::Chart(_)]));
        assert!(matches!(one("manifest.txt")[..], [Entry::Manifest(_)]));
    }
}

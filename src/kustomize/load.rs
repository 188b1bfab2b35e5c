//! Reading: the only file of this room that touches the file system, apart from charts.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::file::Kustomization;
use super::object::{Object, tree};
use super::{Gap, KustomizeError};
use crate::yaml::{self, Limits};

/// The names under which a kustomization is looked for, in Kustomize's order.
pub const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Bytes of one file.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Bytes of all files of one build; a base that is named many times counts each time.
const MAX_TOTAL_BYTES: u64 = 512 << 20;
/// Kustomizations within kustomizations.
const MAX_DEPTH: usize = 50;
/// Kustomizations of one build: bases that name each other twice grow exponentially.
const MAX_TARGETS: usize = 2_000;

pub(super) struct Loader<'a> {
    pub(super) gaps: Vec<Gap>,
    pub(super) used: BTreeSet<PathBuf>,
    pub(super) cancel: &'a CancellationToken,
    /// Real paths of the kustomizations that are being built, the root first.
    open: Vec<PathBuf>,
    bytes: u64,
    targets: usize,
}

/// What a path of `resources` stands for.
pub(super) enum Resource {
    File(PathBuf),
    Folder(PathBuf),
}

impl<'a> Loader<'a> {
    pub(super) fn new(folder: &Path, cancel: &'a CancellationToken) -> Result<Self, KustomizeError> {
        if !folder.is_dir() {
            return Err(KustomizeError::new(folder, "is no folder"));
        }
        Ok(Self::detached(cancel))
    }

    /// For what has no folder of its own.
    pub(super) fn detached(cancel: &'a CancellationToken) -> Self {
        let (gaps, used, open) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { gaps, used, cancel, open, bytes: 0, targets: 0 }
    }

    /// Enters a kustomization's folder and reads its file; [`Loader::leave`] must follow.
    pub(super) fn enter(&mut self, folder: &Path) -> Result<(PathBuf, Kustomization), KustomizeError> {
        let real = fs::canonicalize(folder).map_err(|e| KustomizeError::new(folder, e.to_string()))?;
        if let Some(i) = self.open.iter().position(|o| *o == real) {
            let circle: Vec<_> = self.open[i..].iter().map(|p| p.display().to_string()).collect();
            return Err(KustomizeError::new(
                folder,
                format!("contains itself, by way of {}", circle.join(" → ")),
            ));
        }
        self.targets += 1;
        if self.open.len() >= MAX_DEPTH || self.targets > MAX_TARGETS {
            let reason =
                format!("more than {MAX_DEPTH} kustomizations within each other, or {MAX_TARGETS} in all");
            return Err(KustomizeError::new(folder, reason));
        }
        let mut files = FILES.iter().map(|n| folder.join(n)).filter(|p| p.is_file());
        let Some(file) = files.next() else {
            let names = FILES.join(", ");
            return Err(KustomizeError::new(folder, format!("holds no kustomization file ({names})")));
        };
        if let Some(other) = files.next() {
            let reason = format!("holds both {} and {}: one must go", file.display(), other.display());
            return Err(KustomizeError::new(folder, reason));
        }
        if !self.open.is_empty() {
            self.used.insert(real.clone());
        }
        self.open.push(real);
        let text = self.text(folder, &file)?;
        let parsed = Kustomization::parse(&file, &text)?;
        Ok((file, parsed))
    }

    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    /// What `entry` stands for below `folder`; `None` when it is not on this machine but looks like a remote place.
    pub(super) fn resource(
        &self,
        folder: &Path,
        file: &Path,
        entry: &str,
    ) -> Result<Option<Resource>, KustomizeError> {
        let path = folder.join(entry);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Some(Resource::Folder(path))),
            Ok(_) => Ok(Some(Resource::File(path))),
            Err(_) if is_remote(entry) => Ok(None),
            Err(e) => Err(KustomizeError::new(file, format!("{entry}: {e}"))),
        }
    }

    pub(super) fn gap(&mut self, file: &Path, reason: impl Into<String>) {
        self.gaps.push(Gap { file: file.into(), reason: reason.into() });
    }

    /// The text of a file that the kustomization in `folder` names.
    pub(super) fn text(&mut self, folder: &Path, path: &Path) -> Result<String, KustomizeError> {
        String::from_utf8(self.bytes(folder, path)?).map_err(|_| KustomizeError::new(path, "is not UTF-8"))
    }

    pub(super) fn bytes(&mut self, folder: &Path, path: &Path) -> Result<Vec<u8>, KustomizeError> {
        if self.cancel.is_cancelled() {
            return Err(KustomizeError { cancelled: true, ..KustomizeError::new(path, "cancelled") });
        }
        let failed = |e: std::io::Error| KustomizeError::new(path, e.to_string());
        let real = fs::canonicalize(path).map_err(failed)?;
        let root = fs::canonicalize(folder).map_err(failed)?;
        if !real.starts_with(&root) {
            let reason = format!(
                "lies outside of {}, the folder of the kustomization that names it; Kustomize refuses that too",
                folder.display()
            );
            return Err(KustomizeError::new(path, reason));
        }
        let file = fs::File::open(&real).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(KustomizeError::new(path, "is no regular file"));
        }
        let mut data = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut data).map_err(failed)?;
        self.bytes += data.len() as u64;
        if data.len() as u64 > MAX_FILE_BYTES || self.bytes > MAX_TOTAL_BYTES {
            let reason = format!("more than {MAX_FILE_BYTES} bytes in one file, or {MAX_TOTAL_BYTES} in all");
            return Err(KustomizeError::new(path, reason));
        }
        self.used.insert(real);
        Ok(data)
    }

    /// The objects in a file of manifests.
    pub(super) fn objects(&mut self, folder: &Path, path: &Path) -> Result<Vec<Object>, KustomizeError> {
        let text = self.text(folder, path)?;
        objects(&text, path)
    }
}

/// The objects in a text, with the items of lists taken out.
pub(super) fn objects(text: &str, path: &Path) -> Result<Vec<Object>, KustomizeError> {
    let limits = Limits { allow_duplicate_keys: true, ..Limits::default() };
    let mut out = Vec::new();
    for document in yaml::documents(text, &limits) {
        let node = document
            .result
            .map_err(|e| KustomizeError::new(path, format!("is not YAML: {}", e.reason)).at(e.line))?;
        if node.is_null() {
            continue;
        }
        let line = node.line;
        Object::collect(tree(&node), path, &mut out).map_err(|r| KustomizeError::new(path, r).at(line))?;
    }
    Ok(out)
}

/// Whether an entry of `resources` that is no file here may be an URL or a repository, as Kustomize reads them.
fn is_remote(entry: &str) -> bool {
    let host = entry.split('/').next().unwrap_or("");
    entry.contains("://")
        || entry.starts_with("git::")
        || entry.starts_with("git@")
        || entry.contains("?ref=")
        || entry.contains(".git")
        || (entry.contains('/') && !host.starts_with('.') && host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_places_are_told_from_paths() {
        for remote in [
            "https://raw.example.com/x.yaml",
            "github.com/org/repo//base?ref=v1",
            "git@github.com:org/repo",
            "ssh://git@host/repo.git",
            "github.com/org/repo",
        ] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in ["../base", "base", "./x/y.yaml", "deploy.yaml", "../../a.b/c"] {
            assert!(!is_remote(local), "{local}");
        }
    }
}

//! Fetched charts on disk: archives by their digest, and which digest a reference had when it was last fetched.
//!
//! Any number of processes may use it at once: every file is written beside its place, synced and renamed into it, an
//! archive is checked against its name whenever it is read.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FetchError;
use crate::oci::Digest;

/// What a reference stood for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Known {
    /// The reference, for people.
    pub(super) reference: String,
    /// `name-version`.
    pub(super) chart: String,
    /// Of the archive.
    pub(super) digest: String,
}

#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn archive_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.algorithm().as_str()).join(format!("{}.tgz", digest.hex()))
    }

    fn reference_path(&self, reference: &str) -> PathBuf {
        self.root.join("refs").join(format!("{}.json", Digest::sha256(reference.as_bytes()).hex()))
    }

    /// An archive, if it is there and still what it was.
    pub(super) fn archive(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let path = self.archive_path(digest);
        let Some(bytes) = read(&path, limit)? else { return Ok(None) };
        let mut hasher = crate::oci::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        Ok((hasher.finish() == *digest).then_some(bytes))
    }

    /// Keeps an archive whose digest the caller has made sure of.
    pub(super) fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), FetchError> {
        write(&self.archive_path(digest), bytes)
    }

    pub(super) fn remember(&self, known: &Known) -> Result<(), FetchError> {
        let text = serde_json::to_vec_pretty(known).unwrap_or_default();
        write(&self.reference_path(&known.reference), &text)
    }

    pub(super) fn recall(&self, reference: &str) -> Result<Option<Known>, FetchError> {
        let Some(bytes) = read(&self.reference_path(reference), 64 << 10)? else { return Ok(None) };
        // A file that is no longer readable is as good as none.
        Ok(serde_json::from_slice::<Known>(&bytes).ok().filter(|k| k.reference == reference))
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> FetchError + '_ {
    move |source| FetchError::Cache { path: path.into(), source }
}

fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed(path))?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut staged = tempfile::Builder::new().prefix(".part-").tempfile_in(dir).map_err(failed(dir))?;
    staged.write_all(bytes).map_err(failed(path))?;
    staged.as_file().sync_all().map_err(failed(path))?;
    staged.persist(path).map_err(|e| failed(path)(e.error))?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(failed(dir))
}

/// Where fetched charts are kept: `OMYKUBE_HOME`, else `OMK_HOME`, each with `cache/charts` below it, else the user's
/// cache folder. `env` gives variables that are set and not empty.
pub fn default_cache(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    for name in ["OMYKUBE_HOME", "OMK_HOME"] {
        if let Some(home) = env(name) {
            return Some(PathBuf::from(home).join("cache/charts"));
        }
    }
    let cache = env("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = cache.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(cache.join("omk/charts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_and_what_was_changed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("c"));
        let digest = Digest::sha256(b"chart");
        assert_eq!(cache.archive(&digest, 100).unwrap(), None);
        cache.keep(&digest, b"chart").unwrap();
        assert_eq!(cache.archive(&digest, 100).unwrap().as_deref(), Some(&b"chart"[..]));
        assert_eq!(cache.archive(&digest, 4).unwrap(), None);
        fs::write(cache.archive_path(&digest), b"other").unwrap();
        assert_eq!(cache.archive(&digest, 100).unwrap(), None);
        let known =
            Known { reference: "oci://x/y:1".into(), chart: "y-1".into(), digest: digest.to_string() };
        assert_eq!(cache.recall("oci://x/y:1").unwrap(), None);
        cache.remember(&known).unwrap();
        assert_eq!(cache.recall("oci://x/y:1").unwrap(), Some(known));
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let with = |set: &'static [(&str, &str)]| {
            default_cache(move |name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert_eq!(
            with(&[("OMK_HOME", "/b"), ("OMYKUBE_HOME", "/a")]).unwrap(),
            Path::new("/a/cache/charts")
        );
        assert_eq!(with(&[("OMK_HOME", "/b"), ("HOME", "/h")]).unwrap(), Path::new("/b/cache/charts"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x/omk/charts"));
        assert_eq!(with(&[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/omk/charts"));
        assert_eq!(with(&[]), None);
    }
}

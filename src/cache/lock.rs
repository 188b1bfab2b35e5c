//! Who is at work in the cache.
//!
//! | file | held | by |
//! |---|---|---|
//! | `locks/lease-…` | exclusively, for as long as it lives | each user of the cache |
//! | `locks/content` | shared, for moments | who relies on blobs that are there, or writes a name |
//! | `locks/content` | exclusively | who deletes |
//! | `locks/names` | exclusively, for moments | who reads, changes and writes a name's file |
//! | `locks/index` | exclusively, for moments | who writes `index.json`, `index.yaml`, statistics |
//!
//! Taken in this order, so nobody waits in a circle. All are `flock`s: they go with the process, however it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::{CacheError, ImageCache};
use crate::store::{StoreError, open_locked};

const LEASE: &str = "lease-";

/// Keeps what its holder uses from being deleted, until dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    _locked: File,
    /// Names were written that `index.json` may lack.
    unpublished: AtomicBool,
}

impl Lease {
    pub(super) fn writes_names(&self) {
        self.unpublished.store(true, Ordering::Relaxed);
    }

    pub(super) fn published(&self) {
        self.unpublished.store(false, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that stays is found to be dead by the next who looks, who does then what was not done.
        if !self.unpublished.load(Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A lock that goes with the value.
#[derive(Debug)]
pub(super) struct Guard {
    _file: Option<File>,
}

/// What is known of others.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// When each living one began.
    pub(super) living: Vec<SystemTime>,
    /// Left by processes that died: whatever they were to do at their end was not done.
    pub(super) dead: Vec<(PathBuf, File)>,
}

impl ImageCache {
    /// Begins to use the cache. Blocks.
    ///
    /// # Errors
    /// When the cache cannot be made or written to.
    pub fn lease(&self) -> Result<Lease, CacheError> {
        self.prepare()?;
        let name = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        let (new, path) =
            (self.locks().join(format!("new-{name}")), self.locks().join(format!("{LEASE}{name}")));
        // It has its name only when it is held: one that is not held is that of a dead process.
        let locked = open_locked(&new)?;
        std::fs::rename(&new, &path).map_err(StoreError::io("rename to", &path))?;
        Ok(Lease { path, _locked: locked, unpublished: AtomicBool::new(false) })
    }

    /// All but `own`.
    pub(super) fn leases(&self, own: Option<&Lease>) -> Result<Leases, CacheError> {
        let mut found = Leases::default();
        let folder = self.locks();
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(StoreError::io("read", &folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &folder))?;
            if !entry.file_name().to_str().is_some_and(|n| n.starts_with(LEASE)) {
                continue;
            }
            if own.is_some_and(|own| own.path == entry.path()) {
                continue;
            }
            // It may end while we look.
            let Ok(file) = File::open(entry.path()) else { continue };
            match file.try_lock() {
                Ok(()) => found.dead.push((entry.path(), file)),
                Err(std::fs::TryLockError::WouldBlock) => {
                    let began = file.metadata().and_then(|m| m.modified());
                    found.living.push(began.map_err(StoreError::io("read", entry.path()))?);
                }
                Err(std::fs::TryLockError::Error(e)) => {
                    return Err(StoreError::io("lock", entry.path())(e).into());
                }
            }
        }
        Ok(found)
    }

    /// Nothing is deleted meanwhile.
    pub(super) fn content_shared(&self) -> Result<Guard, CacheError> {
        let path = self.locks().join("content");
        let file = open_lock(&path)?;
        file.iter().try_for_each(File::lock_shared).map_err(StoreError::io("lock", path))?;
        Ok(Guard { _file: file })
    }

    /// Nobody begins to rely on anything meanwhile.
    pub(super) fn content_alone(&self) -> Result<Guard, CacheError> {
        self.alone("content")
    }

    pub(super) fn names_alone(&self) -> Result<Guard, CacheError> {
        self.alone("names")
    }

    pub(super) fn index_alone(&self) -> Result<Guard, CacheError> {
        self.alone("index")
    }

    fn alone(&self, name: &str) -> Result<Guard, CacheError> {
        let path = self.locks().join(name);
        let file = open_lock(&path)?;
        file.iter().try_for_each(File::lock).map_err(StoreError::io("lock", path))?;
        Ok(Guard { _file: file })
    }
}

/// `None` on a medium that cannot be written to: nobody deletes anything there.
fn open_lock(path: &Path) -> Result<Option<File>, StoreError> {
    let mut options = std::fs::OpenOptions::new();
    match options.read(true).write(true).create(true).truncate(false).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if read_only(&e) => Ok(File::open(path).ok()),
        Err(e) => Err(StoreError::io("write", path)(e)),
    }
}

/// Whether it failed because nobody, or not this user, may write there.
pub(super) fn read_only(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied)
}

/// Whether it failed because there is no room.
pub(super) fn full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Removes what dead processes left, once their work is done.
pub(super) fn bury(dead: Vec<(PathBuf, File)>) {
    for (path, _locked) in dead {
        let _ = std::fs::remove_file(path);
    }
}

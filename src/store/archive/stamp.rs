use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::store::StoreError;

/// What stands at a path at some moment, so that it can be told later whether it still does. A link stands for
/// itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(Option<Is>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Is {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of what stands there now, or of its absence. Blocks.
    ///
    /// # Errors
    /// The file system's.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        match std::fs::symlink_metadata(path) {
            Ok(m) => Ok(Self(Some(Is {
                device: m.dev(),
                inode: m.ino(),
                size: m.len(),
                changed: (m.mtime(), m.mtime_nsec()),
            }))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self(None)),
            Err(e) => Err(StoreError::io("read", path)(e)),
        }
    }
}

//! Media sets: a bundle on several volumes, each of which says what it is and of what it is a part. They are read
//! where they lie, never joined. See `docs/bundles.md`.

use std::path::PathBuf;

use crate::store::StoreError;

mod check;
mod find;
mod header;
mod medium;
mod parity;
mod repair;
mod size;
mod split;

pub use check::BadVolume;
pub(super) use check::check;
pub(super) use find::{VolumeSet, looks_like_volume};
pub use header::Header as VolumeHeader;
pub use repair::{Rebuilt, RepairReport, repair};
pub use size::VolumeSize;
pub use split::{SplitReport, SplitRequest, WrittenVolume, split};

/// What the names of volumes end with.
pub(super) const EXTENSION: &str = "omkv";

/// Why volumes cannot be used, or not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The file system said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing that is whole enough to be recognised.
    #[error("{} holds no volume that can be recognised", path.display())]
    None {
        /// The file or folder.
        path: PathBuf,
    },
    /// Volumes of two sets.
    #[error(
        "{} and {} belong to different sets; name one volume of the set that is meant, or take the others away",
        first.display(),
        second.display()
    )]
    TwoSets {
        /// A volume of one.
        first: PathBuf,
        /// A volume of the other.
        second: PathBuf,
    },
    /// One volume in two files of a folder.
    #[error("{} and {} are the same volume; take one of them away", first.display(), second.display())]
    Twice {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Volumes that the bundle cannot be read without.
    #[error("{}", missing.join("; "))]
    Missing {
        /// A text for each.
        missing: Vec<String>,
    },
    /// No volume has a whole table of hashes.
    #[error("no volume of {name} has a whole table, so nothing says what their bytes must be")]
    NoTable {
        /// The name of the set.
        name: String,
    },
    /// More is damaged than parity can stand in for.
    #[error(
        "{} of the volumes are missing or damaged at the same place ({}), and {parity} can be rebuilt there; find a \
         good copy of one of them",
        damaged.len(),
        damaged.join(", ")
    )]
    Beyond {
        /// Names of the files.
        damaged: Vec<String>,
        /// Volumes with parity.
        parity: u64,
    },
    /// So small that no volume can hold anything, or so many that they cannot be handled.
    #[error(
        "volumes of {} are too small for a bundle of {}: at most {} volumes are written",
        crate::units::bytes(*limit),
        crate::units::bytes(*size),
        header::MAX_VOLUMES
    )]
    TooSmall {
        /// Bytes of a volume.
        limit: u64,
        /// Bytes of the bundle.
        size: u64,
    },
    /// The folder holds something that is not replaced.
    #[error("{} is in the way: {reason}", path.display())]
    Occupied {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The coder refused.
    #[error("parity cannot be computed: {0}")]
    Parity(String),
}

impl VolumeError {
    /// Whether the volumes were good ones before something happened to them.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::None { .. } | Self::Missing { .. } | Self::NoTable { .. } | Self::Beyond { .. })
    }
}

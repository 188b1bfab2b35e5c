use std::path::PathBuf;

use super::artifact::ArtifactError;
use super::delta::{BaseKind, listed};
use super::spool::Compression;
use super::volume::VolumeError;
use crate::graph::GraphError;
use crate::oci::Digest;
use crate::store::StoreError;
use crate::store::archive::{ArchiveError, EntryProblem};

/// Why a bundle cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file is no archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing at the path.
    #[error(
        "cannot open bundle {}: No such file or directory{}; name the file or folder that `omk bundle build -o` wrote",
        path.display(),
        near.as_ref().map(|n| format!(" (did you mean {}?)", n.display())).unwrap_or_default()
    )]
    Missing {
        /// The path.
        path: PathBuf,
        /// What lies beside it under a like name.
        near: Option<PathBuf>,
    },
    /// Not an image layout.
    #[error("{} is no bundle: {reason}", path.display())]
    NotBundle {
        /// The file or folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// It may be a good one, and is one too many.
    #[error("{} cannot be read as well: {reason}", path.display())]
    Together {
        /// The second one.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// It cannot be unpacked.
    #[error("{} is {how}-compressed and cannot be unpacked: {reason}", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// How it is compressed.
        how: Compression,
        /// What is wrong with it.
        reason: String,
        /// Whether it looks as if it was whole once.
        cut: bool,
    },
    /// Parts of it are damaged or missing.
    #[error("bundle {} is damaged: {}: {}{}", path.display(), first.entry, first.reason, more(*others))]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// The first damaged entry.
        first: EntryProblem,
        /// How many more there are.
        others: usize,
    },
    /// A chart or files in it cannot be used.
    #[error("bundle {}: {source}", path.display())]
    Artifact {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: ArtifactError,
    },
    /// It is a delta, and all of it is needed.
    #[error(
        "{} is a delta, and its base {base} is not in it: {}. It leaves out {} that {base} has ({}):{}",
        path.display(), BaseKind::whole(base, &path.display().to_string()), count(absent.len()), crate::units::bytes(*bytes), listed(absent.iter())
    )]
    Delta {
        /// The file or folder.
        path: PathBuf,
        /// What it was built against.
        base: String,
        /// Blobs that are left out.
        absent: Vec<Digest>,
        /// Bytes of them.
        bytes: u64,
    },
    /// Volumes cannot be read together.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// An image in it cannot be used.
    #[error("bundle {}: {source}", path.display())]
    Image {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: GraphError,
    },
}

fn count(blobs: usize) -> String {
    if blobs == 1 { "1 blob".to_owned() } else { format!("{blobs} blobs") }
}

fn more(n: usize) -> String {
    if n == 0 { String::new() } else { format!(" (and {n} more)") }
}

impl BundleError {
    /// Whether somebody stopped it.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Cancelled) | Self::Volumes(VolumeError::Store(StoreError::Cancelled))
        )
    }

    /// Whether the bundle was a good one before something happened to it.
    pub fn is_damage(&self) -> bool {
        if let Self::Volumes(error) = self {
            return error.is_damage();
        }
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Packed { cut: true, .. }
                | Self::Store(
                    StoreError::DigestMismatch { .. }
                        | StoreError::SizeMismatch { .. }
                        | StoreError::NotFound { .. }
                )
        )
    }
}

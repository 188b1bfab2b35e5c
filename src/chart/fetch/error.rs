//! Why a chart could not be had.

use std::path::PathBuf;

use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why a chart could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// What was given stands for no chart.
    #[error("{given:?} is no chart: {reason}")]
    Reference {
        /// As given.
        given: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// A web server did not give what was asked for.
    #[error("cannot fetch {url}: {reason}")]
    Http {
        /// What was asked for, without a login.
        url: String,
        /// What happened.
        reason: String,
    },
    /// More bytes than are accepted.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which chart or index.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// The index of a repository cannot be read.
    #[error("{url} is no index of a chart repository: {reason}")]
    Index {
        /// Its address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The repository does not have it.
    #[error("no chart version found for {name}-{version} in {place}: {reason}")]
    NoVersion {
        /// The chart.
        name: String,
        /// The version or constraint, empty for the latest.
        version: String,
        /// The repository.
        place: String,
        /// What it has instead.
        reason: String,
    },
    /// The bytes are not those that were promised.
    #[error(
        "{what} has digest {found} where {promised_by} promises {expected}; it was changed on the way or in the repository"
    )]
    Digest {
        /// The chart.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
        /// Index, provenance file.
        promised_by: &'static str,
    },
    /// The artifact is no chart.
    #[error("{image} is not a Helm chart: {reason}")]
    NotAChart {
        /// Its name.
        image: String,
        /// What it is.
        reason: String,
    },
    /// A registry said no.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A blob could not be read.
    #[error(transparent)]
    Blob(#[from] StoreError),
    /// The cache cannot be used.
    #[error("cannot use the cache of charts at {}: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nothing may be fetched and the cache does not have it.
    #[error("{what} is not in the cache of charts at {}, and --offline forbids to fetch it; the same command without --offline does, where {place} can be reached", cache.display())]
    Offline {
        /// What is missing.
        what: String,
        /// Where it would come from.
        place: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// The token was cancelled.
    #[error("fetching was cancelled")]
    Cancelled,
}

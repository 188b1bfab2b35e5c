//! A lock: which digest each name stood for when it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::build::{BuildError, Upstream, resolve};
use crate::event::Events;
use crate::oci::{Digest, ImageRef, Platform};
use crate::store::{StoreError, write_small};

/// What `--lock` writes, as YAML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Of the format: 1.
    pub version: u32,
    /// The platforms that each image was seen to have; empty when none was asked for.
    pub platforms: Vec<Platform>,
    /// Complete name to digest: that of the index where an image has several platforms.
    pub images: BTreeMap<ImageRef, Digest>,
}

/// A lock, and the images that it lacks.
#[derive(Debug, Clone)]
pub struct Locked {
    /// What could be resolved.
    pub lock: Lock,
    /// A text for each image that could not be, sorted.
    pub failed: Vec<String>,
}

/// Asks what each name stands for. With `platforms`, an image that lacks one of them counts as not to be had.
///
/// # Errors
/// [`BuildError::Cancelled`].
pub async fn lock(
    images: &[ImageRef],
    platforms: &[Platform],
    upstream: &dyn Upstream,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Locked, BuildError> {
    let wanted: BTreeSet<&ImageRef> = images.iter().collect();
    let (found, failed) = resolve(&wanted, platforms, upstream, events, cancel).await?;
    let images = found.into_iter().map(|(image, graph)| (image, graph.root.digest().clone())).collect();
    let mut failed: Vec<String> = failed.into_iter().map(|f| f.reason).collect();
    failed.sort();
    Ok(Locked { lock: Lock { version: 1, platforms: platforms.to_vec(), images }, failed })
}

impl Lock {
    /// Writes it whole or not at all. Blocks.
    ///
    /// # Errors
    /// When its folder cannot be written to.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let text = serde_yaml::to_string(self)
            .map_err(|e| StoreError::Remote(format!("cannot write {}: {e}", path.display())))?;
        write_small(path, text.as_bytes())
    }
}

//! A lock: which digest each name stood for when it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::build::{BuildError, Upstream, resolve};
use crate::event::Events;
use crate::graph::ImageGraph;
use crate::oci::{Digest, ImageRef, Platform};
use crate::registry::Referrer;
use crate::store::{BlobSource, StoreError, write_small};

/// What `--lock` writes, as YAML.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// Of the format: 1.
    pub version: u32,
    /// The platforms that each image was seen to have; empty when none was asked for.
    pub platforms: Vec<Platform>,
    /// Complete name to digest: that of the index where an image has several platforms.
    pub images: BTreeMap<ImageRef, Digest>,
    /// Images that may be needed and could not be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ImageRef>,
    /// Signatures, attestations and SBOMs, by the digest of the image that they belong to; nothing when nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<BTreeMap<Digest, Vec<LockedReferrer>>>,
    /// Charts, by what the definition calls them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub charts: BTreeMap<String, LockedChart>,
    /// Files that ride along, by their path in the bundle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, LockedFile>,
}

/// Something that refers to an image, as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockedReferrer {
    /// The name under which its registry has it: a tag, or its digest.
    pub name: ImageRef,
    /// Of its manifest.
    pub digest: Digest,
    /// What it is about: the image, one of its manifests, or another one of these.
    pub subject: Digest,
}

impl LockedReferrer {
    fn of(found: &Referrer) -> Self {
        let (image, digest) = (&found.graph.image, found.graph.root.digest().clone());
        let name = if image.tag().is_some() { image.clone() } else { image.at(digest.clone()) };
        Self { name, digest, subject: found.subject.clone() }
    }
}

/// A chart as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedChart {
    /// Its version.
    pub version: String,
    /// Of the packed chart with its dependencies.
    pub digest: Digest,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedFile {
    /// Of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file system said no.
    #[error("cannot read the lock {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no lock.
    #[error("{} is no lock that can be used: {reason}; `omk bundle lock` writes it anew", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Bytes of a lock; one of ten thousand images has about 2 MB.
const MAX_LOCK_BYTES: u64 = 16 << 20;

/// A lock, and the images that it lacks.
#[derive(Debug, Clone)]
pub struct Locked {
    /// What could be resolved.
    pub lock: Lock,
    /// A text for each image that could not be, sorted.
    pub failed: Vec<String>,
}

/// Asks what each name stands for. With `platforms`, an image that lacks one of them counts as not to be had;
/// `with_referrers`: also what refers to it, of an upstream that is told to look for that.
///
/// # Errors
/// [`BuildError::Cancelled`].
pub async fn lock(
    images: &[ImageRef],
    platforms: &[Platform],
    with_referrers: bool,
    upstream: &dyn Upstream,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Locked, BuildError> {
    let wanted: BTreeSet<&ImageRef> = images.iter().collect();
    let (found, failed) = resolve(&wanted, platforms, upstream, events, cancel).await?;
    let mut failed: Vec<String> = failed.into_iter().map(|f| f.reason).collect();
    let (mut images, mut about) = (BTreeMap::new(), BTreeMap::new());
    for (image, graph) in found {
        if with_referrers && !about.contains_key(graph.root.digest()) {
            match upstream.referrers(&graph, events, cancel).await {
                Ok(found) => {
                    let mut all: Vec<LockedReferrer> = found.iter().map(LockedReferrer::of).collect();
                    all.sort();
                    about.insert(graph.root.digest().clone(), all);
                }
                Err(_) if cancel.is_cancelled() => return Err(BuildError::Cancelled),
                Err(error) => {
                    failed.push(format!("what refers to {image}: {error}"));
                    continue;
                }
            }
        }
        images.insert(image, graph.root.digest().clone());
    }
    failed.sort();
    let referrers = with_referrers.then_some(about);
    let lock = Lock { version: 1, platforms: platforms.to_vec(), images, referrers, ..Lock::default() };
    Ok(Locked { lock, failed })
}

impl Lock {
    /// Writes it whole or not at all. Blocks.
    ///
    /// # Errors
    /// When its folder cannot be written to.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let text = self.text();
        let text = text.ok_or_else(|| StoreError::Remote(format!("cannot write {}", path.display())))?;
        write_small(path, text.as_bytes())
    }

    /// Its YAML.
    pub(super) fn text(&self) -> Option<String> {
        serde_yaml::to_string(self).ok()
    }

    /// Reads one. Blocks.
    ///
    /// # Errors
    /// [`LockError`] when it is not there or no lock of a version that is known.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.into(), source };
        let invalid = |reason: String| LockError::Invalid { path: path.into(), reason };
        let mut text = String::new();
        std::fs::File::open(path)
            .map_err(io)?
            .take(MAX_LOCK_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(io)?;
        if text.len() as u64 > MAX_LOCK_BYTES {
            return Err(invalid(format!("it is larger than {MAX_LOCK_BYTES} bytes")));
        }
        let lock: Self = serde_yaml::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        if lock.version != 1 {
            return Err(invalid(format!("its version is {}, and this omk knows 1", lock.version)));
        }
        Ok(lock)
    }

    /// What a newer lock says otherwise, a line each.
    pub fn changes(&self, newer: &Self) -> Vec<String> {
        let images = newer.images.keys().chain(&newer.left_out).cloned().collect();
        let mut changes = self.drift(&newer.platforms, &images, &newer.charts, &newer.files);
        for (image, now) in &newer.images {
            if let Some(then) = self.images.get(image).filter(|then| *then != now) {
                changes.push(format!("image {image} is {}, locked was {}", now.short(), then.short()));
            }
        }
        if let (Some(then), Some(now)) = (&self.referrers, &newer.referrers) {
            let then: BTreeSet<&LockedReferrer> = then.values().flatten().collect();
            let now: BTreeSet<&LockedReferrer> = now.values().flatten().collect();
            let line = |r: &LockedReferrer, how: &str| {
                format!("{} {}, which refers to an image, is {how}", r.name, r.digest.short())
            };
            changes.extend(now.difference(&then).map(|r| line(r, "new")));
            changes.extend(then.difference(&now).map(|r| line(r, "gone")));
        }
        changes
    }

    /// What is different now, a line each: of what a definition asks for at present.
    pub fn drift(
        &self,
        platforms: &[Platform],
        images: &BTreeSet<ImageRef>,
        charts: &BTreeMap<String, LockedChart>,
        files: &BTreeMap<String, LockedFile>,
    ) -> Vec<String> {
        let mut drift = Vec::new();
        if self.platforms != platforms {
            let text = |all: &[Platform]| {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                if all.is_empty() { "all".to_owned() } else { all.join(", ") }
            };
            drift.push(format!("platforms are {}, locked were {}", text(platforms), text(&self.platforms)));
        }
        let known = |image: &&ImageRef| self.images.contains_key(image) || self.left_out.contains(image);
        drift.extend(images.iter().filter(|i| !known(i)).map(|i| format!("image {i} is new")));
        let gone = self.images.keys().chain(&self.left_out).filter(|i| !images.contains(i));
        drift.extend(gone.map(|i| format!("image {i} is not needed any more")));
        for (name, now) in charts {
            match self.charts.get(name) {
                None => drift.push(format!("chart {name} is new")),
                Some(then) if then == now => {}
                Some(then) => drift.push(format!(
                    "chart {name} is {} {}, locked was {} {}",
                    now.version,
                    now.digest.short(),
                    then.version,
                    then.digest.short()
                )),
            }
        }
        let gone = self.charts.keys().filter(|name| !charts.contains_key(*name));
        drift.extend(gone.map(|name| format!("chart {name} is not needed any more")));
        for (name, now) in files {
            match self.files.get(name) {
                None => drift.push(format!("file {name} is new")),
                Some(then) if then == now => {}
                Some(then) => {
                    drift.push(format!(
                        "file {name} is {}, locked was {}",
                        now.digest.short(),
                        then.digest.short()
                    ));
                }
            }
        }
        let gone = self.files.keys().filter(|name| !files.contains_key(*name));
        drift.extend(gone.map(|name| format!("file {name} is not needed any more")));
        drift
    }
}

/// An upstream whose names stand for what a lock says, whatever they stand for by now. What the lock does not have is asked
/// for by its name.
pub struct Pinned<'a> {
    /// Where the bytes are.
    pub inner: &'a dyn Upstream,
    /// What was locked.
    pub lock: &'a Lock,
}

#[async_trait]
impl Upstream for Pinned<'_> {
    async fn graph(
        &self,
        image: &ImageRef,
        platforms: &[Platform],
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<ImageGraph, Box<dyn std::error::Error + Send + Sync>> {
        let Some(digest) = self.lock.images.get(image) else {
            return self.inner.graph(image, platforms, events, cancel).await;
        };
        let graph = self.inner.graph(&image.at(digest.clone()), platforms, events, cancel).await?;
        Ok(ImageGraph { image: image.clone(), ..graph })
    }

    fn blobs(&self, image: &ImageRef, events: &Events) -> Arc<dyn BlobSource> {
        self.inner.blobs(image, events)
    }

    fn is_plain(&self, registry: &str) -> bool {
        self.inner.is_plain(registry)
    }

    fn kept(&self) -> u64 {
        self.inner.kept()
    }

    async fn referrers(
        &self,
        of: &ImageGraph,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<Referrer>, Box<dyn std::error::Error + Send + Sync>> {
        let locked = self.lock.referrers.as_ref().and_then(|all| all.get(of.root.digest()));
        let Some(locked) = locked else { return self.inner.referrers(of, events, cancel).await };
        let mut found = Vec::with_capacity(locked.len());
        for one in locked {
            // All of it, whatever platforms are taken: these are no images.
            let graph = self.inner.graph(&one.name.at(one.digest.clone()), &[], events, cancel).await?;
            let graph = ImageGraph { image: one.name.clone(), ..graph };
            found.push(Referrer { subject: one.subject.clone(), graph });
        }
        Ok(found)
    }
}

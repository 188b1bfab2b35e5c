//! What a name stands for: one file a name, so that looking one up reads one file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{CacheError, ImageCache, rfc3339};
use crate::graph::ImageGraph;
use crate::oci::{Descriptor, Digest, ImageRef, Platform};
use crate::store::{StoreError, write_small};

/// Of the file's form.
const VERSION: u32 = 1;
/// An index of 60 platforms with 100 layers each has 2 MB of pointers.
const MAX_RECORD_BYTES: u64 = 16 << 20;
/// Folders below `manifests/`: a name has at most 255 characters.
const MAX_DEPTH: usize = 130;

/// Who put an image into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// omk.
    Omk,
    /// Another tool, which wrote into the cache as an OCI layout; `skopeo copy` for one.
    Layout,
}

/// One file below `manifests/`. Written after all its blobs; what is in it can be had again from the image's documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) image: ImageRef,
    pub(super) root: Descriptor,
    /// Those whose blobs are there; empty for artifacts.
    pub(super) platforms: Vec<Platform>,
    /// Children before parents.
    pub(super) blobs: Vec<Descriptor>,
    /// RFC 3339.
    pub(super) updated: String,
    pub(super) source: Source,
    /// How another tool wrote the name, where that is not the complete one: by this that tool finds it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alias: Option<String>,
}

impl Record {
    pub(super) fn new(image: &ImageRef, graph: &ImageGraph, source: Source) -> Self {
        let mut platforms: Vec<Platform> = graph.images.iter().filter_map(|i| i.platform.clone()).collect();
        platforms.sort();
        platforms.dedup();
        let root = Descriptor::new(graph.root.media_type(), graph.root.digest().clone(), graph.root.size());
        let (image, blobs, updated) = (key(image), graph.blobs.clone(), rfc3339(SystemTime::now()));
        Self { version: VERSION, image, root, platforms, blobs, updated, source, alias: None }
    }

    pub(super) fn with_alias(self, alias: &str) -> Self {
        let alias = (alias != self.image.to_string()).then(|| alias.to_owned());
        Self { alias, ..self }
    }

    /// Takes in what an earlier pull of the same image, for other platforms, brought.
    fn join(mut self, earlier: Self) -> Self {
        if earlier.root.digest() != self.root.digest() {
            return self;
        }
        let new = std::mem::take(&mut self.blobs);
        let known = |b: &Descriptor| new.iter().any(|n| n.digest() == b.digest());
        self.blobs = earlier.blobs.into_iter().filter(|b| !known(b)).collect();
        self.blobs.extend(new);
        self.platforms.extend(earlier.platforms);
        self.platforms.sort();
        self.platforms.dedup();
        self.alias = self.alias.or(earlier.alias);
        self
    }

    /// Whether an earlier one says all of it.
    fn is_in(&self, earlier: &Self) -> bool {
        let has = |b: &Descriptor| earlier.blobs.iter().any(|e| e.digest() == b.digest());
        earlier.root.digest() == self.root.digest()
            && (self.alias.is_none() || self.alias == earlier.alias)
            && self.platforms.iter().all(|p| earlier.platforms.contains(p))
            && self.blobs.iter().all(has)
    }

    pub(super) fn size(&self) -> u64 {
        self.blobs.iter().fold(0, |n, b| n.saturating_add(b.size()))
    }
}

/// A name's file, and when the image was last used.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) used: SystemTime,
    /// Blobs of what refers to the image.
    pub(super) about: Vec<Descriptor>,
}

/// A file below `manifests/` that is no record.
#[derive(Debug, Clone)]
pub(super) struct Damaged {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// One image of the cache. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct CachedImage {
    /// Its name: with a tag, or with a digest alone.
    pub image: ImageRef,
    /// Of its index or manifest.
    pub digest: Digest,
    /// Media type of that.
    pub media_type: String,
    /// The platforms that are there.
    pub platforms: Vec<Platform>,
    /// How many blobs it has.
    pub blobs: usize,
    /// Bytes of these, shared ones too, as they are stored.
    pub size: u64,
    /// When it was last asked for, in UTC.
    pub last_used: String,
    /// When its name was last written, in UTC.
    pub updated: String,
    /// Who put it there.
    pub source: Source,
    /// Whether it is never given up.
    pub pinned: bool,
    /// Whether all of its blobs are there, with their sizes: what these bytes are only a check tells.
    pub whole: bool,
}

impl Stored {
    /// All that stays as long as the name does.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.record.blobs.iter().chain(&self.about)
    }

    pub(super) fn shown(&self, cache: &ImageCache, pinned: bool) -> CachedImage {
        let r = &self.record;
        CachedImage {
            image: r.image.clone(),
            digest: r.root.digest().clone(),
            media_type: r.root.media_type().to_owned(),
            platforms: r.platforms.clone(),
            blobs: r.blobs.len(),
            size: r.size(),
            last_used: rfc3339(self.used),
            updated: r.updated.clone(),
            source: r.source,
            pinned,
            whole: self.blobs().all(|blob| cache.has(blob)),
        }
    }
}

/// The name under which an image is kept. Where a tag stands beside a digest nobody has asked what the tag stands for,
/// so it is kept by its digest alone.
pub(super) fn key(image: &ImageRef) -> ImageRef {
    match image.digest() {
        Some(digest) => image.at(digest.clone()),
        None => image.clone(),
    }
}

impl ImageCache {
    /// No part of a reference is `..` or holds a slash it should not: see [`ImageRef`].
    pub(super) fn record_path(&self, image: &ImageRef) -> PathBuf {
        let folder = self.root.join("manifests").join(image.registry()).join(image.repository());
        match (image.digest(), image.tag()) {
            (Some(d), _) => folder.join(format!("@{}-{}.json", d.algorithm().as_str(), d.hex())),
            (None, tag) => folder.join(format!("{}.json", tag.unwrap_or("latest"))),
        }
    }

    pub(super) fn record(&self, image: &ImageRef) -> Result<Option<Stored>, CacheError> {
        match read(&self.record_path(image))? {
            Some(Ok(stored)) if stored.record.image == key(image) => {
                let about = self.blobs_about(stored.record.root.digest())?;
                Ok(Some(Stored { about, ..stored }))
            }
            // As good as none: `cache verify` tells, and the next pull writes it anew.
            _ => Ok(None),
        }
    }

    /// Writes what a name stands for from now on. The caller holds `content`, shared or alone, and the blobs are there.
    pub(super) fn write_record(&self, record: Record) -> Result<(), CacheError> {
        self.write(record, write_small)
    }

    /// As [`ImageCache::write_record`], for many at once: the caller syncs them together.
    pub(super) fn write_record_unsynced(&self, record: Record) -> Result<(), CacheError> {
        self.write(record, |path, bytes| {
            let staged = path.with_extension(format!("{:016x}.tmp", fastrand::u64(..)));
            std::fs::write(&staged, bytes).map_err(StoreError::io("write", &staged))?;
            std::fs::rename(&staged, path).map_err(StoreError::io("rename to", path))
        })
    }

    fn write(
        &self,
        record: Record,
        keep: impl Fn(&Path, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), CacheError> {
        let path = self.record_path(&record.image);
        let _names = self.names_alone()?;
        let record = match self.record(&record.image)? {
            Some(earlier) if record.is_in(&earlier.record) => return self.used(&record.image),
            Some(earlier) => record.join(earlier.record),
            None => record,
        };
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|e| StoreError::Remote(format!("cannot write {}: {e}", path.display())))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        }
        Ok(keep(&path, &text)?)
    }

    /// All names, sorted, and what is no record.
    pub(super) fn records(&self) -> Result<(Vec<Stored>, Vec<Damaged>), CacheError> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let top = self.root.join("manifests");
        self.walk(&top, 0, &mut good, &mut bad)?;
        good.sort_by(|a, b| a.record.image.cmp(&b.record.image));
        let about = self.all_blobs_about()?;
        for stored in &mut good {
            stored.about = about.get(stored.record.root.digest()).cloned().unwrap_or_default();
        }
        Ok((good, bad))
    }

    fn walk(
        &self,
        folder: &Path,
        depth: usize,
        good: &mut Vec<Stored>,
        bad: &mut Vec<Damaged>,
    ) -> Result<(), CacheError> {
        let entries = match std::fs::read_dir(folder) {
            // Removed while we look.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(StoreError::io("read", folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", folder))?;
            let (path, kind) =
                (entry.path(), entry.file_type().map_err(StoreError::io("read", entry.path()))?);
            if kind.is_dir() && depth < MAX_DEPTH {
                self.walk(&path, depth + 1, good, bad)?;
            } else if kind.is_file() && path.extension().is_some_and(|e| e == "json") {
                match read(&path)? {
                    None => {}
                    Some(Ok(stored)) if self.record_path(&stored.record.image) == path => good.push(stored),
                    Some(Ok(stored)) => {
                        let reason = format!("it is that of another name, {}", stored.record.image);
                        bad.push(Damaged { path, reason });
                    }
                    Some(Err(reason)) => bad.push(Damaged { path, reason }),
                }
            }
        }
        Ok(())
    }

    /// Every image, sorted by name. Blocks.
    ///
    /// # Errors
    /// When the cache or its pins cannot be read. A cache that is not there has no images.
    pub fn list(&self) -> Result<Vec<CachedImage>, CacheError> {
        self.refresh()?;
        let pins = self.pins()?;
        let (all, _) = self.records()?;
        Ok(all.iter().map(|s| s.shown(self, pins.hold(&s.record.image))).collect())
    }

    /// One image by its name. Reads little, however many there are. Blocks.
    ///
    /// # Errors
    /// [`CacheError::NotCached`], with names that are near; reading failed.
    pub fn get(&self, image: &ImageRef) -> Result<CachedImage, CacheError> {
        self.refresh()?;
        match self.record(image)? {
            Some(stored) => Ok(stored.shown(self, self.pins()?.hold(&stored.record.image))),
            None => Err(self.not_cached(image)),
        }
    }

    pub(super) fn not_cached(&self, image: &ImageRef) -> CacheError {
        let (path, all) = (self.root.clone(), self.records().map(|r| r.0).unwrap_or_default());
        let near = image.to_string().parse::<crate::discover::ImagePattern>();
        let near = near.map(|p| p.near(all.iter().map(|s| &s.record.image))).unwrap_or_default();
        CacheError::NotCached { image: image.clone(), path, near }
    }

    /// Takes a name out; its blobs stay until [`ImageCache::gc`]. Blocks.
    ///
    /// # Errors
    /// [`CacheError::NotCached`]; it could not be removed.
    pub fn remove(&self, images: &[ImageRef]) -> Result<Vec<CachedImage>, CacheError> {
        self.refresh()?;
        let mut gone = Vec::new();
        let pins = self.pins()?;
        for image in images {
            gone.push(self.record(image)?.ok_or_else(|| self.not_cached(image))?);
        }
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let lease = self.lease()?;
        lease.writes_names();
        {
            let _names = self.names_alone()?;
            gone.iter().try_for_each(|s| self.unlink(&s.record.image))?;
        }
        self.publish()?;
        lease.published();
        Ok(gone.iter().map(|s| s.shown(self, pins.hold(&s.record.image))).collect())
    }

    /// Removes a name's file, and folders that are empty then.
    pub(super) fn unlink(&self, image: &ImageRef) -> Result<(), CacheError> {
        let path = self.record_path(image);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", path)(e).into());
            }
            _ => {}
        }
        let top = self.root.join("manifests");
        for folder in path.ancestors().skip(1).take_while(|f| *f != top) {
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// `None`: it is not there. The inner error is what is wrong with it.
fn read(path: &Path) -> Result<Option<Result<Stored, String>>, CacheError> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        opened => opened.map_err(StoreError::io("read", path))?,
    };
    let meta = file.metadata().map_err(StoreError::io("read", path))?;
    if !meta.is_file() || meta.len() > MAX_RECORD_BYTES {
        return Ok(Some(Err("it is no file of omk's".to_owned())));
    }
    let used = meta.modified().map_err(StoreError::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_RECORD_BYTES).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok(Some(match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) if record.version == VERSION => Ok(Stored { record, used, about: Vec::new() }),
        Ok(record) => Err(format!("it is of version {}, this omk reads {VERSION}", record.version)),
        Err(e) => Err(e.to_string()),
    }))
}

//! Making room: names that nobody used go first, then blobs that no name needs.
//!
//! Everything is decided while nobody can begin to rely on anything (`locks/content`), from the names alone. What a
//! living process uses, or may have brought a moment ago, is younger than a limit and stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::metadata::Metadata;
use super::record::Stored;
use super::{CacheError, ImageCache, rfc3339};
use crate::discover::Exclusion;
use crate::oci::{Digest, ImageRef, Manifest};
use crate::store::{StoreError, sync_folder};

/// What goes. With the defaults: blobs that no image needs, unless they came within the last hour.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Give up images until the blobs have at most so many bytes, the longest unused first.
    pub max_size: Option<u64>,
    /// Give up images that were not used for so long.
    pub unused_for: Option<Duration>,
    /// Keep these, beside those that are pinned for good.
    pub pins: Vec<Exclusion>,
    /// Keep blobs that are younger, for the sake of tools that do not say what they are about to need.
    pub grace: Duration,
    /// Say what would go, and delete nothing.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        let grace = Duration::from_secs(3600);
        Self { max_size: None, unused_for: None, pins: Vec::new(), grace, dry_run: false }
    }
}

/// An image that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// Its name.
    pub image: ImageRef,
    /// What it stood for.
    pub digest: Digest,
    /// In UTC.
    pub last_used: String,
    /// Why: `unused` or `size`.
    pub reason: &'static str,
}

/// What went. Sizes are bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// Images that were given up, the longest unused first.
    pub images: Vec<Evicted>,
    /// Blobs that were deleted.
    pub blobs: usize,
    /// Bytes of these, and of what interrupted pulls and other tools had left.
    pub freed: u64,
    /// Bytes of blobs that no image needs and that stay, because they are young or in use.
    pub young: u64,
    /// Bytes of the blobs that stay.
    pub size: u64,
    /// Bytes over `max_size` that could not be freed: pinned, young, in use, or another tool's.
    pub over: u64,
    /// Whether nothing was really deleted.
    pub dry_run: bool,
}

/// What [`ImageCache::clear`] removed. Sizes are bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClearReport {
    /// Images that are gone.
    pub images: usize,
    /// Images that stay, because they are pinned.
    pub kept: usize,
    /// Blobs that are gone.
    pub blobs: usize,
    /// Bytes that were freed.
    pub freed: u64,
    /// Whether nothing was really deleted.
    pub dry_run: bool,
}

/// Damaged blobs are kept so long for whoever wants to know what happened.
const QUARANTINE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A file that may go.
struct File {
    path: PathBuf,
    size: u64,
    changed: SystemTime,
}

/// Who needs what.
struct Marked {
    images: Vec<Stored>,
    /// Blobs, and how many images need each.
    uses: HashMap<Digest, usize>,
    /// Blobs that stay whatever images go.
    held: HashSet<Digest>,
}

impl ImageCache {
    /// Makes room. Blocks; meanwhile other omks that use the cache wait.
    ///
    /// # Errors
    /// When the cache cannot be read or written to.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, CacheError> {
        let mut report = GcReport { dry_run: options.dry_run, ..GcReport::default() };
        if !self.exists() {
            return Ok(report);
        }
        self.refresh()?;
        let lease = self.lease()?;
        let guard = self.content_alone()?;
        let oldest = self.leases(Some(&lease))?.living.into_iter().min();
        let graced = SystemTime::now().checked_sub(options.grace).unwrap_or(SystemTime::UNIX_EPOCH);
        // What is older than this is nobody's: not that of a living process, nor of a tool that began within the grace.
        let floor = oldest.map_or(graced, |began| began.min(graced));
        let mut marked = self.mark()?;
        let blobs = self.blob_files()?;
        let stored: HashMap<&Digest, u64> = blobs.iter().map(|(d, f)| (d, f.size)).collect();
        let evicted = self.evict(options, oldest, &mut marked, &stored)?;
        report.images = evicted;
        if !options.dry_run && !report.images.is_empty() {
            lease.writes_names();
            self.drop_names(report.images.iter().map(|e| &e.image))?;
        }
        if !options.dry_run {
            self.drop_metadata(&marked.images)?;
        }
        for (digest, file) in &blobs {
            if marked.needs(digest) {
                report.size += file.size;
            } else if file.changed >= floor {
                report.size += file.size;
                report.young += file.size;
            } else {
                report.blobs += 1;
                report.freed += file.size;
                delete(file, options.dry_run)?;
            }
        }
        let old = SystemTime::now().checked_sub(QUARANTINE).unwrap_or(SystemTime::UNIX_EPOCH);
        for file in self.leftovers(floor, old)? {
            report.freed += file.size;
            delete(&file, options.dry_run)?;
        }
        drop(guard);
        if !options.dry_run && !report.images.is_empty() {
            self.publish()?;
            lease.published();
        }
        report.over = options.max_size.map_or(0, |max| report.size.saturating_sub(max));
        Ok(report)
    }

    /// Removes all images but pinned ones, or with `all` these and the pins too. Blocks.
    ///
    /// # Errors
    /// [`CacheError::InUse`]; the cache cannot be read or written to.
    pub fn clear(&self, all: bool, dry_run: bool) -> Result<ClearReport, CacheError> {
        if !self.exists() {
            return Ok(ClearReport { dry_run, ..ClearReport::default() });
        }
        self.refresh()?;
        let lease = self.lease()?;
        let guard = self.content_alone()?;
        let others = self.leases(Some(&lease))?.living.len();
        if others > 0 {
            return Err(CacheError::InUse { path: self.root.clone(), others });
        }
        let mut marked = self.mark()?;
        let pins = if all { super::pins::Pins::default() } else { self.pins()? };
        let (keep, go): (Vec<Stored>, Vec<Stored>) =
            std::mem::take(&mut marked.images).into_iter().partition(|s| pins.hold(&s.record.image));
        go.iter().for_each(|s| drop(marked.give_up(s)));
        marked.held.clear();
        let mut report =
            ClearReport { images: go.len(), kept: keep.len(), dry_run, ..ClearReport::default() };
        if !dry_run {
            lease.writes_names();
            self.drop_names(go.iter().map(|s| &s.record.image))?;
            self.drop_foreign()?;
            self.drop_metadata(&keep)?;
        }
        for (_, file) in self.blob_files()?.iter().filter(|(d, _)| !marked.needs(d)) {
            report.blobs += 1;
            report.freed += file.size;
            delete(file, dry_run)?;
        }
        // Nobody is at work: all of it is left over.
        let end = SystemTime::now() + Duration::from_secs(1);
        let mut rest = self.leftovers(end, end)?;
        if all {
            rest.extend(["pins", "statistics.json"].iter().filter_map(|n| one(self.root.join(n))));
        }
        for file in rest {
            report.freed += file.size;
            delete(&file, dry_run)?;
        }
        drop(guard);
        if !dry_run {
            self.publish()?;
            lease.published();
        }
        Ok(report)
    }

    fn mark(&self) -> Result<Marked, CacheError> {
        let (images, damaged) = self.records()?;
        if let Some(bad) = damaged.first() {
            let text = format!(
                "{}: {}, so what it needs is not known; `omk cache verify` puts it away",
                bad.path.display(),
                bad.reason
            );
            return Err(StoreError::Remote(text).into());
        }
        let mut uses = HashMap::new();
        for blob in images.iter().flat_map(Stored::blobs) {
            *uses.entry(blob.digest().clone()).or_insert(0) += 1;
        }
        let mut held = HashSet::new();
        let mut open = self.foreign_roots()?;
        // Whatever an entry that is not omk's leads to, as far as it is there.
        while let Some(root) = open.pop() {
            if !held.insert(root.digest().clone()) {
                continue;
            }
            if root.kind() != crate::oci::media::Kind::Blob
                && let Some(bytes) = self.document(&root)?
                && let Ok(manifest) = Manifest::parse(&root, &bytes)
            {
                open.extend(manifest.successors());
            }
        }
        Ok(Marked { images, uses, held })
    }

    /// Decides which names go. `oldest`: since when others are at work, so that what was used since is theirs; `stored`:
    /// the blobs that are there, and their sizes.
    fn evict(
        &self,
        options: &GcOptions,
        oldest: Option<SystemTime>,
        marked: &mut Marked,
        stored: &HashMap<&Digest, u64>,
    ) -> Result<Vec<Evicted>, CacheError> {
        let pins = self.pins()?;
        let pinned = |s: &Stored| {
            pins.hold(&s.record.image) || options.pins.iter().any(|p| p.matches(&s.record.image))
        };
        let in_use = |s: &Stored| oldest.is_some_and(|began| s.used >= began);
        let mut candidates: Vec<Stored> =
            marked.images.iter().filter(|s| !pinned(s) && !in_use(s)).cloned().collect();
        candidates.sort_by(|a, b| (a.used, &a.record.image).cmp(&(b.used, &b.record.image)));
        let mut size: u64 = stored.iter().filter(|(d, _)| marked.needs(d)).map(|(_, s)| s).sum();
        let limit = options.unused_for.and_then(|d| SystemTime::now().checked_sub(d));
        let mut gone = Vec::new();
        for stored_image in candidates {
            let reason = if limit.is_some_and(|limit| stored_image.used < limit) {
                "unused"
            } else if options.max_size.is_some_and(|max| size > max) {
                "size"
            } else {
                continue;
            };
            for digest in marked.give_up(&stored_image) {
                size = size.saturating_sub(stored.get(&digest).copied().unwrap_or(0));
            }
            gone.push(Evicted {
                image: stored_image.record.image.clone(),
                digest: stored_image.record.root.digest().clone(),
                last_used: rfc3339(stored_image.used),
                reason,
            });
        }
        let names: BTreeSet<&ImageRef> = gone.iter().map(|e| &e.image).collect();
        marked.images.retain(|s| !names.contains(&s.record.image));
        Ok(gone)
    }

    /// A name must be gone for good before a blob that it needs goes.
    fn drop_names<'a>(&self, images: impl Iterator<Item = &'a ImageRef>) -> Result<(), CacheError> {
        let mut folders = BTreeSet::new();
        {
            let _names = self.names_alone()?;
            for image in images {
                self.unlink(image)?;
                folders.extend(self.record_path(image).parent().map(PathBuf::from));
            }
        }
        // Each sync waits for the disk: folders that went too have one that is left in common.
        let top = self.root.join("manifests");
        let left = |folder: &PathBuf| folder.ancestors().find(|f| f.is_dir()).unwrap_or(&top).to_owned();
        let left: BTreeSet<PathBuf> = folders.iter().map(left).collect();
        Ok(left.iter().try_for_each(|folder| sync_folder(folder))?)
    }

    /// Goes before the blobs: what is kept about an image never names one that is gone.
    fn drop_metadata(&self, images: &[Stored]) -> Result<(), CacheError> {
        let known: BTreeSet<String> = images
            .iter()
            .map(|s| s.record.root.digest())
            .map(|d| format!("{}-{}.json", d.algorithm().as_str(), d.hex()))
            .collect();
        for kind in Metadata::ALL {
            for file in files(&self.root.join(kind.folder()))? {
                let name = file.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if name.ends_with(".json") && !known.contains(name) {
                    delete(&file, false)?;
                }
            }
        }
        Ok(())
    }

    fn blob_files(&self) -> Result<BTreeMap<Digest, File>, CacheError> {
        let mut all = BTreeMap::new();
        for algorithm in ["sha256", "sha512"] {
            for file in files(&self.root.join("blobs").join(algorithm))? {
                let name = file.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if let Ok(digest) = format!("{algorithm}:{name}").parse() {
                    all.insert(digest, file);
                }
            }
        }
        Ok(all)
    }

    /// What processes that died left, partial blobs and staged files, older than `floor`; damaged blobs older than
    /// `old`.
    fn leftovers(&self, floor: SystemTime, old: SystemTime) -> Result<Vec<File>, CacheError> {
        let mut all = Vec::new();
        let mut take = |folder: PathBuf, limit: SystemTime, which: &dyn Fn(&str) -> bool| {
            for file in files(&folder)? {
                let name = file.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if which(name) && file.changed < limit {
                    all.push(file);
                }
            }
            Ok::<_, CacheError>(())
        };
        let staged = |n: &str| n.starts_with(".tmp");
        take(self.root.join("partial"), floor, &|n| n.bytes().all(|b| b.is_ascii_hexdigit()))?;
        take(self.root.join("quarantine"), old, &|_| true)?;
        // `skopeo` writes blobs beside their place too.
        take(self.root.clone(), floor, &|n| staged(n) || n.starts_with("oci-put-blob"))?;
        take(self.locks(), floor, &|n| n.starts_with("new-"))?;
        for folder in folders(&self.root.join("manifests")) {
            take(folder, floor, &|n| staged(n) || n.ends_with(".tmp"))?;
        }
        for kind in Metadata::ALL {
            take(self.root.join(kind.folder()), floor, &staged)?;
        }
        Ok(all)
    }
}

impl Marked {
    fn needs(&self, digest: &Digest) -> bool {
        self.held.contains(digest) || self.uses.get(digest).is_some_and(|n| *n > 0)
    }

    /// Takes an image out; gives the blobs that nobody needs from then on.
    fn give_up(&mut self, image: &Stored) -> Vec<Digest> {
        let mut free = Vec::new();
        for blob in image.blobs() {
            if let Some(n) = self.uses.get_mut(blob.digest()) {
                *n = n.saturating_sub(1);
                if *n == 0 && !self.held.contains(blob.digest()) {
                    free.push(blob.digest().clone());
                }
            }
        }
        free
    }
}

/// A folder and all below it, as far as they can be read.
fn folders(top: &std::path::Path) -> Vec<PathBuf> {
    let (mut all, mut open) = (Vec::new(), vec![top.to_owned()]);
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        all.push(folder);
    }
    all
}

/// Regular files of a folder that may not be there.
fn files(folder: &std::path::Path) -> Result<Vec<File>, CacheError> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("read", folder))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("read", folder))?;
        all.extend(one(entry.path()));
    }
    Ok(all)
}

/// `None` for what went meanwhile, and for what is no file.
fn one(path: PathBuf) -> Option<File> {
    let meta = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
    let changed = meta.modified().ok()?;
    Some(File { path, size: meta.len(), changed })
}

/// Looks at the age once more: a tool that takes no lock may have renewed it.
fn delete(file: &File, dry_run: bool) -> Result<(), CacheError> {
    if dry_run || one(file.path.clone()).is_none_or(|now| now.changed != file.changed) {
        return Ok(());
    }
    match std::fs::remove_file(&file.path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", &file.path)(e).into())
        }
        _ => Ok(()),
    }
}

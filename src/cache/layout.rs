//! `index.json` for other tools and `index.yaml` for people, both made from the names.
//!
//! Other tools write `index.json` too, in place, without a lock, and with what they read of it some time before. So it
//! is the truth for nothing but what they put there: an entry that does not bear omk's mark is taken over as a name of
//! the cache's own when it is found, and entries that omk had and they lost come back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lock::{bury, full, read_only};
use super::record::{Record, Source, Stored};
use super::{CacheError, ImageCache, rfc3339};
use crate::bundle::{CONTAINERD_NAME, INDEX_FILE, REF_NAME};
use crate::graph::{ImageGraph, Step, Walk};
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest, ImageRef, Manifest, Platform, media};
use crate::store::{StoreError, write_small};

/// On every entry that omk wrote: the name that it wrote. A tool that takes the name away leaves this.
const MARK: &str = "omk.cache.name";
const YAML_FILE: &str = "index.yaml";
const STAMP_FILE: &str = "index.stamp";
/// Ten thousand images have 6 MB.
const MAX_INDEX_BYTES: u64 = 256 << 20;
/// Manifests below one index. The largest real one has about 60.
const MAX_BELOW: usize = 10_000;
/// A tool that writes in place is done within this time.
const SETTLE: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
];

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutIndex {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// As they stand there: what omk does not know of an entry stays.
    #[serde(default)]
    manifests: Vec<Value>,
}

/// What another tool put there and omk cannot give a name.
#[derive(Debug)]
struct Foreign {
    entry: Value,
}

/// `index.yaml`.
#[derive(Serialize)]
struct Catalogue<'a> {
    updated: String,
    images: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    image: String,
    digest: &'a Digest,
    platforms: &'a [Platform],
    size: u64,
    blobs: usize,
    updated: &'a str,
    last_used: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
}

fn text<'a>(entry: &'a Value, annotation: &str) -> Option<&'a str> {
    entry.get("annotations")?.get(annotation)?.as_str().filter(|t| !t.is_empty())
}

impl ImageCache {
    /// Takes over what others did to the cache since omk last wrote it: other tools, and omks that died. Costs two looks
    /// at the file system when nothing was done.
    pub(super) fn refresh(&self) -> Result<(), CacheError> {
        if !self.exists() {
            return Ok(());
        }
        let leases = self.leases(None)?;
        if leases.dead.is_empty() && self.stamp().is_some_and(|s| self.stamped() == s.as_bytes()) {
            return Ok(());
        }
        match self.publish() {
            Ok(()) => {
                bury(leases.dead);
                Ok(())
            }
            // A cache on a medium that cannot be written to is used as it is.
            Err(CacheError::Store(StoreError::Io { source, .. })) if read_only(&source) => Ok(()),
            // So is one on a full disk, or no clean-up could make room: unless another tool put something there that
            // has to be taken over first.
            Err(CacheError::Store(StoreError::Io { source, .. }))
                if full(&source) && self.take_over().is_ok() =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What tells this `index.json` from any other.
    fn stamp(&self) -> Option<String> {
        let m = std::fs::metadata(self.root.join(INDEX_FILE)).ok()?;
        Some(format!("{} {} {}.{:09}\n", m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
    }

    #[cfg(test)]
    pub(super) fn stamp_for_tests(&self) -> String {
        self.stamp().unwrap_or_default()
    }

    fn stamped(&self) -> Vec<u8> {
        std::fs::read(self.root.join(STAMP_FILE)).unwrap_or_default()
    }

    /// Writes `index.json` and `index.yaml` from the names, after what others have put into `index.json` was taken over.
    pub(super) fn publish(&self) -> Result<(), CacheError> {
        self.prepare()?;
        loop {
            let seen = self.stamp();
            let foreign = self.take_over()?;
            let _index = self.index_alone()?;
            // Somebody else wrote meanwhile, and may have put there what we have not seen.
            if self.stamp() == seen || seen.is_none() {
                return self.write_index(foreign);
            }
        }
    }

    fn write_index(&self, foreign: Vec<Foreign>) -> Result<(), CacheError> {
        let (all, _) = self.records()?;
        let mut entries = Vec::with_capacity(all.len() + foreign.len());
        for stored in &all {
            let name = stored.record.image.to_string();
            for reference in std::iter::once(&name).chain(&stored.record.alias) {
                let names = [(CONTAINERD_NAME, name.as_str()), (REF_NAME, reference), (MARK, &name)];
                let entry = stored.record.root.clone().with_annotations(names);
                entries.push(serde_json::to_value(entry).map_err(unwritable)?);
            }
        }
        entries.extend(foreign.into_iter().map(|f| f.entry));
        let media_type = Some(media::OCI_INDEX.to_owned());
        let index = LayoutIndex { schema_version: 2, media_type, manifests: entries };
        let path = self.root.join(INDEX_FILE);
        let bytes = serde_json::to_vec(&index).map_err(unwritable)?;
        if std::fs::read(&path).ok().as_deref() != Some(&bytes) {
            write_small(&path, &bytes)?;
        }
        self.write_catalogue(&all)?;
        let stamp = self.stamp().unwrap_or_default();
        if self.stamped() != stamp.as_bytes() {
            write_small(&self.root.join(STAMP_FILE), stamp.as_bytes())?;
        }
        Ok(())
    }

    /// Takes out what other tools put there.
    pub(super) fn drop_foreign(&self) -> Result<(), CacheError> {
        let _index = self.index_alone()?;
        self.write_index(Vec::new())
    }

    fn write_catalogue(&self, all: &[Stored]) -> Result<(), CacheError> {
        let pins = self.pins()?;
        let line = |s: &'_ Stored| (s.record.image.to_string(), pins.hold(&s.record.image), rfc3339(s.used));
        let images = all.iter().map(|s| {
            let (image, pinned, last_used) = line(s);
            let r = &s.record;
            let (platforms, blobs) = (r.platforms.as_slice(), r.blobs.len());
            let (digest, size, updated) = (r.root.digest(), r.size(), r.updated.as_str());
            Line { image, digest, platforms, size, blobs, updated, last_used, pinned }
        });
        let catalogue = Catalogue { updated: rfc3339(SystemTime::now()), images: images.collect() };
        let body = serde_yaml::to_string(&catalogue)
            .map_err(|e| StoreError::Remote(format!("cannot write {YAML_FILE}: {e}")))?;
        let head =
            "# The images in this cache, for people. Written by omk from manifests/; nothing reads it.\n";
        Ok(write_small(&self.root.join(YAML_FILE), format!("{head}{body}").as_bytes())?)
    }

    /// Entries without a mark become names; what can have none is given back.
    fn take_over(&self) -> Result<Vec<Foreign>, CacheError> {
        let index = self.read_index()?;
        let (mut left, mut named) = (BTreeMap::new(), BTreeSet::new());
        let mut adopted = false;
        for entry in index.iter().flat_map(|i| &i.manifests) {
            if let Some(name) = text(entry, MARK) {
                named.insert(name.to_owned());
                continue;
            }
            // Not even a pointer: there is nothing that it could keep.
            let Ok(root) = serde_json::from_value::<Descriptor>(entry.clone()) else { continue };
            // An entry that was omk's and got another name has omk's words for the old one: this one is new.
            let name = text(entry, REF_NAME).or_else(|| text(entry, CONTAINERD_NAME));
            let image = name.and_then(|n| n.parse::<ImageRef>().ok());
            let image = image.filter(|i| i.digest().is_none_or(|d| d == root.digest()));
            let bare = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
            let taken = match image {
                Some(image) => self.adopt(&image, name.unwrap_or_default(), &bare)?,
                None => false,
            };
            if taken {
                adopted = true;
                named.extend(name.and_then(|n| n.parse::<ImageRef>().ok()).map(|i| i.to_string()));
            } else {
                left.insert(root.digest().clone(), Foreign { entry: entry.clone() });
            }
        }
        if adopted {
            // All at once: their entries are omk's only after this.
            let folder = self.root.join("manifests");
            let opened = std::fs::File::open(&folder).map_err(StoreError::io("open", &folder))?;
            rustix::fs::syncfs(opened).map_err(|e| StoreError::io("sync", folder)(e.into()))?;
        }
        if index.is_some() {
            self.forget_deleted(&named)?;
        }
        Ok(left.into_values().collect())
    }

    /// `skopeo delete` takes the entry and the manifest: then the name goes too. An entry alone was lost by a tool that
    /// did not know it yet.
    fn forget_deleted(&self, named: &BTreeSet<String>) -> Result<(), CacheError> {
        let (all, _) = self.records()?;
        for stored in all.iter().filter(|s| !named.contains(&s.record.image.to_string())) {
            let _names = self.names_alone()?;
            let again = self.record(&stored.record.image)?;
            if again.is_some_and(|s| !self.blob_path(s.record.root.digest()).exists()) {
                self.unlink(&stored.record.image)?;
            }
        }
        Ok(())
    }

    /// Gives an image that another tool wrote its name here, if it is whole.
    fn adopt(&self, image: &ImageRef, alias: &str, root: &Descriptor) -> Result<bool, CacheError> {
        let _content = self.content_shared()?;
        let walk = Walk::new(image.clone(), root.clone(), &[]).present(self.present_below(root)?);
        let Some(graph) = self.walk_documents(walk)?.and_then(Result::ok) else { return Ok(false) };
        if graph.images.is_empty() || self.first_missing(&graph.blobs)?.is_some() {
            return Ok(false);
        }
        self.write_record_unsynced(Record::new(image, &graph, Source::Layout).with_alias(alias))?;
        Ok(true)
    }

    /// The manifests below an index that are there: a tool that took one platform of it does not say which.
    fn present_below(&self, root: &Descriptor) -> Result<BTreeSet<Digest>, CacheError> {
        let (mut there, mut open) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(index) = open.pop().filter(|_| there.len() < MAX_BELOW) {
            let Some(bytes) = self.document(&index)? else { continue };
            let Ok(parsed @ Manifest::Index(_)) = Manifest::parse(&index, &bytes) else { continue };
            for child in parsed.successors().into_iter().filter(|c| self.has(c)) {
                if there.insert(child.digest().clone()) && child.kind() == Kind::Index {
                    open.push(child);
                }
            }
        }
        Ok(there)
    }

    /// `None`: a document is missing. The inner error: the image cannot be used.
    pub(super) fn walk_documents(
        &self,
        mut walk: Walk,
    ) -> Result<Option<Result<ImageGraph, crate::graph::GraphError>>, CacheError> {
        loop {
            match walk.step() {
                Err(error) => return Ok(Some(Err(error))),
                Ok(Step::Done(graph)) => return Ok(Some(Ok(*graph))),
                Ok(Step::Need(documents)) => {
                    for d in documents {
                        let Some(bytes) = self.document(&d)? else { return Ok(None) };
                        walk.give(d.digest(), bytes);
                    }
                }
            }
        }
    }

    /// What other tools put there and has no name here yet: whatever these need must stay.
    pub(super) fn foreign_roots(&self) -> Result<Vec<Descriptor>, CacheError> {
        let index = self.read_index()?;
        let entries = index.iter().flat_map(|i| &i.manifests).filter(|e| text(e, MARK).is_none());
        let roots = entries.filter_map(|e| serde_json::from_value::<Descriptor>(e.clone()).ok());
        Ok(roots.map(|r| Descriptor::new(r.media_type(), r.digest().clone(), r.size())).collect())
    }

    /// `None`: there is none. One that stays unreadable is put away, for what omk had in it is written anew.
    fn read_index(&self) -> Result<Option<LayoutIndex>, CacheError> {
        use std::io::Read as _;
        let path = self.root.join(INDEX_FILE);
        for pause in SETTLE {
            std::thread::sleep(pause);
            let file = match std::fs::File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(StoreError::io("read", &path))?,
            };
            let mut bytes = Vec::new();
            file.take(MAX_INDEX_BYTES).read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
            if let Ok(index) = serde_json::from_slice(&bytes) {
                return Ok(Some(index));
            }
        }
        self.put_away(&path, INDEX_FILE)?;
        Ok(None)
    }

    /// Every blob that is there, with the size of its file; whatever has no digest for a name is left out.
    pub(super) fn digests(&self) -> Result<Vec<(Digest, u64)>, CacheError> {
        let mut all = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let folder = self.root.join("blobs").join(algorithm);
            let entries = match std::fs::read_dir(&folder) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(StoreError::io("read", &folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(StoreError::io("read", &folder))?;
                let name = entry.file_name();
                let digest = name.to_str().and_then(|n| format!("{algorithm}:{n}").parse().ok());
                // It may go while we look.
                if let (Some(digest), Ok(meta)) = (digest, entry.metadata()) {
                    all.push((digest, meta.len()));
                }
            }
        }
        Ok(all)
    }
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Remote(format!("cannot write {INDEX_FILE}: {error}"))
}

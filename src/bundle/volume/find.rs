//! From paths to a set: which files belong together, and what is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{HEADER, HEADER_LEN, Header, MAGIC, Table};
use super::{EXTENSION, VolumeError};
use crate::oci::Digest;
use crate::store::{OpenFile, StoreError, parent};

/// Files of a folder that are looked at.
const MAX_FILES: usize = 10_000;

/// A file that is, or was, a volume of the set.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) len: u64,
    /// Whether the header at the front is whole; else the one at the end told what it is.
    pub(super) front: bool,
}

/// Volumes of one set, not all of which need be there or whole.
#[derive(Debug, Clone)]
pub(in crate::bundle) struct VolumeSet {
    /// Of number 1, whichever was read.
    pub(super) header: Header,
    pub(super) volumes: BTreeMap<u64, Volume>,
    /// Files of the same name that are no volumes of this set, with what they are.
    pub(super) strangers: BTreeMap<String, &'static str>,
    /// The folder that new volumes go to.
    pub(super) folder: PathBuf,
}

/// Whether a path is a volume, or a folder with volumes in it and no image layout. Blocks.
pub(in crate::bundle) fn looks_like_volume(path: &Path) -> bool {
    if path.is_dir() {
        return !path.join(crate::bundle::LAYOUT_FILE).is_file()
            && !listed(path).unwrap_or_default().is_empty();
    }
    is_named(path)
        || File::open(path).is_ok_and(|f| {
            let mut head = [0; MAGIC.len()];
            f.read_exact_at(&mut head, 0).is_ok() && head == *MAGIC
        })
}

fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == EXTENSION)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let path = entry.map_err(StoreError::io("read", folder))?.path();
        if is_named(&path) && path.is_file() && found.len() < MAX_FILES {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The header of a file from its front, or else from its end, where it stands once more.
fn identify(path: &Path) -> Result<Option<(Header, Volume)>, StoreError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    let len = file.metadata().map_err(StoreError::io("read", path))?.len();
    let mut bytes = vec![0; HEADER_LEN];
    let mut at = |at: Option<u64>| {
        let read = at.is_some_and(|at| file.read_exact_at(&mut bytes, at).is_ok());
        read.then(|| Header::decode(&bytes)).flatten()
    };
    let front = at(Some(0));
    let whole = front.is_some();
    let Some(header) = front.or_else(|| at(len.checked_sub(HEADER))) else { return Ok(None) };
    Ok(Some((header, Volume { path: path.to_owned(), file: Arc::new(file), len, front: whole })))
}

impl VolumeSet {
    /// The set that these paths mean: folders of volumes, or volumes, whose folder is looked at for the others. Of two
    /// files with the same number in different paths the one given later counts: a replacement. Blocks.
    ///
    /// # Errors
    /// When nothing can be recognised, or volumes of different sets or twice the same one are meant.
    pub(in crate::bundle) fn find(paths: &[PathBuf]) -> Result<Self, VolumeError> {
        let named: BTreeSet<&PathBuf> = paths.iter().filter(|p| !p.is_dir()).collect();
        let mut places: Vec<(usize, PathBuf)> = Vec::new();
        let mut seen = BTreeSet::new();
        for (rank, path) in paths.iter().enumerate() {
            let folder = if path.is_dir() { path.as_path() } else { parent(path) };
            let first = (!path.is_dir()).then(|| path.clone());
            for file in first.into_iter().chain(listed(folder)?) {
                if seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
                    places.push((rank, file));
                }
            }
        }
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for (rank, path) in places {
            match identify(&path)? {
                Some((header, volume)) => known.push((rank, header, volume)),
                None => unknown.push(path),
            }
        }
        let none = || VolumeError::None { path: paths.first().cloned().unwrap_or_default() };
        let asked = known.iter().find(|(.., v)| named.contains(&v.path));
        let (_, first, at) = asked.or(known.first()).ok_or_else(none)?;
        let (first, at) = (first.clone(), at.path.clone());
        let folder = parent(&at).to_owned();
        let mut set =
            Self { header: first.numbered(1), volumes: BTreeMap::new(), strangers: BTreeMap::new(), folder };
        let mut ranks = BTreeMap::new();
        for (rank, header, volume) in known {
            if header.set != set.header.set || header.numbered(1) != set.header {
                // Beside a volume that was named, other sets may lie; a folder must mean one.
                if named.is_empty() || named.contains(&volume.path) {
                    return Err(VolumeError::TwoSets { first: at, second: volume.path });
                }
                set.strange(&volume.path, "belongs to another set");
                continue;
            }
            let before = ranks.insert(header.number, rank);
            let replaced = set.volumes.insert(header.number, volume.clone());
            if let Some(replaced) = replaced.filter(|_| before == Some(rank)) {
                return Err(VolumeError::Twice { first: replaced.path, second: volume.path });
            }
        }
        for path in unknown {
            set.strange(&path, "is damaged so that it cannot be recognised");
        }
        Ok(set)
    }

    fn strange(&mut self, path: &Path, what: &'static str) {
        if let Some(name) = path.file_name().and_then(|n| n.to_str()) {
            self.strangers.insert(name.to_owned(), what);
        }
    }

    /// What is in the set.
    pub(in crate::bundle) fn header(&self) -> &Header {
        &self.header
    }

    /// What keeps a volume from being read as it should: its absence, or missing bytes.
    pub(super) fn lack(&self, number: u64) -> Option<String> {
        let header = self.header.numbered(number);
        let name = header.file_name();
        let Some(volume) = self.volumes.get(&number) else {
            let what = self.strangers.get(&name).copied().unwrap_or("is missing");
            return Some(format!("volume {} {what} ({name})", called(&header)));
        };
        let (expected, found) = (self.header.file_len(number), volume.len);
        (found != expected).then(|| {
            let how = if found < expected { "cut off" } else { "too long" };
            format!("{} is {how}: {found} of {expected} bytes", volume.path.display())
        })
    }

    /// The bundle that is on them, without joining anything: every volume that holds a part of it must be there.
    pub(in crate::bundle) fn join(&self, path: PathBuf) -> Result<OpenFile, VolumeError> {
        let missing: Vec<String> = (1..=self.header.data).filter_map(|n| self.lack(n)).collect();
        if !missing.is_empty() {
            return Err(VolumeError::Missing { missing });
        }
        let stretch = |(number, v): (&u64, &Volume)| {
            (Arc::clone(&v.file), v.path.clone(), HEADER, self.header.payload(*number))
        };
        let data = self.volumes.iter().filter(|(number, _)| **number <= self.header.data);
        Ok(OpenFile::joined(data.map(stretch), path))
    }

    /// Whether a chunk holds nothing but bytes of one of these stretches of the bundle, which are in order.
    pub(super) fn lies_in(&self, good: &[Range<u64>], number: u64, chunk: u64) -> bool {
        if number > self.header.data {
            return false;
        }
        let (start, len) = self.header.place(number, chunk);
        let start = (number - 1) * self.header.volume + start;
        let before = good.partition_point(|r| r.start <= start).checked_sub(1).and_then(|i| good.get(i));
        before.is_some_and(|r| start + len <= r.end)
    }

    /// The hashes of the set, from the first volume that has them whole. Blocks.
    pub(super) fn table(&self) -> Result<Table, VolumeError> {
        let found = self.volumes.iter().find_map(|(number, volume)| self.table_of(*number, volume));
        found.ok_or_else(|| VolumeError::NoTable { name: self.header.name.clone() })
    }

    /// Whether the header stands at the end of the file too.
    pub(super) fn ends_well(&self, number: u64, volume: &Volume) -> bool {
        let mut bytes = vec![0; HEADER_LEN];
        let at = self.header.file_len(number).saturating_sub(HEADER);
        let read = volume.file.read_exact_at(&mut bytes, at).is_ok();
        read && Header::decode(&bytes).is_some_and(|h| h == self.header.numbered(number))
    }

    pub(super) fn table_of(&self, number: u64, volume: &Volume) -> Option<Table> {
        let len = self.header.table_len();
        let at = HEADER + self.header.payload(number);
        if volume.len < at + len {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        volume.file.read_exact_at(&mut bytes, at).ok()?;
        Table::decode(&self.header, &bytes)
    }

    /// Identity of the set.
    pub(in crate::bundle) fn id(&self) -> &Digest {
        &self.header.set
    }
}

/// `3 of 5`, `parity 1 of 2`.
pub(super) fn called(header: &Header) -> String {
    if header.is_parity() {
        format!("parity {} of {}", header.number - header.data, header.parity)
    } else {
        format!("{} of {}", header.number, header.data)
    }
}

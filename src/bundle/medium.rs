//! What a bundle is read from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;

use super::delta::DELTA_FILE;
use super::docker::DockerArchive;
use super::index::{DOCKER_FILE, INDEX_FILE, LAYOUT_FILE};
use crate::oci::{Descriptor, Digest, Hasher};
use crate::store::archive::{Archive, EntryProblem};
use crate::store::{BlobSource, ByteStream, FolderStore, OpenFile, StoreError};

/// Files beside the blobs of a folder, and how deep they may lie.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 32;

#[derive(Debug)]
pub(super) enum Medium {
    /// Also one that was compressed, or that lies in volumes.
    Tar(Archive),
    Folder(FolderStore),
    Docker(DockerArchive),
}

impl Medium {
    /// What cannot be used of an archive.
    pub(super) fn problems(&self) -> &[EntryProblem] {
        match self {
            Self::Tar(archive) => archive.problems(),
            Self::Docker(docker) => docker.problems(),
            Self::Folder(_) => &[],
        }
    }

    /// Blobs that are there, with their sizes in bytes, needed or not. Blocks.
    pub(super) fn blobs(&self) -> BTreeMap<Digest, u64> {
        match self {
            Self::Tar(archive) => archive.blobs(),
            Self::Docker(docker) => docker.blobs(),
            Self::Folder(folder) => {
                let entries = std::fs::read_dir(folder.root().join("blobs/sha256"));
                let names = entries.into_iter().flatten().flatten().map(|e| e.file_name());
                let digests = names.filter_map(|n| format!("sha256:{}", n.to_str()?).parse().ok());
                let size =
                    |d: &Digest| std::fs::metadata(folder.root().join(d.layout_path())).ok().map(|m| m.len());
                digests.filter_map(|d| size(&d).map(|s| (d, s))).collect()
            }
        }
    }

    /// A small entry. Blocks.
    pub(super) fn text(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Tar(archive) => archive.text(name, limit),
            Self::Docker(docker) => docker.archive().text(name, limit),
            Self::Folder(folder) => {
                use std::io::Read as _;
                let path = folder.root().join(name);
                let file = match std::fs::File::open(&path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.map_err(StoreError::io("read", &path))?,
                };
                let mut bytes = Vec::new();
                file.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
                if bytes.len() as u64 > limit {
                    let text = format!("{} has more than {limit} bytes", path.display());
                    return Err(StoreError::Remote(text));
                }
                Ok(Some(bytes))
            }
        }
    }

    /// Hashes a blob as it is stored. Blocks.
    pub(super) fn hash(&self, digest: &Digest) -> Result<Digest, StoreError> {
        match self {
            Self::Tar(archive) => archive.hash(digest),
            Self::Docker(docker) => docker.hash(digest),
            Self::Folder(folder) => {
                let path = folder.root().join(digest.layout_path());
                let mut hasher = Hasher::new(digest.algorithm());
                let file = OpenFile::open(&path)?;
                file.hash(0, file.len()?, &mut hasher)?;
                Ok(hasher.finish())
            }
        }
    }

    /// What is there beside the layout: name and bytes, sorted. Blocks.
    pub(super) fn files(&self) -> Result<Vec<(String, u64)>, StoreError> {
        match self {
            // What else is in such an archive is its own old form.
            Self::Docker(_) => Ok(Vec::new()),
            Self::Tar(archive) => {
                let entries = archive.entries().filter(|(name, _)| !is_layout(name));
                Ok(entries.map(|(name, size)| (name.to_owned(), size)).collect())
            }
            Self::Folder(folder) => {
                let mut found = Vec::new();
                walk(folder.root(), "", 0, &mut found)?;
                found.sort();
                Ok(found)
            }
        }
    }

    /// The bytes of one of [`Medium::files`].
    pub(super) fn file(&self, name: &str, size: u64) -> Result<ByteStream, StoreError> {
        let missing = || StoreError::Remote(format!("{name} is not in the bundle"));
        match self {
            Self::Docker(_) => Err(missing()),
            Self::Tar(archive) => archive.stream(name, 0..size).ok_or_else(missing),
            Self::Folder(folder) => Ok(OpenFile::open(&folder.root().join(name))?.stream(0, size)),
        }
    }
}

/// What makes a layout, and what builds leave in the folder of one.
fn is_layout(name: &str) -> bool {
    let files = [LAYOUT_FILE, INDEX_FILE, DOCKER_FILE, DELTA_FILE, "repositories"];
    files.contains(&name) || name.starts_with("blobs/") || name.starts_with("partial/")
}

fn walk(root: &Path, at: &str, depth: usize, found: &mut Vec<(String, u64)>) -> Result<(), StoreError> {
    let folder = root.join(at);
    for entry in std::fs::read_dir(&folder).map_err(StoreError::io("read", &folder))? {
        let entry = entry.map_err(StoreError::io("read", &folder))?;
        let refuse = |why: &str| Err(StoreError::Remote(format!("{} {why}", entry.path().display())));
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            return refuse("has a name that is no text");
        };
        let name = if at.is_empty() { name } else { format!("{at}/{name}") };
        if is_layout(&name) || is_layout(&format!("{name}/")) {
            continue;
        }
        // Of the link itself: what it points to is not in the bundle.
        let meta = entry.metadata().map_err(StoreError::io("read", entry.path()))?;
        if meta.is_dir() && depth < MAX_DEPTH {
            walk(root, &name, depth + 1, found)?;
        } else if meta.is_file() && found.len() < MAX_FILES {
            found.push((name, meta.len()));
        } else if meta.is_dir() || meta.is_file() {
            return refuse("lies too deep, or there are too many files beside it");
        } else {
            return refuse("is no regular file: links and devices have no place in a bundle");
        }
    }
    Ok(())
}

#[async_trait]
impl BlobSource for Medium {
    fn label(&self) -> String {
        match self {
            Self::Tar(archive) => archive.label(),
            Self::Docker(docker) => docker.archive().label(),
            Self::Folder(folder) => folder.label(),
        }
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        match self {
            Self::Tar(archive) => archive.size(digest).await,
            Self::Docker(docker) => Ok(docker.blob_size(digest)),
            Self::Folder(folder) => folder.size(digest).await,
        }
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        match self {
            Self::Tar(archive) => archive.read(blob, range).await,
            Self::Docker(docker) => docker.read_blob(blob, range),
            Self::Folder(folder) => folder.read(blob, range).await,
        }
    }
}

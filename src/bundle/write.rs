//! The two forms of a bundle on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::build::BuildError;
use super::index::INDEX_FILE;
use crate::copy::{Copied, Job, Transfer, copy_all};
use crate::event::Event;
use crate::oci::Descriptor;
use crate::oci::media::Kind;
use crate::store::archive::{ArchiveWriter, Begun, Layout, Stamp};
use crate::store::{FolderLock, FolderStore, StoreError, blocking, parent, room, sync_folder, write_small};

/// Entries that are no blobs: path and bytes.
pub(super) type Texts = Vec<(String, Vec<u8>)>;

/// Into one file. Gives what was copied and the bytes of the file.
pub(super) async fn into_tar(
    out: &Path,
    seen: Stamp,
    blobs: &[Descriptor],
    texts: Texts,
    mut transfers: Vec<Transfer>,
    job: &Job,
) -> Result<(Copied, u64), BuildError> {
    let heads = texts.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64));
    let layout = Layout::new(heads.chain(blobs.iter().map(|b| (b.digest().layout_path(), b.size()))));
    let size = layout.size();
    let (path, owned) = (out.to_owned(), blobs.to_vec());
    let begin = move || ArchiveWriter::begin(&path, seen, layout, &owned, &texts);
    let (writer, begun) = blocking(begin).await.map_err(BuildError::Begin)?;
    if begun == Begun::Replaced {
        let message = format!(
            "what an earlier build left beside {} is of another content; starting anew",
            out.display()
        );
        job.events.emit(Event::Warning { message });
    }
    if let Some(leftover) = writer.leftover() {
        for t in transfers.iter_mut().filter(|t| t.blob.kind() == Kind::Blob) {
            t.source = leftover.before(Arc::clone(&t.source));
        }
    }
    let mut copied = copy_all(transfers, &writer, job).await.map_err(BuildError::Store)?;
    if let Some(leftover) = writer.leftover() {
        copied.moved = copied.moved.saturating_sub(leftover.used());
        copied.resumed = copied.resumed.saturating_add(leftover.used());
    }
    blocking(move || writer.finish()).await.map_err(BuildError::Store)?;
    Ok((copied, size))
}

/// Into a folder. The index comes last: a folder without one is no bundle.
pub(super) async fn into_folder(
    out: &Path,
    seen: Stamp,
    blobs: &[Descriptor],
    mut texts: Texts,
    transfers: Vec<Transfer>,
    job: &Job,
) -> Result<(Copied, u64), BuildError> {
    texts.sort_by_key(|(name, _)| name == INDEX_FILE);
    let (root, owned, planned) = (out.to_owned(), blobs.to_vec(), texts.clone());
    let begin = move || {
        let lock = FolderLock::take(&root)?;
        unchanged(&root, seen, &planned)?;
        enough_room(&root, &owned)?;
        Ok(lock)
    };
    let lock = blocking(begin).await.map_err(BuildError::Begin)?;
    let store = FolderStore::new(out);
    discard_damaged(&store, blobs, job).await.map_err(BuildError::Store)?;
    let copied = copy_all(transfers, &store, job).await.map_err(BuildError::Store)?;
    let (root, keep): (PathBuf, BTreeSet<String>) =
        (out.to_owned(), blobs.iter().map(|b| b.digest().hex().to_owned()).collect());
    let finish = move || {
        unchanged(&root, seen, &texts)?;
        sync_folder(&root.join("blobs"))?;
        for (name, bytes) in texts {
            write_small(&root.join(name), &bytes)?;
        }
        sync_folder(parent(&root))?;
        store.discard_partial()?;
        sweep(&root, &keep)?;
        drop(lock);
        Ok(())
    };
    blocking(finish).await.map_err(BuildError::Store)?;
    Ok((copied, blobs.iter().map(Descriptor::size).sum()))
}

/// Hashes what an earlier build left before it is built upon: bytes may have changed since, and whoever builds again
/// because a check found damage must get a whole bundle.
async fn discard_damaged(store: &FolderStore, blobs: &[Descriptor], job: &Job) -> Result<(), StoreError> {
    let check = |blob: Descriptor| {
        let store = store.clone();
        async move {
            let (digest, label) = (blob.digest().clone(), store.root().display().to_string());
            if blocking(move || store.discard_damaged(&blob)).await? {
                let message = format!("{} in {label} is damaged; fetching it again", digest.layout_path());
                job.events.emit(Event::Warning { message });
            }
            Ok(())
        }
    };
    let all = stream::iter(blobs.to_vec()).map(check).buffer_unordered(job.parallel.max(1)).try_collect();
    tokio::select! {
        done = all => done,
        () = job.cancel.cancelled() => Err(StoreError::Cancelled),
    }
}

/// As for a file: see [`ArchiveWriter::begin`].
fn unchanged(root: &Path, seen: Stamp, texts: &Texts) -> Result<(), StoreError> {
    let index = root.join(INDEX_FILE);
    if Stamp::of(&index)? == seen {
        return Ok(());
    }
    let planned = texts.iter().find(|(name, _)| name == INDEX_FILE).map(|(_, bytes)| bytes.as_slice());
    let same = std::fs::metadata(&index).is_ok_and(|m| Some(m.len()) == planned.map(|p| p.len() as u64))
        && std::fs::read(&index).is_ok_and(|found| Some(found.as_slice()) == planned);
    if same {
        return Ok(());
    }
    Err(StoreError::Remote(format!(
        "{} was written by somebody else while this build ran and holds something else; choose another output, or \
         build again to replace it",
        root.display()
    )))
}

fn enough_room(root: &Path, blobs: &[Descriptor]) -> Result<(), StoreError> {
    let store = FolderStore::new(root);
    let there = blobs.iter().map(|b| store.bytes_of(b)).fold(0, u64::saturating_add);
    room(&root.join("blobs"), blobs.iter().map(Descriptor::size).fold(0, u64::saturating_add), there)
}

/// Blobs of an earlier build into the same folder that the new index does not need: same input, same content.
fn sweep(root: &Path, keep: &BTreeSet<String>) -> Result<(), StoreError> {
    let blobs = root.join("blobs");
    for algorithm in std::fs::read_dir(&blobs).map_err(StoreError::io("read", &blobs))? {
        let folder = algorithm.map_err(StoreError::io("read", &blobs))?.path();
        for entry in std::fs::read_dir(&folder).map_err(StoreError::io("read", &folder))? {
            let entry = entry.map_err(StoreError::io("read", &folder))?;
            if !entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
                std::fs::remove_file(entry.path()).map_err(StoreError::io("remove", entry.path()))?;
            }
        }
    }
    Ok(())
}

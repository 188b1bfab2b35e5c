//! What a build may write to: a place of its own, or an earlier bundle. Nothing else is ever replaced.

use std::path::{Path, PathBuf};

use super::Form;
use super::build::BuildError;
use super::docker;
use super::index::LAYOUT_FILE;
use crate::store::archive::{Archive, ArchiveError};

/// Checks an output before anything is read or fetched for it: its parent folder can be written to, what stands
/// there already is a bundle, and none of `sources` (the paths that images are looked for in) is touched. Blocks.
///
/// # Errors
/// [`BuildError::Unwritable`], [`BuildError::Output`] or [`BuildError::Source`].
pub fn check_output(path: &Path, form: Form, sources: &[PathBuf]) -> Result<(), BuildError> {
    check(path, form, false, sources)
}

/// The same for a docker-archive, which may also replace one that omk wrote: that has no `oci-layout`.
///
/// # Errors
/// As [`check_output`].
pub(super) fn check_docker_output(path: &Path, sources: &[PathBuf]) -> Result<(), BuildError> {
    check(path, Form::Tar, true, sources)
}

/// `docker`: a docker-archive that omk wrote may be replaced too.
fn check(path: &Path, form: Form, docker: bool, sources: &[PathBuf]) -> Result<(), BuildError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |reason: String| BuildError::Unwritable { path: path.to_owned(), reason };
    match std::fs::metadata(parent) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(unwritable(format!("{} is no folder", parent.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let reason = format!("the folder {} does not exist; create it first", parent.display());
            return Err(unwritable(reason));
        }
        Err(e) => return Err(unwritable(format!("{}: {e}", parent.display()))),
    }
    apart(path, parent, sources)?;
    let meta = match std::fs::metadata(path) {
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(unwritable(e.to_string())),
    };
    let found = match (&meta, form) {
        (None, _) => None,
        (Some(meta), Form::Tar) if meta.is_dir() => Some("a folder".to_owned()),
        (Some(meta), Form::Tar) if meta.is_file() => other_file(path, meta.len(), docker),
        (Some(meta), Form::Folder) if meta.is_dir() => other_folder(path),
        (Some(meta), Form::Folder) if meta.is_file() => Some("a file".to_owned()),
        (Some(_), _) => Some("neither a file nor a folder".to_owned()),
    };
    if let Some(found) = found {
        return Err(BuildError::Output { path: path.to_owned(), found });
    }
    let written_to = if form == Form::Folder && meta.is_some() { path } else { parent };
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(written_to, access).map_err(|e| {
        let reason = std::io::Error::from(e);
        let folder = written_to.display();
        unwritable(format!("the folder {folder} cannot be written to: {reason}; choose another output"))
    })
}

/// A file in a source would be read as a part of it by the next run; a folder around one would be mixed with it.
fn apart(path: &Path, parent: &Path, sources: &[PathBuf]) -> Result<(), BuildError> {
    // A new file or folder stands where its parent does.
    let real = path.canonicalize().ok().or_else(|| Some(parent.canonicalize().ok()?.join(path.file_name()?)));
    let Some(real) = real else { return Ok(()) };
    for source in sources.iter().filter(|s| s.as_os_str() != "-") {
        let Ok(read) = source.canonicalize() else { continue };
        let how = match (real == read, real.starts_with(&read), read.starts_with(&real)) {
            (true, ..) => "is the source",
            (_, true, _) => "lies in the source",
            (_, _, true) => "contains the source",
            _ => continue,
        };
        return Err(BuildError::Source { path: path.to_owned(), how, source_path: source.clone() });
    }
    Ok(())
}

/// What a file is when it is not one that may be replaced.
fn other_file(path: &Path, len: u64, docker: bool) -> Option<String> {
    if len == 0 {
        return None;
    }
    match Archive::open(path) {
        // `docker save` puts its old listing beside the layout, and omk none: it may be somebody's only copy.
        Ok(archive) if archive.has(LAYOUT_FILE) && archive.has("repositories") => {
            Some("a file of `docker save` and no bundle of omk".to_owned())
        }
        Ok(archive) if archive.has(LAYOUT_FILE) => None,
        Ok(archive) if docker && docker::by_omk(&archive) => None,
        Ok(archive) if docker::lists_images(&archive) => {
            let is = if docker {
                "a docker-archive that omk did not write"
            } else {
                "a docker-archive and no bundle"
            };
            Some(is.to_owned())
        }
        Ok(_) => Some("a tar archive of something else than a bundle".to_owned()),
        Err(ArchiveError::Compressed { kind, .. }) => Some(format!("a {kind}-compressed file")),
        Err(ArchiveError::NotTar { .. } | ArchiveError::TooMany { .. }) => Some("no bundle".to_owned()),
        Err(ArchiveError::Store(error)) => Some(format!("a file that cannot be read ({error})")),
    }
}

/// What a folder is when it is not one that may be written to.
fn other_folder(path: &Path) -> Option<String> {
    if path.join(LAYOUT_FILE).is_file() {
        return None;
    }
    match left_by_a_build(path) {
        Ok(true) => None,
        Ok(false) => Some("a folder with other things in it".to_owned()),
        Err(error) => Some(format!("a folder that cannot be read ({error})")),
    }
}

/// Whether there is nothing but what an interrupted build writes before the file that makes it a layout.
fn left_by_a_build(path: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let known = match entry.file_name().to_str() {
            Some("partial") => only_blobs(&entry.path())?,
            Some("blobs") => {
                let mut all = true;
                for algorithm in std::fs::read_dir(entry.path())? {
                    all &= only_blobs(&algorithm?.path())?;
                }
                all
            }
            _ => false,
        };
        if !known {
            return Ok(false);
        }
    }
    Ok(true)
}

fn only_blobs(folder: &Path) -> std::io::Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !name.to_str().is_some_and(|n| n.len() >= 64 && n.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Ok(false);
        }
    }
    Ok(true)
}

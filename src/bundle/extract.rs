use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Form;
use super::build::BuildError;
use super::export::{content, whole, write};
use super::open::Bundle;
use crate::event::{Event, Events};
use crate::oci::{Descriptor, Hasher};
use crate::store::{BlobSource as _, StoreError, blocking, check, parent, sync_folder};

/// What a bundle of omk may have beside its images.
const FOLDERS: [&str; 3] = ["charts", "manifests", "files"];

/// What to take out of a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct What {
    /// The images, as an OCI image layout.
    pub images: bool,
    /// Everything below these folders, of which one must be there unless images are taken too.
    pub folders: Vec<String>,
    /// Everything beside the images.
    pub every_file: bool,
}

/// What was taken out.
#[derive(Debug, Clone, Serialize)]
pub struct Extracted {
    /// The folder.
    pub output: PathBuf,
    /// Images in its layout.
    pub images: usize,
    /// Files that are no images, sorted.
    pub files: Vec<String>,
    /// Folders that were asked for and that the bundle does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Bytes of all.
    pub size: u64,
}

/// Writes what is in a bundle into a folder, which is then a bundle too if the images are among it.
///
/// # Errors
/// When something is not there, the folder holds other things, or the bundle turns out to be damaged.
pub async fn extract(
    bundle: &Bundle,
    what: &What,
    output: &Path,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Extracted, BuildError> {
    let all = contents(bundle).map_err(BuildError::Begin)?;
    let below =
        |name: &str, folder: &String| name.strip_prefix(folder.as_str()).is_some_and(|r| r.starts_with('/'));
    let lacks = |f: &&String| !all.iter().any(|c| below(&c.path, f));
    let absent: Vec<String> = what.folders.iter().filter(lacks).cloned().collect();
    // Of kinds that bundles have, what there is can be taken; a word that is none is a slip.
    let slip = absent.iter().find(|f| !FOLDERS.contains(&f.as_str()));
    let nothing = absent.first().filter(|_| !what.images && absent.len() == what.folders.len());
    if let Some(lacks) = slip.or(nothing) {
        let tops = all.iter().filter_map(|c| c.path.split_once('/')).map(|(top, _)| top.to_owned());
        let has = few(&tops.chain(["images".to_owned()]).collect());
        let text = format!("{} has nothing below {lacks}/; it has {has}", bundle.path().display());
        return Err(BuildError::Begin(StoreError::Remote(text)));
    }
    let wanted = |name: &str| what.every_file || what.folders.iter().any(|f| below(name, f));
    let files: Vec<Content> = all.into_iter().filter(|f| wanted(&f.path)).collect();
    events.emit(Event::Phase { name: "extract", total: None });
    let mut size: u64 = files.iter().map(|f| f.size).sum();
    let mut images = 0;
    if what.images {
        whole(bundle)?;
        let (texts, blobs) = content(bundle).map_err(BuildError::Begin)?;
        images = bundle.images().len();
        size = size.saturating_add(write(bundle, output, Form::Folder, texts, &blobs, events, cancel).await?);
    }
    for content in &files {
        tokio::select! {
            done = file(bundle, content, output) => done.map_err(BuildError::Store)?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        }
    }
    let files = files.into_iter().map(|f| f.path).collect();
    Ok(Extracted { output: output.to_owned(), images, files, absent, size })
}

/// Names for a message: a bundle of somebody else's may have any, and any number.
fn few(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 20;
    let clean = |name: &String| {
        let safe = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
        safe.take(80).collect::<String>()
    };
    // What bundles of omk have comes first.
    let known = |name: &&String| FOLDERS.contains(&name.as_str()) || *name == "images";
    let (own, others): (Vec<&String>, Vec<&String>) = names.iter().partition(known);
    let some: Vec<String> = own.into_iter().chain(others).take(SHOWN).map(clean).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

/// A file of an artifact, or an entry that stands beside the layout.
struct Content {
    path: String,
    size: u64,
    blob: Option<Descriptor>,
    executable: bool,
}

/// Sorted by path. Artifacts may have the same file of the same bytes; it is written once.
fn contents(bundle: &Bundle) -> Result<Vec<Content>, StoreError> {
    let beside = bundle.files()?.into_iter();
    let beside = beside.map(|(path, size)| Content { path, size, blob: None, executable: false });
    let held = bundle.artifacts().iter().flat_map(|a| &a.files).map(|f| Content {
        path: f.path.clone(),
        size: f.blob.size(),
        blob: Some(f.blob.clone()),
        executable: f.executable,
    });
    // What an earlier extraction wrote beside a layout is in its artifacts too, and those are verified.
    let mut all: Vec<Content> = held.chain(beside).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    for pair in all.windows(2) {
        if let [a, b] = pair
            && a.path == b.path
            && b.blob.is_some()
            && a.blob != b.blob
        {
            return Err(StoreError::Remote(format!("two files of the bundle are called {}", a.path)));
        }
    }
    all.dedup_by(|b, a| a.path == b.path);
    Ok(all)
}

/// Whole or not at all.
async fn file(bundle: &Bundle, content: &Content, output: &Path) -> Result<(), StoreError> {
    let (root, relative) = (output.to_owned(), content.path.clone());
    let (folder, path) = blocking(move || {
        let path = root.join(&relative);
        // A link that somebody put there must not lead the bytes elsewhere.
        let mut at = root;
        std::fs::create_dir_all(&at).map_err(StoreError::io("create", &at))?;
        for part in Path::new(&relative).parent().into_iter().flat_map(Path::components) {
            at.push(part);
            match std::fs::create_dir(&at) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => made.map_err(StoreError::io("create", &at))?,
            }
            if !std::fs::symlink_metadata(&at).map_err(StoreError::io("read", &at))?.is_dir() {
                return Err(StoreError::Remote(format!("{} is no folder", at.display())));
            }
        }
        Ok((parent(&path).to_owned(), path))
    })
    .await?;
    let staged = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(if content.executable { 0o755 } else { 0o644 }))
        .tempfile_in(&folder)
        .map_err(StoreError::io("write a file in", &folder))?;
    let mut stream = match &content.blob {
        Some(blob) => bundle.read(blob, 0..blob.size()).await?,
        None => bundle.file(&content.path, content.size)?,
    };
    let mut hasher = content.blob.as_ref().map(|b| Hasher::new(b.digest().algorithm()));
    let mut staged = Some(staged);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk);
        }
        let (mut file, path) = (staged.take().ok_or(StoreError::Cancelled)?, path.clone());
        staged = Some(
            blocking(move || {
                use std::io::Write as _;
                file.write_all(&chunk).map_err(StoreError::io("write", &path))?;
                Ok(file)
            })
            .await?,
        );
    }
    if let (Some(blob), Some(hasher)) = (&content.blob, hasher) {
        check(blob, blob.size(), &hasher.finish(), &bundle.label())?;
    }
    let staged = staged.ok_or(StoreError::Cancelled)?;
    blocking(move || {
        staged.as_file().sync_all().map_err(StoreError::io("sync", &path))?;
        staged.persist(&path).map_err(|e| StoreError::io("rename to", &path)(e.error))?;
        sync_folder(&folder)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_somebody_elses_bundle_are_few_and_clean() {
        let own = ["charts", "images"].map(str::to_owned);
        assert_eq!(few(&own.clone().into()), "charts, images");
        let odd = ["a\u{1b}[2J\n".to_owned(), "b".repeat(5000)];
        let said = few(&own.clone().into_iter().chain(odd).collect());
        assert_eq!(said, format!("charts, images, a\u{fffd}[2J\u{fffd}, {}", "b".repeat(80)));
        let said = few(&own.into_iter().chain((0..500).map(|i| format!("a{i:03}"))).collect());
        assert!(said.starts_with("charts, images, a000, ") && said.ends_with("a017 and 482 more"), "{said}");
    }
}

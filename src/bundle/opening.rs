//! From paths to something that can be read: what kind of bundle is it?

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::docker::{self, DockerArchive, Tagged};
use super::error::BundleError;
use super::index::{DOCKER_FILE, INDEX_FILE, Index, LAYOUT_FILE};
use super::medium::Medium;
use super::open::{Bundle, MAX_INDEX_BYTES};
use super::spool::{self, Compression};
use super::volume::{VolumeSet, looks_like_volume};
use crate::event::{Event, Events, silent};
use crate::near::nearest;
use crate::oci::{Descriptor, ImageRef};
use crate::store::archive::Archive;
use crate::store::{FolderStore, OpenFile, StoreError};

/// Files that are looked at for one that may be meant.
const MAX_BESIDE: usize = 10_000;

/// What a bundle is, which decides how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image layout in a tar file.
    Tar,
    /// An image layout in a tar file that is compressed: unpacked while it is open.
    Compressed(Compression),
    /// An image layout in a folder: also a cache.
    Folder,
    /// What `docker save` wrote before version 25: manifests and their digests are made up.
    DockerArchive,
    /// A tar file on several volumes.
    Volumes {
        /// That hold it.
        data: u64,
        /// That can stand in for others.
        parity: u64,
    },
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tar => f.write_str("tar"),
            Self::Compressed(how) => write!(f, "tar, {how}-compressed"),
            Self::Folder => f.write_str("folder"),
            Self::DockerArchive => f.write_str("docker-archive"),
            Self::Volumes { data, parity: 0 } => write!(f, "{data} volumes"),
            Self::Volumes { data, parity } => write!(f, "{data} volumes and {parity} with parity"),
        }
    }
}

/// How to open a bundle.
///
/// ```no_run
/// # async fn example() -> Result<(), omk::bundle::BundleError> {
/// use omk::bundle::Opening;
///
/// let bundle = Opening::new(["from-elsewhere.tar.gz"]).base_name("quay.io/acme/web").open().await?;
/// for image in bundle.images() {
///     println!("{}", image.label());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Opening {
    pub(super) paths: Vec<PathBuf>,
    pub(super) base_name: Option<String>,
    pub(super) only: Vec<ImageRef>,
    spool: PathBuf,
    pub(super) events: Events,
    pub(super) cancel: CancellationToken,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// What was found at the paths, before images are looked at.
pub(super) struct Found {
    pub(super) medium: Medium,
    pub(super) kind: Kind,
    pub(super) listing: Result<Listing, BundleError>,
}

/// The entry points of the images.
pub(super) enum Listing {
    Index(Index),
    Docker(Vec<Tagged>),
}

impl Opening {
    /// One file or folder; of volumes also several.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            base_name: None,
            only: Vec::new(),
            spool: spool::usual_folder(),
            events: silent(),
            cancel: CancellationToken::new(),
        }
    }

    /// The repository of images that other tools named by a tag only, as `quay.io/acme/web`.
    #[must_use]
    pub fn base_name(self, name: impl Into<String>) -> Self {
        Self { base_name: Some(name.into()), ..self }
    }

    /// Look at these images only: of a cache with thousands of images, the manifests of the others are not read.
    /// One that is not there is left out.
    #[must_use]
    pub fn only(self, images: impl IntoIterator<Item = ImageRef>) -> Self {
        Self { only: images.into_iter().collect(), ..self }
    }

    /// Where a compressed bundle is unpacked to; not given: `TMPDIR`, else `/var/tmp`.
    #[must_use]
    pub fn spool_folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { spool: folder.into(), ..self }
    }

    /// Tells what takes long, and can be stopped in it.
    #[must_use]
    pub fn told(self, events: &Events, cancel: &CancellationToken) -> Self {
        Self { events: events.clone(), cancel: cancel.clone(), ..self }
    }

    /// Opens it. See [`Bundle`] for what that means.
    ///
    /// # Errors
    /// When it is no bundle, is damaged as far as can be seen without hashing layers, or cannot be read.
    pub async fn open(&self) -> Result<Bundle, BundleError> {
        Bundle::checked(self).await
    }

    /// The first path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.paths.first().cloned().unwrap_or_default()
    }

    pub(super) async fn find(&self) -> Result<Found, BundleError> {
        let this = self.clone();
        let work = tokio::task::spawn_blocking(move || this.find_blocking());
        tokio::select! {
            done = work => done.map_err(|_| StoreError::Cancelled)?,
            () = self.cancel.cancelled() => Err(StoreError::Cancelled.into()),
        }
    }

    /// The set that the paths mean, if they mean volumes.
    pub(super) async fn volumes(&self) -> Result<Option<VolumeSet>, BundleError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.volumes_blocking())
            .await
            .map_err(|_| StoreError::Cancelled)?
    }

    /// An opening for each bundle that the paths name: volumes belong together, any other path is a bundle of its own.
    pub(super) async fn apart(&self) -> Result<Vec<Self>, BundleError> {
        let paths = self.paths.clone();
        let work = move || paths.into_iter().partition::<Vec<_>, _>(|p| looks_like_volume(p));
        let (volumes, others) = tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Cancelled)?;
        let volumes = Some(volumes).filter(|v| !v.is_empty());
        let mut all: Vec<Vec<PathBuf>> =
            volumes.into_iter().chain(others.into_iter().map(|p| vec![p])).collect();
        all.sort_by_key(|of| self.paths.iter().position(|p| of.first() == Some(p)));
        Ok(all.into_iter().map(|paths| Self { paths, ..self.clone() }).collect())
    }

    fn volumes_blocking(&self) -> Result<Option<VolumeSet>, BundleError> {
        let any = self.paths.iter().any(|p| looks_like_volume(p));
        any.then(|| VolumeSet::find(&self.paths)).transpose().map_err(BundleError::Volumes)
    }

    fn find_blocking(&self) -> Result<Found, BundleError> {
        let path = self.path();
        if let Some(set) = self.volumes_blocking()? {
            let kind = Kind::Volumes { data: set.header().data, parity: set.header().parity };
            return archive(&path, Archive::read_headers(set.join(path.clone())?)?, kind);
        }
        if let [_, second, ..] = self.paths.as_slice() {
            let reason =
                "it stands beside another bundle, and this command takes one (volumes of a set count as one)";
            let whether = "; `omk bundle verify` takes several, `omk bundle merge` makes one of them";
            return Err(BundleError::Together { path: second.clone(), reason: format!("{reason}{whether}") });
        }
        let meta = match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(BundleError::Missing { near: beside(&path), path });
            }
            meta => meta.map_err(StoreError::io("open bundle", &path))?,
        };
        if meta.is_dir() {
            let medium = Medium::Folder(FolderStore::new(&path));
            let listing = layout(&path, &medium);
            return Ok(Found { medium, kind: Kind::Folder, listing });
        }
        if !meta.is_file() {
            let reason = "it is neither a file nor a folder, and a bundle is not read front to back";
            return Err(not_bundle(&path, reason));
        }
        let file = OpenFile::open(&path)?;
        let mut head = vec![0; usize::try_from(meta.len().min(8)).unwrap_or(0)];
        file.read_exact_at(&mut head, 0)?;
        match Compression::of(&head) {
            None => archive(&path, Archive::read_headers(file)?, Kind::Tar),
            Some(how) => {
                self.events.emit(Event::Phase { name: "unpack", total: None });
                let unpacked = spool::unpack(&path, how, &self.spool, &self.cancel)?;
                archive(&path, Archive::read_headers(unpacked)?, Kind::Compressed(how))
            }
        }
    }
}

/// Whether a path is a bundle by its looks (its listing is there), on volumes or not, for messages. Compressed ones are not
/// unpacked, and not recognised. Blocks.
pub fn is_bundle(path: &Path) -> bool {
    if path.is_dir() {
        return path.join(LAYOUT_FILE).is_file() || looks_like_volume(path);
    }
    // What is read front to back cannot be looked into without taking from it.
    path.is_file()
        && (looks_like_volume(path)
            || Archive::open(path).is_ok_and(|a| a.has(LAYOUT_FILE) || docker::lists_images(&a)))
}

/// What lies where the path leads, under a name like its own.
fn beside(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).ok()?.take(MAX_BESIDE).flatten();
    let names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    // What cannot be a bundle by its name is not meant, and what could confuse a terminal is not told.
    let plain = |name: &String| !name.chars().any(char::is_control);
    let bundle = |name: &String| {
        let ends = [".sha256", ".asc", ".sig", ".lock", ".part"].iter().any(|end| name.ends_with(end));
        !ends && (name.contains(".tar") || name.contains("bundle") || !name.contains('.'))
    };
    let names: Vec<String> = names.into_iter().filter(|n| plain(n) && bundle(n)).collect();
    let names = || names.iter().map(String::as_str);
    let wanted = path.file_name()?.to_str()?;
    // `web.bundle.tar` for `web.tar`.
    let stem = |name: &str| name.split('.').next().map(str::to_owned);
    let longer = || names().find(|name| stem(name) == stem(wanted) && name.contains(".tar"));
    longer().or_else(|| nearest(wanted, names())).map(|name| folder.join(name))
}

fn not_bundle(path: &Path, reason: impl Into<String>) -> BundleError {
    BundleError::NotBundle { path: path.to_owned(), reason: reason.into() }
}

fn archive(path: &Path, archive: Archive, kind: Kind) -> Result<Found, BundleError> {
    if !archive.has(LAYOUT_FILE) {
        if let Some(listing) = archive.text(DOCKER_FILE, MAX_INDEX_BYTES)? {
            let read = DockerArchive::read(archive, &listing);
            let (docker, images) = read.map_err(|reason| not_bundle(path, reason))?;
            let (medium, listing) = (Medium::Docker(docker), Ok(Listing::Docker(images)));
            return Ok(Found { medium, kind: Kind::DockerArchive, listing });
        }
        if archive.has("repositories") {
            let reason = "it was saved by a docker older than 1.10, whose images have no digests: load it into a \
                          current docker and save it again";
            return Err(not_bundle(path, reason));
        }
    }
    let medium = Medium::Tar(archive);
    let listing = layout(path, &medium);
    Ok(Found { medium, kind, listing })
}

fn layout(path: &Path, medium: &Medium) -> Result<Listing, BundleError> {
    let Some(layout) = medium.text(LAYOUT_FILE, 4096)? else {
        return Err(not_bundle(
            path,
            match medium.text(DOCKER_FILE, MAX_INDEX_BYTES)? {
                Some(_) => "it is an unpacked docker-archive: give the archive itself".to_owned(),
                None => format!("it has no {LAYOUT_FILE} file"),
            },
        ));
    };
    let version = serde_json::from_slice::<serde_json::Value>(&layout).ok();
    let version = version.as_ref().and_then(|v| v.get("imageLayoutVersion")?.as_str());
    if !version.is_some_and(|v| v.starts_with("1.")) {
        return Err(not_bundle(path, format!("{LAYOUT_FILE} does not say imageLayoutVersion 1")));
    }
    let text = medium.text(INDEX_FILE, MAX_INDEX_BYTES)?;
    let text = text.ok_or_else(|| not_bundle(path, format!("it has no {INDEX_FILE}")))?;
    let index = serde_json::from_slice(&text).map_err(|e| not_bundle(path, format!("{INDEX_FILE}: {e}")))?;
    Ok(Listing::Index(index))
}

/// What an entry calls its image, and what another tool's tag-only name is worth.
pub(super) struct Naming<'a> {
    pub(super) path: &'a Path,
    pub(super) base: Option<&'a str>,
}

/// A name that goes to nodes as it is, or what stands where none is known.
pub(super) enum Name {
    Full(String),
    Unknown(Option<String>),
}

impl Naming<'_> {
    /// By containerd's rule: its own annotation is taken as it stands; the one of the image specification may be a
    /// whole reference (as skopeo and podman write it) or a tag only.
    pub(super) fn of(&self, entry: &Descriptor) -> Result<Name, BundleError> {
        if let Some(name) = Index::containerd_name(entry) {
            return Ok(Name::Full(name.to_owned()));
        }
        let bad = |e: crate::oci::ReferenceError| not_bundle(self.path, format!("{INDEX_FILE}: {e}"));
        match (Index::ref_name(entry), self.base) {
            (Some(name), _) if name.contains(['/', ':', '@']) => {
                Ok(Name::Full(name.parse::<ImageRef>().map_err(bad)?.to_string()))
            }
            (Some(tag), Some(base)) => {
                Ok(Name::Full(format!("{base}:{tag}").parse::<ImageRef>().map_err(bad)?.to_string()))
            }
            (None, Some(base)) => {
                let name = base.parse::<ImageRef>().map_err(bad)?.at(entry.digest().clone());
                Ok(Name::Full(name.to_string()))
            }
            (tag, None) => Ok(Name::Unknown(tag.map(str::to_owned))),
        }
    }

    /// What stands for the name of an image that has none, in messages and for choosing it.
    pub(super) fn placeholder(&self, tag: Option<&str>, root: &Descriptor) -> Option<ImageRef> {
        let stem = self.path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_ascii_lowercase();
        let stem = stem.split('.').next().unwrap_or_default();
        let plain = stem.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let stem = if plain && !stem.is_empty() { stem } else { "image" };
        let digest = root.digest();
        let tagged = tag.and_then(|t| format!("unnamed.invalid/{stem}:{t}").parse().ok());
        let pinned = || format!("unnamed.invalid/{stem}@{digest}").parse().ok();
        tagged.or_else(pinned).or_else(|| format!("unnamed.invalid/image@{digest}").parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_may_be_meant_is_one_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let near = |wanted: &str| {
            let found = beside(&dir.path().join(wanted))?;
            Some(found.file_name().unwrap().to_string_lossy().into_owned())
        };
        for file in ["web.yaml", "web.tar.sha256", "we\u{1b}b.tar", "web.lock"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        assert_eq!(near("web.tar"), None);
        std::fs::write(dir.path().join("web.bundle.tar"), "").unwrap();
        assert_eq!(near("web.tar").as_deref(), Some("web.bundle.tar"));
        assert_eq!(near("web.bundel.tar").as_deref(), Some("web.bundle.tar"));
        assert_eq!(near("other.tar"), None);
    }
}

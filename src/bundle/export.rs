use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::build::{BuildError, ordered, texts};
use super::delta::DELTA_FILE;
use super::index::{DOCKER_FILE, docker_manifest};
use super::open::Bundle;
use super::output::{check_docker_output, check_output};
use super::pour::{self, Entry, Sink, pour};
use super::referrers::{Referred, about};
use super::write::{Texts, into_folder, into_tar};
use super::{BundleImage, Form};
use crate::copy::{Job, Transfer};
use crate::event::{Event, Events};
use crate::oci::{Descriptor, Platform};
use crate::store::archive::Stamp;
use crate::store::{BlobSource, StoreError, blocking};

/// Where images go, and in what form.
#[derive(Debug)]
pub enum Target {
    /// An image layout in a tar file: a bundle.
    OciArchive(To),
    /// An image layout in a folder: a bundle too.
    Folder(PathBuf),
    /// What `docker load` of any version reads: configs and layers, no manifests.
    DockerArchive(To),
}

/// Where an archive goes.
pub enum To {
    /// A file, which has its name once it is whole.
    File(PathBuf),
    /// Front to back, such as standard output.
    Stream(Box<dyn std::io::Write + Send>),
}

impl std::fmt::Debug for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Images.
    pub images: usize,
    /// Different blobs.
    pub blobs: usize,
    /// Bytes of the file; of all blobs for a folder.
    pub size: u64,
}

/// Copies that are made at once: more do not make one disk faster.
const PARALLEL: usize = 2;

/// Writes images of an open bundle in a form that other tools read, verified on the way. With `platform`, only that
/// one of each; a [`Target::DockerArchive`] holds one an image, and must be told which where there are several.
///
/// # Errors
/// When a name is missing or a platform, the target cannot be written, or the bundle turns out to be damaged: a file
/// then keeps its `.partial` name, and what went to standard output has no end.
pub async fn export(
    bundle: &Bundle,
    images: &[BundleImage],
    platform: Option<&Platform>,
    target: Target,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Exported, BuildError> {
    whole(bundle)?;
    let docker = matches!(target, Target::DockerArchive(_));
    let images = images.iter().map(|i| reduced(i, platform, docker)).collect::<Result<Vec<_>, _>>()?;
    if images.is_empty() {
        return Err(BuildError::Empty);
    }
    let taken = platform.map_or_else(|| bundle.platforms().to_vec(), |p| vec![p.clone()]);
    // All images are the whole bundle, with what rides along.
    let whole = images.len() == bundle.images().len();
    let artifacts = if whole { bundle.artifacts() } else { &[] };
    let (texts, blobs) = if docker {
        let json = |e: serde_json::Error| StoreError::Remote(format!("cannot write {DOCKER_FILE}: {e}"));
        let listing = docker_manifest(&images).map_err(json).map_err(BuildError::Begin)?;
        let blobs = ordered(&images, &[], &[]).into_iter().filter(is_content).collect();
        (vec![(DOCKER_FILE.to_owned(), listing)], blobs)
    } else {
        let subjects = images.iter().flat_map(|i| &i.graph.blobs).map(Descriptor::digest);
        let referred = about(subjects, bundle.referrers(), Referred::parts);
        let referred: Vec<Referred> = referred.into_iter().cloned().collect();
        let texts = texts(&images, artifacts, &referred, &taken).map_err(BuildError::Begin)?;
        (texts, ordered(&images, artifacts, &referred))
    };
    events.emit(Event::Phase { name: "export", total: Some(blobs.len() as u64) });
    let size = match target {
        Target::Folder(path) => write(bundle, &path, Form::Folder, texts, &blobs, events, cancel).await?,
        Target::OciArchive(To::File(path)) => {
            write(bundle, &path, Form::Tar, texts, &blobs, events, cancel).await?
        }
        Target::DockerArchive(To::File(path)) => {
            check_docker_output(&path, &[bundle.path().to_owned()])?;
            written(bundle, &path, Form::Tar, texts, &blobs, events, cancel).await?
        }
        Target::OciArchive(To::Stream(out)) | Target::DockerArchive(To::Stream(out)) => {
            let texts = texts.into_iter().map(|(name, bytes)| Entry::Text(name, bytes));
            let entries: Vec<Entry> = texts.chain(blobs.iter().cloned().map(Entry::Blob)).collect();
            let bytes = blobs.iter().map(Descriptor::size).sum();
            events.emit(Event::TransferPlanned { node: None, blobs: blobs.len() as u64, bytes, skipped: 0 });
            let mut sink = Out(Some(out));
            let poured = async {
                pour(bundle, &entries, &mut sink, events).await?;
                sink.act(|out| out.flush()).await
            };
            tokio::select! {
                done = poured => done.map_err(BuildError::Begin)?,
                () = cancel.cancelled() => return Err(BuildError::Cancelled),
            }
            pour::size(&entries).map_err(BuildError::Begin)?
        }
    };
    Ok(Exported { images: images.len(), blobs: blobs.len(), size })
}

/// A delta has not all that other tools need.
pub(super) fn whole(bundle: &Bundle) -> Result<(), BuildError> {
    bundle.require_whole().map_err(|e| BuildError::Begin(StoreError::Remote(e.to_string())))
}

/// What a build of the same content writes: of a delta what is in it.
pub(super) fn content(bundle: &Bundle) -> Result<(Texts, Vec<Descriptor>), StoreError> {
    let (images, artifacts, referred) = (bundle.images(), bundle.artifacts(), bundle.referrers());
    let mut texts = texts(images, artifacts, referred, bundle.platforms())?;
    let mut blobs = ordered(images, artifacts, referred);
    if let Some(delta) = bundle.delta() {
        let text = serde_json::to_vec(delta);
        let text = text.map_err(|e| StoreError::Remote(format!("cannot write {DELTA_FILE}: {e}")))?;
        texts.retain(|(name, _)| name != DOCKER_FILE);
        texts.push((DELTA_FILE.to_owned(), text));
        blobs.retain(|b| !delta.absent.contains_key(b.digest()));
    }
    Ok((texts, blobs))
}

pub(super) async fn write(
    bundle: &Bundle,
    path: &std::path::Path,
    form: Form,
    texts: Texts,
    blobs: &[Descriptor],
    events: &Events,
    cancel: &CancellationToken,
) -> Result<u64, BuildError> {
    check_output(path, form, &[bundle.path().to_owned()])?;
    written(bundle, path, form, texts, blobs, events, cancel).await
}

/// As [`write`], where the caller has looked at what stands there.
async fn written(
    bundle: &Bundle,
    path: &std::path::Path,
    form: Form,
    texts: Texts,
    blobs: &[Descriptor],
    events: &Events,
    cancel: &CancellationToken,
) -> Result<u64, BuildError> {
    let source: Arc<dyn BlobSource> = Arc::new(bundle.clone());
    let transfer = |blob: &Descriptor| Transfer { blob: blob.clone(), source: Arc::clone(&source) };
    let transfers = blobs.iter().map(transfer).collect();
    let (events, cancel) = (events.clone(), cancel.clone());
    let job = Job { events, cancel, node: None, parallel: PARALLEL };
    let stamped = match form {
        Form::Tar => path.to_owned(),
        Form::Folder => path.join(super::index::INDEX_FILE),
    };
    let seen = Stamp::of(&stamped).map_err(BuildError::Begin)?;
    let (_, size) = match form {
        Form::Tar => into_tar(path, seen, blobs, texts, transfers, &job).await?,
        Form::Folder => into_folder(path, seen, blobs, texts, transfers, &job).await?,
    };
    Ok(size)
}

/// Configs and layers: what a docker-archive holds.
fn is_content(blob: &Descriptor) -> bool {
    blob.kind() == crate::oci::media::Kind::Blob
}

/// The image with one platform only, if one is asked for; its index keeps its digest.
fn reduced(image: &BundleImage, platform: Option<&Platform>, one: bool) -> Result<BundleImage, BuildError> {
    let mut image = image.clone();
    let graph = &mut image.graph;
    let offered: Vec<String> =
        graph.images.iter().filter_map(|i| i.platform.as_ref()).map(ToString::to_string).collect();
    if let Some(wanted) = platform {
        let exact = graph.images.iter().position(|i| i.platform.as_ref() == Some(wanted));
        let runs = |i: &crate::graph::PlatformImage| i.platform.as_ref().is_some_and(|p| wanted.runs(p));
        let at = exact.or_else(|| graph.images.iter().position(runs));
        let Some(kept) = at.map(|i| graph.images.remove(i)) else {
            let text = format!("{} has no image for {wanted}; it has {}", image.label(), offered.join(", "));
            return Err(BuildError::Begin(StoreError::Remote(text)));
        };
        let of = |i: &crate::graph::PlatformImage| {
            [&i.manifest, &i.config]
                .into_iter()
                .chain(&i.layers)
                .map(|b| b.digest().clone())
                .collect::<Vec<_>>()
        };
        let mine = of(&kept);
        let others: Vec<_> = graph.images.iter().flat_map(of).filter(|d| !mine.contains(d)).collect();
        graph.blobs.retain(|b| !others.contains(b.digest()));
        graph.images = vec![kept];
    }
    let platforms = graph.images.iter().filter(|i| i.platform.is_some()).count();
    match platforms {
        0 if one => {
            let text =
                format!("{} is no image but an artifact, which no docker-archive holds", image.label());
            Err(BuildError::Begin(StoreError::Remote(text)))
        }
        2.. if one => {
            let text = format!(
                "{} is there for {}, and a docker-archive holds one: choose it with --platform",
                image.label(),
                offered.join(", ")
            );
            Err(BuildError::Begin(StoreError::Remote(text)))
        }
        _ => Ok(image),
    }
}

/// Written on a thread that may wait: the reader of a pipe may be slow.
struct Out(Option<Box<dyn std::io::Write + Send>>);

impl Out {
    async fn act(
        &mut self,
        work: impl FnOnce(&mut Box<dyn std::io::Write + Send>) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut out = self.0.take().ok_or(StoreError::Cancelled)?;
        let done = blocking(move || {
            work(&mut out).map_err(StoreError::io("write", "the stream"))?;
            Ok(out)
        });
        self.0 = Some(done.await?);
        Ok(())
    }
}

#[async_trait]
impl Sink for Out {
    async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.act(move |out| out.write_all(&bytes)).await
    }
}

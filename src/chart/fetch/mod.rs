//! Getting charts: from folders and archives, chart repositories (`index.yaml`) and OCI registries, with the
//! dependencies that `charts/` lacks.
//!
//! What is fetched is checked against the digest that the index or registry promises, and against the provenance
//! file where there is one (its OpenPGP signature is not looked at), and is kept in a cache. Indexes and tags
//! are asked for each time; without a network ([`FetchOptions::offline`]) the cache answers for what was fetched
//! before.
//!
//! Nothing is written into a chart's own folder, other than by `helm dependency build`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;
use tokio_util::sync::CancellationToken;

use super::metadata::Dependency;
use super::{Chart, ChartError, load, load_archive};
use crate::event::{Event, Events};
use crate::oci::{Digest, ImageRef};
use crate::registry::{Login, Registry, RegistryOptions};
use crate::store::read_verified;
use crate::template::semver_satisfies;

mod cache;
mod error;
pub(crate) mod http;
mod index;
mod loader;
mod packed;
mod source;

pub use cache::default_cache;
pub use error::FetchError;
pub use loader::Loader;
pub use packed::PackedChart;
pub use source::ChartSource;

use cache::{Cache, Known};
use http::{Web, shown};

/// Bytes of a packed chart.
pub const MAX_ARCHIVE_BYTES: u64 = 64 << 20;
/// Bytes of a repository's index. The largest public ones have some 25 MB.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Bytes of a provenance file: a signed `Chart.yaml` and digests.
const MAX_PROVENANCE_BYTES: u64 = 1 << 20;
/// Charts that depend on each other by `file://`.
const MAX_LOCAL_DEPTH: usize = 8;

const CHART_LAYER: [&str; 2] =
    ["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"];
const PROVENANCE_LAYER: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

/// How charts are fetched.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// For `oci://`; the authorities to trust are good for chart repositories too.
    pub registry: RegistryOptions,
    /// Who is logged in at the chart repository; never sent to another host.
    pub login: Option<Login>,
    /// Where fetched charts are kept; see [`default_cache`].
    pub cache: PathBuf,
    /// Makes no request: what is not in the cache is an error.
    pub offline: bool,
}

/// Fetches charts. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    registry: Registry,
    web: Web,
    cache: Cache,
    offline: bool,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("cache", &self.0.cache.root()).finish_non_exhaustive()
    }
}

struct Archive {
    known: Known,
    bytes: Bytes,
}

impl Fetcher {
    /// Reads the CA files; no request is made.
    ///
    /// # Errors
    /// If a CA file cannot be read.
    pub fn new(options: FetchOptions) -> Result<Self, FetchError> {
        let ca_files = options.registry.ca_files.clone();
        let registry = Registry::new(options.registry)?;
        let web = Web::new(&ca_files, options.login)?;
        Ok(Self(Arc::new(Inner {
            registry,
            web,
            cache: Cache::new(options.cache),
            offline: options.offline,
        })))
    }

    /// Loads a chart, and with `dependencies` also those that it declares and does not bring along. The second
    /// value are warnings.
    ///
    /// # Errors
    /// [`ChartError::Fetch`] for what cannot be had, else as [`load`].
    pub async fn load(
        &self,
        source: &ChartSource,
        dependencies: bool,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Chart, ChartError> {
        let (chart, folder) = match source {
            ChartSource::Path(path) => (open(path).await?, path.is_dir().then(|| path.clone())),
            remote => {
                let archive = self.archive(remote, events, cancel).await?;
                (load_archive(&archive.known.reference, &archive.bytes)?, None)
            }
        };
        if !dependencies {
            return Ok(chart);
        }
        self.complete(chart, folder, 0, events, cancel).await
    }

    async fn archive(
        &self,
        source: &ChartSource,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Archive, FetchError> {
        let reference = source.to_string();
        if self.0.offline {
            let cache = &self.0.cache;
            if let Some(known) = cache.recall(&reference)?
                && let Ok(digest) = known.digest.parse::<Digest>()
                && let Some(bytes) = cache.archive(&digest, MAX_ARCHIVE_BYTES)?
            {
                return Ok(Archive { known, bytes: bytes.into() });
            }
            let (place, cache) = (source.place(), cache.root().to_owned());
            return Err(FetchError::Offline { what: reference, place, cache });
        }
        let fetch = async {
            match source {
                ChartSource::Path(path) => {
                    let reason = "a path is not fetched".to_owned();
                    Err(FetchError::Reference { given: path.display().to_string(), reason })
                }
                ChartSource::Oci { repository, version } => {
                    self.pull(repository, version, events, cancel).await
                }
                ChartSource::Url(url) => {
                    let bytes = self.0.web.get(url, url, MAX_ARCHIVE_BYTES, events, cancel).await?;
                    let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
                    let digest = Digest::sha256(&bytes);
                    let chart = name.trim_end_matches(".tgz");
                    self.provenance(url, url, chart, &digest, cancel).await?;
                    Ok((name, digest, bytes))
                }
                ChartSource::Repo { url, name, version } => {
                    self.download(url, name, version, events, cancel).await
                }
            }
        };
        let (chart, digest, bytes) = fetch.await?;
        let known = Known { reference, chart, digest: digest.to_string() };
        let (cache, kept, copy) = (self.0.cache.clone(), known.clone(), bytes.clone());
        let write = move || cache.keep(&digest, &copy).and_then(|()| cache.remember(&kept));
        // A cache that cannot be written is told and costs only the next run.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            events.emit(Event::Warning { message: format!("{error}; the chart is used all the same") });
        }
        Ok(Archive { known, bytes })
    }

    /// Name and version, digest, bytes.
    async fn download(
        &self,
        home: &Url,
        name: &str,
        version: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(String, Digest, Bytes), FetchError> {
        let at = source::index_url(home);
        let bytes = self.0.web.get(&at, home, MAX_INDEX_BYTES, events, cancel).await?;
        let wrong = |reason: String| FetchError::Index { url: shown(&at), reason };
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
        let none = |reason: String| FetchError::NoVersion {
            name: name.to_owned(),
            version: version.to_owned(),
            place: shown(home),
            reason,
        };
        let Some(mut versions) = index::entries(text, name).map_err(wrong)? else {
            return Err(none("the index does not have this chart".into()));
        };
        versions.retain(|v| !v.urls.is_empty());
        let all = versions.iter().map(|v| v.version.as_str());
        let picked = index::pick(all.clone(), version);
        let Some(entry) = picked.and_then(|p| versions.iter().find(|v| v.version == p)) else {
            let some: Vec<&str> = all.take(10).collect();
            return Err(none(format!("it has {}", some.join(", "))));
        };
        let url = source::archive_url(home, &entry.urls[0])
            .map_err(|reason| FetchError::Index { url: shown(&at), reason })?;
        let chart = format!("{name}-{}", entry.version);
        let promised = entry.digest.as_ref().map(|d| d.trim_start_matches("sha256:").to_owned());
        let promised = promised.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        // The index says what the archive is: if it is known, it need not be fetched again.
        if let Some(digest) = &promised
            && let Some(bytes) = self.0.cache.archive(digest, MAX_ARCHIVE_BYTES)?
        {
            return Ok((chart, digest.clone(), bytes.into()));
        }
        let bytes = self.0.web.get(&url, home, MAX_ARCHIVE_BYTES, events, cancel).await?;
        let digest = Digest::sha256(&bytes);
        if let Some(expected) = promised.filter(|p| *p != digest) {
            return Err(mismatch(&chart, &expected.to_string(), &digest, "the index"));
        }
        self.provenance(&url, home, &chart, &digest, cancel).await?;
        Ok((chart, digest, bytes))
    }

    /// Holds an archive against the provenance file beside it, where the server has one.
    async fn provenance(
        &self,
        archive: &Url,
        home: &Url,
        chart: &str,
        digest: &Digest,
        cancel: &CancellationToken,
    ) -> Result<(), FetchError> {
        let mut url = archive.clone();
        url.set_path(&format!("{}.prov", archive.path()));
        match self.0.web.get_if_there(&url, home, MAX_PROVENANCE_BYTES, cancel).await? {
            Some(text) => check_provenance(chart, &String::from_utf8_lossy(&text), digest),
            None => Ok(()),
        }
    }

    async fn pull(
        &self,
        repository: &str,
        version: &str,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(String, Digest, Bytes), FetchError> {
        let reference = |suffix: &str| {
            let given = format!("{repository}{suffix}");
            given.parse::<ImageRef>().map_err(|e| FetchError::Reference { given, reason: e.to_string() })
        };
        let image = if version.starts_with("sha256:") {
            reference(&format!("@{version}"))?
        } else if index::is_exact(version) {
            // A tag cannot have a plus sign.
            reference(&format!(":{}", version.replace('+', "_")))?
        } else {
            let any = reference(":latest")?;
            let tags = self.0.registry.tags(&any, events, cancel).await?;
            let versions: Vec<String> = tags.iter().map(|t| t.replace('_', "+")).collect();
            let all = versions.iter().map(String::as_str);
            let Some(picked) = index::pick(all.clone(), version) else {
                let some: Vec<&str> = all.take(10).collect();
                return Err(FetchError::NoVersion {
                    name: repository.rsplit('/').next().unwrap_or_default().to_owned(),
                    version: version.to_owned(),
                    place: format!("oci://{repository}"),
                    reason: format!("it has {}", some.join(", ")),
                });
            };
            reference(&format!(":{}", picked.replace('+', "_")))?
        };
        let graph = self.0.registry.graph(&image, &[], events, cancel).await?;
        let layers = || graph.images.iter().flat_map(|i| &i.layers);
        let Some(layer) = layers().find(|l| CHART_LAYER.contains(&l.media_type())) else {
            let reason = match graph.images.first() {
                Some(first) => format!("its config is {}", first.config.media_type()),
                None => "there is nothing in it".to_owned(),
            };
            return Err(FetchError::NotAChart { image: image.to_string(), reason });
        };
        let tag = image.tag().unwrap_or_default().replace('_', "+");
        let chart = format!("{}-{tag}", image.repository().rsplit('/').next().unwrap_or_default());
        events.emit(Event::Resolved { image: format!("oci://{image}"), digest: graph.root.digest().clone() });
        if let Some(bytes) = self.0.cache.archive(layer.digest(), MAX_ARCHIVE_BYTES)? {
            return Ok((chart, layer.digest().clone(), bytes.into()));
        }
        let blobs = self.0.registry.repository(&image, events).with_documents(graph.documents.clone());
        let read = async {
            let bytes = read_verified(&blobs, layer, MAX_ARCHIVE_BYTES).await?;
            if let Some(provenance) = layers().find(|l| l.media_type() == PROVENANCE_LAYER) {
                let text = read_verified(&blobs, provenance, MAX_PROVENANCE_BYTES).await?;
                check_provenance(&chart, &String::from_utf8_lossy(&text), &Digest::sha256(&bytes))?;
            }
            Ok::<_, FetchError>(bytes)
        };
        let bytes = tokio::select! {
            () = cancel.cancelled() => return Err(FetchError::Cancelled),
            done = read => done?,
        };
        Ok((chart, layer.digest().clone(), bytes))
    }

    /// Adds the dependencies that are declared and not there.
    async fn complete(
        &self,
        mut chart: Chart,
        folder: Option<PathBuf>,
        depth: usize,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Chart, ChartError> {
        let wanted = self.lacking(&chart);
        let mut missing = Vec::new();
        for dep in &wanted {
            let fits = |c: &Chart| {
                c.metadata.name == dep.name && semver_satisfies(&dep.version, &c.metadata.version)
            };
            // The same chart under two aliases is fetched once.
            if chart.dependencies.iter().any(fits) {
                continue;
            }
            match self.dependency(&chart, dep, folder.as_deref(), depth, events, cancel).await {
                Ok(found) => chart.dependencies.push(found),
                Err(ChartError::Fetch(error)) if matches!(*error, FetchError::Cancelled) => {
                    return Err(FetchError::Cancelled.into());
                }
                Err(error) => missing.push(format!("{} {} ({error})", dep.name, dep.version)),
            }
        }
        if missing.is_empty() {
            return Ok(chart);
        }
        Err(ChartError::MissingDependencies { chart: chart.metadata.name, missing })
    }

    /// The dependencies that a chart declares and does not bring along, each once.
    fn lacking(&self, chart: &Chart) -> Vec<Dependency> {
        let there = |d: &Dependency| chart.dependencies.iter().any(|c| c.metadata.name == d.name);
        let mut all: Vec<Dependency> = Vec::new();
        for dep in chart.metadata.dependencies.iter().filter(|d| !there(d)) {
            let same = |d: &Dependency| {
                (&d.name, &d.version, &d.repository) == (&dep.name, &dep.version, &dep.repository)
            };
            if !all.iter().any(same) {
                all.push(dep.clone());
            }
        }
        all
    }

    /// Where a dependency comes from, with the version that the lock chose.
    fn dependency_source(
        &self,
        parent: &Chart,
        dep: &Dependency,
        folder: Option<&Path>,
        events: &Events,
    ) -> Result<ChartSource, FetchError> {
        let refuse =
            |reason: &str| FetchError::Reference { given: dep.repository.clone(), reason: reason.into() };
        if let Some(below) = dep.repository.strip_prefix("file://") {
            let Some(folder) = folder else {
                return Err(refuse("a packed chart cannot refer to a folder beside it"));
            };
            let path = if below.starts_with('/') { PathBuf::from(below) } else { folder.join(below) };
            return Ok(ChartSource::Path(path));
        }
        let locked = locked(parent, dep);
        if locked.is_none() && !parent.lock.is_empty() {
            let (chart, name, version) = (&parent.metadata.name, &dep.name, &dep.version);
            let message = format!(
                "the Chart.lock of {chart} has no version of {name} from {} that Chart.yaml allows ({version:?}); \
                 the newest that fits is taken. `helm dependency update` brings the two together",
                dep.repository
            );
            events.emit(Event::Warning { message });
        }
        source::of_dependency(dep, locked.as_deref().unwrap_or(&dep.version))
    }

    async fn dependency(
        &self,
        parent: &Chart,
        dep: &Dependency,
        folder: Option<&Path>,
        depth: usize,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Chart, ChartError> {
        let refuse =
            |reason: &str| FetchError::Reference { given: dep.repository.clone(), reason: reason.into() };
        let source = self.dependency_source(parent, dep, folder, events)?;
        if let ChartSource::Path(path) = source {
            if depth >= MAX_LOCAL_DEPTH {
                return Err(refuse("charts refer to each other without an end").into());
            }
            let found = open(&path).await?;
            if !dep.version.is_empty() && !semver_satisfies(&dep.version, &found.metadata.version) {
                let reason = format!("it has version {}, wanted is {}", found.metadata.version, dep.version);
                return Err(refuse(&reason).into());
            }
            let folder = path.is_dir().then_some(path);
            return Box::pin(self.complete(found, folder, depth + 1, events, cancel)).await;
        }
        let archive = self.archive(&source, events, cancel).await?;
        let found = load_archive(&archive.known.reference, &archive.bytes)?;
        if found.metadata.name != dep.name {
            return Err(refuse(&format!("the chart there is {}", found.metadata.name)).into());
        }
        Ok(found)
    }
}

/// The version that `Chart.lock` chose, if it still fits what `Chart.yaml` asks for.
fn locked(parent: &Chart, dep: &Dependency) -> Option<String> {
    let same = |l: &&Dependency| l.name == dep.name && l.repository == dep.repository;
    let fits = |l: &&Dependency| dep.version.is_empty() || semver_satisfies(&dep.version, &l.version);
    parent.lock.iter().filter(same).find(fits).map(|l| l.version.clone())
}

async fn open(path: &Path) -> Result<Chart, ChartError> {
    let path = path.to_owned();
    let shown = path.clone();
    let work = tokio::task::spawn_blocking(move || load(&path)).await;
    work.unwrap_or_else(|e| {
        let source = std::io::Error::other(format!("reading broke off: {e}"));
        Err(ChartError::Io { path: shown, source })
    })
}

fn mismatch(what: &str, expected: &str, found: &Digest, promised_by: &'static str) -> FetchError {
    FetchError::Digest {
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_string(),
        promised_by,
    }
}

/// A provenance file names the archive and its digest: `  web-1.2.3.tgz: sha256:…`.
fn check_provenance(chart: &str, text: &str, found: &Digest) -> Result<(), FetchError> {
    let promised = text.lines().find_map(|line| {
        let (file, digest) = line.trim().split_once(".tgz: ")?;
        (file.trim_matches(['"', '\'']) == chart).then(|| digest.trim().trim_matches(['"', '\'']))
    });
    match promised {
        Some(digest) if digest != found.to_string() => {
            Err(mismatch(chart, digest, found, "its provenance file"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provenance_file_is_held_against_the_archive() {
        let digest = Digest::sha256(b"x");
        let text = format!("-----BEGIN PGP SIGNED MESSAGE-----\nfiles:\n  web-1.0.0.tgz: {digest}\n");
        assert!(check_provenance("web-1.0.0", &text, &digest).is_ok());
        assert!(check_provenance("web-1.0.0", &text, &Digest::sha256(b"y")).is_err());
        assert!(check_provenance("other-1.0.0", &text, &Digest::sha256(b"y")).is_ok());
    }
}

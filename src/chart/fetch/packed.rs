//! Charts as archives that need nothing else: to be carried where nothing can be fetched.

use std::path::Path;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{ChartSource, FetchError, Fetcher, MAX_LOCAL_DEPTH, open};
use crate::chart::pack::{pack, repack};
use crate::chart::{Chart, ChartError, load_archive};
use crate::event::Events;
use crate::oci::Digest;
use crate::template::semver_satisfies;

/// A chart with all that it depends on, as one archive.
#[derive(Debug, Clone)]
pub struct PackedChart {
    /// As loaded, with its dependencies.
    pub chart: Chart,
    /// The `.tgz`: the publisher's own bytes where these are complete, else packed anew, the same bytes each time.
    pub archive: Bytes,
    /// SHA-256 of the archive.
    pub digest: Digest,
}

impl Fetcher {
    /// Fetches a chart and its dependencies and packs them.
    ///
    /// # Errors
    /// As [`Fetcher::load`].
    pub async fn packed(
        &self,
        source: &ChartSource,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<PackedChart, ChartError> {
        let (chart, archive) = self.whole(source, 0, events, cancel).await?;
        let digest = Digest::sha256(&archive);
        Ok(PackedChart { chart, archive, digest })
    }

    async fn whole(
        &self,
        source: &ChartSource,
        depth: usize,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<(Chart, Bytes), ChartError> {
        if depth >= MAX_LOCAL_DEPTH {
            let reason = "charts refer to each other without an end".to_owned();
            return Err(FetchError::Reference { given: source.to_string(), reason }.into());
        }
        let (bare, packed, place) = match source {
            ChartSource::Path(path) if path.is_dir() => (open(path).await?, None, path.clone()),
            ChartSource::Path(path) => {
                let bytes = tokio::fs::read(path).await;
                let bytes = bytes.map_err(|source| ChartError::Io { path: path.clone(), source })?;
                (open(path).await?, Some(Bytes::from(bytes)), path.clone())
            }
            remote => {
                let archive = self.archive(remote, events, cancel).await?;
                let name = &archive.known.reference;
                (load_archive(name, &archive.bytes)?, Some(archive.bytes), name.into())
            }
        };
        let folder = Some(place.as_path()).filter(|_| packed.is_none());
        let mut further = Vec::new();
        let (mut chart, mut missing) = (bare.clone(), Vec::new());
        for dep in self.lacking(&bare) {
            match self.dependency_source(&bare, &dep, folder, events) {
                Ok(source) => {
                    let (found, bytes) = Box::pin(self.whole(&source, depth + 1, events, cancel)).await?;
                    let (name, version) = (&found.metadata.name, &found.metadata.version);
                    if *name != dep.name
                        || !(dep.version.is_empty() || semver_satisfies(&dep.version, version))
                    {
                        missing.push(format!("{} {} ({source} is {name} {version})", dep.name, dep.version));
                        continue;
                    }
                    let file = format!("{name}-{version}.tgz");
                    // The same chart under two aliases is carried once.
                    if further.iter().all(|(there, _)| *there != file) {
                        further.push((file, bytes.to_vec()));
                        chart.dependencies.push(found);
                    }
                }
                Err(error) => missing.push(format!("{} {} ({error})", dep.name, dep.version)),
            }
        }
        if !missing.is_empty() {
            return Err(ChartError::MissingDependencies { chart: chart.metadata.name, missing });
        }
        let bytes = match packed {
            Some(bytes) if further.is_empty() => bytes,
            Some(bytes) => blocking(&place, move |place| repack(place, &bytes, &bare, &further)).await?,
            None => blocking(&place, move |place| pack(place, &bare, &further)).await?,
        };
        Ok((chart, bytes))
    }
}

async fn blocking(
    place: &Path,
    work: impl FnOnce(&Path) -> Result<Vec<u8>, ChartError> + Send + 'static,
) -> Result<Bytes, ChartError> {
    let owned = place.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&owned)).await;
    let packed = done.unwrap_or_else(|e| {
        let source = std::io::Error::other(format!("packing broke off: {e}"));
        Err(ChartError::Io { path: place.to_owned(), source })
    })?;
    Ok(packed.into())
}

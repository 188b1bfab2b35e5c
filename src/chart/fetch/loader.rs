//! Charts for code that blocks.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{ChartSource, FetchOptions, Fetcher, PackedChart};
use crate::chart::metadata::Dependency;
use crate::chart::{Chart, ChartError, load};
use crate::event::Events;

/// Loads charts for code that blocks, such as [`crate::discover`]: not to be called from an asynchronous task.
#[derive(Clone)]
pub struct Loader {
    options: FetchOptions,
    /// Made for the first chart that needs it: setting up for a network takes longer than rendering most charts.
    fetcher: Arc<OnceLock<Fetcher>>,
    handle: Handle,
    events: Events,
    cancel: CancellationToken,
}

impl Loader {
    /// Must be called within a Tokio runtime, which then does the fetching.
    pub fn new(options: FetchOptions, events: Events, cancel: CancellationToken) -> Self {
        Self { options, fetcher: Arc::default(), handle: Handle::current(), events, cancel }
    }

    /// A chart with its dependencies.
    ///
    /// # Errors
    /// As [`Fetcher::new`] and [`Fetcher::load`].
    pub fn load(&self, place: &Path) -> Result<Chart, ChartError> {
        self.load_from(&ChartSource::parse(&place.to_string_lossy(), None, "")?)
    }

    /// [`Loader::load`] of what is known to stand for a chart.
    ///
    /// # Errors
    /// As there.
    pub fn load_from(&self, source: &ChartSource) -> Result<Chart, ChartError> {
        if let ChartSource::Path(path) = source {
            let chart = load(path)?;
            let there = |d: &Dependency| chart.dependencies.iter().any(|c| c.metadata.name == d.name);
            if chart.metadata.dependencies.iter().all(there) {
                return Ok(chart);
            }
        }
        let fetcher = self.fetcher()?;
        self.handle.block_on(fetcher.load(source, true, &self.events, &self.cancel))
    }

    /// A chart with its dependencies as one archive.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn packed(&self, source: &ChartSource) -> Result<PackedChart, ChartError> {
        let fetcher = self.fetcher()?;
        self.handle.block_on(fetcher.packed(source, &self.events, &self.cancel))
    }

    fn fetcher(&self) -> Result<Fetcher, ChartError> {
        if let Some(fetcher) = self.fetcher.get() {
            return Ok(fetcher.clone());
        }
        let made = Fetcher::new(self.options.clone())?;
        Ok(self.fetcher.get_or_init(|| made).clone())
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("cache", &self.options.cache).finish_non_exhaustive()
    }
}

//! How a command that needs images uses the cache.

use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::super::{CliError, Context, warn};
use super::{cache, cache_error};
use crate::bundle::{Bundle, Upstream};
use crate::cache::CachedUpstream;
use crate::registry::Registry;

/// Options of every command that reads images from registries; flatten it into its arguments.
#[derive(Debug, Clone, Args)]
pub struct CacheArgs {
    /// The image cache: read takes from it what is there, fill also puts into it what was not (--cache alone), off does
    /// without
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value_t = CacheMode::Read,
        default_missing_value = "fill",
        num_args = 0..=1,
        require_equals = true,
        env = "OMK_CACHE"
    )]
    cache: CacheMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CacheMode {
    /// Registries alone
    Off,
    /// What is in the cache is not fetched
    Read,
    /// And what was fetched is kept
    Fill,
}

/// Where a command gets its images from.
pub(in crate::cli) enum Images {
    /// Registries.
    Direct(Registry),
    /// The cache, and behind it registries unless offline.
    Cached { upstream: CachedUpstream, fill: bool },
}

impl CacheArgs {
    /// `offline`: no registry is asked. The registry knows whether what refers to images is wanted.
    ///
    /// # Errors
    /// Offline without a cache; the cache cannot be read.
    pub(in crate::cli) async fn images(&self, registry: Registry, offline: bool) -> Result<Images, CliError> {
        match (self.cache, offline) {
            (CacheMode::Off, false) => return Ok(Images::Direct(registry)),
            (CacheMode::Off, true) => {
                let message = "--offline takes images from the cache, and --cache=off does without it";
                return Err(CliError::usage(message));
            }
            _ => {}
        }
        let cache = match cache() {
            // Nowhere to look is no reason not to ask the registries.
            Err(_) if !offline && self.cache == CacheMode::Read => return Ok(Images::Direct(registry)),
            found => found?,
        };
        let with_referrers = registry.options().with_referrers;
        let plain = registry.options().plain_http.clone();
        let behind = (!offline).then(|| Arc::new(registry) as Arc<dyn Upstream>);
        let open = move || {
            let upstream = CachedUpstream::new(&cache, behind)?;
            Ok(upstream.with_referrers(with_referrers).with_plain_http(plain))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let upstream = opened.map_err(|e| CliError::failed(e.to_string()))?.map_err(cache_error)?;
        Ok(Images::Cached { upstream, fill: self.cache == CacheMode::Fill && !offline })
    }
}

impl Images {
    pub(in crate::cli) fn upstream(&self) -> &dyn Upstream {
        match self {
            Self::Direct(registry) => registry,
            Self::Cached { upstream, .. } => upstream,
        }
    }

    /// After a bundle was built: the cache gets what it lacks of it, and its statistics. What fails here is told and
    /// fails nothing, for the bundle is there.
    pub(in crate::cli) async fn built(
        &self,
        bundle: &Path,
        parallel: usize,
        context: &Context,
    ) -> Result<(), CliError> {
        let Self::Cached { upstream, fill } = self else { return Ok(()) };
        if let Err(error) = upstream.count() {
            warn(&format!("warning: {error}"));
        }
        if !fill {
            return Ok(());
        }
        let bundle = match Bundle::open(bundle).await {
            Ok(bundle) => Arc::new(bundle),
            Err(error) => {
                warn(&format!("warning: the cache was not filled: {error}"));
                return Ok(());
            }
        };
        match upstream.fill(bundle, parallel, &context.events, &context.cancel).await {
            Ok(failed) => failed.iter().for_each(|f| warn(&format!("warning: not put into the cache: {f}"))),
            Err(_) if context.cancel.is_cancelled() => return Err(CliError::cancelled()),
            Err(error) => warn(&format!("warning: the cache was not filled: {error}")),
        }
        Ok(())
    }
}

//! What `omk bundle build` and `omk bundle lock` make of a definition.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::bundle::definition::{Gathered, download, gather};
use crate::bundle::{Definition, Lock};
use crate::cli::sources::SourceArgs;
use crate::cli::{CliError, Context};
use crate::discover::{Confidence, Findings};
use crate::oci::{ImageRef, Platform};
use crate::registry::RegistryOptions;

/// Options for bundles that are built from a definition.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options for bundle definitions")]
pub(super) struct LockArgs {
    /// Build only what the lock says, and fail where the definition asks for anything else by now
    #[arg(long)]
    pub(super) locked: bool,
    /// The lock of the definition [default: bundle.lock beside bundle.yaml]
    #[arg(long, value_name = "FILE")]
    pub(super) lock_file: Option<PathBuf>,
}

impl LockArgs {
    /// Where the lock is.
    pub(super) fn path(&self, definition: &Definition) -> PathBuf {
        self.lock_file.clone().unwrap_or_else(|| definition.lock_path())
    }

    /// The lock, if there is one.
    ///
    /// # Errors
    /// When there is none and one is needed, or it is no lock.
    pub(super) fn read(&self, definition: &Definition) -> Result<Option<Lock>, CliError> {
        let path = self.path(definition);
        if path.exists() {
            return Ok(Some(Lock::read(&path)?));
        }
        if self.locked || self.lock_file.is_some() {
            let message = format!("there is no lock {}", path.display());
            let hint = format!("`omk bundle lock {}` writes it", definition.path.display());
            return Err(CliError::failed(message).with_hint(hint));
        }
        Ok(None)
    }
}

/// Fetches and reads all that a definition names.
///
/// # Errors
/// The first entry that cannot be had.
pub(super) async fn gathered(
    definition: &Definition,
    lock: Option<&Lock>,
    locking: bool,
    sources: &SourceArgs,
    registry: RegistryOptions,
    context: &Context,
) -> Result<Gathered, CliError> {
    let scope = sources.scope(context, registry)?;
    let scope = crate::discover::Scope {
        variables: scope.variables.into_iter().chain(definition.spec.variables.clone()).collect(),
        ..scope
    };
    let cache = file_cache()?;
    let (events, cancel) = (&context.events, &context.cancel);
    let fetched = download(definition, lock, locking, sources.offline(), &cache, events, cancel)
        .await
        .map_err(|e| if cancel.is_cancelled() { CliError::cancelled() } else { CliError::from(e) })?;
    let (definition, lock) = (definition.clone(), lock.filter(|_| !locking).cloned());
    let (catalogue, events) = (sources.catalogue()?, context.events.clone());
    let work = tokio::task::spawn_blocking(move || {
        gather(&definition, &fetched, lock.as_ref(), &catalogue, &scope, &events)
    });
    let gathered = work.await.map_err(|e| CliError::failed(format!("reading broke off: {e}")))?;
    gathered.map_err(|e| if cancel.is_cancelled() { CliError::cancelled() } else { CliError::from(e) })
}

/// Images without which a pod does not start, and those that may be none.
pub(super) fn by_need(found: &Findings) -> (BTreeSet<ImageRef>, BTreeSet<ImageRef>) {
    let (needed, likely): (Vec<_>, Vec<_>) =
        found.by_image().into_iter().partition(|n| n.confidence >= Confidence::Strong);
    (needed.iter().map(|n| n.image.clone()).collect(), likely.iter().map(|n| n.image.clone()).collect())
}

/// What is different from the lock, a line each.
pub(super) fn drift(
    lock: &Lock,
    platforms: &[Platform],
    found: &Findings,
    gathered: &Gathered,
) -> Vec<String> {
    let images = found.images().into_iter().collect();
    lock.drift(platforms, &images, &gathered.charts, &gathered.files)
}

/// Where files of definitions are kept once they are fetched.
fn file_cache() -> Result<PathBuf, CliError> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let charts = crate::chart::fetch::default_cache(env);
    let cache = charts.as_deref().and_then(Path::parent).map(|cache| cache.join("files"));
    cache.ok_or_else(|| {
        CliError::usage("there is nowhere to keep fetched files: set OMK_HOME or HOME to a folder")
    })
}

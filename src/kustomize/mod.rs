//! Kustomizations, built as `kubectl kustomize` builds them, as far as images can depend on it.
//!
//! What is done, and its order, follows Kustomize's own target (`api/internal/target`): resources, generators,
//! components, then transformers: strategic-merge patches, patches, namespace, prefix and suffix, labels, annotations,
//! JSON 6902 patches, images, replacements, and at the end of all `vars`.
//!
//! What cannot change which images run is left out: hashes behind the names of generated ConfigMaps, references to
//! renamed objects, selectors, replicas. Nothing is fetched and no plugin is run: a remote base, a chart that is not
//! there, or a plugin is a [`Gap`], and the rest is built.
//!
//! As with Kustomize's default load restrictions a file must lie in the folder of the kustomization that names it or
//! below; a folder may lie anywhere.

mod add;
mod error;
mod file;
mod generate;
mod helm;
mod images;
mod load;
mod merge;
mod metadata;
mod object;
mod patch;
mod replace;
mod target;
mod vars;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

pub use error::KustomizeError;
pub use load::FILES;
pub use object::Object;
pub(crate) use object::tree;

/// A kustomization's outcome.
#[derive(Debug, Default)]
pub struct Built {
    /// Every object, in the order in which Kustomize accumulates them.
    pub objects: Vec<Object>,
    /// What could not be reached, so that images may be missing.
    pub gaps: Vec<Gap>,
    /// The real paths of every file that was read and every kustomization's folder but the root's own: they are parts
    /// of this, not inputs of their own.
    pub used: BTreeSet<PathBuf>,
}

/// Something that is not at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The kustomization file that names it.
    pub file: PathBuf,
    /// What is missing, why, and the command that would bring it.
    pub reason: String,
}

/// Whether the folder holds a kustomization, and the file that says so.
pub fn kustomization_file(folder: &Path) -> Option<PathBuf> {
    FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Whether a kustomization file describes a component, which is a part of others and nothing by itself.
pub fn is_component(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let node = crate::yaml::parse_one(&text, &crate::yaml::Limits::default());
    node.is_ok_and(|n| n.get("kind").and_then(crate::yaml::Node::as_str) == Some("Component"))
}

/// What is done to objects that come from elsewhere: `postRenderers` of a Flux release, `kustomize` of an Argo CD
/// application, the fields of a Flux `Kustomization`.
#[derive(Debug, Default)]
pub(crate) struct Overlay<'a> {
    /// A kustomization without resources, as JSON; names no files.
    pub(crate) kustomization: Option<&'a crate::chart::Tree>,
    /// Folders of components, put on before.
    pub(crate) components: Vec<PathBuf>,
}

/// [`build`], or with objects of one's own instead of a folder, with an overlay on it.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_with(
    base: Result<&Path, Vec<Object>>,
    overlay: &Overlay<'_>,
    cancel: &CancellationToken,
) -> Result<Built, KustomizeError> {
    let mut loader = load::Loader::detached(cancel);
    let mut vars = Vec::new();
    let mut objects = Vec::new();
    match base {
        Ok(folder) => target::run(&mut loader, folder, target::Parent::default(), &mut objects, &mut vars)?,
        Err(own) => objects = own,
    }
    for component in &overlay.components {
        target::run(&mut loader, component, target::Parent::default(), &mut objects, &mut vars)?;
    }
    if let Some(kustomization) = overlay.kustomization {
        target::overlay(&mut loader, &kustomization.to_string(), &mut objects)?;
    }
    vars::substitute(&mut objects, &vars)?;
    objects.retain(|o| !o.is_local_config());
    Ok(Built { objects, gaps: loader.gaps, used: loader.used })
}

/// The objects in a text of manifests that came from `origin`.
///
/// # Errors
/// When a document is no YAML or no object.
pub(crate) fn objects(text: &str, origin: &Path) -> Result<Vec<Object>, KustomizeError> {
    load::objects(text, origin)
}

/// Builds the kustomization in `folder`.
///
/// # Errors
/// [`KustomizeError`] when a file is missing or malformed, or a patch fits nothing: what `kubectl kustomize` refuses too.
pub fn build(folder: &Path, cancel: &CancellationToken) -> Result<Built, KustomizeError> {
    let mut loader = load::Loader::new(folder, cancel)?;
    let mut objects = Vec::new();
    let mut vars = Vec::new();
    target::run(&mut loader, folder, target::Parent::default(), &mut objects, &mut vars)?;
    vars::substitute(&mut objects, &vars)?;
    // Documents that only configure tools never reach a cluster.
    objects.retain(|o| !o.is_local_config());
    Ok(Built { objects, gaps: loader.gaps, used: loader.used })
}

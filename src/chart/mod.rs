//! Helm charts: loading, values, dependencies, and rendering as `helm template` does.
//!
//! [`load`] reads a chart folder or archive, [`render()`] gives its documents. What is done and in which order follows
//! Helm 4 (`pkg/chart/v2`, `pkg/engine`, `pkg/action`): values of files and settings are merged, disabled dependencies
//! fall away, values coalesce from the parent down, every template of every chart is executed, documents are split and
//! sorted by kind.
//!
//! Nothing here talks to a cluster: `lookup` finds nothing and capabilities are those of Helm's own default.

mod capabilities;
mod decode;
mod dependencies;
mod error;
mod every;
pub mod fetch;
mod ignore;
mod load;
mod manifests;
mod metadata;
mod objects;
mod pack;
mod render;
mod schema;
mod stage;
mod strvals;
mod values;

pub use capabilities::KubeVersion;
pub use error::ChartError;
pub use every::{ChartValues, every_values};
pub use load::{MAX_CHART_BYTES, MAX_FILE_BYTES, load, load_archive};
pub use manifests::{Rendered, RenderedDoc};
pub use metadata::{Dependency, Metadata};
pub use render::{RenderOptions, is_release_name, release_name, render, render_with};
pub use stage::{Offer, Stage};
pub use values::{Setting, Tree, ValuesInput};

/// A file of a chart.
#[derive(Debug, Clone)]
pub struct ChartFile {
    /// Path below the chart's folder, with `/`.
    pub name: String,
    /// Content.
    pub data: std::sync::Arc<Vec<u8>>,
}

/// A loaded chart with the charts in its `charts/` folder.
#[derive(Debug, Clone)]
pub struct Chart {
    /// `Chart.yaml`.
    pub metadata: Metadata,
    /// `values.yaml`.
    pub values: Tree,
    /// `values.schema.json`, which the values have to meet.
    pub schema: Option<std::sync::Arc<Vec<u8>>>,
    /// `Chart.lock` or `requirements.lock`: the versions that were chosen for the dependencies.
    pub lock: Vec<Dependency>,
    /// What stands under `templates/`.
    pub templates: Vec<ChartFile>,
    /// Everything else, as `.Files` gives it, `crds/` included.
    pub files: Vec<ChartFile>,
    /// Charts under `charts/`, by folder or archive name.
    pub dependencies: Vec<Chart>,
}

//! The bundle that a command is about.

use std::path::PathBuf;

use clap::Args;

use super::bundle_error;
use crate::bundle::{Bundle, Opening};
use crate::cli::{CliError, Context};

/// What every command that reads a bundle is given.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The bundle: a tar file (also .tar.gz, .tar.zst), a folder, what `docker save` or skopeo wrote, or volumes: their
    /// folder, any one of them, or several paths
    #[arg(value_name = "BUNDLE", required = true)]
    bundle: Vec<PathBuf>,
    /// The repository of images that another tool named by a tag only, such as quay.io/acme/web
    #[arg(long, value_name = "REPOSITORY")]
    base_name: Option<String>,
}

impl BundleArgs {
    /// For a command that can do without a bundle.
    pub(in crate::cli) fn new(bundle: Vec<PathBuf>, base_name: Option<String>) -> Self {
        Self { bundle, base_name }
    }

    /// For messages.
    pub fn label(&self) -> String {
        let paths: Vec<String> = self.bundle.iter().map(|p| p.display().to_string()).collect();
        paths.join(" ")
    }

    /// How to open it.
    pub fn opening(&self, context: &Context) -> Opening {
        let opening = Opening::new(&self.bundle).told(&context.events, &context.cancel);
        match &self.base_name {
            Some(name) => opening.base_name(name),
            None => opening,
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// With the exit code of damage where it is damaged.
    pub async fn open(&self, context: &Context) -> Result<Bundle, CliError> {
        self.opening(context).open().await.map_err(|e| bundle_error(&e))
    }

    /// Opens it for something that needs the name of each image.
    ///
    /// # Errors
    /// Also when an image has none.
    pub async fn open_named(&self, context: &Context) -> Result<Bundle, CliError> {
        let bundle = self.open(context).await?;
        let unnamed: Vec<String> = bundle.unnamed().map(|i| i.label()).collect();
        match unnamed.as_slice() {
            [] => Ok(bundle),
            [first, rest @ ..] => {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                let text = format!("{}: nothing says what {first}{more} is called", self.label());
                let hint = "--base-name REPOSITORY gives the image its name, the tag stays";
                Err(CliError::failed(text).with_hint(hint))
            }
        }
    }
}

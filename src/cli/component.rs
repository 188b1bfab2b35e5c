//! `omk component`: what the catalogue holds.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, Outcome, OutputFormat, exit, output, say};
use crate::catalogue::{Catalogue, Component, Picked};

/// Subcommands of `omk component`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the components whose images omk knows, and their versions
    #[command(visible_alias = "ls")]
    List(ListArgs),
}

/// Components that a command takes images of; flatten it into its arguments.
#[derive(Debug, Clone, Default, Args)]
pub struct ComponentArgs {
    /// Take the images of a component: its newest version, the newest of a line (cilium@1.18) or one (cilium@1.18.12)
    #[arg(long = "component", value_name = "NAME[@VERSION]", value_delimiter = ',')]
    components: Vec<String>,
    /// Folder with more definitions of components
    #[arg(long, value_name = "DIR")]
    catalogue: Option<PathBuf>,
}

impl ComponentArgs {
    /// Whether none was asked for.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// Everything that is known.
    ///
    /// # Errors
    /// When a folder of definitions cannot be read.
    pub fn catalogue(&self) -> Result<Catalogue, CliError> {
        read(self.catalogue.as_ref())
    }

    /// What was asked for.
    ///
    /// # Errors
    /// If there is no such component or version.
    pub fn picked(&self) -> Result<Vec<Picked>, CliError> {
        if self.components.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.catalogue()?;
        let pick = |wanted: &String| all.pick(wanted).map_err(|e| CliError::usage(e.to_string()));
        self.components.iter().map(pick).collect()
    }
}

/// Arguments of `omk component list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  omk component list
  omk component list kubeadm
  omk component list -o json | jq -r '.[] | select(.name == \"cilium\").versions[0].images[]'
  omk image discover --component kubeadm@1.33,cilium@1.18 --component metallb")]
pub struct ListArgs {
    /// Show every version of this one
    name: Option<String>,
    /// Folder with more definitions of components
    #[arg(long, value_name = "DIR")]
    catalogue: Option<PathBuf>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

/// Versions that one line of the table shows.
const SHOWN: usize = 3;

fn read(folder: Option<&PathBuf>) -> Result<Catalogue, CliError> {
    let all = Catalogue::builtin()?;
    Ok(match folder {
        Some(folder) => all.with_folder(folder)?,
        None => all,
    })
}

pub(super) fn run(command: &Command) -> Outcome {
    let Command::List(args) = command;
    let all = read(args.catalogue.as_ref())?;
    if let Some(name) = &args.name {
        // Tells what may have been meant.
        all.pick(name)?;
    }
    let name = args.name.as_deref().map(|n| n.split('@').next().unwrap_or(n));
    let shown: Vec<&Component> = all.components().filter(|c| name.is_none_or(|n| c.name == n)).collect();
    match (args.output, name) {
        (OutputFormat::Json, _) => output::json(&shown)?,
        (OutputFormat::Table, None) => {
            let row = |c: &&Component| {
                let versions: Vec<&str> = c.versions.iter().take(SHOWN).map(|v| v.version.as_str()).collect();
                let more = c.versions.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" (+{more} more)") } else { String::new() };
                vec![c.name.clone(), versions.join(", ") + &more, c.about.clone()]
            };
            let rows: Vec<_> = shown.iter().map(row).collect();
            say(&output::table(&["NAME", "VERSIONS", "ABOUT"], &rows));
        }
        (OutputFormat::Table, Some(_)) => {
            let row = |v: &crate::catalogue::Version| vec![v.version.clone(), v.images.len().to_string()];
            let rows: Vec<_> = shown.iter().flat_map(|c| &c.versions).map(row).collect();
            say(&output::table(&["VERSION", "IMAGES"], &rows));
        }
    }
    Ok(exit::OK)
}

//! Completion scripts and manual pages, made from the clap definition so that they cannot say anything else.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, CliError, Outcome, exit, output};

/// Arguments of `omk completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk completions bash > /etc/bash_completion.d/omk\n  omk completions zsh > ~/.zfunc/_omk"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `omk generate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  omk generate .        # refreshes completions/ and man/ of the source tree"
)]
pub struct GenerateArgs {
    /// The folder that gets `completions/` and `man/`
    folder: PathBuf,
}

const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "omk.bash"), (Shell::Zsh, "_omk"), (Shell::Fish, "omk.fish")];

pub(super) fn completions(args: &CompletionsArgs) -> Outcome {
    output::bytes_out(&script(args.shell));
    Ok(exit::OK)
}

pub(super) fn generate(args: &GenerateArgs) -> Outcome {
    for (path, bytes) in files()? {
        let path = args.folder.join(path);
        let failed = |e: std::io::Error| CliError::failed(format!("cannot write {}: {e}", path.display()));
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        std::fs::write(&path, bytes).map_err(failed)?;
    }
    Ok(exit::OK)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "omk", &mut out);
    out
}

/// Every generated file: its path in the source tree and its bytes.
///
/// # Errors
/// When a page cannot be rendered.
pub fn files() -> Result<Vec<(PathBuf, Vec<u8>)>, CliError> {
    let mut all: Vec<(PathBuf, Vec<u8>)> =
        SHELLS.iter().map(|(shell, name)| (Path::new("completions").join(name), script(*shell))).collect();
    let mut root = Cli::command();
    root.build();
    pages(&root, "omk", &mut all)?;
    Ok(all)
}

fn pages(command: &clap::Command, name: &str, all: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<(), CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .date("")
        .render(&mut page)
        .map_err(|e| CliError::failed(format!("cannot make the page of {name}: {e}")))?;
    all.push((Path::new("man").join(format!("{name}.1")), page));
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
        pages(sub, &format!("{name}-{}", sub.get_name()), all)?;
    }
    Ok(())
}

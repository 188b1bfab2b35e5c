//! The command line: the only room that knows clap, prints, or ends the process. One file a command, each with its
//! `Args` and its `run`.

use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::event::Events;

mod ask;
pub mod bundle;
pub mod cache;
pub mod chart;
pub mod compare;
pub mod component;
pub mod demo;
pub mod error;
pub mod exit;
pub mod generate;
pub mod image;
pub mod login;
pub mod node;
pub mod nodes;
pub mod output;
pub mod preheat;
pub mod progress;
pub mod proof;
pub mod push;
pub mod registry;
pub mod sources;

pub use error::CliError;
pub use output::{OutputFormat, say, warn};

/// Air-gap bundles for Kubernetes images: find them, pack them, put them on the nodes.
#[derive(Debug, Parser)]
#[command(name = "omk", version, about, propagate_version = true, max_term_width = 110)]
#[command(after_help = exit::HELP, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// How progress is shown on standard error: bars on a terminal, plain lines elsewhere, JSON lines for programs
    #[arg(long, global = true, value_enum, default_value_t = progress::Mode::Auto, env = "OMK_PROGRESS")]
    progress: progress::Mode,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build, check and look into bundles
    #[command(subcommand)]
    Bundle(Lazy<bundle::Command>),
    /// Look after the images that were pulled
    #[command(subcommand)]
    Cache(Lazy<cache::Command>),
    /// Render Helm charts
    #[command(subcommand)]
    Chart(Lazy<chart::Command>),
    /// List the components whose images omk knows
    #[command(subcommand)]
    Component(Lazy<component::Command>),
    /// Find the images that an input needs, pull images, look into the cache of pulled ones
    #[command(subcommand)]
    Image(Lazy<image::Command>),
    /// Try a login at a registry and keep it
    Login(login::LoginArgs),
    /// Forget the login for a registry
    Logout(login::LogoutArgs),
    /// Show the nodes of an inventory, ask what they have
    #[command(subcommand)]
    Node(Lazy<node::Command>),
    /// Put a bundle's images onto nodes over SSH and prove that they are there
    Preheat(Box<preheat::PreheatArgs>),
    /// Show the whole way on this machine: discover, bundle, preheat, patch
    Demo(demo::DemoArgs),
    /// Print the completion script of a shell
    Completions(generate::CompletionsArgs),
    /// Write the manual pages and completion scripts into a folder
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// Subcommands that clap is told of only once they are asked for: all together have hundreds of options, which would take
/// longer than it takes to render a small chart.
#[derive(Debug)]
pub struct Lazy<T>(T);

/// What [`Command`] says of a command goes before what its arguments say of themselves.
fn about_stays(command: clap::Command, augment: fn(clap::Command) -> clap::Command) -> clap::Command {
    let (about, long) = (command.get_about().cloned(), command.get_long_about().cloned());
    let command = augment(command);
    let command = about.into_iter().fold(command, clap::Command::about);
    long.into_iter().fold(command, clap::Command::long_about)
}

impl<T: FromArgMatches> FromArgMatches for Lazy<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }
    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches_mut(matches)
    }
}

impl<T: Subcommand> Subcommand for Lazy<T> {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        command.defer(|command| about_stays(command, T::augment_subcommands))
    }
    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        command.defer(|command| about_stays(command, T::augment_subcommands_for_update))
    }
    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}

/// What every command is given.
#[derive(Clone)]
pub struct Context {
    /// Where progress goes.
    pub events: Events,
    /// Set by Ctrl-C: stop where the next run can go on.
    pub cancel: CancellationToken,
}

/// How a command ended when it is no error: one of [`exit`].
pub type Outcome = Result<u8, CliError>;

/// Runs the program to its end.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with status 0, everything else is a usage error.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if let Command::Chart(Lazy(chart::Command::Template(args))) = &cli.command
        && args.is_local()
    {
        return ExitCode::from(ended(chart::render_local(args)));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn(&format!("error: cannot start: {error}"));
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = runtime.block_on(run(cli));
    // A blocking read of standard input must not keep the process alive.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(cli: Cli) -> u8 {
    let cancel = CancellationToken::new();
    tokio::spawn(cancel_on_signal(cancel.clone()));
    let context = Context { events: progress::sink(cli.global.progress), cancel };
    let outcome = dispatch(cli.command, context).await;
    progress::settle();
    ended(outcome)
}

/// Says what went wrong; gives the exit code.
fn ended(outcome: Outcome) -> u8 {
    let code = outcome.unwrap_or_else(|error| {
        error.report();
        error.code()
    });
    match output::written() {
        Err(error) => {
            warn(&format!("error: standard output could not be written: {error}"));
            if code == exit::OK { exit::FAILED } else { code }
        }
        Ok(()) => code,
    }
}

async fn dispatch(command: Command, context: Context) -> Outcome {
    match command {
        Command::Bundle(Lazy(command)) => bundle::run(command, context).await,
        Command::Cache(Lazy(command)) => cache::run(command, context).await,
        Command::Chart(Lazy(command)) => chart::run(command, context).await,
        Command::Component(Lazy(command)) => component::run(&command),
        Command::Image(Lazy(command)) => image::run(command, context).await,
        Command::Login(args) => login::login(args, context).await,
        Command::Logout(args) => login::logout(args).await,
        Command::Node(Lazy(command)) => node::run(command, context).await,
        Command::Preheat(args) => preheat::run(*args, context).await,
        Command::Demo(args) => demo::run(args, context).await,
        Command::Completions(args) => generate::completions(&args),
        Command::Generate(args) => generate::generate(&args),
    }
}

/// The first Ctrl-C (or SIGTERM) asks every task to stop at a point from which the next run resumes; the second
/// ends the process at once.
async fn cancel_on_signal(cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for first in [true, false] {
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
        if first {
            warn("stopping; run the same command again to go on. Ctrl-C once more ends at once.");
            cancel.cancel();
        } else {
            std::process::exit(i32::from(exit::CANCELLED));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_options_of_a_command_are_at_odds() {
        super::Cli::command().debug_assert();
    }
}

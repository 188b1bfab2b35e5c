//! The `omk` program: parses arguments, runs the command, says how it ended.

use std::process::ExitCode;

fn main() -> ExitCode {
    omk::cli::main()
}

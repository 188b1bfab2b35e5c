//! The `omk` program: parses arguments, runs the command, says how it ended.

use std::process::ExitCode;

// Rendering charts is made of many small allocations; glibc's and musl's take a good part of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    omk::cli::main()
}

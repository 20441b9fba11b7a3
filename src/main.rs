//! Parses the command line, runs it, and turns the result into an exit code. All else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use shearwater::cli::{Cli, run};

/// Bursts, such as ten thousand dead subscribers tried at a start, leave nothing behind.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    run(Cli::parse())
}

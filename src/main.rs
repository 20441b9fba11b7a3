//! Parses the command line, runs it, and turns the result into an exit code. All else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use shearwater::cli::{Cli, run};

fn main() -> ExitCode {
    run(Cli::parse())
}

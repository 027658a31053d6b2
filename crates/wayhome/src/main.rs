//! The program's entry: parse, run, and end with a code that means something.

use std::process::ExitCode;

use clap::Parser;
use wayhome::{cli, report};

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report::failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

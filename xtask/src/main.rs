//! What developers run: `cargo xtask try | test | fuzz | bench | tidy | share`. One file for each
//! command.

mod bench;
mod fuzz;
mod openssh10;
mod packages;
mod say;
mod share;
mod test;
mod tidy;
mod trial;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

use crate::say::say;

/// What developers of Wayhome run.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts a gateway, a home and a laptop on this machine, to look at
    Try(trial::Args),
    /// Runs all tests, with what they need
    Test(test::Args),
    /// Says all kinds of things to what reads the words of strangers
    Fuzz(fuzz::Args),
    /// Measures the road in the lab, with a release build
    Bench(bench::Args),
    /// Writes manual pages and completions, as packages lay them out
    Share(share::Args),
    /// Checks the house rules that no compiler checks
    Tidy,
}

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Try(args) => trial::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Share(args) => share::run(&args),
        Task::Tidy => tidy::run(),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("error: {error}"));
        let mut cause = error.source();
        while let Some(error) = cause {
            say(format_args!("  because: {error}"));
            cause = error.source();
        }
        ExitCode::FAILURE
    })
}

/// The folder of the workspace.
fn workspace() -> PathBuf {
    // Cargo says where it found us; without it we were started by hand, in the workspace.
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    match xtask.as_deref().and_then(Path::parent) {
        Some(root) => root.to_path_buf(),
        None => PathBuf::from("."),
    }
}

/// The folder for what is built and fetched, as an absolute path.
fn target() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target)
}

/// The cargo that runs us, in the workspace.
fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut cargo = Command::new(program);
    cargo.current_dir(workspace());
    cargo
}

/// Runs a command to its end and passes on how it ended.
fn finish(command: &mut Command) -> Result<ExitCode> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|why| format!("could not start `{program}`: {why}"))?;
    // One that a signal ended has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

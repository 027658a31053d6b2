//! `cargo xtask try`: the program's own `wayhome try`, with the packages that it needs.

use std::process::ExitCode;

use crate::say::say;
use crate::{Result, cargo, finish, packages};

/// Passed on to `wayhome try`.
#[derive(clap::Args)]
pub struct Args {
    /// What `wayhome try` is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !packages::bring(packages::TRY)? {
        say(format_args!("Meanwhile, this is what can be seen without them:"));
    }
    let mut wayhome = cargo();
    wayhome.args(["run", "--quiet", "--release", "-p", "wayhome", "--", "try"]).args(&args.args);
    finish(&mut wayhome)
}

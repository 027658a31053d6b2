//! `cargo xtask share`: what belongs below `/usr/share` beside the program, as packages lay it out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::say::say;
use crate::{Result, cargo, target};

/// Where each shell looks for the completions of all users.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "bash-completion/completions/wayhome"),
    ("zsh", "zsh/site-functions/_wayhome"),
    ("fish", "fish/vendor_completions.d/wayhome.fish"),
    ("elvish", "elvish/lib/wayhome.elv"),
];

#[derive(clap::Args)]
pub struct Args {
    /// The folder to write into; without it `share` in the folder for what is built
    dir: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let share = args.dir.clone().unwrap_or_else(|| target().join("share"));
    let share = std::path::absolute(share)?;
    let man = share.join("man");
    wayhome(&["man".as_ref(), "--dir".as_ref(), &man])?;
    for (shell, file) in COMPLETIONS {
        let script = wayhome(&["completions".as_ref(), shell.as_ref()])?;
        let file = share.join(file);
        fs::create_dir_all(file.parent().unwrap_or(&share))?;
        fs::write(file, script)?;
    }
    say(format_args!("wrote `{}`", share.display()));
    Ok(ExitCode::SUCCESS)
}

/// Runs the program of this tree and gives what it prints.
fn wayhome(args: &[&Path]) -> Result<Vec<u8>> {
    let mut program = cargo();
    program.args(["run", "--quiet", "--package", "wayhome", "--", "--quiet"]).args(args);
    let output = program.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("`wayhome` did not print it".into());
    }
    Ok(output.stdout)
}

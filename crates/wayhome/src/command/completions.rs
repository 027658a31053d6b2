//! `wayhome completions`

use clap_complete::Shell;

use crate::error::Outcome;
use crate::{cli, report};

/// Print the completions for a shell
///
/// Made of the same definition as the help, for exactly this version. The script goes to standard
/// output; the examples show where each shell looks for it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome completions bash > ~/.local/share/bash-completion/completions/wayhome
  wayhome completions zsh > ~/.zfunc/_wayhome
  wayhome completions fish > ~/.config/fish/completions/wayhome.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::definition(), "wayhome", &mut script);
    report::data("the completions", String::from_utf8_lossy(&script))?;
    Ok(0)
}

//! The command line: which command was meant, and how it ends.

use std::ffi::OsString;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::error::Outcome;
use crate::logging::{self, Format, Loudness};
use crate::{command, manual, report};

/// What stands above the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// `ssh home-ubuntu`, from anywhere, and it always works.
///
/// A machine behind NAT dials out to a public gateway and keeps that road open; a laptop reaches it
/// through the gateway. `wayhome try` shows all of it on this machine alone.
#[derive(Debug, Parser)]
#[command(name = "wayhome", version, max_term_width = report::WIDEST)]
pub struct Cli {
    /// Say more: what ssh says, too; -vv: everything
    ///
    /// The log tells what happens to the road, and why. With -v it has what ssh says besides, and
    /// with -vv every event and every decision.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong
    ///
    /// The log has then what only a person can mend, and commands do not tell what they do.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    quiet: bool,
    /// Colours: auto, always, or never
    ///
    /// `auto`, which is taken without it, looks at each of the two streams: is it a terminal that
    /// has colours, and what say NO_COLOR, CLICOLOR and CLICOLOR_FORCE?
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "WHEN", value_enum)]
    #[arg(default_value_t = ColorChoice::Auto, hide_default_value = true, hide_possible_values = true)]
    color: ColorChoice,
    /// The log's form: human or json
    ///
    /// `human` is a sentence on a line, `json` an object with the same sentence and its facts as
    /// fields. Without it the log is for humans, and under systemd goes to the journal, with the
    /// facts as the journal's own fields.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FORMAT", value_enum)]
    #[arg(hide_possible_values = true)]
    log_format: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(command::agent::Args),
    Status(command::status::Args),
    Reload(command::reload::Args),
    Service(command::service::Args),
    SshConfig(Box<command::ssh_config::Args>),
    Gateway(command::gateway::Args),
    Connect(command::connect::Args),
    Forward(command::forward::Args),
    Open(command::open::Args),
    Keys(command::keys::Args),
    Gate(command::gate::Args),
    Import(Box<command::import::Args>),
    Uninstall(command::uninstall::Args),
    Try(command::try_road::Args),
    Completions(command::completions::Args),
    Man(command::man::Args),
}

/// The whole command line, with what every command's help ends with. Help, completions and manual
/// pages are all made of this.
pub fn definition() -> clap::Command {
    manual::exit::in_help(Cli::command())
}

/// Reads the command line. An error may be the help that was asked for.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    // What is wrong with the others is to be said in colours, or not, already.
    report::colour(colour_asked_for(&args));
    let cli = Cli::from_arg_matches(&definition().try_get_matches_from(args)?)?;
    report::colour(cli.color);
    Ok(cli)
}

/// Runs the command that the arguments name. Gives the exit code of one that ran.
pub fn run(cli: Cli) -> Outcome<u8> {
    if cli.quiet {
        report::be_quiet();
    }
    logging::start(Loudness::new(cli.verbose, cli.quiet), cli.log_format);
    match cli.command {
        Command::Agent(args) => command::agent::run(args),
        Command::Status(args) => command::status::run(&args),
        Command::Reload(args) => command::reload::run(&args),
        Command::Service(args) => command::service::run(args),
        Command::SshConfig(args) => command::ssh_config::run(*args),
        Command::Gateway(args) => command::gateway::run(&args),
        Command::Connect(args) => command::connect::run(&args),
        Command::Forward(args) => command::forward::run(&args),
        Command::Open(args) => command::open::run(&args),
        Command::Keys(args) => command::keys::run(&args),
        Command::Gate(args) => command::gate::print(&args),
        Command::Import(args) => command::import::run(*args),
        Command::Uninstall(args) => command::uninstall::run(&args),
        Command::Try(args) => command::try_road::run(&args),
        Command::Completions(args) => command::completions::run(&args),
        Command::Man(args) => command::man::run(&args),
    }
}

/// `--color`, before anything is known of the other arguments.
fn colour_asked_for(args: &[OsString]) -> ColorChoice {
    let mut asked = ColorChoice::Auto;
    let mut words = args.iter().map(|arg| arg.to_string_lossy()).take_while(|arg| arg != "--");
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('=').map(|value| value.to_owned().into()),
            None => continue,
        };
        let value = value.and_then(|value| ColorChoice::from_str(&value, false).ok());
        asked = value.unwrap_or(asked);
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn colours_are_known_before_the_rest_is_read() {
        for (line, asked) in [
            ("wayhome status", ColorChoice::Auto),
            ("wayhome --color always status --wrong", ColorChoice::Always),
            ("wayhome status --color=never", ColorChoice::Never),
            ("wayhome --color=always --color never", ColorChoice::Never),
            ("wayhome --color=pink", ColorChoice::Auto),
            ("wayhome --colors=never", ColorChoice::Auto),
            ("wayhome -- --color=never", ColorChoice::Auto),
            ("wayhome --color", ColorChoice::Auto),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(colour_asked_for(&args), asked, "{line}");
        }
    }
}

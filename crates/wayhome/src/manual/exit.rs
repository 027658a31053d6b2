//! What the exit codes mean, for each command.

use std::fmt::Write;

use clap::Command;

/// What the codes 0, 1 and 2 mean, for every command that says nothing else.
const USUALLY: Meaning =
    ["done", "tried, and failed", "not tried: the request or the configuration is wrong"];

/// Commands for which they mean more than that.
const COMMANDS: &[(&str, Meaning)] = &[
    (
        "agent run",
        [
            "ended because it was told to",
            "it could not begin",
            "not tried: the request or the configuration is wrong",
        ],
    ),
    ("agent kick", ["the agent tries now", "tried, and failed", "there is no agent that answers"]),
    (
        "agent check",
        ["each gateway let us in", "one did not", "the request or the configuration is wrong"],
    ),
    (
        "service status agent",
        ["it runs, and all roads are up", "it does not run, or not all is up", "it cannot be told"],
    ),
    (
        "reload",
        [
            "the file's content runs now",
            "tried, and failed",
            "it is wrong, and the one before runs on",
        ],
    ),
    (
        "import",
        [
            "printed, or taken over",
            "tried, and failed; after `--take-over` the old tunnel runs",
            "not tried: it is no tunnel, or cannot be imported as it is",
        ],
    ),
    (
        "connect",
        [
            "both directions ended as they should",
            "tried, and failed; or it was cut",
            "not tried: what is asked for, a pin or a key is missing or wrong",
        ],
    ),
    (
        "forward",
        [
            "ended because it was told to",
            "it cannot listen there",
            "not tried: what is asked for, a pin or a key is missing or wrong",
        ],
    ),
    (
        "open",
        [
            "ended because it was told to",
            "the service cannot be had, or it cannot listen there",
            "not tried: what is asked for, a pin or a key is missing or wrong",
        ],
    ),
    ("status", ["all is up", "something is not up", "it cannot be told"]),
];

type Meaning = [&'static str; 3];

/// What a command's codes mean, in their order.
pub fn of(path: &str) -> Meaning {
    COMMANDS.iter().find(|(name, _)| *name == path).map_or(USUALLY, |(_, meaning)| *meaning)
}

/// The definition, with the codes at the end of each command's long help.
pub fn in_help(definition: Command) -> Command {
    with_codes(definition, "")
}

fn with_codes(command: Command, path: &str) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let has_subcommands = !names.is_empty();
    let command = names.into_iter().fold(command, |command, name| {
        let below = format!("{path} {name}").trim_start().to_owned();
        command.mut_subcommand(name, |sub| with_codes(sub, &below))
    });
    if has_subcommands && !path.is_empty() {
        // It does nothing by itself.
        return command;
    }
    let before = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_long_help(format!("{before}{}", help(path)))
}

fn help(path: &str) -> String {
    let mut text = String::from("Exit status:");
    for (code, means) in of(path).iter().enumerate() {
        let _ = write!(text, "\n  {code}  {means}");
    }
    text
}

/// The table as `ARCHITECTURE.md` has it.
pub fn markdown() -> String {
    let mut text = String::from("| | 0 | 1 | 2 |\n|---|---|---|---|\n");
    let others = COMMANDS.iter().map(|(path, meaning)| (format!("`wayhome {path}`"), meaning));
    for (command, [done, failed, wrong]) in
        std::iter::once(("any command".to_owned(), &USUALLY)).chain(others)
    {
        let _ = writeln!(text, "| {command} | {done} | {failed} | {wrong} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, error, manual};

    #[test]
    fn the_table_names_commands_that_there_are() {
        let definition = cli::definition();
        let paths: Vec<String> =
            manual::commands(&definition).into_iter().map(|(path, _)| path).collect();
        for (path, _) in COMMANDS {
            assert!(paths.contains(&(*path).to_owned()), "{path}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_codes() {
        assert_eq!((error::FAILED, error::USAGE), (1, 2));
    }

    #[test]
    fn each_command_that_does_something_says_how_it_ends() {
        for (path, command) in manual::commands(&cli::definition()) {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let does_something = path.is_empty() || !command.has_subcommands();
            assert_eq!(help.contains("Exit status:\n  0  "), does_something, "{path}: {help}");
        }
    }
}

//! The manual: what help, the pages for man(1) and the tables of the README say, from one source.
//!
//! The command line's definition is the first part of it; what stands here is the rest: what the
//! exit codes mean, which keys `agent.toml` has, which files and variables play a part.

pub mod exit;
pub mod keys;
pub mod page;
mod surroundings;

use clap::Command;

/// The commands below this one, each with its path in words (`agent run`); the program's own is
/// empty. clap's `help` is not one of them.
pub fn commands(definition: &Command) -> Vec<(String, &Command)> {
    let mut found = vec![(String::new(), definition)];
    for sub in definition.get_subcommands().filter(|sub| sub.get_name() != "help") {
        for (path, command) in commands(sub) {
            found.push((format!("{} {path}", sub.get_name()).trim_end().to_owned(), command));
        }
    }
    found
}

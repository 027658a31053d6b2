//! What the documents say of the command line is what it does.

use std::fs;
use std::path::Path;

use wayhome::{cli, manual};

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let table = manual::exit::markdown();
    assert!(document("ARCHITECTURE.md").contains(&table), "the table is now:\n{table}");
}

#[test]
fn the_keys_are_those_of_the_program() {
    let table = manual::keys::markdown();
    assert!(document("README.md").contains(&table), "the table is now:\n{table}");
}

#[test]
fn each_command_is_in_the_readme() {
    let readme = document("README.md");
    for (path, command) in manual::commands(&cli::definition()) {
        if !command.has_subcommands() {
            assert!(readme.contains(&format!("wayhome {path}")), "`wayhome {path}`");
        }
    }
}

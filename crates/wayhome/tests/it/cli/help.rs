//! The help of every command, short and long. A new command without its snapshot fails here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use wayhome::{cli, manual};

use super::sandbox::{Sandbox, assert_narrow, assert_seen};

fn commands() -> Vec<String> {
    manual::commands(&cli::definition()).into_iter().map(|(path, _)| path).collect()
}

fn name(path: &str) -> String {
    format!("help {path}").trim_end().replace(' ', "_")
}

#[test]
fn each_command_explains_itself() {
    let sandbox = Sandbox::new();
    for path in commands() {
        let words: Vec<&str> = path.split_whitespace().collect();
        let mut seen = Vec::new();
        for flag in ["-h", "--help"] {
            let arguments = [&words[..], &[flag]].concat();
            let output = sandbox.wayhome(&arguments).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{path}");
            assert_narrow(&output);
            seen.push(sandbox.seen(&arguments));
        }
        assert_seen(&name(&path), &seen.join("\n"));
    }
}

#[test]
fn no_snapshot_is_of_a_command_that_is_gone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/snapshots");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: BTreeSet<String> = files
        .filter_map(|file| file.to_str().unwrap().strip_suffix(".snap").map(str::to_owned))
        .filter(|name| name.starts_with("help"))
        .collect();
    assert_eq!(kept, commands().iter().map(|path| name(path)).collect());
}

#[test]
fn the_version_is_told() {
    assert_seen("version", &Sandbox::new().seen(&["--version"]));
}

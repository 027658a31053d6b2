//! `cargo xtask tidy`: the house rules that no compiler and no linter checks. A rule reads one file's
//! path and text and returns what it finds.

mod places;
mod purity;
mod shape;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::say::say;
use crate::{Result, workspace};

/// Something to put right: where, and how.
#[derive(Debug, PartialEq)]
struct Finding {
    /// From 1; 0 if it is about the whole file.
    line: usize,
    remedy: String,
}

impl Finding {
    fn at(line: usize, remedy: impl Into<String>) -> Finding {
        Finding { line, remedy: remedy.into() }
    }

    fn whole(remedy: impl Into<String>) -> Finding {
        Finding::at(0, remedy)
    }
}

const RULES: &[fn(&str, &str) -> Vec<Finding>] = &[
    shape::module_says_what_it_is_for,
    shape::file_is_short,
    shape::nothing_is_left_for_later,
    purity::core_depends_on_nothing,
    purity::core_touches_nothing,
    places::addresses_are_examples,
    places::paths_are_nobodys,
];

pub fn run() -> Result<ExitCode> {
    let root = workspace();
    let mut count = 0;
    for path in files(&root)? {
        // A file that was removed and not yet staged is listed and not there.
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        for finding in RULES.iter().flat_map(|rule| rule(&path, &text)) {
            count += 1;
            match finding.line {
                0 => say(format_args!("{path}: {}", finding.remedy)),
                line => say(format_args!("{path}:{line}: {}", finding.remedy)),
            }
        }
    }
    if count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("tidy: {count} to put right"));
    Ok(ExitCode::FAILURE)
}

/// What git knows and what it would take in.
fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .args(["*.rs", "*.md", "*.toml"])
        .output()
        .map_err(|why| format!("could not start `git`: {why}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`git ls-files` failed: {}", said.trim()).into());
    }
    let paths = String::from_utf8(output.stdout)?;
    Ok(paths.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// The line, counted from 0, at which a file's own tests begin; the number of lines if it has none.
/// A module that is only declared has its tests in another file.
fn tests_begin(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .position(|pair| matches!(pair, ["#[cfg(test)]", next] if opens_module(next)))
        .unwrap_or(lines.len())
}

fn opens_module(line: &str) -> bool {
    let is_module = line.starts_with("mod ") || (line.starts_with("pub") && line.contains(" mod "));
    is_module && line.contains('{')
}

/// The lines that a rule about shipped code reads, numbered from 1, without their comments.
fn shipped_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().take(tests_begin(text)).enumerate().map(|(at, line)| {
        let code = line.split_once("//").map_or(line, |(code, _comment)| code);
        (at + 1, code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_begin_at_their_module() {
        assert_eq!(tests_begin("a\n#[cfg(test)]\nextern crate std;\nb\n"), 4);
        assert_eq!(tests_begin("a\n#[cfg(test)]\nmod tests {}\n"), 1);
        assert_eq!(tests_begin("a\n#[cfg(test)]\npub(crate) mod tests {\n"), 1);
        assert_eq!(tests_begin("a\n#[cfg(test)]\nmod tests;\nb\n"), 4);
        assert_eq!(tests_begin(""), 0);
    }

    #[test]
    fn comments_are_not_code() {
        let text = "//! std::fs\nlet a = 1; // std::net\n#[cfg(test)]\nmod tests {";
        assert_eq!(shipped_code(text).collect::<Vec<_>>(), [(1, ""), (2, "let a = 1; ")]);
    }
}

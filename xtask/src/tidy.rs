//! `cargo xtask tidy`: the house rules that no compiler and no linter checks. A rule reads one file's
//! path and text and returns what it finds.

mod places;
mod promises;
mod purity;
mod shape;

use std::collections::BTreeSet;
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
    let mut tell = |path: &str, finding: &Finding| {
        count += 1;
        match finding.line {
            0 => say(format_args!("{path}: {}", finding.remedy)),
            line => say(format_args!("{path}:{line}: {}", finding.remedy)),
        }
    };
    let mut functions = BTreeSet::new();
    for path in files(&root)? {
        // A file that was removed and not yet staged is listed and not there.
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        for finding in RULES.iter().flat_map(|rule| rule(&path, &text)) {
            tell(&path, &finding);
        }
        if path.ends_with(".rs") {
            functions.extend(promises::functions(&text).map(str::to_owned));
        }
    }
    let model = fs::read_to_string(root.join(promises::MODEL))?;
    for finding in promises::unheld(&model, &functions) {
        tell(promises::MODEL, &finding);
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

/// The lines that are shipped, numbered from 1: all but those of the file's own test modules. A module
/// that is only declared has its tests in another file.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut lines = text.lines().zip(1..).peekable();
    let mut in_tests = false;
    std::iter::from_fn(move || {
        loop {
            let (line, number) = lines.next()?;
            let next = lines.peek().map_or("", |(next, _)| next);
            if line == "#[cfg(test)]" && opens_module(next) {
                in_tests = true;
            } else if in_tests {
                // As rustfmt has it, nothing within stands at the margin but strings.
                in_tests = !(line == "}" || opens_module(line) && line.ends_with('}'));
            } else {
                return Some((number, line));
            }
        }
    })
}

fn opens_module(line: &str) -> bool {
    let is_module = line.starts_with("mod ") || (line.starts_with("pub") && line.contains(" mod "));
    is_module && line.contains('{')
}

/// The lines that a rule about shipped code reads, without their comments.
fn shipped_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    shipped(text).map(|(number, line)| (number, without_comment(line)))
}

/// The line up to a `//` that stands in no string. A string that began on another line is not seen.
fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if !in_string && rest.starts_with("//") {
            break;
        }
        // In a string an escaped quote does not end it, and out of one a quote may be a character.
        let skipped = if c == '\\' || (!in_string && rest.starts_with("'\"'")) { 2 } else { 1 };
        in_string ^= c == '"';
        rest = rest.char_indices().nth(skipped).and_then(|(at, _)| rest.get(at..)).unwrap_or("");
    }
    line.strip_suffix(rest).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<usize> {
        shipped(text).map(|(number, _)| number).collect()
    }

    #[test]
    fn test_modules_are_not_shipped_and_what_follows_is() {
        assert_eq!(numbers("a\n#[cfg(test)]\nextern crate std;\nb\n"), [1, 2, 3, 4]);
        assert_eq!(numbers("a\n#[cfg(test)]\nmod tests {}\nb\n"), [1, 4]);
        assert_eq!(numbers("a\n#[cfg(test)]\nmod tests {\n    mod b {\n    }\n}\nb\n"), [1, 7]);
        assert_eq!(numbers("a\n#[cfg(test)]\npub(crate) mod tests {\n"), [1]);
        assert_eq!(numbers("a\n#[cfg(test)]\nmod tests;\nb\n"), [1, 2, 3, 4]);
        assert_eq!(numbers(""), [0; 0]);
    }

    #[test]
    fn comments_are_not_code_and_strings_are_no_comments() {
        let text = "//! std::fs\nlet a = 1; // std::net\n#[cfg(test)]\nmod tests {";
        assert_eq!(shipped_code(text).collect::<Vec<_>>(), [(1, ""), (2, "let a = 1; ")]);
        for (line, code) in [
            (r#"f("ssh://a", std::env::args()); // b"#, r#"f("ssh://a", std::env::args()); "#),
            (r#"f('"', "//") // b"#, r#"f('"', "//") "#),
            (r#"f("\"//", '\"') // "b""#, r#"f("\"//", '\"') "#),
            ("é // é", "é "),
            ("fn f<'a>(a: &'a str) {} // b", "fn f<'a>(a: &'a str) {} "),
        ] {
            assert_eq!(without_comment(line), code);
        }
    }
}

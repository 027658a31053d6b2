//! Rules about the shape of a file: it says what it is for, it is short, and it is finished.

use super::{Finding, shipped};

/// Longer files hide a second thing that wants a module of its own.
const LONGEST: usize = 600;

/// Every module of ours begins with `//!`.
pub fn module_says_what_it_is_for(path: &str, text: &str) -> Vec<Finding> {
    let is_module = path.ends_with(".rs")
        && (path.starts_with("xtask/src/")
            || path.starts_with("fuzz/")
            || (path.starts_with("crates/") && path.split('/').nth(2) == Some("src")));
    if !is_module || text.starts_with("//!") {
        return Vec::new();
    }
    vec![Finding::at(1, "begin the module with `//!`: what it is for, what it leaves to others")]
}

/// No file is longer than 600 lines without its tests.
pub fn file_is_short(path: &str, text: &str) -> Vec<Finding> {
    let lines = shipped(text).count();
    if !path.ends_with(".rs") || lines <= LONGEST {
        return Vec::new();
    }
    let remedy = format!("has {lines} lines without its tests; split it ({LONGEST} at most)");
    vec![Finding::whole(remedy)]
}

/// Nothing is left for later, and no test is switched off.
pub fn nothing_is_left_for_later(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with(".rs") {
        return Vec::new();
    }
    // Spelled so that this file passes its own rule.
    let leftovers = [
        (concat!("TO", "DO"), "do it now, or write it down where the plan is"),
        (concat!("FIX", "ME"), "do it now, or write it down where the plan is"),
        (concat!("#[ig", "nore"), "let the test run, and let it say when it cannot"),
    ];
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (leftover, remedy) in leftovers {
            if line.contains(leftover) {
                found.push(Finding::at(at + 1, format!("`{leftover}`: {remedy}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_need_a_head() {
        let rule = module_says_what_it_is_for;
        for path in [
            "crates/core/src/name.rs",
            "crates/wayhome/src/link/ssh.rs",
            "xtask/src/a.rs",
            "fuzz/fuzz_targets/a.rs",
        ] {
            assert_eq!(rule(path, "//! What for.\n"), []);
            assert_eq!(rule(path, "use std::fs;\n//! Late.\n").len(), 1, "{path}");
            assert_eq!(rule(path, "").len(), 1, "{path}");
        }
        for path in ["crates/lab/tests/lab/main.rs", "README.md", "crates/core/Cargo.toml"] {
            assert_eq!(rule(path, ""), [], "{path}");
        }
    }

    #[test]
    fn long_files_are_found_and_their_tests_do_not_count() {
        let lines = |count: usize| "x\n".repeat(count);
        assert_eq!(file_is_short("a.rs", &lines(600)), []);
        assert_eq!(file_is_short("a.rs", &lines(601)).len(), 1);
        assert_eq!(file_is_short("a.md", &lines(601)), []);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600), lines(900));
        assert_eq!(file_is_short("a.rs", &tested), []);
        assert_eq!(file_is_short("a.rs", &(tested + "x\n")).len(), 1, "the last line is shipped");
    }

    #[test]
    fn leftovers_are_found() {
        let text = format!("a\n// {}: later\n{}]\n", concat!("TO", "DO"), concat!("#[ig", "nore"));
        let found = nothing_is_left_for_later("a.rs", &text);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(nothing_is_left_for_later("a.md", &text), []);
        assert_eq!(nothing_is_left_for_later("a.rs", "todo_list()\n"), []);
    }
}

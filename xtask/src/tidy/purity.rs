//! Rules that keep `core` to decisions: it depends on nothing and touches nothing.

use super::{Finding, shipped_code};

/// What core may depend on: data, and no input or output.
const ALLOWED: &[&str] = &["serde"];

/// Core's dependencies, of any kind but for its tests, are on the list.
pub fn core_depends_on_nothing(path: &str, text: &str) -> Vec<Finding> {
    if path != "crates/core/Cargo.toml" {
        return Vec::new();
    }
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(why) => return vec![Finding::whole(format!("is not TOML: {why}"))],
    };
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let tables = targets.into_iter().flatten().filter_map(|(_, table)| table.as_table());
    std::iter::once(&manifest)
        .chain(tables)
        .flat_map(|table| ["dependencies", "build-dependencies"].map(|kind| table.get(kind)))
        .filter_map(|dependencies| dependencies?.as_table())
        .flat_map(|dependencies| dependencies.iter())
        .filter(|(name, dependency)| {
            // Under another name it is still what it is.
            let package = dependency.get("package").and_then(|package| package.as_str());
            !ALLOWED.contains(&package.unwrap_or(name))
        })
        .map(|(name, _)| {
            Finding::whole(format!("depends on `{name}`; core decides, others do: move it there"))
        })
        .collect()
}

/// Core is `no_std` and names nothing of std, outside of its tests.
pub fn core_touches_nothing(path: &str, text: &str) -> Vec<Finding> {
    let is_code = path.starts_with("crates/core/src/") && path.ends_with(".rs");
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    if !is_code || is_test {
        return Vec::new();
    }
    let mut found = Vec::new();
    if path == "crates/core/src/lib.rs"
        && !shipped_code(text).any(|(_, c)| c.trim() == "#![no_std]")
    {
        found.push(Finding::whole("say `#![no_std]`, so that the compiler keeps core pure"));
    }
    let mut before = "";
    for (line, code) in shipped_code(text) {
        let brings_std = code.contains("extern crate std") && before.trim() != "#[cfg(test)]";
        if brings_std || names(code, "std::") || names(code, "tokio") {
            found.push(Finding::at(
                line,
                "core has no files, sockets, environment or clock: take what is needed as an \
                 argument, or use `core` and `alloc`",
            ));
        }
        before = code;
    }
    found
}

/// Whether a path begins with the word, rather than a word ending so.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "crates/core/Cargo.toml";

    #[test]
    fn core_may_use_the_list_and_tests_may_use_more() {
        let fine = "[dependencies]\nserde.workspace = true\n[dev-dependencies]\nproptest = \"1\"\n";
        assert_eq!(core_depends_on_nothing(MANIFEST, fine), []);
        assert_eq!(
            core_depends_on_nothing("crates/lab/Cargo.toml", "[dependencies]\na = \"1\""),
            []
        );
    }

    #[test]
    fn dependencies_are_found_wherever_they_stand() {
        for bad in [
            "[dependencies]\ntokio = \"1\"",
            "[dependencies.rustix]\nversion = \"1\"",
            "[build-dependencies]\ncc = \"1\"",
            "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"",
            "[dependencies]\nserde = { package = \"tokio\", version = \"1\" }",
            "[dependencies",
        ] {
            assert_eq!(core_depends_on_nothing(MANIFEST, bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn core_without_std_passes() {
        let text = "//! Not std::fs.\n#![no_std]\nextern crate alloc;\n#[cfg(test)]\n\
                    extern crate std;\nuse core::fmt; // std::fmt\nmy_std::x();\n\
                    #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(core_touches_nothing("crates/core/src/lib.rs", text), []);
        assert_eq!(core_touches_nothing("crates/lab/src/lib.rs", "use std::fs;"), []);
        assert_eq!(core_touches_nothing("crates/core/src/link/tests.rs", "use std::fs;"), []);
    }

    #[test]
    fn core_with_std_is_found() {
        let rule = |text| core_touches_nothing("crates/core/src/name.rs", text);
        assert_eq!(rule("use std::time::Instant;\n").len(), 1);
        assert_eq!(rule("let x = ::std::env::args();\n").len(), 1);
        assert_eq!(rule("extern crate std;\n").len(), 1);
        assert_eq!(rule("use tokio::net;\n").len(), 1);
        assert_eq!(rule("let x = (\"a//b\", std::env::args());\n").len(), 1, "after a string");
        assert_eq!(rule("#[cfg(test)]\nmod tests {\n}\nuse std::fs;\n").len(), 1, "after tests");
        assert_eq!(core_touches_nothing("crates/core/src/lib.rs", "pub mod name;\n").len(), 1);
    }
}

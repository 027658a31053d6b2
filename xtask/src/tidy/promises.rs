//! Each promise of the threat model names the test that holds it, and there is such a test.

use std::collections::BTreeSet;

use super::Finding;

/// Where the promises stand.
pub const MODEL: &str = "docs/threat-model.md";

/// The tests that the model names, each with its line.
fn named(model: &str) -> impl Iterator<Item = (usize, &str)> {
    let rows = model.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    rows.flat_map(|(number, row)| {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        last.split('`').skip(1).step_by(2).map(move |name| (number + 1, name))
    })
}

/// The functions that a Rust file has.
pub fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("fn ")?;
        rest.split(['(', '<']).next()
    })
}

/// What is promised and held by nothing.
pub fn unheld(model: &str, functions: &BTreeSet<String>) -> Vec<Finding> {
    let missing = named(model).filter(|(_, name)| !functions.contains(*name));
    missing
        .map(|(line, name)| Finding::at(line, format!("there is no test `{name}`: write it")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_promise_without_its_test() {
        let model =
            "| a | b | Held by |\n|---|---|---|\n| x `y` | z | `held`, `unheld` |\n`prose`\n";
        let functions = functions("    async fn held() {\nfn other<T>() {}\n").map(str::to_owned);
        let functions: BTreeSet<String> = functions.collect();
        let found = unheld(model, &functions);
        assert_eq!(found, [Finding::at(3, "there is no test `unheld`: write it")]);
        assert!(functions.contains("other"));
    }
}

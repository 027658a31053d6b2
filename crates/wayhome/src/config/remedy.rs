//! What to do about a configuration that does not have the form: the reader says what is wrong, in
//! words of its own, and this says how it is right.

/// Two words that are at least so much alike are one, misspelt.
const ALIKE: f64 = 0.7;

/// The remedy for what the reader of TOML said.
pub fn of(said: &str) -> String {
    let is = |beginning: &str| said.starts_with(beginning);
    if is("unknown field") || is("unknown variant") {
        // It names the unknown one first, and then those that there are.
        let mut quoted = said.split('`').skip(1).step_by(2);
        let unknown = quoted.next().unwrap_or_default();
        return choose(unknown, &quoted.collect::<Vec<_>>());
    }
    if let Some(missing) = said.strip_prefix("missing field ") {
        return format!("add {missing} to this table");
    }
    if is("invalid type") || is("invalid value") {
        return "texts stand in quotes, numbers and `true` do not: `target = \"localhost:22\"`, \
                `port = 2222`"
            .to_owned();
    }
    if is("duplicate") {
        return "leave one of the two out; what repeats is the table: `[[service]]`".to_owned();
    }
    "it is written in TOML: `[[service]]` on a line of its own, and below it lines such as \
     `port = 2222`"
        .to_owned()
}

/// The one that was meant, or all there are.
fn choose(unknown: &str, known: &[&str]) -> String {
    let likeness = |word: &&&str| strsim::jaro(unknown, word);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|word| likeness(word) > ALIKE) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are: `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_or_all_of_them() {
        let said = "unknown field `prot`, expected one of `name`, `target`, `port`, `proof`";
        assert_eq!(of(said), "did you mean `port`?");
        let said = "unknown field `colour`, expected one of `name`, `target`, `port`, `proof`";
        assert_eq!(of(said), "there are: `name`, `target`, `port`, `proof`");
        assert_eq!(of("unknown variant `holt`, expected `hold` or `tls`"), "did you mean `hold`?");
    }

    #[test]
    fn the_readers_own_words_are_understood() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only what is said of it counts")]
        struct Form {
            port: u16,
        }
        for (text, remedy) in [
            ("prot = 1", "did you mean `port`?"),
            ("", "add `port` to this table"),
            ("port = \"x\"", "texts stand in quotes"),
            ("port = 1\nport = 2", "leave one of the two out"),
            ("port", "it is written in TOML"),
        ] {
            let error = toml::from_str::<Form>(text).unwrap_err();
            let given = of(error.message());
            assert!(given.starts_with(remedy), "{}: {given}", error.message());
        }
    }
}

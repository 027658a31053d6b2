//! What is to lead where: `home-ubuntu:web 8080 attic:db`, as it is written on the command line.

use super::local::Local;
use crate::client::Goal;
use crate::error::{Failure, Outcome};

/// Reads homes' services, each with the place for it behind it, or without.
///
/// # Errors
/// If a word is neither, or a place stands without a service before it.
pub fn read(words: &[String]) -> Outcome<Vec<(Goal, Local)>> {
    let mut pairs: Vec<(Goal, Option<Local>)> = Vec::new();
    for word in words {
        match (word.parse::<Local>(), pairs.last_mut()) {
            (Ok(local), Some((_, place @ None))) => *place = Some(local),
            (Ok(_), _) => {
                return Err(Failure::usage(format!("nothing is said to lead to `{word}`"))
                    .hint("the home and its service come first: `home-ubuntu:web 8080`"));
            }
            (Err(_), _) => match word.parse::<Goal>() {
                Ok(goal) => pairs.push((goal, None)),
                Err(why) => {
                    let shown = word.escape_default();
                    return Err(Failure::usage(format!("`{shown}` is no service of a home"))
                        .because(&why)
                        .hint("`home-ubuntu:web 8080` brings a home's `web` to port 8080 here"));
                }
            },
        }
    }
    Ok(pairs.into_iter().map(|(goal, local)| (goal, local.unwrap_or(Local::Port(0)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Outcome<Vec<String>> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let pairs = read(&words)?;
        Ok(pairs.into_iter().map(|(goal, local)| format!("{goal} {local}")).collect())
    }

    #[test]
    fn each_service_takes_the_place_behind_it() {
        for (line, pairs) in [
            ("attic:web", &["attic:web 127.0.0.1:0"][..]),
            ("attic:web 8080", &["attic:web 127.0.0.1:8080"]),
            ("attic:web attic", &["attic:web 127.0.0.1:0", "attic:ssh 127.0.0.1:0"]),
            ("attic 22 van ./x", &["attic:ssh 127.0.0.1:22", "van:ssh ./x"]),
            ("attic:web localhost:8080", &["attic:web 127.0.0.1:8080"]),
        ] {
            assert_eq!(read_line(line).unwrap(), pairs, "{line}");
        }
    }

    #[test]
    fn what_is_neither_is_named() {
        for (line, part) in [
            ("8080", "nothing is said to lead to `8080`"),
            ("attic:web 8080 8081", "nothing is said to lead to `8081`"),
            ("Attic:web", "`Attic:web` is no service of a home"),
            ("attic:web:80", "is no service of a home"),
        ] {
            let said = read_line(line).unwrap_err().to_string();
            assert!(said.contains(part), "{line}: {said}");
        }
    }
}

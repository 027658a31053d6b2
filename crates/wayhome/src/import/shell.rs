//! Words as a POSIX shell splits them: enough of it to read `sh -c 'exec autossh …'`, and to print a
//! command that can be pasted.
//!
//! What a shell would do beyond quoting and plain variables (a pipe, a second command, a substitution) is
//! refused by name: half a shell would read some scripts as what they are not.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Why a script is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellError {
    /// A quote has no end.
    Unclosed(char),
    /// It does more than to run one command.
    Beyond(char),
    /// It uses a variable of which nothing is known here.
    Unset(String),
}

impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed(quote) => write!(f, "a quote `{quote}` has no end"),
            Self::Beyond(c) => write!(
                f,
                "it does more than to run one command (there is a `{}` in it)",
                c.escape_default()
            ),
            Self::Unset(name) => write!(f, "it uses the variable `{name}`, which is not set here"),
        }
    }
}

impl std::error::Error for ShellError {}

/// Splits a script that runs one command into its words. `variable` knows the environment.
pub fn split(
    script: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ShellError> {
    let mut words = Vec::new();
    let mut rest = script.trim().chars().peekable();
    loop {
        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match rest.peek() {
            None => return Ok(words),
            Some('#') => return Err(ShellError::Beyond('#')),
            Some(_) => words.extend(word(&mut rest, variable)?),
        }
    }
}

/// Writes a word so that any POSIX shell reads it as this one word.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes a command line.
pub fn line<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// One word; several or none where a bare variable holds blanks.
fn word(
    rest: &mut Peekable<Chars<'_>>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ShellError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    if rest.next_if_eq(&'~').is_some() {
        // Before a slash it is the home folder; before a name, another person's.
        if !matches!(rest.peek(), None | Some('/' | ' ' | '\t')) {
            return Err(ShellError::Beyond('~'));
        }
        word = Some(variable("HOME").ok_or_else(|| ShellError::Unset("HOME".to_owned()))?);
    }
    while let Some(c) = rest.next_if(|c| !matches!(c, ' ' | '\t')) {
        match c {
            '\'' => word.get_or_insert_default().push_str(&until(rest, '\'')?),
            '"' => double_quoted(rest, variable, word.get_or_insert_default())?,
            '\\' => match rest.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err(ShellError::Unclosed('\\')),
            },
            '$' => {
                let value = expanded(rest, variable)?;
                let mut parts = value.split([' ', '\t', '\n']).peekable();
                while let Some(part) = parts.next() {
                    if !part.is_empty() {
                        word.get_or_insert_default().push_str(part);
                    }
                    if parts.peek().is_some() {
                        words.extend(word.take());
                    }
                }
            }
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '`' | '\n' | '{' => {
                return Err(ShellError::Beyond(c));
            }
            // A pattern (`*`, `?`, `[`) that no file matches is itself: `-R *:8080:…` and `[::1]` are.
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(
    rest: &mut Peekable<Chars<'_>>,
    variable: &dyn Fn(&str) -> Option<String>,
    word: &mut String,
) -> Result<(), ShellError> {
    loop {
        match rest.next() {
            None => return Err(ShellError::Unclosed('"')),
            Some('"') => return Ok(()),
            Some('$') => word.push_str(&expanded(rest, variable)?),
            Some('`') => return Err(ShellError::Beyond('`')),
            Some('\\') => match rest.next() {
                Some('\n') => {}
                Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => return Err(ShellError::Unclosed('"')),
            },
            Some(c) => word.push(c),
        }
    }
}

fn until(rest: &mut Peekable<Chars<'_>>, end: char) -> Result<String, ShellError> {
    let mut text = String::new();
    loop {
        match rest.next() {
            Some(c) if c == end => return Ok(text),
            Some(c) => text.push(c),
            None => return Err(ShellError::Unclosed(end)),
        }
    }
}

/// What stands for `$NAME` or `${NAME}`, of which the `$` is read.
fn expanded(
    rest: &mut Peekable<Chars<'_>>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ShellError> {
    let name = if rest.next_if_eq(&'{').is_some() {
        until(rest, '}')?
    } else {
        let good = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        std::iter::from_fn(|| rest.next_if(good)).collect()
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ShellError::Beyond('$'));
    }
    variable(&name).ok_or(ShellError::Unset(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/fan".to_owned()),
            "OPTIONS" => Some(" -N  -T".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn splits_one_command() {
        for (script, words) in [
            ("exec ssh -N gw", &["exec", "ssh", "-N", "gw"][..]),
            (r#"ssh -o "A B" -i ~/.ssh/k"#, &["ssh", "-o", "A B", "-i", "/home/fan/.ssh/k"]),
            (r"a'b c'd\ e", &["ab cd e"]),
            ("x$OPTIONS y \"$OPTIONS\"", &["x", "-N", "-T", "y", " -N  -T"]),
            (r#"$EMPTY "$EMPTY" ${HOME}/k"#, &["", "/home/fan/k"]),
            (r#""a\$b\q""#, &[r"a$b\q"]),
            ("a~b", &["a~b"]),
            ("-R *:80:[::1]:80", &["-R", "*:80:[::1]:80"]),
        ] {
            assert_eq!(split(script, &known).unwrap(), words, "{script}");
        }
    }

    #[test]
    fn refuses_what_only_a_shell_can_do() {
        for (script, c) in [
            ("while true; do ssh gw; done", ';'),
            ("ssh gw && sleep 1", '&'),
            ("ssh gw | tee log", '|'),
            ("ssh gw > log", '>'),
            ("ssh `cat host`", '`'),
            ("ssh $(cat host)", '$'),
            ("ssh -i ~bob/key gw", '~'),
            ("ssh gw\nssh gw", '\n'),
            ("ssh ${X:-gw}", '$'),
            ("ssh gw # a remark", '#'),
        ] {
            assert_eq!(split(script, &known), Err(ShellError::Beyond(c)), "{script}");
        }
        assert_eq!(split("ssh $HOST", &known), Err(ShellError::Unset("HOST".into())));
        assert_eq!(split("ssh 'gw", &known), Err(ShellError::Unclosed('\'')));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(words in prop::collection::vec("[^\0]*", 0..5)) {
            prop_assert_eq!(split(&line(&words), &known).unwrap(), words);
        }

        #[test]
        fn no_script_is_too_strange(script in any::<String>()) {
            let _ = split(&script, &known);
        }
    }
}

//! Words as systemd splits them (systemd.syntax(7), "Quoting"), and back.
//!
//! Close to a shell's, and not the same: escapes are those of C, they count within single quotes
//! too, and nothing is ever expanded here. Specifiers and variables come after the splitting.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Why a text has no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordsError {
    /// A quote has no end.
    Unclosed(char),
    /// The last character is a backslash.
    TrailingBackslash,
    /// An escape names a character that cannot stand in an argument.
    NoCharacter,
}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed(quote) => write!(f, "a quote `{quote}` has no end"),
            Self::TrailingBackslash => f.write_str("it ends in a backslash"),
            Self::NoCharacter => f.write_str("an escape in it names no character"),
        }
    }
}

impl std::error::Error for WordsError {}

/// A word, and whether all of it stood there bare: only a bare `;` separates two commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Nothing of it was quoted or escaped.
    pub bare: bool,
}

/// Splits a value into its words.
pub fn split(text: &str) -> Result<Vec<Word>, WordsError> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| is_blank(*c)).is_some() {}
        if rest.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut rest)?);
    }
}

/// Writes a word so that [`split`] gives it back, as one.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@=+,~%$*[]{}".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn word(rest: &mut Peekable<Chars<'_>>) -> Result<Word, WordsError> {
    let mut word = Word { text: String::new(), bare: true };
    let mut inside: Option<char> = None;
    while let Some(c) = rest.next_if(|c| inside.is_some() || !is_blank(*c)) {
        match (c, inside) {
            ('\\', _) => {
                word.bare = false;
                escape(rest, &mut word.text)?;
            }
            (c, Some(quote)) if c == quote => inside = None,
            ('"' | '\'', None) => {
                word.bare = false;
                inside = Some(c);
            }
            (c, _) => word.text.push(c),
        }
    }
    inside.map_or(Ok(word), |quote| Err(WordsError::Unclosed(quote)))
}

fn escape(rest: &mut Peekable<Chars<'_>>, into: &mut String) -> Result<(), WordsError> {
    let Some(c) = rest.next() else { return Err(WordsError::TrailingBackslash) };
    let known = match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        's' => ' ',
        '\\' | '"' | '\'' => c,
        'x' => number(rest, 16, 2)?,
        'u' => number(rest, 16, 4)?,
        'U' => number(rest, 16, 8)?,
        '0'..='7' => {
            let first = c.to_digit(8).unwrap_or_default();
            let more: String =
                std::iter::from_fn(|| rest.next_if(|c| c.is_digit(8))).take(2).collect();
            let low = u32::from_str_radix(&more, 8).map_err(|_| WordsError::NoCharacter)?;
            character(first * 64 + low)?
        }
        // What is no escape stands for itself, backslash and all; systemd warns of it and goes on.
        c => {
            into.push('\\');
            c
        }
    };
    into.push(known);
    Ok(())
}

fn number(rest: &mut Peekable<Chars<'_>>, base: u32, digits: usize) -> Result<char, WordsError> {
    let text: String =
        std::iter::from_fn(|| rest.next_if(|c| c.is_digit(base))).take(digits).collect();
    if text.len() != digits {
        return Err(WordsError::NoCharacter);
    }
    character(u32::from_str_radix(&text, base).map_err(|_| WordsError::NoCharacter)?)
}

/// An argument of a program ends at a zero, so it cannot have one.
fn character(code: u32) -> Result<char, WordsError> {
    char::from_u32(code).filter(|c| *c != '\0').ok_or(WordsError::NoCharacter)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<String> {
        split(text).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn splits_as_systemd_does() {
        for (text, words) in [
            ("", &[][..]),
            ("  a\tb \n c ", &["a", "b", "c"]),
            (r#"-o "ServerAliveInterval=30""#, &["-o", "ServerAliveInterval=30"]),
            (r#"a"b c"d '' "#, &["ab cd", ""]),
            (r"'a\x20b' a\sb \\ \101", &["a b", "a b", r"\", "A"]),
            (r"a\qb", &[r"a\qb"]),
            (r#"sh -c "exec 'x y'""#, &["sh", "-c", "exec 'x y'"]),
            (r"ä\u00e4", &["ää"]),
        ] {
            assert_eq!(texts(text), words, "{text}");
        }
        assert_eq!(split("a 'b"), Err(WordsError::Unclosed('\'')));
        assert_eq!(split(r"a \"), Err(WordsError::TrailingBackslash));
        assert_eq!(split(r"\x0g"), Err(WordsError::NoCharacter));
        assert_eq!(split(r"\000"), Err(WordsError::NoCharacter));
    }

    #[test]
    fn only_a_bare_semicolon_is_one() {
        let words = split(r"a ; \; ';'").unwrap();
        let bare: Vec<bool> = words.iter().map(|word| word.bare).collect();
        assert_eq!(bare, [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(words in prop::collection::vec("[^\0]*", 0..5)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(texts(&line), words);
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let _ = split(&text);
        }
    }
}

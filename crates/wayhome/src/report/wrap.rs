//! Breaking a sentence into lines. What stands in backticks is a name or a command, to be copied:
//! it stays in one piece.

/// Breaks `text` into lines of at most `width` columns, the first of which begins at column
/// `first` and the others, with blanks before them, at `rest`. Without a width nothing is broken.
pub fn wrapped(text: &str, first: usize, rest: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let margin = " ".repeat(rest);
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let mut column = if number == 0 { first } else { rest };
        if number > 0 {
            out.push('\n');
            out.push_str(&margin);
        }
        if column + columns(line) <= width {
            out.push_str(line);
            continue;
        }
        for (at, piece) in pieces(line).into_iter().enumerate() {
            let length = columns(&piece);
            if at > 0 && column + 1 + length > width {
                out.push('\n');
                out.push_str(&margin);
                column = rest;
            } else if at > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(&piece);
            column += length;
        }
    }
    out
}

/// Breaks each line of a text that is laid out already, and keeps where it begins.
pub fn lines_wrapped(text: &str, width: Option<usize>) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words = line.trim_start();
        let margin = line.len() - words.len();
        out.push_str(&" ".repeat(margin));
        out.push_str(&wrapped(words, margin, margin + 2, width));
        out.push('\n');
    }
    out
}

/// How many columns a text takes: its characters, without what colours them.
fn columns(text: &str) -> usize {
    let pieces = text.split("\u{1b}[").enumerate();
    let shown = pieces.map(|(number, piece)| match piece.split_once('m') {
        Some((_, shown)) if number > 0 => shown.chars().count(),
        _ => piece.chars().count(),
    });
    shown.sum()
}

/// The words of a line; one in backticks may have blanks.
fn pieces(line: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut open = false;
    for word in line.split_whitespace() {
        match pieces.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
        open ^= word.matches('`').count() % 2 == 1;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_filled_and_their_margin_kept() {
        assert_eq!(wrapped("one two three four", 7, 2, Some(16)), "one two\n  three four");
        assert_eq!(wrapped("one two three four", 7, 2, None), "one two three four");
        assert_eq!(wrapped("one\ntwo", 4, 4, Some(80)), "one\n    two");
    }

    #[test]
    fn a_command_stays_in_one_piece() {
        let text = "start one: `wayhome agent run`; or not";
        assert_eq!(wrapped(text, 0, 2, Some(20)), "start one:\n  `wayhome agent run`;\n  or not");
        // One backtick alone ties the rest of its line together, and no more than that.
        assert_eq!(wrapped("a `b c d\ne f", 0, 0, Some(4)), "a\n`b c d\ne f");
    }

    #[test]
    fn colours_take_no_room_and_a_line_that_fits_stays_as_it_is() {
        let text = "a  \u{1b}[31mred\u{1b}[0m  word";
        assert_eq!(wrapped(text, 0, 2, Some(12)), text);
        assert_eq!(wrapped(text, 0, 2, Some(9)), "a \u{1b}[31mred\u{1b}[0m\n  word");
    }

    #[test]
    fn what_is_laid_out_keeps_its_margins() {
        let text = "error: it is wrong\n\n  tip: do it right\n";
        assert_eq!(
            lines_wrapped(text, Some(12)),
            "error: it is\n  wrong\n\n  tip: do it\n    right\n"
        );
        assert_eq!(lines_wrapped(text, None), text);
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_none_stands_beyond_the_edge(
            words in prop::collection::vec("[a-zà-ÿ]{1,12}", 0..30), width in 20_usize..90,
        ) {
            let text = words.join(" ");
            let lines = wrapped(&text, 7, 3, Some(width));
            prop_assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), words);
            for (number, line) in lines.lines().enumerate() {
                let before = if number == 0 { 7 } else { 0 };
                prop_assert!(before + line.chars().count() <= width, "{}", lines);
            }
        }
    }
}

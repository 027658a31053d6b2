//! One line of ssh's: who says it, and the words; and patterns of lines.

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The function of ssh's that says it, where that is known.
    pub function: Option<&'a str>,
    pub text: &'a str,
    /// It was brought by `LogVerbose` alone.
    pub is_debug: bool,
    marked: bool,
}

const GREETING: &str = "kex_exchange_identification";

impl<'a> Line<'a> {
    /// Takes a line apart. `LogVerbose` writes `debug1: kex.c:FUNCTION():1347 (pid=7): words` where
    /// there would be `FUNCTION: words`, or the words alone, or nothing.
    pub fn parse(line: &'a str) -> Self {
        let untagged = ["debug1: ", "debug2: ", "debug3: "];
        let rest = untagged.iter().find_map(|level| line.strip_prefix(level));
        let (is_debug, rest) = (rest.is_some(), rest.unwrap_or(line));
        if let Some((function, text)) = tagged(rest) {
            return Self { function: Some(function), text, is_debug, marked: true };
        }
        let of_greeting = rest.strip_prefix(GREETING).and_then(|rest| rest.strip_prefix(": "));
        match of_greeting {
            Some(text) => Self { function: Some(GREETING), text, is_debug, marked: false },
            None => Self { function: None, text: rest, is_debug, marked: false },
        }
    }

    /// What sshd sent for the debug log, if this is it.
    pub fn remark(&self) -> Option<&'a str> {
        let says = self.function == Some("ssh_packet_read_poll_seqnr");
        says.then(|| self.text.strip_prefix("Remote: ")).flatten()
    }

    /// Whether `LogVerbose` wrote who says it.
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether it is about the exchange of greetings.
    pub fn is_of_greeting(&self) -> bool {
        self.function == Some(GREETING)
    }
}

/// The function and the words of `kex.c:FUNCTION():1347 (pid=7): words`.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let (place, rest) = line.split_once("():")?;
    let (file, function) = place.split_once(':')?;
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !(file.ends_with(".c") && is_name(function)) {
        return None;
    }
    let (_number_and_process, text) = rest.split_once("):")?;
    Some((function, text.trim()))
}

/// Whether a line is as a pattern says. The two are compared word by word; within a word `*` stands
/// for one character or more, and a last word `**` for all that follows.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut wanted = pattern.split(' ');
    loop {
        match (wanted.next(), words.next()) {
            (None, None) => return true,
            (Some("**"), _) => return true,
            (Some(pattern), Some(word)) if fits(word, pattern) => {}
            _ => return false,
        }
    }
}

/// One word against one pattern.
fn fits(word: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => word == pattern,
        Some((before, after)) => word.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().skip(1).map(|(at, _)| at).chain([rest.len()]);
            let mut tails = ends.filter(|at| *at > 0).filter_map(|at| rest.get(at..));
            tails.any(|tail| fits(tail, after))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_both_forms_apart() {
        for line in [
            "debug1: kex.c:kex_exchange_identification():1430 (pid=7): banner line 0: Go away",
            "debug1: kex.c:kex_exchange_identification():1 (bin=/a b/ssh, pid=7): banner line 0: Go away",
            "kex_exchange_identification: banner line 0: Go away",
        ] {
            let parsed = Line::parse(line);
            assert!(parsed.is_of_greeting() && parsed.text == "banner line 0: Go away", "{line}");
            assert_eq!(parsed.is_debug, line.starts_with("debug1"));
        }
        let plain = Line::parse("ssh: connect to host gw port 22: Connection refused");
        assert_eq!((plain.function, plain.is_marked()), (None, false));
        let end = Line::parse(
            "debug1: packet.c:ssh_packet_read_poll_seqnr():1 (pid=7): Remote: /a:1: key options:",
        );
        assert_eq!(end.remark(), Some("/a:1: key options:"));
    }

    #[test]
    fn compares_word_by_word() {
        for (text, pattern, alike) in [
            ("Connection closed by 192.0.2.1 port 22", "Connection closed by * port *", true),
            ("Connection closed by 192.0.2.1", "Connection closed by * port *", false),
            ("Connection closed by  port 22", "Connection closed by * port *", false),
            ("a b c", "a **", true),
            ("a", "a **", true),
            ("/etc/ssh/ssh_config: line 3: x", "*/*: line *: x", true),
            ("command-line: line 3: x", "*/*: line *: x", false),
            ("@    WARNING:   no", "@ WARNING: no", true),
            ("gw::", "*:", true),
            (":", "*:", false),
            ("é:", "*:", true),
        ] {
            assert_eq!(is_like(text, pattern), alike, "`{text}` and `{pattern}`");
        }
    }
}

//! The grammar of ssh's own command line, and of autossh's, which adds two options to it. What each
//! option means is left to `tunnel`.

use std::fmt;

/// Options of ssh(1) that take no value (its `getopt` string, from 9.2 to 10.0).
const FLAGS: &str = "1246afgknqstvxyACGKMNTVXY";

/// Those that take one, in the same word or in the next.
const VALUED: &str = "bceilmopwBDEFIJLOQRSW";

/// Who reads the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ssh`
    Ssh,
    /// `autossh`: `-M` takes a port, and `-f` is its own.
    Autossh,
}

/// A command line, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshArgs {
    /// The options in their order, with their values.
    pub options: Vec<(char, Option<String>)>,
    /// The destination.
    pub destination: Option<String>,
    /// What is to be run there.
    pub command: Vec<String>,
}

/// Why a command line is not ssh's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshArgsError {
    /// There is no such option.
    Unknown(char),
    /// An option has no value.
    NoValue(char),
    /// An option that means one thing to some versions of ssh, and another to others.
    Ambiguous(char),
}

impl fmt::Display for SshArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(c) => write!(f, "ssh has no option `-{}`", c.escape_default()),
            Self::NoValue(c) => write!(f, "`-{c}` has no value after it"),
            Self::Ambiguous(c) => {
                write!(
                    f,
                    "`-{c}` means one thing before OpenSSH 9.4 and another since; leave it out"
                )
            }
        }
    }
}

impl std::error::Error for SshArgsError {}

impl SshArgs {
    /// Reads the words after the program's name.
    ///
    /// Options may come after the destination too, up to the first word of the command, as ssh has
    /// it; after `--` there are none.
    pub fn parse(words: &[String], program: Program) -> Result<Self, SshArgsError> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        let mut ended = false;
        while let Some(word) = words.next() {
            if word == "--" && !ended {
                ended = true;
                continue;
            }
            match word.strip_prefix('-').filter(|rest| !ended && !rest.is_empty()) {
                Some(group) => parsed.group(group, program, &mut words)?,
                None if parsed.destination.is_none() => parsed.destination = Some(word.clone()),
                None => {
                    parsed.command.push(word.clone());
                    parsed.command.extend(words.by_ref().cloned());
                }
            }
        }
        Ok(parsed)
    }

    /// Reads `NTR` of `-NTR 2222:localhost:22`: flags, and last perhaps one with a value.
    fn group<'a>(
        &mut self,
        group: &str,
        program: Program,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), SshArgsError> {
        let mut rest = group.chars();
        while let Some(c) = rest.next() {
            let takes_value = VALUED.contains(c) || (program == Program::Autossh && c == 'M');
            if takes_value {
                let attached = rest.as_str();
                let value = match attached {
                    "" => words.next().cloned().ok_or(SshArgsError::NoValue(c))?,
                    attached => attached.to_owned(),
                };
                self.options.push((c, Some(value)));
                return Ok(());
            }
            match c {
                'P' => return Err(SshArgsError::Ambiguous(c)),
                c if FLAGS.contains(c) => self.options.push((c, None)),
                c => return Err(SshArgsError::Unknown(c)),
            }
        }
        Ok(())
    }
}

/// Reads an option's value as a line of ssh's configuration: `Key=Value`, `Key Value`,
/// `Key = "Value"`. The key is in lower case.
pub fn key_and_value(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let end = text.find([' ', '\t', '='])?;
    let (key, rest) = text.split_at_checked(end)?;
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = quoted.filter(|value| !value.contains('"')).unwrap_or(value);
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric());
    let is_value = !value.is_empty() && !value.contains(['\n', '\r', '\0']);
    (is_key && is_value).then(|| (key.to_ascii_lowercase(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str, program: Program) -> Result<SshArgs, SshArgsError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        SshArgs::parse(&words, program)
    }

    fn shown(line: &str) -> String {
        let parsed = parse(line, Program::Ssh).unwrap();
        let options = parsed.options.iter().map(|(c, value)| match value {
            Some(value) => format!("{c}={value}"),
            None => c.to_string(),
        });
        let options = options.collect::<Vec<_>>().join(" ");
        let destination = parsed.destination.unwrap_or_default();
        format!("{options} | {destination} | {}", parsed.command.join(" "))
    }

    #[test]
    fn reads_what_ssh_reads() {
        for (line, expected) in [
            ("gw", " | gw | "),
            ("-NTR 2222:localhost:22 gw", "N T R=2222:localhost:22 | gw | "),
            ("-R2222:localhost:22 -p2200 gw", "R=2222:localhost:22 p=2200 | gw | "),
            ("-fNTi key gw", "f N T i=key | gw | "),
            ("gw -N -R 1:a:2", "N R=1:a:2 | gw | "),
            ("-N gw sleep -p 9", "N | gw | sleep -p 9"),
            ("-N -- gw -p 22", "N | gw | -p 22"),
            ("-o A=b -oC=d -i a -i b gw", "o=A=b o=C=d i=a i=b | gw | "),
            ("-46 -J a,b -F x gw", "4 6 J=a,b F=x | gw | "),
            ("-l root -- -gw", "l=root | -gw | "),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn autossh_has_a_port_for_its_monitor() {
        let parsed = parse("-M 0 -fN gw", Program::Autossh).unwrap();
        let options = [('M', Some("0".to_owned())), ('f', None), ('N', None)];
        assert_eq!(parsed.options, options);
        assert_eq!(
            parse("-M20000 gw", Program::Autossh).unwrap().options[0].1.as_deref(),
            Some("20000")
        );
        assert_eq!(parse("-M gw", Program::Ssh).unwrap().destination.as_deref(), Some("gw"));
    }

    #[test]
    fn refuses_what_ssh_refuses() {
        assert_eq!(parse("-Z gw", Program::Ssh), Err(SshArgsError::Unknown('Z')));
        assert_eq!(parse("-N -p", Program::Ssh), Err(SshArgsError::NoValue('p')));
        assert_eq!(parse("-P gw", Program::Ssh), Err(SshArgsError::Ambiguous('P')));
    }

    #[test]
    fn every_option_is_a_flag_or_has_a_value() {
        assert!(!FLAGS.chars().any(|c| VALUED.contains(c)));
        // The getopt string of OpenSSH 9.2's ssh.c.
        let theirs = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:PQ:R:S:TVw:W:XYy";
        for (at, c) in theirs.char_indices().filter(|(_, c)| !matches!(c, ':' | 'P')) {
            let valued = theirs.as_bytes().get(at + 1) == Some(&b':');
            assert_eq!((FLAGS.contains(c), VALUED.contains(c)), (!valued, valued), "-{c}");
        }
    }

    #[test]
    fn reads_lines_of_configuration() {
        for (text, key, value) in [
            ("ServerAliveInterval=30", "serveraliveinterval", "30"),
            ("Port 2200", "port", "2200"),
            ("RemoteForward = \"2222 localhost:22\"", "remoteforward", "2222 localhost:22"),
            ("ProxyCommand=ssh -W %h:%p b=c", "proxycommand", "ssh -W %h:%p b=c"),
            ("SetEnv \"A=b\" \"C=d\"", "setenv", "\"A=b\" \"C=d\""),
        ] {
            assert_eq!(key_and_value(text), Some((key.into(), value.into())), "{text}");
        }
        for text in ["", "Port", "Port=", "=22", "a-b c", "Port 22\nUser x"] {
            assert_eq!(key_and_value(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_command_line_is_too_strange(words in prop::collection::vec(any::<String>(), 0..8)) {
            let _ = SshArgs::parse(&words, Program::Autossh);
            let _ = words.iter().map(|word| key_and_value(word)).collect::<Vec<_>>();
        }

        /// Each word ends up somewhere: nothing is lost on the way.
        #[test]
        fn options_come_back(
            flags in "[NTfgqv]{0,4}",
            values in prop::collection::vec(("[ipolR]", "[a-z0-9:.=]{1,12}", any::<bool>()), 0..6),
        ) {
            let mut words: Vec<String> = Vec::new();
            if !flags.is_empty() {
                words.push(format!("-{flags}"));
            }
            let mut wanted: Vec<(char, Option<String>)> = flags.chars().map(|c| (c, None)).collect();
            for (option, value, attached) in values {
                if attached {
                    words.push(format!("-{option}{value}"));
                } else {
                    words.extend([format!("-{option}"), value.clone()]);
                }
                wanted.push((option.chars().next().unwrap(), Some(value)));
            }
            words.push("gw".into());
            let parsed = SshArgs::parse(&words, Program::Ssh).unwrap();
            prop_assert_eq!(parsed.options, wanted);
            prop_assert_eq!(parsed.destination.as_deref(), Some("gw"));
        }
    }
}

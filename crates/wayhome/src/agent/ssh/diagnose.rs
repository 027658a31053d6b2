//! What ssh said, as a cause.
//!
//! ssh speaks to people: its causes are words. The words stand in one table (`table`), as OpenSSH
//! writes them and not as a part of them might also be meant, and three rules keep a word that some
//! version writes otherwise from turning one cause into another:
//!
//! - a row is a whole line, and what is not a row is not guessed at: it becomes `SshFailed`, or
//!   `ConnectionLost` after the login, with ssh's words;
//! - what only says *that* it ended ("Connection closed by …") counts together with how far the
//!   login had come, which other lines tell;
//! - it does not count beside a line that is not understood, since that may have been the reason.
//!
//! How far a login has come, and what sshd says of it, ssh writes at its debug levels only. Its
//! option `LogVerbose` (8.5 and later) brings those few lines ([`LOG_VERBOSE`]) and no others. An older ssh
//! is silent about them, and its causes are told less finely.

mod line;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;

use wayhome_core::health::{Cause, Detail};
use wayhome_core::link::Stage;

use line::Line;
use table::Means;

/// The functions of ssh's whose lines are wanted whatever its log level is: they tell the stage of a
/// login, and what sshd has to say. None of them speaks while data flows.
pub const LOG_VERBOSE: &str = "LogVerbose=*:kex_exchange_identification():*,*:kex_input_newkeys():*,\
     *:input_userauth_service_accept():*,*:input_userauth_pk_ok():*,\
     *:ssh_packet_read_poll_seqnr():*";

/// How many lines are kept: the cause stands in the last ones, and none needs more than a warning of
/// a changed host key has.
const KEPT: usize = 32;

/// What one ssh has said until now.
#[derive(Debug, Default)]
pub struct Said {
    /// Since the last stage.
    lines: VecDeque<String>,
    reached: Reached,
    /// What sshd allows the key, in its own words: one line for each file that named it.
    key_options: Vec<String>,
    explained: Option<Cause>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    /// Nothing is known; an ssh before 8.5 stays here.
    #[default]
    Nothing,
    /// ssh has sent its greeting.
    Connected,
    /// sshd has sent its own.
    Greeted,
    Exchanged,
    /// sshd would take the key.
    KeyAccepted,
}

impl Said {
    /// Takes in a line. Gives the stage that the login has come to by it, if it is a new one.
    pub fn hear(&mut self, text: &str) -> Option<Stage> {
        let line = Line::parse(text);
        if let Some(reached) = mark(&line) {
            if reached <= self.reached {
                return None;
            }
            self.reached = reached;
            self.lines.clear();
            return match reached {
                Reached::Greeted => Some(Stage::Greeted),
                Reached::Exchanged | Reached::KeyAccepted => Some(Stage::Exchanged),
                Reached::Nothing | Reached::Connected => None,
            };
        }
        if let Some(remark) = line.remark() {
            self.remarked(remark);
            return None;
        }
        // An unknown line of the greeting may be the reason; of the others, none is wanted.
        if text.is_empty() || (line.is_marked() && !line.is_of_greeting() && line.is_debug) {
            return None;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text.to_owned());
        None
    }

    /// What sshd itself says to ssh's debug log.
    fn remarked(&mut self, remark: &str) {
        if let Some((_, options)) = remark.split_once(": key options:") {
            self.key_options.push(options.to_owned());
        }
        match remark {
            // Said of the server's configuration and of the key's line alike.
            "Server has disabled port forwarding." => self.explained = Some(self.who_forbids()),
            "port forwarding refused" => {
                self.explained = Some(Cause::ForwardingForbiddenByPermitlisten);
            }
            _ => {}
        }
    }

    fn who_forbids(&self) -> Cause {
        let options = || self.key_options.iter().flat_map(|options| words_of(options));
        let mut allowing = self.key_options.iter();
        if self.key_options.is_empty() || !options().all(table::is_key_option) {
            Cause::ForwardingForbidden
        } else if allowing.all(|options| words_of(options).any(|word| word == "port-forwarding")) {
            Cause::ForwardingForbiddenByServer
        } else {
            Cause::ForwardingForbiddenByKey
        }
    }

    /// Why the last forward was refused, if sshd said so.
    pub fn take_explanation(&mut self) -> Option<Cause> {
        self.explained.take()
    }

    /// Whether the key's line in `authorized_keys` has a command of its own.
    pub fn has_forced_command(&self) -> bool {
        self.key_options.iter().any(|options| words_of(options).any(|word| word == "command"))
    }

    /// Why ssh has ended.
    pub fn ended(&self, logged_in: bool) -> Cause {
        if logged_in { self.lost() } else { self.not_logged_in() }
    }

    fn lost(&self) -> Cause {
        let known = self.lines.iter().rev().find_map(|text| {
            table::after_login(&Line::parse(text)).map(|lost| (lost, Detail::new(text)))
        });
        match (known, self.lines.back()) {
            (Some((true, _)), _) => Cause::HeartbeatLost,
            (Some((false, detail)), _) => Cause::ConnectionLost { detail },
            (None, Some(last)) => Cause::ConnectionLost { detail: Detail::new(last) },
            (None, None) => without_a_word(),
        }
    }

    fn not_logged_in(&self) -> Cause {
        let lines: Vec<(&String, Option<Means>)> =
            self.lines.iter().map(|text| (text, table::meaning(&Line::parse(text)))).collect();
        let mut decides = lines.iter().filter_map(|(text, means)| match means {
            Some(Means::Decides(cause)) => Some(cause(Detail::new(text))),
            _ => None,
        });
        if let Some(cause) = decides.next() {
            // Two that decide otherwise decide nothing.
            let agreed = decides.all(|other| other.kind() == cause.kind());
            return if agreed { cause } else { self.last_words() };
        }
        let failed = |text: &str| Cause::SshFailed { detail: Detail::new(text) };
        let mut unknown = lines.iter().filter(|(_, means)| means.is_none()).map(|(text, _)| *text);
        let find = |wanted: fn(&Means) -> bool| {
            lines
                .iter()
                .find(|(_, means)| means.as_ref().is_some_and(wanted))
                .map(|(text, _)| *text)
        };
        if find(|means| matches!(means, Means::HostKeyUnknown)).is_some() {
            return unknown.next().map_or(Cause::HostKeyUnknown, |text| failed(text));
        }
        let closed = find(|means| matches!(means, Means::Closed));
        let cut = find(|means| matches!(means, Means::Cut | Means::CutInGreeting));
        match (self.reached, closed, closed.or(cut)) {
            // sshd has taken the key; what it says then is about the account. A connection that is
            // cut at this moment, or without a word, says nothing of it.
            (Reached::KeyAccepted, Some(_), _) => {
                let words: Vec<&str> = unknown.map(String::as_str).collect();
                match words.is_empty() {
                    false => Cause::AccountRefused { detail: Detail::new(&words.join(" ")) },
                    true => failed("the connection was closed after the key was accepted"),
                }
            }
            (Reached::Connected | Reached::Greeted, _, Some(text)) => match unknown.next() {
                None => Cause::ResetInKeyExchange { detail: Detail::new(text) },
                Some(unknown) => failed(unknown),
            },
            // Without marks, only the greeting's own words tell where it was.
            (Reached::Nothing, ..) => {
                match (find(|means| matches!(means, Means::CutInGreeting)), unknown.next()) {
                    (Some(text), None) => Cause::ResetInKeyExchange { detail: Detail::new(text) },
                    (_, Some(unknown)) => failed(unknown),
                    (None, None) => self.last_words(),
                }
            }
            (..) => self.last_words(),
        }
    }

    fn last_words(&self) -> Cause {
        match self.lines.back() {
            Some(last) => Cause::SshFailed { detail: Detail::new(last) },
            None => without_a_word(),
        }
    }
}

fn without_a_word() -> Cause {
    Cause::ConnectionLost { detail: Detail::new("ssh ended without a word") }
}

/// The options that sshd lists for a key. It puts no blank before `expires`.
fn words_of(options: &str) -> impl Iterator<Item = &str> {
    let words = options.split_whitespace().map(|word| word.strip_suffix("expires").unwrap_or(word));
    words.filter(|word| !word.is_empty())
}

/// How far the login has come, if this line tells it.
fn mark(line: &Line<'_>) -> Option<Reached> {
    let reached = match line.function? {
        "kex_exchange_identification" if line.text.starts_with("Local version string ") => {
            Reached::Connected
        }
        "kex_exchange_identification" if line.text.starts_with("Remote protocol version ") => {
            Reached::Greeted
        }
        // Two that say the same: one of them is enough.
        "kex_input_newkeys" if line.text == "SSH2_MSG_NEWKEYS received" => Reached::Exchanged,
        "input_userauth_service_accept" if line.text == "SSH2_MSG_SERVICE_ACCEPT received" => {
            Reached::Exchanged
        }
        "input_userauth_pk_ok" if line.text.starts_with("Server accepts key: ") => {
            Reached::KeyAccepted
        }
        _ => return None,
    };
    Some(reached)
}

/// Why a session that was to run the hold did not.
#[derive(Debug)]
pub enum NoHold {
    /// ssh was refused a session, and this was said.
    Refused(String),
    /// The session ended without a greeting; its last words on either output.
    Ended(String),
    /// It could not be asked for.
    Failed(Detail),
}

/// Why there is no hold. `forced`: the key has a command of its own.
pub fn no_hold(why: &NoHold, forced: bool) -> Cause {
    match why {
        NoHold::Refused(said) if said == "Session open refused by peer" => Cause::MaxSessions,
        NoHold::Refused(said) => Cause::HoldRefused { detail: Detail::new(said) },
        NoHold::Ended(said) => {
            let says = |line: &str| said.lines().any(|other| other.trim() == line);
            let detail = Detail::new(if said.is_empty() { "it ended at once" } else { said });
            if says("Password change required but no TTY available.") {
                Cause::PasswordExpired
            } else if says("This account is currently not available.") {
                Cause::NoShell { detail }
            } else if forced {
                Cause::ForcedCommand { detail }
            } else {
                Cause::HoldRefused { detail }
            }
        }
        NoHold::Failed(detail) => Cause::HoldRefused { detail: detail.clone() },
    }
}

/// Why ssh could not be started.
pub fn not_started(error: &io::Error) -> Cause {
    let detail = Detail::new(&error.to_string());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Cause::SshMissing { detail },
        _ => Cause::SshFailed { detail },
    }
}

/// Why a plain connect failed.
pub fn connect_error(error: &io::Error) -> Cause {
    use io::ErrorKind::{
        ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        ConnectionRefused => Cause::ConnectionRefused,
        TimedOut => Cause::TimedOut,
        HostUnreachable | NetworkUnreachable | NetworkDown => Cause::NoRoute,
        _ => Cause::ConnectFailed { detail: Detail::new(&error.to_string()) },
    }
}

/// Why a name could not be looked up. The system tells it in words alone.
pub fn resolve_error(error: &io::Error) -> Cause {
    let said = error.to_string();
    let reason = said.strip_prefix("failed to lookup address information: ").unwrap_or(&said);
    let detail = Detail::new(reason);
    match table::resolver(reason) {
        Some(cause) => cause(detail),
        None => Cause::ConnectFailed { detail },
    }
}

//! The question of a first contact, at the terminal.
//!
//! Not at standard input, which may be a script. While a person thinks, the agent goes on: its links
//! work, and a signal ends it at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;
use wayhome_core::address::Address;
use wayhome_core::host_key::HostKey;

use super::pin::unpinned;
use crate::error::{Failure, Outcome};

/// The terminal, at which one question stands at a time.
static TERMINAL: Mutex<()> = Mutex::const_new(());

/// The longest line of a terminal (N_TTY's buffer).
const LONGEST: usize = 4096;

/// Asks whether a gateway's key is to be pinned.
pub async fn at_terminal(gateway: &Address, key: &HostKey, fingerprint: &str) -> Outcome {
    let _ours = TERMINAL.lock().await;
    let Ok(mut terminal) = Terminal::open() else { return Err(unpinned(gateway, fingerprint)) };
    let mut question = format!(
        "The gateway {gateway} is new here. Its {} host key is\n  {fingerprint}\n\
         At the gateway, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows the same if it is the right one.\n\
         Pin it and go on? (yes/no/fingerprint) ",
        key.algorithm().as_str(),
    );
    loop {
        let said = terminal.ask(&question).await;
        match said.map(|line| meaning(&line, fingerprint)) {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => {
                return Err(Failure::new(
                    "the gateway's host key was not pinned, so nothing was dialled",
                )
                .hint("compare it at the gateway, and run this again"));
            }
            Ok(None) => question = "Please type `yes`, `no` or the fingerprint: ".to_owned(),
            Err(_) => return Err(unpinned(gateway, fingerprint)),
        }
    }
}

/// What an answer means; `None` if that cannot be told. The end of all input is a no.
fn meaning(line: &str, fingerprint: &str) -> Option<bool> {
    match line.trim() {
        _ if line.is_empty() => Some(false),
        word if word == fingerprint => Some(true),
        word if ["yes", "y"].iter().any(|yes| word.eq_ignore_ascii_case(yes)) => Some(true),
        word if ["no", "n"].iter().any(|no| word.eq_ignore_ascii_case(no)) => Some(false),
        _ => None,
    }
}

/// The two directions of the terminal. What tokio calls the ends of a pipe are files that can be
/// polled, of whatever kind.
struct Terminal(pipe::Receiver, pipe::Sender);

impl Terminal {
    fn open() -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let file = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty")?;
        let input = pipe::Receiver::from_file_unchecked(file.try_clone()?)?;
        Ok(Self(input, pipe::Sender::from_file_unchecked(file)?))
    }

    /// Asks, and reads a line: a terminal gives a whole one at a time.
    async fn ask(&mut self, question: &str) -> io::Result<String> {
        self.1.write_all(question.as_bytes()).await?;
        let mut line = vec![0; LONGEST];
        // Not `read`, which after a short one waits for more to come; a line may be there already.
        let read = loop {
            match self.0.try_read(&mut line) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.0.readable().await?;
                }
                read => break read?,
            }
        };
        line.truncate(read);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_yes_nor_no_is_asked_again() {
        for (line, meant) in [
            ("yes\n", Some(true)),
            ("Y\n", Some(true)),
            ("SHA256:abc \n", Some(true)),
            ("no\n", Some(false)),
            ("", Some(false)),
            ("\n", None),
            ("maybe\n", None),
            ("SHA256:abd\n", None),
            ("yesno\n", None),
        ] {
            assert_eq!(meaning(line, "SHA256:abc"), meant, "{line:?}");
        }
    }
}

//! `wayhome gate`: the forced command for a gateway's `authorized_keys`, and the lines that use it.
//!
//! What the gate does is in `agent/ssh/gate.sh` and `hold.sh`; nothing is installed from here.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Parser;
use wayhome_core::host_key::HostKey;

use crate::agent::ssh::script;
use crate::error::{Failure, Outcome};
use crate::{patient, report};

/// Where the printed lines expect the gate.
const INSTALLED: &str = "/usr/local/libexec/wayhome-gate";

/// Far beyond any public key and its comment; a file of this size is something else.
const LONGEST_LINE: usize = 20 * 1024;

/// What is asked for, for who named something else.
const A_KEY: &str = "name the public half of one key, as `ssh-keygen` wrote it: \
                     `--authorize ~/.ssh/wayhome.pub`";

/// Print the script that limits a home's key at a gateway
///
/// A key that lets a home forward a port at a gateway can also open a shell there, unless its line
/// in authorized_keys forbids it. This prints `wayhome-gate`, a script for such a line: with it the
/// key can hold its own ports and free them from a connection that died, and nothing else. The
/// script's first lines say how to install it.
///
/// With --authorize it prints the line for a key instead.
#[derive(Debug, Parser)]
#[command(after_help = "\
Examples:
  wayhome gate > wayhome-gate
  wayhome gate --authorize ~/.ssh/wayhome.pub --port 2222
  wayhome gate --authorize laptop.pub --port 2222 --laptop")]
pub struct Args {
    /// Print the authorized_keys line for this public key
    #[arg(long, value_name = "KEY.pub", requires = "port")]
    authorize: Option<PathBuf>,

    /// A loopback port at the gateway that the key may use (may be repeated)
    #[arg(long, value_name = "PORT", requires = "authorize")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,

    /// The key is a laptop's: it may connect to the ports, and not listen on them
    #[arg(long, requires = "authorize")]
    laptop: bool,
}

/// Runs the command.
pub fn print(args: &Args) -> Outcome<u8> {
    let mut text = Vec::new();
    run(args, &mut text).map_err(|error| {
        let failure = Failure::usage(error.to_string()).hint(A_KEY);
        match std::error::Error::source(&error) {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    })?;
    report::data("the gate", String::from_utf8_lossy(&text))?;
    Ok(0)
}

/// Prints the script, or the line for a key.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    let Some(path) = &args.authorize else {
        return out.write_all(script::gate().as_bytes()).map_err(Error::Print);
    };
    let key = read_key(path)?;
    let options = if args.laptop { laptop(&args.port) } else { home(&args.port) };
    writeln!(out, "{options} {key}").map_err(Error::Print)
}

/// What a home's key may do: listen on its ports, prove them, and run the gate.
fn home(ports: &[u16]) -> String {
    let mut options = vec!["restrict".to_owned(), "port-forwarding".to_owned()];
    for port in ports {
        // sshd compares the text that the client sent, so each way to say loopback is named.
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            options.push(format!("permitlisten=\"{host}:{port}\""));
        }
    }
    options.extend(ports.iter().map(|port| format!("permitopen=\"127.0.0.1:{port}\"")));
    let words: Vec<String> = ports.iter().map(u16::to_string).collect();
    options.push(format!("command=\"{INSTALLED} {}\"", words.join(" ")));
    options.join(",")
}

/// What a laptop's key may do: connect to the ports. Without a permitlisten it could listen
/// anywhere, and without a command it could run a shell in an account that homes share.
fn laptop(ports: &[u16]) -> String {
    let mut options = vec!["restrict".to_owned(), "port-forwarding".to_owned()];
    options.extend(ports.iter().map(|port| format!("permitopen=\"127.0.0.1:{port}\"")));
    options.push("permitlisten=\"127.0.0.1:1\"".to_owned());
    options.push("command=\"exit 1\"".to_owned());
    options.join(",")
}

/// The one line of a public key's file: a kind, the key itself, and perhaps a comment.
fn read_key(path: &Path) -> Result<String, Error> {
    // One byte more than is allowed, so that too much is seen as such and not cut.
    let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    patient::open(path)
        .and_then(|file| file.take(most).read_to_string(&mut text))
        .map_err(|cause| Error::Read { path: path.to_path_buf(), cause })?;
    parse_key(&text).map(str::to_owned).map_err(|why| Error::Key { path: path.to_path_buf(), why })
}

fn parse_key(text: &str) -> Result<&str, String> {
    let refused = |why: &str| Err(why.to_owned());
    if text.starts_with("-----BEGIN") {
        return refused("it is a private key");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(line) = lines.next() else { return refused("it is empty") };
    if lines.next().is_some() {
        return refused("it has more than one line");
    }
    if line.len() > LONGEST_LINE {
        return refused("its line is too long for a public key");
    }
    // The comment goes into the line too, and must not bring anything along.
    if line.chars().any(char::is_control) {
        return refused("it has control characters in it");
    }
    match line.parse::<HostKey>() {
        Ok(_) => Ok(line),
        Err(why) => Err(why.to_string()),
    }
}

/// Why nothing, or not all, was printed.
#[derive(Debug)]
pub enum Error {
    /// The key's file could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file holds no public key that a line could be made of.
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The output could not be written.
    Print(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read { path, .. } => {
                write!(f, "could not read the public key `{}`", path.display())
            }
            Error::Key { path, why } => {
                write!(f, "`{}` is not usable as a public key: {why}", path.display())
            }
            Error::Print(_) => f.write_str("could not print"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read { cause, .. } | Error::Print(cause) => Some(cause),
            Error::Key { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ED25519: &str = "ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f fan@home";

    fn printed(arguments: &[&str]) -> Result<String, Error> {
        let args = Args::try_parse_from([&["gate"], arguments].concat()).expect("arguments");
        let mut out = Vec::new();
        run(&args, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("writable");
        file
    }

    #[test]
    fn prints_the_script() {
        let script = printed(&[]).expect("printed");
        assert_eq!(script, script::gate());
        assert!(script.contains(INSTALLED));
    }

    #[test]
    fn prints_a_home_s_line() {
        let key = file(&format!("{ED25519}\n"));
        let path = key.path().to_str().expect("a path");
        let line = printed(&["--authorize", path, "--port", "2222", "--port", "2223"]);
        let expected = format!(
            "restrict,port-forwarding,\
             permitlisten=\"127.0.0.1:2222\",permitlisten=\"localhost:2222\",permitlisten=\"[::1]:2222\",\
             permitlisten=\"127.0.0.1:2223\",permitlisten=\"localhost:2223\",permitlisten=\"[::1]:2223\",\
             permitopen=\"127.0.0.1:2222\",permitopen=\"127.0.0.1:2223\",\
             command=\"/usr/local/libexec/wayhome-gate 2222 2223\" {ED25519}\n"
        );
        assert_eq!(line.expect("printed"), expected);
    }

    #[test]
    fn prints_a_laptop_s_line() {
        let key = file(ED25519);
        let path = key.path().to_str().expect("a path");
        let line = printed(&["--authorize", path, "--port", "2222", "--laptop"]);
        let expected = format!(
            "restrict,port-forwarding,permitopen=\"127.0.0.1:2222\",permitlisten=\"127.0.0.1:1\",\
             command=\"exit 1\" {ED25519}\n"
        );
        assert_eq!(line.expect("printed"), expected);
    }

    #[test]
    fn a_line_needs_a_port_and_a_port_needs_a_key() {
        for arguments in [
            &["gate", "--authorize", "k.pub"][..],
            &["gate", "--port", "2222"],
            &["gate", "--laptop"],
            &["gate", "--authorize", "k.pub", "--port", "0"],
            &["gate", "--authorize", "k.pub", "--port", "65536"],
        ] {
            assert!(Args::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_no_plain_public_key_is_refused() {
        let key = ED25519.split(' ').nth(1).expect("a key");
        for (text, why) in [
            (String::new(), "empty"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned(), "private"),
            (format!("{ED25519}\n{ED25519}\n"), "more than one line"),
            (format!("command=\"sh\" {ED25519}"), "kind of key"),
            (format!("ssh-dss {key}"), "kind of key"),
            (format!("ssh-rsa {key}"), "another kind"),
            ("ssh-ed25519".to_owned(), "base64"),
            ("ssh-ed25519 AAAA*AAA".to_owned(), "base64"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA".to_owned(), "cut short"),
            (format!("ssh-ed25519 {key} a\tb"), "control"),
            (format!("ssh-ed25519 {key} {}", "x".repeat(LONGEST_LINE)), "too long"),
        ] {
            let refused = parse_key(&text).expect_err(&text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let key = file("hello\n");
        let path = key.path().to_str().expect("a path");
        let error = printed(&["--authorize", path, "--port", "2222"]).expect_err("refused");
        assert!(error.to_string().contains(path), "{error}");
    }
}

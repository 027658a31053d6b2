//! What `known_hosts` files say of a server, and what that means for a key that it shows.
//!
//! The files are searched by `ssh-keygen -F`, which knows hashed names and patterns as ssh does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wayhome_core::host_key::HostKey;
use wayhome_core::known_hosts::{KnownHost, Marker};

use crate::error::{Failure, Outcome};
use crate::supervise::{self, LOCAL};

/// A line about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it stands.
    pub file: PathBuf,
    /// Its number, from 1.
    pub line: usize,
    /// What it says of the key, if not that it is the server's.
    pub marker: Option<Marker>,
    /// The key.
    pub key: HostKey,
}

/// What all the lines about a server say of a key that it shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// Nothing.
    New,
    /// It is the server's.
    Its,
    /// The server has another key of this type.
    Another(&'a Known),
    /// It is never to be accepted.
    Revoked(&'a Known),
}

/// The lines of a file about a server, by the name under which ssh looks it up. A file that does not
/// exist says nothing.
pub async fn find(file: &Path, name: &str) -> Outcome<Vec<Known>> {
    // Looked at before it is opened, which would wait for ever at a pipe.
    let opened = fs::metadata(file).and_then(|meta| match meta.is_file() {
        true => fs::File::open(file).map(|_| true),
        false => Ok(false),
    });
    match opened {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure::usage(format!("`{}` is not a file", file.display()))
                .hint("name a file for the pinned keys; it need not exist yet"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::usage(format!("`{}` cannot be read", file.display()))
                .because(&error)
                .hint("let the agent's user read it"));
        }
    }
    let mut command = supervise::command("ssh-keygen");
    command.args(["-F", name, "-f"]).arg(file).env("LC_ALL", "C");
    let output = supervise::output(&mut command, LOCAL).await.map_err(|error| {
        Failure::new("`ssh-keygen` cannot be run")
            .because(&error)
            .hint("install OpenSSH's client (Debian: `openssh-client`)")
    })?;
    Ok(read(file, &String::from_utf8_lossy(&output.stdout)))
}

/// Reads what `ssh-keygen -F` prints: before each line, a comment that tells its number.
pub fn read(file: &Path, printed: &str) -> Vec<Known> {
    let mut line = 0;
    let mut found = Vec::new();
    for text in printed.lines() {
        if let Some((_, place)) = text.strip_prefix("# Host ").and_then(|t| t.split_once(": line "))
        {
            let number = place.split(' ').next().unwrap_or_default();
            line = number.parse().unwrap_or_default();
        } else if let Ok(Some(known)) = KnownHost::parse_line(text) {
            let KnownHost { marker, key, .. } = known;
            found.push(Known { file: file.to_owned(), line, marker, key });
        }
    }
    found
}

/// What the lines about a server say of the key that it shows. A word against it counts most.
pub fn word_on<'a>(key: &HostKey, lines: &'a [Known]) -> Word<'a> {
    let with = |marker| lines.iter().filter(move |line| line.marker == marker);
    if let Some(line) = with(Some(Marker::Revoked)).find(|line| line.key == *key) {
        return Word::Revoked(line);
    }
    if with(None).any(|line| line.key == *key) {
        return Word::Its;
    }
    // A server may have a key of each type, and a person may have met only one of them.
    let mut others = with(None).filter(|line| line.key.algorithm() == key.algorithm());
    others.next().map_or(Word::New, Word::Another)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP8bkUukiB3FLnOehI6BcQCYhXxeMRu5MzR1ot5xy/hD";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPmJRKxgvNH5xe2cbcDEtFgnMSpWy1M4V/vToILd6J4+";

    fn key(text: &str) -> HostKey {
        KnownHost::parse_line(&format!("x {text}")).unwrap().unwrap().key
    }

    fn lines(printed: &str) -> Vec<Known> {
        read(Path::new("/k"), printed)
    }

    #[test]
    fn a_word_against_a_key_counts_most() {
        let known = format!("# Host gw found: line 4 \n|1|c2FsdA==|aGFzaA== {ONE}\n");
        let revoked = format!("# Host gw found: line 9 REVOKED\n@revoked gw {ONE}\n");
        let ca = format!("# Host gw found: line 5 CA\n@cert-authority *.example.org {ONE}\n");
        assert_eq!(word_on(&key(ONE), &lines(&known)), Word::Its);
        assert!(
            matches!(word_on(&key(TWO), &lines(&known)), Word::Another(line) if line.line == 4)
        );
        let both = lines(&(known + &revoked));
        assert!(matches!(word_on(&key(ONE), &both), Word::Revoked(line) if line.line == 9));
        assert_eq!(word_on(&key(TWO), &lines(&revoked)), Word::New, "another one is");
        assert_eq!(word_on(&key(ONE), &lines(&ca)), Word::New, "it signs keys, and is none");
        assert_eq!(word_on(&key(ONE), &[]), Word::New);
    }

    #[tokio::test]
    async fn finds_hashed_names_and_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        assert_eq!(find(&file, "gw.example.org").await.unwrap(), []);
        fs::write(&file, format!("# mine\n[gw.example.org]:2200 {ONE}\n")).unwrap();
        let hashed = Command::new("ssh-keygen")
            .args(["-q", "-H", "-f"])
            .arg(&file)
            .stderr(Stdio::null())
            .status();
        assert!(hashed.unwrap().success());
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("gw.example.org"), "{text}");
        fs::write(&file, text + &format!("*.example.org,!gw.example.org {TWO}\n")).unwrap();
        let found = find(&file, "[gw.example.org]:2200").await.unwrap();
        assert_eq!(found.iter().map(|known| known.line).collect::<Vec<_>>(), [2]);
        assert_eq!(found[0].key, key(ONE));
        let found = find(&file, "other.example.org").await.unwrap();
        assert_eq!(found.iter().map(|known| known.line).collect::<Vec<_>>(), [3]);
        assert_eq!(find(&file, "gw.example.org").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for file in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            let said = find(file, "gw").await.unwrap_err().to_string();
            assert!(said.contains("is not a file"), "{said}");
        }
    }
}

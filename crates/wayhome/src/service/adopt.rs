//! A person's configuration becomes the service's: what it says about files is made to hold for
//! another account, in another folder, with another home.
//!
//! Only the values of `identity` and `known_hosts` are exchanged; every other byte, comments too,
//! is kept. Nothing is read here but the text.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::unit::{RunsAs, STATE};
use crate::config::Config;
use crate::error::{Failure, Outcome};

/// A configuration as the service will read it, and what has to come along.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The text.
    pub text: String,
    /// What it says.
    pub config: Config,
    /// Whether it lies in its place already, and is left as it is.
    pub stays: bool,
    /// The keys that it names, each once.
    pub keys: Vec<Key>,
    /// The files of pins that it named for the person.
    pub pins: Vec<PathBuf>,
}

/// A key of the configuration's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where the person has it.
    pub from: PathBuf,
    /// Where the service finds it: a copy, or the same.
    pub to: PathBuf,
}

/// The part of the configuration that names files.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    gateway: Vec<GatewayForm>,
}

#[derive(Deserialize)]
struct GatewayForm {
    identity: Option<Spanned<String>>,
    known_hosts: Option<Spanned<String>>,
}

/// Takes a configuration over. `file` is where the text lies, `to` where it will, and `home` what
/// `~` means in it.
pub fn adopt(
    text: &str,
    file: &Path,
    to: &Path,
    home: &Path,
    runs_as: &RunsAs,
) -> Outcome<Adopted> {
    // Whatever is wrong with it is said of the file that the person has.
    Config::from_text(text, file)?;
    let form: Form = toml::from_str(text)
        .map_err(|error| Failure::usage(error.message().to_owned()).at(&shown(file)))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let absolute = |path: &str| match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => folder.join(path),
    };
    // A file that stays where it is was written for the service, and is the person's to edit.
    let stays = file == to;
    let mut changes: Vec<(Range<usize>, PathBuf)> = Vec::new();
    let (mut keys, mut pins) = (Vec::<Key>::new(), Vec::new());
    for gateway in &form.gateway {
        if let Some(identity) = &gateway.identity {
            let from = absolute(identity.get_ref());
            let key = match keys.iter().find(|key| key.from == from) {
                Some(key) => key.clone(),
                None if stays || *runs_as != RunsAs::Own || from.starts_with(STATE) => {
                    Key { to: from.clone(), from }
                }
                None => Key { to: free_name(&from, &keys), from },
            };
            changes.push((identity.span(), key.to.clone()));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if let Some(known_hosts) = &gateway.known_hosts {
            let from = absolute(known_hosts.get_ref());
            let own = *runs_as == RunsAs::Own && !from.starts_with(STATE);
            let to = if own { Path::new(STATE).join("known_hosts") } else { from.clone() };
            changes.push((known_hosts.span(), to));
            pins.push(from);
        }
    }
    let mut adopted = text.to_owned();
    if !stays {
        changes.sort_by_key(|(span, _)| span.start);
        for (span, path) in changes.into_iter().rev() {
            let value = toml::Value::String(shown(&path)).to_string();
            adopted.replace_range(span, &value);
        }
    }
    let config = Config::from_text(&adopted, to)?;
    Ok(Adopted { text: adopted, config, stays, keys, pins })
}

/// A name among the service's keys that no other has: two may have the same in two folders.
fn free_name(from: &Path, keys: &[Key]) -> PathBuf {
    let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = Path::new(STATE).join("keys");
    let is_free = |path: &PathBuf| !keys.iter().any(|key| &key.to == path);
    let numbered = (2..).map(|number| folder.join(format!("{name}-{number}")));
    std::iter::once(folder.join(&name)).chain(numbered).find(is_free).unwrap_or(folder)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# Fan's home.
name = "home-ubuntu"

[[gateway]]
address = "ssh://root@203.0.113.10"
identity = "~/.ssh/wayhome"      # for this alone
known_hosts = 'pins'

[[gateway]]
address = "b.example.org"
identity = "../other/wayhome"

[[gateway]]
address = "c.example.org"
identity = "~/.ssh/wayhome"

[[service]]
target = "localhost:22"
port = 2222
"#;

    fn adopted(file: &str, runs_as: RunsAs) -> Adopted {
        let to = Path::new("/etc/wayhome/agent.toml");
        adopt(TEXT, Path::new(file), to, Path::new("/home/fan"), &runs_as).unwrap()
    }

    #[test]
    fn an_account_of_its_own_gets_copies() {
        let adopted = adopted("/home/fan/agent.toml", RunsAs::Own);
        insta::assert_snapshot!(adopted.text);
        let key = |from: &str, to: &str| Key { from: from.into(), to: to.into() };
        assert_eq!(
            adopted.keys,
            [
                key("/home/fan/.ssh/wayhome", "/var/lib/wayhome/keys/wayhome"),
                key("/home/fan/../other/wayhome", "/var/lib/wayhome/keys/wayhome-2"),
            ]
        );
        assert_eq!(adopted.pins, [Path::new("/home/fan/pins")]);
    }

    #[test]
    fn a_persons_account_reads_the_persons_files() {
        let adopted = adopted("/home/fan/agent.toml", RunsAs::Person("fan".into()));
        assert!(adopted.text.contains("identity = \"/home/fan/.ssh/wayhome\"      # for this"));
        assert!(adopted.text.contains("known_hosts = \"/home/fan/pins\""));
        assert!(adopted.keys.iter().all(|key| key.from == key.to));
    }

    #[test]
    fn a_file_in_its_place_is_not_touched() {
        let adopted = adopted("/etc/wayhome/agent.toml", RunsAs::Own);
        assert_eq!(adopted.text, TEXT);
        assert_eq!(adopted.keys[0].to, Path::new("/home/fan/.ssh/wayhome"));
    }

    #[test]
    fn what_is_wrong_is_said_of_the_persons_file() {
        let (file, to) = (Path::new("/home/fan/a.toml"), Path::new("/etc/wayhome/agent.toml"));
        let text = TEXT.replace("2222", "70000");
        let failure = adopt(&text, file, to, Path::new("/home/fan"), &RunsAs::Own).unwrap_err();
        assert!(failure.to_string().starts_with("/home/fan/a.toml:19: "), "{failure}");
    }
}

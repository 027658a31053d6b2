//! Which command a unit runs, as whom and where: its `ExecStart=`, read as systemd does.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::specifiers::{Specifiers, UnknownSpecifier};
use super::unit::Unit;
use super::words::{self, WordsError};

/// A command as it is started, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The environment that was set for it.
    pub environment: BTreeMap<String, String>,
    /// The user that it runs as, if the unit names one.
    pub user: Option<String>,
    /// The folder in which relative paths begin, if the unit names one.
    pub folder: Option<PathBuf>,
    /// What the unit has besides, which a person should know of.
    pub aside: Vec<(String, &'static str)>,
}

/// Why a unit runs no command that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// It starts nothing.
    NoCommand,
    /// It starts several things, of which several may be the tunnel.
    SeveralCommands(usize),
    /// A line cannot be split.
    Words(&'static str, WordsError),
    /// A specifier cannot be replaced.
    Specifier(UnknownSpecifier),
    /// A variable is used that is not set by the unit.
    Unset(String),
    /// A prefix of the command that is not known.
    Prefix(char),
    /// A file with the environment cannot be read.
    EnvironmentFile(PathBuf, String),
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("it has no `ExecStart=` in `[Service]`"),
            Self::SeveralCommands(count) => {
                write!(f, "it starts {count} commands; import that of one tunnel at a time")
            }
            Self::Words(key, error) => write!(f, "`{key}=`: {error}"),
            Self::Specifier(error) => error.fmt(f),
            Self::Unset(name) => {
                write!(f, "its command uses `${name}`, which neither it nor its files set")
            }
            Self::Prefix(c) => write!(f, "its `ExecStart=` begins with `{c}`, which is not known"),
            Self::EnvironmentFile(file, why) => {
                write!(f, "its `EnvironmentFile={}` cannot be read: {why}", file.display())
            }
        }
    }
}

impl std::error::Error for UnitError {}

/// Reads a file of the machine's.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<String>;

/// Finds the command of a unit.
pub fn started(unit: &Unit, at: &Specifiers, read: ReadFile<'_>) -> Result<Started, UnitError> {
    let expand = |text: &str| at.expand(text).map_err(UnitError::Specifier);
    let one = |key: &str| unit.last("Service", key).map(expand).transpose();
    let mut started = Started {
        user: one("User")?,
        folder: one("WorkingDirectory")?.map(|path| {
            let path = path.trim_start_matches('-');
            if path == "~" { PathBuf::from("~") } else { PathBuf::from(path) }
        }),
        environment: environment(unit, at, read)?,
        ..Started::default()
    };
    let mut commands = Vec::new();
    for value in unit.all("Service", "ExecStart") {
        let line = words::split(value).map_err(|error| UnitError::Words("ExecStart", error))?;
        for command in line.split(|word| word.bare && word.text == ";") {
            if !command.is_empty() {
                commands.push(command.to_vec());
            }
        }
    }
    let count = commands.len();
    let Some(mut command) = commands.pop() else { return Err(UnitError::NoCommand) };
    if count > 1 {
        return Err(UnitError::SeveralCommands(count));
    }
    let program = command.remove(0);
    let (prefixes, path) = prefixes(&program.text)?;
    if prefixes.as_root {
        started.user = None;
    }
    if prefixes.names_itself && !command.is_empty() {
        // `@`: what follows is what the program is told that it is called.
        command.remove(0);
    }
    started.words.push(expand(path)?);
    for word in command {
        // A `;` that does not end the command is written so.
        let text = if word.text == r"\;" { ";".to_owned() } else { expand(&word.text)? };
        if prefixes.literal {
            started.words.push(text);
        } else {
            started.words.extend(substituted(&text, &started.environment)?);
        }
    }
    started.aside = aside(unit);
    Ok(started)
}

/// What stands before the program's path (systemd.service(5), "Special executable prefixes").
#[derive(Default)]
struct Prefixes {
    names_itself: bool,
    literal: bool,
    as_root: bool,
}

fn prefixes(word: &str) -> Result<(Prefixes, &str), UnitError> {
    let mut prefixes = Prefixes::default();
    let path = word.trim_start_matches(['-', '@', ':', '+', '!']);
    let before = word.strip_suffix(path).unwrap_or_default();
    // `!!` is `!` only on kernels from before 2016.
    let before = before.replace("!!", "");
    for prefix in before.chars() {
        match prefix {
            '@' => prefixes.names_itself = true,
            ':' => prefixes.literal = true,
            '+' | '!' => prefixes.as_root = true,
            _ => {}
        }
    }
    match path.chars().next() {
        Some(c) if c == '|' => Err(UnitError::Prefix(c)),
        _ => Ok((prefixes, path)),
    }
}

/// A word with its variables replaced (systemd.service(5), "Command lines"): `$NAME` alone is as many
/// words as its value has, `${NAME}` is text anywhere, `$$` is one `$`.
fn substituted(
    word: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<String>, UnitError> {
    let value = |name: &str| environment.get(name).ok_or_else(|| UnitError::Unset(name.to_owned()));
    if let Some(name) = word.strip_prefix('$').filter(|name| is_variable(name)) {
        let words = words::split(value(name)?).map_err(|e| UnitError::Words("Environment", e))?;
        return Ok(words.into_iter().map(|word| word.text).collect());
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        rest = match (after.strip_prefix('$'), braced) {
            (Some(after), _) => {
                out.push('$');
                after
            }
            (None, Some((name, after))) if is_variable(name) => {
                out.push_str(value(name)?);
                after
            }
            _ => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
    Ok(vec![out])
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn environment(
    unit: &Unit,
    at: &Specifiers,
    read: ReadFile<'_>,
) -> Result<BTreeMap<String, String>, UnitError> {
    let mut environment = BTreeMap::new();
    for value in unit.all("Service", "Environment") {
        for word in words::split(value).map_err(|error| UnitError::Words("Environment", error))? {
            let text = at.expand(&word.text).map_err(UnitError::Specifier)?;
            if let Some((name, value)) = text.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    // Files come after what the unit itself says, and override it.
    for value in unit.all("Service", "EnvironmentFile") {
        let text = at.expand(value).map_err(UnitError::Specifier)?;
        let path = Path::new(text.trim_start_matches('-'));
        match read(path) {
            Ok(content) => environment.extend(environment_file(&content)),
            Err(_) if text.starts_with('-') => {}
            Err(error) => {
                return Err(UnitError::EnvironmentFile(path.to_owned(), error.to_string()));
            }
        }
    }
    Ok(environment)
}

/// The lines of a file with an environment (systemd.exec(5), `EnvironmentFile=`).
fn environment_file(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        Some((name.trim().to_owned(), value.to_owned()))
    });
    pairs.filter(|(name, _)| is_variable(name)).collect()
}

/// What the unit does besides running the command.
fn aside(unit: &Unit) -> Vec<(String, &'static str)> {
    const HOOKS: [&str; 6] = [
        "ExecCondition",
        "ExecStartPre",
        "ExecStartPost",
        "ExecReload",
        "ExecStop",
        "ExecStopPost",
    ];
    const ORDER: [&str; 6] = ["After", "Requires", "Wants", "BindsTo", "PartOf", "Requisite"];
    let mut aside = Vec::new();
    for key in HOOKS {
        for value in unit.all("Service", key) {
            let why = "it is not run any more; if it is needed, add it to wayhome's unit with \
                       `systemctl edit`";
            aside.push((format!("{key}={value}"), why));
        }
    }
    for key in ORDER {
        let values = unit.all("Unit", key);
        let others = values.iter().flat_map(|value| value.split_whitespace()).filter(|name| {
            // The agent waits for the network itself.
            !name.starts_with("network")
                && !matches!(*name, "nss-lookup.target" | "ssh.service" | "sshd.service")
        });
        for name in others {
            let why = "wayhome's unit does not wait for it; if it should, add that with \
                       `systemctl edit`";
            aside.push((format!("{key}={name}"), why));
        }
    }
    aside
}

#[cfg(test)]
mod tests;

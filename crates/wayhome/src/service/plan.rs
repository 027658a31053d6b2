//! What is done, in which order: decided from facts, without touching anything. `apply` does it, and
//! `--dry-run` prints it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::adopt::{Adopted, Key};
use super::unit::{NAME, OWN_USER, RunsAs, STATE, Unit, sysusers};

/// Whose a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever installs: root, or the person of a user unit.
    Installer,
    /// The account that the agent runs as.
    Service,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the account that the file of systemd-sysusers(8) describes.
    Account {
        /// That file.
        file: PathBuf,
    },
    /// Make a folder, if there is none.
    Folder {
        /// Where.
        path: PathBuf,
        /// How private.
        mode: u32,
        /// Whose.
        owner: Owner,
    },
    /// Copy a private key, with its public half and its certificate where they lie beside it.
    Key(Key),
    /// Log in to each gateway once, inside the unit's sandbox; pin those that are new.
    Dial,
    /// Write a file; the one before is kept beside it, if it was not ours.
    File {
        /// Where.
        path: PathBuf,
        /// What; never a secret.
        text: String,
        /// Whether what stood there before is the person's.
        keep: bool,
    },
    /// Let the service manager read the unit, and start it with the machine.
    Enable,
    /// Start it, or let it take over what is new, and wait until it is ready.
    Start,
}

/// What an installation is decided from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The unit.
    pub unit: &'a Unit,
    /// Where its file belongs.
    pub unit_file: PathBuf,
    /// The configuration.
    pub adopted: &'a Adopted,
    /// Whether the account is there, and was not made by an installation before.
    pub has_account: bool,
    /// Whether this machine is the one that it is installed for, and not an image of another.
    pub is_here: bool,
    /// Whether to log in once before.
    pub dial: bool,
}

/// The steps of an installation. What comes before [`Step::Dial`] is only what that needs; until
/// [`Step::Enable`] all is undone if one fails.
pub fn install(facts: &Facts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let unit = facts.unit;
    let is_system = unit.runs_as != RunsAs::Me;
    if unit.runs_as == RunsAs::Own && !facts.has_account {
        steps.push(Step::Account { file: SYSUSERS.into() });
    }
    if is_system {
        let private = |path: PathBuf| Step::Folder { path, mode: 0o700, owner: Owner::Service };
        steps.push(private(STATE.into()));
        let mut copied = facts.adopted.keys.iter().filter(|key| key.from != key.to).peekable();
        if copied.peek().is_some() {
            steps.push(private(Path::new(STATE).join("keys")));
        }
        steps.extend(copied.cloned().map(Step::Key));
    }
    if facts.is_here && facts.dial {
        steps.push(Step::Dial);
    }
    let mut file = |path: &Path, text: String, keep| {
        if let Some(folder) = path.parent() {
            // Only ours to make where it is missing; of a person's own, nobody else reads.
            let mode = if is_system { 0o755 } else { 0o700 };
            let path = folder.to_owned();
            steps.push(Step::Folder { path, mode, owner: Owner::Installer });
        }
        steps.push(Step::File { path: path.to_owned(), text, keep });
    };
    if !facts.adopted.stays {
        file(&unit.config, facts.adopted.text.clone(), true);
    }
    file(&facts.unit_file, unit.render(), false);
    steps.push(Step::Enable);
    if facts.is_here {
        steps.push(Step::Start);
    }
    steps
}

impl Step {
    /// The place that it writes to.
    pub fn place(&self) -> Option<&Path> {
        match self {
            Self::Account { file } => Some(file),
            Self::Folder { path, .. } | Self::File { path, .. } => Some(path),
            Self::Key(key) => Some(&key.to),
            Self::Dial | Self::Enable | Self::Start => None,
        }
    }
}

/// Where the description of the account belongs.
pub const SYSUSERS: &str = "/etc/sysusers.d/wayhome.conf";

/// What is shown of a step before it is done, or instead of it.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The step.
    pub step: &'a Step,
    /// The account that the agent runs as.
    pub service: &'a str,
    /// Whether it is a person's own service manager.
    pub is_own: bool,
    /// The command of the login, for [`Step::Dial`].
    pub dial: &'a str,
    /// The folder of the image, if there is one.
    pub root: Option<&'a Path>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |path: &Path| super::image::below(self.root, path).display().to_string();
        let mut manager = String::from(if self.is_own { "systemctl --user" } else { "systemctl" });
        if let Some(root) = self.root {
            manager = format!("{manager} --root={}", root.display());
        }
        let text = |f: &mut fmt::Formatter<'_>, text: &str| {
            text.lines().try_for_each(|line| match line {
                "" => writeln!(f),
                line => writeln!(f, "    {line}"),
            })
        };
        match self.step {
            Step::Account { file } => {
                writeln!(f, "would write `{}`:", place(file))?;
                text(f, &sysusers())?;
                match self.root {
                    Some(_) => writeln!(f, "would leave the user `{OWN_USER}` to the first boot"),
                    None => writeln!(f, "would make the user `{OWN_USER}` by it"),
                }
            }
            Step::Folder { path, mode, owner } => {
                let of = match owner {
                    Owner::Service => format!(" of `{}`", self.service),
                    Owner::Installer => String::new(),
                };
                writeln!(f, "would make the folder `{}`{of} (mode {mode:04o})", place(path))
            }
            Step::Key(key) => writeln!(
                f,
                "would copy the key `{}` to `{}` (mode 0600, of `{}`)",
                key.from.display(),
                place(&key.to),
                self.service
            ),
            Step::Dial => {
                writeln!(f, "would log in to each gateway once, in the service's sandbox:")?;
                text(f, self.dial)
            }
            Step::File { path, text: content, .. } => {
                writeln!(f, "would write `{}`:", place(path))?;
                text(f, content)
            }
            Step::Enable if self.root.is_some() => {
                writeln!(f, "would run `{manager} enable {NAME}`")
            }
            Step::Enable => {
                writeln!(f, "would run `{manager} daemon-reload`")?;
                writeln!(f, "would run `{manager} enable {NAME}`")
            }
            Step::Start => writeln!(f, "would run `{manager} restart {NAME}`"),
        }
    }
}

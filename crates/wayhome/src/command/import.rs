//! `wayhome import`

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wayhome_core::name::Name;

use crate::command::agent::runtime;
use crate::config::Config;
use crate::error::{Failure, Outcome};
use crate::import::find::{self, Found, Manager};
use crate::import::notes::Weight;
use crate::import::render::render;
use crate::import::tunnel::{Exposure, Tunnel};
use crate::import::{switch, take_over};
use crate::report;
use crate::service::unit::OWN_USER;

/// Make an agent.toml from an old tunnel: an `ssh -R` or autossh command, or the unit that runs one.
///
/// It is printed on standard output; what is not carried over is told on standard error, with why
/// and what to do. Nothing is changed, unless --take-over says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wayhome import autossh -M 0 -N -i ~/.ssh/id_ed25519 -R 2222:localhost:22 root@203.0.113.10
  wayhome import --unit reverse-ssh.service --output agent.toml
  sudo wayhome import --unit reverse-ssh.service --take-over")]
pub struct Args {
    /// Import what this systemd unit runs: its name, or the path of its file
    #[arg(long, value_name = "UNIT", required_unless_present_any = ["command", "result", "switch", "settle"])]
    unit: Option<String>,
    /// The unit is one of your own, of `systemctl --user`
    #[arg(long)]
    user: bool,
    /// The home's name; this machine's host name if not given
    #[arg(long)]
    name: Option<Name>,
    /// Keep a port that is open to the whole internet as open as it was
    #[arg(long, conflicts_with = "loopback")]
    public: bool,
    /// Open each port on the gateway's loopback alone, whatever the old tunnel asked for
    #[arg(long)]
    loopback: bool,
    /// Write to this file, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Let wayhome's service take the place of the unit, and go back if its road is not proven
    ///
    /// The agent is installed as a service and logs in while the old tunnel still runs. Then that is
    /// stopped, and disabled once each service was proven through its port; if that does not come
    /// within 60 s, or on ^C, wayhome's service is stopped and the old one started again. A service of
    /// its own does this (wayhome-take-over.service), so it goes on if your terminal vanishes with the
    /// old tunnel. Until the proof the old unit stays enabled: after a power cut it comes back.
    #[arg(long, requires = "unit", conflicts_with_all = ["output", "command"])]
    take_over: bool,
    /// With --take-over: run as this user; the unit's own if not given, or `wayhome` in place of root
    #[arg(long = "as", value_name = "USER", requires = "take_over", conflicts_with = "user")]
    runs_as: Option<String>,
    /// With --take-over: pin a new gateway's host key without asking
    #[arg(long, requires = "take_over")]
    accept_new: bool,
    /// Tell how the last --take-over ended
    #[arg(long, conflicts_with_all = ["unit", "command"])]
    result: bool,
    /// Do the switch that is recorded there
    #[arg(long, hide = true, value_name = "RECORD", exclusive = true)]
    switch: Option<PathBuf>,
    /// Bring the switch that is recorded there to an end
    #[arg(long, hide = true, value_name = "RECORD", exclusive = true)]
    settle: Option<PathBuf>,
    /// The old command, with all its arguments; as words, or in quotes as one
    #[arg(trailing_var_arg = true, value_name = "COMMAND", conflicts_with = "unit")]
    command: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome<u8> {
    let manager = if args.user { Manager::User } else { Manager::System };
    if args.result {
        return take_over::result(manager);
    }
    if let Some(record) = &args.switch {
        return runtime()?.block_on(switch::run(record));
    }
    if let Some(record) = &args.settle {
        return runtime()?.block_on(switch::settle(record));
    }
    let exposure = match (args.public, args.loopback) {
        (true, _) => Exposure::Public,
        (_, true) => Exposure::Loopback,
        _ => Exposure::Ask,
    };
    let found = match &args.unit {
        Some(unit) => find::unit(unit, manager)?,
        None => find::command(args.command)?,
    };
    let imported = Imported::from(&found, args.name, exposure)?;
    if args.take_over {
        let unit = args.unit.unwrap_or_default();
        return imported.take_over(&unit, manager, &found, args.runs_as, args.accept_new);
    }
    match &args.output {
        Some(path) => {
            write(path, &imported.text, args.force)?;
            report::note(format!("wrote `{}`", path.display()));
        }
        None => report::data("the configuration", &imported.text)?,
    }
    imported.tell();
    Ok(0)
}

/// An old tunnel, and the configuration that does the same.
#[derive(Debug)]
pub struct Imported {
    /// What it does.
    pub tunnel: Tunnel,
    /// The home's name.
    pub name: Option<Name>,
    /// The configuration.
    pub text: String,
    /// Why that would not load here, if so: a key that is missing, or cannot be used alone.
    pub trouble: Option<String>,
}

impl Imported {
    /// Reads what was found.
    pub fn from(found: &Found, name: Option<Name>, exposure: Exposure) -> Outcome<Self> {
        let mut tunnel = Tunnel::read(&found.words, &found.place, exposure).map_err(|error| {
            Failure::usage(format!("{} cannot be imported", found.from))
                .because(&error)
                .hint(error.hint())
        })?;
        for (what, why) in &found.aside {
            tunnel.notes.add(Weight::Mind, what, why);
        }
        let name = name.or_else(|| {
            let uname = rustix::system::uname();
            Name::from_hostname(&uname.nodename().to_string_lossy())
        });
        let text = render(&tunnel, name.as_ref(), &found.from);
        let trouble = check(&text)?;
        Ok(Self { tunnel, name, text, trouble })
    }

    fn take_over(
        &self,
        unit: &str,
        manager: Manager,
        found: &Found,
        runs_as: Option<String>,
        accept_new: bool,
    ) -> Outcome<u8> {
        if unit.contains('/') {
            return Err(Failure::usage(format!("`{unit}` is a file, and no unit that runs"))
                .hint("name it as systemd does: `--unit reverse-ssh.service`"));
        }
        self.tell();
        let lost: Vec<&str> = self.tunnel.notes.loses().map(|note| note.what.as_str()).collect();
        if !lost.is_empty() {
            let lost = lost.join("`, `");
            return Err(Failure::usage(format!(
                "the old tunnel does more than an agent: `{lost}`"
            ))
            .hint("give that a unit of its own, and take it out of this one"));
        }
        if self.trouble.is_some() {
            return Err(Failure::usage("an agent would not run with this configuration"));
        }
        let Some(name) = self.name.clone() else {
            return Err(Failure::usage("this machine's host name makes no name for the home")
                .hint("give one: `--name home`"));
        };
        // Root's ssh needs not be root's: the agent gets an account of its own then.
        let runs_as = runs_as.or_else(|| found.place.user.clone()).filter(|user| user != "root");
        let request = take_over::Request {
            old: find::full_name(unit),
            manager,
            text: &self.text,
            name,
            runs_as: runs_as.filter(|user| user != OWN_USER),
            accept_new,
        };
        runtime()?.block_on(take_over::take_over(&request))
    }

    /// Tells a person what is not as before.
    pub fn tell(&self) {
        let notes = self.tunnel.notes.to_string();
        if !notes.is_empty() {
            report::note(format!("\n{}", notes.trim_end()));
        }
        if let Some(trouble) = &self.trouble {
            report::warning(format!("an agent would not run with this here: {trouble}"));
        }
    }
}

/// Why the text is no configuration that loads here: mostly a key that is missing or not usable.
fn check(text: &str) -> Outcome<Option<String>> {
    let failed = |error: &io::Error| Failure::new("no temporary file can be made").because(error);
    let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
    let path = folder.path().join("agent.toml");
    fs::write(&path, text).map_err(|error| failed(&error))?;
    let shown = format!("{}/", folder.path().display());
    Ok(Config::from_file(&path).err().map(|failure| failure.to_string().replace(&shown, "")))
}

/// Writes a file as a whole: beside its place, synced, renamed. One that is there is replaced only if
/// that is wished.
pub fn write(path: &Path, text: &str, force: bool) -> Outcome {
    let failed = |error: &io::Error| {
        Failure::new(format!("`{}` cannot be written", path.display())).because(error)
    };
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".wayhome-")
        .tempfile_in(parent)
        .map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    // It says where a key lies, and nothing of the key; the service's user has to read it.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(|e| failed(&e))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let renamed = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match renamed {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!("`{}` is there already", path.display()))
                .hint("choose another name, or replace it with `--force`"));
        }
        Err(error) => return Err(failed(&error.error)),
    }
    // That a file system cannot do this is no reason to call the work undone.
    let _ = File::open(parent).and_then(|dir| dir.sync_all());
    Ok(())
}

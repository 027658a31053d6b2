//! `wayhome ssh-config`: at home it prints, on the laptop it installs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use wayhome_core::address::NativeAddress;
use wayhome_core::host_key::HostKey;
use wayhome_core::name::Name;

use crate::agent::control::{self, Asked};
use crate::config::Config;
use crate::error::{Failure, Outcome};
use crate::pins::{Pins, Whose};
use crate::ssh_config::gather::{Wishes, gather};
use crate::ssh_config::install::{self, Change, Done, InstallError, Warning, What};
use crate::ssh_config::{
    Alias, KeyPath, MAX_TEXT, NativeRoad, ParseError, Printed, Roads, UserName, parse, render,
};
use crate::{paths, report};

/// Make `ssh home-ubuntu` work on a laptop that has nothing but ssh
///
/// Without `--write` and `--remove`, prints what the laptop needs: blocks for ~/.ssh/config and the
/// keys that prove who is who. Run it at home, and paste the text on the laptop as it says; or, if
/// wayhome is on the laptop, let it do that with `--write`.
///
/// With `--connect` it installs, on the laptop, what leads home through `wayhome connect`, by way of a
/// gateway that runs wayhome.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome ssh-config
  wayhome ssh-config --write - < home-ubuntu.txt
  wayhome ssh-config --connect home-ubuntu --user fan
  wayhome ssh-config --remove home-ubuntu")]
pub struct Args {
    /// On the laptop: install a printed text from FILE, or from standard input with `-`
    ///
    /// Writes two files into ~/.ssh/wayhome and one Include line at the top of ~/.ssh/config, and
    /// changes nothing else. Another text from the same home replaces the first.
    #[arg(long, value_name = "FILE", group = "on_the_laptop")]
    pub write: Option<PathBuf>,

    /// On the laptop: take away what was installed for the home NAME
    #[arg(long, value_name = "NAME", group = "on_the_laptop")]
    pub remove: Option<Name>,

    /// On the laptop: install a road through `wayhome connect` to the home NAME, which is pinned
    ///
    /// Writes the same files as --write. No host key is asked for: the home proves its pinned key
    /// before ssh sees a byte, and so the host key that is shown first is its own.
    #[arg(long, value_name = "NAME", group = "on_the_laptop")]
    pub connect: Option<Name>,

    /// With --connect: go through this gateway; otherwise all that are pinned are tried
    #[arg(long, value_name = "wayhome://HOST", requires = "connect")]
    pub gateway: Vec<NativeAddress>,

    /// With --connect: the host key that home's sshd has to show, 'ssh-ed25519 AAAA…'
    #[arg(long, value_name = "KEY", requires = "connect")]
    pub host_key: Vec<HostKey>,

    /// With --write, --remove or --connect: only show what would be done
    #[arg(long, requires = "on_the_laptop")]
    pub dry_run: bool,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take its text for the command's own")]
    pub print: PrintArgs,
}

// What is printed, where the home alone cannot know it. (No doc comment: clap would show it.)
#[derive(Clone, Debug, Default, clap::Args)]
#[group(conflicts_with_all = ["write", "remove"], multiple = true)]
#[allow(missing_docs, reason = "clap would take its text for the command's own")]
pub struct PrintArgs {
    /// Whom to log in as at home
    #[arg(long, value_name = "USER")]
    pub user: Option<UserName>,

    /// Whom the laptop logs in as at the gateway
    #[arg(long, value_name = "USER", conflicts_with = "connect")]
    pub gateway_user: Option<UserName>,

    /// The laptop's key for the gateway, as a path on the laptop
    ///
    /// For example '~/.ssh/id_ed25519', in quotes so that the shell here does not expand it.
    #[arg(long, value_name = "PATH", conflicts_with = "connect")]
    pub identity: Option<KeyPath>,

    /// What to type after ssh for the home, instead of its name
    #[arg(long, value_name = "NAME")]
    pub alias: Option<Name>,

    /// What to type after ssh for the gateway
    #[arg(long, value_name = "NAME", conflicts_with = "connect")]
    pub gateway_alias: Option<Alias>,

    /// Let further logins to the same machine share the first one's connection
    #[arg(long)]
    pub multiplex: bool,

    /// Read the roads from this configuration, and not from the agent that runs
    #[arg(short, long, value_name = "FILE", conflicts_with = "connect")]
    pub config: Option<PathBuf>,

    /// Ask the agent with this name, where several run
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "connect"])]
    pub name: Option<Name>,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome<u8> {
    let shown = |done: Result<(), LaptopError>| match done {
        // It was done, and that nobody could be told undoes nothing; nor does a reader of a dry run
        // who has seen enough.
        Err(LaptopError::Tell(error))
            if !args.dry_run || error.kind() == io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        done => done.map_err(failed),
    };
    // What would be done is what a dry run is asked for; what was done is a remark.
    let mut out: Box<dyn Write> =
        if args.dry_run { Box::new(io::stdout()) } else { Box::new(report::notes()) };
    if let Some(source) = &args.write {
        let home = paths::home()?;
        shown(write(source, args.dry_run, &home, &mut io::stdin(), &mut out))?;
    } else if let Some(name) = &args.remove {
        shown(remove(name, args.dry_run, &paths::home()?, &mut out))?;
    } else if let Some(home) = &args.connect {
        let printed = native(home, &args)?;
        shown(put(&printed, args.dry_run, &paths::home()?, &mut out))?;
    } else {
        print(args.print)?;
    }
    Ok(0)
}

fn failed(error: LaptopError) -> Failure {
    match error {
        LaptopError::Refused(..) => {
            Failure::usage(error.to_string()).hint("print it anew at home: `wayhome ssh-config`")
        }
        _ => Failure::new(error.to_string()),
    }
}

fn print(args: PrintArgs) -> Outcome {
    let runtime = super::agent::runtime()?;
    let config = match &args.config {
        Some(file) => Config::from_file(file)?,
        None => {
            let socket = control::socket(args.name.as_ref())?;
            runtime.block_on(control::ask(&socket, Asked::Config)).map_err(|error| {
                Failure::usage(format!("the agent at `{}` does not answer", socket.display()))
                    .because(&error)
                    .hint("name its configuration instead: `--config agent.toml`")
            })?
        }
    };
    let wishes = Wishes {
        user: args.user,
        gateway_user: args.gateway_user,
        identity: args.identity,
        alias: args.alias,
        gateway_alias: args.gateway_alias,
        multiplex: args.multiplex,
    };
    let (roads, left_out) = runtime.block_on(gather(&config, &wishes))?;
    for line in left_out {
        report::warning(line);
    }
    let text = render(&roads).map_err(|error| Failure::usage(error.to_string()))?;
    report::data("the configuration", text)
}

/// The road through `wayhome connect`, of what is pinned here.
fn native(home: &Name, args: &Args) -> Outcome<Printed> {
    let pins = Pins::ours()?;
    let gateways = args.gateway.iter().cloned().map(Whose::Gateway);
    for whose in gateways.chain([Whose::Home(home.clone())]) {
        pins.needed(&whose)?;
    }
    let program = std::env::current_exe().map_err(|error| {
        Failure::new("it cannot be told where this program lies").because(&error)
    })?;
    paths::for_ssh(&program)?;
    let alias = args.print.alias.clone().unwrap_or_else(|| home.clone());
    let road = NativeRoad {
        alias: alias.clone(),
        home: home.clone(),
        gateways: args.gateway.clone(),
        user: args.print.user.clone(),
        program,
        host_keys: args.host_key.clone(),
    };
    let multiplex = args.print.multiplex;
    Ok(Printed { name: alias, roads: Roads { native: vec![road], multiplex, ..Roads::default() } })
}

/// Why the laptop's half failed.
#[derive(Debug)]
pub enum LaptopError {
    /// The text could not be read.
    Read(String, io::Error),
    /// The text is not one that wayhome prints.
    Refused(String, ParseError),
    /// It could not be installed or removed.
    Install(InstallError),
    /// What was done could not be told.
    Tell(io::Error),
}

impl fmt::Display for LaptopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(from, error) => write!(f, "{from} could not be read: {error}"),
            Self::Refused(from, error) => {
                write!(f, "{from} is not a text that `wayhome ssh-config` prints: {error}")
            }
            Self::Install(error) => error.fmt(f),
            Self::Tell(error) => write!(f, "the result could not be shown: {error}"),
        }
    }
}

impl std::error::Error for LaptopError {}

/// Reads a printed text and installs it under this home folder.
pub fn write(
    source: &Path,
    dry_run: bool,
    home: &Path,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), LaptopError> {
    put(&read_printed(source, stdin)?, dry_run, home, out)
}

/// Installs roads under this home folder.
fn put(
    printed: &Printed,
    dry_run: bool,
    home: &Path,
    out: &mut dyn Write,
) -> Result<(), LaptopError> {
    let done = install::install(home, printed, dry_run).map_err(LaptopError::Install)?;
    tell(&done, dry_run, out).map_err(LaptopError::Tell)?;
    lead(&printed.roads, out).map_err(LaptopError::Tell)?;
    if dry_run {
        return Ok(());
    }
    writeln!(out, "now try: `ssh {}`", printed.name).map_err(LaptopError::Tell)
}

/// Takes away what was installed under this name.
pub fn remove(
    name: &Name,
    dry_run: bool,
    home: &Path,
    out: &mut dyn Write,
) -> Result<(), LaptopError> {
    let done = install::remove(home, name, dry_run).map_err(LaptopError::Install)?;
    tell(&done, dry_run, out).map_err(LaptopError::Tell)
}

fn read_printed(source: &Path, stdin: &mut dyn Read) -> Result<Printed, LaptopError> {
    let from = if source == Path::new("-") {
        "standard input".to_owned()
    } else {
        format!("`{}`", source.display())
    };
    // One byte more than is allowed, so that too much is seen as such and not cut.
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if source == Path::new("-") {
        stdin.take(limit).read_to_end(&mut bytes)
    } else {
        File::open(source).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    if let Err(error) = read {
        return Err(LaptopError::Read(from, error));
    }
    // A cut in the middle of a character is no reason for another complaint than the size.
    parse(&String::from_utf8_lossy(&bytes)).map_err(|error| LaptopError::Refused(from, error))
}

fn tell(done: &Done, dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
    for Change { shown, what } in &done.changes {
        match (what, dry_run) {
            (What::Written(_), false) => writeln!(out, "wrote `{shown}`")?,
            (What::Written(text), true) => {
                writeln!(out, "would write `{shown}`:")?;
                text.lines().try_for_each(|line| writeln!(out, "    {line}"))?;
            }
            (What::Unchanged, _) => writeln!(out, "`{shown}` is already as it should be")?,
            (What::IncludeAdded, false) => {
                writeln!(out, "added one `Include` line to the top of `{shown}`")?;
            }
            (What::IncludeAdded, true) => {
                writeln!(out, "would add one `Include` line to the top of `{shown}`")?;
            }
            (What::IncludeRemoved, false) => {
                writeln!(out, "removed the `Include` line from `{shown}`")?;
            }
            (What::IncludeRemoved, true) => {
                writeln!(out, "would remove the `Include` line from `{shown}`")?;
            }
            (What::Removed, false) => writeln!(out, "removed `{shown}`")?,
            (What::Removed, true) => writeln!(out, "would remove `{shown}`")?,
        }
    }
    for warning in &done.warnings {
        report::warning(warned_of(warning));
    }
    Ok(())
}

/// Every name that `ssh` takes from now on, and where it leads.
fn lead(roads: &Roads, out: &mut dyn Write) -> io::Result<()> {
    let user = |user: &Option<UserName>| {
        user.as_ref().map(|user| format!(", as `{user}`")).unwrap_or_default()
    };
    let aliases = roads.home_aliases().map_err(io::Error::other)?;
    for (alias, home) in aliases.iter().zip(&roads.homes) {
        let via = roads.gateways.get(home.via).map(|gateway| gateway.alias.as_str());
        let (port, via) = (home.port, via.unwrap_or_default());
        writeln!(out, "`{alias}` leads to port {port} at `{via}`{}", user(&home.user))?;
    }
    for road in &roads.native {
        let (alias, home) = (&road.alias, &road.home);
        let via = match road.gateways.as_slice() {
            [] => "any gateway that is pinned".to_owned(),
            some => some.iter().map(NativeAddress::to_string).collect::<Vec<_>>().join(" or "),
        };
        writeln!(out, "`{alias}` leads to `{home}` through {via}{}", user(&road.user))?;
    }
    for gateway in &roads.gateways {
        let (alias, host, port) = (&gateway.alias, &gateway.host, gateway.port);
        writeln!(out, "`{alias}` leads to {host}, port {port}{}", user(&gateway.user))?;
    }
    Ok(())
}

fn warned_of(warning: &Warning) -> String {
    match warning {
        Warning::AliasElsewhere { alias, file, lines } => {
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            format!(
                "`{file}` has a `Host {alias}` too (line {}): ssh takes each setting from the \
                 first that has it, in ~/.ssh/wayhome by the alphabet and then in ~/.ssh/config; \
                 rename or remove one of them",
                lines.join(", ")
            )
        }
        Warning::KeysReplaced { name } => format!(
            "`{name}` had other host keys until now: if it was not set up anew, ask who sent this \
             text before you log in"
        ),
    }
}

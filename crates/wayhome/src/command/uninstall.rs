//! `wayhome uninstall`: all that wayhome wrote on this machine, and only that.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

use wayhome_core::service::Bind;

use crate::agent::control::{self, Asked};
use crate::command::agent::runtime;
use crate::config::{Config, SshGateway};
use crate::error::{Failure, Outcome};
use crate::import::find::Manager;
use crate::import::{manager, shell};
use crate::service::unit::{NAME, OWN_USER, RunsAs};
use crate::service::{account, config_place, gateway};
use crate::ssh_config::install;
use crate::uninstall::{Places, Plan, Thing};
use crate::{paths, report};

/// Remove what wayhome wrote on this machine, all of it and only that, and leave plain OpenSSH.
///
/// That is the agent's service (and as root the gateway's) with its account, its configuration, the keys that were copied for it,
/// pins and recorded sessions; and what `ssh-config --write` put into your ~/.ssh. As root, it is the
/// machine's; as anybody else, your own. It is listed first. What wayhome did not write is left, and
/// named. Then you read the `ssh -R` command that does what the agent did.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wayhome uninstall --dry-run
  sudo wayhome uninstall --yes")]
pub struct Args {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only show what would be removed
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Leave agent.toml, and the keys that it names
    #[arg(long)]
    keep_config: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let is_root = rustix::process::geteuid().is_root();
    let manager = if is_root { Manager::System } else { Manager::User };
    let plan = Plan::make(&Places::of_this_machine(is_root)?, args.keep_config);
    let has_gateway = is_root && gateway::is_installed();
    if plan.is_empty() && !has_gateway {
        report::note("there is nothing of wayhome's here to remove");
        tell_kept(&plan);
        return Ok(0);
    }
    let config = configuration(is_root)?;
    let mut list: String = plan.remove.iter().map(|thing| format!("  {thing}\n")).collect();
    if has_gateway {
        list += "  the gateway's service, its key, and its user\n";
    }
    report::note(format!(
        "{}:\n{}",
        if args.dry_run { "would remove" } else { "to be removed" },
        list.trim_end()
    ));
    tell_kept(&plan);
    if !args.dry_run {
        if !args.yes {
            ask()?;
        }
        if has_gateway {
            gateway::uninstall(&gateway::Request { root: None, dry_run: false }, true)?;
        }
        carry_out(&plan, manager)?;
    }
    if let Some(config) = config {
        plain_ssh(&config, &plan)?;
    }
    if let Ok(program) = std::env::current_exe() {
        report::note(format!("the program itself stays: `{}`", program.display()));
    }
    Ok(0)
}

fn tell_kept(plan: &Plan) {
    for (path, why) in &plan.keep {
        report::warning(format!("`{}` is left: {why}", path.display()));
    }
}

/// What the agent does: as it says itself, or as its file has it.
fn configuration(is_root: bool) -> Outcome<Option<Config>> {
    let runtime = runtime()?;
    for socket in control::sockets()? {
        if let Ok(config) = runtime.block_on(control::ask::<Config>(&socket, Asked::Config)) {
            return Ok(Some(config));
        }
    }
    let runs_as = if is_root { RunsAs::Own } else { RunsAs::Me };
    Ok(Config::from_file(&config_place(&runs_as)?).ok())
}

/// Asks at the terminal, not at standard input, which may be a script.
fn ask() -> Outcome {
    let unasked = || {
        Failure::usage("nobody is there to be asked, so nothing was removed")
            .hint("`--dry-run` shows what would be; `--yes` does it")
    };
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(unasked());
    };
    let mut answer = String::new();
    let asked = terminal
        .write_all(b"Remove all of this? (yes/no) ")
        .and_then(|()| BufReader::new(&terminal).read_line(&mut answer));
    match asked {
        Ok(_) if matches!(answer.trim(), "yes" | "y") => Ok(()),
        Ok(_) => Err(Failure::new("nothing was removed")),
        Err(_) => Err(unasked()),
    }
}

fn carry_out(plan: &Plan, manager: Manager) -> Outcome {
    for thing in &plan.remove {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(format!("{thing} could not be removed"))
                .because(error)
                .hint("what stood before it in the list is gone; run this again for the rest")
        };
        match thing {
            Thing::Unit(path) => {
                stop(manager, path)?;
                remove(path).map_err(|error| failed(&error))?;
                // It is gone; that systemd still lists it does no harm.
                let _ = systemctl(manager, &["daemon-reload"]);
            }
            Thing::File(path) => remove(path).map_err(|error| failed(&error))?,
            Thing::Tree(path) => match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&error));
                }
                _ => {}
            },
            // One that something else lies in stays.
            Thing::Folder(path) => drop(fs::remove_dir(path)),
            Thing::Account => {
                let done = Command::new("userdel").arg(OWN_USER).output();
                let done = done.map_err(|error| failed(&error))?;
                if !done.status.success() && account::find(OWN_USER).is_some() {
                    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                    return Err(failed(&io::Error::other(said)));
                }
            }
            Thing::Home(name) => {
                install::remove(&paths::home()?, name, false).map_err(|error| failed(&error))?;
            }
        }
    }
    report::note("removed");
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn stop(manager: Manager, unit: &Path) -> Outcome {
    let Err(why) = systemctl(manager, &["disable", "--now", NAME]) else { return Ok(()) };
    // Where no systemd runs (an image, a container), nothing of it does either.
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    Err(Failure::new(format!("`{NAME}` could not be stopped, so nothing was removed"))
        .because(&io::Error::other(why))
        .hint(format!("stop it by hand; its unit is `{}`", unit.display())))
}

fn systemctl(manager: Manager, arguments: &[&str]) -> Result<(), String> {
    let runtime = runtime().map_err(|failure| failure.to_string())?;
    let done = runtime.block_on(manager::systemctl(manager, arguments));
    done.map(drop).map_err(|why| why.to_string())
}

/// The commands that do what the agent did.
fn plain_ssh(config: &Config, plan: &Plan) -> Outcome {
    let lines = config.ssh_gateways().map(|gateway| ssh_command(config, gateway) + "\n");
    report::note("\nwithout wayhome, this does what the agent did:");
    report::data("the command", lines.collect::<String>())?;
    for identity in config.ssh_gateways().filter_map(|gateway| gateway.identity.as_deref()) {
        if plan.removes(identity) {
            report::warning(format!(
                "`{}` was a copy for the service, and goes with it: name your own key there",
                identity.display()
            ));
        }
    }
    Ok(())
}

fn ssh_command(config: &Config, gateway: &SshGateway) -> String {
    let mut words: Vec<String> = ["ssh", "-N", "-T"].map(str::to_owned).to_vec();
    for option in ["ServerAliveInterval=15", "ServerAliveCountMax=3", "ExitOnForwardFailure=yes"] {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    if let Some(identity) = &gateway.identity {
        words.extend(["-i".to_owned(), identity.display().to_string()]);
    }
    if let Some(port) = gateway.address.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    for service in &config.services {
        let Some(port) = service.port else { continue };
        let bind = match &service.bind {
            Bind::Loopback => "127.0.0.1",
            Bind::Public(address) => address,
        };
        let bind = if bind.contains(':') { format!("[{bind}]") } else { bind.to_owned() };
        let forward = format!("{bind}:{port}:{}", service.target);
        words.extend(["-R".to_owned(), forward]);
    }
    if let Some(user) = &gateway.address.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    words.push(gateway.address.host.clone());
    shell::line(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tunnel::{Exposure, Place, Tunnel};

    /// What is printed on leaving is what an import would take back.
    #[test]
    fn the_way_out_is_the_way_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let text = "name = \"home\"\n[[gateway]]\naddress = \"ssh://root@[2001:db8::1]:2200\"\n\
                    [[service]]\ntarget = \"localhost:22\"\nport = 2222\n[[service]]\n\
                    target = \"[::1]:80\"\nport = 8080\nbind = \"*\"\npublic = true\n";
        fs::write(&file, text).unwrap();
        let config = Config::from_file(&file).unwrap();
        let gateway = config.ssh_gateways().next().unwrap();
        let line = ssh_command(&config, gateway);
        let place =
            Place { user: None, home: "/".into(), folder: "/".into(), environment: [].into() };
        let words = shell::split(&line, &|_| None).unwrap();
        let tunnel = Tunnel::read(&words, &place, Exposure::Public).unwrap();
        assert_eq!(tunnel.gateway, gateway.address, "{line}");
        assert_eq!(tunnel.services, config.services, "{line}");
    }
}

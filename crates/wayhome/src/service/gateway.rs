//! The gateway as a service of the machine: `wayhome service install gateway`, and what takes it away
//! again.
//!
//! It has an account and folders of its own, apart from an agent's: one machine may be both, and
//! neither reads the other's key. A gateway that root ran by hand before hands its key over, for that
//! is what homes and laptops have pinned.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;
use wayhome_core::status::gateway::GatewaySnapshot;

use super::account::{self, Account};
use super::apply::{Changes, Kind};
use super::image::{self, below};
use super::status::{UnitStatus, monotonic};
use super::systemd::{self, Systemd};
use super::unit::{ANYONE, SYSTEM, program, word};
use crate::agent::control::{self, Asked};
use crate::command::agent::runtime;
use crate::command::status::gateway::table;
use crate::error::{FAILED, Failure, Outcome};
use crate::gateway::SOCKET;
use crate::gateway::config::Config;
use crate::report;

/// The unit's name.
pub const NAME: &str = "wayhome-gateway.service";

/// The account.
pub const USER: &str = "wayhome-gateway";

/// Its home and state folder.
pub const STATE: &str = "/var/lib/wayhome-gateway";

/// The folder of its control socket.
pub const RUNTIME: &str = "/run/wayhome-gateway";

/// Where the unit belongs.
const UNIT: &str = "/etc/systemd/system/wayhome-gateway.service";

/// Where the description of the account belongs.
const SYSUSERS: &str = "/etc/sysusers.d/wayhome-gateway.conf";

/// Where the configuration and the grants lie.
const CONFIG: &str = "/etc/wayhome/gateway.toml";
const GRANTS: &str = "/etc/wayhome/grants.toml";

/// The key of a gateway that root ran by hand.
const BY_HAND: &str = "/var/lib/wayhome/identity";

/// How every file begins that is ours to replace and to remove.
const MARK: &str = "# Written by `wayhome service install gateway`";

/// How long it may take to answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// For all to read, and for root to write.
const READABLE: Kind<'static> = Kind { mode: 0o644, owner: None };

/// What was asked for.
#[derive(Debug)]
pub struct Request {
    /// The image.
    pub root: Option<PathBuf>,
    /// Whether only to show what would be done.
    pub dry_run: bool,
}

/// The unit file. `program` is this program, where the service finds it.
pub fn unit(path: &Path) -> String {
    let program = program(path);
    let mut text = format!(
        "{MARK}; `wayhome service uninstall gateway` removes it.\n\
         # Settings of your own belong into a drop-in: `systemctl edit {NAME}`.\n\n\
         [Unit]\n\
         Description=Wayhome gateway: where homes and laptops meet\n\
         After=network.target\n\
         # Never given up: nobody is there to start it again.\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         User={USER}\n\
         ExecStart={program} gateway run --config {config}\n\
         # Grants are read again by themselves; this does it now.\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=always\n\
         # Homes are back within a second or so, and nobody is there to be waited for.\n\
         RestartSec=200ms\n\
         # What listens, and in a restart what streams: kept for the next process meanwhile.\n\
         FileDescriptorStoreMax=16384\n\
         # Fed from the loop that does the work. One that is stuck has nothing to save.\n\
         WatchdogSec=30\n\
         WatchdogSignal=SIGKILL\n\
         TimeoutStopSec=10\n\
         # A connection is a descriptor.\n\
         LimitNOFILE=524288\n\
         RuntimeDirectory={USER}\n\
         RuntimeDirectoryMode=0700\n\n\
         # What it can reach: the network, its own state, and nothing else.\n\
         StateDirectory={USER}\n\
         StateDirectoryMode=0700\n\
         ProtectHome=yes\n\
         RemoveIPC=yes\n",
        config = word(Path::new(CONFIG)),
    );
    for setting in SYSTEM.iter().chain(ANYONE) {
        // A port below 1024, without being root.
        let _ = match setting.split_once('=') {
            Some((key @ ("AmbientCapabilities" | "CapabilityBoundingSet"), _)) => {
                writeln!(text, "{key}=CAP_NET_BIND_SERVICE")
            }
            _ => writeln!(text, "{setting}"),
        };
    }
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

/// The text that makes the account, for systemd-sysusers(8).
fn sysusers() -> String {
    format!(
        "{MARK}; `wayhome service uninstall gateway` removes it.\n\
         u {USER} - \"Wayhome gateway\" {STATE} /usr/sbin/nologin\n"
    )
}

/// Whether a file was written by an installation.
fn is_ours(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.starts_with(MARK))
}

/// Whether the service is installed on this machine, by us.
pub fn is_installed() -> bool {
    is_ours(Path::new(UNIT))
}

/// Installs the gateway's service.
///
/// # Errors
/// What could not work is refused before anything is written; what fails on the way is undone.
pub fn install(request: &Request) -> Outcome {
    let root = request.root.as_deref();
    let systemd = Systemd { is_own: false, root: request.root.clone() };
    if !request.dry_run {
        super::may_change("install", false, root)?;
        systemd.must_run()?;
    }
    image::check(root, [UNIT, SYSUSERS, CONFIG, GRANTS, STATE].map(Path::new))?;
    let installation = Installation {
        root,
        systemd,
        program: super::install::program(root)?,
        by_hand: by_hand(root),
    };
    installation.refuse_what_cannot_work()?;
    if request.dry_run {
        return report::data("the plan", installation.plan());
    }
    let had_account = installation.account().is_some();
    let mut changes = Changes::default();
    if let Err(failure) = installation.write(&mut changes) {
        changes.undo();
        if root.is_none() && !had_account {
            // It may not have come to that; what failed first is the error to tell.
            let _ = systemd::run(Command::new("userdel").arg(USER));
        }
        return Err(failure.note("nothing was installed"));
    }
    installation.start()
}

/// The key of a gateway that root ran by hand, if the service has none of its own yet.
fn by_hand(root: Option<&Path>) -> Option<PathBuf> {
    let (old, own) = (below(root, Path::new(BY_HAND)), below(root, &identity()));
    // Of an agent's key there is nothing to hand over, and no telling apart where there are both.
    let was_an_agents = below(root, Path::new("/etc/wayhome/agent.toml")).exists();
    (old.is_file() && !own.exists() && !was_an_agents).then_some(old)
}

fn identity() -> PathBuf {
    Path::new(STATE).join("identity")
}

struct Installation<'a> {
    root: Option<&'a Path>,
    systemd: Systemd,
    program: PathBuf,
    /// A key to be taken over.
    by_hand: Option<PathBuf>,
}

impl Installation<'_> {
    fn at(&self, path: &str) -> PathBuf {
        below(self.root, Path::new(path))
    }

    fn account(&self) -> Option<Account> {
        match self.root {
            Some(root) => account::find_in(root, USER),
            None => account::find(USER),
        }
    }

    fn refuse_what_cannot_work(&self) -> Outcome {
        let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
        if hidden.iter().any(|folder| self.program.starts_with(folder)) {
            let shown = self.program.display();
            return Err(Failure::usage(format!(
                "the program `{shown}` lies where the service's sandbox hides it"
            ))
            .hint(format!("sudo install -m 755 {shown} /usr/local/bin/, and run that one")));
        }
        let unit = self.at(UNIT);
        if unit.exists() && !is_ours(&unit) {
            let shown = unit.display();
            return Err(Failure::usage(format!(
                "`{shown}` is there already, and not of wayhome's"
            ))
            .hint("remove it first, if you do not need it"));
        }
        let config = self.at(CONFIG);
        if config.exists() {
            let text = fs::read_to_string(&config).map_err(|why| {
                Failure::usage(format!("`{}` cannot be read", config.display())).because(&why)
            })?;
            let parsed = Config::parse(&text, &config)?;
            let names_another = toml::from_str::<toml::Table>(&text)
                .is_ok_and(|table| table.contains_key("identity"))
                && parsed.identity != identity();
            if names_another {
                return Err(Failure::usage(format!(
                    "`identity` in `{}` names a key that the service cannot read",
                    config.display()
                ))
                .hint(format!(
                    "take it out: the service's key is `{}`, and copy the one before there if homes have pinned it",
                    identity().display()
                )));
            }
        }
        if !self.at(GRANTS).is_file() {
            return Err(Failure::usage(format!(
                "there is no `{}`, so nobody could get in",
                self.at(GRANTS).display()
            ))
            .hint("write into it who may be which home, and who may reach it: see the README, \"The gateway\""));
        }
        let runs = PathBuf::from("/run/wayhome").join(SOCKET);
        if self.root.is_none() && std::os::unix::net::UnixStream::connect(runs).is_ok() {
            return Err(Failure::usage("a gateway runs already, by hand")
                .hint("end that one first: the service would find its port taken"));
        }
        Ok(())
    }

    /// What would be done, for a person.
    fn plan(&self) -> String {
        let mut text = String::new();
        let mut file = |path: &str, content: &str| {
            let _ = writeln!(text, "would write `{}`:", self.at(path).display());
            for line in content.lines() {
                let _ = writeln!(text, "{}", format!("    {line}").trim_end());
            }
        };
        if self.account().is_none() {
            file(SYSUSERS, &sysusers());
        }
        file(UNIT, &unit(&self.program));
        if !self.at(CONFIG).exists() {
            file(CONFIG, DEFAULTS);
        }
        if let Some(old) = &self.by_hand {
            let to = self.at(STATE).join("identity");
            let _ = writeln!(text, "would copy the key `{}` to `{}`", old.display(), to.display());
        }
        let _ = writeln!(text, "would run `systemctl enable {NAME}`, and start it");
        text
    }

    fn write(&self, changes: &mut Changes) -> Outcome {
        for folder in ["/etc/sysusers.d", "/etc/systemd/system", "/etc/wayhome"] {
            changes.folder(&self.at(folder), 0o755, None)?;
        }
        self.say(changes.file(&self.at(SYSUSERS), sysusers().as_bytes(), READABLE)?, SYSUSERS);
        if self.root.is_none() && self.account().is_none() {
            let made = systemd::run(Command::new("systemd-sysusers").arg(SYSUSERS))?;
            if self.account().is_none() {
                return Err(Failure::new(format!("the user `{USER}` could not be made"))
                    .because(&systemd::said(&made)));
            }
            report::note(format!("made the user `{USER}`, as which the gateway runs"));
        }
        let account = self.account();
        changes.folder(&self.at(STATE), 0o700, account.as_ref())?;
        if let Some(old) = &self.by_hand {
            changes.key(old, &self.at(STATE).join("identity"), account.as_ref())?;
            report::note(format!(
                "the key `{}` is the service's from now on: homes and laptops know it",
                old.display()
            ));
        }
        self.let_read(account.as_ref())?;
        if !self.at(CONFIG).exists() {
            self.say(changes.file(&self.at(CONFIG), DEFAULTS.as_bytes(), READABLE)?, CONFIG);
        }
        let unit = unit(&self.program);
        self.say(changes.file(&self.at(UNIT), unit.as_bytes(), READABLE)?, UNIT);
        Ok(())
    }

    /// The account must be able to read what is not for everybody.
    fn let_read(&self, account: Option<&Account>) -> Outcome {
        let Some(account) = account.filter(|_| rustix::process::geteuid().is_root()) else {
            return Ok(());
        };
        for path in [GRANTS, CONFIG] {
            let file = self.at(path);
            let Ok(meta) = fs::metadata(&file) else { continue };
            let readable = meta.mode() & 0o004 != 0
                || meta.gid() == account.gid && meta.mode() & 0o040 != 0
                || meta.uid() == account.uid;
            if readable {
                continue;
            }
            let failed = |why: std::io::Error| {
                let shown = file.display();
                Failure::new(format!("`{shown}` cannot be made readable for `{USER}`"))
                    .because(&why)
            };
            std::os::unix::fs::chown(&file, None, Some(account.gid)).map_err(failed)?;
            let mode = fs::Permissions::from_mode(meta.mode() & 0o700 | 0o040);
            fs::set_permissions(&file, mode).map_err(failed)?;
            report::note(format!("`{}` can be read by `{USER}` now", file.display()));
        }
        Ok(())
    }

    fn say(&self, is_new: bool, path: &str) {
        let shown = self.at(path);
        match is_new {
            true => report::note(format!("wrote `{}`", shown.display())),
            false => report::note(format!("`{}` is already as it should be", shown.display())),
        }
    }

    fn start(&self) -> Outcome {
        if self.root.is_some() {
            return self.systemd.ctl(&["enable", NAME]);
        }
        self.systemd.ctl(&["daemon-reload"])?;
        self.systemd.ctl(&["enable", NAME])?;
        self.systemd
            .ctl(&["restart", NAME])
            .map_err(|failure| failure.hint(format!("see why: `journalctl -u {NAME}`")))?;
        report::note(format!("`{NAME}` runs, and is started with the machine"));
        let until = Instant::now() + FIRST_ANSWER;
        loop {
            match snapshot() {
                Ok(snapshot) => return report::data("the status", table(&snapshot)),
                Err(why) if Instant::now() > until => {
                    return Err(Failure::new("the gateway does not answer")
                        .because(&why)
                        .hint(format!("see why: `journalctl -u {NAME}`")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

/// What stands in a configuration that was not there.
const DEFAULTS: &str =
    "# The gateway's configuration. Each value has a default: see the README, \"The gateway\".\n";

fn snapshot() -> std::io::Result<GatewaySnapshot> {
    let runtime = runtime().map_err(|failure| std::io::Error::other(failure.to_string()))?;
    runtime.block_on(control::ask(&Path::new(RUNTIME).join(SOCKET), Asked::Status))
}

/// Takes away what an installation wrote, and only that; with `purge`, the key and the account too.
/// `true` if there was anything.
///
/// # Errors
/// If it cannot be stopped, or a file not removed.
pub fn uninstall(request: &Request, purge: bool) -> Outcome<bool> {
    let root = request.root.as_deref();
    if !request.dry_run {
        super::may_change("uninstall", false, root)?;
    }
    image::check(root, [UNIT, SYSUSERS, STATE].map(Path::new))?;
    let at = |path: &str| below(root, Path::new(path));
    let systemd = Systemd { is_own: false, root: request.root.clone() };
    let gone = |path: &Path| -> Outcome<bool> {
        if path.symlink_metadata().is_err() {
            return Ok(false);
        }
        let shown = path.display();
        if request.dry_run {
            report::data("the plan", format!("would remove `{shown}`\n"))?;
            return Ok(true);
        }
        fs::remove_file(path)
            .map_err(|why| Failure::new(format!("`{shown}` cannot be removed")).because(&why))?;
        report::note(format!("removed `{shown}`"));
        Ok(true)
    };
    let mut any = false;
    let unit = at(UNIT);
    if unit.exists() && !is_ours(&unit) {
        return Err(Failure::usage(format!(
            "`{}` was not written by wayhome, and is left alone",
            unit.display()
        )));
    }
    if unit.exists() {
        if request.dry_run {
            report::data("the plan", format!("would run `systemctl disable --now {NAME}`\n"))?;
        } else {
            systemd.must_run()?;
            match root {
                Some(_) => systemd.ctl(&["disable", NAME])?,
                None => systemd.ctl(&["disable", "--now", NAME])?,
            }
        }
        any |= gone(&unit)?;
        if root.is_none() && !request.dry_run {
            systemd.ctl(&["daemon-reload"])?;
            // One that had failed would be listed until the next boot.
            let _ = systemd.ctl(&["reset-failed", NAME]);
        }
    }
    if purge {
        for file in ["identity", "identity.pub"] {
            any |= gone(&at(STATE).join(file))?;
        }
        if is_ours(&at(SYSUSERS)) {
            if !request.dry_run {
                let _ = fs::remove_dir(at(STATE));
            }
            if root.is_none() && !request.dry_run && account::find(USER).is_some() {
                let done = systemd::run(Command::new("userdel").arg(USER))?;
                if !done.status.success() {
                    return Err(Failure::new(format!("the user `{USER}` cannot be removed"))
                        .because(&systemd::said(&done)));
                }
                report::note(format!("removed the user `{USER}`"));
            }
            any |= gone(&at(SYSUSERS))?;
            if !request.dry_run {
                // Only if nothing else lies there.
                let _ = fs::remove_dir(at("/etc/sysusers.d"));
            }
        }
        // Of the configuration, what an installation wrote; the grants are the person's.
        if fs::read_to_string(at(CONFIG)).is_ok_and(|text| text == DEFAULTS) {
            any |= gone(&at(CONFIG))?;
        }
    }
    if !any && !request.dry_run {
        report::note(format!("`{NAME}` is not installed"));
    }
    Ok(any)
}

/// The service and its gateway.
#[derive(Serialize)]
struct Shown {
    unit: UnitStatus,
    gateway: Option<GatewaySnapshot>,
}

/// Shows how it is. The exit code says whether it runs.
///
/// # Errors
/// If it runs and does not answer.
pub fn show(root: Option<PathBuf>, json: bool) -> Outcome<u8> {
    let systemd = Systemd { is_own: false, root: root.clone() };
    let unit = match &root {
        Some(root) => UnitStatus::of_image(NAME, Path::new(UNIT), root, &systemd)?,
        None => {
            systemd.must_run()?;
            UnitStatus::read(NAME, &systemd.show(NAME)?, monotonic())
        }
    };
    let (is_active, is_enabled) = (unit.active, unit.enabled);
    let gateway = match is_active {
        true => Some(snapshot().map_err(|why| {
            Failure::usage("the service's gateway does not answer").because(&why)
        })?),
        false => None,
    };
    let shown = Shown { unit, gateway };
    let text = if json {
        serde_json::to_string_pretty(&shown)
            .map_err(|why| Failure::new("the status cannot be written as JSON").because(&why))?
            + "\n"
    } else {
        match &shown.gateway {
            Some(gateway) => format!("{}\n{}", shown.unit, table(gateway)),
            None => shown.unit.to_string(),
        }
    };
    report::data("the status", text)?;
    Ok(if is_active || root.is_some() && is_enabled { 0 } else { FAILED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit() {
        insta::assert_snapshot!(unit(Path::new("/usr/local/bin/wayhome")));
    }
}

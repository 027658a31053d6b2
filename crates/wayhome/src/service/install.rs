//! `wayhome service install agent`: all is looked at first, then the service logs in once as it
//! will, and only then is it installed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wayhome_core::status::Snapshot;

use super::account::{self, Account};
use super::adopt::{self, Adopted};
use super::apply::{Changes, Kind};
use super::dial::{self, Trial};
use super::image::{self, below};
use super::plan::{self, Facts, Shown, Step};
use super::systemd::{self, Systemd};
use super::unit::{MARK, NAME, OWN_USER, RunsAs, STATE, Unit, sysusers};
use super::{config_place, unit_place};
use crate::agent::control::{self, Asked};
use crate::agent::ssh::pin::{self, FirstContact};
use crate::command::agent::runtime;
use crate::command::status;
use crate::config::{Config, identity};
use crate::error::{Failure, Outcome};
use crate::report;

/// How long the roads may take before the status is shown as it is.
const FIRST_ROADS: Duration = Duration::from_secs(15);

/// What was asked for.
#[derive(Debug)]
pub struct Request {
    /// The configuration, if not the one in its place.
    pub config: Option<PathBuf>,
    /// Whom the agent is to run as.
    pub runs_as: RunsAs,
    /// The image to write into.
    pub root: Option<PathBuf>,
    /// How a new gateway is met.
    pub first: FirstContact,
    /// Whether to log in before.
    pub dial: bool,
    /// Whether only to show what would be done.
    pub dry_run: bool,
}

/// Installs the agent's service.
pub fn install(request: &Request) -> Outcome {
    let systemd = Systemd { is_own: request.runs_as == RunsAs::Me, root: request.root.clone() };
    if !request.dry_run {
        super::may_change("install", systemd.is_own, request.root.as_deref())?;
        systemd.must_run()?;
    }
    let root = request.root.as_deref();
    image::check(root, [])?;
    let service = service_account(request)?;
    let unit = Unit {
        program: program(root)?,
        config: config_place(&request.runs_as)?,
        runs_as: request.runs_as.clone(),
        systemd: systemd.version(),
    };
    let adopted = adopted(request, &unit, service.as_ref())?;
    refuse_what_cannot_work(request, &unit, &adopted)?;
    let facts = Facts {
        unit: &unit,
        unit_file: unit_place(&request.runs_as)?,
        adopted: &adopted,
        has_account: service.is_some() && !is_ours(&below(root, Path::new(plan::SYSUSERS))),
        is_here: root.is_none(),
        dial: request.dial,
    };
    let steps = plan::install(&facts);
    image::check(root, steps.iter().filter_map(Step::place))?;
    let mut installation =
        Installation { request, systemd, unit: &unit, adopted: &adopted, service, replaced: None };
    if request.dry_run {
        return installation.show(&steps);
    }
    installation.perform(&steps)
}

/// The account that the service runs as, if it is there already.
fn service_account(request: &Request) -> Outcome<Option<Account>> {
    let find = |name: &str| match &request.root {
        Some(root) => account::find_in(root, name),
        None => account::find(name),
    };
    match &request.runs_as {
        RunsAs::Me => Ok(account::me()),
        RunsAs::Own => Ok(find(OWN_USER)),
        RunsAs::Person(name) => match find(name) {
            Some(account) if account.uid == 0 => {
                Err(Failure::usage("the agent does not run as root: it has no need of it")
                    .hint("leave `--as` out: it gets a user of its own"))
            }
            Some(account) => Ok(Some(account)),
            None => Err(Failure::usage(format!("there is no user `{name}`"))),
        },
    }
}

/// This program, where the service will find it.
pub fn program(root: Option<&Path>) -> Outcome<PathBuf> {
    let here = std::env::current_exe()
        .map_err(|error| Failure::new("the path of this program is not known").because(&error))?;
    // The kernel says so of a program that was replaced while it ran.
    let here = here.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let Some(root) = root else { return Ok(here.into()) };
    let places = [here.as_str(), "/usr/local/bin/wayhome", "/usr/bin/wayhome"].map(PathBuf::from);
    places.into_iter().find(|place| below(Some(root), place).is_file()).ok_or_else(|| {
        let to = below(Some(root), Path::new("/usr/local/bin/wayhome"));
        Failure::usage(format!("there is no wayhome in the image `{}`", root.display()))
            .hint(format!("install -D -m 755 {here} {}", to.display()))
    })
}

/// Reads the configuration, and makes it the service's.
fn adopted(request: &Request, unit: &Unit, service: Option<&Account>) -> Outcome<Adopted> {
    let in_place = below(request.root.as_deref(), &unit.config);
    let file = request.config.as_ref().unwrap_or(&in_place);
    let text = Config::text_of(file).map_err(|failure| match request.config {
        Some(_) => failure,
        None => failure.hint("write one, or name another: `--config FILE`"),
    })?;
    let whole = file.canonicalize().unwrap_or_else(|_| file.clone());
    let stays = in_place.canonicalize().is_ok_and(|place| place == whole);
    let file = if stays { unit.config.clone() } else { whole };
    // `~` is the home of whoever the file was written for.
    let home = match (&request.runs_as, stays) {
        (RunsAs::Own, true) => PathBuf::from(STATE),
        (RunsAs::Own, false) => account::person().map(|person| person.home).unwrap_or_default(),
        _ => service.map(|account| account.home.clone()).unwrap_or_default(),
    };
    adopt::adopt(&text, &file, &unit.config, &home, &request.runs_as)
}

/// What can be told without logging in.
fn refuse_what_cannot_work(request: &Request, unit: &Unit, adopted: &Adopted) -> Outcome {
    let hidden = |what: &str, path: &Path, remedy: String| {
        let shown = path.display();
        let why = format!("{what} `{shown}` lies where the service's sandbox hides it");
        if unit.hides(path) { Err(Failure::usage(why).hint(remedy)) } else { Ok(()) }
    };
    let program = unit.program.display();
    hidden(
        "the program",
        &unit.program,
        format!("sudo install -m 755 {program} /usr/local/bin/, and run that one"),
    )?;
    for key in &adopted.keys {
        let (from, to) = (key.from.display(), key.to.display());
        let person = owner_of(&key.from).unwrap_or_else(|| "USER".to_owned());
        hidden(
            "the identity",
            &key.to,
            format!(
                "run the agent as that person, `--as {person}`; or move `{to}` to {STATE}/keys"
            ),
        )?;
        identity::check_unattended(&key.from)
            .map_err(|failure| failure.at(&format!("the service cannot log in with `{from}`")))?;
    }
    for gateway in adopted.config.ssh_gateways() {
        let remedy = "leave `known_hosts` out: the service has a file of its own".to_owned();
        hidden("the file of pins", &gateway.known_hosts, remedy)?;
        let own_ssh = below(request.root.as_deref(), Path::new(STATE)).join(".ssh");
        if gateway.identity.is_none() && request.runs_as == RunsAs::Own && !own_ssh.is_dir() {
            return Err(Failure::usage(format!(
                "no `identity` is named for the gateway `{}`, and the service has none of its own",
                gateway.address
            ))
            .hint("name one in agent.toml: identity = \"~/.ssh/wayhome\""));
        }
    }
    Ok(())
}

fn owner_of(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    account::find(&fs::metadata(path).ok()?.uid().to_string()).map(|account| account.name)
}

/// Whether a file was written by an installation.
pub fn is_ours(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.starts_with(MARK))
}

struct Installation<'a> {
    request: &'a Request,
    systemd: Systemd,
    unit: &'a Unit,
    adopted: &'a Adopted,
    service: Option<Account>,
    /// Whether the unit is another than before; `None` until that is known.
    replaced: Option<bool>,
}

impl Installation<'_> {
    /// Prints what would be done.
    fn show(&self, steps: &[Step]) -> Outcome {
        let known = [];
        let trial = self.trial(&self.unit.config, &known);
        let dial = command_line(&trial.command());
        let mut text = String::new();
        let root = self.request.root.as_deref();
        let is_there = |step: &&Step| match step {
            Step::Folder { path, .. } => below(root, path).is_dir(),
            _ => false,
        };
        for step in steps.iter().filter(|step| !is_there(step)) {
            let shown = Shown {
                step,
                service: self.unit.runs_as.user().unwrap_or("yourself"),
                is_own: self.systemd.is_own,
                dial: &dial,
                root,
            };
            let _ = write!(text, "{shown}");
        }
        report::data("the plan", text)
    }

    fn perform(&mut self, steps: &[Step]) -> Outcome {
        let mut changes = Changes::default();
        let had_account = self.service.is_some();
        // A service that is there as a whole and does not start is left to be looked at.
        let whole = steps.iter().position(|step| *step == Step::Enable).unwrap_or(steps.len());
        let (before, after) = steps.split_at(whole);
        if let Err(failure) = self.write_all(before, &mut changes) {
            changes.undo();
            let is_here = self.request.root.is_none();
            if is_here && !had_account && self.request.runs_as == RunsAs::Own {
                // It may not have come to that; what failed first is the error to tell.
                let _ = systemd::run(std::process::Command::new("userdel").arg(OWN_USER));
            }
            return Err(failure.note("nothing was installed"));
        }
        for step in after {
            self.perform_one(step, &mut changes)?;
        }
        if self.request.root.is_none() {
            self.say_how_it_is()?;
        }
        Ok(())
    }

    fn write_all(&mut self, steps: &[Step], changes: &mut Changes) -> Outcome {
        for step in steps {
            self.perform_one(step, changes)?;
        }
        if steps.contains(&Step::Dial) { Ok(()) } else { self.carry_pins_over(changes) }
    }

    fn perform_one(&mut self, step: &Step, changes: &mut Changes) -> Outcome {
        let root = self.request.root.as_deref();
        match step {
            Step::Account { file } => {
                let file = below(root, file);
                if let Some(folder) = file.parent() {
                    changes.folder(folder, 0o755, None)?;
                }
                changes.file(&file, sysusers().as_bytes(), READABLE)?;
                if root.is_none() {
                    self.make_account(&file)?;
                }
            }
            Step::Folder { path, mode, owner } => {
                changes.folder(&below(root, path), *mode, self.owner(*owner))?;
            }
            Step::Key(key) => {
                let owner = self.owner(plan::Owner::Service).cloned();
                if changes.key(&key.from, &below(root, &key.to), owner.as_ref())? {
                    self.replaced.get_or_insert(false);
                    report::note(format!(
                        "copied the key `{}` to `{}`",
                        key.from.display(),
                        below(root, &key.to).display()
                    ));
                }
            }
            Step::Dial => self.dial(changes)?,
            Step::File { path, text, keep } => {
                let path = below(root, path);
                self.write(&path, text, *keep, changes)?;
            }
            Step::Enable => {
                if root.is_none() {
                    self.systemd.ctl(&["daemon-reload"])?;
                }
                self.systemd.ctl(&["enable", NAME])?;
            }
            Step::Start => self.start()?,
        }
        Ok(())
    }

    fn make_account(&mut self, file: &Path) -> Outcome {
        let is_new = self.service.is_none();
        let output = systemd::run(std::process::Command::new("systemd-sysusers").arg(file))?;
        self.service = account::find(OWN_USER);
        if self.service.is_none() {
            let what = format!("the user `{OWN_USER}` could not be made");
            return Err(Failure::new(what).because(&systemd::said(&output)));
        }
        if is_new {
            report::note(format!("made the user `{OWN_USER}`, as which the agent runs"));
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, text: &str, keep: bool, changes: &mut Changes) -> Outcome {
        if !keep && path.exists() && !is_ours(path) {
            let shown = path.display();
            return Err(Failure::usage(format!(
                "`{shown}` is there already, and not of wayhome's"
            ))
            .hint("remove it first, if you do not need it"));
        }
        if keep && fs::read(path).is_ok_and(|before| before != text.as_bytes()) {
            let mut old = path.as_os_str().to_owned();
            old.push(".old");
            let before = fs::read(path).unwrap_or_default();
            changes.file(Path::new(&old), &before, READABLE)?;
            report::note(format!("the configuration before is kept in `{}`", old.display()));
        }
        let shown = path.display();
        if changes.file(path, text.as_bytes(), READABLE)? {
            // Another configuration is taken over in the run; another unit is not.
            self.replaced = Some(self.replaced.unwrap_or_default() || !keep);
            report::note(format!("wrote `{shown}`"));
        } else {
            report::note(format!("`{shown}` is already as it should be"));
        }
        Ok(())
    }

    fn trial<'b>(&'b self, config: &'b Path, known: &'b [PathBuf]) -> Trial<'b> {
        Trial {
            systemd: &self.systemd,
            unit: self.unit,
            config,
            owner: self.owner(plan::Owner::Service),
            known,
            first: self.request.first,
        }
    }

    /// Logs in with the configuration as it will be, from a folder of its own: one that already
    /// runs must not take it over before it has been tried.
    fn dial(&self, changes: &mut Changes) -> Outcome {
        let known = self.known();
        if self.adopted.stays {
            return self.trial(&self.unit.config, &known).run(changes);
        }
        let failed = |error: &std::io::Error| {
            Failure::new("the configuration cannot be put where the sandbox reads it")
                .because(error)
        };
        let place = if self.systemd.is_own {
            crate::paths::runtime_dir()?.parent().map(Path::to_owned).unwrap_or_default()
        } else {
            PathBuf::from("/run")
        };
        let folder = tempfile::Builder::new()
            .prefix("wayhome-trial-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(place)
            .map_err(|e| failed(&e))?;
        let file = folder.path().join("agent.toml");
        Changes::default().file(&file, self.adopted.text.as_bytes(), READABLE)?;
        self.trial(&file, &known).run(changes)
    }

    /// Without a login, what the person knows of the gateways is all that there is.
    fn carry_pins_over(&self, changes: &mut Changes) -> Outcome {
        let root = self.request.root.as_deref();
        let runtime = runtime()?;
        for gateway in self.adopted.config.ssh_gateways() {
            let pinned_as = runtime.block_on(pin::pinned_name(gateway))?;
            let file = below(root, &self.service_pins(&gateway.known_hosts));
            if !runtime.block_on(pin::keys_in(&file, &pinned_as))?.is_empty() {
                continue;
            }
            let keys = dial::known_keys(&self.known(), &pinned_as);
            if keys.is_empty() {
                report::warning(format!(
                    "the gateway `{}` is not pinned: the agent will wait at its door until a line of its key is in `{}`",
                    gateway.address,
                    file.display()
                ));
                continue;
            }
            let pins = pin::read_pins(&file)?;
            let pins = keys.iter().fold(pins, |pins, key| pin::with_pin(pins, &pinned_as, key));
            dial::write(&file, &pins, self.owner(plan::Owner::Service), changes)?;
        }
        Ok(())
    }

    /// Where the service has its pins; what stands in the configuration by default is whoever
    /// installs it.
    fn service_pins(&self, known_hosts: &Path) -> PathBuf {
        let by_default = crate::paths::state_dir().map(|state| state.join("known_hosts"));
        if !self.systemd.is_own && by_default.is_ok_and(|file| file == known_hosts) {
            return Path::new(STATE).join("known_hosts");
        }
        known_hosts.to_owned()
    }

    /// Where the person has gateways' keys already.
    fn known(&self) -> Vec<PathBuf> {
        let mut files = self.adopted.pins.clone();
        if let Some(person) = account::person() {
            files.push(person.home.join(".local/state/wayhome/known_hosts"));
            files.push(person.home.join(".ssh/known_hosts"));
        }
        files.extend(crate::paths::state_dir().map(|state| state.join("known_hosts")));
        files.push("/etc/ssh/ssh_known_hosts".into());
        files
    }

    fn owner(&self, owner: plan::Owner) -> Option<&Account> {
        let may_give_away = rustix::process::geteuid().is_root();
        match owner {
            plan::Owner::Service if may_give_away => self.service.as_ref(),
            _ => None,
        }
    }

    fn start(&self) -> Outcome {
        let before = self.systemd.show(NAME)?;
        let exe = format!("/proc/{}/exe", before.get("MainPID"));
        let is_outdated =
            || fs::read_link(exe).is_ok_and(|exe| exe.to_string_lossy().ends_with(" (deleted)"));
        let verb = match self.replaced {
            _ if !before.is_active() => "start",
            Some(true) => "restart",
            _ if is_outdated() => "restart",
            Some(false) => "reload",
            None => "start",
        };
        let mut done = self.systemd.ctl(&[verb, NAME]);
        if verb == "reload" && done.is_err() {
            // What cannot be taken over in the run, such as another name.
            done = self.systemd.ctl(&["restart", NAME]);
        }
        done.map_err(|failure| {
            let journal = if self.systemd.is_own { "journalctl --user" } else { "journalctl" };
            failure.hint(format!("see why: `{journal} -u {NAME}`"))
        })
    }

    /// The roads, once they are there; and what a person has to know.
    fn say_how_it_is(&self) -> Outcome {
        let manager = if self.systemd.is_own { "systemctl --user" } else { "systemctl" };
        report::note(format!("`{NAME}` runs"));
        if self.systemd.is_own {
            let name = account::me().map(|me| me.name).unwrap_or_default();
            if systemd::lingers(&name) {
                report::note("it runs from boot on, also while you are not logged in (lingering)");
            } else {
                report::warning(format!(
                    "it runs only while you are logged in: from your first login until your last logout\n  hint: so that it runs from boot on: `loginctl enable-linger {name}`"
                ));
            }
        }
        if !self.systemd.is_own {
            report::note("it is started with the machine");
        }
        let socket = self.socket()?;
        let runtime = runtime()?;
        let until = Instant::now() + FIRST_ROADS;
        let snapshot = loop {
            let asked = runtime.block_on(control::ask::<Snapshot>(&socket, Asked::Status));
            match asked {
                Ok(snapshot) if snapshot.all_up() || Instant::now() > until => break snapshot,
                Err(error) if Instant::now() > until => {
                    return Err(Failure::new("the agent does not answer")
                        .because(&error)
                        .hint(format!("see `{manager} status {NAME}`")));
                }
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        };
        report::data("the status", status::table(&[snapshot]))
    }

    fn socket(&self) -> Outcome<PathBuf> {
        let runtime = super::runtime_place(self.systemd.is_own)?;
        Ok(control::socket_path(&runtime, &self.adopted.config.name))
    }
}

/// What the unit and the configuration are: for all to read, and for root to write.
const READABLE: Kind<'static> = Kind { mode: 0o644, owner: None };

fn command_line(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
        if word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

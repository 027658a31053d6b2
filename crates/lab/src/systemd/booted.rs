//! A booted computer: switched on and off, rebooted, unplugged and frozen, and looked into.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::cgroup::Cgroup;
use super::image::Image;
use crate::error::{Doing, Error, Result, run, tail};
use crate::eventually::eventually;
use crate::host::Host;
use crate::machine::{Machine, with_sbin};
use crate::process;

/// How long a boot may take: it takes half a second, on a loaded machine a few.
const BOOT: Duration = Duration::from_secs(60);

/// How long an orderly end may take: systemd itself gives a service 90 s to stop, and then kills it.
const SHUTDOWN: Duration = Duration::from_secs(100);

/// What `systemd-nspawn --keep-unit` ends with when the computer wants to be booted again.
const REBOOT: i32 = 133;

/// What a login finds as its `PATH` on Debian.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs in the machine, with the image as `$1` and the machine's name as `$2`. Above the image lies a
/// layer in memory: the computer's own disk, which outlives its reboots and ends with the machine.
///
/// An image has no name, no names of others, and no host key. The machine's own are known already.
const ASSEMBLE: &str = r#"
set -eu
mkdir /run/booted
cd /run/booted
mkdir image disk root
mount --bind --options ro "$1" image
mount -t tmpfs tmpfs disk
mkdir -m 755 disk/upper disk/work
mount -t overlay -o lowerdir=image,upperdir=disk/upper,workdir=disk/work overlay root
echo "$2" > root/etc/hostname
cp /etc/hosts root/etc/hosts
ssh-keygen -q -t ed25519 -N '' -C '' -f root/etc/ssh/ssh_host_ed25519_key
"#;

/// A computer with a systemd, in the network of a [`Machine`]. Dropping it ends all that runs in it,
/// and loses its disk.
#[derive(Debug)]
pub struct Booted<'a> {
    machine: &'a Machine,
    /// `None` while it is switched off.
    running: Option<Running>,
    /// After what runs in it, which has to be gone first.
    cgroup: Cgroup,
}

#[derive(Debug)]
struct Running {
    /// `systemd-nspawn`, or the way into the machine in which it runs.
    nspawn: Child,
    /// Its systemd, as the real machine numbers it.
    leader: u32,
}

impl<'a> Booted<'a> {
    /// Gives a machine a disk, boots it, and waits until its systemd has started all that it starts.
    pub fn start(image: &Image, machine: &'a Machine) -> Result<Booted<'a>> {
        let mut booted = Booted::assemble(image, machine)?;
        booted.switch_on()?;
        Ok(booted)
    }

    /// Gives a machine a disk, and leaves it switched off.
    pub fn assemble(image: &Image, machine: &'a Machine) -> Result<Booted<'a>> {
        let mut command = machine.command("sh");
        run(command.args(["-c", ASSEMBLE, "sh"]).arg(image.folder()).arg(machine.name()))?;
        let cgroup = Cgroup::make(machine.name())?;
        Ok(Booted { machine, running: None, cgroup })
    }

    /// Its name, which is its host name too.
    pub fn name(&self) -> &str {
        self.machine.name()
    }

    /// Boots it, and waits until its systemd has started all that it starts.
    pub fn switch_on(&mut self) -> Result<()> {
        self.begin_boot()?;
        let mut state = String::new();
        eventually(BOOT, || {
            state = self.state();
            // What has failed is for the test to look at.
            matches!(state.as_str(), "running" | "degraded" | "maintenance")
        });
        if matches!(state.as_str(), "running" | "degraded") {
            return Ok(());
        }
        let state = if state.is_empty() { "silent" } else { &state };
        Err(self.failed(&format!("did not boot: its systemd is {state}")))
    }

    /// Boots it, and returns as soon as its systemd runs, which then has everything yet to start.
    pub fn begin_boot(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Err(Error::new(format!("`{}` is switched on already", self.name())));
        }
        let console = self.machine.file("/run/booted/console");
        let console = fs::File::create(&console)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .doing(|| format!("could not make the console `{}`", console.display()))?;
        // Not by `Machine::command`, which would end it with the thread that spawned it.
        let nspawn = self
            .cgroup
            .command("nsenter".as_ref())
            .args(self.machine.entrance())
            .args(["systemd-nspawn", "--quiet", "--directory=/run/booted/root", "--boot"])
            // Nobody need know of it, and no unit of this machine is made for it.
            .args(["--register=no", "--keep-unit"])
            // The machine's own network, of which it then is the master.
            .arg("--network-namespace-path=/proc/1/ns/net")
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            .args([&format!("--machine={}", self.name()), "--console=read-only"])
            .env("PATH", with_sbin())
            // A console without colours, which errors quote.
            .env("TERM", "dumb")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(console.0)
            .stderr(console.1)
            .spawn()
            .doing(|| "could not start `sh`".to_owned())?;
        let running = self.running.insert(Running { nspawn, leader: 0 });
        eventually(BOOT, || {
            let below = process::descendants(running.nspawn.id());
            running.leader = below.into_iter().find(|&pid| is_leader(pid)).unwrap_or_default();
            running.leader != 0 || !matches!(running.nspawn.try_wait(), Ok(None))
        });
        if running.leader == 0 {
            return Err(self.failed("did not begin to boot"));
        }
        Ok(())
    }

    /// What `systemctl is-system-running` says: `starting`, `running`, `degraded`, …; nothing while
    /// there is no answer.
    pub fn state(&self) -> String {
        let output = self.command("systemctl").arg("is-system-running").output();
        let said = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Reboots it in an orderly way, and waits until it is up again.
    pub fn reboot(&mut self) -> Result<()> {
        self.shut_down("reboot", REBOOT)?;
        self.switch_on()
    }

    /// Switches it off in an orderly way.
    pub fn power_off(&mut self) -> Result<()> {
        self.shut_down("poweroff", 0)
    }

    /// Ends it at once. No process gets to say goodbye; its kernel does for them, so cut its line
    /// before if nobody shall hear of it.
    pub fn pull_the_plug(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        match running.leader {
            0 => drop(running.nspawn.kill()),
            leader => process::signal(leader, Signal::KILL),
        }
        // Where it was frozen, `systemd-nspawn` could not see the end of it.
        let _ = self.thaw();
        let _ = running.nspawn.wait();
    }

    /// Stops all that runs in it where it is, its systemd included, until [`Booted::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.cgroup.freeze(true)
    }

    /// Lets all go on.
    pub fn thaw(&self) -> Result<()> {
        self.cgroup.freeze(false)
    }

    /// Leaves no room on its disk for another byte or another file.
    pub fn fill_disk(&self) -> Result<()> {
        let full = "set -- $(df --output=used,iused --block-size=1K /run/booted/disk | tail -n 1)
                    mount -o remount,size=\"$1\"k,nr_inodes=\"$2\" /run/booted/disk";
        self.machine.sh(full).map(drop)
    }

    /// Gives its disk room again.
    pub fn free_disk(&self) -> Result<()> {
        self.machine.sh("mount -o remount,size=50%,nr_inodes=0 /run/booted/disk").map(drop)
    }

    /// A command that runs in it as root. It is not part of any unit or session.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let leader = self.running.as_ref().map_or(0, |running| running.leader);
        command
            .args(["--target", &leader.to_string(), "--mount", "--uts", "--ipc", "--net"])
            .args(["--pid", "--cgroup", "--root", "--wd", "--"])
            .args(["setpriv", "--pdeathsig", "KILL", "--", "env", "--chdir=/root"])
            .arg(program)
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root")])
            .env("LANG", "C.UTF-8");
        command
    }

    /// A command that runs in it as one of its users, in a session as a login at its console makes
    /// it: with a runtime folder, and with the user's own systemd.
    pub fn login(&self, user: &str, script: &str) -> Command {
        let mut command = self.command("su");
        command.args(["--login", user, "--command", script]).env("TERM", "dumb");
        command
    }

    /// Runs a shell script in it as root, to its end, and returns what it wrote.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = run(self.command("sh").args(["-euc", script]))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What its journal has of a unit in this boot, without time and host.
    pub fn journal(&self, unit: &str) -> Result<String> {
        let output =
            run(self.command("journalctl").args(["--boot", "--output=cat", "--unit", unit]))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All that it wrote to its console in this boot.
    pub fn console(&self) -> String {
        let console = fs::read(self.machine.file("/run/booted/console"));
        String::from_utf8_lossy(&console.unwrap_or_default()).into_owned()
    }

    /// The path by which this process reaches a file of it. While it is switched off, that is on its
    /// disk.
    ///
    /// Absolute symbolic links on the way are followed out of it.
    pub fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let inside = path.strip_prefix("/").unwrap_or(path);
        match &self.running {
            Some(running) => PathBuf::from(format!("/proc/{}/root", running.leader)).join(inside),
            None => self.machine.file("/run/booted/root").join(inside),
        }
    }

    /// The machine whose network it has.
    pub fn machine(&self) -> &'a Machine {
        self.machine
    }

    fn shut_down(&mut self, how: &str, code: i32) -> Result<()> {
        // It may lose its connection to systemd before it hears that all is well.
        let _ = self.command("systemctl").arg(how).output();
        let Some(running) = &mut self.running else {
            return Err(Error::new(format!("`{}` is switched off", self.name())));
        };
        let mut status = None;
        eventually(SHUTDOWN, || {
            status = running.nspawn.try_wait().ok().flatten();
            status.is_some()
        });
        if status.and_then(|status| status.code()) != Some(code) {
            let status = status.map_or("it runs on".to_owned(), |status| status.to_string());
            return Err(self.failed(&format!("does not end by `systemctl {how}` ({status})")));
        }
        self.running = None;
        Ok(())
    }

    /// An error with the end of what the console shows.
    fn failed(&self, what: &str) -> Error {
        let console = tail(&self.console());
        Error::new(format!("`{}` {what}; its console ends: {console}", self.name()))
    }
}

impl Host for Booted<'_> {
    fn command(&self, program: &OsStr) -> Command {
        Booted::command(self, program)
    }

    fn file(&self, path: &Path) -> PathBuf {
        Booted::file(self, path)
    }

    fn scratch(&self) -> PathBuf {
        PathBuf::from("/tmp")
    }

    fn owner(&self) -> (u32, u32) {
        (0, 0)
    }

    fn is_direct(&self) -> bool {
        false
    }
}

impl Drop for Booted<'_> {
    fn drop(&mut self) {
        self.pull_the_plug();
        // Gone with the machine at the latest. What is mounted there is not to be deleted.
        let away =
            "cd /run/booted; umount --lazy root disk image; rm console; rmdir root disk image
                    cd ..; rmdir booted";
        let _ = self.machine.sh(away);
    }
}

/// Whether a process is a systemd that is the first of its own.
fn is_leader(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| is_first_systemd(&status))
}

fn is_first_systemd(status: &str) -> bool {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::split_whitespace)
    };
    field("Name:").is_some_and(|mut name| name.next() == Some("systemd"))
        && field("NSpid:").is_some_and(|pids| pids.last() == Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_first_process_of_a_computer() {
        let status = |name: &str, pids: &str| format!("Name:\t{name}\nPid:\t93\nNSpid:\t{pids}\n");
        assert!(is_first_systemd(&status("systemd", "93\t12\t1")));
        assert!(!is_first_systemd(&status("systemd", "93\t12\t31")), "a user's systemd");
        assert!(!is_first_systemd(&status("systemd-nspawn", "93\t12\t1")), "about to become it");
        assert!(!is_first_systemd(""));
    }
}

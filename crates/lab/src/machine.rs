//! One computer of the lab: a process in namespaces of its own.
//!
//! Its first process reads from a pipe that this process holds; when the pipe closes, for whatever
//! reason, it ends, and the kernel ends everything in its namespaces with it. Network, processes,
//! host name, `/etc`, `/run`, `/tmp`, `/var/lib` and `/var/log` are its own and may be changed at will;
//! the rest of the file system is the real machine's.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Doing, Error, Result, run};
use crate::host::Host;
use crate::process;

/// Runs as the first process of a machine, with its name as `$1`, and as `$2` the folder that cargo
/// builds in, which is brought along where the machine has folders of its own above it. Links in `/etc` into `/run` would
/// dangle, but name resolution is by `/etc/hosts` here.
const SETUP: &str = r#"
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
case "$2" in
/tmp/* | /var/lib/*) mkdir /run/built; mount --bind "$2" /run/built ;;
esac
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run/etc /run/sshd /run/homes
cp -a /etc/. /run/etc/
# It has no wayhome, also where the machine around it has one.
rm -rf /run/etc/wayhome /run/etc/systemd/system/wayhome-*
mount --bind /run/etc /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/log
[ ! -d /run/built ] || { mkdir -p "$2"; mount --move /run/built "$2"; rmdir /run/built; }
echo "$1" > /proc/sys/kernel/hostname
echo "$1" > /etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$1" > /etc/hosts
mkdir -m 700 /run/homes/root
sed -i 's|^\(root:[^:]*:0:0:[^:]*\):[^:]*:[^:]*$|\1:/run/homes/root:/bin/sh|' /etc/passwd
grep -q ^sshd: /etc/passwd || echo sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin >> /etc/passwd
# Nobody else has our addresses, and the search for duplicates makes IPv6 late by a second.
for each in /proc/sys/net/ipv6/conf/*/accept_dad; do [ ! -e "$each" ] || echo 0 > "$each"; done
ip link set lo up
echo ready
# With SIGCHLD ignored the kernel reaps the orphans that a first process inherits.
exec env --ignore-signal=CHLD cat > /dev/null
"#;

/// A computer of the lab. Dropping it ends all that runs in it.
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// `unshare`, which waits for the machine's first process.
    keeper: Child,
    /// The pipe whose end ends the machine.
    pipe: Option<ChildStdin>,
    pid: u32,
}

impl Machine {
    /// Starts a machine without any network but `lo`.
    pub fn start(name: &str) -> Result<Machine> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "--pid", "--mount", "--uts", "--ipc"])
            .args(["--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["--", "sh", "-c", SETUP, "sh", name])
            .arg(built())
            .current_dir("/")
            .env("PATH", with_sbin())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| "could not start `unshare` (package `util-linux`)".to_owned())?;
        let pipe = keeper.stdin.take();
        let ready = wait_for_ready(&mut keeper);
        let pid = process::children(keeper.id()).first().copied();
        let machine = Machine { name: name.to_owned(), keeper, pipe, pid: pid.unwrap_or_default() };
        // From here on, an error drops the machine, and that cleans up.
        ready.map_err(|why| Error::new(format!("could not start the machine `{name}`: {why}")))?;
        if pid.is_none() {
            return Err(Error::new(format!("the machine `{name}` ended while it started")));
        }
        Ok(machine)
    }

    /// Its name, which is its host name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first process, as this machine numbers it. Once that is killed, nothing of it is left.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that runs in it as root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.enter();
        command.args(["--pdeathsig", "KILL", "--"]);
        clean(&mut command, "root", Path::new(ROOT_HOME));
        command.args(["env", "--chdir", ROOT_HOME]).arg(program);
        command
    }

    /// A command that runs in it as one of its users, in that user's home.
    ///
    /// A folder or variables set on it by the caller: variables count; `current_dir` does not.
    pub fn command_as(&self, user: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(self.user(user)?.command(program.as_ref()))
    }

    /// The machine as one of its users sees it.
    pub fn user(&self, name: &str) -> Result<User<'_>> {
        let path = self.file("/etc/passwd");
        let accounts = fs::read_to_string(&path)
            .doing(|| format!("could not read the users of the machine `{}`", self.name))?;
        let (uid, gid, home) = accounts
            .lines()
            .find_map(|line| account(line, name))
            .ok_or_else(|| Error::new(format!("no user `{name}` on `{}`", self.name)))?;
        Ok(User { machine: self, name: name.to_owned(), uid, gid, home })
    }

    /// Runs a shell script in it as root, to its end, and returns what it wrote.
    pub fn sh(&self, script: &str) -> Result<String> {
        let Output { stdout, .. } = run(self.command("sh").args(["-euc", script]))?;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Adds a user with a group of its own, a home folder and no password. A shell of
    /// `/usr/sbin/nologin` makes an account that cannot be logged in to.
    pub fn add_user(&self, name: &str, uid: u32, shell: &str) -> Result<User<'_>> {
        let home = PathBuf::from("/run/homes").join(name);
        let at = home.display();
        self.append("/etc/group", &format!("{name}:x:{uid}:\n"))?;
        self.append("/etc/passwd", &format!("{name}:x:{uid}:{uid}::{at}:{shell}\n"))?;
        // `*` is a password that nobody has; `!` would lock the account against keys as well.
        self.append("/etc/shadow", &format!("{name}:*:19000:0:99999:7:::\n"))?;
        let outside = self.file(&home);
        fs::create_dir(&outside)
            .and_then(|()| fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)))
            .and_then(|()| chown(&outside, Some(uid), Some(uid)))
            .doing(|| format!("could not make the home folder of `{name}`"))?;
        self.user(name)
    }

    /// The home folder of one of its users, as the machine sees it.
    pub fn home_of(&self, user: &str) -> Result<PathBuf> {
        Ok(self.user(user)?.home)
    }

    /// The path by which this process reaches a file of the machine.
    ///
    /// Absolute symbolic links on the way are followed out of the machine.
    pub fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let inside = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(inside)
    }

    /// Copies a program into the machine, where every user may run it, and returns its path there.
    ///
    /// A program in a folder that is private to root is otherwise out of reach.
    pub fn bring(&self, program: &Path) -> Result<PathBuf> {
        let name = program
            .file_name()
            .ok_or_else(|| Error::new(format!("`{}` is no program", program.display())))?;
        let inside = Path::new("/run/programs").join(name);
        let outside = self.file(&inside);
        fs::create_dir_all(self.file("/run/programs"))
            .and_then(|()| fs::copy(program, &outside))
            .and_then(|_| fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)))
            .doing(|| format!("could not bring `{}` to `{}`", program.display(), self.name))?;
        Ok(inside)
    }

    /// Gives the machine an empty folder of its own over one that it shares with the real machine,
    /// such as `/usr/local/libexec`. A folder that does not exist cannot be made this way.
    pub fn own_folder(&self, path: &str) -> Result<()> {
        run(self.command("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs", path])).map(drop)
    }

    /// Does something in its network from this process: sockets that are opened in there stay there,
    /// wherever they are used afterwards. Only the network is the machine's, not its files or names.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let network = fs::File::open(&path).doing(|| format!("could not open `{path}`"))?;
        // A thread of its own, since a thread that has entered does not come back.
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(network.as_fd(), kind)
                    .map_err(io::Error::from)
                    .doing(|| format!("could not enter the network `{path}`"))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
        })
    }

    /// Connects from it by TCP.
    pub fn connect(&self, to: SocketAddr, within: Duration) -> Result<TcpStream> {
        self.in_network(|| TcpStream::connect_timeout(&to, within))?
            .doing(|| format!("could not connect from `{}` to `{to}`", self.name))
    }

    /// Listens in it by TCP.
    pub fn listen(&self, at: SocketAddr) -> Result<TcpListener> {
        self.in_network(|| TcpListener::bind(at))?
            .doing(|| format!("could not listen on `{}` at `{at}`", self.name))
    }

    /// A command that enters its network alone, where process numbers and files stay the real
    /// machine's; for moving interfaces into other machines by pid.
    pub(crate) fn network_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", "--", program]);
        command.env("PATH", with_sbin());
        command
    }

    /// What `nsenter` is told to enter it by, before the program.
    pub(crate) fn entrance(&self) -> Vec<String> {
        let pid = self.pid.to_string();
        ["--target", &pid, "--net", "--pid", "--mount", "--uts", "--ipc", "--"]
            .map(str::to_owned)
            .to_vec()
    }

    /// `nsenter … -- setpriv`, to which the caller adds whom to become.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.entrance()).arg("setpriv");
        command
    }

    fn append(&self, path: &str, line: &str) -> Result<()> {
        fs::OpenOptions::new()
            .append(true)
            .open(self.file(path))
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .doing(|| format!("could not add to `{path}` of the machine `{}`", self.name))
    }
}

impl Host for Machine {
    fn command(&self, program: &OsStr) -> Command {
        Machine::command(self, program)
    }

    fn file(&self, path: &Path) -> PathBuf {
        Machine::file(self, path)
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

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // `unshare` asked that its child be killed with it, so this ends the machine also while it
        // starts, when nobody reads the pipe yet.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// One user of a [`Machine`].
#[derive(Clone, Debug)]
pub struct User<'a> {
    machine: &'a Machine,
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl User<'_> {
    /// The login name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The home folder, as the machine sees it.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A command that runs as this user, in its home.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.machine.enter();
        command.args(["--reuid", &self.uid.to_string(), "--regid", &self.gid.to_string()]).args([
            "--init-groups",
            "--pdeathsig",
            "KILL",
            "--",
        ]);
        clean(&mut command, &self.name, &self.home);
        command.args(["env", "--chdir"]).arg(&self.home).arg(program.as_ref());
        command
    }

    /// Lets keys in, each a line of `~/.ssh/authorized_keys`.
    pub fn authorize(&self, lines: &[&str]) -> Result<()> {
        let folder = self.machine.file(self.home.join(".ssh"));
        let file = folder.join("authorized_keys");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, lines.join("\n") + "\n"))
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)))
            .and_then(|()| chown(&folder, Some(self.uid), Some(self.gid)))
            .and_then(|()| chown(&file, Some(self.uid), Some(self.gid)))
            .doing(|| format!("could not write the authorized keys of `{}`", self.name))
    }
}

impl Host for User<'_> {
    fn command(&self, program: &OsStr) -> Command {
        User::command(self, program)
    }

    fn file(&self, path: &Path) -> PathBuf {
        self.machine.file(path)
    }

    fn scratch(&self) -> PathBuf {
        PathBuf::from("/tmp")
    }

    fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    fn is_direct(&self) -> bool {
        false
    }
}

/// Root's home in every machine, so that the real one's `.ssh` is neither read nor written while
/// programs that lie under the real one stay in reach.
const ROOT_HOME: &str = "/run/homes/root";

/// The folder that cargo builds in, if this program lies in one; cargo marks it (`CACHEDIR.TAG`).
pub(crate) fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let marked = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.map(Path::to_owned).unwrap_or_default()
}

/// The environment of a fresh login, as far as programs look at it.
fn clean(command: &mut Command, user: &str, home: &Path) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("XDG_") || text.starts_with("SSH_") || text.starts_with("DBUS_") {
            command.env_remove(&name);
        }
    }
    command.env("PATH", with_sbin()).env("HOME", home).env("USER", user).env("LOGNAME", user);
}

/// `PATH` with the folders of `ip` and `nft`, which a user's often lacks.
pub(crate) fn with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    format!("{path}:/usr/sbin:/sbin")
}

fn wait_for_ready(keeper: &mut Child) -> std::result::Result<(), String> {
    let mut line = String::new();
    if let Some(stdout) = keeper.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line == "ready\n" {
        return Ok(());
    }
    // The end of its output came first, so it has ended or is about to.
    let mut said = String::new();
    if let Some(stderr) = keeper.stderr.as_mut() {
        let _ = stderr.read_to_string(&mut said);
    }
    Err(said.trim().to_owned())
}

/// User, group and home of an account, if a line of `passwd` is about it.
fn account(line: &str, name: &str) -> Option<(u32, u32, PathBuf)> {
    let mut fields = line.split(':');
    if fields.next()? != name {
        return None;
    }
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let _real_name = fields.next()?;
    Some((uid, gid, PathBuf::from(fields.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_accounts() {
        let line = "fan:x:1001:1002:Fan,,,:/run/homes/fan:/bin/sh";
        assert_eq!(account(line, "fan"), Some((1001, 1002, PathBuf::from("/run/homes/fan"))));
        assert_eq!(account(line, "fa"), None);
        assert_eq!(account("+::::::", "fan"), None);
    }
}

//! Throwaway OpenSSH servers: a folder with a host key and a configuration, a port, a process.
//!
//! Runs as root (any user can log in) or as a plain user (only that one can), here or in a
//! [`Machine`](crate::Machine).

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::error::{Doing, Error, Result, tail};
use crate::eventually::eventually;
use crate::host::Host;
use crate::keys::Key;
use crate::openssh::OpenSsh;
use crate::process;

/// How long a server may take to listen: it takes some 10 ms, on a loaded machine perhaps 1 s.
const START: Duration = Duration::from_secs(10);

/// How often another port is tried when a chosen one was taken meanwhile.
const PORTS_TRIED: u32 = 5;

/// A running server. Dropping it ends it and the sessions that it serves.
#[derive(Debug)]
pub struct Sshd {
    server: Server,
    port: u16,
    host_key: Key,
    /// As this process reaches it. Removed after the server has ended, which fields above it do.
    folder: TempDir,
}

impl Sshd {
    /// Prepares a server; [`Builder::start`] starts it.
    pub fn builder(openssh: &OpenSsh) -> Builder {
        Builder {
            openssh: openssh.clone(),
            port: None,
            listen: Vec::new(),
            pam: false,
            host_key: None,
            authorized: Vec::new(),
            home_keys: false,
            lines: Vec::new(),
        }
    }

    /// The process that listens, as this machine numbers it.
    pub fn pid(&self) -> u32 {
        self.server.pid
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All that it has logged until now.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    /// Its host key: `ssh-ed25519 AAAA…`, without a comment.
    pub fn host_key_line(&self) -> String {
        let line = self.host_key.public_line();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// A line of `known_hosts` for this server at an address, with its port.
    pub fn known_hosts_line(&self, address: &str) -> String {
        match self.port {
            22 => format!("{address} {}", self.host_key_line()),
            port => format!("[{address}]:{port} {}", self.host_key_line()),
        }
    }

    /// Stops listening, and leaves the sessions alone, also when dropped: what the end of the service
    /// does. They end when their clients or their machine do.
    pub fn stop_listening(&mut self) {
        process::signal(self.server.pid, Signal::TERM);
        let _ = self.server.child.wait();
    }

    /// Ends the server and its sessions.
    pub fn stop(self) {
        // All is done by dropping it.
    }
}

/// The processes of a server.
#[derive(Debug)]
struct Server {
    /// What was spawned: the server, or the way into its machine.
    child: Child,
    pid: u32,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let sessions = process::descendants(self.pid);
            process::signal(self.pid, Signal::KILL);
            for session in sessions {
                process::signal(session, Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server shall be like.
#[derive(Clone, Debug)]
#[must_use = "a server starts with `start`"]
pub struct Builder {
    openssh: OpenSsh,
    port: Option<u16>,
    listen: Vec<String>,
    pam: bool,
    host_key: Option<String>,
    authorized: Vec<(String, String)>,
    home_keys: bool,
    lines: Vec<String>,
}

impl Builder {
    /// A fixed port; without one, a free one is found.
    pub fn port(mut self, port: u16) -> Builder {
        self.port = Some(port);
        self
    }

    /// An address to listen on (`0.0.0.0`, `::`, …), once for each; without any it is `127.0.0.1`.
    pub fn listen(mut self, address: &str) -> Builder {
        self.listen.push(address.to_owned());
        self
    }

    /// Whether logins pass through PAM, as they do on Debian; needs root. Off at first.
    pub fn pam(mut self, pam: bool) -> Builder {
        self.pam = pam;
        self
    }

    /// The text of the host's private key, for a server that shall be known again.
    pub fn host_key(mut self, private: &str) -> Builder {
        self.host_key = Some(private.to_owned());
        self
    }

    /// A line of `authorized_keys` that lets a key in as `user`.
    pub fn authorize(mut self, user: &str, line: &str) -> Builder {
        self.authorized.push((user.to_owned(), line.trim().to_owned()));
        self
    }

    /// Also reads each user's own `~/.ssh/authorized_keys`.
    pub fn home_keys(mut self) -> Builder {
        self.home_keys = true;
        self
    }

    /// A further line of configuration. It comes before the builder's own lines, and sshd heeds the
    /// first that it reads. A `LogLevel` below INFO would hide that it has started.
    pub fn line(mut self, line: &str) -> Builder {
        self.lines.push(line.to_owned());
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(&self, host: &(impl Host + ?Sized)) -> Result<Sshd> {
        let (uid, gid) = host.owner();
        let folder = tempfile::Builder::new()
            .prefix("sshd-")
            .tempdir_in(host.file(&host.scratch()))
            .doing(|| "could not make a folder for an sshd".to_owned())?;
        let name = folder.path().file_name().unwrap_or_default();
        let inside = host.scratch().join(name);
        let outside = folder.path();
        // A server of root reads the authorized keys as the user who logs in.
        let mode = if uid == 0 { 0o711 } else { 0o700 };
        fs::set_permissions(outside, fs::Permissions::from_mode(mode))
            .and_then(|()| chown(outside, Some(uid), Some(gid)))
            .doing(|| format!("could not prepare the folder `{}`", outside.display()))?;
        if uid == 0 {
            make_run_sshd(host)?;
        }
        self.write_authorized_keys(outside, (uid, gid))?;
        let host_key = self.write_host_key(host, &inside)?;

        let log = outside.join("log");
        for _ in 0..PORTS_TRIED {
            let port = self.port.map_or_else(free_port, Ok)?;
            write(&outside.join("sshd_config"), &self.config(&inside, port), (uid, gid), 0o600)?;
            let stderr = fs::File::create(&log)
                .doing(|| format!("could not make the log `{}`", log.display()))?;
            let mut command = host.command(self.openssh.sshd().as_os_str());
            command.args(["-D", "-e", "-f"]).arg(inside.join("sshd_config"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
            let child = command.spawn().doing(|| {
                "could not start an sshd: `setpriv` or `nsenter` is missing".to_owned()
            })?;
            let mut server = Server { pid: child.id(), child };
            match self.wait_until_it_listens(&mut server, &log) {
                Started::Yes => {}
                Started::PortTaken if self.port.is_none() => continue,
                Started::PortTaken | Started::No => break,
            }
            if !host.is_direct() {
                let children = process::children(server.pid);
                let Some(&listener) = children.first() else { break };
                server.pid = listener;
            }
            return Ok(Sshd { server, port, host_key, folder });
        }
        Err(Error::new(format!("an sshd did not start; its log ends: {}", tail(&read(&log)))))
    }

    fn wait_until_it_listens(&self, server: &mut Server, log: &Path) -> Started {
        let mut started = Started::No;
        eventually(START, || {
            // Whether it has ended is asked first, so that the log of one that has is whole.
            let ended = !matches!(server.child.try_wait(), Ok(None));
            let log = read(log);
            let listening = log.matches("Server listening on ").count();
            started = if log.contains("Address already in use") {
                Started::PortTaken
            } else if listening >= self.addresses().len() && !ended {
                Started::Yes
            } else {
                Started::No
            };
            ended || started != Started::No
        });
        started
    }

    fn config(&self, folder: &Path, port: u16) -> String {
        let folder = folder.display();
        let mut config: Vec<String> = self.lines.clone();
        config.push(format!("Port {port}"));
        config.extend(self.addresses().iter().map(|address| format!("ListenAddress {address}")));
        config.push(format!("HostKey {folder}/host_key"));
        config.push("PidFile none".to_owned());
        let home = if self.home_keys { " .ssh/authorized_keys" } else { "" };
        config.push(format!("AuthorizedKeysFile {folder}/keys/%u{home}"));
        config.push(format!("UsePAM {}", if self.pam { "yes" } else { "no" }));
        // The folder may lie under `/tmp`, which everybody may write to.
        config.push("StrictModes no".to_owned());
        config.push("PasswordAuthentication no".to_owned());
        config.push("KbdInteractiveAuthentication no".to_owned());
        config.push("LogLevel VERBOSE".to_owned());
        let parts = self.openssh.parts();
        config.extend(parts.iter().map(|(key, path)| format!("{key} {}", path.display())));
        config.join("\n") + "\n"
    }

    fn addresses(&self) -> Vec<String> {
        if self.listen.is_empty() { vec!["127.0.0.1".to_owned()] } else { self.listen.clone() }
    }

    fn write_authorized_keys(&self, folder: &Path, owner: (u32, u32)) -> Result<()> {
        let keys = folder.join("keys");
        fs::create_dir(&keys)
            .and_then(|()| fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)))
            .and_then(|()| chown(&keys, Some(owner.0), Some(owner.1)))
            .doing(|| format!("could not make the folder `{}`", keys.display()))?;
        for (user, _) in &self.authorized {
            let lines: Vec<&str> = self
                .authorized
                .iter()
                .filter(|(other, _)| other == user)
                .map(|(_, line)| line.as_str())
                .collect();
            write(&keys.join(user), &(lines.join("\n") + "\n"), owner, 0o644)?;
        }
        Ok(())
    }

    fn write_host_key(&self, host: &(impl Host + ?Sized), folder: &Path) -> Result<Key> {
        let path = folder.join("host_key");
        let Some(private) = &self.host_key else {
            return Key::make(host, &self.openssh, &path, "throwaway");
        };
        let outside = host.file(&path);
        write(&outside, private, host.owner(), 0o600)?;
        let mut keygen = host.command(self.openssh.ssh_keygen().as_os_str());
        let public = crate::error::run(keygen.arg("-y").arg("-f").arg(&path))?.stdout;
        let public = String::from_utf8_lossy(&public);
        write(&outside.with_extension("pub"), &public, host.owner(), 0o644)?;
        Key::at(host, &path)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    Yes,
    PortTaken,
    No,
}

/// The folder into which sshd locks its unprivileged part, which Debian's service makes.
fn make_run_sshd(host: &(impl Host + ?Sized)) -> Result<()> {
    let path = host.file(Path::new("/run/sshd"));
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir(&path)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .doing(|| "could not make `/run/sshd`, which sshd needs as root".to_owned())
}

fn write(path: &Path, text: &str, (uid, gid): (u32, u32), mode: u32) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .and_then(|()| chown(path, Some(uid), Some(gid)))
        .doing(|| format!("could not write `{}`", path.display()))
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .doing(|| "could not find a free port".to_owned())
}

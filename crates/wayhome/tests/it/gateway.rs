//! A stock gateway in the lab, with several accounts, and the links that homes open to it: a
//! master `ssh`, forwards over its control socket, and a hold that is spoken to line by line.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use clap::Parser;
use wayhome::agent::ssh::script;
use wayhome::command::gate;
use wayhome_lab::keys::Key;
use wayhome_lab::{Machine, OpenSsh, Sshd, assert_eventually, eventually};

/// Generous: two cores may run all tests at once.
pub const SOON: Duration = Duration::from_secs(20);

const GATE: &str = "/run/programs/wayhome-gate";

/// A plain user, another one, and the account that homes and laptops share.
pub const AMY: &str = "amy";
pub const BOB: &str = "bob";
pub const SHARED: &str = "wayhome";

/// Keys of the shared account: the ports 2222 and 2223, of two homes; and a laptop's.
pub const HOME_2222: &str = "home-2222";
pub const HOME_2223: &str = "home-2223";
pub const LAPTOP: &str = "laptop";

/// The servers to try: each version that is there, without PAM and with it.
pub fn variants() -> Vec<(OpenSsh, bool)> {
    let mut versions = vec![OpenSsh::system().expect("the machine's OpenSSH")];
    match std::env::var_os("WAYHOME_OPENSSH_10") {
        Some(folder) => versions.push(OpenSsh::backports(folder.as_ref()).expect("OpenSSH 10")),
        None => eprintln!("skipped for OpenSSH 10: WAYHOME_OPENSSH_10 is not set"),
    }
    versions.into_iter().flat_map(|openssh| [(openssh.clone(), false), (openssh, true)]).collect()
}

pub struct Gateway {
    // Before the machine, so that it ends first.
    sshd: Sshd,
    pub machine: Machine,
    openssh: OpenSsh,
    links: Cell<u32>,
}

impl Gateway {
    pub fn start(openssh: &OpenSsh, pam: bool) -> Gateway {
        Self::start_with(openssh, pam, &[])
    }

    /// The same, with more lines for everybody in its configuration.
    pub fn start_with(openssh: &OpenSsh, pam: bool, lines: &[&str]) -> Gateway {
        let machine = Machine::start("gateway").expect("a machine");
        machine.add_user(AMY, 3001, "/bin/sh").expect("amy");
        machine.add_user(BOB, 3002, "/bin/bash").expect("bob");
        machine.add_user(SHARED, 3003, "/bin/sh").expect("an account for homes");
        let gate_file = machine.file(GATE);
        fs::create_dir_all(gate_file.parent().unwrap()).expect("a folder for programs");
        fs::write(&gate_file, printed(&["gate"])).expect("the gate");
        fs::set_permissions(&gate_file, fs::Permissions::from_mode(0o755)).expect("executable");

        let key = |name: &str| {
            let path = format!("/tmp/{name}");
            Key::make(&machine, openssh, path.as_ref(), name).expect("a key")
        };
        let mut builder = Sshd::builder(openssh).pam(pam);
        for user in ["root", AMY, BOB] {
            builder = builder.authorize(user, key(user).public_line());
        }
        for (name, arguments) in [
            (HOME_2222, &["--port", "2222"][..]),
            (HOME_2223, &["--port", "2223"]),
            (LAPTOP, &["--port", "2222", "--laptop"]),
        ] {
            key(name);
            let public = machine.file(format!("/tmp/{name}.pub"));
            let given = ["gate", "--authorize", public.to_str().unwrap()];
            let line = printed(&[&given, arguments].concat());
            let line = line.replace("/usr/local/libexec/wayhome-gate", GATE);
            builder = builder.authorize(SHARED, &line);
        }
        fs::write(machine.file("/run/drop-in.conf"), drop_in()).expect("a drop-in");
        for line in lines {
            builder = builder.line(line);
        }
        let sshd = builder
            .line("Include /run/drop-in.conf")
            .line("PermitRootLogin prohibit-password")
            .line("Subsystem sftp internal-sftp")
            // On, so that it is the key's line that denies it; any program will do for xauth.
            .line("X11Forwarding yes")
            .line("XAuthLocation /bin/true")
            .start(&machine)
            .expect("an sshd");
        let known = format!("{}\n", sshd.known_hosts_line("127.0.0.1"));
        fs::write(machine.file("/tmp/known_hosts"), known).expect("known hosts");
        Gateway { sshd, machine, openssh: openssh.clone(), links: Cell::new(0) }
    }

    /// The port that its sshd listens on.
    pub fn port(&self) -> u16 {
        self.sshd.port()
    }

    /// `ssh` with a key, up to the host's name; the account is the one that the key is for.
    pub fn ssh(&self, key: &str, options: &[&str]) -> Command {
        let user = if key.starts_with("home-") || key == LAPTOP { SHARED } else { key };
        let mut ssh = self.machine.command(self.openssh.ssh());
        ssh.args(["-F", "none", "-T", "-i", &format!("/tmp/{key}"), "-l", user])
            .args(["-p", &self.port().to_string(), "-o", "BatchMode=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=/tmp/known_hosts"])
            .args(options)
            .arg("127.0.0.1");
        ssh
    }

    /// Connects, and stays, with no session yet.
    pub fn link(&self, key: &str) -> Link<'_> {
        self.link_with(key, &[])
    }

    /// `ssh -N -R PORT`: a link that asks for its forward by itself, and never opens a session.
    pub fn bare(&self, key: &str, port: u16) -> Link<'_> {
        let link = self.link_with(key, &["-R", &forward(port)]);
        assert_eventually!(self.listens(port), within = SOON, "no listener on {port}");
        link
    }

    fn link_with(&self, key: &str, options: &[&str]) -> Link<'_> {
        let number = self.links.get();
        self.links.set(number + 1);
        let socket = format!("/tmp/link-{number}");
        let master = [&["-N", "-M", "-S", &socket, "-o", "ExitOnForwardFailure=yes"], options];
        let child = self
            .ssh(key, &master.concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh");
        let link = Link { gateway: self, key: key.to_owned(), socket, child };
        let there = || self.machine.file(&link.socket).exists();
        assert_eventually!(there(), within = SOON, "`{key}` is not let in");
        link
    }

    pub fn listens(&self, port: u16) -> bool {
        let wanted = format!(" 0100007F:{port:04X} 00000000:0000 0A ");
        let table = self.machine.file(format!("/proc/{}/net/tcp", 1));
        fs::read_to_string(table).expect("/proc/net/tcp").contains(&wanted)
    }

    /// A program that is no sshd, listening on `127.0.0.1` as one of its users.
    pub fn program(&self, user: &str, port: u16) -> Process {
        let script = format!(
            "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', \
             LocalPort => {port}, Listen => 1) or die; sleep 1000"
        );
        let mut perl = self.machine.command_as(user, "/usr/bin/perl").expect("a user");
        let child = perl.args(["-e", &script]).stdin(Stdio::null()).spawn().expect("perl");
        assert_eventually!(self.listens(port), within = SOON, "no program on {port}");
        Process(child)
    }

    /// A variable in the environment of a process of the gateway.
    pub fn variable(&self, pid: &str, name: &str) -> Option<String> {
        let all = fs::read_to_string(self.machine.file(format!("/proc/{pid}/environ")));
        let all = all.expect("an environment");
        let mut values =
            all.split('\0').filter_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        values.next().map(str::to_owned)
    }

    /// The first child of a process of the gateway.
    pub fn child_of(&self, pid: &str) -> String {
        let children = self.machine.file(format!("/proc/{pid}/task/{pid}/children"));
        let children = fs::read_to_string(children).expect("a process");
        children.split(' ').next().expect("a child").to_owned()
    }

    /// Runs a program in it as root until the handle is dropped.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = self.machine.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Process(command.spawn().expect("a program"))
    }

    /// When a process of the gateway started, as `/proc` tells.
    pub fn start_of(&self, pid: &str) -> String {
        let stat = fs::read_to_string(self.machine.file(format!("/proc/{pid}/stat")));
        let stat = stat.expect("a process");
        let fields = stat.rsplit_once(')').expect("a name").1.to_owned();
        fields.split_whitespace().nth(19).expect("a start").to_owned()
    }

    /// The parent of a process of the gateway.
    pub fn parent_of(&self, pid: &str) -> String {
        let stat = fs::read_to_string(self.machine.file(format!("/proc/{pid}/stat")));
        let stat = stat.expect("a process");
        let fields = stat.rsplit_once(')').expect("a name").1.to_owned();
        fields.split_whitespace().nth(1).expect("a parent").to_owned()
    }
}

/// A client's connection. Dropping it ends the client, and with it the session.
pub struct Link<'a> {
    gateway: &'a Gateway,
    key: String,
    socket: String,
    child: Child,
}

impl Link<'_> {
    /// Opens the hold and reads its greeting.
    pub fn hold(&self, ports: &[u16]) -> Hold {
        Hold::start(self.gateway.ssh(&self.key, &["-S", &self.socket]), ports)
    }

    /// Asks for a forward, as the agent does after the greeting.
    pub fn forward(&self, port: u16) {
        let asked = self.try_forward(&forward(port));
        assert!(asked.status.success(), "no forward: {}", String::from_utf8_lossy(&asked.stderr));
    }

    /// Asks for a forward in ssh's own words, and tells what came of it.
    pub fn try_forward(&self, wanted: &str) -> Output {
        let options = ["-S", &self.socket, "-O", "forward", "-R", wanted];
        self.gateway.ssh(&self.key, &options).output().expect("ssh")
    }

    /// Listens at the client's end on a socket's path, and leads from there to one at the gateway.
    pub fn lead(&self, here: &str, there: &str) {
        let way = format!("{here}:{there}");
        let options = ["-S", &self.socket, "-O", "forward", "-L", &way];
        let asked = self.gateway.ssh(&self.key, &options).output().expect("ssh");
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    }

    /// Stops the client where it stands: to the gateway it is a connection that is merely silent.
    pub fn freeze(&self) {
        // The child is `nsenter`, which waits for the client.
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let client = fs::read_to_string(children).expect("a client");
        let stopped = Command::new("kill").args(["-STOP", client.trim()]).status();
        assert!(stopped.expect("kill").success());
    }

    /// Whether the client still runs; one whose session was ended at the gateway does not.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        // The client gets its own signal by the death of its parent, also while it is stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hold at the gateway.
pub struct Hold {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    pub greeting: String,
}

impl Hold {
    /// Runs the hold over an `ssh` that is complete up to its command, and reads the greeting.
    pub fn start(mut ssh: Command, ports: &[u16]) -> Hold {
        let mut child = ssh
            .arg(script::command(ports))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh");
        let mut input = child.stdin.take().expect("a pipe");
        writeln!(input, "{}{}", script::HOLD, script::END).expect("the script is read");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let mut hold = Hold { child, input, lines, greeting: String::new() };
        assert_eq!(hold.line(), "", "whatever was printed before has ended");
        hold.greeting = hold.line();
        assert!(hold.greeting.starts_with("wayhome-hold 1 "), "{}", hold.greeting);
        hold
    }

    pub fn ask(&mut self, request: &str) -> String {
        writeln!(self.input, "{request}").expect("the hold reads");
        self.line()
    }

    fn line(&mut self) -> String {
        self.lines.recv_timeout(SOON).expect("a line from the hold")
    }

    /// A field of the greeting.
    pub fn field(&self, name: &str) -> String {
        let words = self.greeting.split(' ');
        let mut values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        values.next().expect("a field").to_owned()
    }

    /// `PID START` of the sshd that it runs under.
    pub fn sshd(&self) -> String {
        format!("{} {}", self.field("pid"), self.field("start"))
    }

    /// Ends this session of the link; the link stays.
    pub fn quit(mut self) {
        writeln!(self.input, "quit").expect("the hold reads");
        let ended = eventually(SOON, || !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "`quit` ends the hold");
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program in the gateway that ends when this is dropped.
pub struct Process(Child);

impl Process {
    pub fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `wayhome gate` prints.
pub fn printed(arguments: &[&str]) -> String {
    let args = gate::Args::try_parse_from(arguments).expect("arguments");
    let mut out = Vec::new();
    gate::run(&args, &mut out).expect("printed");
    String::from_utf8(out).expect("text")
}

/// What the head of the gate tells people to give their sshd.
fn drop_in() -> String {
    let gate = printed(&["gate"]);
    let lines = gate.lines().skip_while(|line| !line.contains("sshd_config.d/")).skip(1);
    let block: Vec<&str> = lines.map_while(|line| line.strip_prefix("#   ")).collect();
    assert!(block[0].starts_with("Match User ") && block.len() > 1, "{block:?}");
    block.join("\n") + "\n"
}

fn forward(port: u16) -> String {
    format!("127.0.0.1:{port}:127.0.0.1:9")
}

//! Each cause, brought about by a real ssh, a real sshd and a real network, and read in
//! `status --json`: with OpenSSH 9.2 at both ends, and with 10.
//!
//! One lab serves many scenes: each has an sshd of its own at the gateway, at a port of its own, and
//! an agent that finds its host key pinned.

mod allowed;
mod home;
mod login;
mod port;
mod retry;
mod way;

use std::time::Duration;

use wayhome_core::status::{LinkState, Snapshot};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::sshd::Builder;
use wayhome_lab::{Machine, OpenSsh, Sshd, assert_eventually};

use crate::gateway::variants;
use crate::seats::{Agent, Login, Seats, output, wayhome};

/// Long enough for a cause that comes only after waits: a key exchange that hangs twice.
const LATER: Duration = Duration::from_secs(40);

/// The versions of OpenSSH to try.
fn versions() -> Vec<OpenSsh> {
    variants().into_iter().filter(|(_, pam)| !pam).map(|(openssh, _)| openssh).collect()
}

/// A home and a gateway, whose programs are all of one version of OpenSSH.
struct Stage {
    seats: Seats,
    openssh: OpenSsh,
    path: String,
}

impl Stage {
    fn of(openssh: &OpenSsh) -> Self {
        Self::with_homes(openssh, 1)
    }

    fn with_homes(openssh: &OpenSsh, homes: u8) -> Self {
        let seats = Seats::with(Login::Root, homes, openssh, |builder| builder);
        let programs = openssh.ssh().parent().unwrap().display().to_string();
        let path = format!("{programs}:/usr/bin:/bin:/usr/sbin:/sbin");
        for household in seats.lab.households() {
            household.home.sh("mkdir -p -m 700 /var/lib/wayhome").unwrap();
        }
        Self { seats, openssh: openssh.clone(), path }
    }

    /// The key of the (first) home.
    fn key(&self) -> String {
        std::fs::read_to_string(self.seats.lab.home().file("/tmp/key.pub")).unwrap()
    }

    /// An sshd at the gateway, at a free port, whose host key is pinned at home.
    fn sshd(&self, kind: impl FnOnce(Builder) -> Builder) -> Sshd {
        let builder = Sshd::builder(&self.openssh).listen("0.0.0.0");
        let sshd = kind(builder).start(self.seats.lab.gateway()).unwrap();
        self.pin(&sshd.known_hosts_line(GATEWAY));
        sshd
    }

    /// The same, and it lets home's key in as root.
    fn open(&self, kind: impl FnOnce(Builder) -> Builder) -> Sshd {
        self.sshd(|builder| kind(builder.authorize("root", &self.key())))
    }

    fn pin(&self, line: &str) {
        let script = format!("echo '{line}' >> /var/lib/wayhome/known_hosts");
        self.seats.lab.home().sh(&script).unwrap();
    }

    /// An agent that goes to an sshd as root.
    fn agent(&self, sshd: &Sshd) -> Agent<'_> {
        self.agent_at(&format!("root@{GATEWAY}:{}", sshd.port()), &[])
    }

    fn agent_at(&self, address: &str, more: &[&str]) -> Agent<'_> {
        let address = format!("ssh://{address}");
        let mut arguments = vec![address.as_str(), "--name", "home-ubuntu"];
        for (option, usual) in [("-i", "/tmp/key"), ("-R", "2222:localhost:22")] {
            if !more.contains(&option) {
                arguments.extend([option, usual]);
            }
        }
        arguments.extend(more);
        Agent::run_with(self.seats.lab.home(), &arguments, |command| {
            command.env("PATH", &self.path);
        })
    }
}

/// The kind of the cause that a link shows.
fn shown(snapshot: &Snapshot) -> Option<&'static str> {
    snapshot.links[0].cause.as_ref().map(|finding| finding.cause.kind())
}

/// Waits until the link shows a cause.
fn until_link(agent: &Agent<'_>, kind: &str) {
    let is = || agent.status().is_some_and(|snapshot| shown(&snapshot) == Some(kind));
    assert_eventually!(is(), within = LATER, "{kind}: {}", agent.log());
}

/// Waits until a service shows a cause.
fn until_service(agent: &Agent<'_>, index: usize, kind: &str) {
    let is = || agent.cause(index) == Some(kind);
    assert_eventually!(is(), within = LATER, "{kind}: {:?} {}", agent.cause(index), agent.log());
}

/// Waits until the link waits for a person, and shows a cause.
fn until_halted(agent: &Agent<'_>, kind: &str) {
    until_link(agent, kind);
    assert_eq!(agent.link().state, LinkState::Halted, "{kind}");
}

/// Ends the agent's ssh, so that it dials anew.
fn redial(agent: &Agent<'_>) {
    let (_, children) = agent.pids();
    for pid in children {
        agent.machine.sh(&format!("kill -9 {pid}")).unwrap();
    }
}

/// Tells the agent to try now.
fn kick(home: &Machine) {
    let (code, _, error) = output(&mut wayhome(home, &["agent", "kick"]));
    assert_eq!(code, 0, "{error}");
}

//! The agent under a service manager: what arrives at its socket (sd_notify(3)).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wayhome_lab::assert_eventually;

use super::Desk;
use crate::seats::SOON;

/// The watchdog's span: short, so that its silence is soon seen.
const SPAN: Duration = Duration::from_millis(900);

struct Manager {
    socket: UnixDatagram,
    agent: Child,
    _desk: Desk,
    _folder: TempDir,
}

impl Manager {
    /// Starts an agent whose gateway is not there.
    fn start() -> Self {
        let desk = Desk::new();
        let config = std::fs::read_to_string(desk.at("agent.toml")).unwrap();
        // Port 1 of this machine refuses at once.
        let config = config.replace("root@203.0.113.10", "root@127.0.0.1:1");
        std::fs::write(desk.at("agent.toml"), config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let agent = desk
            .wayhome(&["agent", "run", "--config"])
            .arg(desk.at("agent.toml"))
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .env("WATCHDOG_USEC", SPAN.as_micros().to_string())
            .env("STATE_DIRECTORY", folder.path().join("state"))
            .env("RUNTIME_DIRECTORY", folder.path().join("run"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { socket, agent, _desk: desk, _folder: folder }
    }

    fn hear(&self) -> io::Result<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message)?;
        Ok(String::from_utf8(message[..length].to_vec()).unwrap())
    }

    /// Waits for a message with this in it.
    fn hear_of(&self, wanted: &str) -> String {
        loop {
            let message = self.hear().unwrap_or_else(|error| panic!("no `{wanted}`: {error}"));
            if message.contains(wanted) {
                return message;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.agent), signal).unwrap();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn an_agent_without_a_road_is_ready_and_says_why() {
    let mut manager = Manager::start();
    assert_eq!(manager.hear().unwrap(), "READY=1\n", "before anything else");
    let said = manager.hear_of("STATUS=home-ubuntu: 0 of 1 gateway up; ");
    assert!(said.contains("WATCHDOG=1"), "{said}");
    manager.hear_of("the gateway refuses connections");
    manager.signal(Signal::TERM);
    manager.hear_of("STOPPING=1");
    assert_eventually!(manager.agent.try_wait().unwrap().is_some(), within = SOON, "its end");
    assert!(manager.agent.wait().unwrap().success());
}

#[test]
fn a_loop_that_stands_still_does_not_feed_the_watchdog() {
    let manager = Manager::start();
    manager.hear_of("WATCHDOG=1");
    manager.hear_of("WATCHDOG=1");
    manager.signal(Signal::STOP);
    // What it sent before is read; then there is silence for longer than the span.
    manager.socket.set_read_timeout(Some(SPAN * 2)).unwrap();
    let silence = loop {
        if let Err(error) = manager.hear() {
            break error;
        }
    };
    assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
    manager.socket.set_read_timeout(Some(SOON)).unwrap();
    manager.signal(Signal::CONT);
    manager.hear_of("WATCHDOG=1");
}

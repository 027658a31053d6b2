//! The ssh child under the person's own configuration, and the ends of the agent and its child.

use std::fs;
use std::time::Duration;

use wayhome_core::status::{LinkState, ServiceState};
use wayhome_lab::net::{GATEWAY, LAPTOP};
use wayhome_lab::{Machine, Sshd, assert_eventually, needs_lab};

use crate::seats::{Agent, Login, PORT, Running, SOON, Seats, output, wayhome};

/// All that could lead past the pin, or take ssh out of our hands, beside what people have.
const HOSTILE: &str = r#"IgnoreUnknown UseKeychain,AddKeysToKeychain
Include ~/.ssh/missing/*.conf
Match exec "touch /tmp/match-ran"
  ConnectTimeout 20
Match exec false
  ProxyCommand false
Host 203.0.113.10
  HostKeyAlias the-gateway
Host *
  UseKeychain yes
  AddKeysToKeychain yes
  ControlMaster auto
  ControlPath /tmp/shared-%C
  ControlPersist 10m
  ForkAfterAuthentication yes
  StdinNull yes
  SessionType subsystem
  RemoteForward 2250 localhost:22
  LocalForward 2251 localhost:22
  DynamicForward 2252
  PermitLocalCommand yes
  LocalCommand touch /tmp/local-command-ran
  RemoteCommand touch /tmp/remote-command-ran
  RequestTTY force
  SetEnv HOSTILE=1
  SendEnv *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile ~/.ssh/own
  KnownHostsCommand /bin/cat /tmp/own
  VerifyHostKeyDNS yes
  UpdateHostKeys yes
  HashKnownHosts yes
  CheckHostIP yes
  NoHostAuthenticationForLocalhost yes
  CanonicalizeHostname always
  CanonicalDomains example.org
  ProxyUseFdpass yes
  LogLevel QUIET
  LogVerbose *
  VisualHostKey yes
  ForwardAgent yes
  ForwardX11 yes
  ExitOnForwardFailure yes
  EscapeChar none
  BatchMode no
  ServerAliveInterval 0
"#;

fn write_hostile_config(home: &Machine) {
    home.sh("mkdir -p ~/.ssh").unwrap();
    fs::write(home.file("/run/homes/root/.ssh/config"), HOSTILE).unwrap();
}

#[test]
fn a_hostile_ssh_config_breaks_nothing() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    write_hostile_config(home);
    let agent = seats.agent();
    agent.until_up();
    let (agent_pid, children) = agent.pids();
    assert_eq!(children.len(), 1, "ssh stays a child of {agent_pid}: {children:?}");
    for (machine, file) in
        [(home, "/tmp/local-command-ran"), (seats.lab.gateway(), "/tmp/remote-command-ran")]
    {
        assert!(!machine.file(file).exists(), "{file}");
    }
    assert!(seats.holder(2250).is_empty(), "the person's own forward is not opened");
    assert!(agent.link().hold);
    home.sh(&format!("kill -9 {}", children[0])).unwrap();
    agent.until_back(0);
    let pins = fs::read_to_string(home.file("/var/lib/wayhome/known_hosts")).unwrap();
    assert_eq!(pins, format!("the-gateway {}\n", seats.gateway_key()), "the pin, and nothing else");
}

#[test]
fn a_hostile_ssh_config_does_not_lead_past_the_pin() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    write_hostile_config(home);
    // A gateway that is reached by way of localhost, and whose key the person's own files have.
    let (key, pinned) = (seats.homes[0].host_key_line(), seats.gateway_key());
    for file in ["/tmp/own", "/run/homes/root/.ssh/own"] {
        fs::write(home.file(file), format!("127.0.0.1 {key}\n")).unwrap();
    }
    home.sh("mkdir -p /var/lib/wayhome").unwrap();
    let pin = format!("127.0.0.1 {pinned}\n");
    fs::write(home.file("/var/lib/wayhome/known_hosts"), &pin).unwrap();
    let arguments = ["root@127.0.0.1", "-i", "/tmp/key", "-R", "2222:localhost:22"];
    let agent = Agent::run(home, &arguments);
    let halted = || agent.link().state == LinkState::Halted;
    assert_eventually!(halted(), within = SOON, "halted: {}", agent.log());
    assert_eq!(agent.link().cause.unwrap().cause.kind(), "host-key-changed", "{}", agent.log());
    let pins = fs::read_to_string(home.file("/var/lib/wayhome/known_hosts")).unwrap();
    assert_eq!(pins, pin);
}

#[test]
fn through_a_jump_host_of_the_persons_own() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let key = fs::read_to_string(home.file("/tmp/key.pub")).unwrap();
    let jump = Sshd::builder(&seats.openssh).port(22).listen("0.0.0.0").authorize("root", &key);
    let jump = jump.start(seats.lab.laptop()).unwrap();
    let known = jump.known_hosts_line(LAPTOP);
    home.sh(&format!(
        "mkdir -p ~/.ssh; echo '{known}' > ~/.ssh/known_hosts; printf 'Host *\\n IdentityFile /tmp/key\\n\
         Host gw\\n HostName {GATEWAY}\\n User root\\n ProxyJump {LAPTOP}\\n' > ~/.ssh/config"
    ))
    .unwrap();
    let agent = Agent::run(
        home,
        &["gw", "--accept-new", "-R", "2222:localhost:22", "--name", "home-ubuntu"],
    );
    agent.until_up();
    let (_, children) = agent.pids();
    home.sh(&format!("kill -9 {}", children[0])).unwrap();
    agent.until_back(0);
}

#[test]
fn ends_in_order_and_leaves_nothing() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let mut agent = seats.agent();
    agent.until_up();
    let (pid, children) = agent.pids();
    agent.machine.sh(&format!("kill -TERM {pid}")).unwrap();
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
    assert!(!agent.machine.file(format!("/proc/{}", children[0])).exists(), "ssh has ended");
    assert_eventually!(seats.holder(PORT).is_empty(), within = SOON, "the port is free");
    let left = agent.machine.sh("ls /run/wayhome").unwrap();
    assert_eq!(left, "", "no socket is left");
}

#[test]
fn a_killed_agent_takes_its_ssh_with_it() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let mut agent = seats.agent();
    agent.until_up();
    let (_, children) = agent.pids();
    agent.kill_9();
    let gone = || !agent.machine.file(format!("/proc/{}", children[0])).exists();
    assert_eventually!(gone(), within = SOON, "ssh has ended");
    assert_eventually!(seats.holder(PORT).is_empty(), within = SOON, "the port is free");
    // What it left behind is in nobody's way.
    let agent = seats.agent();
    agent.until_up();
}

#[test]
fn only_its_owner_may_ask_the_agent() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let agent = seats.agent();
    agent.until_up();
    let modes = agent
        .machine
        .sh("stat -c '%a %U' /run/wayhome /run/wayhome/*.sock /var/lib/wayhome")
        .unwrap();
    assert_eq!(modes, "700 root\n600 root\n700 root\n");
    let program = agent.machine.bring(env!("CARGO_BIN_EXE_wayhome").as_ref()).unwrap();
    // Even where the folder lets others in, and the socket too.
    agent.machine.sh("chmod 755 /run/wayhome; chmod 666 /run/wayhome/*.sock").unwrap();
    let mut other = agent.machine.command_as("fan", &program).unwrap();
    let (code, _, error) = output(other.args(["status"]).env("RUNTIME_DIRECTORY", "/run/wayhome"));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("does not answer this user"), "{error}");
    let (code, ..) = output(&mut wayhome(agent.machine, &["status"]));
    assert_eq!(code, 0);
}

#[test]
fn status_without_an_agent_cannot_tell() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let (code, _, error) = output(&mut wayhome(home, &["status"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("no agent of yours runs"), "{error}");
    // A socket that a dead agent left.
    let mut agent = seats.agent();
    agent.until_up();
    agent.kill_9();
    let (code, _, error) = output(&mut wayhome(home, &["status"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("`home-ubuntu` has ended without a word"), "{error}");
    assert!(error.contains("no agent of yours runs"), "{error}");
}

#[test]
fn as_a_plain_user_at_home() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let home = seats.lab.home();
    let program = home.bring(env!("CARGO_BIN_EXE_wayhome").as_ref()).unwrap();
    home.sh("mkdir -p /run/homes/fan 2>/dev/null; cp /tmp/key ~fan/key; chown fan ~fan/key")
        .unwrap();
    let mut command = home.command_as("fan", &program).unwrap();
    let address = format!("amy@{GATEWAY}");
    command.args([
        "agent",
        "run",
        &address,
        "-i",
        "key",
        "--accept-new",
        "-R",
        "2222:localhost:22",
    ]);
    let _agent = Running(command.stderr(std::process::Stdio::null()).spawn().unwrap());
    let status = || output(home.command_as("fan", &program).unwrap().arg("status"));
    assert_eventually!(status().0 == 0, within = SOON, "{:?}", status());
    let modes = home
        .sh("stat -c '%a %U' ~fan/.local/state/wayhome ~fan/.local/state/wayhome/known_hosts")
        .unwrap();
    assert_eq!(modes, "700 fan\n600 fan\n");
}

#[test]
fn a_full_disk_takes_nothing_away() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("mkdir /var/lib/wayhome; mount -t tmpfs -o size=64k,mode=700 tmpfs /var/lib/wayhome")
        .unwrap();
    let agent = seats.agent();
    agent.until_up();
    home.sh("dd if=/dev/zero of=/var/lib/wayhome/full bs=1k 2>/dev/null || true").unwrap();
    let (_, children) = agent.pids();
    let before = home.sh("cat /var/lib/wayhome/sessions-home-ubuntu.json").unwrap();
    home.sh(&format!("kill -9 {}", children[0])).unwrap();
    agent.until_back(0);
    assert!(agent.log().contains("cannot be recorded"), "{}", agent.log());
    assert_eq!(home.sh("cat /var/lib/wayhome/sessions-home-ubuntu.json").unwrap(), before);
}

/// A user's runtime folder goes with the last login; an agent in tmux stays.
#[test]
fn a_runtime_folder_that_is_taken_away_is_made_again() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let agent = seats.agent();
    agent.until_up();
    let (_, ssh) = agent.pids();
    agent.machine.sh(&format!("rm -rf /run/wayhome; kill -9 {}", ssh[0])).unwrap();
    let proven = || agent.log().matches("is up: proven").count() == 2;
    assert_eventually!(proven(), within = SOON, "{}", agent.log());
    // It is looked for once in a minute.
    assert_eventually!(agent.is_up(), within = Duration::from_secs(75), "{}", agent.log());
}

/// Where no hold beats, ssh's own keepalives serve; but a stopped ssh sends none.
#[test]
fn a_stopped_ssh_is_replaced_where_there_is_no_hold_too() {
    needs_lab!();
    let seats = Seats::start(Login::Bare);
    // The second service is asked again and again.
    let agent = seats.agent_with(&["-R", "2222:localhost:22", "-R", "2223:localhost:7001"]);
    agent.until_service(0, ServiceState::Up);
    agent.until_service(1, ServiceState::Unproven);
    let (_, ssh) = agent.pids();
    agent.machine.sh(&format!("kill -STOP {}", ssh[0])).unwrap();
    let replaced = || agent.link().reconnects == 1;
    assert_eventually!(replaced(), within = SOON * 2, "{}", agent.log());
}

#[test]
fn a_log_that_cannot_be_written_costs_nothing() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let home = seats.lab.home();
    let agent = format!(
        "exec {} -v agent run amy@{GATEWAY} -R 2222:localhost:22 -i /tmp/key --accept-new \
         --name home-ubuntu 2>/dev/full",
        env!("CARGO_BIN_EXE_wayhome")
    );
    let mut shell = home.command("sh");
    let _agent = Running(shell.args(["-c", &agent]).spawn().unwrap());
    let is_up = || output(&mut wayhome(home, &["status"])).0 == 0;
    assert_eventually!(is_up(), within = SOON, "up");
}

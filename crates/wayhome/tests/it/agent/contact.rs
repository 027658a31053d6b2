//! The first contact, the login, and the configuration: what is wrong is said before anything is
//! dialled, or halts.

use std::fs;

use wayhome_core::status::LinkState;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Sshd, assert_eventually, needs_lab};

use crate::seats::{Agent, Login, Running, SOON, Seats, output, wayhome};

/// Root's at home.
const PERSONS_OWN: &str = "/run/homes/root/.ssh/known_hosts";

const FORWARD: [&str; 2] = ["-R", "2222:localhost:22"];

#[test]
fn an_unknown_gateway_is_shown_and_asked_about() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let address = format!("root@{GATEWAY}");
    let arguments = ["agent", "run", &address, "-i", "/tmp/key", "-R", "2222:localhost:22"];

    // Nobody to ask: refused, with the fingerprint, and nothing pinned.
    let mut command = home.command("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_wayhome")).args(arguments);
    let (code, _, error) = output(command.stdin(std::process::Stdio::null()));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("SHA256:") && error.contains("--accept-new"), "{error}");
    assert!(!home.file("/var/lib/wayhome/known_hosts").exists());

    // A person at a terminal, who says no, and then yes.
    let run = format!("{} {}", env!("CARGO_BIN_EXE_wayhome"), arguments.join(" "));
    let answer = |word: &str| {
        let script = format!(
            "(until grep -q 'Pin it' /tmp/typed 2>/dev/null; do sleep 0.05; done; echo {word}; \
             until grep -qE 'was not pinned|is up: proven' /tmp/typed; do sleep 0.05; done; \
             printf '\\003') | script -qefc '{run}' /tmp/typed >/dev/null; cat /tmp/typed; rm /tmp/typed"
        );
        output(home.command("bash").args(["-c", &script])).1
    };
    let said = answer("maybe; echo no");
    assert!(said.contains("Please type `yes`, `no` or the fingerprint"), "{said}");
    assert!(said.contains("was not pinned, so nothing was dialled"), "{said}");
    assert!(!home.file("/var/lib/wayhome/known_hosts").exists());
    let said = answer("yes");
    assert!(said.contains("is up: proven"), "{said}");
    let pins = fs::read_to_string(home.file("/var/lib/wayhome/known_hosts")).unwrap();
    assert_eq!(pins, format!("{GATEWAY} {}\n", seats.gateway_key()));
}

#[test]
fn another_host_key_than_the_pinned_one_halts() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let wrong = seats.homes[0].host_key_line();
    home.sh(&format!(
        "mkdir -p /var/lib/wayhome; echo '{GATEWAY} {wrong}' > /var/lib/wayhome/known_hosts"
    ))
    .unwrap();
    let agent = seats.agent();
    assert_eventually!(agent.link().state == LinkState::Halted, within = SOON, "{}", agent.log());
    let finding = agent.link().cause.unwrap();
    assert_eq!(finding.cause.kind(), "host-key-changed");
    let pins = fs::read_to_string(home.file("/var/lib/wayhome/known_hosts")).unwrap();
    assert!(pins.contains(&wrong), "a pin is never changed");
}

#[test]
fn what_known_hosts_files_say_of_a_gateway_counts_also_when_they_are_hashed() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let (own, pins) = (PERSONS_OWN, "/var/lib/wayhome/known_hosts");
    let (key, other) = (seats.gateway_key(), seats.homes[0].host_key_line());
    home.sh("mkdir -p ~/.ssh /var/lib/wayhome").unwrap();
    let write = |file: &str, text: String| {
        fs::write(home.file(file), text).unwrap();
        home.sh(&format!("ssh-keygen -q -H -f {file}; rm {file}.old")).unwrap();
        fs::read_to_string(home.file(file)).unwrap()
    };
    let address = format!("root@{GATEWAY}");
    let arguments = [&[&address, "-i", "/tmp/key", "--name", "home-ubuntu"], &FORWARD[..]].concat();
    let accepting = [&arguments[..], &["--accept-new"]].concat();

    // Another key, or one that is revoked: refused, also where a new one would be accepted.
    write(own, format!("192.0.2.9 {key}\n{GATEWAY} {other}\n"));
    let refused = || {
        let mut agent = Agent::run(home, &accepting);
        assert_eq!(agent.child.wait().unwrap().code(), Some(1), "{}", agent.log());
        assert!(!home.file(pins).exists());
        agent.log()
    };
    let log = refused();
    assert!(log.contains(&format!("but line 2 of `{own}` has another one")), "{log}");
    assert!(log.contains(&format!("ssh-keygen -R '{GATEWAY}' -f '{own}'")), "{log}");
    write(own, format!("{GATEWAY} {key}\n@revoked * {key}\n"));
    let log = refused();
    assert!(log.contains(&format!("which line 2 of `{own}` revokes")), "{log}");
    assert!(log.contains("`--accept-new` neither: give the gateway a new one"), "{log}");

    // The same key: nobody is asked.
    write(own, format!("{GATEWAY} {key}\n"));
    let agent = Agent::without_terminal(home, &arguments);
    agent.until_up();
    assert!(agent.log().contains("your own known_hosts has it"), "{}", agent.log());
    drop(agent);

    // A pin is one, hashed or not, and the other key is not added to it.
    let pinned = write(pins, format!("{GATEWAY} {other}\n"));
    let agent = Agent::run(home, &accepting);
    let halted = || agent.link().state == LinkState::Halted;
    assert_eventually!(halted(), within = SOON, "{}", agent.log());
    assert_eq!(agent.link().cause.unwrap().cause.kind(), "host-key-changed");
    assert_eq!(fs::read_to_string(home.file(pins)).unwrap(), pinned);
}

#[test]
fn a_gateway_that_cannot_be_pinned_is_no_other_ones_affair() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let second = Sshd::builder(&seats.openssh).port(24).listen("0.0.0.0");
    let _second = second.start(seats.lab.gateway()).unwrap();
    let config = format!(
        "[[gateway]]\naddress = \"ssh://root@{GATEWAY}:24\"\nidentity = \"key\"\n\
         [[gateway]]\naddress = \"ssh://root@{GATEWAY}\"\nidentity = \"key\"\n\
         [[service]]\ntarget = \"localhost:22\"\nport = 2222\n"
    );
    fs::write(home.file("/tmp/agent.toml"), config).unwrap();
    home.sh("mkdir -p /var/lib/wayhome").unwrap();
    let pin = format!("{GATEWAY} {}\n", seats.gateway_key());
    fs::write(home.file("/var/lib/wayhome/known_hosts"), &pin).unwrap();
    let agent = Agent::without_terminal(home, &["--config", "/tmp/agent.toml"]);
    let both = || {
        let links = agent.snapshot().links;
        let cause = links[0].cause.as_ref().map(|finding| finding.cause.kind());
        (links[0].state, cause, links[1].state)
    };
    let wanted = (LinkState::Halted, Some("host-key-unknown"), LinkState::Up);
    assert_eventually!(both() == wanted, within = SOON, "{:?}: {}", both(), agent.log());
    assert!(agent.log().contains(":24` is new: its host key is not pinned"), "{}", agent.log());
    assert_eq!(fs::read_to_string(home.file("/var/lib/wayhome/known_hosts")).unwrap(), pin);
}

#[test]
fn a_refused_key_halts_and_is_not_hammered() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("ssh-keygen -q -t ed25519 -N '' -f /tmp/other").unwrap();
    let arguments = [&format!("root@{GATEWAY}"), "-i", "/tmp/other", "--accept-new"];
    let agent = Agent::run(home, &[&arguments[..], &FORWARD].concat());
    assert_eventually!(agent.link().state == LinkState::Halted, within = SOON, "{}", agent.log());
    let link = agent.link();
    assert_eq!(link.cause.unwrap().cause.kind(), "key-refused");
    assert_eq!(link.attempt, 1);
    assert!(link.retry_in_ms.unwrap() > 60_000, "a slow probe");
    let (code, table, _) = output(&mut wayhome(home, &["status"]));
    assert_eq!(code, 1);
    assert!(table.contains("authorized_keys"), "the remedy: {table}");
}

#[test]
fn a_configuration_that_is_wrong_is_refused_before_anything_is_dialled() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("cp /tmp/key /tmp/open; chmod 644 /tmp/open; touch /tmp/empty; chmod 600 /tmp/empty
         ssh-keygen -q -t ed25519 -N secret -f /tmp/locked")
        .unwrap();
    let address = format!("root@{GATEWAY}");
    for (identity, part) in [
        ("/tmp/open", "can be read by others (mode 0644)"),
        ("/tmp/missing", "cannot be read"),
        ("/tmp/empty", "is no private key"),
        ("/tmp/key.pub", "is the public half of a key"),
        ("/tmp/locked", "has a passphrase"),
        ("/tmp", "is not a file"),
    ] {
        let mut command = wayhome(home, &["agent", "run", &address, "-i", identity]);
        let (code, _, error) = output(command.args(FORWARD));
        assert_eq!(code, 2, "{identity}: {error}");
        assert!(error.contains(identity) && error.contains(part), "{identity}: {error}");
    }
    let config = "[[gateway]]\naddress = \"ssh://root@203.0.113.10\"\nidentity = \"open\"\n\
                  [[service]]\ntarget = \"localhost:22\"\nport = 2222\n";
    fs::write(home.file("/tmp/agent.toml"), config).unwrap();
    let (code, _, error) = output(&mut wayhome(home, &["agent", "run", "-c", "/tmp/agent.toml"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("/tmp/agent.toml:3: ") && error.contains("chmod 600"), "{error}");
    for arguments in
        [vec!["agent", "run"], vec!["agent", "run", &address], vec!["agent", "run", "-c", "/no"]]
    {
        let (code, _, error) = output(&mut wayhome(home, &arguments));
        assert_eq!(code, 2, "{arguments:?}: {error}");
    }
    let log = seats.gateway_log();
    assert!(!log.contains("Connection from"), "nothing was dialled: {log}");
}

#[test]
fn a_network_that_does_not_lead_to_the_gateway_changes_nothing() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let agent = seats.agent();
    agent.until_up();
    // A gateway that turns us away: the agent waits longer and longer.
    seats.stop_gateway();
    let slam = "import socket
s = socket.create_server(('0.0.0.0', 22))
while True: s.accept()[0].close()";
    let mut door = seats.lab.gateway().command("python3");
    let _door = Running(door.args(["-c", slam]).spawn().unwrap());
    let turned_away = || agent.link().attempt >= 6;
    assert_eventually!(turned_away(), within = SOON * 3, "{}", agent.log());
    let before = agent.link().attempt;
    let began = std::time::Instant::now();
    // Containers come and go.
    let flutter = "ip link add box0 type veth peer name box1; ip link set box0 up
for i in $(seq 40); do ip address add 10.9.$i.1/24 dev box0; done; ip link del box0";
    for _ in 0..5 {
        seats.lab.home().sh(flutter).unwrap();
    }
    // A request that is answered after them: they have been seen.
    let attempts = agent.link().attempt - before;
    let fair = 1 + u32::try_from(began.elapsed().as_secs()).unwrap() / 2;
    assert!(attempts <= fair, "{attempts} in {:?}: {}", began.elapsed(), agent.log());
}

/// A server at the gateway that accepts, and then does this with each connection.
fn strange_server(seats: &Seats, port: u16, then: &str) -> Running {
    let script = format!(
        "import socket, time\ns = socket.create_server(('0.0.0.0', {port}))\nkept = []\n\
         while True:\n    c = s.accept()[0]; kept.append(c)\n    {then}"
    );
    let gateway = seats.lab.gateway();
    let server = Running(gateway.command("python3").args(["-c", &script]).spawn().unwrap());
    let listens = || !gateway.sh(&format!("ss -Hltn 'sport = :{port}'")).unwrap().is_empty();
    assert_eventually!(listens(), within = SOON);
    server
}

#[test]
fn a_first_contact_keeps_no_other_gateway_waiting_and_ends_at_once_without_a_trace() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let _silent = strange_server(&seats, 24, "pass");
    let (key, pins) = (seats.gateway_key(), home.file("/var/lib/wayhome/known_hosts"));
    // A gateway that says nothing, one at which ssh itself hangs, and one that is pinned: the last.
    let config = format!(
        "[[gateway]]\naddress = \"ssh://root@{GATEWAY}:24\"\nidentity = \"key\"\n\
         [[gateway]]\naddress = \"hangs\"\nidentity = \"key\"\n\
         [[gateway]]\naddress = \"ssh://root@{GATEWAY}\"\nidentity = \"key\"\n\
         [[service]]\ntarget = \"localhost:22\"\nport = 2222\n"
    );
    fs::write(home.file("/tmp/agent.toml"), config).unwrap();
    home.sh("mkdir -p ~/.ssh /var/lib/wayhome
         echo 'Match originalhost hangs exec \"sleep 317\"' > ~/.ssh/config")
        .unwrap();
    fs::write(&pins, format!("{GATEWAY} {key}\n")).unwrap();
    let mut agent = Agent::run(home, &["--config", "/tmp/agent.toml", "--accept-new"]);
    let up = || agent.snapshot().links[2].state == LinkState::Up;
    let began = std::time::Instant::now();
    assert_eventually!(up(), within = SOON, "{}", agent.log());
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{}", agent.log());
    let told = |what: &str| agent.log().contains(what);
    assert_eventually!(
        told("waiting for it to show its host key")
            && told("waiting for ssh to read its configuration"),
        within = SOON,
        "{}",
        agent.log()
    );
    assert_ne!(home.sh("ls -A /tmp | grep '^\\.tmp'").unwrap(), "");
    // TERM ends it within a moment, and with it all that it has started or made.
    let (pid, _) = agent.pids();
    home.sh(&format!("kill {pid}")).unwrap();
    let began = std::time::Instant::now();
    assert!(agent.child.wait().unwrap().success(), "{}", agent.log());
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(home.sh("ls -A /tmp | grep '^\\.tmp' || true").unwrap(), "");
    let sleeps =
        || home.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").unwrap().contains("sleep 317");
    assert_eventually!(!sleeps(), within = SOON);
}

#[test]
fn a_pinned_gateway_that_says_nothing_is_told_of_within_ten_seconds() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let _silent = strange_server(&seats, 24, "pass");
    home.sh(&format!(
        "mkdir -p /var/lib/wayhome
         echo '[{GATEWAY}]:24 {}' > /var/lib/wayhome/known_hosts",
        seats.gateway_key()
    ))
    .unwrap();
    let address = format!("ssh://root@{GATEWAY}:24");
    let agent = Agent::run(home, &[&[address.as_str(), "-i", "/tmp/key"], &FORWARD[..]].concat());
    let cause = || agent.link().cause.map(|finding| finding.cause.kind());
    let within = std::time::Duration::from_secs(12);
    assert_eventually!(cause() == Some("no-greeting"), within = within, "{}", agent.log());
    assert_eq!(agent.log().matches("no greeting has come").count(), 1, "{}", agent.log());
}

#[test]
fn a_gateway_that_floods_is_not_listened_to_for_ever() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    // Lines before the greeting are all that a server can say without a key of its own.
    let _flood = strange_server(
        &seats,
        24,
        "try:
        while True: c.sendall((b'y' * 200 + b'\\r\\n') * 100)
    except OSError: pass",
    );
    let address = format!("ssh://root@{GATEWAY}:24");
    let arguments = [&[address.as_str(), "-i", "/tmp/key", "--accept-new"], &FORWARD[..]].concat();
    let began = std::time::Instant::now();
    let mut agent = Agent::run(home, &arguments);
    assert_eq!(agent.child.wait().unwrap().code(), Some(1), "{}", agent.log());
    assert!(began.elapsed() < std::time::Duration::from_secs(35), "{}", agent.log());
    assert!(agent.log().contains("did not show its host key"), "{}", agent.log());
    assert!(!agent.log().contains("the road comes back by itself"), "{}", agent.log());
}

#[test]
fn paths_are_literal_for_ssh() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    home.sh("mkdir -p '/tmp/50%/%d x'; cp /tmp/key '/tmp/50%/%d x/k'").unwrap();
    let address = format!("root@{GATEWAY}");
    let (identity, pins) = ("/tmp/50%/%d x/k", "/tmp/50%/%h pins");
    let given = [&address, "-i", identity, "--known-hosts", pins, "--accept-new"];
    let agent = Agent::run(home, &[&given[..], &FORWARD].concat());
    agent.until_up();
    drop(agent);
    assert!(home.file(pins).exists());
    let given = ["agent", "run", &address, "--known-hosts", "/tmp/${HOME}/kh"];
    let (code, _, error) = output(wayhome(home, &given).args(FORWARD));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("it has `${` in it"), "{error}");
}

//! Retry is a policy over the cause: a halt waits for a person, who says `wayhome agent kick`; and a
//! gateway that is down costs the other one nothing.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use wayhome_core::status::{LinkState, LinkStatus};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{assert_eventually, needs_lab};

use super::{LATER, Stage, until_halted, versions};
use crate::seats::{Agent, Running, SOON, output, wayhome};

#[test]
fn a_kick_ends_a_halt_at_once() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let (home, gateway) = (stage.seats.lab.home(), stage.seats.lab.gateway());
        let sshd = stage.sshd(|builder| builder.home_keys());
        let agent = stage.agent(&sshd);
        until_halted(&agent, "key-refused");
        let halted = agent.link();
        assert!(halted.retry_in_ms.is_some_and(|wait| wait > 60_000), "a slow probe: {halted:?}");
        // A kick that mends nothing is one attempt, and no more.
        let kick = || {
            let (code, _, error) = output(&mut wayhome(home, &["agent", "kick"]));
            assert_eq!(code, 0, "{error}");
        };
        kick();
        let again = || {
            let link = agent.link();
            link.state == LinkState::Halted && link.attempt == halted.attempt + 1
        };
        assert_eventually!(again(), within = SOON, "{:?}", agent.link());
        assert!(agent.link().retry_in_ms.is_some_and(|wait| wait > 60_000));
        gateway
            .sh(&format!(
                "mkdir -p -m 700 ~/.ssh; echo '{}' > ~/.ssh/authorized_keys",
                stage.key().trim()
            ))
            .unwrap();
        let mended = Instant::now();
        kick();
        agent.until_up();
        assert!(mended.elapsed() < SOON, "{:?}", mended.elapsed());
    }
}

/// How the live gateway's link shall be: as if the others were not there.
fn assert_untouched(live: &LinkStatus, agent: &Agent<'_>) {
    assert_eq!(
        (live.state, live.attempt, live.reconnects),
        (LinkState::Up, 0, 0),
        "{}",
        agent.log()
    );
    assert!(live.hold && live.cause.is_none(), "{live:?}");
    assert!(live.round_trip_ms.is_some_and(|trip| trip < 200.0), "{live:?}");
}

#[test]
fn gateways_that_are_down_cost_the_live_one_nothing() {
    needs_lab!();
    let Some(openssh) = versions().pop() else { return };
    let stage = Stage::of(&openssh);
    let lab = &stage.seats.lab;
    let home = lab.home();
    let sshd = stage.open(|builder| builder);
    let refusing = stage.sshd(|builder| builder);
    // One is closed, one swallows everything, one refuses the key, and one has no name.
    stage.pin(&format!("[{GATEWAY}]:2401 {}", stage.seats.gateway_key()));
    stage.pin(&format!("[{GATEWAY}]:2402 {}", stage.seats.gateway_key()));
    stage.pin(&format!("gone.example.org {}", stage.seats.gateway_key()));
    lab.internet().sh("nft add rule inet weather forward tcp dport 2402 counter drop").unwrap();
    let gateways: String = [
        format!("{GATEWAY}:{}", sshd.port()),
        format!("{GATEWAY}:2401"),
        format!("{GATEWAY}:2402"),
        format!("{GATEWAY}:{}", refusing.port()),
        "gone.example.org".to_owned(),
    ]
    .iter()
    .map(|at| format!("[[gateway]]\naddress = \"ssh://root@{at}\"\nidentity = \"key\"\n"))
    .collect();
    let services = "[[service]]\nname = \"ssh\"\ntarget = \"localhost:22\"\nport = 2222\n\
                    [[service]]\nname = \"echo\"\ntarget = \"localhost:7000\"\nport = 7000\nproof = \"hold\"\n";
    fs::write(
        home.file("/tmp/agent.toml"),
        format!("name = \"home-ubuntu\"\nheartbeat = 1\n{gateways}{services}"),
    )
    .unwrap();
    let echo = "import socket, threading
s = socket.create_server(('127.0.0.1', 7000))
def talk(c):
    while d := c.recv(64): c.sendall(d)
while True: threading.Thread(target=talk, args=(s.accept()[0],), daemon=True).start()";
    let _echo = Running(home.command("python3").args(["-c", echo]).spawn().unwrap());

    let agent = Agent::run(home, &["--config", "/tmp/agent.toml"]);
    let live =
        || agent.link().services.iter().all(|s| s.state == wayhome_core::status::ServiceState::Up);
    assert_eventually!(live(), within = SOON, "{}", agent.log());
    let kinds = || -> Vec<Option<&'static str>> {
        let links = agent.snapshot().links;
        links.iter().map(|link| link.cause.as_ref().map(|finding| finding.cause.kind())).collect()
    };
    let expected = || {
        matches!(
            kinds()[..],
            [
                None,
                Some("connection-refused"),
                Some("timed-out"),
                Some("key-refused"),
                Some("resolver-down" | "name-unknown")
            ]
        )
    };
    assert_eventually!(expected(), within = LATER, "{:?}", kinds());

    // A stream through the live gateway: each word comes back, and none waits for the others.
    let mut stream = lab.gateway().connect("127.0.0.1:7000".parse().unwrap(), SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(12) {
        let sent = Instant::now();
        stream.write_all(b"there?").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        slowest = slowest.max(sent.elapsed());
        assert_untouched(&agent.link(), &agent);
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let links = agent.snapshot().links;
    assert!(links[0].since_ms >= 12_000, "up all the while: {:?}", links[0]);
    for down in &links[1..] {
        assert!(down.state != LinkState::Up && down.attempt <= 1, "nothing is dialled: {down:?}");
    }
}

//! What a native link survives: a gateway that is killed, a new address, a silent cut, a reload; alone,
//! and beside an ssh link.

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use wayhome_core::status::{LinkState, Snapshot};
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{OpenSsh, Sshd, assert_eventually, needs_lab};

use super::seats::NativeSeats;
use crate::seats::{Agent, SOON, output, wayhome};

/// Tries a new ssh until one is through; how long that took.
fn until_ssh(seats: &NativeSeats, agent: &Agent<'_>) -> Duration {
    let began = Instant::now();
    let through = || output(&mut seats.ssh("true")).0 == 0;
    assert_eventually!(through(), within = SOON, "{}\n{}", agent.log(), seats.gateway_log());
    began.elapsed()
}

#[test]
fn a_gateway_that_is_killed_and_comes_back() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let agent = seats.agent();
    agent.until_up();
    seats.kill_gateway();
    let down = || agent.link().state != LinkState::Up;
    assert_eventually!(down(), within = SOON, "{}", agent.log());
    seats.start_gateway();
    agent.until_back(0);
    println!("ssh through after {:?}", until_ssh(&seats, &agent));
    // It knew nothing of this home any more, and learnt the generation from it.
    assert!(seats.gateway().unwrap().homes[0].generation >= 2);
}

#[test]
fn a_new_address_and_a_silent_cut() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let agent = seats.agent();
    agent.until_up();
    seats.lab.households().next().unwrap().new_address("192.168.1.77").unwrap();
    let began = Instant::now();
    agent.until_back(0);
    println!("a new address: proven after {:?}", began.elapsed());
    until_ssh(&seats, &agent);

    seats.lab.cut().unwrap();
    thread::sleep(Duration::from_secs(20));
    assert_ne!(agent.link().state, LinkState::Up, "the cut is real");
    seats.lab.heal().unwrap();
    let began = Instant::now();
    agent.until_back(1);
    println!("a silent cut of 20 s: proven after {:?}", began.elapsed());
    until_ssh(&seats, &agent);
}

#[test]
fn a_stream_outlives_the_control_connection_and_a_reload() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let agent = seats.agent();
    agent.until_up();
    let mut ssh = seats.ssh("cat");
    let ssh = ssh.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lives = |word: &[u8]| {
        to.write_all(word).unwrap();
        let mut came = vec![0; word.len()];
        from.read_exact(&mut came).unwrap();
        assert_eq!(came, word);
    };
    lives(b"before");
    // The control connection is the one that has lasted longest.
    let home = seats.gateway().unwrap().homes.remove(0).online.unwrap();
    let port = home.from.rsplit_once(':').unwrap().1.to_owned();
    seats.lab.gateway().sh(&format!("ss -K sport = :7222 and dport = :{port}")).unwrap();
    agent.until_back(0);
    lives(b"and after");

    let file = seats.lab.home().file("/tmp/agent.toml");
    let with_web = fs::read_to_string(&file).unwrap()
        + "[[service]]\nname = \"web\"\ntarget = \"localhost:80\"\nproof = \"hold\"\n";
    fs::write(&file, with_web).unwrap();
    let (code, said, error) = output(&mut wayhome(seats.lab.home(), &["reload"]));
    assert_eq!(code, 0, "{said}{error}");
    assert_eventually!(agent.link().services.len() == 2, within = SOON, "{}", agent.log());
    lives(b"and after that");
    drop(to);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_native_link_and_an_ssh_link_side_by_side() {
    needs_lab!();
    let more = format!(
        "[[gateway]]\naddress = \"ssh://root@{GATEWAY}:2200\"\nidentity = \"/tmp/key\"\n\
         known_hosts = \"/tmp/pins\"\n"
    );
    let seats = NativeSeats::start(&more);
    let openssh = OpenSsh::system().unwrap();
    let home = seats.lab.home();
    let key = crate::seats::make_key(&openssh, home);
    let sshd = || {
        Sshd::builder(&openssh)
            .port(2200)
            .listen("0.0.0.0")
            .authorize("root", key.public_line())
            .start(seats.lab.gateway())
            .unwrap()
    };
    let server = sshd();
    fs::write(home.file("/tmp/pins"), server.known_hosts_line(GATEWAY) + "\n").unwrap();
    let agent = seats.agent();
    agent.until_up();
    let states = |snapshot: &Snapshot| {
        let state = |link: &wayhome_core::status::LinkStatus| link.state == LinkState::Up;
        (state(&snapshot.links[0]), state(&snapshot.links[1]))
    };
    assert_eq!(states(&agent.snapshot()), (true, true));
    let (_, table, _) = output(&mut wayhome(home, &["status"]));
    assert!(table.contains("wayhome://203.0.113.10") && table.contains(":2200"), "{table}");
    assert!(table.contains("\nover native links\n  grants /tmp/grants.toml (1, read "), "{table}");
    let reconnects = agent.snapshot().links[0].reconnects;
    server.stop();
    assert_eventually!(
        states(&agent.snapshot()) == (true, false),
        within = SOON,
        "{}",
        agent.log()
    );
    until_ssh(&seats, &agent);
    seats.kill_gateway();
    assert_eventually!(
        states(&agent.snapshot()) == (false, false),
        within = SOON,
        "{}",
        agent.log()
    );
    seats.start_gateway();
    agent_is(&agent, |snapshot| states(snapshot).0);
    until_ssh(&seats, &agent);
    assert!(agent.snapshot().links[0].reconnects > reconnects);
}

fn agent_is(agent: &Agent<'_>, is: impl Fn(&Snapshot) -> bool) {
    assert_eventually!(
        agent.status().is_some_and(|snapshot| is(&snapshot)),
        within = SOON,
        "{}",
        agent.log()
    );
}

//! What can reach what, what a cut does, and what a new address does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use wayhome_lab::net::{GATEWAY, GATEWAY_V6, HOME, HOME_V6, LAPTOP};
use wayhome_lab::{Lab, Machine, OpenSsh, Sshd, needs_lab};

const SOON: Duration = Duration::from_secs(5);
/// Long against the lab's round trip, which is far below a millisecond.
const SHORT: Duration = Duration::from_millis(700);

#[test]
fn seats_reach_the_gateway_and_nobody_reaches_home() {
    needs_lab!();
    let lab = Lab::three_seats().unwrap();
    let _gateway = sshd(lab.gateway());
    let _home = sshd(lab.home());
    for seat in [lab.home(), lab.laptop()] {
        assert_eq!(connect(seat, GATEWAY), Answer::Yes, "{}", seat.name());
        assert_eq!(connect(seat, GATEWAY_V6), Answer::Yes, "{}", seat.name());
        let named = seat.sh("getent ahostsv4 gateway.example.org").unwrap();
        assert!(named.starts_with(GATEWAY), "{named}");
    }
    for seat in [lab.gateway(), lab.laptop()] {
        assert_ne!(connect(seat, HOME), Answer::Yes, "{}", seat.name());
        assert_ne!(connect(seat, HOME_V6), Answer::Yes, "{}", seat.name());
        assert_ne!(connect(seat, "192.0.2.2"), Answer::Yes, "{}", seat.name());
    }
    assert_eq!(connect(lab.nat(), HOME), Answer::Yes, "the home's own router does reach it");
    assert_eq!(connect(lab.gateway(), LAPTOP), Answer::Refused, "it listens on nothing");
}

#[test]
fn a_cut_is_silent_and_heals() {
    needs_lab!();
    let lab = Lab::with_homes(2).unwrap();
    let _gateway = sshd(lab.gateway());
    let homes: Vec<&Machine> = lab.households().map(|household| &household.home).collect();
    assert_eq!(connect(homes[0], GATEWAY), Answer::Yes);

    lab.cut().unwrap();
    for address in [GATEWAY, GATEWAY_V6] {
        let begin = Instant::now();
        assert_eq!(connect(homes[0], address), Answer::Silence);
        assert!(begin.elapsed() >= PATIENCE, "somebody answered during the cut");
    }
    assert_eq!(connect(homes[1], GATEWAY), Answer::Yes, "the other home is not cut off");
    assert_eq!(connect(lab.laptop(), GATEWAY), Answer::Yes);

    lab.heal().unwrap();
    assert_eq!(connect(homes[0], GATEWAY), Answer::Yes);
}

#[test]
fn an_open_connection_outlives_a_short_cut() {
    needs_lab!();
    let lab = Lab::three_seats().unwrap();
    let (mut home, mut gateway) = pair(lab.home(), lab.gateway());
    assert!(passes(&mut home, &mut gateway, "before", SOON));
    lab.cut().unwrap();
    assert!(!passes(&mut home, &mut gateway, "during", SHORT), "the cut has a hole");
    lab.heal().unwrap();
    assert!(arrives(&mut gateway, "during", SOON));
}

#[test]
fn a_new_address_ends_the_old_connection_and_makes_new_ones() {
    needs_lab!();
    let lab = Lab::three_seats().unwrap();
    let household = lab.households().next().unwrap();
    let _gateway = sshd(lab.gateway());
    let (mut home, mut gateway) = pair(lab.home(), lab.gateway());
    assert!(passes(&mut home, &mut gateway, "before", SOON));

    household.remove_addresses().unwrap();
    assert_ne!(connect(lab.home(), GATEWAY), Answer::Yes);
    household.add_address("192.168.1.77").unwrap();
    assert_eq!(connect(lab.home(), GATEWAY), Answer::Yes);
    assert!(!passes(&mut home, &mut gateway, "after", SHORT), "the old address still works");

    household.new_address("192.168.1.78").unwrap();
    assert_eq!(connect(lab.home(), GATEWAY), Answer::Yes);
    let addresses = lab.home().sh("ip -4 -br address show dev eth0").unwrap();
    assert!(addresses.contains("192.168.1.78/24") && !addresses.contains(".77"), "{addresses}");
}

#[test]
fn a_rate_restricts_both_ways() {
    needs_lab!();
    let lab = Lab::three_seats().unwrap();
    for machine in [lab.home(), lab.laptop()] {
        let (mut near, mut far) = pair(machine, lab.gateway());
        let free = throughput(&mut near, &mut far);
        assert!(free > 50.0, "only {free:.1} Mbit/s before it is restricted");
        lab.rate(machine, "20mbit").unwrap();
        let up = throughput(&mut near, &mut far);
        let down = throughput(&mut far, &mut near);
        // The bucket's first 128 KiB pass at once; the rest of the slack is for a loaded machine.
        for (way, rate) in [("up", up), ("down", down)] {
            assert!((8.0..=24.0).contains(&rate), "{}: {way} {rate:.1} Mbit/s", machine.name());
        }
    }
    assert!(lab.rate(lab.internet(), "20mbit").is_err());
}

fn sshd(machine: &Machine) -> Sshd {
    Sshd::builder(&OpenSsh::system().unwrap())
        .port(22)
        .listen("0.0.0.0")
        .listen("::")
        .start(machine)
        .unwrap()
}

#[derive(Debug, PartialEq)]
enum Answer {
    Yes,
    Refused,
    Silence,
}

/// How long silence is listened to.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a TCP connect to port 22 of an address meets.
fn connect(from: &Machine, address: &str) -> Answer {
    let to = SocketAddr::new(address.parse().unwrap(), 22);
    match from.connect(to, PATIENCE) {
        Ok(_) => Answer::Yes,
        Err(error) if error.kind() == Some(ErrorKind::TimedOut) => Answer::Silence,
        Err(_) => Answer::Refused,
    }
}

/// A connection and the sockets at both of its ends.
fn pair(from: &Machine, to: &Machine) -> (TcpStream, TcpStream) {
    let listener = to.listen(SocketAddr::new(GATEWAY.parse().unwrap(), 0)).unwrap();
    let near = from.connect(listener.local_addr().unwrap(), PATIENCE).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Whether what is written at one end is read at the other within a time.
fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &str, within: Duration) -> bool {
    from.write_all(text.as_bytes()).unwrap();
    arrives(to, text, within)
}

fn arrives(to: &mut TcpStream, text: &str, within: Duration) -> bool {
    to.set_read_timeout(Some(within)).unwrap();
    let mut read = vec![0; text.len()];
    to.read_exact(&mut read).is_ok_and(|()| read == text.as_bytes())
}

/// Mbit/s of a transfer that is far longer than what queues and buckets hold.
fn throughput(from: &mut TcpStream, to: &mut TcpStream) -> f64 {
    const BYTES: usize = 2_500_000;
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(&vec![0; BYTES]).unwrap());
        to.read_exact(&mut vec![0; BYTES]).unwrap();
    });
    (BYTES * 8) as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

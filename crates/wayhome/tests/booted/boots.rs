//! Reboots, power cuts, and a boot without a network.

use std::thread;
use std::time::{Duration, Instant};

use wayhome_core::status::LinkState;
use wayhome_lab::net::HOME;
use wayhome_lab::{Lab, assert_eventually, needs_systemd};

use crate::road::{Road, SOON};

#[test]
fn home_reboots() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    let began = Instant::now();
    road.home.reboot().unwrap();
    println!("home's reboot took {:.1?}", began.elapsed());
    road.until("home rebooted", began, |now| now.boot != before.boot);
}

#[test]
fn home_loses_power_and_the_gateway_does_not_hear_of_it() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    lab.cut().unwrap();
    road.home.pull_the_plug();
    // The socket of a process that was killed still tries to say goodbye.
    let household = lab.households().next().unwrap();
    household.remove_addresses().unwrap();
    household.add_address(HOME).unwrap();
    lab.heal().unwrap();
    let listens = road.gateway.sh("ss -Hltn 'sport = :2222'").unwrap();
    assert!(!listens.is_empty(), "the old session still holds the port");
    let began = Instant::now();
    road.home.switch_on().unwrap();
    road.until("home lost power", began, |now| now.boot != before.boot);
}

#[test]
fn the_gateway_reboots() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    let began = Instant::now();
    road.gateway.reboot().unwrap();
    println!("the gateway's reboot took {:.1?}", began.elapsed());
    let now = road.until("the gateway rebooted", began, |_| true);
    assert_eq!(now, before, "the agent lived through it");
}

#[test]
fn the_gateway_loses_power_and_home_does_not_hear_of_it() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    lab.cut().unwrap();
    road.gateway.pull_the_plug();
    let suspect = || road.status().is_some_and(|status| status.links[0].state != LinkState::Up);
    assert_eventually!(suspect(), within = SOON, "{}", road.journal());
    road.gateway.switch_on().unwrap();
    let began = Instant::now();
    lab.heal().unwrap();
    let now = road.until("the gateway lost power", began, |_| true);
    assert_eq!(now, before, "the agent lived through it");
}

/// How long the network stays away.
const LATE: Duration = Duration::from_secs(60);

#[test]
fn the_network_comes_a_minute_after_boot() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    road.home.power_off().unwrap();
    lab.home().sh("ip link set eth0 down").unwrap();
    road.home.switch_on().unwrap();
    let booted = Instant::now();
    assert_eq!(road.home.sh("ip route").unwrap(), "", "home has no network");
    assert_eventually!(road.cause() == Some("no-route"), within = SOON, "{}", road.journal());
    let agent = road.property("MainPID");
    // For the whole minute it is the same agent, which says what is wrong. Nothing is waited for: a
    // look each second is enough.
    while booted.elapsed() < LATE {
        assert_eq!(road.cause(), Some("no-route"), "{}", road.journal());
        assert_eq!(road.property("MainPID"), agent, "{}", road.journal());
        thread::sleep(Duration::from_secs(1));
    }
    let began = Instant::now();
    lab.home().sh("ip link set eth0 up; ip route replace default via 192.168.1.1").unwrap();
    let now = road.until("the network came", began, |now| now.boot != before.boot);
    assert_eq!(now.agent, agent);
}

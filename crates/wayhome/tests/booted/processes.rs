//! The agent and its ssh are killed, or stand still.

use std::time::Instant;

use wayhome_lab::{Lab, needs_systemd};

use crate::road::Road;

#[test]
fn the_agent_is_killed() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    let began = Instant::now();
    road.home.sh(&format!("kill -KILL {}", before.agent)).unwrap();
    road.until("the agent was killed", began, |now| now.agent != before.agent);
}

#[test]
fn the_agents_ssh_is_killed() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    let link = road.link();
    let began = Instant::now();
    road.home.sh(&format!("kill -KILL {link}")).unwrap();
    let now = road.until("the agent's ssh was killed", began, |_| road.link() != link);
    assert_eq!(now, before, "the agent lived through it");
}

#[test]
fn the_agent_stands_still_past_its_watchdog() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    let began = Instant::now();
    road.home.sh(&format!("kill -STOP {}", before.agent)).unwrap();
    road.until("the agent stood still", began, |now| now.agent != before.agent);
    assert!(road.journal().contains("Watchdog timeout"), "{}", road.journal());
}

//! The configuration is read again while the link runs.

use alloc::vec::Vec;

use super::world::*;
use crate::link::{Action, Event};
use crate::service::{ProofKind, Service};
use crate::status::ServiceState;

fn replan(world: &mut World, services: Vec<Service>) {
    world.tell(Event::Replanned(services, secs(5)));
}

fn names(world: &World) -> Vec<u16> {
    world.status().services.iter().filter_map(|status| status.service.port).collect()
}

fn is_withdraw(action: &Action) -> bool {
    matches!(action, Action::Withdraw(..))
}

#[test]
fn a_new_service_leaves_the_others_alone() {
    let mut world = World::new(2);
    replan(&mut world, services(1));
    world.run(secs(2));
    world.assert_all_up();
    world.clear();
    replan(&mut world, services(2));
    assert_eq!(world.service(0), ServiceState::Up, "not for a moment less than up");
    world.until(secs(2), World::is_all_up);
    assert_eq!(names(&world), [2222, 2223]);
    assert_eq!((world.count(is_dial), world.count(is_forward)), (0, 1));
}

#[test]
fn a_service_that_goes_gives_its_port_back_and_nothing_else_happens() {
    let mut world = World::up(2);
    let serving = world.serving();
    world.clear();
    replan(&mut world, services(1));
    assert_eq!(names(&world), [2222], "it is not shown any more");
    world.run(secs(2));
    world.assert_all_up();
    assert!(world.serves(serving));
    assert!(!world.is_own(1), "the port is free");
    assert_eq!(world.count(is_withdraw), 1);
    assert_eq!(world.count(is_dial) + world.count(is_forward), 0);
    assert_eq!(world.link.service(1), None, "and it is forgotten");
}

#[test]
fn the_same_again_changes_nothing() {
    let mut world = World::up(2);
    world.clear();
    replan(&mut world, services(2));
    world.run(secs(1));
    let is_work = |action: &Action| is_forward(action) || is_withdraw(action) || is_dial(action);
    assert_eq!(world.count(is_work), 0);
    assert_eq!(world.count(|action| matches!(action, Action::Hold(_))), 0);
    world.assert_all_up();
}

#[test]
fn another_order_and_other_names_keep_the_roads() {
    let mut world = World::up(2);
    world.clear();
    let mut other = services(2);
    other.reverse();
    other[0].name = "renamed".parse().unwrap();
    replan(&mut world, other);
    assert_eq!(names(&world), [2223, 2222]);
    assert_eq!(world.status().services[0].service.name.as_str(), "renamed");
    world.assert_all_up();
    world.run(secs(1));
    assert_eq!(world.count(is_forward) + world.count(is_withdraw), 0);
}

#[test]
fn another_target_on_the_same_port_waits_for_the_port() {
    let mut world = World::up(1);
    world.clear();
    let mut other = services(1);
    other[0].target = "elsewhere:22".parse().unwrap();
    replan(&mut world, other);
    assert_ne!(world.service(0), ServiceState::Up, "the proof was another target's");
    // That the port is asked for only when it was given back, `Check` sees to.
    world.until(secs(2), World::is_all_up);
    assert_eq!((world.count(is_withdraw), world.count(is_forward)), (1, 1));
}

#[test]
fn another_proof_is_asked_for_at_once() {
    let mut world = World::up(1);
    world.clear();
    let mut other = services(1);
    other[0].proof = ProofKind::Hold;
    replan(&mut world, other);
    assert_eq!(world.service(0), ServiceState::Opening);
    world.until(secs(2), World::is_all_up);
    assert_eq!(world.count(is_forward) + world.count(is_withdraw), 0);
}

#[test]
fn the_hold_is_opened_anew_for_a_new_port() {
    let mut world = World::new(2);
    replan(&mut world, services(1));
    world.run(secs(20));
    world.clear();
    replan(&mut world, services(2));
    world.run(secs(20));
    assert_eq!(world.count(|action| matches!(action, Action::Hold(_))), 1);
    assert!(world.status().hold);
    assert!(world.count(|action| matches!(action, Action::Ping(..))) >= 3, "it beats on");
    assert_eq!(world.count(is_dial), 0);
}

#[test]
fn a_service_that_goes_in_a_cut_is_gone_when_the_road_is_back() {
    let mut world = World::up(2);
    world.sshd_notices();
    world.cut();
    world.run(secs(1));
    replan(&mut world, services(1));
    world.run(secs(20));
    world.heal();
    world.until(secs(10), World::is_all_up);
    world.run(secs(20));
    assert_eq!(names(&world), [2222]);
    assert!(!world.is_own(1), "the second port was not asked for again");
}

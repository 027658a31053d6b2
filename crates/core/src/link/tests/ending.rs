//! The end: draining, its deadline, and silence after it.

use alloc::vec;

use super::world::*;
use crate::health::Cause;
use crate::link::{Action, Event};
use crate::status::LinkState;

#[test]
fn the_end_closes_what_is_open_and_waits_for_it() {
    let mut home = World::up(2);
    let id = home.serving();
    home.clear();
    home.tell(Event::Stop);
    assert_eq!(home.log.first().map(|(_, action)| action), Some(&Action::Close(id)));
    assert_eq!(home.state(), LinkState::Draining);
    let took = home.until(secs(1), World::is_stopped);
    assert_eq!(took, ms(20));
}

#[test]
fn the_end_closes_both_sides_of_a_race() {
    let mut home = World::up(1);
    home.run(secs(30));
    home.pongs = false;
    home.login = Login::Hangs;
    home.clear();
    home.until(secs(10), |home| home.count(is_dial) == 1);
    home.tell(Event::Stop);
    assert_eq!(home.count(|action| matches!(action, Action::Close(_))), 2);
    home.until(secs(1), World::is_stopped);
}

#[test]
fn draining_ends_whatever_comes() {
    let mut home = World::up(1);
    let id = home.serving();
    home.tell(Event::Stop);
    home.lose_answers();
    home.clear();
    for _ in 0..28 {
        home.run(ms(100));
        home.tell(Event::Kick);
        home.tell(Event::Stop);
        home.tell(Event::NetworkChanged(vec![id]));
        home.tell(Event::Knocked(Ok(())));
        home.tell(Event::Pong(id, 1));
        home.tell(Event::Held(id, None));
    }
    assert_eq!(home.log, []);
    home.run(ms(200));
    assert_eq!(home.count(|action| *action == Action::Stopped), 1);
}

#[test]
fn nothing_comes_after_the_end() {
    let mut home = World::up(1);
    let id = home.serving();
    home.tell(Event::Stop);
    home.until(secs(1), World::is_stopped);
    home.clear();
    for event in [Event::Timer, Event::Kick, Event::Stop, Event::Connected(id)] {
        home.tell(event);
    }
    home.run(secs(3600));
    assert_eq!(home.log, []);
    assert_eq!(home.link.next_timer(), None);
}

#[test]
fn without_a_connection_the_end_comes_at_once() {
    let mut home = World::new(1);
    home.login = Login::Fails(Cause::HostKeyChanged);
    home.run(secs(10));
    home.tell(Event::Stop);
    assert!(home.is_stopped());
    assert_eq!(home.status().retry_in_ms, None, "nothing is tried again");
}

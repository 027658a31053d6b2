//! The hold: refused, swallowed, ended, asked for again.

use super::world::*;
use crate::link::{Action, Event, Note};
use crate::status::LinkState;

fn is_hold(action: &Action) -> bool {
    matches!(action, Action::Hold(_))
}

#[test]
fn a_key_that_may_run_nothing_still_forwards_and_proves() {
    let mut home = World::new(2);
    home.hold = HoldManner::Refused;
    home.until(secs(2), World::is_all_up);
    assert!(!home.status().hold);
    assert!(home.notes().contains(&Note::NoHold(no_hold("no shell"))));
    home.run(secs(3600));
    home.assert_all_up();
    assert_eq!(home.count(|action| matches!(action, Action::Ping(..))), 0);
    assert_eq!(home.count(is_dial), 1);
}

#[test]
fn without_a_hold_nothing_is_looked_at_and_nothing_released() {
    let mut home = World::new(1);
    home.hold = HoldManner::Refused;
    home.ports[0] = Port::Session(session(7), crate::link::Sighting::Silent);
    home.run(secs(600));
    assert_eq!(home.count(is_look) + home.count(is_release), 0);
    assert_eq!(home.trouble(0), Some(crate::health::Cause::ForwardRefused));
}

#[test]
fn an_account_that_swallows_what_is_said_is_used_without_a_hold() {
    let mut home = World::new(1);
    home.hold = HoldManner::Swallowed;
    let took = home.until(secs(15), World::is_all_up);
    assert!(took <= secs(12), "{took:?}");
    assert_eq!((home.count(is_hold), home.count(is_dial)), (2, 2));
}

#[test]
fn a_hold_that_comes_late_is_welcome() {
    let mut home = World::new(1);
    home.hold = HoldManner::Swallowed;
    home.until(secs(15), World::is_all_up);
    let id = home.serving();
    home.tell(Event::Held(id, None));
    assert!(home.status().hold);
    home.run(secs(10));
    home.assert_all_up();
    assert!(home.count(|action| matches!(action, Action::Ping(..))) >= 2);
}

#[test]
fn a_hold_that_is_killed_every_hour_is_asked_for_every_hour() {
    let mut home = World::up(1);
    let id = home.serving();
    for _ in 0..24 {
        home.run(secs(3600));
        home.tell(Event::HoldRefused(id, no_hold("it ended")));
    }
    home.run(secs(1));
    assert!(home.status().hold);
    assert_eq!(home.count(is_dial), 1);
}

#[test]
fn a_hold_that_ends_and_is_never_answered_again_is_done_without() {
    let mut home = World::up(1);
    home.hold = HoldManner::Swallowed;
    let id = home.serving();
    home.clear();
    home.tell(Event::HoldRefused(id, no_hold("it ended")));
    home.run(secs(6));
    assert_eq!(home.notes(), [Note::NoHold(no_hold("no answer"))]);
    home.assert_all_up();
}

#[test]
fn a_hold_that_ends_is_asked_for_once_more() {
    let mut home = World::up(1);
    let id = home.serving();
    home.clear();
    home.tell(Event::HoldRefused(id, no_hold("it ended")));
    home.run(secs(1));
    assert!(home.status().hold);
    assert_eq!(home.count(is_hold), 1);
    home.run(secs(10));
    home.assert_all_up();
    // It ends as soon as it has greeted: from now on the link does without.
    for _ in 0..10 {
        home.run(ms(200));
        home.tell(Event::HoldRefused(id, no_hold("it ended")));
    }
    home.run(secs(1));
    assert_eq!(home.count(is_hold), 1);
    assert!(!home.status().hold);
    home.assert_all_up();
    assert_eq!(home.notes(), [Note::NoHold(no_hold("it ended"))], "told once");
}

#[test]
fn a_hold_that_ends_while_it_looks_does_not_cost_the_connection() {
    for again in [HoldManner::Granted, HoldManner::Refused] {
        let mut home = World::new(1);
        home.ports[0] = Port::Session(session(7), crate::link::Sighting::Silent);
        home.until(secs(2), |home| home.count(is_look) == 1);
        let id = home.serving();
        home.hold = again;
        home.ports[0] = Port::Free;
        // The answer is lost with the hold.
        home.lose_answers();
        home.tell(Event::HoldRefused(id, no_hold("it ended")));
        home.until(secs(9), World::is_all_up);
        assert_eq!((home.count(is_dial), home.serving()), (1, id));
    }
}

#[test]
fn a_hold_that_is_granted_again_acquits_a_suspect_connection() {
    let mut home = World::up(1);
    let id = home.serving();
    home.run(secs(60));
    home.login = Login::Hangs;
    home.pongs = false;
    home.until(secs(10), |home| home.state() == LinkState::Suspect);
    home.pongs = true;
    home.tell(Event::HoldRefused(id, no_hold("it ended")));
    home.until(secs(1), World::is_all_up);
    assert_eq!(home.serving(), id);
}

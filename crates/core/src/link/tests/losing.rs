//! A connection is lost, or seems to be: suspicion, the race, and changes of the network.

use alloc::vec;
use alloc::vec::Vec;

use super::world::*;
use crate::health::Cause;
use crate::link::{Action, ConnId, Event, Holder, Link, Note};
use crate::status::LinkState;
use crate::time::Time;

fn is_close(action: &Action) -> bool {
    matches!(action, Action::Close(_))
}

#[test]
fn after_a_silent_cut_a_fresh_connection_takes_over_without_asking() {
    let mut home = World::up(1);
    let (old, old_session) = (home.serving(), home.own_session());
    home.run(secs(30));
    home.clear();
    home.cut();
    home.until(secs(7), |home| home.state() == LinkState::Suspect);
    assert_eq!(home.notes(), [Note::Suspect]);
    home.run(secs(14));
    assert_eq!((home.count(is_dial), home.count(is_close)), (0, 0), "only knocks go into a cut");
    home.heal();
    let took = home.until(secs(2), World::is_all_up);
    assert!(took <= ms(1_500), "{took:?}");
    let release = |action: &Action| matches!(action, Action::Release(_, 0, s) if *s == old_session);
    assert_eq!(home.count(release), 1);
    assert_eq!(home.count(is_proof), 1, "our own recorded session is not asked");
    assert_eq!(home.count(|action| *action == Action::Close(old)), 1);
    let last = home.notes().into_iter().next_back();
    assert!(matches!(last, Some(Note::ServiceUp { service: 0, after: Some(_), .. })), "{last:?}");
    assert_eq!(home.status().reconnects, 1);
}

#[test]
fn an_old_connection_that_answers_first_wins_and_the_fresh_one_is_closed() {
    let mut home = World::up(1);
    let old = home.serving();
    home.run(secs(30));
    home.pongs = false;
    home.login = Login::Hangs;
    home.clear();
    home.until(secs(10), |home| home.count(is_dial) == 1);
    assert_eq!(home.state(), LinkState::Suspect);
    let sequence = (1..100).rev();
    for sequence in sequence {
        home.tell(Event::Pong(old, sequence));
    }
    assert!(home.is_all_up());
    assert_eq!(home.serving(), old);
    assert_eq!(home.count(is_close), 1);
    assert_eq!(home.notes(), [Note::Suspect, Note::Recovered]);
    home.pongs = true;
    home.login = Login::Granted;
    home.run(secs(60));
    assert_eq!(home.count(is_dial), 1);
    home.assert_all_up();
}

#[test]
fn a_connection_that_moves_data_is_not_suspected() {
    let mut home = World::up(1);
    home.clear();
    home.pongs = false;
    home.moving = true;
    home.run(secs(60));
    home.assert_all_up();
    let inspections = home.count(|action| matches!(action, Action::Inspect(_)));
    assert!((10..=60).contains(&inspections), "{inspections}");
    assert_eq!(home.count(is_knock), 0);
    home.moving = false;
    home.until(secs(3), |home| home.state() == LinkState::Suspect);
}

#[test]
fn a_change_that_leaves_the_address_only_asks_at_once() {
    let mut home = World::up(1);
    home.run(secs(62));
    home.clear();
    home.change_address(false);
    assert_eq!(home.count(|action| matches!(action, Action::Ping(..))), 1);
    home.run(secs(60));
    assert_eq!((home.count(is_dial), home.count(is_knock)), (0, 0));
    // And if nothing answers, the suspicion comes in a moment, not in seconds.
    home.cut();
    home.change_address(false);
    let took = home.until(secs(2), |home| home.state() == LinkState::Suspect);
    assert!(took <= ms(300), "{took:?}");
}

#[test]
fn a_burst_of_changes_does_not_kill_the_login_that_they_began() {
    let mut home = World::up(1);
    home.run(secs(60));
    home.clear();
    home.change_address(true);
    for _ in 0..4 {
        home.run(ms(60));
        home.change_address(false);
    }
    home.until(secs(1), World::is_all_up);
    assert_eq!(home.count(is_dial), 1);
}

#[test]
fn a_login_from_an_address_that_is_gone_is_begun_again() {
    let mut home = World::new(1);
    home.login = Login::Hangs;
    home.until(secs(1), |home| home.count(is_dial) == 1);
    home.login = Login::Granted;
    home.change_address(true);
    let took = home.until(secs(1), World::is_all_up);
    assert!(took <= ms(500), "{took:?}");
}

#[test]
fn an_end_during_suspicion_is_told() {
    let mut home = World::up(1);
    home.run(secs(60));
    home.clear();
    home.cut();
    home.until(secs(60), |home| home.state() == LinkState::Down);
    let downs: Vec<_> =
        home.notes().into_iter().filter(|note| matches!(note, Note::LinkDown(_))).collect();
    assert_eq!(downs.len(), 1, "{downs:?}");
}

#[test]
fn a_request_that_hangs_gives_the_connection_up_and_says_so() {
    let mut home = World::new(1);
    home.mute = true;
    let given_up = Note::LinkDown(Cause::HeartbeatLost);
    home.until(secs(11), |home| home.notes().contains(&given_up));
    home.mute = false;
    home.until(secs(3), World::is_all_up);
}

#[test]
fn an_answer_that_overtakes_the_inspection_acquits() {
    let mut home = World::up(1);
    let id = home.serving();
    home.pongs = false;
    home.clear();
    home.until(secs(10), |home| home.count(|action| matches!(action, Action::Inspect(_))) == 1);
    let sequence = home.log.iter().find_map(|(_, action)| match action {
        Action::Ping(_, sequence) => Some(*sequence),
        _ => None,
    });
    home.tell(Event::Pong(id, sequence.unwrap()));
    home.pongs = true;
    home.run(secs(60));
    home.assert_all_up();
    assert_eq!(home.notes(), []);
    home.tell(Event::Inspected { conn: id, moving: false });
    assert_eq!(home.state(), LinkState::Up, "nobody asked");
}

#[test]
fn an_address_that_comes_back_lets_the_old_connection_win() {
    let mut home = World::up(1);
    let old = home.serving();
    home.run(secs(62));
    home.login = Login::Hangs;
    home.clear();
    home.tell(Event::NetworkChanged(vec![old]));
    assert_eq!(home.state(), LinkState::Suspect);
    home.until(secs(1), World::is_all_up);
    assert_eq!(home.serving(), old);
}

#[test]
fn a_lost_address_starts_the_race_at_once() {
    let mut home = World::up(1);
    home.run(secs(60));
    home.clear();
    home.change_address(true);
    assert_eq!(home.state(), LinkState::Suspect);
    assert_eq!(home.count(is_knock), 1, "one knock, and not two");
    let took = home.until(secs(2), World::is_all_up);
    assert!(took <= ms(600), "{took:?}");
    assert_eq!(home.count(is_release), 1);
}

#[test]
fn a_halt_during_suspicion_keeps_its_reason_when_the_old_connection_ends() {
    let refused = Cause::KeyRefused { detail: "no".into() };
    let mut home = World::up(1);
    home.run(secs(60));
    home.login = Login::Fails(refused.clone());
    home.pongs = false;
    home.until(secs(10), |home| home.state() == LinkState::Halted);
    home.drop_serving();
    assert_eq!((home.state(), home.cause()), (LinkState::Halted, Some(refused)));
}

#[test]
fn a_hold_that_answers_nothing_is_not_dialled_without_end() {
    let mut home = World::up(1);
    home.pongs = false;
    home.run(secs(600));
    home.clear();
    home.run(secs(3600));
    let dials = home.count(is_dial);
    assert!(dials <= 400, "{dials} dials in an hour");
}

#[test]
fn a_road_that_was_up_forgets_old_refusals_even_if_it_is_won_by_a_race() {
    let turned_away = Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() });
    let mut longest = ms(0);
    for seed in 0..20 {
        let mut home = World::with(1, |plan| plan.seed = seed);
        home.login = turned_away.clone();
        home.run(secs(600));
        home.login = Login::Granted;
        home.until(secs(31), World::is_all_up);
        home.run(secs(3600));
        home.login = turned_away.clone();
        home.pongs = false;
        home.until(secs(10), |home| home.status().retry_in_ms.is_some());
        longest = longest.max(ms(home.status().retry_in_ms.unwrap()));
    }
    assert!(longest <= ms(250), "{longest:?}");
}

#[test]
fn an_outage_is_counted_from_its_own_beginning() {
    let mut home = World::new(2);
    home.ports[1] = Port::Other(Holder::Foreign { uid: 1 }, shows('x'));
    home.run(secs(20));
    home.drop_serving();
    home.run(secs(3600));
    home.clear();
    home.drop_serving();
    home.run(secs(20));
    for note in home.notes() {
        if let Note::LinkUp { after, .. } | Note::ServiceUp { service: 0, after, .. } = note {
            assert!(after.is_some_and(|after| after < secs(2)), "{after:?}");
        }
    }
    home.ports[1] = Port::Free;
    home.clear();
    home.until(secs(90), World::is_all_up);
    let last = home.notes().pop();
    let Some(Note::ServiceUp { service: 1, after: None, .. }) = last else {
        panic!("it was never up: {last:?}")
    };
}

#[test]
fn a_heartbeat_that_stands_behind_a_release_is_not_late() {
    let stale = session(7);
    let mut plan = plan(1);
    plan.sessions = vec![stale.clone()];
    let mut link = Link::new(plan, Time::ZERO);
    let at = |millis| Time::ZERO + ms(millis);
    let id = ConnId(1);
    link.handle(Event::Timer, at(0));
    for event in [
        Event::Knocked(Ok(())),
        Event::Connected(id),
        Event::Held(id, Some(session(8))),
        Event::Pong(id, 1),
        Event::Forwarded(id, 0, false),
    ] {
        link.handle(event, at(1));
    }
    let asked = link.handle(
        Event::Looked(id, 0, Holder::Session { session: stale.clone(), beat: None }),
        at(2),
    );
    assert_eq!(asked, [Action::Release(id, 0, stale)]);
    assert_eq!(link.handle(Event::Timer, at(5_001)), [Action::Ping(id, 2)]);
    for millis in [6_001, 6_500, 7_100, 9_000] {
        assert_eq!(link.handle(Event::Timer, at(millis)), [], "at {millis} ms");
    }
}

#[test]
fn an_ssh_that_does_not_answer_for_itself_is_replaced() {
    for hold in [HoldManner::Granted, HoldManner::Refused] {
        let mut home = World::new(1);
        home.hold = hold;
        home.run(secs(15));
        home.assert_all_up();
        let (now, deaf) = (home.now, home.serving());
        home.tell(Event::Deaf(deaf));
        home.until(secs(5), |home| home.is_all_up() && !home.serves(deaf));
        assert_eq!(home.count(|action| *action == Action::Close(deaf)), 1, "{now:?}");
    }
}

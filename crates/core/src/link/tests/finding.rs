//! A connection is found: the first one, and the next one after the gateway could not be had.

use alloc::vec::Vec;

use super::world::*;
use crate::health::Cause;
use crate::link::{Action, Event, Note};
use crate::status::LinkState;

#[test]
fn the_first_connection_goes_from_a_knock_to_a_proof() {
    let mut home = World::new(1);
    let took = home.until(secs(2), World::is_all_up);
    // A knock, the login, the hold, the forward, the look at it, the proof.
    assert_eq!(took, ms(20) + ms(150) + ms(20) + ms(20) + ms(20) + ms(80));
    assert_eq!(home.count(is_knock), 1);
    assert_eq!(home.count(is_dial), 1);
    let own = home.own_session();
    assert_eq!(home.count(|action| *action == Action::Remember(own.clone())), 1);
    assert_eq!(
        home.notes(),
        [
            Note::LinkUp { after: None, why: None, attempts: 1 },
            Note::ServiceUp { service: 0, after: None, round_trip: Some(ms(20)) }
        ]
    );
    home.run(secs(10));
    let status = home.status();
    assert!(status.hold && status.attempt == 0 && status.reconnects == 0);
    assert_eq!(status.round_trip_ms, Some(20.0));
    assert_eq!(status.services[0].host_key, Some(alloc::format!("{}", key('h'))));
}

#[test]
fn knocks_come_four_times_a_second_and_after_two_minutes_once() {
    let mut home = World::new(1);
    home.reachable = false;
    home.run(secs(120));
    let eager = home.times(is_knock);
    assert!(eager.windows(2).all(|pair| pair[1].since(pair[0]) == ms(250)), "{eager:?}");
    home.run(secs(1));
    home.clear();
    home.run(secs(60));
    let patient = home.times(is_knock);
    assert_eq!(patient.len(), 60);
    assert!(patient.windows(2).all(|pair| pair[1].since(pair[0]) == secs(1)), "{patient:?}");
    assert_eq!(home.count(is_dial), 0, "nothing is dialled into a cut");
}

#[test]
fn a_gateway_that_was_away_for_an_hour_is_found_within_a_second() {
    let mut home = World::up(1);
    home.clear();
    home.sshd_ends();
    home.run(secs(3600));
    assert_eq!(home.state(), LinkState::Down);
    assert_eq!(home.cause(), Some(Cause::ConnectionRefused));
    assert_eq!(home.count(is_dial), 0);
    home.listening = true;
    let took = home.until(secs(5), World::is_all_up);
    assert!(took <= ms(1_500), "{took:?}");
    assert_eq!(home.status().reconnects, 1);
    let up = home.notes().into_iter().find(|note| matches!(note, Note::LinkUp { .. }));
    let Some(Note::LinkUp { after: Some(after), why, attempts: 1 }) = up else { panic!("{up:?}") };
    assert!(after > secs(3600) && after < secs(3602), "{after:?}");
    assert_eq!(why, Some(Cause::ConnectionRefused), "the newest reason");
}

#[test]
fn a_refused_key_halts_loudly_and_is_probed_slowly() {
    let refused = Cause::KeyRefused { detail: "Permission denied (publickey).".into() };
    let mut home = World::new(1);
    home.login = Login::Fails(refused.clone());
    home.run(secs(10));
    assert_eq!(home.state(), LinkState::Halted);
    assert_eq!(home.notes(), [Note::LinkHalted(refused.clone())]);
    home.clear();
    home.run(secs(3600));
    let probes = home.times(is_dial);
    assert!((8..=24).contains(&probes.len()), "{} probes in an hour", probes.len());
    assert!(probes.windows(2).all(|pair| pair[1].since(pair[0]) >= secs(150)));
    assert_eq!(home.cause(), Some(refused));
    home.login = Login::Granted;
    home.until(secs(451), World::is_all_up);
}

#[test]
fn another_network_is_another_chance_but_not_a_hammer() {
    let mut home = World::new(1);
    // A hotel's network answers in the gateway's name.
    home.login = Login::Fails(Cause::HostKeyChanged);
    home.run(secs(10));
    assert_eq!(home.state(), LinkState::Halted);
    home.clear();
    for _ in 0..30 {
        home.change_address(false);
        home.run(secs(10));
    }
    assert!((4..=5).contains(&home.count(is_dial)), "{} dials in 300 s", home.count(is_dial));
    home.login = Login::Granted;
    home.run(secs(60));
    home.change_address(false);
    let took = home.until(secs(5), World::is_all_up);
    assert!(took <= ms(500), "{took:?}");
}

#[test]
fn a_changed_host_key_halts_until_somebody_says_try_now() {
    let mut home = World::up(1);
    home.login = Login::Fails(Cause::HostKeyChanged);
    home.drop_serving();
    home.run(secs(5));
    assert_eq!((home.state(), home.cause()), (LinkState::Halted, Some(Cause::HostKeyChanged)));
    assert!(home.status().retry_in_ms.is_some_and(|wait| wait >= 140_000));
    home.change_address(false);
    home.run(secs(5));
    assert_eq!(home.state(), LinkState::Halted, "another address does not mend it");
    home.login = Login::Granted;
    home.tell(Event::Kick);
    let took = home.until(secs(5), World::is_all_up);
    assert!(took <= ms(500), "{took:?}");
}

#[test]
fn a_kick_ends_a_wait() {
    let mut home = World::new(1);
    home.login = Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() });
    home.run(secs(300));
    home.until(secs(60), |home| home.status().retry_in_ms.is_some_and(|wait| wait > 5_000));
    home.login = Login::Granted;
    home.tell(Event::Kick);
    home.until(ms(500), World::is_all_up);
}

#[test]
fn who_is_turned_away_backs_off() {
    let mut home = World::new(1);
    home.login = Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() });
    home.run(secs(600));
    home.clear();
    home.run(secs(3600));
    let dials = home.count(is_dial);
    assert!((120..=400).contains(&dials), "{dials} dials in an hour");
}

#[test]
fn a_road_that_falls_at_once_is_not_hammered() {
    let mut home = World::new(1);
    for _ in 0..40 {
        home.until(secs(40), World::is_all_up);
        home.run(ms(500));
        home.drop_serving();
    }
    home.clear();
    let begin = home.now;
    for _ in 0..40 {
        home.until(secs(40), World::is_all_up);
        home.run(ms(500));
        home.drop_serving();
    }
    assert!(home.now.since(begin) >= secs(300), "40 dials in {:?}", home.now.since(begin));
}

#[test]
fn a_login_that_hangs_is_replaced_once_a_knock_says_the_gateway_is_there() {
    let mut home = World::new(1);
    home.login = Login::Hangs;
    home.run(secs(2));
    home.cut();
    home.run(secs(8));
    assert_eq!(home.count(is_dial), 1, "no knock succeeds: the login is left alone");
    home.heal();
    home.login = Login::Granted;
    let took = home.until(secs(2), World::is_all_up);
    assert!(took <= ms(700), "{took:?}");
    assert_eq!(home.count(is_dial), 2);
}

#[test]
fn a_slow_gateway_gets_more_time_with_each_dial() {
    let mut home = World::new(1);
    home.login_takes = secs(11);
    home.until(secs(25), World::is_all_up);
    let dials = home.times(is_dial);
    assert_eq!(dials.len(), 3);
    assert_eq!(dials[1].since(dials[0]), secs(3) + home.rtt);
    assert_eq!(dials[2].since(dials[1]), secs(6) + home.rtt);
}

#[test]
fn behind_a_jump_host_nothing_is_knocked_at() {
    let mut home = World::with(1, |plan| plan.knockable = false);
    home.until(secs(1), World::is_all_up);
    home.login = Login::Fails(Cause::TimedOut);
    home.drop_serving();
    home.clear();
    home.run(secs(3600));
    assert_eq!(home.count(is_knock), 0);
    let dials = home.count(is_dial);
    assert!((720..3600).contains(&dials), "{dials} dials in an hour");
    home.login = Login::Granted;
    home.until(ms(5_500), World::is_all_up);
}

#[test]
fn what_is_told_twice_changes_nothing() {
    let mut home = World::new(1);
    home.until(secs(1), |home| home.count(is_dial) == 1);
    let Some((_, Action::Dial(id))) = home.log.iter().find(|(_, action)| is_dial(action)).cloned()
    else {
        panic!()
    };
    home.tell(Event::Held(id, None));
    home.tell(Event::HoldRefused(id, no_hold("too early")));
    home.until(secs(1), |home| home.count(|action| matches!(action, Action::Hold(_))) == 1);
    home.tell(Event::Connected(id));
    home.until(secs(1), World::is_all_up);
}

#[test]
fn each_reason_of_an_outage_is_told_once() {
    let mut home = World::up(1);
    home.clear();
    home.sshd_ends();
    for _ in 0..20 {
        home.run(secs(10));
        home.tell(Event::Knocked(Err(Cause::NoRoute)));
    }
    let told: Vec<_> = home
        .notes()
        .into_iter()
        .map(|note| match note {
            Note::LinkDown(cause) => cause.kind(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["connection-lost", "connection-refused", "no-route"]);
    home.listening = true;
    home.until(secs(5), World::is_all_up);
    home.clear();
    home.sshd_ends();
    home.run(secs(5));
    assert_eq!(home.notes().len(), 2, "the next outage is another one: {:?}", home.notes());
}

#[test]
fn a_cut_between_refusals_does_not_shorten_the_backoff() {
    let turned_away = Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() });
    let mut home = World::with(1, |plan| plan.knockable = false);
    let (mut waits, mut rounds) = (secs(0), 0);
    home.login = turned_away.clone();
    home.run(secs(300));
    for _ in 0..50 {
        home.login = Login::Fails(Cause::TimedOut);
        home.until(secs(60), |home| home.cause() == Some(Cause::TimedOut));
        home.login = turned_away.clone();
        home.until(secs(60), |home| home.cause() != Some(Cause::TimedOut));
        waits += ms(home.status().retry_in_ms.unwrap());
        rounds += 1;
    }
    assert!(waits / rounds > secs(8), "{:?} on average", waits / rounds);
}

#[test]
fn a_login_of_fifty_seconds_gets_through_and_one_without_end_is_told() {
    let mut home = World::new(1);
    home.login_takes = secs(50);
    home.until(secs(160), World::is_all_up);
    let mut home = World::new(1);
    home.login = Login::Hangs;
    home.run(secs(300));
    let late = |note: &Note| *note == Note::LinkDown(Cause::NoGreeting);
    assert!(home.notes().iter().any(late), "{:?}", home.notes());
}

#[test]
fn a_network_that_flutters_does_not_hammer_a_gateway_that_turns_us_away() {
    let mut world = World::new(1);
    world.login = Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() });
    world.run(secs(300));
    world.clear();
    for _ in 0..600 {
        world.run(secs(1));
        world.change_address(false);
    }
    let dials = world.count(is_dial);
    assert!(dials <= 600 / 10 + 600 / 15, "{dials} logins in ten minutes");
}

#[test]
fn a_key_exchange_that_hangs_is_told_apart_from_a_slow_login_and_from_a_cut() {
    let told = |home: &World, kind| {
        let is = |note: &Note| matches!(note, Note::LinkDown(cause) if cause.kind() == kind);
        home.notes().iter().any(is)
    };
    let mut home = World::new(1);
    home.login = Login::HangsInKeyExchange;
    // The first time it may have been a cut that began in the middle of a login.
    home.run(secs(5));
    assert!(home.notes().is_empty(), "{:?}", home.notes());
    home.run(secs(10));
    assert_eq!(home.cause(), Some(Cause::KeyExchangeHangs));
    home.run(secs(300));
    assert!(told(&home, "key-exchange-hangs") && !told(&home, "no-greeting"));
    home.login = Login::Granted;
    home.until(secs(60), World::is_all_up);

    let mut home = World::new(1);
    home.login = Login::Hangs;
    home.run(secs(300));
    assert!(told(&home, "no-greeting") && !told(&home, "key-exchange-hangs"));
}

#[test]
fn a_login_that_hangs_is_told_within_ten_seconds_and_is_not_hammered() {
    for knockable in [true, false] {
        let mut home = World::with(1, |plan| plan.knockable = knockable);
        home.login = Login::Hangs;
        // It takes one connection, and lets the next ones wait: no knock starts the login over.
        home.until(secs(2), |home| home.count(is_dial) == 1);
        home.reachable = !knockable;
        let wanted = if knockable { "no-greeting" } else { "login-timed-out" };
        home.until(secs(10), |home| home.cause().is_some_and(|cause| cause.kind() == wanted));
        assert_eq!(home.state(), LinkState::Dialling, "and it may still come to its end");
        home.run(secs(300));
        let told = |note: &Note| matches!(note, Note::LinkDown(cause) if cause.kind() == wanted);
        assert_eq!(home.notes().iter().filter(|note| told(note)).count(), 1);
        assert!(home.count(is_dial) <= 20, "{} dials", home.count(is_dial));
    }
}

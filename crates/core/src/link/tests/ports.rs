//! Ports that cannot be had: who holds them, who is asked, and who is ended.

use alloc::vec;
use alloc::vec::Vec;

use super::world::*;
use crate::health::Cause;
use crate::link::{Action, Event, Holder, Note, Session, Sighting};
use crate::status::ServiceState;

fn home_whose_port_is(port: Port) -> World {
    let mut home = World::new(2);
    home.ports[0] = port;
    home
}

#[test]
fn a_recorded_session_is_ended_without_asking() {
    let mut home = World::with(1, |plan| plan.sessions = vec![session(7)]);
    home.ports[0] = Port::Session(session(7), Sighting::Silent);
    let took = home.until(secs(2), World::is_all_up);
    assert!(took <= ms(500), "{took:?}");
    assert_eq!(home.count(is_proof), 1);
    assert!(home.notes().contains(&Note::TookOver { service: 0, session: session(7) }));
}

#[test]
fn an_unrecorded_session_is_spoken_to_and_ended_if_it_stays_silent() {
    let mut home = home_whose_port_is(Port::Session(session(7), Sighting::Silent));
    home.until(secs(30), World::is_all_up);
    let order: Vec<&str> = home
        .log
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Forward(_, 0) => Some("forward"),
            Action::Look(_, 0) => Some("look"),
            Action::Prove(_, 0) => Some("prove"),
            Action::Release(_, 0, _) => Some("release"),
            _ => None,
        })
        .collect();
    let expected = ["forward", "look", "prove", "look", "prove", "release", "forward", "prove"];
    assert_eq!(order, expected, "silent once is not enough");
}

#[test]
fn a_session_that_beats_is_alive_however_silent_its_target_is() {
    let mut home = World::new(2);
    home.ports[0] = Port::Session(session(7), Sighting::Silent);
    home.beating = true;
    home.run(secs(3600));
    assert_eq!(home.count(is_release), 0);
    assert_eq!(home.trouble(0), Some(Cause::AnotherLiveSession));
    // Its home dies.
    home.beating = false;
    home.until(secs(180), World::is_all_up);
}

#[test]
fn of_several_sessions_only_a_recorded_one_is_ended() {
    let sessions = vec![session(7), session(8), session(9)];
    let mut home = World::new(1);
    home.ports[0] = Port::Other(Holder::OneOf(sessions.clone()), Sighting::Silent);
    home.run(secs(3600));
    assert_eq!(home.count(is_release), 0);
    assert_eq!(home.trouble(0).map(|cause| cause.kind()), Some("port-busy"));

    let mut home = World::with(1, |plan| plan.sessions = vec![session(9), session(8)]);
    home.ports[0] = Port::Other(Holder::OneOf(sessions), shows('x'));
    home.run(secs(1));
    let ended =
        |action: &Action| matches!(action, Action::Release(_, 0, ended) if *ended == session(8));
    assert_eq!(home.count(ended), home.count(is_release), "the older of ours, and no other");
    assert!(home.count(ended) > 0);
}

#[test]
fn a_session_with_the_same_process_id_after_a_reboot_is_not_a_recorded_one() {
    let before = Session { boot: "before".into(), ..session(7) };
    let mut home = World::with(1, |plan| plan.sessions = vec![before]);
    home.ports[0] = Port::Session(session(7), shows('x'));
    home.run(secs(3600));
    assert_eq!(home.count(is_release), 0);
}

#[test]
fn another_tunnel_of_this_home_is_never_ended() {
    let mut home = home_whose_port_is(Port::Session(session(7), shows('h')));
    home.run(secs(3600));
    assert_eq!(home.trouble(0), Some(Cause::AnotherTunnelOfThisHome));
    assert_eq!(home.service(0), ServiceState::Blocked);
    assert_eq!(home.count(is_release), 0);
    home.ports[0] = Port::Free;
    home.until(secs(61), World::is_all_up);
}

#[test]
fn another_home_halts_the_service_and_only_it() {
    let mut home = home_whose_port_is(Port::Session(session(7), shows('x')));
    home.run(secs(3600));
    let another = Cause::AnotherHome { fingerprint: "SHA256:x".into() };
    assert_eq!((home.service(0), home.trouble(0)), (ServiceState::Halted, Some(another.clone())));
    assert_eq!(home.service(1), ServiceState::Up);
    assert_eq!(home.count(is_release), 0);
    assert_eq!(home.count(is_dial), 1);
    let visits = home.count(|action| matches!(action, Action::Prove(_, 0)));
    assert!(visits <= 21, "{visits} visits to the other home in an hour");
    let told = home.notes();
    let told = told.iter().filter(|note| matches!(note, Note::ServiceTrouble { .. })).count();
    assert_eq!(told, 1);
    home.ports[0] = Port::Free;
    home.tell(Event::Kick);
    home.until(secs(1), World::is_all_up);
}

#[test]
fn a_live_session_without_an_ssh_server_is_left_alone() {
    for sighting in [Sighting::Answer, Sighting::Refused, Sighting::Wrong("HTTP".into())] {
        let mut home = home_whose_port_is(Port::Session(session(7), sighting));
        home.run(secs(600));
        assert_eq!(home.trouble(0), Some(Cause::AnotherLiveSession));
        assert_eq!(home.count(is_release), 0);
    }
}

#[test]
fn another_account_is_never_touched_whatever_it_shows() {
    for sighting in [Sighting::Silent, Sighting::Refused, shows('x'), shows('h'), Sighting::Answer]
    {
        let holder = Holder::Foreign { uid: 1001 };
        let mut home = home_whose_port_is(Port::Other(holder, sighting.clone()));
        home.run(secs(3600));
        assert_eq!(home.count(is_release), 0, "{sighting:?}");
        assert_ne!(home.service(0), ServiceState::Up);
        assert_eq!(home.service(1), ServiceState::Up);
    }
    let holder = Holder::Foreign { uid: 1001 };
    let mut home = home_whose_port_is(Port::Other(holder, shows('x')));
    home.run(secs(10));
    let taken = Cause::PortTakenByUser { uid: 1001, fingerprint: Some("SHA256:x".into()) };
    assert_eq!(home.trouble(0), Some(taken));
}

#[test]
fn a_program_is_named_and_never_touched() {
    let holder = Holder::Program { pid: 5, name: "nc".into() };
    let mut home = home_whose_port_is(Port::Other(holder, Sighting::Silent));
    home.run(secs(3600));
    assert_eq!(home.trouble(0), Some(Cause::PortTakenByProgram { program: "nc".into(), pid: 5 }));
    assert_eq!(home.count(is_release), 0);
    assert_eq!(home.count(|action| matches!(action, Action::Prove(_, 0))), 0);
}

#[test]
fn who_cannot_be_told_is_never_touched() {
    let holder = Holder::Unknown("hidepid".into());
    let mut home = home_whose_port_is(Port::Other(holder, Sighting::Silent));
    home.run(secs(3600));
    assert_eq!(home.trouble(0), Some(Cause::PortBusy { detail: "hidepid".into() }));
    assert_eq!(home.count(is_release), 0);
}

#[test]
fn whoever_vanished_while_it_was_looked_for_is_not_waited_for() {
    let holder = Holder::Unknown("no-session-found".into());
    let mut home = home_whose_port_is(Port::Other(holder, Sighting::Refused));
    home.until(secs(2), |home| home.trouble(0).is_some());
    assert!(matches!(home.trouble(0), Some(Cause::PortBusy { .. })));
    home.ports[0] = Port::Free;
    home.until(secs(2), World::is_all_up);
}

#[test]
fn whoever_is_refused_for_long_is_asked_seldom() {
    let holder = Holder::Unknown("hidepid".into());
    let mut home = home_whose_port_is(Port::Other(holder, Sighting::Refused));
    home.run(secs(3600));
    let asked = home.count(is_look);
    assert!((55..=65).contains(&asked), "{asked} in an hour");
}

#[test]
fn a_free_port_that_is_refused_twice_is_forbidden() {
    let mut home = World::new(1);
    home.forbidden = true;
    home.until(secs(1), |home| home.trouble(0) == Some(Cause::ForwardingForbidden));
    assert_eq!((home.count(is_forward), home.count(is_look)), (2, 1));
    home.clear();
    home.run(secs(3600));
    let asked = home.count(is_forward);
    assert!(asked <= 260, "{asked} forwards in an hour");
    home.forbidden = false;
    home.until(secs(31), World::is_all_up);
}

#[test]
fn a_takeover_that_fails_is_tried_again_with_pauses() {
    let mut home = World::with(1, |plan| plan.sessions = vec![session(7)]);
    home.ports[0] = Port::Session(session(7), Sighting::Silent);
    home.release = Err("foreign-uid".into());
    home.until(secs(1), |home| home.trouble(0).is_some());
    assert_eq!(home.trouble(0), Some(Cause::TakeoverFailed { detail: "foreign-uid".into() }));
    home.run(secs(300));
    home.clear();
    home.run(secs(3600));
    let tries = home.count(is_release);
    assert!((100..=130).contains(&tries), "{tries} in an hour");
    home.release = Ok(());
    home.until(secs(31), World::is_all_up);
}

#[test]
fn a_busy_port_does_not_delay_the_others() {
    let mut home = World::new(8);
    home.ports[0] = Port::Session(session(7), Sighting::Silent);
    home.ports[3] = Port::Other(Holder::Foreign { uid: 1 }, Sighting::Silent);
    home.until(secs(1), |home| home.count(is_forward) == 8);
    let forwards = home.times(is_forward);
    assert!(forwards[7].since(forwards[0]) <= home.rtt * 14, "{forwards:?}");
    let took = home.until(secs(2), |home| {
        home.status().services.iter().filter(|s| s.state == ServiceState::Up).count() == 6
    });
    assert!(took <= secs(1), "{took:?}");
}

#[test]
fn an_answer_to_something_else_ends_no_request() {
    let mut home = World::new(1);
    home.ports[0] = Port::Session(session(7), shows('x'));
    home.until(secs(1), |home| home.count(is_look) == 1);
    let id = home.serving();
    home.tell(Event::Forwarded(id, 0, true));
    home.tell(Event::Released(id, 0, Ok(())));
    home.tell(Event::Seen(id, 0, Sighting::Silent, vec![]));
    home.until(secs(1), |home| home.service(0) == ServiceState::Halted);
    assert_eq!((home.count(is_look), home.count(is_proof)), (1, 1));
}

#[test]
fn our_own_connection_is_never_ended() {
    let mut home = World::up(1);
    let (id, own) = (home.serving(), home.own_session());
    home.run(secs(130));
    home.drop_serving();
    home.until(secs(2), |home| home.count(is_forward) == 2);
    let _ = id;
    let now = home.serving();
    let mine = home.own_session();
    assert_ne!(own, mine);
    home.lose_answers();
    home.tell(Event::Forwarded(now, 0, false));
    home.lose_answers();
    // A look that takes our own sshd for an old one.
    home.tell(Event::Looked(now, 0, Holder::Session { session: mine, beat: None }));
    home.run(secs(1));
    assert_eq!(home.count(is_release), 0);
}

#[test]
fn silence_behind_a_cut_is_no_reason_to_end_a_session() {
    // The road is cut while the holder of the port is asked; it is a live home's.
    for after in (0..4_000).step_by(50) {
        for cut in [200, 1_000, 3_000, 8_000, 20_000] {
            let mut home = World::new(1);
            home.ports[0] = Port::Session(session(7), shows('x'));
            home.until(secs(2), |home| home.count(is_proof) == 1);
            home.run(ms(after));
            home.cut();
            home.run(ms(cut));
            home.heal();
            home.run(secs(60));
            assert_eq!(home.count(is_release), 0, "cut for {cut} ms after {after} ms");
        }
    }
}

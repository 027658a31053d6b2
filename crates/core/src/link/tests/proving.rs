//! Proofs: how often, what a failed one means, and what it does not mean.

use alloc::vec;

use super::world::*;
use crate::health::Cause;
use crate::link::{Action, Note, Sighting};
use crate::status::{LinkState, ServiceState};

#[test]
fn proofs_at_rest_are_at_least_a_minute_apart() {
    let mut home = World::up(4);
    home.clear();
    home.run(secs(86_400));
    for service in 0..4 {
        let times = home.times(|action| matches!(action, Action::Prove(_, s) if *s == service));
        assert!(times.len() > 24, "{} in a day", times.len());
        assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= secs(60)));
    }
    assert_eq!(home.notes(), []);
}

#[test]
fn a_proof_that_fails_later_is_shown_and_passes() {
    let mut home = World::up(2);
    home.clear();
    home.targets[0] = Sighting::Refused;
    home.until(secs(121), |home| home.service(0) == ServiceState::Unproven);
    assert_eq!(home.trouble(0), Some(Cause::TargetRefused));
    assert_eq!((home.service(1), home.state()), (ServiceState::Up, LinkState::Up));
    home.run(secs(3600));
    let proofs = home.count(|action| matches!(action, Action::Prove(_, 0)));
    assert!(proofs <= 70, "{proofs} in an hour");
    home.targets[0] = shows('h');
    home.until(secs(61), World::is_all_up);
    assert_eq!(home.count(is_dial), 0);
    let notes = home.notes();
    assert!(matches!(
        notes.as_slice(),
        [Note::ServiceTrouble { service: 0, .. }, Note::ServiceUp { service: 0, .. }]
    ));
}

#[test]
fn another_host_behind_our_own_port_is_no_proof() {
    let mut home = World::up(1);
    let id = home.serving();
    home.until(secs(121), |home| home.count(is_proof) == 2);
    home.lose_answers();
    home.tell(crate::link::Event::Seen(id, 0, shows('x'), vec![key('h')]));
    assert_eq!(home.service(0), ServiceState::Unproven);
    let another = Cause::TakenByAnotherHost { fingerprint: "SHA256:x".into() };
    assert_eq!(home.trouble(0), Some(another));
}

#[test]
fn a_service_that_never_answers_does_not_cost_the_connection() {
    let mut home = World::new(2);
    home.targets[0] = Sighting::Silent;
    home.run(secs(7200));
    assert_eq!(home.count(is_dial), 1);
    assert_eq!((home.state(), home.service(1)), (LinkState::Up, ServiceState::Up));
    assert_eq!(home.trouble(0), Some(Cause::TargetSilent));
}

#[test]
fn a_proof_is_news_once_for_each_connection() {
    let mut home = World::up(1);
    home.run(secs(3600));
    home.drop_serving();
    home.run(secs(3600));
    let ups = home.notes().into_iter().filter(|note| matches!(note, Note::ServiceUp { .. }));
    assert_eq!(ups.count(), 2);
}

#[test]
fn a_proof_that_takes_long_does_not_cost_the_connection() {
    let mut home = World::up(2);
    let id = home.serving();
    home.until(secs(121), |home| home.count(is_proof) == 3);
    home.lose_answers();
    home.run(secs(28));
    home.tell(crate::link::Event::Seen(id, 0, Sighting::Silent, vec![]));
    home.run(secs(300));
    assert_eq!((home.count(is_dial), home.serving()), (1, id));
    home.assert_all_up();
}

#[test]
fn a_cut_is_not_blamed_on_the_target() {
    let mut home = World::up(1);
    home.until(secs(121), |home| home.count(is_proof) == 2);
    home.cut();
    home.run(secs(12));
    home.heal();
    home.until(secs(10), World::is_all_up);
    let trouble = |note: &Note| matches!(note, Note::ServiceTrouble { .. });
    assert!(!home.notes().iter().any(trouble), "{:?}", home.notes());
}

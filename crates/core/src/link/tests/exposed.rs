//! A gateway that opens ports to everybody, though they were to be on its loopback alone.

use super::world::*;
use crate::health::Cause;
use crate::link::{Event, Reach};
use crate::service::Service;
use crate::status::{LinkState, ServiceState};

#[test]
fn a_port_that_everybody_can_reach_is_given_back_and_never_up() {
    let mut home = World::new(3);
    home.exposing = true;
    home.until(secs(2), |home| home.state() == LinkState::Halted);
    assert_eq!(home.cause(), Some(Cause::Exposed));
    assert_eq!(home.count(is_proof), 0, "nothing is proven through it");
    home.run(secs(3600));
    assert_eq!(home.up, ms(0));
    let opened = home.times(is_forward);
    assert!(opened.len() <= 30, "opened to everybody {} times in an hour", opened.len());
    for (opened, back) in opened.iter().zip(home.times(is_withdrawal)) {
        assert!(back.since(*opened) <= home.rtt * 3, "open for {:?}", back.since(*opened));
    }
    // A person mends it; sshd knows of that at the next login.
    home.exposing = false;
    home.tell(Event::Kick);
    home.until(secs(2), World::is_all_up);
}

#[test]
fn beside_a_public_port_the_others_wait_and_it_stays() {
    let mut home = World::with(2, |plan| {
        plan.services[1] = Service::from_forward("0.0.0.0:2223:localhost:22").unwrap();
    });
    home.exposing = true;
    home.run(secs(2));
    assert_eq!((home.service(0), home.trouble(0)), (ServiceState::Halted, Some(Cause::Exposed)));
    assert_eq!(home.service(1), ServiceState::Up);
    home.run(secs(3600));
    assert_eq!((home.count(is_dial), home.state()), (1, LinkState::Up));
    assert!(home.count(is_withdrawal) <= 13, "{}", home.count(is_withdrawal));
}

#[test]
fn a_login_that_may_not_see_it_is_believed_but_not_over_a_road_that_was_cut() {
    let mut home = World::new(1);
    home.unseen = true;
    home.until(secs(2), World::is_all_up);

    let mut home = World::new(1);
    home.unseen = true;
    home.until(secs(2), |home| home.count(is_survey) == 1);
    let id = home.serving();
    home.cut();
    home.until(secs(9), |home| home.state() == LinkState::Suspect);
    home.tell(Event::Surveyed(id, 0, Reach::Unseen));
    home.heal();
    home.until(secs(9), World::is_all_up);
    assert!(home.count(is_survey) >= 2, "what was cut off is asked again");
}

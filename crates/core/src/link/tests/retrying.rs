//! Retry is a policy over the cause: for every cause that there is, how often a gateway that answers
//! with it is dialled, and what ends the wait.

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::world::*;
use crate::health::tests::every;
use crate::health::{Cause, Retry};
use crate::link::{Event, Note};
use crate::status::LinkState;
use crate::time::Time;

/// From the end of a wait to the next dial: a knock and its answer.
const KNOCK: Duration = Duration::from_millis(300);

fn with(seed: u64, knockable: bool) -> World {
    World::with(1, |plan| (plan.seed, plan.knockable) = (seed, knockable))
}

/// The time between the end of each login and the next dial.
fn waits(home: &World) -> Vec<Duration> {
    let dials = home.times(is_dial);
    dials.windows(2).map(|pair| pair[1].since(pair[0] + home.login_takes)).collect()
}

fn causes(retry: Retry) -> impl Iterator<Item = Cause> {
    every().into_iter().filter(move |cause| cause.retry() == retry)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn each_wait_is_as_the_cause_asks_whatever_came_before(
        seed: u64,
        knockable: bool,
        history in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let every = every();
        let mut home = with(seed, knockable);
        for index in history {
            let cause = index.get(&every).clone();
            let (least, most) = cause.retry().bounds(knockable);
            home.login = Login::Fails(cause.clone());
            home.until(secs(500), |home| home.cause() == Some(cause.clone()));
            let dials = home.count(is_dial);
            prop_assert!(home.link.next_timer().is_some(), "{cause}: it would never try again");
            let took = home.until(secs(500), |home| home.count(is_dial) > dials);
            // The same cause as before is met at once, and its wait has begun already.
            prop_assert!(took <= most + KNOCK, "{cause}: after {took:?}");
            let wait = *waits(&home).last().unwrap();
            prop_assert!(wait >= least && wait <= most + KNOCK, "{cause}: {wait:?}");
            // Until this dial has its answer.
            home.run(home.login_takes);
        }
    }

    #[test]
    fn who_waits_for_a_person_says_so_once_and_probes_slowly(seed: u64, knockable: bool) {
        for cause in causes(Retry::Halt) {
            let mut home = with(seed, knockable);
            home.login = Login::Fails(cause.clone());
            home.run(secs(3_600));
            // A probe may be under way just now.
            home.until(secs(2), |home| home.state() == LinkState::Halted);
            let halts = home.notes().into_iter().filter(|note| matches!(note, Note::LinkHalted(_)));
            let probes = home.count(is_dial);
            prop_assert_eq!(halts.count(), probes, "each probe says it again");
            prop_assert!((8..=25).contains(&probes), "{}: {} probes in an hour", cause, probes);
            prop_assert!(waits(&home).iter().all(|wait| *wait >= secs(150)));
            prop_assert!(home.link.next_timer().is_some_and(|at| at.since(home.now) <= secs(450)));
        }
    }
}

#[test]
fn what_passes_by_itself_is_tried_within_a_second_for_ever() {
    for cause in causes(Retry::Soon) {
        let mut home = with(5, true);
        home.login = Login::Fails(cause.clone());
        home.run(secs(1_800));
        home.clear();
        home.run(secs(600));
        assert!(waits(&home).iter().all(|wait| *wait <= secs(1) + KNOCK), "{cause}");
        home.login = Login::Granted;
        home.until(secs(2), World::is_all_up);
    }
}

#[test]
fn a_gateway_that_turns_us_away_is_not_hammered() {
    // Half a minute at most, and a quarter of one on average.
    for cause in causes(Retry::Gently) {
        let mut home = with(5, true);
        home.login = Login::Fails(cause.clone());
        home.run(secs(600));
        home.clear();
        home.run(secs(3_600));
        let dials = home.count(is_dial);
        assert!((120..=400).contains(&dials), "{cause}: {dials} dials in an hour");
    }
}

#[test]
fn a_ban_is_waited_for_and_never_hammered() {
    for cause in causes(Retry::Slowly) {
        let mut home = with(5, true);
        home.login = Login::Fails(cause.clone());
        home.run(secs(3_600));
        // Each knock is a connection as well, and counts for a ban.
        for times in [home.times(is_dial), home.times(is_knock)] {
            let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
            assert!(gaps.iter().all(|gap| *gap >= secs(15)), "{cause}: {gaps:?}");
            assert!(times.len() <= 130, "{cause}: {} in an hour", times.len());
        }
        home.login = Login::Granted;
        home.until(secs(76), World::is_all_up);
    }
}

#[test]
fn a_kick_ends_every_wait() {
    for cause in every() {
        let mut home = with(5, true);
        home.login = Login::Fails(cause.clone());
        home.run(secs(300));
        home.login = Login::Granted;
        home.tell(Event::Kick);
        home.until(secs(1), World::is_all_up);
    }
}

#[test]
fn only_a_road_that_was_up_starts_the_series_over() {
    let turned_away = Login::Fails(Cause::ResetInKeyExchange { detail: "no".into() });
    let first_wait = |served: Duration| {
        let mut home = with(5, true);
        home.login = turned_away.clone();
        home.run(secs(600));
        home.login = Login::Granted;
        home.tell(Event::Kick);
        home.until(secs(1), World::is_all_up);
        home.run(served);
        home.clear();
        home.login = turned_away.clone();
        home.drop_serving();
        home.run(secs(600));
        waits(&home)[0]
    };
    assert!(first_wait(secs(15)) <= ms(250) + KNOCK, "{:?}", first_wait(secs(15)));
    assert!(first_wait(secs(2)) > secs(1), "{:?}", first_wait(secs(2)));
}

#[test]
fn a_gateway_that_says_that_it_starts_anew_is_back_within_a_second_each_time() {
    let mut home = World::up(1);
    for _ in 0..20 {
        // Too short for the road to count as one that was up.
        home.run(secs(2));
        home.clear();
        home.end_serving(Cause::GatewayGoingAway);
        home.until(secs(1) + KNOCK + home.login_takes, World::is_all_up);
        assert_eq!(home.count(is_dial), 1);
    }
}

#[test]
fn a_gateway_that_is_down_for_an_hour_costs_the_other_nothing() {
    // What one link did, and when.
    let hour_of = |beside: Option<&mut World>| {
        let mut home = World::up(2);
        home.clear();
        match beside {
            None => home.run(secs(3_600)),
            Some(other) => {
                for _ in 0..3_600 {
                    other.run(secs(1));
                    home.run(secs(1));
                }
            }
        }
        home.assert_all_up();
        (home.log, home.now)
    };
    let mut down = World::up(1);
    down.sshd_ends();
    let alone = hour_of(None);
    assert_eq!(hour_of(Some(&mut down)), alone);
    assert_eq!(down.count(is_dial), 1, "none but the first");
    assert!(down.now > Time::ZERO + secs(3_600));
}

#[test]
fn sshds_own_word_on_a_refused_forward_is_believed_without_looking() {
    for why in [
        Cause::ForwardingForbiddenByKey,
        Cause::ForwardingForbiddenByPermitlisten,
        Cause::ForwardingForbiddenByServer,
    ] {
        let mut home = World::new(1);
        (home.forbidden, home.explained) = (true, Some(why.clone()));
        home.run(secs(600));
        let status = home.status();
        let cause = status.services[0].cause.as_ref().map(|finding| finding.cause.clone());
        assert_eq!((status.state, cause), (LinkState::Up, Some(why)));
        assert_eq!(home.count(is_look), 0);
        let asked = home.count(is_forward);
        assert!((18..=30).contains(&asked), "asked {asked} times in ten minutes");
        // The person mends it; what was said of another request is forgotten.
        home.forbidden = false;
        home.until(secs(31), World::is_all_up);
    }
}

#[test]
fn homes_return_over_the_span_that_their_gateway_asked_for() {
    for (cap, most) in [(secs(0), ms(400)), (secs(1), ms(400)), (secs(20), secs(41))] {
        let mut returns = Vec::new();
        for seed in 0..40 {
            let mut home = with(seed, true);
            home.until(secs(5), World::is_all_up);
            home.run(secs(30));
            let serving = home.serving();
            home.tell(Event::Capped(serving, cap));
            let lost = Cause::GatewayGoingAway;
            home.tell(Event::Ended(serving, lost));
            let dials = home.count(is_dial);
            returns.push(home.until(secs(60), |home| home.count(is_dial) > dials));
        }
        assert!(returns.iter().all(|wait| *wait <= most), "{cap:?}: {returns:?}");
        let late = returns.iter().filter(|wait| **wait > secs(2)).count();
        assert_eq!(late > 20, cap > secs(1), "{cap:?}: {returns:?}");
    }
}

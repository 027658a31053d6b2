//! A day of faults, in virtual time, for several seeds: how soon the road is back after each, how
//! often the gateway is dialled, and how much of the day it was up.

use core::time::Duration;
use std::println;

use super::world::*;
use crate::health::Cause;
use crate::link::takeover::SECOND_SILENCE;
use crate::link::{Action, Event, Holder};
use crate::time::Time;

const DAY: Duration = Duration::from_secs(86_400);
const SERVICES: usize = 3;

/// At a quarter of a minute on average while it is turned away, and a little for all else.
const MOST_DIALS: usize = 400;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The network swallows everything.
    Cut,
    /// The home has another address.
    Address,
    /// sshd at the gateway ends, and comes back.
    Restart,
    /// sshd turns everybody away before the login.
    TurnsAway,
    /// The key is taken out of `authorized_keys`.
    Revoked,
    /// Another account takes the port while sshd is away.
    Stranger,
    /// Another home with the same login takes it.
    OtherHome,
    /// The service at home ends.
    Target,
    /// The hold is killed at the gateway.
    HoldKilled,
    /// One service's old session is nobody's that we know.
    Unrecorded,
}

const FAULTS: [Fault; 14] = [
    Fault::Cut,
    Fault::Cut,
    Fault::Cut,
    Fault::Address,
    Fault::Address,
    Fault::Restart,
    Fault::Restart,
    Fault::TurnsAway,
    Fault::Revoked,
    Fault::Stranger,
    Fault::OtherHome,
    Fault::Target,
    Fault::HoldKilled,
    Fault::Unrecorded,
];

/// Knuth's MMIX generator: the same day for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }
}

/// Lets a fault begin, last and end. Gives how long the road may take to be back.
fn befall(world: &mut World, fault: Fault, dice: &mut Dice) -> Duration {
    // A login, and for each service forward, look, release, forward and a proof of four round trips.
    let work = world.login_takes + world.rtt * 30 + ms(100);
    // For two minutes the knocks are eager.
    let knock = |lasted: Duration| if lasted < secs(110) { ms(250) } else { ms(1_000) };
    match fault {
        Fault::Cut => {
            let lasts = match dice.below(3) {
                0 => secs(dice.between(8, 20)),
                1 => secs(dice.between(20, 100)),
                _ => secs(dice.between(100, 1_200)),
            };
            world.cut();
            world.run(lasts);
            world.heal();
            knock(lasts) + work
        }
        Fault::Address => {
            world.change_address(true);
            work
        }
        Fault::Restart => {
            let lasts = secs(dice.between(1, 600));
            world.sshd_ends();
            world.run(lasts);
            world.listening = true;
            knock(lasts) + work
        }
        Fault::TurnsAway => {
            world.login = Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() });
            world.drop_serving();
            world.run(secs(dice.between(60, 3_600)));
            world.login = Login::Granted;
            secs(30) + work
        }
        Fault::Revoked => {
            world.login = Login::Fails(Cause::KeyRefused { detail: "no".into() });
            world.drop_serving();
            world.run(secs(3_600));
            world.login = Login::Granted;
            if dice.below(2) == 0 {
                world.tell(Event::Kick);
                return work;
            }
            secs(450) + work
        }
        Fault::Stranger | Fault::OtherHome => {
            world.sshd_ends();
            let (port, most) = match fault {
                Fault::Stranger => {
                    (Port::Other(Holder::Foreign { uid: 1001 }, shows('x')), secs(60))
                }
                _ => (Port::Session(session(1), shows('x')), secs(180)),
            };
            world.ports[1] = port;
            world.listening = true;
            world.run(secs(dice.between(60, 3_600)));
            world.ports[1] = Port::Free;
            most + work
        }
        Fault::Target => {
            let target = core::mem::replace(&mut world.targets[2], crate::link::Sighting::Silent);
            world.run(secs(dice.between(130, 1_200)));
            world.targets[2] = target;
            secs(64) + work
        }
        Fault::HoldKilled => {
            let id = world.serving();
            world.tell(Event::HoldRefused(id, no_hold("it ended")));
            work
        }
        Fault::Unrecorded => {
            world.sshd_ends();
            world.ports[0] = Port::Session(session(2), crate::link::Sighting::Silent);
            world.listening = true;
            // Silent twice.
            secs(4) + SECOND_SILENCE + secs(5) + knock(secs(0)) + work
        }
    }
}

fn a_day(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = World::with(SERVICES, |plan| plan.seed = seed);
    world.run(secs(5));
    let begin = world.now;
    let (mut faults, mut slowest) = (0, Duration::ZERO);
    while world.now.since(begin) < DAY {
        world.rtt = ms(dice.between(1, 200));
        world.login_takes = world.rtt * 7 + ms(100);
        world.run(secs(15));
        let rest = world.log.len();
        world.run(secs(dice.between(300, 1_500)));
        world.assert_all_up();
        assert_rest(&world.log[rest..]);
        let fault = FAULTS[usize::try_from(dice.below(FAULTS.len() as u64)).unwrap()];
        let most = befall(&mut world, fault, &mut dice);
        let took = world.until(secs(900), World::is_all_up);
        assert!(took <= most, "seed {seed}: {took:?} instead of {most:?} after {fault:?}");
        faults += 1;
        if matches!(fault, Fault::Cut | Fault::Address | Fault::Restart) {
            slowest = slowest.max(took);
        }
    }
    let span = world.now.since(begin);
    let dials = world.times(is_dial);
    let mut hour = Time::ZERO;
    while hour < world.now {
        let next = hour + secs(3_600);
        let count = dials.iter().filter(|at| **at >= hour && **at < next).count();
        assert!(count <= MOST_DIALS, "seed {seed}: {count} dials in an hour");
        hour = next;
    }
    println!(
        "seed {seed}: {faults} faults, {} dials, slowest return {slowest:?}, up {:.1} % of the day",
        dials.len(),
        100.0 * world.up.as_secs_f64() / span.as_secs_f64(),
    );
    world.tell(Event::Stop);
    world.until(secs(3), World::is_stopped);
}

/// At rest each service is proven at most once a minute, and nothing is dialled or opened.
fn assert_rest(log: &[(Time, Action)]) {
    for service in 0..SERVICES {
        let is_its = |action: &Action| matches!(action, Action::Prove(_, s) if *s == service);
        let times = log.iter().filter(|(_, action)| is_its(action)).map(|(at, _)| *at);
        let mut last = None;
        for at in times {
            let pause = last.replace(at).map(|last| at.since(last));
            assert!(pause.is_none_or(|pause| pause >= secs(60)), "{pause:?} between proofs");
        }
    }
    assert!(
        !log.iter().any(|(_, action)| is_dial(action) || is_forward(action) || is_knock(action))
    );
}

#[test]
fn days_of_faults_are_survived() {
    for seed in 1..=3 {
        a_day(seed);
    }
}

//! What holds whatever happens. Each step is watched by [`Check`]; here stand the histories.
//!
//! In the first kind the link is told anything at any time: answers to what it asked, answers to
//! what it never asked, about connections that are long gone and services that never were. In the
//! second kind a world answers it, goes through any faults, and is well in the end: then the road
//! must be, too.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::check::Check;
use super::world::*;
use crate::health::Cause;
use crate::health::tests::every;
use crate::link::{Action, ConnId, Event, Holder, Link, Plan, Reach, Sighting, Stage};
use crate::service::ProofKind;
use crate::time::Time;

const SERVICES: usize = 3;

/// A fact that the link is told, and whether it is one that it asked for.
#[derive(Clone, Debug)]
enum Told {
    /// An answer to one of the questions that are out.
    Answer { which: prop::sample::Index, how: u8 },
    /// Anything about any connection and any service.
    Anything { conn: u32, service: usize, what: u8, how: u8 },
    /// Another configuration.
    Replanned(u8),
    /// Nothing but time.
    Time,
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        6 => (any::<prop::sample::Index>(), any::<u8>())
            .prop_map(|(which, how)| Told::Answer { which, how }),
        3 => (0u32..12, 0usize..SERVICES + 2, 0u8..17, any::<u8>())
            .prop_map(|(conn, service, what, how)| Told::Anything { conn, service, what, how }),
        1 => any::<u8>().prop_map(Told::Replanned),
        2 => Just(Told::Time),
    ]
}

/// Mostly at once or soon; now and then after long.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => Just(Duration::ZERO),
        6 => (0u64..400).prop_map(ms),
        2 => (0u64..12_000).prop_map(ms),
        1 => (0u64..400).prop_map(secs),
    ]
}

fn cause(how: u8) -> Cause {
    let every = every();
    every[usize::from(how) % every.len()].clone()
}

fn holder(how: u8) -> Holder {
    match how % 8 {
        0 => Holder::Free,
        1 => Holder::Ourselves,
        2 | 3 => {
            let beat = (how < 128).then_some(u64::from(how % 3));
            Holder::Session { session: session(u32::from(how % 4)), beat }
        }
        7 => Holder::OneOf((0..u32::from(how % 5)).map(session).collect()),
        4 => Holder::Foreign { uid: 1001 },
        5 => Holder::Program { pid: 5, name: "nc".into() },
        _ => Holder::Unknown("hidden".into()),
    }
}

fn sighting(how: u8) -> Sighting {
    match how % 7 {
        0 | 1 => Sighting::Silent,
        6 => Sighting::OnLoopback(shows('h').into()),
        2 => shows('h'),
        3 => shows('x'),
        4 => Sighting::Refused,
        _ => Sighting::Wrong("what".into()),
    }
}

fn reach(how: u8) -> Reach {
    match how % 8 {
        0 | 1 => Reach::Everybody,
        2 | 3 => Reach::Unseen,
        _ => Reach::Loopback,
    }
}

/// An answer to this action, if it has one.
fn answer(action: &Action, how: u8) -> Option<Event> {
    Some(match action {
        Action::Knock => Event::Knocked(if how < 128 { Ok(()) } else { Err(cause(how)) }),
        Action::Dial(id) if how < 160 => Event::Connected(*id),
        Action::Dial(id) | Action::Close(id) => Event::Ended(*id, cause(how)),
        Action::Hold(id) => match how % 4 {
            0 => Event::HoldRefused(*id, no_hold("no")),
            1 => Event::Held(*id, None),
            _ => Event::Held(*id, Some(session(u32::from(how % 4)))),
        },
        Action::Ping(id, sequence) => Event::Pong(*id, *sequence),
        Action::Inspect(id) => Event::Inspected { conn: *id, moving: how < 80 },
        Action::Forward(id, service) => Event::Forwarded(*id, *service, how < 128),
        Action::Survey(id, service) => Event::Surveyed(*id, *service, reach(how)),
        Action::Look(id, service) => Event::Looked(*id, *service, holder(how)),
        Action::Release(id, service, _) => {
            Event::Released(*id, *service, if how < 128 { Ok(()) } else { Err("no".into()) })
        }
        Action::Prove(id, service) => Event::Seen(*id, *service, sighting(how), vec![key('h')]),
        Action::Withdraw(id, service) => Event::Withdrawn(*id, *service),
        Action::Remember(_) | Action::Report(_) | Action::Stopped => return None,
    })
}

fn anything(id: ConnId, service: usize, what: u8, how: u8) -> Event {
    let question = match what {
        0 => Action::Knock,
        1 => Action::Dial(id),
        2 => Action::Close(id),
        3 => Action::Hold(id),
        4 => Action::Ping(id, u64::from(how % 8)),
        5 => Action::Inspect(id),
        6 => Action::Forward(id, service),
        7 => Action::Look(id, service),
        8 => Action::Release(id, service, session(1)),
        9 => Action::Prove(id, service),
        13 => Action::Withdraw(id, service),
        14 => return Event::Deaf(id),
        15 => Action::Survey(id, service),
        10 => return Event::NetworkChanged(vec![id]),
        11 => return Event::Explained(id, cause(how)),
        12 => return Event::Reached(id, Stage::Greeted),
        _ => return Event::Kick,
    };
    answer(&question, how).unwrap_or(Event::Timer)
}

/// Another choice of services: some of them, on the same few ports, with other targets or proofs; and
/// another pace.
fn replanned(how: u8) -> Event {
    let mut services = services(SERVICES);
    let first = usize::from(how) % SERVICES;
    match how / 3 % 5 {
        0 => drop(services.remove(first)),
        1 => services[first].target = "elsewhere:22".parse().unwrap(),
        2 => services[first].proof = ProofKind::Hold,
        3 => services.rotate_left(first),
        _ => {}
    }
    Event::Replanned(services, secs(if how < 200 { 5 } else { 60 }))
}

struct Run {
    link: Link,
    now: Time,
    check: Check,
    asked: Vec<Action>,
}

impl Run {
    fn new(knockable: bool) -> Self {
        let plan = Plan {
            gateway: "203.0.113.7".into(),
            services: services(SERVICES),
            knockable,
            heartbeat: secs(5),
            sessions: vec![session(0)],
            seed: 3,
        };
        let check = Check::new(&plan.sessions);
        let now = Time::ZERO;
        Self { link: Link::new(plan, now), now, check, asked: Vec::new() }
    }

    fn tell(&mut self, event: Event) {
        self.check.event(&event, self.now);
        let was_timer = matches!(event, Event::Timer);
        let actions = self.link.handle(event, self.now);
        self.check.actions(&actions, &self.link, was_timer, self.now);
        self.asked.extend(actions.into_iter().filter(|action| answer(action, 0).is_some()));
    }

    /// Lets time pass; each timer is kept.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(timer) = self.link.next_timer().filter(|timer| *timer <= end) {
            self.now = timer.max(self.now);
            self.tell(Event::Timer);
        }
        self.now = end;
    }

    fn step(&mut self, told: &Told) {
        match told {
            Told::Answer { which, how } if !self.asked.is_empty() => {
                let asked = self.asked.remove(which.index(self.asked.len()));
                // Closed connections always end.
                if let Some(event) = answer(&asked, *how) {
                    self.tell(event);
                }
            }
            Told::Anything { conn, service, what, how } => {
                // Half of it is about the connection that serves, and most of that is wrong.
                let serving = self.check.serving().filter(|_| conn % 2 == 0);
                self.tell(anything(serving.unwrap_or(ConnId(*conn)), *service, *what, *how));
            }
            Told::Replanned(how) => self.tell(replanned(*how)),
            _ => {}
        }
    }
}

/// Faults of the world, and lies about it.
#[derive(Clone, Debug)]
enum Fault {
    Cut,
    Heal,
    Address { lost: bool },
    SshdEnds,
    SshdIsBack,
    Login(u8),
    Hold(u8),
    Pongs(bool),
    Moving(bool),
    Mute(bool),
    Forbidden(bool),
    Exposing(bool),
    Unseen(bool),
    Release(bool),
    Port(usize, u8),
    Target(usize, u8),
    Replanned(u8),
    Lie { conn: u32, service: usize, what: u8, how: u8 },
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Cut),
        Just(Fault::Heal),
        any::<bool>().prop_map(|lost| Fault::Address { lost }),
        Just(Fault::SshdEnds),
        Just(Fault::SshdIsBack),
        (0u8..5).prop_map(Fault::Login),
        (0u8..3).prop_map(Fault::Hold),
        any::<bool>().prop_map(Fault::Pongs),
        any::<bool>().prop_map(Fault::Moving),
        any::<bool>().prop_map(Fault::Mute),
        any::<bool>().prop_map(Fault::Forbidden),
        any::<bool>().prop_map(Fault::Exposing),
        any::<bool>().prop_map(Fault::Unseen),
        any::<bool>().prop_map(Fault::Release),
        (0..SERVICES, any::<u8>()).prop_map(|(service, how)| Fault::Port(service, how)),
        (0..SERVICES, any::<u8>()).prop_map(|(service, how)| Fault::Target(service, how)),
        any::<u8>().prop_map(Fault::Replanned),
        (0u32..12, 0usize..SERVICES + 2, 0u8..17, any::<u8>())
            .prop_map(|(conn, service, what, how)| Fault::Lie { conn, service, what, how }),
    ]
}

fn befall(world: &mut World, fault: &Fault) {
    match *fault {
        Fault::Cut => world.cut(),
        Fault::Heal => world.heal(),
        Fault::Address { lost } => world.change_address(lost),
        Fault::SshdEnds => world.sshd_ends(),
        Fault::SshdIsBack => world.listening = true,
        Fault::Login(how) => {
            world.login = match how {
                0 | 1 => Login::Granted,
                2 => Login::Hangs,
                how => Login::Fails(cause(how)),
            }
        }
        Fault::Hold(0) => world.hold = HoldManner::Granted,
        Fault::Hold(1) => world.hold = HoldManner::Refused,
        Fault::Hold(_) => world.hold = HoldManner::Swallowed,
        Fault::Pongs(pongs) => world.pongs = pongs,
        Fault::Moving(moving) => world.moving = moving,
        Fault::Mute(mute) => world.mute = mute,
        Fault::Forbidden(forbidden) => world.forbidden = forbidden,
        Fault::Exposing(exposing) => world.exposing = exposing,
        Fault::Unseen(unseen) => world.unseen = unseen,
        Fault::Release(works) => {
            world.release = if works { Ok(()) } else { Err("no".into()) };
        }
        Fault::Port(service, how) => {
            // What holds our own port was dealt with when it was asked for.
            if world.is_own(service) {
                return;
            }
            world.ports[service] = match holder(how) {
                Holder::Free | Holder::Ourselves => Port::Free,
                Holder::Session { session, .. } => Port::Session(session, sighting(how / 8)),
                other => Port::Other(other, sighting(how / 8)),
            }
        }
        Fault::Target(service, how) => world.targets[service] = sighting(how),
        Fault::Replanned(how) => world.tell(replanned(how)),
        // A lie about the very request that is out is the gateway's own affair.
        Fault::Lie { conn, what: 6..=9 | 13 | 15, .. } if world.serves(ConnId(conn)) => {}
        Fault::Lie { conn, service, what, how } => {
            world.tell(anything(ConnId(conn), service, what, how));
        }
    }
}

fn all_well(world: &mut World) {
    world.listening = true;
    world.login = Login::Granted;
    world.pongs = true;
    world.moving = false;
    world.mute = false;
    world.forbidden = false;
    world.exposing = false;
    world.unseen = false;
    world.release = Ok(());
    for service in 0..SERVICES {
        world.targets[service] = shows('h');
        if !matches!(&world.ports[service], Port::Session(_, Sighting::Silent)) {
            world.ports[service] = Port::Free;
        }
    }
    world.hold = HoldManner::Granted;
    world.heal();
    world.sshd_notices();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_step_breaks_a_rule_whatever_is_told(
        knockable: bool,
        history in prop::collection::vec((pause(), told()), 1..120),
    ) {
        let mut run = Run::new(knockable);
        for (pause, told) in &history {
            run.pass(*pause);
            run.step(told);
        }
        // The end comes, and nobody answers any more.
        run.tell(Event::Stop);
        run.pass(secs(3));
        prop_assert!(run.check.is_stopped());
        prop_assert!(run.check.open().next().is_none(), "still open");
    }

    #[test]
    fn the_road_comes_back_whatever_happened(
        knockable: bool,
        history in prop::collection::vec((pause(), fault()), 1..60),
    ) {
        let mut world = World::with(SERVICES, |plan| plan.knockable = knockable);
        // Where there is no hold, a port is free only when sshd itself gives a session up.
        world.stale_for = secs(300);
        for (pause, fault) in &history {
            world.run(*pause);
            befall(&mut world, fault);
        }
        all_well(&mut world);
        world.tell(Event::Replanned(services(SERVICES), secs(5)));
        // The longest wait is that of a link which was halted.
        world.until(secs(600), World::is_all_up);
        // And it stays, without anything being done.
        world.run(secs(200));
        world.clear();
        world.run(secs(600));
        world.assert_all_up();
        prop_assert_eq!(world.count(is_dial) + world.count(is_forward), 0);
        world.tell(Event::Stop);
        world.until(secs(3), World::is_stopped);
    }
}

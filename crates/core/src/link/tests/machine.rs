//! The link's rules as a state machine: a model of the world around it goes through any history that
//! makes sense, and after each moment of it these hold.
//!
//! - Never two dials in flight; and one beside a connection that serves only while that is suspect.
//! - A timer is always pending unless the link has stopped, and a halted link's is its probe.
//! - Draining always ends.
//! - When the world has been well for long enough, all is up.
//!
//! The model knows what the world is like, and what may happen to it next. What must hold after each
//! single step, [`Check`](super::check::Check) watches here too; `anything` has the histories that
//! make no sense.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::world::*;
use crate::health::Cause;
use crate::link::Event;
use crate::status::LinkState;

const SERVICES: usize = 2;

/// A link drains for three seconds at most.
const DRAINED: Duration = Duration::from_secs(3);

/// The longest pause of a halted link's probe, with its jitter.
const PROBED: Duration = Duration::from_secs(450);

/// The longest wait there is, that of a halted link, and then all the work.
const UP_AGAIN: Duration = Duration::from_secs(600);

/// What the world around the link is like.
#[derive(Clone, Debug)]
struct Model {
    reachable: bool,
    listening: bool,
    login: Door,
    pongs: bool,
    /// For how long nothing was wrong, and nothing happened.
    well: Duration,
    /// For how long a halt has been the only sensible thing.
    refused: Duration,
    /// For how long the link has been told to end.
    ending: Option<Duration>,
}

/// How a login goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Open,
    /// It takes so long that an old connection may answer first.
    Slow,
    /// The key is refused, which only a person can mend.
    Locked,
    /// It closes before the login.
    Slammed,
    Hangs,
}

#[derive(Clone, Debug)]
enum Step {
    Cut,
    Heal,
    NewAddress {
        lost: bool,
    },
    SshdEnds,
    SshdReturns,
    Login(Door),
    Pongs(bool),
    /// Another configuration, of this many services.
    Replanned(usize),
    Kick,
    End,
    Wait(Duration),
}

impl Model {
    fn is_well(&self) -> bool {
        self.reachable && self.listening && self.login == Door::Open && self.pongs
    }

    fn passes(&mut self, span: Duration) {
        if self.is_well() {
            self.well += span;
        }
        if self.reachable && self.listening && self.login == Door::Locked {
            self.refused += span;
        }
        if let Some(ending) = &mut self.ending {
            *ending += span;
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let (well, refused) = (Duration::ZERO, Duration::ZERO);
        let login = Door::Open;
        Just(Self {
            reachable: true,
            listening: true,
            login,
            pongs: true,
            well,
            refused,
            ending: None,
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let door = prop_oneof![
            3 => Just(Door::Open),
            2 => Just(Door::Locked),
            1 => Just(Door::Slammed),
            2 => Just(Door::Slow),
            2 => Just(Door::Hangs),
        ];
        let wait = prop_oneof![
            4 => (0u64..400).prop_map(ms),
            4 => (0u64..12_000).prop_map(ms),
            2 => (0u64..700).prop_map(secs),
        ];
        prop_oneof![
            2 => Just(Step::Cut),
            3 => Just(Step::Heal),
            1 => any::<bool>().prop_map(|lost| Step::NewAddress { lost }),
            1 => Just(Step::SshdEnds),
            2 => Just(Step::SshdReturns),
            3 => door.prop_map(Step::Login),
            1 => any::<bool>().prop_map(Step::Pongs),
            1 => (1..=SERVICES).prop_map(Step::Replanned),
            1 => Just(Step::Kick),
            1 => Just(Step::End),
            12 => wait.prop_map(Step::Wait),
        ]
        .boxed()
    }

    /// What changes nothing does not happen; and of a link that ends, nobody wants anything more.
    fn preconditions(model: &Self, step: &Step) -> bool {
        match *step {
            Step::Cut => model.reachable,
            Step::Heal => !model.reachable,
            Step::SshdEnds => model.listening,
            Step::SshdReturns => !model.listening,
            Step::Login(door) => model.login != door,
            Step::Pongs(pongs) => model.pongs != pongs,
            Step::End | Step::Replanned(_) | Step::Kick => model.ending.is_none(),
            Step::NewAddress { .. } | Step::Wait(_) => true,
        }
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        match *step {
            Step::Cut => model.reachable = false,
            Step::Heal => model.reachable = true,
            Step::SshdEnds => model.listening = false,
            Step::SshdReturns => model.listening = true,
            Step::Login(door) => model.login = door,
            Step::Pongs(pongs) => model.pongs = pongs,
            Step::End => model.ending = Some(Duration::ZERO),
            Step::NewAddress { .. } | Step::Replanned(_) | Step::Kick | Step::Wait(_) => {}
        }
        match *step {
            Step::Wait(span) => model.passes(span),
            _ => (model.well, model.refused) = (Duration::ZERO, Duration::ZERO),
        }
        model
    }
}

/// The real link, in a world that does what the model says.
struct Driven {
    world: World,
}

impl Driven {
    /// Lets time pass, and looks at the link all the while.
    fn wait(&mut self, span: Duration) {
        let end = self.world.now + span;
        let slice = (span / 64).max(ms(1));
        while self.world.now < end {
            let left = end.since(self.world.now);
            self.world.run(slice.min(left));
            self.look();
        }
    }

    /// What holds at any moment, whatever the world is like.
    fn look(&self) {
        let (world, status) = (&self.world, self.world.status());
        let open = world.open();
        let dialled: Vec<_> = open.iter().filter(|id| !world.serves(**id)).collect();
        assert!(dialled.len() <= 1, "two dials in flight: {dialled:?}");
        let races = dialled.len() < open.len() && !dialled.is_empty();
        assert!(!races || status.state == LinkState::Suspect, "{dialled:?} beside {status:#?}");

        if world.is_stopped() {
            assert_eq!(world.link.next_timer(), None, "a timer after the end");
            assert_eq!(open, [], "connections are left");
            return;
        }
        let timer = world.link.next_timer().expect("a timer is pending");
        if status.state == LinkState::Halted {
            assert!(timer.since(world.now) <= PROBED, "halted without a probe: {status:#?}");
            assert!(status.retry_in_ms.is_some(), "halted without a probe: {status:#?}");
        }
    }

    fn dials(&self) -> usize {
        self.world.count(is_dial)
    }
}

impl StateMachineTest for Driven {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        let mut world = World::new(SERVICES);
        world.stale_for = secs(60);
        Self { world }
    }

    fn apply(mut driven: Self, model: &Model, step: Step) -> Self {
        let world = &mut driven.world;
        match step {
            Step::Cut => world.cut(),
            Step::Heal => world.heal(),
            Step::NewAddress { lost } => world.change_address(lost),
            Step::SshdEnds => world.sshd_ends(),
            Step::SshdReturns => world.listening = true,
            Step::Login(door) => {
                world.login_takes = if door == Door::Slow { secs(5) } else { ms(150) };
                world.login = match door {
                    Door::Open | Door::Slow => Login::Granted,
                    Door::Locked => Login::Fails(Cause::KeyRefused { detail: "no".into() }),
                    Door::Slammed => {
                        Login::Fails(Cause::ResetInKeyExchange { detail: "banned".into() })
                    }
                    Door::Hangs => Login::Hangs,
                }
            }
            Step::Pongs(pongs) => world.pongs = pongs,
            Step::Replanned(count) => world.tell(Event::Replanned(services(count), secs(5))),
            Step::Kick => world.tell(Event::Kick),
            Step::End => world.tell(Event::Stop),
            Step::Wait(span) => {
                let before = driven.dials();
                let is_halted = |driven: &Self| driven.world.state() == LinkState::Halted;
                let was_halted = is_halted(&driven);
                driven.wait(span);
                // The key was refused before this began, and nothing else has been wrong.
                if model.refused >= span && span > PROBED && was_halted && is_halted(&driven) {
                    assert!(driven.dials() > before, "halted for {span:?}, and never probed");
                }
            }
        }
        driven.look();
        driven
    }

    fn check_invariants(driven: &Self, model: &Model) {
        let ended = model.ending.is_some_and(|ending| ending >= DRAINED);
        assert!(!ended || driven.world.is_stopped(), "draining does not end");
        assert!(model.ending.is_some() || !driven.world.is_stopped(), "ended by itself");
        if model.well >= UP_AGAIN && model.ending.is_none() {
            driven.world.assert_all_up();
        }
    }

    /// Wherever a history leaves it, the link can be ended.
    fn teardown(mut driven: Self, _: Model) {
        driven.world.tell(Event::Stop);
        driven.wait(DRAINED);
        assert!(driven.world.is_stopped(), "draining does not end");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_link_keeps_its_rules_in_any_world(sequential 1..60 => Driven);
}

//! Switches in virtual time, with machines that do as they please.

use alloc::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A machine with the two services on it.
#[derive(Debug)]
struct World {
    now: Time,
    old_runs: bool,
    old_enabled: bool,
    new_runs: bool,
    /// When the new road is proven, after the old tunnel was stopped.
    proven_after: Option<Duration>,
    stopped_at: Option<Time>,
    stop_fails: bool,
    disable_fails: bool,
    end_fails: bool,
    starts_failing: u32,
    interrupt_at: Option<Duration>,
    /// Each look takes this long.
    look: Duration,
    done: Vec<Action>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: Time::ZERO,
            old_runs: true,
            old_enabled: true,
            new_runs: true,
            proven_after: Some(Duration::from_secs(1)),
            stopped_at: None,
            stop_fails: false,
            disable_fails: false,
            end_fails: false,
            starts_failing: 0,
            interrupt_at: None,
            look: Duration::from_millis(20),
            done: Vec::new(),
        }
    }
}

impl World {
    fn result(fails: bool) -> Result<(), Detail> {
        if fails { Err(Detail::new("no")) } else { Ok(()) }
    }

    fn perform(&mut self, action: &Action) -> Option<Event> {
        self.done.push(action.clone());
        let proven = |world: &Self| {
            let stopped = world.stopped_at?;
            Some(world.new_runs && world.now.since(stopped) >= world.proven_after?)
        };
        Some(match action {
            Action::StopOld => {
                self.old_runs = false;
                self.stopped_at = Some(self.now);
                Event::OldStopped(Self::result(self.stop_fails))
            }
            Action::Look => {
                self.now = self.now + self.look;
                Event::Seen(Self::result(proven(self) != Some(true)))
            }
            Action::DisableOld => {
                assert_eq!(proven(self), Some(true), "disabled without proof");
                self.old_enabled = self.disable_fails;
                Event::OldDisabled(Self::result(self.disable_fails))
            }
            Action::EndNew => {
                self.new_runs = self.end_fails;
                Event::NewEnded(Self::result(self.end_fails))
            }
            Action::StartOld => {
                let fails = self.starts_failing > 0;
                self.starts_failing = self.starts_failing.saturating_sub(1);
                self.old_runs = !fails;
                Event::OldStarted(Self::result(fails))
            }
            Action::Finish(_) => return None,
        })
    }

    fn run(&mut self) -> End {
        let (mut switch, actions) = Switch::begin();
        let mut waiting: VecDeque<Action> = actions.into();
        for _ in 0..10_000 {
            if self.interrupt_at.is_some_and(|at| self.now >= Time::ZERO + at) {
                self.interrupt_at = None;
                waiting.extend(switch.handle(Event::Interrupted, self.now));
            }
            let event = match waiting.pop_front() {
                Some(Action::Finish(end)) => return end,
                Some(action) => self.perform(&action),
                None => {
                    let at = switch.next_timer().expect("something to wait for");
                    if at > self.now {
                        self.now = at;
                    }
                    Some(Event::Timer)
                }
            };
            if let Some(event) = event {
                waiting.extend(switch.handle(event, self.now));
            }
        }
        panic!("it does not end: {self:?}");
    }
}

#[test]
fn all_goes_well() {
    let mut world = World::default();
    assert_eq!(world.run(), End::Done);
    assert!(world.new_runs && !world.old_runs && !world.old_enabled);
    assert!(world.now < Time::ZERO + Duration::from_secs(2));
}

#[test]
fn no_proof_comes() {
    let mut world = World { proven_after: None, ..World::default() };
    let End::Back(why) = world.run() else { panic!("{world:?}") };
    assert_eq!(why.as_str(), "no proof within 60 s: no");
    assert!(world.old_runs && world.old_enabled && !world.new_runs);
    assert!(world.now >= Time::ZERO + PATIENCE && world.now < Time::ZERO + PATIENCE * 2);
    let order: Vec<&Action> = world.done.iter().filter(|action| **action != Action::Look).collect();
    assert_eq!(order, [&Action::StopOld, &Action::EndNew, &Action::StartOld]);
}

#[test]
fn a_look_that_hangs_is_not_waited_for() {
    let (mut switch, _) = Switch::begin();
    assert_eq!(switch.handle(Event::OldStopped(Ok(())), Time::ZERO), [Action::Look]);
    let end = switch.next_timer().unwrap();
    assert_eq!(switch.handle(Event::Timer, end), [Action::EndNew]);
    assert_eq!(switch.handle(Event::Seen(Ok(())), end), [], "too late");
}

#[test]
fn the_old_tunnel_needs_several_starts_or_a_person() {
    let back = World { proven_after: None, starts_failing: 2, ..World::default() };
    for (mut world, runs) in [
        (back, true),
        (World { proven_after: None, starts_failing: 99, ..World::default() }, false),
    ] {
        let end = world.run();
        assert_eq!(world.old_runs, runs, "{end:?}");
        assert_eq!(matches!(end, End::Stuck(..)), !runs);
        assert!(world.old_enabled, "the next boot brings it back");
    }
}

proptest! {
    /// Whatever fails, and whenever it is interrupted: one of the two runs at the end, and the old one
    /// is disabled only if the new one was proven.
    #[test]
    fn one_of_the_two_runs_at_the_end(
        proven in prop::option::of(0..90_000_u64),
        interrupt in prop::option::of(0..90_000_u64),
        stop_fails in any::<bool>(),
        disable_fails in any::<bool>(),
        end_fails in any::<bool>(),
        starts_failing in 0..STARTS,
        look in 0..10_000_u64,
    ) {
        let mut world = World {
            proven_after: proven.map(Duration::from_millis),
            interrupt_at: interrupt.map(Duration::from_millis),
            stop_fails,
            disable_fails,
            end_fails,
            starts_failing,
            look: Duration::from_millis(look),
            ..World::default()
        };
        match world.run() {
            End::Done => prop_assert!(world.new_runs && !world.old_enabled),
            End::StillEnabled(_) => prop_assert!(world.new_runs && world.old_enabled),
            End::Back(_) => prop_assert!(world.old_runs && world.old_enabled),
            End::Stuck(..) => prop_assert!(false, "{:?}", world),
        }
    }
}

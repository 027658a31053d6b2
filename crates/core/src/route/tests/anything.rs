//! Whatever agents and clients do, in whatever order, these hold after each step.
//!
//! - One agent at most is registered as a home, and generations only rise.
//! - Nobody who is alive is replaced by another agent.
//! - Each connection is known until it is told that it ends, or has ended, and not longer.
//! - Nobody waits longer than he may, and no more wait than there is room for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const HOMES: [&str; 2] = ["home-a", "home-b"];
const HEARTBEATS: [u64; 3] = [1, 4, 15];

/// How long an agent that is registered has to answer.
const ANSWERED: Duration = Duration::from_millis(500);

/// How long a client waits.
const SERVED: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    Register {
        home: usize,
        agent: u8,
        brought: u64,
    },
    Heard(usize),
    /// Who was asked with a `Ping` answers, as one that is alive does.
    Answer,
    Closed(usize),
    Dismiss(usize),
    Ready {
        home: usize,
        agent: u8,
        is_stale: bool,
    },
    Take {
        home: usize,
    },
    /// Time passes, and every timer is served.
    Wait(u64),
    /// Time passes, and the gateway's clock wakes late.
    Oversleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let millis = || prop_oneof![0u64..600, 0u64..6000, 0u64..50_000];
    prop_oneof![
        4 => (0..2usize, 0..3u8, 0..50u64)
            .prop_map(|(home, agent, brought)| Step::Register { home, agent, brought }),
        3 => (0..40usize).prop_map(Step::Heard),
        2 => Just(Step::Answer),
        2 => (0..40usize).prop_map(Step::Closed),
        1 => (0..40usize).prop_map(Step::Dismiss),
        6 => (0..2usize, 0..3u8, prop::bool::weighted(0.1))
            .prop_map(|(home, agent, is_stale)| Step::Ready { home, agent, is_stale }),
        6 => (0..2usize).prop_map(|home| Step::Take { home }),
        4 => millis().prop_map(Step::Wait),
        1 => millis().prop_map(Step::Oversleep),
    ]
}

/// What a connection is, as far as its peer was told.
#[derive(Clone, Debug)]
enum Role {
    Newcomer { agent: u8, since: Time },
    Control { agent: u8, heard: Time, asked: Option<Time> },
    Data,
    Client { until: Time },
}

#[derive(Debug)]
struct Conn {
    home: Name,
    role: Role,
}

/// The world around a registry: what each connection was told.
struct World {
    registry: Registry,
    now: Time,
    last: u64,
    conns: BTreeMap<ConnId, Conn>,
    generations: BTreeMap<Name, u64>,
    /// Who lost each home to somebody else in the actions that are being done, and whether it was
    /// asked in vain for long enough.
    lost: BTreeMap<Name, (u8, bool)>,
}

fn heartbeat(agent: u8) -> Duration {
    Duration::from_secs(HEARTBEATS[usize::from(agent)])
}

/// What silence ends its registration.
fn patience(agent: u8) -> Duration {
    (heartbeat(agent) * 3).max(Duration::from_secs(10))
}

impl World {
    fn new() -> Self {
        Self {
            registry: Registry::new(POOL),
            now: Time::ZERO,
            last: 0,
            conns: BTreeMap::new(),
            generations: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    fn dial(&mut self, home: usize, role: Role) -> (ConnId, Name) {
        self.last += 1;
        let (conn, home) = (ConnId(self.last), name(HOMES[home]));
        self.conns.insert(conn, Conn { home: home.clone(), role });
        (conn, home)
    }

    fn pick(&self, index: usize) -> Option<ConnId> {
        self.conns.keys().nth(index.checked_rem(self.conns.len())?).copied()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Register { home, agent, brought } => {
                let (conn, home) = self.dial(home, Role::Newcomer { agent, since: self.now });
                let heartbeat = heartbeat(agent);
                let claim = Claim { home, brought, heartbeat, ..claim(conn.0, agent) };
                let actions = self.registry.register(claim, self.now);
                let is_too_low = |action: &Action| matches!(action, Action::Accept { generation, .. } if *generation <= brought);
                assert!(!actions.iter().any(is_too_low), "not higher than what it brought");
                self.perform(actions);
            }
            Step::Heard(index) => {
                if let Some(conn) = self.pick(index) {
                    self.heard(conn);
                }
            }
            Step::Answer => {
                let was_asked =
                    |conn: &Conn| matches!(conn.role, Role::Control { asked: Some(_), .. });
                let asked = self.conns.iter().filter(|(_, conn)| was_asked(conn));
                for conn in asked.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.heard(conn);
                }
            }
            Step::Closed(index) => {
                if let Some(conn) = self.pick(index) {
                    self.conns.remove(&conn);
                    let actions = self.registry.closed(conn, self.now);
                    self.perform(actions);
                }
            }
            Step::Dismiss(index) => {
                if let Some(conn) = self.pick(index) {
                    let actions = self.registry.dismiss(conn, Reason::Revoked, self.now);
                    self.perform(actions);
                }
            }
            Step::Ready { home, agent, is_stale } => {
                let (conn, home) = self.dial(home, Role::Data);
                let current = self.generations.get(&home).copied().unwrap_or(0);
                let generation = current.saturating_sub(is_stale.into());
                let Claim { key, instance, .. } = claim(0, agent);
                let actions =
                    self.registry.ready(conn, (&home, &key), (instance, generation), self.now);
                let is_its_own = self.control(&home).is_some_and(|(_, role)| {
                    matches!(role, Role::Control { agent: owner, .. } if *owner == agent)
                });
                if is_stale || !is_its_own {
                    assert!(matches!(actions[..], [Action::Refuse(..)]), "{actions:?}");
                }
                self.perform(actions);
            }
            Step::Take { home } => {
                let until = self.now + SERVED;
                let (conn, home) = self.dial(home, Role::Client { until });
                let actions = self.registry.take(conn, key_of(conn.0), &home, self.now);
                self.perform(actions);
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
            Step::Oversleep(millis) => {
                self.now = self.now + Duration::from_millis(millis);
                self.tick();
            }
        }
        self.check();
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.registry.next_timer().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tick();
            assert!(self.registry.next_timer().is_none_or(|at| at > self.now), "a timer stays due");
        }
        self.now = end;
        self.is_on_time();
    }

    fn tick(&mut self) {
        let actions = self.registry.tick(self.now);
        self.perform(actions);
        self.is_on_time();
    }

    fn heard(&mut self, conn: ConnId) {
        let now = self.now;
        if let Some(Conn { role: Role::Control { heard, asked, .. }, .. }) =
            self.conns.get_mut(&conn)
        {
            (*heard, *asked) = (now, None);
        }
        let actions = self.registry.heard(conn, now);
        self.perform(actions);
    }

    fn control(&self, home: &Name) -> Option<(ConnId, &Role)> {
        let mut all = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.home == *home && matches!(conn.role, Role::Control { .. }));
        let one = all.next().map(|(id, conn)| (*id, &conn.role));
        assert!(all.next().is_none(), "two are registered as {home}");
        one
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.act(action);
        }
        assert!(self.lost.is_empty(), "a home was taken away and given to nobody");
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Accept { conn, generation } => {
                let Conn { home, role } = self.conns.remove(&conn).expect("a connection");
                let Role::Newcomer { agent, .. } = role else { panic!("accepted twice") };
                assert!(self.control(&home).is_none(), "two are registered as {home}");
                let before = self.generations.insert(home.clone(), generation);
                assert!(before.is_none_or(|before| generation > before), "a generation fell");
                if let Some((loser, was_silent)) = self.lost.remove(&home) {
                    assert!(loser == agent || was_silent, "one that is alive was replaced");
                }
                let role = Role::Control { agent, heard: now, asked: None };
                self.conns.insert(conn, Conn { home, role });
            }
            Action::Ping(conn) => {
                let Some(Conn { role: Role::Control { asked, .. }, .. }) =
                    self.conns.get_mut(&conn)
                else {
                    panic!("a ping to no home")
                };
                asked.get_or_insert(now);
            }
            Action::Refuse(conn, reason) => {
                let Conn { role, .. } = self.conns.remove(&conn).expect("a connection");
                match (role, reason) {
                    (_, Reason::Revoked) => {}
                    (Role::Newcomer { .. }, Reason::Duplicate | Reason::Replaced) => {}
                    (Role::Data, Reason::Offline | Reason::Replaced | Reason::Full) => {}
                    (Role::Client { .. }, Reason::Offline | Reason::Full) => {}
                    (Role::Client { until }, Reason::HomeSilent) => {
                        assert!(now >= until, "too early")
                    }
                    other => panic!("{other:?}"),
                }
            }
            Action::Goodbye(conn, reason) => {
                let Conn { home, role } = self.conns.remove(&conn).expect("a connection");
                let Role::Control { agent, heard, asked, .. } = role else { panic!("no home") };
                match reason {
                    Reason::Revoked => {}
                    Reason::Replaced => {
                        let was_silent = asked.is_some_and(|at| now.since(at) >= ANSWERED);
                        self.lost.insert(home, (agent, was_silent));
                    }
                    Reason::HomeSilent => {
                        assert!(now.since(heard) >= patience(agent), "too early");
                    }
                    other => panic!("{other:?}"),
                }
            }
            Action::Alarm { conn, .. } | Action::Wanted { conn, .. } => {
                let role = &self.conns[&conn].role;
                assert!(matches!(role, Role::Control { .. }), "{role:?}");
            }
            Action::CloseData(conn) => {
                let gone = self.conns.remove(&conn).expect("a connection");
                assert!(matches!(gone.role, Role::Data), "{gone:?}");
            }
            Action::Give { client, data } => {
                let client = self.conns.remove(&client).expect("a client");
                let data = self.conns.remove(&data).expect("a data connection");
                assert!(matches!((&client.role, &data.role), (Role::Client { .. }, Role::Data)));
                assert_eq!(client.home, data.home);
            }
        }
    }

    /// The clock has just been served: nobody waits who should not.
    fn is_on_time(&self) {
        for (id, conn) in &self.conns {
            let is_due = match conn.role {
                Role::Control { agent, heard, asked, .. } => {
                    let silence = self.now.since(heard);
                    silence >= patience(agent)
                        || (silence >= heartbeat(agent) * 2 && asked.is_none())
                }
                Role::Client { until } => self.now >= until,
                Role::Newcomer { since, .. } => self.now.since(since) >= ANSWERED,
                Role::Data => false,
            };
            assert!(!is_due, "{id:?} is overdue: {conn:?}");
        }
    }

    fn check(&self) {
        let registry = &self.registry;
        let there: BTreeMap<_, _> =
            self.conns.iter().map(|(id, conn)| (*id, conn.home.clone())).collect();
        assert_eq!(registry.conns, there);
        for home in HOMES.map(name) {
            let of_home = |is: fn(&Role) -> bool| {
                self.conns.values().filter(|conn| conn.home == home && is(&conn.role)).count()
            };
            let newcomers = of_home(|role| matches!(role, Role::Newcomer { .. }));
            let data = of_home(|role| matches!(role, Role::Data));
            let clients = of_home(|role| matches!(role, Role::Client { .. }));
            assert!(newcomers <= 1 && data <= POOL && clients <= 16);
            assert!(data == 0 || clients == 0, "both wait for each other");
            let live = registry.home(&home).and_then(Home::live);
            assert_eq!(live.map(|live| live.claim().conn), self.control(&home).map(|(id, _)| id));
            if let Some(live) = live {
                assert_eq!((live.waiting(), live.clients()), (data, clients));
                let at = registry.home(&home).and_then(|home| home.alarm);
                assert!(at.is_some_and(|at| at <= live.due()), "its timer is too late");
            } else {
                assert_eq!((newcomers, data, clients), (0, 0, 0), "who waits for {home}?");
            }
            let Some(known) = registry.home(&home) else { continue };
            assert_eq!(Some(&known.generation()), self.generations.get(&home));
            let entry = known.offline.map(|since| (since, home.clone()));
            assert_eq!(entry.is_some(), live.is_none());
            assert!(entry.is_none_or(|entry| registry.offline.contains(&entry)));
        }
        let count = |is: fn(&Home) -> bool| registry.homes().filter(|(_, home)| is(home)).count();
        assert_eq!(registry.offline.len(), count(|home| home.live().is_none()));
        assert_eq!(registry.alarms.len(), count(|home| home.alarm.is_some()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_the_rules_hold(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        // And when nobody says anything any more, all of it ends.
        world.step(&Step::Wait(60_000));
        prop_assert!(world.conns.is_empty(), "left: {:?}", world.conns);
        prop_assert_eq!(world.registry.next_timer(), None);
    }
}

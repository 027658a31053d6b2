//! Each rule of "Registration" in docs/protocol.md by an example; `anything` has all histories.

mod anything;

use alloc::vec;

use super::*;

const POOL: usize = 2;
const HEARTBEAT: Duration = Duration::from_secs(15);

fn at(millis: u64) -> Time {
    Time::after_start(Duration::from_millis(millis))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn home() -> Name {
    name("home-a")
}

fn from(conn: u64) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], u16::try_from(conn % 60_000).unwrap()))
}

/// Agent `agent` wants to be `home-a`. Each agent has a key and an instance of its own.
fn claim(conn: u64, agent: u8) -> Claim {
    Claim {
        conn: ConnId(conn),
        home: home(),
        key: Key::new([agent; 32]),
        instance: [agent; 16],
        brought: 0,
        heartbeat: HEARTBEAT,
        from: from(conn),
    }
}

fn accept(conn: u64, generation: u64) -> Action {
    Action::Accept { conn: ConnId(conn), generation }
}

fn refuse(conn: u64, reason: Reason) -> Action {
    Action::Refuse(ConnId(conn), reason)
}

fn goodbye(conn: u64, reason: Reason) -> Action {
    Action::Goodbye(ConnId(conn), reason)
}

fn alarm(conn: u64, newcomer: u64, agent: u8) -> Action {
    Action::Alarm { conn: ConnId(conn), instance: [agent; 16], from: from(newcomer) }
}

fn wanted(conn: u64, count: u32) -> Action {
    Action::Wanted { conn: ConnId(conn), count }
}

fn give(client: u64, data: u64) -> Action {
    Action::Give { client: ConnId(client), data: ConnId(data) }
}

fn close_data(conn: u64) -> Action {
    Action::CloseData(ConnId(conn))
}

/// A gateway at which agent 1 is registered on connection 1, at the beginning.
fn online() -> Registry {
    let mut registry = Registry::new(POOL);
    assert_eq!(registry.register(claim(1, 1), Time::ZERO), vec![accept(1, 1)]);
    registry
}

fn ready(registry: &mut Registry, conn: u64, agent: u8, generation: u64, now: u64) -> Vec<Action> {
    let key = Key::new([agent; 32]);
    registry.ready(ConnId(conn), (&home(), &key), ([agent; 16], generation), at(now))
}

fn take(registry: &mut Registry, client: u64, now: u64) -> Vec<Action> {
    registry.take(ConnId(client), key_of(client), &home(), at(now))
}

/// Each client has a key of its own.
fn key_of(client: u64) -> Option<Key> {
    Some(Key::new([client as u8; 32]))
}

fn who_is_registered(registry: &Registry) -> Option<u64> {
    Some(registry.home(&home())?.live()?.claim().conn.0)
}

#[test]
fn the_same_agent_takes_its_own_place_at_once() {
    let mut registry = online();
    assert_eq!(ready(&mut registry, 2, 1, 1, 0), vec![]);
    assert_eq!(
        registry.register(claim(3, 1), at(1)),
        vec![goodbye(1, Reason::Replaced), close_data(2), accept(3, 2)]
    );
    // The old ones are forgotten: their ends mean nothing.
    assert_eq!(registry.closed(ConnId(1), at(2)), vec![]);
    assert_eq!(registry.closed(ConnId(2), at(2)), vec![]);
    assert_eq!(who_is_registered(&registry), Some(3));
}

#[test]
fn an_instance_that_was_overheard_is_not_enough() {
    let mut registry = online();
    let thief = Claim { instance: [1; 16], ..claim(2, 2) };
    assert_eq!(registry.register(thief, at(1)), vec![Action::Ping(ConnId(1))]);
}

#[test]
fn who_is_alive_is_not_replaced_by_another() {
    let mut registry = online();
    assert_eq!(registry.register(claim(2, 2), at(1000)), vec![Action::Ping(ConnId(1))]);
    assert_eq!(registry.next_timer(), Some(at(1500)));
    assert_eq!(
        registry.heard(ConnId(1), at(1499)),
        vec![refuse(2, Reason::Duplicate), alarm(1, 2, 2)]
    );
    assert_eq!(registry.tick(at(1500)), vec![]);
    assert_eq!(who_is_registered(&registry), Some(1));
}

#[test]
fn who_is_silent_is_replaced() {
    let mut registry = online();
    assert_eq!(ready(&mut registry, 9, 1, 1, 0), vec![]);
    registry.register(claim(2, 2), at(1000));
    assert_eq!(registry.tick(at(1499)), vec![]);
    assert_eq!(
        registry.tick(at(1500)),
        vec![goodbye(1, Reason::Replaced), close_data(9), accept(2, 2)]
    );
    assert_eq!(who_is_registered(&registry), Some(2));
}

#[test]
fn what_came_before_the_question_is_no_answer() {
    let mut registry = online();
    assert_eq!(registry.heard(ConnId(1), at(999)), vec![]);
    registry.register(claim(2, 2), at(1000));
    assert!(registry.tick(at(1500)).contains(&accept(2, 2)));
}

#[test]
fn one_newcomer_waits_at_a_time() {
    let mut registry = online();
    registry.register(claim(2, 2), at(1000));
    assert_eq!(registry.register(claim(3, 3), at(1100)), vec![refuse(3, Reason::Duplicate)]);
    // The first one on a new connection: it waits no longer for that.
    assert_eq!(registry.register(claim(4, 2), at(1400)), vec![refuse(2, Reason::Replaced)]);
    assert_eq!(registry.tick(at(1500)), vec![goodbye(1, Reason::Replaced), accept(4, 2)]);
}

#[test]
fn a_newcomer_that_hangs_up_changes_nothing() {
    let mut registry = online();
    registry.register(claim(2, 2), at(1000));
    assert_eq!(registry.closed(ConnId(2), at(1100)), vec![]);
    assert_eq!(registry.tick(at(2000)), vec![]);
    assert_eq!(registry.heard(ConnId(1), at(2000)), vec![], "no alarm");
    assert_eq!(registry.register(claim(3, 3), at(3000)), vec![Action::Ping(ConnId(1))]);
}

#[test]
fn a_newcomer_has_the_home_when_the_other_hangs_up() {
    let mut registry = online();
    registry.register(claim(2, 2), at(1000));
    assert_eq!(registry.closed(ConnId(1), at(1100)), vec![accept(2, 2)]);
}

#[test]
fn a_newcomer_loses_when_the_other_dials_again() {
    let mut registry = online();
    registry.register(claim(2, 2), at(1000));
    assert_eq!(
        registry.register(claim(3, 1), at(1100)),
        vec![
            goodbye(1, Reason::Replaced),
            accept(3, 2),
            refuse(2, Reason::Duplicate),
            alarm(3, 2, 2)
        ]
    );
}

#[test]
fn generations_rise_over_what_the_agent_brings_and_what_the_gateway_knows() {
    let mut registry = Registry::new(POOL);
    let brought = |conn, brought| Claim { brought, ..claim(conn, 1) };
    assert_eq!(registry.register(brought(1, 41), at(0)), vec![accept(1, 42)]);
    registry.closed(ConnId(1), at(1));
    assert_eq!(registry.register(brought(2, 7), at(2)), vec![accept(2, 43)]);
    assert_eq!(registry.home(&home()).unwrap().generation(), 43);
}

#[test]
fn a_heartbeat_out_of_bounds_is_malformed() {
    for (heartbeat, is_allowed) in [(999, false), (1000, true), (300_000, true), (300_001, false)] {
        let mut registry = Registry::new(POOL);
        let claim = Claim { heartbeat: Duration::from_millis(heartbeat), ..claim(1, 1) };
        let answer = if is_allowed { accept(1, 1) } else { refuse(1, Reason::Malformed) };
        assert_eq!(registry.register(claim, at(0)), vec![answer], "{heartbeat} ms");
    }
}

#[test]
fn silence_is_asked_after_and_then_believed() {
    let mut registry = online();
    assert_eq!(ready(&mut registry, 2, 1, 1, 0), vec![]);
    assert_eq!(registry.next_timer(), Some(at(30_000)));
    assert_eq!(registry.tick(at(29_999)), vec![]);
    assert_eq!(registry.tick(at(30_000)), vec![Action::Ping(ConnId(1))]);
    assert_eq!(registry.next_timer(), Some(at(45_000)));
    assert_eq!(registry.tick(at(45_000)), vec![goodbye(1, Reason::HomeSilent), close_data(2)]);
    assert_eq!(who_is_registered(&registry), None);
    assert_eq!(registry.next_timer(), None);
    assert_eq!(registry.last_seen(&home(), at(49_000)), Some(Duration::from_secs(49)));
}

#[test]
fn an_answer_begins_the_silence_anew() {
    let mut registry = online();
    registry.tick(at(30_000));
    assert_eq!(registry.heard(ConnId(1), at(31_000)), vec![]);
    assert_eq!(registry.tick(at(60_999)), vec![]);
    assert_eq!(registry.tick(at(61_000)), vec![Action::Ping(ConnId(1))]);
}

#[test]
fn no_silence_is_believed_before_ten_seconds() {
    let mut registry = Registry::new(POOL);
    registry.register(Claim { heartbeat: Duration::from_secs(1), ..claim(1, 1) }, at(0));
    assert_eq!(registry.tick(at(2000)), vec![Action::Ping(ConnId(1))]);
    assert_eq!(registry.tick(at(9999)), vec![]);
    assert_eq!(registry.tick(at(10_000)), vec![goodbye(1, Reason::HomeSilent)]);
}

#[test]
fn a_data_connection_is_of_the_registration_that_stands() {
    let mut registry = Registry::new(POOL);
    assert_eq!(ready(&mut registry, 2, 1, 1, 0), vec![refuse(2, Reason::Offline)]);
    registry.register(claim(1, 1), at(0));
    assert_eq!(ready(&mut registry, 2, 1, 2, 0), vec![refuse(2, Reason::Replaced)]);
    assert_eq!(ready(&mut registry, 2, 2, 1, 0), vec![refuse(2, Reason::Replaced)]);
    assert_eq!(ready(&mut registry, 2, 1, 1, 0), vec![]);
}

#[test]
fn no_more_wait_than_the_pool_has_room_for() {
    let mut registry = online();
    assert_eq!(ready(&mut registry, 2, 1, 1, 0), vec![]);
    assert_eq!(ready(&mut registry, 3, 1, 1, 0), vec![]);
    assert_eq!(ready(&mut registry, 4, 1, 1, 0), vec![refuse(4, Reason::Full)]);
    registry.closed(ConnId(2), at(1));
    assert_eq!(ready(&mut registry, 5, 1, 1, 1), vec![]);
    assert_eq!(registry.home(&home()).unwrap().live().unwrap().waiting(), POOL);
}

#[test]
fn the_newest_data_connection_is_given_first() {
    let mut registry = online();
    ready(&mut registry, 2, 1, 1, 0);
    ready(&mut registry, 3, 1, 1, 0);
    assert_eq!(take(&mut registry, 10, 1), vec![give(10, 3)]);
    assert_eq!(take(&mut registry, 11, 1), vec![give(11, 2)]);
    assert_eq!(take(&mut registry, 12, 1), vec![wanted(1, 1)]);
}

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    let mut registry = online();
    assert_eq!(take(&mut registry, 10, 0), vec![wanted(1, 1)]);
    assert_eq!(take(&mut registry, 11, 1), vec![wanted(1, 1)]);
    assert_eq!(ready(&mut registry, 2, 1, 1, 2), vec![give(10, 2)]);
    assert_eq!(ready(&mut registry, 3, 1, 1, 2), vec![give(11, 3)]);
}

#[test]
fn a_client_waits_five_seconds() {
    let mut registry = online();
    take(&mut registry, 10, 1000);
    assert_eq!(registry.next_timer(), Some(at(6000)));
    assert_eq!(registry.tick(at(5999)), vec![]);
    assert_eq!(registry.tick(at(6000)), vec![refuse(10, Reason::HomeSilent)]);
    assert_eq!(ready(&mut registry, 2, 1, 1, 6001), vec![], "nobody waits any more");
}

#[test]
fn a_client_that_hangs_up_gets_nothing() {
    let mut registry = online();
    take(&mut registry, 10, 0);
    assert_eq!(registry.closed(ConnId(10), at(1)), vec![]);
    assert_eq!(ready(&mut registry, 2, 1, 1, 2), vec![]);
}

#[test]
fn so_many_clients_wait_and_no_more() {
    let mut registry = online();
    for client in 100..116 {
        assert_eq!(take(&mut registry, client, 0), vec![wanted(1, 1)]);
    }
    assert_eq!(take(&mut registry, 116, 0), vec![refuse(116, Reason::Full)]);
}

#[test]
fn a_home_that_is_not_registered_is_offline_at_once() {
    let mut registry = Registry::new(POOL);
    assert_eq!(take(&mut registry, 10, 0), vec![refuse(10, Reason::Offline)]);
    assert_eq!(registry.last_seen(&home(), at(0)), None);
}

#[test]
fn clients_wait_on_for_the_next_registration() {
    let mut registry = online();
    take(&mut registry, 10, 0);
    take(&mut registry, 11, 0);
    assert_eq!(
        registry.register(claim(2, 1), at(1)),
        vec![goodbye(1, Reason::Replaced), accept(2, 2), wanted(2, 2)]
    );
    assert_eq!(ready(&mut registry, 3, 1, 2, 2), vec![give(10, 3)]);
    assert_eq!(registry.closed(ConnId(2), at(3)), vec![refuse(11, Reason::Offline)]);
}

#[test]
fn a_home_that_is_dismissed_takes_with_it_what_waits() {
    let mut registry = online();
    ready(&mut registry, 2, 1, 1, 0);
    assert_eq!(
        registry.dismiss(ConnId(1), Reason::Revoked, at(1)),
        vec![goodbye(1, Reason::Revoked), close_data(2)]
    );
    let mut registry = online();
    registry.register(claim(2, 2), at(1));
    assert_eq!(
        registry.dismiss(ConnId(2), Reason::Expired, at(2)),
        vec![refuse(2, Reason::Expired)]
    );
    assert_eq!(registry.heard(ConnId(1), at(3)), vec![], "no alarm");
}

#[test]
fn services_are_of_a_registration_and_bounded() {
    let mut registry = online();
    let service = |number: u32| name(&std::format!("s{number}"));
    assert_eq!(registry.offer(ConnId(2), 1, service(1)), Err(Reason::Malformed), "not registered");
    for number in 0..64 {
        assert_eq!(registry.offer(ConnId(1), number, service(number)), Ok(()));
    }
    assert_eq!(registry.offer(ConnId(1), 64, service(64)), Err(Reason::Full));
    assert!(registry.withdraw(ConnId(1), 7));
    assert!(!registry.withdraw(ConnId(1), 7));
    assert_eq!(registry.offer(ConnId(1), 64, service(64)), Ok(()));
    assert_eq!(registry.offer(ConnId(1), 64, service(1)), Err(Reason::Malformed), "in use");
    registry.register(claim(2, 1), at(1));
    assert_eq!(registry.home(&home()).unwrap().live().unwrap().services().count(), 0);
}

#[test]
fn a_connection_is_one_thing_at_a_time() {
    let mut registry = online();
    ready(&mut registry, 2, 1, 1, 0);
    assert_eq!(registry.register(claim(2, 2), at(1)), vec![Action::Ping(ConnId(1))]);
    assert_eq!(take(&mut registry, 10, 1), vec![wanted(1, 1)], "it waits for no client any more");
    assert_eq!(ready(&mut registry, 10, 1, 1, 1), vec![], "nor this for a data connection");
    assert_eq!(
        registry.register(claim(1, 1), at(2)),
        vec![close_data(10), accept(2, 2), Action::Ping(ConnId(2))]
    );
}

#[test]
fn of_the_homes_that_are_offline_the_oldest_is_forgotten() {
    let mut registry = Registry { remembered: 2, ..Registry::new(POOL) };
    for (number, text) in (0..).zip(["home-a", "home-b", "home-c", "home-d"]) {
        registry.register(Claim { home: name(text), ..claim(number, 1) }, at(number));
    }
    assert_eq!(registry.homes().count(), 4, "none of them is offline");
    for conn in [3, 0, 2, 1] {
        registry.closed(ConnId(conn), at(100));
    }
    let left: Vec<_> = registry.homes().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left, ["home-c", "home-d"], "by when they were heard, not when they ended");
    registry.retain(|home| home.as_str() != "home-c");
    assert_eq!(registry.homes().count(), 1);
    assert_eq!(registry.offline.len(), 1);
}

#[test]
fn soon_after_a_restart_a_client_waits_for_its_home() {
    let mut registry = Registry::new(POOL);
    registry.awaits_homes(at(100));
    for client in [20, 21, 22] {
        assert_eq!(registry.take(ConnId(client), None, &home(), at(200)), vec![]);
    }
    assert_eq!(registry.take(ConnId(30), None, &name("home-b"), at(200)), vec![]);
    assert_eq!(registry.closed(ConnId(21), at(300)), vec![]);
    // It is back: whoever waits still, waits for its data connections now.
    let actions = registry.register(claim(1, 1), at(1_000));
    assert_eq!(actions, vec![accept(1, 1), wanted(1, 1), wanted(1, 1)]);
    assert_eq!(ready(&mut registry, 10, 1, 1, 1_100), vec![give(20, 10)]);
    assert_eq!(ready(&mut registry, 11, 1, 1, 1_100), vec![give(22, 11)]);
    // The other one is not.
    assert_eq!(registry.next_timer(), Some(at(5_100)));
    assert_eq!(registry.tick(at(5_099)), vec![]);
    assert_eq!(registry.tick(at(5_100)), vec![refuse(30, Reason::Offline)]);
    let late = registry.take(ConnId(31), None, &name("home-b"), at(5_100));
    assert_eq!(late, vec![refuse(31, Reason::Offline)]);
}

#[test]
fn one_key_does_not_take_the_places_of_all_who_wait() {
    let mut registry = online();
    let greedy = Some(Key::new([9; 32]));
    for client in 100..108 {
        let waits = registry.take(ConnId(client), greedy, &home(), at(0));
        assert_eq!(waits, vec![wanted(1, 1)]);
    }
    let refused = registry.take(ConnId(108), greedy, &home(), at(0));
    assert_eq!(refused, vec![refuse(108, Reason::Full)]);
    assert_eq!(take(&mut registry, 200, 0), vec![wanted(1, 1)]);
    // One of them has been served, and the next one may wait.
    assert_eq!(ready(&mut registry, 10, 1, 1, 0), vec![give(100, 10)]);
    let waits = registry.take(ConnId(109), greedy, &home(), at(0));
    assert_eq!(waits, vec![wanted(1, 1)]);
}

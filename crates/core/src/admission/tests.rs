//! The door of a gateway, in numbers and in time.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 8;

fn at(seconds: u64) -> Time {
    Time::after_start(Duration::from_secs(seconds))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn stranger() -> IpAddr {
    ip("198.51.100.1")
}

#[test]
fn the_oldest_that_has_said_nothing_goes_first() {
    let mut door = Admission::new(3);
    for id in 1..=3 {
        assert_eq!(door.arrive(ConnId(id), stranger(), at(0)), None);
    }
    door.spoke(ConnId(1));
    assert_eq!(door.arrive(ConnId(4), stranger(), at(0)), Some(ConnId(2)));
    door.spoke(ConnId(3));
    door.spoke(ConnId(4));
    assert_eq!(door.arrive(ConnId(5), stranger(), at(0)), Some(ConnId(1)), "else the oldest");
    assert_eq!(door.len(), 3);
    for id in 3..=5 {
        door.gone(ConnId(id));
    }
    assert!(door.is_empty());
}

#[test]
fn where_somebody_was_let_in_others_have_room_of_their_own() {
    let mut door = Admission::new(LIMIT);
    let home = ip("203.0.113.7");
    assert_eq!(door.arrive(ConnId(1), home, at(0)), None);
    door.granted(ConnId(1), home, at(0));
    for id in 2..100 {
        let _ = door.arrive(ConnId(id), stranger(), at(1));
    }
    assert_eq!(door.arrive(ConnId(100), home, at(1)), None);
    for id in 101..200 {
        assert_ne!(door.arrive(ConnId(id), stranger(), at(1)), Some(ConnId(100)));
    }
    door.gone(ConnId(100));
    // An hour later it is as everybody else.
    assert_eq!(door.arrive(ConnId(200), home, at(3600)), Some(ConnId(192)));
}

#[test]
fn an_address_is_a_host() {
    let mut door = Admission::new(1);
    let _ = door.arrive(ConnId(1), ip("2001:db8::1"), at(0));
    door.granted(ConnId(1), ip("2001:db8::1"), at(0));
    let _ = door.arrive(ConnId(2), stranger(), at(0));
    assert_eq!(door.arrive(ConnId(3), ip("2001:db8::2"), at(0)), None, "of the same /64");
    assert_eq!(door.arrive(ConnId(4), ip("2001:db8:0:1::1"), at(0)), Some(ConnId(2)));
    let mapped = ip("::ffff:203.0.113.7");
    door.granted(ConnId(4), mapped, at(0));
    let _ = door.arrive(ConnId(5), stranger(), at(0));
    assert_eq!(door.arrive(ConnId(6), ip("203.0.113.7"), at(0)), Some(ConnId(3)), "IPv4 as IPv4");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut door = Admission::new(1);
    for number in 0..2 * REMEMBERED as u32 {
        door.granted(ConnId(1), core::net::Ipv4Addr::from_bits(number).into(), at(number.into()));
    }
    assert_eq!((door.succeeded.len(), door.by_time.len()), (REMEMBERED, REMEMBERED));
    let _ = door.arrive(ConnId(1), stranger(), at(1_000_000));
    assert_eq!((door.succeeded.len(), door.by_time.len()), (0, 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(u8),
    Spoke(usize),
    Granted(usize),
    Gone(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u8>().prop_map(Step::Arrive),
        3 => (0usize..40).prop_map(Step::Spoke),
        1 => (0usize..40).prop_map(Step::Granted),
        1 => (0usize..40).prop_map(Step::Gone),
    ]
}

proptest! {
    /// Whatever happens, there are never more than the bounds, nobody is evicted who is not here,
    /// and both books agree.
    #[test]
    fn there_are_never_more_than_the_bounds(steps in prop::collection::vec(step(), 0..300)) {
        let mut door = Admission::new(LIMIT);
        let mut here: Vec<(ConnId, IpAddr)> = Vec::new();
        for (second, step) in steps.into_iter().enumerate() {
            let now = at(second as u64);
            match step {
                Step::Arrive(last) => {
                    let id = ConnId(second as u64);
                    let from = core::net::Ipv4Addr::new(203, 0, 113, last % 4).into();
                    if let Some(evicted) = door.arrive(id, from, now) {
                        let place = here.iter().position(|(id, _)| *id == evicted);
                        prop_assert!(place.is_some());
                        here.retain(|(id, _)| *id != evicted);
                    }
                    here.push((id, from));
                }
                Step::Spoke(index) => {
                    if let Some((id, _)) = here.get(index) {
                        door.spoke(*id);
                    }
                }
                Step::Granted(index) if index < here.len() => {
                    let (id, from) = here.remove(index);
                    door.granted(id, from, now);
                }
                Step::Gone(index) if index < here.len() => {
                    door.gone(here.remove(index).0);
                }
                Step::Granted(_) | Step::Gone(_) => {}
            }
            prop_assert_eq!(door.len(), here.len());
            prop_assert_eq!(door.anybody.len() + door.known.len(), here.len());
            prop_assert!(door.anybody.len() <= LIMIT && door.known.len() <= LIMIT);
        }
    }

    /// Who speaks is never evicted by others who say nothing, however many come.
    #[test]
    fn who_is_quick_is_not_evicted_by_a_silent_crowd(before in 0u64..50, crowd in 0u64..500) {
        let mut door = Admission::new(LIMIT);
        for id in 0..before {
            let _ = door.arrive(ConnId(id), stranger(), at(0));
        }
        let me = ConnId(before);
        let _ = door.arrive(me, stranger(), at(0));
        door.spoke(me);
        for id in before + 1..=before + crowd {
            prop_assert_ne!(door.arrive(ConnId(id), stranger(), at(0)), Some(me));
        }
    }

    /// Who speaks at once, and is through before as many others have come as there is room for, is
    /// not evicted, whatever the others say.
    #[test]
    fn who_is_quick_is_not_evicted_by_any_crowd(
        before in prop::collection::vec(any::<bool>(), 0..50),
        after in prop::collection::vec(any::<bool>(), LIMIT - 1),
    ) {
        let mut door = Admission::new(LIMIT);
        let me = ConnId(before.len() as u64);
        let everybody = before.into_iter().chain([true]).chain(after);
        for (id, speaks) in (0..).map(ConnId).zip(everybody) {
            prop_assert_ne!(door.arrive(id, stranger(), at(0)), Some(me));
            if speaks {
                door.spoke(id);
            }
        }
    }
}

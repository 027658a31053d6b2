//! Judgements over grants: each reason by an example, all of them against a plain model.

use super::*;
use proptest::prelude::*;
use std::string::ToString;
use std::vec;

const NOW: u64 = 1_000_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| name(text)).collect()
}

fn key(number: u8) -> Key {
    Key::new([number; 32])
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn here() -> IpAddr {
    address("203.0.113.7")
}

/// A grant that gives nothing yet.
fn grant(number: u8) -> Grant {
    Grant {
        key: key(number),
        name: std::format!("key {number}").parse().unwrap(),
        homes: vec![],
        reach: Reach::NONE,
        services: None,
        ports: vec![],
        expires: None,
        from: vec![],
        revoked: false,
    }
}

/// The key of `home-a`.
fn home() -> Grant {
    Grant { homes: names(&["home-a"]), ..grant(1) }
}

/// A laptop's.
fn laptop() -> Grant {
    Grant { reach: Reach::Only(names(&["home-a"])), ..grant(2) }
}

fn grants(all: &[Grant]) -> Grants {
    all.iter().cloned().collect()
}

/// Whether key 1 may be `home-a`, and what it is told.
fn being(all: &[Grant]) -> Result<(), Reason> {
    grants(all).may_be(&key(1), &name("home-a"), here(), NOW).map(|_| ())
}

fn reaching(all: &[Grant], home: &str) -> Result<(), Reason> {
    grants(all).may_reach(&key(2), &name(home), here(), NOW).map(|_| ())
}

fn offering(all: &[Grant], home: &str, service: &str) -> Result<(), Reason> {
    grants(all).may_offer(&key(1), &name(home), &name(service), here(), NOW).map(|_| ())
}

fn using(all: &[Grant], service: &str) -> Result<(), Reason> {
    grants(all).may_use(&key(2), &name(service), NOW).map(|_| ())
}

#[test]
fn a_key_that_is_in_no_grant_may_nothing() {
    let others = [Grant { key: key(9), ..home() }, Grant { key: key(8), ..laptop() }];
    assert_eq!(being(&others), Err(Reason::UnknownKey));
    assert_eq!(offering(&others, "home-a", "ssh"), Err(Reason::UnknownKey));
    assert_eq!(reaching(&others, "home-a"), Err(Reason::UnknownKey));
    assert_eq!(using(&others, "ssh"), Err(Reason::UnknownKey));
}

/// Everything that a key can ask for, with the grant changed so that it does not hold.
fn refused_everywhere(change: impl Fn(Grant) -> Grant, reason: Reason) {
    let all = [change(home()), change(laptop())];
    assert_eq!(being(&all), Err(reason));
    assert_eq!(offering(&all, "home-a", "ssh"), Err(reason));
    assert_eq!(reaching(&all, "home-a"), Err(reason));
    // It comes before what else might be wrong.
    assert_eq!(offering(&all, "home-b", "ssh"), Err(reason));
    assert_eq!(reaching(&all, "home-b"), Err(reason));
    if reason != Reason::WrongAddress {
        assert_eq!(using(&all, "ssh"), Err(reason));
    }
}

#[test]
fn a_grant_that_was_revoked_gives_nothing() {
    let elsewhere = vec!["198.51.100.0/24".parse().unwrap()];
    refused_everywhere(|grant| Grant { revoked: true, ..grant }, Reason::Revoked);
    refused_everywhere(
        |grant| Grant { revoked: true, expires: Some(1), from: elsewhere.clone(), ..grant },
        Reason::Revoked,
    );
}

#[test]
fn a_grant_ends_at_its_time_and_not_before() {
    let elsewhere = vec!["198.51.100.0/24".parse().unwrap()];
    refused_everywhere(|grant| Grant { expires: Some(NOW), ..grant }, Reason::Expired);
    refused_everywhere(
        |grant| Grant { expires: Some(NOW), from: elsewhere.clone(), ..grant },
        Reason::Expired,
    );
    assert_eq!(being(&[Grant { expires: Some(NOW + 1), ..home() }]), Ok(()));
}

#[test]
fn a_grant_for_an_address_is_for_no_other() {
    let from = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let elsewhere = from(&["198.51.100.0/24", "::/0"]);
    refused_everywhere(|grant| Grant { from: elsewhere.clone(), ..grant }, Reason::WrongAddress);
    let granted = Grant { from: from(&["198.51.100.0/24", "203.0.113.0/24"]), ..home() };
    assert_eq!(being(core::slice::from_ref(&granted)), Ok(()));
    let mapped = address("::ffff:203.0.113.7");
    assert!(grants(&[granted]).may_be(&key(1), &name("home-a"), mapped, NOW).is_ok());
}

#[test]
fn a_key_is_only_the_homes_that_its_grant_has() {
    let all = [home(), Grant { homes: names(&["home-b"]), ..grant(3) }];
    assert_eq!(being(&all), Ok(()));
    let other = grants(&all).may_be(&key(1), &name("home-b"), here(), NOW).map(|_| ());
    assert_eq!(other, Err(Reason::NotAllowed));
    assert_eq!(offering(&all, "home-b", "ssh"), Err(Reason::NotAllowed));
    // To reach a home is not to be it.
    assert_eq!(being(&[Grant { reach: Reach::Every, ..grant(1) }]), Err(Reason::NotAllowed));
}

#[test]
fn a_home_offers_only_the_services_that_its_grant_has() {
    let all = [Grant { services: Some(names(&["ssh"])), ..home() }];
    assert_eq!(offering(&all, "home-a", "ssh"), Ok(()));
    assert_eq!(offering(&all, "home-a", "web"), Err(Reason::NotAllowed));
    assert_eq!(offering(&[home()], "home-a", "web"), Ok(()));
}

#[test]
fn a_key_reaches_only_the_homes_that_its_grant_has() {
    let all = [home(), laptop(), Grant { homes: names(&["home-b"]), ..grant(3) }];
    assert_eq!(reaching(&all, "home-a"), Ok(()));
    assert_eq!(reaching(&all, "home-b"), Err(Reason::NotAllowed));
    let every = [all[0].clone(), Grant { reach: Reach::Every, ..grant(2) }, all[2].clone()];
    assert_eq!(reaching(&every, "home-b"), Ok(()));
}

#[test]
fn that_there_is_no_such_home_is_told_only_to_who_may_reach_it() {
    let every = Grant { reach: Reach::Every, ..grant(2) };
    assert_eq!(reaching(&[home(), every], "home-x"), Err(Reason::NoSuchHome));
    assert_eq!(reaching(&[home(), laptop()], "home-x"), Err(Reason::NotAllowed));
    assert_eq!(reaching(&[laptop()], "home-a"), Err(Reason::NoSuchHome));
    // A home whose grant was taken back is no unknown one: it is offline.
    let gone = Grant { revoked: true, ..home() };
    assert_eq!(reaching(&[gone, laptop()], "home-a"), Ok(()));
}

#[test]
fn an_agent_may_reach_its_own_home_to_prove_it() {
    let own = Grant { key: key(2), ..home() };
    assert_eq!(reaching(core::slice::from_ref(&own), "home-a"), Ok(()));
    assert_eq!(
        reaching(&[own, Grant { key: key(3), ..laptop() }], "home-b"),
        Err(Reason::NotAllowed)
    );
}

#[test]
fn at_home_a_key_uses_only_the_services_that_its_grant_has() {
    let all = [Grant { services: Some(names(&["ssh"])), ..grant(2) }];
    assert_eq!(using(&all, "ssh"), Ok(()));
    assert_eq!(using(&all, "web"), Err(Reason::NotAllowed));
    assert_eq!(using(&[grant(2)], "web"), Ok(()));
}

#[test]
fn of_several_grants_the_first_that_allows_it_counts() {
    let narrow = Grant { services: Some(names(&["ssh"])), ..home() };
    let revoked = Grant { revoked: true, ..home() };
    let all = grants(&[revoked, narrow.clone(), home()]);
    let judged =
        |service| all.may_offer(&key(1), &name("home-a"), &name(service), here(), NOW).cloned();
    assert_eq!(judged("ssh"), Ok(narrow));
    assert_eq!(judged("web"), Ok(home()));
}

#[test]
fn of_several_refusals_the_one_that_came_furthest_is_told() {
    let revoked = Grant { revoked: true, ..home() };
    let expired = Grant { expires: Some(1), ..home() };
    let elsewhere = Grant { from: vec!["198.51.100.1".parse().unwrap()], ..home() };
    let other = Grant { homes: names(&["home-b"]), ..grant(1) };
    let all = [revoked, expired, elsewhere, other];
    let reasons = [Reason::Revoked, Reason::Expired, Reason::WrongAddress, Reason::NotAllowed];
    for (count, reason) in (1..).zip(reasons) {
        let mut some = all[..count].to_vec();
        assert_eq!(being(&some), Err(reason));
        some.reverse();
        assert_eq!(being(&some), Err(reason));
    }
}

#[test]
fn the_next_expiry_is_the_soonest_that_lies_ahead() {
    let at = |expires| Grant { expires: Some(expires), ..home() };
    let revoked = Grant { revoked: true, ..at(NOW + 1) };
    let all = grants(&[at(NOW + 9), at(NOW), at(NOW + 5), revoked, laptop()]);
    assert_eq!(all.next_expiry(NOW), Some(NOW + 5));
    assert_eq!(all.next_expiry(NOW + 5), Some(NOW + 9));
    assert_eq!(all.next_expiry(NOW + 9), None);
}

#[test]
fn a_grant_that_makes_no_sense_where_it_stands_is_refused() {
    let some = Some(names(&["ssh"]));
    let from = vec!["203.0.113.7".parse().unwrap()];
    let wrong = |grant: Grant, seat| grant.check(seat).unwrap_err();
    for (grant, error) in [
        (Grant { services: some.clone(), ..laptop() }, GrantError::ServicesOfAClient),
        (grant(1), GrantError::NothingAtTheGateway),
        (Grant { ports: vec![2222], ..laptop() }, GrantError::PortsOfAClient),
        (Grant { services: Some(vec![]), ..home() }, GrantError::NoServices),
    ] {
        assert_eq!(wrong(grant, Seat::Gateway), error);
    }
    for (grant, error) in [
        (home(), GrantError::HomesAtHome),
        (laptop(), GrantError::ReachAtHome),
        (Grant { ports: vec![2222], ..grant(2) }, GrantError::PortsAtHome),
        (Grant { reach: Reach::Every, ..grant(2) }, GrantError::ReachAtHome),
        (Grant { from, ..grant(2) }, GrantError::FromAtHome),
        (Grant { services: Some(vec![]), ..grant(2) }, GrantError::NoServices),
    ] {
        assert_eq!(wrong(grant, Seat::Home), error);
    }
    for grant in [
        home(),
        laptop(),
        Grant { ports: vec![2222], ..home() },
        Grant { services: some.clone(), ..home() },
    ] {
        assert_eq!(grant.check(Seat::Gateway), Ok(()));
    }
    assert_eq!(Grant { revoked: true, ..grant(1) }.check(Seat::Gateway), Ok(()));
    assert_eq!(Grant { services: some, ..grant(2) }.check(Seat::Home), Ok(()));
    let told = GrantError::ServicesOfAClient.to_string();
    assert!(
        told.contains("a gateway cannot see") && told.contains("the home's own grants"),
        "{told}"
    );
}

prop_compose! {
    fn any_grant()(
        number in 0u8..3,
        homes in prop::sample::subsequence(vec!["a", "b", "c"], 0..=3),
        reach in prop::option::of(prop::sample::subsequence(vec!["a", "b", "c"], 0..=3)),
        services in prop::option::of(prop::sample::subsequence(vec!["ssh", "web"], 0..=2)),
        expires in prop::option::of(NOW - 2..NOW + 3),
        from in prop::sample::subsequence(vec!["203.0.113.0/24", "198.51.100.1", "::/0"], 0..=2),
        revoked in prop::bool::weighted(0.2),
    ) -> Grant {
        Grant {
            homes: names(&homes),
            reach: reach.map_or(Reach::Every, |homes| Reach::Only(names(&homes))),
            services: services.map(|services| names(&services)),
            expires,
            from: from.iter().map(|text| text.parse().unwrap()).collect(),
            revoked,
            ..grant(number)
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_allowed_some_grant_of_that_key_gives(
        all in prop::collection::vec(any_grant(), 0..8),
        number in 0u8..4,
        home in "[abcd]",
        service in "ssh|web|vnc",
        from in prop::sample::select(vec!["203.0.113.7", "198.51.100.1", "2001:db8::1"]),
    ) {
        let (key, home, service, from) = (key(number), name(&home), name(&service), address(from));
        let judged = grants(&all);
        let holds = |grant: &Grant| {
            grant.key == key && !grant.revoked && grant.expires.is_none_or(|end| end > NOW)
        };
        let is_here =
            |grant: &Grant| grant.from.is_empty() || grant.from.iter().any(|n| n.contains(from));
        let is_home = |grant: &Grant| grant.homes.contains(&home);
        let has_service =
            |grant: &Grant| grant.services.as_ref().is_none_or(|some| some.contains(&service));
        let may_reach = |grant: &Grant| match &grant.reach {
            Reach::Every => all.iter().any(is_home),
            Reach::Only(some) => is_home(grant) || (some.contains(&home) && all.iter().any(is_home)),
        };
        let first = |gives: &dyn Fn(&Grant) -> bool| all.iter().find(|grant| gives(grant));

        let being = judged.may_be(&key, &home, from, NOW);
        prop_assert_eq!(being.ok(), first(&|g| holds(g) && is_here(g) && is_home(g)));
        let offering = judged.may_offer(&key, &home, &service, from, NOW);
        let offers = |g: &Grant| holds(g) && is_here(g) && is_home(g) && has_service(g);
        prop_assert_eq!(offering.ok(), first(&offers));
        let reaching = judged.may_reach(&key, &home, from, NOW);
        prop_assert_eq!(reaching.ok(), first(&|g| holds(g) && is_here(g) && may_reach(g)));
        let using = judged.may_use(&key, &service, NOW);
        prop_assert_eq!(using.ok(), first(&|g| holds(g) && has_service(g)));

        // The reason is one that a grant of this key has, and no better one would have had.
        for refused in [being.err(), offering.err(), reaching.err(), using.err()] {
            let Some(reason) = refused else { continue };
            let own = all.iter().any(|grant| grant.key == key);
            prop_assert_eq!(reason == Reason::UnknownKey, !own);
            let standing = all.iter().any(holds);
            prop_assert!(!(standing && matches!(reason, Reason::Revoked | Reason::Expired)));
        }
    }

    #[test]
    fn until_the_next_expiry_no_judgement_changes(
        all in prop::collection::vec(any_grant(), 0..8),
        number in 0u8..3,
        home in "[abc]",
    ) {
        let judged = grants(&all);
        let judge = |now| judged.may_be(&key(number), &name(&home), here(), now).cloned();
        let mut now = NOW - 3;
        while let Some(end) = judged.next_expiry(now) {
            prop_assert!(end > now);
            prop_assert_eq!(judge(now), judge(end - 1));
            now = end;
        }
        prop_assert_eq!(judge(now), judge(u64::MAX));
    }
}

#[test]
fn a_port_is_had_only_where_it_is_written() {
    let name: Name = "home-a".parse().unwrap();
    let other: Name = "home-b".parse().unwrap();
    let without: Grants = [home()].into_iter().collect();
    assert_eq!(without.may_have_port(&key(1), &name, 2222, here(), NOW), Err(Reason::NotAllowed));
    let with: Grants = [Grant { ports: vec![2222, 8080], ..home() }].into_iter().collect();
    for port in [2222, 8080] {
        assert!(with.may_have_port(&key(1), &name, port, here(), NOW).is_ok(), "{port}");
    }
    assert_eq!(with.may_have_port(&key(1), &name, 22, here(), NOW), Err(Reason::NotAllowed));
    assert_eq!(with.may_have_port(&key(1), &other, 2222, here(), NOW), Err(Reason::NotAllowed));
    assert_eq!(with.may_have_port(&key(2), &name, 2222, here(), NOW), Err(Reason::UnknownKey));
}

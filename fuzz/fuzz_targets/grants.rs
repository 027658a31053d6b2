//! `grants.toml`: any text is read or refused with a reason, at both seats; and whatever is read,
//! the judgements over it are those that the grants one by one would give.

#![no_main]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wayhome::grants::form;
use wayhome_core::grant::{Grant, Grants, Reach, Seat};
use wayhome_core::key::Key;
use wayhome_core::name::Name;

/// Of each kind as many are asked about: all together would take too long.
const SOME: usize = 3;

fuzz_target!(|text: &str| {
    let path = Path::new("/etc/wayhome/grants.toml");
    for seat in [Seat::Gateway, Seat::Home] {
        match form::parse(text, path, seat) {
            Ok((grants, passed_over)) => {
                for why in passed_over {
                    assert!(why.starts_with("/etc/wayhome/grants.toml:"), "{why}");
                }
                assert!(grants.iter().all(|grant| grant.check(seat).is_ok()));
                judge(&grants);
            }
            Err(why) => assert!(why.hint_text().is_some(), "without a remedy: {why}"),
        }
    }
});

fn judge(grants: &Grants) {
    let mut keys: Vec<Key> = grants.iter().map(|grant| grant.key).take(SOME).collect();
    keys.push(Key::new([0; 32]));
    let addresses: [IpAddr; 4] = ["203.0.113.9", "2001:db8::9", "::ffff:203.0.113.9", "127.0.0.1"]
        .map(|text| text.parse().expect("an address"));
    let mut moments = BTreeSet::from([0, 1_801_353_600, u64::MAX]);
    for end in grants.iter().filter_map(|grant| grant.expires).take(SOME) {
        moments.extend([end.saturating_sub(1), end]);
    }
    let (homes, services) = (homes(grants), services(grants));
    for now in moments {
        let ends = grants.iter().filter(|grant| !grant.revoked).filter_map(|grant| grant.expires);
        assert_eq!(grants.next_expiry(now), ends.filter(|end| *end > now).min());
        for key in &keys {
            let its: Vec<&Grant> = grants.iter().filter(|grant| grant.key == *key).collect();
            let holds = |grant: &Grant| !grant.revoked && grant.expires.is_none_or(|end| now < end);
            assert_eq!(grants.name_of(key).is_some(), !its.is_empty());
            for service in &services {
                let first = its.iter().find(|grant| holds(grant) && has(grant, service));
                let judged = grants.may_use(key, service, now);
                assert_eq!(judged.ok(), first.copied());
            }
            for (from, home) in addresses.iter().flat_map(|a| homes.iter().map(move |h| (*a, h))) {
                let here = |grant: &Grant| {
                    let is_near = grant.from.iter().any(|net| net.contains(from));
                    holds(grant) && (grant.from.is_empty() || is_near)
                };
                let is_it = |grant: &Grant| here(grant) && grant.homes.contains(home);
                let reaches = |grant: &Grant| match &grant.reach {
                    Reach::Every => here(grant),
                    Reach::Only(homes) => here(grant) && homes.contains(home),
                };
                let first = its.iter().find(|grant| is_it(grant));
                assert_eq!(grants.may_be(key, home, from, now).ok(), first.copied());
                let is_known = grants.iter().any(|grant| grant.homes.contains(home));
                assert_eq!(grants.has_home(home), is_known);
                let first = its.iter().find(|grant| is_known && (is_it(grant) || reaches(grant)));
                assert_eq!(grants.may_reach(key, home, from, now).ok(), first.copied());
                for service in &services {
                    let first = its.iter().find(|grant| is_it(grant) && has(grant, service));
                    let judged = grants.may_offer(key, home, service, from, now);
                    assert_eq!(judged.ok(), first.copied());
                }
            }
        }
    }
}

fn has(grant: &Grant, service: &Name) -> bool {
    grant.services.as_ref().is_none_or(|services| services.contains(service))
}

fn homes(grants: &Grants) -> BTreeSet<Name> {
    let mut homes = BTreeSet::from([Name::for_port(1)]);
    for grant in grants.iter().take(SOME) {
        homes.extend(grant.homes.iter().take(SOME).cloned());
        if let Reach::Only(reach) = &grant.reach {
            homes.extend(reach.iter().take(SOME).cloned());
        }
    }
    homes
}

fn services(grants: &Grants) -> BTreeSet<Name> {
    let mut services = BTreeSet::from([Name::for_port(1)]);
    for grant in grants.iter().take(SOME) {
        services.extend(grant.services.iter().flatten().take(SOME).cloned());
    }
    services
}

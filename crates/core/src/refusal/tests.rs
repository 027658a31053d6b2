//! The reasons against the specification, and how each reads.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const SPEAKERS: [Speaker; 2] = [Speaker::Gateway, Speaker::Home];

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn line(refusal: &Refusal, speaker: Speaker) -> String {
    refusal.line(speaker, &name("home-ubuntu"), &name("web"))
}

#[test]
fn the_numbers_are_those_of_the_specification() {
    let specification = include_str!("../../../../proto/wayhome.proto");
    let specified: Vec<(String, i32)> = specification
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("REASON_")?.strip_suffix(';')?.split_once(" = ")
        })
        .map(|(name, number)| (name.to_lowercase().replace('_', "-"), number.parse().unwrap()))
        .collect();
    let known: Vec<(String, i32)> = Reason::ALL
        .iter()
        .map(|reason| (serde_json::to_string(reason).unwrap(), reason.number()))
        .map(|(name, number)| (name.trim_matches('"').to_string(), number))
        .collect();
    assert_eq!(specified, known);
}

#[test]
fn a_person_reads_one_line() {
    let seen = |seconds| Refusal {
        last_seen: Some(Duration::from_secs(seconds)),
        ..Refusal::from(Reason::Offline)
    };
    let refused = |refusal: Refusal, speaker| line(&refusal, speaker);
    for (refusal, speaker, expected) in [
        (seen(250), Speaker::Gateway, "home-ubuntu is offline, last seen 4 minutes ago"),
        (seen(0), Speaker::Gateway, "home-ubuntu is offline, last seen just now"),
        (Reason::Offline.into(), Speaker::Gateway, "home-ubuntu is offline"),
        (Reason::NoSuchService.into(), Speaker::Home, "home-ubuntu has no service `web`"),
        (Reason::UnknownKey.into(), Speaker::Gateway, "this key has no grant at the gateway"),
        (Reason::UnknownKey.into(), Speaker::Home, "this key has no grant at home-ubuntu"),
        (Reason::NotAllowed.into(), Speaker::Gateway, "this key may not reach home-ubuntu"),
        (Reason::NotAllowed.into(), Speaker::Home, "this key may not use `web` of home-ubuntu"),
        (Reason::Full.into(), Speaker::Home, "home-ubuntu has no room for another stream"),
    ] {
        assert_eq!(refused(refusal, speaker), expected);
    }
}

#[test]
fn what_a_gateway_cannot_know_is_told_as_its_word() {
    let line = line(&Reason::TargetRefused.into(), Speaker::Gateway);
    assert_eq!(line, "the gateway says that nothing listens at the target of `web` at home-ubuntu");
}

#[test]
fn a_span_is_told_in_its_largest_unit() {
    let told = [1, 59, 60, 3599, 3600, 7200, 172_799, 172_800, 864_000]
        .map(|seconds| ago(Duration::from_secs(seconds)));
    assert_eq!(
        told,
        [
            "1 second ago",
            "59 seconds ago",
            "1 minute ago",
            "59 minutes ago",
            "1 hour ago",
            "2 hours ago",
            "47 hours ago",
            "2 days ago",
            "10 days ago"
        ]
    );
}

#[test]
fn each_reason_reads_differently_and_has_a_remedy() {
    for speaker in SPEAKERS {
        let lines: BTreeSet<_> = Reason::ALL.iter().map(|r| line(&(*r).into(), speaker)).collect();
        assert_eq!(lines.len(), Reason::ALL.len(), "{lines:#?}");
        for reason in Reason::ALL {
            let remedy = Refusal::from(reason).remedy(speaker);
            assert!(!remedy.is_empty() && !remedy.ends_with('.'), "{reason:?}: {remedy}");
        }
    }
    let words: BTreeSet<_> = Reason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), Reason::ALL.len(), "{words:#?}");
}

proptest! {
    #[test]
    fn any_number_has_a_reason(number: i32) {
        let reason = Reason::from_number(number);
        prop_assert!(reason.number() == number || reason == Reason::Unspecified);
    }

    #[test]
    fn a_line_is_one_line_whatever_was_said(number in 0..17, text in any::<String>(), millis: u64) {
        let refusal = Refusal {
            reason: Reason::from_number(number),
            detail: Detail::new(&text),
            last_seen: Some(Duration::from_millis(millis)),
        };
        for speaker in SPEAKERS {
            let line = line(&refusal, speaker);
            prop_assert!(!line.chars().any(char::is_control), "{}", line);
        }
    }
}

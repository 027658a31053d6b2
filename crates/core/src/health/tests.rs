//! What holds for every cause: it has a row, a name, a text, and a place in the README.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use std::path::PathBuf;
use std::{format, fs};

use super::*;

/// One of each cause; `all_of_them_are_here` sees to that.
pub(crate) fn every() -> Vec<Cause> {
    let detail = || Detail::new("what was said");
    let key = || String::from("SHA256:abc");
    vec![
        Cause::NameUnknown { detail: detail() },
        Cause::ResolverDown { detail: detail() },
        Cause::NoRoute,
        Cause::ConnectionRefused,
        Cause::TimedOut,
        Cause::ConnectFailed { detail: detail() },
        Cause::MaxStartups,
        Cause::NotAllowedNow,
        Cause::ResetInKeyExchange { detail: detail() },
        Cause::KeyExchangeHangs,
        Cause::NoCommonAlgorithm { detail: detail() },
        Cause::NoGreeting,
        Cause::LoginTimedOut,
        Cause::HostKeyUnknown,
        Cause::HostKeyChanged,
        Cause::Clock { detail: detail() },
        Cause::KeyRefused { detail: detail() },
        Cause::TooManyKeys,
        Cause::AccountRefused { detail: detail() },
        Cause::PasswordExpired,
        Cause::SshMissing { detail: detail() },
        Cause::SshTooOld { detail: detail() },
        Cause::SshMisconfigured { detail: detail() },
        Cause::DiskFull { detail: detail() },
        Cause::ControlSocketFailed { detail: detail() },
        Cause::SshFailed { detail: detail() },
        Cause::ConnectionLost { detail: detail() },
        Cause::HeartbeatLost,
        Cause::ForcedCommand { detail: detail() },
        Cause::NoShell { detail: detail() },
        Cause::MaxSessions,
        Cause::HoldRefused { detail: detail() },
        Cause::ForwardingForbidden,
        Cause::ForwardingForbiddenByKey,
        Cause::ForwardingForbiddenByPermitlisten,
        Cause::ForwardingForbiddenByServer,
        Cause::ForwardRefused,
        Cause::PortBusy { detail: detail() },
        Cause::PortTakenByProgram { program: detail(), pid: 7 },
        Cause::PortTakenByUser { uid: 7, fingerprint: None },
        Cause::PortTakenByUser { uid: 7, fingerprint: Some(key()) },
        Cause::AnotherHome { fingerprint: key() },
        Cause::AnotherTunnelOfThisHome,
        Cause::AnotherLiveSession,
        Cause::TakeoverFailed { detail: detail() },
        Cause::TakenByAnotherHost { fingerprint: key() },
        Cause::Exposed,
        Cause::PublicOnLoopback,
        Cause::NoGateway,
        Cause::GatewayKeyChanged { shown: key() },
        Cause::ProtocolBreach { detail: detail() },
        Cause::IdentityUnusable { detail: detail() },
        Cause::HomeKeyUnknown,
        Cause::HomeKeyExpired,
        Cause::HomeKeyRevoked,
        Cause::HomeKeyElsewhere,
        Cause::HomeNotGranted,
        Cause::ServiceNotGranted,
        Cause::PortNotGranted,
        Cause::AnotherAgent,
        Cause::IdentityElsewhere { from: detail() },
        Cause::Replaced,
        Cause::GatewayFull,
        Cause::GatewayGoingAway,
        Cause::GatewayRefused { detail: detail() },
        Cause::StreamRefused { detail: detail() },
        Cause::TargetRefused,
        Cause::TargetSilent,
        Cause::TargetUnproven { detail: detail() },
    ]
}

#[test]
fn all_of_them_are_here() {
    // Who does not know a kind lists those that there are.
    let why = serde_json::from_str::<Cause>(r#"{"kind":"?"}"#).unwrap_err().to_string();
    let (_, listed) = why.split_once("expected one of ").expect("a list");
    let variants: BTreeSet<&str> = listed.split('`').skip(1).step_by(2).collect();
    let here = every();
    let kinds: BTreeSet<&str> = here.iter().map(Cause::kind).collect();
    assert_eq!(kinds, variants);
}

#[test]
fn each_is_named_in_json_as_it_names_itself_and_reads_back() {
    for cause in every() {
        let text = serde_json::to_string(&cause).unwrap();
        assert!(text.starts_with(&format!(r#"{{"kind":"{}""#, cause.kind())), "{text}");
        assert_eq!(serde_json::from_str::<Cause>(&text).unwrap(), cause);
    }
}

#[test]
fn each_has_a_voice_of_its_own() {
    let mut texts = BTreeSet::new();
    for cause in every() {
        let (text, remedy) = (cause.to_string(), cause.remedy());
        assert!(texts.insert(text.clone()), "{text}: another cause says the same");
        for said in [text.as_str(), remedy] {
            let first = said.chars().next().expect("words");
            assert!(first.is_lowercase() || first == '`', "`{said}` begins in lower case");
            assert!(!said.ends_with('.'), "`{said}` has no final stop");
        }
    }
}

#[test]
fn what_only_a_person_mends_is_nobody_elses_weather() {
    for cause in every() {
        let weather = cause.fault() == Fault::Network;
        assert!(!(weather && cause.retry() == Retry::Halt), "{cause} passes by itself");
        let nothing_to_do = cause.remedy().starts_with("nothing to do");
        assert!(!(nothing_to_do && cause.retry() == Retry::Halt), "{cause} waits for nobody");
    }
}

/// The rows of the README's table of causes: what is read, and what to do.
fn readme() -> Vec<(&'static str, &'static str)> {
    let readme = include_str!("../../../../README.md");
    let (_, table) = readme.split_once("| You read | What to do |\n|---|---|\n").expect("a table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        (cells.next().expect("a text"), cells.next().expect("a remedy"))
    })
    .collect()
}

/// Whether a cell shows a text: `…` stands for anything, and so does all that follows the cell.
fn shows(cell: &str, text: &str) -> bool {
    let mut rest = text;
    for (at, part) in cell.split('…').map(str::trim).enumerate() {
        match rest.split_once(part) {
            Some((before, after)) if at > 0 || before.is_empty() => rest = after,
            _ => return false,
        }
    }
    true
}

#[test]
fn each_stands_in_the_readme_and_nothing_else_does() {
    let (rows, causes) = (readme(), every());
    for cause in &causes {
        let text = cause.to_string();
        let shown = rows.iter().filter(|(cell, _)| shows(cell, &text)).count();
        assert_eq!(shown, 1, "`{text}` stands in {shown} rows of the README's table");
    }
    for (cell, remedy) in &rows {
        assert!(
            causes.iter().any(|cause| shows(cell, &cause.to_string())),
            "nothing says `{cell}`"
        );
        assert!(!remedy.is_empty(), "`{cell}` has a remedy");
    }
}

/// The causes that no test of the program awaits by name, as yet: whoever writes one takes its line
/// away, and a new cause comes with a test or is told here.
const NOT_AWAITED: [&str; 16] = [
    "login-timed-out",
    "ssh-failed",
    "heartbeat-lost",
    "forwarding-forbidden",
    "port-busy",
    "takeover-failed",
    "no-gateway",
    "protocol-breach",
    "identity-unusable",
    "service-not-granted",
    "identity-elsewhere",
    "replaced",
    "gateway-full",
    "gateway-going-away",
    "gateway-refused",
    "stream-refused",
];

/// The text of all tests that run the program.
fn tests_of_the_program() -> String {
    let tests = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../wayhome/tests"));
    let (mut places, mut text) = (vec![tests], String::new());
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(place.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&place).unwrap();
        }
    }
    text
}

#[test]
fn each_is_awaited_by_a_test_of_the_program_or_told_not_to_be() {
    let tests = tests_of_the_program();
    for cause in every() {
        let kind = cause.kind();
        let is_awaited = tests.contains(&format!("\"{kind}\""));
        let is_told = NOT_AWAITED.contains(&kind);
        assert!(is_awaited != is_told, "`{kind}`: awaited {is_awaited}, told not to be {is_told}");
    }
}

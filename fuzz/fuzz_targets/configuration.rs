//! `agent.toml` and `gateway.toml`: any text is a configuration that keeps its promises, or is
//! refused with the line and a remedy.

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wayhome::config::{Config, Gateway};
use wayhome::error::Failure;
use wayhome::gateway;

fuzz_target!(|text: &str| {
    match Config::from_text(text, Path::new(AGENT)) {
        Ok(config) => check(&config),
        Err(why) => refused(&why, AGENT, text),
    }
    match gateway::config::Config::parse(text, Path::new(GATEWAY)) {
        Ok(config) => {
            assert!(!config.listen.is_empty());
            assert!(config.identity.is_absolute() && config.grants.is_absolute(), "{config:?}");
        }
        Err(why) => refused(&why, GATEWAY, text),
    }
});

const AGENT: &str = "/etc/wayhome/agent.toml";
const GATEWAY: &str = "/etc/wayhome/gateway.toml";

fn check(config: &Config) {
    assert!(!config.gateways.is_empty() && !config.services.is_empty());
    let names: BTreeSet<_> = config.services.iter().map(|service| &service.name).collect();
    assert_eq!(names.len(), config.services.len());
    let ports: Vec<_> = config.services.iter().filter_map(|service| service.port).collect();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    for gateway in &config.gateways {
        let files = match gateway {
            Gateway::Ssh(ssh) => [Some(&ssh.known_hosts), ssh.identity.as_ref()],
            Gateway::Native(native) => [Some(&native.identity), None],
        };
        assert!(files.into_iter().flatten().all(|file| file.is_absolute()), "{gateway:?}");
    }
}

/// An error names the place, and what to do.
fn refused(why: &Failure, file: &str, text: &str) {
    let said = why.message();
    let place = said.strip_prefix(file).and_then(|rest| rest.strip_prefix(':'));
    let line = place.and_then(|rest| rest.split(':').next()?.parse().ok());
    let last = text.matches('\n').count() + 1;
    assert!(line.is_some_and(|line: usize| (1..=last).contains(&line)), "no line of it: {said}");
    assert!(why.hint_text().is_some(), "without a remedy: {said}");
}

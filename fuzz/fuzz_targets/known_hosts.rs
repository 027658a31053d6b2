//! `known_hosts`: a line is read or refused, and one that was read says the same when it is written
//! again. What all lines together say of a key is never more than one of them does.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wayhome::agent::ssh::known::{self, Word};
use wayhome_core::known_hosts::{KnownHost, Marker, Names};

fuzz_target!(|text: &str| {
    for line in text.lines() {
        if let Ok(Some(host)) = KnownHost::parse_line(line) {
            let again = KnownHost::parse_line(&host.to_string());
            assert_eq!(again.as_ref(), Ok(&Some(host.clone())));
            if let Names::Listed(names) = &host.names {
                assert!(names.iter().all(|name| host.lists(name)));
            }
        }
    }
    let lines = known::read(Path::new("/known_hosts"), text);
    for key in lines.iter().map(|line| &line.key) {
        let has = |marker| lines.iter().any(|line| line.key == *key && line.marker == marker);
        match known::word_on(key, &lines) {
            Word::Revoked(line) => {
                assert!(line.key == *key && line.marker == Some(Marker::Revoked));
            }
            Word::Its => assert!(has(None) && !has(Some(Marker::Revoked))),
            Word::Another(line) => {
                assert!(line.key != *key && line.key.algorithm() == key.algorithm());
                assert!(!has(None) && !has(Some(Marker::Revoked)));
            }
            Word::New => assert!(!has(None) && !has(Some(Marker::Revoked))),
        }
    }
});

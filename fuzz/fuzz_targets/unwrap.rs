//! What comes over a leg's socket, in whatever pieces. A stranger may say anything, and costs a bounded
//! buffer at the most. And where TLS ends, the unwrapping is exact: all that was said before the
//! close_notify is heard, nothing else is, and every byte behind it is left for whoever comes next.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use rustls::{ClientConfig, ServerConfig};
use wayhome::wire::identity::Identity;
use wayhome::wire::session::{Heard, Session};
use wayhome::wire::tls;
use wayhome_fuzz::Pieces;

/// A read takes no more at once.
const PIECE: usize = 4096;

/// The documented room for a stranger.
const MOST: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let Some(pieces) = Pieces::of(rest) else { return };
    match kind % 4 {
        0 => strange(pieces),
        at => unwrapped(pieces, (at > 1).then_some(*kind)),
    }
});

/// A server that is told anything at all.
fn strange(mut pieces: Pieces<'_>) {
    let mut server = Session::server(Arc::clone(&CONFIGS.1)).expect("a session");
    let mut words = Vec::new();
    loop {
        let piece = pieces.next(PIECE);
        if piece.is_empty() || hear(&mut server, piece, &mut words).is_err() {
            break;
        }
    }
    assert!(words.is_empty(), "it was heard without a handshake");
    assert!(server.into_unread().len() <= MOST);
}

/// A client that says a few bytes, ends, and goes on without TLS. A byte before that may be changed.
fn unwrapped(mut pieces: Pieces<'_>, change: Option<u8>) {
    let (mut client, mut server) = greeted();
    let raw = pieces.rest().to_vec();
    let said = raw.get(..raw.len() / 2).unwrap_or_default();
    client.say(said, &mut Vec::new()).expect("it may speak");
    client.end(&mut Vec::new()).expect("it may end");
    let mut stream = std::mem::take(&mut client.outgoing);
    if let Some(change) = change {
        let at = usize::from(change) % stream.len();
        stream[at] ^= 1 + change / 4;
    }
    stream.extend(&raw);
    let (mut words, mut rest) = (Vec::new(), stream.as_slice());
    let ended = loop {
        let length = pieces.next(PIECE).len().max(1);
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        match hear(&mut server, piece, &mut words) {
            Ok(false) if !rest.is_empty() => {}
            heard => break heard,
        }
    };
    // What was changed may be a length, and then it waits for more; or a version, which says nothing.
    match (ended, change) {
        (Ok(true), _) => {
            assert_eq!(words, said);
            assert_eq!([server.into_unread(), rest.to_vec()].concat(), raw);
        }
        (Ok(false) | Err(_), Some(_)) => assert!(said.starts_with(&words)),
        (ended, change) => panic!("{ended:?} with {change:?}"),
    }
}

/// Whether the peer has ended.
fn hear(server: &mut Session, piece: &[u8], words: &mut Vec<u8>) -> std::io::Result<bool> {
    server.receive(piece);
    loop {
        match server.hear(words)? {
            Heard::Words => {}
            Heard::End => return Ok(true),
            Heard::Nothing => return Ok(false),
        }
    }
}

static CONFIGS: LazyLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("wayhome-fuzz-{}", std::process::id()));
    let (identity, _) = Identity::read_or_make(&path).expect("an identity");
    for made in [&path, &path.with_extension("pub")] {
        let _ = std::fs::remove_file(made);
    }
    let dial = tls::client(&identity, identity.key(), tls::LEG).expect("a configuration");
    (dial, tls::server(&identity, &[tls::LEG]).expect("a configuration"))
});

/// Both, after the handshake.
fn greeted() -> (Session, Session) {
    let mut client = Session::client(Arc::clone(&CONFIGS.0)).expect("a session");
    let mut server = Session::server(Arc::clone(&CONFIGS.1)).expect("a session");
    assert!(!hear(&mut client, &[], &mut Vec::new()).expect("its hello"));
    while server.state().is_handshaking() {
        let flight = std::mem::take(&mut client.outgoing);
        hear(&mut server, &flight, &mut Vec::new()).expect("a flight");
        let flight = std::mem::take(&mut server.outgoing);
        hear(&mut client, &flight, &mut Vec::new()).expect("a flight");
    }
    (client, server)
}

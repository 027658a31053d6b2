//! Sessions, one beside the other: every way to cut what goes between them, and what must not pass.

use proptest::prelude::*;
use rustls::AlertDescription;

use super::*;
use crate::wire::identity::tests::any_identity;
use crate::wire::tls::WrongKey;

/// The longest that one frame has.
const LONG: usize = 70_000;

fn pair() -> (Session, Session) {
    let (client, server) = (any_identity(), any_identity());
    let dial = tls::client(&client, server.key(), tls::LEG).unwrap();
    let accept = tls::server(&server, &[tls::LEG]).unwrap();
    (Session::client(dial).unwrap(), Session::server(accept).unwrap())
}

/// Hands all that one has to send to the other, in pieces of this size, and gives what it heard, and
/// whether that was the end.
fn carry(from: &mut Session, to: &mut Session, piece: usize) -> io::Result<(Vec<u8>, bool)> {
    let (mut words, mut has_ended) = (Vec::new(), false);
    for bytes in std::mem::take(&mut from.outgoing).chunks(piece) {
        to.receive(bytes);
        loop {
            match to.hear(&mut words)? {
                Heard::Nothing => break,
                Heard::Words => assert!(!has_ended),
                Heard::End => has_ended = true,
            }
        }
    }
    Ok((words, has_ended))
}

/// Lets both shake hands.
fn greet(client: &mut Session, server: &mut Session, piece: usize) {
    begin(client);
    while client.state().is_handshaking() || server.state().is_handshaking() {
        assert_eq!(carry(client, server, piece).unwrap(), NOTHING);
        assert_eq!(carry(server, client, piece).unwrap(), NOTHING);
    }
}

/// Nothing was said, and it has not ended.
const NOTHING: (Vec<u8>, bool) = (Vec::new(), false);

/// Lets a client write its hello.
fn begin(client: &mut Session) {
    assert_eq!(client.hear(&mut Vec::new()).unwrap(), Heard::Nothing);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_pieces_all_is_heard_in_order(
        pieces in prop::collection::vec(prop_oneof![1..40_usize, 1..40_000_usize], 1..8),
        lengths in prop::collection::vec(prop_oneof![0..100_usize, 0..LONG], 1..5),
    ) {
        let (mut client, mut server) = pair();
        let mut pieces = pieces.into_iter().cycle();
        let mut piece = || pieces.next().unwrap();
        greet(&mut client, &mut server, piece());
        for (at, length) in lengths.iter().enumerate() {
            let said: Vec<u8> = (0..*length).map(|place| (place ^ at) as u8).collect();
            let (from, to) = if at % 2 == 0 {
                (&mut client, &mut server)
            } else {
                (&mut server, &mut client)
            };
            from.say(&said, &mut Vec::new()).unwrap();
            prop_assert_eq!(carry(from, to, piece()).unwrap(), (said, false));
            prop_assert_eq!(to.incoming.capacity(), 0, "at rest there is no buffer");
        }
        client.end(&mut Vec::new()).unwrap();
        prop_assert_eq!(carry(&mut client, &mut server, piece()).unwrap(), (vec![], true));
        server.say(b"and you?", &mut Vec::new()).unwrap();
        server.end(&mut Vec::new()).unwrap();
        let heard = carry(&mut server, &mut client, piece()).unwrap();
        prop_assert_eq!(heard, (b"and you?".to_vec(), true));
    }
}

#[test]
fn a_byte_that_was_changed_is_an_error_and_the_peer_is_told() {
    for at in [0, 5, 20] {
        let (mut client, mut server) = pair();
        greet(&mut client, &mut server, LONG);
        client.say(b"sixteen bytes...", &mut Vec::new()).unwrap();
        client.outgoing[at] ^= 0x40;
        let why = carry(&mut client, &mut server, LONG).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::InvalidData, "byte {at}: {why}");
        assert!(!server.outgoing.is_empty(), "byte {at}");
        let told = carry(&mut server, &mut client, LONG).unwrap_err();
        let told = told.get_ref().unwrap().downcast_ref::<Error>().unwrap();
        assert!(matches!(told, Error::AlertReceived(_)), "byte {at}: {told:?}");
    }
}

#[test]
fn a_wrong_key_is_named_and_the_peer_is_told() {
    let (client, server, other) = (any_identity(), any_identity(), any_identity());
    let dial = tls::client(&client, other.key(), tls::LEG).unwrap();
    let mut here = Session::client(dial).unwrap();
    let mut there = Session::server(tls::server(&server, &[tls::LEG]).unwrap()).unwrap();
    begin(&mut here);
    carry(&mut here, &mut there, LONG).unwrap();
    let why = carry(&mut there, &mut here, LONG).unwrap_err();
    assert_eq!(WrongKey::of(&why).unwrap().shown, server.key());
    let told = carry(&mut here, &mut there, LONG).unwrap_err();
    let told = told.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(told, &Error::AlertReceived(AlertDescription::CertificateUnknown));
}

#[test]
fn after_an_error_all_that_follows_is_one_too() {
    let (mut client, mut server) = pair();
    greet(&mut client, &mut server, LONG);
    server.receive(&[0x17, 3, 3, 0xff, 0xff]);
    assert!(server.hear(&mut Vec::new()).is_err());
    client.say(b"more", &mut Vec::new()).unwrap();
    // A debug build of rustls asserts that there is one alert, and so it falls over.
    let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        carry(&mut client, &mut server, LONG)
    }));
    assert!(heard.is_err() || heard.unwrap().is_err());
}

#[test]
fn nothing_is_said_before_the_handshake_nor_after_the_end() {
    let (mut client, mut server) = pair();
    begin(&mut client);
    assert!(client.say(b"early", &mut Vec::new()).is_err());
    assert!(server.end(&mut Vec::new()).is_err());
    let (mut client, mut server) = pair();
    greet(&mut client, &mut server, LONG);
    client.end(&mut Vec::new()).unwrap();
    assert_eq!(carry(&mut client, &mut server, LONG).unwrap(), (vec![], true));
    server.end(&mut Vec::new()).unwrap();
    assert!(server.say(b"late", &mut Vec::new()).is_err());
}

/// A handshake's message that goes on and on, in records of one byte each, as a stranger may send it.
#[test]
fn what_is_kept_of_a_message_in_pieces_has_a_bound() {
    let (_, mut server) = pair();
    let mut sent = 0;
    let why = loop {
        // A ClientHello of 60,000 bytes begins.
        let byte = [1, 0, 0xea, 0x60].get(sent).copied().unwrap_or(7);
        server.receive(&[0x16, 3, 1, 0, 1, byte]);
        sent += 1;
        if let Err(why) = server.hear(&mut Vec::new()) {
            break why;
        }
        assert!(server.incoming.len() <= MAX_INCOMING);
    };
    assert_eq!(why.kind(), io::ErrorKind::InvalidData, "{why}");
    assert!(sent > 2000, "{sent}: {why}");
}

#[test]
fn what_was_received_before_something_is_said_is_not_lost() {
    let (mut client, mut server) = pair();
    greet(&mut client, &mut server, LONG);
    client.say(b"one", &mut Vec::new()).unwrap();
    client.end(&mut Vec::new()).unwrap();
    server.receive(&std::mem::take(&mut client.outgoing));
    let mut heard = Vec::new();
    server.say(b"two", &mut heard).unwrap();
    assert_eq!(heard, b"one");
    assert_eq!(server.hear(&mut heard).unwrap(), Heard::End);
    assert_eq!(server.hear(&mut heard).unwrap(), Heard::Nothing);
    assert_eq!(carry(&mut server, &mut client, LONG).unwrap(), (b"two".to_vec(), false));
}

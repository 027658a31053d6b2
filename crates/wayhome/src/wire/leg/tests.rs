//! Legs over loopback: who is let through, and what becomes of what follows the last words.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustls::{HandshakeKind, NamedGroup};
use tokio::net::TcpListener;

use super::*;
use crate::wire::identity::tests::any_identity;
use crate::wire::inner;
use crate::wire::messages::{Ping, Request};
use crate::wire::tls::WrongKey;

/// Two ends of one connection over loopback.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (here, there) = (here.unwrap(), there.unwrap().0);
    crate::relay::tune(&here).and_then(|()| crate::relay::tune(&there)).unwrap();
    (here, there)
}

async fn legs(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (io::Result<Leg>, io::Result<Leg>) {
    let (here, there) = sockets().await;
    let dial = async {
        let mut leg = Leg::dial(here, client).await?;
        // It has no words to end the handshake with.
        leg.line.flush().await?;
        Ok(leg)
    };
    tokio::join!(dial, Leg::accept(there, server))
}

#[tokio::test]
async fn the_key_exchange_is_hybrid() {
    let (client, server) = (any_identity(), any_identity());
    let dial = tls::client(&client, server.key(), tls::LEG).unwrap();
    let (dialled, accepted) = legs(dial, tls::server(&server, &[tls::LEG]).unwrap()).await;
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((dialled.peer(), accepted.peer()), (server.key(), client.key()));
    let group = accepted.session().negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(accepted.session().handshake_kind(), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn another_gateway_key_is_refused() {
    let (client, server, other) = (any_identity(), any_identity(), any_identity());
    let dial = tls::client(&client, other.key(), tls::LEG).unwrap();
    let (dialled, accepted) = legs(dial, tls::server(&server, &[tls::LEG]).unwrap()).await;
    let why = dialled.err().unwrap();
    assert_eq!(WrongKey::of(&why).unwrap().shown, server.key(), "{why}");
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_peer_without_our_alpn_is_refused() {
    let (client, server) = (any_identity(), any_identity());
    for offered in [&b""[..], b"h2", tls::STREAM] {
        let mut dial = (*tls::client(&client, server.key(), tls::LEG).unwrap()).clone();
        dial.alpn_protocols.retain(|_| false);
        if !offered.is_empty() {
            dial.alpn_protocols.push(offered.to_vec());
        }
        let accept = tls::server(&server, &[tls::LEG, tls::JOIN]).unwrap();
        let (_, accepted) = legs(Arc::new(dial), accept).await;
        assert!(accepted.is_err(), "{offered:?}");
    }
}

#[tokio::test]
async fn an_old_kind_of_tls_is_refused() {
    let server = any_identity();
    let (mut here, there) = sockets().await;
    // A hello of TLS 1.2 (RFC 5246): signatures by Ed25519, and no word of a later version.
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 8, 7]);
    let length = u8::try_from(hello.len()).unwrap();
    hello.splice(..0, [0x16, 3, 1, 0, length + 4, 1, 0, 0, length]);
    here.write_all(&hello).await.unwrap();
    let accepted = Leg::accept(there, tls::server(&server, &[tls::LEG]).unwrap()).await;
    let why = accepted.err().unwrap().to_string();
    assert!(why.contains("SupportedVersionsExtensionRequired"), "{why}");
}

#[tokio::test]
async fn nothing_is_resumed() {
    let (client, server) = (any_identity(), any_identity());
    let mut dial = (*tls::client(&client, server.key(), tls::LEG).unwrap()).clone();
    dial.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let dial = Arc::new(dial);
    let accept = tls::server(&server, &[tls::LEG]).unwrap();
    for _ in 0..3 {
        let (dialled, accepted) = legs(Arc::clone(&dial), Arc::clone(&accept)).await;
        let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(accepted.session().handshake_kind(), Some(HandshakeKind::Full));
        // With this, tickets would have come as well.
        accepted.write(&Ping { sequence: 1 }).await.unwrap();
        assert_eq!(dialled.read::<Ping>().await.unwrap().sequence, 1);
    }
}

/// One unwrapping: what each side says after its last words, and in which pieces it is written.
#[derive(Clone, Debug)]
struct Case {
    raw: Vec<u8>,
    cuts: Vec<usize>,
    is_tls_like: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let raw = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        prop::collection::vec(any::<u8>(), 1..600),
        prop::collection::vec(any::<u8>(), 10_000..20_000),
    ];
    let cuts = prop::collection::vec(1usize..4000, 0..6);
    (raw, cuts, any::<bool>()).prop_map(|(raw, cuts, is_tls_like)| Case { raw, cuts, is_tls_like })
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.raw.clone();
        if self.is_tls_like {
            // As a record of application data begins.
            bytes.splice(..0, [0x17, 3, 3, 0, 20]);
        }
        bytes
    }
}

/// Says a last frame, with raw bytes straight behind it, cut where the case says; and reads the
/// other side's.
async fn speak_and_listen(mut leg: Leg, case: &Case, speaks_first: bool) -> Vec<u8> {
    if !speaks_first {
        assert_eq!(leg.read::<Request>().await.unwrap().service, "ssh");
        leg.ended().await.unwrap();
    }
    let frame = frame::encode(&Request { service: "ssh".into() });
    let mut out = leg.parting(&frame).unwrap();
    out.extend(case.bytes());
    let mut rest = out.as_slice();
    for cut in &case.cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        leg.line.tcp.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
        rest = after;
    }
    leg.line.tcp.write_all(rest).await.unwrap();
    if speaks_first {
        assert_eq!(leg.read::<Request>().await.unwrap().service, "ssh");
        leg.ended().await.unwrap();
    }
    let Unwrapped { mut tcp, early: mut heard } = leg.unwrap();
    tcp.shutdown().await.unwrap();
    tcp.read_to_end(&mut heard).await.unwrap();
    heard
}

#[test]
fn raw_bytes_right_behind_the_last_words_are_all_there_10000_times() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, server) = (any_identity(), any_identity());
    let dial = tls::client(&client, server.key(), tls::LEG).unwrap();
    let accept = tls::server(&server, &[tls::LEG]).unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(10_000));
    let strategy = (case(), case(), any::<bool>());
    let ran = runner.run(&strategy, |(ours, theirs, both)| {
        runtime.block_on(async {
            let (dialled, accepted) = legs(Arc::clone(&dial), Arc::clone(&accept)).await;
            let here = speak_and_listen(dialled.unwrap(), &ours, true);
            let there = speak_and_listen(accepted.unwrap(), &theirs, both);
            let (heard_here, heard_there) = tokio::join!(here, there);
            assert_eq!(heard_here, theirs.bytes());
            assert_eq!(heard_there, ours.bytes());
        });
        Ok(())
    });
    ran.unwrap();
}

#[tokio::test]
async fn a_bad_record_after_our_close_notify_is_not_answered() {
    let (client, server) = (any_identity(), any_identity());
    let dial = tls::client(&client, server.key(), tls::LEG).unwrap();
    let (dialled, accepted) = legs(dial, tls::server(&server, &[tls::LEG]).unwrap()).await;
    let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
    accepted.last_words(None::<&Ping>).await.unwrap();
    dialled.ended().await.unwrap();
    let mut bad = vec![0x17, 3, 3, 0, 32];
    bad.extend([5; 32]);
    dialled.line.tcp.write_all(&bad).await.unwrap();
    // A debug build of rustls asserts that no alert follows a close_notify, and so it falls over; a
    // task of its own keeps that from everything else.
    let read = tokio::spawn(async move { accepted.read::<Ping>().await }).await;
    assert!(read.is_err() || read.unwrap().is_err());
    let mut answer = Vec::new();
    let _ = dialled.line.tcp.read_to_end(&mut answer).await;
    assert_eq!(answer, [0; 0], "nothing of TLS is written any more");
}

#[tokio::test]
async fn whoever_is_refused_reads_why_also_if_it_said_more_already() {
    let (client, server) = (any_identity(), any_identity());
    let dial = tls::client(&client, server.key(), tls::LEG).unwrap();
    for _ in 0..50 {
        let accept = tls::server(&server, &[tls::LEG]).unwrap();
        let (dialled, accepted) = legs(Arc::clone(&dial), accept).await;
        let (mut dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        let request = Request { service: "a".repeat(2000) };
        dialled.last_words(Some(&request)).await.unwrap();
        dialled.line.tcp.write_all(&[9; 1500]).await.unwrap();
        let (heard, ()) = tokio::join!(
            // Then it hangs up.
            async move { dialled.read::<Ping>().await },
            accepted.refuse(&Ping { sequence: 7 }, Duration::from_secs(2)),
        );
        assert_eq!(heard.unwrap().sequence, 7);
    }
}

#[tokio::test]
async fn a_stream_through_messages_and_then_over_a_socket() {
    let (client, home, other) = (any_identity(), any_identity(), any_identity());
    let serve = tls::server(&home, &[tls::STREAM]).unwrap();
    for expected in [home.key(), other.key()] {
        let dial = tls::client(&client, expected, tls::STREAM).unwrap();
        let (here, there) = sockets().await;
        let (hello, first) = inner::hello(dial).unwrap();
        let (answer, flight) = inner::answer(Arc::clone(&serve), first).unwrap();
        assert!(flight.len() < crate::wire::MAX_FLIGHT, "{}", flight.len());
        let (here, there) = tokio::join!(
            async {
                let mut tls = hello.go_on(flight, here.into()).await?;
                tls.write_all(b"to home").await?;
                tls.shutdown().await?;
                let mut heard = Vec::new();
                tls.read_to_end(&mut heard).await.map(|_| heard)
            },
            async {
                let (mut tls, key) = answer.go_on(there.into()).await?;
                let mut heard = Vec::new();
                tls.read_to_end(&mut heard).await?;
                // The other way is still open.
                tls.write_all(b"from home").await?;
                tls.shutdown().await?;
                io::Result::Ok((heard, key))
            }
        );
        if expected == home.key() {
            assert_eq!(here.unwrap(), b"from home");
            assert_eq!(there.unwrap(), (b"to home".to_vec(), client.key()));
        } else {
            assert_eq!(WrongKey::of(&here.unwrap_err()).unwrap().shown, home.key());
            assert!(there.is_err());
        }
    }
}

#[test]
fn a_hello_that_is_none_is_refused() {
    let home = any_identity();
    let serve = tls::server(&home, &[tls::STREAM]).unwrap();
    for hello in [vec![], vec![0x16, 3, 1], vec![0; 100], vec![0x16, 3, 1, 0xff, 0xff, 1]] {
        assert!(inner::answer(Arc::clone(&serve), hello.clone()).is_err(), "{hello:?}");
    }
}

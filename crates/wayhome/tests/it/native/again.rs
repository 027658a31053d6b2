//! Data connections that outlive a stream by a port, and carry the next one.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use wayhome::relay::{Counts, carry};
use wayhome::wire::messages::{Offer, from_agent, from_gateway};

use super::*;

/// A home with a service by a port of its gateway: the port, and its registration.
async fn offered<'a>(home: &'a Peer, config: &str) -> (Gateway, u16, Registration<'a>) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let grants = home.grant(&format!("homes = [\"home\"]\nports = [{port}]"));
    let gateway = Gateway::with(&grants, config);
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let offer = Offer { number: 1, service: "echo".into(), port: port.into() };
    registration.say(from_agent::Message::Offer(offer)).await;
    let offered = registration.hear().await;
    let from_gateway::Message::Offered(offered) = offered else { panic!("{offered:?}") };
    assert_eq!((offered.refused, offered.port), (None, port.into()));
    (gateway, port, registration)
}

fn waiting(status: &GatewaySnapshot) -> usize {
    status.homes[0].online.as_ref().unwrap().waiting
}

/// Takes the stream that is asked for.
async fn take(data: &mut Leg) {
    let asked = answer(data).await;
    assert!(matches!(&asked, Answer::Local(local) if local.service == "echo"), "{asked:?}");
    let opened = TakenAnswer::Opened(Opened { server_flight: Vec::new() });
    data.write(&Taken { answer: Some(opened) }).await.unwrap();
}

/// Gives each byte back, up to the end.
async fn echo(data: &mut Leg) {
    let (mut near, far) = duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(far);
    let counts = Counts::default();
    let echoing = async {
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await
    };
    let (carried, echoed) = tokio::join!(carry(&mut near, data, &counts), echoing);
    carried.and(echoed).unwrap();
}

/// Somebody who comes by the port, and what comes back to them up to the end.
async fn call(port: u16, words: &[u8]) -> io::Result<Vec<u8>> {
    let (mut from, mut to) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
    let mut heard = Vec::new();
    let said = async {
        to.write_all(words).await?;
        to.shutdown().await
    };
    let (said, read) = tokio::join!(said, from.read_to_end(&mut heard));
    said.and(read).map(|_| heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_carries_one_stream_after_the_other() {
    let home = Peer::new();
    let (gateway, port, registration) = offered(&home, "").await;
    let mut data = registration.ready(&gateway).await;
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for words in [&b"first"[..], &large, b"", b"last"] {
        let calling = timeout(SOON, call(port, words));
        let serving = async {
            take(&mut data).await;
            echo(&mut data).await;
        };
        let (heard, ()) = tokio::join!(calling, serving);
        assert!(heard.unwrap().unwrap() == words, "{} bytes", words.len());
        gateway.until(|status| waiting(status) == 1 && status.homes[0].streams == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_let_go_if_enough_others_wait() {
    let home = Peer::new();
    let (gateway, port, registration) = offered(&home, "[limits]\npool = 1\n").await;
    let mut data = registration.ready(&gateway).await;
    let calling = timeout(SOON, call(port, b"words"));
    let serving = async {
        take(&mut data).await;
        let other = registration.ready(&gateway).await;
        gateway.until(|status| waiting(status) == 1).await;
        echo(&mut data).await;
        other
    };
    let (heard, _other) = tokio::join!(calling, serving);
    assert_eq!(heard.unwrap().unwrap(), b"words");
    let Answer::Refused(refused) = answer(&mut data).await else { panic!() };
    assert_eq!(reason(&refused), Reason::Full);
    assert_eq!(waiting(&gateway.status()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_behind_a_stream_unasked_ends_it() {
    let home = Peer::new();
    let (gateway, port, registration) = offered(&home, "").await;
    let mut data = registration.ready(&gateway).await;
    let serving = async {
        take(&mut data).await;
        echo(&mut data).await;
        data.write(&Taken::default()).await.unwrap();
        assert!(timeout(SOON, data.read::<Welcome>()).await.unwrap().is_err());
    };
    let (heard, ()) = tokio::join!(call(port, b"words"), serving);
    assert_eq!(heard.unwrap(), b"words");
    gateway.until(|status| waiting(status) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_tls_before_the_streams_is_a_cut() {
    let home = Peer::new();
    let (gateway, port, registration) = offered(&home, "").await;
    for with_a_piece in [false, true] {
        let mut data = registration.ready(&gateway).await;
        let serving = async {
            take(&mut data).await;
            if with_a_piece {
                // More is announced than comes.
                data.say(&[0, 9, b'x']).unwrap();
            }
            data.last_words(None::<&Taken>).await.unwrap();
        };
        let calling = async {
            let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            timeout(SOON, tcp.read_to_end(&mut Vec::new())).await.expect("an end")
        };
        let (heard, ()) = tokio::join!(calling, serving);
        let why = heard.expect_err("a cut is no end");
        assert_eq!(why.kind(), io::ErrorKind::ConnectionReset, "{why}");
    }
}

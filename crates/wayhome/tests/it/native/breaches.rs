//! Peers that do not keep to the protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayhome::wire::messages::{Offer, from_agent};

use super::*;

async fn refusal(peer: &Peer, gateway: &Gateway, purpose: Purpose) -> Reason {
    let (_, answer) = peer.ask(gateway, purpose).await;
    let Answer::Refused(refused) = answer else { panic!("{answer:?}") };
    reason(&refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_out_of_bounds_is_malformed() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    for name in ["", "Home", "a\nb", "\u{1b}[31m", "-a", &"a".repeat(64), "home ", "hö"] {
        let wish = Purpose::Register(register(name, 1));
        assert_eq!(refusal(&home, &gateway, wish).await, Reason::Malformed, "{name:?}");
        let open = Open { home: name.into(), client_hello: vec![1] };
        let wish = Purpose::Open(open);
        assert_eq!(refusal(&client, &gateway, wish).await, Reason::Malformed, "{name:?}");
    }
    for instance in [0, 15, 17, 1000] {
        let wish = Register { instance: vec![1; instance], ..register("home", 1) };
        assert_eq!(refusal(&home, &gateway, Purpose::Register(wish)).await, Reason::Malformed);
    }
    for heartbeat_ms in [0, 999, 300_001, u32::MAX] {
        let wish = Register { heartbeat_ms, ..register("home", 1) };
        assert_eq!(refusal(&home, &gateway, Purpose::Register(wish)).await, Reason::Malformed);
    }
    for flight in [0, 8193, 16_000] {
        let open = Open { home: "home".into(), client_hello: vec![1; flight] };
        assert_eq!(refusal(&client, &gateway, Purpose::Open(open)).await, Reason::Malformed);
    }
    let mut leg = client.dial(&gateway).await.unwrap();
    leg.write(&Hello { software: "x".repeat(10_000), purpose: None }).await.unwrap();
    assert!(matches!(answer(&mut leg).await, Answer::Refused(_)));
    let status = gateway.status();
    assert!(status.homes.is_empty());
    assert!(!gateway.log().contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_beyond_the_bound_closes_the_connection() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let offer = Offer { number: 1, service: "a".repeat(1 << 20), port: 0 };
    registration.say(from_agent::Message::Offer(offer)).await;
    registration.is_let_go(Reason::Malformed).await;
    gateway.until(|status| status.homes[0].online.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_name_or_with_a_number_twice_is_malformed() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let offer = Offer { number: 1, service: "a\u{1b}[31m".into(), port: 0 };
    registration.say(from_agent::Message::Offer(offer)).await;
    registration.is_let_go(Reason::Malformed).await;
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    for service in ["one", "two"] {
        let offer = Offer { number: 1, service: service.into(), port: 0 };
        registration.say(from_agent::Message::Offer(offer)).await;
    }
    let _ = registration.hear().await;
    registration.is_let_go(Reason::Malformed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_that_speaks_unasked_is_closed() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let mut data = registration.ready(&gateway).await;
    gateway.until(|status| status.homes[0].online.as_ref().unwrap().waiting == 1).await;
    data.write(&Taken::default()).await.unwrap();
    assert!(timeout(SOON, data.read::<Welcome>()).await.unwrap().is_err());
    gateway.until(|status| status.homes[0].online.as_ref().unwrap().waiting == 0).await;
    stream(&gateway, &registration, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_more_than_it_may_is_refused() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let data = registration.ready(&gateway).await;
    // A second message in place of the end.
    let open = || Hello {
        software: String::new(),
        purpose: Some(Purpose::Open(Open { home: "home".into(), client_hello: vec![1; 100] })),
    };
    let mut leg = client.dial(&gateway).await.unwrap();
    leg.write(&open()).await.unwrap();
    leg.write(&open()).await.unwrap();
    let Answer::Refused(refused) = answer(&mut leg).await else { panic!() };
    assert_eq!(reason(&refused), Reason::Malformed);
    assert_eq!(gateway.status().homes[0].online.as_ref().unwrap().waiting, 1, "home hears nothing");
    drop(data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_home_answers_is_bounded_before_a_client_hears_it() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let serving = async {
        let mut data = registration.ready(&gateway).await;
        assert!(matches!(answer(&mut data).await, Answer::Incoming(_)));
        let refused = Refused {
            reason: Reason::Full.number(),
            detail: format!("\u{1b}[31m{}", "x".repeat(9000)),
            last_seen_ms: None,
        };
        let taken = Taken { answer: Some(TakenAnswer::Refused(refused)) };
        data.last_words(Some(&taken)).await.unwrap();
    };
    let (refused, ()) = tokio::join!(client.open(&gateway, "home", home.key()), serving);
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), Reason::Full);
    assert!(refused.detail.len() <= 256 && !refused.detail.contains('\u{1b}'), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invites_are_not_taken_yet() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let tcp = TcpStream::connect(gateway.address).await.unwrap();
    let config = tls::client(&home.0, gateway.key, tls::JOIN).unwrap();
    let tls = tokio_rustls::TlsConnector::from(config).connect(tls::no_name(), tcp).await;
    // The handshake may be through before the gateway hangs up.
    if let Ok(mut tls) = tls {
        assert!(matches!(timeout(SOON, tls.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_)));
    }
    gateway.until(|status| status.strangers.malformed == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_stranger_sends_first_it_is_closed_and_counted() {
    let gateway = Gateway::start("");
    let junk: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xfc],
        &[0; 4096],
        &[0xff; 70_000],
        &[0x16, 3, 3, 0, 0],
    ];
    for bytes in junk {
        let mut tcp = TcpStream::connect(gateway.address).await.unwrap();
        // It may hang up before it has all of it.
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        let mut rest = Vec::new();
        let _ = timeout(SOON, tcp.read_to_end(&mut rest)).await.expect("an end");
        assert!(rest.len() < 64, "an alert at the most: {rest:?}");
    }
    let status = gateway.until(|status| status.strangers.half_open == 0).await;
    assert_eq!(status.strangers.malformed + status.strangers.gone, junk.len() as u64);
    assert!(status.refusals.is_empty());
}

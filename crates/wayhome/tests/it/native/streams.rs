//! Streams: bytes, ends, and what one costs the others.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayhome::wire::messages::{Offer, Proven, from_agent, from_gateway};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_told_of_and_ends_each_way_by_itself() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let offer = Offer { number: 7, service: "ssh".into(), port: 0 };
    registration.say(from_agent::Message::Offer(offer)).await;
    let from_gateway::Message::Offered(offered) = registration.hear().await else { panic!() };
    assert!(offered.number == 7 && offered.refused.is_none());
    registration.say(from_agent::Message::Proven(Proven { number: 7 })).await;
    let (mut near, mut far) = stream(&gateway, &registration, &client).await;

    near.write_all(b"there").await.unwrap();
    far.read_exact(&mut [0; 5]).await.unwrap();
    far.write_all(b"and back").await.unwrap();
    near.read_exact(&mut [0; 8]).await.unwrap();
    let status = gateway.status();
    let shown = &status.streams[0];
    assert_eq!(shown.grant.as_deref(), Some("laptop"));
    assert!(shown.there > 5 && shown.back > 8, "{shown:?}");
    let online = status.homes[0].online.as_ref().unwrap();
    assert_eq!(online.services[0].name.as_str(), "ssh");
    assert!(online.services[0].proven_ms.is_some());
    assert_eq!(online.software.as_str(), "test/1");

    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0, "a proper end");
    far.write_all(b"more").await.unwrap();
    near.read_exact(&mut [0; 4]).await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0, "a proper end");
    gateway.until(|status| status.streams.is_empty() && status.homes[0].streams == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_never_an_end() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let (near, mut far) = stream(&gateway, &registration, &client).await;
    // A FIN without the words before it.
    drop(near.into_inner());
    let why = far.read(&mut [0; 8]).await.unwrap_err();
    assert!(
        matches!(why.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
        "{why}"
    );
    let (mut near, far) = stream(&gateway, &registration, &client).await;
    rustix::net::sockopt::set_socket_linger(far.get_ref().0.tcp().unwrap(), Some(Duration::ZERO))
        .unwrap();
    drop(far);
    let why = near.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(why.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_is_an_error_at_both_ends() {
    let (home, client, grants) = couple();
    let mut gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let (mut near, mut far) = stream(&gateway, &registration, &client).await;
    gateway.process.0.kill().unwrap();
    for end in [near.read(&mut [0; 8]).await, far.read(&mut [0; 8]).await] {
        assert!(end.is_err(), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_for_data_connections_that_are_asked_for() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let one = || client.open(&gateway, "home", home.key());
    let opening = async { tokio::join!(one(), one(), one()) };
    let serving = async {
        // Told in one word or in several, it is three.
        let mut wanted = 0;
        while wanted < 3 {
            let from_gateway::Message::Wanted(more) = registration.hear().await else { panic!() };
            wanted += more.connections;
        }
        assert_eq!(wanted, 3);
        for _ in 0..wanted {
            let data = registration.ready(&gateway).await;
            registration.take(data).await;
        }
    };
    let ((first, second, third), ()) = tokio::join!(opening, serving);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_short_streams() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    for round in 0..1000_u32 {
        let (mut near, mut far) = stream(&gateway, &registration, &client).await;
        let sent = round.to_be_bytes();
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut came = Vec::new();
        far.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, sent);
        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    }
    gateway.until(|status| status.streams.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_more_streams_than_they_may() {
    let (home, greedy, mut grants) = couple();
    let other = Peer::new();
    grants += &other.grant("reach = [\"home\"]");
    let limits = "[limits]\nstreams_per_key = 2\nstreams_per_home = 3\n";
    let gateway = Gateway::with(&grants, limits);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(stream(&gateway, &registration, &greedy).await);
    }
    let refused = greedy.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::Full, "of this key");
    kept.push(stream(&gateway, &registration, &other).await);
    let refused = other.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::Full, "of this home");
    kept.clear();
    gateway.until(|status| status.streams.is_empty()).await;
    stream(&gateway, &registration, &greedy).await;
}

//! Who may do what at a gateway: a negative test for each, and what becomes of those who are here
//! already.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wayhome::wire::messages::{Offer, from_agent, from_gateway};

use super::*;

const PAST: &str = "expires = 2020-01-01T00:00:00Z";
const ELSEWHERE: &str = "from = [\"203.0.113.0/24\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_home_needs_a_grant_that_holds_and_has_its_name() {
    let home = Peer::new();
    let gateway = Gateway::start("");
    for (grant, expected) in [
        (String::new(), Reason::UnknownKey),
        (home.grant("homes = [\"home\"]\nrevoked = true"), Reason::Revoked),
        (home.grant(&format!("homes = [\"home\"]\n{PAST}")), Reason::Expired),
        (home.grant(&format!("homes = [\"home\"]\n{ELSEWHERE}")), Reason::WrongAddress),
        (home.grant("homes = [\"other\"]"), Reason::NotAllowed),
        (home.grant("reach = [\"home\"]"), Reason::NotAllowed),
        (Peer::new().grant("homes = [\"home\"]"), Reason::UnknownKey),
    ] {
        gateway.grant(&grant);
        let count = grant.matches("[[grant]]").count();
        gateway.until(|status| status.grants.count == count).await;
        // The count alone does not tell one file from the next.
        let refused = async {
            loop {
                let refused = home.register(&gateway, "home", 1).await.err().expect("refused");
                if reason(&refused) == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, refused).await.unwrap_or_else(|_| panic!("never {expected:?}"));
        let ready = Ready { home: "home".into(), instance: vec![1; 16], generation: 1 };
        let (_, answer) = home.ask(&gateway, Purpose::Ready(ready)).await;
        let Answer::Refused(refused) = answer else { panic!("{answer:?}") };
        assert_eq!(reason(&refused), expected, "a data connection");
    }
    let status = gateway.status();
    assert!(status.homes.is_empty(), "{status:#?}");
    assert!(status.refusals.iter().any(|refusal| refusal.reason == Reason::WrongAddress));
    assert!(status.refused[&Reason::Revoked] >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_grant_that_holds_and_reaches() {
    let (home, client) = (Peer::new(), Peer::new());
    let homes = home.grant("homes = [\"home\"]");
    let gateway = Gateway::start(&homes);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let _data = registration.ready(&gateway).await;
    for (wanted, grant, expected) in [
        ("home", String::new(), Reason::UnknownKey),
        ("home", client.grant("reach = [\"home\"]\nrevoked = true"), Reason::Revoked),
        ("home", client.grant(&format!("reach = [\"*\"]\n{PAST}")), Reason::Expired),
        ("home", client.grant(&format!("reach = [\"*\"]\n{ELSEWHERE}")), Reason::WrongAddress),
        ("home", client.grant("reach = [\"cabin\"]"), Reason::NotAllowed),
        ("home", client.grant("homes = [\"cabin\"]"), Reason::NotAllowed),
        ("cabin", client.grant("reach = [\"home\"]"), Reason::NotAllowed),
        ("cabin", client.grant("reach = [\"*\"]"), Reason::NoSuchHome),
    ] {
        gateway.grant(&format!("{homes}{grant}"));
        let refused = async {
            loop {
                let refused = client.open(&gateway, wanted, home.key()).await.err();
                if refused.is_some_and(|refused| reason(&refused) == expected) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, refused).await.unwrap_or_else(|_| panic!("never {expected:?}"));
    }
    assert_eq!(gateway.status().homes[0].online.as_ref().unwrap().waiting, 1, "it was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_offers_what_its_grant_has() {
    let home = Peer::new();
    let gateway = Gateway::start(&home.grant("homes = [\"home\"]\nservices = [\"ssh\"]"));
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    for (number, service, refused) in [
        (1, "web", Some(Reason::NotAllowed)),
        (2, "ssh", None),
        (3, "sshd", Some(Reason::NotAllowed)),
    ] {
        let offer = Offer { number, service: service.into(), port: 0 };
        registration.say(from_agent::Message::Offer(offer)).await;
        let from_gateway::Message::Offered(offered) = registration.hear().await else { panic!() };
        assert_eq!(offered.number, number);
        assert_eq!(offered.refused.as_ref().map(reason), refused, "{service}");
    }
    let online = gateway.status().homes[0].online.clone().unwrap();
    assert_eq!(online.services.len(), 1);
}

/// Whether the end of a stream comes within a second, and is no proper one.
async fn is_cut(end: &mut (impl tokio::io::AsyncRead + Unpin), since: Instant) {
    let read = timeout(Duration::from_secs(5), end.read(&mut [0; 8])).await.expect("an end");
    assert!(read.is_err(), "{read:?}");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_holds_ends_within_a_second_of_its_revocation() {
    let (home, client, grants) = couple();
    let other = Peer::new();
    let others = other.grant("homes = [\"cabin\"]");
    let gateway = Gateway::start(&format!("{grants}{others}"));
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let mut bystander = other.register(&gateway, "cabin", 2).await.unwrap();

    // The client's: its stream alone.
    let (mut near, mut far) = stream(&gateway, &registration, &client).await;
    let (mut own, mut own_far) = {
        let data = registration.ready(&gateway).await;
        let opening = home.open(&gateway, "home", home.key());
        let (own, (far, _)) = tokio::join!(opening, registration.take(data));
        (own.unwrap(), far)
    };
    gateway.grant(&format!(
        "{}{}{others}",
        home.grant("homes = [\"home\"]"),
        client.grant("reach = [\"home\"]\nrevoked = true")
    ));
    let since = Instant::now();
    is_cut(&mut near, since).await;
    is_cut(&mut far, since).await;
    own.write_all(b"still").await.unwrap();
    own_far.read_exact(&mut [0; 5]).await.unwrap();
    assert!(gateway.status().refused.contains_key(&Reason::Revoked));

    // The home's: all of it.
    let mut data = registration.ready(&gateway).await;
    gateway.until(|status| status.homes[1].online.as_ref().unwrap().waiting == 1).await;
    gateway.grant(&others);
    let since = Instant::now();
    is_cut(&mut own, since).await;
    is_cut(&mut own_far, since).await;
    registration.is_let_go(Reason::UnknownKey).await;
    assert!(matches!(answer(&mut data).await, Answer::Refused(_)));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    gateway.until(|status| status.homes.len() == 1).await;

    // Nobody else's.
    bystander.say(from_agent::Message::Ping(Default::default())).await;
    assert!(matches!(bystander.hear().await, from_gateway::Message::Pong(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_expires_ends_what_it_held() {
    let (home, client) = (Peer::new(), Peer::new());
    let now = std::time::SystemTime::now();
    let end = humantime::format_rfc3339_seconds(now + Duration::from_secs(3));
    let grants = home.grant("homes = [\"home\"]")
        + &client.grant(&format!("reach = [\"home\"]\nexpires = {end}"));
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let (mut near, _far) = stream(&gateway, &registration, &client).await;
    let read = timeout(SOON, near.read(&mut [0; 8])).await.expect("an end");
    assert!(read.is_err(), "{read:?}");
    let late = now.elapsed().unwrap();
    assert!(late < Duration::from_secs(4), "{late:?}");
    let refused = client.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::Expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_cannot_be_read_let_in_nobody_and_cut_nobody() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let (mut near, mut far) = stream(&gateway, &registration, &client).await;
    gateway.grant("[[grant");
    let status = gateway.until(|status| status.grants.error.is_some()).await;
    assert!(status.grants.error.unwrap().contains("grants.toml:1"));
    let refused = client.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(refused.detail, "the gateway cannot read its grants");
    near.write_all(b"still").await.unwrap();
    far.read_exact(&mut [0; 5]).await.unwrap();
    gateway.grant(&grants);
    gateway.until(|status| status.grants.error.is_none()).await;
    stream(&gateway, &registration, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_with_the_same_address_is_found_out() {
    let (home, _, grants) = couple();
    let mut gateway = Gateway::start(&grants);
    gateway.key = Peer::new().key();
    let why = home.dial(&gateway).await.expect_err("refused");
    assert!(tls::WrongKey::of(&why).is_some(), "{why}");
}

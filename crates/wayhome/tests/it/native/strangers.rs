//! Strangers in numbers, from the agent's own address: there is only one on loopback.

use std::sync::Arc;
use std::time::Instant;

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::*;

/// What half-open connections may cost at most (docs/protocol.md, "Bounds"): twice 512, 64 KiB each.
const BOUND: u64 = 2 * 512 * 64 * 1024;

/// What the allocator may keep for itself besides.
const SLACK: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_keeps_nobody_out_and_costs_what_is_bounded() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    // It has been here before, as agents have.
    drop(home.register(&gateway, "home", 1).await.unwrap());
    let before = gateway.resident();

    let address = gateway.address;
    let mut flood = JoinSet::new();
    // 2,000 that say nothing, or a byte now and then.
    for number in 0..2000_u32 {
        flood.spawn(async move {
            loop {
                let Ok(mut tcp) = TcpStream::connect(address).await else { continue };
                // A second each, also if it is let go before that: 2,000 more a second.
                let since = Instant::now();
                while since.elapsed() < Duration::from_secs(1) {
                    if number.is_multiple_of(4) {
                        let _ = tcp.write_all(&[0x16]).await;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        });
    }
    // 500 handshakes a second, with keys that nobody knows.
    let stranger = Arc::new(Peer::new());
    let key = gateway.key;
    flood.spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let mut running = JoinSet::new();
        loop {
            tick.tick().await;
            for _ in 0..5 {
                let stranger = Arc::clone(&stranger);
                running.spawn(async move {
                    let tcp = TcpStream::connect(address).await.ok()?;
                    let config = tls::client(&stranger.0, key, tls::LEG).unwrap();
                    let mut leg = Leg::dial(tcp, config).await.ok()?;
                    let wish = Purpose::Register(register("home", 9));
                    leg.write(&Hello { software: String::new(), purpose: Some(wish) })
                        .await
                        .ok()?;
                    leg.read::<Welcome>().await.ok()
                });
            }
            while running.try_join_next().is_some() {}
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut slowest = Duration::ZERO;
    let mut late = 0;
    for _ in 0..20 {
        // As an agent does, which tries again.
        let began = Instant::now();
        let registered = async { while !registers(&home, &gateway).await {} };
        timeout(SOON, registered).await.expect("in time");
        slowest = slowest.max(began.elapsed());
        late += u32::from(began.elapsed() > Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let grown = gateway.resident().saturating_sub(before);
    let status = gateway.status();
    flood.shutdown().await;
    println!("slowest {slowest:?}, {grown} bytes more, {:?}", status.strangers);
    assert_eq!(late, 0, "the slowest took {slowest:?}");
    assert!(grown < BOUND + SLACK, "{grown} bytes more");
    assert!(status.strangers.half_open <= 1024, "{:?}", status.strangers);
    assert!(status.strangers.evicted > 0, "{:?}", status.strangers);
}

async fn registers(home: &Peer, gateway: &Gateway) -> bool {
    let wish = Purpose::Register(register("home", 1));
    let Ok(mut leg) = home.say(gateway, wish).await else { return false };
    let Ok(welcome) = leg.read::<Welcome>().await else { return false };
    assert!(matches!(welcome.answer, Some(Answer::Registered(_))), "{welcome:?}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_key_has_a_grant_is_told_to_its_owner_alone() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    // Shows a key that has a grant, and signs with another.
    let stranger = Peer::new();
    let (shown, own) = (home.0.certified(), stranger.0.certified());
    let forged = CertifiedKey::new(shown.cert.clone(), Arc::clone(&own.key));
    let mut config = (*tls::client(&stranger.0, gateway.key, tls::LEG).unwrap()).clone();
    config.client_auth_cert_resolver =
        Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(forged)));
    let tcp = TcpStream::connect(gateway.address).await.unwrap();
    let said = async {
        let mut leg = Leg::dial(tcp, Arc::new(config)).await?;
        let wish = Purpose::Register(register("home", 1));
        leg.write(&Hello { software: String::new(), purpose: Some(wish) }).await?;
        leg.read::<Welcome>().await
    };
    assert!(timeout(SOON, said).await.expect("an end").is_err());
    let status = gateway.until(|status| status.strangers.malformed == 1).await;
    assert!(status.refusals.is_empty() && status.homes.is_empty(), "{status:#?}");
}

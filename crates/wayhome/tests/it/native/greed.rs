//! One who takes all that they can get, and what is left for others; and a gateway that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use wayhome_lab::needs_lab;

use super::*;

/// A home that serves whoever comes with what they send, and keeps some data connections waiting.
async fn serve(
    gateway: Arc<Gateway>,
    home: Arc<Peer>,
    name: &str,
    on: tokio::sync::oneshot::Sender<()>,
) {
    let mut registration = home.register(&gateway, name, 1).await.unwrap();
    let (home_name, generation) = (name.to_owned(), registration.registered.generation);
    let mut serving = JoinSet::new();
    let more = || {
        let (gateway, home, name) = (Arc::clone(&gateway), Arc::clone(&home), home_name.clone());
        async move {
            let ready = Ready { home: name, instance: vec![1; 16], generation };
            let Ok(mut leg) = home.say(&gateway, Purpose::Ready(ready)).await else { return };
            let Ok(welcome) = leg.read::<Welcome>().await else { return };
            let Some(Answer::Incoming(incoming)) = welcome.answer else { return };
            let config = tls::server(&home.0, &[tls::STREAM]).unwrap();
            let (answer, flight) = inner::answer(config, incoming.client_hello).unwrap();
            let opened = Opened { server_flight: flight };
            let taken = Taken { answer: Some(TakenAnswer::Opened(opened)) };
            if leg.last_words(Some(&taken)).await.is_err() || leg.ended().await.is_err() {
                return;
            }
            let Ok((tls, _)) = answer.go_on(leg.unwrap()).await else { return };
            let (mut from, mut to) = tokio::io::split(tls);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
    };
    serving.spawn(more());
    serving.spawn(more());
    let _ = on.send(());
    loop {
        tokio::select! {
            heard = registration.leg.read::<FromGateway>() => {
                let Ok(heard) = heard else { return };
                if let Some(from_gateway::Message::Wanted(wanted)) = heard.message {
                    for _ in 0..wanted.connections {
                        serving.spawn(more());
                    }
                }
            }
            Some(_) = serving.join_next() => {}
        }
    }
}

async fn echo(stream: &mut inner::Client) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; 4]).await.map(drop)
}

/// One key has as many streams as it gets, all at full speed, and asks for more without a pause. Who
/// has another key gets each stream, from the same home and from another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_key_starves_nobody() {
    let (first, second) = (Arc::new(Peer::new()), Arc::new(Peer::new()));
    let (greedy, modest) = (Arc::new(Peer::new()), Peer::new());
    let grants = first.grant("homes = [\"first\"]")
        + &second.grant("homes = [\"second\"]")
        + &greedy.grant("reach = [\"first\"]")
        + &modest.grant("reach = [\"*\"]");
    let gateway = Arc::new(Gateway::with(&grants, "[limits]\nstreams_per_key = 64\n"));
    let mut tasks = JoinSet::new();
    for (home, name) in [(&first, "first"), (&second, "second")] {
        let (on, is_on) = tokio::sync::oneshot::channel();
        let (gateway, home) = (Arc::clone(&gateway), Arc::clone(home));
        tasks.spawn(async move { serve(gateway, home, name, on).await });
        is_on.await.unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let (live, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..96 {
        let (gateway, greedy, over) =
            (Arc::clone(&gateway), Arc::clone(&greedy), Arc::clone(&over));
        let (live, refused, key) = (Arc::clone(&live), Arc::clone(&refused), first.key());
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let Ok(stream) = greedy.open(&gateway, "first", key).await else {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                live.fetch_add(1, Ordering::Relaxed);
                let (mut from, mut to) = tokio::io::split(stream);
                let sending = async {
                    let chunk = vec![7; 64 * 1024];
                    while to.write_all(&chunk).await.is_ok() {}
                };
                let taking = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await };
                let _ = tokio::join!(sending, taking);
            }
        });
    }
    let is_greedy = || live.load(Ordering::Relaxed) >= 40 && refused.load(Ordering::Relaxed) > 100;
    let began = Instant::now();
    while !is_greedy() && began.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_greedy(), "{live:?} streams, {refused:?} refused");
    let mut waits = Vec::new();
    for round in 0..30 {
        let (name, key) = [("first", first.key()), ("second", second.key())][round % 2];
        let began = Instant::now();
        let mut stream = modest.open(&gateway, name, key).await.expect("a stream");
        timeout(SOON, echo(&mut stream)).await.expect("an answer").unwrap();
        waits.push(began.elapsed());
    }
    waits.sort();
    println!(
        "beside {live:?} streams at full speed, and {refused:?} refusals: a stream and its first echo \
         took {:.0?}, and {:.0?} at the most",
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    );
    assert!(waits[waits.len() - 1] < Duration::from_secs(10), "{waits:?}");
    over.store(true, Ordering::Relaxed);
    tasks.abort_all();
}

/// Out of descriptors, it turns away streams, and keeps room for homes; those that live go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_nearly_out_of_descriptors_says_so_and_takes_homes_still() {
    needs_lab!();
    let (home, client, mut grants) = couple();
    let other = Peer::new();
    grants += &other.grant("homes = [\"other\"]");
    // Root could raise its limit otherwise.
    let few = [
        "setpriv",
        "--bounding-set",
        "-sys_resource",
        "sh",
        "-c",
        "ulimit -n 200; exec \"$@\"",
        "-",
    ];
    let gateway = Gateway::as_child_of(&few, &grants, "");
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let data = registration.ready(&gateway).await;
        let opening = client.open(&gateway, "home", home.key());
        match tokio::join!(opening, timeout(Duration::from_secs(2), registration.take(data))) {
            (Ok(stream), Ok(taken)) => kept.push((stream, taken.0)),
            (Err(refused), _) => break refused,
            (Ok(_), Err(_)) => panic!("a stream that nobody took"),
        }
        assert!(kept.len() < 100, "it never is full");
    };
    assert!(kept.len() > 30, "{}", kept.len());
    assert_eq!(reason(&refused), Reason::Full);
    assert!(refused.detail.contains("descriptors"), "{}", refused.detail);
    // Whoever is there, goes on; and a home comes in.
    for (near, far) in &mut kept {
        near.write_all(b"x").await.unwrap();
        near.flush().await.unwrap();
        far.read_exact(&mut [0]).await.unwrap();
    }
    let _there = other.register(&gateway, "other", 2).await.unwrap();
    let status = gateway.until(|status| status.load.strain.is_some()).await;
    assert!(status.load.most == 136 && status.load.descriptors > 90, "{:?}", status.load);
    assert!(gateway.log().contains("no new stream is taken in"), "{}", gateway.log());
    // And when some have gone, there is room again.
    kept.truncate(10);
    gateway.until(|status| status.load.strain.is_none()).await;
    stream(&gateway, &registration, &client).await;
}

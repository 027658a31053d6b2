//! Homes that come, go, come again, and are two.

use wayhome::wire::messages::{Ping, Pong, from_agent, from_gateway};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_agent_takes_its_own_place_and_its_streams_go_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut first = home.register(&gateway, "home", 1).await.unwrap();
    let (mut near, mut far) = stream(&gateway, &first, &client).await;
    let mut waiting = first.ready(&gateway).await;
    gateway.until(|status| status.homes[0].online.as_ref().unwrap().waiting == 1).await;

    let second = home.register(&gateway, "home", 1).await.unwrap();
    assert!(second.registered.generation > first.registered.generation);
    first.is_let_go(Reason::Replaced).await;
    assert!(matches!(answer(&mut waiting).await, Answer::Refused(_)));
    near.write_all(b"on").await.unwrap();
    far.read_exact(&mut [0; 2]).await.unwrap();
    // What still belongs to the first one is refused.
    let mut late = first.ready(&gateway).await;
    let Answer::Refused(refused) = answer(&mut late).await else { panic!() };
    assert_eq!(reason(&refused), Reason::Replaced);
    stream(&gateway, &second, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_outlives_the_gateway_at_home() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let wish = Register { generation: 41, ..register("home", 1) };
    let (_leg, answer) = home.ask(&gateway, Purpose::Register(wish)).await;
    let Answer::Registered(registered) = answer else { panic!("{answer:?}") };
    assert_eq!(registered.generation, 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_the_one_that_lives_stays_and_is_told() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut first = home.register(&gateway, "home", 1).await.unwrap();
    let second = home.register(&gateway, "home", 2);
    let alive = async {
        let from_gateway::Message::Ping(Ping { sequence }) = first.hear().await else { panic!() };
        first.say(from_agent::Message::Pong(Pong { sequence })).await;
        let from_gateway::Message::Alarm(alarm) = first.hear().await else { panic!() };
        assert_eq!(alarm.instance, [2; 16]);
        assert!(alarm.from.starts_with("127.0.0.1:"));
    };
    let (second, ()) = tokio::join!(second, alive);
    assert_eq!(reason(&second.err().expect("refused")), Reason::Duplicate);
    assert!(gateway.log().contains("another agent, at 127.0.0.1:"), "{}", gateway.log());
    assert_eq!(gateway.status().refused[&Reason::Duplicate], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_silent_gives_way_to_another() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut silent = home.register(&gateway, "home", 1).await.unwrap();
    let began = std::time::Instant::now();
    let second = home.register(&gateway, "home", 2).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450), "it was given its half second: {took:?}");
    assert!(second.registered.generation > silent.registered.generation);
    assert!(matches!(silent.hear().await, from_gateway::Message::Ping(_)));
    silent.is_let_go(Reason::Replaced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_goes_is_offline_and_was_seen_last() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let refused = client.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!((reason(&refused), refused.last_seen_ms), (Reason::Offline, None), "never here");
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    drop(registration);
    gateway.until(|status| status.homes[0].online.is_none()).await;
    let refused = client.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::Offline);
    assert!(refused.last_seen_ms.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_hangs_is_told_of_as_silent() {
    let (home, client, grants) = couple();
    let gateway = Gateway::start(&grants);
    let registration = home.register(&gateway, "home", 1).await.unwrap();
    let began = std::time::Instant::now();
    let refused = client.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::HomeSilent, "no data connection comes");
    assert!(began.elapsed() >= Duration::from_secs(4));
    // Two that do not answer.
    let (_first, _second) =
        (registration.ready(&gateway).await, registration.ready(&gateway).await);
    let refused = client.open(&gateway, "home", home.key()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::HomeSilent);
    // A dead one, and a live one.
    drop(registration.ready(&gateway).await);
    let data = registration.ready(&gateway).await;
    let opening = client.open(&gateway, "home", home.key());
    let (opened, _) = tokio::join!(opening, registration.take(data));
    opened.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_for_three_heartbeats_is_offline() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let wish = Register { heartbeat_ms: 1000, ..register("home", 1) };
    let began = std::time::Instant::now();
    let (mut leg, answer) = home.ask(&gateway, Purpose::Register(wish)).await;
    assert!(matches!(answer, Answer::Registered(_)));
    let mut heard = Vec::new();
    while let Ok(message) = timeout(SOON, leg.read::<FromGateway>()).await.unwrap() {
        heard.push(message.message.unwrap());
    }
    let took = began.elapsed();
    assert!((10.0..13.0).contains(&took.as_secs_f64()), "{took:?}");
    assert!(matches!(
        heard.as_slice(),
        [from_gateway::Message::Ping(_), from_gateway::Message::Goodbye(_)]
    ));
    assert!(gateway.status().homes[0].online.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_says_so() {
    let (home, _, grants) = couple();
    let gateway = Gateway::start(&grants);
    let mut registration = home.register(&gateway, "home", 1).await.unwrap();
    let pid = rustix::process::Pid::from_raw(gateway.process.0.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    registration.is_let_go(Reason::GoingAway).await;
}

//! Two sockets joined: what arrives, how it ends, and what it costs others.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A stream through a relay: its two outer ends, what it counts, and the relay itself.
struct Joined {
    client: TcpStream,
    home: TcpStream,
    counts: Arc<Counts>,
    relay: JoinHandle<io::Result<()>>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

async fn joined() -> Joined {
    let ((client, first), (home, second)) = (pair().await, pair().await);
    let counts = Arc::new(Counts::default());
    let theirs = Arc::clone(&counts);
    let mut joint = Joint::new(first.into(), second.into(), theirs).unwrap();
    let relay = tokio::spawn(async move { joint.run().await });
    Joined { client, home, counts, relay }
}

/// Bytes that tell where they stand.
fn numbered(length: usize) -> Vec<u8> {
    (0..length.div_ceil(4) as u32).flat_map(u32::to_be_bytes).take(length).collect()
}

async fn is_reset(socket: &mut TcpStream) -> bool {
    let read = timeout(SOON, socket.read(&mut [0; 64])).await.unwrap();
    read.is_err_and(|why| why.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn everything_arrives_both_ways_at_once_and_in_order() {
    let Joined { client, home, counts, relay } = joined().await;
    let sent = numbered(8 << 20);
    let exchange = async |socket: TcpStream| {
        let (mut read, mut write) = socket.into_split();
        let mut came = Vec::new();
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(writing, read.read_to_end(&mut came));
        read.unwrap();
        assert!(came == sent);
    };
    timeout(SOON, async { tokio::join!(exchange(client), exchange(home)) }).await.unwrap();
    relay.await.unwrap().unwrap();
    assert_eq!(counts.there.load(Ordering::Relaxed), sent.len() as u64);
    assert_eq!(counts.back.load(Ordering::Relaxed), sent.len() as u64);
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on() {
    for client_ends in [true, false] {
        let Joined { client, home, relay, .. } = joined().await;
        let (mut ends, mut goes_on) = if client_ends { (client, home) } else { (home, client) };
        ends.write_all(b"last words").await.unwrap();
        ends.shutdown().await.unwrap();
        let mut came = Vec::new();
        timeout(SOON, goes_on.read_to_end(&mut came)).await.unwrap().unwrap();
        assert_eq!(came, b"last words");
        for word in [b"one", b"two"] {
            goes_on.write_all(word).await.unwrap();
            let mut came = [0; 3];
            timeout(SOON, ends.read_exact(&mut came)).await.unwrap().unwrap();
            assert_eq!(&came, word);
        }
        assert!(!relay.is_finished());
        drop(goes_on);
        assert_eq!(timeout(SOON, ends.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
        relay.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_as_one() {
    for client_resets in [true, false] {
        let Joined { client, home, relay, .. } = joined().await;
        let (resets, mut other) = if client_resets { (client, home) } else { (home, client) };
        resets.set_zero_linger().unwrap();
        drop(resets);
        assert!(is_reset(&mut other).await);
        assert!(relay.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_relay_that_is_dropped_resets_both() {
    let Joined { mut client, mut home, relay, .. } = joined().await;
    client.write_all(b"x").await.unwrap();
    home.read_exact(&mut [0]).await.unwrap();
    relay.abort();
    assert!(is_reset(&mut client).await && is_reset(&mut home).await);
}

#[tokio::test]
async fn one_end_and_then_a_drop_is_still_no_end() {
    let Joined { mut client, mut home, relay, .. } = joined().await;
    client.shutdown().await.unwrap();
    assert_eq!(home.read(&mut [0; 8]).await.unwrap(), 0);
    relay.abort();
    assert!(is_reset(&mut client).await, "the other direction had not ended");
}

#[tokio::test]
async fn a_reader_that_stalls_slows_nobody_else() {
    let mut stalled = joined().await;
    let chunk = vec![0; 1 << 20];
    // Until nothing more goes in.
    while timeout(Duration::from_millis(300), stalled.client.write_all(&chunk)).await.is_ok() {}
    let mut lively = joined().await;
    for _ in 0..100 {
        let turn = async {
            lively.client.write_all(b"ping").await.unwrap();
            lively.home.read_exact(&mut [0; 4]).await.unwrap();
            lively.home.write_all(b"pong").await.unwrap();
            lively.client.read_exact(&mut [0; 4]).await.unwrap();
        };
        timeout(Duration::from_secs(1), turn).await.unwrap();
    }
    // And the stalled one's other direction is free.
    stalled.home.write_all(b"free").await.unwrap();
    timeout(SOON, stalled.client.read_exact(&mut [0; 4])).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_relay_that_is_given_up_goes_on_elsewhere_and_loses_nothing() {
    let ((client, first), (home, second)) = (pair().await, pair().await);
    let mut joint = Joint::new(first.into(), second.into(), Arc::default()).unwrap();
    let sent = numbered(8 << 20);
    let exchange = async |socket: TcpStream| {
        let (mut read, mut write) = socket.into_split();
        let mut came = Vec::<u8>::new();
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let reading = async {
            let mut chunk = vec![0; 50_000];
            while let Ok(read @ 1..) = read.read(&mut chunk).await {
                came.extend_from_slice(&chunk[..read]);
                // So that something is always on its way.
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        };
        tokio::join!(writing, reading);
        assert!(came == sent, "{} bytes", came.len());
    };
    let relaying = async {
        let mut times = 0;
        let mut on_its_way = 0;
        while timeout(Duration::from_millis(3), joint.run()).await.is_err() {
            times += 1;
            let resumed =
                |way: &OneWay| OneWay::resumed(way.on_its_way().to_vec(), way.has_ended());
            on_its_way += joint.there.on_its_way().len() + joint.back.on_its_way().len();
            let (there, back) = (resumed(&joint.there), resumed(&joint.back));
            let Joint { first, second, counts, .. } = joint;
            joint = Joint { first, second, there, back, counts };
        }
        assert!(times > 5 && on_its_way > 0, "{times} times, {on_its_way} bytes");
        assert_eq!(joint.counts.there.load(Ordering::Relaxed), sent.len() as u64);
        assert_eq!(joint.counts.back.load(Ordering::Relaxed), sent.len() as u64);
    };
    let all = async { tokio::join!(exchange(client), exchange(home), relaying) };
    timeout(SOON, all).await.unwrap();
}

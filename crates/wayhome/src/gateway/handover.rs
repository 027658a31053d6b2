//! A restart that cuts no stream: what this process leaves of each to the next one, and how that goes
//! on with it.
//!
//! A blind stream is two sockets and what was read from one and not yet written to the other, and so
//! it can change hands. One that a leg's TLS carries (by a port of loopback) cannot: nobody else could
//! go on with its keys. That one is reset.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::sockopt::socket_cookie;
use tokio::net::TcpStream;
use wayhome_core::health::Detail;
use wayhome_core::key::Key;
use wayhome_core::name::Name;
use wayhome_core::route::ConnId;
use wayhome_core::status::millis;

use super::book::Peer;
use super::store::{self, Left, Store};
use super::{Gateway, stream};
use crate::relay::{Counts, Joint, OneWay, cut_by_reset, tune};
use crate::wire::frame::breach;
use generated::{Stream, Way};

#[allow(missing_docs, reason = "what each is, the file says that they are made from")]
mod generated;

/// What they are called in the store: the sockets, and the file that tells of them.
const SOCKETS: &str = "stream";
const FILE: &str = "handover";

/// A stream that nobody moves.
#[derive(Debug)]
pub struct Parted {
    /// The client.
    pub peer: Peer,
    /// The home.
    pub home: Name,
    /// The key of the data connection that carries it, and where it comes from.
    pub carrier: (Key, SocketAddr),
    /// Since when it lives.
    pub since: Instant,
    /// Its sockets, and what is between them.
    pub joint: Joint,
}

/// Leaves streams to the next process.
///
/// # Errors
/// If they cannot be left; then each of them is reset.
pub fn leave(store: &Store, streams: &[Parted]) -> io::Result<()> {
    if streams.is_empty() {
        return store.settle();
    }
    let mut file = File::from(memfd_create("wayhome-handover", MemfdFlags::CLOEXEC)?);
    for stream in streams {
        file.write_all(&describe(stream)?.encode_length_delimited_to_vec())?;
    }
    let sockets = streams.iter().flat_map(|stream| {
        [&stream.joint.first, &stream.joint.second].map(|socket| socket.as_fd())
    });
    store.put(SOCKETS, &sockets.collect::<Vec<_>>())?;
    // Last: without it the sockets are nothing.
    store.put(FILE, &[file.as_fd()])?;
    store.settle()
}

/// Goes on with the streams that an earlier process left.
pub fn go_on(gateway: &Arc<Gateway>, left: &mut Left) {
    let (sockets, file) = (left.take(SOCKETS), left.take(FILE));
    if sockets.is_empty() && file.is_empty() {
        return;
    }
    // While it is there, too, a socket that we close would stay open.
    gateway.store.remove(SOCKETS);
    gateway.store.remove(FILE);
    let all = sockets.len() / 2;
    let taken = file.into_iter().next_back().map_or(Ok(Vec::new()), |file| read(file, sockets));
    let taken = taken.unwrap_or_else(|why| {
        tracing::warn!(event = "handover-failed", "{all} streams are cut: {why}");
        Vec::new()
    });
    let count = taken.len();
    for parted in taken {
        tokio::spawn(stream::go_on(Arc::clone(gateway), parted));
    }
    tracing::info!(event = "taken-over", count, "{count} streams go on");
}

/// Reads what the file tells, as far as it can be understood, and finds the sockets for it. What is
/// not found is dropped, and its peers read a reset.
fn read(file: OwnedFd, sockets: Vec<OwnedFd>) -> io::Result<Vec<Parted>> {
    let mut by_cookie = HashMap::new();
    for socket in sockets {
        by_cookie.insert(socket_cookie(&socket)?, socket);
    }
    let bytes = store::read(file)?;
    let mut rest = bytes.as_slice();
    let mut streams = Vec::new();
    while !rest.is_empty() {
        let told = Stream::decode_length_delimited(&mut rest)
            .map_err(|why| breach(format!("what was left cannot be read: {why}")))?;
        match restore(told, &mut by_cookie) {
            Ok(parted) => streams.push(parted),
            Err(why) => tracing::warn!("a stream is cut: {why}"),
        }
    }
    Ok(streams)
}

fn describe(stream: &Parted) -> io::Result<Stream> {
    let Parted { peer, home, carrier: (home_key, home_from), since, joint } = stream;
    let way = |way: &OneWay, count: &AtomicU64| Way {
        count: count.load(Ordering::Relaxed),
        on_its_way: way.on_its_way().to_vec(),
        has_ended: way.has_ended(),
    };
    Ok(Stream {
        client_key: peer.key.bytes().to_vec(),
        client_from: peer.from.to_string(),
        software: peer.software.to_string(),
        home: home.to_string(),
        home_key: home_key.bytes().to_vec(),
        home_from: home_from.to_string(),
        age_ms: millis(since.elapsed()),
        client_socket: socket_cookie(&joint.first)?,
        home_socket: socket_cookie(&joint.second)?,
        there: Some(way(&joint.there, &joint.counts.there)),
        back: Some(way(&joint.back, &joint.counts.back)),
    })
}

fn restore(told: Stream, sockets: &mut HashMap<u64, OwnedFd>) -> io::Result<Parted> {
    let mut socket = |cookie| {
        let socket = sockets.remove(&cookie).ok_or_else(|| breach("its socket is not there"))?;
        let socket = std::net::TcpStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = TcpStream::from_std(socket)?;
        tune(&socket)?;
        cut_by_reset(&socket)?;
        io::Result::Ok(socket)
    };
    // Both, before anything can fail: whoever is dropped has then been made ready to be a reset.
    let (first, second) = (socket(told.client_socket)?, socket(told.home_socket)?);
    let counts = Counts::default();
    let way = |way: Option<Way>, count: &AtomicU64| {
        let way = way.unwrap_or_default();
        count.store(way.count, Ordering::Relaxed);
        OneWay::resumed(way.on_its_way, way.has_ended)
    };
    let (there, back) = (way(told.there, &counts.there), way(told.back, &counts.back));
    let key = |bytes: &[u8]| {
        let bytes = bytes.try_into().map_err(|_| breach("its key is none"))?;
        io::Result::Ok(Key::new(bytes))
    };
    let from = |text: &str| text.parse::<SocketAddr>().map_err(|_| breach("its address is none"));
    let peer = Peer {
        // It gets one of its own.
        id: ConnId(0),
        key: key(&told.client_key)?,
        from: from(&told.client_from)?,
        software: Detail::new(&told.software),
    };
    Ok(Parted {
        peer,
        home: told.home.parse().map_err(|_| breach("its home has no name"))?,
        carrier: (key(&told.home_key)?, from(&told.home_from)?),
        since: Instant::now()
            .checked_sub(Duration::from_millis(told.age_ms))
            .unwrap_or_else(Instant::now),
        joint: Joint { first, second, there, back, counts: Arc::new(counts) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    /// A stream on whose way something is, and its outer ends.
    async fn stream() -> (Parted, TcpStream, TcpStream) {
        let ((client, first), (home, second)) = (pair().await, pair().await);
        let mut joint = Joint::new(first.into(), second.into(), Arc::default()).unwrap();
        joint.there = OneWay::resumed(b"on its way".to_vec(), true);
        joint.counts.back.store(77, Ordering::Relaxed);
        let peer = Peer {
            id: ConnId(9),
            key: Key::new([1; 32]),
            from: "[2001:db8::2]:50000".parse().unwrap(),
            software: Detail::new("test/1"),
        };
        let carrier = (Key::new([2; 32]), "203.0.113.7:40000".parse().unwrap());
        let home_name = "home-ubuntu".parse().unwrap();
        let parted = Parted { peer, home: home_name, carrier, since: Instant::now(), joint };
        (parted, client, home)
    }

    fn file(bytes: &[u8]) -> OwnedFd {
        let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        file.into()
    }

    fn sockets(stream: &Parted) -> Vec<OwnedFd> {
        let ends = [&stream.joint.second, &stream.joint.first];
        ends.map(|socket| socket.as_fd().try_clone_to_owned().unwrap()).into()
    }

    #[tokio::test]
    async fn what_is_left_is_found_again() {
        let (parted, mut client, mut home) = stream().await;
        let told = describe(&parted).unwrap().encode_length_delimited_to_vec();
        let all = sockets(&parted);
        // The process before is gone, and its own descriptors with it.
        let (peer, carrier) = (parted.peer.clone(), parted.carrier);
        drop(parted);
        let mut read = read(file(&told), all).unwrap();
        let mut again = read.pop().unwrap();
        assert_eq!((again.peer.key, again.peer.from), (peer.key, peer.from));
        assert_eq!(again.peer.software.as_str(), "test/1");
        assert_eq!((again.home.as_str(), again.carrier), ("home-ubuntu", carrier));
        assert_eq!(again.joint.counts.back.load(Ordering::Relaxed), 77);
        home.write_all(b"and back").await.unwrap();
        home.shutdown().await.unwrap();
        let (mut to_client, mut to_home) = (Vec::new(), Vec::new());
        let (ran, _, _) = tokio::join!(
            again.joint.run(),
            client.read_to_end(&mut to_client),
            home.read_exact({
                to_home.resize(10, 0);
                &mut to_home
            }),
        );
        ran.unwrap();
        assert_eq!((&to_client[..], &to_home[..]), (&b"and back"[..], &b"on its way"[..]));
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_cut_and_never_ends() {
        let (parted, client, home) = stream().await;
        let told = describe(&parted).unwrap();
        let whole = told.encode_length_delimited_to_vec();
        for length in 1..whole.len() {
            assert!(read(file(&whole[..length]), Vec::new()).is_err(), "{length} bytes");
        }
        let nameless = Stream { home: "No Name".into(), ..told.clone() };
        let keyless = Stream { client_key: vec![1; 31], ..told.clone() };
        let placeless = Stream { home_from: "nowhere".into(), ..told };
        for wrong in [nameless, keyless, placeless] {
            let wrong = wrong.encode_length_delimited_to_vec();
            assert!(read(file(&wrong), sockets(&parted)).unwrap().is_empty());
        }
        // One of its sockets is not there.
        let mut one = sockets(&parted);
        one.pop();
        drop(parted);
        assert!(read(file(&whole), one).unwrap().is_empty());
        for mut end in [client, home] {
            let why = end.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

//! The door: whoever connects is a stranger until they have proven their key and said what they want.
//! How many strangers there may be, and who of them has to go, `core::admission` decides.

use std::collections::HashMap;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use wayhome_core::health::Detail;
use wayhome_core::name::Name;
use wayhome_core::refusal::{Reason, Refusal};
use wayhome_core::route::ConnId;

use super::book::Peer;
use super::refusals::Refused;
use super::store::{self, Left, Store};
use super::{Gateway, registered, stream, waiting};
use crate::error::{Failure, Outcome};
use crate::relay;
use crate::wire::leg::Leg;
use crate::wire::messages::hello::Purpose;
use crate::wire::messages::welcome::Answer;
use crate::wire::messages::{self, Hello, Welcome};

/// From the accept to the whole of `Hello`.
const HELLO: Duration = Duration::from_secs(10);

/// How long a peer that is refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// Connections that the kernel keeps for us meanwhile; it has an upper limit of its own
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long a complaint is not repeated.
pub const AGAIN: Duration = Duration::from_secs(60);

/// When nothing can be accepted: out of descriptors, say. They come back when others are closed.
const PAUSE: Duration = Duration::from_millis(50);

/// `software` is cut off here, and `detail` here.
const SOFTWARE: usize = 64;
const DETAIL: usize = 256;

/// Begins to listen everywhere. What an earlier process listened on is gone on with, and whoever came
/// meanwhile waits there.
pub fn listen(
    addresses: &[SocketAddr],
    store: &Store,
    left: &mut Left,
) -> Outcome<Vec<TcpListener>> {
    let mut before: HashMap<_, _> = HashMap::new();
    for (name, at, listener) in left.take_listeners(store::LISTENER) {
        match addresses.contains(&at) {
            true => drop(before.insert(at, listener)),
            false => store.remove(&name),
        }
    }
    let mut listen = |address: &SocketAddr| {
        if let Some(listener) = before.remove(address) {
            return go_on_at(listener);
        }
        let listener = listen_at(*address)?;
        store.put(&store::name_of(*address), &[listener.as_fd()])?;
        Ok(listener)
    };
    let listen = |address: &SocketAddr| {
        listen(address).map_err(|why| {
            let taken = why.kind() == io::ErrorKind::AddrInUse;
            let hint = match taken {
                true => "`ss -lntp` shows who has it; another port is set with `listen`",
                false => "`listen` in gateway.toml says where to listen",
            };
            Failure::new(format!("`{address}` cannot be listened at")).because(&why).hint(hint)
        })
    };
    addresses.iter().map(listen).collect()
}

/// Goes on listening where an earlier process did.
pub fn go_on_at(listener: net::TcpListener) -> io::Result<TcpListener> {
    relay::tune(&listener)?;
    TcpListener::from_std(listener)
}

/// Begins to listen at one address.
pub fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        // IPv4 has a socket of its own, so that both can be seen and each be left out.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.set_reuseaddr(true)?;
    relay::tune(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes in whoever comes. Never ends.
pub async fn keep(gateway: Arc<Gateway>, listener: TcpListener) {
    let mut full = Full::default();
    loop {
        let (tcp, from) = match listener.accept().await {
            Ok(came) => came,
            Err(why) => {
                full.tell(&why);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let id = gateway.new_id();
        let spoke = has_spoken(&tcp);
        // Under the lock, so that it does not leave before it has arrived.
        let mut book = gateway.book();
        if book.load().is_full() {
            book.refusals.strangers.shed += 1;
            continue;
        }
        let task = tokio::spawn(stranger(Arc::clone(&gateway), tcp, from, id));
        book.arrive(id, from.ip(), task.abort_handle(), gateway.now());
        if spoke {
            // In a crowd its task may come to that too late.
            book.spoke(id);
        }
    }
}

/// Says that nobody can be taken in, and not each time.
#[derive(Default)]
struct Full(Option<Instant>);

impl Full {
    fn tell(&mut self, why: &io::Error) {
        if self.0.is_some_and(|said| said.elapsed() < AGAIN) {
            return;
        }
        self.0 = Some(Instant::now());
        let is_full = matches!(
            why.raw_os_error().map(Errno::from_raw_os_error),
            Some(Errno::MFILE | Errno::NFILE)
        );
        let remedy = match is_full {
            true => {
                "; a connection is a descriptor: raise `LimitNOFILE` of the service, or `ulimit -n`"
            }
            false => "",
        };
        tracing::warn!(event = "full", "nobody new can be taken in: {why}{remedy}");
    }
}

/// Whether something has come already.
fn has_spoken(tcp: &TcpStream) -> bool {
    recv(tcp, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0)
}

/// A stranger, up to its first message.
async fn stranger(gateway: Arc<Gateway>, tcp: TcpStream, from: SocketAddr, id: ConnId) {
    let came = async {
        tcp.readable().await?;
        gateway.book().spoke(id);
        let mut leg = Leg::accept(tcp, Arc::clone(&gateway.tls)).await?;
        let hello: Hello = leg.read().await?;
        io::Result::Ok((leg, hello))
    };
    let came = timeout(HELLO, came).await;
    let mut book = gateway.book();
    match came {
        Ok(Ok((leg, hello))) => {
            drop(book);
            return welcome(gateway, leg, hello, from, id);
        }
        Ok(Err(why)) => {
            tracing::debug!(%from, "a stranger was let go: {}", Detail::new(&why.to_string()));
            match why.kind() {
                io::ErrorKind::InvalidData => book.refusals.strangers.malformed += 1,
                _ => book.refusals.strangers.gone += 1,
            }
        }
        Err(_) => book.refusals.strangers.slow += 1,
    }
    book.known(id, None, gateway.now());
}

/// Somebody has said what they want. Whether they may, each of these asks first, in a task of its own:
/// what a handshake needs is much more than what comes after it, and a home that waits need not have
/// the room that a stream would.
fn welcome(gateway: Arc<Gateway>, leg: Leg, hello: Hello, from: SocketAddr, id: ConnId) {
    let software: String = hello.software.chars().take(SOFTWARE).collect();
    let peer = Peer { id, key: leg.peer(), from, software: Detail::new(&software) };
    match hello.purpose {
        Some(Purpose::Register(wish)) => {
            tokio::spawn(registered::serve(gateway, leg, peer, wish));
        }
        Some(Purpose::Ready(wish)) => {
            tokio::spawn(waiting::serve(gateway, leg, peer, wish));
        }
        Some(Purpose::Open(wish)) => {
            tokio::spawn(stream::serve(gateway, leg, peer, wish));
        }
        None => {
            tokio::spawn(async move {
                refuse(&gateway, leg, &peer, None, Reason::Malformed.into()).await;
            });
        }
    }
}

/// What a stranger becomes when it has asked for something: one of us, or one who is refused.
///
/// # Errors
/// If its grants do not have it.
pub fn judge<T>(
    gateway: &Gateway,
    peer: &Peer,
    allows: impl FnOnce(&wayhome_core::grant::Grants, u64) -> Result<T, Reason>,
) -> Result<(), Refusal> {
    let judged = match gateway.grants() {
        Ok(grants) => allows(&grants, super::wall_clock()).map(drop).map_err(Refusal::from),
        Err(reason) => Err(Refusal {
            reason,
            detail: Detail::new("the gateway cannot read its grants"),
            last_seen: None,
        }),
    };
    let granted = judged.is_ok().then(|| peer.from.ip());
    gateway.book().known(peer.id, granted, gateway.now());
    judged
}

/// Refuses a peer in answer to its hello, and records it.
pub async fn refuse(
    gateway: &Gateway,
    leg: Leg,
    peer: &Peer,
    home: Option<&Name>,
    refusal: Refusal,
) {
    record(gateway, peer, home, &refusal);
    farewell(gateway, leg, &no(&refusal)).await;
}

/// The answer to a hello that is refused.
pub fn no(refusal: &Refusal) -> Welcome {
    Welcome { answer: Some(Answer::Refused(refused(refusal))) }
}

/// Lets a peer go with last words, if not too many are about to be let go already.
pub async fn farewell(gateway: &Gateway, leg: Leg, words: &impl prost::Message) {
    if let Ok(_place) = gateway.farewells.try_acquire() {
        // Boxed, so that those who are not let go, and wait by the thousand, do not keep room for it.
        Box::pin(leg.refuse(words, FAREWELL)).await;
    }
}

/// Records a refusal, and tells the log.
pub fn record(gateway: &Gateway, peer: &Peer, home: Option<&Name>, refusal: &Refusal) {
    let mut book = gateway.book();
    // In case it was one still.
    book.known(peer.id, None, gateway.now());
    book.refusals.record(Refused {
        at: Instant::now(),
        reason: refusal.reason,
        key: peer.key,
        from: peer.from,
        home: home.cloned(),
        detail: refusal.detail.clone(),
    });
    drop(book);
    let who = gateway.name_of(&peer.key).unwrap_or_else(|| peer.key.to_string());
    tracing::info!(
        event = "refused",
        reason = ?refusal.reason,
        from = %peer.from,
        home = home.map(Name::as_str),
        "refused `{who}` from {}: {}",
        peer.from,
        refusal.reason
    );
}

/// A refusal as it travels.
pub fn refused(refusal: &Refusal) -> messages::Refused {
    let detail = refusal.detail.as_str();
    let detail = detail.get(..detail.floor_char_boundary(DETAIL)).unwrap_or_default();
    messages::Refused {
        reason: refusal.reason.number(),
        detail: detail.to_owned(),
        last_seen_ms: refusal.last_seen.map(wayhome_core::status::millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_accepted_is_fit_for_streams() {
        let listener = listen_at((net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let at = listener.local_addr().unwrap();
        // As one is that was not made here.
        let before = net::TcpListener::bind("127.0.0.1:0").unwrap();
        before.set_nonblocking(true).unwrap();
        let before_at = before.local_addr().unwrap();
        for (listener, at) in [(listener, at), (go_on_at(before).unwrap(), before_at)] {
            let (dialled, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
            let (_dialled, (accepted, _)) = (dialled.unwrap(), accepted.unwrap());
            assert!(sockopt::tcp_nodelay(&accepted).unwrap());
            assert!(sockopt::socket_keepalive(&accepted).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), Duration::from_secs(60));
        }
    }
}

//! A real agent at a real gateway: its links, the streams to it, and who may enter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wayhome::wire::frame;
use wayhome::wire::messages::{Request, Response};
use wayhome_core::status::{LinkStatus, Snapshot};

use super::*;

/// An agent in a folder of its own, with an echo behind its service `echo`.
struct Home {
    folder: TempDir,
    _process: Running,
    key: Key,
    /// How many connections the target saw.
    seen: Arc<AtomicUsize>,
}

/// How a target takes what it is sent.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// Gives it back, until that ends.
    Echo,
    /// Ends its own direction at once, and reads on.
    ClosesItsWay,
    /// Resets after the first bytes.
    Resets,
}

async fn target(kind: Target) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let (mut from, mut to) = tcp.split();
                match kind {
                    Target::Echo => drop(tokio::io::copy(&mut from, &mut to).await),
                    Target::ClosesItsWay => {
                        let _ = to.write_all(b"bye").await;
                        let _ = to.shutdown().await;
                        let mut heard = Vec::new();
                        let _ = from.read_to_end(&mut heard).await;
                    }
                    Target::Resets => {
                        let _ = from.read(&mut [0; 8]).await;
                        rustix::net::sockopt::set_socket_linger(&tcp, Some(Duration::ZERO))
                            .unwrap();
                    }
                }
            });
        }
    });
    (port, seen)
}

impl Home {
    /// An agent for `home` at this gateway, which grants it that.
    async fn start(gateway: &Gateway, kind: Target, grants: &str, others: &str) -> Self {
        let (port, seen) = target(kind).await;
        let home = Self::prepare(gateway, gateway.key, port, grants, seen);
        gateway.grant(&format!("{}{others}", home.grant("homes = [\"home\"]")));
        let kicked = async {
            while !home.status().is_some_and(|snapshot| snapshot.all_up()) {
                let _ = command(home.folder.path(), &["agent", "kick"]).output().unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // It may have been there before its grant.
        let up = timeout(SOON, kicked).await;
        assert!(up.is_ok(), "{:#?}\n{}", home.status(), home.log());
        home
    }

    fn prepare(
        gateway: &Gateway,
        pin: Key,
        port: u16,
        grants: &str,
        seen: Arc<AtomicUsize>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("state")).unwrap();
        let key = Identity::read_or_make(&path("state/identity")).unwrap().0.key();
        write_grants(folder.path(), grants);
        let config = format!(
            "name = \"home\"\nheartbeat = 1\n[[gateway]]\naddress = \"wayhome://{}\"\nkey = \"{pin}\"\n\
             [[service]]\nname = \"echo\"\ntarget = \"127.0.0.1:{port}\"\nproof = \"hold\"\n",
            gateway.address
        );
        fs::write(path("agent.toml"), config).unwrap();
        let child = command(folder.path(), &["-v", "agent", "run", "--config"])
            .arg(path("agent.toml"))
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        Self { _process: Running(child), folder, key, seen }
    }

    fn grant(&self, lines: &str) -> String {
        format!("[[grant]]\nkey = \"{}\"\n{lines}\n\n", self.key)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn status(&self) -> Option<Snapshot> {
        let output = command(self.folder.path(), &["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    async fn until(&self, is: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let wait = async {
            loop {
                if let Some(status) = self.status().filter(&is) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match timeout(SOON, wait).await {
            Ok(status) => status,
            Err(_) => panic!("never came: {:#?}\n{}", self.status(), self.log()),
        }
    }

    async fn until_cause(&self, kind: &str) -> LinkStatus {
        let is = |snapshot: &Snapshot| {
            let cause = snapshot.links[0].cause.as_ref();
            cause.is_some_and(|finding| finding.cause.kind() == kind)
        };
        self.until(is).await.links.remove(0)
    }

    /// A client's stream to a service, or the home's own reason against it.
    async fn open(
        &self,
        gateway: &Gateway,
        client: &Peer,
        service: &str,
    ) -> Result<inner::Client, Reason> {
        let mut tls = client.open(gateway, "home", self.key).await.unwrap();
        let request = Request { service: service.into() };
        tls.write_all(&frame::encode(&request)).await.unwrap();
        tls.flush().await.unwrap();
        let response: Response = timeout(SOON, frame::read(&mut tls)).await.unwrap().unwrap();
        match response.refused {
            None => Ok(tls),
            Some(refused) => Err(reason(&refused)),
        }
    }
}

async fn echo(tls: &mut inner::Client, text: &[u8]) {
    tls.write_all(text).await.unwrap();
    tls.flush().await.unwrap();
    let mut heard = vec![0; text.len()];
    timeout(SOON, tls.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, text);
}

/// A gateway, and a client that it lets reach the home.
fn seats() -> (Gateway, Peer, String) {
    let client = Peer::new();
    let reach = client.grant("reach = [\"home\"]");
    (Gateway::start(&reach), client, reach)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reaches_the_target_and_ends_each_way_by_itself() {
    let (gateway, client, reach) = seats();
    let home = Home::start(&gateway, Target::Echo, &client.grant(""), &reach).await;
    let mut tls = home.open(&gateway, &client, "echo").await.unwrap();
    echo(&mut tls, b"hello").await;
    let status = home.until(|snapshot| !snapshot.native.as_ref().unwrap().streams.is_empty()).await;
    assert_eq!(status.native.unwrap().streams[&"echo".parse().unwrap()], 1);
    let much = vec![7; 3_000_000];
    let (mut from, mut to) = tokio::io::split(tls);
    let sending = async {
        to.write_all(&much).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let reading = timeout(SOON, from.read_to_end(&mut heard));
    let ((), read) = tokio::join!(sending, reading);
    read.unwrap().unwrap();
    assert!(heard == much);
    home.until(|snapshot| snapshot.native.as_ref().unwrap().streams.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_sees_nobody_whom_the_homes_grants_do_not_let_in() {
    let (gateway, client, reach) = seats();
    let home = Home::start(&gateway, Target::Echo, "", &reach).await;
    let seen = home.seen.load(Ordering::Relaxed);
    for (grant, service, expected) in [
        (String::new(), "echo", Reason::UnknownKey),
        (client.grant("revoked = true"), "echo", Reason::Revoked),
        (client.grant("expires = 2020-01-01T00:00:00Z"), "echo", Reason::Expired),
        (client.grant("services = [\"web\"]"), "echo", Reason::NotAllowed),
        (client.grant(""), "web", Reason::NoSuchService),
        (client.grant(""), "no name", Reason::Malformed),
    ] {
        write_grants(home.folder.path(), &grant);
        let refused = async {
            while home.open(&gateway, &client, service).await.err() != Some(expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, refused).await.unwrap_or_else(|_| panic!("never {expected:?}"));
    }
    assert_eq!(home.seen.load(Ordering::Relaxed), seen, "{}", home.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_at_home_cuts_the_live_stream_within_a_second() {
    let (gateway, client, reach) = seats();
    let home = Home::start(&gateway, Target::Echo, &client.grant(""), &reach).await;
    let mut tls = home.open(&gateway, &client, "echo").await.unwrap();
    echo(&mut tls, b"hello").await;
    write_grants(home.folder.path(), &client.grant("revoked = true"));
    let since = Instant::now();
    let read = timeout(SOON, tls.read(&mut [0; 8])).await.expect("an end");
    assert!(read.is_err(), "{read:?}");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    // The home's own proofs go on.
    home.until(|snapshot| snapshot.all_up()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_the_targets_is_an_end_and_a_reset_is_none() {
    for kind in [Target::ClosesItsWay, Target::Resets] {
        let (gateway, client, reach) = seats();
        let home = Home::start(&gateway, kind, &client.grant(""), &reach).await;
        let mut tls = home.open(&gateway, &client, "echo").await.unwrap();
        tls.write_all(b"x").await.unwrap();
        tls.flush().await.unwrap();
        let mut heard = Vec::new();
        let read = timeout(SOON, tls.read_to_end(&mut heard)).await.expect("an end");
        match kind {
            Target::ClosesItsWay => {
                assert_eq!(read.unwrap(), 3);
                // The other way is still open.
                tls.write_all(b"more").await.unwrap();
                tls.shutdown().await.unwrap();
            }
            _ => assert!(read.is_err(), "{heard:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_key_halts_the_link() {
    let gateway = Gateway::start("");
    let other = Peer::new();
    let home = Home::prepare(&gateway, other.key(), 1, "", Arc::default());
    let link = home.until_cause("gateway-key-changed").await;
    assert_eq!(link.state, wayhome_core::status::LinkState::Halted);
    assert!(link.cause.unwrap().text.contains(&gateway.key.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_has_against_a_home_is_told_by_name() {
    let gateway = Gateway::start("");
    let home = Home::prepare(&gateway, gateway.key, 1, "", Arc::default());
    home.until_cause("home-key-unknown").await;
    for (grant, kind) in [
        ("homes = [\"home\"]\nrevoked = true", "home-key-revoked"),
        ("homes = [\"home\"]\nexpires = 2020-01-01T00:00:00Z", "home-key-expired"),
        ("homes = [\"home\"]\nfrom = [\"203.0.113.0/24\"]", "home-key-elsewhere"),
        ("homes = [\"cabin\"]", "home-not-granted"),
    ] {
        gateway.grant(&home.grant(grant));
        let told = async {
            loop {
                let kick = command(home.folder.path(), &["agent", "kick"]).output().unwrap();
                assert!(kick.status.success(), "{kick:?}");
                let cause = home.status().unwrap().links.remove(0).cause;
                if cause.is_some_and(|finding| finding.cause.kind() == kind) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(SOON, told).await.unwrap_or_else(|_| panic!("never {kind}: {}", home.log()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_with_this_identity_is_told_on_both_sides() {
    let (gateway, _, reach) = seats();
    let home = Home::start(&gateway, Target::Echo, "", &reach).await;
    let (port, _) = target(Target::Echo).await;
    let second = Twin::of(&home, &gateway, port);
    second.0.until_cause("another-agent").await;
    let status = home.until(|snapshot| snapshot.links[0].alarm.is_some()).await;
    assert!(status.all_up(), "{status:#?}");
    assert!(
        home.log().contains("alarm: another agent with this home's identity"),
        "{}",
        home.log()
    );
}

/// A second agent with a home's own key.
struct Twin(Home);

impl Twin {
    fn of(home: &Home, gateway: &Gateway, port: u16) -> Self {
        let twin = Home::prepare(gateway, gateway.key, port, "", Arc::default());
        let identity = home.folder.path().join("state/identity");
        let file = twin.folder.path().join("agent.toml");
        let config = fs::read_to_string(&file).unwrap();
        let named = format!("[[gateway]]\nidentity = \"{}\"", identity.display());
        fs::write(&file, config.replace("[[gateway]]", &named)).unwrap();
        Self(twin)
    }
}

//! The native road: a real gateway, and homes and clients that say what a test has them say.

mod again;
mod breaches;
mod forward;
mod grants;
mod greed;
mod home;
mod hostile;
mod lab;
mod ports;
mod recovery;
mod registration;
mod seats;
mod strangers;
mod streams;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wayhome::wire::identity::Identity;
use wayhome::wire::inner;
use wayhome::wire::leg::Leg;
use wayhome::wire::messages::hello::Purpose;
use wayhome::wire::messages::taken::Answer as TakenAnswer;
use wayhome::wire::messages::welcome::Answer;
use wayhome::wire::messages::{
    FromAgent, FromGateway, Hello, Open, Opened, Ready, Refused, Register, Registered, Taken,
    Welcome, from_agent, from_gateway,
};
use wayhome::wire::tls;
use wayhome_core::key::Key;
use wayhome_core::refusal::Reason;
use wayhome_core::status::gateway::GatewaySnapshot;
use wayhome_lab::eventually;

use crate::seats::{Running, SOON};

/// Slow enough that no heartbeat is missed on a loaded machine.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// A running gateway on loopback.
struct Gateway {
    folder: TempDir,
    process: Running,
    address: SocketAddr,
    key: Key,
}

impl Gateway {
    /// With these grants.
    fn start(grants: &str) -> Self {
        Self::with(grants, "")
    }

    /// With these grants, and this in its configuration.
    fn with(grants: &str, config: &str) -> Self {
        Self::as_child_of(&[], grants, config)
    }

    /// The same, started by this command.
    fn as_child_of(launcher: &[&str], grants: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_grants(folder.path(), grants);
        let listen = "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n";
        fs::write(path("gateway.toml"), format!("{listen}{config}")).unwrap();
        fs::create_dir(path("state")).unwrap();
        let words = [launcher, &[env!("CARGO_BIN_EXE_wayhome"), "gateway", "run"]].concat();
        let child = program(folder.path(), &words)
            .arg("--config")
            .arg(path("gateway.toml"))
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let process = Running(child);
        let is_up = eventually(SOON, || status(folder.path()).is_some());
        assert!(is_up, "no gateway: {}", fs::read_to_string(path("log")).unwrap());
        let status = status(folder.path()).unwrap();
        let address = status.listen[0].parse().unwrap();
        Self { folder, process, address, key: status.key }
    }

    fn grant(&self, grants: &str) {
        write_grants(self.folder.path(), grants);
    }

    fn status(&self) -> GatewaySnapshot {
        status(self.folder.path()).expect("the gateway answers")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Its memory, in bytes (proc(5)).
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits until its status is so.
    async fn until(&self, is: impl Fn(&GatewaySnapshot) -> bool) -> GatewaySnapshot {
        let wait = async {
            loop {
                let status = self.status();
                if is(&status) {
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
}

/// Beside, and then into its place, as editors do.
fn write_grants(folder: &Path, grants: &str) {
    fs::write(folder.join("grants.new"), grants).unwrap();
    fs::rename(folder.join("grants.new"), folder.join("grants.toml")).unwrap();
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    program(folder, &[&[env!("CARGO_BIN_EXE_wayhome")], arguments].concat())
}

fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env("RUNTIME_DIRECTORY", folder)
        .env("STATE_DIRECTORY", folder.join("state"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn status(folder: &Path) -> Option<GatewaySnapshot> {
    let output = command(folder, &["status", "--json"]).output().unwrap();
    let snapshots: Vec<GatewaySnapshot> = serde_json::from_slice(&output.stdout)
        .or_else(|_| serde_json::from_slice(&output.stdout).map(|one| vec![one]))
        .ok()?;
    snapshots.into_iter().next()
}

/// Somebody with a key of their own.
struct Peer(Identity);

impl Peer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self(Identity::read_or_make(&folder.path().join("identity")).unwrap().0)
    }

    fn key(&self) -> Key {
        self.0.key()
    }

    /// A grant for it: `homes = ["home"]`.
    fn grant(&self, lines: &str) -> String {
        format!("[[grant]]\nkey = \"{}\"\n{lines}\n\n", self.key())
    }

    async fn dial(&self, gateway: &Gateway) -> io::Result<Leg> {
        let tcp = TcpStream::connect(gateway.address).await?;
        Leg::dial(tcp, tls::client(&self.0, gateway.key, tls::LEG).unwrap()).await
    }

    async fn say(&self, gateway: &Gateway, purpose: Purpose) -> io::Result<Leg> {
        let mut leg = self.dial(gateway).await?;
        leg.write(&Hello { software: "test/1".into(), purpose: Some(purpose) }).await?;
        Ok(leg)
    }

    async fn ask(&self, gateway: &Gateway, purpose: Purpose) -> (Leg, Answer) {
        let mut leg = self.say(gateway, purpose).await.unwrap();
        let answer = answer(&mut leg).await;
        (leg, answer)
    }

    /// The control connection of `home`, and the generation; or the refusal.
    async fn register(
        &self,
        gateway: &Gateway,
        home: &str,
        instance: u8,
    ) -> Result<Registration<'_>, Refused> {
        match self.ask(gateway, Purpose::Register(register(home, instance))).await {
            (leg, Answer::Registered(registered)) => {
                let home = home.to_owned();
                Ok(Registration { leg, peer: self, home, instance, registered })
            }
            (_, Answer::Refused(refused)) => Err(refused),
            (_, other) => panic!("{other:?}"),
        }
    }

    /// A stream to `home`, which has this key; or the refusal.
    async fn open(
        &self,
        gateway: &Gateway,
        home: &str,
        key: Key,
    ) -> Result<inner::Client, Refused> {
        let (hello, flight) =
            inner::hello(tls::client(&self.0, key, tls::STREAM).unwrap()).unwrap();
        let mut leg = self.dial(gateway).await.unwrap();
        let open = Purpose::Open(Open { home: home.into(), client_hello: flight });
        let words = Hello { software: "test/1".into(), purpose: Some(open) };
        leg.last_words(Some(&words)).await.unwrap();
        match answer(&mut leg).await {
            Answer::Opened(opened) => {
                leg.ended().await.unwrap();
                Ok(hello.go_on(opened.server_flight, leg.unwrap()).await.unwrap())
            }
            Answer::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }
}

fn register(home: &str, instance: u8) -> Register {
    Register {
        home: home.into(),
        instance: vec![instance; 16],
        generation: 0,
        heartbeat_ms: HEARTBEAT.as_millis() as u32,
    }
}

async fn answer(leg: &mut Leg) -> Answer {
    let welcome: Welcome = timeout(SOON, leg.read()).await.expect("an answer").unwrap();
    welcome.answer.unwrap()
}

fn reason(refused: &Refused) -> Reason {
    Reason::from_number(refused.reason)
}

/// A home that is registered.
struct Registration<'a> {
    leg: Leg,
    peer: &'a Peer,
    home: String,
    instance: u8,
    registered: Registered,
}

impl Registration<'_> {
    /// One more data connection, which waits.
    async fn ready(&self, gateway: &Gateway) -> Leg {
        let ready = Ready {
            home: self.home.clone(),
            instance: vec![self.instance; 16],
            generation: self.registered.generation,
        };
        self.peer.say(gateway, Purpose::Ready(ready)).await.unwrap()
    }

    async fn say(&mut self, message: from_agent::Message) {
        self.leg.write(&FromAgent { message: Some(message) }).await.unwrap();
    }

    async fn hear(&mut self) -> from_gateway::Message {
        let heard: FromGateway = timeout(SOON, self.leg.read()).await.expect("word").unwrap();
        heard.message.unwrap()
    }

    /// Whether the connection ends with this reason.
    async fn is_let_go(&mut self, expected: Reason) {
        match self.hear().await {
            from_gateway::Message::Goodbye(goodbye) => {
                assert_eq!(reason(&goodbye.why.unwrap()), expected);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Takes the next stream of a data connection, as an honest home does.
    async fn take(&self, mut leg: Leg) -> (inner::Home, Key) {
        let Answer::Incoming(incoming) = answer(&mut leg).await else { panic!("no stream") };
        let config = tls::server(&self.peer.0, &[tls::STREAM]).unwrap();
        let (answer, flight) = inner::answer(config, incoming.client_hello).unwrap();
        let opened = Opened { server_flight: flight };
        let taken = Taken { answer: Some(TakenAnswer::Opened(opened)) };
        leg.last_words(Some(&taken)).await.unwrap();
        leg.ended().await.unwrap();
        answer.go_on(leg.unwrap()).await.unwrap()
    }
}

/// A home, a client that may reach it, and what a gateway is told of both.
fn couple() -> (Peer, Peer, String) {
    let (home, client) = (Peer::new(), Peer::new());
    let grants = home.grant("name = \"home\"\nhomes = [\"home\"]")
        + &client.grant("name = \"laptop\"\nreach = [\"home\"]");
    (home, client, grants)
}

/// A stream through the gateway: the client's end and the home's.
async fn stream(
    gateway: &Gateway,
    registration: &Registration<'_>,
    client: &Peer,
) -> (inner::Client, inner::Home) {
    let data = registration.ready(gateway).await;
    let opening = client.open(gateway, &registration.home, registration.peer.key());
    let (opened, (taken, key)) = tokio::join!(opening, registration.take(data));
    assert_eq!(key, client.key());
    (opened.unwrap(), taken)
}

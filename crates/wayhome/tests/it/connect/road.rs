//! A gateway and a home in one, made of the program's own `wire` over real sockets. What it does is
//! asked for by names: the home's tells the gateway, the service's the home.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wayhome::wire::identity::Identity;
use wayhome::wire::leg::Leg;
use wayhome::wire::messages::hello::Purpose;
use wayhome::wire::messages::welcome::Answer;
use wayhome::wire::messages::{Hello, Opened, Refused, Request, Response, Welcome};
use wayhome::wire::{frame, inner, tls};
use wayhome_core::key::Key;

/// A stranger's words, with what a terminal would obey.
pub const DETAIL: &str = "\u{1b}]0;owned\u{7}in the\r\ncellar";

/// What the home that is called `silent` never does.
const NEVER: Duration = Duration::from_secs(3600);

/// What reached each of the home's services.
type Heard = Arc<Mutex<HashMap<String, Vec<u8>>>>;

pub struct Road {
    pub gateway: Key,
    pub home: Key,
    pub imposter: Key,
    address: SocketAddr,
    heard: Heard,
    /// The clients' keys, as the home has seen them.
    pub clients: Arc<Mutex<Vec<Key>>>,
    /// Dropped with this, which ends the thread.
    _stop: watch::Sender<()>,
    _folder: TempDir,
}

struct Seats {
    gateway: Identity,
    home: Identity,
    imposter: Identity,
    heard: Heard,
    clients: Arc<Mutex<Vec<Key>>>,
    sshd: Option<u16>,
}

impl Road {
    pub fn start() -> Self {
        Self::to_sshd(None)
    }

    /// A road whose service `ssh` is what listens on this port.
    pub fn to_sshd(sshd: Option<u16>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = |name| Identity::read_or_make(&folder.path().join(name)).unwrap().0;
        let seats = Seats {
            gateway: identity("gateway"),
            home: identity("home"),
            imposter: identity("imposter"),
            heard: Heard::default(),
            clients: Arc::default(),
            sshd,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, mut stopped) = watch::channel(());
        let road = Self {
            gateway: seats.gateway.key(),
            home: seats.home.key(),
            imposter: seats.imposter.key(),
            address: listener.local_addr().unwrap(),
            heard: Arc::clone(&seats.heard),
            clients: Arc::clone(&seats.clients),
            _stop: stop,
            _folder: folder,
        };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serve(listener, Arc::new(seats)) => {}
                    _ = stopped.changed() => {}
                }
            });
        });
        road
    }

    pub fn address(&self) -> String {
        format!("wayhome://{}", self.address)
    }

    pub fn heard(&self, service: &str) -> Vec<u8> {
        self.heard.lock().unwrap().get(service).cloned().unwrap_or_default()
    }
}

async fn serve(listener: std::net::TcpListener, seats: Arc<Seats>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let seats = Arc::clone(&seats);
        // A client that hangs up is no failure of the road.
        tokio::spawn(async move { drop(at_gateway(tcp, &seats).await) });
    }
}

async fn at_gateway(tcp: TcpStream, seats: &Seats) -> io::Result<()> {
    let mut leg = Leg::accept(tcp, tls::server(&seats.gateway, &[tls::LEG]).unwrap()).await?;
    let hello: Hello = leg.read().await?;
    assert!(hello.software.starts_with("wayhome "), "{}", hello.software);
    let Some(Purpose::Open(open)) = hello.purpose else { panic!("{hello:?}") };
    let says = |answer| Welcome { answer: Some(answer) };
    let mut flight = Vec::new();
    let mut answer = None;
    match open.home.as_str() {
        "silent" => tokio::time::sleep(NEVER).await,
        "hangs-up" => return leg.ended().await,
        "nonsense" => flight = vec![22, 3, 3, 0, 4, 2, 0, 0, 0],
        "endless" => flight = vec![7; wayhome::wire::MAX_FLIGHT + 1],
        home => {
            if let Some(reason) = home.strip_prefix("refused-") {
                let reason = reason.parse().unwrap();
                let detail = if reason == 14 { DETAIL.into() } else { String::new() };
                let refused = Refused { reason, detail, last_seen_ms: Some(250_000) };
                leg.refuse(&says(Answer::Refused(refused)), Duration::from_secs(2)).await;
                return Ok(());
            }
            let identity = if home == "imposter" { &seats.imposter } else { &seats.home };
            let config = tls::server(identity, &[tls::STREAM]).unwrap();
            let (begun, first) = inner::answer(config, open.client_hello)?;
            (answer, flight) = (Some(begun), first);
        }
    }
    leg.last_words(Some(&says(Answer::Opened(Opened { server_flight: flight })))).await?;
    leg.ended().await?;
    let tcp = leg.unwrap();
    let Some(answer) = answer else { return Ok(()) };
    let (mut tls, client) = answer.go_on(tcp).await?;
    seats.clients.lock().unwrap().push(client);
    let request: Request = frame::read(&mut tls).await?;
    at_home(tls, &request.service, seats).await
}

async fn at_home(mut tls: inner::Home, service: &str, seats: &Seats) -> io::Result<()> {
    if let Some(reason) = service.strip_prefix("refused-") {
        let reason = reason.parse().unwrap();
        let refused = Refused { reason, detail: DETAIL.into(), last_seen_ms: None };
        tls.write_all(&frame::encode(&Response { refused: Some(refused) })).await?;
        tls.shutdown().await?;
        return drain(tls).await.map(drop);
    }
    if service == "quiet" {
        tokio::time::sleep(NEVER).await;
    }
    tls.write_all(&frame::encode(&Response { refused: None })).await?;
    match service {
        "ssh" => {
            let mut sshd = TcpStream::connect(("127.0.0.1", seats.sshd.unwrap())).await?;
            copy_bidirectional(&mut tls, &mut sshd).await?;
        }
        // Answers when everything has come.
        "echo" => {
            let heard = drain(&mut tls).await?;
            tls.write_all(&heard).await?;
            tls.shutdown().await?;
        }
        // Ends at once, and goes on listening.
        "ear" => {
            tls.write_all(b"done").await?;
            tls.shutdown().await?;
            let heard = drain(tls).await?;
            seats.heard.lock().unwrap().insert(service.into(), heard);
        }
        // Speaks without an end, and listens meanwhile.
        "both" => {
            let (mut from, mut to) = tokio::io::split(tls);
            let speaking = async {
                while to.write_all(&[7; 65536]).await.is_ok() {}
                std::future::pending().await
            };
            let heard = tokio::select! {
                heard = drain(&mut from) => heard?,
                () = speaking => return Ok(()),
            };
            seats.heard.lock().unwrap().insert(service.into(), heard);
        }
        // Ends without saying so.
        "cut" => {
            tls.write_all(b"half").await?;
            tls.flush().await?;
        }
        "reset" => {
            tls.write_all(b"half").await?;
            tls.flush().await?;
            // What is left unread makes of the close a reset.
            tls.get_ref().0.tcp().unwrap().readable().await?;
            let tcp = tls.get_ref().0.tcp().unwrap();
            rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO))?;
        }
        service => {
            let (kind, megabytes) = service.split_once('-').unwrap();
            assert_eq!(kind, "source");
            for _ in 0..16 * megabytes.parse::<u32>().unwrap() {
                tls.write_all(&[7; 65536]).await?;
            }
            tls.shutdown().await?;
            drain(tls).await?;
        }
    }
    Ok(())
}

async fn drain(mut from: impl tokio::io::AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    from.read_to_end(&mut heard).await.map(|_| heard)
}

/// A laptop with a state folder of its own.
pub struct Laptop {
    folder: TempDir,
}

impl Laptop {
    /// One that has pinned the road's gateway, and the road's home under these names.
    pub fn of(road: &Road, homes: &[&str]) -> Self {
        let laptop = Self { folder: tempfile::tempdir().unwrap() };
        laptop.keys(&["keys"]);
        laptop.pin(&road.address(), road.gateway);
        homes.iter().for_each(|home| laptop.pin(home, road.home));
        laptop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn pin(&self, whose: &str, key: Key) {
        self.keys(&["keys", "pin", whose, &key.to_string()]);
    }

    /// Runs the program, which has to succeed.
    pub fn keys(&self, arguments: &[&str]) -> String {
        let output = self.wayhome(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn wayhome(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wayhome"));
        command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
        command.env("STATE_DIRECTORY", self.folder.path());
        command
    }

    /// `wayhome connect` that ends by itself: its exit code, and what it wrote.
    pub fn connect(&self, arguments: &[&str]) -> (i32, Vec<u8>, String) {
        let output = self.wayhome(&[&["connect"], arguments].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), output.stdout, said)
    }
}

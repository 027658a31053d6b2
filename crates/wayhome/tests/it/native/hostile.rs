//! A hostile gateway: it has a key that agent and laptop have pinned, and does not keep to anything
//! else. A real agent and a real `wayhome connect` meet there.

mod gateway;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wayhome::relay::{self, Counts};
use wayhome::wire::frame;
use wayhome::wire::messages::taken::Answer as TakenAnswer;
use wayhome::wire::messages::{Request, Response};

use super::*;
use gateway::{Hostile, Trick};

/// What a target was sent, and whether it came to a proper end.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    bytes: Vec<u8>,
    has_ended: bool,
}

/// A target that answers with what it got, and remembers each connection.
async fn target() -> (u16, Arc<Mutex<Vec<Heard>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::<Heard>::new()));
    let theirs = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut all = theirs.lock().unwrap();
            let (heard, place) = (Arc::clone(&theirs), all.len());
            all.push(Heard::default());
            drop(all);
            tokio::spawn(async move {
                let mut chunk = vec![0; 65536];
                loop {
                    match tcp.read(&mut chunk).await {
                        Ok(0) => break heard.lock().unwrap()[place].has_ended = true,
                        Ok(read) => {
                            heard.lock().unwrap()[place].bytes.extend(&chunk[..read]);
                            // A reset is told once: to the write, and then not to the read.
                            if tcp.write_all(&chunk[..read]).await.is_err() {
                                break;
                            }
                        }
                        Err(_) => break,
                    }
                }
            });
        }
    });
    (port, heard)
}

/// The agent `home` and a laptop, which trust the gateway's key and each other's.
struct Victims {
    gateway: Hostile,
    home: TempDir,
    _agent: Running,
    home_key: Key,
    laptop: TempDir,
    /// What reached the targets of the services `first` and `second`.
    targets: [Arc<Mutex<Vec<Heard>>>; 2],
}

impl Victims {
    async fn new() -> Self {
        let gateway = Hostile::start().await;
        let ((first, first_heard), (second, second_heard)) = (target().await, target().await);
        let [home, laptop] = [(), ()].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("state")).unwrap();
            folder
        });
        let key = |folder: &TempDir| {
            let path = folder.path().join("state/identity");
            Identity::read_or_make(&path).unwrap().0.key()
        };
        let (home_key, laptop_key) = (key(&home), key(&laptop));
        write_grants(home.path(), &format!("[[grant]]\nkey = \"{laptop_key}\"\n"));
        let config = format!(
            "name = \"home\"\nheartbeat = 1\n\
             [[gateway]]\naddress = \"wayhome://{}\"\nkey = \"{}\"\n\
             [[service]]\nname = \"first\"\ntarget = \"127.0.0.1:{first}\"\nproof = \"hold\"\n\
             [[service]]\nname = \"second\"\ntarget = \"127.0.0.1:{second}\"\nproof = \"hold\"\n\
             port = 8022\n",
            gateway.address, gateway.key
        );
        fs::write(home.path().join("agent.toml"), config).unwrap();
        let agent = command(home.path(), &["-v", "agent", "run", "--config"])
            .arg(home.path().join("agent.toml"))
            .stderr(fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let victims = Self {
            home,
            _agent: Running(agent),
            home_key,
            laptop,
            targets: [first_heard, second_heard],
            gateway,
        };
        victims.gateway.let_no_proofs_of(home_key);
        victims.pin(&format!("wayhome://{}", victims.gateway.address), victims.gateway.key);
        victims.pin("home", home_key);
        let waiting = async {
            while victims.gateway.waiting("home") == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("no home: {}", victims.log()));
        victims
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    fn pin(&self, whose: &str, key: Key) {
        let pinned = self.on_the_laptop(&["keys", "pin", whose, &key.to_string()]).output();
        assert!(pinned.unwrap().status.success());
    }

    fn on_the_laptop(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.laptop.path(), arguments);
        command.env("STATE_DIRECTORY", self.laptop.path().join("state"));
        command
    }

    /// `wayhome connect home:first`, which sends this and then ends its way: its exit code, what came
    /// back, and what it said.
    async fn connect(&self, bytes: &[u8]) -> (i32, Vec<u8>, String) {
        let mut connect = self.on_the_laptop(&["connect", "home:first"]);
        connect.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let bytes = bytes.to_owned();
        let run = move || {
            let mut child = connect.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // It may end before it has taken everything.
            let writing = thread::spawn(move || drop(stdin.write_all(&bytes)));
            let output = child.wait_with_output().unwrap();
            writing.join().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.code().unwrap(), output.stdout, said)
        };
        timeout(SOON * 2, tokio::task::spawn_blocking(run)).await.expect("an end").unwrap()
    }

    fn heard(&self, service: usize) -> Vec<Heard> {
        self.targets[service].lock().unwrap().clone()
    }

    fn no_target_was_reached(&self) {
        assert_eq!([self.heard(0), self.heard(1)], [vec![], vec![]], "{}", self.log());
    }
}

/// Bytes that tell where they stand.
fn numbered(length: usize) -> Vec<u8> {
    (0..length.div_ceil(4) as u32).flat_map(u32::to_be_bytes).take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_it_is_honest_it_serves() {
    let victims = Victims::new().await;
    let sent = numbered(300_000);
    let (code, came, said) = victims.connect(&sent).await;
    assert_eq!((code, said.as_str()), (0, ""), "{}", victims.log());
    assert!(came == sent);
    assert_eq!(victims.heard(0), [Heard { bytes: sent, has_ended: true }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_in_the_homes_place_is_refused() {
    let victims = Victims::new().await;
    // Its own agent, with its own key; and one of another home's.
    for trick in [Trick::AnswersItself, Trick::AnswersAsAnother] {
        victims.gateway.plays(trick);
        let (code, came, said) = victims.connect(b"secret").await;
        assert_eq!((code, came), (1, vec![]), "{trick:?}");
        assert!(said.starts_with("wayhome: ") && said.contains("not the pinned one"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!victims.gateway.has_read(b"secret"));
    victims.no_target_was_reached();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_opens_a_stream_by_itself_is_refused() {
    let victims = Victims::new().await;
    let mut tls = victims.gateway.opens_itself("home", victims.home_key).await;
    let request = Request { service: "first".into() };
    tls.write_all(&frame::encode(&request)).await.unwrap();
    let response: Response = timeout(SOON, frame::read(&mut tls)).await.unwrap().unwrap();
    assert_eq!(reason(&response.refused.unwrap()), Reason::UnknownKey);
    victims.no_target_was_reached();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_first_flight_is_refused() {
    let victims = Victims::new().await;
    let (code, _, said) = victims.connect(b"first").await;
    assert_eq!(code, 0, "{said}");
    let before = victims.heard(0).len();
    victims.gateway.plays(Trick::OldHello);
    let (code, came, said) = victims.connect(b"second").await;
    assert_eq!((code, came), (1, vec![]), "{said}");
    assert!(said.starts_with("wayhome: ") && said.lines().count() == 1, "{said}");
    victims.gateway.plays(Trick::OldStream);
    let (code, came, _) = victims.connect(b"third").await;
    assert_eq!((code, came), (1, vec![]));
    assert_eq!(victims.heard(0).len(), before, "{}", victims.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_not_the_gateways_to_choose() {
    let victims = Victims::new().await;
    // One byte of what the client says to the home before it is let in: its key, its proof, the
    // service's name.
    for at in (0..200).step_by(20) {
        victims.gateway.plays(Trick::FlipThere(at));
        let (code, came, said) = victims.connect(b"").await;
        assert_eq!((code, came), (1, vec![]), "{at}: {said}");
    }
    victims.no_target_was_reached();
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_end_the_stream_and_are_not_passed_on() {
    let victims = Victims::new().await;
    let sent = numbered(400_000);
    for trick in [Trick::FlipThere(100_000), Trick::FlipBack(100_000), Trick::FlipBack(1)] {
        victims.gateway.plays(trick);
        is_found_out(&victims, &sent, trick).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_and_repeated_bytes_end_the_stream() {
    let victims = Victims::new().await;
    let sent = numbered(400_000);
    for trick in [
        Trick::DropThere(100_000),
        Trick::DropBack(100_000),
        Trick::RepeatThere(100_000),
        Trick::RepeatBack(100_000),
    ] {
        victims.gateway.plays(trick);
        is_found_out(&victims, &sent, trick).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_stream_is_an_error_at_both_ends() {
    let victims = Victims::new().await;
    let sent = numbered(400_000);
    for trick in [Trick::EndThere(100_000), Trick::EndBack(100_000), Trick::EndBack(0)] {
        victims.gateway.plays(trick);
        is_found_out(&victims, &sent, trick).await;
    }
}

/// The client ends with an error and has passed on nothing but a beginning of what is right; and so has
/// the home, to its target, which has seen no proper end.
async fn is_found_out(victims: &Victims, sent: &[u8], trick: Trick) {
    let before = victims.heard(0).len();
    let (code, came, said) = victims.connect(sent).await;
    assert_eq!(code, 1, "{trick:?}: {said}");
    assert!(said.starts_with("wayhome: ") && said.lines().count() == 1, "{trick:?}: {said}");
    assert!(sent.starts_with(&came), "{trick:?}");
    let since = Instant::now();
    loop {
        let heard = victims.heard(0).split_off(before);
        assert!(heard.len() <= 1);
        assert!(heard.iter().all(|heard| sent.starts_with(&heard.bytes)), "{trick:?}");
        // What the client had ended properly may be a proper end.
        let is_cut = trick.is_there();
        assert!(!is_cut || heard.iter().all(|heard| !heard.has_ended), "{trick:?}");
        if since.elapsed() > Duration::from_millis(200) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detail_is_bounded_and_harmless() {
    let victims = Victims::new().await;
    victims.gateway.plays(Trick::RefusesWithEscapes);
    let (code, came, said) = victims.connect(b"").await;
    assert_eq!((code, came), (1, vec![]));
    assert!(said.len() < 600 && said.lines().count() == 1, "{said:?}");
    assert!(!said.trim_end().contains(|c: char| c.is_control()), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_to_the_agent_is_bounded_and_harmless() {
    let victims = Victims::new().await;
    victims.gateway.says_goodbye_with_escapes();
    let waiting = async {
        while !victims.log().contains("as many as it may") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{}", victims.log()));
    assert!(!victims.log().contains('\u{1b}') && !victims.log().contains('\u{7}'));
    assert!(victims.log().len() < 20_000, "{}", victims.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_no_port_at_home_is_not_reached_by_one() {
    let victims = Victims::new().await;
    for (service, port) in [("first", 2222), ("first", 0), ("port-22", 22), ("", 0), ("nothing", 1)]
    {
        let answer = victims.gateway.asks_by_port("home", service, port).await;
        let TakenAnswer::Refused(refused) = answer else { panic!("{service}: {answer:?}") };
        assert_eq!(Reason::from_number(refused.reason), Reason::NotAllowed, "{service}");
    }
    assert!(victims.targets.iter().all(|heard| heard.lock().unwrap().is_empty()), "no target");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_of_a_data_connection_is_authorised_by_itself() {
    let victims = Victims::new().await;
    let mut data = victims.gateway.data_of("home").await;
    for words in [b"first", b"again"] {
        let answer = victims.gateway.asks_on(&mut data, "second", 8022).await;
        assert!(matches!(answer, TakenAnswer::Opened(_)), "{answer:?}");
        let (mut near, far) = tokio::io::duplex(1024);
        let (mut from, mut to) = tokio::io::split(far);
        to.write_all(words).await.unwrap();
        to.shutdown().await.unwrap();
        let (counts, mut heard) = (Counts::default(), Vec::new());
        let carried = relay::carry(&mut near, &mut data, &counts);
        let (carried, read) = tokio::join!(carried, from.read_to_end(&mut heard));
        carried.and(read).unwrap();
        assert_eq!(heard, words);
    }
    let answer = victims.gateway.asks_on(&mut data, "first", 8022).await;
    let TakenAnswer::Refused(refused) = answer else { panic!("{answer:?}") };
    assert_eq!(Reason::from_number(refused.reason), Reason::NotAllowed);
    let expected =
        [b"first", b"again"].map(|words| Heard { bytes: words.to_vec(), has_ended: true });
    assert_eq!(victims.heard(1), expected);
    assert!(victims.heard(0).is_empty(), "its target was reached");
}

//! The hold: one session at the gateway that answers heartbeats, and looks at and frees ports.
//!
//! What runs there is `script::HOLD`; its protocol stands at its head. This side sends one line for
//! each request and takes the answers in the same order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use wayhome_core::health::Detail;
use wayhome_core::link::{Event, Holder, Reach, Session};

use super::diagnose::NoHold;
use super::mux::{Mux, MuxError, Opened};
use super::script;

/// A line of the hold is far shorter. What comes before the greeting (an account's start files may
/// print anything) is passed over, up to a bound.
const LONGEST_LINE: u64 = 4096;
const MOST_NOISE: usize = 1000;

/// How long to wait for what a session wrote just before it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What the agent asks of the hold.
#[derive(Debug)]
pub enum Request {
    /// A heartbeat.
    Ping(u64),
    /// Who holds this service's port?
    Look(usize, u16),
    /// By whom can this port, which is ours, be reached?
    Survey(u16, oneshot::Sender<Reach>),
    /// End this session, if it holds this service's port.
    Release(usize, u16, Session),
}

/// What the hold answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a heartbeat.
    Pong(u64),
    /// To a look.
    Looked(usize, Holder),
    /// To a release.
    Released(usize, Result<(), Detail>),
}

/// A hold that has greeted.
#[derive(Debug)]
pub struct Held {
    reader: Lines,
    writer: OwnedWriteHalf,
    _session: Opened,
    /// The sshd that serves our connection, if it could be told.
    pub own: Option<Session>,
}

/// Opens the hold over a master's control socket.
pub async fn open(socket: &Path, ports: &[u16]) -> Result<Held, NoHold> {
    let failed = |error: &dyn std::fmt::Display| NoHold::Failed(Detail::new(&error.to_string()));
    let refused = |error: MuxError| match error {
        MuxError::Refused(why) => NoHold::Refused(why),
        other => failed(&other),
    };
    let (ours, theirs) = pair().map_err(|e| failed(&e))?;
    // What the hold itself has to say comes by the other way; this one explains why there is none.
    let (complaints, complains) = pair().map_err(|e| failed(&e))?;
    let mux = Mux::connect(socket).await.map_err(|e| failed(&e))?;
    let stdio = [theirs.as_fd(), theirs.as_fd(), complains.as_fd()];
    let session = mux.session(&script::command(ports), stdio).await.map_err(refused)?;
    // Only ssh may hold these ends now, or we would never see them close.
    drop((theirs, complains));
    let (reader, mut writer) = UnixStream::from_std(ours).map_err(|e| failed(&e))?.into_split();
    let mut reader = Lines { reader: BufReader::new(reader), begun: Vec::new() };
    let hello = format!("{}{}\n", script::HOLD, script::END);
    // A forced command may have ended by now, and has the last word then.
    let _ = writer.write_all(hello.as_bytes()).await;
    let mut last = String::new();
    for _ in 0..MOST_NOISE {
        match reader.next().await {
            Ok(Some(text)) => {
                if let Some(greeting) = text.strip_prefix("wayhome-hold 1 ") {
                    return Ok(Held { reader, writer, _session: session, own: own(greeting) });
                }
                last = text;
            }
            Ok(None) | Err(_) => break,
        }
    }
    Err(NoHold::Ended(last_words(last, complaints).await))
}

fn pair() -> io::Result<(StdUnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, theirs.into()))
}

/// The last line of a session's output, and what it wrote to its standard error.
async fn last_words(last: String, complaints: StdUnixStream) -> String {
    let mut said = last.into_bytes();
    if let Ok(complaints) = UnixStream::from_std(complaints) {
        said.push(b'\n');
        // It has ended; what it left running may hold this end for long.
        let all = complaints.take(LONGEST_LINE);
        let read = async {
            tokio::pin!(all);
            all.read_to_end(&mut said).await
        };
        let _ = tokio::time::timeout(LAST_WORDS, read).await;
    }
    String::from_utf8_lossy(&said).trim().to_owned()
}

impl Held {
    /// Looks once who holds a port; the answer's words, as they stand at the head of `hold.sh`.
    pub async fn look(&mut self, port: u16) -> Result<String, Detail> {
        let failed = |error: &io::Error| Detail::new(&error.to_string());
        let request = text(&Request::Look(0, port));
        self.writer.write_all(request.as_bytes()).await.map_err(|e| failed(&e))?;
        let answer = self.reader.next().await.map_err(|e| failed(&e))?.unwrap_or_default();
        match answer.strip_prefix(request.trim_end()) {
            Some(words) => Ok(words.trim_start().to_owned()),
            None => Err(Detail::new(&format!("it answered `{answer}`"))),
        }
    }

    /// Serves requests until one side ends; gives the reason, if it was not ours.
    pub async fn serve(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        events: &mpsc::Sender<Event>,
        event: impl Fn(Answer) -> Event,
    ) -> Option<Detail> {
        let boot = self.own.take().map(|own| own.boot).unwrap_or_default();
        let mut waiting = VecDeque::new();
        loop {
            tokio::select! {
                answer = self.reader.next() => match answer {
                    Ok(Some(text)) => {
                        let Some(request) = waiting.pop_front() else {
                            return Some(Detail::new("it answered what was not asked"));
                        };
                        if let Request::Survey(port, asker) = request {
                            let Some(reach) = surveyed(port, &text) else {
                                return Some(Detail::new(&format!("it answered `{text}`")));
                            };
                            // Whoever asked has a deadline, and may be gone.
                            let _ = asker.send(reach);
                            continue;
                        }
                        match parse(&request, &text, &boot) {
                            Some(answer) => {
                                // The link ends before its hold does.
                                let _ = events.send(event(answer)).await;
                            }
                            None => return Some(Detail::new(&format!("it answered `{text}`"))),
                        }
                    }
                    Ok(None) => return Some(Detail::new("it ended")),
                    Err(error) => return Some(Detail::new(&error.to_string())),
                },
                request = requests.recv() => {
                    let request = request?;
                    if let Err(error) = self.writer.write_all(text(&request).as_bytes()).await {
                        return Some(Detail::new(&error.to_string()));
                    }
                    waiting.push_back(request);
                }
            }
        }
    }
}

fn text(request: &Request) -> String {
    match request {
        Request::Ping(sequence) => format!("ping {sequence}\n"),
        Request::Look(_, port) | Request::Survey(port, _) => format!("look {port}\n"),
        Request::Release(_, port, session) => {
            format!("release {port} {} {}\n", session.pid, session.start)
        }
    }
}

/// Reads an answer. `None` if it is no answer to this request.
fn parse(request: &Request, text: &str, boot: &str) -> Option<Answer> {
    let words: Vec<&str> = text.split(' ').collect();
    match request {
        Request::Ping(sequence) => {
            (words.as_slice() == ["pong", &sequence.to_string()]).then_some(Answer::Pong(*sequence))
        }
        Request::Look(service, port) => match words.as_slice() {
            ["look", for_port, rest @ ..] if *for_port == port.to_string() => {
                Some(Answer::Looked(*service, holder(rest, boot)))
            }
            _ => None,
        },
        // Its answer goes to whoever asked.
        Request::Survey(..) => None,
        Request::Release(service, port, _) => match words.as_slice() {
            ["release", for_port, verdict, rest @ ..] if *for_port == port.to_string() => {
                let result = match *verdict {
                    "released" | "free" => Ok(()),
                    _ => Err(Detail::new(&rest.join(" "))),
                };
                Some(Answer::Released(*service, result))
            }
            _ => None,
        },
    }
}

/// Reads who holds a port.
pub fn holder(words: &[&str], boot: &str) -> Holder {
    let unknown = || Holder::Unknown(Detail::new(&words.join(" ")));
    match words {
        ["free"] => Holder::Free,
        ["self", ..] => Holder::Ourselves,
        ["sshd", pid, start, _, beat, ..] => match session(pid, start, boot) {
            Some(session) => Holder::Session { session, beat: beat.parse().ok() },
            None => unknown(),
        },
        ["oneof", sessions, ..] => {
            let one = |text: &str| {
                let (pid, start) = text.split_once(':')?;
                session(pid, start, boot)
            };
            sessions.split(',').map(one).collect::<Option<_>>().map_or_else(unknown, Holder::OneOf)
        }
        ["foreign", uid, ..] => {
            uid.parse().map_or_else(|_| unknown(), |uid| Holder::Foreign { uid })
        }
        ["program", pid, name, ..] => match pid.parse() {
            Ok(pid) => Holder::Program { pid, name: Detail::new(name) },
            Err(_) => unknown(),
        },
        _ => unknown(),
    }
}

/// By whom a port of ours can be reached, from the addresses at the end of the answer to a look.
/// `None` if it is no answer to that. A listener on `127.0.0.1` and one on all addresses exclude each
/// other, so that `::` beside the first is another's.
fn surveyed(port: u16, text: &str) -> Option<Reach> {
    let verdict = text.strip_prefix(&format!("look {port} "))?;
    let kinds: Vec<&str> = verdict.rsplit(' ').next()?.split(',').collect();
    let on = |at: &str| kinds.contains(&at);
    Some(match (on("127.0.0.1"), on("0.0.0.0"), on("::")) {
        (_, true, _) | (false, _, true) => Reach::Everybody,
        (true, ..) => Reach::Loopback,
        _ if on("::1") => Reach::Loopback,
        _ => Reach::Unseen,
    })
}

fn session(pid: &str, start: &str, boot: &str) -> Option<Session> {
    Some(Session { pid: pid.parse().ok()?, start: start.parse().ok()?, boot: boot.to_owned() })
}

/// The sshd of this connection, from the greeting.
fn own(greeting: &str) -> Option<Session> {
    let field = |key: &str| {
        let mut words = greeting.split(' ');
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).filter(|text| *text != "-")
    };
    Some(Session {
        pid: field("pid")?.parse().ok()?,
        start: field("start")?.parse().ok()?,
        boot: field("boot").filter(|boot| boot.len() <= 64)?.to_owned(),
    })
}

/// What the hold says, line by line.
#[derive(Debug)]
struct Lines {
    reader: BufReader<OwnedReadHalf>,
    /// A line that has begun. Kept here, so that a wait that is dropped loses nothing.
    begun: Vec<u8>,
}

impl Lines {
    /// The next line without its end; `None` at the end of the stream. A longer one than is allowed
    /// comes in pieces, and no piece is an answer.
    async fn next(&mut self) -> io::Result<Option<String>> {
        let left = LONGEST_LINE.saturating_sub(self.begun.len() as u64);
        (&mut self.reader).take(left).read_until(b'\n', &mut self.begun).await?;
        if self.begun.is_empty() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.begun);
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "0f1e";

    fn looked(text: &str) -> Option<Holder> {
        match parse(&Request::Look(0, 2222), text, BOOT)? {
            Answer::Looked(0, holder) => Some(holder),
            _ => None,
        }
    }

    #[test]
    fn reads_the_greeting() {
        let own = own("pid=12 start=345 boot=0f1e uid=0 user=root gate=0 ports=2222").unwrap();
        assert_eq!((own.pid, own.start, own.boot.as_str()), (12, 345, BOOT));
        assert_eq!(super::own("pid=- start=- boot=- uid=0 user=root gate=0 ports=2222"), None);
    }

    #[test]
    fn reads_who_holds_a_port() {
        let session = Session { pid: 7, start: 9, boot: BOOT.into() };
        assert_eq!(looked("look 2222 free"), Some(Holder::Free));
        assert_eq!(looked("look 2222 self 127.0.0.1"), Some(Holder::Ourselves));
        assert_eq!(
            looked("look 2222 sshd 7 9 fd 4711 127.0.0.1,::1"),
            Some(Holder::Session { session: session.clone(), beat: Some(4711) })
        );
        assert_eq!(
            looked("look 2222 sshd 7 9 only - 127.0.0.1"),
            Some(Holder::Session { session: session.clone(), beat: None })
        );
        let other = Session { pid: 8, ..session.clone() };
        assert_eq!(
            looked("look 2222 oneof 7:9,8:9 marks 127.0.0.1"),
            Some(Holder::OneOf(vec![session, other]))
        );
        assert!(matches!(looked("look 2222 oneof 7:9,x marks ::1"), Some(Holder::Unknown(_))));
        assert_eq!(looked("look 2222 foreign 1001 127.0.0.1"), Some(Holder::Foreign { uid: 1001 }));
        let program = Holder::Program { pid: 5, name: "nc".into() };
        assert_eq!(looked("look 2222 program 5 nc 127.0.0.1"), Some(program));
        assert!(matches!(looked("look 2222 unknown hidepid ::1"), Some(Holder::Unknown(_))));
        assert!(matches!(looked("look 2222 sshd x y"), Some(Holder::Unknown(_))));
        assert_eq!(looked("look 2223 free"), None, "another port's answer");
        assert_eq!(looked("pong 2222"), None);
    }

    #[test]
    fn reads_by_whom_a_port_can_be_reached() {
        for (text, reach) in [
            ("look 2222 self 127.0.0.1,::1", Reach::Loopback),
            ("look 2222 self 127.0.0.1", Reach::Loopback),
            ("look 2222 self ::1", Reach::Loopback),
            ("look 2222 unknown ambiguous 127.0.0.1,::1,other", Reach::Loopback),
            ("look 2222 self 127.0.0.1,::", Reach::Loopback),
            ("look 2222 self 0.0.0.0,::", Reach::Everybody),
            ("look 2222 self ::,0.0.0.0", Reach::Everybody),
            ("look 2222 self ::", Reach::Everybody),
            ("look 2222 sshd 7 9 only - 0.0.0.0", Reach::Everybody),
            ("look 2222 foreign 1001 0.0.0.0,::1", Reach::Everybody),
            ("look 2222 unknown no-proc", Reach::Unseen),
            ("look 2222 free", Reach::Unseen),
        ] {
            assert_eq!(surveyed(2222, text), Some(reach), "{text}");
        }
        assert_eq!(surveyed(2222, "look 2223 self 127.0.0.1"), None, "another port's answer");
    }

    #[test]
    fn reads_the_other_answers() {
        assert!(matches!(parse(&Request::Ping(3), "pong 3", BOOT), Some(Answer::Pong(3))));
        assert!(parse(&Request::Ping(3), "pong 4", BOOT).is_none());
        let release = Request::Release(1, 2222, Session { pid: 7, start: 9, boot: BOOT.into() });
        assert_eq!(text(&release), "release 2222 7 9\n");
        let result = |said| match parse(&release, said, BOOT) {
            Some(Answer::Released(1, result)) => Some(result),
            _ => None,
        };
        assert_eq!(result("release 2222 released"), Some(Ok(())));
        assert_eq!(result("release 2222 free"), Some(Ok(())));
        assert_eq!(result("release 2222 refused foreign-uid"), Some(Err("foreign-uid".into())));
        assert_eq!(result("hello"), None);
    }
}

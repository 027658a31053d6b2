//! What the streams lead to at home: one swallows all, one gives without an end, one gives back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wayhome_lab::Machine;

use crate::Result;

/// One kind of target; also the name of the service that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Sink,
    Source,
    Echo,
}

impl Target {
    pub const ALL: [Target; 3] = [Target::Sink, Target::Source, Target::Echo];

    /// The name of its service.
    pub fn name(self) -> &'static str {
        match self {
            Target::Sink => "sink",
            Target::Source => "source",
            Target::Echo => "echo",
        }
    }

    /// Where it listens at home, and where it is found by way of a stock forward at the gateway.
    pub fn port(self) -> u16 {
        match self {
            Target::Sink => 9001,
            Target::Source => 9002,
            Target::Echo => 9003,
        }
    }

    /// Where it is found at the gateway by the native road's own port.
    pub fn own_port(self) -> u16 {
        self.port() + 100
    }

    fn serve(self, mut stream: TcpStream, swallowed: &AtomicU64) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut bytes = vec![0; CHUNK];
        match self {
            Target::Source => loop {
                stream.write_all(&bytes)?;
            },
            Target::Sink | Target::Echo => loop {
                let read = stream.read(&mut bytes)?;
                let Some(came) = bytes.get(..read).filter(|came| !came.is_empty()) else {
                    return Ok(());
                };
                if self == Target::Echo {
                    stream.write_all(came)?;
                } else {
                    swallowed.fetch_add(read as u64, Ordering::Relaxed);
                }
            },
        }
    }
}

/// As much as programs usually move at once.
pub const CHUNK: usize = 64 << 10;

/// How soon the end is seen.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// All targets of a home. They end when this is dropped, and their streams with the other ends.
pub struct Targets {
    swallowed: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    accepting: Vec<JoinHandle<()>>,
}

impl Targets {
    /// Starts them, on all addresses of the home.
    pub fn start(home: &Machine) -> Result<Targets> {
        let (swallowed, end) = (Arc::default(), Arc::default());
        let mut targets = Targets { swallowed, end, accepting: Vec::new() };
        for target in Target::ALL {
            let listener = home.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, target.port())))?;
            listener.set_nonblocking(true)?;
            let (swallowed, end) = (Arc::clone(&targets.swallowed), Arc::clone(&targets.end));
            let accept = move || accept(target, &listener, &swallowed, &end);
            targets.accepting.push(thread::spawn(accept));
        }
        Ok(targets)
    }

    /// How many bytes the sink has swallowed by now.
    pub fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::Relaxed)
    }

    /// Serves a stream that came in another way.
    pub fn serve(&self, target: Target, stream: TcpStream) {
        serve(target, stream, &self.swallowed);
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for accepting in self.accepting.drain(..) {
            let _ = accepting.join();
        }
    }
}

fn accept(target: Target, listener: &TcpListener, swallowed: &Arc<AtomicU64>, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => serve(target, stream, swallowed),
            Err(_) => drop(poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&LOOK))),
        }
    }
}

/// In a thread, which ends with its stream.
fn serve(target: Target, stream: TcpStream, swallowed: &Arc<AtomicU64>) {
    let swallowed = Arc::clone(swallowed);
    thread::spawn(move || target.serve(stream, &swallowed));
}

//! Who stands at the gateway's port: a prober that finds the moment at which the road is proven, and
//! a toucher that behaves as people and monitors do while it is not.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::seats::PORT;

/// Between the beginnings of two probes.
const EVERY: Duration = Duration::from_millis(5);

/// How long a probe may take. One that hangs in a stale session hides nothing, for others follow.
const DEADLINE: Duration = Duration::from_millis(600);

/// Between two touches.
const TOUCH_EVERY: Duration = Duration::from_millis(500);

/// When the road was back.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    /// The first banner of an SSH server came through the port.
    pub banner: Instant,
    /// `ssh-keyscan` has read the home's host key through it.
    pub proven: Instant,
}

/// Probes the port until the road is proven. To be called in the gateway's network.
pub fn until_proven(keyscan: &Path, key: &str, deadline: Instant) -> Option<Back> {
    let first = Mutex::new(None::<Instant>);
    let banner_of = || *first.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        while Instant::now() < deadline {
            scope.spawn(|| {
                if banner(DEADLINE).is_some() {
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert_with(Instant::now);
                }
            });
            thread::sleep(EVERY);
            let Some(banner) = banner_of() else { continue };
            if has_key(keyscan, key) {
                return Some(Back { banner, proven: Instant::now() });
            }
            // Somebody else, or a road that died again.
            *first.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        None
    })
}

/// The banner that comes through the port within a time.
pub fn banner(within: Duration) -> Option<String> {
    let deadline = Instant::now() + within;
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let stream = TcpStream::connect_timeout(&port, within).ok()?;
    stream.set_read_timeout(Some(deadline.checked_duration_since(Instant::now())?)).ok()?;
    let mut line = String::new();
    // The one read of a banner brings it whole.
    BufReader::with_capacity(256, stream).read_line(&mut line).ok()?;
    line.starts_with("SSH-2.0-").then(|| line.trim_end().to_owned())
}

/// Whether `ssh-keyscan` reads this host key through the port.
pub fn has_key(keyscan: &Path, key: &str) -> bool {
    let mut command = Command::new(keyscan);
    command.args(["-T", "2", "-t", "ed25519", "-p", &PORT.to_string(), "127.0.0.1"]);
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(key))
}

/// Touches the port twice a second until it is told to end. To be called in the gateway's network.
pub fn touch(end: &AtomicBool, touched: &AtomicU32) {
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    while !end.load(Ordering::Relaxed) {
        let began = Instant::now();
        if TcpStream::connect_timeout(&port, TOUCH_EVERY).is_ok() {
            touched.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(TOUCH_EVERY.saturating_sub(began.elapsed()));
    }
}

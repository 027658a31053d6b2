//! A line with delay: each packet that crosses the internet of a [`Lab`] waits for some time there.
//!
//! `netem` is missing from many kernels, so the packets make a detour through this process, by way of a
//! TUN interface (`Documentation/networking/tuntap.rst` of the kernel). The order is kept.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::error::{Doing, Result};
use crate::net::Lab;

/// The interface's name, in the internet.
const INTERFACE: &str = "detour";

/// The longest packet of an Ethernet, and some.
const LONGEST: usize = 2048;

/// More packets than this are lost, as in a router.
const QUEUE: usize = 100_000;

/// How soon it is seen that the delay is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A delay, until it is dropped.
#[derive(Debug)]
pub struct Delay<'a> {
    lab: &'a Lab,
    end: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl<'a> Delay<'a> {
    /// Makes each packet between any two seats wait that long: a round trip takes twice as much.
    pub fn of(lab: &'a Lab, one_way: Duration) -> Result<Self> {
        let open = || {
            let device = DeviceBuilder::new().name(INTERFACE).build_sync()?;
            device.set_nonblocking(true).map(|()| device)
        };
        let device = lab
            .internet()
            .in_network(open)?
            .doing(|| "could not make a TUN interface".to_owned())?;
        let end = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&end);
        let carrier = std::thread::spawn(move || carry(&device, one_way, &theirs));
        let delay = Self { lab, end, carrier: Some(carrier) };
        // From wherever a packet comes, it goes into the detour; what comes out of it goes its way.
        let mut script = format!("ip link set {INTERFACE} up mtu 1500\n");
        for family in ["-4", "-6"] {
            script += &format!("ip {family} route add default dev {INTERFACE} table 100\n");
            for line in lab.lines() {
                script += &format!("ip {family} rule add iif {line} lookup 100\n");
            }
        }
        lab.internet().sh(&script)?;
        Ok(delay)
    }
}

impl Drop for Delay<'_> {
    fn drop(&mut self) {
        for family in ["-4", "-6"] {
            for line in self.lab.lines() {
                let rule = format!("ip {family} rule del iif {line} lookup 100");
                // The machine may be gone already.
                let _ = self.lab.internet().sh(&rule);
            }
        }
        self.end.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Carries packets until the end.
fn carry(device: &SyncDevice, one_way: Duration, end: &AtomicBool) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut packet = vec![0; LONGEST];
    while !end.load(Ordering::Relaxed) {
        let now = Instant::now();
        while let Some((_, packet)) = waiting.pop_front_if(|(due, _)| *due <= now) {
            // What the interface does not take is lost, as on any line.
            let _ = device.send(&packet);
        }
        let wait = waiting.front().map_or(LOOK, |(due, _)| due.saturating_duration_since(now));
        let wait = Timespec::try_from(wait.min(LOOK)).ok();
        let mut ready = [PollFd::new(device, PollFlags::IN)];
        let _ = poll(&mut ready, wait.as_ref());
        loop {
            match device.recv(&mut packet) {
                Ok(length) if waiting.len() < QUEUE => {
                    let bytes = packet.get(..length).unwrap_or_default().to_vec();
                    waiting.push_back((Instant::now() + one_way, bytes));
                }
                Ok(_) => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::GATEWAY;
    use std::net::SocketAddr;

    #[test]
    fn a_round_trip_takes_twice_the_delay_and_then_no_time_again() {
        crate::needs_lab!();
        let lab = Lab::three_seats().unwrap();
        let listener = lab.gateway().listen(SocketAddr::from(([0, 0, 0, 0], 7)));
        let _listener = listener.unwrap();
        let gateway: SocketAddr = format!("{GATEWAY}:7").parse().unwrap();
        let connect = || {
            let took = |machine: &crate::Machine| {
                let began = Instant::now();
                machine.connect(gateway, Duration::from_secs(10)).unwrap();
                began.elapsed()
            };
            [took(lab.laptop()), took(lab.home())]
        };
        // Neighbours are looked up once.
        connect();
        let delay = Delay::of(&lab, Duration::from_millis(50)).unwrap();
        for took in connect() {
            let took = took.as_millis();
            assert!((100..150).contains(&took), "{took} ms");
        }
        drop(delay);
        for took in connect() {
            assert!(took.as_millis() < 50, "{took:?}");
        }
    }
}

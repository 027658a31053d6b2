//! What outlives this process: descriptors that systemd keeps for the next one (its "file descriptor
//! store"). Sockets that listen are put there as soon as they do, so that also after a crash whoever
//! comes meanwhile waits, and is not refused. Where there is no such service manager, nothing is kept.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

/// As many descriptors travel at once; the kernel takes 253 (unix(7), SCM_RIGHTS).
const AT_ONCE: usize = 200;

/// How long systemd may take to have seen all that it was told.
const SEEN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The service manager's store.
#[derive(Debug)]
pub struct Store {
    is_there: bool,
    /// What is there now is for the next process.
    is_closed: AtomicBool,
}

/// What an earlier process left there, each under its name.
#[derive(Debug, Default)]
pub struct Left(Vec<(String, OwnedFd)>);

impl Store {
    /// The one of the service manager that started this process, and what is in it. To be called once
    /// in a process.
    pub fn of_environment() -> (Self, Left) {
        let is_there = crate::agent::notify::is_expected();
        let left = match sd_notify::listen_fds_with_names() {
            Ok(left) if is_there => left.map(|(fd, name)| (name, own(fd))).collect(),
            Ok(_) => Vec::new(),
            Err(why) => {
                tracing::warn!("what an earlier process left cannot be taken over: {why}");
                Vec::new()
            }
        };
        (Self { is_there, is_closed: AtomicBool::new(false) }, Left(left))
    }

    /// Whether anything is kept.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Has descriptors kept under a name, until this process has them removed or the service is
    /// stopped.
    ///
    /// # Errors
    /// If the service manager cannot be told.
    pub fn put(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if !self.is_there {
            return Ok(());
        }
        // By itself it would drop a socket whose peer has ended, with what that said before.
        let how =
            [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        descriptors.chunks(AT_ONCE).try_for_each(|some| sd_notify::notify_with_fds(&how, some))
    }

    /// Has all that is kept under a name closed, unless it is for the next process.
    pub fn remove(&self, name: &str) {
        if !self.is_there || self.is_closed.load(Ordering::Relaxed) {
            return;
        }
        let how = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
        if let Err(why) = sd_notify::notify(&how) {
            tracing::warn!("`{name}` stays open: the service manager cannot be told: {why}");
        }
    }

    /// From now on nothing is removed: this process ends, and the next one takes over what is there.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Waits until the service manager has seen all that it was told: what comes of a process that is
    /// gone, it may not know how to place.
    ///
    /// # Errors
    /// If it does not within some seconds.
    pub fn settle(&self) -> io::Result<()> {
        if !self.is_there {
            return Ok(());
        }
        // It closes its end once it has come to this message (sd_notify(3), BARRIER=1).
        let (seen, end) = io::pipe()?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[end.as_fd()])?;
        drop(end);
        let mut wait = [PollFd::new(&seen, PollFlags::IN)];
        match poll(&mut wait, Some(&SEEN))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

#[allow(unsafe_code, reason = "a descriptor that was inherited comes as a number")]
fn own(number: i32) -> OwnedFd {
    // SAFETY: `LISTEN_FDS` counts descriptors that were opened for this process, and this is the one
    // place that takes them, once, before anything else is opened.
    unsafe { OwnedFd::from_raw_fd(number) }
}

impl Left {
    /// Whether there was an earlier process that left something.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of a name.
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        let mine = self.0.extract_if(.., |(its, _)| its == name);
        mine.map(|(_, descriptor)| descriptor).collect()
    }

    /// All of it that listens, each with its name and where.
    pub fn take_listeners(&mut self, prefix: &str) -> Vec<(String, SocketAddr, TcpListener)> {
        let mine = self.0.extract_if(.., |(name, _)| name.starts_with(prefix));
        let at = |(name, descriptor)| {
            let listener = TcpListener::from(descriptor);
            let at = listener.local_addr().ok()?;
            listener.set_nonblocking(true).ok()?;
            Some((name, at, listener))
        };
        mine.filter_map(at).collect()
    }

    /// The names of what nobody has taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// The name of a socket that listens there. Names have no colons (sd_notify(3), FDNAME).
pub fn name_of(address: SocketAddr) -> String {
    format!("{LISTENER}{}", address.to_string().replace(':', "_"))
}

/// How the names of the gateway's own listeners begin.
pub const LISTENER: &str = "listen-";

/// Reads a file of memory from its beginning, wherever the last process has left off.
///
/// # Errors
/// If it cannot be read.
pub fn read(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::from(descriptor);
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

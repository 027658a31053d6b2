//! Edits of the configuration file, as the kernel tells them (inotify(7)).
//!
//! The folder is watched and not the file: editors write beside and rename, and a file that was
//! renamed away would be watched for ever. What was written is not read here; only that the file may
//! be another one now is told, once for each burst. Linux only; elsewhere SIGHUP and `wayhome reload`
//! are the ways.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::burst::Burst;

/// An editor makes several events of one save.
const QUIET: Duration = Duration::from_millis(100);

/// A file that is written without end is read now and then all the same.
const LONGEST: Duration = Duration::from_secs(2);

/// Watches one file.
#[derive(Debug)]
pub struct Edits {
    watch: imp::Watch,
    burst: Burst,
}

impl Edits {
    /// Begins to watch.
    pub fn of(file: &Path) -> io::Result<Self> {
        Ok(Self { watch: imp::Watch::of(file)?, burst: Burst::new(QUIET, LONGEST) })
    }

    /// Waits until the file may have been changed, and its writer seems to be done. If the wait is
    /// dropped, the next one goes on with it.
    pub async fn next(&mut self) -> io::Result<()> {
        let watch = &mut self.watch;
        let about_us = async || {
            while !watch.read().await? {}
            Ok(())
        };
        self.burst.over(about_us).await
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::ffi::{OsStr, OsString};
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::Receiver;

    /// `struct inotify_event` without its name (inotify(7)): `wd`, `mask`, `cookie`, `len`.
    const HEAD: usize = 16;

    #[derive(Debug)]
    pub struct Watch {
        /// An inotify descriptor. Its type says pipe only because tokio has no type for inotify: both
        /// are read from when the kernel says so, and nothing else is done here.
        events: Receiver,
        /// The names under which the file lies in the watched folders.
        names: Vec<OsString>,
    }

    impl Watch {
        pub fn of(file: &Path) -> io::Result<Self> {
            let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            // Where it is a link, both ends of it may be exchanged.
            let mut files = vec![std::path::absolute(file)?];
            files.extend(file.canonicalize().ok().filter(|real| !files.contains(real)));
            let flags = WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_TO
                | WatchFlags::MOVED_FROM
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::ATTRIB;
            for file in &files {
                inotify::add_watch(&inotify, folder(file), flags)?;
            }
            let names = files.iter().filter_map(|file| Some(file.file_name()?.to_owned()));
            let events = Receiver::from_owned_fd_unchecked(inotify)?;
            Ok(Self { names: names.collect(), events })
        }

        /// Reads the next events: whether one of them is about the file.
        pub async fn read(&mut self) -> io::Result<bool> {
            let mut space = [0; 4096];
            let length = self.events.read(&mut space).await?;
            let mut rest = space.get(..length).unwrap_or_default();
            let mut found = false;
            while let Some((head, after)) = rest.split_at_checked(HEAD) {
                let length = head.get(12..).and_then(|length| length.try_into().ok());
                let length = length.map_or(0, u32::from_ne_bytes) as usize;
                let Some((name, after)) = after.split_at_checked(length) else { break };
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                // Without a name it is about the folder itself, or too much to tell.
                found |= name.is_empty() || self.is_ours(OsStr::from_bytes(name));
                rest = after;
            }
            Ok(found)
        }

        fn is_ours(&self, name: &OsStr) -> bool {
            self.names.iter().any(|ours| ours == name)
        }
    }

    fn folder(file: &Path) -> PathBuf {
        file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::path::Path;

    #[derive(Debug)]
    pub struct Watch;

    impl Watch {
        pub fn of(_: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub async fn read(&mut self) -> io::Result<bool> {
            std::future::pending().await
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;

    const SOON: Duration = Duration::from_secs(5);

    async fn is_seen(edits: &mut Edits) -> bool {
        tokio::time::timeout(SOON, edits.next()).await.is_ok_and(|seen| seen.is_ok())
    }

    #[tokio::test]
    async fn sees_each_way_of_saving_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = path("agent.toml");
        fs::write(&file, "a").unwrap();
        let mut edits = Edits::of(&file).unwrap();

        fs::write(&file, "b").unwrap();
        assert!(is_seen(&mut edits).await, "written in place");

        fs::write(path("agent.toml.new"), "c").unwrap();
        fs::rename(path("agent.toml.new"), &file).unwrap();
        assert!(is_seen(&mut edits).await, "written beside and renamed");

        fs::rename(&file, path("agent.toml~")).unwrap();
        fs::write(&file, "d").unwrap();
        assert!(is_seen(&mut edits).await, "kept as a copy and written anew");

        fs::write(path("other"), "x").unwrap();
        let other = tokio::time::timeout(QUIET * 3, edits.next()).await;
        assert!(other.is_err(), "another file is nobody's business");
    }

    #[tokio::test]
    async fn a_wait_that_was_dropped_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let mut edits = Edits::of(&file).unwrap();
        fs::write(&file, "a").unwrap();
        // The event has been read by then, and the burst is waited out.
        let dropped = tokio::time::timeout(QUIET / 4, edits.next()).await;
        assert!(dropped.is_err(), "not told yet");
        assert!(is_seen(&mut edits).await);
    }

    #[tokio::test]
    async fn sees_both_ends_of_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for dir in ["first", "second", "etc"] {
            fs::create_dir(path(dir)).unwrap();
            fs::write(path(dir).join("real.toml"), dir).unwrap();
        }
        let link = path("etc/agent.toml");
        std::os::unix::fs::symlink(path("first/real.toml"), &link).unwrap();
        let mut edits = Edits::of(&link).unwrap();
        fs::write(path("first/real.toml"), "edited").unwrap();
        assert!(is_seen(&mut edits).await, "what it points to");
        std::os::unix::fs::symlink(path("second/real.toml"), path("etc/new")).unwrap();
        fs::rename(path("etc/new"), &link).unwrap();
        assert!(is_seen(&mut edits).await, "where it points");
    }
}

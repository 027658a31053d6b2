//! Files that a person names. One may turn out to be a pipe that nobody writes into (a process
//! substitution whose program hangs, a FIFO), which a plain read would wait for without end.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How long to wait for more. A program behind a pipe may have to start first.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file whose reads fail if nothing comes for too long.
#[derive(Debug)]
pub struct Patient {
    file: File,
    patience: Duration,
}

/// Opens a file for reading, whatever it is, without waiting for anybody at its other end.
pub fn open(path: &Path) -> io::Result<Patient> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    Ok(Patient { file, patience: PATIENCE })
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ends = [PollFd::new(&self.file, PollFlags::IN)];
        let patience = Timespec::try_from(self.patience).map_err(io::Error::other)?;
        // Before the read: a pipe that nobody has opened to write would look like an empty file.
        if poll(&mut ends, Some(&patience))? == 0 {
            let why = format!("nothing came from it within {} s", self.patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A named pipe, opened with less patience than a person has.
    fn pipe(folder: &Path) -> (std::path::PathBuf, Patient) {
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let opened = open(&path).unwrap();
        (path, Patient { patience: Duration::from_secs(1), ..opened })
    }

    #[test]
    fn a_pipe_that_nobody_writes_into_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut nobody) = pipe(folder.path());
        let error = nobody.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let _silent = File::options().write(true).open(path).unwrap();
        let error = nobody.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_comes_later_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut pipe) = pipe(folder.path());
        let script = format!("exec > {}; echo one; sleep 0.3; echo two", path.display());
        let mut writer = Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
        assert!(writer.wait().unwrap().success());
    }

    #[test]
    fn a_file_is_read_as_any() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, b"text").unwrap();
        let mut text = String::new();
        open(file.path()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}

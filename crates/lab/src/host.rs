//! Where a program runs: on this machine, or in a [`Machine`](crate::Machine) of the lab.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A place where programs run, as one user.
///
/// Paths are those that the host sees; [`Host::file`] turns one into the path by which this process
/// reaches the same file.
pub trait Host {
    /// A command that runs there when it is spawned, and ends with the process that spawned it.
    ///
    /// The kernel counts the *thread* that spawned it: spawn from one that lives as long as the
    /// program should. Killing the child ends the program also where the child is only the way in.
    fn command(&self, program: &OsStr) -> Command;

    /// The path by which this process reaches a file of that host.
    fn file(&self, path: &Path) -> PathBuf;

    /// A folder of that host in which throwaway folders may be made.
    fn scratch(&self) -> PathBuf;

    /// The user and group that its commands run as.
    fn owner(&self) -> (u32, u32);

    /// Whether the child that [`Host::command`] spawns *is* the program, or stands before it as its
    /// only parent.
    fn is_direct(&self) -> bool;
}

/// This machine, as the user that runs this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

impl Host for Here {
    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    fn file(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    fn scratch(&self) -> PathBuf {
        std::env::temp_dir()
    }

    fn owner(&self) -> (u32, u32) {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    fn is_direct(&self) -> bool {
        true
    }
}

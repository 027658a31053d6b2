//! A control group for one booted computer, in which its systemd makes groups of its own. The kernel
//! keeps a group when its last process has ended, so somebody must remove them: also after a kill.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Doing, Error, Result};

/// The hierarchies that systemd uses, as far as a machine has them: the second version alone, or in a
/// hybrid that and a named one of the first.
const HIERARCHIES: [&str; 3] =
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// Waits until the pipe is closed, and removes the groups that it was given, as soon as they are
/// empty: the end of the machine takes a moment.
const KEEP: &str = r#"
cat > /dev/null
tries=0
while [ "$tries" -lt 500 ]; do
    left=no
    for group in "$@"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2> /dev/null || left=yes
    done
    [ "$left" = yes ] || exit 0
    sleep 0.02
    tries=$((tries + 1))
done
"#;

/// Groups of this name, one in each hierarchy; gone once this is dropped, or its process has ended.
#[derive(Debug)]
pub struct Cgroup {
    folders: Vec<PathBuf>,
    /// In a session of its own, for whoever kills a test may kill its whole process group.
    keeper: Child,
    pipe: Option<ChildStdin>,
}

/// Whether groups can be made here; if not, why.
pub fn is_possible() -> Result<()> {
    Cgroup::make("trial").map(drop)
}

impl Cgroup {
    /// Makes an empty group, whose name contains this one.
    pub fn make(name: &str) -> Result<Cgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wayhome-lab-{}-{number}-{name}", std::process::id());
        let folders: Vec<PathBuf> = HIERARCHIES
            .iter()
            .map(Path::new)
            .filter(|root| root.join("cgroup.procs").is_file())
            .map(|root| root.join(&name))
            .collect();
        if folders.is_empty() {
            return Err(Error::new("a real systemd needs control groups in `/sys/fs/cgroup`"));
        }
        // The keeper comes first, and removes also what is made only in part.
        let mut keeper = Command::new("setsid")
            .args(["sh", "-c", KEEP, "sh"])
            .args(&folders)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .doing(|| "could not start `setsid` (package `util-linux`)".to_owned())?;
        let pipe = keeper.stdin.take();
        let group = Cgroup { folders, keeper, pipe };
        for folder in &group.folders {
            fs::create_dir(folder)
                .doing(|| format!("could not make the control group `{}`", folder.display()))?;
        }
        Ok(group)
    }

    /// A command that becomes `program` within the group, and to which its arguments are added.
    pub fn command(&self, program: &OsStr) -> Command {
        let mut script = String::new();
        for folder in &self.folders {
            script += &format!("echo $$ > {}/cgroup.procs\n", folder.display());
        }
        let mut command = Command::new("sh");
        command.args(["-euc", &(script + "exec \"$@\""), "sh"]).arg(program);
        command
    }

    /// Stops all that runs in the group where it is, or lets it go on.
    pub fn freeze(&self, freeze: bool) -> Result<()> {
        let file = self
            .folders
            .iter()
            .map(|folder| folder.join("cgroup.freeze"))
            .find(|file| file.is_file())
            .ok_or_else(|| Error::new("freezing needs control groups of the second version"))?;
        fs::write(&file, if freeze { "1" } else { "0" })
            .doing(|| format!("could not write to `{}`", file.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.keeper.wait();
    }
}

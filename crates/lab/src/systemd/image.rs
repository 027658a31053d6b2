//! The disk that booted computers begin with: a small Debian, made by `debootstrap` and kept in the
//! folder that cargo builds in.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::cgroup;
use super::mirror::{Mirror, System, proxy};
use crate::error::{Doing, Error, Result, tail};
use crate::host::{Here, Host};
use crate::machine::built;
use crate::net::Lab;

/// What is in it besides the smallest Debian there is: an init, logins, OpenSSH, the tools by which
/// a test looks around, and what write-ups of the road without wayhome use.
const PACKAGES: &[&str] = &[
    "autossh",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "openssh-client",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
];

/// Runs with the folder as `$1`, the mirror's release as `$2`, components as `$3` and address as `$4`,
/// and the packages as `$5`. It has process numbers and mounts of its own, and ends with us, so that
/// nothing of what `debootstrap` mounts and starts is left when it is interrupted.
///
/// What makes a computer itself is taken out again: its machine id and its host keys. The folder for
/// the journal makes that outlive a reboot.
const MAKE: &str = r#"
set -eu
debootstrap --variant=minbase --force-check-gpg --components="$3" --include="$5" "$2" "$1" "$4"
rm -f "$1"/etc/ssh/ssh_host_*
: > "$1/etc/machine-id"
mkdir -p "$1/var/log/journal"
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1/debootstrap"
"#;

/// A disk that is not changed: each [`Booted`](super::Booted) writes to a layer of its own above it.
#[derive(Clone, Debug)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// Whether this machine can boot images; if not, why.
    pub fn is_possible() -> Result<()> {
        Lab::supported()?;
        let asked = Command::new("systemd-nspawn").arg("--version").stdout(Stdio::null()).status();
        if asked.is_err() {
            return Err(Error::new(
                "a real systemd needs `systemd-nspawn`; install the package `systemd-container`",
            ));
        }
        let path = "/proc/filesystems";
        let known = fs::read_to_string(path).doing(|| format!("could not read `{path}`"))?;
        if !known.lines().any(|line| line.ends_with("\toverlay")) {
            return Err(Error::new(
                "a real systemd needs `overlay` file systems, which the kernel lacks",
            ));
        }
        cgroup::is_possible()
    }

    /// The image, if it has been made and this machine can boot it; if not, why.
    pub fn find() -> Result<Image> {
        Image::is_possible()?;
        let folder = place(&System::here()?)?;
        if !folder.is_dir() {
            return Err(Error::new("no image to boot was made yet; `cargo xtask test` makes it"));
        }
        Ok(Image { folder })
    }

    /// The image, made now if it is not there. That takes a minute, and fetches some 100 MB from the
    /// machine's own mirror.
    pub fn make() -> Result<Image> {
        Image::is_possible()?;
        let folder = place(&System::here()?)?;
        let lock = folder.with_extension("lock");
        let lock = fs::File::create(&lock)
            .doing(|| format!("could not make the lock `{}`", lock.display()))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(Into::into)
            .doing(|| "could not wait for the other one who makes the image".to_owned())?;
        if !folder.is_dir() {
            // Made beside it, so that what has the name is whole.
            let making = folder.with_extension("making");
            make(&Mirror::find()?, &making)?;
            fs::rename(&making, &folder)
                .doing(|| format!("could not rename the image to `{}`", folder.display()))?;
        }
        Ok(Image { folder })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Where the image is kept that is made of these packages, in this way, for this system.
fn place(system: &System) -> Result<PathBuf> {
    let target = built();
    if target.as_os_str().is_empty() {
        return Err(Error::new(
            "an image is kept where cargo builds, and this was not built there",
        ));
    }
    // Should another compiler hash differently, it is made once more.
    let mut key = DefaultHasher::new();
    (PACKAGES, MAKE, system, std::env::consts::ARCH).hash(&mut key);
    Ok(target.join(format!("booted-{:016x}", key.finish())))
}

fn make(mirror: &Mirror, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .doing(|| format!("could not remove what is left of `{}`", folder.display()))?;
    }
    // It becomes the root folder, which everybody enters.
    fs::create_dir(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
        .doing(|| format!("could not make the folder `{}`", folder.display()))?;
    let mut command = Here.command("unshare".as_ref());
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--", "sh", "-c", MAKE, "sh"])
        .arg(folder)
        .args([&mirror.release, &mirror.components.join(","), &mirror.address])
        .arg(PACKAGES.join(","));
    for scheme in ["http", "https"] {
        if let Some(proxy) = proxy(scheme) {
            command.env(format!("{scheme}_proxy"), proxy);
        }
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .doing(|| "could not start `unshare` (package `util-linux`)".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(Error::new(format!("`debootstrap` made no image; it ended with: {}", tail(&said))))
}

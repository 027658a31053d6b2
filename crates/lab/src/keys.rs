//! Ed25519 user keys, made by the machine's own `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result, run};
use crate::host::Host;
use crate::openssh::OpenSsh;

/// A key pair of files, without a passphrase.
#[derive(Clone, Debug)]
pub struct Key {
    path: PathBuf,
    public_line: String,
}

impl Key {
    /// Makes a key at `path` on `host` (readable by its owner alone) and `path.pub` beside it.
    pub fn make(host: &impl Host, openssh: &OpenSsh, path: &Path, comment: &str) -> Result<Key> {
        let mut keygen = host.command(openssh.ssh_keygen().as_os_str());
        run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path))?;
        Key::at(host, path)
    }

    /// A key that is there already.
    pub fn at(host: &impl Host, path: &Path) -> Result<Key> {
        let mut public = path.as_os_str().to_owned();
        public.push(".pub");
        let public = host.file(Path::new(&public));
        let line = fs::read_to_string(&public)
            .doing(|| format!("could not read the public key `{}`", public.display()))?;
        Ok(Key { path: path.to_path_buf(), public_line: line.trim().to_owned() })
    }

    /// The private key's file, as its host sees it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `ssh-ed25519 AAAA… comment`, as `authorized_keys` wants it.
    pub fn public_line(&self) -> &str {
        &self.public_line
    }
}

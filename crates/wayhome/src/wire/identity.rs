//! A machine's own key: an OpenSSH private key file, made for this.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
use ssh_key::public::Ed25519PublicKey;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};
use wayhome_core::key::Key;

use crate::config::identity::{check_file, locked};
use crate::error::{Failure, Outcome};
use crate::paths;
use crate::secret::{ExposeSecret, Secret};

/// PKCS #8 for an Ed25519 seed (RFC 8410, section 7): all that stands before the seed's 32 bytes.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, section 4): all that stands before its bytes.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A private key that this machine shows to others. It can be neither printed nor written.
#[derive(Clone)]
pub struct Identity {
    key: Key,
    certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.key)
    }
}

impl Identity {
    /// Reads the key in a file.
    ///
    /// # Errors
    /// If others can read it, or it has a passphrase, or is not Ed25519.
    pub fn read(path: &Path) -> Outcome<Self> {
        check_file(path)?;
        let shown = path.display();
        let unreadable = |why: &dyn std::error::Error| {
            Failure::usage(format!("the identity `{shown}` is no private key that can be used"))
                .because(why)
                .hint("only Ed25519 keys serve here, and `wayhome keys` makes one")
        };
        let text = Secret::from(fs::read_to_string(path).map_err(|why| unreadable(&why))?);
        let key = PrivateKey::from_openssh(text.expose_secret()).map_err(|why| unreadable(&why))?;
        if key.is_encrypted() {
            return Err(locked(path));
        }
        let Some(pair) = key.key_data().ed25519() else {
            return Err(Failure::usage(format!(
                "the identity `{shown}` is a key of kind `{}`, and the native road takes only \
                 `ssh-ed25519`",
                key.algorithm()
            ))
            .hint("`ssh-keygen -t ed25519 -N '' -f FILE` makes one"));
        };
        Self::of_pair(pair)
            .ok_or_else(|| Failure::usage(format!("the identity `{shown}` is damaged")))
    }

    /// Reads the key in a file, or makes one if there is none. Whether it was made now.
    pub fn read_or_make(path: &Path) -> Outcome<(Self, bool)> {
        if fs::symlink_metadata(path).is_ok() {
            return Ok((Self::read(path)?, false));
        }
        let failed = |why: &dyn std::error::Error| {
            Failure::new(format!("the identity `{}` cannot be written", path.display()))
                .because(why)
                .hint("see that there is room, and that the folder may be written to")
        };
        let (identity, pair) = Self::generate().ok_or_else(|| {
            Failure::new("no key can be made").hint("the system gives no randomness")
        })?;
        let comment = format!("wayhome@{}", rustix::system::uname().nodename().to_string_lossy());
        let private = PrivateKey::new(pair.into(), comment.clone()).map_err(|why| failed(&why))?;
        let text = private.to_openssh(LineEnding::LF).map_err(|why| failed(&why))?;
        // Beside it, and then into its place as a whole; never over one that came meanwhile.
        let mut beside = tempfile::Builder::new()
            .prefix(".identity-")
            .tempfile_in(path.parent().unwrap_or(Path::new(".")))
            .map_err(|why| failed(&why))?;
        beside.write_all(text.as_bytes()).map_err(|why| failed(&why))?;
        beside.as_file().sync_all().map_err(|why| failed(&why))?;
        match beside.persist_noclobber(path) {
            Ok(_) => {}
            // Another process was as new here as we are, and a moment earlier.
            Err(why) if why.error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok((Self::read(path)?, false));
            }
            Err(why) => return Err(failed(&why.error)),
        }
        // After the private half: whoever came second must not name a key that is none.
        let public = format!("{} {comment}\n", identity.key);
        write_public(&public_half(path), &public).map_err(|why| failed(&why))?;
        Ok((identity, true))
    }

    /// A new key, which is kept nowhere.
    fn generate() -> Option<(Self, Ed25519Keypair)> {
        let mut seed = [0; 32];
        rand::fill(&mut seed).ok()?;
        let public = key_of(signer(&seed)?.public_key()?.as_ref())?;
        let pair = Ed25519Keypair {
            public: Ed25519PublicKey(*public.bytes()),
            private: Ed25519PrivateKey::from_bytes(&seed),
        };
        Some((Self::of_pair(&pair)?, pair))
    }

    fn of_pair(pair: &Ed25519Keypair) -> Option<Self> {
        let signer = signer(&pair.private.to_bytes())?;
        let key = key_of(signer.public_key()?.as_ref())?;
        // The public half that stands in the file is only claimed there.
        (key.bytes() == &pair.public.0).then(|| Self {
            key,
            certified: Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki(&key))], signer)),
        })
    }

    /// Its public half.
    pub fn key(&self) -> Key {
        self.key
    }

    /// As TLS shows it: a raw public key in place of a certificate (RFC 7250).
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

fn signer(seed: &[u8; 32]) -> Option<Arc<dyn SigningKey>> {
    let der = [&PKCS8[..], seed].concat();
    any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).ok()
}

/// Where this user's identity lies, for all seats but the ssh link's.
pub fn usual_path() -> Outcome<PathBuf> {
    Ok(paths::state_dir()?.join("identity"))
}

/// A key as `ssh-keygen -l` shows it: `SHA256:…`.
pub fn fingerprint(key: &Key) -> String {
    let public = PublicKey::from(Ed25519PublicKey(*key.bytes()));
    public.fingerprint(HashAlg::Sha256).to_string()
}

/// Where the public half lies: `identity.pub`.
pub fn public_half(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn write_public(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())
}

/// The key as TLS has it.
pub fn spki(key: &Key) -> Vec<u8> {
    [&SPKI[..], key.bytes()].concat()
}

/// The key that TLS has so.
pub fn key_of(spki: &[u8]) -> Option<Key> {
    let bytes = spki.strip_prefix(&SPKI)?;
    Some(Key::new(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    /// An identity for a test, which is kept nowhere.
    pub(crate) fn any_identity() -> Identity {
        Identity::generate().unwrap().0
    }

    fn keygen(arguments: &[&str]) -> String {
        let ran = Command::new("ssh-keygen").args(arguments).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    #[test]
    fn what_is_made_is_a_key_of_openssh_and_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let (made, is_new) = Identity::read_or_make(&path).unwrap();
        assert!(is_new);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        let public = keygen(&["-y", "-f", path.to_str().unwrap()]);
        assert!(public.starts_with(&made.key().to_string()), "{public}");
        let beside = fs::read_to_string(public_half(&path)).unwrap();
        assert!(beside.starts_with(&made.key().to_string()), "{beside}");
        let shown = keygen(&["-l", "-f", path.to_str().unwrap()]);
        assert!(shown.contains(&format!(" {} ", fingerprint(&made.key()))), "{shown}");
        let (again, is_new) = Identity::read_or_make(&path).unwrap();
        assert!(!is_new && again.key() == made.key());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn who_come_at_the_same_moment_have_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let keys = std::thread::scope(|scope| {
            let make = || Identity::read_or_make(&path).unwrap().0.key();
            let made: Vec<_> = (0..16).map(|_| scope.spawn(make)).collect();
            made.into_iter().map(|made| made.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let beside = fs::read_to_string(public_half(&path)).unwrap();
        assert!(beside.starts_with(&keys[0].to_string()), "{beside}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn what_cannot_serve_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path("good")]);
        keygen(&["-q", "-t", "ed25519", "-N", "secret", "-f", &path("locked")]);
        keygen(&["-q", "-t", "ecdsa", "-N", "", "-f", &path("ecdsa")]);
        fs::copy(path("good"), path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Identity::read(Path::new(&path("good"))).is_ok());
        for (name, part) in [
            ("locked", "has a passphrase"),
            ("ecdsa", "only Ed25519 keys serve"),
            ("open", "can be read by others"),
            ("good.pub", "public half"),
            ("missing", "cannot be read"),
        ] {
            let why = Identity::read(Path::new(&path(name))).unwrap_err().to_string();
            assert!(why.contains(part), "{name}: {why}");
        }
        // Nothing that exists is ever replaced by a new key.
        assert!(Identity::read_or_make(Path::new(&path("locked"))).is_err());
    }
}

//! systemd's specifiers (systemd.unit(5), "Specifiers"): `%h`, `%i` and their like.
//!
//! The user's are those of the *manager* that runs the unit, whatever its `User=` says: in a system
//! unit `%h` is `/root`.

use std::fmt;
use std::path::PathBuf;

/// What specifiers stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specifiers {
    /// The unit's full name: `reverse@gw.service`.
    pub unit: String,
    /// The user that runs the manager, its number, its home folder.
    pub user: String,
    /// See `user`.
    pub uid: u32,
    /// See `user`.
    pub home: PathBuf,
    /// This machine's name.
    pub host: String,
}

/// A specifier that means nothing, or nothing that can be known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSpecifier(pub char);

impl fmt::Display for UnknownSpecifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the specifier `%{}` is not known here", self.0.escape_default())
    }
}

impl std::error::Error for UnknownSpecifier {}

impl Specifiers {
    /// Replaces each specifier in a word.
    pub fn expand(&self, text: &str) -> Result<String, UnknownSpecifier> {
        let mut out = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match (c, rest.clone().next()) {
                ('%', Some(specifier)) => {
                    rest.next();
                    out.push_str(&self.value(specifier).ok_or(UnknownSpecifier(specifier))?);
                }
                (c, _) => out.push(c),
            }
        }
        Ok(out)
    }

    fn value(&self, specifier: char) -> Option<String> {
        let name = self.unit.rsplit_once('.').map_or(self.unit.as_str(), |(name, _)| name);
        let (prefix, instance) = name.split_once('@').unwrap_or((name, ""));
        let home = self.home.display();
        let is_system = self.uid == 0;
        let folder = |system: &str, user: &str| {
            if is_system { system.to_owned() } else { format!("{home}/{user}") }
        };
        Some(match specifier {
            '%' => "%".to_owned(),
            'n' => self.unit.clone(),
            'N' => name.to_owned(),
            'p' => prefix.to_owned(),
            'P' => unescape(prefix),
            'i' => instance.to_owned(),
            'I' => unescape(instance),
            'j' => last_part(prefix).to_owned(),
            'J' => unescape(last_part(prefix)),
            'f' => {
                let path = unescape(if instance.is_empty() { prefix } else { instance });
                format!("/{}", path.trim_start_matches('/'))
            }
            'u' | 'g' => self.user.clone(),
            'U' | 'G' => self.uid.to_string(),
            'h' => home.to_string(),
            'H' => self.host.clone(),
            'l' => self.host.split('.').next().unwrap_or_default().to_owned(),
            't' if is_system => "/run".to_owned(),
            't' => format!("/run/user/{}", self.uid),
            'S' => folder("/var/lib", ".local/state"),
            'C' => folder("/var/cache", ".cache"),
            'L' => folder("/var/log", ".local/state/log"),
            'E' => folder("/etc", ".config"),
            'T' => "/tmp".to_owned(),
            'V' => "/var/tmp".to_owned(),
            _ => return None,
        })
    }
}

fn last_part(prefix: &str) -> &str {
    prefix.rsplit('-').next().unwrap_or_default()
}

/// systemd's escaping of names (systemd-escape(1)), undone: `-` was `/`, `\x2d` was `-`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'-', _) => bytes.push(b'/'),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                match (digit(high), digit(low)) {
                    (Some(high), Some(low)) => {
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                        rest = after;
                    }
                    _ => bytes.push(b'\\'),
                }
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: &str, uid: u32) -> Specifiers {
        let (user, home) = if uid == 0 { ("root", "/root") } else { ("fan", "/home/fan") };
        Specifiers {
            unit: unit.into(),
            user: user.into(),
            uid,
            home: home.into(),
            host: "home.example.org".into(),
        }
    }

    #[test]
    fn the_names_of_a_template() {
        let specifiers = of(r"auto-ssh@srv-gw\x2d1.service", 0);
        for (text, value) in [
            ("%n", r"auto-ssh@srv-gw\x2d1.service"),
            ("%N", r"auto-ssh@srv-gw\x2d1"),
            ("%p %P", "auto-ssh auto/ssh"),
            ("%i", r"srv-gw\x2d1"),
            ("%I", "srv/gw-1"),
            ("%f", "/srv/gw-1"),
            ("%j", "ssh"),
            ("100%%", "100%"),
            ("a%", "a%"),
            ("%H %l", "home.example.org home"),
        ] {
            assert_eq!(specifiers.expand(text).unwrap(), value, "{text}");
        }
        assert_eq!(specifiers.expand("%Q"), Err(UnknownSpecifier('Q')));
    }

    #[test]
    fn the_user_is_the_managers() {
        assert_eq!(
            of("x.service", 0).expand("%h %u %U %t %S").unwrap(),
            "/root root 0 /run /var/lib"
        );
        let user = of("x.service", 1000).expand("%h %u %U %t %E").unwrap();
        assert_eq!(user, "/home/fan fan 1000 /run/user/1000 /home/fan/.config");
    }
}

//! What a look at a road means: a verdict, and what a person should know or do. Pure.

use serde::Serialize;
use wayhome_core::health::Cause;

/// What can be said of the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The right host showed its key through the port.
    Proven,
    /// It did not.
    NotProven,
    /// It cannot be told from here.
    Unknown,
}

impl Verdict {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::NotProven => 1,
            Self::Unknown => 2,
        }
    }
}

/// Who listens on the port, as far as the login can see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// An ssh session: a tunnel of someone's.
    Session {
        /// Its process at the gateway.
        pid: u32,
        /// What it calls itself, which has the user's name.
        title: Option<String>,
        /// How long ago it began, in seconds.
        since: Option<u64>,
        /// Where it came from.
        from: Option<String>,
    },
    /// A program of the gateway's own.
    Program {
        /// Its process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// A process of another user.
    Foreign {
        /// The user's number.
        uid: u32,
    },
    /// It cannot be told.
    #[default]
    Unknown,
}

/// What is behind the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Behind {
    /// An SSH server with this key.
    HostKey {
        /// As OpenSSH writes it.
        key: String,
        /// Its fingerprint.
        fingerprint: String,
        /// The address at the gateway where it was read.
        at: String,
        /// Whose it is.
        whose: Whose,
    },
    /// The gateway opens no connection there.
    NotOpened,
    /// The connection is closed at once.
    Closed,
    /// Nothing is said.
    Silent,
    /// Something that is no SSH server.
    Other {
        /// What it was.
        detail: String,
    },
    /// It was not looked at.
    NotChecked,
}

/// Whose a host key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The target's own, read from here: of this machine, unless another target was named.
    Target,
    /// The one that `--expect` names.
    Expected,
    /// The one that this person's known hosts have for this port.
    Known,
    /// Neither; and another was known or named.
    Another,
    /// There is nothing to compare it with.
    Nobodys,
}

/// How the gateway's sshd is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// `ClientAliveInterval`, in seconds.
    pub client_alive_interval: Option<u32>,
    /// `ClientAliveCountMax`.
    pub client_alive_count_max: Option<u32>,
    /// `GatewayPorts`.
    pub gateway_ports: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The gateway.
    pub gateway: String,
    /// The port.
    pub port: u16,
    /// The target that was read from here, if one could be.
    pub target: Option<String>,
    /// Why there was no login.
    pub refused: Option<Cause>,
    /// The addresses listened on, of `127.0.0.1`, `::1`, `0.0.0.0`, `::`, `other`; none is known if
    /// it was not seen.
    pub listens: Option<Vec<String>>,
    /// Who listens.
    pub holder: Holder,
    /// Why the holder is not known.
    pub unseen: Option<String>,
    /// What is behind the port.
    pub behind: Behind,
    /// The sshd.
    pub sshd: Settings,
}

/// Something to know, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// What.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sight {
    /// The form of this answer.
    pub version: u32,
    /// What can be said.
    pub verdict: Verdict,
    /// What was seen.
    #[serde(flatten)]
    pub facts: Facts,
    /// What to know and to do, the weightiest first.
    pub remarks: Vec<Remark>,
}

impl Sight {
    /// Says what the facts mean.
    pub fn of(facts: Facts) -> Self {
        let mut remarks = Vec::new();
        let verdict = judge(&facts, &mut remarks);
        beside(&facts, &mut remarks);
        Self { version: 1, verdict, facts, remarks }
    }
}

fn judge(facts: &Facts, remarks: &mut Vec<Remark>) -> Verdict {
    let mut say = |verdict, text: &str, remedy: &str| {
        remarks.push(Remark { text: text.to_owned(), remedy: remedy.to_owned() });
        verdict
    };
    if let Some(cause) = &facts.refused {
        return say(Verdict::Unknown, &cause.to_string(), login_remedy(cause));
    }
    match &facts.behind {
        Behind::HostKey { whose: Whose::Target | Whose::Expected | Whose::Known, .. } => {
            Verdict::Proven
        }
        Behind::HostKey { whose: Whose::Another, fingerprint, .. } => say(
            Verdict::NotProven,
            &format!("another host is behind the port: its key is {fingerprint}"),
            "see who holds the port, and give one of the two another one; if home was set up anew, \
             its new key belongs into your known_hosts",
        ),
        Behind::HostKey { whose: Whose::Nobodys, fingerprint, .. }
            if matches!(facts.holder, Holder::Program { .. }) =>
        {
            say(
                Verdict::NotProven,
                &format!(
                    "an SSH server of the gateway's own has the port: its key is {fingerprint}"
                ),
                "give home another port, or that server",
            )
        }
        Behind::HostKey { whose: Whose::Nobodys, fingerprint, .. } => say(
            Verdict::Unknown,
            "an SSH server is behind the port, and there is nothing here to know it by",
            &format!(
                "compare {fingerprint} with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at \
                 home; `--expect` takes what that shows"
            ),
        ),
        Behind::Silent => say(
            Verdict::NotProven,
            "the port takes connections, and nothing comes back: what holds it is a dead session, \
             or the way home is cut",
            &silent_remedy(&facts.holder),
        ),
        Behind::Closed
            if matches!(facts.holder, Holder::Program { .. } | Holder::Foreign { .. }) =>
        {
            say(
                Verdict::NotProven,
                "what holds the port closes each connection, and is no SSH server",
                "see who holds the port, and where it leads",
            )
        }
        Behind::Closed => say(
            Verdict::NotProven,
            "the road leads home, and nothing listens at its end",
            "start sshd at home, or correct the target after the port in `-R 2222:localhost:22`",
        ),
        Behind::Other { detail } => say(
            Verdict::NotProven,
            &format!("what answers behind the port is no SSH server ({detail})"),
            "see who holds the port, and where it leads",
        ),
        Behind::NotOpened if facts.holder == Holder::Nobody => nothing_listens(&mut say),
        Behind::NotOpened => say(
            Verdict::Unknown,
            "the gateway opens no connection to the port for this login: nothing listens there, or \
             its key may not (`permitopen`, AllowTcpForwarding)",
            "look with a login that may: the laptop's, or root's",
        ),
        Behind::NotChecked if facts.holder == Holder::Nobody => nothing_listens(&mut say),
        Behind::NotChecked => say(
            Verdict::Unknown,
            "the port was not reached: it does not listen on loopback",
            "leave the address out in `-R 2222:localhost:22`",
        ),
    }
}

fn nothing_listens(say: &mut impl FnMut(Verdict, &str, &str) -> Verdict) -> Verdict {
    say(
        Verdict::NotProven,
        "nothing listens on the port at the gateway: home's tunnel is down",
        "at home: look at what holds the tunnel (`systemctl status`, autossh, ssh -R); \
         `wayhome agent` brings it back by itself",
    )
}

fn silent_remedy(holder: &Holder) -> String {
    let end = match holder {
        Holder::Session { pid, .. } => format!("at the gateway: `kill {pid}` ends that session"),
        _ => "at the gateway: `ss -lntp` shows what to end".to_owned(),
    };
    format!("{end}, and home's next attempt gets the port; `wayhome agent` does this by itself")
}

/// What is to be said whatever the verdict.
fn beside(facts: &Facts, remarks: &mut Vec<Remark>) {
    let mut say = |text: String, remedy: &str| {
        remarks.push(Remark { text, remedy: remedy.to_owned() });
    };
    match &facts.holder {
        Holder::Program { pid, name } => say(
            format!("the program `{name}` (process {pid}) of the gateway's own holds the port"),
            "choose another port for home, or end that program",
        ),
        Holder::Foreign { uid } => say(
            format!("the gateway's user {uid} holds the port, and not the one you log in as"),
            "it is right if home logs in as that user; if not, choose another port",
        ),
        _ => {}
    }
    let listens = facts.listens.as_deref().unwrap_or_default();
    let on = |address: &str| listens.iter().any(|other| other == address);
    if on("0.0.0.0") || on("::") || on("other") {
        say(
            "the port is open beyond the gateway's loopback: anybody can knock at home's sshd"
                .into(),
            "leave the address out in `-R 2222:localhost:22`, and set `GatewayPorts no`",
        );
    } else if on("::1") && !on("127.0.0.1") {
        say(
            "the port is on `::1` alone, and not on 127.0.0.1: something else had that when home came"
                .into(),
            "restart home's tunnel; until then, `HostName ::1` on the laptop reaches it",
        );
    }
    if facts.sshd.client_alive_interval == Some(0) && matches!(facts.holder, Holder::Session { .. })
    {
        say(
            "the gateway's sshd never asks whether home is still there (ClientAliveInterval 0): after \
             a silent cut, the dead session keeps the port"
                .into(),
            "in its sshd_config: `ClientAliveInterval 15` and `ClientAliveCountMax 3`; `wayhome agent` \
             does without",
        );
    }
}

/// The agent's remedies speak of its pins; here the person's own ssh is at work.
fn login_remedy(cause: &Cause) -> &'static str {
    match cause {
        Cause::HostKeyUnknown => {
            "log in once by hand, and see to the gateway's host key: `ssh root@…`"
        }
        Cause::HostKeyChanged => {
            "if the gateway was set up anew, remove its old key with `ssh-keygen -R`; if not, \
             somebody stands in between"
        }
        Cause::KeyRefused { .. } => {
            "name the key that the gateway knows with `-i`, or add yours to `~/.ssh/authorized_keys` \
             of that account"
        }
        other => other.remedy(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            gateway: "root@203.0.113.10".into(),
            port: 2222,
            target: Some("localhost:22".into()),
            refused: None,
            listens: Some(vec!["127.0.0.1".into(), "::1".into()]),
            holder: session(),
            unseen: None,
            behind: key(Whose::Target),
            sshd: Settings { client_alive_interval: Some(15), ..Settings::default() },
        }
    }

    fn session() -> Holder {
        Holder::Session { pid: 7, title: None, since: Some(3), from: None }
    }

    fn key(whose: Whose) -> Behind {
        Behind::HostKey {
            key: "ssh-ed25519 AAAA".into(),
            fingerprint: "SHA256:x".into(),
            at: "127.0.0.1".into(),
            whose,
        }
    }

    #[test]
    fn only_the_right_key_is_proof() {
        for (behind, verdict) in [
            (key(Whose::Target), Verdict::Proven),
            (key(Whose::Expected), Verdict::Proven),
            (key(Whose::Known), Verdict::Proven),
            (key(Whose::Another), Verdict::NotProven),
            (key(Whose::Nobodys), Verdict::Unknown),
            (Behind::Silent, Verdict::NotProven),
            (Behind::Closed, Verdict::NotProven),
            (Behind::Other { detail: "x".into() }, Verdict::NotProven),
            (Behind::NotOpened, Verdict::Unknown),
            (Behind::NotChecked, Verdict::Unknown),
        ] {
            let sight = Sight::of(Facts { behind, ..facts() });
            assert_eq!(sight.verdict, verdict, "{:?}", sight.facts.behind);
            assert_eq!(sight.remarks.is_empty(), verdict == Verdict::Proven, "a remedy if not");
        }
    }

    #[test]
    fn a_server_of_the_gateways_own_is_no_home() {
        let holder = Holder::Program { pid: 9, name: "sshd".into() };
        let sight = Sight::of(Facts { behind: key(Whose::Nobodys), holder, ..facts() });
        assert_eq!(sight.verdict, Verdict::NotProven);
    }

    #[test]
    fn where_nobody_listens_nothing_is_up() {
        for behind in [Behind::NotChecked, Behind::NotOpened] {
            let sight = Sight::of(Facts { behind, holder: Holder::Nobody, ..facts() });
            assert_eq!(sight.verdict, Verdict::NotProven);
        }
    }

    #[test]
    fn without_a_login_it_cannot_be_told() {
        let refused = Some(Cause::KeyRefused { detail: "publickey".into() });
        let sight = Sight::of(Facts { refused, behind: Behind::NotChecked, ..facts() });
        assert_eq!(sight.verdict.code(), 2);
        assert!(sight.remarks[0].remedy.contains("`-i`"));
    }

    #[test]
    fn says_what_is_wrong_although_it_works() {
        let remark = |facts: Facts| {
            let sight = Sight::of(facts);
            assert_eq!(sight.verdict, Verdict::Proven);
            sight.remarks.into_iter().next().unwrap().text
        };
        let listens = |address: &str| Some(vec![address.to_owned()]);
        assert!(remark(Facts { listens: listens("0.0.0.0"), ..facts() }).contains("beyond"));
        assert!(remark(Facts { listens: listens("::1"), ..facts() }).contains("`::1` alone"));
        let sshd = Settings { client_alive_interval: Some(0), ..Settings::default() };
        assert!(remark(Facts { sshd, ..facts() }).contains("ClientAliveInterval 0"));
    }
}

//! What each option of ssh's configuration means to an agent: carried over, of no use to it, or
//! something that belongs into `~/.ssh/config`, which its ssh reads.

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It says the same as this option of the command line.
    As(char),
    /// It is not needed, and why.
    NotNeeded(&'static str),
    /// Wayhome does it in another way, which a person should know.
    Differs(&'static str),
    /// It opens something that an agent does not.
    Lost(&'static str),
    /// It belongs into `~/.ssh/config`, under this name.
    Config(&'static str),
    /// Likewise, under the name that it was given.
    ConfigAsIs,
}

const HEARTBEATS: &str = "wayhome sends heartbeats of its own, and comes back faster";
const FORWARDS: &str = "wayhome asks for each forward by itself, and says why one is refused";
const SUPERVISED: &str = "wayhome runs ssh under its own supervision, and sets this itself";
const UNATTENDED: &str = "wayhome's ssh never asks anybody anything";
const NO_SESSION: &str = "nobody sits at this session";
const PINS: &str =
    "wayhome pins the gateway's host key at the first contact, and then takes no other";
const LOCAL: &str =
    "an agent opens the road home and no way out; keep an `ssh` of its own for this";
const COMES_IN: &str =
    "it opens home to the gateway further than a forward does, and an agent does not";

/// The fate of an option with its value; the key is in lower case.
pub fn fate(key: &str, value: &str) -> Fate {
    let value = value.to_ascii_lowercase();
    match key {
        "user" => Fate::As('l'),
        "port" => Fate::As('p'),
        "identityfile" => Fate::As('i'),
        "remoteforward" => Fate::As('R'),
        "serveraliveinterval" | "serveralivecountmax" | "tcpkeepalive" => {
            Fate::NotNeeded(HEARTBEATS)
        }
        "exitonforwardfailure" | "clearallforwardings" => Fate::NotNeeded(FORWARDS),
        "connecttimeout"
        | "connectionattempts"
        | "controlmaster"
        | "controlpath"
        | "controlpersist"
        | "forkafterauthentication"
        | "loglevel"
        | "logverbose"
        | "sessiontype"
        | "stdinnull"
        | "updatehostkeys" => Fate::NotNeeded(SUPERVISED),
        "batchmode"
        | "numberofpasswordprompts"
        | "passwordauthentication"
        | "kbdinteractiveauthentication"
        | "challengeresponseauthentication" => Fate::NotNeeded(UNATTENDED),
        "requesttty"
        | "escapechar"
        | "permitlocalcommand"
        | "enableescapecommandline"
        | "visualhostkey" => Fate::NotNeeded(NO_SESSION),
        "identitiesonly" if value == "yes" => {
            Fate::NotNeeded("with an `identity` wayhome's ssh offers that one alone")
        }
        "gatewayports" => Fate::NotNeeded("at home it concerns `-L`; at the gateway, sshd decides"),
        "stricthostkeychecking" if value == "yes" => Fate::NotNeeded(PINS),
        "forwardagent" | "forwardx11" | "forwardx11trusted" | "tunnel" if value == "no" => {
            Fate::NotNeeded(SUPERVISED)
        }
        "stricthostkeychecking"
        | "userknownhostsfile"
        | "globalknownhostsfile"
        | "checkhostip"
        | "verifyhostkeydns"
        | "knownhostscommand"
        | "hashknownhosts"
        | "nohostauthenticationforlocalhost" => Fate::Differs(PINS),
        "remotecommand" => {
            Fate::Differs("wayhome runs its own small script there, and nothing else")
        }
        "localcommand" => Fate::Differs("wayhome runs no command at each connect"),
        "syslogfacility" => Fate::Differs("wayhome logs to the journal"),
        "localforward" | "dynamicforward" => Fate::Lost(LOCAL),
        "tunnel" | "tunneldevice" => Fate::Lost("wayhome makes no network interface"),
        "forwardagent" | "forwardx11" | "forwardx11trusted" => Fate::Differs(COMES_IN),
        "proxyjump" => Fate::Config("ProxyJump"),
        "proxycommand" => Fate::Config("ProxyCommand"),
        "hostname" => Fate::Config("HostName"),
        "hostkeyalias" => Fate::Config("HostKeyAlias"),
        "compression" => Fate::Config("Compression"),
        "addressfamily" => Fate::Config("AddressFamily"),
        "bindaddress" => Fate::Config("BindAddress"),
        "identityagent" => Fate::Config("IdentityAgent"),
        "certificatefile" => Fate::Config("CertificateFile"),
        _ => Fate::ConfigAsIs,
    }
}

/// The fate of an option of the command line that is none of the configuration's.
pub fn flag_fate(flag: char) -> Fate {
    match flag {
        'f' => Fate::NotNeeded("the service manager keeps the agent in the background"),
        'q' | 'v' => Fate::NotNeeded("`wayhome -q` and `wayhome -v` say how much it logs"),
        'M' | 'S' | 'O' => Fate::NotNeeded(SUPERVISED),
        't' | 'e' | 's' => Fate::NotNeeded(NO_SESSION),
        'g' => Fate::NotNeeded("it concerns `-L`, and no forward to home"),
        'y' | 'E' => Fate::Differs("wayhome logs to the journal"),
        'A' | 'X' | 'Y' => Fate::Differs(COMES_IN),
        'L' | 'D' => Fate::Lost(LOCAL),
        'w' => Fate::Lost("wayhome makes no network interface"),
        '4' | '6' => Fate::Config("AddressFamily"),
        'C' => Fate::Config("Compression"),
        'K' => Fate::Config("GSSAPIAuthentication"),
        'b' => Fate::Config("BindAddress"),
        'B' => Fate::Config("BindInterface"),
        'c' => Fate::Config("Ciphers"),
        'm' => Fate::Config("MACs"),
        'I' => Fate::Config("PKCS11Provider"),
        'J' => Fate::Config("ProxyJump"),
        'F' => Fate::Config("Include"),
        // -N -T -n -a -x -k -1 -2: what an agent's ssh is like anyway.
        _ => Fate::As(flag),
    }
}

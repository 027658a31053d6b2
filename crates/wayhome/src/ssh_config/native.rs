//! A home on the native road, as a block for OpenSSH: `wayhome connect` in place of a jump.
//!
//! Such a block names a program to run. So it is made on the laptop itself, of the laptop's own pins,
//! and never read from a text that came from elsewhere.

use std::path::PathBuf;

use wayhome_core::address::NativeAddress;
use wayhome_core::host_key::HostKey;
use wayhome_core::name::Name;

use super::render::{Block, control_lines, push_shared};
use super::values::{Alias, UserName, ValueError};
use crate::import::shell;

/// How the laptop reaches a home through `wayhome connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeRoad {
    /// What a person types after `ssh`.
    pub alias: Name,
    /// The home's name, by which its key is pinned.
    pub home: Name,
    /// The gateways to try; all that are pinned if there are none.
    pub gateways: Vec<NativeAddress>,
    /// Whom to log in as; the laptop's own user name if `None`.
    pub user: Option<UserName>,
    /// Where `wayhome` is, from the root on.
    pub program: PathBuf,
    /// The keys that its `sshd` may prove itself with; what it shows at the first contact if empty.
    pub host_keys: Vec<HostKey>,
}

impl NativeRoad {
    /// What stands after `Host`.
    pub(super) fn host(&self) -> Result<Alias, ValueError> {
        self.alias.as_str().parse()
    }

    pub(super) fn block(&self, alias: Alias, multiplex: bool, keys_of: Option<&Name>) -> Block {
        let mut lines = Vec::new();
        lines.extend(self.user.iter().map(|user| ("User", user.to_string())));
        lines.push(("ProxyCommand", self.command()));
        lines.push(("HostKeyAlias", self.alias.to_string()));
        if self.host_keys.is_empty() {
            // The home has proven its pinned key before ssh sees a byte, so that nobody on the way
            // can show a key of his own; only another one later would be a surprise.
            push_shared(&mut lines, "accept-new", None);
        } else {
            push_shared(&mut lines, "yes", keys_of);
        }
        lines.extend(control_lines(&alias).filter(|_| multiplex));
        Block { alias, lines }
    }

    /// For ssh, which expands `%`, and for the shell to which ssh gives it.
    fn command(&self) -> String {
        let mut words = vec![self.program.display().to_string(), "connect".to_owned()];
        for gateway in &self.gateways {
            words.extend(["--gateway".to_owned(), gateway.to_string()]);
        }
        words.push(self.home.to_string());
        shell::line(words).replace('%', "%%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_ssh_nor_the_shell_reads_the_command_otherwise() {
        let road = NativeRoad {
            alias: "attic".parse().unwrap(),
            home: "home-ubuntu".parse().unwrap(),
            gateways: vec!["wayhome://[2001:db8::1]".parse().unwrap()],
            user: Some("fan".parse().unwrap()),
            program: "/opt/50% $(id)/it's/wayhome".into(),
            host_keys: Vec::new(),
        };
        let block = road.block(road.host().unwrap(), false, None).to_string();
        assert_eq!(
            block,
            "Host attic\n  User fan\n  ProxyCommand '/opt/50%% $(id)/it'\\''s/wayhome' connect \
             --gateway 'wayhome://[2001:db8::1]' home-ubuntu\n  HostKeyAlias attic\n  \
             StrictHostKeyChecking accept-new\n  ServerAliveInterval 30\n  ServerAliveCountMax 3\n"
        );
    }
}

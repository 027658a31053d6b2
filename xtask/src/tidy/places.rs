//! Rules about places: no address of a stranger, and no path of somebody's own machine.

use std::net::Ipv4Addr;

use super::Finding;

/// Addresses in code and documents are examples, or lead nowhere outside.
pub fn addresses_are_examples(path: &str, text: &str) -> Vec<Finding> {
    if !is_read_by_people(path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for address in addresses(line).filter(|address| !is_harmless(*address)) {
            let remedy = format!("`{address}` is somebody's; use one of 203.0.113.0/24");
            found.push(Finding::at(at + 1, remedy));
        }
    }
    found
}

/// Paths are those of any machine.
pub fn paths_are_nobodys(path: &str, text: &str) -> Vec<Finding> {
    if !is_read_by_people(path) {
        return Vec::new();
    }
    // Spelled so that this file passes its own rule.
    let owned = [concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/root/", ".cargo")];
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for owned in owned.into_iter().filter(|owned| has_path(line, owned)) {
            let remedy =
                format!("`{owned}` is a path of one machine; name it relative to the tree");
            found.push(Finding::at(at + 1, remedy));
        }
    }
    found
}

fn is_read_by_people(path: &str) -> bool {
    path.ends_with(".rs") || path.ends_with(".md")
}

/// Whether the line has the path itself, and not one that contains it (`target/work/x`).
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.~/}".contains(c))
    })
}

fn addresses(line: &str) -> impl Iterator<Item = Ipv4Addr> {
    // A word of digits and dots; a full stop may end it.
    line.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_'))
        .filter_map(|word| word.trim_end_matches('.').parse().ok())
}

fn is_harmless(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_documentation()
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        // Net masks, and the broadcast address.
        || a == 255
        // Shared between a provider and its customers.
        || (a == 100 && (64..128).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_and_private_addresses_pass() {
        let text = "ssh root@203.0.113.10, 198.51.100.7 or 192.0.2.1.\n127.0.0.1:22 10.1.2.3\n\
                    192.168.1.10/24 0.0.0.0 255.255.255.0 100.64.0.1 169.254.1.1\nversion 1.2.3\n";
        assert_eq!(addresses_are_examples("README.md", text), []);
    }

    #[test]
    fn addresses_of_strangers_are_found() {
        // Put together here, for this file is read by the rule too.
        let stranger = ["8.8", "4.4"].join(".");
        for line in [
            format!("ssh root@{stranger}"),
            format!("let a = \"{stranger}:22\";"),
            format!("It is {stranger}."),
            format!("[{stranger}]:2222"),
        ] {
            assert_eq!(addresses_are_examples("a.rs", &line).len(), 1, "{line}");
            assert_eq!(addresses_are_examples("a.toml", &line), []);
        }
        assert_eq!(addresses_are_examples("a.rs", &format!("v{stranger} {stranger}.5")), []);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let owned = concat!("/wo", "rk/tree");
        assert_eq!(paths_are_nobodys("a.rs", &format!("a\nlet p = \"{owned}\";")).len(), 1);
        assert_eq!(paths_are_nobodys("a.md", &format!("see {owned}")).len(), 1);
        assert_eq!(paths_are_nobodys("a.md", &format!("see target{owned}")), []);
        assert_eq!(paths_are_nobodys("a.md", "/etc/wayhome/agent.toml and ~/.ssh/config"), []);
    }
}

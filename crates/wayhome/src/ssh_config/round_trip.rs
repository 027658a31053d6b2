//! Tests of both directions together: what is printed is read back, and nothing else is read.

use std::collections::BTreeSet;

use proptest::prelude::*;
use wayhome_core::host_key::HostKey;

use super::render::render_installed;
use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKurtUwOsd/SR5/pBFuwoXrsDbAiBVQUW7oSOlMEPUcL";

fn any_key() -> impl Strategy<Value = HostKey> {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-P][A-Za-z0-9+/]{42}"
        .prop_map(|text| text.parse().unwrap())
}

fn any_keys() -> impl Strategy<Value = Vec<HostKey>> {
    // Sorted and each once, as they are printed.
    proptest::collection::btree_set(any_key(), 1..3).prop_map(|keys| keys.into_iter().collect())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: String) -> T {
    text.parse().unwrap()
}

prop_compose! {
    fn any_gateway()(
        alias in "gw-[a-z][a-z0-9-]{0,20}".prop_map(parsed),
        host in "(gw[a-z0-9.]{1,9}\\.example\\.org|203\\.0\\.113\\.[1-9]|2001:db8::[1-9a-f]{1,4})"
            .prop_map(parsed),
        port in prop_oneof![Just(22u16), 1..=u16::MAX],
        user in proptest::option::of("[a-z_][a-z0-9_.@-]{0,12}".prop_map(parsed)),
        identity in proptest::option::of("(~|/home/é)/[ A-Za-z0-9._(),=-]{0,12}[a-z]".prop_map(parsed)),
        host_keys in any_keys(),
    ) -> GatewayRoad {
        GatewayRoad { alias, host, port, user, identity, host_keys }
    }
}

prop_compose! {
    fn any_home()(
        alias in "home-[a-z0-9-]{0,12}".prop_map(parsed),
        port in 1..=u16::MAX,
        user in proptest::option::of("[a-z]{1,8}".prop_map(parsed)),
        via in any::<proptest::sample::Index>(),
        host_keys in any_keys(),
    ) -> (HomeRoad, proptest::sample::Index) {
        (HomeRoad { alias, port, user, via: 0, host_keys }, via)
    }
}

fn any_roads() -> impl Strategy<Value = Roads> {
    let gateways = proptest::collection::vec(any_gateway(), 1..4);
    let homes = proptest::collection::vec(any_home(), 1..4);
    (gateways, homes, any::<bool>()).prop_filter_map("not to be told apart", |(g, h, multiplex)| {
        let homes = h.into_iter().map(|(home, via)| HomeRoad { via: via.index(g.len()), ..home });
        let native = Vec::new();
        let mut roads = Roads { homes: homes.collect(), gateways: g, native, multiplex };
        // What has the same name is known by the same keys.
        for place in 0..roads.homes.len() {
            let keys: BTreeSet<HostKey> = roads
                .homes
                .iter()
                .filter(|home| home.alias == roads.homes[place].alias)
                .flat_map(|home| home.host_keys.clone())
                .collect();
            roads.homes[place].host_keys = keys.into_iter().collect();
        }
        let names: BTreeSet<_> = roads.gateways.iter().map(GatewayRoad::known_name).collect();
        (names.len() == roads.gateways.len() && roads.check().is_ok()).then_some(roads)
    })
}

fn example() -> Roads {
    let gateway = |alias: &str, host: &str| GatewayRoad {
        alias: alias.parse().unwrap(),
        host: host.parse().unwrap(),
        port: 22,
        user: Some("root".parse().unwrap()),
        identity: Some("~/.ssh/gateway key.pem".parse().unwrap()),
        host_keys: vec![KEY.parse().unwrap()],
    };
    let home = |alias: &str, port, via| HomeRoad {
        alias: alias.parse().unwrap(),
        port,
        user: Some("fan".parse().unwrap()),
        via,
        host_keys: vec![KEY.parse().unwrap()],
    };
    Roads {
        gateways: vec![gateway("ecs", "203.0.113.7"), gateway("spare", "gw.example.org")],
        homes: vec![
            home("home-ubuntu", 2222, 0),
            home("home-ubuntu", 2222, 1),
            home("home-ubuntu-2", 2223, 0),
        ],
        native: Vec::new(),
        multiplex: true,
    }
}

/// The example as it is printed.
pub(super) fn printed() -> String {
    render(&example()).unwrap()
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The example with one line put in before the first that begins so.
fn with_line(before: &str, line: &str) -> (usize, String) {
    let text = render(&example()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let place = lines.iter().position(|line| line.trim_start().starts_with(before)).unwrap();
    lines.insert(place, line);
    (place + 1, lines.join("\n") + "\n")
}

#[test]
fn reads_as_a_person_would_write_it() {
    let text = render(&example()).unwrap();
    let expected = "\
# --- wayhome: begin config ---
Host ecs
  HostName 203.0.113.7
  User root
  IdentityFile \"~/.ssh/gateway key.pem\"
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  ServerAliveInterval 30
  ServerAliveCountMax 3
";
    assert!(text.contains(expected), "{text}");
    let expected = "
Host home-ubuntu-via-spare
  HostName 127.0.0.1
  Port 2222
  User fan
  ProxyJump spare
  HostKeyAlias home-ubuntu
  StrictHostKeyChecking yes
  ServerAliveInterval 30
  ServerAliveCountMax 3
  ControlMaster auto
  ControlPath ~/.ssh/wayhome-home-ubuntu-via-spare-%r
  ControlPersist 60s

";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains(&format!("\nhome-ubuntu {KEY}\nhome-ubuntu-2 {KEY}\n")), "{text}");
}

#[test]
fn a_road_that_could_be_mistaken_is_not_written() {
    let refused = |change: &dyn Fn(&mut Roads)| {
        let mut roads = example();
        change(&mut roads);
        render(&roads).unwrap_err()
    };
    assert_eq!(refused(&|r| r.homes.clear()), RoadsError::NoHome);
    assert!(matches!(refused(&|r| r.homes[0].via = 9), RoadsError::NoSuchGateway(_)));
    let same = |r: &mut Roads| r.gateways[0].alias = "home-ubuntu".parse().unwrap();
    assert!(matches!(refused(&same), RoadsError::SameAlias(_)));
    let two_servers = |r: &mut Roads| r.homes[2].alias = "home-ubuntu".parse().unwrap();
    assert!(matches!(refused(&two_servers), RoadsError::SameAlias(_)));
    let other = KEY.replace("IKurt", "IAurt");
    let other_keys = |r: &mut Roads| r.homes[1].host_keys = vec![other.parse().unwrap()];
    assert!(matches!(refused(&other_keys), RoadsError::SameAlias(_)));
    let third = |r: &mut Roads| r.homes[2] = r.homes[1].clone();
    assert!(matches!(refused(&third), RoadsError::SameAlias(_)));
    assert!(matches!(refused(&|r| r.gateways[1].host_keys.clear()), RoadsError::NoKeys(_)));
    let long = |r: &mut Roads| r.gateways[1].alias = "g".repeat(60).parse().unwrap();
    assert!(matches!(refused(&long), RoadsError::BadAlias(_)));
    let known = |r: &mut Roads| r.gateways[1].host = "Home-Ubuntu".parse().unwrap();
    assert!(matches!(refused(&known), RoadsError::SameKnownName(_)));
}

#[test]
fn what_runs_programs_is_refused_wherever_it_stands() {
    for line in [
        "  ProxyCommand sh -c id",
        "  proxycommand sh -c id",
        "  ProxyCommand=sh",
        "  LocalCommand id",
        "  PermitLocalCommand yes",
        "  KnownHostsCommand /bin/sh",
        "  RemoteCommand id",
        "  Include ~/x",
        "  UserKnownHostsFile /dev/null",
        "  GlobalKnownHostsFile /dev/null",
        "  SendEnv *",
        "  ForwardAgent yes",
        "  PKCS11Provider /tmp/x.so",
        "  XAuthLocation /tmp/x",
        "  Match exec \"id\"",
        "Match exec \"id\"",
        "Host *",
        "Host * home-ubuntu",
        "Host !x",
        "Host a b",
        "host a",
        "  Hostname 203.0.113.9",
        "  HostName \"203.0.113.9\"",
        "  \"ProxyCommand\" x",
        "  User root",
        "  Port 0022x",
        "  Port 0",
        "  Port 65536",
        "  Port +22",
        "  Port",
        "  StrictHostKeyChecking no",
        "  HostKeyAlias other",
        "  ProxyJump spare",
        "  ProxyJump none",
        "  ControlPath /tmp/x",
        "  ServerAliveInterval 0",
        "  IdentitiesOnly no",
        "\u{feff}",
        "  User fan\u{b}ProxyCommand",
        "  User\u{a0}x",
    ] {
        let (_, text) = with_line("StrictHostKeyChecking", line);
        assert!(parse(&text).is_err(), "{line:?} was read");
    }
    for line in ["ProxyCommand x", "Host x", "Include x", "x"] {
        for before in ["# Part 1", "# --- wayhome: begin known_hosts", "203.0.113.7 "] {
            let (number, text) = with_line(before, line);
            let said = refusal(&text);
            assert!(said.starts_with(&format!("line {number}: ")), "{line:?}: {said}");
        }
    }
}

#[test]
fn a_refusal_names_the_line_and_the_reason() {
    let (number, text) = with_line("User fan", "  ProxyCommand sh -c id");
    let expected =
        format!("line {number}: `ProxyCommand` is not among the options that wayhome prints");
    assert_eq!(refusal(&text), expected);
    let text = render(&example()).unwrap();
    let said = refusal(&text.replace("ssh-config 1 ", "ssh-config 2 "));
    assert!(said.starts_with("line 1: the text is of version `2`"), "{said}");
    assert!(refusal("").contains("there is no line `# wayhome ssh-config 1 NAME`"));
    assert!(refusal(&" ".repeat(MAX_TEXT + 1)).contains("256 KB"));
}

#[test]
fn keys_must_be_plain_and_of_somebody_here() {
    for line in [
        format!("@cert-authority * {KEY}"),
        format!("@revoked home-ubuntu {KEY}"),
        format!("|1|c2FsdA==|aGFzaA== {KEY}"),
        format!("* {KEY}"),
        format!("home-ubuntu,github.example.org {KEY}"),
        format!("bank.example.org {KEY}"),
    ] {
        let (number, text) = with_line("# --- wayhome: end known_hosts", &line);
        let said = refusal(&text);
        assert!(said.starts_with(&format!("line {number}: ")), "{line}: {said}");
    }
    // Without any key of the gateway the text is refused as a whole.
    let text = render(&example()).unwrap().replace(&format!("203.0.113.7 {KEY}\n"), "");
    assert!(refusal(&text).contains("no host key of `203.0.113.7`"), "{}", refusal(&text));
}

#[test]
fn mail_and_editors_may_have_touched_it() {
    let text = render(&example()).unwrap();
    let read = parse(&text).unwrap();
    assert_eq!(parse(&text.replace('\n', "\r\n")).unwrap(), read);
    assert_eq!(parse(text.trim_end()).unwrap(), read);
    assert_eq!(parse(&text.replace("  ", "\t")).unwrap(), read);
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(roads in any_roads()) {
        let text = render(&roads).unwrap();
        let read = parse(&text).unwrap();
        prop_assert_eq!(&read.name, roads.name().unwrap());
        // Nothing is shared if every alias is too long for it.
        let multiplex = roads.multiplex && text.contains("ControlMaster");
        prop_assert_eq!(read.roads, Roads { multiplex, ..roads });
    }

    #[test]
    fn a_text_that_was_cut_is_refused(roads in any_roads(), cut in any::<proptest::sample::Index>()) {
        let text = render(&roads).unwrap();
        let cut = cut.index(text.trim_end().len());
        prop_assume!(text.is_char_boundary(cut));
        prop_assert!(parse(text.split_at(cut).0).is_err());
    }

    /// Whatever is put into a text: what would be written has only options that run nothing.
    #[test]
    fn nothing_else_gets_through(
        place in any::<proptest::sample::Index>(),
        line in prop_oneof![
            "[ \t]{0,2}(Host|User|Port|HostName|ProxyJump|ProxyCommand|Include|Match|LocalCommand)[ =\t]{1,2}.{0,20}",
            "(home-ubuntu|@revoked|[*]|[|]1[|]a[|]b) ssh-ed25519 .{0,70}",
            any::<String>(),
        ],
        replace in any::<bool>(),
    ) {
        let text = render(&example()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        let place = place.index(lines.len());
        if replace { lines[place] = &line } else { lines.insert(place, &line) }
        let Ok(printed) = parse(&lines.join("\n")) else { return Ok(()) };
        let (config, known_hosts) = render_installed(&printed.roads).unwrap();
        for line in config.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let keyword = line.split_whitespace().next().unwrap();
            let known = ["Host", "UserKnownHostsFile"].contains(&keyword)
                || parse::KEYWORDS.contains(&keyword);
            prop_assert!(known, "{}", line);
            prop_assert!(!line.contains(['$', '`', '\\', '\'', '\r']), "{}", line);
            prop_assert!(!line.contains('%') || line.starts_with("  ControlPath ~/.ssh/wayhome-home-"));
        }
        prop_assert!(known_hosts.lines().all(|line| !line.starts_with(['@', '|', '*'])));
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        prop_assert!(parse(&text).is_err());
    }
}

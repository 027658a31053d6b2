//! Tunnels as people write them.

use proptest::prelude::*;

use super::*;

fn place() -> Place {
    Place {
        user: Some("fan".into()),
        home: "/home/fan".into(),
        folder: "/srv".into(),
        environment: BTreeMap::new(),
    }
}

fn read(line: &str) -> Result<Tunnel, TunnelError> {
    read_with(line, Exposure::Ask)
}

fn read_with(line: &str, exposure: Exposure) -> Result<Tunnel, TunnelError> {
    let words = shell::split(line, &|_| None).unwrap();
    Tunnel::read(&words, &place(), exposure)
}

fn noted(tunnel: &Tunnel, weight: Weight) -> Vec<&str> {
    let notes = tunnel.notes.notes.iter().filter(|note| note.weight == weight);
    notes.map(|note| note.what.as_str()).collect()
}

/// Section 3 of the usual guide, and section 6.
#[test]
fn the_tunnels_of_the_guide() {
    let by_hand = "ssh -i ~/.ssh/id_ed25519 -N -o ServerAliveInterval=30 -o ServerAliveCountMax=3 \
                   -o ExitOnForwardFailure=yes -R 2222:localhost:22 root@203.0.113.10";
    let unit = "/usr/bin/autossh -M 0 -N -i /home/fan/.ssh/id_ed25519 -o 'ServerAliveInterval=30' \
                -o ServerAliveCountMax=3 -o ExitOnForwardFailure=yes -R 2222:localhost:22 \
                root@203.0.113.10";
    // The tilde of the first is the shell's, which knows no home here.
    let words =
        shell::split(by_hand, &|name| (name == "HOME").then(|| "/home/fan".into())).unwrap();
    let by_hand = Tunnel::read(&words, &place(), Exposure::Ask).unwrap();
    let unit = read(unit).unwrap();
    for tunnel in [&by_hand, &unit] {
        assert_eq!(tunnel.gateway, "root@203.0.113.10".parse().unwrap());
        assert_eq!(tunnel.identity.as_deref(), Some(Path::new("/home/fan/.ssh/id_ed25519")));
        assert_eq!(tunnel.services, [Service::from_forward("2222:localhost:22").unwrap()]);
        let unneeded = noted(tunnel, Weight::NotNeeded);
        assert_eq!(
            unneeded,
            [
                "-o ServerAliveInterval=30",
                "-o ServerAliveCountMax=3",
                "-o ExitOnForwardFailure=yes"
            ]
        );
        assert!(tunnel.notes.host_block.is_empty());
        assert_eq!(tunnel.notes.loses().count(), 0);
    }
}

#[test]
fn where_and_as_whom() {
    for (line, address) in [
        ("ssh -R 1:a:22 gw", "gw"),
        ("ssh -R 1:a:22 -p 2200 -l root gw", "ssh://root@gw:2200"),
        ("ssh -l root -R 1:a:22 fan@gw", "root@gw"),
        ("ssh -R 1:a:22 -oUser=root -o 'Port 2200' fan@gw", "ssh://root@gw:2200"),
        ("ssh -R 1:a:22 -p 2200 -p 2201 gw", "ssh://gw:2200"),
        ("ssh -R 1:a:22 ssh://root@gw:2200", "ssh://root@gw:2200"),
        ("ssh -R 1:a:22 root@2001:db8::1", "root@2001:db8::1"),
        ("ssh gw -R 1:a:22 -l root", "root@gw"),
    ] {
        assert_eq!(read(line).unwrap().gateway, address.parse().unwrap(), "{line}");
    }
    assert_eq!(noted(&read("ssh -R 1:a:22 gw").unwrap(), Weight::Mind)[0], "no login for gw");
}

#[test]
fn the_key() {
    for (option, path) in [
        ("-i /k", Some("/k")),
        ("-i '~/.ssh/k'", Some("/home/fan/.ssh/k")),
        ("-i keys/k", Some("/srv/keys/k")),
        ("-o IdentityFile=%d/.ssh/%h-%u%%", Some("/home/fan/.ssh/gw-fan%")),
        ("-i none -i /k", Some("/k")),
        ("-i '~bob/k'", None),
        ("-i '${KEYS}/k'", None),
        ("", None),
    ] {
        let tunnel = read(&format!("ssh -R 1:a:22 {option} root@gw")).unwrap();
        assert_eq!(tunnel.identity.as_deref(), path.map(Path::new), "{option}");
        assert_eq!(noted(&tunnel, Weight::Mind).is_empty(), path.is_some(), "{option}");
    }
    let two = read("ssh -R 1:a:22 -i /a -i /b root@gw").unwrap();
    assert_eq!(two.identity.as_deref(), Some(Path::new("/a")));
    assert_eq!(two.notes.host_block, ["IdentityFile /b"]);
}

#[test]
fn forwards_in_each_form() {
    let line = "ssh -NfTR 2222:localhost:22 -R2223:pi:22 -R 127.0.0.1:8080:[::1]:80 \
                -o RemoteForward='9000 /run/app.sock' -R 2224:127.0.0.1:22 root@gw";
    let services = read(line).unwrap().services;
    let shown: Vec<String> =
        services.iter().map(|s| format!("{} {} {}", s.name, s.port.unwrap(), s.target)).collect();
    let expected = [
        "ssh 2222 localhost:22",
        "pi 2223 pi:22",
        "port-8080 8080 [::1]:80",
        "port-2224 2224 127.0.0.1:22",
        "port-9000 9000 /run/app.sock",
    ];
    // ssh's order: as they stand.
    let mut sorted = shown.clone();
    sorted.sort();
    let mut wanted = expected.map(str::to_owned).to_vec();
    wanted.sort();
    assert_eq!(sorted, wanted);
    assert!(services.iter().all(|service| service.bind == Bind::Loopback));
}

#[test]
fn a_public_port_must_be_asked_for_twice() {
    for bind in ["*:", ":", "0.0.0.0:", "[::]:", "203.0.113.10:"] {
        let line = format!("ssh -g -R {bind}8080:localhost:80 root@gw");
        assert_eq!(read(&line), Err(TunnelError::Public(8080)), "{bind}");
        let kept = read_with(&line, Exposure::Public).unwrap();
        assert!(matches!(kept.services[0].bind, Bind::Public(_)), "{bind}");
        let closed = read_with(&line, Exposure::Loopback).unwrap();
        assert_eq!(closed.services[0].bind, Bind::Loopback, "{bind}");
    }
}

#[test]
fn what_matters_to_ssh_goes_to_its_configuration() {
    let line = "ssh -4 -C -J bastion -F /etc/tunnel.conf -b 192.0.2.7 -c aes128-gcm@openssh.com \
                -o HostKeyAlias=cloud -o KexAlgorithms=curve25519-sha256 \
                -o 'ProxyCommand=nc -X 5 %h %p' -R 1:a:22 root@gw";
    let notes = read(line).unwrap().notes;
    assert_eq!(
        notes.host_block,
        [
            "AddressFamily inet",
            "Compression yes",
            "ProxyJump bastion",
            "Include /etc/tunnel.conf",
            "BindAddress 192.0.2.7",
            "Ciphers aes128-gcm@openssh.com",
            "HostKeyAlias cloud",
            "KexAlgorithms curve25519-sha256",
            "ProxyCommand nc -X 5 %h %p",
        ]
    );
    assert!(notes.to_string().contains("\nHost gw\n    AddressFamily inet\n"), "{notes}");
}

#[test]
fn what_an_agent_does_not_do_is_named() {
    let line = "ssh -R 1:a:22 -L 80:b:80 -D 1080 -R 1080 -R 0:a:22 -A -w 0:0 root@gw sleep 9";
    let tunnel = read(line).unwrap();
    assert_eq!(tunnel.services.len(), 1);
    let lost = noted(&tunnel, Weight::Lost);
    assert_eq!(lost, ["-L 80:b:80", "-D 1080", "-R 1080", "-R 0:a:22", "-w 0:0"]);
    let mind = noted(&tunnel, Weight::Mind);
    assert!(mind.contains(&"-A") && mind.contains(&"sleep 9"), "{mind:?}");
    let trusting = read("ssh -R 1:a:22 -i /k -o StrictHostKeyChecking=no root@gw").unwrap();
    assert_eq!(noted(&trusting, Weight::Mind), ["-o StrictHostKeyChecking=no"]);
}

#[test]
fn what_stands_around_ssh() {
    for line in [
        "env AUTOSSH_GATETIME=0 autossh -M 20000 -R 1:a:22 root@gw",
        "/bin/sh -c 'AUTOSSH_GATETIME=0 exec /usr/bin/autossh -M 20000 -R 1:a:22 root@gw'",
        "bash -lc 'sh -c \"AUTOSSH_GATETIME=0 autossh -M20000 -R 1:a:22 root@gw\"'",
    ] {
        let tunnel = read(line).unwrap();
        let unneeded = noted(&tunnel, Weight::NotNeeded);
        assert_eq!(unneeded, ["-M 20000", "AUTOSSH_GATETIME=0"], "{line}");
    }
}

#[test]
fn says_why_it_is_no_tunnel() {
    let shell = |c| TunnelError::Shell(ShellError::Beyond(c));
    for (line, error) in [
        ("''", TunnelError::Program(String::new())),
        ("sshpass -p x ssh gw", TunnelError::Program("sshpass".into())),
        ("sh tunnel.sh", TunnelError::Program("sh".into())),
        ("sh -c 'while :; do ssh gw; done'", shell(';')),
        ("ssh -N", TunnelError::NoDestination),
        ("ssh -N gw", TunnelError::NoForward),
        ("ssh -W a:1 gw", TunnelError::NoTunnel('W')),
        ("ssh -R 1:a:22 -p x gw", TunnelError::Port("x".into())),
        ("ssh -R 1:a:22 -o Port gw", TunnelError::Option("Port".into())),
        ("ssh -R 1:a:22 -R 1:b:22 gw", TunnelError::Twice(1)),
        ("ssh -P gw", TunnelError::Arguments(SshArgsError::Ambiguous('P'))),
    ] {
        assert_eq!(read(line), Err(error.clone()), "{line}");
        assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    }
    assert!(matches!(read("ssh -R 1:a:22 'a b'"), Err(TunnelError::Destination(_))));
    assert!(matches!(read("ssh -R 1:a:22 -l '$(id)' gw"), Err(TunnelError::Destination(_))));
    assert_eq!(Tunnel::read(&[], &place(), Exposure::Ask), Err(TunnelError::Empty));
}

fn forwards() -> impl Strategy<Value = Vec<(u16, String)>> {
    let target = prop_oneof![Just("localhost:22"), Just("nas:22"), Just("localhost:80")];
    prop::collection::btree_map(1..=u16::MAX, target.prop_map(str::to_owned), 1..5)
        .prop_map(|map| map.into_iter().collect())
}

proptest! {
    /// However it is written, the tunnel is the same.
    #[test]
    fn the_way_it_is_written_does_not_matter(
        forwards in forwards(),
        port in 1..=u16::MAX,
        styles in prop::collection::vec(0..3_u8, 8),
    ) {
        let mut words = vec!["autossh".to_owned(), "-M".into(), "0".into(), "-fNT".into()];
        for ((listen, target), style) in forwards.iter().zip(&styles) {
            match style {
                0 => words.push(format!("-R{listen}:{target}")),
                1 => words.extend(["-R".into(), format!("{listen}:{target}")]),
                _ => words.extend(["-o".into(), format!("RemoteForward={listen} {target}")]),
            }
        }
        match styles[7] {
            0 => words.extend([format!("-p{port}"), "root@gw".into()]),
            1 => words.extend(["root@gw".into(), "-o".into(), format!("Port={port}")]),
            _ => words.push(format!("ssh://root@gw:{port}")),
        }
        let tunnel = Tunnel::read(&words, &place(), Exposure::Ask).unwrap();
        prop_assert_eq!(tunnel.gateway.to_string(), format!("root@gw:{port}"));
        let found: Vec<(u16, String)> =
            tunnel.services.iter().map(|s| (s.port.unwrap(), s.target.to_string())).collect();
        prop_assert_eq!(found, forwards);
    }

    #[test]
    fn no_command_is_too_strange(words in prop::collection::vec(any::<String>(), 0..8)) {
        let _ = Tunnel::read(&words, &place(), Exposure::Ask);
        let ssh = std::iter::once("ssh".to_owned()).chain(words).collect::<Vec<_>>();
        let _ = Tunnel::read(&ssh, &place(), Exposure::Public);
    }
}

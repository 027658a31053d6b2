//! What real `ssh` makes of the text: as it reads it, and on a real road with real servers.

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use wayhome::ssh_config::{Roads, render};
use wayhome_lab::keys::Key;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Lab, Machine, OpenSsh, Sshd, assert_eventually, needs_lab};

use super::{KEY_A, KEY_B, gateway, home, roads, write_by};

const SOON: Duration = Duration::from_secs(10);

/// How the text got onto the laptop.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// A person pasted both parts where the comments say.
    Pasted,
    /// `wayhome ssh-config --write`.
    Installed,
}

/// Puts the roads on a laptop, whose root has this configuration of its own already.
fn put(machine: &Machine, roads: &Roads, form: Form, own_config: &str) {
    let home = machine.home_of("root").unwrap();
    let folder = machine.file(home.join(".ssh"));
    fs::create_dir_all(&folder).unwrap();
    machine.sh("rm -rf ~/.ssh/wayhome ~/.ssh/config ~/.ssh/known_hosts").unwrap();
    fs::write(folder.join("config"), own_config).unwrap();
    let text = render(roads).unwrap();
    match form {
        Form::Pasted => {
            let part = |begin: &str, end: &str| {
                let (_, after) = text.split_once(begin).unwrap();
                after.split_once(end).unwrap().0.to_owned()
            };
            let config = part("begin config ---\n", "# --- wayhome: end config");
            let known = part("begin known_hosts ---\n", "# --- wayhome: end known_hosts");
            fs::write(folder.join("config"), config + own_config).unwrap();
            fs::write(folder.join("known_hosts"), known).unwrap();
        }
        Form::Installed => {
            let program = machine.bring(&std::env::current_exe().unwrap()).unwrap();
            let output = write_by(machine.command(&program), &home, &text);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    }
}

/// The lines of `ssh -G ALIAS` that begin with these words.
fn meaning(machine: &Machine, alias: &str, words: &[&str]) -> Vec<String> {
    let all = machine.sh(&format!("ssh -G {alias}")).unwrap();
    let lines = words.iter().map(|word| {
        let line = all.lines().find(|line| line.split(' ').next() == Some(word));
        line.map_or_else(|| format!("no {word}"), str::to_owned)
    });
    lines.collect()
}

#[test]
fn ssh_reads_what_is_meant() {
    needs_lab!();
    let laptop = Machine::start("laptop").unwrap();
    let mut roads = roads("home-ubuntu");
    roads.multiplex = true;
    roads.gateways[0].port = 2200;
    roads.gateways.push(gateway("spare", "2001:db8::7", KEY_A));
    roads.gateways[1].identity = Some("~/.ssh/my keys/id".parse().unwrap());
    roads.homes.push(home("home-ubuntu", 2222, KEY_B));
    roads.homes[2].via = 1;
    // Lines without a `Host` above them count for every host, and must go on to do so.
    let own =
        "User everyone\r\nServerAliveInterval 7\r\n\r\nHost *\r\n  Port 1234\r\n  User other\r\n";
    for form in [Form::Pasted, Form::Installed] {
        put(&laptop, &roads, form, own);
        let words = [
            "hostname",
            "port",
            "user",
            "proxyjump",
            "hostkeyalias",
            "stricthostkeychecking",
            "serveraliveinterval",
            "serveralivecountmax",
            "controlmaster",
            "controlpersist",
        ];
        let lines = |port: &str, jump: &str, alias: &str| {
            [
                "hostname 127.0.0.1",
                port,
                "user fan",
                jump,
                alias,
                "stricthostkeychecking true",
                "serveraliveinterval 30",
                "serveralivecountmax 3",
                "controlmaster auto",
                "controlpersist 60",
            ]
            .map(str::to_owned)
        };
        let alias = "hostkeyalias home-ubuntu";
        let expected = lines("port 2222", "proxyjump ecs", alias);
        assert_eq!(meaning(&laptop, "home-ubuntu", &words), expected, "{form:?}");
        let expected = lines("port 2222", "proxyjump spare", alias);
        assert_eq!(meaning(&laptop, "home-ubuntu-via-spare", &words), expected, "{form:?}");
        let expected = lines("port 2223", "proxyjump ecs", "hostkeyalias home-ubuntu-2");
        assert_eq!(meaning(&laptop, "home-ubuntu-2", &words), expected, "{form:?}");

        let words = ["hostname", "port", "user", "identityfile", "identitiesonly"];
        let expected = ["203.0.113.10", "2200", "way", "~/.ssh/gateway.pem", "yes"];
        let expected: Vec<_> =
            words.iter().zip(expected).map(|(w, e)| format!("{w} {e}")).collect();
        assert_eq!(meaning(&laptop, "ecs", &words), expected, "{form:?}");
        let words = ["hostname", "identityfile", "proxyjump", "stricthostkeychecking"];
        let expected = [
            "hostname 2001:db8::7",
            "identityfile ~/.ssh/my keys/id",
            "no proxyjump",
            "stricthostkeychecking true",
        ];
        assert_eq!(meaning(&laptop, "spare", &words), expected, "{form:?}");

        let words = ["user", "serveraliveinterval", "port", "proxyjump", "stricthostkeychecking"];
        let expected = [
            "user everyone",
            "serveraliveinterval 7",
            "port 1234",
            "no proxyjump",
            "stricthostkeychecking ask",
        ];
        assert_eq!(meaning(&laptop, "elsewhere.example.org", &words), expected, "{form:?}");

        let known = match form {
            Form::Pasted => "userknownhostsfile /run/homes/root/.ssh/known_hosts",
            Form::Installed => {
                "userknownhostsfile /run/homes/root/.ssh/wayhome/home-ubuntu.known_hosts"
            }
        };
        let found = meaning(&laptop, "home-ubuntu", &["userknownhostsfile"]).join("");
        assert!(found.starts_with(known), "{form:?}: {found}");
        let path = |alias: &str| meaning(&laptop, alias, &["controlpath"]);
        assert_ne!(path("home-ubuntu"), path("home-ubuntu-via-spare"), "{form:?}");
    }
}

/// The road of the write-up, with throwaway servers.
struct Road {
    lab: Lab,
    gateway: Sshd,
    home: Sshd,
    tunnel: Child,
}

impl Road {
    fn build() -> Self {
        let openssh = OpenSsh::system().unwrap();
        let lab = Lab::three_seats().unwrap();
        let key = |machine: &Machine, path: &str| {
            machine.sh("mkdir -p -m 700 ~/.ssh").unwrap();
            let path = machine.home_of("root").unwrap().join(path);
            Key::make(machine, &openssh, &path, "throwaway").unwrap().public_line().to_owned()
        };
        let home_key = key(lab.home(), ".ssh/id_ed25519");
        let laptop_key = key(lab.laptop(), ".ssh/id_ed25519");
        let gateway_key = key(lab.laptop(), ".ssh/gateway.pem");
        lab.home().add_user("fan", 4001, "/bin/sh").unwrap();
        lab.gateway().add_user("way", 4002, "/bin/sh").unwrap();
        let gateway = Sshd::builder(&openssh)
            .port(2200)
            .listen("0.0.0.0")
            .authorize("way", &home_key)
            .authorize("way", &gateway_key)
            .start(lab.gateway())
            .unwrap();
        let home = Sshd::builder(&openssh)
            .port(22)
            .authorize("fan", &laptop_key)
            .start(lab.home())
            .unwrap();
        let known = gateway.known_hosts_line(GATEWAY);
        lab.home().sh(&format!("echo '{known}' > ~/.ssh/known_hosts")).unwrap();
        let tunnel = lab
            .home()
            .command("ssh")
            .args(["-N", "-p", "2200", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"])
            .args(["-R", "127.0.0.1:2222:127.0.0.1:22", &format!("way@{GATEWAY}")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let road = Self { lab, gateway, home, tunnel };
        let listens = || road.lab.gateway().sh("ss -Hltn 'sport = :2222'").unwrap();
        assert_eventually!(!listens().is_empty(), within = SOON, "{}", road.gateway.log());
        road
    }

    fn roads(&self) -> Roads {
        let mut roads = roads("home-ubuntu");
        roads.gateways[0].port = 2200;
        roads.gateways[0].host_keys = vec![self.gateway.host_key_line().parse().unwrap()];
        roads.homes[0].host_keys = vec![self.home.host_key_line().parse().unwrap()];
        roads
    }

    /// What a person types, with nobody there to answer a question.
    fn ssh(&self, options: &str, alias: &str) -> Output {
        // With standard error in a file: a connection that stays for others would hold a pipe open.
        let script = format!(
            "ssh -o BatchMode=yes {options} {alias} 'id -un; cat /proc/sys/kernel/hostname' \
             2> /tmp/said || {{ cat /tmp/said; exit 1; }}; cat /tmp/said"
        );
        let mut command = self.lab.laptop().command("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        let _ = self.tunnel.kill();
        let _ = self.tunnel.wait();
    }
}

#[test]
fn the_first_login_asks_nothing_and_a_changed_key_is_refused() {
    needs_lab!();
    let road = Road::build();
    let laptop = road.lab.laptop();
    for form in [Form::Pasted, Form::Installed] {
        put(laptop, &road.roads(), form, "# my own\nHost *\n  ForwardAgent no\n");
        let known = "cat ~/.ssh/known_hosts ~/.ssh/wayhome/*.known_hosts 2> /dev/null || true";
        let before = laptop.sh(known).unwrap();
        let output = road.ssh("", "home-ubuntu");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "fan\nhome\n", "{form:?}: {}\n{}", road.gateway.log(), road.home.log());
        // The form in which a configuration is tried before it is put in place.
        let output = road.ssh("-F ~/.ssh/config", "home-ubuntu");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fan\nhome\n", "{form:?}");
        assert_eq!(laptop.sh(known).unwrap(), before, "{form:?}: ssh learned something by itself");

        for change in [
            |roads: &mut Roads| roads.homes[0].host_keys = vec![KEY_B.parse().unwrap()],
            |roads: &mut Roads| roads.gateways[0].host_keys = vec![KEY_B.parse().unwrap()],
        ] {
            let mut roads = road.roads();
            change(&mut roads);
            put(laptop, &roads, form, "");
            let output = road.ssh("", "home-ubuntu");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success(), "{form:?}: {said}");
            assert!(said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{form:?}: {said}");
            assert!(said.contains("Host key verification failed."), "{form:?}: {said}");
        }
    }
}

#[test]
fn a_shared_connection_is_shared_with_nobody_else() {
    needs_lab!();
    let road = Road::build();
    let laptop = road.lab.laptop();
    let mut roads = road.roads();
    roads.multiplex = true;
    put(laptop, &roads, Form::Installed, "");
    let output = road.ssh("", "home-ubuntu");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fan\nhome\n");
    laptop.sh("ssh -O check home-ubuntu").unwrap();

    // Another home by another gateway, where it has the same port: to `%C` they are one.
    let mut other: Roads = roads.clone();
    other.gateways[0].alias = "other-gateway".parse().unwrap();
    other.homes = vec![home("other-home", 2222, KEY_B)];
    let text = render(&other).unwrap();
    let root = laptop.home_of("root").unwrap();
    let program = laptop.bring(&std::env::current_exe().unwrap()).unwrap();
    assert!(write_by(laptop.command(&program), &root, &text).status.success());
    let output = road.ssh("", "other-home");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Host key verification failed."), "{said}");
    laptop.sh("ssh -O exit home-ubuntu").unwrap();
}

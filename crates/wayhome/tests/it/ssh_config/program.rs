//! The program itself, at home and on the laptop, as a person runs it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use wayhome::ssh_config::render;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Sshd, needs_lab};

use super::{KEY_A, roads};
use crate::seats::{Agent, Login, Seats, output, wayhome};

/// `wayhome ssh-config` at home, and its text for `--write -` on the laptop.
fn install(seats: &Seats) -> String {
    let arguments =
        ["ssh-config", "--user", "fan", "--gateway-user", "way", "--identity", "/tmp/key"];
    let (code, printed, error) = output(&mut wayhome(seats.lab.home(), &arguments));
    assert_eq!(code, 0, "{error}");
    let laptop = seats.lab.laptop();
    fs::write(laptop.file("/tmp/printed"), &printed).unwrap();
    let (code, said, error) =
        output(&mut wayhome(laptop, &["ssh-config", "--write", "/tmp/printed"]));
    assert_eq!((code, said.as_str()), (0, ""), "{error}");
    laptop.sh("printf 'Host *\\n  IdentityFile /tmp/key\\n' >> ~/.ssh/config").unwrap();
    printed
}

fn ssh(seats: &Seats, arguments: &[&str]) -> (i32, String, String) {
    let mut ssh = seats.lab.laptop().command(seats.openssh.ssh());
    output(ssh.args(["-o", "BatchMode=yes"]).args(arguments).stdin(Stdio::null()))
}

/// The program with a home folder of its own, and nothing of the tester's.
fn on_a_laptop(home: &Path, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayhome"));
    command.args(arguments).env_clear().env("HOME", home).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that fails early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn writes_and_removes_under_a_home_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let (home, text) = (home.path(), render(&roads("home-ubuntu")).unwrap());
    let file = |name: &str| home.join(".ssh").join(name);
    let write = ["ssh-config", "--write", "-"];

    let dry = [&write[..], &["--dry-run"]].concat();
    let (code, out, said) = on_a_laptop(home, &dry, &text);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    assert!(out.contains("would write `~/.ssh/wayhome/home-ubuntu.conf`:"), "{out}");
    assert!(out.contains("`ecs` leads to 203.0.113.10, port 22, as `way`"), "{out}");
    assert!(!file("").exists(), "a dry run writes nothing");

    let (code, out, said) = on_a_laptop(home, &write, &text);
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    assert_eq!(
        said,
        "wrote `~/.ssh/wayhome/home-ubuntu.known_hosts`\n\
         wrote `~/.ssh/wayhome/home-ubuntu.conf`\n\
         added one `Include` line to the top of `~/.ssh/config`\n\
         `home-ubuntu` leads to port 2222 at `ecs`, as `fan`\n\
         `home-ubuntu-2` leads to port 2223 at `ecs`, as `fan`\n\
         `ecs` leads to 203.0.113.10, port 22, as `way`\n\
         now try: `ssh home-ubuntu`\n"
    );
    let config = fs::read_to_string(file("config")).unwrap();
    assert_eq!(config, "Include ~/.ssh/wayhome/*.conf\n");
    for name in ["config", "wayhome/home-ubuntu.conf", "wayhome/home-ubuntu.known_hosts"] {
        assert_eq!(fs::metadata(file(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }

    // From a file, again, after an edit of the person's own.
    fs::write(file("config"), format!("{config}Host mine\n")).unwrap();
    fs::write(home.join("text"), &text).unwrap();
    let from = home.join("text");
    let (code, _, said) = on_a_laptop(home, &["ssh-config", "--write", from.to_str().unwrap()], "");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("`~/.ssh/config` is already as it should be"), "{said}");

    let (code, _, said) = on_a_laptop(home, &["ssh-config", "--remove", "home-ubuntu"], "");
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read_to_string(file("config")).unwrap(), "Host mine\n");
    assert!(!file("wayhome").exists());
    let (code, _, said) = on_a_laptop(home, &["ssh-config", "--remove", "home-ubuntu"], "");
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("error: `home-ubuntu` is not installed here"), "{said}");
    let (code, _, said) = on_a_laptop(home, &write, "Host *\n  ProxyCommand id\n");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("standard input is not a text that"), "{said}");
}

#[test]
fn what_is_installed_is_so_though_nobody_could_be_told() {
    let home = tempfile::tempdir().unwrap();
    let text = home.path().join("text");
    fs::write(&text, render(&roads("home-ubuntu")).unwrap()).unwrap();
    let (reader, nobody) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayhome"));
    command.args(["ssh-config", "--write"]).arg(&text).env_clear().env("HOME", home.path());
    assert_eq!(command.stderr(nobody).status().unwrap().code(), Some(0));
    assert!(home.path().join(".ssh/wayhome/home-ubuntu.conf").exists());
}

#[test]
fn a_warning_is_an_object_where_the_log_is_for_programs() {
    let home = tempfile::tempdir().unwrap();
    let mut roads = roads("home-ubuntu");
    let (code, _, said) =
        on_a_laptop(home.path(), &["ssh-config", "--write", "-"], &render(&roads).unwrap());
    assert_eq!(code, 0, "{said}");
    roads.homes[0].host_keys = vec![KEY_A.parse().unwrap()];
    let text = render(&roads).unwrap();
    let json = ["--log-format", "json", "-q", "ssh-config", "--write", "-"];
    let (code, _, said) = on_a_laptop(home.path(), &json, &text);
    assert_eq!(code, 0, "{said}");
    let object: serde_json::Value = serde_json::from_str(&said).expect(&said);
    assert_eq!(object["event"], "warned");
    assert!(
        object["message"].as_str().unwrap().contains("had other host keys until now"),
        "{said}"
    );
}

#[test]
fn a_text_cannot_take_over_the_name_of_a_host() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let text = render(&roads("home-ubuntu")).unwrap();
    let forged = text.replace("Host ecs\n", "Host github.com\n");
    let forged = forged.replace("ProxyJump ecs\n", "ProxyJump github.com\n");
    assert_ne!(forged, text);
    let (code, _, said) = on_a_laptop(home, &["ssh-config", "--write", "-"], &forged);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("`github.com` is not an alias"), "{said}");
    assert!(!home.join(".ssh").exists(), "nothing is written");
    let (code, _, said) = on_a_laptop(home, &["ssh-config", "--write", "-"], &text);
    assert_eq!(code, 0, "{said}");
    // As ssh reads it: what is installed is about the names that were told, and no other.
    let meaning = |name: &str| {
        let file = home.join(".ssh/wayhome/home-ubuntu.conf");
        let mut ssh = Command::new("ssh");
        let (code, said, error) = output(ssh.arg("-F").arg(file).args(["-G", name]));
        assert_eq!(code, 0, "{error}");
        said
    };
    assert!(meaning("ecs").contains("hostname 203.0.113.10\n"));
    let github = meaning("github.com");
    assert!(github.contains("hostname github.com\n"), "{github}");
    assert!(!github.contains(".ssh/wayhome/") && !github.contains("gateway.pem"), "{github}");
}

#[test]
fn two_servers_at_one_home_cannot_pose_as_each_other() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let laptop_key = fs::read_to_string(seats.lab.laptop().file("/tmp/key.pub")).unwrap();
    let second = Sshd::builder(&seats.openssh).port(2022).authorize("fan", &laptop_key);
    let second = second.line("SetEnv SERVER=second").start(home).unwrap();
    fs::write(
        home.file("/tmp/agent.toml"),
        format!(
            "name = \"home-ubuntu\"\n\
             [[gateway]]\naddress = \"root@{GATEWAY}\"\nidentity = \"key\"\n\
             [[service]]\nname = \"ssh\"\ntarget = \"localhost:22\"\nport = 2222\n\
             [[service]]\nname = \"container\"\ntarget = \"localhost:2022\"\nport = 2223\nproof = \"ssh\"\n"
        ),
    )
    .unwrap();
    let agent = Agent::run(home, &["--config", "/tmp/agent.toml", "--accept-new"]);
    agent.until_up();
    let printed = install(&seats);
    let keys_of = |name: &str| {
        let lines = printed.lines().filter(|line| line.starts_with(&format!("{name} ssh-")));
        lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys_of("home-ubuntu"), [seats.homes[0].host_key_line()], "{printed}");
    assert_eq!(keys_of("container"), [second.host_key_line()], "{printed}");

    let who = "echo \"[$SERVER]\"";
    assert_eq!(ssh(&seats, &["home-ubuntu", who]), (0, "[]\n".into(), String::new()));
    assert_eq!(ssh(&seats, &["container", who]), (0, "[second]\n".into(), String::new()));
    for (alias, port) in [("home-ubuntu", "2223"), ("container", "2222")] {
        let (code, _, error) = ssh(&seats, &["-p", port, alias, who]);
        assert_eq!(code, 255, "{alias} on {port}");
        assert!(error.contains("Host key verification failed."), "{alias} on {port}: {error}");
    }
}

//! The program itself, at home and on the laptop, as a person runs it.

use std::fs;
use std::process::Stdio;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Sshd, needs_lab};

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

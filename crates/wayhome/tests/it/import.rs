//! `wayhome import`: units and command lines as people have them, on a machine of its own.

use std::fs;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, needs_lab};

use crate::seats::{Agent, Login, Seats, output, wayhome};

/// Section 6 of the usual guide, word for word.
const GUIDE: &str = include_str!("import/reverse-ssh.service");

fn home() -> Machine {
    let machine = Machine::start("home-ubuntu").unwrap();
    machine.add_user("fan", 4001, "/bin/sh").unwrap();
    machine
        .sh("mkdir -m 700 /run/homes/fan/.ssh
            ssh-keygen -q -t ed25519 -N '' -f /run/homes/fan/.ssh/id_ed25519
            chown -R fan:fan /run/homes/fan/.ssh")
        .unwrap();
    machine
}

fn write_unit(machine: &Machine, name: &str, text: &str) {
    let folder = machine.file("/etc/systemd/system");
    fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

fn import(machine: &Machine, arguments: &[&str]) -> (i32, String, String) {
    let all: Vec<&str> = std::iter::once("import").chain(arguments.iter().copied()).collect();
    output(&mut wayhome(machine, &all))
}

#[test]
fn the_unit_of_the_guide() {
    needs_lab!();
    let machine = home();
    write_unit(&machine, "reverse-ssh.service", &GUIDE.replace("/home/fan", "/run/homes/fan"));
    let (code, text, told) = import(&machine, &["--unit", "reverse-ssh"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(
        text,
        "# Made by `wayhome import` from the unit reverse-ssh.service.\n\
         name = \"home-ubuntu\"\n\n\
         [[gateway]]\n\
         address = \"ssh://root@203.0.113.10\"\n\
         identity = \"/run/homes/fan/.ssh/id_ed25519\"\n\n\
         [[service]]\n\
         name = \"ssh\"\n\
         target = \"localhost:22\"\n\
         port = 2222\n"
    );
    assert!(
        told.contains("  -o ServerAliveInterval=30\n  -o ServerAliveCountMax=3\n      wayhome")
    );
    assert!(told.contains("AUTOSSH_GATETIME=0"), "{told}");
    assert!(!told.contains("would not run"), "it loads: {told}");
}

#[test]
fn a_template_with_a_file_a_drop_in_and_specifiers() {
    needs_lab!();
    let machine = home();
    write_unit(
        &machine,
        "tunnel@.service",
        "[Service]\nUser=fan\nWorkingDirectory=~\nEnvironmentFile=/etc/default/tunnel-%i\n\
         ExecStart=-/usr/bin/ssh -N -i %h/.ssh/key $FORWARDS ${LOGIN}@%i\n",
    );
    write_unit(
        &machine,
        "tunnel@.service.d/key.conf",
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'exec ssh -N -i ~/.ssh/id_ed25519 $FORWARDS \
         \"$LOGIN\"@%i'\n",
    );
    machine
        .sh("echo 'LOGIN=\"root\"\nFORWARDS=-R 2222:localhost:22 -R2223:nas:22' > /etc/default/tunnel-gw")
        .unwrap();
    // systemd replaces `$$` and `${…}` in the script, and leaves `$FORWARDS` within it to the shell.
    let (code, text, told) = import(&machine, &["--unit", "tunnel@gw"]);
    assert_eq!(code, 0, "{told}");
    assert!(text.contains("address = \"ssh://root@gw\""), "{text}");
    assert!(text.contains("identity = \"/run/homes/fan/.ssh/id_ed25519\""), "{text}");
    assert!(text.contains("port = 2222\n") && text.contains("name = \"nas\""), "{text}");
    assert!(!told.contains("would not run"), "it loads: {told}");
}

#[test]
fn what_cannot_be_imported_is_refused_with_the_reason() {
    needs_lab!();
    let machine = home();
    write_unit(
        &machine,
        "loop.service",
        "[Service]\nExecStart=/bin/sh -c 'while :; do ssh gw; done'\n",
    );
    write_unit(&machine, "other.service", "[Service]\nUser=nobody-here\nExecStart=/bin/ssh gw\n");
    let endless = "[Service]\nEnvironmentFile=/dev/zero\nExecStart=/bin/ssh gw\n";
    write_unit(&machine, "endless.service", endless);
    for (arguments, part) in [
        (&["--unit", "endless"][..], "`EnvironmentFile=/dev/zero` cannot be read: it is no file"),
        (&["--unit", "/dev/zero"], "the unit `/dev/zero` cannot be read"),
        (&["--unit", "loop"], "it does more than to run one command"),
        (&["--unit", "other"], "`User=nobody-here` is no user of this machine"),
        (&["--unit", "missing"], "there is no unit `missing.service`"),
        (&["--unit", "./missing"], "the unit `./missing` cannot be read"),
        (&["--", "ssh", "-N", "gw"], "it has no `-R` that could be imported"),
        (&["--", "ssh", "-R", "*:80:localhost:80", "gw"], "open to the whole internet"),
    ] {
        let (code, text, told) = import(&machine, arguments);
        assert_eq!((code, text.as_str()), (2, ""), "{arguments:?}: {told}");
        assert!(told.contains(part) && told.contains("hint: "), "{arguments:?}: {told}");
    }
}

#[test]
fn a_file_is_replaced_only_if_that_is_wished() {
    needs_lab!();
    let machine = home();
    let command = ["--", "ssh", "-R", "2222:localhost:22", "root@203.0.113.10"];
    let write = |options: &[&str]| import(&machine, &[options, &command[..]].concat());
    machine.sh("mkdir /tmp/x; echo mine > /tmp/x/agent.toml").unwrap();
    let (code, _, told) = write(&["--output", "/tmp/x/agent.toml"]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("`/tmp/x/agent.toml` is there already"), "{told}");
    assert_eq!(machine.sh("cat /tmp/x/agent.toml; ls -A /tmp/x").unwrap(), "mine\nagent.toml\n");
    let (code, text, told) = write(&["--output", "/tmp/x/agent.toml", "--force"]);
    assert_eq!((code, text.as_str()), (0, ""), "{told}");
    let shown = machine.sh("head -2 /tmp/x/agent.toml; stat -c %a /tmp/x/agent.toml; ls -A /tmp/x");
    assert!(shown.unwrap().ends_with("\nname = \"home-ubuntu\"\n644\nagent.toml\n"));
    let (code, _, told) = write(&["--output", "/nowhere/agent.toml"]);
    assert_eq!(code, 1, "{told}");
}

/// The whole way: the old command, the configuration, an agent that runs with it, and its road.
#[test]
fn an_agent_runs_with_what_was_imported() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let home = seats.lab.home();
    let command =
        ["--name", "home-ubuntu", "--output", "/tmp/agent.toml", "--", "autossh", "-M", "0"];
    let ssh = ["-fNTR2222:localhost:22", "-oServerAliveInterval=9", "-i", "/tmp/key", "-l", "amy"];
    let (code, _, told) = import(home, &[&command[..], &ssh, &[GATEWAY]].concat());
    assert_eq!(code, 0, "{told}");
    let agent = Agent::run(home, &["--config", "/tmp/agent.toml", "--accept-new"]);
    agent.until_up();
}

#[test]
fn a_command_is_read_with_and_without_dashes_and_in_quotes() {
    needs_lab!();
    let machine = home();
    let words = ["autossh", "-M", "0", "-N", "-R", "2222:localhost:22", "root@203.0.113.10"];
    let line = words.join(" ");
    let dashed: Vec<&str> = std::iter::once("--").chain(words).collect();
    let (code, text, told) = import(&machine, &words);
    assert_eq!(code, 0, "{told}");
    assert!(text.contains("address = \"ssh://root@203.0.113.10\""), "{text}");
    for arguments in [dashed.as_slice(), &[line.as_str()]] {
        assert_eq!(import(&machine, arguments), (0, text.clone(), told.clone()), "{arguments:?}");
    }
    let (code, _, told) = import(&machine, &["ssh -NR 2222:localhost:22 root@gw; touch /tmp/x"]);
    assert!(code == 2 && told.contains("more than to run one command"), "{told}");
    // There is no unit that could be stopped.
    let take_over: Vec<&str> = std::iter::once("--take-over").chain(words).collect();
    let (code, _, told) = import(&machine, &take_over);
    assert!(code == 2 && told.contains("cannot be used with"), "{told}");
}

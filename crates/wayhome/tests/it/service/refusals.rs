//! What could not work at boot is refused before anything is written, with what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use wayhome_lab::{Machine, needs_lab};

use super::{Desk, WAYHOME, tree};
use crate::seats::{output, wayhome};

#[test]
fn a_key_that_cannot_be_used_unattended_is_refused() {
    let desk = Desk::new();
    desk.key("locked", "secret");
    desk.key("open", "");
    fs::set_permissions(desk.at("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(desk.at("touch"), include_str!("touch_key")).unwrap();
    fs::set_permissions(desk.at("touch"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = tree(&desk.at("image"));
    for (identity, why, remedy) in [
        ("locked", "has a passphrase", "make a key for this home alone"),
        ("touch", "is a security key", "make a key for this home alone"),
        ("open", "can be read by others", "chmod 600"),
        ("missing", "cannot be read", "ssh-keygen"),
    ] {
        desk.config(identity);
        // Not even with an agent that could know it: it is not there at boot.
        let mut command = desk.wayhome(&["service", "install", "agent", "--config"]);
        command.arg(desk.at("agent.toml")).arg("--root").arg(desk.at("image"));
        let (code, _, error) = output(command.env("SSH_AUTH_SOCK", "/run/agent"));
        assert_eq!(code, 2, "{identity}: {error}");
        assert!(error.contains(why) && error.contains(remedy), "{identity}: {error}");
        assert_eq!(tree(&desk.at("image")), before, "{identity}: nothing is written");
    }
}

#[test]
fn a_file_that_the_sandbox_hides_is_refused() {
    let desk = Desk::new();
    fs::create_dir_all(desk.image("/etc/wayhome")).unwrap();
    let text = fs::read_to_string(desk.at("agent.toml")).unwrap();
    // In its place it is the service's own, and taken by its word.
    let text = text.replace("\"key\"", "\"/home/fan/.ssh/wayhome\"");
    fs::write(desk.image("/etc/wayhome/agent.toml"), text).unwrap();
    let (code, _, error) = desk.service("install", &[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("the service's sandbox hides it"), "{error}");
    assert!(error.contains("`--as USER`"), "the remedy: {error}");
}

#[test]
fn a_gateway_without_a_key_is_refused() {
    let desk = Desk::new();
    let text = fs::read_to_string(desk.at("agent.toml")).unwrap();
    let text: String =
        text.lines().filter(|l| !l.starts_with("identity")).map(|l| format!("{l}\n")).collect();
    fs::write(desk.at("agent.toml"), text).unwrap();
    let (code, _, error) = desk.install(&[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("no `identity` is named"), "{error}");
}

#[test]
fn a_broken_configuration_is_refused_by_its_line() {
    let desk = Desk::new();
    fs::write(desk.at("agent.toml"), "name = \"home\"\nprot = 1\n").unwrap();
    let (code, _, error) = desk.install(&[]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("agent.toml:2: unknown field `prot`"), "{error}");
    assert!(!desk.image("/etc").exists());
}

#[test]
fn the_agent_does_not_run_as_root_or_as_nobody_known() {
    let desk = Desk::new();
    fs::create_dir_all(desk.image("/etc")).unwrap();
    fs::write(desk.image("/etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    for (user, why) in [("root", "does not run as root"), ("fan", "there is no user `fan`")] {
        let (code, _, error) = desk.install(&["--as", user]);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn only_root_may_install_for_the_system() {
    needs_lab!();
    let machine = Machine::start("home").unwrap();
    machine.add_user("fan", 4001, "/bin/sh").unwrap();
    let program = machine.bring(WAYHOME.as_ref()).unwrap();
    for verb in ["install", "uninstall"] {
        let mut command = machine.command_as("fan", &program).unwrap();
        let (code, _, error) = output(command.args(["service", verb, "agent"]));
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("only root can"), "{error}");
    }
    // Its folders would be those of the system's service.
    machine.sh("mkdir /etc/wayhome; touch /etc/wayhome/agent.toml").unwrap();
    for verb in [&["install"][..], &["uninstall", "--purge"]] {
        let arguments = [&["service", verb[0], "agent", "--user"], &verb[1..]].concat();
        let (code, _, error) = output(&mut wayhome(&machine, &arguments));
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("root has no user service"), "{error}");
    }
    assert!(machine.file("/etc/wayhome/agent.toml").exists());
}

//! Readers that go away, and disks that are full.

use std::fs::File;
use std::io::pipe;
use std::process::Stdio;

use super::output::up;
use super::sandbox::{Sandbox, text};

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.answer("home-ubuntu", &up());
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["gate"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["--version"],
    ] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = sandbox.wayhome(command).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{command:?}");
    }
}

#[test]
fn nobody_to_complain_to_changes_no_exit_code() {
    let sandbox = Sandbox::new();
    for command in [&["status"][..], &["--wrong"], &["agent", "run"]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut wayhome = sandbox.wayhome(command);
        let status = wayhome.stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn a_full_disk_is_said() {
    let sandbox = Sandbox::new();
    sandbox.answer("home-ubuntu", &up());
    for (command, code) in [
        // 1 would say that something is not up.
        (&["status"][..], 2),
        (&["gate"], 1),
        (&["completions", "bash"], 1),
        (&["man"], 1),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = sandbox.wayhome(command).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}");
        let said = text(&output.stderr);
        assert!(said.contains("No space left on device"), "{output:?}");
        assert!(said.contains("hint: see where standard output leads"), "{output:?}");
    }
}

#[test]
fn a_configuration_may_come_through_a_pipe_that_ends_or_falls_silent() {
    let sandbox = Sandbox::new();
    sandbox.write("agent.toml", "[[gateway]]\naddress = \"root@203.0.113.10\"\n");
    let check = format!("{} agent check --config", env!("CARGO_BIN_EXE_wayhome"));
    for (script, part) in [
        (format!("cat agent.toml | {check} /dev/stdin"), "there is no `[[service]]`"),
        (format!("mkfifo pipe; {check} pipe"), "nothing came from it within 10 s"),
        (format!("{check} /dev/zero"), "too large to be a configuration"),
    ] {
        let output = sandbox.program("sh").args(["-c", &script]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{script}: {said}");
        assert!(said.replace("\n  ", " ").contains(part), "{script}: {said}");
    }
}

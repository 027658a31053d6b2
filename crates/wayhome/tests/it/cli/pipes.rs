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
        assert!(text(&output.stderr).contains("No space left on device"), "{output:?}");
    }
}

//! The scripts in the shells that gateways have, and against what a hostile key holder sends.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use wayhome::agent::ssh::script;

use crate::gateway::printed;

/// Login shells that may be met. Those that are not installed are skipped, unless the lab is required.
const LOGIN_SHELLS: [&str; 7] = ["dash", "bash", "busybox", "zsh", "fish", "tcsh", "mksh"];

fn there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
    let there = found.expect("sh").status.success();
    if !there {
        let required = std::env::var_os("WAYHOME_LAB").is_some_and(|lab| lab == "required");
        assert!(!required, "`{program}` is not installed");
        eprintln!("skipped for `{program}`: it is not installed");
    }
    there
}

fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A script that refuses ends before it has read all.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("its output")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn the_scripts_are_plain_posix() {
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold.sh");
    let gate = folder.path().join("wayhome-gate");
    std::fs::write(&hold, script::HOLD).expect("written");
    std::fs::write(&gate, printed(&["gate"])).expect("written");
    for shell in ["sh", "dash", "bash", "mksh"] {
        for file in [&hold, &gate] {
            if there(shell) {
                let checked = Command::new(shell).arg("-n").arg(file).output().expect("a shell");
                assert!(
                    checked.status.success() && checked.stderr.is_empty(),
                    "{shell}: {checked:?}"
                );
            }
        }
    }
    if there("shellcheck") {
        let checked =
            Command::new("shellcheck").arg(&hold).arg(&gate).output().expect("shellcheck");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn every_login_shell_starts_the_hold() {
    let input = format!("{}{}\nping 1\nlook 7\n", script::HOLD, script::END);
    for shell in LOGIN_SHELLS {
        if !there(shell) {
            continue;
        }
        let mut command = Command::new(shell);
        if shell == "busybox" {
            command.arg("ash");
        }
        command.arg("-c").arg(script::command(&[2222, 2223]));
        let output = fed(&mut command, input.as_bytes());
        let lines = after_blank(&output);
        assert_eq!(lines.len(), 3, "{shell}: {output:?}");
        assert!(lines[0].starts_with("wayhome-hold 1 pid="), "{shell}: {}", lines[0]);
        assert!(lines[0].ends_with(" gate=0 ports=2222,2223"), "{shell}: {}", lines[0]);
        assert_eq!(lines[1..], ["pong 1", "look 7 unknown not-my-port"], "{shell}");
    }
}

/// What the hold says, after the line that ends whatever was printed before it.
fn after_blank(output: &Output) -> Vec<String> {
    let mut lines = lines(output);
    assert_eq!(lines.remove(0), "", "{output:?}");
    lines
}

#[test]
fn what_start_files_print_does_not_swallow_the_greeting() {
    let input = format!("{}{}\n", script::HOLD, script::END);
    // A title for the terminal, and no end of the line.
    let noisy = format!("printf '\\033]0;title\\007'; {}", script::command(&[2222]));
    let output = fed(Command::new("sh").arg("-c").arg(noisy), input.as_bytes());
    let lines = lines(&output);
    assert_eq!(lines.len(), 2, "{output:?}");
    assert!(lines[1].starts_with("wayhome-hold 1 pid="), "{output:?}");
}

#[test]
fn a_script_that_is_cut_short_does_nothing() {
    let text = script::HOLD;
    for part in [text.len() / 3, text.len() / 2, text.len() - 5] {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script::command(&[2222]));
        let output = fed(&mut command, &text.as_bytes()[..part]);
        assert!(output.stdout.is_empty(), "after {part} bytes: {output:?}");
    }
}

/// Each line is answered by one line, and none of it is expanded or run.
#[test]
fn hostile_lines_are_answered_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("wayhome-gate");
    std::fs::write(&gate, printed(&["gate"])).expect("written");
    let trap = folder.path().join("trap");
    let touch = format!("touch {}", trap.display());
    let requests = [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("ping 1; {touch}"),
        format!("look $({touch})"),
        "ping $((1+1))".to_owned(),
        "ping -1".to_owned(),
        "ping 99999999999999999999".to_owned(),
        "look 02222".to_owned(),
        "look 99999999".to_owned(),
        "look 2222 2222".to_owned(),
        "look a[$(id)]".to_owned(),
        "release 2222 1".to_owned(),
        "release 2222 $PPID 1".to_owned(),
        "release 2222 -1 1".to_owned(),
        "release 2222 ../1 1".to_owned(),
        "/*".to_owned(),
        "\\".to_owned(),
        "-n".to_owned(),
        String::new(),
        "x".repeat(100_000),
    ];
    let input = format!("{touch}\n#end\n{}\nping 7\n", requests.join("\n"));
    for shell in ["sh", "dash", "bash", "mksh"] {
        if !there(shell) {
            continue;
        }
        let mut command = Command::new(shell);
        command
            .arg(&gate)
            .arg("2222")
            .env("SSH_ORIGINAL_COMMAND", format!("{touch}; wayhome-hold 1"));
        let output = fed(&mut command, input.as_bytes());
        let lines = after_blank(&output);
        assert_eq!(lines.len(), requests.len() + 2, "{shell}: {output:?}");
        for (request, reply) in requests.iter().zip(&lines[1..]) {
            assert_eq!(reply, "error unknown-request", "{shell}: {request:.60}");
        }
        assert_eq!(lines.last().map(String::as_str), Some("pong 7"), "{shell}");
        assert!(!trap.exists(), "{shell} ran something");
    }
}

#[test]
fn a_gate_without_an_end_gives_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("wayhome-gate");
    std::fs::write(&gate, printed(&["gate"])).expect("written");
    let endless = "line\n".repeat(10_000);
    let mut command = Command::new("sh");
    command.arg(&gate).arg("2222").env("SSH_ORIGINAL_COMMAND", "sh wayhome-hold 1");
    let output = fed(&mut command, endless.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{output:?}");
}

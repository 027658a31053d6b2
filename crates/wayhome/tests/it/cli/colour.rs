//! Colours: who may have them, for each of the two streams by itself.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};

use super::output::up;
use super::sandbox::{Sandbox, text};

/// `status` writes to both streams there: one agent answers, and one has its lock and does not.
fn half_dead() -> (Sandbox, File) {
    let sandbox = Sandbox::new();
    drop(std::os::unix::net::UnixListener::bind(sandbox.path("run/agent-a.sock")).unwrap());
    let lock = File::create(sandbox.path("state/agent-a.lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    sandbox.answer("home-ubuntu", &up());
    (sandbox, lock)
}

fn is_coloured(text: &str) -> bool {
    text.contains("\u{1b}[")
}

#[test]
fn what_the_environment_and_the_flag_say_of_pipes() {
    let (sandbox, _lock) = half_dead();
    for (environment, flags, coloured) in [
        ("", "--color=auto", false),
        ("CLICOLOR=1", "--color=auto", false),
        ("CLICOLOR_FORCE=1", "--color=auto", true),
        ("CLICOLOR_FORCE=1 NO_COLOR=1", "--color=auto", false),
        ("CLICOLOR_FORCE=1", "--color=never", false),
        ("NO_COLOR=1", "--color=always", true),
        ("TERM=dumb", "--color=always", true),
    ] {
        for command in ["status", "--help", "--wrong"] {
            let mut wayhome = sandbox.wayhome(&[flags, command]);
            let variables = environment.split(' ').filter_map(|variable| variable.split_once('='));
            let output = wayhome.envs(variables).output().unwrap();
            for stream in [&output.stdout, &output.stderr] {
                let said = text(stream);
                assert_eq!(
                    is_coloured(&said),
                    coloured && !said.is_empty(),
                    "{environment} {flags} {command}: {said}"
                );
            }
        }
    }
}

/// Runs it with its streams led to a terminal or a file, and gives what went to the terminal.
fn at_a_terminal(sandbox: &Sandbox, redirection: &str, environment: (&str, &str)) -> String {
    let run = format!("{} status {redirection}", env!("CARGO_BIN_EXE_wayhome"));
    let mut script = sandbox.program("script");
    let shown = script.args(["-qec", &run, "/dev/null"]).env(environment.0, environment.1).output();
    text(&shown.unwrap().stdout)
}

#[test]
fn each_stream_is_asked_by_itself() {
    let (sandbox, _lock) = half_dead();
    let none = ("LC_ALL", "C.UTF-8");
    let file = || std::fs::read_to_string(sandbox.path("file")).unwrap();
    let shown = at_a_terminal(&sandbox, "2> file", none);
    assert!(is_coloured(&shown) && shown.contains("203.0.113.10"), "{shown}");
    assert!(!is_coloured(&file()) && file().contains("error:"), "{}", file());
    let shown = at_a_terminal(&sandbox, "> file", none);
    assert!(is_coloured(&shown) && shown.contains("error:"), "{shown}");
    assert!(!is_coloured(&file()) && file().contains("203.0.113.10"), "{}", file());
    for plain in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let shown = at_a_terminal(&sandbox, "", plain);
        assert!(!is_coloured(&shown) && shown.contains("203.0.113.10"), "{plain:?}: {shown}");
    }
}

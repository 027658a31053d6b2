//! What is said when something is wrong: what, why, and what to do.

use super::sandbox::{Sandbox, assert_narrow, assert_seen};

const GATEWAY: &str = "root@203.0.113.10";

const CONFIG: &str = "\
[[gateway]]
address = \"ssh://root@203.0.113.10\"

[[service]]
target = \"localhost:22\"
port = 2222
";

fn with_config(from: &str, to: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let text = CONFIG.replacen(from, to, 1);
    sandbox.write("agent.toml", &text);
    sandbox
}

/// Several command lines that fail in the same folder, in one snapshot.
#[track_caller]
fn check(name: &str, sandbox: &Sandbox, lines: &[&[&str]]) {
    let mut seen = Vec::new();
    for line in lines {
        let output = sandbox.wayhome(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "nothing was tried: {line:?}");
        assert!(output.stdout.is_empty(), "an error is no data: {line:?}");
        assert_narrow(&output);
        seen.push(sandbox.seen(line));
    }
    assert_seen(&format!("error_{name}"), &seen.join("\n"));
}

#[test]
fn a_command_line_that_means_nothing() {
    check(
        "usage",
        &Sandbox::new(),
        &[
            &["staus"],
            &["agent"],
            &["--frobnicate"],
            &["status", "--jsno"],
            &["status", "--color", "pink"],
            &["--log-format", "xml", "status"],
            &["-q", "-v", "status"],
            &["completions", "tcsh"],
            &["man", "wayhome-moon"],
            &["agent", "run", GATEWAY, "-c", "agent.toml"],
        ],
    );
}

#[test]
fn an_agent_without_a_road() {
    check(
        "run",
        &Sandbox::new(),
        &[
            &["agent", "run"],
            &["agent", "run", GATEWAY],
            &["agent", "run", GATEWAY, "-R", "2222"],
            &["agent", "run", GATEWAY, "-R", "0.0.0.0:2222:localhost:22"],
            &["agent", "run", "root@203.0.113.10:22", "-R", "2222:localhost:22"],
            &["agent", "run", GATEWAY, "-R", "2222:localhost:22", "-R", "2222:localhost:80"],
        ],
    );
}

#[test]
fn a_gate_for_what_is_no_key() {
    let sandbox = Sandbox::new();
    sandbox.key("key", "");
    let both = ["key.pub", "key.pub"].map(|name| std::fs::read_to_string(sandbox.path(name)));
    sandbox.write("two.pub", &both.map(Result::unwrap).concat());
    let port = ["--port", "2222"];
    let of = |file| [&["gate", "--authorize", file][..], &port].concat();
    let lines = ["/nope", "key", "two.pub", "/dev/zero"].map(of);
    check("gate", &sandbox, &lines.each_ref().map(Vec::as_slice));
}

#[test]
fn a_folder_that_the_environment_names_wrongly() {
    let sandbox = Sandbox::new();
    let write: &[&str] = &["ssh-config", "--write", "text"];
    let run: &[&str] = &["agent", "run", GATEWAY, "-R", "2222:localhost:22"];
    let mut seen = String::new();
    for (line, changes) in [
        (run, &[("STATE_DIRECTORY", "state")][..]),
        (&["status"], &[("RUNTIME_DIRECTORY", "./run:/run/more")]),
        (write, &[("HOME", "")]),
        (write, &[("HOME", "home")]),
    ] {
        let mut command = sandbox.wayhome(line);
        let said = command.envs(changes.iter().copied()).output().unwrap();
        assert_eq!((said.status.code(), said.stdout.len()), (Some(2), 0), "{changes:?}");
        assert_narrow(&said);
        let variables: Vec<String> = changes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let said = String::from_utf8(said.stderr).unwrap();
        seen += &format!("$ {} wayhome {}\n{said}\n", variables.join(" "), line.join(" "));
    }
    assert_seen("error_environment", &seen);
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let sandbox = with_config("root@", "root:hunter2@");
    let lines: [&[&str]; 2] = [
        &["agent", "run", "ssh://root:hunter2@203.0.113.10", "-R", "2222:localhost:22"],
        &["agent", "run", "-c", "agent.toml"],
    ];
    for line in lines {
        let output = sandbox.wayhome(line).output().unwrap();
        let said = format!("{output:?}");
        assert!(said.contains("***") && !said.contains("hunter2"), "{said}");
    }
    check("password", &sandbox, &lines[1..]);
}

#[test]
fn a_configuration_with_a_mistake() {
    let run: &[&str] = &["agent", "run", "-c", "agent.toml"];
    check("config_missing", &Sandbox::new(), &[run]);
    check("config_empty", &with_config(CONFIG, ""), &[run]);
    check("config_syntax", &with_config("[[service]]", "[[service"), &[run]);
    check("config_key", &with_config("target", "tarket"), &[run]);
    check("config_port", &with_config("2222", "70000"), &[run]);
    check("config_public", &with_config("port", "bind = \"*\"\nport"), &[run]);
    let identity = "\nidentity = \"key\"\n\n[[service]]";
    check("config_identity", &with_config("\n[[service]]", identity), &[run]);
}

#[test]
fn a_log_for_programs_gets_the_error_too() {
    let run = ["--log-format", "json", "agent", "run", "-c", "agent.toml"];
    let output = Sandbox::new().wayhome(&run).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&said["level"], &said["event"]), (&"ERROR".into(), &"failed".into()));
    assert_eq!(said["message"], "the configuration `agent.toml` cannot be read");
    assert_eq!(said["because"], "No such file or directory (os error 2)");
}

#[test]
fn an_identity_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    sandbox.key("locked", "secret");
    sandbox.key("key", "");
    sandbox.write("open", "").write("empty", "");
    let mode = |name: &str, mode: &str| {
        let changed = sandbox.program("chmod").args([mode, name]).status();
        assert!(changed.unwrap().success());
    };
    mode("open", "644");
    mode("empty", "600");
    mode("key.pub", "600");
    let run = |identity: &'static str| {
        ["agent", "run", GATEWAY, "-R", "2222:localhost:22", "-i", identity]
    };
    let lines = ["missing", "open", "empty", "key.pub", "locked", "home"].map(run);
    let lines: Vec<&[&str]> = lines.iter().map(|line| &line[..]).collect();
    check("identity", &sandbox, &lines);
}

#[test]
fn nobody_who_answers() {
    let sandbox = Sandbox::new();
    let lines: [&[&str]; 3] = [&["status"], &["agent", "kick"], &["ssh-config"]];
    check("no_agent", &sandbox, &lines);
    // What an agent leaves that was killed.
    let socket = sandbox.path("run/agent-home-ubuntu.sock");
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    check("dead_agent", &sandbox, &lines);
}

#[test]
fn a_text_or_a_key_that_is_none() {
    let sandbox = Sandbox::new();
    sandbox.write("text", "Host *\n").write("key.pub", "hello\n");
    check(
        "files",
        &sandbox,
        &[
            &["ssh-config", "--write", "text"],
            &["ssh-config", "--write", "text", "--user", "fan"],
            &["ssh-config", "--dry-run"],
            &["ssh-config", "--remove", "No Name"],
            &["gate", "--authorize", "key.pub", "--port", "2222"],
            &["gate", "--authorize", "missing.pub", "--port", "2222"],
            &["gate", "--port", "2222"],
        ],
    );
}

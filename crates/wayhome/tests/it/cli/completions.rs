//! Completions, asked for in real shells.

use super::sandbox::{Sandbox, has, text};

/// What bash offers for the last of the words.
fn in_bash(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let script = format!(
        "source <({} completions bash) && COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))
         complete -p wayhome > /dev/null || exit 1
         _wayhome wayhome \"${{@: -1}}\" \"${{@: -2:1}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_wayhome")
    );
    let output = sandbox.program("bash").args(["-c", &script, "bash"]).args(words).output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let sandbox = Sandbox::new();
    assert_eq!(in_bash(&sandbox, &["wayhome", "stat"]), ["status"]);
    assert_eq!(in_bash(&sandbox, &["wayhome", "status", "--js"]), ["--json"]);
    assert_eq!(in_bash(&sandbox, &["wayhome", "agent", "r"])[0], "run");
    assert_eq!(in_bash(&sandbox, &["wayhome", "agent", "run", "--acc"]), ["--accept-new"]);
    assert_eq!(in_bash(&sandbox, &["wayhome", "completions", "f"]), ["fish"]);
    assert_eq!(in_bash(&sandbox, &["wayhome", "status", "--color", "al"]), ["always"]);
    sandbox.write("agent.toml", "");
    let files = in_bash(&sandbox, &["wayhome", "agent", "run", "--config", "ag"]);
    assert_eq!(files, ["agent.toml"]);
}

#[test]
fn zsh_and_fish_take_theirs() {
    let sandbox = Sandbox::new();
    let program = env!("CARGO_BIN_EXE_wayhome");
    let zsh = format!(
        "autoload -U compinit && compinit -D && source <({program} completions zsh) && \
         (( $+functions[_wayhome] ))"
    );
    let fish = format!("{program} completions fish | source; complete -C 'wayhome stat'");
    for (shell, script, offers) in [("zsh", &zsh, ""), ("fish", &fish, "status")] {
        if !has(shell) {
            eprintln!("skipped: there is no `{shell}`");
            continue;
        }
        let output = sandbox.program(shell).args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains(offers), "{output:?}");
    }
}

#[test]
fn each_shell_has_a_script() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = sandbox.wayhome(&["completions", shell]).output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains("ssh-config"), "{shell}");
    }
}

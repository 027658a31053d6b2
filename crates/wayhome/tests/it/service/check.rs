//! `wayhome agent check`: one login at each gateway, as a service makes it.

use std::fs;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Machine, needs_lab};

use crate::seats::{Login, Seats, output, wayhome};

fn configure(home: &Machine, gateway: &str, identity: &str) {
    let config = format!(
        "[[gateway]]\naddress = \"ssh://{gateway}\"\nidentity = \"{identity}\"\n\
         [[service]]\ntarget = \"localhost:22\"\nport = 2222\n"
    );
    fs::write(home.file("/tmp/agent.toml"), config).unwrap();
}

fn check(home: &Machine) -> (i32, String, String) {
    output(&mut wayhome(home, &["agent", "check", "--config", "/tmp/agent.toml"]))
}

#[test]
fn a_login_is_tried_and_told() {
    needs_lab!();
    let seats = Seats::start(Login::Gated);
    let home = seats.lab.home();
    let gateway = format!("{}@{GATEWAY}", Login::Gated.user());

    configure(home, &gateway, "/tmp/key");
    let (code, said, error) = check(home);
    assert_eq!(code, 1, "{said}{error}");
    assert!(said.contains("is not pinned; it shows SHA256:"), "{said}");
    assert!(!home.file("/var/lib/wayhome/known_hosts").exists(), "nothing is changed");

    let pin = format!("{GATEWAY} {}\n", seats.gateway_key());
    home.sh("mkdir -p /var/lib/wayhome").unwrap();
    fs::write(home.file("/var/lib/wayhome/known_hosts"), pin).unwrap();
    let (code, said, error) = check(home);
    assert_eq!((code, said.as_str()), (0, &*format!("{gateway}: logged in\n")), "{error}");

    home.sh("ssh-keygen -q -t ed25519 -N '' -f /tmp/stranger").unwrap();
    configure(home, &gateway, "/tmp/stranger");
    let (code, said, _) = check(home);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("refuses this key") && said.contains("authorized_keys"), "{said}");

    configure(home, &format!("{gateway}:2"), "/tmp/key");
    let (code, said, _) = check(home);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("refuses connections"), "{said}");
}

#[test]
fn an_agent_of_a_login_does_not_count() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let pin = format!("{GATEWAY} {}\n", seats.gateway_key());
    home.sh("mkdir -p /var/lib/wayhome ~/.ssh; cp /tmp/key ~/.ssh/id_ed25519
         ssh-keygen -q -p -N secret -f ~/.ssh/id_ed25519 > /dev/null
         cp ~/.ssh/id_ed25519 /tmp/locked")
        .unwrap();
    fs::write(home.file("/var/lib/wayhome/known_hosts"), pin).unwrap();
    configure(home, &format!("root@{GATEWAY}"), "/tmp/locked");
    let with_agent = |script: &str| {
        let script = format!(
            "ssh-agent sh -c 'ssh-add -q /tmp/key; {script}; code=$?; kill $SSH_AGENT_PID; exit $code'"
        );
        output(home.command("sh").args(["-c", &script]).env("NO_COLOR", "1"))
    };
    let program = env!("CARGO_BIN_EXE_wayhome");
    let run = format!("{program} agent check --config /tmp/agent.toml");

    let (code, said, error) = with_agent(&run);
    assert_eq!(code, 2, "{said}{error}");
    assert!(error.contains("has a passphrase"), "{error}");

    // Where ssh finds the key by itself, the login fails, and this says why.
    let text = fs::read_to_string(home.file("/tmp/agent.toml")).unwrap();
    let text = text.replace("identity = \"/tmp/locked\"\n", "");
    fs::write(home.file("/tmp/agent.toml"), text).unwrap();
    let (code, said, error) = with_agent(&run);
    assert_eq!(code, 1, "{said}{error}");
    assert!(said.contains("id_ed25519` has a passphrase"), "{said}");

    // An agent that is named, but is a login's.
    home.sh("rm ~/.ssh/id_ed25519; echo 'IdentityAgent SSH_AUTH_SOCK' > ~/.ssh/config").unwrap();
    let (code, said, error) = with_agent(&run);
    assert_eq!(code, 1, "{said}{error}");
    assert!(said.contains("which is not there at boot"), "{said}");

    // And one of the machine's, which is there.
    home.sh("echo 'IdentityAgent /run/machine-agent' > ~/.ssh/config").unwrap();
    let (code, said, error) =
        with_agent(&format!("ln -s $SSH_AUTH_SOCK /run/machine-agent; {run}"));
    assert_eq!(code, 0, "{said}{error}");
}

//! What must be in no log, however much it says.

use std::fs;
use std::process::Stdio;

use wayhome_lab::net::GATEWAY;
use wayhome_lab::{assert_eventually, needs_lab};

use crate::seats::{Login, Running, SOON, Seats, output, wayhome};

const PASSWORD: &str = "hunter2";

#[test]
fn no_log_has_a_key_a_password_or_the_environment() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let home = seats.lab.home();
    let key = fs::read_to_string(home.file("/tmp/key")).unwrap();
    let key: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    assert!(key.len() > 2, "a key has its secret lines");
    let pin = seats.gateway_key();
    home.sh(&format!(
        "mkdir -p /var/lib/wayhome; echo '{GATEWAY} {pin}' > /var/lib/wayhome/known_hosts"
    ))
    .unwrap();
    let gateway = format!("root@{GATEWAY}");
    let log = home.file("/tmp/secrets.log");
    let said = || fs::read_to_string(&log).unwrap();
    let run = |format: &str| {
        let arguments = ["-vv", "--log-format", format, "agent", "run", &gateway, "-i", "/tmp/key"];
        let mut command = wayhome(home, &[&arguments[..], &["-R", "2222:localhost:22"]].concat());
        command
            .env("SSH_AUTH_SOCK", format!("/tmp/{PASSWORD}.sock"))
            .env("HTTPS_PROXY", format!("http://fan:{PASSWORD}@192.0.2.7:3128"))
            .env("WAYHOME_TOKEN", PASSWORD)
            .stdout(Stdio::null())
            .stderr(fs::File::options().create(true).append(true).open(&log).unwrap());
        Running(command.spawn().unwrap())
    };
    let is_clean = |text: &str| {
        assert!(!text.contains(PASSWORD), "{text}");
        assert!(key.iter().all(|line| !text.contains(line)), "{text}");
    };

    // A road that is proven with that key.
    for format in ["human", "json"] {
        let agent = run(format);
        let up = || output(&mut wayhome(home, &["status"])).0 == 0;
        assert_eventually!(up(), within = SOON, "{}", said());
        drop(agent);
    }
    is_clean(&said());
    assert!(said().contains("Dial(ConnId("), "it said all that it can say");

    // A proxy of the person's own, which names its password when it fails.
    home.sh(&format!(
        "mkdir -p ~/.ssh; cat > ~/.ssh/config <<'END'
Host *
  ProxyCommand sh -c 'echo proxy http://fan:{PASSWORD}@192.0.2.7:3128 answers 407 >&2; exit 1'
END"
    ))
    .unwrap();
    let _agent = run("human");
    let told = "proxy http://fan:***@192.0.2.7:3128 answers 407";
    assert_eventually!(said().contains(told), within = SOON, "{}", said());
    is_clean(&said());
    is_clean(&output(&mut wayhome(home, &["status", "--json"])).1);
}

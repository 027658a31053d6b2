//! The gateway as a service of a booted computer.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};

use wayhome_core::status::gateway::GatewaySnapshot;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::systemd::Booted;
use wayhome_lab::{Lab, Machine, assert_eventually, needs_systemd};

use crate::road::SOON;

const WAYHOME: &str = env!("CARGO_BIN_EXE_wayhome");
const UNIT: &str = "wayhome-gateway";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent at home, which dials port 443.
fn agent(home: &Machine, gateway_key: &str) -> Running {
    let config = format!(
        "name = \"home-ubuntu\"\nheartbeat = 1\n\
         [[gateway]]\naddress = \"wayhome://{GATEWAY}:443\"\nkey = \"{gateway_key}\"\n\
         [[service]]\nname = \"ssh\"\ntarget = \"localhost:22\"\nport = 80\nproof = \"hold\"\n"
    );
    fs::write(home.file("/tmp/agent.toml"), config).unwrap();
    let log = fs::File::create(home.file("/tmp/agent.log")).unwrap();
    let mut run = home.command(WAYHOME);
    run.args(["agent", "run", "--config", "/tmp/agent.toml"]).stdin(Stdio::null()).stderr(log);
    Running(run.spawn().unwrap())
}

fn status(gateway: &Booted<'_>) -> Option<GatewaySnapshot> {
    // Its exit code says that not all is up, as long as no home is.
    let json = gateway.sh("wayhome status --json || true").ok()?;
    serde_json::from_str(&json).ok()
}

fn is_online(gateway: &Booted<'_>) -> bool {
    status(gateway).is_some_and(|now| now.homes.iter().any(|home| home.online.is_some()))
}

fn property(gateway: &Booted<'_>, name: &str) -> String {
    gateway.sh(&format!("systemctl show -P {name} {UNIT}")).unwrap().trim().to_owned()
}

/// All files of the gateway, but for those that come and go by themselves.
fn files(gateway: &Booted<'_>) -> BTreeSet<String> {
    let all = "find / -xdev -path /tmp -prune -o -path /var/tmp -prune -o -path /var/log -prune \
               -o -path /var/lib/systemd -prune -o -print";
    gateway.sh(all).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_gateway_as_a_service_serves_returns_and_leaves_nothing() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let gateway = Booted::start(&image, lab.gateway()).unwrap();
    let home = lab.home();
    home.sh("mkdir -p -m 700 /var/lib/wayhome").unwrap();
    let program = gateway.file("/usr/local/bin/wayhome");
    fs::copy(WAYHOME, &program).unwrap();

    // Without grants nobody could get in, and nothing is installed.
    let before = files(&gateway);
    let refused = gateway.sh("wayhome service install gateway").unwrap_err().to_string();
    assert!(refused.contains("grants.toml"), "{refused}");
    assert_eq!(files(&gateway), before);

    // Root ran it by hand before; its key is known already.
    let by_hand = gateway.sh("wayhome keys").unwrap().trim().to_owned();
    let output = home.command(WAYHOME).arg("keys").output().unwrap();
    let home_key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let grants = format!(
        "[[grant]]\nkey = \"{home_key}\"\nname = \"home\"\nhomes = [\"home-ubuntu\"]\nports = [80]\n"
    );
    gateway.sh("mkdir -p /etc/wayhome").unwrap();
    fs::write(gateway.file("/etc/wayhome/grants.toml"), &grants).unwrap();
    gateway.sh("chmod 600 /etc/wayhome/grants.toml").unwrap();
    let config = "listen = [\"[::]:443\", \"0.0.0.0:443\"]\n";
    fs::write(gateway.file("/etc/wayhome/gateway.toml"), config).unwrap();
    let before = files(&gateway);

    let plan = gateway.sh("wayhome service install gateway --dry-run").unwrap();
    assert!(plan.contains("User=wayhome-gateway") && plan.contains("would copy the key"), "{plan}");
    assert_eq!(files(&gateway), before, "a dry run changes nothing");
    let said = gateway.sh("wayhome service install gateway 2>&1").unwrap();
    assert!(said.contains(&by_hand), "it has another key: {said}");
    let pid = property(&gateway, "MainPID");
    let user = gateway.sh(&format!("ps -o user:20= -p {pid}")).unwrap();
    assert_eq!(user.trim(), "wayhome-gateway");
    assert_eq!(gateway.sh("systemctl is-enabled wayhome-gateway").unwrap(), "enabled\n");
    assert!(gateway.sh("ss -lntH 'sport = :443'").unwrap().contains("0.0.0.0:443"));

    let agent = agent(home, &by_hand);
    let journal = || gateway.journal(UNIT).unwrap();
    assert_eventually!(is_online(&gateway), within = SOON, "{}", journal());
    // A port below 1024 for a home, too.
    let port = || gateway.sh("ss -lntH 'sport = :80'").unwrap();
    assert_eventually!(port().contains("127.0.0.1:80"), within = SOON, "{}", journal());
    let told = || property(&gateway, "StatusText");
    assert_eventually!(told().starts_with("1 home online"), within = SOON, "{}", told());
    let shown = gateway.sh("wayhome service status gateway").unwrap();
    assert!(shown.contains("active (running)") && shown.contains("home-ubuntu"), "{shown}");
    assert!(!journal().contains("no more than"), "it may have as many descriptors as it needs");

    // It falls, and is back; and so is the home.
    gateway.sh(&format!("kill -9 {pid}")).unwrap();
    let is_back = || property(&gateway, "MainPID") != pid && is_online(&gateway);
    assert_eventually!(is_back(), within = SOON, "{}", journal());

    // What is edited counts, also in a file that not everybody may read.
    let revoked = grants.replace("ports", "revoked = true\nports");
    fs::write(gateway.file("/etc/wayhome/grants.toml"), revoked).unwrap();
    assert_eventually!(!is_online(&gateway), within = SOON, "{}", journal());
    gateway.sh("systemctl reload wayhome-gateway && systemctl is-active wayhome-gateway").unwrap();

    // Again changes nothing; and without it nothing is left.
    let again = gateway.sh("wayhome service install gateway 2>&1").unwrap();
    assert!(again.contains("is already as it should be"), "{again}");
    drop(agent);
    gateway.sh("wayhome service uninstall gateway --purge").unwrap();
    let after = files(&gateway);
    let changed: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(changed.is_empty(), "left, or lost: {changed:?}");
    assert!(gateway.sh("id wayhome-gateway").is_err(), "the user is gone");
    assert!(gateway.sh("pgrep -x wayhome").is_err(), "the gateway is gone");
}

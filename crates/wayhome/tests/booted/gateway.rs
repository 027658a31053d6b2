//! The gateway as a service of a booted computer.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

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
fn agent(home: &Machine, gateway_key: &str, service: &str) -> Running {
    let config = format!(
        "name = \"home-ubuntu\"\nheartbeat = 1\n\
         [[gateway]]\naddress = \"wayhome://{GATEWAY}:443\"\nkey = \"{gateway_key}\"\n\
         [[service]]\nname = \"numbers\"\nproof = \"hold\"\n{service}\n"
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

    let agent = agent(home, &by_hand, "target = \"localhost:22\"\nport = 80");
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

/// Something that runs and says a line when it is under way, and another when its input has ended.
struct Script {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Script {
    /// `streams.py` on a machine.
    fn start(machine: &Machine, arguments: &[&str]) -> Self {
        let mut python = machine.command("/usr/bin/python3");
        python.arg("/tmp/streams.py").args(arguments);
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Ends its input; what it says of all that.
    fn end(mut self, log: &dyn Fn() -> String) -> String {
        drop(self.child.stdin.take());
        let line = self.line();
        assert!(self.child.wait().unwrap().success(), "what it wrote tells why: {}", log());
        line
    }
}

/// Restarts of a gateway, one after the other, while streams live and more of them come.
#[test]
fn a_restart_cuts_no_stream_and_refuses_nobody() {
    const STREAMS: &str = "50";
    const RESTARTS: u32 = 10;
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let gateway = Booted::start(&image, lab.gateway()).unwrap();
    let (home, laptop) = (lab.home(), lab.laptop());
    for machine in [home, lab.gateway(), laptop] {
        machine.sh("mkdir -p -m 700 /var/lib/wayhome").unwrap();
        fs::write(machine.file("/tmp/streams.py"), include_str!("streams.py")).unwrap();
    }
    fs::copy(WAYHOME, gateway.file("/usr/local/bin/wayhome")).unwrap();
    let key_of = |machine: &Machine| {
        let output = machine.command(WAYHOME).arg("keys").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (home_key, laptop_key) = (key_of(home), key_of(laptop));
    let grants = format!(
        "[[grant]]\nkey = \"{home_key}\"\nname = \"home\"\nhomes = [\"home-ubuntu\"]\nports = [80]\n\
         [[grant]]\nkey = \"{laptop_key}\"\nname = \"laptop\"\nreach = [\"home-ubuntu\"]\n"
    );
    gateway.sh("mkdir -p /etc/wayhome").unwrap();
    fs::write(gateway.file("/etc/wayhome/grants.toml"), grants).unwrap();
    let config = "listen = [\"[::]:443\", \"0.0.0.0:443\"]\n";
    fs::write(gateway.file("/etc/wayhome/gateway.toml"), config).unwrap();
    gateway.sh("wayhome service install gateway").unwrap();
    let gateway_key = status(&gateway).unwrap().key.to_string();
    let gateway_key = &*gateway_key;

    let grant = format!("[[grant]]\nkey = \"{laptop_key}\"\nname = \"laptop\"\n");
    fs::write(home.file("/tmp/grants.toml"), grant).unwrap();
    let echo = Running(
        home.command("/usr/bin/python3")
            .args(["/tmp/streams.py", "serve", "9000"])
            .spawn()
            .unwrap(),
    );
    let agent = agent(home, gateway_key, "target = \"127.0.0.1:9000\"\nport = 80");
    let journal = || {
        let agent = fs::read_to_string(home.file("/tmp/agent.log")).unwrap();
        format!("{}\n{agent}", gateway.sh(&format!("journalctl -o short-unix -u {UNIT}")).unwrap())
    };
    let proven = || {
        let homes = status(&gateway).map(|now| now.homes).unwrap_or_default();
        let services = homes.into_iter().filter_map(|home| home.online).flat_map(|on| on.services);
        services.into_iter().any(|service| service.proven_ms.is_some())
    };
    assert_eventually!(proven(), within = SOON, "{}", journal());
    for (whose, key) in
        [(&*format!("wayhome://{GATEWAY}:443"), gateway_key), ("home-ubuntu", &home_key)]
    {
        let pinned = laptop.command(WAYHOME).args(["keys", "pin", whose, key]).status().unwrap();
        assert!(pinned.success());
    }

    let connect = [WAYHOME, "connect", "home-ubuntu:numbers"];
    let mut held = Script::start(laptop, &[&["hold", STREAMS][..], &connect].concat());
    assert_eq!(held.line(), "open", "{}", journal());
    let mut knocks = Script::start(laptop, &[&["knock"][..], &connect].concat());
    assert_eq!(knocks.line(), "open", "{}", journal());
    let call = ["knock", "/usr/bin/python3", "/tmp/streams.py", "call", "80"];
    let mut calls = Script::start(lab.gateway(), &call);
    assert_eq!(calls.line(), "open", "{}", journal());

    let mut longest = Duration::ZERO;
    for _ in 0..RESTARTS {
        let pid = property(&gateway, "MainPID");
        let began = Instant::now();
        gateway.sh(&format!("systemctl restart {UNIT}")).unwrap();
        assert_ne!(property(&gateway, "MainPID"), pid);
        assert_eventually!(proven(), within = SOON, "{}", journal());
        longest = longest.max(began.elapsed());
        let now = status(&gateway).unwrap();
        let lived = now.streams.iter().filter(|stream| stream.port.is_none()).count();
        assert!(lived >= 50, "{lived} streams: {}", journal());
    }
    let (knocked, called) = (knocks.end(&journal), calls.end(&journal));
    let bytes = held.end(&journal);
    println!(
        "{STREAMS} streams lived through {RESTARTS} restarts, with {bytes} bytes there and back; the \
         longest restart took {longest:.1?} to a proven home; new streams and the longest wait: \
         {knocked} by connect, {called} by the port"
    );
    assert!(bytes.parse::<u64>().unwrap() > 50 << 16, "{bytes}");

    a_stop_is_no_restart(&gateway, laptop, &connect);
    gateway.sh(&format!("systemctl start {UNIT}")).unwrap();
    assert_eventually!(proven(), within = SOON, "{}", journal());
    a_stream_that_was_revoked_while_nobody_ran_is_cut(&gateway, laptop, &connect);
    drop((agent, echo));
}

/// A gateway that is stopped keeps nobody's stream in the air, and no socket open.
fn a_stop_is_no_restart(gateway: &Booted<'_>, laptop: &Machine, connect: &[&str]) {
    let mut last = Script::start(laptop, &[&["hold", "1"][..], connect].concat());
    assert_eq!(last.line(), "open");
    gateway.sh(&format!("systemctl stop {UNIT}")).unwrap();
    drop(last.child.stdin.take());
    assert!(!last.child.wait().unwrap().success(), "a cut is no end");
    assert_eq!(gateway.sh("ss -lntH 'sport = :443 or sport = :80'").unwrap(), "");
}

fn a_stream_that_was_revoked_while_nobody_ran_is_cut(
    gateway: &Booted<'_>,
    laptop: &Machine,
    connect: &[&str],
) {
    let mut revoked = Script::start(laptop, &[&["hold", "1"][..], connect].concat());
    assert_eq!(revoked.line(), "open");
    let next = fs::read_to_string(gateway.file("/etc/wayhome/grants.toml")).unwrap();
    let next = next.replace("\nreach", "\nrevoked = true\nreach");
    fs::write(gateway.file("/etc/wayhome/next.toml"), next).unwrap();
    let between =
        "[Service]\nExecStartPre=+/bin/cp /etc/wayhome/next.toml /etc/wayhome/grants.toml\n";
    gateway.sh("mkdir -p /etc/systemd/system/wayhome-gateway.service.d").unwrap();
    let drop_in = "/etc/systemd/system/wayhome-gateway.service.d/between.conf";
    fs::write(gateway.file(drop_in), between).unwrap();
    gateway.sh(&format!("systemctl daemon-reload && systemctl restart {UNIT}")).unwrap();
    drop(revoked.child.stdin.take());
    assert!(!revoked.child.wait().unwrap().success(), "a cut is no end");
    let now = status(gateway).unwrap();
    assert!(now.streams.is_empty(), "{:?}", now.streams);
    let grants = fs::read_to_string(gateway.file("/etc/wayhome/grants.toml")).unwrap();
    assert!(grants.contains("revoked = true"), "{grants}");
    let journal = gateway.journal(UNIT).unwrap();
    assert!(journal.contains("refused `laptop`") && journal.contains("revoked"), "{journal}");
}

//! The login: host keys, certificates and their time, keys, accounts, and sshds that let nobody in.

use std::fs;

use wayhome_core::status::LinkState;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::sshd::Builder;
use wayhome_lab::{Machine, Sshd, assert_eventually, needs_lab};

use super::{LATER, Stage, kick, redial, shown, until_halted, until_link, versions};
use crate::gateway::variants;
use crate::seats::output;

const PINS: &str = "/var/lib/wayhome/known_hosts";

#[test]
fn a_host_key_that_is_not_pinned_and_one_that_is_another() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        let sshd = stage.open(|builder| builder);
        let agent = stage.agent(&sshd);
        agent.until_up();
        home.sh(&format!("echo '# gone' > {PINS}")).unwrap();
        redial(&agent);
        until_halted(&agent, "host-key-unknown");
        // A service has no terminal: it is told of a remedy of its own, whose second half is a kick.
        let remedy = agent.link().cause.unwrap().remedy;
        assert!(remedy.contains("`wayhome service install agent`"), "{remedy}");
        stage.pin(&sshd.known_hosts_line(GATEWAY));
        kick(home);
        agent.until_up();
        let other = stage.seats.homes[0].host_key_line();
        home.sh(&format!("echo '[{GATEWAY}]:{} {other}' > {PINS}", sshd.port())).unwrap();
        redial(&agent);
        until_halted(&agent, "host-key-changed");
    }
}

/// Makes a CA at `/tmp/ca`.
fn make_ca(machine: &Machine) -> String {
    machine.sh("rm -f /tmp/ca*; ssh-keygen -q -t ed25519 -N '' -f /tmp/ca").unwrap();
    fs::read_to_string(machine.file("/tmp/ca.pub")).unwrap().trim().to_owned()
}

/// A window that is over, and one that has not begun: what a clock that is wrong makes of a valid one.
const WINDOWS: [&str; 2] = ["20200101:20200201", "20400101:20410201"];

#[test]
fn a_host_certificate_out_of_its_time() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let (home, gateway) = (stage.seats.lab.home(), stage.seats.lab.gateway());
        let ca = make_ca(gateway);
        for window in WINDOWS {
            gateway
                .sh(&format!(
                    "ssh-keygen -y -f /tmp/host_key > /tmp/host_key.pub\n\
                     ssh-keygen -q -s /tmp/ca -I gateway -h -n {GATEWAY} -V {window} /tmp/host_key.pub"
                ))
                .unwrap();
            let host_key = fs::read_to_string(gateway.file("/tmp/host_key")).unwrap();
            let sshd = stage.open(|builder| {
                builder.host_key(&host_key).line("HostCertificate /tmp/host_key-cert.pub")
            });
            // With the key itself pinned, nobody asks for the certificate's time.
            let agent = stage.agent(&sshd);
            agent.until_up();
            let line = format!("@cert-authority [{GATEWAY}]:{} {ca}", sshd.port());
            home.sh(&format!("echo '{line}' > {PINS}")).unwrap();
            redial(&agent);
            until_halted(&agent, "clock");
            home.sh(&format!("rm {PINS}")).unwrap();
        }
    }
}

#[test]
fn a_certificate_of_our_own_out_of_its_time() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        let ca = make_ca(home);
        let sshd = stage.sshd(|builder| builder.authorize("root", &format!("cert-authority {ca}")));
        home.sh("ssh-keygen -q -t ed25519 -N '' -f /tmp/signed").unwrap();
        let sign = |window: &str| {
            let sign =
                format!("ssh-keygen -q -s /tmp/ca -I home -n root -V {window} /tmp/signed.pub");
            home.sh(&sign).unwrap();
        };
        for window in WINDOWS {
            sign(window);
            let address = format!("root@{GATEWAY}:{}", sshd.port());
            let agent = stage.agent_at(&address, &["-i", "/tmp/signed"]);
            until_halted(&agent, "clock");
            let finding = agent.link().cause.unwrap();
            assert!(finding.text.contains("/tmp/signed-cert.pub"), "{}", finding.text);
            sign("always:forever");
            kick(home);
            agent.until_up();
        }
    }
}

#[test]
fn keys_that_are_refused_and_too_many_of_them() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        let sshd = stage.open(|builder| builder);
        home.sh("for n in 1 2 3 4 5 6 7; do ssh-keygen -q -t ed25519 -N '' -f /tmp/k$n; done")
            .unwrap();
        let address = format!("root@{GATEWAY}:{}", sshd.port());
        until_halted(&stage.agent_at(&address, &["-i", "/tmp/k1"]), "key-refused");
        home.sh("mkdir -p ~/.ssh; for n in 2 3 4 5 6 7; do echo IdentityFile /tmp/k$n; done > ~/.ssh/config")
            .unwrap();
        until_halted(&stage.agent_at(&address, &["-i", "/tmp/k1"]), "too-many-keys");
    }
}

/// What `/etc/shadow` says of an account, and what that means with PAM and without: `None` is in.
///
/// Without PAM sshd refuses such an account as it does a stranger, so that nobody can ask which
/// accounts there are; with PAM the password's lock is no matter of keys.
const ACCOUNTS: [(&str, Option<&str>, Option<&str>); 3] = [
    ("amy:*:19000:0:99999:7:::", None, None),
    ("amy:!:19000:0:99999:7:::", Some("key-refused"), None),
    ("amy:*:19000:0:99999:7::19001:", Some("key-refused"), Some("account-refused")),
];

#[test]
fn accounts_that_are_locked_or_expired() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let stage = Stage::of(&openssh);
        let gateway = stage.seats.lab.gateway();
        let sshd = stage.sshd(|builder| builder.pam(pam).authorize("amy", &stage.key()));
        let address = format!("amy@{GATEWAY}:{}", sshd.port());
        let shadow = |line: &str| gateway.sh(&format!("sed -i 's/^amy:.*/{line}/' /etc/shadow"));
        for (line, without, with) in ACCOUNTS {
            shadow(line).unwrap();
            let agent = stage.agent_at(&address, &[]);
            match if pam { with } else { without } {
                None => agent.until_up(),
                Some(kind) => {
                    until_halted(&agent, kind);
                    let finding = agent.link().cause.unwrap();
                    assert!(finding.remedy.contains("chage -l"), "{finding:?}");
                }
            }
        }
        if pam {
            shadow(ACCOUNTS[0].0).unwrap();
            gateway.sh("echo 'closed for work' > /etc/nologin").unwrap();
            let agent = stage.agent_at(&address, &[]);
            until_halted(&agent, "account-refused");
            assert!(
                agent.link().cause.unwrap().text.contains("closed for work"),
                "{}",
                agent.log()
            );
        }
    }
}

#[test]
fn too_many_who_log_in_at_once() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let sshd = stage.open(|builder| builder.line("MaxStartups 1"));
        let address = format!("{GATEWAY}:{}", sshd.port()).parse().unwrap();
        let held = stage.seats.lab.laptop().connect(address, LATER).unwrap();
        // From 9.8 on sshd says the same of this and of a ban.
        let kind =
            if openssh.version().unwrap().major < 10 { "max-startups" } else { "not-allowed-now" };
        let agent = stage.agent(&sshd);
        until_link(&agent, kind);
        let state = agent.link().state;
        let is_tried_again = matches!(state, LinkState::Down | LinkState::Dialling);
        assert!(is_tried_again, "it passes by itself: {state:?}");
        drop(held);
        // Our own knock is one who logs in, for a moment; so it may take more than one.
        let up = || {
            kick(agent.machine);
            agent.is_up()
        };
        assert_eventually!(up(), within = LATER, "{}", agent.log());
    }
}

/// Comes as root with a key that nobody knows, with ssh alone.
fn fail_to_log_in(stage: &Stage, sshd: &Sshd) {
    let home = stage.seats.lab.home();
    home.sh("[ -e /tmp/no ] || ssh-keygen -q -t ed25519 -N '' -f /tmp/no").unwrap();
    let mut ssh = home.command(stage.openssh.ssh());
    ssh.args(["-F", "none", "-i", "/tmp/no", "-p", &sshd.port().to_string(), "-l", "root"]);
    ssh.args(["-o", "BatchMode=yes", "-o", &format!("UserKnownHostsFile={PINS}"), GATEWAY]);
    let (code, _, error) = output(&mut ssh);
    assert!(code == 255 && error.contains("Permission denied"), "{error}");
}

#[test]
fn a_ban_is_told_and_not_hammered() {
    needs_lab!();
    for openssh in versions() {
        if openssh.version().unwrap().major < 10 {
            continue; // There were no bans before 9.8.
        }
        let stage = Stage::of(&openssh);
        let banning = |builder: Builder| builder.line("PerSourcePenalties authfail:25s min:1s");
        let sshd = stage.open(banning);
        fail_to_log_in(&stage, &sshd);
        let agent = stage.agent(&sshd);
        until_link(&agent, "not-allowed-now");
        let link = agent.link();
        assert!(link.retry_in_ms.is_some_and(|wait| wait > 5_000), "{link:?}");
        assert!(link.cause.as_ref().unwrap().text.contains("PerSourcePenalties"), "{link:?}");
        // A ban ends by itself, and then so does the wait.
        let up = || agent.is_up();
        assert_eventually!(up(), within = LATER * 3, "{:?}", shown(&agent.snapshot()));
        let drops = sshd.log().matches("drop connection").count();
        assert!(
            drops <= 8,
            "a knock and a login for each of few attempts: {drops} in {}",
            sshd.log()
        );
    }
}

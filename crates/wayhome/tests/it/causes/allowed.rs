//! What a login may do at the gateway: forward, and run the hold.

use wayhome_core::status::{LinkState, ServiceState};
use wayhome_lab::needs_lab;
use wayhome_lab::net::GATEWAY;

use super::{Stage, until_service, versions};
use crate::gateway::variants;
use crate::seats::{Agent, output, wayhome};

/// A line of sshd_config, the options of the key's line, and who forbids the forward.
const FORBIDDEN: [(&str, &str, &str); 8] = [
    ("AllowTcpForwarding no", "", "forwarding-forbidden-by-server"),
    ("AllowTcpForwarding local", "", "forwarding-forbidden-by-server"),
    ("DisableForwarding yes", "", "forwarding-forbidden-by-server"),
    ("PermitListen 127.0.0.1:2300", "", "forwarding-forbidden-by-permitlisten"),
    ("", "no-port-forwarding ", "forwarding-forbidden-by-key"),
    ("", "restrict ", "forwarding-forbidden-by-key"),
    (
        "",
        "restrict,port-forwarding,permitlisten=\"127.0.0.1:2300\" ",
        "forwarding-forbidden-by-permitlisten",
    ),
    // Where nothing may be run, nobody can look, and sshd's word is as good.
    (
        "",
        "restrict,port-forwarding,permitlisten=\"localhost:2222\",command=\"/bin/false\" ",
        "forwarding-forbidden-by-permitlisten",
    ),
];

#[test]
fn a_forward_that_is_forbidden_by_the_server_the_key_or_a_permitlisten() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        for (line, options, kind) in FORBIDDEN {
            let key = format!("{options}{}", stage.key());
            let sshd = stage.sshd(|builder| builder.line(line).authorize("root", &key));
            let agent = stage.agent(&sshd);
            until_service(&agent, 0, kind);
            let link = agent.link();
            assert_eq!(link.state, LinkState::Up, "{kind}");
            assert_eq!(link.services[0].state, ServiceState::Blocked, "{kind}");
        }
    }
}

/// What stands in the way of the hold, and what that is called.
const NO_HOLD: [(&str, &str, &str); 4] = [
    ("", "command=\"/bin/echo go away\",restrict,port-forwarding ", "forced-command"),
    ("", "command=\"/bin/false\" ", "forced-command"),
    ("ForceCommand /bin/false", "", "hold-refused"),
    ("MaxSessions 0", "", "max-sessions"),
];

/// Why the link has no hold, as `status --json` has it.
fn no_hold(agent: &Agent<'_>) -> Option<&'static str> {
    agent.link().no_hold.map(|finding| finding.cause.kind())
}

#[test]
fn a_login_that_may_not_run_the_hold_and_has_its_road_all_the_same() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        for (line, options, kind) in NO_HOLD {
            let key = format!("{options}{}", stage.key());
            let sshd = stage.sshd(|builder| builder.line(line).authorize("root", &key));
            let agent = stage.agent(&sshd);
            agent.until_up();
            assert_eq!(no_hold(&agent), Some(kind), "{}", agent.log());
            let (code, table, _) = output(&mut wayhome(agent.machine, &["status"]));
            assert_eq!(code, 0, "{table}");
            assert!(table.contains("no hold: "), "{table}");
        }

        let gateway = stage.seats.lab.gateway();
        gateway
            .sh("sed -i 's|^amy:\\(.*\\):/bin/sh$|amy:\\1:/usr/sbin/nologin|' /etc/passwd")
            .unwrap();
        let sshd = stage.sshd(|builder| builder.authorize("amy", &stage.key()));
        let agent = stage.agent_at(&format!("amy@{GATEWAY}:{}", sshd.port()), &[]);
        agent.until_up();
        assert_eq!(no_hold(&agent), Some("no-shell"), "{}", agent.log());
    }
}

#[test]
fn a_password_that_has_expired() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let stage = Stage::of(&openssh);
        let gateway = stage.seats.lab.gateway();
        gateway.sh("sed -i 's/^amy:.*/amy:*:0:0:99999:7:::/' /etc/shadow").unwrap();
        let sshd = stage.sshd(|builder| builder.pam(pam).authorize("amy", &stage.key()));
        let agent = stage.agent_at(&format!("amy@{GATEWAY}:{}", sshd.port()), &[]);
        if pam {
            until_service(&agent, 0, "password-expired");
            assert_eq!(no_hold(&agent), Some("password-expired"), "{}", agent.log());
        } else {
            // Without PAM, sshd asks for a new one only from who came with the old one.
            agent.until_up();
        }
    }
}

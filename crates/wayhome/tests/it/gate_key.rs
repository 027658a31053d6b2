//! What the keys of the shared account may do at a gateway, and each thing that they may not.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Output, Stdio};

use wayhome_lab::{assert_eventually, needs_lab};

use crate::gateway::{AMY, Gateway, HOME_2222, Hold, LAPTOP, SOON, variants};

const ONLY: &str =
    "wayhome-gate: this key may hold the port 2222 for a home here, and nothing else";

fn run(gateway: &Gateway, key: &str, options: &[&str], command: &[&str]) -> Output {
    gateway.ssh(key, options).args(command).stdin(Stdio::null()).output().expect("ssh")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn a_home_s_key_runs_nothing_but_the_gate() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        for (options, command) in [
            (&[][..], &[][..]),
            (&[], &["id"]),
            (&[], &["sh", "-c", "id"]),
            (&[], &["scp", "-t", "/tmp"]),
            (&[], &["wayhome-hold"]),
        ] {
            let output = run(&gateway, HOME_2222, options, command);
            assert!(!output.status.success(), "{options:?} {command:?}");
            assert!(said(&output).contains(ONLY), "{command:?}: {}", said(&output));
            assert!(!said(&output).contains("uid="), "{command:?}");
        }
        let output = run(&gateway, HOME_2222, &["-tt"], &[]);
        assert!(said(&output).contains("PTY allocation request failed"), "{}", said(&output));
        // Of a subsystem, sshd passes no error output on.
        let output = run(&gateway, HOME_2222, &["-s"], &["sftp"]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", said(&output));
        // The words of the key's holder are looked at and never run.
        let injected = "exec sh -c 'id' wayhome-hold 1; id; $(id) `id`";
        let output = run(&gateway, HOME_2222, &[], &[injected]);
        assert!(
            output.stdout.is_empty() || !said(&output).contains("groups="),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn a_home_s_key_listens_on_its_ports_alone() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        let link = gateway.link(HOME_2222);
        for (wanted, granted) in [
            ("127.0.0.1:2222:127.0.0.1:9", true),
            ("[::1]:2222:127.0.0.1:9", true),
            ("127.0.0.1:2223:127.0.0.1:9", false),
            ("[::1]:2223:127.0.0.1:9", false),
            ("0.0.0.0:2222:127.0.0.1:9", false),
            ("*:2222:127.0.0.1:9", false),
            ("127.0.0.1:0:127.0.0.1:9", false),
            ("/tmp/listen-here:127.0.0.1:9", false),
        ] {
            let output = link.try_forward(wanted);
            assert_eq!(output.status.success(), granted, "{wanted}: {}", said(&output));
        }
        // Both families were really bound, by this connection.
        let mut hold = link.hold(&[2222]);
        let reply = hold.ask("look 2222");
        assert!(reply.ends_with(" 127.0.0.1,::1"), "{reply}");
    }
}

#[test]
fn a_home_s_key_listens_on_loopback_also_where_others_need_not() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start_with(&openssh, pam, &["GatewayPorts yes"]);
        let link = gateway.link(HOME_2222);
        let mut hold = link.hold(&[2222]);
        assert!(link.try_forward("127.0.0.1:2222:127.0.0.1:9").status.success());
        let reply = hold.ask("look 2222");
        assert!(reply.ends_with(" 127.0.0.1"), "{reply}");
        // So it is the drop-in that keeps it there.
        let link = gateway.link(AMY);
        let mut hold = link.hold(&[2223]);
        assert!(link.try_forward("127.0.0.1:2223:127.0.0.1:9").status.success());
        let reply = hold.ask("look 2223");
        assert!(reply.contains("0.0.0.0"), "the impairment took effect: {reply}");
    }
}

#[test]
fn neither_key_connects_anywhere_else() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        let sshd = format!("127.0.0.1:{}", gateway.port());
        for key in [HOME_2222, LAPTOP] {
            for (target, prohibited) in [
                ("127.0.0.1:2222", false), // nobody is there, but it may ask
                (&sshd, true),
                ("127.0.0.1:2223", true),
                ("localhost:2222", true),
                ("192.0.2.1:80", true),
            ] {
                let output = run(&gateway, key, &["-W", target], &[]);
                let said = said(&output);
                assert!(!output.status.success(), "{key} to {target}");
                assert!(!said.contains("SSH-2.0"), "{key} to {target}: {said}");
                let refused = said.contains("administratively prohibited");
                assert_eq!(refused, prohibited, "{key} to {target}: {said}");
            }
        }
    }
}

#[test]
fn unix_sockets_are_not_forwarded() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        // Somebody listens at the gateway, and everybody may connect there.
        let listening = gateway.machine.file("/run/there");
        let listener = UnixListener::bind(&listening).expect("a listener");
        fs::set_permissions(&listening, fs::Permissions::from_mode(0o777)).expect("open to all");
        listener.set_nonblocking(true).expect("polled");

        // A key without restrictions, of an account that the drop-in is not about, may do it all.
        for (key, granted) in [(AMY, true), (HOME_2222, false), (LAPTOP, false)] {
            let link = gateway.link(key);
            let bound = format!("/tmp/bound-{key}");
            let output = link.try_forward(&format!("{bound}:127.0.0.1:9"));
            assert_eq!(output.status.success(), granted, "{key}: {}", said(&output));
            assert_eq!(gateway.machine.file(&bound).exists(), granted, "{key}");

            let here = format!("/tmp/here-{key}");
            link.lead(&here, "/run/there");
            let mut stream = UnixStream::connect(gateway.machine.file(&here)).expect("the client");
            if granted {
                assert_eventually!(listener.accept().is_ok(), within = SOON, "{key}");
            } else {
                stream.set_read_timeout(Some(SOON)).expect("a deadline");
                let end = stream.read(&mut [0]);
                assert!(matches!(end, Ok(0)), "{key}: {end:?}");
                assert!(listener.accept().is_err(), "{key} got through");
            }
        }
    }
}

#[test]
fn agents_and_displays_are_not_forwarded() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        let agent = gateway.run("ssh-agent", &["-D", "-a", "/tmp/agent"]);
        let there = || gateway.machine.file("/tmp/agent").exists();
        assert_eventually!(there(), within = SOON, "no agent");
        // A key without restrictions shows that there is something to deny.
        for (key, granted) in [(AMY, true), (HOME_2222, false)] {
            let mut ssh = gateway.ssh(key, &["-A", "-Y"]);
            ssh.env("SSH_AUTH_SOCK", "/tmp/agent").env("DISPLAY", ":0");
            let hold = Hold::start(ssh, &[2222]);
            let shell = gateway.child_of(&hold.field("pid"));
            for name in ["SSH_AUTH_SOCK", "DISPLAY"] {
                assert_eq!(gateway.variable(&shell, name).is_some(), granted, "{key}: {name}");
            }
        }
        drop(agent);
    }
}

#[test]
fn a_laptop_s_key_runs_nothing_and_listens_nowhere() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        for (options, command) in [(&[][..], &["id"][..]), (&["-tt"], &[]), (&["-s"], &["sftp"])] {
            let output = run(&gateway, LAPTOP, options, command);
            assert!(!output.status.success(), "{command:?}");
            assert!(output.stdout.is_empty(), "{command:?}: {}", said(&output));
        }
        let link = gateway.link(LAPTOP);
        for wanted in ["127.0.0.1:2222:127.0.0.1:9", "[::1]:2222:127.0.0.1:9", "*:8080:127.0.0.1:9"]
        {
            assert!(!link.try_forward(wanted).status.success(), "{wanted}");
        }
    }
}

//! The table against what ssh really wrote: transcripts of the lab, of 9.2 and 10.0; and against
//! words that are wrong, missing, or another line's.

use std::collections::BTreeSet;

use proptest::prelude::*;
use wayhome_core::health::Cause;
use wayhome_core::link::Stage;

use super::line::Line;
use super::table::{GREETING, LOGIN, REASONED};
use super::*;

/// What ssh wrote up to a stage: 9.2's marks, as `LogVerbose` brings them.
const CONNECTED: &str = "debug1: kex.c:kex_exchange_identification():1347 (pid=7): Local version string SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10";
const GREETED: &str = "debug1: kex.c:kex_exchange_identification():1456 (pid=7): Remote protocol version 2.0, remote software version OpenSSH_9.2p1 Debian-2+deb12u10";
const EXCHANGED: &str = "debug1: kex.c:kex_input_newkeys():612 (pid=7): SSH2_MSG_NEWKEYS received";
const SERVICE: &str = "debug1: sshconnect2.c:input_userauth_service_accept():607 (pid=7): SSH2_MSG_SERVICE_ACCEPT received";
const ACCEPTED: &str = "debug1: sshconnect2.c:input_userauth_pk_ok():840 (pid=7): Server accepts key: /tmp/key ED25519 SHA256:jtYovUzKt1UXUKFOk04jdCbgYVj5qAzCgsXAYQGjaCk explicit";

/// Each scene: how far it came, what was written then, and which cause that is.
type Scene = (Reached, &'static [&'static str], &'static str);

#[rustfmt::skip]
const SCENES: &[Scene] = &[
    (Reached::Nothing, &["ssh: Could not resolve hostname gw.example.org: Name or service not known"], "name-unknown"),
    (Reached::Nothing, &["ssh: Could not resolve hostname gw.example.org: No address associated with hostname"], "name-unknown"),
    (Reached::Nothing, &["ssh: Could not resolve hostname gw.example.org: Temporary failure in name resolution"], "resolver-down"),
    (Reached::Nothing, &["ssh: connect to host 203.0.113.10 port 22: Connection refused"], "connection-refused"),
    (Reached::Nothing, &["ssh: connect to host 203.0.113.10 port 22: Connection timed out"], "timed-out"),
    (Reached::Nothing, &["ssh: connect to host 203.0.113.10 port 22: No route to host"], "no-route"),
    (Reached::Nothing, &["ssh: connect to host 2001:db8::1 port 22: Network is unreachable"], "no-route"),
    // Through a jump host: its own attempt, and then ours.
    (Reached::Connected, &[
        "channel 0: open failed: connect failed: Connection refused",
        "stdio forwarding failed",
        "kex.c:kex_exchange_identification():1383 (pid=7): Connection closed by remote host",
        "Connection closed by UNKNOWN port 65535",
    ], "connection-refused"),
    (Reached::Connected, &[
        "debug1: kex.c:kex_exchange_identification():1430 (pid=7): banner line 0: Exceeded MaxStartups",
        "kex.c:kex_exchange_identification():1388 (pid=7): read: Connection reset by peer",
        "Connection reset by 203.0.113.10 port 22",
    ], "max-startups"),
    (Reached::Connected, &[
        "debug1: kex.c:kex_exchange_identification():1369 (bin=/usr/bin/ssh, pid=7): banner line 0: Not allowed at this time",
        "kex.c:kex_exchange_identification():1322 (bin=/usr/bin/ssh, pid=7): Connection closed by remote host",
        "Connection closed by 203.0.113.10 port 22",
    ], "not-allowed-now"),
    (Reached::Connected, &[
        "debug1: kex.c:kex_exchange_identification():1430 (pid=7): banner line 0: HTTP/1.1 400 Bad Request",
        "kex.c:kex_exchange_identification():1383 (pid=7): Connection closed by remote host",
        "Connection closed by 203.0.113.10 port 22",
    ], "ssh-failed"),
    (Reached::Connected, &[
        "kex.c:kex_exchange_identification():1388 (pid=7): read: Connection reset by peer",
        "Connection reset by 203.0.113.10 port 22",
    ], "reset-in-key-exchange"),
    (Reached::Nothing, &[
        "kex_exchange_identification: read: Connection reset by peer",
        "Connection reset by 203.0.113.10 port 22",
    ], "reset-in-key-exchange"),
    (Reached::Greeted, &["Connection reset by 203.0.113.10 port 22"], "reset-in-key-exchange"),
    (Reached::Greeted, &["ssh_dispatch_run_fatal: Connection to 203.0.113.10 port 22: Broken pipe"], "reset-in-key-exchange"),
    (Reached::Exchanged, &["Connection closed by 203.0.113.10 port 22"], "ssh-failed"),
    (Reached::Connected, &[
        "Connection timed out during banner exchange",
        "Connection to 203.0.113.10 port 22 timed out",
    ], "login-timed-out"),
    (Reached::Greeted, &["Unable to negotiate with 203.0.113.10 port 22: no matching host key type found. Their offer: ssh-rsa"], "no-common-algorithm"),
    (Reached::Greeted, &[
        "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@",
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
        "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@",
        "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!",
        "Someone could be eavesdropping on you right now (man-in-the-middle attack)!",
        "It is also possible that a host key has just been changed.",
        "The fingerprint for the ED25519 key sent by the remote host is",
        "SHA256:GHAW3rRxE7k3pdqHIJX3EDjTJ5100nex3uxSUGAhTZU.",
        "Please contact your system administrator.",
        "Add correct host key in /tmp/known_hosts to get rid of this message.",
        "Offending ED25519 key in /tmp/known_hosts:1",
        "  remove with:",
        "  ssh-keygen -f \"/tmp/known_hosts\" -R \"203.0.113.10\"",
        "Host key for 203.0.113.10 has changed and you have requested strict checking.",
        "Host key verification failed.",
    ], "host-key-changed"),
    (Reached::Greeted, &[
        "No ED25519 host key is known for 203.0.113.10 and you have requested strict checking.",
        "Host key verification failed.",
    ], "host-key-unknown"),
    (Reached::Greeted, &[
        "Certificate invalid: expired",
        "No ED25519 host key is known for 203.0.113.10 and you have requested strict checking.",
        "Host key verification failed.",
    ], "clock"),
    (Reached::Greeted, &[
        "Certificate invalid: not yet valid",
        "No ED25519 host key is known for 203.0.113.10 and you have requested strict checking.",
        "Host key verification failed.",
    ], "clock"),
    (Reached::Greeted, &[
        "Certificate invalid: name is not a listed principal",
        "No ED25519 host key is known for 203.0.113.10 and you have requested strict checking.",
        "Host key verification failed.",
    ], "ssh-failed"),
    (Reached::Exchanged, &["root@203.0.113.10: Permission denied (publickey)."], "key-refused"),
    (Reached::Exchanged, &["root@203.0.113.10: Permission denied (publickey,keyboard-interactive)."], "key-refused"),
    (Reached::Exchanged, &[
        "packet.c:ssh_packet_read_poll_seqnr():1751 (pid=7): Received disconnect from 203.0.113.10 port 22:2: Too many authentication failures",
        "Disconnected from 203.0.113.10 port 22",
    ], "too-many-keys"),
    (Reached::Nothing, &[
        "Received disconnect from 203.0.113.10 port 22:2: Too many authentication failures",
        "Disconnected from 203.0.113.10 port 22",
    ], "too-many-keys"),
    (Reached::KeyAccepted, &[
        "Your account has expired; please contact your system administrator.",
        "Connection closed by 203.0.113.10 port 22",
    ], "account-refused"),
    (Reached::KeyAccepted, &["closed for work", "", "Connection closed by 203.0.113.10 port 22"], "account-refused"),
    // A connection that is cut just then, or without a word, says nothing of the account.
    (Reached::KeyAccepted, &["Connection closed by 203.0.113.10 port 22"], "ssh-failed"),
    (Reached::KeyAccepted, &["Connection reset by 203.0.113.10 port 22"], "ssh-failed"),
    (Reached::KeyAccepted, &["unix_listener: cannot bind to path /run/wayhome/ssh-x/1.pHWwqFMdcZVmOViz: No space left on device"], "disk-full"),
    (Reached::KeyAccepted, &["unix_listener: cannot bind to path /run/wayhome/ssh-x/1.pHWwqFMdcZVmOViz: Disk quota exceeded"], "disk-full"),
    (Reached::KeyAccepted, &["unix_listener: cannot bind to path /run/wayhome/ssh-x/1.lv8YysspA6vBbORk: No such file or directory"], "control-socket-failed"),
    (Reached::KeyAccepted, &["unix_listener: cannot bind to path /run/wayhome/ssh-x/1.O8i9IO4AB3trq95o: Read-only file system"], "control-socket-failed"),
    (Reached::KeyAccepted, &["unix_listener: path \"/run/user/1000/a/long/one\" too long for Unix domain socket"], "control-socket-failed"),
    // 7.5, at our options.
    (Reached::Nothing, &["command-line: line 0: Bad configuration option: remotecommand"], "ssh-too-old"),
    (Reached::Nothing, &["command-line line 0: unsupported option \"accept-new\"."], "ssh-too-old"),
    (Reached::Nothing, &["unknown option -- ~", "usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] [-B bind_interface]"], "ssh-too-old"),
    (Reached::Nothing, &[
        "/home/fan/.ssh/config: line 1: Bad configuration option: foo",
        "/home/fan/.ssh/config: terminating, 1 bad configuration options",
    ], "ssh-misconfigured"),
    (Reached::Nothing, &[
        "/home/fan/.ssh/config line 1: unsupported option \"maybe\".",
        "/home/fan/.ssh/config: terminating, 1 bad configuration options",
    ], "ssh-misconfigured"),
    (Reached::Nothing, &["Bad owner or permissions on /home/fan/.ssh/config"], "ssh-misconfigured"),
    (Reached::Nothing, &["something new"], "ssh-failed"),
    (Reached::Nothing, &[], "connection-lost"),
];

/// After the login.
const LOST: &[(&[&str], &str)] = &[
    (&["Timeout, server 203.0.113.10 not responding."], "heartbeat-lost"),
    (&["Connection to 203.0.113.10 closed by remote host."], "connection-lost"),
    (&["client_loop: send disconnect: Broken pipe"], "connection-lost"),
    // What it says of a service is no reason, and neither is a word of the login's.
    (
        &["connect_to localhost port 22: failed.", "Timeout, server 203.0.113.10 not responding."],
        "heartbeat-lost",
    ),
    (&["root@203.0.113.10: Permission denied (publickey)."], "connection-lost"),
    (&["something new"], "connection-lost"),
    (&[], "connection-lost"),
];

fn marks(reached: Reached) -> Vec<&'static str> {
    let all = [
        (Reached::Connected, CONNECTED),
        (Reached::Greeted, GREETED),
        (Reached::Exchanged, EXCHANGED),
        (Reached::Exchanged, SERVICE),
        (Reached::KeyAccepted, ACCEPTED),
    ];
    all.iter().filter(|(at, _)| *at <= reached).map(|(_, mark)| *mark).collect()
}

fn transcript((reached, said, _): &Scene) -> Vec<String> {
    marks(*reached).iter().chain(*said).map(|line| (*line).to_owned()).collect()
}

fn told(lines: &[String], logged_in: bool) -> Cause {
    let mut said = Said::default();
    for line in lines {
        said.hear(line);
    }
    said.ended(logged_in)
}

/// Whether a cause says only that it is not known.
fn is_unknown(cause: &Cause) -> bool {
    matches!(cause, Cause::SshFailed { .. } | Cause::ConnectionLost { .. })
}

#[test]
fn each_scene_has_its_cause() {
    for scene in SCENES {
        let lines = transcript(scene);
        assert_eq!(told(&lines, false).kind(), scene.2, "{lines:#?}");
        // As 10.0 writes who says it.
        let ten: Vec<String> =
            lines.iter().map(|line| line.replace("(pid=7)", "(bin=/usr/bin/ssh, pid=7)")).collect();
        assert_eq!(told(&ten, false).kind(), scene.2, "{ten:#?}");
    }
    for (lines, kind) in LOST {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(told(&lines, true).kind(), *kind, "{lines:#?}");
    }
}

#[test]
fn an_older_ssh_is_told_less_finely_and_not_otherwise() {
    for scene in SCENES {
        let old = |line: &String| match Line::parse(line) {
            line if line.is_debug => None,
            line if line.is_of_greeting() => {
                Some(format!("kex_exchange_identification: {}", line.text))
            }
            line => Some(line.text.to_owned()),
        };
        let lines: Vec<String> = transcript(scene).iter().filter_map(old).collect();
        let cause = told(&lines, false);
        let coarse = is_unknown(&cause) || cause.kind() == "reset-in-key-exchange";
        assert!(coarse || cause.kind() == scene.2, "{}: {cause} {lines:#?}", scene.2);
    }
}

#[test]
fn what_is_not_known_comes_in_sshs_own_words() {
    let lines = ["kex protocol error: type 7 seq 9".to_owned()];
    assert!(told(&lines, false).to_string().contains("kex protocol error: type 7 seq 9"));
    assert!(told(&lines, true).to_string().contains("kex protocol error: type 7 seq 9"));
}

/// The words that some row of the table has at each place, to be put where another belongs.
fn vocabulary() -> Vec<BTreeSet<&'static str>> {
    let mut places: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); 20];
    let mut note = |text: &'static str, before: usize| {
        let words = text.split(' ').enumerate().filter(|(_, word)| !word.contains('*'));
        for (at, word) in words {
            places[before + at].insert(word);
        }
    };
    for (pattern, _) in GREETING.iter().chain(LOGIN) {
        note(pattern, 0);
    }
    for (patterns, reasons) in REASONED {
        for pattern in *patterns {
            note(pattern, 0);
            reasons.iter().for_each(|(reason, _)| note(reason, pattern.split(' ').count()));
        }
    }
    places
}

/// The same lines with one word changed; without it, if there is no other.
fn changed(lines: &[String], at: usize, word: usize, by: Option<&str>) -> Vec<String> {
    let mut lines = lines.to_vec();
    let words = lines[at].split_whitespace().enumerate();
    let kept = words.filter_map(|(n, old)| if n == word { by } else { Some(old) });
    lines[at] = kept.collect::<Vec<_>>().join(" ");
    lines
}

#[test]
fn one_wrong_word_never_turns_a_cause_into_another() {
    let vocabulary = vocabulary();
    let mut tried = 0;
    for scene in SCENES {
        let lines = transcript(scene);
        for (at, line) in lines.iter().enumerate() {
            let words = |text: &str| text.split_whitespace().count();
            // The table's first word comes after who says it.
            let before = words(line) - words(Line::parse(line).text);
            for word in 0..words(line) {
                let place = word.checked_sub(before).and_then(|place| vocabulary.get(place));
                let others = place.into_iter().flatten().copied().map(Some);
                for by in others.chain([None, Some("unheard-of")]) {
                    let lines = changed(&lines, at, word, by);
                    let cause = told(&lines, false);
                    tried += 1;
                    assert!(
                        cause.kind() == scene.2 || is_unknown(&cause) || is_unknown_scene(scene),
                        "{} became {cause} by `{by:?}`: {lines:#?}",
                        scene.2
                    );
                }
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
}

/// Where nothing was known, a word may make something known: that is how it got its row.
fn is_unknown_scene(scene: &Scene) -> bool {
    matches!(scene.2, "ssh-failed" | "connection-lost")
}

proptest! {
    #[test]
    fn no_word_at_all_turns_a_cause_into_another(
        scene in prop::sample::select(SCENES),
        line: prop::sample::Index,
        word: prop::sample::Index,
        by in "\\PC{0,20}",
    ) {
        let lines = transcript(&scene);
        prop_assume!(!lines.is_empty() && !is_unknown_scene(&scene));
        // Whose an option is, a path tells: in the place of `command-line` it is no wrong word.
        prop_assume!(scene.2 != "ssh-too-old" || !by.contains('/'));
        let at = line.index(lines.len());
        let words = lines[at].split_whitespace().count();
        prop_assume!(words > 0);
        let cause = told(&changed(&lines, at, word.index(words), Some(&by)), false);
        prop_assert!(cause.kind() == scene.2 || is_unknown(&cause), "{} became {cause}", scene.2);
    }

    #[test]
    fn nothing_that_is_said_makes_it_fall_over(lines in prop::collection::vec("\\PC{0,80}", 0..50)) {
        let mut said = Said::default();
        for line in &lines {
            said.hear(line);
        }
        prop_assert!(is_unknown(&said.ended(true)));
        said.ended(false);
    }
}

#[test]
fn tells_each_stage_once() {
    let mut said = Said::default();
    let lines = [CONNECTED, GREETED, EXCHANGED, SERVICE, ACCEPTED, EXCHANGED];
    let stages: Vec<Stage> = lines.iter().filter_map(|line| said.hear(line)).collect();
    assert_eq!(stages, [Stage::Greeted, Stage::Exchanged, Stage::Exchanged]);
}

fn remark(said: &mut Said, text: &str) {
    said.hear(&format!(
        "debug1: packet.c:ssh_packet_read_poll_seqnr():1782 (pid=7): Remote: {text}"
    ));
}

#[test]
fn sshd_tells_who_forbids_a_forward() {
    let all = "agent-forwarding port-forwarding pty user-rc x11-forwarding";
    for (options, said_of_it, kind) in [
        (all, "Server has disabled port forwarding.", "forwarding-forbidden-by-server"),
        ("", "Server has disabled port forwarding.", "forwarding-forbidden-by-key"),
        (
            "agent-forwarding pty",
            "Server has disabled port forwarding.",
            "forwarding-forbidden-by-key",
        ),
        ("expires pty", "Server has disabled port forwarding.", "forwarding-forbidden-by-key"),
        // Some later version's other word for it is no reason to blame the key.
        (
            "agent-forwarding tcp-forwarding",
            "Server has disabled port forwarding.",
            "forwarding-forbidden",
        ),
        (
            "permitlisten port-forwarding",
            "port forwarding refused",
            "forwarding-forbidden-by-permitlisten",
        ),
    ] {
        let mut said = Said::default();
        remark(&mut said, &format!("/home/fan/.ssh/authorized_keys:1: key options: {options}"));
        assert_eq!(said.take_explanation(), None);
        remark(&mut said, said_of_it);
        assert_eq!(said.take_explanation().map(|cause| cause.kind()), Some(kind), "{options}");
        assert_eq!(said.take_explanation(), None, "it is told once");
    }
    let mut said = Said::default();
    remark(&mut said, "Server has disabled port forwarding.");
    assert_eq!(said.take_explanation(), Some(Cause::ForwardingForbidden));
}

#[test]
fn tells_why_there_is_no_hold() {
    let ended = |said: &str| NoHold::Ended(said.to_owned());
    for (why, forced, kind) in [
        (NoHold::Refused("Session open refused by peer".to_owned()), false, "max-sessions"),
        (NoHold::Refused("something new".to_owned()), false, "hold-refused"),
        (ended(""), false, "hold-refused"),
        (ended(""), true, "forced-command"),
        (ended("go away"), true, "forced-command"),
        (ended("This account is currently not available."), true, "no-shell"),
        (
            ended(
                "WARNING: Your password has expired.\nPassword change required but no TTY available.",
            ),
            false,
            "password-expired",
        ),
        (NoHold::Failed("a pipe".into()), true, "hold-refused"),
    ] {
        assert_eq!(no_hold(&why, forced).kind(), kind, "{why:?}");
    }
    let mut said = Said::default();
    assert!(!said.has_forced_command());
    remark(
        &mut said,
        "/home/fan/.ssh/authorized_keys:1: key options: commandexpires port-forwarding",
    );
    assert!(said.has_forced_command());
}

#[test]
fn tells_what_the_system_said() {
    for (kind, cause) in [
        (io::ErrorKind::ConnectionRefused, "connection-refused"),
        (io::ErrorKind::TimedOut, "timed-out"),
        (io::ErrorKind::NetworkUnreachable, "no-route"),
        (io::ErrorKind::HostUnreachable, "no-route"),
        (io::ErrorKind::PermissionDenied, "connect-failed"),
    ] {
        assert_eq!(connect_error(&kind.into()).kind(), cause);
    }
    for (reason, cause) in [
        ("Name or service not known", "name-unknown"),
        ("Temporary failure in name resolution", "resolver-down"),
        ("something new", "connect-failed"),
    ] {
        let said = format!("failed to lookup address information: {reason}");
        assert_eq!(resolve_error(&io::Error::other(said)).kind(), cause);
    }
}

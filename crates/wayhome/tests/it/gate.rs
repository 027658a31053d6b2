//! The hold and the gate find and end the one stale session that holds a port, and never anything
//! else. Each thing that must never be ended is offered to them.

use wayhome_lab::{OpenSsh, assert_eventually, needs_lab};

use crate::gateway::{AMY, BOB, Gateway, HOME_2222, HOME_2223, SOON, variants};

fn system() -> Gateway {
    Gateway::start(&OpenSsh::system().expect("the machine's OpenSSH"), false)
}

fn refused(reply: &str) -> bool {
    reply.starts_with("release 2222 refused ")
}

#[test]
fn a_stale_session_is_named_and_ended() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        for (key, uid, gate, how) in
            [("root", 0, 0, "fd"), (AMY, 3001, 0, "mark"), (HOME_2222, 3003, 1, "mark")]
        {
            let case = format!("{key}, PAM {pam}, {openssh:?}");
            let old = gateway.link(key);
            let mut hold = old.hold(&[2222]);
            assert_eq!(hold.field("uid"), uid.to_string(), "{case}");
            assert_eq!(hold.field("gate"), gate.to_string(), "{case}");
            assert_eq!(hold.field("ports"), "2222", "{case}");
            assert_eq!(hold.field("start"), gateway.start_of(&hold.field("pid")), "{case}");
            assert_eq!(hold.ask("ping 17"), "pong 17", "{case}");
            assert_eq!(hold.ask("look 2222"), "look 2222 free", "{case}");
            old.forward(2222);
            assert_eq!(hold.ask("look 2222"), "look 2222 self 127.0.0.1", "{case}");
            old.freeze();

            let new = gateway.link(key);
            let mut fresh = new.hold(&[2222]);
            let stale = hold.sshd();
            let reply = fresh.ask("look 2222");
            let beat: u64 = reply.split(' ').nth(6).unwrap().parse().expect("what it has read");
            let named = format!("look 2222 sshd {stale} {how} {beat} 127.0.0.1");
            assert_eq!(reply, named, "{case}");
            assert_eq!(fresh.ask("look 2222"), named, "{case}: a frozen one reads nothing more");
            let asked = format!("release 2222 {stale}");
            assert_eq!(fresh.ask(&asked), "release 2222 released", "{case}");
            assert_eq!(fresh.ask(&asked), "release 2222 free", "{case}");
            new.forward(2222);
            assert_eq!(fresh.ask("look 2222"), "look 2222 self 127.0.0.1", "{case}");
            drop((hold, old, fresh, new));
            assert_eventually!(!gateway.listens(2222), within = SOON, "{case}");
        }
    }
}

#[test]
fn a_stale_bare_forward_is_ended_if_no_other_session_could_be_it() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        for (key, how) in [("root", "fd"), (AMY, "only"), (HOME_2222, "only")] {
            let old = gateway.bare(key, 2222);
            old.freeze();
            let new = gateway.link(key);
            let mut fresh = new.hold(&[2222]);
            let reply = fresh.ask("look 2222");
            let words: Vec<&str> = reply.split(' ').collect();
            assert_eq!((words[2], words[5]), ("sshd", how), "{key}, PAM {pam}: {reply}");
            let asked = format!("release 2222 {} {}", words[3], words[4]);
            assert_eq!(fresh.ask(&asked), "release 2222 released", "{key}, PAM {pam}");
        }
    }
}

#[test]
fn another_user_s_session_is_never_ended() {
    needs_lab!();
    let gateway = system();
    let theirs = gateway.link(BOB);
    let mut hold = theirs.hold(&[2222]);
    theirs.forward(2222);
    for key in ["root", AMY, HOME_2222] {
        let link = gateway.link(key);
        let mut mine = link.hold(&[2222]);
        assert_eq!(mine.ask("look 2222"), "look 2222 foreign 3002 127.0.0.1");
        let asked = format!("release 2222 {}", hold.sshd());
        assert_eq!(mine.ask(&asked), "release 2222 refused foreign-uid-3002");
        assert_eq!(hold.ask("ping 1"), "pong 1", "{key}");
    }
}

#[test]
fn sessions_that_do_not_hold_the_port_are_never_ended() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        for key in ["root", AMY] {
            let stale = gateway.link(key);
            let stale_hold = stale.hold(&[2222]);
            stale.forward(2222);
            stale.freeze();
            let other = gateway.link(key);
            let mut other_hold = other.hold(&[2223]);
            other.forward(2223);
            let mut bystander = gateway.bare(key, 2224);
            let link = gateway.link(key);
            let mut hold = link.hold(&[2222]);

            let monitor = gateway.parent_of(&hold.field("pid"));
            let monitor = format!("{monitor} {}", gateway.start_of(&monitor));
            let stale_pid = stale_hold.field("pid");
            for wrong in [other_hold.sshd(), hold.sshd(), monitor, format!("{stale_pid} 1")] {
                let reply = hold.ask(&format!("release 2222 {wrong}"));
                assert!(refused(&reply), "{key}, {wrong}: {reply}");
            }
            assert_eq!(hold.ask("look 2223"), "look 2223 unknown not-my-port");
            let reply = hold.ask(&format!("release 2223 {}", other_hold.sshd()));
            assert_eq!(reply, "release 2223 refused not-my-port");

            let reply = hold.ask(&format!("release 2222 {}", stale_hold.sshd()));
            assert_eq!(reply, "release 2222 released", "{key}");
            assert_eq!(other_hold.ask("ping 1"), "pong 1", "{key}");
            assert!(bystander.lives() && gateway.listens(2223) && gateway.listens(2224), "{key}");
            assert_eq!(hold.ask("ping 2"), "pong 2", "{key}");
        }
    }
}

#[test]
fn two_sessions_that_could_be_it_are_left_alone() {
    needs_lab!();
    let gateway = system();
    let mut stale = gateway.bare(AMY, 2222);
    let mut bystander = gateway.bare(AMY, 2223);
    let link = gateway.link(AMY);
    let mut hold = link.hold(&[2222]);
    assert_eq!(hold.ask("look 2222"), "look 2222 unknown ambiguous 127.0.0.1");
    // Every sshd of the user is offered, root's monitors among them.
    let mut offered = 0;
    for entry in std::fs::read_dir(gateway.machine.file("/proc")).expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().into_string() else { continue };
        if !pid.bytes().all(|digit| digit.is_ascii_digit()) || pid == hold.field("pid") {
            continue;
        }
        let title = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if title.starts_with("sshd: amy") {
            let start = gateway.start_of(&pid);
            let reply = hold.ask(&format!("release 2222 {pid} {start}"));
            assert!(refused(&reply), "{title}: {reply}");
            offered += 1;
        }
    }
    assert!(offered >= 4, "two sessions and their monitors, and not {offered}");
    assert!(stale.lives() && bystander.lives());
    assert!(gateway.listens(2222) && gateway.listens(2223));
}

#[test]
fn of_two_stale_sessions_the_recorded_ones_may_be_ended() {
    needs_lab!();
    let gateway = system();
    for key in [AMY, HOME_2222] {
        let holder = gateway.link(key);
        let first = holder.hold(&[2222]);
        holder.forward(2222);
        holder.freeze();
        let useless = gateway.link(key);
        let second = useless.hold(&[2222]);
        useless.freeze();

        let link = gateway.link(key);
        let mut hold = link.hold(&[2222]);
        let both = [&first, &second].map(|hold| hold.sshd().replace(' ', ":"));
        let named =
            |a: usize, b: usize| format!("look 2222 oneof {},{} marks 127.0.0.1", both[a], both[b]);
        let reply = hold.ask("look 2222");
        assert!(reply == named(0, 1) || reply == named(1, 0), "{reply}: none is singled out");
        let reply = hold.ask(&format!("release 2222 {}", second.sshd()));
        assert_eq!(reply, "release 2222 held by-another");
        let reply = hold.ask(&format!("release 2222 {}", first.sshd()));
        assert_eq!(reply, "release 2222 released");
    }
}

#[test]
fn a_session_that_lives_is_seen_to_read() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        for key in ["root", AMY, HOME_2222] {
            let live = gateway.link(key);
            let mut their_hold = live.hold(&[2222]);
            live.forward(2222);
            let link = gateway.link(key);
            let mut hold = link.hold(&[2222]);
            let mut beat = || -> u64 {
                let reply = hold.ask("look 2222");
                reply.split(' ').nth(6).unwrap().parse().expect("a number")
            };
            let before = beat();
            assert_eq!(their_hold.ask("ping 1"), "pong 1");
            assert!(beat() > before, "{key}, PAM {pam}");
        }
    }
}

#[test]
fn a_recorded_session_is_ended_though_its_hold_is_gone() {
    needs_lab!();
    let gateway = system();
    let old = gateway.link(AMY);
    let hold = old.hold(&[2222]);
    let recorded = hold.sshd();
    old.forward(2222);
    hold.quit();
    let link = gateway.link(AMY);
    let mut hold = link.hold(&[2222]);
    // It ran a command, so somebody may be at work there: only who recorded it may have it ended.
    let named = recorded.replace(' ', ":");
    assert_eq!(hold.ask("look 2222"), format!("look 2222 oneof {named} command 127.0.0.1"));
    assert_eq!(hold.ask(&format!("release 2222 {recorded}")), "release 2222 released");
}

#[test]
fn a_program_that_is_not_sshd_is_never_ended() {
    needs_lab!();
    let gateway = system();
    for key in ["root", AMY] {
        let mut program = gateway.program(key, 2222);
        let link = gateway.link(key);
        let mut hold = link.hold(&[2222]);
        let reply = hold.ask("look 2222");
        let words: Vec<&str> = reply.split(' ').collect();
        assert_eq!((words[2], words[4], words[5]), ("program", "perl", "127.0.0.1"), "{reply}");
        let start = gateway.start_of(words[3]);
        let reply = hold.ask(&format!("release 2222 {} {start}", words[3]));
        assert_eq!(reply, "release 2222 refused not-an-ssh-session");
        // Nor is a session ended in its place.
        let other = gateway.link(key);
        let mut bystander = other.hold(&[2222]);
        let reply = hold.ask(&format!("release 2222 {}", bystander.sshd()));
        assert_eq!(reply, "release 2222 refused not-the-holder");
        assert_eq!(bystander.ask("ping 1"), "pong 1");
        assert!(program.lives());
    }
}

#[test]
fn the_ssh_daemon_is_never_ended() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        let port = gateway.port();
        let link = gateway.link("root");
        let mut hold = link.hold(&[port]);
        let reply = hold.ask(&format!("look {port}"));
        let words: Vec<&str> = reply.split(' ').collect();
        assert_eq!((words[2], words[4]), ("program", "sshd"), "{reply}");
        let start = gateway.start_of(words[3]);
        let reply = hold.ask(&format!("release {port} {} {start}", words[3]));
        assert_eq!(reply, format!("release {port} refused not-an-ssh-session"));
        assert!(gateway.listens(port));
        let again = gateway.link("root");
        assert_eq!(again.hold(&[port]).ask("ping 1"), "pong 1", "it lets people in as before");
    }
}

#[test]
fn one_home_s_key_cannot_end_the_other_s_session() {
    needs_lab!();
    for (openssh, pam) in variants() {
        let gateway = Gateway::start(&openssh, pam);
        let theirs = gateway.link(HOME_2223);
        let mut their_hold = theirs.hold(&[2223]);
        theirs.forward(2223);
        let link = gateway.link(HOME_2222);
        // The ports that the agent asks for do not matter: the gate's own are in the grant.
        let mut hold = link.hold(&[2223]);
        assert_eq!(hold.field("ports"), "2222");
        let asked = format!("release 2223 {}", their_hold.sshd());
        assert_eq!(hold.ask(&asked), "release 2223 refused not-my-port");
        link.forward(2222);
        let asked = format!("release 2222 {}", their_hold.sshd());
        assert!(refused(&hold.ask(&asked)));
        assert_eq!(their_hold.ask("ping 1"), "pong 1");
    }
}

#[test]
fn where_processes_are_hidden_nothing_is_ended() {
    needs_lab!();
    let gateway = system();
    let old = gateway.link(AMY);
    let old_hold = old.hold(&[2222]);
    old.forward(2222);
    gateway.machine.sh("mount -o remount,hidepid=2 /proc").expect("hidepid");
    let link = gateway.link(AMY);
    let mut hold = link.hold(&[2222]);
    assert_eq!((hold.field("pid"), hold.field("start")), ("-".to_owned(), "-".to_owned()));
    assert_eq!(hold.ask("ping 3"), "pong 3");
    assert_eq!(hold.ask("look 2222"), "look 2222 unknown hidepid 127.0.0.1");
    let asked = format!("release 2222 {}", old_hold.sshd());
    assert_eq!(hold.ask(&asked), "release 2222 refused hidepid");
    assert!(gateway.listens(2222));
}

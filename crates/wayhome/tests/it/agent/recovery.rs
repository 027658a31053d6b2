//! The road comes back by itself: after cuts, new addresses, killed and frozen processes.

use std::fs;

use wayhome_core::status::LinkState;
use wayhome_lab::{OpenSsh, assert_eventually, needs_lab};

use crate::gateway::variants;
use crate::seats::{Login, PORT, SOON, Seats};

#[test]
fn a_silent_cut_with_an_old_session_that_holds_the_port() {
    needs_lab!();
    for (openssh, pam) in variants() {
        for login in Login::HOLDING {
            let seats = Seats::with(login, 1, &openssh, |builder| builder.pam(pam));
            let agent = seats.agent();
            agent.until_up();
            let old = seats.holder(PORT);
            let _touching = seats.touch_the_port();
            seats.lab.cut().unwrap();
            let suspect = || agent.link().state != LinkState::Up;
            assert_eventually!(suspect(), within = SOON, "suspect: {}", agent.log());
            assert_eq!(seats.holder(PORT), old, "the cut is silent: the gateway knows nothing");
            seats.lab.heal().unwrap();
            agent.until_back(0);
            assert_ne!(seats.holder(PORT), old, "{login:?}, PAM {pam}");
            let log = agent.log();
            assert!(log.contains("ended our old session"), "{login:?}, PAM {pam}: {log}");
        }
    }
}

#[test]
fn a_new_address() {
    needs_lab!();
    let seats = Seats::start(Login::Root);
    let agent = seats.agent();
    agent.until_up();
    seats.household(0).new_address("192.168.1.77").unwrap();
    agent.until_back(0);
    assert!(agent.log().contains("ended our old session"), "{}", agent.log());
}

#[test]
fn an_agent_that_was_killed_in_a_cut_leaves_a_session_that_the_next_one_ends() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::start(login);
        let mut agent = seats.agent();
        agent.until_up();
        seats.lab.cut().unwrap();
        agent.kill_9();
        drop(agent);
        seats.lab.heal().unwrap();
        assert!(!seats.holder(PORT).is_empty(), "the old session still holds the port");
        let agent = seats.agent();
        agent.until_up();
        // It was recorded on disk, so that nobody had to be asked.
        let log = agent.log();
        assert!(log.contains("ended our old session"), "{login:?}: {log}");
        assert!(!log.contains("is not up"), "{login:?}: {log}");
    }
}

#[test]
fn a_silent_session_that_nobody_recorded_is_ended_too() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::start(login);
        let mut agent = seats.agent();
        agent.until_up();
        seats.lab.cut().unwrap();
        agent.kill_9();
        drop(agent);
        let home = seats.lab.home();
        home.sh("rm /var/lib/wayhome/sessions-*").unwrap();
        seats.lab.heal().unwrap();
        let agent = seats.agent();
        agent.until_up();
        assert!(agent.log().contains("ended our old session"), "{login:?}: {}", agent.log());
    }
}

#[test]
fn its_ssh_is_killed() {
    needs_lab!();
    let seats = Seats::start(Login::Plain);
    let agent = seats.agent();
    agent.until_up();
    let (_, children) = agent.pids();
    assert_eq!(children.len(), 1, "{children:?}");
    agent.machine.sh(&format!("kill -9 {}", children[0])).unwrap();
    agent.until_back(0);
}

#[test]
fn the_gateways_sshd_goes_and_comes_back() {
    needs_lab!();
    let openssh = OpenSsh::system().unwrap();
    let mut seats = Seats::start(Login::Root);
    let host_key = fs::read_to_string(seats.lab.gateway().file("/tmp")).unwrap_or_default();
    assert_eq!(host_key, "", "a folder is no key");
    let private = seats.gateway.host_private_key();
    let authorized = fs::read_to_string(seats.lab.home().file("/tmp/key.pub")).unwrap();
    let again = || {
        wayhome_lab::Sshd::builder(&openssh)
            .port(22)
            .listen("0.0.0.0")
            .host_key(&private)
            .authorize("root", &authorized)
    };
    let reconnects = {
        let agent = seats.agent();
        agent.until_up();
        drop(agent);
        0
    };
    seats.gateway = {
        let old = std::mem::replace(&mut seats.gateway, again().port(23).start(seats.lab.gateway()).unwrap());
        old.stop();
        again().start(seats.lab.gateway()).unwrap()
    };
    let agent = seats.agent();
    agent.until_back_at_least(reconnects);
}

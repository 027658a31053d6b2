//! The road comes back by itself: after cuts, new addresses, killed and frozen processes.

use wayhome_core::status::LinkState;
use wayhome_lab::{assert_eventually, needs_lab};

use crate::gateway::variants;
use crate::seats::{Agent, Login, PORT, SOON, Seats};

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
            // With luck of phase the old session ends by itself a moment before it would be ended.
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
        let agent = seats.agent();
        agent.until_up();
        orphan(&seats, agent);
        assert!(!seats.holder(PORT).is_empty(), "the old session still holds the port");
        let agent = seats.agent();
        agent.until_up();
        // It was recorded on disk, so that nobody had to be asked.
        let log = agent.log();
        assert!(log.contains("ended our old session"), "{login:?}: {log}");
        assert!(!log.contains("is not up"), "{login:?}: {log}");
    }
}

/// Kills an agent so that its session at the gateway never hears of it: in a cut, and with its
/// address gone, from which the kernel would otherwise still say goodbye.
fn orphan(seats: &Seats, mut agent: Agent<'_>) {
    seats.lab.cut().unwrap();
    agent.kill_9();
    seats.household(0).new_address("192.168.1.77").unwrap();
    seats.lab.heal().unwrap();
}

#[test]
fn a_silent_session_that_nobody_recorded_is_ended_too() {
    needs_lab!();
    for login in Login::HOLDING {
        let seats = Seats::start(login);
        let agent = seats.agent();
        agent.until_up();
        orphan(&seats, agent);
        seats.lab.home().sh("rm /var/lib/wayhome/sessions-*").unwrap();
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
    let seats = Seats::start(Login::Root);
    let agent = seats.agent();
    agent.until_up();
    seats.stop_gateway();
    let refused = || {
        let cause = agent.link().cause;
        cause.is_some_and(|finding| finding.cause.kind() == "connection-refused")
    };
    assert_eventually!(refused(), within = SOON, "refused: {}", agent.log());
    seats.start_gateway();
    agent.until_back(0);
}

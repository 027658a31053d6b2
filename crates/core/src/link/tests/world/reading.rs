//! What a test reads of the world.

use super::*;

impl World {
    pub fn status(&self) -> LinkStatus {
        self.link.status(self.now)
    }

    pub fn state(&self) -> LinkState {
        self.status().state
    }

    pub fn service(&self, index: usize) -> ServiceState {
        self.status().services[index].state
    }

    pub fn cause(&self) -> Option<Cause> {
        self.status().cause.map(|finding| finding.cause)
    }

    pub fn trouble(&self, index: usize) -> Option<Cause> {
        self.status().services[index].cause.clone().map(|finding| finding.cause)
    }

    pub fn is_all_up(&self) -> bool {
        let status = self.status();
        status.state == LinkState::Up
            && status.services.iter().all(|service| service.state == ServiceState::Up)
    }

    pub fn assert_all_up(&self) {
        assert!(self.is_all_up(), "{:#?}", self.status());
    }

    pub fn is_stopped(&self) -> bool {
        self.check.is_stopped()
    }

    pub fn serving(&self) -> ConnId {
        self.check.serving().expect("a connection serves")
    }

    pub fn serves(&self, id: ConnId) -> bool {
        self.check.serving() == Some(id)
    }

    /// The connections that were dialled, and have neither been closed nor ended.
    pub fn open(&self) -> Vec<ConnId> {
        self.check.open().collect()
    }

    /// Whether a service's port is held by one of our open connections.
    pub fn is_own(&self, service: usize) -> bool {
        let Port::Session(holder, _) = &self.ports[service] else { return false };
        self.wires.values().any(|wire| wire.session == *holder)
    }

    pub fn own_session(&self) -> Session {
        self.wires[&self.serving()].session.clone()
    }

    /// When actions like this were done.
    pub fn times(&self, like: impl Fn(&Action) -> bool) -> Vec<Time> {
        self.log.iter().filter(|(_, action)| like(action)).map(|(at, _)| *at).collect()
    }

    pub fn count(&self, like: impl Fn(&Action) -> bool) -> usize {
        self.times(like).len()
    }

    pub fn notes(&self) -> Vec<Note> {
        let note = |action: &Action| match action {
            Action::Report(note) => Some(note.clone()),
            _ => None,
        };
        self.log.iter().filter_map(|(_, action)| note(action)).collect()
    }

    /// Forgets what was done so far.
    pub fn clear(&mut self) {
        self.log.clear();
    }
}
